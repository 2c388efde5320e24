// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume with something in every field, for the tests of this crate.
#![allow(dead_code)] // Each test file uses its part.

use dmremap_format::{
    BlockState, Cause, ContentRow, CopyIndex, Expect, Extension, FLAG_STRICT_SPARE_SIZE,
    GenerationPageMut, HeaderMut, Health, IdentityRow, Layout, Member, MemberState, NewHeader,
    PAGE_BYTES, PageBytes, PageIndex, SLOT_HAS_CRC, Session, Slot, SpareUnit, Stamp, State, States,
    TablePageMut, UnitIndex, Uuid,
};

pub const VOLUME: Uuid = Uuid(*b"volume-uuid-0001");
pub const SPARE: Uuid = Uuid(*b"spare-uuid-00001");
pub const OTHER: Uuid = Uuid(*b"other-uuid-00001");
pub const MAIN_SECTORS: u64 = 1_953_525_168;
pub const STAMP: Stamp = Stamp { generation: 7, sequence: 11 };

pub fn page() -> Box<PageBytes> {
    Box::new([0; PAGE_BYTES])
}

pub fn expect(copy: u8, page: u32) -> Expect {
    Expect { volume: VOLUME, spare: SPARE, copy: CopyIndex(copy), page: PageIndex(page) }
}

/// The layout of a spare of 64 MiB.
pub fn layout() -> Layout {
    Layout::new(131_072, 4096, None).unwrap()
}

pub fn new_header() -> NewHeader {
    NewHeader {
        volume: VOLUME,
        spare: SPARE,
        layout: layout(),
        main_sectors: MAIN_SECTORS,
        block_bytes: 512,
    }
}

/// A header with something in every field, not sealed.
pub fn full_header() -> Box<PageBytes> {
    let mut bytes = page();
    let mut header = HeaderMut::blank(&mut bytes, &new_header()).unwrap();
    header.set_timestamp(1_767_225_600);
    header.set_created_at(1_767_225_000);
    header.set_flags(FLAG_STRICT_SPARE_SIZE);
    header.set_state(State::Dirty).unwrap();
    header.set_session(&Session {
        host: Uuid(*b"host-id-00000001"),
        boot: Uuid(*b"boot-id-00000001"),
        session: Uuid(*b"session-00000001"),
        opened_at: 1_767_225_500,
    });
    header.set_crc_clean(true);
    header.set_fingerprint(b"fingerprint-fingerprint-finger-1");
    header.set_name("old-disk.1").unwrap();
    header.set_hint(b"/dev/disk/by-id/ata-OLD_DISK_1").unwrap();
    header.set_parameters(b"read_retries 3").unwrap();
    header.set_settings(b"recovery_limit_ms=30000").unwrap();
    header.set_next_index(3).unwrap();
    header.set_member(0, Some(&member(SPARE, 0, MemberState::Ok))).unwrap();
    header.set_member(2, Some(&member(OTHER, 2, MemberState::Away))).unwrap();
    header
        .set_identity(0, Some(IdentityRow { kind: 1, flags: 1, value: b"0x5000c500a1b2c3d4" }))
        .unwrap();
    header.set_identity(7, Some(IdentityRow { kind: 2, flags: 0, value: &[b'x'; 64] })).unwrap();
    header.set_content(0, Some(&content(3))).unwrap();
    header.set_content(15, Some(&content(9))).unwrap();
    header.set_content_at(1_767_225_400);
    header.set_health(&health()).unwrap();
    header.set_extension(0, Some(&extension(3072, 8))).unwrap();
    header.set_extension(11, Some(&extension(5120, 3072))).unwrap();
    bytes
}

pub fn member(spare: Uuid, index: u32, state: MemberState) -> Member {
    Member { spare, index, sectors: 131_072, hardware: *b"hardware-identity-as-sha-256-01!", state }
}

pub fn content(kind: u16) -> ContentRow {
    ContentRow { kind, flags: 5, place: 0x0102_0304, uuid: Uuid(*b"content-uuid-001") }
}

