// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The end of a volume's commits: what has joined is committed, what is in doubt is tried once
//! more, then one last commit of the header says `clean`. It is not written while a page is in
//! doubt, and is given up with everything else when the limit has passed.

use super::image::{ChangeOf, PageId, Store};
use super::{Commit, Phase};
use crate::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Close<C> {
    /// Not asked for.
    No,
    /// Asked for.
    Asked {
        /// When it is given up.
        until: Millis,
        /// The change that says `clean`.
        change: C,
        /// Pages in doubt have had their last try.
        tried: bool,
        /// The header's last commit is under way.
        writing: bool,
    },
    /// Over; whether `clean` is durable.
    Closed(bool),
}

impl<C> Close<C> {
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Close::Closed(_))
    }

    pub(crate) fn until(&self) -> Option<Millis> {
        match self {
            Close::Asked { until, .. } => Some(*until),
            _ => None,
        }
    }

    pub(crate) fn tick(&mut self, now: Millis) {
        if self.until().is_some_and(|until| now >= until) {
            *self = Close::Closed(false);
        }
    }

    /// The change of the last commit, while `page` is the header and that commit is under way.
    pub(crate) fn writing(&self, page: PageId) -> Option<&C> {
        match self {
            Close::Asked { change, writing: true, .. } if page == PageId::Header => Some(change),
            _ => None,
        }
    }
}

/// What a close wants of the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// Nothing: none is asked for.
    Nothing,
    /// One more try for what is in doubt.
    Reversal,
    /// The header, `clean`.
    Header,
}

impl<S: Store> Commit<S> {
    /// Closes: `change` is what makes the header `clean`. Nothing joins any more; ask
    /// [`closed`](Commit::closed) for the end, which comes within the limit.
    pub fn close(&mut self, change: ChangeOf<S>, now: Millis) {
        if matches!(self.close, Close::No) {
            let until = now.saturating_add(self.wire.limit_ms);
            self.close = if self.is_over() {
                Close::Closed(false)
            } else {
                Close::Asked { until, change, tried: false, writing: false }
            };
        }
    }

    /// Whether the machine has closed, and if so whether the header says `clean` durably.
    #[must_use]
    pub fn closed(&self) -> Option<bool> {
        match self.close {
            Close::Closed(clean) => Some(clean),
            _ => None,
        }
    }

    /// What the next commit is for when nothing has joined it; ends the close if it cannot be had.
    pub(crate) fn last_commit(&mut self) -> Last {
        let doubt = self.in_doubt() > 0;
        match &mut self.close {
            Close::Asked { tried: false, .. } if doubt => Last::Reversal,
            Close::Asked { .. } if doubt => {
                self.close = Close::Closed(false);
                Last::Nothing
            }
            Close::Asked { writing, .. } => {
                *writing = true;
                Last::Header
            }
            _ => Last::Nothing,
        }
    }

    /// A reversal is begun: if the volume is closing it is the last one.
    pub(crate) fn reversal_begun(&mut self) {
        if let Close::Asked { tried, .. } = &mut self.close {
            *tried = true;
        }
    }

    /// The commit under way has ended; `clean` if it acknowledged the header.
    pub(crate) fn close_ended(&mut self, clean: bool) {
        if matches!(self.close, Close::Asked { writing: true, .. }) {
            self.close = Close::Closed(clean);
            self.phase = Phase::Idle;
        }
    }

    /// The spare was taken over.
    pub(crate) fn close_unclean(&mut self) {
        if matches!(self.close, Close::Asked { .. }) {
            self.close = Close::Closed(false);
        }
    }
}
