// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `import`, and `serve --accept-main=copy`: bad areas that others have written down are errors
//! until they are overwritten, and what cannot be understood changes nothing.

mod common;

use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::Duration;

use common::{Bench, IMAGE_BYTES, Serving, known};
use dmremap_nbd::Client;
use serde_json::json;

const SECTORS: u64 = IMAGE_BYTES / 512;

/// A mapfile in which these sectors (first, count, status) were not copied.
fn map(bad: &[(u64, u64, char)]) -> String {
    let (mut text, mut done) = ("# made for a test\n0x0 + 1\n".to_owned(), 0);
    let mut area = |from: u64, to: u64, status: char| {
        if from < to {
            text += &format!("{:#x} {:#x} {status}\n", from * 512, (to - from) * 512);
        }
    };
    for (sector, count, status) in bad {
        area(done, *sector, '+');
        area(*sector, sector + count, *status);
        done = sector + count;
    }
    area(done, SECTORS, '+');
    text
}

/// Sectors 41 and 42 bad, 100 to 119 not trimmed, the last one not tried.
const BAD: [(u64, u64, char); 3] = [(41, 2, '-'), (100, 20, '*'), (SECTORS - 1, 1, '?')];
const BAD_SECTORS: [u64; 4] = [41, 42, 110, SECTORS - 1];

fn put(bench: &Bench, name: &str, text: &str) {
    std::fs::write(bench.path(name), text).unwrap();
}

fn good(client: &Client, sector: u64) {
    assert_eq!(client.read(sector * 512, 512).unwrap(), [known(sector * 512); 512], "{sector}");
}

fn bad(client: &Client, sector: u64) {
    assert!(client.read(sector * 512, 512).is_err(), "sector {sector} is bad");
}

fn volume() -> Bench {
    let bench = Bench::new();
    bench.format("main.img");
    put(&bench, "copy.map", &map(&BAD));
    bench
}

fn check(server: &Serving) {
    let client = server.connect();
    BAD_SECTORS.iter().for_each(|sector| bad(&client, *sector));
    [40, 43, 99, 120, SECTORS - 2].iter().for_each(|sector| good(&client, *sector));
}

#[test]
fn a_map_of_a_copy_is_gone_until_it_is_overwritten() {
    let bench = volume();
    let server = bench.serve(&[]);
    let words = ["import", "v", "--format", "mapfile", "copy.map"];
    let (code, said) = bench.code(&words);
    assert!(code == 6 && said.contains("--yes"), "nobody can be asked: {said}");
    let said = bench.good(&[&words[..], &["--dry-run"]].concat());
    assert!(said.contains("23 bad blocks in 3 areas") && said.contains("Nothing"), "{said}");
    good(&server.connect(), 41);
    let done = bench.json(&[&words[..], &["--yes", "--json"]].concat());
    assert_eq!((&done["marked"], &done["kind"]), (&json!(23), &json!("gone")));
    check(&server);
    // Nothing but a write takes it back.
    bench.good(&["remap", "v", "41"]);
    let _ = bench.code(&["verify", "v", "41"]);
    check(&server);
    let client = server.connect();
    client.write(41 * 512, &[0x77; 512], true).unwrap();
    drop(client);
    server.kill();
    let server = bench.serve(&[]);
    let client = server.connect();
    assert_eq!(client.read(41 * 512, 512).unwrap(), [0x77; 512]);
    [42, 100, 119, SECTORS - 1].iter().for_each(|sector| bad(&client, *sector));
    // Once more: what lives on the spare or is gone is left as it is.
    let done = bench.json(&[&words[..], &["--yes", "--json"]].concat());
    assert_eq!((&done["on_spare"], &done["marked"]), (&json!(1), &json!(0)), "{done}");
    assert_eq!(client.read(41 * 512, 512).unwrap(), [0x77; 512]);
}

#[test]
fn a_map_of_the_disk_itself_is_pending() {
    let bench = volume();
    let server = bench.serve(&[]);
    let words = ["import", "v", "--format", "mapfile", "--main-is", "original", "copy.map"];
    let said = bench.good(&words);
    assert!(said.contains("Marked pending: 2 blocks"), "{said}");
    assert_eq!(bench.json(&["status", "v", "--json"])["pending_blocks"], 2);
    let client = server.connect();
    // What was not tried is for the disk to say; what was bad is asked for again, and read.
    good(&client, 110);
    client.write(42 * 512, &[0x77; 512], false).unwrap();
    assert_eq!(client.read(42 * 512, 512).unwrap(), [0x77; 512]);
    assert_eq!(bench.json(&["status", "v", "--json"])["remapped_blocks"], 1);
    let at_rest =
        ["import", "--spare", "spare.img", "--format", "mapfile", "--main-is", "original", "x"];
    let (code, said) = bench.code(&at_rest);
    assert!(code == 1 && said.contains("running volume"), "{said}");
}

