// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Listening: socket files, who may have a path, TCP.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{BLOCK, Fixture, Memory, config};
use dmremap_nbd::{Client, Error, ErrorKind, Listener, Server};

/// A socket file whose server is gone without removing it.
fn leave_dead_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

#[test]
fn the_socket_file_is_for_its_owner_only_and_goes_with_the_server() {
    let fixture = Fixture::new();
    let metadata = fs::symlink_metadata(fixture.path()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    fixture.client().flush().unwrap();
    fixture.server.shutdown(Duration::ZERO);
    assert!(!fixture.path().exists());
    let again = Listener::unix(&fixture.path()).unwrap();
    assert!(matches!(fixture.server.listen(again), Err(Error::Stopping)));
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    leave_dead_socket(&path);
    let live = Listener::unix(&path).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    for _ in 0..2 {
        let error = Listener::unix(&path).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Busy);
    }
    drop(live);
    assert!(!path.exists());
    drop(Listener::unix(&path).unwrap());
}

#[test]
fn a_live_socket_whose_queue_is_full_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let live = Listener::unix(&path).unwrap();
    // Nobody accepts: the queue fills up with these.
    let waiting: Vec<_> = (0..200)
        .map_while(|_| {
            let flags = rustix::net::SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::STREAM,
                flags,
                None,
            )
            .unwrap();
            let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
            rustix::net::connect(&socket, &address).ok().map(|()| socket)
        })
        .collect();
    assert!((1..200).contains(&waiting.len()));
    assert!(matches!(Listener::unix(&path), Err(Error::InUse { .. })));
    drop(live);
}

#[test]
fn what_is_no_dead_socket_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "precious").unwrap();
    fs::create_dir(at("directory")).unwrap();
    leave_dead_socket(&at("dead"));
    symlink(at("dead"), at("link")).unwrap();
    for name in ["file", "directory", "link"] {
        let error = Listener::unix(&at(name)).unwrap_err();
        assert!(matches!(error, Error::NotASocket { .. }), "{name}: {error}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
    assert!(matches!(Listener::unix(&at("datagram")), Err(Error::InUse { .. })));
    assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    assert!(at("dead").exists() && at("datagram").exists());
}

#[test]
fn impossible_paths_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("x".repeat(120));
    let error = Listener::unix(&long).unwrap_err();
    assert!(matches!(error, Error::PathTooLong { .. }), "{error}");
    let error = Listener::unix(&directory.path().join("no/such/socket")).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
    assert!(error.to_string().contains("no/such"), "{error}");
}

#[test]
fn of_several_servers_started_at_once_over_a_dead_socket_one_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for _ in 0..50 {
        leave_dead_socket(&path);
        let results: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| Listener::unix(&path))).collect();
            starting.into_iter().map(|s| s.join().unwrap()).collect()
        });
        let mut won = results.into_iter().filter_map(|result| match result {
            Ok(listener) => Some(listener),
            Err(Error::InUse { .. }) => None,
            Err(other) => panic!("{other}"),
        });
        let winner = won.next().expect("one of them");
        assert!(won.next().is_none(), "two servers on one path");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "and it is reachable");
        drop(winner);
    }
}

#[test]
fn a_socket_file_put_in_its_place_by_somebody_else_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let old = Listener::unix(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let new = UnixListener::bind(&path).unwrap();
    drop(old);
    assert!(path.exists());
    drop(new);
}

#[test]
fn tcp_serves_the_same_on_loopback_only_unless_told() {
    let memory = Memory::new();
    let server = Server::new(Arc::new(memory.clone()), config()).unwrap();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let uri = listener.uri("disk");
    let address = uri.strip_prefix("nbd://").unwrap().strip_suffix("/disk").unwrap();
    server.listen(listener).unwrap();
    let (one, two) = (
        Client::connect_tcp(address.parse().unwrap(), "disk").unwrap(),
        Client::connect_tcp(address.parse().unwrap(), "").unwrap(),
    );
    one.write(0, &[8; 2 * BLOCK as usize], true).unwrap();
    assert_eq!(two.read(0, 2 * BLOCK).unwrap(), [8; 2 * BLOCK as usize]);
    one.disconnect().unwrap();
    two.disconnect().unwrap();
    memory.wait_closed(2);
    assert_eq!(server.shutdown(common::FOREVER).abandoned, 0);

    let error = Listener::tcp("0.0.0.0:0".parse().unwrap(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(Listener::tcp("0.0.0.0:0".parse().unwrap(), true).is_ok());
    let taken = Listener::tcp(address.parse().unwrap(), false).unwrap();
    let error = Listener::tcp(address.parse().unwrap(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    drop(taken);
}

#[test]
fn several_listeners_may_serve_one_export() {
    let fixture = Fixture::new();
    let second = fixture.directory.path().join("second");
    let listener = Listener::unix(&second).unwrap();
    let path = second.to_str().unwrap();
    assert_eq!(listener.uri("a b"), format!("nbd+unix:///a%20b?socket={path}"));
    fixture.server.listen(listener).unwrap();
    let client = Client::connect_unix(&second, "").unwrap();
    client.write(0, &[1; BLOCK as usize], false).unwrap();
    assert_eq!(fixture.client().read(0, BLOCK).unwrap(), [1; BLOCK as usize]);
    fixture.server.shutdown(Duration::ZERO);
    assert!(!second.exists() && !fixture.path().exists());
}
