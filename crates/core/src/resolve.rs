// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where the blocks of a request live: the hot path, lock-free, without a clock or an allocation.

use core::ops::Deref;

use dmremap_format::{BlockState, SpareUnit, UNIT_SECTORS, UnitIndex};

use crate::api::Dev;
use crate::broken::{Broken, is};
use crate::marks::{Busy, Pending};
use crate::pieces::Pieces;
use crate::readers::Readers;
use crate::region::RegionMap;
use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use crate::table::{Entry, Table};

/// Sizes that turn sectors into units and blocks. All in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Length of main, whole blocks.
    pub main_sectors: u64,
    /// The volume's logical block: 1, 2, 4 or 8.
    pub block_sectors: u8,
    /// Where spare unit 0 begins.
    pub data_start: u64,
}

impl Geometry {
    fn block(&self) -> u64 {
        u64::from(self.block_sectors).max(1)
    }

    /// The unit of a sector of main.
    #[must_use]
    pub fn unit_of(&self, sector: u64) -> UnitIndex {
        UnitIndex(sector >> 3)
    }

    /// The first sector of a unit.
    #[must_use]
    pub fn unit_sector(&self, unit: UnitIndex) -> u64 {
        unit.0.saturating_mul(UNIT_SECTORS)
    }

    /// The first sector on main of block `block` of the unit.
    #[must_use]
    pub fn block_sector(&self, unit: UnitIndex, block: u8) -> u64 {
        self.unit_sector(unit).saturating_add(u64::from(block).saturating_mul(self.block()))
    }

    /// The absolute spare sector of block `block` of a spare unit.
    #[must_use]
    pub fn spare_sector(&self, unit: SpareUnit, block: u8) -> u64 {
        self.data_start
            .saturating_add(unit.0.saturating_mul(UNIT_SECTORS))
            .saturating_add(u64::from(block).saturating_mul(self.block()))
    }

    /// The spare unit that holds an absolute spare sector; `None` below `data_start`.
    #[must_use]
    pub fn spare_unit_of(&self, sector: u64) -> Option<SpareUnit> {
        sector.checked_sub(self.data_start).map(|s| SpareUnit(s >> 3))
    }

    /// The blocks a unit has: fewer in main's short last one.
    #[must_use]
    pub fn all_blocks(&self, unit: UnitIndex) -> u8 {
        let left = self.main_sectors.saturating_sub(self.unit_sector(unit)).min(UNIT_SECTORS);
        low_bits(left.checked_div(self.block()).unwrap_or(0))
    }

    /// Unit and blocks of a range of whole blocks; `None` if it is empty or spans units.
    #[must_use]
    pub fn in_one_unit(&self, sector: u64, sectors: u32) -> Option<(UnitIndex, u8)> {
        let last = sector.checked_add(u64::from(sectors.checked_sub(1)?))?;
        let unit = self.unit_of(sector);
        if self.unit_of(last) != unit {
            return None;
        }
        let first = (sector & 7).checked_div(self.block())?;
        let count = u64::from(sectors).div_ceil(self.block());
        let mask = u16::from(low_bits(count)).wrapping_shl(u32::try_from(first).ok()?);
        Some((unit, u8::try_from(mask & 0xff).unwrap_or(0)))
    }

    /// Sectors in so many blocks.
    #[must_use]
    pub fn sectors_of(&self, blocks: u8) -> u32 {
        u32::from(blocks).saturating_mul(u32::from(self.block_sectors.max(1)))
    }

    /// Byte offset of a block in its unit.
    #[must_use]
    pub fn byte_offset(&self, block: u8) -> u16 {
        u16::from(block).saturating_mul(u16::from(self.block_sectors.max(1))).saturating_mul(512)
    }

    /// Units of main, the short last one counted.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.main_sectors.div_ceil(UNIT_SECTORS)
    }
}

/// A mask of the lowest `count` bits, at most eight.
fn low_bits(count: u64) -> u8 {
    let count = u32::try_from(count.min(8)).unwrap_or(8);
    u8::try_from(1u16.wrapping_shl(count).wrapping_sub(1) & 0xff).unwrap_or(u8::MAX)
}

/// Where a run of blocks lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its own place on main.
    Main,
    /// From this absolute sector of the spare.
    Spare {
        /// Row in the member list.
        member: u8,
        /// First sector.
        sector: u64,
    },
    /// Nowhere.
    Gone,
}

/// What holds a run of blocks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// Its device could not read it: advice.
    Pending,
    /// A recovery has it.
    Busy,
    /// A change of it is in doubt.
    Doubt,
}

