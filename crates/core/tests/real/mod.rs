// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The metadata machines on pages of 4 KiB and a spare that records every write and flush.
#![allow(dead_code)]

use std::collections::HashMap;

use dmremap_core::Class;
use dmremap_core::commit::{
    Cached, Commit, HeaderChange, IoKind, Joined, MetadataChange, OutcomeKind, PageId, PageState,
    Store, VolumeId,
};
use dmremap_core::create::{Create, CreateKind, CreateStep};
use dmremap_core::open::{Open, OpenStep, Refused};
use dmremap_format::{
    CopyIndex, Header, HeaderMut, Layout, NewHeader, PAGE_BYTES, PageBytes, PageIndex, Session,
    Slot, State, TablePage, TablePageMut, Uuid,
};

/// Memory for the machines.
pub struct RealStore;

impl Store for RealStore {
    type Page = PageBytes;
    type Cache = Vec<Cached<PageBytes>>;
    type States = Vec<PageState>;
    type Joins = Vec<Joined<MetadataChange>>;
}

pub type Place = (PageId, CopyIndex);

/// What happened on the spare, in order.
#[derive(Clone)]
pub enum Event {
    /// The disk that the rest begins with.
    Base(Disk),
    /// A page was sent.
    Write(Place, Box<PageBytes>),
    /// A flush ended, good or not.
    Flush(bool),
    /// A change was acknowledged, or a doubtful one reversed.
    Acknowledged,
}

/// The metadata pages of a spare.
pub type Disk = HashMap<Place, PageBytes>;

/// A spare that records; `flush_fails` names the flush of the session that fails.
pub struct Spare {
    pub disk: Disk,
    pub log: Vec<Event>,
    pub flushes: u32,
    pub flush_fails: Option<u32>,
}

impl Spare {
    pub fn new(disk: &Disk) -> Spare {
        Spare { disk: disk.clone(), log: Vec::new(), flushes: 0, flush_fails: None }
    }

    fn write(&mut self, place: Place, page: &PageBytes) {
        self.log.push(Event::Write(place, Box::new(*page)));
        self.disk.insert(place, *page);
    }

    fn flush(&mut self) -> Result<(), Class> {
        let good = self.flush_fails != Some(self.flushes);
        self.flushes += 1;
        self.log.push(Event::Flush(good));
        if good { Ok(()) } else { Err(Class::Io) }
    }

    /// What is read at a place that was never written.
    fn read(&self, place: &Place) -> PageBytes {
        self.disk.get(place).copied().unwrap_or([0xa5; PAGE_BYTES])
    }
}

/// An id made of one byte.
pub const fn uuid(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

/// A table of one page.
pub fn layout() -> Layout {
    Layout::new(1 << 20, 512, Some(126)).expect("a small spare")
}

/// Formats a volume named by `byte`.
pub fn format(spare: &mut Spare, byte: u8) {
    make(spare, byte, State::Clean, &[]);
}

/// Makes a volume named by `byte` whose header says `state`, with these slots.
pub fn make(spare: &mut Spare, byte: u8, state: State, slots: &[Slot]) {
    let mut header = [0; PAGE_BYTES];
    let new = NewHeader {
        volume: uuid(byte),
        spare: uuid(byte + 1),
        layout: layout(),
        main_sectors: 1 << 16,
        block_bytes: 512,
    };
    HeaderMut::blank(&mut header, &new).expect("a good header").set_state(state).expect("legal");
    let fill = |_, page: &mut PageBytes| {
        for (slot, place) in slots.iter().zip(0..) {
            TablePageMut::edit(page).set_slot(place, slot).expect("a good slot");
        }
    };
    let of = VolumeId { volume: new.volume, spare: new.spare };
    let mut create = Create::<PageBytes>::new(&header, of, 3, 4);
    loop {
        match create.step() {
            CreateStep::Io(io) => {
                let mut page = [0; PAGE_BYTES];
                let result = match io.kind {
                    CreateKind::ZeroHeader(copy) => {
                        spare.write((PageId::Header, copy), &page);
                        Ok(None)
                    }
                    CreateKind::ZeroRange(range) => {
                        assert!(range < 3);
                        Ok(None)
                    }
                    CreateKind::Write { page: id, copy } => {
                        assert!(create.write_filled(io.id, &mut page, fill));
                        spare.write((id, copy), &page);
                        Ok(None)
                    }
                    CreateKind::Flush => spare.flush().map(|()| None),
                    CreateKind::Read { page: id, copy } => {
                        page = spare.read(&(id, copy));
                        Ok(Some(&page))
                    }
                };
                create.io_done(io.id, result);
            }
            CreateStep::Done => break,
            step => panic!("{step:?}"),
        }
    }
    spare.log.push(Event::Acknowledged);
}

/// What an open serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub volume: Uuid,
    pub slots: Vec<Slot>,
    /// Settings, identity and content.
    pub header: String,
    /// What the header said before this open.
    pub clean: bool,
}

