// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The disk under the file system: where ext4 keeps what, and which of its sectors are bad.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::common::Bench;
use crate::programs::good;
use crate::tree::Tree;

/// Sectors of a block of the file system.
pub const BLOCK_SECTORS: u64 = 2;
const DISK_BYTES: u64 = 48 << 20;

/// A small generator of numbers (splitmix64): the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

pub struct Disk {
    pub bench: Bench,
    /// Blocks of each kind of metadata.
    pub places: BTreeMap<&'static str, Vec<u64>>,
    /// How each bad sector fails.
    bad: BTreeMap<u64, &'static str>,
}

impl Disk {
    /// A disk with an ext4 that holds the tree, as the main of a volume.
    pub fn with_file_system(tree: &Tree) -> Disk {
        let bench = Bench::new();
        let main = bench.path("main.img");
        File::create(&main).unwrap().set_len(DISK_BYTES).unwrap();
        let from = bench.path("first-tree");
        tree.write_to(&from);
        let block = (BLOCK_SECTORS * 512).to_string();
        let (from, path) = (from.to_str().unwrap(), main.to_str().unwrap());
        good(
            "mkfs.ext4",
            &["-q", "-F", "-b", &block, "-J", "size=4", "-N", "2048", "-d", from, path],
        );
        let places = places(&main);
        let spec = bench.faulty_main("");
        bench.format(&spec);
        Disk { bench, places, bad: BTreeMap::new() }
    }

    /// Blocks of a file of the file system that is not mounted.
    pub fn blocks_of(&self, path: &str) -> Vec<u64> {
        let main = self.bench.path("main.img");
        debugfs_blocks(&main, &format!("/{path}"))
    }

    /// A part of every kind of metadata can be read and not be written. (Not be read would be the
    /// end of any file system: recovery reads the block behind the journal's last one too.)
    pub fn goes_bad_from_the_start(&mut self) {
        for (kind, blocks) in self.places.clone() {
            for (n, block) in blocks.iter().enumerate() {
                match kind {
                    "journal" if n % 3 == 0 => {}
                    "journal" | "superblock" | "bitmap" => self.block(*block, "write io"),
                    // One sector of a block and one of the next.
                    "inode table" if n % 4 == 0 => {
                        self.sector(block * BLOCK_SECTORS, "write target")
                    }
                    "inode table" if n % 4 == 1 => {
                        self.sector(block * BLOCK_SECTORS + 1, "write io")
                    }
                    _ => {}
                }
            }
        }
        self.tell();
    }

    /// Some runs of sectors anywhere can be read and no longer be written.
    pub fn more_goes_bad(&mut self, numbers: &mut Numbers) {
        for _ in 0..24 {
            let first = numbers.below(DISK_BYTES / 512 - 16);
            for sector in first..first + 1 + numbers.below(12) {
                self.sector(sector, "write io");
            }
        }
        self.tell();
    }

    /// A block fails like this from now on, unless it fails already.
    pub fn block(&mut self, block: u64, how: &'static str) {
        for sector in block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS {
            self.sector(sector, how);
        }
    }

    fn sector(&mut self, sector: u64, how: &'static str) {
        self.bad.entry(sector).or_insert(how);
    }

    /// Lets main know.
    pub fn tell(&self) {
        let line = |(sector, how): (&u64, &&str)| format!("{:#x} 0x200 - # {how}\n", sector * 512);
        self.bench.faulty_main(&self.bad.iter().map(line).collect::<String>());
    }

    pub fn bad_sectors(&self) -> usize {
        self.bad.len()
    }

    /// Whether a block, or a part of it, has moved.
    pub fn moved(&self) -> impl Fn(u64) -> bool + use<> {
        let list = self.bench.json(&["list", "v", "--json"]);
        let number = |run: &serde_json::Value, key: &str| run[key].as_u64().unwrap();
        let runs: Vec<(u64, u64)> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|run| {
                assert_eq!(run["state"], "remapped", "nothing is lost: {run}");
                let first = number(run, "main_sector");
                (first, first + number(run, "sectors"))
            })
            .collect();
        move |block| {
            let (from, to) = (block * BLOCK_SECTORS, (block + 1) * BLOCK_SECTORS);
            runs.iter().any(|(first, end)| *first < to && *end > from)
        }
    }
}

/// Where the metadata of the file system lies.
fn places(image: &Path) -> BTreeMap<&'static str, Vec<u64>> {
    let mut places: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    places.insert("superblock", vec![1]);
    // Its first block is the journal's own superblock, which is read at every mount.
    places.insert("journal", debugfs_blocks(image, "<8>").into_iter().skip(1).collect());
    for line in good("dumpe2fs", &[image.to_str().unwrap()]).lines() {
        for (word, kind) in [
            ("Block bitmap at ", "bitmap"),
            ("Inode bitmap at ", "bitmap"),
            ("Inode table at ", "inode table"),
        ] {
            let Some((_, rest)) = line.split_once(word) else { continue };
            let range = rest.split([' ', ',']).next().unwrap_or("");
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            places.entry(kind).or_default().extend(first..=last);
        }
    }
    assert_eq!(places.len(), 4, "{places:?}");
    places
}

fn debugfs_blocks(image: &Path, file: &str) -> Vec<u64> {
    let said = good("debugfs", &["-R", &format!("blocks {file}"), image.to_str().unwrap()]);
    said.split_whitespace().map(|word| word.parse().unwrap()).collect()
}
