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
    let path = match (&args.running.name, &args.running.control) {
        (_, Some(path)) => path.clone(),
        (Some(name), None) => context.control(name)?,
        (None, None) => return Err(Failure::new(Class::Usage, "which volume?")),
    };
    let answer = client::ask(&path, &args.words.join(" "))?;
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
