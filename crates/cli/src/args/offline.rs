// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that work on a spare alone.

use std::path::PathBuf;

use clap::Args;

use super::{AcceptMain, Force, of};

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The spare
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// `repair`.
#[derive(Debug, Args)]
pub struct Repair {
    /// The spare
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT", value_parser = of(&[Force::Buffered, Force::InUse]))]
    pub force: Vec<Force>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// The spare
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// Where to write it [default: standard output]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// One JSON document, which it is anyway
    #[arg(long)]
    pub json: bool,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT")]
    #[arg(value_parser = of(&[Force::Quorum, Force::ExistingFile, Force::Buffered]))]
    pub force: Vec<Force>,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The spare whose metadata cannot be read any more, or an empty one
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// The main device of the dumped volume
    #[arg(long, value_name = "DEV")]
    pub main: String,
    /// What dump wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Accept a main that cannot prove that it is the right one
    #[arg(long, value_name = "HOW")]
    pub accept_main: Option<AcceptMain>,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT")]
    #[arg(value_parser = of(&[Force::ForeignSignature, Force::PhysicalBlock, Force::Buffered]))]
    pub force: Vec<Force>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `wipe`.
#[derive(Debug, Args)]
pub struct Wipe {
    /// The spare
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT", value_parser = of(&[Force::Entries, Force::Buffered]))]
    pub force: Vec<Force>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
