// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The data of a request in memory that O_DIRECT takes as it is.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Alignment of every buffer's first byte: enough for any logical block size (512 to 4096).
const ALIGN: usize = 4096;

/// Bytes whose first one lies on a 4 KiB boundary. Freshly made ones are zero.
///
/// It is a vector with up to 4,095 bytes to spare and a start inside it; a vector's memory does not
/// move when the vector does, so the start stays right for the buffer's life, without `unsafe`.
/// The vector is never grown.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
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
        Buffer { bytes, start, len }
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

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
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
}
