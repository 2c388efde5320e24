// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The memory a volume's logic works on: plain boxes, allocated once at open.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dmremap_core::allocator::Allocator;
use dmremap_core::commit::{Cached, Joined, MetadataChange, PageState, Store};
use dmremap_core::machine::{ClientFlush, Job, Loader, Memory};
use dmremap_core::marks::{Busy, Pending};
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::{Geometry, Shared, SharedParts};
use dmremap_core::slots::SlotMap;
use dmremap_core::table::Table;
use dmremap_format::{Layout, MAX_MEMBERS, PAGE_BYTES, PageBytes, SLOTS_PER_PAGE, SlotLimits};

/// Recoveries at a time, each with a unit buffer.
pub(crate) const JOBS: usize = 32;
/// Flushes of clients that can wait at a time; later ones queue.
const FLUSHES: usize = 64;
/// Page images kept (DESIGN 6: up to 64 are cached).
const CACHED_PAGES: usize = 64;
/// Changes that can have joined a commit: one a job, and a few of the header and of quarantines.
const JOINS: usize = 2 * JOBS;

/// Words all zero.
pub(crate) type Words = Box<[AtomicU64]>;

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// [`Memory`] in boxes.
pub(crate) struct Boxes;

impl Memory for Boxes {
    type Words = Words;
    type Shared = Arc<Shared<Words>>;
    type Jobs = Box<[Job]>;
    type Flushes = Box<[ClientFlush]>;
    type Store = Pages;
}

/// [`Store`] in boxes.
pub(crate) struct Pages;

impl Store for Pages {
    type Page = PageBytes;
    type Cache = Box<[Cached<PageBytes>]>;
    type States = Box<[PageState]>;
    type Joins = Box<[Joined<MetadataChange>]>;
}

/// Images of pages, all empty.
pub(crate) fn page_cache() -> Box<[Cached<PageBytes>]> {
    (0..CACHED_PAGES).map(|_| Cached::new([0; PAGE_BYTES])).collect()
}

/// Room for changes that have joined a commit.
pub(crate) fn joins() -> Box<[Joined<MetadataChange>]> {
    (0..JOINS).map(|_| Joined::EMPTY).collect()
}

/// Jobs, all free.
pub(crate) fn jobs() -> Box<[Job]> {
    vec![Job::FREE; JOBS].into_boxed_slice()
}

/// Places for clients' flushes, all free.
pub(crate) fn flushes() -> Box<[ClientFlush]> {
    vec![ClientFlush::FREE; FLUSHES].into_boxed_slice()
}

/// What the fast path and the machine share, and what fills it, for a volume laid out so; no
/// entries yet. `queues` threads can look something up at one time.
pub(crate) fn empty_table(
    layout: &Layout,
    geometry: Geometry,
    queues: usize,
) -> (Arc<Shared<Words>>, Loader<Words>) {
    let slots = layout.pages().saturating_mul(u32::from(SLOTS_PER_PAGE)).min(layout.max_entries());
    let entries = slots as usize;
    let (table, writer) = Table::new(words(Table::<Words>::words(entries)), entries);
    let shared = Shared::new(SharedParts {
        geometry,
        table,
        readers: Readers::new(words(Readers::<Words>::words(queues)), queues),
        region: words(RegionMap::<Words>::words()),
        busy: words(Busy::<Words>::words()),
        pending: words(Pending::<Words>::words()),
        pieces: words(Pieces::<Words>::words(queues)),
        paths: words(Shared::<Words>::path_words(queues)),
        queues,
    });
    // Every unit handed out has a slot, an entry's or a quarantine's; a unit being moved off has
    // two for a moment.
    let units = layout.spare_units().min(u64::from(slots).saturating_add(JOBS as u64));
    let mut spare_units = [0; MAX_MEMBERS];
    spare_units[0] = units;
    let loader = Loader {
        writer,
        allocator: Allocator::new(words(Allocator::<Words>::words(units)), units),
        slots: SlotMap::new(words(SlotMap::<Words>::words(slots)), slots),
        limits: SlotLimits {
            main_sectors: geometry.main_sectors,
            block_sectors: geometry.block_sectors,
            spare_units,
        },
    };
    (Arc::new(shared), loader)
}
