// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The server behind standard input and output and behind inherited sockets.

fn main() {}
