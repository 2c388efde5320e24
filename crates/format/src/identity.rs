// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Is this device the main that the volume was made on?
//!
//! A spare keeps what main looked like: its size, identifiers of its hardware, the UUIDs of what
//! lies on it. [`judge`] compares that with a device at hand and never guesses:
//!
//! 1. Size and block size must agree, whatever else is said.
//! 2. *Proof*: an identifier that the hardware itself vouches for. Equal, it is main. Different, it
//!    is another disk and refused, unless a person says that main was copied onto it. What came
//!    through a USB bridge, is empty, constant or seen on two devices is only *weak*.
//! 3. Without proof either way the content decides, together with the weak identifiers: both equal,
//!    it is main; everything else is asked, never assumed.
//!
//! What of the content could not be read, or is kept on a spare, is left out of the comparison.

use crate::header_rows::ContentRow;
use crate::probe::Found;
use crate::signature::Signature;
use crate::types::{SECTOR_BYTES, Uuid};

pub use crate::hardware::{Doubts, Hardware, HardwareKind};

/// [`ContentRow::kind`]: found inside a partition.
const KIND_IN_PARTITION: u16 = 0x8000;

/// A UUID of a partition table or a file system on main.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    /// Of what.
    pub kind: Signature,
    /// The sector of main its structure begins in, below 2^48.
    pub sector: u64,
    /// Found inside a partition: whether it can be found depends on the partition table.
    pub in_partition: bool,
    /// The UUID, or a shorter number with zeros behind it.
    pub uuid: Uuid,
}

impl Content {
    /// What `found` says of main's identity; `None` if it has no UUID, or is only a copy of
    /// something that may be gone.
    #[must_use]
    pub fn of(found: &Found) -> Option<Content> {
        let uuid = found.uuid.filter(|_| !found.copy)?;
        let sector = found.offset / SECTOR_BYTES;
        let content = Content { kind: found.kind, sector, in_partition: found.in_partition, uuid };
        (sector < 1 << 48).then_some(content)
    }

    /// The row for a header.
    #[must_use]
    pub fn row(&self) -> ContentRow {
        let inside = if self.in_partition { KIND_IN_PARTITION } else { 0 };
        ContentRow {
            kind: self.kind as u16 | inside,
            flags: u16::try_from((self.sector >> 32) & 0xffff).unwrap_or(0),
            place: u32::try_from(self.sector & 0xffff_ffff).unwrap_or(0),
            uuid: self.uuid,
        }
    }

    /// What a header's row says; `None` for a kind of a later version.
    #[must_use]
    pub fn from_row(row: &ContentRow) -> Option<Content> {
        Some(Content {
            kind: Signature::from_number(row.kind & !KIND_IN_PARTITION)?,
            sector: (u64::from(row.flags) << 32) | u64::from(row.place),
            in_partition: row.kind & KIND_IN_PARTITION != 0,
            uuid: row.uuid,
        })
    }
}

/// How two contents compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compared {
    /// Everything that could be compared is equal, and there was something.
    Equal,
    /// Something is missing, new or different.
    Differs,
    /// Nothing could be compared.
    Nothing,
}

/// Compares what was stored with what is seen. `hidden` says of one of them that the place it lies
/// in was not looked at: it could not be read, or lives on a spare; with an unreadable partition
/// table everything inside a partition is hidden.
pub fn compare(
    stored: &[Content],
    seen: &[Content],
    hidden: impl Fn(&Content) -> bool,
) -> Compared {
    let missing = |from: &[Content], of: &[Content]| {
        let mut compared = of.iter().filter(|content| !hidden(content)).peekable();
        let any = compared.peek().is_some();
        (any, compared.any(|content| !from.contains(content)))
    };
    let ((stored_any, gone), (seen_any, new)) = (missing(seen, stored), missing(stored, seen));
    match (gone || new, stored_any || seen_any) {
        (true, _) => Compared::Differs,
        (false, true) => Compared::Equal,
        (false, false) => Compared::Nothing,
    }
}

/// What is known of a device.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Size in sectors.
    pub sectors: u64,
    /// Stored: the volume's block in bytes. Seen: the device's own logical block.
    pub block_bytes: u32,
    /// Identifiers of the hardware.
    pub hardware: &'a [Hardware],
}

/// What a person says of a main that was moved (`--accept-main`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accept {
    /// The same disk behind another cable or dock.
    Same,
    /// Another disk that main was copied onto. What the copy could not read must be named.
    Copy,
}

/// Why a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The content is another one.
    ContentDiffers,
    /// The content is equal, identifiers that are no proof differ.
    WeakDiffers,
    /// The content is equal and nothing else can be said; it may be a copy.
    ContentAlone,
    /// Nothing could be compared.
    Nothing,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// It is main.
    Same {
        /// By proof; else by content and weak identifiers.
        proved: bool,
        /// With proof a content that differs is an event, no more.
        content: Compared,
    },
    /// A person has said so: an event, and the identity is stored anew.
    Moved {
        /// What was said.
        accept: Accept,
        /// How the content compares.
        content: Compared,
    },
    /// Refused: another size, in sectors.
    SizeDiffers {
        /// As stored.
        stored: u64,
        /// Of the device.
        seen: u64,
    },
    /// Refused: the device's blocks are larger than the volume's, in bytes.
    BlockSizeDiffers {
        /// As stored.
        stored: u32,
        /// Of the device.
        seen: u32,
    },
    /// Refused: another disk, another partition. Both are to be shown.
    ProofDiffers(HardwareKind),
    /// Refused: said to be a copy, and it is the very disk. As a copy its bad areas would be given
    /// up.
    NotACopy,
    /// Refused: said to be a copy, and nothing proves that it is another disk: it passes for main
    /// without a word, and may have been written as main since.
    Alike,
    /// Not opened before a person has said what it is.
    Ask(Why),
}

