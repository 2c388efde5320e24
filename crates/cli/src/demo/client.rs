// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The demo's side of the NBD connection: read everything and compare, and write with many
//! requests under way.

use std::collections::HashMap;
use std::path::Path;

use dmremap_nbd::{Client, ClientError, Cookie, Operation};

use crate::failure::{Class, Failure, Outcome};

use super::damage::Edit;
use super::model::{Compared, Model, SECTOR};

/// Requests kept under way.
pub const DEPTH: usize = 24;
/// Sectors of a read.
const READ_SECTORS: u64 = 2048;

/// Connects to the volume at the unix socket `path`.
pub fn connect(path: &Path) -> Outcome<Client> {
    Client::connect_unix(path, "").map_err(|error| lost(&error))
}

fn lost(error: &ClientError) -> Failure {
    Failure::new(Class::Internal, format!("the NBD connection: {error}"))
}

/// Reads the whole volume with many requests under way and compares it with the model. A read that
/// fails is cut in halves until it is known which sectors cannot be read.
pub fn compare_all(client: &Client, model: &mut Model) -> Outcome<Compared> {
    let mut found = Compared::default();
    let mut next = 0;
    let mut flying: HashMap<Cookie, (u64, u64)> = HashMap::new();
    let mut again: Vec<(u64, u64)> = Vec::new();
    loop {
        while flying.len() < DEPTH && (next < model.sectors() || !again.is_empty()) {
            let (sector, sectors) = again.pop().unwrap_or_else(|| {
                let sectors = READ_SECTORS.min(model.sectors() - next);
                next += sectors;
                (next - sectors, sectors)
            });
            let read = Operation::Read { offset: sector * SECTOR, len: (sectors * SECTOR) as u32 };
            let cookie = client.submit(read).map_err(|error| lost(&error))?;
            flying.insert(cookie, (sector, sectors));
        }
        let Some(done) = client.next_completed() else { break };
        let Some((sector, sectors)) = flying.remove(&done.cookie) else { continue };
        match done.result {
            Ok(bytes) if bytes.len() as u64 == sectors * SECTOR => {
                model.compare(sector, &bytes, &mut found);
            }
            Ok(_) => return Err(Failure::new(Class::Internal, "a read of the wrong length")),
            Err(ClientError::Remote(_)) if sectors == 1 => model.failed(sector, &mut found),
            Err(ClientError::Remote(_)) => {
                let half = sectors / 2;
                again.extend([(sector, half), (sector + half, sectors - half)]);
            }
            Err(error) => return Err(lost(&error)),
        }
    }
    Ok(found)
}

/// How a round of writes went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes the server refused or could not do.
    pub failed: u64,
    /// The most that were under way at once.
    pub most_in_flight: usize,
    /// Under way when the connection ended.
    pub cut_off: usize,
}

/// Sends `edits` and keeps [`DEPTH`] of them under way until all are answered. With a `kill` only
/// until so many are acknowledged: then it doubles what is under way, calls it at once and sends
/// nothing more; that the connection ends is no error then.
pub fn write_all(
    client: &Client,
    edits: &[Edit],
    model: &mut Model,
    kill: Option<(u64, &mut dyn FnMut() -> Outcome<()>)>,
) -> Outcome<Written> {
    let mut written = Written::default();
    let mut flying: HashMap<Cookie, &Edit> = HashMap::new();
    let mut waiting = edits.iter();
    let (until, mut kill) = kill.map_or((u64::MAX, None), |(until, kill)| (until, Some(kill)));
    let mut killed = false;
    loop {
        let now = !killed && written.acknowledged >= until;
        let depth = if now { 2 * DEPTH } else { DEPTH };
        let mut sent = Vec::new();
        while !killed && flying.len() < depth {
            let Some(edit) = waiting.next() else { break };
            flying.insert(send(client, edit)?, edit);
            sent.push(edit);
        }
        written.most_in_flight = written.most_in_flight.max(flying.len());
        if let (true, Some(kill)) = (now, &mut kill) {
            kill()?;
            killed = true;
        }
        // Only now, for it takes longer than a write: no answer has been looked at yet.
        sent.iter().for_each(|edit| model.sent(edit.sector, &edit.bytes));
        let Some(done) = client.next_completed() else { break };
        let Some(edit) = flying.remove(&done.cookie) else { continue };
        match done.result {
            Ok(_) => {
                model.answered(edit.sector, &edit.bytes);
                written.acknowledged += 1;
            }
            Err(ClientError::Remote(_)) => written.failed += 1,
            Err(_) if killed => written.cut_off += 1,
            Err(error) => return Err(lost(&error)),
        }
    }
    Ok(written)
}

fn send(client: &Client, edit: &Edit) -> Outcome<Cookie> {
    let offset = edit.sector * SECTOR;
    let write = Operation::Write { offset, data: &edit.bytes, fua: false };
    client.submit(write).map_err(|error| lost(&error))
}
