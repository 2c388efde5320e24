// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The way of request parts to one device, in the manner that suits it.
//!
//! Reads and writes go as the device's [`Manner`] says. Whatever that does not take goes to the
//! lane's threads, which take anything: discards and zeroes, which may be as large as a disk; what
//! would have to be waited for; and a submission that comes from inside of an answer that was given
//! inline, once a few are inside each other, so that no client's chain of requests uses up a stack.
//! So does everything where no ring can be had, and what a ring had no answer of the device for.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use dmremap_core::Kind;
use rustix::io::Errno;

use crate::device::os::class_of;
use crate::device::{Device, Geometry, Manner, Transferred};

use super::driver::{Context, Io};
use super::lane::Lane;
use super::logic::{Fast, Logic};
use super::ring::{Landed, Ring, Transfer};

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
    way: Way<F>,
    lane: Arc<Lane<Io<F>>>,
}

enum Way<F: Fast> {
    Inline,
    Ring(Ring<Io<F>>, Rules),
    Threads,
}

/// What a ring takes.
struct Rules {
    geometry: Geometry,
    memory_align: usize,
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
        let lane = Arc::new(Lane::new(name, REQUEST_THREADS, move |io| work.run(io))?);
        let way = match asked.unwrap_or_else(|| device.manner()) {
            Manner::Inline => Way::Inline,
            Manner::Ring => ring(context, row, &device, &lane),
            Manner::Threads => Way::Threads,
        };
        let outlet = Outlet { context: Arc::clone(context), device, way, lane };
        let device = outlet.device.describe();
        tracing::debug!(device, manner = outlet.manner().word(), "requests go");
        Ok(outlet)
    }

    pub(crate) fn manner(&self) -> Manner {
        match self.way {
            Way::Inline => Manner::Inline,
            Way::Ring(..) => Manner::Ring,
            Way::Threads => Manner::Threads,
        }
    }

    /// Submits.
    pub(crate) fn push(&self, io: Io<F>) {
        match &self.way {
            Way::Inline => self.now(io),
            Way::Ring(ring, rules) => {
                let taken = rules.transfer(io).and_then(|(io, transfer)| {
                    // SAFETY: the memory is the part's own range of a payload, which nobody else
                    // uses and which stays where it is until the part has ended, and the part is
                    // in `io`.
                    unsafe { ring.push(io, transfer) }
                });
                if let Err(io) = taken {
                    self.lane.push(io);
                }
            }
            Way::Threads => self.lane.push(io),
        }
    }

    /// Carries it out and answers on this thread, if nothing has to be waited for.
    fn now(&self, mut io: Io<F>) {
        let Some(_inside) = Inside::enter() else { return self.lane.push(io) };
        let offset = io.offset();
        let result = match is_write(&io) {
            Some(false) => self.device.read_now(io.part.bytes_mut(), offset),
            Some(true) => self.device.write_now(io.part.bytes(), offset, io.part.fua()),
            None => None,
        };
        match result {
            Some(result) => self.context.answered(io, result, None),
            None => self.lane.push(io),
        }
    }

    /// Ends the threads: waits for what is at the device, and for nothing else.
    pub(crate) fn close(&self) {
        if let Way::Ring(ring, _) = &self.way {
            // First, since it may hand something over.
            ring.close();
        }
        self.lane.close();
    }
}

/// Whether a submission that moves bytes is a write; `None` if it does not move any.
fn is_write<F: Fast>(io: &Io<F>) -> Option<bool> {
    match (io.kind, io.part.kind()) {
        (Kind::Read, _) => Some(false),
        (Kind::Write, Kind::Write) => Some(true),
        // A write-zeroes that has become a write among them: it has no bytes.
        _ => None,
    }
}

impl Rules {
    /// What a ring is to do for a submission; the submission itself if a ring cannot.
    fn transfer<F: Fast>(&self, mut io: Io<F>) -> Result<(Io<F>, Transfer), Io<F>> {
        let Some(write) = is_write(&io) else { return Err(io) };
        let (offset, fua) = (io.offset(), io.part.fua());
        let bytes = io.part.bytes_mut();
        let aligned = bytes.as_ptr().addr() & (self.memory_align - 1) == 0;
        let allowed =
            self.geometry.holds(offset, bytes.len() as u64) && !(write && self.geometry.read_only);
        match u32::try_from(bytes.len()) {
            Ok(len) if len > 0 && aligned && allowed => {
                let start = NonNull::from(bytes).cast();
                Ok((io, Transfer { start, len, offset, write, fua }))
            }
            _ => Err(io),
        }
    }
}

/// A ring for the device in `row`, or threads where there can be none.
fn ring<F: Fast, L: Logic>(
    context: &Arc<Context<F, L>>,
    row: usize,
    device: &Arc<dyn Device>,
    lane: &Arc<Lane<Io<F>>>,
) -> Way<F> {
    let Some(direct) = device.direct() else { return Way::Threads };
    let rules = Rules { geometry: device.geometry(), memory_align: direct.memory_align.max(1) };
    let (context, its, lane) = (Arc::clone(context), Arc::clone(device), Arc::clone(lane));
    let landed: Landed<Io<F>> = Box::new(move |io, result, begun| match result {
        // The kernel's word on the ring, none of the device: asked again in the plain way.
        Err(Errno::AGAIN | Errno::INTR | Errno::CANCELED | Errno::INVAL | Errno::OPNOTSUPP) => {
            lane.push(io);
        }
        result => landed(&context, &*its, io, result, begun),
    });
    match Ring::new(format!("dmr-ring-{row}"), Arc::clone(device), landed) {
        Ok(ring) => Way::Ring(ring, rules),
        Err(error) => {
            tracing::debug!(device = device.describe(), %error, "no io_uring here");
            Way::Threads
        }
    }
}

fn landed<F: Fast, L: Logic>(
    context: &Context<F, L>,
    device: &dyn Device,
    io: Io<F>,
    result: Result<(), Errno>,
    begun: Instant,
) {
    let what = Transferred {
        write: io.kind == Kind::Write,
        offset: io.offset(),
        len: io.part.bytes().len() as u64,
    };
    let result = device.judge(&what, result.map_err(class_of));
    context.answered(io, result, Some(begun));
}
