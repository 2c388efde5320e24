// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Negotiation, the server's side: fixed newstyle.
//!
//! The client sends options one by one until it chooses the export with GO or EXPORT_NAME (the
//! transmission phase begins), sends ABORT, or breaks the protocol. Everything it can send is
//! bounded: the data of an option, the number of options, and (by the deadline the caller's reader
//! keeps) the time. Options that are not known here, STARTTLS and extended headers among them, are
//! read past and answered `NBD_REP_ERR_UNSUP`.

use std::io::{self, Read, Write};

use crate::export::{Connection, Errno, Export, ExportInfo};
use crate::protocol::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, CAN_MULTI_CONN, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES,
    HAS_FLAGS, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, INIT_MAGIC,
    MAX_REQUEST_BYTES, MAX_STRING_BYTES, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST,
    OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, OPTION_BYTES, OPTION_MAGIC,
    READ_ONLY, REP_ACK, REP_ERR_INVALID, REP_ERR_SHUTDOWN, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
    REP_ERR_UNSUP, REP_INFO, REP_META_CONTEXT, REP_SERVER, ROTATIONAL, SEND_CACHE, SEND_DF,
    SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, encode_option_reply,
    u16_at, u32_at, u64_at,
};

/// Most data of INFO or GO: the longest name and 256 information requests.
const MAX_INFO_BYTES: usize = MAX_STRING_BYTES + 6 + 512;
/// Most data of an option for metadata contexts: more than any client that means well sends.
const MAX_META_BYTES: usize = 16 << 10;
/// Most queries of an option for metadata contexts.
const MAX_QUERIES: u32 = 64;
/// Most data of an option that is read past; more ends the session.
const MAX_SKIPPED_BYTES: u64 = 1 << 20;
/// Most options of a session.
const MAX_OPTIONS: u32 = 256;
/// What follows the description of the export in the answer to EXPORT_NAME, unless the client has
/// said that it can do without.
const RESERVED_ZEROES: usize = 124;

/// What the negotiation settled.
pub(crate) struct Chosen {
    pub info: ExportInfo,
    pub connection: Box<dyn Connection>,
    /// Structured replies.
    pub structured: bool,
    /// The context `base:allocation`, and so BLOCK_STATUS.
    pub allocation: bool,
}

/// What is offered.
pub(crate) struct Offer<'a> {
    pub export: &'a dyn Export,
    pub name: &'a str,
    pub description: &'a str,
}

/// How a negotiation ended without an export chosen.
#[derive(Debug)]
pub(crate) enum Ended {
    /// ABORT, or the client left between two options.
    Left,
    /// The client broke the protocol, in this way.
    Broken(&'static str),
    /// The stream failed, ended in the middle of a message or timed out.
    Stream(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Stream(error)
    }
}

/// Negotiates on a fresh stream.
pub(crate) fn negotiate(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    offer: &Offer<'_>,
) -> Result<Chosen, Ended> {
    let mut greeting = [0; 18];
    greeting[0..8].copy_from_slice(&INIT_MAGIC.to_be_bytes());
    greeting[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    let own_flags = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
    greeting[16..18].copy_from_slice(&own_flags.to_be_bytes());
    writer.write_all(&greeting)?;

    let mut flags = [0; 4];
    if !read_or_end(reader, &mut flags)? {
        return Err(Ended::Left);
    }
    let flags = u32::from_be_bytes(flags);
    if flags & !u32::from(own_flags) != 0 {
        return Err(Ended::Broken("unknown client flags"));
    }
    let zeroes = flags & u32::from(FLAG_NO_ZEROES) == 0;
    let mut session =
        Session { reader, writer, offer, zeroes, structured: false, allocation_of: None };
    for _ in 0..MAX_OPTIONS {
        if let Some(chosen) = session.option()? {
            return Ok(chosen);
        }
    }
    Err(Ended::Broken("too many options"))
}

struct Session<'a> {
    reader: &'a mut dyn Read,
    writer: &'a mut dyn Write,
    offer: &'a Offer<'a>,
    /// The client wants EXPORT_NAME's reserved bytes.
    zeroes: bool,
    structured: bool,
    /// The name of the export for which the client has selected `base:allocation` last.
    allocation_of: Option<Vec<u8>>,
}

impl Session<'_> {
    /// Takes and answers one option; the export once it is chosen.
    fn option(&mut self) -> Result<Option<Chosen>, Ended> {
        let mut head = [0; OPTION_BYTES];
        if !read_or_end(self.reader, &mut head)? {
            return Err(Ended::Left);
        }
        if u64_at(&head, 0) != OPTION_MAGIC {
            return Err(Ended::Broken("no option where one belongs"));
        }
        let (option, len) = (u32_at(&head, 8), u32_at(&head, 12));
        if option == OPT_SET_META_CONTEXT {
            // However it ends, what was selected before is no longer.
            self.allocation_of = None;
        }
        let limit = most_data(option);
        let Some(data) = self.data(len, limit)? else {
            if option == OPT_EXPORT_NAME {
                return Err(Ended::Broken("EXPORT_NAME with a name of more than 4,096 bytes"));
            }
            let error = if limit.is_some() { REP_ERR_TOO_BIG } else { REP_ERR_UNSUP };
            self.reply(option, error, b"")?;
            return Ok(None);
        };
        match option {
            OPT_ABORT => {
                // The client need not wait for the answer.
                let _ = self.reply(option, REP_ACK, b"");
                Err(Ended::Left)
            }
            OPT_EXPORT_NAME => self.export_name(&data).map(Some),
            OPT_LIST | OPT_STRUCTURED_REPLY if !data.is_empty() => {
                self.reply(option, REP_ERR_INVALID, b"the option has no data")?;
                Ok(None)
            }
            OPT_LIST => {
                let mut entry = (self.offer.name.len() as u32).to_be_bytes().to_vec();
                entry.extend_from_slice(self.offer.name.as_bytes());
                entry.extend_from_slice(self.offer.description.as_bytes());
                self.reply(option, REP_SERVER, &entry)?;
                self.reply(option, REP_ACK, b"")?;
                Ok(None)
            }
            OPT_STRUCTURED_REPLY => {
                self.structured = true;
                self.reply(option, REP_ACK, b"")?;
                Ok(None)
            }
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => {
                self.meta_context(option, &data)?;
                Ok(None)
            }
            _ => self.info_or_go(option, &data),
        }
    }

