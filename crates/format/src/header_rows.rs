// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What stands in the header's rows and sections, as values.

use crate::at::{Span, content, extension, health, identity, member};
use crate::header::Field;
use crate::layout::SectorRange;
use crate::types::{PageBytes, Uuid};

/// Rows for identities of main.
pub const MAX_IDENTITIES: usize = 8;
/// Rows for content UUIDs of main.
pub const MAX_CONTENTS: usize = 16;
/// Rows of the extension directory.
pub const MAX_EXTENSIONS: usize = 12;
/// Bytes of the value of an identity.
pub const MAX_IDENTITY_BYTES: usize = identity::VALUE.len;

/// What a spare is to the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// The table holder.
    Table = 1,
    /// A data member: units, no table.
    Data = 2,
}

/// What a header says of its spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Closed with everything settled.
    Clean,
    /// Open, or not closed properly.
    Dirty,
    /// Being added to the volume.
    Joining,
    /// The table lives on this other spare now. A fence.
    MovedTo(Uuid),
    /// Taken out of the volume. A fence.
    Removed,
    /// The volume was dissolved, everything is back on main. A fence.
    Released,
    /// Restored from a dump: read-only.
    Restored,
}

/// Why a spare must not be opened as it is, whatever its other copies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// The table lives on this other spare.
    MovedTo(Uuid),
    /// Taken out of the volume.
    Removed,
    /// The volume was dissolved.
    Released,
}

impl State {
    /// The fence it is, if it is one: a single valid page that says so refuses the spare.
    #[must_use]
    pub const fn fence(self) -> Option<Fence> {
        match self {
            State::MovedTo(spare) => Some(Fence::MovedTo(spare)),
            State::Removed => Some(Fence::Removed),
            State::Released => Some(Fence::Released),
            State::Clean | State::Dirty | State::Joining | State::Restored => None,
        }
    }

    /// One word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Clean => "clean",
            State::Dirty => "dirty",
            State::Joining => "joining",
            State::MovedTo(_) => "moved-to",
            State::Removed => "removed",
            State::Released => "released",
            State::Restored => "restored",
        }
    }

    /// Its number on disk.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            State::Clean => 1,
            State::Dirty => 2,
            State::Joining => 3,
            State::MovedTo(_) => 4,
            State::Removed => 5,
            State::Released => 6,
            State::Restored => 7,
        }
    }

    /// The state of this number; `moved_to` must name a spare just where it means something.
    pub(crate) fn from_byte(byte: u8, moved_to: Uuid) -> Option<State> {
        let state = match byte {
            1 => State::Clean,
            2 => State::Dirty,
            3 => State::Joining,
            4 => State::MovedTo(moved_to),
            5 => State::Removed,
            6 => State::Released,
            7 => State::Restored,
            _ => return None,
        };
        let named = moved_to != Uuid::default();
        (named == matches!(state, State::MovedTo(_))).then_some(state)
    }
}

/// Who has the volume open, written by every open. All zero = unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// First 16 bytes of SHA-256(machine-id, "dm-remap").
    pub host: Uuid,
    /// The host's boot.
    pub boot: Uuid,
    /// Random, new with each open.
    pub session: Uuid,
    /// When, in seconds since 1970 (UTC); for people.
    pub opened_at: u64,
}

/// What becomes of a spare in the member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MemberState {
    /// In use.
    Ok = 1,
    /// Being emptied: nothing new goes there.
    Draining = 2,
    /// Not there; its blocks fail until it is back.
    Away = 3,
}

/// A row of the member list. Rows keep their place: slots name them by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The spare, not none.
    pub spare: Uuid,
    /// Never given twice in the life of a volume.
    pub index: u32,
    /// Its size in sectors.
    pub sectors: u64,
    /// SHA-256 over its hardware identity; all zero = unknown.
    pub hardware: [u8; 32],
    /// What becomes of it.
    pub state: MemberState,
}

