// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: pages and gaps tile everything below `data_start`, every page of every copy
//! has sectors of its own, units lie between `data_start` and the last MiB; a layout survives its
//! header; slots are held against it.

mod common;

use common::*;
use dmremap_format::{
    BlockState, COPY_SECTORS, CopyIndex, DEFAULT_MAX_ENTRIES, Header, HeaderMut, Layout,
    LayoutError, MAX_ENTRIES, MAX_MEMBERS, MIN_SPARE_SECTORS, NO_SECTOR, NewHeader, PageIndex,
    SectorRange, Slot, SlotFault, SlotLimits, SpareUnit, States, UnitIndex,
};
use proptest::prelude::*;

/// Every page of a layout.
fn pages(layout: &Layout) -> Vec<SectorRange> {
    let page = |sector| SectorRange { sector, sectors: 8 };
    let mut all = Vec::new();
    for copy in CopyIndex::ALL {
        all.push(page(layout.header_sector(copy)));
        all.push(page(layout.generation_sector(copy)));
        all.extend((0..layout.pages()).map(|i| page(layout.page_sector(copy, PageIndex(i)))));
    }
    all
}

/// Holds a layout against what DESIGN 6 says, from its public face only.
fn check(layout: &Layout, spare_sectors: u64, align: u64) {
    let mut ranges: Vec<_> = pages(layout).into_iter().chain(layout.gaps()).collect();
    let tail = ranges.pop().unwrap();
    assert_eq!(tail, SectorRange { sector: spare_sectors - 2048, sectors: 2048 });
    ranges.sort_by_key(|range| range.sector);
    let mut at = 0;
    for range in &ranges {
        assert!(range.sectors > 0);
        assert_eq!(range.sector, at, "overlap or hole at {at}");
        at = range.end();
    }
    assert_eq!(at, layout.data_start());
    assert!(layout.data_start() >= 9216 && layout.data_start() % align == 0);
    assert_eq!(layout.data_end(), spare_sectors - 2048);
    let units = layout.spare_units();
    assert!(units >= 1);
    let end = layout.data_start() + units * 8;
    assert!(end <= layout.data_end() && layout.data_end() - end < 8);
    assert!(u64::from(layout.pages()) * 126 >= u64::from(layout.max_entries()));
    if layout.pages() > 126 {
        for copy in CopyIndex::ALL {
            assert_eq!(layout.area(copy).sector % align, 0);
        }
    }
}

#[test]
fn the_smallest_spare_has_one_unit() {
    let layout = Layout::new(MIN_SPARE_SECTORS, 512, None).unwrap();
    check(&layout, MIN_SPARE_SECTORS, 8);
    assert_eq!((layout.spare_units(), layout.max_entries(), layout.pages()), (1, 1, 1));
    assert_eq!((layout.data_start(), layout.data_end()), (9216, 9224));
    assert_eq!(
        Layout::new(MIN_SPARE_SECTORS - 1, 512, None),
        Err(LayoutError::SpareTooSmall { needed_sectors: 11_272, sectors: 11_271 })
    );
    for sectors in [0, 1, 2048, 9216, u64::MAX] {
        let result = Layout::new(sectors, 512, None);
        assert_eq!(result.is_ok(), sectors == u64::MAX, "{sectors}");
    }
}

#[test]
fn copies_lie_where_the_format_says() {
    let layout = layout();
    for (copy, sector) in [0, 1024, 2048, 4096, 8192].into_iter().enumerate() {
        let copy = CopyIndex(copy as u8);
        assert_eq!(layout.header_sector(copy), sector);
        assert_eq!(layout.generation_sector(copy), sector + 8);
        assert_eq!(layout.page_sector(copy, PageIndex(0)), sector + 16);
        let last = layout.pages() - 1;
        assert_eq!(layout.page_sector(copy, PageIndex(last)), sector + 16 + 8 * u64::from(last));
        assert_eq!(layout.page_sector(copy, PageIndex(last + 1)), NO_SECTOR);
    }
    assert_eq!(layout.header_sector(CopyIndex(5)), NO_SECTOR);
    assert_eq!(layout.generation_sector(CopyIndex(5)), NO_SECTOR);
    assert_eq!(layout.page_sector(CopyIndex(5), PageIndex(0)), NO_SECTOR);
    assert_eq!(COPY_SECTORS, [0, 1024, 2048, 4096, 8192]);
}

