// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume on real devices: what fails is moved or reported, and is there after a reopen.

mod common;

use std::sync::Arc;

use common::{Bench, accept, ask, begin, flush, original, read, superblock, write};
use dmremap_core::{Class, Done, Event, Kind, Reason, message};
use dmremap_engine::{
    BadRun, Device, ErrorClass, FormatOptions, Manner, MemoryDevice, Request, Volume, VolumeError,
    VolumeOptions, format,
};
use dmremap_format::{Header, HeaderMut, PAGE_BYTES, Session, Uuid};

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
fn requests_go_in_the_manner_these_tests_are_about() {
    let wanted = common::manner().unwrap_or(Manner::Threads);
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    if wanted == Manner::Ring && volume.manners() != [wanted; 2] {
        let test = concat!(module_path!(), "::requests_go_in_the_manner_these_tests_are_about");
        return common::skip(test, "no io_uring, or no O_DIRECT where tests have their files");
    }
    assert_eq!(volume.manners(), [wanted; 2]);
    assert_eq!(write(&volume, 8, 8, 1), []);
    assert_eq!(read(&volume, 8, 8).1, []);
    let brought = bench.faulty_main.brought.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(brought, if wanted == Manner::Threads { 0 } else { 2 });
}

#[test]
fn memory_that_o_direct_does_not_take_goes_another_way() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    let (sender, replies) = std::sync::mpsc::channel();
    for kind in [Kind::Write, Kind::Read] {
        let bytes = vec![if kind == Kind::Write { 7 } else { 0 }; 3 << 20];
        // A large vector begins behind what the allocator keeps of it.
        let data = Box::new(bytes);
        let request = Request { kind, sector: 2040, sectors: 6144, fua: true, data };
        let sender = sender.clone();
        volume.submit(request, Box::new(move |reply| sender.send(reply).unwrap()));
        let reply = replies.recv().unwrap();
        assert_eq!(reply.bad, []);
        assert!(reply.data.bytes().iter().all(|byte| *byte == 7));
    }
}

#[test]
fn failure_9_08_the_table_is_there_before_the_first_request_after_any_end() {
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
fn failure_9_02_unreadable_blocks_are_errors_until_they_are_written() {
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
    // A disk takes its time: fewer sizes there.
    let stride = if common::manner().is_some() { 5 } else { 1 };
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
            for len in (step..=80).step_by(step as usize * stride) {
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
fn failure_9_12_another_volume_or_main_is_refused_and_nothing_written() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let before = (bench.main.content(), bench.spare.content());
    let refuse = |options: &VolumeOptions| bench.try_open(options).err().expect("refused");
    assert!(matches!(refuse(&VolumeOptions::default()), VolumeError::Main { .. }));
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
        let (_, module) = concat!(module_path!(), "::").split_once("::").unwrap();
        let name = format!("{module}opens_and_closes_leak_neither_threads_nor_descriptors");
        let child = std::process::Command::new(me)
            .args(["--exact", &name, "--test-threads=1"])
            .env("DMREMAP_LEAK_CHILD", "1")
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && out.contains("1 passed"), "{out}");
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

#[test]
fn main_and_spare_must_be_two_devices() {
    let disk: Arc<dyn Device> = Arc::new(MemoryDevice::new(SPARE));
    let error = format(&disk, &disk, &FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::SameDevice { .. }), "{error}");
}

#[test]
fn format_refuses_what_it_would_destroy() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let (main, spare) = bench.devices();
    let before = bench.spare.content();
    let again = |options: &FormatOptions| format(&main, &spare, options);
    let error = again(&FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::OldVolume { .. }), "{error}");
    let forced = FormatOptions { force_volume: true, ..FormatOptions::default() };
    let dry = FormatOptions { dry_run: true, ..forced.clone() };
    assert!(again(&dry).is_ok() && bench.spare.content() == before);
    let formatted = again(&forced).unwrap();
    assert_eq!(bench.open().info().volume, formatted.volume);

    let foreign = MemoryDevice::with_content(
        [superblock(1), vec![0; (SPARE as usize - 8) * 512]].concat(),
        512,
    );
    let foreign: Arc<dyn Device> = Arc::new(foreign);
    let error = format(&main, &foreign, &FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::Occupied { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    let small: Arc<dyn Device> = Arc::new(MemoryDevice::new(11_264));
    let error = format(&main, &small, &FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::Layout { .. }), "{error}");
    let coarse: Arc<dyn Device> =
        Arc::new(MemoryDevice::with_content(vec![0; SPARE as usize * 512], 4096));
    let error = format(&main, &coarse, &FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::BlockSize { .. }), "{error}");
    assert!(bench.main.content() == original(0, MAIN as u32), "main is never written");
}

#[test]
fn a_format_over_a_bad_copy_fails_and_leaves_no_volume() {
    let bench = Bench::new(MAIN, SPARE, 512);
    bench.spare_fails(&[(4096, 8, "write")]);
    let (main, spare) = bench.devices();
    let error = format(&main, &spare, &FormatOptions::default()).unwrap_err();
    assert!(matches!(error, VolumeError::Format { .. }), "{error}");
    let error = bench.try_open(&accept()).err().expect("refused");
    assert!(matches!(error, VolumeError::Metadata { .. }), "{error}");
}

