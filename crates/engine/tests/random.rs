// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Random requests against a volume whose disks fail in every way the faulty wrapper knows, with
//! kills and reopens between, held against a plain model.
//!
//! Invariants checked:
//! * a read gives what was last written, or an error for exactly the blocks it names;
//! * an error is given only where main has a bad run and nothing was written since (or, while main
//!   is suspect, for the whole of a read that met such a run);
//! * no write fails;
//! * what was acknowledged is there after an abandoned volume is opened again.

mod common;

use common::{Bench, ask, flush, original, read};
use dmremap_core::{Dev, Event, Kind};
use dmremap_engine::BadRun;

const MAIN: u64 = 4096;
const SPARE: u64 = 14_336;

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
}

/// What a sector may read as: its bytes, or, where a failed write left it open, nothing is known.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    Byte(u8),
    Open,
}

struct Model {
    sectors: Vec<Known>,
    /// Sectors that lie in a bad run of main and have not been written: errors are excused there.
    bad: Vec<bool>,
}

impl Model {
    fn write(&mut self, range: std::ops::Range<usize>, byte: u8) {
        self.sectors[range.clone()].fill(Known::Byte(byte));
        self.bad[range].fill(false);
    }

    /// `suspect`: main has failed a probe, which on a disk with so many bad runs can come by
    /// chance; a read that meets a bad sector is then passed up as a whole.
    fn check(&self, sector: u64, read: (&[u8], &[BadRun]), suspect: bool, what: &str) {
        let (data, errors) = read;
        let range = sector as usize..sector as usize + data.len() / 512;
        let whole = suspect && self.bad[range].iter().any(|bad| *bad);
        for (at, bytes) in (sector..).zip(data.chunks(512)) {
            let failed =
                errors.iter().any(|e| (e.sector..e.sector + u64::from(e.sectors)).contains(&at));
            if failed {
                assert!(
                    whole || self.bad[at as usize],
                    "{what}: sector {at} failed without a cause"
                );
                continue;
            }
            match self.sectors[at as usize] {
                Known::Byte(byte) => {
                    assert!(
                        bytes.iter().all(|b| *b == byte),
                        "{what}: sector {at}: {} != {byte}",
                        bytes[0]
                    );
                }
                Known::Open => {}
            }
        }
    }
}

fn faults(random: &mut Random, words: &[&str]) -> (String, Vec<bool>) {
    let (mut map, mut bad) = (String::new(), vec![false; MAIN as usize]);
    let mut at = 0;
    while at + 200 < MAIN {
        at += 20 + random.below(180);
        let len = 1 + random.below(12);
        if at + len < MAIN {
            let word = words[random.below(words.len() as u64) as usize];
            map.push_str(&format!("{} {} - # {word}\n", at * 512, len * 512));
            bad[at as usize..(at + len) as usize].fill(true);
        }
        at += len;
    }
    (map, bad)
}

fn run(seed: u64, rounds: u32, requests: u32) {
    let mut random = Random(seed | 1);
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let words = ["write", "both medium", "heal medium", "heal", "transient=3", "write target"];
    let (map, bad) = faults(&mut random, &words);
    bench.set_main_map(&map);
    let first = original(0, MAIN as u32);
    let sectors = first.chunks(512).map(|bytes| Known::Byte(bytes[0])).collect();
    let mut model = Model { sectors, bad };
    let suspect = || bench.events().contains(&Event::Suspect(Dev::Main));
    for round in 0..rounds {
        let volume = bench.open();
        for n in 0..requests {
            let what = format!("seed {seed} round {round} request {n}");
            let sector = random.below(MAIN - 100);
            let sectors =
                1 + if random.below(4) == 0 { random.below(99) } else { random.below(16) };
            let range = sector as usize..(sector + sectors) as usize;
            match random.below(10) {
                0..=4 => {
                    let byte = random.next() as u8;
                    let data = vec![byte; sectors as usize * 512];
                    let (_, errors) = ask(&volume, Kind::Write, sector, sectors as u32, data);
                    assert_eq!(errors, [], "{what}: the spare has room: no write fails");
                    model.write(range, byte);
                }
                5 => {
                    let (_, errors) =
                        ask(&volume, Kind::WriteZeroes, sector, sectors as u32, vec![]);
                    assert_eq!(errors, [], "{what}");
                    model.write(range, 0);
                }
                6 if n % 7 == 0 => {
                    // What a discarded sector reads as is open, where it is discarded at all.
                    let _ = ask(&volume, Kind::Discard, sector, sectors as u32, vec![]);
                    model.sectors[range].fill(Known::Open);
                }
                7 if n % 5 == 0 => assert_eq!(flush(&volume), Ok(()), "{what}"),
                _ => {
                    let (data, errors) = read(&volume, sector, sectors as u32);
                    model.check(sector, (&data, &errors), suspect(), &what);
                }
            }
        }
        let (data, errors) = read(&volume, 0, MAIN as u32);
        let what = format!("seed {seed} round {round} at its end");
        model.check(0, (&data, &errors), suspect(), &what);
        match round % 2 {
            0 => volume.abandon(),
            _ => assert!(volume.close(), "seed {seed}"),
        }
    }
}

#[test]
fn random_requests_on_failing_disks() {
    // A disk takes its time: fewer there.
    let seeds = if common::manner().is_some() { 1 } else { 24 };
    for seed in 1..=seeds {
        println!("seed {seed}");
        run(seed, 3, 150);
    }
}
