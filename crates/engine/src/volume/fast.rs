// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The core behind the driver's two seams.
//!
//! A lookup belongs to a queue, and a queue to one thread at a time. Threads come and go here (any
//! thread may submit), so a thread takes a queue for the moment of a lookup: its own by habit,
//! another if that one is taken.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use dmremap_core::machine::Machine;
use dmremap_core::path::{Route, route};
use dmremap_core::pieces::Ticket;
use dmremap_core::resolve::Shared;
use dmremap_core::{
    Action, Answer, Class, Dev, Disposition, Failure, FlushCounts, Kind, Millis, OpId, Piece,
};
use dmremap_format::PageBytes;

use super::logic::{Fast, Logic};
use super::memory::{Boxes, Words};

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's favourite queue, before it is cut to the number there is.
    static FAVOURITE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
}

/// Queues of a volume: enough that two threads at work seldom want the same one.
pub(crate) fn queues() -> usize {
    std::thread::available_parallelism().map_or(4, |n| (2 * n.get()).clamp(4, 32))
}

/// The lock-free path of a volume.
pub(crate) struct Path {
    pub(crate) shared: Arc<Shared<Words>>,
    queues: Box<[Mutex<()>]>,
}

impl Path {
    pub(crate) fn new(shared: Arc<Shared<Words>>, queues: usize) -> Path {
        Path { shared, queues: (0..queues.max(1)).map(|_| Mutex::new(())).collect() }
    }

    /// Runs `job` with a queue of its own.
    fn with_queue<T>(&self, job: impl FnOnce(usize) -> T) -> T {
        let favourite = FAVOURITE.get() % self.queues.len();
        let turn = (favourite..self.queues.len()).chain(0..favourite);
        for queue in turn {
            match self.queues[queue].try_lock() {
                Ok(_held) => return job(queue),
                Err(TryLockError::Poisoned(_held)) => return job(queue),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let _held = self.queues[favourite].lock().unwrap_or_else(PoisonError::into_inner);
        job(favourite)
    }

    /// Runs `job` as one lookup: what it finds in the table stays valid until it returns. It must
    /// be short; the machine waits for it before it reuses a part of the table.
    pub(crate) fn lookup<T>(&self, job: impl FnOnce(&Shared<Words>) -> T) -> Option<T> {
        self.with_queue(|queue| self.shared.readers.with(queue, || job(&self.shared)))
    }
}

impl Fast for Path {
    type Ticket = Ticket;

    fn sectors(&self) -> u64 {
        self.shared.geometry.main_sectors
    }

    fn block_sectors(&self) -> u32 {
        u32::from(self.shared.geometry.block_sectors)
    }

    fn route(&self, kind: Kind, sector: u64, sectors: u64) -> (Ticket, Route) {
        self.with_queue(|queue| {
            let shared = &*self.shared;
            // Counted before it is resolved: the grace of a change waits for it, or it sees the
            // change.
            let ticket = shared.pieces.begin(queue, sector, kind.changes());
            let found = shared.readers.with(queue, || route(shared, kind, sector, sectors));
            let route = found.unwrap_or(Route::Fail { sectors, class: Class::Again });
            shared.count_path(queue, matches!(route, Route::Submit { fast: true, .. }));
            (ticket, route)
        })
    }

    fn end(&self, ticket: Ticket) -> bool {
        self.shared.pieces.end(ticket)
    }

    fn written(&self, dev: Dev) {
        self.shared.count_written(dev);
    }
}

/// The recovery machine of a volume.
pub(crate) type Core = Machine<Boxes>;

impl Logic for Core {
    fn failed(&mut self, piece: &Piece, failure: &Failure, now: Millis) -> Disposition {
        Machine::failed(self, piece, failure, now)
    }

    fn park(&mut self, piece: &Piece, now: Millis) -> Disposition {
        Machine::park(self, piece, now)
    }

    fn answered(&mut self, id: OpId, answer: Answer, page: Option<&PageBytes>, now: Millis) {
        Machine::answered(self, id, answer, page, now);
    }

    fn tick(&mut self, now: Millis, wall_s: u32) {
        Machine::tick(self, now, wall_s);
    }

    fn next_deadline(&self) -> Option<Millis> {
        Machine::next_deadline(self)
    }

    fn wakes(&self) -> u64 {
        Machine::wakes(self)
    }

    fn next_action(&mut self) -> Option<Action> {
        Machine::next_action(self)
    }

    fn page_image(&self, id: OpId, out: &mut PageBytes) {
        Machine::page_image(self, id, out);
    }

    fn grace_tick(&mut self, now: Millis) {
        Machine::grace_tick(self, now);
    }

    fn flush(&mut self, id: u64, answered: FlushCounts, now: Millis) -> bool {
        Machine::flush(self, id, answered, now)
    }

    fn close(&mut self, now: Millis) {
        Machine::close(self, now);
    }

    fn closed(&self) -> Option<bool> {
        Machine::closed(self)
    }

    fn limit_ms(&self) -> u64 {
        u64::from(self.settings().recovery_limit_ms())
    }
}
