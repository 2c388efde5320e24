// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `close`: when it returns with 0 the server has gone and all is in order; else it says why.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Bench, Serving, known};
use rustix::fs::{FlockOperation, flock};

/// Waits for the server's own end; its exit code.
fn end(mut server: Serving) -> i32 {
    server.child.wait().unwrap().code().unwrap_or(-1)
}

#[test]
fn close_leaves_everything_in_order_and_free() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    server.connect().write(4096, &[0xd4; 512], false).unwrap();
    assert_eq!(bench.good(&["close", "v"]), "Closed.\n");
    // At once, without waiting for anybody: the sockets are gone, the devices free.
    assert_eq!(std::fs::read_dir(bench.path("run")).unwrap().count(), 0);
    for name in ["main.img", "spare.img"] {
        let file = std::fs::File::open(bench.path(name)).unwrap();
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive);
        assert!(free.is_ok(), "{name} is still held");
    }
    assert_eq!(bench.json(&["examine", "spare.img", "--json"])["volume"]["state"], "clean");
    assert_eq!(bench.main_sector(8), [0xd4; 512]);
    assert_eq!(end(server), 0);
    let (code, said) = bench.code(&["close", "v"]);
    assert!(code == 4 && said.contains("no volume is running"), "{code} {said}");
}

#[test]
fn close_by_the_control_socket_and_as_a_message() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&["--control", "own.control"]);
    assert_eq!(bench.good(&["close", "--control", "own.control"]), "Closed.\n");
    assert_eq!(end(server), 0);
    let server = bench.serve(&["--read-only"]);
    assert!(bench.good(&["message", "v", "help"]).contains("close [force]"));
    bench.good(&["message", "v", "close"]);
    assert_eq!(end(server), 0, "a read-only volume has nothing to leave in disorder");
}

#[test]
fn close_is_refused_while_clients_are_connected_unless_they_may_be_cut() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    client.write(0, &[7; 512], false).unwrap();
    let (code, said) = bench.code(&["close", "v"]);
    assert!(code == 5 && said.contains("1 client is connected"), "{code} {said}");
    assert!(said.trim_end().ends_with("close v --force=clients"), "{said}");
    // Refused is refused: it goes on serving.
    assert_eq!(client.read(0, 512).unwrap(), [7; 512]);
    assert_eq!(bench.good(&["close", "v", "--force=clients"]), "Closed.\n");
    assert!(client.read(0, 512).is_err());
    assert_eq!(end(server), 0);
    assert_eq!(bench.main_sector(0), [7; 512]);
    assert_eq!(bench.main_sector(1), [known(512); 512]);
}

#[test]
fn a_client_that_is_about_to_go_is_waited_for() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    let mut close = bench.command(&["close", "v"]).stdout(Stdio::null()).spawn().unwrap();
    // It has been asked, and the client is still there; then it goes.
    while !std::fs::read_to_string(bench.path("log")).unwrap().contains("asks: close") {
        assert!(close.try_wait().unwrap().is_none(), "refused at once");
        std::thread::yield_now();
    }
    client.disconnect().unwrap();
    assert_eq!(close.wait().unwrap().code(), Some(0));
    assert_eq!(end(server), 0);
}

#[test]
fn a_close_that_is_not_clean_says_so() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::write(bench.path("map"), "").unwrap();
    let outage = bench.path("outage");
    let spare =
        format!("faulty:spare.img?map={}&outage={}", bench.path("map").display(), outage.display());
    let mut command = bench.command(&["serve", "--spare", &spare, "--main", "main.img"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening "), "{line}");
    std::fs::write(outage, "io").unwrap();
    let (code, said) = bench.code(&["close", "v"]);
    assert!(code == 3 && said.contains("not cleanly"), "{code} {said}");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(bench.json(&["examine", "spare.img", "--json"])["volume"]["state"], "dirty");
}

#[test]
fn several_who_close_at_once_all_hear_how_it_ended() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let all: Vec<_> =
        (0..4).map(|_| bench.command(&["close", "v"]).stderr(Stdio::null()).spawn()).collect();
    let codes: Vec<_> =
        all.into_iter().map(|child| child.unwrap().wait().unwrap().code().unwrap()).collect();
    // Who comes after the end finds nothing; nobody hears anything else.
    assert!(codes.contains(&0) && codes.iter().all(|code| [0, 3, 4].contains(code)), "{codes:?}");
    assert_eq!(end(server), 0);
}
