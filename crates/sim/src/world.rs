// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The world of one run: two modelled disks, a client, the volume between them, and the scheduler
//! that decides what happens next.
//!
//! Everything is a step, and the seed picks among all steps that are possible: a request begins, a
//! piece is counted, resolved, sent; a command takes effect, is answered; the machine is told of
//! it; a timer fires; the client asks; the nemesis does harm. So a thread may be pre-empted between
//! any two of these, and time (whole milliseconds) passes only when a step says so.

use std::collections::BTreeMap;

use dmremap_core::resolve::Place;
use dmremap_core::{Class, Dev, Millis};

use crate::client::Client;
use crate::command::{CommandId, Stage};
use crate::content::{ADOPTED, Content};
pub use crate::counts::Counts;
use crate::disk::Disk;
use crate::driver::{Part, PartId, PartStage, Request, Told};
use crate::excuse::{FlushJudge, Trouble, Troubles};
use crate::marks::Marks;
use crate::nemesis::Nemesis;
use crate::oracle::{Oracle, Tick};
use crate::rng::Rng;
use crate::script::Script;
use crate::session::{JOBS, Session};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Length of main, and of the volume, in sectors.
    pub main_sectors: u64,
    /// Length of the spare.
    pub spare_sectors: u64,
    /// The volume's block in sectors.
    pub block_sectors: u64,
    /// Entries the table is made for.
    pub max_entries: u32,
    /// `recovery_limit_ms`.
    pub limit_ms: u32,
    /// The limit is so long that nothing but a hang comes up to it: it excuses no error.
    pub patient: bool,
    /// Everyday latency of a command at most, in milliseconds.
    pub latency_ms: u64,
}

impl Config {
    /// A small volume of random size and shape.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Config {
        let block_sectors = *rng.pick(&[1, 1, 1, 2, 8]);
        let main_sectors = (rng.range(400, 4200) / block_sectors) * block_sectors;
        let units = *rng.pick(&[4, 12, 64, 200]);
        Config {
            main_sectors,
            spare_sectors: 9216 + units * 8 + 2048,
            block_sectors,
            max_entries: *rng.pick(&[100, 126, 300]),
            limit_ms: *rng.pick(&[1_000, 5_000, 30_000]),
            patient: false,
            latency_ms: *rng.pick(&[0, 2, 8]),
        }
    }
}

/// Who waits for a command.
#[derive(Clone, Debug)]
pub enum Owner {
    /// A piece.
    Part(PartId),
    /// An operation of the machine.
    Op(dmremap_core::Op),
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Part(PartId),
    Effect(Dev, CommandId),
    Answer(Dev, CommandId),
    Tell(usize),
    Ask,
    Tick,
    Harm,
}

/// A run that found something wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What.
    pub why: String,
}

/// A result of a step.
pub type Checked = Result<(), Failure>;

/// The failure that `why` tells.
///
/// # Errors
/// Always.
pub fn fail<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { why: why.into() })
}

/// One run.
pub struct World {
    /// What it is made of.
    pub config: Config,
    /// Chance.
    pub rng: Rng,
    /// Time.
    pub now: Millis,
    /// Steps so far.
    pub tick: Tick,
    /// Main and the spare.
    pub disks: [Disk; 2],
    /// The healthy disk.
    pub oracle: Oracle,
    /// The load.
    pub client: Client,
    /// Whether the client asks.
    pub asking: bool,
    /// What excuses errors.
    pub troubles: Troubles,
    /// Remembered flush failures.
    pub flush_judge: FlushJudge,
    /// Who does harm.
    pub nemesis: Nemesis,
    /// The open volume.
    pub session: Option<Session>,
    /// Requests under way.
    pub requests: BTreeMap<u64, Request>,
    /// Their pieces.
    pub parts: BTreeMap<PartId, Part>,
    /// Who waits for which command, by device row.
    pub owners: BTreeMap<(usize, CommandId), Owner>,
    /// Answers the machine has not been told of.
    pub inbox: Vec<Told>,
    /// The next handle of a request.
    pub next_request: u64,
    /// The next handle of a piece.
    pub next_part: PartId,
    /// Counters.
    pub counts: Counts,
    /// Printed as it happens.
    pub tracing: bool,
    /// What messages have marked.
    pub marks: Marks,
    /// What scripts ask for, if one runs.
    pub script: Option<Script>,
    steps: Vec<Step>,
}

/// The row of a device: main 0, the spare 1.
#[must_use]
pub fn row(dev: Dev) -> usize {
    usize::from(dev != Dev::Main)
}

