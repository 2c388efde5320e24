// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `demo`.

use std::process::ExitCode;

use crate::args::Demo;
use crate::demo::{Options, run};
use crate::failure::Outcome;

/// `demo`
pub fn demo(args: Demo) -> Outcome<ExitCode> {
    run(&Options { folder: args.folder, sabotage: args.sabotage, keep: args.keep })?;
    Ok(ExitCode::SUCCESS)
}
