// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Spares that cannot be used: each is refused by name, and nothing is changed.

mod common;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use common::{Bench, skip};
use dmremap_format::at::header as at;
use dmremap_format::{HeaderMut, Session, State, Uuid};
use refusal::{edit_headers, refused};
use rustix::fs::{FlockOperation, flock};

const ALL: &[u8] = &[0, 1, 2, 3, 4];
const SERVE: &[&str] = &["serve", "--spare", "spare.img"];

fn format<'a>(main: &'a str, spare: &'a str) -> Vec<&'a str> {
    vec!["format", "--main", main, "--spare", spare, "--name", "w", "--yes"]
}

fn sized(path: &Path, sectors: u64) {
    File::create(path).unwrap().set_len(sectors * 512).unwrap();
}

#[test]
fn a_spare_that_is_too_small() {
    let bench = Bench::new();
    for sectors in [1, 8, 2_048, 11_271] {
        sized(&bench.path("tiny.img"), sectors);
        let size = format!("{sectors} sectors");
        let next = refused(&bench, &format("main.img", "tiny.img"), 4, &["tiny.img: ", &size]);
        assert!(next.ends_with("format --main main.img --spare DEV --name w --yes"), "{next}");
    }
    sized(&bench.path("tiny.img"), 11_272);
    bench.good(&[&format("main.img", "tiny.img")[..], &["--dry-run"]].concat());
    sized(&bench.path("empty.img"), 0);
    refused(&bench, &format("main.img", "empty.img"), 4, &["empty.img", "0 bytes"]);
    refused(&bench, &["serve", "--spare", "empty.img"], 4, &["empty.img", "0 bytes"]);
}

#[test]
fn a_spare_that_is_main() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("main.img", bench.path("symlink")).unwrap();
    std::fs::hard_link(bench.path("main.img"), bench.path("hardlink")).unwrap();
    std::fs::write(bench.path("map"), "").unwrap();
    let wrapped = format!("faulty:main.img?map={}", bench.path("map").display());
    for (main, spare) in [
        ("main.img", "main.img"),
        ("main.img", "symlink"),
        ("main.img", "hardlink"),
        ("hardlink", "symlink"),
        ("main.img", wrapped.as_str()),
    ] {
        let next = refused(&bench, &format(main, spare), 4, &[main, "main and spare at once"]);
        assert!(next.contains("DEV"), "{next}");
    }
    bench.format("main.img");
    std::fs::hard_link(bench.path("spare.img"), bench.path("spare-link")).unwrap();
    let serve = [SERVE, &["--main", "spare-link"]].concat();
    refused(&bench, &serve, 4, &["spare-link", "main and spare at once"]);
}

#[test]
fn a_loop_device_on_main_as_its_spare() {
    const NAME: &str = "a_loop_device_on_main_as_its_spare";
    let bench = Bench::new();
    let mut losetup = Command::new("losetup");
    let out = losetup.args(["--find", "--show"]).arg(bench.path("main.img")).output();
    let Some(out) = out.ok().filter(|out| out.status.success()) else {
        return skip(NAME, "no loop device can be made");
    };
    let device = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let detached = Detached(device.clone());
    let before = std::fs::read(bench.path("main.img")).unwrap();
    for (main, spare) in [("main.img", device.as_str()), (&device, "main.img")] {
        let out = bench.run(&format(main, spare));
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!([Some(4), Some(5)].contains(&out.status.code()), "{said}");
        assert!(said.contains("main.img") && said.contains("; try: "), "{said}");
    }
    drop(detached);
    assert!(std::fs::read(bench.path("main.img")).unwrap() == before);
}

/// A loop device that is taken down in the end.
struct Detached(String);

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// `args` while this process holds `held`.
fn held(bench: &Bench, held: &str, args: &[&str]) {
    let file = File::open(bench.path(held)).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(bench, args, 5, &[held, "in use"]);
}

#[test]
fn a_device_that_another_process_holds_is_not_formatted() {
    let bench = Bench::new();
    for device in ["spare.img", "main.img"] {
        held(&bench, device, &format("main.img", "spare.img"));
    }
}

#[test]
fn a_device_that_another_process_holds_is_not_served() {
    let bench = Bench::new();
    bench.format("main.img");
    for device in ["spare.img", "main.img"] {
        held(&bench, device, SERVE);
    }
}

#[test]
fn a_spare_of_another_volume() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::write(bench.path("main2.img"), vec![0x33; 16 << 20]).unwrap();
    sized(&bench.path("spare2.img"), 16 << 11);
    bench.good(&format("main2.img", "spare2.img"));
    // It keeps the volume it has.
    let again = [&format("main.img", "spare2.img")[..], &["--force=claimed"]].concat();
    let next = refused(&bench, &again, 6, &["spare2.img", "dm-remap volume"]);
    assert!(next.ends_with("--force=volume"), "{next}");
    // Its table is not applied to a main that is not its own.
    let serve = ["serve", "--spare", "spare2.img", "--main", "main.img"];
    let next = refused(&bench, &serve, 6, &["main.img", "nothing could be compared", "main was"]);
    assert!(next.ends_with("--accept-main=same"), "{next}");
}

