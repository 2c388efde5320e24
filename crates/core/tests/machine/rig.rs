// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume in memory: format, open, and what is looked at afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dmremap_core::allocator::Allocator;
use dmremap_core::commit::{
    Cached, Commit, HeaderChange, IoKind, Joined, MetadataChange, PageId, PageState, Store,
    VolumeId, state_count,
};
use dmremap_core::create::{Create, CreateKind, CreateStep};
use dmremap_core::machine::{ClientFlush, Job, Loader, Machine, Memory, Parts};
use dmremap_core::marks::{Busy, Pending};
use dmremap_core::open::{Open, OpenStep};
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::{Geometry, Shared, SharedParts};
use dmremap_core::settings::{Key, Setting, Settings};
use dmremap_core::slots::SlotMap;
use dmremap_core::table::{Entry, Table};
use dmremap_core::{Class, Dev, Done, Event, Millis};
use dmremap_format::{
    BlockState, CopyIndex, Header, HeaderMut, Layout, NewHeader, PAGE_BYTES, PageBytes, Session,
    SlotLimits, States, TablePage, UnitIndex, Uuid,
};

use super::disk::{Io, Rule, Sector, sectors_of};
use super::driver::{Part, Request};

pub type Words = Box<[AtomicU64]>;

pub struct Mem;

impl Memory for Mem {
    type Words = Words;
    type Shared = Arc<Shared<Words>>;
    type Jobs = Vec<Job>;
    type Flushes = Vec<ClientFlush>;
    type Store = Pages;
}

pub struct Pages;

impl Store for Pages {
    type Page = PageBytes;
    type Cache = Vec<Cached<PageBytes>>;
    type States = Vec<PageState>;
    type Joins = Vec<Joined<MetadataChange>>;
}

const OF: VolumeId =
    VolumeId { volume: Uuid(*b"a volume of test"), spare: Uuid(*b"the spare of it.") };
const QUEUES: usize = 2;

/// An entry: its spare unit, and one letter a block (`m`, `s`, `g`).
pub type Described = (Option<u64>, String);

/// What a volume is made of.
#[derive(Clone, Copy)]
pub struct Setup {
    pub main_sectors: u64,
    pub units: u64,
    pub entries: u32,
    pub block_sectors: u8,
    pub jobs: usize,
    pub flushes: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        let main_sectors = 65_536;
        Setup { main_sectors, units: 16, entries: 126, block_sectors: 1, jobs: 8, flushes: 4 }
    }
}

/// One volume, its two devices and its client.
pub struct Rig {
    pub setup: Setup,
    pub machine: Machine<Mem>,
    pub shared: Arc<Shared<Words>>,
    pub layout: Layout,
    pub disks: [Vec<Sector>; 2],
    pub buffers: Vec<[u8; PAGE_BYTES]>,
    pub out: Vec<Io>,
    pub rules: Vec<Rule>,
    pub now: Millis,
    pub log: Vec<String>,
    pub events: Vec<Event>,
    pub parts: Vec<Part>,
    pub requests: BTreeMap<u64, Request>,
    pub flushed: BTreeMap<u64, Result<(), Class>>,
    pub replies: BTreeMap<u64, Done>,
    /// Failures each connection was told of.
    pub told: BTreeMap<usize, [u64; 2]>,
    pub flush_of: BTreeMap<u64, usize>,
    pub next_id: u64,
}

/// What main holds at first.
pub fn old(sector: u64) -> u8 {
    (sector % 97) as u8 + 1
}

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn page_place(layout: &Layout, page: PageId, copy: CopyIndex) -> u64 {
    match page {
        PageId::Header => layout.header_sector(copy),
        PageId::Generation => layout.generation_sector(copy),
        PageId::Table(index) => layout.page_sector(copy, index),
    }
}

fn page_at(disk: &[Sector], sector: u64) -> PageBytes {
    let mut page = [0; PAGE_BYTES];
    for (i, chunk) in page.chunks_mut(512).enumerate() {
        chunk.copy_from_slice(&disk[sector as usize + i]);
    }
    page
}

fn put_page(disk: &mut [Sector], sector: u64, page: &PageBytes) {
    for (i, s) in sectors_of(page).into_iter().enumerate() {
        disk[sector as usize + i] = s;
    }
}

