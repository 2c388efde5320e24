// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The few calls to the kernel that rustix has no name for, and the classes of its answers.

use std::os::fd::BorrowedFd;

use dmremap_core::Class;
use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};

const BLKGETSIZE64: u32 = opcode::read::<usize>(0x12, 114);
const BLKDISCARD: u32 = opcode::none(0x12, 119);
const BLKZEROOUT: u32 = opcode::none(0x12, 127);

/// The class of an answer of the kernel to an I/O request.
///
/// Adds to [`Class::from_errno`] what a system call can say that a device does not: want of memory
/// (BLK_STS_RESOURCE) and a busy zone come and go; a stale file handle is a vanished file.
pub(crate) fn class_of(errno: Errno) -> Class {
    match errno {
        Errno::NOMEM | Errno::BUSY | Errno::NOBUFS => Class::Again,
        Errno::TIME => Class::Timeout,
        Errno::DQUOT | Errno::FBIG => Class::NoSpace,
        Errno::STALE | Errno::SHUTDOWN => Class::Offline,
        Errno::NOSYS | Errno::NOTTY => Class::NotSupported,
        other => Class::from_errno(other.raw_os_error()),
    }
}

/// Size of a block device in bytes; 0 once the disk behind it has gone.
pub(crate) fn block_bytes(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: BLKGETSIZE64 stores one u64 where the pointer it is given says, and no more.
    unsafe { ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// Discards a range of a block device, in bytes.
pub(crate) fn block_discard(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: BLKDISCARD reads two u64, start and length in bytes, from the pointer it is given.
    unsafe { ioctl(fd, Setter::<BLKDISCARD, [u64; 2]>::new([offset, len])) }
}

/// Zeroes a range of a block device, in bytes.
pub(crate) fn block_zero(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: BLKZEROOUT reads two u64, start and length in bytes, from the pointer it is given.
    unsafe { ioctl(fd, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, len])) }
}
