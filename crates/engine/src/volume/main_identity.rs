// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Is this the main that the volume was made with? (DESIGN 6, "Main's identity")
//!
//! The header keeps what main's hardware said of itself (eight rows, each with a flag: proof or
//! not) and which UUIDs were found in its content (sixteen rows). Proof that is equal settles it;
//! proof of a disk that differs settles it too. Files are no disks: their numbers change with the
//! host, so theirs prove sameness only. Without proof either way content decides, and only
//! together with everything weak the hardware says being equal; all else is for a person.
//!
//! Content is read on main itself. What has an entry, or cannot be read, is left out of the
//! comparison: main is not the authority for it.

use dmremap_core::commit::{HeaderChange, Identity as RowValue};
use dmremap_format::{
    ContentRow, Depth, Header, IdentityRow, MAX_CONTENTS, MAX_IDENTITIES, MAX_IDENTITY_BYTES,
    Prober, SECTOR_BYTES, Uuid, Window,
};
use sha2::{Digest, Sha256};

use crate::device::Device;
use crate::device::identity::{DeviceKey, Identity, Mark, MarkKind};

/// The row is proof by itself, or together with the other rows that are flagged so.
const FLAG_PROOF: u8 = 1;
/// The value was too long for a row: its SHA-256 stands there.
const FLAG_HASHED: u8 = 2;
/// The row is of a file.
const FLAG_FILE: u8 = 4;

/// One identity as a row of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    kind: u8,
    flags: u8,
    value: Vec<u8>,
}

/// The number of a kind in a header: never changed, never given twice.
fn number(kind: MarkKind) -> u8 {
    match kind {
        MarkKind::Wwid => 1,
        MarkKind::Serial => 2,
        MarkKind::Model => 3,
        MarkKind::DmUuid => 4,
        MarkKind::MdUuid => 5,
        MarkKind::PartUuid => 6,
        MarkKind::PartStart => 7,
        MarkKind::FileSystem => 8,
        MarkKind::Inode => 9,
        MarkKind::BirthTime => 10,
    }
}

/// The rows of a device, proof first.
pub(crate) fn rows(identity: &Identity) -> Vec<Row> {
    let file = matches!(identity.key, DeviceKey::File { .. });
    let proof = identity.proof();
    let is_proof = |mark: &Mark| proof.contains(&mark);
    let mut marks: Vec<&Mark> = identity.marks.iter().collect();
    marks.sort_by_key(|mark| !is_proof(mark));
    let row = |mark: &Mark| {
        let hashed = mark.value.len() > MAX_IDENTITY_BYTES;
        let value = match hashed {
            true => Sha256::digest(&mark.value).to_vec(),
            false => mark.value.clone().into_bytes(),
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags =
            flag(is_proof(mark), FLAG_PROOF) | flag(hashed, FLAG_HASHED) | flag(file, FLAG_FILE);
        Row { kind: number(mark.kind), flags, value }
    };
    marks.into_iter().take(MAX_IDENTITIES).map(row).collect()
}

impl Row {
    /// As the header takes it.
    pub(crate) fn view(&self) -> IdentityRow<'_> {
        IdentityRow { kind: self.kind, flags: self.flags, value: &self.value }
    }

    fn is_proof(&self) -> bool {
        self.flags & FLAG_PROOF != 0
    }
}

/// The rows of a header.
pub(crate) fn header_rows(header: &Header<'_>) -> Vec<Row> {
    let rows = (0..MAX_IDENTITIES).filter_map(|row| header.identity(row));
    rows.map(|row| Row { kind: row.kind, flags: row.flags, value: row.value.to_vec() }).collect()
}

