// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A real ext4 on a volume whose main goes bad under it, mounted by the kernel (nbdfuse and a loop
//! device), with a workload of copies, renames, appends and deletes, and the server killed once in
//! the middle.
//!
//! Bad from the start: sectors of the superblock, the bitmaps, the inode tables and most of the
//! journal, which cannot be written; a file's sectors, which cannot be read. In every round more
//! go bad: sectors anywhere that can no longer be written, and the sectors of one more file that
//! can neither be read nor written.
//!
//! Checked: every file that was synced has every byte, after the kill too; a file whose sectors are
//! lost is an error there until it is overwritten, and right everywhere else; `e2fsck -fn` finds
//! nothing; blocks of every kind of metadata have moved.

#[path = "../common/mod.rs"]
mod common;
mod disk;
#[path = "../common/mounts.rs"]
mod mounts;
#[path = "../common/programs.rs"]
mod programs;
mod tree;

use common::Serving;
use disk::{BLOCK_SECTORS, Disk, Numbers};
use mounts::{Fuse, Loop, Mount};
use programs::{all_there, good};
use tree::{Tree, Victims};

/// Rounds of work; the server is killed in the middle of one of them.
const ROUNDS: u64 = 10;
const KILLED_IN: u64 = 5;

const PROGRAMS: [&str; 7] =
    ["mkfs.ext4", "dumpe2fs", "debugfs", "e2fsck", "filefrag", "losetup", "mount"];

/// The volume, served, mounted. Dropped in this order.
struct Mounted {
    mount: Mount,
    _loop: Loop,
    _fuse: Fuse,
    server: Serving,
}

impl Mounted {
    fn new(disk: &Disk, generation: u64) -> Mounted {
        let server = disk.bench.serve(&[]);
        disk.bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
        let fuse = Fuse::mount(&disk.bench.path(&format!("fuse{generation}")), &server.uri);
        let device = Loop::over(&fuse.file());
        let folder = disk.bench.path("fs");
        let mount = Mount::new("ext4", "errors=remount-ro", &device.node, &folder);
        Mounted { mount, _loop: device, _fuse: fuse, server }
    }
}

#[test]
fn a_real_ext4_survives_its_disk_and_a_kill() {
    const NAME: &str = "a_real_ext4_survives_its_disk_and_a_kill";
    if !mounts::possible(NAME, true) || !all_there(NAME, &PROGRAMS) {
        return;
    }
    let mut numbers = Numbers(0x6578_7434);
    let mut tree = Tree::first(&mut numbers);
    let mut victims = Victims::default();
    let mut disk = Disk::with_file_system(&tree);
    disk.goes_bad_from_the_start();
    victims.add(&mut tree, &mut disk, "first/victim0", "heal medium", None);

    let mut mounted = Mounted::new(&disk, 0);
    let root = disk.bench.path("fs");
    for round in 1..=ROUNDS {
        disk.more_goes_bad(&mut numbers);
        victims.add(
            &mut tree,
            &mut disk,
            &format!("first/victim{round}"),
            "both medium",
            Some(&root),
        );
        tree.work(&root, round, &mut numbers).unwrap();
        if round == KILLED_IN {
            let Mounted { server, _fuse, _loop, mount } = mounted;
            server.kill();
            // Nothing of this can succeed for long; what matters is what had been synced.
            let _ = tree.work(&root, 1000, &mut numbers);
            drop((mount, _loop, _fuse));
            mounted = Mounted::new(&disk, round);
            tree.forget(&root);
            tree.compare(&root, &victims);
        }
        tree.sync(&root);
    }
    finish(disk, mounted, tree, &victims);
}

/// Unmounts, checks and compares, overwrites what is lost, checks and compares again.
fn finish(disk: Disk, mounted: Mounted, mut tree: Tree, victims: &Victims) {
    let root = disk.bench.path("fs");
    // In this order, so that they go in the other one if a check fails.
    let Mounted { server, _fuse: fuse, _loop: device, mount } = mounted;
    mount.unmount();
    let image = fuse.file();
    let check = || good("e2fsck", &["-fn", image.to_str().unwrap()]);
    check();
    let mount = Mount::new("ext4", "errors=remount-ro", &device.node, &root);
    let lost = tree.compare(&root, victims);
    assert!(lost >= 4, "only {lost} files lost anything: the test shows nothing");
    victims.overwrite(&root);
    tree.sync(&root);
    mount.unmount();
    drop(device);
    check();
    let device = Loop::over(&image);
    let mount = Mount::new("ext4", "ro", &device.node, &root);
    assert_eq!(tree.compare(&root, victims), 0, "what was overwritten is there");
    mount.unmount();
    drop((device, fuse));

    let moved = disk.moved();
    for (kind, places) in &disk.places {
        let found = places.iter().filter(|block| moved(**block)).count();
        println!("{kind}: {found} of {} blocks have moved", places.len());
        assert!(found > 0, "no {kind} has moved: the test shows nothing");
    }
    let status = disk.bench.json(&["status", "v", "--json"]);
    println!(
        "{} files of {} bytes, {} lost something until they were overwritten; {} sectors bad, \
         {} moved, blocks of {} sectors",
        tree.files(),
        tree.bytes(),
        lost,
        disk.bad_sectors(),
        status["remapped_blocks"],
        BLOCK_SECTORS,
    );
    assert_eq!(server.stop(), 0);
    assert_eq!(disk.bench.code(&["check", "--spare", "spare.img"]).0, 0);
}
