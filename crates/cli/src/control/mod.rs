// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The control socket of a running volume: one line of the message grammar in, one line of JSON
//! out, as often as the caller likes on one connection.
//!
//! A good answer is the JSON document that `--json` prints. A bad one is
//! `{"error":{"class":WORD,"message":TEXT,"try":TEXT or null}}`; the words are those of
//! [`Class::word`](crate::failure::Class::word).

pub mod client;
pub mod peer;
pub mod server;

use serde::{Deserialize, Serialize};

use crate::failure::{Class, Failure};

/// The longest line a caller may send, with its newline.
pub const LONGEST_LINE: usize = 4096;
/// The longest answer a caller takes.
pub const LONGEST_ANSWER: u64 = 64 << 20;

/// A bad answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct BadAnswer {
    /// What failed.
    pub error: ErrorBody,
}

/// What failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Word of the class.
    pub class: String,
    /// What, where and why.
    pub message: String,
    /// What to type next.
    #[serde(rename = "try")]
    pub next: Option<String>,
}

impl From<&Failure> for BadAnswer {
    fn from(failure: &Failure) -> BadAnswer {
        let class = failure.class.word().to_owned();
        let (message, next) = (failure.what.clone(), failure.next.clone());
        BadAnswer { error: ErrorBody { class, message, next } }
    }
}

impl From<BadAnswer> for Failure {
    fn from(bad: BadAnswer) -> Failure {
        let ErrorBody { class, message, next } = bad.error;
        Failure { class: Class::from_word(&class), what: message, next }
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
