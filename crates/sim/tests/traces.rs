// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Traces that broke drafts of the design, each as a directed script over many schedules.
//!
//! Invariants checked: those of the oracle, the excuses and the judge at every answer, and what
//! each test says itself.

use dmremap_core::{Class, Dev, Event, Kind};
use dmremap_sim::client::Ask;
use dmremap_sim::fault::{Loss, Outage, Region, RegionMode, SectorFault};
use dmremap_sim::run::read_everything;
use dmremap_sim::script::Held;
use dmremap_sim::world::{Checked, World, fail};

const SPARE: Dev = Dev::Spare(0);

/// Runs a script on a new volume for each of `seeds` schedules.
fn schedules(seeds: u64, units: u64, script: impl Fn(&mut World) -> Checked) {
    for seed in 0..seeds {
        let mut world = match World::scripted(seed, units) {
            Ok(world) => world,
            Err(failure) => panic!("seed {seed}: {}", failure.why),
        };
        if let Err(failure) = script(&mut world) {
            panic!("seed {seed}: {}", failure.why);
        }
    }
}

/// The same on a main so large that what is bad on it is a small part.
fn large(seeds: u64, units: u64, script: impl Fn(&mut World) -> Checked) {
    for seed in 0..seeds {
        let run = World::scripted_on(seed, units, 200_000).and_then(|mut world| script(&mut world));
        if let Err(failure) = run {
            panic!("seed {seed}: {}", failure.why);
        }
    }
}

/// Runs `begin`, lets a crash come after every count of steps up to `most`, opens and reads all.
fn crash_at_every_step(units: u64, most: u64, begin: impl Fn(&mut World) -> Checked) {
    for count in 0..most {
        for power in [false, true] {
            schedules_from(count, units, |world| {
                begin(world)?;
                world.steps(count)?;
                world.check_through_crash(power)
            });
        }
    }
}

fn schedules_from(seed: u64, units: u64, script: impl Fn(&mut World) -> Checked) {
    let run = World::scripted(seed, units).and_then(|mut world| script(&mut world));
    if let Err(failure) = run {
        panic!("step {seed}: {}", failure.why);
    }
}

fn bad(world: &mut World, dev: Dev, sector: u64, fault: SectorFault) {
    world.disk(dev).faults.sectors.insert(sector, fault);
}

fn expect(what: &str, held: bool) -> Checked {
    if held { Ok(()) } else { fail(format!("not so: {what}")) }
}

fn moved(world: &World) -> usize {
    world.events().iter().filter(|e| matches!(e, Event::Moved { .. })).count()
}

#[test]
fn trace_01_a_failed_write_is_judged_by_writing_never_by_reading() {
    schedules(60, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        expect("the write succeeds", w.whole(Kind::Write, 5, 1)?.is_none())?;
        expect("it was moved", w.entries() == 1)?;
        expect("it reads well", w.whole(Kind::Read, 0, 8)?.is_none())?;
        w.check_through_crash(false)
    });
}

#[test]
fn trace_02_two_failed_reads_and_writes_beside_them_all_end() {
    schedules(100, 16, |w| {
        for sector in [5, 900] {
            bad(w, Dev::Main, sector, SectorFault::dead(Class::Io, Class::Io));
        }
        let mut ids = vec![w.begin(Kind::Read, 5, 1)?, w.begin(Kind::Read, 900, 1)?];
        for sector in [4, 5, 896, 900] {
            ids.push(w.begin(Kind::Write, sector, 4)?);
        }
        let begun = w.now;
        for id in ids {
            w.end_of(id)?;
        }
        expect("nobody waited for the limit", w.now - begun < 5_000)?;
        read_everything(w)
    });
}

#[test]
fn trace_03_a_write_beside_a_read_in_recovery_is_not_made_unreadable() {
    schedules(100, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::heals_on_write(Class::Medium));
        let read = w.begin(Kind::Read, 5, 1)?;
        w.steps(w.config.latency_ms * 3)?;
        let write = w.begin(Kind::Write, 5, 1)?;
        w.end_of(read)?;
        expect("the write succeeds", w.end_of(write)?.is_none())?;
        expect("the block reads well", w.whole(Kind::Read, 5, 1)?.is_none())
    });
}

