// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The thread that drives the machine: tells it what happened, carries out what it asks.
//!
//! It never waits for a device. Its lists hold the parts that are not on their way: `held` by a job
//! of the machine, `waiting` until the machine has let something go, `timed` until a time. The
//! machine's unit buffers live here and nowhere else; operations carry copies.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dmremap_core::{
    Action, Answer, Class, Disposition, Event, Failure, FlushCounts, Kind, Millis, Op, OpId,
    OpKind, Outcome, Piece,
};
use dmremap_format::{PAGE_BYTES, PageBytes, SECTOR_BYTES, UNIT_SECTORS};

use super::client::FlushWait;
use super::driver::{ActDone, Driver, Message, Operation};
use super::logic::{Fast, Logic};
use super::request::{BadRun, Part};

/// 2020-01-01, where the slots' seconds begin, in seconds since 1970.
const EPOCH_2020_S: u64 = 1_577_836_800;
/// Messages taken before the machine's clock is looked at again.
const BATCH: usize = 64;

/// The machine's thread.
pub(crate) struct Brain<F: Fast, L: Logic> {
    pub(crate) logic: L,
    pub(crate) driver: Arc<Driver<F, L>>,
    pub(crate) inbox: Receiver<Message<L>>,
    pub(crate) on_event: Box<dyn Fn(Event) + Send>,
    lists: Lists,
    buffers: Vec<Box<PageBytes>>,
    closing: Closing,
}

/// Everything that is not on its way.
#[derive(Default)]
struct Lists {
    /// By request and sector.
    held: BTreeMap<(u64, u64), Part>,
    waiting: Vec<(Part, Option<Failure>)>,
    timed: Vec<(Millis, Part)>,
    /// The machine's count of wakes when `waiting` was last presented.
    wakes: u64,
    flushes: HashMap<u64, FlushWait>,
    /// Flushes the machine had no place for, and whether one has become free since.
    flushes_waiting: VecDeque<(u64, FlushCounts)>,
    flush_ended: bool,
    acts: HashMap<u64, ActDone>,
    last_id: u64,
}

enum Closing {
    No,
    /// The machine is closing.
    Sealing(Sender<bool>),
    Over,
}

impl<F: Fast, L: Logic> Brain<F, L> {
    /// A thread's worth of state, with `buffers` unit buffers: as many as the machine has jobs.
    pub(crate) fn new(
        logic: L,
        driver: Arc<Driver<F, L>>,
        inbox: Receiver<Message<L>>,
        buffers: usize,
        on_event: Box<dyn Fn(Event) + Send>,
    ) -> Brain<F, L> {
        let buffers = (0..buffers).map(|_| Box::new([0; PAGE_BYTES])).collect();
        let lists = Lists { wakes: logic.wakes(), ..Lists::default() };
        Brain { logic, driver, inbox, on_event, lists, buffers, closing: Closing::No }
    }

