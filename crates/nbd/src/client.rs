// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A client, for the demo and the tests: blocking calls, and submitting many requests at once.
//!
//! A thread reads replies all the time, so submitting can never lock up against a server that waits
//! for its replies to be fetched. The client is `Sync`: several threads may use one connection.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::export::Errno;
use crate::protocol::{
    CMD_DISC, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE,
    CMD_WRITE_ZEROES, RequestHeader, SIMPLE_REPLY_BYTES, decode_simple_reply,
};
use crate::transport::{Control, Transport};

mod handshake;

pub use handshake::RemoteExport;

/// Names a submitted request on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(u64);

/// A request to be submitted. Offsets and lengths in bytes; the server checks them.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Read `len` bytes.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Write `data`.
    Write {
        /// First byte.
        offset: u64,
        /// What to write.
        data: &'a [u8],
        /// Answer only when it is on stable storage.
        fua: bool,
    },
    /// Everything answered before reaches stable storage.
    Flush,
    /// The range may be forgotten.
    Trim {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Answer only when it is on stable storage.
        fua: bool,
    },
    /// The range reads as zeros afterwards.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Answer only when it is on stable storage.
        fua: bool,
        /// No space may be given back by it.
        no_hole: bool,
    },
}

/// A submitted request that has ended.
#[derive(Debug)]
pub struct Completed {
    /// Which one.
    pub cookie: Cookie,
    /// What a read returned (empty for the others), or how it failed.
    pub result: Result<Vec<u8>, ClientError>,
}

/// Why a call failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server could not be reached.
    Connect {
        /// Where.
        target: String,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
    /// The negotiation failed.
    Handshake {
        /// Why.
        what: String,
    },
    /// The server answered with this error; the connection is good.
    Remote(Errno),
    /// The connection ended before the answer came: whether the request was done is not known.
    Lost {
        /// How it ended.
        why: String,
    },
    /// More data than a request can carry.
    TooLong,
    /// Not a request that is under way, or already waited for.
    NotUnderWay,
}

