// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The server behind standard input and output and behind inherited sockets. This program has no
//! test harness: started with a role it is such a server, without one it starts itself in each role
//! and is the client.

mod common;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use common::{BLOCK, FOREVER, Memory, config};
use dmremap_nbd::{Client, End, Server, inherited_listeners};

const ROLE: &str = "DMREMAP_NBD_TEST_ROLE";

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok("stdio") => serve_stdio(),
        Ok("listen") => serve_inherited(|_| {
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }),
        Ok("listen-once") => serve_inherited(|memory| memory.wait_closed(1)),
        Ok(other) => panic!("no such role: {other}"),
        Err(_) => {
            let cases: [(&str, fn()); 7] = [
                ("stdio_over_pipes", stdio_over_pipes),
                ("stdio_over_a_socket", stdio_over_a_socket),
                ("a_shutdown_wakes_a_server_on_pipes", a_shutdown_wakes_a_server_on_pipes),
                ("a_shutdown_wakes_a_server_on_a_socket", a_shutdown_wakes_a_server_on_a_socket),
                ("inherited_unix_and_tcp_sockets", inherited_unix_and_tcp_sockets),
                ("what_cannot_be_inherited", what_cannot_be_inherited),
                ("libnbd_activates_the_server", libnbd_activates_the_server),
            ];
            for (name, case) in cases {
                case();
                println!("test {name} ... ok");
            }
            // As the usual harness says it, for whoever counts.
            println!("test result: ok. {} passed; 0 failed", cases.len());
            ExitCode::SUCCESS
        }
    }
}

fn serve_stdio() -> ExitCode {
    let server = Server::new(Arc::new(Memory::new()), config()).unwrap();
    let own = |fd: io::Result<OwnedFd>| fd.unwrap();
    let input = own(io::stdin().as_fd().try_clone_to_owned());
    let output = own(io::stdout().as_fd().try_clone_to_owned());
    match server.serve_files(input, output).unwrap() {
        End::Disconnected => ExitCode::SUCCESS,
        End::Left => ExitCode::from(10),
        _ => ExitCode::from(11),
    }
}

/// Serves until `wait` returns: at the end of standard input, or when the first client has left.
fn serve_inherited(wait: impl FnOnce(&Memory)) -> ExitCode {
    let listeners = match inherited_listeners() {
        Ok(listeners) if listeners.is_empty() => return ExitCode::from(20),
        Ok(listeners) => listeners,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(21);
        }
    };
    assert!(inherited_listeners().unwrap().is_empty(), "taken once");
    let memory = Memory::new();
    let server = Server::new(Arc::new(memory.clone()), config()).unwrap();
    for listener in listeners {
        println!("listening {}", listener.uri("disk"));
        server.listen(listener).unwrap();
    }
    wait(&memory);
    server.shutdown(FOREVER);
    ExitCode::SUCCESS
}

fn this_program(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role);
    command
}

fn write_and_read(client: &Client) {
    client.write(0, &[6; 3 * BLOCK as usize], true).unwrap();
    assert_eq!(client.read(0, 3 * BLOCK).unwrap(), [6; 3 * BLOCK as usize]);
    client.flush().unwrap();
}

fn ends_with(mut child: Child, code: i32) {
    assert_eq!(child.wait().unwrap().code(), Some(code));
}

