// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Writing to standard output. A reader who has left (`dmremap list | head`) is no error.

use std::io::{ErrorKind, Write};

use crate::failure::{Class, Failure, Outcome};

/// Writes `text` and sees to it that it is out.
pub fn print(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Class::Internal, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON document.
pub fn print_json(value: &serde_json::Value) -> Outcome<()> {
    print(&format!("{value:#}\n"))
}
