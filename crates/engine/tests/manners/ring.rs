// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files with O_DIRECT, served through an io_uring.

#[path = "../random.rs"]
mod random;
#[path = "../volume.rs"]
mod volume;
