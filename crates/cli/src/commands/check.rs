// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `check`: whether a spare's metadata would be accepted, and what the next open would repair.
//! Writes nothing. Exit code 0 if an open would accept it, 4 if not.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use super::at_rest;
use crate::args::Check;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Outcome};
use crate::output;
use crate::report::FORMAT_VERSION;
use crate::survey::Survey;

/// `check`
pub fn check(args: &Check) -> Outcome<ExitCode> {
    let survey = at_rest::look(&args.spare)?;
    let refusals = survey.refusals();
    let repairs = repairs(&survey);
    if args.json {
        output::print_json(&json!({
            "format_version": FORMAT_VERSION,
            "accepted": refusals.is_empty(),
            "refusals": refusals,
            "copies_valid": survey.copies_valid(),
            "pages_to_repair": repairs,
            "entries": survey.volume.as_ref().map(|found| found.entries()).ok(),
        }))?;
    } else {
        output::print(&screen(&args.spare, &survey, &refusals, repairs))?;
    }
    Ok(if refusals.is_empty() { ExitCode::SUCCESS } else { Class::Missing.code().into() })
}

/// Pages whose five copies are not all valid and equal.
fn repairs(survey: &Survey) -> u64 {
    let Ok(found) = &survey.volume else { return 0 };
    let pages = found.pages.iter().chain([&found.generation]).flatten();
    pages.chain([&found.judgement.page]).filter(|judged| judged.needs_repair()).count() as u64
}

fn screen(spec: &str, survey: &Survey, refusals: &[String], repairs: u64) -> String {
    let name = escaped_bytes(spec);
    let mut out = String::new();
    match (refusals, repairs) {
        ([], 0) => _ = writeln!(out, "{name}: the metadata is sound, all five copies agree."),
        ([], n) => {
            let _ =
                writeln!(out, "{name}: the metadata is sound; {n} pages have bad or old copies.");
            let _ = writeln!(out, "The next open writes them anew.");
        }
        _ => _ = writeln!(out, "{name}: an open would be refused. Nothing has been changed."),
    }
    for line in refusals {
        let _ = writeln!(out, "  {line}");
    }
    if let Ok(found) = &survey.volume {
        let (entries, quarantined) = (found.entries(), found.quarantined());
        let _ = writeln!(out, "  {entries} entries, {quarantined} units in quarantine");
    }
    out
}
