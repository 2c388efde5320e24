// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An image file as a device.
//!
//! A file is used with O_DIRECT, or on tmpfs, where the page cache *is* the medium. Anything else
//! is refused without `--force=buffered`: the page cache tells of a failed write-back once, to
//! whoever asks, and without the block, so no single write could be vouched for. File systems that
//! take O_DIRECT and go through the page cache all the same (btrfs with checksums, ZFS) count as
//! anything else.
//!
//! The hold is an flock on the very open file the I/O goes through. It belongs to the open file, so
//! it goes when the last system call of a killed process has returned, and not before.

use std::ops::Range;
use std::path::{Path, PathBuf};

use dmremap_core::Class;
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, StatxFlags, fallocate,
    fcntl_getfl, fcntl_setfl, flock, fstat, fstatfs, open, seek, statx,
};
use rustix::io::Errno;

use super::error::DeviceError;
use super::identity::{self, Identity};
use super::os::class_of;
use super::raw::RawFile;
use super::spec::OpenOptions;
use super::{Backing, Device, Direct, Geometry, Manner, zero_by_writing};

const TMPFS_MAGIC: u64 = 0x0102_1994;
/// File systems whose O_DIRECT may go through the page cache, so that it proves nothing.
const FALL_BACK: [u64; 2] = [0x9123_683e, 0x2fc1_2fc1];
/// The least a file system writes at once below a file, as far as anybody can tell from above.
const FILE_PHYSICAL_BLOCK: u32 = 4096;

/// An image file.
pub struct FileDevice {
    path: PathBuf,
    raw: RawFile,
    geometry: Geometry,
    manner: Manner,
    identity: Identity,
}

/// How a file can be used.
struct Access {
    backing: Backing,
    mem_align: u32,
    least_block: u32,
}

impl FileDevice {
    /// Opens and, if `options` ask for it, holds the file at `path`.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<FileDevice, DeviceError> {
        let mode = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let fd = open(path, mode | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(|errno| DeviceError::from_open(path, !options.read_only, errno))?;
        if options.claim {
            options.retry_busy(
                path,
                || flock(&fd, FlockOperation::NonBlockingLockExclusive),
                |errno| DeviceError::system(path, "flock", errno),
            )?;
        }
        let access = access(path, &fd, options)?;
        let logical = options.logical_block(path, access.least_block)?;
        let bytes = fstat(&fd).map_err(|e| DeviceError::system(path, "stat", e))?.st_size as u64;
        let sectors = (bytes & !(u64::from(logical) - 1)) >> 9;
        if sectors == 0 {
            return Err(DeviceError::Empty { path: path.to_path_buf(), bytes });
        }
        let geometry = Geometry {
            sectors,
            logical_block: logical,
            physical_block: logical.max(FILE_PHYSICAL_BLOCK),
            can_discard: !options.read_only,
            can_write_zeroes: !options.read_only && access.backing == Backing::Direct,
            read_only: options.read_only,
            backing: access.backing,
        };
        let identity = identity::of_file(path, &fd)?;
        let raw = RawFile::new(fd, access.backing, access.mem_align as usize);
        let manner = raw.manner(&geometry);
        Ok(FileDevice { path: path.to_path_buf(), raw, geometry, manner, identity })
    }
}

/// Switches O_DIRECT on where it means something, or says why it cannot be.
fn access(
    path: &Path,
    fd: &std::os::fd::OwnedFd,
    options: &OpenOptions,
) -> Result<Access, DeviceError> {
    let magic = fstatfs(fd).map_err(|e| DeviceError::system(path, "statfs", e))?.f_type as u64;
    if magic == TMPFS_MAGIC {
        return Ok(Access { backing: Backing::Memory, mem_align: 1, least_block: 512 });
    }
    match direct(path, fd, magic)? {
        Ok(access) => Ok(access),
        Err(_) if options.force_buffered => {
            let flags = fcntl_getfl(fd).map_err(|e| DeviceError::system(path, "fcntl", e))?;
            fcntl_setfl(fd, flags - OFlags::DIRECT)
                .map_err(|e| DeviceError::system(path, "fcntl", e))?;
            Ok(Access { backing: Backing::Buffered, mem_align: 1, least_block: 512 })
        }
        Err(why) => Err(DeviceError::Buffered { path: path.to_path_buf(), why }),
    }
}

