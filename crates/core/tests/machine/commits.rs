// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Commits as recovery sees them: clean failures, doubt, reversal, publication, closing.

use dmremap_core::message::Command;
use dmremap_core::{Class, Done, Event, Reason};
use dmremap_format::{CopyIndex, PageIndex};

use super::{F, How, MAIN, PAGES, R, Rig, Rule, SPARE, Setup, W, move_by_write, old, remap};

/// Writes of table page 0 fail on these copies.
fn bad_copies(rig: &mut Rig, copies: &[u8], how: How) {
    for copy in copies {
        let at = rig.layout.page_sector(CopyIndex(*copy), PageIndex(0));
        rig.rule(Rule::new(SPARE, PAGES).at(at..at + 8).how(how));
    }
}

const EIO: How = How::Fail(Class::Io);

#[test]
fn failure_9_10_nothing_is_acknowledged_before_four_copies_are_durable() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    // Flush 1 is recovery's, 2 and 3 the commit's pairs, 4 the fifth copy's.
    rig.rule(Rule::new(SPARE, F).after(2).times(1).how(How::Hold));
    let id = rig.write(43, &[9]);
    assert_eq!((rig.ended(id), rig.entry(5)), (None, None));
    rig.let_go(How::Good);
    assert_eq!(rig.ended(id), Some(Ok(())));
}

#[test]
fn failure_9_01_a_move_is_active_at_once_and_after_an_open() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(43, 1), Ok(vec![9]));
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
}

#[test]
fn one_bad_copy_holds_nothing_up() {
    let mut rig = Rig::new();
    bad_copies(&mut rig, &[2], EIO);
    move_by_write(&mut rig, 43, &[9]);
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
}

#[test]
fn commit_in_doubt_fails_its_blocks_and_is_reversed() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 80, &[80]);
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2));
    // The flush behind the second pair fails: two copies are not durable.
    rig.rule(Rule::new(SPARE, F).after(1).times(1));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.entry(5), None, "nothing is published");
    assert!(rig.events.contains(&Event::InDoubt { main_sector: 40 }));
    assert_eq!(rig.reads(43, 1), Err(Class::Io), "neither done nor undone");
    assert_eq!(rig.reads(42, 1), Ok(vec![old(42)]), "other blocks go on");
    assert_eq!(rig.reads(80, 1), Ok(vec![80]), "of the page too");
    let write = rig.write(43, &[8]);
    assert_eq!(rig.ended(write), Some(Err(Class::Io)));
    assert_eq!(rig.machine.status().spare_free_units, 14, "its spare unit stays taken");
    rig.advance(1_500);
    assert_eq!(rig.machine.status().spare_free_units, 15);
    assert_eq!(rig.reads(43, 1), Ok(vec![old(43)]));
    assert!(!rig.saved().0.contains_key(&5), "reversed on the disk");
    move_by_write(&mut rig, 43, &[7]);
    assert_eq!(rig.reads(43, 1), Ok(vec![7]));
}

#[test]
fn other_change_of_a_page_in_doubt_waits_and_does_not_carry_it_along() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2));
    rig.rule(Rule::new(SPARE, F).after(1).times(1));
    rig.write(43, &[9]);
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let other = rig.write(83, &[5]);
    assert_eq!(rig.ended(other), None, "until the page is reversed");
    rig.advance(1_500);
    assert_eq!(rig.ended(other), Some(Ok(())));
    let (entries, _) = rig.saved();
    assert_eq!(entries.into_keys().collect::<Vec<_>>(), [10]);
}

#[test]
fn closing_in_doubt_is_unclean_and_the_next_open_settles_it() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(2));
    bad_copies(&mut rig, &[0, 1], How::FailLanded(Class::Io));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    rig.machine.close(rig.now);
    rig.settle();
    rig.advance(31_000);
    assert_eq!(rig.machine.closed(), Some(false));
    rig.rules.clear();
    let mut rig = rig.reopen();
    let now = rig.reads(43, 1).unwrap();
    assert!(now == [old(43)] || now == [9], "the write failed: either, but an answer");
}

#[test]
fn clean_close_flushes_and_says_so() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 43, &[9]);
    rig.write(43, &[8]);
    rig.done();
    rig.machine.close(rig.now);
    rig.settle();
    assert_eq!(rig.machine.closed(), Some(true));
    assert_eq!(rig.done()[..2], ["main flush", "spare flush"]);
    let mut rig = rig.reopen();
    assert_eq!(rig.reads(43, 1), Ok(vec![8]));
}

#[test]
fn close_is_unclean_when_a_device_cannot_be_flushed() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, F));
    rig.machine.close(rig.now);
    rig.settle();
    assert_eq!(rig.machine.closed(), Some(false));
}

#[test]
fn failure_9_16_close_does_not_wait_for_a_stuck_operation_for_ever() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(1));
    rig.rule(Rule::new(MAIN, W).at(43..44).how(How::Hold));
    let id = rig.write(43, &[9]);
    rig.advance(31_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    rig.machine.close(rig.now);
    rig.settle();
    rig.advance(61_000);
    assert_eq!(rig.machine.closed(), Some(false));
}

#[test]
fn trace_10_24_freed_unit_is_reused_only_after_its_removal_is_acknowledged() {
    let mut rig = Rig::with(Setup { units: 1, ..Setup::default() });
    move_by_write(&mut rig, 40, &[60]);
    // The removal's second pair is not flushed yet.
    rig.rule(Rule::new(SPARE, F).after(1).times(1).how(How::Hold));
    let message = rig.message(&Command::Unremap { sector: 40 });
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let id = rig.write(83, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)), "the only unit is not free");
    rig.let_go(How::Good);
    assert_eq!(rig.replies[&message], Done::Unremapped);
    let id = rig.write(83, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
}

