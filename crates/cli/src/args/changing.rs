// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that change a running volume.

use std::path::PathBuf;

use clap::Args;

/// `remap`.
#[derive(Debug, Args)]
pub struct Remap {
    /// The running volume.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A sector of main
    pub sector: u64,
    /// Where to: a sector of the spare, +N counts from its first data sector [default: any]
    pub spare_sector: Option<String>,
}

/// `unremap` and `verify`.
#[derive(Debug, Args)]
pub struct Unit {
    /// The running volume.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A sector of main
    pub sector: u64,
}

/// `message`.
#[derive(Debug, Args)]
pub struct Message {
    /// Its control socket, instead of the name
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// The running volume's name, then the message: "help" lists them
    #[arg(required = true, trailing_var_arg = true, value_name = "NAME WORDS")]
    pub words: Vec<String>,
}
