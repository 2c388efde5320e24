// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A modelled disk: a medium, a volatile write cache before it, commands under way.
//!
//! # Permitted fault model
//!
//! What a disk may do here is what the design promises to survive; the generator
//! ([`crate::nemesis`]) stays inside it, so that whatever the oracle complains of is a defect.
//!
//! * A command has three instants: it is *sent*, it takes *effect* (between, the disk may do other
//!   commands, in any order), it is *answered* (late, out of order, or never until told).
//! * A write that takes effect lands in the cache: reads see it, a power cut may lose it. A sector
//!   is never torn; a command is: after a cut every sector holds the medium's content or any one
//!   of the contents cached for it, each by itself. What was answered after FUA is on it.
//! * A flush puts on the medium every write **answered before the flush was sent**, and of the
//!   others what it likes.
//! * A write answered with an error has, each sector by itself, not landed, landed, or lands later:
//!   at the latest before the next write there takes effect, a flush does, or power is cut.
//! * Bad sectors fail reads, writes or both, for good, a number of times, or until a write cures
//!   them, as medium, generic or target error. A bad sector's neighbours in the command succeed.
//! * A flush may fail: what was cached and answered is then lost, or stays cached, or is readable
//!   and never written back, so that the next flush succeeds without it.
//! * The whole device may fail for a while, with any class; a device that answers `Offline` has
//!   lost its cache and stays away until the volume is opened again.
//! * A device may be reset between commands and lose what was cached and answered, silently (then
//!   the oracle is told: promise 7 leaves that out for ordinary writes) or failing the next flush.
//! * Regions of a spare may drop or misplace writes with success; data put there by recovery must
//!   be read back. A region that lies does so from the start: rewriting it later goes unnoticed.
//! * One metadata copy at a time may be unreadable, unwritable, stale (drops writes) or misplace
//!   writes inside itself; the next copy goes bad only after all five were whole again.
//! * Never: wrong bytes from main with success, a write landing after a later one there was
//!   answered, two metadata copies bad at once (crashes and failed flushes apart).

use std::collections::{BTreeMap, BTreeSet};

use dmremap_core::{Class, Dev, Millis};

use crate::command::{
    Cached, Command, CommandId, DiskCounts, Ending, Inflight, Lost, Origin, Stage,
};
use crate::content::{Content, Version};
use crate::fault::{Faults, Loss};
use crate::rng::Rng;

/// A modelled disk.
pub struct Disk {
    dev: Dev,
    medium: Vec<Content>,
    cache: BTreeMap<u64, Vec<Cached>>,
    late: Vec<(u64, Content)>,
    inflight: BTreeMap<CommandId, Inflight>,
    next: CommandId,
    order: u64,
    /// What is wrong with it.
    pub faults: Faults,
    /// Gone for this session: it answers `Offline`.
    pub vanished: bool,
    /// Without a volatile cache every write is on the medium when it takes effect.
    pub write_through: bool,
    /// Sectors of which a read failed since they were last written.
    pub failed_reads: BTreeSet<u64>,
    /// Contents that reads could not get, and how often: (volume's sector, write).
    pub unread: BTreeMap<(u64, Version), u32>,
    /// Answered writes lost since the world last looked.
    pub lost: Vec<Lost>,
    /// Counters.
    pub counts: DiskCounts,
}

impl Disk {
    /// A disk of `sectors`, each holding what `content` says.
    #[must_use]
    pub fn new(dev: Dev, sectors: u64, content: impl Fn(u64) -> Content) -> Disk {
        Disk {
            dev,
            medium: (0..sectors).map(content).collect(),
            cache: BTreeMap::new(),
            late: Vec::new(),
            inflight: BTreeMap::new(),
            next: 0,
            order: 0,
            faults: Faults::default(),
            vanished: false,
            write_through: false,
            failed_reads: BTreeSet::new(),
            unread: BTreeMap::new(),
            lost: Vec::new(),
            counts: DiskCounts::default(),
        }
    }

