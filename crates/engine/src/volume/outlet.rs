// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The way of request parts to one device, in the manner that suits it.
//!
//! Reads and writes go as the device's [`Manner`] says. Whatever that does not take goes to the
//! lane's threads, which take anything: discards and zeroes, which may be as large as a disk; what
//! would have to be waited for; and a submission that comes from inside of an answer that was given
//! inline, once a few are inside each other, so that no client's chain of requests uses up a stack.

use std::cell::Cell;
use std::sync::Arc;

use dmremap_core::Kind;

use crate::device::{Device, Manner};

use super::driver::{Context, Io};
use super::lane::Lane;
use super::logic::{Fast, Logic};

/// Threads a device for requests.
const REQUEST_THREADS: usize = 16;
/// Answers given inline inside each other.
const DEPTH_MAX: u32 = 8;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Being inside of something inline.
struct Inside;

impl Inside {
    fn enter() -> Option<Inside> {
        let depth = DEPTH.get();
        (depth < DEPTH_MAX).then(|| DEPTH.set(depth + 1))?;
        Some(Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// The way to one device.
pub(crate) struct Outlet<F: Fast, L: Logic> {
    context: Arc<Context<F, L>>,
    device: Arc<dyn Device>,
    manner: Manner,
    lane: Lane<Io<F>>,
}

impl<F: Fast, L: Logic> Outlet<F, L> {
    /// The way to the device in `row` of the context's; in the device's own manner, unless another
    /// is asked for.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn new(
        context: &Arc<Context<F, L>>,
        row: usize,
        asked: Option<Manner>,
    ) -> std::io::Result<Outlet<F, L>> {
        let device = Arc::clone(&context.devices[row]);
        let work = Arc::clone(context);
        let name = format!("dmr-io-{row}");
        let lane = Lane::new(name, REQUEST_THREADS, move |io| work.run(io))?;
        let manner = asked.unwrap_or_else(|| device.manner());
        tracing::debug!(device = device.describe(), manner = manner.word(), "requests go");
        Ok(Outlet { context: Arc::clone(context), device, manner, lane })
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    /// Submits.
    pub(crate) fn push(&self, io: Io<F>) {
        match self.manner {
            Manner::Inline => self.now(io),
            Manner::Threads => self.lane.push(io),
        }
    }

    /// Carries it out and answers on this thread, if nothing has to be waited for.
    fn now(&self, mut io: Io<F>) {
        let Some(_inside) = Inside::enter() else { return self.lane.push(io) };
        let offset = io.offset();
        let result = match (io.kind, io.part.kind()) {
            (Kind::Read, _) => self.device.read_now(io.part.bytes_mut(), offset),
            (Kind::Write, Kind::Write) => {
                self.device.write_now(io.part.bytes(), offset, io.part.fua())
            }
            _ => None,
        };
        match result {
            // What did not wait took no time.
            Some(result) => self.context.answered(io, result, 0),
            None => self.lane.push(io),
        }
    }

    /// Ends the threads: waits for what is at the device, and for nothing else.
    pub(crate) fn close(&self) {
        self.lane.close();
    }
}
