// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Making a volume: checks first, then the steps of [`Create`] on the spare. Main is only read.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dmremap_core::commit::VolumeId;
use dmremap_core::create::{Create, CreateKind, CreateStep};
use dmremap_core::settings::{SNAPSHOT_BYTES, Settings};
use dmremap_format::{
    Depth, Found, Header, HeaderMut, Layout, MAX_CONTENTS, MAX_IDENTITIES, Member, MemberState,
    NewHeader, PAGE_BYTES, PageBytes, PageIndex, Prober, SectorRange, Signature, Uuid,
};

use crate::device::Device;
use crate::device::identity::DeviceKey;
use crate::host;

use super::error::VolumeError;
use super::main_identity::{self, Look};
use super::meta::{MetaIo, MetaJob, page_sector};

/// What a new volume is to be.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// Its name, `[A-Za-z0-9_.-]{1,64}`; empty for none.
    pub name: String,
    /// Its block in bytes: 512 to 4096, not below main's own; main's own if not given.
    pub block_size: Option<u32>,
    /// Entries it can hold; by default every unit of the spare, at most 262,144.
    pub max_entries: Option<u32>,
    /// A hint where main was found, for people; at most 256 bytes are kept.
    pub hint: String,
    /// Settings to begin with.
    pub settings: Settings,
    /// `--force=foreign-signature`: whatever lies on the spare is lost.
    pub force_foreign: bool,
    /// `--force=volume`: a volume that lies on the spare is lost.
    pub force_volume: bool,
    /// `--force=physical-block`: a spare with physical blocks above 4096 bytes.
    pub force_physical_block: bool,
    /// Check everything, change nothing.
    pub dry_run: bool,
}

/// A volume that was made, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The volume; zero after a dry run.
    pub volume: Uuid,
    /// Its spare; zero after a dry run.
    pub spare: Uuid,
    /// Where everything lies on the spare.
    pub layout: Layout,
    /// Size in sectors.
    pub main_sectors: u64,
    /// Block in bytes.
    pub block_bytes: u32,
}

/// I/Os at a time.
const WINDOW: u32 = 16;
/// Bytes of the path hint kept.
const HINT_BYTES: usize = 256;

/// Makes a volume of `main` and `spare`, which the caller has opened and holds. Nothing is written
/// to main.
///
/// # Errors
/// See [`VolumeError`]; a refusal has written nothing, and after [`VolumeError::Format`] there is
/// no volume.
pub fn format(
    main: &Arc<dyn Device>,
    spare: &Arc<dyn Device>,
    options: &FormatOptions,
) -> Result<Formatted, VolumeError> {
    check_apart(main, spare)?;
    let block_bytes = block_size(main, spare, options)?;
    let main_sectors = main.sectors() & !(u64::from(block_bytes / 512) - 1);
    let layout = layout(spare, options)?;
    check_spare_empty(spare, options)?;
    let look = main_identity::look(&**main, |_, _| false);
    let mut formatted = Formatted {
        volume: Uuid::default(),
        spare: Uuid::default(),
        layout,
        main_sectors,
        block_bytes,
    };
    if options.dry_run {
        return Ok(formatted);
    }
    if spare.geometry().read_only {
        return Err(VolumeError::ReadOnlyDevice { device: spare.describe() });
    }
    let uuid = || host::random_uuid().map_err(|e| VolumeError::System(e.to_string()));
    (formatted.volume, formatted.spare) = (uuid()?, uuid()?);
    let header = header(main, spare, options, &formatted, &look).map_err(VolumeError::Field)?;
    // A spare that fills up behind our back would fail the very writes it is there for.
    spare.reserve().map_err(|class| VolumeError::Unreadable { device: spare.describe(), class })?;
    write(spare, &layout, &header, |_, _| {})?;
    Ok(formatted)
}

