// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The deterministic simulator: the real logic over modelled devices, judged by an oracle.
//! One seed decides a whole run. See `docs/ARCHITECTURE.md` and `docs/TESTING.md`.
#![forbid(unsafe_code)]

pub mod building;
pub mod client;
pub mod command;
pub mod content;
pub mod counts;
pub mod crash;
pub mod disk;
pub mod driver;
pub mod excuse;
pub mod fault;
pub mod judge;
pub mod machine_side;
pub mod marks;
pub mod nemesis;
pub mod opening;
pub mod oracle;
pub mod rng;
pub mod run;
pub mod script;
pub mod session;
pub mod world;

/// Puts a broken variant of the logic in force, for the whole process; false if this build has
/// none or it is not known.
#[must_use]
pub fn select_broken(name: &str) -> bool {
    #[cfg(feature = "broken")]
    if let Some(variant) = dmremap_core::broken::Broken::from_name(name) {
        dmremap_core::broken::select(variant);
        return true;
    }
    let _ = name;
    false
}
