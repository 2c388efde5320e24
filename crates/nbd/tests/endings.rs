// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Disconnects, stuck clients and shutdowns: what was submitted is finished, nobody else notices.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::raw::{DISC, EIO, ESHUTDOWN, FLUSH, READ, Raw, WRITE, request_bytes};
use common::{BLOCK, FOREVER, Fixture, Memory, config};
use dmremap_nbd::{Client, ClientError, End, Errno, Operation, Server};

const BLOCK64: u64 = BLOCK as u64;

#[test]
fn disc_answers_what_is_under_way_first() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    raw.request(0, WRITE, 1, 0, BLOCK);
    raw.send(&[9; BLOCK as usize]);
    raw.request(0, READ, 2, 0, BLOCK);
    raw.request(0, DISC, 3, 0, 0);
    fixture.memory.wait_held(2);
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (1, 0));
    assert_eq!(fixture.memory.handles(), (1, 0), "a request is still under way");
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (2, 0));
    assert_eq!(raw.take_vec(BLOCK as usize), vec![9; BLOCK as usize]);
    raw.assert_closed();
    fixture.memory.wait_closed(1);
}

#[test]
fn a_client_that_closes_its_sending_half_still_gets_its_answers() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    raw.request(0, READ, 1, 0, BLOCK);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    fixture.memory.wait_held(1);
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (1, 0));
    raw.take_vec(BLOCK as usize);
    raw.assert_closed();
}

#[test]
fn a_client_that_vanishes_leaves_its_requests_to_be_finished() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    for cookie in 0..16 {
        raw.request(0, WRITE, cookie, cookie * BLOCK64, BLOCK);
        raw.send(&[cookie as u8 + 1; BLOCK as usize]);
    }
    fixture.memory.wait_held(16);
    drop(raw);
    for _ in 0..15 {
        fixture.memory.release(0);
    }
    assert_eq!(fixture.memory.handles(), (1, 0), "the handle lives as long as a request");
    fixture.memory.release(0);
    fixture.memory.wait_closed(1);
    for i in 0..16 {
        assert_eq!(fixture.memory.content(i * 4096, 4096), [i as u8 + 1; 4096]);
    }
}

#[test]
fn a_client_may_leave_at_any_byte_and_half_a_write_is_not_done() {
    let fixture = Fixture::new();
    let mut whole = request_bytes(0, READ, 1, 0, BLOCK);
    whole.extend(request_bytes(0, WRITE, 2, 0, BLOCK));
    whole.extend([0xee; BLOCK as usize]);
    let complete = whole.len();
    let lens = (0..100).chain((100..complete).step_by(97)).chain([complete - 1]);
    let mut sessions = 0;
    for len in lens {
        let mut raw = fixture.chosen();
        raw.send(&whole[..len]);
        drop(raw);
        sessions += 1;
        fixture.memory.wait_closed(sessions);
    }
    assert_eq!(fixture.memory.content(0, 4096), [0; 4096]);
    let mut raw = fixture.chosen();
    raw.send(&whole);
    assert_eq!(raw.reply(), (1, 0));
    raw.take_vec(BLOCK as usize);
    assert_eq!(raw.reply(), (2, 0));
    assert_eq!(fixture.memory.content(0, 4096), [0xee; 4096]);
}

#[test]
fn garbage_ends_its_connection_after_what_came_before_it() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    raw.request(0, READ, 1, 0, BLOCK);
    raw.send(&[0xff; 28]);
    fixture.memory.wait_held(1);
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (1, 0));
    raw.take_vec(BLOCK as usize);
    raw.assert_closed();
    fixture.memory.wait_closed(1);
}

#[test]
fn a_client_that_reads_nothing_stalls_itself_only() {
    let mut config = config();
    config.linger = Duration::from_millis(20);
    let fixture = Fixture::with(Memory::new(), config);
    let mut stuck = fixture.chosen();
    // Its replies fill the socket and then its credits; the server stops reading, so does this.
    stuck.stream.set_nonblocking(true).unwrap();
    let request = request_bytes(0, READ, 1, 0, 1 << 20);
    let mut sent = 0;
    while stuck.stream.write(&request).is_ok_and(|n| n == request.len()) && sent < 1000 {
        sent += 1;
    }
    let other = fixture.client();
    for i in 0..100 {
        other.write(i * BLOCK64, &[3; BLOCK as usize], false).unwrap();
    }
    assert_eq!(other.read(0, BLOCK).unwrap(), [3; BLOCK as usize]);
    assert!(fixture.memory.seen().iter().filter(|s| s.connection == 1).count() <= 65);
    // It goes on where it stood.
    stuck.stream.set_nonblocking(false).unwrap();
    for _ in 0..sent {
        assert_eq!(stuck.reply(), (1, 0));
        stuck.take_vec(1 << 20);
    }
}

