// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where everything lies on a spare.
//!
//! ```text
//! 0       1024    2048    3072       4096    5120       8192    9216    data_start    data_end
//! | copy 0| copy 1| copy 2| reserved | copy 3| reserved | copy 4| areas  | units ...  | 1 MiB |
//!
//! copy   | header 8 | generation 8 | table pages, 8 each, up to 126 |   = 1024 sectors
//! ```
//!
//! A table of more than 126 pages has its pages in five areas of its own from sector 9216 on, one
//! behind the other, each begun at a physical block of the spare; the room behind the headers then
//! stays zero. What is laid out so is written into every header, and a header is believed as far as
//! its places do not overlap, lie below its `data_start`, and leave room for one unit.

use crate::slot::{MAX_SPARE_UNITS, SLOTS_PER_PAGE};
use crate::types::{COPIES, CopyIndex, PageIndex, SECTOR_BYTES, SpareUnit, UNIT_SECTORS};

/// First sectors of the five copies.
pub const COPY_SECTORS: [u64; COPIES] = [0, 1024, 2048, 4096, 8192];
/// Sectors of a copy with its table behind its header.
pub const COPY_LEN_SECTORS: u64 = 1024;
/// Sectors of a metadata page.
pub const PAGE_SECTORS: u64 = 8;
/// Table pages that fit behind a header.
pub const NEAR_PAGES: u32 = 126;
/// The lowest first sector of the data.
pub const MIN_DATA_START: u64 = 9216;
/// Sectors at the end of a spare that are never handed out: 1 MiB.
pub const TAIL_SECTORS: u64 = 2048;
/// Sectors of the smallest spare: the copies, one unit, the last MiB.
pub const MIN_SPARE_SECTORS: u64 = 11_272;
/// The most entries a table is given unless it is asked for: 1 GiB of units.
pub const DEFAULT_MAX_ENTRIES: u32 = 262_144;
/// The most entries a table can have: a slot's number has 24 bits.
pub const MAX_ENTRIES: u32 = (1 << 24) / SLOTS_PER_PAGE as u32 * SLOTS_PER_PAGE as u32;
/// The largest physical block taken without `--force=physical-block`.
pub const MAX_PHYSICAL_BLOCK_BYTES: u32 = 4096;
/// The largest physical block taken at all: what the copies are aligned to.
pub const MAX_FORCED_PHYSICAL_BLOCK_BYTES: u32 = 512 * 1024;
/// The sector given for a copy or page that does not exist. No device has it.
pub const NO_SECTOR: u64 = u64::MAX;

impl CopyIndex {
    /// All five, in order.
    pub const ALL: [CopyIndex; COPIES] =
        [CopyIndex(0), CopyIndex(1), CopyIndex(2), CopyIndex(3), CopyIndex(4)];
}

/// Why a spare cannot be laid out, or a header's places are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayoutError {
    /// The spare has fewer sectors than copies, table, one unit and the last MiB take.
    SpareTooSmall {
        /// Sectors it would take.
        needed_sectors: u64,
        /// Sectors it has.
        sectors: u64,
    },
    /// No power of two from 512, or larger than is taken.
    PhysicalBlock {
        /// What was given.
        bytes: u32,
    },
    /// Not from 1 to [`MAX_ENTRIES`].
    MaxEntries {
        /// What was given.
        entries: u32,
    },
    /// The pages named cannot hold the entries named, or exceed their places.
    Pages,
    /// Places overlap, wrap, are not aligned, or reach into the data.
    Places,
}

impl LayoutError {
    /// One phrase for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LayoutError::SpareTooSmall { .. } => "the spare is too small",
            LayoutError::PhysicalBlock { .. } => "unsupported physical block size of the spare",
            LayoutError::MaxEntries { .. } => "number of entries out of range",
            LayoutError::Pages => "table size and number of entries do not fit",
            LayoutError::Places => "places of the table are impossible",
        }
    }
}

/// Consecutive sectors of a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SectorRange {
    /// The first one.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
}

impl SectorRange {
    /// The sector behind it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.sector.saturating_add(self.sectors)
    }

    /// Whether both hold one sector.
    #[must_use]
    pub const fn overlaps(self, other: SectorRange) -> bool {
        self.sectors != 0
            && other.sectors != 0
            && self.sector < other.end()
            && other.sector < self.end()
    }
}

