// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `dmremap VERB`: parse, call the library, show the outcome, exit with its class.

mod advice;
mod areas;
mod args;
mod at_rest;
mod commands;
mod config;
mod confirm;
mod context;
mod control;
mod demo;
mod dump;
mod dump_read;
mod escape;
mod failure;
mod logging;
mod manual;
mod marking;
mod newfile;
mod output;
mod pages;
mod remedy;
mod report;
mod rundir;
mod running;
mod serving;
mod signals;
mod spec;
mod survey;
mod topology;
mod units;
mod users;
mod view;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

use failure::Class;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, and are no failure.
            if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = error.print();
            }
            if !error.use_stderr() {
                return ExitCode::SUCCESS;
            }
            logging::say(&remedy::usage(&error));
            return Class::Usage.code().into();
        }
    };
    let throttle = logging::start(cli.common.verbose);
    let ended = commands::run(cli, &throttle);
    throttle.flush();
    match ended {
        Ok(code) => code,
        Err(failure) => {
            logging::say(&remedy::line(&failure));
            failure.class.code().into()
        }
    }
}