#[test]
fn a_volume_that_does_not_run_is_marked_on_its_spare() {
    let bench = volume();
    // Main need not be there.
    std::fs::rename(bench.path("main.img"), bench.path("away.img")).unwrap();
    let words = ["import", "--spare", "spare.img", "--format", "mapfile", "copy.map", "--yes"];
    let said = bench.good(&words);
    assert!(said.contains("Marked gone: 23 blocks"), "{said}");
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["state"], "clean");
    std::fs::rename(bench.path("away.img"), bench.path("main.img")).unwrap();
    let server = bench.serve(&[]);
    check(&server);
    let (code, said) = bench.code(&words);
    assert_eq!(code, 5, "it runs: {said}");
}

#[test]
fn other_forms_say_the_same() {
    let bench = volume();
    put(&bench, "bad.txt", "5\n12\n13\n14\n");
    let server = bench.serve(&[]);
    let list = ["import", "v", "--format", "badblocks", "bad.txt", "--yes"];
    let (code, said) = bench.code(&list);
    assert!(code == 1 && said.contains("--block-size 1024"), "{said}");
    bench.good(&[&list[..], &["--block-size", "4096"]].concat());
    let client = server.connect();
    [40, 47, 96, 119].iter().for_each(|sector| bad(&client, *sector));
    [39, 48, 95, 120].iter().for_each(|sector| good(&client, *sector));
    // What one volume writes down another takes in.
    bench.good(&["export", "v", "--format", "json", "out.json"]);
    bench.good(&["export", "v", "--format", "mapfile", "out.map"]);
    drop(client);
    assert_eq!(server.stop(), 0);
    for (form, file) in [("json", "out.json"), ("mapfile", "out.map")] {
        let other = Bench::new();
        other.format("main.img");
        std::fs::copy(bench.path(file), other.path(file)).unwrap();
        other.good(&["import", "--spare", "spare.img", "--format", form, file, "--yes"]);
        other.good(&["export", "--spare", "spare.img", "--format", "mapfile", "again.map"]);
        let text = |bench: &Bench, name: &str| {
            let text = std::fs::read_to_string(bench.path(name)).unwrap();
            text.lines().skip(5).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(text(&other, "again.map"), text(&bench, "out.map"), "{form}");
    }
}

#[test]
fn a_table_that_is_too_small_refuses_all_of_it() {
    let bench = Bench::new();
    let format = ["format", "--main", "main.img", "--spare", "spare.img", "--name", "v", "--yes"];
    bench.good(&[&format[..], &["--max-remaps", "4"]].concat());
    put(&bench, "copy.map", &map(&BAD));
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let words = ["import", "--spare", "spare.img", "--format", "mapfile", "copy.map", "--yes"];
    let (code, said) = bench.code(&words);
    assert!(code == 6 && said.contains("--max-remaps 5"), "{code} {said}");
    assert!(std::fs::read(bench.path("spare.img")).unwrap() == before, "nothing was written");
    let server = bench.serve(&[]);
    let (code, said) = bench.code(&["import", "v", "--format", "mapfile", "copy.map", "--yes"]);
    assert!(code == 6 && said.contains("--max-remaps 5"), "{code} {said}");
    good(&server.connect(), 41);
}

#[test]
fn lines_that_cannot_be_understood_change_nothing() {
    let bench = volume();
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let end = SECTORS * 512;
    for (text, line) in [
        ("0 +\n0 100 +\n".to_owned(), 2),
        (format!("0 +\n0 1024 -\n512 {} +\n", end - 512), 3),
        (format!("0 +\n0 512 -\n1024 {} +\n", end - 1024), 3),
        (format!("0 +\n0 {end} +\n{end} 512 -\n"), 3),
        (format!("0 +\n1024 512 -\n0 {end} +\n"), 2),
        (format!("0 +\n0 {end} bad\n"), 2),
        ("\u{1b}]0;x\u{7}\n".to_owned(), 1),
        ("0 +\n0 99999999999999999999999 -\n".to_owned(), 2),
    ] {
        put(&bench, "odd.map", &text);
        let words = ["import", "--spare", "spare.img", "--format", "mapfile", "odd.map", "--yes"];
        let (code, said) = bench.code(&words);
        assert!(code == 1 && said.contains(&format!("odd.map:{line}: ")), "{text:?}: {said}");
        assert!(said.trim_end().lines().last().unwrap().contains("; try: dmremap "), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    let words = ["import", "--spare", "spare.img", "--format", "mapfile", "none.map", "--yes"];
    assert_eq!(bench.code(&words).0, 4);
    assert!(std::fs::read(bench.path("spare.img")).unwrap() == before, "nothing was written");
}

#[test]
fn a_thousand_areas_take_few_commits() {
    let bench = Bench::new();
    bench.format("main.img");
    let areas: Vec<_> = (0..1000).map(|n| (n * 16, 1, '-')).collect();
    put(&bench, "many.map", &map(&areas));
    let _server = bench.serve(&[]);
    bench.good(&["import", "v", "--format", "mapfile", "many.map", "--yes"]);
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!(status["gone_blocks"], 1000);
    let commits = status["metadata"]["commits"].as_u64().unwrap();
    println!("1,000 areas in {commits} commits");
    assert!(commits < 500, "{commits} commits");
}

/// A copy of main that reads zeros, with success, where the map says that it lacks something.
fn copied() -> Bench {
    let bench = volume();
    std::fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
    let copy = std::fs::File::options().write(true).open(bench.path("copy.img")).unwrap();
    for (sector, count, _) in BAD {
        copy.write_all_at(&vec![0; count as usize * 512], sector * 512).unwrap();
    }
    bench
}

const COPY: [&str; 3] = ["--main", "copy.img", "--accept-main=copy"];

#[test]
fn trace_10_06_a_copy_is_taken_with_its_map() {
    let bench = copied();
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let refused = |more: &[&str], part: &str| {
        let words = [&["serve", "--spare", "spare.img"][..], more].concat();
        let (code, said) = bench.code(&words);
        assert!(code == 1 && said.contains(part), "{more:?}: {code} {said}");
        let last = said.trim_end().lines().last().unwrap();
        assert!(last.contains("; try: dmremap ") && last.contains(" serve "), "{said}");
        assert!(std::fs::read(bench.path("spare.img")).unwrap() == before, "nothing was written");
    };
    refused(&COPY, "--mapfile none");
    refused(&["--main", "copy.img", "--accept-main=same", "--mapfile", "copy.map"], "same disk");
    refused(&["--mapfile", "copy.map"], "--accept-main=copy");
    refused(&[&COPY[..], &["--mapfile", "copy.map", "--read-only"]].concat(), "read-only");
    put(&bench, "odd.map", "0 +\n0 512 +\n0 512 -\n");
    let words = [&["serve", "--spare", "spare.img"][..], &COPY, &["--mapfile", "odd.map"]].concat();
    let (code, said) = bench.code(&words);
    assert!(code == 1 && said.contains("odd.map:3:"), "{said}");
    let main = ["serve", "--spare", "spare.img", "--accept-main=copy", "--mapfile", "copy.map"];
    let (code, said) = bench.code(&main);
    assert!(code == 6 && said.contains("main itself and no copy"), "{said}");
    assert!(std::fs::read(bench.path("spare.img")).unwrap() == before, "nothing was written");

    let server = bench.serve(&[&COPY[..], &["--mapfile", "copy.map"]].concat());
    check(&server);
    server.connect().write(41 * 512, &[0x77; 1024], true).unwrap();
    assert_eq!(server.stop(), 0);
    // It is main by now, also without a word; and never a copy again.
    let server = bench.serve(&[]);
    assert_eq!(server.connect().read(41 * 512, 1024).unwrap(), [0x77; 1024]);
    bad(&server.connect(), 110);
    assert_eq!(server.stop(), 0);
    let words =
        [&["serve", "--spare", "spare.img"][..], &COPY, &["--mapfile", "copy.map"]].concat();
    assert_eq!(bench.code(&words).0, 6);
}

#[test]
fn a_copy_that_lacks_nothing_is_taken_as_it_is() {
    let bench = volume();
    std::fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
    let server = bench.serve(&[&COPY[..], &["--mapfile", "none"]].concat());
    [0, 41, 110].iter().for_each(|sector| good(&server.connect(), *sector));
    assert_eq!(bench.json(&["status", "v", "--json"])["gone_blocks"], 0);
}

/// Killed at any moment while the copy is taken, it is either no main yet, or lacks nothing
/// silently. (Every single write is tried in the engine's own test.)
#[test]
fn kills_while_a_copy_is_taken() {
    let (mut asked, mut taken) = (0, 0);
    for delay_ms in 0..8 {
        let bench = copied();
        let words = ["serve", "--spare", "spare.img", "--mapfile", "copy.map"];
        let mut command = bench.command(&[&words[..], &COPY].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms * 16));
        child.kill().unwrap();
        child.wait().unwrap();
        let plain = ["serve", "--spare", "spare.img", "--main", "copy.img", "--stdio"];
        let (code, said) = bench.code(&plain);
        match code {
            0 => {
                taken += 1;
                check(&bench.serve(&["--main", "copy.img"]));
            }
            6 => {
                asked += 1;
                check(&bench.serve(&[&COPY[..], &["--mapfile", "copy.map"]].concat()));
            }
            _ => panic!("after {delay_ms}: {code} {said}"),
        }
    }
    println!("{asked} asked again, {taken} taken");
    assert!(asked > 0);
}

/// The old spare of an earlier generation: sector `n` of it is filled with `n`'s low byte + 1.
fn old_spare(entries: &[(u64, u64)], v3: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..4096u64 * 512).map(|at| ((at / 512) as u8).wrapping_add(1)).collect();
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let count = (entries.len() as u32).to_le_bytes();
    let sizes = [SECTORS.to_le_bytes(), 4096u64.to_le_bytes()].concat();
    if v3 {
        put(0, &[0; 8192]);
        put(0, b"DMREMAP3\x01\0\0\0");
        put(32, &count);
        put(40, &sizes);
        for (index, (main, spare)) in entries.iter().enumerate() {
            put(4096 + 16 * index, &[main.to_le_bytes(), spare.to_le_bytes()].concat());
        }
        return bytes;
    }
    let mut copy = vec![0u8; 84_288];
    let mut put = |at: usize, value: &[u8]| copy[at..at + value.len()].copy_from_slice(value);
    put(0, &[0x34, 0x52, 0x4d, 0x44, 4, 0, 0, 0, 9]);
    put(32, &84_288u32.to_le_bytes());
    put(120, &sizes);
    put(296, &count);
    for (index, (main, spare)) in entries.iter().enumerate() {
        put(312 + 40 * index, &[main.to_le_bytes(), spare.to_le_bytes()].concat());
    }
    let mut crc = 0u32;
    for byte in copy[..24].iter().chain(&copy[28..]) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 };
        }
    }
    copy[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes[256 * 512..256 * 512 + copy.len()].copy_from_slice(&copy);
    bytes
}

