// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use std::string::{String, ToString};

fn value(setting: Setting) -> String {
    let mut buf = [0u8; 64];
    let mut text = Text::new(&mut buf);
    setting.write_value(&mut text);
    text.as_str().to_string()
}

/// A snapshot holding `text`.
fn snapshot(text: &str) -> [u8; SNAPSHOT_BYTES] {
    let mut bytes = [0u8; SNAPSHOT_BYTES];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

#[test]
fn numbers_are_decimal_or_hexadecimal_and_nothing_else() {
    for (word, want) in [
        ("0", Some(0)),
        ("007", Some(7)),
        ("0x10", Some(16)),
        ("0Xff", Some(255)),
        ("18446744073709551615", Some(u64::MAX)),
        ("0xffffffffffffffff", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("0x10000000000000000", None),
        ("", None),
        ("0x", None),
        ("-1", None),
        ("+1", None),
        ("1 ", None),
        ("1_000", None),
        ("12a", None),
        ("0xg", None),
        ("x10", None),
        ("1.5", None),
        ("\u{661}", None),
    ] {
        assert_eq!(number(word.as_bytes()), want, "{word:?}");
    }
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let s = Settings::default();
    assert_eq!((s.read_retries(), s.retry_backoff_ms()), (3, 100));
    assert_eq!((s.recovery_limit_ms(), s.probe_timeout_ms()), (30_000, 5_000));
    assert_eq!((s.pending_read_retry(), s.auto_remap(), s.latency()), (false, true, false));
    assert_eq!(s.debug_level(), 0);
    for key in Key::ALL {
        assert_eq!(Setting::new(key, s.get(key).value()), Some(s.get(key)), "{}", key.name());
    }
}

#[test]
fn every_legal_value_is_taken_and_no_other() {
    for key in Key::ALL {
        let (low, high) = match key.legal() {
            Legal::Range(low, high) => (low, high),
            Legal::Words(zero, one) => {
                assert_eq!(Setting::parse(key, zero.as_bytes()), Setting::new(key, 0));
                assert_eq!(Setting::parse(key, one.as_bytes()), Setting::new(key, 1));
                for word in ["0", "1", "", "YES", "true"] {
                    assert_eq!(Setting::parse(key, word.as_bytes()), None);
                }
                (0, 1)
            }
        };
        for candidate in [low, high, (low + high) / 2, low.wrapping_sub(1), high + 1, u32::MAX] {
            let legal = candidate >= low && candidate <= high;
            let setting = Setting::new(key, candidate);
            assert_eq!(setting.is_some(), legal, "{} {candidate}", key.name());
            let Some(setting) = setting else { continue };
            let mut settings = Settings::default();
            let changed = settings.get(key) != setting;
            assert_eq!(settings.set(setting), changed);
            assert_eq!(settings.get(key), setting);
            assert_eq!(Setting::parse(key, value(setting).as_bytes()), Some(setting));
            for other in Key::ALL.into_iter().filter(|&other| other != key) {
                assert_eq!(settings.get(other), Settings::default().get(other));
            }
        }
        if let Legal::Range(_, high) = key.legal() {
            let beyond = (u64::from(high) + 1).to_string();
            assert_eq!(Setting::parse(key, beyond.as_bytes()), None);
            // 2^32 + low must not wrap into the range.
            assert_eq!(Setting::parse(key, b"4294967299"), None);
        }
        assert_eq!(Key::from_name(key.name().as_bytes()), Some(key));
        assert!(KEY_NAMES.contains(key.name()));
    }
    assert_eq!(Key::from_name(b"no_such_key"), None);
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let mut settings = Settings::default();
    let mut bytes = [0xffu8; SNAPSHOT_BYTES];
    let end = settings.to_snapshot(&mut bytes);
    assert_eq!(bytes.iter().position(|&b| b == 0), Some(end));
    assert_eq!(
        std::str::from_utf8(&bytes[..end]).unwrap(),
        "read_retries=3 retry_backoff_ms=100 recovery_limit_ms=30000 probe_timeout_ms=5000 \
         pending_read=fail auto_remap=yes latency=off debug_level=0"
    );
    assert!(bytes[end..].iter().all(|&b| b == 0));
    assert_eq!(Settings::from_snapshot(&bytes), (settings, 0));
    // The longest snapshot there can be: the highest value or longer word of every key.
    for key in Key::ALL {
        let longest = match key.legal() {
            Legal::Range(_, high) => high,
            Legal::Words(zero, one) => u32::from(one.len() > zero.len()),
        };
        settings.set(Setting::new(key, longest).unwrap());
    }
    settings.to_snapshot(&mut bytes);
    assert!(!bytes.ends_with(crate::text::MARKER.as_bytes()));
    assert_eq!(Settings::from_snapshot(&bytes), (settings, 0));
}

#[test]
fn a_hostile_snapshot_changes_nothing_but_what_is_legal_in_it() {
    let mut want = Settings::default();
    want.set(Setting::new(Key::ReadRetries, 7).unwrap());
    let bytes = snapshot("read_retries=7 debug_level=4  scan_interval=5 latency =on= pending_read");
    assert_eq!(Settings::from_snapshot(&bytes), (want, 5));
    assert_eq!(Settings::from_snapshot(&[]), (Settings::default(), 0));
    assert_eq!(Settings::from_snapshot(&[0; 256]), (Settings::default(), 0));
    let (settings, unknown) = Settings::from_snapshot(&[0xff; 256]);
    assert_eq!((settings, unknown), (Settings::default(), 1));
    let after_the_end = snapshot("latency=on\0debug_level=3");
    assert_eq!(Settings::from_snapshot(&after_the_end).0.debug_level(), 0);
    assert!(Settings::from_snapshot(&after_the_end).0.latency());
}

#[test]
fn random_snapshots_never_set_what_is_illegal() {
    const SEED: u64 = 0x5e7;
    std::eprintln!("seed {SEED:#x}");
    let mut state = SEED;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut changed = 0;
    for _ in 0..20_000 {
        let mut bytes = [0u8; SNAPSHOT_BYTES];
        Settings::default().to_snapshot(&mut bytes);
        for _ in 0..next() % 8 {
            // Digits where digits are, so that many snapshots stay readable, and anything anywhere.
            let at = (next() % 140) as usize;
            let digit = bytes[at].is_ascii_digit();
            bytes[at] = if digit { b'0' + (next() % 10) as u8 } else { bytes[at] };
            if next() % 8 == 0 {
                bytes[(next() % 140) as usize] = next() as u8;
            }
        }
        let (settings, _) = Settings::from_snapshot(&bytes);
        for key in Key::ALL {
            let now = settings.get(key);
            assert_eq!(Setting::new(key, now.value()), Some(now), "{}", key.name());
        }
        changed += u32::from(settings != Settings::default());
    }
    assert!(changed > 1_000, "{changed}");
}
