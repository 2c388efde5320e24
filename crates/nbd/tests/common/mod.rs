// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the tests share: an export in memory whose answers the test controls, a server over it on a
//! unix socket, and a client that sends any bytes.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod raw;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dmremap_nbd::{
    BadRange, Client, Command, Config, Connection, Done, Errno, Export, ExportInfo, Extent,
    Listener, Reply, Request, Server,
};

use raw::Raw;

/// Size of the exports here.
pub const SIZE: u64 = 64 << 20;
/// Their block.
pub const BLOCK: u32 = 4096;

/// Long enough for anything that is going to happen at all; only a failing test waits so long.
pub const FOREVER: Duration = Duration::from_secs(60);

/// A request as the export saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub connection: usize,
    pub command: Command,
    pub offset: u64,
    pub len: u32,
    pub fua: bool,
}

/// An export in memory. Requests are answered at once, or held until the test lets them go.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    info: ExportInfo,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    content: Vec<u8>,
    hold: bool,
    held: Vec<(Request, Done)>,
    failures: HashMap<u64, Errno>,
    /// Unreadable, ascending.
    bad: Vec<BadRange>,
    /// What a failed read leaves in its memory.
    scribble: Option<u8>,
    /// Ascending.
    holes: Vec<Range<u64>>,
    panic_at: Option<u64>,
    refuse: Option<Errno>,
    seen: Vec<Seen>,
    opened: usize,
    closed: usize,
}

pub fn info() -> ExportInfo {
    ExportInfo {
        size_bytes: SIZE,
        block_bytes: BLOCK,
        preferred_bytes: BLOCK,
        read_only: false,
        can_flush: true,
        can_trim: true,
        can_write_zeroes: true,
        multi_connection: true,
        rotational: true,
    }
}

impl Memory {
    pub fn new() -> Memory {
        Memory::with(info())
    }

