// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table against `BTreeMap`, single-threaded. Readers beside a writer: `tests/model.rs`.
//!
//! Invariants checked: after every step the table says of every unit asked what the map says;
//! a writer that said it was ready never fails; leaves are neither lost nor used twice; the arena
//! never runs short whatever the order of changes; a leaf whose grace has not passed is not used.

extern crate std;

use core::cell::Cell;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;
use std::{eprintln, println};

use dmremap_format::{BlockState, SlotIndex, SpareUnit, States, UnitIndex};

use crate::sync::atomic::AtomicU64;
use crate::table::{Entry, LookupGrace, Table};
use crate::table_writer::{MAX_CHANGES, TableWriter};

type Words = Box<[AtomicU64]>;

/// A grace the test ends by hand.
#[derive(Default)]
struct ByHand {
    started: Cell<u64>,
    passed: Cell<u64>,
}

impl ByHand {
    fn end(&self) {
        self.passed.set(self.started.get());
    }
}

impl LookupGrace for ByHand {
    fn start(&self) -> u64 {
        self.started.set(self.started.get() + 1);
        self.started.get()
    }

    fn passed(&self, token: u64) -> bool {
        token <= self.passed.get()
    }
}

/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn table(max_entries: usize) -> (Table<Words>, TableWriter) {
    let words = Table::<Words>::words(max_entries);
    Table::new((0..words).map(|_| AtomicU64::new(0)).collect(), max_entries)
}

fn entry(unit: u64, salt: u64) -> Entry {
    let mut random = Random(unit ^ (salt << 48));
    let spare = random.below(1 << 40).min((1 << 40) - 2);
    Entry {
        unit: UnitIndex(unit),
        spare: (random.below(8) != 0).then_some(SpareUnit(spare)),
        member: random.below(8) as u8,
        states: States::ALL_MAIN.with(random.next() as u8, BlockState::Spare),
        slot: SlotIndex(random.below(1 << 24) as u32),
    }
}

/// The table with the map it must equal, and a grace that ends at every reclaim.
struct Pair {
    table: Table<Words>,
    writer: TableWriter,
    map: BTreeMap<u64, Entry>,
    grace: ByHand,
}

impl Pair {
    fn new(max_entries: usize) -> Pair {
        let (table, writer) = table(max_entries);
        Pair { table, writer, map: BTreeMap::new(), grace: ByHand::default() }
    }

    /// Does what a driver does when the writer is not ready; a few turns must be enough.
    fn make_ready(&mut self, changes: usize) {
        for _ in 0..4 {
            if self.writer.ready(changes) {
                return;
            }
            self.grace.end();
            self.writer.reclaim(&self.table, &self.grace);
        }
        assert!(self.writer.ready(changes), "not ready after 4 reclaims: {:?}", self.writer);
    }

    fn put(&mut self, entry: Entry) {
        assert!(self.writer.put(&self.table, entry, &self.grace), "put failed: {:?}", self.writer);
        self.map.insert(entry.unit.0, entry);
    }

    fn remove(&mut self, unit: u64) {
        let done = self.writer.remove(&self.table, UnitIndex(unit), &self.grace);
        assert!(done, "remove failed: {:?}", self.writer);
        self.map.remove(&unit);
    }

    fn check_at(&self, unit: u64) {
        assert_eq!(self.table.get(UnitIndex(unit)), self.map.get(&unit).copied(), "get {unit}");
        let next = self.map.range(unit..).next().map(|(_, entry)| *entry);
        assert_eq!(self.table.next(UnitIndex(unit)), next, "next from {unit}");
        assert_eq!(self.table.len(), self.map.len());
    }

    fn check_all(&self) {
        let mut seen = Vec::new();
        let mut from = Some(UnitIndex(0));
        while let Some(unit) = from {
            let mut snapshot = self.table.snapshot(unit);
            seen.extend(snapshot.by_ref());
            from = snapshot.until();
            assert!(from.is_none_or(|until| until > unit), "a snapshot of nothing");
        }
        assert!(seen.iter().copied().eq(self.map.values().copied()), "the whole table");
        for unit in self.map.keys().copied() {
            self.check_at(unit);
            self.check_at(unit.wrapping_add(1));
            self.check_at(unit.saturating_sub(1));
        }
    }
}