/// Where everything lies on a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    spare_sectors: u64,
    data_start: u64,
    areas: [u64; COPIES],
    pages: u32,
    max_entries: u32,
    physical_block_bytes: u32,
}

impl Layout {
    /// Lays out a spare of `spare_sectors` whose physical block is `physical_block_bytes`, for
    /// `max_entries` or as many as it has units (at most [`DEFAULT_MAX_ENTRIES`]).
    ///
    /// # Errors
    /// The spare is too small, the physical block no power of two from 512 to
    /// [`MAX_PHYSICAL_BLOCK_BYTES`], the number of entries not from 1 to [`MAX_ENTRIES`].
    pub fn new(
        spare_sectors: u64,
        physical_block_bytes: u32,
        max_entries: Option<u32>,
    ) -> Result<Layout, LayoutError> {
        if physical_block_bytes > MAX_PHYSICAL_BLOCK_BYTES {
            return Err(LayoutError::PhysicalBlock { bytes: physical_block_bytes });
        }
        Layout::new_forced(spare_sectors, physical_block_bytes, max_entries)
    }

    /// The same for a physical block of up to [`MAX_FORCED_PHYSICAL_BLOCK_BYTES`], which two units
    /// or pages may share: rewriting one can tear another in a power cut.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn new_forced(
        spare_sectors: u64,
        physical_block_bytes: u32,
        max_entries: Option<u32>,
    ) -> Result<Layout, LayoutError> {
        let align = alignment(physical_block_bytes)?;
        let max_entries = match max_entries {
            Some(entries) => entries,
            None => default_entries(spare_sectors, align),
        };
        if max_entries == 0 || max_entries > MAX_ENTRIES {
            return Err(LayoutError::MaxEntries { entries: max_entries });
        }
        let pages = max_entries.div_ceil(u32::from(SLOTS_PER_PAGE));
        let (areas, data_start) = place(pages, align);
        Layout { spare_sectors, data_start, areas, pages, max_entries, physical_block_bytes }
            .believed()
    }

    /// A layout as a header names it.
    ///
    /// # Errors
    /// What makes it impossible.
    pub(crate) fn named(
        sizes: (u64, u64),
        areas: [SectorRange; COPIES],
        pages: u32,
        max_entries: u32,
        physical_block_bytes: u32,
    ) -> Result<Layout, LayoutError> {
        let needed = u64::from(pages).saturating_mul(PAGE_SECTORS);
        if areas.iter().any(|area| area.sectors != needed) {
            return Err(LayoutError::Pages);
        }
        let (spare_sectors, data_start) = sizes;
        Layout {
            spare_sectors,
            data_start,
            areas: areas.map(|area| area.sector),
            pages,
            max_entries,
            physical_block_bytes,
        }
        .believed()
    }

    /// Checks everything a layout must fulfil, computed or read. A data member has no table.
    fn believed(self) -> Result<Layout, LayoutError> {
        let align = alignment(self.physical_block_bytes)?;
        let slots = u64::from(self.pages).saturating_mul(u64::from(SLOTS_PER_PAGE));
        let entries = u64::from(self.max_entries);
        if self.max_entries > MAX_ENTRIES || entries > slots || slots > u64::from(MAX_ENTRIES) {
            return Err(LayoutError::Pages);
        }
        let aligned = |sector: u64, to: u64| sector.checked_rem(to) == Some(0);
        if self.data_start < MIN_DATA_START || !aligned(self.data_start, align) {
            return Err(LayoutError::Places);
        }
        let used = self.used();
        for (index, range) in used.iter().enumerate() {
            let inside = range.sector.checked_add(range.sectors).is_some()
                && range.end() <= self.data_start
                && aligned(range.sector, PAGE_SECTORS);
            let mut others = used.iter().skip(index.saturating_add(1));
            if range.sectors != 0 && (!inside || others.any(|other| range.overlaps(*other))) {
                return Err(LayoutError::Places);
            }
        }
        let needed_sectors =
            self.data_start.saturating_add(UNIT_SECTORS).saturating_add(TAIL_SECTORS);
        if self.spare_sectors < needed_sectors {
            return Err(LayoutError::SpareTooSmall { needed_sectors, sectors: self.spare_sectors });
        }
        Ok(self)
    }

    /// The pages of all copies: headers with their generation pages, and tables.
    fn used(&self) -> [SectorRange; 2 * COPIES] {
        let table = u64::from(self.pages).saturating_mul(PAGE_SECTORS);
        let [h0, h1, h2, h3, h4] =
            COPY_SECTORS.map(|sector| SectorRange { sector, sectors: 2 * PAGE_SECTORS });
        let [t0, t1, t2, t3, t4] = self.areas.map(|sector| SectorRange { sector, sectors: table });
        [h0, h1, h2, h3, h4, t0, t1, t2, t3, t4]
    }

    /// Sectors of the spare it was made for.
    #[must_use]
    pub const fn spare_sectors(&self) -> u64 {
        self.spare_sectors
    }

    /// The spare's physical block in bytes, as it was at format.
    #[must_use]
    pub const fn physical_block_bytes(&self) -> u32 {
        self.physical_block_bytes
    }

    /// The sector of a copy's header; [`NO_SECTOR`] for a copy there is not.
    #[must_use]
    pub fn header_sector(&self, copy: CopyIndex) -> u64 {
        header_sector(copy)
    }

    /// The sector of a copy's generation page; [`NO_SECTOR`] for a copy there is not.
    #[must_use]
    pub fn generation_sector(&self, copy: CopyIndex) -> u64 {
        header_sector(copy).saturating_add(PAGE_SECTORS)
    }

    /// The sector of a table page of a copy; [`NO_SECTOR`] if there is no such copy or page.
    #[must_use]
    pub fn page_sector(&self, copy: CopyIndex, page: PageIndex) -> u64 {
        match self.areas.get(usize::from(copy.0)) {
            Some(area) if page.0 < self.pages => {
                area.saturating_add(u64::from(page.0).saturating_mul(PAGE_SECTORS))
            }
            _ => NO_SECTOR,
        }
    }

    /// The sectors of a copy's table pages; empty at [`NO_SECTOR`] for a copy there is not.
    #[must_use]
    pub fn area(&self, copy: CopyIndex) -> SectorRange {
        match self.areas.get(usize::from(copy.0)) {
            Some(area) => SectorRange {
                sector: *area,
                sectors: u64::from(self.pages).saturating_mul(PAGE_SECTORS),
            },
            None => SectorRange { sector: NO_SECTOR, sectors: 0 },
        }
    }

    /// Table pages in each copy; 0 on a data member.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Entries the table is meant to hold.
    #[must_use]
    pub const fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// The first sector that is handed out.
    #[must_use]
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The sector behind the last that may be handed out: the spare's last MiB begins there.
    #[must_use]
    pub const fn data_end(&self) -> u64 {
        self.spare_sectors.saturating_sub(TAIL_SECTORS)
    }

    /// Units between the two, whole ones.
    #[must_use]
    pub fn spare_units(&self) -> u64 {
        units_between(self.data_start, self.spare_sectors)
    }

    /// The first sector of a spare unit; [`NO_SECTOR`] if it lies behind the last.
    #[must_use]
    pub fn unit_sector(&self, unit: SpareUnit) -> u64 {
        if unit.0 >= self.spare_units() {
            return NO_SECTOR;
        }
        self.data_start.saturating_add(unit.0.saturating_mul(UNIT_SECTORS))
    }

    /// The unit an absolute sector of the spare lies in, and its place in that unit (0 to 7);
    /// `None` if it is not handed out.
    #[must_use]
    pub fn unit_at(&self, sector: u64) -> Option<(SpareUnit, u8)> {
        let inside = sector.checked_sub(self.data_start)?;
        let unit = inside / UNIT_SECTORS;
        (unit < self.spare_units()).then_some((SpareUnit(unit), (inside % UNIT_SECTORS) as u8))
    }

    /// Whether `range` lies below `data_start`, holds a sector, and touches no page.
    #[must_use]
    pub fn is_gap(&self, range: SectorRange) -> bool {
        let end = range.sector.checked_add(range.sectors);
        range.sectors != 0
            && end.is_some_and(|end| end <= self.data_start)
            && !self.used().iter().any(|used| used.overlaps(range))
    }

    /// What `format` fills with zeros beside the pages, in ascending order: everything between the
    /// pages below `data_start`, and the last MiB.
    #[must_use]
    pub fn gaps(&self) -> Gaps {
        Gaps { used: self.used(), at: 0, data_start: self.data_start, tail: Some(self.data_end()) }
    }
}

