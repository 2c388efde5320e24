// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The program on a terminal: the word that is to be typed before something is destroyed, progress,
//! and colours, which `NO_COLOR` switches off.

mod common;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use common::Bench;
use refusal::content;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long the program may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What ends the input of a terminal.
const END: &str = "\x04";

/// Runs the program on a terminal where `typed` is typed; its exit code and what was to be seen.
fn on_a_terminal(
    bench: &Bench,
    args: &[&str],
    typed: &str,
    variables: &[(&str, &str)],
) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(name).unwrap();
    let mut command = bench.command(args);
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied());
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    // The terminal is hung up when nobody but the program has had it.
    drop(command);
    let mut master = File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = master.read(&mut bytes) {
            let _ = sender.send(bytes[..len].to_vec());
        }
    });
    let mut seen = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(bytes) => seen.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("{args:?}: silent after {:?}", String::from_utf8_lossy(&seen));
            }
        }
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    (code, String::from_utf8(seen).unwrap())
}

/// Everything but `word` leaves it as it is; `word` does it. Gives back what was to be seen then.
fn only_by(bench: &Bench, args: &[&str], word: &str) -> String {
    let before = content(bench);
    let half = format!("{}{END}{END}", &word[..word.len() - 1]);
    for wrong in [END, "\n", "y\n", "yes\n", &format!("{word} it\n"), &half] {
        let (code, seen) = on_a_terminal(bench, args, wrong, &[]);
        assert_eq!(code, 6, "{args:?} {wrong:?}: {seen}");
        assert!(seen.contains(&format!("Type \"{word}\" to go on: ")), "{seen}");
        assert!(seen.contains("not confirmed; nothing has been changed"), "{seen}");
        assert!(content(bench) == before, "{args:?} {wrong:?}: something was changed");
    }
    let (code, seen) = on_a_terminal(bench, args, &format!("{word}\n"), &[]);
    assert_eq!(code, 0, "{args:?}: {seen}");
    seen
}

#[test]
fn only_the_word_that_is_asked_for_destroys() {
    let bench = Bench::new();
    let format = ["format", "--main", "main.img", "--spare", "spare.img", "--name", "v"];
    only_by(&bench, &format, "format");
    assert_eq!(bench.json(&["examine", "spare.img", "--json"])["volume"]["name"], "v");

    // The word answers the question, and lifts no refusal: then nobody is asked.
    let before = content(&bench);
    let (code, seen) = on_a_terminal(&bench, &format, "format\n", &[]);
    assert!(code == 6 && !seen.contains("Type \""), "{code} {seen}");
    assert!(content(&bench) == before, "something was changed");

    let copy = 1024;
    refusal::put(&bench.path("spare.img"), copy, &[0; 4096]);
    only_by(&bench, &["repair", "--spare", "spare.img"], "repair");
    assert_eq!(bench.json(&["check", "--spare", "spare.img", "--json"])["pages_to_repair"], 0);

    only_by(&bench, &["wipe", "--spare", "spare.img"], "wipe");
    assert_eq!(bench.code(&["examine", "spare.img"]).0, 4);
}

#[test]
fn a_terminal_sees_how_far_it_has_come() {
    let bench = Bench::new();
    bench.format("main.img");
    let _server = bench.serve(&[]);
    for sector in ["100", "200"] {
        bench.good(&["remap", "v", sector]);
    }
    let seen = only_by(&bench, &["clear", "v"], "clear");
    assert!(seen.contains("/16 blocks"), "no bar: {seen:?}");
    assert!(seen.contains("16 blocks came home"), "{seen:?}");
    assert_eq!(bench.json(&["list", "v", "--json"]), serde_json::json!([]));
}

/// Whether a letter has a colour, or is bold.
fn has_colour(seen: &str) -> bool {
    seen.split("\x1b[").skip(1).any(|rest| {
        let end = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        end.starts_with('m')
    })
}

#[test]
fn no_color_is_honoured() {
    assert!(has_colour("a\x1b[1;33mb") && has_colour("\x1b[m") && !has_colour("a\x1b[2K"));
    let bench = Bench::new();
    bench.format("main.img");
    // A warning, and the help.
    for (args, code) in [
        (&["export", "--spare", "spare.img", "--format", "table"][..], 0),
        (&["list", "--help"], 0),
    ] {
        for (value, coloured) in [("1", false), ("0", false), ("", true)] {
            let (ended, seen) = on_a_terminal(&bench, args, "", &[("NO_COLOR", value)]);
            assert_eq!(ended, code, "{args:?}: {seen}");
            assert_eq!(has_colour(&seen), coloured, "{args:?} NO_COLOR={value:?}: {seen:?}");
        }
        // Where there is no terminal there is none at all.
        let out = bench.run(args);
        let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(!said.contains('\x1b'), "{said:?}");
    }
}
