// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Allocator, slot map and pending marks against naive models.
//!
//! Invariants checked: a unit is handed out only while it is neither used nor quarantined; the
//! counts are those of the model; a reload that takes what the model holds hands none of it out
//! again; every pending mark that was taken is found until it is dropped, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use dmremap_core::allocator::Allocator;
use dmremap_core::marks::{PENDING_UNITS, Pending};
use dmremap_core::slots::SlotMap;
use dmremap_format::{SlotIndex, SpareUnit, UnitIndex};
use proptest::prelude::*;

type Words = Box<[AtomicU64]>;

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn allocator(span: u64) -> Allocator<Words> {
    Allocator::new(words(Allocator::<Words>::words(span)), span)
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(Option<u64>),
    Take(u64),
    Free(u64),
    Quarantine(u64),
    Reload,
}

fn step(span: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::option::of(0..span).prop_map(Step::Alloc),
        1 => (0..span + 3).prop_map(Step::Take),
        3 => (0..span + 3).prop_map(Step::Free),
        1 => (0..span + 3).prop_map(Step::Quarantine),
        1 => Just(Step::Reload),
    ]
}

#[derive(Default)]
struct Model {
    used: BTreeSet<u64>,
    quarantined: BTreeSet<u64>,
}

impl Model {
    fn is_free(&self, unit: u64) -> bool {
        !self.used.contains(&unit) && !self.quarantined.contains(&unit)
    }

    fn free(&self, span: u64) -> u64 {
        (0..span).filter(|u| self.is_free(*u)).count() as u64
    }

    fn reload(&self, span: u64) -> Allocator<Words> {
        let mut fresh = allocator(span);
        for unit in &self.quarantined {
            fresh.quarantine(SpareUnit(*unit));
        }
        for unit in &self.used {
            assert!(fresh.take(SpareUnit(*unit)));
        }
        fresh
    }

    fn alloc(&mut self, real: &mut Allocator<Words>, span: u64, near: Option<u64>) {
        let got = real.alloc(near.map(SpareUnit));
        assert_eq!(got.is_some(), self.free(span) > 0);
        if let Some(SpareUnit(unit)) = got {
            let behind = near.map(|n| n + 1).filter(|n| *n < span && self.is_free(*n));
            assert!(behind.is_none_or(|b| b == unit), "not the one behind its neighbour");
            assert!(unit < span && self.is_free(unit), "handed out twice: {unit}");
            self.used.insert(unit);
        }
    }
}

fn run(span: u64, steps: &[Step]) {
    let mut real = allocator(span);
    let mut model = Model::default();
    for step in steps {
        match *step {
            Step::Alloc(near) => model.alloc(&mut real, span, near),
            Step::Take(unit) => {
                let expected = unit < span && !model.used.contains(&unit);
                assert_eq!(real.take(SpareUnit(unit)), expected);
                if expected {
                    model.used.insert(unit);
                }
            }
            Step::Free(unit) => {
                real.free(SpareUnit(unit));
                model.used.remove(&unit);
            }
            Step::Quarantine(unit) => {
                real.quarantine(SpareUnit(unit));
                if unit < span {
                    model.quarantined.insert(unit);
                }
            }
            Step::Reload => real = model.reload(span),
        }
        assert_eq!(real.free_units(), model.free(span));
        assert_eq!(real.used_units(), model.used.len() as u64);
        assert_eq!(real.quarantined_units(), model.quarantined.len() as u64);
        assert!((0..span).all(|u| real.is_free(SpareUnit(u)) == model.is_free(u)));
    }
}

proptest! {
    #[test]
    fn allocator_hands_out_what_is_free_and_nothing_else(
        span in 1u64..200,
        steps in proptest::collection::vec(step(200), 1..120),
    ) {
        run(span, &steps);
    }

    #[test]
    fn pending_marks_are_found_until_they_are_dropped(
        steps in proptest::collection::vec((0u64..5000, any::<u8>(), any::<bool>()), 1..2000),
    ) {
        let real = Pending::new(words(Pending::<Words>::words()));
        let mut model: BTreeMap<u64, u8> = BTreeMap::new();
        for (unit, mask, add) in steps {
            if add && mask != 0 {
                prop_assert!(real.add(UnitIndex(unit), mask));
                *model.entry(unit).or_default() |= mask;
            } else {
                real.drop_marks(UnitIndex(unit), mask);
                if let Some(held) = model.get_mut(&unit) {
                    *held &= !mask;
                }
                model.retain(|_, held| *held != 0);
            }
            prop_assert_eq!(real.get(UnitIndex(unit)), model.get(&unit).copied().unwrap_or(0));
        }
        let blocks: u64 = model.values().map(|m| u64::from(m.count_ones())).sum();
        prop_assert_eq!(real.blocks(), blocks);
        let mut listed = BTreeMap::new();
        let mut from = UnitIndex(0);
        while let Some((unit, mask)) = real.next(from) {
            listed.insert(unit.0, mask);
            from = UnitIndex(unit.0 + 1);
        }
        prop_assert_eq!(listed, model);
    }
}

#[test]
fn runs_come_out_contiguous() {
    let mut real = allocator(1000);
    let mut last = real.alloc(None).unwrap();
    for _ in 0..500 {
        let next = real.alloc(Some(last)).unwrap();
        assert_eq!(next.0, last.0 + 1);
        last = next;
    }
}

#[test]
fn pending_marks_beyond_the_capacity_are_counted_and_not_kept() {
    let real = Pending::new(words(Pending::<Words>::words()));
    for unit in 0..PENDING_UNITS as u64 {
        assert!(real.add(UnitIndex(unit * 977), 1));
    }
    assert!(!real.add(UnitIndex(1), 1));
    assert_eq!((real.dropped(), real.get(UnitIndex(1))), (1, 0));
    real.drop_marks(UnitIndex(977), 1);
    assert!(real.add(UnitIndex(1), 1));
    assert_eq!(real.blocks(), PENDING_UNITS as u64);
    for unit in 2..PENDING_UNITS as u64 {
        assert_eq!(real.get(UnitIndex(unit * 977)), 1, "lost among the tombs: {unit}");
    }
}

#[test]
fn slots_are_handed_out_once() {
    let mut slots = SlotMap::new(words(SlotMap::<Words>::words(300)), 300);
    assert!(slots.take(SlotIndex(7)) && !slots.take(SlotIndex(7)));
    let all: BTreeSet<u32> = std::iter::from_fn(|| slots.alloc()).map(|s| s.0).collect();
    assert_eq!(all.len(), 299);
    assert!(!all.contains(&7) && slots.free_slots() == 0);
    slots.free(SlotIndex(9));
    assert_eq!(slots.alloc(), Some(SlotIndex(9)));
}
