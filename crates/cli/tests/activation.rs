// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `serve` for those who bring the socket: by socket activation, and on standard input and output.

mod common;

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use common::{Bench, known};
use dmremap_nbd::Client;

/// `serve` with these further words and `listener` as its descriptor 3; the shell that puts it
/// there keeps its process id.
fn activated(bench: &Bench, listener: &UnixListener, args: &[&str]) -> Command {
    let serve = bench.command(&[&["serve", "--spare", "spare.img"], args].concat());
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    shell.args(["-c", script]).arg(serve.get_program()).args(serve.get_args());
    let listener = OwnedFd::from(listener.try_clone().unwrap());
    shell.current_dir(bench.path("")).stdin(Stdio::from(listener));
    shell
}

#[test]
fn a_socket_that_is_handed_over_is_served() {
    let bench = Bench::new();
    bench.format("main.img");
    let listener = UnixListener::bind(bench.path("their.socket")).unwrap();
    let spare = std::fs::read(bench.path("spare.img")).unwrap();
    let both = activated(&bench, &listener, &["--nbd", "unix:n"]).output().unwrap();
    let said = String::from_utf8(both.stderr).unwrap();
    assert!(both.status.code() == Some(1) && said.contains("LISTEN_FDS"), "{said}");
    assert!(std::fs::read(bench.path("spare.img")).unwrap() == spare, "something was changed");

    let mut command = activated(&bench, &listener, &[]);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let place = bench.path("their.socket");
    assert_eq!(line, format!("listening nbd+unix:///v?socket={}\n", place.display()));
    let client = Client::connect_unix(&place, "v").unwrap();
    assert_eq!(client.read(512, 512).unwrap(), [known(512); 512]);
    drop(client);
    bench.good(&["close", "v"]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(place.exists(), "it is not the server's to remove");
}

#[test]
fn one_client_on_standard_input_and_output() {
    let bench = Bench::new();
    bench.format("main.img");
    let (near, far) = UnixStream::pair().unwrap();
    let far = OwnedFd::from(far);
    let mut command = bench.command(&["serve", "--spare", "spare.img", "--stdio"]);
    command.stdin(Stdio::from(far.try_clone().unwrap())).stdout(Stdio::from(far));
    let mut server = command.stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let client = Client::connect_pair(near.try_clone().unwrap(), near, "v").unwrap();
    client.write(512, &[0x51; 512], true).unwrap();
    assert_eq!(bench.good(&["message", "v", "ping"]), "pong\n", "the control socket is there");
    client.disconnect().unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0), "it ends with its client");
    assert_eq!(bench.main_sector(1), [0x51; 512]);
    assert_eq!(bench.json(&["examine", "spare.img", "--json"])["volume"]["state"], "clean");
}
