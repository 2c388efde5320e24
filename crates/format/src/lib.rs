// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! See `docs/ARCHITECTURE.md`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod probe;
mod probe_rules;
mod signature;
mod types;

pub use probe::*;
pub use probe_rules::PROBE_BLOCK_BYTES;
pub use signature::Signature;
pub use types::*;
