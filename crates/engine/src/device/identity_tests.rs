// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Identities read from trees that look like sysfs.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A sysfs with one device node at `8:0` (and `8:1` if a partition is asked for).
struct Sysfs(tempfile::TempDir);

impl Sysfs {
    fn new(bus: &str, files: &[(&str, &str)]) -> Sysfs {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("devices").join(bus).join("block/sda");
        fs::create_dir_all(disk.join("device")).unwrap();
        fs::create_dir_all(dir.path().join("dev/block")).unwrap();
        fs::write(disk.join("dev"), "8:0\n").unwrap();
        for (name, content) in files {
            fs::create_dir_all(disk.join(name).parent().unwrap()).unwrap();
            fs::write(disk.join(name), content).unwrap();
        }
        symlink(&disk, dir.path().join("dev/block/8:0")).unwrap();
        if disk.join("sda1").is_dir() {
            symlink(disk.join("sda1"), dir.path().join("dev/block/8:1")).unwrap();
        }
        Sysfs(dir)
    }

    fn read(&self, minor: u32) -> Identity {
        of_block(&self.0.path().join("dev/block"), 8, minor)
    }
}

fn proof(id: &Identity) -> Vec<(MarkKind, &str)> {
    id.proof().iter().map(|mark| (mark.kind, mark.value.as_str())).collect()
}

const SCSI: [(&str, &str); 4] = [
    ("device/wwid", "naa.5000c500a1b2c3d4\n"),
    ("device/vendor", "ATA     "),
    ("device/model", "ST2000DM008-2FR1 \n"),
    ("device/vpd_pg80", "\0\u{0}\0\u{8}ZFL1WXYZ"),
];

#[test]
fn a_disk_is_its_world_wide_name_else_serial_and_model() {
    let sysfs = Sysfs::new("pci0/ata1", &SCSI);
    let id = sysfs.read(0);
    assert_eq!(proof(&id), [(MarkKind::Wwid, "naa.5000c500a1b2c3d4")]);
    assert_eq!(id.get(MarkKind::Serial), Some("ZFL1WXYZ"));
    assert_eq!(id.get(MarkKind::Model), Some("ATA ST2000DM008-2FR1"));
    let sysfs = Sysfs::new("pci0/ata1", &SCSI[1..]);
    let id = sysfs.read(0);
    assert_eq!(
        proof(&id),
        [(MarkKind::Serial, "ZFL1WXYZ"), (MarkKind::Model, "ATA ST2000DM008-2FR1")]
    );
    let nvme =
        [("wwid", "eui.0025388b91b0a2c4\n"), ("device/vendor", "0x144d"), ("device/model", "X")];
    let id = Sysfs::new("pci0/nvme0", &nvme).read(0);
    assert_eq!(proof(&id), [(MarkKind::Wwid, "eui.0025388b91b0a2c4")]);
    assert_eq!(id.get(MarkKind::Model), Some("X"));
}

#[test]
fn usb_and_filler_prove_nothing() {
    let id = Sysfs::new("pci0/usb2/2-1/host3", &SCSI).read(0);
    assert!(id.usb && id.get(MarkKind::Serial).is_some());
    assert!(proof(&id).is_empty());
    for filler in ["000000000000", "0123456789ABCDEF", "123456789012", "    ", "N/A", "ffff-ffff"] {
        let files = [("serial", filler), ("device/model", "DISK")];
        let id = Sysfs::new("virtio0", &files).read(0);
        assert!(proof(&id).is_empty(), "{filler:?} taken for a serial");
    }
    let id = Sysfs::new("virtio0", &[("serial", "abc-1"), ("device/model", "DISK")]).read(0);
    assert_eq!(id.proof().len(), 2);
}

#[test]
fn mappings_and_arrays_are_their_uuid() {
    let id = Sysfs::new("virtual", &[("dm/uuid", "LVM-abcdef\n")]).read(0);
    assert_eq!(proof(&id), [(MarkKind::DmUuid, "LVM-abcdef")]);
    let id = Sysfs::new("virtual", &[("md/uuid", "1f2e-3d\n")]).read(0);
    assert_eq!(proof(&id), [(MarkKind::MdUuid, "1f2e-3d")]);
}

#[test]
fn a_partition_needs_its_disk_its_uuid_and_its_start() {
    let part = [("sda1/partition", "1\n"), ("sda1/start", "2048\n"), ("sda1/uevent", "PARTN=1\n")];
    let mut files = SCSI.to_vec();
    files.extend(part);
    let id = Sysfs::new("pci0/ata1", &files).read(1);
    assert_eq!(id.disk, Some(DeviceKey::Block { major: 8, minor: 0 }));
    assert!(proof(&id).is_empty(), "without a PARTUUID");
    files.push(("sda1/uevent", "PARTN=1\nPARTUUID=ABCD-01\n"));
    let id = Sysfs::new("pci0/ata1", &files).read(1);
    assert_eq!(
        proof(&id),
        [
            (MarkKind::Wwid, "naa.5000c500a1b2c3d4"),
            (MarkKind::PartUuid, "abcd-01"),
            (MarkKind::PartStart, "2048")
        ]
    );
}

#[test]
fn hostile_values_are_cut_and_escaped() {
    let long = "x".repeat(3000);
    let id =
        Sysfs::new("a", &[("serial", long.as_str()), ("device/model", "\u{1b}[31mred")]).read(0);
    assert_eq!(id.get(MarkKind::Serial).unwrap().len(), 256);
    assert!(!id.to_string().contains('\u{1b}'));
    let id = of_block(Path::new("/nonexistent"), 8, 0);
    assert!(id.marks.is_empty());
}
