// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The commit machine: how changes become durable on the table holder's five copies.
//!
//! Changes [`join`](Commit::join) the next commit, many to a page, many pages to a commit. When the
//! machine is free it takes all that has joined, and goes through four phases:
//!
//! 1. *Check*, at most once a second: one header is read back. Another session there, not older
//!    than this one, means that somebody took the spare over: nothing is ever written again.
//! 2. *Gather*: pages whose acknowledged image is not cached are read back, from any copy that
//!    verifies and carries the page's last acknowledged stamp. A page that cannot be had fails
//!    cleanly, with nothing written.
//! 3. *Write*, in pairs ([`pairs`]), each page as its last acknowledged image plus the changes that
//!    joined, all pages under one stamp: the volume's next sequence number, used or not.
//! 4. A page with four durable copies is acknowledged at once, while its fifth copy is still to be
//!    written; a page with two failed copies is *in doubt*.
//!
//! A page in doubt may or may not show the change after a crash. Its next commit is therefore built
//! from the last acknowledged image alone, without the change and with nothing new, and is tried
//! once a second until it is acknowledged: the change is *reversed*. Until then nothing joins that
//! page.
//!
//! *Degraded.* Nothing new joins while fewer than four copies can be written: two copies hold I/O
//! that was given up, or a page is in doubt because two writes failed or because its reversal did
//! (a page in doubt after a failed flush holds up nothing but itself). The way out needs no step of
//! its own: a given-up I/O returns, or a reversal, which is tried in the background all the time,
//! is acknowledged. There is no such thing as a current copy, only current pages: every commit
//! writes whole pages to all five copies, so a copy that can be written again becomes current page
//! by page, and what it still holds of other pages loses by its stamp, since every page served at
//! open stands on four copies under a stamp that nothing older reaches.

mod cache;
mod change;
mod close;
mod image;
mod joins;
mod load;
mod page;
mod pairs;
mod renew;
mod run;
mod state;
mod wire;

use dmremap_format::{CopyIndex, Stamp, Uuid};

use crate::broken::{Broken, is};
use crate::{Class, Millis};
pub use cache::Cached;
pub(crate) use cache::{Doubt, Line, Out, Role, find};
pub use change::{ChangeFault, ChangeKind, HeaderChange, Identity, MetadataChange, SlotChange};
pub use image::{ChangeOf, Image, Io, IoId, IoKind, PageId, Store, VolumeId};
pub use joins::{Joined, Outcome, OutcomeKind};
pub(crate) use load::{Load, load, loaded};
pub(crate) use pairs::{NEEDED, Pairs, Step, give_up_late, next_late, wrote};
pub use renew::Looked;
pub(crate) use state::{ALL, bit, state_index};
pub use state::{CopyState, PageState, state_count};
pub(crate) use wire::{NO_PLACE, Name, Wire, parse};

use close::Close;
use joins::Stage;
use renew::{Look, Renew};

/// Why a change may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Fewer than four copies can be written. May pass, see the head of this module.
    Degraded,
    /// The list of joined changes is full, or every cached image is in a commit or in doubt.
    NoRoom,
    /// A change of this page is in doubt: wait until it is reversed.
    InDoubt,
    /// The volume is closing or closed.
    Closed,
    /// Another session has taken the spare.
    TakenOver,
    /// The volume was opened read-only.
    ReadOnly,
    /// The table has no such page, or it takes no such change.
    Misfit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Reading headers back; how many have been tried.
    Check(u8),
    Gather,
    Write,
}

/// What an open hands over.
pub(crate) struct Opened<S: Store> {
    pub cache: S::Cache,
    pub states: S::States,
    pub of: VolumeId,
    /// The stamp under which the open wrote.
    pub last: Stamp,
    pub session: Uuid,
    pub wire: Wire,
    pub writable: bool,
    /// Nothing can be written because too few copies take it, not because nothing is to be.
    pub degraded: bool,
}

