// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The judgement over five copies is the format's ([`dmremap_format::judge`]); here is what
//! `--force=quorum` makes of it, and what of a judgement the machines go on with.
//!
//! Forced, one valid copy is enough where two are missing, and nothing else is lifted: a fence, a
//! newer header, two volumes and one stamp with two contents refuse as ever.

use dmremap_format::{
    COPIES, CopyIndex, CopyMask, HeaderJudgement, Judgement, PageFault, Refusal, Seen, SeenHeader,
    Stamp, judge, judge_headers,
};

use crate::Class;
use crate::commit::{ALL, CopyState, PageState};

/// What was seen of one copy of a page, for those who read the refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopySeen {
    /// Not read.
    #[default]
    Unread,
    /// The read failed.
    Unreadable(Class),
    /// Read, and not valid.
    Invalid(PageFault),
    /// Valid.
    Valid(Stamp),
}

/// The judgement over the copies of a page that is no header; `force` takes one valid copy for
/// enough.
pub(super) fn judge_page(copies: &[SeenHeader; COPIES], force: bool) -> Result<Judgement, Refusal> {
    let seen = copies.map(|copy| match copy {
        SeenHeader::Valid { stamp, digest, .. } => Seen::Valid { stamp, digest },
        SeenHeader::Unreadable => Seen::Unreadable,
        SeenHeader::Invalid | SeenHeader::Newer { .. } => Seen::Invalid,
    });
    judge_copies(&seen, force)
}

/// The judgement over the copies of a page that is no header; `force` takes one valid copy for
/// enough.
///
/// # Errors
/// [`judge`]'s.
pub fn judge_copies(seen: &[Seen; COPIES], force: bool) -> Result<Judgement, Refusal> {
    match judge(seen) {
        Err(Refusal::TooFewValid { valid, unreadable }) if force && valid.count() == 1 => {
            let only = seen.iter().zip(ALL).find_map(|(seen, copy)| match seen {
                Seen::Valid { stamp, .. } => Some((copy, *stamp)),
                _ => None,
            });
            let (winner, stamp) = only.ok_or(Refusal::TooFewValid { valid, unreadable })?;
            Ok(Judgement { winner, stamp, winning: valid, valid, unreadable })
        }
        judged => judged,
    }
}

/// The judgement over the headers; `force` takes the only valid one for enough.
///
/// # Errors
/// [`judge_headers`]'s.
pub fn judge_header(seen: &[SeenHeader; COPIES], force: bool) -> Result<HeaderJudgement, Refusal> {
    let judged = judge_headers(seen);
    let Err(Refusal::TooFewValid { valid, unreadable }) = judged else { return judged };
    if !force || valid.count() != 1 {
        return judged;
    }
    let mut only = None;
    for (header, copy) in seen.iter().zip(ALL) {
        if let SeenHeader::Valid { of, stamp, fence, .. } = *header {
            if let Some(fence) = fence {
                return Err(Refusal::Fenced { copy, fence });
            }
            only = Some((of, stamp, copy));
        }
    }
    let Some(((volume, spare), stamp, winner)) = only else { return judged };
    for (header, copy) in seen.iter().zip(ALL) {
        match *header {
            SeenHeader::Newer { of, fault } if of == (volume, spare) => {
                return Err(Refusal::Newer { copy, fault });
            }
            _ => {}
        }
    }
    let page = Judgement { winner, stamp, winning: valid, valid, unreadable };
    Ok(HeaderJudgement { volume, spare, page })
}

/// What is known of a page's copies from now on; a page whose copies are not all good is to be
/// committed anew.
pub(super) fn state(judged: &Judgement) -> PageState {
    let mut state = PageState { stamp: judged.stamp, copies: [CopyState::Torn; COPIES] };
    let set = |state: &mut PageState, copies: CopyMask, to| {
        ALL.into_iter().filter(|c| copies.has(*c)).for_each(|c| state.set(c, to));
    };
    set(&mut state, judged.unreadable, CopyState::Failed);
    set(&mut state, judged.valid, CopyState::Stale);
    set(&mut state, judged.winning, CopyState::Good);
    state
}

/// Whether a copy with this stamp wins over all that were seen before it.
pub(super) fn wins(seen: &[SeenHeader; COPIES], stamp: Stamp) -> bool {
    seen.iter().all(|s| !matches!(s, SeenHeader::Valid { stamp: other, .. } if *other >= stamp))
}

/// Keeps one copy's entry.
pub(super) fn put<T>(list: &mut [T; COPIES], copy: CopyIndex, value: T) {
    if let Some(place) = list.get_mut(usize::from(copy.0)) {
        *place = value;
    }
}
