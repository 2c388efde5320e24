// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The header page: who the volume is, where its parts lie, who has it open.
//!
//! [`Header::check`] looks at every field, so the getters of a checked header cannot meet a value
//! out of range. A header made by [`HeaderMut`](crate::HeaderMut) is as good, because setters
//! refuse what `check` would. Should a getter meet one all the same it answers with what refuses
//! the most.

use crate::at::{Span, content, extension, header as at, identity, member, place};
use crate::header_rows::{
    ContentRow, Extension, Fence, Health, IdentityRow, MAX_CONTENTS, MAX_EXTENSIONS,
    MAX_IDENTITIES, Member, Role, Session, State,
};
use crate::layout::{Layout, LayoutError, SectorRange};
use crate::page::{self, Expect, PageFault, PageKind};
use crate::slot::{MAX_MAIN_UNITS, MAX_MEMBERS};
use crate::types::{COPIES, CopyIndex, PageBytes, SECTOR_BYTES, Stamp, UNIT_SECTORS, Uuid};

/// The format's major version. Another one is another format.
pub const VERSION_MAJOR: u16 = 4;
/// The minor version this program writes; the old v4 format reads as 4.0. Higher ones can be read.
pub const VERSION_MINOR: u16 = 1;
/// Incompatible features this program knows: none yet.
pub const KNOWN_INCOMPAT: u64 = 0;

/// [`Header::flags`]: the spare must have exactly the size it had at format.
pub const FLAG_STRICT_SPARE_SIZE: u32 = 1;
/// [`Header::flags`]: the spare's physical block was above 4096 bytes and forced.
pub const FLAG_FORCED_PHYSICAL_BLOCK: u32 = 2;

/// Fields that can be out of range, in a header as read or in a call to set one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// A volume or spare UUID of zero.
    Uuid,
    /// The role.
    Role,
    /// The state, or the UUID that belongs to `moved-to`.
    State,
    /// Main's size: none, not whole blocks, or beyond 44 bits of units.
    MainSize,
    /// The block size: not 512, 1024, 2048 or 4096.
    BlockSize,
    /// The name: not of `[A-Za-z0-9_.-]`, longer than 64, `control`, or begun with `.` or `-`.
    Name,
    /// The path hint, longer than 256 bytes.
    Hint,
    /// The target parameters, longer than 512 bytes.
    Parameters,
    /// The settings, longer than 256 bytes.
    Settings,
    /// The member list: a state, a UUID or index twice, an index not given yet, a row too high.
    Members,
    /// An identity of main: longer than 64 bytes, kind 0, or a row too high.
    Identities,
    /// A content UUID: kind 0 or a row too high.
    Contents,
    /// Score or progress above 100.
    Health,
    /// `crc_clean`: neither 0 nor 1.
    CrcClean,
    /// Sizes and places.
    Layout(LayoutError),
    /// An extension area outside the reserved sectors or over another one, or a row too high.
    Extensions,
}

impl Field {
    /// Its name for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Field::Uuid => "UUID",
            Field::Role => "role",
            Field::State => "state",
            Field::MainSize => "size of main",
            Field::BlockSize => "block size",
            Field::Name => "name",
            Field::Hint => "path hint",
            Field::Parameters => "target parameters",
            Field::Settings => "settings",
            Field::Members => "member list",
            Field::Identities => "identities of main",
            Field::Contents => "content UUIDs of main",
            Field::Health => "health section",
            Field::CrcClean => "crc_clean",
            Field::Layout(error) => error.word(),
            Field::Extensions => "extension directory",
        }
    }
}

/// Whether `name` can be the name of a volume: `[A-Za-z0-9_.-]{1,64}`, not `control`, not begun
/// with `.` or `-`.
#[must_use]
pub fn is_volume_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    !name.is_empty()
        && name.len() <= at::NAME.len
        && name.iter().all(allowed)
        && !matches!(name.first(), Some(b'.' | b'-'))
        && name != b"control"
}

/// A valid header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(pub(crate) &'a PageBytes);

