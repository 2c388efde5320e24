// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One client: its reader on the calling thread, its writer on a thread of its own.

use std::io::{self, BufReader, IoSlice, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Buffer;
use crate::buffer::Pool;
use crate::check::{self, Asks, Work};
use crate::export::{Command, Connection, Errno, Request};
use crate::handshake::{Chosen, Ended, Offer, negotiate, read_or_end, skip};
use crate::link::{Batch, Credit, Link, Parts};
use crate::protocol::{
    CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FUA, CMD_FLAG_REQ_ONE, CMD_READ, CMD_WRITE, REQUEST_BYTES,
    RequestHeader,
};
use crate::reply::{self, Asked};
use crate::server::End;
use crate::transport::Outgoing;

/// Taken off the socket at once; a longer payload goes straight to its own buffer.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// A longer read is cut at multiples of this if the client takes parts: the first ones are on their
/// way while the others are read, through memory that stays in the processor's cache.
const PART_BYTES: u32 = 256 << 10;
/// Most memory a connection keeps for its next requests.
const POOL_BYTES: usize = 16 << 20;
/// Most extents in one answer.
const MAX_EXTENTS: usize = 1024;

/// Serves one client from greeting to end, on this thread. `link` was made on it, with the control
/// of this stream.
pub(crate) fn serve(
    reader: Box<dyn Read + Send>,
    mut writer: Box<dyn Outgoing>,
    link: &Arc<Link>,
    offer: &Offer<'_>,
    times: Times,
) -> End {
    let timed = Timed { reader, link: Arc::clone(link), deadline: None, wire: None };
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, timed);
    reader.get_mut().deadline = Some(Instant::now() + times.handshake);
    link.control().set_write_timeout(Some(times.linger));
    let negotiated = negotiate(&mut reader, &mut writer, offer);
    reader.get_mut().lift_deadline();
    let chosen = match negotiated {
        Ok(chosen) => chosen,
        Err(ended) => {
            link.close();
            return match ended {
                Ended::Left => End::Left,
                Ended::Broken(how) => End::Broken(how),
                Ended::Stream(error) => End::Stream(error),
            };
        }
    };
    let wire = Wire { link: Arc::clone(link), stream: Arc::new(Mutex::new(writer)) };
    let sending = wire.clone();
    let spawned =
        thread::Builder::new().name("nbd-writer".into()).spawn(move || sending.send_until_closed());
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => {
            link.close();
            return End::Stream(error);
        }
    };
    reader.get_mut().wire = Some(wire.clone());
    // The guard runs even if the export panics: the client is not left hanging, nor the writer.
    let mut finish = Finish { link, thread: Some(thread), connection: None };
    let Chosen { info, connection, structured, allocation } = chosen;
    let session = Session {
        wire,
        asks: Asks { info, structured, allocation },
        connection: &mut **finish.connection.insert(connection),
        pool: Pool::new(POOL_BYTES),
    };
    session.transmit(reader)
}

/// Limits in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For the whole negotiation.
    pub handshake: Duration,
    /// For a client that has said its last word to fetch some more of its replies.
    pub linger: Duration,
}

/// A client in the transmission phase.
struct Session<'a> {
    wire: Wire,
    asks: Asks,
    connection: &'a mut dyn Connection,
    pool: Arc<Pool>,
}

