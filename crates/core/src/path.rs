// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What to do with the first run of a request: the one decision every front end makes in the same
//! way.

use core::ops::Deref;

use dmremap_format::UNIT_SECTORS;

use crate::api::{Class, Dev, Kind};
use crate::resolve::{Mark, Place, Shared};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// What to do with the first `sectors` of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Submit it, of this kind, to a device. A write-zeroes may have become a write of zeros.
    Submit {
        /// The device.
        dev: Dev,
        /// First sector there.
        sector: u64,
        /// Length.
        sectors: u64,
        /// The request's kind, or [`Kind::Write`] for a write-zeroes that must be one.
        kind: Kind,
        /// It went to main without an entry or a mark in its way.
        fast: bool,
    },
    /// Give it to the machine ([`Machine::park`](crate::machine::Machine::park)); it lies in one
    /// unit.
    Machine {
        /// Length.
        sectors: u64,
    },
    /// Done with nothing done: a discard of what has an entry.
    Skip {
        /// Length.
        sectors: u64,
    },
    /// It fails.
    Fail {
        /// Length.
        sectors: u64,
        /// With this error.
        class: Class,
    },
}

/// Routes the first run of `sector..sector + sectors`. The piece has been counted before.
pub fn route<W: Deref<Target = [AtomicU64]>>(
    shared: &Shared<W>,
    kind: Kind,
    sector: u64,
    sectors: u64,
) -> Route {
    let run = shared.resolve(sector, sectors);
    let (dev, at) = match run.place {
        Place::Main => (Dev::Main, sector),
        Place::Spare { member, sector } => (Dev::Spare(member), sector),
        Place::Gone => (Dev::Main, sector),
    };
    let sectors = run.sectors;
    let machine = || Route::Machine {
        sectors: sectors.min(UNIT_SECTORS.saturating_sub(sector & (UNIT_SECTORS - 1))),
    };
    match (run.mark, run.place, kind) {
        (Mark::Doubt, _, _) if kind != Kind::Discard => {
            return Route::Fail { sectors, class: Class::Io };
        }
        (Mark::Busy, _, _) => return machine(),
        (_, Place::Gone, Kind::Read) => return Route::Fail { sectors, class: Class::Medium },
        (Mark::Pending, _, Kind::Read) => {
            return if shared.pending_read_retry.load(Relaxed) {
                machine()
            } else {
                Route::Fail { sectors, class: Class::Medium }
            };
        }
        (_, Place::Gone, Kind::Write | Kind::WriteZeroes)
        | (Mark::Pending, _, Kind::Write | Kind::WriteZeroes) => return machine(),
        _ => {}
    }
    if shared.is_down(dev) {
        return Route::Fail { sectors, class: Class::Offline };
    }
    if kind == Kind::Discard && (run.mark != Mark::None || run.place != Place::Main) {
        return Route::Skip { sectors };
    }
    whole_units(shared, kind, dev, sector, at, sectors)
}

/// Discards reach only units without an entry, a mark or doubt anywhere in them, and write-zeroes
/// is a write in units that have one; reads and writes need no such care.
fn whole_units<W: Deref<Target = [AtomicU64]>>(
    shared: &Shared<W>,
    kind: Kind,
    dev: Dev,
    sector: u64,
    at: u64,
    sectors: u64,
) -> Route {
    let clean = shared.region.is_clean(sector, sectors);
    if matches!(kind, Kind::Read | Kind::Write) || clean {
        let fast = dev == Dev::Main && (clean || !touches_entry(shared, sector, sectors));
        return Route::Submit { dev, sector: at, sectors, kind, fast };
    }
    let in_unit = sectors.min(UNIT_SECTORS.saturating_sub(sector & (UNIT_SECTORS - 1)));
    let touched = unit_is_touched(shared, sector);
    match (kind, touched) {
        (Kind::Discard, true) => Route::Skip { sectors: in_unit },
        (_, true) => {
            Route::Submit { dev, sector: at, sectors: in_unit, kind: Kind::Write, fast: false }
        }
        (_, false) => Route::Submit { dev, sector: at, sectors: in_unit, kind, fast: true },
    }
}

fn unit_is_touched<W: Deref<Target = [AtomicU64]>>(shared: &Shared<W>, sector: u64) -> bool {
    let unit = shared.geometry.unit_of(sector);
    let (busy, doubt) = shared.busy.find(unit);
    shared.table.get(unit).is_some() || shared.pending.get(unit) != 0 || (busy | doubt) != 0
}

fn touches_entry<W: Deref<Target = [AtomicU64]>>(
    shared: &Shared<W>,
    sector: u64,
    sectors: u64,
) -> bool {
    let last = shared.geometry.unit_of(sector.saturating_add(sectors.saturating_sub(1)));
    shared.table.next(shared.geometry.unit_of(sector)).is_some_and(|e| e.unit <= last)
}
