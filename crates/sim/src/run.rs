// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One seed, one run: format, open, load and harm with crashes in between, then quiet, a read of
//! everything, a clean close, an open, and a read of everything again.

use dmremap_core::Kind;

use crate::client::Ask;
use crate::nemesis::{Nemesis, Profile};
use crate::rng::Rng;
use crate::world::{Checked, Config, Counts, Failure, World, fail};

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Requests and messages to be answered under harm.
    pub operations: u64,
    /// Print everything that happens.
    pub trace: bool,
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Plan {
        Plan { seed, operations: 2_000, trace: false }
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

/// The command that runs this seed again with everything printed.
#[must_use]
pub fn again(seed: u64, operations: u64, broken: &str) -> String {
    let broken = match broken {
        "" | "None" => String::new(),
        name => format!(" --broken {name}"),
    };
    let features = if broken.is_empty() { "" } else { " --features broken" };
    format!(
        "cargo run -p dmremap-sim --profile checked{features} -- \
         --seed {seed} --operations {operations}{broken} --trace"
    )
}

/// Runs a seed.
///
/// # Errors
/// What was found wrong.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut rng = Rng::new(plan.seed ^ 0x5eed);
    let profile = match plan.seed % 4 {
        0 => Profile::BAD_SECTORS,
        _ => Profile::random(&mut rng),
    };
    let config = Config::random(&mut rng);
    let mut world = World::new(config, plan.seed);
    world.tracing = plan.trace;
    run_world(&mut world, profile, plan.operations)?;
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

/// Formats, opens, works under harm, ends in quiet.
///
/// # Errors
/// What was found wrong.
pub fn run_world(world: &mut World, profile: Profile, operations: u64) -> Checked {
    world.format()?;
    world.nemesis = Nemesis::new(profile);
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
