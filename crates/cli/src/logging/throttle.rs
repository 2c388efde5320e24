// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A storm of events becomes a few lines. Each place in the source that reports something may do so
//! [`BURST`] times in [`WINDOW`]; what more comes is counted, and the count told when the window
//! has ended, with the first line that was left out. Nobody has to guess what is missing: lines
//! shown and lines counted are all there were.
//!
//! What `-v` asks for (debug, trace) is not limited.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one kind in a window.
const BURST: u32 = 10;
/// The window; it begins with the first line of a kind.
const WINDOW: Duration = Duration::from_secs(5);
/// Lines that tell how many were left out are not counted themselves.
const SUMMARY: &str = "dmremap::suppressed";

/// What has been said lately.
#[derive(Debug, Default)]
pub struct Throttle {
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// The lines of one place in the source.
#[derive(Debug)]
struct Kind {
    since: Instant,
    shown: u32,
    suppressed: u64,
    /// The first that was left out.
    such_as: String,
}

impl Kind {
    fn new(now: Instant) -> Kind {
        Kind { since: now, shown: 0, suppressed: 0, such_as: String::new() }
    }

    fn has_ended(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    /// Whether one more may be shown; a window that has ended is followed by a new one.
    fn admit(&mut self, now: Instant) -> bool {
        if self.has_ended(now) && self.suppressed == 0 {
            *self = Kind::new(now);
        }
        if self.shown < BURST {
            self.shown += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    /// What was left out of a window that has ended, and a new one.
    fn summary(&mut self, now: Instant) -> Option<String> {
        let (suppressed, such_as) = (take(&mut self.suppressed), take(&mut self.such_as));
        *self = Kind::new(now);
        (suppressed > 0).then(|| format!("{suppressed} more suppressed, such as: {such_as}"))
    }
}

impl Throttle {
    /// As the filter of what writes the lines.
    pub fn filter(self: Arc<Throttle>) -> Throttled {
        Throttled(self)
    }

    /// Tells once a second what was left out of windows that have ended, for as long as somebody
    /// holds the throttle. For commands that run long; see [`Throttle::flush`] for their end.
    pub fn tell_regularly(self: &Arc<Throttle>) {
        let throttle: Weak<Throttle> = Arc::downgrade(self);
        // Without a thread the counts are told at the end.
        let _ = std::thread::Builder::new().name("log".into()).spawn(move || {
            while let Some(throttle) = throttle.upgrade() {
                throttle.tell(false);
                drop(throttle);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
    }

    /// Tells everything that was left out.
    pub fn flush(&self) {
        self.tell(true);
    }

    fn tell(&self, all: bool) {
        let now = Instant::now();
        let mut kinds = self.lock();
        let ended = kinds.values_mut().filter(|kind| all || kind.has_ended(now));
        let lines: Vec<String> = ended.filter_map(|kind| kind.summary(now)).collect();
        drop(kinds);
        for line in lines {
            tracing::warn!(target: SUMMARY, "{line}");
        }
    }

    fn admit(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == SUMMARY {
            return true;
        }
        let now = Instant::now();
        let mut kinds = self.lock();
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind::new(now));
        let admitted = kind.admit(now);
        if !admitted && kind.suppressed == 1 {
            event.record(&mut Words(&mut kind.such_as));
        }
        admitted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The filter.
pub struct Throttled(Arc<Throttle>);

impl<S> Filter<S> for Throttled {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admit(event)
    }
}

/// The words of an event.
struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_count_then_another_burst() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kind = Kind::new(start);
        let shown = (0..10_000).filter(|_| kind.admit(at(1))).count();
        assert_eq!((shown, kind.suppressed), (10, 9990));
        // The window has ended, but what is owed is told first.
        assert!(!kind.admit(at(6)));
        kind.such_as = "x".into();
        assert_eq!(kind.summary(at(6)).as_deref(), Some("9991 more suppressed, such as: x"));
        assert_eq!(kind.summary(at(6)), None);
        assert!((0..10).all(|_| kind.admit(at(7))) && !kind.admit(at(7)));
    }

    #[test]
    fn what_comes_slowly_is_all_shown() {
        let start = Instant::now();
        let mut kind = Kind::new(start);
        assert!((0..100).all(|n| kind.admit(start + Duration::from_secs(n))));
        assert_eq!(kind.suppressed, 0);
    }
}
