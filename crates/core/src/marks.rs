// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Marks beside the table: busy and doubtful blocks, and pending ones.
//!
//! Busy is one word a job, so that taking and withdrawing it is one store: unit (44 bits), block
//! mask (8 bits), kind (2 bits). A bit map of the words in use makes the empty case one load.
//!
//! Pending marks are an open-addressed table of unit and mask with one writer. They are advice: a
//! mark that finds no place is counted and not kept.

use core::ops::Deref;

use dmremap_format::UnitIndex;

use crate::sync::{AtomicU64, Ordering::SeqCst};

/// Jobs that can hold busy.
pub const BUSY_SLOTS: usize = 64;

const KIND_BUSY: u64 = 1;
const KIND_DOUBT: u64 = 2;

fn packed(unit: UnitIndex, mask: u8, kind: u64) -> u64 {
    (unit.0 << 12) | (u64::from(mask) << 4) | kind
}

fn mask_in(word: u64) -> u8 {
    u8::try_from((word >> 4) & 0xff).unwrap_or(0)
}

/// Busy and doubtful blocks.
pub struct Busy<W> {
    words: W,
}

impl<W: Deref<Target = [AtomicU64]>> Busy<W> {
    /// Words needed.
    #[must_use]
    pub const fn words() -> usize {
        BUSY_SLOTS.saturating_add(1)
    }

    /// Nothing busy; `words` are zero.
    pub fn new(words: W) -> Self {
        Busy { words }
    }

    fn used(&self) -> Option<&AtomicU64> {
        self.words.get(BUSY_SLOTS)
    }

    fn store(&self, j: usize, word: u64) {
        let Some(bit) = u32::try_from(j).ok().and_then(|j| 1u64.checked_shl(j)) else { return };
        let (Some(slot), Some(used)) = (self.words.get(j), self.used()) else { return };
        if word != 0 {
            slot.store(word, SeqCst);
            used.fetch_or(bit, SeqCst);
        } else {
            used.fetch_and(!bit, SeqCst);
            slot.store(0, SeqCst);
        }
    }

    /// Job `j` holds these blocks busy, instead of what it held.
    pub fn set(&self, j: usize, unit: UnitIndex, mask: u8) {
        self.store(j, packed(unit, mask, KIND_BUSY));
    }

    /// Job `j` holds these blocks in doubt, instead of what it held.
    pub fn set_doubt(&self, j: usize, unit: UnitIndex, mask: u8) {
        self.store(j, packed(unit, mask, KIND_DOUBT));
    }

    /// Job `j` holds nothing.
    pub fn clear(&self, j: usize) {
        self.store(j, 0);
    }

    /// Whether nothing is busy at all.
    pub fn is_empty(&self) -> bool {
        self.used().is_none_or(|u| u.load(SeqCst) == 0)
    }

    /// The busy and the doubtful blocks of a unit.
    pub fn find(&self, unit: UnitIndex) -> (u8, u8) {
        let mut used = self.used().map_or(0, |u| u.load(SeqCst));
        let (mut busy, mut doubt) = (0, 0);
        while used != 0 {
            let j = usize::try_from(used.trailing_zeros()).unwrap_or(0);
            used &= used.wrapping_sub(1);
            let word = self.words.get(j).map_or(0, |w| w.load(SeqCst));
            if word >> 12 == unit.0 {
                match word & 3 {
                    KIND_BUSY => busy |= mask_in(word),
                    KIND_DOUBT => doubt |= mask_in(word),
                    _ => {}
                }
            }
        }
        (busy, doubt)
    }
}

/// Units that can hold pending marks at one time.
pub const PENDING_UNITS: usize = 4096;
/// Twice as many places keep the probes short.
const PLACES: usize = 2 * PENDING_UNITS;
/// A place that held a mark: probing goes on past it.
const TOMB: u64 = u64::MAX;

/// Pending marks. Methods that change them belong to the one writer.
pub struct Pending<W> {
    words: W,
}

impl<W: Deref<Target = [AtomicU64]>> Pending<W> {
    /// Words needed.
    #[must_use]
    pub const fn words() -> usize {
        PLACES.saturating_add(3)
    }

    /// No marks; `words` are zero.
    pub fn new(words: W) -> Self {
        Pending { words }
    }

    fn counter(&self, which: usize) -> Option<&AtomicU64> {
        self.words.get(PLACES.wrapping_add(which))
    }

