// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which main is opened, which is asked for, which is refused (DESIGN 6, "Main's identity").

mod common;

use std::sync::Arc;

use common::{ask, superblock};
use dmremap_core::{Class, Done, Kind, message};
use dmremap_engine::{
    Device, DeviceKey, FormatOptions, Geometry, Identity, Mark, MarkKind, MemoryDevice,
    OpenOptions, Volume, VolumeError, VolumeOptions, format, open_device,
};
use dmremap_format::identity::{Content, HardwareKind, Judgement, Why};
use dmremap_format::{CopyIndex, Header, PAGE_BYTES};

const MAIN: u64 = 8192;
const SPARE: u64 = 16_384;

/// A disk in memory that says of itself what a test wants.
struct Disk {
    inner: Arc<MemoryDevice>,
    identity: Identity,
}

impl Device for Disk {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.inner.write_at(buf, offset, fua)
    }
    fn flush(&self) -> Result<(), Class> {
        self.inner.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.inner.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.inner.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> Identity {
        self.identity.clone()
    }
    fn describe(&self) -> String {
        "the disk".into()
    }
}

/// Main and spare that outlive their volumes.
struct Pair {
    main: Arc<MemoryDevice>,
    spare: Arc<MemoryDevice>,
}

fn disk(usb: bool, marks: &[(MarkKind, &str)]) -> Identity {
    let mut identity = Identity::bare(DeviceKey::Block { major: 8, minor: 0 });
    let mark = |(kind, value): &(MarkKind, &str)| Mark { kind: *kind, value: (*value).into() };
    identity.marks = marks.iter().map(mark).collect();
    identity.usb = usb;
    identity
}

/// A disk in a USB dock: the serial number is the dock's word.
fn docked(serial: &str) -> Identity {
    disk(true, &[(MarkKind::Serial, serial), (MarkKind::Model, "DOCK")])
}

/// A disk on a controller, with its world-wide name.
fn named(wwid: &str) -> Identity {
    disk(false, &[(MarkKind::Wwid, wwid)])
}

const A: &str = "naa.5000c500a1b2c3d4";
const B: &str = "naa.5000c500a1b2c3d5";

impl Pair {
    /// Formatted on a main that is `identity` and begins with `content`.
    fn new(identity: &Identity, content: &[u8]) -> Pair {
        let mut bytes = content.to_vec();
        bytes.resize((MAIN * 512) as usize, 0);
        let main = Arc::new(MemoryDevice::with_content(bytes, 512));
        let pair = Pair { main, spare: Arc::new(MemoryDevice::new(SPARE)) };
        format(&pair.main(identity), &pair.spare(), &FormatOptions::default()).unwrap();
        pair
    }

    fn main(&self, identity: &Identity) -> Arc<dyn Device> {
        Arc::new(Disk { inner: self.main.clone(), identity: identity.clone() })
    }

    fn spare(&self) -> Arc<dyn Device> {
        self.spare.clone()
    }

    fn try_open(&self, identity: &Identity, accept_main: bool) -> Result<Volume, VolumeError> {
        let options = VolumeOptions { accept_main, ..VolumeOptions::default() };
        Volume::open(self.main(identity), self.spare(), &options, |_| {})
    }

    /// Opens it, and nobody is asked.
    fn open(&self, identity: &Identity) -> Volume {
        self.try_open(identity, false).expect("it is main")
    }

    /// How the open is refused; it has written nothing.
    fn refused(&self, identity: &Identity, accept_main: bool) -> (Judgement, VolumeError) {
        let before = (self.main.content(), self.spare.content());
        let error = self.try_open(identity, accept_main).err().expect("refused");
        assert!((self.main.content(), self.spare.content()) == before, "it has written");
        let VolumeError::Main { judgement, .. } = &error else { panic!("{error}") };
        (*judgement, error)
    }

    /// The UUIDs the first header keeps.
    fn kept(&self) -> Vec<u8> {
        let mut page = Box::new([0; PAGE_BYTES]);
        self.spare.read_at(&mut page[..], 0).unwrap();
        let Ok(header) = Header::check(&page, CopyIndex(0)) else { return Vec::new() };
        let rows = (0..16).filter_map(|row| header.content(row));
        rows.filter_map(|row| Content::from_row(&row)).map(|content| content.uuid.0[0]).collect()
    }

