// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of the verbs that change a running volume.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which running volume.
#[derive(Clone, Debug, Args)]
pub struct Running {
    /// The running volume
    #[arg(value_name = "NAME", required_unless_present = "control")]
    pub name: Option<String>,
    /// Its control socket, instead of the name
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    pub control: Option<PathBuf>,
}

/// `remap`. With `--control` there is no name, and the other words move up.
#[derive(Debug, Args)]
pub struct Remap {
    /// Its control socket, instead of the name
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// The running volume
    #[arg(value_name = "NAME")]
    pub first: String,
    /// A sector of main
    #[arg(value_name = "SECTOR", required_unless_present = "control", value_parser = place)]
    pub second: Option<String>,
    /// Where to: a sector of the spare, +N counts from its first data sector [default: any]
    #[arg(value_name = "SPARE_SECTOR", conflicts_with = "control", value_parser = place)]
    pub third: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// A word that looks like a number; what it may be is for the message grammar to say.
fn place(word: &str) -> Result<String, String> {
    let digits = word.strip_prefix('+').unwrap_or(word);
    match digits.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(word.to_owned()),
        false => Err("a sector is a number".to_owned()),
    }
}

/// `unremap` and `verify`.
#[derive(Debug, Args)]
pub struct Unit {
    /// Which volume.
    #[command(flatten)]
    pub running: Running,
    /// A sector of main
    pub sector: u64,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// The one refusal of `clear` that can be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClearForce {
    /// Blocks that cannot be brought home are lost
    Gone,
}

/// `clear`.
#[derive(Debug, Args)]
pub struct Clear {
    /// Which volume.
    #[command(flatten)]
    pub running: Running,
    /// Lift the one refusal there is
    #[arg(long, value_name = "WHAT")]
    pub force: Option<ClearForce>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// The one refusal of `close` that can be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CloseForce {
    /// Cut the clients off that are connected
    Clients,
}

/// `close`.
#[derive(Debug, Args)]
pub struct Close {
    /// Which volume.
    #[command(flatten)]
    pub running: Running,
    /// Lift the one refusal there is
    #[arg(long, value_name = "WHAT")]
    pub force: Option<CloseForce>,
    /// Wait so long for its end; it goes on closing afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait: u32,
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
