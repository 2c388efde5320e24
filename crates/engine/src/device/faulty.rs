// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A device that fails where a file says so.
//!
//! ```text
//! faulty:SPEC?map=FILE[&mode=WORDS][&block=BYTES][&outage=FILE][&flush=FILE][&cache=volatile]
//! ```
//!
//! * `map`: where and how it fails, see [`FaultMap`]. The file is looked at before each operation
//!   and read again when its inode, size or time has changed; one that cannot be read then leaves
//!   things as they were, with a warning. Replace it by `rename`, so that it is never seen half
//!   written.
//! * `mode`: words (separated by commas) for runs that say nothing; `block`: bytes of a block of a
//!   badblocks list, 1,024 if not given.
//! * `outage`: while this file exists the whole device fails, with the error whose name is in it
//!   (`io` if it is empty).
//! * `flush`: a flush that finds this file removes it and fails.
//! * `cache=volatile`: what has not been flushed is lost by a flush that fails and by an outage.
//!
//! A write that meets a bad sector writes what lies before it and fails. What `heal` has healed is
//! appended to `FILE.healed` before the write is answered, and stays healed when the device is
//! opened again, until that file is removed and the map is read again.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dmremap_core::Class;
use dmremap_format::SECTOR_BYTES;

use super::error::DeviceError;
use super::faultmap::{FaultMap, Mode, error_named};
use super::identity::Identity;
use super::spec::Parameters;
use super::{Device, Geometry};

/// A device that fails where a file says so.
pub struct Faulty {
    inner: Arc<dyn Device>,
    name: String,
    map_path: PathBuf,
    mode: Mode,
    block_bytes: u64,
    outage: Option<PathBuf>,
    flush_trigger: Option<PathBuf>,
    loaded: RwLock<Arc<Loaded>>,
    /// Sectors that a write has healed.
    healed: RwLock<HashSet<u64>>,
    /// With `cache=volatile`: what unflushed sectors held before they were written.
    cache: Option<Mutex<BTreeMap<u64, Vec<u8>>>>,
}

/// A map as read, with what counts down.
struct Loaded {
    stamp: Option<Stamp>,
    map: FaultMap,
    /// Failures left, for each run of the map.
    left: Vec<AtomicU32>,
    flushes_left: AtomicU32,
}

/// What changes when a file is written or replaced: inode, size, time.
type Stamp = (u64, u64, i64, i64);

