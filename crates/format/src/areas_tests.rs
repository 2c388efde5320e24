// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use std::vec::Vec;

use super::*;
use proptest::prelude::*;

/// Every area, or the number of the line at fault (from 1) and its fault.
fn map(text: &str) -> Result<Vec<Area>, (usize, LineFault)> {
    let mut reader = MapReader::default();
    let lines = text.split('\n').enumerate();
    let areas = lines.map(|(n, line)| reader.line(line.as_bytes()).map_err(|f| (n + 1, f)));
    areas.filter_map(Result::transpose).collect()
}

fn blocks(text: &str, block_bytes: u32) -> Result<Vec<Area>, (usize, LineFault)> {
    let mut reader = BlockReader::new(block_bytes).unwrap();
    let lines = text.split('\n').enumerate();
    let areas = lines.map(|(n, line)| reader.line(line.as_bytes()).map_err(|f| (n + 1, f)));
    areas.filter_map(Result::transpose).collect()
}

fn area(sector: u64, sectors: u64, copied: Copied) -> Area {
    Area { sector, sectors, copied }
}

#[test]
fn a_mapfile_as_ddrescue_writes_it() {
    let text = "# Mapfile. Created by GNU ddrescue version 1.27\n\
                # current_pos  current_status  current_pass\n\
                0x00120000     ?               1\n\
                #      pos        size  status\n\
                0x00000000  0x00117000  +\n\
                0x00117000  0x00000200  -  # the worst\n\
                0x00117200  0x00001000  /\n\
                0x00118200  0x00007E00  *\n\
                0x00120000  0x00048000  ?\n";
    let areas = map(text).unwrap();
    assert_eq!(
        areas,
        [
            area(0, 0x117000 / 512, Copied::Finished),
            area(0x117000 / 512, 1, Copied::Bad),
            area(0x117200 / 512, 8, Copied::NonScraped),
            area(0x118200 / 512, 0x7e00 / 512, Copied::NonTrimmed),
            area(0x120000 / 512, 0x48000 / 512, Copied::NonTried),
        ]
    );
}

#[test]
fn numbers_are_those_of_c_and_an_old_map_has_no_pass() {
    assert_eq!(map("0 +\n0 01000 +\n512 0X200 -").unwrap()[1], area(1, 1, Copied::Bad));
}

#[test]
fn odd_lines_are_refused_by_number() {
    for (text, line, fault) in [
        ("0 +\n0 512 +\n256 512 -", 3, LineFault::Odd),
        ("0 +\n0 100 +", 2, LineFault::Odd),
        ("0 +\n0 1024 +\n512 512 -", 3, LineFault::Overlaps { end: 1024 }),
        ("0 +\n0 512 +\n1024 512 -", 3, LineFault::Gap { end: 512 }),
        ("0 +\n512 512 -", 2, LineFault::Gap { end: 0 }),
        ("0 +\n0 0 -", 2, LineFault::Empty),
        ("0 +\n0 512 x", 2, LineFault::Status),
        ("0 +\n0 512 --", 2, LineFault::Status),
        ("0 +\n0 512", 2, LineFault::Form),
        ("0 +\n0 512 - 7", 2, LineFault::Form),
        ("0 +\n0\n", 2, LineFault::Form),
        ("0 +\n-512 512 -", 2, LineFault::Number),
        ("0 +\n0 0x8000000000000000 -", 2, LineFault::Number),
        ("0 +\n0xffffffffffffffff 512 -", 2, LineFault::Number),
        ("0 +\n0 99999999999999999999 -", 2, LineFault::Number),
        ("0 x", 1, LineFault::Status),
        ("0 + x", 1, LineFault::Number),
        ("0 512 +", 1, LineFault::Status),
        ("7", 1, LineFault::Form),
    ] {
        assert_eq!(map(text), Err((line, fault)), "{text:?}");
    }
}

#[test]
fn a_badblocks_list() {
    let found = blocks("0\n3\n\n4\n", 4096).unwrap();
    assert_eq!(
        found,
        [area(0, 8, Copied::Bad), area(24, 8, Copied::Bad), area(32, 8, Copied::Bad)]
    );
    for (text, line, fault) in [
        ("3\n3", 2, LineFault::Overlaps { end: 4 }),
        ("3\n1", 2, LineFault::Overlaps { end: 4 }),
        ("3 4", 1, LineFault::Form),
        ("# 4", 1, LineFault::Form),
        ("0x10", 1, LineFault::Number),
        ("-1", 1, LineFault::Number),
        ("18446744073709551615", 1, LineFault::Number),
        ("4503599627370496", 1, LineFault::Number),
    ] {
        assert_eq!(blocks(text, 4096), Err((line, fault)), "{text:?}");
    }
    for bytes in [0, 256, 511, 513, 3072, 131_072] {
        assert!(BlockReader::new(bytes).is_none(), "{bytes}");
    }
}

proptest! {
    /// Any bytes at all: no panic, and what is taken is ascending and has no overlap.
    #[test]
    fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (mut map, mut list) = (MapReader::default(), BlockReader::new(512).unwrap());
        for line in text.split(|byte| *byte == b'\n') {
            let _ = (map.line(line), list.line(line));
        }
    }

    /// Lines of the right words: whatever is taken covers the device without gap or overlap.
    #[test]
    fn what_is_taken_is_contiguous(
        lines in proptest::collection::vec((0u64..4, 0u64..4, 0usize..6), 0..40)
    ) {
        let mut reader = MapReader::default();
        reader.line(b"0 +").unwrap();
        let mut end = 0;
        for (at, size, status) in lines {
            let word = ["+", "-", "?", "*", "/", "x"][status];
            let start = (end + at).saturating_sub(1);
            let line = std::format!("{:#x} {} {word}", start * 512, size * 512);
            if let Ok(Some(area)) = reader.line(line.as_bytes()) {
                prop_assert_eq!(area.sector, end);
                prop_assert!(area.sectors > 0);
                end = area.end();
            }
            prop_assert_eq!(reader.end(), end * 512);
        }
    }
}
