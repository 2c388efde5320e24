// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The life of a request between client, fast path, devices and recovery machine: what the
//! engine's threads do, one scheduled step at a time.
//!
//! ```text
//! Fresh --count--> Counted --resolve, route--> Routed --send--> AtDevice --answer--> (ended)
//!                                 |                                        |
//!                                 +---- obstacle ---> ForMachine <---------+ suspect error
//!                                                         |
//!                     Taken | Waiting | RetryAt | Fresh (again, or cut) | ended
//! ```

use dmremap_core::broken::{Broken, is};
use dmremap_core::message::Command as Message;
use dmremap_core::path::{Route, route};
use dmremap_core::pieces::Ticket;
use dmremap_core::{Class, Dev, Disposition, Failure as IoFailure, Kind, Millis, Op, Piece};

use crate::client::Ask;
use crate::command::{Command, CommandId, Ending, Origin};
use crate::content::{Version, data_contents};
use crate::oracle::Tick;
use crate::world::{Checked, Failure, Owner, World, fail, row};

/// Sectors of a region bucket: no piece crosses its edge.
pub const BUCKET_SECTORS: u64 = 2048;

/// Names a piece.
pub type PartId = u32;

/// What the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Data.
    Io(Kind),
    /// A flush.
    Flush,
    /// A message.
    Message,
    /// A message that marks its sectors.
    Mark,
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its handle.
    pub id: u64,
    /// Which connection it came over.
    pub connection: usize,
    /// What it is.
    pub wanted: Wanted,
    /// First sector.
    pub sector: u64,
    /// Length.
    pub sectors: u32,
    /// FUA.
    pub fua: bool,
    /// What a write writes.
    pub version: Version,
    /// When it began.
    pub began: Tick,
    /// The same on the clock.
    pub began_ms: Millis,
    /// When it first failed or had to wait.
    pub since: Option<Millis>,
    /// A unit of it has had its verdict.
    pub verdict: bool,
    /// Counters not given back: a broken variant.
    pub tickets: Vec<Ticket>,
    /// Its first error.
    pub error: Option<Class>,
    /// A flush: failures counted when it arrived, and what its connection was told of them.
    pub arrived: (u64, u64),
    /// Spare units found bad before it began.
    pub bad_spares_before: u64,
}

impl Request {
    /// Whether `sector` lies in it.
    #[must_use]
    pub fn covers(&self, sector: u64) -> bool {
        sector >= self.sector && sector - self.sector < u64::from(self.sectors)
    }
}

/// Where a piece is.
#[derive(Clone, Debug)]
pub enum PartStage {
    /// Not counted.
    Fresh,
    /// Counted, not resolved.
    Counted(Ticket),
    /// Resolved and not counted: a broken variant.
    Late(Dev, u64),
    /// Resolved, not sent.
    Routed(Ticket, Dev, u64),
    /// Sent.
    AtDevice(Ticket),
    /// To be handed to the machine, with its failure if it has one.
    ForMachine(Option<IoFailure>),
    /// Presented again when the machine's wakes have changed.
    Waiting {
        /// With its failure.
        failure: Option<IoFailure>,
        /// What the wakes were.
        wakes: u64,
    },
    /// Resolved anew then.
    RetryAt(Millis),
    /// The machine has it.
    Taken,
}

/// A piece of a request.
#[derive(Clone, Debug)]
pub struct Part {
    /// As the machine sees it.
    pub piece: Piece,
    /// Where it is.
    pub stage: PartStage,
}

impl Part {
    /// Whether `sector` lies in it.
    #[must_use]
    pub fn covers(&self, sector: u64) -> bool {
        sector >= self.piece.sector && sector - self.piece.sector < u64::from(self.piece.sectors)
    }
}

/// An answer the machine has not been told of.
#[derive(Clone, Debug)]
pub struct Told {
    /// The operation.
    pub op: Op,
    /// How it ended.
    pub ending: Ending,
}

impl World {
    /// The client asks for something.
    ///
    /// # Errors
    /// It is answered wrongly.
    pub fn ask(&mut self) -> Checked {
        let ask = {
            let World { client, rng, .. } = self;
            client.ask(rng)
        };
        let connection = self.rng.index(self.client.connections);
        if self.rng.one_in(64) && !self.requests.values().any(|r| r.connection == connection) {
            self.note(|| format!("connection {connection} is opened anew"));
            self.flush_judge.connected(connection);
            if let Some(session) = &mut self.session {
                session.connected(connection);
            }
        }
        self.request(connection, ask).map(|_| ())
    }

