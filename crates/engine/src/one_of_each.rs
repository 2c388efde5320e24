// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One value of each variant of this crate's errors, for the tests of how they are shown. The names
//! in them are hostile: what is shown of them must not act on a terminal.

use dmremap_core::create::{CreateFault, CreateKind};
use dmremap_core::machine::LoadFault;
use dmremap_core::open::Refused;
use dmremap_core::{Class, Reason};
use dmremap_format::identity::Judgement;
use dmremap_format::{
    Field, Found, LayoutError, Signature, SlotFault, SlotIndex, State, Uuid, one_of_each,
};
use rustix::io::Errno;

use crate::device::error::DeviceError;
use crate::next::Next;
use crate::volume::{MarkError, VolumeError};

/// A main with a name that clears the screen, a spare with one that fakes a line.
const MAIN: &str = "/dev/main\u{1b}[2J";
const SPARE: &str = "/dev/spare\ntry: rm \u{202e}";

one_of_each!(DeviceError {
    Spec { spec: SPARE.into(), why: "a wrapper wants a device".into() }
    Missing { path: SPARE.into() }
    NotADevice { path: SPARE.into() }
    Permission { path: SPARE.into(), write: true }
    Permission { path: SPARE.into(), write: false }
    Busy { path: SPARE.into(), waited_ms: 5_000 }
    Buffered { path: SPARE.into(), why: "its file system has no O_DIRECT" }
    BlockSize { path: SPARE.into(), asked: 512, least: 4_096 }
    Empty { path: SPARE.into(), bytes: 100 }
    Wrapper { path: SPARE.into(), line: 0, why: "cannot be read".into() }
    Wrapper { path: SPARE.into(), line: 3, why: "no such word".into() }
    System { path: SPARE.into(), doing: "open", errno: Errno::MFILE }
});

one_of_each!(VolumeError {
    SameDevice { main: MAIN.into(), spare: SPARE.into() }
    BlockSize { device: SPARE.into(), asked: 512, own: 4_096 }
    PartitionTable { main: MAIN.into(), asked: 4_096 }
    Layout { spare: SPARE.into(), error: LayoutError::Pages }
    Occupied {
        spare: SPARE.into(),
        found: Found {
            kind: Signature::Ext, offset: 1_024, in_partition: false, copy: false, uuid: None
        }
    }
    OldVolume { spare: SPARE.into() }
    Unreadable { device: SPARE.into(), class: Class::Io }
    Field { 0: Field::Name }
    Format {
        spare: SPARE.into(), step: CreateKind::Flush, fault: CreateFault::Io(Class::Io)
    }
    Metadata { spare: SPARE.into(), refused: Box::new(Refused::GenerationsUsedUp) }
    Table {
        spare: SPARE.into(),
        fault: LoadFault::Slot { slot: SlotIndex(130), fault: SlotFault::BadState }
    }
    Size { device: SPARE.into(), header: 4_096, own: 2_048 }
    NotServed { spare: SPARE.into(), state: State::Joining }
    OtherHost { spare: SPARE.into(), host: Uuid([0xa7; 16]) }
    Main {
        main: MAIN.into(),
        was: "4096 sectors, WWN 0x5000".into(),
        is: "4096 sectors, WWN 0x6000".into(),
        judgement: Judgement::NotACopy
    }
    Unmarked {
        spare: SPARE.into(),
        error: MarkError { words: "mark gone 8: no room".into(), reason: Reason::Full }
    }
    ReadOnlyDevice { device: SPARE.into() }
    System { 0: "no random numbers".into() }
});

one_of_each!(Next {
    Again {}
    With { 0: "--yes".into() }
    Without { 0: "--block-size" }
    Other { 0: SPARE.into() }
    OtherMain {}
    BlockSize { bytes: 4_096, device: SPARE.into() }
    Permitted { 0: SPARE.into() }
    Check { 0: SPARE.into() }
    Holders { 0: SPARE.into() }
    Log {}
    Help {}
    Version {}
});
