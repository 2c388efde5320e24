// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the driver tells the machine: a piece failed or met an obstacle, an operation was
//! answered, time has passed, a device is gone.

use dmremap_format::{PageBytes, UnitIndex};

use crate::api::{
    Answer, Class, Dev, Disposition, Event, Failure, Kind, Millis, OpId, OpKind, Outcome, Piece,
};
use crate::broken::{Broken, is};
use crate::resolve::{Mark, Place, Run};

use super::job::{Goal, Stage, Trial, Wait, run_mask};
use super::write::retry_at;
use super::{Input, Machine, Memory, Mode, pump};

impl<M: Memory> Machine<M> {
    /// A piece that was submitted has failed. Its counter was given back before.
    pub fn failed(&mut self, piece: &Piece, failure: &Failure, now: Millis) -> Disposition {
        self.now = now;
        let disposition = self.judge(now, |machine| machine.judge_failed(piece, failure, now));
        // What waits comes again with this failure, what is cut brings failures of its own.
        if !matches!(disposition, Disposition::Wait | Disposition::Split) {
            self.count(piece.kind, failure.class);
        }
        disposition
    }

    /// A piece that is told to wait must not miss what was let go in the same call.
    fn judge(&mut self, now: Millis, by: impl Fn(&mut Self) -> Disposition) -> Disposition {
        loop {
            let disposition = by(self);
            let wakes = self.wakes;
            self.pump(now);
            if disposition != Disposition::Wait || self.wakes == wakes {
                return disposition;
            }
        }
    }

    fn count(&mut self, kind: Kind, class: Class) {
        let counts = &mut self.counts;
        if kind.changes() {
            counts.write_errors = counts.write_errors.saturating_add(1);
        } else {
            counts.read_errors = counts.read_errors.saturating_add(1);
        }
        if class.is_suspect() {
            counts.medium_errors = counts.medium_errors.saturating_add(1);
        } else {
            counts.transport_errors = counts.transport_errors.saturating_add(1);
        }
    }

    fn judge_failed(&mut self, piece: &Piece, failure: &Failure, now: Millis) -> Disposition {
        let class = failure.class;
        if class == Class::Offline {
            self.went_away(failure.dev);
        }
        let read = piece.kind == Kind::Read;
        let passes = !class.is_suspect()
            || piece.kind == Kind::Discard
            || (read && (piece.hasty || self.settings.read_retries() == 0))
            || !(self.mode == Mode::Open || (read && self.mode == Mode::ReadOnly))
            || self.health(failure.dev).vanished;
        if passes {
            return Disposition::Fail(class);
        }
        let limit = u64::from(self.settings.recovery_limit_ms());
        let since = piece.since.unwrap_or(now);
        let deadline = since.saturating_add(limit);
        if now >= deadline {
            return Disposition::Fail(class);
        }
        // Evidence counts only against the place it came from.
        let run = self.shared.resolve(piece.sector, u64::from(piece.sectors));
        if !is(Broken::EvidenceNotResolvedAnew) {
            if run.mark == Mark::Busy {
                return self.wait_until(deadline);
            }
            if !self.same_place(&run, piece, failure) {
                return Disposition::Again;
            }
        }
        if self.health(failure.dev).suspect {
            if read {
                return Disposition::Fail(class);
            }
            return retry_at(now, deadline).map_or(Disposition::Fail(class), Disposition::RetryAt);
        }
        if read && u64::from(failure.took_ms).saturating_mul(2) >= limit {
            return Disposition::Fail(class);
        }
        let geometry = self.geometry();
        let Some((unit, blocks)) = geometry.in_one_unit(piece.sector, piece.sectors) else {
            return Disposition::Split;
        };
        if read {
            return self.begin_read(piece, unit, blocks, class, deadline, now);
        }
        if !self.settings.auto_remap() {
            return Disposition::Fail(class);
        }
        let Some(j) = self.claim(Goal::Write, unit, blocks, true) else {
            return self.wait_until(deadline);
        };
        self.adopt(j, piece, class, deadline, now);
        let at_once = self.counts_as_failed(j, now);
        self.write_begin(j, failure.dev, at_once, now);
        Disposition::Taken
    }

    fn begin_read(
        &mut self,
        piece: &Piece,
        unit: UnitIndex,
        blocks: u8,
        class: Class,
        deadline: Millis,
        now: Millis,
    ) -> Disposition {
        let Some(j) = self.claim(Goal::Read, unit, blocks, false) else {
            return self.wait_until(deadline);
        };
        self.adopt(j, piece, class, deadline, now);
        self.job(j).medium = class == Class::Medium;
        self.read_begin(j, now);
        Disposition::Taken
    }

    /// The job answers this piece.
    fn adopt(&mut self, j: usize, piece: &Piece, class: Class, deadline: Millis, now: Millis) {
        let job = self.job(j);
        job.piece = Some(Piece { since: Some(piece.since.unwrap_or(now)), ..*piece });
        job.class = class;
        job.deadline = deadline;
    }

