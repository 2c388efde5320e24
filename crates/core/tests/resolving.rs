// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `resolve` and `route` against a model that knows one block at a time.
//!
//! Invariants checked: the run given is what every block of it is by itself, and goes on as far as
//! that holds; a spare run is contiguous on the spare; what the machine gets lies in one unit; a
//! discard never touches a unit with an entry or a mark, and no write-zeroes reaches one as such.

use std::sync::atomic::AtomicU64;

use dmremap_core::marks::{Busy, Pending};
use dmremap_core::path::{Route, route};
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::{Geometry, Mark, Place, Shared, SharedParts};
use dmremap_core::table::{Entry, Table};
use dmremap_core::{Dev, Kind};
use dmremap_format::{BlockState, SlotIndex, SpareUnit, States, UnitIndex};
use proptest::prelude::*;

type Words = Box<[AtomicU64]>;
const DATA_START: u64 = 9216;
const UNITS: u64 = 40;

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

#[derive(Clone, Debug, Default)]
struct Unit {
    entry: Option<(u64, States)>,
    busy: u8,
    doubt: u8,
    pending: u8,
}

impl Unit {
    fn touched(&self) -> bool {
        self.entry.is_some() || (self.busy | self.doubt | self.pending) != 0
    }
}

fn unit() -> impl Strategy<Value = Unit> {
    // Whole units take a way of their own.
    let masks = prop_oneof![any::<(u8, u8)>(), Just((0xff, 0)), Just((0, 0xff))];
    let states = masks.prop_map(|(spare, gone)| {
        States::ALL_MAIN.with(spare, BlockState::Spare).with(gone & !spare, BlockState::Gone)
    });
    let entry = proptest::option::weighted(0.5, (0u64..100, states));
    let mask = || prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    (entry, mask(), mask(), mask()).prop_map(|(entry, busy, doubt, pending)| Unit {
        entry,
        busy,
        doubt,
        pending,
    })
}

/// At most 60 busy words, as many as there are jobs.
fn bounded(mut units: Vec<Unit>) -> Vec<Unit> {
    let mut left = 60;
    for unit in &mut units {
        for mask in [&mut unit.busy, &mut unit.doubt] {
            if *mask != 0 && left == 0 {
                *mask = 0;
            }
            left -= usize::from(*mask != 0);
        }
    }
    units
}

struct Model {
    units: Vec<Unit>,
    geometry: Geometry,
}

impl Model {
    fn unit(&self, sector: u64) -> &Unit {
        &self.units[(sector / 8) as usize]
    }

    /// What one block is.
    fn block(&self, sector: u64) -> (Place, Mark) {
        let unit = self.unit(sector);
        let index = ((sector % 8) / u64::from(self.geometry.block_sectors)) as u8;
        let has = |mask: u8| mask & (1 << index) != 0;
        let mark = if has(unit.doubt) {
            Mark::Doubt
        } else if has(unit.busy) {
            Mark::Busy
        } else if has(unit.pending) {
            Mark::Pending
        } else {
            Mark::None
        };
        let place = match unit.entry.map(|(spare, states)| (spare, states.get(index))) {
            None | Some((_, BlockState::Main)) => Place::Main,
            Some((_, BlockState::Gone)) => Place::Gone,
            Some((spare, BlockState::Spare)) => {
                Place::Spare { member: 0, sector: DATA_START + spare * 8 + sector % 8 }
            }
        };
        (place, mark)
    }

    fn build(&self) -> Shared<Words> {
        let (table, mut writer) = Table::new(words(Table::<Words>::words(1000)), 1000);
        let shared = Shared::new(SharedParts {
            geometry: self.geometry,
            table,
            readers: Readers::new(words(Readers::<Words>::words(1)), 1),
            region: words(RegionMap::<Words>::words()),
            busy: words(Busy::<Words>::words()),
            pending: words(Pending::<Words>::words()),
            pieces: words(Pieces::<Words>::words(1)),
            paths: words(Shared::<Words>::path_words(1)),
            queues: 1,
        });
        let mut job = 0;
        for (index, unit) in self.units.iter().enumerate() {
            let at = UnitIndex(index as u64);
            if let Some((spare, states)) = unit.entry {
                shared.region.mark(at);
                let (spare, slot) = (Some(SpareUnit(spare)), SlotIndex(index as u32));
                let entry = Entry { unit: at, spare, member: 0, states, slot };
                assert!(writer.put(&shared.table, entry, &shared.readers));
            }
            if unit.pending != 0 {
                shared.region.mark(at);
                assert!(shared.pending.add(at, unit.pending));
            }
            if unit.busy != 0 {
                shared.set_busy(job, at, unit.busy);
                job += 1;
            }
            if unit.doubt != 0 {
                shared.set_doubt(job, at, unit.doubt);
                job += 1;
            }
        }
        shared
    }

