// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Messages that act.

use dmremap_core::message::{Command, SpareAddress};
use dmremap_core::{Class, Done, Event, Reason};

use super::{
    F, How, MAIN, PROBE, R, Rig, Rule, SPARE, Setup, V, W, add, make_pending, move_by_write, old,
    olds, remap, with_gone,
};

fn failed(reason: Reason) -> Done {
    Done::Failed(reason)
}

#[test]
fn remap_copies_the_unit_and_unremap_brings_it_home() {
    let mut rig = Rig::new();
    let spare_sector = rig.spare_at(0, 0);
    assert_eq!(rig.says(&remap(43)), Done::Remapped { spare_sector, pending: 0 });
    assert_eq!(
        rig.done(),
        ["main read 40+8", "spare write u0.0+8", "spare flush", "spare check u0.0+8", "commit"]
    );
    rig.write(43, &[9]);
    assert_eq!(rig.tag(MAIN, 43), old(43));
    rig.done();
    assert_eq!(rig.says(&Command::Unremap { sector: 43 }), Done::Unremapped);
    assert_eq!(
        rig.done(),
        ["spare read u0.0+8", "main write 40+8", "main flush", "main check 40+8", "commit"]
    );
    assert_eq!((rig.entry(5), rig.tag(MAIN, 43)), (None, 9));
    assert_eq!(rig.machine.status().spare_free_units, 16);
    assert!(rig.saved().0.is_empty());
}

#[test]
fn unremap_leaves_blocks_of_main_alone() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 41, &[60, 61]);
    assert_eq!(rig.says(&Command::Unremap { sector: 40 }), Done::Unremapped);
    assert_eq!(rig.done()[1], "main write 41+2");
    assert_eq!(rig.reads(40, 4), Ok(vec![old(40), 60, 61, old(43)]));
}

#[test]
fn unremap_is_refused_before_the_first_write() {
    let mut rig = with_gone();
    assert_eq!(rig.says(&Command::Unremap { sector: 40 }), failed(Reason::Gone));
    assert_eq!(rig.done(), [""; 0]);

    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61]);
    let at = rig.spare_at(0, 1);
    rig.rule(Rule::new(SPARE, R).at(at..at + 1).medium());
    let id = rig.message(&Command::Unremap { sector: 40 });
    rig.advance(3_000);
    assert_eq!(rig.replies[&id], failed(Reason::Unreadable));
    assert!(!rig.done().iter().any(|l| l.contains("main write")));
    assert_eq!(rig.entry(5), Some((Some(0), "ssmmmmmm".into())));
}

#[test]
fn unremap_whose_write_home_fails_changes_nothing() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(MAIN, W).at(40..41));
    let says = rig.says(&Command::Unremap { sector: 40 });
    assert_eq!(says, failed(Reason::WriteFailed(Class::Io)));
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    assert_eq!(rig.reads(40, 1), Ok(vec![60]));
}

#[test]
fn unremap_whose_flush_of_main_fails_writes_again() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(MAIN, F).times(1));
    assert_eq!(rig.says(&Command::Unremap { sector: 40 }), Done::Unremapped);
    let done = rig.done();
    assert_eq!(done[1..5], ["main write 40+1", "main flush", "main write 40+1", "main flush"]);
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err());
}

#[test]
fn write_during_an_unremap_waits_for_its_end() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(MAIN, V).times(1).how(How::Hold));
    let message = rig.message(&Command::Unremap { sector: 40 });
    let write = rig.write(40, &[61]);
    assert_eq!(rig.ended(write), None);
    rig.let_go(How::Good);
    assert_eq!(rig.replies[&message], Done::Unremapped);
    assert_eq!((rig.ended(write), rig.tag(MAIN, 40)), (Some(Ok(())), 61));
}

#[test]
fn second_message_for_a_unit_is_refused_while_the_first_runs() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, R).times(1).how(How::Hold));
    let first = rig.message(&remap(40));
    assert_eq!(rig.says(&remap(40)), failed(Reason::Busy));
    assert_eq!(rig.says(&Command::Verify { sector: 40 }), failed(Reason::Busy));
    rig.let_go(How::Good);
    assert!(matches!(rig.replies[&first], Done::Remapped { .. }));
    assert_eq!(rig.says(&remap(40)), failed(Reason::AlreadyRemapped));
}

#[test]
fn remap_to_a_named_unit_and_refusals() {
    let mut rig = Rig::new();
    let to = |n: u64| Some(SpareAddress::FromDataStart(n));
    let says = rig.says(&Command::Remap { sector: 43, to: to(4 * 8 + 3) });
    assert_eq!(says, Done::Remapped { spare_sector: rig.spare_at(4, 0), pending: 0 });
    for (to, reason) in [
        (to(4 * 8 + 3), Reason::SpareNotFree),
        (to(5 * 8), Reason::OtherPlaceInUnit),
        (to(16 * 8 + 3), Reason::SpareNotFree),
        (Some(SpareAddress::Absolute(4096 + 3)), Reason::SpareNotFree),
    ] {
        assert_eq!(rig.says(&Command::Remap { sector: 83, to }), failed(reason));
    }
    assert_eq!(rig.says(&remap(65_536)), failed(Reason::OutOfRange));
    assert_eq!((rig.machine.status().spare_free_units, rig.entry(10)), (15, None));
    assert!(rig.shared.busy.is_empty());
}

