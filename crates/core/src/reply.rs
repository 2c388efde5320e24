// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The words in which the end of a message and an event are told.
//!
//! Every refusal says what was asked, why it cannot be, and what to do next; nothing has changed
//! unless it says so. All texts fit [`REPLY_MAX_BYTES`](crate::text::REPLY_MAX_BYTES).

use dmremap_format::{SpareUnit, UNIT_SECTORS};

use crate::api::{Dev, Done, Event, Marked, Reason};
use crate::message::Command;
use crate::text::Text;

/// What a reply needs to know besides how the message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Sectors of main.
    pub main_sectors: u64,
    /// Sectors of a block, 1 to 8.
    pub block_sectors: u32,
    /// First spare sector that is handed out.
    pub data_start: u64,
    /// One more than the last spare sector that is handed out.
    pub data_end: u64,
    /// The nearest spare sectors that would have been legal, below and above; see
    /// [`nearest_spare`].
    pub nearest: [Option<u64>; 2],
}

/// How far [`nearest_spare`] looks in each direction, in units (16 MiB).
pub const NEAREST_LOOK_UNITS: u64 = 4096;

/// The nearest spare sectors below and above `wanted` (itself counted as below) that lie at the
/// same place in their unit as `main_sector` and whose unit `is_free`. Looks at no more than
/// [`NEAREST_LOOK_UNITS`] units each way, so that a full spare costs no more than an empty one.
pub fn nearest_spare(
    main_sector: u64,
    wanted: u64,
    (data_start, data_end): (u64, u64),
    is_free: impl Fn(SpareUnit) -> bool,
) -> [Option<u64>; 2] {
    let place = main_sector % UNIT_SECTORS;
    let units = data_end.saturating_sub(data_start) / UNIT_SECTORS;
    let Some(last) = units.checked_sub(1) else { return [None, None] };
    let sector = |unit: u64| {
        let first = unit.checked_mul(UNIT_SECTORS)?.checked_add(data_start)?;
        first.checked_add(place)
    };
    let free = |unit: &u64| is_free(SpareUnit(*unit));
    // The unit that holds `wanted`; its legal sector may lie before or behind `wanted` itself.
    let middle = (wanted.saturating_sub(data_start) / UNIT_SECTORS).min(last);
    let low = middle.saturating_sub(NEAREST_LOOK_UNITS);
    let high = middle.saturating_add(NEAREST_LOOK_UNITS).min(last);
    let below = (low..=middle).rev().filter(|&u| sector(u).is_some_and(|s| s <= wanted));
    let above = (middle..=high).filter(|&u| sector(u).is_some_and(|s| s > wanted));
    [below.into_iter().find(free).and_then(sector), above.into_iter().find(free).and_then(sector)]
}

/// Appends how `command` ended.
pub fn write_done(out: &mut Text<'_>, command: &Command, done: &Done, ground: &Ground) {
    let sector = sector_of(command);
    match *done {
        Done::Remapped { spare_sector, pending } => {
            unit(out, sector).str(" lives at spare sector ").u64(spare_sector).str(" now");
            if pending != 0 {
                out.str("; not readable, left pending on main: ");
                blocks(out, first_of_unit(sector), pending, ground.block_sectors);
            }
        }
        Done::Unremapped => {
            unit(out, sector).str(" is home on main again");
        }
        Done::Verified { unreadable: 0 } => {
            unit(out, sector).str(" reads well where it lives");
        }
        Done::Verified { unreadable } => {
            unit(out, sector).str(": not readable: ");
            blocks(out, first_of_unit(sector), unreadable, ground.block_sectors);
        }
        Done::Marked(marked) => write_marked(out, command, &marked),
        Done::Saved { generation, sequence } => write_saved(out, command, generation, sequence),
        Done::Restored(found) => {
            out.u64(found.pages.into()).str(" pages read again in five copies: ");
            out.u64(found.bad_copies.into()).str(" copies were bad, ");
            out.u64(found.renewed.into()).str(" pages were written anew");
            if found.left != 0 {
                out.str("; not whole: ").u64(found.left.into());
                out.str(" pages, whose entries may be lost when the volume is closed: ");
                out.str("copy the data off now");
            }
        }
        Done::Failed(reason) => {
            out.whole(command.word());
            if names_a_sector(command) {
                out.byte(b' ').u64(sector);
            }
            out.str(": ");
            write_reason(out, command, reason, ground);
        }
    }
}

