// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `--sabotage`: take one entry out of the table behind the volume's back, in all five copies with
//! right checksums, as a defect of the program would. Nothing but the comparison of every byte can
//! find it, so the demo must fail: that is what shows that its success means something.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dmremap_engine::open_device;
use dmremap_format::{
    BlockState, CopyIndex, PAGE_BYTES, SECTOR_BYTES, Slot, TablePage, TablePageMut, UNIT_SECTORS,
};

use crate::failure::{Class, Failure, Outcome};
use crate::survey::survey;

use super::model::Model;

/// Drops one entry that holds an acknowledged sector; its main sector.
pub fn drop_one_entry(spare: &Path, model: &Model) -> Outcome<u64> {
    let name = spare.to_string_lossy();
    let device = open_device(&name, &dmremap_engine::OpenOptions::examine())?;
    let survey = survey(device.as_ref());
    drop(device);
    let found = survey.volume.map_err(|refusal| Failure::new(Class::Missing, refusal.word()))?;
    let target = found.slots.iter().find_map(|(index, slot)| {
        let first = slot.main?.0 * UNIT_SECTORS;
        let moved = slot.states.mask(BlockState::Spare);
        let certain = |bit: &u64| moved >> bit & 1 == 1 && model.is_certain(first + bit);
        (0..UNIT_SECTORS).find(certain).map(|_| (*index, first))
    });
    let Some((index, first)) = target else {
        return Err(Failure::new(Class::Internal, "no entry holds an acknowledged sector"));
    };
    let failed = |error| Failure::io("sabotage", spare, &error);
    let file = OpenOptions::new().read(true).write(true).open(spare).map_err(failed)?;
    for copy in CopyIndex::ALL {
        let at = found.layout.page_sector(copy, index.page()) * SECTOR_BYTES;
        let mut page = [0; PAGE_BYTES];
        file.read_exact_at(&mut page, at).map_err(failed)?;
        let stamp = TablePage::of_image(&page).stamp();
        let mut table = TablePageMut::edit(&mut page);
        table
            .set_slot(index.place(), &Slot::FREE)
            .map_err(|fault| Failure::new(Class::Internal, fault.word()))?;
        table.seal(copy, stamp);
        file.write_all_at(&page, at).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(first)
}
