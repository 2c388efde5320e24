// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which copy tells the cause, and when nobody is asked any more.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::device::Geometry;
use crate::device::identity::Identity;
use crate::device::memory::MemoryDevice;
use dmremap_core::Class;
use dmremap_format::{
    BlockState, Cause, Layout, Session, SlotIndex, SpareUnit, Stamp, State, States, TablePageMut,
    UnitIndex, Uuid,
};

const VOLUME: Uuid = Uuid([1; 16]);
const SPARE: Uuid = Uuid([2; 16]);
const STATES: States = States::ALL_MAIN;

/// A spare that counts what is read of it.
struct Counting(MemoryDevice, AtomicUsize);

impl Device for Counting {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.0.write_at(buf, offset, fua)
    }
    fn flush(&self) -> Result<(), Class> {
        self.0.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.0.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.0.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> Identity {
        self.0.identity()
    }
    fn describe(&self) -> String {
        "counted".into()
    }
}

struct Bench {
    spare: Counting,
    info: VolumeInfo,
}

impl Bench {
    fn new() -> Bench {
        let layout = Layout::new(20_000, 4096, Some(300)).unwrap();
        let info = VolumeInfo {
            volume: VOLUME,
            spare: SPARE,
            name: String::new(),
            layout,
            main_sectors: 8192,
            block_bytes: 512,
            before: Session::default(),
            state: State::Clean,
            session: Uuid::default(),
            content_changed: false,
        };
        Bench { spare: Counting(MemoryDevice::new(20_000), AtomicUsize::new(0)), info }
    }

    /// Writes a copy of a page with these entries: place, unit, spare unit, cause.
    fn put(&self, copy: usize, page: u32, slots: &[(u8, u64, u64, Cause)]) {
        let (copy, page) = (CopyIndex::ALL[copy], PageIndex(page));
        let mut bytes = Box::new([0; PAGE_BYTES]);
        let mut image = TablePageMut::blank(&mut bytes, VOLUME, SPARE, page);
        for (place, unit, spare, cause) in slots {
            let slot = Slot {
                main: Some(UnitIndex(*unit)),
                spare: Some(SpareUnit(*spare)),
                states: STATES.with(1, BlockState::Spare),
                cause: *cause,
                ..Slot::FREE
            };
            image.set_slot(*place, &slot).unwrap();
        }
        image.seal(copy, Stamp { generation: 1, sequence: 1 });
        let sector = self.info.layout.page_sector(copy, page);
        self.spare.write_at(&bytes[..], sector * 512, false).unwrap();
    }

    fn reads(&self) -> usize {
        self.spare.1.load(Ordering::Relaxed)
    }
}

fn entry(slot: u32, unit: u64, spare: u64) -> Entry {
    Entry {
        unit: UnitIndex(unit),
        spare: Some(SpareUnit(spare)),
        member: 0,
        states: STATES.with(1, BlockState::Spare),
        slot: SlotIndex(slot),
    }
}

#[test]
fn a_page_is_read_once_and_from_a_copy_that_speaks_of_the_entry() {
    let bench = Bench::new();
    let (old, new) = ((3, 40, 7, Cause::WriteError), (4, 41, 8, Cause::Remap));
    // The first copy is broken, the second was missed by the last commit.
    bench.put(1, 0, &[old]);
    bench.put(2, 0, &[old, new]);
    bench.put(0, 1, &[(0, 50, 9, Cause::WeakRead)]);
    let mut causes = Causes::new(&bench.spare, &bench.info);
    assert_eq!(causes.word(&entry(3, 40, 7)), "write-error");
    assert_eq!(bench.reads(), 2);
    assert_eq!(causes.word(&entry(4, 41, 8)), "remap");
    assert_eq!(bench.reads(), 5);
    assert_eq!(causes.word(&entry(3, 40, 7)), "write-error");
    assert_eq!(causes.word(&entry(126, 50, 9)), "weak-read");
    assert_eq!(bench.reads(), 6);
    // No page speaks of this one: it came after all of them.
    assert_eq!(causes.word(&entry(5, 42, 9)), "-");
    assert_eq!(causes.word(&entry(4, 41, 9)), "-", "another spare unit");
    assert_eq!(causes.word(&entry(4, 41, 8)), "remap");
}

#[test]
fn a_spare_that_gives_no_copy_is_asked_no_more() {
    let bench = Bench::new();
    bench.put(0, 1, &[(0, 50, 9, Cause::Remap)]);
    let mut causes = Causes::new(&bench.spare, &bench.info);
    assert_eq!(causes.word(&entry(3, 40, 7)), "-");
    assert_eq!(bench.reads(), 5);
    assert_eq!(causes.word(&entry(126, 50, 9)), "-");
    assert_eq!(bench.reads(), 5);
}

#[test]
fn a_list_has_an_end() {
    let bench = Bench::new();
    bench.put(0, 0, &[(3, 40, 7, Cause::Remap)]);
    let mut causes = Causes::new(&bench.spare, &bench.info);
    causes.begun -= PATIENCE * 2;
    assert_eq!((causes.word(&entry(3, 40, 7)), bench.reads()), ("-", 0));
}
