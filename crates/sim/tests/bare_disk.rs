// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The client, the modelled disk and the oracle without anything between them.
//!
//! Invariants checked:
//! * Whatever a disk inside the permitted fault model does, the oracle finds nothing wrong with it:
//!   what it demands of dm-remap is what a healthy disk gives.
//! * A disk that forgets a flush, serves an old content or another sector's is found out.

use dmremap_core::{Dev, Kind};
use dmremap_sim::client::{Ask, Client};
use dmremap_sim::command::{Command, CommandId, Origin, Stage};
use dmremap_sim::content::{ADOPTED, Content, Version, data_contents};
use dmremap_sim::disk::Disk;
use dmremap_sim::fault::{Loss, SectorFault};
use dmremap_sim::oracle::{Oracle, Tick};
use dmremap_sim::rng::Rng;

/// How the disk between is broken.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sabotage {
    Nothing,
    FlushesVanish,
    OldContent,
    OtherSector,
}

struct Request {
    command: CommandId,
    began: Tick,
    kind: Option<Kind>,
    sector: u64,
    sectors: u32,
    version: Version,
    fua: bool,
}

struct Bare {
    disk: Disk,
    oracle: Oracle,
    client: Client,
    requests: Vec<Request>,
    rng: Rng,
    tick: Tick,
    sabotage: Sabotage,
}

impl Bare {
    fn new(seed: u64, sabotage: Sabotage) -> Bare {
        let mut rng = Rng::new(seed);
        let sectors = 2304;
        let disk =
            Disk::new(Dev::Main, sectors, |sector| Content::Data { sector, version: ADOPTED });
        let client = Client::new(sectors, 1, &mut rng);
        let oracle = Oracle::new(sectors);
        Bare { disk, oracle, client, requests: Vec::new(), rng, tick: 1, sabotage }
    }

    fn begin(&mut self) {
        let ask = self.client.ask(&mut self.rng);
        let (kind, sector, sectors, fua) = match ask {
            Ask::Io { kind, sector, sectors, fua, .. } => (Some(kind), sector, sectors, fua),
            Ask::Flush => (None, 0, 0, false),
            _ => return,
        };
        let began = self.tick;
        let mut version = 0;
        let command = match kind {
            None if self.sabotage == Sabotage::FlushesVanish => {
                Command::Read { sector: 0, sectors: 0 }
            }
            None => Command::Flush,
            Some(Kind::Read) => Command::Read { sector, sectors },
            Some(kind) => {
                let zeros = kind != Kind::Write;
                version = self.oracle.begin(sector, sectors, zeros, began);
                Command::Write { sector, data: data_contents(sector, sectors, version), fua }
            }
        };
        let command = self.disk.send(command, Origin::Client, 0, 0);
        self.requests.push(Request { command, began, kind, sector, sectors, version, fua });
    }

    fn answer(&mut self, at: usize) -> Result<(), String> {
        let Some((_, ending)) = self.disk.answer(self.requests[at].command) else { return Ok(()) };
        let request = self.requests.swap_remove(at);
        let now = self.tick;
        match request.kind {
            None => {
                if ending.is_ok() {
                    self.oracle.flushed(request.began);
                }
            }
            Some(Kind::Read) => {
                for (sector, mut content) in (request.sector..).zip(ending.unwrap_or_default()) {
                    if self.rng.one_in(200) {
                        content = self.spoil(sector, content);
                    }
                    self.oracle
                        .read(sector, &content, request.began, now)
                        .map_err(|wrong| format!("{wrong:?}"))?;
                }
            }
            Some(kind) => self.oracle.end(
                (request.sector, request.sectors),
                (request.version, request.began),
                ending.is_ok() && kind != Kind::Discard,
                request.fua,
                now,
            ),
        }
        Ok(())
    }

    fn spoil(&self, sector: u64, content: Content) -> Content {
        match (self.sabotage, &content) {
            (Sabotage::OldContent, Content::Data { version, .. }) if *version > 4 => {
                Content::Data { sector, version: version - 1 }
            }
            (Sabotage::OtherSector, Content::Data { version, .. }) => {
                Content::Data { sector: sector + 1, version: *version }
            }
            _ => content,
        }
    }

    fn tell_lost(&mut self) {
        for lost in std::mem::take(&mut self.disk.lost) {
            self.oracle.lost(&lost, true, self.tick);
        }
    }

    fn crash(&mut self) {
        if self.rng.one_in(2) {
            self.disk.power_cut(0, &mut self.rng);
            self.disk.lost.clear();
            self.oracle.power_cut(self.tick);
        } else {
            self.disk.abandon(0, &mut self.rng);
            self.oracle.killed(self.tick);
        }
        self.requests.clear();
    }

    fn harm(&mut self) {
        let sector = self.client.hot[0] * 8 + self.rng.below(16);
        match self.rng.below(6) {
            0 => {
                self.disk.faults.failing_flushes =
                    Some((1, *self.rng.pick(&[Loss::Keeps, Loss::Loses, Loss::Forgets])))
            }
            1 => self.disk.lose_cache(&mut self.rng),
            2 => {
                let fault = SectorFault::heals_on_write(dmremap_core::Class::Medium);
                self.disk.faults.sectors.insert(sector, fault);
            }
            3 => {
                let fault = SectorFault::transient(dmremap_core::Class::Io, 3);
                self.disk.faults.sectors.insert(sector, fault);
            }
            4 => {
                self.disk.land_late(&mut self.rng);
            }
            _ => self.crash(),
        }
    }

    fn run(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.tick += 1;
            let reads = self.requests.iter().filter(|r| r.kind == Some(Kind::Read));
            self.oracle.oldest_read = reads.map(|r| r.began).min().unwrap_or(self.tick);
            match self.rng.below(30) {
                0..9 if self.requests.len() < 12 => self.begin(),
                29 if self.rng.one_in(8) => self.harm(),
                _ if self.requests.is_empty() => {}
                _ => {
                    let at = self.rng.index(self.requests.len());
                    let id = self.requests[at].command;
                    if self.disk.inflight()[&id].stage == Stage::Sent {
                        self.disk.effect(id, 0, &mut self.rng);
                    } else {
                        self.answer(at)?;
                    }
                }
            }
            self.tell_lost();
        }
        Ok(())
    }
}

#[test]
fn a_disk_inside_the_fault_model_is_never_blamed() {
    for seed in 0..60 {
        let mut bare = Bare::new(seed, Sabotage::Nothing);
        if let Err(why) = bare.run(20_000) {
            panic!("seed {seed}: {why}");
        }
        assert!(bare.oracle.sectors_checked > 1_000, "seed {seed} checked nearly nothing");
    }
}

#[test]
fn a_broken_disk_is_found_out() {
    for sabotage in [Sabotage::FlushesVanish, Sabotage::OldContent, Sabotage::OtherSector] {
        let caught = (0..20).find(|seed| Bare::new(*seed, sabotage).run(20_000).is_err());
        assert!(caught.is_some(), "{sabotage:?} was not found out in 20 seeds");
        println!("{sabotage:?}: caught by seed {}", caught.unwrap_or_default());
    }
}
