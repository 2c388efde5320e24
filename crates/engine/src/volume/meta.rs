// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Metadata I/O while nothing is served yet: what the format and open machines ask for, a few
//! operations at a time, each with its own thread so that a stuck copy holds up nothing else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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
        let lane = Lane::new("dmr-meta".into(), THREADS, move |(id, job)| {
            let flush = matches!(job, MetaJob::Flush);
            let _ = sender.send(MetaAnswer { id, flush, result: carry_out(&*device, job) });
        })?;
        Ok(MetaIo { lane, answers, out: 0, start })
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

fn carry_out(device: &dyn Device, job: MetaJob) -> Result<Option<Box<PageBytes>>, Class> {
    let at = |sector: u64| sector.checked_mul(SECTOR_BYTES).ok_or(Class::NotSupported);
    match job {
        MetaJob::Read(sector) => {
            let mut page = Box::new([0; PAGE_BYTES]);
            device.read_uncached(&mut page[..], at(sector)?)?;
            Ok(Some(page))
        }
        MetaJob::Write(sector, page) => {
            device.write_at(&page[..], at(sector)?, false).map(|()| None)
        }
        MetaJob::Zero(range) => {
            device.write_zeroes(at(range.sector)?, at(range.sectors)?, false).map(|()| None)
        }
        MetaJob::Flush => device.flush().map(|()| None),
    }
}
