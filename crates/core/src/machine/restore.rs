// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The message `restore`: every page's five copies are read again, one page at a time, and a page
//! of which a copy is bad is committed anew, by the commit's own rules and with no change.
//!
//! No entry can be lost by it: what is written is the page's last acknowledged image and what has
//! joined meanwhile. A page of which no copy is good any more is left alone and counted; what it
//! says stands in memory, until the volume is closed.
//!
//! It ends where nothing could be moved either: a suspect spare, degraded metadata, a closing
//! volume. A read that fails on the way to the device ends it too, and is no evidence.

use dmremap_format::PageIndex;

use crate::api::{Done, Reason, Restored};
use crate::commit::{Looked, PageId};

use super::{Machine, Memory};

/// One on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restoring {
    message: u64,
    page: PageId,
    /// The page is being committed anew.
    renewing: bool,
    so_far: Restored,
    ended: Option<Done>,
}

impl<M: Memory> Machine<M> {
    pub(super) fn begin_restore(&mut self, message: u64) -> Result<Option<Done>, Reason> {
        if self.restoring.is_some() || self.commit.is_looking() {
            return Err(Reason::Busy);
        }
        if let Some(reason) = self.cannot_move() {
            return Err(reason);
        }
        let (page, so_far) = (PageId::Header, Restored::default());
        self.restoring = Some(Restoring { message, page, renewing: false, so_far, ended: None });
        self.commit.look_at(page);
        Ok(None)
    }

    /// Takes a `restore` on, as far as it comes.
    pub(super) fn pump_restore(&mut self) {
        while let Some(mut at) = self.restoring.filter(|at| at.ended.is_none()) {
            if let Some(reason) = self.cannot_move() {
                at.ended = Some(Done::Failed(reason));
            } else if at.renewing {
                let Some(good) = self.commit.renewed() else { return };
                at.so_far.renewed = at.so_far.renewed.saturating_add(u32::from(good));
                at.so_far.left = at.so_far.left.saturating_add(u32::from(!good));
                at.renewing = false;
                self.next_page(&mut at);
            } else {
                let Some(looked) = self.commit.looked() else { return };
                self.looked(&mut at, looked);
            }
            self.restoring = Some(at);
        }
    }

    fn looked(&mut self, at: &mut Restoring, looked: Looked) {
        let good = match looked {
            Looked::Path(_) => {
                at.ended = Some(Done::Failed(Reason::DeviceSuspect));
                return;
            }
            Looked::Good(good) => good,
            Looked::Differ | Looked::InDoubt => 0,
        };
        at.so_far.pages = at.so_far.pages.saturating_add(1);
        at.so_far.bad_copies =
            at.so_far.bad_copies.saturating_add(5u32.saturating_sub(good.into()));
        match good {
            5 => self.next_page(at),
            1..=4 if self.commit.renew(at.page).is_ok() => at.renewing = true,
            _ => {
                at.so_far.left = at.so_far.left.saturating_add(1);
                self.next_page(at);
            }
        }
    }

    fn next_page(&mut self, at: &mut Restoring) {
        let next = match at.page {
            PageId::Header => PageId::Generation,
            PageId::Generation => PageId::Table(PageIndex(0)),
            PageId::Table(PageIndex(page)) => PageId::Table(PageIndex(page.saturating_add(1))),
        };
        match next {
            PageId::Table(PageIndex(page)) if page >= self.layout.pages() => {
                at.ended = Some(Done::Restored(at.so_far));
            }
            _ => {
                at.page = next;
                self.commit.look_at(next);
            }
        }
    }

    /// Whether a page's commit has ended that it waits for.
    pub(super) fn restore_goes_on(&self) -> bool {
        let waits = self.restoring.is_some_and(|at| at.renewing && at.ended.is_none());
        waits && self.commit.renew_is_over()
    }

    /// The answer of a `restore` that has ended.
    pub(super) fn restore_reply(&mut self) -> Option<(u64, Done)> {
        let done = self.restoring?.ended?;
        self.restoring.take().map(|at| (at.message, done))
    }
}
