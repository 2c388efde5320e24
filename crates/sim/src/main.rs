// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `dmremap-sim --seed N [--seeds COUNT] [--operations N] [--broken NAME] [--trace]`: runs seeds
//! and prints the first that finds something wrong.

use std::process::ExitCode;

use dmremap_sim::run::{Plan, Report, again, run};

const USAGE: &str =
    "usage: dmremap-sim [--seed N] [--seeds COUNT] [--operations N] [--broken NAME] [--trace]";

struct Options {
    seed: u64,
    seeds: u64,
    operations: u64,
    broken: String,
    trace: bool,
}

fn number(value: Option<String>) -> Option<u64> {
    value?.parse().ok()
}

fn options() -> Option<Options> {
    let mut options =
        Options { seed: 0, seeds: 1, operations: 2_000, broken: String::new(), trace: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => options.seed = number(args.next())?,
            "--seeds" => options.seeds = number(args.next())?,
            "--operations" | "--steps" => options.operations = number(args.next())?,
            "--broken" => options.broken = args.next()?,
            "--trace" => options.trace = true,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(1);
    };
    if !options.broken.is_empty() && !dmremap_sim::select_broken(&options.broken) {
        eprintln!("no variant {}, or this build has none (--features broken)", options.broken);
        return ExitCode::from(1);
    }
    let mut total = Report::default();
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        let plan = Plan { seed, operations: options.operations, trace: options.trace };
        match run(&plan) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                println!("seed {seed}: {}", failure.why);
                println!("{}", again(seed, options.operations, &options.broken));
                return ExitCode::from(2);
            }
        }
    }
    println!("{total:?}");
    ExitCode::SUCCESS
}
