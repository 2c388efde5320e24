// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The single writer of the table.
//!
//! A change takes one free leaf, two when a leaf overflows, and retires what it replaces. The
//! ring of retired leaves and the free list (threaded through the free leaves themselves) lie in
//! the table's words. A slot begins with one leaf when the root is copied, holds at most two, and
//! two take all that 252 insertions can add to one; so before the 253rd the root must be copied
//! again, which needs the other root past its grace. [`TableWriter::ready`] looks at both.
//!
//! Appending to a full leaf leaves it full and begins another; so does inserting before its first
//! entry. Only an insertion between two entries halves it.

use core::ops::Deref;

use crate::sync::atomic::AtomicU64;
use crate::table::{Entry, LookupGrace, Place, Root, Table};
use crate::table_leaf::{Edit, NO_LEAF, Packed, Part, Sequence, Slot, load, pack, store};
use crate::table_size::{COPY_AFTER, LEAF_ENTRIES, MERGE_RESERVE, RESERVE, SPARSE};
use dmremap_format::UnitIndex;

/// The writer's own part of a table.
#[derive(Debug)]
pub struct TableWriter {
    /// The leaves of the arena.
    leaves: usize,
    /// The root lookups use: 0 or 1.
    root: usize,
    /// The grace of the other root, while it has not passed.
    root_grace: Option<u64>,
    /// The first free leaf, and how many there are in the list.
    free_head: u32,
    free_listed: usize,
    /// Leaves below this have been used before.
    touched: usize,
    /// The oldest retired leaf in the ring, and how many there are.
    retired_first: usize,
    retired: usize,
    /// Slots with two leaves, and the insertions since there was none.
    pairs: usize,
    inserted: usize,
}

/// What a change lacked.
enum Lack {
    Leaf,
    Root,
}

/// The most changes [`TableWriter::ready`] can ever say yes to.
pub const MAX_CHANGES: usize = (RESERVE - MERGE_RESERVE) / 2;

impl TableWriter {
    pub(crate) fn new(leaves: usize) -> TableWriter {
        TableWriter {
            leaves,
            root: 0,
            root_grace: None,
            free_head: NO_LEAF,
            free_listed: 0,
            touched: 0,
            retired_first: 0,
            retired: 0,
            pairs: 0,
            inserted: 0,
        }
    }

    /// Whether the next `changes` (at most [`MAX_CHANGES`]) calls of `put` and `remove` cannot
    /// fail. When it says no, it says yes after the lookups now in progress have ended and
    /// [`reclaim`](Self::reclaim) was called, perhaps several times in turn.
    #[must_use]
    pub fn ready(&self, changes: usize) -> bool {
        let leaves = changes.saturating_mul(2).saturating_add(MERGE_RESERVE);
        leaves <= self.free() && self.inserted.saturating_add(changes) <= LEAF_ENTRIES
    }

