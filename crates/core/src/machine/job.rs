// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One recovery: what it is for, how far it is, what it waits for, what it holds.

use dmremap_format::{SlotIndex, SpareUnit, UnitIndex};

use crate::api::{Class, Dev, Done, Millis, Op, Outcome, Piece};
use crate::pieces::GraceId;
use crate::table::Entry;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nothing: the place is free.
    Free,
    /// A read that failed; after its answer the relocation of what was weak.
    Read,
    /// A write that failed, or one to a block pending on main.
    Write,
    /// A write to gone blocks.
    WriteGone,
    /// Message `remap`.
    Remap,
    /// Message `add`.
    Add,
    /// Message `unremap`, and every step of `clear`.
    Unremap,
    /// Message `verify`.
    Verify,
    /// A unit's part of message `mark`.
    Mark,
}

/// How far it is. The order of the stages of a mover is the order of DESIGN 5: gather, put, sync,
/// check, commit, publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading blocks where they live.
    Read,
    /// Repeating the failed write in place.
    Try,
    /// Writing single blocks in place for the last time: nothing can be moved.
    LastTry,
    /// Saving the siblings of a unit whose spare unit failed.
    Gather,
    /// Writing content to its new place.
    Put,
    /// Flushing the new place's device.
    Sync,
    /// Reading it back and comparing.
    Check,
    /// The entry is in a commit, or about to join one.
    Commit,
    /// The commit is in doubt: everything stays held until it is reversed.
    Doubt,
    /// A freed spare unit waits until its readers have returned.
    Cool,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: free, or about to be stepped.
    Nothing,
    /// The answer to its operation.
    Answer,
    /// A probe of this device that begins after now; `Some` once such a probe runs.
    Probe(Dev, Option<u32>),
    /// A time.
    Until(Millis),
    /// A flush round of this device.
    Flush(Dev, u64),
    /// The I/O grace.
    Grace(GraceId),
    /// Other jobs' busy blocks of its own unit.
    Siblings,
    /// A free table leaf, or room in a commit.
    Room,
    /// The outcome of a commit.
    Outcome,
}

/// How far the order *failed, probe good, failed again* has come for the operation at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// No failure yet.
    First,
    /// Failed once; a probe begun after that was good: the next failure is the verdict.
    Again,
}

/// The cursor of a read that takes all its blocks in one operation.
pub(super) const WHOLE: u8 = u8::MAX;

/// One recovery. The caller provides the array; all of it begins as [`Job::FREE`].
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub(super) goal: Goal,
    pub(super) stage: Stage,
    pub(super) wait: Wait,
    pub(super) trial: Trial,
    pub(super) unit: UnitIndex,
    /// Blocks the request, or the message, is about.
    pub(super) own: u8,
    /// Blocks published busy.
    pub(super) busy: u8,
    /// Blocks whose content is in the buffer.
    pub(super) have: u8,
    /// Blocks that are written to their new place and change their state.
    pub(super) moving: u8,
    /// What of `moving` (or of a check) is still to be done in this pass.
    pub(super) todo: u8,
    /// Blocks that become gone by a verdict of their own.
    pub(super) gone: u8,
    /// Blocks that could not be read, with enough evidence to be pending.
    pub(super) unread: u8,
    /// Blocks that could not be read, without it.
    pub(super) unsure: u8,
    /// Blocks read at last, whose content should be saved.
    pub(super) weak: u8,
    /// Block under way, or [`WHOLE`].
    pub(super) cursor: u8,
    /// Attempts at that block.
    pub(super) attempt: u8,
    /// That block has evidence enough to be pending.
    pub(super) sure: bool,
    /// The failure that began the recovery was a MEDIUM answer.
    pub(super) medium: bool,
    /// `clear force`: what cannot go home becomes gone.
    pub(super) force: bool,
    /// Somebody named the spare unit: no other will do.
    pub(super) named: bool,
    /// It is its unit's one mover.
    pub(super) mover: bool,
    /// Past its limit with an operation still at a device: the answer only ends it.
    pub(super) late: bool,
    /// Spare units that failed under it.
    pub(super) tries: u8,
    /// Passes of writing, flushing and reading back that were thrown away.
    pub(super) passes: u8,
    /// A read-back differed once.
    pub(super) differed: bool,
    /// The request or message has had its answer.
    pub(super) told: bool,
    pub(super) piece: Option<Piece>,
    pub(super) message: Option<u64>,
    /// The unit's committed entry when the job took the unit.
    pub(super) entry: Option<Entry>,
    /// Where content is put: `Main`, or the target unit of the spare.
    pub(super) dest: Dev,
    pub(super) target: Option<SpareUnit>,
    /// The target was allocated by this job, and is free again if the job gives up.
    pub(super) fresh_unit: bool,
    /// The spare unit that leaves the entry when the change is acknowledged.
    pub(super) leaving: Option<SpareUnit>,
    pub(super) slot: Option<SlotIndex>,
    pub(super) fresh_slot: bool,
    /// The entry its commit carries, published as it stands; `None`: the entry is removed.
    pub(super) after: Option<Entry>,
    /// The count of failed flushes of `dest` before the pass began to write.
    pub(super) flush_mark: u64,
    /// The error its last failure brought.
    pub(super) class: Class,
    pub(super) deadline: Millis,
    /// The operation out, for answers and repetitions.
    pub(super) op: Option<Op>,
    /// What the driver has still to be told, in this order.
    pub(super) say: Say,
}

