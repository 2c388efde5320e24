// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The way of a request through a volume.
//!
//! ```text
//! submit ── cut at buckets ── count, resolve, route ──> outlet of the device ──> answered
//!    ^                                │                         │ failed
//!    │                                └───────> machine <───────┘
//!    └───────────── resolved anew ─────────────────┘
//! ```
//!
//! A part is cut to the first run that lies in one place, and what lies behind is routed by itself:
//! parts go their own ways from then on. How a device is reached is its `outlet`'s affair: maybe on
//! the thread that submits, which then answers too. A part that fails or meets an obstacle goes to
//! the machine's thread (`brain`), which answers it or sends it round again. Every part is in
//! exactly one place: an outlet, a message to the machine's thread, or that thread's lists.
//!
//! A request is answered when its last part has ended, on whatever thread that was.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use dmremap_core::path::Route;
use dmremap_core::pieces::BUCKET_SECTORS;
use dmremap_core::{Answer, Class, Dev, Done, Failure, FlushCounts, Kind, Millis, Op, OpKind};
use dmremap_format::{PAGE_BYTES, SECTOR_BYTES, UNIT_SECTORS};

use crate::device::{Device, Manner, zero_by_writing};

use super::client::FlushWait;
use super::lane::Lane;
use super::logic::{Fast, Logic};
use super::outlet::Outlet;
use super::request::Part;

/// Threads a device for the machine's operations: as many as it can have out at once.
const RECOVERY_THREADS: usize = 96;

/// Begins a message under a handle.
pub(crate) type Begin<L> = Box<dyn FnOnce(&mut L, u64, Millis) + Send>;
/// Looks at the machine.
pub(crate) type Question<L> = Box<dyn FnOnce(&mut L, Millis) + Send>;
/// Hears how a message ended.
pub(crate) type ActDone = Box<dyn FnOnce(Done) + Send>;

/// What the machine's thread is told.
pub(crate) enum Message<L> {
    /// A submitted part failed.
    Failed(Part, Failure),
    /// A part met an obstacle.
    Parked(Part),
    /// A part has waited for its turn.
    Onward(Part),
    /// An operation of the machine was answered; what it read.
    Answered(Op, Answer, Vec<u8>),
    /// Somebody a grace waits for has come back.
    Grace,
    /// A client's flush.
    Flush(FlushWait, FlushCounts),
    /// A message that takes time: to be begun under the handle given, answered with how it ended.
    Act(Begin<L>, ActDone),
    /// A question.
    Ask(Question<L>),
    /// Close: everything that came in has been answered. Told whether it was clean.
    Close(Sender<bool>),
    /// Stop at once, as a killed process does.
    Abandon,
}

impl<L> Message<L> {
    /// Nobody will take it: whoever waits hears that the volume is gone.
    pub(crate) fn refuse(self) {
        match self {
            Message::Failed(part, _) | Message::Parked(part) | Message::Onward(part) => {
                part.end(Err(Class::Offline));
            }
            Message::Flush(wait, _) => (wait.done)(Err(Class::Offline)),
            _ => {}
        }
    }
}

/// What every thread of a volume works with.
pub(crate) struct Context<F, L> {
    pub(crate) fast: F,
    /// Main, then the spares by member row.
    pub(crate) devices: Vec<Arc<dyn Device>>,
    inbox: Sender<Message<L>>,
    start: Instant,
}

/// A submission to a device.
pub(crate) struct Io<F: Fast> {
    pub(crate) part: Part,
    ticket: F::Ticket,
    dev: Dev,
    sector: u64,
    /// A write-zeroes may have become a write.
    pub(crate) kind: Kind,
    /// Of zeroes and discards: what follows once this has been answered. They may be as large as a
    /// disk, and would else fill the queue that others wait in.
    rest: Option<Part>,
}

impl<F: Fast> Io<F> {
    /// Where on the device, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.sector * SECTOR_BYTES
    }
}

/// An operation of the machine with its bytes: to write, or to compare with.
pub(crate) struct Operation {
    pub(crate) op: Op,
    pub(crate) bytes: Vec<u8>,
}

