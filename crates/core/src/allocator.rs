// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which spare units are free, used, or quarantined.
//!
//! Two bit maps over the units that can ever be handed out. A cursor moves on from one allocation
//! to the next, so that runs come out contiguous; a neighbour's place is tried first. Nothing is
//! saved here: the maps are rebuilt from the slots at every open, before the first allocation.

use core::ops::Deref;

use dmremap_format::SpareUnit;

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The spare units of one volume. One writer; the words are atomics only because they come from
/// the same memory as everything else.
pub struct Allocator<W> {
    /// Used units in the first half, quarantined ones in the second.
    words: W,
    span: u64,
    used: u64,
    quarantined: u64,
    /// Used and quarantined at once: a failed unit whose content has not moved yet.
    both: u64,
    cursor: u64,
}

fn index_of(unit: u64) -> (usize, u64) {
    (
        usize::try_from(unit >> 6).unwrap_or(usize::MAX),
        1u64.wrapping_shl(u32::try_from(unit & 63).unwrap_or(0)),
    )
}

impl<W: Deref<Target = [AtomicU64]>> Allocator<W> {
    /// Words needed for this many units.
    #[must_use]
    pub fn words(units: u64) -> usize {
        usize::try_from(units.div_ceil(64).saturating_mul(2)).unwrap_or(usize::MAX)
    }

    /// All of `units` free; `words` are zero.
    pub fn new(words: W, units: u64) -> Self {
        Allocator { words, span: units, used: 0, quarantined: 0, both: 0, cursor: 0 }
    }

    fn half(&self) -> usize {
        usize::try_from(self.span.div_ceil(64)).unwrap_or(0)
    }

    fn bit(&self, half: usize, unit: SpareUnit) -> bool {
        let (word, bit) = index_of(unit.0);
        unit.0 < self.span
            && self.words.get(word.wrapping_add(half)).is_some_and(|w| w.load(Relaxed) & bit != 0)
    }

    fn set(&mut self, half: usize, unit: SpareUnit, on: bool) {
        let (word, bit) = index_of(unit.0);
        if unit.0 >= self.span {
            return;
        }
        if let Some(word) = self.words.get(word.wrapping_add(half)) {
            let held = word.load(Relaxed);
            word.store(if on { held | bit } else { held & !bit }, Relaxed);
        }
    }

    fn is_used(&self, unit: SpareUnit) -> bool {
        self.bit(0, unit)
    }

    /// Whether the unit failed once.
    pub fn is_quarantined(&self, unit: SpareUnit) -> bool {
        self.bit(self.half(), unit)
    }

    /// Whether the unit could be handed out.
    pub fn is_free(&self, unit: SpareUnit) -> bool {
        unit.0 < self.span && !self.is_used(unit) && !self.is_quarantined(unit)
    }

    /// Hands out a free unit: the one behind `near` if it is free, else the next from the cursor.
    pub fn alloc(&mut self, near: Option<SpareUnit>) -> Option<SpareUnit> {
        let behind = near.map(|n| SpareUnit(n.0.saturating_add(1))).filter(|n| self.is_free(*n));
        let unit = match behind {
            Some(unit) => unit,
            None => self.next_free()?,
        };
        self.set(0, unit, true);
        self.used = self.used.saturating_add(1);
        self.cursor = unit.0.saturating_add(1);
        Some(unit)
    }

    /// The first free unit from the cursor on, round the end once.
    fn next_free(&self) -> Option<SpareUnit> {
        self.free_in(self.cursor, self.span).or_else(|| self.free_in(0, self.cursor))
    }

    fn free_in(&self, from: u64, to: u64) -> Option<SpareUnit> {
        let mut unit = from;
        while unit < to {
            let (word, _) = index_of(unit);
            let used = self.words.get(word)?.load(Relaxed);
            let bad = self.words.get(word.wrapping_add(self.half()))?.load(Relaxed);
            let taken = (used | bad) >> (unit & 63);
            let skip = u64::from((!taken).trailing_zeros());
            let in_word = 64u64.saturating_sub(unit & 63);
            if skip < in_word {
                let found = unit.saturating_add(skip);
                return (found < to).then_some(SpareUnit(found));
            }
            unit = unit.saturating_add(in_word);
        }
        None
    }

    /// Marks a unit used: at the load of its entry, or because somebody named it. False if it is
    /// used already or beyond the span. A quarantined unit can be taken: its entry may not have
    /// moved off it yet.
    pub fn take(&mut self, unit: SpareUnit) -> bool {
        if unit.0 >= self.span || self.is_used(unit) {
            return false;
        }
        self.set(0, unit, true);
        self.used = self.used.saturating_add(1);
        if self.is_quarantined(unit) {
            self.both = self.both.saturating_add(1);
        }
        true
    }

    /// The unit is no longer used. A quarantined one is still never handed out.
    pub fn free(&mut self, unit: SpareUnit) {
        if !self.is_used(unit) {
            return;
        }
        self.set(0, unit, false);
        self.used = self.used.saturating_sub(1);
        if self.is_quarantined(unit) {
            self.both = self.both.saturating_sub(1);
        }
    }

    /// The unit failed: never handed out again, whether it is in use or not.
    pub fn quarantine(&mut self, unit: SpareUnit) {
        if unit.0 >= self.span || self.is_quarantined(unit) {
            return;
        }
        let half = self.half();
        self.set(half, unit, true);
        self.quarantined = self.quarantined.saturating_add(1);
        if self.is_used(unit) {
            self.both = self.both.saturating_add(1);
        }
    }

    /// Units that can be handed out now.
    pub fn free_units(&self) -> u64 {
        self.span
            .saturating_add(self.both)
            .saturating_sub(self.used)
            .saturating_sub(self.quarantined)
    }

    /// Units in use.
    pub fn used_units(&self) -> u64 {
        self.used
    }

    /// Units that failed.
    pub fn quarantined_units(&self) -> u64 {
        self.quarantined
    }

    /// All units, in whatever state.
    pub fn span(&self) -> u64 {
        self.span
    }
}
