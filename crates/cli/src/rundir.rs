// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The folder where running volumes have their sockets: `/run/dmremap` for root,
//! `$XDG_RUNTIME_DIR/dmremap` otherwise, `--run-dir` over both. Mode 0700, ours, or refused: who
//! may enter it may speak to every volume.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::escape::{escaped, shell_word};
use crate::failure::{Class, Failure, Outcome};
use crate::remedy::again_with;

/// Sockets of running volumes.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Where it is, given what `--run-dir` says. Nothing is created.
    pub fn locate(given: Option<&Path>) -> Outcome<RunDir> {
        if let Some(path) = given {
            return Ok(RunDir(path.to_path_buf()));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(RunDir(PathBuf::from("/run/dmremap")));
        }
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(base) if base.is_absolute() => Ok(RunDir(base.join("dmremap"))),
            _ => Err(Failure::new(
                Class::Usage,
                "XDG_RUNTIME_DIR is not set: where are the sockets?",
            )
            .with_next(again_with("--run-dir=DIR"))),
        }
    }

    /// Creates it if need be and checks that it is ours alone.
    pub fn prepare(&self) -> Outcome<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("create", &self.0, &error)),
        }
        let meta = std::fs::symlink_metadata(&self.0)
            .map_err(|error| Failure::io("look at", &self.0, &error))?;
        let ours = meta.uid() == rustix::process::geteuid().as_raw();
        if !meta.is_dir() || !ours || meta.mode() & 0o077 != 0 {
            let why = format!("{} is not a folder of yours alone (mode 0700)", escaped(&self.0));
            return Err(Failure::new(Class::Refused, why)
                .with_next(format!("chmod 0700 {}", shell_word(&self.0))));
        }
        Ok(())
    }

    /// The control socket of the volume.
    pub fn control(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.control"))
    }

    /// The NBD socket of the volume, unless `--nbd` names another.
    pub fn nbd(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.nbd"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_others_may_enter_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let dir = RunDir::locate(Some(&base.path().join("run"))).unwrap();
        dir.prepare().unwrap();
        let mode = std::fs::metadata(&dir.0).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        dir.prepare().unwrap();
        std::fs::set_permissions(&dir.0, Permissions::from_mode(0o750)).unwrap();
        assert_eq!(dir.prepare().unwrap_err().class, Class::Refused);
    }

    #[test]
    fn a_link_or_a_file_in_its_place_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("run");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert_eq!(RunDir(link).prepare().unwrap_err().class, Class::Refused);
        let file = base.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(RunDir(file).prepare().unwrap_err().class, Class::Refused);
    }
}
