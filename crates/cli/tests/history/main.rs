// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the project's earlier test scripts were for, through the door a user takes: the program,
//! NBD, the control socket. The table in `docs/TESTING.md` says which script became which test.

mod automatic;
mod backing;
mod before_after;
#[path = "../common/mod.rs"]
mod common;
mod sizes;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::Bench;
use dmremap_nbd::Client;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// A sector that repeats `text`.
fn marked(text: &[u8; 16]) -> Vec<u8> {
    text.repeat(SECTOR as usize / text.len())
}

/// Content that no other sector of `sectors` has and that says in which round it was written.
fn pattern(sector: u64, sectors: u64, round: u64) -> Vec<u8> {
    let one = |at: u64| [at.to_le_bytes(), round.to_le_bytes()].concat().repeat(32);
    (sector..sector + sectors).flat_map(one).collect()
}

/// Reads whole sectors.
fn read(client: &Client, sector: u64, sectors: u64) -> Vec<u8> {
    client.read(sector * SECTOR, (sectors * SECTOR) as u32).unwrap()
}

/// Everything the volume reads as.
fn all(client: &Client) -> Vec<u8> {
    let step = 8 << 20;
    let bytes = client.export().size_bytes;
    (0..bytes).step_by(step).flat_map(|at| client.read(at, step as u32).unwrap()).collect()
}

/// What an image of the bench holds, whoever uses it.
fn image_sectors(bench: &Bench, image: &str, sector: u64, sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; (sectors * SECTOR) as usize];
    File::open(bench.path(image)).unwrap().read_exact_at(&mut bytes, sector * SECTOR).unwrap();
    bytes
}

/// Writes to an image of the bench behind everybody's back.
fn put(bench: &Bench, image: &str, sector: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(bench.path(image)).unwrap();
    file.write_all_at(bytes, sector * SECTOR).unwrap();
}

/// The first sector of the spare that can be handed out.
fn data_start(bench: &Bench) -> u64 {
    bench.json(&["examine", "spare.img", "--json"])["volume"]["data_start"].as_u64().unwrap()
}

/// A number of `status --json`.
fn count(bench: &Bench, key: &str) -> u64 {
    let status = bench.json(&["status", "v", "--json"]);
    let value = key.split('.').fold(&status, |value, part| &value[part]);
    value.as_u64().unwrap_or_else(|| panic!("{key}: {value}"))
}

/// Makes recovery quick: files need no time to come to.
fn no_backoff(bench: &Bench) {
    bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
}
