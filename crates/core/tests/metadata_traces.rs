// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The traces that broke earlier drafts of the metadata rules (DESIGN 10), and the failures of
//! others that concern them (DESIGN 9): one named test each, on the real machines with tiny pages.

mod meta;

use dmremap_core::Class;
use dmremap_core::commit::{Commit, IoKind, OutcomeKind, PageId};
use dmremap_core::open::Refused;
use dmremap_format::{CopyIndex, PageIndex};
use meta::{Change, Disk, Faults, Served, Spare, TORN, Tiny, TinyStore, answer, drive, open, sent};

const PAGE: PageId = PageId::Table(PageIndex(0));
const OTHER: PageId = PageId::Table(PageIndex(1));

fn change(place: u8, value: u8) -> Change {
    Change { place, value }
}

fn copy(copy: u8) -> CopyIndex {
    CopyIndex(copy)
}

/// Runs `test` on a fresh volume with `tables` table pages that nobody has opened yet.
fn spare(tables: u8, test: impl FnOnce(&mut Spare<'_>)) {
    let mut on_write = |_: &Disk, _: usize| {};
    test(&mut Spare::new(Disk::formatted(tables), Faults::NONE, &mut on_write));
}

fn served(spare: &mut Spare<'_>, session: u8) -> Served {
    open(spare, session).expect("opens")
}

/// Runs the machine until it has sent `writes` writes; none is flushed behind the last of them.
fn cut_after(commit: &mut Commit<TinyStore>, spare: &mut Spare<'_>, writes: u32) {
    let end = spare.writes + writes;
    while spare.writes < end {
        let io = commit.next_io(0).expect("more to write");
        answer(commit, spare, io, 0);
    }
}

/// A power cut that leaves of each copy of `page` that is not durable what `choose` says.
fn power_cut(spare: &mut Spare<'_>, choose: impl Fn(u8, Vec<Tiny>) -> Tiny) {
    let tables = spare.disk.tables();
    let pages = [PageId::Header, PageId::Generation]
        .into_iter()
        .chain((0..tables).map(|p| PageId::Table(PageIndex(p.into()))));
    for page in pages {
        for at in 0..5 {
            let cell = spare.disk.cell(page, copy(at));
            let all: Vec<Tiny> = cell.outcomes().collect();
            *cell = meta::Cell::new(if all.len() > 1 { choose(at, all) } else { all[0] });
        }
    }
}

/// The content of `PAGE` that an open serves.
fn content(spare: &mut Spare<'_>, session: u8) -> [u8; 2] {
    served(spare, session).tables[0]
}

#[test]
fn trace_10_10_a_commit_carries_only_what_joined_it() {
    spare(1, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 5), 5).expect("joins");
        let io = commit.next_io(0).expect("reads the image");
        answer(&mut commit, spare, io, 0);
        let io = commit.next_io(0).expect("the first write");
        // Block 9's data becomes durable only now: it joins, but not this commit.
        commit.join(PAGE, change(1, 9), 9).expect("joins");
        assert_eq!(sent(&commit, io.id).content, [5, 0]);
        answer(&mut commit, spare, io, 0);
        let mut images = Vec::new();
        while let Some(io) = commit.next_io(0) {
            if matches!(io.kind, IoKind::Write { .. }) {
                images.push(sent(&commit, io.id).content);
            }
            answer(&mut commit, spare, io, 0);
        }
        assert_eq!(
            images,
            [[5, 0], [5, 0], [5, 0], [5, 0], [5, 9], [5, 9], [5, 9], [5, 9], [5, 9]]
        );
    });
}

#[test]
fn trace_10_11_what_relies_on_a_commit_starts_after_its_acknowledgement() {
    spare(2, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 5), 0).expect("joins");
        let mut acknowledged = false;
        let mut relying = 0;
        loop {
            let io = commit.next_io(0);
            while let Some(outcome) = commit.next_outcome() {
                if outcome.token == 0 {
                    assert_eq!(outcome.kind, OutcomeKind::Acknowledged);
                    acknowledged = true;
                    // The entry moves to another page: only now.
                    commit.join(OTHER, change(0, 5), 1).expect("joins");
                }
            }
            let Some(io) = io else { break };
            if let IoKind::Write { page: OTHER, .. } = io.kind {
                assert!(acknowledged);
                let mut durable = |at: u8| spare.disk.cell(PAGE, copy(at)).now.content == [5, 0];
                assert_eq!((0..5).filter(|at| durable(*at)).count(), 5, "its rest has ended too");
                relying += 1;
            }
            answer(&mut commit, spare, io, 0);
        }
        assert_eq!(relying, 5);
    });
}

