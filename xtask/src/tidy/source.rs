// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Rules about the text of single files.

use super::{Complaints, File, Tree, complain};
use crate::lex;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const COLUMNS: usize = 100;

/// The licence every file names.
const LICENCE: &str = "SPDX-License-Identifier: GPL-2.0-only OR MIT";

/// The crates in which nothing may panic.
const PANIC_FREE: &[&str] = &["crates/format/src/", "crates/core/src/"];

/// The crates that talk to the kernel themselves.
const UNSAFE_ALLOWED: &[&str] = &["crates/engine/src/", "crates/nbd/src/"];

fn rust(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.files.iter().filter(|file| file.is_rust())
}

fn lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Files, functions and lines fit their sizes.
pub fn sizes(tree: &Tree) -> Complaints {
    let mut found = Complaints::new();
    for file in rust(tree) {
        let count = file.text.lines().count();
        if count > FILE_LINES {
            found.push(complain(file, 1, format!("{count} lines, more than {FILE_LINES}")));
        }
        for (number, line) in lines(file).filter(|(_, line)| line.chars().count() > COLUMNS) {
            let width = line.chars().count();
            found.push(complain(file, number, format!("{width} columns, more than {COLUMNS}")));
        }
        for function in lex::functions(&lex::code_only(&file.text)) {
            if function.lines > FUNCTION_LINES {
                let what = format!("{} has {} lines", function.name, function.lines);
                found.push(complain(
                    file,
                    function.line,
                    format!("{what}, more than {FUNCTION_LINES}"),
                ));
            }
        }
    }
    found
}

/// Source, manifests, scripts and documents name their licence at the top.
pub fn licence_line(tree: &Tree) -> Complaints {
    let needs = |file: &&File| {
        [".rs", ".toml", ".sh", ".md", ".c", ".h"].iter().any(|end| file.path.ends_with(end))
            || file.text.starts_with("#!")
    };
    let named = |file: &File| file.text.lines().take(2).any(|line| line.contains(LICENCE));
    let files = tree.files.iter().filter(needs).filter(|file| !named(file));
    files.map(|file| complain(file, 1, format!("no line \"{LICENCE}\" at the top"))).collect()
}

/// No note that something is still to be done, no stub. The words are put together here so that
/// this file does not complain about itself.
pub fn nothing_left_open(tree: &Tree) -> Complaints {
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let stubs = [concat!("to", "do!"), concat!("unimpl", "emented!")];
    let mut found = Complaints::new();
    for file in &tree.files {
        if !(file.is_rust() || [".toml", ".sh", ".md"].iter().any(|end| file.path.ends_with(end))) {
            continue;
        }
        for note in notes {
            for at in lex::words(&file.text, note) {
                found.push(complain(
                    file,
                    lex::line_of(&file.text, at),
                    format!("left open: {note}"),
                ));
            }
        }
    }
    for file in rust(tree) {
        let code = lex::code_only(&file.text);
        for stub in stubs {
            for (at, _) in code.match_indices(stub) {
                found.push(complain(file, lex::line_of(&code, at), format!("a stub: {stub}")));
            }
        }
    }
    found
}

/// No test is switched off.
pub fn no_ignored_test(tree: &Tree) -> Complaints {
    let mut found = Complaints::new();
    for file in rust(tree) {
        let code = lex::code_only(&file.text);
        for (at, _) in code.match_indices("#[ignore") {
            found.push(complain(file, lex::line_of(&code, at), "an ignored test"));
        }
    }
    found
}

/// The logic and the format have no word that panics, outside tests.
pub fn no_panic_in_core(tree: &Tree) -> Complaints {
    const WORDS: &[&str] = &[".unwrap()", ".expect(", ".unwrap_err()", "panic!(", "unreachable!("];
    let mut found = Complaints::new();
    for file in rust(tree) {
        if file.is_test() || !PANIC_FREE.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        let code = lex::without_tests(&lex::code_only(&file.text));
        for word in WORDS {
            for (at, _) in code.match_indices(word) {
                found.push(complain(file, lex::line_of(&code, at), format!("can panic: {word}")));
            }
        }
    }
    found
}

/// `unsafe` stands only in the crates that do I/O, each block with its proof.
pub fn unsafe_where_allowed(tree: &Tree) -> Complaints {
    let mut found = Complaints::new();
    for file in rust(tree) {
        let code = lex::code_only(&file.text);
        for at in lex::words(&code, "unsafe") {
            let line = lex::line_of(&code, at);
            if !UNSAFE_ALLOWED.iter().any(|folder| file.path.starts_with(folder)) {
                found.push(complain(file, line, "unsafe outside the crates that do I/O"));
            } else if !explained(&file.text, line) {
                found.push(complain(file, line, "unsafe without a SAFETY: line above it"));
            }
        }
    }
    found
}

/// Whether the comment lines straight above `line` (counted from 1), or the line itself, say why.
fn explained(text: &str, line: usize) -> bool {
    let above: Vec<&str> = text.lines().take(line).collect();
    above
        .iter()
        .rev()
        .enumerate()
        .take_while(|(distance, text)| *distance < 2 || text.trim_start().starts_with("//"))
        // The proof of a block, or what an unsafe function asks of its caller.
        .any(|(_, text)| text.contains("SAFETY:") || text.trim() == "/// # Safety")
}

/// No folder of the machine it was written on.
pub fn no_machine_path(tree: &Tree) -> Complaints {
    let folders = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
    ];
    let mut found = Complaints::new();
    for file in &tree.files {
        for (number, line) in lines(file) {
            // In an address or after a variable such a folder is part of something else.
            let own = |folder: &str| {
                line.match_indices(folder).any(|(at, _)| {
                    line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '}')
                })
            };
            if folders.iter().any(|folder| own(folder)) {
                found.push(complain(file, number, "a path of one machine"));
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
