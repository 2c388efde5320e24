// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The message `mark`: what is said of main's blocks holds, and of nothing else.

use dmremap_core::message::{Command, MarkKind};
use dmremap_core::{Class, Done, Event, Marked, Reason};

use super::{
    F, How, MAIN, PROBE, R, Rig, Rule, SPARE, Setup, V, W, make_pending, move_by_write, old, olds,
    remap, with_gone,
};

fn mark(kind: MarkKind, sector: u64, sectors: u32) -> Command {
    Command::Mark { kind, sector, sectors: Some(sectors) }
}

fn gone(sector: u64, sectors: u32) -> Command {
    mark(MarkKind::Gone, sector, sectors)
}

fn pending(sector: u64, sectors: u32) -> Command {
    mark(MarkKind::Pending, sector, sectors)
}

fn marked(marked: u64) -> Done {
    Done::Marked(Marked { marked, ..Marked::default() })
}

#[test]
fn trace_10_06_gone_is_an_error_until_it_is_overwritten() {
    let mut rig = Rig::new();
    assert_eq!(rig.says(&gone(41, 2)), marked(2));
    assert_eq!(rig.done(), ["commit"], "main is not asked");
    assert!(rig.events.contains(&Event::Gone { main_sector: 40, blocks: 0b110 }));
    assert_eq!(rig.entry(5), Some((None, "mggmmmmm".into())));
    assert_eq!(rig.machine.status().spare_free_units, 16, "it needs no spare unit");
    // Main would answer with success.
    assert_eq!(rig.reads(41, 1), Err(Class::Medium));
    assert_eq!(rig.reads(40, 1), Ok(olds(40..41)));
    // Nothing but a write takes it back.
    rig.says(&Command::Verify { sector: 40 });
    assert!(matches!(rig.says(&remap(40)), Done::Remapped { .. }));
    assert_eq!(rig.says(&Command::Unremap { sector: 40 }), Done::Failed(Reason::Gone));
    assert_eq!(rig.reads(41, 1), Err(Class::Medium));
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(41, 1), Err(Class::Medium));
    assert_eq!(rig.reads(42, 1), Err(Class::Medium));
    let write = rig.write(41, &[7]);
    assert_eq!(rig.ended(write), Some(Ok(())));
    assert_eq!((rig.reads(41, 1), rig.reads(42, 1)), (Ok(vec![7]), Err(Class::Medium)));
    let mut rig = rig.reopen();
    assert_eq!((rig.reads(41, 1), rig.reads(42, 1)), (Ok(vec![7]), Err(Class::Medium)));
}

#[test]
fn a_unit_that_is_all_gone_goes_when_it_is_written() {
    let mut rig = Rig::new();
    assert_eq!(rig.says(&gone(40, 8)), marked(8));
    let write = rig.write(40, &[7; 8]);
    assert_eq!((rig.ended(write), rig.entry(5)), (Some(Ok(())), None));
    assert_eq!((rig.tag(MAIN, 40), rig.reads(40, 8)), (7, Ok(vec![7; 8])));
    assert!(rig.saved().0.is_empty());
}

#[test]
fn pending_fails_at_once_and_is_written_to_the_spare() {
    let mut rig = Rig::new();
    assert_eq!(rig.says(&pending(40, 1)), marked(1));
    assert_eq!((rig.pending(5), rig.done().len(), rig.saved().0.len()), (1, 0, 0));
    assert_eq!(rig.reads(40, 2).map_err(|_| ()), Err(()));
    assert_eq!(rig.done(), ["client main read 41+1"], "the drive is not asked again for block 40");
    let write = rig.write(40, &[7]);
    assert_eq!(rig.ended(write), Some(Ok(())));
    assert_eq!((rig.pending(5), rig.entry(5)), (0, Some((Some(0), "smmmmmmm".into()))));
    assert_eq!(rig.reads(40, 1), Ok(vec![7]));
}

#[test]
fn what_lives_on_the_spare_is_left_alone_and_counted() {
    for kind in [MarkKind::Gone, MarkKind::Pending] {
        let mut rig = with_gone();
        let says = rig.says(&mark(kind, 40, 8));
        let expected = Marked { marked: 6, on_spare: 1, gone: 1, dropped: 0 };
        assert_eq!(says, Done::Marked(expected), "{kind:?}");
        assert_eq!(rig.reads(40, 1), Ok(vec![61]), "written since, and kept");
        assert!(rig.reads(41, 1).is_err() && rig.reads(42, 1).is_err());
    }
}

#[test]
fn nothing_is_marked_under_a_write_that_is_under_way() {
    for kind in [MarkKind::Gone, MarkKind::Pending] {
        let mut rig = Rig::new();
        rig.rule(Rule::new(MAIN, W).times(1).how(How::Hold));
        let write = rig.write(40, &[7]);
        let message = rig.message(&mark(kind, 40, 1));
        assert_eq!((rig.replies.get(&message), rig.pending(5), rig.entry(5)), (None, 0, None));
        rig.let_go(How::Good);
        assert_eq!(rig.ended(write), Some(Ok(())));
        assert_eq!(rig.replies[&message], marked(1));
        assert!(rig.reads(40, 1).is_err());
    }
}

