// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the client was told by a moment, and what each sector may read as if the power fails then.

use std::ops::Range;

use super::SECTOR;

/// What a sector holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// What main held before there was a volume.
    First,
    /// What this request of the client has written.
    Of(u32),
    /// Zeros, of a write-zeroes or a discard.
    Zeros,
    /// Nothing: it cannot be read.
    Unreadable,
}

impl Value {
    /// The content of a sector that holds this.
    pub fn bytes(self, sector: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let id = match self {
            Value::First => u64::from(u32::MAX),
            Value::Of(id) => u64::from(id),
            Value::Zeros | Value::Unreadable => return bytes,
        };
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        bytes[8..16].copy_from_slice(&(sector as u64).to_le_bytes());
        for filled in [16, 32, 64, 128, 256] {
            bytes.copy_within(..filled, filled);
        }
        bytes
    }
}

/// A request of the client that changes something, or a flush.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Empty for a flush.
    pub sectors: Range<usize>,
    /// What it makes of them.
    pub value: Value,
    /// Answered well, it has done so; a discard has not.
    pub binds: bool,
    pub fua: bool,
}

/// A moment in the life of a request, as noted in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    Submitted(usize),
    Answered(usize, bool),
}

impl Moment {
    pub fn pack(self) -> u64 {
        match self {
            Moment::Submitted(index) => (index as u64) << 2,
            Moment::Answered(index, good) => (index as u64) << 2 | 2 | u64::from(good),
        }
    }

    pub fn unpack(note: u64) -> Moment {
        let index = (note >> 2) as usize;
        match note & 2 {
            0 => Moment::Submitted(index),
            _ => Moment::Answered(index, note & 1 != 0),
        }
    }
}

/// One thing a sector may hold.
struct Version {
    value: Value,
    index: Option<usize>,
    /// Where in the log its good answer stands.
    bound: Option<usize>,
}

/// For each sector, oldest first: the last version that a power cut cannot take back, and what was
/// submitted since.
pub struct History {
    sectors: Vec<Vec<Version>>,
    /// Where each request was submitted.
    submitted: Vec<usize>,
}

impl History {
    pub fn new(sectors: usize, unreadable: &[Range<u64>]) -> History {
        let first = |sector: usize| {
            let bad = unreadable.iter().any(|bad| bad.contains(&(sector as u64)));
            let value = if bad { Value::Unreadable } else { Value::First };
            vec![Version { value, index: None, bound: Some(0) }]
        };
        History { sectors: (0..sectors).map(first).collect(), submitted: Vec::new() }
    }

    /// Takes a note at this place of the log; true if it is the good answer to a flush.
    pub fn note(&mut self, at: usize, moment: Moment, asked: &[Asked]) -> bool {
        match moment {
            Moment::Submitted(index) => {
                assert_eq!(self.submitted.len(), index, "noted in order");
                self.submitted.push(at);
                let Asked { sectors, value, .. } = &asked[index];
                for versions in &mut self.sectors[sectors.clone()] {
                    versions.push(Version { value: *value, index: Some(index), bound: None });
                }
                false
            }
            Moment::Answered(_, false) => false,
            Moment::Answered(index, true) if asked[index].sectors.is_empty() => {
                let before = self.submitted[index];
                self.sectors.iter_mut().for_each(|versions| covered(versions, before));
                true
            }
            Moment::Answered(index, true) => {
                let Asked { sectors, binds, fua, .. } = &asked[index];
                for versions in &mut self.sectors[sectors.clone()] {
                    let its = versions.iter_mut().find(|version| version.index == Some(index));
                    if let Some(version) = its {
                        version.bound = binds.then_some(at);
                    }
                    if *binds && *fua {
                        covered(versions, at + 1);
                    }
                }
                false
            }
        }
    }

    /// How many things a sector may be.
    pub fn choices(&self, sector: usize) -> usize {
        self.sectors[sector].len()
    }

    /// Whether a sector may read as this; how many versions newer than the oldest it is.
    pub fn check(&self, sector: usize, bytes: Option<&[u8]>) -> Result<usize, String> {
        let versions = &self.sectors[sector];
        let fits = |version: &Version| match (version.value, bytes) {
            (Value::Unreadable, bytes) => bytes.is_none(),
            (value, Some(bytes)) => value.bytes(sector) == bytes,
            (_, None) => false,
        };
        let newest = versions.iter().rposition(fits);
        newest.ok_or_else(|| {
            let values: Vec<Value> = versions.iter().map(|version| version.value).collect();
            format!("sector {sector} reads as {}, not as any of {values:?}", told(sector, bytes))
        })
    }
}

/// A flush submitted at this place of the log was good: what was answered before is there to stay.
fn covered(versions: &mut Vec<Version>, before: usize) {
    let is_covered = |version: &Version| version.bound.is_some_and(|bound| bound < before);
    if let Some(last) = versions.iter().rposition(is_covered) {
        versions.drain(..last);
    }
}

fn told(sector: usize, bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "an error".into() };
    let known = (0..100_000).map(Value::Of).chain([Value::First, Value::Zeros]);
    let found = known.into_iter().find(|value| value.bytes(sector) == bytes);
    found.map_or_else(|| format!("{:02x?}..., never written", &bytes[..16]), |v| format!("{v:?}"))
}
