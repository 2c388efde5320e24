// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The demo with a small folder: it succeeds, it leaves nothing, and sabotage makes it fail.

mod common;

use common::Bench;

/// A folder with 17 MB in files.
fn folder(bench: &Bench) -> String {
    let folder = bench.path("files");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..17u32 {
        let bytes: Vec<u8> =
            (0..1_000_003u32).map(|at| (at.wrapping_mul(n + 7) >> 8) as u8).collect();
        std::fs::write(folder.join(format!("file {n}")), bytes).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn the_demo_compares_every_byte_and_keeps_what_it_was_told_to() {
    let bench = Bench::new();
    let (code, said) = bench.code(&["demo", &folder(&bench), "--keep", "kept"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Every acknowledged byte is right"), "{said}");
    assert!(said.contains("SIGKILL") && said.contains("moved to spare sector"), "{said}");
    assert!(bench.path("kept/main.img").exists() && bench.path("kept/spare.img").exists());
    let (code, said) = bench.code(&["demo", "files", "--keep", "kept"]);
    assert_eq!(code, 5, "{said}");
}

#[test]
fn sabotage_makes_the_demo_fail() {
    let bench = Bench::new();
    let (code, said) = bench.code(&["demo", &folder(&bench), "--sabotage", "--keep", "kept"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("SABOTAGE") && said.contains("WRONG"), "{said}");
}

#[test]
fn without_keep_nothing_is_left() {
    let bench = Bench::new();
    let (code, said) = bench.code(&["demo", &folder(&bench)]);
    assert_eq!(code, 0, "{said}");
    let place = said.lines().find_map(|line| line.strip_prefix("working in ")).unwrap();
    assert!(!std::path::Path::new(place).exists(), "{place}");
}
