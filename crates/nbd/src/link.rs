// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a connection's reader, its writer and the export's threads share: the queue of replies to
//! send, the credits, and how the connection ends.
//!
//! A request takes its credit (one request, and its data's bytes) before any memory is taken for it
//! and gives it back when its reply has been sent or dropped. It is *owed* from just before it is
//! submitted until then: a shutdown waits for what is owed, not for a client that is slowly sending
//! a payload.
//!
//! Replies leave in the order of the queue. Whoever sends has taken the front of the queue and set
//! `sending`; the one who finds it set leaves its replies to that thread, which looks at the queue
//! again before it rests. Two threads send. The *writer* waits for the client as long as it takes.
//! The *reader* sends what was answered on its own thread, before it goes to wait for the client,
//! and never waits in a send: what the socket does not take at once is the writer's. So an export
//! that answers at once costs no other thread's waking, an answer on any other thread wakes the
//! writer, and a client that does not fetch its replies stops nobody but, in the end, its own
//! reader.
//!
//! A connection ends in one of three ways. The reader has met the end of the stream, DISC or
//! something it cannot follow ([`Link::drain`]): what was submitted is answered and sent, then it
//! closes. The server stops ([`Link::stop`]): new requests are answered `ESHUTDOWN`, and it closes
//! as soon as nothing is owed. Or it is closed at once ([`Link::close`]): after a failed send, or
//! past a shutdown's limit; queued replies are dropped and so is every later one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::export::{Done, Errno, Reply};
use crate::protocol::MAX_REQUEST_BYTES;
use crate::reply::{self, Asked, Frame};
use crate::transport::Control;

/// Replies sent together at most; each is up to two slices of a gathered send. And their bytes,
/// unless the first one alone has more: their memory is free for the next request when all of them
/// are sent.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// With more than this to be sent no further part of a long read is begun: what waits longer has
/// left the processor's cache by the time it is sent, and the client has enough to do.
const BACKLOG_BYTES: usize = 1 << 20;
/// From so many queued replies or bytes on the reader sends before it takes the next request: a
/// small batch is still in the processor's cache, and the client begins sooner.
const ENOUGH_FRAMES: usize = 32;
const ENOUGH_BYTES: usize = 128 << 10;

/// Credits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credits {
    pub requests: u32,
    pub bytes: u64,
}

/// A credit taken; it goes back with the frames of the reply, or through [`Link::release`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    requests: u32,
    bytes: u64,
    owed: u32,
}

/// A frame in the queue, with what its sending gives back.
struct Queued {
    frame: Frame,
    credit: Credit,
}

/// Frames taken off the queue to be sent, oldest first.
#[derive(Default)]
pub(crate) struct Batch {
    frames: VecDeque<Queued>,
    /// Bytes of the first frame that are on the wire already.
    sent: usize,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What is left to send: the parts of every frame in turn.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        let parts = self.frames.iter().flat_map(|q| [q.frame.head(), q.frame.payload()]);
        parts.filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let rest = &part[skipped..];
            (!rest.is_empty()).then_some(rest)
        })
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// Bytes of the first frame in the queue that are on the wire already.
    sent: usize,
    queued_bytes: usize,
    /// Bytes of what has been taken to be sent.
    sending_bytes: usize,
    /// A thread has taken replies and sends them.
    sending: bool,
    requests: u32,
    bytes: u64,
    owed: u32,
    stopping: bool,
    draining: bool,
    closed: bool,
    reader_waits: bool,
    writer_waits: bool,
}

/// The link. Each condition has one waiter.
pub(crate) struct Link {
    credits: Credits,
    control: Box<dyn Control>,
    reader: ThreadId,
    state: Mutex<State>,
    /// The reader waits for a credit, or for the last request to end.
    room: Condvar,
    /// The writer waits for replies.
    work: Condvar,
}

impl Link {
    /// A link whose reader is the calling thread.
    pub fn new(credits: Credits, control: Box<dyn Control>) -> Link {
        let bytes = credits.bytes.max(u64::from(MAX_REQUEST_BYTES));
        let credits = Credits { requests: credits.requests.max(1), bytes };
        let state = Mutex::new(State::default());
        let (room, work) = (Condvar::new(), Condvar::new());
        Link { credits, control, reader: thread::current().id(), state, room, work }
    }

