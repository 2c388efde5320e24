// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The serving end. A thread a connection, at most [`MOST_CONNECTIONS`]; what more come wait in the
//! socket's queue. A caller that sends nothing for a minute is let go.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::Mode;

use super::peer::Peer;
use super::{BadAnswer, LONGEST_LINE};
use crate::escape::{escaped, shell_word};
use crate::failure::{Class, Failure, Outcome};
use crate::remedy;

/// Connections served at once.
pub const MOST_CONNECTIONS: usize = 16;

/// How long a caller may take to send a line or to read an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What answers the lines.
pub trait Answers: Send + Sync + 'static {
    /// Carries out one line of somebody who may speak, and gives back the JSON document to answer
    /// with.
    fn answer(&self, from: Peer, line: &str) -> Outcome<serde_json::Value>;
}

/// A socket that is bound, mode 0600, and listens; removed when dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    places: Arc<Places>,
}

impl Socket {
    /// Binds `path`. A socket that a killed server left there is replaced, one that answers is not.
    ///
    /// Changes the process's umask for a moment: call it before threads that create files.
    pub fn bind(path: &Path) -> Outcome<Socket> {
        remove_stale(path)?;
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(|error| Failure::io("listen on", path, &error))?;
        Ok(Socket { listener, path: path.to_path_buf(), places: Arc::default() })
    }

    /// Serves connections for ever, in threads of its own.
    pub fn serve(&self, answers: Arc<dyn Answers>) -> Outcome<()> {
        let listener = self.listener.try_clone();
        let listener = listener.map_err(|error| Failure::io("share", &self.path, &error))?;
        let places = Arc::clone(&self.places);
        spawn("control", move || accept(&listener, &answers, &places))
    }

    /// Waits, at most so long, until every line that has come is answered.
    pub fn finish_answers(&self, limit: Duration) {
        let taken = self.places.lock();
        let busy = |taken: &mut Taken| taken.answering > 0;
        let _ = self.places.freed.wait_timeout_while(taken, limit, busy);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes way for a new socket at `path`.
pub fn remove_stale(path: &Path) -> Outcome<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("look at", path, &error)),
    };
    if !meta.file_type().is_socket() {
        let what = format!("{} exists and is no socket", escaped(path));
        let next = remedy::again_with("--control=PATH");
        return Err(Failure::new(Class::Busy, what).with_next(next));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| Failure::io("remove", path, &error))
        }
        _ => {
            let what = format!("a server is running already: {} answers", escaped(path));
            let next = format!("dmremap status --control {}", shell_word(path));
            Err(Failure::new(Class::Busy, what).with_next(next))
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Failure::new(Class::Internal, format!("no thread: {error}")))
}

/// Connections under way, and who waits for one to end.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    /// Connections whose line is being answered.
    answering: usize,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) {
        let full = |taken: &mut Taken| taken.connections >= MOST_CONNECTIONS;
        let taken = self.freed.wait_while(self.lock(), full);
        taken.unwrap_or_else(PoisonError::into_inner).connections += 1;
    }

    fn free(&self) {
        self.lock().connections -= 1;
        self.freed.notify_all();
    }

    fn answering(&self, answering: bool) {
        let mut taken = self.lock();
        match answering {
            true => taken.answering += 1,
            false => taken.answering -= 1,
        }
        drop(taken);
        self.freed.notify_all();
    }
}

fn accept(listener: &UnixListener, answers: &Arc<dyn Answers>, places: &Arc<Places>) {
    loop {
        places.take();
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control socket: a connection was not accepted");
                std::thread::sleep(Duration::from_millis(100)); // out of descriptors: do not spin
                places.free();
                continue;
            }
        };
        let (answers, own) = (Arc::clone(answers), Arc::clone(places));
        let spawned = spawn("control-conn", move || {
            let place = FreeOnDrop(own);
            converse(stream, answers.as_ref(), &place.0);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "control socket: a connection was dropped");
        }
    }
}

struct FreeOnDrop(Arc<Places>);

impl Drop for FreeOnDrop {
    fn drop(&mut self) {
        self.0.free();
    }
}

fn converse(stream: UnixStream, answers: &dyn Answers, places: &Places) {
    let ready = stream.set_read_timeout(Some(PATIENCE));
    if ready.and_then(|()| stream.set_write_timeout(Some(PATIENCE))).is_err() {
        return;
    }
    let from = match Peer::of(&stream) {
        Ok(from) => from,
        Err(failure) => {
            tracing::warn!("control socket: {failure}");
            let _ = (&stream).write_all(answer_line(&Err(failure)).as_bytes());
            return;
        }
    };
    let mut reader = BufReader::new(&stream);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.last() == Some(&b'\n');
        line.truncate(line.len() - usize::from(whole));
        if !whole && line.len() < LONGEST_LINE {
            return; // the caller left in the middle of a line
        }
        places.answering(true);
        let answer = match std::str::from_utf8(&line) {
            Ok(text) if whole => answers.answer(from, text.trim_end_matches('\r')),
            _ => Err(Failure::new(Class::Usage, "a line is UTF-8 of at most 4095 bytes")),
        };
        let sent = (&stream).write_all(answer_line(&answer).as_bytes());
        places.answering(false);
        if sent.is_err() || !whole {
            return;
        }
    }
}

fn answer_line(answer: &Outcome<serde_json::Value>) -> String {
    let mut text = match answer {
        Ok(value) => value.to_string(),
        Err(failure) => serde_json::to_string(&BadAnswer::from(failure)).unwrap_or_default(),
    };
    text.push('\n');
    text
}
