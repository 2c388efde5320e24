// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `format`: what it refuses, what it leaves alone, what it writes down.

mod common;

use common::Bench;
use std::process::Stdio;

fn spare(bench: &Bench) -> Vec<u8> {
    std::fs::read(bench.path("spare.img")).unwrap()
}

const FORMAT: &[&str] = &["format", "--main", "main.img", "--spare", "spare.img", "--name", "v"];

#[test]
fn a_dry_run_and_a_missing_confirmation_change_nothing() {
    let bench = Bench::new();
    let before = spare(&bench);
    let said = bench.good(&[FORMAT, &["--dry-run"]].concat());
    assert!(said.contains("to move to, in") && said.contains("Nothing has been changed"));
    let out = bench.command(FORMAT).stdin(Stdio::null()).output().unwrap();
    assert_eq!(out.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--yes"));
    assert!(spare(&bench) == before && !bench.path("volumes.conf").exists());
}

#[test]
fn main_keeps_every_byte_and_the_configuration_names_it() {
    let bench = Bench::new();
    let before = std::fs::read(bench.path("main.img")).unwrap();
    bench.good(&[FORMAT, &["--yes"]].concat());
    assert!(std::fs::read(bench.path("main.img")).unwrap() == before);
    let text = std::fs::read_to_string(bench.path("volumes.conf")).unwrap();
    assert!(text.contains("name = v") && text.contains("main.img"), "{text}");
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["name"], "v");
    assert_eq!(examined["volume"]["state"], "clean");
    assert_eq!(examined["volume"]["copies_valid"], 5);
    let exported = bench.good(&["examine", "spare.img", "--export"]);
    assert!(exported.contains("DMREMAP_NAME=v\n") && exported.contains("DMREMAP_HEADERS_VALID=5"));
}

#[test]
fn a_volume_is_not_formatted_over() {
    let bench = Bench::new();
    bench.format("main.img");
    let before = spare(&bench);
    let again = [FORMAT, &["--yes"]].concat();
    let (code, said) = bench.code(&again);
    assert!(code == 6 && said.contains("--force=volume"), "{code} {said}");
    assert!(spare(&bench) == before);
    assert_eq!(bench.code(&[&again[..], &["--force=foreign-signature"]].concat()).0, 6);
    bench.good(&[&again[..], &["--force=volume"]].concat());
    assert!(spare(&bench) != before);
}

#[test]
fn a_foreign_signature_is_not_formatted_over() {
    let bench = Bench::new();
    let mut bytes = spare(&bench);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[446..462].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 9, 0, 1, 0, 0, 0, 0, 64, 0, 0]);
    std::fs::write(bench.path("spare.img"), &bytes).unwrap();
    let again = [FORMAT, &["--yes"]].concat();
    let (code, said) = bench.code(&again);
    assert!(code == 6 && said.contains("--force=foreign-signature"), "{code} {said}");
    assert!(spare(&bench) == bytes);
    bench.good(&[&again[..], &["--force=foreign-signature"]].concat());
}

#[test]
fn main_and_spare_must_differ() {
    let bench = Bench::new();
    std::os::unix::fs::symlink(bench.path("main.img"), bench.path("link")).unwrap();
    let before = std::fs::read(bench.path("main.img")).unwrap();
    for spare in ["main.img", "link"] {
        let (code, said) = bench.code(&["format", "--main", "main.img", "--spare", spare, "--yes"]);
        assert!(code == 4 && said.contains("main and spare at once"), "{code} {said}");
    }
    bench.format("main.img");
    let (code, said) = bench.code(&["serve", "--spare", "spare.img", "--main", "spare.img"]);
    assert!(code == 4 && said.contains("main and spare at once"), "{code} {said}");
    assert!(std::fs::read(bench.path("main.img")).unwrap() == before);
}

#[test]
fn a_main_that_belongs_to_a_volume_is_refused() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::File::create(bench.path("second.img")).unwrap().set_len(16 << 20).unwrap();
    let second = ["format", "--main", "main.img", "--spare", "second.img", "--name", "w", "--yes"];
    let (code, said) = bench.code(&second);
    assert!(code == 6 && said.contains("--force=claimed"), "{code} {said}");
    bench.good(&[&second[..], &["--force=claimed"]].concat());
    // Given up under its own name: that is free again, and names the new spare.
    std::fs::File::create(bench.path("third.img")).unwrap().set_len(16 << 20).unwrap();
    let third = ["format", "--main", "main.img", "--spare", "third.img", "--name", "w", "--yes"];
    bench.good(&[&third[..], &["--force=claimed"]].concat());
    let known = std::fs::read_to_string(bench.path("volumes.conf")).unwrap();
    assert!(known.contains("third.img") && !known.contains("second.img"), "{known}");
}

#[test]
fn names_and_sizes_that_are_not_legal_are_refused() {
    let bench = Bench::new();
    let base = ["format", "--main", "main.img", "--spare", "spare.img", "--yes"];
    for (words, code) in [
        (&["--name", "control"][..], 1),
        (&["--name", "../x"], 1),
        (&["--name", ""], 1),
        (&["--block-size", "1000"], 1),
        (&["--max-remaps", "0"], 1),
        (&["--max-remaps", "99999999"], 1),
        (&["--strict-spare-size"], 6),
    ] {
        let (found, said) = bench.code(&[&base[..], words].concat());
        assert_eq!(found, code, "{words:?}: {said}");
    }
    std::fs::File::create(bench.path("tiny.img")).unwrap().set_len(1 << 20).unwrap();
    let tiny = ["format", "--main", "main.img", "--spare", "tiny.img", "--yes"];
    assert_eq!(bench.code(&tiny).0, 4);
    assert!(!bench.path("volumes.conf").exists());
}
