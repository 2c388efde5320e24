// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The I/O grace beside the requests it waits for, under a scheduler that switches threads at any
//! atomic operation. The counters and the busy marks are sequentially consistent throughout, and
//! so is every interleaving that shuttle makes; their own source files are included here.
//!
//! Invariants checked: a piece that was resolved to a place, and has not come back, never sees its
//! block live elsewhere; every piece ends uncounted; pieces begun later, however many and however
//! long they stay, do not keep a grace from passing once it has been looked at. That the checks see
//! anything is shown by an order or a rule withdrawn at a time.

#![allow(dead_code, unused_imports)]

mod sync {
    //! Shuttle's atomics, some of which can be made to lie.

    pub(crate) use shuttle::sync::atomic::Ordering;
    use std::cell::Cell;
    use std::sync::OnceLock;

    /// What a word of the counters is for.
    #[derive(Clone, Copy, PartialEq, Debug, Default)]
    pub(crate) enum Role {
        #[default]
        Other,
        /// Says which epoch is current.
        Epoch,
        /// Counts pieces of this epoch.
        Count(u8),
    }

    thread_local! {
        /// Words of this role are read as zero and keep what they hold.
        pub(crate) static DEAD: Cell<Role> = const { Cell::new(Role::Other) };
    }

    pub(crate) struct AtomicU64 {
        /// Made when it is first touched: few of the many words are.
        word: OnceLock<shuttle::sync::atomic::AtomicU64>,
        role: Role,
    }

    impl AtomicU64 {
        pub(crate) fn new(role: Role) -> AtomicU64 {
            AtomicU64 { word: OnceLock::new(), role }
        }

        fn word(&self) -> &shuttle::sync::atomic::AtomicU64 {
            self.word.get_or_init(|| shuttle::sync::atomic::AtomicU64::new(0))
        }

        fn is_dead(&self) -> bool {
            self.role != Role::Other && self.role == DEAD.get()
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            let value = self.word().load(order);
            if self.is_dead() { 0 } else { value }
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            if !self.is_dead() {
                self.word().store(value, order);
            }
        }

        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.word().fetch_add(value, order)
        }

        pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
            self.word().fetch_sub(value, order)
        }

        pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            self.word().fetch_or(value, order)
        }

        pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            self.word().fetch_and(value, order)
        }
    }
}
#[path = "../src/marks.rs"]
mod marks;
#[path = "../src/pieces.rs"]
mod pieces;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dmremap_format::UnitIndex;
use marks::Busy;
use pieces::{BUCKETS, Grace, GraceId, Pieces, Ticket};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use sync::{AtomicU64, DEAD, Ordering::SeqCst, Role};

type Words = Box<[AtomicU64]>;

/// Units that jobs move to and fro, in one bucket.
const UNITS: usize = 2;
/// A sector of that bucket.
const SECTOR: u64 = 5;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Variant {
    Sound,
    /// A job moves without a grace.
    NoGrace,
    /// A piece is counted when it has been resolved.
    CountedAfterResolve,
    /// The table is looked up before the busy marks.
    TableBeforeBusy,
    /// A grace is asked for, and looked at, before busy stands.
    GraceBeforeBusy,
    /// A grace looks at the counters of one epoch only.
    Unseen(u8),
    /// Pieces are counted under one epoch whatever the grace says.
    OneEpoch,
}

/// Head (an epoch and a waiter a lane), then the queues (counters by epoch and lane).
fn role(index: usize) -> Role {
    let lanes = 2 * BUCKETS;
    match index / lanes {
        0 => Role::Epoch,
        1 => Role::Other,
        block => Role::Count((block % 2) as u8),
    }
}

struct World {
    variant: Variant,
    pieces: Pieces<Words>,
    busy: Busy<Words>,
    /// Where each unit's table entry says that it lives, and where it does.
    table: Vec<AtomicU64>,
    lives: Vec<AtomicU64>,
    done: AtomicU64,
}

impl World {
    fn new(variant: Variant, queues: usize) -> Arc<World> {
        DEAD.set(match variant {
            Variant::Unseen(epoch) => Role::Count(epoch),
            Variant::OneEpoch => Role::Epoch,
            _ => Role::Other,
        });
        let plain = |count| (0..count).map(|_| AtomicU64::new(Role::Other)).collect::<Vec<_>>();
        let words = (0..Pieces::<Words>::words(queues)).map(|index| AtomicU64::new(role(index)));
        Arc::new(World {
            variant,
            pieces: Pieces::new(words.collect(), queues),
            busy: Busy::new(plain(Busy::<Words>::words()).into()),
            table: plain(UNITS),
            lives: plain(UNITS),
            done: AtomicU64::new(Role::Other),
        })
    }

