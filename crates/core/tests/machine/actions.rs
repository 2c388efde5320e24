// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The driver's other half: what the machine asks for.

use dmremap_core::{Action, Class, Kind, Op, OpKind, Outcome, Piece};
use dmremap_format::PAGE_BYTES;

use super::disk::{F, Owner, PAGES, PROBE, Place, R, V, W, sectors_of};
use super::driver::Stage;
use super::rig::Rig;

impl Rig {
    /// Carries out what the machine asks for.
    pub fn drain(&mut self) {
        for _ in 0..100_000 {
            let Some(action) = self.machine.next_action() else { return };
            self.act(action);
        }
        panic!("the machine asks without end: {:?}", &self.log[self.log.len() - 40..]);
    }

    fn taken(&mut self, piece: &Piece) -> usize {
        let at = self.parts.iter().position(|p| {
            matches!(p.stage, Stage::Taken)
                && p.piece.request == piece.request
                && p.piece.sector == piece.sector
        });
        at.unwrap_or_else(|| panic!("{piece:?} is not with the machine"))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Io(op) => self.send_op(op),
            Action::CopyIn { buffer, piece } => {
                let data = self.data_of(&piece).concat();
                let at = (piece.sector % 8 * 512) as usize;
                self.buffers[usize::from(buffer)][at..at + data.len()].copy_from_slice(&data);
            }
            Action::Complete { buffer, piece, outcome } => self.complete(buffer, &piece, outcome),
            Action::Again { piece, at } => {
                let index = self.taken(&piece);
                self.parts[index].stage = Stage::RetryAt(at);
            }
            Action::Verdict { request } => {
                self.requests.get_mut(&request).unwrap().verdict = true;
            }
            Action::Flushed { id, outcome, failures } => {
                if outcome.is_err() {
                    self.told.insert(self.flush_of[&id], failures);
                }
                assert!(self.flushed.insert(id, outcome).is_none(), "answered once");
            }
            Action::Reply { id, outcome } => {
                assert!(self.replies.insert(id, outcome).is_none(), "answered once");
            }
            Action::Event(event) => self.events.push(event),
        }
    }

    fn complete(&mut self, buffer: u16, piece: &Piece, outcome: Outcome) {
        let index = self.taken(piece);
        let result = match outcome {
            Outcome::Good => Ok(()),
            Outcome::Unreadable(mask) => Err((Class::Medium, mask)),
            Outcome::Failed(class) => Err((class, u8::MAX)),
        };
        if piece.kind == Kind::Read && !matches!(outcome, Outcome::Failed(_)) {
            let at = (piece.sector % 8) as usize;
            let buffer = &self.buffers[usize::from(buffer)];
            let tags: Vec<u8> =
                (at..at + piece.sectors as usize).map(|s| buffer[s * 512]).collect();
            self.store(piece, &tags);
        }
        self.over(index, result);
    }

    fn send_op(&mut self, op: Op) {
        let span = (op.sector, u64::from(op.sectors));
        let place = |buffer: u16, at: u16| Place::Buffer(buffer.into(), at.into());
        let (kind, write, place) = match op.kind {
            OpKind::Read { buffer, offset } => (R, false, place(buffer, offset)),
            OpKind::Write { buffer, offset, .. } => (W, true, place(buffer, offset)),
            OpKind::Verify { buffer, offset } => (V, false, place(buffer, offset)),
            OpKind::Probe => (PROBE, false, Place::None),
            OpKind::Flush => (F, false, Place::None),
            OpKind::ReadPage => (PAGES, false, Place::Page),
            OpKind::WritePage => (PAGES, true, Place::Page),
        };
        let data = match (op.kind, place) {
            (OpKind::Write { .. }, Place::Buffer(buffer, at)) => {
                sectors_of(&self.buffers[buffer][at..at + op.sectors as usize * 512])
            }
            (OpKind::WritePage, _) => {
                let mut page = [0; PAGE_BYTES];
                self.machine.page_image(op.id, &mut page);
                sectors_of(&page)
            }
            _ => Vec::new(),
        };
        self.send(op.dev, kind, write, span, data, Owner::Machine(op.id, place));
    }
}
