// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The files: what each must hold, and the work that is done on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{BLOCK_SECTORS, Disk, Numbers};
use crate::programs::good;

/// Blocks of a page of memory.
const PAGE_BLOCKS: u64 = 8 / BLOCK_SECTORS;
/// Victims there are.
const VICTIMS: u64 = 16;

/// Every file and what it must hold.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    /// Changed since the last sync, and not synced by itself: what they hold after a crash is open.
    unsynced: BTreeSet<String>,
}

fn content(numbers: &mut Numbers, bytes: u64) -> Vec<u8> {
    let mut content: Vec<u8> =
        (0..bytes / 8 + 1).flat_map(|_| numbers.next().to_le_bytes()).collect();
    content.truncate(bytes as usize);
    content
}

impl Tree {
    /// What lies on the disk when its trouble begins.
    pub fn first(numbers: &mut Numbers) -> Tree {
        let mut tree = Tree::default();
        for n in 0..VICTIMS {
            tree.files.insert(format!("first/victim{n}"), content(numbers, (20 + n) << 10));
        }
        for n in 0..60 {
            let bytes = match n % 6 {
                0 => numbers.below(200),
                1 => 200_000 + numbers.below(100_000),
                _ => numbers.below(40_000),
            };
            tree.files.insert(format!("first/d{}/f{n}", n % 7), content(numbers, bytes));
        }
        tree
    }

    pub fn files(&self) -> usize {
        self.files.len()
    }

    pub fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// Writes all of it below `root`.
    pub fn write_to(&self, root: &Path) {
        for (path, content) in &self.files {
            put(root, path, content).unwrap();
        }
    }

    /// A round of work, ended by the first error: copies a folder, renames, appends, overwrites in
    /// place, deletes. Some files are synced by themselves.
    pub fn work(&mut self, root: &Path, round: u64, numbers: &mut Numbers) -> io::Result<()> {
        let from = numbers.below(7);
        for (n, path) in self.paths(&format!("first/d{from}/")).into_iter().enumerate() {
            let to = format!("r{round}/copy/{n}");
            self.unsynced.insert(to.clone());
            if let Some(parent) = root.join(&to).parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(root.join(&path), root.join(&to))?;
            self.files.insert(to, self.files[&path].clone());
        }
        for n in 0..6 {
            let path = format!("r{round}/new{n}");
            let bytes = numbers.below(120_000);
            let bytes = content(numbers, bytes);
            self.unsynced.insert(path.clone());
            put(root, &path, &bytes)?;
            self.files.insert(path.clone(), bytes);
            if n % 2 == 0 {
                self.sync_one(root, &path)?;
            }
        }
        for _ in 0..3 {
            self.rename_one(root, round, numbers)?;
            self.append_to_one(root, numbers)?;
            self.overwrite_one(root, numbers)?;
            self.delete_one(root, numbers)?;
        }
        Ok(())
    }

    fn rename_one(&mut self, root: &Path, round: u64, numbers: &mut Numbers) -> io::Result<()> {
        let Some(path) = self.choose(numbers) else { return Ok(()) };
        let to = format!("r{round}/renamed{}", numbers.below(1 << 40));
        self.unsynced.extend([path.clone(), to.clone()]);
        fs::rename(root.join(&path), root.join(&to))?;
        let bytes = self.files.remove(&path).unwrap_or_default();
        self.files.insert(to, bytes);
        Ok(())
    }

    fn append_to_one(&mut self, root: &Path, numbers: &mut Numbers) -> io::Result<()> {
        let Some(path) = self.choose(numbers) else { return Ok(()) };
        let more = content(numbers, 5_000);
        self.unsynced.insert(path.clone());
        File::options().append(true).open(root.join(&path))?.write_all(&more)?;
        self.files.entry(path.clone()).or_default().extend(more);
        self.sync_one(root, &path)
    }

