// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a running volume is asked that cannot be: sectors, sockets, garbage. It says why and what
//! would be legal, changes nothing, and goes on serving.

mod common;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use common::{Bench, IMAGE_BYTES, known};
use refusal::{content, refused, settled};
use serde_json::Value;

/// The volume still answers, and its main is what it was.
fn still_serves(bench: &Bench, server: &common::Serving) {
    assert_eq!(server.connect().read(512, 512).unwrap(), [known(512); 512]);
    assert_eq!(bench.good(&["message", "v", "ping"]), "pong\n");
}

#[test]
fn sectors_of_main_that_cannot_be_moved() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "800"]);
    let last = (IMAGE_BYTES / 512 - 1).to_string();
    for sector in ["32768", "99999999", "18446744073709551615"] {
        refused(&bench, &["remap", "v", sector], 1, &["SECTOR", &last]);
        refused(&bench, &["unremap", "v", sector], 1, &["SECTOR", &last]);
        refused(&bench, &["verify", "v", sector], 1, &["SECTOR", &last]);
        refused(&bench, &["message", "v", "add", sector, "9216"], 1, &["MAIN_SECTOR", &last]);
    }
    for word in ["18446744073709551616", "-1", "8.5", "8x", "+8", "", "0x", "1e3", "٨"] {
        let out = bench.run(&["message", "v", "remap", word]);
        assert_eq!(out.status.code(), Some(1), "{word:?}");
    }
    let next = refused(&bench, &["remap", "v", "803"], 5, &["remap 803", "already"]);
    assert_eq!(next, "dmremap unremap v 803");
    let next = refused(&bench, &["unremap", "v", "8"], 4, &["unremap 8", "lives on main"]);
    assert_eq!(next, "dmremap list v");
    still_serves(&bench, &server);
}

#[test]
fn a_sector_in_the_middle_of_a_block() {
    let bench = Bench::new();
    let words = ["format", "--main", "main.img", "--spare", "spare.img", "--name", "v", "--yes"];
    bench.good(&[&words[..], &["--block-size", "4096"]].concat());
    let server = bench.serve(&[]);
    let add = ["message", "v", "add", "803", "9219"];
    let next = refused(&bench, &add, 1, &["803", "in steps of 8"]);
    assert_eq!(next, "dmremap message v add 800 9219");
    still_serves_blocks(&server);
}

fn still_serves_blocks(server: &common::Serving) {
    let bytes = server.connect().read(0, 4096).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == known(at as u64)));
}

/// The first spare sector that a refusal says is legal.
fn nearest(line: &str) -> u64 {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let after = ["nearest legal ones are ", "nearest legal one is "];
    let rest = after.iter().find_map(|words| line.split_once(words)).map(|(_, rest)| rest);
    digits(rest.unwrap_or_else(|| panic!("{line}"))).parse().unwrap()
}

#[test]
fn spare_sectors_that_cannot_be_used() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    let number = |key: &str| examined["volume"][key].as_u64().unwrap();
    let (start, end) = (number("data_start"), number("data_end"));
    bench.good(&["remap", "v", "800", &start.to_string()]);
    for (place, sector) in [
        ("used", start),
        ("the header of copy 0", 0),
        ("a table page of copy 4", 8_208),
        ("the gap between two copies", 3_072),
        ("the last sector before the data", start - 8),
        ("the last MiB", end),
        ("the very last unit", IMAGE_BYTES / 512 - 8),
        ("beyond the end", IMAGE_BYTES / 512),
        ("far beyond the end", 1 << 43),
        ("another place in its unit", start + 17),
    ] {
        for words in [["remap", "v", "1600"], ["message", "v", "add 1600"]] {
            let to = sector.to_string();
            let out = bench.run(&[&words[..], &[&to]].concat());
            let line = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(6), "{place}: {line}");
            refused(&bench, &[&words[..], &[&to]].concat(), 6, &["1600", "nearest legal"]);
            let legal = nearest(&line);
            assert!(legal >= start && legal < end && legal % 8 == 0, "{place}: {line}");
        }
    }
    // The sector it names is taken.
    let taken = bench.run(&["remap", "v", "1600", "0"]);
    let legal = nearest(&String::from_utf8(taken.stderr).unwrap()).to_string();
    assert!(bench.good(&["remap", "v", "1600", &legal]).contains(&legal));
    still_serves(&bench, &server);
}

#[test]
fn a_spare_that_is_full() {
    let bench = Bench::new();
    let words = ["format", "--main", "main.img", "--spare", "spare.img", "--name", "v", "--yes"];
    bench.good(&[&words[..], &["--max-remaps", "2"]].concat());
    let server = bench.serve(&[]);
    for sector in ["80", "160"] {
        bench.good(&["remap", "v", sector]);
    }
    settled(&bench);
    let next = refused(&bench, &["remap", "v", "240"], 6, &["remap 240", "spare unit"]);
    assert_eq!(next, "dmremap list v");
    // What it says makes room.
    bench.good(&["unremap", "v", "80"]);
    bench.good(&["remap", "v", "240"]);
    still_serves(&bench, &server);
}

