// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Metadata machines on a modelled spare with pages of a few bytes, for the exhaustive models.
//!
//! The machines are the real ones; only the content of a page is small. The spare's permitted
//! faults: a write that was sent and not flushed may, after a power cut, have left the old page,
//! the new one or a torn one, each copy by itself; a write that failed, or that lay behind a flush
//! that failed, may have left any of the three whatever is flushed later, until the place is
//! written anew and flushed; a copy's reads may fail for the length of a session.
#![allow(dead_code)]

pub mod model;

use dmremap_core::Class;
use dmremap_core::commit::{
    Cached, Commit, Image, Io, IoId, IoKind, Joined, OutcomeKind, PageId, PageState, Store,
    VolumeId,
};
use dmremap_core::open::{Open, OpenStep, Refused};
use dmremap_format::{CopyIndex, PageFault, PageIndex, SeenHeader, Stamp, Uuid};

/// Places for two units in every tiny table page.
pub const SLOTS: usize = 2;

/// The content of a table page.
pub type Content = [u8; SLOTS];

/// A page of eight bytes; all zero is a torn one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tiny {
    /// 0 = invalid, 1 = header, 2 = generation page, 3 and more = table pages from 0 on.
    pub kind: u8,
    pub copy: u8,
    pub generation: u8,
    pub sequence: u8,
    /// Slots of a table page; of a header session and `clean`.
    pub content: Content,
    /// Table pages, in a header.
    pub pages: u8,
}

pub const TORN: Tiny =
    Tiny { kind: 0, copy: 0, generation: 0, sequence: 0, content: [0; SLOTS], pages: 0 };

/// Sets one byte of a page's content.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub place: u8,
    pub value: u8,
}

pub const OF: VolumeId = VolumeId { volume: Uuid([1; 16]), spare: Uuid([2; 16]) };

fn kind(page: PageId) -> u8 {
    match page {
        PageId::Header => 1,
        PageId::Generation => 2,
        PageId::Table(p) => 3 + p.0 as u8,
    }
}

impl Tiny {
    /// This page's share in the hash of a disk that has it at cell `at`.
    fn hash_at(&self, at: usize) -> u128 {
        spread(self.digest() ^ u64::from(self.copy) << 56 ^ (at as u64) << 8)
    }

    fn stamp(&self) -> Stamp {
        Stamp { generation: self.generation.into(), sequence: self.sequence.into() }
    }
}

impl Image for Tiny {
    type Change = Change;

    fn seen_header(&self, copy: CopyIndex) -> SeenHeader {
        match self.check(&OF, PageId::Header, copy) {
            Ok(stamp) => SeenHeader::Valid {
                of: (OF.volume, OF.spare),
                stamp,
                digest: self.digest(),
                fence: None,
            },
            Err(_) => SeenHeader::Invalid,
        }
    }

    fn check(&self, of: &VolumeId, page: PageId, copy: CopyIndex) -> Result<Stamp, PageFault> {
        if self.kind == 0 {
            Err(PageFault::Checksum)
        } else if *of != OF {
            Err(PageFault::OtherVolume(OF.volume))
        } else if self.kind != kind(page) || self.copy != copy.0 {
            Err(PageFault::Misplaced)
        } else {
            Ok(self.stamp())
        }
    }

    fn table_pages(&self) -> u32 {
        self.pages.into()
    }

    fn session(&self) -> Uuid {
        Uuid([self.content[0]; 16])
    }

    fn digest(&self) -> u64 {
        let Tiny { kind, generation, sequence, content, pages, .. } = *self;
        u64::from_le_bytes([kind, 0, generation, sequence, content[0], content[1], pages, 0])
    }

    fn copy_from(&mut self, other: &Self) {
        *self = *other;
    }

    fn blank(&mut self, _: &VolumeId, page: PageId) {
        *self = Tiny { kind: kind(page), ..TORN };
    }

    fn fits(page: PageId, change: &Change) -> bool {
        page != PageId::Generation && usize::from(change.place) < SLOTS
    }

    fn apply(&mut self, _: PageId, change: &Change) {
        self.content[usize::from(change.place)] = change.value;
    }

