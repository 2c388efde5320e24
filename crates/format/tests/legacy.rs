// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: tables of earlier generations, laid out byte by byte as they were, are read
//! as what they say; entries that cannot be right are told apart; no bytes make the reader panic.

use dmremap_format::CopyIndex;
use dmremap_format::legacy::{
    EntryFault, Legacy, LegacyEntry, LegacyFault, LegacyTable, V3_BYTES, V4_REAL_BYTES,
    v4_real_sector,
};
use proptest::prelude::*;

fn put(bytes: &mut [u8], at: usize, value: impl AsRef<[u8]>) {
    bytes[at..at + value.as_ref().len()].copy_from_slice(value.as_ref());
}

/// A v3 spare as its writer left it: main of 1,000,000 sectors, spare of 20,000.
fn v3(entries: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 4096 + 252 * 16];
    put(&mut bytes, 0, b"DMREMAP3");
    put(&mut bytes, 8, 1u32.to_le_bytes());
    put(&mut bytes, 12, 0xdead_beefu32.to_le_bytes()); // the checksum that proves nothing
    put(&mut bytes, 16, 1_700_000_000u64.to_le_bytes());
    put(&mut bytes, 24, 1_700_000_001u64.to_le_bytes());
    put(&mut bytes, 32, (entries.len() as u32).to_le_bytes());
    put(&mut bytes, 36, 252u32.to_le_bytes());
    put(&mut bytes, 40, 1_000_000u64.to_le_bytes());
    put(&mut bytes, 48, 20_000u64.to_le_bytes());
    put(&mut bytes, 56, 1u32.to_le_bytes());
    put(&mut bytes, 60, 7u32.to_le_bytes());
    put(&mut bytes, 64, 9u64.to_le_bytes());
    for (index, (main, spare)) in entries.iter().enumerate() {
        put(&mut bytes, 4096 + 16 * index, main.to_le_bytes());
        put(&mut bytes, 4096 + 16 * index + 8, spare.to_le_bytes());
    }
    bytes
}

/// CRC-32 by its definition, bit by bit, begun at 0 and not inverted.
fn slow_crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut crc = 0u32;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 };
        }
    }
    crc
}

fn v4(sequence: u64, entries: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 84_288];
    put(&mut bytes, 0, [0x34, 0x52, 0x4d, 0x44]);
    put(&mut bytes, 4, 4u32.to_le_bytes());
    put(&mut bytes, 8, sequence.to_le_bytes());
    put(&mut bytes, 16, 1_700_000_000u64.to_le_bytes());
    put(&mut bytes, 32, 84_288u32.to_le_bytes());
    put(&mut bytes, 40, b"6f1c0d3e-0000-4000-8000-000000000001\0");
    put(&mut bytes, 77, b"6f1c0d3e-0000-4000-8000-000000000002\0");
    put(&mut bytes, 120, 1_000_000u64.to_le_bytes());
    put(&mut bytes, 128, 20_000u64.to_le_bytes());
    put(&mut bytes, 136, 512u32.to_le_bytes());
    put(&mut bytes, 296, (entries.len() as u32).to_le_bytes());
    put(&mut bytes, 300, 2048u32.to_le_bytes());
    for (index, (main, spare)) in entries.iter().enumerate() {
        let at = 312 + 40 * index;
        put(&mut bytes, at, main.to_le_bytes());
        put(&mut bytes, at + 8, spare.to_le_bytes());
        put(&mut bytes, at + 34, 1u16.to_le_bytes());
    }
    let crc = slow_crc32(bytes[..24].iter().chain(&bytes[28..]).copied());
    put(&mut bytes, 24, crc.to_le_bytes());
    bytes
}

fn read(table: &LegacyTable<'_>) -> Vec<(u64, u64, Option<EntryFault>)> {
    table.entries().map(|(LegacyEntry { main, spare }, fault)| (main, spare, fault)).collect()
}

#[test]
fn the_checksum_is_the_kernels() {
    // crc32_le(0, "123456789"): the well-known remainder with another start and no inversion.
    assert_eq!(slow_crc32(b"123456789".iter().copied()), 0x2dfd_2d88);
}

#[test]
fn a_v3_table_is_read() {
    let bytes = v3(&[(5, 16), (999_999, 19_999)]);
    let table = LegacyTable::v3(&bytes).unwrap();
    assert_eq!((table.kind(), table.is_verified()), (Legacy::V3, false));
    assert_eq!((table.main_sectors(), table.spare_sectors()), (1_000_000, 20_000));
    assert_eq!(table.sequence(), 7);
    assert_eq!(read(&table), [(5, 16, None), (999_999, 19_999, None)]);
    assert_eq!(bytes.len(), V3_BYTES);
}

