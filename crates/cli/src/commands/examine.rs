// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `examine`: what a device is, copy by copy. Names and paths found there are shown, never used.

use std::fmt::Write;
use std::process::ExitCode;

use dmremap_engine::Next;
use dmremap_format::{Header, SeenHeader};
use serde_json::{Value, json};

use crate::args::Examine;
use crate::at_rest;
use crate::escape::{escaped_bytes, shell_word};
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::remedy;
use crate::report::{FORMAT_VERSION, uuid_text};
use crate::survey::{HeaderCopy, HeaderFault, Survey};
use crate::units::sectors;

/// `examine`
pub fn examine(args: &Examine) -> Outcome<ExitCode> {
    let survey = at_rest::look(&args.device)?;
    if survey.headers.iter().all(|copy| matches!(copy.seen, SeenHeader::Invalid)) {
        let what = format!("{}: no dm-remap metadata", escaped_bytes(&args.device));
        let next = remedy::command(&Next::Other(args.device.clone()));
        return Err(Failure::new(Class::Missing, what).with_next(next));
    }
    let text = if args.json {
        format!("{:#}\n", document(&survey))
    } else if args.export {
        export(&document(&survey))
    } else {
        screen(&args.device, &survey)
    };
    output::print(&text)?;
    Ok(if survey.header().is_some() { ExitCode::SUCCESS } else { Class::Missing.code().into() })
}

/// What is wrong with a copy, in words.
fn fault(copy: &HeaderCopy) -> String {
    match copy.fault {
        None => "valid".to_owned(),
        Some(HeaderFault::Device(class)) => format!("unreadable: {class}"),
        Some(HeaderFault::Page(fault)) => fault.word().to_owned(),
    }
}

fn document(survey: &Survey) -> Value {
    let copies: Vec<Value> = survey
        .headers
        .iter()
        .map(|copy| match copy.header() {
            None => json!({ "valid": false, "fault": fault(copy) }),
            Some(header) => json!({
                "valid": true,
                "volume": uuid_text(header.volume()),
                "generation": header.stamp().generation,
                "sequence": header.stamp().sequence,
                "state": header.state().word(),
            }),
        })
        .collect();
    let mut document = json!({
        "format_version": FORMAT_VERSION,
        "copies": copies,
        "refusals": survey.refusals(),
        "volume": null,
    });
    if let (Some(header), Ok(found)) = (survey.header(), &survey.volume) {
        let session = header.session();
        document["volume"] = json!({
            "uuid": uuid_text(header.volume()),
            "name": header.name(),
            "spare_uuid": uuid_text(header.spare()),
            "spare_index": header.spare_index(),
            "state": header.state().word(),
            "version": format!("{}.{}", header.version().0, header.version().1),
            "created_at": header.created_at(),
            "size_sectors": header.main_sectors(),
            "block_size": header.block_bytes(),
            "main_hint": String::from_utf8_lossy(header.hint()),
            "data_start": found.layout.data_start(),
            "data_end": found.layout.data_end(),
            "max_entries": found.layout.max_entries(),
            "entries": found.entries(),
            "quarantined_units": found.quarantined(),
            "copies_valid": survey.copies_valid(),
            "host": uuid_text(session.host),
            "boot": uuid_text(session.boot),
            "session": uuid_text(session.session),
            "opened_at": session.opened_at,
        });
    }
    document
}

/// `KEY=VALUE` lines, in the manner of `blkid -o export`. A value that a shell would take apart is
/// quoted.
fn export(document: &Value) -> String {
    let mut out = String::new();
    if let Some(volume) = document["volume"].as_object() {
        for (key, value) in volume {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let word = shell_word(text.as_ref());
            let _ = writeln!(out, "DMREMAP_{}={word}", key.to_uppercase());
        }
    }
    let valid = document["copies"].as_array().into_iter().flatten();
    let valid = valid.filter(|copy| copy["valid"] == true).count();
    let _ = writeln!(out, "DMREMAP_HEADERS_VALID={valid}");
    out
}

fn screen(spec: &str, survey: &Survey) -> String {
    let mut out = match survey.header() {
        Some(header) => head(spec, survey, &header),
        None => format!("{}: damaged dm-remap metadata.\n", escaped_bytes(spec)),
    };
    for refusal in survey.refusals() {
        let _ = writeln!(out, "an open would be refused: {}", escaped_bytes(&refusal));
    }
    out.push('\n');
    for (index, copy) in survey.headers.iter().enumerate() {
        let _ = match copy.header() {
            Some(header) => {
                let (stamp, state) = (header.stamp(), header.state().word());
                let (generation, sequence) = (stamp.generation, stamp.sequence);
                writeln!(out, "  header {index}     {generation}.{sequence} {state}")
            }
            None => writeln!(out, "  header {index}     {}", fault(copy)),
        };
    }
    out
}

fn head(spec: &str, survey: &Survey, header: &Header<'_>) -> String {
    let name = match header.name() {
        "" => "without a name".to_owned(),
        name => format!("\"{}\"", escaped_bytes(name)),
    };
    let mut out = format!(
        "{}: spare of dm-remap volume {name}, {}.\n\n",
        escaped_bytes(spec),
        header.state().word()
    );
    let mut row = |key: &str, value: String| _ = writeln!(out, "  {key:<12} {value}");
    row("volume", uuid_text(header.volume()));
    row("spare", format!("{} (index {})", uuid_text(header.spare()), header.spare_index()));
    let size = sectors(header.main_sectors());
    row("main", format!("{size} in blocks of {} bytes", header.block_bytes()));
    row("last seen at", escaped_bytes(header.hint()).to_string());
    if let Ok(found) = &survey.volume {
        let (start, end) = (found.layout.data_start(), found.layout.data_end());
        row("data", format!("spare sectors {start} to {end}"));
        let most = found.layout.max_entries();
        row("table", format!("{} of {most} entries", found.entries()));
        row("metadata", format!("{} of 5 copies valid", survey.copies_valid()));
    }
    out
}