/// The first contiguous run of a request that lives in one place and is held back in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its length, at least one sector for a request that is not empty.
    pub sectors: u64,
    /// Where it lives.
    pub place: Place,
    /// What holds it back.
    pub mark: Mark,
}

/// What the fast path and the machine share.
pub struct Shared<W> {
    /// Sizes.
    pub geometry: Geometry,
    /// Where moved blocks live. One writer: the machine.
    pub table: Table<W>,
    /// Lookups under way.
    pub readers: Readers<W>,
    /// Where anything may have been published.
    pub region: RegionMap<W>,
    /// Blocks held by recoveries.
    pub busy: Busy<W>,
    /// Blocks their device could not read.
    pub pending: Pending<W>,
    /// Pieces under way.
    pub pieces: Pieces<W>,
    /// `set pending_read retry`: reads of pending blocks ask the device again.
    pub pending_read_retry: AtomicBool,
    written: [AtomicU64; 2],
    down: [AtomicBool; 2],
    paths: W,
}

/// The parts of a [`Shared`], each in memory of its own, all zero.
pub struct SharedParts<W> {
    /// Sizes.
    pub geometry: Geometry,
    /// Table.
    pub table: Table<W>,
    /// Lookups under way.
    pub readers: Readers<W>,
    /// [`RegionMap::words`].
    pub region: W,
    /// [`Busy::words`].
    pub busy: W,
    /// [`Pending::words`].
    pub pending: W,
    /// [`Pieces::words`].
    pub pieces: W,
    /// [`Shared::path_words`].
    pub paths: W,
    /// Queues.
    pub queues: usize,
}

/// Words a queue's path counters take: a cache line of their own.
const PATH_STRIDE: usize = 8;

impl<W: Deref<Target = [AtomicU64]>> Shared<W> {
    /// Words for the path counters of so many queues.
    #[must_use]
    pub const fn path_words(queues: usize) -> usize {
        queues.saturating_mul(PATH_STRIDE)
    }

    /// A volume without an entry.
    pub fn new(parts: SharedParts<W>) -> Self {
        Shared {
            geometry: parts.geometry,
            table: parts.table,
            readers: parts.readers,
            region: RegionMap::new(parts.region, parts.geometry.main_sectors),
            busy: Busy::new(parts.busy),
            pending: Pending::new(parts.pending),
            pieces: Pieces::new(parts.pieces, parts.queues),
            pending_read_retry: AtomicBool::new(false),
            written: [AtomicU64::new(0), AtomicU64::new(0)],
            down: [AtomicBool::new(false), AtomicBool::new(false)],
            paths: parts.paths,
        }
    }

    /// Job `j` holds these blocks busy. The region is marked first.
    pub fn set_busy(&self, j: usize, unit: UnitIndex, mask: u8) {
        self.region.mark(unit);
        self.busy.set(j, unit, mask);
    }

    /// Job `j` holds these blocks in doubt.
    pub fn set_doubt(&self, j: usize, unit: UnitIndex, mask: u8) {
        self.region.mark(unit);
        self.busy.set_doubt(j, unit, mask);
    }

    /// Job `j` holds nothing.
    pub fn clear_busy(&self, j: usize) {
        self.busy.clear(j);
    }

    fn row<T>(pair: &[T; 2], dev: Dev) -> &T {
        let [main, spare] = pair;
        match dev {
            Dev::Main => main,
            Dev::Spare(_) => spare,
        }
    }

    /// Writes and discards the device has answered, well or badly.
    pub fn written(&self, dev: Dev) -> u64 {
        Self::row(&self.written, dev).load(SeqCst)
    }

    /// The device has answered a write or a discard. Before the answer is passed on.
    pub fn count_written(&self, dev: Dev) {
        Self::row(&self.written, dev).fetch_add(1, SeqCst);
    }

    /// The device is gone until the volume is opened again.
    pub fn set_down(&self, dev: Dev) {
        Self::row(&self.down, dev).store(true, SeqCst);
    }

    /// Whether the device is gone.
    pub fn is_down(&self, dev: Dev) -> bool {
        Self::row(&self.down, dev).load(SeqCst)
    }

    /// Counts a piece on the fast path (main, no entry) or the slow one.
    pub fn count_path(&self, queue: usize, fast: bool) {
        let index = queue.saturating_mul(PATH_STRIDE).saturating_add(usize::from(!fast));
        if let Some(word) = self.paths.get(index) {
            word.fetch_add(1, Relaxed);
        }
    }

