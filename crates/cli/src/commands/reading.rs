// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `status`, `list` and `stats`: of a running volume by its control socket, of one that does not
//! run from its spare.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use crate::args::{Reading, Status, Target};
use crate::at_rest;
use crate::context::Context;
use crate::control::client;
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::report::{self, Run};
use crate::running::{all_runs, parsed};

/// Exit code of `status --test` when nothing can be said.
const CANNOT_TELL: u8 = 4;

/// `status`
pub fn status(context: &Context, args: &Status) -> Outcome<ExitCode> {
    let found = match &args.target.spare {
        Some(spare) => at_rest::status(spare).and_then(|status| Ok((json(&status)?, status))),
        None => ask(context, &args.target, "status").and_then(|value| {
            let status: report::Status = parsed(&value)?;
            Ok((value, status))
        }),
    };
    if args.test {
        return Ok(match found {
            Ok((_, status)) => ExitCode::from(status.verdict),
            Err(_) => ExitCode::from(CANNOT_TELL),
        });
    }
    let (value, status) = found?;
    if args.json { output::print_json(&value) } else { output::print(&status.screen()) }?;
    Ok(ExitCode::SUCCESS)
}

/// `list`
pub fn list(context: &Context, args: &Reading) -> Outcome<ExitCode> {
    let runs: Vec<Run> = match &args.target.spare {
        Some(spare) => at_rest::list(spare)?,
        None => all_runs(&context.target(&args.target)?)?,
    };
    if args.json {
        output::print_json(&json(&runs)?)?;
    } else {
        output::print(&report::list_screen(&runs))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `stats`
pub fn stats(context: &Context, args: &Reading) -> Outcome<ExitCode> {
    if args.target.spare.is_some() {
        let what = "counters live in the memory of a running volume";
        return Err(Failure::new(Class::Usage, what).with_next("dmremap stats NAME"));
    }
    let value = ask(context, &args.target, "stats")?;
    if args.json {
        output::print_json(&value)?;
    } else {
        output::print(&flat("", &value))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(context: &Context, target: &Target, line: &str) -> Outcome<Value> {
    client::ask(&context.target(target)?, line)
}

fn json<T: Serialize>(value: &T) -> Outcome<Value> {
    serde_json::to_value(value).map_err(|error| Failure::new(Class::Internal, error))
}

/// A JSON object as `a.b = value` lines.
fn flat(prefix: &str, value: &Value) -> String {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flat(&name, value)
            })
            .collect(),
        Value::Null => format!("{prefix} = -\n"),
        Value::String(text) => format!("{prefix} = {}\n", crate::escape::escaped_bytes(text)),
        value => format!("{prefix} = {value}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_lines() {
        let value = serde_json::json!({ "a": { "b": 1, "c": null }, "d": "x\u{1b}" });
        assert_eq!(flat("", &value), "a.b = 1\na.c = -\nd = x\\x1b\n");
    }
}
