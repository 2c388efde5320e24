// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why an entry was made, for lists.
//!
//! The table in memory does not say: nothing but a list asks for it. It stands in the entry's slot
//! on the spare, in a page that any copy which verifies will do for, as long as its slot speaks of
//! this entry: a commit may be under way. A list must not wait for a sick spare, so reading stops
//! for good at the first page that no copy gives, and when it has taken its time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dmremap_core::table::Entry;
use dmremap_format::{
    CopyIndex, Expect, PAGE_BYTES, PageBytes, PageIndex, SECTOR_BYTES, Slot, TablePage,
};

use crate::device::Device;

use super::open::VolumeInfo;

/// How long the pages of one list may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pages kept, of 4 KiB: those of the largest table that `format` makes by itself.
const PAGES: usize = 2081;
/// What stands in a list where it is not known.
const UNKNOWN: &str = "-";

/// Reads causes for one list.
pub(crate) struct Causes<'a> {
    spare: &'a dyn Device,
    info: &'a VolumeInfo,
    begun: Instant,
    /// The spare did not give a page.
    sick: bool,
    pages: HashMap<PageIndex, Box<PageBytes>>,
}

impl<'a> Causes<'a> {
    /// Of the volume that `info` describes, whose table lies on `spare`.
    pub(crate) fn new(spare: &'a dyn Device, info: &'a VolumeInfo) -> Causes<'a> {
        Causes { spare, info, begun: Instant::now(), sick: false, pages: HashMap::new() }
    }

    /// Why there is this entry, one word; `-` if it cannot be told.
    pub(crate) fn word(&mut self, entry: &Entry) -> &'static str {
        let page = entry.slot.page();
        let slot = match self.pages.get(&page).and_then(|page| slot_of(page, entry)) {
            Some(slot) => Some(slot),
            None => self.read(page, entry),
        };
        slot.map_or(UNKNOWN, |slot| slot.cause.word())
    }

    /// The entry's slot, from the first copy of its page that speaks of it; the page is kept.
    fn read(&mut self, page: PageIndex, entry: &Entry) -> Option<Slot> {
        let mut verified = false;
        for copy in CopyIndex::ALL {
            if self.sick || self.begun.elapsed() > PATIENCE {
                return None;
            }
            let mut bytes = Box::new([0; PAGE_BYTES]);
            let sector = self.info.layout.page_sector(copy, page);
            let read = self.spare.read_uncached(&mut bytes[..], sector * SECTOR_BYTES);
            let (volume, spare) = (self.info.volume, self.info.spare);
            let expect = Expect { volume, spare, copy, page };
            if read.is_err() || TablePage::check(&bytes, &expect).is_err() {
                continue;
            }
            verified = true;
            if let Some(slot) = slot_of(&bytes, entry) {
                if self.pages.len() >= PAGES {
                    self.pages.clear();
                }
                self.pages.insert(page, bytes);
                return Some(slot);
            }
        }
        self.sick = !verified;
        None
    }
}

/// The slot of `entry` in its page, if that is what stands there.
fn slot_of(page: &PageBytes, entry: &Entry) -> Option<Slot> {
    let slot = TablePage::of_image(page).slot(entry.slot.place()).ok()?;
    (slot.main == Some(entry.unit) && slot.spare == entry.spare).then_some(slot)
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