    fn seal(&mut self, _: &VolumeId, page: PageId, copy: CopyIndex, stamp: Stamp) {
        if page == PageId::Generation {
            *self = TORN;
        }
        self.kind = kind(page);
        self.copy = copy.0;
        self.generation = stamp.generation.try_into().expect("few generations");
        self.sequence = stamp.sequence.try_into().expect("few commits");
    }
}

/// Memory for the tiny machines.
pub struct TinyStore;

impl Store for TinyStore {
    type Page = Tiny;
    type Cache = Vec<Cached<Tiny>>;
    type States = Vec<PageState>;
    type Joins = Vec<Joined<Change>>;
}

pub fn cache(places: usize) -> Vec<Cached<Tiny>> {
    (0..places).map(|_| Cached::new(TORN)).collect()
}

/// One page of one copy: what is there, and what may be there after a power cut besides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    pub now: Tiny,
    maybe: Vec<Tiny>,
    /// A good write waits for its flush: the next good one makes this durable.
    pending: Option<Tiny>,
}

impl Cell {
    pub fn new(now: Tiny) -> Cell {
        Cell { now, maybe: Vec::new(), pending: None }
    }

    fn add(&mut self, page: Tiny) {
        for page in [page, TORN] {
            if page != self.now && !self.maybe.contains(&page) {
                self.maybe.push(page);
            }
        }
    }

    /// Everything that can be read here after a power cut.
    pub fn outcomes(&self) -> impl Iterator<Item = Tiny> + '_ {
        std::iter::once(self.now).chain(self.maybe.iter().copied())
    }
}

/// The metadata of a spare: header, generation page, table pages; five copies of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    pub cells: Vec<Cell>,
}

impl Disk {
    pub fn of(pages: Vec<Tiny>) -> Disk {
        Disk { cells: pages.into_iter().map(Cell::new).collect() }
    }

    /// As `format` leaves it, with `tables` table pages.
    pub fn formatted(tables: u8) -> Disk {
        let mut cells = Vec::new();
        for number in 1..3 + tables {
            for copy in 0..5 {
                let pages = if number == 1 { tables } else { 0 };
                let page = Tiny { kind: number, copy, generation: 1, pages, ..TORN };
                cells.push(Cell::new(page));
            }
        }
        Disk { cells }
    }

    pub fn tables(&self) -> u8 {
        (self.cells.len() / 5 - 2) as u8
    }

    pub fn index(page: PageId, copy: CopyIndex) -> usize {
        usize::from(kind(page) - 1) * 5 + usize::from(copy.0)
    }

    pub fn cell(&mut self, page: PageId, copy: CopyIndex) -> &mut Cell {
        &mut self.cells[Disk::index(page, copy)]
    }

    pub fn write(&mut self, page: PageId, copy: CopyIndex, image: Tiny) {
        let cell = self.cell(page, copy);
        cell.add(image);
        cell.pending = Some(image);
    }

    pub fn failed_write(&mut self, page: PageId, copy: CopyIndex, image: Tiny) {
        let cell = self.cell(page, copy);
        cell.add(image);
        cell.pending = None;
    }

    pub fn flush(&mut self, good: bool) {
        for cell in &mut self.cells {
            if let Some(page) = cell.pending.take() {
                if good {
                    *cell = Cell::new(page);
                }
            }
        }
    }

    /// Every disk that a power cut now can leave; if `written` is a cell that was written a moment
    /// ago, only those in which it is no longer what it was.
    pub fn each_cut(&self, written: Option<usize>, mut visit: impl FnMut(&[Tiny], u128)) {
        let mut pages: Vec<Tiny> = self.cells.iter().map(|c| c.now).collect();
        let hash = hash_of(&pages);
        self.product(0, written, &mut pages, hash, &mut visit);
    }

