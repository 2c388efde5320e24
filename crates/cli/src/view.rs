// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume as `export` and `import` see it: its size and what does not live on main, whether it
//! runs or is read from its spare.

use crate::report::Run;

/// A volume and all its runs, ascending.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name; from the device, so to be escaped where it is shown.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Sectors.
    pub size_sectors: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Units with an entry.
    pub entries: u64,
    /// Spare units that failed: each has a slot of the table too.
    pub quarantined: u64,
    /// Slots of the table.
    pub max_entries: u64,
    /// What has moved, is gone or is pending.
    pub runs: Vec<Run>,
}

impl View {
    /// What is not to be read: the runs that are gone or pending.
    pub fn bad(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.state != "remapped")
    }
}
