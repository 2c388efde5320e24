// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the program says on standard error: to a person with time and colour, to the journal of
//! systemd with the priority in front of each line (`sd-daemon(3)`) and no time, which it knows.

mod throttle;

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use throttle::Throttle;

/// Sends events to standard error, filtered by `-v` or the variable `DMREMAP_LOG`, and each kind
/// of them so often only as [`Throttle`] lets through.
pub fn start(verbose: u8) -> Arc<Throttle> {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = filter.with_env_var("DMREMAP_LOG").from_env_lossy();
    let throttle = Arc::new(Throttle::default());
    let shown = layer().with_writer(stderr).with_ansi(has_colour()).with_target(false);
    let shown = match to_journal() {
        true => shown.event_format(Journal).with_filter(Arc::clone(&throttle).filter()).boxed(),
        false => shown.with_filter(Arc::clone(&throttle).filter()).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(shown).init();
    throttle
}

/// Says why the command ends without having done its work.
pub fn say(why: &str) {
    let text = format!("dmremap: {why}");
    match to_journal() {
        true => eprintln!("{}", with_priority(Level::ERROR, &text)),
        false => eprintln!("{text}"),
    }
}

fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stderr().is_terminal()
}

/// Whether standard error goes to the journal: the variable names the stream the journal made.
fn to_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = rustix::fs::fstat(stderr());
    stat.is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Each line of `text` with the number of its level in front.
fn with_priority(level: Level, text: &str) -> String {
    let number = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let lines: Vec<String> = text.lines().map(|line| format!("<{number}>{line}")).collect();
    lines.join("\n")
}

/// Lines for the journal.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", with_priority(*event.metadata().level(), &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(with_priority(Level::WARN, "a\nb"), "<4>a\n<4>b");
        assert_eq!(with_priority(Level::ERROR, "a"), "<3>a");
        assert_eq!(with_priority(Level::INFO, ""), "");
        assert_eq!(with_priority(Level::TRACE, "a"), "<7>a");
    }
}