/// The parts of a header that changes concern.
fn header_content(header: &Header<'_>) -> String {
    format!("{:?}", (header.settings(), header.identity(0), header.content(0)))
}

pub struct Served {
    pub commit: Commit<RealStore>,
    pub content: Content,
    pub writable: bool,
}

/// The change that makes a header session `number`'s.
pub fn session(number: u8) -> MetadataChange {
    let session =
        Session { host: uuid(77), boot: uuid(78), session: uuid(number), opened_at: number.into() };
    MetadataChange::Header { at: number.into(), change: HeaderChange::Open(session) }
}

/// Opens as session `number`.
pub fn open(spare: &mut Spare, number: u8) -> Result<Served, Box<Refused>> {
    open_with(spare, session(number))
}

/// Opens; `change` is what becomes of the header.
pub fn open_with(spare: &mut Spare, change: MetadataChange) -> Result<Served, Box<Refused>> {
    let cache = (0..4).map(|_| Cached::new([0; PAGE_BYTES])).collect();
    let mut open = Open::<RealStore>::new(cache, 1000, false);
    let mut content =
        Content { volume: uuid(0), slots: Vec::new(), header: String::new(), clean: false };
    loop {
        match open.step(0) {
            OpenStep::Io(io) => {
                let mut page = [0; PAGE_BYTES];
                let result = match io.kind {
                    IoKind::Read { page: id, copy } => {
                        page = spare.read(&(id, copy));
                        Ok(Some(&page))
                    }
                    IoKind::Write { page: id, copy } => {
                        assert!(open.write_image(io.id, &mut page));
                        spare.write((id, copy), &page);
                        Ok(None)
                    }
                    IoKind::Flush => spare.flush().map(|()| None),
                };
                open.io_done(io.id, result);
            }
            OpenStep::Loaded(PageId::Table(page)) => {
                assert_eq!(page, PageIndex(0));
                let view = TablePage::of_image(open.image().expect("image"));
                content.slots = view.slots().map(|(_, slot)| slot.expect("good slots")).collect();
                open.accept();
            }
            OpenStep::Loaded(_) => {
                let header = Header::of_image(open.image().expect("image"));
                content.header = header_content(&header);
                content.clean = header.state() == State::Clean;
                content.volume = open.volume().expect("known").volume;
                open.accept_header(vec![PageState::default(); 2]);
            }
            OpenStep::Judged(_) => open.write(&[change]),
            OpenStep::Opened { writable } => {
                let commit = open.into_commit(vec![Joined::EMPTY; 8], 0).expect("opened");
                return Ok(Served { commit, content, writable });
            }
            OpenStep::Refused(reason) => return Err(Box::new(reason)),
            OpenStep::Wait => panic!("nothing to wait for"),
        }
    }
}

/// Runs the commit machine until it waits for time.
pub fn drive(commit: &mut Commit<RealStore>, spare: &mut Spare, now: u64) -> Vec<OutcomeKind> {
    let mut outcomes = Vec::new();
    loop {
        let io = commit.next_io(now);
        while let Some(outcome) = commit.next_outcome() {
            if matches!(outcome.kind, OutcomeKind::Acknowledged | OutcomeKind::Reversed) {
                spare.log.push(Event::Acknowledged);
            }
            outcomes.push(outcome.kind);
        }
        let Some(io) = io else { return outcomes };
        let mut page = [0; PAGE_BYTES];
        let result = match io.kind {
            IoKind::Read { page: id, copy } => {
                page = spare.read(&(id, copy));
                Ok(Some(&page))
            }
            IoKind::Write { page: id, copy } => {
                assert!(commit.image(io.id, &mut page));
                spare.write((id, copy), &page);
                Ok(None)
            }
            IoKind::Flush => spare.flush().map(|()| None),
        };
        if io.kind == IoKind::Flush && result.is_err() {
            commit.flush_failed();
        }
        commit.io_done(io.id, result, now);
    }
}
