// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The data of a request in memory that O_DIRECT takes as it is, and where it comes from.
//!
//! A connection has a [`Pool`]: a request's memory comes from it and goes back when the reply has
//! been sent, so that no request pays for fresh pages. Memory from the pool holds whatever the
//! request before left there. It cannot reach a client as if it were data, for three reasons: an
//! export that answers a read well has filled the whole buffer, and says which parts it has not;
//! only what is good by that word is sent; and the pool belongs to one connection, so that even an
//! export that lies shows a client nothing but what the same client has read or written before. In
//! a debug build what comes back is overwritten, so that a byte nobody filled fails the tests that
//! compare.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of every buffer's first byte: enough for any logical block size (512 to 4096).
const ALIGN: usize = 4096;

/// Bytes whose first one lies on a 4 KiB boundary.
///
/// It is a vector with up to 4,095 bytes to spare and a start inside it; a vector's memory does not
/// move when the vector does, so the start stays right for the buffer's life, without `unsafe`.
/// The vector is never grown.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// A buffer of `len` zero bytes. `len` 0 takes no memory.
    #[must_use]
    pub fn zeroed(len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        let bytes = vec![0; len + ALIGN - 1];
        let start = (bytes.as_ptr() as usize).wrapping_neg() % ALIGN;
        Buffer { bytes, start, len, pool: None }
    }
}

impl From<&[u8]> for Buffer {
    fn from(content: &[u8]) -> Buffer {
        let mut buffer = Buffer::zeroed(content.len());
        buffer.copy_from_slice(content);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.take_back(std::mem::take(&mut self.bytes), self.start);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// Sizes of pooled memory: powers of two from one block of 4 KiB to 32 MiB.
const CLASSES: usize = 14;

/// Memory of one connection that is used again and again. The last buffer returned is the next one
/// given out: it is the one that may still be in the processor's cache.
pub(crate) struct Pool {
    free: Mutex<Free>,
    /// Most bytes kept.
    limit: usize,
}

#[derive(Default)]
struct Free {
    classes: [Vec<(Vec<u8>, usize)>; CLASSES],
    bytes: usize,
}

fn class_of(len: usize) -> usize {
    len.div_ceil(ALIGN).next_power_of_two().trailing_zeros() as usize
}

impl Pool {
    pub fn new(limit: usize) -> Arc<Pool> {
        Arc::new(Pool { free: Mutex::default(), limit })
    }

    /// A buffer of `len` bytes that hold anything.
    pub fn take(self: &Arc<Pool>, len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        let class = class_of(len);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let used = free.classes.get_mut(class).and_then(Vec::pop);
        if let Some((bytes, start)) = used {
            free.bytes -= bytes.len();
            drop(free);
            return Buffer { bytes, start, len, pool: Some(Arc::clone(self)) };
        }
        drop(free);
        let mut fresh = Buffer::zeroed(ALIGN << class);
        fresh.len = len;
        fresh.pool = Some(Arc::clone(self));
        fresh
    }

    fn take_back(&self, mut bytes: Vec<u8>, start: usize) {
        if cfg!(debug_assertions) {
            bytes.fill(0xa5);
        }
        let class = class_of(bytes.len() + 1 - ALIGN);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.bytes + bytes.len() <= self.limit && class < CLASSES {
            free.bytes += bytes.len();
            free.classes[class].push((bytes, start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_aligned_and_stays_so_when_moved() {
        for len in [1, 511, 512, 4095, 4096, 4097, 65_536, 1 << 20] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|b| *b == 0));
            buffer[len - 1] = 7;
            let boxed = Box::new(buffer);
            assert_eq!(boxed.as_ptr() as usize % ALIGN, 0, "{len}");
            assert_eq!(boxed[len - 1], 7);
        }
        assert!(Buffer::zeroed(0).is_empty());
    }

    #[test]
    fn pooled_memory_is_used_again_whatever_length_is_asked_for_within_its_class() {
        let pool = Pool::new(1 << 20);
        let first = pool.take(4097);
        let at = first.as_ptr();
        drop(first);
        for len in [5000, 8192, 4097] {
            let again = pool.take(len);
            assert_eq!((again.len(), again.as_ptr()), (len, at));
        }
        assert_ne!(pool.take(8193).as_ptr(), at);
        assert_ne!(pool.take(4096).as_ptr(), at);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let pool = Pool::new(3 * 4096 + 3 * (ALIGN - 1));
        let many: Vec<Buffer> = (0..9).map(|_| pool.take(100)).collect();
        drop(many);
        let free = pool.free.lock().unwrap();
        assert_eq!(free.classes[0].len(), 3);
        assert_eq!(free.bytes, pool.limit);
        drop(free);
        // Longer than anything a request carries: never kept.
        drop(Pool::new(usize::MAX).take(33 << 20));
    }
}
