// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Power cuts, from a recording of a volume at work: at every flush and at random moments between,
//! both devices are rebuilt as a cut could have left them, the volume is opened, and everything is
//! read.
//!
//! What a cut leaves (`cut`): of each device, every write answered before the last good flush of
//! *that device* began, every write with FUA that was answered; of the others any subset, some of
//! them torn between two sectors, the two devices independently of each other.
//!
//! Invariants checked (`history`, by what the client was told before the cut):
//! * a sector reads as the last write a good flush covered (or with FUA), or as any write of it
//!   submitted since, whole;
//! * it never reads as anything else: nothing older, no other sector's content, no mixture;
//! * it fails only where main cannot be read and no write of it is covered;
//! * every image opens, and so does what a second cut leaves in the middle of that open.
//!
//! That this sees anything is shown by a volume whose clients' flushes leave out a device (feature
//! `broken`).

mod cut;
mod history;
mod load;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use cut::{BadReads, Disk, Landing, Pair};
use dmremap_core::Kind;
use dmremap_core::settings::{Key, Setting};
use dmremap_engine::{
    Device, Log, LogEvent, LogKind, MemoryDevice, Recorder, Request, Volume, VolumeOptions,
};
use history::{History, Moment};
use load::{Load, Recording, Told};

/// Sectors of main: two buckets of the grace counters.
const MAIN: u64 = 4096;
/// Sectors of the spare.
const SPARE: u64 = 14_336;
const SECTOR: usize = 512;
/// Loads of the test that must find nothing.
const SEEDS: u64 = 4;

/// Which variant of the logic is in force is the whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A small generator (xorshift64*), so that a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Devices in memory prove nothing of themselves; and these need no time to come to.
fn options() -> VolumeOptions {
    let settings = Setting::new(Key::RetryBackoff, 1).into_iter().collect();
    VolumeOptions { accept_main: true, settings, ..VolumeOptions::default() }
}

/// How much was looked at.
#[derive(Default, Debug)]
struct Figures {
    /// Images with nothing on the medium but what a flush has covered, one at each flush.
    strict: u64,
    /// Images with a random part of the rest.
    random: u64,
    /// Of these, images cut once more in the middle of their open.
    second_cuts: u64,
    /// Sectors that could have read as more than one thing.
    open_sectors: u64,
    /// Sectors read as something newer than what was covered.
    newer_sectors: u64,
    /// Sectors that failed, all of them excused.
    errors: u64,
}

/// Opens what a cut has left and reads all of it: `None` for a sector that failed.
fn read_all(main: Arc<dyn Device>, spare: Arc<dyn Device>) -> Result<Vec<Option<Vec<u8>>>, String> {
    let volume = Volume::open(main, spare, &options(), |_| {}).map_err(|e| e.to_string())?;
    let (sender, reply) = channel();
    let data = Box::new(vec![0x55; MAIN as usize * SECTOR]);
    let request = Request { kind: Kind::Read, sector: 0, sectors: MAIN as u32, fua: false, data };
    volume.submit(request, Box::new(move |reply| _ = sender.send(reply)));
    let reply = reply.recv().map_err(|_| "the read was not answered".to_owned())?;
    volume.abandon();
    let mut content: Vec<_> =
        reply.data.bytes().chunks(SECTOR).map(|bytes| Some(bytes.to_vec())).collect();
    for bad in reply.bad {
        let run = bad.sector as usize..bad.sector as usize + bad.sectors as usize;
        content[run].fill(None);
    }
    Ok(content)
}

/// Everything that is checked of one recording.
struct Check<'a> {
    recording: &'a Recording,
    random: Random,
    figures: Figures,
}

