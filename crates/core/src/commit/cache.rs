// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Cached images: the last acknowledged image of a page each, and beside it how far a commit of
//! that page has come.
//!
//! There is no second buffer for the image a commit writes: it is made when it is sent, from the
//! acknowledged image and the changes that joined. So the image a commit replaces cannot be lost
//! before the commit is acknowledged or reversed.

use dmremap_format::{COPIES, CopyIndex};

use super::image::PageId;
use super::state::{ALL, CopyState, PageState, bit};
use super::wire::Wire;
use crate::Millis;
use crate::broken::{Broken, is};

/// What a place of the cache is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Nothing.
    Free,
    /// Holds an acknowledged image, may be given up.
    Idle,
    /// The image is being read back.
    Loading,
    /// In the group of pages that is being written.
    Line,
}

/// Whether the page's last commit ended in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doubt {
    /// No.
    No,
    /// It did, and the cause may have passed: a flush failed.
    Fresh,
    /// Two writes failed, or the reversal did: fewer than four copies can be written.
    Hard,
}

/// An operation at the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Out {
    /// Raw [`IoId`](super::IoId).
    pub id: u32,
    /// When it was sent.
    pub at: Millis,
}

/// One page on its way through the five copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    /// The order of the copies.
    pub order: [CopyIndex; COPIES],
    /// Where in it this round begins.
    pub at: u8,
    /// How many copies this round writes.
    pub width: u8,
    /// Copies written and flushed.
    pub durable: u8,
    /// Copies that failed, by their write or by the flush behind it.
    pub failed: u8,
    /// Of these, by their write.
    pub broken: u8,
    /// Copies dealt with: sent, or failed without being sent.
    pub sent: u8,
    /// Copies whose write was answered good and waits for the flush.
    pub written: u8,
    /// Four copies are durable.
    pub acked: bool,
    /// Two copies have failed: no more is written.
    pub ended: bool,
    /// The owner has acted on `acked` or `ended`.
    pub told: bool,
    /// Writes or reads at the device, by copy.
    pub out: [Option<Out>; COPIES],
}

impl Line {
    pub(crate) const NEW: Line = Line {
        order: ALL,
        at: 0,
        width: 2,
        durable: 0,
        failed: 0,
        broken: 0,
        sent: 0,
        written: 0,
        acked: false,
        ended: false,
        told: false,
        out: [None; COPIES],
    };

    /// Begins anew. Copies that take nothing now count as failed: first, so that no good copy is
    /// risked for a page that cannot have its four.
    pub(crate) fn start(&mut self, state: &PageState, wire: &Wire) {
        let mut state = *state;
        for copy in ALL.into_iter().filter(|c| wire.is_stuck(*c)) {
            state.set(copy, CopyState::Failed);
        }
        let width = if is(Broken::AllCopiesAtOnce) { 5 } else { Line::NEW.width };
        *self = Line { order: state.order(), width, ..Line::NEW };
    }

    pub(crate) fn is_out(&self) -> bool {
        self.out.iter().any(Option::is_some)
    }

    /// Takes the operation `id` on `copy` off the list; false if it is not on it.
    pub(crate) fn take_out(&mut self, copy: CopyIndex, id: u32) -> bool {
        let place = self.out.get_mut(usize::from(copy.0));
        place.is_some_and(|o| o.take_if(|o| o.id == id).is_some())
    }

    pub(crate) fn set_out(&mut self, copy: CopyIndex, out: Out) {
        if let Some(o) = self.out.get_mut(usize::from(copy.0)) {
            *o = Some(out);
        }
    }

    pub(crate) fn has_out(&self, copy: CopyIndex, id: u32) -> bool {
        let out = self.out.get(usize::from(copy.0)).copied().flatten();
        out.is_some_and(|o| o.id == id)
    }

    /// The write `id` to `copy` has ended.
    pub(crate) fn write_done(&mut self, copy: CopyIndex, id: u32, good: bool) {
        if !self.take_out(copy, id) {
            return;
        }
        if good {
            self.written |= bit(copy);
        } else {
            self.write_failed(copy);
        }
    }

    /// The write to `copy` failed, or cannot be sent.
    pub(crate) fn write_failed(&mut self, copy: CopyIndex) {
        self.failed |= bit(copy);
        self.broken |= bit(copy);
    }
}

/// A place of the cache.
#[derive(Clone, Debug)]
pub struct Cached<P> {
    pub(crate) image: P,
    pub(crate) page: PageId,
    pub(crate) role: Role,
    pub(crate) doubt: Doubt,
    /// Used since the last search for a place to give up.
    pub(crate) hot: bool,
    pub(crate) line: Line,
}

impl<P> Cached<P> {
    /// An empty place; what `image` holds does not matter.
    pub const fn new(image: P) -> Self {
        Cached {
            image,
            page: PageId::Header,
            role: Role::Free,
            doubt: Doubt::No,
            hot: false,
            line: Line::NEW,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.role = Role::Free;
        self.doubt = Doubt::No;
        self.hot = false;
        self.line = Line::NEW;
    }

    pub(crate) fn holds(&self, page: PageId) -> bool {
        self.role != Role::Free && self.page == page
    }
}

/// The place that holds `page`.
pub(crate) fn find<P>(cache: &[Cached<P>], page: PageId) -> Option<usize> {
    cache.iter().position(|c| c.holds(page))
}

/// A place for `page`: its own, a free one, or one whose image can be read back when it is wanted
/// again. `None` if every place is in a commit or in doubt.
pub(crate) fn place<P>(cache: &mut [Cached<P>], page: PageId) -> Option<usize> {
    if let Some(at) = find(cache, page) {
        return Some(at);
    }
    if let Some(at) = cache.iter().position(|c| c.role == Role::Free) {
        return Some(at);
    }
    let given_up = |c: &Cached<P>| c.role == Role::Idle && c.doubt == Doubt::No;
    if !cache.iter().any(|c| given_up(c) && !c.hot) {
        cache.iter_mut().for_each(|c| c.hot = false);
    }
    cache.iter().position(|c| given_up(c) && !c.hot)
}
