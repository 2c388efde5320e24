// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Writing a group of pages through the five copies, for commits and opens alike.
//!
//! Every page of the group (a *line*) goes to two copies, then the device is flushed for all of
//! them; then two more and a flush; then the fifth and a flush. A crash therefore hurts no more
//! than two copies of a page, and three valid ones stand besides. Which copies come first is the
//! page's own: torn ones, then failed ones, then good ones, so that good ones are risked last. A
//! copy whose write failed is hurt already, so a line that has one goes on with one copy at a time:
//! else a crash would leave two valid copies, and one more that cannot be read would be one too
//! many.
//!
//! A copy is durable when its write and the flush behind it were good and no flush failure of the
//! device was counted since the pair was begun: a failure that another flush collected may have
//! been this write's. A pair that failed so is never flushed again alone, since a second flush says
//! nothing about writes whose failure the first one has reported. Four durable copies acknowledge a
//! line, two failed ones end it; the other lines go on.

use dmremap_format::{COPIES, CopyIndex};

use super::cache::{Cached, Line, Out, Role};
use super::image::{Io, IoId};
use super::state::bit;
use super::wire::Wire;
use crate::Millis;
use crate::broken::{Broken, is};

/// Durable copies that acknowledge a page.
pub(crate) const NEEDED: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Idle,
    Writing,
    Flushing(Option<Out>),
    /// The flush of the round has ended, good or not.
    Flushed(bool),
}

/// What the owner of the group does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this.
    Io(Io),
    /// Wait for answers.
    Wait,
    /// A pair has ended: look which lines are acknowledged or ended.
    Round,
    /// All has been written that will be.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pairs {
    stage: Stage,
    /// A flush failure of the device was counted since the pair was begun.
    poisoned: bool,
}

impl Pairs {
    pub(crate) const IDLE: Pairs = Pairs { stage: Stage::Idle, poisoned: false };

    /// Begins with the lines of the cache that have [`Role::Line`], each freshly started.
    pub(crate) fn start(&mut self) {
        *self = Pairs { stage: Stage::Writing, poisoned: false };
    }

    /// A failed flush of the device was counted.
    pub(crate) fn flush_failed(&mut self) {
        self.poisoned = true;
    }

    pub(crate) fn flush_out(&self) -> Option<Out> {
        match self.stage {
            Stage::Flushing(out) => out,
            _ => None,
        }
    }

    /// The flush `id` has ended; false if it is not the one waited for.
    pub(crate) fn flush_done(&mut self, id: u32, good: bool) -> bool {
        let ours = self.flush_out().is_some_and(|o| o.id == id);
        if ours {
            self.stage = Stage::Flushed(good);
        }
        ours
    }

    /// The flush is unanswered past its limit.
    pub(crate) fn give_up_flush(&mut self) {
        if self.flush_out().is_some() {
            self.stage = Stage::Flushed(false);
        }
    }

    pub(crate) fn step<P>(
        &mut self,
        wire: &mut Wire,
        cache: &mut [Cached<P>],
        now: Millis,
    ) -> Step {
        match self.stage {
            Stage::Idle => Step::Done,
            Stage::Writing => self.write(wire, cache, now),
            Stage::Flushing(Some(_)) => Step::Wait,
            Stage::Flushing(None) => {
                let io = wire.flush();
                self.stage = Stage::Flushing(Some(Out { id: io.id.0, at: now }));
                Step::Io(io)
            }
            Stage::Flushed(good) => self.end_round(cache, good && !self.poisoned),
        }
    }

    fn write<P>(&mut self, wire: &mut Wire, cache: &mut [Cached<P>], now: Millis) -> Step {
        let mut waiting = false;
        let mut written = false;
        for (at, c) in cache.iter_mut().enumerate().filter(|(_, c)| c.role == Role::Line) {
            while let Some(copy) = next_copy(&c.line) {
                c.line.sent |= bit(copy);
                if wire.is_stuck(copy) {
                    c.line.write_failed(copy);
                    continue;
                }
                let io = wire.write(c.page, copy, at);
                c.line.set_out(copy, Out { id: io.id.0, at: now });
                return Step::Io(io);
            }
            waiting |= c.line.is_out();
            written |= c.line.written != 0;
        }
        if waiting {
            return Step::Wait;
        }
        if written {
            self.stage = Stage::Flushing(None);
            return self.step(wire, cache, now);
        }
        self.end_round(cache, false)
    }

    fn end_round<P>(&mut self, cache: &mut [Cached<P>], good: bool) -> Step {
        let mut running = false;
        for c in cache.iter_mut().filter(|c| c.role == Role::Line) {
            let line = &mut c.line;
            if good && !line.ended {
                line.durable |= line.written;
            } else {
                line.failed |= line.written;
            }
            line.written = 0;
            let needed = if is(Broken::OneCopy) { 1 } else { NEEDED };
            line.acked |= line.durable.count_ones() >= needed;
            line.ended |= line.failed.count_ones() >= 2;
            line.at = line.at.saturating_add(line.width);
            line.width = if line.failed == 0 { 2 } else { 1 };
            running |= !line.ended && usize::from(line.at) < COPIES;
        }
        self.poisoned = false;
        self.stage = if running { Stage::Writing } else { Stage::Idle };
        Step::Round
    }
}

/// The copy of this round that comes next for `line`.
fn next_copy(line: &Line) -> Option<CopyIndex> {
    if line.ended || line.failed.count_ones() >= 2 {
        return None;
    }
    let mut pair = line.order.iter().skip(line.at.into()).take(line.width.into());
    pair.find(|c| line.sent & bit(**c) == 0).copied()
}

/// A write from place `at` of the cache has ended; one that was given up only frees its copy.
pub(crate) fn wrote<P>(
    wire: &mut Wire,
    cache: &mut [Cached<P>],
    (id, copy, at): (IoId, CopyIndex, usize),
    good: bool,
) {
    let line = cache.get_mut(at).map(|c| &mut c.line);
    match line.filter(|l| l.has_out(copy, id.0)) {
        Some(line) => line.write_done(copy, id.0, good),
        None => wire.returned(copy),
    }
}

/// Gives up what is at the device past its limit: writes and the flush fail, reads count as failed,
/// their copies take nothing more until they have returned.
pub(crate) fn give_up_late<P>(
    wire: &mut Wire,
    cache: &mut [Cached<P>],
    pairs: &mut Pairs,
    now: Millis,
) {
    if pairs.flush_out().is_some_and(|o| wire.is_late(o, now)) {
        pairs.give_up_flush();
    }
    for c in cache {
        let writing = c.role == Role::Line;
        for (out, copy) in c.line.out.iter_mut().zip(super::state::ALL) {
            if out.take_if(|o| wire.is_late(*o, now)).is_some() {
                wire.give_up(copy);
                if writing {
                    c.line.failed |= bit(copy);
                    c.line.broken |= bit(copy);
                }
            }
        }
    }
}

/// When the next I/O of the cache's lines is late.
pub(crate) fn next_late<P>(wire: &Wire, cache: &[Cached<P>]) -> Option<Millis> {
    let outs = cache.iter().flat_map(|c| c.line.out.iter().flatten());
    outs.map(|o| wire.deadline(*o)).min()
}
