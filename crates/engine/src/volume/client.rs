// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a volume keeps for one connection: the flush failures it has been told of.
//!
//! A device tells of a lost write once, to whoever flushes next. The machine counts failures, and a
//! connection's flush is good only if every failure counted before has been answered to *this*
//! connection; a new one begins with what has been answered to anybody.

use std::sync::{Arc, Mutex, PoisonError};

use dmremap_core::{Class, FlushCounts};

use super::gate::Pass;

/// The failures one connection has been told of.
#[derive(Clone)]
pub(crate) struct Told(Arc<Mutex<FlushCounts>>);

/// Called once with how a flush ended; it must not block.
pub type FlushDone = Box<dyn FnOnce(Result<(), Class>) + Send>;

/// A client's flush under way.
pub(crate) struct FlushWait {
    pub(crate) told: Told,
    pub(crate) done: FlushDone,
    pub(crate) _pass: Pass,
}

impl Told {
    pub(crate) fn new(floor: FlushCounts) -> Told {
        Told(Arc::new(Mutex::new(floor)))
    }

    pub(crate) fn get(&self) -> FlushCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, failures: FlushCounts) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (mine, now) in told.iter_mut().zip(failures) {
            *mine = now.max(*mine);
        }
    }
}

impl FlushWait {
    /// Answers it; an error answers for every failure counted by now.
    pub(crate) fn end(self, outcome: Result<(), Class>, failures: FlushCounts) {
        if outcome.is_err() {
            self.told.set(failures);
        }
        (self.done)(outcome);
    }
}
