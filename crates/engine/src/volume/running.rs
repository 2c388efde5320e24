// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume at work: its threads, and the way in for requests, flushes, messages and the close.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use dmremap_core::{Class, Done as ActDone, Event, Kind, Millis};
use dmremap_format::SECTOR_BYTES;

use crate::device::{Device, Manner};

use super::brain::Brain;
use super::client::{FlushDone, FlushWait, Told};
use super::driver::{Context, Driver, Message};
use super::gate::Gate;
use super::logic::{Fast, Logic};
use super::request::{BadRun, Done, Part, Reply, Request};
use super::watch::Watch;

/// A volume at work on a path and a machine.
pub(crate) struct Running<F: Fast, L: Logic> {
    driver: Arc<Driver<F, L>>,
    gate: Arc<Gate>,
    thread: Mutex<Option<JoinHandle<L>>>,
    read_only: bool,
    watch: Option<Arc<Watch>>,
}

/// What a volume is started from.
pub(crate) struct Parts<F: Fast, L: Logic> {
    pub(crate) fast: F,
    pub(crate) logic: L,
    /// Main, then the spares by member row.
    pub(crate) devices: Vec<Arc<dyn Device>>,
    /// How requests reach them, if not in their own manner.
    pub(crate) manner: Option<Manner>,
    /// Jobs of the machine.
    pub(crate) buffers: usize,
    pub(crate) read_only: bool,
    /// Told of changes of the sectors that main is known by.
    pub(crate) watch: Option<Arc<Watch>>,
    /// Where the volume's milliseconds begin.
    pub(crate) start: Instant,
    /// Told of events, on the machine's thread: must not block.
    pub(crate) on_event: Box<dyn Fn(Event) + Send>,
}

impl<F: Fast, L: Logic> Running<F, L> {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(parts: Parts<F, L>) -> std::io::Result<Running<F, L>> {
        let (sender, inbox): (Sender<Message<L>>, Receiver<Message<L>>) = channel();
        let Parts { fast, logic, devices, manner, buffers, read_only, watch, start, on_event } =
            parts;
        let context = Arc::new(Context::new(fast, devices, sender, start));
        let driver = Arc::new(Driver::start(context, manner)?);
        let brain = Brain::new(logic, Arc::clone(&driver), inbox, buffers, on_event);
        let thread = std::thread::Builder::new()
            .name("dmr-machine".into())
            .spawn(move || brain.run())
            .inspect_err(|_| driver.stop())?;
        Ok(Running {
            driver,
            gate: Gate::new(),
            thread: Mutex::new(Some(thread)),
            read_only,
            watch,
        })
    }

    /// Takes a request; `done` is called once, possibly before this returns.
    pub(crate) fn submit(&self, request: Request, done: Done) {
        let refusal = self.refusal(&request);
        match (refusal, self.gate.enter()) {
            (None, Some(pass)) => {
                let watch = self.watch.as_ref().filter(|_| request.kind.changes()).cloned();
                self.driver.submit(Part::whole(request, done, pass, watch));
            }
            (refusal, _) => {
                let (sector, sectors) = (request.sector, request.sectors);
                let class = refusal.unwrap_or(Class::Offline);
                done(Reply { data: request.data, bad: vec![BadRun { sector, sectors, class }] });
            }
        }
    }

    /// Why a request cannot be taken at all.
    fn refusal(&self, request: &Request) -> Option<Class> {
        let fast = &self.driver.context.fast;
        let block = u64::from(fast.block_sectors());
        let len = u64::from(request.sectors);
        let bytes = request.data.bytes().len() as u64;
        let carries = matches!(request.kind, Kind::Read | Kind::Write);
        let whole = len > 0 && request.sector % block == 0 && len % block == 0;
        let inside = request.sector.checked_add(len).is_some_and(|end| end <= fast.sectors());
        let fits = !carries || bytes == len * SECTOR_BYTES;
        let forbidden = self.read_only && request.kind.changes();
        (!whole || !inside || !fits || forbidden).then_some(Class::NotSupported)
    }

    /// A flush of the client that has been told of these failures.
    pub(crate) fn flush(&self, told: &Told, done: FlushDone) {
        let Some(pass) = self.gate.enter() else { return done(Err(Class::Offline)) };
        let counts = told.get();
        let wait = FlushWait { told: told.clone(), done, _pass: pass };
        self.driver.context.tell(Message::Flush(wait, counts));
    }

    /// Asks the machine on its own thread; `None` once it has stopped.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut L, Millis) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = channel();
        self.driver.context.tell(Message::Ask(Box::new(move |logic, now| {
            let _ = sender.send(question(logic, now));
        })));
        answer.recv().ok()
    }

    /// Begins a message that takes time; `done` hears how it ended, unless the volume stops first:
    /// then it is dropped.
    pub(crate) fn act(
        &self,
        begin: impl FnOnce(&mut L, u64, Millis) + Send + 'static,
        done: impl FnOnce(ActDone) + Send + 'static,
    ) {
        self.driver.context.tell(Message::Act(Box::new(begin), Box::new(done)));
    }

    /// The lock-free path.
    pub(crate) fn fast(&self) -> &F {
        &self.driver.context.fast
    }

    /// The devices: main, then the spares.
    pub(crate) fn devices(&self) -> &[Arc<dyn Device>] {
        &self.driver.context.devices
    }

    /// How requests reach each of them.
    pub(crate) fn manners(&self) -> Vec<Manner> {
        self.driver.manners()
    }

    /// Refuses what comes from now on and waits for what came before: for devices, and for what
    /// recovery holds, at most its limit.
    pub(crate) fn drain(&self) {
        self.gate.close();
        self.gate.wait_empty();
    }

    /// Drains, flushes, writes the last metadata and ends the threads. True if it was clean; false
    /// too if it was closed before.
    pub(crate) fn close(&self) -> bool {
        self.drain();
        let (sender, clean) = channel();
        self.driver.context.tell(Message::Close(sender));
        let clean = clean.recv().unwrap_or(false);
        self.join();
        clean
    }

    /// Stops as a killed process does: what is at the devices comes back, nothing more is sent, and
    /// nobody hears anything but errors.
    pub(crate) fn abandon(&self) {
        self.gate.close();
        self.driver.context.tell(Message::Abandon);
        self.join();
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last owner may be a callback on the volume's own thread: that one ends by itself.
        let me = std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != me) {
            let _ = thread.join();
        }
        self.driver.stop();
    }
}

impl<F: Fast, L: Logic> Drop for Running<F, L> {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
