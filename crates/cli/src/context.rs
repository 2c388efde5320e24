// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where this run finds the local configuration and the sockets of running volumes.

use std::path::PathBuf;

use crate::args::{Common, Running, Target};
use crate::config::Config;
use crate::failure::{Class, Failure, Outcome};
use crate::rundir::RunDir;

/// What every verb is given besides its own arguments.
pub struct Context {
    common: Common,
}

impl Context {
    /// What was given with the verb.
    pub fn new(common: Common) -> Context {
        Context { common }
    }

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

    /// The control socket of the volume that was named, of verbs that also take a spare.
    pub fn target(&self, target: &Target) -> Outcome<PathBuf> {
        let (name, control) = (target.name.clone(), target.control.clone());
        self.running(&Running { name, control })
    }
}
