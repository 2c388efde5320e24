// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The commit machine's rules one by one: order of writes, failures, time, doubt, the check of the
//! header, close.

mod meta;

use dmremap_core::Class;
use dmremap_core::commit::{Commit, Io, IoKind, OutcomeKind, PageId, Refusal};
use dmremap_format::{CopyIndex, PageIndex};
use meta::{Change, Disk, Faults, Spare, TORN, Tiny, TinyStore, answer, drive, open, sent};

const HEADER: PageId = PageId::Header;

fn table(page: u32) -> PageId {
    PageId::Table(PageIndex(page))
}

fn change(place: u8, value: u8) -> Change {
    Change { place, value }
}

/// A volume with `tables` pages, open, and its spare. If they are few, all are cached.
fn opened(tables: u8, test: impl FnOnce(&mut Commit<TinyStore>, &mut Spare<'_>)) {
    let mut on_write = |_: &Disk, _: usize| {};
    let mut spare = Spare::new(Disk::formatted(tables), Faults::NONE, &mut on_write);
    let mut served = open(&mut spare, 1).expect("a new volume");
    if tables < 4 {
        (0..tables).for_each(|page| {
            served.commit.join(table(page.into()), change(0, 0), 0).expect("joins");
        });
        assert_eq!(drive(&mut served.commit, &mut spare, 0).len(), tables.into());
    }
    test(&mut served.commit, &mut spare);
}

/// What the machine asks for now, without answering.
fn burst(commit: &mut Commit<TinyStore>, now: u64) -> Vec<Io> {
    std::iter::from_fn(|| commit.next_io(now)).collect()
}

fn copies(ios: &[Io]) -> Vec<u8> {
    let copy = |io: &Io| match io.kind {
        IoKind::Write { copy, .. } | IoKind::Read { copy, .. } => copy.0,
        IoKind::Flush => 99,
    };
    ios.iter().map(copy).collect()
}

fn good(commit: &mut Commit<TinyStore>, ios: &[Io], now: u64) {
    ios.iter().for_each(|io| commit.io_done(io.id, Ok(None), now));
}

fn outcomes(commit: &mut Commit<TinyStore>) -> Vec<(u32, OutcomeKind)> {
    std::iter::from_fn(|| commit.next_outcome()).map(|o| (o.token, o.kind)).collect()
}

const FLUSH: [u8; 1] = [99];

#[test]
fn two_and_two_acknowledge_then_one() {
    opened(1, |commit, _| {
        commit.join(table(0), change(0, 7), 5).expect("joins");
        for pair in [[0, 1], [2, 3]] {
            let writes = burst(commit, 0);
            assert_eq!(copies(&writes), pair);
            assert!(burst(commit, 0).is_empty());
            good(commit, &writes[..1], 0);
            assert!(burst(commit, 0).is_empty(), "the flush waits for both");
            good(commit, &writes[1..], 0);
            let flush = burst(commit, 0);
            assert_eq!(copies(&flush), FLUSH);
            assert_eq!(outcomes(commit), []);
            good(commit, &flush, 0);
        }
        // Joins now: goes with the next commit, which begins when this one has ended.
        commit.join(table(0), change(1, 8), 6).expect("joins");
        let last = burst(commit, 0);
        assert_eq!(copies(&last), [4]);
        assert_eq!(outcomes(commit), [(5, OutcomeKind::Acknowledged)]);
        assert_eq!(sent(commit, last[0].id).content, [7, 0]);
        good(commit, &last, 0);
        let flush = burst(commit, 0);
        assert_eq!(copies(&flush), FLUSH);
        good(commit, &flush, 0);
        let next = burst(commit, 0);
        assert_eq!(copies(&next), [0, 1]);
        assert_eq!(sent(commit, next[0].id).content, [7, 8]);
        assert_eq!(sent(commit, next[0].id).sequence, 3);
    });
}

#[test]
fn many_pages_share_the_flushes() {
    opened(3, |commit, _| {
        for page in 0..3 {
            commit.join(table(page), change(0, 1), page).expect("joins");
        }
        let writes = burst(commit, 0);
        assert_eq!(copies(&writes), [0, 1, 0, 1, 0, 1]);
        good(commit, &writes, 0);
        assert_eq!(copies(&burst(commit, 0)), FLUSH);
    });
}

#[test]
fn a_failed_copy_comes_first_next_time_and_singles_follow_it() {
    opened(1, |commit, spare| {
        spare.faults.writes = 1 << 3;
        commit.join(table(0), change(0, 1), 0).expect("joins");
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::Acknowledged)]);
        assert_eq!(commit.copies_valid(), 4);
        commit.join(table(0), change(0, 2), 1).expect("joins");
        let first = burst(commit, 0);
        assert_eq!(copies(&first), [3, 0]);
        commit.io_done(first[0].id, Err(Class::Io), 0);
        good(commit, &first[1..], 0);
        let flush = burst(commit, 0);
        good(commit, &flush, 0);
        for copy in [1, 2] {
            let single = burst(commit, 0);
            assert_eq!(copies(&single), [copy]);
            good(commit, &single, 0);
            let flush = burst(commit, 0);
            good(commit, &flush, 0);
        }
        assert_eq!(outcomes(commit), []);
        let single = burst(commit, 0);
        assert_eq!(copies(&single), [4]);
        good(commit, &single, 0);
        let flush = burst(commit, 0);
        assert_eq!(outcomes(commit), []);
        good(commit, &flush, 0);
        burst(commit, 0);
        assert_eq!(outcomes(commit), [(1, OutcomeKind::Acknowledged)]);
    });
}

