// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a connection's reader, its writer and the export's threads share: the queue of replies to
//! send, the credits, and how the connection ends.
//!
//! A request takes its credit (one request, and its data's bytes) before any memory is taken for it
//! and gives it back when its reply has been sent or dropped. It is *owed* from just before it is
//! submitted until then: a shutdown waits for what is owed, not for a client that is slowly sending
//! a payload.
//!
//! A connection ends in one of three ways. The reader has met the end of the stream, DISC or
//! something it cannot follow ([`Link::drain`]): what was submitted is answered and sent, then it
//! closes. The server stops ([`Link::stop`]): new requests are answered `ESHUTDOWN`, and it closes
//! as soon as nothing is owed. Or it is closed at once ([`Link::close`]): after a failed send, or
//! past a shutdown's limit; queued replies are dropped and so is every later one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Buffer;
use crate::export::{Done, Errno, Reply};
use crate::protocol::{MAX_REQUEST_BYTES, SIMPLE_REPLY_BYTES, encode_simple_reply};
use crate::transport::Control;

/// Replies sent together at most; each is up to two slices of a gathered send.
const BATCH: usize = 64;

/// Credits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credits {
    pub requests: u32,
    pub bytes: u64,
}

/// A credit taken; it must be given back through a [`Frame`] or [`Link::release`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    bytes: u64,
}

/// One reply ready for the wire.
pub(crate) struct Frame {
    pub head: [u8; SIMPLE_REPLY_BYTES],
    pub payload: Buffer,
    credit: Credit,
    owed: bool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Frame>,
    requests: u32,
    bytes: u64,
    owed: u32,
    stopping: bool,
    draining: bool,
    closed: bool,
}

/// The link. Each condition has one waiter.
pub(crate) struct Link {
    credits: Credits,
    control: Box<dyn Control>,
    state: Mutex<State>,
    /// The reader waits for a credit, or for the last request to end.
    room: Condvar,
    /// The writer waits for replies.
    work: Condvar,
}

impl Link {
    pub fn new(credits: Credits, control: Box<dyn Control>) -> Link {
        let bytes = credits.bytes.max(u64::from(MAX_REQUEST_BYTES));
        let credits = Credits { requests: credits.requests.max(1), bytes };
        let state = Mutex::new(State::default());
        Link { credits, control, state, room: Condvar::new(), work: Condvar::new() }
    }

    pub fn control(&self) -> &dyn Control {
        &*self.control
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a credit for one request with `bytes` of data, at most [`MAX_REQUEST_BYTES`];
    /// `None` when the connection is closed.
    pub fn admit(&self, bytes: u64) -> Option<Credit> {
        let mut state = self.lock();
        while !state.closed
            && (state.requests >= self.credits.requests || state.bytes + bytes > self.credits.bytes)
        {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        state.requests += 1;
        state.bytes += bytes;
        Some(Credit { bytes })
    }

    /// Gives back a credit whose request came to nothing.
    pub fn release(&self, credit: Credit) {
        let mut state = self.lock();
        give_back(&mut state, credit, false);
        self.room.notify_one();
    }

    /// The request is about to be submitted. Refused once the server stops or the client is gone.
    pub fn begin(&self) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.stopping || state.closed {
            return Err(Errno::ESHUTDOWN);
        }
        state.owed += 1;
        Ok(())
    }

    /// Answers a request that was not submitted with the error number `wire`.
    pub fn refuse(&self, cookie: u64, credit: Credit, wire: u32) {
        let head = encode_simple_reply(cookie, wire);
        self.push(Frame { head, payload: Buffer::default(), credit, owed: false });
    }

    /// What the export answers a request through after [`Link::begin`]. `read_bytes` is the length
    /// of a read and 0 for everything else.
    pub fn done(self: &Arc<Link>, cookie: u64, credit: Credit, read_bytes: u32) -> Done {
        let mut answer = Answer { link: Arc::clone(self), cookie, credit, read_bytes, sent: false };
        Box::new(move |reply| answer.send(reply))
    }

    fn push(&self, frame: Frame) {
        let mut state = self.lock();
        if state.closed {
            give_back(&mut state, frame.credit, frame.owed);
            self.room.notify_one();
        } else {
            state.queue.push_back(frame);
            self.work.notify_one();
        }
    }

    /// The next replies to send, in order; empty when there will be none any more.
    pub fn next_batch(&self, batch: &mut Vec<Frame>) {
        let mut state = self.lock();
        while state.queue.is_empty() && !state.closed {
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let take = state.queue.len().min(BATCH);
        batch.extend(state.queue.drain(..take));
    }

    /// The replies of `batch` are on the wire (or lost with a closed connection).
    pub fn sent(&self, batch: &mut Vec<Frame>) {
        let mut state = self.lock();
        for frame in batch.iter() {
            give_back(&mut state, frame.credit, frame.owed);
        }
        if state.stopping && state.owed == 0 {
            self.close_locked(&mut state);
        }
        self.room.notify_one();
        drop(state);
        batch.clear();
    }

    /// The reader reads no more: waits until everything admitted has been sent or dropped, then
    /// closes.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        while state.requests > 0 {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        for frame in std::mem::take(&mut state.queue) {
            give_back(state, frame.credit, frame.owed);
        }
        self.control.close();
        self.room.notify_one();
        self.work.notify_one();
    }
}

fn give_back(state: &mut State, credit: Credit, owed: bool) {
    state.requests -= 1;
    state.bytes -= credit.bytes;
    state.owed -= u32::from(owed);
}

/// A submitted request's answer. Dropped unsent it answers `EIO`.
struct Answer {
    link: Arc<Link>,
    cookie: u64,
    credit: Credit,
    read_bytes: u32,
    sent: bool,
}

impl Answer {
    fn send(&mut self, reply: Reply) {
        self.sent = true;
        let mut payload = Buffer::default();
        let wire = match reply.result {
            Ok(()) if self.read_bytes == 0 => 0,
            Ok(()) if reply.data.len() == self.read_bytes as usize => {
                payload = reply.data;
                0
            }
            Ok(()) => {
                tracing::error!(
                    "the export answered a read of {} bytes with {}; the client is told EIO",
                    self.read_bytes,
                    reply.data.len()
                );
                Errno::EIO.wire()
            }
            Err(error) => error.wire(),
        };
        let head = encode_simple_reply(self.cookie, wire);
        self.link.push(Frame { head, payload, credit: self.credit, owed: true });
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
