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

/// Bytes from what a person writes: a whole number and its unit. The units are those of 1024,
/// `K M G T P` or `KiB MiB GiB TiB PiB`, besides `B` for bytes and `s` for sectors of 512 bytes. A
/// number alone is refused, since it is sectors to one program and bytes to the next.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const LEGAL: &str = "a size is a whole number with its unit: 64M or 64MiB (also K, G, T, P), \
                         131072s for sectors, 67108864B for bytes";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "B" => 1,
        "s" => 512,
        _ => {
            let power = unit.strip_suffix("iB").unwrap_or(unit);
            match ["K", "M", "G", "T", "P"].iter().position(|one| *one == power) {
                Some(index) => 1 << (10 * (index + 1)),
                None => return Err(LEGAL.to_owned()),
            }
        }
    };
    let number: u64 = number.parse().map_err(|_| LEGAL.to_owned())?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes <= i64::MAX as u64);
    match bytes {
        Some(bytes) if bytes > 0 && bytes % 512 == 0 => Ok(bytes),
        Some(_) => Err("a size is one sector of 512 bytes or a multiple of it".to_owned()),
        None => Err("no file is that large".to_owned()),
    }
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
    fn sizes_are_understood_or_refused() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("4K", 4096),
            ("1KiB", 1024),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
            ("1PiB", 1 << 50),
            ("8191P", 8191 << 50),
            ("22544s", 11_542_528),
            ("512B", 512),
            ("007M", 7 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "64",
            "64m",
            "64 M",
            "64MB",
            "64Mi",
            "64iB",
            "-1M",
            "+1M",
            "1.5G",
            "0M",
            "0s",
            "511B",
            "8192P",
            "18446744073709551616B",
            "99999999999999999999T",
            "64M ",
            "0x40M",
        ] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

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
