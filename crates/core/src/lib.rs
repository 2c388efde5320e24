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

mod api;
pub mod list;
pub mod message;
pub mod reply;
pub mod settings;
pub mod status;
pub mod text;

pub use api::*;
