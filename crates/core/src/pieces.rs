// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The I/O grace: waiting until every piece that was resolved before now has come back.
//!
//! A piece is counted *before* it is resolved, in a counter of its queue, its kind (what changes
//! the medium, or reads), its bucket (a 1 MiB stripe of main, 64 of them round and round) and the
//! bucket's current epoch. It is uncounted when its device has answered.
//!
//! Why that suffices: a worker counts itself and then loads busy marks and table; the machine
//! publishes busy and then reads the counters; all four are sequentially consistent. If the machine
//! does not see the count, the count comes later in the one order of all of them, and so does the
//! worker's load, which then sees busy. (Resolving first and counting afterwards breaks exactly
//! this.)
//!
//! Two epochs keep later pieces from holding a grace up: as in a sleepable RCU, a grace waits for
//! the epoch that is not current to drain, makes it current, and waits for the other. Both have to
//! drain once, because a worker may count itself under an epoch it loaded long ago. A piece that
//! begins before the flip may still be waited for; none that begins after it is, so no grace
//! starves. A stuck piece holds up its own bucket and kind, nothing else.

use core::ops::Deref;

use crate::sync::{AtomicU64, Ordering::SeqCst};

/// Sectors in a stripe; a piece lies in one.
pub const BUCKET_SECTORS: u64 = 2048;
/// Buckets.
pub const BUCKETS: usize = 64;
const KINDS: usize = 2;
const EPOCHS: usize = 2;
/// Words of one queue: epochs x kinds x buckets.
const QUEUE_WORDS: usize = EPOCHS * KINDS * BUCKETS;
/// Words before the queues: the epoch and the number of waiters of each kind and bucket.
const HEAD_WORDS: usize = 2 * KINDS * BUCKETS;

/// The bucket of a sector of main.
#[must_use]
pub fn bucket_of(sector: u64) -> usize {
    let stripe = sector.checked_div(BUCKET_SECTORS).unwrap_or(0);
    usize::try_from(stripe & 63).unwrap_or(0)
}

/// Kind and bucket in one index below `KINDS * BUCKETS`.
fn lane(sector: u64, changes: bool) -> usize {
    bucket_of(sector) | if changes { BUCKETS } else { 0 }
}

/// A counted piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    word: u32,
    lane: u16,
}

/// The counters.
pub struct Pieces<W> {
    words: W,
    queues: usize,
}

impl<W: Deref<Target = [AtomicU64]>> Pieces<W> {
    /// Words needed for this many queues.
    #[must_use]
    pub const fn words(queues: usize) -> usize {
        HEAD_WORDS.saturating_add(queues.saturating_mul(QUEUE_WORDS))
    }

    /// Counters in `words`, which are zero.
    pub fn new(words: W, queues: usize) -> Self {
        Pieces { words, queues: queues.max(1) }
    }

    fn at(&self, index: usize) -> Option<&AtomicU64> {
        self.words.get(index)
    }

    fn counter(queue: usize, lane: usize, epoch: u64) -> usize {
        let epoch = usize::try_from(epoch & 1).unwrap_or(0);
        HEAD_WORDS
            .wrapping_add(queue.wrapping_mul(QUEUE_WORDS))
            .wrapping_add(epoch.wrapping_mul(KINDS * BUCKETS))
            .wrapping_add(lane)
    }

    /// Counts a piece that begins at `sector`. Before it is resolved.
    pub fn begin(&self, queue: usize, sector: u64, changes: bool) -> Ticket {
        let lane = lane(sector, changes);
        let epoch = self.at(lane).map_or(0, |e| e.load(SeqCst));
        let queue = queue.checked_rem(self.queues).unwrap_or(0);
        let word = Self::counter(queue, lane, epoch);
        if let Some(counter) = self.at(word) {
            counter.fetch_add(1, SeqCst);
        }
        Ticket {
            word: u32::try_from(word).unwrap_or(u32::MAX),
            lane: u16::try_from(lane).unwrap_or(0),
        }
    }

