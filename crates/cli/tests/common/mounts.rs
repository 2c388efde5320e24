// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that are served by others (FUSE), loop devices and mounts, each undone by its owner's end,
//! also when a test fails. Owners stand in the order in which they must go: mount, loop, file.

#![allow(dead_code, reason = "not every test uses everything")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::skip;
use crate::programs::{all_there, good, program};

/// How long something may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether FUSE files can be mounted here, and with `loops` loop devices; else the test is skipped
/// and says so.
pub fn possible(test: &str, loops: bool) -> bool {
    let devices = if loops { &["/dev/fuse", "/dev/loop-control"][..] } else { &["/dev/fuse"] };
    if !rustix::process::geteuid().is_root() {
        skip(test, "only root may mount");
        return false;
    }
    if let Some(missing) = devices.iter().find(|path| !Path::new(path).exists()) {
        skip(test, &format!("there is no {missing}"));
        return false;
    }
    all_there(test, &["nbdfuse", "umount"])
}

/// Waits until `ready`, or panics.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is killed and waited for in the end.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An NBD export as a file.
pub struct Fuse {
    nbdfuse: Process,
    folder: PathBuf,
}

impl Fuse {
    /// Mounts `uri` below `folder`, which is made.
    pub fn mount(folder: &Path, uri: &str) -> Fuse {
        std::fs::create_dir(folder).unwrap();
        let pid_file = folder.with_extension("pid");
        let log = std::fs::File::create(folder.with_extension("log")).unwrap();
        let mut command = Command::new("nbdfuse");
        command.arg("-P").arg(&pid_file).arg(folder.join("disk")).arg(uri).stderr(log);
        let mut fuse = Fuse { nbdfuse: Process::start(&mut command), folder: folder.into() };
        wait_until("nbdfuse", || {
            assert!(!fuse.nbdfuse.has_ended(), "nbdfuse {uri} has ended");
            let id = fuse.nbdfuse.0.id().to_string();
            std::fs::read_to_string(&pid_file).is_ok_and(|text| text.trim() == id)
        });
        fuse
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Stops its process: whatever is asked of the file hangs, until what is returned is dropped.
    /// (Who uses the file cannot even be killed before.)
    pub fn freeze(&self) -> Frozen<'_> {
        self.nbdfuse.send(Signal::STOP);
        let frozen = Frozen(&self.nbdfuse);
        // A thread that runs may answer something yet.
        let tasks = PathBuf::from(format!("/proc/{}/task", self.nbdfuse.0.id()));
        wait_until("SIGSTOP", || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
                // "PID (NAME) STATE ..."
                stat.is_ok_and(|text| text.rsplit_once(") ").is_some_and(|s| s.1.starts_with('T')))
            })
        });
        frozen
    }
}

/// A process that is stopped.
pub struct Frozen<'a>(&'a Process);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.send(Signal::CONT);
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if !unmount(&self.folder, &[]) {
            // Its process goes first: then nothing waits for it any more.
            let _ = self.nbdfuse.0.kill();
            let _ = self.nbdfuse.0.wait();
            unmount(&self.folder, &["-l"]);
        }
    }
}

/// A loop device over a file.
pub struct Loop {
    pub node: String,
}

impl Loop {
    /// With O_DIRECT: through the page cache a bad sector would cost its whole page.
    pub fn over(file: &Path) -> Loop {
        let path = file.to_str().unwrap();
        let node = good("losetup", &["--show", "-f", "--direct-io=on", path]);
        Loop { node: node.trim().to_owned() }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = program("losetup").args(["-d", &self.node]).status();
    }
}

/// A mounted file system.
pub struct Mount {
    folder: PathBuf,
}

impl Mount {
    /// Mounts `what` on `folder`, which is made if need be.
    pub fn new(kind: &str, options: &str, what: &str, folder: &Path) -> Mount {
        std::fs::create_dir_all(folder).unwrap();
        good("mount", &["-t", kind, "-o", options, what, folder.to_str().unwrap()]);
        Mount { folder: folder.into() }
    }

    /// Unmounts it now, and must.
    pub fn unmount(self) {
        assert!(unmount(&self.folder, &[]), "cannot unmount {}", self.folder.display());
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(&self.folder, &[]) || unmount(&self.folder, &["-l"]);
    }
}

fn unmount(folder: &Path, options: &[&str]) -> bool {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "20", "umount"]).args(options).arg(folder);
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}
