// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An io_uring of one device, and the one thread that uses it.
//!
//! Whoever submits puts a transfer into a queue and, if the thread is asleep, rings the bell: an
//! eventfd that the ring polls. The thread takes what has come in, as far as there are places,
//! submits it in one call, sleeps until something is answered or the bell rings, and passes answers
//! on. The more comes in, the more goes out with one call; nothing here waits for another device.
//!
//! What a transfer's memory belongs to stays in its place among `Flights` until the kernel has
//! answered; only then is it handed to anybody. A flight that is never answered is never freed: the
//! thread does not end while one is out, and if it is torn down all the same, it leaks them.
//!
//! The kernel may answer a part of a transfer. The rest is submitted again, so that a read that
//! stops at a bad sector ends with that sector's error, as in `raw`; an answer of no bytes is the
//! end of the file and an error.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{Errno, ReadWriteFlags};

use crate::device::Device;

/// Transfers at the device at a time; the rest waits in the queue.
const DEPTH: usize = 128;
/// What the bell's poll is known by.
const BELL: u64 = u64::MAX;
/// How long the thread leaves the kernel alone that had no memory for it.
const PAUSE: Duration = Duration::from_millis(1);

/// A read or a write of memory that `item` of [`Ring::push`] keeps.
pub(crate) struct Transfer {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: u32,
    /// In bytes, on the device.
    pub(crate) offset: u64,
    pub(crate) write: bool,
    /// Of a write: answer when it is durable.
    pub(crate) fua: bool,
}

// SAFETY: an address and what to do with it; whoever pushes it says that it may be done anywhere.
unsafe impl Send for Transfer {}

/// Hears how a transfer of an item ended, and when it was submitted; on the ring's thread.
pub(crate) type Landed<T> = Box<dyn Fn(T, Result<(), Errno>, Instant) + Send>;

/// The ring of a device.
pub(crate) struct Ring<T> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    bell: OwnedFd,
}

struct Queue<T> {
    waiting: VecDeque<(T, Transfer)>,
    /// The thread wants to hear the bell.
    asleep: bool,
    closed: bool,
    /// The thread takes no more.
    ended: bool,
}

