// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Eight clients write and verify for thirty seconds. In the first half of the volume each of them
//! has one sector of every unit, so that they meet in every unit that moves; in the second each has
//! a zone of its own for large requests. Meanwhile messages move units to the spare and home, and
//! every half second more of main can no longer be written, or is read only at the third try.
//!
//! Every write must be acknowledged and every read must be what was written last, then and after a
//! kill and an open.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dmremap_nbd::Client;

use common::{Bench, IMAGE_BYTES, known};

const WORKERS: u64 = 8;
const LONG: Duration = Duration::from_secs(30);
const SECTORS: u64 = IMAGE_BYTES / 512;
/// From here on: a zone for each worker.
const ZONES: u64 = SECTORS / 2;
const ZONE_SECTORS: u64 = (SECTORS - ZONES) / WORKERS;

/// A small generator of numbers (splitmix64): the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A sector as it was written for the `round`th time; 0: as it was made.
fn content(sector: u64, round: u64) -> Vec<u8> {
    match round {
        0 => vec![known(sector * 512); 512],
        _ => [sector.to_le_bytes(), round.to_le_bytes()].concat().repeat(32),
    }
}

struct Worker {
    id: u64,
    client: Client,
    numbers: Numbers,
    /// How often each sector was written; only its own ones change.
    rounds: Vec<u64>,
}

impl Worker {
    fn expected(&self, sector: u64, sectors: u64) -> Vec<u8> {
        let end = sector + sectors;
        (sector..end).flat_map(|at| content(at, self.rounds[at as usize])).collect()
    }

    /// A sector of its own in the first half, or a run in its zone.
    fn place(&mut self) -> (u64, u64) {
        if self.numbers.below(3) > 0 {
            return (self.numbers.below(ZONES / 8) * 8 + self.id, 1);
        }
        let sectors = 1 + self.numbers.below(512);
        let at = self.numbers.below(ZONE_SECTORS - sectors + 1);
        (ZONES + self.id * ZONE_SECTORS + at, sectors)
    }

    fn step(&mut self) {
        let (sector, sectors) = self.place();
        match self.numbers.below(16) {
            0 => self.client.flush().unwrap(),
            1..=6 => {
                let found = self.client.read(sector * 512, (sectors * 512) as u32).unwrap();
                assert!(found == self.expected(sector, sectors), "{sector} {sectors}");
            }
            n => {
                for at in sector..sector + sectors {
                    self.rounds[at as usize] += 1;
                }
                let bytes = self.expected(sector, sectors);
                self.client.write(sector * 512, &bytes, n == 7).unwrap();
            }
        }
    }
}

/// Moves units about until it is told to stop; how many messages were carried out.
fn messages(bench: &Bench, stop: &AtomicBool) -> u64 {
    let mut numbers = Numbers(0x6d65_7373);
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let sector = numbers.below(SECTORS).to_string();
        let words: &[&str] = match numbers.below(12) {
            0..=4 => &["remap", "v", &sector],
            5..=7 => &["unremap", "v", &sector],
            8 => &["verify", "v", &sector],
            9 => &["list", "v", "--json"],
            10 => &["status", "v", "--json"],
            _ => &["message", "v", "save"],
        };
        let (code, said) = bench.code(words);
        // Refused is right where a unit has moved already, has not, or is being worked on.
        assert!(matches!(code, 0 | 4 | 5 | 6), "{words:?}: {code} {said}");
        done += u64::from(code == 0);
    }
    done
}

/// More and more of main goes bad until it is told to stop.
fn decay(bench: &Bench, stop: &AtomicBool) {
    let mut numbers = Numbers(0x6465_6361);
    let mut bad: BTreeMap<u64, &str> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..12 {
            let first = numbers.below(SECTORS - 8);
            let how = ["write io", "write target", "read medium transient=2"];
            let how = how[numbers.below(3) as usize];
            for sector in first..first + 1 + numbers.below(8) {
                bad.entry(sector).or_insert(how);
            }
        }
        let line = |(sector, how): (&u64, &&str)| format!("{:#x} 0x200 - # {how}\n", sector * 512);
        bench.faulty_main(&bad.iter().map(line).collect::<String>());
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn eight_workers_for_thirty_seconds_while_blocks_move() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(""));
    let server = bench.serve(&[]);
    bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let end = Instant::now() + LONG;
    let work = |id| {
        let rounds = vec![0; SECTORS as usize];
        let mut worker = Worker { id, client: server.connect(), numbers: Numbers(id), rounds };
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            worker.step();
            steps.fetch_add(1, Ordering::Relaxed);
        }
        worker.rounds
    };
    let (rounds, carried_out) = std::thread::scope(|scope| {
        scope.spawn(|| decay(&bench, &stop));
        let messages = scope.spawn(|| messages(&bench, &stop));
        let workers: Vec<_> = (0..WORKERS).map(|id| scope.spawn(move || work(id))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<Vec<u64>> = ended.into_iter().map(Result::unwrap).collect();
        (rounds, messages.join().unwrap())
    });

    let status = bench.json(&["status", "v", "--json"]);
    let number = |pointer: &str| status.pointer(pointer).and_then(|n| n.as_u64()).unwrap();
    println!(
        "{} requests, {carried_out} messages, {} units moved by themselves, {} by hand, \
         {} blocks on the spare",
        steps.load(Ordering::Relaxed),
        number("/remaps/automatic"),
        number("/remaps/manual"),
        number("/remapped_blocks"),
    );
    assert_eq!((number("/pending_blocks"), number("/gone_blocks")), (0, 0));
    assert!(number("/remaps/automatic") > 50 && number("/remaps/manual") > 50 && carried_out > 100);
    let expected: Vec<u8> = (0..SECTORS)
        .flat_map(|at| content(at, rounds.iter().map(|of_one| of_one[at as usize]).sum()))
        .collect();
    let compare = |client: &Client, when: &str| {
        for at in (0..IMAGE_BYTES).step_by(1 << 20) {
            let found = client.read(at, 1 << 20).unwrap();
            assert!(found == expected[at as usize..at as usize + (1 << 20)], "{when}: {at}");
        }
    };
    compare(&server.connect(), "at the end");
    server.kill();
    let server = bench.serve(&[]);
    compare(&server.connect(), "after a kill and an open");
    assert_eq!(server.stop(), 0);
    assert_eq!(bench.code(&["check", "--spare", "spare.img"]).0, 0);
}
