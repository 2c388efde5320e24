// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `import --format v3|v4real`: the table of a spare of an earlier generation.
//!
//! Its entries say that the content of a sector of main lies on a sector of that spare; what main
//! itself holds there is an old version. So the content is read from the old spare, all of it
//! before anything is changed, and written into the running volume as any client writes: what main
//! cannot take is moved by the volume itself. What the old spare cannot read, and what damaged
//! entries are about, exists nowhere any more for all that can be known: gone.

use std::process::ExitCode;

use dmremap_core::message::MarkKind;
use dmremap_engine::{Device, OpenOptions, SectorRun, open_device};
use dmremap_format::legacy::{
    EntryFault, LegacyEntry, LegacyFault, LegacyTable, V3_BYTES, V4_REAL_BYTES, v4_real_sector,
};
use dmremap_format::{CopyIndex, PAGE_BYTES, SECTOR_BYTES};
use dmremap_nbd::Client;
use serde_json::json;

use crate::args::{Force, Import, ImportFormat, Target};
use crate::confirm::confirm;
use crate::context::Context;
use crate::escape::{escaped, escaped_bytes};
use crate::failure::{Class, Failure, Outcome};
use crate::marking::Plan;
use crate::remedy::again_with;
use crate::report::FORMAT_VERSION;
use crate::running;
use crate::view::View;
use crate::{output, spec};

/// What an old table comes to.
struct Found {
    /// Sectors of main whose content was read.
    good: Vec<(u64, Vec<u8>)>,
    /// Sectors the old spare could not read.
    unreadable: Vec<LegacyEntry>,
    /// Entries that cannot be right.
    damaged: Vec<(LegacyEntry, EntryFault)>,
}

/// `import NAME --format v3|v4real FILE|DEV`
pub fn import(context: &Context, args: &Import, target: &Target, from: &str) -> Outcome<ExitCode> {
    let next = format!("dmremap import NAME --format v4real {}", spec::word(from));
    if target.spare.is_some() {
        let what = "an old table is written into a running volume: serve it first";
        return Err(Failure::new(Class::Usage, what).with_next(next));
    }
    let control = context.target(target)?;
    let view = running::view(&control)?;
    let found = read(args, from, &view)?;
    let gone = found.gone(&view)?;
    if !args.json {
        output::print(&found.words(from))?;
    }
    if args.dry_run {
        return shown(args, &found, "Nothing has been changed.\n");
    }
    let what = format!(
        "{} sectors of \"{}\" will be overwritten with what {} holds, and {} become errors.",
        found.good.len(),
        escaped_bytes(&view.name),
        escaped_bytes(from),
        gone.marked(),
    );
    confirm(&what, "import", args.yes)?;
    let name = target.name.clone().unwrap_or_else(|| view.name.clone());
    write(context, &name, &found.good)?;
    running::tell(&control, &gone.lines())?;
    shown(args, &found, "Done.\n")
}

