// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The faulty and the recording wrapper.

use std::path::PathBuf;
use std::sync::Arc;

use dmremap_core::Class;
use dmremap_engine::{
    Device, DeviceError, FaultMap, Faulty, Log, LogKind, MemoryDevice, Mode, OpenOptions, Recorder,
    open_device,
};
use proptest::prelude::*;

struct Setup {
    dir: tempfile::TempDir,
    map: PathBuf,
    disk: Arc<MemoryDevice>,
}

impl Setup {
    fn new(map: &str) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, map).unwrap();
        let content = (0..1 << 20).map(|i: usize| (i / 512) as u8).collect();
        let disk = Arc::new(MemoryDevice::with_content(content, 512));
        Setup { dir, map: path, disk }
    }

    fn device(&self) -> Faulty {
        Faulty::new(self.disk.clone(), "faulty", &self.map, Mode::default(), 1024).unwrap()
    }

    /// Replaces the map in one step.
    fn replace(&self, map: &str) {
        let fresh = self.dir.path().join("fresh");
        std::fs::write(&fresh, map).unwrap();
        std::fs::rename(&fresh, &self.map).unwrap();
    }
}

fn read(device: &dyn Device, sector: u64, sectors: usize) -> Result<Vec<u8>, Class> {
    let mut buf = vec![0; sectors * 512];
    device.read_at(&mut buf, sector * 512).map(|()| buf)
}

fn write(device: &dyn Device, sector: u64, sectors: usize, byte: u8) -> Result<(), Class> {
    device.write_at(&vec![byte; sectors * 512], sector * 512, false)
}

#[test]
fn each_mode_fails_as_it_says() {
    let setup = Setup::new(
        "# a mapfile\n0x0 + 1\n0 0x400 +\n0x400 0x400 - # both\n0x800 512 - # read medium\n\
         0xa00 512 * # write target\n0xc00 0x200 / # heal medium\n0xe00 512 - # transient=2\n\
         0x1000 0x1000 ?\n",
    );
    let device = setup.device();
    assert!(read(&device, 0, 2).is_ok() && read(&device, 8, 8).is_ok());
    for sector in [2, 3] {
        assert_eq!(read(&device, sector, 1), Err(Class::Io));
        assert_eq!(write(&device, sector, 1, 9), Err(Class::Io));
    }
    assert_eq!(read(&device, 0, 16), Err(Class::Io));
    assert_eq!(write(&device, 4, 1, 9), Ok(()));
    assert_eq!(read(&device, 4, 1), Err(Class::Medium));
    assert_eq!(write(&device, 5, 1, 9), Err(Class::Target));
    assert_eq!(read(&device, 5, 1), Ok(vec![5; 512]));
    assert_eq!(read(&device, 6, 1), Err(Class::Medium));
    assert_eq!(write(&device, 6, 1, 9), Ok(()));
    assert_eq!(read(&device, 6, 1), Ok(vec![9; 512]));
    assert_eq!(read(&device, 7, 1), Err(Class::Io));
    assert_eq!(write(&device, 7, 1, 9), Err(Class::Io));
    assert_eq!(read(&device, 7, 1), Ok(vec![7; 512]));
}

#[test]
fn a_write_lands_up_to_the_bad_sector() {
    let setup = Setup::new("0x800 0x200 -\n");
    let device = setup.device();
    assert_eq!(write(&device, 2, 8, 0xee), Err(Class::Io));
    assert_eq!(read(&*setup.disk, 2, 2), Ok(vec![0xee; 1024]));
    assert_eq!(read(&*setup.disk, 4, 1), Ok(vec![4; 512]));
    assert_eq!(read(&*setup.disk, 5, 1), Ok(vec![5; 512]));
    assert_eq!(device.write_zeroes(3 * 512, 1024, false), Err(Class::Io));
    assert_eq!(read(&*setup.disk, 3, 1), Ok(vec![0; 512]));
}

#[test]
fn healed_sectors_stay_healed_after_a_reopen() {
    let setup = Setup::new("0x800 0x400 - # heal\n");
    let device = setup.device();
    assert_eq!(write(&device, 4, 1, 9), Ok(()));
    drop(device);
    let device = setup.device();
    assert_eq!(read(&device, 4, 1), Ok(vec![9; 512]));
    assert_eq!(read(&device, 5, 1), Err(Class::Io));
    std::fs::remove_file(setup.dir.path().join("map.healed")).unwrap();
    setup.replace("0x800 0x400 - # heal\n");
    assert_eq!(read(&device, 4, 1), Err(Class::Io));
}

