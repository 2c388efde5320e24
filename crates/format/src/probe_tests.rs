// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

const MIB: usize = 1 << 20;

/// Everything found on `device`, and the windows that were asked for.
fn probe_all(device: &[u8], depth: Depth, bad: &[u64]) -> (Vec<Found>, Vec<Window>, Prober) {
    let mut prober = Prober::new(device.len() as u64, depth);
    let (mut all, mut windows) = (Vec::new(), Vec::new());
    while let Some(window) = prober.next() {
        assert!(windows.len() < 2_000, "it ends");
        windows.push(window);
        let from = usize::try_from(window.offset).unwrap();
        if bad.contains(&window.offset) {
            prober.unreadable(window);
        } else {
            prober.judge(window, &device[from..from + window.len], |found| all.push(found));
        }
    }
    (all, windows, prober)
}

fn kinds(device: &[u8]) -> Vec<Signature> {
    let (found, _, _) = probe_all(device, Depth::Device, &[]);
    let set: BTreeSet<Signature> = found.iter().map(|f| f.kind).collect();
    set.into_iter().collect()
}

fn put(device: &mut [u8], at: usize, bytes: &[u8]) {
    device[at..at + bytes.len()].copy_from_slice(bytes);
}

const UUID: [u8; 16] = *b"\x10\x21\x32\x43\x54\x65\x76\x87\x98\xa9\xba\xcb\xdc\xed\xfe\x0f";
const UUID_TEXT: &[u8] = b"10213243-5465-7687-98a9-bacbdcedfe0f";

/// Kind, what stands where on a device of 8 MiB, the UUID it must be found with.
type Fixture = (Signature, Vec<(usize, Vec<u8>)>, Option<Uuid>);

fn fixture(kind: Signature, parts: &[(usize, &[u8])], uuid: Option<[u8; 16]>) -> Fixture {
    (kind, parts.iter().map(|(at, b)| (*at, b.to_vec())).collect(), uuid.map(Uuid))
}

