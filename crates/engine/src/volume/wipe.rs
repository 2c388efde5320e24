// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Taking our metadata off a spare, and nothing else.
//!
//! A page is taken for ours if it begins with our magic; whatever else lies in its place by now is
//! left alone. Where the headers still name a layout, a page of it that cannot be read counts as
//! ours too: it may come back. The headers go first and are flushed, so that a crash leaves a
//! volume that is whole or none.

use dmremap_core::Class;
use dmremap_format::{
    CopyIndex, Layout, MAGIC, PAGE_BYTES, PageIndex, SECTOR_BYTES, UNIT_SECTORS, header_sector,
};

use crate::device::Device;

/// The pages of ours on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// First sectors of the headers.
    headers: Vec<u64>,
    /// First sectors of everything else.
    others: Vec<u64>,
}

impl Remains {
    /// Looks for them; `layout` is what the headers say, if they do.
    #[must_use]
    pub fn find(device: &dyn Device, layout: Option<&Layout>) -> Remains {
        let ours = |sector: &u64| match first_bytes(device, *sector) {
            Ok(magic) => magic == MAGIC,
            Err(_) => layout.is_some() && *sector < device.sectors(),
        };
        let headers = CopyIndex::ALL.map(header_sector);
        let behind = headers.map(|sector| sector + UNIT_SECTORS);
        let pages = layout.map_or(0, Layout::pages);
        let table = CopyIndex::ALL.into_iter().flat_map(|copy| {
            let at = move |page| layout.map(|layout| layout.page_sector(copy, PageIndex(page)));
            (0..pages).filter_map(at)
        });
        Remains {
            headers: headers.into_iter().filter(ours).collect(),
            others: behind.into_iter().chain(table).filter(ours).collect(),
        }
    }

    /// Whether nothing of ours was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.others.is_empty()
    }

    /// Pages in all.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.headers.len() + self.others.len()
    }

    /// Makes them zeros, durably, and reads the headers back. What could not be written stays, and
    /// is given back with the device's error.
    ///
    /// # Errors
    /// The sectors of pages that are still there.
    pub fn wipe(&self, device: &dyn Device) -> Result<(), Vec<(u64, Class)>> {
        let mut left = Vec::new();
        for part in [&self.headers, &self.others] {
            for sector in part {
                let (at, len) = (sector * SECTOR_BYTES, PAGE_BYTES as u64);
                if let Err(class) = device.write_zeroes(at, len, false) {
                    left.push((*sector, class));
                }
            }
            if let Err(class) = device.flush() {
                left.extend(part.iter().map(|sector| (*sector, class)));
            }
        }
        for sector in &self.headers {
            if first_bytes(device, *sector) == Ok(MAGIC) {
                left.push((*sector, Class::Io));
            }
        }
        left.sort_unstable_by_key(|(sector, _)| *sector);
        left.dedup_by_key(|(sector, _)| *sector);
        if left.is_empty() { Ok(()) } else { Err(left) }
    }
}

/// What the page at `sector` begins with.
fn first_bytes(device: &dyn Device, sector: u64) -> Result<u32, Class> {
    let mut page = [0; PAGE_BYTES];
    device.read_uncached(&mut page, sector * SECTOR_BYTES)?;
    Ok(page.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}
