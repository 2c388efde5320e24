// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The asking end.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::Value;

use super::{BadAnswer, LONGEST_ANSWER, LONGEST_LINE};
use crate::escape::{escaped, harmless, is_harmless};
use crate::failure::{Class, Failure, Outcome};
use crate::remedy;

/// Sends `line` to the volume whose control socket is at `path`; its answer.
pub fn ask(path: &Path, line: &str) -> Outcome<Value> {
    Talk::to(path)?.ask(line)
}

/// A connection on which one line after the other is sent and answered.
pub struct Talk {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Talk {
    /// Connects to the control socket at `path`.
    pub fn to(path: &Path) -> Outcome<Talk> {
        let stream = UnixStream::connect(path).map_err(|error| not_running(path, &error))?;
        Ok(Talk { stream: BufReader::new(stream), path: path.to_path_buf() })
    }

    /// Sends a line and waits for its answer.
    pub fn ask(&mut self, line: &str) -> Outcome<Value> {
        let path = &self.path;
        if line.len() >= LONGEST_LINE || line.contains('\n') {
            let failure = Failure::new(Class::Usage, "a message is one line of at most 4095 bytes");
            return Err(failure.with_next("dmremap message NAME help"));
        }
        let sent = self.stream.get_mut().write_all(format!("{line}\n").as_bytes());
        // Who may not speak is told so before anything is read.
        let unsent = sent.err();
        let mut answer = Vec::new();
        let read = self.stream.by_ref().take(LONGEST_ANSWER).read_until(b'\n', &mut answer);
        match unsent {
            Some(error) if answer.is_empty() => {
                return Err(Failure::io("write to", path, &error));
            }
            _ => read.map_err(|error| Failure::io("read from", path, &error))?,
        };
        if answer.last() != Some(&b'\n') {
            let what = format!("the server at {} went away without an answer", escaped(path));
            return Err(Failure::new(Class::Internal, what).with_next("dmremap serve --spare DEV"));
        }
        let value: Value = serde_json::from_slice(&answer).map_err(|error| {
            let what = format!("the server at {} answered nonsense: {error}", escaped(path));
            Failure::new(Class::Internal, what)
        })?;
        if value.get("error").is_none() {
            return Ok(value);
        }
        match serde_json::from_value::<BadAnswer>(value) {
            Ok(bad) => Err(shown(bad)),
            Err(_) => Err(Failure::new(Class::Internal, "the server's error was not understood")),
        }
    }

    /// The process at the other end, where the kernel tells it.
    pub fn server(&self) -> Option<OwnedFd> {
        let pid = socket_peercred(self.stream.get_ref()).ok()?.pid;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }
}

/// Waits, at most so long, until a process has ended: then its files are closed, and nobody holds
/// its devices any more. (Its sockets may be closed before that.)
pub fn wait_for_end(process: &OwnedFd, limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) if !left.is_zero() => {}
            _ => return,
        }
    }
}

/// What the other end says, made fit to be shown: it may be anybody's program.
fn shown(bad: BadAnswer) -> Failure {
    let Failure { class, what, next } = bad.into();
    let ours = |next: &String| next.split(' ').next() == Some("dmremap") && is_harmless(next);
    let next = next.filter(|next| ours(next) && remedy::is_command(next));
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
