// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The NBD server beside those of others, in one interleaved run.
//!
//! One file in memory is served by all of them at once: by `dmremap serve` as a main whose table is
//! empty, by nbdkit's file plugin with its default threads and with one, by qemu-nbd. fio, with its
//! nbd engine, asks one of them at a time; in every round each has each load once, and who is first
//! changes from load to load and from round to round. What counts is the ratio of ours to another
//! one's in the same round: its median should be at least 1.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{median, with_spread};
use crate::run;

/// The servers of others, by the names the command line knows.
pub const PEERS: &[&str] = &["nbdkit", "nbdkit-t1", "qemu-nbd"];

const FILE_MIB: u32 = 512;
const SPARE_MIB: u32 = 64;

/// One load: what fio calls it, its block, its depth.
const LOADS: &[(&str, &str, u32)] = &[
    ("randread", "4k", 1),
    ("randread", "4k", 16),
    ("randwrite", "4k", 1),
    ("randwrite", "4k", 16),
    ("read", "1m", 1),
    ("read", "1m", 16),
    ("write", "1m", 1),
    ("write", "1m", 16),
];

/// Names of peers, with commas between.
pub fn peers(text: &str) -> Result<Vec<&'static str>, String> {
    let known = |name: &str| PEERS.iter().find(|peer| **peer == name).copied();
    text.split(',')
        .map(|name| known(name).ok_or(format!("no peer \"{name}\": {}", PEERS.join(", "))))
        .collect()
}

