// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a device says it is, read from sysfs or the file system.
//!
//! A mark is *proof* when no other device can have it: a world-wide name, serial with model, the
//! UUID of a mapping or an array; for a partition the same of its disk with the partition's own
//! UUID and start besides; for a file its file system, inode and birth time together. What comes
//! through a USB bridge is none (bridges invent serials and give the same one twice), nor is what
//! is empty or made of filler. Whether two connected devices show the same mark is for the caller
//! to see, who knows both. What is decided here about a device concerns that device alone.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, fstatvfs, statx};

use super::error::DeviceError;

/// The longest value kept of what a device says, in bytes.
const VALUE_MAX: usize = 256;

/// What the kernel calls a device now: equal for two paths to one device, and good for nothing
/// after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKey {
    /// A block device's number.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A file.
    File {
        /// Device of its file system, major number.
        major: u32,
        /// Device of its file system, minor number.
        minor: u32,
        /// Inode.
        inode: u64,
    },
    /// A device in this process's memory; unique in it.
    Memory(u64),
}

/// What a mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MarkKind {
    /// World-wide name: NAA, EUI-64, NGUID or T10 text, with its prefix.
    Wwid,
    /// Serial number.
    Serial,
    /// Vendor and model.
    Model,
    /// UUID of a device-mapper device.
    DmUuid,
    /// UUID of an md array.
    MdUuid,
    /// UUID of a partition-table entry.
    PartUuid,
    /// Start of a partition on its disk, in sectors.
    PartStart,
    /// Identifier of the file system a file lies on, hexadecimal.
    FileSystem,
    /// Inode number of a file.
    Inode,
    /// Birth time of a file, seconds and nanoseconds since 1970.
    BirthTime,
}

impl MarkKind {
    /// One word, for messages and for the text a fingerprint is taken of.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MarkKind::Wwid => "wwid",
            MarkKind::Serial => "serial",
            MarkKind::Model => "model",
            MarkKind::DmUuid => "dm-uuid",
            MarkKind::MdUuid => "md-uuid",
            MarkKind::PartUuid => "partuuid",
            MarkKind::PartStart => "part-start",
            MarkKind::FileSystem => "fs-id",
            MarkKind::Inode => "inode",
            MarkKind::BirthTime => "birth-time",
        }
    }
}

/// One thing a device says of itself. The value comes from the device: escape it where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is.
    pub kind: MarkKind,
    /// Its value, trimmed, at most 256 bytes.
    pub value: String,
}

/// Everything a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the kernel calls it.
    pub key: DeviceKey,
    /// The disk a partition lies on.
    pub disk: Option<DeviceKey>,
    /// Its marks, at most one of a kind, in the order of the kinds.
    pub marks: Vec<Mark>,
    /// It is reached through a USB bridge: its serial, model and name are the bridge's.
    pub usb: bool,
}

impl Identity {
    /// An identity without marks.
    #[must_use]
    pub fn bare(key: DeviceKey) -> Identity {
        Identity { key, disk: None, marks: Vec::new(), usb: false }
    }

    /// The value of the mark of this kind.
    #[must_use]
    pub fn get(&self, kind: MarkKind) -> Option<&str> {
        self.marks.iter().find(|mark| mark.kind == kind).map(|mark| mark.value.as_str())
    }

    /// The marks that together prove what this device is, strongest name first; none if it cannot
    /// be proved.
    #[must_use]
    pub fn proof(&self) -> Vec<&Mark> {
        let file = [MarkKind::FileSystem, MarkKind::Inode, MarkKind::BirthTime];
        if matches!(self.key, DeviceKey::File { .. }) {
            return self.all_of(&file).unwrap_or_default();
        }
        let whole = [
            [MarkKind::DmUuid].as_slice(),
            [MarkKind::MdUuid].as_slice(),
            [MarkKind::Wwid].as_slice(),
            [MarkKind::Serial, MarkKind::Model].as_slice(),
        ];
        let Some(mut marks) = whole.iter().find_map(|kinds| self.all_of(kinds)) else {
            return Vec::new();
        };
        if self.disk.is_some() {
            match self.all_of(&[MarkKind::PartUuid, MarkKind::PartStart]) {
                Some(part) => marks.extend(part),
                None => return Vec::new(),
            }
        }
        marks
    }

    /// The marks of all of `kinds`, if each is there and worth something.
    fn all_of(&self, kinds: &[MarkKind]) -> Option<Vec<&Mark>> {
        kinds
            .iter()
            .map(|kind| {
                let mark = self.marks.iter().find(|mark| mark.kind == *kind)?;
                let bridged =
                    matches!(kind, MarkKind::Wwid | MarkKind::Serial | MarkKind::Model) && self.usb;
                (!bridged && !is_filler(*kind, &mark.value)).then_some(mark)
            })
            .collect()
    }

    fn add(&mut self, kind: MarkKind, value: Option<String>) {
        let Some(value) = value else { return };
        let mut value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
        while value.len() > VALUE_MAX {
            value.pop();
        }
        if !value.is_empty() && self.get(kind).is_none() {
            self.marks.push(Mark { kind, value });
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mark) in self.marks.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}={}", mark.kind.word(), mark.value.escape_debug())?;
        }
        if self.usb { f.write_str(" (through USB)") } else { Ok(()) }
    }
}

