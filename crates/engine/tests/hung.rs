// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One hung device holds up no other volume, and in its own volume nothing but itself (DESIGN 1.5),
//! however requests reach it and however they reach the others.
//!
//! A device hangs here by a pipe that its ring reads from, or by a lock that its calls wait for.

mod common;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};

use common::{Bench, Disk, accept, begin, flush, read, write};
use dmremap_core::{Class, Done, Kind, message};
use dmremap_engine::{
    Device, Direct, FormatOptions, Geometry, Identity, Manner, MemoryDevice, Volume, VolumeOptions,
    format,
};

const MAIN: u64 = 8192;
const SPARE: u64 = 16_384;
/// More reads than there are threads for a device, or places in a ring.
const READS: u64 = 200;

/// Memory whose requests are not answered until the test says so; its other calls are.
struct Hung {
    memory: MemoryDevice,
    ring: Option<OwnedFd>,
    hung: Mutex<bool>,
    over: Condvar,
}

impl Hung {
    /// The device, and what ends its hanging.
    fn new(manner: Manner) -> (Arc<Hung>, Box<dyn FnOnce()>) {
        let memory = MemoryDevice::new(MAIN);
        let (ring, feed) = match manner {
            Manner::Ring => {
                let (read, write) = rustix::pipe::pipe().unwrap();
                (Some(read), Some(std::fs::File::from(write)))
            }
            _ => (None, None),
        };
        let hung = Hung { memory, ring, hung: Mutex::new(false), over: Condvar::new() };
        let hung = Arc::new(hung);
        let its = Arc::clone(&hung);
        let free = move || {
            *its.hung.lock().unwrap() = false;
            its.over.notify_all();
            if let Some(mut feed) = feed {
                feed.write_all(&vec![0; READS as usize * 4096]).unwrap();
            }
        };
        (hung, Box::new(free))
    }
}

impl Device for Hung {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        let hung = self.hung.lock().unwrap();
        drop(self.over.wait_while(hung, |hung| *hung).unwrap());
        self.memory.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.memory.write_at(buf, offset, fua)
    }
    fn manner(&self) -> Manner {
        if self.ring.is_some() { Manner::Ring } else { Manner::Threads }
    }
    fn direct(&self) -> Option<Direct<'_>> {
        self.ring.as_ref().map(|fd| Direct { fd: fd.as_fd(), memory_align: 512 })
    }
    fn flush(&self) -> Result<(), Class> {
        self.memory.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.memory.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.memory.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> Identity {
        self.memory.identity()
    }
    fn describe(&self) -> String {
        "hung".into()
    }
}

/// A healthy volume on files, served so.
fn neighbour(dir: &std::path::Path, manner: Manner) -> Volume {
    let disk = |name, sectors| {
        Disk::new(dir, name, vec![0; sectors as usize * 512], 512, Some(manner)).0.clone()
    };
    let (main, spare) = (disk("main.disk", MAIN), disk("spare.disk", SPARE));
    format(&main, &spare, &FormatOptions::default()).unwrap();
    let options = VolumeOptions { manner: Some(manner), ..accept() };
    Volume::open(main, spare, &options, |_| {}).unwrap()
}

#[test]
fn a_hung_device_holds_up_no_other_volume_and_not_its_own_spare() {
    for hanging in [Manner::Ring, Manner::Threads] {
        let (main, free) = Hung::new(hanging);
        let spare: Arc<dyn Device> = Arc::new(MemoryDevice::new(SPARE));
        let as_device: Arc<dyn Device> = main.clone();
        format(&as_device, &spare, &FormatOptions::default()).unwrap();
        let stuck = Volume::open(as_device, spare, &accept(), |_| {}).unwrap();
        if stuck.manners()[0] != hanging {
            common::skip("a_hung_device_holds_up_no_other_volume", "no io_uring");
            continue;
        }
        assert!(matches!(stuck.act(message::parse("remap 800").unwrap()), Done::Remapped { .. }));
        *main.hung.lock().unwrap() = true;
        let reads: Vec<_> =
            (0..READS).map(|n| begin(&stuck, Kind::Read, n * 8 + 1600, 8, vec![0; 4096])).collect();
        for manner in [Manner::Inline, Manner::Ring, Manner::Threads] {
            let dir = match manner {
                Manner::Inline if std::path::Path::new("/dev/shm").is_dir() => {
                    tempfile::tempdir_in("/dev/shm")
                }
                _ => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
            };
            let dir = dir.unwrap();
            let volume = neighbour(dir.path(), manner);
            for n in 0..20u64 {
                assert_eq!(write(&volume, n * 100, 16, n as u8), []);
                assert_eq!(read(&volume, n * 100, 16), (vec![n as u8; 16 * 512], vec![]));
            }
            assert_eq!(flush(&volume), Ok(()));
            assert!(volume.close(), "{manner:?} beside {hanging:?}");
        }
        assert_eq!(read(&stuck, 800, 8), (vec![0; 4096], vec![]), "its spare goes on");
        free();
        for answer in reads {
            assert_eq!(answer(), (vec![0; 4096], vec![]));
        }
        assert!(stuck.close());
    }
}

#[test]
fn where_no_ring_can_be_had_threads_serve() {
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let options = VolumeOptions { manner: Some(Manner::Ring), ..accept() };
    let (main, spare) = (bench.main.0.clone(), bench.spare.0.clone());
    let volume = Volume::open(main, spare, &options, |_| {}).unwrap();
    assert_eq!(volume.manners(), [Manner::Threads; 2], "memory has no file");
    assert_eq!(write(&volume, 8, 8, 3), []);
    assert_eq!(read(&volume, 8, 8), (vec![3; 4096], vec![]));
    assert!(volume.close());
}

#[test]
fn a_client_that_submits_from_its_own_answers_needs_no_stack_for_it() {
    /// Reads again from inside of the answer, as often as `left` says.
    fn again(volume: &Arc<Volume>, left: u32, over: std::sync::mpsc::Sender<()>) {
        let request = dmremap_engine::Request {
            kind: Kind::Read,
            sector: 8,
            sectors: 8,
            fua: false,
            data: Box::new(vec![0; 4096]),
        };
        let next = Arc::clone(volume);
        let done = move |reply: dmremap_engine::Reply| {
            assert_eq!(reply.bad, []);
            match left {
                0 => over.send(()).unwrap(),
                _ => again(&next, left - 1, over),
            }
        };
        volume.submit(request, Box::new(done));
    }
    let bench = Bench::formatted(MAIN, SPARE, 512);
    let (main, spare) = (bench.main.0.clone(), bench.spare.0.clone());
    let volume = Arc::new(Volume::open(main, spare, &accept(), |_| {}).unwrap());
    assert_eq!(volume.manners(), [Manner::Inline; 2]);
    let (over, is_over) = std::sync::mpsc::channel();
    // Any stack would be too small for this.
    again(&volume, 200_000, over);
    is_over.recv().unwrap();
    assert!(volume.close());
}
