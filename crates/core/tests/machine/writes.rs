// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Failed writes: verdicts, moves, and what becomes of the neighbours.

use dmremap_core::{Class, Event, Kind};

use super::{
    How, MAIN, PAGES, R, Rig, Rule, SPARE, Setup, W, make_pending, move_by_write, old, olds,
};

#[test]
fn trace_10_01_write_is_confirmed_by_writing_and_moved() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let id = rig.write(43, &[200]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        [
            "client main write 43+1",
            "main probe",
            "main write 43+1",
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "commit",
        ]
    );
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
    assert_eq!(rig.saved().0[&5], (Some(0), "mmmsmmmm".into()));
    let expected = (40..48).map(|s| if s == 43 { 200 } else { old(s) }).collect();
    assert_eq!(rig.reads(40, 8), Ok(expected));
    assert!(rig.shared.pieces.quiet() && rig.shared.busy.is_empty());
}

#[test]
fn write_that_succeeds_alone_stays_where_it_is() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(1));
    let id = rig.write(43, &[200]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.done(), ["client main write 43+1", "main probe", "main write 43+1"]);
    assert_eq!(rig.entry(5), None);
    assert_eq!(rig.tag(MAIN, 43), 200);
}

#[test]
fn failure_9_03_write_that_fails_for_good_is_not_acknowledged() {
    let mut rig = Rig::with(Setup { units: 1, ..Setup::default() });
    move_by_write(&mut rig, 80, &[1]);
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let id = rig.write(42, &[7, 8]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    // Spare full: every block of main in place once more, each alone.
    assert_eq!(
        rig.done(),
        [
            "client main write 42+2",
            "main probe",
            "main write 42+2",
            "main write 42+1",
            "main write 43+1"
        ]
    );
    assert!(rig.events.contains(&Event::SpareFull));
    assert_eq!(rig.entry(5), None);
}

#[test]
fn spare_full_last_try_in_place_can_save_the_write() {
    let mut rig = Rig::with(Setup { units: 1, ..Setup::default() });
    move_by_write(&mut rig, 80, &[1]);
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2));
    let id = rig.write(43, &[7]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.tag(MAIN, 43), 7);
}

#[test]
fn trace_10_33_block_on_the_spare_is_never_written_to_main() {
    let mut rig = Rig::with(Setup { units: 1, ..Setup::default() });
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, W).at(rig.spare_at(0, 0)..rig.spare_at(1, 0)));
    let id = rig.write(40, &[61]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert!(!rig.done().iter().any(|line| line.contains("main write")), "main is left alone");
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())), "the entry stays");
    assert_eq!(rig.tag(MAIN, 40), old(40));
    assert_eq!(rig.machine.status().quarantined_units, 1);
}

#[test]
fn failure_9_06_only_the_bad_unit_of_a_large_write_moves() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(50..51));
    let tags: Vec<u8> = (0..24).map(|i| 100 + i).collect();
    let id = rig.write(44, &tags);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!((rig.entry(5), rig.entry(7), rig.entry(8)), (None, None, None));
    assert_eq!(rig.entry(6), Some((Some(0), "ssssssss".into())));
    assert_eq!(rig.reads(44, 24), Ok(tags));
    assert_eq!(rig.tag(MAIN, 49), old(49), "what failed alone has not landed");
}

#[test]
fn neighbours_that_were_not_written_stay_on_main() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(40..48));
    let id = rig.write(41, &[1, 2]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(0), "mssmmmmm".into())));
}

#[test]
fn failure_9_05_request_across_moved_and_unmoved_blocks() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[200]);
    let id = rig.write(38, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        ["client main write 38+5", "client spare write u0.3+1", "client main write 44+2"]
    );
    assert_eq!(rig.reads(38, 8), Ok(vec![1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(rig.tag(MAIN, 43), old(43));
}

#[test]
fn second_failed_block_of_a_unit_joins_its_spare_unit() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[200]);
    move_by_write(&mut rig, 45, &[201]);
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmsmm".into())));
    assert_eq!(rig.machine.status().spare_free_units, 15);
}