    /// Waits until the header keeps just these.
    fn await_kept(&self, uuids: &[u8]) {
        let begun = std::time::Instant::now();
        while self.kept() != uuids {
            assert!(begun.elapsed().as_secs() < 60, "kept {:?}, not {uuids:?}", self.kept());
            std::thread::yield_now();
        }
    }
}

fn put(volume: &Volume, sector: u64, bytes: Vec<u8>) {
    assert_eq!(ask(volume, Kind::Write, sector, (bytes.len() / 512) as u32, bytes).1, []);
}

/// DESIGN 10.34: mkfs on the volume changes the identity that the next open compares. The disk
/// proves nothing, so its content has to be known.
#[test]
fn trace_10_34_mkfs_on_the_volume_does_not_change_its_main() {
    for clean in [true, false] {
        let pair = Pair::new(&docked("1"), &superblock(1));
        assert_eq!(pair.kept(), [1]);
        let end = |volume: Volume, uuids: &[u8]| {
            match clean {
                true => assert!(volume.close()),
                false => {
                    pair.await_kept(uuids);
                    volume.abandon();
                }
            }
            drop(volume);
            assert_eq!(pair.kept(), uuids);
        };
        // mkfs over it; then a second one that changes only the sector of the UUID.
        let volume = pair.open(&docked("1"));
        put(&volume, 0, superblock(2));
        end(volume, &[2]);
        let volume = pair.open(&docked("1"));
        put(&volume, 2, superblock(3)[1024..1536].to_vec());
        end(volume, &[3]);
        // The same, the first one noted while it runs, not the last one only.
        let volume = pair.open(&docked("1"));
        put(&volume, 0, superblock(4));
        pair.await_kept(&[4]);
        put(&volume, 0, superblock(5));
        end(volume, &[5]);
        // A partition table, and a file system in the partition that was not looked at before.
        let volume = pair.open(&docked("1"));
        assert_eq!(ask(&volume, Kind::WriteZeroes, 0, 64, vec![]).1, []);
        put(&volume, 0, partition_table(7));
        put(&volume, 2048, superblock(6));
        end(volume, &[7, 6]);
        // And everything wiped: nothing can be compared any more, which only a person can settle.
        let volume = pair.open(&docked("1"));
        assert_eq!(ask(&volume, Kind::Discard, 0, MAIN as u32, vec![]).1, []);
        end(volume, &[]);
        assert_eq!(pair.refused(&docked("1"), false).0, Judgement::Ask(Why::Nothing));
    }
}

/// A DOS table with the disk identifier `id` that names a partition at sector 2048.
fn partition_table(id: u8) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[440..444].fill(id);
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

#[test]
fn what_lives_on_the_spare_is_left_out_until_it_is_home_again() {
    let bytes = [partition_table(7), vec![0; 2047 * 512], superblock(1)].concat();
    let pair = Pair::new(&docked("1"), &bytes);
    assert_eq!(pair.kept(), [7, 1]);
    let say = |volume: &Volume, words: &str| volume.act(message::parse(words).unwrap());
    let volume = pair.open(&docked("1"));
    assert!(matches!(say(&volume, "remap 2048"), Done::Remapped { .. }));
    put(&volume, 2048, superblock(2));
    assert!(volume.close());
    drop(volume);
    // Main still holds the old one; the volume the new one. Neither says anything.
    assert_eq!(pair.kept(), [7, 1]);
    pair.main.write_at(&superblock(9), 2048 * 512, true).unwrap();
    let volume = pair.open(&docked("1"));
    assert!(!volume.info().content_changed);
    assert_eq!(say(&volume, "unremap 2048"), Done::Unremapped);
    pair.await_kept(&[7, 2]);
    volume.abandon();
    drop(volume);
    pair.open(&docked("1"));
}