#[test]
fn the_table_of_an_old_spare_is_taken_in() {
    // 41 and 900 are good, 50 points into the table, 60 and 61 share a sector.
    let entries = [(41, 2000), (900, 3000), (50, 7), (60, 2001), (61, 2001)];
    for v3 in [false, true] {
        let bench = volume();
        std::fs::write(bench.path("old.img"), old_spare(&entries, v3)).unwrap();
        let server = bench.serve(&[]);
        let words = ["import", "v", "old.img", "--format", if v3 { "v3" } else { "v4real" }];
        let mut words = words.to_vec();
        if v3 {
            let (code, said) = bench.code(&[&words[..], &["--yes"]].concat());
            assert!(code == 6 && said.contains("--force=unverified"), "{said}");
            words.push("--force=unverified");
        }
        let said = bench.good(&[&words[..], &["--dry-run"]].concat());
        assert!(said.contains("2 sectors to be written") && said.contains("3 entries"), "{said}");
        assert!(said.contains("main sector 50 on spare sector 7: points into its own"), "{said}");
        let client = server.connect();
        [41, 50, 60, 61, 900].iter().for_each(|sector| good(&client, *sector));
        assert_eq!(bench.code(&words).0, 6, "nobody can be asked");
        let done = bench.json(&[&words[..], &["--yes", "--json"]].concat());
        assert_eq!((&done["written"], done["damaged"].as_array().unwrap().len()), (&json!(2), 3));
        for (main, spare) in [(41u64, 2000u64), (900, 3000)] {
            let byte = (spare as u8).wrapping_add(1);
            assert_eq!(client.read(main * 512, 512).unwrap(), [byte; 512]);
        }
        [50, 60, 61].iter().for_each(|sector| bad(&client, *sector));
        [40, 42, 51, 62].iter().for_each(|sector| good(&client, *sector));
        let before = std::fs::read(bench.path("old.img")).unwrap();
        assert!(before == old_spare(&entries, v3), "the old spare is only read");
    }
}

#[test]
fn an_old_table_of_something_else_is_refused() {
    let bench = volume();
    let _server = bench.serve(&[]);
    let mut other = old_spare(&[(41, 2000)], true);
    other[40..48].copy_from_slice(&(SECTORS - 1).to_le_bytes());
    std::fs::write(bench.path("old.img"), other).unwrap();
    let words = ["import", "v", "old.img", "--yes", "--force=unverified", "--format"];
    let (code, said) = bench.code(&[&words[..], &["v3"]].concat());
    assert!(code == 6 && said.contains("sectors"), "{code} {said}");
    let (code, said) = bench.code(&[&words[..], &["v4real"]].concat());
    assert!(code == 4 && said.contains("no such table"), "{code} {said}");
    let words = ["import", "--spare", "spare.img", "old.img", "--format", "v3"];
    assert_eq!(bench.code(&words).0, 1);
}
