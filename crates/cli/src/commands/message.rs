// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `message`, and the verbs that are one message each.

use std::process::ExitCode;

use serde_json::Value;

use super::Context;
use crate::args::{Message, Remap, Unit};
use crate::control::client;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::output;

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
    show(&answer)
}

/// `remap NAME SECTOR [SPARE_SECTOR]`
pub fn remap(context: &Context, args: &Remap) -> Outcome<ExitCode> {
    let mut line = format!("remap {}", args.sector);
    if let Some(spare_sector) = &args.spare_sector {
        line = format!("{line} {spare_sector}");
    }
    show(&client::ask(&context.control(&args.name)?, &line)?)
}

/// `unremap NAME SECTOR`
pub fn unremap(context: &Context, args: &Unit) -> Outcome<ExitCode> {
    show(&client::ask(&context.control(&args.name)?, &format!("unremap {}", args.sector))?)
}

/// `verify NAME SECTOR`
pub fn verify(context: &Context, args: &Unit) -> Outcome<ExitCode> {
    show(&client::ask(&context.control(&args.name)?, &format!("verify {}", args.sector))?)
}

/// An answer that is one text is shown as it is, line by line; any other as JSON.
fn show(answer: &Value) -> Outcome<ExitCode> {
    match answer.get("reply").and_then(Value::as_str) {
        Some(text) => {
            for line in text.lines() {
                output::print(&format!("{}\n", escaped_bytes(line)))?;
            }
        }
        None => output::print_json(answer)?,
    }
    Ok(ExitCode::SUCCESS)
}
