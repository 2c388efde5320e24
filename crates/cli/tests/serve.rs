// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume that is served: what clients, the control socket and the next open see.

mod common;

use std::time::Duration;

use common::{Bench, IMAGE_BYTES, installed, known, skip};
use dmremap_nbd::Operation;
use serde_json::json;

/// Sectors 800 to 803 cannot be written, 1600 and 1601 neither read nor written.
const MAP: &str = "0x64000 0x800 - # write io\n0xc8000 0x400 - # both medium\n";

fn sector(byte: u8) -> Vec<u8> {
    vec![byte; 512]
}

#[test]
fn a_write_error_is_moved_and_survives_kill_and_reopen() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(MAP));
    let server = bench.serve(&[]);
    let client = server.connect();
    assert_eq!(client.export().size_bytes, IMAGE_BYTES);
    assert_eq!(client.read(800 * 512, 512).unwrap(), sector(known(800 * 512)));
    client.write(800 * 512, &sector(0xa1), false).unwrap();
    assert_eq!(client.read(800 * 512, 512).unwrap(), sector(0xa1));
    // The neighbour was not written, and stays where it is.
    assert_eq!(client.read(801 * 512, 512).unwrap(), sector(known(801 * 512)));
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!((&status["remapped_blocks"], &status["entries"]), (&json!(1), &json!(1)));
    assert_eq!(status["state"], "ok");
    server.kill();

    let server = bench.serve(&[]);
    let client = server.connect();
    assert_eq!(client.read(800 * 512, 512).unwrap(), sector(0xa1));
    let list = bench.json(&["list", "v", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!((&list[0]["main_sector"], &list[0]["sectors"]), (&json!(800), &json!(1)));
    assert_eq!(list[0]["state"], "remapped");
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_eq!(bench.main_sector(800), [known(800 * 512); 512], "main is as it was");
    let at_rest = bench.json(&["list", "--spare", "spare.img", "--json"]);
    for key in ["main_sector", "sectors", "spare_index", "spare_sector", "state"] {
        assert_eq!(at_rest[0][key], list[0][key], "{key}");
    }
    assert_eq!(bench.code(&["check", "--spare", "spare.img"]).0, 0);
}

#[test]
fn what_cannot_be_read_is_an_error_until_it_is_overwritten() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(MAP));
    let server = bench.serve(&[]);
    let client = server.connect();
    for at in [1600, 1601] {
        assert!(client.read(at * 512, 512).is_err());
    }
    assert_eq!(client.read(1602 * 512, 512).unwrap(), sector(known(1602 * 512)));
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!(status["pending_blocks"], 2);
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 2);
    let screen = bench.good(&["status", "v"]);
    assert!(screen.lines().next().unwrap().contains("2 lost"), "{screen}");
    client.write(1600 * 512, &sector(0xb2).repeat(2), true).unwrap();
    assert_eq!(client.read(1600 * 512, 1024).unwrap(), sector(0xb2).repeat(2));
    assert_eq!(bench.json(&["status", "v", "--json"])["pending_blocks"], 0);
    assert_eq!(bench.code(&["status", "v", "--test"]).0, 0);
}

#[test]
fn sigterm_flushes_closes_and_removes_the_sockets() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    assert!(server.uri.starts_with("nbd+unix:///v?socket="), "{}", server.uri);
    server.connect().write(0, &sector(0xc3), false).unwrap();
    assert_eq!(server.stop(), 0);
    assert_eq!(std::fs::read_dir(bench.path("run")).unwrap().count(), 0);
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["state"], "clean");
    assert_eq!(bench.main_sector(0), [0xc3; 512]);
}

#[test]
fn a_second_signal_ends_a_server_that_waits_for_its_device() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(""));
    let mut server = bench.serve(&[]);
    let client = server.connect();
    client.write(8 * 512, &[0x88; 512], true).unwrap();
    // Main is suspect: a write is held for half a minute.
    bench.faulty_main("#! outage io\n");
    client.submit(Operation::Write { offset: 64 * 512, data: &[0x99; 512], fua: false }).unwrap();
    let suspect = || bench.json(&["status", "v", "--json"])["state"] == "main_suspect";
    assert!((0..1000).any(|_| suspect()), "the write has not come");
    let pid = rustix::process::Pid::from_child(&server.child);
    let mut signals = 0;
    let code = loop {
        // The first asks for an end in order, which cannot come.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        signals += 1;
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = server.child.try_wait().unwrap() {
            break status.code();
        }
        assert!(signals < 1000, "it does not end");
    };
    assert!(signals > 1 && code == Some(1), "{signals} signals, {code:?}");
    bench.faulty_main("");
    let server = bench.serve(&[]);
    assert_eq!(server.connect().read(8 * 512, 512).unwrap(), [0x88; 512], "it was acknowledged");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_killed_server_leaves_the_header_dirty() {
    let bench = Bench::new();
    bench.format("main.img");
    bench.serve(&[]).kill();
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["state"], "dirty");
    assert_eq!(bench.serve(&[]).stop(), 0);
}

#[test]
fn a_second_server_is_refused_as_busy() {
    let bench = Bench::new();
    bench.format("main.img");
    let _server = bench.serve(&[]);
    let (code, said) = bench.code(&["serve", "--spare", "spare.img"]);
    assert_eq!(code, 5, "{said}");
}

