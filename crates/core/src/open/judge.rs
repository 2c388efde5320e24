// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The five copies of one page, as they were read at open, and what follows from them.
//!
//! The highest stamp wins. Two valid copies of any stamp must be there: a commit is acknowledged on
//! four, so of two readable copies at least one has what was acknowledged. One stamp with two
//! contents cannot happen by the rules that write pages, so nothing is guessed when it does.

use dmremap_format::{COPIES, CopyIndex, Stamp};

use crate::Class;
use crate::commit::{ALL, CopyState, PageState};

/// What was seen of one copy of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen<F> {
    /// Not read yet.
    #[default]
    Unread,
    /// The read failed.
    Unreadable(Class),
    /// Read, and not valid.
    Invalid(F),
    /// Valid.
    Valid {
        /// Its stamp.
        stamp: Stamp,
        /// Its content, see [`Image::digest`](crate::commit::Image::digest).
        digest: u64,
    },
}

/// The five copies of one page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<F> {
    pub seen: [Seen<F>; COPIES],
}

impl<F: Copy> Judge<F> {
    pub(crate) fn new() -> Self {
        Judge { seen: [Seen::Unread; COPIES] }
    }

    /// Takes in one copy; true if no copy before it has its stamp or a higher one.
    pub(crate) fn add(&mut self, copy: CopyIndex, seen: Seen<F>) -> bool {
        let wins = match seen {
            Seen::Valid { stamp, .. } => self.winner().is_none_or(|w| stamp > w),
            _ => false,
        };
        if let Some(place) = self.seen.get_mut(usize::from(copy.0)) {
            *place = seen;
        }
        wins
    }

    /// The highest stamp.
    pub(crate) fn winner(&self) -> Option<Stamp> {
        self.valid().map(|(_, stamp, _)| stamp).max()
    }

    pub(crate) fn valid(&self) -> impl Iterator<Item = (CopyIndex, Stamp, u64)> {
        self.seen.iter().zip(ALL).filter_map(|(seen, copy)| match seen {
            Seen::Valid { stamp, digest } => Some((copy, *stamp, *digest)),
            _ => None,
        })
    }

    pub(crate) fn valid_count(&self) -> u8 {
        self.valid().fold(0u8, |n, _| n.saturating_add(1))
    }

    /// Two copies that carry one stamp and differ.
    pub(crate) fn clash(&self) -> Option<(CopyIndex, CopyIndex)> {
        self.valid().find_map(|(a, stamp, digest)| {
            let other = |(_, s, d): &(CopyIndex, Stamp, u64)| *s == stamp && *d != digest;
            self.valid().find(other).map(|(b, ..)| (a, b))
        })
    }

    /// What a commit machine goes on with; a page whose copies are not all good is to be repaired.
    pub(crate) fn state(&self) -> PageState {
        let stamp = self.winner().unwrap_or_default();
        let mut state = PageState { stamp, copies: [CopyState::Torn; COPIES] };
        for (seen, copy) in self.seen.iter().zip(ALL) {
            state.set(
                copy,
                match seen {
                    Seen::Valid { stamp: s, .. } if *s == stamp => CopyState::Good,
                    Seen::Valid { .. } => CopyState::Stale,
                    Seen::Invalid(_) => CopyState::Torn,
                    Seen::Unread | Seen::Unreadable(_) => CopyState::Failed,
                },
            );
        }
        state
    }
}
