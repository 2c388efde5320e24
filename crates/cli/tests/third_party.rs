// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A fault that is not ours: main is served by an nbdkit plugin that answers EIO where a file says
//! so, and reaches us as a file that nbdfuse mounts. The errors come through the kernel, from the
//! system calls a real disk's errors come from.

mod common;
#[path = "common/mounts.rs"]
mod mounts;
#[path = "common/programs.rs"]
mod programs;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, known};
use dmremap_nbd::{Client, ClientError};
use mounts::{Fuse, Process};
use programs::all_there;

/// The plugin's answer to `OPERATION LENGTH OFFSET`: an error if a line of `bad` names the
/// operation and a sector in that range.
const FAILS: &str = r#"
while read -r operation sector; do
    at=$((sector * 512))
    if [ "$operation" = "$1" ] && [ "$at" -lt $(($3 + $2)) ] && [ $((at + 512)) -gt "$3" ]; then
        echo "EIO sector $sector" >&2
        exit 1
    fi
done < bad
exit 0
"#;

/// A main of 4 MiB that fails at the word of a file.
struct ThirdParty {
    fuse: Fuse,
    _nbdkit: Process,
    folder: PathBuf,
}

impl ThirdParty {
    fn start(bench: &Bench) -> ThirdParty {
        let folder = bench.path("third");
        fs::create_dir(&folder).unwrap();
        let bytes: Vec<u8> = (0..4 << 20).map(known).collect();
        fs::write(folder.join("disk"), bytes).unwrap();
        fs::write(folder.join("fails.sh"), FAILS).unwrap();
        fs::write(folder.join("bad"), "").unwrap();
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.current_dir(&folder).args(["-f", "-P", "pid", "-U", "socket", "eval"]);
        let script = |name: &str, text: &str| format!("{name}=cd '{}' && {text}", folder.display());
        nbdkit.args([
            script("get_size", "stat -c %s disk"),
            script(
                "pread",
                "sh fails.sh read $3 $4 && \
                 dd if=disk skip=$4 count=$3 iflag=skip_bytes,count_bytes bs=1M status=none",
            ),
            script(
                "pwrite",
                "sh fails.sh write $3 $4 && \
                 dd of=disk seek=$4 oflag=seek_bytes bs=1M conv=notrunc status=none",
            ),
            script("flush", "sh fails.sh flush 512 0"),
            "can_write=exit 0".to_owned(),
            "can_flush=exit 0".to_owned(),
        ]);
        let log = File::create(folder.join("log")).unwrap();
        let nbdkit = Process::start(nbdkit.stderr(log));
        mounts::wait_until("nbdkit", || folder.join("pid").exists());
        let uri = format!("nbd+unix:///?socket={}", folder.join("socket").display());
        let fuse = Fuse::mount(&bench.path("fuse"), &uri);
        ThirdParty { fuse, _nbdkit: nbdkit, folder }
    }

    /// From now on these lines say what fails.
    fn fails(&self, lines: &str) {
        fs::write(self.folder.join("fresh"), lines).unwrap();
        fs::rename(self.folder.join("fresh"), self.folder.join("bad")).unwrap();
    }

    /// What the plugin keeps at a sector.
    fn sector(&self, sector: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        File::open(self.folder.join("disk"))
            .unwrap()
            .read_exact_at(&mut bytes, sector * 512)
            .unwrap();
        bytes
    }
}

fn is_eio<T: std::fmt::Debug>(result: Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Remote(errno)) if errno.0 == 5)
}

fn filled(byte: u8, sectors: usize) -> Vec<u8> {
    vec![byte; sectors * 512]
}

/// The flags with which a process has a file open, as `/proc` tells.
fn open_flags(process: u32, file: &Path) -> Vec<u32> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("fd")).unwrap() {
        let entry = entry.unwrap();
        if fs::read_link(entry.path()).is_ok_and(|target| target == file) {
            let info = fs::read_to_string(folder.join("fdinfo").join(entry.file_name())).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            found.push(u32::from_str_radix(flags.trim(), 8).unwrap());
        }
    }
    found
}

fn status(bench: &Bench, key: &str) -> u64 {
    bench.json(&["status", "v", "--json"])[key].as_u64().unwrap()
}

