// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an export answered, as bytes for the wire.
//!
//! A client that has not negotiated structured replies gets simple ones: all of a read or an error.
//! One that has gets for a read a chunk for every part that is good, with its offset, and an error
//! chunk with the offset of its first byte for every part that is not. Success of anything that
//! returns no data is a simple reply for both, as the protocol allows: it is the shorter one.
//!
//! A read may be answered in parts, in any order; the last one to be answered carries the mark
//! "done". Which one that is shows only when it is put into the queue, so a frame says how it can
//! be ended ([`Frame::end`]).

use crate::Buffer;
use crate::export::{BadRange, Errno, Extent, Reply};
use crate::protocol::{
    BASE_ALLOCATION_ID, CHUNK_BLOCK_STATUS, CHUNK_BYTES, CHUNK_DATA, CHUNK_ERROR,
    CHUNK_ERROR_OFFSET, CHUNK_FLAG_DONE, CHUNK_NONE, ChunkHeader, SIMPLE_REPLY_BYTES, STATE_HOLE,
    STATE_ZERO, encode_simple_reply,
};

/// A chunk's head and the offset of its data.
const HEAD_BYTES: usize = CHUNK_BYTES + 8;

/// What has to be known of a request, or a part of a read, to answer it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub cookie: u64,
    /// First byte and length of a read; nothing for all else.
    pub read: Option<(u64, u32)>,
    /// The client understands structured replies.
    pub structured: bool,
    /// A read's data must not come in several chunks.
    pub whole: bool,
}

/// Bytes behind a head.
pub(crate) enum Payload {
    None,
    Data(Buffer),
    Made(Vec<u8>),
}

/// Bytes that are sent together: a whole reply, or a part of one.
pub(crate) struct Frame {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    payload: Payload,
}

impl Frame {
    fn new(head: &[u8], payload: Payload) -> Frame {
        let mut frame = Frame { head: [0; HEAD_BYTES], head_len: head.len(), payload };
        frame.head[..head.len()].copy_from_slice(head);
        frame
    }

    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::None => &[],
            Payload::Data(buffer) => buffer,
            Payload::Made(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.head_len + self.payload().len()
    }

    /// Makes it the last one of its reply.
    pub fn end(&mut self, asked: &Asked) {
        if self.head_len == SIMPLE_REPLY_BYTES {
            return;
        }
        if let Payload::Made(bytes) = &mut self.payload {
            bytes.extend_from_slice(&chunk(CHUNK_FLAG_DONE, CHUNK_NONE, asked.cookie, 0));
        } else {
            self.head[4..6].copy_from_slice(&CHUNK_FLAG_DONE.to_be_bytes());
        }
    }
}

fn chunk(flags: u16, kind: u16, cookie: u64, len: usize) -> [u8; CHUNK_BYTES] {
    ChunkHeader { flags, kind, cookie, len: len as u32 }.encode()
}

fn simple(asked: &Asked, wire: u32) -> Frame {
    Frame::new(&encode_simple_reply(asked.cookie, wire), Payload::None)
}

/// The refusal or failure of a whole request with the error number `wire`.
pub(crate) fn error(asked: &Asked, wire: u32, message: &str) -> Frame {
    if !asked.structured {
        return simple(asked, wire);
    }
    let mut out = Vec::new();
    put_error(&mut out, asked.cookie, wire, message, None);
    Frame::new(&[], Payload::Made(out))
}

