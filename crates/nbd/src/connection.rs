// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One client: its reader on the calling thread, its writer on a thread of its own.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Buffer;
use crate::check;
use crate::export::{Command, Connection, Errno, ExportInfo, Request};
use crate::handshake::{Chosen, Ended, Offer, negotiate, read_or_end, skip};
use crate::link::{Frame, Link};
use crate::protocol::{CMD_DISC, CMD_FLAG_FUA, CMD_WRITE, REQUEST_BYTES, RequestHeader};
use crate::server::End;

/// Taken off the socket at once; a longer payload goes straight to its own buffer.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Serves one client from greeting to end. `link` was made with the control of this stream.
pub(crate) fn serve(
    reader: Box<dyn Read + Send>,
    mut writer: Box<dyn Write + Send>,
    link: &Arc<Link>,
    offer: &Offer<'_>,
    times: Times,
) -> End {
    let timed = Timed { reader, link: Arc::clone(link), deadline: None };
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, timed);
    reader.get_mut().deadline = Some(Instant::now() + times.handshake);
    link.control().set_write_timeout(Some(times.linger));
    let negotiated = negotiate(&mut reader, &mut *writer, offer);
    reader.get_mut().lift_deadline();
    let Chosen { info, connection } = match negotiated {
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
    let sending = Arc::clone(link);
    let spawned = thread::Builder::new()
        .name("nbd-writer".into())
        .spawn(move || write_replies(&mut *writer, &sending));
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => {
            link.close();
            return End::Stream(error);
        }
    };
    // The guard runs even if the export panics: the client is not left hanging, nor the writer.
    let finish = Finish { link, thread: Some(thread), _connection: None };
    transmit(reader, connection, info, finish)
}

/// Limits in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For the whole negotiation.
    pub handshake: Duration,
    /// For a client that has said its last word to fetch some more of its replies.
    pub linger: Duration,
}

/// Reads requests until the client leaves.
fn transmit(
    mut reader: BufReader<Timed>,
    connection: Box<dyn Connection>,
    info: ExportInfo,
    mut finish: Finish<'_>,
) -> End {
    let link = finish.link;
    let connection = finish._connection.insert(connection);
    loop {
        let mut bytes = [0; REQUEST_BYTES];
        match read_or_end(&mut reader, &mut bytes) {
            Ok(true) => {}
            _ if link.closed() => return End::Closed,
            Ok(false) => return End::Left,
            Err(error) => return End::Stream(error),
        }
        let Some(header) = RequestHeader::decode(&bytes) else {
            return End::Broken("no request where one belongs");
        };
        if header.command == CMD_DISC {
            return End::Disconnected;
        }
        match request(&mut reader, &header, &info, link, &mut **connection) {
            Ok(true) => {}
            Ok(false) => return End::Closed,
            Err(error) => return End::Stream(error),
        }
    }
}

/// Takes one request's payload and submits or refuses it; `false` when the connection is closed.
fn request(
    reader: &mut dyn Read,
    header: &RequestHeader,
    info: &ExportInfo,
    link: &Arc<Link>,
    connection: &mut dyn Connection,
) -> io::Result<bool> {
    let checked = check::check(header, info);
    let data_len = match checked {
        Ok(Command::Read | Command::Write) => header.len,
        _ => 0,
    };
    let Some(credit) = link.admit(u64::from(data_len)) else {
        return Ok(false);
    };
    // From here on the credit must be given back, also when the stream ends in the payload.
    let payload = match checked {
        Ok(command) => {
            let mut data = Buffer::zeroed(data_len as usize);
            let read = match command {
                Command::Write => reader.read_exact(&mut data),
                _ => Ok(()),
            };
            read.map(|()| data)
        }
        Err(_) if header.command == CMD_WRITE => {
            skip(reader, u64::from(header.len)).map(|()| Buffer::default())
        }
        Err(_) => Ok(Buffer::default()),
    };
    let data = match payload {
        Ok(data) => data,
        Err(error) => {
            link.release(credit);
            return Err(error);
        }
    };
    let command = match checked.map_err(check::wire) {
        Ok(command) => command,
        Err(wire) => {
            link.refuse(header.cookie, credit, wire);
            return Ok(true);
        }
    };
    if link.begin().is_err() {
        link.refuse(header.cookie, credit, Errno::ESHUTDOWN.wire());
        return Ok(true);
    }
    let read_bytes = if command == Command::Read { header.len } else { 0 };
    let done = link.done(header.cookie, credit, read_bytes);
    let fua = header.flags & CMD_FLAG_FUA != 0;
    let request = Request { command, offset: header.offset, len: header.len, fua, data };
    connection.submit(request, done);
    Ok(true)
}

/// Ends a connection in the right order: everything submitted ends, then the export's handle is
/// dropped, then the writer has left.
struct Finish<'a> {
    link: &'a Arc<Link>,
    thread: Option<thread::JoinHandle<()>>,
    _connection: Option<Box<dyn Connection>>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.link.drain();
        self._connection = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_replies(writer: &mut dyn Write, link: &Link) {
    let mut batch = Vec::new();
    loop {
        link.next_batch(&mut batch);
        if batch.is_empty() {
            return;
        }
        let result = send(writer, &batch, link);
        if result.is_err() {
            link.close();
        }
        link.sent(&mut batch);
    }
}

/// One gathered send of the batch, continued as often as the stream takes only a part.
fn send(writer: &mut dyn Write, batch: &[Frame], link: &Link) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(2 * batch.len());
    for frame in batch {
        slices.push(IoSlice::new(&frame.head));
        if !frame.payload.is_empty() {
            slices.push(IoSlice::new(&frame.payload));
        }
    }
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

/// A reader that keeps a deadline while one is set.
struct Timed {
    reader: Box<dyn Read + Send>,
    link: Arc<Link>,
    deadline: Option<Instant>,
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
        self.reader.read(buf)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
