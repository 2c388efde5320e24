// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rules for image files (DESIGN 8), on a disk's file system and on tmpfs.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use dmremap_core::Class;
use dmremap_engine::{
    Backing, Device, DeviceError, ErrorClass, Manner, Next, OpenOptions, open_device,
};

fn quick() -> OpenOptions {
    OpenOptions { wait_ms: 0, ..OpenOptions::default() }
}

/// A directory on the disk and one on tmpfs; the latter only where it is one.
fn places() -> Vec<(tempfile::TempDir, bool)> {
    let disk = std::env::var_os("CARGO_TARGET_TMPDIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let mut places = vec![(tempfile::tempdir_in(disk).unwrap(), false)];
    if Path::new("/dev/shm").is_dir() {
        places.push((tempfile::tempdir_in("/dev/shm").unwrap(), true));
    }
    places
}

fn image(dir: &Path, name: &str, bytes: u64) -> String {
    let path = dir.join(name);
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Opens for tests that do not care how: the disk's file system may have no O_DIRECT.
fn any(spec: &str) -> std::sync::Arc<dyn Device> {
    open_device(spec, &OpenOptions { force_buffered: true, ..quick() }).unwrap()
}

#[test]
fn each_kind_of_file_is_served_in_the_manner_that_suits_it() {
    for (dir, tmpfs) in places() {
        let device = any(&image(dir.path(), "disk", 1 << 20));
        let (mut buf, manner) = (vec![1u8; 4096], device.manner());
        if tmpfs {
            assert_eq!(manner, Manner::Inline);
            assert_eq!(device.write_now(&[7; 4096], 4096, true), Some(Ok(())));
            assert_eq!(device.read_now(&mut buf, 4096), Some(Ok(())));
            assert_eq!(buf, [7; 4096]);
            assert_eq!(device.read_now(&mut buf, 1 << 20), Some(Err(Class::NotSupported)));
            assert!(device.direct().is_none());
        } else if device.geometry().backing == Backing::Direct {
            assert_ne!(manner, Manner::Inline, "a read with O_DIRECT waits for the disk");
            assert_eq!(device.read_now(&mut buf, 0), None);
            assert_eq!(device.write_now(&buf, 0, false), None);
            assert_eq!(buf, [1; 4096]);
            assert!(device.direct().is_some());
        }
    }
}

#[test]
fn bytes_come_back_whatever_the_memory_alignment() {
    for (dir, tmpfs) in places() {
        let path = image(dir.path(), "disk", 4 << 20);
        let device = any(&path);
        assert_eq!(device.geometry().backing == Backing::Memory, tmpfs);
        let block = u64::from(device.logical_block());
        for shift in [0usize, 1, 3, 512] {
            // Longer than the aligned buffer, so that both its parts are used.
            let len = (1usize << 20) + 3 * block as usize;
            let mut memory = vec![0u8; len + shift];
            for (i, byte) in memory.iter_mut().enumerate() {
                *byte = (i * 7 + shift) as u8;
            }
            device.write_at(&memory[shift..], block, shift == 1).unwrap();
            device.flush().unwrap();
            let mut back = vec![0u8; len + shift];
            device.read_at(&mut back[shift..], block).unwrap();
            assert_eq!(back[shift..], memory[shift..]);
            back.fill(0);
            device.read_uncached(&mut back[shift..], block).unwrap();
            assert_eq!(back[shift..], memory[shift..]);
        }
        let mut raw = vec![0u8; 16];
        File::open(&path).unwrap().read_exact_at(&mut raw, block).unwrap();
        assert_eq!(raw[1], 7u8.wrapping_add(0).wrapping_add((512usize % 256) as u8));
    }
}

#[test]
fn only_whole_blocks_inside_the_device() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", (64 << 10) + 100);
        let device = any(&path);
        assert_eq!(device.sectors(), 128);
        let mut buf = vec![0u8; 512];
        assert_eq!(device.read_at(&mut buf[..100], 0), Err(Class::NotSupported));
        assert_eq!(device.read_at(&mut buf, 100), Err(Class::NotSupported));
        assert_eq!(device.read_at(&mut buf, 64 << 10), Err(Class::NotSupported));
        assert_eq!(device.write_at(&buf, 64 << 10, false), Err(Class::NotSupported));
        assert_eq!(device.write_at(&buf, u64::MAX - 511, false), Err(Class::NotSupported));
        assert_eq!(device.write_zeroes(64 << 10, 4096, false), Err(Class::NotSupported));
        assert_eq!(device.discard(64 << 10, 4096), Err(Class::NotSupported));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (64 << 10) + 100);
    }
}

#[test]
fn a_short_read_is_an_error() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 64 << 10);
        let device = any(&path);
        File::options().write(true).open(&path).unwrap().set_len(32 << 10).unwrap();
        let mut buf = vec![0xaa; 8192];
        assert_eq!(device.read_at(&mut buf, 32 << 10), Err(Class::Io));
        assert_eq!(device.read_at(&mut buf, 28 << 10), Err(Class::Io));
        assert_eq!(device.read_at(&mut buf, 24 << 10), Ok(()));
    }
}

#[test]
fn block_size_is_512_unless_told() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 1 << 20);
        let own = any(&path).logical_block();
        let asked = |size| {
            let options = OpenOptions { block_size: Some(size), force_buffered: true, ..quick() };
            open_device(&path, &options).map(|device| device.logical_block())
        };
        assert!((512..=4096).contains(&own));
        assert_eq!(asked(4096), Ok(4096));
        for wrong in [0, 256, 513, 3000, 8192] {
            let error = asked(wrong).unwrap_err();
            assert!(matches!(error, DeviceError::BlockSize { asked, .. } if asked == wrong));
            assert_eq!(error.class(), ErrorClass::Usage);
        }
    }
}

