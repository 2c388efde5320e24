// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The message `mark`: somebody who knows says that blocks of main are bad.
//!
//! *Pending*: the device cannot read them. *Gone*: what main holds there is not their content (main
//! was copied from a disk that could not read them). Either is said of main, so only blocks that
//! live on main are touched: one that lives on a spare was written since, and is kept.
//! Which blocks those are is decided here, under busy and as the unit's one mover, and not by the
//! caller, who may have looked before a write was moved and acknowledged.
//!
//! A run is walked unit by unit, several units at a time, so that they share commits; half of the
//! jobs are left to recovery. Each unit goes the usual way: busy, grace (a write under way to main
//! would be hidden by the mark), then the mark in memory, or slot, commit, publish. A unit that
//! somebody else holds is waited for within the limit. What has been marked before a refusal stays.

use dmremap_format::{BlockState, UNIT_SECTORS};

use crate::api::{Dev, Done, Event, Marked, Millis, Reason};
use crate::message::MarkKind;

use super::job::{Goal, Stage};
use super::{Machine, Memory, Mode};

/// Runs that can be walked at one time.
pub(super) const MARKS: usize = 32;
/// The handle of jobs that belong to the first of them; the others' lie below.
const STEP: u64 = u64::MAX - 1;

/// One message on its way along its run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marking {
    message: u64,
    kind: MarkKind,
    /// The first sector not yet begun, and the one behind the last.
    next: u64,
    end: u64,
    /// Units under way.
    out: usize,
    done: Marked,
    failed: Option<Reason>,
    /// Until then the next unit is waited for.
    deadline: Millis,
    waiting: bool,
}

impl Marking {
    /// Whether it is to be asked again soon.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting && self.goes_on()
    }

    fn goes_on(&self) -> bool {
        self.failed.is_none() && self.next < self.end
    }
}

/// Which run a job's handle belongs to.
pub(super) fn index_of(message: u64) -> Option<usize> {
    let index = usize::try_from(STEP.checked_sub(message)?).ok()?;
    (index < MARKS).then_some(index)
}

fn handle_of(index: usize) -> u64 {
    STEP.saturating_sub(u64::try_from(index).unwrap_or(0))
}

impl<M: Memory> Machine<M> {
    pub(super) fn begin_mark(
        &mut self,
        id: u64,
        kind: MarkKind,
        sector: u64,
        sectors: Option<u32>,
        now: Millis,
    ) -> Result<Option<Done>, Reason> {
        let (_, end) = self.whole_blocks(sector, sectors)?;
        if let Some(reason) = self.cannot_mark(kind) {
            return Err(reason);
        }
        let deadline = self.limit_from(now);
        let place = self.marks.iter_mut().find(|place| place.is_none()).ok_or(Reason::Busy)?;
        *place = Some(Marking {
            message: id,
            kind,
            next: sector,
            end,
            out: 0,
            done: Marked::default(),
            failed: None,
            deadline,
            waiting: false,
        });
        Ok(None)
    }

    /// Why nothing can be marked now, if so. A pending mark needs no metadata.
    fn cannot_mark(&self, kind: MarkKind) -> Option<Reason> {
        let suspect = self.main_suspect();
        match kind {
            MarkKind::Gone => self.cannot_move().or(suspect),
            MarkKind::Pending if matches!(self.mode, Mode::Open | Mode::ReadOnly) => suspect,
            MarkKind::Pending => Some(Reason::NotWritable),
        }
    }

    /// Takes every run on as far as there are places.
    pub(super) fn pump_marks(&mut self, now: Millis) {
        for index in 0..MARKS {
            while let Some(marking) = self.marking(index).filter(Marking::goes_on) {
                if let Some(reason) = self.cannot_mark(marking.kind) {
                    self.mark_failed(index, reason);
                } else if !self.mark_next(index, marking, now) {
                    break;
                }
            }
        }
    }

    fn marking(&self, index: usize) -> Option<Marking> {
        self.marks.get(index).copied().flatten()
    }

    fn put_marking(&mut self, index: usize, marking: Marking) {
        if let Some(place) = self.marks.get_mut(index) {
            *place = Some(marking);
        }
    }

    fn mark_failed(&mut self, index: usize, reason: Reason) {
        if let Some(Some(marking)) = self.marks.get_mut(index) {
            marking.failed = marking.failed.or(Some(reason));
        }
    }