#[test]
fn errors_of_somebody_elses_device_are_moved_or_passed_up() {
    const NAME: &str = "errors_of_somebody_elses_device_are_moved_or_passed_up";
    if !mounts::possible(NAME, false) || !all_there(NAME, &["nbdkit"]) {
        return;
    }
    let bench = Bench::new();
    let third = ThirdParty::start(&bench);
    let main = third.fuse.file();
    bench.format(main.to_str().unwrap());
    // Such a file proves nothing of itself, and what it holds has no name: a person must say so.
    let (code, said) = bench.code(&["serve", "--spare", "spare.img"]);
    assert!(code == 6 && said.contains("--accept-main=same"), "{code} {said}");
    let server = bench.serve(&["--accept-main=same"]);
    bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
    // Past the page cache: else an error of a write would come late, and without its sector.
    let direct = rustix::fs::OFlags::DIRECT.bits();
    let flags = open_flags(server.child.id(), &main);
    assert!(!flags.is_empty() && flags.iter().all(|flags| flags & direct != 0), "{flags:?}");

    let client = server.connect();
    assert_eq!(client.read(800 * 512, 512).unwrap(), [known(800 * 512); 512]);
    third.fails("write 803\nwrite 1600\nread 1600\nread 2400\n");
    writes_are_moved(&bench, &third, &client);
    reads_are_errors(&bench, &third, &client);
    a_failed_flush_is_told_once(&third, &client);
    drop(client);
    server.kill();

    let server = bench.serve(&["--accept-main=same"]);
    let client = server.connect();
    for (sector, byte) in [(803, 0xa1), (1600, 0xa3), (2400, 0xa4)] {
        assert_eq!(client.read(sector * 512, 512).unwrap(), filled(byte, 1), "sector {sector}");
    }
    drop(client);
    assert_eq!(server.stop(), 0);
}

fn writes_are_moved(bench: &Bench, third: &ThirdParty, client: &Client) {
    client.write(803 * 512, &filled(0xa1, 1), false).unwrap();
    assert_eq!((status(bench, "remapped_blocks"), status(bench, "entries")), (1, 1));
    assert_eq!(client.read(803 * 512, 512).unwrap(), filled(0xa1, 1));
    assert_eq!(third.sector(803), [known(803 * 512); 512], "the plugin never got it");
    // A healthy neighbour is written where it is.
    client.write(804 * 512, &filled(0xa2, 1), true).unwrap();
    assert_eq!(third.sector(804), filled(0xa2, 1));
    assert_eq!(status(bench, "remapped_blocks"), 1);
}

fn reads_are_errors(bench: &Bench, third: &ThirdParty, client: &Client) {
    assert!(is_eio(client.read(2400 * 512, 512)));
    assert!(is_eio(client.read(2396 * 512, 4096)), "also in a larger request");
    for neighbour in [2399, 2401] {
        assert_eq!(client.read(neighbour * 512, 512).unwrap(), [known(neighbour * 512); 512]);
    }
    assert!(is_eio(client.read(1600 * 512, 512)));
    assert_eq!((status(bench, "pending_blocks"), status(bench, "remapped_blocks")), (2, 1));
    // Written again both are good: on the spare, which is where writes to unreadable blocks go.
    client.write(1600 * 512, &filled(0xa3, 1), false).unwrap();
    client.write(2400 * 512, &filled(0xa4, 1), false).unwrap();
    assert_eq!(client.read(1600 * 512, 512).unwrap(), filled(0xa3, 1));
    assert_eq!(client.read(2400 * 512, 512).unwrap(), filled(0xa4, 1));
    assert_eq!((status(bench, "pending_blocks"), status(bench, "remapped_blocks")), (0, 3));
    assert_eq!(third.sector(1600), [known(1600 * 512); 512]);
}

fn a_failed_flush_is_told_once(third: &ThirdParty, client: &Client) {
    client.flush().unwrap();
    third.fails("flush 0\nwrite 803\nwrite 1600\nread 1600\nread 2400\n");
    assert!(is_eio(client.flush()), "a lost write-back reaches the client");
    third.fails("write 803\nwrite 1600\nread 1600\nread 2400\n");
    client.flush().unwrap();
}
