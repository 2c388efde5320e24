// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The scripted driver and the tests over it.
#![allow(dead_code, unused_imports)]

mod disk;
mod driver;
mod rig;
mod writes;

pub use disk::{F, How, PAGES, PROBE, R, Rule, V, W};
pub use rig::{Rig, Setup, old};
