// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `format`: makes a volume. Main is only read; all of the spare is overwritten.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dmremap_engine::{Device, FormatOptions, Formatted, OpenOptions, format as make};
use dmremap_format::{COPIES, CopyMask, PAGE_BYTES, Refusal, UNIT_SECTORS, is_volume_name};
use serde_json::{Value, json};

use crate::advice::{Advice, of_spare};
use crate::args::{Force, Format};
use crate::config::{Config, Volume};
use crate::confirm::confirm;
use crate::context::Context;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::newfile::NewFile;
use crate::remedy::again_with;
use crate::report::{FORMAT_VERSION, uuid_text};
use crate::survey::identify;
use crate::topology::Host;
use crate::units::{sectors, size};
use crate::{output, spec, users};

/// What `--strict-spare-size` asks for, in percent of main: what a whole main needs to move.
const STRICT_PERCENT: u64 = 105;

/// What is going to be made, and of what.
struct Plan<'a> {
    args: &'a Format,
    name: String,
    spare: &'a str,
    main_device: Arc<dyn Device>,
    spare_device: Arc<dyn Device>,
    options: FormatOptions,
    made: Formatted,
    advice: Vec<Advice>,
}

/// `format`
pub fn format(context: &Context, args: &Format) -> Outcome<ExitCode> {
    let config = context.config()?;
    let spare = args.create_spare.as_ref().or(args.spare.as_ref());
    let spare = spare.ok_or_else(|| Failure::new(Class::Usage, "which spare?"))?;
    let name = name(args)?;
    spec::apart(&args.main, spare)?;
    check_claims(&config, args, spare, &name)?;
    // Declared before the devices, so that the file is closed before it is removed.
    let new = match (&args.create_spare, args.size) {
        (Some(path), Some(bytes)) => Some(NewFile::create(Path::new(path), bytes, !args.dry_run)?),
        _ => None,
    };
    let mut plan = Plan::make(args, spare, name)?;
    if !args.json {
        output::print(&plan.text())?;
    }
    for advice in &plan.advice {
        eprintln!("{}: {}", advice.kind, advice.text);
    }
    if args.dry_run {
        plan.finish("Nothing has been changed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if new.is_none() {
        confirm(
            &format!("Everything on {} will be lost.", escaped_bytes(spare)),
            "format",
            args.yes,
        )?;
    }
    plan.options.dry_run = false;
    plan.made = make(&plan.main_device, &plan.spare_device, &plan.options)?;
    config.save(&Volume {
        uuid: uuid_text(plan.made.volume),
        name: plan.name.clone(),
        main: spec::absolute(&args.main).into(),
        spare: spec::absolute(spare).into(),
    })?;
    if let Some(new) = new {
        new.keep();
    }
    plan.finish(&format!(
        "Volume \"{}\" ({}) is made. Next: dmremap serve --spare {}\n",
        plan.name,
        uuid_text(plan.made.volume),
        spec::word(spare)
    ))?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Plan<'a> {
    /// Opens both devices and checks everything that can be checked without a change.
    fn make(args: &'a Format, spare: &'a str, name: String) -> Outcome<Plan<'a>> {
        let forced = |what| args.force.contains(&what);
        let open = |path: &str, read_only| {
            let force_buffered = forced(Force::Buffered);
            let options = OpenOptions { read_only, force_buffered, ..OpenOptions::default() };
            users::open(path, &options)
        };
        let spare_device = open(spare, args.dry_run)?;
        let main_device = open(&args.main, true)?;
        let options = FormatOptions {
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
        if !forced(Force::Volume) {
            check_no_spare(&args.main, main_device.as_ref())?;
        }
        let made = make(&main_device, &spare_device, &options)?;
        let backing = spare_device.geometry().backing;
        let advice = of_spare(&Host::default(), &args.main, spare, backing);
        let plan = Plan { args, name, spare, main_device, spare_device, options, made, advice };
        plan.check_size()?;
        Ok(plan)
    }

    /// `--strict-spare-size`
    fn check_size(&self) -> Outcome<()> {
        let own = self.spare_device.sectors();
        let needed = strict_sectors(self.made.main_sectors);
        if !self.args.strict_spare_size || own >= needed {
            return Ok(());
        }
        let what = format!(
            "{} has {own} sectors ({}), --strict-spare-size asks for {STRICT_PERCENT} % of main, \
             which is {needed} sectors ({}); without it a small spare will do",
            escaped_bytes(self.spare),
            sectors(own),
            sectors(needed),
        );
        let next = "dmremap format --main DEV --spare DEV";
        Err(Failure::new(Class::Refused, what).with_next(next))
    }

    /// Units that can be moved at once.
    fn room_units(&self) -> u64 {
        self.made.layout.spare_units().min(u64::from(self.made.layout.max_entries()))
    }

    /// Physical blocks of main that can be moved at once, each alone in its units.
    fn room_blocks(&self) -> u64 {
        let unit = PAGE_BYTES as u32;
        self.room_units() / u64::from(self.main_device.physical_block().div_ceil(unit).max(1))
    }

    /// Bytes of the table in all its copies.
    fn table_bytes(&self) -> u64 {
        u64::from(self.made.layout.pages()) * (PAGE_BYTES * COPIES) as u64
    }

    fn text(&self) -> String {
        let Formatted { layout, main_sectors, block_bytes, .. } = &self.made;
        let room = self.room_units() * UNIT_SECTORS;
        format!(
            "volume \"{}\": main {} ({} in blocks of {block_bytes} bytes), which keeps every byte\n\
             spare {} ({}): {room} sectors ({}) to move to, in {} units; room for {} bad physical \
             blocks of {} bytes\n\
             table of {} entries ({} in five copies)\n",
            self.name,
            escaped_bytes(&self.args.main),
            sectors(*main_sectors),
            escaped_bytes(self.spare),
            sectors(layout.spare_sectors()),
            sectors(room),
            self.room_units(),
            self.room_blocks(),
            self.main_device.physical_block(),
            layout.max_entries(),
            size(self.table_bytes()),
        )
    }

    fn json(&self) -> Value {
        let Formatted { layout, main_sectors, block_bytes, .. } = &self.made;
        let made = !self.args.dry_run;
        let uuid = |uuid| made.then(|| uuid_text(uuid));
        json!({
            "format_version": FORMAT_VERSION,
            "made": made,
            "name": self.name,
            "uuid": uuid(self.made.volume),
            "block_size": block_bytes,
            "size_sectors": main_sectors,
            "main": { "path": self.args.main, "physical_block": self.main_device.physical_block() },
            "spare": {
                "path": self.spare,
                "uuid": uuid(self.made.spare),
                "created": self.args.create_spare.is_some(),
                "sectors": layout.spare_sectors(),
                "data_start": layout.data_start(),
                "units": layout.spare_units(),
            },
            "max_entries": layout.max_entries(),
            "room_sectors": self.room_units() * UNIT_SECTORS,
            "room_blocks": self.room_blocks(),
            "table_bytes": self.table_bytes(),
            "advice": self.advice,
        })
    }

    /// The last words, or the document.
    fn finish(&self, words: &str) -> Outcome<()> {
        if self.args.json { output::print_json(&self.json()) } else { output::print(words) }
    }
}

/// The smallest spare that `--strict-spare-size` takes.
fn strict_sectors(main_sectors: u64) -> u64 {
    let needed = (u128::from(main_sectors) * u128::from(STRICT_PERCENT)).div_ceil(100);
    u64::try_from(needed).unwrap_or(u64::MAX)
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

/// Refuses a main that is the spare of a volume: what is written to it would go over blocks that
/// live there and nowhere else.
fn check_no_spare(main: &str, device: &dyn Device) -> Outcome<()> {
    match identify(device) {
        Err(Refusal::Fenced { .. } | Refusal::TooFewValid { valid: CopyMask(0), .. }) => Ok(()),
        _ => {
            let main = escaped_bytes(main);
            let what =
                format!("{main}: is the spare of a dm-remap volume, whose blocks live there");
            Err(Failure::new(Class::Refused, what).with_next(again_with("--force=volume")))
        }
    }
}

/// What the local configuration has to say: a device that belongs to a volume already, or a name.
fn check_claims(config: &Config, args: &Format, spare: &str, name: &str) -> Outcome<()> {
    for known in config.volumes()? {
        let (its_main, its_spare) = (known.main.to_string_lossy(), known.spare.to_string_lossy());
        let replaced = spec::same(&its_spare, spare);
        let claimed = spec::same(&its_main, &args.main);
        let named = escaped_bytes(known.name.as_str());
        let claims = [
            (&args.main[..], &its_main, "main", replaced),
            (&args.main, &its_spare, "spare", false),
            (spare, &its_main, "main", false),
        ];
        for (device, known, role, allowed) in claims {
            if spec::same(known, device) && !allowed && !args.force.contains(&Force::Claimed) {
                let device = escaped_bytes(device);
                let what =
                    format!("{device} is {role} of \"{named}\" already, unless that is given up");
                let next = again_with("--force=claimed");
                return Err(Failure::new(Class::Refused, what).with_next(next));
            }
        }
        // A main that is given up takes its volume's name with it.
        if known.name == name && !replaced && !claimed {
            let what = format!("the local configuration has a volume \"{named}\" already");
            return Err(Failure::new(Class::Busy, what).with_next(again_with("--name=OTHER")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_105_percent_rounded_up() {
        for (main, spare) in [(0, 0), (100, 105), (20, 21), (1, 2), (101, 107), (200_000, 210_000)]
        {
            assert_eq!(strict_sectors(main), spare);
        }
        assert_eq!(strict_sectors(u64::MAX), u64::MAX);
    }
}