    /// A request begins; its handle.
    ///
    /// # Errors
    /// It is answered at once, and wrongly.
    pub fn request(&mut self, connection: usize, ask: Ask) -> Result<u64, Failure> {
        let id = self.next_request;
        self.next_request += 1;
        let mut request = Request {
            id,
            connection,
            wanted: Wanted::Message,
            sector: 0,
            sectors: 0,
            fua: false,
            version: 0,
            began: self.tick,
            began_ms: self.now,
            since: None,
            verdict: false,
            tickets: Vec::new(),
            error: None,
            arrived: (0, 0),
            bad_spares_before: self.troubles.count(crate::excuse::Trouble::SpareBad),
        };
        self.note(|| format!("request {id} on {connection}: {ask:?}"));
        match ask {
            Ask::Io { kind, sector, sectors, fua, hasty } => {
                (request.sector, request.sectors, request.fua) = (sector, sectors, fua);
                request.wanted = Wanted::Io(kind);
                if kind.changes() {
                    let zeros = kind != Kind::Write;
                    request.version = self.oracle.begin(sector, sectors, zeros, self.tick);
                    self.marks.write_begins(sector, sectors);
                }
                self.requests.insert(id, request);
                self.cut(id, kind, (sector, sectors), fua, hasty);
            }
            Ask::Flush => {
                request.wanted = Wanted::Flush;
                self.requests.insert(id, request);
                self.begin_flush(id, connection)?;
            }
            Ask::Remap(sector) => {
                self.begin_message(request, &Message::Remap { sector, to: None })?
            }
            Ask::Unremap(sector) => self.begin_message(request, &Message::Unremap { sector })?,
            Ask::Verify(sector) => self.begin_message(request, &Message::Verify { sector })?,
            Ask::Restore => self.begin_message(request, &Message::Restore)?,
            Ask::Mark { kind, sector, sectors } => {
                (request.sector, request.sectors) = (sector, sectors);
                request.wanted = Wanted::Mark;
                self.marks.under_way(sector, sectors, self.tick);
                let sectors = Some(sectors);
                self.begin_message(request, &Message::Mark { kind, sector, sectors })?;
            }
            Ask::Save => self.begin_message(request, &Message::Save)?,
        }
        Ok(id)
    }

    /// Cuts a request at the edges of region buckets.
    fn cut(&mut self, id: u64, kind: Kind, span: (u64, u32), fua: bool, hasty: bool) {
        let (mut sector, end) = (span.0, span.0 + u64::from(span.1));
        while sector < end {
            let edge = (sector / BUCKET_SECTORS + 1) * BUCKET_SECTORS;
            let sectors = (end.min(edge) - sector) as u32;
            self.add_part(Piece {
                request: id,
                kind,
                sector,
                sectors,
                fua,
                hasty,
                since: None,
                verdict: false,
            });
            sector += u64::from(sectors);
        }
    }

    fn add_part(&mut self, piece: Piece) {
        let id = self.next_part;
        self.next_part = self.next_part.wrapping_add(1);
        self.parts.insert(id, Part { piece, stage: PartStage::Fresh });
    }