#[test]
fn another_host_is_refused_and_a_crash_of_this_one_is_not() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    bench.open().abandon();
    assert!(bench.try_open(&accept()).is_ok(), "this host crashed");
    // The same headers, as another host would have left them.
    for sector in [0u64, 1024, 2048, 4096, 8192] {
        let mut page = Box::new([0; PAGE_BYTES]);
        bench.spare.read_at(&mut page[..], sector * 512).unwrap();
        let header = Header::of_image(&page);
        let (copy, stamp) = (header.copy(), header.stamp());
        let foreign = Session { host: Uuid([9; 16]), ..header.session() };
        let mut header = HeaderMut::edit(&mut page);
        header.set_session(&foreign);
        header.seal(copy, stamp);
        bench.spare.write_at(&page[..], sector * 512, true).unwrap();
    }
    let error = bench.try_open(&accept()).err().expect("refused");
    assert!(matches!(error, VolumeError::OtherHost { .. }), "{error}");
    let forced = VolumeOptions { force_in_use: true, ..accept() };
    assert!(bench.try_open(&forced).unwrap().close());
    assert!(bench.try_open(&accept()).is_ok());
}

#[test]
fn messages_move_units_and_bring_them_home() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    let say = |words: &str| volume.act(message::parse(words).unwrap());
    let Done::Remapped { spare_sector, pending: 0 } = say("remap 804") else {
        panic!("not remapped")
    };
    assert_eq!(write(&volume, 804, 1, 5), []);
    let content = bench.spare.content();
    assert_eq!(content[(spare_sector as usize + 4) * 512..][..512], [5; 512]);
    let mut runs = Vec::new();
    volume.runs(0, |run| {
        runs.push((run.main_sector, run.sectors, run.spare, run.cause));
        true
    });
    assert_eq!(runs, [(800, 8, Some((0, spare_sector)), "remap")]);
    assert_eq!(say("unremap 804"), Done::Unremapped);
    let want = [original(800, 4), vec![5; 512], original(805, 3)].concat();
    assert_eq!(bench.main.content()[800 * 512..808 * 512], want);
    assert_eq!(say("unremap 804"), Done::Failed(Reason::NotRemapped));
    assert!(matches!(say("set read_retries 1"), Done::Saved { .. }));
    assert!(volume.close());
    let settings = bench.open().settings().unwrap();
    assert_eq!(settings.read_retries(), 1);
}

/// A device that counts its reads, and keeps every operation until the test lets it go.
struct Held {
    disk: Arc<dyn Device>,
    reads: std::sync::atomic::AtomicU64,
    gate: (std::sync::Mutex<(bool, u32)>, std::sync::Condvar),
}

impl Held {
    fn new(disk: Arc<dyn Device>) -> Arc<Held> {
        Arc::new(Held { disk, reads: Default::default(), gate: Default::default() })
    }

    fn hold(&self, on: bool) {
        self.gate.0.lock().unwrap().0 = on;
        self.gate.1.notify_all();
    }

    /// Waits until so many operations are held.
    fn wait_held(&self, count: u32) {
        let held = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(held, |(_, held)| *held < count).unwrap());
    }

    fn pass(&self) {
        let mut state = self.gate.0.lock().unwrap();
        state.1 += 1;
        self.gate.1.notify_all();
        state = self.gate.1.wait_while(state, |(on, _)| *on).unwrap();
        state.1 -= 1;
    }
}

impl Device for Held {
    fn geometry(&self) -> dmremap_engine::Geometry {
        self.disk.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.pass();
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.disk.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.pass();
        self.disk.write_at(buf, offset, fua)
    }
    fn flush(&self) -> Result<(), Class> {
        self.pass();
        self.disk.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.pass();
        self.disk.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.pass();
        self.disk.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> dmremap_engine::Identity {
        self.disk.identity()
    }
    fn describe(&self) -> String {
        "held".into()
    }
}

#[test]
fn a_stuck_main_holds_up_neither_the_spare_nor_anything_after_its_answer() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let main = Held::new(bench.main.0.clone());
    let volume = Volume::open(main.clone(), bench.spare.0.clone(), &accept(), |_| {}).unwrap();
    assert!(matches!(volume.act(message::parse("remap 800").unwrap()), Done::Remapped { .. }));
    main.hold(true);
    let stuck: Vec<_> =
        (0..40u64).map(|n| (n, begin(&volume, Kind::Read, n * 8, 8, vec![0; 4096]))).collect();
    main.wait_held(16);
    assert_eq!(read(&volume, 800, 8), (original(800, 8), vec![]), "the spare goes on");
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| volume.close());
        main.hold(false);
        assert!(closing.join().unwrap());
    });
    for (n, answer) in stuck {
        assert_eq!(answer(), (original(n * 8, 8), vec![]), "what came before the close is served");
    }
}

#[test]
fn an_open_reads_ahead_and_falls_back_where_a_run_is_bad() {
    let bench = Bench::new(MAIN, 65_536, 512);
    let spare = Held::new(bench.spare.0.clone());
    let devices: (Arc<dyn Device>, Arc<dyn Device>) = (bench.main.0.clone(), spare.clone());
    let options = FormatOptions { max_entries: Some(126 * 100), ..FormatOptions::default() };
    format(&devices.0, &devices.1, &options).unwrap();
    spare.reads.store(0, std::sync::atomic::Ordering::Relaxed);
    let volume = Volume::open(devices.0, devices.1, &accept(), |_| {}).unwrap();
    let reads = spare.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < 40, "{reads} reads for 510 pages");
    volume.abandon();
    drop(volume);
    bench.spare_fails(&[(16 + 8 * 50, 1, "read"), (1024 + 16 + 8 * 51, 1, "read")]);
    assert!(bench.open().close());
}
