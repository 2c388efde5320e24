// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reading blocks where they live: the recovery of a failed read, `verify`, and the first half of
//! `remap` and `unremap`.
//!
//! Under busy and after the grace all wanted blocks are read in one operation; if that fails, one
//! by one. A block is tried `read_retries` times with exponential backoff. It has evidence enough
//! to be *pending* after a MEDIUM answer to it alone, or after *alone failed, good probe, alone
//! failed again*. Success after either makes it *weak*: the content in hand is worth saving. So
//! does success after a MEDIUM answer to it, or to a request of several blocks of which none then
//! fails alone. A suspect device ends the recovery with nothing marked. What `clear force` is to
//! make gone takes the whole order.

use dmremap_format::BlockState;

use crate::api::{Answer, Class, Dev, Done, Event, Millis, OpKind, Outcome, Reason};

use super::job::{Goal, Stage, Trial, WHOLE, Wait, first_run, run_mask};
use super::{Input, Machine, Memory};

impl<M: Memory> Machine<M> {
    /// A step of [`Stage::Read`].
    pub(super) fn read_step(&mut self, j: usize, input: Input, now: Millis) {
        match input {
            Input::Graced if self.job(j).goal == Goal::Add => self.add_ready(j, now),
            Input::Graced if self.job(j).goal == Goal::Mark => self.mark_ready(j, now),
            Input::Graced => self.read_next(j, now),
            Input::Timer => self.read_issue(j, now),
            Input::Probed(true) => {
                self.job(j).trial = Trial::Again;
                self.read_again(j, now);
            }
            Input::Probed(false) => {
                let class = self.job(j).class;
                self.read_pass_up(j, class);
            }
            Input::Answer(Answer::Good) => self.read_good(j, now),
            Input::Answer(Answer::Differs) => self.read_next(j, now),
            Input::Answer(Answer::Failed(class)) => self.read_failed(j, class, now),
            Input::Flushed | Input::Woken => {}
        }
    }

    /// Goes on to the blocks not yet tried, all at once if none has failed, else the lowest.
    fn read_next(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        let todo = job.own & !(job.have | job.unread | job.unsure);
        let Some((first, count)) = first_run(todo) else {
            return self.read_ended(j, now);
        };
        let whole = job.cursor == WHOLE
            && count > 1
            && todo == run_mask(first, count)
            && job.goal != Goal::Verify;
        if !whole {
            job.cursor = first;
        }
        job.attempt = 0;
        job.sure = false;
        job.trial = Trial::First;
        self.read_issue(j, now);
    }