#[test]
fn two_servers_on_one_volume() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let other = ["serve", "--spare", "spare.img", "--nbd", "unix:n", "--control", "c"];
    refused(&bench, &other, 5, &["spare.img", "in use"]);
    refused(&bench, &[&other[..], &["--read-only", "--force=in-use"]].concat(), 5, &["spare.img"]);
    still_serves(&bench, &server);
}

#[test]
fn a_socket_path_that_is_taken() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    // A second volume that wants the sockets of the first, or the path of a file.
    fs::write(bench.path("main2.img"), vec![1; IMAGE_BYTES as usize]).unwrap();
    File::create(bench.path("spare2.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
    let words = ["--main", "main2.img", "--spare", "spare2.img", "--name", "w", "--yes"];
    bench.good(&[&["format"], &words[..]].concat());
    fs::write(bench.path("file"), "precious").unwrap();
    let long = format!("unix:{}", "x".repeat(120));
    for (words, code, thing) in [
        (["--nbd", "unix:run/v.nbd"], 5, "run/v.nbd"),
        (["--nbd", "unix:file"], 6, "file"),
        (["--nbd", &long], 1, "xxxx"),
        (["--nbd", "tcp:0.0.0.0:0"], 6, "0.0.0.0:0"),
        (["--nbd", "carrier-pigeon"], 1, "carrier-pigeon"),
        (["--nbd", "tcp:nowhere.invalid"], 1, "nowhere.invalid"),
        (["--nbd", "tcp:127.0.0.1:99999"], 1, "99999"),
        (["--nbd", "tcp:[2001:db8::1]:0"], 6, "2001:db8::1"),
        (["--nbd", "unix:"], 1, "unix:"),
        (["--nbd", "unix:nowhere/n"], 4, "nowhere"),
        (["--control", "nowhere/c"], 4, "nowhere/c"),
        (["--control", "run/v.control"], 5, "run/v.control"),
        (["--control", "file"], 5, "file"),
    ] {
        let args = [&["serve", "--spare", "spare2.img"], &words[..]].concat();
        refused(&bench, &args, code, &[thing]);
    }
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"precious");
    still_serves(&bench, &server);
}

/// A connection to a socket, with an end to every wait.
fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Bytes that look like anything but NBD; the seed is fixed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Negotiates export `v` with simple replies; what follows are requests.
fn negotiated(path: &Path) -> UnixStream {
    let mut stream = connect(path);
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
    let option = [&b"IHAVEOPT"[..], &7u32.to_be_bytes(), &7u32.to_be_bytes()].concat();
    let name = [&1u32.to_be_bytes()[..], b"v", &0u16.to_be_bytes()].concat();
    stream.write_all(&[&3u32.to_be_bytes()[..], &option, &name].concat()).unwrap();
    loop {
        let mut head = [0; 20];
        stream.read_exact(&mut head).unwrap();
        let kind = u32::from_be_bytes(head[12..16].try_into().unwrap());
        let len = u32::from_be_bytes(head[16..].try_into().unwrap());
        stream.read_exact(&mut vec![0; len as usize]).unwrap();
        if kind == 1 {
            return stream;
        }
    }
}

/// A request: flags, command, offset, length, and data.
type Asked<'a> = (u16, u16, u64, u32, &'a [u8]);

/// The error a simple reply carries; `None` if the server hangs up.
fn answer(stream: &mut UnixStream, (flags, command, offset, len, data): Asked<'_>) -> Option<u32> {
    let head = [&0x2560_9513u32.to_be_bytes()[..], &flags.to_be_bytes(), &command.to_be_bytes()];
    let tail = [&77u64.to_be_bytes()[..], &offset.to_be_bytes(), &len.to_be_bytes(), data];
    stream.write_all(&[head.concat(), tail.concat()].concat()).ok()?;
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).ok()?;
    assert_eq!(&reply[..4], &0x6744_6698u32.to_be_bytes());
    assert_eq!(&reply[8..], &77u64.to_be_bytes());
    Some(u32::from_be_bytes(reply[4..8].try_into().unwrap()))
}

