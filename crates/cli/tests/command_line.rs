// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The program as scripts meet it: exit codes, the last line of an error, one JSON document.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `dmremap` with configuration and sockets in `folder`.
fn dmremap(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dmremap"))
        .current_dir(folder)
        .args(["--run-dir", "run", "--config", "volumes.conf"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every verb, with the words it cannot do without.
const VERBS: &[(&str, &[&str])] = &[
    ("format", &["--main", "missing.img", "--spare", "also-missing.img", "--yes"]),
    ("serve", &["--spare", "missing.img", "--main", "also-missing.img"]),
    ("status", &["nobody"]),
    ("status", &["--spare", "missing.img"]),
    ("examine", &["missing.img"]),
    ("list", &["nobody"]),
    ("list", &["--spare", "missing.img"]),
    ("remap", &["nobody", "8"]),
    ("unremap", &["nobody", "8"]),
    ("verify", &["nobody", "8"]),
    ("clear", &["nobody", "--yes"]),
    ("close", &["nobody"]),
    ("stats", &["nobody"]),
    ("message", &["nobody", "ping"]),
    ("check", &["--spare", "missing.img"]),
    ("import", &["nobody", "--format", "mapfile", "missing.map", "--yes"]),
    ("import", &["--spare", "missing.img", "--format", "json", "missing.json", "--yes"]),
    ("export", &["nobody", "--format", "json"]),
    ("export", &["--spare", "missing.img", "--format", "mapfile"]),
    ("repair", &["--spare", "missing.img", "--yes"]),
    ("dump", &["--spare", "missing.img"]),
    ("restore", &["--spare", "missing.img", "--main", "also-missing.img", "missing.dump"]),
    ("wipe", &["--spare", "missing.img", "--yes"]),
    ("demo", &["missing-folder"]),
];

#[test]
fn every_verb_explains_itself() {
    let base = tempfile::tempdir().unwrap();
    for (verb, _) in VERBS {
        let out = dmremap(base.path(), &[verb, "--help"]);
        assert_eq!(code(&out), 0, "{verb}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("Usage: dmremap"), "{verb}");
    }
}

#[test]
fn every_verb_refuses_an_unknown_option_with_1() {
    let base = tempfile::tempdir().unwrap();
    for (verb, args) in VERBS {
        let out = dmremap(base.path(), &[&[*verb, "--no-such-option"], *args].concat());
        assert_eq!(code(&out), 1, "{verb}: {}", errors(&out));
        assert!(out.stdout.is_empty(), "{verb}");
        let text = errors(&out);
        assert!(text.starts_with("dmremap: ") && text.lines().count() == 1, "{verb}: {text}");
        assert!(text.ends_with(&format!("; try: dmremap {verb} --help\n")), "{verb}: {text}");
    }
}

#[test]
fn every_verb_says_4_where_nothing_is() {
    let base = tempfile::tempdir().unwrap();
    for (verb, args) in VERBS {
        let out = dmremap(base.path(), &[&[*verb], *args].concat());
        let text = errors(&out);
        assert_eq!(code(&out), 4, "{verb}: {text}");
        assert!(text.starts_with("dmremap: "), "{verb}: {text}");
        assert_eq!(text.lines().count(), 1, "{verb}: {text}");
        assert!(text.contains("; try: dmremap "), "{verb}: {text}");
    }
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0, "nothing was left behind");
}

#[test]
fn without_a_verb_it_shows_its_use() {
    let base = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_dmremap")).output().unwrap();
    assert_eq!(code(&out), 1);
    assert!(errors(&out).contains("Usage: dmremap"));
    assert!(errors(&out).ends_with("\ndmremap: which verb?; try: dmremap --help\n"));
    assert_eq!(code(&dmremap(base.path(), &["frobnicate"])), 1);
}

#[test]
fn status_test_cannot_tell_of_what_is_not_there() {
    let base = tempfile::tempdir().unwrap();
    let out = dmremap(base.path(), &["status", "nobody", "--test"]);
    assert_eq!(code(&out), 4);
    assert!(out.stdout.is_empty());
}

#[test]
fn a_device_without_metadata_is_4_and_untouched() {
    let base = tempfile::tempdir().unwrap();
    let image = base.path().join("empty.img");
    let bytes = vec![0x5a; 8 << 20];
    std::fs::write(&image, &bytes).unwrap();
    let examined = dmremap(base.path(), &["examine", "empty.img", "--json"]);
    assert_eq!(code(&examined), 4, "{}", errors(&examined));
    assert!(errors(&examined).contains("no dm-remap metadata"));
    let checked = dmremap(base.path(), &["check", "--spare", "empty.img", "--json"]);
    assert_eq!(code(&checked), 4);
    let document: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(document["accepted"], false);
    assert_eq!(document["format_version"]["major"], 1);
    assert_eq!(std::fs::read(&image).unwrap(), bytes);
}
