// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verbs that work on a spare alone: what they change, and that a refusal changes nothing.
//!
//! Invariants checked: a refused command leaves both images as they were, byte for byte; no command
//! touches a data unit of the spare or a byte of main.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use common::{Bench, IMAGE_BYTES};
use dmremap_format::{CopyIndex, Header, HeaderMut, Session, State, Uuid};
use serde_json::{Value, json};

/// Sectors of the five copies, and the first of the data units.
const COPIES: [u64; 5] = [0, 1024, 2048, 4096, 8192];
const DATA_START: u64 = 9216;

/// A volume on whose spare live sectors 800 to 807, with 0xa1 in 801; closed.
fn moved() -> Bench {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "800"]);
    server.connect().write(801 * 512, &[0xa1; 512], false).unwrap();
    assert_eq!(server.stop(), 0);
    bench
}

fn image(bench: &Bench, name: &str) -> Vec<u8> {
    std::fs::read(bench.path(name)).unwrap()
}

fn damage(bench: &Bench, sector: u64) {
    let file = File::options().write(true).open(bench.path("spare.img")).unwrap();
    file.write_all_at(&[0x5a; 512], sector * 512).unwrap();
}

/// A refusal: its exit code and words. Nothing has changed, and the last line says what to type.
fn refused(bench: &Bench, args: &[&str]) -> (i32, String) {
    let names = ["main.img", "spare.img", "volumes.conf"];
    let read = |name: &str| std::fs::read(bench.path(name)).unwrap_or_default();
    let before = names.map(read);
    let (code, said) = bench.code(args);
    assert!(names.map(read) == before, "{args:?} changed something: {said}");
    let last = said.trim_end().lines().last().unwrap_or("");
    // A report has a line of its own for it, an error ends with it.
    let ends = last.starts_with("try: dmremap ") || last.contains("; try: dmremap ");
    assert!(code != 0 && ends, "{args:?}: {code} {said}");
    (code, said)
}

const WIPE: &[&str] = &["wipe", "--spare", "spare.img"];
const REPAIR: &[&str] = &["repair", "--spare", "spare.img", "--yes"];
const DUMP: &[&str] = &["dump", "--spare", "spare.img"];

#[test]
fn wipe_removes_our_metadata_and_nothing_else() {
    let bench = Bench::new();
    bench.format("main.img");
    // Somebody else's bytes in the place of a copy are not ours to remove.
    damage(&bench, COPIES[2]);
    let before = image(&bench, "spare.img");
    assert_eq!(refused(&bench, WIPE).0, 6, "nobody can be asked");
    let said = bench.good(&[WIPE, &["--dry-run"]].concat());
    assert!(said.contains("Nothing has been changed") && image(&bench, "spare.img") == before);
    let said = bench.good(&[WIPE, &["--yes"]].concat());
    assert!(said.contains("no spare any more, and the local configuration"), "{said}");
    let after = image(&bench, "spare.img");
    for copy in COPIES {
        for page in [copy, copy + 8, copy + 16] {
            let at = page as usize * 512;
            let ours = before[at..at + 4] == *b"4RMD";
            let expected = if ours { [0; 4096] } else { before[at..at + 4096].try_into().unwrap() };
            assert!(after[at..at + 4096] == expected, "page at sector {page}");
        }
    }
    let data = DATA_START as usize * 512;
    assert!(after[data..] == before[data..]);
    assert!(!std::fs::read_to_string(bench.path("volumes.conf")).unwrap().contains("spare.img"));
    assert_eq!(bench.code(&["examine", "spare.img"]).0, 4);
    assert_eq!(refused(&bench, &[WIPE, &["--yes"]].concat()).0, 4, "there is nothing any more");
    // It is an ordinary device again.
    bench.format("main.img");
}

#[test]
fn wipe_asks_before_moved_blocks_are_lost() {
    let bench = moved();
    let (code, said) = refused(&bench, &[WIPE, &["--yes"]].concat());
    assert!(code == 6 && said.contains("8 blocks live there") && said.contains("--force=entries"));
    let units = image(&bench, "spare.img")[DATA_START as usize * 512..].to_vec();
    bench.good(&[WIPE, &["--yes", "--force=entries"]].concat());
    assert!(image(&bench, "spare.img")[DATA_START as usize * 512..] == units);
}

