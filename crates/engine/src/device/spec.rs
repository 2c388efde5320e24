// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! From what a person writes to an open device.
//!
//! ```text
//! SPEC = PATH                          a block device or a file
//!      | faulty:SPEC?map=FILE[&...]    fails where FILE says, see `faulty`
//!      | record:SPEC?log=FILE[&tag=N]  logs every change, see `recording`
//! ```
//!
//! The parameters of a wrapper stand behind the last `?`, so wrappers nest; a plain path may hold
//! any character. Parameter values cannot hold `&` or `?`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Device;
use super::block::BlockDevice;
use super::error::DeviceError;
use super::faulty::Faulty;
use super::file::FileDevice;
use super::recording::Recorder;

/// How a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only to be read.
    pub read_only: bool,
    /// Hold it exclusively: O_EXCL on a block device, flock on a file, on the open file that the
    /// I/O goes through, so that the hold outlives a killed process until its last write landed.
    pub claim: bool,
    /// How long a hold of somebody else is waited for, in milliseconds.
    pub wait_ms: u64,
    /// `--force=buffered`: use a file through the page cache where nothing else is possible.
    pub force_buffered: bool,
    /// Logical block in bytes, if not the device's own (512 for a file): a power of two to 4096,
    /// not below the device's own.
    pub block_size: Option<u32>,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            read_only: false,
            claim: true,
            wait_ms: 5_000,
            force_buffered: false,
            block_size: None,
        }
    }
}

impl OpenOptions {
    /// To look at a device that somebody else may be using: reads only, no hold, through the page
    /// cache if there is no other way, since nothing is going to be vouched for.
    #[must_use]
    pub fn examine() -> OpenOptions {
        OpenOptions { read_only: true, claim: false, force_buffered: true, ..Self::default() }
    }

    /// The logical block: what was asked for, or `own`, which it must not go below.
    pub(crate) fn logical_block(&self, path: &Path, own: u32) -> Result<u32, DeviceError> {
        match self.block_size {
            None => Ok(own),
            Some(asked) if asked.is_power_of_two() && (own..=4096).contains(&asked) => Ok(asked),
            Some(asked) => {
                Err(DeviceError::BlockSize { path: path.to_path_buf(), asked, least: own })
            }
        }
    }

    /// Tries `take` until it is not busy any more or the time is up.
    pub(crate) fn retry_busy<T>(
        &self,
        path: &Path,
        mut take: impl FnMut() -> Result<T, Errno>,
        other: impl Fn(Errno) -> DeviceError,
    ) -> Result<T, DeviceError> {
        let start = Instant::now();
        loop {
            match take() {
                Ok(held) => return Ok(held),
                Err(Errno::INTR) => {}
                Err(Errno::BUSY | Errno::WOULDBLOCK | Errno::TXTBSY) => {
                    if start.elapsed() >= Duration::from_millis(self.wait_ms) {
                        let path = path.to_path_buf();
                        return Err(DeviceError::Busy { path, waited_ms: self.wait_ms });
                    }
                    std::thread::sleep(Duration::from_millis(self.wait_ms.clamp(1, 50)));
                }
                Err(errno) => return Err(other(errno)),
            }
        }
    }
}

/// Opens what `spec` names.
///
/// # Errors
/// See [`DeviceError`]; a refusal has written nothing.
pub fn open_device(spec: &str, options: &OpenOptions) -> Result<Arc<dyn Device>, DeviceError> {
    if let Some(rest) = spec.strip_prefix("faulty:") {
        let (inner, parameters) = split(spec, rest)?;
        let parameters = Parameters::parse(spec, parameters)?;
        return Ok(Arc::new(Faulty::open(open_device(inner, options)?, spec, &parameters)?));
    }
    if let Some(rest) = spec.strip_prefix("record:") {
        let (inner, parameters) = split(spec, rest)?;
        let parameters = Parameters::parse(spec, parameters)?;
        return Ok(Arc::new(Recorder::open(open_device(inner, options)?, spec, &parameters)?));
    }
    let path = Path::new(spec);
    let stat = rustix::fs::stat(path)
        .map_err(|errno| DeviceError::from_open(path, !options.read_only, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => Ok(Arc::new(BlockDevice::open(path, options)?)),
        FileType::RegularFile => Ok(Arc::new(FileDevice::open(path, options)?)),
        _ => Err(DeviceError::NotADevice { path: path.to_path_buf() }),
    }
}

fn split<'a>(spec: &str, rest: &'a str) -> Result<(&'a str, &'a str), DeviceError> {
    match rest.rsplit_once('?') {
        Some((inner, parameters)) if !inner.is_empty() => Ok((inner, parameters)),
        _ => Err(DeviceError::Spec {
            spec: spec.into(),
            why: "a wrapper wants a device and, behind a '?', its parameters".into(),
        }),
    }
}

/// The parameters of a wrapper, each given once.
pub(crate) struct Parameters<'a> {
    spec: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Parameters<'a> {
    fn parse(spec: &'a str, text: &'a str) -> Result<Parameters<'a>, DeviceError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in text.split('&') {
            let Some((key, value)) = pair.split_once('=') else {
                let why = format!("parameter {:?} is not KEY=VALUE", pair);
                return Err(DeviceError::Spec { spec: spec.into(), why });
            };
            if pairs.iter().any(|(other, _)| *other == key) {
                let why = format!("parameter {key:?} is given twice");
                return Err(DeviceError::Spec { spec: spec.into(), why });
            }
            pairs.push((key, value));
        }
        Ok(Parameters { spec, pairs })
    }

    /// Refuses a key that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), DeviceError> {
        match self.pairs.iter().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, _)) => {
                Err(self.error(format!("no parameter {key:?}; there are {}", known.join(", "))))
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    pub(crate) fn need(&self, key: &str) -> Result<&'a str, DeviceError> {
        match self.get(key) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(self.error(format!("parameter {key:?} is missing"))),
        }
    }

    pub(crate) fn error(&self, why: String) -> DeviceError {
        DeviceError::Spec { spec: self.spec.into(), why }
    }
}
