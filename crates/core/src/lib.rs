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
mod readers;
mod sync;
mod table;
mod table_leaf;
mod table_size;
#[cfg(test)]
mod table_tests;
mod table_writer;

pub use api::*;
pub use readers::{Readers, Reading};
pub use table::{Entry, LookupGrace, Snapshot, Table};
pub use table_writer::{MAX_CHANGES, TableWriter};
