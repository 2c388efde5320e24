// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Commands at a modelled disk and how they end.

use dmremap_core::{Class, Millis};

use crate::content::{Content, Version};

/// Names a command until it is answered.
pub type CommandId = u32;

/// Who sent a command: what the cache loses is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The piece of a request.
    Client,
    /// An operation of the recovery machine, of open or of format.
    Recovery,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read.
    Read {
        /// First sector.
        sector: u64,
        /// Length.
        sectors: u32,
    },
    /// Write; write-zeroes and discard come as what they leave behind.
    Write {
        /// First sector.
        sector: u64,
        /// One content a sector.
        data: Vec<Content>,
        /// On the medium before the answer.
        fua: bool,
    },
    /// Flush.
    Flush,
}

impl Command {
    /// First sector and length; a flush has none.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        match self {
            Command::Read { sector, sectors } => (*sector, u64::from(*sectors)),
            Command::Write { sector, data, .. } => (*sector, data.len() as u64),
            Command::Flush => (0, 0),
        }
    }
}

/// How a command ended: what was read (nothing for others), or an error.
pub type Ending = Result<Vec<Content>, Class>;

/// Where a command is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Sent, no effect yet.
    Sent,
    /// It took effect; the answer is under way.
    Done(Ending),
}

/// A command at the disk.
#[derive(Clone, Debug)]
pub struct Inflight {
    /// What it does.
    pub command: Command,
    /// Who sent it.
    pub origin: Origin,
    /// Where it is.
    pub stage: Stage,
    /// Nothing happens to it until it is released.
    pub held: bool,
    /// Not before this time.
    pub due: Millis,
    /// When it was sent.
    pub sent_at: Millis,
    /// Its place in the order of everything sent and answered at this disk.
    pub sent: u64,
}

/// A write that was answered and is lost: the oracle is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it lay on the device.
    pub at: u64,
    /// The volume's sector.
    pub sector: u64,
    /// The write.
    pub version: Version,
    /// Who wrote it there.
    pub origin: Origin,
}

/// What a disk has done and suffered.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskCounts {
    /// Commands answered.
    pub commands: u64,
    /// Commands answered with an error.
    pub errors: u64,
    /// Writes that vanished or were misplaced with success.
    pub lies: u64,
    /// Flushes that failed.
    pub failed_flushes: u64,
    /// Sectors whose cached content was lost.
    pub lost: u64,
    /// Cached sectors of which a power cut kept the older content.
    pub cut: u64,
}

/// A cached content of a sector.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) content: Content,
    pub(crate) by: CommandId,
    pub(crate) origin: Origin,
    pub(crate) answered: Option<u64>,
    /// Readable, and never written back.
    pub(crate) forgotten: bool,
}
