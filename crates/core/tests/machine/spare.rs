// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A failing spare: read-back, quarantine, moving off, and writes to gone blocks.

use dmremap_core::message::Command;
use dmremap_core::{Class, Event};

use super::{
    F, How, MAIN, PAGES, R, Rig, Rule, SPARE, Setup, V, W, move_by_write, old, with_gone,
    with_gone_on_main,
};

/// Rules for a bad stretch of spare units.
fn bad_units(rig: &mut Rig, kinds: u8, units: std::ops::Range<u64>) {
    let sectors = rig.spare_at(units.start, 0)..rig.spare_at(units.end, 0);
    rig.rule(Rule::new(SPARE, kinds).at(sectors));
}

#[test]
fn new_spare_unit_that_fails_is_replaced() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    bad_units(&mut rig, W, 0..2);
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        [
            "client main write 43+1",
            "main probe",
            "main write 43+1",
            "spare write u0.3+1",
            "spare probe",
            "spare write u0.3+1",
            "spare write u1.3+1",
            "spare probe",
            "spare write u1.3+1",
            "spare write u2.3+1",
            "spare flush",
            "spare check u2.3+1",
            "commit",
        ]
    );
    assert_eq!(rig.entry(5), Some((Some(2), "mmmsmmmm".into())));
    let status = rig.machine.status();
    assert_eq!((status.quarantined_units, status.spare_free_units), (2, 13));
    let (entries, quarantined) = rig.saved();
    assert_eq!((entries.len(), quarantined), (1, vec![0, 1]), "saved by the same commit");
}

#[test]
fn failure_9_09_at_most_three_spare_units_for_one_unit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(3));
    bad_units(&mut rig, W, 0..16);
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.machine.status().quarantined_units, 3);
    assert_eq!(rig.done().last().unwrap(), "main write 43+1", "the last try");
    // The same sector fails again: three more, not one more each retry of three.
    assert_eq!(rig.entry(5), None);
    rig.rules.clear();
    rig.machine.close(rig.now);
    rig.settle();
    assert_eq!(rig.machine.closed(), Some(true));
    assert_eq!(rig.saved().1, [0, 1, 2], "a clean close saves what no commit has");
}

#[test]
fn failing_spare_unit_is_moved_off_with_its_siblings() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61, 62]);
    let at = rig.spare_at(0, 1);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    let id = rig.write(41, &[71]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        [
            "client spare write u0.1+1",
            "spare probe",
            "spare write u0.1+1",
            "spare read u0.0+1",
            "spare read u0.2+1",
            "spare write u1.0+3",
            "spare flush",
            "spare check u1.0+3",
            "commit",
        ]
    );
    assert_eq!(rig.entry(5), Some((Some(1), "sssmmmmm".into())));
    assert_eq!(rig.reads(40, 3), Ok(vec![60, 71, 62]));
    let (entries, quarantined) = rig.saved();
    assert_eq!(entries[&5], (Some(1), "sssmmmmm".into()));
    assert_eq!(quarantined, [0]);
    assert_eq!(rig.machine.status().spare_free_units, 14);
}

#[test]
fn sibling_becomes_gone_only_by_a_verdict_of_its_own() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61, 62]);
    let at = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    rig.rule(Rule::new(SPARE, R).at(at + 1..at + 2).times(1).medium());
    rig.rule(Rule::new(SPARE, R).at(at + 2..at + 3));
    let id = rig.write(40, &[70]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "ssgmmmmm".into())), "one MEDIUM is not enough");
    assert!(rig.events.contains(&Event::Gone { main_sector: 40, blocks: 0b100 }));
    assert_eq!(rig.reads(40, 2), Ok(vec![70, 61]));
    assert_eq!(rig.reads(42, 1), Err(Class::Medium), "failure 9.2: never old spare content");
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(42, 1), Err(Class::Medium));
}

