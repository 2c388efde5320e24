// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `format`: makes a volume. Main is only read; all of the spare is overwritten.

use std::process::ExitCode;

use dmremap_engine::{FormatOptions, Formatted, OpenOptions, format as make, open_device};
use dmremap_format::{COPIES, PAGE_BYTES, SECTOR_BYTES, is_volume_name};

use super::Context;
use crate::advice::again_with;
use crate::args::{Force, Format};
use crate::config::{Config, Volume};
use crate::confirm::confirm;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::report::uuid_text;
use crate::spec;
use crate::units::{sectors, size};

/// `format`
pub fn format(context: &Context, args: &Format) -> Outcome<ExitCode> {
    let config = context.config()?;
    let name = name(args)?;
    spec::apart(&args.main, &args.spare)?;
    check_claims(&config, args, &name)?;
    let forced = |what| args.force.contains(&what);
    let open = |path: &str, read_only| {
        let force_buffered = forced(Force::Buffered);
        let options = OpenOptions { read_only, force_buffered, ..OpenOptions::default() };
        open_device(path, &options)
    };
    let spare = open(&args.spare, args.dry_run)?;
    let main = open(&args.main, true)?;
    let mut options = FormatOptions {
        name: name.clone(),
        block_size: args.block_size,
        max_entries: args.max_remaps,
        hint: spec::absolute(&args.main),
        force_foreign: forced(Force::ForeignSignature),
        force_volume: forced(Force::Volume),
        force_physical_block: forced(Force::PhysicalBlock),
        dry_run: true,
        ..FormatOptions::default()
    };
    let planned = make(&main, &spare, &options)?;
    check_size(args, &planned)?;
    output::print(&plan(args, &name, &planned))?;
    if args.dry_run {
        output::print("Nothing has been changed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!("Everything on {} will be lost.", escaped_bytes(&args.spare));
    confirm(&what, "format", args.yes)?;
    options.dry_run = false;
    let made = make(&main, &spare, &options)?;
    config.save(&Volume {
        uuid: uuid_text(made.volume),
        name: name.clone(),
        main: spec::absolute(&args.main).into(),
        spare: spec::absolute(&args.spare).into(),
    })?;
    output::print(&format!(
        "Volume \"{name}\" ({}) is made. Next: dmremap serve --spare {}\n",
        uuid_text(made.volume),
        spec::word(&args.spare)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The name given, or one made from main's.
fn name(args: &Format) -> Outcome<String> {
    match &args.name {
        Some(name) if is_volume_name(name.as_bytes()) => Ok(name.clone()),
        Some(name) => {
            let what = format!("\"{}\" is no name for a volume", escaped_bytes(name));
            let legal = "1 to 64 of the characters A-Z a-z 0-9 _ . -, not \"control\", not \
                         beginning with . or -";
            let failure = Failure::new(Class::Usage, format!("{what}: {legal}"));
            Err(failure.with_next(again_with("--name=NAME")))
        }
        None => Ok(spec::volume_name(&args.main)),
    }
}

/// What the local configuration has to say: a main that belongs to a volume already, or a name.
fn check_claims(config: &Config, args: &Format, name: &str) -> Outcome<()> {
    for known in config.volumes()? {
        let replaced = spec::same(&known.spare.to_string_lossy(), &args.spare);
        let main = known.main.to_string_lossy();
        let named = escaped_bytes(known.name.as_str());
        if spec::same(&main, &args.main) && !replaced && !args.force.contains(&Force::Claimed) {
            let main = escaped_bytes(&args.main);
            let what = format!("{main} is main of \"{named}\" already, unless that is given up");
            let next = again_with("--force=claimed");
            return Err(Failure::new(Class::Refused, what).with_next(next));
        }
        if known.name == name && !replaced {
            let what = format!("the local configuration has a volume \"{named}\" already");
            return Err(Failure::new(Class::Busy, what).with_next(again_with("--name=OTHER")));
        }
    }
    Ok(())
}

/// `--strict-spare-size`: room for as many units as the table has entries.
fn check_size(args: &Format, planned: &Formatted) -> Outcome<()> {
    let (units, entries) = (planned.layout.spare_units(), planned.layout.max_entries());
    if args.strict_spare_size && units < u64::from(entries) {
        let what = format!("the spare holds {units} units, less than {entries}");
        return Err(Failure::new(Class::Refused, what)
            .with_next(again_with(&format!("--max-remaps={units}"))));
    }
    Ok(())
}

/// What is going to be made, with both sizes.
fn plan(args: &Format, name: &str, planned: &Formatted) -> String {
    let layout = &planned.layout;
    let units = layout.spare_units();
    let room = sectors(units * (PAGE_BYTES as u64 / SECTOR_BYTES));
    let table = u64::from(layout.pages()) * (PAGE_BYTES * COPIES) as u64;
    format!(
        "volume \"{name}\": main {} ({} in blocks of {} bytes), which keeps every byte\n\
         spare {}: {units} units to move to ({room}), {} table entries ({} in five copies)\n",
        escaped_bytes(&args.main),
        sectors(planned.main_sectors),
        planned.block_bytes,
        escaped_bytes(&args.spare),
        layout.max_entries(),
        size(table),
    )
}
