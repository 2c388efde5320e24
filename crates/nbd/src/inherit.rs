// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Sockets handed over by whoever started the process: `LISTEN_FDS`, as in sd_listen_fds(3).

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::{Error, Listener};

/// The first descriptor that is handed over.
const FIRST_FD: i32 = 3;
/// More than anybody hands over.
const MAX_FDS: i32 = 64;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The listening sockets this process was started with; none if it was not started that way, or if
/// they have been taken already. Call it before anything else opens files.
///
/// # Errors
/// [`Error::Inherited`] if the environment promises descriptors that are not there or are no
/// listening stream sockets.
pub fn inherited_listeners() -> Result<Vec<Listener>, Error> {
    let own = |name: &str| std::env::var(name).ok();
    let Some(pid) = own("LISTEN_PID") else {
        return Ok(Vec::new());
    };
    if pid.parse() != Ok(std::process::id()) {
        // Meant for the process that started this one.
        return Ok(Vec::new());
    }
    let count = match own("LISTEN_FDS").and_then(|n| n.parse::<i32>().ok()) {
        Some(count) if (0..=MAX_FDS).contains(&count) => count,
        _ => {
            return Err(Error::Inherited {
                fd: None,
                what: "LISTEN_FDS is no number from 0 to 64",
            });
        }
    };
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    (FIRST_FD..FIRST_FD + count).map(take).collect()
}

fn take(fd: i32) -> Result<Listener, Error> {
    let wrong = |what| Error::Inherited { fd: Some(fd), what };
    let link =
        std::fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| wrong("is not open"))?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
        return Err(wrong("is no socket"));
    }
    // SAFETY: the descriptor is open (it was just found in /proc) and ours: LISTEN_PID names this
    // process, so whoever started it left the descriptors from 3 on to it, and `TAKEN` lets each be
    // taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let listening = socket_type(&socket) == Ok(SocketType::STREAM)
        && socket_acceptconn(&socket) == Ok(true)
        && rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC).is_ok();
    match socket_domain(&socket) {
        Ok(AddressFamily::UNIX) if listening => {
            Ok(Listener::inherited_unix(UnixListener::from(socket)))
        }
        Ok(AddressFamily::INET | AddressFamily::INET6) if listening => {
            Ok(Listener::inherited_tcp(TcpListener::from(socket)))
        }
        _ => Err(wrong("is no listening unix or TCP stream socket")),
    }
}
