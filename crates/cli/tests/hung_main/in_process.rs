// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! All sixteen volumes in one process.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dmremap_core::message::Command;
use dmremap_core::{Class, Done, Kind};
use dmremap_engine::{
    Backing, Device, FormatOptions, Geometry, Identity, MemoryDevice, OpenOptions, Reply, Request,
    Volume, VolumeOptions, format, open_device,
};

use crate::common::Bench;
use crate::programs::all_there;
use crate::{OTHERS, ROUNDS, Remote, WAITING, mounts, pattern};

const SECTORS: u64 = 16 << 11;
/// How long an answer is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device whose calls wait while it is frozen, as a system call on a hung disk does.
struct Freezing {
    inner: MemoryDevice,
    frozen: Mutex<bool>,
    thawed: Condvar,
}

impl Freezing {
    fn set(&self, frozen: bool) {
        *self.frozen.lock().unwrap() = frozen;
        self.thawed.notify_all();
    }

    fn wait(&self) -> &MemoryDevice {
        drop(self.thawed.wait_while(self.frozen.lock().unwrap(), |frozen| *frozen).unwrap());
        &self.inner
    }
}

/// It hangs as long as this is there.
struct Frozen<'a>(&'a Freezing);

impl Frozen<'_> {
    fn new(device: &Freezing) -> Frozen<'_> {
        device.set(true);
        Frozen(device)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Device for Freezing {
    fn geometry(&self) -> Geometry {
        Geometry { backing: Backing::Direct, ..self.inner.geometry() }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.wait().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.wait().write_at(buf, offset, fua)
    }

    fn flush(&self) -> Result<(), Class> {
        self.wait().flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.wait().discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.wait().write_zeroes(offset, len, fua)
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn describe(&self) -> String {
        "a device that can hang".to_owned()
    }
}

/// An image of its own, on a real disk where `path` is on one.
fn file(path: &Path) -> Arc<dyn Device> {
    std::fs::File::create(path).unwrap().set_len(SECTORS * 512).unwrap();
    let options = OpenOptions { force_buffered: true, ..OpenOptions::default() };
    open_device(path.to_str().unwrap(), &options).unwrap()
}

fn volume(main: Arc<dyn Device>, spare: Arc<dyn Device>) -> Arc<Volume> {
    format(&main, &spare, &FormatOptions::default()).unwrap();
    let options = VolumeOptions { accept_main: true, ..VolumeOptions::default() };
    Arc::new(Volume::open(main, spare, &options, |_| {}).unwrap())
}

fn submit(volume: &Volume, kind: Kind, sector: u64, data: Vec<u8>) -> Receiver<Reply> {
    let (sender, reply) = channel();
    let sectors = (data.len() / 512) as u32;
    let request = Request { kind, sector, sectors, fua: false, data: Box::new(data) };
    volume.submit(request, Box::new(move |reply| _ = sender.send(reply)));
    reply
}

/// Waits for a request that must be answered, and well.
fn answered(reply: &Receiver<Reply>) -> Vec<u8> {
    let reply = reply.recv_timeout(PATIENCE).expect("every request is answered");
    assert!(reply.bad.is_empty(), "{:?}", reply.bad);
    *reply.data.into_any().downcast::<Vec<u8>>().unwrap()
}

fn ask(volume: &Volume, kind: Kind, sector: u64, data: Vec<u8>) -> Vec<u8> {
    answered(&submit(volume, kind, sector, data))
}

fn work(volume: &Volume) {
    let client = volume.client();
    for round in 0..ROUNDS {
        let sector = 1000 + round * 40;
        let bytes = pattern(sector, 24, round);
        ask(volume, Kind::Write, sector, bytes.clone());
        assert!(ask(volume, Kind::Read, sector, vec![0; 24 * 512]) == bytes);
        let done = volume.act(Command::Remap { sector: sector + 8, to: None });
        assert!(!matches!(done, Done::Failed(_)), "{done:?}");
        assert!(ask(volume, Kind::Read, sector, vec![0; 24 * 512]) == bytes);
        let (sender, outcome) = channel();
        volume.flush(&client, Box::new(move |result| _ = sender.send(result)));
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Ok(())));
    }
}

/// Fifteen volumes on memory, on tmpfs and on a disk work and close while the sixteenth, on `main`,
/// is frozen, until what `freeze` returned is dropped; then that one does.
fn fifteen_go_on<F>(main: Arc<dyn Device>, freeze: impl Fn() -> F) {
    let folders = [
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm").unwrap(),
            false => tempfile::tempdir().unwrap(),
        },
    ];
    let hung = volume(main, Arc::new(MemoryDevice::new(SECTORS)));
    let others: Vec<Arc<Volume>> = (0..OTHERS)
        .map(|n| match folders.get(n % 3) {
            Some(folder) => {
                let path = |name: &str| folder.path().join(format!("{n}.{name}"));
                volume(file(&path("main")), file(&path("spare")))
            }
            None => {
                let device = || Arc::new(MemoryDevice::new(SECTORS));
                volume(device(), device())
            }
        })
        .collect();

    let frozen = freeze();
    let data = pattern(64, 8, 7);
    let waiting: Vec<_> = (0..WAITING)
        .map(|n| match n % 2 {
            0 => submit(&hung, Kind::Write, 64, data.clone()),
            _ => submit(&hung, Kind::Read, 20_000, vec![1; 512]),
        })
        .collect();
    std::thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| work(other));
        }
    });
    assert!(waiting.iter().all(|reply| reply.try_recv().is_err()), "it hangs");
    assert!(hung.status().is_some(), "and can be asked");
    // Its close waits for its device, and for nobody else; theirs do not wait for it.
    let closing = {
        let (hung, (sender, closed)) = (Arc::clone(&hung), channel());
        std::thread::spawn(move || _ = sender.send(hung.close()));
        closed
    };
    for other in &others {
        assert!(other.close(), "the others close cleanly");
    }
    assert!(closing.try_recv().is_err());

    drop(frozen);
    for (n, reply) in waiting.iter().enumerate() {
        let bytes = answered(reply);
        assert!(n % 2 == 0 || bytes == [0; 512], "late is not wrong");
    }
    assert_eq!(closing.recv_timeout(PATIENCE), Ok(true), "and closes cleanly in the end");
    let mut found = vec![0; data.len()];
    hung.devices()[0].read_at(&mut found, 64 * 512).unwrap();
    assert!(found == data);
}

#[test]
fn fifteen_volumes_of_a_process_go_on_beside_a_hung_device() {
    let inner = MemoryDevice::new(SECTORS);
    let main = Arc::new(Freezing { inner, frozen: Mutex::new(false), thawed: Condvar::new() });
    fifteen_go_on(main.clone(), || Frozen::new(&main));
}

#[test]
fn fifteen_volumes_of_a_process_go_on_beside_a_hung_file() {
    const NAME: &str = "fifteen_volumes_of_a_process_go_on_beside_a_hung_file";
    if !mounts::possible(NAME, false) || !all_there(NAME, &["nbdkit"]) {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("zero.img"), vec![0; SECTORS as usize * 512]).unwrap();
    let remote = Remote::serve(&bench.path(""), &bench.path("zero.img"));
    let path = remote.fuse.file();
    let main = open_device(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(main.geometry().backing, Backing::Direct);
    fifteen_go_on(main, || remote.fuse.freeze());
}
