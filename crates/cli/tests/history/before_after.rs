// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Before a block is moved the volume reads main's bytes, after it the spare's, and nothing around
//! it changes.

use super::common::{Bench, IMAGE_BYTES, known};
use super::{SECTOR, all, count, data_start, image_sectors, marked, pattern, put, read};

/// Sectors 800 to 803 read well and cannot be written.
const WRITE_FAILS: &str = "0x64000 0x800 - # write io\n";

#[test]
fn complete_remap_verification() {
    let bench = Bench::new();
    let (on_main, on_spare) = (marked(b"MAIN_DATA_AT_SEC"), marked(b"SPARE_DATA_AT_SE"));
    put(&bench, "main.img", 1000, &on_main);
    bench.format("main.img");
    // Unit 5 of the spare; both sectors are the first of their unit.
    let there = data_start(&bench) + 5 * 8;
    put(&bench, "spare.img", there, &on_spare);

    let server = bench.serve(&[]);
    let client = server.connect();
    assert_eq!(read(&client, 1000, 1), on_main, "before: main's bytes");
    bench.good(&["message", "v", "add", "1000", &there.to_string()]);
    assert_eq!(read(&client, 1000, 1), on_spare, "after: the spare's bytes");
    for neighbour in [999, 1001] {
        assert_eq!(read(&client, neighbour, 1), [known(neighbour * SECTOR); 512]);
    }
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_eq!(image_sectors(&bench, "main.img", 1000, 1), on_main, "main itself is untouched");

    let server = bench.serve(&[]);
    let client = server.connect();
    assert_eq!(read(&client, 1000, 1), on_spare, "after an open: the spare's bytes");
    let list = bench.json(&["list", "v", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!((&list[0]["main_sector"], &list[0]["sectors"]), (&1000.into(), &1.into()));
    assert_eq!(list[0]["spare_sector"], there);
    // A write goes where the reads go, and only there.
    client.write(1000 * SECTOR, &pattern(1000, 1, 1), true).unwrap();
    assert_eq!(read(&client, 1000, 1), pattern(1000, 1, 1));
    assert_eq!(image_sectors(&bench, "spare.img", there, 1), pattern(1000, 1, 1));
    assert_eq!(image_sectors(&bench, "main.img", 1000, 1), on_main);
}

#[test]
fn what_is_not_moved_is_forwarded_untouched() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    // One unit has moved: everything else is still main's.
    bench.good(&["remap", "v", "20000"]);
    let main = std::fs::read(bench.path("main.img")).unwrap();
    assert!(all(&client) == main, "every byte is what main holds");
    let last = IMAGE_BYTES / SECTOR - 1;
    for (round, sector) in [0, 7, 8, 19_999, 20_008, last].into_iter().enumerate() {
        let bytes = pattern(sector, 1, round as u64);
        client.write(sector * SECTOR, &bytes, true).unwrap();
        assert_eq!(bench.main_sector(sector).to_vec(), bytes, "sector {sector} is at its place");
        assert_eq!(read(&client, sector, 1), bytes);
    }
    assert_eq!(count(&bench, "entries"), 1);
}

#[test]
fn nothing_changes_around_moved_sectors() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(WRITE_FAILS));
    let mut server = bench.serve(&[]);
    let mut client = server.connect();
    let mut expected = std::fs::read(bench.path("main.img")).unwrap();
    assert!(all(&client) == expected);
    // A move by hand keeps every byte; a write that is moved changes what it wrote.
    bench.good(&["remap", "v", "4096"]);
    assert!(all(&client) == expected, "a move changes no byte");
    let bytes = pattern(798, 8, 1);
    client.write(798 * SECTOR, &bytes, false).unwrap();
    expected[798 * 512..806 * 512].copy_from_slice(&bytes);
    assert!(all(&client) == expected, "only what was written has changed");
    drop(client);
    server.kill();

    server = bench.serve(&[]);
    client = server.connect();
    assert!(all(&client) == expected, "nor does a kill and an open");
    bench.good(&["unremap", "v", "4096"]);
    assert!(all(&client) == expected, "nor does bringing it home");
    drop(client);
    assert_eq!(server.stop(), 0);
    // The part of the write that lay in the bad unit has moved as one.
    let (main, moved) = (std::fs::read(bench.path("main.img")).unwrap(), 800 * 512..806 * 512);
    assert!(main[..moved.start] == expected[..moved.start]);
    assert!(main[moved.end..] == expected[moved.end..], "main differs in what has moved alone");
}

