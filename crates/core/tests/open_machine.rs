// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The open machine's rules one by one, and the order of format's steps.

mod meta;

use dmremap_core::Class;
use dmremap_core::commit::{Io, IoKind, Joined, PageId, PageState};
use dmremap_core::create::{Create, CreateFault, CreateKind, CreateStep, FIRST_STAMP};
use dmremap_core::open::{CopySeen, Open, OpenStep, Refused};
use dmremap_format::{CopyIndex, PageIndex, Refusal, Stamp};
use meta::{Change, Disk, Faults, OF, Spare, TORN, Tiny, TinyStore, cache, drive, open};

const HEADER: PageId = PageId::Header;

fn table(page: u32) -> PageId {
    PageId::Table(PageIndex(page))
}

fn copy(copy: u8) -> CopyIndex {
    CopyIndex(copy)
}

/// An open under way on a disk of its own, every I/O logged.
struct Opening {
    open: Open<TinyStore>,
    disk: Disk,
    faults: Faults,
    log: Vec<IoKind>,
    flushes: u32,
}

impl Opening {
    fn new(disk: Disk, faults: Faults) -> Opening {
        let open = Open::new(cache(4), 1000, false);
        Opening { open, disk, faults, log: Vec::new(), flushes: 0 }
    }

    fn answer(&mut self, io: Io) {
        let mut ignore = |_: &Disk, _: usize| {};
        let mut spare = Spare::new(self.disk.clone(), self.faults, &mut ignore);
        spare.flushes = self.flushes;
        let answer = spare.run(io.kind, || {
            let mut page = TORN;
            assert!(self.open.write_image(io.id, &mut page));
            page
        });
        (self.disk, self.flushes) = (spare.disk, spare.flushes);
        self.log.push(io.kind);
        self.open.io_done(io.id, answer.as_ref().map(Option::as_ref).map_err(|c| *c));
    }

    /// Goes on until something else than I/O is wanted; images are found good.
    fn run(&mut self) -> OpenStep {
        loop {
            match self.open.step(0) {
                OpenStep::Io(io) => self.answer(io),
                OpenStep::Loaded(PageId::Table(_)) => self.open.accept(),
                OpenStep::Loaded(_) => {
                    let states = vec![PageState::default(); usize::from(self.disk.tables()) + 1];
                    self.open.accept_header(states);
                }
                step => return step,
            }
        }
    }

    fn write(&mut self) -> OpenStep {
        assert!(matches!(self.run(), OpenStep::Judged(_)));
        self.open.write(&[Change { place: 0, value: 9 }]);
        self.run()
    }

    /// The writes to `page`, in order; `None` = a flush.
    fn writes(&self, page: PageId) -> Vec<Option<u8>> {
        let ours = |kind: &IoKind| match kind {
            IoKind::Write { page: p, copy } if *p == page => Some(Some(copy.0)),
            IoKind::Flush => Some(None),
            _ => None,
        };
        let all: Vec<_> = self.log.iter().filter_map(ours).collect();
        let first = all.iter().position(Option::is_some).unwrap_or(all.len());
        let last = all.iter().rposition(Option::is_some).map_or(first, |at| at + 1);
        all[first..last].to_vec()
    }

    fn wrote(&self) -> bool {
        self.log.iter().any(|kind| !matches!(kind, IoKind::Read { .. }))
    }
}

fn tiny(kind: u8, copy: u8, generation: u8, sequence: u8, first: u8) -> Tiny {
    Tiny { kind, copy, generation, sequence, content: [first, 0], pages: 0 }
}

