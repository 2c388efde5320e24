// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The volume as an NBD export: requests in bytes become requests in sectors, classes of error
//! become errno. The data is never copied: the protocol's buffer is the volume's payload.

use std::any::Any;
use std::sync::Arc;

use dmremap_core::{Class, Kind};
use dmremap_engine::{BadRun, Client, Payload, Request, Volume};
use dmremap_format::SECTOR_BYTES;
use dmremap_nbd::{
    BadRange, Buffer, Command, Connection, Done, Errno, Export, ExportInfo, Extent, Reply,
    Request as NbdRequest,
};

/// What is efficient for a request, in bytes: a unit.
const PREFERRED_BYTES: u32 = 4096;

/// The export of a volume.
pub struct Exported(pub Arc<Volume>);

struct Connected {
    volume: Arc<Volume>,
    client: Client,
}

/// A buffer of the protocol as the volume's payload.
struct Data(Buffer);

impl Payload for Data {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

fn errno(class: Class) -> Errno {
    Errno(class.errno())
}

fn bad_range(volume: &Volume, kind: Kind, run: &BadRun) -> BadRange {
    BadRange {
        offset: run.sector * SECTOR_BYTES,
        len: run.sectors * SECTOR_BYTES as u32,
        error: errno(run.class),
        message: words(volume, kind, run),
    }
}

/// What a person is told of blocks that failed.
fn words(volume: &Volume, kind: Kind, run: &BadRun) -> &'static str {
    match run.class {
        Class::Medium | Class::Io | Class::Target if kind.changes() => "cannot be written",
        Class::Medium if volume.is_gone(run.sector) => "gone: lost until overwritten",
        Class::Medium | Class::Io | Class::Target => "unreadable",
        Class::Transport => "the path to the device failed",
        Class::Timeout => "the device does not answer",
        Class::Offline => "the device is gone",
        Class::NoSpace => "no space left",
        _ => "input/output error",
    }
}

impl Export for Exported {
    fn info(&self) -> ExportInfo {
        let volume = self.0.info();
        let main = self.0.devices().first();
        ExportInfo {
            size_bytes: volume.main_sectors.saturating_mul(SECTOR_BYTES),
            block_bytes: volume.block_bytes,
            preferred_bytes: PREFERRED_BYTES.max(volume.block_bytes),
            read_only: !self.0.is_writable(),
            can_flush: true,
            can_trim: main.is_some_and(|main| main.can_discard()),
            can_write_zeroes: true,
            multi_connection: true,
            rotational: main.is_some_and(|main| main.is_rotational()),
        }
    }

    fn connect(&self) -> Result<Box<dyn Connection>, Errno> {
        let volume = Arc::clone(&self.0);
        let client = volume.client();
        Ok(Box::new(Connected { volume, client }))
    }
}

impl Connection for Connected {
    fn submit(&mut self, request: NbdRequest, done: Done) {
        let kind = match request.command {
            Command::Read => Kind::Read,
            Command::Write => Kind::Write,
            Command::WriteZeroes { .. } => Kind::WriteZeroes,
            Command::Trim => Kind::Discard,
            Command::Flush => {
                let answer = |outcome: Result<(), Class>| {
                    done(match outcome {
                        Ok(()) => Reply::good(Buffer::default()),
                        Err(class) => Reply::failed(errno(class)),
                    });
                };
                return self.volume.flush(&self.client, Box::new(answer));
            }
        };
        let asked = Request {
            kind,
            sector: request.offset / SECTOR_BYTES,
            sectors: request.len / SECTOR_BYTES as u32,
            fua: request.fua,
            data: Box::new(Data(request.data)),
        };
        let volume = Arc::clone(&self.volume);
        self.volume.submit(
            asked,
            Box::new(move |reply| {
                let bad = reply.bad.iter().map(|run| bad_range(&volume, kind, run)).collect();
                done(match reply.data.into_any().downcast::<Data>() {
                    Ok(data) => Reply::partly(data.0, bad),
                    Err(_) => Reply::failed(Errno::EIO),
                });
            }),
        );
    }

    fn extents(&mut self, offset: u64, len: u32, most: usize) -> Result<Vec<Extent>, Errno> {
        let (sector, sectors) = (offset / SECTOR_BYTES, u64::from(len) / SECTOR_BYTES);
        let extents = self.volume.extents(sector, sectors, most);
        let bytes = |sectors: u64| (sectors * SECTOR_BYTES) as u32;
        Ok(extents.iter().map(|e| Extent { len: bytes(e.sectors), hole: e.hole }).collect())
    }
}
