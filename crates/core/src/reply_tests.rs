// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use crate::api::Class;
use crate::message::{MarkKind, SpareAddress, parse};
use crate::text::REPLY_MAX_BYTES;
use std::string::{String, ToString};

const GROUND: Ground = Ground {
    main_sectors: 1_000_000,
    block_sectors: 1,
    data_start: 9_216,
    data_end: 100_000,
    nearest: [Some(9_218), Some(9_226)],
};

const REMAP: Command = Command::Remap { sector: 1_234, to: Some(SpareAddress::Absolute(9_217)) };

fn written(write: impl Fn(&mut Text<'_>)) -> String {
    let mut buf = [0u8; REPLY_MAX_BYTES];
    let mut text = Text::new(&mut buf);
    write(&mut text);
    assert!(!text.is_cut() && !text.is_empty());
    text.as_str().to_string()
}

fn done(command: &Command, done: Done) -> String {
    written(|t| write_done(t, command, &done, &GROUND))
}

#[test]
fn what_was_done_is_told_in_sectors() {
    assert_eq!(
        done(&REMAP, Done::Remapped { spare_sector: 9_216, pending: 0 }),
        "the unit of sectors 1232-1239 lives at spare sector 9216 now"
    );
    assert_eq!(
        done(&REMAP, Done::Remapped { spare_sector: 9_216, pending: 0b1000_0100 }),
        "the unit of sectors 1232-1239 lives at spare sector 9216 now; not readable, left pending \
         on main: sector 1234, 1239"
    );
    let verify = Command::Verify { sector: 7 };
    assert_eq!(
        done(&verify, Done::Verified { unreadable: 0 }),
        "the unit of sectors 0-7 reads well where it lives"
    );
    assert_eq!(
        done(&verify, Done::Verified { unreadable: 1 }),
        "the unit of sectors 0-7: not readable: sector 0"
    );
    assert_eq!(
        done(&Command::Save, Done::Saved { generation: 3, sequence: 40 }),
        "durable: generation=3 sequence=40"
    );
    let saved = Done::Saved { generation: 3, sequence: 40 };
    for (line, words) in [
        ("set pending_read retry", "pending_read is retry now"),
        ("set read_retries 5", "read_retries is 5 now"),
        ("clear_stats", "the counters begin anew"),
        ("clear", "everything is home on main"),
        ("clear force", "everything that could go home is on main"),
        ("sync", "durable: generation=3 sequence=40"),
    ] {
        assert_eq!(done(&parse(line).unwrap(), saved), words, "{line}");
    }
    let mark = Command::Mark { kind: MarkKind::Gone, sector: 8, sectors: Some(16) };
    let marked = Marked { marked: 5, on_spare: 8, gone: 3, dropped: 0 };
    assert_eq!(
        done(&mark, Done::Marked(marked)),
        "blocks marked gone: 5; living on a spare and left alone: 8; gone already: 3"
    );
    assert!(done(&mark, Done::Failed(Reason::Full)).ends_with("stay marked"));
    assert_eq!(
        done(&Command::Unremap { sector: 9 }, Done::Unremapped),
        "the unit of sectors 8-15 is home on main again"
    );
}

#[test]
fn blocks_larger_than_a_sector_are_told_by_their_first() {
    let ground = Ground { block_sectors: 4, ..GROUND };
    let verified = Done::Verified { unreadable: 0b10 };
    let text = written(|t| write_done(t, &Command::Verify { sector: 8 }, &verified, &ground));
    assert_eq!(text, "the unit of sectors 8-15: not readable: sector 12");
}

#[test]
fn a_refused_spare_sector_is_answered_with_legal_ones() {
    assert_eq!(
        done(&REMAP, Done::Failed(Reason::OtherPlaceInUnit)),
        "remap 1234: this spare sector lies at another place in its unit of 8 sectors than 1234; \
         the nearest legal ones are 9218 and 9226; nothing was changed"
    );
    for (nearest, words) in [
        ([Some(9_218), None], "the nearest legal one is 9218;"),
        ([None, Some(9_226)], "the nearest legal one is 9226;"),
        ([None, None], "legal ones lie from 9216 to 99999;"),
    ] {
        let ground = Ground { nearest, ..GROUND };
        let failed = Done::Failed(Reason::SpareNotFree);
        let text = written(|t| write_done(t, &REMAP, &failed, &ground));
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn every_reason_says_why_and_what_next() {
    for reason in [
        Reason::OutOfRange,
        Reason::AlreadyRemapped,
        Reason::NotRemapped,
        Reason::SpareNotFree,
        Reason::OtherPlaceInUnit,
        Reason::Busy,
        Reason::Full,
        Reason::Gone,
        Reason::Unreadable,
        Reason::WriteFailed(Class::Target),
        Reason::DeviceSuspect,
        Reason::MetadataDegraded,
        Reason::CommitFailed,
        Reason::InDoubt,
        Reason::TimedOut,
        Reason::NotWritable,
    ] {
        let text = done(&REMAP, Done::Failed(reason));
        assert!(text.starts_with("remap 1234: "), "{text}");
        assert!(!text.contains("refused; see status"), "{reason:?} has no words");
        let unchanged = !matches!(reason, Reason::InDoubt | Reason::WriteFailed(_));
        assert_eq!(text.ends_with("; nothing was changed"), unchanged, "{text}");
        let clear = done(&Command::Clear { force: false }, Done::Failed(reason));
        assert!(clear.starts_with("clear: ") && !clear.contains("nothing was changed"), "{clear}");
    }
    assert!(done(&REMAP, Done::Failed(Reason::OutOfRange)).contains("0 to 999999 in steps of 1"));
}

#[test]
fn every_event_has_words() {
    let dev = Dev::Main;
    for (event, words) in [
        (
            Event::Moved { main_sector: 8, spare_sector: 9_224, blocks: 3 },
            "moved to spare sector 9224: sector 8, 9",
        ),
        (Event::Home { main_sector: 8 }, "sectors 8-15 is home"),
        (Event::Pending { main_sector: 8, blocks: 0x80 }, "not readable: sector 15"),
        (Event::Gone { main_sector: 8, blocks: 1 }, "an error until overwritten: sector 8"),
        (Event::Quarantined { spare_sector: 9_216 }, "spare sector 9216"),
        (Event::Suspect(dev), "main failed its probe"),
        (Event::Healed(Dev::Spare(0)), "the spare answered"),
        (Event::FlushFailed(Dev::Spare(3)), "spare 3: a flush failed"),
        (Event::ReadBackDiffers { spare_sector: 5 }, "spare sector 5"),
        (Event::Vanished(dev), "main vanished"),
        (Event::SpareFull, "the spare is full"),
        (Event::MetadataDegraded, "fewer than four copies"),
        (Event::InDoubt { main_sector: 16 }, "sectors 16-23: a commit is in doubt"),
        (Event::TakenOver, "another session"),
        (Event::StillAtDevice(dev), "main still has an operation"),
    ] {
        let text = written(|t| write_event(t, &event, 1));
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn the_nearest_legal_spare_sectors_are_the_nearest() {
    // Every place, every free pattern of six units, against the plain definition.
    let (start, end) = (40u64, 40 + 6 * 8 + 3);
    for main_sector in [0u64, 3, 7, 8, 1_234] {
        for free in 0..64u64 {
            let legal = |s: &u64| {
                (s - start) % 8 == main_sector % 8 && free & (1 << ((s - start) / 8)) != 0
            };
            let all = || (start..start + 48).filter(legal);
            for wanted in 0..120u64 {
                let want = [all().rfind(|&s| s <= wanted), all().find(|&s| s > wanted)];
                let is_free = |unit: SpareUnit| free & (1 << unit.0) != 0;
                let got = nearest_spare(main_sector, wanted, (start, end), is_free);
                assert_eq!(got, want, "main {main_sector} free {free:#b} wanted {wanted}");
            }
        }
    }
    assert_eq!(nearest_spare(0, 5, (100, 100), |_| true), [None, None]);
    assert_eq!(nearest_spare(0, u64::MAX, (9_216, u64::MAX), |_| false), [None, None]);
}
