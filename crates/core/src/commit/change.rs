// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every kind of metadata change there is.
//!
//! Nothing reaches a page by another way than [`MetadataChange`], so a new kind of change is a new
//! variant here, has a [`ChangeKind`], and does not compile until the crash tests, which match on
//! the kinds without a rest, know how to make its crash images.

use dmremap_format::{
    ContentRow, Field, HeaderMut, IdentityRow, MAX_IDENTITY_BYTES, PageBytes, Session, Slot,
    SlotFault, State, TablePageMut, Uuid,
};

use super::image::PageId;
use crate::settings::{SNAPSHOT_BYTES, Settings};

/// What a change of one slot is for. All of them write one slot; the kind is checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotChange {
    /// A unit gets its first entry: blocks of it have moved to a spare unit.
    Move,
    /// More blocks of a unit have moved to the spare unit it has.
    MoveMore,
    /// A unit's moved blocks lie on another spare unit now.
    MoveOff,
    /// Blocks of a unit exist nowhere any more.
    Gone,
    /// A block that was gone has been written where it lives; the slot may have become free.
    WriteToGone,
    /// A unit is home again: its slot is free.
    Unremap,
    /// `add`: a person says that a spare unit holds these blocks.
    Add,
    /// A spare unit that failed is never handed out again.
    Quarantine,
}

/// A change of the header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeaderChange {
    /// An open: this session's, `dirty`, `crc_clean` cleared.
    Open(Session),
    /// A repair without main: its session, so that who still holds the spare for his notices, and
    /// `crc_clean` cleared. The state stays what it was, and who left it so.
    Repair(Uuid),
    /// A clean close.
    Close,
    /// The settings.
    Settings(Settings),
    /// One row of main's identities, or none in it.
    Identity {
        /// Row, 0 to 7.
        row: u8,
        /// What it holds.
        identity: Option<Identity>,
    },
    /// One row of main's content UUIDs, or none in it; they were taken when the change was made.
    Content {
        /// Row, 0 to 15.
        row: u8,
        /// What it holds.
        content: Option<ContentRow>,
    },
}

/// An identity of main, held by value; see [`IdentityRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    kind: u8,
    flags: u8,
    len: u8,
    value: [u8; MAX_IDENTITY_BYTES],
}

impl Identity {
    /// The same as a row of the header; `None` if the value is too long for one.
    #[must_use]
    pub fn new(row: &IdentityRow<'_>) -> Option<Identity> {
        let mut value = [0; MAX_IDENTITY_BYTES];
        value.get_mut(..row.value.len())?.copy_from_slice(row.value);
        let len = u8::try_from(row.value.len()).ok()?;
        Some(Identity { kind: row.kind, flags: row.flags, len, value })
    }

    /// The row of the header it stands for.
    #[must_use]
    pub fn row(&self) -> IdentityRow<'_> {
        let value = self.value.get(..usize::from(self.len)).unwrap_or(&[]);
        IdentityRow { kind: self.kind, flags: self.flags, value }
    }
}

/// A change of one page's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetadataChange {
    /// Of a table page.
    Slot {
        /// What for.
        kind: SlotChange,
        /// Place in the page, 0 to 125.
        place: u8,
        /// What the slot holds from now on.
        slot: Slot,
    },
    /// Of the header page.
    Header {
        /// When, seconds since 1970 (UTC); for people.
        at: u64,
        /// What.
        change: HeaderChange,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The kinds of metadata change: those of [`MetadataChange`], and those that the machines
        /// make by themselves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ChangeKind {
            $($(#[$doc])* $name),+
        }

        impl ChangeKind {
            /// All of them.
            pub const ALL: &'static [ChangeKind] = &[$(ChangeKind::$name),+];
        }
    };
}

kinds! {
    /// A new volume ([`Create`](crate::create::Create)).
    Format,
    /// A table from a dump, in the same way.
    Restore,
    /// A new generation, by an open.
    Generation,
    /// A page written anew by an open because its copies were not all valid and equal.
    Repair,
    /// A doubtful change undone.
    Reversal,
    /// [`SlotChange::Move`].
    Move,
    /// [`SlotChange::MoveMore`].
    MoveMore,
    /// [`SlotChange::MoveOff`].
    MoveOff,
    /// [`SlotChange::Gone`].
    Gone,
    /// [`SlotChange::WriteToGone`].
    WriteToGone,
    /// [`SlotChange::Unremap`].
    Unremap,
    /// [`SlotChange::Add`].
    Add,
    /// [`SlotChange::Quarantine`].
    Quarantine,
    /// [`HeaderChange::Open`].
    Open,
    /// [`HeaderChange::Repair`].
    RepairAlone,
    /// [`HeaderChange::Close`].
    Close,
    /// [`HeaderChange::Settings`].
    Settings,
    /// [`HeaderChange::Identity`].
    Identity,
    /// [`HeaderChange::Content`].
    Content,
}