impl<'a> Header<'a> {
    /// Bytes as read from the header's place in `copy`. Which volume it belongs to is left open:
    /// five headers decide that together.
    ///
    /// # Errors
    /// Why it is not a valid header of any volume.
    pub fn check(bytes: &'a PageBytes, copy: CopyIndex) -> Result<Header<'a>, PageFault> {
        page::check_head(bytes, PageKind::Header)?;
        let (major, minor) = (at::VERSION_MAJOR.u16(bytes), at::VERSION_MINOR.u16(bytes));
        if major != VERSION_MAJOR || minor == 0 {
            return Err(PageFault::Version(major, minor));
        }
        let unknown = at::FEATURES_INCOMPAT.uint(bytes) & !KNOWN_INCOMPAT;
        if unknown != 0 {
            return Err(PageFault::Feature(unknown));
        }
        if page::copy_of(bytes) != copy {
            return Err(PageFault::Misplaced);
        }
        let view = Header(bytes);
        view.check_fields().map_err(PageFault::Field)?;
        Ok(view)
    }

    /// The same, of one volume and spare.
    ///
    /// # Errors
    /// Why it is not a valid header there.
    pub fn check_for(bytes: &'a PageBytes, expect: &Expect) -> Result<Header<'a>, PageFault> {
        let view = Header::check(bytes, expect.copy)?;
        page::check_place(bytes, at::VOLUME, at::SPARE, expect)?;
        Ok(view)
    }

    /// A view of an image this program has built or has checked before; nothing is looked at.
    #[must_use]
    pub const fn of_image(bytes: &'a PageBytes) -> Header<'a> {
        Header(bytes)
    }

    /// Every field that can be out of range.
    fn check_fields(&self) -> Result<(), Field> {
        if self.volume() == Uuid::default() || self.spare() == Uuid::default() {
            return Err(Field::Uuid);
        }
        let role = self.read_role()?;
        self.read_state()?;
        check_sizes(self.main_sectors(), self.block_bytes())?;
        if !self.name_bytes().is_some_and(|name| name.is_empty() || is_volume_name(name)) {
            return Err(Field::Name);
        }
        self.text(at::HINT, at::HINT_LEN).ok_or(Field::Hint)?;
        self.text(at::PARAMETERS, at::PARAMETERS_LEN).ok_or(Field::Parameters)?;
        self.text(at::SETTINGS, at::SETTINGS_LEN).ok_or(Field::Settings)?;
        if at::CRC_CLEAN.u8(self.0) > 1 {
            return Err(Field::CrcClean);
        }
        let layout = self.layout().map_err(Field::Layout)?;
        if (role == Role::Table) != (layout.pages() != 0 && layout.max_entries() != 0) {
            return Err(Field::Layout(LayoutError::Pages));
        }
        self.check_members()?;
        for row in 0..MAX_IDENTITIES {
            IdentityRow::read(self.0, identity_row(row))?;
        }
        Health::read(self.0, at::HEALTH)?;
        for row in 0..MAX_EXTENSIONS {
            if let Some(extension) = self.extension(row) {
                check_extension(self, row, &extension, &layout)?;
            }
        }
        Ok(())
    }

    /// No spare and no index twice, no index that has not been given yet.
    fn check_members(&self) -> Result<(), Field> {
        for row in 0..MAX_MEMBERS {
            let Some(member) = Member::read(self.0, member_row(row))? else { continue };
            check_member(self, row, &member)?;
        }
        Ok(())
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> Uuid {
        at::VOLUME.uuid(self.0)
    }

    /// The spare it lies on.
    #[must_use]
    pub fn spare(&self) -> Uuid {
        at::SPARE.uuid(self.0)
    }

    /// The table holder: itself if its role is [`Role::Table`].
    #[must_use]
    pub fn holder(&self) -> Uuid {
        at::HOLDER.uuid(self.0)
    }

    /// The copy it was sealed for.
    #[must_use]
    pub fn copy(&self) -> CopyIndex {
        page::copy_of(self.0)
    }

    /// Its stamp.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        page::stamp_of(self.0)
    }

    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (u16, u16) {
        (at::VERSION_MAJOR.u16(self.0), at::VERSION_MINOR.u16(self.0))
    }

    /// Compatible features: whoever does not know one may ignore it.
    #[must_use]
    pub fn compat(&self) -> u64 {
        at::FEATURES_COMPAT.uint(self.0)
    }

    /// Incompatible features.
    #[must_use]
    pub fn incompat(&self) -> u64 {
        at::FEATURES_INCOMPAT.uint(self.0)
    }

    /// When this content was made, seconds since 1970 (UTC). For people; only stamps decide.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        at::TIMESTAMP.uint(self.0)
    }

    /// When the volume was made, seconds since 1970 (UTC).
    #[must_use]
    pub fn created_at(&self) -> u64 {
        at::CREATED_AT.uint(self.0)
    }

    /// The spare's index, never given twice in the life of a volume.
    #[must_use]
    pub fn spare_index(&self) -> u32 {
        at::SPARE_INDEX.u32(self.0)
    }

    /// The index the next spare will be given.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        at::NEXT_INDEX.u32(self.0)
    }

    /// [`FLAG_STRICT_SPARE_SIZE`], [`FLAG_FORCED_PHYSICAL_BLOCK`]; others are a newer version's.
    #[must_use]
    pub fn flags(&self) -> u32 {
        at::FLAGS.u32(self.0)
    }

    fn read_role(&self) -> Result<Role, Field> {
        match at::ROLE.u8(self.0) {
            1 => Ok(Role::Table),
            2 => Ok(Role::Data),
            _ => Err(Field::Role),
        }
    }

    /// What the spare is to the volume.
    #[must_use]
    pub fn role(&self) -> Role {
        self.read_role().unwrap_or(Role::Data)
    }

    fn read_state(&self) -> Result<State, Field> {
        State::from_byte(at::STATE.u8(self.0), at::MOVED_TO.uuid(self.0)).ok_or(Field::State)
    }

    /// What it says of the spare.
    #[must_use]
    pub fn state(&self) -> State {
        self.read_state().unwrap_or(State::Removed)
    }

    /// The fence its state is, if it is one.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.state().fence()
    }

