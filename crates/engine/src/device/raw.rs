// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one open file a device does its I/O through, and the loops around pread and pwrite.
//!
//! With O_DIRECT the kernel wants memory, offset and length aligned. Offset and length are whole
//! logical blocks by the rule of [`Device`](super::Device); memory that is not aligned goes through
//! a buffer of the thread, at most [`BOUNCE_BYTES`] at a time.
//!
//! A short answer is no answer: the loops go on behind what was done, so that a read that stops at
//! a bad sector ends with that sector's error; a read that meets the end of the file has failed.
//!
//! Through the page cache an error of write-back is told once, to whoever syncs next, without the
//! block. So there each write is synced by itself, and after the first failure of a write or a sync
//! nothing that was written before can be trusted: the device answers `Offline` from then on, to
//! reads too, which is what a vanished disk does and what a volume knows how to treat.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use dmremap_core::Class;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2, pwritev2};

use super::os::class_of;
use super::{Backing, Direct, Geometry, Manner};

/// The most that goes through a thread's aligned buffer at once.
const BOUNCE_BYTES: usize = 1 << 20;
/// What the aligned buffer is aligned to, if the device asks for less.
const LEAST_ALIGN: usize = 4096;

thread_local! {
    static BOUNCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An open file with its alignment rules.
pub(crate) struct RawFile {
    fd: OwnedFd,
    backing: Backing,
    /// Bytes the memory of a request must be aligned to.
    mem_align: usize,
    /// A write or sync through the page cache has failed: nothing is served any more.
    failed: AtomicBool,
}

impl RawFile {
    /// Wraps `fd`; `mem_align` is what O_DIRECT asks of memory, a power of two.
    pub(crate) fn new(fd: OwnedFd, backing: Backing, mem_align: usize) -> RawFile {
        RawFile { fd, backing, mem_align: mem_align.max(1), failed: AtomicBool::new(false) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether a sync has failed and the device is out of service.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self, geo: &Geometry, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.check(geo, offset, buf.len() as u64)?;
        if self.aligned(buf.as_ptr()) {
            return self.read_loop(buf, offset);
        }
        let mut at = offset;
        for part in buf.chunks_mut(BOUNCE_BYTES) {
            with_bounce(part.len(), self.mem_align, |bounce| {
                self.read_loop(bounce, at)?;
                part.copy_from_slice(bounce);
                Ok(())
            })?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// How requests reach the file best.
    pub(crate) fn manner(&self, geo: &Geometry) -> Manner {
        match self.backing {
            Backing::Memory => Manner::Inline,
            Backing::Buffered if self.tells_at_once(geo) => Manner::Inline,
            Backing::Direct if self.tells_at_once(geo) => Manner::Ring,
            Backing::Buffered | Backing::Direct => Manner::Threads,
        }
    }

    /// The file, if it is used with O_DIRECT.
    pub(crate) fn direct(&self) -> Option<Direct<'_>> {
        let direct = Direct { fd: self.fd(), memory_align: self.mem_align };
        (self.backing == Backing::Direct).then_some(direct)
    }

    /// Whether the file can say that an answer would have to be waited for. A ring hands what
    /// cannot to threads of the kernel, which are no better than ours. Asked behind the end of the
    /// file, where nothing is read.
    fn tells_at_once(&self, geo: &Geometry) -> bool {
        let behind = geo.bytes().saturating_add(1 << 20);
        let read = |block: &mut [u8]| {
            let into = &mut [IoSliceMut::new(block)];
            Ok(preadv2(&self.fd, into, behind, ReadWriteFlags::NOWAIT) != Err(Errno::OPNOTSUPP))
        };
        with_bounce(geo.logical_block as usize, self.mem_align, read).unwrap_or(false)
    }

    /// Reads what needs no waiting for: all of it from memory, or nothing.
    pub(crate) fn read_now(
        &self,
        geo: &Geometry,
        buf: &mut [u8],
        offset: u64,
    ) -> Option<Result<(), Class>> {
        match self.backing {
            Backing::Memory => Some(self.read(geo, buf, offset)),
            Backing::Buffered if self.check(geo, offset, buf.len() as u64).is_ok() => {
                let len = buf.len();
                let into = &mut [IoSliceMut::new(buf)];
                let read = preadv2(&self.fd, into, offset, ReadWriteFlags::NOWAIT);
                (read == Ok(len)).then_some(Ok(()))
            }
            Backing::Buffered | Backing::Direct => None,
        }
    }

    /// Writes what needs no waiting for.
    pub(crate) fn write_now(
        &self,
        geo: &Geometry,
        buf: &[u8],
        offset: u64,
        fua: bool,
    ) -> Option<Result<(), Class>> {
        (self.backing == Backing::Memory).then(|| self.write(geo, buf, offset, fua))
    }

    /// Reads after dropping what the page cache holds of the range.
    pub(crate) fn read_uncached(
        &self,
        geo: &Geometry,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<(), Class> {
        if self.backing == Backing::Buffered {
            let len = std::num::NonZeroU64::new(buf.len() as u64);
            rustix::fs::fadvise(&self.fd, offset, len, Advice::DontNeed).map_err(class_of)?;
        }
        self.read(geo, buf, offset)
    }

    pub(crate) fn write(
        &self,
        geo: &Geometry,
        buf: &[u8],
        offset: u64,
        fua: bool,
    ) -> Result<(), Class> {
        self.check(geo, offset, buf.len() as u64)?;
        if geo.read_only {
            return Err(Class::NotSupported);
        }
        let flags = if fua || self.backing == Backing::Buffered {
            ReadWriteFlags::DSYNC
        } else {
            ReadWriteFlags::empty()
        };
        let result = if self.aligned(buf.as_ptr()) {
            self.write_loop(buf, offset, flags)
        } else {
            self.write_bounced(buf, offset, flags)
        };
        self.note(result)
    }

    fn write_bounced(&self, buf: &[u8], mut at: u64, flags: ReadWriteFlags) -> Result<(), Class> {
        for part in buf.chunks(BOUNCE_BYTES) {
            with_bounce(part.len(), self.mem_align, |bounce| {
                bounce.copy_from_slice(part);
                self.write_loop(bounce, at, flags)
            })?;
            at += part.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn flush(&self) -> Result<(), Class> {
        if self.has_failed() {
            return Err(Class::Offline);
        }
        let result = loop {
            match rustix::fs::fdatasync(&self.fd) {
                Err(Errno::INTR) => {}
                other => break other.map_err(class_of),
            }
        };
        self.note(result)
    }

    /// Refuses what is not whole blocks inside the device, and everything once it has failed.
    pub(crate) fn check(&self, geo: &Geometry, offset: u64, len: u64) -> Result<(), Class> {
        if self.has_failed() {
            return Err(Class::Offline);
        }
        if geo.holds(offset, len) { Ok(()) } else { Err(Class::NotSupported) }
    }

    /// Takes the device out of service when a change through the page cache has failed.
    pub(crate) fn note(&self, result: Result<(), Class>) -> Result<(), Class> {
        if result.is_err() && self.backing == Backing::Buffered {
            self.failed.store(true, Ordering::Release);
        }
        result
    }

    fn aligned(&self, memory: *const u8) -> bool {
        self.backing != Backing::Direct || memory.addr() & (self.mem_align - 1) == 0
    }

    fn read_loop(&self, mut buf: &mut [u8], mut offset: u64) -> Result<(), Class> {
        while !buf.is_empty() {
            match preadv2(&self.fd, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::empty()) {
                // The end of the file: it has shrunk since it was opened.
                Ok(0) => return Err(Class::Io),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(class_of(errno)),
            }
        }
        Ok(())
    }

    fn write_loop(
        &self,
        mut buf: &[u8],
        mut offset: u64,
        flags: ReadWriteFlags,
    ) -> Result<(), Class> {
        while !buf.is_empty() {
            match pwritev2(&self.fd, &[IoSlice::new(buf)], offset, flags) {
                Ok(0) => return Err(Class::Io),
                Ok(n) => {
                    buf = &buf[n..];
                    offset += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(class_of(errno)),
            }
        }
        Ok(())
    }

    /// Whether a read of `len` bytes at 0 is possible as O_DIRECT wants it: tells what the smallest
    /// block is where the kernel does not say.
    pub(crate) fn try_block(&self, len: usize) -> bool {
        with_bounce(len, len, |bounce| Ok(pread(&self.fd, bounce, 0) != Err(Errno::INVAL)))
            .unwrap_or(false)
    }
}

/// Runs `job` on `len` bytes of this thread's buffer, aligned to `align` or more.
fn with_bounce<T>(
    len: usize,
    align: usize,
    job: impl FnOnce(&mut [u8]) -> Result<T, Class>,
) -> Result<T, Class> {
    let align = align.max(LEAST_ALIGN);
    BOUNCE.with(|cell| {
        let mut memory = cell.borrow_mut();
        if memory.len() < len + align {
            *memory = vec![0; len + align];
        }
        let start = memory.as_ptr().align_offset(align);
        match memory.get_mut(start..start + len) {
            Some(aligned) => job(aligned),
            None => Err(Class::Again),
        }
    })
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
