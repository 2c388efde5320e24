// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The project's chores, each one command: `cargo xtask test`, `lint`, `ci`, `tidy`, `sim`,
//! `bench`, `fuzz`, `msrv`.
//!
//! `test` runs every test there is, in the stages of [`stages`], and ends with one line of sums.
//! `lint` is everything that needs no running of tests, `ci` is `lint` and then `test`.

mod bench;
mod counts;
mod fuzz;
mod lex;
mod licences;
mod lint;
mod msrv;
mod packages;
mod run;
mod stages;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--no-install] [FILTER]  run every test (with FILTER: those whose name contains it)
  lint                          formatting, clippy for every feature set, tidy, docs, licences
  ci [--no-install]             lint, then test
  tidy                          the style rules alone
  sim SEED... [--broken NAME]   run these seeds of the simulator and print what happens
  bench [core] [nbd] [--rounds N] [--seconds N] [--peers NAME,...] [--json FILE]
                                figures with their spread, beside the goals and other servers
  fuzz [TARGET...] [--seconds N] [--replay FILE]
                                the parsers under libFuzzer, briefly or for long
  msrv                          the default build and the demo in a minimal Debian 13
";

/// The root of the repository: the folder above this package.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &args[..]),
    };
    let good = match command {
        "test" => match test::Options::parse(rest) {
            Ok(options) => test::run(&root, &options),
            Err(message) => return usage(&message),
        },
        "ci" => match test::Options::parse(rest) {
            Ok(options) => lint::run(&root) && test::run(&root, &options),
            Err(message) => return usage(&message),
        },
        "lint" => lint::run(&root),
        "tidy" => tidy::run(&root),
        "sim" => stages::simulate(&root, rest),
        "bench" => match bench::Options::parse(rest) {
            Ok(options) => bench::run(&root, &options),
            Err(message) => return usage(&message),
        },
        "fuzz" => match fuzz::Options::parse(rest) {
            Ok(options) => fuzz::run(&root, &options),
            Err(message) => return usage(&message),
        },
        "msrv" => stages::alone(&root, msrv::run),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            true
        }
        "" => return usage("which command?"),
        other => return usage(&format!("there is no command \"{other}\"")),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(message: &str) -> ExitCode {
    eprint!("xtask: {message}\n{USAGE}");
    ExitCode::from(2)
}
