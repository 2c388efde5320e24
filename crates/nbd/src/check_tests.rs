// SPDX-License-Identifier: GPL-2.0-only OR MIT
use super::*;

const SIZE: u64 = 1 << 30;

fn export() -> ExportInfo {
    ExportInfo {
        size_bytes: SIZE,
        block_bytes: 4096,
        preferred_bytes: 4096,
        read_only: false,
        can_flush: true,
        can_trim: true,
        can_write_zeroes: true,
        multi_connection: true,
        rotational: false,
    }
}

fn ask(command: u16, flags: u16, offset: u64, len: u32) -> Result<Command, Errno> {
    check(&RequestHeader { flags, command, cookie: 0, offset, len }, &export())
}

#[test]
fn good_requests_pass_with_and_without_fua() {
    for flags in [0, CMD_FLAG_FUA] {
        assert_eq!(ask(CMD_READ, flags, 0, 4096), Ok(Command::Read));
        assert_eq!(ask(CMD_READ, flags, SIZE - 4096, 4096), Ok(Command::Read));
        assert_eq!(ask(CMD_READ, flags, 0, MAX_REQUEST_BYTES), Ok(Command::Read));
        assert_eq!(ask(CMD_WRITE, flags, 4096, MAX_REQUEST_BYTES), Ok(Command::Write));
        assert_eq!(ask(CMD_FLUSH, flags, 0, 0), Ok(Command::Flush));
        assert_eq!(ask(CMD_TRIM, flags, 0, 1 << 30), Ok(Command::Trim));
        let zeroes = |no_hole| Ok(Command::WriteZeroes { no_hole });
        assert_eq!(ask(CMD_WRITE_ZEROES, flags, 0, 1 << 30), zeroes(false));
        assert_eq!(ask(CMD_WRITE_ZEROES, flags | CMD_FLAG_NO_HOLE, 0, 4096), zeroes(true));
    }
}

#[test]
fn fast_zero_is_not_supported_and_bad_ranges_still_come_first() {
    assert_eq!(ask(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 4096), Err(Errno::ENOTSUP));
    let both = CMD_FLAG_FAST_ZERO | CMD_FLAG_NO_HOLE | CMD_FLAG_FUA;
    assert_eq!(ask(CMD_WRITE_ZEROES, both, 0, 4096), Err(Errno::ENOTSUP));
    assert_eq!(ask(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 100), Err(Errno::EINVAL));
    assert_eq!(ask(CMD_READ, CMD_FLAG_FAST_ZERO, 0, 4096), Err(Errno::EINVAL));
    assert_eq!(wire(Errno::ENOTSUP), 95);
    assert_eq!(wire(Errno::ENOSPC), 28);
}

#[test]
fn unknown_commands_and_flags_are_invalid() {
    for command in [2, 5, 7, 8, 9, 100, u16::MAX] {
        assert_eq!(ask(command, 0, 0, 4096), Err(Errno::EINVAL), "{command}");
    }
    for command in [CMD_READ, CMD_WRITE, CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES] {
        let len = if command == CMD_FLUSH { 0 } else { 4096 };
        for bit in 1..16 {
            let known = command == CMD_WRITE_ZEROES && (bit == 1 || bit == 4);
            if !known {
                assert_eq!(ask(command, 1 << bit, 0, len), Err(Errno::EINVAL), "{command} {bit}");
            }
        }
    }
}

#[test]
fn ranges_are_whole_blocks_inside_the_export() {
    for command in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES] {
        let beyond = match command {
            CMD_WRITE | CMD_WRITE_ZEROES => Err(Errno::ENOSPC),
            _ => Err(Errno::EINVAL),
        };
        assert_eq!(ask(command, 0, 0, 0), Err(Errno::EINVAL));
        assert_eq!(ask(command, 0, 512, 4096), Err(Errno::EINVAL));
        assert_eq!(ask(command, 0, 0, 4097), Err(Errno::EINVAL));
        assert_eq!(ask(command, 0, SIZE, 4096), beyond);
        assert_eq!(ask(command, 0, SIZE - 4096, 8192), beyond);
        assert_eq!(ask(command, 0, 0_u64.wrapping_sub(4096), 8192), beyond);
        assert_eq!(ask(command, 0, 0_u64.wrapping_sub(4096), 4096), beyond);
    }
    for command in [CMD_READ, CMD_WRITE] {
        assert_eq!(ask(command, 0, 0, MAX_REQUEST_BYTES + 4096), Err(Errno::EINVAL));
    }
    assert_eq!(ask(CMD_FLUSH, 0, 4096, 0), Err(Errno::EINVAL));
    assert_eq!(ask(CMD_FLUSH, 0, 0, 4096), Err(Errno::EINVAL));
}

#[test]
fn what_is_not_offered_is_refused() {
    let with = |change: fn(&mut ExportInfo), command, flags, len| {
        let mut info = export();
        change(&mut info);
        check(&RequestHeader { flags, command, cookie: 0, offset: 0, len }, &info)
    };
    for command in [CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES] {
        assert_eq!(with(|i| i.read_only = true, command, 0, 4096), Err(Errno::EPERM));
    }
    assert_eq!(with(|i| i.read_only = true, CMD_READ, 0, 4096), Ok(Command::Read));
    assert_eq!(with(|i| i.read_only = true, CMD_FLUSH, 0, 0), Ok(Command::Flush));
    assert_eq!(with(|i| i.can_trim = false, CMD_TRIM, 0, 4096), Err(Errno::EINVAL));
    let no_zeroes = with(|i| i.can_write_zeroes = false, CMD_WRITE_ZEROES, 0, 4096);
    assert_eq!(no_zeroes, Err(Errno::EINVAL));
    assert_eq!(with(|i| i.can_flush = false, CMD_FLUSH, 0, 0), Err(Errno::EINVAL));
    let fua = with(|i| i.can_flush = false, CMD_WRITE, CMD_FLAG_FUA, 4096);
    assert_eq!(fua, Err(Errno::EINVAL));
}
