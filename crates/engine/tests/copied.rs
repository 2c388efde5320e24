// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Another disk that main was copied onto (DESIGN 10.6).
//!
//! Invariants checked: what the copy lacks is an error before anything is served, whenever the
//! process dies while it is taken; a disk that is main already is never marked as a copy; the
//! metadata can be worked on without main.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::{read, superblock, write};
use dmremap_core::message::{Command, MarkKind};
use dmremap_core::{Class, Marked, Reason};
use dmremap_engine::{
    Device, DeviceKey, FormatOptions, Geometry, Identity, Mark, MarkKind as Word, MemoryDevice,
    SectorRun, Volume, VolumeError, VolumeOptions, format,
};
use dmremap_format::State;
use dmremap_format::identity::Judgement;

const MAIN: u64 = 8192;
const SPARE: u64 = 16_384;
/// What the copy lacks.
const BAD: [SectorRun; 3] = [
    SectorRun { sector: 41, sectors: 2 },
    SectorRun { sector: 1000, sectors: 40 },
    SectorRun { sector: MAIN - 1, sectors: 1 },
];
const BAD_BLOCKS: u64 = 43;

/// A disk with a name of its own, or one whose power is cut after some writes.
struct Disk {
    inner: Arc<MemoryDevice>,
    wwid: Option<&'static str>,
    /// Writes still to come before everything fails.
    left: AtomicI64,
}

impl Disk {
    fn new(inner: &Arc<MemoryDevice>, wwid: Option<&'static str>, left: i64) -> Arc<Disk> {
        Arc::new(Disk { inner: Arc::clone(inner), wwid, left: AtomicI64::new(left) })
    }

    fn change(&self) -> Result<(), Class> {
        match self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(Class::Offline),
        }
    }
}

impl Device for Disk {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.change()?;
        self.inner.write_at(buf, offset, fua)
    }
    fn flush(&self) -> Result<(), Class> {
        self.change()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.inner.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.change()?;
        self.inner.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> Identity {
        let mut identity = self.inner.identity();
        if let Some(value) = self.wwid {
            identity = Identity::bare(DeviceKey::Block { major: 8, minor: 0 });
            identity.marks = vec![Mark { kind: Word::Wwid, value: value.into() }];
        }
        identity
    }
    fn describe(&self) -> String {
        "the disk".into()
    }
}

const NAME: &str = "naa.5000c500a1b2c3d4";
const COPY: &str = "naa.5000c500a1b2c3d5";
const WHOLE: i64 = i64::MAX;

/// A volume, and the copy of its main: zeros where main could not be read.
struct Pair {
    main: Arc<MemoryDevice>,
    copy: Arc<MemoryDevice>,
    spare: Arc<MemoryDevice>,
}

impl Pair {
    fn new() -> Pair {
        let mut bytes = superblock(7);
        bytes.resize((MAIN * 512) as usize, 0x5a);
        let main = Arc::new(MemoryDevice::with_content(bytes.clone(), 512));
        for run in BAD {
            let at = (run.sector * 512) as usize;
            bytes[at..at + (run.sectors * 512) as usize].fill(0);
        }
        let copy = Arc::new(MemoryDevice::with_content(bytes, 512));
        let pair = Pair { main, copy, spare: Arc::new(MemoryDevice::new(SPARE)) };
        let main: Arc<dyn Device> = Disk::new(&pair.main, Some(NAME), WHOLE);
        format(&main, &pair.spare(), &FormatOptions::default()).unwrap();
        pair
    }

    fn spare(&self) -> Arc<dyn Device> {
        self.spare.clone()
    }

    fn open(&self, wwid: &'static str) -> Result<Volume, VolumeError> {
        let disk = if wwid == NAME { &self.main } else { &self.copy };
        let main = Disk::new(disk, Some(wwid), WHOLE);
        Volume::open(main, self.spare(), &VolumeOptions::default(), |_| {})
    }

    /// Takes the copy, while the spare takes only so many writes and flushes.
    fn take(&self, spare_left: i64) -> Result<Volume, VolumeError> {
        let spare = Disk::new(&self.spare, None, spare_left);
        let main = Disk::new(&self.copy, Some(COPY), WHOLE);
        Volume::open_copy(main, spare, &VolumeOptions::default(), &BAD, |_| {})
    }
}

