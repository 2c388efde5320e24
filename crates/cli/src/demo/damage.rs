// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The bad areas of the demo's disk, as a ddrescue mapfile with the words of the engine's faulty
//! wrapper, and what is going to be written over them.
//!
//! Three kinds in turn: *persistent* (neither read nor written, whatever is tried), *write-only*
//! (still reads, writes fail) and *healing on rewrite* (unreadable until somebody writes there). As
//! on real disks they come in clusters. The same image has the same areas in every run.

use super::model::{Model, SECTOR};

/// Bad runs in the disk.
pub const RUNS: u64 = 66;

/// From the start of one run to the next, at least; a write over a run and the healthy write beside
/// it lie within, so that no two writes overlap.
const DISTANCE: u64 = 256;

/// How a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither read nor written.
    Persistent,
    /// Reads are good, writes fail.
    WriteOnly,
    /// Reads fail until it is written.
    Healing,
}

/// A run of bad sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First sector.
    pub sector: u64,
    /// Length, 1 to 20.
    pub sectors: u64,
    /// How it fails.
    pub kind: Kind,
}

/// A write of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First sector.
    pub sector: u64,
    /// Whole sectors.
    pub bytes: Vec<u8>,
}

/// A small generator of numbers (splitmix64): the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Bad runs for a disk of `sectors`, ascending, in clusters of three.
pub fn runs(sectors: u64) -> Vec<Run> {
    let mut numbers = Numbers(2026);
    let clusters = RUNS / 3;
    let stride = sectors / (clusters + 1);
    let mut found = Vec::new();
    for cluster in 0..clusters {
        let room = stride.saturating_sub(4 * DISTANCE);
        let start = DISTANCE + cluster * stride + numbers.below(room);
        for (index, kind) in
            [Kind::WriteOnly, Kind::Persistent, Kind::Healing].into_iter().enumerate()
        {
            // Reading a large bad area takes a real disk long: the unreadable ones are short.
            let longest = if kind == Kind::WriteOnly { 20 } else { 4 };
            let sector = start + index as u64 * DISTANCE + numbers.below(32);
            found.push(Run { sector, sectors: 1 + numbers.below(longest), kind });
        }
    }
    found
}

/// The mapfile that declares `runs` bad.
pub fn mapfile(runs: &[Run], sectors: u64) -> String {
    let mut text = String::from("# The bad areas of the demo's disk.\n0x0 + 1\n");
    let mut at = 0;
    for run in runs {
        let start = run.sector * SECTOR;
        let len = run.sectors * SECTOR;
        let words = match run.kind {
            Kind::Persistent => "both medium",
            Kind::WriteOnly => "write io",
            Kind::Healing => "heal medium",
        };
        text += &format!("{at:#x} {:#x} +\n", start - at);
        text += &format!("{start:#x} {len:#x} - # {words}\n");
        at = start + len;
    }
    text + &format!("{at:#x} {:#x} +\n", sectors * SECTOR - at)
}

/// Tells the model which reads may fail.
pub fn declare(runs: &[Run], model: &mut Model) {
    for run in runs.iter().filter(|run| run.kind != Kind::WriteOnly) {
        model.declare_unreadable(run.sector, run.sectors);
    }
}

/// Two writes a run: one over the run with some of its neighbours, one of healthy sectors behind.
pub fn edits(runs: &[Run], round: u64) -> Vec<Edit> {
    let mut numbers = Numbers(round);
    let mut edits = Vec::new();
    for run in runs {
        let before = numbers.below(6).min(run.sector);
        let (sector, sectors) = (run.sector - before, before + run.sectors + numbers.below(6));
        edits.push(Edit { sector, bytes: text(sector, sectors, round) });
        let (sector, sectors) = (run.sector + 64, 1 + numbers.below(64));
        edits.push(Edit { sector, bytes: text(sector, sectors, round) });
    }
    edits
}

/// Sectors that say which they are, no two alike.
fn text(sector: u64, sectors: u64, round: u64) -> Vec<u8> {
    (sector..sector + sectors)
        .flat_map(|at| {
            let line = format!("sector {at}, written in round {round}\n");
            let mut bytes = line.into_bytes().repeat(SECTOR as usize / 16);
            bytes.truncate(SECTOR as usize);
            bytes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 32_000; // the smallest image, 16 MB

    #[test]
    fn there_are_enough_runs_of_every_kind_apart_from_each_other() {
        for sectors in [SECTORS, 400_000, 4_000_000] {
            let runs = runs(sectors);
            assert!(runs.len() >= 50);
            for kind in [Kind::Persistent, Kind::WriteOnly, Kind::Healing] {
                assert!(runs.iter().filter(|run| run.kind == kind).count() >= 16);
            }
            assert!(runs.iter().all(|run| run.sector + 128 < sectors));
            assert!(runs.windows(2).all(|two| two[0].sector + 150 < two[1].sector));
        }
    }

    #[test]
    fn edits_cover_the_runs_and_never_overlap() {
        let runs = runs(SECTORS);
        let mut edits = edits(&runs, 1);
        for run in &runs {
            let covers = |e: &Edit| {
                e.sector <= run.sector
                    && e.sector + e.bytes.len() as u64 / SECTOR >= run.sector + run.sectors
            };
            assert!(edits.iter().any(covers));
        }
        edits.sort_by_key(|edit| edit.sector);
        for two in edits.windows(2) {
            assert!(two[0].sector + two[0].bytes.len() as u64 / SECTOR <= two[1].sector);
        }
    }

    #[test]
    fn the_map_covers_the_disk_and_the_engine_reads_it() {
        let runs = runs(SECTORS);
        let text = mapfile(&runs, SECTORS);
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("map");
        std::fs::write(&path, &text).unwrap();
        let disk = dmremap_engine::MemoryDevice::new(SECTORS);
        let faulty = dmremap_engine::Faulty::new(
            std::sync::Arc::new(disk),
            "demo",
            &path,
            dmremap_engine::Mode::default(),
            1024,
        )
        .unwrap();
        let device: &dyn dmremap_engine::Device = &faulty;
        let mut sector = [0; SECTOR as usize];
        for run in &runs {
            let (inside, behind) = (run.sector * SECTOR, (run.sector + run.sectors) * SECTOR);
            assert_eq!(device.read_at(&mut sector, inside).is_ok(), run.kind == Kind::WriteOnly);
            assert_eq!(device.write_at(&sector, inside, false).is_ok(), run.kind == Kind::Healing);
            assert!(device.read_at(&mut sector, behind).is_ok());
        }
    }
}
