// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Copies of the metadata that were destroyed, put back or exchanged: three bad ones are borne and
//! repaired, and where too few are left the volume is refused with its copies named.

mod common;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs;

use common::{Bench, known};
use refusal::{put, refused, sectors_of};

const SERVE: &[&str] = &["serve", "--spare", "spare.img", "--main", "main.img"];
/// First sectors of the five copies, and how many sectors one has.
const COPIES: [u64; 5] = [0, 1024, 2048, 4096, 8192];
const COPY_SECTORS: u64 = 1024;

/// A volume with a moved block at 800, whose content is `0xa1` on the spare; and the spare as it
/// was before that.
fn moved() -> (Bench, Vec<u8>) {
    let bench = Bench::new();
    bench.format("main.img");
    let before = fs::read(bench.path("spare.img")).unwrap();
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "800"]);
    server.connect().write(800 * 512, &[0xa1; 512], true).unwrap();
    assert_eq!(server.stop(), 0);
    assert_eq!(bench.main_sector(800), [known(800 * 512); 512]);
    (bench, before)
}

fn destroy(bench: &Bench, copies: &[usize]) {
    for copy in copies {
        put(&bench.path("spare.img"), COPIES[*copy], &[0x5a; COPY_SECTORS as usize * 512]);
    }
}

/// Opens the volume, reads the moved block, closes it; all five copies are whole then.
fn opens_and_repairs(bench: &Bench, what: &str) {
    let server = bench.serve(&["--main", "main.img"]);
    assert_eq!(server.connect().read(800 * 512, 512).unwrap(), [0xa1; 512], "{what}");
    assert_eq!(server.stop(), 0);
    let examined = bench.json(&["examine", "spare.img", "--json"]);
    assert_eq!(examined["volume"]["copies_valid"], 5, "{what}");
}

#[test]
fn up_to_three_copies_may_be_destroyed() {
    let (bench, _) = moved();
    for copies in [&[0][..], &[4], &[0, 1], &[2, 4], &[0, 1, 2], &[1, 3, 4], &[2, 3, 4]] {
        destroy(&bench, copies);
        assert_eq!(bench.code(&["check", "--spare", "spare.img"]).0, 0, "{copies:?}");
        opens_and_repairs(&bench, &format!("{copies:?} destroyed"));
    }
}

#[test]
fn with_four_or_five_copies_destroyed_it_refuses() {
    let (bench, _) = moved();
    let whole = fs::read(bench.path("spare.img")).unwrap();
    for left in 0..5 {
        fs::write(bench.path("spare.img"), &whole).unwrap();
        let others: Vec<usize> = (0..5).filter(|copy| *copy != left).collect();
        destroy(&bench, &others);
        let valid = format!("valid: {left}");
        let gone = format!("copy {}: no metadata here", others[0]);
        let next = refused(&bench, SERVE, 4, &["spare.img", &valid, &gone]);
        assert!(next.ends_with("--force=quorum --read-only"), "{next}");
        refused(&bench, &["list", "--spare", "spare.img"], 4, &["spare.img"]);
        // What is said is true: the one copy can be read, and nothing is written.
        let before = refusal::content(&bench);
        let server = bench.serve(&["--main", "main.img", "--force=quorum", "--read-only"]);
        assert_eq!(server.connect().read(800 * 512, 512).unwrap(), [0xa1; 512]);
        assert_eq!(server.stop(), 0);
        assert!(refusal::content(&bench) == before);
    }
    destroy(&bench, &[0, 1, 2, 3, 4]);
    refused(&bench, SERVE, 4, &["spare.img", "valid: none"]);
    refused(&bench, &[SERVE, &["--force=quorum"]].concat(), 4, &["spare.img", "valid: none"]);
    refused(&bench, &["examine", "spare.img"], 4, &["spare.img", "no dm-remap metadata"]);
}

#[test]
fn copies_that_were_put_back_lose() {
    let (bench, old) = moved();
    for copies in [&[0][..], &[4], &[0, 1], &[0, 2, 4], &[1, 2, 3]] {
        for copy in copies {
            let at = COPIES[*copy] as usize * 512;
            let bytes = &old[at..at + COPY_SECTORS as usize * 512];
            put(&bench.path("spare.img"), COPIES[*copy], bytes);
        }
        opens_and_repairs(&bench, &format!("{copies:?} put back"));
    }
}

#[test]
fn copies_at_each_others_places_are_invalid() {
    let (bench, _) = moved();
    let spare = bench.path("spare.img");
    let of = |copy: usize| sectors_of(&spare, COPIES[copy], COPY_SECTORS);
    let whole = fs::read(&spare).unwrap();
    // Copy 1 written at place 2, and both exchanged.
    put(&spare, COPIES[2], &of(1));
    opens_and_repairs(&bench, "copy 1 at place 2");
    let (one, two) = (of(1), of(2));
    put(&spare, COPIES[1], &two);
    put(&spare, COPIES[2], &one);
    opens_and_repairs(&bench, "1 and 2 exchanged");
    // Every place holds another copy's bytes: none is valid, each is named.
    fs::write(&spare, &whole).unwrap();
    let all: Vec<_> = (0..5).map(of).collect();
    (0..5).for_each(|place| put(&spare, COPIES[place], &all[(place + 1) % 5]));
    let things = ["spare.img", "copy 0: page of another place", "copy 4: page of another place"];
    refused(&bench, SERVE, 4, &things);
}
