// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One commit from its beginning to its end; the phases are told at the head of the module.

use dmremap_format::{COPIES, CopyIndex, Stamp};

use super::cache::{Doubt, Line, Out, Role, find, place};
use super::close::Last;
use super::image::{Image, Io, IoId, PageId, Store};
use super::joins::{self, OutcomeKind, Stage};
use super::load::{self, Load};
use super::pairs::Step;
use super::renew::Renew;
use super::state::{ALL, CopyState, bit, state_index};
use super::wire::NO_PLACE;
use super::{Commit, Phase, SECOND_MS};
use crate::broken::{Broken, is};
use crate::{Class, Millis};

impl<S: Store> Commit<S> {
    /// The next I/O to send. Drained after every call; `None` = wait.
    pub fn next_io(&mut self, now: Millis) -> Option<Io> {
        loop {
            if self.is_over() {
                self.end();
                return None;
            }
            let io = match self.phase {
                Phase::Idle => {
                    let look = self.look_io(now);
                    if look.is_some() {
                        return look;
                    }
                    if !self.begin(now) {
                        return None;
                    }
                    None
                }
                Phase::Check(_) => self.check(now)?,
                Phase::Gather => self.gather(now)?,
                Phase::Write => match self.pairs.step(&mut self.wire, &mut self.cache, now) {
                    Step::Io(io) => Some(io),
                    Step::Wait => return None,
                    Step::Round => {
                        self.settle(now);
                        None
                    }
                    Step::Done => {
                        self.finish();
                        None
                    }
                },
            };
            if io.is_some() {
                return io;
            }
        }
    }

    /// What waits for a commit that will not come fails cleanly.
    fn abandon(&mut self) {
        if let Renew::Wanted(_) = self.renew {
            self.renew = Renew::Ended(false);
        }
        joins::shift(&mut self.joins, None, Stage::Next, Stage::Over, Some(OutcomeKind::Failed));
    }

    /// No more is written: what a close has cut short is in doubt for good.
    fn end(&mut self) {
        self.abandon();
        self.renew_ended(None, false);
        let doubt = Some(OutcomeKind::InDoubt);
        joins::shift(&mut self.joins, None, Stage::Current, Stage::Doubt, doubt);
    }

    /// Begins a commit if one is wanted.
    fn begin(&mut self, now: Millis) -> bool {
        let joined = self.joined();
        let due = self.in_doubt() > 0 && now >= self.retry_at;
        let renew = matches!(self.renew, Renew::Wanted(_));
        if !joined && !due && !renew && self.last_commit() == Last::Nothing {
            return false;
        }
        if now.saturating_sub(self.checked_at) >= SECOND_MS {
            self.phase = Phase::Check(0);
        } else {
            self.choose(now);
        }
        true
    }

    /// Asks the next copy for its header. Outer `None` = wait, inner = go on.
    fn check(&mut self, now: Millis) -> Option<Option<Io>> {
        if self.check_out.is_some() {
            return None;
        }
        while let Phase::Check(tried) = self.phase {
            if usize::from(tried) >= COPIES {
                // Not one header says that the spare is still ours: write nothing.
                self.retry_at = now.saturating_add(SECOND_MS);
                self.phase = Phase::Idle;
                self.abandon();
                self.close_unclean();
                break;
            }
            self.phase = Phase::Check(tried.saturating_add(1));
            let copy = CopyIndex(self.check_from);
            self.check_from = self.check_from.wrapping_add(1) % 5;
            if !self.wire.is_stuck(copy) {
                let io = self.wire.read(PageId::Header, copy, NO_PLACE);
                self.check_out = Some((copy, Out { id: io.id.0, at: now }));
                return Some(Some(io));
            }
        }
        Some(None)
    }

