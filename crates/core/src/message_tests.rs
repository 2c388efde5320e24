// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use crate::text::{MARKER, REPLY_MAX_BYTES};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{eprintln, format};

const MAIN: u64 = 1_000_000;

fn within(text: &str) -> Result<Command, ParseError> {
    parse_within(text.as_bytes(), MAIN)
}

/// The words of the error a message is answered with.
fn refusal(text: &str) -> String {
    let error = within(text).expect_err(text);
    let mut buf = [0u8; REPLY_MAX_BYTES];
    let mut out = Text::new(&mut buf);
    error.write(&mut out);
    assert!(!out.is_cut());
    out.as_str().to_string()
}

#[test]
fn every_message_of_the_design_is_understood() {
    use SpareAddress::{Absolute, FromDataStart};
    let set = |key, value| Command::Set(Setting::new(key, value).unwrap());
    let all = LIST_RUNS_MAX as u32;
    for (text, want) in [
        ("ping", Command::Ping),
        ("help", Command::Help),
        ("status", Command::Status),
        ("remap 8", Command::Remap { sector: 8, to: None }),
        ("remap 0x10 9216", Command::Remap { sector: 16, to: Some(Absolute(9216)) }),
        ("remap 999999 +0x8", Command::Remap { sector: 999_999, to: Some(FromDataStart(8)) }),
        ("add 1 9217", Command::Add { main: 1, spare: Absolute(9217), sectors: None }),
        ("unremap 5", Command::Unremap { sector: 5 }),
        ("verify 0", Command::Verify { sector: 0 }),
        ("mark gone 8", Command::Mark { kind: MarkKind::Gone, sector: 8, sectors: None }),
        (
            "mark pending 0x8 65536",
            Command::Mark { kind: MarkKind::Pending, sector: 8, sectors: Some(65_536) },
        ),
        ("list", Command::List { from: 0, count: all }),
        ("list 40", Command::List { from: 40, count: all }),
        ("list 40 2", Command::List { from: 40, count: 2 }),
        ("clear", Command::Clear { force: false }),
        ("clear force", Command::Clear { force: true }),
        ("stats", Command::Stats),
        ("clear_stats", Command::ClearStats),
        ("save", Command::Save),
        ("restore", Command::Restore),
        ("set read_retries 10", set(Key::ReadRetries, 10)),
        ("set recovery_limit_ms 600000", set(Key::RecoveryLimit, 600_000)),
        ("set pending_read retry", set(Key::PendingRead, 1)),
        ("set auto_remap no", set(Key::AutoRemap, 0)),
        ("set latency on", set(Key::Latency, 1)),
        ("get debug_level", Command::Get(Key::DebugLevel)),
        ("health", Command::Later(Later::Health)),
        ("scan 0 100", Command::Later(Later::Scan)),
        ("scan start", Command::Later(Later::Scan)),
        ("migrate /dev/sdx", Command::Later(Later::Migrate)),
        ("spare_add /dev/sdx", Command::Later(Later::SpareAdd)),
        ("spare_remove 1", Command::Later(Later::SpareRemove)),
        ("  ping\t\n", Command::Ping),
    ] {
        assert_eq!(within(text), Ok(want), "{text}");
    }
}

#[test]
fn the_aliases_of_older_scripts_are_understood() {
    let at = SpareAddress::Absolute;
    for (text, want) in [
        ("add_remap 8 9216 100", Command::Add { main: 8, spare: at(9216), sectors: Some(100) }),
        ("remove_remap 8", Command::Unremap { sector: 8 }),
        ("clear_all", Command::Clear { force: false }),
        ("test_remap 8 9216", Command::Remap { sector: 8, to: Some(at(9216)) }),
        ("sync", Command::Save),
        ("metadata_status", Command::Status),
        ("cache_stats", Command::Stats),
        ("spare_stats", Command::Stats),
    ] {
        assert_eq!(within(text), Ok(want), "{text}");
    }
}

#[test]
fn a_refusal_names_the_argument_and_the_legal_range() {
    for (text, words) in [
        ("remap", "SECTOR is missing; the form is: remap SECTOR [SPARE_SECTOR]"),
        ("remap 1000000", "SECTOR must be a number from 0 to 999999"),
        ("remap x", "SECTOR must be a number from 0 to 999999"),
        ("remap 1 -1", "SPARE_SECTOR must be a number from 0 to 17592186044415"),
        ("remap 1 +", "SPARE_SECTOR must be a number"),
        ("remap 1 2 3", "too many words"),
        ("add 1", "SPARE_SECTOR is missing"),
        ("add_remap 1 2", "N is missing; the form is: add_remap M S N"),
        ("add_remap 1 2 0", "N must be a number from 1 to 2048"),
        ("add_remap 999990 2 11", "N must be a number from 1 to 10"),
        ("list 0 0", "COUNT must be a number from 1 to 65536"),
        ("clear all", "the word after clear must be force or left out"),
        ("set", "KEY is missing"),
        ("set speed 9", "KEY must be one of read_retries, retry_backoff_ms"),
        ("set read_retries", "read_retries is missing"),
        ("set read_retries 11", "read_retries must be a number from 0 to 10"),
        ("set recovery_limit_ms 999", "recovery_limit_ms must be a number from 1000 to 600000"),
        ("set recovery_limit_ms 4294968296", "recovery_limit_ms must be a number from 1000"),
        ("set pending_read maybe", "pending_read must be fail or retry"),
        ("set debug_level 3 4", "too many words"),
        ("ping pong", "too many words; the form is: ping"),
        ("format", "no such message; help lists them"),
        ("PING", "no such message; help lists them"),
        ("", "the message is empty"),
        (" \t ", "the message is empty"),
    ] {
        let said = refusal(text);
        assert!(said.contains(words), "{text:?}: {said}");
        assert!(said.ends_with("; nothing was changed"), "{said}");
    }
    assert!(refusal(&"x".repeat(257)).contains("longer than 256 bytes"));
}

