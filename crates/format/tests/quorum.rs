// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked, over every combination of five copies: the judgement is the one an oracle
//! gives that knows how the copies were made; whatever a first open has served is what the second
//! one finds, when every copy the first could not read has come back; which volume five headers
//! name, and that a single fence or newer header of it refuses.

mod common;

use common::*;
use dmremap_format::{
    COPIES, CopyIndex, CopyMask, Fence, Header, HeaderMut, Judgement, NEEDED_DURABLE, NewHeader,
    PageBytes, PageFault, Refusal, Seen, SeenHeader, Slot, Stamp, State, TablePage, TablePageMut,
    UnitIndex, Uuid, judge, judge_headers,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a copy of a page can be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    New,
    Old,
    Older,
    Invalid,
    Unreadable,
    Misplaced,
    /// The stamp of `New`, another content.
    Other,
}

const LIKES: [Like; 7] = [
    Like::New,
    Like::Old,
    Like::Older,
    Like::Invalid,
    Like::Unreadable,
    Like::Misplaced,
    Like::Other,
];

const NEW: Stamp = Stamp { generation: 7, sequence: 3 };
const OLD: Stamp = Stamp { generation: 7, sequence: 2 };
const OLDER: Stamp = Stamp { generation: 6, sequence: 9 };
const ANEW: Stamp = Stamp { generation: 8, sequence: 0 };

/// A sealed table page whose content is told by `main`.
fn table(copy: u8, stamp: Stamp, main: u64) -> Box<PageBytes> {
    let mut bytes = full_table();
    let mut table = TablePageMut::edit(&mut bytes);
    let slot = Slot { main: Some(UnitIndex(main)), ..slots()[0].1 };
    table.set_slot(100, &slot).unwrap();
    table.seal(CopyIndex(copy), stamp);
    bytes
}

/// What is seen of a copy: through a real page and its check.
fn seen(like: Like, copy: u8) -> Seen {
    let bytes = match like {
        Like::New => table(copy, NEW, 1000),
        Like::Other => table(copy, NEW, 2000),
        Like::Old => table(copy, OLD, 3000),
        Like::Older => table(copy, OLDER, 4000),
        Like::Misplaced => table((copy + 1) % 5, NEW, 1000),
        Like::Unreadable => return Seen::Unreadable,
        Like::Invalid => {
            let mut bytes = table(copy, NEW, 1000);
            bytes[2000] ^= 4;
            bytes
        }
    };
    see(&bytes, copy)
}

fn see(bytes: &PageBytes, copy: u8) -> Seen {
    match TablePage::check(bytes, &expect(copy, 3)) {
        Ok(page) => Seen::valid(page.stamp(), bytes),
        Err(_) => Seen::Invalid,
    }
}

/// Everything that can be seen, made once: `[copy][like]`.
fn all_seen() -> Vec<Vec<Seen>> {
    (0..5).map(|copy| LIKES.iter().map(|like| seen(*like, copy)).collect()).collect()
}

/// Calls `each` with every choice of five out of `0..choices`.
fn exhaust(choices: usize, mut each: impl FnMut([usize; COPIES])) {
    for mut number in 0..choices.pow(COPIES as u32) {
        each([(); COPIES].map(|()| {
            let choice = number % choices;
            number /= choices;
            choice
        }));
    }
}

/// What ought to come out, from how the copies were made.
#[derive(Debug, PartialEq, Eq)]
enum Want {
    Content { like: usize, copies: BTreeSet<usize> },
    TooFew,
    TwoContents,
}

/// The oracle: ages from old to new, each with the contents that carry it and where.
fn oracle(likes: [Like; COPIES]) -> Want {
    let mut ages: BTreeMap<u8, BTreeMap<usize, BTreeSet<usize>>> = BTreeMap::new();
    for (copy, like) in likes.into_iter().enumerate() {
        let age = match like {
            Like::Older => 1,
            Like::Old => 2,
            Like::New | Like::Other => 3,
            Like::Invalid | Like::Unreadable | Like::Misplaced => continue,
        };
        let content = LIKES.iter().position(|l| *l == like).unwrap();
        ages.entry(age).or_default().entry(content).or_default().insert(copy);
    }
    if ages.values().any(|contents| contents.len() > 1) {
        return Want::TwoContents;
    }
    let good: usize = ages.values().flat_map(|c| c.values()).map(BTreeSet::len).sum();
    match ages.pop_last() {
        Some((_, contents)) if good > 1 => {
            let (like, copies) = contents.into_iter().next().unwrap();
            Want::Content { like, copies }
        }
        _ => Want::TooFew,
    }
}