/// A copy with 126 table pages fills its 512 KiB; one page more moves the tables.
#[test]
fn a_large_table_has_areas_of_its_own() {
    let sectors = 1 << 22;
    let near = Layout::new(sectors, 4096, Some(126 * 126)).unwrap();
    check(&near, sectors, 8);
    assert_eq!((near.pages(), near.data_start()), (126, 9216));
    assert_eq!(near.area(CopyIndex(0)), SectorRange { sector: 16, sectors: 1008 });
    let far = Layout::new(sectors, 4096, Some(126 * 126 + 1)).unwrap();
    check(&far, sectors, 8);
    assert_eq!((far.pages(), far.data_start()), (127, 9216 + 5 * 127 * 8));
    for copy in 0..5u8 {
        let area = SectorRange { sector: 9216 + u64::from(copy) * 1016, sectors: 1016 };
        assert_eq!(far.area(CopyIndex(copy)), area);
    }
}

#[test]
fn the_default_is_every_unit_up_to_a_gibibyte() {
    // 64 MiB: all of it behind the headers.
    let small = Layout::new(131_072, 4096, None).unwrap();
    assert_eq!(u64::from(small.max_entries()), small.spare_units());
    // 16 GiB: the table stops at 1 GiB of units.
    let large = Layout::new(1 << 25, 4096, None).unwrap();
    assert_eq!((large.max_entries(), large.pages()), (DEFAULT_MAX_ENTRIES, 2081));
    assert_eq!(large.data_start(), 9216 + 5 * 2081 * 8);
    // In between every unit has its entry but for the few a last page's rounding leaves.
    for sectors in (11_272..4_000_000u64).step_by(9973) {
        let layout = Layout::new(sectors, 4096, None).unwrap();
        let (entries, units) = (u64::from(layout.max_entries()), layout.spare_units());
        let capped = layout.max_entries() == DEFAULT_MAX_ENTRIES;
        assert!(
            entries <= units && (capped || units - entries <= 640),
            "{sectors}: {entries} of {units}"
        );
        assert!(units <= 15_876 || entries >= 15_876, "{sectors}: {entries} of {units}");
    }
}

#[test]
fn physical_blocks_above_4096_are_forced_only() {
    for bytes in [0, 256, 511, 513, 3072, 6144] {
        let refused = Err(LayoutError::PhysicalBlock { bytes });
        assert_eq!(Layout::new(131_072, bytes, None), refused);
        assert_eq!(Layout::new_forced(131_072, bytes, None), refused);
    }
    assert!(Layout::new(131_072, 8192, None).is_err());
    for shift in 9..=19 {
        let bytes = 1u32 << shift;
        for entries in [None, Some(20_000)] {
            let layout = Layout::new_forced(1 << 20, bytes, entries).unwrap();
            check(&layout, 1 << 20, u64::from(bytes / 512).max(8));
        }
    }
    assert!(Layout::new_forced(1 << 20, 1 << 20, None).is_err());
}

#[test]
fn entries_are_limited_by_the_slots_number() {
    for entries in [0, MAX_ENTRIES + 1, u32::MAX] {
        let refused = Err(LayoutError::MaxEntries { entries });
        assert_eq!(Layout::new(1 << 30, 512, Some(entries)), refused);
    }
    check(&Layout::new(1 << 30, 512, Some(MAX_ENTRIES)).unwrap(), 1 << 30, 8);
    // A table that leaves no room for data.
    let needed_sectors = 9216 + 5 * 127 * 8 + 8 + 2048;
    assert!(Layout::new(needed_sectors, 512, Some(16_002)).is_ok());
    assert_eq!(
        Layout::new(needed_sectors - 1, 512, Some(16_002)),
        Err(LayoutError::SpareTooSmall { needed_sectors, sectors: needed_sectors - 1 })
    );
}

#[test]
fn units_and_sectors_are_inverse() {
    let layout = Layout::new(11_272 + 37, 512, None).unwrap();
    let units = layout.spare_units();
    assert_eq!(units, 1 + 37 / 8);
    for unit in 0..units {
        let sector = layout.unit_sector(SpareUnit(unit));
        for place in 0..8 {
            let found = layout.unit_at(sector + u64::from(place));
            assert_eq!(found, Some((SpareUnit(unit), place)));
        }
    }
    assert_eq!(layout.unit_sector(SpareUnit(units)), NO_SECTOR);
    assert_eq!(layout.unit_sector(SpareUnit(u64::MAX)), NO_SECTOR);
    assert_eq!(layout.unit_at(9215), None);
    assert_eq!(layout.unit_at(9216 + units * 8), None);
    assert_eq!(layout.unit_at(u64::MAX), None);
}

fn limits(main_sectors: u64, block_sectors: u8) -> SlotLimits {
    let mut spare_units = [0; MAX_MEMBERS];
    spare_units[0] = 100;
    spare_units[3] = 7;
    SlotLimits { main_sectors, block_sectors, spare_units }
}

