// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a person is shown of every error there is: one line that names the thing, its exit code, a
//! command that parses. That no variant is forgotten is seen to by the lists of the enums' own
//! crates (`one_of_each`), which do not compile without it.

use std::fmt::Debug;

use super::*;
use crate::escape::is_harmless;

use dmremap_core::commit::PageId;
use dmremap_core::create::{CreateFault, CreateKind};
use dmremap_core::machine::LoadFault;
use dmremap_core::open::{CopySeen, Refused};
use dmremap_format::identity::Judgement;
use dmremap_format::{Field, LayoutError, PageFault, Refusal, SlotFault, SlotIndex, State};

#[test]
fn the_advice_ends_the_line() {
    let failure = Failure::new(Class::Missing, "no such spare").with_next("dmremap examine X");
    assert_eq!(failure.to_string(), "no such spare; try: dmremap examine X");
    assert_eq!(failure.class.code(), 4);
}

#[test]
fn errno_decides_the_class() {
    for (errno, class) in [(13, 2), (2, 4), (17, 5), (16, 5), (98, 5), (5, 3)] {
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(Failure::io("open", "x", &error).class.code(), class, "errno {errno}");
    }
}

#[test]
fn words_name_their_class() {
    for class in [Class::Usage, Class::Permission, Class::Internal, Class::Missing] {
        assert_eq!(Class::from_word(class.word()), class);
    }
    assert_eq!(Class::from_word("?"), Class::Internal);
}

/// The name of the variant `value` is.
fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// The row of `table` for the variant.
fn row<'a, T>(table: &'a [(&str, T)], value: &impl Debug) -> &'a T {
    let name = variant(value);
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, row)| row).unwrap_or_else(|| panic!("{name} has no row"))
}

/// One line, harmless, that names `thing` and ends with a command; its exit code is `code`.
fn check(failure: &Failure, code: u8, thing: &str) {
    assert_eq!(failure.class.code(), code, "{failure:?}");
    let line = remedy::line(failure);
    let (what, next) = line.rsplit_once("; try: ").unwrap_or_else(|| panic!("{line}"));
    assert!(is_harmless(&line), "{line}");
    assert!(what.contains(thing), "{what} does not name {thing}");
    assert!(what.len() >= 12, "{what}: why?");
    assert!(remedy::is_command(next), "{next}");
    for debug in ["{ ", " }", "Some(", "Io("] {
        assert!(!what.contains(debug), "{what} is not for people");
    }
}

#[test]
fn every_device_error_is_told() {
    let table = [
        ("Spec", 1),
        ("Missing", 4),
        ("NotADevice", 4),
        ("Permission", 2),
        ("Busy", 5),
        ("Buffered", 6),
        ("BlockSize", 1),
        ("Empty", 4),
        ("Wrapper", 1),
        ("System", 4),
    ];
    for error in DeviceError::one_of_each() {
        let code = *row(&table, &error);
        check(&error.into(), code, "/dev/spare");
    }
}

#[test]
fn every_volume_error_is_told() {
    let table = [
        ("SameDevice", (4, "/dev/spare")),
        ("BlockSize", (6, "/dev/spare")),
        ("PartitionTable", (6, "/dev/main")),
        ("Layout", (4, "/dev/spare")),
        ("Occupied", (6, "ext4")),
        ("OldVolume", (6, "/dev/spare")),
        ("Unreadable", (4, "/dev/spare")),
        ("Field", (1, "name")),
        ("Format", (4, "/dev/spare")),
        ("Metadata", (4, "/dev/spare")),
        ("Table", (4, "table page 1 slot 4")),
        ("Size", (4, "/dev/spare")),
        ("NotServed", (6, "joining")),
        ("OtherHost", (6, "a7a7a7a7-a7a7-")),
        ("Main", (6, "/dev/main")),
        ("Unmarked", (6, "mark gone 8")),
        ("ReadOnlyDevice", (6, "/dev/spare")),
        ("System", (3, "random")),
    ];
    for error in VolumeError::one_of_each() {
        let (code, thing) = *row(&table, &error);
        check(&error.into(), code, thing);
    }
}

