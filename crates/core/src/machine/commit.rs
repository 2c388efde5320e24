// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The last steps of a mover: join a commit, and publish exactly what was committed.
//!
//! Acknowledged: the change is published, marks that its place made are dropped, the request is
//! answered, busy is withdrawn. A spare unit that the change freed is given out again only when
//! the readers that may still be on it have returned. Failed cleanly: nothing has happened, the
//! chosen unit and slot are free again. In doubt: nothing is published, the blocks fail at once,
//! and unit, slot and spare units stay held until the page has been reversed.
//!
//! A spare unit that was quarantined is saved by the next commit, in a slot without a main unit.

use dmremap_format::{BlockState, Cause, Slot, SlotIndex, SpareUnit, States};

use crate::api::{Class, Dev, Done, Event, Marked, Millis, Outcome, Reason};
use crate::broken::{Broken, is};
use crate::commit::{HeaderChange, MetadataChange, OutcomeKind, PageId, Refusal, SlotChange};
use crate::table::{Entry, MAX_CHANGES};

use super::job::{Goal, Job, Stage, Wait};
use super::{Machine, Memory};

/// Quarantined units that can wait for the commit that saves them; more are kept in memory only.
pub(super) const UNSAVED: usize = 16;
/// Tokens from here on belong to quarantine slots, not to jobs.
const TOKEN_QUARANTINE: u32 = 1 << 16;
/// The token of header changes that nobody waits for.
const TOKEN_HEADER: u32 = u32::MAX;

/// A quarantined unit on its way into a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsaved {
    unit: SpareUnit,
    /// The slot it has taken in a commit that has not ended.
    slot: Option<SlotIndex>,
}

impl<M: Memory> Machine<M> {
    /// Quarantines a spare unit: never allocated again, saved by the next commit.
    pub(super) fn quarantine(&mut self, unit: SpareUnit) {
        if self.allocator.is_quarantined(unit) {
            return;
        }
        self.allocator.quarantine(unit);
        if let Some(place) = self.unsaved.iter_mut().find(|u| u.is_none()) {
            *place = Some(Unsaved { unit, slot: None });
        }
        let spare_sector = self.geometry().spare_sector(unit, 0);
        self.tell(Event::Quarantined { spare_sector });
    }

    /// The entry the job's change makes of the committed one; `None` removes it.
    fn entry_after(&self, job: &Job) -> Option<Entry> {
        let before = job.entry.map_or(States::ALL_MAIN, |e| e.states);
        let to = match job.dest {
            Dev::Main => BlockState::Main,
            Dev::Spare(_) => BlockState::Spare,
        };
        let states = before.with(job.moving, to).with(job.gone, BlockState::Gone);
        let held = states.mask(BlockState::Spare) | states.mask(BlockState::Gone);
        let slot = job.slot.or(job.entry.map(|e| e.slot))?;
        let spare = match job.dest {
            // What is only gone any more needs no unit.
            Dev::Main if states.mask(BlockState::Spare) == 0 => None,
            Dev::Main => job.entry.and_then(|e| e.spare),
            Dev::Spare(_) => job.target,
        };
        (held != 0).then_some(Entry { unit: job.unit, spare, member: 0, states, slot })
    }

    /// The job's data is durable: its entry joins the next commit.
    pub(super) fn join(&mut self, j: usize, now: Millis) {
        self.job(j).stage = Stage::Commit;
        if self.is_held(j) {
            return self.hold(j, now);
        }
        if !self.table_ready() {
            self.job(j).wait = Wait::Room;
            return;
        }
        let job = *self.job(j);
        let after = self.entry_after(&job);
        let Some(slot) = job.slot.or(job.entry.map(|e| e.slot)) else {
            return self.write_failed(j, Class::Io);
        };
        self.job(j).after = after;
        self.save_quarantined();
        let content = after.map_or(Slot::FREE, |e| self.slot_of(&e, &job));
        let token = u32::try_from(j).unwrap_or(u32::MAX);
        let (page, place) = page_of(slot);
        let kind = kind_of(&job, after.as_ref());
        let change = MetadataChange::Slot { kind, place, slot: content };
        match self.commit.join(page, change, token) {
            Ok(()) => {
                self.job(j).wait = Wait::Outcome;
                if is(Broken::AckBeforeCommit) {
                    self.complete(j, Outcome::Good);
                }
                if is(Broken::UnitReusedBeforeRemovalAcknowledged) && after.is_none() {
                    if let Some(unit) = job.entry.and_then(|e| e.spare) {
                        self.allocator.free(unit);
                    }
                }
            }
            // Room comes back when the commit under way, or the reversal of the page, has ended.
            Err(Refusal::NoRoom | Refusal::InDoubt) => self.job(j).wait = Wait::Room,
            Err(Refusal::Degraded) => self.last_try(j, Reason::MetadataDegraded, now),
            Err(_) => self.commit_failed(j, Reason::CommitFailed),
        }
    }