/// Which operations a run is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Faulty {
    pub(crate) fn open(
        inner: Arc<dyn Device>,
        name: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Faulty, DeviceError> {
        parameters.only(&["map", "mode", "block", "outage", "flush", "cache"])?;
        let mode = Mode::default()
            .with_words(parameters.get("mode").unwrap_or(""))
            .map_err(|why| parameters.error(why))?;
        let block_bytes = match parameters.get("block").unwrap_or("1024").parse() {
            Ok(bytes) if (512..=65_536).contains(&bytes) => bytes,
            _ => return Err(parameters.error("block wants 512 to 65536 bytes".into())),
        };
        let cache = match parameters.get("cache") {
            None => None,
            Some("volatile") => Some(Mutex::default()),
            Some(_) => return Err(parameters.error("cache can only be volatile".into())),
        };
        let map_path = PathBuf::from(parameters.need("map")?);
        let mut faulty = Faulty::new(inner, name, &map_path, mode, block_bytes)?;
        faulty.outage = parameters.get("outage").map(PathBuf::from);
        faulty.flush_trigger = parameters.get("flush").map(PathBuf::from);
        faulty.cache = cache;
        Ok(faulty)
    }

    /// `inner`, failing as the file at `map` says; runs that say nothing fail by `mode`, and a
    /// block of a badblocks list has `block_bytes` bytes.
    ///
    /// # Errors
    /// [`DeviceError::Wrapper`] if the map cannot be read or understood.
    pub fn new(
        inner: Arc<dyn Device>,
        name: &str,
        map: &Path,
        mode: Mode,
        block_bytes: u64,
    ) -> Result<Faulty, DeviceError> {
        let loaded = Loaded::read(map, mode, block_bytes, None)?;
        let healed = RwLock::new(read_healed(&healed_path(map)));
        Ok(Faulty {
            inner,
            name: name.to_owned(),
            map_path: map.to_path_buf(),
            mode,
            block_bytes,
            outage: None,
            flush_trigger: None,
            loaded: RwLock::new(Arc::new(loaded)),
            healed,
            cache: None,
        })
    }

    /// The map as it is now.
    fn current(&self) -> Arc<Loaded> {
        let now = stamp(&self.map_path);
        let loaded = Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner));
        if now == loaded.stamp {
            return loaded;
        }
        let mut place = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if now == place.stamp {
            return Arc::clone(&place);
        }
        match Loaded::read(&self.map_path, self.mode, self.block_bytes, Some(&place)) {
            Ok(fresh) => {
                *place = Arc::new(fresh);
                *self.healed.write().unwrap_or_else(PoisonError::into_inner) =
                    read_healed(&healed_path(&self.map_path));
            }
            Err(error) => tracing::warn!(%error, "fault map kept as it was"),
        }
        Arc::clone(&place)
    }

    /// The map, unless the whole device fails now.
    fn alive(&self) -> Result<Arc<Loaded>, Class> {
        let loaded = self.current();
        let class = loaded.map.outage.or_else(|| {
            let text = std::fs::read_to_string(self.outage.as_ref()?).ok()?;
            Some(error_named(text.trim()).unwrap_or(Class::Io))
        });
        match class {
            None => Ok(loaded),
            Some(class) => {
                if let Some(mut cache) = self.cache() {
                    self.lose(&mut cache);
                }
                Err(class)
            }
        }
    }

    fn cache(&self) -> Option<MutexGuard<'_, BTreeMap<u64, Vec<u8>>>> {
        Some(self.cache.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first sector that fails in this range now, and how. Counts a transient failure.
    fn first_bad(
        &self,
        loaded: &Loaded,
        access: Access,
        offset: u64,
        len: u64,
    ) -> Option<(u64, Class)> {
        let (sector, sectors) = (offset / SECTOR_BYTES, len / SECTOR_BYTES);
        for (index, run) in loaded.map.overlapping(sector, sectors) {
            let wanted = if access == Access::Read { run.mode.reads } else { run.mode.writes };
            if !wanted {
                continue;
            }
            let (from, to) = (run.sector.max(sector), run.end().min(sector + sectors));
            let bad = if run.mode.heal {
                let healed = self.healed.read().unwrap_or_else(PoisonError::into_inner);
                (from..to).find(|s| !healed.contains(s))
            } else {
                Some(from)
            };
            if let (Some(bad), true) = (bad, loaded.counts(index, run.mode)) {
                return Some((bad, run.mode.class));
            }
        }
        None
    }

    /// Notes what a write of this range has healed, on disk first.
    fn heal(&self, loaded: &Loaded, offset: u64, len: u64) -> Result<(), Class> {
        let (sector, sectors) = (offset / SECTOR_BYTES, len / SECTOR_BYTES);
        let mut text = String::new();
        let mut fresh = Vec::new();
        for (_, run) in loaded.map.overlapping(sector, sectors).filter(|(_, run)| run.mode.heal) {
            let (from, to) = (run.sector.max(sector), run.end().min(sector + sectors));
            let healed = self.healed.read().unwrap_or_else(PoisonError::into_inner);
            if (from..to).any(|s| !healed.contains(&s)) {
                let (at, size) = (from * SECTOR_BYTES, (to - from) * SECTOR_BYTES);
                text.push_str(&format!("0x{at:x} 0x{size:x} +\n"));
                fresh.extend(from..to);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let path = healed_path(&self.map_path);
        let written = File::options().create(true).append(true).open(&path);
        if let Err(error) = written.and_then(|mut file| file.write_all(text.as_bytes())) {
            tracing::warn!(%error, path = %path.display(), "healed sectors not noted");
            return Err(Class::Io);
        }
        self.healed.write().unwrap_or_else(PoisonError::into_inner).extend(fresh);
        Ok(())
    }

    /// A change of `len` bytes at `offset` that `job` carries out for the first so many bytes.
    fn change(
        &self,
        offset: u64,
        len: u64,
        fua: bool,
        job: impl Fn(u64) -> Result<(), Class>,
    ) -> Result<(), Class> {
        let loaded = self.alive()?;
        if !self.inner.geometry().holds(offset, len) {
            return Err(Class::NotSupported);
        }
        let bad = self.first_bad(&loaded, Access::Write, offset, len);
        let block = u64::from(self.inner.logical_block());
        let good = match bad {
            None => len,
            Some((sector, _)) => (sector * SECTOR_BYTES).saturating_sub(offset) / block * block,
        };
        if good > 0 {
            self.cached(offset, good, fua, || job(good))?;
            self.heal(&loaded, offset, good)?;
        }
        bad.map_or(Ok(()), |(_, class)| Err(class))
    }

    /// Runs `job`, a change of this range, with the volatile cache kept in step.
    fn cached(
        &self,
        offset: u64,
        len: u64,
        fua: bool,
        job: impl Fn() -> Result<(), Class>,
    ) -> Result<(), Class> {
        let Some(mut cache) = self.cache() else { return job() };
        let mut before = vec![0; len as usize];
        self.inner.read_at(&mut before, offset)?;
        let first = offset / SECTOR_BYTES;
        if !fua {
            for (sector, bytes) in (first..).zip(before.chunks(SECTOR_BYTES as usize)) {
                cache.entry(sector).or_insert_with(|| bytes.to_vec());
            }
            return job();
        }
        job()?;
        for sector in first..first + len / SECTOR_BYTES {
            cache.remove(&sector);
        }
        Ok(())
    }

    /// Takes back every write that has not been flushed.
    fn lose(&self, cache: &mut BTreeMap<u64, Vec<u8>>) {
        let block = u64::from(self.inner.logical_block());
        let mut buf = vec![0; block as usize];
        for (sector, bytes) in std::mem::take(cache) {
            let at = sector * SECTOR_BYTES;
            let (start, inside) = (at / block * block, (at % block) as usize);
            let undone = self.inner.read_at(&mut buf, start).and_then(|()| {
                buf[inside..inside + bytes.len()].copy_from_slice(&bytes);
                self.inner.write_at(&buf, start, false)
            });
            if let Err(class) = undone {
                tracing::warn!(%class, sector, "unflushed write not taken back");
            }
        }
    }

    fn flush_fails(&self, loaded: &Loaded) -> bool {
        let triggered =
            self.flush_trigger.as_ref().is_some_and(|path| std::fs::remove_file(path).is_ok());
        triggered || count_down(&loaded.flushes_left)
    }
}

impl Loaded {
    fn read(
        path: &Path,
        mode: Mode,
        block_bytes: u64,
        before: Option<&Loaded>,
    ) -> Result<Loaded, DeviceError> {
        let fail = |line, why| DeviceError::Wrapper { path: path.to_path_buf(), line, why };
        // Taken before the text is: a change in between is seen at the next operation.
        let stamp = stamp(path);
        let text = std::fs::read_to_string(path).map_err(|error| fail(0, error.to_string()))?;
        let map = FaultMap::parse(&text, mode, block_bytes)
            .map_err(|error| fail(error.line, error.why))?;
        let left = map
            .runs
            .iter()
            .map(|run| {
                let old = before.and_then(|old| {
                    let at = old.map.runs.iter().position(|other| other == run)?;
                    Some(old.left.get(at)?.load(Ordering::Relaxed))
                });
                AtomicU32::new(old.or(run.mode.transient).unwrap_or(0))
            })
            .collect();
        let flushes_left = AtomicU32::new(map.flush_fails);
        Ok(Loaded { stamp, map, left, flushes_left })
    }

    /// Whether a failure of run `index` happens: always, or while a transient one has some left.
    fn counts(&self, index: usize, mode: Mode) -> bool {
        mode.transient.is_none() || self.left.get(index).is_some_and(count_down)
    }
}

/// Takes one off, if there is one.
fn count_down(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

fn healed_path(map: &Path) -> PathBuf {
    let mut name = map.as_os_str().to_owned();
    name.push(".healed");
    PathBuf::from(name)
}

/// The sectors noted as healed; a last line that a kill has cut short counts for nothing.
fn read_healed(path: &Path) -> HashSet<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let areas = whole.lines().filter_map(|line| {
        let mut fields = line.split(' ').map(|field| {
            u64::from_str_radix(field.strip_prefix("0x")?, 16).ok().map(|n| n / SECTOR_BYTES)
        });
        Some((fields.next()??, fields.next()??))
    });
    areas.flat_map(|(first, sectors)| first..first.saturating_add(sectors)).collect()
}

impl Device for Faulty {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        let loaded = self.alive()?;
        match self.first_bad(&loaded, Access::Read, offset, buf.len() as u64) {
            Some((_, class)) => Err(class),
            None => self.inner.read_at(buf, offset),
        }
    }

    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        let loaded = self.alive()?;
        match self.first_bad(&loaded, Access::Read, offset, buf.len() as u64) {
            Some((_, class)) => Err(class),
            None => self.inner.read_uncached(buf, offset),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.change(offset, buf.len() as u64, fua, |good| {
            self.inner.write_at(&buf[..good as usize], offset, fua)
        })
    }

    fn flush(&self) -> Result<(), Class> {
        let loaded = self.alive()?;
        let mut cache = self.cache();
        if self.flush_fails(&loaded) {
            if let Some(cache) = cache.as_mut() {
                self.lose(cache);
            }
            return Err(Class::Io);
        }
        self.inner.flush()?;
        if let Some(cache) = cache.as_mut() {
            cache.clear();
        }
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.alive()?;
        self.cached(offset, len, false, || self.inner.discard(offset, len))
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.change(offset, len, fua, |good| self.inner.write_zeroes(offset, good, fua))
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
