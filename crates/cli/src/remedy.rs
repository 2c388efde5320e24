// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The command an error ends with: what was typed, with the one thing changed that was wrong. It is
//! held against the definition of the command line before it is shown, so that what a person is
//! told to type is never refused as nonsense.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use dmremap_engine::Next;

use crate::args::Cli;
use crate::escape::{harmless, is_harmless, shell_word, shell_words};
use crate::failure::{Class, Failure};
use crate::spec;

/// Programs of others that an error may end with, where nothing of ours helps.
const OTHERS: [&str; 4] = ["chmod", "dmesg", "fuser", "ls"];
/// Placeholders that stand for a number; every other one is as good as the word itself.
const NUMBERS: [&str; 5] = ["N", "SECTOR", "SPARE_SECTOR", "COUNT", "BYTES"];

/// The words behind the program's name.
type Words = Vec<OsString>;

/// What was typed.
fn typed() -> Words {
    std::env::args_os().skip(1).collect()
}

/// The one line a failed command leaves on standard error, without the program's name.
pub fn line(failure: &Failure) -> String {
    render_line(failure, &typed())
}

fn render_line(failure: &Failure, typed: &Words) -> String {
    let next = failure.next.as_deref();
    debug_assert!(next.is_none_or(is_command), "an error ends with no command: {failure:?}");
    debug_assert!(is_harmless(&failure.what), "not to be shown as it is: {failure:?}");
    let usual = || match failure.class {
        Class::Internal | Class::Busy => render(&Next::Again, typed),
        _ => help(typed),
    };
    let next = next.filter(|next| is_command(next)).map_or_else(usual, str::to_owned);
    format!("{}; try: {next}", harmless(failure.what.clone()))
}

/// What the parser says of a command line, as one line; how the verb is written is what its help
/// says.
pub fn usage(error: &clap::Error) -> String {
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "which verb?".to_owned(),
        _ => error.render().to_string(),
    };
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let told = told.replace("\n\n  tip: ", "; ");
    let words: Vec<&str> = told.split_whitespace().collect();
    let what = words.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    format!("{}; try: {}", harmless(what.to_owned()), help(&typed()))
}

/// `next` as a command to be typed here.
pub fn command(next: &Next) -> String {
    render(next, &typed())
}

/// What was typed with these further options.
pub fn again_with(options: &str) -> String {
    command(&Next::With(options.to_owned()))
}

fn render(next: &Next, typed: &Words) -> String {
    let ours = |words: &[&str]| words.iter().map(OsString::from).collect::<Words>();
    let words = match next {
        Next::Again => typed.clone(),
        Next::With(options) => with(typed, options),
        Next::Without(option) => without(typed, option),
        Next::Other(device) => match instead(typed, device) {
            Some(words) => words,
            None => with(typed, "--main=DEV"),
        },
        Next::BlockSize { bytes, device } => {
            let words = with(typed, &format!("--block-size={bytes}"));
            match is_command(&joined(&words)) {
                true => words,
                false => return render(&Next::Other(device.clone()), typed),
            }
        }
        Next::OtherMain => with(typed, "--main=DEV"),
        Next::Permitted(path) if rustix::process::geteuid().is_root() => {
            return format!("ls -l {}", shell_word(path.as_ref()));
        }
        Next::Permitted(_) => typed.clone(),
        Next::Check(spare) => ours(&["check", "--spare", spare]),
        Next::Holders(path) => return format!("fuser -v {}", shell_word(path.as_ref())),
        Next::Log => return "dmesg".to_owned(),
        Next::Version => ours(&["--version"]),
        Next::Help => return help(typed),
    };
    let line = joined(&words);
    if !is_command(&line) {
        return help(typed);
    }
    match next {
        Next::Permitted(_) => format!("sudo {line}"),
        _ => line,
    }
}

fn joined(words: &Words) -> String {
    format!("dmremap {}", quoted(words)).trim_end().to_owned()
}

