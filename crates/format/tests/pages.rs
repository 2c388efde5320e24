// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: a page that was sealed is valid at its place and nowhere else; a page with
//! any bit flipped is invalid; a page torn at 512-byte sectors is the old one, the new one or
//! invalid; content is everything but copy index and checksum.

mod common;

use common::*;
use dmremap_format::{
    BlockState, Cause, CopyIndex, Expect, GenerationPage, GenerationPageMut, Header, HeaderMut,
    PageBytes, PageFault, PageIndex, PageKind, SLOTS_PER_PAGE, Session, Slot, SlotFault, SlotIndex,
    SpareUnit, Stamp, State, States, TablePage, TablePageMut, UnitIndex, Uuid, content_digest,
    same_content,
};

/// Whether the bytes are a valid page of this kind at (copy, page 3).
fn valid(kind: PageKind, bytes: &PageBytes, copy: u8) -> Result<(), PageFault> {
    let expect = expect(copy, 3);
    match kind {
        PageKind::Header => Header::check_for(bytes, &expect).map(|_| ()),
        PageKind::Generation => GenerationPage::check(bytes, &expect).map(|_| ()),
        PageKind::Table => TablePage::check(bytes, &expect).map(|_| ()),
    }
}

const KINDS: [PageKind; 3] = [PageKind::Header, PageKind::Generation, PageKind::Table];

fn sealed(kind: PageKind, copy: u8) -> Box<PageBytes> {
    match kind {
        PageKind::Header => sealed_header(copy),
        PageKind::Generation => sealed_generation(copy),
        PageKind::Table => sealed_table(copy),
    }
}

#[test]
fn sealed_pages_are_valid_at_their_place_and_nowhere_else() {
    for kind in KINDS {
        for copy in 0..5 {
            let bytes = sealed(kind, copy);
            for at in 0..5 {
                let want = if at == copy { Ok(()) } else { Err(PageFault::Misplaced) };
                assert_eq!(valid(kind, &bytes, at), want, "{kind:?} of {copy} at {at}");
            }
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                assert_eq!(valid(other, &bytes, copy), Err(PageFault::Kind));
            }
        }
    }
    let table = sealed_table(0);
    assert_eq!(TablePage::check(&table, &expect(0, 2)).unwrap_err(), PageFault::Misplaced);
}

#[test]
fn pages_of_another_volume_or_spare_are_told() {
    let foreign = |volume, spare| Expect { volume, spare, ..expect(0, 3) };
    for expect in [foreign(OTHER, SPARE), foreign(OTHER, OTHER)] {
        let fault = PageFault::OtherVolume(VOLUME);
        assert_eq!(TablePage::check(&sealed_table(0), &expect).unwrap_err(), fault);
        assert_eq!(GenerationPage::check(&sealed_generation(0), &expect).unwrap_err(), fault);
        assert_eq!(Header::check_for(&sealed_header(0), &expect).unwrap_err(), fault);
    }
    let fault = PageFault::OtherSpare(SPARE);
    let expect = foreign(VOLUME, OTHER);
    assert_eq!(TablePage::check(&sealed_table(0), &expect).unwrap_err(), fault);
    assert_eq!(GenerationPage::check(&sealed_generation(0), &expect).unwrap_err(), fault);
    assert_eq!(Header::check_for(&sealed_header(0), &expect).unwrap_err(), fault);
}

/// The salt: the kind byte alone does not make a page of another kind good.
#[test]
fn the_checksum_depends_on_the_kind() {
    for kind in KINDS {
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            let mut bytes = sealed(kind, 2);
            // A checksum that is right for the changed bytes under the old salt.
            let mut crc = kind.salt();
            bytes[41] = other as u8;
            crc = slow_crc32c(crc, bytes[..60].iter().chain(&bytes[64..]).copied());
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(valid(other, &bytes, 2), Err(PageFault::Checksum));
        }
    }
}

/// The checksum is what the documentation says, by an implementation of its own.
#[test]
fn the_checksum_leaves_out_its_own_bytes_only() {
    for kind in KINDS {
        let bytes = sealed(kind, 4);
        let crc = slow_crc32c(kind.salt(), bytes[..60].iter().chain(&bytes[64..]).copied());
        assert_eq!(bytes[60..64], crc.to_le_bytes(), "{kind:?}");
    }
}

