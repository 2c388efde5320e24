// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Negotiation, the client's side: structured replies and `base:allocation` if the server has them,
//! then GO.

use std::io::{self, Read, Write};

use super::ClientError;
use crate::protocol::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, CAN_MULTI_CONN, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES,
    INFO_BLOCK_SIZE, INFO_EXPORT, INIT_MAGIC, MAX_REQUEST_BYTES, MAX_STRING_BYTES, OPT_GO,
    OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, OPTION_MAGIC, OPTION_REPLY_BYTES,
    OPTION_REPLY_MAGIC, READ_ONLY, REP_ACK, REP_ERR, REP_ERR_SHUTDOWN, REP_ERR_UNKNOWN, REP_INFO,
    REP_META_CONTEXT, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, encode_option, u16_at,
    u32_at, u64_at,
};

/// Longest option reply that is taken.
const MAX_REPLY_BYTES: usize = 2 * MAX_STRING_BYTES;
/// Most replies to one option.
const MAX_REPLIES: u32 = 64;

/// What a server says of its export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteExport {
    /// Size in bytes.
    pub size_bytes: u64,
    /// The transmission flags as sent.
    pub flags: u16,
    /// Requests are whole multiples of this; 1 if the server does not say.
    pub block_bytes: u32,
    /// What is efficient; 4,096 if the server does not say.
    pub preferred_bytes: u32,
    /// Largest read or write; 32 MiB if the server does not say.
    pub max_bytes: u32,
    /// The server sends what is good of a read that is not good as a whole.
    pub structured: bool,
    /// It tells holes from data.
    pub allocation: bool,
}

impl RemoteExport {
    /// Writes are refused.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.flags & READ_ONLY != 0
    }

    /// FLUSH and FUA are offered.
    #[must_use]
    pub fn can_flush(&self) -> bool {
        self.flags & SEND_FLUSH != 0 && self.flags & SEND_FUA != 0
    }

    /// TRIM is offered.
    #[must_use]
    pub fn can_trim(&self) -> bool {
        self.flags & SEND_TRIM != 0
    }

    /// WRITE_ZEROES is offered.
    #[must_use]
    pub fn can_write_zeroes(&self) -> bool {
        self.flags & SEND_WRITE_ZEROES != 0
    }

    /// A flush covers other connections' writes too.
    #[must_use]
    pub fn multi_connection(&self) -> bool {
        self.flags & CAN_MULTI_CONN != 0
    }
}

pub(super) fn negotiate(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    name: &str,
) -> Result<RemoteExport, ClientError> {
    let failed = |what: &str| ClientError::Handshake { what: what.to_string() };
    let broken = |error: io::Error| failed(&error.to_string());
    if name.len() > MAX_STRING_BYTES {
        return Err(failed("the export's name is longer than 4,096 bytes"));
    }
    let mut greeting = [0; 18];
    reader.read_exact(&mut greeting).map_err(broken)?;
    if u64_at(&greeting, 0) != INIT_MAGIC || u64_at(&greeting, 8) != OPTION_MAGIC {
        return Err(failed("this is no newstyle NBD server"));
    }
    let flags = u16_at(&greeting, 16);
    if flags & FLAG_FIXED_NEWSTYLE == 0 {
        return Err(failed("the server does not speak fixed newstyle"));
    }
    let flags = u32::from(flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES));
    let mut go = (name.len() as u32).to_be_bytes().to_vec();
    go.extend_from_slice(name.as_bytes());
    go.extend_from_slice(&1_u16.to_be_bytes());
    go.extend_from_slice(&INFO_BLOCK_SIZE.to_be_bytes());
    writer.write_all(&flags.to_be_bytes()).map_err(broken)?;
    let structured = ask(reader, writer, OPT_STRUCTURED_REPLY, b"")?.is_some();
    let mut allocation = false;
    if structured {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&1_u32.to_be_bytes());
        data.extend_from_slice(&(BASE_ALLOCATION.len() as u32).to_be_bytes());
        data.extend_from_slice(BASE_ALLOCATION);
        let context = [&BASE_ALLOCATION_ID.to_be_bytes()[..], BASE_ALLOCATION].concat();
        let contexts = ask(reader, writer, OPT_SET_META_CONTEXT, &data)?.unwrap_or_default();
        allocation = contexts.contains(&context);
    }
    let go = encode_option(OPT_GO, &go);
    writer.write_all(&go).and_then(|()| writer.flush()).map_err(broken)?;

    let mut export = RemoteExport {
        block_bytes: 1,
        preferred_bytes: 4096,
        max_bytes: MAX_REQUEST_BYTES,
        structured,
        allocation,
        ..RemoteExport::default()
    };
    let mut described = false;
    for _ in 0..MAX_REPLIES {
        match option_reply(reader, OPT_GO)? {
            (REP_ACK, _) if described => return Ok(export),
            (REP_ACK, _) => return Err(failed("the server does not say how large the export is")),
            (REP_INFO, data) => described |= take_info(&mut export, &data),
            (error, text) if error & REP_ERR != 0 => return Err(refused(error, &text)),
            (other, _) => return Err(failed(&format!("unexpected reply {other} to GO"))),
        }
    }
    Err(failed("the server goes on and on about the export"))
}