/// Whether a value is what vendors put where they have nothing to say.
fn is_filler(kind: MarkKind, value: &str) -> bool {
    if matches!(kind, MarkKind::PartStart | MarkKind::Inode | MarkKind::BirthTime) {
        return false;
    }
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut letters = plain.chars();
    let first = letters.next();
    let constant = letters.all(|c| Some(c) == first);
    let lower = plain.to_ascii_lowercase();
    let sequence = "0123456789abcdef0123456789abcdef";
    let named = ["na", "none", "default", "unknown", "serial", "string", "tobefilledbyoem"];
    let counted = lower.len() >= 4
        && (sequence.contains(&lower)
            || "1234567890123456789012345678901234567890".contains(&lower));
    kind != MarkKind::Model && (constant || counted) || named.contains(&lower.as_str())
}

/// The identity of block device `major:minor`, read below `sys_dev_block` (`/sys/dev/block`).
pub(crate) fn of_block(sys_dev_block: &Path, major: u32, minor: u32) -> Identity {
    let mut id = Identity::bare(DeviceKey::Block { major, minor });
    let Ok(own) = sys_dev_block.join(format!("{major}:{minor}")).canonicalize() else { return id };
    let disk = if own.join("partition").exists() {
        id.disk = device_number(&own.join(".."));
        id.add(MarkKind::PartUuid, part_uuid(&own, major, minor));
        id.add(MarkKind::PartStart, text(own.join("start")));
        own.join("..")
    } else {
        own.clone()
    };
    id.usb = own.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name.strip_prefix("usb").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    });
    let first = |names: &[&str]| names.iter().find_map(|name| text(disk.join(name)));
    id.add(MarkKind::Wwid, first(&["wwid", "device/wwid"]));
    id.add(MarkKind::Serial, first(&["serial", "device/serial"]).or_else(|| page_80(&disk)));
    id.add(MarkKind::Model, model(&disk));
    id.add(MarkKind::DmUuid, text(disk.join("dm/uuid")));
    id.add(MarkKind::MdUuid, text(disk.join("md/uuid")));
    id.marks.sort_by_key(|mark| mark.kind);
    id
}

/// The identity of an open file.
pub(crate) fn of_file(path: &Path, fd: &OwnedFd) -> Result<Identity, DeviceError> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, flags)
        .map_err(|errno| DeviceError::system(path, "statx", errno))?;
    let mut id = Identity::bare(DeviceKey::File {
        major: stat.stx_dev_major,
        minor: stat.stx_dev_minor,
        inode: stat.stx_ino,
    });
    if let Ok(fs) = fstatvfs(fd) {
        let known = (fs.f_fsid != 0).then(|| format!("{:016x}", fs.f_fsid));
        id.add(MarkKind::FileSystem, known);
    }
    id.add(MarkKind::Inode, Some(stat.stx_ino.to_string()));
    if stat.stx_mask & StatxFlags::BTIME.bits() != 0 {
        let birth = stat.stx_btime;
        id.add(MarkKind::BirthTime, Some(format!("{}.{:09}", birth.tv_sec, birth.tv_nsec)));
    }
    Ok(id)
}

/// A short text file; what is not text is no mark.
fn text(path: PathBuf) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    String::from_utf8(bytes).ok().filter(|text| text.len() <= 4096)
}

/// Serial number from a SCSI disk's unit serial number page (80h).
fn page_80(disk: &Path) -> Option<String> {
    let page = std::fs::read(disk.join("device/vpd_pg80")).ok()?;
    let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    String::from_utf8(page.get(4..4usize.checked_add(len)?)?.to_vec()).ok()
}

fn model(disk: &Path) -> Option<String> {
    let model = text(disk.join("device/model"))?;
    match text(disk.join("device/vendor")) {
        // PCI and virtio devices have a number there, not a name.
        Some(vendor) if !vendor.trim().starts_with("0x") => {
            Some(format!("{} {}", vendor.trim(), model.trim()))
        }
        _ => Some(model),
    }
}

/// UUID of a partition: the kernel's own word, else udev's link.
fn part_uuid(own: &Path, major: u32, minor: u32) -> Option<String> {
    let uevent = text(own.join("uevent"))?;
    let kernel = uevent.lines().find_map(|line| line.strip_prefix("PARTUUID="));
    if let Some(uuid) = kernel {
        return Some(uuid.to_ascii_lowercase());
    }
    std::fs::read_dir("/dev/disk/by-partuuid").ok()?.flatten().find_map(|link| {
        let rdev = rustix::fs::stat(link.path()).ok()?.st_rdev;
        let same = (rustix::fs::major(rdev), rustix::fs::minor(rdev)) == (major, minor);
        same.then(|| link.file_name().to_string_lossy().to_ascii_lowercase())
    })
}

fn device_number(sysfs: &Path) -> Option<DeviceKey> {
    let number = text(sysfs.join("dev"))?;
    let (major, minor) = number.trim().split_once(':')?;
    Some(DeviceKey::Block { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
