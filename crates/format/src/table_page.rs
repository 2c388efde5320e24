// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A table page: 64 bytes of head, 126 slots of 32 bytes.

use crate::at::{Span, table as at};
use crate::page::{self, Expect, PageFault, PageKind};
use crate::slot::{SLOT_BYTES, SLOTS_PER_PAGE, Slot, SlotFault};
use crate::types::{CopyIndex, PageBytes, PageIndex, SlotIndex, Stamp, Uuid};

const PER_PAGE: u32 = SLOTS_PER_PAGE as u32;

impl SlotIndex {
    /// The slot at `place` (0 to 125) of `page`; `None` if there is none or it exceeds 24 bits.
    #[must_use]
    pub fn new(page: PageIndex, place: u8) -> Option<SlotIndex> {
        if place >= SLOTS_PER_PAGE {
            return None;
        }
        let first = page.0.checked_mul(PER_PAGE)?;
        let index = first.checked_add(u32::from(place))?;
        (index < 1 << 24).then_some(SlotIndex(index))
    }

    /// The page it lies in.
    #[must_use]
    pub const fn page(self) -> PageIndex {
        PageIndex(self.0 / PER_PAGE)
    }

    /// Its place in that page, 0 to 125.
    #[must_use]
    pub const fn place(self) -> u8 {
        (self.0 % PER_PAGE) as u8
    }
}

/// Where slot `place` lies in its page.
fn span(place: u8) -> Option<Span> {
    (place < SLOTS_PER_PAGE).then(|| at::SLOTS.row(usize::from(place), SLOT_BYTES))
}

/// A valid table page. Its slots are checked one by one, when they are read.
#[derive(Clone, Copy, Debug)]
pub struct TablePage<'a>(&'a PageBytes);

impl<'a> TablePage<'a> {
    /// Bytes as read, held against the place they were read from.
    ///
    /// # Errors
    /// Why the page is not valid.
    pub fn check(bytes: &'a PageBytes, expect: &Expect) -> Result<TablePage<'a>, PageFault> {
        page::check_head(bytes, PageKind::Table)?;
        page::check_place(bytes, at::VOLUME, at::SPARE, expect)?;
        let view = TablePage(bytes);
        if view.page() != expect.page {
            return Err(PageFault::Misplaced);
        }
        Ok(view)
    }

    /// A view of an image this program has built or has checked before; nothing is looked at.
    #[must_use]
    pub const fn of_image(bytes: &'a PageBytes) -> TablePage<'a> {
        TablePage(bytes)
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

    /// Its number.
    #[must_use]
    pub fn page(&self) -> PageIndex {
        PageIndex(at::PAGE.u32(self.0))
    }

    /// The copy it was sealed for.
    #[must_use]
    pub fn copy(&self) -> CopyIndex {
        page::copy_of(self.0)
    }

    /// Its stamp.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        page::stamp_of(self.0)
    }

    /// The slot at `place`, 0 to 125.
    ///
    /// # Errors
    /// What makes the slot impossible whatever the volume's sizes are.
    pub fn slot(&self, place: u8) -> Result<Slot, SlotFault> {
        Slot::read(self.0, span(place).ok_or(SlotFault::NoSuchSlot)?)
    }

    /// Every slot with its place, in order.
    pub fn slots(&self) -> impl Iterator<Item = (u8, Result<Slot, SlotFault>)> + use<'a> {
        let view = *self;
        (0..SLOTS_PER_PAGE).map(move |place| (place, view.slot(place)))
    }
}

/// A table page being made or changed.
#[derive(Debug)]
pub struct TablePageMut<'a>(&'a mut PageBytes);

impl<'a> TablePageMut<'a> {
    /// Begins a page with every slot free.
    pub fn blank(
        bytes: &'a mut PageBytes,
        volume: Uuid,
        spare: Uuid,
        page: PageIndex,
    ) -> TablePageMut<'a> {
        page::blank(bytes, PageKind::Table);
        at::VOLUME.put(bytes, &volume.0);
        at::SPARE.put(bytes, &spare.0);
        at::PAGE.put_uint(bytes, u64::from(page.0));
        for place in 0..SLOTS_PER_PAGE {
            if let Some(span) = span(place) {
                Slot::FREE.write(bytes, span);
            }
        }
        TablePageMut(bytes)
    }

    /// Changes a page that was checked, or made by [`TablePageMut::blank`].
    pub const fn edit(bytes: &'a mut PageBytes) -> TablePageMut<'a> {
        TablePageMut(bytes)
    }

    /// Puts a slot at `place`, 0 to 125.
    ///
    /// # Errors
    /// No such place, or a slot that [`TablePage::slot`] would refuse; nothing is changed.
    pub fn set_slot(&mut self, place: u8, slot: &Slot) -> Result<(), SlotFault> {
        let span = span(place).ok_or(SlotFault::NoSuchSlot)?;
        slot.check_itself()?;
        slot.write(self.0, span);
        Ok(())
    }

    /// Sets copy index, stamp and checksum: the last thing before the page is written.
    pub fn seal(&mut self, copy: CopyIndex, stamp: Stamp) {
        page::seal(self.0, PageKind::Table, copy, stamp);
    }

    /// The page as it stands.
    #[must_use]
    pub const fn view(&self) -> TablePage<'_> {
        TablePage(self.0)
    }
}
