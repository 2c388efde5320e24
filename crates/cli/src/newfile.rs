// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A file that is made for a volume, and is gone again if there is no volume in the end.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, ftruncate, statvfs};

use crate::escape::{escaped, shell_word};
use crate::failure::{Class, Failure, Outcome};
use crate::units::size;

/// A new file; removed when dropped, unless [`NewFile::keep`] was called.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Makes a file of `bytes` zeros, readable and writable by its owner alone. With `allocate`
    /// every byte has its place on the disk. What exists already is not touched.
    pub fn create(path: &Path, bytes: u64, allocate: bool) -> Outcome<NewFile> {
        enough_room(path, bytes)?;
        let made =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let what = format!("{} exists already, and is left alone", escaped(path));
                let next = format!("dmremap examine {}", shell_word(path));
                Failure::new(Class::Busy, what).with_next(next)
            }
            _ => Failure::io("create", path, &error).with_next(advice()),
        })?;
        let new = NewFile { path: path.to_path_buf(), kept: false };
        let sized = match allocate {
            true => fallocate(&file, FallocateFlags::empty(), 0, bytes),
            false => ftruncate(&file, bytes),
        };
        sized.map_err(|errno| no_room(path, bytes, &errno.to_string()))?;
        Ok(new)
    }

    /// It stays.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn enough_room(path: &Path, bytes: u64) -> Outcome<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = statvfs(folder);
    let found =
        found.map_err(|errno| Failure::io("look at", folder, &errno.into()).with_next(advice()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    match free < bytes {
        true => Err(no_room(path, bytes, &format!("its file system has {} left", size(free)))),
        false => Ok(()),
    }
}

fn no_room(path: &Path, bytes: u64, why: &str) -> Failure {
    let what = format!("{} cannot be made with {}: {why}", escaped(path), size(bytes));
    Failure::new(Class::Missing, what).with_next(advice())
}

fn advice() -> &'static str {
    "dmremap format --main DEV --create-spare FILE --size 64M"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn allocated_private_and_gone_unless_kept() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("spare.img");
        let new = NewFile::create(&path, 1 << 20, true).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (1 << 20, 0o600));
        assert!(meta.blocks() * 512 >= 1 << 20, "{} blocks", meta.blocks());
        drop(new);
        assert!(!path.exists());
        NewFile::create(&path, 1 << 20, false).unwrap().keep();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    }

    #[test]
    fn what_exists_and_what_does_not_fit_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("spare.img");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(NewFile::create(&path, 1 << 20, true).unwrap_err().class, Class::Busy);
        std::os::unix::fs::symlink("nowhere", base.path().join("link")).unwrap();
        let link = NewFile::create(&base.path().join("link"), 1 << 20, true);
        assert_eq!(link.unwrap_err().class, Class::Busy);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let huge = base.path().join("huge.img");
        assert_eq!(NewFile::create(&huge, 1 << 62, true).unwrap_err().class, Class::Missing);
        assert!(!huge.exists());
        let nowhere = NewFile::create(&base.path().join("no/such/folder"), 1 << 20, true);
        assert_eq!(nowhere.unwrap_err().class, Class::Missing);
    }
}
