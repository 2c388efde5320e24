// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Negotiation, the server's side: fixed newstyle.
//!
//! The client sends options one by one until it chooses the export with GO (the transmission phase
//! begins), sends ABORT, or breaks the protocol. Everything it can send is bounded: the data of an
//! option, the number of options, and (by the deadline the caller's reader keeps) the time. Options
//! that are not known here are read past and answered `NBD_REP_ERR_UNSUP`; new ones belong into
//! [`Session::option`], what they negotiate into [`Chosen`].

use std::io::{self, Read, Write};

use crate::export::{Connection, Errno, Export, ExportInfo};
use crate::protocol::{
    CAN_MULTI_CONN, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, HAS_FLAGS, INFO_BLOCK_SIZE,
    INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, INIT_MAGIC, MAX_REQUEST_BYTES, MAX_STRING_BYTES,
    OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPTION_BYTES, OPTION_MAGIC, READ_ONLY, REP_ACK,
    REP_ERR_INVALID, REP_ERR_SHUTDOWN, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO,
    ROTATIONAL, SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
    encode_option_reply, u16_at, u32_at, u64_at,
};

/// Most data of an option that is looked at: the longest name and 256 information requests.
const MAX_OPTION_BYTES: usize = MAX_STRING_BYTES + 6 + 512;
/// Most data of an option that is read past; more ends the session.
const MAX_SKIPPED_BYTES: u64 = 1 << 20;
/// Most options of a session.
const MAX_OPTIONS: u32 = 256;

/// What the negotiation settled.
pub(crate) struct Chosen {
    pub info: ExportInfo,
    pub connection: Box<dyn Connection>,
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
    if u32::from_be_bytes(flags) & !u32::from(own_flags) != 0 {
        return Err(Ended::Broken("unknown client flags"));
    }
    let mut session = Session { reader, writer, offer };
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
        if option == OPT_EXPORT_NAME {
            // It has no error reply; whoever does not serve it must end the session.
            return Err(Ended::Broken("EXPORT_NAME is not served, only GO"));
        }
        let known = matches!(option, OPT_ABORT | OPT_INFO | OPT_GO);
        let data = self.data(len, known)?;
        let Some(data) = data else {
            let error = if known { REP_ERR_TOO_BIG } else { REP_ERR_UNSUP };
            self.reply(option, error, b"")?;
            return Ok(None);
        };
        match option {
            OPT_ABORT => {
                // The client need not wait for the answer.
                let _ = self.reply(option, REP_ACK, b"");
                Err(Ended::Left)
            }
            _ => self.info_or_go(option, &data),
        }
    }

    /// The option's data if it is wanted and not too long, else `None` with the data read past.
    fn data(&mut self, len: u32, wanted: bool) -> Result<Option<Vec<u8>>, Ended> {
        if wanted && len as usize <= MAX_OPTION_BYTES {
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

    fn info_or_go(&mut self, option: u32, data: &[u8]) -> Result<Option<Chosen>, Ended> {
        let Some((name, requests)) = parse_info(data) else {
            self.reply(option, REP_ERR_INVALID, b"the option's lengths do not fit its data")?;
            return Ok(None);
        };
        if !name.is_empty() && name != self.offer.name.as_bytes() {
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
        Ok(connection.map(|connection| Chosen { info, connection }))
    }

    /// The export's size and flags and its block sizes always, since requests that break them are
    /// refused; its names if asked for.
    fn describe(&mut self, option: u32, info: &ExportInfo, requests: &[u8]) -> io::Result<()> {
        let mut data = INFO_EXPORT.to_be_bytes().to_vec();
        data.extend_from_slice(&info.size_bytes.to_be_bytes());
        data.extend_from_slice(&transmission_flags(info).to_be_bytes());
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

/// `(name, list of 16-bit requests)` of the data of INFO or GO, or `None` if its lengths lie.
fn parse_info(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_at_checked(4)?;
    let (name, rest) = rest.split_at_checked(u32_at(len, 0) as usize)?;
    let (count, requests) = rest.split_at_checked(2)?;
    (requests.len() == 2 * usize::from(u16_at(count, 0))).then_some((name, requests))
}

fn transmission_flags(info: &ExportInfo) -> u16 {
    let flag = |on: bool, bits: u16| if on { bits } else { 0 };
    let writable = !info.read_only;
    HAS_FLAGS
        | flag(info.read_only, READ_ONLY)
        | flag(info.can_flush, SEND_FLUSH | SEND_FUA)
        | flag(info.rotational, ROTATIONAL)
        | flag(info.can_trim && writable, SEND_TRIM)
        | flag(info.can_write_zeroes && writable, SEND_WRITE_ZEROES | SEND_FAST_ZERO)
        | flag(info.multi_connection, CAN_MULTI_CONN)
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