pub fn health() -> Health {
    Health {
        last_scan: 1_767_000_000,
        cursor: 123_456_789,
        errors_detected: 42,
        overhead_ms: 98_765,
        scans_completed: 6,
        predictive_remaps: 4,
        interval_s: 604_800,
        flags: 3,
        score: 87,
        progress: 55,
    }
}

pub fn extension(sector: u64, sectors: u64) -> Extension {
    Extension { kind: 1, version: 2, length_bytes: 4000, sector, sectors, flags: 9 }
}

/// Entries of every shape, by their place.
pub fn slots() -> Vec<(u8, Slot)> {
    let states = |spare: u8, gone: u8| {
        States::ALL_MAIN.with(spare, BlockState::Spare).with(gone, BlockState::Gone)
    };
    let entry = Slot {
        main: Some(UnitIndex(0)),
        spare: Some(SpareUnit(0)),
        member: 0,
        states: states(0xff, 0),
        flags: 0,
        cause: Cause::WriteError,
        time: 189_000_000,
        crc: 0,
    };
    vec![
        (0, entry),
        (
            1,
            Slot {
                main: Some(UnitIndex(0x0abc_def0_1234 % (MAIN_SECTORS / 8))),
                spare: Some(SpareUnit(14_000)),
                states: states(0b0000_0101, 0b1000_0000),
                flags: SLOT_HAS_CRC,
                crc: 0xdead_beef,
                cause: Cause::Remap,
                ..entry
            },
        ),
        (
            62,
            Slot {
                main: Some(UnitIndex(77)),
                spare: None,
                states: states(0, 0b0001_0000),
                cause: Cause::Clear,
                ..entry
            },
        ),
        (
            124,
            Slot {
                main: None,
                spare: Some(SpareUnit(5)),
                states: States::ALL_MAIN,
                cause: Cause::SpareFailed,
                ..entry
            },
        ),
        (
            125,
            Slot {
                main: Some(UnitIndex(MAIN_SECTORS / 8 - 1)),
                spare: Some(SpareUnit(1)),
                member: 2,
                cause: Cause::Other(200),
                time: u32::MAX,
                ..entry
            },
        ),
    ]
}

/// Table page 3 with [`slots`], not sealed.
pub fn full_table() -> Box<PageBytes> {
    let mut bytes = page();
    let mut table = TablePageMut::blank(&mut bytes, VOLUME, SPARE, PageIndex(3));
    for (place, slot) in slots() {
        table.set_slot(place, &slot).unwrap();
    }
    bytes
}

pub fn sealed_header(copy: u8) -> Box<PageBytes> {
    let mut bytes = full_header();
    HeaderMut::edit(&mut bytes).seal(CopyIndex(copy), STAMP);
    bytes
}

pub fn sealed_generation(copy: u8) -> Box<PageBytes> {
    let mut bytes = page();
    GenerationPageMut::blank(&mut bytes, VOLUME, SPARE).seal(CopyIndex(copy), STAMP.generation);
    bytes
}

pub fn sealed_table(copy: u8) -> Box<PageBytes> {
    let mut bytes = full_table();
    TablePageMut::edit(&mut bytes).seal(CopyIndex(copy), STAMP);
    bytes
}

/// CRC32C one bit at a time, straight from the definition.
pub fn slow_crc32c(seed: u32, data: impl IntoIterator<Item = u8>) -> u32 {
    let mut crc = !seed;
    for byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Makes the checksum right again after bytes were changed behind the program's back.
pub fn reseal(bytes: &mut PageBytes) {
    let salt = match bytes[41] {
        1 => 0x4845_4144,
        2 => 0x4745_4E45,
        _ => 0x5441_424C,
    };
    let crc = dmremap_format::crc32c(dmremap_format::crc32c(salt, &bytes[..60]), &bytes[64..]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// Property tests with a fixed seed, so that a failure is the same for everybody.
pub fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_200_101),
        failure_persistence: None,
        ..Default::default()
    }
}
