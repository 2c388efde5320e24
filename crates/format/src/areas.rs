// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The two text forms in which others keep bad areas, read line by line.
//!
//! * A *ddrescue mapfile*: a line with the current position and status (an optional pass behind
//!   them), then `POS SIZE STATUS` in bytes, one area behind the other without gap or overlap.
//!   Numbers are those of C. `#` at the begin of a line or after a blank starts a comment.
//! * A *badblocks list*: one decimal block number a line, ascending. It has no comments and does
//!   not say how large its blocks are.
//!
//! Whoever reads says which line it was; here only the line is judged, and its place behind the
//! one before. Any bytes may come in; what is not exactly one of these forms is refused.

use core::fmt;

use crate::types::SECTOR_BYTES;

/// One more than the highest byte that is taken; ddrescue itself counts no further.
pub const AREA_BYTES_MAX: u64 = i64::MAX as u64;

/// How an area of a mapfile was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Copied {
    /// `+`: read and copied.
    Finished,
    /// `?`: not tried.
    NonTried,
    /// `*`: failed, its edges not yet looked for.
    NonTrimmed,
    /// `/`: failed, not yet read sector by sector.
    NonScraped,
    /// `-`: sectors that the drive could not read.
    Bad,
}

impl Copied {
    fn of(word: &[u8]) -> Option<Copied> {
        Some(match word {
            b"+" => Copied::Finished,
            b"?" => Copied::NonTried,
            b"*" => Copied::NonTrimmed,
            b"/" => Copied::NonScraped,
            b"-" => Copied::Bad,
            _ => return None,
        })
    }
}

/// An area that a line names, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Area {
    /// First sector.
    pub sector: u64,
    /// Length in sectors, at least one.
    pub sectors: u64,
    /// What became of it; every area of a badblocks list is [`Copied::Bad`].
    pub copied: Copied,
}

impl Area {
    /// The sector behind the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.sector.saturating_add(self.sectors)
    }
}

/// Why a line is refused. Numbers are bytes or block numbers, as the line has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineFault {
    /// Not the words that belong there.
    Form,
    /// No number, or one that no device reaches.
    Number,
    /// No status of a mapfile.
    Status,
    /// An area of no length.
    Empty,
    /// Not whole sectors of 512 bytes.
    Odd,
    /// It begins before the one before it ends.
    Overlaps {
        /// Where that one ends.
        end: u64,
    },
    /// Between it and the one before lies something of which nothing is said.
    Gap {
        /// Where that one ends.
        end: u64,
    },
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineFault::Form => f.write_str("not a line of this format"),
            LineFault::Number => f.write_str("no number, or too large a one"),
            LineFault::Status => f.write_str("the status is none of + ? * / -"),
            LineFault::Empty => f.write_str("an area of no length"),
            LineFault::Odd => f.write_str("not whole sectors of 512 bytes"),
            LineFault::Overlaps { end } => {
                write!(f, "overlaps or precedes the line before, which ends at {end:#x}")
            }
            LineFault::Gap { end } => write!(f, "says nothing of what lies behind {end:#x}"),
        }
    }
}

/// Reads a mapfile, line after line.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapReader {
    /// The line with the current position has been met.
    begun: bool,
    /// Where the next area has to begin, in bytes.
    end: u64,
}

impl MapReader {
    /// Takes the next line, without its line end; the area it names, if it does.
    ///
    /// # Errors
    /// [`LineFault`]; the reader is of no use then.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Area>, LineFault> {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .take_while(|word| word.first() != Some(&b'#'));
        let words = [words.next(), words.next(), words.next(), words.next()];
        match words {
            [None, ..] => Ok(None),
            [Some(at), Some(status), pass, None] if !self.begun => {
                number(at).ok_or(LineFault::Number)?;
                if !matches!(status, b"?" | b"*" | b"/" | b"-" | b"F" | b"G" | b"+") {
                    return Err(LineFault::Status);
                }
                if let Some(pass) = pass {
                    decimal(pass).ok_or(LineFault::Number)?;
                }
                self.begun = true;
                Ok(None)
            }
            [Some(at), Some(size), Some(status), None] => self.area(at, size, status).map(Some),
            _ => Err(LineFault::Form),
        }
    }

    fn area(&mut self, at: &[u8], size: &[u8], status: &[u8]) -> Result<Area, LineFault> {
        let (at, size) = (number(at), number(size));
        let (Some(at), Some(size)) = (at, size) else { return Err(LineFault::Number) };
        let copied = Copied::of(status).ok_or(LineFault::Status)?;
        let end = at.checked_add(size).filter(|end| *end <= AREA_BYTES_MAX);
        let end = end.ok_or(LineFault::Number)?;
        if size == 0 {
            return Err(LineFault::Empty);
        }
        if (at | size) & (SECTOR_BYTES - 1) != 0 {
            return Err(LineFault::Odd);
        }
        if at < self.end {
            return Err(LineFault::Overlaps { end: self.end });
        }
        if at > self.end {
            return Err(LineFault::Gap { end: self.end });
        }
        self.end = end;
        Ok(Area { sector: at / SECTOR_BYTES, sectors: size / SECTOR_BYTES, copied })
    }

    /// The first byte of which nothing has been said.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }
}

/// Reads a badblocks list, line after line.
#[derive(Clone, Copy, Debug)]
pub struct BlockReader {
    /// Sectors of a block.
    block_sectors: u64,
    /// The block behind the last one named.
    next: u64,
}

impl BlockReader {
    /// For blocks of `block_bytes`; `None` unless those are 512 to 65,536 and a power of two.
    #[must_use]
    pub const fn new(block_bytes: u32) -> Option<BlockReader> {
        if !block_bytes.is_power_of_two() || block_bytes < 512 || block_bytes > 65_536 {
            return None;
        }
        Some(BlockReader { block_sectors: (block_bytes / 512) as u64, next: 0 })
    }

    /// Takes the next line, without its line end; an empty one names nothing.
    ///
    /// # Errors
    /// [`LineFault`]; the reader is of no use then.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Area>, LineFault> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(word) = words.next() else { return Ok(None) };
        if words.next().is_some() {
            return Err(LineFault::Form);
        }
        let block = decimal(word).ok_or(LineFault::Number)?;
        if block < self.next {
            return Err(LineFault::Overlaps { end: self.next });
        }
        let next = block.checked_add(1).ok_or(LineFault::Number)?;
        let end = next.checked_mul(self.block_sectors);
        if end.is_none_or(|end| end > AREA_BYTES_MAX / SECTOR_BYTES) {
            return Err(LineFault::Number);
        }
        self.next = next;
        let sector = block.saturating_mul(self.block_sectors);
        Ok(Some(Area { sector, sectors: self.block_sectors, copied: Copied::Bad }))
    }
}

/// A number of C: 0x hexadecimal, 0 octal, else decimal.
fn number(word: &[u8]) -> Option<u64> {
    match word {
        [b'0', b'x' | b'X', digits @ ..] => digits_of(digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => digits_of(digits, 8),
        _ => decimal(word),
    }
}

fn decimal(word: &[u8]) -> Option<u64> {
    digits_of(word, 10)
}

fn digits_of(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
#[path = "areas_tests.rs"]
mod tests;