    /// One step of a piece.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn step_part(&mut self, id: PartId) -> Checked {
        let Some(part) = self.parts.get(&id).cloned() else { return Ok(()) };
        let piece = part.piece;
        let Some(session) = &self.session else { return Ok(()) };
        match part.stage {
            PartStage::Fresh | PartStage::RetryAt(_) if is(Broken::PieceCountedAfterResolve) => {
                self.route_part(id, piece, None)
            }
            PartStage::Late(dev, sector) => {
                let queue = session.queue(piece.request);
                let ticket = session.shared.pieces.begin(queue, piece.sector, piece.kind.changes());
                self.stage(id, PartStage::Routed(ticket, dev, sector));
                Ok(())
            }
            PartStage::Fresh | PartStage::RetryAt(_) => {
                let queue = session.queue(piece.request);
                let ticket = session.shared.pieces.begin(queue, piece.sector, piece.kind.changes());
                self.stage(id, PartStage::Counted(ticket));
                Ok(())
            }
            PartStage::Counted(ticket) => self.route_part(id, piece, Some(ticket)),
            PartStage::Routed(ticket, dev, sector) => {
                self.stage(id, PartStage::AtDevice(ticket));
                self.send_part(id, &piece, dev, sector)
            }
            PartStage::ForMachine(failure) | PartStage::Waiting { failure, .. } => {
                self.hand_in(id, failure)
            }
            PartStage::AtDevice(_) | PartStage::Taken => Ok(()),
        }
    }

    pub(crate) fn stage(&mut self, id: PartId, stage: PartStage) {
        if let Some(part) = self.parts.get_mut(&id) {
            part.stage = stage;
        }
    }

    /// Resolves a counted piece; what it does not cover goes on as a piece of its own.
    fn route_part(&mut self, id: PartId, piece: Piece, ticket: Option<Ticket>) -> Checked {
        let Some(session) = &self.session else { return Ok(()) };
        let routed = route(&session.shared, piece.kind, piece.sector, u64::from(piece.sectors));
        let covered = match routed {
            Route::Submit { sectors, .. }
            | Route::Machine { sectors }
            | Route::Skip { sectors }
            | Route::Fail { sectors, .. } => u32::try_from(sectors).unwrap_or(u32::MAX),
        };
        if covered == 0 || covered > piece.sectors {
            return fail(format!("{piece:?} was routed to {routed:?}"));
        }
        self.note(|| format!("  part {id} {}+{covered}: {routed:?}", piece.sector));
        if covered < piece.sectors {
            self.add_part(Piece {
                sector: piece.sector + u64::from(covered),
                sectors: piece.sectors - covered,
                ..piece
            });
        }
        if let Some(part) = self.parts.get_mut(&id) {
            part.piece.sectors = covered;
        }
        match routed {
            Route::Submit { dev, sector, .. } => {
                let stage = match ticket {
                    Some(ticket) => PartStage::Routed(ticket, dev, sector),
                    None => PartStage::Late(dev, sector),
                };
                self.stage(id, stage);
                Ok(())
            }
            Route::Machine { .. } => {
                self.stage(id, PartStage::ForMachine(None));
                ticket.map_or(Ok(()), |ticket| self.give_back(piece.request, ticket))
            }
            Route::Skip { .. } => {
                ticket.map_or(Ok(()), |ticket| self.give_back(piece.request, ticket))?;
                self.part_ended(id, Ok(Vec::new()))
            }
            Route::Fail { class, .. } => {
                ticket.map_or(Ok(()), |ticket| self.give_back(piece.request, ticket))?;
                self.part_ended(id, Err((class, u8::MAX)))
            }
        }
    }

    fn send_part(&mut self, id: PartId, piece: &Piece, dev: Dev, sector: u64) -> Checked {
        let version = self.requests.get(&piece.request).map_or(0, |r| r.version);
        let command = match piece.kind {
            Kind::Read => Command::Read { sector, sectors: piece.sectors },
            _ => Command::Write {
                sector,
                data: data_contents(piece.sector, piece.sectors, version),
                fua: piece.fua,
            },
        };
        self.check_place(dev, &command, None)?;
        self.send(dev, command, Origin::Client, Owner::Part(id));
        Ok(())
    }

    /// Sends a command to a device.
    pub fn send(&mut self, dev: Dev, command: Command, origin: Origin, owner: Owner) -> CommandId {
        let due = self.due();
        let now = self.now;
        let id = self.disk(dev).send(command, origin, now, due);
        self.owners.insert((row(dev), id), owner);
        if self.script.as_ref().is_some_and(|s| s.holds(dev, &self.disks[row(dev)], id)) {
            self.disk(dev).hold(id, true);
        }
        id
    }

    /// The counter of a piece is given back.
    fn give_back(&mut self, request: u64, ticket: Ticket) -> Checked {
        if let (true, Some(request)) =
            (is(Broken::GraceCountsRequests), self.requests.get_mut(&request))
        {
            request.tickets.push(ticket);
            return Ok(());
        }
        self.return_ticket(ticket)
    }

    /// The same, for good.
    ///
    /// # Errors
    /// What the machine does then is wrong.
    pub fn return_ticket(&mut self, ticket: Ticket) -> Checked {
        let now = self.now;
        let Some(session) = &mut self.session else { return Ok(()) };
        if session.shared.pieces.end(ticket) {
            session.machine.grace_tick(now);
            return self.drain();
        }
        Ok(())
    }

    /// A device has answered.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn command_answered(&mut self, dev: Dev, id: CommandId) -> Checked {
        let Some((inflight, ending)) = self.disk(dev).answer(id) else { return Ok(()) };
        let took = self.now - inflight.sent_at;
        let span = inflight.command.span();
        if let Err(class) = &ending {
            let class = *class;
            self.note(|| format!("  {dev:?} {span:?} fails: {class} {:?}", inflight.origin));
        }
        match self.owners.remove(&(row(dev), id)) {
            Some(Owner::Part(part)) => self.part_answered(part, dev, span.0, ending, took),
            Some(Owner::Op(op)) => {
                self.watch_spare(&op, &ending);
                self.inbox.push(Told { op, ending });
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn part_answered(
        &mut self,
        id: PartId,
        dev: Dev,
        sector: u64,
        ending: Ending,
        took: Millis,
    ) -> Checked {
        let Some(part) = self.parts.get(&id).cloned() else { return Ok(()) };
        let PartStage::AtDevice(ticket) = part.stage else {
            return fail(format!("{part:?} was answered by {dev:?}"));
        };
        if let Some(session) = &self.session {
            if part.piece.kind.changes() && dev != Dev::Main {
                session.shared.count_written(dev);
            }
        }
        match ending {
            Ok(contents) => {
                // The part ends before its counter is given back: as the engine's worker, which
                // copies what it has read and then lets go.
                self.give_back(part.piece.request, ticket)?;
                self.part_ended(id, Ok(contents))
            }
            Err(class) => {
                let out = self.disks[row(dev)].is_out(self.now);
                if let (true, false, Some(session)) = (dev != Dev::Main, out, &mut self.session) {
                    let last = sector + u64::from(part.piece.sectors) - 1;
                    session.bad_spare_sectors.extend(sector / 8..=last / 8);
                }
                let took_ms = u32::try_from(took).unwrap_or(u32::MAX);
                let failure = IoFailure { dev, sector, class, took_ms };
                self.stage(id, PartStage::ForMachine(Some(failure)));
                self.give_back(part.piece.request, ticket)
            }
        }
    }

    /// Hands a piece to the machine.
    fn hand_in(&mut self, id: PartId, failure: Option<IoFailure>) -> Checked {
        let now = self.now;
        let Some(part) = self.parts.get_mut(&id) else { return Ok(()) };
        let Some(request) = self.requests.get_mut(&part.piece.request) else { return Ok(()) };
        request.since.get_or_insert(now);
        part.piece.since = request.since;
        part.piece.verdict = request.verdict;
        let piece = part.piece;
        part.stage = PartStage::Taken;
        let Some(session) = &mut self.session else { return Ok(()) };
        let disposition = match &failure {
            Some(failure) => session.machine.failed(&piece, failure, now),
            None => session.machine.park(&piece, now),
        };
        let wakes = session.machine.wakes();
        self.note(|| format!("  part {id} {failure:?}: {disposition:?}"));
        match disposition {
            Disposition::Taken => {}
            Disposition::Again => self.stage(id, PartStage::Fresh),
            Disposition::Wait => self.stage(id, PartStage::Waiting { failure, wakes }),
            Disposition::RetryAt(at) => self.stage(id, PartStage::RetryAt(at)),
            Disposition::Split => self.split(id),
            Disposition::Fail(class) => self.part_ended(id, Err((class, u8::MAX)))?,
            Disposition::Done => self.part_ended(id, Ok(Vec::new()))?,
        }
        self.drain()
    }

    /// Cuts a piece at unit boundaries.
    fn split(&mut self, id: PartId) {
        let Some(part) = self.parts.remove(&id) else { return };
        let (mut sector, end) =
            (part.piece.sector, part.piece.sector + u64::from(part.piece.sectors));
        while sector < end {
            let to = end.min((sector / 8 + 1) * 8);
            self.add_part(Piece { sector, sectors: (to - sector) as u32, ..part.piece });
            sector = to;
        }
    }
}
