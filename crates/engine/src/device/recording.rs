// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A device that logs every change and every flush, so that a test can rebuild what a power cut
//! would have left.
//!
//! ```text
//! record:SPEC?log=FILE[&tag=N]
//! ```
//!
//! Two events make an operation: *begun*, logged before it goes to the device, and *answered*,
//! logged before its caller hears of it. So of two writes a flush covers exactly those whose answer
//! stands before the flush's beginning, and a power cut between two events leaves any subset of
//! those that are not covered. Devices of one volume share a log and are told apart by their tag;
//! a log in a file is shared by giving the same path (each event is one appending write).
//!
//! An event in the file: `b"DMLG"`, tag u8, kind u8, flags u8 (1: FUA, 2: good), 0, operation u64,
//! offset u64, length u64, all little-endian, and behind it the data of a write.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dmremap_core::Class;

use super::error::DeviceError;
use super::identity::Identity;
use super::spec::Parameters;
use super::{Device, Geometry};

const MAGIC: [u8; 4] = *b"DMLG";
const HEAD_BYTES: usize = 32;
const FLAG_FUA: u8 = 1;
const FLAG_GOOD: u8 = 2;
/// No write is longer: the length in a file that is not ours is not believed beyond it.
const WRITE_MAX: u64 = 1 << 28;

/// What an event says. Offsets and lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A write has begun.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// With FUA.
        fua: bool,
    },
    /// A write-zeroes has begun.
    WriteZeroes {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
        /// With FUA.
        fua: bool,
    },
    /// A discard has begun.
    Discard {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// A flush has begun.
    Flush,
    /// The operation of this number has been answered.
    Answered {
        /// Without an error.
        good: bool,
    },
    /// A note of the test, in its place among the events ([`Log::note`]).
    Note {
        /// Its meaning is the test's.
        value: u64,
    },
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// The device's tag; 255 for a note.
    pub tag: u8,
    /// Which operation of this device; the value of a note.
    pub op: u64,
    /// What happened.
    pub kind: LogKind,
}

/// Where events go, in order.
pub struct Log {
    sink: Sink,
}

enum Sink {
    Memory(Mutex<Vec<LogEvent>>),
    File(File),
}

impl Log {
    /// A log in memory.
    #[must_use]
    pub fn memory() -> Arc<Log> {
        Arc::new(Log { sink: Sink::Memory(Mutex::default()) })
    }

    /// A log at the end of a file, which is made if it does not exist.
    ///
    /// # Errors
    /// [`DeviceError::Wrapper`].
    pub fn file(path: &Path) -> Result<Arc<Log>, DeviceError> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|error| DeviceError::Wrapper {
            path: path.to_path_buf(),
            line: 0,
            why: error.to_string(),
        })?;
        Ok(Arc::new(Log { sink: Sink::File(file) }))
    }

    /// The events so far; empty for a log in a file.
    #[must_use]
    pub fn events(&self) -> Vec<LogEvent> {
        match &self.sink {
            Sink::Memory(events) => events.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Sink::File(_) => Vec::new(),
        }
    }

    /// Puts a note of the test in its place among the events: what the client has been told, say.
    ///
    /// # Errors
    /// [`Class::Io`] if the log cannot be written.
    pub fn note(&self, value: u64) -> Result<(), Class> {
        self.add(255, value, &LogKind::Note { value }, &[])
    }

    /// Reads the events of a file; one that a kill has cut short ends the list.
    ///
    /// # Errors
    /// What reading the file says.
    pub fn read(path: &Path) -> std::io::Result<Vec<LogEvent>> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while let Some((event, used)) = decode(rest) {
            events.push(event);
            rest = &rest[used..];
        }
        Ok(events)
    }

    /// `data` are the bytes of a write, which `kind` need not hold.
    fn add(&self, tag: u8, op: u64, kind: &LogKind, data: &[u8]) -> Result<(), Class> {
        match &self.sink {
            Sink::Memory(events) => {
                let mut kind = kind.clone();
                if let LogKind::Write { data: place, .. } = &mut kind {
                    *place = data.to_vec();
                }
                let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
                events.push(LogEvent { tag, op, kind });
                Ok(())
            }
            Sink::File(file) => {
                let bytes = encode(tag, op, kind, data);
                let mut file = file;
                // One call, so that O_APPEND makes it one event; a part of one is a failed test.
                match file.write(&bytes) {
                    Ok(n) if n == bytes.len() => Ok(()),
                    _ => Err(Class::Io),
                }
            }
        }
    }
}

