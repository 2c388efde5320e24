// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The command line. Sizes and offsets are sectors of 512 bytes unless an option says bytes.

mod changing;
mod demo;
mod format;
mod offline;
mod reading;
mod serve;
mod transfer;
mod writing;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use changing::{Clear, ClearForce, Close, CloseForce, Message, Remap, Running, Unit};
pub use demo::Demo;
pub use format::Format;
pub use offline::{Check, Dump, Repair, Restore, Wipe};
pub use reading::{Examine, Reading, Status};
pub use serve::Serve;
pub use transfer::{Export, ExportFormat, Import, ImportFormat, MainKind};
pub use writing::{Completions, Manual};

/// Keep a failing disk's data alive: join it with a small healthy spare.
///
/// If the disk holds data you need: do not run fsck on it, and copy it first with ddrescue.
#[derive(Debug, Parser)]
#[command(name = "dmremap", version, max_term_width = 100)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Folder of the sockets of running volumes [default: /run/dmremap for root, else
    /// $XDG_RUNTIME_DIR/dmremap]
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Local configuration [default: /etc/dm-remap/volumes.conf for root, else
    /// $XDG_CONFIG_HOME/dm-remap/volumes.conf]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more on standard error; twice for every detail. DMREMAP_LOG sets filters instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, for the life of the process")]
pub enum Verb {
    /// Make a volume of a main device and a spare; main keeps its content
    Format(Format),
    /// Run a volume and offer it over NBD until SIGTERM or SIGINT
    Serve(Serve),
    /// End a running volume's server and leave everything in order
    Close(Close),
    /// How the volume is; begins with one plain sentence
    Status(Status),
    /// What a device is: its metadata, copy by copy
    Examine(Examine),
    /// What has moved, and what cannot be read
    List(Reading),
    /// Move the unit that holds a sector to the spare
    Remap(Remap),
    /// Bring the unit that holds a sector back to main
    #[command(allow_missing_positional = true)]
    Unremap(Unit),
    /// Bring everything that has moved back to main
    Clear(Clear),
    /// Read the unit that holds a sector where it lives
    #[command(allow_missing_positional = true)]
    Verify(Unit),
    /// Counters of requests, errors and commits
    Stats(Reading),
    /// Send one line of the message grammar
    Message(Message),
    /// Check a spare's metadata without changing anything
    Check(Check),
    /// Make all five copies of a spare's metadata whole again, without main
    Repair(Repair),
    /// Write what a spare's metadata says as one JSON document
    Dump(Dump),
    /// Make a read-only volume from a dump, when the metadata cannot be read any more
    Restore(Restore),
    /// Take a spare out of use: removes dm-remap's metadata from it and nothing else
    Wipe(Wipe),
    /// Take in what others know of bad areas, or an old table
    Import(Import),
    /// Write down where everything is, in a form that other programs read
    Export(Export),
    /// Write completions for a shell to standard output
    Completions(Completions),
    /// Write manual pages
    Man(Manual),
    /// See it all work on images in a temporary folder; needs no privilege
    Demo(Demo),
}

/// The safety check an option lifts. Each verb takes those it makes itself, see [`of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Force {
    /// Format over another file system, partition table or volume manager
    ForeignSignature,
    /// Format over a valid dm-remap volume, or adopt its spare as main
    Volume,
    /// Take a device that the local configuration names already
    Claimed,
    /// A spare whose physical blocks are larger than a unit
    PhysicalBlock,
    /// A file that can only be reached through the page cache
    Buffered,
    /// Open although another host never closed it
    InUse,
    /// Import a v3 table, whose checksum proves nothing
    Unverified,
    /// Open read-only, or dump, although too few metadata copies can be read
    Quorum,
    /// Wipe a spare although blocks have moved to it, which are lost with it
    Entries,
    /// Write over a file that exists
    ExistingFile,
}

/// Those of the checks that a verb makes: lifting any other would promise what it cannot do.
fn of(checks: &'static [Force]) -> impl TypedValueParser<Value = Force> {
    let words = checks.iter().filter_map(Force::to_possible_value);
    PossibleValuesParser::new(words).try_map(|word| Force::from_str(&word, false))
}

/// How a main that cannot prove itself is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcceptMain {
    /// It is the same disk, behind another cable or in another dock
    Same,
    /// Another disk that main was copied onto; wants --mapfile
    Copy,
}

/// Which volume, running or not.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The running volume's name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Its control socket
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// The spare of a volume that does not run
    #[arg(long, value_name = "DEV")]
    pub spare: Option<String>,
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
