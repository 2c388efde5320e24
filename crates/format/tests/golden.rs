// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: pages come out byte for byte as they did when the format was fixed, and
//! images kept from then are read as what they were made of.
//!
//! `golden/*.hex` hold the lines of 16 bytes that are not all zero. They never change: a format
//! that no longer gives them is another format, with another version.

mod common;

use common::*;
use dmremap_format::{
    CopyIndex, GenerationPage, Header, PAGE_BYTES, PageBytes, State, TablePage, UnitIndex,
};

/// The lines of `bytes` that are not all zero.
fn dump(bytes: &PageBytes) -> String {
    let mut text = String::from("# SPDX-License-Identifier: GPL-2.0-only OR MIT\n");
    for (index, line) in bytes.chunks(16).enumerate() {
        if line.iter().any(|byte| *byte != 0) {
            let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{:03x}: {}\n", index * 16, hex.join(" "));
        }
    }
    text
}

/// The page a dump was made of.
fn undump(text: &str) -> Box<PageBytes> {
    let mut bytes = page();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (at, hex) = line.split_once(": ").unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        for (index, byte) in hex.split(' ').enumerate() {
            bytes[at + index] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

fn same(name: &str, golden: &str, made: &PageBytes) {
    let made = dump(made);
    assert!(made == golden, "{name} has changed; it is now\n{made}");
}

const HEADER: &str = include_str!("golden/header.hex");
const GENERATION: &str = include_str!("golden/generation.hex");
const TABLE: &str = include_str!("golden/table.hex");

#[test]
fn pages_are_made_as_ever() {
    same("header.hex", HEADER, &sealed_header(2));
    same("generation.hex", GENERATION, &sealed_generation(2));
    same("table.hex", TABLE, &sealed_table(2));
}

#[test]
fn kept_pages_are_read_as_ever() {
    let header = undump(HEADER);
    let header = Header::check(&header, CopyIndex(2)).unwrap();
    assert_eq!((header.volume(), header.spare(), header.stamp()), (VOLUME, SPARE, STAMP));
    assert_eq!((header.name(), header.state()), ("old-disk.1", State::Dirty));
    assert_eq!((header.main_sectors(), header.layout()), (MAIN_SECTORS, Ok(layout())));
    let generation = undump(GENERATION);
    let generation = GenerationPage::check(&generation, &expect(2, 0)).unwrap();
    assert_eq!(generation.generation(), STAMP.generation);
    let table = undump(TABLE);
    let table = TablePage::check(&table, &expect(2, 3)).unwrap();
    for (place, slot) in slots() {
        assert_eq!(table.slot(place), Ok(slot));
    }
    assert_eq!(table.slot(0).unwrap().main, Some(UnitIndex(0)));
}

/// The first bytes, spelt out: magic, version, and the checksum by the definition.
#[test]
fn the_first_bytes_are_the_formats() {
    for (text, kind, salt) in
        [(HEADER, 1u8, *b"DAEH"), (GENERATION, 2, *b"ENEG"), (TABLE, 3, *b"LBAT")]
    {
        let bytes = undump(text);
        assert_eq!(bytes[..4], [0x34, 0x52, 0x4d, 0x44]);
        assert_eq!((bytes[40], bytes[41]), (2, kind));
        assert_eq!(bytes[44..52], 7u64.to_le_bytes());
        let data = bytes[..60].iter().chain(&bytes[64..PAGE_BYTES]).copied();
        let crc = slow_crc32c(u32::from_le_bytes(salt), data);
        assert_eq!(bytes[60..64], crc.to_le_bytes());
    }
    assert_eq!(undump(HEADER)[4..8], [4, 0, 1, 0]);
}
