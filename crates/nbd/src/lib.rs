// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The network block device protocol: a server over anything that implements [`Export`], and a
//! small [`Client`] for the demo and the tests.
//!
//! # The server
//!
//! A connection has two threads. The *reader* negotiates (`handshake`), then takes requests off
//! the wire, as many at once as there are, checks them (`check`) and submits them to the export.
//! What the export answers becomes bytes (`reply`) and goes into the queue of the link (`link`).
//! Answers that came on the reader's own thread it sends itself, all in one gathered send, when it
//! has nothing more to take; what comes later on other threads, and what the client does not take
//! at once, is sent by the *writer*. The link also holds the credits: a connection may have so many
//! requests and so many bytes between its request header and its sent reply, and beyond that its
//! reader stops reading. So memory is bounded, and a client that does not read its replies stalls
//! itself and nobody else.
//!
//! A request that was submitted is always finished by the export, whatever becomes of the client;
//! only its reply may be dropped.
//!
//! Implemented: fixed newstyle with LIST, EXPORT_NAME, INFO, GO, ABORT, STRUCTURED_REPLY and both
//! options for metadata contexts (there is one, `base:allocation`); READ, WRITE, FLUSH, TRIM,
//! WRITE_ZEROES, BLOCK_STATUS, CACHE, DISC; FUA, NO_HOLE, DF, REQ_ONE; simple replies, and
//! structured ones with what is good of a read and an error for what is not. FAST_ZERO is offered
//! and always answered "not supported", as the protocol allows: zeros are no faster here than data
//! in general. CACHE is checked and succeeds, and nothing is read ahead. Zeros are sent as data,
//! never as OFFSET_HOLE. Every other option, STARTTLS among them, is answered `NBD_REP_ERR_UNSUP`,
//! every other command `EINVAL`.
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
mod reply;
mod server;
mod transport;

pub use buffer::Buffer;
pub use client::{
    Client, ClientError, Completed, Cookie, Operation, Pieces, RemoteError, RemoteExport,
};
pub use error::{Error, ErrorKind};
pub use export::{
    BadRange, Command, Connection, Done, Errno, Export, ExportInfo, Extent, Reply, Request,
};
pub use inherit::inherited_listeners;
pub use listener::Listener;
pub use protocol::MAX_REQUEST_BYTES;
pub use server::{Config, End, Server, Shutdown};
