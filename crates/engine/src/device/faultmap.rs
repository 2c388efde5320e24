// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The file that says where a [`Faulty`](super::faulty::Faulty) device fails.
//!
//! Two forms are read, told apart by their first line of data:
//!
//! * a *ddrescue mapfile*: `POS SIZE STATUS` in bytes, after the line with the current position,
//!   which may be missing. Areas with status `-`, `*` and `/` are bad, `+` and `?` are good;
//! * a *badblocks list*: one decimal block number a line, in blocks of 1,024 bytes unless told.
//!
//! Both may be followed, on the same line, by `#` and words that say how this run fails; and lines
//! that begin with `#!` speak of the whole device. Other lines with `#` are comments, so the file
//! stays what it was to ddrescue.
//!
//! ```text
//! words of a run    both | read | write     what fails (both, if nothing is said)
//!                   heal                    reads fail until the sector has been written
//!                   transient=N             the first N operations that touch the run fail
//!                   io | medium | target | transport | timeout | offline     the error (io)
//! #! default WORDS     words for every run below that says nothing else
//! #! outage [ERROR]    the whole device fails
//! #! flush-fails N     the next N flushes fail; armed again each time the file is read
//! ```
//!
//! Runs are widened to whole sectors. Runs that overlap must fail alike, and become one.

use std::fmt;

use dmremap_core::Class;
use dmremap_format::SECTOR_BYTES;

/// How a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Reads fail.
    pub reads: bool,
    /// Writes fail.
    pub writes: bool,
    /// A write makes the sectors it covers good again.
    pub heal: bool,
    /// Only so many operations fail; `None`: all of them.
    pub transient: Option<u32>,
    /// The error.
    pub class: Class,
}

impl Default for Mode {
    fn default() -> Mode {
        Mode { reads: true, writes: true, heal: false, transient: None, class: Class::Io }
    }
}

impl Mode {
    /// This mode with `words` (separated by blanks or commas) applied to it.
    ///
    /// # Errors
    /// Names the word that is none.
    pub fn with_words(mut self, words: &str) -> Result<Mode, String> {
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            match word {
                "both" => (self.reads, self.writes, self.heal) = (true, true, false),
                "read" => (self.reads, self.writes, self.heal) = (true, false, false),
                "write" => (self.reads, self.writes, self.heal) = (false, true, false),
                "heal" => (self.reads, self.writes, self.heal) = (true, false, true),
                _ => match (word.strip_prefix("transient="), error_named(word)) {
                    (Some(n), _) => {
                        let n = n.parse().map_err(|_| format!("{word:?} wants a number"))?;
                        self.transient = Some(n);
                    }
                    (None, Some(class)) => self.class = class,
                    (None, None) => return Err(format!("{word:?} is no word of a run")),
                },
            }
        }
        Ok(self)
    }
}

/// The error a word of the file names.
pub(crate) fn error_named(word: &str) -> Option<Class> {
    Some(match word {
        "io" => Class::Io,
        "medium" => Class::Medium,
        "target" => Class::Target,
        "transport" => Class::Transport,
        "timeout" => Class::Timeout,
        "offline" => Class::Offline,
        _ => return None,
    })
}

/// A run of sectors that fail alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First sector.
    pub sector: u64,
    /// Length in sectors, at least one.
    pub sectors: u64,
    /// How.
    pub mode: Mode,
}

impl Run {
    /// The sector behind the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.sector.saturating_add(self.sectors)
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for MapError {}

/// A fault map as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultMap {
    /// The runs, ascending, none touching another that fails alike, none overlapping.
    pub runs: Vec<Run>,
    /// The whole device fails so.
    pub outage: Option<Class>,
    /// So many flushes fail.
    pub flush_fails: u32,
}

