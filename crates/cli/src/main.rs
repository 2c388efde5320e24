// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `dmremap VERB`: parse, call the library, show the outcome, exit with its class.

mod advice;
mod args;
mod commands;
mod config;
mod confirm;
mod control;
mod demo;
mod dump;
mod dump_read;
mod escape;
mod failure;
mod newfile;
mod next;
mod output;
mod pages;
mod report;
mod rundir;
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
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use failure::Class;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, and are no failure.
            let _ = error.print();
            if !error.use_stderr() {
                return ExitCode::SUCCESS;
            }
            eprintln!("try: {}", next::help_here());
            return Class::Usage.code().into();
        }
    };
    log_to_stderr(cli.common.verbose);
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("dmremap: {}", next::line(&failure));
            failure.class.code().into()
        }
    }
}

/// Events go to standard error, filtered by `-v` or the variable `DMREMAP_LOG`.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = filter.with_env_var("DMREMAP_LOG").from_env_lossy();
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
}
