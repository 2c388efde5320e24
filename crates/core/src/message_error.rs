// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why a message was not understood, in words.

use crate::message::MESSAGE_MAX_BYTES;
use crate::text::Text;

/// Why a message was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// How the message is written; empty if it is not known which one was meant.
    pub form: &'static str,
    /// The argument at fault; empty if none is.
    pub argument: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There was no word at all.
    Empty,
    /// The message has more than [`MESSAGE_MAX_BYTES`] bytes.
    TooLong,
    /// No message begins with this word.
    NoSuchMessage,
    /// The argument is missing.
    Missing,
    /// There are more words than the message takes.
    TooMany,
    /// The argument is no number, or not in the range from `low` to `high`.
    Range {
        /// Lowest legal value.
        low: u64,
        /// Highest legal value.
        high: u64,
    },
    /// The argument is none of two words.
    Words(&'static str, &'static str),
    /// The argument is none of the names in this list.
    Names(&'static str),
}

impl ParseError {
    /// Appends what was wrong, what is legal, and how the message is written.
    pub fn write(&self, out: &mut Text<'_>) {
        if !self.argument.is_empty() {
            out.whole(self.argument).byte(b' ');
        }
        match self.fault {
            Fault::Empty => out.str("the message is empty; help lists them"),
            Fault::TooLong => {
                out.str("the message is longer than ").u64(MESSAGE_MAX_BYTES as u64).str(" bytes")
            }
            Fault::NoSuchMessage => out.str("no such message; help lists them"),
            Fault::Missing => out.str("is missing"),
            Fault::TooMany => out.str("too many words"),
            Fault::Range { low, high } => {
                out.str("must be a number from ").u64(low).str(" to ").u64(high)
            }
            Fault::Words(one, other) => out.str("must be ").whole(one).str(" or ").whole(other),
            Fault::Names(names) => out.str("must be one of ").str(names),
        };
        if !self.form.is_empty() {
            out.str("; the form is: ").whole(self.form);
        }
        out.str("; nothing was changed");
    }
}
