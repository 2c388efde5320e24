// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A client that says whatever it is told. Its numbers are written out here once more, so that a
//! wrong one in the crate does not agree with itself.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::FOREVER;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_ABORT: u32 = 2;
pub const OPT_LIST: u32 = 3;
pub const OPT_STARTTLS: u32 = 5;
pub const OPT_INFO: u32 = 6;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_LIST_META_CONTEXT: u32 = 9;
pub const OPT_SET_META_CONTEXT: u32 = 10;
pub const OPT_EXTENDED_HEADERS: u32 = 11;

pub const ACK: u32 = 1;
pub const SERVER: u32 = 2;
pub const INFO: u32 = 3;
pub const META_CONTEXT: u32 = 4;
pub const ERR_UNSUP: u32 = 0x8000_0001;
pub const ERR_INVALID: u32 = 0x8000_0003;
pub const ERR_UNKNOWN: u32 = 0x8000_0006;
pub const ERR_SHUTDOWN: u32 = 0x8000_0007;
pub const ERR_TOO_BIG: u32 = 0x8000_0009;

pub const EIO: u32 = 5;
pub const EPERM: u32 = 1;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const ENOTSUP: u32 = 95;
pub const ESHUTDOWN: u32 = 108;

/// A unix socket to a server.
pub struct Raw {
    pub stream: UnixStream,
}

impl Raw {
    pub fn connect(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(FOREVER)).unwrap();
        stream.set_write_timeout(Some(FOREVER)).unwrap();
        Raw { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn take_vec(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads the server's greeting and answers with `flags`.
    pub fn greet(&mut self, flags: u32) {
        assert_eq!(&self.take::<18>(), b"NBDMAGICIHAVEOPT\0\x03");
        self.send(&flags.to_be_bytes());
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        self.send(&option_bytes(option, data));
    }

    /// `(type, data)` of one reply to `option`.
    pub fn option_reply(&mut self, option: u32) -> (u32, Vec<u8>) {
        let head = self.take::<20>();
        assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        assert_eq!(head[8..12], option.to_be_bytes());
        let kind = u32::from_be_bytes(head[12..16].try_into().unwrap());
        let len = u32::from_be_bytes(head[16..20].try_into().unwrap());
        (kind, self.take_vec(len as usize))
    }

    /// The replies to `option` up to the last one, which is an error or ACK.
    pub fn option_replies(&mut self, option: u32) -> Vec<(u32, Vec<u8>)> {
        let mut replies = Vec::new();
        loop {
            let reply = self.option_reply(option);
            let last = ![INFO, SERVER, META_CONTEXT].contains(&reply.0);
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }

    /// Goes into the transmission phase.
    pub fn choose(&mut self) {
        self.greet(3);
        self.option(OPT_GO, &go_data(b"disk", &[]));
        assert_eq!(self.option_replies(OPT_GO).last().unwrap().0, ACK);
    }

    /// The same with structured replies and `base:allocation`.
    pub fn choose_structured(&mut self) {
        self.greet(3);
        self.option(OPT_STRUCTURED_REPLY, b"");
        assert_eq!(self.option_reply(OPT_STRUCTURED_REPLY), (ACK, Vec::new()));
        self.option(OPT_SET_META_CONTEXT, &meta_data(b"disk", &[b"base:allocation"]));
        assert_eq!(self.option_replies(OPT_SET_META_CONTEXT).len(), 2);
        self.option(OPT_GO, &go_data(b"disk", &[]));
        assert_eq!(self.option_replies(OPT_GO).last().unwrap().0, ACK);
    }

    /// The next chunk of a structured reply.
    pub fn chunk(&mut self) -> Chunk {
        let head = self.take::<20>();
        let len = u32::from_be_bytes(head[16..20].try_into().unwrap());
        let payload = self.take_vec(len as usize);
        Chunk::parse(&[&head[..], &payload].concat()).unwrap().0
    }

    /// The chunks of one structured reply.
    pub fn chunks(&mut self) -> Vec<Chunk> {
        let mut chunks = vec![self.chunk()];
        while !chunks.last().unwrap().done {
            chunks.push(self.chunk());
        }
        chunks
    }

    pub fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, len: u32) {
        self.send(&request_bytes(flags, command, cookie, offset, len));
    }

    /// `(cookie, error)` of the next reply, which must be a simple one without data.
    pub fn reply(&mut self) -> (u64, u32) {
        let head = self.take::<16>();
        assert_eq!(head[..4], 0x6744_6698_u32.to_be_bytes());
        let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
        (u64::from_be_bytes(head[8..16].try_into().unwrap()), error)
    }

    /// Still there: a flush is answered.
    pub fn assert_alive(&mut self) {
        self.request(0, FLUSH, 0xa11e, 0, 0);
        assert_eq!(self.reply(), (0xa11e, 0));
    }

    /// The server closes the connection without another word.
    pub fn assert_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            // It left while something sent was still unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected the end of the stream, got {other:?} {byte:?}"),
        }
    }
}

