// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is read from a device: pages, the judgement over five copies, signatures, old formats.
//!
//! Invariants checked: what is accepted as a page says of itself what was asked for and decodes to
//! the end without a panic; a layout that is accepted fits its spare and its areas do not overlap
//! what moves; a slot that is accepted encodes to what it was read from; a judgement names only
//! copies that were valid; every window of a probe lies in the device and there are few; an old
//! table names no more entries than it holds.

use dmremap_format::legacy::{LegacyFault, LegacyTable, V3_BYTES, V4_REAL_BYTES};
use dmremap_format::{
    BlockState, COPIES, Cause, CopyIndex, Depth, Expect, GenerationPage, Header, HeaderMut, Layout,
    NewHeader, PAGE_BYTES, PageBytes, PageIndex, Prober, Seen, SeenHeader, Slot, SlotLimits,
    SpareUnit, Stamp, States, TablePage, TablePageMut, UnitIndex, Uuid, identify, judge,
    judge_headers,
};

const EXPECT: Expect =
    Expect { volume: Uuid([1; 16]), spare: Uuid([2; 16]), copy: CopyIndex(0), page: PageIndex(0) };
const STAMP: Stamp = Stamp { generation: 3, sequence: 7 };

fn page_of(data: &[u8]) -> PageBytes {
    let mut page = [0; PAGE_BYTES];
    let len = data.len().min(PAGE_BYTES);
    page[..len].copy_from_slice(&data[..len]);
    page
}

/// The bytes as they are, and with a checksum that fits, as every kind of page.
pub fn pages(data: &[u8]) {
    let mut page = page_of(data);
    one_page(&page);
    TablePageMut::edit(&mut page).seal(CopyIndex(0), STAMP);
    one_page(&page);
    HeaderMut::edit(&mut page).seal(CopyIndex(0), STAMP);
    one_page(&page);
}

fn one_page(page: &PageBytes) {
    if let Ok(header) = Header::check(page, CopyIndex(0)) {
        assert_eq!(header.copy(), CopyIndex(0));
        every_field(&header);
    }
    let _ = GenerationPage::check(page, &EXPECT).map(|g| format!("{:?}", g.stamp()));
    let Ok(table) = TablePage::check(page, &EXPECT) else { return };
    assert_eq!((table.volume(), table.spare()), (EXPECT.volume, EXPECT.spare));
    let limits = SlotLimits { main_sectors: 1 << 20, block_sectors: 1, spare_units: [1 << 16; 8] };
    for (place, slot) in table.slots() {
        let Ok(slot) = slot else { continue };
        if slot.check(&limits).is_ok() {
            assert!(slot.main.is_none_or(|unit| unit.0 < (1 << 17)));
            assert!(slot.spare.is_none_or(|unit| unit.0 < (1 << 16)));
        }
        let mut copy = *page;
        TablePageMut::edit(&mut copy).set_slot(place, &slot).expect("what was read can be written");
        assert_eq!(TablePage::of_image(&copy).slot(place), Ok(slot));
    }
}

fn every_field(header: &Header<'_>) {
    let shown = (header.volume(), header.role(), header.state(), header.fence(), header.session());
    let _ = format!("{shown:?} {:?} {:?}", header.health(), header.fingerprint());
    let texts = (header.name(), header.hint(), header.parameters(), header.settings());
    let _ = format!("{texts:?}");
    for row in 0..40 {
        let _ = format!("{:?} {:?}", header.member(row), header.extension(row));
        let _ = format!("{:?}", header.content(row));
        let _ = header.identity(row).map(|identity| format!("{identity:?}"));
    }
    assert!(header.name().len() <= 64);
    if let Ok(layout) = header.layout() {
        every_place(&layout);
    }
}

fn every_place(layout: &Layout) {
    assert!(layout.data_start() <= layout.data_end());
    assert!(layout.data_end() <= layout.spare_sectors());
    for copy in (0..COPIES as u8).map(CopyIndex) {
        let area = layout.area(copy);
        assert!(area.end() <= layout.spare_sectors(), "an area lies on the spare");
        let last = layout.page_sector(copy, PageIndex(layout.pages() - 1));
        assert!(last + 8 <= layout.spare_sectors());
    }
    assert!(layout.unit_at(layout.data_start()).is_none_or(|(unit, _)| unit == SpareUnit(0)));
}

pub fn page_seeds() -> Vec<Vec<u8>> {
    let mut table = [0; PAGE_BYTES];
    let mut new = TablePageMut::blank(&mut table, EXPECT.volume, EXPECT.spare, PageIndex(0));
    let slot = Slot {
        main: Some(UnitIndex(5)),
        spare: Some(SpareUnit(9)),
        states: States::ALL_MAIN.with(1, BlockState::Spare),
        cause: Cause::WriteError,
        ..Slot::FREE
    };
    let _ = new.set_slot(3, &slot);
    new.seal(CopyIndex(0), STAMP);
    let header = header();
    assert!(TablePage::check(&table, &EXPECT).is_ok(), "what is begun with is accepted");
    assert!(Header::check(&header, CopyIndex(0)).is_ok(), "what is begun with is accepted");
    vec![table.to_vec(), header.to_vec()]
}

fn header() -> PageBytes {
    let mut page = [0; PAGE_BYTES];
    if let Ok(layout) = Layout::new(65_536, 4096, None) {
        let new = NewHeader {
            volume: EXPECT.volume,
            spare: EXPECT.spare,
            main_sectors: 1 << 20,
            block_bytes: 512,
            layout,
        };
        if let Ok(mut header) = HeaderMut::blank(&mut page, &new) {
            let _ = header.set_name("fuzz");
            header.seal(CopyIndex(0), STAMP);
        }
    }
    page
}

