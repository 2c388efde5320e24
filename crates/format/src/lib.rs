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

pub mod areas;
pub mod at;
mod crc;
mod display;
mod generation;
mod hardware;
mod header;
mod header_mut;
mod header_rows;
pub mod identity;
mod layout;
pub mod legacy;
mod one_of_each;
mod page;
mod probe;
mod probe_rules;
mod quorum;
mod signature;
mod slot;
mod table_page;
mod types;

pub use crc::crc32c;
pub use generation::{GenerationPage, GenerationPageMut};
pub use header::*;
pub use header_mut::*;
pub use header_rows::*;
pub use layout::*;
pub use page::{Expect, MAGIC, PageFault, PageKind, content_digest, same_content};
pub use probe::*;
pub use probe_rules::PROBE_BLOCK_BYTES;
pub use quorum::*;
pub use signature::Signature;
pub use slot::*;
pub use table_page::{TablePage, TablePageMut};
pub use types::*;
