// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Crash points of every kind of metadata change, on a table of one page with real pages.
//!
//! Each kind is carried out once, recorded. A power cut is then put at every page write, with
//! every subset of that page's eight sectors on the medium, the other page of its pair old, new or
//! torn; the disk that this leaves is opened. Then the open's own writes are cut in the same way,
//! and what that leaves is opened again.
//!
//! Invariants checked: the open succeeds (of a format: or there is no volume); it serves the
//! content before the change or the one behind it, and only the latter once it was acknowledged.

mod real;

use dmremap_core::commit::{
    ChangeKind, HeaderChange, Identity, MetadataChange, OutcomeKind, PageId, SlotChange,
};
use dmremap_core::settings::{Key, Setting, Settings};
use dmremap_format::{
    BlockState, ContentRow, CopyIndex, IdentityRow, PageBytes, PageIndex, Slot, SpareUnit, State,
    States, UnitIndex,
};
use real::{Content, Disk, Event, Place, Spare, drive, format, open, open_with, uuid};

const SECTOR: usize = 512;
const TABLE: PageId = PageId::Table(PageIndex(0));
/// Subsets of sectors that stand for torn pages where not all are tried.
const SOME: [u8; 6] = [0x01, 0x0f, 0x55, 0xaa, 0xf0, 0xfe];

fn slot(unit: u64, spare: u64, on_spare: u8, gone: u8) -> Slot {
    let states = States::ALL_MAIN.with(on_spare, BlockState::Spare).with(gone, BlockState::Gone);
    Slot {
        main: Some(UnitIndex(unit)),
        spare: Some(SpareUnit(spare)),
        states,
        time: 7,
        ..Slot::FREE
    }
}

fn quarantine(spare: u64) -> Slot {
    Slot { spare: Some(SpareUnit(spare)), ..Slot::FREE }
}

fn change(kind: SlotChange, place: u8, slot: Slot) -> MetadataChange {
    MetadataChange::Slot { kind, place, slot }
}

fn header(change: HeaderChange) -> MetadataChange {
    MetadataChange::Header { at: 99, change }
}

/// A volume with a moved unit at place 0, one with a gone block at place 1, and a quarantine.
fn volume() -> Disk {
    let mut spare = Spare::new(&Disk::new());
    format(&mut spare, 10);
    let mut served = open(&mut spare, 1).expect("a new volume");
    let changes = [
        change(SlotChange::Move, 0, slot(5, 0, 0b1, 0)),
        change(SlotChange::Move, 1, slot(9, 1, 0b1, 0b10)),
        change(SlotChange::Quarantine, 125, quarantine(3)),
    ];
    for change in changes {
        served.commit.join(TABLE, change, 0).expect("joins");
    }
    let outcomes = drive(&mut served.commit, &mut spare, 0);
    assert_eq!(outcomes, [OutcomeKind::Acknowledged; 3]);
    served.commit.close(header(HeaderChange::Close), 0);
    drive(&mut served.commit, &mut spare, 0);
    assert_eq!(served.commit.closed(), Some(true));
    spare.disk
}

/// Opens `start`, then carries out `changes` in one commit; the log begins behind the open.
fn commit(start: &Disk, changes: &[(PageId, MetadataChange)]) -> Vec<Event> {
    let mut spare = Spare::new(start);
    let mut served = open(&mut spare, 2).expect("a good volume");
    spare.log = vec![Event::Base(spare.disk.clone())];
    for (page, change) in changes {
        served.commit.join(*page, *change, 0).expect("joins");
    }
    let outcomes = drive(&mut served.commit, &mut spare, 0);
    assert!(outcomes.iter().all(|o| *o == OutcomeKind::Acknowledged), "{outcomes:?}");
    spare.log
}

