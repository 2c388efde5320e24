// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an open of a large table costs, and what a commit. Run it by `cargo xtask bench core`.
//!
//! The table is written as pages of the format, all five copies, onto a spare in memory; the open
//! is the engine's own, with everything it checks and writes. A commit is counted, not timed: from
//! the first page that is written for a move to the moment its write is acknowledged. What would
//! come after that is held back meanwhile, so that nothing is counted that nobody waited for.
//!
//! Every figure is a line `bench`, name, unit, goal, samples, with tabs between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use dmremap_core::{Class, Kind};
use dmremap_engine::{
    Device, FormatOptions, Geometry, Identity, MemoryDevice, Request, Volume, VolumeOptions, format,
};
use dmremap_format::{
    BlockState, Cause, CopyIndex, Expect, Header, PAGE_BYTES, PageIndex, SECTOR_BYTES,
    SLOTS_PER_PAGE, Slot, SpareUnit, States, TablePage, TablePageMut, UnitIndex,
};

const ENTRIES: u64 = 1_000_000;
const OPENS: usize = 5;

/// A device in memory whose writes to one sector fail, and that can hold back what comes after
/// the pages a commit has to write.
struct Watched {
    inner: MemoryDevice,
    bad_sector: Option<u64>,
    seen: Mutex<Seen>,
    armed: AtomicBool,
    released: Condvar,
}

/// What a commit has done so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    page_writes: u32,
    flushes: u32,
    acknowledged: bool,
}

/// Copies that make a commit durable (DESIGN 6).
const COPIES: u32 = 4;
/// After this time nothing is held back any more: an acknowledgement needs more than we think.
const PATIENCE: Duration = Duration::from_secs(10);

impl Watched {
    fn new(sectors: u64, bad_sector: Option<u64>) -> Arc<Watched> {
        Arc::new(Watched {
            inner: MemoryDevice::new(sectors),
            bad_sector,
            seen: Mutex::default(),
            armed: AtomicBool::new(false),
            released: Condvar::new(),
        })
    }

    fn note(&self, event: impl FnOnce(&mut Seen)) {
        if self.armed.load(Ordering::SeqCst) {
            event(&mut self.seen.lock().unwrap());
        }
    }

    /// A page is about to be written: the fifth waits until the write is acknowledged.
    fn page(&self) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let early = |seen: &mut Seen| seen.page_writes == COPIES && !seen.acknowledged;
        let seen = self.seen.lock().unwrap();
        let (mut seen, _) = self.released.wait_timeout_while(seen, PATIENCE, early).unwrap();
        if !seen.acknowledged {
            seen.page_writes += 1;
        }
    }

    fn acknowledge(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap();
        seen.acknowledged = true;
        self.armed.store(false, Ordering::SeqCst);
        self.released.notify_all();
        *seen
    }
}

impl Device for Watched {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        let sectors = offset / SECTOR_BYTES..(offset + buf.len() as u64) / SECTOR_BYTES;
        if self.bad_sector.is_some_and(|bad| sectors.contains(&bad)) {
            return Err(Class::Medium);
        }
        // Every page of the metadata begins like this.
        if buf.len() == PAGE_BYTES && buf.starts_with(b"4RMD") {
            self.page();
        }
        self.inner.write_at(buf, offset, fua)
    }

    fn flush(&self) -> Result<(), Class> {
        self.note(|seen| {
            // The moved data's own flush comes before the first page.
            if seen.page_writes > 0 && !seen.acknowledged {
                seen.flushes += 1;
            }
        });
        self.inner.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.inner.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.inner.write_zeroes(offset, len, fua)
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

fn open(main: &Arc<Watched>, spare: &Arc<Watched>) -> Volume {
    // A device in memory proves nothing of itself.
    let options = VolumeOptions { accept_main: true, ..VolumeOptions::default() };
    Volume::open(main.clone(), spare.clone(), &options, |_| ()).expect("the volume opens")
}

fn read_page(spare: &Watched, sector: u64) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    spare.read_at(&mut page, sector * SECTOR_BYTES).expect("memory can be read");
    page
}

