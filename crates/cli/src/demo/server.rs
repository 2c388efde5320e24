// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The served volume as a child process of the demo: this very program, with the verb a person
//! would type. Its log is shown as it comes; the moves in it are counted.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};

/// The process that runs now, 0 for none, so that it does not outlive an interrupted demo.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// How long a server may take to close: it waits for its devices, and they are files here.
const CLOSING: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    child: Child,
    log: Option<JoinHandle<()>>,
    moves: Arc<AtomicU64>,
}

/// Runs this program with `args` and hands back what it wrote to standard output.
pub fn dmremap(folder: &Path, args: &[&str]) -> Outcome<String> {
    println!("$ dmremap {}", args.join(" "));
    let out = command(folder, args)?.stderr(Stdio::inherit()).output();
    let out = out.map_err(|error| Failure::io("run", Path::new("dmremap"), &error))?;
    if !out.status.success() {
        let what = format!("the verb {} failed: {}", args[0], out.status);
        return Err(Failure::new(Class::Internal, what));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// This program in `folder`, with its configuration and sockets there.
fn command(folder: &Path, args: &[&str]) -> Outcome<Command> {
    let exe = std::env::current_exe();
    let exe = exe.map_err(|error| Failure::io("find", Path::new("dmremap"), &error))?;
    let mut command = Command::new(exe);
    command.current_dir(folder).args(args).args(["--run-dir", "run", "--config", "volumes.conf"]);
    command.stdin(Stdio::null());
    Ok(command)
}

impl Server {
    /// Starts `dmremap serve` with `args` in `folder` and waits until it listens.
    pub fn start(folder: &Path, args: &[&str]) -> Outcome<Server> {
        println!("$ dmremap {}", args.join(" "));
        let mut command = command(folder, args)?;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Failure::io("run", Path::new("dmremap"), &error))?;
        RUNNING.store(Pid::from_child(&child).as_raw_nonzero().get(), Ordering::Release);
        let moves = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&moves);
        let log = child.stderr.take();
        let log = log.map(|log| std::thread::spawn(move || show(log, &counted)));
        let mut server = Server { child, log, moves };
        let mut line = String::new();
        if let Some(stdout) = server.child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.strip_prefix("listening ") {
            Some(uri) => {
                println!("  the server listens at {}", escaped_bytes(uri.trim_end()));
                Ok(server)
            }
            None => {
                let _ = server.child.kill();
                let status = server.ended()?;
                let what = format!("the server ended before it listened: {status}");
                Err(Failure::new(Class::Internal, what))
            }
        }
    }

    /// Moves its log has told of.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// Kills it with SIGKILL: no warning, no last word. How many moves its log told of.
    pub fn kill(mut self) -> Outcome<u64> {
        self.signal(Signal::KILL)?;
        self.ended()?;
        Ok(self.moves())
    }

    /// Asks it with SIGTERM to close, and expects it to end well.
    pub fn stop(mut self) -> Outcome<u64> {
        self.signal(Signal::TERM)?;
        let status = self.ended()?;
        if !status.success() {
            let what = format!("the server did not close well: {status}");
            return Err(Failure::new(Class::Internal, what));
        }
        Ok(self.moves())
    }

    fn signal(&self, signal: Signal) -> Outcome<()> {
        let sent = kill_process(Pid::from_child(&self.child), signal).map_err(std::io::Error::from);
        sent.map_err(|error| Failure::io("signal", Path::new("the server"), &error))
    }

    fn ended(&mut self) -> Outcome<ExitStatus> {
        let failed = |error| Failure::io("wait for", Path::new("the server"), &error);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                break status;
            }
            if start.elapsed() > CLOSING {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let what = "the server did not end in 30 s and was killed";
                return Err(Failure::new(Class::Internal, what));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        RUNNING.store(0, Ordering::Release);
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.log.is_some() {
            let _ = self.child.kill();
            let _ = self.ended();
        }
    }
}

/// Shows every line of the log and counts those that tell of a move.
fn show(log: impl Read, moves: &AtomicU64) {
    for line in BufReader::new(log).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        if line.contains("moved to spare sector") {
            moves.fetch_add(1, Ordering::AcqRel);
        }
        println!("  | {}", escaped_bytes(line.as_ref()));
    }
}

/// Where the demo works: a new folder in memory if it fits there, else where temporary files go;
/// removed at the end, also when somebody presses Ctrl-C.
pub struct Workshop {
    path: PathBuf,
    keep: bool,
}

impl Workshop {
    /// `keep` names a folder to be made, or one that is empty.
    pub fn open(keep: Option<&Path>, needed_bytes: u64) -> Outcome<Workshop> {
        if let Some(path) = keep {
            std::fs::create_dir_all(path).map_err(|error| Failure::io("create", path, &error))?;
            let entries = std::fs::read_dir(path);
            let entries = entries.map_err(|error| Failure::io("read", path, &error))?;
            if entries.count() > 0 {
                let what = "the folder to keep is not empty";
                return Err(
                    Failure::new(Class::Busy, what).with_next("dmremap demo --keep NEW_DIR")
                );
            }
            let path = path.canonicalize().map_err(|error| Failure::io("find", path, &error))?;
            return Ok(Workshop { path, keep: true });
        }
        let memory = PathBuf::from("/dev/shm");
        let base = if has_room(&memory, needed_bytes) { memory } else { std::env::temp_dir() };
        let path = base.join(format!("dmremap-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| Failure::io("create", &path, &error))?;
        Ok(Workshop { path, keep: false })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the server that works in it, and removes it, if it is not to be kept.
    pub fn remove(&self) {
        if let Some(pid) = Pid::from_raw(RUNNING.swap(0, Ordering::AcqRel)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether the file system at `path` has twice the room that is needed.
fn has_room(path: &Path, needed_bytes: u64) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) / 2 > needed_bytes)
}
