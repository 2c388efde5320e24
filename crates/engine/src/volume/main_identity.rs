// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Main's identity, between the devices and the rules (DESIGN 6, "Main's identity").
//!
//! [`dmremap_format::identity`] says what follows from two identities; here they are taken: the
//! hardware's from the device, the content's by reading main, both as they were from the header.
//!
//! Content is read on main itself. What has an entry, or cannot be read, is left out of the
//! comparison: main is not the authority for it. The header goes on keeping what it said of that.

use std::fmt::Write;

use dmremap_core::commit::{HeaderChange, Identity as IdentityValue};
use dmremap_core::resolve::Shared;
use dmremap_format::identity::{
    self, Accept, Compared, Content, Hardware, HardwareKind, Judgement, compare, judge,
};
use dmremap_format::{
    ContentRow, Depth, Header, MAX_CONTENTS, MAX_IDENTITIES, Prober, SECTOR_BYTES, Window,
};
use sha2::{Digest, Sha256};

use crate::device::Device;
use crate::device::identity::Identity;

use super::error::VolumeError;
use super::memory::Words;

/// What a header keeps, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) identities: [Option<IdentityValue>; MAX_IDENTITIES],
    pub(crate) contents: [Option<ContentRow>; MAX_CONTENTS],
}

impl Kept {
    /// The rows of `header`.
    pub(crate) fn of(header: &Header<'_>) -> Kept {
        let mut kept = Kept::default();
        for (at, row) in kept.identities.iter_mut().enumerate() {
            *row = header.identity(at).and_then(|row| IdentityValue::new(&row));
        }
        for (at, row) in kept.contents.iter_mut().enumerate() {
            *row = header.content(at);
        }
        kept
    }

    /// The identifiers; what a later version has added is left out.
    pub(crate) fn hardware(&self) -> Vec<Hardware> {
        self.identities.iter().flatten().filter_map(|row| Hardware::from_row(&row.row())).collect()
    }

    /// The contents, without those of a later version.
    pub(crate) fn contents(&self) -> Vec<Content> {
        self.contents.iter().flatten().filter_map(Content::from_row).collect()
    }

    /// The rows when `hardware` takes the place of all identifiers.
    pub(crate) fn with_hardware(&self, hardware: &[Hardware]) -> Kept {
        let mut kept = Kept { identities: [None; MAX_IDENTITIES], ..self.clone() };
        for (row, one) in kept.identities.iter_mut().zip(hardware) {
            *row = IdentityValue::new(&one.row());
        }
        kept
    }

    /// The rows when `contents` takes the place of the contents known here; rows of a later version
    /// stay where they are.
    pub(crate) fn with_contents(&self, contents: &[Content]) -> Kept {
        let mut kept = self.clone();
        let is_ours =
            |row: &Option<ContentRow>| row.is_none_or(|r| Content::from_row(&r).is_some());
        let mut new = contents.iter();
        for row in kept.contents.iter_mut().filter(|row| is_ours(row)) {
            *row = new.next().map(Content::row);
        }
        kept
    }

    /// The header's changes that make these rows those of `new`.
    pub(crate) fn changes(&self, new: &Kept) -> Vec<HeaderChange> {
        let identities = self.identities.iter().zip(&new.identities).enumerate();
        let identities = identities
            .filter(|(_, (old, new))| old != new)
            .map(|(row, (_, new))| HeaderChange::Identity { row: row as u8, identity: *new });
        let contents = self.contents.iter().zip(&new.contents).enumerate();
        let contents = contents
            .filter(|(_, (old, new))| old != new)
            .map(|(row, (_, new))| HeaderChange::Content { row: row as u8, content: *new });
        identities.chain(contents).collect()
    }
}

/// A main that is taken for the one it is said to be.
pub(crate) struct Known {
    /// What the header is to keep of it from now on.
    pub(crate) kept: Kept,
    /// It is provably the same, but its content is not what it was.
    pub(crate) content_changed: bool,
}

