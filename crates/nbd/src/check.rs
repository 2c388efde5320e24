// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Whether a request may be submitted. One pure function; the error numbers are those the
//! specification asks for under "Error values".

use crate::export::{Command, Errno, ExportInfo, Extent};
use crate::protocol::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE,
    CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
    MAX_REQUEST_BYTES, RequestHeader,
};

/// What a connection may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    pub info: ExportInfo,
    /// Structured replies have been negotiated.
    pub structured: bool,
    /// So has `base:allocation`.
    pub allocation: bool,
}

/// The number for the wire, and the words for a person.
pub(crate) type Refusal = (u32, &'static str);

const fn refused(errno: Errno, why: &'static str) -> Refusal {
    // The numbers refused with here are known to the protocol as they are.
    (errno.0 as u32, why)
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// For the export.
    Submit(Command),
    /// CACHE: nothing to do.
    Cache,
    /// BLOCK_STATUS.
    BlockStatus,
}

/// What to do, or the error to answer with. DISC is none of these and is refused here.
///
/// In this order: command offered at all, read-only, flags, length, alignment, end. A FAST_ZERO
/// request that is right in every other respect is `ENOTSUP`.
pub(crate) fn check(header: &RequestHeader, asks: &Asks) -> Result<Work, Refusal> {
    let export = &asks.info;
    let (work, offered, own_flags) = match header.command {
        CMD_READ => {
            (Work::Submit(Command::Read), true, if asks.structured { CMD_FLAG_DF } else { 0 })
        }
        CMD_WRITE => (Work::Submit(Command::Write), true, 0),
        CMD_FLUSH => (Work::Submit(Command::Flush), export.can_flush, 0),
        CMD_TRIM => (Work::Submit(Command::Trim), export.can_trim, 0),
        CMD_CACHE => (Work::Cache, true, 0),
        CMD_WRITE_ZEROES => {
            let no_hole = header.flags & CMD_FLAG_NO_HOLE != 0;
            let flags = CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO;
            (Work::Submit(Command::WriteZeroes { no_hole }), export.can_write_zeroes, flags)
        }
        CMD_BLOCK_STATUS => (Work::BlockStatus, asks.allocation, CMD_FLAG_REQ_ONE),
        _ => return Err(refused(Errno::EINVAL, "unknown command")),
    };
    let changes =
        matches!(work, Work::Submit(Command::Write | Command::Trim | Command::WriteZeroes { .. }));
    if changes && export.read_only {
        return Err(refused(Errno::EPERM, "the export is read-only"));
    }
    let fua = if export.can_flush { CMD_FLAG_FUA } else { 0 };
    if !offered {
        return Err(refused(Errno::EINVAL, "the command was not offered"));
    }
    if header.flags & !(own_flags | fua) != 0 {
        return Err(refused(Errno::EINVAL, "a flag that the command does not have"));
    }
    check_range(header, work, export)?;
    if header.flags & own_flags & CMD_FLAG_FAST_ZERO != 0 {
        return Err(refused(Errno::ENOTSUP, "zeros are no faster than data"));
    }
    Ok(work)
}

fn check_range(header: &RequestHeader, work: Work, export: &ExportInfo) -> Result<(), Refusal> {
    let invalid = |why| Err(refused(Errno::EINVAL, why));
    let (carries_data, writes) = match work {
        Work::Submit(Command::Flush) => {
            let zero = header.offset == 0 && header.len == 0;
            return if zero { Ok(()) } else { invalid("a flush has no offset and no length") };
        }
        Work::Submit(Command::Read) => (true, false),
        Work::Submit(Command::Write) => (true, true),
        Work::Submit(Command::WriteZeroes { .. }) => (false, true),
        Work::Submit(Command::Trim) | Work::Cache | Work::BlockStatus => (false, false),
    };
    if header.len == 0 {
        return invalid("no length");
    }
    if carries_data && header.len > MAX_REQUEST_BYTES {
        return invalid("longer than the largest request");
    }
    if header.len % export.block_bytes != 0 || header.offset % u64::from(export.block_bytes) != 0 {
        return invalid("not made of whole blocks");
    }
    let end = header.offset.checked_add(u64::from(header.len));
    if end.is_none_or(|end| end > export.size_bytes) {
        let errno = if writes { Errno::ENOSPC } else { Errno::EINVAL };
        return Err(refused(errno, "beyond the end of the export"));
    }
    Ok(())
}

/// An export's extents with equal neighbours joined, if they can be told to the client.
pub(crate) fn extents(
    mut extents: Vec<Extent>,
    len: u32,
    most: usize,
    export: &ExportInfo,
) -> Option<Vec<Extent>> {
    extents.dedup_by(|next, last| {
        let joined = last.len.checked_add(next.len).filter(|_| next.hole == last.hole);
        joined.map(|joined| last.len = joined).is_some()
    });
    let bytes: u64 = extents.iter().map(|extent| u64::from(extent.len)).sum();
    let whole = |extent: &Extent| extent.len > 0 && extent.len % export.block_bytes == 0;
    let number = (1..=most).contains(&extents.len());
    (number && bytes <= u64::from(len) && extents.iter().all(whole)).then_some(extents)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
