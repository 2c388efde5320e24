// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One open volume: the real logic with its memory, and what the driver keeps for it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use dmremap_core::FlushCounts;
use dmremap_core::machine::{ClientFlush, Job, Machine, Memory};
use dmremap_core::resolve::Shared;
use dmremap_format::Layout;

use crate::content::Content;

/// Queues the fast path counts by.
pub const QUEUES: usize = 2;
/// Jobs of the machine, and unit buffers.
pub const JOBS: usize = 8;
/// Clients' flushes at one time: more than connections times depth.
pub const FLUSHES: usize = 32;

/// Connections a client may have.
pub const CONNECTIONS: usize = 4;

/// Words of the logic's memory.
pub type Words = Box<[AtomicU64]>;

/// So many zeroed words.
#[must_use]
pub fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// The machine's memory.
pub struct Ram;

impl Memory for Ram {
    type Words = Words;
    type Shared = Rc<Shared<Words>>;
    type Jobs = Vec<Job>;
    type Flushes = Vec<ClientFlush>;
    type Store = crate::opening::Pages;
}

/// An open volume.
pub struct Session {
    /// The fast path's part.
    pub shared: Rc<Shared<Words>>,
    /// The recovery machine.
    pub machine: Machine<Ram>,
    /// Places on the spare.
    pub layout: Layout,
    /// Unit buffers, eight sectors each.
    pub buffers: Vec<Vec<Content>>,
    told: [FlushCounts; CONNECTIONS],
    /// Failed reads of probes since the device was last known to be well.
    pub bad_probes: [u32; 2],
    /// Metadata I/O has failed in this session.
    pub metadata_trouble: bool,
    /// Spare units (by their first sector over 8) on which recovery's own operations failed.
    pub bad_spare_sectors: BTreeSet<u64>,
}

impl Session {
    /// A session over an opened machine.
    #[must_use]
    pub fn new(shared: Rc<Shared<Words>>, machine: Machine<Ram>, layout: Layout) -> Session {
        Session {
            shared,
            layout,
            buffers: vec![vec![Content::Blank; 8]; JOBS],
            told: [machine.flush_floor(); CONNECTIONS],
            machine,
            bad_probes: [0; 2],
            metadata_trouble: false,
            bad_spare_sectors: BTreeSet::new(),
        }
    }

    /// The queue a request is counted on.
    #[must_use]
    pub fn queue(&self, request: u64) -> usize {
        (request % QUEUES as u64) as usize
    }

    /// A client connects: it begins with the failures anybody was told of.
    pub fn connected(&mut self, connection: usize) {
        self.told[connection] = self.machine.flush_floor();
    }

    /// The failures a connection was told of.
    #[must_use]
    pub fn told(&self, connection: usize) -> FlushCounts {
        self.told[connection]
    }

    /// An error was answered to a connection.
    pub fn set_told(&mut self, connection: usize, failures: FlushCounts) {
        self.told[connection] = failures;
    }

    /// Puts contents into a unit buffer.
    pub fn fill(&mut self, buffer: u16, offset: u16, contents: &[Content]) {
        let from = usize::from(offset) / 512;
        if let Some(unit) = self.buffers.get_mut(usize::from(buffer)) {
            unit[from..from + contents.len()].clone_from_slice(contents);
        }
    }

    /// What lies in a unit buffer.
    #[must_use]
    pub fn contents(&self, buffer: u16, offset: u16, sectors: u32) -> Vec<Content> {
        let from = usize::from(offset) / 512;
        self.buffers[usize::from(buffer)][from..from + sectors as usize].to_vec()
    }

    /// Whether a unit buffer holds these contents.
    #[must_use]
    pub fn holds(&self, buffer: u16, offset: u16, contents: &[Content]) -> bool {
        let from = usize::from(offset) / 512;
        self.buffers[usize::from(buffer)][from..from + contents.len()] == *contents
    }
}
