// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Messages that act: `remap`, `add`, `unremap`, `verify`, `clear`, `save`, `set` (`mark` and
//! `restore` have files of their own); and the numbers for `status`.
//!
//! A message that moves something is a job like any other, with the same limit, the same grace and
//! the same one mover a unit; it is refused at once where a request would wait.

use core::sync::atomic::Ordering::Relaxed;

use dmremap_format::{BlockState, SpareUnit, UNIT_SECTORS, UnitIndex};

use crate::api::{Dev, Done, Millis, Reason};
use crate::commit::HeaderChange;
use crate::message::{Command, SpareAddress};
use crate::settings::{Key, Setting, Settings};
use crate::status::{Conditions, Errors, Metadata, Remaps, Requests, Status};

use super::job::{Goal, Stage};
use super::{Machine, Memory, Mode};

/// A message about many units, one after the other: a `clear`, or an `add` of more than one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clear {
    message: u64,
    force: bool,
    next: UnitIndex,
    /// What is still to be added.
    adding: Option<Adding>,
    /// A job of it is under way.
    waiting: bool,
    ended: Option<Done>,
}

/// A run of main sectors and the spare sectors that are to become theirs.
#[derive(Clone, Copy, Debug)]
struct Adding {
    sector: u64,
    at: u64,
    end: u64,
}

impl Adding {
    /// Sectors of it in its first unit.
    fn part(&self) -> u64 {
        let in_unit = UNIT_SECTORS.saturating_sub(self.sector & (UNIT_SECTORS - 1));
        self.end.saturating_sub(self.sector).min(in_unit)
    }

    /// The next unit is its first.
    fn go_on(&mut self) {
        let part = self.part();
        self.sector = self.sector.saturating_add(part);
        self.at = self.at.saturating_add(part);
    }
}

/// The handle of jobs that belong to a `clear`, not to a message of their own.
pub(super) const CLEAR_STEP: u64 = u64::MAX;

impl<M: Memory> Machine<M> {
    /// Carries a message out. `Some`: the answer is known now; `None`: it comes as
    /// [`Action::Reply`](crate::api::Action::Reply). Words that only ask (`status`, `list`,
    /// `stats`,
    /// `help`, `ping`, `get`) are the front end's and answered here with what `save` answers.
    pub fn act(&mut self, id: u64, command: &Command, now: Millis) -> Option<Done> {
        self.now = now;
        let result = match *command {
            Command::Set(setting) => {
                self.set(setting);
                self.commit_header(&[HeaderChange::Settings(self.settings)], now);
                Ok(Some(self.saved()))
            }
            Command::ClearStats => {
                self.counts = super::Counts::default();
                self.shared.clear_paths();
                Ok(Some(self.saved()))
            }
            _ if command.writes() && self.mode != Mode::Open => Err(Reason::NotWritable),
            Command::Remap { sector, to } => self.begin_remap(id, sector, to, now),
            Command::Add { main, spare, sectors } => self.begin_add(id, main, spare, sectors, now),
            Command::Unremap { sector } => self.begin_unremap(id, sector, false, now),
            Command::Verify { .. } if !matches!(self.mode, Mode::Open | Mode::ReadOnly) => {
                Err(Reason::NotWritable)
            }
            Command::Verify { sector } => self.begin_verify(id, sector, now),
            Command::Clear { force } => self.begin_clear(id, force),
            Command::Restore => self.begin_restore(id),
            Command::Mark { kind, sector, sectors } => {
                self.begin_mark(id, kind, sector, sectors, now)
            }
            _ => Ok(Some(self.saved())),
        };
        self.pump(now);
        match result {
            Ok(done) => done,
            Err(reason) => Some(Done::Failed(reason)),
        }
    }

    fn saved(&self) -> Done {
        let stamp = self.commit.stamp();
        Done::Saved { generation: stamp.generation, sequence: stamp.sequence }
    }

    fn set(&mut self, setting: Setting) {
        self.settings.set(setting);
        self.shared.pending_read_retry.store(self.settings.pending_read_retry(), Relaxed);
        if setting.key() == Key::RecoveryLimit {
            self.commit.set_limit(u64::from(self.settings.recovery_limit_ms()));
        }
    }