fn encode(tag: u8, op: u64, kind: &LogKind, data: &[u8]) -> Vec<u8> {
    let fua = |set: bool| if set { FLAG_FUA } else { 0 };
    let (code, flags, offset, len) = match kind {
        LogKind::Write { offset, fua: set, .. } => (1, fua(*set), *offset, data.len() as u64),
        LogKind::WriteZeroes { offset, len, fua: set } => (2, fua(*set), *offset, *len),
        LogKind::Discard { offset, len } => (3, 0, *offset, *len),
        LogKind::Flush => (4, 0, 0, 0),
        LogKind::Answered { good } => (5, if *good { FLAG_GOOD } else { 0 }, 0, 0),
        LogKind::Note { value } => (6, 0, *value, 0),
    };
    let mut bytes = Vec::with_capacity(HEAD_BYTES + data.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[tag, code, flags, 0]);
    bytes.extend_from_slice(&op.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The first event of `bytes` and how many of them it takes.
fn decode(bytes: &[u8]) -> Option<(LogEvent, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let word = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let (op, offset, len) = (word(8)?, word(16)?, word(24)?);
    let (tag, code, flags) = (*head.get(4)?, *head.get(5)?, *head.get(6)?);
    if head.get(..4)? != MAGIC {
        return None;
    }
    let fua = flags & FLAG_FUA != 0;
    let mut used = HEAD_BYTES;
    let kind = match code {
        1 if len <= WRITE_MAX => {
            used += len as usize;
            LogKind::Write { offset, data: bytes.get(HEAD_BYTES..used)?.to_vec(), fua }
        }
        2 => LogKind::WriteZeroes { offset, len, fua },
        3 => LogKind::Discard { offset, len },
        4 => LogKind::Flush,
        5 => LogKind::Answered { good: flags & FLAG_GOOD != 0 },
        6 => LogKind::Note { value: offset },
        _ => return None,
    };
    Some((LogEvent { tag, op, kind }, used))
}

/// A device that logs what changes it.
pub struct Recorder {
    inner: Arc<dyn Device>,
    name: String,
    tag: u8,
    log: Arc<Log>,
    next: AtomicU64,
}

impl Recorder {
    /// `inner`, with every change logged under `tag`.
    #[must_use]
    pub fn new(inner: Arc<dyn Device>, log: Arc<Log>, tag: u8) -> Recorder {
        let name = format!("record:{}", inner.describe());
        Recorder { inner, name, tag, log, next: AtomicU64::new(0) }
    }

    pub(crate) fn open(
        inner: Arc<dyn Device>,
        name: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Recorder, DeviceError> {
        parameters.only(&["log", "tag"])?;
        let tag = match parameters.get("tag").unwrap_or("0").parse() {
            Ok(tag) if tag < 255 => tag,
            _ => return Err(parameters.error("tag wants 0 to 254".into())),
        };
        let log = Log::file(Path::new(parameters.need("log")?))?;
        Ok(Recorder { name: name.to_owned(), ..Recorder::new(inner, log, tag) })
    }

    fn logged(
        &self,
        kind: &LogKind,
        data: &[u8],
        job: impl FnOnce() -> Result<(), Class>,
    ) -> Result<(), Class> {
        let op = self.next.fetch_add(1, Ordering::Relaxed);
        self.log.add(self.tag, op, kind, data)?;
        let result = job();
        self.log.add(self.tag, op, &LogKind::Answered { good: result.is_ok() }, &[])?;
        result
    }
}

impl Device for Recorder {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.inner.read_at(buf, offset)
    }

    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.inner.read_uncached(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        let kind = LogKind::Write { offset, data: Vec::new(), fua };
        self.logged(&kind, buf, || self.inner.write_at(buf, offset, fua))
    }

    fn flush(&self) -> Result<(), Class> {
        self.logged(&LogKind::Flush, &[], || self.inner.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        let kind = LogKind::Discard { offset, len };
        self.logged(&kind, &[], || self.inner.discard(offset, len))
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        let kind = LogKind::WriteZeroes { offset, len, fua };
        self.logged(&kind, &[], || self.inner.write_zeroes(offset, len, fua))
    }

    fn reserve(&self) -> Result<(), Class> {
        self.inner.reserve()
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}
