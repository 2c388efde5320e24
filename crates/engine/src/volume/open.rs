// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Opening a volume: the open machine over the spare's five copies, with every check that only the
//! host can make between its two passes. What is refused before [`Opening::go_on`] has written
//! nothing.

use std::sync::Arc;
use std::time::Instant;

use dmremap_core::commit::{
    Commit, HeaderChange, IoKind, MetadataChange, PageId, PageState, state_count,
};
use dmremap_core::machine::{Loader, Machine, Parts};
use dmremap_core::open::{Open, OpenStep, Refused};
use dmremap_core::resolve::{Geometry, Shared};
use dmremap_core::settings::{SNAPSHOT_BYTES, Setting, Settings};
use dmremap_format::identity::Accept;
use dmremap_format::{Header, Layout, PAGE_BYTES, Role, Session, State, Uuid};

use crate::device::{Device, Manner};
use crate::host;

use super::error::VolumeError;
use super::fast::{Core, queues};
use super::format::{check_apart, unix_s};
use super::main_identity::{self, Kept, Look};
use super::memory::{self, Pages, Words};
use super::meta::{MetaIo, MetaJob, page_sector};

/// How a volume is opened.
#[derive(Clone, Debug, Default)]
pub struct VolumeOptions {
    /// Nothing is written, to main or to the spare.
    pub read_only: bool,
    /// `--force=quorum`: one valid copy is enough. Implies read-only.
    pub force_quorum: bool,
    /// `--force=in-use`: another host that did not close it is gone for good.
    pub force_in_use: bool,
    /// `--accept-main=same`: main is the same disk although nothing proves it.
    pub accept_main: bool,
    /// Settings that win over those in the header, and are saved there.
    pub settings: Vec<Setting>,
    /// How requests reach both devices, if not in the manner each was found to suit: for tests and
    /// measurements.
    pub manner: Option<Manner>,
}

/// What main is to this open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainIs {
    /// The volume's main, or what [`VolumeOptions::accept_main`] says of it.
    Known,
    /// A disk that main was copied onto, whose bad areas are not marked yet: nothing it is known by
    /// may be stored, or the next open would take it as it is.
    UnmarkedCopy,
    /// The same, and they are.
    Copy,
    /// Not there: only the metadata is worked on.
    Absent,
}

/// What the header says, and what was found.
#[derive(Clone, Debug)]
pub struct VolumeInfo {
    /// The volume.
    pub volume: Uuid,
    /// The spare.
    pub spare: Uuid,
    /// Its name; empty if it has none.
    pub name: String,
    /// Where everything lies on the spare.
    pub layout: Layout,
    /// Size in sectors.
    pub main_sectors: u64,
    /// Block in bytes.
    pub block_bytes: u32,
    /// The session that had it open before; zero if none had.
    pub before: Session,
    /// What that session left: `Clean`, or `Dirty` after a crash.
    pub state: State,
    /// This session; zero if nothing was written.
    pub session: Uuid,
    /// Main is provably the same, but its content is not what it was.
    pub content_changed: bool,
}

/// A volume that is open and not yet at work.
pub(crate) struct Opened {
    pub(crate) info: VolumeInfo,
    pub(crate) shared: Arc<Shared<Words>>,
    pub(crate) core: Core,
    /// What was read of main's content, and what the header keeps of main now.
    pub(crate) content: (Look, Kept),
    pub(crate) queues: usize,
    pub(crate) writable: bool,
}

/// What the header names, once it has been shown.
struct Shown {
    info: VolumeInfo,
    role: Role,
    settings: Settings,
    kept: Kept,
    shared: Arc<Shared<Words>>,
    loader: Loader<Words>,
    queues: usize,
}

struct Opening<'a> {
    /// None: the metadata alone is looked after, and nothing will be served.
    main: Option<&'a Arc<dyn Device>>,
    main_is: MainIs,
    spare: &'a Arc<dyn Device>,
    options: &'a VolumeOptions,
    io: MetaIo,
    open: Open<Pages>,
    shown: Option<Shown>,
    content: Option<(Look, Kept)>,
    writable: bool,
}

