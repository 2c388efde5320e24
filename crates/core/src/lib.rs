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

pub mod allocator;
mod api;
pub mod broken;
pub mod commit;
pub mod create;
mod display;
mod done;
pub mod list;
pub mod machine;
pub mod marks;
pub mod message;
mod message_error;
pub mod open;
pub mod path;
pub mod pieces;
pub mod readers;
pub mod region;
pub mod reply;
pub mod resolve;
pub mod settings;
pub mod slots;
pub mod status;
mod sync;
pub mod table;
mod table_leaf;
mod table_size;
#[cfg(test)]
mod table_tests;
mod table_writer;
pub mod text;

pub use api::*;