    fn add_to(&self, which: usize, delta: u64) {
        if let Some(counter) = self.counter(which) {
            counter.store(counter.load(SeqCst).wrapping_add(delta), SeqCst);
        }
    }

    fn home(unit: UnitIndex) -> usize {
        let hash = unit.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        usize::try_from(hash).unwrap_or(0) & (PLACES - 1)
    }

    /// The place of a unit's mark.
    fn place(&self, unit: UnitIndex) -> Option<&AtomicU64> {
        let home = Self::home(unit);
        for step in 0..PLACES {
            let word = self.words.get(home.wrapping_add(step) & (PLACES - 1))?;
            match word.load(SeqCst) {
                0 => return None,
                TOMB => {}
                held if held >> 12 == unit.0 => return Some(word),
                _ => {}
            }
        }
        None
    }

    /// Marks blocks; false if there was no place (counted in [`Pending::dropped`]).
    pub fn add(&self, unit: UnitIndex, mask: u8) -> bool {
        if let Some(word) = self.place(unit) {
            let before = mask_in(word.load(SeqCst));
            word.store(packed(unit, before | mask, 1), SeqCst);
            self.add_to(0, u64::from((mask & !before).count_ones()));
            return true;
        }
        let units = self.counter(1).map_or(u64::MAX, |c| c.load(SeqCst));
        let home = Self::home(unit);
        if units < PENDING_UNITS as u64 {
            for step in 0..PLACES {
                let index = home.wrapping_add(step) & (PLACES - 1);
                let Some(word) = self.words.get(index) else { break };
                if matches!(word.load(SeqCst), 0 | TOMB) {
                    word.store(packed(unit, mask, 1), SeqCst);
                    self.add_to(0, u64::from(mask.count_ones()));
                    self.add_to(1, 1);
                    return true;
                }
            }
        }
        self.add_to(2, 1);
        false
    }

    /// Drops the marks of these blocks.
    pub fn drop_marks(&self, unit: UnitIndex, mask: u8) {
        let Some(word) = self.place(unit) else { return };
        let before = mask_in(word.load(SeqCst));
        let after = before & !mask;
        word.store(if after == 0 { TOMB } else { packed(unit, after, 1) }, SeqCst);
        self.add_to(0, u64::from((before & mask).count_ones()).wrapping_neg());
        if after == 0 {
            self.add_to(1, 1u64.wrapping_neg());
            self.clear_tombs(unit);
        }
    }

    /// A tomb before a free place stops no search: it is freed, so that tombs cannot pile up.
    fn clear_tombs(&self, unit: UnitIndex) {
        let home = Self::home(unit);
        let mut index = home;
        for _ in 0..PLACES {
            let Some(word) = self.words.get(index) else { return };
            match word.load(SeqCst) {
                0 => break,
                _ => index = index.wrapping_add(1) & (PLACES - 1),
            }
        }
        for _ in 0..PLACES {
            index = index.wrapping_sub(1) & (PLACES - 1);
            let Some(word) = self.words.get(index) else { return };
            if word.load(SeqCst) != TOMB {
                return;
            }
            word.store(0, SeqCst);
        }
    }

    /// The pending blocks of a unit.
    pub fn get(&self, unit: UnitIndex) -> u8 {
        if self.counter(1).is_none_or(|c| c.load(SeqCst) == 0) {
            return 0;
        }
        self.place(unit).map_or(0, |w| mask_in(w.load(SeqCst)))
    }

    /// How many blocks are pending.
    pub fn blocks(&self) -> u64 {
        self.counter(0).map_or(0, |c| c.load(SeqCst))
    }

    /// Marks that found no place.
    pub fn dropped(&self) -> u64 {
        self.counter(2).map_or(0, |c| c.load(SeqCst))
    }

    /// The first unit from `from` on that has marks, and its blocks. Looks at every place.
    pub fn next(&self, from: UnitIndex) -> Option<(UnitIndex, u8)> {
        let mut best: Option<(UnitIndex, u8)> = None;
        for word in self.words.iter().take(PLACES) {
            let held = word.load(SeqCst);
            if held == 0 || held == TOMB {
                continue;
            }
            let unit = UnitIndex(held >> 12);
            if unit >= from && best.is_none_or(|(b, _)| unit < b) {
                best = Some((unit, mask_in(held)));
            }
        }
        best
    }
}
