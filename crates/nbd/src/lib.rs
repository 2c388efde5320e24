// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The network block device protocol: a server over anything that implements [`Export`], and a
//! small [`Client`] for the demo and the tests.
//!
//! # The server
//!
//! A connection has two threads. The *reader* negotiates (`handshake`), then takes requests off
//! the wire, checks them (`check`) and submits them to the export. The *writer* sends what the
//! export has answered, in the order of the answers, several in one gathered send. Between them
//! stands the link (`link`), which also holds the credits: a connection may have so many requests
//! and so many bytes between its request header and its sent reply, and beyond that its reader
//! stops reading. So memory is bounded, and a client that does not read its replies stalls itself
//! and nobody else.
//!
//! A request that was submitted is always finished by the export, whatever becomes of the client;
//! only its reply may be dropped.
//!
//! Implemented: fixed newstyle with GO, INFO and ABORT, simple replies, READ, WRITE, FLUSH, TRIM,
//! WRITE_ZEROES, DISC, FUA, NO_HOLE. FAST_ZERO is offered and always answered "not supported", as
//! the protocol allows: zeros are no faster here than data in general. Every other option is
//! answered `NBD_REP_ERR_UNSUP`, every other command `EINVAL`.
//!
//! The protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>, "the
//! specification" in what follows.

mod buffer;
mod check;
mod client;
mod connection;
mod error;
mod export;
mod handshake;
mod inherit;
mod link;
mod listener;
mod one_of_each;
mod protocol;
mod server;
mod transport;

pub use buffer::Buffer;
pub use client::{Client, ClientError, Completed, Cookie, Operation, RemoteExport};
pub use error::{Error, ErrorKind};
pub use export::{Command, Connection, Done, Errno, Export, ExportInfo, Reply, Request};
pub use inherit::inherited_listeners;
pub use listener::Listener;
pub use protocol::MAX_REQUEST_BYTES;
pub use server::{Config, End, Server, Shutdown};
