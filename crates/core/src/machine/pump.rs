// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the machine asks of its driver, and what moves by itself between two events: probes,
//! flush rounds, graces, commits.

use dmremap_format::{CopyIndex, PageBytes};

use crate::api::{Action, Answer, Class, Dev, Event, FlushCounts, Millis, Op, OpId, OpKind};
use crate::commit::{IoKind, PageId};

use super::job::{Goal, Wait};
use super::probe::{Ended, READS};
use super::{Input, META, Machine, Memory, Mode, mark};

// An operation's id: source (2 bits), index (6 bits), count (24 bits).
pub(super) const SOURCE_JOB: u32 = 0;
pub(super) const SOURCE_PROBE: u32 = 1;
pub(super) const SOURCE_FLUSH: u32 = 2;
pub(super) const SOURCE_META: u32 = 3;
pub(super) const COUNT_MASK: u32 = 0x00ff_ffff;

pub(super) fn op_id(source: u32, index: u32, count: u32) -> OpId {
    OpId((source << 30) | ((index & 63) << 24) | (count & COUNT_MASK))
}

pub(super) fn parts_of(id: OpId) -> (u32, usize, u32) {
    let index = usize::try_from((id.0 >> 24) & 63).unwrap_or(0);
    (id.0 >> 30, index, id.0 & COUNT_MASK)
}

/// How often who waits for room asks again.
const ROOM_MS: Millis = 10;

const DEVS: [Dev; 2] = [Dev::Main, Dev::Spare(0)];

fn dev_of_row(index: usize) -> Dev {
    if index == 0 { Dev::Main } else { Dev::Spare(0) }
}

impl<M: Memory> Machine<M> {
    /// The next thing to do. Drained after every call of another method, each action carried out
    /// in order.
    pub fn next_action(&mut self) -> Option<Action> {
        while let Some(action) = self.next_of_all() {
            match action {
                // What is gone is sent nothing more; what it would say is known.
                Action::Io(op) if self.shared.is_down(op.dev) => {
                    let answer = Answer::Failed(Class::Offline);
                    self.take_answer(op.id, answer, None, self.now);
                }
                action => return Some(action),
            }
        }
        None
    }

    fn next_of_all(&mut self) -> Option<Action> {
        loop {
            if let Some(place) = self.events.iter_mut().find(|e| e.is_some()) {
                return place.take().map(Action::Event);
            }
            for j in 0..self.jobs.len() {
                if let Some(action) = self.said(j) {
                    return Some(action);
                }
            }
            let now = self.now;
            let action = self
                .probe_action()
                .or_else(|| self.flush_action())
                .or_else(|| self.meta_action(now))
                .or_else(|| self.flushed_action())
                .or_else(|| {
                    let reply = self.clear_reply().or_else(|| self.mark_reply());
                    let reply = reply.or_else(|| self.restore_reply());
                    reply.map(|(id, outcome)| Action::Reply { id, outcome })
                });
            if action.is_some() {
                return action;
            }
            // Asking the commit machine for I/O may have ended changes, or the close, without any.
            match self.commit.next_outcome() {
                Some(outcome) => self.outcome(outcome.token, outcome.kind, now),
                None if self.mode == Mode::Sealing && self.commit.closed().is_some() => {}
                None if self.restore_goes_on() => {}
                None => return None,
            }
            self.pump(now);
        }
    }

    fn said(&mut self, j: usize) -> Option<Action> {
        let buffer = u16::try_from(j).unwrap_or(u16::MAX);
        let job = self.job(j);
        if !job.say.pending() {
            return None;
        }
        if let (true, Some(piece)) = (core::mem::take(&mut job.say.copy_in), job.piece) {
            return Some(Action::CopyIn { buffer, piece });
        }
        if let (true, Some(piece)) = (core::mem::take(&mut job.say.verdict), job.piece) {
            return Some(Action::Verdict { request: piece.request });
        }
        if let (Some(outcome), Some(piece)) = (job.say.complete.take(), job.piece) {
            return Some(Action::Complete { buffer, piece, outcome });
        }
        if let (Some(at), Some(piece)) = (job.say.again.take(), job.piece) {
            return Some(Action::Again { piece, at });
        }
        if let (Some(outcome), Some(id)) = (job.say.reply.take(), job.message) {
            return Some(Action::Reply { id, outcome });
        }
        if core::mem::take(&mut job.say.io) {
            return job.op.map(Action::Io);
        }
        None
    }