#[test]
fn remap_goes_on_to_another_unit_unless_one_was_named() {
    let mut rig = Rig::new();
    let bad = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, W).at(bad..bad + 8));
    let named = Command::Remap { sector: 40, to: Some(SpareAddress::Absolute(bad)) };
    assert_eq!(rig.says(&named), failed(Reason::WriteFailed(Class::Io)));
    assert_eq!(rig.machine.status().quarantined_units, 1);
    let says = rig.says(&remap(40));
    assert_eq!(says, Done::Remapped { spare_sector: rig.spare_at(1, 0), pending: 0 });
    assert_eq!(rig.saved().1, [0]);

    let mut rig = Rig::new();
    rig.rule(Rule::new(SPARE, W).at(bad..bad + 8));
    let says = rig.says(&remap(40));
    assert_eq!(says, Done::Remapped { spare_sector: rig.spare_at(1, 0), pending: 0 });
}

#[test]
fn add_asserts_one_block_and_copies_nothing() {
    let mut rig = Rig::new();
    let at = rig.spare_at(2, 3);
    rig.disks[1][at as usize] = [77; 512];
    let spare_sector = rig.spare_at(2, 0);
    assert_eq!(rig.says(&add(43, at)), Done::Remapped { spare_sector, pending: 0 });
    assert_eq!(rig.done(), ["commit"]);
    assert_eq!(rig.entry(5), Some((Some(2), "mmmsmmmm".into())));
    assert_eq!(rig.reads(42, 3), Ok(vec![old(42), 77, old(44)]));
}

#[test]
fn add_over_an_entry() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    // The same unit, another block.
    let at = rig.spare_at(0, 4);
    assert!(matches!(rig.says(&add(44, at)), Done::Remapped { .. }));
    assert_eq!(rig.entry(5), Some((Some(0), "mmmssmmm".into())));
    // Refused while another block lives on another unit.
    let elsewhere = rig.spare_at(3, 4);
    assert_eq!(rig.says(&add(44, elsewhere)), failed(Reason::AlreadyRemapped));
    // Else changed in its slot, and the old unit is free.
    move_by_write(&mut rig, 83, &[1]);
    let free = rig.machine.status().spare_free_units;
    let at = rig.spare_at(7, 3);
    rig.disks[1][at as usize] = [55; 512];
    assert!(matches!(rig.says(&add(83, at)), Done::Remapped { .. }));
    assert_eq!(rig.entry(10), Some((Some(7), "mmmsmmmm".into())));
    assert_eq!(rig.reads(83, 1), Ok(vec![55]));
    assert_eq!(rig.machine.status().spare_free_units, free);
    assert_eq!(rig.saved().0.len(), 2);
}

#[test]
fn add_of_a_run() {
    let mut rig = Rig::new();
    let at = rig.spare_at(1, 6);
    for n in 0..12 {
        rig.disks[1][(at + n) as usize] = [100 + n as u8; 512];
    }
    let run = Command::Add { main: 46, spare: SpareAddress::Absolute(at), sectors: Some(12) };
    assert!(matches!(rig.says(&run), Done::Remapped { .. }));
    assert_eq!(rig.reads(46, 12), Ok((100..112).collect()));
    assert_eq!(rig.entry(6), Some((Some(2), "ssssssss".into())));
    assert_eq!(rig.entry(7), Some((Some(3), "ssmmmmmm".into())));
    // A unit in its way: nothing of it is done.
    let run = Command::Add {
        main: 126,
        spare: SpareAddress::Absolute(rig.spare_at(0, 6)),
        sectors: Some(4),
    };
    assert_eq!(rig.says(&run), failed(Reason::SpareNotFree));
    assert_eq!(rig.entry(15), None);
}

#[test]
fn add_is_refused_where_it_must_be() {
    let mut rig = Rig::with(Setup { block_sectors: 2, ..Setup::default() });
    assert_eq!(rig.says(&add(43, rig.spare_at(0, 0) + 3)), failed(Reason::OutOfRange));
    assert_eq!(rig.says(&add(44, rig.spare_at(0, 0) + 2)), failed(Reason::OtherPlaceInUnit));
    let mut rig = Rig::new();
    // A quarantined unit that is still in use.
    let at = rig.spare_at(0, 0);
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, W));
    rig.write(40, &[61]);
    rig.rules.clear();
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    assert_eq!(rig.says(&add(41, at + 1)), failed(Reason::SpareNotFree));
}

