// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How requests reach devices makes no difference: the tests of volumes once more, on real files,
//! in each manner. See `common::manner`: the name of a module says which.

#![allow(clippy::duplicate_mod)] // That is the point.

mod inline;
mod ring;
mod threads;
