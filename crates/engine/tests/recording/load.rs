// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A client with many requests in flight on a volume whose devices fail here and there, recorded.
//!
//! The recorders lie below the faulty wrappers: they see what reaches the medium. No two requests
//! in flight overlap, so that the order of a sector's versions is known. The volume is killed twice
//! with everything under way and opened again, and closed at the end.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use dmremap_core::message::Command;
use dmremap_core::{Done, Event, Kind};
use dmremap_engine::{
    BadRun, Client, Device, Faulty, FormatOptions, Formatted, Log, LogEvent, MemoryDevice, Mode,
    Recorder, Request, Volume, format,
};
use dmremap_format::{CopyIndex, PageIndex};

use super::history::{Asked, Moment, Value};
use super::{MAIN, Random, SECTOR, SPARE, options};

/// How much is done.
pub struct Load {
    /// Requests in each of the three sessions.
    pub requests: u32,
    pub in_flight: usize,
    pub cuts_per_thousand: u64,
}

impl Load {
    pub const FULL: Load = Load { requests: 250, in_flight: 24, cuts_per_thousand: 100 };
}

/// What the volume told its administrator.
#[derive(Default, Debug)]
pub struct Told {
    pub moved: AtomicU32,
    pub home: AtomicU32,
    pub pending: AtomicU32,
    pub quarantined: AtomicU32,
    /// Main or the spare looked as if it were gone.
    pub suspect: AtomicU32,
}