    /// A header was read back. One of an older generation is what a copy kept that this open could
    /// not write, and says nothing.
    pub(crate) fn checked(
        &mut self,
        id: IoId,
        copy: CopyIndex,
        result: Result<Option<&S::Page>, Class>,
        now: Millis,
    ) {
        if self.check_out.take_if(|(_, o)| o.id == id.0).is_none() {
            self.wire.returned(copy);
            return;
        }
        let Ok(Some(page)) = result else { return };
        let Ok(stamp) = page.check(&self.of, PageId::Header, copy) else { return };
        if page.session() == self.session {
            self.checked_at = now;
            self.choose(now);
        } else if stamp.generation >= self.last.generation {
            self.taken_over = true;
            self.phase = Phase::Idle;
            self.close_unclean();
        }
    }

    /// Whether a change waits for a page that may be committed now.
    fn joined(&self) -> bool {
        let doubtful = |page| find(&self.cache, page).and_then(|at| self.cache.get(at));
        joins::iter(&self.joins).any(|e| {
            e.stage == Stage::Next && doubtful(e.page).is_none_or(|c| c.doubt == Doubt::No)
        })
    }

    /// Chooses the pages of this commit: those in doubt whose second has passed, and those that
    /// changes have joined, as far as the cache has room.
    fn choose(&mut self, now: Millis) {
        self.phase = Phase::Gather;
        if self.degraded() {
            self.abandon();
        }
        let last = if self.joined() { Last::Nothing } else { self.last_commit() };
        if self.in_doubt() > 0 && (now >= self.retry_at || last == Last::Reversal) {
            for c in self.cache.iter_mut().filter(|c| c.doubt != Doubt::No) {
                c.role = Role::Line;
            }
            self.reversal_begun();
        }
        if last == Last::Header {
            self.take_in(PageId::Header);
        }
        let mut at = 0usize;
        let nth = |list: &S::Joins, at| joins::iter(list).nth(at).map(|e| (e.page, e.stage));
        while let Some((page, stage)) = nth(&self.joins, at) {
            at = at.saturating_add(1);
            if stage == Stage::Next && self.take_in(page) {
                joins::shift(&mut self.joins, Some(page), Stage::Next, Stage::Current, None);
            }
        }
        self.choose_renewed();
        if !self.cache.iter().any(|c| matches!(c.role, Role::Line | Role::Loading)) {
            self.abandon();
        }
    }

    /// Takes `page` into this commit; false if it is in doubt or there is no place for it.
    pub(crate) fn take_in(&mut self, page: PageId) -> bool {
        let Some(at) = place(&mut self.cache, page) else { return false };
        let Some(c) = self.cache.get_mut(at) else { return false };
        if !c.holds(page) {
            c.clear();
            c.page = page;
            c.role = Role::Loading;
        } else if c.doubt != Doubt::No {
            return false;
        } else if c.role == Role::Idle {
            c.role = Role::Line;
        }
        c.hot = true;
        true
    }

    /// Reads back what is not cached; then the writing begins. Outer `None` = wait.
    fn gather(&mut self, now: Millis) -> Option<Option<Io>> {
        match load::load(&mut self.wire, &mut self.cache, &self.states, now) {
            Load::Io(io) => return Some(Some(io)),
            Load::Wait => return None,
            Load::Failed(at) => {
                if let Some(c) = self.cache.get_mut(at) {
                    let (page, over) = (Some(c.page), Some(OutcomeKind::Failed));
                    c.clear();
                    self.renew_ended(page, false);
                    joins::shift(&mut self.joins, page, Stage::Current, Stage::Over, over);
                }
            }
            Load::Done => self.write(),
        }
        Some(None)
    }

