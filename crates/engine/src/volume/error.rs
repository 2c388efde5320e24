// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a volume could not be made or opened: what, where, why, and what to do next.

use std::fmt;

use dmremap_core::Class;
use dmremap_core::create::{CreateFault, CreateKind};
use dmremap_core::machine::LoadFault;
use dmremap_core::open::Refused;
use dmremap_format::identity::Judgement;
use dmremap_format::{
    Field, Found, LayoutError, MAX_FORCED_PHYSICAL_BLOCK_BYTES, Refusal, State, Uuid,
};

use crate::device::error::ErrorClass;
use crate::next::{Next, shown};

use super::copied::MarkError;

/// Why a volume could not be made or opened. Devices are named as they were opened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VolumeError {
    /// Main and spare are the same device, or one lies on the other.
    SameDevice {
        /// Main.
        main: String,
        /// The spare.
        spare: String,
    },
    /// The volume's block size cannot be had on these devices.
    BlockSize {
        /// The device that stands in the way.
        device: String,
        /// The volume's block in bytes.
        asked: u32,
        /// The device's own in bytes.
        own: u32,
    },
    /// A block size above main's own makes its partition table unreadable.
    PartitionTable {
        /// Main.
        main: String,
        /// Block size asked for, in bytes.
        asked: u32,
    },
    /// The spare cannot be laid out.
    Layout {
        /// The spare.
        spare: String,
        /// Why.
        error: LayoutError,
    },
    /// Something lies on the spare already.
    Occupied {
        /// The spare.
        spare: String,
        /// What was found, the first of it.
        found: Found,
    },
    /// A volume of this format lies on the spare already.
    OldVolume {
        /// The spare.
        spare: String,
    },
    /// The spare could not be read to see what lies on it.
    Unreadable {
        /// The device.
        device: String,
        /// Its error.
        class: Class,
    },
    /// The name or another text given is not legal.
    Field(Field),
    /// An I/O of the format failed: there is no volume.
    Format {
        /// The spare.
        spare: String,
        /// At which step.
        step: CreateKind,
        /// What was wrong.
        fault: CreateFault,
    },
    /// The metadata on the spare is refused.
    Metadata {
        /// The spare.
        spare: String,
        /// Why.
        refused: Box<Refused>,
    },
    /// The table makes no sense.
    Table {
        /// The spare.
        spare: String,
        /// What is wrong.
        fault: LoadFault,
    },
    /// The header names sizes the devices do not have.
    Size {
        /// The device.
        device: String,
        /// Sectors the header names.
        header: u64,
        /// Sectors it has.
        own: u64,
    },
    /// The spare is in a state that is not served.
    NotServed {
        /// The spare.
        spare: String,
        /// The state.
        state: State,
    },
    /// Another host has it open, or had it when it crashed.
    OtherHost {
        /// The spare.
        spare: String,
        /// That host.
        host: Uuid,
    },
    /// This is not the main the volume was made with, or nothing proves that it is.
    Main {
        /// Main.
        main: String,
        /// What the header says it was, escaped.
        was: String,
        /// What the device says it is, escaped.
        is: String,
        /// Why it is not taken.
        judgement: Judgement,
    },
    /// A copy's bad areas could not be marked; it has not been taken as main.
    Unmarked {
        /// The spare.
        spare: String,
        /// Where it ended, and why.
        error: MarkError,
    },
    /// A device was opened read-only, and the volume is to be written.
    ReadOnlyDevice {
        /// The device.
        device: String,
    },
    /// The system refused a thread or random numbers.
    System(String),
}

impl VolumeError {
    /// The kind, for the exit code.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            VolumeError::Field(_) => ErrorClass::Usage,
            VolumeError::System(_) => ErrorClass::Internal,
            VolumeError::SameDevice { .. }
            | VolumeError::Size { .. }
            | VolumeError::Layout { .. }
            | VolumeError::Format { .. }
            | VolumeError::Metadata { .. }
            | VolumeError::Table { .. }
            | VolumeError::Unreadable { .. } => ErrorClass::Wrong,
            _ => ErrorClass::Refused,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            VolumeError::SameDevice { spare, .. }
            | VolumeError::Format { spare, .. }
            | VolumeError::NotServed { spare, .. } => Next::Other(spare.clone()),
            VolumeError::Unreadable { device, .. } | VolumeError::Size { device, .. } => {
                Next::Other(device.clone())
            }
            VolumeError::BlockSize { device, own, .. } => {
                Next::BlockSize { bytes: *own, device: device.clone() }
            }
            VolumeError::PartitionTable { .. } => Next::Without("--block-size"),
            VolumeError::Layout { spare, error } => layout_next(spare, error),
            VolumeError::Occupied { .. } => Next::with("--force=foreign-signature"),
            VolumeError::OldVolume { .. } => Next::with("--force=volume"),
            VolumeError::Field(Field::Name) => Next::with("--name=NAME"),
            VolumeError::Field(_) => Next::Help,
            VolumeError::Metadata { spare, refused } => metadata_next(spare, refused),
            VolumeError::Table { spare, .. } => Next::Check(spare.clone()),
            VolumeError::OtherHost { .. } => Next::with("--force=in-use"),
            VolumeError::Main { judgement: Judgement::Ask(_), .. } => {
                Next::with("--accept-main=same")
            }
            VolumeError::Main { judgement: Judgement::NotACopy, .. } => {
                Next::Without("--accept-main")
            }
            VolumeError::Unmarked { .. } => Next::Again,
            VolumeError::Main { .. } => Next::OtherMain,
            VolumeError::ReadOnlyDevice { .. } => Next::with("--read-only"),
            VolumeError::System(_) => Next::Again,
        }
    }
}

