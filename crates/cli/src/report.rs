// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The JSON documents that scripts read, and how people are shown the same.
//!
//! Fields are only ever added; a changed meaning raises the major number of the format version.
//! `None` (JSON `null`) stands for what this version does not have.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use dmremap_core::text::{REPLY_MAX_BYTES, Text};
use dmremap_format::{State, Uuid};

use crate::escape::escaped_bytes;
use crate::units::sectors;

/// The version of every document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatVersion {
    /// Raised when something that exists changes its meaning.
    pub major: u32,
    /// Raised when something is added.
    pub minor: u32,
}

/// This program's.
pub const FORMAT_VERSION: FormatVersion = FormatVersion { major: 1, minor: 1 };

/// `status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`FORMAT_VERSION`].
    pub format_version: FormatVersion,
    /// The volume's name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// `ok`, `degraded`, `metadata_degraded`, `main_suspect`, `spare_suspect`, `spare_full`,
    /// `read_only` or `failed`.
    pub state: String,
    /// Why it is in that state, where the numbers do not tell.
    #[serde(default)]
    pub reason: Option<String>,
    /// Bytes.
    pub block_size: u32,
    /// Of the volume.
    pub size_sectors: u64,
    /// Blocks whose content lives on a spare.
    pub remapped_blocks: u64,
    /// Blocks the device could not read.
    pub pending_blocks: u64,
    /// Blocks whose content exists nowhere.
    pub gone_blocks: u64,
    /// Units in the table.
    pub entries: u64,
    /// Units the table can hold.
    pub max_entries: u64,
    /// Spare units that failed.
    pub quarantined_units: u64,
    /// Spare units free.
    pub spare_free_units: u64,
    /// Spare units that can be handed out at all.
    pub spare_total_units: u64,
    /// Errors met.
    pub errors: Errors,
    /// Moves made.
    pub remaps: Remaps,
    /// Requests served.
    pub requests: Requests,
    /// The five copies.
    pub metadata: Metadata,
    /// Comes with health.
    pub health_score: Option<u8>,
    /// Comes with the scan.
    pub scan: Scan,
    /// Of a volume that does not run: `clean`, `dirty` or another state of its header.
    pub header_state: Option<String>,
    /// What `status --test` exits with: 0 healthy, 1 degraded, 2 unusable or data lost.
    pub verdict: u8,
    /// How it is, in plain words.
    pub sentence: String,
    /// What to do about it; empty if there is nothing to do.
    pub advice: String,
}

/// Errors met since the volume was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Reads that failed.
    pub read: u64,
    /// Writes that failed.
    pub write: u64,
    /// Of both, those that may come from the medium.
    pub medium: u64,
    /// Of both, all others: errors of the way to the device.
    pub transport: u64,
}

/// Moves made since the volume was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaps {
    /// By recovery.
    pub automatic: u64,
    /// By a message.
    pub manual: u64,
}

/// Pieces of requests since the volume was opened: one for each place a request goes to, more of a
/// large one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Resolved to main without an entry.
    pub fast: u64,
    /// Everything else.
    pub slow: u64,
}

/// The metadata copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Copies that can be read and verified.
    pub copies_valid: u8,
    /// Copies there should be.
    pub copies_total: u8,
    /// Durable generation.
    pub generation: u64,
    /// Durable sequence.
    pub sequence: u64,
    /// Commits since the volume was opened.
    pub commits: u64,
}

/// The scan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Comes with the scan.
    pub state: Option<String>,
    /// Comes with the scan.
    pub percent: Option<u8>,
}

/// A run in `list --json`, which is an array of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First sector of main.
    pub main_sector: u64,
    /// The spare's index; none for what is on no spare.
    pub spare_index: Option<u32>,
    /// First sector on the spare.
    pub spare_sector: Option<u64>,
    /// Length.
    pub sectors: u64,
    /// `remapped`, `gone` or `pending`.
    pub state: String,
    /// Why.
    pub cause: Option<String>,
}

impl From<&dmremap_core::list::Run> for Run {
    fn from(run: &dmremap_core::list::Run) -> Run {
        Run {
            main_sector: run.main_sector,
            spare_index: run.spare.map(|(index, _)| u32::from(index)),
            spare_sector: run.spare.map(|(_, sector)| sector),
            sectors: run.sectors,
            state: run.state.word().to_owned(),
            cause: (run.cause != "-").then(|| run.cause.to_owned()),
        }
    }
}