#[test]
fn trace_04_two_failed_writes_of_one_block_take_one_spare_unit() {
    schedules(100, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        let (one, two) = (w.begin(Kind::Write, 5, 1)?, w.begin(Kind::Write, 5, 1)?);
        let read = w.begin(Kind::Read, 5, 1)?;
        for id in [one, two, read] {
            expect("it succeeds", w.end_of(id)?.is_none())?;
        }
        let free = w.session.as_ref().map(|s| s.machine.status().spare_free_units);
        expect("one unit of sixteen is taken", w.entries() == 1 && free == Some(15))
    });
}

#[test]
fn trace_05_one_bad_block_does_not_take_its_neighbours_along() {
    schedules(60, 16, |w| {
        bad(w, Dev::Main, 3, SectorFault::dead(Class::Medium, Class::Io));
        let read = w.begin(Kind::Read, 0, 8)?;
        let write = w.begin(Kind::Write, 4, 2)?;
        expect("the read fails", w.end_of(read)?.is_some())?;
        expect("the neighbour's write succeeds", w.end_of(write)?.is_none())?;
        for sector in [0, 1, 2, 4, 5, 6, 7] {
            expect("a neighbour reads", w.whole(Kind::Read, sector, 1)?.is_none())?;
        }
        expect("the bad one does not", w.whole(Kind::Read, 3, 1)?.is_some())?;
        expect("until it is written", w.whole(Kind::Write, 3, 1)?.is_none())?;
        expect("and then it does", w.whole(Kind::Read, 0, 8)?.is_none())
    });
}

#[test]
fn trace_07_what_is_still_at_a_device_at_the_limit_lands_over_nothing() {
    schedules(60, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::transient(Class::Io, 1));
        w.hold(Held::Write(Dev::Main, 5));
        let first = w.begin(Kind::Write, 5, 1)?;
        w.run_until("it is held", |w| w.is_held(Dev::Main))?;
        w.release();
        // Its repetition by recovery stays at the device for longer than the limit.
        w.hold(Held::Write(Dev::Main, 5));
        expect("it fails at its limit", w.end_of(first)?.is_some())?;
        let later = w.begin(Kind::Write, 5, 1)?;
        w.steps(40)?;
        w.release();
        w.end_of(later)?;
        read_everything(w)?;
        expect("at last it succeeds", w.whole(Kind::Write, 5, 1)?.is_none())?;
        w.check_through_crash(false)
    });
}

#[test]
fn trace_08_recoverys_flush_does_not_swallow_the_clients_failure() {
    schedules(60, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        expect("moved", w.whole(Kind::Write, 5, 1)?.is_none())?;
        expect("written in place", w.whole(Kind::Write, 5, 1)?.is_none())?;
        bad(w, Dev::Main, 900, SectorFault::write_only(Class::Io));
        w.disk(SPARE).faults.failing_flushes = Some((1, Loss::Loses));
        expect("moved as well", w.whole(Kind::Write, 900, 1)?.is_none())?;
        expect("the next client flush fails", w.flush(0)?.is_some())?;
        expect("on every connection", w.flush(1)?.is_some())?;
        expect("once", w.flush(0)?.is_none())?;
        w.check_through_crash(true)
    });
}

#[test]
fn trace_09_a_pulled_spare_condemns_nothing() {
    schedules(40, 16, |w| {
        for sector in [5, 100, 900] {
            bad(w, Dev::Main, sector, SectorFault::write_only(Class::Io));
            expect("moved", w.whole(Kind::Write, sector, 1)?.is_none())?;
        }
        let until = w.now + 8_000;
        w.disk(SPARE).faults.outage = Some(Outage { class: Class::Io, until });
        for sector in [5, 100, 900] {
            w.begin(Kind::Write, sector, 1)?;
            w.begin(Kind::Read, sector, 1)?;
        }
        w.settle()?;
        w.wait_ms(15_000)?;
        let bad = |e: &Event| matches!(e, Event::Quarantined { .. } | Event::Gone { .. });
        expect("nothing is quarantined or gone", !w.events().iter().any(bad))?;
        expect("three entries", w.entries() == 3)?;
        read_everything(w)?;
        w.check_through_crash(false)
    });
}