    /// Who has, or had, the volume open.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            host: at::HOST.uuid(self.0),
            boot: at::BOOT.uuid(self.0),
            session: at::SESSION.uuid(self.0),
            opened_at: at::OPENED_AT.uint(self.0),
        }
    }

    /// Whether every CRC in the table was right when the volume was closed.
    #[must_use]
    pub fn crc_clean(&self) -> bool {
        at::CRC_CLEAN.u8(self.0) == 1
    }

    /// Main's size in sectors.
    #[must_use]
    pub fn main_sectors(&self) -> u64 {
        at::MAIN_SECTORS.uint(self.0)
    }

    /// The volume's logical block in bytes: 512, 1024, 2048 or 4096.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        at::BLOCK_SIZE.u32(self.0)
    }

    /// Where everything lies on this spare.
    ///
    /// # Errors
    /// What makes it impossible; never for a checked header.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        let mut areas = [SectorRange { sector: 0, sectors: 0 }; COPIES];
        for (index, area) in areas.iter_mut().enumerate() {
            let row = at::PLACES.row(index, place::END);
            area.sector = row.field(place::SECTOR).uint(self.0);
            area.sectors = row.field(place::SECTORS).uint(self.0);
        }
        Layout::named(
            (at::SPARE_SECTORS.uint(self.0), at::DATA_START.uint(self.0)),
            areas,
            at::TABLE_PAGES.u32(self.0),
            at::MAX_ENTRIES.u32(self.0),
            at::SPARE_PHYSICAL.u32(self.0),
        )
    }

    fn text(&self, field: Span, len: Span) -> Option<&'a [u8]> {
        field.slice(self.0).get(..usize::from(len.u16(self.0)))
    }

    fn name_bytes(&self) -> Option<&'a [u8]> {
        at::NAME.slice(self.0).get(..usize::from(at::NAME_LEN.u8(self.0)))
    }

    /// The volume's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &'a str {
        core::str::from_utf8(self.name_bytes().unwrap_or(&[])).unwrap_or("")
    }

    /// Where main was last seen. Shown, never opened. Any bytes.
    #[must_use]
    pub fn hint(&self) -> &'a [u8] {
        self.text(at::HINT, at::HINT_LEN).unwrap_or(&[])
    }

    /// The target parameters it was made with. Any bytes.
    #[must_use]
    pub fn parameters(&self) -> &'a [u8] {
        self.text(at::PARAMETERS, at::PARAMETERS_LEN).unwrap_or(&[])
    }

    /// The settings as last saved. Any bytes.
    #[must_use]
    pub fn settings(&self) -> &'a [u8] {
        self.text(at::SETTINGS, at::SETTINGS_LEN).unwrap_or(&[])
    }

    /// SHA-256 over main's stable identifiers, informative; all zero = none.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        at::FINGERPRINT.array(self.0)
    }

    /// The spare in `row` of the member list; `None` if the row is empty or there is none.
    #[must_use]
    pub fn member(&self, row: usize) -> Option<Member> {
        if row >= MAX_MEMBERS {
            return None;
        }
        Member::read(self.0, member_row(row)).ok().flatten()
    }

    /// The identity of main in `row`; `None` if the row is empty or there is none.
    #[must_use]
    pub fn identity(&self, row: usize) -> Option<IdentityRow<'a>> {
        if row >= MAX_IDENTITIES {
            return None;
        }
        IdentityRow::read(self.0, identity_row(row)).ok().flatten()
    }

    /// The content UUID of main in `row`; `None` if the row is empty or there is none.
    #[must_use]
    pub fn content(&self, row: usize) -> Option<ContentRow> {
        if row >= MAX_CONTENTS { None } else { ContentRow::read(self.0, content_row(row)) }
    }

    /// When the content UUIDs were taken, seconds since 1970 (UTC); 0 = never.
    #[must_use]
    pub fn content_at(&self) -> u64 {
        at::CONTENT_AT.uint(self.0)
    }

    /// The health section.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        Health::read(self.0, at::HEALTH).ok()
    }

    /// The extension area in `row` of the directory; `None` if the row is empty or there is none.
    #[must_use]
    pub fn extension(&self, row: usize) -> Option<Extension> {
        if row >= MAX_EXTENSIONS { None } else { Extension::read(self.0, extension_row(row)) }
    }
}