#[test]
fn any_flipped_bit_makes_a_page_invalid() {
    for kind in KINDS {
        let mut bytes = sealed(kind, 1);
        assert_eq!(valid(kind, &bytes, 1), Ok(()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(valid(kind, &bytes, 1).is_err(), "{kind:?}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(valid(kind, &bytes, 1), Ok(()));
    }
}

/// What a write that was cut off may leave: any subset of its eight sectors over the old page.
fn torn(old: &PageBytes, new: &PageBytes, subset: u32) -> Box<PageBytes> {
    let mut bytes = Box::new(*old);
    for sector in (0..8).filter(|sector| subset & (1 << sector) != 0) {
        let range = sector * 512..(sector + 1) * 512;
        bytes[range.clone()].copy_from_slice(&new[range]);
    }
    bytes
}

/// Every kind of change a page sees.
fn changes() -> Vec<(&'static str, PageKind, Box<PageBytes>, Box<PageBytes>)> {
    let later = Stamp { generation: 7, sequence: 12 };
    let anew = Stamp { generation: 8, sequence: 0 };
    let old = sealed_table(1);
    let table = |change: &dyn Fn(&mut TablePageMut<'_>), stamp| {
        let mut bytes = old.clone();
        let mut page = TablePageMut::edit(&mut bytes);
        change(&mut page);
        page.seal(CopyIndex(1), stamp);
        bytes
    };
    let entry = slots()[0].1;
    let header_old = sealed_header(1);
    let header = |change: &dyn Fn(&mut HeaderMut<'_>), stamp| {
        let mut bytes = header_old.clone();
        let mut page = HeaderMut::edit(&mut bytes);
        change(&mut page);
        page.seal(CopyIndex(1), stamp);
        bytes
    };
    let mut generation = page();
    GenerationPageMut::blank(&mut generation, VOLUME, SPARE).seal(CopyIndex(1), 8);
    let fill = |page: &mut TablePageMut<'_>| {
        for place in 2..60 {
            let main = Some(UnitIndex(1000 + u64::from(place)));
            let spare = Some(SpareUnit(1000 + u64::from(place)));
            page.set_slot(place, &Slot { main, spare, ..entry }).unwrap();
        }
    };
    let open = |page: &mut HeaderMut<'_>| {
        page.set_session(&Session { session: OTHER, ..Session::default() });
        page.set_state(State::Clean).unwrap();
        page.set_timestamp(1_800_000_000);
    };
    let table_case = |name, new| (name, PageKind::Table, old.clone(), new);
    vec![
        table_case("add", table(&|p| p.set_slot(40, &entry).unwrap(), later)),
        table_case("remove", table(&|p| p.set_slot(125, &Slot::FREE).unwrap(), later)),
        table_case("many", table(&fill, later)),
        table_case("repaired, nothing changed", table(&|_| (), anew)),
        table_case("formatted over zeros", page()),
        ("open", PageKind::Header, header_old.clone(), header(&open, later)),
        ("repaired", PageKind::Header, header_old.clone(), header(&|_| (), anew)),
        ("generation", PageKind::Generation, sealed_generation(1), generation),
    ]
}

#[test]
fn a_torn_page_is_old_or_new_or_invalid() {
    let mut invalid = 0;
    for (name, kind, a, b) in changes() {
        for (old, new) in [(&a, &b), (&b, &a)] {
            for subset in 0..256 {
                let bytes = torn(old, new, subset);
                match valid(kind, &bytes, 1) {
                    Ok(()) => {
                        let whole = *bytes == **old || *bytes == **new;
                        assert!(whole, "{name}: subset {subset:#010b} is valid and neither");
                    }
                    Err(_) => invalid += 1,
                }
            }
        }
    }
    assert!(invalid > 1000, "nothing was torn: {invalid}");
}

#[test]
fn content_is_all_but_copy_index_and_checksum() {
    for kind in KINDS {
        let first = sealed(kind, 0);
        for copy in 1..5 {
            let other = sealed(kind, copy);
            assert_ne!(first, other);
            assert!(same_content(&first, &other));
            assert_eq!(content_digest(&first), content_digest(&other));
        }
        let mut bytes = first.clone();
        for byte in 0..bytes.len() {
            bytes[byte] ^= 0x10;
            let outside = byte == 40 || (60..64).contains(&byte);
            assert_eq!(same_content(&first, &bytes), outside, "{kind:?}: byte {byte}");
            assert_eq!(content_digest(&first) == content_digest(&bytes), outside);
            bytes[byte] ^= 0x10;
        }
    }
}

#[test]
fn slots_come_back_and_the_others_are_free() {
    let bytes = sealed_table(3);
    let table = TablePage::check(&bytes, &expect(3, 3)).unwrap();
    assert_eq!(table.stamp(), STAMP);
    assert_eq!((table.volume(), table.spare()), (VOLUME, SPARE));
    assert_eq!((table.copy(), table.page()), (CopyIndex(3), PageIndex(3)));
    let want = slots();
    for (place, slot) in table.slots() {
        let put = want.iter().find(|(at, _)| *at == place).map_or(Slot::FREE, |(_, slot)| *slot);
        assert_eq!(slot, Ok(put), "slot {place}");
    }
    assert_eq!(table.slots().count(), usize::from(SLOTS_PER_PAGE));
    assert_eq!(table.slot(126), Err(SlotFault::NoSuchSlot));
}

#[test]
fn impossible_slots_are_refused_and_change_nothing() {
    let good = slots()[0].1;
    let some_gone = States::ALL_MAIN.with(1, BlockState::Gone);
    let cases = [
        (Slot { main: Some(UnitIndex(1 << 44)), ..good }, SlotFault::MainOutOfRange),
        (Slot { spare: Some(SpareUnit((1 << 40) - 1)), ..good }, SlotFault::SpareOutOfRange),
        (Slot { member: 8, ..good }, SlotFault::NoSuchMember),
        (Slot { flags: 2, ..good }, SlotFault::UnknownFlags),
        (Slot { states: States::ALL_MAIN, ..good }, SlotFault::NothingMoved),
        (Slot { spare: None, ..good }, SlotFault::SpareWithoutUnit),
        (Slot { main: None, states: some_gone, ..good }, SlotFault::QuarantineWithStates),
    ];
    let before = full_table();
    for (slot, fault) in cases {
        let mut bytes = before.clone();
        assert_eq!(TablePageMut::edit(&mut bytes).set_slot(9, &slot), Err(fault));
        assert_eq!(bytes, before);
    }
    let mut bytes = before.clone();
    assert_eq!(TablePageMut::edit(&mut bytes).set_slot(126, &good), Err(SlotFault::NoSuchSlot));
    assert_eq!(bytes, before);
    // A state of 3 cannot be put; it can be read.
    bytes[64 + 12] = 0b11;
    assert_eq!(TablePage::of_image(&bytes).slot(0), Err(SlotFault::BadState));
    // A slot of zeros is no free slot.
    bytes[64..96].fill(0);
    assert_eq!(TablePage::of_image(&bytes).slot(0), Err(SlotFault::NothingMoved));
}

#[test]
fn slot_numbers_have_24_bits() {
    assert_eq!(SlotIndex::new(PageIndex(2), 5), Some(SlotIndex(257)));
    assert_eq!((SlotIndex(257).page(), SlotIndex(257).place()), (PageIndex(2), 5));
    assert_eq!(SlotIndex::new(PageIndex(2), 126), None);
    let last = SlotIndex::new(PageIndex(133_152), 63).unwrap();
    assert_eq!(last.0, (1 << 24) - 1);
    assert_eq!(SlotIndex::new(PageIndex(133_152), 64), None);
    assert_eq!(SlotIndex::new(PageIndex(u32::MAX), 0), None);
}

#[test]
fn causes_round_trip() {
    for byte in 0..=255 {
        assert_eq!(Cause::from_byte(byte).byte(), byte);
    }
    assert_eq!(Cause::from_byte(10), Cause::Scan);
    assert_eq!(Cause::from_byte(11), Cause::Other(11));
}

#[test]
fn a_generation_page_says_its_generation_and_nothing_else() {
    let bytes = sealed_generation(2);
    let page = GenerationPage::check(&bytes, &expect(2, 0)).unwrap();
    assert_eq!(page.generation(), 7);
    assert_eq!(page.stamp(), Stamp { generation: 7, sequence: 0 });
    assert_eq!((page.volume(), page.spare(), page.copy()), (VOLUME, SPARE, CopyIndex(2)));
    assert!(bytes[64..].iter().all(|byte| *byte == 0));
}

/// Zeros, the old v4 format, and noise are no pages of ours.
#[test]
fn foreign_bytes_are_no_pages() {
    let mut legacy = page();
    legacy[..4].copy_from_slice(&[0x34, 0x52, 0x4d, 0x44]);
    legacy[4] = 4;
    for kind in KINDS {
        assert_eq!(valid(kind, &page(), 0), Err(PageFault::Magic));
        assert_eq!(valid(kind, &[0xff; 4096], 0), Err(PageFault::Magic));
        assert_eq!(valid(kind, &legacy, 0), Err(PageFault::Kind));
    }
    let unknown = Uuid::default();
    let expect = Expect { volume: unknown, spare: unknown, ..expect(0, 0) };
    assert!(TablePage::check(&page(), &expect).is_err(), "zeros are valid for a zero UUID");
}