#[test]
fn the_generation_goes_first_then_repairs_then_the_header() {
    let mut disk = Disk::formatted(2);
    disk.cell(table(1), copy(2)).now = TORN;
    let mut opening = Opening::new(disk, Faults::NONE);
    let step = opening.run();
    let OpenStep::Judged(summary) = step else { panic!("{step:?}") };
    assert_eq!((summary.repairs, summary.generation, summary.header_whole), (1, 1, true));
    assert!(!opening.wrote(), "nothing is written before the caller says so");
    opening.open.write(&[Change { place: 0, value: 9 }]);
    assert_eq!(opening.run(), OpenStep::Opened { writable: true });
    let pairs = [Some(0), Some(1), None, Some(2), Some(3), None, Some(4)];
    assert_eq!(opening.writes(PageId::Generation), pairs);
    assert_eq!(opening.writes(HEADER), pairs);
    // The torn copy first.
    let torn_first = [Some(2), Some(0), None, Some(1), Some(3), None, Some(4)];
    assert_eq!(opening.writes(table(1)), torn_first);
    assert_eq!(opening.writes(table(0)), []);
    let first = |page| {
        let of = |k: &IoKind| matches!(k, IoKind::Write { page: p, .. } if *p == page);
        opening.log.iter().position(of)
    };
    assert!(first(PageId::Generation) < first(table(1)) && first(table(1)) < first(HEADER));
    for page in [HEADER, PageId::Generation, table(1)] {
        assert_eq!(opening.disk.cell(page, copy(4)).now.generation, 2);
    }
    let commit = opening.open.into_commit(vec![Joined::EMPTY; 2], 0).expect("opened");
    assert_eq!(commit.stamp(), Stamp { generation: 2, sequence: 0 });
    assert_eq!(commit.copies_valid(), 5);
}

#[test]
fn copies_are_repaired_torn_then_unreadable_then_stale_then_good() {
    let mut disk = Disk::formatted(1);
    disk.cell(table(0), copy(0)).now = tiny(3, 0, 1, 2, 5);
    disk.cell(table(0), copy(1)).now = tiny(3, 1, 1, 2, 5);
    disk.cell(table(0), copy(4)).now = TORN;
    let mut opening = Opening::new(disk, Faults { reads: 1 << 3, ..Faults::NONE });
    assert_eq!(opening.write(), OpenStep::Opened { writable: true });
    let order = [Some(4), Some(3), None, Some(2), Some(0), None, Some(1)];
    assert_eq!(opening.writes(table(0)), order);
    assert_eq!(opening.disk.cell(table(0), copy(3)).now, tiny(3, 3, 2, 0, 5));
}

#[test]
fn repairs_that_the_cache_cannot_hold_at_once_go_in_batches() {
    let mut disk = Disk::formatted(8);
    for page in 0..8 {
        disk.cell(table(page), copy(1)).now = TORN;
    }
    let mut opening = Opening::new(disk, Faults::NONE);
    assert_eq!(opening.write(), OpenStep::Opened { writable: true });
    for page in 0..8 {
        for at in 0..5 {
            assert_eq!(opening.disk.cell(table(page), copy(at)).now.generation, 2);
        }
    }
}

fn refused(disk: Disk, faults: Faults) -> Refused {
    let mut opening = Opening::new(disk, faults);
    let step = opening.run();
    let OpenStep::Refused(reason) = step else { panic!("{step:?}") };
    assert!(!opening.wrote());
    reason
}

#[test]
fn a_page_with_one_valid_copy_is_refused_and_named() {
    let mut disk = Disk::formatted(2);
    for at in [0, 1, 4] {
        disk.cell(table(1), copy(at)).now = TORN;
    }
    let Refused::Copies { page, reason, seen } =
        refused(disk, Faults { reads: 1 << 2, ..Faults::NONE })
    else {
        panic!("another reason")
    };
    assert_eq!(page, table(1));
    assert!(matches!(reason, Refusal::TooFewValid { valid, .. } if valid.count() == 1));
    assert_eq!(seen[2], CopySeen::Unreadable(Class::Medium));
    assert_eq!(seen[3], CopySeen::Valid(FIRST_STAMP));
}

#[test]
fn one_stamp_with_two_contents_is_refused() {
    let mut disk = Disk::formatted(1);
    disk.cell(table(0), copy(3)).now = tiny(3, 3, 1, 0, 77);
    let reason = refused(disk, Faults::NONE);
    let Refused::Copies { page, reason, .. } = reason else { panic!("{reason:?}") };
    assert_eq!(page, table(0));
    assert!(matches!(reason, Refusal::TwoContents { .. }));
}

#[test]
fn generation_pages_need_two_valid_copies_too() {
    let mut disk = Disk::formatted(1);
    for at in 0..4 {
        disk.cell(PageId::Generation, copy(at)).now = TORN;
    }
    let reason = refused(disk, Faults::NONE);
    assert!(matches!(reason, Refused::Copies { page: PageId::Generation, .. }), "{reason:?}");
}