pub fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut out = b"IHAVEOPT".to_vec();
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    out
}

pub fn go_data(name: &[u8], requests: &[u16]) -> Vec<u8> {
    let mut out = (name.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(name);
    out.extend_from_slice(&(requests.len() as u16).to_be_bytes());
    for request in requests {
        out.extend_from_slice(&request.to_be_bytes());
    }
    out
}

pub fn request_bytes(flags: u16, command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut out = 0x2560_9513_u32.to_be_bytes().to_vec();
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub fn meta_data(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut out = (name.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(name);
    out.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    for query in queries {
        out.extend_from_slice(&(query.len() as u32).to_be_bytes());
        out.extend_from_slice(query);
    }
    out
}

/// What a chunk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    Nothing,
    Data {
        offset: u64,
        data: Vec<u8>,
    },
    /// `(length, flags)` each.
    Extents(Vec<(u32, u32)>),
    Error {
        errno: u32,
        message: String,
        offset: Option<u64>,
    },
}

/// A chunk of a structured reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub cookie: u64,
    pub done: bool,
    pub says: Says,
}

impl Chunk {
    /// The chunk that `bytes` begin with, and what is behind it; `None` if they begin with none.
    pub fn parse(bytes: &[u8]) -> Option<(Chunk, &[u8])> {
        let u32_at =
            |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at =
            |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let (head, rest) = bytes.split_at_checked(20)?;
        if u32_at(head, 0) != 0x668e_33ef {
            return None;
        }
        let (payload, rest) = rest.split_at(u32_at(head, 16) as usize);
        let flags = u16::from_be_bytes([head[4], head[5]]);
        assert!(flags < 2, "{flags}");
        let says = match u16::from_be_bytes([head[6], head[7]]) {
            0 => {
                assert!(payload.is_empty() && flags == 1);
                Says::Nothing
            }
            1 => {
                assert!(payload.len() > 8);
                Says::Data { offset: u64_at(payload, 0), data: payload[8..].to_vec() }
            }
            5 => {
                assert_eq!(u32_at(payload, 0), 1, "the context's number");
                let extents = payload[4..].chunks(8).map(|e| (u32_at(e, 0), u32_at(e, 4)));
                Says::Extents(extents.collect())
            }
            kind @ (0x8001 | 0x8002) => {
                let (message, rest) =
                    payload[6..].split_at(usize::from(payload[4]) << 8 | usize::from(payload[5]));
                assert_eq!(rest.len(), if kind == 0x8002 { 8 } else { 0 });
                Says::Error {
                    errno: u32_at(payload, 0),
                    message: String::from_utf8(message.to_vec()).unwrap(),
                    offset: (kind == 0x8002).then(|| u64_at(rest, 0)),
                }
            }
            other => panic!("a chunk of kind {other}"),
        };
        Some((Chunk { cookie: u64_at(head, 8), done: flags == 1, says }, rest))
    }
}