/// Asks for something the server need not have: the contexts it names before it acknowledges, or
/// `None` if it does not.
fn ask(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    option: u32,
    data: &[u8],
) -> Result<Option<Vec<Vec<u8>>>, ClientError> {
    let failed = |what: &str| ClientError::Handshake { what: what.to_string() };
    let out = encode_option(option, data);
    let sent = writer.write_all(&out).and_then(|()| writer.flush());
    sent.map_err(|error| failed(&error.to_string()))?;
    let mut contexts = Vec::new();
    for _ in 0..MAX_REPLIES {
        match option_reply(reader, option)? {
            (REP_ACK, _) => return Ok(Some(contexts)),
            (REP_META_CONTEXT, context) => contexts.push(context),
            (error, _) if error & REP_ERR != 0 => return Ok(None),
            (other, _) => return Err(failed(&format!("unexpected reply {other} to an option"))),
        }
    }
    Err(failed("the server goes on and on about an option"))
}

/// One reply to an option: its type and data.
fn option_reply(reader: &mut dyn Read, option: u32) -> Result<(u32, Vec<u8>), ClientError> {
    let failed = |what: String| ClientError::Handshake { what };
    let mut head = [0; OPTION_REPLY_BYTES];
    reader.read_exact(&mut head).map_err(|error| failed(error.to_string()))?;
    if u64_at(&head, 0) != OPTION_REPLY_MAGIC || u32_at(&head, 8) != option {
        return Err(failed("the server sent something that is no reply to the option".into()));
    }
    let len = u32_at(&head, 16) as usize;
    if len > MAX_REPLY_BYTES {
        return Err(failed(format!("the server sent a reply of {len} bytes")));
    }
    let mut data = vec![0; len];
    reader.read_exact(&mut data).map_err(|error| failed(error.to_string()))?;
    Ok((u32_at(&head, 12), data))
}

/// Whether it was the mandatory description of the export. Unknown kinds are passed over.
fn take_info(export: &mut RemoteExport, data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_at_checked(2) else {
        return false;
    };
    match (u16_at(kind, 0), data.len()) {
        (INFO_EXPORT, 10) => {
            export.size_bytes = u64_at(data, 0);
            export.flags = u16_at(data, 8);
            true
        }
        (INFO_BLOCK_SIZE, 12) => {
            export.block_bytes = u32_at(data, 0);
            export.preferred_bytes = u32_at(data, 4);
            export.max_bytes = u32_at(data, 8);
            false
        }
        _ => false,
    }
}

fn refused(error: u32, text: &[u8]) -> ClientError {
    let meaning = match error {
        REP_ERR_UNKNOWN => "the server has no such export",
        REP_ERR_SHUTDOWN => "the server is shutting down",
        _ => "the server refuses",
    };
    // The server's own words are shown without what could move a terminal's cursor.
    let text = String::from_utf8_lossy(text);
    let what = if text.is_empty() {
        format!("{meaning} (error {})", error & !REP_ERR)
    } else {
        format!("{meaning} (error {}: {:?})", error & !REP_ERR, text)
    };
    ClientError::Handshake { what }
}
