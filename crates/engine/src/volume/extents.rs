// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What of a volume is a hole: takes no space and reads as zeros.
//!
//! A block is a hole only if main is a file with a hole there *and* nothing stands between the
//! block and main: no entry that moved it, no pending mark, no recovery that holds it, no doubt.
//! Everything else is data, gone and unreadable blocks above all: who copies must read them, and
//! meet the error.
//!
//! The order of the two looks matters: first the table, then the file. A block that the table says
//! is on main has its newest answered content there, since whatever brings a block home writes it
//! to main before the table says so, and whatever moves it away later leaves main's bytes alone:
//! the later look at the file finds data wherever an answered write had put some by the time of the
//! first look. (A write answered later, also one that is moved, came after the question was asked.)
//! The other way round a hole is seen on main while the block lives on the spare, it comes home,
//! and the table then says main: data would be told as a hole.

use dmremap_core::Dev;
use dmremap_core::pieces::BUCKET_SECTORS;
use dmremap_core::resolve::{Mark, Place};
use dmremap_format::SECTOR_BYTES;

use super::volume::Volume;

/// Looks at the table for one answer: a badly broken range takes several questions.
const MOST_LOOKS: usize = 16_384;

/// A stretch of a volume that is one hole, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Sectors.
    pub sectors: u64,
    /// It takes no space and reads as zeros. Otherwise nothing is said.
    pub hole: bool,
}

impl Volume {
    /// The extents of `sectors` sectors from `sector` on, whole blocks inside the volume: one
    /// behind the other, neighbours differ, at most `most` and at least one. They may end before
    /// the range does. Asks main's file system and may wait for it.
    #[must_use]
    pub fn extents(&self, sector: u64, sectors: u64, most: usize) -> Vec<Extent> {
        let mut extents = Extents { list: Vec::new(), most: most.max(1) };
        let (mut at, end) = (sector, sector.saturating_add(sectors));
        for _ in 0..MOST_LOOKS {
            if at >= end {
                break;
            }
            let reach = (end - at).min(BUCKET_SECTORS - at % BUCKET_SECTORS);
            let (len, on_main) = self.plain_run(at, reach);
            if !self.put_run(&mut extents, at, len, on_main) {
                break;
            }
            at += len;
        }
        extents.list
    }

    /// Whether content that was here exists nowhere any more.
    #[must_use]
    pub fn is_gone(&self, sector: u64) -> bool {
        let place = self.running.fast().lookup(|shared| shared.resolve(sector, 1).place);
        place == Some(Place::Gone)
    }

    /// The length of the first run, and whether it lies on main with nothing in between.
    fn plain_run(&self, sector: u64, sectors: u64) -> (u64, bool) {
        let found = self.running.fast().lookup(|shared| {
            let run = shared.resolve(sector, sectors);
            let plain = run.place == Place::Main && run.mark == Mark::None;
            (run.sectors, plain && !shared.is_down(Dev::Main))
        });
        let (len, plain) = found.unwrap_or((sectors, false));
        (len.clamp(1, sectors), plain)
    }

    /// Adds a run with the holes that it has; false if that is enough.
    fn put_run(&self, extents: &mut Extents, sector: u64, sectors: u64, on_main: bool) -> bool {
        let end = sector + sectors;
        let main = self.devices().first().filter(|_| on_main);
        let mut at = sector;
        while let Some(main) = main.filter(|_| at < end) {
            let Some(hole) = main.hole(at * SECTOR_BYTES, end * SECTOR_BYTES) else { break };
            let (first, last) = (hole.start / SECTOR_BYTES, hole.end / SECTOR_BYTES);
            if first < at || last <= first || last > end {
                break;
            }
            if !extents.put(first - at, false) || !extents.put(last - first, true) {
                return false;
            }
            at = last;
        }
        extents.put(end - at, false)
    }
}

struct Extents {
    list: Vec<Extent>,
    most: usize,
}

impl Extents {
    /// False if there is no room for it.
    fn put(&mut self, sectors: u64, hole: bool) -> bool {
        let full = self.list.len() >= self.most;
        match self.list.last_mut() {
            _ if sectors == 0 => true,
            Some(last) if last.hole == hole => {
                last.sectors += sectors;
                true
            }
            _ if full => false,
            _ => {
                self.list.push(Extent { sectors, hole });
                true
            }
        }
    }
}
