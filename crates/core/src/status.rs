// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a volume says of itself: the numbers, the state word, the status line, the one sentence.
//!
//! [`Status`] holds every number of `status --json`. What belongs to a part this version does not
//! have is `None`: `null` in JSON, `-` in a status line. The name and the UUID are the caller's.

use crate::text::Text;

/// Everything there is to know of a volume at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Logical block size in bytes, 512 to 4096.
    pub block_size: u32,
    /// Size in sectors.
    pub size_sectors: u64,
    /// Blocks that live on a spare.
    pub remapped_blocks: u64,
    /// Blocks their device could not read when it was last asked.
    pub pending_blocks: u64,
    /// Blocks whose content exists nowhere.
    pub gone_blocks: u64,
    /// Units with an entry.
    pub entries: u64,
    /// Units that can have one.
    pub max_entries: u64,
    /// Spare units that failed and are never used again.
    pub quarantined_units: u64,
    /// Spare units that can be handed out.
    pub spare_free_units: u64,
    /// Spare units, whatever they are used for.
    pub spare_total_units: u64,
    /// Errors the devices reported.
    pub errors: Errors,
    /// Units moved since the volume was opened or the counters cleared.
    pub remaps: Remaps,
    /// Requests by path.
    pub requests: Requests,
    /// The metadata on the table holder.
    pub metadata: Metadata,
    /// 0 to 100, or `None` in a version without a health model.
    pub health_score: Option<u8>,
    /// The scan, or `None` in a version without one.
    pub scan: Option<Scan>,
    /// What holds besides.
    pub conditions: Conditions,
}

/// Errors the devices reported, counted by piece; only what the volume's own requests and its
/// recovery met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Reads that failed.
    pub read: u64,
    /// Writes that failed, write-zeroes included.
    pub write: u64,
    /// Of both, those of the classes that recovery looks into.
    pub medium: u64,
    /// Of both, all others.
    pub transport: u64,
}

/// Units moved to the spare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaps {
    /// Because a write failed or a block was weak.
    pub automatic: u64,
    /// Because a message asked for it.
    pub manual: u64,
}

/// Pieces of requests sent on their way: one for each place a request goes to, more of a large one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Resolved to main without an entry, whatever their size.
    pub fast: u64,
    /// All others.
    pub slow: u64,
}

/// The metadata on the table holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Copies that are whole: 0 to `copies_total`.
    pub copies_valid: u8,
    /// Copies there are.
    pub copies_total: u8,
    /// Generation of this open.
    pub generation: u64,
    /// Sequence of the last acknowledged commit.
    pub sequence: u64,
    /// Commits acknowledged since the volume was opened.
    pub commits: u64,
}

/// A scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What it does: one word.
    pub state: &'static str,
    /// How far it is, 0 to 100.
    pub percent: u8,
}

/// Conditions that hold beside the numbers, each by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// A device vanished, or another session took the volume over: it serves nothing.
    pub failed: bool,
    /// Opened so, or served so because fewer than four copies could be written.
    pub read_only: bool,
    /// Fewer than four copies of the metadata can be written, or a commit is in doubt.
    pub metadata_degraded: bool,
    /// Main failed its probe.
    pub main_suspect: bool,
    /// A spare failed its probe.
    pub spare_suspect: bool,
    /// No spare unit or no slot is left.
    pub spare_full: bool,
}

/// The one word that scripts look at, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum State {
    /// Serves nothing.
    Failed,
    /// Works, but nothing new can be moved.
    MetadataDegraded,
    /// Main does not answer its probes: nothing is judged until it does.
    MainSuspect,
    /// A spare does not answer its probes.
    SpareSuspect,
    /// Opened read-only.
    ReadOnly,
    /// The next bad block cannot be moved.
    SpareFull,
    /// Blocks are lost, or a copy of the metadata is not whole.
    Degraded,
    /// Everything is intact.
    Ok,
}

impl State {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::MetadataDegraded => "metadata_degraded",
            State::MainSuspect => "main_suspect",
            State::SpareSuspect => "spare_suspect",
            State::SpareFull => "spare_full",
            State::ReadOnly => "read_only",
            State::Failed => "failed",
        }
    }

    /// What it means and what to do, as one sentence; empty for [`State::Ok`].
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            State::Ok => "",
            State::Degraded => {
                "Not everything is whole: list shows the blocks that are lost; writing a lost \
                 block makes it good again."
            }
            State::MetadataDegraded => {
                "Fewer than four copies of the metadata can be written: what is known still works, \
                 nothing new is moved. Copy the data off, or replace the spare."
            }
            State::MainSuspect => {
                "Main does not answer its probes, so nothing is moved: check its cable and power."
            }
            State::SpareSuspect => {
                "The spare does not answer its probes, so nothing is moved: check its cable and \
                 power."
            }
            State::ReadOnly => "The volume is read-only: writes are refused.",
            State::SpareFull => {
                "The spare is full: the next block that cannot be written is an error. Replace \
                 main."
            }
            State::Failed => {
                "The volume has failed and serves nothing: close it, check both devices, open it \
                 again."
            }
        }
    }
}

/// The answer of `status --test`; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// All is well.
    Healthy = 0,
    /// It works, but somebody should look.
    Degraded = 1,
    /// Unusable, or data is lost.
    Lost = 2,
}

impl Status {
    /// Blocks pending or gone.
    #[must_use]
    pub const fn lost_blocks(&self) -> u64 {
        self.pending_blocks.saturating_add(self.gone_blocks)
    }

    /// Spare units that cannot be handed out: used or quarantined.
    #[must_use]
    pub const fn spare_used_units(&self) -> u64 {
        self.spare_total_units.saturating_sub(self.spare_free_units)
    }

