// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who may come in, and whether everybody has left: a close refuses what comes later and waits for
//! what came before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The gate of a volume.
pub(crate) struct Gate {
    closing: AtomicBool,
    inside: AtomicU64,
    /// Told when the last one has left a gate that is closing.
    drained: Box<dyn Fn() + Send + Sync>,
}

/// Being inside; dropped to leave.
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    pub(crate) fn new(drained: impl Fn() + Send + Sync + 'static) -> Arc<Gate> {
        Arc::new(Gate {
            closing: AtomicBool::new(false),
            inside: AtomicU64::new(0),
            drained: Box::new(drained),
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

    /// Whether nobody is inside.
    pub(crate) fn is_empty(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let last = self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.closing.load(Ordering::SeqCst) {
            (self.0.drained)();
        }
    }
}
