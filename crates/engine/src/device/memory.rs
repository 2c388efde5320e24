// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A device in memory, for tests: every write is durable, nothing ever fails.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dmremap_core::Class;

use super::identity::{DeviceKey, Identity};
use super::{Backing, Device, Geometry, Manner};

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// A device in memory.
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
    geometry: Geometry,
    key: DeviceKey,
}

impl MemoryDevice {
    /// A device of `sectors` sectors, all zero, with blocks of 512 bytes.
    #[must_use]
    pub fn new(sectors: u64) -> MemoryDevice {
        MemoryDevice::with_content(vec![0; (sectors << 9) as usize], 512)
    }

    /// A device that holds `bytes`, with blocks of `logical_block` bytes (a power of two); bytes
    /// behind the last whole block are out of reach.
    #[must_use]
    pub fn with_content(bytes: Vec<u8>, logical_block: u32) -> MemoryDevice {
        let whole = bytes.len() as u64 & !(u64::from(logical_block) - 1);
        let geometry = Geometry {
            sectors: whole >> 9,
            logical_block,
            physical_block: logical_block.max(4096),
            can_discard: true,
            can_write_zeroes: true,
            read_only: false,
            backing: Backing::Memory,
        };
        let key = DeviceKey::Memory(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        MemoryDevice { bytes: RwLock::new(bytes), geometry, key }
    }

    /// A copy of everything it holds.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn change(&self, offset: u64, len: usize, job: impl FnOnce(&mut [u8])) -> Result<(), Class> {
        if !self.geometry.holds(offset, len as u64) {
            return Err(Class::NotSupported);
        }
        let mut bytes = self.bytes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        job(&mut bytes[offset as usize..offset as usize + len]);
        Ok(())
    }
}

impl Device for MemoryDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        if !self.geometry.holds(offset, buf.len() as u64) {
            return Err(Class::NotSupported);
        }
        let bytes = self.bytes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        buf.copy_from_slice(&bytes[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64, _fua: bool) -> Result<(), Class> {
        self.change(offset, buf.len(), |part| part.copy_from_slice(buf))
    }

    fn manner(&self) -> Manner {
        Manner::Inline
    }

    fn read_now(&self, buf: &mut [u8], offset: u64) -> Option<Result<(), Class>> {
        Some(self.read_at(buf, offset))
    }

    fn write_now(&self, buf: &[u8], offset: u64, fua: bool) -> Option<Result<(), Class>> {
        Some(self.write_at(buf, offset, fua))
    }

    fn flush(&self) -> Result<(), Class> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.change(offset, len as usize, |part| part.fill(0))
    }

    fn write_zeroes(&self, offset: u64, len: u64, _fua: bool) -> Result<(), Class> {
        self.change(offset, len as usize, |part| part.fill(0))
    }

    fn identity(&self) -> Identity {
        Identity::bare(self.key)
    }

    fn describe(&self) -> String {
        match self.key {
            DeviceKey::Memory(n) => format!("memory {n}"),
            _ => "memory".into(),
        }
    }
}
