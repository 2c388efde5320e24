// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each rule about source, shown on a planted example and on one that is right.

use super::*;

fn one(rule: fn(&Tree) -> Complaints, path: &str, text: &str) -> Complaints {
    rule(&Tree::of(&[(path, text)]))
}

#[test]
fn finds_a_long_file() {
    let text = "//\n".repeat(500);
    assert!(one(sizes, "a.rs", &text).is_empty());
    assert_eq!(one(sizes, "a.rs", &(text + "//\n")), ["a.rs:1: 501 lines, more than 500"]);
}

#[test]
fn finds_a_long_function() {
    let body = |lines: usize| format!("\nfn f() {{\n{}}}\n", "x();\n".repeat(lines));
    assert!(one(sizes, "a.rs", &body(68)).is_empty());
    assert_eq!(one(sizes, "a.rs", &body(69)), ["a.rs:2: f has 71 lines, more than 70"]);
}

#[test]
fn finds_a_long_line() {
    let line = "x".repeat(100);
    assert!(one(sizes, "a.rs", &line).is_empty());
    assert_eq!(one(sizes, "a.rs", &(line + "x")), ["a.rs:1: 101 columns, more than 100"]);
}

#[test]
fn finds_a_missing_licence() {
    assert_eq!(one(licence_line, "a.rs", "fn f() {}\n").len(), 1);
    assert_eq!(one(licence_line, "run", "#!/bin/sh\ntrue\n").len(), 1);
    assert!(one(licence_line, "run", &format!("#!/bin/sh\n# {LICENCE}\n")).is_empty());
    assert!(one(licence_line, "Cargo.lock", "version = 4\n").is_empty());
}

#[test]
fn finds_what_was_left_open() {
    let note = format!("// {}: more\n", concat!("TO", "DO"));
    assert_eq!(one(nothing_left_open, "a.rs", &note).len(), 1);
    assert_eq!(one(nothing_left_open, "a.md", &note).len(), 1);
    let stub = format!("fn f() {{ {}() }}\n", concat!("to", "do!"));
    assert_eq!(one(nothing_left_open, "a.rs", &stub).len(), 1);
    assert!(one(nothing_left_open, "a.rs", "// a method, MYTODOS\n").is_empty());
}

#[test]
fn finds_an_ignored_test() {
    assert_eq!(one(no_ignored_test, "a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n").len(), 1);
    assert!(one(no_ignored_test, "a.rs", "// #[ignore]\n").is_empty());
}

#[test]
fn finds_a_panic_in_core_but_not_in_its_tests() {
    let text = "fn f() { x.unwrap(); }\n#[cfg(test)]\nmod tests { fn g() { x.unwrap(); } }\n";
    let found = one(no_panic_in_core, "crates/core/src/a.rs", text);
    assert_eq!(found, ["crates/core/src/a.rs:1: can panic: .unwrap()"]);
    assert!(one(no_panic_in_core, "crates/cli/src/a.rs", text).is_empty());
    assert!(one(no_panic_in_core, "crates/core/src/a_tests.rs", text).is_empty());
}

#[test]
fn finds_unsafe_in_the_wrong_place_and_without_proof() {
    let bare = "fn f() {\n\n    unsafe { g() }\n}\n";
    let proven =
        "fn f() {\n    // SAFETY: g asks for nothing,\n    // and more.\n    unsafe { g() }\n}\n";
    assert_eq!(one(unsafe_where_allowed, "crates/cli/src/a.rs", proven).len(), 1);
    assert_eq!(one(unsafe_where_allowed, "crates/engine/src/a.rs", bare).len(), 1);
    assert!(one(unsafe_where_allowed, "crates/engine/src/a.rs", proven).is_empty());
    let asking = "/// # Safety\n/// Only once.\nunsafe fn f() {}\n";
    assert!(one(unsafe_where_allowed, "crates/engine/src/a.rs", asking).is_empty());
    assert!(
        one(unsafe_where_allowed, "crates/core/src/a.rs", "#![forbid(unsafe_code)]").is_empty()
    );
}

#[test]
fn finds_a_path_of_one_machine() {
    let path = concat!("/wo", "rk/project");
    assert_eq!(one(no_machine_path, "a.md", path).len(), 1);
    assert_eq!(one(no_machine_path, "a.md", concat!("see `/ho", "me/me/x`")).len(), 1);
    assert!(
        one(no_machine_path, "a.md", concat!("https://example.org/net", "wo", "rk/x")).is_empty()
    );
}
