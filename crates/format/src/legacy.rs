// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Tables that earlier generations of dm-remap left on spares: read, never written.
//!
//! * *v3*: a header at byte 0 with the magic `DMREMAP3`, entries of 16 bytes from byte 4096 on. Its
//!   checksum was taken over itself and before the state changed: it proves nothing.
//! * *v4 of 84,288 bytes*: five equal copies at sectors 0, 256, 512, 768 and 1024, each with a
//!   CRC-32 of its own kind; the valid one with the highest sequence counts.
//!
//! An entry says that the content of one sector of main lies on one sector of the spare. Their
//! writers let entries point into their own metadata and gave spare sectors out twice: such an
//! entry is damaged, and so is every other one that shares a sector with it. Nothing tells which of
//! two is right, so both are shown and neither is used.

use crate::types::{COPIES, CopyIndex};

/// Bytes of the v3 structure.
pub const V3_BYTES: usize = 4096 + 252 * 16;
/// Bytes of one copy of the historical v4 structure.
pub const V4_REAL_BYTES: usize = 84_288;
/// Sectors of a spare that v3 has its metadata in.
const V3_SECTORS: u64 = 16;
/// The same of the historical v4.
const V4_REAL_SECTORS: u64 = 1280;
/// Sectors between two copies of the historical v4.
const V4_REAL_STEP: u64 = 256;

/// The first sector of a copy of the historical v4.
#[must_use]
pub const fn v4_real_sector(copy: CopyIndex) -> u64 {
    (copy.0 as u64).saturating_mul(V4_REAL_STEP)
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Legacy {
    /// v3.
    V3,
    /// The historical v4.
    V4Real,
}

/// Why there is no table to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LegacyFault {
    /// Fewer bytes than the structure has.
    Short,
    /// Another magic number, or another version.
    NotThis,
    /// The checksum does not fit.
    Checksum,
    /// More entries than the structure has places for.
    Count(u32),
}

impl LegacyFault {
    /// One phrase.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LegacyFault::Short => "too short",
            LegacyFault::NotThis => "no such table",
            LegacyFault::Checksum => "its checksum does not fit",
            LegacyFault::Count(_) => "counts more entries than it has room for",
        }
    }
}

/// The content of sector `main` lies on sector `spare` of the old spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LegacyEntry {
    /// Sector of main.
    pub main: u64,
    /// Sector of the old spare.
    pub spare: u64,
}

/// Why an entry is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryFault {
    /// Beyond the main device the table names.
    MainRange,
    /// Beyond the spare the table names.
    SpareRange,
    /// Its spare sector is one of the table's own.
    OwnMetadata,
    /// Another entry is about the same sector of main.
    MainTwice,
    /// Another entry has the same spare sector.
    SpareTwice,
}

impl EntryFault {
    /// One phrase.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            EntryFault::MainRange => "beyond main",
            EntryFault::SpareRange => "beyond the spare",
            EntryFault::OwnMetadata => "points into its own metadata",
            EntryFault::MainTwice => "main's sector has two entries",
            EntryFault::SpareTwice => "the spare's sector has two entries",
        }
    }
}

/// A table as read, over the bytes it was read into.
#[derive(Clone, Copy, Debug)]
pub struct LegacyTable<'a> {
    kind: Legacy,
    entries: &'a [u8],
    entry_bytes: usize,
    main_sectors: u64,
    spare_sectors: u64,
    sequence: u64,
}

