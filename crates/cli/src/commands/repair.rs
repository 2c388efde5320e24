// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `repair`: what an open does for the metadata, without main and without serving anything.
//!
//! Exit code 0 if all five copies of every page are whole now, 4 if a copy takes no writes.

use std::process::ExitCode;

use dmremap_engine::{OpenOptions, VolumeOptions, open_device, repair as settle};
use serde_json::json;

use crate::args::{Force, Repair};
use crate::confirm::confirm;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::pages::{self, Page};
use crate::report::FORMAT_VERSION;
use crate::survey::survey;
use crate::units::count;
use crate::{output, spec};

/// `repair`
pub fn repair(args: &Repair) -> Outcome<ExitCode> {
    let name = escaped_bytes(&args.spare);
    let device = OpenOptions {
        read_only: args.dry_run,
        force_buffered: args.force.contains(&Force::Buffered),
        ..OpenOptions::default()
    };
    let device = open_device(&args.spare, &device)?;
    let mut options = VolumeOptions {
        read_only: true,
        force_in_use: args.force.contains(&Force::InUse),
        ..VolumeOptions::default()
    };
    // Refused before anybody is asked.
    settle(&device, &options).map_err(|error| refused(args, error))?;
    let broken = broken(&pages::all(&survey(device.as_ref())));
    if broken.is_empty() {
        show(args, &[], None, format!("{name}: all five copies of every page are whole.\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let some = count(broken.len() as u64, "page", "pages");
    let plan = format!("{name}: {some} to be written anew:\n{}", pages::screen(broken.iter()));
    if args.dry_run {
        show(args, &broken, None, format!("{plan}Nothing has been changed.\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        output::print(&plan)?;
    }
    confirm(
        &format!("{some} of the metadata on {name} will be written anew."),
        "repair",
        args.yes,
    )?;
    options.read_only = false;
    settle(&device, &options).map_err(|error| refused(args, error))?;
    let left = self::broken(&pages::all(&survey(device.as_ref())));
    if left.is_empty() {
        let told = format!("{name}: {some} written anew, all five copies are whole.\n");
        show(args, &broken, Some(&left), told)?;
        return Ok(ExitCode::SUCCESS);
    }
    show(args, &broken, Some(&left), pages::screen(left.iter()))?;
    let what = format!("{name}: it can be opened, but a copy of the metadata takes no writes");
    Err(Failure::new(Class::Missing, what)
        .with_next(format!("dmremap check --spare {}", spec::word(&args.spare))))
}

/// The pages whose five copies are not all valid and equal.
fn broken(pages: &[Page]) -> Vec<Page> {
    pages.iter().filter(|page| !page.is_whole()).cloned().collect()
}

fn refused(args: &Repair, error: dmremap_engine::VolumeError) -> Failure {
    let spare = spec::word(&args.spare);
    let next = match &error {
        dmremap_engine::VolumeError::OtherHost { .. } => {
            format!("dmremap repair --spare {spare} --force=in-use")
        }
        _ => format!("dmremap check --spare {spare}"),
    };
    Failure::from(error).with_next(next)
}

/// Shows the outcome; `left` is what is still not whole after a repair.
fn show(args: &Repair, broken: &[Page], left: Option<&Vec<Page>>, text: String) -> Outcome<()> {
    if !args.json {
        return output::print(&text);
    }
    output::print_json(&json!({
        "format_version": FORMAT_VERSION,
        "dry_run": args.dry_run,
        "pages_to_repair": broken.len(),
        "repaired": left.is_some(),
        "before": pages::json(broken),
        "left": left.map(|left| pages::json(left)),
    }))
}
