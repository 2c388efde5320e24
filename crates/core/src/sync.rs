// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The atomics everything in this crate uses, in one place so that a model checker can put its
//! own there.

pub use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
