// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What `dump` writes and `restore` reads: everything a spare's metadata says, as one JSON document
//! of lines, one entry a line.
//!
//! What is read is hostile: the file is bounded, and nothing of it is used before
//! `Dump::slots` has held it against itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use dmremap_core::settings::{Key, Settings};
use dmremap_format::{
    BlockState, ContentRow, Header, IdentityRow, Judgement, MAX_CONTENTS, MAX_IDENTITIES,
    NEEDED_VALID, Refusal, SLOT_HAS_CRC, Slot, SlotLimits,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::{FORMAT_VERSION, FormatVersion, text, uuid_text};
use crate::survey::{Found, Survey};

/// What the document says it is.
pub const KIND: &str = "dm-remap dump";

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// All but what there may be a lot of.
    #[serde(flatten)]
    pub head: Head,
    /// Spare units that are never handed out again.
    pub quarantined: Vec<Quarantined>,
    /// What has moved or is gone, in order of main's units.
    pub entries: Vec<Entry>,
}

/// The volume and its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT_VERSION`].
    pub format_version: FormatVersion,
    /// [`KIND`].
    pub kind: String,
    /// Every page was proven by two valid copies, and every slot made sense.
    pub complete: bool,
    /// What was not, each a phrase with its place.
    pub faults: Vec<String>,
    /// The volume's name; empty if it has none.
    pub name: String,
    /// The volume.
    pub uuid: String,
    /// The state in the header: `clean`, `dirty` after a crash or while it runs, `restored`.
    pub state: String,
    /// When the volume was made, seconds since 1970.
    pub created_at: u64,
    /// The highest stamp in it.
    pub stamp: Stamp,
    /// Size of the volume in sectors.
    pub size_sectors: u64,
    /// The volume's block in bytes.
    pub block_size: u32,
    /// The spare.
    pub spare: Spare,
    /// What main was known by.
    pub main: Main,
    /// Settings by their names.
    pub settings: BTreeMap<String, String>,
}

/// A stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Raised by every open.
    pub generation: u64,
    /// Counted up by every commit.
    pub sequence: u64,
}

/// The spare and its layout, in sectors unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// Its UUID.
    pub uuid: String,
    /// Its index in the volume.
    pub index: u32,
    /// Its size at format.
    pub sectors: u64,
    /// Its physical block in bytes.
    pub physical_block: u32,
    /// Sector of unit 0.
    pub data_start: u64,
    /// Where units end.
    pub data_end: u64,
    /// Entries the table can hold.
    pub max_entries: u32,
    /// Pages of it in each copy.
    pub table_pages: u32,
}

/// What main was known by: rows of the header, bytes as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    /// Where it was last seen; shown, never opened.
    pub hint: String,
    /// Hardware.
    pub identities: Vec<Identity>,
    /// When the content UUIDs were taken, seconds since 1970.
    pub content_at: u64,
    /// UUIDs of what lies on it.
    pub contents: Vec<Content>,
    /// SHA-256 over its stable identifiers.
    pub fingerprint: String,
}

/// An identity of main.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What it is, by number.
    pub kind: u8,
    /// Proof, folded.
    pub flags: u8,
    /// The identifier.
    pub value: String,
}

/// A UUID found on main.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Of what, by number.
    pub kind: u16,
    /// Highest bits of the place.
    pub flags: u16,
    /// Lower bits of the place.
    pub place: u32,
    /// The identifier.
    pub uuid: String,
}

/// A quarantined unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Unit of the spare.
    pub spare_unit: u64,
    /// Row of the member list.
    pub member: u8,
}

/// A unit of main with an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unit of main: sectors from 8 times this on.
    pub main_unit: u64,
    /// Unit of the spare, if it has one.
    pub spare_unit: Option<u64>,
    /// Row of the member list whose spare that is.
    pub member: u8,
    /// A letter a block: `m` on main, `s` on the spare, `g` gone.
    pub states: String,
    /// Why it was made.
    pub cause: String,
    /// When, seconds since 2020.
    pub time: u32,
    /// CRC32C of the blocks on the spare, if it is known.
    pub crc: Option<u32>,
}

impl Dump {
    /// Everything `survey` found, or `None` if there is no volume.
    pub fn of(survey: &Survey) -> Option<Dump> {
        let (found, header) = (survey.volume.as_ref().ok()?, survey.header()?);
        let limits = found.limits(&header);
        let faults = faults(survey, found);
        let head = Head {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            complete: faults.is_empty(),
            faults,
            name: header.name().to_owned(),
            uuid: uuid_text(header.volume()),
            state: header.state().word().to_owned(),
            created_at: header.created_at(),
            stamp: highest(found),
            size_sectors: header.main_sectors(),
            block_size: header.block_bytes(),
            spare: Spare::of(found, &header),
            main: Main::of(&header),
            settings: settings_of(&header),
        };
        let (mut quarantined, mut entries) = (Vec::new(), Vec::new());
        for (_, slot) in &found.slots {
            match (slot.main, slot.spare) {
                (None, Some(unit)) => {
                    quarantined.push(Quarantined { spare_unit: unit.0, member: slot.member });
                }
                _ => entries.extend(Entry::of(slot, &limits)),
            }
        }
        entries.sort_by_key(|entry| entry.main_unit);
        Some(Dump { head, quarantined, entries })
    }

