// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How main's identity is taken, kept and shown. What follows from it is tested where it is judged.

use super::*;
use crate::device::memory::MemoryDevice;
use dmremap_format::identity::Doubts;
use dmremap_format::{Signature, Uuid};

fn ext(uuid: u8) -> Content {
    let uuid = Uuid([uuid; 16]);
    Content { kind: Signature::Ext, sector: 2, in_partition: false, uuid }
}

/// Writes the superblock of an ext4 behind byte `at`.
fn put_ext4(bytes: &mut [u8], at: usize, uuid: u8) {
    bytes[at + 1024..at + 1032].copy_from_slice(&[0, 4, 0, 0, 0, 16, 0, 0]);
    bytes[at + 0x438..at + 0x43a].copy_from_slice(&[0x53, 0xef]);
    bytes[at + 0x44c] = 1;
    bytes[at + 0x468..at + 0x478].fill(uuid);
}

fn ext4(uuid: u8) -> MemoryDevice {
    let mut bytes = vec![0u8; 4 << 20];
    put_ext4(&mut bytes, 0, uuid);
    MemoryDevice::with_content(bytes, 4096)
}

/// A DOS table with one partition at sector 2048 that holds an ext4.
fn partitioned() -> MemoryDevice {
    let mut bytes = vec![0u8; 4 << 20];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[440..444].copy_from_slice(&[1, 2, 3, 4]);
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
    put_ext4(&mut bytes, 2048 * 512, 9);
    MemoryDevice::with_content(bytes, 512)
}

#[test]
fn content_is_found_and_what_is_hidden_is_kept() {
    let main = ext4(7);
    let open = look(&main, |_, _| false);
    assert_eq!(open.contents, [ext(7)]);
    assert!(open.windows.iter().any(|window| window.offset == 0));
    assert_eq!(open.compared(&[ext(7)]), Compared::Equal);
    assert_eq!(open.compared(&[ext(8)]), Compared::Differs);
    assert_eq!(open.compared(&[]), Compared::Differs);
    assert_eq!(open.merged(&[ext(8)]), [ext(7)]);
    let hidden = look(&main, |sector, _| sector == 0);
    assert_eq!(hidden.contents, []);
    assert_eq!(hidden.compared(&[ext(8)]), Compared::Nothing, "what lives elsewhere is left out");
    assert_eq!(hidden.merged(&[ext(8)]), [ext(8)]);
}

#[test]
fn behind_a_hidden_partition_table_nothing_is_missed() {
    let main = partitioned();
    let open = look(&main, |_, _| false);
    let inside = open.contents.iter().find(|one| one.in_partition).expect("the ext4 in it");
    assert_eq!((inside.sector, inside.uuid), (2050, Uuid([9; 16])));
    assert!(open.contents.iter().any(|one| one.kind == Signature::Mbr));
    let hidden = look(&main, |sector, _| sector < 8);
    assert_eq!(hidden.contents, []);
    assert_eq!(hidden.compared(&open.contents), Compared::Nothing);
    assert_eq!(hidden.merged(&open.contents), open.contents);
    // Hidden is one thing, gone another.
    let elsewhere = look(&main, |sector, _| sector == 2048);
    assert_eq!(elsewhere.compared(&open.contents), Compared::Equal);
    let bare = look(&ext4(1), |_, _| false);
    assert_eq!(bare.compared(&open.contents), Compared::Differs);
}

#[test]
fn what_there_was_no_room_for_is_not_new() {
    let at = |sector: u64| Content { sector, ..ext(1) };
    let all = Look { contents: (0..20).map(at).collect(), ..Look::default() };
    let kept = all.merged(&[]);
    assert_eq!(kept.len(), MAX_CONTENTS);
    assert_eq!(all.compared(&kept), Compared::Equal);
    let one_less = Look { contents: (1..20).map(at).collect(), ..Look::default() };
    assert_eq!(one_less.compared(&kept), Compared::Differs);
    assert_eq!(all.compared(&kept[..15]), Compared::Differs, "there was room for it");
}

#[test]
fn rows_are_changed_one_by_one_and_later_kinds_stay() {
    let later = ContentRow { kind: 0x7fff, ..ext(5).row() };
    let mut kept = Kept::default();
    kept.contents[1] = Some(later);
    let kept = kept.with_contents(&[ext(1), ext(2)]);
    assert_eq!(kept.contents[..4], [Some(ext(1).row()), Some(later), Some(ext(2).row()), None]);
    assert_eq!(kept.contents(), [ext(1), ext(2)]);
    let new = kept.with_contents(&[ext(3)]);
    assert_eq!(
        kept.changes(&new),
        [
            HeaderChange::Content { row: 0, content: Some(ext(3).row()) },
            HeaderChange::Content { row: 2, content: None }
        ]
    );
    assert_eq!(kept.changes(&kept), []);
    let wwn = Hardware::new(HardwareKind::Wwn, &[b"naa.5"], Doubts::default()).unwrap();
    let known = kept.with_hardware(&[wwn]);
    assert_eq!(known.hardware(), [wwn]);
    let identity = IdentityValue::new(&wwn.row());
    assert_eq!(kept.changes(&known), [HeaderChange::Identity { row: 0, identity }]);
    assert_eq!(
        known.changes(&known.with_hardware(&[])),
        [HeaderChange::Identity { row: 0, identity: None }]
    );
}

#[test]
fn people_see_what_tells_it_from_others_and_no_bytes_of_a_device() {
    let usb = Doubts { usb_bridge: true, ..Doubts::default() };
    let all = [
        Hardware::new(HardwareKind::Wwn, &[b"naa.5000"], Doubts::default()).unwrap(),
        Hardware::new(HardwareKind::SerialModel, &[b"S\x1b[1m", b"MODEL"], usb).unwrap(),
        Hardware::partition(2048, b"abcd-01"),
        Hardware::file(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 12, 99),
    ];
    let said = describe(100, &all, &[ext(1)]);
    for part in [
        "100 sectors, WWN naa.5000, ",
        "serial number and model S\\x1b[1m MODEL (no proof)",
        "partition at sector 2048 abcd-01",
        "file on 00000000000000ff, inode 12, born at 99 ns",
        "01010101-0101-0101-0101-010101010101 at sector 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(describe(9, &[], &[]), "9 sectors, nothing that tells it from others");
}