/// The sector of a copy's header on every spare; [`NO_SECTOR`] for a copy there is not.
#[must_use]
pub fn header_sector(copy: CopyIndex) -> u64 {
    COPY_SECTORS.get(usize::from(copy.0)).copied().unwrap_or(NO_SECTOR)
}

/// Iterator of [`Layout::gaps`].
#[derive(Clone, Debug)]
pub struct Gaps {
    used: [SectorRange; 2 * COPIES],
    at: u64,
    data_start: u64,
    tail: Option<u64>,
}

impl Iterator for Gaps {
    type Item = SectorRange;

    fn next(&mut self) -> Option<SectorRange> {
        while self.at < self.data_start {
            let at = self.at;
            if let Some(page) = self.used.iter().find(|r| r.sector <= at && at < r.end()) {
                self.at = page.end();
                continue;
            }
            let ahead = self.used.iter().filter(|r| r.sectors != 0 && r.sector > at);
            let end = ahead.map(|r| r.sector).min().unwrap_or(self.data_start);
            self.at = end.min(self.data_start);
            return Some(SectorRange { sector: at, sectors: self.at.saturating_sub(at) });
        }
        let sector = self.tail.take()?;
        Some(SectorRange { sector, sectors: TAIL_SECTORS })
    }
}

/// What areas and `data_start` are aligned to, in sectors: the physical block, but at least a page.
fn alignment(physical_block_bytes: u32) -> Result<u64, LayoutError> {
    let fits = (512..=MAX_FORCED_PHYSICAL_BLOCK_BYTES).contains(&physical_block_bytes);
    if !fits || !physical_block_bytes.is_power_of_two() {
        return Err(LayoutError::PhysicalBlock { bytes: physical_block_bytes });
    }
    Ok((u64::from(physical_block_bytes) / SECTOR_BYTES).max(PAGE_SECTORS))
}

