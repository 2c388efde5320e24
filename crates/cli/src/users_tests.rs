// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who uses a device, on a host made of files and on this one.

use super::*;
use crate::topology::tests::{Fake, number};

#[test]
fn mounts_holders_and_swap_of_a_disk_and_its_partitions() {
    let fake = Fake::new();
    fake.device("pci/ata1/sda", 0);
    let part = fake.partition("pci/ata1/sda/sda1", 1);
    fake.partition("pci/ata1/sda/sda2", 2);
    let lv = fake.device("virtual/dm-3", 9);
    fake.file(&lv, "dm/name", "vg-data\u{1b}[2J\n");
    fake.stack(&lv, &[&part]);
    fake.mounted("8:2", "/mnt/a\\012b", "/dev/sda2");
    fake.mounted("8:2", "/mnt/a\\012b", "/dev/sda2");
    let host = fake.host();
    let swaps = "Filename Type Size Used Priority\n/dev/dm-3 partition 1 0 -2\n";
    std::fs::write(host.proc.join("swaps"), swaps).unwrap();
    let of_part = "part of dm-3 (vg-data\\x1b[2J)";
    assert_eq!(host.device_users(number(1)), [of_part]);
    assert_eq!(host.device_users(number(2)), ["mounted at /mnt/a\\x0ab"]);
    assert_eq!(host.device_users(number(9)), ["swap"]);
    let disk = [format!("sda1 {of_part}"), "sda2 mounted at /mnt/a\\x0ab".to_owned()];
    assert_eq!(host.device_users(number(0)), disk);
    assert!(host.device_users(number(77)).is_empty());
}

#[test]
fn a_file_behind_a_loop_device_or_in_use_as_swap() {
    let fake = Fake::new();
    let device = fake.device("virtual/loop5", 7);
    fake.file(&device, "loop/backing_file", "/srv/a b.img\n");
    let host = fake.host();
    std::fs::write(host.proc.join("swaps"), "Filename\n/srv/swap\\040file file 1 0 -2\n").unwrap();
    assert_eq!(host.file_users(Path::new("/srv/a b.img")), ["behind loop5"]);
    assert_eq!(host.file_users(Path::new("/srv/swap file")), ["swap"]);
    assert!(host.file_users(Path::new("/srv/other")).is_empty());
}

#[test]
fn somebody_else_who_has_a_file_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, "").unwrap();
    assert!(Host::default().processes(&path).is_empty(), "this process is not somebody else");
    let file = std::fs::File::open(&path).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    let found = Host::default().processes(&path);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(&format!("(process {})", child.id())), "{found:?}");
}