#[test]
fn trace_10_and_29_a_crash_at_every_step_of_two_moves_in_one_page() {
    crash_at_every_step(16, 120, |w| {
        for sector in [5, 9, 900] {
            bad(w, Dev::Main, sector, SectorFault::write_only(Class::Io));
        }
        for sector in [5, 9, 900] {
            w.request(
                0,
                Ask::Io { kind: Kind::Write, sector, sectors: 1, fua: true, hasty: false },
            )?;
        }
        Ok(())
    });
}

#[test]
fn trace_12_what_a_killed_session_had_sent_lands_before_the_next_one_opens() {
    schedules(60, 16, |w| {
        w.hold(Held::Write(Dev::Main, 5));
        w.begin(Kind::Write, 5, 1)?;
        w.run_until("it is held", |w| w.is_held(Dev::Main))?;
        w.release();
        w.crash_and_open(false)?;
        expect("written anew", w.whole(Kind::Write, 5, 1)?.is_none())?;
        read_everything(w)
    });
}

#[test]
fn trace_13_a_glitch_of_the_cable_moves_nothing() {
    schedules(10, 64, |w| {
        let until = w.now + 2_000;
        w.disk(Dev::Main).faults.outage = Some(Outage { class: Class::Io, until });
        for sector in 0..500 {
            w.begin(Kind::Read, sector * 4, 1)?;
        }
        w.settle()?;
        w.wait_ms(10_000)?;
        expect("nothing is moved", w.entries() == 0 && moved(w) == 0)?;
        let errors = w.counts.errors;
        read_everything(w)?;
        expect("everything reads", w.counts.errors == errors)
    });
}

#[test]
fn trace_14_many_real_errors_are_no_cable_fault() {
    large(4, 220, |w| {
        for sector in (400..1200).step_by(2) {
            bad(w, Dev::Main, sector, SectorFault::dead(Class::Medium, Class::Io));
        }
        for sector in (400..800).step_by(4) {
            expect("moved", w.whole(Kind::Write, sector, 1)?.is_none())?;
            w.whole(Kind::Read, sector + 400, 4)?;
        }
        expect("every unit written to is moved", w.entries() >= 50)?;
        let suspect = |e: &Event| matches!(e, Event::Suspect(_));
        expect("main is not suspect", !w.events().iter().any(suspect))
    });
}

#[test]
fn trace_15_a_large_write_over_a_dead_zone_has_time_while_there_is_room() {
    large(4, 200, |w| {
        for sector in 0..1024 {
            bad(w, Dev::Main, sector, SectorFault::dead(Class::Io, Class::Io));
        }
        expect("the write succeeds", w.whole(Kind::Write, 0, 1024)?.is_none())?;
        expect("all of it is moved", w.entries() == 128)?;
        expect("and reads", w.whole(Kind::Read, 0, 1024)?.is_none())
    });
}

#[test]
fn trace_18_write_zeroes_of_a_moved_or_pending_block_goes_where_its_reads_go() {
    schedules(60, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::dead(Class::Medium, Class::Io));
        expect("unreadable", w.whole(Kind::Read, 5, 1)?.is_some())?;
        expect("zeroed", w.whole(Kind::WriteZeroes, 4, 4)?.is_none())?;
        expect("readable", w.whole(Kind::Read, 0, 8)?.is_none())?;
        expect("zeroed again", w.whole(Kind::WriteZeroes, 0, 16)?.is_none())?;
        expect("discarded with nothing done", w.whole(Kind::Discard, 5, 1)?.is_none())?;
        w.check_through_crash(false)
    });
}

#[test]
fn trace_24_a_crash_at_every_step_of_a_unit_going_home_and_its_spare_unit_reused() {
    crash_at_every_step(1, 160, |w| {
        bad(w, Dev::Main, 5, SectorFault::transient(Class::Io, 2));
        w.request(
            0,
            Ask::Io { kind: Kind::Write, sector: 5, sectors: 1, fua: true, hasty: false },
        )?;
        w.settle()?;
        w.request(0, Ask::Unremap(5))?;
        w.steps(60)?;
        w.request(0, Ask::Remap(900))?;
        Ok(())
    });
}

