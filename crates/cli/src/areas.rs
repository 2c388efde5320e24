// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that name bad areas: read once, whole, up to a limit; refused with file and line if a line
//! is not what it should be; and made into runs of whole blocks.
//!
//! A file that changes while it is read names areas that nobody ever wrote down together: size,
//! inode and times are compared before and after, and nothing is done if they differ.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dmremap_engine::SectorRun;
use dmremap_format::SECTOR_BYTES;
use dmremap_format::areas::{Area, BlockReader, Copied, MapReader};
use serde::Deserialize;

use crate::escape::escaped;
use crate::failure::{Class, Failure, Outcome};
use crate::view::View;

/// A longer file is refused: a million areas fit in half of it.
const MOST_BYTES: u64 = 64 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// ddrescue's mapfile.
    Mapfile,
    /// A list of blocks of so many bytes.
    Badblocks(u32),
    /// What `export --format json` or `list --json` writes.
    Json,
}

/// What main is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MainIs {
    /// The disk the areas were found on: only what its drive could not read is bad.
    Original,
    /// A copy of it: whatever was not copied is bad.
    Copy,
}

/// Reads the file and gives back main's bad areas as runs of whole blocks, ascending.
pub fn read(path: &Path, form: Form, main: MainIs, view: &View) -> Outcome<Vec<SectorRun>> {
    let bytes = read_stable(path, || ())?;
    let found = match form {
        Form::Mapfile => mapfile(path, &bytes, main, view)?,
        Form::Badblocks(block_bytes) => badblocks(path, &bytes, block_bytes, view)?,
        Form::Json => json(path, &bytes, main, view)?,
    };
    Ok(whole_blocks(&found, view))
}

