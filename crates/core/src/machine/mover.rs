// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one mover of a unit: from choosing a place until publish.
//!
//! Every change of where blocks live goes through here: a failed write, the relocation of weak
//! content, `remap`, a write to a gone block, the move off a failed spare unit, and the way home.
//!
//! 1. **Place**: by the committed table. The unit's spare unit if it has a good one, else a new
//!    one, next to the neighbour's if that is free.
//! 2. **Gather**, only when a spare unit with content failed: it is quarantined, the mover widens
//!    its busy to the whole unit, waits for the grace, and reads the siblings. A sibling becomes
//!    gone only by a verdict of its own; while the spare is suspect nothing is committed.
//! 3. **Put**: the count of failed flushes of the destination is noted *before* the first write.
//! 4. **Sync**: one flush that begins after the last write was answered. If it fails, or the count
//!    has changed meanwhile (somebody else collected our error), everything is written again and
//!    flushed again, never flushed alone.
//! 5. **Check**: read back uncached and compared. A difference counts as a failed flush of the
//!    destination (the client's next flush must fail), and the data is written, flushed and read
//!    once more; a second difference, or a read-back with a verdict, condemns the spare unit.
//! 6. **Commit**, then **publish**: exactly the change that was committed, then wake.
//!
//! At most three spare units are tried for one unit. A quarantined unit that is still in use keeps
//! its entry: quarantine only means that it is never allocated again.

use dmremap_format::{BlockState, SpareUnit};

use crate::api::{Answer, Dev, Event, Millis, OpKind, Reason};
use crate::broken::{Broken, is};

use super::job::{Goal, Stage, Trial, Wait, first_run, run_mask};
use super::write::Tried;
use super::{Input, Machine, Memory};

/// Spare units tried for one unit of main.
const MAX_TRIES: u8 = 3;
/// Passes of put, sync and check that may be thrown away before the request fails.
const MAX_PASSES: u8 = 4;