fn members(mask: CopyMask) -> BTreeSet<usize> {
    (0..COPIES).filter(|copy| mask.has(CopyIndex(*copy as u8))).collect()
}

fn stamp_of(like: Like) -> Stamp {
    match like {
        Like::Old => OLD,
        Like::Older => OLDER,
        _ => NEW,
    }
}

#[test]
fn judgement_over_every_combination() {
    let table = all_seen();
    let (mut won, mut few, mut two, mut whole) = (0, 0, 0, 0);
    exhaust(LIKES.len(), |choice| {
        let likes = choice.map(|index| LIKES[index]);
        let copies = core::array::from_fn(|copy| table[copy][choice[copy]]);
        let got = judge(&copies);
        match oracle(likes) {
            Want::Content { like, copies: want } => {
                let Ok(judgement) = got else { panic!("{likes:?}: {got:?}") };
                let Judgement { winner, stamp, winning, valid, unreadable } = judgement;
                assert_eq!(members(winning), want, "{likes:?}");
                assert!(want.contains(&usize::from(winner.0)));
                assert_eq!(stamp, stamp_of(LIKES[like]));
                assert_eq!(judgement.needs_repair(), want.len() < COPIES);
                for (copy, like) in likes.into_iter().enumerate() {
                    let copy = CopyIndex(copy as u8);
                    assert_eq!(unreadable.has(copy), like == Like::Unreadable);
                    let bad = [Like::Invalid, Like::Unreadable, Like::Misplaced];
                    assert_eq!(valid.has(copy), !bad.contains(&like));
                }
                won += 1;
                whole += u32::from(!judgement.needs_repair());
            }
            Want::TooFew => {
                assert!(
                    matches!(got, Err(Refusal::TooFewValid { valid, .. }) if valid.count() < 2)
                );
                few += 1;
            }
            Want::TwoContents => {
                assert!(matches!(got, Err(Refusal::TwoContents { stamp: NEW, .. })), "{likes:?}");
                two += 1;
            }
        }
    });
    assert_eq!(won + few + two, 16_807);
    // No valid copy: 3^5; one: 5 x 4 x 3^4. With both New and Other: by inclusion and exclusion.
    assert_eq!(few, 243 + 5 * 4 * 81);
    assert_eq!(two, 16_807 - 2 * 7776 + 3125);
    assert_eq!(whole, 4);
}

/// A copy as it lies on the disk during two opens.
#[derive(Clone, Copy)]
enum Fate {
    /// Read at the first open.
    Readable,
    /// Not read, and what was written to it did not land.
    AwayUnwritten,
    /// Not read, and written all the same.
    AwayWritten,
}

/// The first open judges what it can read, commits the page anew where it must, and serves if four
/// copies took it. At the second every copy is back with what it holds.
#[test]
fn two_opens_in_a_row() {
    let table = all_seen();
    let solid: Vec<usize> =
        (0..LIKES.len()).filter(|like| LIKES[*like] != Like::Unreadable).collect();
    let fates = [Fate::Readable, Fate::AwayUnwritten, Fate::AwayWritten];
    // The winner's content under the new stamp, for every winner there can be.
    let main_of = |like: Like| match like {
        Like::New => 1000,
        Like::Other => 2000,
        Like::Old => 3000,
        _ => 4000,
    };
    let anew = |like: Like, copy: u8| see(&self::table(copy, ANEW, main_of(like)), copy);
    let repaired: Vec<Vec<Seen>> =
        (0..5).map(|copy| LIKES.iter().map(|like| anew(*like, copy)).collect()).collect();
    let (mut served, mut refused) = (0u32, 0u32);
    exhaust(solid.len(), |choice| {
        let likes = choice.map(|index| solid[index]);
        exhaust(fates.len(), |fate| {
            let fate = fate.map(|index| fates[index]);
            let first: [Seen; COPIES] = core::array::from_fn(|copy| match fate[copy] {
                Fate::Readable => table[copy][likes[copy]],
                _ => Seen::Unreadable,
            });
            let Ok(judgement) = judge(&first) else {
                refused += 1;
                return;
            };
            let winner = likes[usize::from(judgement.winner.0)];
            let lands = |copy: usize| {
                judgement.needs_repair() && !matches!(fate[copy], Fate::AwayUnwritten)
            };
            let durable = (0..COPIES).filter(|copy| lands(*copy)).count();
            if judgement.needs_repair() && durable < usize::from(NEEDED_DURABLE) {
                refused += 1;
                return;
            }
            let second: [Seen; COPIES] = core::array::from_fn(|copy| match lands(copy) {
                true => repaired[copy][winner],
                false => table[copy][likes[copy]],
            });
            let again = judge(&second).unwrap_or_else(|refusal| panic!("{refusal:?}: {likes:?}"));
            let digest = |seen: &Seen| match seen {
                Seen::Valid { digest, .. } => Some(*digest),
                _ => None,
            };
            let found = digest(&second[usize::from(again.winner.0)]);
            let want = match judgement.needs_repair() {
                true => digest(&repaired[0][winner]),
                false => digest(&first[0]),
            };
            assert!(found.is_some() && found == want, "served content was lost: {likes:?}");
            assert!(again.valid.count() >= NEEDED_DURABLE);
            served += 1;
        });
    });
    assert_eq!(served + refused, 7776 * 243);
    assert!(served > 100_000 && refused > 100_000, "{served} {refused}");
}