impl<T: Send + 'static> Ring<T> {
    /// A ring of `device` with its thread; `landed` hears of every transfer, once.
    ///
    /// # Errors
    /// There is no file to do I/O through, the kernel has or allows no ring, or not with reads and
    /// writes.
    pub(crate) fn new(
        name: String,
        device: Arc<dyn Device>,
        landed: Landed<T>,
    ) -> io::Result<Ring<T>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let queue = Queue { waiting: VecDeque::new(), asleep: false, closed: false, ended: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), bell });
        let (ready, is_ready) = channel();
        let its = Arc::clone(&shared);
        // The ring is made by the only thread that uses it, as the kernel likes it best.
        let work = move || pump(&its, &*device, &landed, &ready);
        let handle = std::thread::Builder::new().name(name).spawn(work)?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Ring { shared, thread: Mutex::new(Some(handle)) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the ring's thread has ended")),
        }
    }

    /// Queues a transfer; carried out even if the ring is closed meanwhile. Gives the item back,
    /// with nothing done, if the ring has ended.
    ///
    /// # Safety
    /// The transfer's memory lives where it is as long as `item` has not been dropped, wherever
    /// `item` is moved to, and nobody but the ring uses it until `item` has come back.
    pub(crate) unsafe fn push(&self, item: T, transfer: Transfer) -> Result<(), T> {
        let mut queue = self.shared.lock();
        if queue.ended {
            return Err(item);
        }
        queue.waiting.push_back((item, transfer));
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.shared.ring_bell();
        }
        Ok(())
    }

    /// Ends the thread once everything has been answered, and waits for it: for nothing but the
    /// device.
    pub(crate) fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let me = std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != me) {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Ring<T> {
    /// The thread ends once everything has been answered, whenever that is: nobody waits for it.
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.ring_bell();
    }

    fn ring_bell(&self) {
        // It fails when the counter is full: then it rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// A transfer at the device.
struct Flight<T> {
    item: T,
    /// What is left of it.
    transfer: Transfer,
    begun: Instant,
}

/// What is at the device, by the number the kernel knows it by.
struct Flights<T> {
    places: Vec<Option<Flight<T>>>,
    free: Vec<usize>,
}

impl<T> Flights<T> {
    fn new() -> Flights<T> {
        Flights { places: (0..DEPTH).map(|_| None).collect(), free: (0..DEPTH).collect() }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == DEPTH
    }
}

impl<T> Drop for Flights<T> {
    /// The device may still use the memory of what is out.
    fn drop(&mut self) {
        self.places.iter_mut().for_each(|place| std::mem::forget(place.take()));
    }
}

/// The thread's own.
struct Pump<'a, T> {
    shared: &'a Shared<T>,
    /// Not closed while flights may be out.
    ring: ManuallyDrop<IoUring>,
    flights: Flights<T>,
    file: types::Fd,
    landed: &'a Landed<T>,
    /// Empty but while it is being filled: to have the memory at hand.
    taken: Vec<(T, Transfer)>,
    /// The bell is being polled.
    armed: bool,
}

/// A ring with every operation that is wanted here.
fn build() -> io::Result<IoUring> {
    let entries = (DEPTH + 1).next_power_of_two() as u32;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        // A kernel before 6.1 knows these no more than it needs them.
        .or_else(|_| IoUring::new(entries))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let wanted = [opcode::Read::CODE, opcode::Write::CODE, opcode::PollAdd::CODE];
    match wanted.into_iter().all(|code| probe.is_supported(code)) {
        true => Ok(ring),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn pump<T>(
    shared: &Shared<T>,
    device: &dyn Device,
    landed: &Landed<T>,
    ready: &Sender<io::Result<()>>,
) {
    let built = device
        .direct()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
        .and_then(|direct| Ok((types::Fd(direct.fd.as_raw_fd()), build()?)));
    let (file, ring) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let ring = ManuallyDrop::new(ring);
    let (flights, taken) = (Flights::new(), Vec::with_capacity(DEPTH));
    let mut pump = Pump { shared, ring, flights, file, landed, taken, armed: false };
    let _ = ready.send(Ok(()));
    while pump.load() {
        pump.wait();
        pump.unload();
    }
    // Nothing is out: whatever the ring knows of memory is over.
    drop(ManuallyDrop::into_inner(pump.ring));
}

impl<T> Pump<'_, T> {
    /// Takes in what has come, as far as there are places. False when it is over.
    fn load(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        let mut queue = self.shared.lock();
        let count = queue.waiting.len().min(self.flights.free.len());
        taken.extend(queue.waiting.drain(..count));
        // With all places taken an answer wakes it.
        queue.asleep = queue.waiting.is_empty();
        let empty = queue.waiting.is_empty() && taken.is_empty() && self.flights.is_empty();
        queue.ended = queue.closed && empty;
        if queue.ended {
            return false;
        }
        drop(queue);
        let begun = Instant::now();
        for (item, transfer) in taken.drain(..) {
            self.begin(Flight { item, transfer, begun });
        }
        self.taken = taken;
        if !self.armed {
            let poll = opcode::PollAdd::new(
                types::Fd(self.shared.bell.as_raw_fd()),
                u32::from(PollFlags::IN.bits()),
            );
            // SAFETY: a poll names a descriptor, which lives as long as this thread, and no memory.
            let pushed = unsafe { self.ring.submission().push(&poll.build().user_data(BELL)) };
            self.armed = pushed.is_ok();
        }
        true
    }

    /// Puts a flight into a place and among what the next call submits.
    fn begin(&mut self, flight: Flight<T>) {
        let Some(place) = self.flights.free.pop() else {
            return (self.landed)(flight.item, Err(Errno::AGAIN), flight.begun);
        };
        let entry = entry(self.file, &flight.transfer).user_data(place as u64);
        self.flights.places[place] = Some(flight);
        // SAFETY: the memory is the item's, which stays in its place until the kernel has answered
        // under this number, and is leaked rather than dropped before; nobody else uses it until
        // then by the word of whoever pushed it. The file is open as long as this thread runs.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // Cannot be: there are more entries than places. The kernel has not seen it.
            self.end(place, Err(Errno::AGAIN));
        }
    }

    /// Submits, and waits for an answer or the bell.
    fn wait(&mut self) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel is short of something; what it did not take stays in the ring.
            Err(_) => std::thread::sleep(PAUSE),
        }
    }

    /// Passes answers on.
    fn unload(&mut self) {
        loop {
            let answer = self.ring.completion().next();
            let Some((number, result)) = answer.map(|entry| (entry.user_data(), entry.result()))
            else {
                return;
            };
            if number == BELL {
                self.armed = false;
                let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
            } else {
                self.answered(number as usize, result);
            }
        }
    }

    fn answered(&mut self, place: usize, result: i32) {
        let Some(Some(flight)) = self.flights.places.get_mut(place) else { return };
        let left = &mut flight.transfer;
        match u32::try_from(result) {
            Err(_) => self.end(place, Err(Errno::from_raw_os_error(result.wrapping_neg()))),
            // The end of the file: it has shrunk since it was opened.
            Ok(0) => self.end(place, Err(Errno::IO)),
            Ok(done) if done >= left.len => self.end(place, Ok(())),
            Ok(done) => {
                // SAFETY: fewer bytes than there are, so it stays inside of the memory.
                left.start = unsafe { left.start.add(done as usize) };
                left.len -= done;
                left.offset += u64::from(done);
                if let Some(flight) = self.take(place) {
                    self.begin(flight);
                }
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Flight<T>> {
        let flight = self.flights.places.get_mut(place)?.take()?;
        self.flights.free.push(place);
        Some(flight)
    }

    fn end(&mut self, place: usize, result: Result<(), Errno>) {
        if let Some(flight) = self.take(place) {
            (self.landed)(flight.item, result, flight.begun);
        }
    }
}

fn entry(file: types::Fd, transfer: &Transfer) -> squeue::Entry {
    let Transfer { start, len, offset, write, fua } = *transfer;
    if write {
        let sync = if fua { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let write = opcode::Write::new(file, start.as_ptr(), len).offset(offset);
        write.rw_flags(sync.bits() as i32).build()
    } else {
        opcode::Read::new(file, start.as_ptr(), len).offset(offset).build()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