/// Main and spare must be different devices, and neither a part of the other.
pub(crate) fn check_apart(
    main: &Arc<dyn Device>,
    spare: &Arc<dyn Device>,
) -> Result<(), VolumeError> {
    let (a, b) = (main.identity(), spare.identity());
    let lies_on = |file: DeviceKey, disk: DeviceKey| match (file, disk) {
        (DeviceKey::File { major, minor, .. }, DeviceKey::Block { major: m, minor: n }) => {
            (major, minor) == (m, n)
        }
        _ => false,
    };
    let same = a.key == b.key
        || a.disk == Some(b.key)
        || b.disk == Some(a.key)
        || lies_on(a.key, b.key)
        || lies_on(b.key, a.key);
    match same {
        true => Err(VolumeError::SameDevice { main: main.describe(), spare: spare.describe() }),
        false => Ok(()),
    }
}

fn block_size(
    main: &Arc<dyn Device>,
    spare: &Arc<dyn Device>,
    options: &FormatOptions,
) -> Result<u32, VolumeError> {
    let own = main.logical_block();
    let asked = options.block_size.unwrap_or(own);
    let refuse = |device: &Arc<dyn Device>| VolumeError::BlockSize {
        device: device.describe(),
        asked,
        own: device.logical_block(),
    };
    if !asked.is_power_of_two() || !(512..=4096).contains(&asked) || asked < own {
        return Err(refuse(main));
    }
    if spare.logical_block() > asked {
        return Err(refuse(spare));
    }
    if asked > own && has_partition_table(main)? {
        return Err(VolumeError::PartitionTable { main: main.describe(), asked });
    }
    Ok(asked)
}

fn has_partition_table(main: &Arc<dyn Device>) -> Result<bool, VolumeError> {
    let found = signatures(main, false)?;
    Ok(found.iter().any(|found| matches!(found.kind, Signature::Gpt | Signature::Mbr)))
}

fn layout(spare: &Arc<dyn Device>, options: &FormatOptions) -> Result<Layout, VolumeError> {
    let geometry = spare.geometry();
    let make = if options.force_physical_block { Layout::new_forced } else { Layout::new };
    make(geometry.sectors, geometry.physical_block, options.max_entries)
        .map_err(|error| VolumeError::Layout { spare: spare.describe(), error })
}

/// What lies on a device. With `strict`, what cannot be read is an error.
fn signatures(device: &Arc<dyn Device>, strict: bool) -> Result<Vec<Found>, VolumeError> {
    let mut prober = Prober::new(device.geometry().bytes(), Depth::Device);
    let mut all = Vec::new();
    while let Some(window) = prober.next() {
        match main_identity::read_window(&**device, window) {
            Some(bytes) => prober.judge(window, &bytes, |found| all.push(found)),
            None if strict => {
                let class = dmremap_core::Class::Io;
                return Err(VolumeError::Unreadable { device: device.describe(), class });
            }
            None => prober.unreadable(window),
        }
    }
    Ok(all)
}

pub(crate) fn check_spare_empty(
    spare: &Arc<dyn Device>,
    options: &FormatOptions,
) -> Result<(), VolumeError> {
    let found = signatures(spare, true)?;
    let is_ours = |found: &&Found| found.kind == Signature::DmRemap;
    if !options.force_volume && found.iter().any(|found| is_ours(&found)) {
        return Err(VolumeError::OldVolume { spare: spare.describe() });
    }
    match found.iter().find(|found| !is_ours(found)) {
        Some(found) if !options.force_foreign => {
            Err(VolumeError::Occupied { spare: spare.describe(), found: *found })
        }
        _ => Ok(()),
    }
}