/// The commit machine of one table holder; made by
/// [`Open::into_commit`](crate::open::Open::into_commit).
pub struct Commit<S: Store> {
    cache: S::Cache,
    states: S::States,
    joins: S::Joins,
    of: VolumeId,
    session: Uuid,
    /// The generation of this open and the last sequence number taken.
    last: Stamp,
    /// The stamp of the last acknowledged commit.
    durable: Stamp,
    commits: u64,
    wire: Wire,
    pairs: Pairs,
    phase: Phase,
    checked_at: Millis,
    /// Where the next check begins.
    check_from: u8,
    check_out: Option<(CopyIndex, Out)>,
    /// When pages in doubt are tried again.
    retry_at: Millis,
    writable: bool,
    /// The open found too few copies that can be written.
    opened_degraded: bool,
    taken_over: bool,
    look: Look,
    renew: Renew,
    close: Close<ChangeOf<S>>,
}

/// Once a second at most: reading a header back, and trying a reversal.
const SECOND_MS: Millis = 1000;

impl<S: Store> Commit<S> {
    pub(crate) fn new(from: Opened<S>, joins: S::Joins, now: Millis) -> Self {
        Commit {
            cache: from.cache,
            states: from.states,
            joins,
            of: from.of,
            session: from.session,
            last: from.last,
            durable: from.last,
            commits: 0,
            wire: from.wire,
            pairs: Pairs::IDLE,
            phase: Phase::Idle,
            checked_at: now,
            check_from: 0,
            check_out: None,
            retry_at: 0,
            writable: from.writable,
            opened_degraded: from.degraded,
            taken_over: false,
            look: Look::IDLE,
            renew: Renew::No,
            close: Close::No,
        }
    }

    /// Joins `change` of `page` to the next commit. `token` comes back with the outcome.
    ///
    /// What the change relies on must be durable by now: data of a moved unit, the removal of an
    /// entry whose unit it takes.
    ///
    /// # Errors
    /// Why it may not; nothing has changed.
    pub fn join(&mut self, page: PageId, change: ChangeOf<S>, token: u32) -> Result<(), Refusal> {
        if !matches!(self.close, Close::No) {
            return Err(Refusal::Closed);
        }
        if self.taken_over {
            return Err(Refusal::TakenOver);
        }
        if !self.writable {
            return Err(Refusal::ReadOnly);
        }
        let known = state_index(page).and_then(|i| self.states.get(i)).is_some();
        if !known || !S::Page::fits(page, &change) {
            return Err(Refusal::Misfit);
        }
        if self.degraded() {
            return Err(Refusal::Degraded);
        }
        let mut doubtful = 0usize;
        for c in self.cache.iter().filter(|c| c.doubt != Doubt::No) {
            if c.page == page {
                return Err(Refusal::InDoubt);
            }
            doubtful = doubtful.saturating_add(1);
        }
        let entry = joins::Entry { token, page, change, stage: Stage::Next, report: None };
        if doubtful >= self.cache.len() || !joins::push(&mut self.joins, entry) {
            return Err(Refusal::NoRoom);
        }
        Ok(())
    }

    /// Whether the list of joined changes has room for another.
    #[must_use]
    pub fn has_room(&self) -> bool {
        joins::has_room(&self.joins)
    }

    /// How the next of the joined changes ended. Drained after every call.
    pub fn next_outcome(&mut self) -> Option<Outcome> {
        joins::take_outcome(&mut self.joins)
    }

    /// Fills `out` with what is to be written for the write `id`; false if it is not under way.
    #[must_use]
    pub fn image(&self, id: IoId, out: &mut S::Page) -> bool {
        let Some(Name::Write { copy, place }) = parse(id) else { return false };
        let Some(c) = self.cache.get(place).filter(|c| c.line.has_out(copy, id.0)) else {
            return false;
        };
        out.copy_from(&c.image);
        if !c.line.acked {
            for e in joins::iter(&self.joins) {
                let carried = is(Broken::DoubtfulChangeCarriedAlong) && e.stage == Stage::Doubt;
                if e.page == c.page && (e.stage == Stage::Current || carried) {
                    out.apply(c.page, &e.change);
                }
            }
            if let Some(change) = self.close.writing(c.page) {
                out.apply(c.page, change);
            }
        }
        out.seal(&self.of, c.page, copy, self.last);
        true
    }

