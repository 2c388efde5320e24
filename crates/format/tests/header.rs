// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Invariants checked: what is set comes back; what exceeds its cap is refused and changes nothing;
//! a sealed header with any field out of range is no valid header; whatever bytes a checked header
//! holds, no getter panics or gives a value out of range.

mod common;

use common::*;
use dmremap_format::{
    ContentRow, CopyIndex, Extension, FLAG_STRICT_SPARE_SIZE, Fence, Field, Header, HeaderMut,
    Health, IdentityRow, LayoutError, Member, MemberState, NewHeader, PageBytes, PageFault, Role,
    Session, State, Uuid, at::header as at, at::member, is_volume_name,
};
use proptest::prelude::*;

#[test]
fn what_is_set_comes_back() {
    let bytes = sealed_header(4);
    let header = Header::check(&bytes, CopyIndex(4)).unwrap();
    assert_eq!((header.volume(), header.spare(), header.holder()), (VOLUME, SPARE, SPARE));
    assert_eq!((header.stamp(), header.copy()), (STAMP, CopyIndex(4)));
    assert_eq!((header.version(), header.compat(), header.incompat()), ((4, 1), 0, 0));
    assert_eq!((header.timestamp(), header.created_at()), (1_767_225_600, 1_767_225_000));
    assert_eq!((header.spare_index(), header.next_index()), (0, 3));
    assert_eq!(header.flags(), FLAG_STRICT_SPARE_SIZE);
    assert_eq!((header.role(), header.state(), header.fence()), (Role::Table, State::Dirty, None));
    let session = Session {
        host: Uuid(*b"host-id-00000001"),
        boot: Uuid(*b"boot-id-00000001"),
        session: Uuid(*b"session-00000001"),
        opened_at: 1_767_225_500,
    };
    assert_eq!(header.session(), session);
    assert!(header.crc_clean());
    assert_eq!((header.main_sectors(), header.block_bytes()), (MAIN_SECTORS, 512));
    assert_eq!(header.layout(), Ok(layout()));
    assert_eq!(header.name(), "old-disk.1");
    assert_eq!(header.hint(), b"/dev/disk/by-id/ata-OLD_DISK_1");
    assert_eq!(header.parameters(), b"read_retries 3");
    assert_eq!(header.settings(), b"recovery_limit_ms=30000");
    assert_eq!(&header.fingerprint(), b"fingerprint-fingerprint-finger-1");
    let members: Vec<_> = (0..9).map(|row| header.member(row)).collect();
    let mut want = vec![None; 9];
    want[0] = Some(member(SPARE, 0, MemberState::Ok));
    want[2] = Some(member(OTHER, 2, MemberState::Away));
    assert_eq!(members, want);
    let first = IdentityRow { kind: 1, flags: 1, value: b"0x5000c500a1b2c3d4" };
    assert_eq!(header.identity(0), Some(first));
    let last = IdentityRow { kind: 2, flags: 0, value: &[b'x'; 64] };
    assert_eq!(
        (header.identity(1), header.identity(7), header.identity(8)),
        (None, Some(last), None)
    );
    assert_eq!((header.content(0), header.content(15)), (Some(content(3)), Some(content(9))));
    assert_eq!((header.content(1), header.content(16)), (None, None));
    assert_eq!(header.content_at(), 1_767_225_400);
    assert_eq!(header.health(), Some(health()));
    assert_eq!(header.extension(0), Some(extension(3072, 8)));
    assert_eq!(header.extension(11), Some(extension(5120, 3072)));
    assert_eq!((header.extension(1), header.extension(12)), (None, None));
}

