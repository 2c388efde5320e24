// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The ring alone: on a file with O_DIRECT where there is one, and on a pipe, which answers when
//! the test wants it to.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;

use dmremap_core::Class;

use super::*;
use crate::device::identity::Identity;
use crate::device::memory::MemoryDevice;
use crate::device::{Direct, Geometry};

/// A descriptor as a device; only the ring ever uses it.
struct Plain(Option<OwnedFd>);

impl Device for Plain {
    fn geometry(&self) -> Geometry {
        MemoryDevice::new(8).geometry()
    }
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<(), Class> {
        Err(Class::NotSupported)
    }
    fn write_at(&self, _buf: &[u8], _offset: u64, _fua: bool) -> Result<(), Class> {
        Err(Class::NotSupported)
    }
    fn flush(&self) -> Result<(), Class> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _len: u64) -> Result<(), Class> {
        Ok(())
    }
    fn write_zeroes(&self, _offset: u64, _len: u64, _fua: bool) -> Result<(), Class> {
        Ok(())
    }
    fn direct(&self) -> Option<Direct<'_>> {
        self.0.as_ref().map(|fd| Direct { fd: fd.as_fd(), memory_align: 1 })
    }
    fn identity(&self) -> Identity {
        MemoryDevice::new(8).identity()
    }
    fn describe(&self) -> String {
        "plain".into()
    }
}

/// Memory of a transfer. It says when it is dropped, by way of the `Arc`.
struct Item {
    bytes: NonNull<[u8]>,
    number: u64,
    _alive: Arc<()>,
}

// SAFETY: the memory is this item's own.
unsafe impl Send for Item {}

