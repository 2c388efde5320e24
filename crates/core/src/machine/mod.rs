// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The recovery machine: everything that happens off the fast path.
//!
//! It is told what happened ([`Machine::failed`], [`Machine::park`], [`Machine::answered`],
//! [`Machine::tick`], ...) and says what to do next ([`Machine::next_action`]). It has no clock, no
//! thread and no memory of its own. One thread of control drives it; the fast path runs beside it
//! on the same [`Shared`].
//!
//! **A recovery is a job, and a job is about one unit.** A failed piece that spans units is sent
//! back to be cut ([`Disposition::Split`](crate::api::Disposition)): what succeeds alone stays
//! where it is, what fails alone comes back as a piece of one unit, with a verdict of its own.
//! Everything a job can come to need is taken in one step, after resolving anew, or not at all: a
//! place in the array (with its unit buffer and its busy word), busy for its blocks, and for a
//! write the unit's mover. Who does not get it waits in the driver with nothing in hand and is
//! presented again when [`Machine::wakes`] has changed.
//!
//! Stages of a job, see the modules for their rules:
//!
//! ```text
//! failed read ──grace──> Read ──answer──┬──> end            verify: Read ──> reply
//!                                       └weak┐              remap:  Read ─┐
//! failed write ──probe──> Try ──verdict──────┴──> place <─────────────────┘
//! write to pending on main ──────────────────────> place
//! write to gone ──────────────────────────────┐      │ its spare unit has failed: Gather ─┐
//! unremap: Read (from the spare) ─────────────┴──> Put <──────────────────────────────────┘
//!                                                    │  flush failed: once more, from Put
//!                                                  Sync ──> Check ──> Commit ──┬─> publish
//!                                                                              ├─> failed
//!                                                                              └─> Doubt
//! publish that freed a spare unit: Cool, until its readers have returned.
//! no place, or metadata degraded: LastTry
//! ```
//!
//! **Limit.** `recovery_limit_ms` after the request's first failure a job begins no new step. If
//! its operation is still at a device then, the request is answered, the job is *late*: its blocks
//! stay busy until the device answers, and the answer only ends it. A commit that was joined is
//! never cut.
//!
//! What waits in the driver is woken at its own limit at the latest.
//!
//! **Suspect and gone devices.** While a device is suspect nothing is moved off it or onto it,
//! marked for it or committed to it: writes are held, everything else ends. A device that went
//! away is sent nothing more; what would be sent is answered as offline by the machine itself.
//!
//! Order of publication: the region bit, then busy, then the grace; the table, then busy withdrawn.

mod act;
mod commit;
mod events;
mod flush;
mod job;
mod load;
mod mark;
mod mover;
mod probe;
mod pump;
mod read;
mod restore;
mod write;

use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicU64;

use dmremap_format::{Layout, PageBytes, UnitIndex};

use crate::allocator::Allocator;
use crate::api::{
    Answer, Dev, Disposition, Done, Event, Millis, Op, OpId, OpKind, Outcome, Reason,
};
use crate::commit::{Commit, IoId, Store};
use crate::pieces::Grace;
use crate::resolve::{Geometry, Shared};
use crate::settings::Settings;
use crate::slots::SlotMap;
use crate::table::{Entry, TableWriter};

pub use flush::ClientFlush;
pub use job::Job;
pub use load::{LoadFault, Loader};

use commit::Unsaved;
use flush::Flushes;
use job::{Goal, Wait, run_mask};
use probe::{Health, Random};

/// Where the machine's memory comes from: the caller decides how it is allocated.
pub trait Memory {
    /// Zeroed words.
    type Words: Deref<Target = [AtomicU64]>;
    /// The part that the fast path shares.
    type Shared: Deref<Target = Shared<Self::Words>>;
    /// As many jobs as unit buffers, at most 64.
    type Jobs: DerefMut<Target = [Job]>;
    /// Flushes of clients that wait at one time.
    type Flushes: DerefMut<Target = [ClientFlush]>;
    /// What the metadata machines work on.
    type Store: Store<Page = PageBytes>;
}

