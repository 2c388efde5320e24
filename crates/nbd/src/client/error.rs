// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a call of the client failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::export::Errno;

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
