// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of `export` and `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Force, Target};
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
                  table      segments for dmsetup create: your data without this software. Stop the \
                  volume\n             first; what is gone or pending is an error segment"
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
    #[arg(long, value_name = "WHAT")]
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
