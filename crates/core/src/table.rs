// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table: which units of main have an entry, and where their content lives.
//!
//! All of it lies in the caller's words: a head, two roots, a ring of retired leaves, and an arena
//! of leaves. A *leaf* holds up to 252 entries in rising order of units. A *root* is an array of
//! first units (keys) and, beside it, an array of slots, one word each, that lead to leaves; over
//! the keys lies a directory of equal steps of units, so that only few keys are left to bisect.
//!
//! There is one writer and any number of readers, and readers never wait or retry. A leaf, and a
//! root but for its slots, are never written while a reader can reach them. A change is written to
//! a free leaf and published by one store to the slot; a leaf that overflows becomes two in the
//! same slot, again by one store. Slots with two leaves are spread out when the root is copied,
//! which is done now and then, outside the I/O path; the copy is published by one store too.
//! What was replaced is used again after the *lookup grace* ([`LookupGrace`]): when every lookup
//! that had begun before it was replaced has ended.
//!
//! A lookup is linearised where it loads the slot (or, if the root is replaced meanwhile, just
//! before that). What it says of one leaf is a snapshot; between leaves it promises only that
//! every entry it returns was there at some time since the lookup began.
//!
//! Room: leaves are merged only when the arena runs short, three neighbours into two. As long as
//! no three neighbours hold at most 480 entries together, a leaf holds more than 160 on average;
//! so an arena for `max_entries / 160` leaves and a reserve always has room, in 26 bytes an entry.

use core::ops::Deref;

use dmremap_format::{SlotIndex, SpareUnit, States, UnitIndex};

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table_leaf::{Part, Slot, entry_at, load, lower_bound, store, unit_of, unpack};
use crate::table_size::{CELLS_PER_LEAF, LEAF_WORDS, MAX_CELLS, RESERVE, SPARSE};
pub use crate::table_writer::{MAX_CHANGES, TableWriter};

/// One unit of main that does not live wholly at its own place, or is given a spare unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The unit of main, below 2^44.
    pub unit: UnitIndex,
    /// Its unit on a spare, below 2^40 - 1, if it has one.
    pub spare: Option<SpareUnit>,
    /// The spare's row in the member list, 0 to 7.
    pub member: u8,
    /// Where each of its blocks lives.
    pub states: States,
    /// The slot on disk that holds this entry, below 2^24.
    pub slot: SlotIndex,
}

/// Knows when all lookups that had begun at some time have ended: RCU in the kernel,
/// [`Readers`](crate::readers::Readers) in user space. Every lookup in a [`Table`] runs under it.
pub trait LookupGrace {
    /// Begins a grace, after what is to be reused has been made unreachable.
    fn start(&self) -> u64;
    /// Whether every lookup that had begun before that [`start`](Self::start) has ended. A yes
    /// holds for all earlier tokens too, and for good, even if a later call is more cautious.
    fn passed(&self, token: u64) -> bool;
}

const HEAD_WORDS: usize = 8;
const HEAD_ROOT: usize = 0;
const HEAD_LEN: usize = 1;
const LINE_WORDS: usize = 8;
const ROOT_HEAD_WORDS: usize = 8;
const ROOT_COUNT: usize = 0;
const ROOT_BASE: usize = 1;
const ROOT_SHIFT: usize = 2;
const MAX_ENTRIES: usize = 1 << 24;

/// Where the parts lie, in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) leaves: usize,
    pub(crate) cells: usize,
    head: usize,
}

impl Layout {
    fn new(max_entries: usize) -> Layout {
        let full = max_entries.min(MAX_ENTRIES).saturating_mul(3).div_ceil(SPARSE);
        let leaves = full.saturating_add(3).saturating_add(RESERVE);
        let cells = leaves.saturating_mul(CELLS_PER_LEAF).next_power_of_two().min(MAX_CELLS);
        Layout { leaves, cells, head: 0 }
    }

    /// Two cells a word, and the end of the last one.
    fn root_words(&self) -> usize {
        let cells = (self.cells >> 1).saturating_add(1);
        let words = self.leaves.saturating_mul(2).saturating_add(cells);
        words.saturating_add(ROOT_HEAD_WORDS).next_multiple_of(LINE_WORDS)
    }

    fn root(&self, root: usize) -> usize {
        self.head.wrapping_add(HEAD_WORDS).wrapping_add(root.wrapping_mul(self.root_words()))
    }

    fn ring(&self) -> usize {
        self.root(2)
    }

    fn arena(&self) -> usize {
        let ring = self.leaves.saturating_mul(2).next_multiple_of(LINE_WORDS);
        self.ring().wrapping_add(ring)
    }

    /// One line more than the parts take, so that they can begin at a cache line.
    fn words(&self) -> usize {
        let arena = self.leaves.saturating_mul(LEAF_WORDS);
        self.arena().saturating_add(arena).saturating_add(LINE_WORDS)
    }
}

/// The published table: what lookups see.
pub struct Table<W> {
    words: W,
    layout: Layout,
}

