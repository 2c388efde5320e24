// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files on tmpfs, served by the thread that brings a request.

#[path = "../random.rs"]
mod random;
#[path = "../volume.rs"]
mod volume;