pub(crate) const fn member_row(row: usize) -> Span {
    at::MEMBERS.row(row, member::END)
}

pub(crate) const fn identity_row(row: usize) -> Span {
    at::IDENTITIES.row(row, identity::END)
}

pub(crate) const fn content_row(row: usize) -> Span {
    at::CONTENTS.row(row, content::END)
}

pub(crate) const fn extension_row(row: usize) -> Span {
    at::EXTENSIONS.row(row, extension::END)
}

/// Main's size against the block size.
pub(crate) fn check_sizes(main_sectors: u64, block_bytes: u32) -> Result<(), Field> {
    if !(512..=4096).contains(&block_bytes) || !block_bytes.is_power_of_two() {
        return Err(Field::BlockSize);
    }
    let block_sectors = u64::from(block_bytes) / SECTOR_BYTES;
    let whole = main_sectors.checked_rem(block_sectors) == Some(0);
    let units = main_sectors.div_ceil(UNIT_SECTORS);
    if main_sectors == 0 || !whole || units > MAX_MAIN_UNITS {
        return Err(Field::MainSize);
    }
    Ok(())
}

/// Whether `member` may stand in `row` beside the other rows.
pub(crate) fn check_member(header: &Header<'_>, row: usize, member: &Member) -> Result<(), Field> {
    let mut others = (0..MAX_MEMBERS).filter(|other| *other != row);
    let twice = others.any(|other| {
        header.member(other).is_some_and(|m| m.spare == member.spare || m.index == member.index)
    });
    let given = member.index < header.next_index();
    if twice || !given || row >= MAX_MEMBERS || member.spare == Uuid::default() {
        return Err(Field::Members);
    }
    Ok(())
}

/// Whether `extension` may stand in `row`: its area lies below `data_start`, on no page of the
/// table or of a header, and over no other row's.
pub(crate) fn check_extension(
    header: &Header<'_>,
    row: usize,
    extension: &Extension,
    layout: &Layout,
) -> Result<(), Field> {
    let bytes = extension.sectors.saturating_mul(SECTOR_BYTES);
    let fits = extension.kind != 0 && u64::from(extension.length_bytes) <= bytes;
    let mut others = (0..MAX_EXTENSIONS).filter(|other| *other != row);
    let over = others.any(|other| {
        header.extension(other).is_some_and(|other| other.area().overlaps(extension.area()))
    });
    if fits && !over && layout.is_gap(extension.area()) { Ok(()) } else { Err(Field::Extensions) }
}