/// One root, as a slice from its head on.
#[derive(Clone, Copy)]
pub(crate) struct Root<'a> {
    words: &'a [AtomicU64],
    layout: Layout,
}

impl<'a> Root<'a> {
    pub(crate) fn count(self) -> usize {
        load(self.words, ROOT_COUNT) as usize
    }

    pub(crate) fn key(self, position: usize) -> u64 {
        load(self.words, ROOT_HEAD_WORDS.wrapping_add(position))
    }

    fn slot_word(self, position: usize) -> Option<&'a AtomicU64> {
        let at = ROOT_HEAD_WORDS.wrapping_add(self.layout.leaves).wrapping_add(position);
        self.words.get(at)
    }

    pub(crate) fn slot(self, position: usize) -> Slot {
        let word = self.slot_word(position);
        // Acquire: with the slot come the words of the leaves it leads to.
        word.map_or(Slot::EMPTY, |word| Slot::from_bits(word.load(Ordering::Acquire)))
    }

    pub(crate) fn set_key(self, position: usize, key: u64) {
        store(self.words, ROOT_HEAD_WORDS.wrapping_add(position), key);
    }

    pub(crate) fn set_slot(self, position: usize, slot: Slot) {
        if let Some(word) = self.slot_word(position) {
            word.store(slot.bits(), Ordering::Release);
        }
    }

    fn cell_word(self, cell: usize) -> usize {
        let slots = ROOT_HEAD_WORDS.wrapping_add(self.layout.leaves.wrapping_mul(2));
        slots.wrapping_add(cell >> 1)
    }

    /// The last position whose key is not above the first unit of this cell.
    fn cell(self, cell: usize) -> usize {
        let word = load(self.words, self.cell_word(cell));
        let half = if cell & 1 == 0 { word } else { word >> 32 };
        (half & 0xffff_ffff) as usize
    }

    /// The position whose slot holds `unit` if any does: the last key not above it, else 0.
    fn find(self, unit: u64) -> usize {
        let base = load(self.words, ROOT_BASE);
        if unit <= base {
            return 0;
        }
        let shift = load(self.words, ROOT_SHIFT) & 63;
        let cell = (unit.wrapping_sub(base) >> shift) as usize;
        let cell = cell.min(self.layout.cells.saturating_sub(1));
        let mut low = self.cell(cell);
        let mut high = self.cell(cell.wrapping_add(1));
        while low < high {
            let middle = low.wrapping_add(high).wrapping_add(1) >> 1;
            if self.key(middle) <= unit {
                low = middle;
            } else {
                high = middle.wrapping_sub(1);
            }
        }
        low
    }

    /// Makes the directory over the `count` keys already set, of a root nobody can reach.
    pub(crate) fn finish(self, count: usize) {
        let base = self.key(0);
        let span = self.key(count.saturating_sub(1)).saturating_sub(base);
        let bits = 64u32.saturating_sub(span.leading_zeros());
        let shift = bits.saturating_sub(self.layout.cells.trailing_zeros());
        store(self.words, ROOT_COUNT, count as u64);
        store(self.words, ROOT_BASE, base);
        store(self.words, ROOT_SHIFT, u64::from(shift));
        let mut position = 0usize;
        let mut low_half = 0u64;
        for cell in 0..=self.layout.cells {
            let first = base.saturating_add((cell as u64).wrapping_shl(shift));
            loop {
                let next = position.wrapping_add(1);
                if next >= count || self.key(next) > first {
                    break;
                }
                position = next;
            }
            let value = position as u64;
            let word = if cell & 1 == 0 { value } else { low_half | (value << 32) };
            store(self.words, self.cell_word(cell), word);
            low_half = value;
        }
    }
}

/// Where the entry of a unit is, or would be.
pub(crate) struct Place {
    pub(crate) position: usize,
    pub(crate) slot: Slot,
    /// In the slot's second leaf.
    pub(crate) in_high: bool,
    pub(crate) index: usize,
    pub(crate) found: bool,
}

impl Place {
    /// The leaf it is in.
    pub(crate) fn part(&self) -> Part {
        if self.in_high { self.slot.high } else { self.slot.low }
    }
}

/// The entries of one leaf from some unit on, in rising order, as they were at one moment.
///
/// To be used within the lookup grace in which it was taken.
pub struct Snapshot<'a> {
    leaf: &'a [AtomicU64],
    index: usize,
    count: usize,
    until: Option<UnitIndex>,
}

impl Snapshot<'_> {
    /// The first unit this snapshot says nothing of; `None`: it goes to the end of main. A unit
    /// from its beginning to there that it does not return has no entry.
    #[must_use]
    pub fn until(&self) -> Option<UnitIndex> {
        self.until
    }
}

impl Iterator for Snapshot<'_> {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        if self.index >= self.count {
            return None;
        }
        let packed = entry_at(self.leaf, self.index);
        self.index = self.index.wrapping_add(1);
        Some(unpack(packed))
    }
}

