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
    /// May be gone or pending by a message, which was under way then at the latest.
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

    /// The message is handed in, or answered, and may have its effect in between.
    pub fn under_way(&mut self, sector: u64, sectors: u32, tick: Tick) {
        self.excused.extend((sector..sector + u64::from(sectors)).map(|sector| (sector, tick)));
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

    /// A write was answered well: no mark that was answered before it began is an excuse any more.
    /// One that came meanwhile is: it may have found the part of the write that had landed.
    pub fn marks_overwritten(&mut self, sector: u64, sectors: u32, began: Tick) {
        for sector in sector..sector + u64::from(sectors) {
            let before = self.marks.excused.get(&sector).is_some_and(|tick| *tick < began);
            if before && !self.under_way(sector, |request| request.wanted == Wanted::Mark) {
                self.marks.excused.remove(&sector);
            }
        }
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
