// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume: the logic of `dmremap-core` driven by real devices.

mod brain;
mod client;
mod driver;
mod gate;
mod lane;
mod logic;
mod request;
mod running;

pub use client::FlushDone;
pub use request::{BadRun, Done, Payload, Reply, Request};
