// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The demo: a failing disk made of a file, adopted, written to, killed, reopened, compared.
//!
//! Everything is done the way a person would: this program is called for every step, the volume is
//! reached through NBD. The demo itself only keeps count of what was acknowledged ([`model`]) and
//! compares. It succeeds if every byte is right and none of its counts is zero.

mod client;
mod corpus;
mod damage;
mod model;
mod sabotage;
mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::escape::escaped;
use crate::failure::{Class, Failure, Outcome};
use crate::report::Status;
use crate::units::{count, size};

use client::Written;
use damage::Run;
use model::{Compared, Model, SECTOR};
use server::{Server, Workshop, dmremap};

/// What the command line asks for.
pub struct Options {
    /// Files of this folder instead of the toolchain's.
    pub folder: Option<PathBuf>,
    /// Drop one entry of the table.
    pub sabotage: bool,
    /// Work here and leave it.
    pub keep: Option<PathBuf>,
}

const MAIN: &str = "faulty:main.img?map=bad-areas.map";
const SPARE: &str = "spare.img";
const SPARE_BYTES: u64 = 64 << 20;
const NAME: &str = "demo";
/// The most times it is tried to kill the server with writes under way.
const KILLS: u64 = 5;

/// Runs it.
pub fn run(options: &Options) -> Outcome<()> {
    let start = Instant::now();
    let workshop = Arc::new(Workshop::open(options.keep.as_deref(), 2 * corpus::WANTED_BYTES)?);
    remove_when_interrupted(&workshop)?;
    let _removed = RemoveAtTheEnd(&workshop);
    println!("working in {}", escaped(workshop.path()));
    let told = Demo::prepare(workshop.path(), options)?.play(options.sabotage)?;
    println!("\n{told}");
    println!("It took {:.1} s.", start.elapsed().as_secs_f64());
    if options.keep.is_some() {
        println!("The images are kept in {}.", escaped(workshop.path()));
    }
    Ok(())
}

/// The signal's thread holds the workshop too, so its end is not the last owner's.
struct RemoveAtTheEnd<'a>(&'a Workshop);

impl Drop for RemoveAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Removes the folder if a signal ends the demo early.
fn remove_when_interrupted(workshop: &Arc<Workshop>) -> Outcome<()> {
    let workshop = Arc::clone(workshop);
    crate::signals::on_stop(move || {
        workshop.remove();
        std::process::exit(130);
    })
}

struct Demo {
    folder: PathBuf,
    model: Model,
    runs: Vec<Run>,
}

impl Demo {
    /// Makes the image, its bad areas and the spare.
    fn prepare(folder: &Path, options: &Options) -> Outcome<Demo> {
        let failed = |path: &Path, error| Failure::io("create", path, &error);
        let path = folder.join("main.img");
        let mut image = File::create(&path).map_err(|error| failed(&path, error))?;
        let mut model = Model::default();
        let sources = corpus::sources(options.folder.as_deref())?;
        let corpus = corpus::gather(&sources, &mut image, &mut model)?;
        image.sync_all().map_err(|error| failed(&path, error))?;
        let bytes = size(corpus.bytes);
        println!("a disk: {} with {bytes} in main.img", count(corpus.files, "file", "files"));
        let runs = damage::runs(model.sectors());
        damage::declare(&runs, &mut model);
        let path = folder.join("bad-areas.map");
        let map = damage::mapfile(&runs, model.sectors());
        std::fs::write(&path, map).map_err(|error| failed(&path, error))?;
        let bad: u64 = runs.iter().map(|run| run.sectors).sum();
        let lost = model.unreadable();
        println!(
            "it is dying: {bad} bad sectors in {} runs, {lost} of them unreadable",
            runs.len()
        );
        let path = folder.join(SPARE);
        let spare = File::create(&path).and_then(|file| file.set_len(SPARE_BYTES));
        spare.map_err(|error| failed(&path, error))?;
        Ok(Demo { folder: folder.to_path_buf(), model, runs })
    }