fn stdio_over_pipes() {
    let start = || {
        let mut server =
            this_program("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (output, input) = (server.stdout.take().unwrap(), server.stdin.take().unwrap());
        (server, output, input)
    };
    let (server, output, input) = start();
    let client = Client::connect_pair(output, input, "disk").unwrap();
    write_and_read(&client);
    client.disconnect().unwrap();
    ends_with(server, 0);
    let (server, output, input) = start();
    drop((output, input));
    // The greeting goes nowhere, or nothing comes.
    let code = server.wait_with_output().unwrap().status.code().unwrap();
    assert!(code == 10 || code == 11, "{code}");
}

fn stdio_over_a_socket() {
    let (near, far) = UnixStream::pair().unwrap();
    let far = OwnedFd::from(far);
    let server = this_program("stdio")
        .stdin(Stdio::from(far.try_clone().unwrap()))
        .stdout(Stdio::from(far))
        .spawn()
        .unwrap();
    let client = Client::connect_pair(near.try_clone().unwrap(), near, "").unwrap();
    write_and_read(&client);
    client.disconnect().unwrap();
    ends_with(server, 0);
}

fn shutdown_ends(
    serve: impl FnOnce(&Server) -> End + Send + 'static,
    client: impl FnOnce() -> Client,
) {
    let server = Server::new(Arc::new(Memory::new()), config()).unwrap();
    let serving = server.clone();
    let end = thread::spawn(move || serve(&serving));
    let client = client();
    write_and_read(&client);
    assert_eq!(server.shutdown(FOREVER).abandoned, 0);
    assert!(matches!(end.join().unwrap(), End::Closed));
    assert!(client.flush().is_err());
}

fn a_shutdown_wakes_a_server_on_pipes() {
    let (input, to_server) = rustix::pipe::pipe().unwrap();
    let (from_server, output) = rustix::pipe::pipe().unwrap();
    shutdown_ends(
        move |server| server.serve_files(input, output).unwrap(),
        || Client::connect_pair(File::from(from_server), File::from(to_server), "").unwrap(),
    );
}

fn a_shutdown_wakes_a_server_on_a_socket() {
    let (near, far) = UnixStream::pair().unwrap();
    let far = OwnedFd::from(far);
    shutdown_ends(
        move |server| server.serve_files(far.try_clone().unwrap(), far).unwrap(),
        || Client::connect_pair(near.try_clone().unwrap(), near, "").unwrap(),
    );
}

/// This program in the role `listen` with `first` as descriptor 3 and `second` as 4. The shell puts
/// them there, and keeps its process id when it becomes the program.
fn activated(first: OwnedFd, second: OwnedFd, pid: &str, count: &str) -> Child {
    let script =
        format!("exec 3<&0 4<&1 0<&2 1>&2; LISTEN_PID={pid} LISTEN_FDS={count} exec \"$0\" 2>&1");
    let (stop, stopped) = UnixStream::pair().unwrap();
    let child = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, "listen")
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second))
        .stderr(Stdio::from(OwnedFd::from(stopped)))
        .spawn()
        .unwrap();
    STOP.with_borrow_mut(|s| *s = Some(stop));
    child
}

thread_local! {
    /// The other end of the last activated child's standard streams.
    static STOP: std::cell::RefCell<Option<UnixStream>> = const { std::cell::RefCell::new(None) };
}

/// Ends the child's standard input; what it said.
fn stop() -> String {
    let mut stream = STOP.with_borrow_mut(Option::take).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

fn inherited_unix_and_tcp_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let child = activated(unix.into(), tcp.into(), "$$", "2");
    // They listen already: no need to wait until the server is ready.
    let one = Client::connect_unix(&path, "disk").unwrap();
    write_and_read(&one);
    let two = Client::connect_tcp(address, "disk").unwrap();
    assert_eq!(two.read(0, BLOCK).unwrap(), [6; BLOCK as usize]);
    one.disconnect().unwrap();
    two.disconnect().unwrap();
    let said = stop();
    assert!(said.contains(&format!("nbd://{address}/disk")), "{said}");
    assert!(said.contains(&format!("socket={}", path.display())), "{said}");
    ends_with(child, 0);
    assert!(path.exists(), "the file belongs to whoever made it");
}

fn what_cannot_be_inherited() {
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let connected = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let listening =
        |directory: &Path| OwnedFd::from(UnixListener::bind(directory.join("socket")).unwrap());
    let cases = [
        ("1", "1", null(), 20, ""),
        ("$$", "0", null(), 20, ""),
        ("$$", "x", null(), 21, "LISTEN_FDS"),
        ("$$", "65", null(), 21, "LISTEN_FDS"),
        ("$$", "1", null(), 21, "descriptor 3 is no socket"),
        ("$$", "1", connected(), 21, "descriptor 3 is no listening"),
    ];
    for (pid, count, first, code, text) in cases {
        let child = activated(first, null(), pid, count);
        let said = stop();
        assert!(said.contains(text), "{pid} {count}: {said}");
        ends_with(child, code);
    }
    let directory = tempfile::tempdir().unwrap();
    let child = activated(listening(directory.path()), null(), "$$", "3");
    let said = stop();
    assert!(said.contains("descriptor 4 is no socket"), "{said}");
    ends_with(child, 21);
}

fn libnbd_activates_the_server() {
    let Some(mut nbdsh) = common::nbdsh("libnbd_activates_the_server") else {
        return;
    };
    let script = format!(
        "import os; os.environ['{ROLE}'] = 'listen-once'\n\
         h.set_export_name('disk')\n\
         h.connect_systemd_socket_activation(['{}'])\n\
         assert h.get_size() == {}\n\
         h.pwrite(b'x' * 4096, 8192); assert h.pread(4096, 8192) == b'x' * 4096\n\
         h.shutdown()\n",
        std::env::current_exe().unwrap().display(),
        common::SIZE,
    );
    common::run(nbdsh.args(["-c", &script]).stdin(Stdio::null()));
}