impl<M: Memory> Machine<M> {
    /// Chooses the place for `moving`, and begins to write there.
    pub(super) fn place(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.last_try(j, Reason::TimedOut, now);
        }
        if let Some(reason) = self.cannot_move() {
            return self.not_movable(j, reason, now);
        }
        if self.is_held(j) {
            return self.hold(j, now);
        }
        self.job(j).dest = Dev::Spare(0);
        let job = self.job(j);
        let in_place = job.entry.and_then(|e| e.spare.map(|unit| (unit, e.slot)));
        if job.target.is_none() {
            if let Some((unit, slot)) = in_place {
                if self.allocator.is_quarantined(unit) {
                    return self.move_off(j, unit, now);
                }
                let job = self.job(j);
                job.target = Some(unit);
                job.slot = Some(slot);
            }
        }
        if self.job(j).target.is_none() && !self.take_target(j) {
            self.tell(Event::SpareFull);
            return self.last_try(j, Reason::Full, now);
        }
        if self.job(j).slot.is_none() && !self.take_slot(j) {
            self.tell(Event::SpareFull);
            return self.last_try(j, Reason::Full, now);
        }
        self.put_pass(j, now);
    }

    /// Why nothing can be moved now, if so.
    pub(super) fn cannot_move(&self) -> Option<Reason> {
        if self.commit.degraded() {
            Some(Reason::MetadataDegraded)
        } else if !self.writable() {
            Some(Reason::NotWritable)
        } else if self.health[1].suspect || self.health[1].vanished {
            Some(Reason::DeviceSuspect)
        } else {
            None
        }
    }

    /// Whether a device that the job moves blocks off or onto is suspect.
    pub(super) fn is_held(&mut self, j: usize) -> bool {
        let [main, spare] = &self.health;
        let (main, spare) = (main.suspect, spare.suspect);
        let job = self.job(j);
        let on_main = job.entry.map_or(u8::MAX, |e| e.states.mask(BlockState::Main));
        spare || (main && (job.dest == Dev::Main || job.moving & on_main != 0))
    }

    /// A suspect spare heals or does not, so a write is held; else it gets its last try in place.
    pub(super) fn not_movable(&mut self, j: usize, reason: Reason, now: Millis) {
        if reason == Reason::DeviceSuspect && !self.health[1].vanished {
            return self.hold(j, now);
        }
        self.last_try(j, reason, now);
    }

    fn take_target(&mut self, j: usize) -> bool {
        let unit = self.job(j).unit;
        let before = dmremap_format::UnitIndex(unit.0.wrapping_sub(1));
        let near = self.shared.table.get(before).and_then(|e| e.spare);
        let taken = self.allocator.alloc(near);
        let job = self.job(j);
        job.target = taken;
        job.fresh_unit = taken.is_some();
        taken.is_some()
    }

    pub(super) fn take_slot(&mut self, j: usize) -> bool {
        let taken = match self.job(j).entry {
            Some(entry) => Some(entry.slot),
            None => {
                let fresh = self.slots.alloc();
                self.job(j).fresh_slot = fresh.is_some();
                fresh
            }
        };
        self.job(j).slot = taken;
        taken.is_some()
    }

    /// The spare unit `unit` failed with a verdict: quarantined, and if it holds content the
    /// whole unit of main moves off it.
    pub(super) fn bad_spare_unit(&mut self, j: usize, unit: SpareUnit, now: Millis) {
        self.quarantine(unit);
        let job = self.job(j);
        job.tries = job.tries.saturating_add(1);
        job.differed = false;
        let fresh = job.fresh_unit && job.target == Some(unit);
        job.target = None;
        job.fresh_unit = false;
        if !fresh {
            return self.move_off(j, unit, now);
        }
        self.allocator.free(unit);
        if exhausted(self.job(j).tries) {
            return self.last_try(j, Reason::Full, now);
        }
        self.place(j, now);
    }

    /// Everything on the quarantined `unit` is to move: first the rest of the unit becomes busy.
    fn move_off(&mut self, j: usize, unit: SpareUnit, now: Millis) {
        if exhausted(self.job(j).tries) {
            return self.last_try(j, Reason::Full, now);
        }
        if let Some(reason) = self.cannot_move() {
            return self.not_movable(j, reason, now);
        }
        let job = self.job(j);
        job.leaving = Some(unit);
        job.dest = Dev::Spare(0);
        job.stage = Stage::Gather;
        if let Some(entry) = job.entry {
            job.slot = Some(entry.slot);
        }
        self.widen(j, now);
    }

    /// Takes busy for the rest of its own unit, in the place it already has; waits for other jobs'
    /// busy blocks there, who never wait for it.
    fn widen(&mut self, j: usize, now: Millis) {
        let unit = self.job(j).unit;
        let all = self.geometry().all_blocks(unit);
        if self.busy_by_others(j, unit) & all != 0 {
            self.job(j).wait = Wait::Siblings;
            return;
        }
        self.job(j).busy = all;
        self.shared.set_busy(j, unit, all);
        self.await_grace(j, now);
    }

    /// A step of [`Stage::Gather`].
    pub(super) fn gather_step(&mut self, j: usize, input: Input, now: Millis) {
        match input {
            Input::Woken => return self.widen(j, now),
            Input::Graced | Input::Timer => return self.gather_next(j, now),
            _ => {}
        }
        if let Input::Answer(Answer::Failed(class)) = input {
            if is(Broken::SiblingGoneWithoutVerdict) && class.is_suspect() {
                return self.gather_gone(j, now);
            }
        }
        match self.tried(j, input, now) {
            Tried::Good | Tried::Differs => {
                let job = self.job(j);
                job.have |= run_mask(job.cursor, 1);
                self.gather_next(j, now);
            }
            Tried::Waiting => {}
            Tried::Repeat => self.gather_issue(j, now),
            Tried::Verdict => self.gather_gone(j, now),
            Tried::Suspect => self.hold(j, now),
            Tried::Passed(class) => self.write_failed(j, class),
        }
    }

    fn gather_gone(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        job.gone |= run_mask(job.cursor, 1);
        self.gather_next(j, now);
    }

    fn gather_next(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        let on_spare = job.entry.map_or(0, |e| e.states.mask(BlockState::Spare));
        match first_run(on_spare & !(job.have | job.gone)) {
            Some((first, _)) => {
                job.cursor = first;
                job.trial = Trial::First;
                self.gather_issue(j, now);
            }
            None => {
                job.moving = job.have;
                job.target = None;
                if job.moving == 0 {
                    // Nothing of it can be read: the entry stays, its unit holds only what is gone.
                    job.target = job.leaving;
                    job.leaving = None;
                    return self.join(j, now);
                }
                if !self.take_target(j) {
                    self.tell(Event::SpareFull);
                    self.job(j).leaving = None;
                    return self.last_try(j, Reason::Full, now);
                }
                self.put_pass(j, now);
            }
        }
    }

    fn gather_issue(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.last_try(j, Reason::TimedOut, now);
        }
        let (entry, cursor) = (self.job(j).entry, self.job(j).cursor);
        let (dev, sector) = self.place_of(j, entry, cursor);
        self.issue_run(j, dev, sector, cursor, 1, |buffer, offset| OpKind::Read { buffer, offset });
    }

    /// Begins a pass: note the count of failed flushes, then write all of `moving`.
    pub(super) fn put_pass(&mut self, j: usize, now: Millis) {
        let dest = self.job(j).dest;
        let mark = self.flushes.line(dest).failures;
        let job = self.job(j);
        job.flush_mark = mark;
        job.stage = Stage::Put;
        job.todo = job.moving;
        job.trial = Trial::First;
        self.put_next(j, now);
    }

    fn put_next(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.last_try(j, Reason::TimedOut, now);
        }
        let job = self.job(j);
        let fua = job.dest == Dev::Main && job.goal == Goal::Unremap;
        let Some((first, count)) = first_run(job.todo) else {
            if is(Broken::CommitBeforeDataFlush) {
                return self.join(j, now);
            }
            job.stage = Stage::Sync;
            return self.sync(j, now);
        };
        let (dev, sector) = self.dest_of(j, first);
        self.issue_run(j, dev, sector, first, count, |buffer, offset| OpKind::Write {
            buffer,
            offset,
            fua,
        });
    }

    /// A step of [`Stage::Put`].
    pub(super) fn put_step(&mut self, j: usize, input: Input, now: Millis) {
        match self.tried(j, input, now) {
            Tried::Good | Tried::Differs => {
                self.pass_done_run(j);
                self.put_next(j, now);
            }
            Tried::Waiting => {}
            Tried::Repeat => self.put_next(j, now),
            Tried::Verdict => self.dest_failed(j, now),
            Tried::Suspect => self.hold(j, now),
            Tried::Passed(class) => self.write_failed(j, class),
        }
    }

    fn pass_done_run(&mut self, j: usize) {
        let job = self.job(j);
        if let Some((first, count)) = first_run(job.todo) {
            job.todo &= !run_mask(first, count);
        }
    }

    /// The destination has had a verdict.
    fn dest_failed(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        let class = job.class;
        match (job.dest, job.target, job.goal) {
            (Dev::Spare(_), Some(unit), _) if job.fresh_unit && job.named => {
                self.quarantine(unit);
                self.allocator.free(unit);
                let job = self.job(j);
                job.target = None;
                job.fresh_unit = false;
                self.fail_message(j, Reason::WriteFailed(class));
            }
            (_, _, Goal::WriteGone) if !self.settings.auto_remap() => {
                self.write_failed(j, class);
            }
            (Dev::Spare(_), Some(unit), _) => self.bad_spare_unit(j, unit, now),
            // A gone block whose place on main is bad as well: it moves like any other write.
            (Dev::Main, _, Goal::WriteGone) => {
                self.verdict(j);
                self.place(j, now);
            }
            _ => self.write_failed(j, class),
        }
    }

    fn sync(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.last_try(j, Reason::TimedOut, now);
        }
        let dest = self.job(j).dest;
        let round = self.flushes.line(dest).ask();
        self.job(j).wait = Wait::Flush(dest, round);
    }

    /// A step of [`Stage::Sync`]: the flush round has ended.
    pub(super) fn sync_step(&mut self, j: usize, _input: Input, now: Millis) {
        let (dest, mark) = (self.job(j).dest, self.job(j).flush_mark);
        let line = self.flushes.line(dest);
        let good = line.good && (line.failures == mark || is(Broken::RecoveryFlushErrorSwallowed));
        if good {
            if is(Broken::NoReadBack) {
                return self.join(j, now);
            }
            let job = self.job(j);
            job.stage = Stage::Check;
            job.todo = job.moving;
            job.trial = Trial::First;
            return self.check_next(j, now);
        }
        if is(Broken::RecoveryFlushMerelyRepeated) {
            let mark = self.flushes.line(dest).failures;
            self.job(j).flush_mark = mark;
            return self.sync(j, now);
        }
        self.throw_pass_away(j, now);
    }

    /// What was written in this pass may be lost: write it again, a bounded number of times.
    fn throw_pass_away(&mut self, j: usize, now: Millis) {
        let job = self.job(j);
        job.passes = job.passes.saturating_add(1);
        if job.passes > MAX_PASSES {
            let class = job.class;
            return self.write_failed(j, class);
        }
        self.put_pass(j, now);
    }

    fn check_next(&mut self, j: usize, now: Millis) {
        if self.past_limit(j, now) {
            return self.last_try(j, Reason::TimedOut, now);
        }
        let Some((first, count)) = first_run(self.job(j).todo) else {
            return self.checked(j, now);
        };
        let (dev, sector) = self.dest_of(j, first);
        self.issue_run(j, dev, sector, first, count, |buffer, offset| OpKind::Verify {
            buffer,
            offset,
        });
    }

    /// All of it reads back right. A flush that failed since the pass began may have lost it all
    /// the same (a cache that is read from), so the count is compared once more.
    fn checked(&mut self, j: usize, now: Millis) {
        let (dest, mark) = (self.job(j).dest, self.job(j).flush_mark);
        if self.flushes.line(dest).failures != mark && !is(Broken::RecoveryFlushErrorSwallowed) {
            return self.throw_pass_away(j, now);
        }
        self.join(j, now);
    }

    /// A step of [`Stage::Check`].
    pub(super) fn check_step(&mut self, j: usize, input: Input, now: Millis) {
        match self.tried(j, input, now) {
            Tried::Good => {
                self.pass_done_run(j);
                self.check_next(j, now);
            }
            Tried::Differs => self.differs(j, now),
            Tried::Waiting => {}
            Tried::Repeat => self.check_next(j, now),
            Tried::Verdict => self.dest_failed(j, now),
            Tried::Suspect => self.hold(j, now),
            Tried::Passed(class) => self.write_failed(j, class),
        }
    }

    fn differs(&mut self, j: usize, now: Millis) {
        let (dev, sector) = self.dest_of(j, 0);
        if dev != Dev::Main {
            self.tell(Event::ReadBackDiffers { spare_sector: sector });
        }
        self.count_flush_failure(dev);
        if self.job(j).differed {
            return self.dest_failed(j, now);
        }
        self.job(j).differed = true;
        self.put_pass(j, now);
    }
}

/// Whether a unit has used up the spare units it may try.
fn exhausted(tries: u8) -> bool {
    tries >= MAX_TRIES
}
