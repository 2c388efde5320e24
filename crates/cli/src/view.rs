// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume as `export` and `import` see it: its size and what does not live on main, whether it
//! runs or is read from its spare.

use serde_json::Value;

use crate::commands::Context;
use crate::control::client;
use crate::failure::{Class, Failure, Outcome};
use crate::report::{Run, Status};

/// Runs asked for at a time: as many as one message may ask for.
const RUNS_AT_ONCE: usize = 65_536;

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
    /// The running volume whose control socket this is. Blocks may move while it is read.
    pub fn running(control: &std::path::Path) -> Outcome<View> {
        let status: Status = parsed(client::ask(control, "status")?)?;
        let mut runs: Vec<Run> = Vec::new();
        let mut from = 0;
        while from < status.size_sectors {
            let line = format!("list {from} {RUNS_AT_ONCE}");
            let more: Vec<Run> = parsed(client::ask(control, &line)?)?;
            let end =
                more.last().map_or(u64::MAX, |run| run.main_sector.saturating_add(run.sectors));
            from = if more.len() < RUNS_AT_ONCE { u64::MAX } else { end };
            runs.extend(more);
        }
        Ok(View {
            name: status.name,
            uuid: status.uuid,
            size_sectors: status.size_sectors,
            block_size: status.block_size,
            entries: status.entries,
            quarantined: status.quarantined_units,
            max_entries: status.max_entries,
            runs,
        })
    }

    /// What is not to be read: the runs that are gone or pending.
    pub fn bad(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.state != "remapped")
    }
}

/// The control socket of a volume that is named, or given.
pub fn control(context: &Context, target: &crate::args::Target) -> Outcome<std::path::PathBuf> {
    match (&target.name, &target.control) {
        (_, Some(path)) => Ok(path.clone()),
        (Some(name), None) => context.control(name),
        (None, None) => Err(Failure::new(Class::Usage, "which volume?")),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|error| {
        Failure::new(Class::Internal, format!("the server's answer was not understood: {error}"))
    })
}
