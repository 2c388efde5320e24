// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a run came to, in numbers.

/// What has happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests and messages answered.
    pub operations: u64,
    /// Of these, with an error.
    pub errors: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Kills.
    pub kills: u64,
    /// Clean closes.
    pub closes: u64,
    /// Opens that succeeded.
    pub opens: u64,
    /// Opens that were cut off by a crash.
    pub cut_opens: u64,
    /// Units moved to the spare.
    pub moves: u64,
    /// Units brought home.
    pub homes: u64,
    /// Blocks that became gone.
    pub gone: u64,
    /// Spare units quarantined.
    pub quarantined: u64,
    /// Blocks marked by messages.
    pub marked: u64,
    /// Messages `restore` that came to their end.
    pub restores: u64,
    /// Pages they wrote anew.
    pub renewed: u64,
    /// Harm done by the nemesis (outages, resets, crashes and the like).
    pub harm: u64,
    /// Steps taken.
    pub steps: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.operations += other.operations;
        self.errors += other.errors;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.closes += other.closes;
        self.opens += other.opens;
        self.cut_opens += other.cut_opens;
        self.moves += other.moves;
        self.homes += other.homes;
        self.gone += other.gone;
        self.quarantined += other.quarantined;
        self.marked += other.marked;
        self.restores += other.restores;
        self.renewed += other.renewed;
        self.harm += other.harm;
        self.steps += other.steps;
    }
}