/// The words as a shell would read them.
fn quoted(words: &Words) -> String {
    words.iter().map(|word| shell_word(Path::new(word))).collect::<Vec<_>>().join(" ")
}

/// How the verb that was typed is written.
fn help(typed: &Words) -> String {
    let all = [OsString::from("dmremap")].into_iter().chain(typed.iter().cloned());
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(all);
    let verb = matches.ok().and_then(|matches| matches.subcommand_name().map(str::to_owned));
    match verb {
        Some(verb) => format!("dmremap {verb} --help"),
        None => "dmremap --help".to_owned(),
    }
}

/// `words` with `options`, each in the place of its like; `--force` may stand there several times.
fn with(words: &Words, options: &str) -> Words {
    let mut words = words.clone();
    for option in options.split(' ') {
        let name = option.split('=').next().unwrap_or(option);
        if name != "--force" {
            words = without(&words, name);
        }
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        match option.split_once('=') {
            Some((name, value)) if name != "--force" && name != "--accept-main" => {
                words.splice(end..end, [OsString::from(name), OsString::from(value)]);
            }
            _ => words.insert(end, OsString::from(option)),
        }
    }
    words
}

/// `words` without the option `name`, which begins with two hyphens, and without its value.
fn without(words: &Words, name: &str) -> Words {
    let mut rest = Words::new();
    let mut left = words.iter();
    while let Some(word) = left.next() {
        let bytes = word.as_bytes();
        if bytes == name.as_bytes() {
            if takes_value(name) {
                left.next();
            }
        } else if bytes.strip_prefix(name.as_bytes()).is_none_or(|rest| rest.first() != Some(&b'='))
        {
            rest.push(word.clone());
        }
    }
    rest
}

/// Whether the option wants a value; no name is an option with a value here and a flag there.
fn takes_value(name: &str) -> bool {
    let long = name.strip_prefix("--");
    let command = Cli::command();
    let mut all = command.get_subcommands().flat_map(|verb| verb.get_arguments());
    all.find(|arg| arg.get_long() == long)
        .is_some_and(|arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append))
}

/// `words` with DEV in the place of `device`, if it stands there.
fn instead(words: &Words, device: &str) -> Option<Words> {
    let is_it = |word: &[u8]| {
        word == device.as_bytes()
            || std::str::from_utf8(word).is_ok_and(|word| spec::inner(word) == device)
    };
    let mut found = false;
    let replaced = words.iter().map(|word| {
        let bytes = word.as_bytes();
        let option =
            bytes.iter().position(|byte| *byte == b'=').filter(|_| bytes.starts_with(b"--"));
        if is_it(bytes) {
            found = true;
            return OsString::from("DEV");
        }
        match option.map(|at| bytes.split_at(at + 1)) {
            Some((name, value)) if is_it(value) => {
                found = true;
                OsString::from_vec([name, b"DEV"].concat())
            }
            _ => word.clone(),
        }
    });
    let words = replaced.collect();
    found.then_some(words)
}

/// Whether `line` is a command that can be typed: one of ours that parses, or one of [`OTHERS`].
/// What a shell would take for more than words stands in quotes, or it is none.
pub fn is_command(line: &str) -> bool {
    let Some(words) = shell_words(line) else { return false };
    if quoted(&words) != line {
        return false;
    }
    let mut words = words.as_slice();
    if words.first().is_some_and(|word| word == "sudo") {
        words = &words[1..];
    }
    match words.first().and_then(|word| word.to_str()) {
        Some("dmremap") => parses(words),
        Some(other) => OTHERS.contains(&other),
        None => false,
    }
}

fn parses(words: &[OsString]) -> bool {
    let number = |word: &OsString| NUMBERS.iter().any(|name| word == OsStr::new(name));
    let words = words.iter().map(|word| match number(word) {
        true => OsString::from("8"),
        false => word.clone(),
    });
    match Cli::try_parse_from(words) {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion),
    }
}

#[cfg(test)]
#[path = "remedy_tests.rs"]
mod tests;