#[test]
fn a_volume_that_is_open_on_another_host() {
    let bench = Bench::new();
    bench.format("main.img");
    edit_headers(&bench.path("spare.img"), ALL, |page| {
        let mut header = HeaderMut::edit(page);
        header.set_state(State::Dirty).unwrap();
        let (host, boot, session) = (Uuid([0xc4; 16]), Uuid([1; 16]), Uuid([2; 16]));
        header.set_session(&Session { host, boot, session, opened_at: 1_700_000_000 });
    });
    let things = ["spare.img", "another host", "c4c4c4c4-c4c4-"];
    let next = refused(&bench, SERVE, 6, &things);
    assert!(next.ends_with("serve --spare spare.img --force=in-use"), "{next}");
    assert_eq!(bench.serve(&["--force=in-use"]).stop(), 0);
    assert_eq!(bench.serve(&[]).stop(), 0, "it is ours now");
}

#[test]
fn a_spare_that_was_taken_out_of_use() {
    let bench = Bench::new();
    bench.format("main.img");
    let whole = std::fs::read(bench.path("spare.img")).unwrap();
    for (state, words) in [
        (State::MovedTo(Uuid([0xd5; 16])), "moved away to spare d5d5d5d5-"),
        (State::Removed, "the spare was removed"),
        (State::Released, "the volume was released"),
    ] {
        // One copy that says so is enough, whatever the others say.
        for copies in [&[3][..], ALL] {
            std::fs::write(bench.path("spare.img"), &whole).unwrap();
            edit_headers(&bench.path("spare.img"), copies, |page| {
                HeaderMut::edit(page).set_state(state).unwrap();
            });
            let copy = format!("copy {}", copies[0]);
            refused(&bench, SERVE, 4, &["spare.img", words, &copy]);
            let main = [SERVE, &["--main", "main.img"]].concat();
            let next = refused(&bench, &main, 4, &["spare.img", words, &copy]);
            assert!(next.contains("DEV") || next.contains("examine"), "{next}");
            let forced = [&main[..], &["--force=quorum", "--force=in-use"]].concat();
            refused(&bench, &forced, 4, &["spare.img", words, &copy]);
            assert_eq!(bench.code(&["check", "--spare", "spare.img"]).0, 4);
        }
    }
}

#[test]
fn a_spare_that_is_still_joining() {
    let bench = Bench::new();
    bench.format("main.img");
    edit_headers(&bench.path("spare.img"), ALL, |page| {
        HeaderMut::edit(page).set_state(State::Joining).unwrap();
    });
    refused(&bench, SERVE, 6, &["spare.img", "joining"]);
}

#[test]
fn a_spare_that_was_truncated() {
    let bench = Bench::new();
    bench.format("main.img");
    let file = File::options().write(true).open(bench.path("spare.img")).unwrap();
    // Behind the last copy, in the middle of it, and in the middle of the first one.
    for (bytes, code) in [(15 << 20, 4), (8_300 * 512, 4), (16 * 512, 4)] {
        file.set_len(bytes).unwrap();
        let next = refused(&bench, SERVE, code, &["spare.img"]);
        assert!(next.ends_with("--spare DEV") || next.contains("examine"), "{next}");
        // Nothing that looks at it calls it sound.
        let (code, said) = bench.code(&["check", "--spare", "spare.img"]);
        assert!(code == 4 && !said.contains("is sound"), "{code} {said}");
        refused(&bench, &["status", "--spare", "spare.img"], 4, &["spare.img"]);
        refused(&bench, &["repair", "--spare", "spare.img", "--yes"], 4, &["spare.img"]);
        refused(&bench, &["wipe", "--spare", "spare.img", "--yes"], 6, &["spare.img"]);
    }
}

#[test]
fn a_spare_of_a_newer_version() {
    let bench = Bench::new();
    bench.format("main.img");
    let whole = std::fs::read(bench.path("spare.img")).unwrap();
    let feature = |page: &mut dmremap_format::PageBytes| page[at::FEATURES_INCOMPAT.at + 5] |= 1;
    for copies in [&[2][..], ALL] {
        std::fs::write(bench.path("spare.img"), &whole).unwrap();
        edit_headers(&bench.path("spare.img"), copies, feature);
        let main = [SERVE, &["--main", "main.img"]].concat();
        let next = refused(&bench, &main, 4, &["spare.img", "copy"]);
        assert!(next == "dmremap --version" || copies == ALL, "{next}");
        refused(&bench, &[&main[..], &["--force=quorum"]].concat(), 4, &["spare.img"]);
    }
    // It is not formatted over as if it were empty.
    refused(&bench, &format("main.img", "spare.img"), 6, &["spare.img", "dm-remap volume"]);
}

#[test]
fn names_on_a_device_do_not_reach_the_terminal() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::remove_file(bench.path("volumes.conf")).unwrap();
    let hint = "/dev/\u{1b}[2J\n/dev/sda\u{202e}\r".as_bytes();
    edit_headers(&bench.path("spare.img"), ALL, |page| {
        HeaderMut::edit(page).set_hint(hint).unwrap();
    });
    let things = ["spare", "/dev/\\x1b[2J\\x0a/dev/sda\\u{202e}\\x0d"];
    let next = refused(&bench, SERVE, 4, &things);
    assert!(next.ends_with("--main DEV"), "nothing found there is offered: {next}");
    for args in [&["examine", "spare.img"][..], &["examine", "spare.img", "--export"]] {
        let shown = bench.good(args);
        assert!(shown.contains("x1b[2J") && !shown.contains(['\u{1b}', '\u{202e}', '\r']));
    }
}