/// The table, and all samples.
pub fn run(
    root: &Path,
    rounds: usize,
    seconds: u32,
    peers: &[&'static str],
) -> Result<(String, Value), String> {
    let wanted = [("fio", "fio"), ("nbdkit", "nbdkit"), ("qemu-nbd", "qemu-utils")];
    for (program, package) in wanted {
        let used = program == "fio" || peers.iter().any(|peer| peer.starts_with(program));
        if used && !run::installed(program) {
            return Err(format!("{program} is not installed; it comes with the package {package}"));
        }
    }
    let mut build = run::cargo(root);
    if !run::succeeds(build.args(["build", "--release", "--package", "dmremap"])) {
        return Err("the release build failed".into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| e.to_string())?;
    }
    let place = Place::new()?;
    let mut servers = vec![ours(root, &place)?];
    for peer in peers {
        servers.push(other(peer, &place)?);
    }
    let mut samples = vec![vec![Vec::new(); servers.len()]; LOADS.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (at, load) in LOADS.iter().enumerate() {
            for turn in 0..servers.len() {
                let who = (turn + at + round) % servers.len();
                samples[at][who].push(fio(&servers[who].uri, load, seconds)?);
                if stop.load(Ordering::Relaxed) {
                    return Err("stopped".into());
                }
            }
        }
    }
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    Ok((table(&names, &samples), document(&names, &samples)))
}

/// A folder in memory with the file that is served; gone when this is.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Place, String> {
        let path = PathBuf::from(format!("/dev/shm/dmremap-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let place = Place(path);
        place.fill("main.img", FILE_MIB).map_err(|e| format!("main.img: {e}"))?;
        place.fill("spare.img", SPARE_MIB).map_err(|e| format!("spare.img: {e}"))?;
        Ok(place)
    }

    /// Makes a file without a hole in it.
    fn fill(&self, name: &str, mib: u32) -> std::io::Result<()> {
        let mut file = File::create(self.0.join(name))?;
        let byte = u8::from(name.starts_with("main")) * 0xa5;
        (0..mib).try_for_each(|_| file.write_all(&[byte; 1 << 20]))
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that runs until this goes.
struct Server {
    name: &'static str,
    uri: String,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command.stdin(Stdio::null());
    command.spawn().map_err(|e| format!("{}: {e}", run::shown(command)))
}

fn ours(root: &Path, place: &Place) -> Result<Server, String> {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |set| {
        root.join(PathBuf::from(set)) // An absolute path stays what it is.
    });
    let program = folder.join("release/dmremap");
    let dmremap = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--run-dir", &place.at("run"), "--config", &place.at("volumes.conf")]);
        command.args(words).env_remove("DMREMAP_LOG");
        command
    };
    let (main, spare, socket) = (place.at("main.img"), place.at("spare.img"), place.at("ours"));
    let words = ["format", "--main", &main, "--spare", &spare, "--name", "bench", "--yes"];
    run::output(&mut dmremap(&words))?;
    let listen = format!("unix:{socket}");
    let words = ["serve", "--spare", &spare, "--nbd", &listen];
    let mut child = spawn(dmremap(&words).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
    }
    let mut server = Server { name: "dmremap", uri: String::new(), child };
    let uri = line.strip_prefix("listening ").ok_or("dmremap serve does not listen")?;
    server.uri = uri.trim().to_owned();
    Ok(server)
}

fn other(name: &'static str, place: &Place) -> Result<Server, String> {
    let (main, socket) = (place.at("main.img"), place.at(name));
    let mut command = match name {
        "qemu-nbd" => {
            let mut command = Command::new("qemu-nbd");
            command.args(["--persistent", "--shared=8", "--format=raw", "--socket"]);
            command.args([&socket, &main]);
            command
        }
        _ => {
            let mut command = Command::new("nbdkit");
            if name == "nbdkit-t1" {
                command.args(["--threads", "1"]);
            }
            command.args(["--foreground", "--unix", &socket, "file", &main]);
            command
        }
    };
    let server = Server {
        name,
        uri: format!("nbd+unix:///?socket={socket}"),
        child: spawn(command.stdout(Stdio::null()))?,
    };
    let start = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("{name} does not listen"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// Requests a second of one load at one server.
fn fio(uri: &str, load: &(&str, &str, u32), seconds: u32) -> Result<f64, String> {
    let (kind, block, depth) = load;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &(seconds + 60).to_string(), "fio", "--name=bench"]);
    command.args(["--ioengine=nbd", "--output-format=json", "--time_based", "--norandommap=1"]);
    command.arg(format!("--uri={uri}")).arg(format!("--rw={kind}")).arg(format!("--bs={block}"));
    command.arg(format!("--iodepth={depth}")).arg(format!("--runtime={seconds}"));
    command.arg(format!("--size={FILE_MIB}m")).stdin(Stdio::null());
    rate(&run::output(&mut command)?, kind)
}

/// The requests a second that fio's JSON tells of.
fn rate(text: &str, kind: &str) -> Result<f64, String> {
    let start = text.find('{').ok_or("fio printed no JSON")?;
    let value: Value = serde_json::from_str(&text[start..]).map_err(|e| format!("fio: {e}"))?;
    let job = &value["jobs"][0];
    if job["error"].as_i64() != Some(0) {
        return Err(format!("fio failed with error {}", job["error"]));
    }
    let side = if kind.ends_with("read") { "read" } else { "write" };
    let iops = job[side]["iops"].as_f64().filter(|iops| *iops > 0.0);
    iops.ok_or_else(|| format!("fio did no {side}"))
}

fn load_name((kind, block, depth): &(&str, &str, u32)) -> String {
    format!("{kind} {block}, depth {depth}")
}

/// Samples by load and server, ours first.
type Samples = [Vec<Vec<f64>>];

/// Ours to theirs, round by round.
fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

fn table(names: &[&str], samples: &Samples) -> String {
    let mut text = format!("\n| requests a second, median (min..max) | {} |", names[0]);
    for name in &names[1..] {
        text += &format!(" {name} | ratio |");
    }
    text += &format!("\n|{}\n", "---|".repeat(2 * names.len()));
    for (load, row) in LOADS.iter().zip(samples) {
        text += &format!("| {} | {} |", load_name(load), with_spread(&row[0]));
        for theirs in &row[1..] {
            let ratios = ratios(&row[0], theirs);
            let met = if median(&ratios) >= 1.0 { "met" } else { "not met" };
            text += &format!(" {} | {} {met} |", with_spread(theirs), with_spread(&ratios));
        }
        text += "\n";
    }
    text
}

fn document(names: &[&str], samples: &Samples) -> Value {
    let cell = |load: &(&str, &str, u32), row: &[Vec<f64>]| {
        let servers: serde_json::Map<String, Value> =
            names.iter().zip(row).map(|(name, row)| (name.to_string(), json!(row))).collect();
        json!({ "load": load_name(load), "requests_a_second": servers })
    };
    LOADS.iter().zip(samples).map(|(load, row)| cell(load, row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_fio_prints() {
        let text = r#"fio: connected to NBD server
            {"jobs": [{"error": 0, "read": {"iops": 40211.5}, "write": {"iops": 0.0}}]}"#;
        assert_eq!(rate(text, "randread"), Ok(40211.5));
        assert!(rate(text, "randwrite").is_err(), "nothing was written");
        assert!(rate(r#"{"jobs": [{"error": 5, "read": {"iops": 1}}]}"#, "read").is_err());
        assert!(rate("fio: no such engine", "read").is_err());
    }

    #[test]
    fn the_table_has_ratios_of_the_same_round() {
        let samples = vec![vec![vec![200.0, 300.0, 100.0], vec![100.0, 200.0, 400.0]]];
        let text = table(&["dmremap", "nbdkit"], &samples);
        let row = "| randread 4k, depth 1 | 200 (100..300) | 200 (100..400) | \
                   1.50 (0.25..2) met |";
        assert!(text.contains(row), "{text}");
        let value = document(&["dmremap", "nbdkit"], &samples);
        assert_eq!(value[0]["requests_a_second"]["nbdkit"][2], json!(400.0));
    }

    #[test]
    fn peers_are_known_by_name() {
        assert_eq!(peers("qemu-nbd,nbdkit-t1"), Ok(vec!["qemu-nbd", "nbdkit-t1"]));
        assert!(peers("nbdkit,other").is_err());
    }
}
