// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reading a dump with suspicion: the file is bounded, everything in it is checked against itself
//! before it is used, and a fault is told with its line or its entry.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use dmremap_core::settings::{Key, SNAPSHOT_BYTES, Setting, Settings};
use dmremap_engine::host::parse_uuid;
use dmremap_format::{
    BlockState, Cause, ContentRow, Field, HeaderMut, IdentityRow, Layout, MAX_MEMBERS, Member,
    MemberState, NewHeader, PAGE_BYTES, PageBytes, Slot, SlotLimits, State, States, UnitIndex,
    Uuid,
};

use crate::dump::{Content, Dump, Entry, Head, Identity, KIND};
use crate::escape::{escaped, escaped_bytes};
use crate::failure::{Class, Failure, Outcome};
use crate::report::FORMAT_VERSION;

/// A longer file is refused: as many entries as there can be take less.
const MOST_BYTES: u64 = 2 << 30;

/// Why a dump makes no sense: a phrase with its place.
type Fault = String;

impl Dump {
    /// Reads a document and checks its form.
    pub fn read(path: &Path) -> Outcome<Dump> {
        let wrong = |why: &dyn std::fmt::Display| {
            let what = format!("{}: {}", escaped(path), escaped_bytes(&why.to_string()));
            Failure::new(Class::Missing, what).with_next("dmremap dump --spare DEV FILE")
        };
        let file = File::open(path).map_err(|error| {
            Failure::io("open", path, &error).with_next("dmremap dump --spare DEV FILE")
        })?;
        let mut bounded = BufReader::new(file.take(MOST_BYTES));
        let dump: Dump = serde_json::from_reader(&mut bounded).map_err(|error| wrong(&error))?;
        dump.check_form().map_err(|fault| wrong(&fault))?;
        Ok(dump)
    }

    fn check_form(&self) -> Result<(), Fault> {
        let head = &self.head;
        if head.kind != KIND {
            return Err(format!("\"{}\" is no \"{KIND}\"", head.kind));
        }
        let major = head.format_version.major;
        if major != FORMAT_VERSION.major {
            return Err(format!("format version {major}, this program knows 1"));
        }
        if self.entries.len() as u64 > u64::from(head.spare.max_entries) {
            let (entries, most) = (self.entries.len(), head.spare.max_entries);
            return Err(format!("{entries} entries in a table of {most}"));
        }
        Ok(())
    }

    /// The entries as slots, in which whatever lived on a spare is gone. Blocks that had moved and
    /// blocks that were gone before are counted.
    pub fn slots(&self) -> Result<(Vec<Slot>, u64, u64), Fault> {
        let limits = SlotLimits {
            main_sectors: self.head.size_sectors,
            block_sectors: u8::try_from(self.head.block_size / 512).unwrap_or(0),
            spare_units: [0; MAX_MEMBERS],
        };
        let units = self.head.spare.data_end.saturating_sub(self.head.spare.data_start) / 8;
        let (mut mains, mut spares) = (HashSet::new(), HashSet::new());
        let (mut slots, mut moved, mut gone) = (Vec::new(), 0, 0);
        for (number, entry) in self.entries.iter().enumerate() {
            let at = |why: &str| format!("entry {number} (main unit {}): {why}", entry.main_unit);
            let states = entry.states(&limits).map_err(|why| at(&why))?;
            if !mains.insert(entry.main_unit) {
                return Err(at("a second entry for this unit"));
            }
            let on_spare = states.mask(BlockState::Spare);
            if let Some(unit) = entry.spare_unit {
                if unit >= units && entry.member == 0 {
                    return Err(at("spare unit out of range"));
                }
                if !spares.insert((entry.member, unit)) {
                    return Err(at("a second entry on this spare unit"));
                }
            } else if on_spare != 0 {
                return Err(at("block on the spare without a spare unit"));
            }
            moved += u64::from(on_spare.count_ones());
            gone += u64::from(states.mask(BlockState::Gone).count_ones());
            let slot = Slot {
                main: Some(UnitIndex(entry.main_unit)),
                states: states.with(on_spare, BlockState::Gone),
                cause: Cause::Restore,
                time: entry.time,
                ..Slot::FREE
            };
            slot.check(&limits).map_err(|fault| at(fault.word()))?;
            slots.push(slot);
        }
        Ok((slots, moved, gone))
    }

