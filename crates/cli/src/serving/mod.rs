// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A volume as others meet it: an NBD export, and answers on the control socket.

mod answers;
pub mod closing;
mod export;
mod log;
pub mod notify;

pub use answers::Volume as Answering;
pub use export::Exported;
pub use log::Log;
