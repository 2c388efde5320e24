// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the metadata machines need to know of a page, and the words they share.
//!
//! The machines never look into a page: they order, copy, seal and check it through [`Image`]. The
//! real binding is a page of 4 KiB ([`PageBytes`](dmremap_format::PageBytes)); the exhaustive
//! models run the very same machines with pages of a few bytes.

use core::ops::DerefMut;

use dmremap_format::{CopyIndex, PageFault, PageIndex, SeenHeader, Stamp, Uuid};

use super::cache::Cached;
use super::joins::Joined;
use super::state::PageState;

/// A page of the metadata, of which every copy holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageId {
    /// The header page.
    Header,
    /// The generation page. Written by format and open only; no commit names it.
    Generation,
    /// A page of the table.
    Table(PageIndex),
}

/// Names an I/O of a metadata machine until it is answered; never used twice while one is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoId(pub u32);

/// An I/O on the table holder that a metadata machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// To be given back with the answer.
    pub id: IoId,
    /// What to do.
    pub kind: IoKind,
}

/// The kinds of metadata I/O. Reads are uncached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// Read one page of one copy and hand in what was read, valid or not.
    Read {
        /// The page.
        page: PageId,
        /// The copy.
        copy: CopyIndex,
    },
    /// Write the sealed page that the machine's `image` gives for this I/O.
    Write {
        /// The page.
        page: PageId,
        /// The copy.
        copy: CopyIndex,
    },
    /// Flush the device's cache.
    Flush,
}

/// A volume and the spare that holds its table: what every page names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VolumeId {
    /// The volume.
    pub volume: Uuid,
    /// The spare.
    pub spare: Uuid,
}

/// The content of one page, opaque to the machines.
///
/// A page as read is untrusted until [`check`](Image::check) has passed it; but for
/// [`seen_header`](Image::seen_header) the other methods are called on checked or own pages only.
pub trait Image {
    /// One change of a page's content.
    type Change: Copy;

    /// What these bytes, read from the header's place in `copy`, are by themselves.
    fn seen_header(&self, copy: CopyIndex) -> SeenHeader;

    /// The stamp of a page that is valid as `page` of `copy` of this volume (a generation page's
    /// sequence is 0).
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, of: &VolumeId, page: PageId, copy: CopyIndex) -> Result<Stamp, PageFault>;

    /// The number of table pages a valid header names.
    fn table_pages(&self) -> u32;

    /// The session a valid header names.
    fn session(&self) -> Uuid;

    /// Equal for two valid pages if and (but for accident) only if they are equal in every byte
    /// but the copy index and the checksum.
    fn digest(&self) -> u64;

    /// Becomes an exact copy of `other`.
    fn copy_from(&mut self, other: &Self);

    /// Becomes an empty table page of this volume, unsealed.
    fn blank(&mut self, of: &VolumeId, page: PageId);

    /// Whether `change` can be applied to `page`.
    fn fits(page: PageId, change: &Self::Change) -> bool;

    /// Applies one change to `page`'s content.
    fn apply(&mut self, page: PageId, change: &Self::Change);

    /// Becomes what is written as `page` of `copy` under `stamp`: sets the copy index, stamp and
    /// checksum of a header or table page, builds a generation page from nothing.
    fn seal(&mut self, of: &VolumeId, page: PageId, copy: CopyIndex, stamp: Stamp);
}

/// The memory a machine works on, given by its caller and kept for its life.
pub trait Store {
    /// The pages' content.
    type Page: Image;
    /// Cached images, 2 to 255: at most so many pages are in a commit or in doubt at once.
    type Cache: DerefMut<Target = [Cached<Self::Page>]>;
    /// One for the header and one for each table page, see [`state_count`](super::state_count).
    type States: DerefMut<Target = [PageState]>;
    /// Room for the changes that have joined a commit and are not settled.
    type Joins: DerefMut<Target = [Joined<ChangeOf<Self>>]>;
}

/// The change type of a store's pages.
pub type ChangeOf<S> = <<S as Store>::Page as Image>::Change;