fn header(
    main: &Arc<dyn Device>,
    spare: &Arc<dyn Device>,
    options: &FormatOptions,
    formatted: &Formatted,
    look: &Look,
) -> Result<Box<PageBytes>, dmremap_format::Field> {
    let now = unix_s();
    let mut page = Box::new([0; PAGE_BYTES]);
    let new = NewHeader {
        volume: formatted.volume,
        spare: formatted.spare,
        layout: formatted.layout,
        main_sectors: formatted.main_sectors,
        block_bytes: formatted.block_bytes,
    };
    let mut header = HeaderMut::blank(&mut page, &new)?;
    header.set_timestamp(now);
    header.set_created_at(now);
    if !options.name.is_empty() {
        header.set_name(&options.name)?;
    }
    let hint = options.hint.as_bytes();
    header.set_hint(hint.get(..hint.len().min(HINT_BYTES)).unwrap_or(&[]))?;
    let mut snapshot = [0; SNAPSHOT_BYTES];
    options.settings.to_snapshot(&mut snapshot);
    let used = snapshot.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    header.set_settings(&snapshot[..used])?;
    let member = Member {
        spare: formatted.spare,
        index: 0,
        sectors: formatted.layout.spare_sectors(),
        hardware: main_identity::fingerprint(&spare.identity()),
        state: MemberState::Ok,
    };
    header.set_member(0, Some(&member))?;
    let identity = main.identity();
    header.set_fingerprint(&main_identity::fingerprint(&identity));
    for (at, one) in identity.hardware().iter().take(MAX_IDENTITIES).enumerate() {
        header.set_identity(at, Some(one.row()))?;
    }
    for (at, one) in look.contents.iter().take(MAX_CONTENTS).enumerate() {
        header.set_content(at, Some(&one.row()))?;
    }
    header.set_content_at(now);
    Ok(page)
}

/// Seconds since 1970; 0 if the clock says before.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Carries the steps of [`Create`] out; `fill` puts into a page of the table what belongs there.
pub(crate) fn write(
    spare: &Arc<dyn Device>,
    layout: &Layout,
    header: &PageBytes,
    fill: impl Fn(PageIndex, &mut PageBytes),
) -> Result<(), VolumeError> {
    let view = Header::of_image(header);
    let id = VolumeId { volume: view.volume(), spare: view.spare() };
    let gaps: Vec<SectorRange> = layout.gaps().collect();
    let mut create = Create::new(header, id, gaps.len() as u32, WINDOW);
    let mut io = MetaIo::new(Arc::clone(spare), Instant::now())
        .map_err(|error| VolumeError::System(error.to_string()))?;
    let mut reading = false;
    loop {
        match create.step() {
            CreateStep::Io(wanted) => {
                let page_at = |page, copy| page_sector(Some(layout), page, copy);
                let job = match wanted.kind {
                    CreateKind::ZeroHeader(copy) => {
                        MetaJob::Write(layout.header_sector(copy), Box::new([0; PAGE_BYTES]))
                    }
                    CreateKind::ZeroRange(range) => {
                        let none = SectorRange { sector: 0, sectors: 0 };
                        MetaJob::Zero(gaps.get(range as usize).copied().unwrap_or(none))
                    }
                    CreateKind::Write { page, copy } => {
                        let mut image = Box::new([0; PAGE_BYTES]);
                        let _ = create.write_filled(wanted.id, &mut image, &fill);
                        MetaJob::Write(page_at(page, copy), image)
                    }
                    CreateKind::Flush => MetaJob::Flush,
                    CreateKind::Read { page, copy } => {
                        // Everything has been written by now.
                        if !reading {
                            io.read_ahead(true);
                            reading = true;
                        }
                        MetaJob::Read(page_at(page, copy))
                    }
                };
                io.send(wanted.id, job);
            }
            CreateStep::Wait => {
                if let Some(answer) = io.wait(None) {
                    let result = answer.result.as_ref().map(Option::as_deref).map_err(|c| *c);
                    create.io_done(answer.id, result);
                }
            }
            CreateStep::Done => return Ok(()),
            CreateStep::Failed(step, fault) => {
                return Err(VolumeError::Format { spare: spare.describe(), step, fault });
            }
        }
    }
}
