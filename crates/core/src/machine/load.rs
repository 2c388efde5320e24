// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Loading the table at open, and the end of a volume.
//!
//! Every winning page is handed in once, before the first request and before the open writes
//! anything. A slot that cannot be (out of range, `spare` without a unit), two entries for one unit
//! of main or of the spare, or an entry that does not fit in memory refuses the whole volume.

use dmremap_format::{
    PageBytes, PageIndex, SLOTS_PER_PAGE, Slot, SlotFault, SlotIndex, SlotLimits,
};
use dmremap_format::{SpareUnit, TablePage, UnitIndex};

use crate::allocator::Allocator;
use crate::api::{Dev, Millis};
use crate::broken::{Broken, is};
use crate::commit::HeaderChange;
use crate::resolve::Shared;
use crate::slots::SlotMap;
use crate::sync::AtomicU64;
use crate::table::{Entry, TableWriter};

use super::job::{Goal, Stage};
use super::{Machine, Memory, Mode};

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadFault {
    /// The slot cannot be.
    Slot {
        /// Which.
        slot: SlotIndex,
        /// What is wrong with it.
        fault: SlotFault,
    },
    /// Two entries for one unit of main.
    MainTwice {
        /// The second one's slot.
        slot: SlotIndex,
        /// The unit.
        unit: UnitIndex,
    },
    /// Two entries on one spare unit.
    SpareTwice {
        /// The second one's slot.
        slot: SlotIndex,
        /// The unit.
        unit: SpareUnit,
    },
    /// The table in memory has no room.
    NoRoom {
        /// The slot that did not fit.
        slot: SlotIndex,
    },
}

/// Fills table, allocator and slot map from the pages of an open.
pub struct Loader<W> {
    /// The single writer of the table.
    pub writer: TableWriter,
    /// Spare units, all free at first.
    pub allocator: Allocator<W>,
    /// Slots, all free at first.
    pub slots: SlotMap<W>,
    /// What a slot may say.
    pub limits: SlotLimits,
}

impl<W: core::ops::Deref<Target = [AtomicU64]>> Loader<W> {
    /// Takes in one checked page.
    ///
    /// # Errors
    /// Why the volume is refused; the loader is of no use then.
    pub fn page(
        &mut self,
        shared: &Shared<W>,
        index: PageIndex,
        bytes: &PageBytes,
    ) -> Result<(), LoadFault> {
        let page = TablePage::of_image(bytes);
        for place in 0..SLOTS_PER_PAGE {
            let Some(slot) = SlotIndex::new(index, place) else { continue };
            let content = page.slot(place).map_err(|fault| LoadFault::Slot { slot, fault })?;
            if !content.is_free() {
                self.slot(shared, slot, &content)?;
            }
        }
        Ok(())
    }

    fn slot(
        &mut self,
        shared: &Shared<W>,
        slot: SlotIndex,
        content: &Slot,
    ) -> Result<(), LoadFault> {
        content.check(&self.limits).map_err(|fault| LoadFault::Slot { slot, fault })?;
        self.slots.take(slot);
        let Some(unit) = content.main else {
            if let Some(spare) = content.spare {
                self.allocator.quarantine(spare);
            }
            return Ok(());
        };
        if shared.table.get(unit).is_some() {
            return Err(LoadFault::MainTwice { slot, unit });
        }
        if let Some(spare) = content.spare {
            if !is(Broken::AllocateFromZero) && !self.allocator.take(spare) {
                return Err(LoadFault::SpareTwice { slot, unit: spare });
            }
        }
        let entry = Entry { unit, spare: content.spare, member: 0, states: content.states, slot };
        shared.region.mark(unit);
        // No lookup is under way yet, so what is retired comes back at once, in a few turns.
        for _ in 0..4 {
            if self.writer.ready(1) {
                break;
            }
            self.writer.reclaim(&shared.table, &shared.readers);
        }
        if !self.writer.ready(1) || !self.writer.put(&shared.table, entry, &shared.readers) {
            return Err(LoadFault::NoRoom { slot });
        }
        Ok(())
    }
}

impl<M: Memory> Machine<M> {
    /// The volume closes: no request is under way any more. What recovery holds ends within its
    /// limit; then both devices are flushed, and one last header commit says `clean`.
    pub fn close(&mut self, now: Millis) {
        self.now = now;
        if matches!(self.mode, Mode::ReadOnly | Mode::Failed) {
            self.mode = Mode::Closed { clean: false };
        } else if self.mode == Mode::Open {
            self.mode = Mode::Closing;
            self.closing_deadline = self.limit_from(now);
        }
        self.pump(now);
    }

    /// Whether the volume has closed, and if so whether the header says `clean`.
    pub fn closed(&self) -> Option<bool> {
        match self.mode {
            Mode::Closed { clean } => Some(clean),
            _ => None,
        }
    }

    /// Whether a job is under way that a close waits for.
    fn recovering(&self) -> bool {
        self.jobs.iter().any(|job| job.goal != Goal::Free && job.stage != Stage::Doubt)
    }

    pub(super) fn pump_close(&mut self, now: Millis) {
        match self.mode {
            Mode::Closing if self.closing_rounds.is_none() => {
                let wait = self.recovering() && now < self.closing_deadline;
                if !wait {
                    let main = self.flushes.line(Dev::Main).ask();
                    let spare = self.flushes.line(Dev::Spare(0)).ask();
                    self.closing_rounds = Some((main, spare));
                    self.closing_deadline = self.limit_from(now);
                }
            }
            Mode::Closing => self.close_flushed(now),
            Mode::Sealing => {
                if let Some(clean) = self.commit.closed() {
                    self.mode = Mode::Closed { clean };
                }
            }
            _ => {}
        }
    }

    fn close_flushed(&mut self, now: Millis) {
        let Some((main, spare)) = self.closing_rounds else { return };
        let ended = self.flushes.line(Dev::Main).has_ended(main)
            && self.flushes.line(Dev::Spare(0)).has_ended(spare);
        if !ended {
            if now >= self.closing_deadline {
                self.mode = Mode::Closed { clean: false };
            }
            return;
        }
        let good = self.flushes.line(Dev::Main).good && self.flushes.line(Dev::Spare(0)).good;
        if !good || self.recovering() {
            self.mode = Mode::Closed { clean: false };
            return;
        }
        self.mode = Mode::Sealing;
        self.save_quarantined();
        let change = self.header_change(HeaderChange::Close);
        self.commit.close(change, now);
        self.woke();
    }
}
