// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Opening a device so that "busy" says by whom: mounts, devices made of it, swap, loop devices,
//! processes that have it open.
//!
//! What the kernel itself uses is refused before anything is opened; for all else the exclusive
//! hold decides, and this only finds words for it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmremap_engine::{Device, DeviceError, OpenOptions, open_device};

use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::spec;
use crate::topology::{Host, Number, entries, text, unescaped, whole};

/// The most processes named.
const PROCESSES_SHOWN: usize = 4;

/// Opens and holds what `spec` names, or says who has it.
pub fn open(spec: &str, options: &OpenOptions) -> Outcome<Arc<dyn Device>> {
    let (host, path) = (Host::default(), Path::new(spec::inner(spec)));
    let kernel = host.kernel_users(path);
    if !kernel.is_empty() {
        return Err(busy(spec, &kernel));
    }
    match open_device(spec, options) {
        Err(DeviceError::Busy { .. }) => match host.processes(path) {
            none if none.is_empty() => Err(busy(spec, &["somebody else".into()])),
            some => Err(busy(spec, &some)),
        },
        other => Ok(other?),
    }
}

fn busy(spec: &str, users: &[String]) -> Failure {
    let what = format!("{} is in use: {}", escaped_bytes(spec), users.join(", "));
    Failure::new(Class::Busy, what).with_next(format!("dmremap examine {}", spec::word(spec)))
}

impl Host {
    /// What the kernel uses the device or file at `path` for, in words, escaped.
    pub fn kernel_users(&self, path: &Path) -> Vec<String> {
        let Ok(meta) = fs::metadata(path) else { return Vec::new() };
        match meta.file_type().is_block_device() {
            true => self.beneath(path).map(|number| self.device_users(number)).unwrap_or_default(),
            false => path.canonicalize().map(|path| self.file_users(&path)).unwrap_or_default(),
        }
    }

    /// Users of a device and, if it is a whole disk, of its partitions.
    pub fn device_users(&self, number: Number) -> Vec<String> {
        let Some(node) = self.node(number) else { return Vec::new() };
        let (mounts, swaps) = (self.mounts(), self.swaps());
        let mut found = Vec::new();
        for part in std::iter::once(node.clone()).chain(partitions(&node)) {
            let own = text(&part.join("dev")).and_then(|dev| Number::parse(&dev));
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            let of = if part == node { String::new() } else { format!("{name} ") };
            for mount in mounts.iter().filter(|mount| Some(mount.number) == own) {
                found.push(escaped_bytes(&format!("{of}mounted at {}", mount.at)).to_string());
            }
            for holder in entries(&part.join("holders")) {
                found.push(format!("{}part of {}", escaped_bytes(&of), device_name(&holder)));
            }
            let is_it = |swap: &&PathBuf| swap.file_name().is_some_and(|swap| *swap == *name);
            if swaps.iter().any(|swap| is_it(&swap)) {
                found.push(format!("{}swap", escaped_bytes(&of)));
            }
        }
        found.dedup(); // one mount per subvolume
        found
    }

    /// Loop devices and swap on the file at this absolute path.
    pub fn file_users(&self, path: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for device in entries(&self.sys.join("class/block")) {
            let file = text(&device.join("loop/backing_file"));
            if file.is_some_and(|file| Path::new(file.trim_end_matches('\n')) == path) {
                found.push(format!("behind {}", device_name(&device)));
            }
        }
        if self.swaps().iter().any(|swap| swap == path) {
            found.push("swap".to_owned());
        }
        found
    }

    fn swaps(&self) -> Vec<PathBuf> {
        let list = text(&self.proc.join("swaps")).unwrap_or_default();
        let first = |line: &str| unescaped(line.split_whitespace().next().unwrap_or("")).into();
        list.lines().skip(1).map(first).collect()
    }

    /// Processes that have it open, as far as this process may look.
    fn processes(&self, path: &Path) -> Vec<String> {
        let Ok(path) = path.canonicalize() else { return Vec::new() };
        // The links are compared, not what they lead to: a file of a dead server may never answer.
        let has_it = |process: &PathBuf| {
            let files = entries(&process.join("fd"));
            files.iter().any(|file| fs::read_link(file).is_ok_and(|target| target == path))
        };
        let own = std::process::id();
        let pid = |process: &PathBuf| process.file_name()?.to_str()?.parse::<u32>().ok();
        let all = entries(&self.proc).into_iter();
        let others = all.filter_map(|process| Some((pid(&process)?, process)));
        others
            .filter(|(pid, process)| *pid != own && has_it(process))
            .take(PROCESSES_SHOWN)
            .map(|(pid, process)| {
                let name = text(&process.join("comm")).unwrap_or_default();
                format!("open in {} (process {pid})", escaped_bytes(name.trim_end()))
            })
            .collect()
    }
}

/// The partitions of a disk.
fn partitions(node: &Path) -> Vec<PathBuf> {
    match whole(node) == *node {
        true => entries(node).into_iter().filter(|e| e.join("partition").exists()).collect(),
        false => Vec::new(),
    }
}

/// What people call a device: its name in `/dev`, and the one it was given.
fn device_name(node: &Path) -> String {
    let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match text(&node.join("dm/name")) {
        Some(given) => format!("{} ({})", escaped_bytes(&name), escaped_bytes(given.trim_end())),
        None => escaped_bytes(&name).to_string(),
    }
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
