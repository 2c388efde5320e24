// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The steps of an open; what they are for is told at the head of the module.

use core::slice;

use dmremap_format::{COPIES, CopyIndex, PageFault, PageIndex, Refusal, SeenHeader, Stamp};

use super::judge::{CopySeen, judge_header, judge_page, put, state, wins};
use super::{HEADER, Open, OpenStep, Phase, Refused, SHOWN, Summary};
use crate::broken::{Broken, is};
use crate::commit::{
    ALL, Cached, CopyState, Image, Io, Line, Load, NEEDED, NO_PLACE, Out, PageId, Role, Step,
    Store, VolumeId, bit, load, state_index,
};
use crate::{Class, Millis};

impl<S: Store> Open<S> {
    /// What comes next. Called again after every answer and every call until it says
    /// [`OpenStep::Wait`].
    pub fn step(&mut self, now: Millis) -> OpenStep {
        loop {
            let step = match self.phase {
                Phase::Headers => self.step_read(PageId::Header, now),
                Phase::LoadHeader => self.step_load(0, now),
                Phase::Read(page) => self.step_read(page, now),
                Phase::Show(page) => Some(OpenStep::Loaded(page)),
                Phase::Judged => Some(OpenStep::Judged(self.summary())),
                Phase::Batch(from) => {
                    self.begin_batch(from);
                    None
                }
                Phase::Load(next) => self.step_load(next, now),
                Phase::Generation | Phase::Repair(_) | Phase::Header => self.step_write(now),
                Phase::Opened(writable) => Some(OpenStep::Opened { writable }),
                Phase::Unproven(page, reason) => {
                    Some(OpenStep::Refused(Refused::Copies { page, reason, seen: self.seen }))
                }
                Phase::Refused(reason) => Some(OpenStep::Refused(reason)),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            generation: self.highest,
            header: self.header.stamp,
            table_pages: self.table_pages,
            repairs: self.repairs,
            header_whole: self.header.good() == 5,
        }
    }

    pub(super) fn read(&mut self, page: PageId) {
        self.copies = [SeenHeader::Unreadable; COPIES];
        self.seen = [CopySeen::Unread; COPIES];
        self.asked = 0;
        self.phase = Phase::Read(page);
    }

    pub(super) fn read_table_from(&mut self, page: u32) {
        if page < self.table_pages {
            self.read(PageId::Table(PageIndex(page)));
        } else {
            self.phase = Phase::Judged;
        }
    }

    /// Asks for all five copies, and judges when all have been seen.
    fn step_read(&mut self, page: PageId, now: Millis) -> Option<OpenStep> {
        while let Some(copy) = ALL.into_iter().find(|c| self.asked & bit(*c) == 0) {
            self.asked |= bit(copy);
            if self.wire.is_stuck(copy) {
                self.see(copy, Err(Class::Timeout));
                continue;
            }
            let io: Io = self.wire.read(page, copy, NO_PLACE);
            if let Some(out) = self.outs.get_mut(usize::from(copy.0)) {
                *out = Some(Out { id: io.id.0, at: now });
            }
            return Some(OpenStep::Io(io));
        }
        if self.outs.iter().any(Option::is_some) {
            return Some(OpenStep::Wait);
        }
        let judged = match self.phase {
            Phase::Headers => self.judge_headers(),
            _ => self.judge(page),
        };
        if let Err(reason) = judged {
            self.phase = Phase::Unproven(page, reason);
        }
        None
    }

    /// A copy has been read, or not.
    pub(super) fn see(&mut self, copy: CopyIndex, result: Result<Option<&S::Page>, Class>) {
        let image = match result.and_then(|image| image.ok_or(Class::Io)) {
            Ok(image) => image,
            Err(class) => {
                put(&mut self.seen, copy, CopySeen::Unreadable(class));
                return;
            }
        };
        let header = match (self.phase, self.of) {
            (Phase::Headers, _) => image.seen_header(copy),
            (Phase::Read(page), Some(id)) => match image.check(&id, page, copy) {
                Ok(stamp) => {
                    if let (true, Some(c)) = (wins(&self.copies, stamp), self.cache.get_mut(SHOWN))
                    {
                        c.image.copy_from(image);
                    }
                    let of = (id.volume, id.spare);
                    SeenHeader::Valid { of, stamp, digest: image.digest(), fence: None }
                }
                Err(_) => SeenHeader::Invalid,
            },
            _ => return,
        };
        put(&mut self.copies, copy, header);
        let page = if let Phase::Read(page) = self.phase { page } else { PageId::Header };
        let seen = match header {
            SeenHeader::Valid { stamp, .. } => CopySeen::Valid(stamp),
            SeenHeader::Newer { fault, .. } => CopySeen::Invalid(fault),
            _ => {
                let fault = image.check(&self.of.unwrap_or_default(), page, copy).err();
                CopySeen::Invalid(fault.unwrap_or(PageFault::Magic))
            }
        };
        put(&mut self.seen, copy, seen);
    }

    /// All five headers have been seen: which volume is it, and which header wins?
    fn judge_headers(&mut self) -> Result<(), Refusal> {
        let judged = judge_header(&self.copies, self.force_quorum)?;
        self.of = Some(VolumeId { volume: judged.volume, spare: judged.spare });
        self.header = state(&judged.page);
        self.highest = judged.page.stamp.generation;
        self.sequence = judged.page.stamp.sequence;
        if let Some(c) = self.cache.get_mut(HEADER) {
            c.page = PageId::Header;
            c.role = Role::Loading;
            c.hot = true;
        }
        self.phase = Phase::LoadHeader;
        Ok(())
    }

    /// The winning header is in the cache.
    fn header_loaded(&mut self) {
        if let Some(c) = self.cache.get_mut(HEADER) {
            c.role = Role::Idle;
            c.line = Line::NEW;
            self.table_pages = c.image.table_pages();
        }
        self.phase = Phase::Show(PageId::Header);
    }

    /// All five copies of a page have been seen.
    fn judge(&mut self, page: PageId) -> Result<(), Refusal> {
        let state = state(&judge_page(&self.copies, self.force_quorum)?);
        self.highest = self.highest.max(state.stamp.generation);
        self.sequence = self.sequence.max(state.stamp.sequence);
        let Some(at) = state_index(page) else {
            self.generation_pages = state;
            self.read_table_from(0);
            return Ok(());
        };
        if let Some(place) = self.states.as_deref_mut().and_then(|s| s.get_mut(at)) {
            *place = state;
        }
        self.repairs = self.repairs.saturating_add(u32::from(state.good() < 5));
        self.phase = Phase::Show(page);
        Ok(())
    }

    /// The stamp of all that pass 2 writes.
    pub(super) fn repair_stamp(&self) -> Stamp {
        let sequence = if is(Broken::NoGeneration) { self.sequence.saturating_add(1) } else { 0 };
        Stamp { generation: self.generation, sequence }
    }

    /// The stamp under which pass 2 writes `page`.
    pub(super) fn stamp_of(&self, page: PageId) -> Stamp {
        let states = self.states.as_deref().unwrap_or(&[]);
        match page {
            PageId::Table(_) if is(Broken::RepairUnderOldStamp) => {
                let state = state_index(page).and_then(|i| states.get(i));
                state.map_or(self.repair_stamp(), super::PageState::stamp)
            }
            _ => self.repair_stamp(),
        }
    }

    pub(super) fn begin_generation(&mut self) {
        if let Some(c) = self.cache.get_mut(SHOWN) {
            c.clear();
            c.page = PageId::Generation;
            c.role = Role::Line;
            c.line.start(&self.generation_pages, &self.wire);
        }
        self.pairs.start();
        self.phase = Phase::Generation;
    }

    /// Chooses the next pages to repair, as many as the cache holds; then the header.
    fn begin_batch(&mut self, from: usize) {
        let states = self.states.as_deref().unwrap_or(&[]);
        let mut wanted = states.iter().enumerate().skip(from).filter(|(_, s)| s.good() < 5);
        let mut next = None;
        for c in self.cache.iter_mut().skip(SHOWN) {
            c.clear();
            if let Some((at, _)) = wanted.next() {
                let page = at.checked_sub(1).and_then(|p| u32::try_from(p).ok());
                c.page = PageId::Table(PageIndex(page.unwrap_or(u32::MAX)));
                c.role = Role::Loading;
                next = at.checked_add(1);
            }
        }
        match next {
            Some(next) => self.phase = Phase::Load(next),
            None => {
                if let Some(c) = self.cache.get_mut(HEADER) {
                    c.role = Role::Line;
                    c.line.start(&self.header, &self.wire);
                    self.session = c.image.session();
                }
                self.pairs.start();
                self.phase = Phase::Header;
            }
        }
    }

    fn step_load(&mut self, next: usize, now: Millis) -> Option<OpenStep> {
        let states = self.states.as_deref().unwrap_or(slice::from_ref(&self.header));
        match load(&mut self.wire, &mut self.cache, states, now) {
            Load::Io(io) => return Some(OpenStep::Io(io)),
            Load::Wait => return Some(OpenStep::Wait),
            Load::Failed(at) => {
                let page = self.cache.get(at).map_or(PageId::Header, |c| c.page);
                self.phase = Phase::Refused(Refused::NotReadAgain { page });
            }
            Load::Done if self.phase == Phase::LoadHeader => self.header_loaded(),
            Load::Done => {
                for c in self.cache.iter_mut().filter(|c| c.role == Role::Line) {
                    if let Some(state) = state_index(c.page).and_then(|i| states.get(i)) {
                        c.line.start(state, &self.wire);
                    }
                }
                self.pairs.start();
                self.phase = Phase::Repair(next);
            }
        }
        None
    }

    fn step_write(&mut self, now: Millis) -> Option<OpenStep> {
        match self.pairs.step(&mut self.wire, &mut self.cache, now) {
            Step::Io(io) => return Some(OpenStep::Io(io)),
            Step::Wait => return Some(OpenStep::Wait),
            Step::Round => {}
            Step::Done => self.written(),
        }
        None
    }

    /// The generation pages, a batch of repairs or the header have been written as far as they can.
    fn written(&mut self) {
        let lines = self.cache.iter().filter(|c| c.role == Role::Line);
        if let Some(c) = lines.into_iter().find(|c| !c.line.acked) {
            let written = u8::try_from(c.line.durable.count_ones()).unwrap_or(0);
            self.not_written(c.page, written);
            return;
        }
        let stamp = self.repair_stamp();
        for c in self.cache.iter_mut().filter(|c| c.role == Role::Line) {
            let states = self.states.as_deref_mut();
            if let Some(s) = state_index(c.page).and_then(|i| states?.get_mut(i)) {
                if !(is(Broken::RepairUnderOldStamp) && c.page != PageId::Header) {
                    s.stamp = stamp;
                }
                for copy in ALL {
                    let good = c.line.durable & bit(copy) != 0;
                    s.set(copy, if good { CopyState::Good } else { CopyState::Failed });
                }
            }
            rest(c);
        }
        self.phase = match self.phase {
            Phase::Generation if is(Broken::ServeBeforeRepair) => Phase::Opened(true),
            Phase::Generation => Phase::Batch(1),
            Phase::Repair(next) => Phase::Batch(next),
            _ => Phase::Opened(true),
        };
    }

    /// Fewer than four copies took a page. If that was the generation and nothing else needs
    /// writing, everything acknowledged is there on five copies and can be served, but not changed.
    fn not_written(&mut self, page: PageId, written: u8) {
        let whole = self.repairs == 0 && usize::from(self.header.good()) == COPIES;
        self.phase = match page {
            PageId::Generation if whole => {
                self.generation = self.highest;
                Phase::Opened(false)
            }
            PageId::Generation => Phase::Refused(Refused::GenerationNotWritten { written }),
            _ => Phase::Refused(Refused::RepairNotWritten { page, written }),
        };
    }
}

/// What was written stays cached, but for the generation page.
fn rest<P>(c: &mut Cached<P>) {
    c.line = Line::NEW;
    c.role = if c.page == PageId::Generation { Role::Free } else { Role::Idle };
}

const _: () = assert!(NEEDED == 4);