impl Item {
    fn new(number: u64, bytes: Vec<u8>, alive: &Arc<()>) -> Item {
        let bytes = NonNull::from(Box::leak(bytes.into_boxed_slice()));
        Item { bytes, number, _alive: Arc::clone(alive) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: made from a box, freed when dropped; called only where no transfer is out.
        unsafe { self.bytes.as_ref() }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        // SAFETY: made from a box, and freed here alone.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

struct Setup {
    ring: Ring<Item>,
    landed: Receiver<(Item, Result<(), Errno>)>,
    alive: Arc<()>,
}

fn setup(fd: impl Into<OwnedFd>) -> Setup {
    let (sender, landed) = channel();
    let hear: Landed<Item> = Box::new(move |item, result, _| sender.send((item, result)).unwrap());
    let ring = Ring::new("ring".into(), Arc::new(Plain(Some(fd.into()))), hear).unwrap();
    Setup { ring, landed, alive: Arc::default() }
}

impl Setup {
    fn push(&self, number: u64, bytes: Vec<u8>, offset: u64, write: bool) {
        let item = Item::new(number, bytes, &self.alive);
        let len = item.bytes().len() as u32;
        let start = item.bytes.cast();
        let transfer = Transfer { start, len, offset, write, fua: write && number % 2 == 0 };
        // SAFETY: the memory is the item's until it is dropped, and used by nobody meanwhile.
        assert!(unsafe { self.ring.push(item, transfer) }.is_ok());
    }

    fn next(&self) -> (Item, Result<(), Errno>) {
        self.landed.recv_timeout(Duration::from_secs(60)).expect("answered")
    }
}

fn block(number: u64) -> Vec<u8> {
    (0..4096u64).map(|i| (i / 7 * (number + 3)) as u8).collect()
}

#[test]
fn more_transfers_than_places_all_land_where_they_belong() {
    let file = tempfile::tempfile().unwrap();
    let setup = setup(file.try_clone().unwrap());
    let count = 3 * DEPTH as u64;
    (0..count).for_each(|n| setup.push(n, block(n), n * 4096, true));
    (0..count).for_each(|_| assert_eq!(setup.next().1, Ok(())));
    (0..count).for_each(|n| setup.push(n, vec![0; 4096], n * 4096, false));
    for _ in 0..count {
        let (item, result) = setup.next();
        assert_eq!((result, item.bytes()), (Ok(()), &block(item.number)[..]));
    }
    setup.push(0, vec![0; 8192], count * 4096 - 4096, false);
    assert_eq!(setup.next().1, Err(Errno::IO), "the end of the file is no success");
    setup.ring.close();
    assert_eq!(Arc::strong_count(&setup.alive), 1);
}

#[test]
fn a_short_answer_is_continued() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let setup = setup(read);
    setup.push(1, vec![0; 4096], 0, false);
    let mut write = std::fs::File::from(write);
    for part in block(1).chunks(1000) {
        write.write_all(part).unwrap();
        // The next part only once this one has been taken: each is an answer of its own.
        while rustix::io::ioctl_fionread(&write).unwrap() != 0 {
            std::thread::yield_now();
        }
    }
    let (item, result) = setup.next();
    assert_eq!((result, item.bytes()), (Ok(()), &block(1)[..]));
    setup.push(2, vec![0; 4096], 0, false);
    write.write_all(&[7; 10]).unwrap();
    drop(write);
    assert_eq!(setup.next().1, Err(Errno::IO), "it ended before it was full");
}

#[test]
fn what_is_out_is_kept_until_it_is_answered_even_by_a_ring_that_was_dropped() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let Setup { ring, landed, alive } = {
        let setup = setup(read);
        // More than there are places, so that some wait in the queue.
        (0..DEPTH as u64 + 5).for_each(|n| setup.push(n, vec![0; 16], 0, false));
        setup
    };
    let all = DEPTH + 5 + 1;
    drop(ring);
    assert!(landed.try_recv().is_err());
    assert_eq!(Arc::strong_count(&alive), all, "nothing is dropped unanswered");
    std::fs::File::from(write).write_all(&vec![9; 16 * (DEPTH + 5)]).unwrap();
    // The sender goes with the thread: it ends by itself.
    let answers: Vec<_> = landed.iter().collect();
    assert_eq!(answers.len(), DEPTH + 5);
    assert!(answers.iter().all(|(item, result)| *result == Ok(()) && item.bytes() == [9; 16]));
}

#[test]
fn a_close_waits_for_the_device_and_for_nothing_else() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let setup = setup(read);
    setup.push(1, vec![0; 16], 0, false);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| setup.ring.close());
        // Not a proof that it waits, but nothing here may end it.
        (0..1000).for_each(|_| std::thread::yield_now());
        assert!(!closing.is_finished());
        std::fs::File::from(write).write_all(&[1; 16]).unwrap();
        closing.join().unwrap();
    });
    assert_eq!(setup.next().1, Ok(()));
    assert_eq!(Arc::strong_count(&setup.alive), 1);
}

#[test]
fn a_ring_that_has_ended_gives_back_what_it_is_given() {
    let (read, _write) = rustix::pipe::pipe().unwrap();
    let setup = setup(read);
    setup.ring.close();
    let item = Item::new(7, vec![0; 16], &setup.alive);
    let start = item.bytes.cast();
    let transfer = Transfer { start, len: 16, offset: 0, write: false, fua: false };
    // SAFETY: the memory is the item's until it is dropped, and used by nobody meanwhile.
    let back = unsafe { setup.ring.push(item, transfer) };
    assert_eq!(back.err().map(|item| item.number), Some(7));
}

#[test]
fn a_thread_that_breaks_down_leaks_what_is_out() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let hear: Landed<Item> = Box::new(|_, _, _| panic!("on purpose"));
    let ring = Ring::new("ring".into(), Arc::new(Plain(Some(read))), hear).unwrap();
    let (_, landed) = channel();
    let setup = Setup { ring, landed, alive: Arc::default() };
    setup.push(1, vec![0; 16], 0, false);
    setup.push(2, vec![0; 16], 0, false);
    std::fs::File::from(write.try_clone().unwrap()).write_all(&[1; 16]).unwrap();
    setup.ring.close();
    assert_eq!(Arc::strong_count(&setup.alive), 2, "one was answered, the other is out for ever");
    drop(write);
}

#[test]
fn without_a_file_there_is_no_ring() {
    let hear: Landed<Item> = Box::new(|_, _, _| {});
    assert!(Ring::new("ring".into(), Arc::new(Plain(None)), hear).is_err());
}
