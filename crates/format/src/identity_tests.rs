// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use crate::header_rows::IdentityRow;
use std::vec;
use std::vec::Vec;

const SURE: Doubts = Doubts { usb_bridge: false, seen_twice: false, partial: false };
const USB: Doubts = Doubts { usb_bridge: true, ..SURE };

fn wwn(value: &[u8], doubts: Doubts) -> Hardware {
    Hardware::new(HardwareKind::Wwn, &[value], doubts).unwrap()
}

fn serial(value: &[u8], doubts: Doubts) -> Hardware {
    Hardware::new(HardwareKind::SerialModel, &[value, b"MODEL"], doubts).unwrap()
}

fn content(sector: u64, uuid: u8) -> Content {
    Content { kind: Signature::Ext, sector, in_partition: false, uuid: Uuid([uuid; 16]) }
}

fn judged(
    stored: &[Hardware],
    seen: &[Hardware],
    content: Compared,
    accept: Option<Accept>,
) -> Judgement {
    let of = |hardware| Identity { sectors: 1000, block_bytes: 512, hardware };
    judge(&of(stored), &of(seen), content, accept)
}

const COMPARED: [Compared; 3] = [Compared::Equal, Compared::Differs, Compared::Nothing];
const ACCEPT: [Option<Accept>; 3] = [None, Some(Accept::Same), Some(Accept::Copy)];

/// What one identifier can be on either side: missing, A or B, each proof or weak.
const SIDE: [Option<(u8, bool)>; 5] =
    [None, Some((b'A', true)), Some((b'B', true)), Some((b'A', false)), Some((b'B', false))];

/// What a partition can be: the whole disk, or start and PARTUUID.
const PARTITIONS: [Option<(u64, u8)>; 4] =
    [None, Some((8, b'p')), Some((8, b'q')), Some((9, b'p'))];

type Case = ([Option<(u8, bool)>; 2], Option<(u64, u8)>);

fn hardware((ids, partition): Case) -> Vec<Hardware> {
    let doubts = |proof: bool| if proof { SURE } else { USB };
    let [w, s] = ids;
    let mut all = Vec::new();
    all.extend(w.map(|(id, proof)| wwn(&[b'x', id, b'1'], doubts(proof))));
    all.extend(s.map(|(id, proof)| serial(&[b'y', id, b'2'], doubts(proof))));
    all.extend(partition.map(|(start, uuid)| Hardware::partition(start, &[uuid])));
    all
}

/// The rules once more, as plain questions.
fn expected(stored: Case, seen: Case, content: Compared, accept: Option<Accept>) -> Judgement {
    let pairs = || (0..2).filter_map(|i| Some((i, stored.0[i]?, seen.0[i]?)));
    let kind = |i| [HardwareKind::Wwn, HardwareKind::SerialModel][i];
    let conflict = pairs().find(|(_, a, b)| a.1 && b.1 && a.0 != b.0).map(|(i, _, _)| kind(i));
    let same_partition = stored.1 == seen.1;
    let moved_partition = stored.1.map(|p| p.0) != seen.1.map(|p| p.0);
    let conflict = conflict.or(moved_partition.then_some(HardwareKind::Partition));
    let proved = pairs().any(|(_, a, b)| a == b && a.1) && same_partition;
    let weak_equal = pairs().any(|(_, a, b)| a.0 == b.0 && !(a.1 && b.1));
    let weak_differs = pairs().any(|(_, a, b)| a.0 != b.0 && !(a.1 && b.1)) || !same_partition;
    match (conflict, accept) {
        (Some(_), Some(Accept::Copy)) => Judgement::Moved { accept: Accept::Copy, content },
        (Some(kind), _) => Judgement::ProofDiffers(kind),
        (None, Some(Accept::Copy)) if proved => Judgement::NotACopy,
        (None, _) if proved => Judgement::Same { proved: true, content },
        (None, Some(accept)) => Judgement::Moved { accept, content },
        (None, None) => match content {
            Compared::Differs => Judgement::Ask(Why::ContentDiffers),
            Compared::Nothing => Judgement::Ask(Why::Nothing),
            Compared::Equal if weak_differs => Judgement::Ask(Why::WeakDiffers),
            Compared::Equal if weak_equal => Judgement::Same { proved: false, content },
            Compared::Equal => Judgement::Ask(Why::ContentAlone),
        },
    }
}

#[test]
fn every_combination_of_evidence_is_judged_by_the_rules() {
    let mut cases = Vec::new();
    for a in SIDE {
        for b in SIDE {
            for p in PARTITIONS {
                cases.push(([a, b], p));
            }
        }
    }
    let (mut count, mut main) = (0, 0);
    for &stored in &cases {
        for &seen in &cases {
            for compared in COMPARED {
                for accept in ACCEPT {
                    let got = judged(&hardware(stored), &hardware(seen), compared, accept);
                    let want = expected(stored, seen, compared, accept);
                    assert_eq!(got, want, "{stored:?} {seen:?} {compared:?} {accept:?}");
                    count += 1;
                    main += u32::from(got.is_main());
                    // Nobody was asked, nothing was proved and the content is another: never main.
                    if accept.is_none() && compared != Compared::Equal {
                        let by_proof = matches!(got, Judgement::Same { proved: true, .. });
                        assert!(by_proof || !got.is_main());
                    }
                    assert!(!got.words().is_empty());
                }
            }
        }
    }
    assert_eq!(count, 100 * 100 * 9);
    assert!(main > 10_000 && main < count);
}

