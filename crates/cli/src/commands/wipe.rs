// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wipe`: takes our metadata off a spare, so that it is an ordinary device again. What else lies
//! on it stays as it is.

use std::process::ExitCode;

use dmremap_engine::{OpenOptions, Remains, open_device};
use dmremap_format::{BlockState, Refusal};

use crate::args::{Force, Wipe};
use crate::confirm::confirm;
use crate::context::Context;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::report::uuid_text;
use crate::survey::{Survey, survey};
use crate::units::count;
use crate::{output, spec};

/// `wipe`
pub fn wipe(context: &Context, args: &Wipe) -> Outcome<ExitCode> {
    let name = escaped_bytes(&args.spare);
    let config = context.config()?;
    let options = OpenOptions {
        read_only: args.dry_run,
        force_buffered: args.force.contains(&Force::Buffered),
        ..OpenOptions::default()
    };
    let device = open_device(&args.spare, &options)?;
    let survey = survey(device.as_ref());
    let layout = survey.volume.as_ref().ok().map(|found| found.layout);
    let remains = Remains::find(device.as_ref(), layout.as_ref());
    if remains.is_empty() {
        let what = format!("{name}: no dm-remap metadata");
        return Err(Failure::new(Class::Missing, what)
            .with_next(format!("dmremap examine {}", spec::word(&args.spare))));
    }
    let lost = lost(args, &survey)?;
    let pages = count(remains.pages() as u64, "page", "pages");
    output::print(&format!("{name}: {pages} of dm-remap metadata. {lost}\n"))?;
    if args.dry_run {
        output::print("Nothing has been changed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    confirm(&format!("{name} will belong to no volume any more. {lost}"), "wipe", args.yes)?;
    if let Err(left) = remains.wipe(device.as_ref()) {
        let (sector, class) = left[0];
        let still = count(left.len() as u64, "page", "pages");
        let what =
            format!("{name}: {still} could not be wiped, the first at sector {sector}: {class}");
        return Err(Failure::new(Class::Missing, what)
            .with_next(format!("dmremap examine {}", spec::word(&args.spare))));
    }
    let known = match survey.header() {
        Some(header) => config.remove(&uuid_text(header.volume()))?,
        None => false,
    };
    let forgotten = if known { ", and the local configuration names it no more" } else { "" };
    output::print(&format!("{name} is no spare any more{forgotten}.\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What goes with the metadata, as a sentence; refused while something does and nobody has said
/// that it may.
fn lost(args: &Wipe, survey: &Survey) -> Outcome<String> {
    let name = escaped_bytes(&args.spare);
    let refuse = |what: String| {
        let next = format!("dmremap wipe --spare {} --force=entries", spec::word(&args.spare));
        Failure::new(Class::Refused, format!("{name}: {what}")).with_next(next)
    };
    let forced = args.force.contains(&Force::Entries);
    match &survey.volume {
        Ok(found) if survey.refusals().is_empty() => {
            let (moved, gone) = (found.blocks(BlockState::Spare), found.blocks(BlockState::Gone));
            if found.entries() == 0 {
                return Ok("Nothing has moved to it.".to_owned());
            }
            let what = format!(
                "{} live there and nowhere else, {gone} are lost already; main alone would serve \
                 old content for all of them",
                count(moved, "block", "blocks")
            );
            let home = match moved {
                0 => "",
                _ => "; bring them home first: dmremap clear NAME",
            };
            if forced { Ok(format!("{what}.")) } else { Err(refuse(format!("{what}{home}"))) }
        }
        // Out of use already: what it held was moved, or brought home, by those who fenced it.
        Err(Refusal::Fenced { .. }) => Ok("It is out of use already.".to_owned()),
        Err(Refusal::Newer { .. }) => {
            let what =
                format!("{name}: written by a newer version, which alone knows what is there");
            Err(Failure::new(Class::Refused, what)
                .with_next(format!("dmremap examine {}", spec::word(&args.spare))))
        }
        _ => {
            let what = "its table is not sound, so nobody knows how many blocks live there alone";
            if forced { Ok(format!("{what}.")) } else { Err(refuse(what.to_owned())) }
        }
    }
}