/// What a job is stepped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Answer(Answer),
    Probed(bool),
    Flushed,
    Graced,
    Timer,
    Woken,
}

/// How far the volume has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    ReadOnly,
    /// Somebody took the spare over, or the metadata cannot be written at all.
    Failed,
    /// Waiting for the jobs, then for the last flush.
    Closing,
    /// The last header commit is under way.
    Sealing,
    Closed {
        clean: bool,
    },
}

/// Numbers for status and statistics since the open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Failed reads and writes of the client's that reached the machine, each unit by itself.
    pub read_errors: u64,
    /// See `read_errors`.
    pub write_errors: u64,
    /// Of these, MEDIUM answers.
    pub medium_errors: u64,
    /// Errors of other classes seen by recovery.
    pub transport_errors: u64,
    /// Moves that recovery made.
    pub automatic: u64,
    /// Moves asked for.
    pub manual: u64,
    /// Failed flushes.
    pub flush_errors: u64,
    /// Events that found no place in the ring.
    pub events_dropped: u64,
}

/// Events that wait for the driver.
const EVENTS: usize = 64;
/// Metadata operations out at one time.
const META: usize = 16;

/// The recovery machine of one volume.
pub struct Machine<M: Memory> {
    shared: M::Shared,
    layout: Layout,
    writer: TableWriter,
    allocator: Allocator<M::Words>,
    slots: SlotMap<M::Words>,
    grace: Grace,
    commit: Commit<M::Store>,
    jobs: M::Jobs,
    /// Stands in for a job that does not exist, so that no index can fail.
    nobody: Job,
    flushes: Flushes<M::Flushes>,
    health: [Health; 2],
    random: Random,
    settings: Settings,
    mode: Mode,
    unsaved: [Option<Unsaved>; commit::UNSAVED],
    /// Page operations of the commit machine that are at the spare.
    meta: [Option<MetaOp>; META],
    /// Its flush, and the round it waits for.
    meta_flush: Option<(IoId, u64)>,
    events: [Option<Event>; EVENTS],
    ops: u32,
    wakes: u64,
    /// The first limit among the pieces that wait in the driver.
    waiting_until: Option<Millis>,
    now: Millis,
    /// Seconds since 2020-01-01, as the driver says.
    wall_s: u32,
    counts: Counts,
    clear: Option<act::Clear>,
    marks: [Option<mark::Marking>; mark::MARKS],
    restoring: Option<restore::Restoring>,
    /// The last word on it was that the metadata is degraded.
    degraded: bool,
    /// The flush rounds of main and spare that a close waits for.
    closing_rounds: Option<(u64, u64)>,
    closing_deadline: Millis,
}

/// A page operation of the commit machine.
#[derive(Clone, Copy, Debug)]
struct MetaOp {
    io: IoId,
    id: OpId,
}

/// Everything a machine is made of, after the open.
pub struct Parts<M: Memory> {
    /// Shared with the fast path.
    pub shared: M::Shared,
    /// Places on the spare.
    pub layout: Layout,
    /// The single writer of `shared.table`.
    pub writer: TableWriter,
    /// Spare units, all free.
    pub allocator: Allocator<M::Words>,
    /// Slots, all free.
    pub slots: SlotMap<M::Words>,
    /// The commit machine as the open left it.
    pub commit: Commit<M::Store>,
    /// Jobs, [`Job::FREE`].
    pub jobs: M::Jobs,
    /// Clients' flushes, [`ClientFlush::FREE`].
    pub flushes: M::Flushes,
    /// Settings in force.
    pub settings: Settings,
    /// Nothing is written.
    pub read_only: bool,
    /// For the places of probes.
    pub seed: u64,
}

