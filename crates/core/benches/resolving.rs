// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a lookup costs, and what an entry weighs. Run it by `cargo xtask bench core`.
//!
//! Lookups go to places that a generator draws, in batches; a batch gives one figure. Those with a
//! goal do not wait for each other, as requests do not; *one after the other* each place depends on
//! the answer before it. Half of main is clean whatever the table holds; the other half holds the
//! entries, far apart or in clusters of a hundred units, put in in a mixed order.
//!
//! Every figure is a line `bench`, name, unit, goal, samples, with tabs between.

#[path = "../tests/memory.rs"]
mod memory;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use dmremap_core::Kind;
use dmremap_core::marks::{Busy, Pending};
use dmremap_core::path::route;
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::{Geometry, Place, Shared, SharedParts};
use dmremap_core::table::{Entry, Table};
use dmremap_format::{BlockState, SlotIndex, SpareUnit, States, UnitIndex};

type Words = Box<[AtomicU64]>;

/// 4 TiB.
const MAIN_SECTORS: u64 = 1 << 33;
/// The entries' half.
const HALF_UNITS: u64 = MAIN_SECTORS / 8 / 2;
/// Many short batches: one that lost the processor in its midst does not move the median.
const BATCHES: usize = 201;
const WARM_UP: usize = 20;
const LOOKUPS: u64 = 10_000;
const CLUSTER: u64 = 100;

/// How the entries lie.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    Apart,
    Clusters,
}

/// A volume with entries, and where they are.
struct Volume {
    shared: Shared<Words>,
    entries: u64,
    spread: Spread,
    /// Units from one entry, or cluster, to the next.
    stride: u64,
}

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Volume {
    fn new(entries: u64, spread: Spread) -> Volume {
        let room = (entries as usize).max(1_000);
        let (table, mut writer) = Table::new(words(Table::<Words>::words(room)), room);
        let shared = Shared::new(SharedParts {
            geometry: Geometry { main_sectors: MAIN_SECTORS, block_sectors: 1, data_start: 8_192 },
            table,
            readers: Readers::new(words(Readers::<Words>::words(1)), 1),
            region: words(RegionMap::<Words>::words()),
            busy: words(Busy::<Words>::words()),
            pending: words(Pending::<Words>::words()),
            pieces: words(Pieces::<Words>::words(1)),
            paths: words(Shared::<Words>::path_words(1)),
            queues: 1,
        });
        let clusters = if spread == Spread::Clusters { entries / CLUSTER + 1 } else { entries };
        let volume = Volume { shared, entries, spread, stride: HALF_UNITS / clusters.max(1) };
        // A mixed order: multiples of an odd number, taken modulo a power of two.
        let turns = entries.next_power_of_two();
        let order = (0..turns).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & (turns - 1));
        for index in order.filter(|index| *index < entries) {
            let unit = volume.unit(index);
            volume.shared.region.mark(unit);
            while !writer.ready(1) {
                writer.reclaim(&volume.shared.table, &volume.shared.readers);
            }
            let entry = Entry {
                unit,
                spare: Some(SpareUnit(index)),
                member: 0,
                states: States::ALL_MAIN.with(0xff, BlockState::Spare),
                slot: SlotIndex(index as u32),
            };
            assert!(writer.put(&volume.shared.table, entry, &volume.shared.readers));
        }
        assert_eq!(volume.shared.table.len() as u64, entries);
        volume
    }

    /// The unit of entry `index`. Without a division, since this is measured too.
    fn unit(&self, index: u64) -> UnitIndex {
        let (cluster, within) = match self.spread {
            Spread::Apart => (index, 0),
            Spread::Clusters => (index / CLUSTER, index % CLUSTER),
        };
        let jitter = mixed(cluster) & 0xff;
        UnitIndex(cluster * self.stride + jitter + within)
    }

    /// The unit of an entry chosen by a drawn number of 40 bits.
    fn drawn(&self, drawn: u64) -> UnitIndex {
        self.unit((drawn * self.entries) >> 40)
    }
}

