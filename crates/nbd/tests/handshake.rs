// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Negotiation, byte by byte.

mod common;

use std::net::Shutdown;
use std::time::Duration;

use common::raw::{
    ACK, ERR_INVALID, ERR_SHUTDOWN, ERR_TOO_BIG, ERR_UNKNOWN, ERR_UNSUP, INFO, OPT_ABORT,
    OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_STARTTLS, go_data,
    option_bytes,
};
use common::{BLOCK, Fixture, Memory, SIZE, config, info};
use dmremap_nbd::{Client, Errno, MAX_REQUEST_BYTES};

fn export_info(flags: u16) -> (u32, Vec<u8>) {
    let mut data = vec![0, 0];
    data.extend_from_slice(&SIZE.to_be_bytes());
    data.extend_from_slice(&flags.to_be_bytes());
    (INFO, data)
}

fn block_sizes() -> (u32, Vec<u8>) {
    let mut data = vec![0, 3];
    for number in [BLOCK, BLOCK, MAX_REQUEST_BYTES] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    (INFO, data)
}

/// HAS_FLAGS, FLUSH, FUA, ROTATIONAL, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO.
const FLAGS: u16 = 1 | 4 | 8 | 16 | 32 | 64 | 256 | 1024 | 2048;

#[test]
fn info_and_go_say_size_flags_and_block_sizes() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    for name in [&b"disk"[..], b""] {
        raw.option(OPT_INFO, &go_data(name, &[]));
        let expected = vec![export_info(FLAGS), block_sizes(), (ACK, vec![])];
        assert_eq!(raw.option_replies(OPT_INFO), expected);
    }
    assert_eq!(fixture.memory.handles(), (0, 0), "INFO opens nothing");
    raw.option(OPT_GO, &go_data(b"disk", &[3, 1, 2, 0, 77]));
    let mut expected = vec![export_info(FLAGS), block_sizes()];
    expected.push((INFO, b"\0\x01disk".to_vec()));
    expected.push((INFO, b"\0\x02a disk in memory".to_vec()));
    expected.push((ACK, vec![]));
    assert_eq!(raw.option_replies(OPT_GO), expected);
    raw.assert_alive();
    assert_eq!(fixture.memory.handles(), (1, 0));
}

#[test]
fn flags_follow_the_exports_abilities() {
    let mut bare = info();
    bare.read_only = true;
    bare.can_flush = false;
    bare.rotational = false;
    bare.multi_connection = false;
    let fixture = Fixture::with(Memory::with(bare), config());
    let mut raw = fixture.raw();
    raw.greet(1);
    raw.option(OPT_INFO, &go_data(b"disk", &[]));
    assert_eq!(raw.option_replies(OPT_INFO)[0], export_info(1 | 2 | 1024));
}

#[test]
fn unknown_options_are_answered_and_the_next_one_is_understood() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(0);
    for option in [OPT_STARTTLS, OPT_EXTENDED_HEADERS, 4, 0, 12, 99, u32::MAX] {
        for len in [0, 1, 5000, 1 << 20] {
            raw.option(option, &vec![0x5a; len]);
            assert_eq!(raw.option_replies(option), vec![(ERR_UNSUP, vec![])], "{option} {len}");
        }
    }
    raw.option(OPT_GO, &go_data(b"disk", &[]));
    assert_eq!(raw.option_replies(OPT_GO).last().unwrap().0, ACK);
    raw.assert_alive();
}

#[test]
fn malformed_go_is_refused_and_a_good_one_still_works() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    let good = go_data(b"disk", &[3]);
    let mut long_name = good.clone();
    long_name[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut name_to_the_end = good.clone();
    name_to_the_end[..4].copy_from_slice(&8_u32.to_be_bytes());
    let mut many_requests = good.clone();
    many_requests[8..10].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut trailing = good.clone();
    trailing.push(0);
    let bad: [&[u8]; 8] = [
        b"",
        b"\0\0\0",
        b"\0\0\0\0\0",
        &good[..good.len() - 1],
        &long_name,
        &name_to_the_end,
        &many_requests,
        &trailing,
    ];
    for data in bad {
        for option in [OPT_INFO, OPT_GO] {
            raw.option(option, data);
            let replies = raw.option_replies(option);
            assert_eq!(replies.len(), 1);
            assert_eq!(replies[0].0, ERR_INVALID, "{data:?}");
        }
    }
    raw.option(OPT_GO, &go_data(&vec![b'x'; 5000], &[]));
    assert_eq!(raw.option_replies(OPT_GO), vec![(ERR_TOO_BIG, vec![])]);
    raw.option(OPT_GO, &go_data(&vec![b'x'; 4096], &[]));
    assert_eq!(raw.option_replies(OPT_GO)[0].0, ERR_UNKNOWN);
    raw.option(OPT_GO, &go_data(b"disk\0", &[]));
    assert_eq!(raw.option_replies(OPT_GO)[0].0, ERR_UNKNOWN);
    raw.option(OPT_GO, &good);
    assert_eq!(raw.option_replies(OPT_GO).last().unwrap().0, ACK);
    raw.assert_alive();
}

