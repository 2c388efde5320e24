// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The server: one export, any number of listeners, a bounded number of clients.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::connection::{self, Times};
use crate::export::Export;
use crate::handshake::Offer;
use crate::link::{Credits, Link};
use crate::transport::{Transport, wait_readable};
use crate::{Error, Listener};

/// What the server offers and how much of it one client may have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The export's name. Clients that give none get it too.
    pub name: String,
    /// For people, shown to clients that ask.
    pub description: String,
    /// Requests a connection may have under way; at least 1.
    pub max_requests: u32,
    /// Bytes of data a connection's requests may hold; at least
    /// [`MAX_REQUEST_BYTES`](crate::MAX_REQUEST_BYTES).
    pub max_bytes: u64,
    /// Connections at a time; further ones are closed at once.
    pub max_connections: usize,
    /// Time for a whole negotiation.
    pub handshake_timeout: Duration,
    /// A client that has disconnected loses its replies when it takes none for so long.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: String::new(),
            description: String::new(),
            max_requests: 128,
            max_bytes: 64 << 20,
            max_connections: 32,
            handshake_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(10),
        }
    }
}

/// How a client's session ended. Everything it had submitted has ended by then.
#[derive(Debug)]
pub enum End {
    /// The client sent DISC.
    Disconnected,
    /// The client sent ABORT, or left between two messages.
    Left,
    /// The client broke the protocol, in this way, and was disconnected.
    Broken(&'static str),
    /// The stream failed, ended in the middle of a message, or a negotiation took too long.
    Stream(io::Error),
    /// The server ended it: shutdown, or the client does not fetch its replies.
    Closed,
    /// Not begun: too many connections, or the server is being shut down.
    Refused,
}

/// What a shutdown had to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Requests that were submitted and whose replies nobody will get.
    pub abandoned: u64,
}

/// A server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    export: Arc<dyn Export>,
    config: Config,
    state: Mutex<State>,
    /// A connection has ended.
    left: Condvar,
    /// Readable once the server stops.
    woken: UnixStream,
}

struct State {
    /// Dropped when the server stops, which wakes the acceptors.
    wake: Option<UnixStream>,
    next_id: u64,
    links: HashMap<u64, Arc<Link>>,
    acceptors: Vec<thread::JoinHandle<()>>,
}

impl Server {
    /// A server for `export` that has no listener yet.
    ///
    /// # Errors
    /// [`Error::System`] if the process may open no more files.
    pub fn new(export: Arc<dyn Export>, config: Config) -> Result<Server, Error> {
        let (wake, woken) = UnixStream::pair().map_err(|source| Error::System {
            doing: "make",
            target: "a socket pair".into(),
            source,
        })?;
        let state =
            State { wake: Some(wake), next_id: 0, links: HashMap::new(), acceptors: Vec::new() };
        let state = Mutex::new(state);
        let inner = Inner { export, config, state, left: Condvar::new(), woken };
        Ok(Server { inner: Arc::new(inner) })
    }

