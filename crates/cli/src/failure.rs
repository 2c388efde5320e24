// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a command fails: what, where, why, and what to do next; its class is the exit code.

use std::fmt;
use std::io;

use dmremap_engine::{DeviceError, ErrorClass, Next, VolumeError};
use dmremap_nbd::ErrorKind;

use crate::escape::escaped;
use crate::remedy;

/// The classes of failure. Their numbers are the exit codes scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The command line or a message makes no sense.
    Usage = 1,
    /// The operating system does not allow it.
    Permission = 2,
    /// A defect of the program, or of what it runs on.
    Internal = 3,
    /// A device or its metadata is missing, or is not the right one.
    Missing = 4,
    /// Somebody else uses it, or it exists already.
    Busy = 5,
    /// A safety check forbids it.
    Refused = 6,
}

impl Class {
    /// The word that stands for it in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Usage => "usage",
            Class::Permission => "permission",
            Class::Internal => "internal",
            Class::Missing => "missing",
            Class::Busy => "busy",
            Class::Refused => "refused",
        }
    }

    /// The class a word stands for; unknown words are [`Class::Internal`].
    pub fn from_word(word: &str) -> Class {
        let all = [Class::Usage, Class::Permission, Class::Missing, Class::Busy, Class::Refused];
        all.into_iter().find(|class| class.word() == word).unwrap_or(Class::Internal)
    }

    /// The exit code.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class, which is the exit code.
    pub class: Class,
    /// What failed, where and why; already escaped.
    pub what: String,
    /// The command to type next, where there is one.
    pub next: Option<String>,
}

/// What every command gives back.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure without advice.
    pub fn new(class: Class, what: impl fmt::Display) -> Failure {
        Failure { class, what: what.to_string(), next: None }
    }

    /// Says what to type next.
    #[must_use]
    pub fn with_next(mut self, next: impl fmt::Display) -> Failure {
        self.next = Some(next.to_string());
        self
    }

    /// A failed system call on `path`, classed by its errno.
    pub fn io(doing: &str, path: impl AsRef<std::path::Path>, error: &io::Error) -> Failure {
        let class = match error.kind() {
            io::ErrorKind::PermissionDenied => Class::Permission,
            io::ErrorKind::NotFound => Class::Missing,
            io::ErrorKind::AlreadyExists | io::ErrorKind::AddrInUse => Class::Busy,
            io::ErrorKind::ResourceBusy => Class::Busy,
            _ => Class::Internal,
        };
        let path = path.as_ref();
        let name = path.to_string_lossy().into_owned();
        let next = match class {
            Class::Permission => Next::Permitted(name),
            Class::Missing => Next::Other(name),
            Class::Busy => Next::Holders(name),
            _ => Next::Again,
        };
        Failure::new(class, format_args!("cannot {doing} {}: {error}", escaped(path)))
            .with_next(remedy::command(&next))
    }
}

impl From<ErrorClass> for Class {
    fn from(class: ErrorClass) -> Class {
        match class {
            ErrorClass::Usage => Class::Usage,
            ErrorClass::Permission => Class::Permission,
            ErrorClass::Wrong => Class::Missing,
            ErrorClass::Busy => Class::Busy,
            ErrorClass::Refused => Class::Refused,
            _ => Class::Internal,
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Failure {
        Failure::new(error.class().into(), &error).with_next(remedy::command(&error.next()))
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Failure {
        Failure::new(error.class().into(), &error).with_next(remedy::command(&error.next()))
    }
}

impl From<dmremap_nbd::Error> for Failure {
    fn from(error: dmremap_nbd::Error) -> Failure {
        use dmremap_nbd::Error;
        let class = match error.kind() {
            ErrorKind::Usage => Class::Usage,
            ErrorKind::Permission => Class::Permission,
            ErrorKind::Missing => Class::Missing,
            ErrorKind::Busy => Class::Busy,
            ErrorKind::Refused => Class::Refused,
            ErrorKind::System => Class::Internal,
        };
        let next = match &error {
            Error::InUse { .. } | Error::NotASocket { .. } | Error::PathTooLong { .. } => {
                Next::With("--nbd=unix:PATH".into())
            }
            Error::Remote { address } => {
                Next::With(format!("--nbd=tcp:127.0.0.1:{}", address.port()))
            }
            Error::System { .. } if matches!(class, Class::Busy | Class::Usage) => {
                Next::With("--nbd=tcp:HOST:PORT".into())
            }
            Error::System { .. } if class == Class::Missing => Next::With("--nbd=unix:PATH".into()),
            Error::Stopping | Error::System { .. } => Next::Again,
            _ => Next::Help,
        };
        Failure::new(class, &error).with_next(remedy::command(&next))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "; try: {next}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
