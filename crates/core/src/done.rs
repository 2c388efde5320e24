// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How messages that take time end.

use crate::api::Class;

/// How a message that takes time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// The unit lives on this spare sector now; blocks in the mask stayed pending on main.
    Remapped {
        /// Absolute spare sector of the unit.
        spare_sector: u64,
        /// Blocks that could not be read.
        pending: u8,
    },
    /// The unit is home again.
    Unremapped,
    /// `verify`: which blocks of the unit read well where they live, and which did not.
    Verified {
        /// Blocks that could not be read.
        unreadable: u8,
    },
    /// `mark`: what became of the run's blocks.
    Marked(Marked),
    /// `save`, `set`, `clear`: done.
    Saved {
        /// Durable generation.
        generation: u64,
        /// Durable sequence.
        sequence: u64,
    },
    /// `restore`: every page's copies were read again.
    Restored(Restored),
    /// Refused or failed; nothing has changed unless the reason says so.
    Failed(Reason),
}

/// What a `restore` has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Pages looked at: header, generation page and table.
    pub pages: u32,
    /// Copies that were not good.
    pub bad_copies: u32,
    /// Pages committed anew.
    pub renewed: u32,
    /// Pages that are still not whole: no copy is good, or the commit was not acknowledged.
    pub left: u32,
}

/// What a `mark` did, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Marked.
    pub marked: u64,
    /// Left as they are: they live on a spare.
    pub on_spare: u64,
    /// Left as they are: gone already.
    pub gone: u64,
    /// Not marked: there was no place for another pending mark.
    pub dropped: u64,
}

impl Marked {
    /// These and those of `other`.
    #[must_use]
    pub const fn and(self, other: Marked) -> Marked {
        Marked {
            marked: self.marked.saturating_add(other.marked),
            on_spare: self.on_spare.saturating_add(other.on_spare),
            gone: self.gone.saturating_add(other.gone),
            dropped: self.dropped.saturating_add(other.dropped),
        }
    }
}

/// Why a message was refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The sector lies beyond the volume or in the middle of a block.
    OutOfRange,
    /// The unit has an entry already.
    AlreadyRemapped,
    /// The unit has no entry.
    NotRemapped,
    /// The spare sector is reserved, used, quarantined or beyond what is handed out.
    SpareNotFree,
    /// The spare sector lies at another place in its unit than the main sector.
    OtherPlaceInUnit,
    /// Another recovery or message holds the unit.
    Busy,
    /// No spare unit or no slot is free.
    Full,
    /// A block is gone: bringing the unit home would serve an old version with success.
    Gone,
    /// A block could not be read where it lives.
    Unreadable,
    /// The write home failed.
    WriteFailed(Class),
    /// The device is suspect.
    DeviceSuspect,
    /// Fewer than four metadata copies can be written.
    MetadataDegraded,
    /// The commit failed, nothing has changed.
    CommitFailed,
    /// The commit is in doubt: the blocks fail until it is settled.
    InDoubt,
    /// `recovery_limit_ms` has passed.
    TimedOut,
    /// The volume is closing, read-only or failed.
    NotWritable,
}
