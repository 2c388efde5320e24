// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs that people use, against the server; and the client against somebody else's server.

mod common;

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use common::{Fixture, Random, SIZE, Seen, installed, run};
use dmremap_nbd::{BadRange, Client, Errno};

const LIBNBD: &str = "libnbd-bin";

fn uri(fixture: &Fixture) -> String {
    format!("nbd+unix:///disk?socket={}", fixture.path().display())
}

#[test]
fn nbdinfo_shows_the_export() {
    if !installed("nbdinfo_shows_the_export", "nbdinfo", LIBNBD) {
        return;
    }
    let fixture = Fixture::new();
    let size = run(Command::new("nbdinfo").args(["--size", &uri(&fixture)]));
    assert_eq!(size.trim(), SIZE.to_string());
    let json = run(Command::new("nbdinfo").args(["--json", &uri(&fixture)]));
    for (key, value) in [
        ("export-size", SIZE.to_string()),
        ("can_flush", "true".into()),
        ("can_fua", "true".into()),
        ("can_trim", "true".into()),
        ("can_zero", "true".into()),
        ("can_fast_zero", "true".into()),
        ("can_multi_conn", "true".into()),
        ("is_read_only", "false".into()),
        ("is_rotational", "true".into()),
        ("block_size_minimum", "4096".into()),
        ("block_size_maximum", (32 << 20).to_string()),
    ] {
        let expected = format!("\"{key}\": {value}");
        assert!(json.contains(&expected), "{expected} is not in {json}");
    }
}

/// An export with holes: its first 64 KiB, and 16 MiB from 16 MiB on.
fn with_holes() -> Fixture {
    let fixture = Fixture::new();
    for hole in [0..64 << 10, 16 << 20..32 << 20] {
        fixture.memory.hole(hole);
    }
    fixture
}

#[test]
fn nbdinfo_lists_and_maps_the_export() {
    if !installed("nbdinfo_lists_and_maps_the_export", "nbdinfo", LIBNBD) {
        return;
    }
    let fixture = with_holes();
    let place = format!("nbd+unix://?socket={}", fixture.path().display());
    let list = run(Command::new("nbdinfo").args(["--list", "--json", &place]));
    for part in ["\"export-name\": \"disk\"", "\"structured\": true", "\"base:allocation\""] {
        assert!(list.contains(part), "{part} is not in {list}");
    }
    assert!(list.contains("a disk in memory"), "{list}");
    for (name, can) in [("df", true), ("cache", true)] {
        let answer =
            Command::new("nbdinfo").args(["--can", name, &uri(&fixture)]).status().unwrap();
        assert_eq!(answer.success(), can, "{name}");
    }
    let map = run(Command::new("nbdinfo").args(["--map", &uri(&fixture)]));
    let map: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        map,
        [
            ["0", "65536", "3", "hole,zero"],
            ["65536", "16711680", "0", "data"],
            ["16777216", "16777216", "3", "hole,zero"],
            ["33554432", "33554432", "0", "data"],
        ]
    );
}

#[test]
fn qemu_img_tells_maps_and_converts_with_holes() {
    if !installed("qemu_img_tells_maps_and_converts_with_holes", "qemu-img", "qemu-utils") {
        return;
    }
    let fixture = with_holes();
    let mut data = Random::new(5).bytes(2 << 20);
    data[..64 << 10].fill(0);
    fixture.client().write(0, &data, false).unwrap();
    let info = run(Command::new("qemu-img").args(["info", "--output=json", &uri(&fixture)]));
    assert!(info.contains(&format!("\"virtual-size\": {SIZE}")), "{info}");
    let map = run(Command::new("qemu-img").args(["map", "--output=json", &uri(&fixture)]));
    let map: String = map.split_whitespace().collect();
    for part in [
        "\"start\":0,\"length\":65536,\"depth\":0,\"present\":false,\"zero\":true,\"data\":false",
        "\"start\":16777216,\"length\":16777216,",
    ] {
        // Its versions differ in which keys they write.
        let whole = map.contains(part);
        let short = map.contains(&part.replace("\"present\":false,", ""))
            || map.contains(&part.replace("\"present\":false", "\"present\":true"));
        assert!(whole || short, "{part} is not in {map}");
    }
    let copy = fixture.directory.path().join("copy");
    let to = copy.to_str().unwrap();
    run(Command::new("qemu-img").args(["convert", "-O", "raw", &uri(&fixture), to]));
    assert!(fs::read(&copy).unwrap() == fixture.memory.content(0, SIZE as usize));
}