#[test]
fn every_refusal_of_metadata_names_page_and_copies() {
    let told = |refused: Refused, thing: &str| {
        let refused = Box::new(refused);
        check(&VolumeError::Metadata { spare: "/dev/s".into(), refused }.into(), 4, thing);
    };
    for refused in Refused::one_of_each() {
        let thing = match refused {
            Refused::Copies { page, .. } => format!("/dev/s: {page}: "),
            _ => "/dev/s: ".to_owned(),
        };
        told(refused, &thing);
    }
    let copies = |reason, seen| Refused::Copies { page: PageId::Header, reason, seen };
    for reason in Refusal::one_of_each() {
        told(copies(reason, [CopySeen::Unread; 5]), &reason.to_string());
    }
    for fault in PageFault::one_of_each() {
        let reason = Refusal::one_of_each().into_iter().next().unwrap();
        let mut seen = [CopySeen::Unread; 5];
        seen[3] = CopySeen::Invalid(fault);
        told(copies(reason, seen), &format!("copy 3: {fault}"));
    }
}

#[test]
fn every_fault_of_a_table_names_the_slot() {
    let told = |fault| {
        let spare = "/dev/s".to_owned();
        check(&VolumeError::Table { spare, fault }.into(), 4, "/dev/s: table page 1 slot 4: ");
    };
    LoadFault::one_of_each().into_iter().for_each(told);
    let slot = SlotIndex(130);
    SlotFault::one_of_each().into_iter().for_each(|fault| told(LoadFault::Slot { slot, fault }));
}

#[test]
fn every_step_of_a_format_that_failed_is_told() {
    for step in CreateKind::one_of_each() {
        for fault in CreateFault::one_of_each() {
            let spare = "/dev/s".to_owned();
            let thing = format!("/dev/s: format failed {step}: {fault}");
            check(&VolumeError::Format { spare, step, fault }.into(), 4, &thing);
        }
    }
}

#[test]
fn every_reason_inside_a_volume_error_is_told() {
    let (main, spare) = (|| "/dev/m".to_owned(), || "/dev/s".to_owned());
    for error in LayoutError::one_of_each() {
        check(&VolumeError::Layout { spare: spare(), error }.into(), 4, "/dev/s: ");
    }
    for field in Field::one_of_each() {
        check(&VolumeError::Field(field).into(), 1, &field.to_string());
    }
    for state in State::one_of_each() {
        let thing = format!("/dev/s: is not served: its header says {}", state.word());
        check(&VolumeError::NotServed { spare: spare(), state }.into(), 6, &thing);
    }
    for judgement in Judgement::one_of_each() {
        let (was, is) = ("8 sectors".to_owned(), "9 sectors".to_owned());
        let thing = format!("/dev/m: {}; main was 8 sectors; this is 9 ", judgement.words());
        check(&VolumeError::Main { main: main(), was, is, judgement }.into(), 6, &thing);
    }
}

#[test]
fn every_error_of_the_listener_is_told() {
    let table = [
        ("InUse", (&[5][..], "/run/socket")),
        ("NotASocket", (&[6], "/run/socket")),
        ("PathTooLong", (&[1], "/run/socket")),
        ("Remote", (&[6], "0.0.0.0:10809")),
        ("Inherited", (&[1], "sd_listen_fds")),
        ("Stopping", (&[3], "server")),
        ("System", (&[1, 2, 3, 4, 5], "/run/socket")),
    ];
    let mut codes = Vec::new();
    for error in dmremap_nbd::Error::one_of_each() {
        let (legal, thing) = *row(&table, &error);
        let failure = Failure::from(error);
        assert!(legal.contains(&failure.class.code()), "{failure:?}");
        check(&failure, failure.class.code(), thing);
        codes.push(failure.class.code());
    }
    assert!([1, 2, 3, 4, 5, 6].iter().all(|code| codes.contains(code)), "{codes:?}");
}
