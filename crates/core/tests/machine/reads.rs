// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Failed reads: what is read at last, what becomes pending, what is weak.

use dmremap_core::{Class, Event, Kind};

use super::{
    F, How, MAIN, PROBE, R, Rig, Rule, SPARE, W, make_pending, move_by_write, old, olds, remap,
};

#[test]
fn trace_10_05_only_what_is_unreadable_fails() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44));
    let id = rig.read(40, 8);
    rig.advance(5_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    assert_eq!(rig.requests[&id].failed, [3]);
    let mut tags = rig.requests[&id].tags.clone();
    tags[3] = old(43);
    assert_eq!(tags, olds(40..48), "the rest has been read");
    assert_eq!(rig.pending(5), 0b1000);
    assert_eq!(rig.entry(5), None, "no commit stands before that answer");
    assert!(rig.events.contains(&Event::Pending { main_sector: 40, blocks: 0b1000 }));
    // From now on it fails at once, and only there.
    rig.done();
    assert_eq!(rig.reads(43, 1), Err(Class::Medium));
    assert_eq!(rig.reads(40, 3), Ok(olds(40..43)));
    assert_eq!(rig.done(), ["client main read 40+3"]);
}

#[test]
fn order_of_a_read_verdict() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44));
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    assert_eq!(
        rig.done(),
        [
            "client main read 43+1",
            "main read 43+1",
            "main probe",
            "main read 43+1",
            "main read 43+1"
        ]
    );
    assert_eq!(rig.pending(5), 0b1000);
}

#[test]
fn one_medium_answer_alone_is_enough_for_pending() {
    let mut rig = Rig::new();
    rig.set("read_retries", "1");
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    assert_eq!(rig.done(), ["client main read 43+1", "main read 43+1"]);
    assert_eq!(rig.pending(5), 0b1000);
}

#[test]
fn one_generic_failure_is_no_evidence() {
    let mut rig = Rig::new();
    rig.set("read_retries", "1");
    rig.rule(Rule::new(MAIN, R).at(43..44));
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert!(rig.ended(id).is_some_and(|e| e.is_err()));
    assert_eq!(rig.pending(5), 0);
}

#[test]
fn trace_10_13_generic_failures_that_pass_are_not_weak() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(40..48).times(1));
    rig.rule(Rule::new(MAIN, R).at(80..88).times(2));
    let (one, two) = (rig.read(40, 8), rig.read(80, 8));
    rig.advance(5_000);
    assert_eq!(rig.tags(one), olds(40..48));
    assert_eq!(rig.tags(two), olds(80..88));
    assert_eq!((rig.entry(5), rig.entry(10)), (None, None));
    assert_eq!((rig.pending(5), rig.pending(10)), (0, 0));
}

#[test]
fn trace_10_13_single_failure_alone_is_not_weak() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(2));
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert_eq!(rig.tags(id), [old(43)]);
    assert_eq!(rig.entry(5), None);
}

#[test]
fn weak_content_is_answered_and_then_relocated() {
    let mut rig = Rig::new();
    // The client's, then alone, then alone once more after a good probe: read at last.
    rig.rule(Rule::new(MAIN, R).at(43..44).times(3));
    rig.rule(Rule::new(SPARE, F).times(1).how(How::Hold));
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert_eq!(rig.tags(id), [old(43)], "answered before anything is committed");
    assert_eq!((rig.entry(5), rig.held()), (None, 1));
    // Busy is kept: a write waits.
    let write = rig.write(43, &[9]);
    assert_eq!(rig.ended(write), None);
    rig.let_go(How::Good);
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
    assert_eq!(rig.ended(write), Some(Ok(())));
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
}

#[test]
fn weak_after_a_medium_answer() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1).medium());
    let id = rig.read(43, 1);
    rig.advance(5_000);
    assert_eq!(rig.tags(id), [old(43)]);
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
    assert_eq!(rig.reads(43, 1), Ok(vec![old(43)]));
}

