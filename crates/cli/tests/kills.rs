// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! SIGKILL of the server under a write-verify load, again and again on one volume.
//!
//! Invariants checked after every kill: the volume opens; every sector holds what was last
//! acknowledged, or what was sent and not answered, and does not change once it was read; only
//! sectors declared unreadable and never rewritten are errors. Between kills writes of 1 to 24
//! sectors go out, many at a time, over good and bad places, with messages that move units there
//! and back beside them; every fourth kill is preceded by one in the midst of the open.
//!
//! A killed process loses no cache, so this says nothing of flushes; the recording test does.

mod common;
#[path = "../src/demo/damage.rs"]
#[allow(dead_code, reason = "shared with the demo, which uses all of it")]
mod damage;
#[path = "../src/demo/model.rs"]
#[allow(dead_code, reason = "shared with the demo, which uses all of it")]
mod model;

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use common::{Bench, IMAGE_BYTES, Serving};
use dmremap_nbd::{Client, ClientError, Cookie, Operation};
use model::{Compared, Model, SECTOR};

const CYCLES: u32 = 200;
const DEPTH: usize = 16;

/// splitmix64: a failing run is repeated by its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

struct Load {
    bench: Bench,
    model: Model,
    runs: Vec<damage::Run>,
    numbers: Numbers,
    serial: u64,
}

#[test]
fn two_hundred_kills_lose_nothing() {
    let mut load = Load::new(0x6b69_6c6c);
    let (mut acknowledged, mut in_doubt, mut compared) = (0, 0, 0);
    for cycle in 0..CYCLES {
        if cycle % 4 == 0 {
            load.kill_while_it_opens();
        }
        let server = load.bench.serve(&[]);
        let client = server.connect();
        let found = load.compare(&client);
        assert_eq!(found.first_wrong, None, "cycle {cycle}: {found:?}");
        compared += found.bytes();
        acknowledged += load.write_and_kill(server, &client);
        in_doubt += load.model.doubts();
    }
    let server = load.bench.serve(&[]);
    let found = load.compare(&server.connect());
    assert_eq!(found.first_wrong, None, "at the end: {found:?}");
    assert_eq!(server.stop(), 0);
    println!(
        "{CYCLES} kills, {acknowledged} writes acknowledged, {in_doubt} sectors in doubt, \
         {compared} bytes compared"
    );
    assert!(acknowledged > u64::from(CYCLES) && in_doubt > 0);
}

impl Load {
    fn new(seed: u64) -> Load {
        let bench = Bench::new();
        let mut model = Model::default();
        model.append(&std::fs::read(bench.path("main.img")).unwrap());
        let sectors = IMAGE_BYTES / SECTOR;
        let runs = damage::runs(sectors);
        damage::declare(&runs, &mut model);
        bench.format(&bench.faulty_main(&damage::mapfile(&runs, sectors)));
        // These files need no time to come to.
        let server = bench.serve(&[]);
        bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
        assert_eq!(server.stop(), 0);
        println!("seed {seed:#x}");
        Load { bench, model, runs, numbers: Numbers(seed), serial: 0 }
    }

    /// Kills a server at some moment between its start and its first request.
    fn kill_while_it_opens(&mut self) {
        let mut command = self.bench.command(&["serve", "--spare", "spare.img"]);
        let mut server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(self.numbers.below(12_000)));
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Reads everything.
    fn compare(&mut self, client: &Client) -> Compared {
        let mut found = Compared::default();
        let mut open = vec![(0, self.model.sectors())];
        while let Some((sector, sectors)) = open.pop() {
            let cut = if sectors > 2048 { Some(2048) } else { None };
            let read = match cut {
                None => client.read(sector * SECTOR, (sectors * SECTOR) as u32),
                Some(cut) => {
                    open.extend([(sector + cut, sectors - cut), (sector, cut)]);
                    continue;
                }
            };
            match read {
                Ok(bytes) => self.model.compare(sector, &bytes, &mut found),
                Err(ClientError::Remote(_)) if sectors == 1 => {
                    self.model.failed(sector, &mut found)
                }
                Err(ClientError::Remote(_)) => {
                    let half = sectors / 2;
                    open.extend([(sector + half, sectors - half), (sector, half)]);
                }
                Err(error) => panic!("{error}"),
            }
        }
        found
    }

    /// A write over or beside a bad run, or somewhere; apart from those under way.
    fn choose(&mut self, flying: &HashMap<Cookie, (u64, Vec<u8>)>) -> (u64, Vec<u8>) {
        loop {
            let sectors = 1 + self.numbers.below(24);
            let run = self.runs[self.numbers.below(self.runs.len() as u64) as usize];
            let sector = match self.numbers.below(3) {
                0 => self.numbers.below(self.model.sectors() - sectors),
                _ => (run.sector + self.numbers.below(16)).saturating_sub(8),
            };
            let apart = |(at, bytes): &(u64, Vec<u8>)| {
                sector + sectors <= *at || at + bytes.len() as u64 / SECTOR <= sector
            };
            if sector + sectors <= self.model.sectors() && flying.values().all(apart) {
                self.serial += 1;
                let head = format!("write {} of sector {sector}\n", self.serial).into_bytes();
                let mut bytes = head.repeat((sectors * SECTOR) as usize / head.len() + 1);
                bytes.truncate((sectors * SECTOR) as usize);
                return (sector, bytes);
            }
        }
    }

    /// Starts a message that moves a unit, and does not wait for its answer.
    fn message(&mut self) -> std::process::Child {
        let run = self.runs[self.numbers.below(self.runs.len() as u64) as usize];
        let verb = if self.numbers.below(2) == 0 { "remap" } else { "unremap" };
        let mut command = self.bench.command(&[verb, "v", &run.sector.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Writes until some hundred acknowledgements, then kills in the middle; how many there were.
    fn write_and_kill(&mut self, server: Serving, client: &Client) -> u64 {
        let until = 1 + self.numbers.below(150);
        let mut message = self.message();
        let mut server = Some(server);
        let mut flying: HashMap<Cookie, (u64, Vec<u8>)> = HashMap::new();
        let mut acknowledged = 0;
        loop {
            while server.is_some() && flying.len() < DEPTH {
                let (sector, bytes) = self.choose(&flying);
                let write = Operation::Write { offset: sector * SECTOR, data: &bytes, fua: false };
                let cookie = client.submit(write).unwrap();
                self.model.sent(sector, &bytes);
                flying.insert(cookie, (sector, bytes));
            }
            if acknowledged >= until {
                server.take().into_iter().for_each(Serving::kill);
            }
            let Some(done) = client.next_completed() else { break };
            let (sector, bytes) = flying.remove(&done.cookie).unwrap();
            match done.result {
                Ok(_) => {
                    self.model.answered(sector, &bytes);
                    acknowledged += 1;
                }
                Err(error) => assert!(server.is_none(), "a write failed: {error}"),
            }
        }
        let _ = message.wait();
        acknowledged
    }
}
