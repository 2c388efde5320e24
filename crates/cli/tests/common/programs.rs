// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs of others: whether they are there, and running them with an end to every wait.

#![allow(dead_code, reason = "not every test uses everything")]

use std::process::{Command, Output, Stdio};

/// How long a program of somebody else may take, in seconds.
const PATIENCE_S: &str = "120";

/// Whether all of these are on `PATH`; else the test is skipped and says so.
pub fn all_there(test: &str, programs: &[&str]) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&folders).any(|dir| dir.join(name).is_file());
    let missing = programs.iter().find(|name| !there(name));
    missing.iter().for_each(|name| crate::common::skip(test, &format!("{name} is not installed")));
    missing.is_none()
}

/// The program, ended by force if it takes too long.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", PATIENCE_S, name]).stdin(Stdio::null());
    command
}

/// Runs it and expects success; what it wrote to standard output.
pub fn good(name: &str, args: &[&str]) -> String {
    let out = output(name, args);
    let said = String::from_utf8_lossy(&out.stderr);
    let shown = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{name} {args:?}: {} {shown} {said}", out.status);
    shown.into_owned()
}

/// Runs it and expects failure; all it said.
pub fn bad(name: &str, args: &[&str]) -> String {
    let out = output(name, args);
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    let code = out.status.code();
    assert!(code.is_some_and(|code| code != 0 && code < 124), "{name} {args:?}: {code:?} {said}");
    said
}

fn output(name: &str, args: &[&str]) -> Output {
    program(name).args(args).output().unwrap()
}

/// The python that has libnbd's module; else the test is skipped and says so. Not by the name
/// `nbdsh`: that takes the first python there is, which need not be the distribution's.
pub fn nbdsh(test: &str) -> Option<Command> {
    let has_module = |python: &&str| {
        let output = Command::new(python).args(["-c", "import nbd"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["/usr/bin/python3", "python3"].into_iter().find(has_module) else {
        crate::common::skip(test, "no python3 has libnbd's module");
        return None;
    };
    let mut command = program(python);
    command.args(["-m", "nbd"]);
    Some(command)
}
