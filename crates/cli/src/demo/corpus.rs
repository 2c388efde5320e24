// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The real files of the demo: the project's own and the toolchain's, or those of a folder.
//!
//! They are laid into the image one after the other, each from a sector of its own, behind each
//! other's end; what fills the last sector of a file is zero. The image ends with a list of names,
//! sizes and places, so that `--keep` leaves something a person can find their way in.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::escape::escaped;
use crate::failure::{Class, Failure, Outcome};

use super::model::{Model, SECTOR};

/// Bytes of files the demo wants: 200 MB and a little.
pub const WANTED_BYTES: u64 = 201_000_000;
/// The least a folder must hold.
pub const LEAST_BYTES: u64 = 16_000_000;

/// What was laid into the image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Corpus {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where the files come from: the folder, or the project and the toolchain.
pub fn sources(folder: Option<&Path>) -> Outcome<Vec<PathBuf>> {
    if let Some(folder) = folder {
        return Ok(vec![folder.to_path_buf()]);
    }
    let project = ["crates", "xtask", "docs", "README.md"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = project.into_iter().filter(|path| path.exists()).collect();
    let rustc = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = rustc.ok().filter(|out| out.status.success());
    match sysroot.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())) {
        // The libraries first: in a distribution's package the sysroot is all of /usr.
        Some(root) => found.extend(["lib/rustlib", "bin", "lib", "."].map(|part| root.join(part))),
        None => {
            let what = "no rustc here whose files could be taken";
            return Err(Failure::new(Class::Missing, what).with_next("dmremap demo FOLDER"));
        }
    }
    Ok(found)
}

/// Copies files from `sources` into `image` until [`WANTED_BYTES`] are there, and tells `model` of
/// every sector.
pub fn gather(sources: &[PathBuf], image: &mut File, model: &mut Model) -> Outcome<Corpus> {
    let mut gathering = Gathering {
        image,
        model,
        corpus: Corpus::default(),
        list: String::new(),
        done: Vec::new(),
    };
    for source in sources {
        gathering.take(source)?;
        gathering.done.push(source.clone());
    }
    let Gathering { image, model, corpus, list, .. } = gathering;
    if corpus.bytes < LEAST_BYTES {
        let what = format!("only {} bytes of files found, {LEAST_BYTES} are needed", corpus.bytes);
        return Err(Failure::new(Class::Missing, what).with_next("dmremap demo LARGER_FOLDER"));
    }
    append(image, model, &mut list.as_bytes())?;
    // A whole number of units, so that the last one is not a special case people ask about.
    append(image, model, &mut std::io::repeat(0).take((8 - model.sectors() % 8) % 8 * SECTOR))?;
    Ok(corpus)
}

struct Gathering<'a> {
    image: &'a mut File,
    model: &'a mut Model,
    corpus: Corpus,
    list: String,
    done: Vec<PathBuf>,
}

impl Gathering<'_> {
    /// Takes `path`, a file or a folder with all below it. What cannot be read is left out.
    fn take(&mut self, path: &Path) -> Outcome<()> {
        if self.corpus.bytes >= WANTED_BYTES || self.done.iter().any(|done| done == path) {
            return Ok(());
        }
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        if meta.is_dir() {
            let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            paths.iter().try_for_each(|path| self.take(path))
        } else if meta.is_file() && meta.len() > 0 {
            let Ok(mut file) = File::open(path) else { return Ok(()) };
            let first = self.model.sectors();
            let bytes = append(self.image, self.model, &mut file)?;
            self.list += &format!("{first} {bytes} {}\n", escaped(path));
            self.corpus.files += 1;
            self.corpus.bytes += bytes;
            Ok(())
        } else {
            Ok(())
        }
    }
}

/// Appends all of `from`, filled up to whole sectors; how many bytes it had.
fn append(image: &mut File, model: &mut Model, from: &mut impl Read) -> Outcome<u64> {
    let failed = |error| Failure::io("write", "the image", &error);
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let mut have = 0;
        while have < buffer.len() {
            match from.read(&mut buffer[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io("read", "a file of the corpus", &error)),
            }
        }
        total += have as u64;
        let whole = have.next_multiple_of(SECTOR as usize);
        buffer[have..whole].fill(0);
        image.write_all(&buffer[..whole]).map_err(failed)?;
        model.append(&buffer[..whole]);
        if have < buffer.len() {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_at_sectors_and_are_listed() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("in");
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("a"), vec![1; 700]).unwrap();
        fs::write(folder.join("deep/b"), vec![2; LEAST_BYTES as usize]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
        let path = base.path().join("image");
        let (mut image, mut model) = (File::create(&path).unwrap(), Model::default());
        let corpus = gather(&[folder.clone(), folder], &mut image, &mut model).unwrap();
        assert_eq!((corpus.files, corpus.bytes), (2, LEAST_BYTES + 700));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, model.sectors() * SECTOR);
        assert_eq!(model.sectors() % 8, 0);
        assert_eq!((bytes[699], bytes[700], bytes[1023], bytes[1024]), (1, 0, 0, 2));
        let list = String::from_utf8_lossy(&bytes[bytes.len() - 4096..]).into_owned();
        assert!(list.contains("0 700 ") && list.contains("2 16000000 "), "{list}");
    }

    #[test]
    fn too_little_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("a"), "x").unwrap();
        let mut image = File::create(base.path().join("image")).unwrap();
        let failure =
            gather(&[base.path().to_path_buf()], &mut image, &mut Model::default()).unwrap_err();
        assert_eq!(failure.class, Class::Missing);
    }
}