/// Opens the volume of `main` and `spare`, which the caller holds. Milliseconds count from `start`.
pub(crate) fn open(
    (main, main_is): (&Arc<dyn Device>, MainIs),
    spare: &Arc<dyn Device>,
    options: &VolumeOptions,
    start: Instant,
) -> Result<Opened, VolumeError> {
    check_apart(main, spare)?;
    let opening = begin(Some(main), main_is, spare, options, start)?;
    opening.run()?.finish()
}

/// Makes the five copies of every page valid and equal again, by the rule of an open and without
/// main: it goes no further than the header, which is written last as it was found but for its
/// session. So a volume that was not closed stays one that was not closed: what main's cache may
/// have lost nobody has looked at, and no data unit is touched. `options` say whether anything is
/// written at all (`read_only`), and that another host is gone for good (`force_in_use`).
///
/// # Errors
/// What refuses an open, but for what concerns main; nothing has been written then.
pub fn repair(spare: &Arc<dyn Device>, options: &VolumeOptions) -> Result<VolumeInfo, VolumeError> {
    let opening = begin(None, MainIs::Absent, spare, options, Instant::now())?.run()?;
    opening.shown.map(|shown| shown.info).ok_or_else(lost)
}

fn lost() -> VolumeError {
    VolumeError::System("the open ended without a volume".into())
}

fn begin<'a>(
    main: Option<&'a Arc<dyn Device>>,
    main_is: MainIs,
    spare: &'a Arc<dyn Device>,
    options: &'a VolumeOptions,
    start: Instant,
) -> Result<Opening<'a>, VolumeError> {
    if !options.read_only && !options.force_quorum {
        let mut devices = main.into_iter().chain([spare]);
        if let Some(device) = devices.find(|device| device.geometry().read_only) {
            return Err(VolumeError::ReadOnlyDevice { device: device.describe() });
        }
    }
    let io = MetaIo::new(Arc::clone(spare), start)
        .map_err(|error| VolumeError::System(error.to_string()))?;
    let mut settings = Settings::default();
    options.settings.iter().for_each(|setting| {
        settings.set(*setting);
    });
    let limit = u64::from(settings.recovery_limit_ms());
    let open = Open::new(memory::page_cache(), limit, options.force_quorum);
    Ok(Opening {
        main,
        main_is,
        spare,
        options,
        io,
        open,
        shown: None,
        content: None,
        writable: false,
    })
}

