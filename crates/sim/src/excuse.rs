// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which errors are just.
//!
//! Invariants checked:
//! * A read fails only for blocks whose content could not be read from where it lives since it was
//!   written there, or for blocks that are gone because their spare unit could not be read, or
//!   while the device it lives on was out, suspect or vanished, or while its unit was in doubt, or
//!   when a device kept recovery waiting for longer than its limit.
//! * A write fails only while a device was out, suspect or vanished, no spare unit or slot was
//!   left, several spare units in a row were bad, metadata could not be committed, or a device kept
//!   recovery waiting for longer than its limit.
//! * A client's flush succeeds only if no flush of a device failed since it arrived and every
//!   earlier failure has been answered to its connection; it fails only if there was one, or a
//!   device was out.

use dmremap_core::{Class, Dev};

use crate::oracle::Tick;
use crate::session::CONNECTIONS;

/// A condition of the world that excuses errors while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Main as a whole fails.
    MainOut,
    /// The spare as a whole fails.
    SpareOut,
    /// The machine holds main for suspect.
    MainSuspect,
    /// The machine holds the spare for suspect.
    SpareSuspect,
    /// A command was kept at a device for longer than recovery may wait.
    Slow,
    /// Metadata could not be written as it should, or a commit failed or is in doubt.
    Metadata,
    /// No spare unit or slot is left.
    SpareFull,
    /// Spare units were bad when they were written.
    SpareBad,
}

const TROUBLES: usize = 8;

/// When each trouble was last seen.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    active: [bool; TROUBLES],
    last: [Tick; TROUBLES],
    counts: [u64; TROUBLES],
}

impl Troubles {
    /// The trouble begins, or is seen again.
    pub fn begin(&mut self, trouble: Trouble, now: Tick) {
        self.active[trouble as usize] = true;
        self.last[trouble as usize] = now;
    }

    /// It is over.
    pub fn end(&mut self, trouble: Trouble, now: Tick) {
        if std::mem::take(&mut self.active[trouble as usize]) {
            self.last[trouble as usize] = now;
        }
    }

    /// It happened at this instant.
    pub fn strike(&mut self, trouble: Trouble, now: Tick) {
        self.last[trouble as usize] = now;
        self.counts[trouble as usize] += 1;
    }

    /// Whether it was there at any time from `since` on.
    #[must_use]
    pub fn since(&self, trouble: Trouble, since: Tick) -> bool {
        self.active[trouble as usize]
            || (self.last[trouble as usize] >= since && self.last[trouble as usize] > 0)
    }

    /// Whether it is there now.
    #[must_use]
    pub fn now(&self, trouble: Trouble) -> bool {
        self.active[trouble as usize]
    }

    /// How often it struck.
    #[must_use]
    pub fn count(&self, trouble: Trouble) -> u64 {
        self.counts[trouble as usize]
    }

    /// Whether a request that began at `since` may fail because of `dev`.
    #[must_use]
    pub fn excuse(&self, dev: Dev, since: Tick) -> bool {
        let (out, suspect) = match dev {
            Dev::Main => (Trouble::MainOut, Trouble::MainSuspect),
            Dev::Spare(_) => (Trouble::SpareOut, Trouble::SpareSuspect),
        };
        self.since(out, since) || self.since(suspect, since)
    }
}

/// Watches the remembered flush failures.
#[derive(Clone, Debug, Default)]
pub struct FlushJudge {
    failures: u64,
    told: [u64; CONNECTIONS],
    highest_told: u64,
}

impl FlushJudge {
    /// A new session: every connection begins anew.
    pub fn reopened(&mut self) {
        *self = FlushJudge::default();
    }

    /// The machine was told of a failed flush of a device.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// A client connects: it starts with what anybody was told.
    pub fn connected(&mut self, connection: usize) {
        self.told[connection] = self.highest_told;
    }

    /// A flush arrives: what had failed by now, and what its connection was told of that.
    pub fn arrived(&self, connection: usize) -> (u64, u64) {
        (self.failures, self.told[connection])
    }

    /// A flush of `connection` was answered. `arrived` is what [`FlushJudge::arrived`] said.
    ///
    /// # Errors
    /// What is wrong with the answer. `excused` says that a device was out meanwhile.
    pub fn answered(
        &mut self,
        connection: usize,
        arrived: (u64, u64),
        outcome: Result<(), Class>,
        excused: bool,
    ) -> Result<(), &'static str> {
        let failures = self.failures;
        let (before, told_before) = arrived;
        let told = &mut self.told[connection];
        let just = failures > before || before > told_before;
        match outcome {
            Ok(()) if failures > before => Err("a flush succeeded while a device's flush failed"),
            Ok(()) if before > *told => Err("a flush succeeded with a failed one unanswered"),
            Err(_) if !just && !excused => Err("a flush failed and no device's flush had"),
            Err(_) => {
                *told = failures;
                self.highest_told = self.highest_told.max(failures);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
