// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: the permitted fault model at the head of [`super`], point by point.

use super::*;
use crate::content::data_contents;
use crate::fault::{Outage, Region, RegionMode, SectorFault};

fn disk() -> Disk {
    Disk::new(Dev::Main, 64, |sector| Content::Data { sector, version: 1 })
}

fn version(disk: &Disk, sector: u64) -> Version {
    match disk.peek(sector) {
        Content::Data { version, .. } => version,
        other => panic!("sector {sector} holds {other:?}"),
    }
}

fn send(disk: &mut Disk, command: Command) -> CommandId {
    disk.send(command, Origin::Client, 0, 0)
}

fn write(sector: u64, sectors: u32, version: Version, fua: bool) -> Command {
    Command::Write { sector, data: data_contents(sector, sectors, version), fua }
}

fn run(disk: &mut Disk, command: Command, rng: &mut Rng) -> Ending {
    let id = send(disk, command);
    disk.effect(id, 0, rng);
    disk.answer(id).expect("it took effect").1
}

#[test]
fn what_was_flushed_survives_every_power_cut() {
    for seed in 0..200 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        assert!(run(&mut disk, write(0, 8, 2, false), &mut rng).is_ok());
        assert!(run(&mut disk, Command::Flush, &mut rng).is_ok());
        assert!(run(&mut disk, write(0, 8, 3, false), &mut rng).is_ok());
        disk.power_cut(0, &mut rng);
        assert!((0..8).all(|s| matches!(version(&disk, s), 2 | 3)), "seed {seed}");
    }
}

#[test]
fn a_power_cut_tears_commands_and_loses_what_was_cached() {
    let mut seen = [0; 3];
    for seed in 0..200 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        assert!(run(&mut disk, write(0, 8, 2, false), &mut rng).is_ok());
        disk.power_cut(0, &mut rng);
        let new = (0..8).filter(|s| version(&disk, *s) == 2).count();
        seen[if new == 0 {
            0
        } else if new == 8 {
            2
        } else {
            1
        }] += 1;
    }
    assert!(seen[1] > 100, "torn in {} of 200", seen[1]);
}

#[test]
fn fua_and_write_through_survive() {
    for seed in 0..100 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        disk.write_through = seed % 2 == 0;
        assert!(run(&mut disk, write(8, 8, 2, seed % 2 == 1), &mut rng).is_ok());
        disk.power_cut(0, &mut rng);
        assert!((8..16).all(|s| version(&disk, s) == 2), "seed {seed}");
    }
}

#[test]
fn a_flush_owes_nothing_to_a_write_answered_after_it_was_sent() {
    let mut lost = 0;
    for seed in 0..200 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        let early = send(&mut disk, write(0, 1, 2, false));
        disk.effect(early, 0, &mut rng);
        let flush = send(&mut disk, Command::Flush);
        assert!(disk.answer(early).is_some());
        disk.effect(flush, 0, &mut rng);
        disk.power_cut(0, &mut rng);
        lost += u32::from(version(&disk, 0) == 1);
    }
    assert!(lost > 20, "never lost");
}

#[test]
fn a_failed_write_lands_in_part_at_once_late_or_never() {
    let (mut early, mut late, mut never) = (0, 0, 0);
    for seed in 0..300 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        disk.faults.sectors.insert(3, SectorFault::write_only(Class::Io));
        assert_eq!(run(&mut disk, write(2, 2, 2, false), &mut rng), Err(Class::Io));
        let at_once = version(&disk, 3) == 2;
        while disk.land_late(&mut rng) {}
        match (at_once, version(&disk, 3) == 2) {
            (true, _) => early += 1,
            (false, true) => late += 1,
            (false, false) => never += 1,
        }
    }
    assert!(early > 30 && late > 30 && never > 30, "{early} {late} {never}");
}

#[test]
fn a_late_write_never_lands_over_a_later_one() {
    for seed in 0..300 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        disk.faults.sectors.insert(3, SectorFault::transient(Class::Io, 1));
        assert!(run(&mut disk, write(3, 1, 2, false), &mut rng).is_err());
        assert!(run(&mut disk, write(3, 1, 3, false), &mut rng).is_ok());
        while disk.land_late(&mut rng) {}
        assert_eq!(version(&disk, 3), 3, "seed {seed}");
    }
}

