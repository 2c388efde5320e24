// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Watching what main is known by: mkfs or repartitioning on the volume changes the UUIDs that the
//! next open compares, so they are read again and committed within a second.
//!
//! A change of a sector that content is read from sets a flag when it has been *answered*, so that
//! what is then read holds it. A thread of its own reads: it may have to wait for main. Where
//! content is read from may change with what is read (a new partition table): whatever was answered
//! before the new places were watched is covered by one more look after that.
//!
//! A change that is far from all of it costs one load: a bit for each MiB of main, a few of which
//! share one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use dmremap_core::Event;
use dmremap_format::SECTOR_BYTES;

use super::fast::{Core, Path};
use super::main_identity::{self, Kept, Look};
use super::running::Running;

/// How long changes are gathered before content is read again: well below the second it has.
const GATHER: Duration = Duration::from_millis(500);
/// Bits of the coarse map.
const REGIONS: u64 = 4096;
/// Sectors of a region, a power of two.
const REGION_SECTORS: u64 = 2048;

/// Which sectors content is read from, and whether one has changed.
pub(crate) struct Watch {
    /// A bit for each region that holds a part of a range, regions counted modulo [`REGIONS`].
    regions: Box<[AtomicU64]>,
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
    /// Watches what was looked at.
    pub(crate) fn new(look: &Look) -> Arc<Watch> {
        let watch = Watch {
            regions: (0..REGIONS / 64).map(|_| AtomicU64::new(0)).collect(),
            ranges: RwLock::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        watch.set(look);
        Arc::new(watch)
    }

    /// Watches what was looked at from now on; true if that is not what was watched before.
    fn set(&self, look: &Look) -> bool {
        let windows = look.windows.iter().map(|window| {
            let end = (window.offset + window.len as u64).div_ceil(SECTOR_BYTES);
            (window.offset / SECTOR_BYTES, end)
        });
        let mut windows: Vec<_> = windows.collect();
        windows.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (first, end) in windows {
            match ranges.last_mut() {
                Some((_, last)) if *last >= first => *last = end.max(*last),
                _ => ranges.push((first, end)),
            }
        }
        let mut watched = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if *watched == ranges {
            return false;
        }
        // Bits stay set: one too many costs a look at the ranges, no more.
        for region in ranges.iter().flat_map(|(first, end)| regions(*first, *end)) {
            self.regions[(region / 64) as usize].fetch_or(1 << (region % 64), Ordering::Release);
        }
        *watched = ranges;
        true
    }

    /// Whether one of these sectors is watched.
    fn touches(&self, sector: u64, sectors: u64) -> bool {
        let end = sector.saturating_add(sectors);
        let near = |region: u64| {
            let word = self.regions[(region / 64) as usize].load(Ordering::Acquire);
            word & (1 << (region % 64)) != 0
        };
        if !regions(sector, end).any(near) {
            return false;
        }
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let next = ranges.partition_point(|(_, last)| *last <= sector);
        ranges.get(next).is_some_and(|(first, _)| *first < end)
    }

    /// A change of these sectors has been answered.
    pub(crate) fn answered(&self, sector: u64, sectors: u32) {
        if self.touches(sector, sectors.into()) {
            self.changed();
        }
    }

    /// What comes home is main's again, and may have been changed while it was away.
    pub(crate) fn heard(&self, event: &Event) {
        if let Event::Home { main_sector } = event {
            self.answered(*main_sector, dmremap_format::UNIT_SECTORS as u32);
        }
    }

    fn changed(&self) {
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

/// The places in the coarse map of the sectors from `first` up to `end`.
fn regions(first: u64, end: u64) -> impl Iterator<Item = u64> {
    let (from, to) = (first / REGION_SECTORS, end.saturating_sub(1) / REGION_SECTORS);
    (from..=to).take(REGIONS as usize).map(|region| region % REGIONS)
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
        kept: Kept,
    ) -> std::io::Result<Watcher> {
        let last = Arc::new(Mutex::new(false));
        let (seen, also_last) = (Arc::clone(&watch), Arc::clone(&last));
        let work = move || {
            let mut notes = Notes { at_open: kept.clone(), kept, refused: false };
            loop {
                let stopping = seen.wait();
                match stopping {
                    None => notes.look(&seen, &running),
                    Some(dirty) if *lock(&also_last) => notes.last_look(dirty, &seen, &running),
                    Some(_) => {}
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

/// What the watching thread knows of the header.
struct Notes {
    /// What it kept when the volume was opened.
    at_open: Kept,
    /// What it keeps, if every commit since went well.
    kept: Kept,
    /// The last change was not taken: offered again with the next look, at the close at the latest.
    refused: bool,
}

impl Notes {
    /// Reads content again and has the header take what has changed.
    fn look(&mut self, watch: &Watch, running: &Running<Path, Core>) {
        let Some(main) = running.devices().first() else { return };
        let elsewhere = |sector: u64, sectors: u64| {
            let is = |shared: &_| main_identity::is_elsewhere(shared, sector, sectors);
            running.fast().lookup(is).unwrap_or(true)
        };
        let look = main_identity::look(&**main, elsewhere);
        if watch.set(&look) {
            watch.changed();
        }
        let new = self.kept.with_contents(&look.merged(&self.kept.contents()));
        self.refused = false;
        if new == self.kept {
            return;
        }
        tracing::info!(uuids = look.contents.len(), "main's content has other UUIDs now: noted");
        let changes = self.kept.changes(&new);
        let taken = running.ask(move |core, now| core.commit_header(&changes, now));
        self.refused = taken != Some(true);
        if !self.refused {
            self.kept = new;
        }
    }

    /// At the close: what has changed since the open is committed once more, since nobody heard how
    /// the commits in between ended.
    fn last_look(&mut self, dirty: bool, watch: &Watch, running: &Running<Path, Core>) {
        if dirty || self.refused {
            self.look(watch, running);
        }
        let changes = self.at_open.changes(&self.kept);
        if !changes.is_empty() {
            running.ask(move |core, now| core.commit_header(&changes, now));
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
