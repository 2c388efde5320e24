// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `export`: where everything is, written down for other programs. Nothing is changed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use dmremap_format::SECTOR_BYTES;
use serde_json::json;

use crate::args::{Export, ExportFormat, Force, Target};
use crate::at_rest;
use crate::context::Context;
use crate::failure::{Class, Failure, Outcome};
use crate::report::FORMAT_VERSION;
use crate::running;
use crate::view::View;
use crate::{output, spec};

/// `export`
pub fn export(context: &Context, args: &Export) -> Outcome<ExitCode> {
    let (target, file) = args.place.split("export")?;
    if !args.block_size.is_power_of_two() || !(512..=65_536).contains(&args.block_size) {
        let what = format!("--block-size {}: 512 to 65536, a power of two", args.block_size);
        return Err(Failure::new(Class::Usage, what)
            .with_next("dmremap export NAME --format badblocks --block-size 4096"));
    }
    let view = match &target.spare {
        Some(spare) => at_rest::view(spare, args.force.contains(&Force::Quorum))?,
        None => running::view(&context.target(&target)?)?,
    };
    let text = match args.format {
        ExportFormat::Mapfile => mapfile(&view),
        ExportFormat::Badblocks => badblocks(&view, args.block_size),
        ExportFormat::Json => format!("{:#}\n", document(&view)),
        ExportFormat::Table => {
            let (main, spare) = devices(context, args, &target, &view)?;
            table(&view, &main, &spare)?
        }
    };
    match file {
        None => output::print(&text)?,
        Some(path) => write_new(Path::new(&path), &text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Never over what is there: the word after a typing error may be a disk.
fn write_new(path: &Path, text: &str) -> Outcome<()> {
    let written = File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::io("create", path, &error)
            .with_next("dmremap export NAME --format mapfile NEW-FILE")
    })
}

/// The bad stretches of the volume, joined: first sector and the one behind the last.
fn bad_stretches(view: &View) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for run in view.bad() {
        let end = run.main_sector.saturating_add(run.sectors);
        match all.last_mut() {
            Some((_, last)) if *last >= run.main_sector => *last = end,
            _ => all.push((run.main_sector, end)),
        }
    }
    all
}

fn mapfile(view: &View) -> String {
    let mut out = format!(
        "# Mapfile. Created by dmremap {}\n# volume {}\n\
         # current_pos  current_status  current_pass\n0x00000000     +               1\n\
         #      pos        size  status\n",
        env!("CARGO_PKG_VERSION"),
        view.uuid,
    );
    let mut area = |from: u64, to: u64, status: char| {
        if from < to {
            let (at, size) = (from * SECTOR_BYTES, (to - from) * SECTOR_BYTES);
            let _ = writeln!(out, "{at:#010X}  {size:#010X}  {status}");
        }
    };
    let mut done = 0;
    for (from, to) in bad_stretches(view) {
        area(done, from, '+');
        area(from, to, '-');
        done = to;
    }
    area(done, view.size_sectors, '+');
    out.replace("0X", "0x")
}

fn badblocks(view: &View, block_bytes: u32) -> String {
    let block = u64::from(block_bytes) / SECTOR_BYTES;
    let mut out = String::new();
    let mut next = 0;
    for (from, to) in bad_stretches(view) {
        for number in (from / block).max(next)..to.div_ceil(block) {
            let _ = writeln!(out, "{number}");
            next = number + 1;
        }
    }
    out
}

fn document(view: &View) -> serde_json::Value {
    json!({
        "format_version": FORMAT_VERSION,
        "name": view.name,
        "uuid": view.uuid,
        "size_sectors": view.size_sectors,
        "block_size": view.block_size,
        "runs": view.runs,
    })
}

/// Main and the spare as `dmsetup` is to be told: as given, else as the local configuration has
/// them. The test wrappers are ours and mean nothing to it.
fn devices(
    context: &Context,
    args: &Export,
    target: &Target,
    view: &View,
) -> Outcome<(String, String)> {
    let known = match (&args.main, &target.spare) {
        (Some(_), Some(_)) => None,
        _ => context.config()?.find(&view.uuid)?,
    };
    let path = |given: &Option<String>, known: Option<String>| {
        given.clone().or(known).map(|words| spec::absolute(spec::inner(&words)))
    };
    let main = path(&args.main, known.as_ref().map(|k| k.main.to_string_lossy().into_owned()));
    let spare = path(&target.spare, known.as_ref().map(|k| k.spare.to_string_lossy().into_owned()));
    match (main, spare) {
        (Some(main), Some(spare)) => {
            for file in [&main, &spare].into_iter().filter(|path| Path::new(path).is_file()) {
                tracing::warn!("{}: a file: losetup it, and put the loop device there", *file);
            }
            Ok((main, spare))
        }
        _ => {
            let what = format!("the local configuration does not know volume {}", view.uuid);
            Err(Failure::new(Class::Missing, what)
                .with_next("dmremap export --spare DEV --main DEV --format table"))
        }
    }
}

/// The whole volume in segments of stock targets, without a gap.
fn table(view: &View, main: &str, spare: &str) -> Outcome<String> {
    let mut out = String::new();
    let (main, spare) = (device_word(main), device_word(spare));
    let mut done = 0;
    let on_main = |out: &mut String, from: u64, to: u64| {
        if from < to {
            let _ = writeln!(out, "{from} {} linear {main} {from}", to - from);
        }
    };
    for run in &view.runs {
        let (from, len) = (run.main_sector, run.sectors);
        on_main(&mut out, done, from);
        let _ = match (run.state.as_str(), run.spare_index, run.spare_sector) {
            ("remapped", Some(0), Some(at)) => writeln!(out, "{from} {len} linear {spare} {at}"),
            ("gone" | "pending", ..) => writeln!(out, "{from} {len} error"),
            _ => {
                let what = format!("sector {from}: lives where this version cannot say");
                return Err(Failure::new(Class::Internal, what));
            }
        };
        done = from.saturating_add(len);
    }
    on_main(&mut out, done, view.size_sectors);
    Ok(out)
}

/// A path as a word of a device-mapper table, whose parser takes a backslash for an escape.
fn device_word(path: &str) -> String {
    let mut word = String::new();
    for c in path.chars() {
        if c.is_whitespace() || c == '\\' {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
