// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `list`: what lives elsewhere, as runs.
//!
//! The table knows units and the pending marks know blocks; a person wants runs of sectors. The
//! caller goes through both in ascending order and gives each unit to [`Runs::unit`], which hands
//! out a run as soon as nothing can be added to it, and calls [`Runs::finish`] at the end. A block
//! that is pending is listed as pending wherever it lives; one that lives on main and is not
//! pending is not listed.
//!
//! A reply holds about twenty runs. [`Reply`] stops before the one that would not fit whole and
//! ends with `next SECTOR`, so that `list SECTOR` goes on there.

use dmremap_format::{BlockState, States, UNIT_SECTORS};

use crate::text::Text;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Lives on a spare.
    Remapped,
    /// Exists nowhere.
    Gone,
    /// Its device could not read it.
    Pending,
}

impl RunState {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            RunState::Remapped => "remapped",
            RunState::Gone => "gone",
            RunState::Pending => "pending",
        }
    }
}

/// Sectors of one fate, one after the other on main and on the spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First sector on main.
    pub main_sector: u64,
    /// Row of the spare in the member list and absolute sector there, if the run lives on a spare
    /// or has its place there.
    pub spare: Option<(u8, u64)>,
    /// Length in sectors.
    pub sectors: u64,
    /// What it is.
    pub state: RunState,
    /// Why: one word, `-` if there is none.
    pub cause: &'static str,
}

impl Run {
    /// Whether `next` goes on exactly where this one ends.
    fn joins(&self, next: &Run) -> bool {
        let spare_joins = match (self.spare, next.spare) {
            (None, None) => true,
            (Some((a, at)), Some((b, next_at))) => {
                a == b && at.checked_add(self.sectors) == Some(next_at)
            }
            _ => false,
        };
        spare_joins
            && self.state == next.state
            && self.cause == next.cause
            && self.main_sector.checked_add(self.sectors) == Some(next.main_sector)
    }
}

/// A unit with an entry, pending blocks, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its first sector on main.
    pub main_sector: u64,
    /// Its place on a spare: row in the member list and first absolute sector.
    pub spare: Option<(u8, u64)>,
    /// Where its blocks live.
    pub states: States,
    /// Which of them are pending, bit i = block i.
    pub pending: u8,
    /// Why it was moved: one word.
    pub cause: &'static str,
}

/// Joins units to runs.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    block_sectors: u64,
    main_sectors: u64,
    from: u64,
    open: Option<Run>,
}

impl Runs {
    /// For a volume of `main_sectors` sectors with blocks of `block_sectors` (1, 2, 4 or 8); what
    /// lies before main sector `from` is left out.
    #[must_use]
    pub const fn new(block_sectors: u32, main_sectors: u64, from: u64) -> Runs {
        Runs { block_sectors: block_sectors as u64, main_sectors, from, open: None }
    }

    /// Takes the next unit, in ascending order of main, and calls `out` with each run that is
    /// complete. `out` returning `false` ends it early; so does this then.
    pub fn unit(&mut self, unit: &Unit, mut out: impl FnMut(Run) -> bool) -> bool {
        let blocks = UNIT_SECTORS.checked_div(self.block_sectors).unwrap_or(0);
        for index in 0..blocks {
            let Some(run) = self.block(unit, index) else { continue };
            let complete = match self.open.as_mut() {
                Some(open) if open.joins(&run) => {
                    open.sectors = open.sectors.saturating_add(run.sectors);
                    None
                }
                _ => self.open.replace(run),
            };
            if complete.is_some_and(|run| !out(run)) {
                return false;
            }
        }
        true
    }

    /// The last run.
    pub fn finish(&mut self) -> Option<Run> {
        self.open.take()
    }

    /// Block `index` of `unit` as a run of its own, if it is to be listed. The last unit of main
    /// may be short.
    fn block(&self, unit: &Unit, index: u64) -> Option<Run> {
        let bit = u8::try_from(index).ok()?;
        let offset = index.checked_mul(self.block_sectors)?;
        let main_sector = unit.main_sector.checked_add(offset)?;
        if main_sector >= self.main_sectors || main_sector < self.from {
            return None;
        }
        let state = unit.states.get(bit);
        let pending = unit.pending & 1u8.checked_shl(u32::from(bit))? != 0;
        let on_spare = unit.spare.and_then(|(row, at)| Some((row, at.checked_add(offset)?)));
        let (state, spare) = match (state, pending) {
            (BlockState::Gone, _) => (RunState::Gone, on_spare),
            (BlockState::Spare, true) => (RunState::Pending, on_spare),
            (BlockState::Main, true) => (RunState::Pending, None),
            (BlockState::Spare, false) => (RunState::Remapped, on_spare),
            (BlockState::Main, false) => return None,
        };
        // A pending block of main has no entry that could say why.
        let cause = if spare.is_some() || state == RunState::Gone { unit.cause } else { "-" };
        Some(Run { main_sector, spare, sectors: self.block_sectors, state, cause })
    }
}

/// Room kept for the line that says where to go on: `next ` and a number.
const NEXT_BYTES: usize = 26;

/// The answer to `list`, one line a run: `MAIN_SECTOR SECTORS STATE SPARE_INDEX SPARE_SECTOR CAUSE`
/// with `-` for what a run does not have.
#[derive(Debug)]
pub struct Reply {
    left: u32,
    empty: bool,
}

impl Reply {
    /// For at most `count` runs.
    #[must_use]
    pub const fn new(count: u32) -> Reply {
        Reply { left: count, empty: true }
    }

    /// Appends `run`; `false` if it did not fit or enough have been shown: the text is then
    /// complete and says where to go on.
    pub fn run(&mut self, out: &mut Text<'_>, run: &Run) -> bool {
        let mut line = [0u8; 128];
        let mut text = Text::new(&mut line);
        text.u64(run.main_sector).byte(b' ').u64(run.sectors).byte(b' ').whole(run.state.word());
        match run.spare {
            Some((row, at)) => text.byte(b' ').u64(u64::from(row)).byte(b' ').u64(at),
            None => text.str(" - -"),
        };
        text.byte(b' ').whole(run.cause);
        let newline = usize::from(!self.empty);
        let needs = text.len().saturating_add(newline).saturating_add(NEXT_BYTES);
        if self.left == 0 || text.is_cut() || needs > out.room() {
            if !self.empty {
                out.byte(b'\n');
            }
            out.str("next ").u64(run.main_sector);
            return false;
        }
        out.str(if self.empty { "" } else { "\n" }).str(text.as_str());
        self.left = self.left.saturating_sub(1);
        self.empty = false;
        true
    }

    /// Ends the answer: says so if there was nothing to list.
    pub fn end(&self, out: &mut Text<'_>) {
        if self.empty {
            out.str("nothing moved, nothing lost");
        }
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