#[test]
fn nbdcopy_copies_there_and_back() {
    if !installed("nbdcopy_copies_there_and_back", "nbdcopy", LIBNBD) {
        return;
    }
    let fixture = Fixture::new();
    let (there, back) =
        (fixture.directory.path().join("there"), fixture.directory.path().join("back"));
    let mut data = Random::new(3).bytes(8 << 20);
    // Holes for it to write zeros to.
    data[1 << 20..2 << 20].fill(0);
    data[5 << 20..7 << 20].fill(0);
    data.resize(SIZE as usize, 0);
    fs::write(&there, &data).unwrap();
    run(Command::new("nbdcopy").args(["--flush", there.to_str().unwrap(), &uri(&fixture)]));
    assert!(fixture.memory.content(0, SIZE as usize) == data);
    run(Command::new("nbdcopy").args([&uri(&fixture), back.to_str().unwrap()]));
    assert!(fs::read(&back).unwrap() == data);
}

/// What libnbd lets through when its own checks are off.
const BAD_REQUESTS: &str = r"
import errno
h.set_strict_mode(0)
h.set_export_name('disk')
h.connect_unix(PATH)
size = h.get_size()
def fails(number, call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        assert e.errnum == number, (e, args)
    else:
        assert False, ('no error', args)
block = b'x' * 4096
fails(errno.EINVAL, h.pread, 0, 0)
fails(errno.EINVAL, h.pread, 512, 0)
fails(errno.EINVAL, h.pread, 4096, size)
fails(errno.EINVAL, h.pwrite, b'', 0)
fails(errno.EINVAL, h.pwrite, block, 1)
fails(errno.ENOSPC, h.pwrite, block, size)
fails(errno.EINVAL, h.trim, 0, 0)
fails(errno.EINVAL, h.trim, 4096, size)
fails(errno.ENOSPC, h.zero, 8192, size - 4096)
fails(errno.ENOTSUP, h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
h.cache(4096, 0)
fails(errno.EINVAL, h.cache, 4096, size)
h.pread(4096, 0, nbd.CMD_FLAG_DF)
fails(errno.EINVAL, h.pwrite, block, 0, nbd.CMD_FLAG_DF)
h.pwrite(block, 0, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0) == block
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(4096, 0) == bytearray(4096)
h.flush()

# Sixty-four at once.
buffers = [nbd.Buffer.from_bytearray(bytearray([i] * 4096)) for i in range(64)]
done = []
for i, buffer in enumerate(buffers):
    h.aio_pwrite(buffer, 4096 * i, completion=lambda e, i=i: done.append((i, e.value)) or 1)
while len(done) < 64:
    h.poll(-1)
assert sorted(done) == [(i, 0) for i in range(64)], done
for i in range(64):
    assert h.pread(4096, 4096 * i) == bytearray([i] * 4096)
h.shutdown()
";

#[test]
fn nbdsh_sends_good_and_bad_requests() {
    let Some(mut nbdsh) = common::nbdsh("nbdsh_sends_good_and_bad_requests") else {
        return;
    };
    let fixture = Fixture::new();
    let script = BAD_REQUESTS.replace("PATH", &format!("{:?}", fixture.path()));
    run(nbdsh.args(["-c", &script]).stdin(Stdio::null()));
}

/// Structured replies and block status, and a flush that covers another connection's write.
const STRUCTURED: &str = r"
import errno
h.add_meta_context('base:allocation')
h.set_export_name('disk')
h.connect_unix(PATH)
assert h.get_structured_replies_negotiated()
assert h.can_meta_context('base:allocation') and h.can_df() and h.can_cache()

# The good parts of a read, and where it is bad.
seen = []
def chunk(buf, offset, status, error):
    seen.append((offset, len(buf), status, error.value))
try:
    h.pread_structured(1 << 20, 0, chunk)
    assert False, 'no error'
except nbd.Error as e:
    assert e.errnum == errno.EIO, e
seen.sort()
bad = [s[0] for s in seen if s[2] == nbd.READ_ERROR]
good = sum(s[1] for s in seen if s[2] == nbd.READ_DATA)
assert bad == [8192, 1 << 19], seen
assert good == (1 << 20) - 8192, seen
h.pread_structured(65536, 1 << 20, chunk, nbd.CMD_FLAG_DF)
assert seen[-1] == (1 << 20, 65536, nbd.READ_DATA, 0), seen

# Holes.
said = []
def extent(context, offset, entries, error):
    assert context == 'base:allocation'
    said.append((offset, list(entries)))
h.block_status(1 << 20, 4096, extent)
assert said == [(4096, [61440, 3, (1 << 20) - 61440, 0])], said
h.block_status(1 << 20, 4096, extent, nbd.CMD_FLAG_REQ_ONE)
assert said[1] == (4096, [61440, 3]), said

# Two connections.
assert h.can_multi_conn()
other = nbd.NBD()
other.set_export_name('disk')
other.connect_unix(PATH)
h.pwrite(b'y' * 4096, 2 << 20)
other.flush()
assert other.pread(4096, 2 << 20) == b'y' * 4096
other.shutdown()
h.shutdown()
";

#[test]
fn nbdsh_takes_structured_replies_and_block_status() {
    let Some(mut nbdsh) = common::nbdsh("nbdsh_takes_structured_replies_and_block_status") else {
        return;
    };
    let fixture = with_holes();
    for offset in [8192, 1 << 19] {
        let bad = BadRange { offset, len: 4096, error: Errno::EIO, message: "unreadable" };
        fixture.memory.bad(bad);
    }
    let script = STRUCTURED.replace("PATH", &format!("{:?}", fixture.path()));
    run(nbdsh.args(["-c", &script]).stdin(Stdio::null()));
    let seen = fixture.memory.seen();
    let at = |wanted: &dyn Fn(&Seen) -> bool| seen.iter().position(wanted).unwrap();
    let write = at(&|s| s.connection == 1 && s.command == dmremap_nbd::Command::Write);
    let flush = at(&|s| s.connection == 2 && s.command == dmremap_nbd::Command::Flush);
    assert!(write < flush);
}

#[test]
fn qemu_io_writes_reads_flushes_discards_and_zeroes() {
    if !installed("qemu_io_writes_reads_flushes_discards_and_zeroes", "qemu-io", "qemu-utils") {
        return;
    }
    let fixture = Fixture::new();
    let said = run(Command::new("qemu-io").args(["-f", "raw"]).args([
        "-c",
        "write -P 0xab 0 1M",
        "-c",
        "write -f -P 0xcd 1M 64k",
        "-c",
        "read -P 0xab 0 1M",
        "-c",
        "read -P 0xcd 1M 64k",
        "-c",
        "aio_write -P 0x11 4M 2M",
        "-c",
        "aio_write -P 0x22 8M 2M",
        "-c",
        "aio_flush",
        "-c",
        "read -P 0x11 4M 2M",
        "-c",
        "read -P 0x22 8M 2M",
        "-c",
        "write -z 4M 1M",
        "-c",
        "read -P 0 4M 1M",
        "-c",
        "discard 8M 1M",
        "-c",
        "flush",
        &uri(&fixture),
    ]));
    assert!(!said.contains("failed") && !said.contains("error"), "{said}");
    let seen = fixture.memory.seen();
    let some = |wanted: fn(&dmremap_nbd::Command) -> bool| seen.iter().any(|s| wanted(&s.command));
    assert!(some(|c| matches!(c, dmremap_nbd::Command::Trim)));
    assert!(some(|c| matches!(c, dmremap_nbd::Command::WriteZeroes { .. })));
    assert!(some(|c| matches!(c, dmremap_nbd::Command::Flush)));
    assert!(seen.iter().any(|s| s.fua && s.offset == 1 << 20));
}

#[test]
fn the_client_speaks_to_nbdkit() {
    if !installed("the_client_speaks_to_nbdkit", "nbdkit", "nbdkit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = std::os::fd::OwnedFd::from(UnixListener::bind(&path).unwrap());
    // The socket is listening before nbdkit runs: no need to wait for it.
    let mut nbdkit = Command::new("sh")
        .args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec nbdkit -f memory 8M"])
        .stdin(Stdio::from(socket))
        .spawn()
        .unwrap();
    let client = Client::connect_unix(&path, "").unwrap();
    assert_eq!(client.export().size_bytes, 8 << 20);
    let data = Random::new(9).bytes(1 << 20);
    client.write(12_345, &data, true).unwrap();
    assert!(client.read(12_345, 1 << 20).unwrap() == data);
    client.write_zeroes(12_345, 1000, false).unwrap();
    assert_eq!(client.read(12_345, 1000).unwrap(), [0; 1000]);
    client.trim(0, 4096, false).unwrap();
    client.flush().unwrap();
    assert!(client.read(8 << 20, 1).unwrap_err().errno().is_some());
    client.disconnect().unwrap();
    nbdkit.kill().unwrap();
    nbdkit.wait().unwrap();
}
