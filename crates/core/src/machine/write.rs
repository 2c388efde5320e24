// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A failed write: the verdict on its unit, and the last try when nothing can be moved.
//!
//! The write has failed on this unit alone. A probe begun after that must be good; then the same
//! write is repeated there alone. Success: it stays where it is. Failure: the verdict, and the
//! blocks of this request move ([`super::mover`]). A bad probe makes the device suspect: the job
//! lets go of everything and the write is held, to come back every second until just before its
//! limit. From half of the limit on, after one verdict in a request, a write that would be repeated
//! counts as failed. With `auto_remap no` the verdict is the caller's error.
//!
//! Spare full, or the metadata degraded: blocks that live on main are tried in place once more,
//! each alone; a block that lives on the spare is never written to main by a request.

use dmremap_format::BlockState;

use crate::api::{Answer, Class, Dev, Done, Millis, OpKind, Outcome, Reason};
use crate::broken::{Broken, is};

use super::job::{Stage, Trial, Wait, first_run, run_mask};
use super::probe::HEAL_INTERVAL_MS;
use super::{Input, Machine, Memory};

/// What the answer to an operation under trial means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// It succeeded.
    Good,
    /// It read other bytes than were written.
    Differs,
    /// Failed once: a probe is awaited.
    Waiting,
    /// The probe was good: repeat it.
    Repeat,
    /// Failed, good probe, failed again.
    Verdict,
    /// The probe was bad.
    Suspect,
    /// An error that is no evidence against a place.
    Passed(Class),
}

impl<M: Memory> Machine<M> {
    /// Takes the order *failed, probe good, failed again* one step on.
    pub(super) fn tried(&mut self, j: usize, input: Input, now: Millis) -> Tried {
        let dev = self.job(j).op.map_or(Dev::Main, |op| op.dev);
        match input {
            Input::Answer(Answer::Good) => {
                self.job(j).trial = Trial::First;
                Tried::Good
            }
            Input::Answer(Answer::Differs) => {
                self.job(j).trial = Trial::First;
                Tried::Differs
            }
            Input::Answer(Answer::Failed(class)) => {
                self.job(j).class = class;
                if !class.is_suspect() {
                    Tried::Passed(class)
                } else if self.health(dev).suspect {
                    Tried::Suspect
                } else if self.job(j).trial == Trial::Again {
                    self.job(j).trial = Trial::First;
                    Tried::Verdict
                } else {
                    self.await_probe(j, dev, now);
                    Tried::Waiting
                }
            }
            Input::Probed(true) => {
                self.job(j).trial = Trial::Again;
                Tried::Repeat
            }
            Input::Probed(false) => Tried::Suspect,
            _ => Tried::Repeat,
        }
    }

    /// A step of [`Stage::Try`]. It begins with the probe: the write has failed already.
    pub(super) fn try_step(&mut self, j: usize, input: Input, now: Millis) {
        if input == Input::Probed(true) && is(Broken::VerdictByReading) {
            // The variant asks the medium by reading what it failed to write.
            return self.try_issue_read(j);
        }
        match self.tried(j, input, now) {
            Tried::Good | Tried::Differs => {
                if is(Broken::VerdictByReading) {
                    let class = self.job(j).class;
                    return self.write_failed(j, class);
                }
                let (unit, own) = (self.job(j).unit, self.job(j).own);
                if !is(Broken::PendingNotDroppedByWrite) {
                    self.shared.pending.drop_marks(unit, own);
                }
                self.complete(j, Outcome::Good);
                self.release(j);
            }
            Tried::Waiting => {}
            Tried::Repeat if self.counts_as_failed(j, now) => self.write_verdict(j, now),
            Tried::Repeat => self.try_issue(j, now),
            Tried::Verdict => self.write_verdict(j, now),
            Tried::Suspect => self.hold(j, now),
            Tried::Passed(class) => self.write_failed(j, class),
        }
    }

