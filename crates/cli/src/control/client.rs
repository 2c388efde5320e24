// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The asking end.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{BadAnswer, LONGEST_ANSWER, LONGEST_LINE};
use crate::advice;
use crate::escape::{escaped, harmless, is_harmless};
use crate::failure::{Class, Failure, Outcome};

/// Sends `line` to the volume whose control socket is at `path`; its answer.
pub fn ask(path: &Path, line: &str) -> Outcome<serde_json::Value> {
    if line.len() >= LONGEST_LINE || line.contains('\n') {
        let failure = Failure::new(Class::Usage, "a message is one line of at most 4095 bytes");
        return Err(failure.with_next("dmremap message NAME help"));
    }
    let mut stream = UnixStream::connect(path).map_err(|error| not_running(path, &error))?;
    let sent = stream.write_all(format!("{line}\n").as_bytes());
    sent.map_err(|error| Failure::io("write to", path, &error))?;
    let mut answer = Vec::new();
    let read = BufReader::new(&stream).take(LONGEST_ANSWER).read_until(b'\n', &mut answer);
    read.map_err(|error| Failure::io("read from", path, &error))?;
    if answer.last() != Some(&b'\n') {
        let what = format!("the server at {} went away without an answer", escaped(path));
        return Err(Failure::new(Class::Internal, what).with_next("dmremap serve --spare DEV"));
    }
    let value: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| {
        let what = format!("the server at {} answered nonsense: {error}", escaped(path));
        Failure::new(Class::Internal, what)
    })?;
    match value.get("error") {
        Some(_) => match serde_json::from_value::<BadAnswer>(value) {
            Ok(bad) => Err(shown(bad)),
            Err(_) => Err(Failure::new(Class::Internal, "the server's error was not understood")),
        },
        None => Ok(value),
    }
}

/// What the other end says, made fit to be shown: it may be anybody's program.
fn shown(bad: BadAnswer) -> Failure {
    let Failure { class, what, next } = bad.into();
    let next = next.filter(|next| is_harmless(next) && advice::is_command(next));
    Failure { class, what: harmless(what), next }
}

fn not_running(path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let what = format!("no volume is running at {}", escaped(path));
            Failure::new(Class::Missing, what).with_next("dmremap serve --spare DEV")
        }
        _ => Failure::io("connect to", path, error),
    }
}
