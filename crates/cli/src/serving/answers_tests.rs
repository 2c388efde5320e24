// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is answered to a message that is refused: every reason, every fault of a message.

use super::*;
use crate::escape::is_harmless;
use crate::remedy;
use dmremap_core::message::{Fault, ParseError};

const GROUND: Ground = Ground {
    main_sectors: 32_768,
    block_sectors: 8,
    data_start: 9_216,
    data_end: 30_000,
    nearest: [Some(9_232), None],
};

/// Messages that can be refused, each as it is sent.
const LINES: &[&str] = &[
    "remap 16",
    "remap 0x10 +3",
    "test_remap 16 9217",
    "add 16 9217",
    "add_remap 16 9217 8",
    "unremap 16",
    "verify 16",
    "clear",
    "save",
    "clear_stats",
    "set read_retries 3",
];

#[test]
fn every_reason_ends_with_a_command_and_has_a_class() {
    for line in LINES {
        let command = parse_within(line.as_bytes(), GROUND.main_sectors).unwrap();
        for reason in Reason::one_of_each() {
            let code = match reason {
                Reason::OutOfRange => 1,
                Reason::NotRemapped => 4,
                Reason::Busy | Reason::AlreadyRemapped | Reason::TimedOut => 5,
                _ => 6,
            };
            assert_eq!(class(reason).code(), code, "{reason:?}");
            for nearest in [[None, None], [Some(9_232), None], [None, Some(9_240)]] {
                let ground = Ground { nearest, ..GROUND };
                let next = next("v", &command, line, reason, &ground);
                assert!(remedy::is_command(&next), "{line}, {reason:?}: {next}");
                let words = text(|out| write_done(out, &command, &Done::Failed(reason), &ground));
                assert!(is_harmless(&words) && words.starts_with(command.word()), "{words}");
            }
        }
    }
}

#[test]
fn the_command_after_a_refusal_is_the_one_that_would_be_legal() {
    for (line, reason, expected) in [
        ("remap 16 9217", Reason::OtherPlaceInUnit, "dmremap message v remap 16 9232"),
        ("add_remap 16 9217 8", Reason::SpareNotFree, "dmremap message v add_remap 16 9232 8"),
        ("remap 17", Reason::OutOfRange, "dmremap message v remap 16"),
        ("remap 16", Reason::AlreadyRemapped, "dmremap unremap v 16"),
        ("unremap 16", Reason::NotRemapped, "dmremap list v"),
        ("unremap 16", Reason::Gone, "dmremap verify v 16"),
        ("clear", Reason::Gone, "dmremap list v"),
        ("set read_retries 3", Reason::TimedOut, "dmremap message v set read_retries 3"),
        ("remap 16", Reason::NotWritable, "dmremap status v"),
    ] {
        let command = parse_within(line.as_bytes(), GROUND.main_sectors).unwrap();
        assert_eq!(next("v", &command, line, reason, &GROUND), expected);
    }
}

#[test]
fn every_fault_of_a_message_is_one_line() {
    for fault in Fault::one_of_each() {
        let error = ParseError { form: "remap SECTOR", argument: "SECTOR", fault };
        let words = text(|out| error.write(out));
        assert!(is_harmless(&words) && words.contains("SECTOR"), "{words}");
        assert!(words.ends_with("nothing was changed"), "{words}");
    }
}
