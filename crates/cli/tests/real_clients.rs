// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs that people use, on a volume with moved, gone and unreadable blocks: every byte they
//! see is right, and what is lost is an error to each of them until it is overwritten.

mod common;
#[path = "common/programs.rs"]
mod programs;

use std::fs;

use common::{Bench, IMAGE_BYTES, Serving};
use programs::{all_there, bad, good};

/// Moved by a write that failed: part of a unit, two units, and sector 0.
const MOVED: [(u64, u64); 3] = [(0, 1), (803, 5), (1600, 16)];
/// Its content exists nowhere any more.
const GONE: u64 = 2405;
/// Main cannot read it, and can be written.
const PENDING: u64 = 4001;

/// A volume that has seen trouble, and what it must read as.
struct Troubled {
    bench: Bench,
    server: Serving,
    expected: Vec<u8>,
}

fn main_map(lost: &str) -> String {
    let mut map = format!("{:#x} 0x200 - # write io\n", GONE * 512);
    for (sector, sectors) in MOVED {
        map += &format!("{:#x} {:#x} - # write io\n", sector * 512, sectors * 512);
    }
    map + lost
}

impl Troubled {
    fn new() -> Troubled {
        let bench = Bench::new();
        let main = bench.faulty_main(&main_map(""));
        bench.format(&main);
        Troubled::make_gone(&bench);
        bench.faulty_main(&main_map(&format!("{:#x} 0x200 - # heal medium\n", PENDING * 512)));
        let server = bench.serve(&[]);
        bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
        let mut expected = fs::read(bench.path("main.img")).unwrap();
        let client = server.connect();
        for (sector, sectors) in MOVED {
            let place = (sector * 512) as usize..((sector + sectors) * 512) as usize;
            let bytes: Vec<u8> = place.clone().map(|at| (at / 64 * 7) as u8 ^ 0x5a).collect();
            client.write(sector * 512, &bytes, true).unwrap();
            expected[place].copy_from_slice(&bytes);
        }
        assert!(client.read(PENDING * 512, 512).is_err());
        let status = bench.json(&["status", "v", "--json"]);
        for (key, blocks) in [("remapped_blocks", 22), ("gone_blocks", 1), ("pending_blocks", 1)] {
            assert_eq!(status[key], blocks, "{key}");
        }
        Troubled { bench, server, expected }
    }

    /// A block is moved, then the spare loses it, then everything is brought home by force.
    fn make_gone(bench: &Bench) {
        let spare_map = bench.path("spare-map");
        fs::write(&spare_map, "").unwrap();
        let server = bench.serve_on(&format!("faulty:spare.img?map={}", spare_map.display()), &[]);
        bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
        server.connect().write(GONE * 512, &[0xdd; 512], true).unwrap();
        let list = bench.json(&["list", "v", "--json"]);
        let there = list[0]["spare_sector"].as_u64().unwrap();
        fs::write(&spare_map, format!("{:#x} 0x200 - # both medium\n", there * 512)).unwrap();
        bench.good(&["message", "v", "clear", "force"]);
        assert_eq!(server.stop(), 0);
    }

    fn uri(&self) -> &str {
        &self.server.uri
    }

    fn file(&self, name: &str) -> String {
        self.bench.path(name).to_str().unwrap().to_owned()
    }

    /// Both lost blocks are written anew, by the client under test: `write` is given their bytes'
    /// offset and must write 0x77 there.
    fn overwritten(&mut self, write: impl Fn(u64)) {
        for sector in [GONE, PENDING] {
            write(sector * 512);
            let place = (sector * 512) as usize;
            self.expected[place..place + 512].fill(0x77);
        }
        let status = self.bench.json(&["status", "v", "--json"]);
        assert_eq!((&status["gone_blocks"], &status["pending_blocks"]), (&0.into(), &0.into()));
    }

