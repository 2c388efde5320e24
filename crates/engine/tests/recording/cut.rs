// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a device would hold if the power failed at a moment of the recording.

use std::collections::HashMap;
use std::ops::Range;

use dmremap_core::Class;
use dmremap_engine::{Device, Geometry, Identity, LogEvent, LogKind, MemoryDevice};

use super::{Random, SECTOR};

/// Something of main and of the spare. Their tags in the log are 0 and 1.
pub struct Pair<T> {
    pub main: T,
    pub spare: T,
}

/// A device as the recording has left it: what is durable, and what is not.
pub struct Disk {
    durable: Vec<u8>,
    /// In the order in which they began, which is the order in which they take effect: no two
    /// changes of a sector overlap in time here.
    loose: Vec<Change>,
    flushes: HashMap<u64, usize>,
}

struct Change {
    op: u64,
    offset: usize,
    data: Vec<u8>,
    fua: bool,
    answered: Option<usize>,
}

/// Which of the changes that no flush has covered are on the medium.
#[derive(Clone, Copy, Debug)]
pub enum Landing {
    Nothing,
    Everything,
    /// Each by a throw of the dice, whole.
    Some,
    /// Each sector of each by a throw of the dice.
    Torn,
}

impl Landing {
    pub fn any(random: &mut Random) -> Landing {
        match random.below(8) {
            0 => Landing::Nothing,
            1 => Landing::Everything,
            2..=4 => Landing::Some,
            _ => Landing::Torn,
        }
    }
}

impl Pair<Disk> {
    /// Takes the event at this place of the log; true if a flush has ended by it.
    pub fn take(&mut self, at: usize, event: &LogEvent) -> bool {
        match event.tag {
            0 => self.main.take(at, event),
            1 => self.spare.take(at, event),
            _ => false,
        }
    }
}

impl Disk {
    pub fn new(content: Vec<u8>) -> Disk {
        Disk { durable: content, loose: Vec::new(), flushes: HashMap::new() }
    }

    fn take(&mut self, at: usize, event: &LogEvent) -> bool {
        let mut change = |offset: u64, data: Vec<u8>, fua| {
            let (op, offset) = (event.op, offset as usize);
            self.loose.push(Change { op, offset, data, fua, answered: None });
            false
        };
        match &event.kind {
            LogKind::Write { offset, data, fua } => change(*offset, data.clone(), *fua),
            LogKind::WriteZeroes { offset, len, fua } => {
                change(*offset, vec![0; *len as usize], *fua)
            }
            LogKind::Discard { offset, len } => change(*offset, vec![0; *len as usize], false),
            LogKind::Flush => {
                self.flushes.insert(event.op, at);
                false
            }
            LogKind::Answered { good } => match self.flushes.remove(&event.op) {
                Some(began) => {
                    if *good {
                        self.settle(began);
                    }
                    true
                }
                None => {
                    let mut changes = self.loose.iter_mut();
                    if let Some(change) = changes.find(|change| change.op == event.op) {
                        change.answered = Some(at);
                    }
                    false
                }
            },
            LogKind::Note { .. } => false,
        }
    }

    /// A good flush that began then has ended.
    fn settle(&mut self, began: usize) {
        let (durable, loose): (Vec<Change>, Vec<Change>) = std::mem::take(&mut self.loose)
            .into_iter()
            .partition(|change| change.answered.is_some_and(|answered| answered < began));
        self.loose = loose;
        for Change { offset, data, .. } in durable {
            self.durable[offset..offset + data.len()].copy_from_slice(&data);
        }
    }

    /// What is on the medium if the power fails now.
    pub fn image(&self, landing: Landing, random: &mut Random) -> Vec<u8> {
        let mut image = self.durable.clone();
        for change in &self.loose {
            let certain = change.fua && change.answered.is_some();
            let whole = match landing {
                Landing::Nothing => false,
                Landing::Everything => true,
                Landing::Some => random.one_in(2),
                Landing::Torn => false,
            };
            for (index, bytes) in change.data.chunks(SECTOR).enumerate() {
                let torn = matches!(landing, Landing::Torn) && random.one_in(2);
                if certain || whole || torn {
                    let offset = change.offset + index * SECTOR;
                    image[offset..offset + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        image
    }
}

/// A device with sectors that cannot be read.
pub struct BadReads {
    inner: MemoryDevice,
    bad: Vec<Range<u64>>,
}

impl BadReads {
    pub fn new(inner: MemoryDevice, bad: &[Range<u64>]) -> BadReads {
        BadReads { inner, bad: bad.to_vec() }
    }
}

impl Device for BadReads {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        let (start, end) = (offset / 512, (offset + buf.len() as u64) / 512);
        if self.bad.iter().any(|bad| bad.start < end && start < bad.end) {
            return Err(Class::Medium);
        }
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.inner.write_at(buf, offset, fua)
    }

    fn flush(&self) -> Result<(), Class> {
        self.inner.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.inner.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.inner.write_zeroes(offset, len, fua)
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
