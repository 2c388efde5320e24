// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Showing strings that come from a device, a path or another program.
//!
//! Such a string is hostile: it may hold terminal escapes, newlines that fake another line of
//! output, or marks that reverse the direction of text. Everything that is not plainly printable
//! is shown as an escape; what the device holds stays readable and cannot act.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
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
        Some(text) if !text.chars().any(|c| c.is_control() || is_invisible(c)) => {
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
}