    /// Whether every change that is in a commit, and one more, can be published for sure.
    fn table_ready(&mut self) -> bool {
        let joined = self
            .jobs
            .iter()
            .filter(|job| job.stage == Stage::Commit && job.wait == Wait::Outcome)
            .count();
        let changes = joined.saturating_add(1);
        if changes > MAX_CHANGES {
            return false;
        }
        for _ in 0..3 {
            if self.writer.ready(changes) {
                return true;
            }
            self.writer.reclaim(&self.shared.table, &self.shared.readers);
        }
        self.writer.ready(changes)
    }

    fn slot_of(&self, entry: &Entry, job: &Job) -> Slot {
        let cause = match job.goal {
            Goal::Read => Cause::WeakRead,
            Goal::Remap => Cause::Remap,
            Goal::Add => Cause::Add,
            Goal::Mark => Cause::Import,
            Goal::Unremap => Cause::Clear,
            _ if job.leaving.is_some() => Cause::SpareFailed,
            _ => Cause::WriteError,
        };
        Slot {
            main: Some(entry.unit),
            spare: entry.spare,
            member: entry.member,
            states: entry.states,
            flags: 0,
            cause,
            time: self.wall_s,
            crc: 0,
        }
    }

    pub(super) fn save_quarantined(&mut self) {
        for index in 0..UNSAVED {
            let Some(Some(Unsaved { unit, slot: None })) = self.unsaved.get(index).copied() else {
                continue;
            };
            let Some(slot) = self.slots.alloc() else { return };
            let (page, place) = page_of(slot);
            let content = Slot { spare: Some(unit), time: self.wall_s, ..Slot::FREE };
            let token = TOKEN_QUARANTINE.saturating_add(u32::try_from(index).unwrap_or(0));
            let kind = SlotChange::Quarantine;
            let change = MetadataChange::Slot { kind, place, slot: content };
            let joined = self.commit.join(page, change, token);
            match (joined, self.unsaved.get_mut(index)) {
                (Ok(()), Some(place)) => *place = Some(Unsaved { unit, slot: Some(slot) }),
                _ => self.slots.free(slot),
            }
        }
    }

    /// A change of the header, dated now.
    pub(super) fn header_change(&self, change: HeaderChange) -> MetadataChange {
        let at = dmremap_format::SLOT_EPOCH.saturating_add(u64::from(self.wall_s));
        MetadataChange::Header { at, change }
    }

    /// Has one commit of the header take these changes; nobody waits for it. False if they were
    /// refused (degraded, closing, no room) and have to be offered again: nothing says how a commit
    /// ends, so what must not be lost is offered again at the close.
    pub fn commit_header(&mut self, changes: &[HeaderChange], now: Millis) -> bool {
        self.now = now;
        let joined = changes.iter().all(|change| {
            let change = self.header_change(*change);
            self.commit.join(PageId::Header, change, TOKEN_HEADER).is_ok()
        });
        self.pump(now);
        joined
    }

    /// A change of a commit has ended.
    pub(super) fn outcome(&mut self, token: u32, kind: OutcomeKind, now: Millis) {
        if token >= TOKEN_QUARANTINE {
            return self.quarantine_outcome(token, kind);
        }
        let j = usize::try_from(token).unwrap_or(usize::MAX);
        match kind {
            OutcomeKind::Acknowledged => self.publish(j, now),
            OutcomeKind::Failed => self.commit_failed(j, Reason::CommitFailed),
            OutcomeKind::InDoubt => self.in_doubt(j),
            OutcomeKind::Reversed => self.release(j),
        }
    }

    fn quarantine_outcome(&mut self, token: u32, kind: OutcomeKind) {
        let index = usize::try_from(token.saturating_sub(TOKEN_QUARANTINE)).unwrap_or(UNSAVED);
        let Some(place) = self.unsaved.get_mut(index) else { return };
        let Some(Unsaved { unit, slot: Some(slot) }) = *place else { return };
        match kind {
            OutcomeKind::Acknowledged => *place = None,
            OutcomeKind::InDoubt => {}
            OutcomeKind::Failed | OutcomeKind::Reversed => {
                *place = Some(Unsaved { unit, slot: None });
                self.slots.free(slot);
            }
        }
    }

    fn commit_failed(&mut self, j: usize, reason: Reason) {
        if self.job(j).message.is_some() {
            return self.fail_message(j, reason);
        }
        self.write_failed(j, Class::Io);
    }

    fn in_doubt(&mut self, j: usize) {
        let job = self.job(j);
        job.stage = Stage::Doubt;
        job.wait = Wait::Nothing;
        job.deadline = Millis::MAX;
        let (unit, changed) = (job.unit, job.moving | job.gone);
        job.busy = changed;
        self.reply(j, Done::Failed(Reason::InDoubt));
        self.complete(j, Outcome::Failed(Class::Io));
        self.shared.set_doubt(j, unit, changed);
        let main_sector = self.geometry().unit_sector(unit);
        self.tell(Event::InDoubt { main_sector });
        self.woke();
    }