/// Writes a table of [`ENTRIES`] units, each on a spare unit of its own, onto a new volume.
fn fill(spare: &Watched) {
    let header = read_page(spare, dmremap_format::header_sector(CopyIndex(0)));
    let header = Header::check(&header, CopyIndex(0)).expect("a header");
    let layout = header.layout().expect("its layout");
    let (volume, spare_id) = (header.volume(), header.spare());
    for index in 0..layout.pages() {
        let page = PageIndex(index);
        let expect = Expect { volume, spare: spare_id, copy: CopyIndex(0), page };
        let old = read_page(spare, layout.page_sector(CopyIndex(0), page));
        let stamp = TablePage::check(&old, &expect).expect("a table page").stamp();
        let mut image = [0; PAGE_BYTES];
        let mut new = TablePageMut::blank(&mut image, volume, spare_id, page);
        for place in 0..SLOTS_PER_PAGE {
            let entry = u64::from(index) * u64::from(SLOTS_PER_PAGE) + u64::from(place);
            if entry < ENTRIES {
                let slot = Slot {
                    main: Some(UnitIndex(entry * 2)),
                    spare: Some(SpareUnit(entry)),
                    states: States::ALL_MAIN.with(0xff, BlockState::Spare),
                    cause: Cause::WriteError,
                    ..Slot::FREE
                };
                new.set_slot(place, &slot).expect("a slot that can be");
            }
        }
        for copy in (0..5).map(CopyIndex) {
            TablePageMut::edit(&mut image).seal(copy, stamp);
            let at = layout.page_sector(copy, page) * SECTOR_BYTES;
            spare.write_at(&image, at, false).expect("memory can be written");
        }
    }
}

fn opening() {
    let (main, spare) = (Watched::new(ENTRIES * 16, None), Watched::new(ENTRIES * 9, None));
    let devices: (Arc<dyn Device>, Arc<dyn Device>) = (main.clone(), spare.clone());
    let options = FormatOptions { max_entries: Some(ENTRIES as u32), ..FormatOptions::default() };
    format(&devices.0, &devices.1, &options).expect("a volume is made");
    fill(&spare);
    let mut samples = String::new();
    for _ in 0..OPENS {
        let start = Instant::now();
        let volume = open(&main, &spare);
        samples += &format!(" {:.3}", start.elapsed().as_secs_f64());
        let status = volume.status().expect("a status");
        assert_eq!(status.entries, ENTRIES);
        volume.close();
    }
    println!("bench\topen, {ENTRIES} entries, from memory\ts\t< 1\t{}", samples.trim_start());
}

fn committing() {
    const BAD: u64 = 4_096;
    let (main, spare) = (Watched::new(65_536, Some(BAD)), Watched::new(65_536, None));
    let devices: (Arc<dyn Device>, Arc<dyn Device>) = (main.clone(), spare.clone());
    format(&devices.0, &devices.1, &FormatOptions::default()).expect("a volume is made");
    let volume = open(&main, &spare);
    spare.armed.store(true, Ordering::SeqCst);
    let (sender, reply) = channel();
    let data = Box::new(vec![0xa5u8; 4096]);
    let request = Request { kind: Kind::Write, sector: BAD, sectors: 8, fua: false, data };
    let watched = Arc::clone(&spare);
    let done = move |reply: dmremap_engine::Reply| {
        let seen = watched.acknowledge();
        sender.send((seen, reply.result())).expect("somebody waits");
    };
    volume.submit(request, Box::new(done));
    let (seen, result) = reply.recv_timeout(6 * PATIENCE).expect("an answer");
    assert_eq!((result, seen.acknowledged), (Ok(()), true));
    println!("bench\tcommit, page writes before the acknowledgement\t\t= 4\t{}", seen.page_writes);
    println!("bench\tcommit, flushes before the acknowledgement\t\t= 2\t{}", seen.flushes);
    volume.close();
}

fn main() {
    committing();
    opening();
}