fn mixed(seed: u64) -> u64 {
    let x = (seed ^ (seed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

/// One figure a batch: nanoseconds for one call of `lookup`, which is handed a drawn number and
/// gives one that is zero. `chained`: the next number is drawn when it is known.
fn measure(name: &str, goal: &str, chained: bool, mut lookup: impl FnMut(u64) -> u64) {
    let mut samples = String::new();
    let mut state = 0x1234_5678_9ABC_DEF1u64;
    for batch in 0..WARM_UP + BATCHES {
        let start = Instant::now();
        for _ in 0..LOOKUPS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let answer = black_box(lookup(state >> 24));
            if chained {
                state ^= answer;
            }
        }
        let ns = start.elapsed().as_nanos() as f64 / LOOKUPS as f64;
        if batch >= WARM_UP {
            samples += &format!(" {ns:.2}");
        }
    }
    println!("bench\t{name}\tns\t{goal}\t{}", samples.trim_start());
}

/// The generator by itself: what every figure contains besides the lookup.
fn generator() {
    measure("drawing a number, by itself", "", false, |drawn| drawn & 1);
    let volume = Volume::new(1_000, Spread::Clusters);
    measure("drawing an entry, by itself", "", false, |drawn| volume.drawn(drawn).0);
}

fn clean(volume: &Volume, name: &str) {
    let half = HALF_UNITS * 8;
    let shared = &volume.shared;
    let look = |drawn: u64| shared.resolve(half + ((drawn % half) & !7), 8).sectors ^ 8;
    measure(&format!("resolve, clean, {name}"), "<= 5", false, look);
    let submit = |drawn: u64| {
        let sector = half + ((drawn % half) & !7);
        let ticket = shared.pieces.begin(0, sector, false);
        let found = shared.readers.with(0, || route(shared, Kind::Read, sector, 8));
        shared.count_path(0, true);
        shared.pieces.end(ticket);
        u64::from(found.is_none())
    };
    measure(&format!("counted, routed, uncounted, clean, {name}"), "", false, submit);
}

fn hit(volume: &Volume, name: &str, goal: &str) {
    let found = |unit: UnitIndex| {
        let run = volume.shared.resolve(unit.0 * 8, 8);
        u64::from(!matches!(run.place, Place::Spare { .. }) || run.sectors != 8)
    };
    let every = (0..volume.entries).map(|index| found(volume.unit(index)));
    assert_eq!(every.sum::<u64>(), 0, "every entry is found");
    let look = |drawn: u64| found(volume.drawn(drawn));
    measure(&format!("resolve, hit, {name}"), goal, false, look);
    measure(&format!("resolve, hit, one after the other, {name}"), "", true, look);
}

fn main() {
    let (fixed, free) = (memory::fixed_bytes(), 1 << 20);
    println!("bench\tmemory a volume, fixed\tbytes\t<= {free}\t{fixed}");
    for entries in [65_536, 1_000_000] {
        let bytes = memory::bytes_for(entries);
        let each = bytes as f64 / entries as f64;
        println!("bench\tmemory an entry, {entries} entries\tbytes\t\t{each:.2}");
        let beyond = (bytes + fixed).saturating_sub(free) as f64 / entries as f64;
        let name = format!("memory an entry, {entries} entries, beyond 1 MiB a volume");
        println!("bench\t{name}\tbytes\t<= 32\t{beyond:.2}");
    }
    generator();
    clean(&Volume::new(0, Spread::Apart), "0 entries");
    for (entries, goal) in [(65_536, "<= 100"), (1_000_000, "")] {
        for (spread, word) in [(Spread::Apart, "apart"), (Spread::Clusters, "in clusters")] {
            let volume = Volume::new(entries, spread);
            if spread == Spread::Apart {
                clean(&volume, &format!("{entries} entries"));
            }
            hit(&volume, &format!("{entries} entries {word}"), goal);
        }
    }
}