    /// Its device has answered, or it was not submitted. True: a grace may wait for it, tell the
    /// machine.
    pub fn end(&self, ticket: Ticket) -> bool {
        if let Some(counter) = self.at(usize::try_from(ticket.word).unwrap_or(usize::MAX)) {
            counter.fetch_sub(1, SeqCst);
        }
        let waiters = (KINDS * BUCKETS).wrapping_add(usize::from(ticket.lane));
        self.at(waiters).is_some_and(|w| w.load(SeqCst) != 0)
    }

    /// Pieces counted in a lane under one epoch.
    fn count(&self, lane: usize, epoch: u64) -> u64 {
        let mut sum = 0u64;
        for queue in 0..self.queues {
            let word = Self::counter(queue, lane, epoch);
            sum = sum.wrapping_add(self.at(word).map_or(0, |c| c.load(SeqCst)));
        }
        sum
    }

    fn waiting(&self, lane: usize, waiting: bool) {
        let waiters = (KINDS * BUCKETS).wrapping_add(lane);
        if let Some(word) = self.at(waiters) {
            word.store(u64::from(waiting), SeqCst);
        }
    }

    /// Whether nothing is counted anywhere, for tests and for the end of a volume.
    #[must_use]
    pub fn quiet(&self) -> bool {
        (0..KINDS * BUCKETS).all(|lane| self.count(lane, 0) == 0 && self.count(lane, 1) == 0)
    }
}

/// A grace asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceId {
    lane: u16,
    sequence: u64,
}

/// How far the graces of one lane have come.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// Graces completed.
    done: u64,
    /// The highest grace asked for.
    wanted: u64,
    /// The grace under way: 0 none, 1 the other epoch drains, 2 flipped.
    phase: u8,
    epoch: u64,
}

/// The machine's part: one state a lane.
pub struct Grace {
    lanes: [Lane; KINDS * BUCKETS],
}

impl Default for Grace {
    fn default() -> Self {
        Self::new()
    }
}

impl Grace {
    /// No grace under way.
    #[must_use]
    pub const fn new() -> Grace {
        Grace { lanes: [Lane { done: 0, wanted: 0, phase: 0, epoch: 0 }; KINDS * BUCKETS] }
    }

    /// Asks for a grace that covers every piece of this kind in the bucket of `sector` begun
    /// before now. Whatever makes later ones turn away must have been published before.
    pub fn begin<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        pieces: &Pieces<W>,
        sector: u64,
        changes: bool,
    ) -> GraceId {
        let index = lane(sector, changes);
        pieces.waiting(index, true);
        let Some(lane) = self.lanes.get_mut(index) else {
            return GraceId { lane: 0, sequence: 0 };
        };
        // One under way began too early for this one: the next.
        let first = lane.done.saturating_add(1);
        let sequence = if lane.phase == 0 { first } else { first.saturating_add(1) };
        lane.wanted = lane.wanted.max(sequence);
        GraceId { lane: u16::try_from(index).unwrap_or(0), sequence }
    }

    /// Takes the lane as far as it goes; whether that grace is over.
    pub fn passed<W: Deref<Target = [AtomicU64]>>(
        &mut self,
        pieces: &Pieces<W>,
        id: GraceId,
    ) -> bool {
        let index = usize::from(id.lane);
        let Some(lane) = self.lanes.get_mut(index) else { return true };
        while lane.done < lane.wanted {
            match lane.phase {
                0 => lane.phase = 1,
                1 if pieces.count(index, lane.epoch ^ 1) == 0 => {
                    lane.epoch ^= 1;
                    if let Some(word) = pieces.at(index) {
                        word.store(lane.epoch, SeqCst);
                    }
                    lane.phase = 2;
                }
                2 if pieces.count(index, lane.epoch ^ 1) == 0 => {
                    lane.phase = 0;
                    lane.done = lane.done.saturating_add(1);
                }
                _ => break,
            }
        }
        if lane.done >= lane.wanted {
            pieces.waiting(index, false);
        }
        lane.done >= id.sequence
    }
}
