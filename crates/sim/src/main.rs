// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `dmremap-sim --seed N [--seeds COUNT] [--operations N] [--setting NAME] [--broken NAME]
//! [--trace]`: runs seeds and prints the first that finds something wrong.

use std::process::ExitCode;

use dmremap_sim::run::{Plan, Report, Setting, again, run};

const USAGE: &str = "usage: dmremap-sim [--seed N] [--seeds COUNT] [--operations N] \
                     [--setting usual|patient|copies|flushes] [--broken NAME] [--trace]";

struct Options {
    seed: u64,
    seeds: u64,
    operations: u64,
    setting: Setting,
    broken: String,
    trace: bool,
}

fn number(value: Option<String>) -> Option<u64> {
    value?.parse().ok()
}

fn options() -> Option<Options> {
    let mut options = Options {
        seed: 0,
        seeds: 1,
        operations: 2_000,
        setting: Setting::Usual,
        broken: String::new(),
        trace: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => options.seed = number(args.next())?,
            "--seeds" => options.seeds = number(args.next())?,
            "--operations" | "--steps" => options.operations = number(args.next())?,
            "--setting" => {
                let name = args.next()?;
                options.setting = Setting::ALL.into_iter().find(|s| s.name() == name)?;
            }
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
        let plan = Plan {
            seed,
            setting: options.setting,
            operations: options.operations,
            trace: options.trace,
        };
        match run(&plan) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                println!("seed {seed}: {}", failure.why);
                println!("{}", again(&plan, &options.broken));
                return ExitCode::from(2);
            }
        }
    }
    println!("{total:?}");
    ExitCode::SUCCESS
}
