// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices as sector arrays, and the rules by which they misbehave.

use std::ops::Range;

use dmremap_core::pieces::Ticket;
use dmremap_core::{Class, Dev, OpId, Piece};

/// One sector.
pub type Sector = [u8; 512];

/// Reads, by the client or the machine.
pub const R: u8 = 1;
/// Writes of data, by the client or the machine.
pub const W: u8 = 2;
/// Flushes.
pub const F: u8 = 4;
/// Read-backs.
pub const V: u8 = 8;
/// Reads of probes.
pub const PROBE: u8 = 16;
/// Metadata pages, read or written.
pub const PAGES: u8 = 32;

/// What becomes of an operation that a rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It fails; a write has not landed.
    Fail(Class),
    /// It fails; a write has landed all the same.
    FailLanded(Class),
    /// It is said to be good, and a write is lost.
    Lose,
    /// It stays at the device until the test lets it go.
    Hold,
    /// It is good.
    Good,
}

/// One way in which a device misbehaves.
#[derive(Clone, Debug)]
pub struct Rule {
    pub dev: Dev,
    pub kinds: u8,
    pub sectors: Range<u64>,
    /// How often it still holds.
    pub left: u32,
    /// Operations it lets pass before.
    pub skip: u32,
    pub how: How,
}

impl Rule {
    /// Operations of these kinds fail with EIO, everywhere, for ever.
    pub fn new(dev: Dev, kinds: u8) -> Rule {
        let how = How::Fail(Class::Io);
        Rule { dev, kinds, sectors: 0..u64::MAX, left: u32::MAX, skip: 0, how }
    }

    /// Only where they touch these sectors.
    pub fn at(self, sectors: Range<u64>) -> Rule {
        Rule { sectors, ..self }
    }

    /// Only so many of them.
    pub fn times(self, left: u32) -> Rule {
        Rule { left, ..self }
    }

    /// The first `skip` of them pass.
    pub fn after(self, skip: u32) -> Rule {
        Rule { skip, ..self }
    }

    /// In this way.
    pub fn how(self, how: How) -> Rule {
        Rule { how, ..self }
    }

    /// With a medium error.
    pub fn medium(self) -> Rule {
        self.how(How::Fail(Class::Medium))
    }
}

/// Whose operation it is.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    /// A piece's, with its place in the driver's list.
    Part(usize, Ticket, Piece),
    /// The machine's.
    Machine(OpId, Place),
}

/// Where the machine's operation takes its data from or puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    None,
    /// Unit buffer and offset.
    Buffer(usize, usize),
    /// Handed in with the answer.
    Page,
}

/// An operation at a device.
#[derive(Clone, Debug)]
pub struct Io {
    pub dev: Dev,
    pub kind: u8,
    pub write: bool,
    pub sector: u64,
    pub sectors: u64,
    pub data: Vec<Sector>,
    pub sent: u64,
    pub how: How,
    pub owner: Owner,
}

/// The sectors of a run of bytes.
pub fn sectors_of(bytes: &[u8]) -> Vec<Sector> {
    bytes
        .chunks(512)
        .map(|chunk| {
            let mut sector = [0; 512];
            sector[..chunk.len()].copy_from_slice(chunk);
            sector
        })
        .collect()
}
