// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Requests of every size from 512 bytes to 1 MiB: over moved neighbours, and with an error in
//! their first, middle and last sector.

use dmremap_nbd::ClientError;

use super::common::{Bench, IMAGE_BYTES, known};
use super::{SECTOR, all, count, no_backoff, pattern, read};

/// Sizes in sectors: the powers of two to 1 MiB, and odd multiples in between.
const SIZES: [u64; 24] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, // powers of two
    3, 5, 7, 9, 15, 17, 33, 100, 255, 777, 1023, 2047, // and what lies between
];

/// Unit and every third, fifth and ninth after it: runs of moved and unmoved neighbours.
fn moved_units(first: u64) -> impl Iterator<Item = u64> {
    (first..first + 270).filter(move |unit| matches!((unit - first) % 27, 0 | 1 | 4 | 9 | 10 | 11))
}

#[test]
fn every_request_size_over_moved_neighbours() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    let first = 500;
    for unit in moved_units(first) {
        bench.good(&["remap", "v", &(unit * 8).to_string()]);
    }
    assert_eq!(count(&bench, "entries"), moved_units(first).count() as u64);
    let mut expected = std::fs::read(bench.path("main.img")).unwrap();
    for (round, sectors) in SIZES.into_iter().enumerate() {
        // At the start of a moved unit, in the midst of one, and on the way to one.
        for start in [first * 8, first * 8 + 5, first * 8 + 17, first * 8 + 31] {
            let place = (start * SECTOR) as usize..((start + sectors) * SECTOR) as usize;
            assert!(read(&client, start, sectors) == expected[place.clone()], "{start} {sectors}");
            let bytes = pattern(start, sectors, round as u64 + start);
            client.write(start * SECTOR, &bytes, round % 3 == 0).unwrap();
            expected[place].copy_from_slice(&bytes);
            let around = (start - 8) * SECTOR..(start + sectors + 8) * SECTOR;
            let seen = read(&client, start - 8, sectors + 16);
            assert!(seen == expected[around.start as usize..around.end as usize], "{start}");
        }
    }
    assert!(all(&client) == expected);
    drop(client);
    server.kill();
    let server = bench.serve(&[]);
    assert!(all(&server.connect()) == expected, "after a kill and an open");
    assert_eq!(server.stop(), 0);
    // What has not moved lies on main, byte for byte.
    let main = std::fs::read(bench.path("main.img")).unwrap();
    let moved: std::collections::HashSet<u64> = moved_units(first).collect();
    for unit in (0..IMAGE_BYTES / 4096).filter(|unit| !moved.contains(unit)) {
        let at = (unit * 4096) as usize;
        assert!(main[at..at + 4096] == expected[at..at + 4096], "unit {unit}");
    }
}

/// A request and the one sector of it that fails.
struct Case {
    sector: u64,
    sectors: u64,
    bad: u64,
}

/// Every size with an error in the first, the middle and the last sector, each in a place of its
/// own; `from` is the first sector to use.
fn cases(from: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut sector = from;
    for sectors in SIZES {
        let mut places = vec![0, sectors / 2, sectors - 1];
        places.dedup();
        for place in places {
            cases.push(Case { sector, sectors, bad: sector + place });
            // The next starts at another place in its unit.
            sector += sectors + 9;
        }
    }
    assert!(sector <= IMAGE_BYTES / SECTOR, "the image is too small: {sector}");
    cases
}

fn map(cases: &[Case], words: &str) -> String {
    let line = |case: &Case| format!("{:#x} 0x200 - # {words}\n", case.bad * SECTOR);
    cases.iter().map(line).collect()
}

#[test]
fn a_write_error_in_the_first_middle_and_last_sector_of_every_size() {
    let bench = Bench::new();
    let cases = cases(16);
    bench.format(&bench.faulty_main(&map(&cases, "write io")));
    let server = bench.serve(&[]);
    no_backoff(&bench);
    let client = server.connect();
    for (n, case) in cases.iter().enumerate() {
        let bytes = pattern(case.sector, case.sectors, 7);
        client.write(case.sector * SECTOR, &bytes, n % 2 == 0).unwrap();
        assert!(read(&client, case.sector, case.sectors) == bytes, "case {n}");
        for outside in [case.sector - 1, case.sector + case.sectors] {
            assert_eq!(read(&client, outside, 1), [known(outside * SECTOR); 512]);
        }
    }
    let list = bench.json(&["list", "v", "--json"]);
    let list = list.as_array().unwrap();
    let at = |run: &serde_json::Value, key: &str| run[key].as_u64().unwrap();
    // Not the start of a request, not the request, not the unit: the sectors written in a bad unit.
    for case in &cases {
        let unit = case.bad / 8 * 8;
        let (from, to) = (unit.max(case.sector), (unit + 8).min(case.sector + case.sectors));
        let one = list.iter().filter(|run| {
            let (first, end) =
                (at(run, "main_sector"), at(run, "main_sector") + at(run, "sectors"));
            first < to && end > from
        });
        let one: Vec<_> = one.collect();
        assert_eq!(one.len(), 1, "{} of {}", case.bad, case.sectors);
        let (first, sectors) = (at(one[0], "main_sector"), at(one[0], "sectors"));
        assert!((first..first + sectors).contains(&case.bad), "{first} {sectors} {}", case.bad);
        assert!(first >= from && first + sectors <= to, "more moved than was bad: {one:?}");
    }
    assert_eq!(count(&bench, "entries"), cases.len() as u64, "one spare unit each");
    assert_eq!(count(&bench, "remaps.automatic"), cases.len() as u64);
    drop(client);
    server.kill();
    let server = bench.serve(&[]);
    let client = server.connect();
    for case in &cases {
        assert!(read(&client, case.sector, case.sectors) == pattern(case.sector, case.sectors, 7));
    }
}

#[test]
fn a_read_error_in_the_first_middle_and_last_sector_of_every_size() {
    let bench = Bench::new();
    let cases = cases(16);
    bench.format(&bench.faulty_main(&map(&cases, "read medium")));
    let server = bench.serve(&[]);
    no_backoff(&bench);
    let client = server.connect();
    for (n, case) in cases.iter().enumerate() {
        let failed = client.read(case.sector * SECTOR, (case.sectors * SECTOR) as u32);
        let Err(ClientError::Remote(errno)) = failed else { panic!("case {n}: {failed:?}") };
        assert_eq!(errno.0, 5, "EIO is what an NBD client is told");
        assert_eq!(count(&bench, "pending_blocks"), n as u64 + 1, "one block, no more");
        let behind = case.bad + 1;
        for (sector, end) in [(case.sector, case.bad), (behind, case.sector + case.sectors)] {
            if sector < end {
                let expected: Vec<u8> =
                    (sector..end).flat_map(|at| [known(at * SECTOR); 512]).collect();
                assert!(read(&client, sector, end - sector) == expected, "case {n}");
            }
        }
    }
    assert_eq!(count(&bench, "remapped_blocks"), 0, "what cannot be read is not moved");
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 2);
    // Written anew each is good again, in requests of the same size.
    for case in &cases {
        let bytes = pattern(case.sector, case.sectors, 8);
        client.write(case.sector * SECTOR, &bytes, false).unwrap();
        assert!(read(&client, case.sector, case.sectors) == bytes);
    }
    assert_eq!(count(&bench, "pending_blocks"), 0);
    assert_eq!(count(&bench, "gone_blocks"), 0);
}
