// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One slot of the table: an entry, a quarantined spare unit, or free.
//!
//! 32 bytes: main unit (6, all ones = none), spare unit (5, all ones = none), member (1), states
//! (2), flags (1), cause (1), time (4), CRC32C (4), reserved (8). A slot without a main unit is
//! free, or, with a spare unit, a quarantine. What a slot says is checked in two steps: [`Slot`] as
//! decoded is possible at all, [`Slot::check`] holds it against the sizes of the volume. That no
//! unit has two entries can only be seen over the whole table.

use crate::at::{Span, slot as at};
use crate::types::{BlockState, PageBytes, SpareUnit, States, UNIT_SECTORS, UnitIndex};

/// Slots in a table page.
pub const SLOTS_PER_PAGE: u8 = 126;
/// Bytes of a slot.
pub const SLOT_BYTES: usize = 32;
/// Rows of the member list.
pub const MAX_MEMBERS: usize = 8;
/// Units of main there can be: 44 bits.
pub const MAX_MAIN_UNITS: u64 = 1 << 44;
/// Units of a spare there can be: 40 bits, of which the highest number means none.
pub const MAX_SPARE_UNITS: u64 = (1 << 40) - 1;
/// Seconds from the start of 1970 to that of 2020 (UTC), where the time of a slot begins.
pub const SLOT_EPOCH: u64 = 1_577_836_800;

/// [`Slot::flags`]: [`Slot::crc`] holds the CRC32C of the unit's `spare` blocks in ascending order.
pub const SLOT_HAS_CRC: u8 = 1;

const NO_MAIN: u64 = (1 << 48) - 1;
const NO_SPARE: u64 = (1 << 40) - 1;

/// Why an entry or a quarantine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Not recorded.
    #[default]
    Unknown,
    /// A write failed.
    WriteError,
    /// A read succeeded at last, after errors: relocated while it could be read.
    WeakRead,
    /// The message `remap`.
    Remap,
    /// The message `add`.
    Add,
    /// The unit's spare unit failed, and it was moved on; of a quarantine: the unit failed.
    SpareFailed,
    /// Imported from a map of bad areas.
    Import,
    /// Restored from a dump.
    Restore,
    /// Its bytes did not match their CRC.
    Mismatch,
    /// The message `clear force`.
    Clear,
    /// Moved by the scan, near bad blocks.
    Scan,
    /// Recorded by a newer version.
    Other(u8),
}

/// Causes by their number on disk.
const CAUSES: [Cause; 11] = [
    Cause::Unknown,
    Cause::WriteError,
    Cause::WeakRead,
    Cause::Remap,
    Cause::Add,
    Cause::SpareFailed,
    Cause::Import,
    Cause::Restore,
    Cause::Mismatch,
    Cause::Clear,
    Cause::Scan,
];

impl Cause {
    /// The cause with this number on disk.
    #[must_use]
    pub fn from_byte(byte: u8) -> Cause {
        CAUSES.get(usize::from(byte)).copied().unwrap_or(Cause::Other(byte))
    }

    /// Its number on disk.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Cause::Unknown => 0,
            Cause::WriteError => 1,
            Cause::WeakRead => 2,
            Cause::Remap => 3,
            Cause::Add => 4,
            Cause::SpareFailed => 5,
            Cause::Import => 6,
            Cause::Restore => 7,
            Cause::Mismatch => 8,
            Cause::Clear => 9,
            Cause::Scan => 10,
            Cause::Other(byte) => byte,
        }
    }

    /// Whether a person asked for it.
    #[must_use]
    pub const fn is_manual(self) -> bool {
        matches!(self, Cause::Remap | Cause::Add | Cause::Import | Cause::Restore | Cause::Clear)
    }

    /// One word for lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Unknown => "unknown",
            Cause::WriteError => "write-error",
            Cause::WeakRead => "weak-read",
            Cause::Remap => "remap",
            Cause::Add => "add",
            Cause::SpareFailed => "spare-failed",
            Cause::Import => "import",
            Cause::Restore => "restore",
            Cause::Mismatch => "mismatch",
            Cause::Clear => "clear",
            Cause::Scan => "scan",
            Cause::Other(_) => "other",
        }
    }
}

