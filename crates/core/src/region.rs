// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The region map: one bit for each of up to 2^20 stretches of main, so that a request to a clean
//! stretch costs one load whatever the table's size.
//!
//! A bit is set before anything is published in its region (an entry, busy, a pending mark) and
//! never cleared while the volume is open: a bit too many costs a lookup, a bit too few a wrong
//! answer.

use core::ops::Deref;

use dmremap_format::{UNIT_SECTORS, UnitIndex};

use crate::sync::{AtomicU64, Ordering::SeqCst};

/// Bits in the map, at most.
const BITS: u64 = 1 << 20;

/// The map.
pub struct RegionMap<W> {
    words: W,
    /// A region has `2^shift` sectors.
    shift: u32,
}

impl<W: Deref<Target = [AtomicU64]>> RegionMap<W> {
    /// Words needed.
    #[must_use]
    pub const fn words() -> usize {
        (BITS / 64) as usize
    }

    /// Everything clean; `words` are zero.
    pub fn new(words: W, main_sectors: u64) -> Self {
        let mut shift = UNIT_SECTORS.trailing_zeros();
        while shift < 63 && main_sectors >> shift >= BITS {
            shift = shift.wrapping_add(1);
        }
        RegionMap { words, shift }
    }

    /// Something is about to be published in this unit.
    pub fn mark(&self, unit: UnitIndex) {
        let region = unit.0.saturating_mul(UNIT_SECTORS) >> self.shift;
        if let Some(word) = self.word(region) {
            word.fetch_or(bit(region), SeqCst);
        }
    }

    fn word(&self, region: u64) -> Option<&AtomicU64> {
        self.words.get(usize::try_from(region >> 6).unwrap_or(usize::MAX))
    }

    /// Whether nothing was ever published in the sectors.
    pub fn is_clean(&self, sector: u64, sectors: u64) -> bool {
        let first = sector >> self.shift;
        let last = sector.saturating_add(sectors.saturating_sub(1)) >> self.shift;
        let mut region = first;
        while region <= last {
            let Some(word) = self.word(region) else { return true };
            let held = word.load(SeqCst);
            if held & bit(region) != 0 {
                return false;
            }
            // An empty word covers the rest of its 64 regions.
            region = if held == 0 { (region | 63).wrapping_add(1) } else { region.wrapping_add(1) };
        }
        true
    }
}

fn bit(region: u64) -> u64 {
    1u64.wrapping_shl(u32::try_from(region & 63).unwrap_or(0))
}
