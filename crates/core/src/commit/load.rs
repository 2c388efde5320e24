// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reading acknowledged images back into the cache, for commits and repairs alike: from any copy
//! that verifies and carries the page's last acknowledged stamp, the good ones first.

use dmremap_format::CopyIndex;

use super::cache::{Cached, Out, Role};
use super::image::{Image, Io, IoId, VolumeId};
use super::state::{ALL, PageState, bit, state_index};
use super::wire::Wire;
use crate::{Class, Millis};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Send this.
    Io(Io),
    /// Wait for answers.
    Wait,
    /// No copy has the image for this place of the cache.
    Failed(usize),
    /// All are there.
    Done,
}

/// Asks the copies in turn for every place that is [`Role::Loading`].
pub(crate) fn load<P>(
    wire: &mut Wire,
    cache: &mut [Cached<P>],
    states: &[PageState],
    now: Millis,
) -> Load {
    let mut waiting = false;
    for (at, c) in cache.iter_mut().enumerate().filter(|(_, c)| c.role == Role::Loading) {
        if c.line.is_out() {
            waiting = true;
            continue;
        }
        let state = state_index(c.page).and_then(|i| states.get(i));
        let order = state.map_or(ALL, PageState::order);
        let untried = |k: &&CopyIndex| c.line.sent & bit(**k) == 0 && !wire.is_stuck(**k);
        let Some(copy) = order.iter().rev().find(untried).copied() else {
            return Load::Failed(at);
        };
        c.line.sent |= bit(copy);
        let io = wire.read(c.page, copy, at);
        c.line.set_out(copy, Out { id: io.id.0, at: now });
        return Load::Io(io);
    }
    if waiting { Load::Wait } else { Load::Done }
}

/// A read for place `at` has ended; false if it had been given up.
pub(crate) fn loaded<P: Image>(
    cache: &mut [Cached<P>],
    states: &[PageState],
    of: &VolumeId,
    (id, copy, at): (IoId, CopyIndex, usize),
    result: Result<Option<&P>, Class>,
) -> bool {
    let Some(c) = cache.get_mut(at) else { return false };
    if !c.line.take_out(copy, id.0) {
        return false;
    }
    let wanted = state_index(c.page).and_then(|i| states.get(i)).map(|s| s.stamp);
    if let Ok(Some(page)) = result {
        if page.check(of, c.page, copy).ok() == wanted && c.role == Role::Loading {
            c.image.copy_from(page);
            c.role = Role::Line;
        }
    }
    true
}