    fn read_issue(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.read_ended(j, now);
        }
        let job = self.job(j);
        let (first, count) = if job.cursor == WHOLE {
            first_run(job.own).unwrap_or((0, 1))
        } else {
            (job.cursor, 1)
        };
        let entry = job.entry;
        let (dev, sector) = self.place_of(j, entry, first);
        self.issue_run(j, dev, sector, first, count, |buffer, offset| OpKind::Read {
            buffer,
            offset,
        });
    }

    /// The same block once more, after the backoff its number of attempts asks for.
    fn read_again(&mut self, j: usize, now: Millis) {
        let base = u64::from(self.settings.retry_backoff_ms());
        let job = self.job(j);
        let doublings = u32::from(job.attempt.saturating_sub(1)).min(16);
        let pause = base.saturating_mul(1u64.wrapping_shl(doublings));
        job.wait = Wait::Until(now.saturating_add(pause).min(job.deadline));
    }

    fn read_good(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        if job.cursor == WHOLE {
            let own = job.own;
            job.have |= own;
            if job.medium {
                job.weak |= own;
            }
        } else {
            let bit = run_mask(job.cursor, 1);
            job.have |= bit;
            // A MEDIUM answer to several blocks names none of them.
            if job.sure || (job.medium && job.own == bit) {
                job.weak |= bit;
            }
        }
        self.read_next(j, now);
    }

    fn read_failed(&mut self, j: usize, class: Class, now: Millis) {
        self.job(j).class = class;
        let dev = self.job(j).op.map_or(Dev::Main, |op| op.dev);
        if !class.is_suspect() || self.health(dev).suspect {
            return self.read_pass_up(j, class);
        }
        if self.job(j).cursor == WHOLE {
            self.job(j).cursor = 0;
            return self.read_next(j, now);
        }
        let retries = self.settings.read_retries();
        let job = self.job(j);
        job.attempt = job.attempt.saturating_add(1);
        let proved = job.trial == Trial::Again;
        job.sure |= class == Class::Medium || proved;
        let (sure, bit) = (job.sure, run_mask(job.cursor, 1));
        // What is to become gone takes the whole order, whatever the number of retries.
        let proof_wanted = job.force && !proved;
        if job.attempt >= retries && !proof_wanted {
            if sure {
                job.unread |= bit;
            } else {
                job.unsure |= bit;
            }
            return self.read_next(j, now);
        }
        if sure && !proof_wanted {
            return self.read_again(j, now);
        }
        self.await_probe(j, dev, now);
    }

    /// A transport-class answer or a suspect device: the error goes up, nothing is marked.
    fn read_pass_up(&mut self, j: usize, class: Class) {
        match self.job(j).goal {
            Goal::Read => {
                self.complete(j, Outcome::Failed(class));
                self.release(j);
            }
            _ => self.fail_message(j, Reason::DeviceSuspect),
        }
    }

    /// Every block has been tried, or time is up.
    pub(super) fn read_ended(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        let missing = job.own & !job.have;
        let unread = job.unread;
        match job.goal {
            Goal::Read => {
                if job.medium && (job.unread | job.unsure | job.weak) == 0 {
                    // Nothing that failed alone explains the answer: any of them may be weak.
                    job.weak = job.have;
                }
                self.mark_pending(j, unread);
                let good = missing == 0;
                self.complete(j, if good { Outcome::Good } else { Outcome::Unreadable(missing) });
                self.relocate(j, now);
            }
            Goal::Verify => {
                self.mark_pending(j, unread);
                let gone = self.job(j).gone;
                self.reply(j, Done::Verified { unreadable: missing | gone });
                self.release(j);
            }
            Goal::Remap => {
                self.mark_pending(j, unread);
                let have = self.job(j).have;
                self.job(j).moving = have;
                if have == 0 {
                    return self.fail_message(j, Reason::Unreadable);
                }
                self.place(j, now);
            }
            Goal::Unremap => {
                self.job(j).dest = Dev::Main;
                self.job(j).moving = self.job(j).have;
                if missing != 0 && self.job(j).force {
                    self.job(j).gone = missing;
                } else if missing != 0 {
                    self.mark_pending(j, unread);
                    return self.fail_message(j, Reason::Unreadable);
                }
                self.put_pass(j, now);
            }
            // The limit has come before the grace.
            Goal::Add | Goal::Mark => self.fail_message(j, Reason::TimedOut),
            Goal::Free | Goal::Write | Goal::WriteGone => self.release(j),
        }
    }

    /// Publishes pending marks for blocks that are busy by this job, but not for what lies on a
    /// device that has become suspect since.
    pub(super) fn mark_pending(&mut self, j: usize, blocks: u8) {
        let (unit, entry) = (self.job(j).unit, self.job(j).entry);
        let on_spare = entry.map_or(0, |e| e.states.mask(BlockState::Spare));
        let [main, spare] = &self.health;
        let doubted = if main.suspect { !on_spare } else { 0 };
        let blocks = blocks & !doubted & if spare.suspect { !on_spare } else { u8::MAX };
        if blocks == 0 {
            return;
        }
        self.shared.region.mark(unit);
        self.shared.pending.add(unit, blocks);
        let main_sector = self.geometry().unit_sector(unit);
        self.tell(Event::Pending { main_sector, blocks });
    }

    /// The reader has its answer; weak content is moved while the busy is kept.
    fn relocate(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        let (weak, unit) = (job.weak & job.have, job.unit);
        let wanted = weak != 0
            && self.settings.auto_remap()
            && !self.past_limit(j, now)
            && self.cannot_move().is_none()
            && self.mover_of(unit).is_none();
        let entry = self.shared.table.get(unit);
        let spare = entry.and_then(|e| e.spare);
        let lives_on_spare = entry.is_some_and(|e| e.states.mask(BlockState::Spare) & weak != 0);
        if !wanted || (!lives_on_spare && self.health(Dev::Main).suspect) {
            return self.release(j);
        }
        let job = self.job(j);
        job.mover = true;
        job.entry = entry;
        job.moving = weak;
        job.have = weak;
        match spare {
            // Weak on the spare: the unit it lies on is no place to stay.
            Some(unit_there) if lives_on_spare => self.bad_spare_unit(j, unit_there, now),
            _ => self.place(j, now),
        }
    }

    /// Waits for a probe of `dev` that begins after now.
    pub(super) fn await_probe(&mut self, j: usize, dev: Dev, now: Millis) {
        use crate::broken::{Broken, is};
        if is(Broken::NoProbe) {
            self.job(j).wait = Wait::Nothing;
            return self.step(j, Input::Probed(true), now);
        }
        if self.shared.is_down(dev) {
            return self.step(j, Input::Probed(false), now);
        }
        let health = self.health(dev);
        if is(Broken::ProbeBeforeFailure) && health.last_good {
            return self.step(j, Input::Probed(true), now);
        }
        health.want();
        self.job(j).wait = Wait::Probe(dev, None);
    }

    /// Begins a read of `own` after the grace its busy needs.
    pub(super) fn read_begin(&mut self, j: usize, now: Millis) {
        self.job(j).stage = Stage::Read;
        self.await_grace(j, now);
    }
}
