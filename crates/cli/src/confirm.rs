// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Asking before something is destroyed: the person types a whole word, or said `--yes`.
//!
//! `--yes` answers this question and nothing else; a safety check that refuses is lifted only by
//! `--force` with that check's name.

use std::io::{BufRead, IsTerminal, Read, Write};

use dmremap_engine::Next;

use crate::failure::{Class, Failure, Outcome};
use crate::remedy::{again_with, command};

/// Shows what is going to happen on standard error and waits for `word`. Without a terminal on
/// standard input nobody can be asked: refused.
pub fn confirm(what: &str, word: &str, yes: bool) -> Outcome<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let why = "this destroys data and nobody can be asked: standard input is no terminal";
        return Err(Failure::new(Class::Refused, why).with_next(again_with("--yes")));
    }
    ask(what, word, &mut stdin.lock(), &mut std::io::stderr())
}

fn ask(what: &str, word: &str, from: &mut impl BufRead, to: &mut impl Write) -> Outcome<()> {
    let shown = write!(to, "{what}\nType \"{word}\" to go on: ").and_then(|()| to.flush());
    let mut line = String::new();
    let read = shown.and_then(|()| from.take(1024).read_line(&mut line));
    match read {
        Ok(_) if line.trim_end_matches(['\r', '\n']) == word => Ok(()),
        _ => {
            let failure = Failure::new(Class::Refused, "not confirmed; nothing has been changed");
            Err(failure.with_next(command(&Next::Again)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_goes_on() {
        let answer =
            |text: &str| ask("All of X goes.", "format", &mut text.as_bytes(), &mut Vec::new());
        assert!(answer("format\n").is_ok());
        for text in ["", "\n", "y\n", "yes\n", "Format\n", "format it\n", " format\n"] {
            assert_eq!(answer(text).unwrap_err().class, Class::Refused, "{text:?}");
        }
    }
}
