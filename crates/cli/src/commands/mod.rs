// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verbs. Each file parses what its verb was given, calls the library, shows the outcome.

mod at_rest;
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
mod running;
mod serve;
mod wipe;
mod writing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Cli, Common, Running, Verb};
use crate::config::Config;
use crate::failure::{Class, Failure, Outcome};
use crate::logging::Throttle;
use crate::rundir::RunDir;

/// What every verb is given besides its own arguments.
pub struct Context {
    common: Common,
}

impl Context {
    /// Where the sockets of running volumes are.
    pub fn run_dir(&self) -> Outcome<RunDir> {
        RunDir::locate(self.common.run_dir.as_deref())
    }

    /// The local configuration.
    pub fn config(&self) -> Outcome<Config> {
        Config::locate(self.common.config.as_deref())
    }

    /// The control socket of the running volume `name`.
    pub fn control(&self, name: &str) -> Outcome<PathBuf> {
        Ok(self.run_dir()?.control(name))
    }

    /// The control socket of the running volume that was named.
    pub fn running(&self, running: &Running) -> Outcome<PathBuf> {
        match (&running.control, &running.name) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(name)) => self.control(name),
            (None, None) => Err(Failure::new(Class::Usage, "which volume?")),
        }
    }
}

/// Carries out the command line.
pub fn run(cli: Cli, throttle: &Arc<Throttle>) -> Outcome<ExitCode> {
    let context = Context { common: cli.common };
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
