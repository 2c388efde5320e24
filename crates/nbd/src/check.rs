// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Whether a request may be submitted. One pure function; the error numbers are those the
//! specification asks for under "Error values".

use crate::export::{Command, Errno, ExportInfo};
use crate::protocol::{
    CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE,
    CMD_WRITE_ZEROES, MAX_REQUEST_BYTES, RequestHeader,
};

/// The command to submit, or the error to answer with. DISC is none of these and is refused here.
///
/// In this order: command offered at all, read-only, flags, length, alignment, end. A FAST_ZERO
/// request that is right in every other respect is `ENOTSUP`.
pub(crate) fn check(header: &RequestHeader, export: &ExportInfo) -> Result<Command, Errno> {
    let (command, offered, own_flags) = match header.command {
        CMD_READ => (Command::Read, true, 0),
        CMD_WRITE => (Command::Write, true, 0),
        CMD_FLUSH => (Command::Flush, export.can_flush, 0),
        CMD_TRIM => (Command::Trim, export.can_trim, 0),
        CMD_WRITE_ZEROES => (
            Command::WriteZeroes { no_hole: header.flags & CMD_FLAG_NO_HOLE != 0 },
            export.can_write_zeroes,
            CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
        ),
        _ => return Err(Errno::EINVAL),
    };
    let changes = !matches!(command, Command::Read | Command::Flush);
    if changes && export.read_only {
        return Err(Errno::EPERM);
    }
    let fua = if export.can_flush { CMD_FLAG_FUA } else { 0 };
    if !offered || header.flags & !(own_flags | fua) != 0 {
        return Err(Errno::EINVAL);
    }
    check_range(header, command, export)?;
    if header.flags & own_flags & CMD_FLAG_FAST_ZERO != 0 {
        return Err(Errno::ENOTSUP);
    }
    Ok(command)
}

fn check_range(header: &RequestHeader, command: Command, export: &ExportInfo) -> Result<(), Errno> {
    if command == Command::Flush {
        let zero = header.offset == 0 && header.len == 0;
        return if zero { Ok(()) } else { Err(Errno::EINVAL) };
    }
    let carries_data = matches!(command, Command::Read | Command::Write);
    if header.len == 0 || (carries_data && header.len > MAX_REQUEST_BYTES) {
        return Err(Errno::EINVAL);
    }
    if header.len % export.block_bytes != 0 || header.offset % u64::from(export.block_bytes) != 0 {
        return Err(Errno::EINVAL);
    }
    let end = header.offset.checked_add(u64::from(header.len));
    if end.is_none_or(|end| end > export.size_bytes) {
        let writes = matches!(command, Command::Write | Command::WriteZeroes { .. });
        return Err(if writes { Errno::ENOSPC } else { Errno::EINVAL });
    }
    Ok(())
}

/// The number for a refusal of [`check`]: unlike an export's, its `ENOTSUP` goes out as such.
pub(crate) fn wire(refusal: Errno) -> u32 {
    if refusal == Errno::ENOTSUP { 95 } else { refusal.wire() }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
