// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a device could not be opened: what, where, why, and what to do next.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::next::{Next, shown};

/// The kind of an error, which decides the exit code of the command that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The words given make no sense.
    Usage,
    /// The right to do it is missing.
    Permission,
    /// A defect of this program, or an answer of the system nobody expected.
    Internal,
    /// The device or its metadata is missing or the wrong one.
    Wrong,
    /// Somebody else has it, or it exists already.
    Busy,
    /// A safety check refused; the text names the option that lifts it.
    Refused,
}

impl ErrorClass {
    /// The exit code of the command line.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorClass::Usage => 1,
            ErrorClass::Permission => 2,
            ErrorClass::Internal => 3,
            ErrorClass::Wrong => 4,
            ErrorClass::Busy => 5,
            ErrorClass::Refused => 6,
        }
    }
}

/// Why a device could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// The words that name the device cannot be understood.
    Spec {
        /// What was given.
        spec: String,
        /// The part that is wrong, and what is legal there.
        why: String,
    },
    /// Nothing is there.
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// It is neither a block device nor a regular file.
    NotADevice {
        /// Where.
        path: PathBuf,
    },
    /// The right to open it is missing.
    Permission {
        /// Where.
        path: PathBuf,
        /// Opened to be written.
        write: bool,
    },
    /// Somebody else holds it: a mount, another server, md, LVM.
    Busy {
        /// Where.
        path: PathBuf,
        /// How long it was tried.
        waited_ms: u64,
    },
    /// A file that can only be used through the page cache.
    Buffered {
        /// Where.
        path: PathBuf,
        /// Why O_DIRECT is not possible.
        why: &'static str,
    },
    /// The block size asked for cannot be had.
    BlockSize {
        /// Where.
        path: PathBuf,
        /// Bytes asked for.
        asked: u32,
        /// The least possible there, in bytes.
        least: u32,
    },
    /// It holds no whole block.
    Empty {
        /// Where.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A fault map or log of a test wrapper cannot be used.
    Wrapper {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 is the file itself.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The system refused something else.
    System {
        /// Where.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        errno: Errno,
    },
}

impl DeviceError {
    /// The kind, for the exit code.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            DeviceError::Spec { .. }
            | DeviceError::BlockSize { .. }
            | DeviceError::Wrapper { .. } => ErrorClass::Usage,
            DeviceError::Permission { .. } => ErrorClass::Permission,
            DeviceError::Missing { .. }
            | DeviceError::NotADevice { .. }
            | DeviceError::Empty { .. }
            | DeviceError::System { .. } => ErrorClass::Wrong,
            DeviceError::Busy { .. } => ErrorClass::Busy,
            DeviceError::Buffered { .. } => ErrorClass::Refused,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        let name = |path: &std::path::Path| path.to_string_lossy().into_owned();
        match self {
            DeviceError::Spec { .. } => Next::Help,
            DeviceError::Missing { path }
            | DeviceError::NotADevice { path }
            | DeviceError::Empty { path, .. } => Next::Other(name(path)),
            DeviceError::Permission { path, .. } => Next::Permitted(name(path)),
            DeviceError::Busy { path, .. } => Next::Holders(name(path)),
            DeviceError::Buffered { .. } => Next::with("--force=buffered"),
            DeviceError::BlockSize { path, least, .. } => {
                Next::BlockSize { bytes: *least, device: name(path) }
            }
            DeviceError::Wrapper { .. } => Next::Again,
            DeviceError::System { .. } => Next::Log,
        }
    }

    /// The error of opening `path`.
    pub(crate) fn from_open(path: &std::path::Path, write: bool, errno: Errno) -> DeviceError {
        let path = path.to_path_buf();
        match errno {
            Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOTDIR => {
                DeviceError::Missing { path }
            }
            Errno::ACCESS | Errno::PERM | Errno::ROFS => DeviceError::Permission { path, write },
            Errno::ISDIR => DeviceError::NotADevice { path },
            _ => DeviceError::System { path, doing: "open", errno },
        }
    }

    /// The error of doing `doing` on `path`.
    pub(crate) fn system(path: &std::path::Path, doing: &'static str, errno: Errno) -> Self {
        DeviceError::System { path: path.to_path_buf(), doing, errno }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Spec { spec, why } => write!(f, "{}: {why}", shown(spec)),
            DeviceError::Missing { path } => write!(f, "{}: no such device or file", shown(path)),
            DeviceError::NotADevice { path } => {
                write!(f, "{}: neither a block device nor a regular file", shown(path))
            }
            DeviceError::Permission { path, write } => {
                let what = if *write { "read and written" } else { "read" };
                write!(f, "{}: may not be {what}", shown(path))
            }
            DeviceError::Busy { path, waited_ms } => {
                write!(f, "{}: in use by somebody else (tried for {waited_ms} ms)", shown(path))
            }
            DeviceError::Buffered { path, why } => write!(
                f,
                "{}: can only be used through the page cache: {why}; put it on another file \
                 system or on tmpfs, or take slow synchronous writes",
                shown(path)
            ),
            DeviceError::BlockSize { path, asked, least } => write!(
                f,
                "{}: a block size of {asked} bytes is not possible; legal are powers of two from \
                 {least} to 4096",
                shown(path)
            ),
            DeviceError::Empty { path, bytes } => {
                write!(f, "{}: holds no whole block ({bytes} bytes)", shown(path))
            }
            DeviceError::Wrapper { path, line: 0, why } => write!(f, "{}: {why}", shown(path)),
            DeviceError::Wrapper { path, line, why } => {
                write!(f, "{}, line {line}: {why}", shown(path))
            }
            DeviceError::System { path, doing, errno } => {
                write!(f, "{}: {doing}: {errno}", shown(path))
            }
        }
    }
}

impl std::error::Error for DeviceError {}
