// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The changes that have joined a commit, in the order they joined, until they are settled.

use super::image::PageId;

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeKind {
    /// On four copies durably: publish it.
    Acknowledged,
    /// Nothing was written, nothing has changed. Final.
    Failed,
    /// Neither done nor undone. [`Reversed`](OutcomeKind::Reversed) follows, unless the volume
    /// closes first; until then what the change concerns fails and stays taken.
    InDoubt,
    /// The doubtful change is undone durably: what it took is free. Final.
    Reversed,
}

/// How one joined change ended; one for every [`join`](super::Commit::join), and a second one if
/// the first is [`OutcomeKind::InDoubt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// As given to `join`.
    pub token: u32,
    /// As given to `join`.
    pub page: PageId,
    /// How.
    pub kind: OutcomeKind,
}

/// Where a joined change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Waits for the next commit.
    Next,
    /// In the commit under way.
    Current,
    /// In a commit that ended in doubt.
    Doubt,
    /// Settled; only its outcome is still to be taken.
    Over,
}

/// Room for one joined change.
#[derive(Clone, Copy, Debug)]
pub struct Joined<C>(Option<Entry<C>>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<C> {
    pub token: u32,
    pub page: PageId,
    pub change: C,
    pub stage: Stage,
    pub report: Option<OutcomeKind>,
}

impl<C> Joined<C> {
    /// An empty place.
    pub const EMPTY: Joined<C> = Joined(None);
}

impl<C> Default for Joined<C> {
    fn default() -> Self {
        Joined(None)
    }
}

/// Adds behind the last; false if there is no room.
pub(crate) fn push<C: Copy>(list: &mut [Joined<C>], entry: Entry<C>) -> bool {
    match list.iter_mut().find(|j| j.0.is_none()) {
        Some(place) => {
            place.0 = Some(entry);
            true
        }
        None => false,
    }
}

/// Whether another change can join.
pub(crate) fn has_room<C>(list: &[Joined<C>]) -> bool {
    list.iter().any(|j| j.0.is_none())
}

/// The entries in the order they joined.
pub(crate) fn iter<C>(list: &[Joined<C>]) -> impl Iterator<Item = &Entry<C>> {
    list.iter().map_while(|j| j.0.as_ref())
}

/// The entries in the order they joined.
pub(crate) fn iter_mut<C>(list: &mut [Joined<C>]) -> impl Iterator<Item = &mut Entry<C>> {
    list.iter_mut().map_while(|j| j.0.as_mut())
}

/// Moves the entries of `page` (every page's if `None`) that stand in `from` on to `to`.
pub(crate) fn shift<C>(
    list: &mut [Joined<C>],
    page: Option<PageId>,
    from: Stage,
    to: Stage,
    report: Option<OutcomeKind>,
) {
    for e in iter_mut(list).filter(|e| e.stage == from && page.is_none_or(|p| p == e.page)) {
        e.stage = to;
        if report.is_some() {
            e.report = report;
        }
    }
}

/// Takes the next outcome. A settled entry is dropped with it, and those behind close up: their
/// order is the order in which their changes are applied.
pub(crate) fn take_outcome<C: Copy>(list: &mut [Joined<C>]) -> Option<Outcome> {
    let (at, outcome, over) = list.iter_mut().enumerate().find_map(|(i, j)| {
        let e = j.0.as_mut()?;
        let kind = e.report.take()?;
        Some((i, Outcome { token: e.token, page: e.page, kind }, e.stage == Stage::Over))
    })?;
    if over {
        let mut to = at;
        while let Some(next) = to.checked_add(1).and_then(|n| list.get(n)).copied() {
            if let Some(place) = list.get_mut(to) {
                *place = next;
            }
            to = to.saturating_add(1);
        }
        if let Some(last) = list.last_mut() {
            last.0 = None;
        }
    }
    Some(outcome)
}
