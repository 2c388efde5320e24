// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table behind [`Prober`](crate::Prober): which signatures there are, where they stand, where
//! their UUID is.
//!
//! A rule says where its structure begins (from the start of the region or from its end), which
//! bytes must stand at which offset in it, what else must hold, and where the UUID lies. Every rule
//! looks at one aligned block of 4096 bytes only, the one its structure begins in, so that each
//! block a caller has read can be judged by itself and an unreadable one hides nothing else.

use crate::at;
use crate::page;
use crate::signature::Signature;
use crate::types::Uuid;

/// Bytes of a block that is read and judged as one.
pub const PROBE_BLOCK_BYTES: u64 = 4096;

const KIB: u64 = 1024;
const SECTOR: u64 = 512;

/// Where a structure begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    /// Bytes from the start of the region.
    Start(u64),
    /// Bytes before its end.
    End(u64),
    /// The last whole block of this many bytes, `blocks` of them before the end, and `plus` bytes.
    EndAligned { block: u64, blocks: u64, plus: u64 },
    /// md 1.0: at least 8 KiB before the end, aligned to 4 KiB.
    Md10,
}

impl Anchor {
    /// Where that is in a region of `len` bytes.
    pub(crate) const fn offset(self, len: u64) -> Option<u64> {
        match self {
            Anchor::Start(offset) => {
                if offset < len {
                    Some(offset)
                } else {
                    None
                }
            }
            Anchor::End(before) => len.checked_sub(before),
            Anchor::EndAligned { block, blocks, plus } => {
                let whole = match len.checked_div(block) {
                    Some(whole) => whole,
                    None => return None,
                };
                match whole.checked_sub(blocks) {
                    Some(first) => first.saturating_mul(block).checked_add(plus),
                    None => None,
                }
            }
            Anchor::Md10 => match len.checked_sub(8 * KIB) {
                Some(at) => Some(at & !(4 * KIB - 1)),
                None => None,
            },
        }
    }
}

/// Where the UUID lies, in bytes from the start of the structure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UuidAt {
    /// There is none, or not in this block.
    None,
    /// 16 bytes.
    Raw(usize),
    /// 4 or 8 bytes, the first number their place.
    Short(usize, usize),
    /// 36 characters.
    Text(usize),
    /// 32 characters of LVM's own, folded to 16 bytes.
    Lvm(usize),
    /// The four words of md 0.90, lowest byte first or not; shown as numbers.
    Md090 { little_endian: bool },
    /// The number that follows `pool_guid` in a ZFS label.
    ZfsPool,
}

/// A structure as it was found: the block, where the structure begins in it and in the region.
pub(crate) struct Spot<'a> {
    block: &'a [u8],
    base: usize,
    offset: u64,
}

impl<'a> Spot<'a> {
    pub(crate) const fn new(block: &'a [u8], base: usize, offset: u64) -> Spot<'a> {
        Spot { block, base, offset }
    }

    /// `len` bytes at `at` in the structure.
    fn bytes(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        let from = self.base.checked_add(at)?;
        self.block.get(from..from.checked_add(len)?)
    }

    /// The first `N` bytes at `at`.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes(at, N)?.first_chunk::<N>().copied()
    }

    pub(crate) fn has(&self, at: usize, bytes: &[u8]) -> bool {
        self.bytes(at, bytes.len()) == Some(bytes)
    }