impl Opening<'_> {
    /// Goes on until all is written that is to be.
    fn run(mut self) -> Result<Self, VolumeError> {
        self.io.read_ahead(true);
        loop {
            let now = self.io.now();
            match self.open.step(now) {
                OpenStep::Io(io) => {
                    let layout = self.shown.as_ref().map(|shown| shown.info.layout);
                    let at = |page, copy| page_sector(layout.as_ref(), page, copy);
                    let job = match io.kind {
                        IoKind::Read { page, copy } => MetaJob::Read(at(page, copy)),
                        IoKind::Write { page, copy } => {
                            let mut image = Box::new([0; PAGE_BYTES]);
                            let _ = self.open.write_image(io.id, &mut image);
                            MetaJob::Write(at(page, copy), image)
                        }
                        IoKind::Flush => MetaJob::Flush,
                    };
                    self.io.send(io.id, job);
                }
                OpenStep::Wait => self.wait(),
                OpenStep::Loaded(PageId::Table(page)) => {
                    self.load(page)?;
                    self.open.accept();
                }
                OpenStep::Loaded(_) => self.show()?,
                OpenStep::Judged(_) => self.go_on()?,
                // What was given up is still at the device: it must not outlive the open.
                OpenStep::Opened { .. } if self.io.is_out() => self.wait(),
                OpenStep::Opened { writable } => {
                    self.writable = writable;
                    return Ok(self);
                }
                OpenStep::Refused(refused) => return Err(self.refused(refused)),
            }
        }
    }

    fn refused(&self, refused: Refused) -> VolumeError {
        VolumeError::Metadata { spare: self.spare.describe(), refused: Box::new(refused) }
    }

    fn wait(&mut self) {
        let deadline = self.open.next_deadline();
        match self.io.wait(deadline) {
            Some(answer) => {
                if answer.flush && answer.result.is_err() {
                    self.open.flush_failed();
                }
                let result = answer.result.as_ref().map(Option::as_deref).map_err(|c| *c);
                self.open.io_done(answer.id, result);
            }
            None => self.open.tick(self.io.now()),
        }
    }

    /// The winning header: sizes first, since everything else is laid out by them.
    fn show(&mut self) -> Result<(), VolumeError> {
        let Some(image) = self.open.image() else {
            return Err(self.refused(Refused::NoMemory { table_pages: 0 }));
        };
        let header = Header::of_image(image);
        let layout = header
            .layout()
            .map_err(|error| VolumeError::Layout { spare: self.spare.describe(), error })?;
        let (main_sectors, block_bytes) = (header.main_sectors(), header.block_bytes());
        self.check_sizes(main_sectors, block_bytes, &layout)?;
        let geometry = Geometry {
            main_sectors,
            block_sectors: (block_bytes / 512) as u8,
            data_start: layout.data_start(),
        };
        let queues = queues();
        let (shared, loader) = memory::empty_table(&layout, geometry, queues);
        let mut snapshot = [0; SNAPSHOT_BYTES];
        let kept = header.settings();
        snapshot[..kept.len().min(SNAPSHOT_BYTES)]
            .copy_from_slice(&kept[..kept.len().min(SNAPSHOT_BYTES)]);
        let (mut settings, unknown) = Settings::from_snapshot(&snapshot);
        if unknown > 0 {
            tracing::warn!(unknown, "settings in the header that this version does not know");
        }
        self.options.settings.iter().for_each(|setting| {
            settings.set(*setting);
        });
        let info = VolumeInfo {
            volume: header.volume(),
            spare: header.spare(),
            name: header.name().to_owned(),
            layout,
            main_sectors,
            block_bytes,
            before: header.session(),
            state: header.state(),
            session: Uuid::default(),
            content_changed: false,
        };
        let (kept, role) = (Kept::of(&header), header.role());
        self.shown = Some(Shown { info, role, settings, kept, shared, loader, queues });
        let states = vec![PageState::default(); state_count(layout.pages())];
        self.open.accept_header(states.into_boxed_slice());
        Ok(())
    }

    fn check_sizes(
        &self,
        main_sectors: u64,
        block_bytes: u32,
        layout: &Layout,
    ) -> Result<(), VolumeError> {
        let spare = self.spare.geometry();
        for device in self.main.into_iter().chain([self.spare]) {
            let own = device.logical_block();
            if own > block_bytes {
                let device = device.describe();
                return Err(VolumeError::BlockSize { device, asked: block_bytes, own });
            }
        }
        if let Some(main) = self.main {
            let whole = main.sectors() & !(u64::from(block_bytes / 512) - 1);
            if whole != main_sectors {
                let (device, own) = (main.describe(), main.sectors());
                return Err(VolumeError::Size { device, header: main_sectors, own });
            }
        }
        if spare.sectors < layout.spare_sectors() {
            let (device, own) = (self.spare.describe(), spare.sectors);
            return Err(VolumeError::Size { device, header: layout.spare_sectors(), own });
        }
        Ok(())
    }

    fn load(&mut self, page: dmremap_format::PageIndex) -> Result<(), VolumeError> {
        let (Some(shown), Some(image)) = (self.shown.as_mut(), self.open.image()) else {
            return Ok(());
        };
        shown
            .loader
            .page(&shown.shared, page, image)
            .map_err(|fault| VolumeError::Table { spare: self.spare.describe(), fault })
    }

    /// Everything has been read and makes sense: is it ours to open, and is this its main?
    fn go_on(&mut self) -> Result<(), VolumeError> {
        self.io.read_ahead(false);
        let spare = self.spare.describe();
        let Some(shown) = self.shown.as_mut() else { return Ok(()) };
        let restored = shown.info.state == State::Restored;
        let served = shown.role == Role::Table
            && matches!(shown.info.state, State::Clean | State::Dirty | State::Restored);
        if !served {
            return Err(VolumeError::NotServed { spare, state: shown.info.state });
        }
        check_host(&spare, shown, self.options)?;
        let noted = match self.main {
            None => Vec::new(),
            Some(main) => {
                let (look, kept) = check_main(main, self.main_is, shown, self.options)?;
                let noted = shown.kept.changes(&kept);
                self.content = Some((look, kept));
                noted
            }
        };
        // What was restored from a dump is read, and never written again.
        let forbidden = self.main.is_some() && restored;
        if self.options.read_only || self.options.force_quorum || forbidden {
            self.open.read_only();
            return Ok(());
        }
        let session =
            host::random_uuid().map_err(|error| VolumeError::System(error.to_string()))?;
        shown.info.session = session;
        let (at, host, boot) = (unix_s(), host::host_id(), host::boot_id());
        let change = |change| MetadataChange::Header { at, change };
        if self.main.is_none() {
            self.open.write(&[change(HeaderChange::Repair(session))]);
            return Ok(());
        }
        let mine = Session { host, boot, session, opened_at: at };
        let mut changes = vec![change(HeaderChange::Open(mine))];
        if !self.options.settings.is_empty() {
            changes.push(change(HeaderChange::Settings(shown.settings)));
        }
        // What was accepted, or has changed under a known disk, is what it is known by now.
        changes.extend(noted.into_iter().map(change));
        self.open.write(&changes);
        Ok(())
    }

    fn finish(self) -> Result<Opened, VolumeError> {
        let (now, writable) = (self.io.now(), self.writable);
        let shown = self.shown.ok_or_else(lost)?;
        let mut commit: Commit<Pages> =
            self.open.into_commit(memory::joins(), now).ok_or_else(lost)?;
        commit.set_limit(u64::from(shown.settings.recovery_limit_ms()));
        let seed = host::random_uuid().map_err(|error| VolumeError::System(error.to_string()))?;
        let seed = seed.0.iter().fold(0u64, |seed, byte| seed << 4 ^ u64::from(*byte));
        let core = Machine::new(Parts {
            shared: Arc::clone(&shown.shared),
            layout: shown.info.layout,
            writer: shown.loader.writer,
            allocator: shown.loader.allocator,
            slots: shown.loader.slots,
            commit,
            jobs: memory::jobs(),
            flushes: memory::flushes(),
            settings: shown.settings,
            read_only: !writable,
            seed,
        });
        Ok(Opened {
            info: shown.info,
            shared: shown.shared,
            core,
            content: self.content.ok_or_else(lost)?,
            queues: shown.queues,
            writable,
        })
    }
}