impl Told {
    fn note(&self, event: &Event) {
        let counter = match event {
            Event::Moved { .. } => &self.moved,
            Event::Home { .. } => &self.home,
            Event::Pending { .. } => &self.pending,
            Event::Quarantined { .. } => &self.quarantined,
            Event::Suspect(_) => &self.suspect,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Moved, brought home, pending, quarantined.
    pub fn counts(&self) -> [u32; 4] {
        [&self.moved, &self.home, &self.pending, &self.quarantined]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// A load's recording.
pub struct Recording {
    /// What the devices held before.
    pub main: Vec<u8>,
    pub spare: Vec<u8>,
    pub events: Vec<LogEvent>,
    /// What the client asked for; the notes in the log speak of these.
    pub asked: Vec<Asked>,
    /// Sectors of main that cannot be read.
    pub unreadable: Vec<Range<u64>>,
    pub told: Arc<Told>,
}

/// Where main fails and how, for a map.
struct Faults {
    map: String,
    hot: Vec<u64>,
    unreadable: Vec<Range<u64>>,
    /// Reads of these may fail.
    suspect: Vec<bool>,
}

const BAD: [&str; 8] = [
    "write",
    "write",
    "both medium",
    "both medium",
    "heal medium",
    "read medium transient=1",
    "both transient=3",
    "write target",
];

fn line(run: Range<u64>, words: &str) -> String {
    format!("{} {} - # {words}\n", run.start * 512, (run.end - run.start) * 512)
}

fn faults(random: &mut Random) -> Faults {
    let (map, hot, unreadable) = (String::new(), Vec::new(), Vec::new());
    let mut faults = Faults { map, hot, unreadable, suspect: vec![false; MAIN as usize] };
    let mut at = 0;
    loop {
        at += 20 + random.below(200);
        let run = at..at + 1 + random.below(10);
        at = run.end;
        if at >= MAIN {
            return faults;
        }
        let words = BAD[random.below(BAD.len() as u64) as usize];
        faults.map.push_str(&line(run.clone(), words));
        faults.hot.push(run.start);
        faults.suspect[run.start as usize..run.end as usize].fill(true);
        if words == "both medium" {
            faults.unreadable.push(run);
        }
    }
}

/// Where the spare fails in a session: a unit that is free at first, later also one that is in use
/// by then (more, and a write could meet three bad ones, which is one too many); and in every other
/// load one copy of a page.
fn spare_map(random: &mut Random, made: &Formatted, session: u64, copy_fails: bool) -> String {
    let page = made.layout.page_sector(CopyIndex(3), PageIndex(0));
    let mut map = if copy_fails { line(page..page + 8, "write") } else { String::new() };
    for turn in 0..=session.min(1) {
        let unit = made.layout.data_start() + 8 * (4 * (1 - turn) + random.below(4));
        map.push_str(&line(unit + 2..unit + 3 + random.below(6), "write"));
    }
    map
}

/// A request under way.
enum Underway {
    Change(usize),
    Read(Range<usize>),
    Flush,
}

struct Answer {
    what: Underway,
    data: Vec<u8>,
    bad: Vec<BadRun>,
}

struct Session<'a> {
    volume: Volume,
    client: Client,
    log: Arc<Log>,
    random: &'a mut Random,
    faults: &'a Faults,
    asked: &'a mut Vec<Asked>,
    /// What each sector may hold now.
    live: &'a mut Vec<Vec<Value>>,
    locked: Vec<bool>,
    in_flight: usize,
    answers: (Sender<Answer>, Receiver<Answer>),
    told: Arc<Told>,
    killed: bool,
}

impl Session<'_> {
    /// Sectors that nobody has a request on, mostly about a bad one.
    fn range(&mut self) -> Range<usize> {
        loop {
            let random = &mut *self.random;
            let hot = self.faults.hot[random.below(self.faults.hot.len() as u64) as usize];
            let start = match random.below(4) {
                0 => random.below(MAIN),
                _ => hot.saturating_sub(random.below(12)),
            };
            let long = if random.one_in(6) { 64 } else { 12 };
            let end = (start + 1 + random.below(long)).min(MAIN);
            let range = start as usize..end as usize;
            if !self.locked[range.clone()].contains(&true) {
                return range;
            }
            self.take_one();
        }
    }

    fn ask(&mut self, sectors: Range<usize>, value: Value, binds: bool, fua: bool) -> usize {
        let index = self.asked.len();
        for sector in sectors.clone() {
            self.live[sector].push(value);
        }
        self.asked.push(Asked { sectors, value, binds, fua });
        self.log.note(Moment::Submitted(index).pack()).unwrap();
        index
    }

    fn submit(&mut self, kind: Kind, fua: bool) {
        let range = self.range();
        self.locked[range.clone()].fill(true);
        let fresh = Value::Of(self.asked.len() as u32);
        let mut data = Vec::new();
        let what = match kind {
            Kind::Read => {
                data = vec![0x55; range.len() * SECTOR];
                Underway::Read(range.clone())
            }
            Kind::Write => {
                data = range.clone().flat_map(|sector| fresh.bytes(sector)).collect();
                Underway::Change(self.ask(range.clone(), fresh, true, fua))
            }
            _ => {
                let binds = kind == Kind::WriteZeroes;
                Underway::Change(self.ask(range.clone(), Value::Zeros, binds, fua))
            }
        };
        let (sector, sectors) = (range.start as u64, range.len() as u32);
        let request = Request { kind, sector, sectors, fua, data: Box::new(data) };
        let (log, answers) = (Arc::clone(&self.log), self.answers.0.clone());
        let done = move |reply: dmremap_engine::Reply| {
            if let Underway::Change(index) = what {
                log.note(Moment::Answered(index, reply.bad.is_empty()).pack()).unwrap();
            }
            let data = *reply.data.into_any().downcast::<Vec<u8>>().unwrap();
            let _ = answers.send(Answer { what, data, bad: reply.bad });
        };
        self.in_flight += 1;
        self.volume.submit(request, Box::new(done));
    }

    fn flush(&mut self) {
        let index = self.ask(0..0, Value::Zeros, false, false);
        let (log, answers) = (Arc::clone(&self.log), self.answers.0.clone());
        self.in_flight += 1;
        let done = move |result: Result<(), _>| {
            log.note(Moment::Answered(index, result.is_ok()).pack()).unwrap();
            let bad = result.err().map(|class| BadRun { sector: 0, sectors: 0, class });
            let what = Underway::Flush;
            let bad = bad.into_iter().collect();
            let _ = answers.send(Answer { what, data: Vec::new(), bad });
        };
        self.volume.flush(&self.client, Box::new(done));
    }

    fn message(&mut self) {
        let sector = self.range().start as u64;
        if self.random.one_in(3) {
            let _ = self.volume.act(Command::Remap { sector, to: None });
            return;
        }
        // One that lives elsewhere, so that there is something to bring home.
        let mut moved = None;
        self.volume.runs(sector, |run| {
            moved = Some(run.main_sector);
            false
        });
        if let Some(sector) = moved {
            let done = self.volume.act(Command::Unremap { sector });
            assert!(!matches!(done, Done::Remapped { .. }), "{done:?}");
        }
    }

    /// Waits for an answer and checks it.
    fn take_one(&mut self) {
        let Answer { what, data, bad } = self.answers.1.recv().expect("all is answered");
        self.in_flight -= 1;
        let range = match what {
            Underway::Flush => {
                assert!(bad.is_empty() || self.killed, "a flush failed: {bad:?}");
                return;
            }
            Underway::Read(range) => {
                for (sector, bytes) in range.clone().zip(data.chunks(SECTOR)) {
                    self.check_read(sector, bytes, &bad);
                }
                range
            }
            Underway::Change(index) => {
                let Asked { sectors, value, binds, .. } = &self.asked[index];
                assert!(bad.is_empty() || self.killed, "a write of {sectors:?} failed: {bad:?}");
                if bad.is_empty() && *binds {
                    self.live[sectors.clone()].fill(vec![*value]);
                }
                sectors.clone()
            }
        };
        self.locked[range].fill(false);
    }

    /// A read fails where main is bad, and for those blocks only. (A probe of three places can
    /// meet two bad ones on a disk like this one: then it is taken for a cable fault, and reads
    /// that fail are passed up as they are.)
    fn check_read(&self, sector: usize, bytes: &[u8], bad: &[BadRun]) {
        let run_of = |bad: &BadRun| {
            let start = bad.sector as usize;
            start..start + bad.sectors as usize
        };
        if let Some(run) = bad.iter().map(run_of).find(|run| run.contains(&sector)) {
            let whole = self.told.suspect.load(Ordering::Relaxed) > 0
                && self.faults.suspect[run].contains(&true);
            let excused = self.faults.suspect[sector] || whole || self.killed;
            assert!(excused, "{sector} failed: {bad:?}, {:?}", self.told);
            return;
        }
        let live = &self.live[sector];
        assert!(live.iter().any(|value| value.bytes(sector) == bytes), "{sector}: not {live:?}");
    }

    fn run(&mut self, load: &Load) {
        for _ in 0..load.requests {
            while self.in_flight >= load.in_flight {
                self.take_one();
            }
            match self.random.below(100) {
                0..=59 => {
                    let fua = self.random.one_in(10);
                    self.submit(Kind::Write, fua);
                }
                60..=64 => self.submit(Kind::WriteZeroes, false),
                65..=67 => self.submit(Kind::Discard, false),
                68..=81 => self.submit(Kind::Read, false),
                82..=87 => self.message(),
                _ => self.flush(),
            }
        }
    }
}

/// The devices of a load.
struct Bench {
    dir: tempfile::TempDir,
    made: Formatted,
    main: Arc<dyn Device>,
    spare: Arc<dyn Device>,
    log: Arc<Log>,
    faults: Faults,
    copy_fails: bool,
    before: (Vec<u8>, Vec<u8>),
}

impl Bench {
    fn new(random: &mut Random) -> Bench {
        let first = (0..MAIN as usize).flat_map(|sector| Value::First.bytes(sector)).collect();
        let main = Arc::new(MemoryDevice::with_content(first, 512));
        let spare = Arc::new(MemoryDevice::with_content(vec![0xee; SPARE as usize * SECTOR], 512));
        let devices: (Arc<dyn Device>, Arc<dyn Device>) = (main.clone(), spare.clone());
        let small = FormatOptions { max_entries: Some(378), ..FormatOptions::default() };
        let made = format(&devices.0, &devices.1, &small).unwrap();
        let before = (main.content(), spare.content());
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::memory());
        let faulty = |device, tag, name: &str, map: &str| -> Arc<dyn Device> {
            let path = dir.path().join(name);
            std::fs::write(&path, map).unwrap();
            let recorded = Arc::new(Recorder::new(device, Arc::clone(&log), tag));
            Arc::new(Faulty::new(recorded, name, &path, Mode::default(), 1024).unwrap())
        };
        let faults = faults(random);
        let main = faulty(devices.0, 0, "main", &faults.map);
        let spare = faulty(devices.1, 1, "spare", "");
        let copy_fails = random.one_in(2);
        Bench { made, main, spare, faults, copy_fails, before, log, dir }
    }

    fn session(&self, random: &mut Random, session: u64, told: &Arc<Told>) -> Volume {
        let map = spare_map(random, &self.made, session, self.copy_fails);
        let (fresh, place) = (self.dir.path().join("fresh"), self.dir.path().join("spare"));
        std::fs::write(&fresh, map).unwrap();
        std::fs::rename(fresh, place).unwrap();
        let (main, spare) = (Arc::clone(&self.main), Arc::clone(&self.spare));
        let told = Arc::clone(told);
        Volume::open(main, spare, &options(), move |event| told.note(&event)).unwrap()
    }
}

/// Runs the load of this seed.
pub fn record(seed: u64, load: &Load) -> Recording {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let bench = Bench::new(&mut random);
    let told = Arc::new(Told::default());
    let mut asked = Vec::new();
    let mut live = vec![vec![Value::First]; MAIN as usize];
    for session in 0..3 {
        let volume = bench.session(&mut random, session, &told);
        let mut client = Session {
            client: volume.client(),
            volume,
            log: Arc::clone(&bench.log),
            random: &mut random,
            faults: &bench.faults,
            asked: &mut asked,
            live: &mut live,
            locked: vec![false; MAIN as usize],
            in_flight: 0,
            answers: channel(),
            told: Arc::clone(&told),
            killed: false,
        };
        client.run(load);
        if session < 2 {
            client.killed = true;
            client.volume.abandon();
        }
        while client.in_flight > 0 {
            client.take_one();
        }
        assert!(session < 2 || client.volume.close(), "closed cleanly");
    }
    let (main, spare) = bench.before;
    let (events, unreadable) = (bench.log.events(), bench.faults.unreadable);
    Recording { main, spare, events, asked, unreadable, told }
}
