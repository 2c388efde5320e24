// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: `docs/FORMAT.md` says of every field, number and word what the code says,
//! and leaves none out.

use dmremap_format::at::{self, Span};
use dmremap_format::identity::Hardware;
use dmremap_format::{
    COPY_LEN_SECTORS, COPY_SECTORS, Cause, DEFAULT_MAX_ENTRIES, IdentityRow, MAGIC, MAX_ENTRIES,
    MAX_FORCED_PHYSICAL_BLOCK_BYTES, MAX_PHYSICAL_BLOCK_BYTES, MIN_DATA_START, MIN_SPARE_SECTORS,
    NEAR_PAGES, PageKind, SLOT_EPOCH, SLOTS_PER_PAGE, State, TAIL_SECTORS, Uuid,
};

const FORMAT: &str = include_str!("../../../docs/FORMAT.md");

/// The cells of a table's lines, the two lines of its head left out.
fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// The first table behind a line.
fn table_after(line: &str) -> Vec<Vec<&'static str>> {
    let mut lines = FORMAT.lines().skip_while(move |l| *l != line);
    assert_eq!(lines.next(), Some(line), "{line:?} is missing");
    rows(lines.skip_while(|line| !line.starts_with('|')))
}

/// The table whose head is `head`.
fn table_headed(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = FORMAT.lines().skip_while(|line| *line != head).peekable();
    assert!(lines.peek().is_some(), "{head:?} is missing");
    rows(lines)
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

#[test]
fn every_field_lies_where_the_document_says() {
    let chains: [(&str, &[(&str, Span)]); 10] = [
        ("## Table page", at::table::ALL),
        ("## Slot", at::slot::ALL),
        ("## Generation page", at::generation::ALL),
        ("## Header page", at::header::ALL),
        ("### Member", at::member::ALL),
        ("### Identity", at::identity::ALL),
        ("### Content", at::content::ALL),
        ("### Health", at::health::ALL),
        ("### Place", at::place::ALL),
        ("### Extension", at::extension::ALL),
    ];
    for (heading, chain) in chains {
        let told: Vec<_> = table_after(heading)
            .into_iter()
            .map(|row| (row[2].to_uppercase(), number(row[0]), number(row[1])))
            .collect();
        let is: Vec<_> = chain
            .iter()
            .map(|(name, span)| (name.to_string(), span.at as u64, span.len as u64))
            .collect();
        assert_eq!(told, is, "{heading}");
    }
}

#[test]
fn what_all_pages_share_is_shared() {
    let shared = table_after("## What all pages share");
    let spans = |name: &str| {
        let find = |chain: &[(&str, Span)]| chain.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
        [find(at::header::ALL), find(at::generation::ALL), find(at::table::ALL)]
    };
    let names = ["MAGIC", "COPY", "KIND", "GENERATION", "SEQUENCE", "CHECKSUM"];
    assert_eq!(shared.len(), names.len());
    for (row, name) in shared.iter().zip(names) {
        let told = Span { at: number(row[0]) as usize, len: number(row[1]) as usize };
        for (kind, span) in spans(name).into_iter().enumerate() {
            // A generation page has nothing for the sequence.
            let none = name == "SEQUENCE" && kind == 1;
            assert_eq!(span, (!none).then_some(told), "{name}");
        }
    }
    assert!(shared[0][2].contains(&format!("{MAGIC:#X}").replace("0X", "0x")));
    let kinds = [PageKind::Header, PageKind::Generation, PageKind::Table];
    let told = format!(
        "kind: {} header, {} generation page, {} table page",
        kinds[0] as u8, kinds[1] as u8, kinds[2] as u8
    );
    assert_eq!(shared[2][2], told);
    let salts = table_headed("| kind | salt |");
    assert_eq!(salts.len(), 3);
    for (row, kind) in salts.iter().zip(kinds) {
        assert_eq!(row[0], format!("{kind:?}").to_lowercase());
        assert_eq!(number(row[1]), u64::from(kind.salt()));
    }
}

#[test]
fn numbers_are_the_documents() {
    let copies = COPY_SECTORS.map(|sector| sector.to_string()).join(", ");
    let table = table_headed("| what | value |");
    assert_eq!(table[0][1], copies);
    let told: Vec<_> = table[1..].iter().map(|row| number(row[1])).collect();
    let is = [
        COPY_LEN_SECTORS,
        u64::from(NEAR_PAGES),
        u64::from(SLOTS_PER_PAGE),
        MIN_DATA_START,
        TAIL_SECTORS,
        MIN_SPARE_SECTORS,
        u64::from(DEFAULT_MAX_ENTRIES),
        u64::from(MAX_ENTRIES),
        u64::from(MAX_PHYSICAL_BLOCK_BYTES),
        u64::from(MAX_FORCED_PHYSICAL_BLOCK_BYTES),
    ];
    assert_eq!(told, is);
    // 2020-01-01 in days from 1970: fifty years with twelve leap days.
    assert_eq!(SLOT_EPOCH, (50 * 365 + 12) * 86_400);
}

#[test]
fn words_are_the_documents() {
    let causes = table_headed("| cause | meaning |");
    for (row, byte) in causes.iter().zip(0u8..) {
        assert_eq!(number(row[0]), u64::from(byte));
        assert_eq!(row[1], Cause::from_byte(byte).word());
    }
    let next = causes.len() as u8;
    assert_eq!(Cause::from_byte(next), Cause::Other(next), "a cause is not in the document");
    let states = [
        State::Clean,
        State::Dirty,
        State::Joining,
        State::MovedTo(Uuid([1; 16])),
        State::Removed,
        State::Released,
        State::Restored,
    ];
    let told = table_headed("| state | meaning |");
    assert_eq!(told.len(), states.len());
    for (row, state) in told.iter().zip(states) {
        assert_eq!((number(row[0]), row[1]), (u64::from(state_byte(state)), state.word()));
    }
}

/// The byte a state has in a page.
fn state_byte(state: State) -> u8 {
    let mut bytes = Box::new([0; 4096]);
    let layout = dmremap_format::Layout::new(131_072, 512, None).unwrap();
    let (volume, spare) = (Uuid([1; 16]), Uuid([2; 16]));
    let new =
        dmremap_format::NewHeader { volume, spare, layout, main_sectors: 8, block_bytes: 512 };
    let mut header = dmremap_format::HeaderMut::blank(&mut bytes, &new).unwrap();
    header.set_state(state).unwrap();
    bytes[at::header::STATE.at]
}

#[test]
fn identity_kinds_are_the_documents() {
    let told = table_headed("| identity kind | of |");
    let known = |kind: u8| {
        let row = IdentityRow { kind, flags: 0, value: b"x" };
        Hardware::from_row(&row).is_some()
    };
    let kinds: Vec<_> = (0..=u8::MAX).filter(|kind| known(*kind)).map(u64::from).collect();
    assert_eq!(told.iter().map(|row| number(row[0])).collect::<Vec<_>>(), kinds);
}
