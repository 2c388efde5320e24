// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask msrv`: the default build, as the README begins it, in a minimal Debian 13 with
//! nothing but its own rustc 1.85, cargo and cc; then the demo, and every crate checked by that
//! compiler (not its tests: a model checker they use asks for a newer one).
//!
//! The system is made by mmdebstrap and kept in the user's cache folder, named by a hash of all it
//! is made from; so are the sources of the dependencies, by Cargo.lock. Both are made beside their
//! place and renamed into it, so that what has the name is whole; whatever has an old name is
//! removed. Inside there is no network, the project is mounted read-only, the system too, and
//! everything that is mounted goes with the namespace, however the run ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::counts::Counts;
use crate::run;

const SUITE: &str = "trixie";
const PACKAGES: &str = "rustc,cargo,gcc,libc6-dev,ca-certificates";
/// Raised when the way the system is made changes.
const VERSION: u32 = 1;
/// Where the packages come from if the machine's own sources name no archive of Debian.
const PUBLIC_MIRROR: &str = "http://deb.debian.org/debian";

/// What runs inside, in this order; a step needs those before it. `cargo` gets its options added.
const STEPS: &[(&str, u32, &[&str])] = &[
    ("msrv_default_build", 1_800, &["cargo", "build", "--release"]),
    ("msrv_demo", 300, &["/tmp/target/release/dmremap", "demo"]),
    ("msrv_every_crate", 1_800, &["cargo", "check", "--workspace"]),
];

/// Where the vendored sources are inside.
const SOURCES: &[&str] = &[
    "--locked",
    "--offline",
    "--config=source.crates-io.replace-with=\"vendored\"",
    "--config=source.vendored.directory=\"/tmp/vendor\"",
];

/// Sets the system up in a mount namespace of its own and becomes the command in it. Arguments:
/// the system, the project, the vendored sources, the folder to build in, the command.
const ENTER: &str = r#"
set -eu
system=$1 project=$2 vendor=$3 target=$4
shift 4
mount --bind "$system" "$system"
cd "$system"
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir -m 1777 dev/shm
for node in null zero full random urandom; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir tmp/project tmp/vendor tmp/target
mount --bind "$target" tmp/target
for pair in "$project:tmp/project" "$vendor:tmp/vendor"; do
    mount --bind "${pair%:*}" "${pair##*:}"
    mount -o remount,bind,ro "${pair##*:}"
done
mount -o remount,bind,ro "$system"
exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp LANG=C.UTF-8 \
    CARGO_HOME=/tmp/target/home CARGO_TARGET_DIR=/tmp/target \
    chroot . /bin/sh -c 'cd /tmp/project && exec "$@"' sh "$@"
"#;

/// Runs every step, as a stage of the tests, if a step's name contains the filter.
pub fn run(root: &Path, filter: Option<&str>) -> Counts {
    let mut counts = Counts::default();
    if filter.is_some_and(|part| !STEPS.iter().any(|(name, ..)| name.contains(part))) {
        return counts;
    }
    if let Some(reason) = impossible() {
        println!("dmremap-skip: msrv: {reason}");
        counts.skipped.extend(STEPS.iter().map(|(name, ..)| format!("{name}: {reason}")));
        return counts;
    }
    let start = Instant::now();
    let prepared = match Prepared::make(root) {
        Ok(prepared) => prepared,
        Err(message) => {
            println!("msrv: {message}");
            counts.failed += 1;
            return counts;
        }
    };
    println!("msrv: the system is ready after {:.1} s", start.elapsed().as_secs_f64());
    for (name, seconds, words) in STEPS {
        let start = Instant::now();
        let mut command = prepared.inside(root, *seconds, words);
        println!("$ (Debian {SUITE}) {}", words.join(" "));
        let good = command.status().is_ok_and(|status| status.success());
        let took = start.elapsed().as_secs_f64();
        println!("test {name} ... {} ({took:.1} s)", if good { "ok" } else { "FAILED" });
        if !good {
            counts.failed += 1;
            break;
        }
        counts.passed += 1;
    }
    counts
}

/// Why it cannot run here.
fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root, to make a Debian system and to mount in it".into());
    }
    for program in ["mmdebstrap", "unshare", "timeout"] {
        if !run::installed(program) {
            return Some(format!("needs the program {program}"));
        }
    }
    let try_it = isolated(10).arg("true").output();
    if !try_it.is_ok_and(|out| out.status.success()) {
        return Some("needs namespaces of its own (CAP_SYS_ADMIN)".into());
    }
    None
}

/// What is put before a command so that it ends in time, and with it all its processes and mounts.
fn isolated(seconds: u32) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &seconds.to_string()]);
    command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
    command.stdin(std::process::Stdio::null());
    command
}

/// What a run needs, kept by nobody else while this one holds it.
struct Prepared {
    system: PathBuf,
    vendor: PathBuf,
    target: PathBuf,
    _lock: File,
}

