// SPDX-License-Identifier: GPL-2.0-only OR MIT
use super::*;

const BAD: &str = "unreadable";

fn asked(read: Option<(u64, u32)>, structured: bool) -> Asked {
    Asked { cookie: 7, read, structured, whole: false }
}

fn bad(offset: u64, len: u32) -> BadRange {
    BadRange { offset, len, error: Errno(61), message: BAD }
}

/// A chunk as a client sees it: flags, kind, payload.
type Chunk = (u16, u16, Vec<u8>);

fn bytes(mut frame: Frame, asked: &Asked, last: bool) -> Vec<u8> {
    if last {
        frame.end(asked);
    }
    assert_eq!(frame.len(), frame.head().len() + frame.payload().len());
    [frame.head(), frame.payload()].concat()
}

fn chunks(mut rest: &[u8]) -> Vec<Chunk> {
    let mut out = Vec::new();
    while let Some((head, more)) = rest.split_first_chunk::<CHUNK_BYTES>() {
        assert_eq!(head[..4], [0x66, 0x8e, 0x33, 0xef]);
        let head = ChunkHeader::decode(head);
        assert_eq!(head.cookie, 7);
        let (payload, more) = more.split_at(head.len as usize);
        out.push((head.flags, head.kind, payload.to_vec()));
        rest = more;
    }
    assert!(rest.is_empty());
    out
}

fn data_chunk(flags: u16, offset: u64, data: &[u8]) -> Chunk {
    (flags, CHUNK_DATA, [&offset.to_be_bytes()[..], data].concat())
}

fn error_chunk(offset: u64) -> Chunk {
    let mut payload = 5_u32.to_be_bytes().to_vec();
    payload.extend([0, BAD.len() as u8]);
    payload.extend(BAD.as_bytes());
    payload.extend(offset.to_be_bytes());
    (0, CHUNK_ERROR_OFFSET, payload)
}

fn done() -> Chunk {
    (CHUNK_FLAG_DONE, CHUNK_NONE, Vec::new())
}

#[test]
fn a_good_read_is_one_chunk_that_can_be_the_last() {
    for last in [false, true] {
        let asked = asked(Some((4096, 3)), true);
        let frame = answer(&asked, Reply::good(Buffer::from(&b"abc"[..])));
        let flags = u16::from(last);
        let seen = chunks(&bytes(frame, &asked, last));
        assert_eq!(seen, [data_chunk(flags, 4096, b"abc")]);
    }
    let asked = asked(Some((4096, 3)), false);
    let frame = answer(&asked, Reply::good(Buffer::from(&b"abc"[..])));
    let seen = bytes(frame, &asked, true);
    assert_eq!(seen, [&encode_simple_reply(7, 0)[..], b"abc"].concat());
}

#[test]
fn a_partly_bad_read_sends_what_is_good_and_names_what_is_not() {
    let content: Vec<u8> = (0..100).collect();
    let reply = |bad| Reply::partly(Buffer::from(&content[..]), bad);
    let asked = asked(Some((1000, 100)), true);
    let cases = [
        (vec![bad(1000, 100)], vec![error_chunk(1000)]),
        (vec![bad(1000, 10)], vec![error_chunk(1000), data_chunk(0, 1010, &content[10..])]),
        (vec![bad(1090, 10)], vec![data_chunk(0, 1000, &content[..90]), error_chunk(1090)]),
        (
            vec![bad(1010, 10), bad(1020, 5), bad(1050, 1)],
            vec![
                data_chunk(0, 1000, &content[..10]),
                error_chunk(1010),
                error_chunk(1020),
                data_chunk(0, 1025, &content[25..50]),
                error_chunk(1050),
                data_chunk(0, 1051, &content[51..]),
            ],
        ),
    ];
    for (bad, mut expected) in cases {
        let seen = chunks(&bytes(answer(&asked, reply(bad.clone())), &asked, false));
        assert_eq!(seen, expected);
        expected.push(done());
        assert_eq!(chunks(&bytes(answer(&asked, reply(bad)), &asked, true)), expected);
    }
    // In one piece: the first stretch, and every error.
    let whole = Asked { whole: true, ..asked };
    let seen =
        chunks(&bytes(answer(&whole, reply(vec![bad(1010, 10), bad(1050, 1)])), &whole, true));
    let first = data_chunk(0, 1000, &content[..10]);
    assert_eq!(seen, [first, error_chunk(1010), error_chunk(1050), done()]);
    // Without structured replies all of it fails.
    let simple = Asked { structured: false, ..asked };
    let seen = bytes(answer(&simple, reply(vec![bad(1010, 10)])), &simple, true);
    assert_eq!(seen, encode_simple_reply(7, 5));
}

#[test]
fn bad_ranges_that_break_their_rules_fail_the_whole_read() {
    let asked = asked(Some((1000, 100)), true);
    let cases = [
        vec![bad(999, 5)],
        vec![bad(1099, 2)],
        vec![bad(1100, 1)],
        vec![bad(1010, 0)],
        vec![bad(1020, 5), bad(1010, 5)],
        vec![bad(1010, 11), bad(1020, 5)],
        vec![bad(u64::MAX, 1)],
        vec![bad(1000, u32::MAX)],
    ];
    for bad in cases {
        let reply = Reply::partly(Buffer::from(&[9; 100][..]), bad.clone());
        let seen = chunks(&bytes(answer(&asked, reply), &asked, true));
        assert_eq!((seen.len(), seen[0].1), (2, CHUNK_ERROR_OFFSET), "{bad:?}");
        assert_eq!(seen[0].2[seen[0].2.len() - 8..], 1000_u64.to_be_bytes());
    }
    // So do a buffer of another length, and a failure without ranges.
    let short = Reply::partly(Buffer::zeroed(99), vec![bad(1000, 1)]);
    for reply in [short, Reply::good(Buffer::zeroed(99)), Reply::failed(Errno::EIO)] {
        let seen = chunks(&bytes(answer(&asked, reply), &asked, true));
        assert_eq!((seen.len(), seen[0].1), (2, CHUNK_ERROR_OFFSET));
    }
}

#[test]
fn other_requests_succeed_simply_and_fail_with_words() {
    let wants = asked(None, true);
    let seen = bytes(answer(&wants, Reply::good(Buffer::zeroed(5))), &wants, true);
    assert_eq!(seen, encode_simple_reply(7, 0));
    let failed = Reply::partly(Buffer::default(), vec![bad(0, 512)]);
    let seen = chunks(&bytes(answer(&wants, failed), &wants, true));
    assert_eq!((seen[0].1, &seen[0].2[..4]), (CHUNK_ERROR, &5_u32.to_be_bytes()[..]));
    assert_eq!(&seen[0].2[6..], BAD.as_bytes());
    let simple = asked(None, false);
    let seen = bytes(answer(&simple, Reply::failed(Errno::ENOSPC)), &simple, true);
    assert_eq!(seen, encode_simple_reply(7, 28));
}

#[test]
fn block_status_has_the_layout_of_the_specification() {
    let asked = asked(None, true);
    let extents = [Extent { len: 4096, hole: false }, Extent { len: 512, hole: true }];
    let seen = chunks(&bytes(block_status(&asked, &extents), &asked, true));
    let expected = [0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3].to_vec();
    assert_eq!(seen, [(0, CHUNK_BLOCK_STATUS, expected), done()]);
}