    pub fn with(info: ExportInfo) -> Memory {
        let content = vec![0; info.size_bytes as usize];
        let state = Mutex::new(State { content, ..State::default() });
        Memory { shared: Arc::new(Shared { info, state, changed: Condvar::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on all requests but flushes are held until they are released.
    pub fn hold(&self) -> &Memory {
        self.lock().hold = true;
        self
    }

    pub fn fail_at(&self, offset: u64, errno: i32) -> &Memory {
        self.lock().failures.insert(offset, Errno(errno));
        self
    }

    /// Reads of this range fail; ranges come in ascending order.
    pub fn bad(&self, bad: BadRange) {
        self.lock().bad.push(bad);
    }

    /// What a read leaves where it failed.
    pub fn scribble(&self, byte: u8) {
        self.lock().scribble = Some(byte);
    }

    /// A hole, for BLOCK_STATUS; holes come in ascending order.
    pub fn hole(&self, hole: Range<u64>) {
        self.lock().holes.push(hole);
    }

    /// The offset of a held request.
    pub fn held_at(&self, place: usize) -> u64 {
        self.lock().held[place].0.offset
    }

    pub fn panic_at(&self, offset: u64) -> &Memory {
        self.lock().panic_at = Some(offset);
        self
    }

    pub fn refuse(&self, errno: Option<Errno>) {
        self.lock().refuse = errno;
    }

    fn wait_until(&self, what: &str, mut met: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.lock(), FOREVER, |state| !met(state))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "waited in vain for {what}");
        state
    }

    /// Waits until `count` requests are held.
    pub fn wait_held(&self, count: usize) {
        drop(self.wait_until("requests to be held", |state| state.held.len() >= count));
    }

    /// Waits until `count` connection handles have been dropped.
    pub fn wait_closed(&self, count: usize) {
        drop(self.wait_until("handles to be dropped", |state| state.closed >= count));
    }

    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// `(opened, dropped)` connection handles.
    pub fn handles(&self) -> (usize, usize) {
        let state = self.lock();
        (state.opened, state.closed)
    }

    /// Carries out and answers the held request at `place`, counted from the oldest.
    pub fn release(&self, place: usize) {
        let mut state = self.lock();
        let (request, done) = state.held.remove(place);
        let reply = state.carry_out(request);
        drop(state);
        done(reply);
    }

    /// Loses the held request at `place` without an answer.
    pub fn lose(&self, place: usize) {
        let lost = self.lock().held.remove(place);
        drop(lost);
    }

    /// Answers the held request at `place` with `reply`, whatever it asked for.
    pub fn answer(&self, place: usize, reply: Reply) {
        let (_, done) = self.lock().held.remove(place);
        done(reply);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub fn content(&self, offset: usize, len: usize) -> Vec<u8> {
        self.lock().content[offset..offset + len].to_vec()
    }
}

impl State {
    fn carry_out(&mut self, mut request: Request) -> Reply {
        if let Some(errno) = self.failures.get(&request.offset) {
            return Reply::failed(*errno);
        }
        let range = request.offset as usize..request.offset as usize + request.len as usize;
        match request.command {
            Command::Read => {
                request.data.copy_from_slice(&self.content[range.clone()]);
                return self.partly(request, range);
            }
            Command::Write => self.content[range].copy_from_slice(&request.data),
            Command::WriteZeroes { .. } => self.content[range].fill(0),
            Command::Trim => self.content[range].fill(0x55),
            Command::Flush => {}
        }
        Reply::good(request.data)
    }

    /// A read with what is bad of it.
    fn partly(&self, mut request: Request, range: Range<usize>) -> Reply {
        let mut bad = Vec::new();
        for known in &self.bad {
            let start = (known.offset as usize).max(range.start);
            let end = (known.offset as usize + known.len as usize).min(range.end);
            if start < end {
                let here = start - range.start..end - range.start;
                request.data[here].fill(self.scribble.unwrap_or(0xbd));
                bad.push(BadRange { offset: start as u64, len: (end - start) as u32, ..*known });
            }
        }
        Reply::partly(request.data, bad)
    }

    fn extents(&self, range: Range<u64>) -> Vec<Extent> {
        let mut at = range.start;
        let mut extents = Vec::new();
        let mut put = |until: u64, hole| {
            let until = until.min(range.end);
            if at < until {
                extents.push(Extent { len: (until - at) as u32, hole });
                at = until;
            }
        };
        for hole in &self.holes {
            put(hole.start, false);
            put(hole.end, true);
        }
        put(range.end, false);
        extents
    }
}

impl Export for Memory {
    fn info(&self) -> ExportInfo {
        self.shared.info.clone()
    }

    fn connect(&self) -> Result<Box<dyn Connection>, Errno> {
        let mut state = self.lock();
        if let Some(errno) = state.refuse {
            return Err(errno);
        }
        state.opened += 1;
        Ok(Box::new(Handle { memory: self.clone(), number: state.opened }))
    }
}

struct Handle {
    memory: Memory,
    number: usize,
}

impl Connection for Handle {
    fn extents(&mut self, offset: u64, len: u32, most: usize) -> Result<Vec<Extent>, Errno> {
        let mut extents = self.memory.lock().extents(offset..offset + u64::from(len));
        extents.truncate(most);
        Ok(extents)
    }

    fn submit(&mut self, request: Request, done: Done) {
        let data = match request.command {
            Command::Read | Command::Write => request.len as usize,
            _ => 0,
        };
        assert_eq!(request.data.len(), data, "{request:?}");
        let mut state = self.memory.lock();
        let Request { command, offset, len, fua, .. } = request;
        state.seen.push(Seen { connection: self.number, command, offset, len, fua });
        assert!(state.panic_at != Some(offset), "the test's own panic");
        if state.hold && command != Command::Flush {
            state.held.push((request, done));
            self.memory.shared.changed.notify_all();
        } else {
            let reply = state.carry_out(request);
            drop(state);
            done(reply);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.memory.lock().closed += 1;
        self.memory.shared.changed.notify_all();
    }
}

/// A server over a [`Memory`] on a unix socket in a directory of its own.
pub struct Fixture {
    pub memory: Memory,
    pub server: Server,
    pub directory: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with(Memory::new(), config())
    }

    pub fn with(memory: Memory, config: Config) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::new(Arc::new(memory.clone()), config).unwrap();
        let fixture = Fixture { memory, server, directory };
        fixture.server.listen(Listener::unix(&fixture.path()).unwrap()).unwrap();
        fixture
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn client(&self) -> Client {
        Client::connect_unix(&self.path(), "").unwrap()
    }

    /// A connection on which nothing has been said yet.
    pub fn raw(&self) -> Raw {
        Raw::connect(&self.path())
    }

    /// A connection in the transmission phase.
    pub fn chosen(&self) -> Raw {
        let mut raw = self.raw();
        raw.choose();
        raw
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.server.shutdown(Duration::ZERO);
    }
}

pub fn config() -> Config {
    let mut config = Config::default();
    config.name = "disk".into();
    config.description = "a disk in memory".into();
    config
}

/// Waits for what nothing announces.
pub fn wait_for(what: &str, met: impl Fn() -> bool) {
    let patience = Instant::now() + FOREVER;
    while !met() {
        assert!(Instant::now() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The numbers of a multiplicative generator (Lehmer's, modulus 2^128, upper half): the same ones
/// every time for a seed.
pub struct Random(u128);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random((u128::from(seed) << 1) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5);
        (self.0 >> 64) as u64
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Whether `program` is there; [`skip`] for `test` otherwise.
pub fn installed(test: &str, program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skip(test, &format!("{program} is not installed (package {package})"));
    }
    found
}

/// The interpreter with libnbd's module, ready for `-c SCRIPT`; [`skip`] for `test` if there is
/// none. Not by the name `nbdsh`: that takes the first python there is, which need not be the
/// distribution's.
pub fn nbdsh(test: &str) -> Option<std::process::Command> {
    use std::process::Command;
    let has_module = |python: &&str| {
        let output = Command::new(python).args(["-c", "import nbd"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["/usr/bin/python3", "python3"].into_iter().find(has_module) else {
        skip(test, "no python3 has libnbd's module (packages libnbd-bin, python3-libnbd)");
        return None;
    };
    let mut command = Command::new(python);
    command.args(["-m", "nbd"]);
    Some(command)
}

/// Says why a test is skipped, in the two places where `cargo xtask test` expects it; where
/// `CI=true` says that everything must be there it fails.
fn skip(test: &str, reason: &str) {
    use std::io::Write;
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: {reason}, and CI=true allows no skipped test"
    );
    eprintln!("dmremap-skip: {test}: {reason}");
    if let Some(path) = std::env::var_os("DMREMAP_SKIP_FILE") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write a line: tests of several threads append to this file.
        file.write_all(format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
}

/// Runs a program to its end and shows what it said if it failed; returns its standard output.
pub fn run(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
