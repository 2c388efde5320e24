// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a client may see: the judge of every answer about content.
//!
//! Invariants checked:
//! * A read returns, for every sector, a content that was written there and not yet overwritten:
//!   of writes that overlap in time either may have won, of a write that failed or was cut off
//!   either the old or the new content holds, a write answered well before another began is never
//!   seen again once that other was answered well.
//! * What a read has returned stays: a later read returns nothing older.
//! * A kill changes nothing that was answered.
//! * A power cut takes nothing back that a flush or FUA has covered; of the rest each sector holds
//!   one of the contents it may have held, and the first read after the cut fixes which.
//! * Nothing else is ever returned: no byte that was not written there, no other sector's content.
//!
//! The oracle knows nothing of units, spares or tables: it is the healthy disk to compare with.
//! Which *errors* are just is judged in [`crate::excuse`]. Time here is the count of steps.

use crate::command::{Lost, Origin};
use crate::content::{ADOPTED, Content, Version, ZEROS};

/// A count of steps: of two things that happen, the later one has the higher number.
pub type Tick = u64;

/// How a write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not answered.
    Open,
    /// Answered well.
    Good,
    /// Answered with an error, or a discard: it may have happened, or happen yet.
    Failed,
    /// Cut off by a crash, or what a crash left: it has happened or it never will.
    Settled,
}

/// What one write means for one sector.
#[derive(Clone, Copy, Debug)]
struct Write {
    version: Version,
    began: Tick,
    ended: Tick,
    state: State,
    /// A flush or FUA has covered it.
    durable: bool,
    /// Its content was lost by a device before it was answered.
    lost: bool,
    /// Reads that begin later never return it.
    dead_from: Tick,
    /// Not even after a power cut.
    cut_dead: bool,
}

const NEVER: Tick = Tick::MAX;

impl Write {
    fn left_by_crash(version: Version, at: Tick) -> Write {
        Write {
            version,
            began: at,
            ended: at,
            state: State::Settled,
            durable: true,
            lost: false,
            dead_from: NEVER,
            cut_dead: false,
        }
    }
}

/// What is wrong with a content that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// The volume's sector.
    pub sector: u64,
    /// What was returned.
    pub got: Content,
    /// The versions that would have been right.
    pub allowed: Vec<Version>,
}

/// The healthy disk.
pub struct Oracle {
    cells: Vec<Vec<Write>>,
    next: Version,
    /// When the oldest read still under way began: nothing it may return is forgotten.
    pub oldest_read: Tick,
    last_loss: Tick,
    /// Sectors checked by reads.
    pub sectors_checked: u64,
}

impl Oracle {
    /// A disk of `sectors` as it was adopted.
    #[must_use]
    pub fn new(sectors: u64) -> Oracle {
        Oracle {
            cells: (0..sectors).map(|_| vec![Write::left_by_crash(ADOPTED, 0)]).collect(),
            next: ADOPTED + 1,
            oldest_read: 0,
            last_loss: 0,
            sectors_checked: 0,
        }
    }

    /// A write (or, with `zeros`, a write-zeroes or a discard) begins; its version names it.
    pub fn begin(&mut self, sector: u64, sectors: u32, zeros: bool, now: Tick) -> Version {
        let version = if zeros { ZEROS } else { self.next };
        self.next += u32::from(!zeros);
        for cell in self.span(sector, sectors) {
            cell.push(Write {
                version,
                began: now,
                ended: NEVER,
                state: State::Open,
                durable: false,
                lost: false,
                dead_from: NEVER,
                cut_dead: false,
            });
        }
        version
    }

    fn span(&mut self, sector: u64, sectors: u32) -> &mut [Vec<Write>] {
        let from = (sector as usize).min(self.cells.len());
        let to = (from + sectors as usize).min(self.cells.len());
        &mut self.cells[from..to]
    }

    /// The write that began at `began` has been answered; `sure` = well, and it was no discard.
    pub fn end(
        &mut self,
        (sector, sectors): (u64, u32),
        (version, began): (Version, Tick),
        sure: bool,
        fua: bool,
        now: Tick,
    ) {
        let oldest_read = self.oldest_read;
        for cell in self.span(sector, sectors) {
            let mut good = false;
            for w in cell.iter_mut().filter(|w| w.version == version && w.began == began) {
                if w.state == State::Open {
                    good = sure && !w.lost;
                    w.state = if good { State::Good } else { State::Failed };
                    w.durable = good && fua;
                    w.ended = now;
                }
            }
            if good {
                for old in cell.iter_mut().filter(|old| old.ended < began) {
                    old.dead_from = old.dead_from.min(now);
                    old.cut_dead |= fua;
                }
            }
            cell.retain(|w| !(w.cut_dead && w.dead_from < oldest_read));
        }
    }

