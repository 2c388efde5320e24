// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The kinds of content that are told apart.

/// What a signature is of. The numbers stand in headers: none is ever given twice or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Signature {
    /// A spare of this format.
    DmRemap = 1,
    /// A spare of the historical v4 format (84,288 bytes).
    DmRemapV4Real = 2,
    /// A spare of the historical v3 format.
    DmRemapV3 = 3,
    /// A GUID partition table.
    Gpt = 4,
    /// A DOS partition table, also the one that guards a GPT.
    Mbr = 5,
    /// ext2, ext3 or ext4: one may become the other and keeps its UUID.
    Ext = 6,
    /// XFS.
    Xfs = 7,
    /// btrfs.
    Btrfs = 8,
    /// An LVM physical volume.
    LvmPv = 9,
    /// A member of a Linux md array.
    Md = 10,
    /// LUKS 1 or 2.
    Luks = 11,
    /// Swap space, also one that holds a hibernated system.
    Swap = 12,
    /// A ZFS pool member.
    Zfs = 13,
    /// bcache.
    Bcache = 14,
    /// bcachefs.
    Bcachefs = 15,
    /// FAT12, FAT16 or FAT32.
    Fat = 16,
    /// NTFS.
    Ntfs = 17,
    /// exFAT.
    Exfat = 18,
    /// F2FS.
    F2fs = 19,
    /// JFS.
    Jfs = 20,
    /// ReiserFS.
    Reiserfs = 21,
    /// NILFS2.
    Nilfs2 = 22,
    /// ISO 9660.
    Iso9660 = 23,
    /// SquashFS.
    Squashfs = 24,
    /// EROFS.
    Erofs = 25,
    /// HFS+.
    HfsPlus = 26,
    /// APFS.
    Apfs = 27,
    /// dm-integrity.
    Integrity = 28,
    /// Stratis.
    Stratis = 29,
    /// VDO.
    Vdo = 30,
    /// DRBD, its metadata at the end.
    Drbd = 31,
    /// Intel firmware RAID.
    IntelRaid = 32,
    /// Firmware RAID in the SNIA DDF format.
    Ddf = 33,
    /// BitLocker.
    Bitlocker = 34,
    /// Ceph BlueStore.
    Bluestore = 35,
}

impl Signature {
    /// Its name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Signature::DmRemap => "dm-remap spare",
            Signature::DmRemapV4Real => "dm-remap spare of the old v4 format",
            Signature::DmRemapV3 => "dm-remap spare of the old v3 format",
            Signature::Gpt => "GPT partition table",
            Signature::Mbr => "DOS partition table",
            Signature::Ext => "ext2/ext3/ext4 file system",
            Signature::Xfs => "XFS file system",
            Signature::Btrfs => "btrfs file system",
            Signature::LvmPv => "LVM physical volume",
            Signature::Md => "md RAID member",
            Signature::Luks => "LUKS encrypted volume",
            Signature::Swap => "swap space",
            Signature::Zfs => "ZFS pool member",
            Signature::Bcache => "bcache device",
            Signature::Bcachefs => "bcachefs file system",
            Signature::Fat => "FAT file system",
            Signature::Ntfs => "NTFS file system",
            Signature::Exfat => "exFAT file system",
            Signature::F2fs => "F2FS file system",
            Signature::Jfs => "JFS file system",
            Signature::Reiserfs => "ReiserFS file system",
            Signature::Nilfs2 => "NILFS2 file system",
            Signature::Iso9660 => "ISO 9660 file system",
            Signature::Squashfs => "SquashFS file system",
            Signature::Erofs => "EROFS file system",
            Signature::HfsPlus => "HFS+ file system",
            Signature::Apfs => "APFS container",
            Signature::Integrity => "dm-integrity device",
            Signature::Stratis => "Stratis pool member",
            Signature::Vdo => "VDO volume",
            Signature::Drbd => "DRBD metadata",
            Signature::IntelRaid => "Intel RAID member",
            Signature::Ddf => "DDF RAID member",
            Signature::Bitlocker => "BitLocker volume",
            Signature::Bluestore => "Ceph BlueStore device",
        }
    }
}

impl Signature {
    /// The kind of this number in a header; `None` for those a later version knows.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Signature> {
        ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Every kind, in the order of the numbers.
pub(crate) const ALL: [Signature; 35] = [
    Signature::DmRemap,
    Signature::DmRemapV4Real,
    Signature::DmRemapV3,
    Signature::Gpt,
    Signature::Mbr,
    Signature::Ext,
    Signature::Xfs,
    Signature::Btrfs,
    Signature::LvmPv,
    Signature::Md,
    Signature::Luks,
    Signature::Swap,
    Signature::Zfs,
    Signature::Bcache,
    Signature::Bcachefs,
    Signature::Fat,
    Signature::Ntfs,
    Signature::Exfat,
    Signature::F2fs,
    Signature::Jfs,
    Signature::Reiserfs,
    Signature::Nilfs2,
    Signature::Iso9660,
    Signature::Squashfs,
    Signature::Erofs,
    Signature::HfsPlus,
    Signature::Apfs,
    Signature::Integrity,
    Signature::Stratis,
    Signature::Vdo,
    Signature::Drbd,
    Signature::IntelRaid,
    Signature::Ddf,
    Signature::Bitlocker,
    Signature::Bluestore,
];