    /// The same for the pages of `scope` (kinds of page, see [`Tiny::kind`]); all others are made
    /// whole: five copies of the highest stamp that is durable on one.
    pub fn each_cut_in(
        &self,
        scope: &[u8],
        written: Option<usize>,
        visit: impl FnMut(&[Tiny], u128),
    ) {
        let inside = |at: usize| scope.contains(&(at as u8 / 5 + 1));
        if written.is_some_and(|w| !inside(w)) {
            return;
        }
        let mut disk = self.clone();
        for page in 0..self.cells.len() / 5 {
            if !inside(page * 5) {
                let copies = &self.cells[page * 5..page * 5 + 5];
                let best = copies.iter().map(|c| c.now).max_by_key(|p| p.stamp());
                for (copy, cell) in disk.cells[page * 5..].iter_mut().take(5).enumerate() {
                    *cell = Cell::new(Tiny { copy: copy as u8, ..best.expect("five copies") });
                }
            }
        }
        disk.each_cut(written, visit);
    }

    fn product(
        &self,
        from: usize,
        written: Option<usize>,
        pages: &mut [Tiny],
        hash: u128,
        visit: &mut impl FnMut(&[Tiny], u128),
    ) {
        let Some(at) = (from..self.cells.len()).find(|i| !self.cells[*i].maybe.is_empty()) else {
            visit(pages, hash);
            return;
        };
        let now = self.cells[at].now;
        let rest = hash.wrapping_sub(now.hash_at(at));
        for page in self.cells[at].outcomes().skip(usize::from(written == Some(at))) {
            pages[at] = page;
            let hash = rest.wrapping_add(page.hash_at(at));
            self.product(at + 1, written, pages, hash, visit);
        }
        pages[at] = now;
    }
}

/// A hash that changes by one cell's share when the cell does.
pub fn hash_of(pages: &[Tiny]) -> u128 {
    pages.iter().enumerate().fold(0, |sum, (at, page)| sum.wrapping_add(page.hash_at(at)))
}

/// Spreads a number over 128 bits (two rounds of splitmix64, differently seeded).
pub fn spread(n: u64) -> u128 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let high = mix(n.wrapping_add(0x9E37_79B9_7F4A_7C15));
    u128::from(high) << 64 | u128::from(mix(n ^ high.rotate_left(17)))
}

/// What is wrong with the spare for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Copies whose reads fail, one bit each.
    pub reads: u8,
    /// Copies whose writes fail.
    pub writes: u8,
    /// From this write of the session on, counted from 0.
    pub from: u32,
    /// Up to this one, not included.
    pub until: u32,
    /// The flush that fails, counted from 0.
    pub flush: Option<u32>,
}

impl Faults {
    pub const NONE: Faults = Faults { reads: 0, writes: 0, from: 0, until: u32::MAX, flush: None };
}

/// A spare under a session: runs the machines' I/O and reports every write, since a power cut can
/// leave something new then.
pub struct Spare<'a> {
    pub disk: Disk,
    pub faults: Faults,
    pub writes: u32,
    pub flushes: u32,
    /// Hears of every write, with the cell it went to.
    pub cut: &'a mut dyn FnMut(&Disk, usize),
}

/// The answer to an I/O: the page that was read, if any, or an error.
pub type Answer = Result<Option<Tiny>, Class>;

impl<'a> Spare<'a> {
    pub fn new(disk: Disk, faults: Faults, cut: &'a mut dyn FnMut(&Disk, usize)) -> Self {
        Spare { disk, faults, writes: 0, flushes: 0, cut }
    }

    pub fn run(&mut self, io: IoKind, image: impl FnOnce() -> Tiny) -> Answer {
        let Faults { reads, writes, from, until, flush } = self.faults;
        match io {
            IoKind::Read { copy, .. } if reads >> copy.0 & 1 != 0 => Err(Class::Medium),
            IoKind::Read { page, copy } => {
                let cell = self.disk.cell(page, copy);
                Ok(Some(cell.pending.unwrap_or(cell.now)))
            }
            IoKind::Write { page, copy } => {
                let bad = writes >> copy.0 & 1 != 0 && (from..until).contains(&self.writes);
                self.writes += 1;
                if bad {
                    self.disk.failed_write(page, copy, image());
                } else {
                    self.disk.write(page, copy, image());
                }
                (self.cut)(&self.disk, Disk::index(page, copy));
                if bad { Err(Class::Io) } else { Ok(None) }
            }
            IoKind::Flush => {
                let good = flush != Some(self.flushes);
                self.flushes += 1;
                self.disk.flush(good);
                if good { Ok(None) } else { Err(Class::Io) }
            }
        }
    }
}

