// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The numbers of the protocol, and the fixed-size messages packed and unpacked. Everything on the
//! wire is big-endian. Names follow the specification without its `NBD_` prefix.

/// Largest READ and WRITE, in bytes; announced as the maximum block size. The specification asks
/// servers to take anything below 2^25.
pub const MAX_REQUEST_BYTES: u32 = 32 << 20;

/// Longest export name and other string (specification, "Conventions").
pub(crate) const MAX_STRING_BYTES: usize = 4096;

pub(crate) const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags of the server; the client answers with the same bits.
pub(crate) const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
pub(crate) const FLAG_NO_ZEROES: u16 = 1 << 1;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_LIST_META_CONTEXT: u32 = 9;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;

pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META_CONTEXT: u32 = 4;
pub(crate) const REP_ERR: u32 = 1 << 31;
pub(crate) const REP_ERR_UNSUP: u32 = REP_ERR | 1;
pub(crate) const REP_ERR_INVALID: u32 = REP_ERR | 3;
pub(crate) const REP_ERR_UNKNOWN: u32 = REP_ERR | 6;
pub(crate) const REP_ERR_SHUTDOWN: u32 = REP_ERR | 7;
pub(crate) const REP_ERR_TOO_BIG: u32 = REP_ERR | 9;

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_NAME: u16 = 1;
pub(crate) const INFO_DESCRIPTION: u16 = 2;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

/// The one metadata context there is, and the number it goes by on the wire.
pub(crate) const BASE_ALLOCATION: &[u8] = b"base:allocation";
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;
/// Its flags: no space is taken; reads as zeros.
pub(crate) const STATE_HOLE: u32 = 1 << 0;
pub(crate) const STATE_ZERO: u32 = 1 << 1;

/// Transmission flags.
pub(crate) const HAS_FLAGS: u16 = 1 << 0;
pub(crate) const READ_ONLY: u16 = 1 << 1;
pub(crate) const SEND_FLUSH: u16 = 1 << 2;
pub(crate) const SEND_FUA: u16 = 1 << 3;
pub(crate) const ROTATIONAL: u16 = 1 << 4;
pub(crate) const SEND_TRIM: u16 = 1 << 5;
pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
pub(crate) const SEND_DF: u16 = 1 << 7;
pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
pub(crate) const SEND_CACHE: u16 = 1 << 10;
pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_DISC: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_TRIM: u16 = 4;
pub(crate) const CMD_CACHE: u16 = 5;
pub(crate) const CMD_WRITE_ZEROES: u16 = 6;
pub(crate) const CMD_BLOCK_STATUS: u16 = 7;

/// Command flags.
pub(crate) const CMD_FLAG_FUA: u16 = 1 << 0;
pub(crate) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub(crate) const CMD_FLAG_DF: u16 = 1 << 2;
pub(crate) const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
pub(crate) const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;

/// The flag of a structured reply's last chunk.
pub(crate) const CHUNK_FLAG_DONE: u16 = 1 << 0;

/// Kinds of chunks.
pub(crate) const CHUNK_NONE: u16 = 0;
pub(crate) const CHUNK_DATA: u16 = 1;
pub(crate) const CHUNK_HOLE: u16 = 2;
pub(crate) const CHUNK_BLOCK_STATUS: u16 = 5;
/// Every kind with this bit is an error.
pub(crate) const CHUNK_ERR: u16 = 1 << 15;
pub(crate) const CHUNK_ERROR: u16 = CHUNK_ERR | 1;
pub(crate) const CHUNK_ERROR_OFFSET: u16 = CHUNK_ERR | 2;

/// Bytes of a request before its payload.
pub(crate) const REQUEST_BYTES: usize = 28;
/// Bytes of a simple reply before its payload.
pub(crate) const SIMPLE_REPLY_BYTES: usize = 16;
/// Bytes of a structured reply's chunk before its payload.
pub(crate) const CHUNK_BYTES: usize = 20;
/// Bytes of an option before its data.
pub(crate) const OPTION_BYTES: usize = 16;
/// Bytes of an option reply before its data.
pub(crate) const OPTION_REPLY_BYTES: usize = 20;

