// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `close`: asks the server of a running volume to end, and waits until it has.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::{Close, CloseForce};
use crate::context::Context;
use crate::control::client::{Talk, wait_for_end};
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::remedy::again_with;
use crate::serving::closing::Answer;

/// How long the server's process is waited for after its last answer.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// `close`
pub fn close(context: &Context, args: &Close) -> Outcome<ExitCode> {
    let mut talk = Talk::to(&context.running(&args.running)?)?;
    let server = talk.server();
    let line = match args.force {
        Some(CloseForce::Clients) => "close force",
        None => "close",
    };
    let limit = Duration::from_secs(args.wait.into());
    let begun = Instant::now();
    let mut shown = String::new();
    loop {
        let value = talk.ask(line).map_err(|failure| match failure.class {
            Class::Busy => failure.with_next(again_with("--force=clients")),
            _ => failure,
        })?;
        let answer: Answer = serde_json::from_value(value).map_err(|error| {
            Failure::new(
                Class::Internal,
                format!("the server's answer was not understood: {error}"),
            )
        })?;
        if answer.closed {
            // Its devices are free once the process has gone.
            if let Some(server) = &server {
                wait_for_end(server, LAST_BREATH);
            }
            return done(answer.clean == Some(true));
        }
        if begun.elapsed() >= limit {
            let what = format!(
                "still closing after {} s, and going on with it; it waits for {}",
                limit.as_secs(),
                escaped_bytes(&answer.waiting_for)
            );
            return Err(Failure::new(Class::Busy, what).with_next(again_with("--wait=600")));
        }
        if std::io::stderr().is_terminal() && answer.waiting_for != shown {
            eprintln!("closing: waiting for {}", escaped_bytes(&answer.waiting_for));
            shown = answer.waiting_for;
        }
    }
}

fn done(clean: bool) -> Outcome<ExitCode> {
    if !clean {
        let what = "closed, but not cleanly: a device failed its last flush, or did not take the \
                    last metadata. What had been flushed is safe; the next open settles the rest";
        return Err(Failure::new(Class::Internal, what).with_next("dmremap check --spare DEV"));
    }
    output::print("Closed.\n")?;
    Ok(ExitCode::SUCCESS)
}