#[test]
fn an_explicit_pair_is_honoured_exactly() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    let start = data_start(&bench);
    let before = image_sectors(&bench, "main.img", 2000, 16);
    // In an order and with gaps that no allocator would choose.
    for (sector, there) in [(2000, start + 90 * 8), (2008, start + 17 * 8)] {
        bench.good(&["remap", "v", &sector.to_string(), &there.to_string()]);
        assert_eq!(image_sectors(&bench, "spare.img", there, 8), read(&client, sector, 8));
    }
    bench.good(&["remap", "v", "3003", "+2003"]);
    assert_eq!(read(&client, 2000, 16), before);
    let list = bench.json(&["list", "v", "--json"]);
    let pairs: Vec<(u64, u64, u64)> = list.as_array().unwrap().iter().map(run).collect();
    let expected =
        [(2000, start + 720, 8), (2008, start + 136, 8), (3000, start + 2000, 8)].to_vec();
    assert_eq!(pairs, expected);
    // A place in use, at another place in its unit or in the metadata is refused.
    for there in [start + 720, start + 801, 4096] {
        let (code, said) = bench.code(&["remap", "v", "4000", &there.to_string()]);
        assert!(code == 6 && said.contains("nearest legal one"), "{code} {said}");
    }
    assert_eq!(count(&bench, "entries"), 3);
    client.write(2000 * SECTOR, &pattern(2000, 16, 1), true).unwrap();
    assert_eq!(image_sectors(&bench, "spare.img", start + 720, 8), pattern(2000, 8, 1));
    assert_eq!(image_sectors(&bench, "spare.img", start + 136, 8), pattern(2008, 8, 1));
    assert_eq!(image_sectors(&bench, "main.img", 2000, 16), before);
}

/// Main sector, spare sector and length of a run of the list.
fn run(run: &serde_json::Value) -> (u64, u64, u64) {
    let number = |key: &str| run[key].as_u64().unwrap();
    (number("main_sector"), number("spare_sector"), number("sectors"))
}

#[test]
fn before_and_after_one_move_and_home_again() {
    let bench = Bench::new();
    let main = bench.faulty_main(WRITE_FAILS);
    bench.format(&main);
    let server = bench.serve(&[]);
    let client = server.connect();
    let before = image_sectors(&bench, "main.img", 800, 4);
    assert_eq!(read(&client, 800, 4), before);
    let after = pattern(800, 4, 1);
    client.write(800 * SECTOR, &after, true).unwrap();
    assert_eq!(read(&client, 800, 4), after);
    let list = bench.json(&["list", "v", "--json"]);
    let (sector, there, sectors) = run(&list[0]);
    assert_eq!((sector, sectors), (800, 4));
    assert_eq!(image_sectors(&bench, "spare.img", there, 4), after, "the list says where");
    assert_eq!(image_sectors(&bench, "main.img", 800, 4), before);
    // It cannot go home while main refuses it, and can when main is well.
    assert_ne!(bench.code(&["unremap", "v", "800"]).0, 0);
    assert_eq!(read(&client, 800, 4), after);
    bench.faulty_main("");
    bench.good(&["unremap", "v", "800"]);
    assert_eq!(read(&client, 800, 4), after);
    assert_eq!(image_sectors(&bench, "main.img", 800, 4), after);
    assert_eq!(count(&bench, "entries"), 0);
}

#[test]
fn sector_zero_can_be_moved() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main("0 0x200 - # write medium\n"));
    let server = bench.serve(&[]);
    let client = server.connect();
    let bytes = pattern(0, 3, 1);
    for sector in 0..3 {
        client.write(sector * SECTOR, &pattern(sector, 1, 1), true).unwrap();
    }
    assert_eq!(read(&client, 0, 3), bytes);
    assert_eq!(bench.main_sector(0), [known(0); 512]);
    assert_eq!(bench.main_sector(1).to_vec(), pattern(1, 1, 1), "its neighbour is at home");
    drop(client);
    server.kill();
    let server = bench.serve(&[]);
    assert_eq!(read(&server.connect(), 0, 3), bytes);
    let list = bench.json(&["list", "v", "--json"]);
    let (main_sector, _, sectors) = run(&list[0]);
    assert_eq!((main_sector, sectors, list.as_array().unwrap().len()), (0, 1, 1));
    // And by hand, where it is not bad: the whole unit, sector 0 included.
    assert_eq!(server.stop(), 0);
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "0"]);
    let client = server.connect();
    assert_eq!(read(&client, 0, 1), [known(0); 512]);
    client.write(0, &pattern(0, 1, 2), true).unwrap();
    assert_eq!(read(&client, 0, 1), pattern(0, 1, 2));
    assert_eq!(bench.main_sector(0), [known(0); 512]);
}

#[test]
fn exactly_one_sector_is_affected() {
    for sector in [1000, 1003, 1007] {
        let bench = Bench::new();
        let at = sector * SECTOR;
        bench.format(&bench.faulty_main(&format!("{at:#x} 0x200 - # write io\n")));
        let server = bench.serve(&[]);
        let client = server.connect();
        for at in 992..1024 {
            client.write(at * SECTOR, &pattern(at, 1, 1), true).unwrap();
        }
        assert_eq!(read(&client, 992, 32), pattern(992, 32, 1));
        let list = bench.json(&["list", "v", "--json"]);
        let (main_sector, _, sectors) = run(&list[0]);
        assert_eq!((main_sector, sectors, list.as_array().unwrap().len()), (sector, 1, 1));
        for at in 992..1024 {
            let here = bench.main_sector(at).to_vec();
            match at == sector {
                true => assert_eq!(here, [known(at * SECTOR); 512], "sector {at} has moved"),
                false => assert_eq!(here, pattern(at, 1, 1), "sector {at} is at home"),
            }
        }
    }
}
