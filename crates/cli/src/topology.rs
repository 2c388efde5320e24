// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which disks lie beneath a device or a file, how they are reached, and whether one of them may
//! die: read from sysfs, for advice before a volume is made.
//!
//! Nothing here decides what may be opened: that is the kernel's exclusive hold. What sysfs does
//! not show (a network file system, a pool of btrfs or ZFS) lies on no disk as far as this can
//! tell, and gives no advice.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Devices on devices are followed so far; sysfs has no circles, a fake one may.
const DEPTH_MAX: u32 = 16;

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Number {
    fn of_raw(raw: u64) -> Number {
        Number { major: rustix::fs::major(raw), minor: rustix::fs::minor(raw) }
    }

    /// From the kernel's `MAJOR:MINOR`.
    pub fn parse(text: &str) -> Option<Number> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Number { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// Where the kernel tells of devices.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/sys`
    pub sys: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
}

impl Default for Host {
    fn default() -> Host {
        Host { sys: "/sys".into(), proc: "/proc".into() }
    }
}

impl Host {
    /// The device at `path`, or the one whose file system holds the file there.
    pub fn beneath(&self, path: &Path) -> Option<Number> {
        let meta = fs::metadata(path).ok()?;
        if meta.file_type().is_block_device() {
            return Some(Number::of_raw(meta.rdev()));
        }
        let number = Number::of_raw(meta.dev());
        if self.node(number).is_some() {
            return Some(number);
        }
        // A file system with a number of its own (btrfs) names its device in the list of mounts.
        let mount = self.mounts().into_iter().find(|mount| mount.number == number)?;
        let name = Path::new(&mount.source).file_name()?;
        Number::parse(&text(&self.sys.join("class/block").join(name).join("dev"))?)
    }

    /// The folder of a device, without links.
    pub fn node(&self, number: Number) -> Option<PathBuf> {
        let Number { major, minor } = number;
        self.sys.join(format!("dev/block/{major}:{minor}")).canonicalize().ok()
    }

    /// The disks that hold what is written to a device, as folders of sysfs.
    pub fn disks(&self, number: Number) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        if let Some(node) = self.node(number) {
            self.add_disks(&node, DEPTH_MAX, &mut found);
        }
        found
    }

    fn add_disks(&self, node: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
        let disk = whole(node);
        let below = self.below(&disk);
        if below.is_empty() || depth == 0 {
            found.insert(disk);
            return;
        }
        for node in below {
            self.add_disks(&node, depth - 1, found);
        }
    }

    /// The devices a device-mapper device, an array or a loop device is made of.
    fn below(&self, disk: &Path) -> Vec<PathBuf> {
        let slaves = entries(&disk.join("slaves"));
        if !slaves.is_empty() {
            return slaves.iter().filter_map(|slave| slave.canonicalize().ok()).collect();
        }
        let file = text(&disk.join("loop/backing_file"));
        let number = file.and_then(|file| self.beneath(Path::new(file.trim_end_matches('\n'))));
        number.and_then(|number| self.node(number)).into_iter().collect()
    }

    /// Whether a device goes on when one of the disks beneath it dies.
    pub fn is_redundant(&self, number: Number) -> bool {
        self.node(number).is_some_and(|node| self.node_is_redundant(&node, DEPTH_MAX))
    }

    fn node_is_redundant(&self, node: &Path, depth: u32) -> bool {
        let disk = whole(node);
        if let Some(level) = text(&disk.join("md/level")) {
            return matches!(level.trim(), "raid1" | "raid10" | "raid4" | "raid5" | "raid6");
        }
        let below = self.below(&disk);
        // LVM keeps the state of each leg of a RAID volume in a device of its own.
        let is_leg = |node: &PathBuf| {
            text(&node.join("dm/name"))
                .is_some_and(|name| name.contains("_rmeta_") || name.contains("_mimage_"))
        };
        !below.is_empty()
            && depth > 0
            && (below.iter().any(is_leg)
                || below.iter().all(|node| self.node_is_redundant(node, depth - 1)))
    }

    /// What is mounted.
    pub fn mounts(&self) -> Vec<Mount> {
        let list = fs::read(self.proc.join("self/mountinfo")).unwrap_or_default();
        String::from_utf8_lossy(&list).lines().filter_map(Mount::parse).collect()
    }
}

/// A line of the list of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's device.
    pub number: Number,
    /// Where.
    pub at: String,
    /// What was mounted.
    pub source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let number = Number::parse(fields.next()?)?;
        let at = unescaped(fields.nth(1)?);
        Some(Mount { number, at, source: unescaped(file_system.split(' ').nth(1)?) })
    }
}

/// Text in which the kernel wrote a blank, a tab, a newline or a backslash as `\OOO`.
pub fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                out.push_str(part.get(3..).unwrap_or(""));
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The disk of a partition; anything else is whole itself.
pub fn whole(node: &Path) -> PathBuf {
    match (node.join("partition").exists(), node.parent()) {
        (true, Some(disk)) => disk.to_path_buf(),
        _ => node.to_path_buf(),
    }
}

/// Whether a disk is reached through USB.
pub fn is_usb(disk: &Path) -> bool {
    disk.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name.strip_prefix("usb")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// What a folder holds.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// A short file as text.
pub fn text(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "topology_tests.rs"]
pub mod tests;
