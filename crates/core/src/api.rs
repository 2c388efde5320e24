// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What crosses the border between the logic and whoever drives it: the engine's threads, the
//! simulator's scheduler, the kernel's workqueue.
//!
//! The driver owns devices, memory, threads and the clock. It resolves requests on the lock-free
//! path ([`crate::path`]), does the I/O, and hands what fails or meets an obstacle to the recovery
//! machine, which answers with a [`Disposition`] and, over time, with [`Action`]s.

use core::fmt;

pub use crate::done::{Done, Marked, Reason, Restored};

/// Milliseconds of a clock that never goes back and does not stop while the volume is open.
pub type Millis = u64;

/// Failed flushes counted per device: main, then the spare.
pub type FlushCounts = [u64; 2];

/// A device of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dev {
    /// The failing disk.
    Main,
    /// The spare in this row of the member list; 0 is the table holder.
    Spare(u8),
}

/// What an I/O error says of its cause, after the block layer's own classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// `BLK_STS_MEDIUM`, ENODATA: the medium is bad there. A suspect.
    Medium,
    /// `BLK_STS_IOERR`, EIO: generic. A suspect: most disks report bad writes so.
    Io,
    /// `BLK_STS_TARGET`, EREMOTEIO: the device refused. A suspect.
    Target,
    /// `BLK_STS_TRANSPORT`, ENOLINK.
    Transport,
    /// `BLK_STS_TIMEOUT`, ETIMEDOUT.
    Timeout,
    /// `BLK_STS_OFFLINE`, ENODEV, ENXIO: the device is gone, and its cache with it.
    Offline,
    /// `BLK_STS_RESV_CONFLICT`, EBADE.
    Reservation,
    /// `BLK_STS_PROTECTION`, EILSEQ.
    Protection,
    /// `BLK_STS_NOSPC`, ENOSPC.
    NoSpace,
    /// `BLK_STS_NOTSUPP`, EOPNOTSUPP.
    NotSupported,
    /// `BLK_STS_AGAIN`, EAGAIN.
    Again,
}

impl Class {
    /// Whether recovery looks into it (DESIGN 5): every other class is passed up unchanged.
    #[must_use]
    pub const fn is_suspect(self) -> bool {
        matches!(self, Class::Medium | Class::Io | Class::Target)
    }

    /// The errno Linux uses for it.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Class::Medium => 61,
            Class::Io => 5,
            Class::Target => 121,
            Class::Transport => 67,
            Class::Timeout => 110,
            Class::Offline => 19,
            Class::Reservation => 52,
            Class::Protection => 84,
            Class::NoSpace => 28,
            Class::NotSupported => 95,
            Class::Again => 11,
        }
    }

    /// The class of a Linux errno; what is not known counts as generic.
    #[must_use]
    pub const fn from_errno(errno: i32) -> Class {
        match errno {
            61 => Class::Medium,
            121 => Class::Target,
            67 => Class::Transport,
            110 => Class::Timeout,
            19 | 6 | 123 => Class::Offline,
            52 => Class::Reservation,
            84 => Class::Protection,
            28 => Class::NoSpace,
            95 => Class::NotSupported,
            11 => Class::Again,
            _ => Class::Io,
        }
    }

    /// One word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Class::Medium => "medium error",
            Class::Io => "I/O error",
            Class::Target => "target error",
            Class::Transport => "transport error",
            Class::Timeout => "timeout",
            Class::Offline => "device offline",
            Class::Reservation => "reservation conflict",
            Class::Protection => "protection error",
            Class::NoSpace => "no space",
            Class::NotSupported => "not supported",
            Class::Again => "try again",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Write zeroes.
    WriteZeroes,
    /// Discard.
    Discard,
}

impl Kind {
    /// Whether an answer to it may change the medium: these hold up the I/O grace of a move.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Kind::Read)
    }
}

/// The part of a request that one resolution covers: it lies in one unit when the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The driver's handle of the request.
    pub request: u64,
    /// What it does.
    pub kind: Kind,
    /// First sector of the volume.
    pub sector: u64,
    /// Length in sectors, whole blocks, at least one.
    pub sectors: u32,
    /// The request asked for FUA.
    pub fua: bool,
    /// RAHEAD or FAILFAST: a failed *read* of this kind is passed up at once.
    pub hasty: bool,
    /// When the request first failed or had to wait; the limit counts from here. Set by the driver
    /// once a request, on its first failure or wait; `None` before.
    pub since: Option<Millis>,
    /// A unit of this request has had its verdict already (DESIGN 5: a write never fails for want
    /// of time while the spare has room). Kept by the driver a request, see [`Action::Verdict`].
    pub verdict: bool,
}

/// Where and how an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The device that answered.
    pub dev: Dev,
    /// First sector on that device.
    pub sector: u64,
    /// Its error.
    pub class: Class,
    /// From submission to answer.
    pub took_ms: u32,
}

/// What becomes of a piece that was handed to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The machine has it and will answer with [`Action::Complete`] or [`Action::Again`].
    Taken,
    /// Resolve it anew now.
    Again,
    /// Keep it, with its failure if it has one, and present it in the same way again when
    /// [`Machine::wakes`](crate::machine) is no longer what it was when this was returned (before
    /// the actions were drained). It changes at the piece's limit at the latest, and then the
    /// machine fails it.
    Wait,
    /// Resolve it anew at this time, or when the volume closes.
    RetryAt(Millis),
    /// Cut it at unit boundaries and submit every part by itself, each resolved anew.
    Split,
    /// It ends with this error.
    Fail(Class),
    /// It ends well with nothing done (a discard of what has an entry).
    Done,
}

