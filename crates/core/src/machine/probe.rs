// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Probes and suspect devices.
//!
//! A probe is three one-block uncached reads at random places, one in each third of the device,
//! without an entry or a pending mark, each with a time of its own; good means that two succeed. It
//! tells a bad place from a bad device: only *failed, probe good, failed again* cannot come from
//! one outage. One probe serves all failures that were answered before it began, and no other, so
//! a job that fails while a probe runs waits for the next one.
//!
//! A bad probe makes the device suspect: requests still run, nothing is moved, quarantined, marked
//! or made gone. Then it is probed once a second; three good ones in a row heal it.

use crate::api::{Dev, Millis};

/// Reads in a probe.
pub(super) const READS: usize = 3;
/// Between the probes of a suspect device.
pub(super) const HEAL_INTERVAL_MS: Millis = 1000;
/// Good probes in a row that heal.
const HEAL_STREAK: u8 = 3;

/// What the machine knows of one device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    /// Failed its last probe and has not healed.
    pub(super) suspect: bool,
    /// Went away while in use; fails until close and open.
    pub(super) vanished: bool,
    streak: u8,
    /// Number of the probe running or, if none runs, of the last one.
    pub(super) number: u32,
    running: bool,
    /// Reads of this probe that are to be handed out, one bit each.
    to_send: u8,
    good: u8,
    answered: u8,
    /// Reads that are still at the device, from whatever probe.
    out: [bool; READS],
    deadline: Millis,
    /// When a suspect device is probed next.
    next: Millis,
    wanted: bool,
    /// Good at its last probe (only the variant that probes before the failure looks at it).
    pub(super) last_good: bool,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Two reads succeeded.
    Good,
    /// They did not, in time.
    Bad,
}

impl Health {
    pub(super) const fn new() -> Health {
        Health {
            suspect: false,
            vanished: false,
            streak: 0,
            number: 0,
            running: false,
            to_send: 0,
            good: 0,
            answered: 0,
            out: [false; READS],
            deadline: 0,
            next: 0,
            wanted: false,
            last_good: false,
        }
    }

    /// Somebody needs a probe that begins after now.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Begins a probe if one is due and none runs; its number. Its reads are handed out by
    /// [`Health::next_read`].
    pub(super) fn start(&mut self, now: Millis, timeout_ms: Millis) -> Option<u32> {
        // Three good probes a second apart heal, so nobody hurries them.
        let due = if self.suspect { now >= self.next } else { self.wanted };
        // A straggler of a probe that was good without it would fill a place of the new one: it
        // has its time first, and counts as bad only after that.
        if self.running || !due || self.vanished || self.straggles(now) {
            return None;
        }
        self.wanted = false;
        self.running = true;
        self.number = self.number.wrapping_add(1);
        self.good = 0;
        self.answered = 0;
        self.to_send = 0;
        // A read of an older probe that never came back keeps its place and counts as bad.
        for (place, out) in self.out.iter().enumerate() {
            if *out {
                self.answered = self.answered.saturating_add(1);
            } else {
                self.to_send |= bit(place);
            }
        }
        self.deadline = now.saturating_add(timeout_ms);
        Some(self.number)
    }

    /// Whether a read of the last probe is still out within its time.
    fn straggles(&self, now: Millis) -> bool {
        now < self.deadline && self.out.iter().any(|out| *out)
    }

    /// The places of the reads to submit now, once a probe.
    pub(super) fn next_read(&mut self) -> Option<usize> {
        let place = (0..READS).find(|place| self.to_send & bit(*place) != 0)?;
        self.to_send &= !bit(place);
        if let Some(out) = self.out.get_mut(place) {
            *out = true;
        }
        Some(place)
    }

    /// One of its reads came back. `number` is the probe it belonged to.
    pub(super) fn answered(&mut self, place: usize, number: u32, good: bool) {
        if let Some(out) = self.out.get_mut(place) {
            *out = false;
        }
        if self.running && number == self.number {
            self.answered = self.answered.saturating_add(1);
            self.good = self.good.saturating_add(u8::from(good));
        }
    }

    /// Ends the probe if its result is known, or its time is over.
    pub(super) fn end(&mut self, now: Millis) -> Option<Ended> {
        if !self.running || self.to_send != 0 {
            return None;
        }
        let enough = self.good >= 2;
        if !enough && usize::from(self.answered) < READS && now < self.deadline {
            return None;
        }
        self.running = false;
        self.last_good = enough;
        self.next = now.saturating_add(HEAL_INTERVAL_MS);
        Some(if enough { Ended::Good } else { Ended::Bad })
    }

    /// Takes the result in; what changed: `Some(true)` became suspect, `Some(false)` healed.
    pub(super) fn judge(&mut self, ended: Ended) -> Option<bool> {
        match ended {
            Ended::Bad => {
                self.streak = 0;
                let news = !self.suspect;
                self.suspect = true;
                news.then_some(true)
            }
            Ended::Good if self.suspect => {
                self.streak = self.streak.saturating_add(1);
                if self.streak < HEAL_STREAK {
                    return None;
                }
                self.streak = 0;
                self.suspect = false;
                Some(false)
            }
            Ended::Good => None,
        }
    }

    /// When it has to be looked at again.
    pub(super) fn deadline(&self) -> Option<Millis> {
        if self.running || (self.wanted && self.out.iter().any(|out| *out)) {
            Some(self.deadline)
        } else if self.suspect && !self.vanished {
            let straggler = self.out.iter().any(|out| *out);
            Some(if straggler { self.next.max(self.deadline) } else { self.next })
        } else {
            None
        }
    }
}

fn bit(place: usize) -> u8 {
    1u8.wrapping_shl(u32::try_from(place).unwrap_or(0))
}

/// A generator for the places of probes; nothing depends on its quality.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        let mut x = self.0;
        x ^= x.wrapping_shl(13);
        x ^= x.wrapping_shr(7);
        x ^= x.wrapping_shl(17);
        self.0 = x;
        x.checked_rem(end).unwrap_or(0)
    }
}

/// Index of a device in arrays of two.
pub(super) const fn row(dev: Dev) -> usize {
    match dev {
        Dev::Main => 0,
        Dev::Spare(_) => 1,
    }
}