    /// The header of the same volume, `restored`, on the spare that is laid out so. Only seals and
    /// stamp are missing.
    pub fn header(&self, spare: Uuid, layout: Layout) -> Result<Box<PageBytes>, Fault> {
        let head = &self.head;
        let volume = parse_uuid(&head.uuid).ok_or("\"uuid\" is no UUID")?;
        let mut page = Box::new([0; PAGE_BYTES]);
        let legal = |field: Field| format!("{} is not legal", field.word());
        let new = NewHeader {
            volume,
            spare,
            layout,
            main_sectors: head.size_sectors,
            block_bytes: head.block_size,
        };
        let mut header = HeaderMut::blank(&mut page, &new).map_err(legal)?;
        head.fill(&mut header, spare, &layout)?;
        Ok(page)
    }
}

impl Head {
    fn fill(&self, header: &mut HeaderMut<'_>, spare: Uuid, layout: &Layout) -> Result<(), Fault> {
        let legal = |field: Field| format!("{} is not legal", field.word());
        header.set_created_at(self.created_at);
        header.set_name(&self.name).map_err(legal)?;
        header.set_hint(&clipped(&self.main.hint)).map_err(legal)?;
        header.set_state(State::Restored).map_err(legal)?;
        let mut snapshot = [0; SNAPSHOT_BYTES];
        let used = self.settings()?.to_snapshot(&mut snapshot);
        header.set_settings(&snapshot[..used]).map_err(legal)?;
        let member = Member {
            spare,
            index: 0,
            sectors: layout.spare_sectors(),
            hardware: [0; 32],
            state: MemberState::Ok,
        };
        header.set_member(0, Some(&member)).map_err(legal)?;
        let fingerprint = bytes(&self.main.fingerprint).and_then(|all| all.try_into().ok());
        header.set_fingerprint(&fingerprint.ok_or("\"fingerprint\" is no SHA-256")?);
        for (row, Identity { kind, flags, value }) in self.main.identities.iter().enumerate() {
            let value = bytes(value).ok_or(format!("identity {row}: not hexadecimal"))?;
            let identity = IdentityRow { kind: *kind, flags: *flags, value: &value };
            header.set_identity(row, Some(identity)).map_err(legal)?;
        }
        header.set_content_at(self.main.content_at);
        for (row, Content { kind, flags, place, uuid }) in self.main.contents.iter().enumerate() {
            let uuid = parse_uuid(uuid).ok_or(format!("content {row}: no UUID"))?;
            let content = ContentRow { kind: *kind, flags: *flags, place: *place, uuid };
            header.set_content(row, Some(&content)).map_err(legal)?;
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings, Fault> {
        let mut settings = Settings::default();
        for (name, value) in &self.settings {
            // A later version's keys are nothing to a volume that is only read.
            let Some(key) = Key::from_name(name.as_bytes()) else { continue };
            let setting = Setting::parse(key, value.as_bytes());
            settings.set(setting.ok_or(format!("setting {name}: \"{value}\" is not legal"))?);
        }
        Ok(settings)
    }
}

impl Entry {
    /// Its states, if they are those of the blocks its unit has.
    fn states(&self, limits: &SlotLimits) -> Result<States, Fault> {
        let blocks = limits.blocks(UnitIndex(self.main_unit)).count_ones() as usize;
        if blocks == 0 {
            return Err("main unit out of range".into());
        }
        if self.states.len() != blocks {
            return Err(format!("{} states for {blocks} blocks", self.states.len()));
        }
        let mut states = States::ALL_MAIN;
        for (block, letter) in self.states.bytes().enumerate() {
            let state = match letter {
                b'm' => BlockState::Main,
                b's' => BlockState::Spare,
                b'g' => BlockState::Gone,
                _ => return Err("a state is m, s or g".into()),
            };
            states = states.with(1 << block, state);
        }
        Ok(states)
    }
}

/// What of a path hint fits into a header.
fn clipped(hint: &str) -> Vec<u8> {
    hint.bytes().take(256).collect()
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
