// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a leaf and a root slot look like, word by word, and how leaves are searched and written.
//!
//! A leaf is [`PIVOTS`] words with the units of its entries 0, 32, 64 ... (all ones where there is
//! none), then two words an entry in rising order of units. How many entries it has is not written
//! in it but in the root slot that leads to it, so that one load of that slot is the snapshot.

use dmremap_format::{SlotIndex, SpareUnit, States, UnitIndex};

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::Entry;
use crate::table_size::{GROUP, LEAF_ENTRIES, PIVOTS};

/// The leaf index that means none.
pub(crate) const NO_LEAF: u32 = 0x00ff_ffff;
const NO_SPARE: u64 = 0xff_ffff_ffff;
const UNIT_SHIFT: u32 = 19;
const MEMBER_SHIFT: u32 = 16;
const SPARE_SHIFT: u32 = 24;

/// An entry as it lies in a leaf: unit 44 | member 3 | states 16, then spare unit 40 | slot 24.
pub(crate) type Packed = [u64; 2];

/// The unit of a packed entry.
pub(crate) const fn unit_of(packed: Packed) -> u64 {
    packed[0] >> UNIT_SHIFT
}

/// The packed form, or `None` if a number does not fit its field.
pub(crate) fn pack(entry: &Entry) -> Option<Packed> {
    let spare = match entry.spare {
        None => NO_SPARE,
        Some(SpareUnit(unit)) if unit < NO_SPARE => unit,
        Some(_) => return None,
    };
    if entry.unit.0 >> 44 != 0 || entry.member > 7 || entry.slot.0 >> 24 != 0 {
        return None;
    }
    let states = u64::from(entry.states.bits());
    let first = (entry.unit.0 << UNIT_SHIFT) | (u64::from(entry.member) << MEMBER_SHIFT) | states;
    Some([first, (spare << SPARE_SHIFT) | u64::from(entry.slot.0)])
}

/// The entry in its packed form. Only what [`pack`] made gets here.
pub(crate) fn unpack(packed: Packed) -> Entry {
    let spare = packed[1] >> SPARE_SHIFT;
    Entry {
        unit: UnitIndex(unit_of(packed)),
        spare: if spare == NO_SPARE { None } else { Some(SpareUnit(spare)) },
        member: ((packed[0] >> MEMBER_SHIFT) & 7) as u8,
        states: States::from_bits((packed[0] & 0xffff) as u16).unwrap_or(States::ALL_MAIN),
        slot: SlotIndex((packed[1] & 0xff_ffff) as u32),
    }
}

/// A leaf with the number of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) leaf: u32,
    pub(crate) count: usize,
}

impl Part {
    pub(crate) const NONE: Part = Part { leaf: NO_LEAF, count: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.leaf == NO_LEAF
    }
}

/// What one word of the root leads to: no leaf, one, or two in rising order of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) low: Part,
    pub(crate) high: Part,
}

impl Slot {
    pub(crate) const EMPTY: Slot = Slot { low: Part::NONE, high: Part::NONE };

    /// Of the leaves that are there: an only one is always `low`.
    pub(crate) fn of(low: Part, high: Part) -> Slot {
        if low.is_none() { Slot { low: high, high: Part::NONE } } else { Slot { low, high } }
    }

    pub(crate) fn is_pair(self) -> bool {
        !self.high.is_none()
    }

    /// leaf 24 | leaf 24 | count 8 | count 8.
    pub(crate) fn bits(self) -> u64 {
        (u64::from(self.low.leaf) << 40)
            | (u64::from(self.high.leaf) << 16)
            | ((self.low.count as u64 & 0xff) << 8)
            | (self.high.count as u64 & 0xff)
    }

    pub(crate) fn from_bits(bits: u64) -> Slot {
        Slot {
            low: Part { leaf: (bits >> 40) as u32, count: ((bits >> 8) & 0xff) as usize },
            high: Part {
                leaf: ((bits >> 16) & u64::from(NO_LEAF)) as u32,
                count: (bits & 0xff) as usize,
            },
        }
    }
}