#[test]
fn two_contents_under_an_older_stamp_refuse_too() {
    let old = [see(&table(0, OLD, 1), 0), see(&table(1, OLD, 2), 1)];
    let new = |copy: u8| see(&table(copy, NEW, 3), copy);
    let copies = [old[0], old[1], new(2), new(3), new(4)];
    let copies_of_it = CopyMask(0b00011);
    assert_eq!(judge(&copies), Err(Refusal::TwoContents { stamp: OLD, copies: copies_of_it }));
}

#[test]
fn copies_there_are_not_are_in_no_mask() {
    assert_eq!(CopyMask::default().with(CopyIndex(5)), CopyMask(0));
    assert_eq!(CopyMask::default().with(CopyIndex(255)), CopyMask(0));
    assert!(!CopyMask::ALL.has(CopyIndex(8)));
    assert_eq!(CopyMask::ALL.count(), 5);
}

/// What a copy of the header can be like: what it names, its stamp, its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Ours(Stamp),
    OursFenced,
    OursNewer,
    OtherVolume,
    OtherVolumeFenced,
    OtherVolumeNewer,
    OtherSpare,
    OtherSpareFenced,
    Invalid,
    Unreadable,
}

const HEADS: [Head; 11] = [
    Head::Ours(NEW),
    Head::Ours(OLD),
    Head::OursFenced,
    Head::OursNewer,
    Head::OtherVolume,
    Head::OtherVolumeFenced,
    Head::OtherVolumeNewer,
    Head::OtherSpare,
    Head::OtherSpareFenced,
    Head::Invalid,
    Head::Unreadable,
];

impl Head {
    /// Volume and spare it names.
    fn of(self) -> Option<(Uuid, Uuid)> {
        match self {
            Head::Ours(_) | Head::OursFenced | Head::OursNewer => Some((VOLUME, SPARE)),
            Head::OtherVolume | Head::OtherVolumeFenced | Head::OtherVolumeNewer => {
                Some((OTHER, SPARE))
            }
            Head::OtherSpare | Head::OtherSpareFenced => Some((VOLUME, OTHER)),
            Head::Invalid | Head::Unreadable => None,
        }
    }

    fn fenced(self) -> bool {
        matches!(self, Head::OursFenced | Head::OtherVolumeFenced | Head::OtherSpareFenced)
    }

    fn newer(self) -> bool {
        matches!(self, Head::OursNewer | Head::OtherVolumeNewer)
    }

    fn stamp(self) -> Stamp {
        match self {
            Head::Ours(stamp) => stamp,
            head if head.fenced() => OLDER,
            _ => NEW,
        }
    }

    fn seen(self, copy: u8) -> SeenHeader {
        let Some((volume, spare)) = self.of() else {
            let mut bytes = sealed_header(copy);
            bytes[500] ^= 1;
            let invalid = SeenHeader::of(&bytes, CopyIndex(copy));
            return if self == Head::Invalid { invalid } else { SeenHeader::Unreadable };
        };
        let mut bytes = page();
        let new = NewHeader { volume, spare, ..new_header() };
        let mut header = HeaderMut::blank(&mut bytes, &new).unwrap();
        if self.fenced() {
            header.set_state(State::Removed).unwrap();
        }
        // Contents differ with their stamps.
        header.set_timestamp(self.stamp().sequence);
        header.seal(CopyIndex(copy), self.stamp());
        if self.newer() {
            bytes[16] = 1;
            reseal(&mut bytes);
        }
        SeenHeader::of(&bytes, CopyIndex(copy))
    }
}

