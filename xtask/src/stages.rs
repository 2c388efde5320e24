// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The stages of `cargo xtask test`: which packages, features and profile each one runs with.
//!
//! The first stage is plain `cargo test` of everything, in the profile people develop with. What
//! explores many states runs in the profile `checked`: optimised, with every check kept. The
//! broken variants of the logic are behind the feature `broken`, which only their own stage may
//! switch on: `tidy` refuses a manifest that would switch it on for anybody else.

use std::path::Path;

use crate::counts::Counts;
use crate::{fuzz, msrv, run};

/// One run of `cargo test`.
pub struct Stage {
    /// Shown in the list at the end.
    pub name: &'static str,
    /// What follows `cargo test`.
    pub args: &'static [&'static str],
}

/// Every stage, in order.
pub const STAGES: &[Stage] = &[
    Stage { name: "everything, plain", args: &["--workspace"] },
    Stage {
        name: "commit and open, exhaustively",
        args: &[
            "--profile=checked",
            "--package=dmremap-core",
            "--features=exhaustive",
            "--test=commit_open_exhaustive",
            "--test=commit_doubt_exhaustive",
            "--test=crash_points",
        ],
    },
    Stage {
        name: "broken variants of the metadata rules",
        args: &[
            "--profile=checked",
            "--package=dmremap-core",
            "--features=broken",
            "--test=commit_broken",
        ],
    },
    Stage {
        name: "the simulator's seeds and traces",
        args: &[
            "--profile=checked",
            "--package=dmremap-sim",
            "--features=exhaustive",
            "--test=seeds",
            "--test=traces",
        ],
    },
    Stage {
        name: "broken variants of the logic",
        args: &["--profile=checked", "--package=dmremap-sim", "--features=broken", "--test=broken"],
    },
    Stage {
        name: "power cuts rebuilt from a recording",
        args: &[
            "--profile=checked",
            "--package=dmremap-engine",
            "--features=broken",
            "--test=recording",
        ],
    },
    Stage {
        name: "two hundred kills",
        args: &["--profile=checked", "--package=dmremap", "--features=heavy", "--test=kills"],
    },
    Stage {
        name: "long runs through the program",
        args: &[
            "--profile=checked",
            "--package=dmremap",
            "--features=heavy",
            "--test=eight_workers",
            "--test=ext4",
            "--test=hung_main",
            "--test=leaks",
        ],
    },
];

/// A stage that is no `cargo test`: it counts its own tests, those whose name contains the filter.
pub struct Chore {
    /// Shown in the list at the end.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&Path, Option<&str>) -> Counts,
}

/// Every such stage; they come after the others.
pub const CHORES: &[Chore] = &[
    Chore { name: "fuzzers, briefly", run: fuzz::brief },
    Chore { name: "Debian 13 with its own rustc", run: msrv::run },
];

/// A chore run by itself; whether it is good. A skip is not: somebody asked for just this.
pub fn alone(root: &Path, chore: fn(&Path, Option<&str>) -> Counts) -> bool {
    let counts = chore(root, None);
    counts.skipped.iter().for_each(|line| println!("skipped: {line}"));
    counts.failed == 0 && counts.skipped.is_empty() && counts.passed > 0
}

/// What follows `cargo clippy` to look at every feature set that a stage uses.
pub const FEATURE_SETS: &[&[&str]] = &[
    &["--workspace"],
    &["--package=dmremap-core", "--features=exhaustive,broken"],
    &["--package=dmremap-sim", "--features=exhaustive,broken"],
    &["--package=dmremap-engine", "--features=broken"],
    &["--package=dmremap", "--features=heavy"],
];

/// `cargo xtask sim SEED... [OPTION...]`: the simulator's own command for each seed, optimised with
/// its checks; the options are passed on. A broken variant needs its feature.
pub fn simulate(root: &Path, words: &[String]) -> bool {
    let first = words.iter().position(|word| word.parse::<u64>().is_err()).unwrap_or(words.len());
    let (seeds, options) = words.split_at(first);
    if seeds.is_empty() {
        eprintln!("xtask: which seeds?");
        return false;
    }
    let one = |seed: &String| {
        let mut command = run::cargo(root);
        command.args(["run", "--quiet", "--profile=checked", "--package=dmremap-sim"]);
        if options.iter().any(|option| option.starts_with("--broken")) {
            command.arg("--features=broken");
        }
        run::succeeds(command.arg("--").args(["--seed", seed]).args(options))
    };
    // All of them, also after one has failed.
    seeds.iter().filter(|seed| !one(seed)).count() == 0
}
