// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Identifiers of main's hardware, as they are taken, graded and kept in a row of the header.
//!
//! A row has 64 bytes for an identifier. A longer one keeps its first 48 and folds the rest into
//! 16, so that two that differ anywhere still differ. Whether an identifier is *proof* is decided
//! when it is taken and kept with it.

use crate::header_rows::{IdentityRow, MAX_IDENTITY_BYTES};
use crate::probe_rules::fold;

/// What kind of identifier. The numbers stand in headers: none is ever given twice or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum HardwareKind {
    /// World wide name or NAA number.
    Wwn = 1,
    /// EUI-64 of an NVMe namespace.
    Eui = 2,
    /// NGUID of an NVMe namespace.
    Nguid = 3,
    /// Serial number and model.
    SerialModel = 4,
    /// UUID of a device-mapper device.
    DmUuid = 5,
    /// UUID of an md array.
    MdUuid = 6,
    /// Start and PARTUUID of a partition, besides what identifies its disk.
    Partition = 7,
    /// File system, inode and birth time of a file.
    File = 8,
}

const KINDS: [HardwareKind; 8] = [
    HardwareKind::Wwn,
    HardwareKind::Eui,
    HardwareKind::Nguid,
    HardwareKind::SerialModel,
    HardwareKind::DmUuid,
    HardwareKind::MdUuid,
    HardwareKind::Partition,
    HardwareKind::File,
];

impl HardwareKind {
    /// Its name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HardwareKind::Wwn => "WWN",
            HardwareKind::Eui => "EUI-64",
            HardwareKind::Nguid => "NGUID",
            HardwareKind::SerialModel => "serial number and model",
            HardwareKind::DmUuid => "device-mapper UUID",
            HardwareKind::MdUuid => "md UUID",
            HardwareKind::Partition => "partition start and PARTUUID",
            HardwareKind::File => "file system, inode and birth time",
        }
    }
}

/// Why an identifier may be less than proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// It came through a USB bridge, which may report its own.
    pub usb_bridge: bool,
    /// Another device of this host has the same.
    pub seen_twice: bool,
    /// It lacks what would make it one of a kind: a serial number without a model.
    pub partial: bool,
}

impl Doubts {
    const fn any(self) -> bool {
        self.usb_bridge || self.seen_twice || self.partial
    }
}

/// [`IdentityRow::flags`]: the identifier was proof when it was taken.
const FLAG_PROOF: u8 = 1;
/// [`IdentityRow::flags`]: it was longer than a row, its end is folded to 16 bytes.
const FLAG_FOLDED: u8 = 2;
/// What stands between the parts of an identifier.
const SEPARATOR: u8 = 0;

/// One identifier of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    kind: HardwareKind,
    flags: u8,
    len: u8,
    value: [u8; MAX_IDENTITY_BYTES],
}

impl Hardware {
    /// An identifier of one or more parts as the system shows them (serial number, then model).
    /// Blanks and zero bytes around a part do not count; letters of WWN, EUI and NGUID are taken as
    /// lower case. `None` if the first part is empty.
    #[must_use]
    pub fn new(kind: HardwareKind, parts: &[&[u8]], doubts: Doubts) -> Option<Hardware> {
        let first = trimmed(parts.first()?);
        if first.is_empty() {
            return None;
        }
        let mut made = Hardware::empty(kind);
        let mut long = Fold::default();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                long.push(&mut made, SEPARATOR);
            }
            for &byte in trimmed(part) {
                long.push(
                    &mut made,
                    if kind.folds_case() { byte.to_ascii_lowercase() } else { byte },
                );
            }
        }
        long.finish(&mut made);
        if !(doubts.any() || is_constant(first)) {
            made.flags |= FLAG_PROOF;
        }
        Some(made)
    }

    /// A partition that begins at `start_sector` of its disk; `part_uuid` as the system shows it,
    /// empty if the table has none. It is no proof by itself: its disk must be proved too.
    #[must_use]
    pub fn partition(start_sector: u64, part_uuid: &[u8]) -> Hardware {
        let mut made = Hardware::empty(HardwareKind::Partition);
        let mut long = Fold::default();
        start_sector.to_le_bytes().into_iter().for_each(|byte| long.push(&mut made, byte));
        for &byte in trimmed(part_uuid) {
            long.push(&mut made, byte.to_ascii_lowercase());
        }
        long.finish(&mut made);
        made
    }

    /// A file: identifier of its file system, inode, birth time in nanoseconds since 1970, 0 if the
    /// file system does not know it, which leaves a number that may have been given again.
    #[must_use]
    pub fn file(file_system: &[u8; 16], inode: u64, birth_ns: u64) -> Hardware {
        let mut made = Hardware::empty(HardwareKind::File);
        let mut long = Fold::default();
        let numbers = inode.to_le_bytes().into_iter().chain(birth_ns.to_le_bytes());
        file_system.iter().copied().chain(numbers).for_each(|byte| long.push(&mut made, byte));
        if birth_ns != 0 && *file_system != [0; 16] {
            made.flags |= FLAG_PROOF;
        }
        made
    }

    const fn empty(kind: HardwareKind) -> Hardware {
        Hardware { kind, flags: 0, len: 0, value: [0; MAX_IDENTITY_BYTES] }
    }

    /// What kind it is.
    #[must_use]
    pub const fn kind(&self) -> HardwareKind {
        self.kind
    }

    /// Whether it proves anything.
    #[must_use]
    pub const fn is_proof(&self) -> bool {
        self.flags & FLAG_PROOF != 0
    }

    /// The identifier, a zero byte between its parts; to be escaped where it is shown.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.value.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The row for a header.
    #[must_use]
    pub fn row(&self) -> IdentityRow<'_> {
        IdentityRow { kind: self.kind as u8, flags: self.flags, value: self.value() }
    }

    /// What a header's row says; `None` for a kind of a later version or a value out of range.
    #[must_use]
    pub fn from_row(row: &IdentityRow<'_>) -> Option<Hardware> {
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == row.kind)?;
        let mut made = Hardware::empty(kind);
        made.value.get_mut(..row.value.len())?.copy_from_slice(row.value);
        made.len = u8::try_from(row.value.len()).ok()?;
        made.flags = row.flags & (FLAG_PROOF | FLAG_FOLDED);
        (made.len > 0).then_some(made)
    }

    /// Whether both name the same thing, whatever each of them proves.
    pub(crate) fn equals(&self, other: &Hardware) -> bool {
        let folded = |one: &Hardware| one.flags & FLAG_FOLDED;
        self.kind == other.kind && self.value() == other.value() && folded(self) == folded(other)
    }

    /// Start and PARTUUID of a partition.
    pub(crate) fn as_partition(&self) -> Option<(&[u8; 8], &[u8])> {
        let (start, uuid) = self.value().split_first_chunk::<8>()?;
        (self.kind == HardwareKind::Partition).then_some((start, uuid))
    }
}