/// Fills a table with these units, one ready writer a batch, and empties it in another order.
fn fill_and_empty(name: &str, units: &[u64]) {
    let mut pair = Pair::new(units.len());
    for (count, batch) in units.chunks(MAX_CHANGES).enumerate() {
        pair.make_ready(batch.len());
        for unit in batch {
            pair.put(entry(*unit, count as u64));
        }
        pair.check_at(batch[0]);
    }
    pair.check_all();
    println!("{name}: {} entries, {:?}", pair.table.len(), pair.writer);
    let mut random = Random(units.len() as u64);
    let mut left: Vec<u64> = units.to_vec();
    while !left.is_empty() {
        pair.make_ready(1);
        let unit = left.swap_remove(random.below(left.len() as u64) as usize);
        pair.remove(unit);
        pair.check_at(unit);
    }
    assert!(pair.table.is_empty());
    assert_eq!(pair.table.next(UnitIndex(0)), None);
}

const MANY: u64 = 100_000;

#[test]
fn ascending() {
    let units: Vec<u64> = (0..MANY).map(|unit| unit + 77).collect();
    fill_and_empty("ascending", &units);
}

#[test]
fn descending() {
    let units: Vec<u64> = (0..MANY).rev().map(|unit| unit * 3).collect();
    fill_and_empty("descending", &units);
}

#[test]
fn random() {
    let mut random = Random(1);
    let mut units: Vec<u64> = (0..MANY).map(|_| random.below(1 << 44)).collect();
    let mut seen = std::collections::HashSet::new();
    units.retain(|unit| seen.insert(*unit));
    fill_and_empty("random", &units);
}

/// Runs of neighbours at random places, as bad areas of a disk come.
#[test]
fn clustered() {
    let mut random = Random(2);
    let mut units = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while units.len() < MANY as usize {
        let first = random.below(1 << 36);
        let run = 1 + random.below(200);
        units.extend((first..first + run).filter(|unit| seen.insert(*unit)));
    }
    fill_and_empty("clustered", &units);
}

/// Short key ranges, so that puts, replacements and removals meet; several tables, every seed.
#[test]
fn mixed() {
    for seed in 0..30u64 {
        let mut random = Random(seed);
        let range = [300, 2_000, 20_000][seed as usize % 3];
        let max_entries = range as usize;
        let mut pair = Pair::new(max_entries);
        let mut batch = 0usize;
        for step in 0..6_000u64 {
            if batch == 0 {
                batch = 1 + random.below(MAX_CHANGES as u64) as usize;
                pair.make_ready(batch);
            }
            batch -= 1;
            // Phases of growing and of shrinking.
            let grows = random.below(10) < if (step / 1_500) % 2 == 0 { 8 } else { 3 };
            let unit = random.below(range);
            if grows {
                pair.put(entry(unit, step));
            } else {
                pair.remove(unit);
            }
            pair.check_at(unit);
            pair.check_at(random.below(range));
        }
        eprintln!("seed {seed}: {} entries", pair.map.len());
        pair.check_all();
    }
}

/// What `ready` promises holds to the last change, with no grace ever ending; then it says no, and
/// a put that goes on all the same fails at some time and changes nothing.
fn ready_is_kept_without_any_grace(max_entries: usize, mut unit: impl FnMut() -> u64) {
    let mut pair = Pair::new(max_entries);
    let mut puts = 0;
    while pair.writer.ready(1) {
        pair.put(entry(unit(), puts));
        puts += 1;
    }
    assert!(puts as usize >= MAX_CHANGES, "{puts}");
    let refused = loop {
        let unit = unit();
        if !pair.writer.put(&pair.table, entry(unit, puts), &pair.grace) {
            break unit;
        }
        pair.map.insert(unit, entry(unit, puts));
    };
    assert_eq!(pair.table.get(UnitIndex(refused)), None);
    pair.check_all();
    // And it says yes again.
    pair.make_ready(MAX_CHANGES);
    pair.check_all();
}

#[test]
fn ready_is_kept_for_scattered_units() {
    let mut random = Random(3);
    ready_is_kept_without_any_grace(5_000, || random.below(1 << 30));
}

/// All in one slot of the root, with so many leaves that it is the root that is short.
#[test]
fn ready_is_kept_for_a_run() {
    let mut unit = 1_000;
    ready_is_kept_without_any_grace(200_000, || {
        unit += 1;
        unit
    });
}