/// What an open would serve; nothing is written.
pub fn peek(pages: &[Tiny], reads: u8) -> Result<Vec<Content>, Box<Refused>> {
    let tables = pages.len() / 5 - 2;
    let mut open = Open::<TinyStore>::new(cache(2), 1000, false);
    let mut served = Vec::new();
    loop {
        match open.step(0) {
            OpenStep::Io(io) => {
                let IoKind::Read { page, copy } = io.kind else { panic!("a write in pass 1") };
                let image = &pages[Disk::index(page, copy)];
                let bad = reads >> copy.0 & 1 != 0;
                open.io_done(io.id, if bad { Err(Class::Medium) } else { Ok(Some(image)) });
            }
            OpenStep::Loaded(PageId::Table(_)) => {
                served.push(open.image().expect("image").content);
                open.accept();
            }
            OpenStep::Loaded(_) => open.accept_header(vec![PageState::default(); tables + 1]),
            OpenStep::Judged(_) => return Ok(served),
            OpenStep::Refused(reason) => return Err(Box::new(reason)),
            step => panic!("{step:?} in pass 1"),
        }
    }
}

/// What an open came to.
pub struct Served {
    pub commit: Commit<TinyStore>,
    /// The table pages.
    pub tables: Vec<Content>,
    pub writable: bool,
}

/// Opens as session `session`.
pub fn open(spare: &mut Spare<'_>, session: u8) -> Result<Served, Box<Refused>> {
    let mut open = Open::<TinyStore>::new(cache(4), 1000, false);
    let mut tables = Vec::new();
    loop {
        match open.step(0) {
            OpenStep::Io(io) => {
                let answer = spare.run(io.kind, || {
                    let mut page = TORN;
                    assert!(open.write_image(io.id, &mut page));
                    page
                });
                open.io_done(io.id, answer.as_ref().map(Option::as_ref).map_err(|c| *c));
            }
            OpenStep::Wait => panic!("nothing to wait for"),
            OpenStep::Loaded(PageId::Table(PageIndex(page))) => {
                assert_eq!(usize::try_from(page), Ok(tables.len()));
                tables.push(open.image().expect("image").content);
                open.accept();
            }
            OpenStep::Loaded(_) => {
                let pages = open.image().expect("image").table_pages();
                assert_eq!(pages, u32::from(spare.disk.tables()));
                open.accept_header(vec![PageState::default(); pages as usize + 1]);
            }
            OpenStep::Judged(_) => {
                open.write(&[Change { place: 0, value: session }, Change { place: 1, value: 1 }])
            }
            OpenStep::Opened { writable } => {
                let joins = vec![Joined::EMPTY; 8];
                let commit = open.into_commit(joins, 0).expect("opened");
                return Ok(Served { commit, tables, writable });
            }
            OpenStep::Refused(reason) => return Err(Box::new(reason)),
        }
    }
}

/// Carries out one I/O of the commit machine.
pub fn answer(commit: &mut Commit<TinyStore>, spare: &mut Spare<'_>, io: Io, now: u64) {
    let answer = spare.run(io.kind, || sent(commit, io.id));
    if io.kind == IoKind::Flush && answer.is_err() {
        commit.flush_failed();
    }
    commit.io_done(io.id, answer.as_ref().map(Option::as_ref).map_err(|c| *c), now);
}

/// Runs the commit machine until it waits for nothing but time; its outcomes.
pub fn drive(
    commit: &mut Commit<TinyStore>,
    spare: &mut Spare<'_>,
    now: u64,
) -> Vec<(u32, OutcomeKind)> {
    let mut outcomes = Vec::new();
    loop {
        let io = commit.next_io(now);
        while let Some(outcome) = commit.next_outcome() {
            outcomes.push((outcome.token, outcome.kind));
        }
        let Some(io) = io else { return outcomes };
        answer(commit, spare, io, now);
    }
}

pub fn sent(commit: &Commit<TinyStore>, id: IoId) -> Tiny {
    let mut page = TORN;
    assert!(commit.image(id, &mut page));
    page
}
