// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The lookup grace of user space: which lookups are in progress, one word a queue.
//!
//! There is a clock that every grace moves on by one. A lookup writes the time it began to its
//! queue's word and 0 when it ends. A grace has passed when no queue is in a lookup that began
//! before it. A queue that is between lookups holds nothing up, however long it is parked, and a
//! lookup that begins later never does.
//!
//! Why it holds: the writer unlinks, then (when the grace begins) has a full fence, then reads the
//! words; a lookup writes its word, then has a full fence, then follows links. Of the two fences
//! one is first. If it is the lookup's, the writer sees its word; if it is the writer's, the lookup
//! sees the link gone.

use core::ops::Deref;

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::table::LookupGrace;

/// Words from one queue's to the next's: two cache lines, which processors fetch in pairs.
const SPACING: usize = 16;

/// The lookups in progress, by queue.
pub struct Readers<W> {
    words: W,
    queues: usize,
}

/// A lookup in progress; it ends when this is dropped.
#[must_use]
pub struct Reading<'a> {
    word: &'a AtomicU64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.word.store(0, Ordering::Release);
    }
}

impl<W: Deref<Target = [AtomicU64]>> Readers<W> {
    /// How many words this many queues need.
    #[must_use]
    pub fn words(queues: usize) -> usize {
        queues.saturating_add(1).saturating_mul(SPACING)
    }

    /// For queues 0 to `queues - 1`, in `words`, which are all zero; fewer if there are fewer
    /// words than [`words`](Self::words) says.
    pub fn new(words: W, queues: usize) -> Readers<W> {
        let room = (words.len() / SPACING).saturating_sub(1);
        Readers { words, queues: queues.min(room) }
    }

    /// Begins a lookup. A queue belongs to one thread at a time and is in one lookup at a time.
    /// `None` if there is no such queue: then nothing may be looked up.
    #[inline]
    pub fn enter(&self, queue: usize) -> Option<Reading<'_>> {
        if queue >= self.queues {
            return None;
        }
        let time = self.clock()?.load(Ordering::Acquire);
        let word = self.words.get(queue.wrapping_add(1).wrapping_mul(SPACING))?;
        // Release: whoever sees this word, not only the 0 before it, has seen the last lookup end.
        word.store((time << 1) | 1, Ordering::Release);
        fence(Ordering::SeqCst);
        Some(Reading { word })
    }

    /// Runs `lookup` as one lookup of this queue; see [`enter`](Self::enter).
    #[inline]
    pub fn with<R>(&self, queue: usize, lookup: impl FnOnce() -> R) -> Option<R> {
        let reading = self.enter(queue)?;
        let result = lookup();
        drop(reading);
        Some(result)
    }

    fn clock(&self) -> Option<&AtomicU64> {
        self.words.first()
    }
}

impl<W: Deref<Target = [AtomicU64]>> LookupGrace for Readers<W> {
    fn start(&self) -> u64 {
        fence(Ordering::SeqCst);
        // AcqRel: a lookup that reads the new time has seen what was unlinked before.
        self.clock().map_or(0, |clock| clock.fetch_add(1, Ordering::AcqRel).wrapping_add(1))
    }

    fn passed(&self, token: u64) -> bool {
        let queues = self.words.iter().step_by(SPACING).skip(1).take(self.queues);
        queues.map(|word| word.load(Ordering::Acquire)).all(|word| word == 0 || word >> 1 >= token)
    }
}