impl Status {
    /// The document of a volume that runs or was read.
    pub fn new(name: &str, uuid: Uuid, status: &dmremap_core::status::Status) -> Status {
        let s = status;
        Status {
            format_version: FORMAT_VERSION,
            name: name.to_owned(),
            uuid: uuid_text(uuid),
            state: s.state().word().to_owned(),
            reason: None,
            block_size: s.block_size,
            size_sectors: s.size_sectors,
            remapped_blocks: s.remapped_blocks,
            pending_blocks: s.pending_blocks,
            gone_blocks: s.gone_blocks,
            entries: s.entries,
            max_entries: s.max_entries,
            quarantined_units: s.quarantined_units,
            spare_free_units: s.spare_free_units,
            spare_total_units: s.spare_total_units,
            errors: Errors {
                read: s.errors.read,
                write: s.errors.write,
                medium: s.errors.medium,
                transport: s.errors.transport,
            },
            remaps: Remaps { automatic: s.remaps.automatic, manual: s.remaps.manual },
            requests: Requests { fast: s.requests.fast, slow: s.requests.slow },
            metadata: Metadata {
                copies_valid: s.metadata.copies_valid,
                copies_total: s.metadata.copies_total,
                generation: s.metadata.generation,
                sequence: s.metadata.sequence,
                commits: s.metadata.commits,
            },
            health_score: s.health_score,
            scan: Scan {
                state: s.scan.map(|scan| scan.state.to_owned()),
                percent: s.scan.map(|scan| scan.percent),
            },
            header_state: None,
            verdict: s.verdict() as u8,
            sentence: text(|out| s.write_sentence(out)),
            advice: s.state().advice().to_owned(),
        }
    }

    /// The same of a volume whose header is in this state.
    #[must_use]
    pub fn of_header(mut self, state: State) -> Status {
        if state == State::Restored {
            // Nobody knows which blocks these are, so that nothing can be called intact.
            let numbers = self.sentence.split("; ").next().unwrap_or_default();
            self.sentence =
                format!("{numbers}; what moved since the dump was taken reads as old content");
            self.reason = Some("restored from a dump: to be read, and never written".to_owned());
        }
        self
    }

    /// The whole screen.
    pub fn screen(&self) -> String {
        let mut out = capitalised(&escaped_bytes(&self.sentence).to_string()) + ".\n";
        if !self.advice.is_empty() {
            let _ = writeln!(out, "{}", escaped_bytes(&self.advice));
        }
        out.push('\n');
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<12} {value}");
        };
        row("volume", format!("{} ({})", escaped_bytes(&self.name), escaped_bytes(&self.uuid)));
        let reason = self.reason.iter().map(|reason| format!(" ({reason})"));
        let state = [self.state.clone()].into_iter().chain(reason).collect::<String>();
        row("state", escaped_bytes(&state).to_string());
        if let Some(state) = &self.header_state {
            let means = match state.as_str() {
                "clean" => " (closed in order)",
                "dirty" => " (it runs now, or was not closed: the next open settles what is left)",
                _ => "",
            };
            row("header", format!("{}{means}", escaped_bytes(state)));
        }
        row(
            "size",
            format!("{} in blocks of {} bytes", sectors(self.size_sectors), self.block_size),
        );
        let (pending, gone) = (self.pending_blocks, self.gone_blocks);
        row("blocks", format!("{} moved, {pending} pending, {gone} gone", self.remapped_blocks));
        row("table", format!("{} of {} entries", self.entries, self.max_entries));
        let (free, total) = (self.spare_free_units, self.spare_total_units);
        let quarantined = self.quarantined_units;
        row("spare", format!("{free} of {total} units free, {quarantined} quarantined"));
        let Errors { read, write, medium, transport } = self.errors;
        row(
            "errors",
            format!("{read} read, {write} write ({medium} medium, {transport} transport)"),
        );
        row(
            "moves",
            format!("{} automatic, {} by hand", self.remaps.automatic, self.remaps.manual),
        );
        row("requests", format!("{} fast, {} slow", self.requests.fast, self.requests.slow));
        let m = &self.metadata;
        let copies = format!("{} of {} copies valid", m.copies_valid, m.copies_total);
        row(
            "metadata",
            format!("{copies}, generation {}.{}, {} commits", m.generation, m.sequence, m.commits),
        );
        out
    }
}

/// What a writer of the core's texts writes.
pub fn text(write: impl FnOnce(&mut Text<'_>)) -> String {
    let mut buffer = [0; REPLY_MAX_BYTES];
    let mut out = Text::new(&mut buffer);
    write(&mut out);
    out.as_str().to_owned()
}

/// A UUID in its usual form, `-` for none.
pub fn uuid_text(uuid: Uuid) -> String {
    text(|out| _ = out.uuid(&uuid))
}

/// `sentence` with a capital first letter.
fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The table `list` shows to people.
pub fn list_screen(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "Nothing has moved and nothing is lost.\n".to_owned();
    }
    let mut out = format!(
        "{:>14} {:>9} {:>16}  {:<9} {}\n",
        "main sector", "sectors", "spare sector", "state", "cause"
    );
    for run in runs {
        let spare = match (run.spare_index, run.spare_sector) {
            (Some(index), Some(sector)) if index > 0 => format!("{index}:{sector}"),
            (_, Some(sector)) => sector.to_string(),
            _ => "-".to_owned(),
        };
        let state = escaped_bytes(&run.state).to_string();
        let cause = escaped_bytes(run.cause.as_deref().unwrap_or("-")).to_string();
        let _ = writeln!(
            out,
            "{:>14} {:>9} {spare:>16}  {state:<9} {cause}",
            run.main_sector, run.sectors
        );
    }
    out
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
