// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verbs. Each file parses what its verb was given, calls the library, shows the outcome.

mod check;
mod clear;
mod close;
mod demo;
mod dump;
mod examine;
mod export;
mod format;
mod import;
mod legacy;
mod message;
mod reading;
mod repair;
mod restore;
mod serve;
mod wipe;
mod writing;

use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Cli, Verb};
use crate::context::Context;
use crate::failure::Outcome;
use crate::logging::Throttle;

/// Carries out the command line.
pub fn run(cli: Cli, throttle: &Arc<Throttle>) -> Outcome<ExitCode> {
    let context = Context::new(cli.common);
    match cli.verb {
        Verb::Clear(args) => clear::clear(&context, &args),
        Verb::Close(args) => close::close(&context, &args),
        Verb::Status(args) => reading::status(&context, &args),
        Verb::Examine(args) => examine::examine(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Dump(args) => dump::dump(&context, &args),
        Verb::Restore(args) => restore::restore(&context, &args),
        Verb::Wipe(args) => wipe::wipe(&context, &args),
        Verb::Repair(args) => repair::repair(&args),
        Verb::Completions(args) => writing::completions(&args),
        Verb::Man(args) => writing::man(&args),
        Verb::Demo(args) => demo::demo(args),
        Verb::List(args) => reading::list(&context, &args),
        Verb::Stats(args) => reading::stats(&context, &args),
        Verb::Remap(args) => message::remap(&context, &args),
        Verb::Unremap(args) => message::unremap(&context, &args),
        Verb::Verify(args) => message::verify(&context, &args),
        Verb::Message(args) => message::message(&context, &args),
        Verb::Export(args) => export::export(&context, &args),
        Verb::Import(args) => import::import(&context, &args),
        Verb::Format(args) => format::format(&context, &args),
        Verb::Serve(args) => {
            throttle.tell_regularly();
            serve::serve(&context, &args)
        }
    }
}
