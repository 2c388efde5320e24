// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options beside GO: the list, the old way to choose, structured replies, metadata contexts.

mod common;

use common::raw::{
    ACK, BLOCK_STATUS, EINVAL, ERR_INVALID, ERR_TOO_BIG, ERR_UNKNOWN, META_CONTEXT,
    OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY, READ, Raw, SERVER, Says, go_data, meta_data,
};
use common::{BLOCK, Fixture, SIZE};

const ALLOCATION: &[u8] = b"base:allocation";

#[test]
fn the_list_has_the_one_export_and_chooses_nothing() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    for _ in 0..3 {
        raw.option(OPT_LIST, b"");
        let replies = raw.option_replies(OPT_LIST);
        let entry = b"\0\0\0\x04diska disk in memory".to_vec();
        assert_eq!(replies, [(SERVER, entry), (ACK, vec![])]);
    }
    raw.option(OPT_LIST, b"x");
    assert_eq!(raw.option_reply(OPT_LIST).0, ERR_INVALID);
    assert_eq!(fixture.memory.handles(), (0, 0));
}

#[test]
fn export_name_chooses_with_and_without_the_reserved_zeroes() {
    let fixture = Fixture::new();
    for (flags, len) in [(0, 134), (1, 134), (2, 10), (3, 10)] {
        for name in [&b"disk"[..], b""] {
            let mut raw = fixture.raw();
            raw.greet(flags);
            raw.option(OPT_EXPORT_NAME, name);
            let answer = raw.take_vec(len);
            assert_eq!(answer[..8], SIZE.to_be_bytes());
            assert_eq!(u16::from_be_bytes([answer[8], answer[9]]) & 128, 0, "no DF");
            assert!(answer[10..].iter().all(|b| *b == 0));
            raw.assert_alive();
            raw.request(0, READ, 1, 512, BLOCK);
            assert_eq!(raw.reply(), (1, EINVAL), "blocks count for who was not told of them too");
            raw.request(0, READ, 2, 0, BLOCK);
            assert_eq!(raw.reply(), (2, 0));
            raw.take_vec(BLOCK as usize);
        }
    }
    // Structured replies and contexts go with it as with GO.
    let mut raw = fixture.raw();
    raw.greet(3);
    structured(&mut raw);
    select(&mut raw, b"disk");
    raw.option(OPT_EXPORT_NAME, b"disk");
    let answer = raw.take_vec(10);
    assert_eq!(u16::from_be_bytes([answer[8], answer[9]]) & 128, 128, "DF");
    assert!(has_block_status(&mut raw));
}

fn structured(raw: &mut Raw) {
    raw.option(OPT_STRUCTURED_REPLY, b"");
    assert_eq!(raw.option_reply(OPT_STRUCTURED_REPLY), (ACK, vec![]));
}

fn context(id: u32) -> (u32, Vec<u8>) {
    (META_CONTEXT, [&id.to_be_bytes()[..], ALLOCATION].concat())
}

fn select(raw: &mut Raw, name: &[u8]) {
    raw.option(OPT_SET_META_CONTEXT, &meta_data(name, &[ALLOCATION]));
    assert_eq!(raw.option_replies(OPT_SET_META_CONTEXT), [context(1), (ACK, vec![])]);
}

fn go(raw: &mut Raw, name: &[u8]) {
    raw.option(OPT_GO, &go_data(name, &[]));
    assert_eq!(raw.option_replies(OPT_GO).last().unwrap().0, ACK);
}

