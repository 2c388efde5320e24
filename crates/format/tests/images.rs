// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The probe against images made by the programs that own the formats, each compared with what
//! blkid says of the same file.
//!
//! Invariants checked: the kind is found; the UUID is the one blkid reads; of a blank image
//! nothing is found. A program that is not installed is a skipped test with its reason, and a
//! failure where `CI=true`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dmremap_format::{Depth, Found, Prober, Signature};

/// Where programs for administrators lie, besides `PATH`.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The program called `name`, or `None` after saying that the test is skipped.
fn program(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(PLACES.iter().map(PathBuf::from))
        .map(|place| place.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(test, &format!("{name} is not installed"));
    }
    found
}

/// Says that `test` did not run, where a person and `cargo xtask test` look.
fn skip(test: &str, reason: &str) {
    eprintln!("dmremap-skip: {test}: {reason}");
    if let Some(file) = std::env::var_os("DMREMAP_SKIP_FILE") {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        // One write a line: tests of several threads append to this file.
        file.write_all(format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} skipped under CI=true: {reason}");
}

/// A sparse file that goes away with the test.
struct Image {
    dir: PathBuf,
    path: PathBuf,
}

impl Image {
    fn new(test: &str, mib: u64) -> Image {
        let name = format!("dmremap-probe-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("image");
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        Image { dir, path }
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        let mut file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn probe(path: &Path, depth: Depth) -> Vec<Found> {
    let mut file = File::open(path).unwrap();
    let mut prober = Prober::new(file.metadata().unwrap().len(), depth);
    let (mut all, mut block) = (Vec::new(), [0u8; 4096]);
    while let Some(window) = prober.next() {
        let bytes = &mut block[..window.len];
        file.seek(SeekFrom::Start(window.offset)).unwrap();
        file.read_exact(bytes).unwrap();
        prober.judge(window, bytes, |found| all.push(found));
    }
    all
}

/// Runs `program` and fails with its words if it fails.
fn run(program: &Path, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that takes no input may be gone already.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let out = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program:?} {args:?}: {words}");
}

/// What blkid says of `tag`, lower case and without dashes.
fn blkid(blkid: &Path, image: &Path, tag: &str) -> String {
    let out =
        Command::new(blkid).args(["-p", "-s", tag, "-o", "value"]).arg(image).output().unwrap();
    let value = String::from_utf8(out.stdout).unwrap();
    value.trim().replace('-', "").to_ascii_lowercase()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes an image with `tool` and looks for `kind` in it. `{}` in the arguments is its path.
/// `order` turns the bytes found into the digits blkid shows.
fn made_by(
    test: &str,
    kind: Signature,
    (tool, args, input): (&str, &[&str], &str),
    (mib, tag): (u64, &str),
    order: fn(&[u8; 16]) -> String,
) {
    let (Some(tool), Some(oracle)) = (program(test, tool), program(test, "blkid")) else { return };
    let image = Image::new(test, mib);
    assert_eq!(probe(&image.path, Depth::Partitions), vec![], "blank");
    let path = image.path.to_str().unwrap();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("{}", path)).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&tool, &args, input);
    let found = probe(&image.path, Depth::Device);
    let main: Vec<&Found> = found.iter().filter(|f| f.kind == kind && !f.copy).collect();
    assert_eq!(main.len(), 1, "{found:?}");
    let want = blkid(&oracle, &image.path, tag);
    assert!(!want.is_empty(), "blkid knows it");
    assert_eq!(order(&main[0].uuid.unwrap().0), want);
}

fn plain(uuid: &[u8; 16]) -> String {
    hex(uuid)
}

/// The first three fields of a GUID are little-endian.
fn guid(uuid: &[u8; 16]) -> String {
    let mut bytes = *uuid;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    hex(&bytes)
}

/// A number of `N` bytes, shown with the highest first.
fn number<const N: usize>(uuid: &[u8; 16]) -> String {
    assert!(uuid[N..].iter().all(|&b| b == 0));
    let mut bytes: Vec<u8> = uuid[..N].to_vec();
    bytes.reverse();
    hex(&bytes)
}

#[test]
fn ext2() {
    let tool = ("mkfs.ext2", &["-q", "-F", "{}"][..], "");
    made_by("ext2", Signature::Ext, tool, (8, "UUID"), plain);
}

#[test]
fn ext4() {
    let tool = ("mkfs.ext4", &["-q", "-F", "{}"][..], "");
    made_by("ext4", Signature::Ext, tool, (64, "UUID"), plain);
}

#[test]
fn xfs() {
    let tool = ("mkfs.xfs", &["-q", "-f", "{}"][..], "");
    made_by("xfs", Signature::Xfs, tool, (320, "UUID"), plain);
}

#[test]
fn btrfs() {
    let tool = ("mkfs.btrfs", &["-q", "{}"][..], "");
    made_by("btrfs", Signature::Btrfs, tool, (120, "UUID"), plain);
}

#[test]
fn swap() {
    let tool = ("mkswap", &["-q", "{}"][..], "");
    made_by("swap", Signature::Swap, tool, (8, "UUID"), plain);
}

#[test]
fn fat16() {
    let tool = ("mkfs.vfat", &["-F", "16", "{}"][..], "");
    made_by("fat16", Signature::Fat, tool, (32, "UUID"), number::<4>);
}

#[test]
fn fat32() {
    let tool = ("mkfs.vfat", &["-F", "32", "{}"][..], "");
    made_by("fat32", Signature::Fat, tool, (64, "UUID"), number::<4>);
}

#[test]
fn luks1() {
    let args = ["luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", "{}"];
    let tool = ("cryptsetup", &args[..], "secret");
    made_by("luks1", Signature::Luks, tool, (16, "UUID"), plain);
}

#[test]
fn luks2() {
    let mut args = vec!["luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2"];
    args.extend(["--pbkdf-force-iterations", "1000", "{}"]);
    let tool = ("cryptsetup", &args[..], "secret");
    made_by("luks2", Signature::Luks, tool, (32, "UUID"), plain);
}

#[test]
fn gpt_table() {
    let tool = ("sfdisk", &["-q", "{}"][..], "label: gpt\n,4M\n,\n");
    made_by("gpt", Signature::Gpt, tool, (16, "PTUUID"), guid);
}

#[test]
fn dos_table() {
    let tool = ("sfdisk", &["-q", "{}"][..], "label: dos\n,4M\n,\n");
    made_by("dos", Signature::Mbr, tool, (16, "PTUUID"), number::<4>);
}

/// A table with a file system in its second partition.
fn in_partition(test: &str, label: &str) {
    let (Some(sfdisk), Some(mkfs), Some(oracle)) =
        (program(test, "sfdisk"), program(test, "mkfs.ext4"), program(test, "blkid"))
    else {
        return;
    };
    let disk = Image::new(test, 32);
    let path = disk.path.to_str().unwrap().to_owned();
    run(&sfdisk, &["-q", &path], &format!("label: {label}\n2048,8192\n10240,\n"));
    let part = Image::new(&format!("{test}-part"), 16);
    run(&mkfs, &["-q", "-F", part.path.to_str().unwrap()], "");
    disk.put(10_240 * 512, &std::fs::read(&part.path).unwrap());
    let found = probe(&disk.path, Depth::Partitions);
    let inside: Vec<&Found> = found.iter().filter(|f| f.in_partition).collect();
    assert_eq!(inside.len(), 1, "{found:?}");
    assert_eq!((inside[0].kind, inside[0].offset), (Signature::Ext, 10_240 * 512 + 1024));
    assert_eq!(hex(&inside[0].uuid.unwrap().0), blkid(&oracle, &part.path, "UUID"));
}

#[test]
fn a_file_system_in_a_gpt_partition() {
    in_partition("in-gpt", "gpt");
}

#[test]
fn a_file_system_in_a_dos_partition() {
    in_partition("in-dos", "dos");
}

/// A physical volume needs a block device to be made; its label is written here by the published
/// layout, and blkid reads it back.
#[test]
fn lvm() {
    let Some(oracle) = program("lvm", "blkid") else { return };
    let image = Image::new("lvm", 8);
    let mut label = [0u8; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1u64.to_le_bytes());
    label[20..24].copy_from_slice(&32u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"Ab3dEf7hIjKlMnOpQrStUvWxYz012345");
    label[64..72].copy_from_slice(&(8u64 << 20).to_le_bytes());
    let crc = lvm_crc(&label[20..]);
    label[16..20].copy_from_slice(&crc.to_le_bytes());
    image.put(512, &label);
    let said = blkid(&oracle, &image.path, "UUID");
    assert_eq!(said, "ab3def7hijklmnopqrstuvwxyz012345");
    let found = probe(&image.path, Depth::Device);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, Signature::LvmPv);
    assert!(found[0].uuid.is_some());
}

/// LVM's CRC-32: reflected, its own initial value, not inverted at the end.
fn lvm_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// An array needs the md driver to be made; its superblocks are written here by the published
/// layout, and blkid, which checks places and sums, reads them back.
#[test]
fn md() {
    let Some(oracle) = program("md", "blkid") else { return };
    let uuid = *b"\x10\x21\x32\x43\x54\x65\x76\x87\x98\xa9\xba\xcb\xdc\xed\xfe\x0f";
    for (name, at) in [("1.1", 0u64), ("1.2", 4096), ("1.0", (8 << 20) - 8192)] {
        let image = Image::new(&format!("md-{name}"), 8);
        let mut block = [0u8; 256];
        block[..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
        block[4] = 1;
        block[16..32].copy_from_slice(&uuid);
        block[144..152].copy_from_slice(&(at / 512).to_le_bytes());
        let sum = md_sum(&block);
        block[216..220].copy_from_slice(&sum.to_le_bytes());
        image.put(at, &block);
        md_agrees(&oracle, &image, name, at);
    }
    let image = Image::new("md-0.90", 8);
    let mut block = [0u8; 4096];
    block[..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
    block[8] = 90;
    block[20..24].copy_from_slice(&uuid[..4]);
    block[52..64].copy_from_slice(&uuid[4..]);
    let sum = md_sum(&block);
    block[152..156].copy_from_slice(&sum.to_le_bytes());
    image.put((8 << 20) - 65_536, &block);
    md_agrees(&oracle, &image, "0.90", (8 << 20) - 65_536);
}

fn md_agrees(oracle: &Path, image: &Image, name: &str, at: u64) {
    let found = probe(&image.path, Depth::Device);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    assert_eq!((found[0].kind, found[0].offset), (Signature::Md, at), "{name}");
    let said = blkid(oracle, &image.path, "UUID");
    assert_eq!(blkid(oracle, &image.path, "TYPE"), "linux_raid_member", "{name}");
    assert_eq!(hex(&found[0].uuid.unwrap().0), said, "{name}");
}

/// The sum of the words, the carries added in.
fn md_sum(block: &[u8]) -> u32 {
    let words = block.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum: u64 = words.map(u64::from).sum();
    (sum as u32).wrapping_add((sum >> 32) as u32)
}
