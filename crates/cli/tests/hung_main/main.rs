// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Sixteen volumes at once, one with a main that answers nothing: the other fifteen go on, take
//! messages and close; the hung one's requests wait for their device and end when it goes on. Once
//! with a server each, its main a FUSE file whose process is stopped; and with all sixteen in one
//! process, where they could share something: with such a file, and with a device of the test.

#[path = "../common/mod.rs"]
mod common;
mod in_process;
#[path = "../common/mounts.rs"]
mod mounts;
#[path = "../common/programs.rs"]
mod programs;

use std::path::Path;
use std::process::Command;

use common::Bench;
use dmremap_nbd::{Client, Operation};
use mounts::{Fuse, Process};
use programs::all_there;

/// Volumes that go on.
const OTHERS: usize = 15;
/// Rounds of writing and reading each of them does while one hangs.
const ROUNDS: u64 = 8;
/// Requests that wait for the hung main: more than any pool of threads has room for.
const WAITING: u64 = 200;

/// Sectors that say where they are and when they were written.
fn pattern(sector: u64, sectors: u64, round: u64) -> Vec<u8> {
    let one = |at: u64| [at.to_le_bytes(), round.to_le_bytes()].concat().repeat(32);
    (sector..sector + sectors).flat_map(one).collect()
}

/// A file of 16 MiB behind nbdkit and nbdfuse.
struct Remote {
    fuse: Fuse,
    _nbdkit: Process,
}

impl Remote {
    fn serve(folder: &Path, image: &Path) -> Remote {
        let (socket, pid) = (folder.join("remote.socket"), folder.join("remote.pid"));
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.arg("-f").arg("-P").arg(&pid).arg("-U").arg(&socket).arg("file").arg(image);
        let nbdkit = Process::start(&mut nbdkit);
        mounts::wait_until("nbdkit", || pid.exists());
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        Remote { fuse: Fuse::mount(&folder.join("fuse"), &uri), _nbdkit: nbdkit }
    }
}

/// Writes, reads and moves through NBD and the control socket.
fn work(bench: &Bench, client: &Client) {
    for round in 0..ROUNDS {
        let sector = 1000 + round * 40;
        let bytes = pattern(sector, 24, round);
        client.write(sector * 512, &bytes, round % 2 == 0).unwrap();
        assert!(client.read(sector * 512, 24 * 512).unwrap() == bytes);
        if round % 4 == 0 {
            bench.good(&["remap", "v", &(sector + 8).to_string()]);
            assert!(client.read(sector * 512, 24 * 512).unwrap() == bytes);
        }
    }
    client.flush().unwrap();
}

#[test]
fn fifteen_servers_go_on_while_one_has_a_hung_main() {
    const NAME: &str = "fifteen_servers_go_on_while_one_has_a_hung_main";
    if !mounts::possible(NAME, false) || !all_there(NAME, &["nbdkit"]) {
        return;
    }
    let hung = Bench::new();
    let remote = Remote::serve(&hung.path(""), &hung.path("main.img"));
    hung.format(remote.fuse.file().to_str().unwrap());
    let hung_server = hung.serve(&["--accept-main=same"]);
    let hung_client = hung_server.connect();
    let others: Vec<Bench> = (0..OTHERS).map(|_| Bench::new()).collect();
    let servers: Vec<_> = others
        .iter()
        .map(|bench| {
            bench.format("main.img");
            bench.serve(&[])
        })
        .collect();

    let frozen = remote.fuse.freeze();
    // One sector each, so that all of them fit into the socket of a server that takes no more.
    let data = pattern(64, 1, 7);
    let waiting: Vec<_> = (0..WAITING)
        .map(|n| {
            let write = Operation::Write { offset: 64 * 512, data: &data, fua: false };
            let read = Operation::Read { offset: 20_000 * 512, len: 512 };
            hung_client.submit(if n % 2 == 0 { write } else { read }).unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for (bench, server) in others.iter().zip(&servers) {
            scope.spawn(|| work(bench, &server.connect()));
        }
    });
    // What waits for the device waits; what does not is answered.
    assert_eq!(hung_client.under_way() as u64, WAITING);
    assert_eq!(hung.good(&["message", "v", "ping"]), "pong\n");
    let status = hung.json(&["status", "v", "--json"]);
    assert_eq!((&status["state"], &status["entries"]), (&"ok".into(), &0.into()));
    for server in servers {
        assert_eq!(server.stop(), 0, "the others close");
    }
    for bench in &others {
        let examined = bench.json(&["examine", "spare.img", "--json"]);
        assert_eq!(examined["volume"]["state"], "clean");
    }

    drop(frozen);
    for (n, cookie) in waiting.into_iter().enumerate() {
        let bytes = hung_client.wait(cookie).expect("late is not failed");
        assert!(n % 2 == 0 || bytes == [common::known(20_000 * 512); 512]);
    }
    work(&hung, &hung_client);
    assert_eq!(hung_client.read(64 * 512, 512).unwrap(), data);
    drop(hung_client);
    assert_eq!(hung_server.stop(), 0);
    let examined = hung.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["state"], "clean");
}