    pub(crate) fn le32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn le64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// The UUID, unless there is none or it is all zero.
    pub(crate) fn uuid(&self, at: UuidAt) -> Option<Uuid> {
        let bytes = match at {
            UuidAt::None => return None,
            UuidAt::Raw(at) => self.array(at)?,
            UuidAt::Short(at, len) => {
                let mut bytes = [0; 16];
                let found = self.bytes(at, len)?;
                bytes.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
                bytes
            }
            UuidAt::Text(at) => parse_uuid(self.bytes(at, 36)?)?.0,
            UuidAt::Lvm(at) => fold(self.bytes(at, 32)?),
            UuidAt::Md090 { little_endian } => {
                let words = [20, 52, 56, 60].map(|at| {
                    let mut word = self.array::<4>(at).unwrap_or_default();
                    if little_endian {
                        word.reverse();
                    }
                    word
                });
                let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words;
                [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
            }
            UuidAt::ZfsPool => self.zfs_pool()?,
        };
        (bytes != [0; 16]).then_some(Uuid(bytes))
    }

    /// In a label's list of names and values (XDR) the pool's number follows its name (padded to
    /// 12 bytes), its type and the count of 1.
    fn zfs_pool(&self) -> Option<[u8; 16]> {
        const NAME: &[u8] = b"\0\0\0\x09pool_guid\0\0\0\0\0\0\x08\0\0\0\x01";
        let label = self.block.get(self.base..)?;
        let at = label.windows(NAME.len()).position(|window| window == NAME)?;
        let number = label.get(at.checked_add(NAME.len())?..)?.first_chunk::<8>()?;
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(number).for_each(|(to, from)| *to = *from);
        Some(bytes)
    }
}

/// A UUID in its usual form, or `None`.
fn parse_uuid(text: &[u8]) -> Option<Uuid> {
    let mut digits = text.iter().filter(|&&b| b != b'-');
    let mut bytes = [0u8; 16];
    for byte in &mut bytes {
        let mut nibble = || char::from(*digits.next()?).to_digit(16);
        let (high, low) = (nibble()?, nibble()?);
        *byte = u8::try_from((high << 4) | low).ok()?;
    }
    digits.next().is_none().then_some(Uuid(bytes))
}

/// 128 bits of an identifier that is longer (FNV-1a): for comparing, not against forgery.
pub(crate) fn fold(bytes: &[u8]) -> [u8; 16] {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    let mix = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(BASIS, mix).to_le_bytes()
}

/// Which anchors are copies that the owner keeps for emergencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// None: each place is where the thing itself may stand.
    None,
    /// All but the first.
    AfterFirst,
    /// All.
    All,
}

impl Copies {
    /// Whether the anchor with this index is one.
    pub(crate) const fn has(self, index: usize) -> bool {
        match self {
            Copies::None => false,
            Copies::AfterFirst => index > 0,
            Copies::All => true,
        }
    }
}