#[test]
fn forced_one_copy_is_enough_and_nothing_is_ever_written() {
    let mut disk = Disk::formatted(1);
    for page in [HEADER, PageId::Generation, table(0)] {
        for at in [0, 1, 2, 4] {
            disk.cell(page, copy(at)).now = TORN;
        }
    }
    let mut opening = Opening::new(disk, Faults::NONE);
    opening.open = Open::new(cache(4), 1000, true);
    assert!(matches!(opening.run(), OpenStep::Judged(_)));
    opening.open.write(&[]);
    assert!(matches!(opening.run(), OpenStep::Judged(_)), "forced, only reading is possible");
    opening.open.read_only();
    assert_eq!(opening.run(), OpenStep::Opened { writable: false });
    assert!(!opening.wrote());
    let mut commit = opening.open.into_commit(vec![Joined::EMPTY; 2], 0).expect("opened");
    assert!(commit.degraded());
    assert!(commit.join(table(0), Change { place: 0, value: 1 }, 0).is_err());
    assert_eq!(commit.next_io(5000), None);
}

#[test]
fn forced_nothing_at_all_is_still_refused() {
    let mut disk = Disk::formatted(1);
    for at in 0..5 {
        disk.cell(table(0), copy(at)).now = TORN;
    }
    let mut opening = Opening::new(disk, Faults::NONE);
    opening.open = Open::new(cache(4), 1000, true);
    assert!(matches!(opening.run(), OpenStep::Refused(Refused::Copies { .. })));
}

#[test]
fn a_spare_that_takes_three_copies_is_served_read_only_if_it_is_whole() {
    let faults = Faults { writes: 0b101, ..Faults::NONE };
    let mut opening = Opening::new(Disk::formatted(1), faults);
    assert_eq!(opening.write(), OpenStep::Opened { writable: false });
    assert!(opening.writes(table(0)).is_empty() && opening.writes(HEADER).is_empty());
    // It binds no later open.
    let mut later = Opening::new(opening.disk, Faults::NONE);
    assert_eq!(later.write(), OpenStep::Opened { writable: true });
}

#[test]
fn a_spare_that_takes_three_copies_and_needs_repair_is_refused() {
    let faults = Faults { writes: 0b101, ..Faults::NONE };
    let mut disk = Disk::formatted(1);
    disk.cell(table(0), copy(3)).now = TORN;
    let mut opening = Opening::new(disk, faults);
    let reason = OpenStep::Refused(Refused::GenerationNotWritten { written: 1 });
    assert_eq!(opening.write(), reason);
    assert!(opening.writes(table(0)).is_empty() && opening.writes(HEADER).is_empty());
}

#[test]
fn a_repair_that_cannot_be_written_is_refused() {
    let mut disk = Disk::formatted(1);
    disk.cell(table(0), copy(3)).now = TORN;
    let faults = Faults { writes: 0b101, from: 5, ..Faults::NONE };
    let mut on_write = |_: &Disk, _: usize| {};
    let mut spare = Spare::new(disk, faults, &mut on_write);
    let reason = open(&mut spare, 1).map(|_| ()).expect_err("two copies fail");
    assert!(matches!(*reason, Refused::RepairNotWritten { page, .. } if page == table(0)));
    spare.faults = Faults::NONE;
    let mut served = open(&mut spare, 2).expect("a later open can");
    served.commit.join(table(0), Change { place: 0, value: 1 }, 0).expect("joins");
    assert_eq!(drive(&mut served.commit, &mut spare, 0).len(), 1);
}

#[test]
fn a_copy_whose_read_never_ends_is_unreadable_and_gets_no_write() {
    let mut opening = Opening::new(Disk::formatted(1), Faults::NONE);
    let mut held = None;
    for _ in 0..5 {
        let OpenStep::Io(io) = opening.open.step(0) else { panic!("five reads") };
        if matches!(io.kind, IoKind::Read { copy: CopyIndex(1), .. }) {
            held = Some(io);
        } else {
            opening.answer(io);
        }
    }
    assert_eq!(opening.open.step(0), OpenStep::Wait);
    assert_eq!(opening.open.next_deadline(), Some(1000));
    opening.open.tick(1000);
    assert_eq!(opening.write(), OpenStep::Opened { writable: true });
    let to_held = |kind: &IoKind| match kind {
        IoKind::Write { copy, .. } | IoKind::Read { copy, .. } => copy.0 == 1,
        IoKind::Flush => false,
    };
    assert!(!opening.log.iter().any(to_held));
    let mut commit = opening.open.into_commit(vec![Joined::EMPTY; 2], 0).expect("opened");
    assert_eq!(commit.copies_valid(), 4);
    commit.io_done(held.expect("held").id, Err(Class::Io), 0);
    commit.join(HEADER, Change { place: 1, value: 1 }, 0).expect("joins");
    let io = commit.next_io(0).expect("a write");
    assert!(matches!(io.kind, IoKind::Write { copy: CopyIndex(1), .. }), "{io:?}");
}

