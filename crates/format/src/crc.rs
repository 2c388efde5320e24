// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! CRC32C (Castagnoli, reflected polynomial 0x82F63B78, RFC 3720 appendix B.4), eight bytes a step.
//!
//! Slicing-by-8: table `k` holds what a byte contributes when `k` more bytes follow it in the same
//! step, so that eight look-ups replace eight dependent ones. The tables are built by the compiler.
//! No special instruction is used: the same code runs in the kernel, where the vector unit is not
//! ours.

/// The Castagnoli polynomial, bit-reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

static TABLES: [[u32; 256]; 8] = build();

// Runs in the compiler only, where an index out of range or an overflow is a compile error.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn build() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// The entry of a table for the lowest byte of `word`. The index is below 256 by its type, so the
/// other arm does not survive compilation.
#[inline(always)]
fn look(table: &[u32; 256], word: u32) -> u32 {
    match table.get(usize::from(word as u8)) {
        Some(value) => *value,
        None => 0,
    }
}

/// The CRC32C of `data`, continuing from `seed`.
///
/// `seed` 0 begins a plain CRC32C; the result of one call as the seed of the next gives the CRC of
/// both pieces joined. Any other number is a salt: pages of different kinds use different ones.
#[must_use]
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let mut crc = !seed;
    let mut rest = data;
    while let Some((&[a, b, c, d, e, f, g, h], tail)) = rest.split_first_chunk::<8>() {
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        let high = u32::from_le_bytes([e, f, g, h]);
        crc = look(t7, low)
            ^ look(t6, low >> 8)
            ^ look(t5, low >> 16)
            ^ look(t4, low >> 24)
            ^ look(t3, high)
            ^ look(t2, high >> 8)
            ^ look(t1, high >> 16)
            ^ look(t0, high >> 24);
        rest = tail;
    }
    for byte in rest {
        crc = (crc >> 8) ^ look(t0, crc ^ u32::from(*byte));
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit at a time, straight from the definition.
    fn slow(seed: u32, data: &[u8]) -> u32 {
        let mut crc = !seed;
        for byte in data {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn vectors_of_rfc_3720() {
        assert_eq!(crc32c(0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62A8_AB43);
        let up: [u8; 32] = core::array::from_fn(|i| i as u8);
        let down: [u8; 32] = core::array::from_fn(|i| 31 - i as u8);
        assert_eq!(crc32c(0, &up), 0x46DD_794E);
        assert_eq!(crc32c(0, &down), 0x113F_DB5C);
        assert_eq!(crc32c(0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn every_length_and_cut_agrees_with_the_definition() {
        let data: [u8; 67] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        for len in 0..=data.len() {
            for seed in [0, 1, 0xdead_beef] {
                assert_eq!(crc32c(seed, &data[..len]), slow(seed, &data[..len]));
            }
            for cut in 0..=len {
                let joined = crc32c(crc32c(0, &data[..cut]), &data[cut..len]);
                assert_eq!(joined, crc32c(0, &data[..len]));
            }
        }
    }
}
