// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Metadata I/O while nothing is served yet: what the format and open machines ask for, a few
//! operations at a time, each with its own thread so that a stuck copy holds up nothing else.
//!
//! While nothing is written, pages are read ahead: an open visits each copy in ascending order,
//! page by page through all five, which a disk that turns would take minutes for. A run that cannot
//! be read as a whole is read page by page, so that one bad sector costs one page.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dmremap_core::commit::{IoId, PageId};
use dmremap_core::{Class, Millis};
use dmremap_format::{
    CopyIndex, Layout, PAGE_BYTES, PageBytes, SECTOR_BYTES, SectorRange, header_sector,
};

use crate::device::Device;

use super::lane::Lane;

/// Operations at a time: a commit has ten pages' worth of copies at most on their way.
const THREADS: usize = 16;

/// Sectors read at once: 64 pages.
const AHEAD_SECTORS: u64 = 512;
/// Runs kept: one a copy, and some that are being read.
const AHEAD_RUNS: usize = 10;

/// What is to be done.
pub(crate) enum MetaJob {
    /// Read the page at this sector, uncached.
    Read(u64),
    /// Write this page at this sector.
    Write(u64, Box<PageBytes>),
    /// Write zeros over this range.
    Zero(SectorRange),
    /// Flush the device's cache.
    Flush,
}

/// How an operation ended; of a read, what was read.
pub(crate) struct MetaAnswer {
    pub(crate) id: IoId,
    /// It was a flush.
    pub(crate) flush: bool,
    pub(crate) result: Result<Option<Box<PageBytes>>, Class>,
}

/// The operations of one machine on one device.
pub(crate) struct MetaIo {
    lane: Lane<(IoId, MetaJob)>,
    answers: Receiver<MetaAnswer>,
    out: usize,
    start: Instant,
    ahead: Arc<Ahead>,
}

/// Runs of sectors that were read ahead; `None` once something may be written.
struct Ahead(Mutex<Option<Vec<AheadRun>>>);

struct AheadRun {
    sector: u64,
    /// Nothing if it could not be read as a whole.
    bytes: Vec<u8>,
}

/// The sector of a page of a copy.
pub(crate) fn page_sector(layout: Option<&Layout>, page: PageId, copy: CopyIndex) -> u64 {
    match (page, layout) {
        (PageId::Header, _) => header_sector(copy),
        (PageId::Generation, Some(layout)) => layout.generation_sector(copy),
        (PageId::Table(index), Some(layout)) => layout.page_sector(copy, index),
        (_, None) => dmremap_format::NO_SECTOR,
    }
}

impl MetaIo {
    /// On `device`, with milliseconds counted from `start`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn new(device: Arc<dyn Device>, start: Instant) -> std::io::Result<MetaIo> {
        let (sender, answers) = channel();
        let ahead = Arc::new(Ahead(Mutex::new(None)));
        let runs = Arc::clone(&ahead);
        let lane = Lane::new("dmr-meta".into(), THREADS, move |(id, job)| {
            let flush = matches!(job, MetaJob::Flush);
            let _ = sender.send(MetaAnswer { id, flush, result: carry_out(&*device, job, &runs) });
        })?;
        Ok(MetaIo { lane, answers, out: 0, start, ahead })
    }

    /// Reads ahead from now on, or forgets what was read ahead and does so no more: before the
    /// first write.
    pub(crate) fn read_ahead(&self, on: bool) {
        *self.ahead.0.lock().unwrap_or_else(PoisonError::into_inner) = on.then(Vec::new);
    }

    pub(crate) fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as Millis
    }

    pub(crate) fn send(&mut self, id: IoId, job: MetaJob) {
        self.out += 1;
        self.lane.push((id, job));
    }

    /// The next answer; `None` if none has come by `deadline`, or nothing is out.
    pub(crate) fn wait(&mut self, deadline: Option<Millis>) -> Option<MetaAnswer> {
        if self.out == 0 {
            return None;
        }
        let patience = match deadline {
            Some(at) => Duration::from_millis(at.saturating_sub(self.now())),
            None => Duration::from_secs(3600),
        };
        match self.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.out -= 1;
                Some(answer)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether an operation is at the device.
    pub(crate) fn is_out(&self) -> bool {
        self.out > 0
    }
}

impl Drop for MetaIo {
    /// Waits for its threads, unless one is still at the device.
    fn drop(&mut self) {
        if !self.is_out() {
            self.lane.close();
        }
    }
}

impl Ahead {
    /// The page at `sector`, if it lies in a run that is kept; whether a run is to be read there.
    fn find(&self, sector: u64) -> (Option<Box<PageBytes>>, bool) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runs) = kept.as_ref() else { return (None, false) };
        let covers = |run: &&AheadRun| (run.sector..run.sector + AHEAD_SECTORS).contains(&sector);
        let Some(run) = runs.iter().find(covers) else { return (None, true) };
        let at = ((sector - run.sector) * SECTOR_BYTES) as usize;
        let page = run.bytes.get(at..at + PAGE_BYTES).and_then(|bytes| bytes.try_into().ok());
        // A page that the run does not hold whole is read by itself.
        (page.map(Box::new), false)
    }

    /// Keeps a run, in the place of the oldest.
    fn keep(&self, run: AheadRun) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runs) = kept.as_mut() {
            if runs.len() >= AHEAD_RUNS {
                runs.remove(0);
            }
            runs.push(run);
        }
    }
}

/// The page at `sector`, and what follows it, while it is read ahead.
fn read_page(device: &dyn Device, sector: u64, ahead: &Ahead) -> Result<Box<PageBytes>, Class> {
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Class::NotSupported)?;
    let (mut page, run_wanted) = ahead.find(sector);
    if run_wanted {
        let left = device.sectors().saturating_sub(sector).min(AHEAD_SECTORS);
        let mut bytes = vec![0; (left * SECTOR_BYTES) as usize];
        if device.read_uncached(&mut bytes, offset).is_err() {
            bytes = Vec::new();
        }
        ahead.keep(AheadRun { sector, bytes });
        (page, _) = ahead.find(sector);
    }
    if let Some(page) = page {
        return Ok(page);
    }
    let mut page = Box::new([0; PAGE_BYTES]);
    device.read_uncached(&mut page[..], offset)?;
    Ok(page)
}

fn carry_out(
    device: &dyn Device,
    job: MetaJob,
    ahead: &Ahead,
) -> Result<Option<Box<PageBytes>>, Class> {
    let at = |sector: u64| sector.checked_mul(SECTOR_BYTES).ok_or(Class::NotSupported);
    match job {
        MetaJob::Read(sector) => read_page(device, sector, ahead).map(Some),
        MetaJob::Write(sector, page) => {
            device.write_at(&page[..], at(sector)?, false).map(|()| None)
        }
        MetaJob::Zero(range) => {
            device.write_zeroes(at(range.sector)?, at(range.sectors)?, false).map(|()| None)
        }
        MetaJob::Flush => device.flush().map(|()| None),
    }
}
