// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A block device, with O_DIRECT and held by O_EXCL.
//!
//! A disk that is pulled answers its open file with EIO; once its size is 0, reads end at once and
//! writes find no space. All this would pass for something else, so each such error is followed by
//! the question whether the disk is still there: if not, the answer is `Offline`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use dmremap_core::Class;
use rustix::fs::{
    AtFlags, Mode, OFlags, StatxFlags, fstat, ioctl_blkpbszget, ioctl_blksszget, open, statx,
};
use rustix::io::Errno;

use super::error::DeviceError;
use super::identity::{self, Identity};
use super::os::{block_bytes, block_discard, block_zero, class_of};
use super::raw::RawFile;
use super::spec::OpenOptions;
use super::{Backing, Device, Direct, Geometry, Manner, Transferred, zero_by_writing};

/// A block device.
pub struct BlockDevice {
    path: PathBuf,
    raw: RawFile,
    geometry: Geometry,
    manner: Manner,
    /// Size at open, before it was cut to whole blocks.
    bytes: u64,
    sysfs: PathBuf,
    identity: Identity,
}

impl BlockDevice {
    /// Opens and, if `options` ask for it, holds the block device at `path`.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<BlockDevice, DeviceError> {
        let mode = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let hold = if options.claim { OFlags::EXCL } else { OFlags::empty() };
        let flags = mode | hold | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::DIRECT;
        let fd = options.retry_busy(
            path,
            || open(path, flags, Mode::empty()),
            |errno| match errno {
                Errno::INVAL => DeviceError::Buffered {
                    path: path.to_path_buf(),
                    why: "its driver has no O_DIRECT",
                },
                _ => DeviceError::from_open(path, !options.read_only, errno),
            },
        )?;
        let system = |doing| move |errno| DeviceError::system(path, doing, errno);
        let bytes = block_bytes(fd.as_fd()).map_err(system("BLKGETSIZE64"))?;
        let own = ioctl_blksszget(&fd).map_err(system("BLKSSZGET"))?;
        let physical = ioctl_blkpbszget(&fd).map_err(system("BLKPBSZGET"))?;
        let logical = options.logical_block(path, own)?;
        let sectors = (bytes & !(u64::from(logical) - 1)) >> 9;
        if sectors == 0 {
            return Err(DeviceError::Empty { path: path.to_path_buf(), bytes });
        }
        let rdev = fstat(&fd).map_err(system("stat"))?.st_rdev;
        let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let geometry = Geometry {
            sectors,
            logical_block: logical,
            physical_block: physical.max(logical),
            can_discard: !options.read_only && queue_limit(&sysfs, "discard_max_bytes") > 0,
            can_write_zeroes: !options.read_only
                && queue_limit(&sysfs, "write_zeroes_max_bytes") > 0,
            read_only: options.read_only,
            backing: Backing::Direct,
        };
        let align = memory_alignment(&fd, own);
        let identity = identity::of_block(Path::new("/sys/dev/block"), major, minor);
        let raw = RawFile::new(fd, Backing::Direct, align);
        let (path, manner) = (path.to_path_buf(), raw.manner(&geometry));
        Ok(BlockDevice { path, raw, geometry, manner, bytes, sysfs, identity })
    }

    /// Tells a disk that is gone from one that has failed.
    fn gone_or(&self, result: Result<(), Class>) -> Result<(), Class> {
        match result {
            Err(Class::Io | Class::NoSpace) if self.is_gone() => Err(Class::Offline),
            other => other,
        }
    }

    fn is_gone(&self) -> bool {
        !matches!(block_bytes(self.raw.fd()), Ok(bytes) if bytes >= self.bytes)
            || (Path::new("/sys/dev/block").is_dir() && !self.sysfs.exists())
    }
}

/// What O_DIRECT asks of memory: what the kernel says, else the logical block.
fn memory_alignment(fd: &std::os::fd::OwnedFd, logical: u32) -> usize {
    match statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat)
            if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0
                && stat.stx_dio_mem_align.is_power_of_two() =>
        {
            stat.stx_dio_mem_align as usize
        }
        _ => logical as usize,
    }
}

/// A number of the device's queue; a partition has its disk's.
fn queue_limit(sysfs: &Path, name: &str) -> u64 {
    let Ok(own) = sysfs.canonicalize() else { return 0 };
    [own.join("queue"), own.join("../queue")]
        .iter()
        .find_map(|queue| std::fs::read_to_string(queue.join(name)).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

impl Device for BlockDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.gone_or(self.raw.read(&self.geometry, buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.gone_or(self.raw.write(&self.geometry, buf, offset, fua))
    }

    fn manner(&self) -> Manner {
        self.manner
    }

    fn direct(&self) -> Option<Direct<'_>> {
        self.raw.direct()
    }

    fn judge(&self, _what: &Transferred, result: Result<(), Class>) -> Result<(), Class> {
        self.gone_or(result)
    }

    fn flush(&self) -> Result<(), Class> {
        self.gone_or(self.raw.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.raw.check(&self.geometry, offset, len)?;
        if !self.geometry.can_discard {
            return Err(Class::NotSupported);
        }
        self.gone_or(block_discard(self.raw.fd(), offset, len).map_err(class_of))
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.raw.check(&self.geometry, offset, len)?;
        if !self.geometry.can_write_zeroes || fua {
            return zero_by_writing(self, offset, len, fua);
        }
        self.gone_or(block_zero(self.raw.fd(), offset, len).map_err(class_of))
    }

    fn is_rotational(&self) -> bool {
        queue_limit(&self.sysfs, "rotational") > 0
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}
