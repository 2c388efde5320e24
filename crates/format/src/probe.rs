// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What lies on a device already, found without I/O: the caller reads, this judges.
//!
//! ```text
//! let mut prober = Prober::new(bytes, Depth::Partitions);
//! while let Some(window) = prober.next() {
//!     match read(window.offset, &mut buf[..window.len]) {
//!         Ok(read) => prober.judge(window, read, |found| ...),
//!         Err(_) => prober.unreadable(window),
//!     }
//! }
//! ```
//!
//! The same table serves two ends. `format` asks what is there before it writes
//! ([`Depth::Device`]). Main is known again by the UUIDs of its partition table and of the file
//! systems on it ([`Depth::Partitions`]): after the device itself the regions its partition table
//! names are looked at, up to [`MAX_PARTITIONS`] of them. Everything read is hostile: places
//! outside the device are dropped, and a table that names ten thousand partitions costs no more
//! than one with fifteen.

use crate::probe_rules::{Anchor, PROBE_BLOCK_BYTES, RULES, Rule, Spot, UuidAt};
use crate::signature::Signature;
use crate::types::{SECTOR_BYTES, Uuid};

/// Partitions looked into.
pub const MAX_PARTITIONS: usize = 15;

/// A part of a device that can be read and judged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First byte on the device, a multiple of 512.
    pub offset: u64,
    /// Bytes, at most 4096; less at the end of the device only.
    pub len: usize,
    region: u8,
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The device as a whole: is there anything on it?
    Device,
    /// Its partitions too: what is it, that is, which UUIDs does it bear?
    Partitions,
}

/// A signature and where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of what.
    pub kind: Signature,
    /// First byte of its structure on the device.
    pub offset: u64,
    /// Found inside a partition of the device.
    pub in_partition: bool,
    /// A copy that what it belongs to keeps for emergencies, not the thing itself: it may outlive
    /// it by years.
    pub copy: bool,
    /// Its UUID or a shorter number with zeros behind it, `None` if it has none.
    pub uuid: Option<Uuid>,
}

/// A run of bytes of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Region {
    start: u64,
    len: u64,
}

/// Asks for windows and judges them; see the head of this file.
#[derive(Clone, Debug)]
pub struct Prober {
    device_bytes: u64,
    depth: Depth,
    /// Region 0 is the device, those behind it its partitions.
    regions: [Region; MAX_PARTITIONS + 1],
    used: u8,
    current: u8,
    /// First byte in the current region that has not been asked for.
    next: u64,
    /// Where a GPT keeps its rows, while they have not been read, and how long one is.
    rows: Option<(Window, GptRows)>,
    table_unreadable: bool,
}

/// How the rows of a GPT are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GptRows {
    /// First byte in the window.
    first: usize,
    count: usize,
    row_bytes: usize,
    block_bytes: u64,
}

/// The number a window of GPT rows has instead of a region.
const ROWS: u8 = u8::MAX;

impl Prober {
    /// For a device of `device_bytes` bytes.
    #[must_use]
    pub const fn new(device_bytes: u64, depth: Depth) -> Prober {
        let device = Region { start: 0, len: device_bytes };
        let mut regions = [Region { start: 0, len: 0 }; MAX_PARTITIONS + 1];
        if let Some(first) = regions.first_mut() {
            *first = device;
        }
        Prober {
            device_bytes,
            depth,
            regions,
            used: 1,
            current: 0,
            next: 0,
            rows: None,
            table_unreadable: false,
        }
    }

    /// The next window to read, `None` when everything has been looked at. Windows of one region
    /// come in ascending order; in all there are a few dozen for each region, whatever its size.
    #[allow(clippy::should_implement_trait)] // Judging comes between, so it is no iterator.
    pub fn next(&mut self) -> Option<Window> {
        if let Some((window, _)) = &self.rows {
            return Some(*window);
        }
        while self.current < self.used {
            let region = *self.regions.get(usize::from(self.current))?;
            if let Some(block) = next_block(region.len, self.next, self.current > 0) {
                self.next = block.saturating_add(PROBE_BLOCK_BYTES);
                return self.window(region.start.saturating_add(block), self.current);
            }
            self.current = self.current.saturating_add(1);
            self.next = 0;
        }
        None
    }