    /// Takes clients from `listener`, in the background, until [`Server::shutdown`].
    ///
    /// # Errors
    /// [`Error::Stopping`] after a shutdown, [`Error::System`] if no thread can be started.
    pub fn listen(&self, listener: Listener) -> Result<(), Error> {
        let failed = |doing, source| Error::System { doing, target: "a listener".into(), source };
        listener.set_nonblocking().map_err(|source| failed("set up", source))?;
        let mut state = self.inner.lock();
        if state.wake.is_none() {
            return Err(Error::Stopping);
        }
        let inner = Arc::clone(&self.inner);
        let acceptor = thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || accept(&inner, &listener))
            .map_err(|source| failed("start a thread for", source))?;
        state.acceptors.push(acceptor);
        Ok(())
    }

    /// Serves one client over two halves of anything, on this thread, until it leaves. A shutdown
    /// cannot wake a half that sleeps; where there are descriptors use [`Server::serve_files`].
    pub fn serve_pair(
        &self,
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
    ) -> End {
        self.inner.serve(Transport::pair(Box::new(reader), Box::new(writer)))
    }

    /// Serves one client over two descriptors (standard input and output), on this thread, until it
    /// leaves or the server is shut down. Both may be the same socket.
    ///
    /// # Errors
    /// [`Error::System`] if the process may open no more files.
    pub fn serve_files(&self, reader: OwnedFd, writer: OwnedFd) -> Result<End, Error> {
        let transport = if same_socket(&reader, &writer) {
            // It can be shut down from another thread; of any family, despite the type's name.
            Ok(Transport::unix(UnixStream::from(reader)))
        } else {
            Transport::files(reader, writer)
        };
        let transport = transport.map_err(|source| Error::System {
            doing: "serve",
            target: "standard input and output".into(),
            source,
        })?;
        Ok(self.inner.serve(transport))
    }

    /// Connections at the moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.lock().links.len()
    }

    /// Stops taking clients and requests, waits at most `limit` for what was submitted to be
    /// answered and sent, and closes every connection. What is abandoned then is still finished by
    /// the export. Safe to call more than once.
    pub fn shutdown(&self, limit: Duration) -> Shutdown {
        let deadline = Instant::now() + limit;
        let mut state = self.inner.lock();
        state.wake = None;
        let acceptors = std::mem::take(&mut state.acceptors);
        drop(state);
        for acceptor in acceptors {
            let _ = acceptor.join();
        }
        let mut state = self.inner.lock();
        for link in state.links.values() {
            link.stop();
        }
        while !state.links.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.inner.left.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut abandoned = 0;
        for link in state.links.values() {
            abandoned += u64::from(link.owed());
            link.close();
        }
        Shutdown { abandoned }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, transport: Transport) -> End {
        let Transport { reader, writer, control } = transport;
        let config = &self.config;
        let credits = Credits { requests: config.max_requests, bytes: config.max_bytes };
        let link = Arc::new(Link::new(credits, control));
        let Some(registered) = self.register(&link) else {
            link.close();
            return End::Refused;
        };
        let times = Times { handshake: config.handshake_timeout, linger: config.linger };
        let offer =
            Offer { export: &*self.export, name: &config.name, description: &config.description };
        let end = connection::serve(reader, writer, &link, &offer, times);
        tracing::debug!("connection {} ended: {end:?}", registered.id);
        end
    }

    fn register(&self, link: &Arc<Link>) -> Option<Registered<'_>> {
        let mut state = self.lock();
        // Gone once the server stops.
        state.wake.as_ref()?;
        if state.links.len() >= self.config.max_connections {
            tracing::warn!("a client was sent away: {} are connected", state.links.len());
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.links.insert(id, Arc::clone(link));
        Some(Registered { inner: self, id })
    }
}

/// A connection in the register; leaves it when dropped, also by a panic.
struct Registered<'a> {
    inner: &'a Inner,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.inner.lock().links.remove(&self.id);
        self.inner.left.notify_all();
    }
}

/// Takes clients until the server stops.
fn accept(inner: &Arc<Inner>, listener: &Listener) {
    loop {
        match wait_readable(listener, &inner.woken) {
            Ok((_, true)) => return,
            Ok((_, false)) => {}
            Err(error) => {
                tracing::error!("no further clients are taken: {error}");
                return;
            }
        }
        let transport = match listener.accept() {
            Ok(transport) => transport,
            Err(error) => {
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionAborted
                ) {
                    // Out of descriptors or memory: others must let go first.
                    tracing::warn!("a client could not be taken: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
                continue;
            }
        };
        let serving = Arc::clone(inner);
        let spawned = thread::Builder::new().name("nbd-reader".into()).spawn(move || {
            serving.serve(transport);
        });
        if let Err(error) = spawned {
            tracing::warn!("a client was sent away, no thread for it: {error}");
        }
    }
}

fn same_socket(a: &impl AsFd, b: &impl AsFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => {
            FileType::from_raw_mode(a.st_mode) == FileType::Socket
                && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        }
        _ => false,
    }
}
