// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Who does the harm, inside the permitted fault model of [`crate::disk`].
//!
//! What it holds itself to, so that every demand of the oracle is just:
//! * A device that is out says anything but `Medium`: what it could not read by its own word is
//!   weak, and moved.
//! * Outages of one device are further apart than any recovery lasts: a failure, a good probe and a
//!   failure of one recovery never come from two outages.
//! * One metadata copy is bad at a time; another, or a silent reset of the spare, comes only when
//!   all five copies of every page were found whole on the medium.
//! * A region that lies about writes lies from the start.
//! * A device that vanished comes back only with the next open.

use dmremap_core::{Class, Dev, Millis};

use dmremap_format::CopyIndex;

use crate::fault::{Loss, Outage, Region, RegionMode, SectorFault};
use crate::rng::Rng;
use crate::world::{Checked, World, row};

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Milliseconds between two harms at most.
    pub every_ms: u64,
    /// Bad sectors on main.
    pub bad_main: u64,
    /// Bad sectors on the spare.
    pub bad_spare: u64,
    /// Cures.
    pub cure: u64,
    /// Outages.
    pub outage: u64,
    /// Devices that vanish.
    pub vanish: u64,
    /// Resets that lose the cache.
    pub reset: u64,
    /// Flushes that fail.
    pub flush: u64,
    /// A metadata copy that goes bad, or is cured.
    pub copy: u64,
    /// Power cuts.
    pub cut: u64,
    /// Kills.
    pub kill: u64,
    /// Clean closes.
    pub close: u64,
    /// One command in so many is slow; 0 = none.
    pub slow_one_in: u64,
    /// One spare unit in so many drops writes from the start; 0 = none.
    pub lying_one_in: u64,
}

impl Profile {
    /// Bad sectors and crashes, nothing else.
    pub const BAD_SECTORS: Profile = Profile {
        every_ms: 60,
        bad_main: 30,
        bad_spare: 0,
        cure: 10,
        outage: 0,
        vanish: 0,
        reset: 0,
        flush: 0,
        copy: 0,
        cut: 2,
        kill: 1,
        close: 1,
        slow_one_in: 0,
        lying_one_in: 0,
    };

    /// A seed's own mixture.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Profile {
        let mut some = |one_in: u64, weight: u64| if rng.one_in(one_in) { weight } else { 0 };
        let (bad_spare, outage, vanish) = (some(2, 6), some(3, 2), some(6, 1));
        let (reset, flush, copy) = (some(3, 3), some(3, 4), some(3, 3));
        let (slow_one_in, lying_one_in) = (some(6, 400), some(5, 6));
        Profile {
            every_ms: *rng.pick(&[20, 80, 300]),
            bad_main: rng.range(4, 30),
            bad_spare,
            cure: rng.range(2, 12),
            outage,
            vanish,
            reset,
            flush,
            copy,
            cut: rng.range(0, 2),
            kill: rng.range(0, 1),
            close: u64::from(rng.one_in(3)),
            slow_one_in,
            lying_one_in,
        }
    }
}

/// The nemesis of a run.
#[derive(Clone, Debug)]
pub struct Nemesis {
    profile: Option<Profile>,
    next: Millis,
    /// No outage of the device before.
    calm_until: [Millis; 2],
    /// A device has vanished: a crash follows.
    reopen_at: Option<Millis>,
    /// One page write in so many is followed by a crash, and that soon by another; 0 = none.
    pub crash_in_commit: u64,
    /// A copy may go bad at every crash, whichever was bad before (beyond the permitted model, for
    /// the variants that take two faults to be caught).
    pub copy_anew: bool,
    /// The bad copy.
    bad_copy: Option<Region>,
    /// What a copy misplaced may still be missing where it belongs.
    misplaced: bool,
}

impl Nemesis {
    /// One that does nothing.
    #[must_use]
    pub fn none() -> Nemesis {
        Nemesis {
            profile: None,
            next: 0,
            calm_until: [0; 2],
            reopen_at: None,
            crash_in_commit: 0,
            copy_anew: false,
            bad_copy: None,
            misplaced: false,
        }
    }

    /// One that acts by `profile`.
    #[must_use]
    pub fn new(profile: Profile) -> Nemesis {
        Nemesis { profile: Some(profile), ..Nemesis::none() }
    }

    /// Whether it acts now.
    #[must_use]
    pub fn due(&self, now: Millis) -> bool {
        self.profile.is_some() && self.next <= now
    }

    /// When it acts next.
    #[must_use]
    pub fn next_at(&self) -> Option<Millis> {
        self.profile.map(|_| self.next)
    }

    /// No more harm.
    pub fn stop(&mut self) {
        self.profile = None;
    }

    /// Whether a metadata copy misplaces what is written to it.
    #[must_use]
    pub fn misplaces(&self) -> bool {
        self.bad_copy.is_some_and(|region| matches!(region.mode, RegionMode::Misplaces(_)))
    }

    /// By how much a command is late.
    pub fn slowness(&self, rng: &mut Rng, limit_ms: u32) -> Millis {
        match self.profile {
            Some(profile) if rng.one_in(profile.slow_one_in) => {
                rng.range(50, u64::from(limit_ms) * 2)
            }
            _ => 0,
        }
    }
}