    /// Whether the whole piece still lives where it failed, unmarked: what is pending by now has
    /// a way of its own.
    fn same_place(&self, run: &Run, piece: &Piece, failure: &Failure) -> bool {
        if run.sectors < u64::from(piece.sectors) || run.mark != Mark::None {
            return false;
        }
        match run.place {
            Place::Main => failure.dev == Dev::Main && failure.sector == piece.sector,
            Place::Spare { member, sector } => {
                failure.dev == Dev::Spare(member) && failure.sector == sector
            }
            Place::Gone => false,
        }
    }

    /// Routing met an obstacle: a busy, pending or gone block. The piece lies in one unit.
    pub fn park(&mut self, piece: &Piece, now: Millis) -> Disposition {
        self.now = now;
        self.judge(now, |machine| machine.judge_parked(piece, now))
    }

    fn judge_parked(&mut self, piece: &Piece, now: Millis) -> Disposition {
        let limit = u64::from(self.settings.recovery_limit_ms());
        let deadline = piece.since.unwrap_or(now).saturating_add(limit);
        if now >= deadline {
            return Disposition::Fail(Class::Io);
        }
        let run = self.shared.resolve(piece.sector, u64::from(piece.sectors));
        if run.sectors < u64::from(piece.sectors) {
            return Disposition::Again;
        }
        let Some((unit, blocks)) = self.geometry().in_one_unit(piece.sector, piece.sectors) else {
            return Disposition::Split;
        };
        let on_spare = matches!(run.place, Place::Spare { .. });
        if self.shared.is_down(if on_spare { Dev::Spare(0) } else { Dev::Main }) {
            return Disposition::Fail(Class::Offline);
        }
        match (run.mark, run.place, piece.kind) {
            (Mark::Busy, ..) => self.wait_until(deadline),
            (Mark::Doubt, ..) => Disposition::Fail(Class::Io),
            (_, Place::Gone, Kind::Read) => Disposition::Fail(Class::Medium),
            (_, _, Kind::Discard) => Disposition::Again,
            (_, Place::Gone, _) => self.begin_gone(piece, unit, blocks, deadline, now),
            (Mark::Pending, _, Kind::Read) => {
                self.begin_read(piece, unit, blocks, Class::Medium, deadline, now)
            }
            (Mark::Pending, place, _) => {
                self.begin_pending(piece, place, unit, blocks, deadline, now)
            }
            (Mark::None, ..) => Disposition::Again,
        }
    }

    /// A write to blocks that are pending: straight to the spare from main; on the spare, and
    /// while nothing may be moved, it is tried in place first.
    fn begin_pending(
        &mut self,
        piece: &Piece,
        place: Place,
        unit: UnitIndex,
        blocks: u8,
        deadline: Millis,
        now: Millis,
    ) -> Disposition {
        if !matches!(self.mode, Mode::Open) {
            return Disposition::Fail(Class::Io);
        }
        let Some(j) = self.claim(Goal::Write, unit, blocks, true) else {
            return self.wait_until(deadline);
        };
        self.adopt(j, piece, Class::Medium, deadline, now);
        let suspect = self.health.iter().any(|h| h.suspect);
        if place == Place::Main && self.settings.auto_remap() && !suspect {
            self.write_begin(j, Dev::Main, true, now);
            return Disposition::Taken;
        }
        let job = self.job(j);
        job.stage = Stage::Try;
        job.trial = Trial::First;
        job.say.copy_in = true;
        job.have = blocks;
        self.try_issue(j, now);
        Disposition::Taken
    }

    /// A write to gone blocks goes to their present place, like any other, and is then committed.
    fn begin_gone(
        &mut self,
        piece: &Piece,
        unit: UnitIndex,
        blocks: u8,
        deadline: Millis,
        now: Millis,
    ) -> Disposition {
        if !matches!(self.mode, Mode::Open) {
            return Disposition::Fail(Class::Io);
        }
        let Some(j) = self.claim(Goal::WriteGone, unit, blocks, true) else {
            return self.wait_until(deadline);
        };
        self.adopt(j, piece, Class::Io, deadline, now);
        let job = self.job(j);
        job.say.copy_in = true;
        job.have = blocks;
        job.moving = blocks;
        if job.entry.is_some_and(|e| e.spare.is_some()) {
            self.place(j, now);
        } else if let Some(reason) = self.cannot_move() {
            // Its new state could not be committed.
            self.not_movable(j, reason, now);
        } else {
            self.job(j).dest = Dev::Main;
            self.put_pass(j, now);
        }
        Disposition::Taken
    }

    /// An operation has come back. `page`: what [`OpKind::ReadPage`] read.
    pub fn answered(&mut self, id: OpId, answer: Answer, page: Option<&PageBytes>, now: Millis) {
        self.now = now;
        if let Answer::Failed(Class::Offline) = answer {
            if let Some(dev) = self.device_of(id) {
                self.went_away(dev);
            }
        }
        self.take_answer(id, answer, page, now);
    }

