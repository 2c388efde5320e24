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

fn asks(info: ExportInfo) -> Asks {
    Asks { info, structured: false, allocation: false }
}

fn ask_of(asks: &Asks, header: RequestHeader) -> Result<Command, Errno> {
    match check(&header, asks) {
        Ok(Work::Submit(command)) => Ok(command),
        Ok(other) => panic!("{other:?}"),
        Err((wire, why)) => {
            assert!(!why.is_empty());
            Err(Errno(wire as i32))
        }
    }
}

fn ask(command: u16, flags: u16, offset: u64, len: u32) -> Result<Command, Errno> {
    ask_of(&asks(export()), RequestHeader { flags, command, cookie: 0, offset, len })
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
}

#[test]
fn unknown_commands_and_flags_are_invalid() {
    for command in [2, 7, 8, 9, 100, u16::MAX] {
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
        ask_of(&asks(info), RequestHeader { flags, command, cookie: 0, offset: 0, len })
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

#[test]
fn what_structured_replies_bring_is_there_with_them_only() {
    let mut asks = asks(export());
    let ask = |asks: &Asks, command, flags, len| {
        check(&RequestHeader { flags, command, cookie: 0, offset: 4096, len }, asks)
            .map_err(|(wire, _)| wire)
    };
    assert_eq!(ask(&asks, CMD_READ, CMD_FLAG_DF, 4096), Err(22));
    assert_eq!(ask(&asks, CMD_BLOCK_STATUS, 0, 4096), Err(22));
    asks.structured = true;
    assert_eq!(ask(&asks, CMD_READ, CMD_FLAG_DF, 4096), Ok(Work::Submit(Command::Read)));
    assert_eq!(ask(&asks, CMD_WRITE, CMD_FLAG_DF, 4096), Err(22));
    assert_eq!(ask(&asks, CMD_BLOCK_STATUS, 0, 4096), Err(22));
    asks.allocation = true;
    for flags in [0, CMD_FLAG_REQ_ONE, CMD_FLAG_REQ_ONE | CMD_FLAG_FUA] {
        assert_eq!(ask(&asks, CMD_BLOCK_STATUS, flags, 1 << 29), Ok(Work::BlockStatus));
    }
    for (flags, len) in [(CMD_FLAG_DF, 4096), (0, 0), (0, 4097), (0, 1 << 30)] {
        assert_eq!(ask(&asks, CMD_BLOCK_STATUS, flags, len), Err(22), "{flags} {len}");
    }
    for (flags, len, ok) in [(0, 4096, true), (0, 1 << 29, true), (0, 0, false), (2, 4096, false)] {
        assert_eq!(ask(&asks, CMD_CACHE, flags, len).is_ok(), ok, "{flags} {len}");
    }
}

#[test]
fn extents_are_told_only_if_they_keep_their_rules() {
    let told = |list: &[(u32, bool)], len, most| {
        let list: Vec<_> = list.iter().map(|&(len, hole)| Extent { len, hole }).collect();
        extents(list, len, most, &export()).map(|told| told.len())
    };
    assert_eq!(told(&[(4096, false)], 4096, 1), Some(1));
    assert_eq!(told(&[(4096, false), (4096, false), (4096, true)], 1 << 20, 9), Some(2));
    assert_eq!(told(&[(1 << 31, true), (1 << 31, true)], u32::MAX, 9), None);
    for bad in [&[][..], &[(0, false)], &[(512, false)], &[(8192, false)]] {
        assert_eq!(told(bad, 4096, 9), None, "{bad:?}");
    }
    assert_eq!(told(&[(4096, false), (4096, true)], 8192, 1), None);
}
