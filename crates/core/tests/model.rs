// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Readers of the table beside its writer, under a scheduler that switches threads at any atomic
//! operation (shuttle; every interleaving it makes is sequentially consistent, the weaker orders
//! of the lookup grace are `model_readers.rs`).
//!
//! The table's own source files are included here, with shuttle's atomics and leaves of four
//! entries, so that splits, merges and copies of the root come every few changes.
//!
//! Invariants checked: a unit that always has an entry is always found; what is found is whole
//! (all its fields of one version); it is no older than the last change completed before the
//! lookup began, and no newer than the last one begun; `next` and snapshots skip no such unit.
//! That the checks see anything is shown by graces that do not wait.

#![allow(dead_code, unused_imports)]

mod sync {
    pub(crate) use shuttle::sync::atomic;
}
mod table_size {
    pub(crate) const LEAF_ENTRIES: usize = 4;
    pub(crate) const PIVOTS: usize = 2;
    pub(crate) const GROUP: usize = 2;
    pub(crate) const LEAF_WORDS: usize = 10;
    pub(crate) const SPARSE: usize = 6;
    pub(crate) const RESERVE: usize = 8;
    pub(crate) const MERGE_RESERVE: usize = 2;
    pub(crate) const COPY_AFTER: usize = 1;
    pub(crate) const CELLS_PER_LEAF: usize = 1;
    pub(crate) const MAX_CELLS: usize = 8;
}
#[path = "../src/readers.rs"]
mod readers;
#[path = "../src/table.rs"]
mod table;
#[path = "../src/table_leaf.rs"]
mod table_leaf;
#[path = "../src/table_writer.rs"]
mod table_writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dmremap_format::{BlockState, SlotIndex, SpareUnit, States, UnitIndex};
use readers::{Readers, Reading};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::AtomicU64;
use shuttle::{Config, Runner, thread};
use table::{Entry, LookupGrace, Snapshot, Table};
use table_writer::{MAX_CHANGES, TableWriter};

type Words = Box<[AtomicU64]>;

const UNITS: u64 = 16;
const READERS: usize = 2;
/// Lookups of each reader, and changes of the writer, in one run.
const LOOKUPS: usize = 20;
const CHANGES: u32 = 24;

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Even units always have an entry.
fn is_kept(unit: u64) -> bool {
    unit % 2 == 0
}

fn entry(unit: u64, version: u32) -> Entry {
    Entry {
        unit: UnitIndex(unit),
        spare: Some(SpareUnit(unit * 100_000 + u64::from(version))),
        member: (version % 8) as u8,
        states: States::ALL_MAIN.with(version as u8, BlockState::Spare),
        slot: SlotIndex(version),
    }
}

/// A grace, and what of it is broken.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Variant {
    /// Nothing.
    Sound,
    /// It has always passed: leaves are reused while a lookup may be in them.
    NoGrace,
    /// It waits for the lookups of queue 0 only.
    OneQueue,
}

struct Grace {
    readers: Readers<Words>,
    variant: Variant,
}

impl LookupGrace for Grace {
    fn start(&self) -> u64 {
        self.readers.start()
    }

    fn passed(&self, token: u64) -> bool {
        self.variant == Variant::NoGrace || self.readers.passed(token)
    }
}

struct World {
    table: Table<Words>,
    grace: Grace,
    /// Versions begun and completed of every unit. Not the model's atomics: the oracle's own.
    begun: Vec<AtomicU32>,
    completed: Vec<AtomicU32>,
}

impl World {
    fn check(&self, entry_seen: &Entry, floor: u32) {
        let unit = entry_seen.unit.0;
        let version = entry_seen.slot.0;
        assert_eq!(*entry_seen, entry(unit, version), "a torn entry");
        let begun = self.begun[unit as usize].load(Ordering::Relaxed);
        assert!(version <= begun, "unit {unit}: version {version} was not begun");
        assert!(!is_kept(unit) || version >= floor, "unit {unit}: {version} is older than {floor}");
    }

    fn floor(&self, unit: u64) -> u32 {
        self.completed[unit as usize].load(Ordering::Relaxed)
    }

    fn write(&self, writer: &mut TableWriter, unit: u64, version: u32, puts: bool) {
        let mut turns = 0;
        while !writer.ready(1) {
            turns += 1;
            assert!(turns < 100_000, "the grace never passes: {writer:?}");
            thread::yield_now();
            writer.reclaim(&self.table, &self.grace);
        }
        self.begun[unit as usize].store(version, Ordering::Relaxed);
        let done = if puts {
            writer.put(&self.table, entry(unit, version), &self.grace)
        } else {
            writer.remove(&self.table, UnitIndex(unit), &self.grace)
        };
        assert!(done, "ready, and yet it failed: {writer:?}");
        self.completed[unit as usize].store(version, Ordering::Relaxed);
    }

