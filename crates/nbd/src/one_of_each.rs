// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One value of each variant of [`Error`], for the tests of how it is shown. The list does not
//! compile when a variant is missing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::Error;

impl Error {
    /// One value of each variant, for tests. The names in them are hostile.
    #[doc(hidden)]
    #[must_use]
    pub fn one_of_each() -> Vec<Error> {
        let _compiles_only_with_all = |error: &Error| match error {
            Error::InUse { .. }
            | Error::NotASocket { .. }
            | Error::PathTooLong { .. }
            | Error::Remote { .. }
            | Error::Inherited { .. }
            | Error::Stopping
            | Error::System { .. } => (),
        };
        let path = || PathBuf::from("/run/socket\u{1b}[2J\n");
        let system = |source| {
            let target = format!("{:?}", path());
            Error::System { doing: "listen on", target, source: io::Error::from(source) }
        };
        vec![
            Error::InUse { path: path() },
            Error::NotASocket { path: path() },
            Error::PathTooLong { path: path() },
            Error::Remote { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10_809)) },
            Error::Inherited { fd: Some(3), what: "is no socket" },
            Error::Inherited { fd: None, what: "LISTEN_FDS is no number" },
            Error::Stopping,
            system(io::ErrorKind::PermissionDenied),
            system(io::ErrorKind::AddrInUse),
            system(io::ErrorKind::NotFound),
            system(io::ErrorKind::AddrNotAvailable),
            system(io::ErrorKind::OutOfMemory),
        ]
    }
}