    /// Inserts the entry, or replaces the one of the same unit. False, and nothing changed, if a
    /// number in it does not fit, or if there was no room, which cannot be after
    /// [`ready`](Self::ready).
    #[must_use]
    pub fn put<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        entry: Entry,
        grace: &impl LookupGrace,
    ) -> bool {
        let Some(packed) = pack(&entry) else { return false };
        self.change(table, entry.unit.0, Some(packed), grace)
    }

    /// Makes the unit one without an entry, if it has one. False, and nothing changed, if there
    /// was no room, which cannot be after [`ready`](Self::ready).
    #[must_use]
    pub fn remove<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        unit: UnitIndex,
        grace: &impl LookupGrace,
    ) -> bool {
        self.change(table, unit.0, None, grace)
    }

    /// Takes back the leaves whose grace has passed, copies the root and merges leaves when that
    /// is due. To be called outside the I/O path, now and then and when `ready` says no.
    pub fn reclaim<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        grace: &impl LookupGrace,
    ) {
        self.collect(table, grace);
        if self.pairs == 0 {
            self.inserted = 0;
        }
        if self.inserted >= COPY_AFTER || self.surplus() > 0 {
            self.copy_root(table, grace);
        }
    }

    fn free(&self) -> usize {
        self.free_listed.saturating_add(self.leaves.saturating_sub(self.touched))
    }

    /// How many more leaves are in use than the fullest table needs.
    fn surplus(&self) -> usize {
        let spare = self.free().saturating_add(self.retired);
        RESERVE.saturating_sub(spare).min(self.leaves)
    }

    fn change<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        unit: u64,
        new: Option<Packed>,
        grace: &impl LookupGrace,
    ) -> bool {
        let Err(lack) = self.try_change(table, unit, new, grace) else { return true };
        self.collect(table, grace);
        if matches!(lack, Lack::Root) {
            self.copy_root(table, grace);
        }
        self.try_change(table, unit, new, grace).is_ok()
    }

    fn try_change<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        unit: u64,
        new: Option<Packed>,
        grace: &impl LookupGrace,
    ) -> Result<(), Lack> {
        let place = table.place(self.root, unit);
        let edit = match (new, place.found) {
            (None, false) => return Ok(()),
            (None, true) => Edit::Remove(place.index),
            (Some(packed), true) => Edit::Replace(place.index, packed),
            (Some(packed), false) => Edit::Insert(place.index, packed),
        };
        let part = place.part();
        let inserts = matches!(edit, Edit::Insert(..));
        if inserts && part.count >= LEAF_ENTRIES {
            if place.slot.is_pair() {
                self.spread(table, &place, edit, grace)?;
            } else {
                self.split(table, &place, edit, grace)?;
            }
        } else {
            self.rewrite(table, &place, part, edit, grace)?;
        }
        let len = table.len();
        match edit {
            Edit::Insert(..) => {
                self.inserted = self.inserted.saturating_add(1);
                table.set_len(len.saturating_add(1));
            }
            Edit::Remove(_) => table.set_len(len.saturating_sub(1)),
            Edit::Keep | Edit::Replace(..) => {}
        }
        Ok(())
    }

    /// Writes one leaf anew.
    fn rewrite<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        place: &Place,
        part: Part,
        edit: Edit,
        grace: &impl LookupGrace,
    ) -> Result<(), Lack> {
        let none = table.leaf(NO_LEAF);
        let parts = [(table.leaf(part.leaf), part.count), (none, 0), (none, 0)];
        let sequence = Sequence { parts, edit };
        let count = sequence.len();
        let new = self.write(table, &sequence, 0, count)?;
        let slot = if place.in_high {
            Slot::of(place.slot.low, new)
        } else {
            Slot::of(new, place.slot.high)
        };
        self.publish(table, place, slot);
        self.retire(table, &[part], grace);
        Ok(())
    }

    /// Makes two leaves of a full one.
    fn split<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        place: &Place,
        edit: Edit,
        grace: &impl LookupGrace,
    ) -> Result<(), Lack> {
        let old = place.slot.low;
        let none = table.leaf(NO_LEAF);
        let parts = [(table.leaf(old.leaf), old.count), (none, 0), (none, 0)];
        let sequence = Sequence { parts, edit };
        let count = sequence.len();
        if place.index >= old.count {
            let high = self.write(table, &sequence, old.count, count)?;
            self.publish(table, place, Slot::of(old, high));
        } else if place.index == 0 {
            let low = self.write(table, &sequence, 0, 1)?;
            self.publish(table, place, Slot::of(low, old));
        } else {
            let slot = self.halve(table, &sequence)?;
            self.publish(table, place, slot);
            self.retire(table, &[old], grace);
        }
        Ok(())
    }

    /// Spreads the entries of two leaves, one of them full, evenly over two.
    fn spread<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        place: &Place,
        edit: Edit,
        grace: &impl LookupGrace,
    ) -> Result<(), Lack> {
        let (low, high) = (place.slot.low, place.slot.high);
        let edit = match edit {
            Edit::Insert(at, packed) if place.in_high => {
                Edit::Insert(at.saturating_add(low.count), packed)
            }
            other => other,
        };
        let leaves = [(table.leaf(low.leaf), low.count), (table.leaf(high.leaf), high.count)];
        let parts = [leaves[0], leaves[1], (table.leaf(NO_LEAF), 0)];
        let sequence = Sequence { parts, edit };
        if sequence.len() > LEAF_ENTRIES.saturating_mul(2) {
            return Err(Lack::Root);
        }
        let slot = self.halve(table, &sequence)?;
        self.publish(table, place, slot);
        self.retire(table, &[low, high], grace);
        Ok(())
    }

    fn halve<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        sequence: &Sequence<'_>,
    ) -> Result<Slot, Lack> {
        if self.free() < 2 {
            return Err(Lack::Leaf);
        }
        let count = sequence.len();
        let half = count.div_ceil(2);
        let low = self.write(table, sequence, 0, half)?;
        let high = self.write(table, sequence, half, count)?;
        Ok(Slot::of(low, high))
    }

    /// Writes these entries of the sequence to a free leaf; none of none.
    fn write<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        sequence: &Sequence<'_>,
        from: usize,
        to: usize,
    ) -> Result<Part, Lack> {
        if from >= to {
            return Ok(Part::NONE);
        }
        let leaf = self.take(table).ok_or(Lack::Leaf)?;
        sequence.write(table.leaf(leaf), from, to);
        Ok(Part { leaf, count: to.saturating_sub(from) })
    }

    fn publish<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        place: &Place,
        slot: Slot,
    ) {
        match (place.slot.is_pair(), slot.is_pair()) {
            (false, true) => self.pairs = self.pairs.saturating_add(1),
            (true, false) => self.pairs = self.pairs.saturating_sub(1),
            _ => {}
        }
        table.root(self.root).set_slot(place.position, slot);
    }

    fn take<W: Deref<Target = [AtomicU64]>>(&mut self, table: &Table<W>) -> Option<u32> {
        if self.free_head != NO_LEAF {
            let leaf = self.free_head;
            self.free_head = load(table.leaf(leaf), 0) as u32;
            self.free_listed = self.free_listed.saturating_sub(1);
            return Some(leaf);
        }
        if self.touched >= self.leaves {
            return None;
        }
        let leaf = self.touched as u32;
        self.touched = self.touched.saturating_add(1);
        Some(leaf)
    }

    /// Puts leaves no slot leads to any more in the ring. Each leaf is in it at most once, so
    /// there is always a place.
    fn retire<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        parts: &[Part],
        grace: &impl LookupGrace,
    ) {
        let mut token = None;
        for part in parts.iter().filter(|part| !part.is_none()) {
            let token = *token.get_or_insert_with(|| grace.start());
            table.set_retired(self.ring(self.retired), part.leaf, token);
            self.retired = self.retired.saturating_add(1);
        }
    }

    /// The ring's place `index` after the oldest.
    fn ring(&self, index: usize) -> usize {
        self.retired_first.wrapping_add(index).checked_rem(self.leaves).unwrap_or(0)
    }

    /// Moves the retired leaves whose grace has passed to the free list.
    fn collect<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        grace: &impl LookupGrace,
    ) {
        if self.root_grace.is_some_and(|token| grace.passed(token)) {
            self.root_grace = None;
        }
        if self.retired == 0 {
            return;
        }
        let newest = table.retired(self.ring(self.retired.saturating_sub(1))).1;
        let all = grace.passed(newest);
        while self.retired > 0 {
            let (leaf, token) = table.retired(self.retired_first);
            if !all && !grace.passed(token) {
                break;
            }
            self.retired_first = self.ring(1);
            self.retired = self.retired.saturating_sub(1);
            store(table.leaf(leaf), 0, u64::from(self.free_head));
            self.free_head = leaf;
            self.free_listed = self.free_listed.saturating_add(1);
        }
    }

    /// Copies the root if the other one is past its grace: one leaf a slot, empty ones left out,
    /// leaves merged while there is a surplus.
    fn copy_root<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        grace: &impl LookupGrace,
    ) {
        if self.root_grace.is_some() || self.leaves == 0 {
            return;
        }
        let other = self.root ^ 1;
        let from = table.root(self.root);
        let mut copy = NewRoot { root: table.root(other), count: 0 };
        let wanted = match self.surplus() {
            0 => 0,
            // Some more than needed, so that it is not done again at once.
            surplus => surplus.saturating_add(MERGE_RESERVE),
        };
        let mut merged = 0usize;
        // Leaves merged away are out of use only when the copy is published: kept apart in the
        // ring, beyond its counted part, until then.
        let mut replaced = 0usize;
        for position in 0..from.count() {
            let slot = from.slot(position);
            // The first slot takes all that is below its key too.
            let key = match position {
                0 => load(table.leaf(slot.low.leaf), 0),
                _ => from.key(position),
            };
            for (key, part) in [(key, slot.low), (load(table.leaf(slot.high.leaf), 0), slot.high)] {
                if part.count == 0 {
                    continue;
                }
                copy.push(key, part);
                if merged < wanted {
                    let gain = self.merge_last(table, &mut copy, &mut replaced);
                    merged = merged.saturating_add(gain);
                }
            }
        }
        if copy.count == 0 {
            copy.push(0, Part::NONE);
        }
        copy.root.finish(copy.count);
        table.set_current(other);
        let token = grace.start();
        for index in 0..replaced {
            let at = self.ring(self.retired.saturating_add(index));
            let leaf = table.retired(at).0;
            table.set_retired(at, leaf, token);
        }
        self.retired = self.retired.saturating_add(replaced);
        self.root = other;
        self.root_grace = Some(token);
        self.pairs = 0;
        self.inserted = 0;
    }

    /// Merges the last three leaves of the copy into fewer if they are short enough; returns by
    /// how many fewer.
    fn merge_last<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        copy: &mut NewRoot<'_>,
        replaced: &mut usize,
    ) -> usize {
        let Some(first) = copy.count.checked_sub(3) else { return 0 };
        let old = [0usize, 1, 2].map(|i| copy.root.slot(first.wrapping_add(i)).low);
        let sequence = Sequence {
            parts: old.map(|part| (table.leaf(part.leaf), part.count)),
            edit: Edit::Keep,
        };
        let count = sequence.len();
        if count > SPARSE || self.free() < 2 {
            return 0;
        }
        let half = if count > LEAF_ENTRIES { count.div_ceil(2) } else { count };
        let Ok(low) = self.write(table, &sequence, 0, half) else { return 0 };
        let Ok(high) = self.write(table, &sequence, half, count) else { return 0 };
        let key = copy.root.key(first);
        copy.count = first;
        copy.push(key, low);
        if !high.is_none() {
            copy.push(sequence.unit(half), high);
        }
        for part in old {
            let at = self.ring(self.retired.saturating_add(*replaced));
            table.set_retired(at, part.leaf, 0);
            *replaced = replaced.saturating_add(1);
        }
        if high.is_none() { 2 } else { 1 }
    }
}

/// A root being written.
struct NewRoot<'a> {
    root: Root<'a>,
    count: usize,
}

impl NewRoot<'_> {
    fn push(&mut self, key: u64, part: Part) {
        self.root.set_key(self.count, key);
        self.root.set_slot(self.count, Slot::of(part, Part::NONE));
        self.count = self.count.saturating_add(1);
    }
}