#[test]
fn a_flush_failure_counted_elsewhere_fails_the_pair() {
    opened(1, |commit, _| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        let writes = burst(commit, 0);
        good(commit, &writes, 0);
        // A client's flush collected the error; ours is then good and says nothing.
        commit.flush_failed();
        let flush = burst(commit, 0);
        good(commit, &flush, 0);
        assert_eq!(burst(commit, 0), []);
        assert_eq!(outcomes(commit), [(0, OutcomeKind::InDoubt)]);
        assert!(!commit.degraded(), "one failed flush is no reason to stop moving");
    });
}

#[test]
fn a_flush_failure_before_the_pair_does_not_count() {
    opened(1, |commit, spare| {
        commit.flush_failed();
        commit.join(table(0), change(0, 1), 0).expect("joins");
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::Acknowledged)]);
    });
}

#[test]
fn a_write_given_up_blocks_its_copy_until_it_returns() {
    opened(2, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        let writes = burst(commit, 10);
        good(commit, &writes[1..], 10);
        assert_eq!(commit.next_deadline(), Some(1010));
        commit.tick(1009);
        assert_eq!(burst(commit, 1009), []);
        commit.tick(1010);
        assert_eq!(drive(commit, spare, 1010), [(0, OutcomeKind::Acknowledged)]);
        // Nothing more goes to copy 0, not even of another page: but the check of the header skips
        // it too, and four are enough.
        commit.join(table(1), change(0, 2), 1).expect("joins");
        let mut seen = Vec::new();
        while let Some(io) = commit.next_io(1020) {
            seen.extend(copies(&[io]));
            answer(commit, spare, io, 1020);
        }
        assert!(!seen.contains(&0), "{seen:?}");
        assert_eq!(outcomes(commit), [(1, OutcomeKind::Acknowledged)]);
        commit.io_done(writes[0].id, Ok(None), 1030);
        commit.join(table(1), change(0, 3), 2).expect("joins");
        assert_eq!(copies(&burst(commit, 1040)), [0, 1]);
    });
}

