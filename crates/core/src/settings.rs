// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an administrator may set while a volume runs, and the form in which it is kept.
//!
//! The header of every copy has 256 bytes for a *snapshot*: `key=value` words with single spaces
//! between them, zero bytes after the last. A header comes from a disk, so a snapshot is read with
//! suspicion: a word that is unknown (a later version wrote it) or illegal is counted and its key
//! keeps the default; nothing in it makes an open fail.

use crate::text::Text;

/// Bytes the header has for the snapshot.
pub const SNAPSHOT_BYTES: usize = 256;

/// The names of all keys, for messages.
pub const KEY_NAMES: &str = "read_retries, retry_backoff_ms, recovery_limit_ms, probe_timeout_ms, \
                             pending_read, auto_remap, latency, debug_level";

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Key {
    /// How often what failed is read again, each time alone: 0 to 10, default 3.
    ReadRetries,
    /// Wait before the first such retry, doubled before each further one: 0 to 10,000 ms, default
    /// 100 ms.
    RetryBackoff,
    /// After this long nothing new is submitted for a recovery: 1,000 to 600,000 ms, default
    /// 30,000 ms.
    RecoveryLimit,
    /// How long one of a probe's three reads may take: 100 to 60,000 ms, default 5,000 ms.
    ProbeTimeout,
    /// Whether a read of a pending block fails at once (`fail`, the default) or asks the device
    /// again (`retry`).
    PendingRead,
    /// Whether a block that cannot be written is moved without being asked for: `yes` (default).
    AutoRemap,
    /// Whether latencies are measured, which costs two looks at the clock a request: `off`
    /// (default).
    Latency,
    /// How much is logged: 0 (default) to 3.
    DebugLevel,
}

/// What values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legal {
    /// A number from the first to the second.
    Range(u32, u32),
    /// One of two words, the one that stands for 0 first.
    Words(&'static str, &'static str),
}

impl Key {
    /// Every key, in the order they are shown and saved.
    pub const ALL: [Key; 8] = [
        Key::ReadRetries,
        Key::RetryBackoff,
        Key::RecoveryLimit,
        Key::ProbeTimeout,
        Key::PendingRead,
        Key::AutoRemap,
        Key::Latency,
        Key::DebugLevel,
    ];

    /// The name used in messages, tables and snapshots.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Key::ReadRetries => "read_retries",
            Key::RetryBackoff => "retry_backoff_ms",
            Key::RecoveryLimit => "recovery_limit_ms",
            Key::ProbeTimeout => "probe_timeout_ms",
            Key::PendingRead => "pending_read",
            Key::AutoRemap => "auto_remap",
            Key::Latency => "latency",
            Key::DebugLevel => "debug_level",
        }
    }

    /// The key of this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name().as_bytes() == name)
    }

    /// The values it takes.
    #[must_use]
    pub const fn legal(self) -> Legal {
        match self {
            Key::ReadRetries => Legal::Range(0, 10),
            Key::RetryBackoff => Legal::Range(0, 10_000),
            Key::RecoveryLimit => Legal::Range(1_000, 600_000),
            Key::ProbeTimeout => Legal::Range(100, 60_000),
            Key::PendingRead => Legal::Words("fail", "retry"),
            Key::AutoRemap => Legal::Words("no", "yes"),
            Key::Latency => Legal::Words("off", "on"),
            Key::DebugLevel => Legal::Range(0, 3),
        }
    }
}

/// A key and a legal value for it. Cannot be made with an illegal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    key: Key,
    value: u32,
}

impl Setting {
    /// `key` set to `value`; for keys that take words, 0 and 1 stand for them in the order of
    /// [`Key::legal`]. `None` if the value is not legal.
    #[must_use]
    pub const fn new(key: Key, value: u32) -> Option<Setting> {
        let (low, high) = match key.legal() {
            Legal::Range(low, high) => (low, high),
            Legal::Words(..) => (0, 1),
        };
        if value < low || value > high { None } else { Some(Setting { key, value }) }
    }

    /// `key` set to what `word` says: a number, decimal or `0x`, or one of the key's two words.
    #[must_use]
    pub fn parse(key: Key, word: &[u8]) -> Option<Setting> {
        let value = match key.legal() {
            Legal::Range(..) => u32::try_from(number(word)?).ok()?,
            Legal::Words(zero, _) if word == zero.as_bytes() => 0,
            Legal::Words(_, one) if word == one.as_bytes() => 1,
            Legal::Words(..) => return None,
        };
        Setting::new(key, value)
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> Key {
        self.key
    }

    /// The value, as in [`Setting::new`].
    #[must_use]
    pub const fn value(self) -> u32 {
        self.value
    }

    /// Appends the value as a person writes it.
    pub fn write_value(self, out: &mut Text<'_>) {
        match self.key.legal() {
            Legal::Range(..) => out.u64(u64::from(self.value)),
            Legal::Words(zero, one) => out.whole(if self.value == 0 { zero } else { one }),
        };
    }
}

/// The settings of a volume. Every value is legal: they change by [`Settings::set`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    read_retries: u8,
    retry_backoff_ms: u32,
    recovery_limit_ms: u32,
    probe_timeout_ms: u32,
    pending_read_retry: bool,
    auto_remap: bool,
    latency: bool,
    debug_level: u8,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            read_retries: 3,
            retry_backoff_ms: 100,
            recovery_limit_ms: 30_000,
            probe_timeout_ms: 5_000,
            pending_read_retry: false,
            auto_remap: true,
            latency: false,
            debug_level: 0,
        }
    }
}

