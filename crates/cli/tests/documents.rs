// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What scripts read: each verb's JSON is one document on standard output and nothing besides, with
//! the keys that are promised; and what `status --test` exits with.

mod common;

use common::Bench;
use serde_json::Value;

/// The keys that `status --json` holds at least.
const STATUS: &[&str] = &[
    "/format_version/major",
    "/format_version/minor",
    "/name",
    "/uuid",
    "/state",
    "/block_size",
    "/size_sectors",
    "/remapped_blocks",
    "/pending_blocks",
    "/gone_blocks",
    "/entries",
    "/max_entries",
    "/quarantined_units",
    "/spare_free_units",
    "/spare_total_units",
    "/errors/read",
    "/errors/write",
    "/errors/medium",
    "/errors/transport",
    "/remaps/automatic",
    "/remaps/manual",
    "/requests/fast",
    "/requests/slow",
    "/metadata/copies_valid",
    "/metadata/copies_total",
    "/metadata/generation",
    "/metadata/sequence",
    "/metadata/commits",
    "/health_score",
    "/scan/state",
    "/scan/percent",
];
const VERSION: &[&str] = &["/format_version/major", "/format_version/minor"];
const RUN: &[&str] = &["/main_sector", "/spare_index", "/spare_sector", "/sectors", "/state"];

/// The document, which is all there is on standard output, with these keys.
fn document(bench: &Bench, args: &[&str], code: i32, keys: &[&str]) -> Value {
    let out = bench.run(args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    let value: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {:?}", out.stdout));
    for key in keys {
        let found = value.pointer(key);
        assert!(found.is_some(), "{args:?} lacks {key}: {value}");
    }
    value
}

/// A volume with a moved unit, a pending block and a gone one; `import` marks the last two.
fn volume(bench: &Bench) -> common::Serving {
    bench.format("main.img");
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "800"]);
    bench.good(&["message", "v", "mark", "pending", "1600"]);
    bench.good(&["message", "v", "mark", "gone", "2400"]);
    server
}

#[test]
fn every_verb_that_reads_writes_one_document() {
    let bench = Bench::new();
    let server = volume(&bench);
    let control = ["--control", "run/v.control"];
    for (verb, keys) in [("status", STATUS), ("stats", VERSION), ("list", &[])] {
        let by_name = document(&bench, &[verb, "v", "--json"], 0, keys);
        let by_socket = document(&bench, &[&[verb], &control[..], &["--json"]].concat(), 0, keys);
        assert_eq!(by_name, by_socket, "{verb}");
    }
    let runs = document(&bench, &["list", "v", "--json"], 0, &[]);
    let states: Vec<&Value> = runs.as_array().unwrap().iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["remapped", "pending", "gone"]);
    for run in runs.as_array().unwrap() {
        assert!(RUN.iter().chain(&["/cause"]).all(|key| run.pointer(key).is_some()), "{run}");
        assert!(run["main_sector"].is_u64() && run["sectors"].is_u64(), "{run}");
    }
    let unreadable = document(&bench, &["verify", "v", "2400", "--json"], 4, VERSION);
    assert_eq!(unreadable["unreadable"], serde_json::json!([2400]));
    document(&bench, &["verify", "v", "8", "--json"], 0, &["/unreadable", "/reply"]);
    document(&bench, &["remap", "v", "3200", "--json"], 0, VERSION);
    document(&bench, &["unremap", "v", "3200", "--json"], 0, VERSION);
    document(&bench, &["clear", "v", "--dry-run", "--json"], 0, VERSION);
    let export = ["export", "v", "--format", "json"];
    document(&bench, &export, 0, &["/format_version/major", "/runs", "/name", "/size_sectors"]);
    std::fs::write(bench.path("bad"), "9\n").unwrap();
    let import =
        ["import", "v", "--format", "badblocks", "--block-size", "512", "bad", "--dry-run"];
    document(&bench, &[&import[..], &["--json"]].concat(), 0, VERSION);
    assert_eq!(server.stop(), 0);

    for (args, keys) in [
        (&["status", "--spare", "spare.img", "--json"][..], STATUS),
        (&["list", "--spare", "spare.img", "--json"], &[]),
        (&["examine", "spare.img", "--json"], VERSION),
        (&["check", "--spare", "spare.img", "--json"], VERSION),
        (&["repair", "--spare", "spare.img", "--dry-run", "--json"], VERSION),
        (&["dump", "--spare", "spare.img"], VERSION),
        (&["dump", "--spare", "spare.img", "--json"], VERSION),
        (&["export", "--spare", "spare.img", "--format", "json"], VERSION),
    ] {
        document(&bench, args, 0, keys);
    }
    let format = ["format", "--main", "main.img", "--spare", "spare.img", "--dry-run", "--json"];
    let forced = [&format[..], &["--force=volume", "--name=w"]].concat();
    document(&bench, &forced, 0, VERSION);
}

#[test]
fn status_test_says_how_it_is_by_its_exit_code() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(""));
    let code = |args: &[&str]| {
        let out = bench.run(&[&["status"], args, &["--test"]].concat());
        assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{args:?} {out:?}");
        out.status.code().unwrap()
    };
    let at_rest = ["--spare", "spare.img"];
    assert_eq!((code(&at_rest), code(&["v"])), (0, 4), "nobody serves it");
    let server = bench.serve(&[]);
    assert_eq!((code(&["v"]), code(&["--control", "run/v.control"])), (0, 0));
    bench.good(&["remap", "v", "800"]);
    assert_eq!(code(&["v"]), 0, "moved is not lost");
    bench.good(&["message", "v", "mark", "gone", "2400"]);
    assert_eq!((code(&["v"]), server.stop()), (2, 0));
    assert_eq!(code(&at_rest), 2, "lost is lost while nobody serves it too");
    let server = bench.serve(&[]);
    server.connect().write(2400 * 512, &[7; 512], true).unwrap();
    assert_eq!((code(&["v"]), server.stop()), (0, 0));

    let server = bench.serve(&["--read-only"]);
    assert_eq!((code(&["v"]), server.stop()), (1, 0), "it takes no writes");
    let spare = std::fs::File::options().write(true).open(bench.path("spare.img")).unwrap();
    use std::os::unix::fs::FileExt;
    spare.write_all_at(&[0; 4096], 1024 * 512).unwrap();
    assert_eq!(code(&at_rest), 1, "a copy is bad");
    for copy in [0, 2048, 4096] {
        spare.write_all_at(&[0; 4096], copy * 512).unwrap();
    }
    assert_eq!(code(&at_rest), 4, "nothing can be said");
    assert_eq!(code(&["--spare", "main.img"]), 4);
}
