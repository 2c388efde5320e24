// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Words of the command line and lines of the local configuration that make no sense.

mod common;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs;

use common::Bench;
use refusal::{content, refused};

const FORMAT: &[&str] = &["format", "--main", "main.img", "--spare", "spare.img", "--yes"];
const SERVE: &[&str] = &["serve", "--spare", "spare.img"];

#[test]
fn numbers_and_names_of_format() {
    let bench = Bench::new();
    for (words, code, thing) in [
        (["--block-size", "0"], 1, "512, 1024, 2048 and 4096"),
        (["--block-size", "511"], 1, "511"),
        (["--block-size", "513"], 1, "513"),
        (["--block-size", "8192"], 1, "8192"),
        (["--max-remaps", "0"], 1, "16777152"),
        (["--max-remaps", "4294967295"], 1, "4294967295"),
        (["--max-remaps", "9999999"], 4, "spare.img"),
        (["--name", ""], 1, "\"\""),
        (["--name", "control"], 1, "\"control\""),
        (["--name", "-x"], 1, "-x"),
        (["--name", "a/b"], 1, "\"a/b\""),
        (["--name", "\u{1b}[2J\n"], 1, "\\x1b[2J\\x0a"),
    ] {
        let words = [words[0].to_owned() + "=" + words[1]];
        refused(&bench, &[FORMAT, &[words[0].as_str()]].concat(), code, &[thing]);
    }
    refused(&bench, &[FORMAT, &["--name", &"x".repeat(65)]].concat(), 1, &["xxxx"]);
}

#[test]
fn words_the_parser_refuses_end_with_a_command_too() {
    let bench = Bench::new();
    let before = content(&bench);
    for (args, next) in [
        (&["format", "--main", "main.img"][..], "format"),
        (&["format", "--block-size", "-1"], "format"),
        (&["format", "--max-remaps", "4294967296"], "format"),
        (&["format", "--force=everything"], "format"),
        (&["serve", "--spare"], "serve"),
        (&["serve", "--spare", "x", "--accept-main=perhaps"], "serve"),
        (&["status"], "status"),
        (&["unremap", "v", "-8"], "unremap"),
        (&["verify", "v", "18446744073709551616"], "verify"),
    ] {
        let (code, said) = bench.code(args);
        assert_eq!(code, 1, "{args:?}: {said}");
        assert!(said.starts_with("dmremap: ") && said.lines().count() == 1, "{args:?}: {said}");
        assert!(said.ends_with(&format!("; try: dmremap {next} --help\n")), "{args:?}: {said}");
    }
    let (code, said) = bench.code(&["frobnicate"]);
    assert!(code == 1 && said.ends_with("; try: dmremap --help\n"), "{said}");
    assert!(content(&bench) == before);
}

#[test]
fn a_local_configuration_that_is_hostile() {
    let bench = Bench::new();
    bench.format("main.img");
    let good = fs::read_to_string(bench.path("volumes.conf")).unwrap();
    let section = good.lines().next().unwrap().to_owned();
    let spare = bench.path("spare.img").display().to_string();
    let with = |main: &str| format!("{section}\nname = v\nmain = {main}\nspare = {spare}\n");
    let conf = bench.path("volumes.conf");
    for (text, code, things) in [
        (with("/nowhere/%1B[2J%0A"), 4, &["/nowhere/", "[2J"][..]),
        (with(""), 4, &[]),
        (with(&spare), 4, &["main and spare at once"]),
        (with("/dev/null"), 4, &["/dev/null"]),
        (with("%zz"), 4, &["does not know volume"]),
        (format!("{section}\nname = v\n"), 4, &["does not know volume"]),
        (format!("[{}]\n{}", "x".repeat(70_000), "=".repeat(70_000)), 4, &["does not know volume"]),
        ("\u{1b}[2J = ]\n[[[\n".to_owned(), 4, &["does not know volume"]),
        ("# nothing\n".repeat(200_000), 4, &["volumes.conf", "1 MiB"]),
    ] {
        fs::write(&conf, text).unwrap();
        let next = refused(&bench, SERVE, code, things);
        assert!(next.starts_with("dmremap "), "{next}");
    }
    fs::write(&conf, b"[\xff\xfe]\n\x00\n").unwrap();
    refused(&bench, SERVE, 4, &["volumes.conf"]);
    refused(&bench, &[FORMAT, &["--force=volume", "--name=w"]].concat(), 4, &["volumes.conf"]);
    fs::remove_file(&conf).unwrap();
    fs::create_dir(&conf).unwrap();
    refused(&bench, SERVE, 4, &["volumes.conf"]);
    // Main by its name needs no configuration.
    fs::remove_dir(&conf).unwrap();
    fs::write(&conf, good).unwrap();
    assert_eq!(bench.serve(&[]).stop(), 0);
}

#[test]
fn a_configuration_of_another_volume_names_no_main_of_this_one() {
    let bench = Bench::new();
    bench.format("main.img");
    let good = fs::read_to_string(bench.path("volumes.conf")).unwrap();
    let other = "[00000000-0000-4000-8000-000000000000]";
    let text: Vec<&str> =
        good.lines().map(|line| if line.starts_with('[') { other } else { line }).collect();
    fs::write(bench.path("volumes.conf"), text.join("\n")).unwrap();
    let next = refused(&bench, SERVE, 4, &["does not know volume", "\"v\""]);
    assert!(next.ends_with("serve --spare spare.img --main DEV"), "{next}");
}