/// Is this the main that `kept` was noted of? `sizes` are the volume's in sectors and its block in
/// bytes, `look` is what was read on it now, `claim` what somebody says it is.
pub(crate) fn recognise(
    main: &dyn Device,
    (main_sectors, block_bytes): (u64, u32),
    kept: &Kept,
    look: &Look,
    claim: Option<Accept>,
) -> Result<Known, VolumeError> {
    let (was, is) = (kept.hardware(), main.identity().hardware());
    let contents = kept.contents();
    let block_sectors = u64::from(block_bytes) / SECTOR_BYTES;
    let stored = identity::Identity { sectors: main_sectors, block_bytes, hardware: &was };
    let seen = identity::Identity {
        // A volume of larger blocks than main's own leaves out what fills no block.
        sectors: main.sectors() & !(block_sectors - 1),
        block_bytes: main.logical_block(),
        hardware: &is,
    };
    let compared = look.compared(&contents);
    let judgement = match (claim, judge(&stored, &seen, compared, None)) {
        // What would be taken without a word was taken before, and may have been written since.
        (Some(Accept::Copy), Judgement::Same { proved: true, .. }) => Judgement::NotACopy,
        (Some(Accept::Copy), Judgement::Same { proved: false, .. }) => Judgement::Alike,
        _ => judge(&stored, &seen, compared, claim),
    };
    let mut content_changed = false;
    let hardware = match judgement {
        Judgement::Same { content, .. } => {
            content_changed = content == Compared::Differs;
            if content_changed {
                tracing::warn!(
                    main = main.describe(),
                    "main's content has other UUIDs than it had"
                );
            }
            None
        }
        Judgement::Moved { .. } => {
            tracing::warn!(main = main.describe(), "taken as main because it was said to be");
            Some(is)
        }
        _ => {
            return Err(VolumeError::Main {
                main: main.describe(),
                was: describe(stored.sectors, &was, &contents),
                is: describe(seen.sectors, &is, &look.contents),
                judgement,
            });
        }
    };
    let kept = kept.with_contents(&look.merged(&contents));
    let kept = hardware.map_or(kept.clone(), |hardware| kept.with_hardware(&hardware));
    Ok(Known { kept, content_changed })
}

/// SHA-256 over everything the hardware says, one `word=value` line each; zero for nothing.
pub(crate) fn fingerprint(identity: &Identity) -> [u8; 32] {
    if identity.marks.is_empty() {
        return [0; 32];
    }
    let mut digest = Sha256::new();
    for mark in &identity.marks {
        digest.update(format!("{}={}\n", mark.kind.word(), mark.value));
    }
    digest.finalize().into()
}

/// What was found in main's content.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// In the order of their places; those of emergency copies are not among them.
    pub(crate) contents: Vec<Content>,
    /// What was read, or would have been.
    pub(crate) windows: Vec<Window>,
    /// Windows that were left out.
    left_out: Vec<Window>,
    /// A partition table may lie in one of those.
    table_hidden: bool,
}

/// Whether a block of these sectors of main does not live there, or is known to be unreadable.
pub(crate) fn is_elsewhere(shared: &Shared<Words>, sector: u64, sectors: u64) -> bool {
    let first = shared.geometry.unit_of(sector);
    let last = shared.geometry.unit_of(sector + sectors.saturating_sub(1));
    shared.table.next(first).is_some_and(|entry| entry.unit <= last)
        || shared.pending.next(first).is_some_and(|(unit, _)| unit <= last)
}

/// Reads main's content; `elsewhere` says which windows (first sector, sectors) hold something that
/// does not live on main, or that main is known not to read.
pub(crate) fn look(main: &dyn Device, elsewhere: impl Fn(u64, u64) -> bool) -> Look {
    let mut prober = Prober::new(main.geometry().bytes(), Depth::Partitions);
    let mut look = Look::default();
    while let Some(window) = prober.next() {
        look.windows.push(window);
        let first = window.offset / SECTOR_BYTES;
        let bytes = match elsewhere(first, (window.len as u64).div_ceil(SECTOR_BYTES)) {
            true => None,
            false => read_window(main, window),
        };
        match bytes {
            Some(bytes) => {
                prober.judge(window, &bytes, |found| look.contents.extend(Content::of(&found)));
            }
            None => {
                look.left_out.push(window);
                prober.unreadable(window);
            }
        }
    }
    look.contents.sort_by_key(in_order);
    look.contents.dedup();
    look.table_hidden = prober.table_unreadable();
    look
}