/// One signature.
pub(crate) struct Rule {
    pub kind: Signature,
    /// Where it may stand.
    pub anchors: &'static [Anchor],
    pub copies: Copies,
    /// Bytes that must stand at this offset in the structure.
    pub magic: (usize, &'static [u8]),
    /// What must hold besides.
    pub also: fn(&Spot<'_>) -> bool,
    pub uuid: UuidAt,
}

/// A rule with one place and nothing more to hold.
const fn simple(
    kind: Signature,
    anchors: &'static [Anchor],
    magic: (usize, &'static [u8]),
    uuid: UuidAt,
) -> Rule {
    Rule { kind, anchors, copies: Copies::None, magic, also: always, uuid }
}

const ZERO: &[Anchor] = &[Anchor::Start(0)];
const ONE_KIB: &[Anchor] = &[Anchor::Start(KIB)];
const DMR4: &[u8] = &page::MAGIC.to_le_bytes();
const MD_MAGIC_LE: &[u8] = b"\xfc\x4e\x2b\xa9";
const MD_MAGIC_BE: &[u8] = b"\xa9\x2b\x4e\xfc";
const MD_090: &[Anchor] = &[Anchor::EndAligned { block: 64 * KIB, blocks: 1, plus: 0 }];

/// Every rule.
pub(crate) static RULES: &[Rule] = &[
    Rule {
        kind: Signature::DmRemap,
        anchors: &[
            Anchor::Start(0),
            Anchor::Start(1024 * SECTOR),
            Anchor::Start(2048 * SECTOR),
            Anchor::Start(4096 * SECTOR),
            Anchor::Start(8192 * SECTOR),
        ],
        copies: Copies::AfterFirst,
        magic: (0, DMR4),
        also: |spot| spot.le32(4) != Some(4),
        uuid: UuidAt::Raw(at::header::VOLUME.at),
    },
    Rule {
        kind: Signature::DmRemapV4Real,
        anchors: &[
            Anchor::Start(0),
            Anchor::Start(256 * SECTOR),
            Anchor::Start(512 * SECTOR),
            Anchor::Start(768 * SECTOR),
            Anchor::Start(1024 * SECTOR),
        ],
        copies: Copies::AfterFirst,
        magic: (0, DMR4),
        also: |spot| spot.le32(4) == Some(4),
        uuid: UuidAt::None,
    },
    simple(Signature::DmRemapV3, ZERO, (0, b"DMREMAP3"), UuidAt::None),
    // Before the GPT, whose partitions then replace those of the table that only guards it.
    Rule {
        kind: Signature::Mbr,
        anchors: ZERO,
        copies: Copies::None,
        magic: (510, b"\x55\xaa"),
        also: is_partition_table,
        uuid: UuidAt::Short(440, 4),
    },
    Rule {
        kind: Signature::Gpt,
        anchors: &[Anchor::Start(512), Anchor::Start(4096)],
        copies: Copies::None,
        magic: (0, b"EFI PART"),
        also: |spot| gpt_sized(spot) && spot.le64(24) == Some(1),
        uuid: UuidAt::Raw(56),
    },
    Rule {
        kind: Signature::Gpt,
        anchors: &[Anchor::End(512), Anchor::End(4096)],
        copies: Copies::All,
        magic: (0, b"EFI PART"),
        also: gpt_sized,
        uuid: UuidAt::None,
    },
    Rule {
        kind: Signature::Ext,
        anchors: ONE_KIB,
        copies: Copies::None,
        magic: (56, b"\x53\xef"),
        also: |spot| spot.le32(24).is_some_and(|log| log <= 6),
        uuid: UuidAt::Raw(104),
    },
    simple(Signature::Xfs, ZERO, (0, b"XFSB"), UuidAt::Raw(32)),
    Rule {
        kind: Signature::Btrfs,
        anchors: &[Anchor::Start(64 * KIB), Anchor::Start(64 * KIB * KIB)],
        copies: Copies::AfterFirst,
        magic: (0x40, b"_BHRfS_M"),
        also: always,
        uuid: UuidAt::Raw(0x20),
    },
    Rule {
        kind: Signature::LvmPv,
        anchors: &[
            Anchor::Start(0),
            Anchor::Start(SECTOR),
            Anchor::Start(2 * SECTOR),
            Anchor::Start(3 * SECTOR),
        ],
        copies: Copies::None,
        magic: (0, b"LABELONE"),
        also: |spot| spot.has(24, b"LVM2 001") && spot.le64(8) == Some(spot.offset / SECTOR),
        uuid: UuidAt::Lvm(32),
    },
    Rule {
        kind: Signature::Md,
        anchors: &[Anchor::Start(0), Anchor::Start(4 * KIB), Anchor::Md10],
        copies: Copies::None,
        magic: (0, MD_MAGIC_LE),
        also: |spot| spot.le32(4) == Some(1) && spot.le64(144) == Some(spot.offset / SECTOR),
        uuid: UuidAt::Raw(16),
    },
    Rule {
        kind: Signature::Md,
        anchors: MD_090,
        copies: Copies::None,
        magic: (0, MD_MAGIC_LE),
        also: |spot| spot.le32(4) == Some(0),
        uuid: UuidAt::Md090 { little_endian: true },
    },
    Rule {
        kind: Signature::Md,
        anchors: MD_090,
        copies: Copies::None,
        magic: (0, MD_MAGIC_BE),
        also: |spot| spot.le32(4) == Some(0),
        uuid: UuidAt::Md090 { little_endian: false },
    },
    simple(Signature::Luks, ZERO, (0, b"LUKS\xba\xbe"), UuidAt::Text(168)),
    Rule {
        kind: Signature::Luks,
        anchors: &[
            // Where the second header of LUKS2 stands, by the size of the first.
            Anchor::Start(16 * KIB),
            Anchor::Start(32 * KIB),
            Anchor::Start(64 * KIB),
            Anchor::Start(128 * KIB),
            Anchor::Start(256 * KIB),
            Anchor::Start(512 * KIB),
            Anchor::Start(1024 * KIB),
            Anchor::Start(2048 * KIB),
            Anchor::Start(4096 * KIB),
        ],
        copies: Copies::All,
        magic: (0, b"SKUL\xba\xbe"),
        also: always,
        uuid: UuidAt::None,
    },
    simple(Signature::Swap, ZERO, (4086, b"SWAPSPACE2"), UuidAt::Raw(1036)),
    simple(Signature::Swap, ZERO, (4086, b"SWAP-SPACE"), UuidAt::None),
    simple(Signature::Swap, ZERO, (4086, b"S1SUSPEND"), UuidAt::Raw(1036)),
    simple(Signature::Swap, ZERO, (4086, b"S2SUSPEND"), UuidAt::Raw(1036)),
    simple(Signature::Swap, ZERO, (4086, b"ULSUSPEND"), UuidAt::Raw(1036)),
    simple(Signature::Swap, ZERO, (4086, b"LINHIB0001"), UuidAt::Raw(1036)),
    // Written on a machine with pages of 8, 16 or 64 KiB: the UUID lies in another block.
    simple(
        Signature::Swap,
        &[Anchor::Start(4 * KIB), Anchor::Start(12 * KIB), Anchor::Start(60 * KIB)],
        (4086, b"SWAPSPACE2"),
        UuidAt::None,
    ),
    Rule {
        kind: Signature::Zfs,
        anchors: &[
            Anchor::Start(16 * KIB),
            Anchor::Start(272 * KIB),
            Anchor::EndAligned { block: 256 * KIB, blocks: 2, plus: 16 * KIB },
            Anchor::EndAligned { block: 256 * KIB, blocks: 1, plus: 16 * KIB },
        ],
        copies: Copies::AfterFirst,
        magic: (20, b"\0\0\0\x07version\0"),
        also: |spot| spot.has(0, b"\x01"),
        uuid: UuidAt::ZfsPool,
    },
    simple(
        Signature::Bcache,
        &[Anchor::Start(4 * KIB)],
        (24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
        UuidAt::Raw(40),
    ),
    simple(
        Signature::Bcachefs,
        &[Anchor::Start(4 * KIB)],
        (24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
        UuidAt::Raw(40),
    ),
    boot_sector(Signature::Fat, (82, b"FAT32   "), UuidAt::Short(67, 4)),
    boot_sector(Signature::Fat, (54, b"FAT16   "), UuidAt::Short(39, 4)),
    boot_sector(Signature::Fat, (54, b"FAT12   "), UuidAt::Short(39, 4)),
    boot_sector(Signature::Ntfs, (3, b"NTFS    "), UuidAt::Short(72, 8)),
    boot_sector(Signature::Exfat, (3, b"EXFAT   "), UuidAt::Short(100, 4)),
    boot_sector(Signature::Bitlocker, (3, b"-FVE-FS-"), UuidAt::None),
    simple(Signature::F2fs, ONE_KIB, (0, b"\x10\x20\xf5\xf2"), UuidAt::Raw(108)),
    simple(Signature::Jfs, &[Anchor::Start(32 * KIB)], (0, b"JFS1"), UuidAt::Raw(136)),
    simple(Signature::Reiserfs, &[Anchor::Start(64 * KIB)], (52, b"ReIsEr"), UuidAt::Raw(84)),
    Rule {
        kind: Signature::Nilfs2,
        anchors: ONE_KIB,
        copies: Copies::None,
        magic: (6, b"\x34\x34"),
        also: |spot| spot.le32(0) == Some(2),
        uuid: UuidAt::Raw(152),
    },
    simple(Signature::Iso9660, &[Anchor::Start(32 * KIB)], (1, b"CD001"), UuidAt::None),
    simple(Signature::Squashfs, ZERO, (0, b"hsqs"), UuidAt::None),
    simple(Signature::Erofs, ONE_KIB, (0, b"\xe2\xe1\xf5\xe0"), UuidAt::Raw(48)),
    simple(Signature::HfsPlus, ONE_KIB, (0, b"H+\0\x04"), UuidAt::Short(104, 8)),
    simple(Signature::HfsPlus, ONE_KIB, (0, b"HX\0\x05"), UuidAt::Short(104, 8)),
    simple(Signature::Apfs, ZERO, (32, b"NXSB"), UuidAt::Raw(72)),
    simple(Signature::Integrity, ZERO, (0, b"integrt\0"), UuidAt::None),
    simple(
        Signature::Stratis,
        &[Anchor::Start(512)],
        (4, b"!Stra0tis\x86\xff\x02^\x41rh"),
        UuidAt::None,
    ),
    simple(Signature::Vdo, ZERO, (0, b"dmvdo001"), UuidAt::None),
    simple(Signature::Bluestore, ZERO, (0, b"bluestore block device"), UuidAt::None),
    simple(
        Signature::Drbd,
        &[Anchor::EndAligned { block: 4 * KIB, blocks: 1, plus: 0 }],
        (60, b"\x83\x74\x02"),
        UuidAt::None,
    ),
    simple(
        Signature::IntelRaid,
        &[Anchor::End(1024)],
        (0, b"Intel Raid ISM Cfg Sig. "),
        UuidAt::None,
    ),
    simple(Signature::Ddf, &[Anchor::End(512)], (0, b"\xde\x11\xde\x11"), UuidAt::None),
];

/// A rule about the first sector of a file system that a PC can be started from.
const fn boot_sector(kind: Signature, magic: (usize, &'static [u8]), uuid: UuidAt) -> Rule {
    let also: fn(&Spot<'_>) -> bool = |spot| spot.has(510, b"\x55\xaa");
    Rule { kind, anchors: ZERO, copies: Copies::None, magic, also, uuid }
}

fn always(_: &Spot<'_>) -> bool {
    true
}

/// A GPT header says how long it is.
fn gpt_sized(spot: &Spot<'_>) -> bool {
    spot.le32(12).is_some_and(|len| (92..=4096).contains(&len))
}

/// Whether the four rows before the final `55 AA` can be a partition table: the boot sector of a
/// file system ends with the same two bytes. Every row is active or not, and one at least is used.
fn is_partition_table(spot: &Spot<'_>) -> bool {
    let boot_sector = spot.has(3, b"NTFS    ")
        || spot.has(3, b"EXFAT   ")
        || spot.has(82, b"FAT32   ")
        || spot.has(54, b"FAT1");
    let rows = [446, 462, 478, 494];
    let sane = rows.iter().all(|&at| spot.has(at, &[0]) || spot.has(at, &[0x80]));
    let used = |at: usize| {
        let start = at.checked_add(8).and_then(|at| spot.le32(at));
        let len = at.checked_add(12).and_then(|at| spot.le32(at));
        let kind = at.checked_add(4).is_some_and(|at| !spot.has(at, &[0]));
        kind && start.is_some_and(|s| s > 0) && len.is_some_and(|l| l > 0)
    };
    !boot_sector && sane && rows.into_iter().any(used)
}
