// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of moved units: a plain sorted array under a sequence lock, until the arena is there.
use core::ops::Deref;

use dmremap_format::{SlotIndex, SpareUnit, States, UnitIndex};

use crate::sync::{AtomicU64, Ordering::SeqCst};

/// One unit of main with blocks that live elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The unit of main.
    pub unit: UnitIndex,
    /// Its spare unit, if it has one.
    pub spare: Option<SpareUnit>,
    /// The spare's row in the member list.
    pub member: u8,
    /// Where each block lives.
    pub states: States,
    /// Its slot in the table on disk.
    pub slot: SlotIndex,
}

const NONE: u64 = (1 << 40) - 1;

impl Entry {
    fn pack(&self) -> [u64; 3] {
        [
            self.unit.0,
            self.spare.map_or(NONE, |s| s.0) | (u64::from(self.member) << 40),
            u64::from(self.states.bits()) | (u64::from(self.slot.0) << 16),
        ]
    }

    fn unpack([unit, spare, rest]: [u64; 3]) -> Entry {
        let place = spare & NONE;
        Entry {
            unit: UnitIndex(unit),
            spare: (place != NONE).then_some(SpareUnit(place)),
            member: u8::try_from((spare >> 40) & 7).unwrap_or(0),
            states: States::from_bits(u16::try_from(rest & 0xffff).unwrap_or(0))
                .unwrap_or(States::ALL_MAIN),
            slot: SlotIndex(u32::try_from((rest >> 16) & 0xff_ffff).unwrap_or(0)),
        }
    }
}

/// When lookups begun before a moment have ended.
pub trait LookupGrace {
    /// A moment.
    fn start(&self) -> u64;
    /// Whether every lookup begun before it has ended.
    fn passed(&self, token: u64) -> bool;
}

/// The table, for any number of readers.
pub struct Table<W> {
    words: W,
}

/// The single writer's part.
pub struct TableWriter {
    capacity: usize,
}

impl<W: Deref<Target = [AtomicU64]>> Table<W> {
    /// Words needed.
    #[must_use]
    pub fn words(max_entries: usize) -> usize {
        max_entries.saturating_mul(3).saturating_add(2)
    }

    /// An empty table; `words` are zero.
    pub fn new(words: W, max_entries: usize) -> (Table<W>, TableWriter) {
        (Table { words }, TableWriter { capacity: max_entries })
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |w| w.load(SeqCst))
    }

    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, SeqCst);
        }
    }

    fn raw(&self, at: usize) -> [u64; 3] {
        let first = at.wrapping_mul(3).wrapping_add(2);
        [self.word(first), self.word(first.wrapping_add(1)), self.word(first.wrapping_add(2))]
    }

    fn put_raw(&self, at: usize, raw: [u64; 3]) {
        let first = at.wrapping_mul(3).wrapping_add(2);
        for (offset, value) in raw.into_iter().enumerate() {
            self.set(first.wrapping_add(offset), value);
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        usize::try_from(self.word(1)).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, unit: UnitIndex) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.wrapping_add(high) >> 1;
            if self.raw(middle)[0] < unit.0 {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    /// The entry of a unit.
    pub fn get(&self, unit: UnitIndex) -> Option<Entry> {
        self.next(unit).filter(|e| e.unit == unit)
    }

    /// The first entry from this unit on.
    pub fn next(&self, from: UnitIndex) -> Option<Entry> {
        loop {
            let version = self.word(0);
            if version & 1 == 0 {
                let at = self.find(from);
                let found = (at < self.len()).then(|| self.raw(at));
                if self.word(0) == version {
                    return found.map(Entry::unpack);
                }
            }
            core::hint::spin_loop();
        }
    }
}

impl TableWriter {
    /// Whether so many puts cannot fail.
    pub fn ready(&self, _changes: usize) -> bool {
        true
    }

    /// Inserts or replaces.
    pub fn put<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        entry: Entry,
        _grace: &impl LookupGrace,
    ) -> bool {
        let (at, len) = (table.find(entry.unit), table.len());
        let replace = at < len && table.raw(at)[0] == entry.unit.0;
        if !replace && len >= self.capacity {
            return false;
        }
        table.set(0, table.word(0).wrapping_add(1));
        if !replace {
            for index in (at..len).rev() {
                table.put_raw(index.wrapping_add(1), table.raw(index));
            }
            table.set(1, table.word(1).wrapping_add(1));
        }
        table.put_raw(at, entry.pack());
        table.set(0, table.word(0).wrapping_add(1));
        true
    }

    /// Removes.
    pub fn remove<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        table: &Table<W>,
        unit: UnitIndex,
        _grace: &impl LookupGrace,
    ) -> bool {
        let (at, len) = (table.find(unit), table.len());
        if at >= len || table.raw(at)[0] != unit.0 {
            return false;
        }
        table.set(0, table.word(0).wrapping_add(1));
        for index in at.wrapping_add(1)..len {
            table.put_raw(index.wrapping_sub(1), table.raw(index));
        }
        table.set(1, table.word(1).wrapping_sub(1));
        table.set(0, table.word(0).wrapping_add(1));
        true
    }

    /// Nothing to do here.
    pub fn reclaim<W>(&mut self, _table: &Table<W>, _grace: &impl LookupGrace) {}
}
