// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of `export` and `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Force, Target, of};
use crate::failure::{Class, Failure, Outcome};

/// Which volume, and a file. A volume that runs is named first, so the words are told apart by
/// what `--spare` and `--control` leave open.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The running volume's name, unless --spare or --control is given; then the FILE
    #[arg(value_name = "NAME FILE", num_args = 0..=2)]
    pub words: Vec<String>,
    /// Its control socket, instead of the name
    #[arg(long, value_name = "PATH", conflicts_with = "spare")]
    pub control: Option<PathBuf>,
    /// The spare of a volume that does not run, instead of the name
    #[arg(long, value_name = "DEV")]
    pub spare: Option<String>,
}

impl Place {
    /// The volume, and the file if one is named.
    pub fn split(&self, verb: &str) -> Outcome<(Target, Option<String>)> {
        let named = self.control.is_none() && self.spare.is_none();
        let mut words = self.words.iter().cloned();
        let name = if named { words.next() } else { None };
        let file = words.next();
        if (named && name.is_none()) || words.next().is_some() {
            let what = format!("{verb}: which volume, and which file?");
            return Err(Failure::new(Class::Usage, what)
                .with_next(format!("dmremap {verb} NAME --format mapfile FILE")));
        }
        let (control, spare) = (self.control.clone(), self.spare.clone());
        Ok((Target { name, control, spare }, file))
    }
}

/// `export`.
#[derive(Debug, Args)]
#[command(
    override_usage = "dmremap export <NAME|--control PATH|--spare DEV> --format <FORMAT> [FILE]",
    after_help = "Nothing is changed. FILE must not exist yet; without it the text goes to \
                  standard output.\n\nFormats:\n  \
                  mapfile    ddrescue's: gone and pending blocks are '-', the rest is '+'\n  \
                  badblocks  numbers of the blocks with something gone or pending, as e2fsck -l \
                  takes them; in\n             blocks of --block-size bytes, which must be the \
                  file system's, counted from the\n             volume's begin. The file itself \
                  does not say how large they are\n  \
                  json       format_version, name, uuid, size_sectors, block_size, and runs, which \
                  is what\n             list --json writes\n  \
                  table      segments for dmsetup create: your data without this software. Stop \
                  the volume\n             first; what is gone or pending is an error segment"
)]
pub struct Export {
    /// Which volume, and where to.
    #[command(flatten)]
    pub place: Place,
    /// What to write
    #[arg(long)]
    pub format: ExportFormat,
    /// table: main as dmsetup is to be told [default: what the local configuration names]
    #[arg(long, value_name = "DEV")]
    pub main: Option<String>,
    /// badblocks: bytes of a block, 512 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub block_size: u32,
    /// quorum: take a spare with one valid copy of its metadata
    #[arg(long, value_name = "WHAT", value_parser = of(&[Force::Quorum]))]
    pub force: Vec<Force>,
}

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ddrescue's mapfile
    Mapfile,
    /// A list of bad blocks for e2fsck
    Badblocks,
    /// One JSON document
    Json,
    /// Segments for dmsetup
    Table,
}

/// `import`.
#[derive(Debug, Args)]
#[command(
    override_usage = "dmremap import <NAME|--control PATH|--spare DEV> --format <FORMAT> \
                      [--main-is original|copy] <FILE|DEV>",
    after_help = "mapfile, badblocks, json: bad areas of main. On an original main they become \
                  pending: reads\nfail at once instead of after minutes, writes go to the spare; \
                  this needs a volume that runs.\nOn a copy they become gone, an error until \
                  overwritten, since a copy reads zeros there with\nsuccess. Without --main-is \
                  they become gone. A block is bad if a part of it is. What lives on\nthe spare \
                  was written since and stays. Give up nothing that was written to main since: \
                  import\nbefore the volume is used, or use serve --accept-main=copy --mapfile.\n\n\
                  v3, v4real: the table of an old spare, which is read and not changed. What \
                  it moved is\nwritten into the running volume from there; what the old spare \
                  cannot read, and what damaged\nentries are about, becomes gone: main holds an \
                  old version of it."
)]
pub struct Import {
    /// Which volume, and from where.
    #[command(flatten)]
    pub place: Place,
    /// What the file is
    #[arg(long)]
    pub format: ImportFormat,
    /// What main is [default: copy]
    #[arg(long, value_name = "WHAT")]
    pub main_is: Option<MainKind>,
    /// badblocks: bytes of a block, as badblocks -b had it
    #[arg(long, value_name = "BYTES")]
    pub block_size: Option<u32>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// unverified: take a v3 table
    #[arg(long, value_name = "WHAT", value_parser = of(&[Force::Unverified]))]
    pub force: Vec<Force>,
}

/// What an import reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// ddrescue's mapfile
    Mapfile,
    /// A list of badblocks(8)
    Badblocks,
    /// What export or list wrote as JSON
    Json,
    /// A spare of the third generation, or an image of it
    V3,
    /// A spare of the historical v4, or an image of it
    V4real,
}

/// What main is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MainKind {
    /// The disk itself
    Original,
    /// Another disk it was copied onto
    Copy,
}