#[test]
fn a_new_header_is_clean_and_empty() {
    let mut bytes = page();
    HeaderMut::blank(&mut bytes, &new_header()).unwrap().seal(CopyIndex(0), STAMP);
    let header = Header::check(&bytes, CopyIndex(0)).unwrap();
    assert_eq!((header.state(), header.role()), (State::Clean, Role::Table));
    assert_eq!((header.name(), header.hint()), ("", &[][..]));
    assert_eq!(header.session(), Session::default());
    assert!(!header.crc_clean());
    assert!((0..8).all(|row| header.member(row).is_none() && header.identity(row).is_none()));
    for (field, refused) in [
        (Field::Uuid, NewHeader { volume: Uuid::default(), ..new_header() }),
        (Field::Uuid, NewHeader { spare: Uuid::default(), ..new_header() }),
        (Field::MainSize, NewHeader { main_sectors: 0, ..new_header() }),
        (Field::MainSize, NewHeader { main_sectors: (1 << 47) + 1, ..new_header() }),
        (Field::MainSize, NewHeader { main_sectors: 12, block_bytes: 4096, ..new_header() }),
        (Field::BlockSize, NewHeader { block_bytes: 0, ..new_header() }),
        (Field::BlockSize, NewHeader { block_bytes: 1536, ..new_header() }),
        (Field::BlockSize, NewHeader { block_bytes: 8192, ..new_header() }),
    ] {
        assert_eq!(HeaderMut::blank(&mut bytes, &refused).unwrap_err(), field);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
    let largest = NewHeader { main_sectors: 1 << 47, ..new_header() };
    assert!(HeaderMut::blank(&mut bytes, &largest).is_ok());
}

#[test]
fn names_are_as_the_design_says() {
    for good in ["a", "A-z_0.9", "_", "controls", &"x".repeat(64)] {
        assert!(is_volume_name(good.as_bytes()), "{good}");
    }
    for bad in ["", ".a", "-a", "control", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
        assert!(!is_volume_name(bad.as_bytes()), "{bad:?}");
    }
}

type Change = fn(&mut HeaderMut<'_>) -> Result<(), Field>;

#[test]
fn setters_refuse_what_exceeds_its_cap() {
    let cases: [(Field, Change); 22] = [
        (Field::Name, |h| h.set_name("-")),
        (Field::Name, |h| h.set_name(&"x".repeat(65))),
        (Field::Hint, |h| h.set_hint(&[b'x'; 257])),
        (Field::Parameters, |h| h.set_parameters(&[b'x'; 513])),
        (Field::Settings, |h| h.set_settings(&[b'x'; 257])),
        (Field::State, |h| h.set_state(State::MovedTo(Uuid::default()))),
        (Field::Members, |h| h.set_next_index(2)),
        (Field::Members, |h| h.set_member(8, Some(&member(VOLUME, 1, MemberState::Ok)))),
        (Field::Members, |h| h.set_member(8, None)),
        (Field::Members, |h| h.set_member(1, Some(&member(SPARE, 1, MemberState::Ok)))),
        (Field::Members, |h| h.set_member(1, Some(&member(VOLUME, 2, MemberState::Ok)))),
        (Field::Members, |h| h.set_member(1, Some(&member(VOLUME, 3, MemberState::Ok)))),
        (Field::Members, |h| h.set_member(1, Some(&member(Uuid::default(), 1, MemberState::Ok)))),
        (Field::Identities, |h| h.set_identity(8, None)),
        (Field::Identities, |h| {
            h.set_identity(1, Some(IdentityRow { kind: 0, flags: 0, value: b"x" }))
        }),
        (Field::Identities, |h| {
            h.set_identity(1, Some(IdentityRow { kind: 1, flags: 0, value: &[b'x'; 65] }))
        }),
        (Field::Contents, |h| h.set_content(16, None)),
        (Field::Contents, |h| h.set_content(1, Some(&ContentRow { kind: 0, ..content(1) }))),
        (Field::Health, |h| h.set_health(&Health { score: 101, ..health() })),
        (Field::Health, |h| h.set_health(&Health { progress: 101, ..health() })),
        (Field::Extensions, |h| h.set_extension(12, None)),
        (Field::Extensions, |h| {
            h.set_extension(1, Some(&Extension { kind: 0, ..extension(3080, 8) }))
        }),
    ];
    for (number, (field, change)) in cases.into_iter().enumerate() {
        let mut bytes = full_header();
        assert_eq!(change(&mut HeaderMut::edit(&mut bytes)), Err(field), "case {number}");
        assert_eq!(bytes, full_header(), "case {number} changed the header");
    }
}

#[test]
fn setters_take_what_fits_exactly() {
    let mut bytes = full_header();
    let mut header = HeaderMut::edit(&mut bytes);
    header.set_name(&"x".repeat(64)).unwrap();
    header.set_hint(&[1; 256]).unwrap();
    header.set_parameters(&[2; 512]).unwrap();
    header.set_settings(&[3; 256]).unwrap();
    header.set_state(State::MovedTo(OTHER)).unwrap();
    header.set_member(0, None).unwrap();
    header.set_member(0, Some(&member(SPARE, 0, MemberState::Draining))).unwrap();
    header.set_member(2, Some(&member(OTHER, 2, MemberState::Ok))).unwrap();
    for (row, index) in [1, 3, 4, 5, 6, 7].into_iter().zip(3u8..) {
        header.set_next_index(u32::from(index) + 1).unwrap();
        let member = member(Uuid([index; 16]), u32::from(index), MemberState::Ok);
        header.set_member(row, Some(&member)).unwrap();
    }
    header.seal(CopyIndex(0), STAMP);
    let header = Header::check(&bytes, CopyIndex(0)).unwrap();
    assert_eq!((header.name().len(), header.hint().len()), (64, 256));
    assert_eq!((header.parameters().len(), header.settings().len()), (512, 256));
    assert_eq!(header.fence(), Some(Fence::MovedTo(OTHER)));
    assert!((0..8).all(|row| header.member(row).is_some()));
    // What was longer leaves nothing behind.
    let mut header = HeaderMut::edit(&mut bytes);
    header.set_hint(b"y").unwrap();
    header.set_state(State::Clean).unwrap();
    assert_eq!((header.view().hint(), header.view().fence()), (&b"y"[..], None));
    assert_eq!(bytes[at::HINT.at + 1..at::HINT.end()], [0; 255]);
    assert_eq!(bytes[at::MOVED_TO.at..at::MOVED_TO.end()], [0; 16]);
}

/// An extension area belongs in the reserved sectors: no page, no data, no wrap.
#[test]
fn extensions_lie_in_the_reserved_sectors() {
    let good = [(3072, 1024), (5120, 3072), (16 + 8 * 120, 8)];
    let bad =
        [(0, 8), (1024, 1), (3072, 1025), (9216, 8), (3072, 0), (u64::MAX, 8), (5120, u64::MAX)];
    for (sector, sectors) in good.into_iter().chain(bad) {
        let mut bytes = page();
        let layout = dmremap_format::Layout::new(131_072, 4096, Some(126 * 100)).unwrap();
        let mut header =
            HeaderMut::blank(&mut bytes, &NewHeader { layout, ..new_header() }).unwrap();
        let extension = Extension { length_bytes: 0, ..extension(sector, sectors) };
        let want = good.contains(&(sector, sectors));
        assert_eq!(header.set_extension(3, Some(&extension)).is_ok(), want, "{sector}+{sectors}");
    }
    // Row 0 has sectors 3072 to 3079.
    for (row, sector, want) in [(1, 3079, false), (1, 3080, true), (0, 3079, true)] {
        let mut bytes = full_header();
        let set = HeaderMut::edit(&mut bytes).set_extension(row, Some(&extension(sector, 8)));
        assert_eq!(set.is_ok(), want, "row {row} at {sector}");
    }
    let mut bytes = full_header();
    let long = Extension { length_bytes: 4097, ..extension(3080, 8) };
    let refused = HeaderMut::edit(&mut bytes).set_extension(1, Some(&long));
    assert_eq!(refused, Err(Field::Extensions));
}

/// Changes bytes of a good header and makes its checksum right again.
fn forged(change: impl Fn(&mut PageBytes)) -> Result<(), PageFault> {
    let mut bytes = sealed_header(0);
    change(&mut bytes);
    reseal(&mut bytes);
    Header::check(&bytes, CopyIndex(0)).map(|_| ())
}

#[test]
fn every_field_out_of_range_is_found() {
    assert_eq!(forged(|_| ()), Ok(()));
    let one = |at: usize, value: u8, want: PageFault| {
        assert_eq!(forged(|bytes| bytes[at] = value), Err(want), "byte {at} = {value}");
    };
    one(at::VERSION_MAJOR.at, 5, PageFault::Version(5, 1));
    one(at::VERSION_MINOR.at, 0, PageFault::Version(4, 0));
    one(at::FEATURES_INCOMPAT.at + 7, 0x80, PageFault::Feature(1 << 63));
    let field = |at: usize, value: u8, want: Field| one(at, value, PageFault::Field(want));
    for value in [0, 3, 255] {
        field(at::ROLE.at, value, Field::Role);
    }
    // Role data with a table.
    field(at::ROLE.at, 2, Field::Layout(LayoutError::Pages));
    for value in [0, 4, 8, 255] {
        field(at::STATE.at, value, Field::State);
    }
    field(at::MOVED_TO.at, 1, Field::State);
    field(at::CRC_CLEAN.at, 2, Field::CrcClean);
    field(at::NAME_LEN.at, 65, Field::Name);
    field(at::NAME_LEN.at, 11, Field::Name);
    field(at::NAME.at, b'/', Field::Name);
    field(at::HINT_LEN.at + 1, 2, Field::Hint);
    field(at::PARAMETERS_LEN.at + 1, 3, Field::Parameters);
    field(at::SETTINGS_LEN.at + 1, 2, Field::Settings);
    field(at::BLOCK_SIZE.at, 1, Field::BlockSize);
    field(at::MAIN_SECTORS.at + 7, 1, Field::MainSize);
    field(at::SPARE_PHYSICAL.at, 1, Field::Layout(LayoutError::PhysicalBlock { bytes: 4097 }));
    field(at::DATA_START.at, 1, Field::Layout(LayoutError::Places));
    field(at::DATA_START.at + 1, 0, Field::Layout(LayoutError::Places));
    field(at::TABLE_PAGES.at, 1, Field::Layout(LayoutError::Pages));
    field(at::TABLE_PAGES.at + 3, 1, Field::Layout(LayoutError::Pages));
    field(at::MAX_ENTRIES.at + 3, 1, Field::Layout(LayoutError::Pages));
    // An area on a header, over another area, in the data, at the end of all numbers.
    field(at::PLACES.at, 0, Field::Layout(LayoutError::Places));
    field(at::PLACES.at, 9, Field::Layout(LayoutError::Places));
    field(at::PLACES.at + 1, 4, Field::Layout(LayoutError::Places));
    field(at::PLACES.at + 2, 1, Field::Layout(LayoutError::Places));
    field(at::PLACES.at + 7, 0xff, Field::Layout(LayoutError::Places));
    field(at::PLACES.at + 8, 1, Field::Layout(LayoutError::Pages));
    field(at::HEALTH.at + 46, 101, Field::Health);
    field(at::HEALTH.at + 47, 101, Field::Health);
    field(at::IDENTITIES.at + 2, 65, Field::Identities);
    let row = at::MEMBERS.at;
    field(row + member::STATE.at, 0, Field::Members);
    field(row + member::STATE.at, 4, Field::Members);
    field(row + member::INDEX.at, 2, Field::Members);
    field(row + member::INDEX.at, 3, Field::Members);
    field(row + 64 + member::STATE.at, 1, Field::Members);
    field(at::EXTENSIONS.at + 9, 0, Field::Extensions);
    field(at::EXTENSIONS.at + 16, 0, Field::Extensions);
    field(at::EXTENSIONS.at + 6, 1, Field::Extensions);
    field(at::EXTENSIONS.at + 17, 8, Field::Extensions);
    let spare = forged(|bytes| bytes[at::SPARE.at..at::SPARE.end()].fill(0));
    assert_eq!(spare, Err(PageFault::Field(Field::Uuid)));
    let twice = forged(|bytes| {
        bytes.copy_within(row..row + 16, row + 128);
    });
    assert_eq!(twice, Err(PageFault::Field(Field::Members)));
    let shrunk = forged(|bytes| bytes[at::SPARE_SECTORS.at + 1..at::SPARE_SECTORS.end()].fill(0));
    let too_small = LayoutError::SpareTooSmall { needed_sectors: 11_272, sectors: 0 };
    assert_eq!(shrunk, Err(PageFault::Field(Field::Layout(too_small))));
}

/// A data member's header: no table, and valid.
#[test]
fn a_data_members_header_has_no_table() {
    let data = forged(|bytes| {
        bytes[at::ROLE.at] = 2;
        for field in [at::TABLE_PAGES, at::MAX_ENTRIES, at::PLACES] {
            bytes[field.at..field.end()].fill(0);
        }
    });
    assert_eq!(data, Ok(()));
}

/// Reads everything there is to read; what a checked header says is in range.
fn read_everything(header: &Header<'_>) {
    let layout = header.layout().unwrap();
    assert!(layout.spare_units() >= 1 && layout.gaps().count() >= 1);
    assert!(header.name().is_empty() || is_volume_name(header.name().as_bytes()));
    assert!(header.hint().len() <= 256 && header.parameters().len() <= 512);
    assert!(header.settings().len() <= 256);
    assert!(header.main_sectors() <= 1 << 47);
    assert!([512, 1024, 2048, 4096].contains(&header.block_bytes()));
    assert!(header.health().is_some_and(|h| h.score <= 100 && h.progress <= 100));
    for row in 0..20 {
        assert!(header.identity(row).is_none_or(|id| id.value.len() <= 64));
        let _: (Option<Member>, Option<ContentRow>) = (header.member(row), header.content(row));
        assert!(header.extension(row).is_none_or(|e| e.sector < layout.data_start()));
    }
    let _ = (header.state(), header.role(), header.session(), header.fingerprint());
}

proptest! {
    #![proptest_config(cases(4000))]

    /// Hostile headers with a right checksum: a few bytes changed anywhere behind the head.
    #[test]
    fn hostile_headers_never_panic(
        changes in proptest::collection::vec((64usize..3408, any::<u8>()), 1..6),
    ) {
        let mut bytes = sealed_header(0);
        for (at, value) in changes {
            bytes[at] = value;
        }
        reseal(&mut bytes);
        if let Ok(header) = Header::check(&bytes, CopyIndex(0)) {
            read_everything(&header);
        }
        // And without the check: nonsense, but no panic.
        let header = Header::of_image(&bytes);
        let _ = (header.layout(), header.name(), header.hint(), header.health(), header.state());
        for row in 0..20 {
            let _ = (header.member(row), header.identity(row), header.extension(row));
        }
    }

    /// Setters with anything: refused and unchanged, or taken, valid, and read back.
    #[test]
    fn texts_and_rows_round_trip(
        name in "[A-Za-z0-9_.-]{0,70}",
        hint in proptest::collection::vec(any::<u8>(), 0..300),
        value in proptest::collection::vec(any::<u8>(), 0..80),
        row in 0usize..10,
        kind in 0u8..3,
        sizes in (any::<u64>(), any::<u64>(), any::<u32>(), any::<u8>(), any::<u8>()),
    ) {
        let mut bytes = full_header();
        let mut header = HeaderMut::edit(&mut bytes);
        let named = header.set_name(&name).is_ok();
        prop_assert_eq!(named, name.is_empty() || is_volume_name(name.as_bytes()));
        let hinted = header.set_hint(&hint).is_ok();
        prop_assert_eq!(hinted, hint.len() <= 256);
        let identity = IdentityRow { kind, flags: 7, value: &value };
        let identified = header.set_identity(row, Some(identity)).is_ok();
        prop_assert_eq!(identified, row < 8 && kind != 0 && value.len() <= 64);
        let (cursor, errors_detected, interval_s, score, progress) = sizes;
        let health = Health { cursor, errors_detected, interval_s, score, progress, ..health() };
        let healthy = header.set_health(&health).is_ok();
        prop_assert_eq!(healthy, score <= 100 && progress <= 100);
        header.seal(CopyIndex(1), STAMP);
        let header = Header::check(&bytes, CopyIndex(1)).unwrap();
        read_everything(&header);
        prop_assert_eq!(header.name(), if named { name.as_str() } else { "old-disk.1" });
        if hinted {
            prop_assert_eq!(header.hint(), &hint[..]);
        }
        if identified {
            prop_assert_eq!(header.identity(row), Some(identity));
        }
        prop_assert_eq!(header.health(), Some(if healthy { health } else { common::health() }));
    }
}
