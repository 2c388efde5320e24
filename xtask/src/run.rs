// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Running other programs, with what they are called with shown first.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The cargo that runs this program, so that a `+toolchain` is kept.
pub fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}

/// Runs `command`; whether it ended with success.
pub fn succeeds(command: &mut Command) -> bool {
    println!("$ {}", shown(command));
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", shown(command));
            false
        }
    }
}

/// Runs `command`, shows its standard output as it comes and hands every line to `each`.
pub fn watch(command: &mut Command, mut each: impl FnMut(&str)) -> bool {
    println!("$ {}", shown(command));
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", shown(command));
            return false;
        }
    };
    let mut good = true;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else {
                good = false;
                break;
            };
            let line = String::from_utf8_lossy(&line);
            // A closed standard output is no reason to stop the tests: the exit code still counts.
            let _ = writeln!(std::io::stdout(), "{line}");
            each(&line);
        }
    }
    good && child.wait().is_ok_and(|status| status.success())
}

/// What `command` writes to its standard output, or why it could not be had.
pub fn output(command: &mut Command) -> Result<String, String> {
    let line = shown(command);
    let out = command.output().map_err(|error| format!("cannot run {line}: {error}"))?;
    if !out.status.success() {
        return Err(format!("{line} failed:\n{}", String::from_utf8_lossy(&out.stderr)));
    }
    String::from_utf8(out.stdout).map_err(|_| format!("{line} wrote bytes that are not UTF-8"))
}

/// Whether a program of this name is found on `PATH`, or in the folders where root's programs lie.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| folder.join(program).is_file())
}