impl Check<'_> {
    fn devices(&self, main: Vec<u8>, spare: Vec<u8>) -> Pair<Arc<dyn Device>> {
        let main = BadReads::new(MemoryDevice::with_content(main, 512), &self.recording.unreadable);
        let spare = MemoryDevice::with_content(spare, 512);
        Pair { main: Arc::new(main), spare: Arc::new(spare) }
    }

    /// Cuts the power now.
    fn cut(
        &mut self,
        disks: &Pair<Disk>,
        history: &History,
        landing: Landing,
    ) -> Result<(), String> {
        let main = disks.main.image(landing, &mut self.random);
        let spare = disks.spare.image(landing, &mut self.random);
        match landing {
            Landing::Nothing => self.figures.strict += 1,
            _ => self.figures.random += 1,
        }
        if self.random.one_in(8) {
            return self.second_cut(main, spare, history);
        }
        let Pair { main, spare } = self.devices(main, spare);
        self.judge(&read_all(main, spare)?, history)
    }

    /// Cuts the power again, in the middle of the open.
    fn second_cut(
        &mut self,
        main: Vec<u8>,
        spare: Vec<u8>,
        history: &History,
    ) -> Result<(), String> {
        let log = Log::memory();
        let devices = self.devices(main.clone(), spare.clone());
        let record = |device, tag| -> Arc<dyn Device> {
            Arc::new(Recorder::new(device, Arc::clone(&log), tag))
        };
        let content = read_all(record(devices.main, 0), record(devices.spare, 1))?;
        self.judge(&content, history)?;
        let mut disks = Pair { main: Disk::new(main), spare: Disk::new(spare) };
        let events = log.events();
        let until = self.random.below(events.len() as u64 + 1) as usize;
        for (at, event) in events.iter().take(until).enumerate() {
            disks.take(at, event);
        }
        self.figures.second_cuts += 1;
        let landing = Landing::any(&mut self.random);
        let main = disks.main.image(landing, &mut self.random);
        let spare = disks.spare.image(landing, &mut self.random);
        let Pair { main, spare } = self.devices(main, spare);
        self.judge(&read_all(main, spare)?, history).map_err(|e| format!("second cut: {e}"))
    }

    fn judge(&mut self, content: &[Option<Vec<u8>>], history: &History) -> Result<(), String> {
        for (sector, bytes) in content.iter().enumerate() {
            let age = history.check(sector, bytes.as_deref())?;
            self.figures.errors += u64::from(bytes.is_none());
            self.figures.open_sectors += u64::from(history.choices(sector) > 1);
            self.figures.newer_sectors += u64::from(age > 0);
        }
        Ok(())
    }

    /// Plays the recording, cutting at every flush, at every answer to a client's flush, and
    /// `between` times in a thousand events.
    fn run(&mut self, between: u64) -> Result<(), String> {
        let recording = self.recording;
        let mut disks = Pair {
            main: Disk::new(recording.main.clone()),
            spare: Disk::new(recording.spare.clone()),
        };
        let mut history = History::new(MAIN as usize, &recording.unreadable);
        let events: &[LogEvent] = &recording.events;
        for (at, event) in events.iter().enumerate() {
            let mut boundary = disks.take(at, event);
            if let LogKind::Note { value } = event.kind {
                boundary |= history.note(at, Moment::unpack(value), &recording.asked);
            }
            let random = self.random.below(1000) < between;
            let landing = match (boundary, random) {
                (true, _) => Landing::Nothing,
                (false, true) => Landing::any(&mut self.random),
                _ => continue,
            };
            self.cut(&disks, &history, landing)
                .map_err(|why| format!("cut behind event {at} of {}: {why}", events.len()))?;
        }
        Ok(())
    }
}

/// Records a load and checks it: how far it came, or what it found.
fn record_and_check(seed: u64, load: &Load) -> Result<(Figures, Arc<Told>), String> {
    let recording = load::record(seed, load);
    let mut check =
        Check { recording: &recording, random: Random(seed ^ 0x5eed), figures: Figures::default() };
    check.run(load.cuts_per_thousand).map_err(|why| format!("seed {seed}: {why}"))?;
    println!("seed {seed}: {} events, {:?}", recording.events.len(), recording.told);
    println!("seed {seed}: {:?}", check.figures);
    Ok((check.figures, Arc::clone(&recording.told)))
}

#[test]
fn every_power_cut_leaves_what_was_flushed() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut images, mut told) = (0, [0; 4]);
    for seed in 1..=SEEDS {
        let (figures, events) =
            record_and_check(seed, &Load::FULL).unwrap_or_else(|w| panic!("{w}"));
        assert!(figures.newer_sectors > 0 && figures.errors > 0 && figures.second_cuts > 0);
        images += figures.random;
        told.iter_mut().zip(events.counts()).for_each(|(sum, count)| *sum += count);
    }
    assert!(images >= 1000, "{images} images of random subsets");
    let [moved, home, _pending, quarantined] = told;
    assert!(moved > 50 && home > 0 && quarantined > 0, "{told:?}");
}

#[cfg(feature = "broken")]
mod broken {
    use super::*;
    use dmremap_core::broken::{Broken, select};

    /// Puts every rule in force again, also when an assertion has failed.
    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            select(Broken::None);
        }
    }

    fn is_caught(variant: Broken) {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let _restore = Restore;
        select(variant);
        let found = (1..=16).find_map(|seed| record_and_check(seed, &Load::FULL).err());
        let why = found.unwrap_or_else(|| panic!("{} was not caught", variant.name()));
        println!("{} caught: {why}", variant.name());
        assert!(why.contains("reads as"), "caught by what it lost: {why}");
    }

    #[test]
    fn a_build_without_the_spares_flush_is_caught() {
        is_caught(Broken::NoSpareFlush);
    }

    #[test]
    fn a_build_without_mains_flush_is_caught() {
        is_caught(Broken::NoMainFlush);
    }
}
