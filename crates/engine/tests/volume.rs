// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume on real devices: what fails is moved or reported, and is there after a reopen.

mod common;

use common::{Bench, accept, ask, flush, original, read, write};
use dmremap_core::{Class, Event, Kind};
use dmremap_engine::{BadRun, ErrorClass, VolumeError, VolumeOptions};

const MAIN: u64 = 8192;
const SPARE: u64 = 16_384;

#[test]
fn a_volume_shows_main_as_it_is() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    assert_eq!(read(&volume, 0, MAIN as u32), (original(0, MAIN as u32), vec![]));
    assert_eq!(write(&volume, 100, 50, 7), []);
    assert_eq!(flush(&volume), Ok(()));
    assert!(volume.close());
    assert_eq!(bench.main.content()[100 * 512..150 * 512], [7; 50 * 512]);
    let status = bench.open().status().unwrap();
    assert_eq!((status.entries, status.metadata.copies_valid), (0, 5));
}

#[test]
fn a_write_error_is_moved_and_survives_a_clean_and_an_unclean_end() {
    for clean in [true, false] {
        let bench = Bench::formatted(MAIN, SPARE, 512);
        bench.main_fails(&[(1003, 2, "write")]);
        let volume = bench.open();
        assert_eq!(write(&volume, 1000, 8, 0xa1), []);
        let status = volume.status().unwrap();
        assert_eq!((status.entries, status.remaps.automatic), (1, 1));
        let want = [original(992, 8), vec![0xa1; 4096], original(1008, 8)].concat();
        assert_eq!(read(&volume, 992, 24), (want.clone(), vec![]));
        match clean {
            true => assert!(volume.close()),
            false => volume.abandon(),
        }
        drop(volume);
        let volume = bench.open();
        assert_eq!(read(&volume, 992, 24), (want, vec![]));
        assert_eq!(volume.status().unwrap().entries, 1);
        assert!(bench.events().iter().any(|e| matches!(e, Event::Moved { main_sector: 1000, .. })));
    }
}

#[test]
fn unreadable_blocks_are_errors_by_themselves_until_they_are_written() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    bench.main_fails(&[(2001, 1, "both medium"), (2006, 1, "heal medium")]);
    let volume = bench.open();
    let bad = |sector| BadRun { sector, sectors: 1, class: Class::Medium };
    let (data, errors) = read(&volume, 1990, 30);
    assert_eq!(errors, [bad(2001), bad(2006)]);
    for sector in (1990..2020u64).filter(|s| ![2001, 2006].contains(s)) {
        let at = (sector - 1990) as usize * 512;
        assert_eq!(data[at..at + 512], original(sector, 1), "sector {sector}");
    }
    assert_eq!(volume.status().unwrap().pending_blocks, 2);
    assert_eq!(write(&volume, 2001, 1, 0x21), []);
    assert_eq!(write(&volume, 2006, 1, 0x26), []);
    let want = [original(2000, 1), vec![0x21; 512], original(2002, 4), vec![0x26; 512]].concat();
    assert_eq!(read(&volume, 2000, 7), (want.clone(), vec![]));
    assert_eq!(volume.status().unwrap().pending_blocks, 0);
    volume.abandon();
    drop(volume);
    assert_eq!(read(&bench.open(), 2000, 7), (want, vec![]));
}

#[test]
fn requests_of_every_size_over_moved_neighbours() {
    for block in [512u32, 4096] {
        let step = u64::from(block / 512);
        let bench = Bench::formatted(MAIN, SPARE, block);
        let bad = [(64, 8, "write"), (84, 4, "write"), (96, 16, "write"), (2040, 16, "write")];
        bench.main_fails(&bad);
        let volume = bench.open();
        let mut model = original(0, MAIN as u32);
        let mut put = |sector: u64, sectors: u64, byte: u8| {
            assert_eq!(write(&volume, sector, sectors as u32, byte), []);
            model[sector as usize * 512..(sector + sectors) as usize * 512].fill(byte);
        };
        put(56, 64, 1);
        put(2032, 32, 2);
        put(80, 8, 3);
        let expect = |sector: u64, sectors: u64| {
            model[sector as usize * 512..(sector + sectors) as usize * 512].to_vec()
        };
        for start in (48..120).step_by(step as usize) {
            for len in (step..=80).step_by(step as usize) {
                let (data, errors) = read(&volume, start, len as u32);
                assert_eq!(errors, [], "{start}+{len}");
                assert!(data == expect(start, len), "{start}+{len} of blocks of {block}");
            }
        }
        assert_eq!(read(&volume, 2000, 200).0, expect(2000, 200));
        assert!(volume.status().unwrap().entries >= 4);
        assert!(volume.close());
    }
}

