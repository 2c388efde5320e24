// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is served: the border between the protocol and whoever does the I/O.

use crate::Buffer;

/// A Linux error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Operation not permitted: a write to a read-only export.
    pub const EPERM: Errno = Errno(1);
    /// Input/output error.
    pub const EIO: Errno = Errno(5);
    /// Out of memory.
    pub const ENOMEM: Errno = Errno(12);
    /// A request that breaks the protocol or the export's limits.
    pub const EINVAL: Errno = Errno(22);
    /// No space, or a write beyond the end.
    pub const ENOSPC: Errno = Errno(28);
    /// Not supported (on the wire only as the answer to FAST_ZERO).
    pub const ENOTSUP: Errno = Errno(95);
    /// The server is being shut down.
    pub const ESHUTDOWN: Errno = Errno(108);

    /// The number for the wire. The protocol knows eight; what it has no number for is `EIO`, and
    /// `ENOTSUP` from an export is `EINVAL` (specification, "Error values"). Zero or less, which is
    /// no error at all, is `EIO` too: an export that fails must not look as if it had not.
    #[must_use]
    pub fn wire(self) -> u32 {
        match self.0 {
            // EPERM; EACCES; EROFS
            1 | 13 | 30 => 1,
            12 => 12,
            // EINVAL; ENOTSUP
            22 | 95 => 22,
            // ENOSPC; EFBIG; EDQUOT
            28 | 27 | 122 => 28,
            108 => 108,
            _ => 5,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Fill [`Request::data`].
    Read,
    /// Store [`Request::data`].
    Write,
    /// Every write answered before this request was submitted reaches stable storage, whichever
    /// connection it came from. Offset and length are 0.
    Flush,
    /// The range may be forgotten. A hint.
    Trim,
    /// The range reads as zeros afterwards.
    WriteZeroes {
        /// No space may be given back by it.
        no_hole: bool,
    },
}

/// A request that has passed every check: whole blocks, inside the export, of a kind that
/// [`ExportInfo`] announced.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// First byte of the export.
    pub offset: u64,
    /// Bytes, at least one block (0 for a flush). At most [`MAX_REQUEST_BYTES`] for a read or
    /// write; trim and write-zeroes carry no data and may be of any length up to 4 GiB.
    ///
    /// [`MAX_REQUEST_BYTES`]: crate::MAX_REQUEST_BYTES
    pub len: u32,
    /// Answer only when the change is on stable storage. May stand on any command, and means
    /// nothing on a read or flush.
    pub fua: bool,
    /// `len` bytes for a read (they hold anything and are to be filled) and a write, empty
    /// otherwise. Aligned for O_DIRECT. It goes back with the reply.
    pub data: Buffer,
}

/// A part of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRange {
    /// First byte of the export.
    pub offset: u64,
    /// Bytes, at least one.
    pub len: u32,
    /// The error.
    pub error: Errno,
    /// For a person: what is the matter there.
    pub message: &'static str,
}

/// How a request ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Success or why not.
    pub result: Result<(), Errno>,
    /// The request's buffer; of a good read, filled whole.
    pub data: Buffer,
    /// What failed, if not all of it did.
    pub bad: Vec<BadRange>,
}

impl Reply {
    /// Success. `data` is the request's buffer; of a read all of it must have been filled.
    #[must_use]
    pub fn good(data: Buffer) -> Reply {
        Reply { result: Ok(()), data, bad: Vec::new() }
    }

    /// Failure as a whole; the client learns the number through [`Errno::wire`].
    #[must_use]
    pub fn failed(error: Errno) -> Reply {
        Reply { result: Err(error), data: Buffer::default(), bad: Vec::new() }
    }

    /// Failure of the ranges `bad` and of nothing else: they ascend, do not overlap and lie inside
    /// the request. Of a read, all of `data` outside of them has been filled, and what they hold
    /// goes to nobody. Without a bad range it is success.
    #[must_use]
    pub fn partly(data: Buffer, bad: Vec<BadRange>) -> Reply {
        let result = bad.first().map_or(Ok(()), |bad| Err(bad.error));
        Reply { result, data, bad }
    }
}

/// Called once with the reply, on any thread; it does not block. Dropped without a call it answers
/// `EIO`, so a lost request never hangs its client.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// Size, limits and abilities, asked for at each negotiation and fixed for the connection then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Bytes, a multiple of `block_bytes`.
    pub size_bytes: u64,
    /// The logical block: a power of two, 512 to 65,536. Requests are whole blocks.
    pub block_bytes: u32,
    /// What is efficient: a power of two, at least `block_bytes`.
    pub preferred_bytes: u32,
    /// Writes, trims and write-zeroes are answered `EPERM`.
    pub read_only: bool,
    /// FLUSH and FUA are offered. Only an export without any cache may say no.
    pub can_flush: bool,
    /// TRIM is offered.
    pub can_trim: bool,
    /// WRITE_ZEROES is offered.
    pub can_write_zeroes: bool,
    /// A flush on one connection covers writes answered on every other: a client may use several.
    pub multi_connection: bool,
    /// A disk that turns, as far as is known.
    pub rotational: bool,
}

/// One block device to be served.
pub trait Export: Send + Sync {
    /// What clients are told. Must obey the rules at [`ExportInfo`]'s fields.
    fn info(&self) -> ExportInfo;

    /// A client has chosen the export. The handle is dropped when the client has gone *and*
    /// everything it submitted has been answered.
    ///
    /// # Errors
    /// The client is told that the export is not available (`ESHUTDOWN`: that the server shuts
    /// down) and may try again.
    fn connect(&self) -> Result<Box<dyn Connection>, Errno>;
}

/// What an export keeps for one client, for example which flush errors that client has seen.
pub trait Connection: Send {
    /// Takes a request and returns soon, answering it through `done` now or later, in any order
    /// with others. Blocking here holds up this client only. Requests come in the order in which
    /// the client sent them.
    ///
    /// A long read comes in parts if the client understands that, each a request of its own.
    fn submit(&mut self, request: Request, done: Done);

    /// What `len` bytes at `offset`, whole blocks inside the export, take of space: extents one
    /// behind the other from `offset` on, at most `most` (at least 1), each of whole blocks; they
    /// need not reach the end of the range. A hole reads as zeros, and whoever cannot be sure says
    /// data. It may block, which holds up this client only.
    ///
    /// # Errors
    /// The client is told.
    fn extents(&mut self, offset: u64, len: u32, most: usize) -> Result<Vec<Extent>, Errno> {
        let _ = (offset, most);
        Ok(vec![Extent { len, hole: false }])
    }
}

/// A stretch of an export that is one hole, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub len: u32,
    /// It takes no space and reads as zeros. Otherwise nothing is said.
    pub hole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_becomes_a_number_the_protocol_knows_and_never_success() {
        let known = [1, 5, 12, 22, 28, 108];
        for errno in -200..200 {
            let wire = Errno(errno).wire();
            assert!(known.contains(&wire), "{errno} -> {wire}");
        }
        for (errno, wire) in [
            (1, 1),
            (13, 1),
            (30, 1),
            (5, 5),
            (61, 5),
            (121, 5),
            (67, 5),
            (110, 5),
            (19, 5),
            (52, 5),
            (84, 5),
            (11, 5),
            (0, 5),
            (12, 12),
            (22, 22),
            (95, 22),
            (28, 28),
            (27, 28),
            (122, 28),
            (108, 108),
        ] {
            assert_eq!(Errno(errno).wire(), wire, "{errno}");
        }
    }
}