#[test]
fn wipe_does_not_take_a_table_that_cannot_be_read_for_an_empty_one() {
    let bench = Bench::new();
    bench.format("main.img");
    COPIES[..4].iter().for_each(|copy| damage(&bench, copy + 16));
    let (code, said) = refused(&bench, &[WIPE, &["--yes"]].concat());
    assert!(code == 6 && said.contains("is not sound"), "{said}");
    bench.good(&[WIPE, &["--yes", "--force=entries"]].concat());
}

#[test]
fn the_spare_of_a_running_volume_is_left_alone() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let before = image(&bench, "spare.img");
    let commands = [&[WIPE, &["--yes"]].concat(), REPAIR];
    let running = commands.map(|words| bench.command(words).stderr(Stdio::null()).spawn().unwrap());
    for mut child in running {
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
    assert!(image(&bench, "spare.img") == before);
    // Its metadata can be dumped all the same.
    assert_eq!(bench.json(DUMP)["complete"], true);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_dump_says_everything() {
    let bench = moved();
    let before = image(&bench, "spare.img");
    let dump = bench.json(DUMP);
    assert!(image(&bench, "spare.img") == before);
    assert_eq!((&dump["kind"], &dump["complete"]), (&json!("dm-remap dump"), &json!(true)));
    assert_eq!((&dump["name"], &dump["state"]), (&json!("v"), &json!("clean")));
    assert_eq!(dump["size_sectors"], IMAGE_BYTES / 512);
    assert_eq!(dump["settings"]["read_retries"], "3");
    let entry = &dump["entries"][0];
    assert_eq!((&entry["main_unit"], &entry["states"]), (&json!(100), &json!("ssssssss")));
    assert_eq!((&entry["spare_unit"], &entry["cause"]), (&json!(0), &json!("remap")));
    assert_eq!(dump["entries"].as_array().map(Vec::len), Some(1));
    assert!(dump["main"]["identities"].as_array().is_some_and(|all| !all.is_empty()));
}

#[test]
fn a_dump_is_never_written_over_a_file() {
    let bench = moved();
    let said = bench.good(&[DUMP, &["dump.json"]].concat());
    assert_eq!(said, "");
    let first: Value = serde_json::from_slice(&image(&bench, "dump.json")).unwrap();
    assert_eq!(first, bench.json(DUMP));
    std::fs::write(bench.path("dump.json"), "mine").unwrap();
    let again = [DUMP, &["dump.json"]].concat();
    assert_eq!(refused(&bench, &again).0, 5);
    assert_eq!(image(&bench, "dump.json"), b"mine");
    bench.good(&[&again[..], &["--force=existing-file"]].concat());
    assert_eq!(serde_json::from_slice::<Value>(&image(&bench, "dump.json")).unwrap(), first);
    for device in ["spare.img", "main.img"] {
        let onto = [DUMP, &[device, "--force=existing-file"]].concat();
        assert_eq!(refused(&bench, &onto).0, 6, "{device}");
    }
}

#[test]
fn what_one_copy_says_is_dumped_only_if_forced() {
    let bench = moved();
    COPIES[..4].iter().for_each(|copy| damage(&bench, copy + 16));
    let (code, said) = refused(&bench, DUMP);
    assert!(code == 4 && said.contains("--force=quorum"), "{said}");
    let dump: Value = {
        let out = bench.run(&[DUMP, &["--force=quorum"]].concat());
        assert!(String::from_utf8_lossy(&out.stderr).contains("taken from one copy"));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    assert_eq!(dump["complete"], false);
    assert!(dump["faults"][0].as_str().unwrap().starts_with("table page 0: taken from one copy"));
    assert_eq!(dump["entries"][0]["main_unit"], 100);
    std::fs::write(bench.path("spare.img"), vec![0; 16 << 20]).unwrap();
    assert_eq!(refused(&bench, &[DUMP, &["--force=quorum"]].concat()).0, 4);
}

#[test]
fn check_shows_each_copy_and_what_to_do() {
    let bench = moved();
    let said = bench.good(&["check", "--spare", "spare.img"]);
    assert!(said.contains("all five copies agree") && !said.contains("try:"), "{said}");
    damage(&bench, COPIES[3] + 16);
    let said = bench.good(&["check", "--spare", "spare.img"]);
    assert!(said.contains("not valid: no metadata here"), "{said}");
    assert!(said.ends_with("try: dmremap repair --spare spare.img\n"), "{said}");
    let found = bench.json(&["check", "--spare", "spare.img", "--json"]);
    assert_eq!((&found["accepted"], &found["pages_to_repair"]), (&json!(true), &json!(1)));
    let page = &found["pages"][2];
    assert_eq!((&page["page"], &page["whole"]), (&json!("table page 0"), &json!(false)));
    assert_eq!(
        page["copies"][3],
        json!({ "sector": 4112, "state": "invalid",
        "generation": null, "sequence": null, "fault": "no metadata here" })
    );
    COPIES[..3].iter().for_each(|copy| damage(&bench, copy + 16));
    let (code, said) = refused(&bench, &["check", "--spare", "spare.img"]);
    assert!(code == 4 && said.contains("table page 0: fewer than two copies"), "{said}");
}

/// The header of copy 0: its state and session.
fn head(bench: &Bench) -> Value {
    let volume = bench.json(&["examine", "spare.img", "--json"])["volume"].clone();
    json!([volume["state"], volume["host"], volume["boot"], volume["opened_at"]])
}

#[test]
fn repair_makes_all_copies_whole_and_touches_nothing_else() {
    let bench = moved();
    let (main, was) = (image(&bench, "main.img"), head(&bench));
    for sector in [COPIES[1], COPIES[4], COPIES[0] + 8, COPIES[2] + 16, COPIES[3] + 24] {
        damage(&bench, sector);
    }
    let before = image(&bench, "spare.img");
    let said = bench.good(&["repair", "--spare", "spare.img", "--dry-run"]);
    assert!(said.contains("table page 1") && said.contains("Nothing has been changed"), "{said}");
    assert_eq!(refused(&bench, &["repair", "--spare", "spare.img"]).0, 6, "nobody can be asked");
    assert!(image(&bench, "spare.img") == before);
    let list = bench.json(&["list", "--spare", "spare.img", "--json"]);
    let told = bench.json(&[REPAIR, &["--json"]].concat());
    assert_eq!((&told["pages_to_repair"], &told["repaired"]), (&json!(4), &json!(true)));
    assert_eq!(told["left"], json!([]));
    let found = bench.json(&["check", "--spare", "spare.img", "--json"]);
    assert_eq!((&found["copies_valid"], &found["pages_to_repair"]), (&json!(5), &json!(0)));
    assert_eq!(bench.json(&["list", "--spare", "spare.img", "--json"]), list);
    assert_eq!(head(&bench), was);
    let (after, data) = (image(&bench, "spare.img"), DATA_START as usize * 512);
    assert!(after[data..] == before[data..] && image(&bench, "main.img") == main);
    // Nothing is due any more, and nothing is written.
    let said = bench.good(REPAIR);
    assert!(said.contains("are whole") && image(&bench, "spare.img") == after, "{said}");
    let server = bench.serve(&[]);
    assert_eq!(server.connect().read(801 * 512, 512).unwrap(), [0xa1; 512]);
    assert_eq!(server.stop(), 0);
}

#[test]
fn repair_does_not_make_an_unclean_close_a_clean_one() {
    let bench = moved();
    bench.serve(&[]).kill();
    damage(&bench, COPIES[1]);
    let was = head(&bench);
    assert_eq!(was[0], "dirty");
    bench.good(REPAIR);
    assert_eq!(head(&bench), was);
    assert_eq!(bench.serve(&[]).stop(), 0);
    assert_eq!(head(&bench)[0], "clean");
}

#[test]
fn repair_refuses_what_an_open_refuses() {
    let bench = moved();
    COPIES[..4].iter().for_each(|copy| damage(&bench, copy + 16));
    let (code, said) = refused(&bench, REPAIR);
    assert!(code == 4 && said.contains("fewer than two"), "{said}");
    let bench = Bench::new();
    assert_eq!(refused(&bench, REPAIR).0, 4, "no volume at all");
}

/// Seals every header anew with what `edit` makes of it.
fn edit_headers(bench: &Bench, edit: impl Fn(&mut HeaderMut<'_>)) {
    let file = File::options().read(true).write(true).open(bench.path("spare.img")).unwrap();
    for (copy, sector) in CopyIndex::ALL.into_iter().zip(COPIES) {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, sector * 512).unwrap();
        let stamp = Header::check(&page, copy).unwrap().stamp();
        let mut header = HeaderMut::edit(&mut page);
        edit(&mut header);
        header.seal(copy, stamp);
        file.write_all_at(&page, sector * 512).unwrap();
    }
}

#[test]
fn repair_keeps_away_from_what_another_host_has_open() {
    let bench = moved();
    let host = Uuid([7; 16]);
    edit_headers(&bench, |header| {
        header.set_session(&Session { host, boot: host, session: host, opened_at: 5 });
        header.set_state(State::Dirty).unwrap();
    });
    damage(&bench, COPIES[1] + 16);
    let was = head(&bench);
    for more in [&["--yes"][..], &["--dry-run"]] {
        let (code, said) = refused(&bench, &[&["repair", "--spare", "spare.img"], more].concat());
        assert!(code == 6 && said.ends_with("--force=in-use\n"), "{said}");
    }
    bench.good(&[REPAIR, &["--force=in-use"]].concat());
    assert_eq!(head(&bench), was, "that it was never closed there is not forgotten");
}

#[test]
fn a_spare_out_of_use_is_not_repaired_and_may_be_wiped() {
    for state in [State::Removed, State::Released, State::MovedTo(Uuid([9; 16]))] {
        let bench = moved();
        edit_headers(&bench, |header| header.set_state(state).unwrap());
        damage(&bench, COPIES[1] + 16);
        assert_eq!(refused(&bench, REPAIR).0, 4, "{state:?}");
        assert_eq!(refused(&bench, DUMP).0, 4, "{state:?}");
        bench.good(&[WIPE, &["--yes"]].concat());
        assert_eq!(bench.code(&["examine", "spare.img"]).0, 4);
    }
    let bench = moved();
    edit_headers(&bench, |header| header.set_state(State::Joining).unwrap());
    assert_eq!(refused(&bench, REPAIR).0, 6);
    assert_eq!(refused(&bench, &["check", "--spare", "spare.img"]).0, 4);
}

const RESTORE: &[&str] = &["restore", "--spare", "new.img", "--main", "main.img", "dump.json"];

/// DESIGN 10.25: every entry of a restored dump would point at blank blocks.
#[test]
fn a_dump_on_a_new_spare_serves_no_blank_blocks() {
    let bench = moved();
    bench.good(&[DUMP, &["dump.json"]].concat());
    let main = image(&bench, "main.img");
    File::create(bench.path("new.img")).unwrap().set_len(20 << 20).unwrap();
    let blank = image(&bench, "new.img");
    let said = bench.good(&[RESTORE, &["--dry-run"]].concat());
    assert!(said.contains("8 blocks that had moved") && said.contains("Nothing has been changed"));
    assert_eq!(refused(&bench, RESTORE).0, 6, "nobody can be asked");
    assert!(image(&bench, "new.img") == blank);
    bench.good(&[RESTORE, &["--yes"]].concat());

    let examined = bench.json(&["examine", "new.img", "--json"]);
    assert_eq!(examined["volume"]["state"], "restored");
    assert_eq!(bench.json(&["status", "--spare", "new.img", "--json"])["state"], "read_only");
    let list = bench.json(&["list", "--spare", "new.img", "--json"]);
    assert_eq!((&list[0]["main_sector"], &list[0]["sectors"]), (&json!(800), &json!(8)));
    assert_eq!((&list[0]["state"], &list[0]["spare_sector"]), (&json!("gone"), &Value::Null));

    let before = image(&bench, "new.img");
    let server = bench.serve_on("new.img", &[]);
    let client = server.connect();
    for sector in 800..808 {
        assert!(client.read(sector * 512, 512).is_err(), "sector {sector}");
    }
    for sector in [0, 799, 808] {
        assert_eq!(client.read(sector * 512, 512).unwrap(), bench.main_sector(sector));
    }
    assert!(client.export().read_only());
    assert!(client.write(0, &[1; 512], false).is_err());
    assert!(client.write(800 * 512, &[1; 512], false).is_err());
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!((&status["state"], &status["gone_blocks"]), (&json!("read_only"), &json!(8)));
    assert!(status["reason"].as_str().unwrap().contains("restored from a dump"));
    drop(client);
    assert_eq!(server.stop(), 0);
    assert!(image(&bench, "new.img") == before && image(&bench, "main.img") == main);

    // A repair does not make it more than it is.
    let file = File::options().write(true).open(bench.path("new.img")).unwrap();
    file.write_all_at(&[0x5a; 512], COPIES[1] * 512).unwrap();
    bench.good(&["repair", "--spare", "new.img", "--yes"]);
    assert_eq!(bench.json(&["examine", "new.img", "--json"])["volume"]["state"], "restored");
}

#[test]
fn restore_refuses_metadata_that_can_be_read() {
    let bench = moved();
    bench.good(&[DUMP, &["dump.json"]].concat());
    let onto = ["restore", "--spare", "spare.img", "--main", "main.img", "dump.json", "--yes"];
    let (code, said) = refused(&bench, &onto);
    assert!(code == 6 && said.ends_with("try: dmremap repair --spare spare.img\n"), "{said}");
    // One copy is worth more than any dump.
    COPIES[..4].iter().for_each(|copy| damage(&bench, copy + 16));
    let (code, said) = refused(&bench, &onto);
    assert!(code == 6 && said.ends_with("--read-only --force=quorum\n"), "{said}");
    // Nor is a dump taken of what was not proven.
    bench.good(&[DUMP, &["part.json", "--force=quorum"]].concat());
    damage(&bench, COPIES[4] + 16);
    let part = ["restore", "--spare", "spare.img", "--main", "main.img", "part.json", "--yes"];
    let (code, said) = refused(&bench, &part);
    assert!(code == 6 && said.contains("not proven"), "{said}");
    // Now nothing can be read any more. What the units hold stays.
    let units = image(&bench, "spare.img")[DATA_START as usize * 512..15 << 20].to_vec();
    bench.good(&onto);
    assert!(image(&bench, "spare.img")[DATA_START as usize * 512..15 << 20] == units);
    assert_eq!(bench.json(&["status", "--spare", "spare.img", "--json"])["gone_blocks"], 8);
}

/// A dump is as old as it is: what a page that can still be read says to have moved since would be
/// served from main, where its content was before.
#[test]
fn what_moved_after_the_dump_and_can_still_be_read_is_gone_too() {
    let bench = moved();
    bench.good(&[DUMP, &["dump.json"]].concat());
    let server = bench.serve(&[]);
    bench.good(&["remap", "v", "1600"]);
    server.connect().write(1601 * 512, &[0xb2; 512], false).unwrap();
    assert_eq!(server.stop(), 0);
    // Another page of the table cannot be read any more.
    COPIES.iter().for_each(|copy| damage(&bench, copy + 16 + 5 * 8));
    let onto = ["restore", "--spare", "spare.img", "--main", "main.img", "dump.json", "--yes"];
    let said = bench.good(&onto);
    assert!(said.contains("16 blocks that had moved") && said.contains("Of them 8 "), "{said}");
    let server = bench.serve(&[]);
    let client = server.connect();
    for sector in (800..808).chain(1600..1608) {
        assert!(client.read(sector * 512, 512).is_err(), "sector {sector}");
    }
    assert_eq!(client.read(1608 * 512, 512).unwrap(), bench.main_sector(1608));
    drop(client);
    assert_eq!(server.stop(), 0);
}

#[test]
fn restore_wants_the_main_of_the_dump_and_an_empty_spare() {
    let bench = moved();
    bench.good(&[DUMP, &["dump.json"]].concat());
    File::create(bench.path("new.img")).unwrap().set_len(20 << 20).unwrap();
    let with = |spare: &str, main: &str, file: &str| {
        let command = ["restore", "--spare", spare, "--main", main, file, "--yes"];
        let other = std::fs::read(bench.path("new.img")).unwrap();
        let found = refused(&bench, &command);
        assert!(std::fs::read(bench.path("new.img")).unwrap() == other);
        found
    };
    std::fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
    let (code, said) = with("new.img", "copy.img", "dump.json");
    assert!(code == 6 && said.ends_with("dump.json --accept-main=same\n"), "{said}");
    File::create(bench.path("small.img")).unwrap().set_len(8 << 20).unwrap();
    assert_eq!(with("new.img", "small.img", "dump.json").0, 4);
    // Nothing tells main's content from an empty device, but for the local configuration.
    let (code, said) = with("main.img", "copy.img", "dump.json");
    assert!(code == 6 && said.contains("main.img is main of \"v\""), "{said}");
    assert_eq!(with("small.img", "main.img", "none.json").0, 4);
    File::create(bench.path("tiny.img")).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(with("tiny.img", "main.img", "dump.json").0, 4);
    std::fs::write(bench.path("bad.json"), "{").unwrap();
    assert_eq!(with("new.img", "main.img", "bad.json").0, 4);
    let mut foreign = image(&bench, "new.img");
    foreign[510..512].copy_from_slice(&[0x55, 0xaa]);
    foreign[446..462].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 9, 0, 1, 0, 0, 0, 0, 64, 0, 0]);
    std::fs::write(bench.path("new.img"), foreign).unwrap();
    assert_eq!(with("new.img", "main.img", "dump.json").0, 6);
}