/// Two hosts: what another host left open stays closed (DESIGN 6).
fn check_host(spare: &str, shown: &Shown, options: &VolumeOptions) -> Result<(), VolumeError> {
    let before = shown.info.before.host;
    if shown.info.state != State::Dirty || options.force_in_use {
        return Ok(());
    }
    if before == Uuid::default() {
        tracing::warn!(
            spare,
            "not closed by a host that is not known: taken for a crash of this one"
        );
        return Ok(());
    }
    if before == host::host_id() {
        return Ok(());
    }
    Err(VolumeError::OtherHost { spare: spare.to_owned(), host: before })
}

/// Is this the volume's main? What it holds itself is compared, not what lives elsewhere. What the
/// header is to keep of it from now on.
fn check_main(
    main: &Arc<dyn Device>,
    main_is: MainIs,
    shown: &mut Shown,
    options: &VolumeOptions,
) -> Result<(Look, Kept), VolumeError> {
    if main_is == MainIs::Absent {
        return Ok((Look::default(), shown.kept.clone()));
    }
    let shared = Arc::clone(&shown.shared);
    let elsewhere = move |sector, sectors| main_identity::is_elsewhere(&shared, sector, sectors);
    let look = main_identity::look(&**main, elsewhere);
    let (info, kept) = (&mut shown.info, &shown.kept);
    let sizes = (info.main_sectors, info.block_bytes);
    let claim = match main_is {
        MainIs::UnmarkedCopy | MainIs::Copy => Some(Accept::Copy),
        _ => options.accept_main.then_some(Accept::Same),
    };
    let known = main_identity::recognise(&**main, sizes, kept, &look, claim)?;
    info.content_changed = known.content_changed;
    if main_is == MainIs::UnmarkedCopy {
        return Ok((look, kept.clone()));
    }
    Ok((look, known.kept))
}
