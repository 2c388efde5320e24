// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `completions` and `man`, as shells and `man` read them.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Bench, skip};

/// The verbs as `--help` lists them.
fn verbs(bench: &Bench) -> Vec<String> {
    let help = bench.good(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let all = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| {
        line.split_whitespace().next().filter(|verb| *verb != "help").map(str::to_owned)
    });
    let all: Vec<String> = all.collect();
    assert!(all.iter().any(|verb| verb == "serve") && all.len() > 10, "{all:?}");
    all
}

/// Runs a program with `text` on its standard input; what it says on standard error, or `None` if
/// it is not there.
fn feed(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.env("LC_ALL", "C.UTF-8").spawn().ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    Some((out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

#[test]
fn completions_name_every_verb_in_every_shell() {
    let bench = Bench::new();
    let verbs = verbs(&bench);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = bench.good(&["completions", shell]);
        for verb in &verbs {
            assert!(text.contains(verb.as_str()), "{shell} lacks {verb}");
        }
        assert!(text.contains("run-dir") && text.contains("create-spare"), "{shell}");
    }
    let (code, said) = bench.code(&["completions", "tcsh"]);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn bash_takes_its_completions() {
    const NAME: &str = "bash_takes_its_completions";
    let bench = Bench::new();
    let text = bench.good(&["completions", "bash"]);
    let Some((good, said)) = feed("bash", &["-n"], &text) else {
        return skip(NAME, "bash is not installed");
    };
    assert!(good && said.is_empty(), "{said}");
    // And completes with them: the one verb that begins so.
    let ask = "\nCOMP_WORDS=(dmremap unre); COMP_CWORD=1; _dmremap dmremap unre dmremap; \
               test \"${COMPREPLY[*]}\" = unremap";
    let (good, said) = feed("bash", &[], &(text + ask)).unwrap();
    assert!(good, "{said}");
}

#[test]
fn every_page_renders_without_a_warning() {
    const NAME: &str = "every_page_renders_without_a_warning";
    let bench = Bench::new();
    bench.good(&["man", "--out", "man1"]);
    let mut pages: Vec<String> = std::fs::read_dir(bench.path("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected: Vec<String> =
        verbs(&bench).iter().map(|verb| format!("dmremap-{verb}.1")).collect();
    expected.push("dmremap.1".to_owned());
    expected.sort();
    assert_eq!(pages, expected);
    for page in &pages {
        let text = std::fs::read_to_string(bench.path("man1").join(page)).unwrap();
        let Some((good, said)) = feed("groff", &["-man", "-ww", "-z", "-Tutf8"], &text) else {
            return skip(NAME, "groff is not installed");
        };
        assert!(good && said.is_empty(), "{page}: {said}");
        assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains(".SH EXAMPLES"), "{page}");
    }
}

#[test]
fn one_page_goes_to_standard_output() {
    let bench = Bench::new();
    assert!(bench.good(&["man"]).contains("dmremap"));
    let page = bench.good(&["man", "serve"]);
    assert!(page.contains("socket"), "{page}");
    bench.good(&["man", "close", "--out", "one"]);
    assert_eq!(std::fs::read_dir(bench.path("one")).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(bench.path("one/dmremap-serve.1")).ok(), None);
    let (code, said) = bench.code(&["man", "no-such-verb"]);
    assert!(code == 1 && said.contains("try: dmremap --help"), "{code} {said}");
}