/// The answer to BLOCK_STATUS. `extents` are not empty.
pub(crate) fn block_status(asked: &Asked, extents: &[Extent]) -> Frame {
    let mut out = BASE_ALLOCATION_ID.to_be_bytes().to_vec();
    for extent in extents {
        let flags = if extent.hole { STATE_HOLE | STATE_ZERO } else { 0 };
        out.extend_from_slice(&extent.len.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
    }
    let mut whole = chunk(0, CHUNK_BLOCK_STATUS, asked.cookie, out.len()).to_vec();
    whole.extend_from_slice(&out);
    Frame::new(&[], Payload::Made(whole))
}

/// The answer to a request, or to a part of a read.
pub(crate) fn answer(asked: &Asked, reply: Reply) -> Frame {
    let Some((offset, len)) = asked.read else {
        return match reply.result {
            Ok(()) => simple(asked, 0),
            Err(failed) => {
                let message = reply.bad.first().map_or(words(failed), |bad| bad.message);
                error(asked, failed.wire(), message)
            }
        };
    };
    let Reply { result, data, bad } = reply;
    let failed = match result {
        Ok(()) if data.len() == len as usize => return good(asked, offset, data),
        Ok(()) => {
            tracing::error!(
                "the export answered a read of {len} bytes with {}; the client is told EIO",
                data.len()
            );
            Errno::EIO
        }
        Err(failed) => failed,
    };
    if !asked.structured {
        return simple(asked, failed.wire());
    }
    let mut out = Vec::new();
    if data.len() == len as usize && fit(&bad, offset, len) {
        put_partly(&mut out, asked, offset, &data, &bad);
    } else {
        put_error(&mut out, asked.cookie, failed.wire(), words(failed), Some(offset));
    }
    Frame::new(&[], Payload::Made(out))
}

fn good(asked: &Asked, offset: u64, data: Buffer) -> Frame {
    if !asked.structured {
        return Frame::new(&encode_simple_reply(asked.cookie, 0), Payload::Data(data));
    }
    let mut head = [0; HEAD_BYTES];
    let (chunk_head, place) = head.split_at_mut(CHUNK_BYTES);
    chunk_head.copy_from_slice(&chunk(0, CHUNK_DATA, asked.cookie, 8 + data.len()));
    place.copy_from_slice(&offset.to_be_bytes());
    Frame::new(&head, Payload::Data(data))
}

/// Whether bad ranges keep the rules: only then is what lies between them known to be good.
fn fit(bad: &[BadRange], offset: u64, len: u32) -> bool {
    let mut from = offset;
    let end = offset + u64::from(len);
    let mut rises = |bad: &BadRange| {
        let ok = bad.len > 0 && bad.offset >= from && bad.offset <= end;
        from = bad.offset.saturating_add(u64::from(bad.len));
        ok && from <= end
    };
    !bad.is_empty() && bad.iter().all(&mut rises)
}

/// Every good stretch as data, every bad one as an error; of a read that must not come in pieces
/// the first good stretch only.
fn put_partly(out: &mut Vec<u8>, asked: &Asked, offset: u64, data: &[u8], bad: &[BadRange]) {
    let mut from = 0;
    let mut may_send = true;
    let ends = bad.iter().map(|bad| (bad.offset - offset) as usize).chain([data.len()]);
    for (index, until) in ends.enumerate() {
        if from < until && may_send {
            out.extend_from_slice(&chunk(0, CHUNK_DATA, asked.cookie, 8 + until - from));
            out.extend_from_slice(&(offset + from as u64).to_be_bytes());
            out.extend_from_slice(&data[from..until]);
            may_send = !asked.whole;
        }
        if let Some(bad) = bad.get(index) {
            put_error(out, asked.cookie, bad.error.wire(), bad.message, Some(bad.offset));
            from = until + bad.len as usize;
        }
    }
}

fn put_error(out: &mut Vec<u8>, cookie: u64, wire: u32, message: &str, offset: Option<u64>) {
    let (kind, more) = match offset {
        Some(_) => (CHUNK_ERROR_OFFSET, 8),
        None => (CHUNK_ERROR, 0),
    };
    out.extend_from_slice(&chunk(0, kind, cookie, 6 + message.len() + more));
    out.extend_from_slice(&wire.to_be_bytes());
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message.as_bytes());
    out.extend(offset.iter().flat_map(|offset| offset.to_be_bytes()));
}

/// What an error number means to a person.
fn words(error: Errno) -> &'static str {
    match error.wire() {
        1 => "not permitted",
        12 => "out of memory",
        22 => "invalid request",
        28 => "no space left",
        108 => "the server is being shut down",
        _ => "input/output error",
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
