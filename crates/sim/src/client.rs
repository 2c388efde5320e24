// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is asked of the volume: a random load that keeps coming back to few units, overlaps
//! itself, and comes over several connections.

use dmremap_core::Kind;
use dmremap_core::message::MarkKind;

use crate::rng::Rng;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Data in or out.
    Io {
        /// What to do.
        kind: Kind,
        /// First sector.
        sector: u64,
        /// Length, whole blocks.
        sectors: u32,
        /// FUA.
        fua: bool,
        /// RAHEAD or FAILFAST.
        hasty: bool,
    },
    /// Flush.
    Flush,
    /// Move the unit of this sector to the spare.
    Remap(u64),
    /// Bring the unit of this sector home.
    Unremap(u64),
    /// Message `restore`.
    Restore,
    /// Read the unit of this sector where it lives.
    Verify(u64),
    /// Say that sectors of main are bad.
    Mark {
        /// In which way.
        kind: MarkKind,
        /// First sector.
        sector: u64,
        /// Length, whole blocks.
        sectors: u32,
    },
    /// Write down what is known.
    Save,
}

/// How often each kind of request comes, in parts of their sum.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Reads.
    pub read: u64,
    /// Writes.
    pub write: u64,
    /// Write-zeroes.
    pub zeroes: u64,
    /// Discards.
    pub discard: u64,
    /// Flushes.
    pub flush: u64,
    /// remap, unremap, verify, save.
    pub message: u64,
    /// mark: what is marked is lost, so not in every run.
    pub mark: u64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { read: 40, write: 44, zeroes: 3, discard: 2, flush: 8, message: 3, mark: 0 }
    }
}

/// The load.
#[derive(Clone, Debug)]
pub struct Client {
    /// Length of the volume in sectors.
    pub sectors: u64,
    /// Sectors in a block.
    pub block_sectors: u64,
    /// Connections.
    pub connections: usize,
    /// Requests under way on each at most.
    pub depth: usize,
    /// First units of the places it keeps coming back to, each a few units long.
    pub hot: Vec<u64>,
    /// The mix.
    pub weights: Weights,
    /// Longest request in units.
    pub longest_units: u64,
}

impl Client {
    /// A load for a volume of `sectors` in blocks of `block_sectors`: the hot places are random,
    /// the last (perhaps short) unit and a bucket's edge among them.
    #[must_use]
    pub fn new(sectors: u64, block_sectors: u64, rng: &mut Rng) -> Client {
        let units = sectors.div_ceil(8);
        let mut hot: Vec<u64> = (0..rng.range(2, 6)).map(|_| rng.below(units)).collect();
        hot.push(units.saturating_sub(2));
        if units > 256 {
            hot.push(255);
        }
        Client {
            sectors,
            block_sectors,
            connections: rng.range(1, 3) as usize,
            depth: rng.range(1, 6) as usize,
            hot,
            weights: Weights::default(),
            longest_units: *rng.pick(&[1, 2, 4, 12]),
        }
    }

    /// The next request.
    pub fn ask(&self, rng: &mut Rng) -> Ask {
        let w = &self.weights;
        let parts = [w.read, w.write, w.zeroes, w.discard, w.flush, w.message, w.mark];
        let mut at = rng.below(parts.iter().sum());
        let mut which = 0;
        while which < parts.len() - 1 && at >= parts[which] {
            at -= parts[which];
            which += 1;
        }
        let kind = match which {
            0 => Kind::Read,
            1 => Kind::Write,
            2 => Kind::WriteZeroes,
            3 => Kind::Discard,
            4 => return Ask::Flush,
            5 => return self.message(rng),
            _ => {
                let (sector, sectors) = self.span(rng);
                let kind = if rng.one_in(3) { MarkKind::Pending } else { MarkKind::Gone };
                return Ask::Mark { kind, sector, sectors };
            }
        };
        let (sector, sectors) = self.span(rng);
        Ask::Io {
            kind,
            sector,
            sectors,
            fua: kind != Kind::Read && kind != Kind::Discard && rng.one_in(8),
            hasty: rng.one_in(24),
        }
    }

    fn message(&self, rng: &mut Rng) -> Ask {
        let (sector, _) = self.span(rng);
        match rng.below(16) {
            0..6 => Ask::Remap(sector),
            6..13 => Ask::Unremap(sector),
            13 => Ask::Verify(sector),
            14 => Ask::Restore,
            _ => Ask::Save,
        }
    }

    /// Whole blocks, mostly in and about a hot place.
    fn span(&self, rng: &mut Rng) -> (u64, u32) {
        let blocks = self.sectors / self.block_sectors;
        let first = if rng.one_in(12) {
            rng.below(blocks)
        } else {
            let unit = *rng.pick(&self.hot) + rng.below(3);
            (unit * 8 / self.block_sectors + rng.below(8 / self.block_sectors)).min(blocks - 1)
        };
        let longest = if rng.one_in(6) { self.longest_units * 8 / self.block_sectors } else { 4 };
        let count = rng.range(1, longest.max(1)).min(blocks - first);
        (first * self.block_sectors, (count * self.block_sectors) as u32)
    }
}
