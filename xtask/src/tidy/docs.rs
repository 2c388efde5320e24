// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Rules about the documents: links lead somewhere, and a test they name exists.

use std::collections::BTreeSet;

use super::{Complaints, File, Tree, complain};
use crate::lex;

/// The document that says which test shows which line of the design.
const TESTING: &str = "docs/TESTING.md";

/// Every relative link of a document names a file or folder of the tree.
pub fn links_lead_somewhere(tree: &Tree) -> Complaints {
    let mut found = Complaints::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (at, _) in file.text.match_indices("](") {
            let target = file.text[at + 2..].split(')').next().unwrap_or("");
            let path = target.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let wanted = resolve(folder, path);
            let inside = format!("{wanted}/");
            if !tree.paths.iter().any(|p| *p == wanted || p.starts_with(&inside)) {
                let line = lex::line_of(&file.text, at);
                found.push(complain(file, line, format!("the link to {path} leads nowhere")));
            }
        }
    }
    found
}

fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Every line of the design has a row in `docs/TESTING.md`; every row whose first cell is a line of
/// the design (`9.1`, `10.37`) names at least one test in backticks, or says `later` and why; and
/// every test it names exists.
pub fn named_tests_exist(tree: &Tree) -> Complaints {
    let Some(file) = tree.get(TESTING) else { return Complaints::new() };
    let tests = all_tests(tree);
    let mut found = Complaints::new();
    for missing in design_lines().filter(|name| !file.text.contains(&format!("\n| {name} |"))) {
        found.push(complain(file, 1, format!("line {missing} of the design is not in the table")));
    }
    for (number, cells) in rows(file) {
        if cells.first().is_some_and(|cell| is_design_line(cell)) {
            found.extend(names_tests(file, number, &cells, &["later: "], &tests));
        }
    }
    found
}

/// The tests that the history of the project names, each in a row of `docs/TESTING.md`.
const HISTORY: &str = "complete_remap_verification final_remap_verification \
    data_integrity_verification_test explicit_remap_verification_test actual_remap_test \
    sector_zero_test specific_sector_test simple_io_test minimal_dm_test debug_io_forwarding \
    debug_data_integrity corrected_remap_verification auto_remap_intelligence_test \
    enhanced_dm_flakey_test bio_endio_error_validation_test bio_error_status_test \
    advanced_error_injection_test direct_io_error_test bio_size_analysis_test \
    intelligence_test_v2 performance_optimization_test micro_performance_test \
    simple_performance_test performance_test_v1 stress_test_v1 enhanced_stats_test v2_sysfs_test \
    production_hardening_test memory_leak_test_v1 integration_test_suite complete_test_suite_v1 \
    complete_test_suite_v2 remap_create_safe remap_test_driver run_dm_remap_tests \
    metadata_upgrade_test discovery_reassembly_test health_scanning_test performance_impact_test \
    integration_compatibility_test quick_production_validation production_validation_suite \
    weeks_7_8_integration_test";

/// Every test of the history has a row, by itself or with others; the row names the tests here that
/// cover what it was for, or what they wait for: the kernel module, a later part, the benchmark.
pub fn history_is_covered(tree: &Tree) -> Complaints {
    let later = &["kernel: later", "later: ", "bench: "];
    covered(tree, HISTORY.split_whitespace(), later, "of the history")
}

/// What no bad input may get through, each in a row of `docs/TESTING.md`.
const BAD_INPUT: &str = "\
    spare too small; spare = main; device in use; spare of another volume; foreign \
    signature; open on another host; spare moved away or removed; spare truncated; main \
    replaced; main grown or shrunk; main claimed; main formatted through the volume; copied \
    image as main; copies destroyed; copies stale; copies swapped; unknown feature; mapfile; \
    file that changes under import; old table of something else; sector of main; misaligned \
    sector; spare sector; spare full; two servers; socket path; NBD requests; garbage; \
    buffered backing file; names on a device; local configuration; command line; yes; every \
    error; parsers";

/// Every kind of bad input has a row, which names the tests that try it.
pub fn bad_input_is_covered(tree: &Tree) -> Complaints {
    covered(tree, BAD_INPUT.split("; "), &[], "of bad input")
}

/// Every one of `names` stands in the first cell of a row, by itself or with others.
fn covered<'a>(
    tree: &Tree,
    names: impl Iterator<Item = &'a str>,
    later: &[&str],
    of: &str,
) -> Complaints {
    let Some(file) = tree.get(TESTING) else { return Complaints::new() };
    let tests = all_tests(tree);
    let mut found = Complaints::new();
    let mut missing: BTreeSet<&str> = names.collect();
    for (number, cells) in rows(file) {
        let first = cells.first().map_or("", |cell| *cell).split(", ");
        // All of the row's, not only the first that is known.
        if first.filter(|name| missing.remove(name)).count() > 0 {
            found.extend(names_tests(file, number, &cells, later, &tests));
        }
    }
    found.extend(missing.into_iter().map(|n| complain(file, 1, format!("{n} {of} has no row"))));
    found
}

