// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rule that every source file is reached: from the roots that cargo knows (`lib.rs`,
//! `main.rs`, `src/bin`, `tests`, `benches`, `examples`, `build.rs`) along `mod name;`,
//! `#[path = "..."]` and `include!("...")`.

use std::collections::BTreeSet;

use super::{Complaints, Tree, complain};
use crate::lex;

/// Every `.rs` file belongs to a crate.
pub fn no_dead_module(tree: &Tree) -> Complaints {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = tree.paths.iter().filter(|path| is_root(path)).cloned().collect();
    while let Some(path) = open.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        if let Some(file) = tree.get(&path) {
            open.extend(children(&path, &file.text, is_root(&path)));
        }
    }
    let dead = tree.files.iter().filter(|f| f.is_rust() && !reached.contains(&f.path));
    dead.map(|file| complain(file, 1, "no module declares this file")).collect()
}

/// Whether cargo takes this file for the root of a crate.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "build.rs"] => true,
        [.., "src", "bin", name] | [.., "src", "bin", name, "main.rs"] => !name.starts_with('.'),
        [.., "tests" | "benches" | "examples", name] => name.ends_with(".rs"),
        [.., "tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => false,
    }
}

/// The files the modules of `text` may lie in.
fn children(path: &str, text: &str, root: bool) -> Vec<String> {
    let code = lex::code_only(text);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    let own = if root || stem == "mod" { folder.to_owned() } else { join(folder, stem) };
    let mut found = Vec::new();
    for at in lex::words(&code, "mod") {
        let rest = code[at + 3..].trim_start();
        let name: String = rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
        if !rest[name.len()..].trim_start().starts_with(';') {
            continue;
        }
        match path_attribute(text, &code, at) {
            Some(given) => found.push(join(folder, &given)),
            None => {
                let inline = enclosing(&code, at).iter().fold(own.clone(), |dir, m| join(&dir, m));
                found.push(join(&inline, &format!("{name}.rs")));
                found.push(join(&inline, &format!("{name}/mod.rs")));
            }
        }
    }
    for at in lex::words(&code, "include") {
        if let Some(given) =
            text[at..].split('"').nth(1).filter(|_| code[at..].starts_with("include!"))
        {
            found.push(join(folder, given));
        }
    }
    found
}

/// The value of a `#[path = "..."]` that stands right before the item at `at`.
fn path_attribute(text: &str, code: &str, at: usize) -> Option<String> {
    let start = code[..at].rfind([';', '}', '{']).map_or(0, |found| found + 1);
    let found = lex::words(&code[start..at], "path").first().map(|found| start + found)?;
    text[found..at].split('"').nth(1).map(Into::into)
}

/// Names of the inline modules around `at`, outermost first.
fn enclosing(code: &str, at: usize) -> Vec<String> {
    let mut names = Vec::new();
    for outer in lex::words(&code[..at], "mod") {
        let rest = code[outer + 3..].trim_start();
        let name: String = rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
        let inline = rest[name.len()..].trim_start().starts_with('{');
        if inline && lex::body_end(code, outer).is_some_and(|end| end > at) {
            names.push(name);
        }
    }
    names
}

/// `folder/name` with `.` and `..` resolved.
fn join(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_file_nobody_declares() {
        let tree = Tree::of(&[
            ("c/src/lib.rs", "mod a;\nmod in_line { mod b; }\n"),
            ("c/src/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\nmod deep;\n"),
            ("c/src/a_tests.rs", "include!(\"shared.rs\");\n"),
            ("c/src/a/deep.rs", ""),
            ("c/src/in_line/b.rs", ""),
            ("c/src/shared.rs", ""),
            ("c/tests/t.rs", "mod common;\n"),
            ("c/tests/common/mod.rs", ""),
            ("c/src/forgotten.rs", ""),
            ("c/src/a/other.rs", "// mod forgotten;\n"),
        ]);
        let found = no_dead_module(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("c/src/forgotten.rs") && found[1].starts_with("c/src/a/other")
        );
    }
}
