// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The logic with one rule withdrawn, variant by variant: the simulator must notice.
//!
//! Invariants checked: every variant is found wrong on a seed within its bound on which the logic
//! with every rule in force is found right. The number of seeds it took is printed.
#![cfg(feature = "broken")]

use std::sync::{Mutex, PoisonError};

use dmremap_core::broken::{ALL, Broken, select};
use dmremap_sim::run::{Plan, Setting, again, run};

/// The variant in force is one for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Seeds tried for a variant.
const BOUND: u64 = 1_500;

fn caught(variant: Broken, setting: Setting) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 0..BOUND {
        let plan = Plan { setting, ..Plan::new(seed) };
        select(variant);
        let broken = run(&plan);
        select(Broken::None);
        let Err(failure) = broken else { continue };
        if let Err(whole) = run(&plan) {
            // Not the variant's doing: the whole logic has a defect here, or meets two faults.
            println!("seed {seed} fails with every rule in force too: {}", whole.why);
            continue;
        }
        println!("{}: caught after {} seeds: {}", variant.name(), seed + 1, failure.why);
        println!("    {}", again(&plan, variant.name()));
        return;
    }
    panic!("{} was not caught in {BOUND} seeds", variant.name());
}

macro_rules! variants {
    ($($test:ident: $variant:ident, $setting:ident;)*) => {
        $(#[test] fn $test() { caught(Broken::$variant, Setting::$setting); })*

        #[test]
        fn every_variant_has_its_test() {
            let tested = [$(Broken::$variant),*];
            for variant in ALL {
                assert!(tested.contains(variant), "{} has no test", variant.name());
            }
        }
    };
}

variants! {
    ack_before_commit: AckBeforeCommit, Usual;
    commit_before_data_flush: CommitBeforeDataFlush, Usual;
    no_grace: NoGrace, Usual;
    grace_counts_requests: GraceCountsRequests, Patient;
    piece_counted_after_resolve: PieceCountedAfterResolve, Usual;
    verdict_by_reading: VerdictByReading, Usual;
    no_probe: NoProbe, Usual;
    probe_before_failure: ProbeBeforeFailure, Usual;
    evidence_not_resolved_anew: EvidenceNotResolvedAnew, Usual;
    pending_not_dropped_by_write: PendingNotDroppedByWrite, Usual;
    two_movers: TwoMovers, Usual;
    commit_image_from_published: CommitImageFromPublished, Usual;
    allocate_from_zero: AllocateFromZero, Usual;
    one_copy: OneCopy, Copies;
    all_copies_at_once: AllCopiesAtOnce, Usual;
    serve_before_repair: ServeBeforeRepair, Usual;
    no_generation: NoGeneration, Copies;
    generation_only_in_header: GenerationOnlyInHeader, Copies;
    repair_under_old_stamp: RepairUnderOldStamp, Copies;
    unit_reused_before_removal_acknowledged: UnitReusedBeforeRemovalAcknowledged, Usual;
    recovery_flush_error_swallowed: RecoveryFlushErrorSwallowed, Flushes;
    recovery_flush_merely_repeated: RecoveryFlushMerelyRepeated, Flushes;
    sibling_gone_without_verdict: SiblingGoneWithoutVerdict, Usual;
    doubtful_change_carried_along: DoubtfulChangeCarriedAlong, Usual;
    flush_counts_unanswered_writes: FlushCountsUnansweredWrites, Usual;
    no_read_back: NoReadBack, Usual;
    spare_block_written_to_main: SpareBlockWrittenToMain, Usual;
    spare_content_served_for_gone: SpareContentServedForGone, Usual;
    no_spare_flush: NoSpareFlush, Usual;
    no_main_flush: NoMainFlush, Usual;
}
