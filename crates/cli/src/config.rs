// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The local configuration, `volumes.conf`: which main belongs to which volume on this machine.
//!
//! It alone may name a second device to open (promise 6: what a device says about other devices
//! decides nothing). `/etc/dm-remap/volumes.conf` for root, `$XDG_CONFIG_HOME/dm-remap/` else.
//!
//! The form is one section a volume, its UUID in brackets, then `key = value` lines:
//!
//! ```text
//! [6f1c...-...]
//! name = backup
//! main = /dev/disk/by-id/ata-WDC_...
//! spare = /dev/disk/by-id/usb-...
//! ```
//!
//! Values stand to the end of the line; bytes below 0x21, above 0x7e and `%` are `%XX`. Lines and
//! sections this program does not know are kept. The file is replaced whole (written beside it,
//! synced, renamed), under a lock on its folder, so that two commands do not lose each other's
//! change.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::escape::escaped;
use crate::failure::{Class, Failure, Outcome};
use crate::remedy::again_with;

/// The file is never longer; a longer one is refused.
const MOST_BYTES: u64 = 1 << 20;

/// What is known of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its UUID in the usual form.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Where main was when it was last accepted.
    pub main: PathBuf,
    /// Where the spare was.
    pub spare: PathBuf,
}

/// The file at its place; it need not exist.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
}

/// A section as its lines, the first of them its head; the first section has no head.
type Section = Vec<String>;

impl Config {
    /// Where it is, given what `--config` says.
    pub fn locate(given: Option<&Path>) -> Outcome<Config> {
        if let Some(path) = given {
            return Ok(Config { path: path.to_path_buf() });
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Config { path: "/etc/dm-remap/volumes.conf".into() });
        }
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|h| h.join(".config")));
        match base {
            Some(base) => Ok(Config { path: base.join("dm-remap/volumes.conf") }),
            None => Err(Failure::new(Class::Usage, "neither XDG_CONFIG_HOME nor HOME is set")
                .with_next(again_with("--config=FILE"))),
        }
    }

    /// Every volume it names. A section that lacks something is left out.
    pub fn volumes(&self) -> Outcome<Vec<Volume>> {
        Ok(sections(&self.read()?).iter().filter_map(volume).collect())
    }

    /// The volume with this UUID.
    pub fn find(&self, uuid: &str) -> Outcome<Option<Volume>> {
        Ok(self.volumes()?.into_iter().find(|v| v.uuid.eq_ignore_ascii_case(uuid)))
    }

    /// Adds `wanted`, or replaces what is said of the volume with its UUID.
    pub fn save(&self, wanted: &Volume) -> Outcome<()> {
        self.change(|all| {
            // What is said of a volume that lay on this spare, or had this main and name, before
            // holds no more.
            all.retain(|section| {
                volume(section).is_none_or(|v| {
                    let followed = v.name == wanted.name && v.main == wanted.main;
                    v.uuid.eq_ignore_ascii_case(&wanted.uuid)
                        || !(v.spare == wanted.spare || followed)
                })
            });
            let place = all.iter().position(|s| is_of(s, &wanted.uuid));
            match place {
                Some(index) => set(&mut all[index], wanted),
                None => {
                    let mut section = vec![format!("[{}]", wanted.uuid)];
                    set(&mut section, wanted);
                    all.push(section);
                }
            }
        })
    }

    /// Removes what is said of the volume with this UUID; whether anything was.
    pub fn remove(&self, uuid: &str) -> Outcome<bool> {
        if self.find(uuid)?.is_none() {
            return Ok(false);
        }
        self.change(|all| all.retain(|section| !is_of(section, uuid))).map(|()| true)
    }

    /// Replaces the file by what `edit` makes of it, under the lock.
    fn change(&self, edit: impl FnOnce(&mut Vec<Section>)) -> Outcome<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(|error| Failure::io("create", folder, &error))?;
        let lock = File::open(folder).map_err(|error| Failure::io("open", folder, &error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| Failure::io("lock", folder, &errno.into()))?;
        let mut all = sections(&self.read()?);
        edit(&mut all);
        let text: String = all.iter().flatten().flat_map(|line| [line.as_str(), "\n"]).collect();
        self.replace(folder, &lock, &text)
    }

    fn read(&self) -> Outcome<String> {
        let mut text = String::new();
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(text),
            Err(error) => return Err(Failure::io("open", &self.path, &error)),
        };
        let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
        read.map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::IsADirectory => self.unusable("no text file"),
            _ => Failure::io("read", &self.path, &error),
        })?;
        if text.len() as u64 > MOST_BYTES {
            return Err(self.unusable("longer than 1 MiB"));
        }
        Ok(text)
    }

    /// What lies at its place is no configuration.
    fn unusable(&self, why: &str) -> Failure {
        let what = format!("the local configuration {} is {why}", escaped(&self.path));
        Failure::new(Class::Missing, what).with_next(again_with("--config=FILE"))
    }

    fn replace(&self, folder: &Path, lock: &File, text: &str) -> Outcome<()> {
        let beside = folder.join(".volumes.conf.new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, &self.path))
            .and_then(|()| lock.sync_all());
        written.map_err(|error| Failure::io("write", &self.path, &error))
    }
}

fn sections(text: &str) -> Vec<Section> {
    let mut all = vec![Section::new()];
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            all.push(Section::new());
        }
        if let Some(section) = all.last_mut() {
            section.push(line.to_owned());
        }
    }
    all
}

fn head(section: &Section) -> Option<&str> {
    section.first()?.trim().strip_prefix('[')?.strip_suffix(']').map(str::trim)
}

fn is_of(section: &Section, uuid: &str) -> bool {
    head(section).is_some_and(|head| head.eq_ignore_ascii_case(uuid))
}

fn key_value(line: &str) -> Option<(&str, &str)> {
    line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
}

fn value(section: &Section, wanted: &str) -> Option<Vec<u8>> {
    let line =
        section.iter().skip(1).filter_map(|line| key_value(line)).find(|(key, _)| *key == wanted);
    decode(line?.1)
}

fn volume(section: &Section) -> Option<Volume> {
    Some(Volume {
        uuid: head(section)?.to_owned(),
        name: String::from_utf8(value(section, "name")?).ok()?,
        main: OsString::from_vec(value(section, "main")?).into(),
        spare: OsString::from_vec(value(section, "spare")?).into(),
    })
}

/// Sets the keys of `section` to what `wanted` says and leaves its other lines alone.
fn set(section: &mut Section, wanted: &Volume) {
    let keys = [
        ("name", wanted.name.as_bytes()),
        ("main", wanted.main.as_os_str().as_bytes()),
        ("spare", wanted.spare.as_os_str().as_bytes()),
    ];
    section
        .retain(|line| !keys.iter().any(|(key, _)| key_value(line).is_some_and(|kv| kv.0 == *key)));
    let new = keys.map(|(key, bytes)| format!("{key} = {}", encode(bytes)));
    section.splice(1..1, new);
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'%' | 0..=0x20 | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            byte => text.push(byte as char),
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (rest.next()? as char, rest.next()? as char);
            bytes.push((high.to_digit(16)? << 4 | low.to_digit(16)?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
