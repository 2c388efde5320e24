// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The lookup grace of user space under every order of memory operations that the language allows
//! (loom, exhaustive for two threads; its own source file is included here, with loom's atomics).
//!
//! Invariants checked: what a lookup has reached is not written again before that lookup has
//! ended, and a lookup that comes after such a write sees all that was published with it. That the
//! check sees anything is shown by a writer that does not wait and by lookups that are not counted.

#![allow(dead_code)]

mod sync {
    pub(crate) use loom::sync::atomic;
}
mod table {
    pub trait LookupGrace {
        fn start(&self) -> u64;
        fn passed(&self, token: u64) -> bool;
    }
}
#[path = "../src/readers.rs"]
mod readers;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;
use readers::Readers;
use table::LookupGrace;

type Words = Box<[AtomicU64]>;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Variant {
    Sound,
    /// The writer does not wait.
    NoGrace,
    /// Lookups do not say that they are in progress.
    NotCounted,
}

/// Two places of two words each, as leaves are, and which of them is published. The words of a
/// place are equal but while it is being written.
struct World {
    readers: Readers<Words>,
    published: AtomicUsize,
    places: [[AtomicU64; 2]; 2],
}

impl World {
    fn lookup(&self, variant: Variant) {
        let look = || {
            let place = &self.places[self.published.load(Ordering::Acquire)];
            [place[0].load(Ordering::Relaxed), place[1].load(Ordering::Relaxed)]
        };
        let seen = match variant {
            Variant::NotCounted => look(),
            _ => self.readers.with(0, look).expect("there is a queue 0"),
        };
        assert!(seen[0] == seen[1] && seen[0] != 0, "torn: {seen:?}");
    }

    /// Publishes the other place, then, if its grace has passed, writes the first one again.
    fn replace(&self, variant: Variant) {
        self.published.store(1, Ordering::Release);
        let token = self.readers.start();
        if variant == Variant::NoGrace || self.readers.passed(token) {
            self.places[0].iter().for_each(|word| word.store(3, Ordering::Relaxed));
            self.published.store(0, Ordering::Release);
        }
    }
}

fn explore(variant: Variant) {
    loom::model(move || {
        let count = Readers::<Words>::words(1);
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        let world = Arc::new(World {
            readers: Readers::new(words, 1),
            published: AtomicUsize::new(0),
            places: [1, 2].map(|value| [AtomicU64::new(value), AtomicU64::new(value)]),
        });
        let other = world.clone();
        let reader = thread::spawn(move || {
            other.lookup(variant);
            other.lookup(variant);
        });
        world.replace(variant);
        reader.join().expect("the reader failed");
    });
}

#[test]
fn nothing_is_reused_while_a_lookup_is_in_it() {
    explore(Variant::Sound);
}

#[test]
fn reuse_without_grace_is_caught() {
    for variant in [Variant::NoGrace, Variant::NotCounted] {
        assert!(catch_unwind(AssertUnwindSafe(|| explore(variant))).is_err(), "{variant:?}");
    }
}
