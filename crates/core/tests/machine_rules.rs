// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rules of recovery, one by one, on the real machine over devices held as sector arrays: what
//! it does in which order, how every request ends, what the table says and what lies on the spare.
//!
//! Everything is deterministic: an operation is answered in the order it was sent unless a rule of
//! the test holds it back, and the clock moves only when the test says so.

mod machine;