impl ClientError {
    /// The number the server answered with, if it answered.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            ClientError::Remote(errno) => Some(*errno),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect { target, source } => {
                write!(f, "cannot connect to {target}: {source}")
            }
            ClientError::Handshake { what } => write!(f, "NBD negotiation failed: {what}"),
            ClientError::Remote(Errno(errno)) => {
                write!(f, "the server answered: {}", io::Error::from_raw_os_error(*errno))
            }
            ClientError::Lost { why } => {
                write!(f, "the connection ended before the answer came ({why})")
            }
            ClientError::TooLong => f.write_str("more data than one request can carry (4 GiB)"),
            ClientError::NotUnderWay => f.write_str("no such request is under way"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Connect { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

/// A connection to one export. Dropped, it is cut without a word; see [`Client::disconnect`].
pub struct Client {
    shared: Arc<Shared>,
    writer: Mutex<Box<dyn Write + Send>>,
    export: RemoteExport,
    reader: Option<thread::JoinHandle<()>>,
}

struct Shared {
    control: Box<dyn Control>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    last_cookie: u64,
    /// Requests without an answer.
    waiting: HashMap<u64, Waiting>,
    /// Answers somebody is waiting for by name.
    named: HashMap<u64, Result<Vec<u8>, ClientError>>,
    /// Answers for [`Client::next_completed`], oldest first.
    unnamed: VecDeque<Completed>,
    lost: Option<String>,
}

struct Waiting {
    read_len: u32,
    named: bool,
}

impl Client {
    /// Connects to the export `name` (empty: the default one) of the server at a unix socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Handshake`].
    pub fn connect_unix(path: &Path, name: &str) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
            target: format!("{path:?}"),
            source: Arc::new(source),
        })?;
        Client::over(Transport::unix(stream), name)
    }

    /// The same over TCP.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Handshake`].
    pub fn connect_tcp(address: SocketAddr, name: &str) -> Result<Client, ClientError> {
        let stream = TcpStream::connect(address).map_err(|source| ClientError::Connect {
            target: address.to_string(),
            source: Arc::new(source),
        })?;
        Client::over(Transport::tcp(stream), name)
    }

    /// The same over two halves of anything. Dropping the client drops the writing half; the
    /// reading half is kept until it ends.
    ///
    /// # Errors
    /// [`ClientError::Handshake`].
    pub fn connect_pair(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        name: &str,
    ) -> Result<Client, ClientError> {
        Client::over(Transport::pair(Box::new(reader), Box::new(writer)), name)
    }

    fn over(transport: Transport, name: &str) -> Result<Client, ClientError> {
        let Transport { reader, mut writer, control } = transport;
        let mut reader = BufReader::new(reader);
        let export = handshake::negotiate(&mut reader, &mut *writer, name)?;
        let shared =
            Shared { control, state: Mutex::new(State::default()), arrived: Condvar::new() };
        let shared = Arc::new(shared);
        let fetching = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("nbd-client".into())
            .spawn(move || fetching.fetch(&mut reader))
            .map_err(|e| ClientError::Handshake { what: format!("no thread: {e}") })?;
        Ok(Client { shared, writer: Mutex::new(writer), export, reader: Some(reader) })
    }

    /// What the server says of the export.
    #[must_use]
    pub fn export(&self) -> &RemoteExport {
        &self.export
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`].
    pub fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, ClientError> {
        self.call(Operation::Read { offset, len })
    }

    /// Writes `data`.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`], [`ClientError::TooLong`].
    pub fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), ClientError> {
        self.call(Operation::Write { offset, data, fua }).map(drop)
    }

    /// Everything answered so far reaches stable storage.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`].
    pub fn flush(&self) -> Result<(), ClientError> {
        self.call(Operation::Flush).map(drop)
    }

    /// The range may be forgotten.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`].
    pub fn trim(&self, offset: u64, len: u32, fua: bool) -> Result<(), ClientError> {
        self.call(Operation::Trim { offset, len, fua }).map(drop)
    }

    /// The range reads as zeros afterwards.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`].
    pub fn write_zeroes(&self, offset: u64, len: u32, fua: bool) -> Result<(), ClientError> {
        self.call(Operation::WriteZeroes { offset, len, fua, no_hole: false }).map(drop)
    }

    /// Submits a request and waits for its answer, whatever else is under way.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`], [`ClientError::TooLong`].
    pub fn call(&self, operation: Operation<'_>) -> Result<Vec<u8>, ClientError> {
        let cookie = self.send(operation, true)?;
        self.wait(cookie)
    }

    /// Submits a request; its answer is fetched with [`Client::wait`] or
    /// [`Client::next_completed`].
    ///
    /// # Errors
    /// [`ClientError::Lost`], [`ClientError::TooLong`]; the request is not under way then.
    pub fn submit(&self, operation: Operation<'_>) -> Result<Cookie, ClientError> {
        self.send(operation, false)
    }

    /// Waits for the answer to one request.
    ///
    /// # Errors
    /// As the request ended, or [`ClientError::NotUnderWay`].
    pub fn wait(&self, cookie: Cookie) -> Result<Vec<u8>, ClientError> {
        let mut state = self.shared.lock();
        loop {
            if let Some(result) = state.named.remove(&cookie.0) {
                return result;
            }
            if let Some(at) = state.unnamed.iter().position(|c| c.cookie == cookie) {
                return state.unnamed.remove(at).map_or(Ok(Vec::new()), |c| c.result);
            }
            match state.waiting.get_mut(&cookie.0) {
                Some(waiting) => waiting.named = true,
                None => return Err(ClientError::NotUnderWay),
            }
            state = self.shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the answer to any request submitted with [`Client::submit`] that nobody waits for
    /// by name; `None` when there is no such request.
    pub fn next_completed(&self) -> Option<Completed> {
        let mut state = self.shared.lock();
        loop {
            if let Some(completed) = state.unnamed.pop_front() {
                return Some(completed);
            }
            if !state.waiting.values().any(|w| !w.named) {
                return None;
            }
            state = self.shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Requests that have no answer yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Says goodbye and waits until the server has closed the connection, which it does when it has
    /// finished everything.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the connection was lost before.
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        let goodbye =
            RequestHeader { flags: 0, command: CMD_DISC, cookie: 0, offset: 0, len: 0 }.encode();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writer.write_all(&goodbye).and_then(|()| writer.flush());
        drop(writer);
        written.map_err(|error| ClientError::Lost { why: error.to_string() })?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(())
    }

    fn send(&self, operation: Operation<'_>, named: bool) -> Result<Cookie, ClientError> {
        let (mut header, data) = encode(operation)?;
        let read_len = if header.command == CMD_READ { header.len } else { 0 };
        // Taken first, so that the cookies rise on the wire.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        if let Some(why) = &state.lost {
            return Err(ClientError::Lost { why: why.clone() });
        }
        state.last_cookie += 1;
        let cookie = state.last_cookie;
        state.waiting.insert(cookie, Waiting { read_len, named });
        drop(state);
        header.cookie = cookie;
        let written = writer
            .write_all(&header.encode())
            .and_then(|()| writer.write_all(data))
            .and_then(|()| writer.flush());
        if let Err(error) = written {
            // A part of it may be on its way: nothing more can be said on this connection.
            self.shared.control.close();
            self.shared.forget(cookie);
            return Err(ClientError::Lost { why: error.to_string() });
        }
        Ok(Cookie(cookie))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.control.close();
    }
}

fn encode(operation: Operation<'_>) -> Result<(RequestHeader, &[u8]), ClientError> {
    let fua_flag = |fua: bool| if fua { CMD_FLAG_FUA } else { 0 };
    let none: &[u8] = &[];
    let (command, flags, offset, len, data) = match operation {
        Operation::Read { offset, len } => (CMD_READ, 0, offset, len, none),
        Operation::Write { offset, data, fua } => {
            let len = u32::try_from(data.len()).map_err(|_| ClientError::TooLong)?;
            (CMD_WRITE, fua_flag(fua), offset, len, data)
        }
        Operation::Flush => (CMD_FLUSH, 0, 0, 0, none),
        Operation::Trim { offset, len, fua } => (CMD_TRIM, fua_flag(fua), offset, len, none),
        Operation::WriteZeroes { offset, len, fua, no_hole } => {
            let no_hole = if no_hole { CMD_FLAG_NO_HOLE } else { 0 };
            (CMD_WRITE_ZEROES, fua_flag(fua) | no_hole, offset, len, none)
        }
    };
    Ok((RequestHeader { flags, command, cookie: 0, offset, len }, data))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops a request that was not sent as a whole, so that nobody is told of it twice.
    fn forget(&self, cookie: u64) {
        let mut state = self.lock();
        state.waiting.remove(&cookie);
        state.named.remove(&cookie);
        state.unnamed.retain(|c| c.cookie.0 != cookie);
        self.arrived.notify_all();
    }

    /// Fetches replies until the connection ends, then ends everything that waits.
    fn fetch(&self, reader: &mut dyn Read) {
        let why = loop {
            if let Err(why) = self.fetch_one(reader) {
                break why;
            }
        };
        self.control.close();
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        for (cookie, waiting) in waiting {
            let error = ClientError::Lost { why: why.clone() };
            complete(&mut state, cookie, waiting.named, Err(error));
        }
        state.lost = Some(why);
        self.arrived.notify_all();
    }

    fn fetch_one(&self, reader: &mut dyn Read) -> Result<(), String> {
        let mut head = [0; SIMPLE_REPLY_BYTES];
        reader.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed it".to_string(),
            _ => error.to_string(),
        })?;
        let Some((cookie, error)) = decode_simple_reply(&head) else {
            return Err("the server sent something that is no reply".to_string());
        };
        let read_len = match self.lock().waiting.get(&cookie) {
            Some(waiting) => waiting.read_len,
            None => return Err("the server answered what was not asked".to_string()),
        };
        let result = if error == 0 {
            let mut data = vec![0; read_len as usize];
            reader.read_exact(&mut data).map_err(|error| error.to_string())?;
            Ok(data)
        } else {
            Err(ClientError::Remote(Errno(i32::try_from(error).unwrap_or(Errno::EIO.0))))
        };
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.remove(&cookie) {
            complete(&mut state, cookie, waiting.named, result);
        }
        self.arrived.notify_all();
        Ok(())
    }
}

fn complete(state: &mut State, cookie: u64, named: bool, result: Result<Vec<u8>, ClientError>) {
    if named {
        state.named.insert(cookie, result);
    } else {
        state.unnamed.push_back(Completed { cookie: Cookie(cookie), result });
    }
}
