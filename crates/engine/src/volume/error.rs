// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a volume could not be made or opened: what, where, why, and what to do next.

use std::fmt;

use dmremap_core::Class;
use dmremap_core::create::{CreateFault, CreateKind};
use dmremap_core::machine::LoadFault;
use dmremap_core::open::Refused;
use dmremap_format::identity::Judgement;
use dmremap_format::{Field, Found, LayoutError, Refusal, State, Uuid};

use crate::device::error::ErrorClass;

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

    /// What to do next, one sentence.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            VolumeError::SameDevice { .. } => "Give two different devices.",
            VolumeError::BlockSize { .. } => {
                "Use a spare whose blocks are not larger than the volume's."
            }
            VolumeError::PartitionTable { .. } => "Leave --block-size away.",
            VolumeError::Layout { .. } => "Use a larger spare or a smaller --max-remaps.",
            VolumeError::Occupied { .. } => {
                "Use another spare, or --force=foreign-signature if what is there may be lost."
            }
            VolumeError::OldVolume { .. } => {
                "Open it, or use --force=volume if that volume may be lost."
            }
            VolumeError::Unreadable { .. } | VolumeError::Format { .. } => "Use another device.",
            VolumeError::Field(_) => "Correct what was given.",
            VolumeError::Metadata { refused, .. } => metadata_next(refused),
            VolumeError::Table { .. } => "Look at it with dmremap check, change nothing.",
            VolumeError::Size { .. } => "Check that both devices are the right ones.",
            VolumeError::NotServed { .. } => "Use the spare that the table was moved to.",
            VolumeError::OtherHost { .. } => {
                "Close it there; if that host is gone for good, use --force=in-use."
            }
            VolumeError::Main { judgement: Judgement::Ask(_), .. } => {
                "If it is the same disk on another cable or in another dock, say \
                 --accept-main=same."
            }
            VolumeError::Main { judgement: Judgement::NotACopy, .. } => {
                "Leave --accept-main=copy away: it is main already."
            }
            VolumeError::Main { .. } => "Give the disk the volume was made with.",
            VolumeError::Unmarked { .. } => "Do the same again: what has been marked stays marked.",
            VolumeError::ReadOnlyDevice { .. } => "Open the volume read-only as well.",
            VolumeError::System(_) => "Try again.",
        }
    }
}

fn metadata_next(refused: &Refused) -> &'static str {
    match refused {
        Refused::Copies { reason: Refusal::TooFewValid { .. }, .. } => {
            "Check the cable, then read what is left with --force=quorum --read-only."
        }
        Refused::Copies { reason: Refusal::Newer { .. }, .. } => "Use a newer dm-remap.",
        Refused::Copies { reason: Refusal::Fenced { .. }, .. } => {
            "Use the spare that replaced this one."
        }
        Refused::NoMemory { .. } => "Free some memory.",
        Refused::GenerationNotWritten { .. } | Refused::RepairNotWritten { .. } => {
            "The spare takes no writes: check its cable; open with --read-only to save the data."
        }
        _ => "Look at it with dmremap examine, change nothing.",
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeError::SameDevice { main, spare } => {
                write!(f, "{main} and {spare}: main and spare are the same device")
            }
            VolumeError::BlockSize { device, asked, own } => {
                write!(f, "{device}: blocks of {own} bytes, the volume's are {asked}")
            }
            VolumeError::PartitionTable { main, asked } => {
                write!(f, "{main}: has a partition table, unreadable with blocks of {asked} bytes")
            }
            VolumeError::Layout { spare, error } => {
                write!(f, "{spare}: {}: {error:?}", error.word())
            }
            VolumeError::Occupied { spare, found } => {
                write!(f, "{spare}: holds {:?} at byte {}", found.kind, found.offset)
            }
            VolumeError::OldVolume { spare } => write!(f, "{spare}: holds a dm-remap volume"),
            VolumeError::Unreadable { device, class } => write!(f, "{device}: {class}"),
            VolumeError::Field(field) => write!(f, "not legal: {field:?}"),
            VolumeError::Format { spare, step, fault } => {
                write!(f, "{spare}: format failed at {step:?}: {fault:?}; there is no volume")
            }
            VolumeError::Metadata { spare, refused } => {
                write!(f, "{spare}: ")?;
                match &**refused {
                    Refused::Copies { page, reason, seen } => {
                        write!(f, "{}: {page:?}: {seen:?}", reason.word())
                    }
                    other => write!(f, "{other:?}"),
                }
            }
            VolumeError::Table { spare, fault } => write!(f, "{spare}: {fault:?}"),
            VolumeError::Size { device, header, own } => {
                write!(f, "{device}: {own} sectors, the header names {header}")
            }
            VolumeError::NotServed { spare, state } => {
                write!(f, "{spare}: its header says {}", state.word())
            }
            VolumeError::OtherHost { spare, host } => {
                write!(f, "{spare}: open on another host ({host})")
            }
            VolumeError::Main { main, was, is, judgement } => {
                write!(f, "{main}: {}\n  main was: {was}\n  this is:  {is}", judgement.words())
            }
            VolumeError::Unmarked { spare, error } => {
                write!(
                    f,
                    "{spare}: bad areas of the copy are not marked, nothing is served: {error}"
                )
            }
            VolumeError::ReadOnlyDevice { device } => write!(f, "{device}: opened read-only"),
            VolumeError::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for VolumeError {}