#[test]
fn a_changed_map_is_read_again_and_a_broken_one_is_not_believed() {
    let setup = Setup::new("0x800 0x200 -\n");
    let device = setup.device();
    assert!(read(&device, 8, 1).is_ok());
    setup.replace("0x1000 0x200 -\n");
    assert!(read(&device, 4, 1).is_ok());
    assert_eq!(read(&device, 8, 1), Err(Class::Io));
    setup.replace("what is this\n");
    assert_eq!(read(&device, 8, 1), Err(Class::Io));
    setup.replace("#! outage offline\n");
    assert_eq!(read(&device, 100, 1), Err(Class::Offline));
    assert_eq!(device.flush(), Err(Class::Offline));
    setup.replace("#! flush-fails 1\n");
    assert_eq!(device.flush(), Err(Class::Io));
    assert_eq!(device.flush(), Ok(()));
    assert!(read(&device, 100, 1).is_ok());
}

#[test]
fn transient_failures_are_not_counted_anew_by_another_change() {
    let setup = Setup::new("0x800 0x200 - # transient=2\n");
    let device = setup.device();
    assert_eq!(read(&device, 4, 1), Err(Class::Io));
    setup.replace("0x800 0x200 - # transient=2\n0x1000 0x200 -\n");
    assert_eq!(read(&device, 4, 1), Err(Class::Io));
    assert!(read(&device, 4, 1).is_ok());
}

fn disk_file(setup: &Setup) -> String {
    let path = setup.dir.path().join("disk");
    std::fs::write(&path, vec![0u8; 1 << 20]).unwrap();
    path.to_str().unwrap().to_owned()
}

fn open(spec: &str) -> Result<Arc<dyn Device>, DeviceError> {
    let options = OpenOptions { wait_ms: 0, force_buffered: true, ..OpenOptions::default() };
    open_device(spec, &options)
}

#[test]
fn specs_name_wrappers_and_their_parameters() {
    let setup = Setup::new("4\n");
    let (disk, map) = (disk_file(&setup), setup.map.to_str().unwrap());
    let device = open(&format!("faulty:{disk}?map={map}&block=4096&mode=read,medium")).unwrap();
    assert_eq!(read(&*device, 32, 8), Err(Class::Medium));
    assert_eq!(write(&*device, 32, 8, 1), Ok(()));
    assert!(read(&*device, 24, 8).is_ok() && read(&*device, 40, 8).is_ok());
    drop(device);
    for wrong in [
        format!("faulty:{disk}"),
        format!("faulty:{disk}?mode=read"),
        format!("faulty:{disk}?map={map}&map={map}"),
        format!("faulty:{disk}?map={map}&what=1"),
        format!("faulty:{disk}?map={map}&mode=sometimes"),
        format!("faulty:{disk}?map={map}&block=77"),
        format!("record:{disk}?log="),
    ] {
        let error = open(&wrong).err().unwrap();
        assert!(matches!(error, DeviceError::Spec { .. }), "{wrong}: {error}");
        assert_eq!(error.class().exit_code(), 1);
    }
    let error = open(&format!("faulty:{disk}?map={map}.none")).err().unwrap();
    assert!(matches!(error, DeviceError::Wrapper { line: 0, .. }), "{error}");
    std::fs::write(&setup.map, "1\n2\nthree\n").unwrap();
    let error = open(&format!("faulty:{disk}?map={map}")).err().unwrap();
    assert!(matches!(error, DeviceError::Wrapper { line: 3, .. }), "{error}");
}

#[test]
fn outage_and_flush_files_and_a_cache_that_is_lost() {
    let setup = Setup::new("");
    let (disk, map) = (disk_file(&setup), setup.map.to_str().unwrap());
    let at = |name: &str| setup.dir.path().join(name).to_str().unwrap().to_owned();
    let (outage, flush) = (at("outage"), at("flush"));
    let spec = format!("faulty:{disk}?map={map}&outage={outage}&flush={flush}&cache=volatile");
    let device = open(&spec).unwrap();

    write(&*device, 0, 8, 1).unwrap();
    device.flush().unwrap();
    write(&*device, 0, 8, 2).unwrap();
    device.write_at(&[3; 4096], 4096, true).unwrap();
    assert_eq!(read(&*device, 0, 8), Ok(vec![2; 4096]));
    std::fs::write(&flush, "").unwrap();
    assert_eq!(device.flush(), Err(Class::Io));
    assert_eq!(read(&*device, 0, 8), Ok(vec![1; 4096]), "unflushed: lost");
    assert_eq!(read(&*device, 8, 8), Ok(vec![3; 4096]), "FUA: kept");
    assert_eq!(device.flush(), Ok(()));

    write(&*device, 0, 8, 4).unwrap();
    std::fs::write(&outage, "transport\n").unwrap();
    assert_eq!(read(&*device, 0, 8), Err(Class::Transport));
    assert_eq!(write(&*device, 0, 8, 5), Err(Class::Transport));
    std::fs::remove_file(&outage).unwrap();
    assert_eq!(read(&*device, 0, 8), Ok(vec![1; 4096]));
}

