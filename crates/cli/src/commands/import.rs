// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `import`: bad areas of main, as others have written them down. The file is read once and
//! counted; then a running volume is told line by line, and one that does not run is opened on its
//! spare alone. (The tables of old spares are in [`super::legacy`].)

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dmremap_core::Marked;
use dmremap_core::message::MarkKind;
use dmremap_engine::{OpenOptions, Volume, VolumeOptions, open_device};
use serde_json::Value;

use super::legacy;
use crate::areas::{self, Form, MainIs};
use crate::args::{Import, ImportFormat, MainKind, Target};
use crate::at_rest;
use crate::confirm::confirm;
use crate::context::Context;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::marking::Plan;
use crate::output;
use crate::running;
use crate::spec;
use crate::view::View;

/// `import`
pub fn import(context: &Context, args: &Import) -> Outcome<ExitCode> {
    let (target, file) = args.place.split("import")?;
    let Some(file) = file else {
        let what = "import: from which file?";
        return Err(
            Failure::new(Class::Usage, what).with_next("dmremap import NAME --format mapfile FILE")
        );
    };
    if matches!(args.format, ImportFormat::V3 | ImportFormat::V4real) {
        return legacy::import(context, args, &target, &file);
    }
    let main = match args.main_is {
        Some(MainKind::Original) => MainIs::Original,
        Some(MainKind::Copy) | None => MainIs::Copy,
    };
    let kind = if main == MainIs::Original { MarkKind::Pending } else { MarkKind::Gone };
    if kind == MarkKind::Pending && target.spare.is_some() {
        let what = "pending marks live in the memory of a running volume";
        return Err(Failure::new(Class::Usage, what)
            .with_next("dmremap import NAME --format mapfile --main-is original FILE"));
    }
    let form = form(args)?;
    let at = Place::of(context, &target)?;
    let view = at.view()?;
    let runs = areas::read(Path::new(&file), form, main, &view)?;
    let plan = Plan::new(&view, kind, runs)?;
    if !args.json {
        output::print(&format!("{}\n", plan.words()))?;
    }
    if args.dry_run {
        return shown(args, plan.document(), "Nothing has been changed.\n");
    }
    if kind == MarkKind::Gone && plan.marked() > 0 {
        let what = format!(
            "What main holds in these blocks of \"{}\" will be given up, with everything that was \
             written to them on main since the map was made.",
            escaped_bytes(&view.name)
        );
        confirm(&what, "gone", args.yes)?;
    }
    let marked = at.mark(&plan)?;
    let mut document = plan.document();
    document["marked"] = marked.marked.into();
    document["on_spare"] = marked.on_spare.into();
    document["gone"] = marked.gone.into();
    document["dropped"] = marked.dropped.into();
    let mut words = format!("Marked {}: {} blocks.", kind.word(), marked.marked);
    if marked.dropped > 0 {
        words += &format!(" {} more found no place; the disk will say so itself.", marked.dropped);
    }
    shown(args, document, &(words + "\n"))
}

fn shown(args: &Import, document: Value, words: &str) -> Outcome<ExitCode> {
    if args.json {
        output::print_json(&document)?
    } else {
        output::print(words)?
    }
    Ok(ExitCode::SUCCESS)
}

fn form(args: &Import) -> Outcome<Form> {
    match (args.format, args.block_size) {
        (ImportFormat::Mapfile, None) => Ok(Form::Mapfile),
        (ImportFormat::Json, None) => Ok(Form::Json),
        (ImportFormat::Badblocks, Some(bytes)) => Ok(Form::Badblocks(bytes)),
        (ImportFormat::Badblocks, None) => {
            let what = "a badblocks list does not say how large its blocks are; badblocks(8) takes \
                        1024 bytes unless it is told";
            Err(Failure::new(Class::Usage, what)
                .with_next("dmremap import NAME --format badblocks --block-size 1024 FILE"))
        }
        _ => {
            let what =
                "--block-size is for --format badblocks: the other formats say it themselves";
            Err(Failure::new(Class::Usage, what)
                .with_next("dmremap import NAME --format mapfile FILE"))
        }
    }
}

/// Where the volume is met.
enum Place {
    Running(PathBuf),
    AtRest(String),
}

impl Place {
    fn of(context: &Context, target: &Target) -> Outcome<Place> {
        Ok(match &target.spare {
            Some(spare) => Place::AtRest(spare.clone()),
            None => Place::Running(context.target(target)?),
        })
    }

    fn view(&self) -> Outcome<View> {
        match self {
            Place::Running(path) => running::view(path),
            Place::AtRest(spare) => at_rest::view(spare, false),
        }
    }

    fn mark(&self, plan: &Plan) -> Outcome<Marked> {
        match self {
            Place::Running(path) => running::tell(path, &plan.lines()),
            Place::AtRest(spare) => mark_at_rest(spare, plan),
        }
    }
}

/// Opens the volume on its spare alone, marks, and closes it.
fn mark_at_rest(spare: &str, plan: &Plan) -> Outcome<Marked> {
    let device = open_device(spare, &OpenOptions::default())?;
    // As it is now that nobody else can change it.
    let view = at_rest::view(spare, false)?;
    let sizes = (view.size_sectors, view.block_size);
    let options = VolumeOptions::default();
    let volume = Volume::open_without_main(sizes, device, &options, |_| {})?;
    let marked = volume.mark(plan.kind, &plan.runs);
    let clean = volume.close();
    let marked = marked.map_err(|error| {
        let next = format!("dmremap check --spare {}", spec::word(spare));
        Failure::new(Class::Refused, error).with_next(next)
    })?;
    if !clean {
        let what = "everything is marked, but the volume could not be closed cleanly";
        let next = format!("dmremap check --spare {}", spec::word(spare));
        return Err(Failure::new(Class::Internal, what).with_next(next));
    }
    Ok(marked)
}
