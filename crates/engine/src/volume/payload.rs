// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The memory of a request: the caller's own kind, lent to the parts the request is cut into.
//!
//! A device fills a part's place directly, many parts at a time, and the kernel may do so while no
//! thread of this process holds a reference. So the payload is put out of everybody's reach for the
//! time of the request, and its bytes are reached through ranges, one owner a range ([`Part`]).
//!
//! [`Part`]: super::request::Part

use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;

/// Memory of a request, the caller's own kind.
pub trait Payload: Any + Send + Sync {
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// Its bytes, to be filled.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// To get the caller's own type back.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

impl Payload for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// A payload that is lent out. It is leaked if nobody takes it back: memory that a device may still
/// write to is never freed.
pub(crate) struct Lent {
    payload: NonNull<dyn Payload>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the payload is Send and Sync, and untouched until it is taken back; its bytes are plain
// memory, handed out only by the unsafe functions below, whose callers say who uses what.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// Lends out `payload`, whose own methods nobody calls from here on.
    pub(crate) fn new(payload: Box<dyn Payload>) -> Lent {
        let payload = NonNull::from(Box::leak(payload));
        // SAFETY: it was leaked a line above, so it lives, and this is the only way to it. The
        // reference lasts until `take_back`, and with it the bytes borrowed from it.
        let bytes: &'static mut [u8] = unsafe { &mut *payload.as_ptr() }.bytes_mut();
        let len = bytes.len();
        Lent { payload, start: NonNull::from(bytes).cast(), len }
    }

    /// The bytes of `range`, as far as there are any.
    ///
    /// # Safety
    /// While the result lives nobody writes to this range, and the payload is not taken back.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        let range = self.inside(range);
        // SAFETY: inside of the payload's bytes, which live and stay where they are; the caller
        // vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// The bytes of `range`, as far as there are any, to be filled.
    ///
    /// # Safety
    /// While the result lives nobody else uses this range, and the payload is not taken back.
    #[allow(clippy::mut_from_ref)] // That nobody has two of a range is the caller's word.
    pub(crate) unsafe fn slice_mut(&self, range: Range<usize>) -> &mut [u8] {
        let range = self.inside(range);
        // SAFETY: as in `slice`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }

    fn inside(&self, range: Range<usize>) -> Range<usize> {
        if range.start <= range.end && range.end <= self.len { range } else { 0..0 }
    }

    /// The payload itself.
    ///
    /// # Safety
    /// Called once, and nobody, this process or the kernel, uses any of its bytes any more.
    pub(crate) unsafe fn take_back(&self) -> Box<dyn Payload> {
        // SAFETY: it came from a box, and whoever borrowed from it has ended.
        unsafe { Box::from_raw(self.payload.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_payloads_own_memory_and_never_go_beyond_it() {
        let lent = Lent::new(Box::new(vec![1u8, 2, 3, 4]));
        // SAFETY: one thread, ranges that do not overlap while both live, taken back at the end.
        let back = unsafe {
            let (left, right) = (lent.slice_mut(0..2), lent.slice_mut(2..4));
            left.fill(9);
            right[1] = 8;
            assert_eq!(lent.slice(0..4), [9, 9, 3, 8]);
            assert!(lent.slice(2..5).is_empty() && lent.slice_mut(5..6).is_empty());
            lent.take_back()
        };
        assert_eq!(*back.into_any().downcast::<Vec<u8>>().unwrap(), [9, 9, 3, 8]);
    }
}