#[test]
fn a_v4_table_is_read_from_its_best_copy() {
    let (old, new) = (v4(3, &[(1, 2000)]), v4(4, &[(1, 2001), (8, 1280)]));
    let mut torn = v4(9, &[(1, 2002)]);
    torn[50_000] ^= 1;
    assert_eq!(LegacyTable::v4_real(&torn).unwrap_err(), LegacyFault::Checksum);
    let copies = [Some(&old[..]), Some(&torn[..]), None, Some(&new[..]), Some(&old[..])];
    let table = LegacyTable::v4_real_best(copies).unwrap();
    assert_eq!((table.kind(), table.sequence(), table.is_verified()), (Legacy::V4Real, 4, true));
    assert_eq!(read(&table), [(1, 2001, None), (8, 1280, None)]);
    let none = LegacyTable::v4_real_best([Some(&torn[..]), None, None, None, None]);
    assert_eq!(none.unwrap_err(), LegacyFault::Checksum);
    assert_eq!(LegacyTable::v4_real_best([None; 5]).unwrap_err(), LegacyFault::Short);
    let sectors = CopyIndex::ALL.map(v4_real_sector);
    assert_eq!(sectors, [0, 131_072, 262_144, 393_216, 524_288].map(|byte| byte / 512));
    assert_eq!(old.len(), V4_REAL_BYTES);
}

#[test]
fn entries_that_cannot_be_are_told_apart() {
    use EntryFault::{MainRange, MainTwice, OwnMetadata, SpareRange, SpareTwice};
    let entries = [
        (1, 5000),
        (2, 1279),
        (3, 5001),
        (4, 5001),
        (6, 5002),
        (6, 5003),
        (1_000_000, 5004),
        (7, 20_000),
    ];
    let faults = [
        None,
        Some(OwnMetadata),
        Some(SpareTwice),
        Some(SpareTwice),
        Some(MainTwice),
        Some(MainTwice),
        Some(MainRange),
        Some(SpareRange),
    ];
    let bytes = v4(1, &entries);
    let table = LegacyTable::v4_real(&bytes).unwrap();
    assert_eq!(read(&table).iter().map(|entry| entry.2).collect::<Vec<_>>(), faults);
    let bytes = v3(&[(1, 15), (2, 16)]);
    let table = LegacyTable::v3(&bytes).unwrap();
    assert_eq!(read(&table), [(1, 15, Some(OwnMetadata)), (2, 16, None)]);
}

#[test]
fn what_is_no_table_is_refused() {
    let good = v3(&[]);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        put(&mut bytes, at, value);
        LegacyTable::v3(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, b"DMREMAP4"), LegacyFault::NotThis);
    assert_eq!(with(8, &2u32.to_le_bytes()), LegacyFault::NotThis);
    assert_eq!(with(32, &253u32.to_le_bytes()), LegacyFault::Count(253));
    for len in 0..good.len() {
        assert_eq!(LegacyTable::v3(&good[..len]).map(|_| ()).unwrap_err(), LegacyFault::Short);
    }
    // This project's own v4 has the same magic number and another version.
    let mut ours = v4(1, &[]);
    put(&mut ours, 4, [4, 0, 1, 0]);
    assert_eq!(LegacyTable::v4_real(&ours).map(|_| ()).unwrap_err(), LegacyFault::NotThis);
    let mut many = v4(1, &[]);
    put(&mut many, 296, 2049u32.to_le_bytes());
    let crc = slow_crc32(many[..24].iter().chain(&many[28..]).copied());
    put(&mut many, 24, crc.to_le_bytes());
    assert_eq!(LegacyTable::v4_real(&many).map(|_| ()).unwrap_err(), LegacyFault::Count(2049));
}

proptest! {
    #[test]
    fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), kind in 0..3) {
        match kind {
            0 if bytes.len() >= 12 => put(&mut bytes, 0, b"DMREMAP3\x01\0\0\0"),
            1 if bytes.len() >= 8 => put(&mut bytes, 0, [0x34, 0x52, 0x4d, 0x44, 4, 0, 0, 0]),
            _ => {}
        }
        for table in [LegacyTable::v3(&bytes), LegacyTable::v4_real(&bytes)].into_iter().flatten() {
            for (entry, fault) in table.entries() {
                prop_assert!(fault.is_some() || entry.main < table.main_sectors());
            }
        }
    }
}
