// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use std::format;
use std::string::{String, ToString};
use std::vec;

/// What `write` produces in a buffer of `room` bytes.
fn text(room: usize, write: impl Fn(&mut Text<'_>)) -> (String, bool) {
    let mut buf = vec![0u8; room];
    let mut text = Text::new(&mut buf);
    write(&mut text);
    (text.as_str().to_string(), text.is_cut())
}

fn whole(write: impl Fn(&mut Text<'_>)) -> String {
    let (string, cut) = text(256, write);
    assert!(!cut);
    string
}

#[test]
fn numbers_read_as_std_writes_them() {
    let mut values = vec![0u64, 1, 9, 10, 11, 99, 100, u64::MAX, u64::MAX - 1];
    for shift in 0..64 {
        values.extend([1u64 << shift, (1u64 << shift) - 1, (1u64 << shift).wrapping_mul(10)]);
    }
    for value in values {
        assert_eq!(whole(|t| _ = t.u64(value)), value.to_string());
        assert_eq!(whole(|t| _ = t.hex(value)), format!("{value:#x}"));
        assert_eq!(whole(|t| _ = t.i64(value as i64)), (value as i64).to_string());
    }
    assert_eq!(whole(|t| _ = t.i64(i64::MIN)), i64::MIN.to_string());
}

#[test]
fn a_number_is_whole_or_missing() {
    for room in 0..40 {
        for value in [7u64, 12_345, u64::MAX] {
            let want = value.to_string();
            let (got, cut) = text(room, |t| _ = t.u64(value));
            assert_eq!(cut, room < want.len() + MARKER.len(), "room {room}");
            assert_eq!(got, if cut { &MARKER[..room.min(3)] } else { &want });
        }
        let (got, cut) = text(room, |t| _ = t.i64(-120));
        assert_eq!(got, if cut { &MARKER[..room.min(3)] } else { "-120" });
        assert_eq!(cut, room < 7);
        let (got, cut) = text(room, |t| _ = t.hex(0xbeef));
        assert_eq!(got, if cut { &MARKER[..room.min(3)] } else { "0xbeef" });
        assert_eq!(cut, room < 9);
    }
}

#[test]
fn what_is_cut_is_the_beginning_of_the_whole() {
    let write = |t: &mut Text<'_>| {
        t.str("moved ").u64(14).str(" bl\u{f6}cke, \u{4e2d}\u{6587} ").hex(9216).str(" \u{1f4be}!");
    };
    let full = whole(write);
    for room in 0..full.len() + 8 {
        let (got, cut) = text(room, write);
        assert_eq!(cut, room < full.len() + MARKER.len(), "room {room}");
        if cut {
            assert!(got.len() <= room);
            let kept = got.trim_end_matches('.');
            assert!(full.starts_with(kept), "{got:?}");
            assert!(got.ends_with(&MARKER[..room.min(3)]));
        } else {
            assert_eq!(got, full);
        }
    }
}

#[test]
fn nothing_is_written_after_the_marker() {
    let (got, cut) = text(10, |t| {
        t.u64(123_456_789_012).str("x").byte(b'y').u64(1).escaped(b"z").end_here();
    });
    assert_eq!((got.as_str(), cut), ("...", true));
}

#[test]
fn a_uuid_has_its_usual_form() {
    let mut bytes = [0u8; 16];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = 0x11u8.wrapping_mul(i as u8);
    }
    assert_eq!(whole(|t| _ = t.uuid(&Uuid(bytes))), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(whole(|t| _ = t.uuid(&Uuid::default())), "-");
    assert_eq!(text(38, |t| _ = t.uuid(&Uuid(bytes))).0, "...");
}

#[test]
fn bytes_of_a_device_are_escaped() {
    let got = whole(|t| _ = t.escaped(b"WDC\x1b[2J a\\b\x00\xff~"));
    assert_eq!(got, "WDC\\x1b[2J\\x20a\\\\b\\x00\\xff~");
    for room in 0..30 {
        let (got, _) = text(room, |t| _ = t.escaped(&[0u8; 8]));
        assert!(got.trim_end_matches('.').len() % 4 == 0, "{got}");
    }
    assert_eq!(whole(|t| _ = t.byte(0x80).byte(b'a')), "?a");
}

#[test]
fn room_counts_what_fits_without_the_marker() {
    let mut buf = [0u8; 16];
    let mut t = Text::new(&mut buf);
    assert!(t.is_empty());
    assert_eq!(t.room(), 13);
    t.str("1234567890123");
    assert_eq!((t.room(), t.is_cut(), t.len()), (0, false, 13));
    t.str("");
    assert!(!t.is_cut());
    t.whole("4");
    assert_eq!((t.is_cut(), t.as_str()), (true, "1234567890123..."));
}