    /// The worst of what holds. Of a volume that is read-only *because* its metadata is degraded
    /// the cause is said, and a suspect device before what was asked for.
    #[must_use]
    pub const fn state(&self) -> State {
        let holds = &self.conditions;
        if holds.failed {
            State::Failed
        } else if holds.metadata_degraded {
            State::MetadataDegraded
        } else if holds.main_suspect {
            State::MainSuspect
        } else if holds.spare_suspect {
            State::SpareSuspect
        } else if holds.read_only {
            State::ReadOnly
        } else if holds.spare_full {
            State::SpareFull
        } else if self.lost_blocks() > 0 || self.metadata.copies_valid < self.metadata.copies_total
        {
            State::Degraded
        } else {
            State::Ok
        }
    }

    /// The answer of `status --test`.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self.state() {
            State::Failed => Verdict::Lost,
            _ if self.lost_blocks() > 0 => Verdict::Lost,
            State::Ok => Verdict::Healthy,
            _ => Verdict::Degraded,
        }
    }

    /// Appends the sentence `status` begins with, without a full stop:
    /// `14 blocks moved, 3 lost; everything else is intact`. What cannot be judged now is not
    /// called intact.
    pub fn write_sentence(&self, out: &mut Text<'_>) {
        let moved = self.remapped_blocks;
        match moved {
            0 => out.str("no block moved, "),
            1 => out.str("1 block moved, "),
            _ => out.u64(moved).str(" blocks moved, "),
        };
        match self.lost_blocks() {
            0 => out.str("none lost; "),
            lost => out.u64(lost).str(" lost; "),
        };
        out.str(match self.state() {
            State::Failed => "the volume has failed and serves nothing",
            State::MainSuspect => "main does not answer, the rest cannot be judged now",
            State::SpareSuspect => "the spare does not answer, what is on it cannot be judged now",
            _ if self.lost_blocks() > 0 => "everything else is intact",
            _ => "everything is intact",
        });
    }

    /// Appends the whole status line, as dmsetup shows it: `START LEN dm-remap v4 ...`.
    pub fn write_line(&self, start_sector: u64, out: &mut Text<'_>) {
        out.u64(start_sector).byte(b' ').u64(self.size_sectors).str(" dm-remap ");
        self.write_fields(out);
    }

    /// Appends what the target itself says, from `v4` on. Fields are only ever added at the end;
    /// `-` stands for what this version does not have.
    pub fn write_fields(&self, out: &mut Text<'_>) {
        out.str("v4 ").u64(self.entries).byte(b'/').u64(self.max_entries);
        out.byte(b' ').u64(self.lost_blocks()).byte(b'/').u64(self.max_entries);
        out.byte(b' ').u64(self.spare_used_units()).byte(b'/').u64(self.spare_total_units);
        out.str(" health=");
        optional(out, self.health_score);
        out.str(" errors=W").u64(self.errors.write).str(":R").u64(self.errors.read);
        out.str(" auto_remaps=").u64(self.remaps.automatic);
        out.str(" manual_remaps=").u64(self.remaps.manual);
        out.str(" scan=");
        optional(out, self.scan.map(|scan| scan.percent));
        if self.scan.is_some() {
            out.byte(b'%');
        }
        out.str(" state=").whole(self.state().word());
        self.write_keys(out);
    }

    /// The `key=value` part.
    fn write_keys(&self, out: &mut Text<'_>) {
        for (key, value) in [
            (" lost=", self.lost_blocks()),
            (" pending=", self.pending_blocks),
            (" gone=", self.gone_blocks),
            (" quarantined=", self.quarantined_units),
            (" fast=", self.requests.fast),
            (" slow=", self.requests.slow),
            (" write_errors=", self.errors.write),
            (" read_errors=", self.errors.read),
            (" commits=", self.metadata.commits),
            (" generation=", self.metadata.generation),
            (" sequence=", self.metadata.sequence),
        ] {
            out.str(key).u64(value);
        }
        out.str(" scan_progress=");
        optional(out, self.scan.map(|scan| scan.percent));
        for (key, value) in [
            (" medium_errors=", self.errors.medium),
            (" transport_errors=", self.errors.transport),
            (" moved_blocks=", self.remapped_blocks),
            (" spare_free=", self.spare_free_units),
            (" block_size=", u64::from(self.block_size)),
            (" copies=", u64::from(self.metadata.copies_valid)),
        ] {
            out.str(key).u64(value);
        }
        out.byte(b'/').u64(u64::from(self.metadata.copies_total));
    }

    /// Appends the answer to `stats`: the counters that `clear_stats` sets to zero, then what the
    /// spare has left.
    pub fn write_stats(&self, out: &mut Text<'_>) {
        for (key, value) in [
            ("fast=", self.requests.fast),
            (" slow=", self.requests.slow),
            (" read_errors=", self.errors.read),
            (" write_errors=", self.errors.write),
            (" medium_errors=", self.errors.medium),
            (" transport_errors=", self.errors.transport),
            (" auto_remaps=", self.remaps.automatic),
            (" manual_remaps=", self.remaps.manual),
            (" commits=", self.metadata.commits),
            (" spare_used=", self.spare_used_units()),
            (" spare_free=", self.spare_free_units),
            (" spare_total=", self.spare_total_units),
            (" quarantined=", self.quarantined_units),
        ] {
            out.str(key).u64(value);
        }
    }
}

/// A number this version may not have.
fn optional(out: &mut Text<'_>, value: Option<u8>) {
    match value {
        Some(value) => out.u64(u64::from(value)),
        None => out.byte(b'-'),
    };
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