#[test]
fn trace_10_26_two_failed_writes_of_one_unit_have_one_mover() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(40..41).after(1).times(1).how(How::Hold));
    rig.rule(Rule::new(MAIN, W).at(40..42));
    let first = rig.write(40, &[1]);
    let second = rig.write(41, &[2]);
    assert_eq!((rig.ended(first), rig.ended(second)), (None, None));
    assert_eq!(rig.held(), 1);
    rig.let_go(How::Fail(Class::Io));
    assert_eq!((rig.ended(first), rig.ended(second)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(rig.entry(5), Some((Some(0), "ssmmmmmm".into())));
    assert_eq!(rig.reads(40, 2), Ok(vec![1, 2]));
    assert_eq!(rig.machine.status().spare_free_units, 15);
}

#[test]
fn trace_10_04_two_failed_writes_of_one_block_take_one_spare_unit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2).how(How::Hold));
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let first = rig.write(43, &[1]);
    let second = rig.write(43, &[2]);
    rig.let_go(How::Fail(Class::Io));
    assert_eq!(rig.ended(first), Some(Ok(())));
    // The second's error came from main; the block lives on the spare by now: simply sent there.
    rig.done();
    rig.let_go(How::Fail(Class::Io));
    assert_eq!(rig.ended(second), Some(Ok(())));
    assert_eq!(rig.done(), ["client spare write u0.3+1"]);
    assert_eq!(rig.reads(43, 1), Ok(vec![2]));
    assert_eq!(rig.machine.status().spare_free_units, 15);
}

#[test]
fn trace_10_04_late_read_error_does_not_condemn_the_new_place() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).at(43..44).times(1).how(How::Hold));
    let read = rig.read(43, 1);
    move_by_write(&mut rig, 43, &[200]);
    rig.let_go(How::Fail(Class::Medium));
    assert_eq!(rig.tags(read), [200]);
    assert_eq!(rig.pending(5), 0);
}

#[test]
fn write_pending_on_main_goes_straight_to_the_spare() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    assert_eq!(rig.pending(5), 0b1000);
    let id = rig.write(42, &[1, 2, 3]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        [
            "client main write 42+1",
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "commit",
            "client main write 44+1",
        ]
    );
    assert_eq!(rig.pending(5), 0, "the publish drops the mark");
    assert_eq!(rig.reads(42, 3), Ok(vec![1, 2, 3]));
}

#[test]
fn write_pending_on_the_spare_is_tried_there_first() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[200]);
    let at = rig.spare_at(0, 3);
    rig.rule(Rule::new(SPARE, R).at(at..at + 1).medium());
    let id = rig.read(43, 1);
    rig.advance(2_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Medium)));
    assert_eq!(rig.pending(5), 0b1000);
    rig.rules.clear();
    rig.done();
    let id = rig.write(43, &[201]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.done(), ["spare write u0.3+1"], "no commit before it");
    assert_eq!((rig.pending(5), rig.reads(43, 1)), (0, Ok(vec![201])));
}

#[test]
fn trace_10_18_write_zeroes_is_a_write_where_there_is_an_entry() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[200]);
    let id = rig.submit(Kind::WriteZeroes, 40, &[0; 8], false, false);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.reads(40, 8), Ok(vec![0; 8]));
    make_pending(&mut rig, 100);
    let id = rig.submit(Kind::WriteZeroes, 100, &[0; 1], false, false);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.reads(100, 1), Ok(vec![0]));
}

#[test]
fn discard_does_nothing_where_there_is_an_entry_or_a_mark() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[200]);
    make_pending(&mut rig, 51);
    let id = rig.submit(Kind::Discard, 32, &[0; 32], false, false);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.done(), ["client main write 32+8", "client main write 56+8"]);
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
}

#[test]
fn failed_discard_is_passed_up() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(40..48));
    let id = rig.submit(Kind::Discard, 40, &[0; 8], false, false);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.done(), ["client main write 40+8"]);
}