#[test]
fn sector_faults_fail_heal_and_pass() {
    let (mut disk, mut rng) = (disk(), Rng::new(1));
    let read = Command::Read { sector: 0, sectors: 8 };
    disk.faults.sectors.insert(5, SectorFault::heals_on_write(Class::Medium));
    assert_eq!(run(&mut disk, read.clone(), &mut rng), Err(Class::Medium));
    assert!(disk.failed_reads.contains(&5) && disk.failed_reads.len() == 1);
    assert!(run(&mut disk, write(5, 1, 2, false), &mut rng).is_ok());
    assert!(run(&mut disk, read.clone(), &mut rng).is_ok());
    assert!(disk.failed_reads.is_empty());
    disk.faults.sectors.insert(6, SectorFault::transient(Class::Io, 2));
    let good: Vec<bool> = (0..3).map(|_| run(&mut disk, read.clone(), &mut rng).is_ok()).collect();
    assert_eq!(good, [false, false, true]);
}

#[test]
fn regions_drop_misplace_and_addresses_wrap() {
    let (mut disk, mut rng) = (disk(), Rng::new(1));
    let region = |start, mode| Region { start, sectors: 8, mode };
    disk.faults.regions.push(region(0, RegionMode::Drops));
    disk.faults.regions.push(region(8, RegionMode::Misplaces(4)));
    assert!(run(&mut disk, write(0, 1, 2, false), &mut rng).is_ok());
    assert!(run(&mut disk, write(8, 1, 2, false), &mut rng).is_ok());
    assert_eq!((version(&disk, 0), version(&disk, 8)), (1, 1));
    assert_eq!(disk.peek(12), Content::Data { sector: 8, version: 2 });
    disk.faults.wrap = Some((32, 16));
    assert!(run(&mut disk, write(40, 1, 3, false), &mut rng).is_ok());
    assert_eq!(disk.peek(24), Content::Data { sector: 40, version: 3 });
}

#[test]
fn a_failed_flush_loses_what_was_answered_and_says_what() {
    let mut told = 0;
    for seed in 0..50 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        assert!(run(&mut disk, write(0, 1, 2, false), &mut rng).is_ok());
        disk.faults.failing_flushes = Some((1, Loss::Loses));
        assert_eq!(run(&mut disk, Command::Flush, &mut rng), Err(Class::Io));
        let lost = disk.lost.iter().any(|l| l.sector == 0 && l.version == 2);
        assert_eq!(lost, version(&disk, 0) == 1, "seed {seed}");
        told += u32::from(lost);
        assert!(run(&mut disk, Command::Flush, &mut rng).is_ok());
    }
    assert!(told > 10);
}

#[test]
fn an_outage_fails_everything_and_ends() {
    let (mut disk, mut rng) = (disk(), Rng::new(1));
    disk.faults.outage = Some(Outage { class: Class::Transport, until: 5 });
    assert_eq!(run(&mut disk, Command::Flush, &mut rng), Err(Class::Transport));
    let id = send(&mut disk, Command::Flush);
    disk.effect(id, 5, &mut rng);
    assert!(disk.answer(id).is_some_and(|(_, ending)| ending.is_ok()));
    disk.vanished = true;
    assert_eq!(run(&mut disk, Command::Flush, &mut rng), Err(Class::Offline));
}

#[test]
fn a_kill_keeps_what_was_answered_and_finishes_or_drops_the_rest() {
    let (mut landed, mut dropped) = (0, 0);
    for seed in 0..200 {
        let (mut disk, mut rng) = (disk(), Rng::new(seed));
        assert!(run(&mut disk, write(0, 1, 2, false), &mut rng).is_ok());
        send(&mut disk, write(8, 1, 3, false));
        disk.abandon(0, &mut rng);
        assert_eq!(version(&disk, 0), 2, "seed {seed}");
        assert!(disk.inflight().is_empty());
        if version(&disk, 8) == 3 { landed += 1 } else { dropped += 1 }
    }
    assert!(landed > 20 && dropped > 10, "{landed} {dropped}");
}
