// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Folders that look like `/sys` and `/proc`.

use std::os::unix::fs::symlink;

use super::*;

/// A host made of files. Devices are folders below `sys/devices`, as the kernel lays them out.
pub struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    pub fn new() -> Fake {
        let folder = tempfile::tempdir().unwrap();
        for name in ["sys/dev/block", "sys/class/block", "proc/self"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Fake { folder }
    }

    pub fn host(&self) -> Host {
        let root = self.folder.path().canonicalize().unwrap();
        Host { sys: root.join("sys"), proc: root.join("proc") }
    }

    /// A device at `devices/PLACE`, its name the last part, its number `8:MINOR`.
    pub fn device(&self, place: &str, minor: u32) -> PathBuf {
        self.numbered(place, Number { major: 8, minor })
    }

    pub fn numbered(&self, place: &str, Number { major, minor }: Number) -> PathBuf {
        let sys = self.host().sys;
        let node = sys.join("devices").join(place);
        fs::create_dir_all(&node).unwrap();
        fs::write(node.join("dev"), format!("{major}:{minor}\n")).unwrap();
        symlink(&node, sys.join(format!("dev/block/{major}:{minor}"))).unwrap();
        symlink(&node, sys.join("class/block").join(node.file_name().unwrap())).unwrap();
        node
    }

    /// Makes the device a partition of the folder it lies in.
    pub fn partition(&self, place: &str, minor: u32) -> PathBuf {
        let node = self.device(place, minor);
        fs::write(node.join("partition"), "1\n").unwrap();
        node
    }

    /// `upper` is made of `lower`.
    pub fn stack(&self, upper: &Path, lower: &[&Path]) {
        for lower in lower {
            fs::create_dir_all(upper.join("slaves")).unwrap();
            fs::create_dir_all(lower.join("holders")).unwrap();
            symlink(lower, upper.join("slaves").join(lower.file_name().unwrap())).unwrap();
            symlink(upper, lower.join("holders").join(upper.file_name().unwrap())).unwrap();
        }
    }

    pub fn file(&self, node: &Path, name: &str, content: &str) {
        let path = node.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn mounted(&self, number: &str, at: &str, source: &str) {
        let line = format!("30 1 {number} / {at} rw,relatime shared:1 - ext4 {source} rw\n");
        let path = self.host().proc.join("self/mountinfo");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, before + &line).unwrap();
    }
}

pub fn number(minor: u32) -> Number {
    Number { major: 8, minor }
}

fn names(disks: &BTreeSet<PathBuf>) -> Vec<&str> {
    disks.iter().map(|disk| disk.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn a_partition_lies_on_its_disk_and_an_array_on_its_members() {
    let fake = Fake::new();
    fake.device("pci/ata1/sda", 0);
    let part = fake.partition("pci/ata1/sda/sda1", 1);
    let other = fake.device("pci/usb2/2-1/sdb", 16);
    let md = fake.device("virtual/md0", 90);
    fake.stack(&md, &[&part, &other]);
    let lv = fake.device("virtual/dm-0", 100);
    fake.stack(&lv, &[&md]);
    let host = fake.host();
    assert_eq!(names(&host.disks(number(0))), ["sda"]);
    assert_eq!(names(&host.disks(number(1))), ["sda"]);
    assert_eq!(names(&host.disks(number(100))), ["sda", "sdb"]);
    assert!(host.disks(number(77)).is_empty());
    let usb: Vec<bool> = host.disks(number(100)).iter().map(|disk| is_usb(disk)).collect();
    assert_eq!(usb, [false, true]);
    assert!(!is_usb(Path::new("/sys/devices/usbhid/sda")) && !is_usb(Path::new("/sys/usb/sda")));
}

#[test]
fn a_loop_device_lies_where_its_file_does() {
    let fake = Fake::new();
    let image = fake.folder.path().join("image");
    fs::write(&image, "").unwrap();
    let below = Number::of_raw(fs::metadata(&image).unwrap().dev());
    fake.numbered("pci/ata9/sdz", below);
    let device = fake.device("virtual/loop0", 200);
    fake.file(&device, "loop/backing_file", &format!("{}\n", image.display()));
    let host = fake.host();
    assert_eq!(host.beneath(&image), Some(below));
    assert_eq!(names(&host.disks(number(200))), ["sdz"]);
}

#[test]
fn a_file_system_with_a_number_of_its_own_is_found_by_its_source() {
    let fake = Fake::new();
    let image = fake.folder.path().join("image");
    fs::write(&image, "").unwrap();
    let Number { major, minor } = Number::of_raw(fs::metadata(&image).unwrap().dev());
    assert_eq!(fake.host().beneath(&image), None);
    fake.device("pci/ata1/sda", 0);
    fake.mounted(&format!("{major}:{minor}"), "/mnt", "/dev/sda");
    assert_eq!(fake.host().beneath(&image), Some(number(0)));
}

#[test]
fn what_survives_the_death_of_a_disk() {
    let fake = Fake::new();
    let disks: Vec<PathBuf> =
        (0..4).map(|n| fake.device(&format!("pci/ata{n}/sd{n}"), n)).collect();
    let mirror = fake.device("virtual/md1", 10);
    fake.stack(&mirror, &[&disks[0], &disks[1]]);
    fake.file(&mirror, "md/level", "raid1\n");
    let stripe = fake.device("virtual/md2", 11);
    fake.stack(&stripe, &[&disks[2], &disks[3]]);
    fake.file(&stripe, "md/level", "raid0\n");
    let part = fake.partition("virtual/md1/md1p1", 12);
    let crypt = fake.device("virtual/dm-1", 13);
    fake.stack(&crypt, &[&part]);
    let mixed = fake.device("virtual/dm-2", 14);
    fake.stack(&mixed, &[&part, &disks[3]]);
    let leg = |n: u32, name: &str| {
        let leg = fake.device(&format!("virtual/dm-{n}"), n);
        fake.file(&leg, "dm/name", &format!("{name}\n"));
        leg
    };
    let lv = fake.device("virtual/dm-3", 15);
    let legs = [leg(20, "vg-lv_rimage_0"), leg(21, "vg-lv_rmeta_0"), leg(22, "vg-lv_rimage_1")];
    fake.stack(&lv, &[&legs[0], &legs[1], &legs[2]]);
    let host = fake.host();
    for (minor, redundant) in
        [(0, false), (10, true), (11, false), (12, true), (13, true), (14, false), (15, true)]
    {
        assert_eq!(host.is_redundant(number(minor)), redundant, "8:{minor}");
    }
    assert!(!host.is_redundant(number(99)));
}

#[test]
fn mounts_with_blanks_and_damaged_lines() {
    let fake = Fake::new();
    fake.mounted("8:1", "/mnt/my\\040disk\\134", "/dev/sda1");
    let path = fake.host().proc.join("self/mountinfo");
    let text = fs::read_to_string(&path).unwrap() + "30 1\n\n30 1 x:y / / rw - ext4\n - \n";
    fs::write(path, text).unwrap();
    let mounts = fake.host().mounts();
    assert_eq!(mounts.len(), 1);
    assert_eq!((mounts[0].number, mounts[0].at.as_str()), (number(1), "/mnt/my disk\\"));
    assert_eq!(unescaped("a\\9\\"), "a\\9\\");
}
