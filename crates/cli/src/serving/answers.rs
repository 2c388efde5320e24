// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a running volume answers on its control socket: the words of the message grammar, as JSON.
//! `status` and `list` are the documents of [`crate::report`], `stats` is one of counters, every
//! other word is `{"reply": TEXT}`.

use std::sync::Arc;

use dmremap_core::Done;
use dmremap_core::Reason;
use dmremap_core::message::{Command, HELP, SpareAddress, parse_within};
use dmremap_core::reply::{Ground, write_done};
use dmremap_format::{SECTOR_BYTES, UNIT_SECTORS};
use serde_json::{Value, json};

use crate::control::peer::Peer;
use crate::control::server::Answers;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::report::{FORMAT_VERSION, Run, Status, text, uuid_text};
use crate::serving::closing::Closing;

/// A volume that answers.
pub struct Volume {
    /// The volume.
    pub volume: Arc<dmremap_engine::Volume>,
    /// Its closing, which is the server's matter and no message of the grammar.
    pub closing: Arc<Closing>,
}

/// What `help` says besides the messages of the grammar.
const CLOSE_HELP: &str = "\nclose [force]: end the server; force: although clients are connected";

impl Answers for Volume {
    fn answer(&self, from: Peer, line: &str) -> Outcome<Value> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["close", rest @ ..] = &words[..] {
            let force = match rest {
                [] => false,
                ["force"] => true,
                _ => {
                    let what = "close: too many words; the form is: close [force]";
                    return Err(Failure::new(Class::Usage, what));
                }
            };
            if self.closing.is_open() {
                tracing::info!("{from} asks: {}", escaped_bytes(line));
            }
            return self.closing.ask(force).and_then(|answer| value(&answer));
        }
        let main_sectors = self.volume.info().main_sectors;
        let command = parse_within(line.as_bytes(), main_sectors)
            .map_err(|error| Failure::new(Class::Usage, text(|out| error.write(out))))
            .map_err(|failure| failure.with_next(self.help()))?;
        if command.writes() || command == Command::ClearStats {
            tracing::info!("{from} asks: {}", escaped_bytes(line));
        }
        match command {
            Command::Ping => Ok(reply("pong")),
            Command::Help => Ok(reply(&[HELP, CLOSE_HELP].concat())),
            Command::Status => self.status().and_then(|status| value(&status)),
            Command::Stats => self.status().map(|status| stats(&status)),
            Command::List { from, count } => value(&self.list(from, count)),
            Command::Get(key) => {
                let settings = self.volume.settings().ok_or_else(stopped)?;
                Ok(reply(&text(|out| settings.get(key).write_value(out))))
            }
            Command::Later(later) => {
                let words = text(|out| later.write(out));
                Err(Failure::new(Class::Usage, words).with_next(self.help()))
            }
            command => self.act(&command, line),
        }
    }
}

fn reply(text: &str) -> Value {
    json!({ "reply": text })
}

fn value<T: serde::Serialize>(document: &T) -> Outcome<Value> {
    serde_json::to_value(document).map_err(|error| Failure::new(Class::Internal, error))
}

fn stopped() -> Failure {
    Failure::new(Class::Missing, "the volume has stopped").with_next("dmremap serve --spare DEV")
}

impl Volume {
    fn status(&self) -> Outcome<Status> {
        let info = self.volume.info();
        let status = self.volume.status().ok_or_else(stopped)?;
        Ok(Status::new(&info.name, info.volume, &status).of_header(info.state))
    }

    fn list(&self, from: u64, count: u32) -> Vec<Run> {
        let mut runs = Vec::new();
        self.volume.runs(from, |run| {
            runs.push(Run::from(&run));
            runs.len() < count as usize
        });
        runs
    }

    /// What it is called by on the command line.
    fn name(&self) -> String {
        match self.volume.info().name.as_str() {
            "" => uuid_text(self.volume.info().volume),
            name => name.to_owned(),
        }
    }

    fn help(&self) -> String {
        format!("dmremap message {} help", self.name())
    }