    /// Begins due probes and hands out their reads.
    fn probe_action(&mut self) -> Option<Action> {
        for dev in DEVS {
            if let Some(place) = self.health(dev).next_read() {
                let number = self.health(dev).number;
                let row = super::probe::row(dev);
                let index = row.saturating_mul(READS).saturating_add(place);
                let index = u32::try_from(index).unwrap_or(0);
                let sector = self.probe_place(dev, place);
                let sectors = u32::from(self.geometry().block_sectors);
                let id = op_id(SOURCE_PROBE, index, number);
                let kind = OpKind::Probe;
                return Some(Action::Io(Op { id, dev, sector, sectors, kind }));
            }
        }
        None
    }

    /// A place in the given third of the device, without an entry or a pending mark.
    fn probe_place(&mut self, dev: Dev, third: usize) -> u64 {
        let geometry = self.geometry();
        let block = u64::from(geometry.block_sectors).max(1);
        let sectors = match dev {
            Dev::Main => geometry.main_sectors,
            Dev::Spare(_) => self.layout.spare_sectors(),
        };
        let blocks = sectors.checked_div(block).unwrap_or(1);
        let part = blocks.checked_div(3).unwrap_or(0).max(1);
        let first = part.saturating_mul(u64::try_from(third).unwrap_or(0));
        let mut sector = 0;
        for _ in 0..8 {
            let at = first.saturating_add(self.random.below(part)).min(blocks.saturating_sub(1));
            sector = at.saturating_mul(block);
            let taken = match dev {
                Dev::Main => {
                    let unit = geometry.unit_of(sector);
                    self.shared.table.get(unit).is_some() || self.shared.pending.get(unit) != 0
                }
                Dev::Spare(_) => {
                    geometry.spare_unit_of(sector).is_some_and(|u| !self.allocator.is_free(u))
                }
            };
            if !taken {
                break;
            }
        }
        sector
    }

    /// Begins the next flush round of a device that somebody waits for.
    fn flush_action(&mut self) -> Option<Action> {
        for (row, dev) in DEVS.into_iter().enumerate() {
            let written = self.shared.written(dev);
            if self.flushes.line(dev).start(written) {
                let id = self.next_id(SOURCE_FLUSH, u32::try_from(row).unwrap_or(0));
                let kind = OpKind::Flush;
                return Some(Action::Io(Op { id, dev, sector: 0, sectors: 0, kind }));
            }
        }
        None
    }

    fn flushed_action(&mut self) -> Option<Action> {
        let (id, outcome) = self.flushes.next_ended()?;
        Some(Action::Flushed { id, outcome, failures: self.flushes.failures() })
    }

    /// The commit machine's next page operation. Its flushes go through the spare's line.
    fn meta_action(&mut self, now: Millis) -> Option<Action> {
        loop {
            let free = self.meta.iter().position(Option::is_none)?;
            let io = self.commit.next_io(now)?;
            let (copy, page, kind) = match io.kind {
                IoKind::Flush => {
                    let round = self.flushes.line(Dev::Spare(0)).ask();
                    self.meta_flush = Some((io.id, round));
                    if let Some(action) = self.flush_action() {
                        return Some(action);
                    }
                    continue;
                }
                IoKind::Read { copy, page } => (copy, page, OpKind::ReadPage),
                IoKind::Write { copy, page } => (copy, page, OpKind::WritePage),
            };
            let id = self.next_id(SOURCE_META, u32::try_from(free).unwrap_or(0));
            if let Some(place) = self.meta.get_mut(free) {
                *place = Some(super::MetaOp { io: io.id, id });
            }
            let sector = self.page_sector(copy, page);
            return Some(Action::Io(Op { id, dev: Dev::Spare(0), sector, sectors: 8, kind }));
        }
    }

    fn page_sector(&self, copy: CopyIndex, page: PageId) -> u64 {
        match page {
            PageId::Header => self.layout.header_sector(copy),
            PageId::Generation => self.layout.generation_sector(copy),
            PageId::Table(index) => self.layout.page_sector(copy, index),
        }
    }

