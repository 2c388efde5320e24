// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The NBD server, with whatever a client sends before and after the negotiation.
//!
//! Invariants checked: every session ends; the export is handed no request beyond its end, none
//! that is not whole blocks, none larger than the protocol's limit, and data of the length that was
//! announced.

use std::io::{Cursor, sink};
use std::sync::Arc;

use dmremap_nbd::{
    Command, Config, Connection, Done, Errno, Export, ExportInfo, MAX_REQUEST_BYTES, Reply,
    Request, Server,
};

const SIZE: u64 = 1 << 20;
const BLOCK: u32 = 512;

struct Checking;

impl Export for Checking {
    fn info(&self) -> ExportInfo {
        ExportInfo {
            size_bytes: SIZE,
            block_bytes: BLOCK,
            preferred_bytes: 4096,
            read_only: false,
            can_flush: true,
            can_trim: true,
            can_write_zeroes: true,
            multi_connection: true,
            rotational: false,
        }
    }

    fn connect(&self) -> Result<Box<dyn Connection>, Errno> {
        Ok(Box::new(Checking))
    }
}

impl Connection for Checking {
    fn submit(&mut self, request: Request, done: Done) {
        let (offset, len) = (request.offset, u64::from(request.len));
        if request.command != Command::Flush {
            assert!(offset.checked_add(len).is_some_and(|end| end <= SIZE), "{offset}+{len}");
            assert_eq!((offset | len) % u64::from(BLOCK), 0, "{offset}+{len}");
        }
        if matches!(request.command, Command::Read | Command::Write) {
            assert!(len <= u64::from(MAX_REQUEST_BYTES));
            assert_eq!(request.data.len() as u64, len);
        }
        done(Reply::good(request.data));
    }
}

fn session(input: Vec<u8>) {
    let mut config = Config::default();
    config.name = "disk".into();
    let server = Server::new(Arc::new(Checking), config).expect("a server");
    let end = server.serve_pair(Cursor::new(input), sink());
    let _ = format!("{end:?}");
}

/// Everything a client sends.
pub fn negotiation(data: &[u8]) {
    session(data.to_vec());
}

/// What it sends once it has chosen the export, with simple replies or structured ones.
pub fn requests(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut input = chosen(first & 1 != 0);
    input.extend_from_slice(rest);
    session(input);
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u32).to_be_bytes();
    [b"IHAVEOPT", &number.to_be_bytes()[..], &len, data].concat()
}

fn chosen(structured: bool) -> Vec<u8> {
    let mut input = 3u32.to_be_bytes().to_vec();
    if structured {
        input.extend(option(8, b""));
        let context = b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x0fbase:allocation";
        input.extend(option(10, context));
    }
    input.extend(option(7, b"\0\0\0\x04disk\0\x01\0\x03"));
    input
}

fn request(flags: u16, command: u16, offset: u64, len: u32) -> Vec<u8> {
    let (flags, command) = (flags.to_be_bytes(), command.to_be_bytes());
    let magic = 0x2560_9513u32.to_be_bytes();
    [&magic[..], &flags, &command, &[7; 8], &offset.to_be_bytes(), &len.to_be_bytes()].concat()
}

pub fn negotiation_seeds() -> Vec<Vec<u8>> {
    let list = [&3u32.to_be_bytes()[..], &option(3, b""), &option(2, b"")].concat();
    let old = [&1u32.to_be_bytes()[..], &option(1, b"disk")].concat();
    vec![chosen(false), chosen(true), list, old]
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let write = [request(1, 1, 4096, 512), vec![0xa5; 512]].concat();
    let read = request(0, 0, 512, 1024);
    let rest = [request(0, 3, 0, 0), request(0, 4, 0, 4096), request(2, 6, 8192, 512)].concat();
    let more = [request(0, 5, 0, 4096), request(8, 7, 0, 1 << 20), request(0, 2, 0, 0)].concat();
    let all = [write, read, rest, more].concat();
    [0, 1].map(|kind| [vec![kind], all.clone()].concat()).to_vec()
}
