// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A thousand times in one process: open the devices, open the volume, serve it, use it, move a
//! unit to the spare and home, close everything. File descriptors and threads must be as many as
//! after the first three hundred times, memory must not have grown by what a single leak would
//! add, and the spare must have as many free units. (A program of its own: another test beside it
//! would count too.)

mod common;
#[path = "../src/serving/export.rs"]
mod export;

use std::sync::Arc;
use std::time::Duration;

use common::Bench;
use dmremap_core::message::Command;
use dmremap_core::settings::{Key, Setting};
use dmremap_engine::{OpenOptions, Volume, VolumeOptions, open_device};
use dmremap_nbd::{Client, Config, Listener, Server};
use export::Exported;

const WARM_UP: u64 = 300;
const CYCLES: u64 = 1000;
/// What memory may grow by in all the cycles: 4 KiB for each.
const GROWTH_BYTES: u64 = CYCLES * 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// What this process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_bytes: u64,
}

impl Held {
    fn now() -> Held {
        let count = |folder| std::fs::read_dir(folder).unwrap().count();
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Held {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            resident_bytes: kib << 10,
        }
    }

    /// The least of a while: threads on their way out are gone then.
    fn settled() -> Held {
        let mut least = Held::now();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            let now = Held::now();
            least.descriptors = least.descriptors.min(now.descriptors);
            least.threads = least.threads.min(now.threads);
        }
        least
    }
}

/// From open to close; how many units of the spare are free at the end.
fn cycle(bench: &Bench, main: &str, n: u64) -> u64 {
    let spare = bench.path("spare.img");
    let spare = open_device(spare.to_str().unwrap(), &OpenOptions::default()).unwrap();
    let main = open_device(main, &OpenOptions::default()).unwrap();
    let settings = Setting::new(Key::RetryBackoff, 1).into_iter().collect();
    let options = VolumeOptions { settings, ..VolumeOptions::default() };
    let volume = Arc::new(Volume::open(main, spare, &options, |_| {}).unwrap());
    let server = Server::new(Arc::new(Exported(Arc::clone(&volume))), Config::default()).unwrap();
    let socket = bench.path("cycle.nbd");
    server.listen(Listener::unix(&socket).unwrap()).unwrap();

    let client = Client::connect_unix(&socket, "").unwrap();
    let bytes = vec![n as u8; 24 * 512];
    // Over a sector that main cannot write, and beside one that it cannot read.
    client.write(796 * 512, &bytes, true).unwrap();
    assert!(client.read(796 * 512, 24 * 512).unwrap() == bytes);
    assert!(client.read(2400 * 512, 512).is_err());
    let sector = 4000 + n % 100 * 8;
    for command in [Command::Remap { sector, to: None }, Command::Unremap { sector }] {
        let done = volume.act(command);
        assert!(!matches!(done, dmremap_core::Done::Failed(_)), "{command:?}: {done:?}");
    }
    client.flush().unwrap();
    match n % 2 {
        0 => client.disconnect().unwrap(),
        _ => drop(client),
    }
    assert_eq!(server.shutdown(PATIENCE).abandoned, 0);
    drop(server);
    let free = volume.status().unwrap().spare_free_units;
    assert!(volume.close());
    free
}

#[test]
fn a_thousand_opens_and_closes_leak_nothing() {
    let bench = Bench::new();
    let main = bench.faulty_main("0x64000 0x200 - # write io\n0x12c000 0x200 - # read medium\n");
    // Opened here, not in the folder of the bench.
    let image = bench.path("main.img");
    let main = main.replacen("main.img", image.to_str().unwrap(), 1);
    bench.format(&main);
    let mut free = 0;
    for n in 0..WARM_UP {
        free = cycle(&bench, &main, n);
    }
    let before = Held::settled();
    for n in 0..CYCLES {
        assert_eq!(cycle(&bench, &main, n), free, "cycle {n}: units of the spare are missing");
    }
    let after = Held::settled();
    println!("{before:?}\n{after:?}");
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.threads, before.threads);
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    assert!(grown < GROWTH_BYTES, "{grown} bytes more are held");
}
