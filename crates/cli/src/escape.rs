// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Showing strings that come from a device, a path or another program.
//!
//! Such a string is hostile: it may hold terminal escapes, newlines that fake another line of
//! output, or marks that reverse the direction of text. Everything that is not plainly printable
//! is shown as an escape; what the device holds stays readable and cannot act.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Bytes to be shown; its `Display` escapes them.
pub struct Escaped<'a>(&'a [u8]);

/// Shows a path.
pub fn escaped(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

/// Shows text or raw bytes.
pub fn escaped_bytes<T: AsRef<[u8]> + ?Sized>(bytes: &T) -> Escaped<'_> {
    Escaped(bytes.as_ref())
}

/// Whether nothing in `text` can act on a terminal or end a line.
pub fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_invisible(c))
}

/// `text`, escaped if it is not harmless as it is. What has been escaped already stays readable.
pub fn harmless(text: String) -> String {
    if is_harmless(&text) { text } else { escaped_bytes(&text).to_string() }
}

/// Marks that change the direction or the joining of the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// `path` as a word of a shell command: bare if it is plain, else in single quotes.
pub fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+:@,=%".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return escaped(path).to_string();
    }
    match path.to_str() {
        Some(text) if is_harmless(text) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            // The $'...' form of bash, zsh and POSIX.1-2024: every odd byte as an escape.
            let mut word = String::from("$'");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => word.extend(['\\', byte as char]),
                    0x20..=0x7e => word.push(byte as char),
                    _ => word.push_str(&format!("\\x{byte:02x}")),
                }
            }
            word + "'"
        }
    }
}

/// The words of a line written by [`shell_word`]s; `None` if a quote is not closed. Nothing of a
/// shell but its quotes is understood.
pub fn shell_words(line: &str) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = line.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        b'\'' => break,
                        byte => word.push(byte),
                    }
                }
            }
            b'$' if rest.peek() == Some(&b'\'') => {
                rest.next();
                dollar_quoted(&mut rest, word.get_or_insert_default())?;
            }
            b'\\' => word.get_or_insert_default().push(rest.next()?),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words.into_iter().map(OsString::from_vec).collect())
}

/// What stands between `$'` and the quote that closes it.
fn dollar_quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match rest.next()? {
            b'\'' => return Some(()),
            b'\\' => match rest.next()? {
                b'x' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    word.push((digit()? << 4 | digit()?) as u8);
                }
                byte => word.push(byte),
            },
            byte => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn nothing_from_a_device_reaches_the_terminal_raw() {
        let show = |bytes: &[u8]| escaped_bytes(bytes).to_string();
        assert_eq!(show(b"WD \x1b[2J\nroot:\0"), "WD \\x1b[2J\\x0aroot:\\x00");
        assert_eq!(show("Straße \u{202e}cod\u{85}".as_bytes()), "Straße \\u{202e}cod\\u{85}");
        assert_eq!(show(b"\xff\\"), "\\xff\\\\");
    }

    #[test]
    fn words_of_a_command_stay_one_word() {
        assert_eq!(shell_word(Path::new("/dev/sda1")), "/dev/sda1");
        assert_eq!(shell_word(Path::new("a b'c")), r"'a b'\''c'");
        assert_eq!(shell_word(Path::new("")), "''");
        assert_eq!(shell_word(Path::new(OsStr::from_bytes(b"a\n\xff'"))), r"$'a\x0a\xff\''");
    }

    #[test]
    fn words_are_read_as_they_were_written() {
        for word in
            [&b"/dev/sda1"[..], b"a b'c", b"", b"a\n\xff'", b"\\ $'", b"$'x'", b"caf\xc3\xa9"]
        {
            let line = format!("run {} --x", shell_word(Path::new(OsStr::from_bytes(word))));
            let words = shell_words(&line).unwrap();
            assert_eq!(words, [OsStr::new("run"), OsStr::from_bytes(word), OsStr::new("--x")]);
        }
        for open in ["'a", "$'a", "a\\", "$'\\x0"] {
            assert_eq!(shell_words(open), None, "{open}");
        }
    }
}