    /// The volume reads as expected, now and after a kill and an open.
    fn check(self) {
        let read = |server: &Serving| {
            let client = server.connect();
            let parts = (0..IMAGE_BYTES).step_by(4 << 20);
            parts.flat_map(|at| client.read(at, 4 << 20).unwrap()).collect::<Vec<u8>>()
        };
        assert!(read(&self.server) == self.expected);
        self.server.kill();
        let server = self.bench.serve(&[]);
        assert!(read(&server) == self.expected, "after a kill and an open");
        assert_eq!(server.stop(), 0);
        assert_eq!(self.bench.code(&["check", "--spare", "spare.img"]).0, 0);
    }
}

/// A whole image of other bytes, with holes.
fn another_image() -> Vec<u8> {
    let byte = |at: u64| if (at >> 20) % 5 == 2 { 0 } else { (at / 512 * 3 + at % 7) as u8 };
    (0..IMAGE_BYTES).map(byte).collect()
}

#[test]
fn nbdinfo_tells_size_and_abilities() {
    if !all_there("nbdinfo_tells_size_and_abilities", &["nbdinfo"]) {
        return;
    }
    let troubled = Troubled::new();
    assert_eq!(good("nbdinfo", &["--size", troubled.uri()]).trim(), IMAGE_BYTES.to_string());
    let said = good("nbdinfo", &["--json", troubled.uri()]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    let export = &document["exports"][0];
    assert_eq!(export["export-size"], IMAGE_BYTES);
    for ability in ["can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"] {
        assert_eq!(export[ability], true, "{ability}");
    }
    assert_eq!(export["is_read_only"], false);
    for ability in ["flush", "fua", "multi-conn", "trim", "zero", "write"] {
        good("nbdinfo", &["--can", ability, troubled.uri()]);
    }
    assert_eq!(troubled.server.stop(), 0);
}

#[test]
fn nbdcopy_fails_on_what_is_lost_and_copies_everything_else() {
    if !all_there("nbdcopy_fails_on_what_is_lost_and_copies_everything_else", &["nbdcopy"]) {
        return;
    }
    let mut troubled = Troubled::new();
    let (from, to) = (troubled.file("from"), troubled.file("to"));
    let said = bad("nbdcopy", &[troubled.uri(), &to]);
    assert!(said.contains("Input/output error"), "{said}");
    let client = troubled.server.connect();
    troubled.overwritten(|at| client.write(at, &[0x77; 512], false).unwrap());
    good("nbdcopy", &[troubled.uri(), &to]);
    assert!(fs::read(&to).unwrap() == troubled.expected);
    // And back: other bytes over the moved blocks and everything else.
    troubled.expected = another_image();
    fs::write(&from, &troubled.expected).unwrap();
    good("nbdcopy", &["--flush", &from, troubled.uri()]);
    good("nbdcopy", &[troubled.uri(), &to]);
    assert!(fs::read(&to).unwrap() == troubled.expected);
    troubled.check();
}

#[test]
fn nbdcopy_over_lost_blocks_makes_them_good() {
    if !all_there("nbdcopy_over_lost_blocks_makes_them_good", &["nbdcopy"]) {
        return;
    }
    let mut troubled = Troubled::new();
    let from = troubled.file("from");
    troubled.expected = another_image();
    fs::write(&from, &troubled.expected).unwrap();
    good("nbdcopy", &["--flush", &from, troubled.uri()]);
    let status = troubled.bench.json(&["status", "v", "--json"]);
    assert_eq!((&status["gone_blocks"], &status["pending_blocks"]), (&0.into(), &0.into()));
    troubled.check();
}

/// Two connections of libnbd: what one has written and flushed the other sees; what is lost is EIO
/// for both until one of them writes there; trim and zero leave nothing behind they should not.
const TWO_CONNECTIONS: &str = r"
import errno
h.connect_uri(URI)
other = nbd.NBD()
other.connect_uri(URI)
assert h.can_multi_conn() and other.can_multi_conn()
for sector in (GONE, PENDING):
    for handle in (h, other):
        try:
            handle.pread(512, sector * 512)
            assert False, sector
        except nbd.Error as e:
            assert e.errnum == errno.EIO, e
    # Its neighbours are not lost.
    h.pread(512, sector * 512 - 512)
    h.pread(512, sector * 512 + 512)
h.pwrite(b'\x77' * 512, GONE * 512, nbd.CMD_FLAG_FUA)
other.pwrite(b'\x77' * 512, PENDING * 512, nbd.CMD_FLAG_FUA)
assert other.pread(512, GONE * 512) == b'\x77' * 512
assert h.pread(512, PENDING * 512) == b'\x77' * 512
# Over moved and unmoved blocks, in turn from both.
for n in range(64):
    writer, reader = (h, other) if n % 2 else (other, h)
    at = (796 + n % 16) * 512
    data = bytes([n + 1]) * 4096
    writer.pwrite(data, at, nbd.CMD_FLAG_FUA if n % 3 == 0 else 0)
    reader.flush()
    assert reader.pread(4096, at) == data, n
h.zero(12 * 512, 800 * 512)
assert other.pread(12 * 512, 800 * 512) == bytearray(12 * 512)
h.zero(32 * 512, 1592 * 512, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert other.pread(32 * 512, 1592 * 512) == bytearray(32 * 512)
# A trim touches nothing around it, and what it trimmed can be written as before.
before, after = other.pread(512, 795 * 512), other.pread(512, 815 * 512)
h.trim(19 * 512, 796 * 512)
assert other.pread(512, 795 * 512) == before and other.pread(512, 815 * 512) == after
h.pwrite(b'\x99' * (19 * 512), 796 * 512)
assert other.pread(19 * 512, 796 * 512) == b'\x99' * (19 * 512)
other.flush()
other.shutdown()
h.shutdown()
";

#[test]
fn nbdsh_on_two_connections() {
    let Some(mut nbdsh) = programs::nbdsh("nbdsh_on_two_connections") else {
        return;
    };
    let mut troubled = Troubled::new();
    let script = TWO_CONNECTIONS
        .replace("URI", &format!("{:?}", troubled.uri()))
        .replace("GONE", &GONE.to_string())
        .replace("PENDING", &PENDING.to_string());
    let out = nbdsh.args(["-c", &script]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    troubled.overwritten(|_| {});
    troubled.expected[796 * 512..815 * 512].fill(0x99);
    // The last of its 64 writes reaches so far.
    troubled.expected[815 * 512..819 * 512].fill(64);
    troubled.expected[1592 * 512..1624 * 512].fill(0);
    troubled.check();
}

#[test]
fn qemu_img_informs_converts_and_compares() {
    if !all_there("qemu_img_informs_converts_and_compares", &["qemu-img"]) {
        return;
    }
    let mut troubled = Troubled::new();
    let (from, to) = (troubled.file("from"), troubled.file("to"));
    let said = good("qemu-img", &["info", "--output=json", "-f", "raw", troubled.uri()]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["virtual-size"], IMAGE_BYTES);
    let convert = ["convert", "-f", "raw", "-O", "raw"];
    let said = bad("qemu-img", &[&convert[..], &[troubled.uri(), &to]].concat());
    assert!(said.contains("Input/output error"), "{said}");
    let client = troubled.server.connect();
    troubled.overwritten(|at| client.write(at, &[0x77; 512], false).unwrap());
    drop(client);
    good("qemu-img", &[&convert[..], &[troubled.uri(), &to]].concat());
    assert!(fs::read(&to).unwrap() == troubled.expected);
    let compare = ["compare", "-f", "raw", "-F", "raw", troubled.uri(), &to];
    assert!(good("qemu-img", &compare).contains("identical"));
    // One other byte in a moved block is a difference.
    let mut changed = troubled.expected.clone();
    changed[804 * 512 + 7] ^= 1;
    fs::write(&to, &changed).unwrap();
    assert!(bad("qemu-img", &compare).contains("mismatch at offset 411648"));
    // Onto the volume, from a format with holes of its own.
    troubled.expected = another_image();
    fs::write(&from, &troubled.expected).unwrap();
    let packed = troubled.file("packed.qcow2");
    good("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &from, &packed]);
    let unpack = ["convert", "-n", "-f", "qcow2", "-O", "raw", &packed, troubled.uri()];
    good("qemu-img", &unpack);
    good("qemu-img", &["compare", "-f", "raw", "-F", "raw", &from, troubled.uri()]);
    troubled.check();
}

#[test]
fn qemu_io_reads_writes_and_is_told_of_errors() {
    if !all_there("qemu_io_reads_writes_and_is_told_of_errors", &["qemu-io"]) {
        return;
    }
    let mut troubled = Troubled::new();
    let io = |commands: &[&str]| {
        let words = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<&str> = ["-f", "raw"].into_iter().chain(words).collect();
        // Its exit code does not always tell; what it says does.
        let out = programs::program("qemu-io").args(args).arg(troubled.uri()).output().unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    };
    for sector in [GONE, PENDING] {
        let said = io(&[&format!("read {} 512", sector * 512)]);
        assert!(said.contains("read failed: Input/output error"), "{said}");
        let said = io(&[&format!("read {} 8k", sector / 8 * 4096 - 4096)]);
        assert!(said.contains("read failed: Input/output error"), "{said}");
    }
    let said = io(&[
        "write -P 0x77 1231360 512",    // the gone sector
        "write -f -P 0x77 2048512 512", // the pending one
        "read -P 0x77 1231360 512",
        "read -P 0x77 2048512 512",
        "aio_write -P 0x21 405504 16k", // over moved and unmoved sectors
        "aio_write -P 0x22 802816 64k",
        "aio_flush",
        "read -P 0x21 405504 16k",
        "read -P 0x22 802816 64k",
        "write -z 409600 4k",
        "read -P 0 409600 4k",
        "discard 1M 64k",
        "write -P 0x23 1M 64k",
        "read -P 0x23 1M 64k",
        "flush",
    ]);
    assert!(!said.contains("failed") && !said.contains("rror"), "{said}");
    assert!(said.contains("65536/65536 bytes at offset 1048576"), "{said}");
    troubled.overwritten(|_| {});
    for (byte, from, len) in [
        (0x21, 405_504, 16 << 10),
        (0x22, 802_816, 64 << 10),
        (0, 409_600, 4096),
        (0x23, 1 << 20, 64 << 10),
    ] {
        troubled.expected[from..from + len].fill(byte);
    }
    troubled.check();
}

#[test]
fn fio_verifies_what_it_wrote() {
    if !all_there("fio_verifies_what_it_wrote", &["fio"]) {
        return;
    }
    let troubled = Troubled::new();
    let uri = format!("--uri={}", troubled.uri());
    let log = format!("--aux-path={}", troubled.bench.path("").display());
    let common = [
        "--name=job",
        "--ioengine=nbd",
        &uri,
        &log,
        "--size=16M",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_dump=0",
        "--randrepeat=1",
        "--output-format=json",
    ];
    for words in [
        &["--rw=randwrite", "--bsrange=512-64k", "--blockalign=512"][..],
        &["--rw=randwrite", "--bs=4k", "--verify_backlog=256"],
        &["--rw=write", "--bs=1M"],
    ] {
        let said = good("fio", &[&common[..], words].concat());
        // It may say something before the document.
        let said = said.split_once('{').map_or(String::new(), |(_, rest)| format!("{{{rest}"));
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        let job = &document["jobs"][0];
        assert_eq!(job["error"], 0, "{words:?}");
        for way in ["read", "write"] {
            let bytes = job[way]["io_bytes"].as_u64().unwrap();
            assert!(bytes >= IMAGE_BYTES, "{words:?}: {way} {bytes}");
        }
        let status = troubled.bench.json(&["status", "v", "--json"]);
        assert_eq!((&status["gone_blocks"], &status["pending_blocks"]), (&0.into(), &0.into()));
    }
    let status = troubled.bench.json(&["status", "v", "--json"]);
    assert!(status["remapped_blocks"].as_u64().unwrap() >= 22, "{status}");
    assert_eq!(troubled.server.stop(), 0);
}