impl<W: Deref<Target = [AtomicU64]>> Table<W> {
    /// How many words a table of at most `max_entries` (at most 2^24) entries needs.
    #[must_use]
    pub fn words(max_entries: usize) -> usize {
        Layout::new(max_entries).words()
    }

    /// An empty table in `words`, which are all zero, and the one writer it has. With fewer than
    /// [`words`](Self::words) words the table stays empty: its writer is never ready.
    pub fn new(words: W, max_entries: usize) -> (Table<W>, TableWriter) {
        let mut layout = Layout::new(max_entries);
        if words.len() < layout.words() {
            layout = Layout { leaves: 0, cells: 0, head: 0 };
        } else {
            // A speed matter only: leaves then begin at cache lines.
            let past = words.as_ptr().addr() % 64;
            layout.head = (64usize.wrapping_sub(past) % 64) / 8;
        }
        let table = Table { words, layout };
        if layout.leaves > 0 {
            let root = table.root(0);
            root.set_key(0, 0);
            root.set_slot(0, Slot::EMPTY);
            root.finish(1);
        }
        (table, TableWriter::new(layout.leaves))
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        load(&self.words, self.layout.head.wrapping_add(HEAD_LEN)) as usize
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn set_len(&self, len: usize) {
        store(&self.words, self.layout.head.wrapping_add(HEAD_LEN), len as u64);
    }

    /// The entry of this unit.
    #[must_use]
    #[inline]
    pub fn get(&self, unit: UnitIndex) -> Option<Entry> {
        let place = self.place(self.current(), unit.0);
        let leaf = self.leaf(place.part().leaf);
        place.found.then(|| unpack(entry_at(leaf, place.index)))
    }

    /// The first entry whose unit is not below `from`.
    #[must_use]
    pub fn next(&self, from: UnitIndex) -> Option<Entry> {
        let mut snapshot = self.snapshot(from);
        loop {
            if let Some(entry) = snapshot.next() {
                return Some(entry);
            }
            snapshot = self.snapshot(snapshot.until()?);
        }
    }

    /// The entries from `from` on that lie in the leaf where `from` has or would have its own.
    #[must_use]
    #[inline]
    pub fn snapshot(&self, from: UnitIndex) -> Snapshot<'_> {
        let root = self.current();
        let place = self.place(root, from.0);
        let part = place.part();
        let until = if place.slot.is_pair() && !place.in_high {
            Some(load(self.leaf(place.slot.high.leaf), 0))
        } else {
            let root = self.root(root);
            let next = place.position.wrapping_add(1);
            (next < root.count()).then(|| root.key(next))
        };
        let leaf = self.leaf(part.leaf);
        let until = until.map(UnitIndex);
        Snapshot { leaf, index: place.index, count: part.count, until }
    }

    /// Where `unit` is under this root. Loads its slot once.
    #[inline]
    pub(crate) fn place(&self, root: usize, unit: u64) -> Place {
        let root = self.root(root);
        let position = root.find(unit);
        let slot = root.slot(position);
        let in_high = slot.is_pair() && load(self.leaf(slot.high.leaf), 0) <= unit;
        let part = if in_high { slot.high } else { slot.low };
        let leaf = self.leaf(part.leaf);
        let index = lower_bound(leaf, part.count, unit);
        let found = index < part.count && unit_of(entry_at(leaf, index)) == unit;
        Place { position, slot, in_high, index, found }
    }

    #[inline]
    fn current(&self) -> usize {
        let word = self.words.get(self.layout.head.wrapping_add(HEAD_ROOT));
        // Acquire: with the root's number come its words.
        word.map_or(0, |word| word.load(Ordering::Acquire)) as usize
    }

    pub(crate) fn set_current(&self, root: usize) {
        if let Some(word) = self.words.get(self.layout.head.wrapping_add(HEAD_ROOT)) {
            word.store(root as u64, Ordering::Release);
        }
    }

    pub(crate) fn root(&self, root: usize) -> Root<'_> {
        let words = self.words.get(self.layout.root(root)..).unwrap_or_default();
        Root { words, layout: self.layout }
    }

    /// The words of a leaf; none for a leaf that is not there.
    #[inline]
    pub(crate) fn leaf(&self, leaf: u32) -> &[AtomicU64] {
        let at = (leaf as usize).wrapping_mul(LEAF_WORDS).wrapping_add(self.layout.arena());
        self.words.get(at..at.wrapping_add(LEAF_WORDS)).unwrap_or_default()
    }

    /// Place `index` of the ring of retired leaves: the leaf and the token of its grace.
    pub(crate) fn retired(&self, index: usize) -> (u32, u64) {
        let at = self.layout.ring().wrapping_add(index.wrapping_mul(2));
        (load(&self.words, at) as u32, load(&self.words, at.wrapping_add(1)))
    }

    pub(crate) fn set_retired(&self, index: usize, leaf: u32, token: u64) {
        let at = self.layout.ring().wrapping_add(index.wrapping_mul(2));
        store(&self.words, at, u64::from(leaf));
        store(&self.words, at.wrapping_add(1), token);
    }
}