impl Member {
    /// The row at `row`; `None` if it is empty.
    pub(crate) fn read(page: &PageBytes, row: Span) -> Result<Option<Member>, Field> {
        let spare = row.field(member::UUID).uuid(page);
        let state = match row.field(member::STATE).u8(page) {
            0 if spare == Uuid::default() => return Ok(None),
            1 => MemberState::Ok,
            2 => MemberState::Draining,
            3 => MemberState::Away,
            _ => return Err(Field::Members),
        };
        let member = Member {
            spare,
            index: row.field(member::INDEX).u32(page),
            sectors: row.field(member::SECTORS).uint(page),
            hardware: row.field(member::HARDWARE).array(page),
            state,
        };
        if spare == Uuid::default() { Err(Field::Members) } else { Ok(Some(member)) }
    }

    pub(crate) fn write(&self, page: &mut PageBytes, row: Span) {
        row.put(page, &[]);
        row.field(member::UUID).put(page, &self.spare.0);
        row.field(member::INDEX).put_uint(page, u64::from(self.index));
        row.field(member::SECTORS).put_uint(page, self.sectors);
        row.field(member::HARDWARE).put(page, &self.hardware);
        row.field(member::STATE).put_uint(page, u64::from(self.state as u8));
    }
}

/// One identity of main: what kind of identifier, and the identifier. What the kinds and flags mean
/// is the business of those who read devices; 0 is no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityRow<'a> {
    /// Not 0.
    pub kind: u8,
    /// Such as whether it is proof.
    pub flags: u8,
    /// At most [`MAX_IDENTITY_BYTES`].
    pub value: &'a [u8],
}

impl<'a> IdentityRow<'a> {
    pub(crate) fn read(page: &'a PageBytes, row: Span) -> Result<Option<IdentityRow<'a>>, Field> {
        let kind = row.field(identity::KIND).u8(page);
        if kind == 0 {
            return Ok(None);
        }
        let len = usize::from(row.field(identity::LEN).u8(page));
        let value = row.field(identity::VALUE).slice(page).get(..len);
        let value = value.ok_or(Field::Identities)?;
        Ok(Some(IdentityRow { kind, flags: row.field(identity::FLAGS).u8(page), value }))
    }

    pub(crate) fn write(&self, page: &mut PageBytes, row: Span) {
        row.put(page, &[]);
        row.field(identity::KIND).put_uint(page, u64::from(self.kind));
        row.field(identity::FLAGS).put_uint(page, u64::from(self.flags));
        row.field(identity::LEN).put_uint(page, self.value.len() as u64);
        row.field(identity::VALUE).put(page, self.value);
    }
}

/// One UUID found in main's content: of a partition table or a file system. What the kinds mean is
/// the business of the probe that finds them; 0 is no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRow {
    /// Not 0.
    pub kind: u16,
    /// The upper part of its place, see [`Content`](crate::identity::Content).
    pub flags: u16,
    /// The lower part of its place.
    pub place: u32,
    /// The UUID, or a shorter identifier with zeros behind it.
    pub uuid: Uuid,
}

impl ContentRow {
    pub(crate) fn read(page: &PageBytes, row: Span) -> Option<ContentRow> {
        let kind = row.field(content::KIND).u16(page);
        (kind != 0).then(|| ContentRow {
            kind,
            flags: row.field(content::FLAGS).u16(page),
            place: row.field(content::PLACE).u32(page),
            uuid: row.field(content::UUID).uuid(page),
        })
    }

    pub(crate) fn write(&self, page: &mut PageBytes, row: Span) {
        row.field(content::KIND).put_uint(page, u64::from(self.kind));
        row.field(content::FLAGS).put_uint(page, u64::from(self.flags));
        row.field(content::PLACE).put_uint(page, u64::from(self.place));
        row.field(content::UUID).put(page, &self.uuid.0);
    }
}

/// The health section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// End of the last whole scan, seconds since 1970; 0 = never.
    pub last_scan: u64,
    /// Sector of main the scan goes on from.
    pub cursor: u64,
    /// Errors the scans have found.
    pub errors_detected: u64,
    /// Time the scans have taken from requests, in milliseconds.
    pub overhead_ms: u64,
    /// Whole scans.
    pub scans_completed: u32,
    /// Units moved before they failed.
    pub predictive_remaps: u32,
    /// Seconds between scans; 0 = none.
    pub interval_s: u32,
    /// The scan's.
    pub flags: u16,
    /// 0 to 100.
    pub score: u8,
    /// Of the scan under way, percent, 0 to 100.
    pub progress: u8,
}