#[test]
fn trace_10_19_a_copy_that_missed_its_repair_never_wins_later() {
    spare(1, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 7), 0).expect("joins");
        cut_after(&mut commit, spare, 1);
        // Copy 0 alone has the entry nobody acknowledged, and cannot be read or written next time.
        power_cut(spare, |_, all| all[1]);
        assert_eq!(spare.disk.cell(PAGE, copy(0)).now.content, [7, 0]);
        spare.faults = Faults { reads: 1, writes: 1, ..Faults::NONE };
        assert_eq!(content(spare, 2), [0, 0]);
        // Its table page was not rewritten; it comes back, whatever its header says by now.
        power_cut(spare, |_, all| all[0]);
        spare.faults = Faults::NONE;
        assert_eq!(spare.disk.cell(PAGE, copy(0)).now.content, [7, 0]);
        for at in 0..5 {
            let header = spare.disk.cell(PageId::Header, copy(1)).now;
            spare.disk.cell(PageId::Header, copy(at)).now = Tiny { copy: at, ..header };
        }
        assert_eq!(content(spare, 3), [0, 0]);
        assert_eq!(spare.disk.cell(PAGE, copy(0)).now.content, [0, 0]);
    });
}

#[test]
fn trace_10_20_two_power_cuts_during_opens_and_the_spare_still_opens() {
    for (first, second) in (1..=10).flat_map(|a| (1..=10).map(move |b| (a, b))) {
        let mut disk = Disk::formatted(1);
        for (session, writes) in [(1, first), (2, second)] {
            // The open is cut behind this many writes, of which the last two are lost or torn.
            let snapshot = std::cell::RefCell::new(None);
            let count = std::cell::Cell::new(0);
            let mut on_write = |disk: &Disk, _: usize| {
                count.set(count.get() + 1);
                if count.get() == writes {
                    *snapshot.borrow_mut() = Some(disk.clone());
                }
            };
            let mut spare = Spare::new(disk, Faults::NONE, &mut on_write);
            served(&mut spare, session);
            let cut = snapshot.borrow_mut().take().expect("ten writes an open");
            let mut ignore = |_: &Disk, _: usize| {};
            let mut spare = Spare::new(cut, Faults::NONE, &mut ignore);
            power_cut(&mut spare, |at, all| if at % 2 == 0 { TORN } else { all[1] });
            disk = spare.disk;
        }
        let mut ignore = |_: &Disk, _: usize| {};
        let mut spare = Spare::new(disk, Faults::NONE, &mut ignore);
        assert_eq!(content(&mut spare, 3), [0, 0], "after cuts at {first} and {second}");
    }
}

#[test]
fn trace_10_21_a_crash_and_a_bad_copy_or_two_crashes_leave_enough() {
    for (writes, bad) in (1..=5).flat_map(|w| (0..5u8).map(move |b| (w, b))) {
        spare(1, |spare| {
            let mut commit = served(spare, 1).commit;
            commit.join(PAGE, change(0, 7), 0).expect("joins");
            cut_after(&mut commit, spare, writes);
            power_cut(spare, |_, _| TORN);
            // One latent bad copy, and the repair is cut as well.
            spare.faults.reads = 1 << bad;
            let served = served(spare, 2);
            assert!([[0, 0], [7, 0]].contains(&served.tables[0]));
            let again = served.tables[0];
            power_cut(spare, |_, _| TORN);
            spare.faults.reads = 1 << ((bad + 1) % 5);
            assert_eq!(content(spare, 3), again, "{writes} writes, copy {bad} bad");
        });
    }
}

#[test]
fn trace_10_22_a_repair_takes_a_stamp_no_copy_can_carry() {
    spare(1, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 7), 0).expect("joins");
        cut_after(&mut commit, spare, 2);
        power_cut(spare, |at, all| if at == 0 { all[1] } else { all[0] });
        let doubtful = spare.disk.cell(PAGE, copy(0)).now;
        spare.faults.reads = 1;
        spare.faults.writes = 1;
        assert_eq!(content(spare, 2), [0, 0]);
        for at in 1..5 {
            let repaired = spare.disk.cell(PAGE, copy(at)).now;
            assert_eq!(repaired.content, [0, 0]);
            assert!(repaired.generation > doubtful.generation);
            // And that generation was durable on four copies before.
            let generation = spare.disk.cell(PageId::Generation, copy(at)).now.generation;
            assert_eq!(generation, repaired.generation);
        }
        spare.faults = Faults::NONE;
        assert_eq!(content(spare, 3), [0, 0]);
    });
}