/// Rows of tables: the line's number and its cells.
fn rows(file: &File) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let tables = file.text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    tables.map(|(index, line)| {
        (index + 1, line.trim().trim_matches('|').split('|').map(str::trim).collect())
    })
}

/// The last cell of a row names tests that exist, or begins with one of `later`.
fn names_tests(
    file: &File,
    line: usize,
    cells: &[&str],
    later: &[&str],
    tests: &BTreeSet<String>,
) -> Complaints {
    let mut found = Complaints::new();
    let last = cells.last().copied().unwrap_or("");
    let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
    if names.is_empty() && !later.iter().any(|word| last.starts_with(word)) {
        found.push(complain(file, line, format!("{} names no test", cells[0])));
    }
    for name in names {
        let function = name.rsplit("::").next().unwrap_or(name);
        if !tests.contains(function) {
            found.push(complain(file, line, format!("there is no test {name}")));
        }
    }
    found
}

/// The lines of the design: 9.1 to 9.17 and 10.1 to 10.37.
fn design_lines() -> impl Iterator<Item = String> {
    (1..=17).map(|n| format!("9.{n}")).chain((1..=37).map(|n| format!("10.{n}")))
}

fn is_design_line(cell: &str) -> bool {
    cell.split_once('.').is_some_and(|(section, line)| {
        matches!(section, "1" | "9" | "10")
            && !line.is_empty()
            && line.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Names of all functions marked `#[test]`.
fn all_tests(tree: &Tree) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        let code = lex::code_only(&file.text);
        for (at, mark) in code.match_indices("#[test]") {
            let after = &code[at + mark.len()..];
            if let Some(function) = lex::functions(after).into_iter().next() {
                names.insert(function.name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_link_to_nothing() {
        let tree = Tree::of(&[
            (
                "docs/A.md",
                "[b](B.md) [up](../README.md#x) [web](https://x.org) [bad](C.md) [f](../docs)",
            ),
            ("docs/B.md", ""),
            ("README.md", ""),
        ]);
        assert_eq!(links_lead_somewhere(&tree), ["docs/A.md:1: the link to C.md leads nowhere"]);
    }

    #[test]
    fn finds_a_named_test_that_is_not_there() {
        let mut rows: String = design_lines().map(|n| format!("\n| {n} | x | `here` |")).collect();
        for (from, to) in [
            ("| 9.1 | x | `here` |", "| 9.1 | x | `sim::here` |"),
            ("| 9.2 | x | `here` |", "| 9.2 | x | `gone` |"),
            ("| 10.3 | x | `here` |", "| 10.3 | x | |"),
            ("| 10.4 | x | `here` |", "| 10.4 | x | later: with the scan |"),
            ("| 10.37 | x | `here` |", ""),
        ] {
            rows = rows.replace(from, to);
        }
        let source = "#[test]\nfn here() {}\n// #[test]\nfn gone() {}\n";
        let found = named_tests_exist(&Tree::of(&[(TESTING, &rows), ("a.rs", source)]));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("line 10.37 of the design is not in the table"));
        assert!(found[1].ends_with("there is no test gone"));
        assert!(found[2].ends_with("10.3 names no test"));
    }

    #[test]
    fn finds_a_test_of_the_history_without_a_row() {
        let mut rows: String =
            HISTORY.split_whitespace().map(|name| format!("| {name} | x | `here` |\n")).collect();
        for (from, to) in [
            ("| sector_zero_test | x | `here` |\n", ""),
            ("| simple_io_test | x | `here` |", "| simple_io_test | x | `gone` |"),
            ("| minimal_dm_test | x | `here` |", "| minimal_dm_test | x | |"),
            ("| v2_sysfs_test | x | `here` |\n", ""),
            ("| enhanced_stats_test |", "| enhanced_stats_test, v2_sysfs_test |"),
            ("| stress_test_v1 | x | `here` |", "| stress_test_v1 | x | kernel: later |"),
        ] {
            assert!(rows.contains(from));
            rows = rows.replace(from, to);
        }
        let tree = Tree::of(&[(TESTING, &rows), ("a.rs", "#[test]\nfn here() {}\n")]);
        let found = history_is_covered(&tree);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("there is no test gone"));
        assert!(found[1].ends_with("minimal_dm_test names no test"));
        assert!(found[2].ends_with("sector_zero_test of the history has no row"));
    }

    #[test]
    fn finds_bad_input_without_a_row() {
        let rows: String =
            BAD_INPUT.split("; ").map(|name| format!("| {name} | x | `here` |\n")).collect();
        let rows = rows.replace("| spare full | x | `here` |\n", "");
        let rows = rows.replace("| mapfile | x | `here` |", "| mapfile | x | later: one day |");
        let tree = Tree::of(&[(TESTING, &rows), ("a.rs", "#[test]\nfn here() {}\n")]);
        let found = bad_input_is_covered(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("mapfile names no test"));
        assert!(found[1].ends_with("spare full of bad input has no row"));
    }
}
