// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume: the logic of `dmremap-core` driven by real devices.

mod brain;
mod causes;
mod client;
mod copied;
mod driver;
mod error;
mod extents;
mod fast;
mod format;
mod gate;
mod lane;
mod logic;
mod main_identity;
mod memory;
mod meta;
mod open;
mod outlet;
mod payload;
mod request;
mod restore;
mod ring;
mod running;
#[allow(clippy::module_inception)] // The type's own file.
mod volume;
mod watch;
mod wipe;

pub use client::FlushDone;
pub use copied::{MarkError, SectorRun};
pub use error::VolumeError;
pub use extents::Extent;
pub use format::{FormatOptions, Formatted, format};
pub use open::{VolumeInfo, VolumeOptions, repair};
pub use payload::Payload;
pub use request::{BadRun, Done, Reply, Request};
pub use restore::{Restore, restore};
pub use volume::{Client, Volume};
pub use wipe::Remains;