#[test]
fn memory_for_fewer_pages_than_the_header_names_is_refused() {
    let mut opening = Opening::new(Disk::formatted(3), Faults::NONE);
    loop {
        match opening.open.step(0) {
            OpenStep::Io(io) => opening.answer(io),
            OpenStep::Loaded(_) => opening.open.accept_header(vec![PageState::default(); 3]),
            step => {
                let reason = Refused::NoMemory { table_pages: 3 };
                assert_eq!(step, OpenStep::Refused(reason));
                break;
            }
        }
    }
}

/// Runs a format; what it did, and how it ended. `spoil` answers reads.
fn create(
    window: u32,
    spoil: impl Fn(PageId, CopyIndex, Tiny) -> Tiny,
) -> (Vec<CreateKind>, CreateStep) {
    let header = Tiny { kind: 1, pages: 2, ..TORN };
    let mut create = Create::<Tiny>::new(&header, OF, 2, window);
    let mut disk = Disk::formatted(2);
    let mut log = Vec::new();
    let mut out = Vec::new();
    loop {
        match create.step() {
            CreateStep::Io(io) => {
                log.push(io.kind);
                out.push(io);
                assert!(out.len() <= window as usize);
            }
            CreateStep::Wait => {
                let io = out.pop().expect("something is out");
                let mut page = TORN;
                match io.kind {
                    CreateKind::Write { page: id, copy } => {
                        assert!(create.write_image(io.id, &mut page));
                        disk.cell(id, copy).now = page;
                        create.io_done(io.id, Ok(None));
                    }
                    CreateKind::Read { page: id, copy } => {
                        page = spoil(id, copy, disk.cell(id, copy).now);
                        create.io_done(io.id, Ok(Some(&page)));
                    }
                    _ => create.io_done(io.id, Ok(None)),
                }
            }
            step => return (log, step),
        }
    }
}

#[test]
fn format_zeroes_headers_then_writes_all_else_then_headers_then_reads_back() {
    let (log, step) = create(3, |_, _, page| page);
    assert_eq!(step, CreateStep::Done);
    assert_eq!(log.len(), 6 + (15 + 2 + 1) + 6 + 20);
    assert!(log[..5].iter().all(|kind| matches!(kind, CreateKind::ZeroHeader(_))));
    assert_eq!(log[5], CreateKind::Flush);
    assert!(log[6..23].iter().all(|kind| match kind {
        CreateKind::Write { page, .. } => *page != HEADER,
        CreateKind::ZeroRange(range) => *range < 2,
        _ => false,
    }));
    assert_eq!(log[23], CreateKind::Flush);
    assert!(log[24..29].iter().all(|kind| matches!(kind, CreateKind::Write { page: HEADER, .. })));
    assert_eq!(log[29], CreateKind::Flush);
    assert!(log[30..].iter().all(|kind| matches!(kind, CreateKind::Read { .. })));
}

#[test]
fn format_fails_if_one_copy_reads_back_wrong() {
    let (_, step) =
        create(1, |page, at, image| if (page, at) == (table(1), copy(3)) { TORN } else { image });
    let kind = CreateKind::Read { page: table(1), copy: copy(3) };
    assert!(
        matches!(step, CreateStep::Failed(k, CreateFault::Invalid(_)) if k == kind),
        "{step:?}"
    );
    let (_, step) =
        create(4, |_, at, image| if at == copy(4) { Tiny { sequence: 1, ..image } } else { image });
    assert!(matches!(step, CreateStep::Failed(_, CreateFault::OtherStamp(_))), "{step:?}");
}