    /// All images are there: takes the next sequence number and begins to write.
    fn write(&mut self) {
        let next = self.last.sequence.checked_add(1);
        let any = self.cache.iter().any(|c| c.role == Role::Line);
        let (Some(sequence), true) = (next, any) else {
            let over = Some(OutcomeKind::Failed);
            joins::shift(&mut self.joins, None, Stage::Current, Stage::Over, over);
            self.renew_ended(None, false);
            self.phase = Phase::Idle;
            self.close_ended(false);
            return;
        };
        self.last = Stamp { sequence, ..self.last };
        let generation = self.known(PageId::Generation);
        for c in self.cache.iter_mut().filter(|c| c.role == Role::Line) {
            let state = state_index(c.page).and_then(|i| self.states.get(i));
            c.line.start(state.unwrap_or(&generation), &self.wire);
        }
        self.pairs.start();
        self.phase = Phase::Write;
    }

    /// A pair has ended: acknowledges and doubts.
    fn settle(&mut self, now: Millis) {
        for at in 0..self.cache.len() {
            let Some(c) = self.cache.get_mut(at) else { continue };
            if c.role != Role::Line || c.line.told || !(c.line.acked || c.line.ended) {
                continue;
            }
            c.line.told = true;
            if c.line.acked {
                self.acknowledged(at);
            } else {
                let hard = c.doubt != Doubt::No || c.line.broken.count_ones() >= 2;
                c.doubt = if hard { Doubt::Hard } else { Doubt::Fresh };
                let (page, doubt) = (Some(c.page), Some(OutcomeKind::InDoubt));
                self.retry_at = now.saturating_add(SECOND_MS);
                joins::shift(&mut self.joins, page, Stage::Current, Stage::Doubt, doubt);
                if hard {
                    self.abandon();
                }
            }
        }
    }

    /// The page at this place of the cache has four durable copies: its image is the new one.
    fn acknowledged(&mut self, at: usize) {
        let Some(c) = self.cache.get_mut(at) else { return };
        let page = c.page;
        let waits = |e: &joins::Entry<_>| e.page == page && e.stage == Stage::Next;
        let published = is(Broken::CommitImageFromPublished);
        let late = published && joins::iter(&self.joins).any(waits);
        for e in joins::iter(&self.joins) {
            if e.page == page && e.stage == Stage::Current && !late {
                c.image.apply(page, &e.change);
            }
        }
        if let Some(change) = self.close.writing(page) {
            c.image.apply(page, change);
        }
        c.doubt = Doubt::No;
        if let Some(state) = state_index(page).and_then(|i| self.states.get_mut(i)) {
            state.stamp = self.last;
        }
        self.durable = self.last;
        let done = Some(OutcomeKind::Acknowledged);
        joins::shift(&mut self.joins, Some(page), Stage::Current, Stage::Over, done);
        let undone = Some(OutcomeKind::Reversed);
        joins::shift(&mut self.joins, Some(page), Stage::Doubt, Stage::Over, undone);
    }

    /// The commit has ended, its fifth copies too: what is known of the copies now.
    fn finish(&mut self) {
        let (mut acked, mut header, mut renewed) = (false, false, None);
        for c in self.cache.iter_mut().filter(|c| c.role == Role::Line) {
            acked |= c.line.acked;
            header |= c.line.acked && c.page == PageId::Header;
            if self.renew == Renew::Current(c.page) {
                renewed = Some(c.line.acked);
            }
            let written = if c.line.acked { CopyState::Good } else { CopyState::Stale };
            if let Some(state) = state_index(c.page).and_then(|i| self.states.get_mut(i)) {
                for copy in ALL {
                    if c.line.durable & bit(copy) != 0 {
                        state.set(copy, written);
                    } else if c.line.failed & bit(copy) != 0 {
                        state.set(copy, CopyState::Failed);
                    }
                }
            }
            // A generation page is made anew whenever it is written.
            let made = c.page == PageId::Generation && c.doubt == Doubt::No;
            c.role = if made { Role::Free } else { Role::Idle };
            c.line = Line::NEW;
        }
        if let Some(good) = renewed {
            self.renew = Renew::Ended(good);
        }
        self.commits = self.commits.saturating_add(u64::from(acked));
        self.phase = Phase::Idle;
        self.close_ended(header);
    }
}
