// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where every field lies: chains of lengths from which the compiler makes the offsets.
//!
//! ```text
//!            0    4        20       36    40 41 42   44        60    64                     4096
//! table      |magic|volume |spare   |page |c |k |res |stamp    |crc  | 126 slots of 32 bytes    |
//! generation |magic|volume |spare   |res  |c |k |res |stamp,0  |crc  | zero                     |
//! header     |magic|ver|features|time|res |c |k |res |stamp    |crc  | fields, rows, zero       |
//! ```
//!
//! Magic, copy index (`c`), kind (`k`), stamp and checksum lie at one place in every kind of page,
//! so that a page can be told and sealed before anything else is known of it. `docs/FORMAT.md` has
//! the same as tables; a test holds them against these constants.

use crate::types::{PAGE_BYTES, PageBytes, Uuid};

/// A field: first byte and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes from the start of the page, or of the row the field belongs to.
    pub at: usize,
    /// Bytes.
    pub len: usize,
}

impl Span {
    /// The byte behind it.
    #[must_use]
    pub const fn end(self) -> usize {
        self.at.saturating_add(self.len)
    }

    /// Row `index` of the array that lies here, rows of `row_len` bytes.
    pub(crate) const fn row(self, index: usize, row_len: usize) -> Span {
        Span { at: self.at.saturating_add(index.saturating_mul(row_len)), len: row_len }
    }

    /// The field `inner` of the row that lies here.
    pub(crate) const fn field(self, inner: Span) -> Span {
        Span { at: self.at.saturating_add(inner.at), len: inner.len }
    }

    /// The bytes; empty if the span leaves the page, which no constant below does.
    pub(crate) fn slice(self, page: &PageBytes) -> &[u8] {
        page.get(self.at..self.end()).unwrap_or(&[])
    }

    /// The first `N` bytes; zeros if they leave the page.
    pub(crate) fn array<const N: usize>(self, page: &PageBytes) -> [u8; N] {
        match page.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => *bytes,
            None => [0; N],
        }
    }

    /// The first byte.
    pub(crate) fn u8(self, page: &PageBytes) -> u8 {
        let [byte] = self.array(page);
        byte
    }

    /// Two bytes.
    pub(crate) fn u16(self, page: &PageBytes) -> u16 {
        u16::from_le_bytes(self.array(page))
    }

    /// Four bytes.
    pub(crate) fn u32(self, page: &PageBytes) -> u32 {
        u32::from_le_bytes(self.array(page))
    }

    /// As many bytes as the field has, at most eight.
    pub(crate) fn uint(self, page: &PageBytes) -> u64 {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(self.slice(page)) {
            *to = *from;
        }
        u64::from_le_bytes(bytes)
    }

    /// Sixteen bytes.
    pub(crate) fn uuid(self, page: &PageBytes) -> Uuid {
        Uuid(self.array(page))
    }

    /// Writes `bytes` at the start of the field and zeros behind them; what exceeds it is dropped,
    /// so callers check lengths first.
    pub(crate) fn put(self, page: &mut PageBytes, bytes: &[u8]) {
        if let Some(field) = page.get_mut(self.at..self.end()) {
            let padded = bytes.iter().chain(core::iter::repeat(&0));
            for (to, from) in field.iter_mut().zip(padded) {
                *to = *from;
            }
        }
    }

    /// Writes the low bytes of `value`, as many as the field has.
    pub(crate) fn put_uint(self, page: &mut PageBytes, value: u64) {
        self.put(page, &value.to_le_bytes());
    }
}

