// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A client, for the demo and the tests: blocking calls, and submitting many requests at once.
//!
//! A thread reads replies all the time, so submitting can never lock up against a server that waits
//! for its replies to be fetched. The client is `Sync`: several threads may use one connection.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::export::Extent;
use crate::protocol::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH,
    CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, RequestHeader,
};
use crate::transport::{Outgoing, Transport};

mod error;
mod handshake;
mod replies;

pub use error::ClientError;
pub use handshake::RemoteExport;
pub use replies::{Pieces, RemoteError};

use replies::{Answer, Shared};

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
    /// The range may be asked for soon.
    Cache {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
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

/// A connection to one export. Dropped, it is cut without a word; see [`Client::disconnect`].
pub struct Client {
    shared: Arc<Shared>,
    writer: Mutex<Box<dyn Outgoing>>,
    export: RemoteExport,
    reader: Option<thread::JoinHandle<()>>,
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
        let export = handshake::negotiate(&mut reader, &mut writer, name)?;
        let shared = Arc::new(Shared::new(control));
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

    /// Reads `len` bytes, as far as they can be read; `in_one` asks for at most one piece.
    ///
    /// # Errors
    /// [`ClientError::Remote`] from a server without structured replies, [`ClientError::Lost`].
    pub fn read_pieces(&self, offset: u64, len: u32, in_one: bool) -> Result<Pieces, ClientError> {
        let flags = if in_one { CMD_FLAG_DF } else { 0 };
        let header = RequestHeader { flags, command: CMD_READ, cookie: 0, offset, len };
        Ok(self.shared.wait(self.send(header, &[], true)?.0)?.into_pieces(offset))
    }

    /// What the range, whole blocks, takes of space. It may end before `len` bytes.
    ///
    /// # Errors
    /// [`ClientError::Remote`] also from a server without `base:allocation`; [`ClientError::Lost`].
    pub fn block_status(&self, offset: u64, len: u32) -> Result<Vec<Extent>, ClientError> {
        let header = RequestHeader { flags: 0, command: CMD_BLOCK_STATUS, cookie: 0, offset, len };
        self.shared.wait(self.send(header, &[], true)?.0)?.into_extents()
    }

    /// Submits a request and waits for its answer, whatever else is under way.
    ///
    /// # Errors
    /// [`ClientError::Remote`], [`ClientError::Lost`], [`ClientError::TooLong`].
    pub fn call(&self, operation: Operation<'_>) -> Result<Vec<u8>, ClientError> {
        let (header, data) = encode(operation)?;
        let cookie = self.send(header, data, true)?;
        self.wait(cookie)
    }

    /// Submits a request; its answer is fetched with [`Client::wait`] or
    /// [`Client::next_completed`].
    ///
    /// # Errors
    /// [`ClientError::Lost`], [`ClientError::TooLong`]; the request is not under way then.
    pub fn submit(&self, operation: Operation<'_>) -> Result<Cookie, ClientError> {
        let (header, data) = encode(operation)?;
        self.send(header, data, false)
    }

    /// Waits for the answer to one request.
    ///
    /// # Errors
    /// As the request ended, or [`ClientError::NotUnderWay`].
    pub fn wait(&self, cookie: Cookie) -> Result<Vec<u8>, ClientError> {
        self.shared.wait(cookie.0).and_then(Answer::into_data)
    }

    /// Waits for the answer to any request submitted with [`Client::submit`] that nobody waits for
    /// by name; `None` when there is no such request.
    pub fn next_completed(&self) -> Option<Completed> {
        let (cookie, result) = self.shared.next_completed()?;
        Some(Completed { cookie: Cookie(cookie), result: result.and_then(Answer::into_data) })
    }

    /// Requests that have no answer yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.under_way()
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

    fn send(
        &self,
        mut header: RequestHeader,
        data: &[u8],
        named: bool,
    ) -> Result<Cookie, ClientError> {
        // Taken first, so that the cookies rise on the wire.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.begin(&mut header, named)?;
        let written = writer
            .write_all(&header.encode())
            .and_then(|()| writer.write_all(data))
            .and_then(|()| writer.flush());
        if let Err(error) = written {
            // A part of it may be on its way: nothing more can be said on this connection.
            self.shared.close();
            self.shared.forget(header.cookie);
            return Err(ClientError::Lost { why: error.to_string() });
        }
        Ok(Cookie(header.cookie))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.close();
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
        Operation::Cache { offset, len } => (CMD_CACHE, 0, offset, len, none),
        Operation::WriteZeroes { offset, len, fua, no_hole } => {
            let no_hole = if no_hole { CMD_FLAG_NO_HOLE } else { 0 };
            (CMD_WRITE_ZEROES, fua_flag(fua) | no_hole, offset, len, none)
        }
    };
    Ok((RequestHeader { flags, command, cookie: 0, offset, len }, data))
}