impl Session<'_> {
    /// Reads requests until the client leaves.
    fn transmit(mut self, mut reader: BufReader<Timed>) -> End {
        loop {
            let mut bytes = [0; REQUEST_BYTES];
            match read_or_end(&mut reader, &mut bytes) {
                Ok(true) => {}
                _ if self.wire.link.closed() => return End::Closed,
                Ok(false) => return End::Left,
                Err(error) => return End::Stream(error),
            }
            let Some(header) = RequestHeader::decode(&bytes) else {
                return End::Broken("no request where one belongs");
            };
            if header.command == CMD_DISC {
                return End::Disconnected;
            }
            match self.request(&mut reader, &header) {
                Ok(true) => self.wire.send_if_enough(),
                Ok(false) => return End::Closed,
                Err(error) => return End::Stream(error),
            }
        }
    }

    /// Takes one request's payload and submits or refuses it; `false` when the connection is
    /// closed.
    fn request(&mut self, reader: &mut dyn Read, header: &RequestHeader) -> io::Result<bool> {
        let checked = check::check(header, &self.asks);
        let is_read = header.command == CMD_READ;
        let asked = Asked {
            cookie: header.cookie,
            read: (is_read && checked.is_ok()).then_some((header.offset, header.len)),
            structured: self.asks.structured,
            whole: header.flags & CMD_FLAG_DF != 0,
        };
        let data_len = match checked {
            Ok(Work::Submit(Command::Read | Command::Write)) => header.len,
            _ => 0,
        };
        let Some(mut credit) = self.wire.admit(u64::from(data_len)) else {
            return Ok(false);
        };
        // From here on the credit must be given back, also when the stream ends in the payload.
        let payload = match checked {
            Ok(Work::Submit(Command::Write)) => {
                let mut data = self.pool.take(data_len as usize);
                reader.read_exact(&mut data).map(|()| data)
            }
            Err(_) if header.command == CMD_WRITE => {
                skip(reader, u64::from(header.len)).map(|()| Buffer::default())
            }
            _ => Ok(Buffer::default()),
        };
        let link = &self.wire.link;
        let data = payload.inspect_err(|_| link.release(credit))?;
        match checked {
            Err((wire, why)) => link.answer(&asked, credit, reply::error(&asked, wire, why)),
            Ok(_) if link.begin(&mut credit).is_err() => {
                let wire = Errno::ESHUTDOWN.wire();
                let frame = reply::error(&asked, wire, "the server is being shut down");
                link.answer(&asked, credit, frame);
            }
            Ok(Work::Submit(Command::Read)) => self.read(header, asked, credit),
            Ok(Work::BlockStatus) => self.block_status(header, &asked, credit),
            Ok(Work::Cache) => {
                // Nothing is read ahead: the devices' memory is their own, there is no cache here.
                let frame = reply::answer(&asked, crate::Reply::good(data));
                link.answer(&asked, credit, frame);
            }
            Ok(Work::Submit(command)) => {
                let (done, fua) = (link.done(asked, credit), header.flags & CMD_FLAG_FUA != 0);
                let (offset, len) = (header.offset, header.len);
                self.connection.submit(Request { command, offset, len, fua, data }, done);
            }
        }
        Ok(true)
    }

    /// Submits a read: in parts if it is long and the client takes them.
    fn read(&mut self, header: &RequestHeader, asked: Asked, credit: Credit) {
        let fua = header.flags & CMD_FLAG_FUA != 0;
        let end = header.offset + u64::from(header.len);
        let part_bytes = u64::from(PART_BYTES);
        let one = !asked.structured || asked.whole;
        let parts = if one { 1 } else { (end - 1) / part_bytes - header.offset / part_bytes + 1 };
        let link = Arc::clone(&self.wire.link);
        let shared = (parts > 1).then(|| Parts::new(parts as u32, credit));
        let mut offset = header.offset;
        while offset < end {
            let until = if one { end } else { end.min((offset / part_bytes + 1) * part_bytes) };
            let len = (until - offset) as u32;
            let asked = Asked { read: Some((offset, len)), ..asked };
            let credit = if shared.is_some() { Parts::share(len) } else { credit };
            let done = link.part_done(asked, credit, shared.clone());
            let data = self.pool.take(len as usize);
            let request = Request { command: Command::Read, offset, len, fua, data };
            self.connection.submit(request, done);
            offset = until;
            if offset < end {
                self.wire.send_if_enough();
                link.wait_for_backlog();
            }
        }
    }

    fn block_status(&mut self, header: &RequestHeader, asked: &Asked, credit: Credit) {
        let most = if header.flags & CMD_FLAG_REQ_ONE != 0 { 1 } else { MAX_EXTENTS };
        let told = self.connection.extents(header.offset, header.len, most);
        let told = told.and_then(|extents| {
            check::extents(extents, header.len, most, &self.asks.info).ok_or_else(|| {
                tracing::error!(
                    "the export told no good extents of {header:?}: the client hears EIO"
                );
                Errno::EIO
            })
        });
        let frame = match told {
            Ok(extents) => reply::block_status(asked, &extents),
            Err(error) => reply::error(asked, error.wire(), "the extents are not known"),
        };
        self.wire.link.answer(asked, credit, frame);
    }
}

/// Ends a connection in the right order: everything submitted ends, then the export's handle is
/// dropped, then the writer has left.
struct Finish<'a> {
    link: &'a Arc<Link>,
    thread: Option<thread::JoinHandle<()>>,
    connection: Option<Box<dyn Connection>>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.link.drain();
        self.connection = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The link and the stream its replies go to. The stream's lock is never waited for: who sends has
/// been told so by the link.
#[derive(Clone)]
struct Wire {
    link: Arc<Link>,
    stream: Arc<Mutex<Box<dyn Outgoing>>>,
}

impl Wire {
    fn stream(&self) -> MutexGuard<'_, Box<dyn Outgoing>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life.
    fn send_until_closed(&self) {
        loop {
            let batch = self.link.next_batch();
            if batch.is_empty() {
                return;
            }
            let len = batch.slices().map(<[u8]>::len).sum();
            if send(&mut **self.stream(), &batch, &self.link).is_err() {
                self.link.close();
            }
            self.link.sent(batch, len);
        }
    }

    /// Sends what is queued as far as the client takes it at once. The reader calls it before it
    /// waits for anything.
    fn send_now(&self) {
        while let Some(batch) = self.link.batch_now() {
            let slices: Vec<IoSlice<'_>> = batch.slices().map(IoSlice::new).collect();
            let taken = self.stream().send_now(&slices);
            let bytes = taken.as_ref().copied().unwrap_or(0);
            let failed = taken.is_err_and(|error| {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            });
            if failed {
                self.link.close();
            }
            let all = slices.iter().map(|slice| slice.len()).sum::<usize>();
            drop(slices);
            self.link.sent(batch, bytes);
            if bytes < all {
                return;
            }
        }
    }

    fn send_if_enough(&self) {
        if self.link.has_enough() {
            self.send_now();
        }
    }

    fn admit(&self, bytes: u64) -> Option<Credit> {
        self.link.try_admit(bytes).or_else(|| {
            self.send_now();
            self.link.admit(bytes)
        })
    }
}

/// One gathered send of the batch, continued as often as the stream takes only a part.
fn send(writer: &mut dyn Outgoing, batch: &Batch, link: &Link) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = batch.slices().map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match writer.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && link.patient() => {}
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}

/// A reader that keeps a deadline while one is set, and sends what is queued before it waits.
struct Timed {
    reader: Box<dyn Read + Send>,
    link: Arc<Link>,
    deadline: Option<Instant>,
    wire: Option<Wire>,
}

impl Timed {
    fn lift_deadline(&mut self) {
        self.deadline = None;
        self.link.control().set_read_timeout(None);
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.link.control().set_read_timeout(Some(left));
        }
        if let Some(wire) = &self.wire {
            wire.send_now();
        }
        self.reader.read(buf)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