/// Every sector the copy lacks is an error, and every other one is not.
fn check(volume: &Volume) {
    for sector in (32..48).chain(992..1048).chain(MAIN - 8..MAIN) {
        let lacks = BAD.iter().any(|r| (r.sector..r.sector + r.sectors).contains(&sector));
        assert_eq!(!read(volume, sector, 1).1.is_empty(), lacks, "sector {sector}");
    }
}

#[test]
fn trace_10_06_bad_areas_of_a_copy_are_errors_until_overwritten() {
    let pair = Pair::new();
    let volume = pair.take(WHOLE).unwrap();
    check(&volume);
    assert_eq!(volume.status().unwrap().gone_blocks, BAD_BLOCKS);
    // Looking at them, moving them, reading them again: nothing makes them good but a write.
    for unit in [40, 1000, 1016] {
        let _ = volume.act(Command::Verify { sector: unit });
        let _ = volume.act(Command::Remap { sector: unit, to: None });
    }
    check(&volume);
    assert!(write(&volume, 41, 1, 0x77).is_empty());
    assert!(volume.close());
    let volume = pair.open(COPY).expect("it is main by now");
    assert_eq!(read(&volume, 41, 1), (vec![0x77; 512], vec![]));
    assert!(!read(&volume, 42, 1).1.is_empty() && !read(&volume, 1039, 1).1.is_empty());
    assert_eq!(volume.status().unwrap().gone_blocks, BAD_BLOCKS - 1);
    drop(volume);
    assert!(pair.open(NAME).is_err(), "the old disk is main no more");
}

#[test]
fn a_copy_is_never_taken_before_its_bad_areas_are_marked() {
    let whole = Pair::new();
    let spare = Disk::new(&whole.spare, None, WHOLE);
    let main = Disk::new(&whole.copy, Some(COPY), WHOLE);
    let options = VolumeOptions::default();
    let volume = Volume::open_copy(main, spare.clone(), &options, &BAD, |_| {}).unwrap();
    let all = WHOLE - spare.left.load(Ordering::Relaxed);
    volume.abandon();
    let (mut asked, mut taken) = (0, 0);
    for left in 0..all {
        let pair = Pair::new();
        let died = pair.take(left).map(|volume| volume.abandon());
        match pair.open(COPY) {
            Ok(volume) => {
                taken += 1;
                check(&volume);
            }
            Err(VolumeError::Main { .. }) => {
                asked += 1;
                assert!(died.is_err(), "it was served, and is not main: after {left}");
                // The same once more.
                if left % 7 == 0 {
                    check(&pair.take(WHOLE).unwrap());
                }
            }
            Err(error) => panic!("after {left} of {all}: {error}"),
        }
    }
    println!("{all} writes and flushes: asked again after {asked}, taken after {taken}");
    assert!(asked > 10 && taken > 0);
}

#[test]
fn main_itself_is_no_copy() {
    let pair = Pair::new();
    let before = pair.spare.content();
    let main = Disk::new(&pair.main, Some(NAME), WHOLE);
    let options = VolumeOptions::default();
    let refused = Volume::open_copy(main, pair.spare(), &options, &BAD, |_| {});
    let refused = refused.err().expect("it is main itself");
    assert!(
        matches!(refused, VolumeError::Main { judgement: Judgement::NotACopy, .. }),
        "{refused}"
    );
    assert!(pair.spare.content() == before, "nothing was written");
    // A copy that has been taken has been written since: it is not marked once more.
    let volume = pair.take(WHOLE).unwrap();
    assert!(write(&volume, 41, 2, 0x77).is_empty());
    assert!(volume.close());
    drop(volume);
    assert!(pair.take(WHOLE).is_err());
    let volume = pair.open(COPY).unwrap();
    assert_eq!(read(&volume, 41, 2), (vec![0x77; 1024], vec![]));
}

