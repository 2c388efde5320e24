// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `message`, and the verbs that are one message each.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::args::{Message, Remap, Unit};
use crate::context::Context;
use crate::control::client;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::report::FORMAT_VERSION;

/// `message NAME WORDS...`
pub fn message(context: &Context, args: &Message) -> Outcome<ExitCode> {
    let (path, words) = match (&args.control, args.words.split_first()) {
        (Some(path), _) => (path.clone(), args.words.as_slice()),
        (None, Some((name, words))) if !words.is_empty() => (context.control(name)?, words),
        _ => {
            let failure = Failure::new(Class::Usage, "which message?");
            return Err(failure.with_next("dmremap message NAME help"));
        }
    };
    let answer = client::ask(&path, &words.join(" "))?;
    show(&answer, false)?;
    Ok(ExitCode::SUCCESS)
}

/// `remap NAME SECTOR [SPARE_SECTOR]`
pub fn remap(context: &Context, args: &Remap) -> Outcome<ExitCode> {
    let (path, sector, to) = match (&args.control, &args.second) {
        (Some(path), to) => (path.clone(), &args.first, to),
        (None, Some(sector)) => (context.control(&args.first)?, sector, &args.third),
        (None, None) => {
            let failure = Failure::new(Class::Usage, "which sector?");
            return Err(failure.with_next("dmremap remap NAME SECTOR"));
        }
    };
    let line = match to {
        Some(to) => format!("remap {sector} {to}"),
        None => format!("remap {sector}"),
    };
    show(&client::ask(&path, &line)?, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// `unremap NAME SECTOR`
pub fn unremap(context: &Context, args: &Unit) -> Outcome<ExitCode> {
    show(&ask(&context.running(&args.running)?, "unremap", args)?, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// `verify NAME SECTOR`: 4 if a block of the unit cannot be read.
pub fn verify(context: &Context, args: &Unit) -> Outcome<ExitCode> {
    let answer = ask(&context.running(&args.running)?, "verify", args)?;
    show(&answer, args.json)?;
    let unreadable = answer.get("unreadable").and_then(Value::as_array);
    Ok(match unreadable.is_some_and(|sectors| !sectors.is_empty()) {
        true => Class::Missing.code().into(),
        false => ExitCode::SUCCESS,
    })
}

fn ask(path: &Path, word: &str, args: &Unit) -> Outcome<Value> {
    client::ask(path, &format!("{word} {}", args.sector))
}

/// An answer that is one text is shown as it is, line by line; any other as JSON.
fn show(answer: &Value, json: bool) -> Outcome<()> {
    match answer.get("reply").and_then(Value::as_str) {
        Some(text) if !json => {
            for line in text.lines() {
                output::print(&format!("{}\n", escaped_bytes(line)))?;
            }
            Ok(())
        }
        Some(_) => {
            let mut document = answer.clone();
            if let Some(fields) = document.as_object_mut() {
                fields.insert("format_version".to_owned(), serde_json::json!(FORMAT_VERSION));
            }
            output::print_json(&document)
        }
        None => output::print_json(answer),
    }
}
