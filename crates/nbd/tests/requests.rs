// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The transmission phase: good requests, bad requests, many at once.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::thread;

use common::raw::{
    BLOCK_STATUS, CACHE, EINVAL, EIO, ENOSPC, ENOTSUP, EPERM, FAST_ZERO, FLUSH, FUA, NO_HOLE, READ,
    TRIM, WRITE, WRITE_ZEROES,
};
use common::{BLOCK, Fixture, Memory, Random, SIZE, Seen, config, info};
use dmremap_nbd::{Buffer, Command, MAX_REQUEST_BYTES, Operation, Reply};

const BLOCK64: u64 = BLOCK as u64;

#[test]
fn every_command_reaches_the_export_as_it_was_sent() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let data = Random::new(1).bytes(8192);
    client.write(4096, &data, false).unwrap();
    client.write(SIZE - 8192, &data, true).unwrap();
    assert_eq!(client.read(4096, 8192).unwrap(), data);
    assert_eq!(client.read(SIZE - 8192, 8192).unwrap(), data);
    client.trim(4096, 4096, true).unwrap();
    client.write_zeroes(8192, 4096, false).unwrap();
    let zeroes = |no_hole| Operation::WriteZeroes { offset: 0, len: 1 << 26, fua: true, no_hole };
    client.call(zeroes(true)).unwrap();
    client.flush().unwrap();
    client.disconnect().unwrap();
    let seen = |command, offset, len, fua| Seen { connection: 1, command, offset, len, fua };
    let expected = [
        seen(Command::Write, 4096, 8192, false),
        seen(Command::Write, SIZE - 8192, 8192, true),
        seen(Command::Read, 4096, 8192, false),
        seen(Command::Read, SIZE - 8192, 8192, false),
        seen(Command::Trim, 4096, 4096, true),
        seen(Command::WriteZeroes { no_hole: false }, 8192, 4096, false),
        seen(Command::WriteZeroes { no_hole: true }, 0, 1 << 26, true),
        seen(Command::Flush, 0, 0, false),
    ];
    assert_eq!(fixture.memory.seen(), expected);
}

#[test]
fn the_longest_request_passes_both_ways() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let mut data = vec![0; MAX_REQUEST_BYTES as usize];
    for (block, chunk) in data.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&(block as u64).to_be_bytes());
    }
    client.write(BLOCK64, &data, false).unwrap();
    assert!(client.read(BLOCK64, MAX_REQUEST_BYTES).unwrap() == data);
}

#[test]
fn bad_requests_are_answered_one_by_one_and_never_submitted() {
    let fixture = Fixture::new();
    let mut raw = fixture.chosen();
    let whole = BLOCK;
    let last = SIZE - BLOCK64;
    let cases = [
        // No length, no alignment.
        (0, READ, 0, 0, EINVAL),
        (0, WRITE, 0, 0, EINVAL),
        (0, TRIM, 0, 0, EINVAL),
        (0, WRITE_ZEROES, 0, 0, EINVAL),
        (0, READ, 512, whole, EINVAL),
        (0, READ, 0, 1, EINVAL),
        (0, WRITE, 1, whole, EINVAL),
        (0, WRITE, 0, whole - 1, EINVAL),
        // Beyond the end, also by overflow.
        (0, READ, SIZE, whole, EINVAL),
        (0, READ, last, 2 * whole, EINVAL),
        (0, WRITE, last, 2 * whole, ENOSPC),
        (0, WRITE, SIZE, whole, ENOSPC),
        (FUA, WRITE, u64::MAX - BLOCK64 + 1, whole, ENOSPC),
        (0, TRIM, SIZE, whole, EINVAL),
        (0, WRITE_ZEROES, last, 2 * whole, ENOSPC),
        // Too long.
        (0, READ, 0, MAX_REQUEST_BYTES + whole, EINVAL),
        (0, READ, 0, u32::MAX - whole + 1, EINVAL),
        (0, WRITE, 0, MAX_REQUEST_BYTES + whole, EINVAL),
        // A flush of a range.
        (0, FLUSH, 0, whole, EINVAL),
        (0, FLUSH, BLOCK64, 0, EINVAL),
        // Unknown commands and flags.
        (0, CACHE, 512, whole, EINVAL),
        (NO_HOLE, CACHE, 0, whole, EINVAL),
        (0, BLOCK_STATUS, 0, whole, EINVAL),
        (0, 8, 0, whole, EINVAL),
        (0, u16::MAX, 0, whole, EINVAL),
        (NO_HOLE, READ, 0, whole, EINVAL),
        (4, READ, 0, whole, EINVAL),
        (NO_HOLE, WRITE, 0, whole, EINVAL),
        (0x8000, WRITE, 0, whole, EINVAL),
        (32, FLUSH, 0, 0, EINVAL),
        (8, TRIM, 0, whole, EINVAL),
        (FAST_ZERO, WRITE_ZEROES, 0, whole, ENOTSUP),
        (FAST_ZERO | NO_HOLE | FUA, WRITE_ZEROES, 0, whole, ENOTSUP),
    ];
    for (cookie, (flags, command, offset, len, error)) in (1..).zip(cases) {
        raw.request(flags, command, cookie, offset, len);
        if command == WRITE {
            raw.send(&vec![0x77; len as usize]);
        }
        assert_eq!(raw.reply(), (cookie, error), "{flags} {command} {offset} {len}");
    }
    raw.assert_alive();
    let seen = fixture.memory.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(fixture.memory.content(0, 1 << 20).iter().all(|b| *b == 0));
}

