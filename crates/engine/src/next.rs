// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What to do after an error, as a thing to be typed: the program knows its verbs and what was
//! typed, an error knows what would have to be different.

/// What to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same command once more.
    Again,
    /// The same command with these options, separated by blanks.
    With(String),
    /// The same command without this option.
    Without(&'static str),
    /// The same command with another device in the place of this one.
    Other(String),
    /// The same command with another main.
    OtherMain,
    /// The same command with this block size where the verb takes one, else with another device in
    /// the place of this one.
    BlockSize {
        /// A block size that is possible, in bytes.
        bytes: u32,
        /// The device that stands in the way.
        device: String,
    },
    /// The same command by somebody who may open this.
    Permitted(String),
    /// A look at the metadata on this spare.
    Check(String),
    /// A look at who uses this.
    Holders(String),
    /// A look at the system's log.
    Log,
    /// How the command is written.
    Help,
    /// Which version this is.
    Version,
}

impl Next {
    /// The same command with these options.
    pub(crate) fn with(options: impl Into<String>) -> Next {
        Next::With(options.into())
    }
}

/// A name or path as it may be shown: what could act on a terminal, or fake a line, is escaped.
pub(crate) fn shown(name: impl AsRef<std::ffi::OsStr>) -> String {
    let quoted = format!("{:?}", name.as_ref());
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}