#[test]
fn size_and_blocks_must_agree_whatever_is_proved_or_said() {
    let hw = [wwn(b"naa.5000c500a1b2c3d4", SURE)];
    let of = |sectors, block_bytes| Identity { sectors, block_bytes, hardware: &hw };
    for accept in ACCEPT {
        for compared in COMPARED {
            assert_eq!(
                judge(&of(1000, 512), &of(1001, 512), compared, accept),
                Judgement::SizeDiffers { stored: 1000, seen: 1001 }
            );
            assert_eq!(
                judge(&of(1000, 512), &of(1000, 4096), compared, accept),
                Judgement::BlockSizeDiffers { stored: 512, seen: 4096 }
            );
        }
    }
    let larger = judge(&of(1000, 4096), &of(1000, 512), Compared::Equal, None);
    assert!(larger.is_main(), "a volume made with larger blocks than main's own");
}

#[test]
fn a_file_is_proof_where_it_is_and_no_disproof_elsewhere() {
    let file = Hardware::file(&[7; 16], 12, 99);
    let elsewhere = Hardware::file(&[8; 16], 12, 99);
    let no_birth = Hardware::file(&[7; 16], 12, 0);
    assert!(file.is_proof() && !no_birth.is_proof());
    assert!(judged(&[file], &[file], Compared::Differs, None).is_main());
    assert_eq!(
        judged(&[file], &[elsewhere], Compared::Equal, None),
        Judgement::Ask(Why::ContentAlone)
    );
    assert!(judged(&[file], &[elsewhere], Compared::Equal, Some(Accept::Same)).is_main());
}

#[test]
fn what_tells_nothing_is_no_proof() {
    for value in [
        "naa.0000000000000000",
        "0x00",
        "eui.ffffffffffffffff",
        "AAAA",
        "0123456789",
        "NONE",
        "To Be Filled By O.E.M.",
        "QM00001",
        "-",
        "...",
    ] {
        let id = Hardware::new(HardwareKind::Wwn, &[value.as_bytes()], SURE).unwrap();
        assert!(!id.is_proof(), "{value}");
    }
    for value in ["naa.5000c500a1b2c3d4", "WD-WCC4N1234567", "S3Z8NB0K123456"] {
        assert!(serial(value.as_bytes(), SURE).is_proof(), "{value}");
        assert!(!serial(value.as_bytes(), USB).is_proof());
        let twice = Doubts { seen_twice: true, ..SURE };
        assert!(!serial(value.as_bytes(), twice).is_proof());
        assert!(!serial(value.as_bytes(), Doubts { partial: true, ..SURE }).is_proof());
    }
    for empty in [&b""[..], b"   ", b"\0\0", b" \0\n"] {
        assert_eq!(Hardware::new(HardwareKind::Wwn, &[empty], SURE), None);
    }
    assert_eq!(Hardware::new(HardwareKind::Wwn, &[], SURE), None);
    assert!(!Hardware::partition(2048, b"abcd-01").is_proof());
}

#[test]
fn identifiers_are_compared_without_what_does_not_belong_to_them() {
    let equal = |a: &[u8], b: &[u8]| wwn(a, SURE).equals(&wwn(b, SURE));
    assert!(equal(b" naa.5000C500A1B2C3D4\n", b"naa.5000c500a1b2c3d4"));
    assert!(!equal(b"naa.5000c500a1b2c3d4", b"naa.5000c500a1b2c3d5"));
    // Upper and lower case of a serial number are two serial numbers.
    assert!(!serial(b"abc1", SURE).equals(&serial(b"ABC1", SURE)));
    let one = Hardware::new(HardwareKind::SerialModel, &[b"AB", b"C"], SURE).unwrap();
    let other = Hardware::new(HardwareKind::SerialModel, &[b"A", b"BC"], SURE).unwrap();
    assert!(!one.equals(&other));
}

#[test]
fn a_long_identifier_differs_wherever_it_differs() {
    let long: Vec<u8> = (0..200u8).map(|i| b'a' + i % 23).collect();
    let id = |bytes: &[u8]| Hardware::new(HardwareKind::DmUuid, &[bytes], SURE).unwrap();
    for len in 1..=200 {
        let whole = id(&long[..len]);
        assert_eq!(whole.value().len(), len.min(64));
        assert!(whole.equals(&id(&long[..len])));
        for i in 0..len {
            let mut other = long[..len].to_vec();
            other[i] = b'!';
            assert!(!whole.equals(&id(&other)), "length {len} byte {i}");
        }
        if len > 1 {
            assert!(!whole.equals(&id(&long[..len - 1])), "length {len}");
        }
    }
    // What looks like a folded value and is a short one is another identifier.
    let folded = id(&long);
    assert!(!folded.equals(&id(folded.value())));
}

