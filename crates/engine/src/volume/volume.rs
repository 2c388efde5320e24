// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume that is open.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use dmremap_core::list::{Run, Runs, Unit};
use dmremap_core::message::Command;
use dmremap_core::reply::nearest_spare;
use dmremap_core::settings::Settings;
use dmremap_core::status::Status;
use dmremap_core::table::Entry;
use dmremap_core::{Done as Outcome, Event, Reason};
use dmremap_format::{States, UnitIndex};

use crate::device::{Device, Manner};

use super::causes::Causes;
use super::client::{FlushDone, Told};
use super::error::VolumeError;
use super::fast::{Core, Path};
use super::memory::JOBS;
use super::open::{self, MainIs, VolumeInfo, VolumeOptions};
use super::request::{Done, Request};
use super::running::{Parts, Running};
use super::watch::{Watch, Watcher};

/// Units looked up at one time for a list: the machine waits for a lookup to end.
const LIST_BATCH: usize = 64;

/// A volume that is open and serves. Dropped without [`Volume::close`] it stops as a killed process
/// does: whatever was acknowledged is there at the next open.
pub struct Volume {
    info: VolumeInfo,
    writable: bool,
    watcher: Option<Watcher>,
    pub(super) running: Arc<Running<Path, Core>>,
}

/// One of those who use a volume. Each remembers which lost writes it has been told of.
pub struct Client {
    told: Told,
}

