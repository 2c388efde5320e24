// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Numbers for people: sizes with IEC units, counts with their noun.

/// `bytes` with the largest IEC unit that leaves a whole part, two decimals at most.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (63 - (bytes | 1).leading_zeros() as usize) / 10;
    if power == 0 {
        return format!("{bytes} {}", if bytes == 1 { "byte" } else { "bytes" });
    }
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} {}", UNITS[power])
}

/// `sectors` as a size.
pub fn sectors(sectors: u64) -> String {
    match sectors.checked_mul(512) {
        Some(bytes) => size(bytes),
        None => format!("{sectors} sectors"),
    }
}

/// `n` and its noun, in the right number.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (4 << 20, "4 MiB"),
            (1 << 30, "1 GiB"),
            ((1 << 40) + (1 << 39), "1.5 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(sectors(8), "4 KiB");
        assert_eq!(sectors(u64::MAX), format!("{} sectors", u64::MAX));
        assert_eq!(
            (count(1, "block", "blocks"), count(2, "block", "blocks")),
            ("1 block".into(), "2 blocks".into())
        );
    }
}