/// A snapshot stays what it was until its grace ends, whatever is changed beside it.
#[test]
fn a_snapshot_does_not_change() {
    let mut pair = Pair::new(1_000);
    for unit in 0..600 {
        pair.make_ready(1);
        pair.put(entry(unit * 2, 1));
    }
    let Pair { table, writer, map, grace } = &mut pair;
    let snapshot = table.snapshot(UnitIndex(0));
    let until = snapshot.until().expect("there are several leaves").0;
    let mut changes = 0u64;
    while writer.ready(1) && changes < 10_000 {
        writer.reclaim(table, grace);
        let unit = changes % until;
        assert!(writer.put(table, entry(unit, 2), grace));
        changes += 1;
    }
    assert!(changes > 50, "{changes}");
    let expected = map.range(..until).map(|(_, entry)| *entry);
    assert!(snapshot.eq(expected), "the leaf was written again");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let (table, mut writer) = table(10);
    let grace = ByHand::default();
    let good = Entry {
        unit: UnitIndex((1 << 44) - 1),
        spare: Some(SpareUnit((1 << 40) - 2)),
        member: 7,
        states: States::ALL_MAIN.with(0xff, BlockState::Gone),
        slot: SlotIndex((1 << 24) - 1),
    };
    assert!(writer.put(&table, good, &grace));
    assert_eq!(table.get(good.unit), Some(good));
    let bad = [
        Entry { unit: UnitIndex(1 << 44), ..good },
        Entry { spare: Some(SpareUnit((1 << 40) - 1)), ..good },
        Entry { member: 8, ..good },
        Entry { slot: SlotIndex(1 << 24), ..good },
    ];
    for entry in bad {
        assert!(!writer.put(&table, entry, &grace), "{entry:?}");
    }
    assert_eq!(table.get(UnitIndex(u64::MAX)), None);
    assert_eq!(table.next(UnitIndex(u64::MAX)), None);
    assert_eq!(table.len(), 1);
}

#[test]
fn too_few_words_make_a_table_that_is_never_ready() {
    let words = Table::<Words>::words(100) - 1;
    let words: Words = (0..words).map(|_| AtomicU64::new(0)).collect();
    let (table, mut writer) = Table::new(words, 100);
    let grace = ByHand::default();
    assert!(!writer.ready(0));
    assert!(!writer.put(&table, entry(1, 1), &grace));
    writer.reclaim(&table, &grace);
    assert!(writer.remove(&table, UnitIndex(1), &grace));
    assert_eq!(table.next(UnitIndex(0)), None);
}

/// 28 bytes an entry and 512 KiB; with the other maps this keeps the volume below 32 and 1 MiB.
#[test]
fn memory() {
    for max_entries in [65_536usize, 262_144, 1_000_000, 1 << 24] {
        let bytes = Table::<Words>::words(max_entries) * 8;
        println!("{max_entries} entries: {bytes} bytes, {:.2} each", per(bytes, max_entries));
        assert!(bytes <= 28 * max_entries + (512 << 10));
    }
}

fn per(bytes: usize, entries: usize) -> f64 {
    bytes as f64 / entries as f64
}

/// What lies below the first key of the root goes to its first slot, however much it is.
#[test]
fn refilled_from_below() {
    let mut pair = Pair::new(8_000);
    for unit in 0..2_000 {
        pair.make_ready(1);
        pair.put(entry(unit * 4, 1));
    }
    for unit in 0..1_500 {
        pair.make_ready(1);
        pair.remove(unit * 4);
    }
    // Denser than before, so that the root is copied while its first slots are empty.
    for unit in (0..8_000).rev() {
        pair.make_ready(1);
        pair.put(entry(unit, 2));
        pair.check_at(unit);
    }
    pair.check_all();
}

/// The order that leaves the thinnest leaves: fill, keep one entry in so many, fill elsewhere.
#[test]
fn thin_leaves_are_merged() {
    let max_entries = 20_000u64;
    let mut pair = Pair::new(max_entries as usize);
    for round in 0..6u64 {
        let base = round << 32;
        let mut unit = 0;
        while (pair.map.len() as u64) < max_entries {
            pair.make_ready(1);
            pair.put(entry(base + unit * 5 % 999_983, round));
            unit += 1;
        }
        let thinned: Vec<u64> = pair.map.range(base..).map(|(unit, _)| *unit).collect();
        for (index, unit) in thinned.into_iter().enumerate() {
            if index % 64 != 0 {
                pair.make_ready(1);
                pair.remove(unit);
            }
        }
        pair.check_all();
    }
}
