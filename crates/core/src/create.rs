// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Format: the steps that make a new volume on a spare.
//!
//! The order keeps a crash harmless. First the five header places are zeroed and flushed, so that
//! no older volume can be pieced together from now on; then everything but the headers is written
//! and flushed; then the headers, `clean`, and flushed; then all is read back, and one copy that
//! does not verify fails the format. Until two headers are durable there is no volume, and from
//! then on all they name is there.
//!
//! A table restored from a dump is made in the same way, with its entries in its pages.
//!
//! The caller has claimed the devices and made every check before; any I/O that fails ends it.

use dmremap_format::{COPIES, CopyIndex, PageFault, PageIndex, Stamp};

use crate::Class;
use crate::commit::{Image, IoId, PageId, VolumeId};

/// An I/O of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateIo {
    /// To be given back with the answer.
    pub id: IoId,
    /// What to do.
    pub kind: CreateKind,
}

/// The kinds of I/O of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKind {
    /// Write zeros over the header's page of this copy.
    ZeroHeader(CopyIndex),
    /// Write zeros over this one of the caller's ranges: the gaps between the copies, the
    /// reserved areas, the last MiB.
    ZeroRange(u32),
    /// Write the page that [`Create::write_image`] gives.
    Write {
        /// The page.
        page: PageId,
        /// The copy.
        copy: CopyIndex,
    },
    /// Flush the device's cache.
    Flush,
    /// Read this page uncached and hand it in.
    Read {
        /// The page.
        page: PageId,
        /// The copy.
        copy: CopyIndex,
    },
}

/// What the caller of a format does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CreateStep {
    /// Send this.
    Io(CreateIo),
    /// Wait for answers.
    Wait,
    /// The volume exists.
    Done,
    /// It failed at this I/O; there is no volume, or one whose copies are not all good.
    Failed(CreateKind, CreateFault),
}

/// What was wrong with an I/O of a format.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CreateFault {
    /// It failed.
    Io(Class),
    /// What was read back is not valid.
    Invalid(PageFault),
    /// What was read back is valid under another stamp.
    OtherStamp(Stamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    ZeroHeaders,
    Pages,
    Headers,
    ReadBack,
    Over,
}

/// The steps of a format, as many at a time as `window` allows between two flushes.
pub struct Create<'a, P: Image> {
    header: &'a P,
    of: VolumeId,
    table_pages: u32,
    ranges: u32,
    window: u32,
    phase: Phase,
    /// The next I/O of this phase; the one behind the last is its flush.
    next: u32,
    /// Answers waited for.
    out: u32,
    fault: Option<(CreateKind, CreateFault)>,
}

/// What format writes carries this stamp (the generation pages its generation).
pub const FIRST_STAMP: Stamp = Stamp { generation: 1, sequence: 0 };

impl<'a, P: Image> Create<'a, P> {
    /// `header` is the header to be written, complete but for copy index, stamp and checksum;
    /// `ranges` is how many ranges the caller wants zeroed; `window` how many I/Os it takes at
    /// once, at least one.
    pub fn new(header: &'a P, of: VolumeId, ranges: u32, window: u32) -> Self {
        Create {
            header,
            of,
            table_pages: header.table_pages(),
            ranges,
            window: window.max(1),
            phase: Phase::ZeroHeaders,
            next: 0,
            out: 0,
            fault: None,
        }
    }

    /// What comes next. Called again after every answer until it says [`CreateStep::Wait`].
    pub fn step(&mut self) -> CreateStep {
        loop {
            if let (Some((kind, fault)), 0) = (self.fault, self.out) {
                return CreateStep::Failed(kind, fault);
            }
            if self.fault.is_some() || self.out >= self.window {
                return CreateStep::Wait;
            }
            let kind = self.kind(self.phase, self.next);
            match kind {
                Some(CreateKind::Flush) | None if self.out > 0 => return CreateStep::Wait,
                Some(kind) => {
                    let Some(id) = id(self.phase, self.next) else { return CreateStep::Wait };
                    self.out = self.out.saturating_add(1);
                    self.next = self.next.saturating_add(1);
                    return CreateStep::Io(CreateIo { id, kind });
                }
                None if self.phase == Phase::Over => return CreateStep::Done,
                None => {
                    self.next = 0;
                    self.phase = match self.phase {
                        Phase::ZeroHeaders => Phase::Pages,
                        Phase::Pages => Phase::Headers,
                        Phase::Headers => Phase::ReadBack,
                        _ => Phase::Over,
                    };
                }
            }
        }
    }