    fn act(&self, command: &Command, line: &str) -> Outcome<Value> {
        let done = self.volume.act(*command);
        let ground = self.ground(command);
        let words = text(|out| write_done(out, command, &done, &ground));
        match done {
            Done::Failed(reason) => Err(Failure::new(class(reason), words).with_next(next(
                &self.name(),
                command,
                line,
                reason,
                &ground,
            ))),
            Done::Verified { unreadable } => {
                Ok(json!({ "reply": words, "unreadable": self.sectors(command, unreadable) }))
            }
            Done::Marked(marked) => Ok(json!({
                "reply": words,
                "marked": marked.marked,
                "on_spare": marked.on_spare,
                "gone": marked.gone,
                "dropped": marked.dropped,
            })),
            _ => Ok(reply(&words)),
        }
    }

    /// The first sectors of the blocks in `mask` of the unit that a command names.
    fn sectors(&self, command: &Command, mask: u8) -> Vec<u64> {
        let Command::Verify { sector } = command else { return Vec::new() };
        let block_sectors = u64::from(self.volume.info().block_bytes) / SECTOR_BYTES;
        let first = sector - sector % UNIT_SECTORS;
        let blocks = (0..8u64).filter(|block| mask & (1 << block) != 0);
        blocks.map(|block| first + block * block_sectors).collect()
    }

    /// What the words of a reply need to know.
    fn ground(&self, command: &Command) -> Ground {
        let info = self.volume.info();
        let (data_start, data_end) = (info.layout.data_start(), info.layout.data_end());
        let wanted = match command {
            Command::Remap { sector, to: Some(to) } => Some((*sector, *to)),
            Command::Add { main, spare, .. } => Some((*main, *spare)),
            _ => None,
        };
        let nearest = wanted.map_or([None, None], |(sector, to)| self.nearest(sector, to));
        Ground {
            main_sectors: info.main_sectors,
            block_sectors: info.block_bytes / SECTOR_BYTES as u32,
            data_start,
            data_end,
            nearest,
        }
    }

    fn nearest(&self, sector: u64, to: SpareAddress) -> [Option<u64>; 2] {
        let data_start = self.volume.info().layout.data_start();
        to.sector(data_start)
            .map_or([None, None], |wanted| self.volume.nearest_spare(sector, wanted))
    }
}

/// What to type after a refusal; `line` is the message that was refused.
fn next(name: &str, command: &Command, line: &str, reason: Reason, ground: &Ground) -> String {
    let sector = match *command {
        Command::Remap { sector, .. }
        | Command::Unremap { sector }
        | Command::Verify { sector }
        | Command::Add { main: sector, .. } => Some(sector),
        _ => None,
    };
    // The same message with another word in one place.
    let message = |place: usize, other: Option<u64>| {
        let mut words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        if let (Some(word), Some(other)) = (words.get_mut(place), other) {
            *word = other.to_string();
        }
        format!("dmremap message {name} {}", words.join(" "))
    };
    let block = u64::from(ground.block_sectors.max(1));
    let last = ground.main_sectors.saturating_sub(block);
    match (reason, sector) {
        (Reason::OutOfRange, Some(sector)) => message(1, Some(sector.min(last) / block * block)),
        (Reason::SpareNotFree | Reason::OtherPlaceInUnit, Some(sector)) => {
            match ground.nearest.into_iter().flatten().next() {
                Some(to) => message(2, Some(to)),
                None => format!("dmremap remap {name} {sector}"),
            }
        }
        (Reason::AlreadyRemapped, Some(sector)) => format!("dmremap unremap {name} {sector}"),
        (Reason::Gone | Reason::Unreadable, Some(sector)) => {
            format!("dmremap verify {name} {sector}")
        }
        (Reason::NotRemapped | Reason::Full | Reason::Gone | Reason::Unreadable, _) => {
            format!("dmremap list {name}")
        }
        (Reason::Busy | Reason::CommitFailed | Reason::InDoubt | Reason::TimedOut, _) => {
            message(0, None)
        }
        _ => format!("dmremap status {name}"),
    }
}

/// The counters of `stats`.
fn stats(status: &Status) -> Value {
    json!({
        "format_version": FORMAT_VERSION,
        "requests": status.requests,
        "errors": status.errors,
        "remaps": status.remaps,
        "commits": status.metadata.commits,
        "spare_free_units": status.spare_free_units,
        "spare_total_units": status.spare_total_units,
        "quarantined_units": status.quarantined_units,
    })
}

/// The class of a refusal.
fn class(reason: Reason) -> Class {
    match reason {
        Reason::OutOfRange => Class::Usage,
        Reason::Busy | Reason::AlreadyRemapped | Reason::TimedOut => Class::Busy,
        Reason::NotRemapped => Class::Missing,
        _ => Class::Refused,
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