impl HardwareKind {
    /// Whether its letters are digits, which systems show in either case.
    const fn folds_case(self) -> bool {
        matches!(self, HardwareKind::Wwn | HardwareKind::Eui | HardwareKind::Nguid)
    }
}

/// Bytes of a value that is too long which are kept as they are; the rest is folded behind them.
const KEPT: usize = MAX_IDENTITY_BYTES - 16;

/// Puts bytes into a value, of any number of them.
#[derive(Default)]
struct Fold {
    total: usize,
    rest: [u8; 16],
}

impl Fold {
    fn push(&mut self, to: &mut Hardware, byte: u8) {
        match to.value.get_mut(self.total) {
            Some(place) => *place = byte,
            None => {
                // Each further byte is folded with what has been folded before it.
                let mut input = [0u8; 17];
                input.iter_mut().zip(self.rest.iter().chain([&byte])).for_each(|(t, f)| *t = *f);
                self.rest = fold(&input);
            }
        }
        self.total = self.total.saturating_add(1);
        to.len = u8::try_from(self.total.min(MAX_IDENTITY_BYTES)).unwrap_or(u8::MAX);
    }

    fn finish(&self, to: &mut Hardware) {
        if self.total <= MAX_IDENTITY_BYTES {
            return;
        }
        to.flags |= FLAG_FOLDED;
        if let Some(tail) = to.value.get_mut(KEPT..) {
            let mut input = [0u8; 32];
            input.iter_mut().zip(self.rest.iter().chain(tail.iter())).for_each(|(t, f)| *t = *f);
            tail.iter_mut().zip(fold(&input)).for_each(|(to, from)| *to = from);
        }
    }
}

/// Without the blanks and zero bytes around it.
fn trimmed(mut part: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\n' | b'\r');
    while let [first, rest @ ..] = part {
        if !blank(first) {
            break;
        }
        part = rest;
    }
    while let [rest @ .., last] = part {
        if !blank(last) {
            break;
        }
        part = rest;
    }
    part
}

/// Identifiers that makers leave in, and emulators give to every disk.
const PLACEHOLDERS: [&[u8]; 12] = [
    b"0123456789",
    b"1234567890",
    b"123456789012",
    b"0123456789abcdef",
    b"123456789abcdef",
    b"none",
    b"n/a",
    b"unknown",
    b"default string",
    b"to be filled by o.e.m.",
    b"serial number",
    b"not specified",
];

/// Whether an identifier tells nothing: one character all through (behind `naa.`, `eui.`, `0x`), a
/// placeholder, or the number an emulator gives to its first disk.
fn is_constant(value: &[u8]) -> bool {
    let text = value.strip_prefix(b"naa.").or(value.strip_prefix(b"eui."));
    let text = text.or(value.strip_prefix(b"0x")).unwrap_or(value);
    let mut digits = text.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let same = match digits.next() {
        None => true,
        Some(first) => digits.all(|digit| digit == first),
    };
    same || PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(text))
        || text.starts_with(b"QM0000")
}