impl<'a> LegacyTable<'a> {
    /// The v3 table in `bytes`, which begin with the spare's first sector.
    ///
    /// # Errors
    /// [`LegacyFault`].
    pub fn v3(bytes: &'a [u8]) -> Result<LegacyTable<'a>, LegacyFault> {
        if bytes.get(..8) != Some(b"DMREMAP3") || le32(bytes, 8) != Some(1) {
            return Err(if bytes.len() < 12 { LegacyFault::Short } else { LegacyFault::NotThis });
        }
        let bytes = bytes.get(..V3_BYTES).ok_or(LegacyFault::Short)?;
        let count = le32(bytes, 32).unwrap_or(0);
        Ok(LegacyTable {
            kind: Legacy::V3,
            entries: entries(bytes, 4096, 16, count, 252)?,
            entry_bytes: 16,
            main_sectors: le64(bytes, 40).unwrap_or(0),
            spare_sectors: le64(bytes, 48).unwrap_or(0),
            sequence: u64::from(le32(bytes, 60).unwrap_or(0)),
        })
    }

    /// One copy of the historical v4.
    ///
    /// # Errors
    /// [`LegacyFault`].
    pub fn v4_real(bytes: &'a [u8]) -> Result<LegacyTable<'a>, LegacyFault> {
        if le32(bytes, 0) != Some(0x444d_5234) || le32(bytes, 4) != Some(4) {
            return Err(if bytes.len() < 8 { LegacyFault::Short } else { LegacyFault::NotThis });
        }
        let bytes = bytes.get(..V4_REAL_BYTES).ok_or(LegacyFault::Short)?;
        if le32(bytes, 32) != u32::try_from(V4_REAL_BYTES).ok() {
            return Err(LegacyFault::NotThis);
        }
        let (head, rest) = (bytes.get(..24).unwrap_or(&[]), bytes.get(28..).unwrap_or(&[]));
        if le32(bytes, 24) != Some(crc32(crc32(0, head), rest)) {
            return Err(LegacyFault::Checksum);
        }
        let count = le32(bytes, 296).unwrap_or(0);
        Ok(LegacyTable {
            kind: Legacy::V4Real,
            entries: entries(bytes, 312, 40, count, 2048)?,
            entry_bytes: 40,
            main_sectors: le64(bytes, 120).unwrap_or(0),
            spare_sectors: le64(bytes, 128).unwrap_or(0),
            sequence: le64(bytes, 8).unwrap_or(0),
        })
    }

    /// The best of what was read of the five copies: valid, with the highest sequence.
    ///
    /// # Errors
    /// The first copy's fault if no copy is valid.
    pub fn v4_real_best(
        copies: [Option<&'a [u8]>; COPIES],
    ) -> Result<LegacyTable<'a>, LegacyFault> {
        let mut first = None;
        let mut best: Option<LegacyTable<'a>> = None;
        for bytes in copies.into_iter().flatten() {
            match LegacyTable::v4_real(bytes) {
                Ok(table) if best.is_none_or(|best| best.sequence < table.sequence) => {
                    best = Some(table);
                }
                Ok(_) => {}
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        best.ok_or(first.unwrap_or(LegacyFault::Short))
    }

    /// Which of the two.
    #[must_use]
    pub const fn kind(&self) -> Legacy {
        self.kind
    }

    /// Whether a checksum speaks for what was read.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        matches!(self.kind, Legacy::V4Real)
    }

    /// Sectors of the main device the table names.
    #[must_use]
    pub const fn main_sectors(&self) -> u64 {
        self.main_sectors
    }

    /// Sectors of the spare the table names.
    #[must_use]
    pub const fn spare_sectors(&self) -> u64 {
        self.spare_sectors
    }

    /// The sequence number of v4, the generation of v3.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The entries in the order of the table, each with its fault if it is damaged. Looks at every
    /// pair of them, of which there are at most two million.
    pub fn entries(&self) -> impl Iterator<Item = (LegacyEntry, Option<EntryFault>)> + use<'_, 'a> {
        self.raw().enumerate().map(|(index, entry)| (entry, self.fault(index, entry)))
    }

    fn raw(&self) -> impl Iterator<Item = LegacyEntry> + use<'a> {
        self.entries.chunks_exact(self.entry_bytes).map(|bytes| LegacyEntry {
            main: le64(bytes, 0).unwrap_or(u64::MAX),
            spare: le64(bytes, 8).unwrap_or(u64::MAX),
        })
    }

    fn fault(&self, index: usize, entry: LegacyEntry) -> Option<EntryFault> {
        let own = match self.kind {
            Legacy::V3 => V3_SECTORS,
            Legacy::V4Real => V4_REAL_SECTORS,
        };
        if entry.main >= self.main_sectors {
            return Some(EntryFault::MainRange);
        }
        if entry.spare >= self.spare_sectors {
            return Some(EntryFault::SpareRange);
        }
        if entry.spare < own {
            return Some(EntryFault::OwnMetadata);
        }
        let mut others = self.raw().enumerate().filter(|(other, _)| *other != index);
        others.find_map(|(_, other)| {
            if other.main == entry.main {
                Some(EntryFault::MainTwice)
            } else if other.spare == entry.spare {
                Some(EntryFault::SpareTwice)
            } else {
                None
            }
        })
    }
}

/// The bytes of `count` entries of `len` bytes from `at` on, if there is room for so many.
fn entries(
    bytes: &[u8],
    at: usize,
    len: usize,
    count: u32,
    most: u32,
) -> Result<&[u8], LegacyFault> {
    if count > most {
        return Err(LegacyFault::Count(count));
    }
    let used = usize::try_from(count).unwrap_or(0).saturating_mul(len);
    bytes.get(at..at.saturating_add(used)).ok_or(LegacyFault::Short)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// CRC-32 with the reflected polynomial of IEEE 802.3, begun at 0 and not inverted at the end, as
/// the kernel's `crc32(0, ...)` gives it. Four bits a step: it is taken of a few copies, once.
fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..2 {
            let low = usize::try_from(crc & 15).unwrap_or(0);
            crc = (crc >> 4) ^ NIBBLES.get(low).copied().unwrap_or(0);
        }
    }
    crc
}

/// What four bits contribute.
const NIBBLES: [u32; 16] = [
    0x0000_0000,
    0x1db7_1064,
    0x3b6e_20c8,
    0x26d9_30ac,
    0x76dc_4190,
    0x6b6b_51f4,
    0x4db2_6158,
    0x5005_713c,
    0xedb8_8320,
    0xf00f_9344,
    0xd6d6_a3e8,
    0xcb61_b38c,
    0x9b64_c2b0,
    0x86d3_d2d4,
    0xa00a_e278,
    0xbdbd_f21c,
];