    /// Runs until the volume is closed or abandoned, and hands the machine back.
    pub(crate) fn run(mut self) -> L {
        self.act();
        while !matches!(self.closing, Closing::Over) {
            match self.inbox.recv_timeout(self.patience()) {
                Ok(message) => {
                    self.take(message);
                    for _ in 1..BATCH {
                        match self.inbox.try_recv() {
                            Ok(message) => self.take(message),
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.on_time();
            self.on_wakes();
            self.on_close();
        }
        self.give_up();
        self.logic
    }

    fn now(&self) -> Millis {
        self.driver.context.now()
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Duration {
        let flushes = self.lists.flush_ended && !self.lists.flushes_waiting.is_empty();
        if flushes || self.logic.wakes() != self.lists.wakes {
            return Duration::ZERO;
        }
        let limit = self.logic.limit_ms();
        let waits = self.lists.waiting.iter().filter_map(|(part, _)| part.piece().since);
        let next = waits
            .map(|since| since.saturating_add(limit))
            .chain(self.lists.timed.iter().map(|(at, _)| *at))
            .chain(self.logic.next_deadline())
            .min();
        match next {
            Some(at) => Duration::from_millis(at.saturating_sub(self.now())),
            None => Duration::from_secs(3600),
        }
    }

    fn take(&mut self, message: Message<L>) {
        let now = self.now();
        match message {
            Message::Failed(part, failure) => self.present(part, Some(failure)),
            Message::Parked(part) => self.present(part, None),
            Message::Onward(part) => self.driver.submit(part),
            Message::Answered(op, answer, bytes) => self.answered(&op, answer, &bytes),
            Message::Grace => self.logic.grace_tick(now),
            Message::Flush(wait, told) => {
                let id = self.fresh_id();
                self.lists.flushes.insert(id, wait);
                if !self.logic.flush(id, told, now) {
                    self.lists.flushes_waiting.push_back((id, told));
                }
            }
            Message::Act(begin, done) => {
                let id = self.fresh_id();
                self.lists.acts.insert(id, done);
                begin(&mut self.logic, id, now);
            }
            Message::Ask(question) => question(&mut self.logic, now),
            Message::Close(reply) => {
                self.closing = Closing::Sealing(reply);
                self.logic.close(now);
            }
            Message::Abandon => self.closing = Closing::Over,
        }
        self.act();
    }

    fn fresh_id(&mut self) -> u64 {
        self.lists.last_id += 1;
        self.lists.last_id
    }

    /// Hands a part to the machine and does what it says.
    fn present(&mut self, part: Part, failure: Option<Failure>) {
        let now = self.now();
        let lists = &mut self.lists;
        part.meet(now, || {
            lists.last_id += 1;
            lists.last_id
        });
        let piece = part.piece();
        let disposition = match &failure {
            Some(failure) => self.logic.failed(&piece, failure, now),
            None => self.logic.park(&piece, now),
        };
        match disposition {
            Disposition::Taken => {
                self.lists.held.insert((piece.request, piece.sector), part);
            }
            Disposition::Again => self.driver.submit(part),
            Disposition::Wait => self.lists.waiting.push((part, failure)),
            Disposition::RetryAt(at) => self.lists.timed.push((at, part)),
            Disposition::Split => self.driver.submit_units(part),
            Disposition::Fail(class) => part.end(Err(class)),
            Disposition::Done => part.end(Ok(())),
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self) {
        let now = self.now();
        if self.logic.next_deadline().is_some_and(|at| at <= now) {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            self.logic.tick(now, wall.saturating_sub(EPOCH_2020_S).try_into().unwrap_or(u32::MAX));
            self.act();
        }
        let due: Vec<Part> =
            take_if(&mut self.lists.timed, |(at, _)| *at <= now).map(|(_, part)| part).collect();
        due.into_iter().for_each(|part| self.driver.submit(part));
        let limit = self.logic.limit_ms();
        let late = take_if(&mut self.lists.waiting, |(part, _)| {
            part.piece().since.is_some_and(|since| since.saturating_add(limit) <= now)
        });
        self.present_all(late.collect());
    }

    /// What waited for something to be let go.
    fn on_wakes(&mut self) {
        let wakes = self.logic.wakes();
        let woken = wakes != self.lists.wakes;
        if woken {
            self.lists.wakes = wakes;
            let waiting = std::mem::take(&mut self.lists.waiting);
            self.present_all(waiting);
        }
        if std::mem::take(&mut self.lists.flush_ended) || woken {
            self.present_flushes();
        }
    }

    fn present_all(&mut self, parts: Vec<(Part, Option<Failure>)>) {
        for (part, failure) in parts {
            self.present(part, failure);
            self.act();
        }
    }

    fn present_flushes(&mut self) {
        let now = self.now();
        while let Some((id, told)) = self.lists.flushes_waiting.pop_front() {
            if !self.logic.flush(id, told, now) {
                self.lists.flushes_waiting.push_front((id, told));
                break;
            }
        }
        self.act();
    }

    fn on_close(&mut self) {
        if let (Closing::Sealing(reply), Some(clean)) = (&self.closing, self.logic.closed()) {
            let _ = reply.send(clean);
            self.closing = Closing::Over;
        }
    }

    /// Nobody will be answered by the machine any more.
    fn give_up(&mut self) {
        let lists = std::mem::take(&mut self.lists);
        let held = lists.held.into_values().chain(lists.waiting.into_iter().map(|(part, _)| part));
        for part in held.chain(lists.timed.into_iter().map(|(_, part)| part)) {
            part.end(Err(Class::Offline));
        }
        for wait in lists.flushes.into_values() {
            (wait.done)(Err(Class::Offline));
        }
        while let Ok(message) = self.inbox.try_recv() {
            message.refuse();
        }
    }

    /// Carries out what the machine asks, in order.
    fn act(&mut self) {
        while let Some(action) = self.logic.next_action() {
            match action {
                Action::Io(op) => self.operate(op),
                Action::CopyIn { buffer, piece } => self.copy_in(buffer, &piece),
                Action::Complete { buffer, piece, outcome } => {
                    self.complete(buffer, &piece, outcome);
                }
                Action::Again { piece, at } => {
                    if let Some(part) = self.lists.held.remove(&(piece.request, piece.sector)) {
                        self.again(part, at);
                    }
                }
                Action::Verdict { request } => {
                    let all = (request, 0)..=(request, u64::MAX);
                    if let Some((_, part)) = self.lists.held.range(all).next() {
                        part.set_verdict();
                    }
                }
                Action::Flushed { id, outcome, failures } => {
                    if let Some(wait) = self.lists.flushes.remove(&id) {
                        wait.end(outcome, failures);
                    }
                    self.lists.flush_ended = true;
                }
                Action::Reply { id, outcome } => {
                    if let Some(done) = self.lists.acts.remove(&id) {
                        done(outcome);
                    }
                }
                Action::Event(event) => (self.on_event)(event),
            }
        }
    }

    fn again(&mut self, part: Part, at: Millis) {
        if at <= self.now() {
            self.driver.submit(part);
        } else {
            self.lists.timed.push((at, part));
        }
    }

    /// Sends an operation off with a copy of what it writes or compares with.
    fn operate(&mut self, op: Op) {
        let mut bytes = Vec::new();
        match op.kind {
            OpKind::Write { buffer, offset, .. } | OpKind::Verify { buffer, offset } => {
                let len = op.sectors as usize * SECTOR_BYTES as usize;
                if let Some(content) = slice(&mut self.buffers, buffer, offset.into(), len) {
                    bytes.extend_from_slice(content);
                }
            }
            OpKind::WritePage => bytes = self.page_image(op.id),
            _ => {}
        }
        self.driver.operate(Operation { op, bytes });
    }

    fn page_image(&self, id: OpId) -> Vec<u8> {
        let mut page = Box::new([0; PAGE_BYTES]);
        self.logic.page_image(id, &mut page);
        page.to_vec()
    }

    fn answered(&mut self, op: &Op, answer: Answer, bytes: &[u8]) {
        let now = self.now();
        let mut page = None;
        match (op.kind, answer) {
            (OpKind::Read { buffer, offset }, Answer::Good) => {
                if let Some(place) = slice(&mut self.buffers, buffer, offset.into(), bytes.len()) {
                    place.copy_from_slice(bytes);
                }
            }
            (OpKind::ReadPage, Answer::Good) => page = bytes.try_into().ok(),
            _ => {}
        }
        self.logic.answered(op.id, answer, page, now);
    }

    fn copy_in(&mut self, buffer: u16, piece: &Piece) {
        let (offset, len) = place_in_unit(piece);
        let part = self.lists.held.get(&(piece.request, piece.sector));
        let place = slice(&mut self.buffers, buffer, offset, len);
        match (part, place) {
            (_, Some(place)) if piece.kind == Kind::WriteZeroes => place.fill(0),
            (Some(part), Some(place)) => {
                if let Some(bytes) = part.bytes().get(..len) {
                    place.copy_from_slice(bytes);
                }
            }
            _ => {}
        }
    }

    fn complete(&mut self, buffer: u16, piece: &Piece, outcome: Outcome) {
        let Some(mut part) = self.lists.held.remove(&(piece.request, piece.sector)) else { return };
        let block_sectors = self.driver.context.fast.block_sectors();
        let bad = match outcome {
            Outcome::Good => Vec::new(),
            Outcome::Failed(class) => return part.end(Err(class)),
            Outcome::Unreadable(blocks) => bad_blocks(piece, blocks, block_sectors),
        };
        if piece.kind == Kind::Read {
            let (offset, len) = place_in_unit(piece);
            if let Some(content) = slice(&mut self.buffers, buffer, offset, len) {
                store_good(&mut part, content, &bad);
            }
        }
        part.end_with(bad);
    }
}

/// Where a piece's bytes lie in its unit buffer: offset and length.
fn place_in_unit(piece: &Piece) -> (usize, usize) {
    let offset = piece.sector % UNIT_SECTORS * SECTOR_BYTES;
    (offset as usize, (u64::from(piece.sectors) * SECTOR_BYTES) as usize)
}

fn slice(
    buffers: &mut [Box<PageBytes>],
    buffer: u16,
    offset: usize,
    len: usize,
) -> Option<&mut [u8]> {
    buffers.get_mut(usize::from(buffer))?.get_mut(offset..offset.checked_add(len)?)
}

/// The runs of the piece that the mask (bit i = block i of the unit) names.
fn bad_blocks(piece: &Piece, blocks: u8, block_sectors: u32) -> Vec<BadRun> {
    let unit = piece.sector - piece.sector % UNIT_SECTORS;
    let end = piece.sector + u64::from(piece.sectors);
    (0..8u64)
        .filter(|block| blocks & (1 << block) != 0)
        .map(|block| unit + block * u64::from(block_sectors))
        .filter(|sector| (piece.sector..end).contains(sector))
        .map(|sector| BadRun { sector, sectors: block_sectors, class: Class::Medium })
        .collect()
}

/// Hands a part what was read of it. What lies in the buffer for a block that could not be read is
/// somebody else's.
fn store_good(part: &mut Part, content: &[u8], bad: &[BadRun]) {
    let sector_bytes = SECTOR_BYTES as usize;
    let first = part.sector();
    let places = part.bytes_mut().chunks_exact_mut(sector_bytes);
    for ((sector, place), bytes) in (first..).zip(places).zip(content.chunks_exact(sector_bytes)) {
        let is_bad =
            |run: &BadRun| (run.sector..run.sector + u64::from(run.sectors)).contains(&sector);
        if !bad.iter().any(is_bad) {
            place.copy_from_slice(bytes);
        }
    }
}

/// Takes out of `list` what `wanted` names, and keeps the order of both.
fn take_if<T>(list: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> std::vec::IntoIter<T> {
    let (taken, kept): (Vec<T>, Vec<T>) = std::mem::take(list).into_iter().partition(wanted);
    *list = kept;
    taken.into_iter()
}
