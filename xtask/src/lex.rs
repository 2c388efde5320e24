// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Just enough of Rust's lexing for the style rules: source with comments and literals blanked out
//! (same length, same lines), so that a word found in it is code, and the extent of functions.

/// `source` with every comment, string and character literal replaced by blanks; newlines stay.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let len = literal_or_comment(bytes, at);
        if len == 0 {
            out.push(bytes[at]);
            at += 1;
            // An identifier that ends in r or b must not be taken for the head of a literal.
            while is_word(bytes[at - 1]) && at < bytes.len() && is_word(bytes[at]) {
                out.push(bytes[at]);
                at += 1;
            }
        } else {
            out.extend(bytes[at..at + len].iter().map(|&b| if b == b'\n' { b } else { b' ' }));
            at += len;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length of the comment or literal that starts at `at`, 0 if none does.
fn literal_or_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, 0),
        [b'b' | b'c', b'"', ..] => quoted(rest, 1),
        [b'r', b'"' | b'#', ..] => raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] => raw(rest, 2),
        [b'b', b'\'', ..] => character(rest, 1),
        [b'\'', ..] => character(rest, 0),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], prefix: usize) -> usize {
    let mut at = prefix + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0; // a raw identifier
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = prefix + hashes + 1;
    rest[body..]
        .windows(end.len())
        .position(|window| window == end)
        .map_or(rest.len(), |found| body + found + end.len())
}

/// A character literal, not a lifetime: `'x'`, `'\n'`, `'ä'`.
fn character(rest: &[u8], prefix: usize) -> usize {
    let body = &rest[prefix + 1..];
    if body.first() == Some(&b'\\') {
        let close = body.iter().skip(2).position(|&b| b == b'\'');
        return close.map_or(0, |found| prefix + 1 + 2 + found + 1);
    }
    let width = body.first().map_or(0, |&b| match b {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    });
    if body.get(width) == Some(&b'\'') { prefix + 1 + width + 1 } else { 0 }
}

/// Whether the byte can stand in an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Byte offsets in `code` where `word` stands as a whole word.
pub fn words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| at == 0 || !is_word(bytes[at - 1]))
        .filter(|&at| bytes.get(at + word.len()).is_none_or(|&b| !is_word(b)))
        .collect()
}

/// The line, counted from 1, of a byte offset.
pub fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of the word `fn`.
    pub line: usize,
    /// Lines from there to the closing brace.
    pub lines: usize,
}

/// The functions with a body in `code` (made by [`code_only`]).
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
        if name.is_empty() {
            continue; // a function pointer type
        }
        let Some(end) = body_end(code, at) else { continue };
        let line = line_of(code, at);
        found.push(Function { name, line, lines: line_of(code, end) - line + 1 });
    }
    found
}

/// Offset of the brace that closes the first block after `at`; `None` if a `;` ends the item
/// before one opens.
pub fn body_end(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut others) = (0usize, 0usize);
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(offset);
                }
            }
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b';' if braces == 0 && others == 0 => return None,
            _ => {}
        }
    }
    None
}

/// `code` with every item under `#[cfg(test)]` blanked out.
pub fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let from = at + attribute.len();
        let end = body_end(code, from).unwrap_or(from);
        out[at..=end.min(code.len() - 1)]
            .iter_mut()
            .filter(|b| **b != b'\n')
            .for_each(|b| *b = b' ');
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_what_is_not_code() {
        let source = concat!(
            "a /* x /* y */ z */ b \"c \\\" d\" e 'f' '\\'' 'ä' &'g str ",
            "r#\"h\"i\"# br\"j\" // k\nl",
        );
        let code = code_only(source);
        assert_eq!(code.len(), source.len());
        let kept: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(kept, ["a", "b", "e", "&'g", "str", "l"]);
    }

    #[test]
    fn a_word_that_ends_like_a_literals_head_is_kept() {
        let kept: String = code_only("for r in b {} expr\"x\"").split_whitespace().collect();
        assert_eq!(kept, "forrinb{}expr");
    }

    #[test]
    fn measures_functions() {
        let code = concat!(
            "fn a(x: [u8; 3]) {\n  if x {\n }\n}\ntrait T { fn b(); }\n",
            "type F = fn(u8);\nfn c() {}\n",
        );
        let found = functions(code);
        let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(shown, [("a", 1, 4), ("c", 7, 1)]);
    }

    #[test]
    fn leaves_test_items_out() {
        let code =
            without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\nfn d() {}\n");
        assert!(code.contains("fn a") && code.contains("fn d") && !code.contains("fn b"));
        let outer = without_tests("#[cfg(test)]\nmod tests;\nfn e() {}\n");
        assert!(outer.contains("fn e"));
    }
}
