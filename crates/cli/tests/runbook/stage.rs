// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A folder in which the commands of a document are run as they stand there.
//!
//! Its paths take the place of the document's (`/dev/sdX`, `/mnt/...`), and in what is said the
//! other way round. `/dev/sdX` holds an ext4 and fails where the setup says so. On PATH come first:
//! `dmremap`, the program with the folder's sockets and configuration; and `ddrescue`, the real
//! one, which finds the same sectors of `/dev/sdX` bad. What keeps running is ended by its own
//! process group.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::doc::{Block, has_lines};
use crate::mounts::wait_until;

/// What stands in a document, and where that is in the folder.
const PLACES: [(&str, &str); 5] = [
    ("/dev/sd", "/dev/sd"),
    ("/mnt/", "/mnt/"),
    ("/srv/", "/srv/"),
    ("/etc/", "/etc/"),
    ("/run/dmremap", "/run"),
];
/// How long a block may take, in seconds.
const PATIENCE_S: &str = "60";

pub struct Stage {
    pub folder: PathBuf,
    /// The first sector that cannot be read, which documents call SECTOR.
    pub bad_sector: Option<u64>,
    /// What the volume has to hold, from the first write through it on.
    pub content: Vec<u8>,
    /// Where in it something is written that main does not have.
    pub moved_at: Option<usize>,
    running: Vec<Running>,
    scripts: Cell<usize>,
    _folder: tempfile::TempDir,
}

struct Running {
    child: Child,
    said: PathBuf,
}