#[test]
fn a_medium_answer_to_several_blocks_is_explained_by_the_one_that_fails_alone() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let id = rig.read(40, 8);
    rig.advance(5_000);
    assert!(rig.ended(id).is_some_and(|e| e.is_err()));
    assert_eq!(rig.pending(5), 0b1000);
    assert_eq!(rig.entry(5), None, "its neighbours stay where they are");
}

#[test]
fn a_medium_answer_to_several_blocks_that_nothing_explains_moves_them() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1).medium());
    let id = rig.read(40, 8);
    rig.advance(5_000);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(0), "ssssssss".into())));
}

#[test]
fn weak_content_on_the_spare_leaves_its_unit() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61]);
    let at = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, R).at(at..at + 1).times(1).medium());
    let id = rig.read(40, 1);
    rig.advance(5_000);
    assert_eq!(rig.tags(id), [60]);
    assert_eq!(rig.entry(5), Some((Some(1), "ssmmmmmm".into())));
    assert_eq!(rig.reads(40, 2), Ok(vec![60, 61]));
    assert_eq!(rig.saved().1, [0], "the unit it lay on is quarantined, and saved so");
}

#[test]
fn trace_10_03_write_during_a_read_recovery_waits_and_wins() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).after(1).times(1).how(How::Hold));
    rig.rule(Rule::new(MAIN, R).at(43..44));
    let read = rig.read(43, 1);
    let write = rig.write(43, &[9]);
    assert_eq!((rig.ended(write), rig.held()), (None, 1));
    rig.let_go(How::Fail(Class::Medium));
    rig.advance(5_000);
    assert!(rig.ended(read).is_some_and(|e| e.is_err()));
    assert_eq!(rig.ended(write), Some(Ok(())));
    rig.rules.clear();
    assert_eq!((rig.reads(43, 1), rig.pending(5)), (Ok(vec![9]), 0));
}

#[test]
fn trace_10_02_two_failed_reads_do_not_wait_for_each_other() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1).how(How::Hold));
    rig.rule(Rule::new(MAIN, R).at(900..901).times(1).how(How::Hold));
    let (five, nine) = (rig.read(43, 1), rig.read(900, 1));
    rig.let_go(How::Fail(Class::Io));
    rig.let_go(How::Fail(Class::Io));
    assert_eq!(rig.tags(five), [old(43)]);
    assert_eq!(rig.tags(nine), [old(900)]);
}

#[test]
fn read_recovery_waits_for_writes_in_flight() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(44..45).times(1).how(How::Hold));
    let write = rig.write(44, &[9]);
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1));
    let read = rig.read(43, 1);
    assert_eq!((rig.ended(read), rig.held()), (None, 1), "the I/O grace");
    // A stuck write elsewhere would hold nothing up: the next bucket is another one.
    rig.rule(Rule::new(MAIN, R).at(4100..4101).times(1));
    assert_eq!(rig.reads(4100, 1), Ok(vec![old(4100)]));
    rig.let_go(How::Good);
    assert_eq!((rig.ended(write), rig.tags(read)), (Some(Ok(())), &[old(43)][..]));
}

#[test]
fn grace_that_does_not_end_changes_nothing() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(44..45).times(1).how(How::Hold));
    rig.write(44, &[9]);
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let read = rig.read(43, 1);
    rig.done();
    rig.advance(31_000);
    assert!(rig.ended(read).is_some_and(|e| e.is_err()));
    assert_eq!((rig.pending(5), rig.entry(5)), (0, None));
    assert!(rig.shared.busy.is_empty(), "busy is withdrawn");
    assert_eq!(rig.done(), [""; 0]);
}

#[test]
fn hasty_reads_are_passed_up_at_once() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let id = rig.submit(Kind::Read, 40, &[0; 8], false, true);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    assert_eq!((rig.done().len(), rig.pending(5)), (1, 0));
}

