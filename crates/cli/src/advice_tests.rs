// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Advice on a host made of files. The images are real, the disk they lie on is not.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::*;
use crate::topology::Number;
use crate::topology::tests::Fake;

fn words(all: &[Advice]) -> Vec<&str> {
    all.iter().map(|advice| advice.word).collect()
}

fn image(folder: &Path) -> (PathBuf, Number) {
    let path = folder.join("spare.img");
    std::fs::write(&path, "").unwrap();
    let dev = std::fs::metadata(&path).unwrap().dev();
    (path, Number { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) })
}

#[test]
fn a_spare_on_mains_disk_behind_usb_gets_everything_said() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let (path, number) = image(folder.path());
    fake.numbered("pci/usb1/1-1/sdq", number);
    let spec = path.to_str().unwrap();
    let all = of_spare(&fake.host(), spec, spec, Backing::Direct);
    assert_eq!(words(&all), ["same-disk", "usb", "not-redundant"]);
    assert!(all[0].text.contains("(sdq)") && all[2].text.contains("RAID1"), "{all:?}");
    assert_eq!((all[0].kind, all[2].kind), ("warning", "hint"));
    let elsewhere = of_spare(&fake.host(), "/no/main", spec, Backing::Direct);
    assert_eq!(words(&elsewhere), ["usb", "not-redundant"]);
}

#[test]
fn a_mirror_needs_no_advice_and_memory_gets_its_own() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let (path, number) = image(folder.path());
    let mirror = fake.numbered("virtual/md0", number);
    fake.file(&mirror, "md/level", "raid1\n");
    let spec = path.to_str().unwrap();
    assert!(of_spare(&fake.host(), "/no/main", spec, Backing::Direct).is_empty());
    assert_eq!(words(&of_spare(&fake.host(), spec, spec, Backing::Memory)), ["memory"]);
}
