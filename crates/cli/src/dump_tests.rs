// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Dumps that were made by hand, most of them wrong.

use super::*;
use serde_json::{Value, json};

fn document() -> Value {
    json!({
        "format_version": { "major": 1, "minor": 0 }, "kind": KIND, "complete": true, "faults": [],
        "name": "v", "uuid": "11111111-1111-4111-8111-111111111111", "state": "clean",
        "created_at": 1, "stamp": { "generation": 3, "sequence": 4 },
        "size_sectors": 1001, "block_size": 512,
        "spare": { "uuid": "22222222-2222-4222-8222-222222222222", "index": 0, "sectors": 12_000,
            "physical_block": 4096, "data_start": 9216, "data_end": 9952, "max_entries": 90,
            "table_pages": 1 },
        "main": { "hint": "/dev/x", "content_at": 0, "fingerprint": "ab".repeat(32),
            "identities": [{ "kind": 4, "flags": 1, "value": "4144" }],
            "contents": [{ "kind": 1, "flags": 0, "place": 8,
                "uuid": "33333333333343338333333333333333" }] },
        "settings": { "read_retries": "5", "of_a_later_version": "x" },
        "quarantined": [{ "spare_unit": 7, "member": 0 }],
        "entries": [
            { "main_unit": 3, "spare_unit": 0, "member": 0, "states": "smmmgmms", "cause": "add",
              "time": 9, "crc": null },
            { "main_unit": 125, "spare_unit": 1, "member": 0, "states": "s", "cause": "remap",
              "time": 9, "crc": 5 },
        ],
        "of_a_later_version": [1, 2],
    })
}

fn read(document: &Value) -> Outcome<Dump> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    Dump::read(file.path())
}

#[test]
fn what_lived_on_a_spare_is_gone_and_the_rest_is_as_it_was() {
    let dump = read(&document()).unwrap();
    let (slots, moved, gone) = dump.slots().unwrap();
    assert_eq!((moved, gone), (3, 1));
    assert!(slots.iter().all(|slot| slot.spare.is_none() && slot.cause == Cause::Restore));
    assert_eq!(slots[0].states.mask(BlockState::Gone), 0b1001_0001);
    assert_eq!(slots[0].states.mask(BlockState::Spare), 0);
    assert_eq!(slots[1].states.mask(BlockState::Gone), 1);
}

#[test]
fn the_header_is_that_of_the_volume() {
    let dump = read(&document()).unwrap();
    let layout = Layout::new(20_000, 512, Some(90)).unwrap();
    let page = dump.header(Uuid([9; 16]), layout).unwrap();
    let header = dmremap_format::Header::of_image(&page);
    assert_eq!((header.name(), header.state()), ("v", State::Restored));
    assert_eq!((header.volume(), header.spare()), (Uuid([0x11; 16]).fixed(), Uuid([9; 16])));
    assert_eq!(header.identity(0).unwrap().value, b"AD");
    assert_eq!(header.content(0).unwrap().place, 8);
    assert_eq!(Settings::from_snapshot(header.settings()).0.read_retries(), 5);
}

trait Fixed {
    fn fixed(self) -> Uuid;
}

impl Fixed for Uuid {
    /// With the version and variant that the document's have.
    fn fixed(mut self) -> Uuid {
        (self.0[6], self.0[8]) = (0x41, 0x81);
        self
    }
}

/// What the command says of the document with the value at `pointer` replaced.
fn fault(pointer: &str, value: Value) -> String {
    let mut document = document();
    *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    let layout = Layout::new(20_000, 512, Some(90)).unwrap();
    let dump = match read(&document) {
        Ok(dump) => dump,
        Err(failure) => return failure.what,
    };
    match dump.slots() {
        Ok(_) => dump.header(Uuid([9; 16]), layout).map_or_else(|fault| fault, |_| "none".into()),
        Err(fault) => fault,
    }
}

#[test]
fn everything_out_of_order_is_named() {
    for (pointer, value, said) in [
        ("/kind", json!("x"), "is no \"dm-remap dump\""),
        ("/format_version/major", json!(2), "format version 2"),
        ("/uuid", json!("1"), "\"uuid\" is no UUID"),
        ("/uuid", json!("0".repeat(32)), "UUID is not legal"),
        ("/name", json!("../x"), "name is not legal"),
        ("/name", json!(7), "invalid type: integer `7`"),
        ("/block_size", json!(513), "block size is not legal"),
        ("/block_size", json!(0), "block size is not legal"),
        ("/size_sectors", json!(0), "main unit out of range"),
        ("/size_sectors", json!(u64::MAX), "entry 1 (main unit 125): 1 states for 8 blocks"),
        ("/size_sectors", json!(-1), "invalid value: integer `-1`"),
        ("/spare/max_entries", json!(1), "2 entries in a table of 1"),
        ("/settings/read_retries", json!("11"), "setting read_retries: \"11\" is not legal"),
        ("/main/fingerprint", json!("ab"), "is no SHA-256"),
        ("/main/identities/0/value", json!("4"), "identity 0: not hexadecimal"),
        ("/main/identities/0/value", json!("ab".repeat(65)), "identities of main is not legal"),
        ("/main/identities", json!(vec![json!({"kind":1,"flags":0,"value":""}); 9]), "not legal"),
        ("/main/contents/0/uuid", json!("zz"), "content 0: no UUID"),
        ("/entries/0/main_unit", json!(126), "entry 0 (main unit 126): main unit out of range"),
        ("/entries/0/main_unit", json!(u64::MAX), "main unit out of range"),
        ("/entries/0/states", json!("ss"), "entry 0 (main unit 3): 2 states for 8 blocks"),
        ("/entries/0/states", json!("smmmgmmx"), "a state is m, s or g"),
        ("/entries/0/states", json!("mmmmmmmm"), "entry that moves nothing"),
        ("/entries/0/spare_unit", json!(null), "without a spare unit"),
        ("/entries/0/spare_unit", json!(92), "spare unit out of range"),
        ("/entries/0/spare_unit", json!(1), "entry 1 (main unit 125): a second entry on this"),
        ("/entries", json!([1]), "line 1 column"),
    ] {
        let found = fault(pointer, value.clone());
        assert!(found.contains(said), "{pointer} = {value}: {found}");
    }
    let mut twice = document();
    twice["entries"][1]["main_unit"] = json!(3);
    twice["entries"][1]["states"] = json!("smmmmmmm");
    let said = read(&twice).unwrap().slots().unwrap_err();
    assert_eq!(said, "entry 1 (main unit 3): a second entry for this unit");
}

#[test]
fn no_prefix_of_a_dump_is_one() {
    let text = document().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    for len in (0..text.len()).step_by(7) {
        std::fs::write(file.path(), &text[..len]).unwrap();
        assert_eq!(Dump::read(file.path()).unwrap_err().class, Class::Missing);
    }
    assert_eq!(Dump::read(Path::new("/no/such/file")).unwrap_err().class, Class::Missing);
}