fn layout_next(spare: &str, error: &LayoutError) -> Next {
    match error {
        LayoutError::MaxEntries { .. } => Next::Without("--max-remaps"),
        LayoutError::PhysicalBlock { bytes }
            if bytes.is_power_of_two() && *bytes <= MAX_FORCED_PHYSICAL_BLOCK_BYTES =>
        {
            Next::with("--force=physical-block")
        }
        _ => Next::Other(spare.to_owned()),
    }
}

fn metadata_next(spare: &str, refused: &Refused) -> Next {
    match refused {
        Refused::Copies { reason: Refusal::TooFewValid { valid, .. }, .. } if valid.0 != 0 => {
            Next::with("--force=quorum --read-only")
        }
        Refused::Copies { reason: Refusal::Newer { .. }, .. } => Next::Version,
        Refused::Copies { reason: Refusal::Fenced { .. }, .. } => Next::Other(spare.to_owned()),
        Refused::NoMemory { .. } | Refused::NotReadAgain { .. } => Next::Again,
        Refused::GenerationNotWritten { .. } | Refused::RepairNotWritten { .. } => {
            Next::with("--read-only")
        }
        _ => Next::Check(spare.to_owned()),
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeError::SameDevice { main, spare } => {
                write!(
                    f,
                    "{} and {}: main and spare are the same device",
                    shown(main),
                    shown(spare)
                )
            }
            VolumeError::BlockSize { device, asked, own } => write!(
                f,
                "{}: has blocks of {own} bytes, blocks of {asked} are not possible; legal are \
                 powers of two from {own} to 4096",
                shown(device)
            ),
            VolumeError::PartitionTable { main, asked } => write!(
                f,
                "{}: has a partition table, unreadable with blocks of {asked} bytes",
                shown(main)
            ),
            VolumeError::Layout { spare, error } => write!(f, "{}: {error}", shown(spare)),
            VolumeError::Occupied { spare, found } => write!(
                f,
                "{}: in use as {} (signature at byte {}), which would be destroyed",
                shown(spare),
                found.kind.name(),
                found.offset
            ),
            VolumeError::OldVolume { spare } => write!(
                f,
                "{}: holds a dm-remap volume already, whose moved blocks would be destroyed",
                shown(spare)
            ),
            VolumeError::Unreadable { device, class } => {
                write!(f, "{}: {class}", shown(device))
            }
            VolumeError::Field(field) => write!(f, "the volume's {field} is not legal"),
            VolumeError::Format { spare, step, fault } => {
                write!(f, "{}: format failed {step}: {fault}; there is no volume", shown(spare))
            }
            VolumeError::Metadata { spare, refused } => write!(f, "{}: {refused}", shown(spare)),
            VolumeError::Table { spare, fault } => write!(f, "{}: {fault}", shown(spare)),
            VolumeError::Size { device, header, own } => {
                write!(f, "{}: {own} sectors, the header names {header}", shown(device))
            }
            VolumeError::NotServed { spare, state } => {
                write!(f, "{}: is not served: its header says {}", shown(spare), state.word())
            }
            VolumeError::OtherHost { spare, host } => write!(
                f,
                "{}: open on another host ({host}), or open there when that host crashed; only \
                 if it is surely gone may its hold be lifted",
                shown(spare)
            ),
            VolumeError::Main { main, was, is, judgement } => {
                write!(f, "{}: {}; main was {was}; this is {is}", shown(main), judgement.words())
            }
            VolumeError::ReadOnlyDevice { device } => {
                write!(f, "{}: opened read-only, and the volume is to be written", shown(device))
            }
            VolumeError::Unmarked { spare, error } => write!(
                f,
                "{}: bad areas of the copy are not marked, nothing is served: {error}",
                shown(spare)
            ),
            VolumeError::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for VolumeError {}