/// What a job has to say to the driver, in the order of the fields.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Say {
    pub(super) copy_in: bool,
    pub(super) verdict: bool,
    pub(super) complete: Option<Outcome>,
    pub(super) again: Option<Millis>,
    pub(super) reply: Option<Done>,
    pub(super) io: bool,
}

impl Job {
    /// A free place.
    pub const FREE: Job = Job {
        goal: Goal::Free,
        stage: Stage::Read,
        wait: Wait::Nothing,
        trial: Trial::First,
        unit: UnitIndex(0),
        own: 0,
        busy: 0,
        have: 0,
        moving: 0,
        todo: 0,
        gone: 0,
        unread: 0,
        unsure: 0,
        weak: 0,
        cursor: WHOLE,
        attempt: 0,
        sure: false,
        medium: false,
        force: false,
        named: false,
        mover: false,
        late: false,
        tries: 0,
        passes: 0,
        differed: false,
        told: false,
        piece: None,
        message: None,
        entry: None,
        dest: Dev::Main,
        target: None,
        fresh_unit: false,
        leaving: None,
        slot: None,
        fresh_slot: false,
        after: None,
        flush_mark: 0,
        class: Class::Io,
        deadline: 0,
        op: None,
        say: Say {
            copy_in: false,
            verdict: false,
            complete: None,
            again: None,
            reply: None,
            io: false,
        },
    };

    /// Whether the place can be taken: nothing under way and nothing left to say.
    pub(super) fn is_free(&self) -> bool {
        self.goal == Goal::Free && !self.say.pending()
    }
}

impl Say {
    pub(super) fn pending(&self) -> bool {
        self.copy_in
            || self.verdict
            || self.complete.is_some()
            || self.again.is_some()
            || self.reply.is_some()
            || self.io
    }
}

/// The lowest run of set bits: (first, count); `None` for 0.
pub(super) fn first_run(mask: u8) -> Option<(u8, u8)> {
    if mask == 0 {
        return None;
    }
    let first = mask.trailing_zeros();
    let count = mask.wrapping_shr(first).trailing_ones();
    Some((u8::try_from(first).unwrap_or(0), u8::try_from(count).unwrap_or(8)))
}

/// The bits of a run.
pub(super) fn run_mask(first: u8, count: u8) -> u8 {
    let bits = 1u16.wrapping_shl(u32::from(count)).wrapping_sub(1);
    u8::try_from(bits.wrapping_shl(u32::from(first)) & 0xff).unwrap_or(0)
}
