// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A formatter that cannot panic: text into bytes the caller gives.
//!
//! `core::fmt` brings panic paths into an object that may have none, so status lines, replies and
//! log lines are put together here. Three rules make a text that was too long recognisable and
//! never wrong:
//!
//! * the last [`MARKER`]`.len()` bytes of the buffer are kept for the marker, so that there is
//!   always room to say that something is missing;
//! * a number, a UUID and a [`Text::whole`] word are written whole or not at all: a number cut in
//!   the middle would be another number;
//! * after the first thing that did not fit nothing more is written, so that what stands before
//!   the marker is the beginning of the full text and not a selection of it.

use dmremap_format::Uuid;

/// What ends a text that did not fit.
pub const MARKER: &str = "...";

/// The longest reply to a message, in bytes: below 1 KiB, the final zero of the kernel's form
/// included, because libdm repeats an ioctl, message and all, when the reply was too long for it.
pub const REPLY_MAX_BYTES: usize = 1023;

/// Digits of the largest `u64`.
const U64_DIGITS: usize = 20;

/// Text being written into a buffer.
#[derive(Debug)]
pub struct Text<'a> {
    buf: &'a mut [u8],
    len: usize,
    cut: bool,
}

impl<'a> Text<'a> {
    /// An empty text in `buf`. A buffer shorter than the marker holds only a part of it.
    #[must_use]
    pub fn new(buf: &'a mut [u8]) -> Text<'a> {
        Text { buf, len: 0, cut: false }
    }

    /// What has been written, the marker included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// What has been written, the marker included. Always UTF-8: only whole characters go in.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Length so far in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether something did not fit; the text then ends with [`MARKER`].
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// How many bytes can still be written without the marker being set.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.cut {
            return 0;
        }
        self.buf.len().saturating_sub(MARKER.len()).saturating_sub(self.len)
    }

    /// Appends `text`; what does not fit is cut at a character.
    pub fn str(&mut self, text: &str) -> &mut Self {
        if text.len() <= self.room() {
            return self.append(text.as_bytes());
        }
        // A byte that continues a character (10xxxxxx) is no place to cut before.
        let mut end = self.room();
        let bytes = text.as_bytes();
        while end > 0 && bytes.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
            end = end.saturating_sub(1);
        }
        let part = bytes.get(..end).unwrap_or_default();
        self.append(part).end_here()
    }

    /// Appends `text` whole, or the marker.
    pub fn whole(&mut self, text: &str) -> &mut Self {
        self.ascii(text.as_bytes())
    }

    /// Appends one ASCII character; `?` stands for any other byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.ascii(&[if byte.is_ascii() { byte } else { b'?' }])
    }

    /// Appends a decimal number.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        let mut digits = [b'0'; U64_DIGITS];
        let mut left = value;
        let mut used: usize = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0'.wrapping_add((left % 10) as u8);
            left /= 10;
            used = used.saturating_add(1);
            if left == 0 {
                break;
            }
        }
        let first = U64_DIGITS.saturating_sub(used);
        self.ascii(digits.get(first..).unwrap_or_default())
    }

    /// Appends a decimal number with its sign if it is negative.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        if value >= 0 {
            return self.u64(value.unsigned_abs());
        }
        // Sign and digits are one number: neither goes in without the other.
        let digits = decimal_digits(value.unsigned_abs());
        if self.room() <= digits {
            return self.end_here();
        }
        self.byte(b'-').u64(value.unsigned_abs())
    }

    /// Appends a number in lower-case hexadecimal with `0x` and no leading zeros.
    pub fn hex(&mut self, value: u64) -> &mut Self {
        let mut digits = [b'0'; 18];
        let mut left = value;
        let mut used: usize = 2;
        for place in digits.iter_mut().rev() {
            *place = hex_digit((left & 15) as u8);
            left >>= 4;
            used = used.saturating_add(1);
            if left == 0 {
                break;
            }
        }
        let first = digits.len().saturating_sub(used);
        if let Some([zero, x, ..]) = digits.get_mut(first..) {
            (*zero, *x) = (b'0', b'x');
        }
        self.ascii(digits.get(first..).unwrap_or_default())
    }

    /// Appends a UUID in its usual form, `-` for none.
    pub fn uuid(&mut self, uuid: &Uuid) -> &mut Self {
        if *uuid == Uuid::default() {
            return self.byte(b'-');
        }
        let mut form = [b'-'; 36];
        // The dashes stand at 8, 13, 18 and 23; every other place takes the next digit.
        let places = form.iter_mut().enumerate().filter(|(i, _)| !matches!(i, 8 | 13 | 18 | 23));
        let digits = uuid.0.iter().flat_map(|b| [hex_digit(b >> 4), hex_digit(b & 15)]);
        for ((_, place), digit) in places.zip(digits) {
            *place = digit;
        }
        self.ascii(&form)
    }

    /// Appends bytes that came from a device or another host: printable ASCII as it is, a backslash
    /// doubled, everything else as `\xNN`, so that nothing in them can act on a terminal or end a
    /// field early (a space is escaped too). Cut between two characters where it does not fit.
    pub fn escaped(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            match byte {
                b'\\' => self.ascii(b"\\\\"),
                b'!'..=b'~' => self.ascii(&[byte]),
                _ => self.ascii(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)]),
            };
        }
        self
    }

    /// Ends the text with the marker, as if the next thing had not fitted.
    pub fn end_here(&mut self) -> &mut Self {
        if !self.cut {
            self.cut = true;
            let marker = MARKER.as_bytes().iter().zip(self.buf.iter_mut().skip(self.len));
            let mut written: usize = 0;
            for (from, to) in marker {
                *to = *from;
                written = written.saturating_add(1);
            }
            self.len = self.len.saturating_add(written);
        }
        self
    }

    /// Appends bytes that are whole characters and must not be cut.
    fn ascii(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.len() > self.room() {
            return self.end_here();
        }
        self.append(bytes)
    }

    /// Appends bytes that fit; nothing once the text has been cut.
    fn append(&mut self, bytes: &[u8]) -> &mut Self {
        if self.cut {
            return self;
        }
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.buf.get_mut(self.len..end) {
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.len = end;
        }
        self
    }
}

/// How many digits `value` has in decimal.
fn decimal_digits(value: u64) -> usize {
    let mut left = value / 10;
    let mut digits: usize = 1;
    while left > 0 {
        left /= 10;
        digits = digits.saturating_add(1);
    }
    digits
}

/// The digit of the low four bits.
const fn hex_digit(nibble: u8) -> u8 {
    match nibble & 15 {
        n @ 0..=9 => b'0'.wrapping_add(n),
        n => b'a'.wrapping_add(n.wrapping_sub(10)),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
