// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Looking at a page's five copies again while the volume is open, and committing it anew.
//!
//! *Look*: the five copies are read, when no commit is under way. One that verifies and carries the
//! page's last acknowledged stamp is good: one stamp never names two contents. A commit of the page
//! that comes in between makes the look begin again. What was found is remembered of the copies, so
//! that the next commit writes the bad ones first.
//!
//! *Renew*: the page goes into the next commit with no change of its own, under a new stamp and by
//! the same rule: pairs, four of five, in doubt with fewer. A generation page has no stamp but its
//! generation, which stays: it is written with the same bytes.

use dmremap_format::{COPIES, CopyIndex, Stamp};

use super::cache::{Doubt, Out, Role, find};
use super::image::{Image, Io, IoId, PageId, Store};
use super::state::{ALL, CopyState, PageState, bit, state_index};
use super::wire::NO_PLACE;
use super::{Commit, Refusal};
use crate::{Class, Millis};

/// What a look at five copies found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// So many copies are good, 0 to 5.
    Good(u8),
    /// Two good copies of one stamp differ, which no crash brings about: not to be touched.
    Differ,
    /// The page is in doubt: its reversal, which is tried all the time, writes it anew.
    InDoubt,
    /// The way to the device failed, so that nothing can be said of the copies.
    Path(Class),
}

/// A page that is to be committed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Renew {
    No,
    /// In the next commit.
    Wanted(PageId),
    /// In the one under way.
    Current(PageId),
    /// Whether it was acknowledged.
    Ended(bool),
}

/// A look under way, or what it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    page: PageId,
    under_way: bool,
    /// The page's stamp when it began.
    stamp: Stamp,
    asked: u8,
    found: [CopyState; COPIES],
    digest: Option<u64>,
    differ: bool,
    path: Option<Class>,
    outs: [Option<Out>; COPIES],
    looked: Option<Looked>,
    /// What is known of the generation page's copies; of the others it stands in their states.
    generation: PageState,
}

impl Look {
    pub(crate) const IDLE: Look = Look {
        page: PageId::Header,
        under_way: false,
        stamp: Stamp { generation: 0, sequence: 0 },
        asked: 0,
        found: [CopyState::Failed; COPIES],
        digest: None,
        differ: false,
        path: None,
        outs: [None; COPIES],
        looked: None,
        generation: PageState {
            stamp: Stamp { generation: 0, sequence: 0 },
            copies: [CopyState::Good; COPIES],
        },
    };

    fn begin(&mut self, page: PageId, stamp: Stamp) {
        *self = Look { page, stamp, under_way: true, generation: self.generation, ..Look::IDLE };
    }

    /// Takes the read `id` off the list; false if it is not on it.
    pub(crate) fn take_out(&mut self, copy: CopyIndex, id: u32) -> bool {
        let out = self.outs.get_mut(usize::from(copy.0));
        out.is_some_and(|o| o.take_if(|o| o.id == id).is_some())
    }

    pub(crate) fn outs(&self) -> impl Iterator<Item = Out> + '_ {
        self.outs.iter().flatten().copied()
    }

    fn note(&mut self, copy: CopyIndex, state: CopyState) {
        if let Some(place) = self.found.get_mut(usize::from(copy.0)) {
            *place = state;
        }
    }
}

impl<S: Store> Commit<S> {
    /// Begins to look at the five copies of `page`; [`looked`](Commit::looked) tells the end. Not
    /// to be called while [one](Commit::is_looking) is under way.
    pub fn look_at(&mut self, page: PageId) {
        let stamp = self.acknowledged_stamp(page);
        self.look.begin(page, stamp);
        self.see_end();
    }

    /// Whether a read of a look is at the device. Another look would lose track of it: it would
    /// pass for an I/O that was given up, and free its copy for a write too early.
    #[must_use]
    pub fn is_looking(&self) -> bool {
        self.look.outs().next().is_some()
    }

    /// What the look found, once.
    pub fn looked(&mut self) -> Option<Looked> {
        self.look.looked.take()
    }

    /// Has `page` committed anew, with no change; [`renewed`](Commit::renewed) tells the end.
    ///
    /// # Errors
    /// Why it may not; nothing has changed.
    pub fn renew(&mut self, page: PageId) -> Result<(), Refusal> {
        if self.is_over() {
            return Err(Refusal::Closed);
        }
        if self.degraded() {
            return Err(Refusal::Degraded);
        }
        self.renew = Renew::Wanted(page);
        Ok(())
    }

    /// Whether the page committed anew was acknowledged, once that has ended.
    pub fn renewed(&mut self) -> Option<bool> {
        let Renew::Ended(good) = self.renew else { return None };
        self.renew = Renew::No;
        Some(good)
    }

    /// Whether [`renewed`](Commit::renewed) has an answer.
    #[must_use]
    pub fn renew_is_over(&self) -> bool {
        matches!(self.renew, Renew::Ended(_))
    }

    /// The stamp that a good copy carries.
    fn acknowledged_stamp(&self, page: PageId) -> Stamp {
        let state = state_index(page).and_then(|i| self.states.get(i));
        state.map_or(Stamp { sequence: 0, ..self.last }, |state| state.stamp)
    }

