// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume with a faulty main, for the tests of volumes: in memory, or, where a test file is a
//! module of `manners`, on files that are served in the manner that module is named after.

#![allow(dead_code)] // Each test file uses its own part.

mod disk;

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use dmremap_core::settings::{Key, Setting};
use dmremap_core::{Class, Event, Kind};
use dmremap_engine::{
    BadRun, Device, FormatOptions, Manner, Request, Volume, VolumeError, VolumeOptions, format,
};

pub use disk::{Aligned, Disk, Failing};

/// Main and spare that outlive their volumes, with a fault map each.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub main: Disk,
    pub spare: Disk,
    pub faulty_main: Arc<Failing>,
    pub faulty_spare: Arc<Failing>,
    pub events: Arc<Mutex<Vec<Event>>>,
}

/// The manner the tests of this module are about.
pub fn manner() -> Option<Manner> {
    let is = |manner: &Manner| module_path!().split("::").any(|word| word == manner.word());
    [Manner::Inline, Manner::Ring, Manner::Threads].into_iter().find(is)
}

/// What cannot run here says so; where everything must run, that fails the run.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("dmremap-skip: {test}: {reason}");
    if let Some(path) = std::env::var_os("DMREMAP_SKIP_FILE") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        // One write a line: tests of several threads append to this file.
        file.write_all(format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} skipped under CI=true: {reason}");
}

/// A directory of a file system that suits the manner: tmpfs for `Inline`, else a disk.
fn directory() -> tempfile::TempDir {
    match manner() {
        None => tempfile::tempdir(),
        Some(Manner::Inline) if std::path::Path::new("/dev/shm").is_dir() => {
            tempfile::tempdir_in("/dev/shm")
        }
        Some(_) => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
    }
    .unwrap()
}

/// What main holds at first in a sector.
pub fn first(sector: u64) -> u8 {
    (sector * 37 + 11) as u8 | 1
}

impl Bench {
    pub fn new(main_sectors: u64, spare_sectors: u64, block: u32) -> Bench {
        let (dir, manner) = (directory(), manner());
        let content = (0..main_sectors * 512).map(|i| first(i / 512)).collect();
        let main = Disk::new(dir.path(), "main.disk", content, block, manner);
        let content = vec![0xee; spare_sectors as usize * 512];
        let spare = Disk::new(dir.path(), "spare.disk", content, 512, manner);
        let failing =
            |disk, name| Arc::new(Failing::new(disk, name, &dir.path().join(name), manner));
        let (faulty_main, faulty_spare) = (failing(&main, "main"), failing(&spare, "spare"));
        Bench { dir, main, spare, faulty_main, faulty_spare, events: Arc::default() }
    }

    /// A bench with a volume on it.
    pub fn formatted(main_sectors: u64, spare_sectors: u64, block: u32) -> Bench {
        let bench = Bench::new(main_sectors, spare_sectors, block);
        let (main, spare) = bench.devices();
        format(&main, &spare, &FormatOptions::default()).unwrap();
        bench
    }

    pub fn devices(&self) -> (Arc<dyn Device>, Arc<dyn Device>) {
        (self.faulty_main.clone(), self.faulty_spare.clone())
    }

    fn set_map(&self, name: &str, map: &str) {
        let fresh: PathBuf = self.dir.path().join("fresh");
        std::fs::write(&fresh, map).unwrap();
        std::fs::rename(&fresh, self.dir.path().join(name)).unwrap();
    }

    /// Main fails like this from now on: runs of sectors with their words.
    pub fn main_fails(&self, runs: &[(u64, u64, &str)]) {
        self.set_map("main", &map(runs));
    }

    pub fn spare_fails(&self, runs: &[(u64, u64, &str)]) {
        self.set_map("spare", &map(runs));
    }

    pub fn set_main_map(&self, text: &str) {
        self.set_map("main", text);
    }

    pub fn set_spare_map(&self, text: &str) {
        self.set_map("spare", text);
    }

    pub fn try_open(&self, options: &VolumeOptions) -> Result<Volume, VolumeError> {
        let (main, spare) = self.devices();
        let events = self.events.clone();
        Volume::open(main, spare, options, move |event| events.lock().unwrap().push(event))
    }

    pub fn open(&self) -> Volume {
        self.try_open(&accept()).unwrap()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

/// A device in memory proves nothing of itself; and these disks need no time to come to.
pub fn accept() -> VolumeOptions {
    let settings = Setting::new(Key::RetryBackoff, 1).into_iter().collect();
    VolumeOptions { accept_main: true, settings, ..VolumeOptions::default() }
}

fn map(runs: &[(u64, u64, &str)]) -> String {
    let line = |(sector, sectors, words): &(u64, u64, &str)| {
        format!("{} {} - # {words}\n", sector * 512, sectors * 512)
    };
    runs.iter().map(line).collect()
}

/// Submits now; what is returned waits for the answer.
pub fn begin(
    volume: &Volume,
    kind: Kind,
    sector: u64,
    sectors: u32,
    data: Vec<u8>,
) -> impl FnOnce() -> (Vec<u8>, Vec<BadRun>) + use<> {
    let (sender, reply) = channel();
    let data = Box::new(Aligned::of(&data));
    let request = Request { kind, sector, sectors, fua: false, data };
    volume.submit(request, Box::new(move |reply| sender.send(reply).unwrap()));
    move || {
        let reply = reply.recv().expect("every request is answered");
        (reply.data.bytes().to_vec(), reply.bad)
    }
}

pub fn ask(
    volume: &Volume,
    kind: Kind,
    sector: u64,
    sectors: u32,
    data: Vec<u8>,
) -> (Vec<u8>, Vec<BadRun>) {
    begin(volume, kind, sector, sectors, data)()
}

pub fn read(volume: &Volume, sector: u64, sectors: u32) -> (Vec<u8>, Vec<BadRun>) {
    ask(volume, Kind::Read, sector, sectors, vec![0x55; sectors as usize * 512])
}

pub fn write(volume: &Volume, sector: u64, sectors: u32, byte: u8) -> Vec<BadRun> {
    ask(volume, Kind::Write, sector, sectors, vec![byte; sectors as usize * 512]).1
}

pub fn flush(volume: &Volume) -> Result<(), Class> {
    let (sender, outcome) = channel();
    let client = volume.client();
    volume.flush(&client, Box::new(move |result| sender.send(result).unwrap()));
    outcome.recv().expect("every flush is answered")
}

/// The bytes of main as they were at first.
pub fn original(sector: u64, sectors: u32) -> Vec<u8> {
    (sector..sector + u64::from(sectors)).flat_map(|s| [first(s); 512]).collect()
}

/// What mkfs.ext4 leaves in the first block, where the UUID lies.
pub fn superblock(uuid: u8) -> Vec<u8> {
    let mut bytes = vec![0u8; 4096];
    bytes[1024..1032].copy_from_slice(&[0, 4, 0, 0, 0, 16, 0, 0]);
    bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    bytes[0x44c] = 1;
    bytes[0x468..0x478].fill(uuid);
    bytes
}
