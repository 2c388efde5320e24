// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How refusals of the metadata read in messages: which page, which copy, which slot. Not used by
//! the kernel object, where none of it survives linking.

use core::fmt::{Display, Formatter, Result};

use dmremap_format::{
    CopyIndex, Field, LayoutError, PageFault, PageIndex, Refusal, SlotFault, SlotIndex, SpareUnit,
    Stamp, UnitIndex, one_of_each,
};

use crate::api::{Class, Reason};
use crate::commit::PageId;
use crate::create::{CreateFault, CreateKind};
use crate::machine::LoadFault;
use crate::message::Fault;
use crate::open::{CopySeen, Refused};

impl Display for PageId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            PageId::Header => f.write_str("header"),
            PageId::Generation => f.write_str("generation page"),
            PageId::Table(page) => write!(f, "table page {}", page.0),
        }
    }
}

impl Display for CopySeen {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            CopySeen::Unread => f.write_str("not read"),
            CopySeen::Unreadable(class) => write!(f, "unreadable: {class}"),
            CopySeen::Invalid(fault) => fault.fmt(f),
            CopySeen::Valid(stamp) => write!(f, "valid, {stamp}"),
        }
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Refused::Copies { page, reason, seen } => {
                write!(f, "{page}: {reason}")?;
                let copies = seen.iter().enumerate();
                copies.into_iter().try_for_each(|(copy, seen)| write!(f, "; copy {copy}: {seen}"))
            }
            Refused::NoMemory { table_pages } => {
                write!(f, "no memory for a table of {table_pages} pages")
            }
            Refused::GenerationsUsedUp => f.write_str("the highest generation there is was used"),
            Refused::GenerationNotWritten { written } => write!(
                f,
                "it takes no writes: only {written} of 5 copies of the generation page could be \
                 written, 4 are needed"
            ),
            Refused::NotReadAgain { page } => {
                write!(f, "{page}: was read before and could not be read again for its repair")
            }
            Refused::RepairNotWritten { page, written } => write!(
                f,
                "it takes no writes: only {written} of 5 copies of the {page} could be repaired, \
                 4 are needed"
            ),
        }
    }
}

impl Display for LoadFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let at = |f: &mut Formatter<'_>, slot: &SlotIndex| {
            write!(f, "table page {} slot {}: ", slot.page().0, slot.place())
        };
        match self {
            LoadFault::Slot { slot, fault } => {
                at(f, slot)?;
                fault.fmt(f)
            }
            LoadFault::MainTwice { slot, unit } => {
                at(f, slot)?;
                write!(f, "a second entry for main sector {}", sector(unit.0))
            }
            LoadFault::SpareTwice { slot, unit } => {
                at(f, slot)?;
                write!(f, "a second entry on spare unit {}", unit.0)
            }
            LoadFault::NoRoom { slot } => {
                at(f, slot)?;
                f.write_str("the table in memory has no room for it")
            }
        }
    }
}

/// The first sector of a unit of main.
fn sector(unit: u64) -> u64 {
    unit.saturating_mul(dmremap_format::UNIT_SECTORS)
}

impl Display for CreateKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            CreateKind::ZeroHeader(copy) => write!(f, "zeroing the header of copy {}", copy.0),
            CreateKind::ZeroRange(_) => f.write_str("zeroing the gaps between the copies"),
            CreateKind::Write { page, copy } => {
                write!(f, "writing the {page} of copy {}", copy.0)
            }
            CreateKind::Flush => f.write_str("flushing all five copies"),
            CreateKind::Read { page, copy } => {
                write!(f, "reading back the {page} of copy {}", copy.0)
            }
        }
    }
}

impl Display for CreateFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            CreateFault::Io(class) => class.fmt(f),
            CreateFault::Invalid(fault) => fault.fmt(f),
            CreateFault::OtherStamp(stamp) => write!(f, "it carries another stamp, {stamp}"),
        }
    }
}

const SEEN: [CopySeen; 5] = [
    CopySeen::Unread,
    CopySeen::Unreadable(Class::Medium),
    CopySeen::Invalid(PageFault::Checksum),
    CopySeen::Valid(Stamp { generation: 3, sequence: 4 }),
    CopySeen::Invalid(PageFault::Field(Field::Layout(LayoutError::Pages))),
];
const TABLE: PageId = PageId::Table(PageIndex(7));
const FEW: Refusal = Refusal::TooFewValid {
    valid: dmremap_format::CopyMask(0b1000),
    unreadable: dmremap_format::CopyMask(0b10),
};

one_of_each!(Refused {
    Copies { page: PageId::Header, reason: FEW, seen: SEEN }
    Copies { page: PageId::Generation, reason: FEW, seen: SEEN }
    Copies { page: TABLE, reason: FEW, seen: SEEN }
    NoMemory { table_pages: 900 }
    GenerationsUsedUp {}
    GenerationNotWritten { written: 3 }
    NotReadAgain { page: TABLE }
    RepairNotWritten { page: PageId::Header, written: 2 }
});

one_of_each!(LoadFault {
    Slot { slot: SlotIndex(130), fault: SlotFault::BadState }
    MainTwice { slot: SlotIndex(130), unit: UnitIndex(10) }
    SpareTwice { slot: SlotIndex(130), unit: SpareUnit(11) }
    NoRoom { slot: SlotIndex(130) }
});

one_of_each!(CreateKind {
    ZeroHeader { 0: CopyIndex(4) }
    ZeroRange { 0: 1 }
    Write { page: TABLE, copy: CopyIndex(4) }
    Flush {}
    Read { page: PageId::Generation, copy: CopyIndex(4) }
});

one_of_each!(CreateFault {
    Io { 0: Class::Transport }
    Invalid { 0: PageFault::Checksum }
    OtherStamp { 0: Stamp { generation: 3, sequence: 4 } }
});

one_of_each!(Reason {
    OutOfRange {}
    AlreadyRemapped {}
    NotRemapped {}
    SpareNotFree {}
    OtherPlaceInUnit {}
    Busy {}
    Full {}
    Gone {}
    Unreadable {}
    WriteFailed { 0: Class::Io }
    DeviceSuspect {}
    MetadataDegraded {}
    CommitFailed {}
    InDoubt {}
    TimedOut {}
    NotWritable {}
});

one_of_each!(Fault {
    Empty {}
    TooLong {}
    NoSuchMessage {}
    Missing {}
    TooMany {}
    Range { low: 0, high: 10 }
    Words { 0: "force", 1: "left out" }
    Names { 0: crate::settings::KEY_NAMES }
});

one_of_each!(Class {
    Medium {}
    Io {}
    Target {}
    Transport {}
    Timeout {}
    Offline {}
    Reservation {}
    Protection {}
    NoSpace {}
    NotSupported {}
    Again {}
});
