// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The volume's events as lines of the log. They are handed over on the volume's own thread, which
//! must not wait for a terminal: a thread of the log writes them.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use dmremap_core::Event;
use dmremap_core::reply::write_event;

use crate::failure::{Class, Failure, Outcome};
use crate::report::text;

/// The thread that writes events.
pub struct Log(JoinHandle<()>);

impl Log {
    /// Starts it; what is sent is written until the sender is dropped.
    pub fn start() -> Outcome<(Log, Sender<(Event, u32)>)> {
        let (sender, events) = channel::<(Event, u32)>();
        let write = move || {
            for (event, block_sectors) in events {
                let line = text(|out| write_event(out, &event, block_sectors));
                match event {
                    Event::Moved { .. } | Event::Home { .. } | Event::Healed(_) => {
                        tracing::info!("{line}");
                    }
                    _ => tracing::warn!("{line}"),
                }
            }
        };
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
