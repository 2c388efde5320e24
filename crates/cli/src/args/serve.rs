// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of `serve`.

use std::path::PathBuf;

use clap::Args;

use super::{AcceptMain, Force, of};

/// `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM, SIGINT and close end it in order: no new clients, then what they have \
                  asked for is waited for\n(at most a minute, and recovery_limit_ms for what \
                  recovery holds), then both devices are flushed. What\na device itself has not \
                  answered is waited for as long as it takes: where one hangs, a second signal\n\
                  ends it at once. Nothing acknowledged is lost by that, or by a kill: what had \
                  not been flushed is\nwhat it is after a power cut."
)]
pub struct Serve {
    /// The spare, which knows the volume
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// The main device [default: what the local configuration names]
    #[arg(long, value_name = "DEV")]
    pub main: Option<String>,
    /// Where to listen: unix:PATH or tcp:HOST:PORT [default: unix:RUN_DIR/NAME.nbd]
    #[arg(long, value_name = "WHERE", conflicts_with = "stdio")]
    pub nbd: Option<String>,
    /// Let --nbd tcp: listen where other hosts reach it, although NBD asks nobody who they are
    #[arg(long, requires = "nbd")]
    pub insecure_tcp: bool,
    /// Speak NBD on standard input and output, to one client
    #[arg(long)]
    pub stdio: bool,
    /// Control socket [default: RUN_DIR/NAME.control]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Write nothing, neither data nor metadata
    #[arg(long)]
    pub read_only: bool,
    /// Accept a main that cannot prove that it is the right one
    #[arg(long, value_name = "HOW")]
    pub accept_main: Option<AcceptMain>,
    /// With --accept-main=copy: ddrescue's map of the copy, or "none" if it lacks nothing
    #[arg(long, value_name = "FILE")]
    pub mapfile: Option<std::path::PathBuf>,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT")]
    #[arg(value_parser = of(&[Force::Quorum, Force::InUse, Force::Buffered]))]
    pub force: Vec<Force>,
}
