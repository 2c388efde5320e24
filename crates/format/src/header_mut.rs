// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A header being made or changed. Setters refuse what [`Header::check`] would; what they refuse is
//! not changed.

use crate::at::{Span, header as at, place};
use crate::header::{
    Field, Header, VERSION_MAJOR, VERSION_MINOR, check_extension, check_member, check_sizes,
    content_row, extension_row, identity_row, is_volume_name, member_row,
};
use crate::header_rows::{
    ContentRow, Extension, Health, IdentityRow, MAX_CONTENTS, MAX_EXTENSIONS, MAX_IDENTITIES,
    MAX_IDENTITY_BYTES, Member, Role, Session, State,
};
use crate::layout::Layout;
use crate::page::{self, PageKind};
use crate::slot::MAX_MEMBERS;
use crate::types::{CopyIndex, PageBytes, Stamp, Uuid};

/// What a new header cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHeader {
    /// The volume, not zero.
    pub volume: Uuid,
    /// The spare it lies on, not zero.
    pub spare: Uuid,
    /// Where everything lies on the spare.
    pub layout: Layout,
    /// Main's size in sectors.
    pub main_sectors: u64,
    /// The volume's block in bytes.
    pub block_bytes: u32,
}

/// A header being made or changed.
#[derive(Debug)]
pub struct HeaderMut<'a>(&'a mut PageBytes);

