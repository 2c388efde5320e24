// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Counting what a test run did, from the words the test harness prints.
//!
//! A test that finds it cannot run (no privilege, no program, no kernel module) says so in two
//! places and returns: a line `dmremap-skip: NAME: REASON` on standard error for the person who
//! runs it by hand, and the line `NAME: REASON` appended to the file that the environment variable
//! `DMREMAP_SKIP_FILE` names, since the harness swallows the output of tests that pass. The
//! harness counts such a test as passed; here it is taken off again.

use std::path::Path;

/// The environment variable that names the file skipped tests write to.
pub const SKIP_FILE: &str = "DMREMAP_SKIP_FILE";

/// Sums over one or more test runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and passed.
    pub passed: u64,
    /// Tests that failed, and one for each run that ended badly without naming a test.
    pub failed: u64,
    /// Tests that could not run, as `NAME: REASON`.
    pub skipped: Vec<String>,
}

impl Counts {
    /// Adds the sums of one `test result:` line of the harness; other lines count nothing.
    pub fn line(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test result: ") else { return };
        let Some((_, rest)) = rest.split_once(". ") else { return };
        for part in rest.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(n), Some("passed")) => self.passed += n,
                (Some(n), Some("failed")) => self.failed += n,
                (Some(n), Some("ignored")) => {
                    self.skipped.extend((0..n).map(|_| "a test marked ignore: no reason".into()));
                }
                _ => {}
            }
        }
    }

    /// Takes the tests that said in `text` (the skip file) that they could not run from passed to
    /// skipped.
    pub fn skips(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.passed = self.passed.saturating_sub(1);
            self.skipped.push(line.to_owned());
        }
    }

    /// Notes that the run ended badly; a failure nobody named (a crash, a compiler error) counts
    /// as one.
    pub fn ended(&mut self, good: bool) {
        if !good && self.failed == 0 {
            self.failed = 1;
        }
    }

    /// Adds another run's sums.
    pub fn add(&mut self, other: &Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped.iter().cloned());
    }

    /// How many tests were met at all.
    pub fn total(&self) -> u64 {
        self.passed + self.failed + self.skipped.len() as u64
    }
}

/// Reads and removes the skip file; none means that nothing was skipped.
pub fn take_skip_file(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_lines_of_the_harness() {
        let mut counts = Counts::default();
        counts.line("running 3 tests");
        counts.line("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.line("test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 9 filtered");
        assert_eq!((counts.passed, counts.failed, counts.skipped.len()), (7, 2, 1));
        assert_eq!(counts.total(), 10);
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let mut counts = Counts::default();
        counts.line("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.skips("loop_device: needs root\n\n");
        assert_eq!(
            (counts.passed, counts.skipped.as_slice()),
            (2, &["loop_device: needs root".into()][..])
        );
    }

    #[test]
    fn a_run_that_dies_without_a_failed_test_counts_one() {
        let mut counts = Counts::default();
        counts.ended(false);
        assert_eq!(counts.failed, 1);
        counts.ended(false);
        assert_eq!(counts.failed, 1);
        let mut good = Counts::default();
        good.ended(true);
        assert_eq!(good.failed, 0);
    }
}