#[test]
fn zeroes_and_discards_over_moved_units() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    bench.main_fails(&[(800, 8, "write")]);
    let volume = bench.open();
    assert_eq!(write(&volume, 792, 24, 9), []);
    assert_eq!(ask(&volume, Kind::Discard, 792, 24, vec![]).1, []);
    assert_eq!(read(&volume, 800, 8).0, vec![9; 4096], "a discard never frees an entry");
    assert_eq!(ask(&volume, Kind::WriteZeroes, 792, 24, vec![]).1, []);
    assert_eq!(read(&volume, 792, 24), (vec![0; 24 * 512], vec![]));
    assert_eq!(volume.status().unwrap().entries, 1);
}

#[test]
fn many_writers_at_once_over_many_bad_sectors() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let bad: Vec<(u64, u64, &str)> = (0..60).map(|n| (n * 100 + 3, 2, "write")).collect();
    bench.main_fails(&bad);
    let volume = bench.open();
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let volume = &volume;
            scope.spawn(move || {
                for n in 0..16 {
                    let sector = (thread * 16 + n) * 24;
                    assert_eq!(write(volume, sector, 24, (thread * 16 + n) as u8), []);
                }
            });
        }
    });
    assert_eq!(flush(&volume), Ok(()));
    volume.abandon();
    drop(volume);
    let volume = bench.open();
    for n in 0..256u64 {
        assert_eq!(read(&volume, n * 24, 24), (vec![n as u8; 24 * 512], vec![]), "write {n}");
    }
    assert!(volume.status().unwrap().entries >= 60);
}

#[test]
fn a_lost_flush_is_told_to_every_client_once() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    let (first, second) = (volume.client(), volume.client());
    let flush_of = |client| {
        let (sender, outcome) = std::sync::mpsc::channel();
        volume.flush(client, Box::new(move |result| sender.send(result).unwrap()));
        outcome.recv().unwrap()
    };
    assert_eq!(flush_of(&first), Ok(()));
    bench.set_main_map("#! flush-fails 1\n");
    assert_eq!(flush_of(&first), Err(Class::Io));
    assert_eq!(flush_of(&first), Ok(()));
    assert_eq!(flush_of(&second), Err(Class::Io));
    assert_eq!(flush_of(&second), Ok(()));
    assert_eq!(flush(&volume), Ok(()), "a new client begins behind it");
}

#[test]
fn opens_that_must_be_refused_write_nothing() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let before = (bench.main.content(), bench.spare.content());
    let refuse = |options: &VolumeOptions| bench.try_open(options).err().expect("refused");
    assert!(matches!(refuse(&VolumeOptions::default()), VolumeError::Main { other: false, .. }));
    bench.set_spare_map("0 0x20000 -\n0x80000 0x20000 -\n0x100000 0x20000 -\n0x200000 0x20000 -\n");
    let error = refuse(&accept());
    assert!(matches!(error, VolumeError::Metadata { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Wrong);
    assert!((bench.main.content(), bench.spare.content()) == before);
    let forced = VolumeOptions { force_quorum: true, ..accept() };
    let volume = bench.try_open(&forced).unwrap();
    assert!(!volume.is_writable());
    assert_eq!(read(&volume, 0, 64), (original(0, 64), vec![]));
    assert_eq!(write(&volume, 0, 8, 1)[0].class, Class::NotSupported);
    volume.close();
    assert!((bench.main.content(), bench.spare.content()) == before);
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn opens_and_closes_leak_neither_threads_nor_descriptors() {
    // In a process of its own, since other tests start threads of theirs.
    if std::env::var_os("DMREMAP_LEAK_CHILD").is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "opens_and_closes_leak_neither_threads_nor_descriptors";
        let child = std::process::Command::new(me)
            .args(["--exact", name, "--test-threads=1"])
            .env("DMREMAP_LEAK_CHILD", "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let bench = Bench::formatted(MAIN, SPARE, 512);
    bench.main_fails(&[(1003, 2, "write"), (2000, 1, "both")]);
    let cycle = |n: u64| {
        let volume = bench.open();
        assert_eq!(write(&volume, 1000, 8, n as u8), []);
        assert_eq!(read(&volume, 1000, 8).0, vec![n as u8; 4096]);
        match n % 3 {
            0 => assert!(volume.close()),
            1 => volume.abandon(),
            _ => {}
        }
    };
    cycle(0);
    let before = (count("task"), count("fd"));
    (1..40).for_each(cycle);
    assert_eq!((count("task"), count("fd")), before);
}
