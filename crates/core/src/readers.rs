// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Lookups under way in user space: one counter a queue.
use core::ops::Deref;

use crate::sync::AtomicU64;
use crate::table::LookupGrace;

/// The counters.
pub struct Readers<W> {
    _words: W,
}

impl<W: Deref<Target = [AtomicU64]>> Readers<W> {
    /// Words needed for so many queues.
    #[must_use]
    pub const fn words(queues: usize) -> usize {
        queues.saturating_mul(8)
    }

    /// No lookup under way; `words` are zero.
    pub fn new(words: W, _queues: usize) -> Self {
        Readers { _words: words }
    }

    /// A lookup of this queue begins.
    pub fn enter(&self, _queue: usize) {}

    /// It has ended.
    pub fn leave(&self, _queue: usize) {}
}

impl<W: Deref<Target = [AtomicU64]>> LookupGrace for Readers<W> {
    fn start(&self) -> u64 {
        0
    }

    fn passed(&self, _token: u64) -> bool {
        true
    }
}
