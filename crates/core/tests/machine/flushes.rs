// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Flushes: what they cover, whom a failure is told to, and recovery's own.

use dmremap_core::Class;

use super::{F, How, MAIN, Rig, Rule, SPARE, W, move_by_write};

#[test]
fn failure_9_07_flush_reaches_main_and_a_written_spare() {
    let mut rig = Rig::new();
    let flush = rig.flush(0);
    assert_eq!(rig.flushed[&flush], Ok(()));
    assert_eq!(rig.done(), ["main flush", "spare flush"], "an open begins with both different");
    rig.flush(0);
    assert_eq!(rig.done(), ["main flush"]);
    move_by_write(&mut rig, 40, &[60]);
    rig.flush(0);
    assert_eq!(rig.done(), ["main flush"], "recovery's own flush has covered its write");
    rig.write(40, &[61]);
    rig.done();
    rig.flush(0);
    assert_eq!(rig.done(), ["main flush", "spare flush"]);
}

#[test]
fn trace_10_36_flush_covers_only_writes_answered_before_it_began() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, W).times(1).how(How::Hold));
    let write = rig.write(40, &[61]);
    rig.rule(Rule::new(SPARE, F).times(1).how(How::Hold));
    rig.write(40, &[62]);
    let first = rig.flush(0);
    rig.let_go(How::Good);
    assert_eq!(rig.ended(write), Some(Ok(())), "answered while the flush is under way");
    rig.let_go(How::Good);
    assert_eq!(rig.flushed[&first], Ok(()));
    rig.done();
    rig.flush(0);
    assert_eq!(rig.done(), ["main flush", "spare flush"]);
}

#[test]
fn trace_10_36_the_same_after_an_open() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.flush(0);
    let mut rig = rig.reopen();
    rig.flush(0);
    assert_eq!(rig.done(), ["main flush", "spare flush"]);
}

#[test]
fn flushes_go_out_one_at_a_time_and_callers_share_the_next() {
    let mut rig = Rig::new();
    rig.flush(0);
    rig.done();
    rig.rule(Rule::new(MAIN, F).times(1).how(How::Hold));
    let first = rig.flush(0);
    let (second, third) = (rig.flush(1), rig.flush(2));
    assert_eq!(rig.done(), ["main flush"]);
    rig.let_go(How::Good);
    assert_eq!(rig.done(), ["main flush"], "one for both");
    for id in [first, second, third] {
        assert_eq!(rig.flushed[&id], Ok(()));
    }
}

#[test]
fn trace_10_37_of_two_flushes_under_way_neither_is_good() {
    let mut rig = Rig::new();
    rig.flush(0);
    rig.rule(Rule::new(MAIN, F).times(1).how(How::Hold));
    let (first, second) = (rig.flush(0), rig.flush(1));
    rig.let_go(How::Fail(Class::Io));
    assert_eq!(rig.flushed[&first], Err(Class::Io));
    assert_eq!(rig.flushed[&second], Err(Class::Io), "its own device flush was good");
    let (first, second) = (rig.flush(0), rig.flush(1));
    assert_eq!((rig.flushed[&first], rig.flushed[&second]), (Ok(()), Ok(())));
}

#[test]
fn failure_is_answered_once_on_every_connection() {
    let mut rig = Rig::new();
    rig.flush(0);
    rig.flush(1);
    rig.rule(Rule::new(MAIN, F).times(1));
    let first = rig.flush(0);
    assert!(rig.flushed[&first].is_err());
    let other = rig.flush(1);
    assert!(rig.flushed[&other].is_err(), "it was not told yet");
    let fresh = rig.flush(2);
    assert_eq!(rig.flushed[&fresh], Ok(()), "a new one begins with what was answered");
    let again = rig.flush(1);
    assert_eq!(rig.flushed[&again], Ok(()));
}

#[test]
fn trace_10_08_recoverys_flush_does_not_swallow_the_report() {
    let mut rig = Rig::new();
    rig.flush(0);
    move_by_write(&mut rig, 40, &[60]);
    rig.write(40, &[61]);
    // The spare lost that write and says so to whoever flushes next: a recovery.
    rig.rule(Rule::new(SPARE, F).times(1));
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let write = rig.write(83, &[9]);
    assert_eq!(rig.ended(write), Some(Ok(())));
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err());
}

#[test]
fn trace_10_30_failure_collected_by_a_client_is_recoverys_too() {
    let mut rig = Rig::new();
    rig.flush(0);
    move_by_write(&mut rig, 80, &[60]);
    rig.write(80, &[61]);
    rig.done();
    // A client's flush of the spare is out when recovery writes; it takes the report.
    rig.rule(Rule::new(SPARE, F).times(1).how(How::Hold));
    let flush = rig.flush(0);
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let write = rig.write(43, &[9]);
    rig.let_go(How::Fail(Class::Io));
    assert!(rig.flushed[&flush].is_err());
    assert_eq!(rig.ended(write), Some(Ok(())));
    let done = rig.done();
    let writes = done.iter().filter(|l| *l == "spare write u1.3+1").count();
    assert_eq!(writes, 2, "written again, not flushed again alone: {done:?}");
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
}

#[test]
fn failed_flush_of_a_commit_fails_the_next_client_flush() {
    let mut rig = Rig::new();
    rig.flush(0);
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, F).after(1).times(1));
    rig.write(43, &[9]);
    rig.advance(3_000);
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err());
    let flush = rig.flush(0);
    assert_eq!(rig.flushed[&flush], Ok(()));
}

#[test]
fn failed_flush_is_never_evidence_against_a_block() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, F).times(3));
    let id = rig.write(43, &[9]);
    rig.advance(1_000);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.machine.status().quarantined_units, 0);
}