    /// Begins the next unit of a run; false if it has to wait.
    fn mark_next(&mut self, index: usize, mut marking: Marking, now: Millis) -> bool {
        let in_unit = UNIT_SECTORS.saturating_sub(marking.next & (UNIT_SECTORS - 1));
        let part = marking.end.saturating_sub(marking.next).min(in_unit);
        let sectors = u32::try_from(part).unwrap_or(0);
        let Some((unit, blocks)) = self.geometry().in_one_unit(marking.next, sectors) else {
            self.mark_failed(index, Reason::OutOfRange);
            return true;
        };
        // The mover of the unit, if there is one, decides where its blocks live.
        let entry = self.shared.table.get(unit);
        let within = |state| entry.map_or(0, |e| e.states.mask(state)) & blocks;
        let (on_spare, gone) = (within(BlockState::Spare), within(BlockState::Gone));
        let own = blocks & !(on_spare | gone);
        let claimed = match own {
            0 if self.mover_of(unit).is_none() => None,
            0 => return self.mark_waits(index, marking, now),
            _ if self.marking_jobs() >= self.jobs.len().div_ceil(2) => {
                return self.mark_waits(index, marking, now);
            }
            _ => match self.claim(Goal::Mark, unit, own, true) {
                None => return self.mark_waits(index, marking, now),
                claimed => claimed,
            },
        };
        marking.next = marking.next.saturating_add(part);
        marking.done.on_spare = marking.done.on_spare.saturating_add(ones(on_spare));
        marking.done.gone = marking.done.gone.saturating_add(ones(gone));
        marking.waiting = false;
        marking.deadline = self.limit_from(now);
        marking.out = marking.out.saturating_add(usize::from(claimed.is_some()));
        // Before the grace begins, which may be over at once and end the unit.
        self.put_marking(index, marking);
        if let Some(j) = claimed {
            let deadline = marking.deadline;
            let job = self.job(j);
            job.message = Some(handle_of(index));
            job.deadline = deadline;
            job.gone = if marking.kind == MarkKind::Gone { own } else { 0 };
            job.dest = Dev::Main;
            job.stage = Stage::Read;
            self.await_grace(j, now);
        }
        true
    }

    fn marking_jobs(&self) -> usize {
        self.jobs.iter().filter(|job| job.goal == Goal::Mark).count()
    }

    /// The next unit is held by somebody else, or there is no place; it is asked for again.
    fn mark_waits(&mut self, index: usize, mut marking: Marking, now: Millis) -> bool {
        // Its own units end within limits of their own.
        if marking.out == 0 && now >= marking.deadline {
            self.mark_failed(index, Reason::Busy);
        } else {
            marking.waiting = true;
            self.put_marking(index, marking);
        }
        false
    }

    /// The grace of a unit is over: nothing is under way to its blocks on main.
    pub(super) fn mark_ready(&mut self, j: usize, now: Millis) {
        let (unit, own, gone) = (self.job(j).unit, self.job(j).own, self.job(j).gone);
        if let Some(reason) = self.main_suspect() {
            return self.fail_message(j, reason);
        }
        if gone != 0 {
            return match self.take_slot(j) {
                true => self.join(j, now),
                false => self.fail_message(j, Reason::Full),
            };
        }
        self.shared.region.mark(unit);
        let kept = self.shared.pending.add(unit, own);
        let main_sector = self.geometry().unit_sector(unit);
        let mut marked = Marked::default();
        if kept {
            marked.marked = ones(own);
            self.tell(Event::Pending { main_sector, blocks: own });
        } else {
            marked.dropped = ones(own);
        }
        self.reply(j, Done::Marked(marked));
        self.release(j);
    }

    /// A unit of a run has ended.
    pub(super) fn mark_step_ended(&mut self, index: usize, done: Done) {
        let Some(Some(marking)) = self.marks.get_mut(index) else { return };
        marking.out = marking.out.saturating_sub(1);
        match done {
            Done::Marked(marked) => marking.done = marking.done.and(marked),
            Done::Failed(reason) => marking.failed = marking.failed.or(Some(reason)),
            _ => {}
        }
    }

    /// The answer of a run that has ended.
    pub(super) fn mark_reply(&mut self) -> Option<(u64, Done)> {
        let ended = |marking: &Marking| marking.out == 0 && !marking.goes_on();
        let place = self.marks.iter_mut().find(|place| place.as_ref().is_some_and(ended))?;
        place.take().map(|marking| {
            (marking.message, marking.failed.map_or(Done::Marked(marking.done), Done::Failed))
        })
    }
}

fn ones(blocks: u8) -> u64 {
    u64::from(blocks.count_ones())
}