    /// A flush that began at `began` has been answered well: what was answered before it is safe.
    pub fn flushed(&mut self, began: Tick) {
        let oldest_read = self.oldest_read;
        for cell in &mut self.cells {
            if cell.len() == 1 {
                continue;
            }
            let mut covered = 0;
            for w in cell.iter_mut().filter(|w| w.state == State::Good && w.ended < began) {
                w.durable = true;
                covered = covered.max(w.began);
            }
            for old in cell.iter_mut().filter(|old| old.ended < covered) {
                old.cut_dead = true;
            }
            cell.retain(|w| !(w.cut_dead && w.dead_from < oldest_read));
        }
    }

    /// A read that began at `began` returned `content` for `sector`.
    ///
    /// # Errors
    /// It may not return that.
    pub fn read(
        &mut self,
        sector: u64,
        content: &Content,
        began: Tick,
        now: Tick,
    ) -> Result<(), Wrong> {
        self.sectors_checked += 1;
        let wrong = |cell: &[Write]| Wrong {
            sector,
            got: content.clone(),
            allowed: cell.iter().filter(|w| w.dead_from >= began).map(|w| w.version).collect(),
        };
        let Some(cell) = self.cells.get_mut(sector as usize) else {
            return Err(wrong(&[]));
        };
        let version = match content {
            Content::Data { sector: at, version } if *at == sector => *version,
            _ => return Err(wrong(cell)),
        };
        if !cell.iter().any(|w| w.version == version && w.dead_from >= began) {
            return Err(wrong(cell));
        }
        // A read that was under way when a cache was lost may have been before the loss.
        if cell.len() == 1 || began <= self.last_loss {
            return Ok(());
        }
        // What was read is what holds: whatever had ended before and is not it was overwritten.
        let settled = cell
            .iter()
            .filter(|w| w.version == version)
            .all(|w| w.state == State::Settled && w.durable);
        for old in cell.iter_mut().filter(|w| w.version != version) {
            if old.ended < began && old.state != State::Failed {
                old.dead_from = old.dead_from.min(now);
                old.cut_dead |= settled && old.state == State::Settled;
            }
        }
        Ok(())
    }

    /// The process was killed: what is open was cut off.
    pub fn killed(&mut self, now: Tick) {
        for cell in &mut self.cells {
            for w in cell.iter_mut().filter(|w| w.state == State::Open) {
                w.state = State::Settled;
                w.ended = now;
            }
            for w in cell.iter_mut().filter(|w| w.state == State::Failed) {
                w.state = State::Settled;
            }
        }
    }

    /// Power was cut: every sector holds one content of those that no flush has outdated.
    pub fn power_cut(&mut self, now: Tick) {
        for cell in &mut self.cells {
            if cell.len() == 1 {
                continue;
            }
            let mut left: Vec<Write> = Vec::with_capacity(cell.len());
            for w in cell.iter().filter(|w| !w.cut_dead) {
                if !left.iter().any(|l| l.version == w.version) {
                    left.push(Write::left_by_crash(w.version, now));
                }
            }
            *cell = left;
        }
    }

    /// A device has lost a cached write. If the client was answered it is as after a power cut for
    /// this sector; if it was not, recovery must not let it be answered well over nothing, and only
    /// a write the client's own command made (or that recovery left in place) is `excused`.
    pub fn lost(&mut self, lost: &Lost, excused: bool, now: Tick) {
        let Some(cell) = self.cells.get_mut(lost.sector as usize) else { return };
        let alive = |w: &Write| w.version == lost.version && w.dead_from == NEVER;
        let Some(state) = cell.iter().filter(|w| alive(w)).map(|w| w.state).next_back() else {
            return;
        };
        if state == State::Open && !(excused || lost.origin == Origin::Client) {
            return;
        }
        self.last_loss = now;
        for w in cell.iter_mut() {
            // One that is under way may have been overwritten by the one that was lost.
            w.lost |= w.state == State::Open;
            if w.state == State::Good && !w.durable {
                w.state = State::Failed;
            }
        }
        for w in cell.iter_mut().filter(|w| !w.cut_dead) {
            w.dead_from = NEVER;
        }
    }

    /// Contents of a sector that a read beginning now may return.
    #[must_use]
    pub fn allowed(&self, sector: u64) -> Vec<Version> {
        let cell = self.cells.get(sector as usize).map_or(&[][..], Vec::as_slice);
        cell.iter().filter(|w| w.dead_from == NEVER).map(|w| w.version).collect()
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
