// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a running volume answers on its control socket: the words of the message grammar, as JSON.
//! `status` and `list` are the documents of [`crate::report`], `stats` is one of counters, every
//! other word is `{"reply": TEXT}`.

use std::sync::Arc;

use dmremap_core::Done;
use dmremap_core::Reason;
use dmremap_core::message::{Command, HELP, SpareAddress, parse_within};
use dmremap_core::reply::{Ground, write_done};
use dmremap_format::SECTOR_BYTES;
use serde_json::{Value, json};

use crate::control::server::Answers;
use crate::failure::{Class, Failure, Outcome};
use crate::report::{FORMAT_VERSION, Run, Status, text};

/// A volume that answers.
pub struct Volume(pub Arc<dmremap_engine::Volume>);

impl Answers for Volume {
    fn answer(&self, line: &str) -> Outcome<Value> {
        let main_sectors = self.0.info().main_sectors;
        let command = parse_within(line.as_bytes(), main_sectors)
            .map_err(|error| Failure::new(Class::Usage, text(|out| error.write(out))))?;
        match command {
            Command::Ping => Ok(reply("pong")),
            Command::Help => Ok(reply(HELP)),
            Command::Status => self.status().and_then(|status| value(&status)),
            Command::Stats => self.status().map(|status| stats(&status)),
            Command::List { from, count } => value(&self.list(from, count)),
            Command::Get(key) => {
                let settings = self.0.settings().ok_or_else(stopped)?;
                Ok(reply(&text(|out| settings.get(key).write_value(out))))
            }
            Command::Later(later) => {
                let words = text(|out| later.write(out));
                Err(Failure::new(Class::Usage, words).with_next("help"))
            }
            command => self.act(&command),
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
    Failure::new(Class::Missing, "the volume has stopped")
}

impl Volume {
    fn status(&self) -> Outcome<Status> {
        let info = self.0.info();
        let status = self.0.status().ok_or_else(stopped)?;
        Ok(Status::new(&info.name, info.volume, &status).of_header(info.state))
    }

    fn list(&self, from: u64, count: u32) -> Vec<Run> {
        let mut runs = Vec::new();
        self.0.runs(from, |run| {
            runs.push(Run::from(&run));
            runs.len() < count as usize
        });
        runs
    }

    fn act(&self, command: &Command) -> Outcome<Value> {
        let done = self.0.act(*command);
        let words = text(|out| write_done(out, command, &done, &self.ground(command)));
        match done {
            Done::Failed(reason) => Err(Failure::new(class(reason), words)),
            _ => Ok(reply(&words)),
        }
    }

    /// What the words of a reply need to know.
    fn ground(&self, command: &Command) -> Ground {
        let info = self.0.info();
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
        let data_start = self.0.info().layout.data_start();
        to.sector(data_start).map_or([None, None], |wanted| self.0.nearest_spare(sector, wanted))
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
        Reason::OutOfRange | Reason::OtherPlaceInUnit => Class::Usage,
        Reason::Busy | Reason::AlreadyRemapped | Reason::TimedOut => Class::Busy,
        Reason::NotRemapped => Class::Missing,
        _ => Class::Refused,
    }
}