fn format(setup: &Setup, layout: &Layout, disk: &mut [Sector]) {
    let mut header = Box::new([0u8; PAGE_BYTES]);
    let new = NewHeader {
        volume: OF.volume,
        spare: OF.spare,
        layout: *layout,
        main_sectors: setup.main_sectors,
        block_bytes: u32::from(setup.block_sectors) * 512,
    };
    HeaderMut::blank(&mut header, &new).unwrap();
    let mut create = Create::new(&*header, OF, 0, 1);
    loop {
        let io = match create.step() {
            CreateStep::Io(io) => io,
            CreateStep::Done => return,
            other => panic!("format: {other:?}"),
        };
        let mut page = [0u8; PAGE_BYTES];
        match io.kind {
            CreateKind::Write { page: id, copy } => {
                assert!(create.write_image(io.id, &mut page));
                put_page(disk, page_place(layout, id, copy), &page);
                create.io_done(io.id, Ok(None));
            }
            CreateKind::Read { page: id, copy } => {
                page = page_at(disk, page_place(layout, id, copy));
                create.io_done(io.id, Ok(Some(&page)));
            }
            _ => create.io_done(io.id, Ok(None)),
        }
    }
}

/// Runs an open to its end over a spare that works; every page's image on the way.
fn open(
    layout: &Layout,
    disk: &mut [Sector],
    write: bool,
    mut each: impl FnMut(PageId, &PageBytes),
) -> Commit<Pages> {
    let cache = (0..8).map(|_| Cached::new([0u8; PAGE_BYTES])).collect();
    let mut open: Open<Pages> = Open::new(cache, 30_000, false);
    let session =
        Session { host: Uuid([7; 16]), boot: Uuid([8; 16]), session: Uuid([9; 16]), opened_at: 1 };
    loop {
        match open.step(0) {
            OpenStep::Io(io) => match io.kind {
                IoKind::Read { page, copy } => {
                    let bytes = page_at(disk, page_place(layout, page, copy));
                    open.io_done(io.id, Ok(Some(&bytes)));
                }
                IoKind::Write { page, copy } => {
                    let mut bytes = [0u8; PAGE_BYTES];
                    assert!(open.write_image(io.id, &mut bytes));
                    put_page(disk, page_place(layout, page, copy), &bytes);
                    open.io_done(io.id, Ok(None));
                }
                IoKind::Flush => open.io_done(io.id, Ok(None)),
            },
            OpenStep::Loaded(page) => {
                each(page, open.image().unwrap());
                match page {
                    PageId::Table(_) => open.accept(),
                    _ => {
                        open.accept_header(vec![PageState::default(); state_count(layout.pages())])
                    }
                }
            }
            OpenStep::Judged(_) if write => {
                let change = HeaderChange::Open(session);
                open.write(&[MetadataChange::Header { at: 1, change }]);
            }
            OpenStep::Judged(_) => open.read_only(),
            OpenStep::Opened { .. } => break,
            other => panic!("open: {other:?}"),
        }
    }
    open.into_commit((0..32).map(|_| Joined::EMPTY).collect(), 0).unwrap()
}

fn shared_of(setup: &Setup, layout: &Layout, table: Table<Words>) -> Arc<Shared<Words>> {
    Arc::new(Shared::new(SharedParts {
        geometry: Geometry {
            main_sectors: setup.main_sectors,
            block_sectors: setup.block_sectors,
            data_start: layout.data_start(),
        },
        table,
        readers: Readers::new(words(Readers::<Words>::words(QUEUES)), QUEUES),
        region: words(RegionMap::<Words>::words()),
        busy: words(Busy::<Words>::words()),
        pending: words(Pending::<Words>::words()),
        pieces: words(Pieces::<Words>::words(QUEUES)),
        paths: words(Shared::<Words>::path_words(QUEUES)),
        queues: QUEUES,
    }))
}

impl Rig {
    /// A new volume, opened.
    pub fn new() -> Rig {
        Rig::with(Setup::default())
    }

    /// The same of another size.
    pub fn with(setup: Setup) -> Rig {
        let sectors = 9216 + 2048 + setup.units * 8;
        let layout = Layout::new(sectors, 512, Some(setup.entries)).unwrap();
        assert_eq!(layout.spare_units(), setup.units);
        let main = (0..setup.main_sectors).map(|s| [old(s); 512]).collect();
        let mut spare = vec![[0xEE; 512]; sectors as usize];
        format(&setup, &layout, &mut spare);
        Rig::open(setup, layout, [main, spare])
    }