#[test]
fn mover_waits_for_busy_blocks_of_its_own_unit() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61]);
    let at = rig.spare_at(0, 0);
    // A read of block 1 is in recovery, its operation at the spare.
    rig.rule(Rule::new(SPARE, R).at(at + 1..at + 2).times(1));
    rig.rule(Rule::new(SPARE, R).at(at + 1..at + 2).times(1).how(How::Hold));
    let read = rig.read(41, 1);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    let write = rig.write(40, &[70]);
    assert_eq!((rig.ended(read), rig.ended(write), rig.held()), (None, None, 1));
    rig.let_go(How::Good);
    assert_eq!(rig.tags(read), [61]);
    assert_eq!(rig.ended(write), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "ssmmmmmm".into())));
}

#[test]
fn move_off_waits_for_writes_to_siblings_in_flight() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61]);
    let at = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, W).at(at + 1..at + 2).times(1).how(How::Hold));
    let sibling = rig.write(41, &[71]);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    let write = rig.write(40, &[70]);
    assert_eq!((rig.ended(write), rig.ended(sibling)), (None, None), "the I/O grace");
    rig.let_go(How::Good);
    assert_eq!((rig.ended(write), rig.ended(sibling)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(rig.reads(40, 2), Ok(vec![70, 71]));
    assert_eq!(rig.entry(5), Some((Some(1), "ssmmmmmm".into())));
}

#[test]
fn trace_10_35_read_back_that_differs_once_is_written_again() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, W).times(1).how(How::Lose));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done()[3..],
        [
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "commit",
        ]
    );
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
    // It counts like a failed flush: the next client flush fails, once.
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err());
    let flush = rig.flush(0);
    assert_eq!(rig.flushed[&flush], Ok(()));
}

#[test]
fn trace_10_35_read_back_that_differs_twice_condemns_the_unit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let at = rig.spare_at(0, 3);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1).how(How::Lose));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "mmmsmmmm".into())));
    assert_eq!(rig.saved().1, [0]);
}

#[test]
fn read_back_with_a_verdict_condemns_the_unit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    bad_units(&mut rig, V, 0..1);
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    let done = rig.done();
    assert_eq!(done[5..8], ["spare check u0.3+1", "spare probe", "spare check u0.3+1"]);
    assert_eq!(rig.entry(5), Some((Some(1), "mmmsmmmm".into())));
}

#[test]
fn read_back_that_fails_once_is_no_verdict() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, V).times(1));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
}

#[test]
fn write_to_a_gone_block_on_its_spare_unit() {
    let mut rig = with_gone();
    assert_eq!(rig.reads(41, 1), Err(Class::Medium));
    let id = rig.write(41, &[99]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.done(), ["spare write u1.1+1", "spare flush", "spare check u1.1+1", "commit"]);
    assert_eq!(rig.entry(5), Some((Some(1), "ssmmmmmm".into())));
    assert_eq!(rig.reads(40, 2), Ok(vec![61, 99]));
    assert_eq!(rig.saved().0[&5], (Some(1), "ssmmmmmm".into()));
}

#[test]
fn write_to_a_gone_block_on_main_frees_the_entry() {
    let mut rig = with_gone_on_main();
    let id = rig.write(41, &[99]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    let done = rig.done();
    assert_eq!(done[..2], ["main write 41+1", "main flush"]);
    assert_eq!(done.last().unwrap(), "commit");
    assert_eq!(rig.entry(5), None);
    assert_eq!(rig.reads(41, 1), Ok(vec![99]));
    assert!(rig.saved().0.is_empty());
}

#[test]
fn write_to_a_gone_block_whose_main_is_bad_moves() {
    let mut rig = with_gone_on_main();
    rig.rule(Rule::new(MAIN, W).at(41..42));
    let id = rig.write(41, &[99]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "msmmmmmm".into())));
    assert_eq!(rig.reads(41, 1), Ok(vec![99]));
}

