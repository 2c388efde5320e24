// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The same with direct and with buffered I/O below: images on a disk's file system are used with
//! O_DIRECT; on one that has none only by force.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::common::{Bench, skip};
use super::{SECTOR, count, no_backoff, pattern, read};

/// Sector 800 cannot be written, 1600 neither read nor written.
const MAP: &str = "0x64000 0x200 - # write io\n0xc8000 0x200 - # both medium\n";

/// Moves, errors and data on a main in `folder`, and a spare there or on a file system that can
/// reserve its space.
fn the_same(folder: &Path, spare_too: bool, force: &[&str]) {
    let bench = Bench::new();
    let main = folder.join("main.img");
    std::fs::copy(bench.path("main.img"), &main).unwrap();
    let spare = if spare_too { folder.join("spare.img") } else { bench.path("spare.img") };
    File::create(&spare).unwrap().set_len(16 << 20).unwrap();
    let spare = spare.to_str().unwrap();
    // The bench's own map, around another image.
    let main = bench.faulty_main(MAP).replacen("main.img", main.to_str().unwrap(), 1);
    let format = ["format", "--main", &main, "--spare", spare, "--name", "v", "--yes"];
    if !force.is_empty() {
        let (code, said) = bench.code(&format);
        assert!(code == 6 && said.contains("--force=buffered"), "{code} {said}");
    }
    bench.good(&[&format[..], force].concat());
    // Not every such file system has times of birth to know a file by.
    let serve = [force, &["--accept-main=same"]].concat();
    let server = bench.serve_on(spare, &serve);
    no_backoff(&bench);
    let client = server.connect();
    let block = count(&bench, "block_size") / SECTOR;
    let around = 800 / block * block;
    client.write(around * SECTOR, &pattern(around, block, 1), false).unwrap();
    assert_eq!(read(&client, around, block), pattern(around, block, 1));
    assert_eq!(count(&bench, "remapped_blocks"), 1);
    let lost = 1600 / block * block;
    assert!(client.read(lost * SECTOR, (block * SECTOR) as u32).is_err());
    client.write(lost * SECTOR, &pattern(lost, block, 2), true).unwrap();
    let all = pattern(4096, 2048, 3);
    client.write(4096 * SECTOR, &all, false).unwrap();
    client.flush().unwrap();
    drop(client);
    server.kill();
    let server = bench.serve_on(spare, &serve);
    let client = server.connect();
    assert_eq!(read(&client, around, block), pattern(around, block, 1));
    assert_eq!(read(&client, lost, block), pattern(lost, block, 2));
    assert!(read(&client, 4096, 2048) == all);
    drop(client);
    assert_eq!(server.stop(), 0);
}

#[test]
fn the_same_with_direct_io() {
    // A file system without O_DIRECT there is no reason to fail: the other test is for those.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let force: &[&str] = if takes_direct(folder.path()) { &[] } else { &["--force=buffered"] };
    the_same(folder.path(), true, force);
}

fn takes_direct(folder: &Path) -> bool {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::DIRECT;
    rustix::fs::open(folder.join("trial"), flags, rustix::fs::Mode::RUSR).is_ok()
}

/// A ramfs, which has no O_DIRECT.
struct Ramfs(tempfile::TempDir);

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn the_same_with_buffered_io_by_force() {
    const NAME: &str = "the_same_with_buffered_io_by_force";
    if !rustix::process::geteuid().is_root() {
        return skip(NAME, "only root may mount");
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = Command::new("mount").args(["-t", "ramfs", "none"]).arg(folder.path()).output();
    match mount {
        Ok(out) if out.status.success() => {}
        other => return skip(NAME, &format!("cannot mount a ramfs: {other:?}")),
    }
    let ramfs = Ramfs(folder);
    the_same(ramfs.0.path(), false, &["--force=buffered"]);
}