/// What is wrong with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlotFault {
    /// The page has no slot of this number.
    NoSuchSlot,
    /// The main unit lies beyond main's end (or beyond what 44 bits can name).
    MainOutOfRange,
    /// The spare unit lies beyond what that spare hands out (or beyond 40 bits).
    SpareOutOfRange,
    /// The member is no row of the member list, or an empty one.
    NoSuchMember,
    /// A block state of 3.
    BadState,
    /// A block is in state `spare` and the entry names no spare unit.
    SpareWithoutUnit,
    /// An entry of which every block lives on main: its removal was forgotten.
    NothingMoved,
    /// A block beyond the blocks of the unit, or beyond main's end, has a state.
    StateBeyondUnit,
    /// A quarantine with block states.
    QuarantineWithStates,
    /// Flags this version does not know.
    UnknownFlags,
}

impl SlotFault {
    /// One phrase for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            SlotFault::NoSuchSlot => "no such slot",
            SlotFault::MainOutOfRange => "main unit out of range",
            SlotFault::SpareOutOfRange => "spare unit out of range",
            SlotFault::NoSuchMember => "no such spare",
            SlotFault::BadState => "impossible block state",
            SlotFault::SpareWithoutUnit => "block on the spare without a spare unit",
            SlotFault::NothingMoved => "entry that moves nothing",
            SlotFault::StateBeyondUnit => "state of a block that does not exist",
            SlotFault::QuarantineWithStates => "quarantine with block states",
            SlotFault::UnknownFlags => "unknown flags",
        }
    }
}

/// The sizes a slot is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLimits {
    /// Main's size in sectors.
    pub main_sectors: u64,
    /// The volume's block in sectors: 1, 2, 4 or 8.
    pub block_sectors: u8,
    /// Units each row of the member list hands out; 0 for an empty row.
    pub spare_units: [u64; MAX_MEMBERS],
}

impl SlotLimits {
    /// The blocks that exist in `unit`, bit i = block i; 0 beyond main's end.
    #[must_use]
    pub fn blocks(&self, unit: UnitIndex) -> u8 {
        let block = u64::from(self.block_sectors.clamp(1, UNIT_SECTORS as u8));
        let start = unit.0.saturating_mul(UNIT_SECTORS);
        let sectors = self.main_sectors.saturating_sub(start).min(UNIT_SECTORS);
        let count = sectors.checked_div(block).unwrap_or(0) as u32;
        // count is at most 8; a shift by 8 leaves nothing to take away.
        !(u8::MAX.checked_shl(count).unwrap_or(0))
    }
}

/// A slot as decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The unit of main; none in a free slot and in a quarantine.
    pub main: Option<UnitIndex>,
    /// Its unit on the spare, or the quarantined one.
    pub spare: Option<SpareUnit>,
    /// Row of the member list whose spare that is, 0 to 7.
    pub member: u8,
    /// Where the unit's blocks live.
    pub states: States,
    /// [`SLOT_HAS_CRC`].
    pub flags: u8,
    /// Why it was made.
    pub cause: Cause,
    /// When, in seconds since the start of 2020 (UTC); for people.
    pub time: u32,
    /// CRC32C of the `spare` blocks if the flag says so, else 0.
    pub crc: u32,
}

