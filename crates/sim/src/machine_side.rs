// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The driver's other half: what the machine is told, and what it asks for.

use dmremap_core::{Action, Answer, Class, Dev, Kind, Op, OpKind, Outcome, Piece};

use crate::command::{Command, Origin};
use crate::content::{Content, data_contents, page_bytes, page_contents};
use crate::driver::{Part, PartId, PartStage, Told};
use crate::world::{Checked, Owner, World, fail};

impl World {
    /// The machine is told of an answer.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn tell(&mut self, at: usize) -> Checked {
        let Told { op, ending } = self.inbox.remove(at);
        let now = self.now;
        let Some(session) = &mut self.session else { return Ok(()) };
        let mut page = None;
        let answer = match (op.kind, ending) {
            (_, Err(class)) => Answer::Failed(class),
            (OpKind::Read { buffer, offset }, Ok(contents)) => {
                session.fill(buffer, offset, &contents);
                Answer::Good
            }
            (OpKind::Verify { buffer, offset }, Ok(contents)) => {
                if session.holds(buffer, offset, &contents) {
                    Answer::Good
                } else {
                    Answer::Differs
                }
            }
            (OpKind::ReadPage, Ok(contents)) => {
                page = Some(page_bytes(&contents));
                Answer::Good
            }
            _ => Answer::Good,
        };
        if answer == Answer::Differs || (op.kind == OpKind::Flush && answer != Answer::Good) {
            self.flush_judge.failed();
        }
        session.machine.answered(op.id, answer, page.as_deref(), now);
        let written = op.dev != Dev::Main && matches!(op.kind, OpKind::WritePage | OpKind::Flush);
        self.note(|| {
            format!("  told {:?} {:?} {}+{}: {answer:?}", op.dev, op.kind, op.sector, op.sectors)
        });
        self.drain()?;
        if written { self.crash_in_commit() } else { Ok(()) }
    }

    /// The machine's time has come.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn machine_tick(&mut self) -> Checked {
        let now = self.now;
        if let Some(session) = &mut self.session {
            session.machine.tick(now, (now / 1000) as u32);
        }
        self.drain()
    }

    /// Carries out what the machine asks for.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn drain(&mut self) -> Checked {
        while let Some(action) = self.session.as_mut().and_then(|s| s.machine.next_action()) {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Checked {
        match action {
            Action::Io(op) => self.send_op(op),
            Action::CopyIn { buffer, piece } => {
                let version = self.requests.get(&piece.request).map_or(0, |r| r.version);
                let data = data_contents(piece.sector, piece.sectors, version);
                if let Some(session) = &mut self.session {
                    session.fill(buffer, (piece.sector % 8 * 512) as u16, &data);
                }
                Ok(())
            }
            Action::Complete { buffer, piece, outcome } => {
                let Some(id) = self.taken(&piece) else {
                    return fail(format!("{piece:?} was completed and is not with the machine"));
                };
                let ending = match outcome {
                    Outcome::Good => Ok(self.read_out(buffer, &piece)),
                    Outcome::Unreadable(mask) => {
                        self.check_readable(buffer, &piece, mask)?;
                        Err((Class::Medium, mask))
                    }
                    Outcome::Failed(class) => Err((class, u8::MAX)),
                };
                self.part_ended(id, ending)
            }
            Action::Again { piece, at } => {
                let Some(id) = self.taken(&piece) else {
                    return fail(format!("{piece:?} came back and was not with the machine"));
                };
                self.stage(id, PartStage::RetryAt(at));
                Ok(())
            }
            Action::Verdict { request } => {
                if let Some(request) = self.requests.get_mut(&request) {
                    request.verdict = true;
                }
                Ok(())
            }
            Action::Flushed { id, outcome, failures } => self.flush_ended(id, outcome, failures),
            Action::Reply { id, outcome } => self.message_ended(id, &outcome),
            Action::Event(event) => self.event(event),
        }
    }

    fn taken(&self, piece: &Piece) -> Option<PartId> {
        let here = |part: &Part| {
            matches!(part.stage, PartStage::Taken)
                && part.piece.request == piece.request
                && part.piece.sector == piece.sector
        };
        self.parts.iter().find(|(_, part)| here(part)).map(|(id, _)| *id)
    }

    fn read_out(&self, buffer: u16, piece: &Piece) -> Vec<Content> {
        if piece.kind != Kind::Read {
            return Vec::new();
        }
        let from = (piece.sector % 8) as usize;
        let Some(session) = &self.session else { return Vec::new() };
        session.buffers[usize::from(buffer)][from..from + piece.sectors as usize].to_vec()
    }

    /// An operation of the machine goes to its device.
    fn send_op(&mut self, op: Op) -> Checked {
        let (sector, sectors) = (op.sector, op.sectors);
        let Some(session) = &mut self.session else { return Ok(()) };
        let command = match op.kind {
            OpKind::Read { .. } | OpKind::Verify { .. } | OpKind::Probe | OpKind::ReadPage => {
                Command::Read { sector, sectors }
            }
            OpKind::Write { buffer, offset, fua } => {
                Command::Write { sector, data: session.contents(buffer, offset, sectors), fua }
            }
            OpKind::Flush => Command::Flush,
            OpKind::WritePage => {
                let mut page = [0u8; dmremap_format::PAGE_BYTES];
                session.machine.page_image(op.id, &mut page);
                Command::Write { sector, data: page_contents(&page), fua: false }
            }
        };
        self.check_place(op.dev, &command, Some(op.kind))?;
        self.send(op.dev, command, Origin::Recovery, Owner::Op(op));
        Ok(())
    }
}
