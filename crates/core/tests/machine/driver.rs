// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The driver: what the engine's threads do, in one thread and in a fixed order.

use dmremap_core::message::Command;
use dmremap_core::path::{Route, route};
use dmremap_core::{Answer, Class, Dev, Disposition, Done, Failure, Kind, Millis, Piece};
use dmremap_format::PAGE_BYTES;

use super::disk::{F, How, Io, Owner, PAGES, PROBE, Place, R, V, W};
use super::rig::Rig;

/// A client's request.
#[derive(Clone, Debug)]
pub struct Request {
    pub sector: u64,
    /// One tag a sector: written, or read.
    pub tags: Vec<u8>,
    pub kind: Kind,
    since: Option<Millis>,
    pub verdict: bool,
    /// Parts that have not ended.
    open: usize,
    pub error: Option<Class>,
    /// Sectors, counted from its first, that failed.
    pub failed: Vec<u64>,
}

/// Where a part of a request is.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Fresh,
    AtDevice,
    Waiting(Option<Failure>, u64),
    RetryAt(Millis),
    Taken,
    Over,
}

/// A part of a request.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub piece: Piece,
    pub stage: Stage,
}

fn row(dev: Dev) -> usize {
    usize::from(dev != Dev::Main)
}

impl Rig {
    /// Begins a request; its handle.
    pub fn submit(&mut self, kind: Kind, sector: u64, tags: &[u8], fua: bool, hasty: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            sector,
            tags: tags.to_vec(),
            kind,
            since: None,
            verdict: false,
            open: 0,
            error: None,
            failed: Vec::new(),
        };
        self.requests.insert(id, request);
        let (mut at, end) = (sector, sector + tags.len() as u64);
        while at < end {
            let next = end.min((at / 2048 + 1) * 2048);
            let (request, sectors) = (id, (next - at) as u32);
            let (since, verdict) = (None, false);
            let piece = Piece { request, kind, sector: at, sectors, fua, hasty, since, verdict };
            self.add(piece);
            at = next;
        }
        self.settle();
        id
    }

    fn add(&mut self, piece: Piece) {
        self.requests.get_mut(&piece.request).unwrap().open += 1;
        self.parts.push(Part { piece, stage: Stage::Fresh });
    }

    /// A write of one tag a sector, and everything that comes of it by itself.
    pub fn write(&mut self, sector: u64, tags: &[u8]) -> u64 {
        self.submit(Kind::Write, sector, tags, false, false)
    }

    /// A read.
    pub fn read(&mut self, sector: u64, sectors: u64) -> u64 {
        self.submit(Kind::Read, sector, &vec![0; sectors as usize], false, false)
    }

    /// A message; its handle.
    pub fn message(&mut self, command: &Command) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(done) = self.machine.act(id, command, self.now) {
            self.replies.insert(id, done);
        }
        self.settle();
        id
    }

    /// A message that is answered by now.
    pub fn says(&mut self, command: &Command) -> Done {
        let id = self.message(command);
        *self.replies.get(&id).expect("the message is answered")
    }

    /// A flush over a connection; its handle.
    pub fn flush(&mut self, connection: usize) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let floor = self.machine.flush_floor();
        let told = *self.told.entry(connection).or_insert(floor);
        assert!(self.machine.flush(id, told, self.now), "there is room for a flush");
        self.flush_of.insert(id, connection);
        self.settle();
        id
    }

    /// How a request ended; `None` while it has not.
    pub fn ended(&self, id: u64) -> Option<Result<(), Class>> {
        let request = &self.requests[&id];
        (request.open == 0).then_some(match request.error {
            None => Ok(()),
            Some(class) => Err(class),
        })
    }

    /// What a read that was good has read.
    pub fn tags(&self, id: u64) -> &[u8] {
        assert_eq!(self.ended(id), Some(Ok(())), "the read is good");
        &self.requests[&id].tags
    }

    /// What a client reads there now, or the error.
    pub fn reads(&mut self, sector: u64, sectors: u64) -> Result<Vec<u8>, Class> {
        let id = self.read(sector, sectors);
        let ended = self.ended(id).expect("the read has ended");
        ended.map(|()| self.requests[&id].tags.clone())
    }

    /// Everything that can happen without time passing.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.drain();
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", &self.log[self.log.len() - 40..]);
    }

    /// Moves the clock on, through every deadline on the way.
    pub fn advance(&mut self, ms: Millis) {
        let end = self.now + ms;
        loop {
            let retries = self.parts.iter().filter_map(|p| match p.stage {
                Stage::RetryAt(at) => Some(at),
                _ => None,
            });
            let due = retries.chain(self.machine.next_deadline()).min();
            let next = due.unwrap_or(end).max(self.now + 1).min(end);
            self.now = next;
            self.machine.tick(next, (next / 1000) as u32);
            self.settle();
            if next >= end {
                return;
            }
        }
    }

    fn step(&mut self) -> bool {
        if let Some(at) = self.out.iter().position(|io| io.how != How::Hold) {
            let io = self.out.remove(at);
            let how = io.how;
            self.answer(io, how);
            return true;
        }
        let (wakes, now) = (self.machine.wakes(), self.now);
        for index in 0..self.parts.len() {
            match self.parts[index].stage {
                Stage::Fresh => self.route(index),
                Stage::RetryAt(at) if at <= now => self.route(index),
                Stage::Waiting(failure, seen) if seen != wakes => self.present(index, failure),
                _ => continue,
            }
            return true;
        }
        false
    }

    fn route(&mut self, index: usize) {
        let mut piece = self.parts[index].piece;
        let ticket = self.shared.pieces.begin(0, piece.sector, piece.kind.changes());
        let routed = route(&self.shared, piece.kind, piece.sector, u64::from(piece.sectors));
        let (Route::Submit { sectors, .. }
        | Route::Machine { sectors }
        | Route::Skip { sectors }
        | Route::Fail { sectors, .. }) = routed;
        let sectors = sectors as u32;
        assert!(sectors > 0 && sectors <= piece.sectors);
        if sectors < piece.sectors {
            let rest = piece.sectors - sectors;
            self.add(Piece { sector: piece.sector + u64::from(sectors), sectors: rest, ..piece });
            piece.sectors = sectors;
            self.parts[index].piece = piece;
        }
        if let Route::Submit { dev, sector, kind, .. } = routed {
            self.parts[index].stage = Stage::AtDevice;
            let write = kind.changes();
            let data = if write { self.data_of(&piece) } else { Vec::new() };
            let kind = if write { W } else { R };
            let owner = Owner::Part(index, ticket, piece);
            return self.send(dev, kind, write, (sector, sectors.into()), data, owner);
        }
        self.give_back(ticket);
        match routed {
            Route::Fail { class, .. } => self.over(index, Err((class, u8::MAX))),
            Route::Skip { .. } => self.over(index, Ok(())),
            _ => self.present(index, None),
        }
    }

    fn give_back(&mut self, ticket: dmremap_core::pieces::Ticket) {
        if self.shared.pieces.end(ticket) {
            self.machine.grace_tick(self.now);
        }
        self.drain();
    }

    pub fn data_of(&self, piece: &Piece) -> Vec<[u8; 512]> {
        let request = &self.requests[&piece.request];
        let first = (piece.sector - request.sector) as usize;
        let zeros = request.kind != Kind::Write;
        let tags = &request.tags[first..first + piece.sectors as usize];
        tags.iter().map(|tag| [if zeros { 0 } else { *tag }; 512]).collect()
    }

    /// Hands a part to the machine.
    fn present(&mut self, index: usize, failure: Option<Failure>) {
        let mut piece = self.parts[index].piece;
        let request = &self.requests[&piece.request];
        (piece.since, piece.verdict) = (request.since, request.verdict);
        let said = match &failure {
            Some(failure) => self.machine.failed(&piece, failure, self.now),
            None => self.machine.park(&piece, self.now),
        };
        let request = self.requests.get_mut(&piece.request).unwrap();
        request.since = request.since.or(Some(self.now));
        let wakes = self.machine.wakes();
        self.parts[index].stage = match said {
            Disposition::Taken => Stage::Taken,
            Disposition::Wait => Stage::Waiting(failure, wakes),
            Disposition::RetryAt(at) => Stage::RetryAt(at),
            Disposition::Again => Stage::Fresh,
            Disposition::Split => return self.split(index),
            Disposition::Fail(class) => return self.over(index, Err((class, u8::MAX))),
            Disposition::Done => return self.over(index, Ok(())),
        };
        self.drain();
    }

    fn split(&mut self, index: usize) {
        let piece = self.parts[index].piece;
        let end = piece.sector + u64::from(piece.sectors);
        let mut at = (piece.sector / 8 + 1) * 8;
        self.parts[index].piece.sectors = (at - piece.sector) as u32;
        self.parts[index].stage = Stage::Fresh;
        while at < end {
            let next = end.min(at + 8);
            self.add(Piece { sector: at, sectors: (next - at) as u32, ..piece });
            at = next;
        }
        self.drain();
    }

    pub fn over(&mut self, index: usize, result: Result<(), (Class, u8)>) {
        self.parts[index].stage = Stage::Over;
        let piece = self.parts[index].piece;
        let block = u64::from(self.setup.block_sectors);
        let request = self.requests.get_mut(&piece.request).unwrap();
        request.open -= 1;
        if let Err((class, blocks)) = result {
            request.error = request.error.or(Some(class));
            for sector in piece.sector..piece.sector + u64::from(piece.sectors) {
                if blocks & (1 << (sector % 8 / block)) != 0 {
                    request.failed.push(sector - request.sector);
                }
            }
        }
    }

    pub fn send(
        &mut self,
        dev: Dev,
        kind: u8,
        write: bool,
        (sector, sectors): (u64, u64),
        data: Vec<[u8; 512]>,
        owner: Owner,
    ) {
        let touches = |range: &std::ops::Range<u64>| {
            kind == F || (sector < range.end && range.start < sector + sectors)
        };
        let mut how = How::Good;
        let fitting = |r: &&mut super::disk::Rule| {
            r.dev == dev && r.kinds & kind != 0 && r.left > 0 && touches(&r.sectors)
        };
        for rule in self.rules.iter_mut().filter(fitting) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.left = rule.left.saturating_sub(u32::from(rule.left != u32::MAX));
            how = rule.how;
            break;
        }
        self.note(dev, kind, write, sector, sectors, &owner);
        let sent = self.now;
        self.out.push(Io { dev, kind, write, sector, sectors, data, sent, how, owner });
    }

    fn note(&mut self, dev: Dev, kind: u8, write: bool, sector: u64, count: u64, owner: &Owner) {
        let who = if matches!(owner, Owner::Part(..)) { "client " } else { "" };
        let start = self.layout.data_start();
        let place = match dev {
            Dev::Main => format!("{sector}+{count}"),
            Dev::Spare(_) if sector >= start => {
                format!("u{}.{}+{count}", (sector - start) / 8, (sector - start) % 8)
            }
            Dev::Spare(_) => format!("{sector}+{count}"),
        };
        let dev = if dev == Dev::Main { "main" } else { "spare" };
        let line = match (kind, write) {
            (F, _) => format!("{dev} flush"),
            (PROBE, _) => format!("{dev} probe"),
            (PAGES, true) => "page write".into(),
            (PAGES, false) => "page read".into(),
            (V, _) => format!("{dev} check {place}"),
            (_, true) => format!("{who}{dev} write {place}"),
            (_, false) => format!("{who}{dev} read {place}"),
        };
        if !matches!(kind, PROBE | PAGES) || self.log.last() != Some(&line) {
            self.log.push(line);
        }
    }

    /// Answers the first operation that is held back.
    pub fn let_go(&mut self, how: How) {
        let at = self.out.iter().position(|io| io.how == How::Hold).expect("one is held");
        let io = self.out.remove(at);
        self.answer(io, how);
        self.settle();
    }

    /// How many operations are held back.
    pub fn held(&self) -> usize {
        self.out.iter().filter(|io| io.how == How::Hold).count()
    }

    fn answer(&mut self, io: Io, how: How) {
        let disk = &mut self.disks[row(io.dev)];
        let (first, count) = (io.sector as usize, io.sectors as usize);
        let lands = matches!(how, How::Good | How::Hold | How::FailLanded(_));
        if io.write && lands {
            disk[first..first + count].copy_from_slice(&io.data);
        }
        let mut result = match how {
            How::Fail(class) | How::FailLanded(class) => Err(class),
            _ => Ok(()),
        };
        if self.shared.is_down(io.dev) {
            result = Err(Class::Offline);
        }
        match io.owner {
            Owner::Part(index, ticket, piece) => {
                if io.write && io.dev != Dev::Main {
                    self.shared.count_written(io.dev);
                }
                if !io.write && result.is_ok() {
                    let tags: Vec<u8> = self.disks[row(io.dev)][first..first + count]
                        .iter()
                        .map(|s| s[0])
                        .collect();
                    self.store(&piece, &tags);
                }
                self.give_back(ticket);
                match result {
                    Ok(()) => self.over(index, Ok(())),
                    Err(class) => {
                        let (dev, sector) = (io.dev, io.sector);
                        let took_ms = (self.now - io.sent) as u32;
                        let failure = Failure { dev, sector, class, took_ms };
                        self.present(index, Some(failure));
                    }
                }
            }
            Owner::Machine(id, place) => {
                let (answer, page) = self.machine_answer(&io, place, result);
                self.machine.answered(id, answer, page.as_deref(), self.now);
            }
        }
    }

    fn machine_answer(
        &mut self,
        io: &Io,
        place: Place,
        result: Result<(), Class>,
    ) -> (Answer, Option<Box<[u8; PAGE_BYTES]>>) {
        if let Err(class) = result {
            return (Answer::Failed(class), None);
        }
        if io.write || io.kind == F || io.kind == PROBE {
            return (Answer::Good, None);
        }
        let disk = &self.disks[row(io.dev)];
        let read = disk[io.sector as usize..(io.sector + io.sectors) as usize].concat();
        match place {
            Place::Page => {
                let mut page = Box::new([0; PAGE_BYTES]);
                page.copy_from_slice(&read);
                (Answer::Good, Some(page))
            }
            Place::Buffer(buffer, at) if io.kind == V => {
                let same = self.buffers[buffer][at..at + read.len()] == read[..];
                (if same { Answer::Good } else { Answer::Differs }, None)
            }
            Place::Buffer(buffer, at) => {
                self.buffers[buffer][at..at + read.len()].copy_from_slice(&read);
                (Answer::Good, None)
            }
            Place::None => (Answer::Good, None),
        }
    }

    pub fn store(&mut self, piece: &Piece, tags: &[u8]) {
        let request = self.requests.get_mut(&piece.request).unwrap();
        let first = (piece.sector - request.sector) as usize;
        request.tags[first..first + tags.len()].copy_from_slice(tags);
    }
}
