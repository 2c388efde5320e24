// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: any 32 bytes are decoded without a panic, as a free slot, a fault, or a slot
//! that a page takes back and gives again; any slot a page takes comes back equal and touches no
//! other byte.

mod common;

use common::*;
use dmremap_format::{
    BlockState, Cause, MAX_MAIN_UNITS, MAX_SPARE_UNITS, PAGE_BYTES, PageIndex, SLOT_BYTES, Slot,
    SpareUnit, States, TablePage, TablePageMut, UnitIndex, slot_time,
};
use proptest::prelude::*;

fn any_slot() -> impl Strategy<Value = Slot> {
    let unit = |most: u64| prop_oneof![0..most + 2, Just(0), Just(most - 1), Just(most)];
    (
        proptest::option::weighted(0.8, unit(MAX_MAIN_UNITS)),
        proptest::option::weighted(0.8, unit(MAX_SPARE_UNITS)),
        (0u8..9, 0u8..3, any::<u8>()),
        (any::<u8>(), any::<u8>()),
        (any::<u32>(), any::<u32>()),
    )
        .prop_map(|(main, spare, (member, flags, cause), (moved, gone), (time, crc))| Slot {
            main: main.map(UnitIndex),
            spare: spare.map(SpareUnit),
            member,
            states: States::ALL_MAIN.with(moved, BlockState::Spare).with(gone, BlockState::Gone),
            flags,
            cause: Cause::from_byte(cause),
            time,
            crc,
        })
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn any_bytes_are_free_or_a_fault_or_a_slot(
        raw in proptest::array::uniform32(any::<u8>()),
        mild in any::<bool>(),
        place in 0u8..126,
    ) {
        let mut bytes = full_table();
        let at = 64 + usize::from(place) * SLOT_BYTES;
        bytes[at..at + SLOT_BYTES].copy_from_slice(&raw);
        if mild {
            // Near what is possible, so that the good arm is reached as well.
            bytes[at + 5] &= 0x0f;
            bytes[at + 11] &= 7;
            bytes[at + 12] &= 0x55;
            bytes[at + 13] &= 0x55;
            bytes[at + 14] &= 1;
        }
        let decoded = TablePage::of_image(&bytes).slot(place);
        prop_assert!(!mild || decoded.is_ok() || bytes[at + 12..at + 14] == [0, 0]);
        if let Ok(slot) = decoded {
            prop_assert_eq!(slot.check_itself(), Ok(()));
            let mut again = full_table();
            TablePageMut::edit(&mut again).set_slot(place, &slot).unwrap();
            prop_assert_eq!(TablePage::of_image(&again).slot(place), Ok(slot));
        }
    }

    #[test]
    fn a_slot_comes_back_and_touches_nothing_else(slot in any_slot(), place in 0u8..126) {
        let mut bytes = full_table();
        let before = full_table();
        let taken = TablePageMut::edit(&mut bytes).set_slot(place, &slot);
        prop_assert_eq!(taken, slot.check_itself());
        if taken.is_err() {
            prop_assert_eq!(bytes, before);
            return Ok(());
        }
        let want = if slot.is_free() { Slot::FREE } else { slot };
        prop_assert_eq!(TablePage::of_image(&bytes).slot(place), Ok(want));
        if slot.is_free() {
            let at = 64 + usize::from(place) * SLOT_BYTES;
            prop_assert_eq!(&bytes[at..at + 11], &[0xff; 11]);
            prop_assert_eq!(&bytes[at + 11..at + SLOT_BYTES], &[0; 21]);
        }
        let range = 64 + usize::from(place) * SLOT_BYTES..;
        for at in 0..PAGE_BYTES {
            let inside = range.contains(&at) && at < range.start + SLOT_BYTES;
            prop_assert!(inside || bytes[at] == before[at], "byte {at}");
        }
    }
}

#[test]
fn a_new_page_is_free_from_end_to_end() {
    let mut bytes = page();
    let table = TablePageMut::blank(&mut bytes, VOLUME, SPARE, PageIndex(0));
    assert!(table.view().slots().all(|(_, slot)| slot == Ok(Slot::FREE)));
}

#[test]
fn what_a_slot_is() {
    for (_, slot) in slots() {
        assert!(!slot.is_free());
        assert_eq!(slot.is_quarantine(), slot.main.is_none());
    }
    assert!(Slot::FREE.is_free() && !Slot::FREE.is_quarantine());
    assert_eq!(slot_time(0), 0);
    assert_eq!(slot_time(1_577_836_800), 0);
    assert_eq!(slot_time(1_577_836_801), 1);
    assert_eq!(slot_time(u64::MAX), u32::MAX);
}
