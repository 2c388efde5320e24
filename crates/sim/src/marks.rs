// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the message `mark` may have made of the volume's sectors, for the judge.
//!
//! Invariants checked:
//! * A sector becomes gone, or reads as pending where no device failed, only if somebody marked it
//!   and it was not written well since.
//! * What became gone is not read: a read that begins later, with no write to the sector under way
//!   or begun since, returns an error and no content.

use std::collections::BTreeMap;

use crate::driver::{Request, Wanted};
use crate::oracle::Tick;
use crate::world::World;

/// See the head of this file. Sectors are the volume's.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// May be gone or pending by a message, which had its last effect then; one that is under way
    /// has not had it yet.
    excused: BTreeMap<u64, Tick>,
    /// Gone since, whatever a device holds there.
    sure: BTreeMap<u64, Tick>,
}

impl Marks {
    /// Whether a message may have marked it.
    #[must_use]
    pub fn excuse(&self, sector: u64) -> bool {
        self.excused.contains_key(&sector)
    }

    /// Whether it was gone when a read began, for sure.
    #[must_use]
    pub fn was_gone(&self, sector: u64, began: Tick) -> bool {
        self.sure.get(&sector).is_some_and(|gone| *gone < began)
    }

    /// The message is handed in, and may have its effect from now on.
    pub fn asked(&mut self, sector: u64, sectors: u32) {
        self.effect(sector, sectors, Tick::MAX);
    }

    /// The message has ended, well or not.
    pub fn ended(&mut self, sector: u64, sectors: u32, now: Tick) {
        self.effect(sector, sectors, now);
    }

    fn effect(&mut self, sector: u64, sectors: u32, at: Tick) {
        self.excused.extend((sector..sector + u64::from(sectors)).map(|sector| (sector, at)));
    }

    /// A crash ends what was under way.
    pub fn crashed(&mut self, now: Tick) {
        self.excused.values_mut().for_each(|at| *at = now.min(*at));
    }

    /// A write that began then was answered well: no mark from before it is an excuse any more.
    pub fn overwritten(&mut self, sector: u64, sectors: u32, began: Tick) {
        for sector in sector..sector + u64::from(sectors) {
            if self.excused.get(&sector).is_some_and(|at| *at < began) {
                self.excused.remove(&sector);
            }
        }
    }

    /// A write begins: what was gone may be there again at any time.
    pub fn write_begins(&mut self, sector: u64, sectors: u32) {
        for sector in sector..sector + u64::from(sectors) {
            self.sure.remove(&sector);
        }
    }
}

impl World {
    fn under_way(&self, sector: u64, wanted: impl Fn(&Request) -> bool) -> bool {
        self.requests.values().any(|request| wanted(request) && request.covers(sector))
    }

    /// A sector has become gone.
    pub fn marks_gone(&mut self, sector: u64) {
        let writes = |request: &Request| match request.wanted {
            Wanted::Io(kind) => kind.changes(),
            _ => false,
        };
        if !self.under_way(sector, writes) {
            self.marks.sure.insert(sector, self.tick);
        }
    }
}
