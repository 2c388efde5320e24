// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every answer the volume gives is held against the oracle and the excuses here, at the instant it
//! is given.
//!
//! Invariants checked, besides those of [`crate::oracle`] and [`crate::excuse`]:
//! * Nothing is ever written to main but a block's own content at its own place.
//! * On the spare data goes between `data_start` and `data_end`, to the same place in its unit, and
//!   metadata to metadata's places.
//! * A device is held for suspect only after two reads of a probe failed.
//! * A spare unit is quarantined only after it failed by itself, not with its device.
//! * A block becomes gone only if its spare sector could not be read.

use dmremap_core::message::Command as Message;
use dmremap_core::resolve::{Mark, Place};
use dmremap_core::{Class, Dev, Done, Event, FlushCounts, Kind, Op, OpKind, Piece};

use crate::command::{Command, Ending};
use crate::content::Content;
use crate::driver::{PartId, Request, Wanted};
use crate::excuse::Trouble;
use crate::world::{Checked, World, fail, row};

impl World {
    /// A piece has ended; an error comes with the blocks of its unit that it is about.
    ///
    /// # Errors
    /// It may not end so.
    pub fn part_ended(&mut self, id: PartId, ending: Result<Vec<Content>, (Class, u8)>) -> Checked {
        let Some(part) = self.parts.remove(&id) else { return Ok(()) };
        let piece = part.piece;
        let Some(request) = self.requests.get(&piece.request).cloned() else { return Ok(()) };
        match ending {
            Ok(contents) if piece.kind == Kind::Read => {
                if contents.len() != piece.sectors as usize {
                    return fail(format!("{piece:?} returned {} sectors", contents.len()));
                }
                for (sector, content) in (piece.sector..).zip(&contents) {
                    self.check_read(&request, sector, content)?;
                }
            }
            Ok(_) => {}
            Err((class, mask)) => {
                self.note(|| format!("  part {id} of {}: {class} {mask:08b}", request.id));
                if let Some(request) = self.requests.get_mut(&piece.request) {
                    request.error.get_or_insert(class);
                }
                if piece.kind == Kind::Read {
                    self.judge_read_error(&request, &piece, class, mask)?;
                } else {
                    self.judge_write_error(&request, &piece, class)?;
                }
            }
        }
        if !self.parts.values().any(|p| p.piece.request == request.id) {
            self.request_ended(request.id);
            for ticket in request.tickets {
                self.return_ticket(ticket)?;
            }
        }
        Ok(())
    }

    fn check_read(&mut self, request: &Request, sector: u64, content: &Content) -> Checked {
        let tick = self.tick;
        if self.marks.was_gone(sector, request.began) {
            return fail(format!("read {} returned sector {sector}, which is gone", request.id));
        }
        match self.oracle.read(sector, content, request.began, tick) {
            Ok(()) => Ok(()),
            Err(wrong) => fail(format!(
                "read {} returned {:?} for sector {sector}, right would be versions {:?}",
                request.id, wrong.got, wrong.allowed
            )),
        }
    }

    /// Blocks of a partly readable piece that were read.
    ///
    /// # Errors
    /// They hold something wrong.
    pub fn check_readable(&mut self, buffer: u16, piece: &Piece, mask: u8) -> Checked {
        let Some(request) = self.requests.get(&piece.request).cloned() else { return Ok(()) };
        for sector in piece.sector..piece.sector + u64::from(piece.sectors) {
            let block = sector % 8 / self.config.block_sectors;
            if mask & (1 << block) == 0 {
                let Some(session) = &self.session else { return Ok(()) };
                let content = session.buffers[usize::from(buffer)][(sector % 8) as usize].clone();
                self.check_read(&request, sector, &content)?;
            }
        }
        Ok(())
    }

    fn request_ended(&mut self, id: u64) {
        let Some(request) = self.requests.remove(&id) else { return };
        let tick = self.tick;
        self.counts.operations += 1;
        self.counts.errors += u64::from(request.error.is_some());
        self.ended(id, request.error);
        if let Wanted::Io(kind) = request.wanted {
            if kind.changes() {
                let sure = request.error.is_none() && kind != Kind::Discard;
                self.oracle.end(
                    (request.sector, request.sectors),
                    (request.version, request.began),
                    sure,
                    request.fua,
                    tick,
                );
                if sure {
                    self.marks_overwritten(request.sector, request.sectors, request.began);
                }
            }
        }
        self.note(|| format!("request {id} ends: {:?}", request.error));
    }

