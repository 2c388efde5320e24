// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Changes in doubt, exhaustively: a flush that fails once, at any place of a session, or two
//! copies that cannot be written for a while, beginning at any write; with power cuts everywhere,
//! also in the reversal.
//!
//! Invariants checked: those of `commit_open_exhaustive.rs`, and
//! * a doubtful change is served or not until it is reversed, and never again after that;
//! * an open that fails because it could write fewer than four copies harms no later one.

mod meta;

use meta::Faults;
use meta::model::{Model, check};

/// A flush that fails once: the first, the second, ... of the session.
fn failing_flush() -> Vec<Faults> {
    let flush = |k| Faults { flush: Some(k), ..Faults::NONE };
    std::iter::once(Faults::NONE).chain((0..16).map(flush)).collect()
}

/// Two copies that cannot be written, from any write of the session on, for a while or for good.
fn two_unwritable_copies() -> Vec<Faults> {
    let mut all = vec![Faults::NONE];
    for (a, b) in (0..5u8).flat_map(|a| (a + 1..5).map(move |b| (a, b))) {
        for from in 0..24 {
            for until in [from + 3, from + 8, u32::MAX] {
                all.push(Faults { writes: 1 << a | 1 << b, from, until, ..Faults::NONE });
            }
        }
    }
    all
}

const ONE_PAGE: Model = Model {
    name: "",
    tables: 1,
    opens: 2,
    commits: 2,
    faults: Vec::new(),
    changes: Vec::new(),
    overlap: false,
    scope: &[2, 3],
};

#[test]
fn a_flush_fails() {
    let name = "one page, 3 opens, 2 commits, one flush fails";
    let search =
        check(&Model { name, faults: failing_flush(), changes: vec![vec![0]], ..ONE_PAGE });
    assert!(search.doubts > 0 && search.reversals > 0 && search.unwritten > 0);
}

#[test]
fn two_copies_cannot_be_written() {
    let name = "one page, 3 opens, 2 commits, two copies not written for a while";
    let faults = two_unwritable_copies();
    let search = check(&Model { name, faults, changes: vec![vec![0]], ..ONE_PAGE });
    assert!(search.doubts > search.reversals && search.reversals > 0 && search.unwritten > 0);
}

#[test]
fn a_flush_fails_with_two_pages() {
    let name = "two pages, 2 opens, 2 commits, one flush fails";
    let changes = vec![vec![0], vec![0, 1]];
    let (faults, scope) = (failing_flush(), &[2, 3, 4][..]);
    let search = check(&Model { name, tables: 2, opens: 1, faults, changes, scope, ..ONE_PAGE });
    assert!(search.doubts > 0 && search.reversals > 0);
}

/// The two together: a copy that is dead for a session, and in the same session a flush that fails.
#[test]
fn a_flush_fails_beside_a_dead_copy() {
    let name = "one page, 3 opens, 2 commits, one flush fails beside a dead copy";
    let mut faults = failing_flush();
    for flush in 0..18 {
        let dead = |copy: u8| Faults {
            reads: 1 << copy,
            writes: 1 << copy,
            flush: Some(flush),
            ..Faults::NONE
        };
        faults.extend((0..5).map(dead));
    }
    let search = check(&Model { name, faults, changes: vec![vec![0]], ..ONE_PAGE });
    assert!(search.doubts > 0 && search.reversals > 0 && search.unwritten > 0);
}
