// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Random runs of the whole logic over modelled devices.
//!
//! Invariants checked: those at the heads of `oracle.rs`, `excuse.rs` and `judge.rs`, at every
//! answer of every run; that every request is answered once the harm stops; and that the runs
//! amount to something.

use dmremap_sim::run::{Plan, Report, again, run};

/// Seeds in the test command.
const SEEDS: u64 = 520;
/// Requests and messages of each.
const OPERATIONS: u64 = 2_000;

#[test]
fn seeds() {
    let mut total = Report::default();
    let mut failed = Vec::new();
    for seed in 0..SEEDS {
        let plan = Plan { operations: OPERATIONS, ..Plan::new(seed) };
        match run(&plan) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                println!("seed {seed}: {}", failure.why);
                println!("    {}", again(&plan, ""));
                failed.push(seed);
            }
        }
    }
    println!(
        "{} operations, {} commands, {} faults, {} reopens ({} power cuts, {} kills, {} closes, \
         {} opens cut off), {} sectors checked",
        total.counts.operations,
        total.commands,
        total.faults,
        total.reopens(),
        total.counts.power_cuts,
        total.counts.kills,
        total.counts.closes,
        total.counts.cut_opens,
        total.sectors_checked
    );
    println!("{:?}", total.counts);
    assert!(failed.is_empty(), "seeds {failed:?} found something wrong");
    assert!(total.counts.operations >= 1_000_000, "too few operations");
    assert!(total.faults >= 50_000, "too few faults");
    assert!(total.reopens() >= 500, "too few crashes");
    assert!(total.counts.moves > 5_000, "too few moves");
    assert!(total.counts.homes > 200, "too few units brought home");
    assert!(total.counts.gone > 20, "too few gone blocks");
    assert!(total.counts.quarantined > 500, "too few bad spare units");
    assert!(total.counts.errors * 4 < total.counts.operations, "errors hide what is served");
}