/// What is written by a change of this kind, from the disk it begins with.
fn log(kind: ChangeKind) -> Vec<Event> {
    let start = volume();
    let table = |kind, place, slot| commit(&start, &[(TABLE, change(kind, place, slot))]);
    let head = |change| commit(&start, &[(PageId::Header, header(change))]);
    match kind {
        ChangeKind::Format => {
            let mut spare = Spare::new(&start);
            spare.log.push(Event::Base(start.clone()));
            format(&mut spare, 40);
            spare.log
        }
        ChangeKind::Restore => {
            // Four lost copies of a page: there is nothing to be read any more.
            let mut lost = start.clone();
            for copy in 0..4 {
                lost.insert((TABLE, CopyIndex(copy)), [0; 4096]);
            }
            let mut spare = Spare::new(&lost);
            spare.log.push(Event::Base(lost));
            let gone = Slot { spare: None, ..slot(5, 0, 0, 0b1) };
            real::make(&mut spare, 40, State::Restored, &[gone]);
            spare.log
        }
        ChangeKind::Generation | ChangeKind::Open => opening(&start, real::session(3)),
        ChangeKind::Repair => opening(&torn(&start), real::session(3)),
        ChangeKind::RepairAlone => opening(&torn(&start), header(HeaderChange::Repair(uuid(3)))),
        ChangeKind::Reversal => reversal(&start),
        ChangeKind::Move => table(SlotChange::Move, 14, slot(20, 4, 0xff, 0)),
        ChangeKind::MoveMore => table(SlotChange::MoveMore, 0, slot(5, 0, 0b11, 0)),
        ChangeKind::MoveOff => commit(
            &start,
            &[
                (TABLE, change(SlotChange::MoveOff, 0, slot(5, 6, 0b1, 0))),
                (TABLE, change(SlotChange::Quarantine, 100, quarantine(0))),
            ],
        ),
        ChangeKind::Gone => table(SlotChange::Gone, 0, slot(5, 0, 0, 0b1)),
        ChangeKind::WriteToGone => table(SlotChange::WriteToGone, 1, slot(9, 1, 0b11, 0)),
        ChangeKind::Unremap => table(SlotChange::Unremap, 0, Slot::FREE),
        ChangeKind::Add => table(SlotChange::Add, 60, slot(30, 9, 0b1000, 0)),
        ChangeKind::Quarantine => table(SlotChange::Quarantine, 61, quarantine(12)),
        ChangeKind::Close => closing(&start),
        ChangeKind::Settings => {
            let mut settings = Settings::default();
            assert!(settings.set(Setting::new(Key::ReadRetries, 7).expect("legal")));
            head(HeaderChange::Settings(settings))
        }
        ChangeKind::Identity => {
            let row = IdentityRow { kind: 3, flags: 1, value: b"WD-1234" };
            head(HeaderChange::Identity { row: 0, identity: Identity::new(&row) })
        }
        ChangeKind::Content => {
            let content = ContentRow { kind: 2, flags: 0, place: 0, uuid: uuid(9) };
            head(HeaderChange::Content { row: 0, content: Some(content) })
        }
    }
}

/// The disk with two copies of the table torn.
fn torn(start: &Disk) -> Disk {
    let mut torn = start.clone();
    torn.insert((TABLE, CopyIndex(1)), [0; 4096]);
    torn.insert((TABLE, CopyIndex(4)), [0; 4096]);
    torn
}

fn opening(start: &Disk, change: MetadataChange) -> Vec<Event> {
    let mut spare = Spare::new(start);
    spare.log.push(Event::Base(start.clone()));
    assert!(open_with(&mut spare, change).expect("a good volume").writable);
    spare.log
}

fn closing(start: &Disk) -> Vec<Event> {
    let mut spare = Spare::new(start);
    let mut served = open(&mut spare, 2).expect("a good volume");
    spare.log = vec![Event::Base(spare.disk.clone())];
    served.commit.close(header(HeaderChange::Close), 0);
    drive(&mut served.commit, &mut spare, 0);
    assert_eq!(served.commit.closed(), Some(true));
    spare.log
}

/// A move whose second flush fails, and a second later its reversal.
fn reversal(start: &Disk) -> Vec<Event> {
    let mut spare = Spare::new(start);
    let mut served = open(&mut spare, 2).expect("a good volume");
    spare.log = vec![Event::Base(spare.disk.clone())];
    spare.flush_fails = Some(spare.flushes + 1);
    let change = change(SlotChange::Move, 14, slot(20, 4, 0xff, 0));
    served.commit.join(TABLE, change, 0).expect("joins");
    assert_eq!(drive(&mut served.commit, &mut spare, 0), [OutcomeKind::InDoubt]);
    assert_eq!(drive(&mut served.commit, &mut spare, 1000), [OutcomeKind::Reversed]);
    spare.log
}

/// One disk that a power cut can leave, and what was acknowledged by then.
struct Cut<'a> {
    disk: &'a Disk,
    acknowledged: bool,
}

/// The sectors of `new` in `subset`, the others of `old`.
fn mix(old: &PageBytes, new: &PageBytes, subset: u8) -> PageBytes {
    let mut page = *old;
    for sector in (0..8).filter(|s| subset >> s & 1 != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        page[range.clone()].copy_from_slice(&new[range]);
    }
    page
}

