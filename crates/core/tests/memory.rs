// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a volume's memory costs, computed from what the parts ask for: at most 32 bytes an entry
//! from 65,536 entries on, everything included, plus at most 1 MiB a volume. Copy buffers and
//! cached page images do not count (DESIGN 4).

use std::sync::atomic::AtomicU64;

use dmremap_core::allocator::Allocator;
use dmremap_core::commit::PageState;
use dmremap_core::machine::{ClientFlush, Job};
use dmremap_core::marks::{Busy, Pending};
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::Shared;
use dmremap_core::slots::SlotMap;
use dmremap_core::table::Table;

type Words = Box<[AtomicU64]>;

/// Threads of a volume: what the engine starts for two devices, rounded up.
const QUEUES: usize = 64;

/// Bytes of a volume without entries.
pub fn fixed_bytes() -> usize {
    let words = RegionMap::<Words>::words()
        + Busy::<Words>::words()
        + Pending::<Words>::words()
        + Pieces::<Words>::words(QUEUES)
        + Readers::<Words>::words(QUEUES)
        + Shared::<Words>::path_words(QUEUES);
    words * 8 + 64 * size_of::<Job>() + 64 * size_of::<ClientFlush>()
}

/// Bytes of a table for `entries`.
pub fn bytes_for(entries: usize) -> usize {
    let pages = entries.div_ceil(126);
    let words = Table::<Words>::words(entries)
        + Allocator::<Words>::words(entries as u64)
        + SlotMap::<Words>::words((pages * 126) as u32);
    words * 8 + (pages + 1) * size_of::<PageState>()
}

#[test]
fn an_entry_costs_at_most_32_bytes() {
    let fixed = fixed_bytes();
    println!("fixed: {fixed} bytes for {QUEUES} queues");
    for entries in [65_536, 262_144, 1_000_000, 4_000_000] {
        let bytes = bytes_for(entries);
        let each = bytes as f64 / entries as f64;
        println!("{entries} entries: {bytes} bytes, {each:.2} an entry");
        assert!(bytes + fixed <= entries * 32 + (1 << 20), "{entries} entries");
    }
}
