// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Sockets clients connect to.
//!
//! A unix socket's file is born with mode 0600: the mode is set on the socket before it is bound,
//! so there is no instant at which others could connect. If the path is taken by a socket, it is
//! tried: one that refuses connections is left over from a server that died and is replaced, any
//! other is in use. Looking and replacing happen under a lock on the directory, or two servers
//! started at once could both find the same dead socket and the second remove the first one's live
//! one.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::Error;
use crate::transport::Transport;

const BACKLOG: i32 = 64;
/// How long another server may take to look at a socket of the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A socket that accepts clients. Dropped, it stops listening and removes its socket file.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a unix socket at `path`, made with mode 0600. A socket left there by a server
    /// that died is replaced.
    ///
    /// # Errors
    /// [`Error::InUse`] and [`Error::NotASocket`] if the path is taken, [`Error::PathTooLong`], or
    /// what the operating system says.
    pub fn unix(path: &Path) -> Result<Listener, Error> {
        let address = SocketAddrUnix::new(path)
            .map_err(|_| Error::PathTooLong { path: path.to_path_buf() })?;
        let _locked = lock_directory(path)?;
        let socket = match bind_unix(&address) {
            Err(Errno::ADDRINUSE) => {
                remove_dead_socket(path, &address)?;
                bind_unix(&address)
            }
            other => other,
        };
        let socket = socket.map_err(|source| system("listen on", path, source.into()))?;
        let file = SocketFile::at(path).map_err(|source| system("examine", path, source))?;
        Ok(Listener::of(Socket::Unix(UnixListener::from(socket)), Some(file)))
    }

    /// Listens on a TCP address; port 0 takes a free one, see [`Listener::uri`].
    ///
    /// # Errors
    /// [`Error::Remote`] if other hosts could connect and `allow_remote` is not set, or what the
    /// operating system says.
    pub fn tcp(address: SocketAddr, allow_remote: bool) -> Result<Listener, Error> {
        if !address.ip().is_loopback() && !allow_remote {
            return Err(Error::Remote { address });
        }
        let socket = TcpListener::bind(address).map_err(|source| Error::System {
            doing: "listen on",
            target: address.to_string(),
            source,
        })?;
        Ok(Listener::of(Socket::Tcp(socket), None))
    }

    /// A unix socket that is bound and listening already.
    pub(crate) fn inherited_unix(socket: UnixListener) -> Listener {
        Listener::of(Socket::Unix(socket), None)
    }

    /// A TCP socket that is bound and listening already.
    pub(crate) fn inherited_tcp(socket: TcpListener) -> Listener {
        Listener::of(Socket::Tcp(socket), None)
    }

    fn of(socket: Socket, file: Option<SocketFile>) -> Listener {
        Listener { socket, file }
    }

    /// The NBD URI under which clients find `export_name` here. A socket without a name of its own
    /// (inherited and unnamed) gives a URI without a place.
    #[must_use]
    pub fn uri(&self, export_name: &str) -> String {
        let name = escape(export_name.as_bytes(), b"");
        match &self.socket {
            Socket::Unix(socket) => {
                let bound = socket.local_addr().ok();
                let path = self.file.as_ref().map(|f| f.path.as_path());
                let path = path.or_else(|| bound.as_ref().and_then(|a| a.as_pathname()));
                let path = path.map(|p| escape(p.as_os_str().as_bytes(), b"/"));
                format!("nbd+unix:///{name}?socket={}", path.unwrap_or_default())
            }
            Socket::Tcp(socket) => {
                let place = socket.local_addr().map(|a| a.to_string()).unwrap_or_default();
                format!("nbd://{place}/{name}")
            }
        }
    }

    /// After this [`Listener::accept`] answers `WouldBlock` when nobody is waiting.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(socket) => socket.set_nonblocking(true),
            Socket::Tcp(socket) => socket.set_nonblocking(true),
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Transport> {
        match &self.socket {
            Socket::Unix(socket) => Ok(Transport::unix(socket.accept()?.0)),
            Socket::Tcp(socket) => Ok(Transport::tcp(socket.accept()?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

fn bind_unix(address: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Linux gives the file the mode of the socket's inode (unix_bind_bsd in net/unix/af_unix.c).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Removes the socket at `path` if nobody listens on it.
fn remove_dead_socket(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let stat = match rustix::fs::lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(source) => return Err(system("examine", path, source.into())),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Error::NotASocket { path: path.to_path_buf() });
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|source| system("try the socket", path, source.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(source @ Errno::ACCESS) => return Err(system("try the socket", path, source.into())),
        // It took the connection, its queue is full (AGAIN), or it is of another type: alive.
        _ => return Err(Error::InUse { path: path.to_path_buf() }),
    }
    tracing::info!("removing {path:?}: the server that made it is gone");
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(source) => Err(system("remove the dead socket", path, source.into())),
    }
}

/// Locks the directory of `path` against other servers until the file is dropped. A file system
/// without locks is used without.
fn lock_directory(path: &Path) -> Result<File, Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())
        .map_err(|source| system("open the directory", parent, source.into()))?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(source @ Errno::WOULDBLOCK) => {
                return Err(system("lock the directory", parent, source.into()));
            }
            _ => return Ok(File::from(directory)),
        }
    }
}

/// A socket's file, removed with it unless somebody has put another one in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        let id = file_id(&path)?;
        Ok(SocketFile { path, id })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _locked = lock_directory(&self.path);
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::lstat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn system(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::System { doing, target: format!("{path:?}"), source }
}

/// Percent-encodes what may not stand in a URI.
fn escape(bytes: &[u8], also: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || also.contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_escaped() {
        assert_eq!(escape(b"/run/a b/\xc3\xa4?.sock", b"/"), "/run/a%20b/%C3%A4%3F.sock");
        assert_eq!(escape(b"a/b", b""), "a%2Fb");
    }
}
