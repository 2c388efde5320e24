// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `dump`: everything a spare's metadata says, as one document, for the day it cannot be read.
//!
//! The volume may be running: then the metadata is read until two looks agree, so that no commit
//! lies between the pages of the document.

use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use dmremap_engine::{Device, DeviceError, OpenOptions, open_device};

use crate::args::{Dump as Args, Force};
use crate::context::Context;
use crate::dump::Dump;
use crate::escape::{escaped, escaped_bytes};
use crate::failure::{Class, Failure, Outcome};
use crate::survey::survey_with;
use crate::{output, spec};

/// Looks at the metadata of a running volume before it is given up.
const LOOKS: usize = 10;

/// `dump`
pub fn dump(context: &Context, args: &Args) -> Outcome<ExitCode> {
    if let Some(file) = &args.file {
        check_file(context, args, file)?;
    }
    let dump = take(args)?;
    let text = dump.text().map_err(|error| Failure::new(Class::Internal, error))?;
    match &args.file {
        None => output::print(&text)?,
        Some(file) => write(args, file, &text)?,
    }
    for fault in &dump.head.faults {
        eprintln!("{}: {}", escaped_bytes(&args.spare), escaped_bytes(fault));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be written over must be a file, and none that belongs to a volume.
fn check_file(context: &Context, args: &Args, file: &Path) -> Outcome<()> {
    let meta = match fs::metadata(file) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("look at", file, &error)),
    };
    let name = file.to_string_lossy();
    let volumes = context.config()?.volumes()?;
    let devices = volumes.iter().flat_map(|known| [&known.main, &known.spare]);
    let used = devices.into_iter().any(|device| spec::same(&device.to_string_lossy(), &name));
    if !meta.is_file() || used || spec::same(&args.spare, &name) {
        let what = format!("{} is a device or belongs to a volume", escaped(file));
        return Err(Failure::new(Class::Refused, what).with_next(again(args, "OTHER_FILE", "")));
    }
    if !args.force.contains(&Force::ExistingFile) {
        let what = format!("{} exists", escaped(file));
        let next = again(args, &spec::word(&name), " --force=existing-file");
        return Err(Failure::new(Class::Busy, what).with_next(next));
    }
    Ok(())
}

/// The same command with another file, and more behind it.
fn again(args: &Args, file: &str, more: &str) -> String {
    format!("dmremap dump --spare {} {file}{more}", spec::word(&args.spare))
}

fn take(args: &Args) -> Outcome<Dump> {
    let open = |claim| {
        let options = OpenOptions { claim, wait_ms: 0, ..OpenOptions::examine() };
        open_device(&args.spare, &options)
    };
    let (device, running) = match open(true) {
        Err(DeviceError::Busy { .. }) => (open(false)?, true),
        device => (device?, false),
    };
    let mut before = look(args, device.as_ref())?;
    for _ in 0..if running { LOOKS } else { 0 } {
        let now = look(args, device.as_ref())?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    if running {
        let what = format!("{}: its metadata changes all the time", escaped_bytes(&args.spare));
        return Err(Failure::new(Class::Busy, what).with_next("dmremap message NAME status"));
    }
    Ok(before)
}

fn look(args: &Args, device: &dyn Device) -> Outcome<Dump> {
    let quorum = args.force.contains(&Force::Quorum);
    let survey = survey_with(device, quorum);
    let refusals = survey.refusals();
    match Dump::of(&survey) {
        Some(dump) if refusals.is_empty() || quorum => Ok(dump),
        _ => {
            let name = escaped_bytes(&args.spare);
            let what = format!("{name}: {}", escaped_bytes(&refusals.join("; ")));
            let spare = spec::word(&args.spare);
            Err(Failure::new(Class::Missing, what).with_next(match survey.may_be_forced() {
                true if !quorum => format!("dmremap dump --spare {spare} --force=quorum"),
                _ => format!("dmremap examine {spare}"),
            }))
        }
    }
}

/// Writes the document and sees to it that it lasts. A file that was there stays until the new one
/// is whole.
fn write(args: &Args, file: &Path, text: &str) -> Outcome<()> {
    let failed = |error: io::Error| Failure::io("write", file, &error);
    if !args.force.contains(&Force::ExistingFile) {
        let new = FileOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
        let written = save(new, text);
        if written.is_err() {
            let _ = fs::remove_file(file);
        }
        return written.map_err(failed);
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let new = FileOptions::new().write(true).create_new(true).open(&beside).map_err(failed)?;
    let written = save(new, text).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)
}

fn save(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
