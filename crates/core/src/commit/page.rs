// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The real binding: pages of 4 KiB in format v4.

use dmremap_format::{
    CopyIndex, Expect, GenerationPage, GenerationPageMut, Header, HeaderMut, PageBytes, PageFault,
    PageIndex, SeenHeader, Stamp, TablePage, TablePageMut, Uuid, content_digest,
};

use super::change::MetadataChange;
use super::image::{Image, PageId, VolumeId};

impl Image for PageBytes {
    type Change = MetadataChange;

    fn seen_header(&self, copy: CopyIndex) -> SeenHeader {
        SeenHeader::of(self, copy)
    }

    fn check(&self, of: &VolumeId, page: PageId, copy: CopyIndex) -> Result<Stamp, PageFault> {
        let index = match page {
            PageId::Table(index) => index,
            PageId::Header | PageId::Generation => PageIndex(0),
        };
        let expect = Expect { volume: of.volume, spare: of.spare, copy, page: index };
        match page {
            PageId::Header => Header::check_for(self, &expect).map(|p| p.stamp()),
            PageId::Generation => GenerationPage::check(self, &expect).map(|p| p.stamp()),
            PageId::Table(_) => TablePage::check(self, &expect).map(|p| p.stamp()),
        }
    }

    fn table_pages(&self) -> u32 {
        Header::of_image(self).layout().map_or(0, |layout| layout.pages())
    }

    fn session(&self) -> Uuid {
        Header::of_image(self).session().session
    }

    fn digest(&self) -> u64 {
        content_digest(self)
    }

    fn copy_from(&mut self, other: &Self) {
        self.copy_from_slice(other);
    }

    fn blank(&mut self, of: &VolumeId, page: PageId) {
        if let PageId::Table(index) = page {
            TablePageMut::blank(self, of.volume, of.spare, index);
        }
    }

    fn fits(page: PageId, change: &MetadataChange) -> bool {
        change.fits(page)
    }

    fn apply(&mut self, _: PageId, change: &MetadataChange) {
        // What has joined fits, so this cannot fail.
        let _ = change.apply(self);
    }

    fn seal(&mut self, of: &VolumeId, page: PageId, copy: CopyIndex, stamp: Stamp) {
        match page {
            PageId::Header => HeaderMut::edit(self).seal(copy, stamp),
            PageId::Table(_) => TablePageMut::edit(self).seal(copy, stamp),
            PageId::Generation => {
                GenerationPageMut::blank(self, of.volume, of.spare).seal(copy, stamp.generation)
            }
        }
    }
}