impl<'a> HeaderMut<'a> {
    /// Begins the header of a table holder: state `clean`, index 0, everything else empty. The
    /// member list is empty too: a volume's own spare is entered like any other.
    ///
    /// # Errors
    /// A UUID of zero, or sizes out of range; the page is then all zeros.
    pub fn blank(bytes: &'a mut PageBytes, new: &NewHeader) -> Result<HeaderMut<'a>, Field> {
        bytes.fill(0);
        if new.volume == Uuid::default() || new.spare == Uuid::default() {
            return Err(Field::Uuid);
        }
        check_sizes(new.main_sectors, new.block_bytes)?;
        page::blank(bytes, PageKind::Header);
        at::VERSION_MAJOR.put_uint(bytes, u64::from(VERSION_MAJOR));
        at::VERSION_MINOR.put_uint(bytes, u64::from(VERSION_MINOR));
        at::VOLUME.put(bytes, &new.volume.0);
        at::SPARE.put(bytes, &new.spare.0);
        at::HOLDER.put(bytes, &new.spare.0);
        at::NEXT_INDEX.put_uint(bytes, 1);
        at::ROLE.put_uint(bytes, Role::Table as u64);
        at::STATE.put_uint(bytes, u64::from(State::Clean.byte()));
        at::MAIN_SECTORS.put_uint(bytes, new.main_sectors);
        at::BLOCK_SIZE.put_uint(bytes, u64::from(new.block_bytes));
        let mut header = HeaderMut(bytes);
        header.put_layout(&new.layout);
        Ok(header)
    }

    /// Changes a header that was checked, or made by [`HeaderMut::blank`].
    pub const fn edit(bytes: &'a mut PageBytes) -> HeaderMut<'a> {
        HeaderMut(bytes)
    }

    /// The header as it stands.
    #[must_use]
    pub const fn view(&self) -> Header<'_> {
        Header(self.0)
    }

    /// Sets copy index, stamp and checksum: the last thing before the page is written.
    pub fn seal(&mut self, copy: CopyIndex, stamp: Stamp) {
        page::seal(self.0, PageKind::Header, copy, stamp);
    }

    fn put_layout(&mut self, layout: &Layout) {
        at::SPARE_SECTORS.put_uint(self.0, layout.spare_sectors());
        at::DATA_START.put_uint(self.0, layout.data_start());
        at::MAX_ENTRIES.put_uint(self.0, u64::from(layout.max_entries()));
        at::TABLE_PAGES.put_uint(self.0, u64::from(layout.pages()));
        at::SPARE_PHYSICAL.put_uint(self.0, u64::from(layout.physical_block_bytes()));
        for copy in CopyIndex::ALL {
            let row = at::PLACES.row(usize::from(copy.0), place::END);
            let area = layout.area(copy);
            row.field(place::SECTOR).put_uint(self.0, area.sector);
            row.field(place::SECTORS).put_uint(self.0, area.sectors);
        }
    }

    /// When this content was made, seconds since 1970 (UTC). Set before the first seal with a
    /// stamp: one stamp never names two contents.
    pub fn set_timestamp(&mut self, unix_s: u64) {
        at::TIMESTAMP.put_uint(self.0, unix_s);
    }

    /// When the volume was made, seconds since 1970 (UTC).
    pub fn set_created_at(&mut self, unix_s: u64) {
        at::CREATED_AT.put_uint(self.0, unix_s);
    }

    /// [`Header::flags`].
    pub fn set_flags(&mut self, flags: u32) {
        at::FLAGS.put_uint(self.0, u64::from(flags));
    }

    /// What the header says of its spare.
    ///
    /// # Errors
    /// [`Field::State`]: moved to nowhere.
    pub fn set_state(&mut self, state: State) -> Result<(), Field> {
        let moved_to = match state {
            State::MovedTo(spare) if spare == Uuid::default() => return Err(Field::State),
            State::MovedTo(spare) => spare,
            _ => Uuid::default(),
        };
        at::STATE.put_uint(self.0, u64::from(state.byte()));
        at::MOVED_TO.put(self.0, &moved_to.0);
        Ok(())
    }

    /// Who has the volume open.
    pub fn set_session(&mut self, session: &Session) {
        at::HOST.put(self.0, &session.host.0);
        at::BOOT.put(self.0, &session.boot.0);
        at::SESSION.put(self.0, &session.session.0);
        at::OPENED_AT.put_uint(self.0, session.opened_at);
    }

    /// [`Header::crc_clean`].
    pub fn set_crc_clean(&mut self, clean: bool) {
        at::CRC_CLEAN.put_uint(self.0, u64::from(clean));
    }

    /// [`Header::fingerprint`].
    pub fn set_fingerprint(&mut self, sha256: &[u8; 32]) {
        at::FINGERPRINT.put(self.0, sha256);
    }

    /// The volume's name; empty for none.
    ///
    /// # Errors
    /// [`Field::Name`] if [`is_volume_name`] says no.
    pub fn set_name(&mut self, name: &str) -> Result<(), Field> {
        if !name.is_empty() && !is_volume_name(name.as_bytes()) {
            return Err(Field::Name);
        }
        at::NAME.put(self.0, name.as_bytes());
        at::NAME_LEN.put_uint(self.0, name.len() as u64);
        Ok(())
    }

    fn set_text(&mut self, field: Span, len: Span, text: &[u8], err: Field) -> Result<(), Field> {
        if text.len() > field.len {
            return Err(err);
        }
        field.put(self.0, text);
        len.put_uint(self.0, text.len() as u64);
        Ok(())
    }

    /// Where main was last seen, at most 256 bytes.
    ///
    /// # Errors
    /// [`Field::Hint`] if it is longer.
    pub fn set_hint(&mut self, hint: &[u8]) -> Result<(), Field> {
        self.set_text(at::HINT, at::HINT_LEN, hint, Field::Hint)
    }

    /// The target parameters, at most 512 bytes.
    ///
    /// # Errors
    /// [`Field::Parameters`] if they are longer.
    pub fn set_parameters(&mut self, parameters: &[u8]) -> Result<(), Field> {
        self.set_text(at::PARAMETERS, at::PARAMETERS_LEN, parameters, Field::Parameters)
    }

    /// The settings, at most 256 bytes.
    ///
    /// # Errors
    /// [`Field::Settings`] if they are longer.
    pub fn set_settings(&mut self, settings: &[u8]) -> Result<(), Field> {
        self.set_text(at::SETTINGS, at::SETTINGS_LEN, settings, Field::Settings)
    }

    /// The index the next spare will be given; never lowered.
    ///
    /// # Errors
    /// [`Field::Members`] if it is lower than it was.
    pub fn set_next_index(&mut self, index: u32) -> Result<(), Field> {
        if index < self.view().next_index() {
            return Err(Field::Members);
        }
        at::NEXT_INDEX.put_uint(self.0, u64::from(index));
        Ok(())
    }

    /// Fills or empties a row of the member list.
    ///
    /// # Errors
    /// [`Field::Members`]: no such row, a UUID of zero, a UUID or index that another row has, an
    /// index not below [`Header::next_index`].
    pub fn set_member(&mut self, row: usize, member: Option<&Member>) -> Result<(), Field> {
        if row >= MAX_MEMBERS {
            return Err(Field::Members);
        }
        match member {
            None => member_row(row).put(self.0, &[]),
            Some(member) => {
                check_member(&self.view(), row, member)?;
                member.write(self.0, member_row(row));
            }
        }
        Ok(())
    }

    /// Fills or empties a row of main's identities.
    ///
    /// # Errors
    /// [`Field::Identities`]: no such row, kind 0, or a value longer than [`MAX_IDENTITY_BYTES`].
    pub fn set_identity(&mut self, row: usize, new: Option<IdentityRow<'_>>) -> Result<(), Field> {
        let fits = new.is_none_or(|id| id.kind != 0 && id.value.len() <= MAX_IDENTITY_BYTES);
        if row >= MAX_IDENTITIES || !fits {
            return Err(Field::Identities);
        }
        match new {
            None => identity_row(row).put(self.0, &[]),
            Some(identity) => identity.write(self.0, identity_row(row)),
        }
        Ok(())
    }

    /// Fills or empties a row of main's content UUIDs.
    ///
    /// # Errors
    /// [`Field::Contents`]: no such row, or kind 0.
    pub fn set_content(&mut self, row: usize, new: Option<&ContentRow>) -> Result<(), Field> {
        if row >= MAX_CONTENTS || new.is_some_and(|content| content.kind == 0) {
            return Err(Field::Contents);
        }
        match new {
            None => content_row(row).put(self.0, &[]),
            Some(content) => content.write(self.0, content_row(row)),
        }
        Ok(())
    }

    /// When the content UUIDs were taken, seconds since 1970 (UTC).
    pub fn set_content_at(&mut self, unix_s: u64) {
        at::CONTENT_AT.put_uint(self.0, unix_s);
    }

    /// The health section.
    ///
    /// # Errors
    /// [`Field::Health`]: score or progress above 100.
    pub fn set_health(&mut self, health: &Health) -> Result<(), Field> {
        health.check()?;
        health.write(self.0, at::HEALTH);
        Ok(())
    }

    /// Fills or empties a row of the extension directory.
    ///
    /// # Errors
    /// [`Field::Extensions`]: no such row, kind 0, more bytes than sectors, or sectors that belong
    /// to pages, to the data or to another row.
    pub fn set_extension(&mut self, row: usize, new: Option<&Extension>) -> Result<(), Field> {
        if row >= MAX_EXTENSIONS {
            return Err(Field::Extensions);
        }
        match new {
            None => extension_row(row).put(self.0, &[]),
            Some(extension) => {
                let layout = self.view().layout().map_err(Field::Layout)?;
                check_extension(&self.view(), row, extension, &layout)?;
                extension.write(self.0, extension_row(row));
            }
        }
        Ok(())
    }
}