    fn check_run(&self, shared: &Shared<Words>, sector: u64, sectors: u64) {
        let step = u64::from(self.geometry.block_sectors);
        let run = shared.resolve(sector, sectors);
        assert!(run.sectors >= step && run.sectors <= sectors && run.sectors % step == 0);
        let (first, mark) = self.block(sector);
        let further = |at: u64| match first {
            Place::Spare { member, sector } => Place::Spare { member, sector: sector + at },
            other => other,
        };
        assert_eq!((run.place, run.mark), (first, mark));
        for at in (0..run.sectors).step_by(step as usize) {
            assert_eq!(self.block(sector + at), (further(at), mark), "at {at} of {run:?}");
        }
        if run.sectors < sectors {
            let next = self.block(sector + run.sectors);
            assert_ne!(next, (further(run.sectors), mark), "it could go on: {run:?}");
        }
    }

    fn check_route(&self, shared: &Shared<Words>, kind: Kind, sector: u64, sectors: u64) {
        let (place, mark) = self.block(sector);
        match route(shared, kind, sector, sectors) {
            Route::Submit { dev, sector: at, sectors: n, kind: as_kind, fast } => {
                assert_eq!(mark, Mark::None);
                match place {
                    Place::Main => assert_eq!((dev, at), (Dev::Main, sector)),
                    Place::Spare { sector, .. } => assert_eq!((dev, at), (Dev::Spare(0), sector)),
                    Place::Gone => panic!("a gone block was submitted"),
                }
                let whole = matches!(as_kind, Kind::Discard | Kind::WriteZeroes);
                for unit in (sector & !7..sector + n).step_by(8) {
                    assert!(!whole || !self.unit(unit).touched(), "{as_kind:?} reached an entry");
                    assert!(!fast || self.unit(unit).entry.is_none());
                }
            }
            Route::Machine { sectors: n } => {
                assert!(n > 0 && sector / 8 == (sector + n - 1) / 8, "spans units");
                assert!(mark != Mark::None || place == Place::Gone);
            }
            Route::Skip { .. } => assert_eq!(kind, Kind::Discard),
            Route::Fail { .. } => {
                assert!(mark != Mark::None || (place == Place::Gone && kind == Kind::Read));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_run_is_what_its_blocks_are(
        units in proptest::collection::vec(unit(), UNITS as usize).prop_map(bounded),
        shift in 0u32..4,
        starts in proptest::collection::vec((0u64..UNITS * 8, 1u64..200), 20),
    ) {
        let block_sectors = 1u8 << shift;
        let geometry = Geometry { main_sectors: UNITS * 8, block_sectors, data_start: DATA_START };
        let model = Model { units, geometry };
        let shared = model.build();
        let step = u64::from(block_sectors);
        for (start, length) in starts {
            let sector = start / step * step;
            let sectors = (length.div_ceil(step) * step).min(UNITS * 8 - sector);
            model.check_run(&shared, sector, sectors);
            for kind in [Kind::Read, Kind::Write, Kind::WriteZeroes, Kind::Discard] {
                model.check_route(&shared, kind, sector, sectors);
            }
        }
    }

    #[test]
    fn masks_and_sectors_agree(shift in 0u32..4, sector in 0u64..1000, blocks in 1u32..9) {
        let block_sectors = 1u8 << shift;
        let geometry = Geometry { main_sectors: 1003, block_sectors, data_start: DATA_START };
        let step = u64::from(block_sectors);
        let sector = sector / step * step;
        let sectors = blocks * u32::from(block_sectors);
        let end = sector + u64::from(sectors);
        let got = geometry.in_one_unit(sector, sectors);
        prop_assert_eq!(got.is_some(), sector / 8 == (end - 1) / 8);
        if let Some((unit, mask)) = got {
            for block in 0..8u8 {
                let at = geometry.block_sector(unit, block);
                let own = at >= sector && at < end && u64::from(block) * step < 8;
                prop_assert_eq!(mask & (1 << block) != 0, own);
            }
        }
    }
}

#[test]
fn the_last_unit_may_be_short() {
    let geometry = Geometry { main_sectors: 19, block_sectors: 1, data_start: DATA_START };
    assert_eq!(geometry.all_blocks(UnitIndex(1)), 0xff);
    assert_eq!(geometry.all_blocks(UnitIndex(2)), 0b111);
    assert_eq!(geometry.all_blocks(UnitIndex(3)), 0);
    assert_eq!(geometry.units(), 3);
}