#[test]
fn trace_26_two_failed_writes_of_one_unit_share_its_spare_unit() {
    schedules(100, 16, |w| {
        for sector in [0, 1] {
            bad(w, Dev::Main, sector, SectorFault::write_only(Class::Io));
        }
        let (one, two) = (w.begin(Kind::Write, 0, 1)?, w.begin(Kind::Write, 1, 1)?);
        expect("the first succeeds", w.end_of(one)?.is_none())?;
        expect("the second succeeds", w.end_of(two)?.is_none())?;
        expect("one entry", w.entries() == 1)?;
        expect("both read", w.whole(Kind::Read, 0, 8)?.is_none())
    });
}

/// A unit with blocks 0 and 1 on the spare, of which 1 has become gone.
fn one_gone(w: &mut World) -> Checked {
    for sector in [0, 1] {
        bad(w, Dev::Main, sector, SectorFault::write_only(Class::Io));
        expect("moved", w.whole(Kind::Write, sector, 1)?.is_none())?;
    }
    let at = w.session.as_ref().map_or(0, |s| s.layout.data_start());
    bad(w, SPARE, at, SectorFault::write_only(Class::Io));
    bad(w, SPARE, at + 1, SectorFault::dead(Class::Medium, Class::Io));
    expect("moved off", w.whole(Kind::Write, 0, 1)?.is_none())?;
    let gone = |e: &Event| matches!(e, Event::Gone { .. });
    expect("block 1 is gone", w.events().iter().any(gone))?;
    expect("it reads as an error", w.whole(Kind::Read, 1, 1)?.is_some())
}

#[test]
fn trace_27_a_write_to_a_gone_block_while_its_unit_is_moved_off() {
    schedules(60, 16, |w| {
        one_gone(w)?;
        let at = w.session.as_ref().map_or(0, |s| s.layout.data_start()) + 8;
        bad(w, SPARE, at, SectorFault::write_only(Class::Io));
        let (off, gone) = (w.begin(Kind::Write, 0, 1)?, w.begin(Kind::Write, 1, 1)?);
        expect("the one succeeds", w.end_of(off)?.is_none())?;
        expect("the gone one too", w.end_of(gone)?.is_none())?;
        expect("both read", w.whole(Kind::Read, 0, 2)?.is_none())?;
        w.check_through_crash(false)?;
        expect("and after a kill", w.whole(Kind::Read, 0, 2)?.is_none())
    });
}

#[test]
fn trace_27_a_crash_at_every_step_of_a_write_to_a_gone_block() {
    crash_at_every_step(16, 60, |w| {
        one_gone(w)?;
        w.request(0, Ask::Io { kind: Kind::Write, sector: 1, sectors: 1, fua: true, hasty: false })
            .map(|_| ())
    });
}

#[test]
fn trace_28_a_sibling_is_not_gone_because_the_cable_dropped() {
    schedules(60, 16, |w| {
        for sector in [0, 1] {
            bad(w, Dev::Main, sector, SectorFault::write_only(Class::Io));
            expect("moved", w.whole(Kind::Write, sector, 1)?.is_none())?;
        }
        let at = w.session.as_ref().map_or(0, |s| s.layout.data_start());
        bad(w, SPARE, at, SectorFault::write_only(Class::Io));
        w.hold(Held::Read(SPARE, at + 1));
        w.begin(Kind::Write, 0, 1)?;
        w.run_until("the sibling is being read", |w| w.is_held(SPARE))?;
        let until = w.now + 1_000;
        w.disk(SPARE).faults.outage = Some(Outage { class: Class::Io, until });
        w.release();
        w.settle()?;
        w.wait_ms(10_000)?;
        let gone = |e: &Event| matches!(e, Event::Gone { .. });
        expect("nothing is gone", !w.events().iter().any(gone))?;
        expect("the sibling reads", w.whole(Kind::Read, 1, 1)?.is_none())
    });
}

#[test]
fn trace_30_the_clients_flush_collects_the_failure_of_recoverys_data() {
    for loss in [Loss::Loses, Loss::Forgets] {
        schedules(60, 16, |w| {
            bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
            w.hold(Held::Flush(SPARE));
            let flush = w.request(0, Ask::Flush)?;
            let write = w.request(
                1,
                Ask::Io { kind: Kind::Write, sector: 5, sectors: 1, fua: true, hasty: false },
            )?;
            w.run_until("a flush is held", |w| w.is_held(SPARE))?;
            w.steps(60)?;
            w.disk(SPARE).faults.failing_flushes = Some((1, loss));
            w.release();
            expect("the client's flush fails", w.end_of(flush)?.is_some())?;
            expect("the write succeeds", w.end_of(write)?.is_none())?;
            w.check_through_crash(true)
        });
    }
}