    /// The commit stands: the table changes exactly as it said.
    fn publish(&mut self, j: usize, now: Millis) {
        let job = *self.job(j);
        let freed = match (job.after, job.entry.and_then(|e| e.spare)) {
            (None, spare) => spare,
            (Some(after), Some(before)) if after.spare != Some(before) => Some(before),
            _ => None,
        };
        let table = &self.shared.table;
        let _published = match job.after {
            Some(entry) => self.writer.put(table, entry, &self.shared.readers),
            None => self.writer.remove(table, job.unit, &self.shared.readers),
        };
        if !(is(Broken::PendingNotDroppedByWrite) && job.piece.is_some()) {
            self.shared.pending.drop_marks(job.unit, job.moving | job.gone);
        }
        if job.after.is_none() {
            if let Some(slot) = job.slot.or(job.entry.map(|e| e.slot)) {
                self.slots.free(slot);
            }
        }
        self.tell_published(&job);
        let done = self.done_of(&job);
        let job = self.job(j);
        job.fresh_unit = false;
        job.fresh_slot = false;
        self.reply(j, done);
        self.complete(j, Outcome::Good);
        match freed {
            // Never handed out again: nothing to wait for.
            Some(unit) if self.allocator.is_quarantined(unit) => {
                self.allocator.free(unit);
                self.release(j);
            }
            Some(unit) if !is(Broken::UnitReusedBeforeRemovalAcknowledged) => {
                self.cool(j, unit, now);
            }
            _ => self.release(j),
        }
    }

    /// Holds a freed spare unit until no reader can be on it.
    fn cool(&mut self, j: usize, unit: SpareUnit, now: Millis) {
        let main_unit = self.job(j).unit;
        self.shared.clear_busy(j);
        let job = self.job(j);
        job.stage = Stage::Cool;
        job.deadline = Millis::MAX;
        job.busy = 0;
        job.mover = false;
        job.leaving = Some(unit);
        let sector = self.geometry().unit_sector(main_unit);
        let id = self.grace.begin(&self.shared.pieces, sector, false);
        self.job(j).wait = Wait::Grace(id);
        self.woke();
        self.poll_grace(j, now);
    }

    /// The readers have returned.
    pub(super) fn cooled(&mut self, j: usize) {
        if let Some(unit) = self.job(j).leaving.take() {
            self.allocator.free(unit);
        }
        self.release(j);
    }

    fn tell_published(&mut self, job: &Job) {
        let main_sector = self.geometry().unit_sector(job.unit);
        if job.gone != 0 {
            self.tell(Event::Gone { main_sector, blocks: job.gone });
        }
        match (job.dest, job.target) {
            (Dev::Spare(_), Some(unit)) if job.moving != 0 => {
                let spare_sector = self.geometry().spare_sector(unit, 0);
                self.tell(Event::Moved { main_sector, spare_sector, blocks: job.moving });
                match job.goal {
                    Goal::Remap | Goal::Add => {
                        self.counts.manual = self.counts.manual.saturating_add(1);
                    }
                    _ => self.counts.automatic = self.counts.automatic.saturating_add(1),
                }
            }
            (Dev::Main, _) if job.after.is_none() => self.tell(Event::Home { main_sector }),
            _ => {}
        }
    }

    fn done_of(&self, job: &Job) -> Done {
        if job.goal == Goal::Mark {
            let marked = u64::from(job.gone.count_ones());
            return Done::Marked(Marked { marked, ..Marked::default() });
        }
        match job.target {
            Some(unit) if job.goal != Goal::Unremap => Done::Remapped {
                spare_sector: self.geometry().spare_sector(unit, 0),
                pending: job.own & !job.have,
            },
            _ => Done::Unremapped,
        }
    }
}

/// What kind of change a job's is.
fn kind_of(job: &Job, after: Option<&Entry>) -> SlotChange {
    match job.goal {
        Goal::Add => SlotChange::Add,
        Goal::WriteGone if job.moving != 0 && job.leaving.is_none() => SlotChange::WriteToGone,
        _ if after.is_none() => SlotChange::Unremap,
        _ if job.moving == 0 || job.dest == Dev::Main => SlotChange::Gone,
        _ if job.leaving.is_some() => SlotChange::MoveOff,
        _ if job.entry.is_some_and(|e| e.spare.is_some()) => SlotChange::MoveMore,
        _ => SlotChange::Move,
    }
}

/// The page a slot lies in, and its place there.
fn page_of(slot: SlotIndex) -> (PageId, u8) {
    (PageId::Table(slot.page()), slot.place())
}
