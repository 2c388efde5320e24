// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a volume runs on: one trait, real devices and files behind it, and test wrappers around it.
//!
//! Every call blocks its thread until the device has answered. Offsets and lengths are bytes and
//! whole logical blocks. Calls may come from any number of threads at once; two calls that overlap
//! in bytes and in time may take effect in any order.

pub(crate) mod block;
pub(crate) mod error;
pub(crate) mod faultmap;
pub(crate) mod faulty;
pub(crate) mod file;
pub(crate) mod identity;
pub(crate) mod memory;
pub(crate) mod os;
pub(crate) mod raw;
pub(crate) mod recording;
pub(crate) mod spec;

use std::ops::Range;
use std::os::fd::BorrowedFd;

use dmremap_core::Class;

use identity::Identity;

/// How the bytes of a device reach their medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// O_DIRECT: no page cache in between, so errors come with the request they belong to.
    Direct,
    /// Memory: tmpfs, or a device of the tests.
    Memory,
    /// Through the page cache, which a person has forced: every write is synchronous, and the
    /// first one that fails is the last.
    Buffered,
}

/// How a volume's requests reach a device; found by probing when the device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// On the thread that brings them, as far as that is sure not to wait: [`Device::read_now`].
    Inline,
    /// Through an io_uring of the device's own: [`Device::direct`].
    Ring,
    /// On threads that wait for the device.
    Threads,
}

impl Manner {
    /// One word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Manner::Inline => "inline",
            Manner::Ring => "ring",
            Manner::Threads => "threads",
        }
    }
}

/// What I/O past a device's own calls needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// The open file, with O_DIRECT; it is the device from byte 0 on.
    pub fd: BorrowedFd<'a>,
    /// Bytes the memory of a request must be aligned to, a power of two.
    pub memory_align: usize,
}

/// A transfer that went past a device's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// A write, else a read.
    pub write: bool,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub len: u64,
}

/// What does not change while a device is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in sectors of 512 bytes, whole logical blocks.
    pub sectors: u64,
    /// Logical block in bytes, what requests are addressed by: 512 to 65,536, a power of two.
    pub logical_block: u32,
    /// Physical block in bytes, what the medium can tear: a power of two, at least the logical one.
    pub physical_block: u32,
    /// [`Device::discard`] does something.
    pub can_discard: bool,
    /// [`Device::write_zeroes`] is done by the device, without moving the zeros.
    pub can_write_zeroes: bool,
    /// Opened without the right to write.
    pub read_only: bool,
    /// How it is written.
    pub backing: Backing,
}

impl Geometry {
    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sectors << 9
    }

    /// Whether `len` bytes at `offset` are whole logical blocks inside the device.
    #[must_use]
    pub fn holds(&self, offset: u64, len: u64) -> bool {
        let mask = u64::from(self.logical_block) - 1;
        (offset | len) & mask == 0 && offset.checked_add(len).is_some_and(|end| end <= self.bytes())
    }
}

/// A block device, or something that behaves like one.
///
/// A request that is not made of whole blocks inside the device ends as [`Class::NotSupported`]:
/// that is a mistake of the caller and no evidence against the medium.
pub trait Device: Send + Sync {
    /// Sizes and abilities.
    fn geometry(&self) -> Geometry;

    /// Fills `buf` from byte `offset`.
    ///
    /// # Errors
    /// The class of the device's error; `buf` then holds anything. A read that ends before `buf` is
    /// full is an error, never filled up.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class>;

    /// As [`Device::read_at`], from the device and not from a cache of this host.
    ///
    /// # Errors
    /// As [`Device::read_at`].
    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.read_at(buf, offset)
    }

    /// Writes `buf` at byte `offset`; with `fua` it is durable when this returns.
    ///
    /// # Errors
    /// The class of the device's error; any part may have landed all the same.
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class>;

    /// How requests reach it best. A wrapper that changes what its device does keeps this one:
    /// each of its calls is then made as it stands here.
    fn manner(&self) -> Manner {
        Manner::Threads
    }

    /// [`Device::read_at`] if it is sure not to wait for a medium; `None`: not read, `buf` holds
    /// anything.
    fn read_now(&self, _buf: &mut [u8], _offset: u64) -> Option<Result<(), Class>> {
        None
    }

    /// [`Device::write_at`] if it is sure not to wait for a medium; `None`: nothing was written.
    fn write_now(&self, _buf: &[u8], _offset: u64, _fua: bool) -> Option<Result<(), Class>> {
        None
    }

    /// The open file, if reads and writes may be done on it past this device's own calls.
    fn direct(&self) -> Option<Direct<'_>> {
        None
    }

    /// The device's word on how such a transfer ended. Must not wait for the medium.
    ///
    /// # Errors
    /// As [`Device::read_at`] and [`Device::write_at`].
    fn judge(&self, _what: &Transferred, result: Result<(), Class>) -> Result<(), Class> {
        result
    }

    /// Makes every write that was answered before this call durable.
    ///
    /// # Errors
    /// The class of the device's error: any write that was not durable before may be lost.
    fn flush(&self) -> Result<(), Class>;

    /// Tells the device that `len` bytes at `offset` are not needed; what they read as is open.
    ///
    /// # Errors
    /// The class of the device's error; [`Class::NotSupported`] where it cannot.
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class>;

    /// Makes `len` bytes at `offset` zero; with `fua` durably so. Where the device has no command
    /// for it, or `fua` is asked for, zeros are written.
    ///
    /// # Errors
    /// As [`Device::write_at`].
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class>;

    /// Makes sure that no later write fails for want of space: a spare that is a file is fully
    /// allocated when it is formatted. Content is kept.
    ///
    /// # Errors
    /// [`Class::NoSpace`], or [`Class::NotSupported`] where the file system cannot.
    fn reserve(&self) -> Result<(), Class> {
        Ok(())
    }

    /// The first hole in the bytes `offset..end`, whole logical blocks: it takes no space, and
    /// reads as zeros as long as nobody writes there. `None` if there is none, and from every
    /// device that cannot tell.
    fn hole(&self, _offset: u64, _end: u64) -> Option<Range<u64>> {
        None
    }

    /// It turns, as far as the system knows.
    fn is_rotational(&self) -> bool {
        false
    }

    /// What the hardware, or the file system, says it is.
    fn identity(&self) -> Identity;

    /// What to call it in messages: the path it was opened by, with its wrappers.
    fn describe(&self) -> String;

    /// [`Geometry::sectors`].
    fn sectors(&self) -> u64 {
        self.geometry().sectors
    }

    /// [`Geometry::logical_block`].
    fn logical_block(&self) -> u32 {
        self.geometry().logical_block
    }

    /// [`Geometry::physical_block`].
    fn physical_block(&self) -> u32 {
        self.geometry().physical_block
    }

    /// [`Geometry::can_discard`].
    fn can_discard(&self) -> bool {
        self.geometry().can_discard
    }

    /// [`Geometry::can_write_zeroes`].
    fn can_write_zeroes(&self) -> bool {
        self.geometry().can_write_zeroes
    }
}

/// Writes zeros: what [`Device::write_zeroes`] does where the device has no command for it.
pub(crate) fn zero_by_writing(
    device: &dyn Device,
    mut offset: u64,
    len: u64,
    fua: bool,
) -> Result<(), Class> {
    let zeros = vec![0u8; len.min(1 << 20) as usize];
    let mut left = len;
    while left > 0 {
        let part = left.min(zeros.len() as u64);
        device.write_at(&zeros[..part as usize], offset, fua)?;
        offset += part;
        left -= part;
    }
    Ok(())
}
