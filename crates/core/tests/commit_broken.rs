// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each rule of commit and open withdrawn by itself: the exhaustive models must notice. Run with
//! `--features broken`.
#![cfg(feature = "broken")]

mod meta;

use std::sync::Mutex;

use dmremap_core::broken::{Broken, select};
use meta::Faults;
use meta::model::{Model, explore};

/// A variant is in force for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn dead_copies() -> Vec<Faults> {
    let dead = |copy: u8| Faults { reads: 1 << copy, writes: 1 << copy, ..Faults::NONE };
    std::iter::once(Faults::NONE).chain((0..5).map(dead)).collect()
}

fn flushes() -> Vec<Faults> {
    let flush = |k| Faults { flush: Some(k), ..Faults::NONE };
    std::iter::once(Faults::NONE).chain((0..16).map(flush)).collect()
}

fn model(name: &'static str) -> Model {
    Model {
        name,
        tables: 1,
        opens: 2,
        commits: 2,
        faults: dead_copies(),
        changes: vec![vec![0]],
        overlap: false,
        scope: &[2, 3],
    }
}

/// The variant is noticed, and what the model says of it names `symptom`; without it the same
/// model holds.
fn caught(variant: Broken, model: &Model, symptom: &str) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    select(variant);
    let (search, result) = explore(model);
    select(Broken::None);
    let what = result.expect_err(variant.name());
    println!("{}: caught after {} disks", variant.name(), search.disks());
    assert!(what.contains(symptom), "{}: {what}", variant.name());
    let (_, result) = explore(model);
    assert_eq!(result, Ok(()), "the model must hold without the variant");
}

#[test]
fn one_copy() {
    caught(Broken::OneCopy, &model("one copy"), "");
}

#[test]
fn all_copies_at_once() {
    caught(Broken::AllCopiesAtOnce, &model("all at once"), "TooFewValid");
}

#[test]
fn serve_before_repair() {
    caught(Broken::ServeBeforeRepair, &model("before repair"), "is served");
}

#[test]
fn no_generation() {
    caught(Broken::NoGeneration, &model("no generation"), "TwoContents");
}

#[test]
fn generation_only_in_header() {
    let model = Model { opens: 3, scope: &[3], ..model("only in header") };
    caught(Broken::GenerationOnlyInHeader, &model, "TwoContents");
}

#[test]
fn repair_under_old_stamp() {
    caught(Broken::RepairUnderOldStamp, &model("old stamp"), "");
}

#[test]
fn doubtful_change_carried_along() {
    let model = Model { faults: flushes(), ..model("carried along") };
    caught(Broken::DoubtfulChangeCarriedAlong, &model, "is served");
}

#[test]
fn commit_image_from_published() {
    let model = Model { overlap: true, ..model("from published") };
    caught(Broken::CommitImageFromPublished, &model, "is served");
}