    pub fn control(&self) -> &dyn Control {
        &*self.control
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A credit for one request with `bytes` of data, at most [`MAX_REQUEST_BYTES`], if there is
    /// room.
    pub fn try_admit(&self, bytes: u64) -> Option<Credit> {
        self.take_credit(&mut self.lock(), bytes)
    }

    fn take_credit(&self, state: &mut State, bytes: u64) -> Option<Credit> {
        let room =
            state.requests < self.credits.requests && state.bytes + bytes <= self.credits.bytes;
        if state.closed || !room {
            return None;
        }
        state.requests += 1;
        state.bytes += bytes;
        Some(Credit { requests: 1, bytes, owed: 0 })
    }

    /// Waits for a credit; `None` when the connection is closed.
    pub fn admit(&self, bytes: u64) -> Option<Credit> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(credit) = self.take_credit(&mut state, bytes) {
                return Some(credit);
            }
            state = self.reader_rests(state);
        }
    }

    /// Waits until little enough is left to be sent for a long read to go on.
    pub fn wait_for_backlog(&self) {
        let mut state = self.lock();
        while !state.closed && state.queued_bytes + state.sending_bytes > BACKLOG_BYTES {
            state = self.reader_rests(state);
        }
    }

    /// The reader waits for something to be given back; what it has not sent is the writer's.
    fn reader_rests<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.wake_writer(&mut state);
        state.reader_waits = true;
        state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.reader_waits = false;
        state
    }

    /// Gives back a credit whose request came to nothing.
    pub fn release(&self, credit: Credit) {
        let mut state = self.lock();
        self.give_back(&mut state, credit);
    }

    /// The request is about to be submitted. Refused once the server stops or the client is gone.
    pub fn begin(&self, credit: &mut Credit) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.stopping || state.closed {
            return Err(Errno::ESHUTDOWN);
        }
        state.owed += 1;
        credit.owed = 1;
        Ok(())
    }

    /// Answers a whole request on the reader's own thread.
    pub fn answer(&self, asked: &Asked, credit: Credit, frame: Frame) {
        self.push(asked, frame, credit, None);
    }

    /// What the export answers a request through after [`Link::begin`].
    pub fn done(self: &Arc<Link>, asked: Asked, credit: Credit) -> Done {
        self.part_done(asked, credit, None)
    }

    /// What it answers one of several parts of a read through, with that part's share of the
    /// credit's bytes; the request's own credit goes back with the part that is answered last.
    pub fn part_done(
        self: &Arc<Link>,
        asked: Asked,
        credit: Credit,
        parts: Option<Arc<Parts>>,
    ) -> Done {
        let mut answer = Answer { link: Arc::clone(self), asked, credit, parts, sent: false };
        Box::new(move |reply| answer.send(reply))
    }

    fn push(&self, asked: &Asked, mut frame: Frame, mut credit: Credit, parts: Option<&Parts>) {
        let mut state = self.lock();
        // Under the lock: the part that ends the reply is the last one in the queue too.
        let last = parts.is_none_or(|parts| parts.left.fetch_sub(1, Ordering::Relaxed) == 1);
        if last {
            frame.end(asked);
            if let Some(parts) = parts {
                credit.requests = parts.credit.requests;
                credit.owed = parts.credit.owed;
            }
        }
        if state.closed {
            self.give_back(&mut state, credit);
            return;
        }
        state.queued_bytes += frame.len();
        state.queue.push_back(Queued { frame, credit });
        if thread::current().id() != self.reader {
            self.wake_writer(&mut state);
        }
    }

    fn wake_writer(&self, state: &mut State) {
        if state.writer_waits && !state.sending && !state.queue.is_empty() {
            state.writer_waits = false;
            self.work.notify_one();
        }
    }

    /// Whether the reader should send before it takes more requests.
    pub fn has_enough(&self) -> bool {
        let state = self.lock();
        state.queue.len() >= ENOUGH_FRAMES || state.queued_bytes >= ENOUGH_BYTES
    }

    fn take(state: &mut State) -> Batch {
        state.sending = true;
        let mut bytes = 0;
        let fits = |queued: &&Queued| {
            bytes += queued.frame.len();
            bytes <= BATCH_BYTES
        };
        let take = state.queue.iter().take(BATCH).take_while(fits).count();
        let take = take.max(state.queue.len().min(1));
        let frames: VecDeque<Queued> = if take == state.queue.len() {
            std::mem::take(&mut state.queue)
        } else {
            state.queue.drain(..take).collect()
        };
        state.sending_bytes = frames.iter().map(|q| q.frame.len()).sum();
        state.queued_bytes -= state.sending_bytes;
        Batch { frames, sent: std::mem::take(&mut state.sent) }
    }

    /// Replies for the reader to send; nothing while another thread sends, or on a closed
    /// connection.
    pub fn batch_now(&self) -> Option<Batch> {
        let mut state = self.lock();
        let idle = !state.sending && !state.closed && !state.queue.is_empty();
        idle.then(|| Link::take(&mut state))
    }

    /// Replies for the writer to send; empty when there will be none any more.
    pub fn next_batch(&self) -> Batch {
        let mut state = self.lock();
        while !state.closed && (state.sending || state.queue.is_empty()) {
            state.writer_waits = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.writer_waits = false;
        }
        if state.closed { Batch::default() } else { Link::take(&mut state) }
    }

    /// The first `bytes` bytes of `batch` are on the wire; the rest goes back to the front of the
    /// queue, for the writer.
    pub fn sent(&self, mut batch: Batch, bytes: usize) {
        let mut sent = batch.sent + bytes;
        let mut whole = 0;
        while let Some(first) = batch.frames.get(whole).filter(|q| q.frame.len() <= sent) {
            sent -= first.frame.len();
            whole += 1;
        }
        let mut state = self.lock();
        state.sending = false;
        state.sending_bytes = 0;
        for queued in batch.frames.iter().take(whole) {
            self.give_back(&mut state, queued.credit);
        }
        let rest = batch.frames.split_off(whole);
        if state.closed {
            rest.iter().for_each(|queued| self.give_back(&mut state, queued.credit));
        } else if !rest.is_empty() {
            state.sent = sent;
            state.queued_bytes += rest.iter().map(|q| q.frame.len()).sum::<usize>();
            for queued in rest.into_iter().rev() {
                state.queue.push_front(queued);
            }
            self.wake_writer(&mut state);
        }
        if state.stopping && state.owed == 0 {
            self.close_locked(&mut state);
        }
        drop(state);
        // The memory goes back to the pool outside the lock.
        drop(batch);
    }

    /// The reader reads no more: waits until everything admitted has been sent or dropped, then
    /// closes.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        while state.requests > 0 {
            state = self.reader_rests(state);
        }
        self.close_locked(&mut state);
    }

    /// Whether a send that makes no progress is worth repeating: not when the client has said its
    /// last word and does not fetch the answers.
    pub fn patient(&self) -> bool {
        let state = self.lock();
        !state.draining && !state.closed
    }

    /// No further request is submitted; closes as soon as nothing is owed.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        if state.owed == 0 {
            self.close_locked(&mut state);
        }
    }

    pub fn closed(&self) -> bool {
        self.lock().closed
    }

    /// Closes now, dropping every reply not yet sent.
    pub fn close(&self) {
        self.close_locked(&mut self.lock());
    }

    /// Requests submitted whose replies have not been sent or dropped.
    pub fn owed(&self) -> u32 {
        self.lock().owed
    }

    fn close_locked(&self, state: &mut State) {
        if state.closed {
            return;
        }
        state.closed = true;
        for queued in std::mem::take(&mut state.queue) {
            self.give_back(state, queued.credit);
        }
        self.control.close();
        self.room.notify_one();
        self.work.notify_one();
    }

    fn give_back(&self, state: &mut State, credit: Credit) {
        state.requests -= credit.requests;
        state.bytes -= credit.bytes;
        state.owed -= credit.owed;
        if state.reader_waits {
            self.room.notify_one();
        }
    }
}

/// A read that is answered in several parts.
pub(crate) struct Parts {
    left: AtomicU32,
    credit: Credit,
}

impl Parts {
    /// For a request of so many parts.
    pub fn new(parts: u32, credit: Credit) -> Arc<Parts> {
        Arc::new(Parts { left: AtomicU32::new(parts), credit })
    }

    /// The credit of a part with so many bytes.
    pub fn share(bytes: u32) -> Credit {
        Credit { bytes: u64::from(bytes), ..Credit::default() }
    }
}

/// A submitted request's answer. Dropped unsent it answers `EIO`.
struct Answer {
    link: Arc<Link>,
    asked: Asked,
    credit: Credit,
    parts: Option<Arc<Parts>>,
    sent: bool,
}

impl Answer {
    fn send(&mut self, reply: Reply) {
        self.sent = true;
        let frame = reply::answer(&self.asked, reply);
        self.link.push(&self.asked, frame, self.credit, self.parts.as_deref());
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.sent {
            tracing::error!("the export lost a request; the client is told EIO");
            self.send(Reply::failed(Errno::EIO));
        }
    }
}