#[test]
fn two_copies_that_hold_given_up_writes_degrade_until_one_returns() {
    opened(1, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        let writes = burst(commit, 0);
        commit.tick(1000);
        assert_eq!(burst(commit, 1000), []);
        assert_eq!(outcomes(commit), [(0, OutcomeKind::InDoubt)]);
        assert!(commit.degraded());
        assert_eq!(commit.join(table(0), change(1, 1), 1), Err(Refusal::Degraded));
        // A reversal has nowhere to go but risks no good copy either.
        let before = spare.disk.clone();
        assert_eq!(drive(commit, spare, 2000), []);
        assert_eq!(spare.disk, before);
        commit.io_done(writes[0].id, Ok(None), 2500);
        commit.io_done(writes[1].id, Err(Class::Timeout), 2500);
        assert_eq!(drive(commit, spare, 3000), [(0, OutcomeKind::Reversed)]);
        assert!(!commit.degraded());
    });
}

#[test]
fn a_flush_given_up_fails_its_pair() {
    opened(1, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        let writes = burst(commit, 0);
        good(commit, &writes, 0);
        let flush = burst(commit, 0);
        commit.tick(1000);
        assert_eq!(burst(commit, 1000), []);
        assert_eq!(outcomes(commit), [(0, OutcomeKind::InDoubt)]);
        // It is still at the device when the reversal's own flush is: each answer is its own.
        let check = burst(commit, 2000);
        answer(commit, spare, check[0], 2000);
        let writes = burst(commit, 2000);
        assert_eq!(copies(&writes), [0, 1]);
        good(commit, &writes, 2000);
        assert_eq!(copies(&burst(commit, 2000)), FLUSH);
        good(commit, &flush, 2001);
        assert_eq!(burst(commit, 2001), []);
    });
}

#[test]
fn failures_count_by_the_page() {
    opened(2, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        commit.join(table(1), change(0, 1), 1).expect("joins");
        let writes = burst(commit, 0);
        for io in &writes {
            let IoKind::Write { page, .. } = io.kind else { panic!("a write") };
            let result = if page == table(0) { Err(Class::Medium) } else { Ok(None) };
            commit.io_done(io.id, result, 0);
        }
        let told = drive(commit, spare, 0);
        assert_eq!(told, [(0, OutcomeKind::InDoubt), (1, OutcomeKind::Acknowledged)]);
        assert_eq!(commit.in_doubt(), 1);
        assert_eq!(commit.join(table(1), change(0, 2), 2), Err(Refusal::Degraded));
        assert_eq!(drive(commit, spare, 999), []);
        assert_eq!(drive(commit, spare, 1000), [(0, OutcomeKind::Reversed)]);
        assert_eq!(commit.cached(table(0)).expect("cached").content, [0, 0]);
        commit.join(table(0), change(0, 2), 3).expect("joins again");
        assert_eq!(drive(commit, spare, 1000), [(3, OutcomeKind::Acknowledged)]);
        assert_eq!(spare.disk.cell(table(0), CopyIndex(2)).now.content, [2, 0]);
    });
}

#[test]
fn what_joined_a_page_that_came_into_doubt_waits_for_the_reversal() {
    opened(2, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        let writes = burst(commit, 0);
        commit.join(table(0), change(1, 2), 1).expect("joins the next one");
        good(commit, &writes, 0);
        let flush = burst(commit, 0);
        commit.io_done(flush[0].id, Err(Class::Io), 0);
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::InDoubt)]);
        assert_eq!(commit.join(table(0), change(0, 3), 2), Err(Refusal::InDoubt));
        commit.join(table(1), change(0, 4), 3).expect("other pages go on");
        assert_eq!(drive(commit, spare, 500), [(3, OutcomeKind::Acknowledged)]);
        let told = drive(commit, spare, 1000);
        assert_eq!(told, [(0, OutcomeKind::Reversed), (1, OutcomeKind::Acknowledged)]);
        assert_eq!(spare.disk.cell(table(0), CopyIndex(0)).now.content, [0, 2]);
    });
}

