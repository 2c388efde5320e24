// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is remembered of every page while a volume is open: the stamp of its last acknowledged
//! image, and in which state each of its five copies was last seen or left.

use dmremap_format::{COPIES, CopyIndex, Stamp};

use super::image::PageId;

/// The five copies, first to last.
pub(crate) const ALL: [CopyIndex; COPIES] =
    [CopyIndex(0), CopyIndex(1), CopyIndex(2), CopyIndex(3), CopyIndex(4)];

/// The state of one copy of one page, in the order in which a commit writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyState {
    /// Readable but not valid: torn, foreign or never written.
    Torn,
    /// Could not be read, or the last write to it failed, or the flush behind that write did.
    Failed,
    /// Valid under an older stamp than the page's.
    Stale,
    /// Valid and current.
    #[default]
    Good,
}

/// What is known of one page: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageState {
    /// Stamp of the last acknowledged image.
    pub(crate) stamp: Stamp,
    /// The five copies.
    pub(crate) copies: [CopyState; COPIES],
}

impl PageState {
    /// Stamp of the page's last acknowledged image.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The state of one copy; an index beyond the five counts as failed.
    #[must_use]
    pub fn copy(&self, copy: CopyIndex) -> CopyState {
        self.copies.get(usize::from(copy.0)).copied().unwrap_or(CopyState::Failed)
    }

    /// Copies that are valid and current, 0 to 5.
    #[must_use]
    pub fn good(&self) -> u8 {
        self.copies.iter().fold(0u8, |n, c| n.saturating_add(u8::from(*c == CopyState::Good)))
    }

    pub(crate) fn set(&mut self, copy: CopyIndex, state: CopyState) {
        if let Some(c) = self.copies.get_mut(usize::from(copy.0)) {
            *c = state;
        }
    }

    /// The order in which a commit writes the copies: torn, failed, stale, good, each by index.
    pub(crate) fn order(&self) -> [CopyIndex; COPIES] {
        use CopyState::{Failed, Good, Stale, Torn};
        let mut order = ALL;
        let mut places = order.iter_mut();
        for state in [Torn, Failed, Stale, Good] {
            for copy in ALL.into_iter().filter(|c| self.copy(*c) == state) {
                if let Some(place) = places.next() {
                    *place = copy;
                }
            }
        }
        order
    }
}

/// How many [`PageState`]s a table of `table_pages` pages needs: one more, for the header.
#[must_use]
pub const fn state_count(table_pages: u32) -> usize {
    (table_pages as usize).saturating_add(1)
}

/// The place of a page's state; generation pages have none.
pub(crate) fn state_index(page: PageId) -> Option<usize> {
    match page {
        PageId::Header => Some(0),
        PageId::Generation => None,
        PageId::Table(p) => usize::try_from(p.0).ok()?.checked_add(1),
    }
}

/// One bit a copy.
pub(crate) const fn bit(copy: CopyIndex) -> u8 {
    1u8.wrapping_shl(copy.0 as u32)
}
