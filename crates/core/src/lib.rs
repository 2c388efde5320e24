// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The logic of dm-remap, sans I/O: it is told what happened and answers what to do next. See
//! `docs/ARCHITECTURE.md`.
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
pub mod commit;
pub mod create;
pub mod list;
pub mod message;
pub mod open;
pub mod reply;
pub mod settings;
pub mod status;
pub mod text;

pub use api::*;