impl<M: Memory> Machine<M> {
    /// A machine over an opened volume. The entries are then loaded page by page
    /// ([`Loader`]), before the first request.
    pub fn new(parts: Parts<M>) -> Self {
        Machine {
            shared: parts.shared,
            layout: parts.layout,
            writer: parts.writer,
            allocator: parts.allocator,
            slots: parts.slots,
            grace: Grace::new(),
            commit: parts.commit,
            jobs: parts.jobs,
            nobody: Job::FREE,
            flushes: Flushes::new(parts.flushes),
            health: [Health::new(), Health::new()],
            random: Random::new(parts.seed),
            settings: parts.settings,
            mode: if parts.read_only { Mode::ReadOnly } else { Mode::Open },
            unsaved: [None; commit::UNSAVED],
            meta: [None; META],
            meta_flush: None,
            events: [None; EVENTS],
            ops: 0,
            wakes: 0,
            waiting_until: None,
            now: 0,
            wall_s: 0,
            counts: Counts::default(),
            clear: None,
            marks: [None; mark::MARKS],
            restoring: None,
            degraded: false,
            closing_rounds: None,
            closing_deadline: 0,
        }
    }

    fn job(&mut self, j: usize) -> &mut Job {
        match self.jobs.get_mut(j) {
            Some(job) => job,
            None => &mut self.nobody,
        }
    }

    fn health(&mut self, dev: Dev) -> &mut Health {
        let [main, spare] = &mut self.health;
        match dev {
            Dev::Main => main,
            Dev::Spare(_) => spare,
        }
    }

    fn geometry(&self) -> Geometry {
        self.shared.geometry
    }

    fn writable(&self) -> bool {
        matches!(self.mode, Mode::Open) && !self.commit.taken_over()
    }

    /// Changes whenever something was let go that a waiting piece may be waiting for.
    pub fn wakes(&self) -> u64 {
        self.wakes
    }

    fn woke(&mut self) {
        self.wakes = self.wakes.wrapping_add(1);
    }

    /// The piece waits in the driver, and is presented again at its limit whatever happens.
    fn wait_until(&mut self, deadline: Millis) -> Disposition {
        self.waiting_until = Some(self.waiting_until.map_or(deadline, |at| at.min(deadline)));
        Disposition::Wait
    }

    fn tell(&mut self, event: Event) {
        match self.events.iter_mut().find(|e| e.is_none()) {
            Some(place) => *place = Some(event),
            None => self.counts.events_dropped = self.counts.events_dropped.saturating_add(1),
        }
    }

    fn past_limit(&mut self, j: usize, now: Millis) -> bool {
        now >= self.job(j).deadline
    }

    /// The job that moves this unit.
    fn mover_of(&self, unit: UnitIndex) -> Option<usize> {
        if crate::broken::is(crate::broken::Broken::TwoMovers) {
            return None;
        }
        self.jobs.iter().position(|job| job.goal != Goal::Free && job.mover && job.unit == unit)
    }

    /// Busy and doubtful blocks of the unit that other jobs hold.
    fn busy_by_others(&self, j: usize, unit: UnitIndex) -> u8 {
        let mut mask = 0;
        for (index, job) in self.jobs.iter().enumerate() {
            if index != j && job.goal != Goal::Free && job.unit == unit {
                mask |= job.busy;
            }
        }
        mask
    }

    /// Takes a place, busy for `blocks` and, if asked, the unit's mover: all or none.
    fn claim(&mut self, goal: Goal, unit: UnitIndex, blocks: u8, mover: bool) -> Option<usize> {
        if self.busy_by_others(usize::MAX, unit) & blocks != 0 {
            return None;
        }
        if mover && self.mover_of(unit).is_some() {
            return None;
        }
        let j = self.jobs.iter().position(Job::is_free)?;
        let entry = self.shared.table.get(unit);
        *self.job(j) = Job {
            goal,
            unit,
            own: blocks,
            busy: blocks,
            mover,
            entry,
            deadline: Millis::MAX,
            ..Job::FREE
        };
        self.shared.set_busy(j, unit, blocks);
        Some(j)
    }