    /// Counts from zero again.
    pub fn clear_paths(&self) {
        self.paths.iter().for_each(|word| word.store(0, Relaxed));
    }

    fn path_sum(&self, which: usize) -> u64 {
        self.paths
            .iter()
            .skip(which)
            .step_by(PATH_STRIDE)
            .fold(0u64, |sum, w| sum.wrapping_add(w.load(Relaxed)))
    }

    /// Pieces that took the fast path.
    pub fn fast(&self) -> u64 {
        self.path_sum(0)
    }

    /// Pieces that did not.
    pub fn slow(&self) -> u64 {
        self.path_sum(1)
    }

    /// The first run of the request. Called under a lookup of [`Shared::readers`], or by the
    /// table's writer.
    pub fn resolve(&self, sector: u64, sectors: u64) -> Run {
        if self.region.is_clean(sector, sectors) {
            return Run { sectors, place: Place::Main, mark: Mark::None };
        }
        let (mut length, place, mark) = self.first_run(sector, sectors);
        // The same place further on is the same run, unit by unit.
        while length < sectors {
            let at = sector.saturating_add(length);
            if at & (UNIT_SECTORS - 1) != 0 {
                break;
            }
            let (more, next, next_mark) = self.first_run(at, sectors.saturating_sub(length));
            if next_mark != mark || !continues(place, next, length) {
                break;
            }
            length = length.saturating_add(more);
        }
        Run { sectors: length.min(sectors), place, mark }
    }

    /// The first run, within one unit unless the units there have nothing.
    fn first_run(&self, sector: u64, sectors: u64) -> (u64, Place, Mark) {
        let unit = self.geometry.unit_of(sector);
        // Busy before the table: a change is published while busy stands, so who finds no busy
        // either was counted before the grace of that change began, or finds the change made.
        let (busy, doubt) = if self.busy.is_empty() { (0, 0) } else { self.busy.find(unit) };
        let entry = self.table.get(unit);
        let pending = self.pending.get(unit);
        let block = self.geometry.block();
        let first = (sector & 7).checked_div(block).unwrap_or(0);
        let in_unit = UNIT_SECTORS.saturating_sub(sector & 7).min(sectors);
        // A unit that is moved as a whole, which is most of them, need not be gone through.
        let bits = entry.map_or(0, |entry| entry.states.bits());
        if busy | doubt | pending == 0 && bits == (bits & 3).wrapping_mul(0x5555) {
            let index = u8::try_from(first & 7).unwrap_or(0);
            return (in_unit, self.place_in(entry, index), Mark::None);
        }
        let what = |index: u64| {
            let index = u8::try_from(index & 7).unwrap_or(0);
            let bit = 1u8.wrapping_shl(u32::from(index));
            let mark = if doubt & bit != 0 {
                Mark::Doubt
            } else if busy & bit != 0 {
                Mark::Busy
            } else if pending & bit != 0 {
                Mark::Pending
            } else {
                Mark::None
            };
            (self.place_in(entry, index), mark)
        };
        let (place, mark) = what(first);
        let mut length = block.saturating_sub((sector & 7).checked_rem(block).unwrap_or(0));
        let mut index = first.wrapping_add(1);
        while length < in_unit {
            let (next, next_mark) = what(index);
            if next_mark != mark || !continues(place, next, length) {
                break;
            }
            length = length.saturating_add(block);
            index = index.wrapping_add(1);
        }
        (length.min(sectors), place, mark)
    }

    fn place_in(&self, entry: Option<Entry>, block: u8) -> Place {
        let Some(entry) = entry else { return Place::Main };
        let served = match entry.states.get(block) {
            BlockState::Gone if is(Broken::SpareContentServedForGone) => BlockState::Spare,
            state => state,
        };
        match (served, entry.spare) {
            (BlockState::Main, _) => Place::Main,
            (BlockState::Spare, Some(unit)) => Place::Spare {
                member: entry.member,
                sector: self.geometry.spare_sector(unit, block),
            },
            // A block in state `spare` without a unit is refused at open; it would be nowhere.
            (BlockState::Spare | BlockState::Gone, _) => Place::Gone,
        }
    }
}

/// Whether `next`, `length` sectors further on, lies right behind `place`.
fn continues(place: Place, next: Place, length: u64) -> bool {
    match (place, next) {
        (Place::Main, Place::Main) | (Place::Gone, Place::Gone) => true,
        (Place::Spare { member, sector }, Place::Spare { member: m, sector: s }) => {
            member == m && sector.saturating_add(length) == s
        }
        _ => false,
    }
}