    /// Where a unit lives; `None` if it is busy.
    fn resolve(&self, unit: usize) -> Option<u64> {
        let place = || self.table[unit].load(SeqCst);
        let is_free = || self.busy.find(UnitIndex(unit as u64)).0 == 0;
        if self.variant == Variant::TableBeforeBusy {
            let place = place();
            return is_free().then_some(place);
        }
        is_free().then(place)
    }

    /// One write of a unit, on a thread of this queue.
    fn write(&self, queue: usize, unit: usize) {
        let count = || self.pieces.begin(queue, SECTOR, true);
        let (ticket, place) = if self.variant == Variant::CountedAfterResolve {
            let place = self.resolve(unit);
            (count(), place)
        } else {
            (count(), self.resolve(unit))
        };
        if let Some(place) = place {
            for moment in ["begins", "ends"] {
                let lives = self.lives[unit].load(SeqCst);
                assert_eq!(place, lives, "a write of {unit} {moment} at a place it has left");
            }
        }
        let _tell = self.pieces.end(ticket);
    }
}

/// A job of the machine.
#[derive(Clone, Copy)]
enum Job {
    Idle,
    Waits(GraceId),
}

/// The machine: a job a unit, each moving its unit so many times, in any order of their steps.
struct Machine {
    grace: Grace,
    jobs: [Job; UNITS],
    moves_left: [u32; UNITS],
}

impl Machine {
    fn new(moves: [u32; UNITS]) -> Machine {
        Machine { grace: Grace::new(), jobs: [Job::Idle; UNITS], moves_left: moves }
    }

    fn run(&mut self, world: &World, mut choose: impl FnMut() -> usize) {
        while self.moves_left.iter().any(|left| *left > 0) {
            let unit = choose();
            match self.jobs[unit] {
                Job::Idle if self.moves_left[unit] > 0 => self.begin(world, unit),
                Job::Idle => {}
                Job::Waits(id) => self.look(world, unit, id),
            }
        }
    }

    fn begin(&mut self, world: &World, unit: usize) {
        let publish = || world.busy.set(unit, UnitIndex(unit as u64), 1);
        if world.variant != Variant::GraceBeforeBusy {
            publish();
        }
        let id = self.grace.begin(&world.pieces, SECTOR, true);
        if world.variant == Variant::GraceBeforeBusy {
            let _early = self.grace.passed(&world.pieces, id);
            publish();
        }
        self.jobs[unit] = Job::Waits(id);
    }

    fn look(&mut self, world: &World, unit: usize, id: GraceId) {
        if !self.grace.passed(&world.pieces, id) && world.variant != Variant::NoGrace {
            return thread::yield_now();
        }
        let next = u64::from(self.moves_left[unit]);
        world.lives[unit].store(next, SeqCst);
        world.table[unit].store(next, SeqCst);
        world.busy.clear(unit);
        self.jobs[unit] = Job::Idle;
        self.moves_left[unit] -= 1;
    }
}

/// Three writers beside a machine whose graces overlap in one bucket.
fn run_many(variant: Variant) {
    const QUEUES: usize = 2;
    let world = World::new(variant, QUEUES);
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let world = world.clone();
            thread::spawn(move || {
                for _ in 0..4 {
                    world.write(worker % QUEUES, thread_rng().gen_range(0..UNITS));
                }
            })
        })
        .collect();
    Machine::new([2; UNITS]).run(&world, || thread_rng().gen_range(0..UNITS));
    workers.into_iter().for_each(|worker| worker.join().expect("a writer failed"));
}

fn explore(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) -> usize {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(50_000);
    Runner::new(scheduler, config).run(run)
}

/// How many schedules a seed's exploration is given.
const SCHEDULES: usize = 10_000;
/// Changes of priority in a schedule: where a thread is left standing in the midst of something.
const DEPTH: usize = 5;

#[test]
fn no_piece_is_left_behind_by_a_move() {
    println!("seed 11, {SCHEDULES} random schedules, {SCHEDULES} by priorities");
    explore(RandomScheduler::new_from_seed(11, SCHEDULES), || run_many(Variant::Sound));
    explore(PctScheduler::new_from_seed(11, DEPTH, SCHEDULES), || run_many(Variant::Sound));
}

/// One writer with one piece, one job that moves if it finds its grace over: every interleaving.
fn run_pair(variant: Variant) {
    let world = World::new(variant, 1);
    let other = world.clone();
    let worker = thread::spawn(move || other.write(0, 0));
    let mut machine = Machine::new([1, 0]);
    machine.begin(&world, 0);
    let Job::Waits(id) = machine.jobs[0] else { unreachable!() };
    machine.look(&world, 0, id);
    worker.join().expect("the writer failed");
}