    fn judge_read_error(
        &mut self,
        request: &Request,
        piece: &Piece,
        class: Class,
        mask: u8,
    ) -> Checked {
        let size = self.config.block_sectors;
        let mut sector = piece.sector;
        while sector < piece.sector + u64::from(piece.sectors) {
            let block = sector % 8 / size;
            if mask & (1 << block) != 0 && !piece.hasty {
                // A piece that fails whole may owe it to another of its blocks' device.
                let whole = mask == u8::MAX
                    && u64::from(piece.sectors) > size
                    && [Dev::Main, Dev::Spare(0)]
                        .iter()
                        .any(|dev| self.troubles.excuse(*dev, request.began));
                let unjust = self.read_error_unjust(request, sector, class);
                if let Some(why) = unjust.filter(|_| !whole) {
                    return fail(format!(
                        "read {} of sector {sector} failed with {class}: {why}",
                        request.id
                    ));
                }
            }
            sector += size;
        }
        Ok(())
    }

    /// Why the block at `sector` should have been read; `None` if the error is just.
    fn read_error_unjust(&self, request: &Request, sector: u64, class: Class) -> Option<String> {
        let session = self.session.as_ref()?;
        let since = request.began;
        if self.troubles.since(Trouble::Slow, since) || self.past_limit(request) {
            return None;
        }
        let size = self.config.block_sectors;
        let run = session.shared.resolve(sector, size);
        if run.mark == Mark::Doubt {
            let just = session.metadata_trouble || self.troubles.since(Trouble::SpareOut, since);
            return (!just).then(|| "it is in doubt and no metadata write had failed".into());
        }
        let (dev, at) = match run.place {
            Place::Gone => return self.gone_unjust(sector),
            Place::Main => (Dev::Main, sector),
            Place::Spare { member, sector: at } => (Dev::Spare(member), at),
        };
        if self.troubles.excuse(dev, since) {
            return None;
        }
        if dev == Dev::Main && (at..at + size).any(|s| self.marks.excuse(s)) {
            return None;
        }
        let disk = &self.disks[row(dev)];
        if class.is_suspect() && (at..at + size).any(|s| disk.failed_reads.contains(&s)) {
            return None;
        }
        Some(format!("it lives on {dev:?} at {at} ({:?}), where no read had failed", run.mark))
    }

    /// Whether recovery has had all the time it may take for this request.
    fn past_limit(&self, request: &Request) -> bool {
        let limit = u64::from(self.config.limit_ms);
        !self.config.patient && request.since.is_some_and(|since| self.now >= since + limit)
    }

    /// Why the block at `sector` should not be gone.
    fn gone_unjust(&self, sector: u64) -> Option<String> {
        if (sector..sector + self.config.block_sectors).any(|s| self.marks.excuse(s)) {
            return None;
        }
        let spare = &self.disks[1];
        let just = (sector..sector + self.config.block_sectors).any(|s| {
            let failures = |version: &u32| spare.unread.get(&(s, *version)).copied().unwrap_or(0);
            self.oracle.allowed(s).iter().any(|version| failures(version) >= 2)
        });
        (!just).then(|| "it is gone, and the spare had not failed twice to read it".into())
    }

    fn judge_write_error(&mut self, request: &Request, piece: &Piece, class: Class) -> Checked {
        self.watch_machine();
        let since = request.began;
        let doubtful = self.session.as_ref().is_some_and(|session| {
            session.metadata_trouble
                && session.shared.resolve(piece.sector, u64::from(piece.sectors)).mark
                    == Mark::Doubt
        });
        let bad_spares = self.troubles.count(Trouble::SpareBad) - request.bad_spares_before;
        let just = self.troubles.excuse(Dev::Main, since)
            || self.troubles.excuse(Dev::Spare(0), since)
            || self.troubles.since(Trouble::Slow, since)
            || (class.is_suspect()
                && (doubtful
                    || self.past_limit(request)
                    || self.troubles.since(Trouble::Metadata, since)
                    || self.troubles.since(Trouble::SpareFull, since)
                    || piece.kind == Kind::Discard
                    || bad_spares >= 3));
        if just {
            return Ok(());
        }
        let status = self.session.as_ref().map(|s| s.machine.status());
        self.note(|| format!("{status:?}"));
        fail(format!(
            "{:?} {} of {}+{} failed with {class}, and nothing excuses it",
            piece.kind, request.id, piece.sector, piece.sectors
        ))
    }