/// That what asked for nothing in return is done.
fn write_saved(out: &mut Text<'_>, command: &Command, generation: u64, sequence: u64) {
    match command {
        Command::Set(setting) => {
            out.whole(setting.key().name()).str(" is ");
            setting.write_value(out);
            out.str(" now");
        }
        Command::ClearStats => _ = out.str("the counters begin anew"),
        Command::Clear { force: false } => _ = out.str("everything is home on main"),
        Command::Clear { force: true } => _ = out.str("everything that could go home is on main"),
        _ => _ = out.str("durable: generation=").u64(generation).str(" sequence=").u64(sequence),
    }
}

/// What a `mark` did.
fn write_marked(out: &mut Text<'_>, command: &Command, marked: &Marked) {
    let kind = match command {
        Command::Mark { kind, .. } => kind.word(),
        _ => "bad",
    };
    out.str("blocks marked ").whole(kind).str(": ").u64(marked.marked);
    for (number, what) in [
        (marked.on_spare, "living on a spare and left alone: "),
        (marked.gone, "gone already: "),
        (marked.dropped, "not marked, no place for more marks: "),
    ] {
        if number != 0 {
            out.str("; ").str(what).u64(number);
        }
    }
}

/// Why, and what to do next.
fn write_reason(out: &mut Text<'_>, command: &Command, reason: Reason, ground: &Ground) {
    match reason {
        Reason::OutOfRange => {
            out.str("not a whole block of this volume; legal are 0 to ")
                .u64(ground.main_sectors.saturating_sub(u64::from(ground.block_sectors)))
                .str(" in steps of ")
                .u64(u64::from(ground.block_sectors));
        }
        Reason::SpareNotFree => {
            out.str("this spare sector is reserved, in use or worn out");
            write_nearest(out, ground);
        }
        Reason::OtherPlaceInUnit => {
            out.str("this spare sector lies at another place in its unit of 8 sectors than ")
                .u64(sector_of(command));
            write_nearest(out, ground);
        }
        Reason::WriteFailed(class) => {
            out.str("main answered the write with: ")
                .whole(class.word())
                .str("; the unit stays on the spare and is served from there");
        }
        Reason::InDoubt => {
            out.str("too few copies of the metadata took it: it is neither done nor undone, and ")
                .str("these blocks fail until it has been reversed, which is tried every second");
        }
        _ => {
            out.str(plain(reason));
        }
    }
    match (command, reason) {
        (_, Reason::InDoubt | Reason::WriteFailed(_)) => {}
        (Command::Restore, _) => {
            out.str("; pages that were written anew before stay so");
        }
        (Command::Clear { .. }, _) => {
            out.str("; units that went home before this one stay there");
        }
        (Command::Mark { sectors: Some(_), .. }, _) => {
            out.str("; blocks marked before it stay marked");
        }
        _ => {
            out.str("; nothing was changed");
        }
    }
}

/// The reasons that need no number.
const fn plain(reason: Reason) -> &'static str {
    match reason {
        Reason::AlreadyRemapped => {
            "its unit lives on the spare already; unremap it first if it shall live elsewhere"
        }
        Reason::NotRemapped => "its unit lives on main; list shows what has been moved",
        Reason::Busy => "a recovery or another message holds this unit; try again",
        Reason::Full => {
            "no spare unit or no place in the table is left; unremap what can go home, or migrate \
             to a larger spare"
        }
        Reason::Gone => {
            "a block of it is gone, and raw main would serve an old version with success; write \
             the block first (verify and list show which), or use clear force"
        }
        Reason::Unreadable => {
            "a block of it cannot be read where it lives; verify shows which; write it first, or \
             use clear force"
        }
        Reason::DeviceSuspect => {
            "a device does not answer its probes (status shows which); check cable and power, then \
             try again"
        }
        Reason::MetadataDegraded => {
            "fewer than four copies of the metadata can be written, so nothing is moved or \
             removed; replace the spare"
        }
        Reason::CommitFailed => "the metadata could not be written; try again, see status",
        Reason::TimedOut => {
            "recovery_limit_ms has passed without an answer of the device; try again"
        }
        Reason::NotWritable => "the volume is suspended, closing, read-only or failed; see status",
        _ => "refused; see status",
    }
}

/// Appends the nearest legal spare sectors, or the range they lie in.
fn write_nearest(out: &mut Text<'_>, ground: &Ground) {
    match ground.nearest {
        [Some(below), Some(above)] => {
            out.str("; the nearest legal ones are ").u64(below).str(" and ").u64(above)
        }
        [Some(one), None] | [None, Some(one)] => out.str("; the nearest legal one is ").u64(one),
        [None, None] => out
            .str("; none is free near it; legal ones lie from ")
            .u64(ground.data_start)
            .str(" to ")
            .u64(ground.data_end.saturating_sub(1)),
    };
}

