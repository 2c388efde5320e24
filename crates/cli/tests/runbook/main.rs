// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every command of the documents for administrators, typed as it stands there, on images.
//!
//! Checked: each section of the runbook has commands and each of them is run, to the exit code and
//! the words that the document announces; copies and disks that are told to be whole then are, byte
//! for byte; nothing is written in a way that would not be run.

#[path = "../common/mod.rs"]
mod common;
mod doc;
#[path = "../common/mounts.rs"]
mod mounts;
#[path = "../common/programs.rs"]
mod programs;
#[path = "../common/refusal.rs"]
mod refusal;
mod setup;
mod stage;
mod unit;

use std::sync::atomic::{AtomicUsize, Ordering};

use doc::{Document, Scene};
use stage::Stage;

/// Programs of others, which not every machine has. (The rest is sh and coreutils.)
const OTHERS: [&str; 6] = ["ddrescue", "debugfs", "e2fsck", "mkfs.ext4", "nbdcopy", "qemu-img"];
/// Commands that want root, FUSE and loop devices.
const MOUNTING: [&str; 3] = ["mount", "nbdfuse", "umount"];
/// Scenes played at the same time.
const WORKERS: usize = 4;

/// Whether the scene can be played here; else it is skipped and says so.
fn possible(document: &Document, scene: &Scene) -> bool {
    let name = format!("{}: {} (line {})", document.name, scene.section, scene.line);
    let commands = scene.blocks.iter().flat_map(|block| &block.commands);
    let first = |command: &String| command.split_whitespace().next().unwrap().to_owned();
    let mut used: Vec<String> = commands.map(first).collect();
    used.extend(["mkfs.ext4".to_owned(), "debugfs".to_owned()]);
    let mounting = scene.setup.iter().any(|word| word == "mounted")
        || used.iter().any(|program| MOUNTING.contains(&program.as_str()));
    let others: Vec<&str> =
        used.iter().map(String::as_str).filter(|program| OTHERS.contains(program)).collect();
    (!mounting || mounts::possible(&name, true)) && programs::all_there(&name, &others)
}

/// Plays every scene that can be played here, some at a time; commands that were run.
fn play(document: &Document) -> usize {
    let next = AtomicUsize::new(0);
    let take = || document.scenes.get(next.fetch_add(1, Ordering::Relaxed));
    let worker = || {
        let scenes = std::iter::from_fn(take).filter(|scene| possible(document, scene));
        scenes.map(|scene| play_one(document, scene)).sum::<usize>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a scene has failed")).sum()
    })
}

fn play_one(document: &Document, scene: &Scene) -> usize {
    let mut stage = Stage::new();
    scene.setup.iter().for_each(|word| setup::prepare(&mut stage, word));
    for block in &scene.blocks {
        stage.block(document.name, block);
        let here = format!("{}:{}", document.name, block.line);
        block.then.iter().for_each(|word| setup::check(&stage, word, &here));
    }
    unit::run_units(&mut stage);
    scene.blocks.iter().map(|block| block.commands.len()).sum()
}

#[test]
fn every_command_of_the_runbook_does_what_it_says() {
    let document = Document::read("docs/RUNBOOK.md");
    assert!(document.indented.is_empty(), "not run: {:?}", document.indented);
    for section in &document.sections {
        let scenes = document.scenes.iter().filter(|scene| scene.section == *section);
        assert!(scenes.count() > 0, "no command in section {section:?}");
    }
    let run = play(&document);
    println!("{run} of {} commands in {} scenes", document.commands(), document.scenes.len());
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let document = Document::read("README.md");
    // What builds and tests the program is run by everybody who is here.
    let others: Vec<_> =
        document.indented.iter().filter(|line| !line.starts_with("cargo ")).collect();
    assert!(others.is_empty(), "not run: {others:?}");
    assert!(!document.scenes.is_empty());
    let run = play(&document);
    println!("{run} of {} commands in {} scenes", document.commands(), document.scenes.len());
}
