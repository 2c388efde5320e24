// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The stages of `cargo xtask test`: which packages, features and profile each one runs with.
//!
//! The first stage is plain `cargo test` of everything, in the profile people develop with. What
//! explores many states runs in the profile `checked`: optimised, with every check kept. The
//! broken variants of the logic are behind the feature `broken`, which only their own stage may
//! switch on: `tidy` refuses a manifest that would switch it on for anybody else.

use std::path::Path;

use crate::run;

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
        name: "state spaces and seeds",
        args: &[
            "--profile=checked",
            "--package=dmremap-core",
            "--package=dmremap-sim",
            "--features=dmremap-core/exhaustive,dmremap-sim/exhaustive",
            "--test=commit_open_exhaustive",
            "--test=commit_doubt_exhaustive",
            "--test=seeds",
        ],
    },
    Stage {
        name: "broken variants",
        args: &[
            "--profile=checked",
            "--package=dmremap-core",
            "--package=dmremap-sim",
            "--features=dmremap-core/broken,dmremap-sim/broken",
            "--test=commit_broken",
        ],
    },
];

/// What follows `cargo clippy` to look at every feature set that a stage uses.
pub const FEATURE_SETS: &[&[&str]] = &[
    &["--workspace"],
    &[
        "--package=dmremap-core",
        "--package=dmremap-sim",
        "--features=dmremap-core/exhaustive,dmremap-sim/exhaustive,dmremap-core/broken,dmremap-sim/broken",
    ],
];

/// `cargo xtask sim SEED...`: the simulator's own command, optimised with its checks.
pub fn simulate(root: &Path, seeds: &[String]) -> bool {
    let mut command = run::cargo(root);
    command.args(["run", "--quiet", "--profile", "checked", "--package", "dmremap-sim", "--"]);
    run::succeeds(command.args(seeds))
}