impl MetadataChange {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        match self {
            MetadataChange::Slot { kind, .. } => match kind {
                SlotChange::Move => ChangeKind::Move,
                SlotChange::MoveMore => ChangeKind::MoveMore,
                SlotChange::MoveOff => ChangeKind::MoveOff,
                SlotChange::Gone => ChangeKind::Gone,
                SlotChange::WriteToGone => ChangeKind::WriteToGone,
                SlotChange::Unremap => ChangeKind::Unremap,
                SlotChange::Add => ChangeKind::Add,
                SlotChange::Quarantine => ChangeKind::Quarantine,
            },
            MetadataChange::Header { change, .. } => match change {
                HeaderChange::Open(_) => ChangeKind::Open,
                HeaderChange::Repair(_) => ChangeKind::RepairAlone,
                HeaderChange::Close => ChangeKind::Close,
                HeaderChange::Settings(_) => ChangeKind::Settings,
                HeaderChange::Identity { .. } => ChangeKind::Identity,
                HeaderChange::Content { .. } => ChangeKind::Content,
            },
        }
    }

    /// Whether it can be applied to `page`; one that cannot never joins.
    #[must_use]
    pub fn fits(&self, page: PageId) -> bool {
        match (self, page) {
            (MetadataChange::Slot { kind, place, slot }, PageId::Table(_)) => {
                *place < dmremap_format::SLOTS_PER_PAGE
                    && slot.check_itself().is_ok()
                    && kind.fits(slot)
            }
            (MetadataChange::Header { change, .. }, PageId::Header) => change.fits(),
            _ => false,
        }
    }

    /// Applies it to the image of a page it fits.
    ///
    /// # Errors
    /// [`ChangeFault`]: it does not fit; the image is as it was, but perhaps for its timestamp.
    pub fn apply(&self, image: &mut PageBytes) -> Result<(), ChangeFault> {
        match self {
            MetadataChange::Slot { place, slot, .. } => {
                TablePageMut::edit(image).set_slot(*place, slot).map_err(ChangeFault::Slot)
            }
            MetadataChange::Header { at, change } => {
                change.apply(&mut HeaderMut::edit(image), *at).map_err(ChangeFault::Field)
            }
        }
    }
}

/// Why a change cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeFault {
    /// The slot.
    Slot(SlotFault),
    /// The header's field.
    Field(Field),
}

impl SlotChange {
    /// Whether this is a slot that such a change leaves behind.
    const fn fits(self, slot: &Slot) -> bool {
        match self {
            SlotChange::Move | SlotChange::MoveMore | SlotChange::MoveOff | SlotChange::Add => {
                slot.main.is_some() && slot.spare.is_some()
            }
            SlotChange::Gone => slot.main.is_some(),
            SlotChange::WriteToGone => slot.main.is_some() || slot.is_free(),
            SlotChange::Unremap => slot.is_free(),
            SlotChange::Quarantine => slot.is_quarantine(),
        }
    }
}

impl HeaderChange {
    fn fits(&self) -> bool {
        match self {
            HeaderChange::Open(_)
            | HeaderChange::Repair(_)
            | HeaderChange::Close
            | HeaderChange::Settings(_) => true,
            HeaderChange::Identity { row, identity } => {
                usize::from(*row) < dmremap_format::MAX_IDENTITIES
                    && identity.is_none_or(|i| i.kind != 0)
            }
            HeaderChange::Content { row, content } => {
                usize::from(*row) < dmremap_format::MAX_CONTENTS
                    && content.is_none_or(|c| c.kind != 0)
            }
        }
    }

    fn apply(&self, header: &mut HeaderMut<'_>, at: u64) -> Result<(), Field> {
        header.set_timestamp(at);
        match self {
            HeaderChange::Open(session) => {
                header.set_session(session);
                header.set_crc_clean(false);
                header.set_state(State::Dirty)
            }
            HeaderChange::Repair(session) => {
                let before = header.view().session();
                header.set_session(&Session { session: *session, ..before });
                header.set_crc_clean(false);
                Ok(())
            }
            HeaderChange::Close => header.set_state(State::Clean),
            HeaderChange::Settings(settings) => {
                let mut snapshot = [0; SNAPSHOT_BYTES];
                settings.to_snapshot(&mut snapshot);
                let len = snapshot.iter().rposition(|b| *b != 0).map_or(0, |n| n.saturating_add(1));
                header.set_settings(snapshot.get(..len).unwrap_or(&[]))
            }
            HeaderChange::Identity { row, identity } => {
                let identity = identity.as_ref().map(Identity::row);
                header.set_identity(usize::from(*row), identity)
            }
            HeaderChange::Content { row, content } => {
                header.set_content_at(at);
                header.set_content(usize::from(*row), content.as_ref())
            }
        }
    }
}