#[test]
fn failure_9_17_messages_are_answered_with_words_or_refused_with_a_reason() {
    let bench = Bench::new();
    bench.format("main.img");
    let _server = bench.serve(&[]);
    assert_eq!(bench.good(&["message", "v", "ping"]), "pong\n");
    assert!(bench.good(&["message", "v", "help"]).contains("unremap SECTOR"));
    assert!(bench.good(&["remap", "v", "100"]).contains("lives at spare sector"));
    assert_eq!(bench.json(&["list", "v", "--json"])[0]["sectors"], 8);
    assert_eq!(bench.code(&["remap", "v", "100"]).0, 5, "it has moved already");
    assert!(bench.good(&["verify", "v", "100"]).contains("reads well"));
    assert!(bench.good(&["unremap", "v", "100"]).contains("home"));
    assert_eq!(bench.json(&["list", "v", "--json"]), json!([]));
    let (code, said) = bench.code(&["remap", "v", "99999999"]);
    assert_eq!(code, 1, "{said}");
    let (code, said) = bench.code(&["remap", "v", "8", "12"]);
    assert!(code == 6 && said.contains("nearest legal one"), "{code} {said}");
    let (code, said) = bench.code(&["message", "v", "scan", "start"]);
    assert!(code == 1 && said.contains("a later one will"), "{code} {said}");
    assert_eq!(bench.json(&["stats", "v", "--json"])["remaps"]["manual"], 1);
    assert_eq!(bench.good(&["message", "v", "set", "read_retries", "5"]).lines().count(), 1);
    assert!(bench.good(&["message", "v", "get", "read_retries"]).contains('5'));
}

#[test]
fn without_local_configuration_main_must_be_named() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::remove_file(bench.path("volumes.conf")).unwrap();
    let (code, said) = bench.code(&["serve", "--spare", "spare.img"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("try: dmremap serve --spare spare.img --main DEV"), "{said}");
    // An accepted open writes it again.
    assert_eq!(bench.serve(&["--main", "main.img"]).stop(), 0);
    assert_eq!(bench.serve(&[]).stop(), 0);
}

#[test]
fn another_main_is_refused() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::copy(bench.path("main.img"), bench.path("other.img")).unwrap();
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let (code, said) = bench.code(&["serve", "--spare", "spare.img", "--main", "other.img"]);
    assert_eq!(code, 6, "{said}");
    assert_eq!(std::fs::read(bench.path("spare.img")).unwrap(), before, "nothing was written");
}

#[test]
fn read_only_writes_nothing_anywhere() {
    let bench = Bench::new();
    bench.format("main.img");
    let before = std::fs::read(bench.path("spare.img")).unwrap();
    let server = bench.serve(&["--read-only"]);
    let client = server.connect();
    assert_eq!(client.read(0, 512).unwrap(), sector(known(0)));
    assert!(client.write(0, &sector(1), false).is_err());
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_eq!(std::fs::read(bench.path("spare.img")).unwrap(), before);
    assert_eq!(bench.main_sector(0), [known(0); 512]);
}

#[test]
fn a_foreign_nbd_client_reads_the_same_bytes() {
    const NAME: &str = "a_foreign_nbd_client_reads_the_same_bytes";
    for program in ["qemu-img", "nbdinfo"] {
        if !installed(program) {
            return skip(NAME, &format!("{program} is not installed"));
        }
    }
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let run = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program).args(args).output().unwrap();
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let size = String::from_utf8(run("nbdinfo", &["--size", &server.uri])).unwrap();
    assert_eq!(size.trim(), IMAGE_BYTES.to_string());
    let copy = bench.path("copy.img");
    run("qemu-img", &["convert", "-f", "raw", &server.uri, "-O", "raw", copy.to_str().unwrap()]);
    let (a, b) = (std::fs::read(copy).unwrap(), std::fs::read(bench.path("main.img")).unwrap());
    assert!(a == b);
}

#[test]
fn the_status_of_a_spare_says_whether_it_was_closed_in_order() {
    let bench = Bench::new();
    bench.format("main.img");
    let header = || {
        let screen = bench.good(&["status", "--spare", "spare.img"]);
        let status = bench.json(&["status", "--spare", "spare.img", "--json"]);
        assert!(screen.lines().next().unwrap().contains("intact"), "{screen}");
        let word = status["header_state"].as_str().unwrap().to_owned();
        assert!(screen.contains(&format!("  header       {word} (")), "{screen}");
        word
    };
    assert_eq!(header(), "clean");
    let server = bench.serve(&[]);
    assert_eq!(header(), "dirty");
    assert_eq!(bench.json(&["status", "v", "--json"])["header_state"], json!(null));
    server.kill();
    assert_eq!(header(), "dirty");
    assert_eq!(bench.serve(&[]).stop(), 0);
    assert_eq!(header(), "clean");
}

#[test]
fn another_user_is_sent_away_whatever_the_sockets_mode() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NAME: &str = "another_user_is_sent_away_whatever_the_sockets_mode";
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return skip(NAME, "only root can be somebody else");
    }
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let opened = |path: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(bench.path(path), mode).unwrap();
    };
    opened("", 0o755);
    opened("run", 0o755);
    opened("run/v.control", 0o666);
    let run = |uid: u32, words: &[&str]| {
        let out = bench.command(words).uid(uid).gid(uid).output().unwrap();
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.code(), said)
    };
    for words in [&["status", "v"][..], &["remap", "v", "100"], &["close", "v"]] {
        let (code, said) = run(NOBODY, words);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("user 65534 (process ") && said.contains("may not speak"), "{said}");
    }
    assert_eq!(bench.json(&["status", "v", "--json"])["entries"], 0);
    // Who changes something is written down, who only looks is not.
    assert_eq!(run(0, &["remap", "v", "100"]).0, Some(0));
    let log = std::fs::read_to_string(bench.path("log")).unwrap();
    assert!(log.contains("user 0 (process ") && log.contains("asks: remap 100"), "{log}");
    assert!(!log.contains("asks: status"), "{log}");
    assert_eq!(server.stop(), 0);
}