/// Names an operation of the machine until it is answered; never used twice while one is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId(pub u32);

/// An operation the machine wants done on a device: plain, uncached, no NOWAIT, RAHEAD, FAILFAST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// To be given back with the answer.
    pub id: OpId,
    /// The device.
    pub dev: Dev,
    /// First sector on that device; 0 for a flush.
    pub sector: u64,
    /// Length in sectors; 0 for a flush.
    pub sectors: u32,
    /// What to do.
    pub kind: OpKind,
}

/// The kinds of operation. `buffer` names one of the driver's unit buffers ([`PAGE_BYTES`] long, as
/// many as the machine has jobs); the operation uses it at `(volume sector % 8) * 512`, given as
/// `offset`. The driver copies what it writes when it takes the action, and copies what it has read
/// into the buffer when it hands in the answer, so that a late answer touches nothing.
///
/// [`PAGE_BYTES`]: dmremap_format::PAGE_BYTES
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Read into the buffer.
    Read {
        /// Unit buffer.
        buffer: u16,
        /// Byte offset in it.
        offset: u16,
    },
    /// Write from the buffer.
    Write {
        /// Unit buffer.
        buffer: u16,
        /// Byte offset in it.
        offset: u16,
        /// With FUA.
        fua: bool,
    },
    /// Read uncached and compare with the buffer: [`Answer::Differs`] if a byte is not equal.
    Verify {
        /// Unit buffer.
        buffer: u16,
        /// Byte offset in it.
        offset: u16,
    },
    /// Read and drop what was read.
    Probe,
    /// Flush the device's cache.
    Flush,
    /// Read one metadata page and hand it in with the answer.
    ReadPage,
    /// Write the metadata page [`Machine::page_image`](crate::machine) gives for this operation.
    WritePage,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Good,
    /// A [`OpKind::Verify`] read other bytes.
    Differs,
    /// Failed; a write that failed may have landed all the same, or in part.
    Failed(Class),
}

/// What the machine asks of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do this operation and answer it, however late.
    Io(Op),
    /// Copy the data of `piece` into unit buffer `buffer` at `(sector % 8) * 512`; zeros for
    /// [`Kind::WriteZeroes`].
    CopyIn {
        /// Unit buffer.
        buffer: u16,
        /// A write.
        piece: Piece,
    },
    /// The piece has ended. For a read, copy `(sector % 8) * 512` of the buffer out first.
    Complete {
        /// Unit buffer with what was read.
        buffer: u16,
        /// The piece.
        piece: Piece,
        /// How it ended.
        outcome: Outcome,
    },
    /// Resolve this piece anew and submit it, not before `at` (or when the volume closes).
    Again {
        /// The piece.
        piece: Piece,
        /// The time; one that has passed means now.
        at: Millis,
    },
    /// A unit of this request has had its verdict: set [`Piece::verdict`] on its other pieces.
    Verdict {
        /// [`Piece::request`].
        request: u64,
    },
    /// A client's flush has ended.
    Flushed {
        /// The driver's handle.
        id: u64,
        /// How.
        outcome: Result<(), Class>,
        /// Failures counted per device (main, spare) by now: after an error the client has been
        /// answered for these; it gives them back with its next flush.
        failures: FlushCounts,
    },
    /// A message has been carried out.
    Reply {
        /// The driver's handle.
        id: u64,
        /// How it ended.
        outcome: Done,
    },
    /// Something an administrator wants to know of.
    Event(Event),
}

/// How a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it.
    Good,
    /// A read: these blocks of the unit (bit i = block i, counted in the volume's blocks from the
    /// unit's start) could not be read, the others were.
    Unreadable(u8),
    /// None of it.
    Failed(Class),
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A write to these blocks of the unit goes to the spare now.
    Moved {
        /// Main sector of the unit.
        main_sector: u64,
        /// Absolute spare sector of the unit.
        spare_sector: u64,
        /// The blocks moved.
        blocks: u8,
    },
    /// The unit lives on main again.
    Home {
        /// Main sector of the unit.
        main_sector: u64,
    },
    /// These blocks could not be read where they live.
    Pending {
        /// Main sector of the unit.
        main_sector: u64,
        /// The blocks.
        blocks: u8,
    },
    /// These blocks' content exists nowhere any more.
    Gone {
        /// Main sector of the unit.
        main_sector: u64,
        /// The blocks.
        blocks: u8,
    },
    /// A spare unit failed and is never used again.
    Quarantined {
        /// Absolute spare sector.
        spare_sector: u64,
    },
    /// The device failed its probe: nothing is moved until it has healed.
    Suspect(Dev),
    /// Three good probes: recovery goes on.
    Healed(Dev),
    /// A flush of the device failed.
    FlushFailed(Dev),
    /// What was read back from the spare is not what was written.
    ReadBackDiffers {
        /// Absolute spare sector.
        spare_sector: u64,
    },
    /// A device vanished; what is on it fails until the volume is opened again.
    Vanished(Dev),
    /// No spare unit or slot is left.
    SpareFull,
    /// Fewer than four metadata copies can be written: nothing new is moved.
    MetadataDegraded,
    /// A commit is in doubt until it has been reversed.
    InDoubt {
        /// Main sector of the unit.
        main_sector: u64,
    },
    /// Another session has taken the spare: this volume writes nothing more.
    TakenOver,
    /// An operation is still at the device after the limit; its blocks stay busy until it returns.
    StillAtDevice(Dev),
}
