// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the tests of the program share: a folder with images, the program called in it, a server.

#![allow(dead_code, reason = "not every test uses everything")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A folder with `main.img` (16 MiB of known bytes) and `spare.img` (16 MiB), in memory where there
/// is a place for that.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// Bytes of both images.
pub const IMAGE_BYTES: u64 = 16 << 20;

/// Byte `at` of `main.img` as it is made.
pub fn known(at: u64) -> u8 {
    (at / 512 % 251) as u8
}

impl Bench {
    pub fn new() -> Bench {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let bench = Bench { folder };
        let bytes: Vec<u8> = (0..IMAGE_BYTES).map(known).collect();
        std::fs::write(bench.path("main.img"), bytes).unwrap();
        File::create(bench.path("spare.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with `args`, its configuration and sockets in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmremap"));
        command.current_dir(self.folder.path()).env_remove("DMREMAP_LOG").stdin(Stdio::null());
        command.args(["--run-dir", "run", "--config", "volumes.conf"]).args(args);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it; its exit code and what it said on both outputs.
    pub fn code(&self, args: &[&str]) -> (i32, String) {
        let out = self.run(args);
        let said = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs it, expects success; what it wrote to standard output.
    pub fn good(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {} {errors}", out.status);
        String::from_utf8(out.stdout).unwrap()
    }

    /// The JSON document it writes.
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Makes volume `v` of main (given as `main`) and the spare.
    pub fn format(&self, main: &str) {
        self.good(&["format", "--main", main, "--spare", "spare.img", "--name", "v", "--yes"]);
    }

    /// A main that fails where `map` says, as the words that name it. A main that is open fails so
    /// from its next operation on.
    pub fn faulty_main(&self, map: &str) -> String {
        std::fs::write(self.path("map.new"), map).unwrap();
        std::fs::rename(self.path("map.new"), self.path("map")).unwrap();
        format!("faulty:main.img?map={}", self.path("map").display())
    }

    /// Starts `serve` with these further words and waits until it listens.
    pub fn serve(&self, args: &[&str]) -> Serving {
        self.serve_on("spare.img", args)
    }

    /// The same with the spare named otherwise.
    pub fn serve_on(&self, spare: &str, args: &[&str]) -> Serving {
        let args = [&["serve", "--spare", spare], args].concat();
        let log = File::create(self.path("log")).unwrap();
        let mut child = self.command(&args).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(self.path("log")).unwrap();
        let uri = line.strip_prefix("listening ").unwrap_or_else(|| panic!("{line}{}", log()));
        Serving { child, uri: uri.trim_end().to_owned(), socket: self.path("run/v.nbd") }
    }

    /// What `main.img` holds at `sector`.
    pub fn main_sector(&self, sector: u64) -> [u8; 512] {
        let mut bytes = [0; 512];
        File::open(self.path("main.img")).unwrap().read_exact_at(&mut bytes, sector * 512).unwrap();
        bytes
    }
}

/// A server that runs; killed if a test leaves it.
pub struct Serving {
    pub child: Child,
    pub uri: String,
    socket: PathBuf,
}

impl Serving {
    pub fn connect(&self) -> dmremap_nbd::Client {
        dmremap_nbd::Client::connect_unix(&self.socket, "v").unwrap()
    }

    /// SIGTERM; its exit code.
    pub fn stop(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Notes that `name` could not run, the way `cargo xtask test` counts it.
pub fn skip(name: &str, reason: &str) {
    eprintln!("dmremap-skip: {name}: {reason}");
    if let Some(path) = std::env::var_os("DMREMAP_SKIP_FILE") {
        use std::io::Write;
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{name}: {reason}").unwrap();
    }
}

/// Whether a program can be called.
pub fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok_and(|out| out.status.success())
}