    /// Whether this spare unit could be handed out, for a reply that names a legal place.
    pub fn is_spare_unit_free(&self, unit: SpareUnit) -> bool {
        self.allocator.is_free(unit)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn unit_at(&self, sector: u64) -> Result<UnitIndex, Reason> {
        if sector >= self.geometry().main_sectors {
            return Err(Reason::OutOfRange);
        }
        Ok(self.geometry().unit_of(sector))
    }

    pub(super) fn limit_from(&self, now: Millis) -> Millis {
        now.saturating_add(u64::from(self.settings.recovery_limit_ms()))
    }

    pub(super) fn main_suspect(&self) -> Option<Reason> {
        let [main, _] = &self.health;
        (main.suspect || main.vanished).then_some(Reason::DeviceSuspect)
    }

    /// A job for a message that needs the whole unit.
    fn claim_unit(
        &mut self,
        id: u64,
        goal: Goal,
        unit: UnitIndex,
        mover: bool,
        now: Millis,
    ) -> Result<usize, Reason> {
        let all = self.geometry().all_blocks(unit);
        let j = self.claim(goal, unit, all, mover).ok_or(Reason::Busy)?;
        let deadline = self.limit_from(now);
        let job = self.job(j);
        job.message = Some(id);
        job.deadline = deadline;
        Ok(j)
    }

    /// The spare unit an address names, if it lies at the same place in its unit as `sector`.
    fn named_unit(&self, sector: u64, to: SpareAddress) -> Result<SpareUnit, Reason> {
        let at = to.sector(self.geometry().data_start).ok_or(Reason::SpareNotFree)?;
        let unit = self.geometry().spare_unit_of(at).ok_or(Reason::SpareNotFree)?;
        if at.saturating_sub(self.geometry().data_start) & 7 != sector & 7 {
            return Err(Reason::OtherPlaceInUnit);
        }
        Ok(unit)
    }

    fn begin_remap(
        &mut self,
        id: u64,
        sector: u64,
        to: Option<SpareAddress>,
        now: Millis,
    ) -> Result<Option<Done>, Reason> {
        let unit = self.unit_at(sector)?;
        if let Some(reason) = self.cannot_move().or(self.main_suspect()) {
            return Err(reason);
        }
        let entry = self.shared.table.get(unit);
        let all = self.geometry().all_blocks(unit);
        let on_main = entry.map_or(all, |e| e.states.mask(BlockState::Main) & all);
        let there = entry.and_then(|e| e.spare);
        let target = to.map(|to| self.named_unit(sector, to)).transpose()?;
        if on_main == 0 || (target.is_some() && there.is_some() && target != there) {
            return Err(Reason::AlreadyRemapped);
        }
        let j = self.claim_unit(id, Goal::Remap, unit, true, now)?;
        if let Some(target) = target.filter(|t| Some(*t) != there) {
            if self.allocator.is_quarantined(target) || !self.allocator.take(target) {
                self.job(j).message = None;
                self.release(j);
                return Err(Reason::SpareNotFree);
            }
            let job = self.job(j);
            job.target = Some(target);
            job.fresh_unit = true;
            job.named = true;
        }
        self.job(j).own = on_main;
        self.read_begin(j, now);
        Ok(None)
    }

    /// How many sectors of main a message is about, and where they end: one block if it does not
    /// say. Whole blocks of main, or they are refused.
    pub(super) fn whole_blocks(
        &self,
        sector: u64,
        sectors: Option<u32>,
    ) -> Result<(u64, u64), Reason> {
        let block = u64::from(self.geometry().block_sectors);
        let sectors = sectors.map_or(block, u64::from);
        let end = sector.checked_add(sectors).ok_or(Reason::OutOfRange)?;
        let whole = |n: u64| n.checked_rem(block) == Some(0);
        if sectors == 0 || end > self.geometry().main_sectors || !whole(sector) || !whole(sectors) {
            return Err(Reason::OutOfRange);
        }
        Ok((sectors, end))
    }

    /// `add` asserts: what lies on the spare sector is the content from now on, nothing is copied.
    /// One unit is one job; more of them go one after the other, after a look at all.
    fn begin_add(
        &mut self,
        id: u64,
        sector: u64,
        to: SpareAddress,
        sectors: Option<u32>,
        now: Millis,
    ) -> Result<Option<Done>, Reason> {
        let (sectors, end) = self.whole_blocks(sector, sectors)?;
        let at = to.sector(self.geometry().data_start).ok_or(Reason::SpareNotFree)?;
        let mut adding = Adding { sector, at, end };
        if adding.part() == sectors {
            return self.add_unit(id, adding, now).map(|()| None);
        }
        if self.clear.is_some() {
            return Err(Reason::Busy);
        }
        let first = adding;
        while adding.sector < end {
            self.added(&adding)?;
            adding.go_on();
        }
        let (next, adding) = (UnitIndex(0), Some(first));
        let (force, waiting, ended) = (false, false, None);
        self.clear = Some(Clear { message: id, force, next, adding, waiting, ended });
        Ok(None)
    }

    /// Where the first unit's part of an `add` goes; whether that unit is not the entry's already.
    fn added(&self, adding: &Adding) -> Result<(UnitIndex, u8, SpareUnit, bool), Reason> {
        if let Some(reason) = self.cannot_move() {
            return Err(reason);
        }
        let sectors = u32::try_from(adding.part()).unwrap_or(0);
        let one = self.geometry().in_one_unit(adding.sector, sectors);
        let (unit, own) = one.ok_or(Reason::OutOfRange)?;
        let target = self.named_unit(adding.sector, SpareAddress::Absolute(adding.at))?;
        let entry = self.shared.table.get(unit);
        let fresh = entry.and_then(|e| e.spare) != Some(target);
        let elsewhere = entry.map_or(0, |e| e.states.mask(BlockState::Spare)) & !own;
        if fresh && elsewhere != 0 {
            return Err(Reason::AlreadyRemapped);
        }
        // Nothing is added to a quarantined unit, be it the entry's.
        if self.allocator.is_quarantined(target) || (fresh && !self.allocator.is_free(target)) {
            return Err(Reason::SpareNotFree);
        }
        Ok((unit, own, target, fresh))
    }

    fn add_unit(&mut self, id: u64, adding: Adding, now: Millis) -> Result<(), Reason> {
        let (unit, own, target, fresh) = self.added(&adding)?;
        let j = self.claim_unit(id, Goal::Add, unit, true, now)?;
        self.job(j).fresh_unit = fresh && self.allocator.take(target);
        let job = self.job(j);
        job.target = Some(target);
        job.dest = Dev::Spare(0);
        job.own = own;
        job.have = own;
        job.moving = own;
        job.stage = Stage::Read;
        self.await_grace(j, now);
        Ok(())
    }

    /// The grace is over: the assertion joins a commit.
    pub(super) fn add_ready(&mut self, j: usize, now: Millis) {
        if self.take_slot(j) {
            self.join(j, now);
        } else {
            self.fail_message(j, Reason::Full);
        }
    }

    fn begin_unremap(
        &mut self,
        id: u64,
        sector: u64,
        force: bool,
        now: Millis,
    ) -> Result<Option<Done>, Reason> {
        let unit = self.unit_at(sector)?;
        let entry = self.shared.table.get(unit).ok_or(Reason::NotRemapped)?;
        if entry.states.mask(BlockState::Gone) != 0 && !force {
            return Err(Reason::Gone);
        }
        if let Some(reason) = self.cannot_move().or(self.main_suspect()) {
            return Err(reason);
        }
        let own = entry.states.mask(BlockState::Spare);
        let j = self.claim_unit(id, Goal::Unremap, unit, true, now)?;
        let job = self.job(j);
        job.own = own;
        job.slot = Some(entry.slot);
        job.force = force;
        self.read_begin(j, now);
        Ok(None)
    }

    fn begin_verify(&mut self, id: u64, sector: u64, now: Millis) -> Result<Option<Done>, Reason> {
        let unit = self.unit_at(sector)?;
        let gone = self.shared.table.get(unit).map_or(0, |e| e.states.mask(BlockState::Gone));
        let j = self.claim_unit(id, Goal::Verify, unit, false, now)?;
        let job = self.job(j);
        job.own &= !gone;
        job.gone = gone;
        self.read_begin(j, now);
        Ok(None)
    }

    fn begin_clear(&mut self, id: u64, force: bool) -> Result<Option<Done>, Reason> {
        if self.clear.is_some() {
            return Err(Reason::Busy);
        }
        let mut from = UnitIndex(0);
        while let Some(entry) = self.shared.table.next(from) {
            if entry.states.mask(BlockState::Gone) != 0 && !force {
                return Err(Reason::Gone);
            }
            from = UnitIndex(entry.unit.0.saturating_add(1));
        }
        let next = UnitIndex(0);
        let (adding, waiting, ended) = (None, false, None);
        self.clear = Some(Clear { message: id, force, next, adding, waiting, ended });
        Ok(None)
    }

    /// A step of a `clear` has ended.
    pub(super) fn clear_step_ended(&mut self, done: Done) {
        let Some(clear) = self.clear.as_mut() else { return };
        clear.waiting = false;
        let last = clear.adding.is_some_and(|adding| adding.sector >= adding.end);
        if last || matches!(done, Done::Failed(_)) {
            clear.ended = Some(done);
        }
    }

    /// Takes a `clear` on to its next unit; it ends at the first that cannot go home.
    pub(super) fn pump_clear(&mut self, now: Millis) {
        while let Some(mut clear) = self.clear.filter(|c| !c.waiting && c.ended.is_none()) {
            if let Some(mut adding) = clear.adding {
                let part = Adding { end: adding.sector.saturating_add(adding.part()), ..adding };
                adding.go_on();
                (clear.adding, clear.waiting) = (Some(adding), true);
                self.clear = Some(clear);
                if let Err(reason) = self.add_unit(CLEAR_STEP, part, now) {
                    self.clear_step_ended(Done::Failed(reason));
                }
                continue;
            }
            match self.shared.table.next(clear.next) {
                None => {
                    clear.ended = Some(self.saved());
                    self.clear = Some(clear);
                }
                Some(entry) => {
                    clear.next = UnitIndex(entry.unit.0.saturating_add(1));
                    // What is only gone has nothing to bring home.
                    clear.waiting = entry.states.mask(BlockState::Spare) != 0;
                    self.clear = Some(clear);
                    if clear.waiting {
                        self.clear_unit(entry.unit, clear.force, now);
                    }
                }
            }
        }
    }

    fn clear_unit(&mut self, unit: UnitIndex, force: bool, now: Millis) {
        let sector = self.geometry().unit_sector(unit);
        if let Err(reason) = self.begin_unremap(CLEAR_STEP, sector, force, now) {
            self.clear_step_ended(Done::Failed(reason));
        }
    }

    /// The answer of a `clear` that has ended.
    pub(super) fn clear_reply(&mut self) -> Option<(u64, Done)> {
        let done = self.clear?.ended?;
        self.clear.take().map(|clear| (clear.message, done))
    }

    /// Numbers of this moment. Walks the table and the pending marks.
    pub fn status(&self) -> Status {
        let (mut remapped, mut gone, mut entries) = (0u64, 0u64, 0u64);
        let mut from = UnitIndex(0);
        while let Some(entry) = self.shared.table.next(from) {
            let count = |state| u64::from(entry.states.mask(state).count_ones());
            remapped = remapped.saturating_add(count(BlockState::Spare));
            gone = gone.saturating_add(count(BlockState::Gone));
            entries = entries.saturating_add(1);
            from = UnitIndex(entry.unit.0.saturating_add(1));
        }
        let stamp = self.commit.stamp();
        let counts = &self.counts;
        Status {
            block_size: u32::from(self.geometry().block_sectors).saturating_mul(512),
            size_sectors: self.geometry().main_sectors,
            remapped_blocks: remapped,
            pending_blocks: self.shared.pending.blocks(),
            gone_blocks: gone,
            entries,
            max_entries: u64::from(self.layout.max_entries()),
            quarantined_units: self.allocator.quarantined_units(),
            spare_free_units: self.allocator.free_units(),
            spare_total_units: self.allocator.span(),
            errors: Errors {
                read: counts.read_errors,
                write: counts.write_errors,
                medium: counts.medium_errors,
                transport: counts.transport_errors,
            },
            remaps: Remaps { automatic: counts.automatic, manual: counts.manual },
            requests: Requests { fast: self.shared.fast(), slow: self.shared.slow() },
            metadata: Metadata {
                copies_valid: self.commit.copies_valid(),
                copies_total: 5,
                generation: stamp.generation,
                sequence: stamp.sequence,
                commits: self.commit.commits(),
            },
            health_score: None,
            scan: None,
            conditions: self.conditions(),
        }
    }

    fn conditions(&self) -> Conditions {
        let [main, spare] = &self.health;
        Conditions {
            failed: self.mode == Mode::Failed || main.vanished || spare.vanished,
            read_only: self.mode == Mode::ReadOnly,
            metadata_degraded: self.commit.degraded() || self.commit.in_doubt() > 0,
            main_suspect: main.suspect,
            spare_suspect: spare.suspect,
            spare_full: self.allocator.free_units() == 0 || self.slots.free_slots() == 0,
        }
    }
}