#[test]
fn first_answer_that_took_half_the_limit_ends_a_read() {
    for sectors in [1, 16] {
        let mut rig = Rig::new();
        rig.rule(Rule::new(MAIN, R).at(43..44).times(1).how(How::Hold));
        let id = rig.read(43, sectors);
        rig.advance(15_000);
        rig.done();
        rig.let_go(How::Fail(Class::Medium));
        assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
        assert_eq!((rig.done(), rig.pending(5)), (vec![], 0), "no further retry, no mark");
    }
}

#[test]
fn many_readers_of_one_bad_block_do_not_queue_for_retries() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(3).how(How::Hold));
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let ids = [rig.read(43, 1), rig.read(43, 1), rig.read(43, 1)];
    for _ in 0..3 {
        rig.let_go(How::Fail(Class::Medium));
    }
    rig.advance(3_000);
    for id in ids {
        assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    }
    let retries = rig.done().iter().filter(|l| *l == "main read 43+1").count();
    assert_eq!(retries, 3, "only one of them tries again; the mark answers the others");
}

#[test]
fn pending_read_retry_asks_the_device_and_saves_what_it_gives() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    assert_eq!(rig.reads(43, 1), Err(Class::Medium));
    rig.set("pending_read", "retry");
    assert_eq!(rig.reads(43, 1), Ok(vec![old(43)]));
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())), "weak: relocated");
    assert_eq!(rig.pending(5), 0);
}

#[test]
fn suspect_main_marks_and_moves_nothing() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R | W | PROBE));
    let read = rig.read(43, 1);
    assert_eq!(rig.ended(read), Some(Err(Class::Io)), "passed up");
    assert!(rig.events.contains(&Event::Suspect(MAIN)));
    // Now at once.
    rig.done();
    let read = rig.read(51, 1);
    assert_eq!(rig.ended(read), Some(Err(Class::Io)));
    assert_eq!(rig.done(), ["client main read 51+1"]);
    assert_eq!((rig.pending(5), rig.pending(6)), (0, 0));
}

#[test]
fn read_under_way_when_its_device_becomes_suspect_marks_nothing() {
    let mut rig = Rig::new();
    // Block 43 has one MEDIUM answer and waits for its second attempt when main goes bad.
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let first = rig.read(43, 1);
    assert_eq!(rig.ended(first), None);
    rig.rule(Rule::new(MAIN, R | PROBE));
    let second = rig.read(900, 1);
    assert!(rig.events.contains(&Event::Suspect(MAIN)));
    rig.advance(900);
    assert!(rig.ended(first).is_some_and(|e| e.is_err()));
    assert!(rig.ended(second).is_some_and(|e| e.is_err()));
    assert_eq!((rig.pending(5), rig.pending(112)), (0, 0));
}

#[test]
fn trace_10_06_remap_of_an_unreadable_block_leaves_it_pending_on_main() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).medium());
    let id = rig.message(&remap(40));
    rig.advance(5_000);
    let done = rig.replies[&id];
    assert_eq!(
        done,
        dmremap_core::Done::Remapped { spare_sector: rig.spare_at(0, 0), pending: 0b1000 }
    );
    assert_eq!(rig.entry(5), Some((Some(0), "sssmssss".into())));
    assert_eq!(rig.pending(5), 0b1000);
    assert_eq!(rig.reads(43, 1), Err(Class::Medium));
}

#[test]
fn late_answer_of_a_read_gives_what_was_read_before() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(40..48).times(2));
    rig.rule(Rule::new(MAIN, R).at(43..44).how(How::Hold));
    let id = rig.read(40, 8);
    assert_eq!((rig.ended(id), rig.held()), (None, 1));
    rig.advance(31_000);
    assert!(rig.ended(id).is_some_and(|e| e.is_err()));
    assert_eq!(rig.requests[&id].failed, [3, 4, 5, 6, 7]);
    assert!(!rig.shared.busy.is_empty(), "busy until the device has answered");
    rig.let_go(How::Good);
    assert!(rig.shared.busy.is_empty());
    assert_eq!(rig.entry(5), None);
}
