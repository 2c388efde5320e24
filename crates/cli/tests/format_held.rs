// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `format` and `serve` on devices that somebody uses: refused with the user's name, untouched. On
//! loop devices, for root only; elsewhere skipped.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Bench, IMAGE_BYTES, skip};

/// A loop device over a file; it goes with its owner.
struct Loop(String);

impl Loop {
    fn new(name: &str, file: &Path) -> Option<Loop> {
        let out = Command::new("losetup").args(["--show", "-P", "-f"]).arg(file).output();
        match out {
            Ok(out) if out.status.success() => {
                Some(Loop(String::from_utf8(out.stdout).unwrap().trim().to_owned()))
            }
            Ok(out) => {
                let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
                skip(name, &format!("no loop device: {why}"));
                None
            }
            Err(error) => {
                skip(name, &format!("losetup is not installed: {error}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// A mount; it goes with its owner.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    let out = Command::new(program).args(args).output();
    out.is_ok_and(|out| out.status.success())
}

#[test]
fn a_mounted_device_is_refused_and_the_mount_named() {
    const NAME: &str = "a_mounted_device_is_refused_and_the_mount_named";
    let bench = Bench::new();
    let image = bench.path("ext4.img");
    std::fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    if !run("mkfs.ext4", &["-q", image.to_str().unwrap()]) {
        return skip(NAME, "mkfs.ext4 is not installed");
    }
    let Some(device) = Loop::new(NAME, &image) else { return };
    let at = bench.path("mounted here");
    std::fs::create_dir(&at).unwrap();
    if !run("mount", &[&device.0, at.to_str().unwrap()]) {
        return skip(NAME, "this process may not mount");
    }
    let mounted = Mounted(at);
    let before = std::fs::read(&image).unwrap();
    let roles = [
        ["format", "--main", "main.img", "--spare", &device.0, "--yes"],
        ["format", "--main", &device.0, "--spare", "spare.img", "--yes"],
    ];
    for args in roles {
        for more in [&[][..], &["--dry-run"], &["--force=foreign-signature"]] {
            let (code, said) = bench.code(&[&args[..], more].concat());
            assert_eq!(code, 5, "{said}");
            assert!(said.contains("mounted at ") && said.contains("mounted here"), "{said}");
        }
    }
    // The file behind the device is as much in use as the device.
    let (code, said) =
        bench.code(&["format", "--main", "ext4.img", "--spare", "spare.img", "--yes"]);
    assert!(code == 5 && said.contains("behind loop"), "{code} {said}");
    assert!(std::fs::read(&image).unwrap() == before && !bench.path("volumes.conf").exists());
    drop(mounted);
}

#[test]
fn a_disk_and_its_own_partition_are_refused_and_two_partitions_warned_of() {
    const NAME: &str = "a_disk_and_its_own_partition_are_refused_and_two_partitions_warned_of";
    let bench = Bench::new();
    // Not in memory, or there is no disk to warn of.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = folder.path().join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let script = format!("printf 'size=24MiB\\nsize=24MiB\\n' | sfdisk -q {}", image.display());
    if !run("sh", &["-c", &script]) {
        return skip(NAME, "sfdisk is not installed");
    }
    let Some(device) = Loop::new(NAME, &image) else { return };
    // A kernel that does not know this kind of table is told by hand.
    run("partx", &["-a", &device.0]);
    let parts = [format!("{}p1", device.0), format!("{}p2", device.0)];
    if !parts.iter().all(|part| Path::new(part).exists()) {
        return skip(NAME, "partitions of loop devices do not appear here");
    }
    let before = std::fs::read(&image).unwrap();
    for (main, spare) in [(&parts[0], &device.0), (&device.0, &parts[0])] {
        let args =
            ["format", "--main", main, "--spare", spare, "--yes", "--force=foreign-signature"];
        let (code, said) = bench.code(&args);
        assert!(code == 4 && said.contains("overlap"), "{code} {said}");
    }
    assert!(std::fs::read(&image).unwrap() == before);
    let args = ["format", "--main", &parts[0], "--spare", &parts[1], "--yes", "--json"];
    let out = bench.run(&args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("is on main's own disk"), "{said}");
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["advice"][0]["word"], "same-disk");
}

#[test]
fn a_served_volume_names_its_server() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let (code, said) = bench.code(&["serve", "--spare", "spare.img"]);
    assert_eq!(code, 5, "{said}");
    let pid = server.child.id();
    assert!(said.contains(&format!("open in dmremap (process {pid})")), "{said}");
}
