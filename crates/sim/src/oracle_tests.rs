// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: those at the head of [`super`], one small story each.

use super::*;
use crate::content::{ADOPTED, Content, ZEROS};

fn data(sector: u64, version: Version) -> Content {
    Content::Data { sector, version }
}

fn acked(oracle: &mut Oracle, began: Tick, ended: Tick) -> Version {
    let version = oracle.begin(0, 1, false, began);
    oracle.end((0, 1), (version, began), true, false, ended);
    version
}

#[test]
fn an_acknowledged_write_hides_what_was_before() {
    let mut oracle = Oracle::new(8);
    let version = acked(&mut oracle, 1, 2);
    assert!(oracle.read(0, &data(0, ADOPTED), 3, 4).is_err());
    assert_eq!(oracle.read(0, &data(0, version), 3, 4), Ok(()));
}

#[test]
fn a_read_begun_before_the_acknowledgement_may_return_either() {
    let mut oracle = Oracle::new(8);
    let version = acked(&mut oracle, 3, 5);
    assert_eq!(oracle.read(0, &data(0, ADOPTED), 4, 6), Ok(()));
    assert_eq!(oracle.read(0, &data(0, version), 4, 6), Ok(()));
}

#[test]
fn of_overlapping_writes_either_may_win_and_a_read_fixes_which() {
    let mut oracle = Oracle::new(8);
    let one = oracle.begin(0, 1, false, 1);
    let two = oracle.begin(0, 1, false, 2);
    oracle.end((0, 1), (one, 1), true, false, 3);
    oracle.end((0, 1), (two, 2), true, false, 4);
    assert_eq!(oracle.read(0, &data(0, one), 5, 6), Ok(()));
    assert!(
        oracle.read(0, &data(0, two), 7, 8).is_err(),
        "it had been overwritten when it was read"
    );
}

#[test]
fn a_failed_write_leaves_either_until_it_is_overwritten() {
    let mut oracle = Oracle::new(8);
    let failed = oracle.begin(0, 1, false, 1);
    oracle.end((0, 1), (failed, 1), false, false, 2);
    assert_eq!(oracle.read(0, &data(0, ADOPTED), 3, 4), Ok(()));
    assert_eq!(oracle.read(0, &data(0, failed), 5, 6), Ok(()));
    acked(&mut oracle, 7, 8);
    assert!(oracle.read(0, &data(0, failed), 9, 10).is_err());
}

#[test]
fn a_power_cut_takes_back_only_what_no_flush_covered() {
    let mut oracle = Oracle::new(8);
    let covered = acked(&mut oracle, 1, 2);
    oracle.flushed(3);
    let loose = acked(&mut oracle, 4, 5);
    oracle.power_cut(6);
    let mut allowed = oracle.allowed(0);
    allowed.sort_unstable();
    assert_eq!(allowed, [covered, loose]);
    assert_eq!(oracle.read(0, &data(0, covered), 7, 8), Ok(()));
    assert!(oracle.read(0, &data(0, loose), 9, 10).is_err(), "the first read had fixed it");
}

#[test]
fn a_flush_covers_only_writes_answered_before_it_began() {
    let mut oracle = Oracle::new(8);
    let version = oracle.begin(0, 1, false, 1);
    // The flush began at 2, the write was answered at 3.
    oracle.end((0, 1), (version, 1), true, false, 3);
    oracle.flushed(2);
    oracle.power_cut(5);
    assert_eq!(oracle.read(0, &data(0, ADOPTED), 6, 7), Ok(()));
}

#[test]
fn fua_needs_no_flush() {
    let mut oracle = Oracle::new(8);
    let version = oracle.begin(0, 1, false, 1);
    oracle.end((0, 1), (version, 1), true, true, 2);
    oracle.power_cut(3);
    assert_eq!(oracle.allowed(0), [version]);
}

#[test]
fn a_kill_takes_nothing_back_and_leaves_the_open_ones_open() {
    let mut oracle = Oracle::new(8);
    let good = acked(&mut oracle, 1, 2);
    let open = oracle.begin(0, 1, false, 3);
    oracle.killed(4);
    assert!(oracle.read(0, &data(0, ADOPTED), 5, 6).is_err());
    assert_eq!(oracle.read(0, &data(0, open), 5, 6), Ok(()));
    assert!(oracle.read(0, &data(0, good), 7, 8).is_err(), "a cut write comes and goes");
}

#[test]
fn other_sectors_blanks_and_garbage_are_never_right() {
    let mut oracle = Oracle::new(8);
    for wrong in [data(1, ADOPTED), Content::Blank, Content::Garbage(1), data(0, ZEROS)] {
        assert!(oracle.read(0, &wrong, 1, 2).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_lost_cache_excuses_answered_writes_only() {
    let mut oracle = Oracle::new(8);
    let moved = oracle.begin(0, 1, false, 1);
    let lost = Lost { at: 0, sector: 0, version: moved, origin: Origin::Recovery };
    // Recovery's copy is lost while the client waits: it must be written again.
    oracle.lost(&lost, false, 2);
    oracle.end((0, 1), (moved, 1), true, false, 3);
    assert!(oracle.read(0, &data(0, ADOPTED), 4, 5).is_err());
    // Once it was answered and not flushed, a loss is as a power cut.
    oracle.lost(&lost, true, 6);
    assert_eq!(oracle.read(0, &data(0, ADOPTED), 7, 8), Ok(()));
}
