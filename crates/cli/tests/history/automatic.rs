// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Errors lead to a move by themselves, are told apart, and are counted.

use super::common::{Bench, known};
use super::{SECTOR, count, no_backoff, pattern, read};

/// Sectors 800, 1600 and 2400 cannot be written, with the three errors that a bad sector shows;
/// 4000 and 4800 cannot be written for reasons that say nothing of the sector.
const CLASSES: &str = "\
    0x64000 0x200 - # write io\n\
    0xc8000 0x200 - # write medium\n\
    0x12c000 0x200 - # write target\n\
    0x1f4000 0x200 - # write transport\n\
    0x258000 0x200 - # write timeout\n";

#[test]
fn each_error_is_taken_for_what_it_is() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(CLASSES));
    let server = bench.serve(&[]);
    no_backoff(&bench);
    let client = server.connect();
    for (n, sector) in [800, 1600, 2400].into_iter().enumerate() {
        client.write(sector * SECTOR, &pattern(sector, 1, 1), false).unwrap();
        assert_eq!(read(&client, sector, 1), pattern(sector, 1, 1));
        assert_eq!(count(&bench, "remaps.automatic"), n as u64 + 1);
    }
    for sector in [4000, 4800] {
        assert!(client.write(sector * SECTOR, &pattern(sector, 1, 1), false).is_err());
        assert_eq!(read(&client, sector, 1), [known(sector * SECTOR); 512], "nothing is invented");
    }
    assert_eq!(count(&bench, "entries"), 3, "an error of the path moves nothing");
    assert_eq!(count(&bench, "pending_blocks"), 0);
    assert_eq!((count(&bench, "errors.medium"), count(&bench, "errors.transport")), (3, 2));
    assert_eq!((count(&bench, "errors.read"), count(&bench, "errors.write")), (0, 5));
}

#[test]
fn counters_and_status_after_automatic_moves() {
    let bench = Bench::new();
    // Sixteen sectors that cannot be written, one in a unit, and one that cannot be read.
    let mut map: String =
        (0..16).map(|n| format!("{:#x} 0x200 - # write io\n", (800 + n * 24) * SECTOR)).collect();
    map += &format!("{:#x} 0x200 - # read medium\n", 8000 * SECTOR);
    bench.format(&bench.faulty_main(&map));
    let server = bench.serve(&[]);
    no_backoff(&bench);
    let client = server.connect();
    let free = count(&bench, "spare_free_units");
    let commits = count(&bench, "metadata.commits");
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 0);
    for n in 0..16 {
        let sector = 800 + n * 24;
        client.write(sector * SECTOR, &pattern(sector, 1, 1), false).unwrap();
        assert_eq!(count(&bench, "remapped_blocks"), n + 1);
        assert_eq!(count(&bench, "errors.write"), n + 1);
    }
    for (key, expected) in [
        ("entries", 16),
        ("remaps.automatic", 16),
        ("remaps.manual", 0),
        ("spare_free_units", free - 16),
        ("pending_blocks", 0),
        ("gone_blocks", 0),
        ("quarantined_units", 0),
        ("errors.read", 0),
        ("errors.transport", 0),
        ("metadata.copies_valid", 5),
    ] {
        assert_eq!(count(&bench, key), expected, "{key}");
    }
    assert!((commits + 1..=commits + 16).contains(&count(&bench, "metadata.commits")));
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!(status["state"], "ok");
    let sentence = status["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("16 blocks moved"), "{sentence}");
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 0, "all is intact");

    assert!(client.read(8000 * SECTOR, 512).is_err());
    assert!(count(&bench, "errors.read") >= 1);
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!((&status["state"], &status["pending_blocks"]), (&"degraded".into(), &1.into()));
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 2, "data is lost");
    // The counters are of this session; what has moved is for good.
    bench.good(&["message", "v", "clear_stats"]);
    assert_eq!(count(&bench, "remaps.automatic") + count(&bench, "errors.write"), 0);
    drop(client);
    assert_eq!(server.stop(), 0);
    let at_rest = bench.json(&["status", "--spare", "spare.img", "--json"]);
    assert_eq!((&at_rest["remapped_blocks"], &at_rest["entries"]), (&16.into(), &16.into()));
    assert_eq!(at_rest["spare_free_units"], free - 16);
}

fn paths(bench: &Bench) -> (u64, u64) {
    (count(bench, "requests.fast"), count(bench, "requests.slow"))
}

#[test]
fn fast_and_slow_requests_are_counted_apart() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    bench.good(&["remap", "v", "800"]);
    bench.good(&["message", "v", "clear_stats"]);
    let ask = |n: u64, sector: u64, sectors: u64| {
        for _ in 0..n {
            read(&client, sector, sectors);
        }
    };
    ask(10, 0, 1);
    ask(10, 16_384, 64);
    assert_eq!(paths(&bench), (20, 0));
    // A large one goes in pieces, each as fast as a sector.
    ask(1, 16_384, 2048);
    assert_eq!(paths(&bench).1, 0);
    bench.good(&["message", "v", "clear_stats"]);
    ask(20, 0, 1);
    // The moved unit is slow; what a request reads behind it is a piece of its own.
    ask(3, 803, 1);
    assert_eq!(paths(&bench), (20, 3));
    ask(4, 806, 64);
    assert_eq!(paths(&bench), (24, 7));
    client.write(32 * SECTOR, &pattern(32, 1, 1), false).unwrap();
    client.write(800 * SECTOR, &pattern(800, 1, 1), false).unwrap();
    assert_eq!(paths(&bench), (25, 8));
    let stats = bench.json(&["stats", "v", "--json"]);
    assert_eq!((&stats["requests"]["fast"], &stats["requests"]["slow"]), (&25.into(), &8.into()));
    // Home again it is as clean as ever.
    bench.good(&["unremap", "v", "800"]);
    ask(5, 800, 8);
    assert_eq!(paths(&bench), (30, 8));
}

#[test]
fn a_main_that_fails_for_a_while_moves_nothing_and_goes_on() {
    let bench = Bench::new();
    let main = bench.faulty_main("");
    bench.format(&main);
    let server = bench.serve(&[]);
    no_backoff(&bench);
    bench.good(&["message", "v", "set", "recovery_limit_ms", "2000"]);
    let client = server.connect();
    client.write(800 * SECTOR, &pattern(800, 8, 1), true).unwrap();
    // Up and down, as dm-flakey does: while it is down everything fails like a bad sector.
    for _ in 0..2 {
        bench.faulty_main("#! outage io\n");
        assert!(client.read(800 * SECTOR, 4096).is_err());
        assert!(client.write(1600 * SECTOR, &pattern(1600, 8, 2), false).is_err());
        assert_eq!(count(&bench, "entries"), 0, "nothing is moved off a main that fails wholly");
        assert_eq!(count(&bench, "pending_blocks"), 0, "nor condemned");
        assert_eq!(bench.json(&["status", "v", "--json"])["state"], "main_suspect");
        bench.faulty_main("");
        assert_eq!(read(&client, 800, 8), pattern(800, 8, 1));
        client.write(1600 * SECTOR, &pattern(1600, 8, 3), false).unwrap();
        assert_eq!(read(&client, 1600, 8), pattern(1600, 8, 3));
        client.flush().unwrap();
    }
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_eq!(bench.main_sector(1600).to_vec(), pattern(1600, 1, 3));
}
