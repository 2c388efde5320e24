// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What several verbs ask and tell a running volume, by its control socket.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dmremap_core::Marked;
use dmremap_core::message::LIST_RUNS_MAX;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::control::client::{self, Talk};
use crate::escape::harmless;
use crate::failure::{Class, Failure, Outcome};
use crate::report::{Run, Status};
use crate::view::View;

/// Connections at one time, of the sixteen a volume serves: their marks share commits.
const AT_ONCE: usize = 12;
/// How long one line is tried again while the volume has no place for it.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// The volume as `export` and `import` see it. Blocks may move while it is read.
pub fn view(path: &Path) -> Outcome<View> {
    let status: Status = parsed(&client::ask(path, "status")?)?;
    Ok(View {
        name: status.name,
        uuid: status.uuid,
        size_sectors: status.size_sectors,
        block_size: status.block_size,
        entries: status.entries,
        quarantined: status.quarantined_units,
        max_entries: status.max_entries,
        runs: all_runs(path)?,
    })
}

/// Says these lines to a running volume over several connections; what was marked, all told.
pub fn tell(path: &Path, lines: &[String]) -> Outcome<Marked> {
    let next = AtomicUsize::new(0);
    let ended: Mutex<Outcome<Marked>> = Mutex::new(Ok(Marked::default()));
    let work = || {
        let mut talk = None;
        while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
            let told = tell_one(path, &mut talk, line);
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            match (told, ended.as_mut()) {
                (Ok(marked), Ok(sum)) => *sum = sum.and(marked),
                (Err(failure), Ok(_)) => *ended = Err(failure),
                (_, Err(_)) => {}
            }
            if ended.is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(lines.len()) {
            scope.spawn(work);
        }
    });
    ended.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn tell_one(path: &Path, talk: &mut Option<Talk>, line: &str) -> Outcome<Marked> {
    let start = Instant::now();
    loop {
        let talk = match talk {
            Some(talk) => talk,
            None => talk.insert(Talk::to(path)?),
        };
        match talk.ask(line) {
            Ok(answer) => return Ok(marked(&answer)),
            Err(failure) if failure.class == Class::Busy && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn marked(answer: &Value) -> Marked {
    let number = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
    Marked {
        marked: number("marked"),
        on_spare: number("on_spare"),
        gone: number("gone"),
        dropped: number("dropped"),
    }
}