#[test]
fn freed_unit_waits_for_its_readers() {
    let mut rig = Rig::with(Setup { units: 1, ..Setup::default() });
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, R).times(1).how(How::Hold));
    let read = rig.read(40, 1);
    assert_eq!(rig.says(&Command::Unremap { sector: 40 }), Done::Unremapped);
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let id = rig.write(83, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)), "a reader may still be on the unit");
    rig.let_go(How::Good);
    assert_eq!(rig.tags(read), [60]);
    let id = rig.write(83, &[9]);
    assert_eq!(rig.ended(id), Some(Ok(())));
}

#[test]
fn trace_10_29_many_changes_of_one_page_in_one_commit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(0..800));
    // The first commit waits at its first flush while the others join the next one.
    rig.rule(Rule::new(SPARE, F).after(1).times(1).how(How::Hold));
    let ids: Vec<u64> = (0..5).map(|n| rig.write(n * 80, &[n as u8 + 1])).collect();
    rig.let_go(How::Good);
    for id in &ids {
        assert_eq!(rig.ended(*id), Some(Ok(())));
    }
    assert_eq!(rig.saved().0.len(), 5);
    assert_eq!(rig.machine.status().metadata.commits, 2);
}

#[test]
fn trace_10_10_commit_carries_only_what_is_durable() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(0..800));
    // Block 83's read-back is held: it has not joined when 43 commits.
    let second = rig.spare_at(0, 3);
    rig.rule(Rule::new(SPARE, super::V).at(second..second + 1).how(How::Hold));
    let nine = rig.write(83, &[9]);
    let five = rig.write(43, &[5]);
    assert_eq!((rig.ended(five), rig.ended(nine)), (Some(Ok(())), None));
    assert_eq!(rig.saved().0.into_keys().collect::<Vec<_>>(), [5]);
    rig.let_go(How::Good);
    assert_eq!(rig.ended(nine), Some(Ok(())));
    assert_eq!(rig.saved().0.into_keys().collect::<Vec<_>>(), [5, 10]);
}

#[test]
fn page_that_cannot_be_read_back_fails_cleanly() {
    // Nine pages and eight places: page 0 has to be read back for its next commit.
    let mut rig = Rig::with(Setup { units: 1100, entries: 9 * 126, ..Setup::default() });
    for unit in 0..1010 {
        move_by_write(&mut rig, unit * 16, &[7]);
    }
    assert_eq!(rig.machine.status().entries, 1010);
    let free = rig.machine.status().spare_free_units;
    for copy in 0..5 {
        let at = rig.layout.page_sector(CopyIndex(copy), PageIndex(0));
        rig.rule(Rule::new(SPARE, PAGES).at(at..at + 8));
    }
    rig.rule(Rule::new(MAIN, W).at(1..2).times(2));
    let id = rig.write(1, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.entry(0), Some((Some(0), "smmmmmmm".into())));
    assert_eq!(rig.machine.status().spare_free_units, free);
    rig.rules.clear();
    assert_eq!(rig.reads(0, 2), Ok(vec![7, old(1)]));
}

#[test]
fn message_is_told_of_a_commit_in_doubt() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(SPARE, F).after(1).times(1));
    let id = rig.message(&remap(40));
    assert_eq!(rig.replies[&id], Done::Failed(Reason::InDoubt));
    rig.advance(1_500);
    assert_eq!((rig.entry(5), rig.machine.status().spare_free_units), (None, 16));
    assert_eq!(rig.reads(40, 1), Ok(vec![old(40)]));
}

#[test]
fn trace_10_12_takeover_stops_everything() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.advance(2_000);
    // Another session's header lies on every copy.
    let other = Rig::new().reopen();
    for copy in 0..5 {
        let at = rig.layout.header_sector(CopyIndex(copy)) as usize;
        let theirs = &other.disks[1][at..at + 8];
        rig.disks[1][at..at + 8].copy_from_slice(theirs);
        // Its session differs in one byte; the page is sealed anew.
        let mut page = [0u8; 4096];
        for (i, chunk) in page.chunks_mut(512).enumerate() {
            chunk.copy_from_slice(&rig.disks[1][at + i]);
        }
        let mut header = dmremap_format::HeaderMut::edit(&mut page);
        let session = dmremap_format::Session {
            session: dmremap_format::Uuid([77; 16]),
            ..header.view().session()
        };
        header.set_session(&session);
        header.seal(CopyIndex(copy), dmremap_format::Stamp { generation: 9, sequence: 1 });
        for i in 0..8 {
            rig.disks[1][at + i].copy_from_slice(&page[i * 512..i * 512 + 512]);
        }
    }
    rig.rule(Rule::new(MAIN, W).at(83..84));
    let id = rig.write(83, &[9]);
    rig.advance(100);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert!(rig.events.contains(&Event::TakenOver));
    rig.done();
    let id = rig.write(100, &[9]);
    assert!(rig.ended(id).is_some_and(|e| e.is_err()));
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err());
    rig.advance(40_000);
    assert!(rig.done().is_empty(), "nothing is sent any more");
    assert!(!rig.events.contains(&Event::Vanished(MAIN)));
    rig.machine.close(rig.now);
    assert_eq!(rig.machine.closed(), Some(false));
}