    /// Whether a commit of the looked at page is under way, and whether it is in doubt.
    fn is_moving(&self) -> (bool, bool) {
        let c = find(&self.cache, self.look.page).and_then(|at| self.cache.get(at));
        c.map_or((false, false), |c| (c.role == Role::Line, c.doubt != Doubt::No))
    }

    /// The next read of a look.
    pub(crate) fn look_io(&mut self, now: Millis) -> Option<Io> {
        while self.look.under_way && self.look.outs().count() < COPIES {
            let copy = ALL.into_iter().find(|c| self.look.asked & bit(*c) == 0)?;
            self.look.asked |= bit(copy);
            if self.wire.is_stuck(copy) {
                self.see_end();
                continue;
            }
            let io = self.wire.read(self.look.page, copy, NO_PLACE);
            if let Some(out) = self.look.outs.get_mut(usize::from(copy.0)) {
                *out = Some(Out { id: io.id.0, at: now });
            }
            return Some(io);
        }
        None
    }

    /// A copy has been read, or not.
    pub(crate) fn see(&mut self, copy: CopyIndex, result: Result<Option<&S::Page>, Class>) {
        let state = match result.and_then(|page| page.ok_or(Class::Io)) {
            Err(class) => {
                if !class.is_suspect() {
                    self.look.path = Some(class);
                }
                CopyState::Failed
            }
            Ok(image) => match image.check(&self.of, self.look.page, copy) {
                Err(_) => CopyState::Torn,
                Ok(stamp) if stamp == self.look.stamp => {
                    let digest = image.digest();
                    self.look.differ |= self.look.digest.is_some_and(|other| other != digest);
                    self.look.digest = Some(digest);
                    CopyState::Good
                }
                Ok(stamp) => {
                    // Nobody but another session begins a generation above this one.
                    if stamp.generation > self.last.generation {
                        self.taken_over = true;
                        self.close_unclean();
                    }
                    CopyState::Stale
                }
            },
        };
        self.look.note(copy, state);
        self.see_end();
    }

    /// Judges when all five have been seen.
    fn see_end(&mut self) {
        let all = ALL.into_iter().fold(0, |mask, copy| mask | bit(copy));
        if !self.look.under_way || self.look.asked != all || self.look.outs().count() > 0 {
            return;
        }
        let page = self.look.page;
        let (committing, doubt) = self.is_moving();
        if committing || self.acknowledged_stamp(page) != self.look.stamp {
            let stamp = self.acknowledged_stamp(page);
            self.look.begin(page, stamp);
            return;
        }
        self.look.under_way = false;
        let good = self.look.found.iter().filter(|s| **s == CopyState::Good).count();
        self.look.looked = Some(match self.look.path {
            _ if doubt => Looked::InDoubt,
            Some(class) => Looked::Path(class),
            None if self.look.differ => Looked::Differ,
            None => Looked::Good(u8::try_from(good).unwrap_or(0)),
        });
        if let Some(Looked::Good(_)) = self.look.looked {
            let found = self.look.found;
            match state_index(page).and_then(|i| self.states.get_mut(i)) {
                Some(state) => state.copies = found,
                None => self.look.generation.copies = found,
            }
        }
    }

    /// Gives up reads that are late.
    pub(crate) fn tick_look(&mut self, now: Millis) {
        for copy in ALL {
            let wire = &self.wire;
            let out = self.look.outs.get_mut(usize::from(copy.0));
            if out.is_some_and(|o| o.take_if(|o| wire.is_late(*o, now)).is_some()) {
                self.wire.give_up(copy);
                self.see(copy, Err(Class::Timeout));
            }
        }
    }

    /// Takes the page that is to be renewed into the commit that is being chosen.
    pub(crate) fn choose_renewed(&mut self) {
        let Renew::Wanted(page) = self.renew else { return };
        let taken = self.take_in(page);
        self.renew = if taken { Renew::Current(page) } else { Renew::Ended(false) };
        if let (true, PageId::Generation) = (taken, page) {
            // It is built from nothing, so there is nothing to be loaded.
            if let Some(c) = find(&self.cache, page).and_then(|at| self.cache.get_mut(at)) {
                c.role = Role::Line;
            }
        }
    }

    /// The page in the commit under way has ended so.
    pub(crate) fn renew_ended(&mut self, page: Option<PageId>, good: bool) {
        if let Renew::Current(current) = self.renew {
            if page.is_none_or(|page| page == current) {
                self.renew = Renew::Ended(good);
            }
        }
    }

    /// What is known of a page's copies.
    pub(crate) fn known(&self, page: PageId) -> PageState {
        let state = state_index(page).and_then(|i| self.states.get(i));
        state.copied().unwrap_or(self.look.generation)
    }

    /// The read `id` of a copy, if it is a look's.
    pub(crate) fn look_takes(&mut self, id: IoId, copy: CopyIndex) -> bool {
        self.look.take_out(copy, id.0)
    }
}
