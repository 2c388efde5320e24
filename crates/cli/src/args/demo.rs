// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of `demo`.

use std::path::PathBuf;

use clap::Args;

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Take the files of this folder instead of the toolchain's
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Drop one entry of the table behind the volume's back: the demo must then fail
    #[arg(long)]
    pub sabotage: bool,
    /// Work in this folder and keep it
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}
