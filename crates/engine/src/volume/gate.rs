// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who may come in, and whether everybody has left: a close refuses what comes later and waits for
//! what came before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The gate of a volume.
pub(crate) struct Gate {
    closing: AtomicBool,
    inside: AtomicU64,
    /// Woken when the last one has left a gate that is closing.
    empty: Condvar,
    waiting: Mutex<()>,
}

/// Being inside; dropped to leave.
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    pub(crate) fn new() -> Arc<Gate> {
        Arc::new(Gate {
            closing: AtomicBool::new(false),
            inside: AtomicU64::new(0),
            empty: Condvar::new(),
            waiting: Mutex::new(()),
        })
    }

    /// Lets in, unless the gate is closing.
    pub(crate) fn enter(self: &Arc<Gate>) -> Option<Pass> {
        // Counted before the look at `closing`, and `close` looks at the count after it has set
        // that: one of the two sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(Arc::clone(self));
        (!self.closing.load(Ordering::SeqCst)).then_some(pass)
    }

    /// Refuses from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Waits until nobody is inside a gate that is closing.
    pub(crate) fn wait_empty(&self) {
        let mut held = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while self.inside.load(Ordering::SeqCst) != 0 {
            held = self.empty.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let last = self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.closing.load(Ordering::SeqCst) {
            // Under the lock, so that who waits has either seen the count or is asleep by now.
            let _held = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.empty.notify_all();
        }
    }
}
