// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume that is asked to close over its control socket.
//!
//! Whoever asks is answered at least once a second, with what is being waited for, and asks again;
//! the last answer says whether the close was clean. The process does not end before one of those
//! who ask has been given that answer, or a few seconds have passed.

use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dmremap_nbd::Server;
use serde::{Deserialize, Serialize};

use crate::failure::{Class, Failure, Outcome};
use crate::units::count;

/// After so long an asker hears what is being waited for.
const PATIENCE: Duration = Duration::from_millis(1000);

/// So long a client may still be hanging up: umount returns before its FUSE process has.
const FAREWELL: Duration = Duration::from_millis(2000);
/// How often it is looked whether it has.
const GLANCE: Duration = Duration::from_millis(10);

/// Why the serving ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A signal, or a message.
    Asked,
    /// The one client of `--stdio` has left.
    ClientLeft,
}

/// The answer to `close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It has closed, and the process is about to end.
    pub closed: bool,
    /// The next open finds everything in order; known once it has closed.
    pub clean: Option<bool>,
    /// What is being waited for, in words; empty once it has closed.
    pub waiting_for: String,
}

/// How far the closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Asked,
    Requests,
    Devices,
    Closed { clean: bool },
}

/// The closing of a served volume, seen by those who ask and by the thread that does it.
pub struct Closing {
    ends: Mutex<Sender<End>>,
    clients: Server,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stage: Stage,
    /// Somebody asked and has not heard the last answer yet.
    owed: bool,
}

impl Closing {
    /// The closing of what `clients` are served from; `ends` wakes the thread that does it.
    pub fn new(ends: Sender<End>, clients: Server) -> Closing {
        let state = Mutex::new(State { stage: Stage::Open, owed: false });
        Closing { ends: Mutex::new(ends), clients, state, changed: Condvar::new() }
    }

    /// Asks for it. While clients are connected it is refused, as a mount in use is, unless their
    /// connections may be cut.
    pub fn ask(&self, force_clients: bool) -> Outcome<Answer> {
        if !force_clients && self.is_open() {
            self.let_clients_leave();
        }
        let mut state = self.lock();
        if state.stage == Stage::Open {
            let connected = self.clients.connections();
            if connected > 0 && !force_clients {
                return Err(in_use(connected));
            }
            state.stage = Stage::Asked;
            let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody there: it is closing already.
            let _ = ends.send(End::Asked);
        }
        state.owed = true;
        let open = |state: &mut State| !matches!(state.stage, Stage::Closed { .. });
        let waited = self.changed.wait_timeout_while(state, PATIENCE, open);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let waiting_for = match state.stage {
            Stage::Open | Stage::Asked => "the server".to_owned(),
            Stage::Requests => {
                let clients = self.clients.connections() as u64;
                format!("requests under way of {}", count(clients, "client", "clients"))
            }
            Stage::Devices => "the devices' last answers and the last metadata".to_owned(),
            Stage::Closed { clean } => {
                state.owed = false;
                self.changed.notify_all();
                return Ok(Answer { closed: true, clean: Some(clean), waiting_for: String::new() });
            }
        };
        Ok(Answer { closed: false, clean: None, waiting_for })
    }

    /// Waits a moment for clients that are about to go.
    fn let_clients_leave(&self) {
        let begun = Instant::now();
        while self.clients.connections() > 0 && begun.elapsed() < FAREWELL {
            std::thread::sleep(GLANCE);
        }
    }

    /// Whether nobody has asked for it.
    pub fn is_open(&self) -> bool {
        self.lock().stage == Stage::Open
    }

    /// Requests under way are waited for.
    pub fn requests(&self) {
        self.lock().stage = Stage::Requests;
    }

    /// The volume is being closed.
    pub fn devices(&self) {
        self.lock().stage = Stage::Devices;
    }

    /// The volume has been closed. Waits, at most so long, until an asker has been told.
    pub fn closed(&self, clean: bool, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.stage = Stage::Closed { clean };
        self.changed.notify_all();
        while state.owed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_use(connected: usize) -> Failure {
    let who = match connected {
        1 => "1 client is".to_owned(),
        n => format!("{n} clients are"),
    };
    let what = format!(
        "{who} connected: unmount, then disconnect (nbd-client -d /dev/nbdN); --force=clients cuts \
         them off, and what they have not flushed they must hear of as an error"
    );
    Failure::new(Class::Busy, what).with_next("dmremap close NAME --force=clients")
}
