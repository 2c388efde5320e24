// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The words that name a device: a path, or a path behind the test wrappers of the engine
//! (`faulty:PATH?...`, `record:PATH?...`).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, absolute as absolute_path};

use dmremap_engine::Next;

use crate::escape::{escaped_bytes, shell_word};
use crate::failure::{Class, Failure, Outcome};
use crate::remedy;
use crate::topology::{Host, whole};

/// The path inside `spec`.
pub fn inner(spec: &str) -> &str {
    let wrapped = ["faulty:", "record:"].iter().find_map(|prefix| spec.strip_prefix(prefix));
    match wrapped {
        Some(rest) => inner(rest.rsplit_once('?').map_or(rest, |(path, _)| path)),
        None => spec,
    }
}

/// `spec` so that it means the same in another folder. (A wrapper's other files are for tests,
/// which stay where they are.)
pub fn absolute(spec: &str) -> String {
    if inner(spec) != spec {
        return spec.to_owned();
    }
    absolute_path(spec).map_or_else(|_| spec.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// `spec` as a word of a command to be typed.
pub fn word(spec: &str) -> String {
    shell_word(Path::new(spec))
}

/// Whether two of them name the same device or file, by whatever path.
pub fn same(a: &str, b: &str) -> bool {
    let key = |spec: &str| {
        let meta = fs::metadata(inner(spec)).ok()?;
        match meta.file_type().is_block_device() {
            true => Some((true, meta.rdev(), 0)),
            false => Some((false, meta.dev(), meta.ino())),
        }
    };
    match (key(a), key(b)) {
        (Some(a), Some(b)) => a == b,
        _ => absolute(a) == absolute(b),
    }
}

/// Refuses one device in both roles before it is claimed, which would only be told "in use".
pub fn apart(main: &str, spare: &str) -> Outcome<()> {
    if same(main, spare) {
        let what = format!("{} cannot be main and spare at once", escaped_bytes(main));
        let next = remedy::command(&Next::Other(spare.to_owned()));
        return Err(Failure::new(Class::Missing, what).with_next(next));
    }
    let nodes = [main, spare].map(|spec| {
        let path = Path::new(inner(spec));
        let is_device = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
        let host = Host::default();
        host.beneath(path).filter(|_| is_device).and_then(|number| host.node(number))
    });
    if let [Some(main_node), Some(spare_node)] = nodes {
        if whole(&main_node) == spare_node || whole(&spare_node) == main_node {
            let what =
                format!("{main} as main and {spare} as spare overlap: one is a part of the other");
            return Err(Failure::new(Class::Missing, what)
                .with_next(remedy::command(&Next::Other(spare.to_string()))));
        }
    }
    Ok(())
}

/// A name for the volume whose main this is: what of its file name is legal in one.
pub fn volume_name(spec: &str) -> String {
    let stem = Path::new(inner(spec)).file_stem().unwrap_or_default().to_string_lossy();
    let legal = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
    let name: String = stem.chars().filter(legal).take(64).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() || name == "control" { "volume".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_file_names() {
        for (spec, name) in [
            ("/dev/sdb", "sdb"),
            ("faulty:dir/main.img?map=a", "main"),
            ("faulty:record:x.img?log=l?map=a", "x"),
            ("/dev/disk/by-id/ata-WDC WD", "ata-WDCWD"),
            ("--", "volume"),
            ("control", "volume"),
        ] {
            assert_eq!(volume_name(spec), name, "{spec}");
        }
    }

    #[test]
    fn the_same_file_by_two_paths() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("a"), "").unwrap();
        std::fs::write(path("b"), "").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        assert!(same(&path("a"), &path("link")));
        assert!(same(&format!("faulty:{}?map=m", path("a")), &path("a")));
        assert!(!same(&path("a"), &path("b")));
        assert!(same(&path("gone"), &path("gone")) && !same(&path("gone"), &path("a")));
    }
}
