// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Format and open over the modelled spare, by the real machines, one scheduled command at a time;
//! an open may be cut off anywhere.

use dmremap_core::Dev;
use dmremap_core::commit::{
    Cached, HeaderChange, Image, Io, IoKind, Joined, MetadataChange, PageId, PageState, Store,
    VolumeId, state_count,
};
use dmremap_core::create::{Create, CreateIo, CreateKind, CreateStep};
use dmremap_core::open::{Open, OpenStep, Refused};
use dmremap_format::{
    CopyIndex, Header, HeaderMut, Layout, NewHeader, PAGE_BYTES, PageBytes, PageIndex, SectorRange,
    Session, Uuid,
};

use crate::command::{Command, CommandId, Ending, Origin, Stage};
use crate::content::{Content, PAGE_SECTORS, page_bytes, page_contents};
use crate::world::{Checked, Failure, World, fail};

/// The machines' memory: whole pages.
pub struct Pages;

impl Store for Pages {
    type Page = PageBytes;
    type Cache = Vec<Cached<PageBytes>>;
    type States = Vec<PageState>;
    type Joins = Vec<Joined<MetadataChange>>;
}

/// Cached page images; at least two.
const CACHED_PAGES: usize = 6;
/// Changes that may wait for a commit.
pub const JOINS: usize = 32;

/// The volume's name in every run.
pub const VOLUME: Uuid = Uuid(*b"simulated volume");
/// Its spare's.
pub const SPARE: Uuid = Uuid(*b"simulated spare.");

/// How an open ended.
#[derive(Debug)]
pub enum Opening {
    /// Serving.
    Opened,
    /// Cut off by a crash; a power cut or a kill.
    Cut(bool),
    /// Refused.
    Refused {
        /// Why.
        why: String,
        /// A device failed meanwhile in a way that may refuse an open.
        excused: bool,
    },
}

impl World {
    /// Where everything lies.
    ///
    /// # Errors
    /// The spare is too small.
    pub fn layout(&self) -> Result<Layout, Failure> {
        Layout::new(self.config.spare_sectors, 512, Some(self.config.max_entries))
            .map_err(|error| Failure { why: format!("layout: {error:?}") })
    }

    /// Where a page lies.
    fn page_place(layout: &Layout, page: PageId, copy: CopyIndex) -> u64 {
        match page {
            PageId::Header => layout.header_sector(copy),
            PageId::Generation => layout.generation_sector(copy),
            PageId::Table(index) => layout.page_sector(copy, index),
        }
    }

    /// Makes some progress with one of the commands that are out at the spare; its answer if that
    /// was it.
    fn progress<T: Copy>(&mut self, outs: &mut Vec<(CommandId, T)>) -> Option<(T, Ending)> {
        self.tick += 1;
        let at = self.rng.index(outs.len().max(1));
        let Some((id, io)) = outs.get(at).copied() else {
            self.now += 1;
            return None;
        };
        let inflight = self.disks[1].inflight().get(&id)?;
        let (sent, due) = (inflight.stage == Stage::Sent, inflight.due);
        let now = self.now;
        if sent {
            let World { disks, rng, .. } = self;
            disks[1].effect(id, now, rng);
            self.tell_losses(Dev::Spare(0));
            return None;
        }
        if due > now {
            self.now = if self.rng.one_in(3) { due } else { now + 1 };
            return None;
        }
        let (_, ending) = self.disks[1].answer(id)?;
        outs.swap_remove(at);
        if let Err(class) = &ending {
            let class = *class;
            self.note(|| format!("  open: the spare fails: {class}"));
        }
        Some((io, ending))
    }

    fn send_meta(&mut self, command: Command) -> CommandId {
        let (due, now) = (self.due(), self.now);
        self.disks[1].send(command, Origin::Recovery, now, due)
    }

    /// Makes the volume.
    ///
    /// # Errors
    /// It fails.
    pub fn format(&mut self) -> Checked {
        let layout = self.layout()?;
        let mut header = Box::new([0u8; PAGE_BYTES]);
        let new = NewHeader {
            volume: VOLUME,
            spare: SPARE,
            layout,
            main_sectors: self.config.main_sectors,
            block_bytes: (self.config.block_sectors * 512) as u32,
        };
        HeaderMut::blank(&mut header, &new)
            .map_err(|field| Failure { why: format!("header: {field:?}") })?;
        let mut ranges: Vec<SectorRange> = layout.gaps().collect();
        ranges.push(SectorRange {
            sector: layout.data_end(),
            sectors: layout.spare_sectors() - layout.data_end(),
        });
        let volume = VolumeId { volume: VOLUME, spare: SPARE };
        let mut create = Create::new(&*header, volume, ranges.len() as u32, 8);
        let mut outs: Vec<(CommandId, CreateIo)> = Vec::new();
        loop {
            match create.step() {
                CreateStep::Io(io) => {
                    let command = Self::create_command(&create, &layout, &ranges, io);
                    let id = self.send_meta(command);
                    outs.push((id, io));
                }
                CreateStep::Wait => {
                    let Some((io, ending)) = self.progress(&mut outs) else { continue };
                    let read = matches!(io.kind, CreateKind::Read { .. });
                    let page = ending.as_ref().ok().filter(|_| read).map(|c| page_bytes(c));
                    create.io_done(io.id, ending.map(|_| page.as_deref()));
                }
                CreateStep::Done => return Ok(()),
                CreateStep::Failed(kind, fault) => {
                    return fail(format!("format failed at {kind:?}: {fault:?}"));
                }
            }
        }
    }