#[test]
fn headers_over_every_combination() {
    let table: Vec<Vec<SeenHeader>> =
        (0..5).map(|copy| HEADS.iter().map(|head| head.seen(copy)).collect()).collect();
    let mut counts = BTreeMap::new();
    exhaust(HEADS.len(), |choice| {
        let heads = choice.map(|index| HEADS[index]);
        let got = judge_headers(&core::array::from_fn(|copy| table[copy][choice[copy]]));
        let mut shared: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        for head in heads.iter().filter(|head| !head.newer()) {
            if let Some((volume, spare)) = head.of() {
                let mut key = [0; 32];
                key[..16].copy_from_slice(&volume.0);
                key[16..].copy_from_slice(&spare.0);
                *shared.entry(key).or_default() += 1;
            }
        }
        let shared: Vec<_> = shared.into_iter().filter(|(_, count)| *count > 1).collect();
        let word = match shared.as_slice() {
            [] => {
                assert!(matches!(got, Err(Refusal::TooFewValid { .. })), "{heads:?}: {got:?}");
                "none"
            }
            [(key, _)] => {
                let ours = |head: &Head| {
                    head.of().is_some_and(|(v, s)| v.0 == key[..16] && s.0 == key[16..])
                };
                match heads.iter().find(|head| ours(head) && (head.fenced() || head.newer())) {
                    Some(head) if head.fenced() => {
                        let fence = Fence::Removed;
                        assert!(matches!(got, Err(Refusal::Fenced { fence: f, .. }) if f == fence));
                        "fenced"
                    }
                    Some(_) => {
                        let fault = PageFault::Feature(1);
                        assert!(matches!(got, Err(Refusal::Newer { fault: f, .. }) if f == fault));
                        "newer"
                    }
                    None => {
                        let judgement = got.unwrap();
                        assert_eq!(judgement.volume.0, key[..16]);
                        assert_eq!(judgement.spare.0, key[16..]);
                        let best = heads.iter().filter(|head| ours(head)).map(|h| h.stamp()).max();
                        assert_eq!(Some(judgement.page.stamp), best);
                        let equal = heads.iter().filter(|h| ours(h) && Some(h.stamp()) == best);
                        assert_eq!(judgement.page.winning.count() as usize, equal.count());
                        "one"
                    }
                }
            }
            _ => {
                assert!(matches!(got, Err(Refusal::TwoVolumes { .. })), "{heads:?}: {got:?}");
                "two"
            }
        };
        *counts.entry(word).or_insert(0u32) += 1;
    });
    assert_eq!(counts.values().sum::<u32>(), 161_051);
    assert_eq!(counts.len(), 5, "a class is missing: {counts:?}");
}

/// Every fence there is refuses alone, with any stamp, and says what it is.
#[test]
fn a_single_fence_refuses() {
    let fences = [
        (State::MovedTo(OTHER), Fence::MovedTo(OTHER)),
        (State::Removed, Fence::Removed),
        (State::Released, Fence::Released),
    ];
    for (state, fence) in fences {
        for at in CopyIndex::ALL {
            for stamp in [OLDER, NEW, ANEW] {
                let headers = CopyIndex::ALL.map(|copy| {
                    let mut bytes = full_header();
                    let mut header = HeaderMut::edit(&mut bytes);
                    if copy == at {
                        header.set_state(state).unwrap();
                    }
                    header.seal(copy, if copy == at { stamp } else { OLD });
                    SeenHeader::of(&bytes, copy)
                });
                assert_eq!(judge_headers(&headers), Err(Refusal::Fenced { copy: at, fence }));
            }
        }
    }
    for state in [State::Clean, State::Dirty, State::Joining, State::Restored] {
        assert_eq!(state.fence(), None);
    }
}

#[test]
fn a_newer_major_version_of_the_volume_refuses() {
    let headers = CopyIndex::ALL.map(|copy| {
        let mut bytes = sealed_header(copy.0);
        if copy.0 == 4 {
            bytes[4] = 5;
            reseal(&mut bytes);
        }
        SeenHeader::of(&bytes, copy)
    });
    let fault = PageFault::Version(5, 1);
    assert_eq!(judge_headers(&headers), Err(Refusal::Newer { copy: CopyIndex(4), fault }));
    // A higher minor version can be read.
    let mut bytes = sealed_header(0);
    bytes[6] = 9;
    reseal(&mut bytes);
    assert_eq!(Header::check(&bytes, CopyIndex(0)).unwrap().version(), (4, 9));
}