    fn open(setup: Setup, layout: Layout, mut disks: [Vec<Sector>; 2]) -> Rig {
        // `DMREMAP_BROKEN=NAME cargo test --features broken --test machine_rules` must fail.
        #[cfg(feature = "broken")]
        if let Ok(name) = std::env::var("DMREMAP_BROKEN") {
            use dmremap_core::broken::{Broken, select};
            select(Broken::from_name(&name).expect("the name of a variant"));
        }
        let max = setup.entries as usize;
        let (table, writer) = Table::new(words(Table::<Words>::words(max)), max);
        let shared = shared_of(&setup, &layout, table);
        let units = layout.spare_units();
        let mut loader = Loader {
            writer,
            allocator: Allocator::new(words(Allocator::<Words>::words(units)), units),
            slots: SlotMap::new(words(SlotMap::<Words>::words(setup.entries)), setup.entries),
            limits: SlotLimits {
                main_sectors: setup.main_sectors,
                block_sectors: setup.block_sectors,
                spare_units: [units, 0, 0, 0, 0, 0, 0, 0],
            },
        };
        let commit = open(&layout, &mut disks[1], true, |page, image| match page {
            PageId::Table(index) => loader.page(&shared, index, image).unwrap(),
            _ => assert_eq!(Header::of_image(image).layout(), Ok(layout)),
        });
        let machine = Machine::new(Parts {
            shared: Arc::clone(&shared),
            layout,
            writer: loader.writer,
            allocator: loader.allocator,
            slots: loader.slots,
            commit,
            jobs: vec![Job::FREE; setup.jobs],
            flushes: vec![ClientFlush::FREE; setup.flushes],
            settings: Settings::default(),
            read_only: false,
            seed: 5,
        });
        Rig {
            setup,
            machine,
            shared,
            layout,
            disks,
            buffers: vec![[0; PAGE_BYTES]; setup.jobs],
            out: Vec::new(),
            rules: Vec::new(),
            now: 0,
            log: Vec::new(),
            events: Vec::new(),
            parts: Vec::new(),
            requests: BTreeMap::new(),
            flushed: BTreeMap::new(),
            replies: BTreeMap::new(),
            told: BTreeMap::new(),
            flush_of: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// The process dies and the volume is opened again on what the devices hold.
    pub fn reopen(self) -> Rig {
        Rig::open(self.setup, self.layout, self.disks)
    }

    /// Puts a rule in force; the first that fits decides.
    pub fn rule(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Changes a setting.
    pub fn set(&mut self, key: &str, value: &str) {
        let key = Key::from_name(key.as_bytes()).unwrap();
        let setting = Setting::parse(key, value.as_bytes()).unwrap();
        self.message(&dmremap_core::message::Command::Set(setting));
        self.log.clear();
    }

    /// First absolute sector of a spare unit's block.
    pub fn spare_at(&self, unit: u64, block: u64) -> u64 {
        self.layout.data_start() + unit * 8 + block * u64::from(self.setup.block_sectors)
    }

    /// What the table says of a unit: spare unit, and one letter a block (`m`, `s`, `g`).
    pub fn entry(&self, unit: u64) -> Option<Described> {
        self.shared.table.get(UnitIndex(unit)).map(|e: Entry| describe(e.spare, e.states))
    }

    /// Pending blocks of a unit.
    pub fn pending(&self, unit: u64) -> u8 {
        self.shared.pending.get(UnitIndex(unit))
    }

    /// What an open of the spare would find now: entries by unit, and quarantined units.
    pub fn saved(&self) -> (BTreeMap<u64, Described>, Vec<u64>) {
        let (mut entries, mut quarantined) = (BTreeMap::new(), Vec::new());
        let mut disk = self.disks[1].clone();
        open(&self.layout, &mut disk, false, |page, image| {
            let PageId::Table(_) = page else { return };
            for place in 0..126 {
                let slot = TablePage::of_image(image).slot(place).unwrap();
                match slot.main {
                    Some(unit) => {
                        let text = describe(slot.spare, slot.states);
                        assert!(entries.insert(unit.0, text).is_none(), "two slots for {unit:?}");
                    }
                    None => quarantined.extend(slot.spare.map(|u| u.0)),
                }
            }
        });
        quarantined.sort_unstable();
        (entries, quarantined)
    }

    /// What was done so far, in order, each commit as one word; and begins anew.
    pub fn done(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in self.log.drain(..) {
            let last = lines.last().map(String::as_str);
            let in_commit = last == Some("commit") && line == "spare flush";
            match line.starts_with("page") {
                true if last == Some("commit") => {}
                true => lines.push("commit".into()),
                false if in_commit => {}
                false => lines.push(line),
            }
        }
        lines
    }

    /// The tag a sector of a device is filled with.
    pub fn tag(&self, dev: Dev, sector: u64) -> u8 {
        self.disks[usize::from(dev != Dev::Main)][sector as usize][0]
    }
}

fn describe(spare: Option<dmremap_format::SpareUnit>, states: States) -> Described {
    let letter = |b: u8| match states.get(b) {
        BlockState::Main => 'm',
        BlockState::Spare => 's',
        BlockState::Gone => 'g',
    };
    (spare.map(|u| u.0), (0..8).map(letter).collect())
}
