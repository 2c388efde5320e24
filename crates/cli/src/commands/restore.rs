// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `restore`: a volume that can be read, from a dump, when the metadata cannot be read any more.
//!
//! Nothing proves any more what the units of a spare hold, so that every moved block becomes gone:
//! an error, not whatever lies on the spare. What never moved is read from main.

use std::process::ExitCode;
use std::sync::Arc;

use dmremap_engine::host::random_uuid;
use dmremap_engine::{Device, OpenOptions, Restore, VolumeError, open_device, restore as make};
use dmremap_format::identity::Judgement;
use dmremap_format::{BlockState, Cause, Layout, Refusal, Slot, Stamp, States};

use crate::args::{AcceptMain, Force, Restore as Args};
use crate::config::{Config, Volume};
use crate::confirm::confirm;
use crate::context::Context;
use crate::dump::Dump;
use crate::escape::{escaped, escaped_bytes};
use crate::failure::{Class, Failure, Outcome};
use crate::report::uuid_text;
use crate::survey::{Survey, survey_with};
use crate::units::count;
use crate::{output, spec};

/// `restore`
pub fn restore(context: &Context, args: &Args) -> Outcome<ExitCode> {
    let config = context.config()?;
    let dump = Dump::read(&args.file)?;
    check_complete(args, &dump)?;
    let (mut slots, mut moved, gone) = dump.slots().map_err(|fault| wrong(args, &fault))?;
    spec::apart(&args.main, &args.spare)?;
    check_no_main(&config, args)?;
    let spare = open(args, &args.spare, args.dry_run)?;
    let main = open(args, &args.main, true)?;
    let survey = check_unreadable(args, spare.as_ref())?;
    let later = add_later(&dump, &survey, &mut slots);
    moved += later;
    let uuid = random_uuid().map_err(|error| Failure::new(Class::Internal, error))?;
    let layout = layout(args, &dump, spare.as_ref())?;
    let mut what = Restore {
        header: dump.header(uuid, layout).map_err(|fault| wrong(args, &fault))?,
        slots,
        accept_main: args.accept_main == Some(AcceptMain::Same),
        force_foreign: args.force.contains(&Force::ForeignSignature),
        dry_run: true,
    };
    make(&main, &spare, &what).map_err(|error| refused(args, error))?;
    let stamp = dump.head.stamp;
    let plan = format!(
        "volume \"{}\" from {}, as it was at {}.{}:\n\
         {} that had moved and {gone} that were lost are errors from now on: nothing proves what\n\
         {} holds. Of them {later} moved after the dump was taken, by what can still be read of\n\
         the metadata; for others that did main serves old content. The volume can be read, and\n\
         never written.\n",
        escaped_bytes(&dump.head.name),
        escaped(&args.file),
        stamp.generation,
        stamp.sequence,
        count(moved, "block", "blocks"),
        escaped_bytes(&args.spare),
    );
    output::print(&plan)?;
    if args.dry_run {
        output::print("Nothing has been changed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let losing = count(moved, "moved block is", "moved blocks are");
    let what_goes = format!(
        "{losing} given up for lost, and the metadata on {} with them.",
        escaped_bytes(&args.spare)
    );
    confirm(&what_goes, "restore", args.yes)?;
    what.dry_run = false;
    make(&main, &spare, &what)?;
    config.save(&Volume {
        uuid: dump.head.uuid.to_ascii_lowercase(),
        name: dump.head.name.clone(),
        main: spec::absolute(&args.main).into(),
        spare: spec::absolute(&args.spare).into(),
    })?;
    output::print(&format!(
        "Restored. Copy the data off: dmremap serve --spare {}\n",
        spec::word(&args.spare)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn open(args: &Args, path: &str, read_only: bool) -> Outcome<Arc<dyn Device>> {
    let force_buffered = args.force.contains(&Force::Buffered);
    Ok(open_device(path, &OpenOptions { read_only, force_buffered, ..OpenOptions::default() })?)
}

/// Refuses a spare that the local configuration knows as a volume's main.
fn check_no_main(config: &Config, args: &Args) -> Outcome<()> {
    let volumes = config.volumes()?;
    let is_main = |known: &&Volume| spec::same(&known.main.to_string_lossy(), &args.spare);
    let Some(known) = volumes.iter().find(is_main) else { return Ok(()) };
    let (spare, named) = (escaped_bytes(&args.spare), escaped_bytes(known.name.as_str()));
    Err(Failure::new(Class::Refused, format!("{spare} is main of \"{named}\""))
        .with_next("dmremap restore --spare OTHER_DEV --main DEV FILE"))
}

/// A dump that makes no sense.
fn wrong(args: &Args, fault: &str) -> Failure {
    let what = format!("{}: {}", escaped(&args.file), escaped_bytes(fault));
    Failure::new(Class::Missing, what).with_next("dmremap dump --spare DEV FILE")
}

/// What a dump lacks would be served as main's old content.
fn check_complete(args: &Args, dump: &Dump) -> Outcome<()> {
    if dump.head.complete && dump.head.faults.is_empty() {
        return Ok(());
    }
    let first = dump.head.faults.first().map_or("", String::as_str);
    let what = format!(
        "{}: taken from a table that was not proven ({}): main's old content would be served for \
         what it lacks",
        escaped(&args.file),
        escaped_bytes(first)
    );
    Err(Failure::new(Class::Refused, what)
        .with_next("dmremap restore --spare DEV --main DEV OTHER_FILE"))
}

/// Refuses a spare with metadata that can be read, be it from one copy: that is worth more than any
/// dump.
fn check_unreadable(args: &Args, spare: &dyn Device) -> Outcome<Survey> {
    let (name, word) = (escaped_bytes(&args.spare), spec::word(&args.spare));
    let refuse = |what: &str, next: String| {
        Err(Failure::new(Class::Refused, format!("{name}: {what}")).with_next(next))
    };
    let quorum = survey_with(spare, true);
    let proven = survey_with(spare, false).refusals().is_empty();
    match &quorum.volume {
        _ if proven => {
            let what = "its metadata can be read, which is worth more than any dump";
            refuse(what, format!("dmremap repair --spare {word}"))
        }
        Ok(_) if quorum.refusals().is_empty() => {
            let what = "one copy of its metadata can be read, and the moved blocks with it";
            refuse(what, format!("dmremap serve --spare {word} --read-only --force=quorum"))
        }
        Ok(_) | Err(Refusal::TooFewValid { .. } | Refusal::TwoContents { .. }) => Ok(quorum),
        Err(other) => refuse(other.word(), format!("dmremap examine {word}")),
    }
}

/// What has moved or gone since the dump was taken, as far as a page of this spare that can still
/// be read says so: gone as well, or main's old content would be served for it. How many blocks.
fn add_later(dump: &Dump, survey: &Survey, slots: &mut Vec<Slot>) -> u64 {
    let Ok(found) = &survey.volume else { return 0 };
    if !uuid_text(found.judgement.volume).eq_ignore_ascii_case(&dump.head.uuid) {
        return 0;
    }
    let taken = dump.head.stamp;
    let taken = Stamp { generation: taken.generation, sequence: taken.sequence };
    let mut blocks = 0;
    for (index, slot) in &found.slots {
        let page = found.pages.get(index.page().0 as usize);
        let later = page.and_then(|page| page.judged.ok()).is_some_and(|page| page.stamp > taken);
        if slot.main.is_none() || !later {
            continue;
        }
        let at = slots.iter().position(|known| known.main == slot.main).unwrap_or(slots.len());
        if at == slots.len() {
            let (main, states, cause) = (slot.main, States::ALL_MAIN, Cause::Restore);
            slots.push(Slot { main, states, cause, time: slot.time, ..Slot::FREE });
        }
        let known = slots[at].states;
        let there = slot.states.mask(BlockState::Spare) | slot.states.mask(BlockState::Gone);
        blocks += u64::from((there & !known.mask(BlockState::Gone)).count_ones());
        slots[at].states = known.with(there, BlockState::Gone);
    }
    blocks
}

/// The layout of a table for as many entries as the dump's had.
fn layout(args: &Args, dump: &Dump, spare: &dyn Device) -> Outcome<Layout> {
    let geometry = spare.geometry();
    let make = match args.force.contains(&Force::PhysicalBlock) {
        true => Layout::new_forced,
        false => Layout::new,
    };
    let most = Some(dump.head.spare.max_entries);
    make(geometry.sectors, geometry.physical_block, most).map_err(|error| {
        let what = format!("{}: {}", escaped_bytes(&args.spare), error.word());
        Failure::new(Class::Missing, what)
            .with_next("dmremap restore --spare OTHER_DEV --main DEV FILE")
    })
}

/// A refusal, with the command to be typed where main was the reason.
fn refused(args: &Args, error: VolumeError) -> Failure {
    let (spare, main) = (spec::word(&args.spare), spec::word(&args.main));
    let file = spec::word(&args.file.to_string_lossy());
    let next = match &error {
        VolumeError::Main { judgement: Judgement::Ask(_), .. } => {
            format!("dmremap restore --spare {spare} --main {main} {file} --accept-main=same")
        }
        VolumeError::Main { .. } | VolumeError::Size { .. } => {
            format!("dmremap restore --spare {spare} --main DEV {file}")
        }
        VolumeError::Occupied { .. } => {
            format!("dmremap restore --spare OTHER_DEV --main {main} {file}")
        }
        _ => return error.into(),
    };
    Failure::from(error).with_next(next)
}