#[test]
fn buffered_is_refused_unless_forced() {
    // procfs files are regular and have no O_DIRECT; they are refused before anything is read.
    let path = "/proc/self/status";
    let options = OpenOptions { read_only: true, claim: false, ..quick() };
    match open_device(path, &options) {
        Err(error @ DeviceError::Buffered { .. }) => {
            assert_eq!(error.class().exit_code(), 6);
            assert_eq!(error.next(), Next::With("--force=buffered".into()));
        }
        Err(error) => panic!("refused for another reason: {error}"),
        Ok(_) => panic!("a buffered file was opened without force"),
    }
    // Whoever only looks vouches for nothing: there it is merely empty.
    let looked = open_device(path, &OpenOptions::examine()).err().unwrap();
    assert!(matches!(looked, DeviceError::Empty { .. }), "{looked}");
}

#[test]
fn the_hold_is_exclusive_and_goes_with_the_device() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 1 << 20);
        let options = OpenOptions { force_buffered: true, ..quick() };
        let first = any(&path);
        let error = open_device(&path, &options).err().unwrap();
        assert!(matches!(error, DeviceError::Busy { .. }), "{error}");
        assert_eq!(error.class().exit_code(), 5);
        open_device(&path, &OpenOptions::examine()).unwrap();
        drop(first);
        open_device(&path, &options).unwrap();
    }
}

#[test]
fn a_hold_that_ends_within_the_wait_is_waited_for() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 1 << 20);
        let first = any(&path);
        std::thread::scope(|scope| {
            let patient = OpenOptions { force_buffered: true, wait_ms: 60_000, ..quick() };
            let path = &path;
            let second = scope.spawn(move || open_device(path, &patient).map(|_| ()));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }
}

#[test]
fn zeroes_discards_and_reserve() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 1 << 20);
        let device = any(&path);
        let full = vec![0x5a; 1 << 20];
        device.write_at(&full, 0, false).unwrap();
        for (offset, fua) in [(0, false), (64 << 10, true)] {
            device.write_zeroes(offset, 32 << 10, fua).unwrap();
            let mut back = vec![1u8; 64 << 10];
            device.read_at(&mut back, offset).unwrap();
            assert!(back[..32 << 10].iter().all(|byte| *byte == 0));
            assert!(back[32 << 10..].iter().all(|byte| *byte == 0x5a));
        }
        assert!(device.can_discard());
        device.discard(512 << 10, 256 << 10).unwrap();
        device.flush().unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        assert_eq!(size, 1 << 20);
    }
}

#[test]
fn a_reserved_file_has_all_its_blocks_and_its_content() {
    for (dir, _) in places() {
        let path = image(dir.path(), "spare", 1 << 20);
        assert!(std::fs::metadata(&path).unwrap().blocks() < 64);
        let device = any(&path);
        device.write_at(&[7; 4096], 8192, false).unwrap();
        device.reserve().unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() >= 2048);
        let mut back = [0; 4096];
        device.read_at(&mut back, 8192).unwrap();
        assert_eq!(back, [7; 4096]);
    }
}

#[test]
fn read_only_devices_take_no_change() {
    for (dir, _) in places() {
        let path = image(dir.path(), "disk", 1 << 20);
        let options = OpenOptions { read_only: true, force_buffered: true, ..quick() };
        let device = open_device(&path, &options).unwrap();
        assert!(device.geometry().read_only);
        assert_eq!(device.write_at(&[1; 4096], 0, false), Err(Class::NotSupported));
        assert_eq!(device.write_zeroes(0, 4096, false), Err(Class::NotSupported));
        assert_eq!(device.discard(0, 4096), Err(Class::NotSupported));
        let mut back = [9; 4096];
        device.read_at(&mut back, 0).unwrap();
        assert_eq!(back, [0; 4096]);
    }
}

#[test]
fn what_is_no_device_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let error = |spec: &str| open_device(spec, &quick()).err().unwrap();
    assert!(matches!(error(&at("none")), DeviceError::Missing { .. }));
    assert!(matches!(error(dir.path().to_str().unwrap()), DeviceError::NotADevice { .. }));
    assert!(matches!(error("/dev/null"), DeviceError::NotADevice { .. }));
    let empty = image(dir.path(), "empty", 100);
    let options = OpenOptions { force_buffered: true, ..quick() };
    let error = open_device(&empty, &options).err().unwrap();
    assert!(matches!(error, DeviceError::Empty { bytes: 100, .. }), "{error}");
    assert_eq!(error.class().exit_code(), 4);
}

#[test]
fn a_file_is_proved_by_file_system_inode_and_birth() {
    for (dir, _) in places() {
        let (a, b) = (any(&image(dir.path(), "a", 1 << 20)), any(&image(dir.path(), "b", 1 << 20)));
        let words = |device: &dyn Device| device.identity().hardware();
        assert!(words(&*a).len() == 1 && words(&*a)[0].is_proof(), "{}", a.identity());
        assert_ne!(words(&*a), words(&*b));
        assert_ne!(a.identity().key, b.identity().key);
        std::fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        let (before, key) = (words(&*a), a.identity().key);
        drop(a);
        let again = any(dir.path().join("c").to_str().unwrap());
        assert_eq!((words(&*again), again.identity().key), (before, key));
    }
}