    /// How far it is: I/Os sent and I/Os in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let mut done = 0u64;
        let mut all = 0u64;
        for phase in [Phase::ZeroHeaders, Phase::Pages, Phase::Headers, Phase::ReadBack] {
            let count = u64::from(self.count(phase));
            all = all.saturating_add(count);
            if phase < self.phase {
                done = done.saturating_add(count);
            } else if phase == self.phase {
                done = done.saturating_add(u64::from(self.next));
            }
        }
        (done, all)
    }

    /// Fills `out` with what is to be written for the write `id`; false if it names none.
    #[must_use]
    pub fn write_image(&self, id: IoId, out: &mut P) -> bool {
        self.write_filled(id, out, |_, _| {})
    }

    /// The same for a table that is not empty: `fill` puts into an empty page what belongs there,
    /// the same for each copy.
    #[must_use]
    pub fn write_filled(
        &self,
        id: IoId,
        out: &mut P,
        fill: impl FnOnce(PageIndex, &mut P),
    ) -> bool {
        let Some(CreateKind::Write { page, copy }) = self.named(id) else { return false };
        match page {
            PageId::Header => out.copy_from(self.header),
            PageId::Table(index) => {
                out.blank(&self.of, page);
                fill(index, out);
            }
            PageId::Generation => {}
        }
        out.seal(&self.of, page, copy, FIRST_STAMP);
        true
    }

    /// An I/O has ended. A good read hands in the page it read, valid or not.
    pub fn io_done(&mut self, id: IoId, result: Result<Option<&P>, Class>) {
        let Some(kind) = self.named(id) else { return };
        self.out = self.out.saturating_sub(1);
        let fault = match (kind, result) {
            (_, Err(class)) => Some(CreateFault::Io(class)),
            (CreateKind::Read { .. }, Ok(None)) => Some(CreateFault::Io(Class::Io)),
            (CreateKind::Read { page, copy }, Ok(Some(image))) => {
                match image.check(&self.of, page, copy) {
                    Ok(FIRST_STAMP) => None,
                    Ok(stamp) => Some(CreateFault::OtherStamp(stamp)),
                    Err(fault) => Some(CreateFault::Invalid(fault)),
                }
            }
            (_, Ok(_)) => None,
        };
        self.fault = self.fault.or(fault.map(|f| (kind, f)));
    }

    fn named(&self, id: IoId) -> Option<CreateKind> {
        let phase = match id.0 >> PHASE_SHIFT {
            0 => Phase::ZeroHeaders,
            1 => Phase::Pages,
            2 => Phase::Headers,
            3 => Phase::ReadBack,
            _ => return None,
        };
        self.kind(phase, id.0 & INDEX_MASK)
    }

    /// How many I/Os a phase has, its flush included.
    fn count(&self, phase: Phase) -> u32 {
        let pages = self.table_pages.saturating_add(1).saturating_mul(FIVE);
        match phase {
            Phase::ZeroHeaders | Phase::Headers => FIVE.saturating_add(1),
            Phase::Pages => pages.saturating_add(self.ranges).saturating_add(1),
            Phase::ReadBack => pages.saturating_add(FIVE),
            Phase::Over => 0,
        }
    }

    /// I/O `index` of a phase.
    fn kind(&self, phase: Phase, index: u32) -> Option<CreateKind> {
        let count = self.count(phase);
        if index >= count {
            return None;
        }
        if phase != Phase::ReadBack && index.saturating_add(1) == count {
            return Some(CreateKind::Flush);
        }
        let copy = CopyIndex(u8::try_from(index % FIVE).unwrap_or(0));
        let page = |number: u32| match number.checked_sub(1) {
            None => PageId::Generation,
            Some(page) => PageId::Table(PageIndex(page)),
        };
        Some(match phase {
            Phase::ZeroHeaders => CreateKind::ZeroHeader(copy),
            Phase::Headers => CreateKind::Write { page: PageId::Header, copy },
            Phase::Pages => match index.checked_sub(self.table_pages_and_one()) {
                Some(range) => CreateKind::ZeroRange(range),
                None => CreateKind::Write { page: page(index / FIVE), copy },
            },
            Phase::ReadBack => match (index / FIVE).checked_sub(1) {
                None => CreateKind::Read { page: PageId::Header, copy },
                Some(number) => CreateKind::Read { page: page(number), copy },
            },
            Phase::Over => return None,
        })
    }

    /// I/Os for the generation pages and the table.
    fn table_pages_and_one(&self) -> u32 {
        self.table_pages.saturating_add(1).saturating_mul(FIVE)
    }
}

const FIVE: u32 = COPIES as u32;
const PHASE_SHIFT: u32 = 30;
const INDEX_MASK: u32 = (1 << PHASE_SHIFT) - 1;

fn id(phase: Phase, index: u32) -> Option<IoId> {
    let phase = match phase {
        Phase::ZeroHeaders => 0u32,
        Phase::Pages => 1,
        Phase::Headers => 2,
        Phase::ReadBack => 3,
        Phase::Over => return None,
    };
    (index <= INDEX_MASK).then_some(IoId(phase << PHASE_SHIFT | index))
}
