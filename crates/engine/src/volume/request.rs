// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A request and the parts it is cut into.
//!
//! A request ends once, when its last part has ended. Parts are counted in `parts_left`; whoever
//! ends the last one answers. The data stays in one place, the caller's payload: every part owns
//! its own range of it, and whoever holds the part may use that range.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmremap_core::{Class, Kind, Millis, Piece};
use dmremap_format::SECTOR_BYTES;

use super::gate::Pass;
use super::payload::{Lent, Payload};
use super::watch::Watch;

/// What is asked of a volume.
pub struct Request {
    /// What to do.
    pub kind: Kind,
    /// First sector, at the start of a block.
    pub sector: u64,
    /// Sectors, whole blocks, at least one block.
    pub sectors: u32,
    /// Answer only when the change is durable.
    pub fua: bool,
    /// `sectors * 512` bytes for a read and a write, empty otherwise; goes back with the reply.
    pub data: Box<dyn Payload>,
}

/// Sectors of a request that failed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRun {
    /// First sector.
    pub sector: u64,
    /// How many.
    pub sectors: u32,
    /// The error.
    pub class: Class,
}

/// How a request ended.
pub struct Reply {
    /// The request's memory. Of a read, what lies outside `bad` is what is stored there.
    pub data: Box<dyn Payload>,
    /// What failed, ascending; nothing if all is well. Of a change, whatever failed may have landed
    /// all the same.
    pub bad: Vec<BadRun>,
}

impl Reply {
    /// Success, or the first error.
    ///
    /// # Errors
    /// The class of the first bad run.
    pub fn result(&self) -> Result<(), Class> {
        self.bad.first().map_or(Ok(()), |bad| Err(bad.class))
    }
}

/// Called once, on any thread of the volume; it must not block.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// A request under way.
struct Underway {
    kind: Kind,
    sector: u64,
    sectors: u32,
    fua: bool,
    data: Lent,
    bad: Mutex<Vec<BadRun>>,
    parts_left: AtomicU32,
    /// Handle for the machine, 0 until it needs one.
    id: AtomicU64,
    /// When it first failed or waited, [`NEVER`] before.
    since: AtomicU64,
    verdict: AtomicBool,
    done: Mutex<Option<Done>>,
    /// Of a change: to be told when it has been answered.
    watch: Option<Arc<Watch>>,
    /// Holds the volume open until the request has been answered.
    _pass: Pass,
}

const NEVER: Millis = Millis::MAX;

/// A part of a request that has not ended: whoever holds it ends it, once. The parts of a request
/// do not overlap: a request begins as one, and a part is only ever cut in two.
pub(crate) struct Part {
    request: Arc<Underway>,
    sector: u64,
    sectors: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    /// All of `request`.
    pub(crate) fn whole(
        request: Request,
        done: Done,
        pass: Pass,
        watch: Option<Arc<Watch>>,
    ) -> Part {
        let Request { kind, sector, sectors, fua, data } = request;
        let request = Arc::new(Underway {
            kind,
            sector,
            sectors,
            fua,
            data: Lent::new(data),
            bad: Mutex::default(),
            parts_left: AtomicU32::new(1),
            id: AtomicU64::new(0),
            since: AtomicU64::new(NEVER),
            verdict: AtomicBool::new(false),
            done: Mutex::new(Some(done)),
            watch,
            _pass: pass,
        });
        Part { request, sector, sectors }
    }

    /// Cuts off what lies behind the first `sectors` sectors; `None` if nothing does.
    pub(crate) fn cut(&mut self, sectors: u32) -> Option<Part> {
        let rest = self.sectors.checked_sub(sectors).filter(|rest| *rest > 0)?;
        self.sectors = sectors;
        self.request.parts_left.fetch_add(1, Ordering::Relaxed);
        let sector = self.sector + u64::from(sectors);
        Some(Part { request: Arc::clone(&self.request), sector, sectors: rest })
    }

    /// What the machine knows it by.
    pub(crate) fn piece(&self) -> Piece {
        let request = &self.request;
        let since = request.since.load(Ordering::Relaxed);
        Piece {
            request: request.id.load(Ordering::Relaxed),
            kind: request.kind,
            sector: self.sector,
            sectors: self.sectors,
            fua: request.fua,
            hasty: false,
            since: (since != NEVER).then_some(since),
            verdict: request.verdict.load(Ordering::Relaxed),
        }
    }

    /// Marks the request as one the machine has met: at `now`, under the handle `fresh` if it has
    /// none. Only the machine's thread calls it.
    pub(crate) fn meet(&self, now: Millis, fresh: impl FnOnce() -> u64) {
        if self.request.since.load(Ordering::Relaxed) == NEVER {
            self.request.since.store(now, Ordering::Relaxed);
        }
        if self.request.id.load(Ordering::Relaxed) == 0 {
            self.request.id.store(fresh(), Ordering::Relaxed);
        }
    }

    /// A unit of the request has had its verdict.
    pub(crate) fn set_verdict(&self) {
        self.request.verdict.store(true, Ordering::Relaxed);
    }

    /// What the request asks for.
    pub(crate) fn kind(&self) -> Kind {
        self.request.kind
    }

    /// Answer only when the change is durable.
    pub(crate) fn fua(&self) -> bool {
        self.request.fua
    }

    /// First sector.
    pub(crate) fn sector(&self) -> u64 {
        self.sector
    }

    /// Sectors.
    pub(crate) fn sectors(&self) -> u32 {
        self.sectors
    }

    fn range(&self) -> Range<usize> {
        let start = ((self.sector - self.request.sector) * SECTOR_BYTES) as usize;
        start..start + (u64::from(self.sectors) * SECTOR_BYTES) as usize
    }

    /// This part's place in the payload; empty if the request carries nothing.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is this part's alone, nobody has it to write to while `self` is shared,
        // and the payload is taken back when no part is left.
        unsafe { self.request.data.slice(self.range()) }
    }

    /// This part's place in the payload, to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `self` is borrowed exclusively.
        unsafe { self.request.data.slice_mut(self.range()) }
    }

    /// This part has ended; the last one answers the request.
    pub(crate) fn end(self, result: Result<(), Class>) {
        if let Err(class) = result {
            let whole = BadRun { sector: self.sector, sectors: self.sectors, class };
            lock(&self.request.bad).push(whole);
        }
        self.leave();
    }

    /// This part has ended, with these runs of it bad.
    pub(crate) fn end_with(self, bad: impl IntoIterator<Item = BadRun>) {
        lock(&self.request.bad).extend(bad);
        self.leave();
    }

    fn leave(self) {
        // Release and acquire: the last one sees what every other part stored.
        if self.request.parts_left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let Some(done) = lock(&self.request.done).take() else { return };
        if let Some(watch) = &self.request.watch {
            watch.answered(self.request.sector, self.request.sectors);
        }
        let mut bad = std::mem::take(&mut *lock(&self.request.bad));
        bad.sort_by_key(|run| run.sector);
        // SAFETY: the last part is ending, here and once: no other part, and so no range, is left,
        // and a device that had one has answered.
        let data = unsafe { self.request.data.take_back() };
        done(Reply { data, bad });
    }
}