#[test]
fn trace_10_27_write_to_gone_and_move_off_exclude_each_other() {
    let mut rig = with_gone();
    let at = rig.spare_at(1, 0);
    rig.rule(Rule::new(SPARE, W).at(at + 1..at + 2).times(1).how(How::Hold));
    let gone = rig.write(41, &[99]);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    let off = rig.write(40, &[70]);
    assert_eq!((rig.ended(gone), rig.ended(off), rig.held()), (None, None, 1));
    rig.let_go(How::Good);
    assert_eq!((rig.ended(gone), rig.ended(off)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(rig.entry(5), Some((Some(2), "ssmmmmmm".into())));
    assert_eq!(rig.reads(40, 2), Ok(vec![70, 99]));
}

#[test]
fn write_to_gone_is_refused_when_its_state_cannot_be_committed() {
    for mut rig in [with_gone(), with_gone_on_main()] {
        let entry = rig.entry(5);
        rig.rule(Rule::new(SPARE, PAGES));
        let first = rig.write(41, &[99]);
        rig.advance(100);
        assert_eq!(rig.ended(first), Some(Err(Class::Io)));
        assert_eq!(rig.entry(5), entry);
        rig.rules.clear();
        rig.advance(5_000);
        let again = rig.write(41, &[98]);
        rig.advance(5_000);
        assert_eq!(rig.ended(again), Some(Ok(())), "the way out needs nothing");
        assert_eq!(rig.reads(41, 1), Ok(vec![98]));
    }
}

#[test]
fn quarantined_unit_in_use_is_moved_off_before_anything_is_added() {
    // No other unit is free when the unit of the entry fails: quarantined, still in use.
    let mut rig = Rig::with(Setup { units: 2, ..Setup::default() });
    move_by_write(&mut rig, 40, &[60]);
    move_by_write(&mut rig, 80, &[80]);
    let at = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1).times(2));
    let id = rig.write(40, &[61]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    assert_eq!(rig.reads(40, 1), Ok(vec![60]));
    let id = rig.write(40, &[62]);
    assert_eq!(rig.ended(id), Some(Ok(())), "it is still written where it lives");
    // Now the other unit is free.
    let says = rig.says(&Command::Unremap { sector: 80 });
    assert_eq!(says, dmremap_core::Done::Unremapped);
    move_by_write(&mut rig, 44, &[64]);
    assert_eq!(rig.entry(5), Some((Some(1), "smmmsmmm".into())));
    assert_eq!(rig.reads(40, 5), Ok(vec![62, old(41), old(42), old(43), 64]));
    assert_eq!(rig.saved().1, [0], "one quarantine slot, once");
    let rig = rig.reopen();
    assert_eq!(rig.machine.status().quarantined_units, 1);
    assert_eq!(rig.machine.status().spare_free_units, 0);
}

#[test]
fn failure_9_04_reload_hands_out_nothing_twice() {
    let mut rig = Rig::new();
    for n in 0..5 {
        move_by_write(&mut rig, 40 + n * 80, &[n as u8 + 1]);
    }
    let mut rig = rig.reopen();
    for n in 5..10 {
        move_by_write(&mut rig, 40 + n * 80, &[n as u8 + 1]);
    }
    let mut units: Vec<u64> = (0..10).filter_map(|n| rig.entry(5 + n * 10)?.0).collect();
    units.sort_unstable();
    units.dedup();
    assert_eq!(units.len(), 10);
    for n in 0..10 {
        assert_eq!(rig.reads(40 + n * 80, 1), Ok(vec![n as u8 + 1]));
    }
    assert!(rig.layout.data_start() <= rig.spare_at(units[0], 0));
}

#[test]
fn flush_of_the_spare_that_fails_is_not_merely_repeated() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, F).times(1));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done()[3..],
        [
            "spare write u0.3+1",
            "spare flush",
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "commit"
        ]
    );
}
