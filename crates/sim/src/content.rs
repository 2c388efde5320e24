// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What lies in one sector, by name instead of by bytes.
//!
//! The logic never looks at a byte of user data, it only moves it; so 512 bytes of data are named
//! by the sector of the volume they were written to and the write that made them. A wrong name is
//! a wrong byte. Metadata pages are real bytes: they are packed and judged by `dmremap-format`.

use std::fmt;
use std::rc::Rc;

use dmremap_format::{PAGE_BYTES, PageBytes};

/// Which write made a content: 0 stands for zeros, 1 for what main held when it was adopted,
/// higher numbers for the client's writes in the order they were begun.
pub type Version = u32;

/// Zeros that were written on purpose, or left by a discard.
pub const ZEROS: Version = 0;
/// What main held when it was adopted.
pub const ADOPTED: Version = 1;

/// Sectors of a metadata page.
pub const PAGE_SECTORS: usize = 8;

/// The content of one sector.
#[derive(Clone)]
pub enum Content {
    /// Never written: a new spare.
    Blank,
    /// Data of the volume.
    Data {
        /// The volume's sector it belongs to.
        sector: u64,
        /// The write that made it.
        version: Version,
    },
    /// An eighth of a metadata page.
    Page {
        /// The page as it was written.
        page: Rc<PageBytes>,
        /// Which eighth, 0 to 7.
        part: u8,
    },
    /// What a device made up; every number is another.
    Garbage(u32),
}

impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Blank, Content::Blank) => true,
            (
                Content::Data { sector, version },
                Content::Data { sector: other_sector, version: other_version },
            ) => sector == other_sector && version == other_version,
            (Content::Garbage(a), Content::Garbage(b)) => a == b,
            (Content::Page { .. }, Content::Page { .. }) => self.bytes() == other.bytes(),
            _ => false,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Blank => write!(f, "blank"),
            Content::Data { sector, version } => write!(f, "{sector}@{version}"),
            Content::Page { part, .. } => write!(f, "page/{part}"),
            Content::Garbage(n) => write!(f, "garbage{n}"),
        }
    }
}

impl Content {
    /// The 512 bytes, as far as metadata is concerned: data and garbage get a pattern that no page
    /// holds, so that a checksum over them never fits.
    #[must_use]
    pub fn bytes(&self) -> [u8; 512] {
        let mut bytes = [0u8; 512];
        match self {
            Content::Blank => {}
            Content::Data { sector, version } => {
                if *version != ZEROS {
                    bytes[..8].copy_from_slice(&sector.to_le_bytes());
                    bytes[8..12].copy_from_slice(&version.to_le_bytes());
                    bytes[12..].fill(0xda);
                }
            }
            Content::Garbage(n) => {
                bytes.fill(0x6b);
                bytes[..4].copy_from_slice(&n.to_le_bytes());
            }
            Content::Page { page, part } => {
                let from = usize::from(*part) * 512;
                bytes.copy_from_slice(&page[from..from + 512]);
            }
        }
        bytes
    }
}

/// The eight sectors of a page.
#[must_use]
pub fn page_contents(page: &PageBytes) -> Vec<Content> {
    let page = Rc::new(*page);
    (0..PAGE_SECTORS as u8).map(|part| Content::Page { page: Rc::clone(&page), part }).collect()
}

/// The page that eight sectors make up, whatever they hold.
#[must_use]
pub fn page_bytes(contents: &[Content]) -> Box<PageBytes> {
    let mut page = Box::new([0u8; PAGE_BYTES]);
    for (part, content) in contents.iter().take(PAGE_SECTORS).enumerate() {
        page[part * 512..part * 512 + 512].copy_from_slice(&content.bytes());
    }
    page
}

/// `sectors` sectors of the volume from `sector`, as one write leaves them.
#[must_use]
pub fn data_contents(sector: u64, sectors: u32, version: Version) -> Vec<Content> {
    (0..u64::from(sectors)).map(|i| Content::Data { sector: sector + i, version }).collect()
}
