// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who is at work: the host, its boot, and this session of a volume.

use std::path::Path;

use dmremap_format::Uuid;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

/// This host: the first 16 bytes of SHA-256 over the text of `/etc/machine-id` (trimmed) followed
/// by `dm-remap`, so that the machine's own identifier is not written anywhere. All zero where the
/// host has none.
#[must_use]
pub fn host_id() -> Uuid {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| host_id_from(Path::new(path)))
        .unwrap_or_default()
}

fn host_id_from(path: &Path) -> Option<Uuid> {
    let text = std::fs::read_to_string(path).ok()?;
    let machine = text.trim();
    if machine.is_empty() || machine == "uninitialized" {
        return None;
    }
    let digest = Sha256::new().chain_update(machine).chain_update("dm-remap").finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Some(Uuid(id))
}

/// This boot of the kernel; all zero where it cannot be told.
#[must_use]
pub fn boot_id() -> Uuid {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| parse_uuid(text.trim()))
        .unwrap_or_default()
}

/// A new random UUID (RFC 9562, version 4): a session, a volume, a spare.
///
/// # Errors
/// The kernel's random numbers cannot be read.
pub fn random_uuid() -> Result<Uuid, rustix::io::Errno> {
    let mut id = [0u8; 16];
    let mut have = 0;
    while have < id.len() {
        have += match getrandom(&mut id[have..], GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => 0,
            other => other?,
        };
    }
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    Ok(Uuid(id))
}

/// A UUID from its text: 32 hexadecimal digits, with hyphens or without.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let mut id = [0u8; 16];
    let mut digits = 0usize;
    for c in text.chars().filter(|c| *c != '-') {
        let digit = c.to_digit(16)? as u8;
        let byte = id.get_mut(digits / 2)?;
        *byte = (*byte << 4) | digit;
        digits += 1;
    }
    (digits == 32).then_some(Uuid(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_id_is_the_documented_digest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("machine-id");
        std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let want = Sha256::digest(b"0123456789abcdef0123456789abcdefdm-remap");
        assert_eq!(host_id_from(&file).unwrap().0, want[..16]);
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(host_id_from(&file), None);
        assert_eq!(host_id_from(&dir.path().join("none")), None);
    }

    #[test]
    fn uuids_parse_and_differ() {
        let id = parse_uuid("01234567-89ab-cdef-0123-456789ABCDEF").unwrap();
        assert_eq!(id.0[..4], [1, 0x23, 0x45, 0x67]);
        assert_eq!(parse_uuid("0123"), None);
        assert_eq!(parse_uuid("0123456789abcdef0123456789abcdef00"), None);
        let (a, b) = (random_uuid().unwrap(), random_uuid().unwrap());
        assert_ne!(a, b);
        assert_eq!((a.0[6] >> 4, a.0[8] >> 6), (4, 2));
    }

    #[test]
    fn boot_id_is_stable() {
        assert_eq!(boot_id(), boot_id());
    }
}