#[test]
fn the_recorder_logs_in_order_in_memory_and_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for log in [Log::memory(), Log::file(&path).unwrap()] {
        let disk = Arc::new(MemoryDevice::new(64));
        let (main, spare) =
            (Recorder::new(disk.clone(), log.clone(), 0), Recorder::new(disk, log.clone(), 1));
        write(&main, 1, 2, 7).unwrap();
        spare.flush().unwrap();
        log.note(42).unwrap();
        assert_eq!(write(&main, 64, 1, 7), Err(Class::NotSupported));
        spare.discard(512, 512).unwrap();
        main.write_zeroes(512, 512, true).unwrap();
        let mut events = log.events();
        if events.is_empty() {
            std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, b"DMLG\0\x01cut short"))
                .unwrap();
            events = Log::read(&path).unwrap();
        }
        let data = |byte: u8, n: usize| vec![byte; n];
        let answered = |good| LogKind::Answered { good };
        let want = [
            (0, 0, LogKind::Write { offset: 512, data: data(7, 1024), fua: false }),
            (0, 0, answered(true)),
            (1, 0, LogKind::Flush),
            (1, 0, answered(true)),
            (255, 42, LogKind::Note { value: 42 }),
            (0, 1, LogKind::Write { offset: 64 * 512, data: data(7, 512), fua: false }),
            (0, 1, answered(false)),
            (1, 1, LogKind::Discard { offset: 512, len: 512 }),
            (1, 1, answered(true)),
            (0, 2, LogKind::WriteZeroes { offset: 512, len: 512, fua: true }),
            (0, 2, answered(true)),
        ];
        let got: Vec<_> = events.into_iter().map(|e| (e.tag, e.op, e.kind)).collect();
        assert_eq!(got, want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A device with any set of bad runs fails exactly the reads and writes that touch one, and
    /// what it takes it gives back.
    #[test]
    fn any_map_fails_what_it_touches_and_nothing_else(
        runs in proptest::collection::vec((0u64..200, 1u64..6, 0usize..3), 0..12),
        tries in proptest::collection::vec((0u64..200, 1usize..20, any::<bool>()), 1..40),
    ) {
        let words = ["both", "read", "write"];
        let mut mode_of = vec![None; 256];
        let mut map = String::from("# generated\n0 ?\n");
        for (sector, sectors, mode) in runs {
            let range = sector as usize..(sector + sectors) as usize;
            if mode_of[range.clone()].iter().any(|m| m.is_some()) {
                continue;
            }
            mode_of[range].fill(Some(mode));
            map.push_str(&format!("{} {} - # {}\n", sector * 512, sectors * 512, words[mode]));
        }
        let setup = Setup::new(&map);
        let device = setup.device();
        let mut model: Vec<u8> = (0..256u32).map(|i| i as u8).collect();
        for (n, (sector, sectors, writes)) in tries.into_iter().enumerate() {
            let range = sector as usize..sector as usize + sectors;
            let spared = if writes { 1 } else { 2 };
            let bad = mode_of[range.clone()].iter().position(|m| m.is_some_and(|m| m != spared));
            if writes {
                let byte = n as u8 ^ 0xa5;
                prop_assert_eq!(write(&device, sector, sectors, byte).is_err(), bad.is_some());
                let landed = bad.unwrap_or(sectors);
                model[range.start..range.start + landed].fill(byte);
            } else {
                let got = read(&device, sector, sectors);
                prop_assert_eq!(got.is_err(), bad.is_some());
                if let Ok(bytes) = got {
                    for (i, sector) in bytes.chunks(512).enumerate() {
                        prop_assert!(sector.iter().all(|b| *b == model[range.start + i]));
                    }
                }
            }
        }
    }

    /// No text makes the parser panic, and what it accepts is in order and does not overlap.
    #[test]
    fn any_text_is_parsed_or_refused(text in "[-0-9a-fx #!?*/+\ttransien=\n]{0,200}") {
        if let Ok(map) = FaultMap::parse(&text, Mode::default(), 1024) {
            for pair in map.runs.windows(2) {
                prop_assert!(pair[0].end() <= pair[1].sector);
            }
        }
    }
}
