// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The shapes scripts rely on, and the sentence people read first.

use std::collections::BTreeSet;

use super::*;

fn status(moved: u64, pending: u64, gone: u64) -> Status {
    let core = dmremap_core::status::Status {
        block_size: 512,
        size_sectors: 2048,
        remapped_blocks: moved,
        pending_blocks: pending,
        gone_blocks: gone,
        ..Default::default()
    };
    Status::new("v", Uuid([0x11; 16]), &core)
}

#[test]
fn the_screen_begins_with_one_sentence() {
    let first = |status: Status| status.screen().lines().next().unwrap().to_owned();
    assert_eq!(first(status(14, 1, 2)), "14 blocks moved, 3 lost; everything else is intact.");
    assert_eq!(first(status(0, 0, 0)), "No block moved, none lost; everything is intact.");
    assert_eq!(status(1, 0, 0).verdict, 0);
    assert_eq!(status(1, 0, 1).verdict, 2);
}

#[test]
fn the_keys_of_status() {
    let value = serde_json::to_value(status(1, 0, 0)).unwrap();
    for path in [
        "/format_version/major",
        "/format_version/minor",
        "/name",
        "/uuid",
        "/state",
        "/block_size",
        "/size_sectors",
        "/remapped_blocks",
        "/pending_blocks",
        "/gone_blocks",
        "/entries",
        "/max_entries",
        "/quarantined_units",
        "/spare_free_units",
        "/spare_total_units",
        "/errors/read",
        "/errors/write",
        "/errors/medium",
        "/errors/transport",
        "/remaps/automatic",
        "/remaps/manual",
        "/requests/fast",
        "/requests/slow",
        "/metadata/copies_valid",
        "/metadata/copies_total",
        "/metadata/generation",
        "/metadata/sequence",
        "/metadata/commits",
        "/health_score",
        "/scan/state",
        "/scan/percent",
    ] {
        assert!(value.pointer(path).is_some(), "{path}");
    }
    assert!(value["remapped_blocks"].is_u64() && value["scan"]["percent"].is_null());
}

#[test]
fn a_hostile_name_is_escaped() {
    let mut bad = status(1, 0, 0);
    bad.name = "a\x1b[2J".into();
    assert!(!bad.screen().contains('\x1b'));
    let run = Run {
        main_sector: 8,
        spare_index: Some(0),
        spare_sector: Some(9216),
        sectors: 8,
        state: "remapped".into(),
        cause: Some("\n".into()),
    };
    let text = list_screen(&[run]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("9216"));
}

#[test]
fn a_restored_volume_is_not_called_intact() {
    for gone in [0, 2] {
        let said = status(0, 0, gone).of_header(State::Restored).sentence;
        assert!(said.contains("old content") && !said.contains("intact"), "{said}");
    }
    assert!(status(0, 0, 0).of_header(State::Clean).sentence.contains("intact"));
}

/// Every state word that a status can have, by trying whatever it depends on.
fn state_words() -> BTreeSet<&'static str> {
    use dmremap_core::status::{Conditions, Metadata, Status};
    let all = (0..256).map(|bits: u32| {
        let is = |bit: u32| bits & (1 << bit) != 0;
        let conditions = Conditions {
            failed: is(0),
            read_only: is(1),
            metadata_degraded: is(2),
            main_suspect: is(3),
            spare_suspect: is(4),
            spare_full: is(5),
        };
        let copies_valid = if is(6) { 5 } else { 4 };
        let metadata = Metadata { copies_valid, copies_total: 5, ..Metadata::default() };
        let gone_blocks = u64::from(is(7));
        Status { conditions, metadata, gone_blocks, ..Status::default() }.state().word()
    });
    all.collect()
}

#[test]
fn the_readme_explains_every_state_word_and_no_other() {
    let readme = include_str!("../../../README.md");
    let (_, table) = readme.split_once("\n| state | what it means |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let words: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(words.iter().copied().collect::<BTreeSet<_>>(), state_words());
    assert_eq!(words.len(), state_words().len());
}