/// A volume of eight table pages is read back with a cache of four places.
#[test]
fn images_that_are_not_cached_are_read_back_from_a_copy_that_verifies() {
    opened(8, |commit, spare| {
        for page in 0..8 {
            commit.join(table(page), change(0, page as u8 + 1), page).expect("joins");
        }
        assert_eq!(drive(commit, spare, 0).len(), 8);
        // Page 0 is cached no more. Copies 4, 3 and 2 are torn, of an old stamp, unreadable.
        spare.disk.cell(table(0), CopyIndex(4)).now = TORN;
        let old = Tiny { kind: 3, copy: 3, generation: 1, ..TORN };
        spare.disk.cell(table(0), CopyIndex(3)).now = old;
        spare.faults.reads = 1 << 2;
        commit.join(table(0), change(1, 9), 9).expect("joins");
        assert_eq!(drive(commit, spare, 0), [(9, OutcomeKind::Acknowledged)]);
        assert_eq!(spare.disk.cell(table(0), CopyIndex(4)).now.content, [1, 9]);
    });
}

#[test]
fn a_page_whose_image_cannot_be_had_fails_cleanly() {
    opened(8, |commit, spare| {
        for copy in 0..5 {
            spare.disk.cell(table(5), CopyIndex(copy)).now = TORN;
        }
        commit.join(table(5), change(0, 1), 0).expect("joins");
        commit.join(table(6), change(0, 1), 1).expect("joins");
        let told = drive(commit, spare, 0);
        assert_eq!(told, [(0, OutcomeKind::Failed), (1, OutcomeKind::Acknowledged)]);
        assert_eq!(spare.disk.cell(table(5), CopyIndex(0)).now, TORN);
        assert_eq!(commit.in_doubt(), 0);
    });
}

#[test]
fn no_more_pages_are_in_doubt_than_have_a_place() {
    opened(8, |commit, spare| {
        for page in 0..4 {
            commit.join(table(page), change(0, 1), page).expect("joins");
        }
        spare.faults.flush = Some(spare.flushes);
        assert_eq!(drive(commit, spare, 0).len(), 4);
        assert_eq!(commit.in_doubt(), 4);
        assert_eq!(commit.join(table(7), change(0, 1), 7), Err(Refusal::NoRoom));
        let told = drive(commit, spare, 1000);
        assert!(told.iter().all(|(_, kind)| *kind == OutcomeKind::Reversed), "{told:?}");
        commit.join(table(7), change(0, 1), 7).expect("room again");
    });
}

#[test]
fn what_does_not_fit_never_joins() {
    opened(1, |commit, _| {
        assert_eq!(commit.join(table(1), change(0, 1), 0), Err(Refusal::Misfit));
        assert_eq!(commit.join(table(0), change(2, 1), 0), Err(Refusal::Misfit));
        assert_eq!(commit.join(PageId::Generation, change(0, 1), 0), Err(Refusal::Misfit));
        for token in 0..8 {
            commit.join(table(0), change(0, 1), token).expect("joins");
        }
        assert_eq!(commit.join(table(0), change(0, 1), 8), Err(Refusal::NoRoom));
    });
}

#[test]
fn the_header_is_read_back_once_a_second_and_not_more() {
    opened(1, |commit, spare| {
        for (now, reads) in [(0, 0), (999, 0), (1000, 1), (1500, 0), (2000, 1)] {
            commit.join(table(0), change(0, 1), 0).expect("joins");
            let mut seen = 0;
            while let Some(io) = commit.next_io(now) {
                seen += u32::from(matches!(io.kind, IoKind::Read { .. }));
                answer(commit, spare, io, now);
            }
            assert_eq!((outcomes(commit).len(), seen), (1, reads), "at {now}");
        }
    });
}

#[test]
fn another_session_takes_over_and_nothing_more_is_written() {
    opened(1, |commit, spare| {
        for copy in 0..5 {
            let header = &mut spare.disk.cell(HEADER, CopyIndex(copy)).now;
            *header = Tiny { content: [44, 1], generation: header.generation + 1, ..*header };
        }
        let before = spare.disk.clone();
        commit.join(table(0), change(0, 1), 0).expect("joins");
        assert_eq!(drive(commit, spare, 1000), [(0, OutcomeKind::Failed)]);
        assert!(commit.taken_over());
        assert_eq!(spare.disk, before);
        assert_eq!(commit.join(table(0), change(0, 1), 0), Err(Refusal::TakenOver));
        commit.close(change(1, 2), 1000);
        assert_eq!(drive(commit, spare, 1000), []);
        assert_eq!(commit.closed(), Some(false));
        assert_eq!(spare.disk, before);
    });
}

