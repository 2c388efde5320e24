// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that only read.

use clap::Args;

use super::Target;

/// Verbs that only read.
#[derive(Debug, Args)]
pub struct Reading {
    /// Which volume.
    #[command(flatten)]
    pub target: Target,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which volume.
    #[command(flatten)]
    pub target: Target,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// Print nothing; exit 0 healthy, 1 degraded, 2 unusable or data lost, 4 cannot tell
    #[arg(long)]
    pub test: bool,
}

/// `examine`.
#[derive(Debug, Args)]
pub struct Examine {
    /// The device
    #[arg(value_name = "DEV")]
    pub device: String,
    /// One JSON document
    #[arg(long, conflicts_with = "export")]
    pub json: bool,
    /// KEY=VALUE lines for scripts
    #[arg(long)]
    pub export: bool,
}
