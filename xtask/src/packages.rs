// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The programs of others that tests use, and the packages of Debian and Ubuntu they come in.
//!
//! Nothing here is needed to build or run dm-remap; a test whose program is missing is skipped.

use std::process::Command;

use crate::run;

/// A program that a test calls.
pub struct Program {
    /// Its name on `PATH`.
    pub name: &'static str,
    /// The package of Debian and Ubuntu; two if one needs the other, with a space between.
    pub package: &'static str,
    /// What is tested with it.
    pub why: &'static str,
}

/// Every program the tests call.
pub const PROGRAMS: &[Program] = &[
    Program { name: "blkid", package: "util-linux", why: "what lies on a device, told by others" },
    Program { name: "c++", package: "g++", why: "libFuzzer, which the fuzzers are built with" },
    Program { name: "cryptsetup", package: "cryptsetup-bin", why: "LUKS images" },
    Program { name: "debugfs", package: "e2fsprogs", why: "where ext4 keeps what" },
    Program { name: "dumpe2fs", package: "e2fsprogs", why: "where ext4 keeps what" },
    Program { name: "e2fsck", package: "e2fsprogs", why: "whether a file system is whole" },
    Program { name: "filefrag", package: "e2fsprogs", why: "where a file of ext4 lies" },
    Program { name: "fio", package: "fio", why: "an NBD client that verifies what it wrote" },
    Program { name: "ddrescue", package: "gddrescue", why: "disks copied as people are told to" },
    Program { name: "ddrescuelog", package: "gddrescue", why: "mapfiles, read by their owner" },
    Program { name: "groff", package: "groff-base", why: "manual pages rendered" },
    Program { name: "losetup", package: "mount", why: "block devices made of files" },
    Program { name: "mkfs.btrfs", package: "btrfs-progs", why: "btrfs images" },
    Program { name: "mkfs.ext4", package: "e2fsprogs", why: "ext2, ext4 images" },
    Program { name: "mkfs.vfat", package: "dosfstools", why: "FAT images" },
    Program { name: "mkfs.xfs", package: "xfsprogs", why: "xfs images" },
    Program { name: "mount", package: "mount", why: "file systems on volumes" },
    Program { name: "nbdcopy", package: "libnbd-bin", why: "whole volumes copied there and back" },
    Program {
        name: "mmdebstrap",
        package: "mmdebstrap debian-archive-keyring",
        why: "a minimal Debian 13 to build in",
    },
    Program {
        name: "nbdfuse",
        package: "libnbd-bin",
        why: "volumes, and mains that fail, as files",
    },
    Program { name: "nbdinfo", package: "libnbd-bin", why: "an NBD client of others: libnbd" },
    Program { name: "nbdkit", package: "nbdkit", why: "sockets handed over by another program" },
    Program { name: "nbdsh", package: "python3-libnbd", why: "bad NBD requests of others" },
    Program { name: "qemu-img", package: "qemu-utils", why: "volumes converted and compared" },
    Program { name: "partx", package: "util-linux", why: "partitions of loop devices" },
    Program { name: "qemu-io", package: "qemu-utils", why: "an NBD client of others: QEMU" },
    Program { name: "sfdisk", package: "fdisk", why: "partition tables" },
    Program { name: "umount", package: "mount", why: "file systems on volumes" },
];

/// The packages whose program is not there.
pub fn missing(programs: &[Program], there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    programs.iter().filter(|p| !there(p.name)).map(|p| p.package).collect()
}

/// The line to type that installs them.
pub fn line(packages: &[&str]) -> String {
    format!("apt-get install --yes --no-install-recommends {}", packages.join(" "))
}

/// Whether this is root on a system with apt.
fn may_install() -> bool {
    run::installed("apt-get")
        && std::fs::metadata("/proc/self").is_ok_and(|meta| {
            use std::os::unix::fs::MetadataExt;
            meta.uid() == 0
        })
}

/// Installs what is missing where that is allowed and possible; otherwise prints how.
pub fn prepare(install: bool) {
    let packages = missing(PROGRAMS, run::installed);
    if packages.is_empty() {
        return;
    }
    for program in PROGRAMS.iter().filter(|p| packages.contains(&p.package)) {
        println!("missing: {} ({}), for {}", program.name, program.package, program.why);
    }
    if !(install && may_install()) {
        println!("their tests will be skipped; to install them, as root on Debian or Ubuntu:");
        println!("    {}", line(&packages));
        return;
    }
    println!("installing: {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        run::succeeds(command.stdin(std::process::Stdio::null()))
    };
    let words = line(&packages);
    let install: Vec<&str> = words.split(' ').skip(1).collect();
    if !(apt(&install) || (apt(&["update"]) && apt(&install))) {
        println!("could not install all of them; the tests that use them will be skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_packages_of_missing_programs() {
        let found = missing(PROGRAMS, |name| name == "fio");
        assert!(!found.contains(&"fio"));
        assert_eq!(found.len(), PROGRAMS.len() - 1);
        assert!(missing(PROGRAMS, |_| true).is_empty());
    }

    #[test]
    fn the_line_installs_just_these() {
        assert_eq!(line(&["a", "b"]), "apt-get install --yes --no-install-recommends a b");
    }
}
