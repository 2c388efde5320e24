// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume in memory with a faulty main, for the tests of volumes.

#![allow(dead_code)] // Each test file uses its own part.

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use dmremap_core::settings::{Key, Setting};
use dmremap_core::{Class, Event, Kind};
use dmremap_engine::{
    BadRun, Device, Faulty, FormatOptions, MemoryDevice, Mode, Request, Volume, VolumeError,
    VolumeOptions, format,
};

/// Main and spare that outlive their volumes, with a fault map each.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub main: Arc<MemoryDevice>,
    pub spare: Arc<MemoryDevice>,
    pub faulty_main: Arc<Faulty>,
    pub faulty_spare: Arc<Faulty>,
    pub events: Arc<Mutex<Vec<Event>>>,
}

/// What main holds at first in a sector.
pub fn first(sector: u64) -> u8 {
    (sector * 37 + 11) as u8 | 1
}

impl Bench {
    pub fn new(main_sectors: u64, spare_sectors: u64, block: u32) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let content = (0..main_sectors * 512).map(|i| first(i / 512)).collect();
        let main = Arc::new(MemoryDevice::with_content(content, block));
        let spare =
            Arc::new(MemoryDevice::with_content(vec![0xee; spare_sectors as usize * 512], 512));
        let faulty = |device: &Arc<MemoryDevice>, name: &str| {
            let map = dir.path().join(name);
            std::fs::write(&map, "").unwrap();
            Arc::new(Faulty::new(device.clone(), name, &map, Mode::default(), 1024).unwrap())
        };
        let (faulty_main, faulty_spare) = (faulty(&main, "main"), faulty(&spare, "spare"));
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
    let request = Request { kind, sector, sectors, fua: false, data: Box::new(data) };
    volume.submit(request, Box::new(move |reply| sender.send(reply).unwrap()));
    move || {
        let reply = reply.recv().expect("every request is answered");
        (*reply.data.into_any().downcast::<Vec<u8>>().unwrap(), reply.bad)
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