#[test]
fn message_whose_grace_does_not_end_is_answered_at_the_limit() {
    for which in 0..4 {
        let mut rig = Rig::new();
        move_by_write(&mut rig, 80, &[1]);
        for sector in [46, 86] {
            rig.rule(Rule::new(MAIN, W).at(sector..sector + 1).times(1).how(How::Hold));
            rig.write(sector, &[9]);
        }
        let at = rig.spare_at(3, 1);
        let command = match which {
            0 => remap(40),
            1 => add(41, at),
            2 => Command::Unremap { sector: 80 },
            _ => Command::Verify { sector: 40 },
        };
        let id = rig.message(&command);
        rig.advance(29_000);
        assert!(!rig.replies.contains_key(&id));
        rig.advance(2_000);
        assert!(rig.replies.contains_key(&id), "{command:?}");
        assert_eq!((rig.entry(5), rig.machine.status().spare_free_units), (None, 15));
        assert!(rig.shared.busy.is_empty());
    }
}

#[test]
fn failure_9_15_clear_brings_everything_home() {
    let mut rig = Rig::new();
    for n in 0..4 {
        move_by_write(&mut rig, 40 + n * 80, &[n as u8 + 1, 9]);
    }
    assert!(matches!(rig.says(&Command::Clear { force: false }), Done::Saved { .. }));
    assert_eq!(rig.machine.status().entries, 0);
    assert_eq!(rig.machine.status().spare_free_units, 16);
    for n in 0..4 {
        assert_eq!(rig.reads(40 + n * 80, 2), Ok(vec![n as u8 + 1, 9]));
        assert_eq!(rig.tag(MAIN, 40 + n * 80), n as u8 + 1);
    }
}

#[test]
fn clear_refuses_gone_blocks_and_force_keeps_them_gone() {
    let mut rig = with_gone();
    assert_eq!(rig.says(&Command::Clear { force: false }), failed(Reason::Gone));
    assert_eq!(rig.entry(5), Some((Some(1), "sgmmmmmm".into())));
    assert!(matches!(rig.says(&Command::Clear { force: true }), Done::Saved { .. }));
    assert_eq!(rig.entry(5), Some((None, "mgmmmmmm".into())));
    assert_eq!((rig.reads(40, 1), rig.reads(41, 1)), (Ok(vec![61]), Err(Class::Medium)));
}

#[test]
fn clear_force_makes_gone_only_what_had_its_verdict() {
    for retries in ["0", "1", "3"] {
        let mut rig = Rig::new();
        rig.set("read_retries", retries);
        move_by_write(&mut rig, 40, &[60, 61]);
        let at = rig.spare_at(0, 0);
        rig.rule(Rule::new(SPARE, R).at(at..at + 1).times(2).medium());
        rig.rule(Rule::new(SPARE, R).at(at + 1..at + 2));
        let id = rig.message(&Command::Clear { force: true });
        rig.advance(5_000);
        assert!(matches!(rig.replies[&id], Done::Saved { .. }));
        assert_eq!(rig.entry(5), Some((None, "mgmmmmmm".into())), "{retries}");
        assert_eq!(rig.reads(40, 1), Ok(vec![60]));
    }
}

#[test]
fn clear_force_makes_nothing_gone_on_a_suspect_spare() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, R | PROBE));
    let id = rig.message(&Command::Clear { force: true });
    rig.advance(1_000);
    assert_eq!(rig.replies[&id], failed(Reason::DeviceSuspect));
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
}

#[test]
fn verify_says_what_cannot_be_read_and_moves_nothing() {
    let mut rig = with_gone();
    rig.rule(Rule::new(MAIN, R).at(43..44));
    let id = rig.message(&Command::Verify { sector: 40 });
    rig.advance(3_000);
    assert_eq!(rig.replies[&id], Done::Verified { unreadable: 0b1010 });
    assert_eq!(rig.pending(5), 0b1000);
    assert_eq!(rig.entry(5), Some((Some(1), "sgmmmmmm".into())));
}

#[test]
fn remap_of_pending_blocks_saves_what_can_be_read() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    assert!(matches!(rig.says(&remap(40)), Done::Remapped { pending: 0, .. }));
    assert_eq!(rig.pending(5), 0, "the publish drops the mark");
    assert_eq!(rig.reads(40, 8), Ok(olds(40..48)));
}

#[test]
fn failure_9_10_save_names_what_is_durable() {
    let mut rig = Rig::new();
    let Done::Saved { generation, sequence } = rig.says(&Command::Save) else { panic!() };
    move_by_write(&mut rig, 40, &[1]);
    let after = rig.says(&Command::Save);
    let Done::Saved { generation: g, sequence: s } = after else { panic!() };
    assert_eq!(g, generation);
    assert!(s > sequence);
}

#[test]
fn messages_that_write_are_refused_once_closing() {
    let mut rig = Rig::new();
    rig.machine.close(rig.now);
    rig.settle();
    for command in [remap(40), Command::Clear { force: false }, Command::Verify { sector: 40 }] {
        assert_eq!(rig.says(&command), failed(Reason::NotWritable));
    }
    assert!(!rig.events.contains(&Event::SpareFull));
}