/// A volume's threads but the machine's.
pub(crate) struct Driver<F: Fast, L: Logic> {
    pub(crate) context: Arc<Context<F, L>>,
    requests: Vec<Outlet<F, L>>,
    recovery: Vec<Lane<Operation>>,
}

fn row(dev: Dev) -> usize {
    match dev {
        Dev::Main => 0,
        Dev::Spare(member) => usize::from(member) + 1,
    }
}

impl<F: Fast, L: Logic> Context<F, L> {
    pub(crate) fn new(
        fast: F,
        devices: Vec<Arc<dyn Device>>,
        inbox: Sender<Message<L>>,
        start: Instant,
    ) -> Context<F, L> {
        Context { fast, devices, inbox, start }
    }

    /// Milliseconds since the volume was opened.
    pub(crate) fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as Millis
    }

    pub(crate) fn tell(&self, message: Message<L>) {
        if let Err(unsent) = self.inbox.send(message) {
            unsent.0.refuse();
        }
    }

    fn give_back(&self, ticket: F::Ticket) {
        if self.fast.end(ticket) {
            self.tell(Message::Grace);
        }
    }

    /// Carries a submission out, on a thread that may wait.
    pub(crate) fn run(&self, mut io: Io<F>) {
        let begun = Instant::now();
        let result = match self.devices.get(row(io.dev)) {
            Some(device) => transfer(&**device, &mut io),
            None => Err(Class::Offline),
        };
        self.answered(io, result, Some(begun));
    }

    /// The device has answered a submission, and does not touch its memory any more. It was begun
    /// then; not known of what took no time.
    pub(crate) fn answered(&self, io: Io<F>, result: Result<(), Class>, begun: Option<Instant>) {
        let Io { part, ticket, dev, sector, rest, .. } = io;
        if let (true, Dev::Spare(_)) = (part.kind().changes(), dev) {
            // Before the answer is passed on: a flush that begins later must cover it.
            self.fast.written(dev);
        }
        self.give_back(ticket);
        if let Some(rest) = rest {
            self.tell(Message::Onward(rest));
        }
        match result {
            Ok(()) => part.end(Ok(())),
            Err(class) => {
                let took_ms = begun.map_or(0, |begun| begun.elapsed().as_millis());
                let took_ms = took_ms.try_into().unwrap_or(u32::MAX);
                self.tell(Message::Failed(part, Failure { dev, sector, class, took_ms }));
            }
        }
    }

    /// Carries an operation of the machine out, on a thread of its lane.
    fn operate(&self, operation: Operation) {
        let Operation { op, mut bytes } = operation;
        let answer = match self.devices.get(row(op.dev)) {
            Some(device) => carry_out(&**device, &op, &mut bytes),
            None => Answer::Failed(Class::Offline),
        };
        self.tell(Message::Answered(op, answer, bytes));
    }
}

/// Of how many sectors a route speaks.
fn length(route: &Route) -> u64 {
    match *route {
        Route::Submit { sectors, .. }
        | Route::Machine { sectors }
        | Route::Skip { sectors }
        | Route::Fail { sectors, .. } => sectors,
    }
}

/// One submission at its device.
fn transfer<F: Fast>(device: &dyn Device, io: &mut Io<F>) -> Result<(), Class> {
    let (offset, fua) = (io.offset(), io.part.fua());
    let len = u64::from(io.part.sectors()) * SECTOR_BYTES;
    match io.kind {
        Kind::Read => device.read_at(io.part.bytes_mut(), offset),
        Kind::Write if io.part.kind() == Kind::WriteZeroes => {
            zero_by_writing(device, offset, len, fua)
        }
        Kind::Write => device.write_at(io.part.bytes(), offset, fua),
        Kind::WriteZeroes => device.write_zeroes(offset, len, fua),
        Kind::Discard => device.discard(offset, len),
    }
}