    /// Lets go of everything; what the job still has to say is said all the same.
    fn release(&mut self, j: usize) {
        let job = *self.job(j);
        if job.goal == Goal::Free {
            return;
        }
        if let Some(unit) = job.target.filter(|_| job.fresh_unit) {
            if !self.allocator.is_quarantined(unit) {
                self.allocator.free(unit);
            }
        }
        if let Some(slot) = job.slot.filter(|_| job.fresh_slot) {
            self.slots.free(slot);
        }
        self.shared.clear_busy(j);
        let job = self.job(j);
        job.goal = Goal::Free;
        job.wait = Wait::Nothing;
        job.busy = 0;
        job.mover = false;
        self.woke();
    }

    /// The request is answered, once.
    fn complete(&mut self, j: usize, outcome: Outcome) {
        let job = self.job(j);
        if !job.told && job.piece.is_some() {
            job.told = true;
            job.say.complete = Some(outcome);
        }
    }

    /// The message is answered, once.
    fn reply(&mut self, j: usize, done: Done) {
        let job = self.job(j);
        if job.told || job.message.is_none() {
            return;
        }
        job.told = true;
        if job.message == Some(act::CLEAR_STEP) {
            return self.clear_step_ended(done);
        }
        if let Some(index) = job.message.and_then(mark::index_of) {
            return self.mark_step_ended(index, done);
        }
        job.say.reply = Some(done);
    }

    /// A message ends without success; a relocation ends.
    fn fail_message(&mut self, j: usize, reason: Reason) {
        self.reply(j, Done::Failed(reason));
        let class = self.job(j).class;
        self.complete(j, Outcome::Failed(class));
        self.release(j);
    }

    /// Where a block of the job's unit has its content, by the entry given.
    fn place_of(&mut self, j: usize, entry: Option<Entry>, block: u8) -> (Dev, u64) {
        let unit = self.job(j).unit;
        let geometry = self.geometry();
        match entry {
            Some(Entry { spare: Some(there), states, member, .. })
                if states.get(block) == dmremap_format::BlockState::Spare =>
            {
                (Dev::Spare(member), geometry.spare_sector(there, block))
            }
            _ => (Dev::Main, geometry.block_sector(unit, block)),
        }
    }

    /// Where a block of the job's unit is put.
    fn dest_of(&mut self, j: usize, block: u8) -> (Dev, u64) {
        let geometry = self.geometry();
        let job = self.job(j);
        match (job.dest, job.target) {
            (Dev::Spare(member), Some(unit)) => {
                (Dev::Spare(member), geometry.spare_sector(unit, block))
            }
            _ => (Dev::Main, geometry.block_sector(job.unit, block)),
        }
    }

    /// Puts out one operation over a run of blocks.
    fn issue_run(
        &mut self,
        j: usize,
        dev: Dev,
        sector: u64,
        first: u8,
        count: u8,
        kind: impl FnOnce(u16, u16) -> OpKind,
    ) {
        let geometry = self.geometry();
        let sectors = geometry.sectors_of(count);
        let buffer = u16::try_from(j).unwrap_or(u16::MAX);
        let offset = geometry.byte_offset(first);
        let id = self.next_id(pump::SOURCE_JOB, u32::from(buffer));
        let job = self.job(j);
        job.op = Some(Op { id, dev, sector, sectors, kind: kind(buffer, offset) });
        job.wait = Wait::Answer;
        job.say.io = true;
        debug_assert!(run_mask(first, count) != 0);
    }

    fn next_id(&mut self, source: u32, index: u32) -> OpId {
        self.ops = self.ops.wrapping_add(1) & pump::COUNT_MASK;
        pump::op_id(source, index, self.ops)
    }

    /// A failed flush that nobody's own flush reported: counted all the same.
    fn count_flush_failure(&mut self, dev: Dev) {
        let line = self.flushes.line(dev);
        line.failures = line.failures.saturating_add(1);
        self.counts.flush_errors = self.counts.flush_errors.saturating_add(1);
        if dev != Dev::Main {
            self.commit.flush_failed();
        }
        self.tell(Event::FlushFailed(dev));
    }
}