    fn read(&self) {
        let mut random = thread_rng();
        let unit = random.gen_range(0..UNITS);
        let kept = (unit..UNITS).find(|unit| is_kept(*unit));
        let floors: Vec<u32> = (0..UNITS).map(|unit| self.floor(unit)).collect();
        let floor = |entry: &Entry| floors[entry.unit.0 as usize];
        match random.gen_range(0..3) {
            0 => {
                let found = self.table.get(UnitIndex(unit));
                assert!(found.is_some() || !is_kept(unit), "unit {unit} is gone");
                if let Some(found) = found {
                    assert_eq!(found.unit.0, unit);
                    self.check(&found, floor(&found));
                }
            }
            1 => match self.table.next(UnitIndex(unit)) {
                None => assert!(kept.is_none(), "no entry from {unit} on"),
                Some(found) => {
                    assert!(found.unit.0 >= unit);
                    assert!(kept.is_none_or(|kept| found.unit.0 <= kept), "{kept:?} was skipped");
                    self.check(&found, floor(&found));
                }
            },
            _ => {
                let mut snapshot = self.table.snapshot(UnitIndex(unit));
                let found: Vec<Entry> = snapshot.by_ref().collect();
                let until = snapshot.until().map_or(UNITS, |until| until.0.min(UNITS));
                for unit in (unit..until).filter(|unit| is_kept(*unit)) {
                    assert!(found.iter().any(|entry| entry.unit.0 == unit), "{unit} was skipped");
                }
                assert!(found.is_sorted_by(|a, b| a.unit < b.unit));
                found.iter().for_each(|found| self.check(found, floor(found)));
            }
        }
    }
}

/// One run: a writer and readers, each with a few operations.
fn run(variant: Variant) {
    let max_entries = UNITS as usize;
    let (table, mut writer) = Table::new(words(Table::<Words>::words(max_entries)), max_entries);
    let queues = if variant == Variant::OneQueue { 1 } else { READERS };
    let grace =
        Grace { readers: Readers::new(words(Readers::<Words>::words(queues)), queues), variant };
    let oracle = || (0..UNITS).map(|_| AtomicU32::new(0)).collect();
    let world = Arc::new(World { table, grace, begun: oracle(), completed: oracle() });
    for unit in (0..UNITS).filter(|unit| is_kept(*unit)) {
        world.write(&mut writer, unit, 1, true);
    }
    let readers: Vec<_> = (0..READERS)
        .map(|queue| {
            let world = world.clone();
            thread::spawn(move || {
                for _ in 0..LOOKUPS {
                    if world.grace.readers.with(queue, || world.read()).is_none() {
                        world.read();
                    }
                }
            })
        })
        .collect();
    let mut random = thread_rng();
    for version in 2..2 + CHANGES {
        let unit = random.gen_range(0..UNITS);
        let puts = is_kept(unit) || random.gen_range(0..2) == 0;
        world.write(&mut writer, unit, version, puts);
        if random.gen_range(0..3) == 0 {
            writer.reclaim(&world.table, &world.grace);
        }
    }
    for reader in readers {
        reader.join().expect("a reader failed");
    }
}

fn explore(scheduler: impl Scheduler + 'static, variant: Variant) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(10_000_000);
    Runner::new(scheduler, config).run(move || run(variant));
}

/// How many schedules a seed's exploration is given.
const SCHEDULES: usize = 2_000;
/// Changes of priority in a schedule: where a thread is left standing in the midst of something.
const DEPTH: usize = 8;

#[test]
fn readers_beside_a_writer() {
    println!("seed 7, {SCHEDULES} random schedules, {SCHEDULES} by priorities");
    explore(RandomScheduler::new_from_seed(7, SCHEDULES), Variant::Sound);
    explore(PctScheduler::new_from_seed(7, DEPTH, SCHEDULES), Variant::Sound);
}

fn is_caught(variant: Variant) {
    let seeds = (0..8u64).find(|seed| {
        let scheduler = PctScheduler::new_from_seed(*seed, DEPTH, SCHEDULES);
        catch_unwind(AssertUnwindSafe(|| explore(scheduler, variant))).is_err()
    });
    println!("{variant:?}: caught with seed {seeds:?} of {SCHEDULES} schedules each");
    assert!(seeds.is_some(), "{variant:?} was not caught");
}

#[test]
fn a_leaf_reused_without_grace_is_caught() {
    is_caught(Variant::NoGrace);
}

#[test]
fn a_grace_that_misses_a_queue_is_caught() {
    is_caught(Variant::OneQueue);
}