/// A request as it stands on the wire; nothing in it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub flags: u16,
    pub command: u16,
    pub cookie: u64,
    pub offset: u64,
    pub len: u32,
}

impl RequestHeader {
    /// Unpacks a header, or `None` if its magic is wrong: the stream cannot be followed further.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Option<RequestHeader> {
        if u32_at(bytes, 0) != REQUEST_MAGIC {
            return None;
        }
        Some(RequestHeader {
            flags: u16_at(bytes, 4),
            command: u16_at(bytes, 6),
            cookie: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            len: u32_at(bytes, 24),
        })
    }

    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut out = [0; REQUEST_BYTES];
        out[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.command.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..28].copy_from_slice(&self.len.to_be_bytes());
        out
    }
}

/// The head of a simple reply; `error` 0 is success.
pub(crate) fn encode_simple_reply(cookie: u64, error: u32) -> [u8; SIMPLE_REPLY_BYTES] {
    let mut out = [0; SIMPLE_REPLY_BYTES];
    out[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&error.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out
}

/// `(cookie, error)` of a simple reply, or `None` if its magic is wrong.
pub(crate) fn decode_simple_reply(bytes: &[u8; SIMPLE_REPLY_BYTES]) -> Option<(u64, u32)> {
    (u32_at(bytes, 0) == SIMPLE_REPLY_MAGIC).then(|| (u64_at(bytes, 8), u32_at(bytes, 4)))
}

/// The head of a chunk of a structured reply, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    /// Bytes of payload behind it.
    pub len: u32,
}

impl ChunkHeader {
    pub fn encode(&self) -> [u8; CHUNK_BYTES] {
        let mut out = [0; CHUNK_BYTES];
        out[0..4].copy_from_slice(&CHUNK_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.kind.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..20].copy_from_slice(&self.len.to_be_bytes());
        out
    }

    /// Unpacks a head whose magic has been looked at.
    pub fn decode(bytes: &[u8; CHUNK_BYTES]) -> ChunkHeader {
        ChunkHeader {
            flags: u16_at(bytes, 4),
            kind: u16_at(bytes, 6),
            cookie: u64_at(bytes, 8),
            len: u32_at(bytes, 16),
        }
    }
}

/// An option with its data, as a client sends it.
pub(crate) fn encode_option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(OPTION_BYTES + data.len());
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// An option reply with its data, as a server sends it.
pub(crate) fn encode_option_reply(option: u32, reply: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(OPTION_REPLY_BYTES + data.len());
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&reply.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// The big-endian number at `at`. The callers' places lie in fixed-size messages.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (u32::from(u16_at(bytes, at)) << 16) | u32::from(u16_at(bytes, at + 2))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (u64::from(u32_at(bytes, at)) << 32) | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_header_has_the_layout_of_the_specification() {
        let header =
            RequestHeader { flags: 0x0102, command: 3, cookie: 4 << 56, offset: 5, len: 6 };
        let bytes = header.encode();
        assert_eq!(&bytes[..8], &[0x25, 0x60, 0x95, 0x13, 1, 2, 0, 3]);
        assert_eq!(&bytes[8..], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(RequestHeader::decode(&bytes), Some(header));
        let mut wrong = bytes;
        wrong[3] ^= 1;
        assert_eq!(RequestHeader::decode(&wrong), None);
    }

    #[test]
    fn a_chunk_header_has_the_layout_of_the_specification() {
        let header = ChunkHeader { flags: 1, kind: 0x8002, cookie: 0x0102_0304_0506_0708, len: 9 };
        let bytes = header.encode();
        assert_eq!(bytes[..8], [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 2]);
        assert_eq!(bytes[8..], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
        assert_eq!(ChunkHeader::decode(&bytes), header);
    }

    #[test]
    fn a_simple_reply_has_the_layout_of_the_specification() {
        let bytes = encode_simple_reply(0x0102_0304_0506_0708, 5);
        assert_eq!(bytes, [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(decode_simple_reply(&bytes), Some((0x0102_0304_0506_0708, 5)));
        let mut wrong = bytes;
        wrong[0] = 0;
        assert_eq!(decode_simple_reply(&wrong), None);
    }
}