fn short(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut all = [0; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    Some(all)
}

/// The end of a device of 8 MiB.
const END: usize = 8 * MIB;

/// One image of every kind, put together from the published layouts by hand.
fn fixtures() -> Vec<Fixture> {
    [tables(), members(), file_systems()].concat()
}

/// Our own formats, partition tables, encryption, swap.
fn tables() -> Vec<Fixture> {
    use Signature::*;
    let boot: (usize, &[u8]) = (510, b"\x55\xaa");
    vec![
        fixture(DmRemap, &[(0, b"4RMD\x04\0\x01\0"), (64, &UUID)], Some(UUID)),
        fixture(DmRemap, &[(4096 * 512, b"4RMD\x05\0\0\0")], None),
        fixture(DmRemapV4Real, &[(0, b"4RMD\x04\0\0\0")], None),
        fixture(DmRemapV4Real, &[(128 * 1024, b"4RMD\x04\0\0\0")], None),
        fixture(DmRemapV3, &[(0, b"DMREMAP3\x01")], None),
        fixture(Gpt, &[(512, b"EFI PART\0\0\x01\0\x5c"), (536, b"\x01"), (568, &UUID)], Some(UUID)),
        fixture(
            Gpt,
            &[(4096, b"EFI PART\0\0\x01\0\x5c"), (4120, b"\x01"), (4152, &UUID)],
            Some(UUID),
        ),
        fixture(Gpt, &[(END - 512, b"EFI PART\0\0\x01\0\x5c")], None),
        fixture(Gpt, &[(END - 4096, b"EFI PART\0\0\x01\0\x5c")], None),
        fixture(
            Mbr,
            &[boot, (440, b"ID01"), (446, b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x10")],
            short(b"ID01"),
        ),
        fixture(Luks, &[(0, b"LUKS\xba\xbe\0\x02"), (168, UUID_TEXT)], Some(UUID)),
        fixture(Luks, &[(16384, b"SKUL\xba\xbe\0\x02")], None),
        fixture(Luks, &[(4 * MIB, b"SKUL\xba\xbe\0\x02")], None),
        fixture(Swap, &[(4086, b"SWAPSPACE2"), (1036, &UUID)], Some(UUID)),
        fixture(Swap, &[(4086, b"S1SUSPEND\0"), (1036, &UUID)], Some(UUID)),
        fixture(Swap, &[(65526, b"SWAPSPACE2")], None),
        fixture(Bitlocker, &[boot, (3, b"-FVE-FS-")], None),
        fixture(Integrity, &[(0, b"integrt\0")], None),
    ]
}

/// Members of volume managers and arrays.
fn members() -> Vec<Fixture> {
    use Signature::*;
    let md1 = |at: usize| ((at / 512) as u64).to_le_bytes();
    let zfs: &[u8] = b"\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x24\0\0\0\x20\0\0\0\x07version\0";
    let pool: &[u8] =
        b"\0\0\0\x09pool_guid\0\0\0\0\0\0\x08\0\0\0\x01\x01\x02\x03\x04\x05\x06\x07\x08";
    let lvm = crate::probe_rules::fold(b"0123456789abcdefghijklmnopqrstuv");
    vec![
        fixture(
            LvmPv,
            &[
                (512, b"LABELONE\x01"),
                (536, b"LVM2 001"),
                (544, b"0123456789abcdefghijklmnopqrstuv"),
            ],
            Some(lvm),
        ),
        fixture(Md, &[(0, b"\xfc\x4e\x2b\xa9\x01"), (16, &UUID), (144, &md1(0))], Some(UUID)),
        fixture(
            Md,
            &[(4096, b"\xfc\x4e\x2b\xa9\x01"), (4112, &UUID), (4240, &md1(4096))],
            Some(UUID),
        ),
        fixture(
            Md,
            &[
                (END - 8192, b"\xfc\x4e\x2b\xa9\x01"),
                (END - 8192 + 16, &UUID),
                (END - 8192 + 144, &md1(END - 8192)),
            ],
            Some(UUID),
        ),
        fixture(
            Md,
            &[
                (END - 65536, b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a"),
                (END - 65536 + 20, &UUID[..4]),
                (END - 65536 + 52, &UUID[4..]),
            ],
            Some(*b"\x43\x32\x21\x10\x87\x76\x65\x54\xcb\xba\xa9\x98\x0f\xfe\xed\xdc"),
        ),
        fixture(
            Md,
            &[
                (END - 65536, b"\xa9\x2b\x4e\xfc\0\0\0\0"),
                (END - 65536 + 20, &UUID[..4]),
                (END - 65536 + 52, &UUID[4..]),
            ],
            Some(UUID),
        ),
        fixture(Zfs, &[(16384, zfs), (16500, pool)], short(b"\x01\x02\x03\x04\x05\x06\x07\x08")),
        fixture(Zfs, &[(END - 512 * 1024 + 16384, zfs)], None),
        fixture(
            Bcache,
            &[
                (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
                (4136, &UUID),
            ],
            Some(UUID),
        ),
        fixture(Stratis, &[(516, b"!Stra0tis\x86\xff\x02^\x41rh")], None),
        fixture(Vdo, &[(0, b"dmvdo001")], None),
        fixture(Drbd, &[(END - 4096 + 60, b"\x83\x74\x02\x6b")], None),
        fixture(IntelRaid, &[(END - 1024, b"Intel Raid ISM Cfg Sig. ")], None),
        fixture(Ddf, &[(END - 512, b"\xde\x11\xde\x11")], None),
        fixture(Bluestore, &[(0, b"bluestore block device\n")], None),
    ]
}

/// File systems.
fn file_systems() -> Vec<Fixture> {
    use Signature::*;
    let boot: (usize, &[u8]) = (510, b"\x55\xaa");
    vec![
        fixture(Ext, &[(1080, b"\x53\xef"), (1128, &UUID)], Some(UUID)),
        fixture(Xfs, &[(0, b"XFSB"), (32, &UUID)], Some(UUID)),
        fixture(Btrfs, &[(0x10040, b"_BHRfS_M"), (0x10020, &UUID)], Some(UUID)),
        fixture(
            Bcachefs,
            &[
                (4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
                (4136, &UUID),
            ],
            Some(UUID),
        ),
        fixture(Fat, &[boot, (82, b"FAT32   "), (67, b"\x01\x02\x03\x04")], short(&[1, 2, 3, 4])),
        fixture(Fat, &[boot, (54, b"FAT16   "), (39, b"\x05\x06\x07\x08")], short(&[5, 6, 7, 8])),
        fixture(Fat, &[boot, (54, b"FAT12   "), (39, b"\x05\x06\x07\x08")], short(&[5, 6, 7, 8])),
        fixture(Ntfs, &[boot, (3, b"NTFS    "), (72, b"12345678")], short(b"12345678")),
        fixture(Exfat, &[boot, (3, b"EXFAT   "), (100, b"1234")], short(b"1234")),
        fixture(F2fs, &[(1024, b"\x10\x20\xf5\xf2"), (1132, &UUID)], Some(UUID)),
        fixture(Jfs, &[(32768, b"JFS1"), (32904, &UUID)], Some(UUID)),
        fixture(Reiserfs, &[(65588, b"ReIsEr2Fs"), (65620, &UUID)], Some(UUID)),
        fixture(Nilfs2, &[(1024, b"\x02\0\0\0\0\0\x34\x34"), (1176, &UUID)], Some(UUID)),
        fixture(Iso9660, &[(32769, b"CD001")], None),
        fixture(Squashfs, &[(0, b"hsqs")], None),
        fixture(Erofs, &[(1024, b"\xe2\xe1\xf5\xe0"), (1072, &UUID)], Some(UUID)),
        fixture(HfsPlus, &[(1024, b"H+\0\x04"), (1128, b"12345678")], short(b"12345678")),
        fixture(HfsPlus, &[(1024, b"HX\0\x05")], None),
        fixture(Apfs, &[(32, b"NXSB"), (72, &UUID)], Some(UUID)),
    ]
}

#[test]
fn every_kind_is_found_alone_and_with_its_uuid() {
    let mut seen = BTreeSet::new();
    for (kind, parts, uuid) in fixtures() {
        let mut device = vec![0u8; 8 * MIB];
        for (at, bytes) in &parts {
            put(&mut device, *at, bytes);
        }
        let (found, _, _) = probe_all(&device, Depth::Device, &[]);
        assert_eq!(found.len(), 1, "{kind:?} {parts:x?}: {found:?}");
        assert_eq!((found[0].kind, found[0].uuid), (kind, uuid), "{parts:x?}");
        assert!(!found[0].in_partition);
        seen.insert(kind);
    }
    let all: BTreeSet<Signature> = crate::signature::ALL.into_iter().collect();
    assert_eq!(seen, all, "a kind without a fixture");
    for (i, kind) in crate::signature::ALL.into_iter().enumerate() {
        assert_eq!(kind as u16, i as u16 + 1);
        assert_eq!(Signature::from_number(kind as u16), Some(kind));
    }
    assert_eq!(Signature::from_number(0), None);
    assert_eq!(Signature::from_number(36), None);
}

#[test]
fn every_copy_of_our_own_header_is_found() {
    let layout = crate::Layout::new(16_384, 4096, None).unwrap();
    let new = crate::NewHeader {
        volume: Uuid(UUID),
        spare: Uuid([1; 16]),
        layout,
        main_sectors: 1 << 20,
        block_bytes: 512,
    };
    for copy in 0..crate::COPIES as u8 {
        let mut device = vec![0u8; 8 * MIB];
        let mut page = [0u8; 4096];
        let mut header = crate::HeaderMut::blank(&mut page, &new).unwrap();
        header.seal(crate::CopyIndex(copy), crate::Stamp::default());
        let at = layout.header_sector(crate::CopyIndex(copy)) as usize * 512;
        put(&mut device, at, &page);
        let (found, _, _) = probe_all(&device, Depth::Device, &[]);
        assert_eq!(found.len(), 1, "copy {copy}");
        assert_eq!((found[0].kind, found[0].uuid), (Signature::DmRemap, Some(Uuid(UUID))));
        assert_eq!((found[0].offset, found[0].copy), (at as u64, copy > 0));
    }
}

#[test]
fn one_byte_wrong_in_a_magic_is_no_signature() {
    let mut tried = 0;
    for (kind, parts, _) in fixtures() {
        let mut device = vec![0u8; 8 * MIB];
        for (at, bytes) in &parts {
            put(&mut device, *at, bytes);
        }
        for rule in RULES.iter().filter(|rule| rule.kind == kind) {
            let (at, magic) = rule.magic;
            let places = rule.anchors.iter().filter_map(|anchor| anchor.offset(8 * MIB as u64));
            let stands = |start: &usize| device[start + at..].starts_with(magic);
            for start in places.map(|at| at as usize).filter(stands).collect::<Vec<_>>() {
                for i in start + at..start + at + magic.len() {
                    device[i] ^= 0x20;
                    assert!(!kinds(&device).contains(&kind), "{kind:?} byte {i}");
                    device[i] ^= 0x20;
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn nothing_is_found_on_nothing() {
    for len in [0usize, 1, 511, 512, 4095, 4096, 65_536, 100_000, 8 * MIB] {
        for fill in [0u8, 0xff, 0x55] {
            let (found, windows, _) = probe_all(&vec![fill; len], Depth::Partitions, &[]);
            assert_eq!(found, vec![], "{len} of {fill:#x}");
            assert!(windows.iter().all(|w| w.offset + w.len as u64 <= len as u64));
            assert_eq!(windows.is_empty(), len == 0);
        }
    }
}

#[test]
fn windows_ascend_lie_on_the_device_and_are_few_whatever_its_size() {
    for len in [4096u64, 1 << 20, (1 << 20) + 512, 1 << 40, u64::MAX] {
        let mut prober = Prober::new(len, Depth::Device);
        let (mut last, mut count) = (None, 0);
        while let Some(window) = prober.next() {
            assert!(window.len > 0 && window.offset % 4096 == 0);
            assert!(window.offset.checked_add(window.len as u64).is_some_and(|end| end <= len));
            assert!(last.is_none_or(|last| last < window.offset));
            (last, count) = (Some(window.offset), count + 1);
        }
        assert!(count <= 48, "{count} windows on {len} bytes");
    }
}

/// A partition table of `rows` (first LBA, last LBA) in blocks of `block` bytes.
fn gpt(device: &mut [u8], block: usize, rows: &[(u64, u64)]) {
    put(device, 510, b"\x55\xaa");
    put(device, 446, b"\0\0\0\0\xee\0\0\0\x01\0\0\0\xff\xff\xff\xff");
    put(device, block, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    put(device, block + 24, &1u64.to_le_bytes());
    put(device, block + 56, &UUID);
    put(device, block + 72, &2u64.to_le_bytes());
    put(device, block + 80, &128u32.to_le_bytes());
    put(device, block + 84, &128u32.to_le_bytes());
    for (i, (first, last)) in rows.iter().enumerate() {
        let at = 2 * block + i * 128;
        put(device, at, b"linux filesystem");
        put(device, at + 32, &first.to_le_bytes());
        put(device, at + 40, &last.to_le_bytes());
    }
}

fn ext(device: &mut [u8], start: usize, uuid: &[u8; 16]) {
    put(device, start + 1080, b"\x53\xef");
    put(device, start + 1128, uuid);
}

fn partitions_found(device: &[u8]) -> Vec<(Signature, u64)> {
    let (found, _, prober) = probe_all(device, Depth::Partitions, &[]);
    assert!(!prober.table_unreadable());
    found.iter().filter(|f| f.in_partition).map(|f| (f.kind, f.offset)).collect()
}

#[test]
fn file_systems_in_gpt_partitions_are_found() {
    for block in [512usize, 4096] {
        let lba = |bytes: usize| (bytes / block) as u64;
        let mut device = vec![0u8; 16 * MIB];
        gpt(
            &mut device,
            block,
            &[
                (lba(MIB), lba(4 * MIB) - 1),
                (0, 0),
                (lba(4 * MIB), lba(8 * MIB) - 1),
                (lba(8 * MIB), u64::MAX),
                (u64::MAX, 5),
                (lba(15 * MIB), lba(16 * MIB)),
            ],
        );
        ext(&mut device, MIB, &UUID);
        put(&mut device, 4 * MIB, b"XFSB");
        put(&mut device, 4 * MIB + 32, &UUID);
        ext(&mut device, 15 * MIB, &UUID);
        let want = vec![(Signature::Ext, (MIB + 1024) as u64), (Signature::Xfs, (4 * MIB) as u64)];
        assert_eq!(partitions_found(&device), want, "block {block}");
        // The device alone: the tables, nothing of what is inside.
        assert_eq!(kinds(&device), vec![Signature::Gpt, Signature::Mbr]);
    }
}

#[test]
fn file_systems_in_dos_partitions_are_found_and_chains_are_not_followed() {
    let mut device = vec![0u8; 8 * MIB];
    put(&mut device, 510, b"\x55\xaa");
    put(&mut device, 446, b"\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0");
    put(&mut device, 462, b"\0\0\0\0\x05\0\0\0\0\x18\0\0\0\x10\0\0");
    put(&mut device, 478, b"\0\0\0\0\x83\0\0\0\0\x20\0\0\xff\xff\xff\xff");
    ext(&mut device, MIB, &UUID);
    ext(&mut device, 3 * MIB, &UUID);
    ext(&mut device, 4 * MIB, &UUID);
    assert_eq!(partitions_found(&device), vec![(Signature::Ext, (MIB + 1024) as u64)]);
}

#[test]
fn a_boot_sector_is_no_partition_table() {
    let mut device = vec![0u8; MIB];
    put(&mut device, 510, b"\x55\xaa");
    assert_eq!(kinds(&device), vec![], "no row is used");
    put(&mut device, 446, b"\x12\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0");
    assert_eq!(kinds(&device), vec![], "a row is neither active nor not");
    put(&mut device, 446, b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0");
    assert_eq!(kinds(&device), vec![Signature::Mbr]);
    put(&mut device, 82, b"FAT32   ");
    assert_eq!(kinds(&device), vec![Signature::Fat]);
}

#[test]
fn a_hostile_table_costs_no_more_than_fifteen_partitions() {
    let mut device = vec![0u8; 8 * MIB];
    let rows: Vec<(u64, u64)> = (0..24).map(|i| (2048 + i * 8, 2048 + i * 8 + 7)).collect();
    gpt(&mut device, 512, &rows);
    put(&mut device, 512 + 80, &u32::MAX.to_le_bytes());
    let (_, windows, _) = probe_all(&device, Depth::Partitions, &[]);
    assert!(windows.len() < 48 + 1 + 15 * 2, "{}", windows.len());
    for (at, value) in [(84usize, 0u32), (84, 1), (84, u32::MAX), (80, 0), (72, u32::MAX)] {
        let mut device = device.clone();
        put(&mut device, 512 + at, &value.to_le_bytes());
        let (_, windows, _) = probe_all(&device, Depth::Partitions, &[]);
        assert!(windows.len() < 50, "{at} {value}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let mut device = vec![0u8; 8 * MIB];
    gpt(&mut device, 512, &[(2048, 4095)]);
    ext(&mut device, MIB, &UUID);
    let (found, _, prober) = probe_all(&device, Depth::Partitions, &[0]);
    assert!(prober.table_unreadable());
    assert_eq!(found, vec![]);
    let (_, _, prober) = probe_all(&device, Depth::Partitions, &[65_536]);
    assert!(!prober.table_unreadable());
    let (found, _, prober) = probe_all(&device, Depth::Partitions, &[MIB as u64]);
    assert!(!prober.table_unreadable());
    assert!(found.iter().all(|f| f.kind != Signature::Ext));
}

#[test]
fn a_copy_is_told_from_the_thing_itself() {
    let mut device = vec![0u8; 80 * MIB];
    for at in [0x1_0000usize, 0x400_0000] {
        put(&mut device, at + 0x40, b"_BHRfS_M");
        put(&mut device, at + 0x20, &UUID);
    }
    let (found, _, _) = probe_all(&device, Depth::Device, &[]);
    let copies: Vec<(u64, bool)> = found.iter().map(|f| (f.offset, f.copy)).collect();
    assert_eq!(copies, vec![(0x1_0000, false), (0x400_0000, true)]);
}

#[test]
fn random_bytes_make_no_trouble() {
    const SEED: u64 = 0x5eed;
    std::eprintln!("seed {SEED:#x}");
    let mut state = SEED;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let len = 4096 + (next() % 300_000) as usize;
        let mut device = vec![0u8; len];
        device.iter_mut().for_each(|byte| *byte = next() as u8);
        // Every magic in place, everything behind it random: the checks see hostile fields.
        for rule in RULES {
            for anchor in rule.anchors.iter().filter(|_| next() % 3 == 0) {
                let Some(at) = anchor.offset(len as u64) else { continue };
                let at = at as usize + rule.magic.0;
                if at + rule.magic.1.len() <= len {
                    put(&mut device, at, rule.magic.1);
                }
            }
        }
        let (found, _, _) = probe_all(&device, Depth::Partitions, &[]);
        assert!(found.iter().all(|f| f.offset < len as u64), "round {round}");
    }
}