#[test]
fn one_piece_and_one_move_exhaustively() {
    let explore = |variant| explore(DfsScheduler::new(None, false), move || run_pair(variant));
    let schedules = explore(Variant::Sound);
    println!("{schedules} schedules");
    assert!(schedules > 10_000);
    for variant in [Variant::NoGrace, Variant::CountedAfterResolve, Variant::TableBeforeBusy] {
        let caught = catch_unwind(AssertUnwindSafe(|| explore(variant))).is_err();
        assert!(caught, "{variant:?} was not caught");
    }
}

fn is_caught(variant: Variant, run: fn(Variant)) {
    let scheduler = |seed| PctScheduler::new_from_seed(seed, DEPTH, SCHEDULES);
    let seed = (0..8u64).find(|seed| {
        catch_unwind(AssertUnwindSafe(|| explore(scheduler(*seed), move || run(variant)))).is_err()
    });
    println!("{variant:?}: caught with seed {seed:?} of {SCHEDULES} schedules each");
    assert!(seed.is_some(), "{variant:?} was not caught");
}

#[test]
fn a_move_without_grace_is_caught() {
    is_caught(Variant::NoGrace, run_many);
}

#[test]
fn a_piece_counted_after_it_is_resolved_is_caught() {
    is_caught(Variant::CountedAfterResolve, run_many);
}

#[test]
fn a_table_looked_up_before_busy_is_caught() {
    is_caught(Variant::TableBeforeBusy, run_many);
}

#[test]
fn a_grace_before_busy_is_caught() {
    is_caught(Variant::GraceBeforeBusy, run_many);
}

#[test]
fn a_grace_that_sees_one_epoch_is_caught() {
    is_caught(Variant::Unseen(0), run_many);
    is_caught(Variant::Unseen(1), run_many);
}

/// Two writers, each of which always has a piece under way until the grace has passed.
fn run_crowd(variant: Variant) {
    let world = World::new(variant, 2);
    let workers: Vec<_> = (0..2)
        .map(|queue| {
            let world = world.clone();
            thread::spawn(move || {
                let mut held = world.pieces.begin(queue, SECTOR, true);
                while world.done.load(SeqCst) == 0 {
                    let next = world.pieces.begin(queue, SECTOR, true);
                    let _tell = world.pieces.end(std::mem::replace(&mut held, next));
                    thread::yield_now();
                }
                let _tell = world.pieces.end(held);
            })
        })
        .collect();
    let mut grace = Grace::new();
    for _ in 0..3 {
        let id = grace.begin(&world.pieces, SECTOR, true);
        while !grace.passed(&world.pieces, id) {
            thread::yield_now();
        }
    }
    world.done.store(1, SeqCst);
    workers.into_iter().for_each(|worker| worker.join().expect("a writer failed"));
    assert!(world.pieces.quiet(), "every piece has ended");
}

#[test]
fn a_grace_passes_beside_a_crowd_of_later_pieces() {
    explore(RandomScheduler::new_from_seed(12, 500), || run_crowd(Variant::Sound));
}

#[test]
fn a_grace_that_a_crowd_starves_is_caught() {
    let starved =
        || explore(RandomScheduler::new_from_seed(12, 4), || run_crowd(Variant::OneEpoch));
    assert!(catch_unwind(AssertUnwindSafe(starved)).is_err());
}

/// A piece that never comes back holds up no grace that was looked at before it began, whatever
/// else that grace waits for; and every later one of its bucket and kind.
#[test]
fn a_stuck_piece_holds_up_later_graces_only() {
    explore(RandomScheduler::new_from_seed(13, 1), || {
        let world = World::new(Variant::Sound, 2);
        let mut grace = Grace::new();
        let begin = |queue| world.pieces.begin(queue, SECTOR, true);
        let earlier = begin(0);
        let first = grace.begin(&world.pieces, SECTOR, true);
        assert!(!grace.passed(&world.pieces, first), "a piece begun before it is under way");
        let stuck = begin(1);
        assert!(world.pieces.end(earlier), "a grace waits for it");
        assert!(grace.passed(&world.pieces, first), "nothing begun before it is under way");
        let second = grace.begin(&world.pieces, SECTOR, true);
        let other_kind = grace.begin(&world.pieces, SECTOR, false);
        let elsewhere = grace.begin(&world.pieces, SECTOR + pieces::BUCKET_SECTORS, true);
        for _ in 0..3 {
            assert!(!grace.passed(&world.pieces, second));
        }
        assert!(grace.passed(&world.pieces, other_kind));
        assert!(grace.passed(&world.pieces, elsewhere));
        assert!(world.pieces.end(stuck), "a grace waits for it");
        assert!(grace.passed(&world.pieces, second));
        assert!(world.pieces.quiet());
    });
}
