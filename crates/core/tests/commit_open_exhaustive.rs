// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Commit and open, exhaustively: the real machines on pages of a few bytes.
//!
//! A *session* opens the spare, commits as often as its budget allows, and is cut short by a power
//! cut: after every write, with every combination of old, new and torn for each copy that is not
//! durable. Every disk that this leaves is opened again, under every fault of the model, until the
//! budget of opens is used up; then it is opened once more, without a cut, to be looked at. Disks
//! seen before with the same budget and the same expectation are not followed again.
//!
//! Invariants checked:
//! * No open is refused and none is read-only, but for one that could write fewer than four copies
//!   itself.
//! * An open serves, for every page, what was acknowledged or served last, or a change that was
//!   begun since and neither failed cleanly nor was reversed.
//! * So nothing acknowledged is lost, and nothing served is undone.

mod meta;

use meta::Faults;
use meta::model::{Model, check};

/// No fault, or one copy that can be neither read nor written.
fn one_dead_copy() -> Vec<Faults> {
    let dead = |copy: u8| Faults { reads: 1 << copy, writes: 1 << copy, ..Faults::NONE };
    std::iter::once(Faults::NONE).chain((0..5).map(dead)).collect()
}

/// No fault, or one copy whose reads fail, whose writes fail, or both.
fn one_faulty_copy() -> Vec<Faults> {
    let mut all = one_dead_copy();
    for copy in 0..5u8 {
        all.push(Faults { reads: 1 << copy, ..Faults::NONE });
        all.push(Faults { writes: 1 << copy, ..Faults::NONE });
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
    scope: &[],
};

/// The pages of a table page's life: the generation page decides under which stamp it is repaired.
const GENERATION_AND_TABLE: &[u8] = &[2, 3];
/// The same for the header.
const HEADER_AND_GENERATION: &[u8] = &[1, 2];

/// Three opens, the last of them looked at; everything that a cut leaves, in every combination.
#[test]
fn one_page_one_faulty_copy() {
    let name = "one page, 3 opens, 2 commits, one faulty copy, whole product";
    let (faults, changes) = (one_faulty_copy(), vec![vec![0]]);
    check(&Model { name, faults, changes, ..ONE_PAGE });
}

/// The same with the second change joining while the first is written.
#[test]
fn one_page_one_faulty_copy_overlapping() {
    let name = "one page, 3 opens, 2 overlapping commits, one faulty copy";
    let (faults, changes) = (one_faulty_copy(), vec![vec![0]]);
    check(&Model { name, faults, changes, overlap: true, ..ONE_PAGE });
}

/// One more open: the third may be cut too. Pages do not depend on each other but through the
/// generation, so a table page is followed with the generation page, the header whole, and the
/// header likewise.
#[test]
fn one_page_four_opens() {
    let name = "one page, 4 opens, 2 commits, one faulty copy";
    let (faults, changes) = (one_faulty_copy(), vec![vec![0]]);
    check(&Model { name, opens: 3, faults, changes, scope: GENERATION_AND_TABLE, ..ONE_PAGE });
}

#[test]
fn header_four_opens() {
    let name = "header, 4 opens, 2 commits, one faulty copy";
    let (faults, changes) = (one_faulty_copy(), vec![vec![0]]);
    check(&Model { name, opens: 3, faults, changes, scope: HEADER_AND_GENERATION, ..ONE_PAGE });
}

#[test]
fn one_page_cuts_only() {
    let name = "one page, 4 opens, 3 commits, cuts only";
    let (faults, changes) = (vec![Faults::NONE], vec![vec![0]]);
    check(&Model { name, opens: 3, commits: 3, faults, changes, ..ONE_PAGE });
}

#[test]
fn two_pages_with_faults() {
    let name = "two pages, 2 opens, 2 commits, one faulty copy";
    let changes = vec![vec![0], vec![1], vec![0, 1]];
    check(&Model { name, tables: 2, opens: 1, faults: one_faulty_copy(), changes, ..ONE_PAGE });
}

#[test]
fn two_pages_cuts_only() {
    let name = "two pages, 3 opens, 2 commits, cuts only";
    let changes = vec![vec![0], vec![1], vec![0, 1]];
    check(&Model { name, tables: 2, faults: vec![Faults::NONE], changes, ..ONE_PAGE });
}

/// One more open: the two table pages in every combination, header and generation page whole.
#[test]
fn two_pages_three_opens_with_faults() {
    let name = "two pages, 3 opens, 2 commits, one dead copy, tables only";
    let changes = vec![vec![0], vec![1], vec![0, 1]];
    let (faults, scope) = (one_dead_copy(), &[3, 4][..]);
    check(&Model { name, tables: 2, faults, changes, scope, ..ONE_PAGE });
}