    fn create_command(
        create: &Create<'_, PageBytes>,
        layout: &Layout,
        ranges: &[SectorRange],
        io: CreateIo,
    ) -> Command {
        let zeros = |sector: u64, sectors: u64| Command::Write {
            sector,
            data: vec![Content::Blank; sectors as usize],
            fua: false,
        };
        match io.kind {
            CreateKind::ZeroHeader(copy) => zeros(layout.header_sector(copy), PAGE_SECTORS as u64),
            CreateKind::ZeroRange(range) => {
                let range = ranges[range as usize];
                zeros(range.sector, range.sectors)
            }
            CreateKind::Write { page, copy } => {
                let mut image = [0u8; PAGE_BYTES];
                let known = create.write_image(io.id, &mut image);
                debug_assert!(known, "{io:?} is under way");
                Command::Write {
                    sector: Self::page_place(layout, page, copy),
                    data: page_contents(&image),
                    fua: false,
                }
            }
            CreateKind::Flush => Command::Flush,
            CreateKind::Read { page, copy } => Command::Read {
                sector: Self::page_place(layout, page, copy),
                sectors: PAGE_SECTORS as u32,
            },
        }
    }

    fn open_command(&mut self, open: &Open<Pages>, layout: &Layout, io: Io) -> Command {
        if !matches!(io.kind, IoKind::Read { .. }) {
            self.note(|| format!("  open: {:?}", io.kind));
        }
        match io.kind {
            IoKind::Read { page, copy } => Command::Read {
                sector: Self::page_place(layout, page, copy),
                sectors: PAGE_SECTORS as u32,
            },
            IoKind::Write { page, copy } => {
                let mut image = [0u8; PAGE_BYTES];
                let known = open.write_image(io.id, &mut image);
                debug_assert!(known, "{io:?} is under way");
                Command::Write {
                    sector: Self::page_place(layout, page, copy),
                    data: page_contents(&image),
                    fua: false,
                }
            }
            IoKind::Flush => Command::Flush,
        }
    }

    /// This session's line in the header.
    fn session_change(&mut self) -> MetadataChange {
        let mut session = [0u8; 16];
        session[..8].copy_from_slice(&self.rng.word().to_le_bytes());
        session[8..].copy_from_slice(&self.rng.word().to_le_bytes());
        let at = self.now / 1000;
        let session = Session {
            host: Uuid(*b"simulated host.."),
            boot: Uuid(*b"simulated boot.."),
            session: Uuid(session),
            opened_at: at,
        };
        MetadataChange::Header { at, change: HeaderChange::Open(session) }
    }

