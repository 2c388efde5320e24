// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one limit, late answers, and waiting.

use dmremap_core::{Class, Event};

use super::{
    F, How, MAIN, PROBE, R, Rig, Rule, SPARE, Setup, V, W, make_pending, move_by_write, old, olds,
};

#[test]
fn trace_10_07_late_write_answers_end_busy_and_publish_nothing() {
    // Held at every step of a move in turn: the repetition, the put, the flush, the read-back.
    for (dev, kind, skip) in [(MAIN, W, 1), (SPARE, W, 0), (SPARE, F, 0), (SPARE, V, 0)] {
        let mut rig = Rig::new();
        rig.rule(Rule::new(dev, kind).after(skip).times(1).how(How::Hold));
        rig.rule(Rule::new(MAIN, W).at(43..44));
        let id = rig.write(43, &[9]);
        assert_eq!((rig.ended(id), rig.held()), (None, 1));
        rig.advance(29_999);
        assert_eq!(rig.ended(id), None);
        rig.done();
        rig.advance(2);
        assert_eq!(rig.ended(id), Some(Err(Class::Io)));
        if kind != F {
            assert!(rig.events.contains(&Event::StillAtDevice(dev)));
            // Who waits for it gets its error after the same limit.
            let waits = rig.write(43, &[8]);
            assert_eq!(rig.ended(waits), None);
            rig.advance(30_000);
            assert_eq!(rig.ended(waits), Some(Err(Class::Io)));
        }
        assert_eq!(rig.done(), [""; 0], "no new step after the limit");
        rig.rules.clear();
        rig.let_go(How::Good);
        assert_eq!((rig.entry(5), rig.machine.status().spare_free_units), (None, 16));
        assert!(rig.shared.busy.is_empty());
        let id = rig.write(43, &[7]);
        assert_eq!((rig.ended(id), rig.reads(43, 1)), (Some(Ok(())), Ok(vec![7])));
    }
}

#[test]
fn a_joined_commit_is_never_cut() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, V).times(1).how(How::Hold));
    let id = rig.write(43, &[9]);
    rig.advance(20_000);
    rig.rule(Rule::new(SPARE, F).times(1).how(How::Hold));
    rig.let_go(How::Good);
    rig.advance(20_000);
    assert_eq!(rig.ended(id), None, "past the request's limit, within the commit's");
    rig.let_go(How::Good);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
}

#[test]
fn read_waiting_for_a_stuck_recovery_ends_at_its_own_limit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(1));
    rig.rule(Rule::new(MAIN, W).at(43..44).how(How::Hold));
    rig.write(43, &[9]);
    rig.advance(10_000);
    let read = rig.read(40, 8);
    rig.advance(29_000);
    assert_eq!(rig.ended(read), None);
    rig.advance(2_000);
    assert_eq!(rig.ended(read), Some(Err(Class::Io)));
    assert_eq!(rig.requests[&read].failed, [3]);
}

#[test]
fn more_failures_than_jobs_wait_their_turn() {
    let mut rig = Rig::with(Setup { jobs: 2, units: 64, ..Setup::default() });
    rig.rule(Rule::new(MAIN, W).at(0..256));
    let tags: Vec<u8> = (0..256).map(|n| (n % 200) as u8).collect();
    let id = rig.write(0, &tags);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.reads(0, 256), Ok(tags));
    assert_eq!(rig.machine.status().entries, 32);
}

#[test]
fn trace_10_15_large_write_over_a_dead_zone_does_not_run_out_of_time() {
    let mut rig = Rig::with(Setup { jobs: 2, units: 64, ..Setup::default() });
    rig.rule(Rule::new(MAIN, W).at(0..256).how(How::Hold));
    let id = rig.write(0, &[7; 256]);
    // Every failing write takes four seconds.
    for _ in 0..200 {
        if rig.held() == 0 {
            break;
        }
        rig.advance(4_000);
        for _ in 0..rig.held() {
            rig.let_go(How::Fail(Class::Io));
        }
    }
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert!(rig.now < 30_000);
    assert_eq!(rig.reads(0, 256), Ok(vec![7; 256]));
}

#[test]
fn before_half_of_the_limit_every_unit_has_its_own_verdict() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(40..48));
    rig.rule(Rule::new(MAIN, W).at(48..56).times(1));
    let id = rig.write(40, &[7; 16]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    // 48..56 failed with the whole, then alone, and succeeded at its repetition.
    assert_eq!((rig.entry(5).is_some(), rig.entry(6)), (true, None));
    assert_eq!(rig.tag(MAIN, 48), 7);
}

#[test]
fn relocation_ends_with_the_readers_limit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1).medium());
    rig.rule(Rule::new(SPARE, W).how(How::Hold));
    let id = rig.read(43, 1);
    assert_eq!(rig.tags(id), [old(43)]);
    let write = rig.write(43, &[9]);
    assert_eq!((rig.ended(write), rig.held()), (None, 1));
    rig.advance(31_000);
    rig.rules.clear();
    rig.let_go(How::Good);
    assert_eq!((rig.entry(5), rig.machine.status().spare_free_units), (None, 16));
    assert!(rig.shared.busy.is_empty());
    assert_eq!(rig.reads(40, 8), Ok(olds(40..48)));
}

#[test]
fn probe_that_never_comes_back_holds_up_no_later_one() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, PROBE).times(1).how(How::Hold));
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())), "two are enough");
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let id = rig.write(83, &[9]);
    rig.advance(6_000);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.held(), 1);
}

#[test]
fn pending_block_on_main_and_a_hung_spare() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    rig.rule(Rule::new(SPARE, W).how(How::Hold));
    let id = rig.write(43, &[9]);
    rig.advance(31_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    rig.rules.clear();
    rig.let_go(How::Good);
    move_by_write(&mut rig, 80, &[1]);
    assert_eq!(rig.entry(10), Some((Some(1), "smmmmmmm".into())));
    let id = rig.write(43, &[8]);
    assert_eq!((rig.ended(id), rig.reads(43, 1)), (Some(Ok(())), Ok(vec![8])));
}