impl Judgement {
    /// Whether the device may be used as main.
    #[must_use]
    pub const fn is_main(self) -> bool {
        matches!(self, Judgement::Same { .. } | Judgement::Moved { .. })
    }

    /// What it means; what to do next is for the caller, who knows what can be typed.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Judgement::Same { proved: true, .. } => "this is main, by its hardware",
            Judgement::Same { proved: false, .. } => "this is main, by its content and identifiers",
            Judgement::Moved { accept: Accept::Same, .. } => "taken as main, as was said",
            Judgement::Moved { accept: Accept::Copy, .. } => "taken as a copy of main, as was said",
            Judgement::SizeDiffers { .. } => "its size is not main's",
            Judgement::BlockSizeDiffers { .. } => "its blocks are larger than the volume's",
            Judgement::ProofDiffers(_) => "this is another disk or partition than main",
            Judgement::NotACopy => "this is main itself and no copy of it",
            Judgement::Alike => {
                "nothing tells it from main, as which it would be opened without a word; what a \
                 copy lacks has to be marked gone before that"
            }
            Judgement::Ask(Why::ContentDiffers) => {
                "nothing proves that it is main, and its content is not what main's was"
            }
            Judgement::Ask(Why::WeakDiffers) => {
                "its content is main's, but its hardware says something else"
            }
            Judgement::Ask(Why::ContentAlone) => {
                "its content is main's, but nothing proves the disk: it may be a copy"
            }
            Judgement::Ask(Why::Nothing) => "nothing could be compared to tell whether it is main",
        }
    }
}

/// What the identifiers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Evidence {
    proved: bool,
    differs: Option<HardwareKind>,
    weak_equal: bool,
    weak_differs: bool,
}

/// Judges a device; see the head of this file. `content` is the outcome of [`compare`].
#[must_use]
pub fn judge(
    stored: &Identity<'_>,
    seen: &Identity<'_>,
    content: Compared,
    accept: Option<Accept>,
) -> Judgement {
    if stored.sectors != seen.sectors {
        return Judgement::SizeDiffers { stored: stored.sectors, seen: seen.sectors };
    }
    // A volume made with larger blocks than main's own is served as it was; smaller ones cannot be.
    if seen.block_bytes > stored.block_bytes {
        let (stored, seen) = (stored.block_bytes, seen.block_bytes);
        return Judgement::BlockSizeDiffers { stored, seen };
    }
    let evidence = evidence(stored.hardware, seen.hardware);
    let moved = |accept| Judgement::Moved { accept, content };
    match (evidence.differs, evidence.proved, accept) {
        (Some(_), _, Some(Accept::Copy)) => moved(Accept::Copy),
        (Some(kind), _, _) => Judgement::ProofDiffers(kind),
        (None, true, Some(Accept::Copy)) => Judgement::NotACopy,
        (None, true, _) => Judgement::Same { proved: true, content },
        (None, false, Some(accept)) => moved(accept),
        (None, false, None) => match (content, evidence.weak_equal, evidence.weak_differs) {
            (Compared::Differs, _, _) => Judgement::Ask(Why::ContentDiffers),
            (Compared::Nothing, _, _) => Judgement::Ask(Why::Nothing),
            (Compared::Equal, _, true) => Judgement::Ask(Why::WeakDiffers),
            (Compared::Equal, false, false) => Judgement::Ask(Why::ContentAlone),
            (Compared::Equal, true, false) => Judgement::Same { proved: false, content },
        },
    }
}

/// Compares identifiers kind by kind; an identifier only one side has says nothing, except of a
/// partition: the whole disk is no partition of it.
fn evidence(stored: &[Hardware], seen: &[Hardware]) -> Evidence {
    let mut evidence = Evidence::default();
    for one in stored.iter().filter(|one| one.kind() != HardwareKind::Partition) {
        let mut alike = seen.iter().filter(|other| other.kind() == one.kind()).peekable();
        let Some(first) = alike.peek().copied() else { continue };
        let equal = alike.find(|other| one.equals(other));
        let both_proof = one.is_proof() && equal.unwrap_or(first).is_proof();
        match (equal.is_some(), both_proof) {
            (true, true) => evidence.proved = true,
            (true, false) => evidence.weak_equal = true,
            // A file's numbers change when it is copied or its disk moves to another host.
            (false, true) if one.kind() == HardwareKind::File => {}
            (false, true) => evidence.differs = evidence.differs.or(Some(one.kind())),
            (false, false) => evidence.weak_differs = true,
        }
    }
    let partition = |of: &'_ [Hardware]| of.iter().position(|one| one.as_partition().is_some());
    let at = (partition(stored), partition(seen));
    let place = |of: &'_ [Hardware], at: Option<usize>| at.and_then(|at| of.get(at)).copied();
    match (place(stored, at.0), place(seen, at.1)) {
        (None, None) => {}
        (Some(one), Some(other)) => match (one.as_partition(), other.as_partition()) {
            (Some((start, _)), Some((other, _))) if start != other => {
                evidence.differs = evidence.differs.or(Some(HardwareKind::Partition));
            }
            // The same place under another PARTUUID: repartitioned, or another disk's table.
            (Some((_, uuid)), Some((_, other))) if uuid != other => {
                evidence.proved = false;
                evidence.weak_differs = true;
            }
            _ => {}
        },
        _ => evidence.differs = evidence.differs.or(Some(HardwareKind::Partition)),
    }
    evidence
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
