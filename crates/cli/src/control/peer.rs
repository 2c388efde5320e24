// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who speaks on the control socket, as the kernel tells it.
//!
//! The socket is for its server's own user and for root, whatever its mode or its folder's has been
//! changed to: who may send messages may move data about. (A process of another PID namespace is
//! not shown by the kernel, and is sent away too.)

use std::fmt;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

use crate::failure::{Class, Failure, Outcome};

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its number.
    pub pid: i32,
}

impl Peer {
    /// Who connected, if that is somebody who may speak here.
    pub fn of(stream: &UnixStream) -> Outcome<Peer> {
        let peer = socket_peercred(stream).map_err(|errno| refused("somebody", &errno))?;
        let known = Peer { uid: peer.uid.as_raw(), pid: peer.pid.as_raw_pid() };
        match may_speak(peer.uid, geteuid()) {
            true => Ok(known),
            false => Err(refused(&known.to_string(), &"neither its user nor root")),
        }
    }
}

fn may_speak(peer: Uid, server: Uid) -> bool {
    peer.is_root() || peer == server
}

fn refused(who: &str, why: &dyn fmt::Display) -> Failure {
    let server = geteuid().as_raw();
    let what = format!(
        "{who} may not speak to this server: {why}. Ask as user {server} or as \
         root"
    );
    Failure::new(Class::Permission, what).with_next("dmremap status NAME")
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} (process {})", self.uid, self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_servers_user_may_speak() {
        let [root, one, other] = [0, 1000, 1001].map(Uid::from_raw);
        for (peer, server, may) in [
            (root, root, true),
            (root, one, true),
            (one, one, true),
            (other, one, false),
            (one, root, false),
        ] {
            assert_eq!(may_speak(peer, server), may, "{peer:?} to {server:?}");
        }
    }

    #[test]
    fn the_kernel_says_who_it_is() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.uid, geteuid().as_raw());
        assert_eq!(peer.pid, std::process::id() as i32);
    }
}