    pub(super) fn take_answer(
        &mut self,
        id: OpId,
        answer: Answer,
        page: Option<&PageBytes>,
        now: Millis,
    ) {
        let (source, index, count) = pump::parts_of(id);
        match source {
            pump::SOURCE_JOB => self.job_answered(index, id, answer, now),
            pump::SOURCE_PROBE => self.probe_answered(index, count, answer),
            pump::SOURCE_FLUSH => self.flush_answered(index, answer),
            _ => self.meta_answered(index, answer, page, now),
        }
        self.pump(now);
    }

    fn job_answered(&mut self, j: usize, id: OpId, answer: Answer, now: Millis) {
        let Some(op) = self.job(j).op.filter(|op| op.id == id) else { return };
        if self.job(j).wait != Wait::Answer {
            return;
        }
        self.job(j).wait = Wait::Nothing;
        if let (OpKind::Write { .. }, Dev::Spare(_)) = (op.kind, op.dev) {
            // Answered, well or badly: no flush that began before now covers it.
            self.shared.count_written(op.dev);
        }
        if self.job(j).late {
            let job = *self.job(j);
            let good = answer == Answer::Good;
            let written = match job.stage {
                Stage::Try if good => job.own,
                Stage::LastTry => {
                    let failed = if good { 0 } else { run_mask(job.cursor, 1) };
                    job.own & !(job.todo | job.unsure | failed)
                }
                _ => 0,
            };
            // Late or not, it was written in place: a mark would hide what can be read.
            self.shared.pending.drop_marks(job.unit, written);
            return self.release(j);
        }
        self.step(j, Input::Answer(answer), now);
    }

    /// One step of a job.
    pub(super) fn step(&mut self, j: usize, input: Input, now: Millis) {
        match self.job(j).stage {
            Stage::Read => self.read_step(j, input, now),
            Stage::Try => self.try_step(j, input, now),
            Stage::LastTry => self.last_try_step(j, input, now),
            Stage::Gather => self.gather_step(j, input, now),
            Stage::Put => self.put_step(j, input, now),
            Stage::Sync => self.sync_step(j, input, now),
            Stage::Check => self.check_step(j, input, now),
            Stage::Commit => self.join(j, now),
            Stage::Doubt => {}
            Stage::Cool => self.cooled(j),
        }
    }

    /// Somebody on the fast path has come back whom a grace waits for.
    pub fn grace_tick(&mut self, now: Millis) {
        self.now = now;
        self.pump(now);
    }

    /// Time has passed. `wall_s`: seconds since 2020-01-01 for the slots' timestamps.
    pub fn tick(&mut self, now: Millis, wall_s: u32) {
        self.now = now;
        self.wall_s = wall_s;
        for j in 0..self.jobs.len() {
            let job = self.job(j);
            if matches!(job.wait, Wait::Until(at) if now >= at) && job.goal != Goal::Free {
                self.step(j, Input::Timer, now);
            }
            self.check_limit(j, now);
        }
        if self.waiting_until.is_some_and(|at| now >= at) {
            self.waiting_until = None;
            self.woke();
        }
        self.commit.tick(now);
        self.pump(now);
    }

    /// Past its limit a job begins nothing new; what it waits for decides how it ends.
    fn check_limit(&mut self, j: usize, now: Millis) {
        if self.job(j).goal == Goal::Free || !self.past_limit(j, now) {
            return;
        }
        match (self.job(j).stage, self.job(j).wait) {
            (Stage::Doubt | Stage::Cool, _) | (_, Wait::Outcome) => {}
            (_, Wait::Answer) => self.end_late(j),
            (Stage::Read, _) => self.read_ended(j, now),
            _ => {
                let class = self.job(j).class;
                self.reply(j, crate::api::Done::Failed(crate::api::Reason::TimedOut));
                self.complete(j, Outcome::Failed(class));
                self.release(j);
            }
        }
    }

    /// The limit has passed while the device holds the job's operation: answered now, its blocks
    /// busy until the operation returns.
    fn end_late(&mut self, j: usize) {
        if self.job(j).late {
            return;
        }
        let job = self.job(j);
        job.late = true;
        let (class, unread, missing) = (job.class, job.unread, job.own & !job.have);
        let reading = job.stage == Stage::Read;
        self.reply(j, crate::api::Done::Failed(crate::api::Reason::TimedOut));
        if reading {
            self.mark_pending(j, unread);
            self.complete(j, Outcome::Unreadable(missing));
        } else {
            self.complete(j, Outcome::Failed(class));
        }
        if let Some(op) = self.job(j).op {
            self.tell(Event::StillAtDevice(op.dev));
        }
    }

    /// A device went away while in use: its cache is lost, so nothing on it is served again until
    /// the volume is opened anew. Nothing more is sent to it.
    pub fn vanished(&mut self, dev: Dev) {
        self.went_away(dev);
        self.pump(self.now);
    }

    /// The same within a call that ends with a pump.
    fn went_away(&mut self, dev: Dev) {
        if self.health(dev).vanished {
            return;
        }
        self.health(dev).vanished = true;
        self.shared.set_down(dev);
        self.tell(Event::Vanished(dev));
        let running = self.health(dev).number;
        for number in [None, Some(running)] {
            self.probed(dev, number, false, self.now);
        }
    }
}
