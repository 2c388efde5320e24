// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The judgement over the five copies of one page: pure, from what was seen of them.
//!
//! A commit is acknowledged when four copies are durable, so of any two valid copies at least one
//! carries what was acknowledged last: five copies, four written, two needed, 4 + 2 > 5. Fewer than
//! two valid ones prove nothing and refuse the page. Of the valid ones the highest stamp wins,
//! acknowledged or not; whatever is not five times the same is committed anew before it is relied
//! on, under a stamp no copy has ever carried. A copy that could not be read has lost, whatever it
//! holds when it comes back.
//!
//! The headers decide first which volume this is: the pair of volume and spare UUID that two valid
//! ones share. All others are then invalid, and so are their fences. Of this volume's headers *one*
//! that says moved, removed or released refuses the spare for good, whatever its stamp: it is the
//! last thing ever written by those who took the spare out of use, and may have reached one copy
//! only. For the same reason one sealed header of this volume that this program cannot read,
//! because a newer one wrote it, refuses too: metadata that could not be read is never overwritten.

use crate::header::Header;
use crate::header_rows::Fence;
use crate::page::{PageFault, content_digest};
use crate::types::{COPIES, CopyIndex, PageBytes, Stamp, Uuid};

/// Valid copies a page needs to be believed.
pub const NEEDED_VALID: u8 = 2;
/// Durable copies a commit needs to be acknowledged.
pub const NEEDED_DURABLE: u8 = 4;

/// What was seen of one copy of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Read and valid.
    Valid {
        /// Its stamp; of a generation page (generation, 0).
        stamp: Stamp,
        /// [`content_digest`] of the page.
        digest: u64,
    },
    /// Read, and not valid.
    Invalid,
    /// Not read: the device failed.
    Unreadable,
}

impl Seen {
    /// A valid page.
    #[must_use]
    pub fn valid(stamp: Stamp, page: &PageBytes) -> Seen {
        Seen::Valid { stamp, digest: content_digest(page) }
    }
}

/// Copies of a page, bit i = copy i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CopyMask(pub u8);

impl CopyMask {
    /// All five.
    pub const ALL: CopyMask = CopyMask(0x1f);

    /// Whether `copy` is among them.
    #[must_use]
    pub fn has(self, copy: CopyIndex) -> bool {
        self.0 & bit(copy) != 0
    }

    /// The same and `copy`.
    #[must_use]
    pub fn with(self, copy: CopyIndex) -> CopyMask {
        CopyMask(self.0 | bit(copy))
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.0.count_ones() as u8
    }
}

/// The bit of a copy; none for a copy there is not.
fn bit(copy: CopyIndex) -> u8 {
    1u8.checked_shl(u32::from(copy.0)).unwrap_or(0) & CopyMask::ALL.0
}

/// Why a page, and with it the spare, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer than two copies are valid. For headers: no two of them name the same volume and spare.
    TooFewValid {
        /// How many are.
        valid: CopyMask,
        /// How many could not be read at all: they may come back.
        unreadable: CopyMask,
    },
    /// One stamp with two contents, which no crash can bring about.
    TwoContents {
        /// That stamp.
        stamp: Stamp,
        /// The copies that carry it.
        copies: CopyMask,
    },
    /// Two volumes have two valid headers each.
    TwoVolumes {
        /// One.
        first: Uuid,
        /// The other; the same when the spares' UUIDs differ.
        second: Uuid,
    },
    /// A header of this volume takes the spare out of use.
    Fenced {
        /// The copy that says so.
        copy: CopyIndex,
        /// What it says.
        fence: Fence,
    },
    /// A header of this volume was written by a newer version and cannot be read.
    Newer {
        /// The copy.
        copy: CopyIndex,
        /// What is not known of it.
        fault: PageFault,
    },
}

impl Refusal {
    /// One phrase for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Refusal::TooFewValid { .. } => "fewer than two copies are valid",
            Refusal::TwoContents { .. } => "copies with one stamp differ",
            Refusal::TwoVolumes { .. } => "metadata of two volumes",
            Refusal::Fenced { fence: Fence::MovedTo(_), .. } => "the table was moved away",
            Refusal::Fenced { fence: Fence::Removed, .. } => "the spare was removed",
            Refusal::Fenced { fence: Fence::Released, .. } => "the volume was released",
            Refusal::Newer { .. } => "written by a newer version",
        }
    }
}

/// What five copies of a page amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The first copy that carries what wins.
    pub winner: CopyIndex,
    /// The stamp that wins.
    pub stamp: Stamp,
    /// The copies that carry it.
    pub winning: CopyMask,
    /// The valid copies, the winning among them.
    pub valid: CopyMask,
    /// The copies that could not be read.
    pub unreadable: CopyMask,
}

impl Judgement {
    /// Whether the page must be committed anew: its five copies are not all valid and equal.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.winning != CopyMask::ALL
    }
}

/// Every copy with its index, in order.
fn each<T>(copies: &[T; COPIES]) -> impl Iterator<Item = (CopyIndex, &T)> {
    CopyIndex::ALL.into_iter().zip(copies)
}

/// The copies that fulfil `test`.
fn mask_of<T>(copies: &[T; COPIES], test: impl Fn(&T) -> bool) -> CopyMask {
    each(copies)
        .filter(|(_, seen)| test(seen))
        .fold(CopyMask::default(), |mask, (copy, _)| mask.with(copy))
}