#[test]
fn an_empty_volume_has_no_legal_sector_but_zero() {
    assert_eq!(parse_within(b"verify 1", 0).unwrap_err().fault, Fault::Range { low: 0, high: 0 });
    let beyond = format!("verify {MAIN_SECTORS_MAX}");
    assert!(parse_within(beyond.as_bytes(), u64::MAX).is_err());
    assert!(parse(&beyond).is_err());
    assert!(parse(&format!("verify {}", MAIN_SECTORS_MAX - 1)).is_ok());
}

#[test]
fn help_fits_a_reply_and_lists_what_there_is() {
    assert!(HELP.len() + MARKER.len() <= REPLY_MAX_BYTES, "{}", HELP.len());
    for word in [
        "ping",
        "status",
        "list",
        "remap",
        "add",
        "unremap",
        "verify",
        "clear",
        "stats",
        "clear_stats",
        "save",
        "set",
        "get",
    ] {
        assert!(HELP.contains(word), "{word}");
    }
    for key in Key::ALL {
        assert!(HELP.contains(key.name()), "{}", key.name());
    }
    for later in ["health", "scan", "migrate", "spare_add", "spare_remove"] {
        assert!(!HELP.contains(later), "{later}");
        let Ok(Command::Later(word)) = within(later) else { panic!("{later}") };
        let mut buf = [0u8; REPLY_MAX_BYTES];
        let mut out = Text::new(&mut buf);
        word.write(&mut out);
        assert!(out.as_str().starts_with(later) && out.as_str().contains("later"));
    }
}

#[test]
fn what_writes_is_refused_while_suspended() {
    for (text, writes) in [
        ("ping", false),
        ("help", false),
        ("status", false),
        ("list", false),
        ("stats", false),
        ("verify 1", false),
        ("clear_stats", false),
        ("get latency", false),
        ("scan", false),
        ("remap 1", true),
        ("add 1 9217", true),
        ("unremap 1", true),
        ("clear", true),
        ("save", true),
        ("restore", true),
        ("set latency on", true),
        ("add_remap 1 2 3", true),
    ] {
        assert_eq!(within(text).unwrap().writes(), writes, "{text}");
    }
}

/// Splitmix64: a fixed stream for a fixed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Whether every number of an accepted command is legal.
fn legal(command: Command) -> bool {
    let main = |sector| sector < MAIN;
    let spare = |address| match address {
        SpareAddress::Absolute(s) | SpareAddress::FromDataStart(s) => s < SPARE_SECTORS_MAX,
    };
    match command {
        Command::Remap { sector, to } => main(sector) && to.is_none_or(spare),
        Command::Add { main: sector, spare: address, sectors } => {
            let run = sectors.map_or(1, u64::from);
            main(sector) && spare(address) && (1..=2048).contains(&run) && sector + run <= MAIN
        }
        Command::Unremap { sector } | Command::Verify { sector } => main(sector),
        Command::Mark { sector, sectors, .. } => {
            let run = sectors.map_or(1, u64::from);
            main(sector) && (1..=MARK_SECTORS_MAX).contains(&run) && sector + run <= MAIN
        }
        Command::List { from, count } => main(from) && (1..=65_536).contains(&count),
        Command::Set(setting) => Setting::new(setting.key(), setting.value()).is_some(),
        _ => true,
    }
}

/// Words of messages, and what stands near the ends of their ranges.
const WORDS: [&str; 34] = [
    "remap",
    "add",
    "add_remap",
    "unremap",
    "verify",
    "list",
    "mark",
    "pending",
    "gone",
    "clear",
    "force",
    "set",
    "get",
    "read_retries",
    "recovery_limit_ms",
    "pending_read",
    "retry",
    "0",
    "1",
    "+",
    "+8",
    "0x",
    "999999",
    "1000000",
    "0xffffffffffffffff",
    "18446744073709551616",
    "-1",
    "\0",
    "\u{ff}",
    "4294967296",
    "17592186044415",
    "17592186044416",
    "600000",
    "2049",
];

#[test]
fn no_bytes_make_the_parser_panic_or_accept_what_is_illegal() {
    const SEED: u64 = 7;
    eprintln!("seed {SEED}");
    let mut random = Random(SEED);
    let pieces = WORDS.map(str::as_bytes);
    let (mut accepted, mut refused) = (0u32, 0u32);
    for round in 0..200_000 {
        let mut text = Vec::new();
        if round % 4 == 0 {
            for _ in 0..random.below(300) {
                text.push(random.next() as u8);
            }
        } else {
            for _ in 0..random.below(6) {
                text.extend_from_slice(pieces[random.below(pieces.len())]);
                text.extend_from_slice([b" ".as_slice(), b"\t", b"", b"  "][random.below(4)]);
            }
        }
        match parse_within(&text, MAIN) {
            Ok(command) => {
                accepted += 1;
                assert!(legal(command), "{command:?}");
            }
            Err(error) => {
                refused += 1;
                let mut buf = [0u8; REPLY_MAX_BYTES];
                let mut out = Text::new(&mut buf);
                error.write(&mut out);
                assert!(!out.is_cut() && !out.is_empty());
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} {refused}");
}