/// The bytes of a file that was not changed meanwhile; `meanwhile` is for the test.
pub fn read_stable(path: &Path, meanwhile: impl FnOnce()) -> Outcome<Vec<u8>> {
    let failed = |error| Failure::io("read", path, &error).with_next(AGAIN);
    let mut file = File::open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    if !before.is_file() {
        let what = format!("{}: not a regular file", escaped(path));
        return Err(Failure::new(Class::Usage, what).with_next(AGAIN));
    }
    if before.len() > MOST_BYTES {
        let what = format!("{}: longer than {} MiB", escaped(path), MOST_BYTES >> 20);
        return Err(Failure::new(Class::Usage, what).with_next(AGAIN));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    meanwhile();
    let after = std::fs::metadata(path).map_err(failed)?;
    let key = |m: &Metadata| {
        (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
    };
    if key(&before) != key(&after) || bytes.len() as u64 != before.len() {
        let what = format!("{}: changed while it was read; nothing was done", escaped(path));
        return Err(Failure::new(Class::Busy, what).with_next(AGAIN));
    }
    Ok(bytes)
}

const AGAIN: &str = "dmremap import NAME --format mapfile FILE";

fn at_line(path: &Path, line: usize, why: impl std::fmt::Display) -> Failure {
    let what = format!("{}:{line}: {why}; nothing was done", escaped(path));
    Failure::new(Class::Usage, what).with_next(AGAIN)
}

/// Every area that `line` gives, with its line's number.
fn areas<F: std::fmt::Display>(
    path: &Path,
    bytes: &[u8],
    mut line: impl FnMut(&[u8]) -> Result<Option<Area>, F>,
) -> Outcome<Vec<(usize, Area)>> {
    let mut all = Vec::new();
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        match line(text) {
            Ok(area) => all.extend(area.map(|area| (index + 1, area))),
            Err(fault) => return Err(at_line(path, index + 1, fault)),
        }
    }
    Ok(all)
}

fn beyond(path: &Path, line: usize, view: &View) -> Failure {
    at_line(
        path,
        line,
        format!("beyond the end of the volume, which has {} sectors", view.size_sectors),
    )
}

fn mapfile(path: &Path, bytes: &[u8], main: MainIs, view: &View) -> Outcome<Vec<SectorRun>> {
    let mut reader = MapReader::default();
    let all = areas(path, bytes, |line| reader.line(line))?;
    // Main itself may end in the middle of a block, which is then none of the volume's.
    let most = view.size_sectors + u64::from(view.block_size) / SECTOR_BYTES - 1;
    if let Some((line, _)) = all.iter().find(|(_, area)| area.end() > most) {
        return Err(beyond(path, *line, view));
    }
    let end = reader.end() / SECTOR_BYTES;
    if end < view.size_sectors {
        let what = format!(
            "{}: says nothing of the sectors from {end} to {}; nothing was done",
            escaped(path),
            view.size_sectors,
        );
        return Err(Failure::new(Class::Usage, what).with_next(AGAIN));
    }
    let bad = all.into_iter().map(|(_, area)| area).filter(|area| match main {
        MainIs::Original => area.copied == Copied::Bad,
        MainIs::Copy => area.copied != Copied::Finished,
    });
    Ok(bad.map(run_of).collect())
}

fn run_of(area: Area) -> SectorRun {
    SectorRun { sector: area.sector, sectors: area.sectors }
}

fn badblocks(path: &Path, bytes: &[u8], block_bytes: u32, view: &View) -> Outcome<Vec<SectorRun>> {
    let Some(mut reader) = BlockReader::new(block_bytes) else {
        let what = format!("--block-size {block_bytes}: 512 to 65536, a power of two");
        return Err(Failure::new(Class::Usage, what)
            .with_next("dmremap import NAME --format badblocks --block-size 4096 FILE"));
    };
    let all = areas(path, bytes, |line| reader.line(line))?;
    match all.iter().find(|(_, area)| area.end() > view.size_sectors) {
        Some((line, _)) => Err(beyond(path, *line, view)),
        None => Ok(all.into_iter().map(|(_, area)| run_of(area)).collect()),
    }
}

/// The document of `export --format json`, as much of it as counts.
#[derive(Deserialize)]
struct Document {
    size_sectors: u64,
    runs: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    main_sector: u64,
    sectors: u64,
    state: String,
}

fn json(path: &Path, bytes: &[u8], main: MainIs, view: &View) -> Outcome<Vec<SectorRun>> {
    let list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let parsed = match list {
        true => serde_json::from_slice(bytes)
            .map(|runs| Document { size_sectors: view.size_sectors, runs }),
        false => serde_json::from_slice(bytes),
    };
    let document: Document = parsed.map_err(|error| at_line(path, error.line(), error))?;
    let wrong = |number: usize, why: &str| {
        let what = format!("{}: run {}: {why}; nothing was done", escaped(path), number + 1);
        Failure::new(Class::Usage, what).with_next(AGAIN)
    };
    if document.size_sectors != view.size_sectors {
        let what = format!(
            "{}: of a volume of {} sectors, this one has {}; nothing was done",
            escaped(path),
            document.size_sectors,
            view.size_sectors,
        );
        return Err(Failure::new(Class::Refused, what).with_next(AGAIN));
    }
    let (mut end, mut bad) = (0, Vec::new());
    for (number, run) in document.runs.iter().enumerate() {
        let next = run.main_sector.checked_add(run.sectors).filter(|_| run.sectors > 0);
        let next = next.filter(|next| *next <= view.size_sectors);
        let Some(next) = next else { return Err(wrong(number, "empty, or beyond the end")) };
        if run.main_sector < end {
            return Err(wrong(number, "overlaps or precedes the one before"));
        }
        end = next;
        match (run.state.as_str(), main) {
            ("remapped", _) => continue,
            ("pending", _) | ("gone", MainIs::Copy) => {}
            ("gone", MainIs::Original) => {
                return Err(wrong(number, "gone, which is not to be pending on an original main"));
            }
            _ => return Err(wrong(number, "its state is none of remapped, pending, gone")),
        }
        bad.push(SectorRun { sector: run.main_sector, sectors: run.sectors });
    }
    Ok(bad)
}

/// A block is bad if a sector of it is. Runs that touch become one.
fn whole_blocks(found: &[SectorRun], view: &View) -> Vec<SectorRun> {
    let block = (u64::from(view.block_size) / SECTOR_BYTES).max(1);
    let mut all: Vec<SectorRun> = Vec::new();
    for run in found {
        let first = run.sector / block * block;
        let end = run.sector.saturating_add(run.sectors).div_ceil(block) * block;
        let end = end.min(view.size_sectors);
        if first >= end {
            continue;
        }
        match all.last_mut() {
            Some(last) if last.sector + last.sectors >= first => {
                last.sectors = end.max(last.sector + last.sectors) - last.sector;
            }
            _ => all.push(SectorRun { sector: first, sectors: end - first }),
        }
    }
    all
}

#[cfg(test)]
#[path = "areas_tests.rs"]
mod tests;
