// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask test`: every stage, then what was skipped and why, then one line of sums.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::counts::{Counts, SKIP_FILE, take_skip_file};
use crate::stages::{CHORES, STAGES, Stage};
use crate::{packages, run};

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Never call the package manager.
    pub no_install: bool,
    /// Run only tests whose name contains this.
    pub filter: Option<String>,
}

impl Options {
    /// Reads the words after `test`; the error says what is wrong with them.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        for arg in args {
            match arg.as_str() {
                "--no-install" => options.no_install = true,
                word if word.starts_with('-') => return Err(format!("unknown option {word}")),
                word if options.filter.is_none() => options.filter = Some(word.to_owned()),
                word => return Err(format!("one filter is enough: {word}")),
            }
        }
        Ok(options)
    }
}

/// Runs every stage; whether the whole run is good.
pub fn run(root: &Path, options: &Options) -> bool {
    packages::prepare(!options.no_install);
    let skip_file = std::env::temp_dir().join(format!("dmremap-skips-{}", std::process::id()));
    let mut done = Vec::new();
    for stage in STAGES {
        println!("\n== {}", stage.name);
        let start = Instant::now();
        let counts = run_stage(root, stage, options.filter.as_deref(), &skip_file);
        done.push((stage.name, start.elapsed(), counts));
    }
    for chore in CHORES {
        println!("\n== {}", chore.name);
        let start = Instant::now();
        let counts = (chore.run)(root, options.filter.as_deref());
        done.push((chore.name, start.elapsed(), counts));
    }
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let (text, good) = report(&done, options.filter.is_some(), strict);
    print!("\n{text}");
    good
}

fn run_stage(root: &Path, stage: &Stage, filter: Option<&str>, skip_file: &Path) -> Counts {
    take_skip_file(skip_file);
    let mut command = run::cargo(root);
    command.env(SKIP_FILE, skip_file).arg("test").args(stage.args).arg("--no-fail-fast");
    command.args(filter);
    let mut counts = Counts::default();
    let good = run::watch(&mut command, |line| counts.line(line));
    counts.ended(good);
    counts.skips(&take_skip_file(skip_file));
    counts
}

/// The closing report, and whether the run is good: nothing failed, no stage without a test
/// (with a filter: not every stage), and where nothing may be skipped (`strict`) nothing was.
fn report(done: &[(&str, Duration, Counts)], filtered: bool, strict: bool) -> (String, bool) {
    let mut text = String::new();
    let mut sum = Counts::default();
    let mut empty = 0;
    for (name, took, counts) in done {
        let seconds = took.as_secs_f64();
        let (passed, failed, skipped) = (counts.passed, counts.failed, counts.skipped.len());
        text += &format!("{name:<40} {passed:>5} passed {failed:>3} failed {skipped:>3} skipped");
        text += &format!(" {seconds:>7.1} s\n");
        if counts.total() == 0 && !filtered {
            empty += 1;
            text += &format!("FAILED: stage \"{name}\" ran no test\n");
        }
        sum.add(counts);
    }
    if filtered && sum.total() == 0 {
        empty += 1;
        text += "FAILED: no test has such a name\n";
    }
    for line in &sum.skipped {
        text += &format!("skipped: {line}\n");
    }
    let refused = strict && !sum.skipped.is_empty();
    if refused {
        text += "FAILED: with CI=true nothing may be skipped\n";
    }
    let failed = sum.failed + empty;
    text += &format!("{} passed, {failed} failed, {} skipped\n", sum.passed, sum.skipped.len());
    (text, failed == 0 && !refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: &[&str]) -> Counts {
        Counts { passed, failed, skipped: skipped.iter().map(|s| s.to_string()).collect() }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    #[test]
    fn reads_its_options() {
        let options = Options::parse(&words(&["--no-install", "quorum"])).unwrap();
        assert_eq!(options, Options { no_install: true, filter: Some("quorum".into()) });
        assert!(Options::parse(&words(&["--install"])).is_err());
        assert!(Options::parse(&words(&["a", "b"])).is_err());
    }

    #[test]
    fn the_last_line_sums_all_stages() {
        let took = Duration::from_secs(1);
        let done = [("a", took, counts(3, 0, &[])), ("b", took, counts(4, 0, &["x: no root"]))];
        let (text, good) = report(&done, false, false);
        assert_eq!(text.lines().last(), Some("7 passed, 0 failed, 1 skipped"));
        assert!(text.contains("skipped: x: no root"));
        assert!(good);
        assert!(!report(&done, false, true).1, "a skip fails a strict run");
    }

    #[test]
    fn a_stage_without_tests_fails_the_run() {
        let took = Duration::ZERO;
        let done = [("a", took, counts(3, 0, &[])), ("b", took, counts(0, 0, &[]))];
        let (text, good) = report(&done, false, false);
        assert!(!good);
        assert_eq!(text.lines().last(), Some("3 passed, 1 failed, 0 skipped"));
        assert!(report(&done, true, false).1, "a filter may leave a stage empty");
        let none = [("a", took, counts(0, 0, &[]))];
        assert!(!report(&none, true, false).1, "but not all of them");
    }

    #[test]
    fn a_failed_test_fails_the_run() {
        let done = [("a", Duration::ZERO, counts(3, 1, &[]))];
        assert!(!report(&done, false, false).1);
    }
}