#[test]
fn rows_of_a_header_come_back_as_they_went() {
    let long = [b'z'; 150];
    for hardware in [
        wwn(b"naa.5000c500a1b2c3d4", SURE),
        serial(b"WD-1234", USB),
        Hardware::new(HardwareKind::DmUuid, &[&long], SURE).unwrap(),
        Hardware::partition(2048, b"0a1b2c3d-01"),
        Hardware::partition(2048, b""),
        Hardware::file(&[3; 16], u64::MAX, 1),
    ] {
        assert_eq!(Hardware::from_row(&hardware.row()), Some(hardware));
        assert!(hardware.row().value.len() <= 64);
    }
    for kind in [0u8, 9, 255] {
        assert_eq!(Hardware::from_row(&IdentityRow { kind, flags: 1, value: b"x1" }), None);
    }
    assert_eq!(Hardware::from_row(&IdentityRow { kind: 1, flags: 1, value: b"" }), None);
    assert_eq!(Hardware::from_row(&IdentityRow { kind: 1, flags: 1, value: &[1; 65] }), None);
    let row = IdentityRow { kind: 1, flags: 0xff, value: b"x1" };
    assert!(Hardware::from_row(&row).is_some_and(|hardware| hardware.row().flags == 3));
    for sector in [0, 1, 2048, u64::from(u32::MAX), 1 << 32, (1 << 48) - 1] {
        for in_partition in [false, true] {
            let one = Content { in_partition, ..content(sector, 5) };
            assert_eq!(Content::from_row(&one.row()), Some(one));
        }
    }
    assert_eq!(Content::from_row(&ContentRow { kind: 0x7fff, ..content(0, 1).row() }), None);
}

#[test]
fn contents_are_compared_without_what_is_hidden() {
    let (a, b, c) = (content(2, 1), content(128, 2), content(2048, 3));
    let open = |_: &Content| false;
    assert_eq!(compare(&[a, b], &[b, a], open), Compared::Equal);
    assert_eq!(compare(&[a, b], &[a], open), Compared::Differs);
    assert_eq!(compare(&[a], &[a, b], open), Compared::Differs);
    assert_eq!(compare(&[a], &[content(2, 9)], open), Compared::Differs);
    assert_eq!(compare(&[a], &[content(3, 1)], open), Compared::Differs);
    assert_eq!(compare(&[], &[], open), Compared::Nothing);
    let hides = |sector: u64| move |content: &Content| content.sector == sector;
    assert_eq!(compare(&[a, b], &[a], hides(128)), Compared::Equal);
    assert_eq!(compare(&[b], &[], hides(128)), Compared::Nothing);
    assert_eq!(compare(&[a, b], &[content(2, 9)], hides(128)), Compared::Differs);
    // A block stored while it could not be read, readable now: new, and not hidden.
    assert_eq!(compare(&[a], &[a, c], hides(128)), Compared::Differs);
}

#[test]
fn only_the_thing_itself_identifies() {
    let found = Found {
        kind: Signature::Btrfs,
        offset: 65_536,
        in_partition: true,
        copy: false,
        uuid: Some(Uuid([4; 16])),
    };
    let want =
        Content { kind: Signature::Btrfs, sector: 128, in_partition: true, uuid: Uuid([4; 16]) };
    assert_eq!(Content::of(&found), Some(want));
    assert_eq!(Content::of(&Found { copy: true, ..found }), None);
    assert_eq!(Content::of(&Found { uuid: None, ..found }), None);
    assert_eq!(Content::of(&Found { offset: 1 << 57, ..found }), None);
}

#[test]
fn random_rows_make_no_trouble() {
    const SEED: u64 = 0x1d;
    std::eprintln!("seed {SEED:#x}");
    let mut state = SEED;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut known: Vec<Hardware> = vec![];
    for _ in 0..20_000 {
        let len = (next() % 66) as usize;
        let value: Vec<u8> = (0..len).map(|_| next() as u8).collect();
        let kind = (next() % 12) as u8;
        let row = IdentityRow { kind, flags: next() as u8, value: &value };
        let hardware = Hardware::from_row(&row);
        assert_eq!(hardware.is_some(), (1..=8).contains(&kind) && (1..=64).contains(&len));
        known.extend(hardware);
        let row = ContentRow {
            kind: next() as u16,
            flags: next() as u16,
            place: next() as u32,
            uuid: Uuid([1; 16]),
        };
        if let Some(content) = Content::from_row(&row) {
            assert_eq!(content.row(), row);
        }
    }
    for pair in known.windows(16) {
        let (stored, seen) = pair.split_at(8);
        judged(stored, seen, Compared::Equal, None);
        // The same rows on both sides are never another disk.
        assert!(!matches!(
            judged(stored, stored, Compared::Equal, None),
            Judgement::ProofDiffers(_)
        ));
    }
}
