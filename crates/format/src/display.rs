// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How numbers and faults of the format read in messages. Not used by the kernel object, where none
//! of it survives linking.

use core::fmt::{Display, Formatter, Result};

use crate::header::Field;
use crate::header_rows::Fence;
use crate::layout::LayoutError;
use crate::page::PageFault;
use crate::quorum::{CopyMask, Refusal};
use crate::slot::{Cause, SlotFault};
use crate::types::{CopyIndex, Stamp, Uuid};

impl Display for Uuid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Uuid {
    /// The UUID written as 32 hexadecimal digits, with or without hyphens between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        let mut uuid = Uuid::default();
        for byte in &mut uuid.0 {
            for _ in 0..2 {
                let digit = char::from(digits.next()?).to_digit(16)?;
                *byte = (*byte << 4) | digit as u8;
            }
        }
        digits.next().is_none().then_some(uuid)
    }
}

impl Display for Stamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}.{}", self.generation, self.sequence)
    }
}

impl Display for CopyMask {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut copies = CopyIndex::ALL.into_iter().filter(|copy| self.has(*copy));
        match copies.next() {
            Some(first) => write!(f, "{}", first.0)?,
            None => f.write_str("none")?,
        }
        copies.try_for_each(|copy| write!(f, ", {}", copy.0))
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.word())
    }
}

impl Display for SlotFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.word())
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Field::Layout(error) => error.fmt(f),
            field => f.write_str(field.word()),
        }
    }
}

impl Display for LayoutError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            LayoutError::SpareTooSmall { needed_sectors, sectors } => write!(
                f,
                "the spare has {sectors} sectors, {needed_sectors} are needed: take a larger one, \
                 or fewer entries"
            ),
            LayoutError::PhysicalBlock { bytes } => write!(
                f,
                "the spare's physical block is {bytes} bytes; powers of two from 512 to 4096 are \
                 taken, up to 524288 if forced"
            ),
            LayoutError::MaxEntries { entries } => {
                write!(f, "{entries} entries; 1 to {} are possible", crate::MAX_ENTRIES)
            }
            LayoutError::Pages | LayoutError::Places => f.write_str(self.word()),
        }
    }
}

impl Display for PageFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.word())?;
        match self {
            PageFault::Version(major, minor) => write!(f, ": {major}.{minor}"),
            PageFault::Feature(bits) => write!(f, ": {bits:#x}"),
            PageFault::OtherVolume(uuid) | PageFault::OtherSpare(uuid) => write!(f, ": {uuid}"),
            PageFault::Field(field) => write!(f, ": {field}"),
            _ => Ok(()),
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.word())?;
        match self {
            Refusal::TooFewValid { valid, unreadable } => {
                write!(f, " (valid: {valid}; unreadable: {unreadable})")
            }
            Refusal::TwoContents { stamp, copies } => {
                write!(f, " (stamp {stamp}, copies {copies})")
            }
            Refusal::TwoVolumes { first, second } => write!(f, " ({first} and {second})"),
            Refusal::Fenced { copy, fence: Fence::MovedTo(spare) } => {
                write!(f, " to spare {spare} (copy {})", copy.0)
            }
            Refusal::Fenced { copy, .. } => write!(f, " (copy {})", copy.0),
            Refusal::Newer { copy, fault } => write!(f, " (copy {}: {fault})", copy.0),
        }
    }
}

impl core::error::Error for SlotFault {}
impl core::error::Error for Field {}
impl core::error::Error for LayoutError {}
impl core::error::Error for PageFault {}
impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn uuids_read_as_they_are_written() {
        let text = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let uuid = Uuid::parse(text).unwrap();
        assert_eq!(uuid.0[..4], [0x0f, 0x1e, 0x2d, 0x3c]);
        assert_eq!(uuid.to_string(), text);
        assert_eq!(Uuid::parse(&text.replace('-', "").to_uppercase()), Some(uuid));
        for bad in ["", "0f1e", &text[1..], &std::format!("{text}0"), &text.replace('f', "g")] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn refusals_say_what_and_where() {
        let (valid, unreadable) = (CopyMask(0b10000), CopyMask(0b00111));
        let few = Refusal::TooFewValid { valid, unreadable }.to_string();
        assert_eq!(few, "fewer than two copies are valid (valid: 4; unreadable: 0, 1, 2)");
        let fence = Fence::MovedTo(Uuid([0x11; 16]));
        let moved = Refusal::Fenced { copy: CopyIndex(3), fence }.to_string();
        let uuid = "11111111-1111-1111-1111-111111111111";
        assert_eq!(moved, std::format!("the table was moved away to spare {uuid} (copy 3)"));
        let small = LayoutError::SpareTooSmall { needed_sectors: 11_272, sectors: 8 };
        let text = PageFault::Field(Field::Layout(small)).to_string();
        assert!(text.starts_with("field out of range: the spare has 8 sectors, 11272 are needed"));
        assert_eq!(CopyMask(0).to_string(), "none");
    }
}
