// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! SIGTERM and SIGINT: the first one asks for an orderly end.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Class, Failure, Outcome};

/// Calls `stop` in a thread of its own when SIGTERM or SIGINT arrives. A second one while `stop`
/// runs ends the process at once, as by SIGKILL: nothing acknowledged depends on an orderly end.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let failed = |error| Failure::new(Class::Internal, format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let mut stop = Some(stop);
    let spawned = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            match stop.take() {
                Some(stop) => {
                    let work = std::thread::Builder::new().name("stop".into());
                    // Without a thread for it the end comes at once, which loses nothing either.
                    if work.spawn(stop).is_err() {
                        std::process::exit(1);
                    }
                }
                None => std::process::exit(1),
            }
        }
    });
    spawned.map(drop).map_err(failed)
}
