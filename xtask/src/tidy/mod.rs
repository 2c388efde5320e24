// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The project's style as a test: `cargo xtask tidy`.
//!
//! Every rule is a function from the tree to complaints, so that its own test can plant an example
//! and see it found. The rules: sizes (files of 500 lines, functions of 70, lines of 100 columns),
//! a licence line in every file, nothing left open, no test switched off, no module nobody reaches,
//! no panic in the crates that must not panic, `unsafe` only where it is allowed and explained, no
//! path of somebody's machine, links that lead somewhere, documented tests that exist, and the
//! deliberately broken variants switched on by nobody.

mod docs;
mod manifests;
mod modules;
mod source;

use std::path::Path;

use crate::run;

/// A file of the tree.
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text; files that are not UTF-8 (images under test) are left out of the tree.
    pub text: String,
}

impl File {
    /// Whether it is Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        self.path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs")
    }
}

/// Every text file of the project.
pub struct Tree {
    /// Sorted by path.
    pub files: Vec<File>,
    /// Paths of all files, those that are no text too.
    pub paths: Vec<String>,
}

impl Tree {
    /// A tree from texts at hand.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree { files: Vec::new(), paths: Vec::new() };
        for (path, text) in files {
            tree.files.push(File { path: path.to_string(), text: text.to_string() });
            tree.paths.push(path.to_string());
        }
        tree
    }

    /// The files git knows or would add.
    fn load(root: &Path) -> Result<Tree, String> {
        let mut git = std::process::Command::new("git");
        git.current_dir(root);
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let list = run::output(&mut git)?;
        let mut paths: Vec<String> =
            list.split('\0').filter(|p| !p.is_empty()).map(Into::into).collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| root.join(path).is_file());
        let files = paths
            .iter()
            .filter_map(|path| {
                let text = String::from_utf8(std::fs::read(root.join(path)).ok()?).ok()?;
                Some(File { path: path.clone(), text })
            })
            .collect();
        Ok(Tree { files, paths })
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// What a rule found, as `path:line: what is wrong`.
pub type Complaints = Vec<String>;

/// Writes one complaint.
pub fn complain(file: &File, line: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{line}: {what}", file.path)
}

/// Every rule.
const RULES: &[fn(&Tree) -> Complaints] = &[
    source::sizes,
    source::licence_line,
    source::nothing_left_open,
    source::no_ignored_test,
    source::no_panic_in_core,
    source::unsafe_where_allowed,
    source::no_machine_path,
    modules::no_dead_module,
    manifests::broken_only_by_its_stage,
    docs::links_lead_somewhere,
    docs::named_tests_exist,
    docs::history_is_covered,
    docs::bad_input_is_covered,
];

/// `cargo xtask tidy`: prints every complaint; whether there is none.
pub fn run(root: &Path) -> bool {
    let tree = match Tree::load(root) {
        Ok(tree) => tree,
        Err(message) => {
            eprintln!("tidy: {message}");
            return false;
        }
    };
    let complaints: Complaints = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    for line in &complaints {
        println!("tidy: {line}");
    }
    println!("tidy: {} files, {} complaints", tree.files.len(), complaints.len());
    complaints.is_empty() && !tree.files.is_empty()
}