/// Tries O_DIRECT; the inner error is why the file cannot be used so.
fn direct(
    path: &Path,
    fd: &std::os::fd::OwnedFd,
    magic: u64,
) -> Result<Result<Access, &'static str>, DeviceError> {
    if FALL_BACK.contains(&magic) {
        return Ok(Err("its file system answers O_DIRECT from the page cache"));
    }
    let flags = fcntl_getfl(fd).map_err(|e| DeviceError::system(path, "fcntl", e))?;
    match fcntl_setfl(fd, flags | OFlags::DIRECT) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            return Ok(Err("its file system has no O_DIRECT"));
        }
        Err(errno) => return Err(DeviceError::system(path, "fcntl", errno)),
    }
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .map_err(|e| DeviceError::system(path, "statx", e))?;
    if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 {
        let (mem, block) = (stat.stx_dio_mem_align, stat.stx_dio_offset_align);
        if mem == 0 || block == 0 {
            return Ok(Err("its file system does no O_DIRECT on this file"));
        }
        let least_block = block.max(512);
        return Ok(Ok(Access { backing: Backing::Direct, mem_align: mem, least_block }));
    }
    // An old kernel or a file system that does not say: ask by reading.
    let trial = RawFile::new(
        fd.try_clone().map_err(|_| DeviceError::system(path, "dup", Errno::MFILE))?,
        Backing::Direct,
        4096,
    );
    match [512u32, 4096].into_iter().find(|block| trial.try_block(*block as usize)) {
        Some(block) => {
            Ok(Ok(Access { backing: Backing::Direct, mem_align: block, least_block: block }))
        }
        None => Ok(Err("its file system refuses reads with O_DIRECT")),
    }
}

impl Device for FileDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.raw.read(&self.geometry, buf, offset)
    }

    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.raw.read_uncached(&self.geometry, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.raw.write(&self.geometry, buf, offset, fua)
    }

    fn manner(&self) -> Manner {
        self.manner
    }

    fn read_now(&self, buf: &mut [u8], offset: u64) -> Option<Result<(), Class>> {
        self.raw.read_now(&self.geometry, buf, offset)
    }

    fn write_now(&self, buf: &[u8], offset: u64, fua: bool) -> Option<Result<(), Class>> {
        self.raw.write_now(&self.geometry, buf, offset, fua)
    }

    fn direct(&self) -> Option<Direct<'_>> {
        self.raw.direct()
    }

    fn flush(&self) -> Result<(), Class> {
        self.raw.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.raw.check(&self.geometry, offset, len)?;
        if !self.geometry.can_discard {
            return Err(Class::NotSupported);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(self.raw.fd(), flags, offset, len).map_err(class_of)
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.raw.check(&self.geometry, offset, len)?;
        if self.geometry.can_write_zeroes && !fua {
            let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            match fallocate(self.raw.fd(), flags, offset, len) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(errno) => return Err(class_of(errno)),
            }
        }
        zero_by_writing(self, offset, len, fua)
    }

    fn reserve(&self) -> Result<(), Class> {
        fallocate(self.raw.fd(), FallocateFlags::empty(), 0, self.geometry.bytes())
            .map_err(class_of)
    }

    fn hole(&self, mut offset: u64, end: u64) -> Option<Range<u64>> {
        let block = u64::from(self.geometry.logical_block);
        while offset < end && !self.raw.has_failed() {
            // The file's position is moved by this and used by nothing.
            let start = seek(self.raw.fd(), SeekFrom::Hole(offset)).ok()?;
            let data = match seek(self.raw.fd(), SeekFrom::Data(start)) {
                Ok(data) => data,
                Err(Errno::NXIO) => self.geometry.bytes(),
                Err(_) => return None,
            };
            let first = start.next_multiple_of(block);
            let last = data.min(end) / block * block;
            if first < last {
                return Some(first..last);
            }
            offset = data.max(offset + block);
        }
        None
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}