#[test]
fn abort_is_acknowledged_and_ends_the_session() {
    let fixture = Fixture::new();
    for data in [&b""[..], b"ignored"] {
        let mut raw = fixture.raw();
        raw.greet(3);
        raw.option(OPT_ABORT, data);
        assert_eq!(raw.option_replies(OPT_ABORT), vec![(ACK, vec![])]);
        raw.assert_closed();
    }
}

#[test]
fn what_breaks_the_protocol_is_disconnected() {
    let fixture = Fixture::new();
    let mut huge = option_bytes(99, b"");
    huge[12..16].copy_from_slice(&((1_u32 << 20) + 1).to_be_bytes());
    let mut wrong_magic = option_bytes(OPT_INFO, b"");
    wrong_magic[7] ^= 1;
    let cases: [(u32, &[u8]); 7] = [
        (4, b""),
        (u32::from_be_bytes(*b"GET "), b"/ HTTP/1.0\r\n\r\n"),
        (3, &wrong_magic),
        (3, &huge),
        // It knows no error reply.
        (3, &option_bytes(OPT_EXPORT_NAME, b"other")),
        (3, &option_bytes(OPT_EXPORT_NAME, b"disk\0")),
        (3, &option_bytes(OPT_EXPORT_NAME, &[b'd'; 4097])),
    ];
    for (flags, bytes) in cases {
        let mut raw = fixture.raw();
        raw.greet(flags);
        // The server may have left before this is sent.
        let _ = std::io::Write::write_all(&mut raw.stream, bytes);
        raw.assert_closed();
    }
    let mut raw = fixture.raw();
    raw.greet(3);
    for _ in 0..256 {
        raw.option(OPT_LIST, b"");
        assert_eq!(raw.option_replies(OPT_LIST).last().unwrap().0, ACK);
    }
    raw.assert_closed();
    fixture.client().flush().unwrap();
}

#[test]
fn a_client_may_leave_at_any_byte_of_the_negotiation() {
    let fixture = Fixture::new();
    let mut whole = 3_u32.to_be_bytes().to_vec();
    whole.extend(option_bytes(OPT_INFO, &go_data(b"disk", &[1])));
    whole.extend(option_bytes(OPT_GO, &go_data(b"disk", &[3])));
    for len in 0..=whole.len() {
        let mut raw = fixture.raw();
        raw.send(&whole[..len]);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut raw.stream, &mut rest).unwrap();
        assert!(rest.starts_with(b"NBDMAGICIHAVEOPT\0\x03"));
    }
    let (opened, _) = fixture.memory.handles();
    assert_eq!(opened, 1, "only the whole negotiation opens the export");
    fixture.memory.wait_closed(1);
}

#[test]
fn a_negotiation_that_takes_too_long_is_ended() {
    let mut config = config();
    config.handshake_timeout = Duration::from_millis(20);
    let fixture = Fixture::with(Memory::new(), config);
    let mut silent = fixture.raw();
    assert_eq!(&silent.take::<18>(), b"NBDMAGICIHAVEOPT\0\x03");
    silent.assert_closed();
}

#[test]
fn an_export_that_refuses_is_reported_and_may_be_tried_again() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    for (errno, reply) in [(Errno::ESHUTDOWN, ERR_SHUTDOWN), (Errno::EIO, ERR_UNKNOWN)] {
        fixture.memory.refuse(Some(errno));
        raw.option(OPT_GO, &go_data(b"disk", &[]));
        let replies = raw.option_replies(OPT_GO);
        assert_eq!((replies.len(), replies[0].0), (1, reply));
    }
    fixture.memory.refuse(None);
    raw.option(OPT_GO, &go_data(b"disk", &[]));
    assert_eq!(raw.option_replies(OPT_GO).last().unwrap().0, ACK);
    raw.assert_alive();
}

#[test]
fn the_client_learns_what_the_server_says() {
    let fixture = Fixture::new();
    let client = Client::connect_unix(&fixture.path(), "disk").unwrap();
    let export = client.export();
    assert_eq!(export.size_bytes, SIZE);
    assert_eq!((export.block_bytes, export.preferred_bytes), (BLOCK, BLOCK));
    assert_eq!(export.max_bytes, MAX_REQUEST_BYTES);
    assert!(export.can_flush() && export.can_trim() && export.can_write_zeroes());
    assert!(export.multi_connection() && !export.read_only());
    let error = Client::connect_unix(&fixture.path(), "other").err().unwrap();
    assert!(error.to_string().contains("no such export"), "{error}");
    let nowhere = fixture.directory.path().join("nothing");
    let error = Client::connect_unix(&nowhere, "").err().unwrap();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}