#[test]
fn many_units_share_their_commits() {
    let mut rig = Rig::with(Setup { entries: 252, ..Setup::default() });
    assert_eq!(rig.says(&gone(0, 1_000)), marked(1_000));
    let before = rig.machine.status();
    assert_eq!((before.entries, before.gone_blocks), (125, 1_000));
    // Half of the eight jobs go at a time.
    assert!(before.metadata.commits <= 125 / 4 + 2, "{}", before.metadata.commits);
    assert_eq!(rig.saved().0.len(), 125);
    assert_eq!(rig.says(&gone(0, 1_001)), {
        Done::Marked(Marked { marked: 1, gone: 1_000, ..Marked::default() })
    });
    let mut rig = rig.reopen();
    assert!((0..1_001).step_by(100).all(|sector| rig.reads(sector, 1).is_err()));
    assert_eq!(rig.reads(1_001, 8), Ok(olds(1_001..1_009)));
}

#[test]
fn many_runs_share_their_commits() {
    let mut rig = Rig::with(Setup { entries: 252, ..Setup::default() });
    rig.rule(Rule::new(SPARE, F).times(1).how(How::Hold));
    let messages: Vec<u64> = (0..32).map(|n| rig.message(&gone(n * 80, 1))).collect();
    assert!(!rig.replies.contains_key(&messages[0]));
    assert_eq!(rig.says(&gone(9_999, 1)), Done::Failed(Reason::Busy), "32 runs at a time");
    rig.let_go(How::Good);
    rig.advance(1_000);
    assert!(messages.iter().all(|id| rig.replies[id] == marked(1)));
    assert!(rig.machine.status().metadata.commits <= 10);
}

#[test]
fn a_full_table_ends_it_and_says_so() {
    let mut rig = Rig::with(Setup { entries: 20, units: 4, ..Setup::default() });
    // Four spare units, and yet twenty units can be gone.
    assert_eq!(rig.says(&gone(0, 160)), marked(160));
    assert_eq!(rig.says(&gone(800, 1)), Done::Failed(Reason::Full));
    assert_eq!(rig.reads(800, 1), Ok(olds(800..801)));
    assert_eq!(rig.machine.status().entries, 20);
}

#[test]
fn a_unit_that_somebody_holds_is_waited_for() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(SPARE, V).times(1).how(How::Hold));
    let moving = rig.message(&remap(40));
    let message = rig.message(&gone(32, 24));
    rig.advance(100);
    assert!(!rig.replies.contains_key(&message));
    rig.let_go(How::Good);
    rig.advance(100);
    assert!(matches!(rig.replies[&moving], Done::Remapped { .. }));
    let expected = Marked { marked: 16, on_spare: 8, ..Marked::default() };
    assert_eq!(rig.replies[&message], Done::Marked(expected));
    assert_eq!(rig.reads(40, 8), Ok(olds(40..48)));
}

#[test]
fn a_unit_that_stays_held_ends_it_at_the_limit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(SPARE, W).times(1).how(How::Hold));
    rig.message(&remap(40));
    let message = rig.message(&gone(40, 8));
    rig.advance(40_000);
    assert_eq!(rig.replies[&message], Done::Failed(Reason::Busy));
}

#[test]
fn a_suspect_main_is_not_marked() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W));
    rig.rule(Rule::new(MAIN, PROBE));
    rig.write(40, &[7]);
    rig.advance(100);
    assert!(rig.machine.status().conditions.main_suspect);
    for kind in [MarkKind::Gone, MarkKind::Pending] {
        assert_eq!(rig.says(&mark(kind, 80, 8)), Done::Failed(Reason::DeviceSuspect));
    }
    assert_eq!(rig.entry(10), None);
}

#[test]
fn what_is_no_run_of_whole_blocks_is_refused() {
    let mut rig = Rig::with(Setup { block_sectors: 8, ..Setup::default() });
    let end = rig.setup.main_sectors;
    for (sector, sectors) in [(4, 8), (8, 4), (end, 8), (end - 8, 16), (u64::MAX - 7, 8), (8, 0)] {
        let says = rig.says(&gone(sector, sectors));
        assert_eq!(says, Done::Failed(Reason::OutOfRange), "{sector} {sectors}");
    }
    assert_eq!(rig.says(&gone(end - 8, 8)), marked(1));
}

#[test]
fn no_mark_begins_once_closing() {
    let mut rig = Rig::new();
    rig.machine.close(rig.now);
    rig.settle();
    for kind in [MarkKind::Gone, MarkKind::Pending] {
        assert_eq!(rig.says(&mark(kind, 40, 8)), Done::Failed(Reason::NotWritable));
    }
}

#[test]
fn marks_that_find_no_place_are_counted() {
    let mut rig = Rig::with(Setup { main_sectors: 65_536, ..Setup::default() });
    assert_eq!(rig.says(&pending(0, 32_768)), marked(32_768));
    let says = rig.says(&pending(32_768, 16));
    assert_eq!(says, Done::Marked(Marked { dropped: 16, ..Marked::default() }));
    assert_eq!(rig.reads(32_768, 1), Ok(vec![old(32_768)]));
}

#[test]
fn gone_takes_the_place_of_pending() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    assert_eq!(rig.says(&gone(40, 8)), marked(8));
    assert_eq!((rig.pending(5), rig.machine.status().pending_blocks), (0, 0));
    move_by_write(&mut rig, 43, &[9]);
    assert_eq!(rig.entry(5), Some((Some(0), "gggsgggg".into())));
    rig.rule(Rule::new(MAIN, R));
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
}