#[test]
fn a_header_of_an_older_session_on_a_copy_that_was_missed_is_no_takeover() {
    opened(1, |commit, spare| {
        for copy in 0..4 {
            let old = Tiny { kind: 1, copy, generation: 1, content: [99, 2], pages: 1, ..TORN };
            spare.disk.cell(HEADER, CopyIndex(copy)).now = old;
        }
        commit.join(table(0), change(0, 1), 0).expect("joins");
        assert_eq!(drive(commit, spare, 1000), [(0, OutcomeKind::Acknowledged)]);
        assert!(!commit.taken_over());
        // With not one header of its own left it cannot tell: nothing is written, nothing is lost.
        spare.disk.cell(HEADER, CopyIndex(4)).now = TORN;
        let before = spare.disk.clone();
        commit.join(table(0), change(0, 2), 1).expect("joins");
        assert_eq!(drive(commit, spare, 2000), [(1, OutcomeKind::Failed)]);
        assert_eq!(spare.disk, before);
    });
}

#[test]
fn close_commits_what_joined_then_the_clean_header() {
    opened(1, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        commit.close(change(1, 2), 0);
        assert_eq!(commit.join(table(0), change(0, 2), 1), Err(Refusal::Closed));
        assert_eq!(commit.closed(), None);
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::Acknowledged)]);
        assert_eq!(commit.closed(), Some(true));
        assert_eq!(spare.disk.cell(HEADER, CopyIndex(4)).now.content, [1, 2]);
        assert!(commit.idle());
        assert_eq!(commit.next_deadline(), None);
    });
}

#[test]
fn close_tries_a_reversal_once_more_at_once() {
    opened(1, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        spare.faults.flush = Some(spare.flushes);
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::InDoubt)]);
        commit.close(change(1, 2), 10);
        assert_eq!(drive(commit, spare, 10), [(0, OutcomeKind::Reversed)]);
        assert_eq!(commit.closed(), Some(true));
    });
}

#[test]
fn close_with_a_page_in_doubt_is_unclean() {
    opened(1, |commit, spare| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        spare.faults.writes = 3;
        assert_eq!(drive(commit, spare, 0), [(0, OutcomeKind::InDoubt)]);
        commit.close(change(1, 2), 10);
        assert_eq!(drive(commit, spare, 10), []);
        assert_eq!(commit.closed(), Some(false));
        for copy in 0..5 {
            assert_eq!(spare.disk.cell(HEADER, CopyIndex(copy)).now.content, [1, 1]);
        }
    });
}

#[test]
fn a_change_that_the_end_of_a_close_cuts_short_is_in_doubt() {
    opened(1, |commit, _| {
        commit.join(table(0), change(0, 1), 0).expect("joins");
        assert_eq!(copies(&burst(commit, 0)), [0, 1]);
        commit.close(change(1, 2), 0);
        commit.tick(1000);
        assert_eq!(burst(commit, 1000), []);
        assert_eq!(outcomes(commit), [(0, OutcomeKind::InDoubt)]);
        assert_eq!(commit.closed(), Some(false));
    });
}

#[test]
fn close_ends_within_its_limit_whatever_the_device_does() {
    opened(1, |commit, _| {
        commit.close(change(1, 2), 100);
        let writes = burst(commit, 900);
        assert_eq!(copies(&writes), [0, 1]);
        assert_eq!(commit.next_deadline(), Some(1100));
        commit.tick(1100);
        assert_eq!(commit.closed(), Some(false));
        assert_eq!(burst(commit, 1100), []);
        good(commit, &writes, 1200);
        assert_eq!(burst(commit, 1200), []);
    });
}