/// Appends an event as one line for a log.
pub fn write_event(out: &mut Text<'_>, event: &Event, block_sectors: u32) {
    match *event {
        Event::Moved { main_sector, spare_sector, blocks: mask } => {
            out.str("moved to spare sector ").u64(spare_sector).str(": ");
            blocks(out, main_sector, mask, block_sectors);
        }
        Event::Home { main_sector } => {
            unit(out, main_sector).str(" is home on main again");
        }
        Event::Pending { main_sector, blocks: mask } => {
            out.str("not readable: ");
            blocks(out, main_sector, mask, block_sectors);
        }
        Event::Gone { main_sector, blocks: mask } => {
            out.str("content exists nowhere any more, an error until overwritten: ");
            blocks(out, main_sector, mask, block_sectors);
        }
        Event::Quarantined { spare_sector } => {
            out.str("spare sector ").u64(spare_sector).str(": its unit failed, never used again");
        }
        Event::Suspect(dev) => {
            device(out, dev).str(" failed its probe: nothing is moved until it answers again");
        }
        Event::Healed(dev) => {
            device(out, dev).str(" answered three probes: recovery goes on");
        }
        Event::FlushFailed(dev) => {
            device(out, dev).str(": a flush failed; the next flush of every client fails");
        }
        Event::ReadBackDiffers { spare_sector } => {
            out.str("spare sector ")
                .u64(spare_sector)
                .str(": what was read back is not what was written");
        }
        Event::Vanished(dev) => {
            device(out, dev).str(" vanished: what is on it fails until close and open");
        }
        Event::StillAtDevice(dev) => {
            device(out, dev).str(" still has an operation after the limit: its blocks stay busy");
        }
        Event::InDoubt { main_sector } => {
            unit(out, main_sector).str(": a commit is in doubt, it fails until that is reversed");
        }
        _ => {
            out.str(plain_event(event));
        }
    }
}

/// The events that need no number.
const fn plain_event(event: &Event) -> &'static str {
    match event {
        Event::SpareFull => "the spare is full: the next block that cannot be written is an error",
        Event::MetadataDegraded => {
            "fewer than four copies of the metadata can be written: nothing new is moved"
        }
        Event::TakenOver => {
            "another session has opened this spare: this one has failed and writes nothing more"
        }
        _ => "something happened that this version has no words for",
    }
}

/// Appends the name of a device.
fn device<'t, 'a>(out: &'t mut Text<'a>, dev: Dev) -> &'t mut Text<'a> {
    match dev {
        Dev::Main => out.str("main"),
        Dev::Spare(0) => out.str("the spare"),
        Dev::Spare(row) => out.str("spare ").u64(u64::from(row)),
    }
}

/// Appends which unit `sector` lies in.
fn unit<'t, 'a>(out: &'t mut Text<'a>, sector: u64) -> &'t mut Text<'a> {
    let first = first_of_unit(sector);
    let last = first.saturating_add(UNIT_SECTORS.saturating_sub(1));
    out.str("the unit of sectors ").u64(first).byte(b'-').u64(last)
}

/// Appends the first sectors of the blocks in `mask`, counted from the unit's first sector.
fn blocks(out: &mut Text<'_>, first: u64, mask: u8, block_sectors: u32) {
    let mut before = "sector ";
    for index in (0..8u32).filter(|index| mask & 1u8.wrapping_shl(*index) != 0) {
        let offset = u64::from(index.saturating_mul(block_sectors));
        out.str(before).u64(first.saturating_add(offset));
        before = ", ";
    }
}

/// The first sector of the unit that holds `sector`.
const fn first_of_unit(sector: u64) -> u64 {
    sector & !(UNIT_SECTORS - 1)
}

/// The main sector a message is about; 0 for those about none.
const fn sector_of(command: &Command) -> u64 {
    match command {
        Command::Remap { sector, .. }
        | Command::Unremap { sector }
        | Command::Verify { sector }
        | Command::Mark { sector, .. }
        | Command::Add { main: sector, .. } => *sector,
        _ => 0,
    }
}

/// Whether [`sector_of`] is one that was given.
const fn names_a_sector(command: &Command) -> bool {
    matches!(
        command,
        Command::Remap { .. }
            | Command::Unremap { .. }
            | Command::Verify { .. }
            | Command::Mark { .. }
            | Command::Add { .. }
    )
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