/// Where the five areas begin and the data behind them.
fn place(pages: u32, align: u64) -> ([u64; COPIES], u64) {
    let up = |sector: u64| sector.checked_next_multiple_of(align).unwrap_or(NO_SECTOR);
    if pages <= NEAR_PAGES {
        let near = COPY_SECTORS.map(|sector| sector.saturating_add(2 * PAGE_SECTORS));
        return (near, up(MIN_DATA_START));
    }
    let each = up(u64::from(pages).saturating_mul(PAGE_SECTORS));
    let mut next = up(MIN_DATA_START);
    let areas = [(); COPIES].map(|()| {
        let area = next;
        next = next.saturating_add(each);
        area
    });
    (areas, next)
}

/// Whole units between `data_start` and the last MiB.
fn units_between(data_start: u64, spare_sectors: u64) -> u64 {
    let sectors = spare_sectors.saturating_sub(TAIL_SECTORS).saturating_sub(data_start);
    (sectors / UNIT_SECTORS).min(MAX_SPARE_UNITS)
}

/// As many entries as there are units, at most [`DEFAULT_MAX_ENTRIES`].
///
/// The table takes room from the units it is for: beyond 126 pages each page costs five units and
/// serves 126, so the two meet at one page for 131 units. Where a table that needs areas would
/// leave fewer units than the largest that does not serves, that one is taken.
fn default_entries(spare_sectors: u64, align: u64) -> u32 {
    let slots = u64::from(SLOTS_PER_PAGE);
    let near = u64::from(NEAR_PAGES).saturating_mul(slots);
    let most = u64::from(DEFAULT_MAX_ENTRIES);
    let units = units_between(place(1, align).1, spare_sectors);
    let fair = units.div_ceil(slots.saturating_add(COPIES as u64));
    let pages = fair.max(u64::from(NEAR_PAGES).saturating_add(1)).min(most.div_ceil(slots));
    let far = units_between(place(pages as u32, align).1, spare_sectors);
    let entries = if units <= near || far <= near { units.min(near) } else { far.min(most) };
    // At least one, so that what is wrong with a tiny spare is that it is too small.
    u32::try_from(entries.max(1)).unwrap_or(DEFAULT_MAX_ENTRIES)
}