/// Every cut of a log: at each write, `subsets` of its sectors, what else is not durable old, new
/// or torn.
fn cuts(log: &[Event], subsets: &[u8], mut visit: impl FnMut(&Cut<'_>)) -> u32 {
    let mut disk = Disk::new();
    let mut pending: Vec<(Place, Box<PageBytes>)> = Vec::new();
    let mut acknowledged = false;
    let mut writes = 0;
    for event in log {
        match event {
            Event::Base(base) => disk = base.clone(),
            Event::Acknowledged => acknowledged = true,
            Event::Flush(good) => {
                if *good {
                    pending.drain(..).for_each(|(place, page)| {
                        disk.insert(place, *page);
                    });
                }
            }
            Event::Write(place, page) => {
                writes += 1;
                for others in [0, 0xff, 0x3c] {
                    if others != 0 && pending.is_empty() {
                        continue;
                    }
                    let mut cut = disk.clone();
                    for (place, new) in &pending {
                        let old = cut.get(place).copied().unwrap_or([0xa5; 4096]);
                        cut.insert(*place, mix(&old, new, others));
                    }
                    let old = cut.get(place).copied().unwrap_or([0xa5; 4096]);
                    for subset in subsets {
                        cut.insert(*place, mix(&old, page, *subset));
                        visit(&Cut { disk: &cut, acknowledged });
                    }
                }
                pending.push((*place, page.clone()));
            }
        }
    }
    visit(&Cut { disk: &disk, acknowledged });
    writes
}

/// What is served from a disk, and what its open wrote.
fn look(disk: &Disk) -> (Option<Content>, Vec<Event>) {
    let mut spare = Spare::new(disk);
    spare.log.push(Event::Base(disk.clone()));
    let served = open(&mut spare, 9);
    (served.ok().map(|s| s.content), spare.log)
}

/// Whether two opens serve the same, whatever the header said of the last close.
fn same(a: &Option<Content>, b: &Option<Content>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a.volume, &a.slots, &a.header) == (b.volume, &b.slots, &b.header),
        _ => a.is_none() && b.is_none(),
    }
}

/// What the first pair of a log shows.
fn doubtful(log: &[Event]) -> Option<Content> {
    let mut spare = Spare::new(&Disk::new());
    for event in log.iter().take_while(|e| !matches!(e, Event::Flush(_))) {
        match event {
            Event::Base(base) => spare.disk = base.clone(),
            Event::Write(place, page) => {
                spare.disk.insert(*place, **page);
            }
            _ => {}
        }
    }
    look(&spare.disk).0
}

fn check(kind: ChangeKind) {
    let log = log(kind);
    let Some(Event::Base(start)) = log.first() else { panic!("a log begins with its disk") };
    let mut end = start.clone();
    for event in &log {
        if let Event::Write(place, page) = event {
            end.insert(*place, **page);
        }
    }
    let before = look(start).0;
    let after = look(&end).0;
    assert!(after.is_some());
    let doubtful = doubtful(&log);
    let must_open = !matches!(kind, ChangeKind::Format | ChangeKind::Restore);
    let good = |content: &Option<Content>, acknowledged: bool| match kind {
        // Either volume, whole, or none; behind the acknowledgement the new one.
        ChangeKind::Format | ChangeKind::Restore => {
            *content == after || !acknowledged && (content.is_none() || same(content, &before))
        }
        // The doubtful change may be served until it is reversed.
        ChangeKind::Reversal => *content == after || !acknowledged && *content == doubtful,
        ChangeKind::RepairAlone => *content == after,
        _ => *content == after || !acknowledged && same(content, &before),
    };
    match kind {
        ChangeKind::Reversal => assert!(before == after && doubtful != after),
        ChangeKind::RepairAlone => assert_eq!(before, after, "clean stays clean, and all else"),
        _ => assert_ne!(before, after, "{kind:?} must change something"),
    }
    let all: Vec<u8> = (0..=255).collect();
    let (mut opened, mut second) = (0u32, 0u32);
    let writes = cuts(&log, &all, |cut| {
        let (content, _) = look(cut.disk);
        opened += 1;
        assert!(good(&content, cut.acknowledged), "{kind:?}: {content:?}");
        assert!(content.is_some() || !must_open);
    });
    cuts(&log, &SOME, |cut| {
        let (content, repair) = look(cut.disk);
        cuts(&repair, &SOME[2..4], |again| {
            let (anew, _) = look(again.disk);
            second += 1;
            // A cut open has served nothing: either may come. It may have written `dirty`.
            let clean = after.as_ref().is_some_and(|c| c.clean);
            let anew = anew.map(|c| Content { clean, ..c });
            assert!(good(&anew, cut.acknowledged), "{kind:?}: {content:?}, then {anew:?}");
            assert!(anew.is_some() || content.is_none());
        });
    });
    println!("{kind:?}: {writes} writes, {opened} disks opened, {second} behind a second cut");
    assert!(writes >= 5);
}

#[test]
fn every_kind_of_change() {
    for kind in ChangeKind::ALL {
        check(*kind);
    }
}