/// One chain: each field begins where the one before it ends; the last must end at `$total`.
macro_rules! chain {
    ($(#[$doc:meta])* $name:ident, $total:expr; $($field:ident: $len:expr,)+) => {
        $(#[$doc])*
        pub mod $name {
            // What the fields mean is told where they are read, and in FORMAT.
            #![allow(missing_docs)]
            use super::{PAGE_BYTES, Span};
            chain!(@next 0; $($field: $len,)+);
            /// Every field by name, in order.
            pub const ALL: &[(&str, Span)] = &[$((stringify!($field), $field)),+];
            const _: () = assert!(END == $total && END <= PAGE_BYTES);
        }
    };
    (@next $at:expr; $field:ident: $len:expr, $($rest:tt)*) => {
        pub const $field: Span = Span { at: $at, len: $len };
        chain!(@next $field.end(); $($rest)*);
    };
    (@next $at:expr;) => {
        /// The byte behind the last field.
        pub const END: usize = $at;
    };
}

chain! {
    /// A table page; a generation page has the same head and nothing behind it.
    table, PAGE_BYTES;
    MAGIC: 4,
    VOLUME: 16,
    SPARE: 16,
    PAGE: 4,
    COPY: 1,
    KIND: 1,
    RESERVED: 2,
    GENERATION: 8,
    SEQUENCE: 8,
    CHECKSUM: 4,
    SLOTS: 126 * 32,
}

chain! {
    /// A generation page.
    generation, PAGE_BYTES;
    MAGIC: 4,
    VOLUME: 16,
    SPARE: 16,
    RESERVED_1: 4,
    COPY: 1,
    KIND: 1,
    RESERVED_2: 2,
    GENERATION: 8,
    RESERVED_3: 8,
    CHECKSUM: 4,
    RESERVED_4: 4032,
}

chain! {
    /// A slot, counted from its first byte.
    slot, 32;
    MAIN: 6,
    SPARE: 5,
    MEMBER: 1,
    STATES: 2,
    FLAGS: 1,
    CAUSE: 1,
    TIME: 4,
    CRC: 4,
    RESERVED: 8,
}

chain! {
    /// A header page.
    header, PAGE_BYTES;
    MAGIC: 4,
    VERSION_MAJOR: 2,
    VERSION_MINOR: 2,
    FEATURES_COMPAT: 8,
    FEATURES_INCOMPAT: 8,
    TIMESTAMP: 8,
    RESERVED_1: 8,
    COPY: 1,
    KIND: 1,
    RESERVED_2: 2,
    GENERATION: 8,
    SEQUENCE: 8,
    CHECKSUM: 4,
    VOLUME: 16,
    SPARE: 16,
    HOLDER: 16,
    MOVED_TO: 16,
    HOST: 16,
    BOOT: 16,
    SESSION: 16,
    OPENED_AT: 8,
    CREATED_AT: 8,
    CONTENT_AT: 8,
    SPARE_SECTORS: 8,
    DATA_START: 8,
    MAIN_SECTORS: 8,
    MAX_ENTRIES: 4,
    TABLE_PAGES: 4,
    SPARE_PHYSICAL: 4,
    BLOCK_SIZE: 4,
    SPARE_INDEX: 4,
    NEXT_INDEX: 4,
    FLAGS: 4,
    ROLE: 1,
    STATE: 1,
    CRC_CLEAN: 1,
    NAME_LEN: 1,
    HINT_LEN: 2,
    PARAMETERS_LEN: 2,
    SETTINGS_LEN: 2,
    RESERVED_3: 26,
    FINGERPRINT: 32,
    NAME: 64,
    HINT: 256,
    PARAMETERS: 512,
    SETTINGS: 256,
    MEMBERS: 8 * 64,
    IDENTITIES: 8 * 72,
    CONTENTS: 16 * 24,
    HEALTH: 64,
    PLACES: 5 * 16,
    EXTENSIONS: 12 * 32,
    RESERVED_4: 688,
}

chain! {
    /// A row of the member list.
    member, 64;
    UUID: 16,
    HARDWARE: 32,
    SECTORS: 8,
    INDEX: 4,
    STATE: 1,
    RESERVED: 3,
}

chain! {
    /// An identity of main.
    identity, 72;
    KIND: 1,
    FLAGS: 1,
    LEN: 1,
    RESERVED: 5,
    VALUE: 64,
}

chain! {
    /// A content UUID of main.
    content, 24;
    KIND: 2,
    FLAGS: 2,
    PLACE: 4,
    UUID: 16,
}

chain! {
    /// The health section.
    health, 64;
    LAST_SCAN: 8,
    CURSOR: 8,
    ERRORS_DETECTED: 8,
    OVERHEAD_MS: 8,
    SCANS_COMPLETED: 4,
    PREDICTIVE_REMAPS: 4,
    INTERVAL_S: 4,
    FLAGS: 2,
    SCORE: 1,
    PROGRESS: 1,
    RESERVED: 16,
}

chain! {
    /// The place of one copy's table pages.
    place, 16;
    SECTOR: 8,
    SECTORS: 8,
}

chain! {
    /// A row of the extension directory.
    extension, 32;
    TYPE: 2,
    VERSION: 2,
    LENGTH: 4,
    SECTOR: 8,
    SECTORS: 8,
    FLAGS: 4,
    RESERVED: 4,
}

// What every kind of page has at one place.
const _: () = assert!(table::COPY.at == 40 && table::KIND.at == 41 && table::SLOTS.at == 64);
const _: () = assert!(header::COPY.at == table::COPY.at && generation::COPY.at == table::COPY.at);
const _: () = assert!(header::KIND.at == table::KIND.at && generation::KIND.at == table::KIND.at);
const _: () = assert!(header::GENERATION.at == table::GENERATION.at);
const _: () = assert!(header::SEQUENCE.at == table::SEQUENCE.at);
const _: () = assert!(generation::GENERATION.at == table::GENERATION.at);
const _: () = assert!(header::CHECKSUM.at == table::CHECKSUM.at);
const _: () = assert!(generation::CHECKSUM.at == table::CHECKSUM.at);
const _: () = assert!(generation::VOLUME.at == table::VOLUME.at);
const _: () = assert!(generation::SPARE.at == table::SPARE.at);
