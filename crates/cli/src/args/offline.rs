// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that work on a spare alone.

use clap::Args;

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
