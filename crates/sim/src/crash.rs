// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Ends of a session: power cut, kill, clean close; and the open that follows.

use dmremap_core::Dev;

use crate::excuse::Trouble;
use crate::nemesis::Nemesis;
use crate::opening::Opening;
use crate::world::{Checked, World, fail};

/// Opens that may be cut off in a row before one is let through.
const CUT_OPENS: u32 = 3;
/// Opens that may be refused in a row for a device's failures during the open.
const REFUSED_OPENS: u32 = 20;

impl World {
    /// Power is cut, or the process is killed.
    pub fn crash(&mut self, power: bool) {
        self.note(|| format!("=== {}", if power { "power cut" } else { "kill" }));
        let (now, tick) = (self.now, self.tick);
        self.counts.power_cuts += u64::from(power);
        self.counts.kills += u64::from(!power);
        self.session = None;
        self.requests.clear();
        self.parts.clear();
        self.owners.clear();
        self.inbox.clear();
        for disk in &mut self.disks {
            if power {
                disk.power_cut(now, &mut self.rng);
                disk.lost.clear();
                disk.faults.outage = None;
                disk.faults.failing_flushes = None;
            } else {
                disk.abandon(now, &mut self.rng);
            }
            disk.vanished = false;
        }
        if power {
            self.oracle.power_cut(tick);
        } else {
            self.oracle.killed(tick);
            self.tell_losses(Dev::Main);
            self.tell_losses(Dev::Spare(0));
        }
        for trouble in [Trouble::MainSuspect, Trouble::SpareSuspect, Trouble::Slow] {
            self.troubles.end(trouble, tick);
        }
        self.flush_judge.reopened();
        self.copy_anew();
    }

    /// A crash, and then opens until one gets through.
    ///
    /// # Errors
    /// The volume does not open.
    pub fn crash_and_open(&mut self, power: bool) -> Checked {
        self.crash(power);
        self.reopen()
    }

    /// Closes cleanly and opens again.
    ///
    /// # Errors
    /// The volume does not close, or does not open.
    pub fn close_and_open(&mut self) -> Checked {
        self.close()?;
        self.reopen()
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// Requests hang, or the volume does not close.
    pub fn close(&mut self) -> Checked {
        let nemesis = std::mem::replace(&mut self.nemesis, Nemesis::none());
        let closed = self.close_undisturbed();
        self.nemesis = nemesis;
        closed
    }

    fn close_undisturbed(&mut self) -> Checked {
        self.settle()?;
        self.note(|| "=== close".into());
        let now = self.now;
        if let Some(session) = &mut self.session {
            session.machine.close(now);
        }
        self.drain()?;
        let asking = std::mem::replace(&mut self.asking, false);
        let ended = self.run_until("the volume closes", |w| {
            w.session.as_ref().is_none_or(|s| s.machine.closed().is_some())
        });
        self.asking = asking;
        ended?;
        self.counts.closes += 1;
        // What is still at a device is as after a kill; nothing was left unanswered to a client.
        self.crash(false);
        self.counts.kills -= 1;
        Ok(())
    }

    /// Opens the volume, however often it is cut off.
    ///
    /// # Errors
    /// It is refused although no device failed.
    pub fn reopen(&mut self) -> Checked {
        let (mut cut, mut refused) = (0, 0);
        loop {
            let crash_one_in = if cut < CUT_OPENS && self.nemesis.due(u64::MAX) { 60 } else { 0 };
            match self.open(crash_one_in)? {
                Opening::Opened => {
                    self.counts.opens += 1;
                    return Ok(());
                }
                Opening::Cut(power) => {
                    cut += 1;
                    self.counts.cut_opens += 1;
                    self.crash(power);
                }
                Opening::Refused { why, excused } => {
                    refused += 1;
                    if !excused || refused > REFUSED_OPENS {
                        return fail(format!("the volume does not open: {why}"));
                    }
                    self.crash(false);
                    self.counts.kills -= 1;
                    if let Some(outage) = self.disks[1].faults.outage {
                        self.now = self.now.max(outage.until);
                    }
                }
            }
        }
    }
}
