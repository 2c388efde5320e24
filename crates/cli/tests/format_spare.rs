// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `format`: which spare, and how big. The file it makes, the sizes it takes, what it says of them.

mod common;

use common::{Bench, IMAGE_BYTES};
use serde_json::json;
use std::os::unix::fs::MetadataExt;

const CREATE: &[&str] =
    &["format", "--main", "main.img", "--create-spare", "new.img", "--size", "64M", "--name", "v"];

#[test]
fn a_spare_is_made_allocated_and_serves() {
    let bench = Bench::new();
    let main = std::fs::read(bench.path("main.img")).unwrap();
    // Nothing that exists is destroyed, so that nothing is asked.
    let said = bench.good(CREATE);
    assert!(said.contains("is made. Next: dmremap serve --spare new.img"), "{said}");
    assert!(said.contains("bad physical blocks of 4096 bytes"), "{said}");
    let meta = std::fs::metadata(bench.path("new.img")).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o777), (64 << 20, 0o600));
    assert!(meta.blocks() * 512 >= 64 << 20, "{} blocks: not fully allocated", meta.blocks());
    assert!(std::fs::read(bench.path("main.img")).unwrap() == main);
    assert_eq!(bench.json(&["examine", "new.img", "--json"])["volume"]["copies_valid"], 5);
    assert_eq!(bench.code(&["check", "--spare", "new.img"]).0, 0);
}

#[test]
fn the_document_has_both_sizes_and_agrees_with_the_words() {
    let bench = Bench::new();
    let dry = bench.json(&[CREATE, &["--dry-run", "--json"]].concat());
    assert!(!bench.path("new.img").exists() && !bench.path("volumes.conf").exists());
    assert_eq!((&dry["made"], &dry["uuid"]), (&json!(false), &json!(null)));
    let said = bench.good(&[CREATE, &["--dry-run"]].concat());
    let room = dry["room_sectors"].as_u64().unwrap();
    assert!(said.contains(&format!("{room} sectors")), "{said}");
    assert!(said.contains(&format!("room for {} bad", dry["room_blocks"])), "{said}");
    let made = bench.json(&[CREATE, &["--json"]].concat());
    assert_eq!(made["made"], true);
    assert_eq!(made["spare"]["created"], true);
    assert_eq!(made["spare"]["sectors"], 131_072);
    for key in ["max_entries", "room_sectors", "room_blocks", "table_bytes", "size_sectors"] {
        assert_eq!(made[key], dry[key], "{key}");
    }
    assert_eq!(room, made["spare"]["units"].as_u64().unwrap() * 8);
    let examined = bench.json(&["examine", "new.img", "--json"]);
    assert_eq!(made["uuid"], examined["volume"]["uuid"]);
}

#[test]
fn a_main_with_large_physical_blocks_has_room_for_fewer_of_them() {
    let bench = Bench::new();
    let one = |max: &str| {
        let args = [CREATE, &["--dry-run", "--json", "--max-remaps", max]].concat();
        bench.json(&args)["room_blocks"].as_u64().unwrap()
    };
    // The table, not the spare, is what ends first.
    assert_eq!((one("7"), one("126")), (7, 126));
}

#[test]
fn what_exists_is_never_overwritten() {
    let bench = Bench::new();
    std::fs::write(bench.path("new.img"), "precious").unwrap();
    for more in [&[][..], &["--yes"], &["--yes", "--force=volume", "--force=foreign-signature"]] {
        let (code, said) = bench.code(&[CREATE, more].concat());
        assert!(code == 5 && said.contains("exists already"), "{code} {said}");
    }
    assert_eq!(std::fs::read(bench.path("new.img")).unwrap(), b"precious");
    assert!(!bench.path("volumes.conf").exists());
}

#[test]
fn a_format_that_fails_takes_its_file_along() {
    let bench = Bench::new();
    let create = |main, size: &'static str| {
        ["format", "--main", main, "--create-spare", "new.img", "--size", size, "--name", "v"]
    };
    for (args, more, code) in [
        (create("missing.img", "64M"), &[][..], 4),
        (create("main.img", "64M"), &["--max-remaps", "9999999"], 4),
        (create("main.img", "1M"), &[], 4),
        (create("main.img", "16M"), &["--strict-spare-size"], 6),
        (create("main.img", "8191P"), &[], 4),
        (create("main.img", "64MB"), &[], 1),
    ] {
        let (found, said) = bench.code(&[&args[..], more].concat());
        assert_eq!(found, code, "{args:?} {more:?}: {said}");
        assert!(!bench.path("new.img").exists(), "{args:?} {more:?}");
    }
    // A configuration that cannot be written is a failure after the spare was made.
    std::fs::create_dir(bench.path("volumes.conf")).unwrap();
    let (code, said) = bench.code(CREATE);
    assert!(code != 0 && !bench.path("new.img").exists(), "{code} {said}");
}

#[test]
fn strict_means_room_for_all_of_main() {
    let bench = Bench::new();
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let strict = |spare: &'static str| {
        ["format", "--main", "main.img", "--spare", spare, "--strict-spare-size", "--yes"]
    };
    let (code, said) = bench.code(&strict("spare.img"));
    assert!(code == 6 && said.contains("105 % of main") && said.contains("34407"), "{code} {said}");
    assert!(std::fs::read(bench.path("spare.img")).unwrap() == before);
    let sectors = IMAGE_BYTES / 512;
    assert_eq!(sectors * 105 / 100, 34_406, "and a part of a sector");
    for (name, sectors, code) in [("below.img", 34_406, 6), ("enough.img", 34_407, 0)] {
        let file = std::fs::File::create(bench.path(name)).unwrap();
        file.set_len(sectors * 512).unwrap();
        let (found, said) = bench.code(&strict(name));
        assert_eq!(found, code, "{name}: {said}");
    }
}
