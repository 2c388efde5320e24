// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a refusal looks like: one line that names the thing and ends with a command, the exit code,
//! nothing changed in any file.

#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dmremap_format::{
    CopyIndex, Header, HeaderMut, PAGE_BYTES, PageBytes, SECTOR_BYTES, Stamp, header_sector,
};

use crate::common::Bench;

/// The content of every file of the bench, but for the log of a server.
pub fn content(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(bench.path("")).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.metadata().unwrap().is_file());
    let named = files.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let named = named.filter(|(name, _)| name != "log");
    named.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// Waits for what a commit writes behind its answer: the fifth copy.
pub fn settled(bench: &Bench) {
    for _ in 0..600 {
        if bench.json(&["check", "--spare", "spare.img", "--json"])["pages_to_repair"] == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the copies never become equal");
}

/// Runs `args`, which must be refused with `code`; the line it says names all of `things`. Gives
/// back the command behind `try: `.
pub fn refused(bench: &Bench, args: &[&str], code: i32, things: &[&str]) -> String {
    let before = content(bench);
    let out = bench.run(args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    assert!(content(bench) == before, "{args:?}: something was changed");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("dmremap: ")).collect();
    let [line] = lines[..] else { panic!("{args:?}: not one line: {said}") };
    assert!(said.trim_end().ends_with(line), "{args:?}: not the last line: {said}");
    assert!(!line.contains(char::is_control), "{args:?}: {line:?}");
    for thing in things {
        assert!(line.contains(thing), "{args:?} does not name {thing:?}: {line}");
    }
    let (_, next) = line.rsplit_once("; try: ").unwrap_or_else(|| panic!("{args:?}: {line}"));
    next.to_owned()
}

/// Bytes of `file` from `sector` on.
pub fn sectors_of(file: &Path, sector: u64, sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; (sectors * SECTOR_BYTES) as usize];
    fs::File::open(file).unwrap().read_exact_at(&mut bytes, sector * SECTOR_BYTES).unwrap();
    bytes
}

/// Writes `bytes` into `file` at `sector`.
pub fn put(file: &Path, sector: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(bytes, sector * SECTOR_BYTES).unwrap();
}

/// Changes the headers of these copies, each under a stamp of its own generation that is one
/// higher, with the right checksum: what a program that means it would have written.
pub fn edit_headers(spare: &Path, copies: &[u8], change: impl Fn(&mut PageBytes)) {
    for copy in copies.iter().map(|copy| CopyIndex(*copy)) {
        let bytes = sectors_of(spare, header_sector(copy), PAGE_BYTES as u64 / SECTOR_BYTES);
        let mut page: PageBytes = bytes.try_into().unwrap();
        let Stamp { generation, sequence } = Header::check(&page, copy).unwrap().stamp();
        change(&mut page);
        HeaderMut::edit(&mut page).seal(copy, Stamp { generation, sequence: sequence + 1 });
        put(spare, header_sector(copy), &page);
    }
}
