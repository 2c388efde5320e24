// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The generation page: which generation has begun, and nothing else, because what rode on it would
//! be settled by a write that is itself in doubt.

use crate::at::generation as at;
use crate::page::{self, Expect, PageFault, PageKind};
use crate::types::{CopyIndex, PageBytes, Stamp, Uuid};

/// A valid generation page.
#[derive(Clone, Copy, Debug)]
pub struct GenerationPage<'a>(&'a PageBytes);

impl<'a> GenerationPage<'a> {
    /// Bytes as read, held against the place they were read from.
    ///
    /// # Errors
    /// Why the page is not valid.
    pub fn check(bytes: &'a PageBytes, expect: &Expect) -> Result<GenerationPage<'a>, PageFault> {
        page::check_head(bytes, PageKind::Generation)?;
        page::check_place(bytes, at::VOLUME, at::SPARE, expect)?;
        Ok(GenerationPage(bytes))
    }

    /// The volume it belongs to.
    #[must_use]
    pub fn volume(&self) -> Uuid {
        at::VOLUME.uuid(self.0)
    }

    /// The spare it lies on.
    #[must_use]
    pub fn spare(&self) -> Uuid {
        at::SPARE.uuid(self.0)
    }

    /// The copy it was sealed for.
    #[must_use]
    pub fn copy(&self) -> CopyIndex {
        page::copy_of(self.0)
    }

    /// The generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        at::GENERATION.uint(self.0)
    }

    /// The generation as a stamp, (generation, 0), for the judgement over five copies.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { generation: self.generation(), sequence: 0 }
    }
}

/// A generation page being made.
#[derive(Debug)]
pub struct GenerationPageMut<'a>(&'a mut PageBytes);

impl<'a> GenerationPageMut<'a> {
    /// Begins a page.
    pub fn blank(bytes: &'a mut PageBytes, volume: Uuid, spare: Uuid) -> GenerationPageMut<'a> {
        page::blank(bytes, PageKind::Generation);
        at::VOLUME.put(bytes, &volume.0);
        at::SPARE.put(bytes, &spare.0);
        GenerationPageMut(bytes)
    }

    /// Sets generation, copy index and checksum: the last thing before the page is written.
    pub fn seal(&mut self, copy: CopyIndex, generation: u64) {
        page::seal(self.0, PageKind::Generation, copy, Stamp { generation, sequence: 0 });
    }
}
