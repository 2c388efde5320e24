// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Disks for the tests of volumes: memory or a real file, which fail as a map says, in each of the
//! manners in which requests can reach a device.
//!
//! A fault map is laid over a device's calls. What goes through a ring does not go through calls,
//! so there the map has its say when the kernel has answered, in `judge`: the answer of the call
//! that did not happen takes the place of the kernel's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dmremap_core::Class;
use dmremap_engine::{
    Device, Direct, Faulty, Geometry, Identity, Manner, MemoryDevice, Mode, OpenOptions, Payload,
    Transferred, open_device,
};

/// A disk without faults, behind its wrapper.
pub struct Disk(pub Arc<dyn Device>);

impl Disk {
    /// A disk that holds `bytes`, of the kind that suits the manner; `None` if none is asked for:
    /// memory, served by threads.
    pub fn new(dir: &Path, name: &str, bytes: Vec<u8>, block: u32, manner: Option<Manner>) -> Disk {
        if manner.is_none() {
            return Disk(Arc::new(MemoryDevice::with_content(bytes, block)));
        }
        let path = dir.join(name);
        std::fs::write(&path, &bytes).unwrap();
        let options = OpenOptions {
            block_size: Some(block),
            wait_ms: 0,
            force_buffered: true,
            ..OpenOptions::default()
        };
        Disk(open_device(path.to_str().unwrap(), &options).unwrap())
    }

    /// A copy of everything it holds.
    pub fn content(&self) -> Vec<u8> {
        let mut all = vec![0; self.0.geometry().bytes() as usize];
        self.0.read_at(&mut all, 0).unwrap();
        all
    }
}

impl std::ops::Deref for Disk {
    type Target = dyn Device;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// A disk that fails as its map says, reached in a manner of the test's choice.
pub struct Failing {
    pub faulty: Faulty,
    disk: Arc<dyn Device>,
    manner: Manner,
    /// Requests that were not brought by a thread of the lane.
    pub brought: AtomicU64,
}

impl Failing {
    pub fn new(disk: &Disk, name: &str, map: &Path, manner: Option<Manner>) -> Failing {
        std::fs::write(map, "").unwrap();
        Failing {
            faulty: Faulty::new(disk.0.clone(), name, map, Mode::default(), 1024).unwrap(),
            disk: disk.0.clone(),
            manner: manner.unwrap_or(Manner::Threads),
            brought: AtomicU64::new(0),
        }
    }

    fn inline<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        (self.manner == Manner::Inline).then(|| {
            self.brought.fetch_add(1, Ordering::Relaxed);
            call()
        })
    }
}

impl Device for Failing {
    fn geometry(&self) -> Geometry {
        self.faulty.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.faulty.read_at(buf, offset)
    }
    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.faulty.read_uncached(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.faulty.write_at(buf, offset, fua)
    }
    fn manner(&self) -> Manner {
        self.manner
    }
    fn read_now(&self, buf: &mut [u8], offset: u64) -> Option<Result<(), Class>> {
        self.inline(|| self.faulty.read_at(buf, offset))
    }
    fn write_now(&self, buf: &[u8], offset: u64, fua: bool) -> Option<Result<(), Class>> {
        self.inline(|| self.faulty.write_at(buf, offset, fua))
    }
    fn direct(&self) -> Option<Direct<'_>> {
        self.disk.direct()
    }
    fn judge(&self, what: &Transferred, result: Result<(), Class>) -> Result<(), Class> {
        self.brought.fetch_add(1, Ordering::Relaxed);
        result?;
        let mut bytes = vec![0; what.len as usize];
        if !what.write {
            return self.faulty.read_at(&mut bytes, what.offset);
        }
        self.disk.read_at(&mut bytes, what.offset)?;
        self.faulty.write_at(&bytes, what.offset, false)
    }
    fn flush(&self) -> Result<(), Class> {
        self.faulty.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.faulty.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.faulty.write_zeroes(offset, len, fua)
    }
    fn reserve(&self) -> Result<(), Class> {
        self.faulty.reserve()
    }
    fn identity(&self) -> Identity {
        // As a device in memory: it proves nothing of itself.
        Identity { marks: Vec::new(), ..self.faulty.identity() }
    }
    fn describe(&self) -> String {
        self.faulty.describe()
    }
}

/// Memory that O_DIRECT takes, as a server has it.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn of(content: &[u8]) -> Aligned {
        let mut bytes = vec![0; content.len() + 4095];
        let start = bytes.as_ptr().align_offset(4096);
        bytes[start..start + content.len()].copy_from_slice(content);
        Aligned { bytes, start, len: content.len() }
    }
}

impl Payload for Aligned {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}