impl Health {
    pub(crate) fn read(page: &PageBytes, at: Span) -> Result<Health, Field> {
        let health = Health {
            last_scan: at.field(health::LAST_SCAN).uint(page),
            cursor: at.field(health::CURSOR).uint(page),
            errors_detected: at.field(health::ERRORS_DETECTED).uint(page),
            overhead_ms: at.field(health::OVERHEAD_MS).uint(page),
            scans_completed: at.field(health::SCANS_COMPLETED).u32(page),
            predictive_remaps: at.field(health::PREDICTIVE_REMAPS).u32(page),
            interval_s: at.field(health::INTERVAL_S).u32(page),
            flags: at.field(health::FLAGS).u16(page),
            score: at.field(health::SCORE).u8(page),
            progress: at.field(health::PROGRESS).u8(page),
        };
        health.check()?;
        Ok(health)
    }

    pub(crate) const fn check(&self) -> Result<(), Field> {
        if self.score > 100 || self.progress > 100 { Err(Field::Health) } else { Ok(()) }
    }

    pub(crate) fn write(&self, page: &mut PageBytes, at: Span) {
        at.put(page, &[]);
        at.field(health::LAST_SCAN).put_uint(page, self.last_scan);
        at.field(health::CURSOR).put_uint(page, self.cursor);
        at.field(health::ERRORS_DETECTED).put_uint(page, self.errors_detected);
        at.field(health::OVERHEAD_MS).put_uint(page, self.overhead_ms);
        at.field(health::SCANS_COMPLETED).put_uint(page, u64::from(self.scans_completed));
        at.field(health::PREDICTIVE_REMAPS).put_uint(page, u64::from(self.predictive_remaps));
        at.field(health::INTERVAL_S).put_uint(page, u64::from(self.interval_s));
        at.field(health::FLAGS).put_uint(page, u64::from(self.flags));
        at.field(health::SCORE).put_uint(page, u64::from(self.score));
        at.field(health::PROGRESS).put_uint(page, u64::from(self.progress));
    }
}

/// A row of the directory of extension areas, for what comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it is, not 0.
    pub kind: u16,
    /// Of its own format.
    pub version: u16,
    /// Bytes in use, at most its sectors.
    pub length_bytes: u32,
    /// First sector on the spare.
    pub sector: u64,
    /// Sectors set aside for it, at least one.
    pub sectors: u64,
    /// Its own.
    pub flags: u32,
}

impl Extension {
    /// Its sectors.
    #[must_use]
    pub const fn area(&self) -> SectorRange {
        SectorRange { sector: self.sector, sectors: self.sectors }
    }

    pub(crate) fn read(page: &PageBytes, row: Span) -> Option<Extension> {
        let kind = row.field(extension::TYPE).u16(page);
        (kind != 0).then(|| Extension {
            kind,
            version: row.field(extension::VERSION).u16(page),
            length_bytes: row.field(extension::LENGTH).u32(page),
            sector: row.field(extension::SECTOR).uint(page),
            sectors: row.field(extension::SECTORS).uint(page),
            flags: row.field(extension::FLAGS).u32(page),
        })
    }

    pub(crate) fn write(&self, page: &mut PageBytes, row: Span) {
        row.put(page, &[]);
        row.field(extension::TYPE).put_uint(page, u64::from(self.kind));
        row.field(extension::VERSION).put_uint(page, u64::from(self.version));
        row.field(extension::LENGTH).put_uint(page, u64::from(self.length_bytes));
        row.field(extension::SECTOR).put_uint(page, self.sector);
        row.field(extension::SECTORS).put_uint(page, self.sectors);
        row.field(extension::FLAGS).put_uint(page, u64::from(self.flags));
    }
}