#[test]
fn trace_32_a_short_outage_moves_nothing() {
    schedules(100, 16, |w| {
        let lasts = 20 + w.rng.below(200);
        let until = w.now + lasts;
        w.disk(Dev::Main).faults.outage = Some(Outage { class: Class::Io, until });
        let write = w.begin(Kind::Write, 5, 1)?;
        expect("the write succeeds in the end", w.end_of(write)?.is_none())?;
        expect("where it was", w.entries() == 0)
    });
}

#[test]
fn trace_33_with_the_spare_full_a_block_that_lives_there_never_goes_to_main() {
    schedules(60, 1, |w| {
        bad(w, Dev::Main, 5, SectorFault::transient(Class::Io, 2));
        expect("moved", w.whole(Kind::Write, 5, 1)?.is_none())?;
        let at = w.session.as_ref().map_or(0, |s| s.layout.data_start());
        bad(w, SPARE, at + 5, SectorFault::write_only(Class::Io));
        let before = w.disks[0].peek(5);
        expect("there is no other place", w.whole(Kind::Write, 5, 1)?.is_some())?;
        expect("it reads from the spare", w.whole(Kind::Read, 5, 1)?.is_none())?;
        expect("main was left alone", w.disks[0].peek(5) == before)?;
        w.check_through_crash(false)
    });
}

#[test]
fn trace_35_a_stick_that_lies_gets_no_entry() {
    schedules(60, 16, |w| {
        let at = w.session.as_ref().map_or(0, |s| s.layout.data_start());
        w.disk(SPARE).faults.regions.push(Region {
            start: at,
            sectors: 16,
            mode: RegionMode::Drops,
        });
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        expect("the write succeeds", w.whole(Kind::Write, 5, 1)?.is_none())?;
        let lied = |e: &Event| matches!(e, Event::ReadBackDiffers { .. });
        expect("it was noticed", w.events().iter().any(lied))?;
        expect("it reads", w.whole(Kind::Read, 5, 1)?.is_none())?;
        w.flush(0)?;
        w.flush(0)?;
        w.check_through_crash(true)
    });
}

#[test]
fn trace_36_a_flush_counts_only_for_writes_answered_before_it_began() {
    schedules(100, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        expect("moved", w.whole(Kind::Write, 5, 1)?.is_none())?;
        expect("written in place", w.whole(Kind::Write, 5, 1)?.is_none())?;
        w.hold(Held::Flush(SPARE));
        let first = w.request(0, Ask::Flush)?;
        w.run_until("the flush is held", |w| w.is_held(SPARE))?;
        let write = w.begin(Kind::Write, 5, 1)?;
        w.end_of(write)?;
        w.release();
        w.end_of(first)?;
        expect("the second flush is good", w.flush(0)?.is_none())?;
        w.check_through_crash(true)
    });
    // The same over a kill: every open begins with something unflushed.
    schedules(100, 16, |w| {
        bad(w, Dev::Main, 5, SectorFault::write_only(Class::Io));
        expect("moved", w.whole(Kind::Write, 5, 1)?.is_none())?;
        expect("written in place", w.whole(Kind::Write, 5, 1)?.is_none())?;
        w.crash_and_open(false)?;
        expect("the flush is good", w.flush(0)?.is_none())?;
        w.check_through_crash(true)
    });
}

#[test]
fn trace_37_of_two_flushes_under_way_neither_is_good_if_one_device_flush_fails() {
    schedules(100, 16, |w| {
        expect("written", w.whole(Kind::Write, 5, 1)?.is_none())?;
        w.disk(Dev::Main).faults.failing_flushes = Some((1, Loss::Loses));
        w.hold(Held::Flush(Dev::Main));
        let one = w.request(0, Ask::Flush)?;
        w.run_until("a flush is held", |w| w.is_held(Dev::Main))?;
        let two = w.request(1, Ask::Flush)?;
        w.release();
        expect("the one fails", w.end_of(one)?.is_some())?;
        expect("the other fails", w.end_of(two)?.is_some())?;
        expect("the next is good", w.flush(0)?.is_none())
    });
}
