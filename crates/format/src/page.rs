// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What all metadata pages share: magic, kind, copy index, stamp, checksum.
//!
//! Bytes that come from a device are only bytes. They become a view ([`Header`](crate::Header),
//! [`GenerationPage`](crate::GenerationPage), [`TablePage`](crate::TablePage)) by its `check`,
//! which is the definition of a *valid* page. The checksum is a CRC32C over the whole page with its
//! own four bytes left out, begun with a salt of the kind, so that a good page of another kind is
//! bad.

use crate::at::{self, Span};
use crate::crc::crc32c;
use crate::types::{CopyIndex, PageBytes, PageIndex, Stamp, Uuid};

/// "DMR4" read as a number; on disk the bytes `34 52 4d 44`.
pub const MAGIC: u32 = 0x444D_5234;

/// The kinds of metadata page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageKind {
    /// The first page of a copy.
    Header = 1,
    /// The second.
    Generation = 2,
    /// A page of slots.
    Table = 3,
}

impl PageKind {
    /// What the checksum of this kind begins with.
    #[must_use]
    pub const fn salt(self) -> u32 {
        match self {
            PageKind::Header => 0x4845_4144,
            PageKind::Generation => 0x4745_4E45,
            PageKind::Table => 0x5441_424C,
        }
    }
}

/// What a page must say of itself to be valid at the place it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The volume.
    pub volume: Uuid,
    /// The spare it lies on.
    pub spare: Uuid,
    /// The copy it lies in.
    pub copy: CopyIndex,
    /// The table page; not looked at for headers and generation pages.
    pub page: PageIndex,
}

/// Why a page is not valid. The order is the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PageFault {
    /// Not a page of ours: zeros, foreign bytes, or torn at the front.
    Magic,
    /// Another kind of page than belongs here.
    Kind,
    /// The checksum is wrong: torn, rotten, or the old v4 format.
    Checksum,
    /// A header of another format version, as (major, minor).
    Version(u16, u16),
    /// A header that needs these features, which this program does not know.
    Feature(u64),
    /// A page of another volume.
    OtherVolume(Uuid),
    /// A page of this volume, but of another spare.
    OtherSpare(Uuid),
    /// Written for another copy or another place in the table.
    Misplaced,
    /// The checksum is right and a field is not: written by a broken or hostile program.
    Field(crate::Field),
}

impl PageFault {
    /// One phrase for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            PageFault::Magic => "no metadata here",
            PageFault::Kind => "another kind of page",
            PageFault::Checksum => "bad checksum",
            PageFault::Version(..) => "another format version",
            PageFault::Feature(_) => "needs a feature this version does not know",
            PageFault::OtherVolume(_) => "page of another volume",
            PageFault::OtherSpare(_) => "page of another spare",
            PageFault::Misplaced => "page of another place",
            PageFault::Field(_) => "field out of range",
        }
    }
}

/// Magic, kind and checksum.
pub(crate) fn check_head(page: &PageBytes, kind: PageKind) -> Result<(), PageFault> {
    if at::table::MAGIC.u32(page) != MAGIC {
        return Err(PageFault::Magic);
    }
    if at::table::KIND.u8(page) != kind as u8 {
        return Err(PageFault::Kind);
    }
    if at::table::CHECKSUM.u32(page) != checksum(page, kind) {
        return Err(PageFault::Checksum);
    }
    Ok(())
}

/// Volume, spare and copy index, of which the UUIDs lie at `volume` and `spare`.
pub(crate) fn check_place(
    page: &PageBytes,
    volume: Span,
    spare: Span,
    expect: &Expect,
) -> Result<(), PageFault> {
    if volume.uuid(page) != expect.volume {
        return Err(PageFault::OtherVolume(volume.uuid(page)));
    }
    if spare.uuid(page) != expect.spare {
        return Err(PageFault::OtherSpare(spare.uuid(page)));
    }
    if copy_of(page) != expect.copy {
        return Err(PageFault::Misplaced);
    }
    Ok(())
}

/// The checksum `page` ought to have as a page of `kind`.
fn checksum(page: &PageBytes, kind: PageKind) -> u32 {
    let head = page.get(..at::table::CHECKSUM.at).unwrap_or(&[]);
    let body = page.get(at::table::CHECKSUM.end()..).unwrap_or(&[]);
    crc32c(crc32c(kind.salt(), head), body)
}

/// Writes copy index, stamp and checksum.
pub(crate) fn seal(page: &mut PageBytes, kind: PageKind, copy: CopyIndex, stamp: Stamp) {
    at::table::COPY.put_uint(page, u64::from(copy.0));
    at::table::GENERATION.put_uint(page, stamp.generation);
    at::table::SEQUENCE.put_uint(page, stamp.sequence);
    let crc = checksum(page, kind);
    at::table::CHECKSUM.put_uint(page, u64::from(crc));
}

/// Zeroes the page and writes magic and kind.
pub(crate) fn blank(page: &mut PageBytes, kind: PageKind) {
    page.fill(0);
    at::table::MAGIC.put_uint(page, u64::from(MAGIC));
    at::table::KIND.put_uint(page, u64::from(kind as u8));
}

/// The stamp a page carries, checked or not.
pub(crate) fn stamp_of(page: &PageBytes) -> Stamp {
    Stamp { generation: at::table::GENERATION.uint(page), sequence: at::table::SEQUENCE.uint(page) }
}

/// The copy index a page carries, checked or not.
pub(crate) fn copy_of(page: &PageBytes) -> CopyIndex {
    CopyIndex(at::table::COPY.u8(page))
}

/// The parts of a page that make up its content: everything but copy index and checksum, the stamp
/// and the timestamp included.
fn content(page: &PageBytes) -> [&[u8]; 3] {
    [
        page.get(..at::table::COPY.at).unwrap_or(&[]),
        page.get(at::table::COPY.end()..at::table::CHECKSUM.at).unwrap_or(&[]),
        page.get(at::table::CHECKSUM.end()..).unwrap_or(&[]),
    ]
}

/// Whether two pages are equal but for copy index and checksum. One stamp never names two contents.
#[must_use]
pub fn same_content(a: &PageBytes, b: &PageBytes) -> bool {
    content(a) == content(b)
}

/// 64 bits that stand for the content of a page where five copies are not held in memory at once.
///
/// Pages with the same content have the same digest. Each step is invertible, so pages that differ
/// in one aligned group of eight bytes always differ in it; others do but for one case in 2^64.
/// It protects against accidents, not against an adversary.
#[must_use]
pub fn content_digest(page: &PageBytes) -> u64 {
    let mut hash = 0x9E37_79B9_7F4A_7C15u64;
    for (index, bytes) in page.chunks_exact(8).enumerate() {
        let word = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let keep = match index {
            // The word that holds the copy index, and the one that ends with the checksum.
            5 => !0xff,
            7 => 0xffff_ffff,
            _ => u64::MAX,
        };
        hash = (hash ^ (word & keep)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        hash ^= hash >> 32;
    }
    hash
}