#[test]
fn trace_10_23_no_service_if_a_repair_stands_on_fewer_than_four_copies() {
    spare(1, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 7), 0).expect("joins");
        cut_after(&mut commit, spare, 1);
        power_cut(spare, |_, all| all[1]);
        // The generation can be written, then two copies stop: serving would show the entry now and
        // perhaps not the next time.
        let from = spare.writes + 5;
        spare.faults = Faults { writes: 0b110, from, ..Faults::NONE };
        let refused = open(spare, 2).map(|_| ()).expect_err("three copies are too few");
        assert!(matches!(*refused, Refused::RepairNotWritten { page: PAGE, .. }), "{refused:?}");
        // Before that, with no generation either.
        spare.faults = Faults { writes: 0b110, ..Faults::NONE };
        let refused = open(spare, 3).map(|_| ()).expect_err("three copies are too few");
        assert!(matches!(*refused, Refused::GenerationNotWritten { .. }), "{refused:?}");
    });
}

/// Part of failure 10 of others, too: "persisted" while nothing has left memory.
#[test]
fn trace_10_24_an_acknowledgement_means_four_durable_copies() {
    for dead in [None, Some(0), Some(2), Some(4)] {
        spare(1, |spare| {
            let mut commit = served(spare, 1).commit;
            spare.faults.writes = dead.map_or(0, |copy: u8| 1 << copy);
            commit.join(PAGE, change(0, 7), 0).expect("joins");
            let mut told = 0;
            loop {
                let io = commit.next_io(0);
                if let Some(outcome) = commit.next_outcome() {
                    assert_eq!(outcome.kind, OutcomeKind::Acknowledged);
                    let durable = |at: &u8| {
                        let cell = spare.disk.cell(PAGE, copy(*at));
                        cell.outcomes().all(|page| page.content == [7, 0])
                    };
                    assert_eq!((0..5).filter(durable).count(), 4);
                    told += 1;
                }
                let Some(io) = io else { break };
                answer(&mut commit, spare, io, 0);
            }
            assert_eq!(told, 1);
        });
    }
}

#[test]
fn trace_10_29_two_units_in_one_page_and_both_stay() {
    spare(1, |spare| {
        let mut commit = served(spare, 1).commit;
        commit.join(PAGE, change(0, 5), 5).expect("joins");
        let mut joined = false;
        let mut told = Vec::new();
        loop {
            let io = commit.next_io(0);
            // Nobody has published the first entry when the second joins and is committed.
            let Some(io) = io else { break };
            answer(&mut commit, spare, io, 0);
            if !joined {
                commit.join(PAGE, change(1, 9), 9).expect("joins");
                joined = true;
            }
        }
        told.extend(std::iter::from_fn(|| commit.next_outcome()).map(|o| (o.token, o.kind)));
        assert_eq!(told, [(5, OutcomeKind::Acknowledged), (9, OutcomeKind::Acknowledged)]);
        power_cut(spare, |_, all| all[0]);
        assert_eq!(content(spare, 2), [5, 9]);
    });
}

#[test]
fn failure_9_11_a_read_error_is_not_a_spare_without_metadata() {
    spare(1, |spare| {
        let before = spare.disk.clone();
        spare.faults.reads = 0b1_1110;
        let refused = open(spare, 1).map(|_| ()).expect_err("one copy left");
        let Refused::Copies { page: PageId::Header, seen, .. } = *refused else {
            panic!("{refused:?}")
        };
        let unreadable = dmremap_core::open::CopySeen::Unreadable(Class::Medium);
        assert_eq!(seen.iter().filter(|s| **s == unreadable).count(), 4);
        assert_eq!(spare.disk, before, "nothing is written over what could not be read");
        spare.faults.reads = 0;
        assert_eq!(content(spare, 2), [0, 0]);
    });
}

#[test]
fn failure_9_14_a_bad_checksum_falls_back_to_another_copy_like_a_read_error() {
    for torn in [true, false] {
        spare(8, |spare| {
            let mut commit = served(spare, 1).commit;
            for at in [2, 3, 4] {
                if torn {
                    spare.disk.cell(PAGE, copy(at)).now = TORN;
                } else {
                    spare.faults.reads |= 1 << at;
                }
            }
            // At a commit, whose image is read back ...
            commit.join(PAGE, change(0, 7), 0).expect("joins");
            assert_eq!(drive(&mut commit, spare, 0), [(0, OutcomeKind::Acknowledged)]);
            // ... and at an open.
            for at in [0, 1, 2] {
                if torn {
                    spare.disk.cell(PAGE, copy(at)).now = TORN;
                }
            }
            assert_eq!(content(spare, 2), [7, 0]);
        });
    }
}
