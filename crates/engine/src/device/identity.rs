// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a device says it is, read from sysfs or the file system.
//!
//! [`Identity::hardware`] puts the marks together to the identifiers that
//! [`dmremap_format::identity`] grades and judges. What grades them is seen here: that the device
//! sits behind a USB bridge (bridges invent serials and give the same one twice), that another
//! device of this host shows the same, or that a part is missing.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dmremap_format::identity::{Doubts, Hardware, HardwareKind};
use rustix::fs::{AtFlags, StatxFlags, fstatvfs, statx};

use super::error::DeviceError;

/// The longest value kept of what a device says, in bytes.
const VALUE_MAX: usize = 256;
/// Hexadecimal digits of an EUI-64; a longer one is an NGUID.
const EUI_64_DIGITS: usize = 16;

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
    /// Marks that another device of this host shows too.
    pub shared: Vec<MarkKind>,
}

impl Identity {
    /// An identity without marks.
    #[must_use]
    pub fn bare(key: DeviceKey) -> Identity {
        Identity { key, disk: None, marks: Vec::new(), usb: false, shared: Vec::new() }
    }

    /// The value of the mark of this kind.
    #[must_use]
    pub fn get(&self, kind: MarkKind) -> Option<&str> {
        self.marks.iter().find(|mark| mark.kind == kind).map(|mark| mark.value.as_str())
    }

    /// What it is known by, graded; proof first.
    #[must_use]
    pub fn hardware(&self) -> Vec<Hardware> {
        let uuid = |kind, mark| {
            let parts = [self.get(mark)?.as_bytes()];
            Hardware::new(kind, &parts, Doubts::default())
        };
        let all = [
            self.world_wide_name(),
            self.serial_and_model(),
            uuid(HardwareKind::DmUuid, MarkKind::DmUuid),
            uuid(HardwareKind::MdUuid, MarkKind::MdUuid),
            self.partition(),
            self.file(),
        ];
        let mut all: Vec<Hardware> = all.into_iter().flatten().collect();
        all.sort_by_key(|one| !one.is_proof());
        all
    }

    fn doubts(&self, kind: MarkKind, partial: bool) -> Doubts {
        Doubts { usb_bridge: self.usb, seen_twice: self.shared.contains(&kind), partial }
    }

    fn world_wide_name(&self) -> Option<Hardware> {
        let name = self.get(MarkKind::Wwid)?;
        let (prefix, rest) = name.split_once('.').unwrap_or(("", name));
        // These two are made of model and serial number, which are judged by themselves.
        let made_up = matches!(prefix, "t10" | "nvme");
        if made_up && self.serial_and_model().is_some() {
            return None;
        }
        let kind = match prefix {
            "eui" if rest.len() <= EUI_64_DIGITS => HardwareKind::Eui,
            "eui" | "uuid" => HardwareKind::Nguid,
            _ => HardwareKind::Wwn,
        };
        Hardware::new(kind, &[name.as_bytes()], self.doubts(MarkKind::Wwid, made_up))
    }

    fn serial_and_model(&self) -> Option<Hardware> {
        let (serial, model) = (self.get(MarkKind::Serial)?, self.get(MarkKind::Model));
        let parts = [serial.as_bytes(), model.unwrap_or("").as_bytes()];
        let doubts = self.doubts(MarkKind::Serial, model.is_none());
        Hardware::new(HardwareKind::SerialModel, &parts, doubts)
    }

    fn partition(&self) -> Option<Hardware> {
        self.disk?;
        let start = self.get(MarkKind::PartStart).and_then(|start| start.parse().ok());
        let uuid = self.get(MarkKind::PartUuid).unwrap_or("");
        // One whose start is not known is at no place that another could be at.
        Some(Hardware::partition(start.unwrap_or(u64::MAX), uuid.as_bytes()))
    }

    fn file(&self) -> Option<Hardware> {
        let inode = self.get(MarkKind::Inode)?.parse().ok()?;
        let mut file_system = [0; 16];
        let id = self.get(MarkKind::FileSystem).and_then(|id| u64::from_str_radix(id, 16).ok());
        file_system[..8].copy_from_slice(&id.unwrap_or(0).to_le_bytes());
        let birth_ns = || {
            let (seconds, rest) = self.get(MarkKind::BirthTime)?.split_once('.')?;
            let seconds = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
            seconds.checked_add(rest.parse().ok()?)
        };
        Some(Hardware::file(&file_system, inode, birth_ns().unwrap_or(0)))
    }

    /// What the disk at `disk` below sysfs says of its hardware.
    fn add_disk_marks(&mut self, disk: &Path) {
        let first = |names: &[&str]| names.iter().find_map(|name| text(disk.join(name)));
        self.add(MarkKind::Wwid, first(&["wwid", "device/wwid"]));
        self.add(MarkKind::Serial, first(&["serial", "device/serial"]).or_else(|| page_80(disk)));
        self.add(MarkKind::Model, model(disk));
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
    id.add_disk_marks(&disk);
    id.add(MarkKind::DmUuid, text(disk.join("dm/uuid")));
    id.add(MarkKind::MdUuid, text(disk.join("md/uuid")));
    id.marks.sort_by_key(|mark| mark.kind);
    id.shared = shared_marks(sys_dev_block, &disk, &id);
    id
}

/// Which of `id`'s marks another disk of this host shows too. (Two paths to one disk do as well:
/// then it is for the multipath device to be proved.)
fn shared_marks(sys_dev_block: &Path, disk: &Path, id: &Identity) -> Vec<MarkKind> {
    let Ok(disk) = disk.canonicalize() else { return Vec::new() };
    let others = std::fs::read_dir(sys_dev_block).into_iter().flatten().flatten();
    let others = others.filter_map(|other| other.path().canonicalize().ok());
    let mut shared = Vec::new();
    for other in others.filter(|other| *other != disk && !other.join("partition").exists()) {
        let mut its = Identity::bare(id.key);
        its.add_disk_marks(&other);
        let same = |kind| id.get(kind).is_some() && id.get(kind) == its.get(kind);
        if same(MarkKind::Wwid) {
            shared.push(MarkKind::Wwid);
        }
        if same(MarkKind::Serial) && id.get(MarkKind::Model) == its.get(MarkKind::Model) {
            shared.push(MarkKind::Serial);
        }
    }
    shared
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
