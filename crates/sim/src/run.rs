// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One seed, one run: format, open, load and harm with crashes in between, then quiet, a read of
//! everything, a clean close, an open, and a read of everything again.

use dmremap_core::Kind;

use crate::client::Ask;
use crate::nemesis::{Nemesis, Profile};
use crate::rng::Rng;
use crate::world::{Checked, Config, Counts, Failure, World, fail};

/// What a run is made of besides its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A mixture of the seed's own.
    Usual,
    /// Bad sectors only, and a limit that nothing but a hang comes up to.
    Patient,
    /// Crashes, and a metadata copy that goes bad anew at each of them. Two faults may meet that
    /// the format does not promise to survive: only for variants, against the whole logic on the
    /// same seed.
    Copies,
    /// Failing flushes and power cuts.
    Flushes,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 4] =
        [Setting::Usual, Setting::Patient, Setting::Copies, Setting::Flushes];

    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Setting::Usual => "usual",
            Setting::Patient => "patient",
            Setting::Copies => "copies",
            Setting::Flushes => "flushes",
        }
    }

    fn profile(self, seed: u64, rng: &mut Rng) -> Profile {
        match self {
            Setting::Usual if seed % 4 == 0 => Profile::BAD_SECTORS,
            Setting::Usual => Profile::random(rng),
            Setting::Patient => Profile { cut: 0, kill: 0, close: 0, ..Profile::BAD_SECTORS },
            Setting::Copies => {
                Profile { every_ms: 30, copy: 3, cut: 2, kill: 1, ..Profile::BAD_SECTORS }
            }
            Setting::Flushes => {
                Profile { every_ms: 20, flush: 15, cut: 3, kill: 0, ..Profile::BAD_SECTORS }
            }
        }
    }

    fn shape(self, config: &mut Config) {
        match self {
            Setting::Usual => {}
            Setting::Patient => (config.limit_ms, config.patient) = (600_000, true),
            Setting::Copies | Setting::Flushes => {
                config.spare_sectors = 9216 + 64 * 8 + 2048;
                config.max_entries = if self == Setting::Copies { 300 } else { 100 };
                config.limit_ms = 30_000;
            }
        }
    }
}

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What it is made of.
    pub setting: Setting,
    /// Requests and messages to be answered under harm.
    pub operations: u64,
    /// Print everything that happens.
    pub trace: bool,
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Plan {
        Plan { seed, setting: Setting::Usual, operations: 2_000, trace: false }
    }
}

/// What a good run has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Counters of the world.
    pub counts: Counts,
    /// Commands answered by both disks.
    pub commands: u64,
    /// Faults acted out: commands that failed, writes lied about, harm of other kinds.
    pub faults: u64,
    /// Sectors whose content was checked.
    pub sectors_checked: u64,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Report) {
        self.counts.add(&other.counts);
        self.commands += other.commands;
        self.faults += other.faults;
        self.sectors_checked += other.sectors_checked;
    }

    /// Crashes and closes that were followed by an open.
    #[must_use]
    pub fn reopens(&self) -> u64 {
        self.counts.power_cuts + self.counts.kills
    }
}

/// The command that runs this plan again with everything printed.
#[must_use]
pub fn again(plan: &Plan, broken: &str) -> String {
    let (features, broken) = match broken {
        "" | "None" => ("", String::new()),
        name => (" --features broken", format!(" --broken {name}")),
    };
    let setting = match plan.setting {
        Setting::Usual => String::new(),
        other => format!(" --setting {}", other.name()),
    };
    format!(
        "cargo run -p dmremap-sim --profile checked{features} -- --seed {} --operations {}{setting}\
         {broken} --trace",
        plan.seed, plan.operations
    )
}

/// Runs a seed.
///
/// # Errors
/// What was found wrong.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut rng = Rng::new(plan.seed ^ 0x5eed);
    let profile = plan.setting.profile(plan.seed, &mut rng);
    let mut config = Config::random(&mut rng);
    plan.setting.shape(&mut config);
    let mut world = World::new(config, plan.seed);
    world.tracing = plan.trace;
    if plan.setting == Setting::Usual && plan.seed % 4 == 3 {
        world.client.weights.mark = 2;
    }
    world.format()?;
    world.nemesis = Nemesis::new(profile);
    if plan.setting == Setting::Copies {
        world.nemesis.copy_anew = true;
        world.nemesis.crash_in_commit = 20;
    }
    run_world(&mut world, plan.operations)?;
    Ok(report(&world))
}

/// The counters of a world.
#[must_use]
pub fn report(world: &World) -> Report {
    let mut report = Report { counts: world.counts, ..Report::default() };
    for disk in &world.disks {
        let c = &disk.counts;
        report.commands += c.commands;
        report.faults += c.errors + c.lies;
    }
    report.faults += world.counts.harm;
    report.sectors_checked = world.oracle.sectors_checked;
    report
}

/// Opens, works under harm, ends in quiet.
///
/// # Errors
/// What was found wrong.
pub fn run_world(world: &mut World, operations: u64) -> Checked {
    let layout = world.layout()?;
    world.plant_lies(layout.data_start(), layout.spare_units());
    world.reopen()?;
    world.asking = true;
    let end = operations;
    world.run_until("enough is answered", |w| w.counts.operations >= end)?;
    world.nemesis.stop();
    world.asking = false;
    for disk in &mut world.disks {
        disk.faults.outage = None;
        disk.faults.failing_flushes = None;
    }
    world.settle()?;
    read_everything(world)?;
    world.close()?;
    world.reopen()?;
    read_everything(world)
}

/// Reads the whole volume, a few units at a time, and flushes.
///
/// # Errors
/// Something is wrong with what was read.
pub fn read_everything(world: &mut World) -> Checked {
    let whole = world.config.main_sectors;
    let mut sector = 0;
    while sector < whole {
        let sectors = (whole - sector).min(64) as u32;
        let ask = Ask::Io { kind: Kind::Read, sector, sectors, fua: false, hasty: false };
        world.request(0, ask)?;
        world.settle()?;
        sector += u64::from(sectors);
    }
    if world.session.is_none() {
        return fail("the volume is not open");
    }
    world.request(0, Ask::Flush)?;
    world.settle()
}