#[test]
fn a_read_only_export_is_not_changed() {
    let mut read_only = info();
    read_only.read_only = true;
    let fixture = Fixture::with(Memory::with(read_only), config());
    let mut raw = fixture.chosen();
    for command in [WRITE, TRIM, WRITE_ZEROES] {
        raw.request(0, command, 7, 0, BLOCK);
        if command == WRITE {
            raw.send(&[0x77; BLOCK as usize]);
        }
        assert_eq!(raw.reply(), (7, EPERM));
    }
    raw.assert_alive();
    assert_eq!(fixture.memory.seen().len(), 1);
    let client = fixture.client();
    assert!(client.export().read_only() && !client.export().can_trim());
    assert_eq!(client.read(0, BLOCK).unwrap(), [0; BLOCK as usize]);
}

#[test]
fn the_exports_errors_reach_the_client() {
    let fixture = Fixture::new();
    for (block, errno) in (0..).zip([5, 61, 28, 1, 22, 108, 12, 19, 95]) {
        fixture.memory.fail_at(block * BLOCK64, errno);
    }
    let client = fixture.client();
    for (block, wire) in (0..).zip([5, 5, 28, 1, 22, 108, 12, 5, 22]) {
        let offset = block * BLOCK64;
        let answers = [
            client.read(offset, BLOCK).map(drop),
            client.write(offset, &[1; BLOCK as usize], false),
            client.write_zeroes(offset, BLOCK, false),
        ];
        for answer in answers {
            assert_eq!(answer.unwrap_err().errno().unwrap().0, wire, "{block}");
        }
    }
    assert_eq!(client.read(1 << 20, BLOCK).unwrap(), [0; BLOCK as usize]);
}

#[test]
fn replies_go_out_in_the_order_of_the_answers() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let client = fixture.client();
    let count = 64;
    let cookies: Vec<_> = (0..count)
        .map(|i| {
            let offset = i as u64 * BLOCK64;
            if i % 2 == 0 {
                client.submit(Operation::Read { offset, len: BLOCK }).unwrap()
            } else {
                let data = &[i as u8; BLOCK as usize];
                client.submit(Operation::Write { offset, data, fua: i % 4 == 1 }).unwrap()
            }
        })
        .collect();
    fixture.memory.wait_held(count);
    assert_eq!(client.under_way(), count);
    let mut random = Random::new(20);
    let mut waiting: Vec<usize> = (0..count).collect();
    while !waiting.is_empty() {
        let place = random.below(waiting.len() as u64) as usize;
        let number = waiting.remove(place);
        fixture.memory.release(place);
        let completed = client.next_completed().unwrap();
        assert_eq!(completed.cookie, cookies[number]);
        let len = if number % 2 == 0 { BLOCK as usize } else { 0 };
        assert_eq!(completed.result.unwrap().len(), len);
    }
    assert!(client.next_completed().is_none());
}

#[test]
fn a_lost_or_wrong_answer_is_an_error_for_its_request_alone() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    for cookie in 0..4 {
        raw.request(0, READ, cookie, cookie * BLOCK64, BLOCK);
    }
    fixture.memory.wait_held(4);
    fixture.memory.lose(1);
    assert_eq!(raw.reply(), (1, EIO));
    fixture.memory.answer(0, Reply::good(Buffer::zeroed(512)));
    assert_eq!(raw.reply(), (0, EIO));
    fixture.memory.answer(0, Reply::good(Buffer::default()));
    assert_eq!(raw.reply(), (2, EIO));
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (3, 0));
    assert_eq!(raw.take_vec(BLOCK as usize), vec![0; BLOCK as usize]);
}