    /// Its length in sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.medium.len() as u64
    }

    /// Which device it is.
    #[must_use]
    pub fn dev(&self) -> Dev {
        self.dev
    }

    /// Sends a command; it has no effect before `due`.
    pub fn send(
        &mut self,
        command: Command,
        origin: Origin,
        now: Millis,
        due: Millis,
    ) -> CommandId {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.order += 1;
        let (sent, sent_at, held) = (self.order, now, false);
        self.inflight
            .insert(id, Inflight { command, origin, stage: Stage::Sent, held, due, sent_at, sent });
        id
    }

    /// The commands at the disk.
    #[must_use]
    pub fn inflight(&self) -> &BTreeMap<CommandId, Inflight> {
        &self.inflight
    }

    /// Holds a command where it is, or lets it go.
    pub fn hold(&mut self, id: CommandId, held: bool) {
        if let Some(inflight) = self.inflight.get_mut(&id) {
            inflight.held = held;
        }
    }

    /// Carries a sent command out.
    pub fn effect(&mut self, id: CommandId, now: Millis, rng: &mut Rng) {
        let Some(inflight) = self.inflight.get(&id) else { return };
        if inflight.stage != Stage::Sent {
            return;
        }
        let (command, origin, sent) = (inflight.command.clone(), inflight.origin, inflight.sent);
        let ending = match self.whole_device_error(now) {
            Some(class) => {
                self.stray_write(&command, id, origin, rng);
                Err(class)
            }
            None => match command {
                Command::Read { sector, sectors } => self.read(sector, sectors),
                Command::Write { sector, data, fua } => {
                    self.write(sector, data, fua, (id, origin), rng)
                }
                Command::Flush => self.flush(sent, rng),
            },
        };
        if let Some(inflight) = self.inflight.get_mut(&id) {
            inflight.stage = Stage::Done(ending);
        }
    }

    /// Takes the answer of a command that has had its effect.
    pub fn answer(&mut self, id: CommandId) -> Option<(Inflight, Ending)> {
        let inflight = self.inflight.remove(&id)?;
        let Stage::Done(ending) = inflight.stage.clone() else {
            self.inflight.insert(id, inflight);
            return None;
        };
        self.order += 1;
        self.counts.commands += 1;
        self.counts.errors += u64::from(ending.is_err());
        if let Command::Write { sector, data, .. } = &inflight.command {
            for at in *sector..*sector + data.len() as u64 {
                let place = self.faults.place(at);
                for cached in self.cache.get_mut(&place).into_iter().flatten() {
                    if cached.by == id {
                        cached.answered = Some(self.order);
                    }
                }
            }
        }
        Some((inflight, ending))
    }

    fn whole_device_error(&self, now: Millis) -> Option<Class> {
        if self.vanished {
            return Some(Class::Offline);
        }
        self.faults.outage.filter(|outage| now < outage.until).map(|outage| outage.class)
    }

    /// A command that failed with its whole device may have had its effect all the same.
    fn stray_write(&mut self, command: &Command, id: CommandId, origin: Origin, rng: &mut Rng) {
        if self.vanished {
            return;
        }
        if let Command::Write { sector, data, .. } = command {
            if rng.one_in(4) {
                for (at, content) in (*sector..).zip(data) {
                    if rng.one_in(2) && self.faults.write(at).is_none() {
                        self.land(at, content.clone(), (id, origin));
                    }
                }
            }
        }
    }

    fn read(&mut self, sector: u64, sectors: u32) -> Ending {
        let mut failed = None;
        for at in sector..sector + u64::from(sectors) {
            if let Some(class) = self.faults.read(at) {
                failed.get_or_insert(class);
                self.failed_reads.insert(at);
                if let Content::Data { sector, version } = self.peek(at) {
                    *self.unread.entry((sector, version)).or_default() += 1;
                }
                self.faults.count(at);
            }
        }
        if let Some(class) = failed {
            return Err(class);
        }
        Ok((sector..sector + u64::from(sectors)).map(|at| self.peek(at)).collect())
    }

    /// What a read of `sector` would give if nothing were wrong with it.
    #[must_use]
    pub fn peek(&self, sector: u64) -> Content {
        let place = self.faults.place(sector);
        match self.cache.get(&place).and_then(|versions| versions.last()) {
            Some(cached) => cached.content.clone(),
            None => self.medium.get(place as usize).cloned().unwrap_or(Content::Blank),
        }
    }

    fn write(
        &mut self,
        sector: u64,
        data: Vec<Content>,
        fua: bool,
        by: (CommandId, Origin),
        rng: &mut Rng,
    ) -> Ending {
        let span = sector..sector + data.len() as u64;
        self.settle_late(Some(span.clone()), rng);
        let failed = span.clone().find_map(|at| self.faults.write(at));
        for (at, content) in span.clone().zip(data) {
            if self.faults.write(at).is_some() {
                self.faults.count(at);
            }
            match failed {
                None => {
                    self.land(at, content, by);
                    self.faults.written(at);
                    self.failed_reads.remove(&at);
                }
                Some(_) if rng.one_in(3) => self.land(at, content, by),
                Some(_) if rng.one_in(3) => self.late.push((at, content)),
                Some(_) => {}
            }
        }
        if let Some(class) = failed {
            return Err(class);
        }
        if fua || self.write_through {
            for at in span {
                self.harden(self.faults.place(at), u64::MAX, rng);
            }
        }
        Ok(Vec::new())
    }

    /// A content lands where the device puts it, whatever it says of the command.
    fn land(&mut self, sector: u64, content: Content, by: (CommandId, Origin)) {
        let lands = self.faults.lands(sector);
        if lands != Some(sector) {
            self.counts.lies += 1;
        }
        if let Some(at) = lands {
            self.put(at, content, by);
        }
    }

    fn put(&mut self, sector: u64, content: Content, (by, origin): (CommandId, Origin)) {
        let place = self.faults.place(sector);
        self.cache.entry(place).or_default().push(Cached {
            content,
            by,
            origin,
            answered: None,
            forgotten: false,
        });
    }

    /// Writes that failed and were to land later do so now, or never.
    fn settle_late(&mut self, span: Option<std::ops::Range<u64>>, rng: &mut Rng) {
        let late = std::mem::take(&mut self.late);
        for (at, content) in late {
            if span.as_ref().is_some_and(|span| !span.contains(&at)) {
                self.late.push((at, content));
            } else if rng.one_in(2) {
                self.land_stray(at, content);
            }
        }
    }

    /// Whether it fails as a whole.
    #[must_use]
    pub fn is_out(&self, now: Millis) -> bool {
        self.whole_device_error(now).is_some()
    }

    /// Whether a command on these sectors is bound to fail, or a read of them has.
    #[must_use]
    pub fn failed_in(&self, sector: u64, sectors: u64) -> bool {
        (sector..sector + sectors).any(|at| {
            self.failed_reads.contains(&at)
                || self.faults.read(at).is_some()
                || self.faults.write(at).is_some()
        })
    }

    /// Whether nothing below `sector` waits in the cache.
    #[must_use]
    pub fn clean_below(&self, sector: u64) -> bool {
        self.cache.range(..sector).next().is_none()
    }

    /// One write that failed lands after all; false if there is none.
    pub fn land_late(&mut self, rng: &mut Rng) -> bool {
        if self.late.is_empty() {
            return false;
        }
        let at = rng.index(self.late.len());
        let (sector, content) = self.late.swap_remove(at);
        self.land_stray(sector, content);
        true
    }

    /// A write whose error was answered lands: from now on it is cached like any other.
    fn land_stray(&mut self, sector: u64, content: Content) {
        self.land(sector, content, (CommandId::MAX, Origin::Client));
        let place = self.faults.place(sector);
        if let Some(cached) = self.cache.get_mut(&place).and_then(|v| v.last_mut()) {
            cached.answered = Some(self.order);
        }
    }

    /// Puts on the medium what was answered before `order`, and more if it likes.
    fn harden(&mut self, place: u64, order: u64, rng: &mut Rng) {
        let Some(versions) = self.cache.get_mut(&place) else { return };
        let covered = match order {
            u64::MAX => versions.len().checked_sub(1),
            _ => versions.iter().rposition(|v| v.answered.is_some_and(|a| a < order)),
        };
        let last = match covered {
            Some(at) if rng.one_in(4) => rng.range(at as u64, versions.len() as u64 - 1) as usize,
            Some(at) => at,
            None if rng.one_in(8) => rng.index(versions.len()),
            None => return,
        };
        if versions[last].forgotten {
            return;
        }
        let kept = versions.split_off(last + 1);
        if let (Some(cached), Some(cell)) = (versions.pop(), self.medium.get_mut(place as usize)) {
            *cell = cached.content;
        }
        if kept.is_empty() {
            self.cache.remove(&place);
        } else {
            self.cache.insert(place, kept);
        }
    }

    fn flush(&mut self, sent: u64, rng: &mut Rng) -> Ending {
        self.settle_late(None, rng);
        if let Some((left, loses)) = self.faults.failing_flushes {
            self.faults.failing_flushes = (left > 1).then(|| (left - 1, loses));
            self.counts.failed_flushes += 1;
            match loses {
                Loss::Keeps => {}
                Loss::Loses => self.lose_cache(rng),
                Loss::Forgets => self.forget(),
            }
            return Err(Class::Io);
        }
        let dirty: Vec<u64> = self.cache.keys().copied().collect();
        for place in dirty {
            self.harden(place, sent, rng);
        }
        Ok(Vec::new())
    }

    /// The cache loses what was cached and answered: every such sector falls back to the medium or
    /// to any content cached for it. Commands that are not answered yet keep theirs.
    pub fn lose_cache(&mut self, rng: &mut Rng) {
        for (place, versions) in std::mem::take(&mut self.cache) {
            let answered: Vec<usize> =
                (0..versions.len()).filter(|i| versions[*i].answered.is_some()).collect();
            let chosen = rng.index(answered.len() + 1).checked_sub(1).map(|i| answered[i]);
            for &at in answered.iter().filter(|at| Some(**at) != chosen) {
                if let Content::Data { sector, version } = versions[at].content {
                    self.counts.lost += 1;
                    self.lost.push(Lost {
                        at: place,
                        sector,
                        version,
                        origin: versions[at].origin,
                    });
                }
            }
            if let (Some(at), Some(cell)) = (chosen, self.medium.get_mut(place as usize)) {
                *cell = versions[at].content.clone();
            }
            let first_kept = chosen.map_or(0, |at| at + 1);
            let kept: Vec<Cached> =
                versions.into_iter().skip(first_kept).filter(|v| v.answered.is_none()).collect();
            if !kept.is_empty() {
                self.cache.insert(place, kept);
            }
        }
    }

    /// What was cached and answered stays readable and is never written back.
    fn forget(&mut self) {
        for (place, versions) in &mut self.cache {
            for cached in versions.iter_mut().filter(|v| v.answered.is_some()) {
                cached.forgotten = true;
                if let Content::Data { sector, version } = cached.content {
                    let origin = cached.origin;
                    self.counts.lost += 1;
                    self.lost.push(Lost { at: *place, sector, version, origin });
                }
            }
        }
    }

    /// Power is cut: commands under way take effect in part, and each cached sector falls back to
    /// the medium or to any content cached for it.
    pub fn power_cut(&mut self, now: Millis, rng: &mut Rng) {
        self.abandon(now, rng);
        for (place, mut versions) in std::mem::take(&mut self.cache) {
            // What was forgotten is lost now.
            versions.retain(|v| !v.forgotten);
            let chosen = rng.index(versions.len() + 1);
            self.counts.cut += u64::from(chosen != versions.len());
            if let (Some(at), Some(cell)) =
                (chosen.checked_sub(1), self.medium.get_mut(place as usize))
            {
                *cell = versions.swap_remove(at).content;
            }
        }
        self.vanished = false;
    }

    /// A command under way has its effect on some of its sectors.
    fn tear(&mut self, id: CommandId, now: Millis, rng: &mut Rng) {
        let Some(Inflight { command: Command::Write { sector, data, .. }, stage, .. }) =
            self.inflight.get(&id).cloned()
        else {
            return;
        };
        if stage != Stage::Sent || self.is_out(now) {
            return;
        }
        for (at, content) in (sector..).zip(data) {
            if rng.one_in(2) && self.faults.write(at).is_none() {
                self.land(at, content, (id, Origin::Client));
            }
        }
    }

    /// The process is killed: what it had sent takes effect, in part or not at all, before anybody
    /// else can open the device (the hold lies on the open file the commands go through).
    pub fn abandon(&mut self, now: Millis, rng: &mut Rng) {
        let ids: Vec<CommandId> = self.inflight.keys().copied().collect();
        for id in ids {
            match rng.below(4) {
                0 => {}
                1 => self.tear(id, now, rng),
                _ => self.effect(id, now, rng),
            }
            self.inflight.remove(&id);
        }
        self.settle_late(None, rng);
        for versions in self.cache.values_mut() {
            for cached in versions.iter_mut().filter(|v| v.answered.is_none()) {
                cached.answered = Some(self.order);
            }
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
