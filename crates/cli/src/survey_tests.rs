// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The survey against images made with the format crate, whole and damaged.

use dmremap_engine::MemoryDevice;
use dmremap_format::{
    Cause, GenerationPageMut, HeaderMut, Member, MemberState, NewHeader, SpareUnit, Stamp, States,
    TablePageMut, UnitIndex, Uuid,
};

use super::*;

const VOLUME: Uuid = Uuid([0xaa; 16]);
const SPARE: Uuid = Uuid([0xbb; 16]);
const SPARE_SECTORS: u64 = 11_272 + 8 * 1000;

fn entry(main: u64, spare: u64, mask: u8) -> Slot {
    Slot {
        main: Some(UnitIndex(main)),
        spare: Some(SpareUnit(spare)),
        states: States::ALL_MAIN.with(mask, BlockState::Spare),
        cause: Cause::Unknown,
        ..Slot::FREE
    }
}

fn put(image: &mut [u8], sector: u64, page: &PageBytes) {
    let at = (sector * SECTOR_BYTES) as usize;
    image[at..at + PAGE_BYTES].copy_from_slice(page);
}

/// A spare with these slots in table page 0, all copies equal.
fn image(slots: &[Slot]) -> (Vec<u8>, Layout) {
    let layout = Layout::new(SPARE_SECTORS, 512, Some(200)).unwrap();
    let mut bytes = vec![0; (SPARE_SECTORS * SECTOR_BYTES) as usize];
    let stamp = Stamp { generation: 1, sequence: 0 };
    let new =
        NewHeader { volume: VOLUME, spare: SPARE, layout, main_sectors: 80_000, block_bytes: 512 };
    let mut page = [0; PAGE_BYTES];
    for copy in CopyIndex::ALL {
        let mut header = HeaderMut::blank(&mut page, &new).unwrap();
        header.set_name("test").unwrap();
        let (sectors, hardware, state) = (SPARE_SECTORS, [0; 32], MemberState::Ok);
        let member = Member { spare: SPARE, index: 0, sectors, hardware, state };
        header.set_member(0, Some(&member)).unwrap();
        header.seal(copy, stamp);
        put(&mut bytes, layout.header_sector(copy), &page);
        GenerationPageMut::blank(&mut page, VOLUME, SPARE).seal(copy, 1);
        put(&mut bytes, layout.generation_sector(copy), &page);
        for index in 0..layout.pages() {
            let mut table = TablePageMut::blank(&mut page, VOLUME, SPARE, PageIndex(index));
            for (place, slot) in slots.iter().enumerate().filter(|_| index == 0) {
                table.set_slot(place as u8, slot).unwrap();
            }
            table.seal(copy, stamp);
            put(&mut bytes, layout.page_sector(copy, PageIndex(index)), &page);
        }
    }
    (bytes, layout)
}

fn look(bytes: Vec<u8>) -> Survey {
    survey(&MemoryDevice::with_content(bytes, 512))
}

#[test]
fn a_whole_spare_is_understood() {
    let (bytes, layout) = image(&[entry(5, 0, 0xff), entry(6, 1, 0x0f), entry(900, 7, 1)]);
    let survey = look(bytes);
    assert_eq!(survey.refusals(), Vec::<String>::new());
    assert_eq!(survey.copies_valid(), 5);
    let found = survey.volume.as_ref().unwrap();
    assert_eq!((found.entries(), found.blocks(BlockState::Spare)), (3, 13));
    let runs = found.runs(&survey.header().unwrap());
    let shown: Vec<_> = runs.iter().map(|r| (r.main_sector, r.spare_sector, r.sectors)).collect();
    let start = layout.data_start();
    assert_eq!(shown, [(40, Some(start), 12), (7200, Some(start + 56), 1)]);
}

#[test]
fn three_lost_copies_are_survived_and_four_refused() {
    let (mut bytes, layout) = image(&[entry(5, 0, 0xff)]);
    for copy in [0, 2, 4] {
        put(&mut bytes, layout.page_sector(CopyIndex(copy), PageIndex(0)), &[0x5a; PAGE_BYTES]);
    }
    let survey = look(bytes.clone());
    assert_eq!(survey.refusals(), Vec::<String>::new());
    assert_eq!(survey.copies_valid(), 2);
    let found = survey.volume.as_ref().unwrap();
    assert!(found.pages[0].judged.unwrap().needs_repair());
    assert!(!found.pages[1].judged.unwrap().needs_repair());
    put(&mut bytes, layout.page_sector(CopyIndex(1), PageIndex(0)), &[0x5a; PAGE_BYTES]);
    let refusals = look(bytes).refusals();
    assert_eq!(refusals, ["table page 0: fewer than two copies are valid"]);
}

#[test]
fn two_entries_for_one_place_are_named() {
    let (bytes, _) = image(&[entry(5, 0, 1), entry(5, 1, 1), entry(6, 1, 1)]);
    let refusals = look(bytes).refusals();
    assert_eq!(refusals, ["main unit 5 in slots 0 and 1", "spare unit 1 in slots 1 and 2"]);
}

#[test]
fn a_slot_beyond_main_is_named() {
    let (bytes, _) = image(&[entry(10_000, 0, 1)]);
    assert_eq!(look(bytes).refusals(), ["table page 0 slot 0: main unit out of range"]);
}

#[test]
fn a_device_without_metadata_has_no_volume() {
    let survey = look(vec![0; 1 << 20]);
    assert!(survey.volume.is_err() && survey.header().is_none());
    assert!(survey.headers.iter().take(2).all(|h| h.seen == SeenHeader::Invalid));
    // Copies 2 to 4 lie beyond the end of so small a device.
    assert!(survey.headers[4].fault.is_some());
}
