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

fn of(id: &Identity, proof: bool) -> Vec<(HardwareKind, String)> {
    let all = id.hardware();
    let shown = |one: &Hardware| (one.kind(), String::from_utf8_lossy(one.value()).into_owned());
    all.iter().filter(|one| one.is_proof() == proof).map(shown).collect()
}

fn proof(id: &Identity) -> Vec<(HardwareKind, String)> {
    of(id, true)
}

fn one(kind: HardwareKind, value: &str) -> Vec<(HardwareKind, String)> {
    vec![(kind, value.to_owned())]
}

const SERIAL: &str = "ZFL1WXYZ\0ATA ST2000DM008-2FR1";

const SCSI: [(&str, &str); 4] = [
    ("device/wwid", "naa.5000c500a1b2c3d4\n"),
    ("device/vendor", "ATA     "),
    ("device/model", "ST2000DM008-2FR1 \n"),
    ("device/vpd_pg80", "\0\u{0}\0\u{8}ZFL1WXYZ"),
];

#[test]
fn a_disk_is_its_world_wide_name_and_its_serial_with_model() {
    use HardwareKind::{Eui, Nguid, SerialModel, Wwn};
    let id = Sysfs::new("pci0/ata1", &SCSI).read(0);
    let wwn = one(Wwn, "naa.5000c500a1b2c3d4");
    assert_eq!(proof(&id), [wwn, one(SerialModel, SERIAL)].concat());
    assert_eq!(id.get(MarkKind::Model), Some("ATA ST2000DM008-2FR1"));
    let id = Sysfs::new("pci0/ata1", &SCSI[1..]).read(0);
    assert_eq!(proof(&id), one(SerialModel, SERIAL));
    let nvme = |wwid: &str| {
        let files = [("wwid", wwid), ("device/vendor", "0x144d"), ("device/model", "X")];
        Sysfs::new("pci0/nvme0", &files).read(0)
    };
    assert_eq!(nvme("a").get(MarkKind::Model), Some("X"), "a PCI number is no vendor");
    let (eui, nguid) = ("eui.0025388b91b0a2c4", "eui.0025388b91b0a2c40025388b91b0a2c4");
    assert_eq!(proof(&nvme(eui)), one(Eui, eui));
    assert_eq!(proof(&nvme(nguid)), one(Nguid, nguid));
    let made_up = "nvme.144d-533132-58-00000001";
    assert_eq!((proof(&nvme(made_up)), of(&nvme(made_up), false)), (vec![], one(Wwn, made_up)));
    let mut files = SCSI.to_vec();
    files[0].1 = "t10.ATA     ST2000DM008-2FR1    ZFL1WXYZ";
    let id = Sysfs::new("pci0/ata1", &files).read(0);
    assert_eq!((proof(&id), of(&id, false)), (one(SerialModel, SERIAL), vec![]));
}

#[test]
fn usb_filler_and_halves_prove_nothing() {
    let id = Sysfs::new("pci0/usb2/2-1/host3", &SCSI).read(0);
    assert!(id.usb && id.get(MarkKind::Serial).is_some());
    assert_eq!((proof(&id).len(), of(&id, false).len()), (0, 2));
    for filler in ["000000000000", "0123456789ABCDEF", "123456789012", "N/A", "ffff-ffff"] {
        let files = [("serial", filler), ("device/model", "DISK")];
        let id = Sysfs::new("virtio0", &files).read(0);
        assert_eq!((proof(&id), id.hardware().len()), (vec![], 1), "{filler:?}");
    }
    let id = Sysfs::new("virtio0", &[("serial", "    "), ("device/model", "DISK")]).read(0);
    assert_eq!(id.hardware(), []);
    let id = Sysfs::new("virtio0", &[("serial", "abc-1"), ("device/model", "DISK")]).read(0);
    assert_eq!(proof(&id), one(HardwareKind::SerialModel, "abc-1\0DISK"));
    let id = Sysfs::new("virtio0", &[("serial", "abc-1")]).read(0);
    assert_eq!((proof(&id), id.hardware().len()), (vec![], 1), "a serial number without a model");
}

#[test]
fn what_two_disks_show_proves_neither() {
    let mut both = SCSI.to_vec();
    both.push(("../sdb/device/wwid", SCSI[0].1));
    both.push(("../sdb/device/model", "another"));
    both.push(("../sdb/device/vpd_pg80", SCSI[3].1));
    let sysfs = Sysfs::new("pci0/ata1", &both);
    let alone = sysfs.read(0);
    assert_eq!(proof(&alone).len(), 2, "the other is not known to the system");
    let (node, other) = (sysfs.0.path().join("dev/block/8:16"), "devices/pci0/ata1/block/sdb");
    symlink(sysfs.0.path().join(other), node).unwrap();
    let id = sysfs.read(0);
    assert_eq!(id.shared, [MarkKind::Wwid], "serial numbers count with their model");
    assert_eq!(proof(&id), one(HardwareKind::SerialModel, SERIAL));
}

#[test]
fn mappings_and_arrays_are_their_uuid() {
    let id = Sysfs::new("virtual", &[("dm/uuid", "LVM-abcdef\n")]).read(0);
    assert_eq!(proof(&id), one(HardwareKind::DmUuid, "LVM-abcdef"));
    let id = Sysfs::new("virtual", &[("md/uuid", "1f2e-3d\n")]).read(0);
    assert_eq!(proof(&id), one(HardwareKind::MdUuid, "1f2e-3d"));
}

#[test]
fn a_partition_is_its_disk_with_its_start_and_uuid() {
    let part = [("sda1/partition", "1\n"), ("sda1/start", "2048\n")];
    let mut files = [SCSI.as_slice(), part.as_slice()].concat();
    files.push(("sda1/uevent", "PARTN=1\nPARTUUID=ABCD-01\n"));
    let sysfs = Sysfs::new("pci0/ata1", &files);
    let (disk, id) = (sysfs.read(0), sysfs.read(1));
    assert_eq!(id.disk, Some(DeviceKey::Block { major: 8, minor: 0 }));
    assert_eq!(proof(&id), proof(&disk), "its own disk is not another that shows the same");
    assert!(id.hardware().contains(&Hardware::partition(2048, b"abcd-01")));
    assert!(disk.hardware().iter().all(|one| one.kind() != HardwareKind::Partition));
}

#[test]
fn a_file_needs_all_three_numbers() {
    let mut id = Identity::bare(DeviceKey::File { major: 8, minor: 1, inode: 5 });
    let mark = |kind, value: &str| Mark { kind, value: value.into() };
    id.marks = vec![
        mark(MarkKind::FileSystem, "00000000000000ff"),
        mark(MarkKind::Inode, "5"),
        mark(MarkKind::BirthTime, "1.000000002"),
    ];
    let mut file_system = [0; 16];
    file_system[0] = 0xff;
    assert_eq!(id.hardware(), [Hardware::file(&file_system, 5, 1_000_000_002)]);
    assert!(id.hardware()[0].is_proof());
    for missing in [0, 2] {
        let mut id = id.clone();
        id.marks.remove(missing);
        assert!(!id.hardware()[0].is_proof());
    }
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