#[test]
fn nbd_requests_that_make_no_sense() {
    const EINVAL: u32 = 22;
    const ENOSPC: u32 = 28;
    const EOVERFLOW: u32 = 75;
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let before = content(&bench);
    let socket = bench.path("run/v.nbd");
    let mut stream = negotiated(&socket);
    let end = IMAGE_BYTES;
    for (asked, legal) in [
        ((0, 0, end, 512, &[][..]), &[EINVAL][..]),
        ((0, 0, end - 512, 1024, &[]), &[EINVAL]),
        ((0, 0, u64::MAX - 511, 512, &[]), &[EINVAL]),
        ((0, 0, u64::MAX, u32::MAX, &[]), &[EINVAL, EOVERFLOW]),
        ((0, 0, 0, u32::MAX, &[]), &[EINVAL, EOVERFLOW]),
        ((0, 0, 0, (32 << 20) + 512, &[]), &[EINVAL, EOVERFLOW]),
        ((0, 0, 1, 512, &[]), &[EINVAL]),
        ((0, 0, 0, 511, &[]), &[EINVAL]),
        ((0, 1, end, 512, &[7; 512]), &[EINVAL, ENOSPC]),
        ((0, 1, end - 512, 1024, &[7; 1024]), &[EINVAL, ENOSPC]),
        ((0, 4, end, 4096, &[]), &[EINVAL, ENOSPC]),
        ((0, 6, end - 4096, 8192, &[]), &[EINVAL, ENOSPC]),
        ((0x8000, 0, 0, 512, &[]), &[EINVAL]),
        ((0x4000, 6, 0, 512, &[]), &[EINVAL]),
        ((0, 99, 0, 512, &[]), &[EINVAL]),
    ] {
        let error = answer(&mut stream, asked);
        let (flags, command, offset, len, _) = asked;
        let shown = (flags, command, offset, len);
        assert!(error.is_some_and(|error| legal.contains(&error)), "{shown:x?}: {error:?}");
    }
    // A write of more than anybody takes, whose data never comes.
    let head = [&0x2560_9513u32.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 16], &[0xff; 4]];
    stream.write_all(&head.concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut last = Vec::new();
    stream.read_to_end(&mut last).unwrap();
    assert!(last.is_empty() || last[7] != 0, "acknowledged: {last:?}");
    still_serves(&bench, &server);
    assert!(content(&bench) == before, "something was changed");
}

#[test]
fn garbage_before_and_after_the_negotiation() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let before = content(&bench);
    let socket = bench.path("run/v.nbd");
    let good = negotiated(&socket);
    for len in [1, 4, 17, 400, 1 << 20] {
        for mut stream in [connect(&socket), negotiated(&socket)] {
            let _ = stream.write_all(&noise(len));
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // It hangs up: everything it has to say ends.
            let mut said = Vec::new();
            let _ = stream.take(1 << 20).read_to_end(&mut said);
        }
    }
    let mut option = connect(&socket);
    let huge = [&3u32.to_be_bytes()[..], b"IHAVEOPT", &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()];
    option.write_all(&huge.concat()).unwrap();
    let _ = option.shutdown(std::net::Shutdown::Write);
    let _ = option.take(1 << 20).read_to_end(&mut Vec::new());
    // The client that was there all along is served.
    let mut good = good;
    assert_eq!(answer(&mut good, (0, 3, 0, 0, &[])), Some(0));
    still_serves(&bench, &server);
    assert!(content(&bench) == before, "something was changed");
}

#[test]
fn garbage_on_the_control_socket() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let before = content(&bench);
    let socket = bench.path("run/v.control");
    for line in [
        &b"\n"[..],
        b"frobnicate\n",
        b"remap\n",
        b"remap 8 9216 9224\n",
        b"remap \x1b[2J\n",
        b"\xff\xfe\n",
        b"{\"json\":1}\n",
        b"status\0\n",
        b"set read_retries 99999999999999999999\n",
        &[b'a'; 5000],
    ] {
        let mut stream = connect(&socket);
        stream.write_all(line).unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let shown = String::from_utf8_lossy(line);
        assert_eq!(answer["error"]["class"], "usage", "{shown}: {answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(!text.is_empty() && !text.contains(char::is_control), "{shown}: {text:?}");
    }
    let mut half = connect(&socket);
    half.write_all(b"remap 8").unwrap();
    drop(half);
    still_serves(&bench, &server);
    assert!(content(&bench) == before, "something was changed");
}

#[test]
fn a_server_that_answers_garbage() {
    let bench = Bench::new();
    let listener = UnixListener::bind(bench.path("fake")).unwrap();
    let evil = r#"{"error":{"class":"busy","message":"\u001b[2J\nno","try":"rm -rf /; reboot"}}"#;
    for (answer, code, thing) in [
        (&b""[..], 3, "fake"),
        (b"\n", 3, "fake"),
        (b"\x1b[2J\n", 3, "fake"),
        (b"{\"error\":7}\n", 3, "not understood"),
        (b"{\"state\":\"\\u001b[2J\"}\n", 3, "not understood"),
        (b"[]\n", 3, "not understood"),
        ([evil.as_bytes(), b"\n"].concat().leak(), 5, "\\x1b[2J\\x0ano"),
    ] {
        let listener = listener.try_clone().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = BufReader::new(&stream).read_line(&mut String::new());
            let _ = stream.write_all(answer);
        });
        let next = refused(&bench, &["status", "--control", "fake"], code, &[thing]);
        assert!(next.starts_with("dmremap "), "{next}");
        server.join().unwrap();
    }
    refused(&bench, &["status", "--control", "nothing"], 4, &["nothing"]);
    refused(&bench, &["status", "--control", "main.img"], 4, &["main.img"]);
}
