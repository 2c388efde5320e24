// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The options of `format`.

use clap::{Args, value_parser};
use dmremap_format::MAX_ENTRIES;

use super::{Force, of};
use crate::units::parse_size;

/// The checks that `format` makes.
const FORCE: &[Force] = &[
    Force::ForeignSignature,
    Force::Volume,
    Force::Claimed,
    Force::PhysicalBlock,
    Force::Buffered,
];

fn block_size(word: &str) -> Result<u32, String> {
    let legal = |bytes: &u32| [512, 1024, 2048, 4096].contains(bytes);
    let bytes = word.parse().ok().filter(legal);
    bytes.ok_or_else(|| "legal are 512, 1024, 2048 and 4096".to_owned())
}

/// `format`.
#[derive(Debug, Args)]
pub struct Format {
    /// The failing device; keeps every byte
    #[arg(long, value_name = "DEV")]
    pub main: String,
    /// The healthy device for what moves; all of it is overwritten
    #[arg(long, value_name = "DEV", required_unless_present = "create_spare")]
    pub spare: Option<String>,
    /// Make this file the spare; it must not exist yet
    #[arg(long, value_name = "FILE", requires = "size", conflicts_with = "spare")]
    pub create_spare: Option<String>,
    /// Size of that file, such as 64M: room for about 15,000 bad blocks of 4 KiB
    #[arg(long, value_name = "SIZE", requires = "create_spare", conflicts_with = "spare")]
    #[arg(value_parser = parse_size)]
    pub size: Option<u64>,
    /// Name of the volume [default: made from main's name]
    #[arg(long)]
    pub name: Option<String>,
    /// The volume's block in bytes, 512 to 4096 [default: main's logical block]
    #[arg(long, value_name = "BYTES", value_parser = block_size)]
    pub block_size: Option<u32>,
    /// Most units that can be moved at once [default: every unit of the spare, at most 262144]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = value_parser!(u32).range(1..=i64::from(MAX_ENTRIES)))]
    pub max_remaps: Option<u32>,
    /// Refuse a spare smaller than 105 % of main: room for all of it to move
    #[arg(long)]
    pub strict_spare_size: bool,
    /// Lift one named safety check; may be given more than once
    #[arg(long, value_name = "WHAT", value_parser = of(FORCE))]
    pub force: Vec<Force>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// What is made as one JSON document, instead of words
    #[arg(long)]
    pub json: bool,
}