fn in_order(content: &Content) -> (u64, Content) {
    (content.sector, *content)
}

/// The bytes of a window, read as whole blocks; `None` if they cannot be.
pub(crate) fn read_window(main: &dyn Device, window: Window) -> Option<Vec<u8>> {
    let block = u64::from(main.logical_block());
    let start = window.offset / block * block;
    let end = (window.offset + window.len as u64).div_ceil(block) * block;
    let mut bytes = vec![0; (end - start) as usize];
    main.read_at(&mut bytes, start).ok()?;
    let inside = (window.offset - start) as usize;
    Some(bytes.get(inside..inside + window.len)?.to_vec())
}

impl Look {
    /// Whether main cannot be asked for this.
    fn hides(&self, content: &Content) -> bool {
        let at = content.sector * SECTOR_BYTES;
        let holds =
            |window: &Window| (window.offset..window.offset + window.len as u64).contains(&at);
        self.table_hidden && content.in_partition || self.left_out.iter().any(holds)
    }

    /// How it compares with what the header keeps.
    pub(crate) fn compared(&self, kept: &[Content]) -> Compared {
        let mut seen = self.contents.as_slice();
        if let (true, Some(last)) =
            (kept.len() >= MAX_CONTENTS, kept.iter().max_by_key(|c| in_order(c)))
        {
            // There was no room for what lies behind the last one kept.
            seen = &seen[..seen.partition_point(|one| in_order(one) <= in_order(last))];
        }
        compare(kept, seen, |content| self.hides(content))
    }

    /// What the header is to keep from now on: what was found, and what could not be asked for.
    pub(crate) fn merged(&self, kept: &[Content]) -> Vec<Content> {
        let mut all = self.contents.clone();
        all.extend(kept.iter().filter(|one| !self.contents.contains(one) && self.hides(one)));
        all.sort_by_key(in_order);
        all.truncate(MAX_CONTENTS);
        all
    }
}

/// For people: what tells it from others. All of it comes from devices and is escaped.
pub(crate) fn describe(sectors: u64, hardware: &[Hardware], contents: &[Content]) -> String {
    let mut words = format!("{sectors} sectors");
    for one in hardware {
        let grade = if one.is_proof() { "" } else { " (no proof)" };
        let _ = write!(words, ", {}{grade}", identifier(one));
    }
    for one in contents {
        let _ = write!(words, ", {} {} at sector {}", one.kind.name(), one.uuid, one.sector);
    }
    if hardware.is_empty() && contents.is_empty() {
        words.push_str(", nothing that tells it from others");
    }
    words
}

fn identifier(one: &Hardware) -> String {
    let escaped = |bytes: &[u8]| {
        let parts = bytes.split(|byte| *byte == 0).map(|part| part.escape_ascii().to_string());
        parts.collect::<Vec<_>>().join(" ")
    };
    let value = one.value();
    match (one.kind(), value.split_first_chunk::<8>()) {
        (HardwareKind::Partition, Some((start, uuid))) => {
            format!("partition at sector {} {}", u64::from_le_bytes(*start), escaped(uuid))
        }
        (HardwareKind::File, Some((system, rest))) => {
            let number = |at: usize| rest.get(at..).and_then(|rest| rest.first_chunk());
            let number = |at| number(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let system = u64::from_le_bytes(*system);
            format!("file on {system:016x}, inode {}, born at {} ns", number(8), number(16))
        }
        (kind, _) => format!("{} {}", kind.name(), escaped(value)),
    }
}

#[cfg(test)]
#[path = "main_identity_tests.rs"]
mod tests;
