// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Block devices, on loop devices: for root only; elsewhere skipped and said so.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{accept, flush, read, write};
use dmremap_core::Class;
use dmremap_engine::{
    Backing, DeviceError, DeviceKey, FormatOptions, Manner, OpenOptions, Volume, VolumeOptions,
    format, open_device,
};

/// A loop device that goes with its owner.
struct Loop {
    node: String,
    _dir: tempfile::TempDir,
}

impl Loop {
    fn new(bytes: u64, block: u32) -> Option<Loop> {
        let dir = tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let file = dir.path().join("backing");
        std::fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let out = Command::new("losetup")
            .args(["--show", "-f", "-b", &block.to_string()])
            .arg(&file)
            .output();
        match out {
            Ok(out) if out.status.success() => {
                let node = String::from_utf8(out.stdout).unwrap().trim().to_owned();
                Some(Loop { node, _dir: dir })
            }
            Ok(out) => {
                let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
                skip(&format!("no loop device here ({why})"))
            }
            Err(error) => skip(&format!("no losetup here ({error})")),
        }
    }
}

fn skip(why: &str) -> Option<Loop> {
    common::skip("block devices", why);
    None
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.node]).status();
    }
}

fn quick() -> OpenOptions {
    OpenOptions { wait_ms: 0, ..OpenOptions::default() }
}

#[test]
fn block_sizes_content_and_hold() {
    for block in [512u32, 4096] {
        let Some(disk) = Loop::new(8 << 20, block) else { return };
        let device = open_device(&disk.node, &quick()).unwrap();
        let geometry = device.geometry();
        assert_eq!((geometry.sectors, geometry.logical_block), ((8 << 20) / 512, block));
        assert!(geometry.physical_block >= block);
        assert_eq!(geometry.backing, Backing::Direct);
        assert!(matches!(device.identity().key, DeviceKey::Block { major: 7, .. }));
        assert_eq!(device.identity().hardware(), [], "a loop device proves nothing");

        let data: Vec<u8> = (0..64usize << 10).map(|i| (i / 13) as u8).collect();
        device.write_at(&data, 1 << 20, true).unwrap();
        device.flush().unwrap();
        let mut back = vec![0u8; data.len() + 1];
        device.read_uncached(&mut back[1..], 1 << 20).unwrap();
        assert_eq!(back[1..], data[..]);
        device.write_zeroes(1 << 20, 32 << 10, false).unwrap();
        device.read_at(&mut back[1..], 1 << 20).unwrap();
        assert!(back[1..=32 << 10].iter().all(|byte| *byte == 0));
        assert_eq!(back[(32 << 10) + 1..], data[32 << 10..]);
        if device.can_discard() {
            device.discard(2 << 20, 1 << 20).unwrap();
        }
        assert_eq!(device.read_at(&mut back[1..257], 0), Err(Class::NotSupported));

        let error = open_device(&disk.node, &quick()).err().unwrap();
        assert!(matches!(error, DeviceError::Busy { .. }), "{error}");
        open_device(&disk.node, &OpenOptions::examine()).unwrap();
        drop(device);
        open_device(&disk.node, &quick()).unwrap();
    }
}

#[test]
fn failure_9_13_a_block_size_below_the_disks_own_is_refused() {
    let Some(disk) = Loop::new(8 << 20, 4096) else { return };
    let options = OpenOptions { block_size: Some(512), ..quick() };
    let error = open_device(&disk.node, &options).err().unwrap();
    assert!(matches!(error, DeviceError::BlockSize { least: 4096, .. }), "{error}");
}

#[test]
fn a_disk_whose_size_has_gone_is_offline_not_bad() {
    let Some(disk) = Loop::new(8 << 20, 512) else { return };
    let device = open_device(&disk.node, &quick()).unwrap();
    let backing = disk._dir.path().join("backing");
    std::fs::File::options().write(true).open(backing).unwrap().set_len(0).unwrap();
    let done = Command::new("losetup").args(["-c", &disk.node]).status().unwrap();
    assert!(done.success());
    let mut buf = vec![0; 4096];
    assert_eq!(device.read_at(&mut buf, 4096), Err(Class::Offline));
    assert_eq!(device.write_at(&buf, 4096, false), Err(Class::Offline));
}

#[test]
fn a_volume_on_block_devices_in_each_manner() {
    for manner in [Manner::Ring, Manner::Threads] {
        let Some(disks) = Loop::new(8 << 20, 512).zip(Loop::new(8 << 20, 512)) else { return };
        let open = |disk: &Loop| open_device(&disk.node, &quick()).unwrap();
        let (main, spare) = (open(&disks.0), open(&disks.1));
        format(&main, &spare, &FormatOptions::default()).unwrap();
        let options = VolumeOptions { manner: Some(manner), ..accept() };
        let volume = Volume::open(main.clone(), spare, &options, |_| {}).unwrap();
        if volume.manners() != [manner; 2] {
            return common::skip("a_volume_on_block_devices_in_each_manner", "no io_uring here");
        }
        // Across a boundary of 1 MiB, and not a whole number of units.
        for n in 0..40u64 {
            assert_eq!(write(&volume, 2000 + n * 33, 33, n as u8 + 1), []);
        }
        assert_eq!(flush(&volume), Ok(()));
        for n in 0..40u64 {
            let want = vec![n as u8 + 1; 33 * 512];
            assert_eq!(read(&volume, 2000 + n * 33, 33), (want, vec![]), "{manner:?} {n}");
        }
        let mut stored = vec![0; 40 * 33 * 512];
        main.read_at(&mut stored, 2000 * 512).unwrap();
        assert!(stored.chunks(33 * 512).zip(1..).all(|(run, n)| run.iter().all(|b| *b == n)));
        assert!(volume.close());
    }
}

#[test]
fn a_disk_that_has_gone_is_offline_through_a_ring_too() {
    let Some(disks) = Loop::new(8 << 20, 512).zip(Loop::new(8 << 20, 512)) else { return };
    let open = |disk: &Loop| open_device(&disk.node, &quick()).unwrap();
    let (main, spare) = (open(&disks.0), open(&disks.1));
    format(&main, &spare, &FormatOptions::default()).unwrap();
    let options = VolumeOptions { manner: Some(Manner::Ring), ..accept() };
    let volume = Volume::open(main, spare, &options, |_| {}).unwrap();
    let backing = disks.0._dir.path().join("backing");
    std::fs::File::options().write(true).open(backing).unwrap().set_len(0).unwrap();
    let done = Command::new("losetup").args(["-c", &disks.0.node]).status().unwrap();
    assert!(done.success());
    assert_eq!(read(&volume, 800, 8).1[0].class, Class::Offline);
    assert_eq!(volume.status().unwrap().pending_blocks, 0);
    volume.abandon();
}