    /// The page to write for a [`OpKind::WritePage`] operation, sealed for its copy.
    pub fn page_image(&self, id: OpId, out: &mut PageBytes) {
        let (_, index, _) = parts_of(id);
        let Some(Some(op)) = self.meta.get(index) else { return };
        if op.id == id {
            let _ = self.commit.image(op.io, out);
        }
    }

    pub(super) fn meta_answered(
        &mut self,
        index: usize,
        answer: Answer,
        page: Option<&PageBytes>,
        now: Millis,
    ) {
        let Some(op) = self.meta.get_mut(index).and_then(Option::take) else { return };
        let result = match answer {
            Answer::Good | Answer::Differs => Ok(page),
            Answer::Failed(class) => Err(class),
        };
        self.commit.io_done(op.io, result, now);
    }

    pub(super) fn probe_answered(&mut self, index: usize, number: u32, answer: Answer) {
        let place = index.checked_rem(READS).unwrap_or(0);
        let dev = dev_of_row(index.checked_div(READS).unwrap_or(0));
        let health = self.health(dev);
        let number_now = health.number & COUNT_MASK;
        let current = if number == number_now { health.number } else { number_now.wrapping_sub(1) };
        health.answered(place, current, answer == Answer::Good);
    }

    pub(super) fn flush_answered(&mut self, row: usize, answer: Answer) {
        let dev = dev_of_row(row);
        let result = match answer {
            Answer::Failed(class) => Err(class),
            Answer::Good | Answer::Differs => Ok(()),
        };
        let written = self.shared.written(dev);
        self.flushes.line(dev).end(result, written);
        if result.is_err() {
            self.counts.flush_errors = self.counts.flush_errors.saturating_add(1);
            if dev != Dev::Main {
                self.commit.flush_failed();
            }
            self.tell(Event::FlushFailed(dev));
        }
    }

    /// The device an operation went to.
    pub(super) fn device_of(&mut self, id: OpId) -> Option<Dev> {
        let (source, index, _) = parts_of(id);
        match source {
            SOURCE_JOB => self.job(index).op.filter(|op| op.id == id).map(|op| op.dev),
            SOURCE_PROBE => Some(dev_of_row(index.checked_div(READS).unwrap_or(0))),
            SOURCE_FLUSH => Some(dev_of_row(index)),
            _ => Some(Dev::Spare(0)),
        }
    }

    /// Everything that can go on by itself does.
    pub(super) fn pump(&mut self, now: Millis) {
        for dev in DEVS {
            self.pump_probe(dev, now);
        }
        self.pump_flushes(now);
        while let Some(outcome) = self.commit.next_outcome() {
            self.outcome(outcome.token, outcome.kind, now);
        }
        if self.commit.taken_over() && self.mode == Mode::Open {
            self.mode = Mode::Failed;
            self.tell(Event::TakenOver);
            // Whatever is still to be sent fails from now on, and its job with it.
            for dev in DEVS {
                self.shared.set_down(dev);
            }
        }
        let degraded = self.mode == Mode::Open && self.commit.degraded();
        if degraded && !self.degraded {
            self.tell(Event::MetadataDegraded);
        }
        self.degraded = degraded;
        // A grace that one job found over may have been another's too, and its piece not tell.
        self.poll_graces(now);
        self.pump_waiting(now);
        self.pump_clear(now);
        self.pump_marks(now);
        self.pump_restore();
        self.pump_close(now);
    }

    fn pump_probe(&mut self, dev: Dev, now: Millis) {
        if let Some(ended) = self.health(dev).end(now) {
            let number = self.health(dev).number;
            match self.health(dev).judge(ended) {
                Some(true) => self.tell(Event::Suspect(dev)),
                Some(false) => {
                    self.tell(Event::Healed(dev));
                    self.woke();
                }
                None => {}
            }
            // A suspect device that answered one probe well is still suspect.
            let good = ended == Ended::Good && !self.health(dev).suspect;
            self.probed(dev, Some(number), good, now);
        }
        if self.health(dev).suspect || self.shared.is_down(dev) {
            // Who waits for the next probe knows enough.
            self.probed(dev, None, false, now);
        }
        if self.shared.is_down(dev) {
            return;
        }
        let timeout = u64::from(self.settings.probe_timeout_ms());
        if let Some(number) = self.health(dev).start(now, timeout) {
            for j in 0..self.jobs.len() {
                let job = self.job(j);
                if job.wait == Wait::Probe(dev, None) {
                    job.wait = Wait::Probe(dev, Some(number));
                }
            }
        }
    }