#[test]
fn hasty_write_is_recovered_all_the_same() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let id = rig.submit(Kind::Write, 43, &[9], false, true);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
}

#[test]
fn other_classes_are_passed_up_unchanged() {
    for class in [Class::Transport, Class::Timeout, Class::Reservation, Class::NoSpace] {
        let mut rig = Rig::new();
        rig.rule(Rule::new(MAIN, W | R).at(43..44).how(How::Fail(class)));
        let write = rig.write(43, &[1]);
        let read = rig.read(43, 1);
        assert_eq!((rig.ended(write), rig.ended(read)), (Some(Err(class)), Some(Err(class))));
        assert_eq!(rig.done(), ["client main write 43+1", "client main read 43+1"]);
    }
}

#[test]
fn transport_error_in_a_recovery_ends_it() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, W).how(How::Fail(Class::Transport)));
    let id = rig.write(43, &[1]);
    assert_eq!(rig.ended(id), Some(Err(Class::Transport)));
    assert_eq!((rig.entry(5), rig.machine.status().spare_free_units), (None, 16));
    assert!(rig.shared.busy.is_empty());
}

#[test]
fn without_auto_remap_nothing_moves() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 51);
    rig.set("auto_remap", "no");
    rig.rule(Rule::new(MAIN, W).at(43..52));
    let id = rig.write(43, &[1]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    let id = rig.write(51, &[1]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)), "tried in place, moved nowhere");
    assert_eq!((rig.entry(5), rig.entry(6)), (None, None));
    rig.rules.clear();
    let id = rig.write(51, &[1]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!((rig.tag(MAIN, 51), rig.pending(6)), (1, 0));
}

#[test]
fn short_last_unit() {
    let mut rig = Rig::with(Setup { main_sectors: 65_531, ..Setup::default() });
    rig.rule(Rule::new(MAIN, W).at(65_528..65_531));
    let id = rig.write(65_528, &[1, 2, 3]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.reads(65_528, 3), Ok(vec![1, 2, 3]));
    let rig = rig.reopen();
    assert_eq!(rig.entry(8191), Some((Some(0), "sssmmmmm".into())));
}

#[test]
fn blocks_of_4096_bytes() {
    let mut rig = Rig::with(Setup { block_sectors: 8, ..Setup::default() });
    rig.rule(Rule::new(MAIN, W).at(40..48));
    let id = rig.write(32, &[5; 24]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    assert_eq!(rig.reads(32, 24), Ok(vec![5; 24]));
}

#[test]
fn errors_are_counted_where_they_came_from() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(40..41).after(1).times(1).how(How::Hold));
    rig.rule(Rule::new(MAIN, W).at(40..42));
    rig.write(40, &[1]);
    rig.write(41, &[2]);
    rig.let_go(How::Fail(Class::Io));
    let errors = rig.machine.status().errors;
    assert_eq!((errors.write, errors.read), (2, 0), "one for each client write that failed");
    assert_eq!(rig.machine.status().remaps.automatic, 2);
}

#[test]
fn degraded_metadata_leaves_the_last_try_in_place() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 80, &[1]);
    rig.rule(Rule::new(SPARE, PAGES).at(0..9).how(How::Fail(Class::Io)));
    rig.rule(Rule::new(SPARE, PAGES).at(16..17).how(How::Fail(Class::Io)));
    for copy in [0, 1] {
        let page =
            rig.layout.page_sector(dmremap_format::CopyIndex(copy), dmremap_format::PageIndex(0));
        rig.rule(Rule::new(SPARE, PAGES).at(page..page + 8));
    }
    // The first write finds out: its commit is in doubt, and nothing is published.
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2));
    let id = rig.write(43, &[1]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    rig.rule(Rule::new(MAIN, W).at(51..52).times(2));
    rig.done();
    let id = rig.write(51, &[2]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        ["client main write 51+1", "main probe", "main write 51+1", "main write 51+1"]
    );
    assert!(rig.events.contains(&Event::MetadataDegraded), "{:?}", rig.events);
    let _ = olds(0..1);
}