/// For people: what the rows say.
pub(crate) fn describe(rows: &[Row], content: &[ContentRow]) -> String {
    let names = ["", "wwid", "serial", "model", "dm-uuid", "md-uuid", "partuuid", "part-start"];
    let files = ["fs-id", "inode", "birth-time"];
    let name = |kind: u8| names.iter().chain(&files).nth(kind.into()).copied().unwrap_or("?");
    let mut words: Vec<String> = rows
        .iter()
        .map(|row| {
            let value = match row.flags & FLAG_HASHED {
                0 => String::from_utf8_lossy(&row.value).escape_debug().to_string(),
                _ => "(long)".into(),
            };
            format!("{}={value}", name(row.kind))
        })
        .collect();
    words.extend(content.iter().map(|row| format!("content {}={}", row.kind, row.uuid)));
    if words.is_empty() { "nothing that tells it from others".into() } else { words.join(" ") }
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
pub(crate) struct Content {
    /// The UUIDs, in the order of their places.
    pub(crate) rows: Vec<ContentRow>,
    /// What was read.
    pub(crate) windows: Vec<Window>,
    /// Windows that were left out.
    left_out: Vec<Window>,
    /// A partition table may lie in one of those.
    table_hidden: bool,
}

/// Reads the UUIDs in main's content; `elsewhere` says which windows (first sector, sectors) hold
/// something that does not live on main.
pub(crate) fn content(main: &dyn Device, elsewhere: impl Fn(u64, u64) -> bool) -> Content {
    let mut prober = Prober::new(main.geometry().bytes(), Depth::Partitions);
    let (mut windows, mut left_out, mut found) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(window) = prober.next() {
        windows.push(window);
        let first = window.offset / SECTOR_BYTES;
        let bytes = match elsewhere(first, (window.len as u64).div_ceil(SECTOR_BYTES)) {
            true => None,
            false => read_window(main, window),
        };
        match bytes {
            Some(bytes) => prober.judge(window, &bytes, |signature| found.push(signature)),
            None => {
                left_out.push(window);
                prober.unreadable(window);
            }
        }
    }
    found.retain(|signature| !signature.copy);
    found.sort_by_key(|signature| signature.offset);
    let rows = found.iter().filter_map(|signature| {
        let uuid = signature.uuid.filter(|uuid| *uuid != Uuid::default())?;
        let place = (signature.offset / PLACE_BYTES).try_into().unwrap_or(u32::MAX);
        Some(ContentRow { kind: signature.kind as u16, flags: 0, place, uuid })
    });
    let rows = rows.take(MAX_CONTENTS).collect();
    Content { rows, windows, left_out, table_hidden: prober.table_unreadable() }
}

/// A row's place counts in so many bytes.
const PLACE_BYTES: u64 = 4096;

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

/// What is known of main.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is the one. Its content is another than it was: worth an event.
    Same {
        /// Content has changed.
        content_changed: bool,
    },
    /// It is another one.
    Other,
    /// A person has to say.
    Ask,
}

/// Judges what the header keeps against what is found.
pub(crate) fn judge(
    kept: &[Row],
    kept_content: &[ContentRow],
    now: &[Row],
    content: &Content,
) -> Known {
    let same_content = content.agrees(kept_content);
    let proof = |rows: &[Row]| rows.iter().filter(|row| row.is_proof()).cloned().collect();
    let (was, is): (Vec<Row>, Vec<Row>) = (proof(kept), proof(now));
    let kinds = |rows: &[Row]| rows.iter().map(|row| row.kind).collect::<Vec<_>>();
    if !was.is_empty() && kinds(&was) == kinds(&is) {
        let values = |rows: &[Row]| rows.iter().map(|row| row.value.clone()).collect::<Vec<_>>();
        if values(&was) == values(&is) {
            return Known::Same { content_changed: !same_content };
        }
        if !is.iter().any(|row| row.flags & FLAG_FILE != 0) {
            return Known::Other;
        }
        // The numbers of a file say nothing when they differ; nor are they weak hardware.
        return Known::Ask;
    }
    let weak = !kept.is_empty() && kept == now;
    if weak && same_content && !kept_content.is_empty() {
        return Known::Same { content_changed: false };
    }
    Known::Ask
}

impl Content {
    /// Whether main cannot be asked for what this row says.
    fn hides(&self, row: &ContentRow) -> bool {
        let at = u64::from(row.place) * PLACE_BYTES;
        let inside = |window: &Window| {
            (window.offset..window.offset + (window.len as u64).max(PLACE_BYTES)).contains(&at)
        };
        self.table_hidden || self.left_out.iter().any(inside)
    }

    /// Whether it is what the header keeps, as far as main can be asked.
    fn agrees(&self, kept: &[ContentRow]) -> bool {
        let is_kept = |row: &ContentRow| kept.contains(row);
        let is_found = |row: &ContentRow| self.rows.contains(row);
        self.rows.iter().all(is_kept) && kept.iter().all(|row| is_found(row) || self.hides(row))
    }

    /// What the header is to keep from now on: what was found, and what could not be asked for.
    pub(crate) fn merged(&self, kept: &[ContentRow]) -> Vec<ContentRow> {
        let mut rows = self.rows.clone();
        let hidden = kept.iter().filter(|row| !rows.contains(row) && self.hides(row));
        rows.extend(hidden.copied().collect::<Vec<_>>());
        rows.sort_by_key(|row| (row.place, row.kind));
        rows.truncate(MAX_CONTENTS);
        rows
    }
}

/// The header's changes that make its rows of content these.
pub(crate) fn content_changes(kept: &[ContentRow], rows: &[ContentRow]) -> Vec<HeaderChange> {
    let both = (0..MAX_CONTENTS).map(|row| (row, kept.get(row), rows.get(row)));
    both.filter(|(_, kept, new)| kept != new)
        .map(|(row, _, new)| HeaderChange::Content { row: row as u8, content: new.copied() })
        .collect()
}

/// The header's changes that make its rows of identity these.
pub(crate) fn identity_changes(kept: &[Row], rows: &[Row]) -> Vec<HeaderChange> {
    let both = (0..MAX_IDENTITIES).map(|row| (row, kept.get(row), rows.get(row)));
    both.filter(|(_, kept, new)| kept != new)
        .map(|(row, _, new)| HeaderChange::Identity {
            row: row as u8,
            identity: new.and_then(|row| RowValue::new(&row.view())),
        })
        .collect()
}

#[cfg(test)]
#[path = "main_identity_tests.rs"]
mod tests;