impl Volume {
    /// Opens the volume of `main` and `spare`, both open and held. Claim the spare before main, as
    /// [`open_device`](crate::open_device) does, and open them anew after a refusal.
    ///
    /// `on_event` is told what an administrator wants to know; it must not block.
    ///
    /// # Errors
    /// See [`VolumeError`].
    pub fn open(
        main: Arc<dyn Device>,
        spare: Arc<dyn Device>,
        options: &VolumeOptions,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Volume, VolumeError> {
        Volume::open_with((main, MainIs::Known), spare, options, on_event)
    }

    pub(super) fn open_with(
        (main, main_is): (Arc<dyn Device>, MainIs),
        spare: Arc<dyn Device>,
        options: &VolumeOptions,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Volume, VolumeError> {
        let start = Instant::now();
        let opened = open::open((&main, main_is), &spare, options, start)?;
        let system = |error: std::io::Error| VolumeError::System(error.to_string());
        let (content, kept) = opened.content;
        let known = matches!(main_is, MainIs::Known | MainIs::Copy);
        let watch = (opened.writable && known).then(|| Watch::new(&content));
        let ears = watch.clone();
        let heard = move |event| {
            ears.iter().for_each(|watch| watch.heard(&event));
            on_event(event);
        };
        let running = Running::start(Parts {
            fast: Path::new(opened.shared, opened.queues),
            logic: opened.core,
            devices: vec![main, spare],
            manner: options.manner,
            buffers: JOBS,
            read_only: !opened.writable,
            watch: watch.clone(),
            start,
            on_event: Box::new(heard),
        })
        .map_err(system)?;
        let running = Arc::new(running);
        let watcher = match watch {
            Some(watch) => Some(Watcher::start(watch, Arc::clone(&running), kept).map_err(system)?),
            None => None,
        };
        Ok(Volume { info: opened.info, writable: opened.writable, watcher, running })
    }

    /// What the header says.
    #[must_use]
    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Main, then the spare.
    #[must_use]
    pub fn devices(&self) -> &[Arc<dyn Device>] {
        self.running.devices()
    }

    /// How requests reach each of them.
    #[must_use]
    pub fn manners(&self) -> Vec<Manner> {
        self.running.manners()
    }

    /// Takes a request. `done` is called once, on any thread, possibly before this returns; what is
    /// not made of whole blocks inside the volume ends as not supported.
    pub fn submit(&self, request: Request, done: Done) {
        self.running.submit(request, done);
    }

    /// Somebody new who uses the volume.
    #[must_use]
    pub fn client(&self) -> Client {
        let floor = self.running.ask(|core, _| core.flush_floor()).unwrap_or_default();
        Client { told: Told::new(floor) }
    }

    /// Makes every write durable that was answered before now, whoever submitted it. `done` is
    /// called once: an error says that a write may be lost which this client has not been told of.
    pub fn flush(&self, client: &Client, done: FlushDone) {
        self.running.flush(&client.told, done);
    }

    /// Carries a message out and waits for its end. Not to be called on the volume's own threads.
    #[must_use]
    pub fn act(&self, command: Command) -> Outcome {
        let (sender, outcome) = channel();
        let at_once = sender.clone();
        let begin = move |core: &mut Core, id, now| {
            if let Some(known) = core.act(id, &command, now) {
                let _ = at_once.send(known);
            }
        };
        self.running.act(begin, move |done| {
            let _ = sender.send(done);
        });
        outcome.recv().unwrap_or(Outcome::Failed(Reason::NotWritable))
    }

    /// The numbers of this moment; `None` once it has stopped.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.running.ask(|core, _| core.status())
    }

    /// The nearest legal places for main's `sector` on the spare below and above `wanted`, an
    /// absolute spare sector: free, and at the same place in their unit.
    #[must_use]
    pub fn nearest_spare(&self, sector: u64, wanted: u64) -> [Option<u64>; 2] {
        let data = (self.info.layout.data_start(), self.info.layout.data_end());
        let look = move |core: &mut Core| {
            nearest_spare(sector, wanted, data, |unit| core.is_spare_unit_free(unit))
        };
        self.running.ask(move |core, _| look(core)).unwrap_or_default()
    }

    /// The settings in force; `None` once it has stopped.
    #[must_use]
    pub fn settings(&self) -> Option<Settings> {
        self.running.ask(|core, _| *core.settings())
    }

    /// Everything that is moved, pending or gone from main sector `from` on, as runs in ascending
    /// order, handed to `out` until it returns false. Why something was moved is read from the
    /// spare, as far as that does not take long.
    pub fn runs(&self, from: u64, mut out: impl FnMut(Run) -> bool) {
        let info = &self.info;
        let mut runs = Runs::new(info.block_bytes / 512, info.main_sectors, from);
        let mut causes = self.devices().get(1).map(|spare| Causes::new(&**spare, info));
        let mut next = Some(UnitIndex(from / 8));
        while let Some(first) = next {
            let units = self.units(first);
            next = (units.len() == LIST_BATCH)
                .then(|| units.last().map(|(unit, ..)| UnitIndex(unit.0 + 1)))
                .flatten();
            for (_, mut unit, entry) in units {
                if let (Some(causes), Some(entry)) = (&mut causes, entry) {
                    unit.cause = causes.word(&entry);
                }
                if !runs.unit(&unit, &mut out) {
                    return;
                }
            }
        }
        if let Some(last) = runs.finish() {
            out(last);
        }
    }

    /// The next units with an entry or pending blocks; the causes are not filled in.
    fn units(&self, first: UnitIndex) -> Vec<(UnitIndex, Unit, Option<Entry>)> {
        let found = self.running.fast().lookup(|shared| {
            let mut units = Vec::with_capacity(LIST_BATCH);
            let mut from = first;
            while units.len() < LIST_BATCH {
                let (entry, pending) = (shared.table.next(from), shared.pending.next(from));
                let at = match (entry, pending) {
                    (Some(entry), Some((unit, _))) => entry.unit.min(unit),
                    (Some(entry), None) => entry.unit,
                    (None, Some((unit, _))) => unit,
                    (None, None) => break,
                };
                let entry = entry.filter(|entry| entry.unit == at);
                let place =
                    |spare| (entry.map_or(0, |e| e.member), shared.geometry.spare_sector(spare, 0));
                units.push((
                    at,
                    Unit {
                        main_sector: shared.geometry.unit_sector(at),
                        spare: entry.and_then(|entry| entry.spare).map(place),
                        states: entry.map_or(States::ALL_MAIN, |entry| entry.states),
                        pending: pending
                            .filter(|(unit, _)| *unit == at)
                            .map_or(0, |(_, mask)| mask),
                        cause: "-",
                    },
                    entry,
                ));
                from = UnitIndex(at.0 + 1);
            }
            units
        });
        found.unwrap_or_default()
    }

    /// Refuses what comes from now on, waits for what came before, flushes both devices and writes
    /// the last metadata. True if the header says `clean` now.
    pub fn close(&self) -> bool {
        self.running.drain();
        if let Some(watcher) = &self.watcher {
            watcher.stop(true);
        }
        self.running.close()
    }

    /// Stops as a killed process does: what is at the devices comes back, nothing more is sent.
    pub fn abandon(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.stop(false);
        }
        self.running.abandon();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.abandon();
    }
}
