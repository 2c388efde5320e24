// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files through the page cache, and descriptors whose changes fail.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::*;

fn geometry(backing: Backing) -> Geometry {
    Geometry {
        sectors: 64,
        logical_block: 512,
        physical_block: 4096,
        can_discard: false,
        can_write_zeroes: false,
        read_only: false,
        backing,
    }
}

fn file(writable: bool) -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(32 << 10).unwrap();
    let file = File::options().read(true).write(writable).open(&path).unwrap();
    (dir, file.into())
}

#[test]
fn buffered_files_read_back_from_the_device() {
    let (_dir, fd) = file(true);
    let (raw, geo) = (RawFile::new(fd, Backing::Buffered, 1), geometry(Backing::Buffered));
    raw.write(&geo, &[7; 1024], 512, false).unwrap();
    raw.flush().unwrap();
    let mut back = [0; 1024];
    raw.read_uncached(&geo, &mut back, 512).unwrap();
    assert_eq!(back, [7; 1024]);
    assert!(!raw.has_failed());
}

#[test]
fn what_the_page_cache_has_is_read_at_once_and_nothing_else() {
    let (_dir, fd) = file(true);
    let (raw, geo) = (RawFile::new(fd, Backing::Buffered, 1), geometry(Backing::Buffered));
    raw.write(&geo, &[7; 1024], 512, false).unwrap();
    let mut back = [0; 1024];
    raw.read(&geo, &mut back, 512).unwrap();
    if raw.manner(&geo) == Manner::Inline {
        let mut now = [0; 1024];
        assert_eq!(raw.read_now(&geo, &mut now, 512), Some(Ok(())));
        assert_eq!(now, back);
    }
    assert_eq!(raw.write_now(&geo, &back, 512, false), None, "a write is synced: it waits");
    assert_eq!(raw.read_now(&geo, &mut back, 32 << 10), None, "behind the end");
    raw.note(Err(Class::Io)).unwrap_err();
    assert_eq!(raw.read_now(&geo, &mut back, 512), None, "out of service");
}

#[test]
fn one_failed_write_through_the_page_cache_is_the_last() {
    let (_dir, fd) = file(false);
    let (raw, geo) = (RawFile::new(fd, Backing::Buffered, 1), geometry(Backing::Buffered));
    let mut buf = [0; 512];
    assert_eq!(raw.read(&geo, &mut buf, 0), Ok(()));
    assert!(raw.write(&geo, &buf, 0, false).is_err());
    assert!(raw.has_failed());
    assert_eq!(raw.read(&geo, &mut buf, 0), Err(Class::Offline));
    assert_eq!(raw.write(&geo, &buf, 0, false), Err(Class::Offline));
    assert_eq!(raw.flush(), Err(Class::Offline));
}

#[test]
fn one_failed_sync_through_the_page_cache_is_the_last() {
    // A pipe cannot be synced.
    let (fd, _other) = rustix::pipe::pipe().unwrap();
    let (raw, geo) = (RawFile::new(fd, Backing::Buffered, 1), geometry(Backing::Buffered));
    assert!(raw.flush().is_err());
    assert_eq!(raw.flush(), Err(Class::Offline));
    assert_eq!(raw.write(&geo, &[0; 512], 0, true), Err(Class::Offline));
}

#[test]
fn a_direct_file_goes_on_after_a_failure() {
    let (_dir, fd) = file(false);
    let (raw, geo) = (RawFile::new(fd, Backing::Direct, 512), geometry(Backing::Direct));
    let mut buf = [0; 512];
    assert!(raw.write(&geo, &buf, 0, false).is_err());
    assert_eq!(raw.read(&geo, &mut buf, 0), Ok(()));
}
