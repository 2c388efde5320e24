// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `check`: whether a spare's metadata would be accepted, and what the next open would repair.
//! Writes nothing. Exit code 0 if an open would accept it, 4 if not.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use crate::args::Check;
use crate::at_rest;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Outcome};
use crate::pages::{self, Page};
use crate::report::FORMAT_VERSION;
use crate::survey::Survey;
use crate::units::count;
use crate::{output, spec};

/// `check`
pub fn check(args: &Check) -> Outcome<ExitCode> {
    let survey = at_rest::look(&args.spare)?;
    let refusals = survey.refusals();
    let pages = pages::all(&survey);
    if args.json {
        output::print_json(&json!({
            "format_version": FORMAT_VERSION,
            "accepted": refusals.is_empty(),
            "refusals": refusals,
            "copies_valid": survey.copies_valid(),
            "pages_to_repair": pages.iter().filter(|page| !page.is_whole()).count(),
            "entries": survey.volume.as_ref().map(|found| found.entries()).ok(),
            "state": survey.header().map(|header| header.state().word()),
            "pages": pages::json(&pages),
        }))?;
    } else {
        output::print(&screen(&args.spare, &survey, &refusals, &pages))?;
    }
    Ok(if refusals.is_empty() { ExitCode::SUCCESS } else { Class::Missing.code().into() })
}

fn screen(spec: &str, survey: &Survey, refusals: &[String], pages: &[Page]) -> String {
    let name = escaped_bytes(spec);
    let broken: Vec<&Page> = pages.iter().filter(|page| !page.is_whole()).collect();
    let mut out = match (refusals, broken.as_slice()) {
        ([], []) => format!("{name}: the metadata is sound, all five copies agree.\n"),
        ([], some) => {
            let some = count(some.len() as u64, "page has", "pages have");
            format!("{name}: the metadata is sound; {some} bad or old copies.\n")
        }
        _ => format!("{name}: an open would be refused. Nothing has been changed.\n"),
    };
    for line in refusals {
        let _ = writeln!(out, "  {}", escaped_bytes(line));
    }
    if let (Ok(found), Some(header)) = (&survey.volume, survey.header()) {
        let (entries, quarantined) = (found.entries(), found.quarantined());
        let entries = count(entries, "entry", "entries");
        let state = header.state().word();
        let _ = writeln!(out, "  {state}; {entries}, {quarantined} units in quarantine");
    }
    // The header's and the generation's places say where each copy is.
    let shown = pages.iter().filter(|page| !page.is_whole() || !page.name.starts_with("table"));
    out += &pages::screen(shown);
    let whole = pages.len() - broken.len();
    let _ = writeln!(out, "  {whole} of {} pages are whole in all five copies", pages.len());
    let spare = spec::word(spec);
    match (refusals, broken.is_empty()) {
        ([], true) => {}
        ([], false) => {
            let _ = writeln!(out, "The next open writes these pages anew, and so does repair.");
            let _ = writeln!(out, "try: dmremap repair --spare {spare}");
        }
        _ if survey.may_be_forced() => {
            let _ = writeln!(out, "try: dmremap dump --spare {spare} --force=quorum");
        }
        _ => _ = writeln!(out, "try: dmremap examine {spare}"),
    }
    out
}