impl Stage {
    pub fn new() -> Stage {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let temp = tempfile::tempdir_in(base).unwrap();
        let folder = temp.path().to_path_buf();
        for name in ["bin", "dev", "mnt/backup", "srv", "etc/systemd/system", "home"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let stage = Stage {
            folder,
            bad_sector: None,
            content: vec![],
            moved_at: None,
            running: vec![],
            scripts: Cell::new(0),
            _folder: temp,
        };
        let real = env!("CARGO_BIN_EXE_dmremap");
        let (at, main) = (stage.folder.display(), stage.main());
        // Any word that is main becomes the main that fails.
        stage.program(
            "dmremap",
            &format!(
                "for word do\n shift\n if [ \"$word\" = '{at}/dev/sdX' ]; then word='{main}'; fi\n \
                 set -- \"$@\" \"$word\"\ndone\n\
                 exec '{real}' --run-dir '{at}/run' --config '{at}/etc/volumes.conf' \"$@\"\n"
            ),
        );
        stage.faults("", &[]);
        stage
    }

    /// Main as the program is told of it.
    fn main(&self) -> String {
        let at = self.folder.display();
        format!("faulty:{at}/dev/sdX?map={at}/faults")
    }

    /// A program that comes before those of the system.
    fn program(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Main fails like this from now on; `unreadable` are sectors and counts for `ddrescue`.
    pub fn faults(&self, map: &str, unreadable: &[(u64, u64)]) {
        fs::write(self.folder.join("faults.new"), map).unwrap();
        fs::rename(self.folder.join("faults.new"), self.folder.join("faults")).unwrap();
        let mut text = "0x0 +\n".to_owned();
        let mut done = 0;
        for (sector, sectors) in unreadable {
            let (from, bytes) = (sector * 512, sectors * 512);
            text += &format!("{done:#x} {:#x} +\n{from:#x} {bytes:#x} -\n", from - done);
            done = from + bytes;
        }
        text += &format!("{done:#x} {:#x} +\n", (1_u64 << 40) - done);
        fs::write(self.folder.join("unreadable"), text).unwrap();
        let map = self.folder.join("unreadable").display().to_string();
        let main = self.folder.join("dev/sdX").display().to_string();
        self.program(
            "ddrescue",
            &format!(
                "PATH=${{PATH#*:}}\nfor word do\n if [ \"$word\" = '{main}' ]; then\n  \
                 exec ddrescue -H '{map}' \"$@\"\n fi\ndone\nexec ddrescue \"$@\"\n"
            ),
        );
    }

    /// The document's words as they are to be typed here.
    fn here(&self, text: &str) -> String {
        let sector = self.bad_sector.map_or("SECTOR".to_owned(), |sector| sector.to_string());
        let mut text = text.replace("SECTOR", &sector);
        for (there, place) in PLACES {
            text = text.replace(there, &format!("{}{place}", self.folder.display()));
        }
        text
    }

    /// What was said, as the document has it.
    pub fn there(&self, text: &str) -> String {
        let at = self.folder.display().to_string();
        let main = self.main();
        text.replace(&format!("'{main}'"), "/dev/sdX")
            .replace(&main, "/dev/sdX")
            .replace(&format!(" --run-dir {at}/run --config {at}/etc/volumes.conf"), "")
            .replace(&format!("{at}/run"), "/run/dmremap")
            .replace(&at, "")
    }

    /// A new file in the folder.
    fn file(&self, kind: &str) -> PathBuf {
        self.scripts.set(self.scripts.get() + 1);
        self.folder.join(format!("{kind}{}", self.scripts.get()))
    }

    fn shell(&self, script: &str, said: &Path) -> Command {
        let path = self.file("script");
        fs::write(&path, self.here(script)).unwrap();
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", PATIENCE_S, "sh", "-eu"]).arg(path);
        let usual = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.join("bin");
        command.env("PATH", format!("{}:{usual}:/usr/sbin:/sbin", bin.display()));
        command.env_remove("DMREMAP_LOG").current_dir(self.folder.join("home"));
        let said = File::create(said).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        command
    }

    /// Runs these commands to their end; the exit code and all that was said.
    pub fn run(&self, script: &str) -> (i32, String) {
        let said = self.file("said");
        let status = self.shell(script, &said).status().unwrap();
        (status.code().unwrap_or(-1), self.there(&read(&said)))
    }

    /// Runs them as a part of a setup; they must succeed.
    pub fn good(&self, script: &str) -> String {
        let (code, said) = self.run(script);
        assert_eq!(code, 0, "{script}: {said}");
        said
    }

    /// Starts what keeps running and waits until it is ready.
    pub fn start(&mut self, script: &str) {
        let said = self.file("said");
        let mounted = mounts(&self.folder).len();
        let child = self.shell(script, &said).process_group(0).spawn().unwrap();
        self.running.push(Running { child, said });
        let (at, last) = (self.folder.clone(), self.running.len() - 1);
        wait_until(script, || {
            let running = &mut self.running[last];
            let text = read(&running.said);
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{script}: {ended:?}: {text}");
            text.contains("listening ") || mounts(&at).len() > mounted
        });
        // Real disks want some time between two attempts, images do not.
        let _ = self.run("dmremap message mydisk set retry_backoff_ms 1");
    }

    /// Runs a block of the document and checks what the document says of it.
    pub fn block(&mut self, name: &str, block: &Block) {
        let here = format!("{name}:{}", block.line);
        let wanted: Vec<String> = block.said.iter().map(|line| self.wanted(line)).collect();
        if block.serves() {
            self.start(&block.script);
            let path = self.running.last().unwrap().said.clone();
            wait_until(&format!("{here}: {wanted:?}"), || {
                has_lines(&self.there(&read(&path)), &wanted).is_ok()
            });
            return;
        }
        let (code, said) = self.run(&block.script);
        assert_eq!(code, block.exit.unwrap_or(0), "{here}: {}{said}", block.script);
        if let Err(line) = has_lines(&said, &wanted) {
            panic!("{here}: it does not say: {line}\nit says:\n{said}");
        }
    }

    fn wanted(&self, line: &str) -> String {
        match self.bad_sector {
            Some(sector) => line.replace("SECTOR", &sector.to_string()),
            None => line.to_owned(),
        }
    }

    /// Kills what was started last, as a power cut does.
    pub fn kill_last(&mut self) {
        if let Some(mut running) = self.running.pop() {
            end(&mut running.child);
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// Ends a process with all it has started.
fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// What is mounted below `folder`, the last first.
fn mounts(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<PathBuf> = places.filter(|place| place.starts_with(folder)).collect();
    found.reverse();
    found
}

impl Drop for Stage {
    fn drop(&mut self) {
        let unmount = |options: &[&str], place: &Path| {
            let mut command = Command::new("timeout");
            command.args(["--kill-after=5", "20", "umount"]).args(options).arg(place);
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        for place in mounts(&self.folder) {
            let _ = unmount(&[], &place);
        }
        self.running.iter_mut().rev().for_each(|running| end(&mut running.child));
        for place in mounts(&self.folder) {
            let _ = unmount(&["-l"], &place);
        }
    }
}
