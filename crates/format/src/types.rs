// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The numbers of the format, each in a type of its own so that they cannot be mixed.
//!
//! Everything on disk and in messages counts in sectors of 512 bytes unless it says blocks or
//! units.

/// Bytes in a sector, whatever the device's block size.
pub const SECTOR_BYTES: u64 = 512;
/// Sectors in a unit, which is what is moved and allocated.
pub const UNIT_SECTORS: u64 = 8;
/// Bytes in a unit, and in every metadata page.
pub const PAGE_BYTES: usize = 4096;
/// Copies of the metadata on a spare.
pub const COPIES: usize = 5;

/// The bytes of one metadata page.
pub type PageBytes = [u8; PAGE_BYTES];

/// A 4 KiB unit of main, counted from main's sector 0. At most 44 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitIndex(pub u64);

/// A 4 KiB unit of a spare, counted from the spare's `data_start`. At most 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpareUnit(pub u64);

/// A table page, counted from 0 in each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u32);

/// A slot of the table: `page * 126 + place in the page`. At most 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u32);

/// One of the five copies, 0 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyIndex(pub u8);

/// What orders two contents of one page: compared as a pair, generation first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Raised by one by every open that writes.
    pub generation: u64,
    /// Counted up by every commit, restarted at 0 with a generation.
    pub sequence: u64,
}

/// A 128-bit identifier in the byte order of RFC 9562; all zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Where the content of one block lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockState {
    /// On main, at its own place.
    #[default]
    Main = 0,
    /// On the unit's spare unit, at the same place inside the unit.
    Spare = 1,
    /// Nowhere: reading it is an error until it is overwritten.
    Gone = 2,
}

/// The states of the up to eight blocks of a unit, two bits each, block 0 lowest.
///
/// A field of 3 is no state; [`States::from_bits`] refuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct States(u16);

impl States {
    /// Every block on main.
    pub const ALL_MAIN: States = States(0);

    /// The states packed in `bits`, or `None` if a field holds 3.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<States> {
        if bits & (bits >> 1) & 0x5555 != 0 { None } else { Some(States(bits)) }
    }

    /// The packed form, as on disk.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The state of block `index` (0 to 7; higher ones are `Main`).
    #[must_use]
    pub const fn get(self, index: u8) -> BlockState {
        if index > 7 {
            return BlockState::Main;
        }
        match (self.0 >> ((index & 7) << 1)) & 3 {
            1 => BlockState::Spare,
            2 => BlockState::Gone,
            _ => BlockState::Main,
        }
    }

    /// The same states with every block of `mask` (bit i = block i) set to `state`.
    #[must_use]
    pub const fn with(self, mask: u8, state: BlockState) -> States {
        let low = spread(mask);
        let cleared = self.0 & !(low | (low << 1));
        States(match state {
            BlockState::Main => cleared,
            BlockState::Spare => cleared | low,
            BlockState::Gone => cleared | (low << 1),
        })
    }

    /// The blocks in `state`, bit i = block i.
    #[must_use]
    pub const fn mask(self, state: BlockState) -> u8 {
        let (low, high) = (self.0 & 0x5555, (self.0 >> 1) & 0x5555);
        match state {
            BlockState::Main => !(gather(low) | gather(high)),
            BlockState::Spare => gather(low),
            BlockState::Gone => gather(high),
        }
    }
}

/// Bit i of `mask` to bit 2i.
const fn spread(mask: u8) -> u16 {
    let mut x = mask as u16;
    x = (x | (x << 4)) & 0x0f0f;
    x = (x | (x << 2)) & 0x3333;
    (x | (x << 1)) & 0x5555
}

/// Bit 2i of `bits` to bit i.
const fn gather(bits: u16) -> u8 {
    let mut x = bits & 0x5555;
    x = (x | (x >> 1)) & 0x3333;
    x = (x | (x >> 2)) & 0x0f0f;
    ((x | (x >> 4)) & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_for_every_mask() {
        for a in 0..=255u8 {
            for b in [0u8, 0xff, 0x0f, 0x55, !a] {
                let s = States::ALL_MAIN.with(a, BlockState::Spare).with(b & !a, BlockState::Gone);
                assert_eq!(s.mask(BlockState::Spare), a);
                assert_eq!(s.mask(BlockState::Gone), b & !a);
                assert_eq!(s.mask(BlockState::Main), !(a | b));
                assert_eq!(States::from_bits(s.bits()), Some(s));
            }
        }
        assert_eq!(States::from_bits(3 << 6), None);
    }
}