#[test]
fn blocks_of_a_unit_end_with_main() {
    for block in [1u8, 2, 4, 8] {
        let count = 8 / block;
        for blocks in 1..=u64::from(count) * 3 {
            let limits = limits(blocks * u64::from(block), block);
            for unit in 0..5u64 {
                let have = blocks.saturating_sub(unit * u64::from(count)).min(u64::from(count));
                let want = (0..have).fold(0u8, |mask, bit| mask | 1 << bit);
                assert_eq!(limits.blocks(UnitIndex(unit)), want, "{block} {blocks} {unit}");
            }
        }
    }
    assert_eq!(limits(u64::MAX, 1).blocks(UnitIndex(u64::MAX)), 0);
}

#[test]
fn slots_out_of_range_are_told() {
    let at = limits(8 * 10 + 4, 2);
    let states = |mask| States::ALL_MAIN.with(mask, BlockState::Spare);
    let slot = |main, spare, member, states| Slot {
        main: Some(UnitIndex(main)),
        spare: Some(SpareUnit(spare)),
        member,
        states,
        ..Slot::FREE
    };
    let quarantine =
        |spare, member| Slot { main: None, ..slot(0, spare, member, States::ALL_MAIN) };
    assert_eq!(Slot::FREE.check(&at), Ok(()));
    assert_eq!(slot(0, 99, 0, states(0b1111)).check(&at), Ok(()));
    assert_eq!(slot(10, 6, 3, states(0b0011)).check(&at), Ok(()));
    assert_eq!(quarantine(99, 0).check(&at), Ok(()));
    let bad = SlotFault::SpareOutOfRange;
    assert_eq!(slot(0, 100, 0, states(1)).check(&at), Err(bad));
    assert_eq!(slot(0, 7, 3, states(1)).check(&at), Err(bad));
    assert_eq!(quarantine(100, 0).check(&at), Err(bad));
    assert_eq!(slot(0, 0, 1, states(1)).check(&at), Err(SlotFault::NoSuchMember));
    assert_eq!(quarantine(0, 7).check(&at), Err(SlotFault::NoSuchMember));
    assert_eq!(slot(11, 0, 0, states(1)).check(&at), Err(SlotFault::MainOutOfRange));
    assert_eq!(slot(0, 0, 0, states(0b10000)).check(&at), Err(SlotFault::StateBeyondUnit));
    assert_eq!(slot(10, 0, 0, states(0b0100)).check(&at), Err(SlotFault::StateBeyondUnit));
    let gone = States::ALL_MAIN.with(0b1000_0000, BlockState::Gone);
    assert_eq!(slot(0, 0, 0, gone).check(&at), Err(SlotFault::StateBeyondUnit));
    assert_eq!(slot(0, 0, 0, States::ALL_MAIN).check(&at), Err(SlotFault::NothingMoved));
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_layout_tiles_its_spare_and_survives_its_header(
        spare_sectors in MIN_SPARE_SECTORS..1 << 24,
        shift in 9u32..=19,
        entries in proptest::option::of(1u32..60_000),
    ) {
        let bytes = 1u32 << shift;
        let made = Layout::new_forced(spare_sectors, bytes, entries);
        let Ok(layout) = made else {
            let too_small = matches!(made, Err(LayoutError::SpareTooSmall { needed_sectors, .. })
                if needed_sectors > spare_sectors);
            prop_assert!(too_small, "{made:?}");
            return Ok(());
        };
        check(&layout, spare_sectors, u64::from(bytes / 512).max(8));
        if let Some(entries) = entries {
            prop_assert_eq!(layout.max_entries(), entries);
        }
        let mut page = page();
        let new = NewHeader { layout, ..new_header() };
        HeaderMut::blank(&mut page, &new).unwrap().seal(CopyIndex(0), STAMP);
        let header = Header::check(&page, CopyIndex(0)).unwrap();
        prop_assert_eq!(header.layout(), Ok(layout));
    }
}

#[test]
fn trace_10_16_no_two_units_share_a_physical_block() {
    for physical in [512u32, 1024, 2048, 4096] {
        for spare_sectors in [MIN_SPARE_SECTORS, 20_480, 1 << 20] {
            let layout = Layout::new(spare_sectors, physical, None).unwrap();
            let block = u64::from(physical / 512);
            for unit in 0..layout.spare_units().min(1000) {
                let first = layout.unit_sector(SpareUnit(unit));
                assert_eq!(first % block, 0, "unit {unit} begins inside a physical block");
                assert_eq!((first + 8) % block, 0, "unit {unit} ends inside a physical block");
            }
        }
    }
    // Larger physical blocks would be shared, so they are refused unless forced.
    assert!(Layout::new(1 << 20, 8192, None).is_err());
    assert!(Layout::new_forced(1 << 20, 8192, None).is_ok());
}
