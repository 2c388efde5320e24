// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use crate::text::REPLY_MAX_BYTES;
use std::string::{String, ToString};
use std::vec::Vec;

fn written(write: impl Fn(&mut Text<'_>)) -> String {
    let mut buf = [0u8; REPLY_MAX_BYTES];
    let mut text = Text::new(&mut buf);
    write(&mut text);
    assert!(!text.is_cut());
    text.as_str().to_string()
}

fn sentence(status: &Status) -> String {
    written(|t| status.write_sentence(t))
}

fn sample() -> Status {
    Status {
        block_size: 512,
        size_sectors: 409_600,
        remapped_blocks: 14,
        pending_blocks: 2,
        gone_blocks: 1,
        entries: 3,
        max_entries: 1_000,
        quarantined_units: 4,
        spare_free_units: 993,
        spare_total_units: 1_000,
        errors: Errors { read: 5, write: 6, medium: 9, transport: 2 },
        remaps: Remaps { automatic: 3, manual: 1 },
        requests: Requests { fast: 70_000, slow: 12 },
        metadata: Metadata {
            copies_valid: 5,
            copies_total: 5,
            generation: 2,
            sequence: 17,
            commits: 16,
        },
        ..Status::default()
    }
}

#[test]
fn the_status_line_has_the_form_scripts_rely_on() {
    assert_eq!(
        written(|t| sample().write_line(0, t)),
        "0 409600 dm-remap v4 3/1000 3/1000 7/1000 health=- errors=W6:R5 auto_remaps=3 \
         manual_remaps=1 scan=- state=degraded lost=3 pending=2 gone=1 quarantined=4 fast=70000 \
         slow=12 write_errors=6 read_errors=5 commits=16 generation=2 sequence=17 \
         scan_progress=- medium_errors=9 transport_errors=2 moved_blocks=14 spare_free=993 \
         block_size=512 copies=5/5"
    );
    let mut later = sample();
    later.health_score = Some(87);
    later.scan = Some(Scan { state: "running", percent: 42 });
    let line = written(|t| later.write_line(2048, t));
    assert!(line.starts_with("2048 409600 dm-remap v4 "), "{line}");
    assert!(line.contains(" health=87 errors=") && line.contains(" scan=42% state="), "{line}");
    assert!(line.contains(" scan_progress=42 "), "{line}");
}

#[test]
fn the_longest_line_is_a_legal_reply() {
    let most = u64::MAX;
    let status = Status {
        block_size: u32::MAX,
        size_sectors: most,
        remapped_blocks: most,
        pending_blocks: most,
        gone_blocks: most,
        entries: most,
        max_entries: most,
        quarantined_units: most,
        spare_free_units: 0,
        spare_total_units: most,
        errors: Errors { read: most, write: most, medium: most, transport: most },
        remaps: Remaps { automatic: most, manual: most },
        requests: Requests { fast: most, slow: most },
        metadata: Metadata {
            copies_valid: 255,
            copies_total: 255,
            generation: most,
            sequence: most,
            commits: most,
        },
        health_score: Some(255),
        scan: Some(Scan { state: "running", percent: 255 }),
        conditions: Conditions { metadata_degraded: true, ..Conditions::default() },
    };
    assert!(written(|t| status.write_line(most, t)).len() < 1024);
    assert!(written(|t| status.write_stats(t)).len() < 1024);
    assert!(sentence(&status).len() < 200);
}

#[test]
fn the_sentence_says_what_holds() {
    let mut status = sample();
    assert_eq!(sentence(&status), "14 blocks moved, 3 lost; everything else is intact");
    status.remapped_blocks = 1;
    status.pending_blocks = 0;
    status.gone_blocks = 0;
    assert_eq!(sentence(&status), "1 block moved, none lost; everything is intact");
    status.remapped_blocks = 0;
    assert_eq!(sentence(&status), "no block moved, none lost; everything is intact");
    for (condition, intact) in [
        (Conditions { failed: true, ..Conditions::default() }, false),
        (Conditions { main_suspect: true, ..Conditions::default() }, false),
        (Conditions { spare_suspect: true, ..Conditions::default() }, false),
        (Conditions { spare_full: true, ..Conditions::default() }, true),
        (Conditions { read_only: true, ..Conditions::default() }, true),
    ] {
        status.conditions = condition;
        assert_eq!(sentence(&status).contains("intact"), intact, "{condition:?}");
    }
}

/// The conditions whose bits are set in `bits`.
fn conditions(bits: u8) -> Conditions {
    let bit = |i: u8| bits & (1 << i) != 0;
    Conditions {
        failed: bit(0),
        read_only: bit(1),
        metadata_degraded: bit(2),
        main_suspect: bit(3),
        spare_suspect: bit(4),
        spare_full: bit(5),
    }
}

#[test]
fn the_state_is_the_worst_of_what_holds() {
    for bits in 0..64u8 {
        for (lost, copies) in [(0, 5), (0, 4), (1, 5), (2, 4)] {
            let mut status = sample();
            (status.pending_blocks, status.gone_blocks) = (0, lost);
            status.metadata.copies_valid = copies;
            status.conditions = conditions(bits);
            let holds = status.conditions;
            let mut all: Vec<State> = [
                (holds.failed, State::Failed),
                (holds.read_only, State::ReadOnly),
                (holds.metadata_degraded, State::MetadataDegraded),
                (holds.main_suspect, State::MainSuspect),
                (holds.spare_suspect, State::SpareSuspect),
                (holds.spare_full, State::SpareFull),
                (lost > 0 || copies < 5, State::Degraded),
                (true, State::Ok),
            ]
            .into_iter()
            .filter_map(|(holds, state)| holds.then_some(state))
            .collect();
            all.sort();
            assert_eq!(status.state(), all[0], "{bits:#b}");
            let verdict = match (status.state(), lost) {
                (State::Failed, _) | (_, 1..) => Verdict::Lost,
                (State::Ok, _) => Verdict::Healthy,
                _ => Verdict::Degraded,
            };
            assert_eq!(status.verdict(), verdict);
            assert_eq!(status.state().advice().is_empty(), status.state() == State::Ok);
        }
    }
    assert_eq!([Verdict::Healthy as u8, Verdict::Degraded as u8, Verdict::Lost as u8], [0, 1, 2]);
}

#[test]
fn stats_shows_the_counters() {
    assert_eq!(
        written(|t| sample().write_stats(t)),
        "fast=70000 slow=12 read_errors=5 write_errors=6 medium_errors=9 transport_errors=2 \
         auto_remaps=3 manual_remaps=1 commits=16 spare_used=7 spare_free=993 spare_total=1000 \
         quarantined=4"
    );
}
