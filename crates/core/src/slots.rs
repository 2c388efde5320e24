// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which slots of the table are free.

use core::ops::Deref;

use dmremap_format::{SlotIndex, SpareUnit};

use crate::allocator::Allocator;
use crate::sync::AtomicU64;

/// The slots of one volume: a live entry keeps its slot for life.
pub struct SlotMap<W> {
    map: Allocator<W>,
}

impl<W: Deref<Target = [AtomicU64]>> SlotMap<W> {
    /// Words needed for this many slots.
    #[must_use]
    pub fn words(slots: u32) -> usize {
        Allocator::<W>::words(u64::from(slots))
    }

    /// All free; `words` are zero.
    pub fn new(words: W, slots: u32) -> Self {
        SlotMap { map: Allocator::new(words, u64::from(slots)) }
    }

    /// Hands out a free slot.
    pub fn alloc(&mut self) -> Option<SlotIndex> {
        let unit = self.map.alloc(None)?;
        u32::try_from(unit.0).ok().map(SlotIndex)
    }

    /// Marks a slot used; false if it was, or does not exist.
    pub fn take(&mut self, slot: SlotIndex) -> bool {
        self.map.take(SpareUnit(u64::from(slot.0)))
    }

    /// The slot is free again.
    pub fn free(&mut self, slot: SlotIndex) {
        self.map.free(SpareUnit(u64::from(slot.0)));
    }

    /// Free slots.
    pub fn free_slots(&self) -> u64 {
        self.map.free_units()
    }
}