    /// The option's data if it is known and not too long, else `None` with the data read past.
    fn data(&mut self, len: u32, limit: Option<usize>) -> Result<Option<Vec<u8>>, Ended> {
        if limit.is_some_and(|limit| len as usize <= limit) {
            let mut data = vec![0; len as usize];
            self.reader.read_exact(&mut data)?;
            return Ok(Some(data));
        }
        if u64::from(len) > MAX_SKIPPED_BYTES {
            return Err(Ended::Broken("an option of more than 1 MiB"));
        }
        skip(self.reader, u64::from(len))?;
        Ok(None)
    }

    fn knows(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.offer.name.as_bytes()
    }

    fn chosen(&self, name: &[u8], info: ExportInfo, connection: Box<dyn Connection>) -> Chosen {
        let allocation = self.structured && self.allocation_of.as_deref() == Some(name);
        Chosen { info, connection, structured: self.structured, allocation }
    }

    /// It has no error reply: what cannot be served ends the session.
    fn export_name(&mut self, name: &[u8]) -> Result<Chosen, Ended> {
        if !self.knows(name) {
            return Err(Ended::Broken("EXPORT_NAME with the name of no export"));
        }
        let info = self.offer.export.info();
        let connection = self.offer.export.connect();
        let connection = connection.map_err(|_| Ended::Broken("the export is not available"))?;
        let mut out = info.size_bytes.to_be_bytes().to_vec();
        out.extend_from_slice(&transmission_flags(&info, self.structured).to_be_bytes());
        if self.zeroes {
            out.resize(out.len() + RESERVED_ZEROES, 0);
        }
        self.writer.write_all(&out)?;
        Ok(self.chosen(name, info, connection))
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> Result<(), Ended> {
        if !self.structured {
            self.reply(option, REP_ERR_INVALID, b"structured replies come first")?;
            return Ok(());
        }
        let (name, queries) = match parse_meta_context(data) {
            Ok(parsed) => parsed,
            Err((error, why)) => return Ok(self.reply(option, error, why.as_bytes())?),
        };
        if !self.knows(name) {
            return Ok(self.reply(option, REP_ERR_UNKNOWN, b"no export of that name")?);
        }
        let listing = option == OPT_LIST_META_CONTEXT;
        let wanted = queries
            .iter()
            .any(|query| *query == BASE_ALLOCATION || (listing && *query == b"base:"));
        if wanted || (listing && queries.is_empty()) {
            let id = if listing { 0 } else { BASE_ALLOCATION_ID };
            let mut context = id.to_be_bytes().to_vec();
            context.extend_from_slice(BASE_ALLOCATION);
            self.reply(option, REP_META_CONTEXT, &context)?;
            if !listing {
                self.allocation_of = Some(name.to_vec());
            }
        }
        Ok(self.reply(option, REP_ACK, b"")?)
    }

    fn info_or_go(&mut self, option: u32, data: &[u8]) -> Result<Option<Chosen>, Ended> {
        let Some((name, requests)) = parse_info(data) else {
            self.reply(option, REP_ERR_INVALID, b"the option's lengths do not fit its data")?;
            return Ok(None);
        };
        if !self.knows(name) {
            self.reply(option, REP_ERR_UNKNOWN, b"no export of that name")?;
            return Ok(None);
        }
        let info = self.offer.export.info();
        let connection = match option {
            OPT_GO => match self.offer.export.connect() {
                Ok(connection) => Some(connection),
                Err(error) => {
                    let shutdown = error == Errno::ESHUTDOWN;
                    let reply = if shutdown { REP_ERR_SHUTDOWN } else { REP_ERR_UNKNOWN };
                    self.reply(option, reply, b"the export is not available")?;
                    return Ok(None);
                }
            },
            _ => None,
        };
        self.describe(option, &info, requests)?;
        self.reply(option, REP_ACK, b"")?;
        Ok(connection.map(|connection| self.chosen(name, info, connection)))
    }

    /// The export's size and flags and its block sizes always, since requests that break them are
    /// refused; its names if asked for.
    fn describe(&mut self, option: u32, info: &ExportInfo, requests: &[u8]) -> io::Result<()> {
        let mut data = INFO_EXPORT.to_be_bytes().to_vec();
        data.extend_from_slice(&info.size_bytes.to_be_bytes());
        data.extend_from_slice(&transmission_flags(info, self.structured).to_be_bytes());
        self.reply(option, REP_INFO, &data)?;

        let mut data = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for number in [info.block_bytes, info.preferred_bytes, MAX_REQUEST_BYTES] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        self.reply(option, REP_INFO, &data)?;

        let asked = |kind: u16| requests.chunks_exact(2).any(|r| u16_at(r, 0) == kind);
        let texts = [(INFO_NAME, self.offer.name), (INFO_DESCRIPTION, self.offer.description)];
        for (kind, text) in texts {
            if asked(kind) {
                let mut data = kind.to_be_bytes().to_vec();
                data.extend_from_slice(text.as_bytes());
                self.reply(option, REP_INFO, &data)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) -> io::Result<()> {
        self.writer.write_all(&encode_option_reply(option, reply, data))
    }
}

/// Most data of an option that is looked at; `None` for an option that is not known.
fn most_data(option: u32) -> Option<usize> {
    match option {
        OPT_EXPORT_NAME | OPT_ABORT | OPT_LIST | OPT_STRUCTURED_REPLY => Some(MAX_STRING_BYTES),
        OPT_INFO | OPT_GO => Some(MAX_INFO_BYTES),
        OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => Some(MAX_META_BYTES),
        _ => None,
    }
}

/// `(name, list of 16-bit requests)` of the data of INFO or GO, or `None` if its lengths lie.
fn parse_info(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_at_checked(4)?;
    let (name, rest) = rest.split_at_checked(u32_at(len, 0) as usize)?;
    let (count, requests) = rest.split_at_checked(2)?;
    (requests.len() == 2 * usize::from(u16_at(count, 0))).then_some((name, requests))
}

/// `(export's name, queries)`.
type MetaQuery<'a> = (&'a [u8], Vec<&'a [u8]>);

/// What stands in the data of LIST_META_CONTEXT or SET_META_CONTEXT, or the error to
/// answer with.
fn parse_meta_context(data: &[u8]) -> Result<MetaQuery<'_>, (u32, &'static str)> {
    let lie = (REP_ERR_INVALID, "the option's lengths do not fit its data");
    fn string(data: &[u8]) -> Option<(&[u8], &[u8])> {
        let (len, rest) = data.split_at_checked(4)?;
        rest.split_at_checked(u32_at(len, 0) as usize)
    }
    let (name, rest) = string(data).ok_or(lie)?;
    let (count, mut rest) = rest.split_at_checked(4).ok_or(lie)?;
    let count = u32_at(count, 0);
    if count > MAX_QUERIES {
        return Err((REP_ERR_TOO_BIG, "more than 64 queries"));
    }
    let mut queries = Vec::new();
    for _ in 0..count {
        let (query, more) = string(rest).ok_or(lie)?;
        queries.push(query);
        rest = more;
    }
    let too_long = |string: &[u8]| string.len() > MAX_STRING_BYTES;
    if too_long(name) || queries.iter().any(|query| too_long(query)) {
        return Err((REP_ERR_TOO_BIG, "a string of more than 4,096 bytes"));
    }
    if rest.is_empty() { Ok((name, queries)) } else { Err(lie) }
}

fn transmission_flags(info: &ExportInfo, structured: bool) -> u16 {
    let flag = |on: bool, bits: u16| if on { bits } else { 0 };
    let writable = !info.read_only;
    HAS_FLAGS
        | flag(info.read_only, READ_ONLY)
        | flag(info.can_flush, SEND_FLUSH | SEND_FUA)
        | flag(info.rotational, ROTATIONAL)
        | flag(info.can_trim && writable, SEND_TRIM)
        | flag(info.can_write_zeroes && writable, SEND_WRITE_ZEROES | SEND_FAST_ZERO)
        | flag(info.multi_connection, CAN_MULTI_CONN)
        | flag(structured, SEND_DF)
        | SEND_CACHE
}

/// Fills `buf`; `false` if the stream ends before its first byte, an error if it ends later.
pub(crate) fn read_or_end(reader: &mut dyn Read, buf: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buf.len() {
        match reader.read(&mut buf[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads past `len` bytes with little memory.
pub(crate) fn skip(reader: &mut dyn Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