    pub(super) fn try_issue(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            let class = self.job(j).class;
            return self.write_failed(j, class);
        }
        let job = self.job(j);
        let fua = job.piece.is_some_and(|p| p.fua);
        let entry = job.entry;
        let Some((first, count)) = first_run(job.own) else { return };
        let (dev, sector) = self.place_of(j, entry, first);
        self.issue_run(j, dev, sector, first, count, |buffer, offset| OpKind::Write {
            buffer,
            offset,
            fua,
        });
    }

    fn try_issue_read(&mut self, j: usize) {
        let entry = self.job(j).entry;
        let Some((first, count)) = first_run(self.job(j).own) else { return };
        let (dev, sector) = self.place_of(j, entry, first);
        self.issue_run(j, dev, sector, first, count, |buffer, offset| OpKind::Verify {
            buffer,
            offset,
        });
        self.job(j).trial = Trial::Again;
    }

    /// The unit has had its verdict: the blocks of this request move, and the rest of the request
    /// need not wait for verdicts of its own any more.
    pub(super) fn write_verdict(&mut self, j: usize, now: Millis) {
        if !self.settings.auto_remap() {
            let class = self.job(j).class;
            return self.write_failed(j, class);
        }
        self.verdict(j);
        self.job(j).have = self.job(j).own;
        self.job(j).moving = self.job(j).own;
        match self.job(j).entry.and_then(|e| e.spare) {
            Some(unit) if self.lives_on_spare(j) => self.bad_spare_unit(j, unit, now),
            _ => self.place(j, now),
        }
    }

    /// A unit of the job's request has had its verdict.
    pub(super) fn verdict(&mut self, j: usize) {
        self.job(j).say.verdict = true;
        let request = self.job(j).piece.map(|p| p.request);
        for job in self.jobs.iter_mut() {
            if let Some(piece) = job.piece.as_mut().filter(|p| Some(p.request) == request) {
                piece.verdict = true;
            }
        }
    }

    /// From half of the limit on, one verdict in a request is enough for what has not been tried.
    pub(super) fn counts_as_failed(&mut self, j: usize, now: Millis) -> bool {
        let limit = u64::from(self.settings.recovery_limit_ms());
        let Some(piece) = self.job(j).piece else { return false };
        let half = piece.since.unwrap_or(now).saturating_add(limit.checked_div(2).unwrap_or(0));
        piece.verdict && now >= half && !self.lives_on_spare(j)
    }

    /// Whether the request's blocks have content on the unit's spare unit.
    pub(super) fn lives_on_spare(&mut self, j: usize) -> bool {
        let job = self.job(j);
        job.entry.is_some_and(|e| e.states.mask(BlockState::Spare) & job.own != 0)
    }

    /// A suspect device: nothing in hand, the write comes back in a second until its limit; who
    /// has no write ends.
    pub(super) fn hold(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        if !job.told && is_write(job.piece) {
            if let Some(at) = retry_at(now, job.deadline) {
                job.say.again = Some(at);
                return self.release(j);
            }
        }
        self.fail_message(j, Reason::DeviceSuspect);
    }

    /// The write ends with an error; nothing was moved.
    pub(super) fn write_failed(&mut self, j: usize, class: Class) {
        self.reply(j, Done::Failed(Reason::WriteFailed(class)));
        self.complete(j, Outcome::Failed(class));
        self.release(j);
    }

    /// Nothing can be moved: the blocks on main are tried in place once more, each alone.
    pub(super) fn last_try(&mut self, j: usize, reason: Reason, now: Millis) {
        let job = self.job(j);
        if job.told || !is_write(job.piece) {
            return self.fail_message(j, reason);
        }
        let on_main = job.entry.map_or(u8::MAX, |e| e.states.mask(BlockState::Main));
        let on_main = if is(Broken::SpareBlockWrittenToMain) { u8::MAX } else { on_main };
        job.stage = Stage::LastTry;
        job.todo = job.own & on_main;
        job.unsure = job.own & !on_main;
        self.last_try_next(j, now);
    }

    fn last_try_next(&mut self, j: usize, now: Millis) {
        let over = self.past_limit(j, now);
        let job = self.job(j);
        let fua = job.piece.is_some_and(|p| p.fua);
        let Some((first, _)) = first_run(job.todo).filter(|_| !over) else {
            let failed = job.unsure | job.todo;
            let (unit, own, class) = (job.unit, job.own, job.class);
            self.complete(j, if failed == 0 { Outcome::Good } else { Outcome::Failed(class) });
            self.shared.pending.drop_marks(unit, own & !failed);
            return self.release(j);
        };
        job.cursor = first;
        job.todo &= !run_mask(first, 1);
        let (dev, sector) = (Dev::Main, self.geometry().block_sector(self.job(j).unit, first));
        self.issue_run(j, dev, sector, first, 1, |buffer, offset| OpKind::Write {
            buffer,
            offset,
            fua,
        });
    }

    /// A step of [`Stage::LastTry`].
    pub(super) fn last_try_step(&mut self, j: usize, input: Input, now: Millis) {
        if let Input::Answer(Answer::Failed(class)) = input {
            let job = self.job(j);
            job.class = class;
            job.unsure |= run_mask(job.cursor, 1);
        }
        self.last_try_next(j, now);
    }

    /// Begins the recovery of a write whose unit failed on its device just now: the probe comes
    /// next. `at_once`: no verdict is needed (time is short, or the block is pending on main).
    pub(super) fn write_begin(&mut self, j: usize, dev: Dev, at_once: bool, now: Millis) {
        let job = self.job(j);
        job.stage = Stage::Try;
        job.trial = Trial::First;
        job.say.copy_in = true;
        job.have = job.own;
        job.moving = job.own;
        if at_once {
            return self.place(j, now);
        }
        // The answer that brought it here is the first failure of the order.
        self.await_probe(j, dev, now);
    }

    /// Waits for the I/O grace over the job's busy blocks.
    pub(super) fn await_grace(&mut self, j: usize, now: Millis) {
        if is(Broken::NoGrace) {
            return self.step(j, Input::Graced, now);
        }
        let sector = self.geometry().unit_sector(self.job(j).unit);
        let id = self.grace.begin(&self.shared.pieces, sector, true);
        self.job(j).wait = Wait::Grace(id);
        self.poll_grace(j, now);
    }
}

/// When a held write is tried next: in a second, for the last time just before its limit.
pub(super) fn retry_at(now: Millis, deadline: Millis) -> Option<Millis> {
    let last = deadline.saturating_sub(1);
    (now < last).then_some(now.saturating_add(HEAL_INTERVAL_MS).min(last))
}

/// Whether the piece is a write that waits for its answer.
fn is_write(piece: Option<crate::api::Piece>) -> bool {
    piece.is_some_and(|p| p.kind.changes())
}
