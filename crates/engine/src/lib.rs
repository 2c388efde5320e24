// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices and volumes of dm-remap in user space: real I/O around the logic of `dmremap-core`.
//!
//! [`open_device`] turns what a person writes (a path, or a path behind a test wrapper) into a
//! claimed [`Device`]; every rule about backing files and exclusive holds lives there. See
//! `docs/ARCHITECTURE.md` for how a volume runs on top of devices.

mod device;
pub mod host;
mod next;
mod one_of_each;
mod volume;

pub use device::block::BlockDevice;
pub use device::error::{DeviceError, ErrorClass};
pub use device::faultmap::{FaultMap, MapError, Mode, Run};
pub use device::faulty::Faulty;
pub use device::file::FileDevice;
pub use device::identity::{DeviceKey, Identity, Mark, MarkKind};
pub use device::memory::MemoryDevice;
pub use device::recording::{Log, LogEvent, LogKind, Recorder};
pub use device::spec::{OpenOptions, open_device};
pub use device::{Backing, Device, Direct, Geometry, Manner, Transferred};
pub use next::Next;
pub use volume::{
    BadRun, Client, Done, Extent, FlushDone, FormatOptions, Formatted, MarkError, Payload, Remains,
    Reply, Request, Restore, SectorRun, Volume, VolumeError, VolumeInfo, VolumeOptions, format,
    repair, restore,
};
