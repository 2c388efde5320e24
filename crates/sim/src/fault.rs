// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The faults a modelled device can have, as declarations; [`crate::disk`] acts them out.

use std::collections::BTreeMap;

use dmremap_core::{Class, Millis};

/// A bad sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorFault {
    /// Reads fail with this class.
    pub read: Option<Class>,
    /// Writes fail with this class.
    pub write: Option<Class>,
    /// Failures left before it works again; `None` = for good.
    pub left: Option<u32>,
    /// A write that succeeds cures it.
    pub heals: bool,
}

impl SectorFault {
    /// Reads and writes fail for good.
    #[must_use]
    pub fn dead(read: Class, write: Class) -> SectorFault {
        SectorFault { read: Some(read), write: Some(write), left: None, heals: false }
    }

    /// Reads fail, a write cures.
    #[must_use]
    pub fn heals_on_write(class: Class) -> SectorFault {
        SectorFault { read: Some(class), write: None, left: None, heals: true }
    }

    /// Writes fail, reads work.
    #[must_use]
    pub fn write_only(class: Class) -> SectorFault {
        SectorFault { read: None, write: Some(class), left: None, heals: false }
    }

    /// The next `times` reads or writes fail.
    #[must_use]
    pub fn transient(class: Class, times: u32) -> SectorFault {
        SectorFault { read: Some(class), write: Some(class), left: Some(times), heals: false }
    }
}

/// What goes wrong in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionMode {
    /// Reads fail, writes land.
    Unreadable(Class),
    /// Writes fail and leave old, new or torn content.
    Unwritable(Class),
    /// Both.
    Dead(Class),
    /// Writes vanish with success: what was there before stays.
    Drops,
    /// Writes land this many sectors further on (round the region) with success.
    Misplaces(u64),
}

/// A stretch of a device with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First sector.
    pub start: u64,
    /// Length in sectors.
    pub sectors: u64,
    /// What goes wrong.
    pub mode: RegionMode,
}

impl Region {
    /// Whether `sector` lies in it.
    #[must_use]
    pub fn holds(&self, sector: u64) -> bool {
        sector >= self.start && sector - self.start < self.sectors
    }
}

/// The whole device fails for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What it answers.
    pub class: Class,
    /// When it is over; `Millis::MAX` = until told.
    pub until: Millis,
}

/// What a failed flush does to what was cached and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It stays cached.
    Keeps,
    /// It is gone.
    Loses,
    /// It can still be read and is never written back: later flushes succeed without it.
    Forgets,
}

/// Everything that is wrong with a device.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Bad sectors.
    pub sectors: BTreeMap<u64, SectorFault>,
    /// Bad regions.
    pub regions: Vec<Region>,
    /// The device fails as a whole.
    pub outage: Option<Outage>,
    /// Every write fails, reads work: a worn-out SSD.
    pub worn_out: Option<Class>,
    /// So many flushes to come fail, and what becomes of what was cached.
    pub failing_flushes: Option<(u32, Loss)>,
    /// Addresses from the first number on wrap back by the second: a stick that lies of its size.
    pub wrap: Option<(u64, u64)>,
}

impl Faults {
    /// Where an address really leads.
    #[must_use]
    pub fn place(&self, sector: u64) -> u64 {
        match self.wrap {
            Some((from, by)) if sector >= from => sector - by,
            _ => sector,
        }
    }

    /// The fault of a read of `sector`, without counting it.
    #[must_use]
    pub fn read(&self, sector: u64) -> Option<Class> {
        if let Some(class) = self.sectors.get(&sector).and_then(|f| f.read) {
            return Some(class);
        }
        self.regions.iter().filter(|r| r.holds(sector)).find_map(|r| match r.mode {
            RegionMode::Unreadable(class) | RegionMode::Dead(class) => Some(class),
            _ => None,
        })
    }

    /// The fault of a write of `sector`, without counting it.
    #[must_use]
    pub fn write(&self, sector: u64) -> Option<Class> {
        if self.worn_out.is_some() {
            return self.worn_out;
        }
        if let Some(class) = self.sectors.get(&sector).and_then(|f| f.write) {
            return Some(class);
        }
        self.regions.iter().filter(|r| r.holds(sector)).find_map(|r| match r.mode {
            RegionMode::Unwritable(class) | RegionMode::Dead(class) => Some(class),
            _ => None,
        })
    }

    /// Where a write of `sector` lands if it succeeds; `None` = nowhere.
    #[must_use]
    pub fn lands(&self, sector: u64) -> Option<u64> {
        match self.regions.iter().find(|r| r.holds(sector)) {
            Some(Region { mode: RegionMode::Drops, .. }) => None,
            Some(Region { mode: RegionMode::Misplaces(by), start, sectors }) => {
                Some(start + (sector - start + by) % sectors)
            }
            _ => Some(sector),
        }
    }

    /// One failure of `sector` has been answered: a transient fault has one less left.
    pub fn count(&mut self, sector: u64) {
        if let Some(fault) = self.sectors.get_mut(&sector) {
            if let Some(left) = &mut fault.left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.sectors.remove(&sector);
                }
            }
        }
    }

    /// A write of `sector` has succeeded.
    pub fn written(&mut self, sector: u64) {
        if self.sectors.get(&sector).is_some_and(|f| f.heals) {
            self.sectors.remove(&sector);
        }
    }
}