/// Both in one dock that says the same of whatever is in it. Told to open it without a word, who
/// has the map in hand would be served zeros.
#[test]
fn trace_10_06_a_copy_that_passes_for_main_is_marked_first() {
    const DOCK: &str = "t10.ACME    Dock";
    let pair = Pair::new();
    let dock = |disk: &Arc<MemoryDevice>| -> Arc<dyn Device> { Disk::new(disk, Some(DOCK), WHOLE) };
    let force_volume = FormatOptions { force_volume: true, ..FormatOptions::default() };
    format(&dock(&pair.main), &pair.spare(), &force_volume).unwrap();
    let before = pair.spare.content();
    let options = VolumeOptions::default();
    let refused = Volume::open_copy(dock(&pair.copy), pair.spare(), &options, &BAD, |_| {});
    let refused = refused.err().expect("it may be main itself");
    assert!(matches!(refused, VolumeError::Main { judgement: Judgement::Alike, .. }), "{refused}");
    assert!(pair.spare.content() == before, "nothing was written");
    let volume = Volume::open_without_main((MAIN, 512), pair.spare(), &options, |_| {}).unwrap();
    assert_eq!(volume.mark(MarkKind::Gone, &BAD).unwrap().marked, BAD_BLOCKS);
    assert!(volume.close());
    drop(volume);
    check(&Volume::open(dock(&pair.copy), pair.spare(), &options, |_| {}).unwrap());
}

#[test]
fn a_copy_of_another_size_is_refused() {
    let pair = Pair::new();
    let before = pair.spare.content();
    let small = Arc::new(MemoryDevice::new(MAIN - 8));
    let main = Disk::new(&small, Some(COPY), WHOLE);
    let options = VolumeOptions::default();
    let refused = Volume::open_copy(main, pair.spare(), &options, &BAD, |_| {});
    assert!(matches!(refused.err(), Some(VolumeError::Size { .. })));
    assert!(pair.spare.content() == before, "nothing was written");
}

#[test]
fn areas_are_marked_without_main() {
    let pair = Pair::new();
    let options = VolumeOptions::default();
    let open = || Volume::open_without_main((MAIN, 512), pair.spare(), &options, |_| {});
    let volume = open().unwrap();
    let marked = volume.mark(MarkKind::Gone, &BAD).unwrap();
    assert_eq!(marked, Marked { marked: BAD_BLOCKS, ..Marked::default() });
    assert!(!read(&volume, 0, 1).1.is_empty(), "there is no main");
    assert!(volume.close(), "the header says clean");
    drop(volume);
    let volume = open().unwrap();
    assert_eq!(volume.info().state, State::Clean);
    let marked = volume.mark(MarkKind::Gone, &BAD).unwrap();
    assert_eq!(marked, Marked { gone: BAD_BLOCKS, ..Marked::default() });
    volume.abandon();
    // Main is who it was.
    let volume = pair.open(NAME).unwrap();
    check(&volume);
}

#[test]
fn a_table_that_is_full_ends_it() {
    let pair = Pair::new();
    let options = FormatOptions { max_entries: Some(3), force_volume: true, ..Default::default() };
    let main: Arc<dyn Device> = Disk::new(&pair.main, Some(NAME), WHOLE);
    format(&main, &pair.spare(), &options).unwrap();
    let refused = pair.take(WHOLE).err().expect("three slots for seven units");
    let VolumeError::Unmarked { error, .. } = refused else { panic!("{refused}") };
    assert_eq!(error.reason, Reason::Full);
    assert!(matches!(pair.open(COPY), Err(VolumeError::Main { .. })), "it is not main");
}

#[test]
fn thousands_of_areas_share_their_commits() {
    let spare: Arc<dyn Device> = Arc::new(MemoryDevice::new(200_000));
    let main: Arc<dyn Device> = Arc::new(MemoryDevice::new(200_000));
    let options = FormatOptions { max_entries: Some(3_000), ..FormatOptions::default() };
    format(&main, &spare, &options).unwrap();
    let options = VolumeOptions::default();
    let volume = Volume::open_without_main((200_000, 512), spare, &options, |_| {}).unwrap();
    let runs: Vec<SectorRun> =
        (0..3_000).map(|n| SectorRun { sector: n * 16, sectors: 1 }).collect();
    assert_eq!(volume.mark(MarkKind::Gone, &runs).unwrap().marked, 3_000);
    let commits = volume.status().unwrap().metadata.commits;
    println!("3,000 areas in {commits} commits");
    assert!(commits < 1_500, "{commits} commits");
    assert!(volume.close());
}