    /// Steps the jobs that wait for this probe.
    pub(super) fn probed(&mut self, dev: Dev, number: Option<u32>, good: bool, now: Millis) {
        for j in 0..self.jobs.len() {
            let job = self.job(j);
            if job.goal != Goal::Free && job.wait == Wait::Probe(dev, number) {
                job.wait = Wait::Nothing;
                self.step(j, Input::Probed(good), now);
            }
        }
    }

    fn pump_flushes(&mut self, now: Millis) {
        for dev in DEVS {
            for j in 0..self.jobs.len() {
                let Wait::Flush(of, round) = self.job(j).wait else { continue };
                if of == dev && self.flushes.line(dev).has_ended(round) {
                    self.job(j).wait = Wait::Nothing;
                    self.step(j, Input::Flushed, now);
                }
            }
        }
        if let Some((io, round)) = self.meta_flush {
            let line = self.flushes.line(Dev::Spare(0));
            if line.has_ended(round) {
                self.meta_flush = None;
                let result = if line.good { Ok(None) } else { Err(Class::Io) };
                self.commit.io_done(io, result, now);
            }
        }
    }

    pub(super) fn poll_graces(&mut self, now: Millis) {
        for j in 0..self.jobs.len() {
            self.poll_grace(j, now);
        }
    }

    /// Steps the job if the grace it waits for is over.
    pub(super) fn poll_grace(&mut self, j: usize, now: Millis) {
        let Wait::Grace(id) = self.job(j).wait else { return };
        if self.job(j).goal != Goal::Free && self.grace.passed(&self.shared.pieces, id) {
            self.job(j).wait = Wait::Nothing;
            self.step(j, Input::Graced, now);
        }
    }

    fn pump_waiting(&mut self, now: Millis) {
        for j in 0..self.jobs.len() {
            if self.job(j).goal == Goal::Free {
                continue;
            }
            let unit = self.job(j).unit;
            let go_on = match self.job(j).wait {
                Wait::Siblings => self.busy_by_others(j, unit) == 0,
                Wait::Room => true,
                _ => false,
            };
            if go_on {
                self.job(j).wait = Wait::Nothing;
                self.step(j, Input::Woken, now);
            }
        }
    }

    /// A client's flush. `answered`: the failures its connection was told of. False: no place now,
    /// present it again when [`Machine::wakes`] has changed or a flush has ended.
    pub fn flush(&mut self, id: u64, answered: FlushCounts, now: Millis) -> bool {
        self.now = now;
        let written = self.shared.written(Dev::Spare(0));
        let taken = self.flushes.arrive(id, answered, written);
        self.pump(now);
        taken
    }

    /// The failures a new connection counts as answered.
    pub fn flush_floor(&self) -> FlushCounts {
        self.flushes.floor()
    }

    /// When [`Machine::tick`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let mut next: Option<Millis> = None;
        let mut at = |time: Millis| next = Some(next.map_or(time, |n| n.min(time)));
        for job in self.jobs.iter().filter(|job| job.goal != Goal::Free) {
            match job.wait {
                Wait::Until(time) => at(time),
                Wait::Room => at(self.now.saturating_add(ROOM_MS)),
                _ => {}
            }
            if !job.late && job.deadline != Millis::MAX && job.wait != Wait::Outcome {
                at(job.deadline);
            }
        }
        if let Some(time) = self.waiting_until {
            at(time);
        }
        if self.marks.iter().flatten().any(mark::Marking::is_waiting) {
            at(self.now.saturating_add(ROOM_MS));
        }
        for health in &self.health {
            if let Some(time) = health.deadline() {
                at(time);
            }
        }
        if let Some(time) = self.commit.next_deadline() {
            at(time);
        }
        if matches!(self.mode, Mode::Closing) {
            at(self.closing_deadline);
        }
        next
    }
}

const _: () = assert!(META <= 64);