    /// Judges what was read from `window`: `bytes` must have its length. Calls `found` for every
    /// signature.
    pub fn judge(&mut self, window: Window, bytes: &[u8], mut found: impl FnMut(Found)) {
        if window.region == ROWS {
            if let Some((_, rows)) = self.rows.take() {
                self.gpt_partitions(&rows, bytes);
            }
            return;
        }
        let Some(region) = self.regions.get(usize::from(window.region)).copied() else { return };
        let Some(block) = window.offset.checked_sub(region.start) else { return };
        for rule in rules(window.region > 0) {
            for (i, anchor) in rule.anchors.iter().enumerate() {
                let Some((spot, at)) = at_anchor(rule, *anchor, region.len, block, bytes) else {
                    continue;
                };
                found(Found {
                    kind: rule.kind,
                    offset: region.start.saturating_add(at),
                    in_partition: window.region > 0,
                    copy: rule.copies.has(i),
                    uuid: spot.uuid(rule.uuid),
                });
                if window.region == 0 && self.depth == Depth::Partitions {
                    self.partitions(rule.kind, at, &spot);
                }
            }
        }
    }

    /// `window` could not be read, or what was read there is not what the volume holds.
    pub fn unreadable(&mut self, window: Window) {
        if window.region == ROWS {
            self.rows = None;
        }
        // A partition table stands in the first two blocks; what cannot be read there may be one.
        let may_hold_table = window.region == 0 && window.offset < 2 * PROBE_BLOCK_BYTES;
        self.table_unreadable |= window.region == ROWS || may_hold_table;
    }

    /// Whether a partition table may have been hidden: nothing then follows from a file system in
    /// a partition that was not found.
    #[must_use]
    pub const fn table_unreadable(&self) -> bool {
        self.table_unreadable
    }

    /// The window at `offset`, cut at the end of the device.
    fn window(&self, offset: u64, region: u8) -> Option<Window> {
        let left = self.device_bytes.checked_sub(offset)?;
        let len = usize::try_from(left.min(PROBE_BLOCK_BYTES)).ok()?;
        Some(Window { offset, len, region })
    }

    /// Takes note of the partitions that a table names. A GPT counts for more than the DOS table
    /// before it, which only guards it.
    fn partitions(&mut self, kind: Signature, at: u64, spot: &Spot<'_>) {
        match kind {
            Signature::Mbr => {
                for row in [446usize, 462, 478, 494] {
                    self.mbr_partition(spot, row);
                }
            }
            Signature::Gpt if at == 512 || at == 4096 => self.gpt_rows(at, spot),
            _ => {}
        }
    }

    fn mbr_partition(&mut self, spot: &Spot<'_>, row: usize) {
        let at = |offset: usize| row.checked_add(offset);
        // The guard of a GPT (EE) and the heads of chains (5, F, 85) hold no file system.
        let skipped = [0u8, 0x05, 0x0f, 0x85, 0xee];
        let kind = at(4).filter(|&at| !skipped.iter().any(|kind| spot.has(at, &[*kind])));
        let start = at(8).and_then(|at| spot.le32(at));
        let len = at(12).and_then(|at| spot.le32(at));
        if let (Some(_), Some(start), Some(len)) = (kind, start, len) {
            self.add_region(u64::from(start), u64::from(len), SECTOR_BYTES);
        }
    }