/// The kinds of harm, in the order of a profile's weights.
#[derive(Clone, Copy)]
enum Harm {
    BadMain,
    BadSpare,
    Cure,
    Outage,
    Vanish,
    Reset,
    Flush,
    Copy,
    Cut,
    Kill,
    Close,
}

impl World {
    /// The nemesis acts.
    ///
    /// # Errors
    /// Something is wrong (a crash is followed by an open).
    pub fn harm(&mut self) -> Checked {
        let Some(profile) = self.nemesis.profile else { return Ok(()) };
        self.nemesis.next = self.now + self.rng.range(1, profile.every_ms.max(1));
        if self.session.is_none() {
            return Ok(());
        }
        self.counts.harm += 1;
        if self.nemesis.reopen_at.is_some_and(|at| at <= self.now) {
            self.nemesis.reopen_at = None;
            let kill = if self.rng.one_in(2) { Harm::Kill } else { Harm::Cut };
            return self.do_harm(kill);
        }
        let weights = [
            (profile.bad_main, Harm::BadMain),
            (profile.bad_spare, Harm::BadSpare),
            (profile.cure, Harm::Cure),
            (profile.outage, Harm::Outage),
            (profile.vanish, Harm::Vanish),
            (profile.reset, Harm::Reset),
            (profile.flush, Harm::Flush),
            (profile.copy, Harm::Copy),
            (profile.cut, Harm::Cut),
            (profile.kill, Harm::Kill),
            (profile.close, Harm::Close),
        ];
        let mut at = self.rng.below(weights.iter().map(|(weight, _)| weight).sum());
        for (weight, harm) in weights {
            if at < weight {
                return self.do_harm(harm);
            }
            at -= weight;
        }
        Ok(())
    }

    fn do_harm(&mut self, harm: Harm) -> Checked {
        match harm {
            Harm::BadMain => self.bad_main(),
            Harm::BadSpare => self.bad_spare(),
            Harm::Cure => self.cure(),
            Harm::Outage => self.outage(),
            Harm::Vanish => self.vanish(),
            Harm::Reset => self.reset(),
            Harm::Flush => {
                let dev = self.any_dev();
                let loses = *self.rng.pick(&[Loss::Keeps, Loss::Loses, Loss::Forgets]);
                self.note(|| format!("harm: the next flush of {dev:?} fails, {loses:?}"));
                self.disk(dev).faults.failing_flushes = Some((1, loses));
            }
            Harm::Copy => self.bad_copy(),
            Harm::Cut => return self.crash_and_open(true),
            Harm::Kill => return self.crash_and_open(false),
            Harm::Close => return self.close_and_open(),
        }
        Ok(())
    }

    fn any_dev(&mut self) -> Dev {
        if self.rng.one_in(2) { Dev::Main } else { Dev::Spare(0) }
    }

    fn any_fault(&mut self) -> SectorFault {
        let (read, write) = (self.any_suspect_class(), self.any_suspect_class());
        match self.rng.below(8) {
            0..2 => SectorFault::dead(read, write),
            2..4 => SectorFault::write_only(write),
            4..6 => SectorFault::heals_on_write(read),
            _ => SectorFault::transient(read, self.rng.range(1, 5) as u32),
        }
    }

    /// Faults hit whole blocks of the device.
    fn spoil(&mut self, dev: Dev, sector: u64, sectors: u64) {
        let fault = self.any_fault();
        let end = (sector + sectors).min(self.disk(dev).sectors());
        self.note(|| format!("harm: {dev:?} {sector}+{sectors} {fault:?}"));
        for at in sector..end {
            self.disk(dev).faults.sectors.insert(at, fault);
        }
    }

    fn bad_main(&mut self) {
        let size = self.config.block_sectors;
        let unit = *self.rng.pick(&self.client.hot) + self.rng.below(3);
        let sector = unit * 8 + self.rng.below(8 / size) * size;
        let blocks = *self.rng.pick(&[1, 1, 1, 2, 8, 24]);
        self.spoil(Dev::Main, sector, blocks * size);
    }

    fn bad_spare(&mut self) {
        let Some((start, end)) = self.data_span() else { return };
        let size = self.config.block_sectors;
        let unit = self.rng.below(((end - start) / 8).min(24));
        let sector = start + unit * 8 + self.rng.below(8 / size) * size;
        let blocks = *self.rng.pick(&[1, 1, 2, 8]);
        self.spoil(Dev::Spare(0), sector, blocks * size);
    }

    fn data_span(&self) -> Option<(u64, u64)> {
        self.session.as_ref().map(|s| (s.layout.data_start(), s.layout.data_end()))
    }

    fn cure(&mut self) {
        let dev = self.any_dev();
        let all: Vec<u64> = self.disk(dev).faults.sectors.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let from = self.rng.index(all.len());
        let count = self.rng.range(1, 16) as usize;
        self.note(|| format!("harm: {dev:?} heals from {}", all[from]));
        for sector in all.iter().skip(from).take(count) {
            self.disk(dev).faults.sectors.remove(sector);
        }
    }

