// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Both ends of the control socket against each other, and the serving one against hostile callers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::client::ask;
use super::peer::Peer;
use super::server::{Answers, Socket};
use super::{LONGEST_LINE, server};
use crate::failure::{Class, Failure, Outcome};

const NEXT: &str = "dmremap status v";

struct Echo;

impl Answers for Echo {
    fn answer(&self, _from: Peer, line: &str) -> Outcome<serde_json::Value> {
        match line {
            "bad" => Err(Failure::new(Class::Refused, "sector 8: no").with_next(NEXT)),
            "evil" => Err(Failure::new(Class::Refused, "no\nreally\x1b[2J").with_next("reboot")),
            line => Ok(json!({ "line": line })),
        }
    }
}

fn serving() -> (tempfile::TempDir, Socket, PathBuf) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("v.control");
    let socket = Socket::bind(&path).unwrap();
    socket.serve(Arc::new(Echo)).unwrap();
    (base, socket, path)
}

#[test]
fn a_line_in_a_document_out() {
    let (_base, _socket, path) = serving();
    assert_eq!(ask(&path, "status now").unwrap(), json!({ "line": "status now" }));
    let failure = ask(&path, "bad").unwrap_err();
    assert_eq!(failure, Failure::new(Class::Refused, "sector 8: no").with_next(NEXT));
    // Whoever answers there, nothing of it acts on a terminal, and no command is made up.
    let failure = ask(&path, "evil").unwrap_err();
    assert_eq!(failure, Failure::new(Class::Refused, "no\\x0areally\\x1b[2J"));
    assert_eq!(ask(&path, "two\nlines").unwrap_err().class, Class::Usage);
}

#[test]
fn several_lines_on_one_connection() {
    let (_base, _socket, path) = serving();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"a\nb\r\nbad\n").unwrap();
    let lines: Vec<String> =
        BufReader::new(&stream).lines().take(3).map(|line| line.unwrap()).collect();
    assert_eq!(lines[..2], [r#"{"line":"a"}"#, r#"{"line":"b"}"#]);
    assert!(lines[2].starts_with(r#"{"error":{"class":"refused""#), "{}", lines[2]);
}

#[test]
fn only_the_owner_may_speak_to_it_and_it_goes_with_its_server() {
    let (_base, socket, path) = serving();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(socket);
    assert!(!path.exists());
    assert_eq!(ask(&path, "x").unwrap_err().class, Class::Missing);
}

#[test]
fn a_second_server_is_refused_and_a_stale_socket_replaced() {
    let (base, _socket, path) = serving();
    assert_eq!(Socket::bind(&path).unwrap_err().class, Class::Busy);
    let stale = base.path().join("stale.control");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(Socket::bind(&stale).is_ok());
    let file = base.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(Socket::bind(&file).unwrap_err().class, Class::Busy);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn an_endless_line_and_bytes_that_are_no_text_are_answered_and_dropped() {
    let (_base, _socket, path) = serving();
    for bytes in [vec![b'x'; LONGEST_LINE], b"\xff\xfe\n".to_vec()] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        assert!(answer.contains("usage"), "{answer}");
    }
}

#[test]
fn callers_who_hold_every_place_do_not_lock_others_out_for_good() {
    let (_base, _socket, path) = serving();
    let idle: Vec<UnixStream> =
        (0..server::MOST_CONNECTIONS).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut waiting = UnixStream::connect(&path).unwrap();
    waiting.write_all(b"late\n").unwrap();
    drop(idle);
    waiting.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "{\"line\":\"late\"}\n");
}
