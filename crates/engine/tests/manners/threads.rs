// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files with O_DIRECT, served by threads.

#[path = "../volume.rs"]
mod volume;
