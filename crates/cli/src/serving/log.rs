// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The volume's events as lines of the log. They are handed over on the volume's own thread, which
//! must not wait for a terminal: a thread of the log writes them, and at most once a second has the
//! service manager told how the volume is now.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dmremap_core::Event;
use dmremap_core::reply::write_event;

use super::notify::Manager;
use crate::failure::{Class, Failure, Outcome};
use crate::report::text;

/// At most so often the manager hears of changes.
const MANAGER_EVERY: Duration = Duration::from_secs(1);

/// The thread that writes events.
pub struct Log(JoinHandle<()>);

impl Log {
    /// Starts it; what is sent is written until the sender is dropped.
    pub fn start(manager: Manager) -> Outcome<(Log, Sender<(Event, u32)>)> {
        let (sender, events) = channel::<(Event, u32)>();
        let write = move || write(&events, &manager);
        let thread = std::thread::Builder::new().name("events".into()).spawn(write);
        let thread = thread.map_err(|error| {
            Failure::new(Class::Internal, format!("cannot log events: {error}"))
        })?;
        Ok((Log(thread), sender))
    }

    /// Waits until every event has been written; the volume must have been dropped.
    pub fn finish(self) {
        let _ = self.0.join();
    }
}

fn write(events: &Receiver<(Event, u32)>, manager: &Manager) {
    // When the manager is to be told, if something has happened since it was.
    let mut due: Option<Instant> = None;
    loop {
        let next = match due {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => events.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok((event, block_sectors)) => {
                say(&event, &text(|out| write_event(out, &event, block_sectors)));
                due = due.or_else(|| Some(Instant::now() + MANAGER_EVERY));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            manager.changed();
            due = None;
        }
    }
}

/// One place in the source for each kind of event: that is what the log's limit goes by.
fn say(event: &Event, line: &str) {
    macro_rules! by_kind {
        ($($level:ident: $($kind:ident)*;)*) => {
            match event {
                $($(Event::$kind { .. } => tracing::$level!("{line}"),)*)*
                _ => tracing::warn!("{line}"),
            }
        };
    }
    by_kind! {
        info: Moved Home Healed;
        warn: Pending Gone Quarantined Suspect FlushFailed ReadBackDiffers Vanished InDoubt
              StillAtDevice;
    }
}
