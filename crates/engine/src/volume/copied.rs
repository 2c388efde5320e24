// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A main that was copied onto another disk, and work on the metadata without main.
//!
//! A copy reads zeros, with success, where its original could not be read. So its bad areas become
//! *gone* before anything is served, and in this order: the volume is opened with the copy, whose
//! identity is not stored; the areas are marked, each mark committed; the volume is closed. Only
//! then it is opened again and the copy's identity stored, before the first request. A crash
//! between leaves a volume that asks again what this disk is, and no request has been served that a
//! second marking could undo. A disk that is known as main already is refused as a copy: what has
//! been written to it since would be given up.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use dmremap_core::message::{Command, MARK_SECTORS_MAX, MarkKind};
use dmremap_core::reply::{Ground, write_done};
use dmremap_core::text::{REPLY_MAX_BYTES, Text};
use dmremap_core::{Class, Done, Event, Marked, Reason};

use crate::device::identity::{DeviceKey, Identity};
use crate::device::{Backing, Device, Geometry};

use super::error::VolumeError;
use super::open::{MainIs, VolumeOptions};
use super::volume::Volume;

/// Messages under way at one time: their marks share commits.
const AT_ONCE: usize = 16;

/// Sectors of main.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorRun {
    /// First sector.
    pub sector: u64,
    /// Length in sectors.
    pub sectors: u64,
}

impl SectorRun {
    /// The run cut into what one message takes.
    fn pieces(self) -> impl Iterator<Item = SectorRun> {
        let end = self.sector.saturating_add(self.sectors);
        let starts = (self.sector..end).step_by(MARK_SECTORS_MAX as usize);
        starts.map(move |sector| SectorRun { sector, sectors: MARK_SECTORS_MAX.min(end - sector) })
    }
}

/// Why a mark ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkError {
    /// Which message was refused, and why.
    pub words: String,
    /// The reason.
    pub reason: Reason,
}

impl fmt::Display for MarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for MarkError {}

impl Volume {
    /// Marks runs of whole blocks; see the message `mark`. What was marked before an error stays.
    ///
    /// # Errors
    /// The first refusal.
    pub fn mark(&self, kind: MarkKind, runs: &[SectorRun]) -> Result<Marked, MarkError> {
        let pieces: Vec<SectorRun> = runs.iter().flat_map(|run| run.pieces()).collect();
        let next = AtomicUsize::new(0);
        let ended: Mutex<Result<Marked, MarkError>> = Mutex::new(Ok(Marked::default()));
        let work = || {
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let done = self.mark_piece(kind, *piece);
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                match (done, ended.as_mut()) {
                    (Ok(marked), Ok(sum)) => *sum = sum.and(marked),
                    (Err(error), Ok(_)) => *ended = Err(error),
                    (_, Err(_)) => {}
                }
                if ended.is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(pieces.len()) {
                scope.spawn(work);
            }
        });
        ended.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_piece(&self, kind: MarkKind, piece: SectorRun) -> Result<Marked, MarkError> {
        let sectors = u32::try_from(piece.sectors).ok();
        let command = Command::Mark { kind, sector: piece.sector, sectors };
        match self.act(command) {
            Done::Marked(marked) => Ok(marked),
            Done::Failed(reason) => Err(self.mark_error(&command, reason)),
            _ => Err(self.mark_error(&command, Reason::NotWritable)),
        }
    }

    fn mark_error(&self, command: &Command, reason: Reason) -> MarkError {
        let info = self.info();
        let ground = Ground {
            main_sectors: info.main_sectors,
            block_sectors: info.block_bytes / 512,
            data_start: info.layout.data_start(),
            data_end: info.layout.data_end(),
            nearest: [None, None],
        };
        let mut buffer = [0; REPLY_MAX_BYTES];
        let mut text = Text::new(&mut buffer);
        write_done(&mut text, command, &Done::Failed(reason), &ground);
        MarkError { words: text.as_str().to_owned(), reason }
    }

    /// Opens the volume with another disk that main was copied onto (`--accept-main=copy`). `bad`
    /// is what the copy lacks, whole blocks: an error from now on until it is overwritten. Both
    /// devices are open and held, as for [`Volume::open`].
    ///
    /// # Errors
    /// See [`VolumeError`]; the disk is not taken as main then, and nothing was served.
    pub fn open_copy(
        main: Arc<dyn Device>,
        spare: Arc<dyn Device>,
        options: &VolumeOptions,
        bad: &[SectorRun],
        on_event: impl Fn(Event) + Send + Clone + 'static,
    ) -> Result<Volume, VolumeError> {
        let unmarked = (Arc::clone(&main), MainIs::UnmarkedCopy);
        let volume = Volume::open_with(unmarked, Arc::clone(&spare), options, on_event.clone())?;
        let marked = volume.mark(MarkKind::Gone, bad);
        let closed = volume.close();
        drop(volume);
        let failed = |error| VolumeError::Unmarked { spare: spare.describe(), error };
        let unwritten = || {
            let words = "the spare takes no writes".to_owned();
            failed(MarkError { words, reason: Reason::NotWritable })
        };
        marked.map_err(failed)?;
        if !closed {
            return Err(unwritten());
        }
        let volume =
            Volume::open_with((main, MainIs::Copy), Arc::clone(&spare), options, on_event)?;
        // Opened read-only, because it could not be written: the copy's identity is not stored.
        if volume.is_writable() { Ok(volume) } else { Err(unwritten()) }
    }

    /// Opens the volume on `spare` to work on its metadata, without main, which has `main_sectors`
    /// in blocks of `block_bytes` by the header. Reads and writes fail.
    ///
    /// # Errors
    /// See [`VolumeError`].
    pub fn open_without_main(
        (main_sectors, block_bytes): (u64, u32),
        spare: Arc<dyn Device>,
        options: &VolumeOptions,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Volume, VolumeError> {
        let main: Arc<dyn Device> = Arc::new(Absent { main_sectors, block_bytes });
        Volume::open_with((main, MainIs::Absent), spare, options, on_event)
    }
}

/// A main that is not there: nothing can be read or written, and there is nothing to be flushed.
struct Absent {
    main_sectors: u64,
    block_bytes: u32,
}

impl Device for Absent {
    fn geometry(&self) -> Geometry {
        Geometry {
            sectors: self.main_sectors,
            logical_block: self.block_bytes,
            physical_block: self.block_bytes,
            can_discard: false,
            can_write_zeroes: false,
            read_only: false,
            backing: Backing::Memory,
        }
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<(), Class> {
        Err(Class::NotSupported)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64, _fua: bool) -> Result<(), Class> {
        Err(Class::NotSupported)
    }

    fn flush(&self) -> Result<(), Class> {
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> Result<(), Class> {
        Err(Class::NotSupported)
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _fua: bool) -> Result<(), Class> {
        Err(Class::NotSupported)
    }

    fn identity(&self) -> Identity {
        Identity::bare(DeviceKey::Memory(u64::MAX))
    }

    fn describe(&self) -> String {
        "main, which is not there".to_owned()
    }
}