/// Word `index`, 0 beyond the end.
#[inline]
pub(crate) fn load(words: &[AtomicU64], index: usize) -> u64 {
    words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// Sets word `index`; there is nothing beyond the end.
#[inline]
pub(crate) fn store(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Where entry `index` of a leaf begins.
#[inline]
const fn place(index: usize) -> usize {
    PIVOTS.wrapping_add(index.wrapping_mul(2))
}

/// Entry `index` of a leaf.
#[inline]
pub(crate) fn entry_at(leaf: &[AtomicU64], index: usize) -> Packed {
    let at = place(index);
    [load(leaf, at), load(leaf, at.wrapping_add(1))]
}

/// How many of the first `count` entries of a leaf have a unit below `unit`.
#[inline]
pub(crate) fn lower_bound(leaf: &[AtomicU64], count: usize, unit: u64) -> usize {
    // The pivots beyond `count` are all ones and count for nothing.
    let pivots = leaf.get(1..PIVOTS).unwrap_or_default();
    let passed = pivots.iter().filter(|p| p.load(Ordering::Relaxed) <= unit).count();
    let mut low = passed.wrapping_mul(GROUP);
    let mut high = low.wrapping_add(GROUP).min(count);
    while low < high {
        let middle = low.wrapping_add(high) >> 1;
        if load(leaf, place(middle)) >> UNIT_SHIFT < unit {
            low = middle.wrapping_add(1);
        } else {
            high = middle;
        }
    }
    low
}

/// The one change a [`Sequence`] makes to the entries it runs over.
#[derive(Clone, Copy)]
pub(crate) enum Edit {
    /// None.
    Keep,
    /// An entry more, at this place.
    Insert(usize, Packed),
    /// Another entry at this place.
    Replace(usize, Packed),
    /// Without the entry at this place.
    Remove(usize),
}

/// The entries of up to three neighbouring leaves, one after the other, with one change.
pub(crate) struct Sequence<'a> {
    pub(crate) parts: [(&'a [AtomicU64], usize); 3],
    pub(crate) edit: Edit,
}

impl Sequence<'_> {
    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        let all = self.parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.1));
        match self.edit {
            Edit::Keep | Edit::Replace(..) => all,
            Edit::Insert(..) => all.saturating_add(1),
            Edit::Remove(_) => all.saturating_sub(1),
        }
    }

    /// The stretch of entries from `index` on that lie side by side in one leaf, at most to `to`:
    /// their words, or the entry that the change puts there. Empty beyond the end.
    fn stretch(&self, index: usize, to: usize) -> Result<&[AtomicU64], Packed> {
        let most = to.saturating_sub(index);
        let (mut original, mut most) = match self.edit {
            Edit::Insert(at, packed) | Edit::Replace(at, packed) if index == at => {
                return Err(packed);
            }
            Edit::Insert(at, _) if index > at => (index.wrapping_sub(1), most),
            Edit::Remove(at) if index >= at => (index.wrapping_add(1), most),
            Edit::Insert(at, _) | Edit::Replace(at, _) | Edit::Remove(at) if index < at => {
                (index, most.min(at.wrapping_sub(index)))
            }
            _ => (index, most),
        };
        for (leaf, count) in self.parts {
            if original < count {
                most = most.min(count.wrapping_sub(original));
                let words = place(original)..place(original.wrapping_add(most));
                return Ok(leaf.get(words).unwrap_or_default());
            }
            original = original.wrapping_sub(count);
        }
        Ok(&[])
    }

    /// The unit of entry `index`; all ones if there is none.
    pub(crate) fn unit(&self, index: usize) -> u64 {
        match self.stretch(index, index.saturating_add(1)) {
            Err(packed) => unit_of(packed),
            Ok(words) => words.first().map_or(u64::MAX, |_| load(words, 0) >> UNIT_SHIFT),
        }
    }

    /// Writes the entries `from..to`, at most [`LEAF_ENTRIES`], to a leaf nobody can reach.
    pub(crate) fn write(&self, leaf: &[AtomicU64], from: usize, to: usize) {
        let count = to.saturating_sub(from).min(LEAF_ENTRIES);
        let mut index = 0usize;
        while index < count {
            let begin = from.wrapping_add(index);
            let free = leaf.get(place(index)..).unwrap_or_default();
            let entries = match self.stretch(begin, from.wrapping_add(count)) {
                Err(packed) => {
                    store(free, 0, packed[0]);
                    store(free, 1, packed[1]);
                    1
                }
                Ok(words) => {
                    for (to, word) in free.iter().zip(words) {
                        to.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    words.len() >> 1
                }
            };
            if entries == 0 {
                break;
            }
            index = index.wrapping_add(entries);
        }
        for pivot in 0..PIVOTS {
            let index = pivot.wrapping_mul(GROUP);
            let unit = if index < count { unit_of(entry_at(leaf, index)) } else { u64::MAX };
            store(leaf, pivot, unit);
        }
    }
}