/// Judges the five copies of one page.
///
/// # Errors
/// Fewer than two valid copies, or one stamp with two contents among the valid ones.
pub fn judge(copies: &[Seen; COPIES]) -> Result<Judgement, Refusal> {
    let valid = mask_of(copies, |seen| matches!(seen, Seen::Valid { .. }));
    let unreadable = mask_of(copies, |seen| *seen == Seen::Unreadable);
    let mut best: Option<(CopyIndex, Stamp)> = None;
    for (copy, seen) in each(copies) {
        let Seen::Valid { stamp, digest } = *seen else { continue };
        let differs = |other: &Seen| match *other {
            Seen::Valid { stamp: same, digest: content } => same == stamp && content != digest,
            Seen::Invalid | Seen::Unreadable => false,
        };
        if copies.iter().any(differs) {
            return Err(Refusal::TwoContents { stamp, copies: carrying(copies, stamp) });
        }
        if best.is_none_or(|(_, highest)| stamp > highest) {
            best = Some((copy, stamp));
        }
    }
    match best {
        Some((winner, stamp)) if valid.count() >= NEEDED_VALID => {
            let winning = carrying(copies, stamp);
            Ok(Judgement { winner, stamp, winning, valid, unreadable })
        }
        _ => Err(Refusal::TooFewValid { valid, unreadable }),
    }
}

/// The valid copies with this stamp.
fn carrying(copies: &[Seen; COPIES], stamp: Stamp) -> CopyMask {
    mask_of(copies, |seen| matches!(seen, Seen::Valid { stamp: s, .. } if *s == stamp))
}

/// What was seen of one copy of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenHeader {
    /// Read and a valid header of some volume.
    Valid {
        /// Volume and spare it names.
        of: (Uuid, Uuid),
        /// Its stamp.
        stamp: Stamp,
        /// [`content_digest`] of the page.
        digest: u64,
        /// What it says of the spare, if that is a fence.
        fence: Option<Fence>,
    },
    /// Sealed, but of a version or with features this program does not know.
    Newer {
        /// Volume and spare it names, at their places in version 4.1.
        of: (Uuid, Uuid),
        /// [`PageFault::Version`] or [`PageFault::Feature`].
        fault: PageFault,
    },
    /// Read, and not valid.
    Invalid,
    /// Not read: the device failed.
    Unreadable,
}

impl SeenHeader {
    /// Looks at the bytes read from the header's place in `copy`.
    #[must_use]
    pub fn of(bytes: &PageBytes, copy: CopyIndex) -> SeenHeader {
        match Header::check(bytes, copy) {
            Ok(header) => SeenHeader::Valid {
                of: (header.volume(), header.spare()),
                stamp: header.stamp(),
                digest: content_digest(bytes),
                fence: header.fence(),
            },
            Err(fault @ (PageFault::Version(..) | PageFault::Feature(_))) => {
                let header = Header::of_image(bytes);
                SeenHeader::Newer { of: (header.volume(), header.spare()), fault }
            }
            Err(_) => SeenHeader::Invalid,
        }
    }

    /// The volume and spare a valid header names.
    const fn named(&self) -> Option<(Uuid, Uuid)> {
        match self {
            SeenHeader::Valid { of, .. } => Some(*of),
            _ => None,
        }
    }
}

/// What five headers amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderJudgement {
    /// The volume.
    pub volume: Uuid,
    /// The spare they lie on.
    pub spare: Uuid,
    /// The judgement over this volume's headers.
    pub page: Judgement,
}

/// Finds the volume and spare that two valid headers share.
///
/// # Errors
/// There is none, or there are two such.
pub fn identify(headers: &[SeenHeader; COPIES]) -> Result<(Uuid, Uuid), Refusal> {
    let mut found: Option<(Uuid, Uuid)> = None;
    for named in headers.iter().filter_map(SeenHeader::named) {
        let sharing = mask_of(headers, |header| header.named() == Some(named));
        if sharing.count() < NEEDED_VALID {
            continue;
        }
        match found {
            Some(first) if first != named => {
                return Err(Refusal::TwoVolumes { first: first.0, second: named.0 });
            }
            _ => found = Some(named),
        }
    }
    found.ok_or_else(|| Refusal::TooFewValid {
        valid: mask_of(headers, |header| header.named().is_some()),
        unreadable: mask_of(headers, |header| *header == SeenHeader::Unreadable),
    })
}

/// Judges the five headers of a spare: which volume, whether it is fenced, which copy wins.
///
/// # Errors
/// No volume or two, a fence or a newer header of this volume, one stamp with two contents.
pub fn judge_headers(headers: &[SeenHeader; COPIES]) -> Result<HeaderJudgement, Refusal> {
    let named = identify(headers)?;
    for (copy, header) in each(headers) {
        match *header {
            SeenHeader::Valid { of, fence: Some(fence), .. } if of == named => {
                return Err(Refusal::Fenced { copy, fence });
            }
            SeenHeader::Newer { of, fault } if of == named => {
                return Err(Refusal::Newer { copy, fault });
            }
            _ => {}
        }
    }
    let copies = headers.map(|header| match header {
        SeenHeader::Valid { of, stamp, digest, .. } if of == named => Seen::Valid { stamp, digest },
        SeenHeader::Unreadable => Seen::Unreadable,
        _ => Seen::Invalid,
    });
    let page = judge(&copies)?;
    Ok(HeaderJudgement { volume: named.0, spare: named.1, page })
}
