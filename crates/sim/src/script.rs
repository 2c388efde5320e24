// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a directed test needs of a world: a fixed shape, no nemesis, commands held at a device
//! until told, and a record of how requests ended and what the machine told.

use std::collections::BTreeMap;

use dmremap_core::{Class, Dev, Event, Kind};

use crate::client::Ask;
use crate::command::{Command, CommandId};
use crate::disk::Disk;
use crate::run::read_everything;
use crate::world::{Checked, Config, Failure, World, row};

/// Which commands are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Reads that touch this sector.
    Read(Dev, u64),
    /// Writes that touch this sector.
    Write(Dev, u64),
    /// Flushes.
    Flush(Dev),
}

/// The record, and what is held.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Commands sent from now on that are held.
    pub hold: Vec<Held>,
    /// How requests ended.
    pub endings: BTreeMap<u64, Option<Class>>,
    /// What the machine told.
    pub events: Vec<Event>,
}

impl Script {
    /// Whether a command just sent is held.
    #[must_use]
    pub fn holds(&self, dev: Dev, disk: &Disk, id: CommandId) -> bool {
        let Some(inflight) = disk.inflight().get(&id) else { return false };
        let (from, len) = inflight.command.span();
        let touches = |sector: u64| sector >= from && sector - from < len;
        self.hold.iter().any(|held| match (held, &inflight.command) {
            (Held::Read(of, sector), Command::Read { .. }) => *of == dev && touches(*sector),
            (Held::Write(of, sector), Command::Write { .. }) => *of == dev && touches(*sector),
            (Held::Flush(of), Command::Flush) => *of == dev,
            _ => false,
        })
    }
}

impl World {
    /// How a request ended is written down.
    pub fn ended(&mut self, id: u64, error: Option<Class>) {
        if let Some(script) = &mut self.script {
            script.endings.insert(id, error);
        }
    }

    /// A volume for a script: blocks of one sector, `units` spare units, open.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn scripted(seed: u64, units: u64) -> Result<World, Failure> {
        World::scripted_on(seed, units, 2_304)
    }

    /// The same on a main of `main_sectors`.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn scripted_on(seed: u64, units: u64, main_sectors: u64) -> Result<World, Failure> {
        let config = Config {
            main_sectors,
            spare_sectors: 9_216 + units * 8 + 2_048,
            block_sectors: 1,
            max_entries: 252,
            limit_ms: 5_000,
            patient: false,
            latency_ms: 3,
        };
        let mut world = World::new(config, seed);
        world.script = Some(Script::default());
        world.format()?;
        world.reopen()?;
        Ok(world)
    }

    /// Begins a read or write.
    ///
    /// # Errors
    /// It is answered at once, and wrongly.
    pub fn begin(&mut self, kind: Kind, sector: u64, sectors: u32) -> Result<u64, Failure> {
        self.request(0, Ask::Io { kind, sector, sectors, fua: false, hasty: false })
    }

    /// A read or write to its end; its error.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn whole(
        &mut self,
        kind: Kind,
        sector: u64,
        sectors: u32,
    ) -> Result<Option<Class>, Failure> {
        let id = self.begin(kind, sector, sectors)?;
        self.end_of(id)
    }

    /// Runs until a request has ended; its error.
    ///
    /// # Errors
    /// Something is wrong, or it does not end.
    pub fn end_of(&mut self, id: u64) -> Result<Option<Class>, Failure> {
        self.run_until("a request ends", |w| !w.requests.contains_key(&id))?;
        Ok(self.script.as_ref().and_then(|s| s.endings.get(&id).copied()).flatten())
    }

    /// A flush to its end; its error.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn flush(&mut self, connection: usize) -> Result<Option<Class>, Failure> {
        let id = self.request(connection, Ask::Flush)?;
        self.end_of(id)
    }

    /// So many steps, or fewer if nothing more happens in the next tenth of a second.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn steps(&mut self, count: u64) -> Checked {
        for _ in 0..count {
            if self.quiet_for(100) {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// So many milliseconds.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn wait_ms(&mut self, count: u64) -> Checked {
        let end = self.now + count;
        while self.now < end && self.step()? {}
        self.now = self.now.max(end);
        Ok(())
    }

    /// Holds commands sent from now on.
    pub fn hold(&mut self, held: Held) {
        if let Some(script) = &mut self.script {
            script.hold.push(held);
        }
    }

    /// Lets everything go.
    pub fn release(&mut self) {
        if let Some(script) = &mut self.script {
            script.hold.clear();
        }
        for disk in &mut self.disks {
            let held: Vec<CommandId> = disk.inflight().keys().copied().collect();
            for id in held {
                disk.hold(id, false);
            }
        }
    }

    /// Whether a command is held at the device.
    #[must_use]
    pub fn is_held(&self, dev: Dev) -> bool {
        self.disks[row(dev)].inflight().values().any(|i| i.held)
    }

    /// What the machine told since the script began.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.script.as_ref().map_or(&[], |s| &s.events)
    }

    /// Units with an entry.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.session.as_ref().map_or(0, |s| s.machine.status().entries)
    }

    /// Settles, reads everything, crashes (a power cut if `power`), opens and reads again.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn check_through_crash(&mut self, power: bool) -> Checked {
        self.crash_and_open(power)?;
        read_everything(self)
    }
}
