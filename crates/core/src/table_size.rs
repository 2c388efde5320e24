// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The sizes of the table's parts, in a file of their own so that the model checker
//! (`tests/model.rs`) can run the same code with small leaves.

/// Entries a leaf can hold.
pub(crate) const LEAF_ENTRIES: usize = 252;
/// Pivot units at a leaf's head: together one cache line.
pub(crate) const PIVOTS: usize = 8;
/// Entries between two pivots.
pub(crate) const GROUP: usize = 32;
/// Words of a leaf: the pivots, then two words an entry. 4 KiB.
pub(crate) const LEAF_WORDS: usize = 512;
/// Three neighbouring leaves with at most so many entries are worth merging into two. As long as
/// leaves are short, such three exist or a leaf holds more than a third of this on average.
pub(crate) const SPARSE: usize = 480;
/// Leaves beyond what the fullest table needs: what is in reserve or waits for its grace.
pub(crate) const RESERVE: usize = 136;
/// The part of the reserve that only merging may use, so that it can always go on.
pub(crate) const MERGE_RESERVE: usize = 8;
/// Insertions after which the root is worth copying if a slot holds two leaves.
pub(crate) const COPY_AFTER: usize = 128;
/// Cells of the directory for each leaf, and at most.
pub(crate) const CELLS_PER_LEAF: usize = 4;
/// The most cells a directory has.
pub(crate) const MAX_CELLS: usize = 65_536;
