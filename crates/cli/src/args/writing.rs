// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that write about the program itself.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Manual {
    /// The page of this verb [default: of the program; with --out all of them]
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
    /// Write dmremap.1, dmremap-serve.1 ... into this folder instead of standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