    /// A flush begins.
    ///
    /// # Errors
    /// The machine has no place for it, or does something wrong.
    pub fn begin_flush(&mut self, id: u64, connection: usize) -> Checked {
        let now = self.now;
        let arrived = self.flush_judge.arrived(connection);
        if let Some(request) = self.requests.get_mut(&id) {
            request.arrived = arrived;
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let told = session.told(connection);
        if !session.machine.flush(id, told, now) {
            return fail("the machine has no place for a flush");
        }
        self.drain()
    }

    /// A flush has ended.
    ///
    /// # Errors
    /// It may not end so.
    pub fn flush_ended(
        &mut self,
        id: u64,
        outcome: Result<(), Class>,
        failures: FlushCounts,
    ) -> Checked {
        let Some(request) = self.requests.remove(&id) else {
            return fail(format!("flush {id} was answered and is not under way"));
        };
        self.counts.operations += 1;
        self.counts.errors += u64::from(outcome.is_err());
        self.ended(id, outcome.err());
        self.note(|| format!("flush {id} ends: {outcome:?}"));
        if outcome.is_err() {
            if let Some(session) = &mut self.session {
                session.set_told(request.connection, failures);
            }
        }
        let since = request.began;
        let excused = self.troubles.excuse(Dev::Main, since)
            || self.troubles.excuse(Dev::Spare(0), since)
            || self.troubles.since(Trouble::Slow, since);
        if let Err(why) =
            self.flush_judge.answered(request.connection, request.arrived, outcome, excused)
        {
            return fail(format!("flush {id} on {}: {why}", request.connection));
        }
        if outcome.is_ok() {
            self.oracle.flushed(request.began);
        }
        Ok(())
    }

    /// A message is handed to the machine.
    ///
    /// # Errors
    /// The reply is nonsense.
    pub fn begin_message(&mut self, request: Request, message: &Message) -> Checked {
        let (id, now) = (request.id, self.now);
        self.requests.insert(id, request);
        let Some(session) = &mut self.session else { return Ok(()) };
        if let Some(done) = session.machine.act(id, message, now) {
            self.message_ended(id, &done)?;
        }
        self.drain()
    }

    /// A message has been carried out, or not.
    ///
    /// # Errors
    /// The reply is nonsense.
    pub fn message_ended(&mut self, id: u64, outcome: &Done) -> Checked {
        self.note(|| format!("message {id} ends: {outcome:?}"));
        let Some(request) = self.requests.remove(&id) else {
            return fail(format!("message {id} was answered and is not under way"));
        };
        self.counts.operations += 1;
        if request.wanted == Wanted::Mark {
            self.marks.under_way(request.sector, request.sectors, self.tick);
        }
        match outcome {
            Done::Marked(marked) => self.counts.marked += marked.marked,
            Done::Restored(restored) => {
                self.counts.restores += 1;
                self.counts.renewed += u64::from(restored.renewed);
            }
            _ => {}
        }
        self.ended(id, matches!(outcome, Done::Failed(_)).then_some(Class::Io));
        if let (Done::Remapped { spare_sector, .. }, Some(session)) = (outcome, &self.session) {
            let layout = &session.layout;
            if *spare_sector < layout.data_start() || *spare_sector >= layout.data_end() {
                return fail(format!("message {id} moved a unit to spare sector {spare_sector}"));
            }
        }
        Ok(())
    }

    /// Watches what the spare does to recovery's operations.
    pub fn watch_spare(&mut self, op: &Op, ending: &Ending) {
        let failed = ending.is_err();
        let out = self.disks[1].is_out(self.now);
        let tick = self.tick;
        let Some(session) = &mut self.session else { return };
        match (op.dev, op.kind) {
            (dev, OpKind::Probe) if failed => session.bad_probes[row(dev)] += 1,
            (Dev::Main, _) => {}
            (_, OpKind::WritePage | OpKind::ReadPage | OpKind::Flush) if failed => {
                session.metadata_trouble = true;
                self.troubles.strike(Trouble::Metadata, tick);
            }
            (_, OpKind::Write { .. } | OpKind::Read { .. } | OpKind::Verify { .. })
                if failed && !out =>
            {
                session.bad_spare_sectors.insert(op.sector / 8);
                self.troubles.strike(Trouble::SpareBad, tick);
            }
            (_, OpKind::Verify { buffer, offset }) => {
                let same =
                    ending.as_ref().is_ok_and(|contents| session.holds(buffer, offset, contents));
                if !same {
                    // It counts as a failed flush, which fails a commit's pair.
                    session.metadata_trouble = true;
                    self.troubles.strike(Trouble::Metadata, tick);
                    session.bad_spare_sectors.insert(op.sector / 8);
                    self.troubles.strike(Trouble::SpareBad, tick);
                }
            }
            _ => {}
        }
    }

    /// The machine tells an event.
    ///
    /// # Errors
    /// It may not happen.
    pub fn event(&mut self, event: Event) -> Checked {
        self.note(|| format!("  event {event:?}"));
        if let Some(script) = &mut self.script {
            script.events.push(event);
        }
        let tick = self.tick;
        match event {
            Event::Moved { .. } => self.counts.moves += 1,
            Event::Home { .. } => self.counts.homes += 1,
            Event::Suspect(dev) => {
                let trouble = suspect(dev);
                self.troubles.begin(trouble, tick);
                let bad = self.session.as_mut().map_or(0, |s| s.bad_probes[row(dev)]);
                // A read that is still out when its time is over counts as bad.
                if bad < 2 && !self.troubles.now(Trouble::Slow) {
                    return fail(format!("{dev:?} is held for suspect after {bad} bad probes"));
                }
            }
            Event::Healed(dev) => {
                self.troubles.end(suspect(dev), tick);
                if let Some(session) = &mut self.session {
                    session.bad_probes[row(dev)] = 0;
                }
            }
            Event::Quarantined { spare_sector } => {
                self.counts.quarantined += 1;
                let just = self
                    .session
                    .as_ref()
                    .is_some_and(|s| s.bad_spare_sectors.contains(&(spare_sector / 8)));
                if !just && !self.disks[1].failed_in(spare_sector, 8) {
                    return fail(format!(
                        "spare sector {spare_sector} is quarantined and never failed by itself"
                    ));
                }
            }
            Event::Gone { main_sector, blocks } => {
                self.counts.gone += 1;
                let size = self.config.block_sectors;
                for block in (0..8 / size).filter(|b| blocks & (1 << b) != 0) {
                    let sector = main_sector + block * size;
                    if let Some(why) = self.gone_unjust(sector) {
                        return fail(format!("sector {sector}: {why}"));
                    }
                    (sector..sector + size).for_each(|sector| self.marks_gone(sector));
                }
            }
            Event::InDoubt { .. } => self.troubles.strike(Trouble::Metadata, tick),
            _ => {}
        }
        Ok(())
    }

    /// Whether a command goes where it may.
    ///
    /// # Errors
    /// It does not.
    pub fn check_place(&self, dev: Dev, command: &Command, op: Option<OpKind>) -> Checked {
        let Command::Write { sector, data, .. } = command else { return Ok(()) };
        let Some(session) = &self.session else { return Ok(()) };
        let layout = &session.layout;
        for (at, content) in (*sector..).zip(data) {
            let right = match (dev, content) {
                (Dev::Main, Content::Data { sector, .. }) => *sector == at,
                (Dev::Main, _) => false,
                (_, Content::Data { sector, .. }) => {
                    at >= layout.data_start()
                        && at < layout.data_end()
                        && sector % 8 == (at - layout.data_start()) % 8
                }
                (_, Content::Page { .. }) => at < layout.data_start(),
                _ => false,
            };
            if !right {
                return fail(format!("{op:?} writes {content:?} to {dev:?} at {at}"));
            }
        }
        Ok(())
    }
}

fn suspect(dev: Dev) -> Trouble {
    match dev {
        Dev::Main => Trouble::MainSuspect,
        Dev::Spare(_) => Trouble::SpareSuspect,
    }
}