impl World {
    /// A main full of data, a blank spare, nothing formatted.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let main = Disk::new(Dev::Main, config.main_sectors, |sector| Content::Data {
            sector,
            version: ADOPTED,
        });
        let spare = Disk::new(Dev::Spare(0), config.spare_sectors, |_| Content::Blank);
        let client = Client::new(config.main_sectors, config.block_sectors, &mut rng);
        World {
            oracle: Oracle::new(config.main_sectors),
            nemesis: Nemesis::none(),
            disks: [main, spare],
            config,
            rng,
            now: 1_000,
            tick: 1,
            client,
            asking: false,
            troubles: Troubles::default(),
            flush_judge: FlushJudge::default(),
            session: None,
            requests: BTreeMap::new(),
            parts: BTreeMap::new(),
            owners: BTreeMap::new(),
            inbox: Vec::new(),
            next_request: 1,
            next_part: 1,
            counts: Counts::default(),
            tracing: false,
            marks: Marks::default(),
            script: None,
            steps: Vec::new(),
        }
    }

    /// A disk.
    pub fn disk(&mut self, dev: Dev) -> &mut Disk {
        &mut self.disks[row(dev)]
    }

    /// Whether lines of the trace are wanted: build none for nothing.
    #[must_use]
    pub fn traced(&self) -> bool {
        self.tracing
    }

    /// A line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>8} {:>7} ms  {}", self.tick, self.now, line());
            println!("{line}");
        }
    }

    /// When a command sent now is answered at the earliest.
    pub fn due(&mut self) -> Millis {
        let usual = self.rng.range(0, self.config.latency_ms);
        let slow = self.nemesis.slowness(&mut self.rng, self.config.limit_ms);
        self.now + usual + slow
    }

    fn collect(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        let wakes = self.session.as_ref().map_or(0, |s| s.machine.wakes());
        for (id, part) in &self.parts {
            let ready = match &part.stage {
                PartStage::Taken | PartStage::AtDevice { .. } => false,
                PartStage::Waiting { wakes: seen, .. } => {
                    *seen != wakes || self.limit_of(part).is_some_and(|at| at <= self.now)
                }
                PartStage::RetryAt(at) => self.now >= *at,
                _ => true,
            };
            if ready {
                steps.push(Step::Part(*id));
            }
        }
        for disk in &self.disks {
            for (id, inflight) in disk.inflight().iter().filter(|(_, i)| !i.held) {
                match inflight.stage {
                    Stage::Sent => steps.push(Step::Effect(disk.dev(), *id)),
                    Stage::Done(_) if inflight.due <= self.now => {
                        steps.push(Step::Answer(disk.dev(), *id));
                    }
                    Stage::Done(_) => {}
                }
            }
        }
        steps.extend((0..self.inbox.len()).map(Step::Tell));
        if self.asking && self.requests.len() < self.client.connections * self.client.depth {
            steps.push(Step::Ask);
        }
        let deadline = self.session.as_ref().and_then(|s| s.machine.next_deadline());
        if deadline.is_some_and(|at| at <= self.now) {
            steps.push(Step::Tick);
        }
        if self.nemesis.due(self.now) {
            steps.push(Step::Harm);
        }
        self.steps = steps;
    }

    /// When a waiting piece is presented again whatever happens.
    fn limit_of(&self, part: &Part) -> Option<Millis> {
        part.piece.since.map(|since| since + u64::from(self.config.limit_ms))
    }

    /// The next time at which something becomes possible.
    fn next_event(&self) -> Option<Millis> {
        let mut next: Option<Millis> = None;
        let mut at = |time: Millis| next = Some(next.map_or(time, |n| n.min(time)));
        for disk in &self.disks {
            for inflight in disk.inflight().values().filter(|i| !i.held) {
                at(inflight.due);
            }
            if let Some(outage) = disk.faults.outage.filter(|o| o.until != Millis::MAX) {
                at(outage.until);
            }
        }
        for part in self.parts.values() {
            match part.stage {
                PartStage::RetryAt(time) => at(time),
                PartStage::Waiting { .. } => self.limit_of(part).into_iter().for_each(&mut at),
                _ => {}
            }
        }
        if let Some(time) = self.session.as_ref().and_then(|s| s.machine.next_deadline()) {
            at(time);
        }
        if let Some(time) = self.nemesis.next_at() {
            at(time);
        }
        next
    }

    /// Whether nothing happens for so many milliseconds.
    pub fn quiet_for(&mut self, ms: Millis) -> bool {
        self.collect();
        self.steps.is_empty() && self.next_event().is_none_or(|at| at > self.now + ms)
    }

    /// One step; false if nothing can ever happen any more.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn step(&mut self) -> Result<bool, Failure> {
        self.tick += 1;
        self.counts.steps += 1;
        self.watch();
        self.collect();
        if self.steps.is_empty() {
            let Some(next) = self.next_event() else { return Ok(false) };
            self.now = next.max(self.now + 1);
            return Ok(true);
        }
        if self.rng.one_in(12) {
            self.now += self.rng.range(1, 4);
        }
        let step = *self.rng.pick(&self.steps);
        match step {
            Step::Part(id) => self.step_part(id)?,
            Step::Effect(dev, id) => {
                let now = self.now;
                let World { disks, rng, .. } = self;
                disks[row(dev)].effect(id, now, rng);
                self.tell_losses(dev);
            }
            Step::Answer(dev, id) => self.command_answered(dev, id)?,
            Step::Tell(at) => self.tell(at)?,
            Step::Ask => self.ask()?,
            Step::Tick => self.machine_tick()?,
            Step::Harm => self.harm()?,
        }
        Ok(true)
    }

    /// Keeps the excuses up to date.
    fn watch(&mut self) {
        let now = self.now;
        for (disk, trouble) in self.disks.iter_mut().zip([Trouble::MainOut, Trouble::SpareOut]) {
            if disk.faults.outage.is_some_and(|o| now >= o.until) {
                disk.faults.outage = None;
            }
            if disk.vanished || disk.faults.outage.is_some() {
                self.troubles.begin(trouble, self.tick);
            } else {
                self.troubles.end(trouble, self.tick);
            }
        }
        self.watch_machine();
        let slow = u64::from(self.config.limit_ms.min(5_000)) / 2;
        let all = self.disks.iter().flat_map(|disk| disk.inflight().values());
        if all.map(|i| i.sent_at).min().is_some_and(|sent| now >= sent + slow) {
            self.troubles.begin(Trouble::Slow, self.tick);
        } else {
            self.troubles.end(Trouble::Slow, self.tick);
        }
        self.oracle.oldest_read =
            self.requests.values().map(|r| r.began).min().unwrap_or(self.tick);
    }

    /// A machine that says it is degraded is believed only if metadata I/O has failed.
    pub(crate) fn watch_machine(&mut self) {
        let Some(session) = &self.session else { return };
        let status = session.machine.status();
        let degraded = session.metadata_trouble && status.conditions.metadata_degraded;
        // Quarantined units and recoveries under way hold slots too.
        let slots = status.entries + status.quarantined_units + JOBS as u64;
        let full = status.spare_free_units == 0 || slots >= status.max_entries;
        for (trouble, now) in [(Trouble::Metadata, degraded), (Trouble::SpareFull, full)] {
            if now {
                self.troubles.begin(trouble, self.tick);
            } else {
                self.troubles.end(trouble, self.tick);
            }
        }
    }

    /// Tells the oracle what a disk's cache has lost.
    pub fn tell_losses(&mut self, dev: Dev) {
        let tick = self.tick;
        for lost in std::mem::take(&mut self.disks[row(dev)].lost) {
            let under_way = self.requests.values().any(|request| {
                request.version == lost.version
                    && request.covers(lost.sector)
                    && self
                        .parts
                        .values()
                        .any(|part| part.piece.request == request.id && part.covers(lost.sector))
            });
            self.note(|| format!("  {dev:?} loses {lost:?}"));
            // A write tried again where the block lives needs no commit, and so no flush either.
            let in_place = self.session.as_ref().is_some_and(|session| {
                let size = self.config.block_sectors;
                let block = lost.sector / size * size;
                match session.shared.resolve(block, size).place {
                    Place::Spare { sector, .. } => sector + lost.sector - block == lost.at,
                    Place::Main | Place::Gone => false,
                }
            });
            self.oracle.lost(&lost, dev == Dev::Main || !under_way || in_place, tick);
        }
    }

    /// Steps until `done` says so.
    ///
    /// # Errors
    /// Something is wrong, or it does not come about.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&World) -> bool) -> Checked {
        for _ in 0..2_000_000u32 {
            if done(self) {
                return Ok(());
            }
            if !self.step()? {
                break;
            }
        }
        if done(self) { Ok(()) } else { fail(format!("it does not come about: {what}")) }
    }

    /// Steps until nothing is under way.
    ///
    /// # Errors
    /// Something is wrong, or requests hang.
    pub fn settle(&mut self) -> Checked {
        let asking = std::mem::replace(&mut self.asking, false);
        let ended = self.run_until("every request is answered", |w| w.requests.is_empty());
        self.asking = asking;
        if let Err(Failure { why }) = ended {
            let open: Vec<String> = self
                .requests
                .values()
                .map(|r| format!("{r:?}"))
                .chain(self.parts.values().map(|p| format!("{p:?}")))
                .collect();
            return fail(format!("{why}; still open: {}", open.join("; ")));
        }
        Ok(())
    }

    /// The class a suspect command of the seed's taste fails with.
    pub fn any_suspect_class(&mut self) -> Class {
        *self.rng.pick(&[Class::Medium, Class::Io, Class::Io, Class::Target])
    }
}