#[test]
fn a_client_that_has_said_goodbye_and_reads_nothing_is_closed() {
    let mut config = config();
    config.linger = Duration::from_millis(20);
    let fixture = Fixture::with(Memory::new(), config);
    let mut stuck = fixture.chosen();
    for cookie in 0..8 {
        stuck.request(0, READ, cookie, 0, 1 << 20);
    }
    stuck.request(0, DISC, 0, 0, 0);
    fixture.memory.wait_closed(1);
}

#[test]
fn an_export_that_panics_costs_its_connection_only() {
    let fixture = Fixture::new();
    fixture.memory.panic_at(BLOCK64);
    let mut raw = fixture.chosen();
    raw.request(0, READ, 1, BLOCK64, BLOCK);
    assert_eq!(raw.reply(), (1, EIO));
    raw.assert_closed();
    fixture.memory.wait_closed(1);
    fixture.client().flush().unwrap();
}

#[test]
fn too_many_connections_are_sent_away_and_a_place_comes_free() {
    let mut config = config();
    config.max_connections = 2;
    let fixture = Fixture::with(Memory::new(), config);
    let (one, two) = (fixture.client(), fixture.client());
    fixture.raw().assert_closed();
    one.disconnect().unwrap();
    // The server takes it off its register just after closing the socket.
    common::wait_for("a free place", || fixture.server.connections() < 2);
    fixture.client().flush().unwrap();
    two.flush().unwrap();
}

fn shutdown_in_background(server: &Server, limit: Duration) -> mpsc::Receiver<u64> {
    let (sender, receiver) = mpsc::channel();
    let server = server.clone();
    thread::spawn(move || sender.send(server.shutdown(limit).abandoned));
    receiver
}

/// Asks for flushes until the server answers that it is shutting down.
fn wait_for_shutdown(raw: &mut Raw) {
    loop {
        raw.request(0, FLUSH, 77, 0, 0);
        match raw.reply() {
            (77, 0) => thread::yield_now(),
            (77, ESHUTDOWN) => return,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shutdown_finishes_what_is_under_way_and_refuses_the_rest() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let mut raw = fixture.chosen();
    raw.request(0, WRITE, 1, BLOCK64, BLOCK);
    raw.send(&[5; BLOCK as usize]);
    fixture.memory.wait_held(1);
    let idle = fixture.chosen();
    let mut negotiating = fixture.raw();
    negotiating.greet(3);
    // Longer than anybody here waits: only the last answer may end it.
    let result = shutdown_in_background(&fixture.server, 10 * FOREVER);
    wait_for_shutdown(&mut raw);
    assert!(!fixture.path().exists(), "the socket file is gone first");
    for mut other in [idle, negotiating] {
        let mut rest = Vec::new();
        other.stream.read_to_end(&mut rest).unwrap();
    }
    fixture.memory.release(0);
    assert_eq!(raw.reply(), (1, 0));
    raw.assert_closed();
    assert_eq!(result.recv_timeout(FOREVER), Ok(0));
    assert_eq!(fixture.memory.content(4096, 4096), [5; 4096]);
    assert_eq!(fixture.server.connections(), 0);
    assert_eq!(fixture.server.shutdown(FOREVER).abandoned, 0, "a second one finds nothing");
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let fixture = Fixture::new();
    fixture.memory.hold();
    let client = fixture.client();
    for i in 0..3 {
        client.submit(Operation::Read { offset: i * BLOCK64, len: BLOCK }).unwrap();
    }
    fixture.memory.wait_held(3);
    assert_eq!(fixture.server.shutdown(Duration::from_millis(1)).abandoned, 3);
    for _ in 0..3 {
        let lost = client.next_completed().unwrap().result;
        assert!(matches!(lost, Err(ClientError::Lost { .. })), "{lost:?}");
    }
    assert!(matches!(client.flush(), Err(ClientError::Lost { .. })));
    // The export may still answer; nobody is there to hear it.
    for _ in 0..3 {
        fixture.memory.release(0);
    }
    fixture.memory.wait_closed(1);
}

#[test]
fn a_shutdown_does_not_wait_for_half_a_request() {
    let fixture = Fixture::new();
    let mut raw = fixture.chosen();
    raw.assert_alive();
    raw.request(0, WRITE, 1, 0, BLOCK);
    raw.send(&[5; 100]);
    assert_eq!(fixture.server.shutdown(FOREVER).abandoned, 0);
    raw.assert_closed();
    assert_eq!(fixture.memory.content(0, 4096), [0; 4096]);
}

#[test]
fn any_two_halves_can_be_served() {
    let server = Server::new(std::sync::Arc::new(Memory::new()), config()).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let serving = server.clone();
    let end = thread::spawn(move || serving.serve_pair(far.try_clone().unwrap(), far));
    let client = Client::connect_pair(near.try_clone().unwrap(), near, "disk").unwrap();
    client.write(0, &[7; BLOCK as usize], true).unwrap();
    assert_eq!(client.read(0, BLOCK).unwrap(), [7; BLOCK as usize]);
    let error = client.read(1, BLOCK).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    client.disconnect().unwrap();
    assert!(matches!(end.join().unwrap(), End::Disconnected));
}
