// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The deterministic simulator: the real logic over modelled devices, judged by an oracle.
//! One seed decides a whole run. See `docs/ARCHITECTURE.md` and `docs/TESTING.md`.
#![forbid(unsafe_code)]

pub mod client;
pub mod command;
pub mod content;
pub mod disk;
pub mod excuse;
pub mod fault;
pub mod oracle;
pub mod rng;
