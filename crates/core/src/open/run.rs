// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The steps of an open; what they are for is told at the head of the module.

use dmremap_format::{COPIES, CopyIndex, PageIndex, Stamp};

use super::judge::{Judge, Seen};
use super::{HEADER, Open, OpenStep, Phase, Refused, SHOWN, Summary};
use crate::commit::{
    ALL, Cached, CopyState, FaultOf, Image, Io, Line, Load, NEEDED, NO_PLACE, Out, PageId, Role,
    Step, Store, VolumeOf, bit, load, state_index,
};
use crate::{Class, Millis};

impl<S: Store> Open<S> {
    /// What comes next. Called again after every answer and every call until it says
    /// [`OpenStep::Wait`].
    pub fn step(&mut self, now: Millis) -> OpenStep<FaultOf<S>> {
        loop {
            let step = match self.phase {
                Phase::Identify => self.step_read(PageId::Header, now),
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
        self.judge = Judge::new();
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
    fn step_read(&mut self, page: PageId, now: Millis) -> Option<OpenStep<FaultOf<S>>> {
        while let Some(copy) = ALL.into_iter().find(|c| self.asked & bit(*c) == 0) {
            self.asked |= bit(copy);
            if self.wire.is_stuck(copy) {
                self.judge.add(copy, Seen::Unreadable(Class::Timeout));
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
        self.wire.quiet();
        if self.phase == Phase::Identify {
            self.identify();
        } else {
            self.judged(page);
        }
        None
    }

    /// A copy has been read, or not.
    pub(super) fn see(&mut self, copy: CopyIndex, result: Result<Option<&S::Page>, Class>) {
        let image = match result {
            Ok(Some(image)) => image,
            Ok(None) => return self.add(copy, Seen::Unreadable(Class::Io)),
            Err(class) => return self.add(copy, Seen::Unreadable(class)),
        };
        match self.phase {
            Phase::Identify => {
                let name = image.header_volume(copy);
                let stamp = name.and_then(|v| image.check(&v, PageId::Header, copy));
                if let Some(place) = self.names.get_mut(usize::from(copy.0)) {
                    *place = name.ok();
                }
                let valid = |stamp| Seen::Valid { stamp, digest: image.digest() };
                self.add(copy, stamp.map_or_else(Seen::Invalid, valid));
            }
            Phase::Read(page) => {
                let Some(volume) = &self.volume else { return };
                match image.check(volume, page, copy) {
                    Ok(stamp) => {
                        let fence = (page == PageId::Header).then(|| image.fence()).flatten();
                        self.fence = self.fence.or(fence.map(|f| (copy, f)));
                        let seen = Seen::Valid { stamp, digest: image.digest() };
                        if self.judge.add(copy, seen) {
                            let at = if page == PageId::Header { HEADER } else { SHOWN };
                            if let Some(c) = self.cache.get_mut(at) {
                                c.image.copy_from(image);
                            }
                        }
                    }
                    Err(fault) => self.add(copy, Seen::Invalid(fault)),
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, copy: CopyIndex, seen: Seen<FaultOf<S>>) {
        self.judge.add(copy, seen);
    }

    /// The volume is the one that two valid headers share; with `force_quorum` one is enough if
    /// there is only one.
    fn identify(&mut self) {
        let count = |v: &VolumeOf<S>| self.names.iter().flatten().filter(|n| *n == v).count();
        let most = self.names.iter().flatten().map(count).max().unwrap_or(0);
        let enough = if self.force_quorum { most.clamp(1, 2) } else { 2 };
        let mut named = self
            .names
            .iter()
            .zip(ALL)
            .filter_map(|(name, copy)| name.filter(|v| count(v) >= enough).map(|v| (v, copy)));
        let Some((volume, one)) = named.next() else {
            self.phase = Phase::Refused(Refused::NoVolume { seen: self.judge.seen });
            return;
        };
        if let Some((_, other)) = named.find(|(v, _)| *v != volume) {
            self.phase = Phase::Refused(Refused::TwoVolumes { one, other });
            return;
        }
        self.volume = Some(volume);
        self.read(PageId::Header);
    }

    /// All five copies of a page have been seen.
    fn judged(&mut self, page: PageId) {
        if let Some((copy, fence)) = self.fence {
            self.phase = Phase::Refused(Refused::Fenced { copy, fence });
            return;
        }
        let valid = self.judge.valid_count();
        let needed = if self.force_quorum { 1 } else { 2 };
        if valid < needed {
            let seen = self.judge.seen;
            self.phase = Phase::Refused(Refused::TooFewCopies { page, valid, seen });
            return;
        }
        if let Some((one, other)) = self.judge.clash() {
            self.phase = Phase::Refused(Refused::TwoContents { page, one, other });
            return;
        }
        let state = self.judge.state();
        self.highest = self.highest.max(state.stamp.generation);
        match page {
            PageId::Header => {
                self.header = state;
                if let Some(c) = self.cache.get_mut(HEADER) {
                    c.page = page;
                    c.role = Role::Idle;
                    c.hot = true;
                    self.table_pages = c.image.table_pages();
                }
                self.phase = Phase::Show(page);
            }
            PageId::Generation => {
                self.generation_pages = state;
                self.read_table_from(0);
            }
            PageId::Table(_) => {
                let states = self.states.as_deref_mut();
                let place = state_index(page).and_then(|i| states?.get_mut(i));
                if let Some(place) = place {
                    *place = state;
                }
                self.repairs = self.repairs.saturating_add(u32::from(state.good() < 5));
                self.phase = Phase::Show(page);
            }
        }
    }

    /// The stamp of all that pass 2 writes.
    pub(super) fn repair_stamp(&self) -> Stamp {
        Stamp { generation: self.generation, sequence: 0 }
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

    fn step_load(&mut self, next: usize, now: Millis) -> Option<OpenStep<FaultOf<S>>> {
        let states = self.states.as_deref().unwrap_or(&[]);
        match load(&mut self.wire, &mut self.cache, states, now) {
            Load::Io(io) => return Some(OpenStep::Io(io)),
            Load::Wait => return Some(OpenStep::Wait),
            Load::Failed(at) => {
                let page = self.cache.get(at).map_or(PageId::Header, |c| c.page);
                self.phase = Phase::Refused(Refused::NotReadAgain { page });
            }
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

    fn step_write(&mut self, now: Millis) -> Option<OpenStep<FaultOf<S>>> {
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
        self.wire.quiet();
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
                s.stamp = stamp;
                for copy in ALL {
                    let good = c.line.durable & bit(copy) != 0;
                    s.set(copy, if good { CopyState::Good } else { CopyState::Failed });
                }
            }
            rest(c);
        }
        self.phase = match self.phase {
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
