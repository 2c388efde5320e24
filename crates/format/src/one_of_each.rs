// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One value of each variant of what a person may be shown, for the tests of how it is shown. The
//! list of a type does not compile when a variant is missing, and it can only stand in the type's
//! own crate.

use crate::identity::{Accept, Compared, HardwareKind, Judgement, Why};
use crate::{
    CopyIndex, CopyMask, Fence, Field, LayoutError, PageFault, Refusal, SlotFault, Stamp, State,
    Uuid,
};

/// Gives an enum `one_of_each`: a value of each variant, several of one if they are written.
#[doc(hidden)]
#[macro_export]
macro_rules! one_of_each {
    ($of:ident { $($variant:ident { $($fields:tt)* })* }) => {
        impl $of {
            /// One value of each variant, for tests.
            #[doc(hidden)]
            #[must_use]
            pub fn one_of_each() -> impl IntoIterator<Item = $of> {
                #[allow(unreachable_patterns, reason = "a variant may be written twice")]
                let _compiles_only_with_all = |value: &$of| match value {
                    $($of::$variant { .. } => (),)*
                };
                [$($of::$variant { $($fields)* }),*]
            }
        }
    };
}

const UUID: Uuid = Uuid([0xa7; 16]);

one_of_each!(Refusal {
    TooFewValid { valid: CopyMask(0b00001), unreadable: CopyMask(0b00110) }
    TooFewValid { valid: CopyMask(0), unreadable: CopyMask(0) }
    TwoContents { stamp: Stamp { generation: 3, sequence: 4 }, copies: CopyMask(0b10010) }
    TwoVolumes { first: UUID, second: Uuid([0xb8; 16]) }
    Fenced { copy: CopyIndex(3), fence: Fence::MovedTo(UUID) }
    Fenced { copy: CopyIndex(3), fence: Fence::Removed }
    Fenced { copy: CopyIndex(3), fence: Fence::Released }
    Newer { copy: CopyIndex(2), fault: PageFault::Feature(1 << 40) }
});

one_of_each!(LayoutError {
    SpareTooSmall { needed_sectors: 11_272, sectors: 2_048 }
    PhysicalBlock { bytes: 8_192 }
    PhysicalBlock { bytes: 3 }
    MaxEntries { entries: 0 }
    Pages {}
    Places {}
});

one_of_each!(PageFault {
    Magic {}
    Kind {}
    Checksum {}
    Version { 0: 5, 1: 0 }
    Feature { 0: 1 << 40 }
    OtherVolume { 0: UUID }
    OtherSpare { 0: UUID }
    Misplaced {}
    Field { 0: Field::MainSize }
});

one_of_each!(SlotFault {
    NoSuchSlot {}
    MainOutOfRange {}
    SpareOutOfRange {}
    NoSuchMember {}
    BadState {}
    SpareWithoutUnit {}
    NothingMoved {}
    StateBeyondUnit {}
    QuarantineWithStates {}
    UnknownFlags {}
});

one_of_each!(Field {
    Uuid {}
    Role {}
    State {}
    MainSize {}
    BlockSize {}
    Name {}
    Hint {}
    Parameters {}
    Settings {}
    Members {}
    Identities {}
    Contents {}
    Health {}
    CrcClean {}
    Layout { 0: LayoutError::Places }
    Extensions {}
});

one_of_each!(State {
    Clean {}
    Dirty {}
    Joining {}
    MovedTo { 0: UUID }
    Removed {}
    Released {}
    Restored {}
});

one_of_each!(Judgement {
    Same { proved: true, content: Compared::Equal }
    Moved { accept: Accept::Same, content: Compared::Equal }
    SizeDiffers { stored: 4_096, seen: 2_048 }
    BlockSizeDiffers { stored: 512, seen: 4_096 }
    ProofDiffers { 0: HardwareKind::Wwn }
    NotACopy {}
    Alike {}
    Ask { 0: Why::ContentDiffers }
    Ask { 0: Why::WeakDiffers }
    Ask { 0: Why::ContentAlone }
    Ask { 0: Why::Nothing }
});
