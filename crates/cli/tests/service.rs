// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A server under a service manager: what it tells the manager, and what it leaves in the journal.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::Bench;

/// Starts `serve` with these variables set and its standard error in `log`; waits until it listens.
fn serve(bench: &Bench, variables: &[(&str, &str)]) -> Child {
    let log = File::options().append(true).create(true).open(bench.path("log")).unwrap();
    let mut command = bench.command(&["serve", "--spare", "spare.img"]);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening "), "{line}");
    child
}

/// The next message to the manager that `wanted` is in; the others are dropped.
fn heard(manager: &UnixDatagram, wanted: &str) -> String {
    let mut bytes = [0; 4096];
    loop {
        let len = manager.recv(&mut bytes).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if text.contains(wanted) {
            return text;
        }
    }
}

fn manager(bench: &Bench) -> (UnixDatagram, String) {
    let path = bench.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (socket, path.to_str().unwrap().to_owned())
}

#[test]
fn the_manager_hears_ready_how_it_is_and_the_end() {
    let bench = Bench::new();
    bench.format("main.img");
    let (manager, path) = manager(&bench);
    let mut server = serve(&bench, &[("NOTIFY_SOCKET", &path)]);
    let ready = heard(&manager, "READY=1");
    assert!(ready.contains("STATUS=no block moved"), "{ready}");
    bench.good(&["remap", "v", "100"]);
    let changed = heard(&manager, "STATUS=");
    assert!(changed.contains("8 blocks moved"), "{changed}");
    bench.good(&["close", "v"]);
    heard(&manager, "STOPPING=1");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watchdog_hears_that_it_is_alive() {
    let bench = Bench::new();
    bench.format("main.img");
    let (manager, path) = manager(&bench);
    let mut server = serve(&bench, &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000")]);
    for _ in 0..3 {
        heard(&manager, "WATCHDOG=1");
    }
    bench.good(&["close", "v"]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main("0x64000 0x200 - # read medium\n"));
    let log = File::create(bench.path("log")).unwrap().metadata().unwrap();
    let stream = format!("{}:{}", log.dev(), log.ino());
    let mut server = serve(&bench, &[("JOURNAL_STREAM", &stream)]);
    bench.good(&["remap", "v", "100"]);
    let (code, _) = bench.code(&["verify", "v", "800"]);
    assert_eq!(code, 4);
    bench.good(&["close", "v"]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let text = std::fs::read_to_string(bench.path("log")).unwrap();
    assert!(text.contains("<6>moved to spare sector "), "{text}");
    assert!(text.contains("<4>not readable: "), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<') && !line.contains('\u{1b}')), "{text}");

    // The last words of a failure too.
    let refused = File::options().append(true).open(bench.path("log")).unwrap();
    let mut command = bench.command(&["serve", "--spare", "missing.img"]);
    let status = command.env("JOURNAL_STREAM", &stream).stderr(refused).status().unwrap();
    assert_eq!(status.code(), Some(4));
    let text = std::fs::read_to_string(bench.path("log")).unwrap();
    assert!(text.contains("\n<3>dmremap: ") && text.contains("; try: "), "{text}");
}

#[test]
fn a_variable_inherited_from_elsewhere_makes_no_journal() {
    let bench = Bench::new();
    bench.format("main.img");
    let mut server = serve(&bench, &[("JOURNAL_STREAM", "1:2")]);
    bench.good(&["remap", "v", "100"]);
    bench.good(&["close", "v"]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let text = std::fs::read_to_string(bench.path("log")).unwrap();
    assert!(text.contains("INFO") && text.starts_with("20"), "{text}");
}

#[test]
fn a_storm_of_ten_thousand_bad_sectors_is_a_few_lines() {
    let bench = Bench::new();
    // 10,000 sectors, 1,250 units, each an event of its own.
    bench.format(&bench.faulty_main("0x0 0x4e2000 - # read medium\n"));
    let begun = Instant::now();
    let server = bench.serve(&[]);
    for (key, value) in [("read_retries", "1"), ("retry_backoff_ms", "0")] {
        bench.good(&["message", "v", "set", key, value]);
    }
    let client = server.connect();
    for unit in 0..1250 {
        assert!(client.read(unit * 4096, 4096).is_err(), "unit {unit}");
    }
    drop(client);
    assert_eq!(server.stop(), 0);
    let windows = begun.elapsed().as_secs() / 5 + 2;
    let text = std::fs::read_to_string(bench.path("log")).unwrap();
    let counts = text.lines().filter_map(|line| line.split_once(" more suppressed"));
    let left_out: u64 =
        counts.filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    let shown = text
        .lines()
        .filter(|line| line.contains("not readable: ") && !line.contains("suppressed"))
        .count() as u64;
    assert!(shown <= 10 * windows, "{shown} lines in {windows} windows");
    assert_eq!(shown + left_out, 1250, "shown and counted are all there were:\n{text}");
}
