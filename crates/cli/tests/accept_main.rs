// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A main that is not known for sure: the question, and the command that answers it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const IMAGE_BYTES: usize = 8 << 20;

struct Bench(tempfile::TempDir);

impl Bench {
    /// A folder with a volume `v` of `main.img` and `spare.img`, and `copy.img`, a copy of main.
    fn new() -> Bench {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let bench = Bench(folder);
        std::fs::create_dir(bench.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_dmremap"), bench.path("bin/dmremap")).unwrap();
        std::fs::write(bench.path("main.img"), vec![0x5a; IMAGE_BYTES]).unwrap();
        std::fs::write(bench.path("spare.img"), vec![0; IMAGE_BYTES]).unwrap();
        let made = bench.run("format --main main.img --spare spare.img --name v --yes");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A line as a person types it.
    fn typed(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        shell.args(["-c", &format!("exec {line}")]).current_dir(self.0.path());
        shell.env("PATH", format!("{}:{path}", self.path("bin").display()));
        shell.env_remove("DMREMAP_LOG").stdin(Stdio::null());
        shell
    }

    fn run(&self, words: &str) -> Output {
        let line = format!("dmremap --run-dir 'a run' --config volumes.conf {words}");
        self.typed(&line).output().unwrap()
    }

    /// A refusal: its exit code, what it said, the command it says to try. Nothing was written.
    fn refused(&self, words: &str) -> (i32, String, String) {
        let image = |name: &str| std::fs::read(self.path(name)).unwrap();
        let names = ["main.img", "copy.img", "spare.img", "volumes.conf"];
        let before = names.map(image);
        let out = self.run(words);
        assert!(names.map(image) == before, "something was written");
        let said = String::from_utf8(out.stderr).unwrap();
        let (_, next) = said.trim_end().rsplit_once("; try: ").unwrap_or_else(|| panic!("{said}"));
        let next = next.to_owned();
        (out.status.code().unwrap_or(-1), said, next)
    }

    /// Starts a server by `line` and waits until it listens.
    fn serve(&self, line: &str) -> Server {
        let mut child =
            self.typed(line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let server = Server(child);
        assert!(first.starts_with("listening "), "{line}: {first:?}");
        server
    }
}

/// A server that is killed in the end.
struct Server(Child);

impl Server {
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_a_question_ends_with_answers_it() {
    let bench = Bench::new();
    let (code, said, next) = bench.refused("serve --spare spare.img --main copy.img");
    assert_eq!(code, 6, "{said}");
    assert_eq!(said.matches("inode").count(), 2, "both identities are shown: {said}");
    assert!(next.ends_with("serve --spare spare.img --main copy.img --accept-main=same"), "{next}");
    assert_eq!(bench.serve(&next).stop(), Some(0));
    // It is main from now on, here and in the local configuration.
    let known = std::fs::read_to_string(bench.path("volumes.conf")).unwrap();
    assert!(known.contains("copy.img") && !known.contains("main.img"), "{known}");
    let plain = next.strip_suffix(" --main copy.img --accept-main=same").unwrap();
    assert_eq!(bench.serve(plain).stop(), Some(0));
    assert_eq!(bench.refused("serve --spare spare.img --main main.img").0, 6);
}

#[test]
fn a_main_of_another_size_ends_with_a_command_that_parses() {
    let bench = Bench::new();
    std::fs::File::create(bench.path("copy.img")).unwrap().set_len(4 << 20).unwrap();
    let (code, said, next) = bench.refused("serve --spare spare.img --main copy.img");
    assert_eq!(code, 4, "{said}");
    assert!(next.ends_with(" serve --spare spare.img --main DEV"), "{next}");
}

#[test]
fn the_list_of_a_running_volume_says_why() {
    let bench = Bench::new();
    let line = "dmremap --run-dir 'a run' --config volumes.conf serve --spare spare.img";
    let server = bench.serve(line);
    assert!(bench.run("remap v 100").status.success());
    let list =
        |words| -> serde_json::Value { serde_json::from_slice(&bench.run(words).stdout).unwrap() };
    let running = list("list v --json");
    assert_eq!(
        (&running[0]["cause"], running.as_array().map(Vec::len)),
        (&"remap".into(), Some(1))
    );
    assert_eq!(server.stop(), Some(0));
    assert_eq!(list("list --spare spare.img --json"), running);
}