    /// The whole play; what it came to.
    fn play(mut self, sabotage: bool) -> Outcome<String> {
        heading("A spare is added");
        let folder = self.folder.clone();
        let format = ["format", "--main", MAIN, "--spare", SPARE, "--name", NAME, "--yes"];
        print!("{}", dmremap(&folder, &format)?);

        heading("Everything is read through the volume");
        let server = Server::start(&folder, &["serve", "--spare", SPARE])?;
        let before = self.compare()?;
        self.report("as it is adopted", &before)?;

        let (mut server, mut moves, mut round) = (server, 0, 1);
        let (first, after_kill) = loop {
            heading("Bad blocks are overwritten, and the server is killed");
            let (first, moved) = self.write_and_kill(server, round)?;
            moves += moved;
            if sabotage {
                let sector = sabotage::drop_one_entry(&folder.join(SPARE), &self.model)?;
                println!("SABOTAGE: the entry of main sector {sector} is gone from the table");
            }
            heading("It is opened again from the spare, and compared");
            server = Server::start(&folder, &["serve", "--spare", SPARE])?;
            let after_kill = self.compare()?;
            self.report("after the kill", &after_kill)?;
            round += 1;
            // On a busy machine the last answers may have come before the signal: once more.
            if first.cut_off > 0 || round > KILLS {
                break (first, after_kill);
            }
        };

        heading("The rest of the bad blocks is overwritten");
        let client = client::connect(&self.socket())?;
        let edits = damage::edits(&self.runs, round);
        let second = client::write_all(&client, &edits, &mut self.model, None)?;
        let flushed = client.flush();
        flushed.map_err(|error| Failure::new(Class::Internal, format!("the flush: {error}")))?;
        drop(client);
        let at_the_end = self.compare()?;
        self.report("at the end", &at_the_end)?;

        heading("How it is now");
        let status = dmremap(&folder, &["status", NAME, "--json"])?;
        let status: Status = serde_json::from_str(&status)
            .map_err(|error| Failure::new(Class::Internal, format!("status --json: {error}")))?;
        print!("{}", status.screen());
        moves += server.stop()?;
        let checked = dmremap(&folder, &["check", "--spare", SPARE])?;
        print!("{checked}");
        self.verdict(&[before, after_kill, at_the_end], &[first, second], moves, &status)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run").join(format!("{NAME}.nbd"))
    }

    fn compare(&mut self) -> Outcome<Compared> {
        let client = client::connect(&self.socket())?;
        client::compare_all(&client, &mut self.model)
    }

    fn report(&self, when: &str, found: &Compared) -> Outcome<()> {
        println!(
            "  {when}: {} compared and right, {} sectors unreadable as declared",
            size(found.right * SECTOR),
            found.unreadable
        );
        match found.first_wrong {
            None => Ok(()),
            Some(first) => {
                let (wrong, sectors) = (found.wrong, count(found.wrong, "sector", "sectors"));
                let what = format!("{sectors} WRONG {when} ({wrong} x 512 bytes), first {first}");
                Err(Failure::new(Class::Internal, what))
            }
        }
    }

    /// Overwrites bad blocks and healthy ones, and kills the server with many writes under way.
    fn write_and_kill(&mut self, server: Server, round: u64) -> Outcome<(Written, u64)> {
        let client = client::connect(&self.socket())?;
        let edits = damage::edits(&self.runs, round);
        let half = edits.len() as u64 / 2;
        let (mut server, mut moved) = (Some(server), 0);
        let mut kill = || {
            println!("  SIGKILL with writes under way");
            moved = server.take().map_or(Ok(0), Server::kill)?;
            Ok(())
        };
        let first = client::write_all(&client, &edits, &mut self.model, Some((half, &mut kill)))?;
        let (acknowledged, cut) = (first.acknowledged, first.cut_off);
        println!("  {acknowledged} writes acknowledged, {cut} under way when it died");
        println!("  {} sectors are in doubt: before or after, both are right", self.model.doubts());
        Ok((first, moved))
    }

    /// The closing counts; a failure if one of them shows that something was not tried.
    fn verdict(
        &self,
        compared: &[Compared; 3],
        written: &[Written; 2],
        moves: u64,
        status: &Status,
    ) -> Outcome<String> {
        let bytes: u64 = compared.iter().map(Compared::bytes).sum();
        let acknowledged: u64 = written.iter().map(|w| w.acknowledged).sum();
        let failed: u64 = written.iter().map(|w| w.failed).sum();
        let in_flight = written.iter().map(|w| w.most_in_flight).max().unwrap_or(0) as u64;
        for (what, number, least) in [
            ("bytes compared", bytes, 1),
            ("bad runs", self.runs.len() as u64, 50),
            ("unreadable sectors met", compared[0].unreadable, 1),
            ("writes acknowledged", acknowledged, 1),
            ("writes in flight at once", in_flight, 16),
            ("writes under way at the kill", written[0].cut_off as u64, 1),
            ("moves shown", moves, 1),
            ("blocks moved", status.remapped_blocks, 1),
        ] {
            if number < least {
                let what =
                    format!("{what}: {number}, at least {least} are needed to prove anything");
                return Err(Failure::new(Class::Internal, what));
            }
        }
        if failed > 0 || self.model.unreadable() > 0 || compared[2].unreadable > 0 {
            let left = self.model.unreadable();
            let what = format!("{failed} writes failed, {left} sectors were never made good");
            return Err(Failure::new(Class::Internal, what));
        }
        Ok(format!(
            "Every acknowledged byte is right: {} ({bytes} bytes) compared, 0 wrong.\n\
             {acknowledged} writes acknowledged, up to {in_flight} in flight; {moves} moves shown; \
             {} cut off by SIGKILL.",
            size(bytes),
            count(written[0].cut_off as u64, "write", "writes"),
        ))
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}
