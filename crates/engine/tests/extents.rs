// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a volume calls a hole: only what is one in main's file and nothing stands before.

mod common;

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use common::{Bench, accept, ask, begin, read, write};
use dmremap_core::{Class, Done, Kind, message};
use dmremap_engine::{
    Device, Extent, FormatOptions, Geometry, Identity, MemoryDevice, OpenOptions, Volume, format,
    open_device,
};

const MAIN: u64 = 8192;
const SPARE: u64 = 16_384;

/// A main whose file system takes it for one large hole, whatever is written.
struct Hollow(Arc<dyn Device>);

impl Device for Hollow {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.0.write_at(buf, offset, fua)
    }

    fn flush(&self) -> Result<(), Class> {
        self.0.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.0.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.0.write_zeroes(offset, len, fua)
    }

    fn hole(&self, offset: u64, end: u64) -> Option<Range<u64>> {
        Some(offset..end)
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

fn open(bench: &Bench, main: Arc<dyn Device>) -> Volume {
    let (_, spare) = bench.devices();
    Volume::open(main, spare, &accept(), |_| {}).unwrap()
}

/// The sectors that are data, by extents that must cover the range and differ from neighbours.
fn data(volume: &Volume, range: Range<u64>) -> Vec<u64> {
    let extents = volume.extents(range.start, range.end - range.start, usize::MAX);
    assert!(extents.windows(2).all(|pair| pair[0].hole != pair[1].hole), "{extents:?}");
    let mut at = range.start;
    let mut data = Vec::new();
    for Extent { sectors, hole } in extents {
        assert!(sectors > 0);
        if !hole {
            data.extend(at..at + sectors);
        }
        at += sectors;
    }
    assert_eq!(at, range.end);
    data
}

fn say(volume: &Volume, words: &str) -> Done {
    volume.act(message::parse(words).unwrap())
}

#[test]
fn whatever_stands_before_main_is_data_even_where_main_is_a_hole() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let (main, _) = bench.devices();
    let volume = open(&bench, Arc::new(Hollow(main)));
    assert_eq!(data(&volume, 0..MAIN), []);
    // Moved by a write error, by hand, and unreadable.
    bench.main_fails(&[(1003, 2, "write"), (2001, 1, "both medium")]);
    assert_eq!(write(&volume, 1002, 4, 7), []);
    assert_eq!(read(&volume, 2000, 4).1.len(), 1);
    assert!(matches!(say(&volume, "remap 3000"), Done::Remapped { .. }));
    let moved: Vec<u64> = data(&volume, 0..MAIN);
    for sector in (1003..1005).chain([2001]).chain(3000..3008) {
        assert!(moved.contains(&sector), "{sector}");
    }
    assert!(moved.len() <= 8 + 1 + 8, "{moved:?}");
    // Come home, it is what main says again.
    assert!(matches!(say(&volume, "unremap 3000"), Done::Unremapped));
    let home = data(&volume, 0..MAIN);
    assert!(!home.contains(&3000) && home.contains(&1003) && home.contains(&2001));
    assert!(!volume.is_gone(1003) && !volume.is_gone(2001));
    // The first extent alone, and a range that begins and ends anywhere.
    assert_eq!(volume.extents(0, MAIN, 1).len(), 1);
    assert_eq!(data(&volume, 1003..1004), [1003]);
    assert_eq!(volume.extents(0, MAIN, 1)[0].sectors, *home.first().unwrap());
}

#[test]
fn a_main_that_cannot_tell_is_all_data() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let volume = bench.open();
    assert_eq!(volume.extents(8, 4096, 9), [Extent { sectors: 4096, hole: false }]);
}

#[test]
fn an_answered_write_is_data_for_every_question_that_comes_after() {
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.as_file().set_len(MAIN * 512).unwrap();
    file.as_file().write_all_at(&[1; 4096], 4096).unwrap();
    let options = OpenOptions::default();
    let main = open_device(file.path().to_str().unwrap(), &options).unwrap();
    let spare: Arc<dyn Device> =
        Arc::new(MemoryDevice::with_content(vec![0; SPARE as usize * 512], 512));
    format(&main, &spare, &FormatOptions::default()).unwrap();
    let volume = Volume::open(main, spare, &accept(), |_| {}).unwrap();
    assert_eq!(data(&volume, 0..MAIN), Vec::from_iter(8..16));
    assert_eq!(data(&volume, 10..12), [10, 11]);
    for unit in [0_u64, 100, 511, 1023] {
        let sector = unit * 8;
        assert_eq!(write(&volume, sector, 8, 7), []);
        let said = data(&volume, 0..MAIN);
        assert!((sector..sector + 8).all(|sector| said.contains(&sector)), "{unit}");
    }
    // Many at once, with moves to the spare and back between: each is looked for as soon as it has
    // been answered.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                say(&volume, "remap 1600");
                say(&volume, "unremap 1600");
            }
        });
        for unit in 150..350_u64 {
            begin(&volume, Kind::Write, unit * 8, 8, vec![9; 4096])();
            let said = data(&volume, unit * 8..unit * 8 + 8);
            assert_eq!(said.len(), 8, "{unit}");
            if unit >= 200 {
                assert_eq!(data(&volume, 1600..1608).len(), 8, "{unit}");
            }
            if unit == 199 {
                assert_eq!(write(&volume, 1600, 8, 3), []);
            }
        }
    });
    // What is given back is a hole, and reads as zeros.
    assert_eq!(ask(&volume, Kind::Discard, 100 * 8, 8, vec![]).1, []);
    assert_eq!(data(&volume, 796..810), []);
    assert_eq!(read(&volume, 100 * 8, 8), (vec![0; 4096], vec![]));
}