#[test]
fn without_proof_content_and_everything_weak_must_agree() {
    let pair = Pair::new(&docked("1"), &superblock(1));
    let other = |bytes: &[u8]| pair.main.write_at(bytes, 0, true).unwrap();
    assert!(pair.open(&docked("1")).close());
    assert_eq!(pair.refused(&docked("2"), false).0, Judgement::Ask(Why::WeakDiffers));
    assert_eq!(pair.refused(&disk(false, &[]), false).0, Judgement::Ask(Why::ContentAlone));
    other(&superblock(2));
    let (judgement, error) = pair.refused(&docked("1"), false);
    assert_eq!(judgement, Judgement::Ask(Why::ContentDiffers));
    let said = error.to_string();
    for uuid in ["01010101-0101", "02020202-0202"] {
        assert!(said.contains(uuid), "both are shown: {said}");
    }
    // Said to be main it is, and is known by what was found from then on.
    assert!(pair.try_open(&docked("2"), true).unwrap().close());
    assert_eq!(pair.kept(), [2]);
    assert!(pair.open(&docked("2")).close());
    assert_eq!(pair.refused(&docked("1"), false).0, Judgement::Ask(Why::WeakDiffers));
}

#[test]
fn proof_settles_it_both_ways_whatever_the_content_says() {
    let pair = Pair::new(&named(A), &superblock(1));
    let (judgement, error) = pair.refused(&named(B), false);
    assert_eq!(judgement, Judgement::ProofDiffers(HardwareKind::Wwn));
    let said = error.to_string();
    assert!(said.contains(A) && said.contains(B), "both are shown: {said}");
    assert_eq!(pair.refused(&named(B), true).0, judgement, "no word of a person makes it main");
    pair.main.write_at(&superblock(2), 0, true).unwrap();
    let volume = pair.open(&named(A));
    assert!(volume.info().content_changed);
    assert!(volume.close() && pair.kept() == [2]);
    drop(volume);
    assert!(!pair.open(&named(A)).info().content_changed);
}

#[test]
fn an_open_through_a_dock_does_not_forget_the_proof() {
    let whole = [(MarkKind::Serial, "S1"), (MarkKind::Model, "M")];
    let pair = Pair::new(&disk(false, &whole), &superblock(1));
    assert!(pair.open(&disk(true, &whole)).close());
    pair.main.write_at(&superblock(2), 0, true).unwrap();
    assert!(pair.open(&disk(false, &whole)).info().content_changed, "proved, although changed");
}

#[test]
fn an_identity_that_was_accepted_is_the_one_from_then_on() {
    let pair = Pair::new(&docked("1"), &superblock(1));
    assert_eq!(pair.refused(&named(A), false).0, Judgement::Ask(Why::ContentAlone));
    pair.try_open(&named(A), true).unwrap().abandon();
    assert!(pair.open(&named(A)).close());
    assert_eq!(pair.refused(&named(B), true).0, Judgement::ProofDiffers(HardwareKind::Wwn));
}

#[test]
fn another_file_of_the_same_size_is_asked_for() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let options = OpenOptions { force_buffered: true, ..OpenOptions::default() };
    let file = |name: &str| open_device(&path(name), &options).unwrap();
    std::fs::File::create(path("main")).unwrap().set_len(MAIN * 512).unwrap();
    file("main").write_at(&superblock(1), 0, true).unwrap();
    let spare = Arc::new(MemoryDevice::new(SPARE));
    let open = |name: &str, accept_main| {
        let options = VolumeOptions { accept_main, ..VolumeOptions::default() };
        Volume::open(file(name), spare.clone(), &options, |_| {})
    };
    let shared: Arc<dyn Device> = spare.clone();
    format(&file("main"), &shared, &FormatOptions::default()).unwrap();
    // Proved, so that changes behind the volume's back are worth an event only.
    file("main").write_at(&superblock(2), 0, true).unwrap();
    let volume = open("main", false).expect("proved by the file");
    assert!(volume.info().content_changed);
    assert!(volume.close());
    drop(volume);
    std::fs::copy(path("main"), path("copy")).unwrap();
    std::fs::File::create(path("other")).unwrap().set_len(MAIN * 512).unwrap();
    let before = spare.content();
    for (name, why) in [("copy", Why::ContentAlone), ("other", Why::ContentDiffers)] {
        let error = open(name, false).err().expect("asked");
        let VolumeError::Main { judgement, .. } = &error else { panic!("{error}") };
        assert_eq!(*judgement, Judgement::Ask(why), "{error}");
        assert!(error.to_string().contains("inode"), "{error}");
    }
    assert!(spare.content() == before);
    assert!(open("copy", true).unwrap().close());
    assert!(open("copy", false).expect("known by now").close());
    assert!(open("main", false).is_err());
}
