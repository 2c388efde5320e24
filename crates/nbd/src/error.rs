// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a server could not be set up.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why no clients can be taken, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A server is listening on the socket.
    InUse {
        /// The socket file.
        path: PathBuf,
    },
    /// Something lies at the path that is no socket; it is never replaced.
    NotASocket {
        /// What was asked for.
        path: PathBuf,
    },
    /// The path of a unix socket has 107 bytes at most.
    PathTooLong {
        /// What was asked for.
        path: PathBuf,
    },
    /// The address can be reached from other hosts, and nothing here asks a client who it is.
    Remote {
        /// What was asked for.
        address: SocketAddr,
    },
    /// `LISTEN_FDS` promises something that is not there or cannot be served.
    Inherited {
        /// The descriptor's number, if one is to blame.
        fd: Option<i32>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The server is being shut down.
    Stopping,
    /// The operating system refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// To what.
        target: String,
        /// Its answer.
        source: io::Error,
    },
}

/// What an [`Error`] is about, for an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The arguments do not make sense.
    Usage,
    /// Not permitted.
    Permission,
    /// The folder of the socket is not there.
    Missing,
    /// In use by somebody.
    Busy,
    /// Refused for safety.
    Refused,
    /// Anything else the operating system says.
    System,
}

impl Error {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::InUse { .. } => ErrorKind::Busy,
            Error::NotASocket { .. } | Error::Remote { .. } => ErrorKind::Refused,
            Error::PathTooLong { .. } | Error::Inherited { .. } => ErrorKind::Usage,
            Error::Stopping => ErrorKind::System,
            Error::System { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                io::ErrorKind::AddrInUse => ErrorKind::Busy,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::Missing,
                io::ErrorKind::AddrNotAvailable => ErrorKind::Usage,
                _ => ErrorKind::System,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InUse { path } => write!(
                f,
                "a server is listening on {path:?}: take another path or stop that server"
            ),
            Error::NotASocket { path } => write!(
                f,
                "{path:?} exists and is no socket: take another path or remove it yourself"
            ),
            Error::PathTooLong { path } => write!(
                f,
                "{path:?} is longer than the 107 bytes a unix socket's path may have: choose a \
                 shorter one"
            ),
            Error::Remote { address } => write!(
                f,
                "{address} can be reached from other hosts, and NBD asks nobody who they are: \
                 listen on 127.0.0.1 or [::1], or say --insecure-tcp"
            ),
            Error::Inherited { fd: Some(fd), what } => {
                write!(f, "inherited descriptor {fd} {what}: see sd_listen_fds(3)")
            }
            Error::Inherited { fd: None, what } => write!(f, "{what}: see sd_listen_fds(3)"),
            Error::Stopping => f.write_str("the server is being shut down"),
            Error::System { doing, target, source } => {
                write!(f, "cannot {doing} {target}: {source}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