/// Five copies, each as three bytes say: of one header with one byte changed, or as if a table
/// page had been seen so.
pub fn copies(data: &[u8]) {
    let mut seen = [Seen::Invalid; COPIES];
    let mut headers = [SeenHeader::Unreadable; COPIES];
    for (index, bytes) in data.chunks_exact(3).take(COPIES).enumerate() {
        let copy = CopyIndex(index as u8);
        seen[index] = match bytes[0] % 4 {
            0 => Seen::Unreadable,
            1 => Seen::Invalid,
            _ => {
                let (generation, sequence) = (u64::from(bytes[1] & 3), u64::from(bytes[1] >> 6));
                let stamp = Stamp { generation, sequence };
                Seen::Valid { stamp, digest: u64::from(bytes[2] & 1) }
            }
        };
        let mut page = header();
        let at = (usize::from(bytes[1]) << 4 | usize::from(bytes[2] >> 4)) % PAGE_BYTES;
        page[at] ^= bytes[2] & 15;
        let stamp = Stamp { generation: u64::from(bytes[0] & 3), sequence: 0 };
        if bytes[0] & 0x10 == 0 {
            HeaderMut::edit(&mut page).seal(copy, stamp);
        }
        if bytes[0] & 0x60 != 0 {
            headers[index] = SeenHeader::of(&page, copy);
        }
    }
    let valid = seen.iter().filter(|seen| matches!(seen, Seen::Valid { .. })).count();
    if judge(&seen).is_ok() {
        assert!(valid >= 2, "two valid copies are needed");
    }
    let _ = identify(&headers);
    let _ = judge_headers(&headers);
}

pub fn copy_seeds() -> Vec<Vec<u8>> {
    vec![[0x62, 1, 0].repeat(5), [[0x62, 1, 0].repeat(3), vec![0, 0, 0, 1, 1, 1]].concat()]
}

/// A device whose windows hold the input one after the other.
pub fn probe(data: &[u8]) {
    let Some((&size, mut rest)) = data.split_first() else { return };
    let bytes = (u64::from(size) + 1) << 14;
    for depth in [Depth::Device, Depth::Partitions] {
        let mut prober = Prober::new(bytes, depth);
        let mut windows = 0;
        while let Some(window) = prober.next() {
            windows += 1;
            assert!(windows < 20_000, "a few dozen windows a region");
            assert!(window.offset + window.len as u64 <= bytes, "within the device");
            let len = window.len.min(rest.len());
            let (now, later) = rest.split_at(len);
            let mut block = now.to_vec();
            block.resize(window.len, 0);
            prober.judge(window, &block, |found| {
                let _ = format!("{found:?}");
            });
            rest = later;
        }
    }
}

pub fn probe_seeds() -> Vec<Vec<u8>> {
    let mut gpt = vec![64; 1 + 4096];
    gpt[1 + 510..1 + 512].copy_from_slice(&[0x55, 0xaa]);
    gpt[1 + 450] = 0xee;
    gpt[1 + 512..1 + 520].copy_from_slice(b"EFI PART");
    let mut ext4 = vec![0; 1 + 4096];
    ext4[1 + 1024 + 56..1 + 1024 + 58].copy_from_slice(&[0x53, 0xef]);
    vec![gpt, ext4, [&[9u8][..], b"LUKS\xba\xbe"].concat()]
}

/// Both old structures, from any bytes and from bytes that look right.
pub fn legacy(data: &[u8]) {
    for table in [LegacyTable::v3(data), LegacyTable::v4_real(data)] {
        count(table.ok(), data.len());
    }
    let mut v3 = data.to_vec();
    v3.resize(V3_BYTES, 0);
    count(LegacyTable::v3(&v3).ok(), V3_BYTES);
    let v4 = sealed_v4(data);
    match LegacyTable::v4_real(&v4) {
        Err(fault) => assert!(matches!(fault, LegacyFault::Count(_)), "{fault:?}"),
        table => count(table.ok(), V4_REAL_BYTES),
    }
    let copies = [Some(data), None, Some(&v3[..]), Some(&v4[..]), Some(&data[data.len() / 2..])];
    count(LegacyTable::v4_real_best(copies).ok(), data.len().max(V4_REAL_BYTES));
}

/// What a byte contributes to a CRC-32.
const CRC32: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// The historical v4 with these bytes, its magic number, its size and its checksum.
fn sealed_v4(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(V4_REAL_BYTES, 0);
    bytes[..8].copy_from_slice(&[0x34, 0x52, 0x4d, 0x44, 4, 0, 0, 0]);
    bytes[32..36].copy_from_slice(&(V4_REAL_BYTES as u32).to_le_bytes());
    let covered = bytes[..24].iter().chain(&bytes[28..]);
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ CRC32[usize::from(crc as u8 ^ byte)];
    let crc = covered.fold(0u32, step);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn count(table: Option<LegacyTable<'_>>, bytes: usize) {
    let Some(table) = table else { return };
    let entries = table.entries().inspect(|entry| drop(format!("{entry:?}"))).count();
    assert!(entries * 16 <= bytes, "{entries} entries in {bytes} bytes");
}

pub fn legacy_seeds() -> Vec<Vec<u8>> {
    let mut v3 = vec![0; V3_BYTES];
    v3[..8].copy_from_slice(b"DMREMAP3");
    v3[8] = 1;
    v3[32] = 3;
    let mut v4 = sealed_v4(&[]);
    v4[296] = 2;
    // The checksum is made again by the target; the short one is what it is grown from.
    v4.truncate(400);
    vec![v3, v4]
}
