// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Flushes, one line a device.
//!
//! Flushes of one device go out one at a time. Who comes while one is out shares the *next* one,
//! because a flush covers the writes answered before it began and no others. A line counts its
//! rounds: `started` and `ended`; who asks waits for round `started + 1` to end.
//!
//! A device reports a failed write-back once, to whoever flushes next. So a failed flush, whoever
//! issued it, is *counted*, and everybody compares counts: a client's flush is good only if no
//! failure was counted since it arrived and none from before is unanswered on its connection;
//! a recovery commits only if its own flush was good and the count is what it was before it wrote.
//!
//! A spare need not be flushed while every write it has answered is covered: `written` is raised
//! before an answer is passed on, and `covered` is the value it had when the last good flush of
//! the spare *began*. An open begins with the two different. Main is always flushed.

use crate::api::{Class, Dev, FlushCounts};
use crate::broken::{Broken, is};

/// The flushes of one device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Failures counted: own flushes, the client's, the commit's, and read-backs that differed.
    pub(super) failures: u64,
    /// Rounds begun.
    started: u64,
    /// Rounds answered.
    ended: u64,
    /// The highest round somebody waits for.
    wanted: u64,
    /// `written` when the round under way began.
    noted: u64,
    /// Writes answered by the device that a good flush has covered.
    covered: u64,
    /// The last round's end.
    pub(super) good: bool,
    class: Class,
}

impl Line {
    pub(super) const fn new() -> Line {
        Line {
            failures: 0,
            started: 0,
            ended: 0,
            wanted: 0,
            noted: 0,
            // No count of written is ever this high: an open begins with something uncovered.
            covered: u64::MAX,
            good: true,
            class: Class::Io,
        }
    }

    /// Asks for a flush that begins after now; the round whose end to wait for.
    pub(super) fn ask(&mut self) -> u64 {
        let round = self.started.saturating_add(1);
        self.wanted = self.wanted.max(round);
        round
    }

    /// Begins the next round if one is wanted and none is out. `written` is the device's count of
    /// answered writes at this moment.
    pub(super) fn start(&mut self, written: u64) -> bool {
        if self.started != self.ended || self.wanted <= self.ended {
            return false;
        }
        self.started = self.started.saturating_add(1);
        self.noted = written;
        true
    }

    /// The round under way was answered.
    pub(super) fn end(&mut self, result: Result<(), Class>, written_now: u64) {
        self.ended = self.started;
        self.good = result.is_ok();
        match result {
            Ok(()) => {
                self.covered =
                    if is(Broken::FlushCountsUnansweredWrites) { written_now } else { self.noted };
            }
            Err(class) => {
                self.class = class;
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// Whether this round has ended.
    pub(super) fn has_ended(&self, round: u64) -> bool {
        self.ended >= round
    }

    /// Whether a write answered before now may not be covered.
    pub(super) fn uncovered(&self, written: u64) -> bool {
        self.covered != written
    }
}

/// One client's flush.
#[derive(Clone, Copy, Debug)]
pub struct ClientFlush {
    id: Option<u64>,
    main: u64,
    /// The spare's round, if it is flushed at all.
    spare: Option<u64>,
    arrived: FlushCounts,
    bad: Option<Class>,
}

impl ClientFlush {
    /// A free place.
    pub const FREE: ClientFlush =
        ClientFlush { id: None, main: 0, spare: None, arrived: [0; 2], bad: None };
}

/// Both lines and the clients that wait for them.
pub(super) struct Flushes<F> {
    lines: [Line; 2],
    clients: F,
    /// The highest counts answered to anybody: where a new connection begins.
    floor: FlushCounts,
}

impl<F: core::ops::DerefMut<Target = [ClientFlush]>> Flushes<F> {
    pub(super) fn new(clients: F) -> Self {
        Flushes { lines: [Line::new(), Line::new()], clients, floor: [0; 2] }
    }

    pub(super) fn line(&mut self, dev: Dev) -> &mut Line {
        let [main, spare] = &mut self.lines;
        match dev {
            Dev::Main => main,
            Dev::Spare(_) => spare,
        }
    }

    pub(super) fn failures(&self) -> FlushCounts {
        let [main, spare] = &self.lines;
        [main.failures, spare.failures]
    }

    pub(super) fn floor(&self) -> FlushCounts {
        self.floor
    }

    /// A client's flush arrives; `answered` are the failures its connection was told of. False:
    /// no place, the driver presents it again.
    pub(super) fn arrive(&mut self, id: u64, answered: FlushCounts, spare_written: u64) -> bool {
        let arrived = self.failures();
        let [main, spare] = &mut self.lines;
        let Some(place) = self.clients.iter_mut().find(|c| c.id.is_none()) else {
            return false;
        };
        let [told_main, told_spare] = answered;
        let unanswered = if main.failures > told_main {
            Some(main.class)
        } else if spare.failures > told_spare {
            Some(spare.class)
        } else {
            None
        };
        *place = ClientFlush {
            id: Some(id),
            // Round 0 has always ended.
            main: if is(Broken::NoMainFlush) { 0 } else { main.ask() },
            spare: (spare.uncovered(spare_written) && !is(Broken::NoSpareFlush))
                .then(|| spare.ask()),
            arrived,
            bad: unanswered,
        };
        true
    }

    /// The next client's flush that has ended: its handle and how.
    pub(super) fn next_ended(&mut self) -> Option<(u64, Result<(), Class>)> {
        let now = self.failures();
        let [main, spare] = &self.lines;
        for client in self.clients.iter_mut() {
            let Some(id) = client.id else { continue };
            if !main.has_ended(client.main) || !client.spare.is_none_or(|r| spare.has_ended(r)) {
                continue;
            }
            let newer = if main.failures != client.arrived[0] {
                Some(main.class)
            } else if spare.failures != client.arrived[1] {
                Some(spare.class)
            } else {
                None
            };
            let result = match client.bad.or(newer) {
                None => Ok(()),
                Some(class) => Err(class),
            };
            *client = ClientFlush::FREE;
            if result.is_err() {
                self.floor = now;
            }
            return Some((id, result));
        }
        None
    }
}