impl Settings {
    /// [`Key::ReadRetries`].
    #[must_use]
    pub const fn read_retries(&self) -> u8 {
        self.read_retries
    }

    /// [`Key::RetryBackoff`] in milliseconds.
    #[must_use]
    pub const fn retry_backoff_ms(&self) -> u32 {
        self.retry_backoff_ms
    }

    /// [`Key::RecoveryLimit`] in milliseconds.
    #[must_use]
    pub const fn recovery_limit_ms(&self) -> u32 {
        self.recovery_limit_ms
    }

    /// [`Key::ProbeTimeout`] in milliseconds.
    #[must_use]
    pub const fn probe_timeout_ms(&self) -> u32 {
        self.probe_timeout_ms
    }

    /// Whether [`Key::PendingRead`] is `retry`.
    #[must_use]
    pub const fn pending_read_retry(&self) -> bool {
        self.pending_read_retry
    }

    /// Whether [`Key::AutoRemap`] is `yes`.
    #[must_use]
    pub const fn auto_remap(&self) -> bool {
        self.auto_remap
    }

    /// Whether [`Key::Latency`] is `on`.
    #[must_use]
    pub const fn latency(&self) -> bool {
        self.latency
    }

    /// [`Key::DebugLevel`].
    #[must_use]
    pub const fn debug_level(&self) -> u8 {
        self.debug_level
    }

    /// The present setting of `key`.
    #[must_use]
    pub const fn get(&self, key: Key) -> Setting {
        let value = match key {
            Key::ReadRetries => self.read_retries as u32,
            Key::RetryBackoff => self.retry_backoff_ms,
            Key::RecoveryLimit => self.recovery_limit_ms,
            Key::ProbeTimeout => self.probe_timeout_ms,
            Key::PendingRead => self.pending_read_retry as u32,
            Key::AutoRemap => self.auto_remap as u32,
            Key::Latency => self.latency as u32,
            Key::DebugLevel => self.debug_level as u32,
        };
        Setting { key, value }
    }

    /// Takes over `setting`, and says whether anything has changed.
    pub fn set(&mut self, setting: Setting) -> bool {
        let before = *self;
        let value = setting.value;
        // A `Setting` holds legal values only, so the two narrowings below lose nothing.
        let small = (value & 0xff) as u8;
        match setting.key {
            Key::ReadRetries => self.read_retries = small,
            Key::RetryBackoff => self.retry_backoff_ms = value,
            Key::RecoveryLimit => self.recovery_limit_ms = value,
            Key::ProbeTimeout => self.probe_timeout_ms = value,
            Key::PendingRead => self.pending_read_retry = value != 0,
            Key::AutoRemap => self.auto_remap = value != 0,
            Key::Latency => self.latency = value != 0,
            Key::DebugLevel => self.debug_level = small,
        }
        before != *self
    }

    /// Reads a snapshot from a header. The second number says how many words were not understood;
    /// what they would have set has its default.
    #[must_use]
    pub fn from_snapshot(snapshot: &[u8]) -> (Settings, usize) {
        let mut settings = Settings::default();
        let mut unknown: usize = 0;
        let text = snapshot.split(|&b| b == 0).next().unwrap_or_default();
        for word in text.split(|&b| b == b' ').filter(|word| !word.is_empty()) {
            let mut parts = word.splitn(2, |&b| b == b'=');
            let key = parts.next().and_then(Key::from_name);
            let setting = key.and_then(|key| Setting::parse(key, parts.next()?));
            match setting {
                Some(setting) => {
                    settings.set(setting);
                }
                None => unknown = unknown.saturating_add(1),
            }
        }
        (settings, unknown)
    }

    /// Writes the snapshot for a header: every key, also those at their default, so that what a
    /// volume was created with stays when a later version has other defaults. The answer is how
    /// many bytes it has; the rest is zero.
    pub fn to_snapshot(&self, snapshot: &mut [u8; SNAPSHOT_BYTES]) -> usize {
        snapshot.fill(0);
        let mut text = Text::new(snapshot);
        for (i, key) in Key::ALL.into_iter().enumerate() {
            text.str(if i == 0 { "" } else { " " }).whole(key.name()).byte(b'=');
            self.get(key).write_value(&mut text);
        }
        text.len()
    }
}

/// The number `word` is: decimal digits, or hexadecimal ones after `0x`; no sign, no spaces, no
/// separators. `None` for anything else and for what does not fit 64 bits.
#[must_use]
pub fn number(word: &[u8]) -> Option<u64> {
    let (digits, radix) = match word {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16u32),
        digits => (digits, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = char::from(digit).to_digit(radix)?;
        value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
