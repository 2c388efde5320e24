// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The texts of an export, from a volume made up.

use super::*;
use crate::report::Run;

fn run(main_sector: u64, sectors: u64, state: &str, spare_sector: Option<u64>) -> Run {
    let spare_index = spare_sector.map(|_| 0);
    let (state, cause) = (state.to_owned(), None);
    Run { main_sector, spare_index, spare_sector, sectors, state, cause }
}

fn view(runs: Vec<Run>) -> View {
    View {
        name: "v".into(),
        uuid: "6f1c0d3e-0000-4000-8000-000000000001".into(),
        size_sectors: 4096,
        block_size: 512,
        entries: 0,
        quarantined: 0,
        max_entries: 0,
        runs,
    }
}

fn three() -> View {
    view(vec![
        run(0, 3, "gone", None),
        run(3, 5, "pending", None),
        run(16, 8, "remapped", Some(9216)),
        run(30, 2, "pending", Some(9230)),
        run(4095, 1, "gone", None),
    ])
}

#[test]
fn areas_of_a_mapfile_are_joined_and_cover_everything() {
    let text = mapfile(&three());
    let areas: Vec<&str> = text.lines().skip(5).collect();
    assert_eq!(
        areas,
        [
            "0x00000000  0x00001000  -",
            "0x00001000  0x00002C00  +",
            "0x00003C00  0x00000400  -",
            "0x00004000  0x001FBE00  +",
            "0x001FFE00  0x00000200  -",
        ]
    );
    assert_eq!(mapfile(&view(vec![])).lines().last(), Some("0x00000000  0x00200000  +"));
}

#[test]
fn a_block_with_anything_bad_is_bad_and_named_once() {
    assert_eq!(badblocks(&three(), 4096), "0\n3\n511\n");
    assert_eq!(badblocks(&three(), 8192), "0\n1\n255\n");
    assert_eq!(badblocks(&three(), 65_536), "0\n31\n");
    assert_eq!(badblocks(&three(), 512).lines().count(), 11);
    assert_eq!(badblocks(&view(vec![]), 4096), "");
}

#[test]
fn segments_cover_the_volume_without_a_gap() {
    let text = table(&three(), "/dev/a b", "/dev/s\\p").unwrap();
    assert_eq!(
        text,
        "0 3 error\n3 5 error\n8 8 linear /dev/a\\ b 8\n16 8 linear /dev/s\\\\p 9216\n\
         24 6 linear /dev/a\\ b 24\n30 2 error\n32 4063 linear /dev/a\\ b 32\n4095 1 error\n"
    );
    assert!(table(&view(vec![run(0, 8, "remapped", None)]), "m", "s").is_err());
}