/// Of a client with structured replies.
fn has_block_status(raw: &mut Raw) -> bool {
    raw.request(0, BLOCK_STATUS, 5, 0, BLOCK);
    match raw.chunks().remove(0).says {
        Says::Extents(extents) => {
            assert_eq!(extents, [(BLOCK, 0)]);
            true
        }
        Says::Error { errno: EINVAL, offset: None, .. } => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn contexts_come_after_structured_replies_and_only_the_known_one_is_there() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    for option in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        raw.option(option, &meta_data(b"disk", &[ALLOCATION]));
        assert_eq!(raw.option_replies(option)[0].0, ERR_INVALID);
    }
    raw.option(OPT_STRUCTURED_REPLY, b"data");
    assert_eq!(raw.option_reply(OPT_STRUCTURED_REPLY).0, ERR_INVALID);
    structured(&mut raw);
    structured(&mut raw);
    let ack = || (ACK, Vec::new());
    // The queries, then whether the list has the context, and whether SET selects it.
    let cases: [(&[&[u8]], bool, bool); 9] = [
        (&[], true, false),
        (&[b"base:"], true, false),
        (&[ALLOCATION], true, true),
        (&[b"qemu:dirty-bitmap:x", ALLOCATION, ALLOCATION], true, true),
        (&[b"base:allocatio"], false, false),
        (&[b"base:allocation2"], false, false),
        (&[b"base:Allocation"], false, false),
        (&[b"x-\xff"], false, false),
        (&[b""], false, false),
    ];
    for (queries, listed, set) in cases {
        raw.option(OPT_LIST_META_CONTEXT, &meta_data(b"", queries));
        let expected: Vec<_> = listed.then(|| context(0)).into_iter().chain([ack()]).collect();
        assert_eq!(raw.option_replies(OPT_LIST_META_CONTEXT), expected, "{queries:?}");
        raw.option(OPT_SET_META_CONTEXT, &meta_data(b"disk", queries));
        let expected: Vec<_> = set.then(|| context(1)).into_iter().chain([ack()]).collect();
        assert_eq!(raw.option_replies(OPT_SET_META_CONTEXT), expected, "{queries:?}");
    }
}

#[test]
fn malformed_and_excessive_queries_are_refused() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    raw.greet(3);
    structured(&mut raw);
    let good = meta_data(b"disk", &[b"base:", ALLOCATION]);
    let with = |at: usize, number: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let many: Vec<&[u8]> = vec![ALLOCATION; 65];
    let long = vec![b'x'; 4097];
    let cases = [
        (Vec::new(), ERR_INVALID),
        (good[..good.len() - 1].to_vec(), ERR_INVALID),
        ([&good[..], b"x"].concat(), ERR_INVALID),
        (with(0, u32::MAX), ERR_INVALID),
        (with(8, 1), ERR_INVALID),
        (with(8, 3), ERR_INVALID),
        (with(8, u32::MAX), ERR_TOO_BIG),
        (with(12, u32::MAX - 3), ERR_INVALID),
        (meta_data(b"other", &[ALLOCATION]), ERR_UNKNOWN),
        (meta_data(b"disk", &many), ERR_TOO_BIG),
        (meta_data(&long, &[ALLOCATION]), ERR_TOO_BIG),
        (meta_data(b"disk", &[&long]), ERR_TOO_BIG),
        (vec![0; 17 << 10], ERR_TOO_BIG),
    ];
    for (data, error) in cases {
        for option in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
            raw.option(option, &data);
            let replies = raw.option_replies(option);
            assert_eq!((replies.len(), replies[0].0), (1, error), "{data:x?}");
        }
    }
    select(&mut raw, b"disk");
}

#[test]
fn a_selection_holds_for_its_export_until_the_next_one() {
    let fixture = Fixture::new();
    let session = |prepare: &dyn Fn(&mut Raw), name: &[u8]| {
        let mut raw = fixture.raw();
        raw.greet(3);
        structured(&mut raw);
        prepare(&mut raw);
        go(&mut raw, name);
        has_block_status(&mut raw)
    };
    assert!(!session(&|_| {}, b"disk"));
    assert!(session(&|raw| select(raw, b"disk"), b"disk"));
    assert!(session(&|raw| select(raw, b""), b""));
    assert!(!session(&|raw| select(raw, b""), b"disk"), "selected under another name");
    // Other options in between change nothing; another SET does, also a bad one.
    let looks = |raw: &mut Raw| {
        select(raw, b"disk");
        raw.option(OPT_LIST_META_CONTEXT, &meta_data(b"disk", &[]));
        raw.option_replies(OPT_LIST_META_CONTEXT);
        raw.option(OPT_INFO, &go_data(b"disk", &[]));
        raw.option_replies(OPT_INFO);
        structured(raw);
    };
    assert!(session(&looks, b"disk"));
    let again: [Vec<u8>; 4] = [
        meta_data(b"disk", &[]),
        meta_data(b"other", &[ALLOCATION]),
        vec![1, 2, 3],
        vec![0; 20 << 10],
    ];
    for data in again {
        let reset = |raw: &mut Raw| {
            select(raw, b"disk");
            raw.option(OPT_SET_META_CONTEXT, &data);
            raw.option_replies(OPT_SET_META_CONTEXT);
        };
        assert!(!session(&reset, b"disk"), "{} bytes", data.len());
    }
}
