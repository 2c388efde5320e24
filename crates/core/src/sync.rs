// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The atomics every shared structure of this crate uses.
//!
//! They come through this one module so that a test crate can include the source files of those
//! structures beside a `sync` of its own, made of a model checker's atomics (`tests/model.rs`).

pub(crate) use core::sync::atomic::{self, AtomicBool, AtomicU64, Ordering};