    /// One open. A crash cuts it off once in `crash_one_in` steps; 0 = never.
    ///
    /// # Errors
    /// Something is wrong that no crash or device excuses.
    pub fn open(&mut self, crash_one_in: u64) -> Result<Opening, Failure> {
        self.note(|| "=== open".into());
        let layout = self.layout()?;
        let mut building = self.begin_building(layout);
        let cache = (0..CACHED_PAGES).map(|_| Cached::new([0u8; PAGE_BYTES])).collect();
        let mut open: Open<Pages> = Open::new(cache, u64::from(self.config.limit_ms), false);
        let mut outs: Vec<(CommandId, Io)> = Vec::new();
        let mut excused = false;
        loop {
            match open.step(self.now) {
                OpenStep::Io(io) => {
                    let command = self.open_command(&open, &layout, io);
                    let id = self.send_meta(command);
                    outs.push((id, io));
                }
                OpenStep::Wait => {
                    if self.rng.one_in(crash_one_in) {
                        return Ok(Opening::Cut(self.rng.one_in(2)));
                    }
                    if open.next_deadline().is_some_and(|at| at <= self.now) {
                        open.tick(self.now);
                        excused = true;
                    }
                    let Some((io, ending)) = self.progress(&mut outs) else { continue };
                    excused |= self.open_excused(io, &ending);
                    if ending.is_err() && io.kind == IoKind::Flush {
                        open.flush_failed();
                    }
                    let read = matches!(io.kind, IoKind::Read { .. });
                    let page = ending.as_ref().ok().filter(|_| read).map(|c| page_bytes(c));
                    open.io_done(io.id, ending.map(|_| page.as_deref()));
                }
                OpenStep::Loaded(PageId::Table(page)) => {
                    let Some(image) = open.image() else { return fail("no image is shown") };
                    if let Err(fault) = building.load(page, image) {
                        return fail(format!("page {page:?} is refused: {fault:?}"));
                    }
                    open.accept();
                }
                OpenStep::Loaded(_) => {
                    accept_header(&mut open, layout)?;
                }
                OpenStep::Judged(_) => open.write(&[self.session_change()]),
                // Only answers given up are still out: they must not outlive the open.
                OpenStep::Opened { .. } if !outs.is_empty() => {
                    self.progress(&mut outs);
                }
                OpenStep::Opened { writable } => {
                    if !writable {
                        return Ok(Opening::Refused { why: "it is read-only".into(), excused });
                    }
                    let joins = (0..JOINS).map(|_| Joined::EMPTY).collect();
                    let Some(commit) = open.into_commit(joins, self.now) else {
                        return fail("an open volume has no commit machine");
                    };
                    self.finish_building(building, commit)?;
                    return Ok(Opening::Opened);
                }
                OpenStep::Refused(reason) => {
                    // A copy that misplaces what is written to it may so destroy the page that had
                    // won: the next open no longer finds it there.
                    excused |=
                        matches!(reason, Refused::NotReadAgain { .. }) && self.nemesis.misplaces();
                    return Ok(Opening::Refused { why: format!("{reason:?}"), excused });
                }
            }
        }
    }

    /// The copy whose first table page has the highest stamp, if there is one such copy or two.
    #[must_use]
    pub fn newest_copy(&self) -> Option<CopyIndex> {
        let layout = self.layout().ok()?;
        let volume = VolumeId { volume: VOLUME, spare: SPARE };
        let page = PageId::Table(PageIndex(0));
        let stamps: Vec<_> = (0..5)
            .map(|copy| {
                let copy = CopyIndex(copy);
                let at = Self::page_place(&layout, page, copy);
                let sectors: Vec<Content> =
                    (at..at + PAGE_SECTORS as u64).map(|s| self.disks[1].peek(s)).collect();
                page_bytes(&sectors).check(&volume, page, copy).ok()
            })
            .collect();
        let newest = stamps.iter().max()?;
        let holders = (0..5).filter(|copy| stamps[usize::from(*copy)] == *newest);
        (holders.clone().count() <= 2).then(|| holders.map(CopyIndex).next()).flatten()
    }

    /// Whether all five copies of every page lie whole on the spare's medium.
    #[must_use]
    pub fn metadata_whole(&self) -> bool {
        let Ok(layout) = self.layout() else { return false };
        let disk = &self.disks[1];
        if !disk.clean_below(layout.data_start()) {
            return false;
        }
        let volume = VolumeId { volume: VOLUME, spare: SPARE };
        let tables = (0..layout.pages()).map(|page| PageId::Table(PageIndex(page)));
        [PageId::Header, PageId::Generation].into_iter().chain(tables).all(|page| {
            let mut digests = (0..5).map(|copy| {
                let copy = CopyIndex(copy);
                let at = Self::page_place(&layout, page, copy);
                let sectors: Vec<Content> =
                    (at..at + PAGE_SECTORS as u64).map(|s| disk.peek(s)).collect();
                let bytes = page_bytes(&sectors);
                bytes.check(&volume, page, copy).ok().map(|_| bytes.digest())
            });
            let first = digests.next().flatten();
            first.is_some() && digests.all(|digest| digest == first)
        })
    }

    /// Whether what the spare answered may refuse an open: a failed flush, or its whole failing.
    fn open_excused(&mut self, io: Io, ending: &Ending) -> bool {
        if ending.is_err() && io.kind == IoKind::Flush {
            self.flush_judge.failed();
            return true;
        }
        ending.is_err() && self.disks[1].is_out(self.now)
    }
}

/// The winning header names the layout the volume was made with.
fn accept_header(open: &mut Open<Pages>, layout: Layout) -> Result<(), Failure> {
    match open.image().map_or(Ok(layout), |image| Header::of_image(image).layout()) {
        Ok(found) if found == layout => {
            open.accept_header(vec![PageState::default(); state_count(layout.pages())]);
            Ok(())
        }
        other => fail(format!("the header names the layout {other:?}")),
    }
}
