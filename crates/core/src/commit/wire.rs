// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The names of I/Os, and the copies that still hold one that was given up.
//!
//! An I/O that is unanswered when its limit has passed counts as failed, but it is still at the
//! device and may land later, over anything written to that copy meanwhile. So nothing more goes to
//! a copy, neither writes nor reads, until all it holds has returned.

use dmremap_format::{COPIES, CopyIndex};

use super::cache::Out;
use super::image::{Io, IoId, IoKind, PageId};
use crate::Millis;

/// What an [`IoId`] names: 2 bits of kind, 3 of copy, 8 of place, 19 of a running number; of a
/// flush 30 of it. An I/O that was given up keeps its name until it returns: no other to its copy
/// can get the same meanwhile, since none is sent, and no other flush within a thousand million
/// I/Os.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Read { copy: CopyIndex, place: usize },
    Write { copy: CopyIndex, place: usize },
    Flush,
}

const TAG_BITS: u32 = 19;
const TAG_MASK: u32 = 0x7_ffff;
const FLUSH: u32 = 3 << 30;
/// The place of a read that belongs to no place of the cache.
pub(crate) const NO_PLACE: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wire {
    tag: u32,
    stuck: [u16; COPIES],
    /// After how long an I/O is given up.
    pub limit_ms: Millis,
}

impl Wire {
    pub(crate) const fn new(limit_ms: Millis) -> Wire {
        Wire { tag: 0, stuck: [0; COPIES], limit_ms }
    }

    fn name(&mut self, kind: u32, copy: CopyIndex, place: usize) -> u32 {
        self.tag = self.tag.wrapping_add(1);
        let place = u32::try_from(place).unwrap_or(0) & 0xff;
        let rest = (kind << 3 | (u32::from(copy.0) & 7)) << 8 | place;
        rest << TAG_BITS | self.tag & TAG_MASK
    }

    pub(crate) fn read(&mut self, page: PageId, copy: CopyIndex, place: usize) -> Io {
        let id = IoId(self.name(1, copy, place));
        Io { id, kind: IoKind::Read { page, copy } }
    }

    pub(crate) fn write(&mut self, page: PageId, copy: CopyIndex, place: usize) -> Io {
        let id = IoId(self.name(2, copy, place));
        Io { id, kind: IoKind::Write { page, copy } }
    }

    pub(crate) fn flush(&mut self) -> Io {
        self.tag = self.tag.wrapping_add(1);
        Io { id: IoId(FLUSH | (self.tag & !FLUSH)), kind: IoKind::Flush }
    }

    pub(crate) fn is_stuck(&self, copy: CopyIndex) -> bool {
        self.stuck.get(usize::from(copy.0)).is_some_and(|n| *n > 0)
    }

    /// How many copies take nothing.
    pub(crate) fn stuck_copies(&self) -> usize {
        self.stuck.iter().filter(|n| **n > 0).count()
    }

    pub(crate) fn give_up(&mut self, copy: CopyIndex) {
        if let Some(n) = self.stuck.get_mut(usize::from(copy.0)) {
            *n = n.saturating_add(1);
        }
    }

    /// An I/O that was given up has returned.
    pub(crate) fn returned(&mut self, copy: CopyIndex) {
        if let Some(n) = self.stuck.get_mut(usize::from(copy.0)) {
            *n = n.saturating_sub(1);
        }
    }

    pub(crate) fn is_late(&self, out: Out, now: Millis) -> bool {
        now.saturating_sub(out.at) >= self.limit_ms
    }

    pub(crate) fn deadline(&self, out: Out) -> Millis {
        out.at.saturating_add(self.limit_ms)
    }
}

/// What `id` names; `None` if no machine ever gave it out.
pub(crate) fn parse(id: IoId) -> Option<Name> {
    let rest = id.0 >> TAG_BITS;
    let copy = CopyIndex(u8::try_from(rest >> 8 & 7).ok()?);
    let place = usize::try_from(rest & 0xff).ok()?;
    match rest >> 11 {
        1 => Some(Name::Read { copy, place }),
        2 => Some(Name::Write { copy, place }),
        3 => Some(Name::Flush),
        _ => None,
    }
}
