// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Watching what main is known by: mkfs or repartitioning on the volume changes the UUIDs that the
//! next open compares, so they are read again and committed within a second.
//!
//! A change of a sector that content is read from sets a flag when it has been *answered*, so that
//! what is then read holds it. A thread of its own reads: it may have to wait for main.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use dmremap_format::{ContentRow, SECTOR_BYTES, UnitIndex};

use super::fast::{Core, Path};
use super::main_identity::{self, Content};
use super::request::Request;
use super::running::Running;

/// How long changes are gathered before content is read again: well below the second it has.
const GATHER: Duration = Duration::from_millis(500);

/// Which sectors content is read from, and whether one has changed.
pub(crate) struct Watch {
    /// Ascending, none overlapping: first sector and the one behind the last.
    ranges: RwLock<Vec<(u64, u64)>>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    stopping: bool,
}

impl Watch {
    /// Watches what `content` was read from.
    pub(crate) fn new(content: &Content) -> Arc<Watch> {
        let watch =
            Watch { ranges: RwLock::default(), state: Mutex::default(), wake: Condvar::new() };
        watch.set(content);
        Arc::new(watch)
    }

    fn set(&self, content: &Content) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let windows = content.windows.iter().map(|window| {
            let end = (window.offset + window.len as u64).div_ceil(SECTOR_BYTES);
            (window.offset / SECTOR_BYTES, end)
        });
        let mut windows: Vec<_> = windows.collect();
        windows.sort_unstable();
        for (first, end) in windows {
            match ranges.last_mut() {
                Some((_, last)) if *last >= first => *last = end.max(*last),
                _ => ranges.push((first, end)),
            }
        }
        *self.ranges.write().unwrap_or_else(PoisonError::into_inner) = ranges;
    }

    /// Whether a request changes a watched sector.
    pub(crate) fn touches(&self, request: &Request) -> bool {
        if !request.kind.changes() {
            return false;
        }
        let end = request.sector.saturating_add(u64::from(request.sectors));
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let next = ranges.partition_point(|(_, last)| *last <= request.sector);
        ranges.get(next).is_some_and(|(first, _)| *first < end)
    }

    /// A change of a watched sector has been answered.
    pub(crate) fn changed(&self) {
        self.lock().dirty = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes, and for others to join them. `Some(dirty)` when it is to stop.
    fn wait(&self) -> Option<bool> {
        let idle = |state: &mut State| !state.dirty && !state.stopping;
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, GATHER, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        let dirty = std::mem::take(&mut state.dirty);
        state.stopping.then_some(dirty)
    }
}

/// The thread that reads content again.
pub(crate) struct Watcher {
    watch: Arc<Watch>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether a last change is still to be committed.
    last: Arc<Mutex<bool>>,
}

impl Watcher {
    /// Starts it; the header keeps `kept`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        watch: Arc<Watch>,
        running: Arc<Running<Path, Core>>,
        mut kept: Vec<ContentRow>,
    ) -> std::io::Result<Watcher> {
        let last = Arc::new(Mutex::new(false));
        let (seen, also_last) = (Arc::clone(&watch), Arc::clone(&last));
        let work = move || {
            loop {
                let stopping = seen.wait();
                let wanted = match stopping {
                    None => true,
                    Some(dirty) => dirty && *lock(&also_last),
                };
                if wanted {
                    look(&seen, &running, &mut kept);
                }
                if stopping.is_some() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("dmr-watch".into()).spawn(work)?;
        Ok(Watcher { watch, thread: Mutex::new(Some(thread)), last })
    }

    /// Ends it, with a last look if something has changed and `look` says so.
    pub(crate) fn stop(&self, look: bool) {
        *lock(&self.last) = look;
        self.watch.lock().stopping = true;
        self.watch.wake.notify_all();
        let thread = lock(&self.thread).take();
        let me = std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != me) {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads content again and has the header take what has changed.
fn look(watch: &Watch, running: &Running<Path, Core>, kept: &mut Vec<ContentRow>) {
    let Some(main) = running.devices().first() else { return };
    let moved = |sector: u64, sectors: u64| {
        let (first, end) = (UnitIndex(sector / 8), sector + sectors);
        let next = running.fast().lookup(|shared| shared.table.next(first));
        next.flatten().is_some_and(|entry| entry.unit.0 * 8 < end)
    };
    let content = main_identity::content(&**main, moved);
    watch.set(&content);
    let rows = content.merged(kept);
    let changes = main_identity::content_changes(kept, &rows);
    if changes.is_empty() {
        return;
    }
    tracing::info!(rows = rows.len(), "main's content has other UUIDs now: noted");
    *kept = rows;
    running.ask(move |core, now| {
        for change in changes {
            core.commit_header(change, now);
        }
    });
}