fn shown(args: &Import, found: &Found, words: &str) -> Outcome<ExitCode> {
    if !args.json {
        output::print(words)?;
        return Ok(ExitCode::SUCCESS);
    }
    let at =
        |entry: &LegacyEntry| json!({ "main_sector": entry.main, "spare_sector": entry.spare });
    output::print_json(&json!({
        "format_version": FORMAT_VERSION,
        "written": found.good.len(),
        "unreadable": found.unreadable.iter().map(at).collect::<Vec<_>>(),
        "damaged": found.damaged.iter().map(|(entry, fault)| {
            let mut value = at(entry);
            value["fault"] = fault.word().into();
            value
        }).collect::<Vec<_>>(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads table and content, and checks that they are this volume's main's.
fn read(args: &Import, from: &str, view: &View) -> Outcome<Found> {
    let device = open_device(from, &OpenOptions::examine())?;
    let next = format!("dmremap examine {}", spec::word(from));
    let refused = |class, why: String| {
        let what = format!("{}: {why}; nothing was done", escaped_bytes(from));
        Failure::new(class, what).with_next(&next)
    };
    let fault = |fault: LegacyFault| refused(Class::Missing, fault.word().to_owned());
    let whole = |len: usize| len.next_multiple_of(PAGE_BYTES);
    let bytes = |sector: u64, len: usize| {
        let mut bytes = vec![0; whole(len)];
        device.read_uncached(&mut bytes, sector * SECTOR_BYTES).ok().map(|()| bytes)
    };
    let copies: [Option<Vec<u8>>; 5];
    let table = match args.format {
        ImportFormat::V3 => {
            copies = [bytes(0, V3_BYTES), None, None, None, None];
            LegacyTable::v3(copies[0].as_deref().unwrap_or(&[])).map_err(fault)?
        }
        _ => {
            copies = CopyIndex::ALL.map(|copy| bytes(v4_real_sector(copy), V4_REAL_BYTES));
            LegacyTable::v4_real_best(copies.each_ref().map(Option::as_deref)).map_err(fault)?
        }
    };
    if !table.is_verified() && !args.force.contains(&Force::Unverified) {
        let why = "a v3 table has no checksum that could prove it";
        return Err(
            refused(Class::Refused, why.to_owned()).with_next(again_with("--force=unverified"))
        );
    }
    if table.main_sectors() != view.size_sectors {
        let (table, volume) = (table.main_sectors(), view.size_sectors);
        let why = format!("its main has {table} sectors, the volume has {volume}");
        return Err(refused(Class::Refused, why));
    }
    if u64::from(view.block_size) != SECTOR_BYTES {
        let why = "it moved single sectors, and the volume's blocks are larger";
        return Err(refused(Class::Refused, why.to_owned()));
    }
    Ok(Found::read(&table, device.as_ref()))
}

impl Found {
    fn read(table: &LegacyTable<'_>, device: &dyn Device) -> Found {
        let mut found = Found { good: Vec::new(), unreadable: Vec::new(), damaged: Vec::new() };
        for (entry, fault) in table.entries() {
            match fault {
                Some(fault) => found.damaged.push((entry, fault)),
                None => match sector(device, entry.spare) {
                    Some(bytes) => found.good.push((entry.main, bytes)),
                    None => found.unreadable.push(entry),
                },
            }
        }
        found
    }

    /// What becomes gone: counted against the table of the volume.
    fn gone(&self, view: &View) -> Outcome<Plan> {
        let damaged = self.damaged.iter().map(|(entry, _)| entry);
        let all = self.unreadable.iter().chain(damaged).map(|entry| entry.main);
        let mut sectors: Vec<u64> = all.filter(|sector| *sector < view.size_sectors).collect();
        sectors.sort_unstable();
        sectors.dedup();
        let runs = sectors.into_iter().map(|sector| SectorRun { sector, sectors: 1 }).collect();
        Plan::new(view, MarkKind::Gone, runs)
    }

    fn words(&self, from: &str) -> String {
        let mut words = format!(
            "{}: {} sectors to be written; {} cannot be read there; {} entries are damaged\n",
            escaped_bytes(from),
            self.good.len(),
            self.unreadable.len(),
            self.damaged.len(),
        );
        let unread = self.unreadable.iter().map(|entry| (entry, "cannot be read"));
        let damaged = self.damaged.iter().map(|(entry, fault)| (entry, fault.word()));
        for (entry, why) in unread.chain(damaged) {
            let LegacyEntry { main, spare } = entry;
            words += &format!("  main sector {main} on spare sector {spare}: {why}, gone\n");
        }
        words
    }
}

/// One sector of a device whose blocks may be larger.
fn sector(device: &dyn Device, at: u64) -> Option<Vec<u8>> {
    let block = u64::from(device.logical_block());
    let start = at.checked_mul(SECTOR_BYTES)? / block * block;
    let mut bytes = vec![0; block as usize];
    device.read_uncached(&mut bytes, start).ok()?;
    let inside = (at * SECTOR_BYTES - start) as usize;
    bytes.get(inside..inside + SECTOR_BYTES as usize).map(<[u8]>::to_vec)
}

/// Writes sectors into the volume as a client does, and makes them durable.
fn write(context: &Context, name: &str, sectors: &[(u64, Vec<u8>)]) -> Outcome<()> {
    let socket = context.run_dir()?.nbd(name);
    let failed = |what: String| {
        let next = format!("dmremap status {name}");
        Failure::new(Class::Internal, what).with_next(next)
    };
    let client = Client::connect_unix(&socket, name).map_err(|error| {
        failed(format!("cannot connect to {}: {error}; nothing was done", escaped(&socket)))
    })?;
    for (done, (sector, bytes)) in sectors.iter().enumerate() {
        client.write(sector * SECTOR_BYTES, bytes, false).map_err(|error| {
            failed(format!("sector {sector} cannot be written: {error}; {done} were before it"))
        })?;
    }
    client.flush().map_err(|error| failed(format!("the flush failed: {error}")))
}
