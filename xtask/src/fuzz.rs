// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask fuzz [TARGET...] [--seconds N]`: the parsers under libFuzzer, guided by coverage.
//!
//! The targets are one program, in the workspace `fuzz/`, built with the coverage that rustc of any
//! channel can add. As a stage of the tests each target runs for a few seconds and counts as one
//! test; for long, give `--seconds`. What was found worth keeping stays beside the build, and the
//! next run begins with it. An input that breaks something is kept and named, with the command that
//! runs it again (`--replay FILE`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::counts::Counts;
use crate::run;

/// Every target; `fuzz/src/main.rs` has the same list.
pub const TARGETS: &[&str] = &[
    "pages",
    "copies",
    "probe",
    "legacy",
    "message",
    "settings",
    "areas",
    "faultmap",
    "sizes",
    "negotiation",
    "requests",
];

/// Seconds a target runs as a part of the tests.
const BRIEF: u32 = 4;
/// Address space of a run: more is asked for only by the measure of a number that was read.
const ADDRESS_SPACE: u64 = 1 << 30;
/// What cargo fuzz passes to rustc, without a sanitizer.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    targets: Vec<&'static str>,
    seconds: u32,
    replay: Option<PathBuf>,
}

impl Options {
    /// Reads the words after `fuzz`; the error says what is wrong with them.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options { targets: Vec::new(), seconds: BRIEF, replay: None };
        let mut words = args.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--seconds" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    options.seconds =
                        number.filter(|n| *n > 0).ok_or("--seconds wants a number above 0")?;
                }
                "--replay" => {
                    let file = words.next().ok_or("--replay wants a file")?;
                    options.replay = Some(std::path::absolute(file).map_err(|e| e.to_string())?);
                }
                word => match TARGETS.iter().find(|target| **target == word) {
                    Some(target) => options.targets.push(target),
                    None => return Err(format!("no target \"{word}\": {}", TARGETS.join(", "))),
                },
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.to_vec();
        }
        if options.replay.is_some() && options.targets.len() != 1 {
            return Err("--replay wants the one target the file is for".into());
        }
        Ok(options)
    }
}

/// The stage of the tests: every target whose test `fuzz_TARGET` has the filter in its name.
pub fn brief(root: &Path, filter: Option<&str>) -> Counts {
    let wanted = |target: &&&str| filter.is_none_or(|part| format!("fuzz_{target}").contains(part));
    let targets = TARGETS.iter().filter(wanted).copied().collect::<Vec<_>>();
    if targets.is_empty() {
        return Counts::default();
    }
    all(root, &Options { targets, seconds: BRIEF, replay: None })
}

/// `cargo xtask fuzz`; whether nothing was found.
pub fn run(root: &Path, options: &Options) -> bool {
    let counts = all(root, options);
    counts.skipped.iter().for_each(|line| println!("skipped: {line}"));
    counts.failed == 0 && counts.skipped.is_empty()
}

fn all(root: &Path, options: &Options) -> Counts {
    let mut counts = Counts::default();
    if !run::installed("c++") {
        let reason = "needs a C++ compiler, for libFuzzer";
        counts.skipped.extend(options.targets.iter().map(|t| format!("fuzz_{t}: {reason}")));
        return counts;
    }
    let folder = folder(root);
    let Some(program) = build(root, &folder) else {
        println!("fuzz: the build failed");
        counts.failed += 1;
        return counts;
    };
    for target in &options.targets {
        match one(&program, &folder, target, options) {
            Ok(executions) => {
                println!("test fuzz_{target} ... ok ({executions} executions)");
                counts.passed += 1;
            }
            Err(message) => {
                println!("test fuzz_{target} ... FAILED\n{message}");
                counts.failed += 1;
            }
        }
    }
    counts
}

/// Where the program is built and its inputs are kept.
pub fn folder(root: &Path) -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root.join(set.unwrap_or_else(|| "target".into())).join("fuzz")
}

fn build(root: &Path, folder: &Path) -> Option<PathBuf> {
    let version = run::output(Command::new("rustc").arg("-vV")).ok()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    let mut command = run::cargo(&root.join("fuzz"));
    // With a target named, build scripts are not given the coverage.
    command.args(["build", "--release", "--locked", "--target", host]);
    command.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", COVERAGE);
    let good = run::succeeds(&mut command);
    good.then(|| folder.join(host).join("release").join("dmremap-fuzz"))
}

/// Runs one target; how many inputs it was given, or what it broke on.
fn one(program: &Path, folder: &Path, target: &str, options: &Options) -> Result<u64, String> {
    let corpus = folder.join("corpus").join(target);
    let found = folder.join("found");
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let seconds = options.seconds;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &(seconds.saturating_add(120)).to_string()]);
    command.arg("prlimit").arg(format!("--as={ADDRESS_SPACE}")).arg(program);
    command.args(["-seed=1", "-timeout=20", "-rss_limit_mb=0", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/{target}-", found.display()));
    match &options.replay {
        Some(file) => command.arg(file),
        None => command.arg(format!("-max_total_time={seconds}")).arg(&corpus),
    };
    command.env("DMREMAP_FUZZ_TARGET", target).env("DMREMAP_FUZZ_SEEDS", &corpus);
    command.stdin(std::process::Stdio::null());
    let out = command.output().map_err(|error| format!("{}: {error}", run::shown(&command)))?;
    let said = String::from_utf8_lossy(&out.stderr);
    let executions = executions(&said);
    if out.status.success() && (executions > 0 || options.replay.is_some()) {
        return Ok(executions);
    }
    Err(told(&said, target, &out.status.to_string()))
}

/// How many inputs were run, as libFuzzer says at its end.
fn executions(said: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The end of what was said, and how to see it again.
fn told(said: &str, target: &str, status: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let mut text = lines[lines.len().saturating_sub(40)..].join("\n");
    text += &format!("\n{target} ended with {status}");
    let input = said.lines().find_map(|line| line.split_once("Test unit written to "));
    if let Some((_, file)) = input {
        text += &format!("\nsee it again: cargo xtask fuzz {target} --replay {}", file.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options, String> {
        Options::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_its_options() {
        assert_eq!(parsed("").unwrap().targets, TARGETS);
        let long = parsed("pages requests --seconds 600").unwrap();
        assert_eq!((long.targets, long.seconds), (vec!["pages", "requests"], 600));
        assert_eq!(parsed("pages --replay /x").unwrap().replay, Some("/x".into()));
        for bad in ["page", "--seconds", "--seconds 0", "--replay", "--replay x", "-v"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_what_libfuzzer_says() {
        let said = "Done 9 runs\nstat::number_of_executed_units: 90210\nstat::x: 1\n";
        assert_eq!(executions(said), 90_210);
        let crash = "==1== ERROR: libFuzzer: deadly signal\nTest unit written to found/a-crash-1\n";
        let text = told(crash, "pages", "exit status: 77");
        assert!(text.ends_with("cargo xtask fuzz pages --replay found/a-crash-1"), "{text}");
        assert_eq!(executions(crash), 0);
    }

    #[test]
    fn both_lists_of_targets_are_the_same() {
        let program = include_str!("../../fuzz/src/main.rs");
        let names = program.lines().filter_map(|line| {
            let (_, rest) = line.trim().split_once("Target { name: \"")?;
            rest.split('"').next()
        });
        assert_eq!(names.collect::<Vec<_>>(), TARGETS);
    }
}
