// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What people, scripts and files say: messages, settings, lists of bad areas, fault maps, sizes.
//!
//! Invariants checked: a sector of main in a message that is accepted lies on main; settings read
//! back what they print; areas come in rising order and do not overlap; the runs of a fault map
//! rise and do not overlap; a size that is accepted is whole sectors of a file that can be.

use dmremap_core::message::{Command, parse_within};
use dmremap_core::settings::{SNAPSHOT_BYTES, Settings, number};
use dmremap_engine::{FaultMap, Mode};
use dmremap_format::areas::{Area, BlockReader, LineFault, MapReader};

fn strings(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

/// A line of the control socket, a message of dmsetup.
pub fn message(data: &[u8]) {
    const MAIN_SECTORS: u64 = 1 << 30;
    match parse_within(data, MAIN_SECTORS) {
        Ok(
            Command::Remap { sector, .. }
            | Command::Unremap { sector }
            | Command::Verify { sector }
            | Command::Mark { sector, .. }
            | Command::Add { main: sector, .. },
        ) => assert!(sector < MAIN_SECTORS),
        Ok(command) => drop(format!("{command:?} {}", command.word())),
        Err(error) => {
            let mut room = [0; 1024];
            let mut out = dmremap_core::text::Text::new(&mut room);
            error.write(&mut out);
            assert!(!out.is_empty(), "an error has words");
        }
    }
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    strings(&[
        "ping",
        "remap 0x40 +8",
        "add 8 9216 8",
        "unremap 77",
        "list 100 20",
        "mark gone 8 8",
        "clear force",
        "set read_retries 3",
        "get pending_read",
        "scan start",
        "add_remap 1 2 3",
        "spare_stats",
    ])
}

/// The settings of a header, and a number.
pub fn settings(data: &[u8]) {
    let _ = number(data);
    let (settings, _) = Settings::from_snapshot(data);
    let mut snapshot = [0; SNAPSHOT_BYTES];
    settings.to_snapshot(&mut snapshot);
    assert_eq!(Settings::from_snapshot(&snapshot), (settings, 0));
}

pub fn settings_seeds() -> Vec<Vec<u8>> {
    let mut snapshot = [0; SNAPSHOT_BYTES];
    Settings::default().to_snapshot(&mut snapshot);
    vec![snapshot.to_vec(), b"0xffffffffffffffff".to_vec(), b"recovery_limit_ms=600000".to_vec()]
}

/// A mapfile of ddrescue, and lists of badblocks with every block.
pub fn areas(data: &[u8]) {
    let mut map = MapReader::default();
    rising(data, |line| map.line(line));
    for block_bytes in [0, 512, 1000, 1024, 4096, 65_536, u32::MAX] {
        if let Some(mut blocks) = BlockReader::new(block_bytes) {
            rising(data, |line| blocks.line(line));
        }
    }
}

fn rising(data: &[u8], mut line: impl FnMut(&[u8]) -> Result<Option<Area>, LineFault>) {
    let mut end = 0;
    for text in data.split(|byte| *byte == b'\n') {
        match line(text) {
            Ok(Some(area)) => {
                assert!(area.sector >= end && area.sectors > 0, "{area:?} behind {end}");
                assert!(area.end() <= 1 << 54, "no device reaches so far");
                end = area.end();
            }
            Ok(None) => {}
            // Who reads stops at the first bad line.
            Err(fault) => return drop(format!("{fault}")),
        }
    }
}

pub fn area_seeds() -> Vec<Vec<u8>> {
    strings(&[
        "# Mapfile\n0x00000000 ? 1\n0x0 0x100000 +\n0x100000 0x200 -\n0x100200 0x1000 *\n",
        "0x0 + 1\n0 512 /\n512 512 ?\n",
        "8\n9\n100\n",
    ])
}

/// The map of a faulty device.
pub fn faultmap(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for block_bytes in [512, 4096] {
        match FaultMap::parse(&text, Mode::default(), block_bytes) {
            Ok(map) => {
                let mut end = 0;
                for run in &map.runs {
                    assert!(run.sector >= end && run.sectors > 0);
                    end = run.end();
                    assert!(map.overlapping(run.sector, 1).next().is_some());
                }
            }
            Err(error) => assert!(error.line >= 1 && !error.why.is_empty()),
        }
    }
}

pub fn faultmap_seeds() -> Vec<Vec<u8>> {
    strings(&[
        "0x64000 0x800 - # write io\n0xc8000 0x400 - # both medium\n",
        "#! default heal medium\n100\n101\n#! flush-fails 2\n",
        "#! outage transport\n0 1024 *\n",
    ])
}

/// A size on the command line.
pub fn sizes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match crate::units::parse_size(&text) {
        Ok(bytes) => {
            assert!(bytes > 0 && bytes % 512 == 0 && bytes <= i64::MAX as u64);
            assert!(!crate::units::size(bytes).is_empty());
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

pub fn size_seeds() -> Vec<Vec<u8>> {
    strings(&["64M", "64MiB", "131072s", "67108864B", "9223372036854775807B", "8191P"])
}
