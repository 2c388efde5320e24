// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Making a table from a dump, for metadata that cannot be read any more.
//!
//! Nothing proves that the units of this spare are what the dumped entries were about, so that the
//! entries name none: what lived on a spare is gone. The spare gets a UUID of its own, so that no
//! page of the old table that comes back can be taken for one of this. The header says `restored`:
//! such a volume is read, and never written.

use std::sync::Arc;

use dmremap_core::commit::{ChangeFault, MetadataChange};
use dmremap_core::machine::LoadFault;
use dmremap_format::identity::Accept;
use dmremap_format::{
    Header, Layout, MAX_MEMBERS, PAGE_BYTES, PageBytes, PageIndex, SLOTS_PER_PAGE, SectorRange,
    Slot, SlotIndex, SlotLimits, TablePageMut, UNIT_SECTORS,
};

use crate::device::Device;

use super::error::VolumeError;
use super::format::{FormatOptions, check_apart, check_spare_empty, unix_s, write};
use super::main_identity::{Kept, look, recognise};

/// A table to be made.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The header, complete but for copy index, stamp and checksum, laid out for this spare.
    pub header: Box<PageBytes>,
    /// The entries, at most as many as its table has slots; none names a spare unit.
    pub slots: Vec<Slot>,
    /// `--accept-main=same`: main is the same disk although nothing proves it.
    pub accept_main: bool,
    /// `--force=foreign-signature`: whatever lies on the spare is lost.
    pub force_foreign: bool,
    /// Check everything, change nothing.
    pub dry_run: bool,
}

/// Makes the table of `what` on `spare`; main is only read. That the metadata on the spare cannot
/// be read is the caller's to check: what is left of it is lost.
///
/// # Errors
/// See [`VolumeError`]; a refusal has written nothing, and after [`VolumeError::Format`] there is
/// no volume.
pub fn restore(
    main: &Arc<dyn Device>,
    spare: &Arc<dyn Device>,
    what: &Restore,
) -> Result<(), VolumeError> {
    check_apart(main, spare)?;
    let header = Header::of_image(&what.header);
    let (main_sectors, block_bytes) = (header.main_sectors(), header.block_bytes());
    for device in [main, spare] {
        let own = device.logical_block();
        if own > block_bytes {
            let device = device.describe();
            return Err(VolumeError::BlockSize { device, asked: block_bytes, own });
        }
    }
    let block_sectors = u64::from(block_bytes) >> 9;
    if main.sectors() & !(block_sectors - 1) != main_sectors {
        let (device, own) = (main.describe(), main.sectors());
        return Err(VolumeError::Size { device, header: main_sectors, own });
    }
    let layout =
        header.layout().map_err(|error| VolumeError::Layout { spare: spare.describe(), error })?;
    check_slots(spare, &header, &layout, &what.slots)?;
    let elsewhere = |sector, sectors| {
        let asked = SectorRange { sector, sectors };
        what.slots.iter().filter_map(|slot| slot.main).any(|unit| {
            let sector = unit.0.saturating_mul(UNIT_SECTORS);
            asked.overlaps(SectorRange { sector, sectors: UNIT_SECTORS })
        })
    };
    let (kept, look) = (Kept::of(&header), look(&**main, elsewhere));
    let sizes = (main_sectors, block_bytes);
    let claim = what.accept_main.then_some(Accept::Same);
    let known = recognise(&**main, sizes, &kept, &look, claim)?;
    let force_foreign = what.force_foreign;
    let options = FormatOptions { force_foreign, force_volume: true, ..FormatOptions::default() };
    check_spare_empty(spare, &options)?;
    if what.dry_run {
        return Ok(());
    }
    if spare.geometry().read_only {
        return Err(VolumeError::ReadOnlyDevice { device: spare.describe() });
    }
    let mut page = Box::new([0; PAGE_BYTES]);
    page.copy_from_slice(&what.header[..]);
    for change in kept.changes(&known.kept) {
        let change = MetadataChange::Header { at: unix_s(), change };
        if let Err(ChangeFault::Field(field)) = change.apply(&mut page) {
            return Err(VolumeError::Field(field));
        }
    }
    spare.reserve().map_err(|class| VolumeError::Unreadable { device: spare.describe(), class })?;
    write(spare, &layout, &page, |index, page| fill(&what.slots, index, page))
}

/// Every entry has its place, or none is written: one that were left out would serve main's old
/// content.
fn check_slots(
    spare: &Arc<dyn Device>,
    header: &Header<'_>,
    layout: &Layout,
    slots: &[Slot],
) -> Result<(), VolumeError> {
    let refuse = |fault| VolumeError::Table { spare: spare.describe(), fault };
    let limits = SlotLimits {
        main_sectors: header.main_sectors(),
        block_sectors: (header.block_bytes() >> 9) as u8,
        spare_units: [0; MAX_MEMBERS],
    };
    for (slot, number) in slots.iter().zip(0..) {
        let index = SlotIndex(number);
        if number >= layout.max_entries() {
            return Err(refuse(LoadFault::NoRoom { slot: index }));
        }
        slot.check(&limits).map_err(|fault| refuse(LoadFault::Slot { slot: index, fault }))?;
    }
    Ok(())
}

/// Puts the slots of table page `index` into it.
fn fill(slots: &[Slot], index: PageIndex, page: &mut PageBytes) {
    let first = index.0 as usize * usize::from(SLOTS_PER_PAGE);
    let mut page = TablePageMut::edit(page);
    for (slot, place) in slots.iter().skip(first).zip(0..SLOTS_PER_PAGE) {
        let _ = page.set_slot(place, slot);
    }
}
