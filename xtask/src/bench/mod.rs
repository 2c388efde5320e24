// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask bench [PART...]`: figures, with their spread and the goals they are held against.
//! Nothing here is a test: a goal that is missed is said, and fails nothing.
//!
//! `core` is what a lookup, an entry, an open and a commit cost: the benches of the crates core and
//! engine, which print a line a figure. `nbd` is the server beside those of others ([`nbd`]).

mod figures;
mod nbd;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run;
use figures::Figure;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub struct Options {
    core: bool,
    nbd: bool,
    rounds: usize,
    seconds: u32,
    peers: Vec<&'static str>,
    json: Option<PathBuf>,
}

impl Options {
    /// Reads the words after `bench`; the error says what is wrong with them.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options {
            core: false,
            nbd: false,
            rounds: 5,
            seconds: 2,
            peers: nbd::PEERS.to_vec(),
            json: None,
        };
        let mut words = args.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            let number = |text: &str| match text.parse::<u32>() {
                Ok(number @ 1..=600) => Ok(number),
                _ => Err(format!("{word}: {text} is not a number from 1 to 600")),
            };
            match word {
                "core" => options.core = true,
                "nbd" => options.nbd = true,
                "--rounds" => options.rounds = number(value()?)? as usize,
                "--seconds" => options.seconds = number(value()?)?,
                "--peers" => options.peers = nbd::peers(value()?)?,
                "--json" => options.json = Some(value()?.into()),
                word => return Err(format!("there is no part \"{word}\": core, nbd")),
            }
        }
        if !options.core && !options.nbd {
            (options.core, options.nbd) = (true, true);
        }
        Ok(options)
    }
}

/// Runs the parts, prints tables in Markdown; whether every figure could be had.
pub fn run(root: &Path, options: &Options) -> bool {
    let machine = machine();
    println!("{machine}");
    let mut all = json!({ "machine": machine });
    let mut good = true;
    if options.core {
        match core(root) {
            Ok(figures) => {
                print!("{}", figures::table(&figures));
                all["core"] = figures.iter().map(Figure::json).collect();
            }
            Err(message) => good = complain(&message),
        }
    }
    if options.nbd {
        match nbd::run(root, options.rounds, options.seconds, &options.peers) {
            Ok((table, samples)) => {
                print!("{table}");
                all["nbd"] = samples;
            }
            Err(message) => good = complain(&message),
        }
    }
    println!("\nload at the end: {}", load());
    if let Some(file) = &options.json {
        good &= write(file, &all);
    }
    good
}

fn complain(message: &str) -> bool {
    eprintln!("bench: {message}");
    false
}

fn write(file: &Path, all: &Value) -> bool {
    match std::fs::write(file, format!("{all:#}\n")) {
        Ok(()) => true,
        Err(error) => complain(&format!("{}: {error}", file.display())),
    }
}

/// The figures of the crates' own benches.
fn core(root: &Path) -> Result<Vec<Figure>, String> {
    let mut found = Vec::new();
    for (package, bench) in [("dmremap-core", "resolving"), ("dmremap-engine", "volume")] {
        let mut command = run::cargo(root);
        command.args(["bench", "--quiet", "--package", package, "--bench", bench]);
        eprintln!("$ {}", run::shown(&command));
        found.extend(run::output(&mut command)?.lines().filter_map(Figure::of_line));
    }
    if found.is_empty() { Err("the benches print no figure".into()) } else { Ok(found) }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What the figures were taken on, and whether it was at rest.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = run::output(std::process::Command::new("rustc").arg("--version"));
    format!(
        "{cpus} x {}, Linux {}, {}; load at the start: {}",
        model.map_or("unknown processor", |(_, name)| name),
        kernel.trim(),
        rustc.unwrap_or_default().trim(),
        load()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options, String> {
        Options::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_its_options() {
        let all = parsed("").unwrap();
        assert!(all.core && all.nbd && all.json.is_none());
        assert_eq!((all.rounds, all.seconds, all.peers.len()), (5, 2, nbd::PEERS.len()));
        let some = parsed("nbd --rounds 9 --seconds 1 --peers qemu-nbd --json x").unwrap();
        assert!(some.nbd && !some.core && some.json.is_some());
        assert_eq!((some.rounds, some.seconds, some.peers), (9, 1, vec!["qemu-nbd"]));
        for bad in ["disk", "--rounds", "--rounds 0", "--seconds many", "--peers nobody"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
