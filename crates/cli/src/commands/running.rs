// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What several verbs ask a running volume.

use std::path::Path;

use dmremap_core::message::LIST_RUNS_MAX;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::control::client::Talk;
use crate::escape::harmless;
use crate::failure::{Class, Failure, Outcome};
use crate::report::Run;

/// An answer as what it stands for.
pub fn parsed<T: DeserializeOwned>(value: &Value) -> Outcome<T> {
    serde_json::from_value(value.clone()).map_err(|error| {
        let what = format!("the server's answer was not understood: {error}");
        Failure::new(Class::Internal, harmless(what))
    })
}

/// Every run of moved, gone and pending blocks; one answer holds only so many.
pub fn all_runs(path: &Path) -> Outcome<Vec<Run>> {
    let mut talk = Talk::to(path)?;
    let mut all: Vec<Run> = parsed(&talk.ask("list")?)?;
    let mut more = all.len();
    while more as u64 == LIST_RUNS_MAX {
        let Some(last) = all.last() else { break };
        let from = last.main_sector.saturating_add(last.sectors);
        let runs: Vec<Run> = match talk.ask(&format!("list {from}")) {
            Ok(value) => parsed(&value)?,
            // The last run ended with main itself.
            Err(failure) if failure.class == Class::Usage => break,
            Err(failure) => return Err(failure),
        };
        more = runs.len();
        all.extend(runs);
    }
    Ok(all)
}