    fn overwrite_one(&mut self, root: &Path, numbers: &mut Numbers) -> io::Result<()> {
        let Some(path) = self.choose(numbers) else { return Ok(()) };
        let known = self.files.entry(path.clone()).or_default();
        let at = numbers.below(known.len() as u64);
        let bytes = content(numbers, (known.len() as u64 - at).min(9_000));
        self.unsynced.insert(path.clone());
        File::options().write(true).open(root.join(&path))?.write_all_at(&bytes, at)?;
        known[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        self.sync_one(root, &path)
    }

    fn delete_one(&mut self, root: &Path, numbers: &mut Numbers) -> io::Result<()> {
        let Some(path) = self.choose(numbers) else { return Ok(()) };
        self.unsynced.insert(path.clone());
        fs::remove_file(root.join(&path))?;
        self.files.remove(&path);
        Ok(())
    }

    /// One of the files that the work has made.
    fn choose(&self, numbers: &mut Numbers) -> Option<String> {
        let paths = self.paths("r");
        let at = numbers.below(paths.len() as u64) as usize;
        paths.get(at).cloned()
    }

    fn paths(&self, prefix: &str) -> Vec<String> {
        self.files.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// Syncs one file and its folder: it is there after a crash, if nothing was renamed on the way.
    fn sync_one(&mut self, root: &Path, path: &str) -> io::Result<()> {
        let path_there = root.join(path);
        File::open(&path_there)?.sync_all()?;
        if let Some(folder) = path_there.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.unsynced.remove(path);
        Ok(())
    }

    /// Everything is on the disk when this returns.
    pub fn sync(&mut self, root: &Path) {
        rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
        self.unsynced.clear();
    }

    /// After a crash: what had not been synced may be there, or not, or in part. It goes.
    pub fn forget(&mut self, root: &Path) {
        assert!(!self.unsynced.is_empty(), "the kill came too late to show anything");
        for path in std::mem::take(&mut self.unsynced) {
            self.files.remove(&path);
            match fs::remove_file(root.join(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{path}: {error}"),
                _ => {}
            }
        }
    }

    /// Compares every byte of every file below `root`, and that there is no other. Files that have
    /// lost sectors may be errors in these; how many are.
    pub fn compare(&self, root: &Path, victims: &Victims) -> usize {
        let mut found = BTreeSet::new();
        list(root, root, &mut found);
        found.retain(|path| !path.starts_with("lost+found"));
        let expected: BTreeSet<String> = self.files.keys().cloned().collect();
        assert_eq!(found, expected);
        let mut lost = 0;
        for (path, content) in &self.files {
            match fs::read(root.join(path)) {
                Ok(bytes) => assert!(bytes == *content, "{path}: other bytes"),
                Err(error) => {
                    assert!(victims.0.contains_key(path), "{path}: {error}");
                    lost += usize::from(compare_by_parts(&root.join(path), content));
                }
            }
        }
        lost
    }
}

/// Reads a file that is an error in parts: what can be read is right; whether something cannot.
fn compare_by_parts(path: &Path, content: &[u8]) -> bool {
    let file = File::open(path).unwrap();
    let mut failed = false;
    for (n, expected) in content.chunks(512).enumerate() {
        let mut bytes = vec![0; expected.len()];
        match file.read_exact_at(&mut bytes, n as u64 * 512) {
            Ok(()) => assert!(bytes == expected, "{}: part {n}", path.display()),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{}: {error}", path.display());
                failed = true;
            }
        }
    }
    failed
}

fn list(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            list(root, &path, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

fn put(root: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let path: PathBuf = root.join(path);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(path, content)
}

/// Files whose sectors are lost, and what is to be in them again.
#[derive(Default)]
pub struct Victims(BTreeMap<String, Vec<u8>>);

impl Victims {
    /// The sectors of a file fail like this from now on. Once the file system is mounted (`root`)
    /// it is asked where they are.
    pub fn add(
        &mut self,
        tree: &mut Tree,
        disk: &mut Disk,
        path: &str,
        how: &'static str,
        root: Option<&Path>,
    ) {
        let blocks = match root {
            None => disk.blocks_of(path),
            Some(root) => mapped(&root.join(path)),
        };
        let blocks: BTreeSet<u64> = blocks.into_iter().collect();
        // Whole pages of the disk: who reads it through the page cache, as e2fsck does, must not
        // lose a neighbour that belongs to somebody else.
        let page = |block: u64| block / PAGE_BLOCKS * PAGE_BLOCKS;
        let whole =
            |block: u64| (page(block)..page(block) + PAGE_BLOCKS).all(|b| blocks.contains(&b));
        let lost: Vec<u64> = blocks.iter().copied().filter(|block| whole(*block)).collect();
        assert!(!lost.is_empty(), "{path} has no whole page: {blocks:?}");
        lost.into_iter().for_each(|block| disk.block(block, how));
        disk.tell();
        self.0.insert(path.to_owned(), tree.files[path].clone());
    }

    /// Writes them anew, in their places: nothing is freed.
    pub fn overwrite(&self, root: &Path) {
        for (path, content) in &self.0 {
            let file = File::options().write(true).open(root.join(path)).unwrap();
            file.write_all_at(content, 0).unwrap();
        }
    }
}

/// The blocks of a file, as the kernel tells.
fn mapped(path: &Path) -> Vec<u64> {
    let said = good("filefrag", &["-e", path.to_str().unwrap()]);
    // "   0:        0..      19:      34817..     34836:     20:             last,eof"
    let extents = said.lines().filter_map(|line| {
        let mut fields = line.split(':');
        fields.next()?.trim().parse::<u64>().ok()?;
        let (first, last) = fields.nth(1)?.split_once("..")?;
        Some(first.trim().parse::<u64>().ok()?..=last.trim().parse::<u64>().ok()?)
    });
    extents.flatten().collect()
}