    /// The header of a GPT says where its rows are; they are asked for next.
    fn gpt_rows(&mut self, at: u64, spot: &Spot<'_>) {
        let block_bytes = at;
        let row_bytes = spot.le32(84).and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
        let count = spot.le32(80).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let first = spot.le64(72).and_then(|lba| lba.checked_mul(block_bytes));
        let legal = (128..=1024).contains(&row_bytes) && row_bytes.is_power_of_two();
        let (Some(first), true) = (first, legal) else { return };
        let start = first & !(PROBE_BLOCK_BYTES.saturating_sub(1));
        let inside = usize::try_from(first.saturating_sub(start)).unwrap_or(0);
        if let Some(window) = self.window(start, ROWS) {
            let rows = GptRows { first: inside, count, row_bytes, block_bytes };
            // What the DOS table said of the partitions no longer counts.
            self.used = 1;
            self.rows = Some((window, rows));
        }
    }

    /// Rows that do not lie in the block read are left out: it holds the first fifteen and more.
    fn gpt_partitions(&mut self, rows: &GptRows, bytes: &[u8]) {
        let table = bytes.get(rows.first..).unwrap_or_default();
        for row in table.chunks_exact(rows.row_bytes.max(1)).take(rows.count) {
            let spot = Spot::new(row, 0, 0);
            let used = row.first_chunk::<16>().is_some_and(|kind| *kind != [0; 16]);
            let (Some(first), Some(last)) = (spot.le64(32), spot.le64(40)) else { continue };
            let blocks = last.checked_sub(first).and_then(|blocks| blocks.checked_add(1));
            if let (true, Some(blocks)) = (used, blocks) {
                self.add_region(first, blocks, rows.block_bytes);
            }
        }
    }

    /// Adds a partition, if it lies on the device and there is a place for it.
    fn add_region(&mut self, start: u64, len: u64, block_bytes: u64) {
        let (Some(start), Some(len)) =
            (start.checked_mul(block_bytes), len.checked_mul(block_bytes))
        else {
            return;
        };
        let inside = start > 0 && start.checked_add(len).is_some_and(|e| e <= self.device_bytes);
        if let (true, Some(place)) =
            (inside && len > 0, self.regions.get_mut(usize::from(self.used)))
        {
            *place = Region { start, len };
            self.used = self.used.saturating_add(1);
        }
    }
}

/// The rules that are looked for: inside a partition only those that can tell which one it is.
fn rules(in_partition: bool) -> impl Iterator<Item = &'static Rule> {
    let table = |kind| {
        matches!(
            kind,
            Signature::Gpt
                | Signature::Mbr
                | Signature::DmRemap
                | Signature::DmRemapV4Real
                | Signature::DmRemapV3
        )
    };
    RULES.iter().filter(move |rule| {
        !in_partition || (!table(rule.kind) && !matches!(rule.uuid, UuidAt::None))
    })
}

/// The first block from `from` on, in a region of `len` bytes, that a rule looks at.
fn next_block(len: u64, from: u64, in_partition: bool) -> Option<u64> {
    rules(in_partition)
        .flat_map(|rule| rule.anchors)
        .filter_map(|anchor| anchor.offset(len))
        .map(|at| at & !(PROBE_BLOCK_BYTES - 1))
        .filter(|&block| block >= from && block < len)
        .min()
}

/// What `rule` finds at `anchor`, if that lies in the block at `block` whose bytes these are, and
/// how many bytes from the region's start.
fn at_anchor<'a>(
    rule: &Rule,
    anchor: Anchor,
    region_bytes: u64,
    block: u64,
    bytes: &'a [u8],
) -> Option<(Spot<'a>, u64)> {
    let at = anchor.offset(region_bytes)?;
    let inside = at.checked_sub(block).filter(|&inside| inside < PROBE_BLOCK_BYTES)?;
    let spot = Spot::new(bytes, usize::try_from(inside).ok()?, at);
    let (magic_at, magic) = rule.magic;
    (spot.has(magic_at, magic) && (rule.also)(&spot)).then_some((spot, at))
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
