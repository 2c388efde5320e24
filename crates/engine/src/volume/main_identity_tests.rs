// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which main is taken for the volume's own.

use super::*;
use crate::device::memory::MemoryDevice;

fn identity(key: DeviceKey, marks: &[(MarkKind, &str)]) -> Identity {
    let mut identity = Identity::bare(key);
    identity.marks =
        marks.iter().map(|(kind, value)| Mark { kind: *kind, value: (*value).into() }).collect();
    identity
}

const DISK: DeviceKey = DeviceKey::Block { major: 8, minor: 0 };
const FILE: DeviceKey = DeviceKey::File { major: 8, minor: 1, inode: 5 };

fn found(rows: &[ContentRow]) -> Content {
    Content { rows: rows.to_vec(), windows: vec![], left_out: vec![], table_hidden: false }
}

fn ext(byte: u8) -> ContentRow {
    ContentRow { kind: 6, flags: 0, place: 0, uuid: Uuid([byte; 16]) }
}

#[test]
fn proof_settles_it_both_ways() {
    let wwid = |value: &str| rows(&identity(DISK, &[(MarkKind::Wwid, value)]));
    let (a, b) = (wwid("naa.5000c500a1b2c3d4"), wwid("naa.5000c500ffffffff"));
    let content = found(&[ext(1)]);
    assert_eq!(judge(&a, &[ext(1)], &a, &content), Known::Same { content_changed: false });
    assert_eq!(judge(&a, &[ext(2)], &a, &content), Known::Same { content_changed: true });
    assert_eq!(judge(&a, &[ext(1)], &b, &content), Known::Other, "whatever the content says");
}

#[test]
fn files_prove_sameness_only() {
    let file = |inode: &str| {
        rows(&identity(
            FILE,
            &[
                (MarkKind::FileSystem, "00aa11bb"),
                (MarkKind::Inode, inode),
                (MarkKind::BirthTime, "1.000000002"),
            ],
        ))
    };
    let content = found(&[ext(1)]);
    let same = Known::Same { content_changed: false };
    assert_eq!(judge(&file("5"), &[ext(1)], &file("5"), &content), same);
    assert_eq!(judge(&file("5"), &[ext(1)], &file("6"), &content), Known::Ask);
}

#[test]
fn without_proof_content_and_everything_weak_must_agree() {
    let weak = |serial: &str| {
        let mut identity = identity(DISK, &[(MarkKind::Serial, serial)]);
        identity.usb = true;
        rows(&identity)
    };
    let content = found(&[ext(1)]);
    let same = Known::Same { content_changed: false };
    assert!(weak("abc").iter().all(|row| !row.is_proof()));
    assert_eq!(judge(&weak("abc"), &[ext(1)], &weak("abc"), &content), same);
    assert_eq!(judge(&weak("abc"), &[ext(2)], &weak("abc"), &content), Known::Ask);
    assert_eq!(judge(&weak("abc"), &[ext(1)], &weak("abd"), &content), Known::Ask);
    assert_eq!(judge(&[], &[ext(1)], &[], &content), Known::Ask, "content alone");
    assert_eq!(judge(&weak("abc"), &[], &weak("abc"), &found(&[])), Known::Ask, "nothing to see");
    let wwid = rows(&identity(DISK, &[(MarkKind::Wwid, "naa.5000c500a1b2c3d4")]));
    assert_eq!(judge(&wwid, &[ext(1)], &weak("abc"), &content), Known::Ask, "proof was lost");
}

/// Main with the superblock of an ext4 at its beginning.
fn ext4(uuid: u8) -> MemoryDevice {
    let mut bytes = vec![0u8; 4 << 20];
    bytes[1024..1032].copy_from_slice(&[0, 4, 0, 0, 0, 16, 0, 0]);
    bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    bytes[0x44c] = 1;
    bytes[0x468..0x478].fill(uuid);
    MemoryDevice::with_content(bytes, 4096)
}

#[test]
fn content_is_found_and_what_is_hidden_is_kept() {
    let main = ext4(7);
    let content = content(&main, |_, _| false);
    assert_eq!(content.rows, [ContentRow { uuid: Uuid([7; 16]), ..ext(0) }]);
    assert!(content.windows.iter().any(|window| window.offset == 0));
    let hidden = super::content(&main, |sector, _| sector == 0);
    assert_eq!(hidden.rows, []);
    assert!(hidden.agrees(&[ext(7)]), "what lives elsewhere is left out");
    assert_eq!(hidden.merged(&[ext(7)]), [ext(7)]);
    assert!(!content.agrees(&[ext(8)]) && !content.agrees(&[]));
    assert_eq!(content.merged(&[ext(8)]), [ext(7)]);
    let changes = content_changes(&[ext(8), ext(9)], &[ext(7)]);
    assert_eq!(
        changes,
        [
            HeaderChange::Content { row: 0, content: Some(ext(7)) },
            HeaderChange::Content { row: 1, content: None }
        ]
    );
}

#[test]
fn long_values_are_kept_as_their_digest() {
    let (a, b) = ("LVM-a".repeat(20), "LVM-b".repeat(20));
    let row = |value: &str| rows(&identity(DISK, &[(MarkKind::DmUuid, value)]));
    assert_eq!(row(&a)[0].value.len(), 32);
    assert_ne!(row(&a), row(&b));
    assert_eq!(judge(&row(&a), &[], &row(&b), &found(&[])), Known::Other);
}
