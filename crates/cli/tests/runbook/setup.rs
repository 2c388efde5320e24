// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The situations that documents start from, word by word.
//!
//! `/dev/sdX` is a disk with an ext4 of three files. Of `letter.txt` one block of 4 KiB may be
//! unreadable, and one of `notes.txt` may take no writes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use dmremap_format::{HeaderMut, Session, State, Uuid};
use dmremap_nbd::Client;

use crate::refusal::edit_headers;
use crate::stage::Stage;

/// Bytes of each of the disks.
const DISK_BYTES: u64 = 16 << 20;
const FORMAT: &str = "dmremap format --main /dev/sdX --spare /dev/sdY --name mydisk --yes";
const BLOCK_BYTES: u64 = 4096;

/// Brings `stage` into the situation that `word` names.
pub fn prepare(stage: &mut Stage, word: &str) {
    match word {
        "disk" => disk(stage),
        "bad sectors" => bad_sectors(stage),
        "spare with a file system" => _ = stage.good("mkfs.ext4 -q /dev/sdY"),
        "adopted" => _ = stage.good(FORMAT),
        "small spare" => {
            spare_of(stage, 8 << 20);
            stage.good(&format!("{FORMAT} --max-remaps 1"));
        }
        "running" => stage.start("dmremap serve --spare /dev/sdY"),
        "moved" => moved(stage),
        "lost" => {
            let client = client(stage);
            assert!(client.read(stage.bad_sector.unwrap() * 512, BLOCK_BYTES as u32).is_err());
        }
        "mounted" => {
            stage.good("mkdir -p /mnt/volume /mnt/data");
            let uri = "nbd+unix:///mydisk?socket=/run/dmremap/mydisk.nbd";
            stage.start(&format!("nbdfuse /mnt/volume/mydisk '{uri}'"));
            stage.good("mount -o loop /mnt/volume/mydisk /mnt/data");
        }
        "closed" => _ = stage.good("dmremap close mydisk"),
        "killed" => stage.kill_last(),
        "main takes writes again" => stage.faults("", &[]),
        "one copy damaged" => damage(stage, &COPIES[1..2]),
        "dumped" => _ = stage.good("dmremap dump --spare /dev/sdY /mnt/backup/mydisk.dump"),
        "metadata lost" => damage(stage, &COPIES),
        "spare lost" => spare_of(stage, 0),
        "main in another dock" => {
            // Another inode: nothing but the content tells that it is the same.
            stage.good("cp /dev/sdX /dev/sdX.new\nmv /dev/sdX.new /dev/sdX");
        }
        "main by another name" => _ = stage.good("mv /dev/sdX /dev/sdZ"),
        "open on another host" => open_elsewhere(stage),
        "map of the disk" => {
            let sector = stage.bad_sector.unwrap();
            stage.good("ddrescue -q -d /dev/sdX /mnt/backup/sdX.img /mnt/backup/sdX.map");
            let list = format!("{}\n", sector * 512 / BLOCK_BYTES);
            fs::write(stage.folder.join("mnt/backup/sdX.bad"), list).unwrap();
        }
        _ => panic!("no setup is called {word:?}"),
    }
}

/// Checks that what `word` says is so.
pub fn check(stage: &Stage, word: &str, here: &str) {
    let disk = |name: &str| fs::read(stage.folder.join("dev").join(name)).unwrap();
    let block = BLOCK_BYTES as usize;
    let whole = match word {
        "sdX is whole" => disk("sdX") == stage.content,
        "sdZ is whole" => disk("sdZ") == stage.content,
        "sdZ is whole but for what cannot be read" => {
            let mut content = stage.content.clone();
            content[stage.bad_sector.unwrap() as usize * 512..][..block].fill(0);
            disk("sdZ") == content
        }
        "what had moved is there" => {
            let at = stage.moved_at.unwrap();
            let read = client(stage).read(at as u64, BLOCK_BYTES as u32);
            read.is_ok_and(|read| read == stage.content[at..][..block])
        }
        "what had moved is an error" => {
            client(stage).read(stage.moved_at.unwrap() as u64, BLOCK_BYTES as u32).is_err()
        }
        "what cannot be read is an error" => {
            let at = stage.bad_sector.unwrap() * 512;
            client(stage).read(at, BLOCK_BYTES as u32).is_err()
        }
        _ => panic!("nobody knows how to check {word:?}"),
    };
    assert!(whole, "{here}: it is not so: {word}");
}

