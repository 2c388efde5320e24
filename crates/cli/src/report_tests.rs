// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The shapes scripts rely on, and the sentence people read first.

use super::*;

fn status(state: &str, moved: u64, pending: u64, gone: u64) -> Status {
    Status {
        format_version: FORMAT_VERSION,
        name: "v".into(),
        uuid: "u".into(),
        state: state.into(),
        block_size: 512,
        size_sectors: 2048,
        remapped_blocks: moved,
        pending_blocks: pending,
        gone_blocks: gone,
        entries: moved,
        max_entries: 100,
        quarantined_units: 0,
        spare_free_units: 90,
        spare_total_units: 100,
        errors: Errors::default(),
        remaps: Remaps::default(),
        requests: Requests::default(),
        metadata: Metadata::default(),
        health_score: None,
        scan: Scan::default(),
    }
}

#[test]
fn the_first_sentence() {
    assert_eq!(status("ok", 0, 0, 0).sentence(), "No block has moved; everything is intact.");
    assert_eq!(
        status("ok", 14, 0, 3).sentence(),
        "14 blocks moved, 3 lost; everything else is intact."
    );
    assert_eq!(
        status("ok", 1, 0, 0).sentence(),
        "1 block moved, none lost; everything else is intact."
    );
    assert!(status("failed", 0, 0, 0).sentence().contains("the volume has failed"));
    assert!(status("ok", 0, 2, 0).sentence().contains("2 blocks may still be read"));
    assert!(status("spare_full", 5, 0, 0).sentence().ends_with("nothing more can be moved."));
    assert!(status("ok", 2, 0, 0).screen().starts_with("2 blocks moved"));
}

#[test]
fn the_verdict_of_test() {
    assert_eq!(status("ok", 5, 0, 0).health(), Health::Healthy);
    assert_eq!(status("spare_full", 5, 0, 0).health(), Health::Degraded);
    assert_eq!(status("ok", 5, 1, 0).health(), Health::Lost);
    assert_eq!(status("main_suspect", 5, 0, 1).health(), Health::Lost);
    assert_eq!(status("failed", 0, 0, 0).health(), Health::Lost);
}

#[test]
fn the_keys_of_status() {
    let value = serde_json::to_value(status("ok", 1, 0, 0)).unwrap();
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
    let mut bad = status("ok", 1, 0, 0);
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