impl Slot {
    /// A free slot.
    pub const FREE: Slot = Slot {
        main: None,
        spare: None,
        member: 0,
        states: States::ALL_MAIN,
        flags: 0,
        cause: Cause::Unknown,
        time: 0,
        crc: 0,
    };

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.main.is_none() && self.spare.is_none()
    }

    /// Whether it keeps a spare unit from being used.
    #[must_use]
    pub const fn is_quarantine(&self) -> bool {
        self.main.is_none() && self.spare.is_some()
    }

    /// What is wrong with it whatever the volume's sizes are.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_itself(&self) -> Result<(), SlotFault> {
        if self.is_free() {
            return Ok(());
        }
        if self.main.is_some_and(|main| main.0 >= MAX_MAIN_UNITS) {
            return Err(SlotFault::MainOutOfRange);
        }
        if self.spare.is_some_and(|spare| spare.0 >= MAX_SPARE_UNITS) {
            return Err(SlotFault::SpareOutOfRange);
        }
        if usize::from(self.member) >= MAX_MEMBERS {
            return Err(SlotFault::NoSuchMember);
        }
        if self.flags & !SLOT_HAS_CRC != 0 {
            return Err(SlotFault::UnknownFlags);
        }
        if self.is_quarantine() {
            return match self.states == States::ALL_MAIN {
                true => Ok(()),
                false => Err(SlotFault::QuarantineWithStates),
            };
        }
        if self.states == States::ALL_MAIN {
            return Err(SlotFault::NothingMoved);
        }
        if self.spare.is_none() && self.states.mask(BlockState::Spare) != 0 {
            return Err(SlotFault::SpareWithoutUnit);
        }
        Ok(())
    }

    /// Holds the slot against the sizes of the volume.
    ///
    /// # Errors
    /// The first fault found, those of [`Slot::check_itself`] first.
    pub fn check(&self, limits: &SlotLimits) -> Result<(), SlotFault> {
        self.check_itself()?;
        if let Some(spare) = self.spare {
            let units = limits.spare_units.get(usize::from(self.member)).copied().unwrap_or(0);
            if units == 0 {
                return Err(SlotFault::NoSuchMember);
            }
            if spare.0 >= units {
                return Err(SlotFault::SpareOutOfRange);
            }
        }
        if let Some(main) = self.main {
            let blocks = limits.blocks(main);
            if blocks == 0 {
                return Err(SlotFault::MainOutOfRange);
            }
            if !self.states.mask(BlockState::Main) & !blocks != 0 {
                return Err(SlotFault::StateBeyondUnit);
            }
        }
        Ok(())
    }

    /// Decodes the slot that lies at `span`.
    pub(crate) fn read(page: &PageBytes, span: Span) -> Result<Slot, SlotFault> {
        let number = |field: Span| span.field(field).uint(page);
        let main = Some(number(at::MAIN)).filter(|unit| *unit != NO_MAIN).map(UnitIndex);
        let spare = Some(number(at::SPARE)).filter(|unit| *unit != NO_SPARE).map(SpareUnit);
        if main.is_none() && spare.is_none() {
            return Ok(Slot::FREE);
        }
        let states = span.field(at::STATES).u16(page);
        let slot = Slot {
            main,
            spare,
            member: span.field(at::MEMBER).u8(page),
            states: States::from_bits(states).ok_or(SlotFault::BadState)?,
            flags: span.field(at::FLAGS).u8(page),
            cause: Cause::from_byte(span.field(at::CAUSE).u8(page)),
            time: span.field(at::TIME).u32(page),
            crc: span.field(at::CRC).u32(page),
        };
        slot.check_itself()?;
        Ok(slot)
    }

    /// Encodes the slot at `span`; the reserved bytes become zero. Of a free slot there is one
    /// form.
    pub(crate) fn write(&self, page: &mut PageBytes, span: Span) {
        let slot = if self.is_free() { &Slot::FREE } else { self };
        let mut number = |field: Span, value: u64| span.field(field).put_uint(page, value);
        number(at::MAIN, slot.main.map_or(NO_MAIN, |unit| unit.0));
        number(at::SPARE, slot.spare.map_or(NO_SPARE, |unit| unit.0));
        number(at::MEMBER, u64::from(slot.member));
        number(at::STATES, u64::from(slot.states.bits()));
        number(at::FLAGS, u64::from(slot.flags));
        number(at::CAUSE, u64::from(slot.cause.byte()));
        number(at::TIME, u64::from(slot.time));
        number(at::CRC, u64::from(slot.crc));
        number(at::RESERVED, 0);
    }
}

/// The time of a slot for a time in seconds since 1970; times it cannot hold become the nearest.
#[must_use]
pub fn slot_time(unix_s: u64) -> u32 {
    u32::try_from(unix_s.saturating_sub(SLOT_EPOCH)).unwrap_or(u32::MAX)
}
