// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every parser of what a disk, a file, a socket or a person says, under libFuzzer. One program
//! holds all targets, so that there is one to build; `DMREMAP_FUZZ_TARGET` names the one to run.
//!
//! `cargo xtask fuzz` builds and runs it. The inputs to begin with are made here by code, into the
//! folder that `DMREMAP_FUZZ_SEEDS` names, if it is set.
//!
//! Invariants checked, by every target: no panic, no arithmetic that overflows, no end but soon;
//! no memory by the measure of a number that was read (the address space is limited). Each target
//! names its own besides.
#![no_main]

mod images;
mod network;
mod text;
#[allow(dead_code, reason = "the program's own file, of which one function is a parser")]
#[path = "../../crates/cli/src/units.rs"]
mod units;

use std::sync::OnceLock;

/// One parser or a few that belong together.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// Inputs to begin with: such that are accepted.
    seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target. `cargo xtask fuzz` has the same names in its list.
const TARGETS: &[Target] = &[
    Target { name: "pages", run: images::pages, seeds: images::page_seeds },
    Target { name: "copies", run: images::copies, seeds: images::copy_seeds },
    Target { name: "probe", run: images::probe, seeds: images::probe_seeds },
    Target { name: "legacy", run: images::legacy, seeds: images::legacy_seeds },
    Target { name: "message", run: text::message, seeds: text::message_seeds },
    Target { name: "settings", run: text::settings, seeds: text::settings_seeds },
    Target { name: "areas", run: text::areas, seeds: text::area_seeds },
    Target { name: "faultmap", run: text::faultmap, seeds: text::faultmap_seeds },
    Target { name: "sizes", run: text::sizes, seeds: text::size_seeds },
    Target { name: "negotiation", run: network::negotiation, seeds: network::negotiation_seeds },
    Target { name: "requests", run: network::requests, seeds: network::request_seeds },
];

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let name = std::env::var("DMREMAP_FUZZ_TARGET").expect("DMREMAP_FUZZ_TARGET names a target");
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    if let Some(folder) = std::env::var_os("DMREMAP_FUZZ_SEEDS") {
        for (index, seed) in (target.seeds)().iter().enumerate() {
            let file = std::path::Path::new(&folder).join(format!("seed-{index}"));
            std::fs::write(file, seed).expect("the seeds can be written");
        }
    }
    CHOSEN.get_or_init(|| target.run);
}

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(run) = CHOSEN.get() {
        run(data);
    }
});
