// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Message `restore`: copies that went bad while the volume runs.

use dmremap_core::Restored;
use dmremap_core::message::Command;
use dmremap_core::{Class, Done, Reason};
use dmremap_format::{CopyIndex, PageIndex};

use super::{F, How, PAGES, PROBE, Rig, Rule, SPARE, W, move_by_write, olds};

/// Where a copy of the header, the generation page or table page 0 lies.
fn places(rig: &Rig, copy: u8) -> [u64; 3] {
    let copy = CopyIndex(copy);
    let layout = &rig.layout;
    let table = layout.page_sector(copy, PageIndex(0));
    [layout.header_sector(copy), layout.generation_sector(copy), table]
}

fn tear(rig: &mut Rig, sector: u64) {
    rig.disks[1][sector as usize + 3] = [0x5a; 512];
}

fn restored(rig: &mut Rig) -> Restored {
    match rig.says(&Command::Restore) {
        Done::Restored(found) => found,
        other => panic!("{other:?}"),
    }
}

fn pages(rig: &Rig) -> u32 {
    rig.layout.pages() + 2
}

#[test]
fn whole_copies_are_left_alone() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    let before = rig.disks[1].clone();
    let pages = pages(&rig);
    assert_eq!(restored(&mut rig), Restored { pages, ..Restored::default() });
    assert!(rig.disks[1] == before);
}

#[test]
fn bad_copies_of_every_page_are_written_anew() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    for copy in [0, 2, 3, 4] {
        let [_, _, table] = places(&rig, copy);
        tear(&mut rig, table);
    }
    let ([header, ..], [_, generation, _]) = (places(&rig, 1), places(&rig, 4));
    tear(&mut rig, header);
    tear(&mut rig, generation);
    let pages = pages(&rig);
    assert_eq!(restored(&mut rig), Restored { pages, bad_copies: 6, renewed: 3, left: 0 });
    assert_eq!(rig.machine.status().metadata.copies_valid, 5);
    assert_eq!(restored(&mut rig), Restored { pages, ..Restored::default() });
    assert_eq!(rig.saved().0.get(&5).cloned(), rig.entry(5));
    // Any two copies open it again, and no acknowledged entry is missing.
    for copy in [0, 1, 3] {
        places(&rig, copy).into_iter().for_each(|sector| tear(&mut rig, sector));
    }
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
    assert_eq!(rig.reads(40, 3), Ok(olds(40..43)));
}

#[test]
fn what_joins_meanwhile_is_kept() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    let [_, _, table] = places(&rig, 1);
    tear(&mut rig, table);
    // The first read of the page stays at the device while a move is committed.
    rig.rule(Rule::new(SPARE, PAGES).at(table..table + 8).times(1).how(How::Hold));
    let id = rig.message(&Command::Restore);
    assert!(!rig.replies.contains_key(&id));
    move_by_write(&mut rig, 80, &[80]);
    rig.let_go(How::Good);
    assert!(matches!(rig.replies[&id], Done::Restored(Restored { left: 0, .. })));
    let mut rig = rig.reopen();
    assert_eq!((rig.reads(43, 1), rig.reads(80, 1)), (Ok(vec![9]), Ok(vec![80])));
}

#[test]
fn a_page_without_a_good_copy_is_counted_and_not_touched() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    for copy in 0..5 {
        let [_, _, table] = places(&rig, copy);
        tear(&mut rig, table);
    }
    let before = rig.disks[1].clone();
    let pages = pages(&rig);
    assert_eq!(restored(&mut rig), Restored { pages, bad_copies: 5, renewed: 0, left: 1 });
    assert!(rig.disks[1] == before);
    assert_eq!(rig.reads(43, 1), Ok(vec![9]), "memory still knows");
}

#[test]
fn a_cable_is_no_evidence_against_a_copy() {
    let mut rig = Rig::new();
    let [_, _, table] = places(&rig, 2);
    let down = How::Fail(Class::Transport);
    rig.rule(Rule::new(SPARE, PAGES).at(table..table + 8).times(1).how(down));
    let before = rig.disks[1].clone();
    assert_eq!(rig.says(&Command::Restore), Done::Failed(Reason::DeviceSuspect));
    assert!(rig.disks[1] == before);
    assert_eq!(restored(&mut rig).bad_copies, 0);
}

#[test]
fn a_copy_that_takes_no_writes_leaves_four() {
    let mut rig = Rig::new();
    let [_, _, table] = places(&rig, 2);
    tear(&mut rig, table);
    rig.rule(Rule::new(SPARE, PAGES).at(table..table + 8));
    let found = restored(&mut rig);
    assert_eq!((found.bad_copies, found.renewed, found.left), (1, 1, 0));
    assert_eq!(rig.machine.status().metadata.copies_valid, 4);
}

#[test]
fn a_commit_in_doubt_is_counted_and_reversed() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    let [_, _, table] = places(&rig, 2);
    tear(&mut rig, table);
    rig.rule(Rule::new(SPARE, F).after(1).times(1));
    let found = restored(&mut rig);
    assert_eq!((found.bad_copies, found.renewed, found.left), (1, 0, 1));
    rig.advance(1_500);
    assert_eq!(restored(&mut rig).bad_copies, 0);
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
}

#[test]
fn one_at_a_time() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(SPARE, PAGES).times(1).how(How::Hold));
    let first = rig.message(&Command::Restore);
    assert_eq!(rig.says(&Command::Restore), Done::Failed(Reason::Busy));
    rig.let_go(How::Good);
    assert!(matches!(rig.replies[&first], Done::Restored(_)));
}

#[test]
fn the_next_one_is_refused_while_a_read_of_the_last_is_at_the_spare() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, PAGES).times(1).how(How::Hold));
    let first = rig.message(&Command::Restore);
    // It ends with the spare suspect, while one of its reads is still out.
    rig.rule(Rule::new(SPARE, W | PROBE));
    rig.write(40, &[61]);
    assert_eq!(rig.replies[&first], Done::Failed(Reason::DeviceSuspect));
    rig.rules.clear();
    rig.advance(4_000);
    assert!(!rig.machine.status().conditions.spare_suspect);
    // When it returns it must not pass for a write that was given up.
    assert_eq!(rig.says(&Command::Restore), Done::Failed(Reason::Busy));
    rig.let_go(How::Good);
    assert_eq!(restored(&mut rig).left, 0);
}