    /// An I/O has ended, however late. A good read hands in the page it read, valid or not.
    pub fn io_done(&mut self, id: IoId, result: Result<Option<&S::Page>, Class>, now: Millis) {
        match parse(id) {
            Some(Name::Read { copy, place: NO_PLACE }) => match self.look_takes(id, copy) {
                true => self.see(copy, result),
                false => self.checked(id, copy, result, now),
            },
            Some(Name::Read { copy, place }) => {
                let (at, states) = ((id, copy, place), &self.states);
                if !load::loaded(&mut self.cache, states, &self.of, at, result) {
                    self.wire.returned(copy);
                }
            }
            Some(Name::Write { copy, place }) => {
                wrote(&mut self.wire, &mut self.cache, (id, copy, place), result.is_ok());
            }
            Some(Name::Flush) => {
                self.pairs.flush_done(id.0, result.is_ok());
            }
            None => {}
        }
    }

    /// A failed flush of the table holder was counted, whoever sent it.
    pub fn flush_failed(&mut self) {
        self.pairs.flush_failed();
    }

    /// Gives up what is late. Call when [`next_deadline`](Commit::next_deadline) has passed.
    pub fn tick(&mut self, now: Millis) {
        give_up_late(&mut self.wire, &mut self.cache, &mut self.pairs, now);
        if let Some((copy, _)) = self.check_out.take_if(|(_, o)| self.wire.is_late(*o, now)) {
            self.wire.give_up(copy);
        }
        self.tick_look(now);
        self.close.tick(now);
    }

    /// When [`tick`](Commit::tick) or [`next_io`](Commit::next_io) has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.is_over() {
            return None;
        }
        let flush = self.pairs.flush_out().map(|o| self.wire.deadline(o));
        let check = self.check_out.map(|(_, o)| self.wire.deadline(o));
        let doubt = self.phase == Phase::Idle && self.in_doubt() > 0;
        let retry = doubt.then_some(self.retry_at);
        let look = self.look.outs().map(|o| self.wire.deadline(o)).min();
        let late = next_late(&self.wire, &self.cache);
        let all = [flush, check, look, retry, self.close.until(), late];
        all.into_iter().flatten().min()
    }

    /// Sets after how long an unanswered I/O is given up (`recovery_limit_ms`).
    pub fn set_limit(&mut self, limit_ms: Millis) {
        self.wire.limit_ms = limit_ms;
    }

    /// Whether fewer than four copies can be written, see the head of this module.
    #[must_use]
    pub fn degraded(&self) -> bool {
        self.opened_degraded
            || self.wire.stuck_copies() >= 2
            || self.cache.iter().any(|c| c.doubt == Doubt::Hard)
    }

    /// How many pages are in doubt.
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        self.cache.iter().filter(|c| c.doubt != Doubt::No).count()
    }

    /// Whether another session has taken the spare.
    #[must_use]
    pub fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// How many of the five copies hold every page valid and current, as far as is known. Looks at
    /// every page: for status.
    #[must_use]
    pub fn copies_valid(&self) -> u8 {
        let whole = |c: &CopyIndex| self.states.iter().all(|s| s.copy(*c) == CopyState::Good);
        ALL.iter().filter(|c| whole(c)).fold(0u8, |n, _| n.saturating_add(1))
    }

    /// The stamp of the last acknowledged commit of this open (sequence 0: of the open itself).
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.durable
    }

    /// Commits of this open in which a page was acknowledged.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Whether no commit is under way and none is wanted, but for reversals that wait for their
    /// second.
    #[must_use]
    pub fn idle(&self) -> bool {
        let waits = |e: &joins::Entry<_>| e.stage == Stage::Next;
        let wanted = matches!(self.renew, Renew::Wanted(_));
        let idle = self.phase == Phase::Idle && !wanted;
        self.is_over() || idle && !joins::iter(&self.joins).any(waits)
    }

    /// The acknowledged image of a cached page.
    #[must_use]
    pub fn cached(&self, page: PageId) -> Option<&S::Page> {
        let c = self.cache.get(find(&self.cache, page)?)?;
        (c.role != Role::Loading).then_some(&c.image)
    }

    /// Nothing is written any more.
    fn is_over(&self) -> bool {
        self.taken_over || !self.writable || self.close.is_closed()
    }
}
