// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The command line. Sizes and offsets are sectors of 512 bytes unless an option says bytes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// How the volume is; begins with one plain sentence
    Status(Status),
    /// What a device is: its metadata, copy by copy
    Examine(Examine),
    /// What has moved, and what cannot be read
    List(Reading),
    /// Move the unit that holds a sector to the spare
    Remap(Remap),
    /// Bring the unit that holds a sector back to main
    Unremap(Unit),
    /// Read the unit that holds a sector where it lives
    Verify(Unit),
    /// Counters of requests, errors and commits
    Stats(Reading),
    /// Send one line of the message grammar
    Message(Message),
    /// Check a spare's metadata without changing anything
    Check(Check),
    /// See it all work on images in a temporary folder; needs no privilege
    Demo(Demo),
}

/// The one safety check an option lifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Force {
    /// Format over another file system, partition table or volume manager
    ForeignSignature,
    /// Format over a valid dm-remap volume
    Volume,
    /// Format over a main that the local configuration names already
    Claimed,
    /// A spare whose physical blocks are larger than a unit
    PhysicalBlock,
    /// A file that can only be reached through the page cache
    Buffered,
    /// Open although another host never closed it
    InUse,
    /// Listen where other hosts can reach it, although NBD asks nobody who they are
    Remote,
    /// Open read-only although too few metadata copies can be read
    Quorum,
}

/// How a main that cannot prove itself is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcceptMain {
    /// It is the same disk, behind another cable or in another dock
    Same,
    /// Another disk that main was copied onto; comes with a later version
    Copy,
}

/// `format`.
#[derive(Debug, Args)]
pub struct Format {
    /// The failing device; keeps every byte
    #[arg(long, value_name = "DEV")]
    pub main: String,
    /// The healthy device for what moves; all of it is overwritten
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// Name of the volume [default: made from main's name]
    #[arg(long)]
    pub name: Option<String>,
    /// The volume's block in bytes, 512 to 4096 [default: main's logical block]
    #[arg(long, value_name = "BYTES")]
    pub block_size: Option<u32>,
    /// Most units that can be moved at once [default: every unit of the spare, at most 262144]
    #[arg(long, value_name = "N")]
    pub max_remaps: Option<u32>,
    /// Refuse a spare that cannot hold as many units as --max-remaps says
    #[arg(long)]
    pub strict_spare_size: bool,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT")]
    pub force: Vec<Force>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The spare, which knows the volume
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// The main device [default: what the local configuration names]
    #[arg(long, value_name = "DEV")]
    pub main: Option<String>,
    /// Where to listen: unix:PATH or tcp:HOST:PORT [default: unix:RUN_DIR/NAME.nbd]
    #[arg(long, value_name = "WHERE", conflicts_with = "stdio")]
    pub nbd: Option<String>,
    /// Speak NBD on standard input and output, to one client
    #[arg(long)]
    pub stdio: bool,
    /// Control socket [default: RUN_DIR/NAME.control]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Write nothing, neither data nor metadata
    #[arg(long)]
    pub read_only: bool,
    /// Accept a main that cannot prove that it is the right one
    #[arg(long, value_name = "HOW")]
    pub accept_main: Option<AcceptMain>,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT")]
    pub force: Vec<Force>,
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

/// Verbs that only read.
#[derive(Debug, Args)]
pub struct Reading {
    /// Which volume.
    #[command(flatten)]
    pub target: Target,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which volume.
    #[command(flatten)]
    pub target: Target,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// Print nothing; exit 0 healthy, 1 degraded, 2 unusable or data lost, 4 cannot tell
    #[arg(long)]
    pub test: bool,
}

/// `examine`.
#[derive(Debug, Args)]
pub struct Examine {
    /// The device
    #[arg(value_name = "DEV")]
    pub device: String,
    /// One JSON document
    #[arg(long, conflicts_with = "export")]
    pub json: bool,
    /// KEY=VALUE lines for scripts
    #[arg(long)]
    pub export: bool,
}

/// `remap`.
#[derive(Debug, Args)]
pub struct Remap {
    /// The running volume.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A sector of main
    pub sector: u64,
    /// Where to: a sector of the spare, +N counts from its first data sector [default: any]
    pub spare_sector: Option<String>,
}

/// `unremap` and `verify`.
#[derive(Debug, Args)]
pub struct Unit {
    /// The running volume.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A sector of main
    pub sector: u64,
}

/// `message`.
#[derive(Debug, Args)]
pub struct Message {
    /// Its control socket, instead of the name
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// The running volume's name, then the message: "help" lists them
    #[arg(required = true, trailing_var_arg = true, value_name = "NAME WORDS")]
    pub words: Vec<String>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The spare
    #[arg(long, value_name = "DEV")]
    pub spare: String,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Take the files of this folder instead of the toolchain's
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Drop one entry of the table behind the volume's back: the demo must then fail
    #[arg(long)]
    pub sabotage: bool,
    /// Work in this folder and keep it
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn parses(line: &str) -> bool {
        Cli::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_forms_scripts_rely_on() {
        for line in [
            "dmremap format --main /a --spare /b",
            "dmremap format --main a --spare b --name n --block-size 4096 --max-remaps 9 \
             --strict-spare-size --dry-run --yes --force=volume --force=foreign-signature",
            "dmremap serve --spare /b --nbd unix:/x --control /y --read-only --force=in-use",
            "dmremap serve --spare /b --main /a --stdio",
            "dmremap serve --spare /b --main DEV --accept-main=same",
            "dmremap serve --spare /b --accept-main=copy",
            "dmremap status n --test",
            "dmremap status --control /x --json",
            "dmremap list --spare /b --json",
            "dmremap stats n",
            "dmremap examine /b --export",
            "dmremap remap n 8",
            "dmremap remap n 8 +16",
            "dmremap unremap n 8",
            "dmremap verify n 8",
            "dmremap message n set read_retries 3",
            "dmremap message --control /x status",
            "dmremap check --spare /b --json",
            "dmremap demo --sabotage --keep /d",
            "dmremap --run-dir /r status n",
        ] {
            assert!(parses(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "dmremap",
            "dmremap format --main /a",
            "dmremap status",
            "dmremap status n --spare /b",
            "dmremap examine /b --json --export",
            "dmremap remap n x",
            "dmremap remap n -8",
            "dmremap serve --spare /b --nbd unix:/x --stdio",
            "dmremap format --main a --spare b --force=everything",
        ] {
            assert!(!parses(line), "{line}");
        }
    }
}
