// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Structured replies and block status: what is good of a read arrives, what is not is named, and
//! nothing else is sent.

mod common;

use common::raw::{BLOCK_STATUS, Chunk, DF, EINVAL, EIO, FLUSH, READ, REQ_ONE, Says, TRIM, WRITE};
use common::{BLOCK, Fixture, Memory, Random, SIZE, config};
use dmremap_nbd::{BadRange, Buffer, Errno, Extent, MAX_REQUEST_BYTES, Operation, Reply};

const BLOCK64: u64 = BLOCK as u64;
/// The server cuts reads at multiples of this.
const PART: u64 = 256 << 10;

fn structured(fixture: &Fixture) -> common::raw::Raw {
    let mut raw = fixture.raw();
    raw.choose_structured();
    raw
}

fn bad(offset: u64, blocks: u64) -> BadRange {
    let len = (blocks * BLOCK64) as u32;
    BadRange { offset, len, error: Errno(61), message: "unreadable" }
}

/// What a read says in the end: `(offset, data)` ascending, and the offsets of errors.
fn told(chunks: &[Chunk]) -> (Vec<(u64, Vec<u8>)>, Vec<u64>) {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for chunk in chunks {
        match &chunk.says {
            Says::Data { offset, data } => good.push((*offset, data.clone())),
            Says::Error { errno: EIO, message, offset: Some(offset) } => {
                assert_eq!(message, "unreadable");
                errors.push(*offset);
            }
            Says::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
    good.sort();
    errors.sort_unstable();
    (good, errors)
}

#[test]
fn the_good_parts_of_a_read_arrive_and_each_bad_one_is_named() {
    let fixture = Fixture::new();
    let content = Random::new(7).bytes(4 * PART as usize);
    let client = fixture.client();
    client.write(0, &content, false).unwrap();
    for range in [bad(BLOCK64, 1), bad(5 * BLOCK64, 2), bad(PART + 3 * BLOCK64, 1)] {
        fixture.memory.bad(range);
    }
    // A read in three parts, begun and ended inside a part.
    let (from, len) = (BLOCK64, 2 * PART);
    let pieces = client.read_pieces(from, len as u32, false).unwrap();
    let good =
        [2 * BLOCK64..5 * BLOCK64, 7 * BLOCK64..PART + 3 * BLOCK64, PART + 4 * BLOCK64..from + len];
    assert_eq!(pieces.good, good);
    for range in good {
        let seen = &pieces.data[(range.start - from) as usize..(range.end - from) as usize];
        assert!(seen == &content[range.start as usize..range.end as usize]);
    }
    let mut errors: Vec<_> = pieces.errors.iter().map(|e| e.offset.unwrap()).collect();
    errors.sort_unstable();
    assert_eq!(errors, [BLOCK64, 5 * BLOCK64, PART + 3 * BLOCK64]);
    assert!(pieces.errors.iter().all(|e| e.errno == Errno::EIO && e.message == "unreadable"));
    // Who wants all of it gets an error, and who has no structured replies too.
    assert_eq!(client.read(from, len as u32).unwrap_err().errno(), Some(Errno::EIO));
    let mut simple = fixture.chosen();
    simple.request(0, READ, 1, 0, 4 * BLOCK);
    assert_eq!(simple.reply(), (1, EIO));
    simple.assert_alive();
    // In one piece: nothing behind the first bad block.
    let pieces = client.read_pieces(2 * BLOCK64, 6 * BLOCK, true).unwrap();
    assert_eq!(pieces.good, std::slice::from_ref(&(2 * BLOCK64..5 * BLOCK64)));
    assert_eq!(pieces.errors.len(), 1);
}

#[test]
fn nothing_of_what_memory_held_before_is_sent_for_a_bad_block() {
    let secret = 0xee;
    let fixture = Fixture::new();
    let mut raw = structured(&fixture);
    // The pool's memory is full of it, and so is what the export leaves in a bad block.
    for cookie in 0..8 {
        raw.request(0, WRITE, cookie, 32 << 20, PART as u32);
        raw.send(&vec![secret; PART as usize]);
        assert_eq!(raw.reply(), (cookie, 0));
    }
    fixture.memory.scribble(secret);
    let blocks = PART / BLOCK64;
    for block in (0..blocks).step_by(3) {
        fixture.memory.bad(bad(block * BLOCK64, 1));
    }
    raw.request(0, READ, 9, 0, PART as u32);
    let chunks = raw.chunks();
    assert!(chunks.iter().all(|chunk| chunk.cookie == 9));
    let (good, errors) = told(&chunks);
    assert_eq!(errors, Vec::from_iter((0..blocks).step_by(3).map(|block| block * BLOCK64)));
    let sent: usize = good.iter().map(|(_, data)| data.len()).sum();
    assert_eq!(sent as u64 + errors.len() as u64 * BLOCK64, PART);
    assert!(good.iter().all(|(_, data)| data.iter().all(|byte| *byte == 0)));
}

#[test]
fn parts_that_end_in_any_order_make_one_reply_with_one_end() {
    let fixture = Fixture::new();
    let content = Random::new(8).bytes(8 * PART as usize);
    fixture.client().write(0, &content, false).unwrap();
    fixture.memory.hold();
    let mut raw = structured(&fixture);
    let mut random = Random::new(9);
    for round in 0..20 {
        raw.request(0, READ, round, 512 * 8, (7 * PART) as u32);
        raw.request(0, TRIM, 100 + round, 32 << 20, BLOCK);
        fixture.memory.wait_held(9);
        let mut lost = Vec::new();
        for left in (1..=9_u64).rev() {
            let place = random.below(left) as usize;
            match fixture.memory.held_at(place) {
                // A lost part is an error of that part.
                offset if offset < 32 << 20 && random.below(8) == 0 => {
                    fixture.memory.lose(place);
                    lost.push(offset);
                }
                _ => fixture.memory.release(place),
            }
        }
        let mut ends = 0;
        let (mut good, mut errors) = (Vec::new(), Vec::new());
        while ends < 2 {
            let mut magic = raw.take_vec(4);
            let simple = magic == 0x6744_6698_u32.to_be_bytes();
            magic.extend(raw.take_vec(if simple { 12 } else { 16 }));
            if simple {
                assert_eq!(magic[4..], [&[0; 4][..], &(100 + round).to_be_bytes()].concat());
                ends += 1;
                continue;
            }
            let len = u32::from_be_bytes(magic[16..20].try_into().unwrap());
            magic.extend(raw.take_vec(len as usize));
            let chunk = Chunk::parse(&magic).unwrap().0;
            assert_eq!(chunk.cookie, round);
            ends += i32::from(chunk.done);
            match chunk.says {
                Says::Data { offset, data } => good.push((offset, data)),
                Says::Error { errno: EIO, offset: Some(offset), .. } => errors.push(offset),
                Says::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
        errors.sort_unstable();
        lost.sort_unstable();
        assert_eq!(errors, lost);
        assert_eq!(good.len() + errors.len(), 8);
        for (offset, data) in good {
            assert!(data == content[offset as usize..offset as usize + data.len()]);
        }
    }
    assert_eq!(fixture.memory.held(), 0);
}

#[test]
fn a_read_that_must_not_be_cut_comes_in_one_chunk() {
    let fixture = Fixture::new();
    let mut raw = structured(&fixture);
    raw.request(DF, READ, 1, BLOCK64, MAX_REQUEST_BYTES);
    let chunk = raw.chunk();
    assert!(chunk.done);
    let Says::Data { offset: BLOCK64, data } = chunk.says else { panic!("{:?}", chunk.says) };
    assert_eq!(data.len(), MAX_REQUEST_BYTES as usize);
    let seen = fixture.memory.seen();
    assert_eq!((seen.len(), seen[0].len), (1, MAX_REQUEST_BYTES));
    // Without the flag it is submitted in parts that end where parts end.
    raw.request(0, READ, 2, BLOCK64, 3 * PART as u32);
    let (good, errors) = told(&raw.chunks());
    assert!(errors.is_empty());
    let places: Vec<_> = good.iter().map(|(offset, data)| (*offset, data.len() as u64)).collect();
    let expected = [(BLOCK64, PART - BLOCK64), (PART, PART), (2 * PART, PART), (3 * PART, BLOCK64)];
    assert_eq!(places, expected);
}

#[test]
fn refusals_and_failures_come_with_words() {
    let fixture = Fixture::new();
    fixture.memory.fail_at(8 * BLOCK64, 5);
    let mut raw = structured(&fixture);
    let cases = [
        (READ, 0, 512, BLOCK, EINVAL, "not made of whole blocks"),
        (READ, 2, 0, BLOCK, EINVAL, "a flag that the command does not have"),
        (READ, 0, SIZE, BLOCK, EINVAL, "beyond the end of the export"),
        (TRIM, 0, 0, 0, EINVAL, "no length"),
        (FLUSH, 0, 1, 0, EINVAL, "a flush has no offset and no length"),
        (99, 0, 0, BLOCK, EINVAL, "unknown command"),
        (TRIM, 0, 8 * BLOCK64, BLOCK, EIO, "input/output error"),
        (BLOCK_STATUS, DF, 0, BLOCK, EINVAL, "a flag that the command does not have"),
    ];
    for (cookie, (command, flags, offset, len, error, words)) in (0..).zip(cases) {
        raw.request(flags, command, cookie, offset, len);
        let chunks = raw.chunks();
        let Says::Error { errno, message, offset: None } = &chunks[0].says else {
            panic!("{chunks:?}")
        };
        assert_eq!((*errno, &message[..]), (error, words));
        assert_eq!(chunks.len(), 2);
    }
    // What succeeds without data needs no chunks.
    raw.assert_alive();
}

#[test]
fn block_status_tells_the_exports_extents() {
    let fixture = Fixture::new();
    let client = fixture.client();
    assert!(client.export().structured && client.export().allocation);
    let all = |len| vec![Extent { len, hole: false }];
    assert_eq!(client.block_status(BLOCK64, 8 * BLOCK).unwrap(), all(8 * BLOCK));
    for hole in [0..2, 5..6, 6..9] {
        fixture.memory.hole(hole.start * BLOCK64..hole.end * BLOCK64);
    }
    let extent = |blocks, hole| Extent { len: blocks * BLOCK, hole };
    let told = client.block_status(BLOCK64, 7 * BLOCK).unwrap();
    assert_eq!(told, [extent(1, true), extent(3, false), extent(3, true)]);
    let mut raw = structured(&fixture);
    raw.request(REQ_ONE, BLOCK_STATUS, 3, BLOCK64, 7 * BLOCK);
    let chunks = raw.chunks();
    assert_eq!(chunks[0].says, Says::Extents(vec![(BLOCK, 3)]));
    assert!(chunks.iter().all(|chunk| chunk.cookie == 3));
    // An export that says nonsense is not passed on.
    fixture.memory.hole(20 * BLOCK64..20 * BLOCK64 + 100);
    assert_eq!(client.block_status(20 * BLOCK64, BLOCK).unwrap_err().errno(), Some(Errno::EIO));
    assert_eq!(client.block_status(512, BLOCK).unwrap_err().errno(), Some(Errno::EINVAL));
    client.call(Operation::Cache { offset: 0, len: 1 << 20 }).unwrap();
    client.disconnect().unwrap();
}

#[test]
fn what_an_export_answers_against_the_rules_is_an_error_of_that_read() {
    let mut config = config();
    config.max_requests = 4;
    let fixture = Fixture::with(Memory::new(), config);
    fixture.memory.hold();
    let mut raw = structured(&fixture);
    let answers = [
        Reply::good(Buffer::zeroed(512)),
        Reply::partly(Buffer::zeroed(BLOCK as usize), vec![bad(BLOCK64, 1)]),
        Reply::partly(Buffer::default(), vec![bad(0, 1)]),
    ];
    for answer in answers {
        raw.request(0, READ, 1, 0, BLOCK);
        fixture.memory.wait_held(1);
        fixture.memory.answer(0, answer);
        let chunks = raw.chunks();
        let Says::Error { errno, offset, .. } = chunks[0].says else { panic!("{chunks:?}") };
        assert_eq!((errno, offset, chunks.len()), (EIO, Some(0), 2));
    }
}

#[test]
fn a_long_read_goes_no_further_than_its_client_and_stops_with_it() {
    let fixture = Fixture::new();
    let parts = u64::from(MAX_REQUEST_BYTES) / PART;
    for vanishes in [false, true] {
        let mut raw = structured(&fixture);
        let before = fixture.memory.seen().len();
        raw.request(0, READ, 1, 0, MAX_REQUEST_BYTES);
        common::wait_for("the read to begin", || fixture.memory.seen().len() > before + 3);
        // Others are served meanwhile.
        fixture.client().write(0, &[1; BLOCK as usize], false).unwrap();
        let begun = fixture.memory.seen().len() - before;
        assert!(begun < parts as usize / 2, "{begun} parts for a client that takes none");
        if vanishes {
            drop(raw);
        } else {
            let (good, errors) = told(&raw.chunks());
            assert_eq!((good.len() as u64, errors.len()), (parts, 0));
        }
    }
    fixture.memory.wait_closed(4);
}