    /// The document as text: a line a field, a line an entry.
    pub fn text(&self) -> serde_json::Result<String> {
        let mut out = String::from("{\n");
        if let Value::Object(fields) = serde_json::to_value(&self.head)? {
            for (key, value) in fields {
                let _ = writeln!(out, "  \"{key}\": {value},");
            }
        }
        lines(&mut out, "quarantined", &self.quarantined)?;
        out.push_str(",\n");
        lines(&mut out, "entries", &self.entries)?;
        out.push_str("\n}\n");
        Ok(out)
    }
}

impl Spare {
    fn of(found: &Found, header: &Header<'_>) -> Spare {
        Spare {
            uuid: uuid_text(header.spare()),
            index: header.spare_index(),
            sectors: found.layout.spare_sectors(),
            physical_block: found.layout.physical_block_bytes(),
            data_start: found.layout.data_start(),
            data_end: found.layout.data_end(),
            max_entries: found.layout.max_entries(),
            table_pages: found.layout.pages(),
        }
    }
}

impl Main {
    fn of(header: &Header<'_>) -> Main {
        let identity = |row: IdentityRow<'_>| {
            let (kind, flags, value) = (row.kind, row.flags, hex(row.value));
            Identity { kind, flags, value }
        };
        let content = |row: ContentRow| Content {
            kind: row.kind,
            flags: row.flags,
            place: row.place,
            uuid: hex(&row.uuid.0),
        };
        Main {
            hint: String::from_utf8_lossy(header.hint()).into_owned(),
            identities: (0..MAX_IDENTITIES)
                .filter_map(|row| header.identity(row))
                .map(identity)
                .collect(),
            content_at: header.content_at(),
            contents: (0..MAX_CONTENTS)
                .filter_map(|row| header.content(row))
                .map(content)
                .collect(),
            fingerprint: hex(&header.fingerprint()),
        }
    }
}

impl Entry {
    fn of(slot: &Slot, limits: &SlotLimits) -> Option<Entry> {
        let main = slot.main?;
        let blocks = limits.blocks(main).count_ones() as u8;
        Some(Entry {
            main_unit: main.0,
            spare_unit: slot.spare.map(|unit| unit.0),
            member: slot.member,
            states: (0..blocks).map(|block| letter(slot.states.get(block))).collect(),
            cause: slot.cause.word().to_owned(),
            time: slot.time,
            crc: (slot.flags & SLOT_HAS_CRC != 0).then_some(slot.crc),
        })
    }
}

fn letter(state: BlockState) -> char {
    match state {
        BlockState::Main => 'm',
        BlockState::Spare => 's',
        BlockState::Gone => 'g',
    }
}

/// What is not proven, or makes no sense.
fn faults(survey: &Survey, found: &Found) -> Vec<String> {
    let mut faults = survey.refusals();
    let mut alone = |name: String, judged: &Result<Judgement, Refusal>| {
        if judged.is_ok_and(|judged| judged.valid.count() < NEEDED_VALID) {
            faults.push(format!("{name}: taken from one copy, which may be an old one"));
        }
    };
    alone("headers".to_owned(), &Ok(found.judgement.page));
    for (number, page) in found.pages.iter().enumerate() {
        alone(format!("table page {number}"), &page.judged);
    }
    faults
}

fn highest(found: &Found) -> Stamp {
    let stamps = found.pages.iter().flat_map(|page| page.judged).map(|judged| judged.stamp);
    let stamp = stamps.fold(found.judgement.page.stamp, Ord::max);
    Stamp { generation: stamp.generation, sequence: stamp.sequence }
}

fn settings_of(header: &Header<'_>) -> BTreeMap<String, String> {
    let (settings, _) = Settings::from_snapshot(header.settings());
    let value = |key| text(|out| settings.get(key).write_value(out));
    Key::ALL.into_iter().map(|key| (key.name().to_owned(), value(key))).collect()
}

/// Appends the array `key`, one element a line.
fn lines<T: Serialize>(out: &mut String, key: &str, all: &[T]) -> serde_json::Result<()> {
    let _ = write!(out, "  \"{key}\": [");
    for (number, one) in all.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n    {}", serde_json::to_string(one)?);
    }
    out.push_str(if all.is_empty() { "]" } else { "\n  ]" });
    Ok(())
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