impl Prepared {
    fn make(root: &Path) -> Result<Prepared, String> {
        let cache = cache_folder()?.join("dm-remap").join("debian-13");
        let target = cache.join("target");
        fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
        let lock = lock(&cache.join("lock"))?;
        let lockfile = fs::read(root.join("Cargo.lock")).map_err(|e| format!("Cargo.lock: {e}"))?;
        let inputs = format!("{SUITE} {PACKAGES} {VERSION}");
        let system = kept(&cache, "system", inputs.as_bytes(), debootstrap)?;
        let vendor = kept(&cache, "vendor", &lockfile, |folder| vendored(root, folder))?;
        Ok(Prepared { system, vendor, target, _lock: lock })
    }

    fn inside(&self, root: &Path, seconds: u32, words: &[&str]) -> Command {
        let mut command = isolated(seconds);
        // In front of the shell: no network inside.
        command.args(["unshare", "--net", "sh", "-c", ENTER, "enter"]);
        command.args([&self.system, root, &self.vendor, &self.target]);
        command.args(words);
        if words.first() == Some(&"cargo") {
            command.args(SOURCES);
        }
        command
    }
}

/// The user's folder for what can be made again.
fn cache_folder() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME names a folder".into())
}

/// Waits, not for ever, until nobody else has the folder.
fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > Duration::from_secs(3_600) {
            return Err(format!("another run has held {} for an hour", path.display()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(file)
}

/// The folder `NAME-HASH` in the cache, made if it is not there; others of that name are removed.
fn kept(
    cache: &Path,
    name: &str,
    inputs: &[u8],
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let wanted = format!("{name}-{:016x}", fnv(inputs));
    let listed = fs::read_dir(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    for entry in listed.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        if found.starts_with(&format!("{name}-")) && found != wanted {
            remove(&entry.path())?;
        }
    }
    let folder = cache.join(&wanted);
    if folder.is_dir() {
        return Ok(folder);
    }
    let half = cache.join(format!("{wanted}.half"));
    remove(&half)?;
    if let Err(message) = make(&half) {
        remove(&half)?;
        return Err(message);
    }
    fs::rename(&half, &folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {e}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// FNV-1a: names a folder, nothing more.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn debootstrap(folder: &Path) -> Result<(), String> {
    let mut command = isolated(1_200);
    command.args(["mmdebstrap", "--quiet", "--format=directory", "--variant=minbase"]);
    command.arg(format!("--include={PACKAGES}"));
    let dump = run::output(Command::new("apt-config").arg("dump")).unwrap_or_default();
    command.args(apt_options(&dump).iter().map(|option| format!("--aptopt={option}")));
    command.args([SUITE.as_ref(), folder.as_os_str()]).arg(mirror(&apt_sources()));
    if run::succeeds(&mut command) { Ok(()) } else { Err("mmdebstrap failed".into()) }
}

fn vendored(root: &Path, folder: &Path) -> Result<(), String> {
    let mut command = run::cargo(root);
    command.args(["vendor", "--quiet", "--locked", "--versioned-dirs", "--respect-source-config"]);
    run::output(command.arg(folder)).map(drop)
}

/// The settings of apt that say how to reach an archive and what to believe of its dates.
fn apt_options(dump: &str) -> Vec<String> {
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-"];
    dump.lines()
        .filter(|line| wanted.iter().any(|start| line.starts_with(start)))
        .filter(|line| !line.ends_with("\"\";"))
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}

/// The text of everything that tells apt where packages are.
fn apt_sources() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// The first archive of Debian that the sources name (in either of apt's notations).
fn mirror(sources: &str) -> String {
    sources
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.ends_with("/debian"))
        .unwrap_or(PUBLIC_MIRROR)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let classic = "# deb http://no/debian x main\ndeb [a=b] https://mirror/x/debian/ x main\n";
        assert_eq!(mirror(classic), "https://mirror/x/debian");
        let modern = "Types: deb\nURIs: http://a/debian-security http://a/debian\nSuites: x\n";
        assert_eq!(mirror(modern), "http://a/debian");
        assert_eq!(mirror("deb http://archive/ubuntu noble main\n"), PUBLIC_MIRROR);
    }

    #[test]
    fn apt_keeps_its_proxy_and_its_clock() {
        let dump = "Acquire::http \"\";\nAcquire::http::Proxy \"http://p:1\";\n\
                    Acquire::Check-Date \"false\";\nAcquire::Languages \"en\";\n";
        let options = ["Acquire::http::Proxy \"http://p:1\"", "Acquire::Check-Date \"false\""];
        assert_eq!(apt_options(dump), options);
    }

    #[test]
    fn a_folder_is_made_once_whole_and_its_forerunners_go() {
        let cache = std::env::temp_dir().join(format!("dmremap-kept-{}", std::process::id()));
        fs::create_dir_all(cache.join("a-old.half")).unwrap();
        let make = |folder: &Path| fs::create_dir(folder).map_err(|e| e.to_string());
        let first = kept(&cache, "a", b"1", make).unwrap();
        assert_eq!(kept(&cache, "a", b"1", |_| Err("made twice".into())).unwrap(), first);
        assert!(!cache.join("a-old.half").exists());
        let failing = |folder: &Path| make(folder).and(Err("no".into()));
        assert!(kept(&cache, "b", b"1", failing).is_err());
        let second = kept(&cache, "a", b"2", make).unwrap();
        let left: Vec<_> = fs::read_dir(&cache).unwrap().flatten().map(|e| e.path()).collect();
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(left, [second]);
    }
}