    fn outage(&mut self) {
        let dev = self.any_dev();
        let limit = u64::from(self.config.limit_ms);
        if self.now < self.nemesis.calm_until[row(dev)] {
            return;
        }
        let lasts = *self.rng.pick(&[5, 50, 500, limit / 2, limit * 2]);
        let until = self.now + self.rng.range(1, lasts);
        let classes = [Class::Io, Class::Io, Class::Target, Class::Transport, Class::Timeout];
        let class = *self.rng.pick(&classes);
        self.nemesis.calm_until[row(dev)] = until + limit * 2;
        self.note(|| format!("harm: {dev:?} is out with {class} until {until}"));
        self.disk(dev).faults.outage = Some(Outage { class, until });
    }

    fn vanish(&mut self) {
        let dev = self.any_dev();
        self.note(|| format!("harm: {dev:?} vanishes"));
        // Nothing is served from it until the next open: let that come soon.
        self.nemesis.reopen_at = Some(self.now + self.rng.range(1, 60));
        let World { disks, rng, .. } = self;
        disks[row(dev)].lose_cache(rng);
        disks[row(dev)].vanished = true;
        self.tell_losses(dev);
    }

    fn reset(&mut self) {
        let dev = self.any_dev();
        let silent = self.rng.one_in(2);
        let whole = self.nemesis.bad_copy.is_none() && self.metadata_whole();
        if dev != Dev::Main && silent && !whole {
            return;
        }
        self.note(|| format!("harm: {dev:?} is reset, silently {silent}"));
        if !silent {
            self.disk(dev).faults.failing_flushes = Some((1, Loss::Loses));
        }
        let World { disks, rng, .. } = self;
        disks[row(dev)].lose_cache(rng);
        self.tell_losses(dev);
    }

    /// A copy goes bad if all are whole; a bad one is cured.
    fn bad_copy(&mut self) {
        if let Some(region) = self.nemesis.bad_copy.take() {
            self.note(|| format!("harm: the copy at {} works again", region.start));
            self.disks[1].faults.regions.retain(|r| *r != region);
            return;
        }
        if self.metadata_whole() {
            self.spoil_copy(None);
        }
    }

    /// A page of a commit was written.
    ///
    /// # Errors
    /// Something is wrong after the crash.
    pub fn crash_in_commit(&mut self) -> Checked {
        if self.nemesis.profile.is_none() || !self.rng.one_in(self.nemesis.crash_in_commit) {
            return Ok(());
        }
        self.nemesis.reopen_at = self.rng.one_in(2).then(|| self.now + self.rng.range(5, 40));
        let power = self.rng.one_in(2);
        self.crash_and_open(power)
    }

    /// At a crash, if so configured: another copy is the bad one.
    pub fn copy_anew(&mut self) {
        if self.nemesis.copy_anew {
            // A copy that has misplaced something stays the bad one until all is whole again.
            let misplaced = self.nemesis.misplaced || self.nemesis.misplaces();
            self.nemesis.misplaced = misplaced && !self.metadata_whole();
            let old = self.nemesis.bad_copy.take();
            self.disks[1].faults.regions.retain(|r| Some(*r) != old);
            if !self.nemesis.misplaced && !self.rng.one_in(3) {
                let newest = if self.rng.one_in(2) { self.newest_copy() } else { None };
                self.spoil_copy(newest);
            }
        }
    }

    /// A copy goes bad; one that is named can no longer be read.
    fn spoil_copy(&mut self, named: Option<CopyIndex>) {
        let Ok(layout) = self.layout() else { return };
        let copy = named.unwrap_or(CopyIndex(self.rng.below(5) as u8));
        let pages = u64::from(layout.pages());
        // All of it, its header and generation page, or its table alone.
        let (skip, count) = *self.rng.pick(&[(0, 2 + pages), (0, 2), (2, pages)]);
        let (start, sectors) = (layout.header_sector(copy) + skip * 8, count * 8);
        let class = self.any_suspect_class();
        let mode = match self.rng.below(6) {
            kind if named.is_some() && kind < 3 => RegionMode::Unreadable(class),
            _ if named.is_some() => RegionMode::Dead(class),
            0 => RegionMode::Unreadable(class),
            1..3 => RegionMode::Unwritable(class),
            3 => RegionMode::Dead(class),
            4 => RegionMode::Drops,
            _ => RegionMode::Misplaces(8),
        };
        let region = Region { start, sectors, mode };
        self.note(|| format!("harm: copy {} {mode:?}", copy.0));
        self.nemesis.bad_copy = Some(region);
        self.disks[1].faults.regions.push(region);
    }

    /// Spare units that lie from the start.
    pub fn plant_lies(&mut self, data_start: u64, units: u64) {
        let Some(profile) = self.nemesis.profile else { return };
        for unit in 0..units {
            if self.rng.one_in(profile.lying_one_in) {
                let region =
                    Region { start: data_start + unit * 8, sectors: 8, mode: RegionMode::Drops };
                self.disks[1].faults.regions.push(region);
            }
        }
    }
}