#[test]
fn beyond_the_credits_the_server_waits_and_loses_nothing() {
    let mut config = config();
    config.max_requests = 16;
    let fixture = Fixture::with(Memory::new(), config);
    fixture.memory.hold();
    let client = fixture.client();
    for i in 0..200_u64 {
        client.submit(Operation::Read { offset: i * BLOCK64, len: BLOCK }).unwrap();
    }
    for answered in 0..200 {
        fixture.memory.wait_held((200 - answered).min(16));
        assert!(fixture.memory.held() <= 16);
        fixture.memory.release(0);
        client.next_completed().unwrap().result.unwrap();
    }
    assert!(client.next_completed().is_none());
}

#[test]
fn bytes_are_limited_too() {
    let mut config = config();
    config.max_bytes = u64::from(MAX_REQUEST_BYTES);
    let fixture = Fixture::with(Memory::new(), config);
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    raw.request(0, READ, 1, 0, MAX_REQUEST_BYTES - BLOCK);
    raw.request(0, READ, 2, 0, BLOCK);
    fixture.memory.wait_held(2);
    // The third has no room until the first has been fetched; the trim behind it waits with it.
    raw.request(0, READ, 3, 0, BLOCK);
    raw.request(0, TRIM, 4, 0, BLOCK);
    fixture.memory.release(0);
    assert_eq!(fixture.memory.held(), 1);
    assert_eq!(raw.reply(), (1, 0));
    raw.take_vec((MAX_REQUEST_BYTES - BLOCK) as usize);
    fixture.memory.wait_held(3);
    for cookie in [2, 3] {
        fixture.memory.release(0);
        assert_eq!(raw.reply(), (cookie, 0));
        raw.take_vec(BLOCK as usize);
    }
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (4, 0));
}

#[test]
fn requests_in_one_packet_and_in_single_bytes_are_the_same() {
    let fixture = Fixture::new();
    let mut bytes = Vec::new();
    for i in 0..20_u64 {
        let write = common::raw::request_bytes(0, WRITE, i, i * BLOCK64, BLOCK);
        bytes.extend(write);
        bytes.extend([i as u8 + 1; BLOCK as usize]);
    }
    let mut at_once = fixture.chosen();
    at_once.send(&bytes);
    for i in 0..20 {
        assert_eq!(at_once.reply(), (i, 0));
    }
    let mut slowly = fixture.chosen();
    for byte in &bytes[..28 + BLOCK as usize + 28] {
        slowly.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(slowly.reply(), (0, 0));
    for i in 0..20 {
        let content = fixture.memory.content(i * BLOCK as usize, BLOCK as usize);
        assert_eq!(content, [i as u8 + 1; BLOCK as usize]);
    }
}

#[test]
fn two_connections_see_each_others_writes_and_have_handles_of_their_own() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.client(), fixture.client());
    one.write(0, &[1; BLOCK as usize], false).unwrap();
    assert_eq!(two.read(0, BLOCK).unwrap(), [1; BLOCK as usize]);
    two.flush().unwrap();
    let connections: Vec<_> = fixture.memory.seen().iter().map(|s| s.connection).collect();
    assert_eq!(connections, [1, 2, 2]);
    one.disconnect().unwrap();
    fixture.memory.wait_closed(1);
    two.flush().unwrap();
    assert_eq!(fixture.memory.handles(), (2, 1));
}

#[test]
fn a_client_shared_by_threads_keeps_its_answers_apart() {
    let fixture = Fixture::new();
    let client = fixture.client();
    thread::scope(|scope| {
        for t in 0..8_u64 {
            let client = &client;
            scope.spawn(move || {
                let mut random = Random::new(t);
                let mut model: HashMap<u64, u8> = HashMap::new();
                for _ in 0..200 {
                    let block = t * 64 + random.below(64);
                    let value = random.next() as u8;
                    if random.below(2) == 0 {
                        let data = [value; BLOCK as usize];
                        client.write(block * BLOCK64, &data, false).unwrap();
                        model.insert(block, value);
                    } else {
                        let read = client.read(block * BLOCK64, BLOCK).unwrap();
                        let value = model.get(&block).copied().unwrap_or(0);
                        assert_eq!(read, [value; BLOCK as usize]);
                    }
                }
            });
        }
    });
}