/// One operation of the machine at one device.
fn carry_out(device: &dyn Device, op: &Op, bytes: &mut Vec<u8>) -> Answer {
    let (offset, len) = (op.sector * SECTOR_BYTES, op.sectors as usize * SECTOR_BYTES as usize);
    let result = match op.kind {
        OpKind::Read { .. } | OpKind::ReadPage | OpKind::Probe => {
            bytes.resize(len, 0);
            device.read_uncached(bytes, offset)
        }
        OpKind::Write { fua, .. } => device.write_at(bytes, offset, fua),
        OpKind::WritePage => device.write_at(bytes, offset, false),
        OpKind::Verify { .. } => {
            let mut stored = vec![0; len];
            match device.read_uncached(&mut stored, offset) {
                Ok(()) if stored != *bytes => return Answer::Differs,
                other => other,
            }
        }
        OpKind::Flush => device.flush(),
    };
    result.map_or_else(Answer::Failed, |()| Answer::Good)
}

impl<F: Fast, L: Logic> Driver<F, L> {
    /// Starts what every device of `context` needs; requests go in the devices' own manner unless
    /// `manner` says another.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        context: Arc<Context<F, L>>,
        manner: Option<Manner>,
    ) -> std::io::Result<Driver<F, L>> {
        let (mut requests, mut recovery) = (Vec::new(), Vec::new());
        for row in 0..context.devices.len() {
            requests.push(Outlet::new(&context, row, manner)?);
            let work = Arc::clone(&context);
            let name = format!("dmr-fix-{row}");
            recovery.push(Lane::new(name, RECOVERY_THREADS, move |op| work.operate(op))?);
        }
        Ok(Driver { context, requests, recovery })
    }

    /// Sends a part, and everything behind it, on its way.
    pub(crate) fn submit(&self, mut part: Part) {
        loop {
            let in_bucket = BUCKET_SECTORS - part.sector() % BUCKET_SECTORS;
            let reach = u64::from(part.sectors()).min(in_bucket);
            let (ticket, route) = self.context.fast.route(part.kind(), part.sector(), reach);
            let rest = part.cut(length(&route).clamp(1, reach) as u32);
            match self.dispatch(part, rest, ticket, route) {
                Some(rest) => part = rest,
                None => return,
            }
        }
    }

    /// Sends a part to where it has to go; what is left of `rest` to be sent now.
    fn dispatch(
        &self,
        part: Part,
        mut rest: Option<Part>,
        ticket: F::Ticket,
        route: Route,
    ) -> Option<Part> {
        match route {
            Route::Submit { dev, sector, kind, .. } => match self.requests.get(row(dev)) {
                Some(outlet) => {
                    let in_turn = matches!(part.kind(), Kind::WriteZeroes | Kind::Discard);
                    let after = if in_turn { rest.take() } else { None };
                    outlet.push(Io { part, ticket, dev, sector, kind, rest: after });
                }
                None => {
                    self.context.give_back(ticket);
                    part.end(Err(Class::Offline));
                }
            },
            Route::Machine { .. } => {
                self.context.give_back(ticket);
                self.context.tell(Message::Parked(part));
            }
            Route::Skip { .. } => {
                self.context.give_back(ticket);
                part.end(Ok(()));
            }
            Route::Fail { class, .. } => {
                self.context.give_back(ticket);
                part.end(Err(class));
            }
        }
        rest
    }

    /// Submits every unit of a part by itself.
    pub(crate) fn submit_units(&self, mut part: Part) {
        loop {
            let in_unit = UNIT_SECTORS - part.sector() % UNIT_SECTORS;
            let rest = part.cut(u64::from(part.sectors()).min(in_unit) as u32);
            self.submit(part);
            match rest {
                Some(rest) => part = rest,
                None => return,
            }
        }
    }

    /// Sends an operation of the machine to its device.
    pub(crate) fn operate(&self, operation: Operation) {
        match self.recovery.get(row(operation.op.dev)) {
            Some(lane) => lane.push(operation),
            None => {
                let failed = Answer::Failed(Class::Offline);
                self.context.tell(Message::Answered(operation.op, failed, Vec::new()));
            }
        }
    }

    /// How requests reach each device.
    pub(crate) fn manners(&self) -> Vec<Manner> {
        self.requests.iter().map(Outlet::manner).collect()
    }

    /// Ends the devices' threads: waits for what is at the devices, and for nothing else.
    pub(crate) fn stop(&self) {
        self.requests.iter().for_each(Outlet::close);
        self.recovery.iter().for_each(Lane::close);
    }
}

const _: () = assert!(PAGE_BYTES as u64 == UNIT_SECTORS * SECTOR_BYTES);