impl FaultMap {
    /// Reads a map. `default` is how a run fails that says nothing; `block_bytes` is the block of a
    /// badblocks list.
    ///
    /// # Errors
    /// The first line that cannot be understood.
    pub fn parse(text: &str, default: Mode, block_bytes: u64) -> Result<FaultMap, MapError> {
        let mut map = FaultMap::default();
        let mut default = default;
        let mut found: Vec<(Run, usize)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let fail = |why: String| MapError { line: number, why };
            if let Some(words) = line.trim_start().strip_prefix("#!") {
                map.directive(words.trim(), &mut default).map_err(fail)?;
                continue;
            }
            let (data, words) = line.split_once('#').unwrap_or((line, ""));
            let area = area(data, block_bytes).map_err(fail)?;
            if let Some((first, end)) = area {
                let mode = default.with_words(words).map_err(fail)?;
                let sector = first / SECTOR_BYTES;
                let sectors = end.div_ceil(SECTOR_BYTES) - sector;
                found.push((Run { sector, sectors, mode }, number));
            }
        }
        map.runs = join(found)?;
        Ok(map)
    }

    fn directive(&mut self, words: &str, default: &mut Mode) -> Result<(), String> {
        let (name, rest) = words.split_once([' ', '\t']).unwrap_or((words, ""));
        match name {
            "default" => *default = default.with_words(rest)?,
            "outage" => {
                let word = if rest.trim().is_empty() { "io" } else { rest.trim() };
                let class = error_named(word).ok_or(format!("{word:?} is no error"))?;
                self.outage = Some(class);
            }
            "flush-fails" => {
                self.flush_fails =
                    rest.trim().parse().map_err(|_| format!("{rest:?} is no number"))?;
            }
            _ => return Err(format!("{name:?}: there are default, outage, flush-fails")),
        }
        Ok(())
    }

    /// The runs that overlap `sectors` sectors from `sector` on, with their places in the list.
    pub fn overlapping(
        &self,
        sector: u64,
        sectors: u64,
    ) -> impl Iterator<Item = (usize, &Run)> + use<'_> {
        let end = sector.saturating_add(sectors);
        let first = self.runs.partition_point(|run| run.end() <= sector);
        self.runs.iter().enumerate().skip(first).take_while(move |(_, run)| run.sector < end)
    }
}

/// The bad area a line of data names, in bytes: start and end.
fn area(data: &str, block_bytes: u64) -> Result<Option<(u64, u64)>, String> {
    let mut fields = data.split_whitespace();
    match (fields.next(), fields.next(), fields.next()) {
        (None, ..) => Ok(None),
        (Some(block), None, _) => {
            let block: u64 =
                block.parse().map_err(|_| format!("{block:?} is no decimal block number"))?;
            let end = block.checked_add(1).and_then(|next| next.checked_mul(block_bytes));
            let end = end.filter(|end| *end < 1 << 63).ok_or("block number too large")?;
            Ok(Some((end - block_bytes, end)))
        }
        // The current position and status; newer ones add the pass.
        (Some(position), Some(status), _) if is_current_status(status) => {
            number(position).map(|_| None)
        }
        (Some(position), Some(size), Some(status)) => {
            let (position, size) = (number(position)?, number(size)?);
            let end = position.checked_add(size).filter(|end| *end < 1 << 63);
            let end = end.ok_or("area beyond the largest device")?;
            match status {
                "-" | "*" | "/" if size > 0 => Ok(Some((position, end))),
                "-" | "*" | "/" | "+" | "?" => Ok(None),
                _ => Err(format!("{status:?} is no status of a mapfile")),
            }
        }
        (Some(_), Some(size), None) => Err(format!("no status after {size:?}")),
    }
}

fn is_current_status(field: &str) -> bool {
    matches!(field, "?" | "*" | "/" | "-" | "F" | "G" | "+")
}

/// A number as ddrescue writes it: 0x hexadecimal, 0 octal, else decimal.
fn number(field: &str) -> Result<u64, String> {
    let parsed = match field.strip_prefix("0x").or_else(|| field.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if field.len() > 1 && field.starts_with('0') => u64::from_str_radix(field, 8),
        None => field.parse(),
    };
    parsed.map_err(|_| format!("{field:?} is no number"))
}

/// Sorts the runs and joins those that overlap or touch; overlapping runs must fail alike.
fn join(mut found: Vec<(Run, usize)>) -> Result<Vec<Run>, MapError> {
    found.sort_by_key(|(run, line)| (run.sector, *line));
    let mut runs: Vec<Run> = Vec::new();
    for (run, line) in found {
        match runs.last_mut() {
            Some(last) if last.mode == run.mode && last.end() >= run.sector => {
                last.sectors = last.end().max(run.end()) - last.sector;
            }
            Some(last) if last.end() > run.sector => {
                let why = "overlaps another run that fails otherwise".into();
                return Err(MapError { line, why });
            }
            _ => runs.push(run),
        }
    }
    Ok(runs)
}