/// Sectors of the five copies of the metadata.
const COPIES: [u64; 5] = [0, 1024, 2048, 4096, 8192];

fn disk(stage: &Stage) {
    let backup = stage.folder.join("mnt/backup");
    for (name, lines) in [("letter.txt", 4_000), ("notes.txt", 4_000), ("photo.raw", 60_000)] {
        let text: String = (0..lines).map(|line| format!("{name}, line {line}\n")).collect();
        fs::write(backup.join(name), text).unwrap();
    }
    for name in ["dev/sdX", "dev/sdY", "dev/sdZ"] {
        File::create(stage.folder.join(name)).unwrap().set_len(DISK_BYTES).unwrap();
    }
    stage.good("mkfs.ext4 -q -b 4096 -d /mnt/backup /dev/sdX");
}

/// The block `nth` of a file of the file system, in sectors of the disk.
fn sector_of(stage: &Stage, file: &str, nth: usize) -> u64 {
    let said = stage.good(&format!("debugfs -R 'blocks /{file}' /dev/sdX 2>/dev/null"));
    let block: u64 = said.split_whitespace().nth(nth).unwrap().parse().unwrap();
    block * (BLOCK_BYTES / 512)
}

fn bad_sectors(stage: &mut Stage) {
    let unreadable = sector_of(stage, "letter.txt", 2);
    let unwritable = sector_of(stage, "notes.txt", 1);
    let map = format!(
        "{:#x} 0x1000 - # heal medium\n{:#x} 0x1000 - # write io\n",
        unreadable * 512,
        unwritable * 512
    );
    stage.faults(&map, &[(unreadable, BLOCK_BYTES / 512)]);
    stage.bad_sector = Some(unreadable);
}

fn client(stage: &Stage) -> Client {
    Client::connect_unix(&stage.folder.join("run/mydisk.nbd"), "mydisk").unwrap()
}

/// Something new is written into `notes.txt`, where main does not take it.
fn moved(stage: &mut Stage) {
    let at = sector_of(stage, "notes.txt", 1) * 512;
    let client = client(stage);
    let mut block = client.read(at, BLOCK_BYTES as u32).unwrap();
    block.iter_mut().filter(|byte| byte.is_ascii_lowercase()).for_each(u8::make_ascii_uppercase);
    client.write(at, &block, true).unwrap();
    drop(client);
    stage.content = fs::read(stage.folder.join("dev/sdX")).unwrap();
    stage.content[at as usize..][..block.len()].copy_from_slice(&block);
    stage.moved_at = Some(at as usize);
    let said = stage.good("dmremap status mydisk");
    assert!(said.starts_with("8 blocks moved"), "{said}");
}

fn spare(stage: &Stage) -> PathBuf {
    stage.folder.join("dev/sdY")
}

fn spare_of(stage: &Stage, bytes: u64) {
    let _ = fs::remove_file(spare(stage));
    File::create(spare(stage)).unwrap().set_len(bytes.max(DISK_BYTES / 2)).unwrap();
}

fn damage(stage: &Stage, copies: &[u64]) {
    let file = File::options().write(true).open(spare(stage)).unwrap();
    for sector in copies {
        file.write_all_at(&[0x6b; 512 * 512], sector * 512).unwrap();
    }
}

fn open_elsewhere(stage: &Stage) {
    edit_headers(&spare(stage), &[0, 1, 2, 3, 4], |page| {
        let mut header = HeaderMut::edit(page);
        let _ = header.set_state(State::Dirty);
        let (host, boot, session) = (Uuid([0xc4; 16]), Uuid([1; 16]), Uuid([2; 16]));
        header.set_session(&Session { host, boot, session, opened_at: 1_700_000_000 });
    });
}
