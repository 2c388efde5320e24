// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The open machine: from a spare's five copies to a table that may be served.
//!
//! *Pass 1* reads and judges, and writes nothing. Which volume it is the headers say: the one that
//! two valid headers share. Then every page's five copies are judged ([`judge`]), the header first,
//! and the winning image is shown to the caller ([`OpenStep::Loaded`]) who checks what only it can:
//! slots, duplicates. When all has been read ([`OpenStep::Judged`]) the caller checks main's
//! identity and the host, and says whether to go on.
//!
//! *Pass 2* writes. First the new generation, one above the highest that any page names, goes to
//! the generation pages; four must take it. Only then can a page be written under it, so that no
//! copy that was missed can ever carry a stamp that wins over what is served from now on: neither a
//! stale one that comes back nor one that a crash left half-committed. Then every page whose
//! five copies are not all valid and equal is written anew as (new generation, 0), and last the
//! header, always. Only when all of them stand on four copies is the volume served: what was
//! found on one copy alone was perhaps never acknowledged, and must not come and go. A crash
//! anywhere in this leaves what another open can start from.
//!
//! Images are not kept: pass 2 reads back what it repairs. The driver may read ahead in pass 1,
//! which visits each copy in ascending order and writes nothing.

mod judge;
mod run;

use core::slice;

use dmremap_format::{COPIES, Refusal, SeenHeader, Stamp, Uuid};

use crate::broken::{Broken, is};
use crate::commit::{
    ChangeOf, Commit, Image, Io, IoId, NO_PLACE, Name, Opened, Out, PageId, PageState, Pairs, Role,
    Store, VolumeId, Wire, give_up_late, loaded, next_late, parse, wrote,
};
use crate::{Class, Millis};
pub use judge::{CopySeen, judge_copies, judge_header};

/// Why a spare is not served. Unless the variant says otherwise nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The five copies of a page do not say what it holds, or one says that the spare is out of
    /// use.
    Copies {
        /// The page.
        page: PageId,
        /// What is wrong.
        reason: Refusal,
        /// The five copies.
        seen: [CopySeen; COPIES],
    },
    /// The memory given is too small for the table the header names.
    NoMemory {
        /// Table pages.
        table_pages: u32,
    },
    /// The highest generation there is has been used.
    GenerationsUsedUp,
    /// Fewer than four generation pages could be written, and other pages need repair. Only
    /// generation pages were written.
    GenerationNotWritten {
        /// Copies that took it.
        written: u8,
    },
    /// A page that was read before could not be read again for its repair. Only repairs were
    /// written.
    NotReadAgain {
        /// The page.
        page: PageId,
    },
    /// Fewer than four copies of a repaired page, or of the header, could be written. Only repairs
    /// were written.
    RepairNotWritten {
        /// The page.
        page: PageId,
        /// Copies that took it.
        written: u8,
    },
}

/// What pass 1 found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The highest generation on any page.
    pub generation: u64,
    /// The winning header's stamp.
    pub header: Stamp,
    /// Table pages.
    pub table_pages: u32,
    /// Table pages whose copies are not all valid and equal.
    pub repairs: u32,
    /// Whether the header's five copies are all valid and equal.
    pub header_whole: bool,
}

/// What the caller of an open does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OpenStep {
    /// Send this.
    Io(Io),
    /// Wait for answers.
    Wait,
    /// [`Open::image`] is the winning image of this page: check it, then call
    /// [`accept_header`](Open::accept_header) or [`accept`](Open::accept); or drop the machine.
    Loaded(PageId),
    /// All was read: check what is left, then call [`write`](Open::write) or
    /// [`read_only`](Open::read_only); or drop the machine.
    Judged(Summary),
    /// Done: call [`into_commit`](Open::into_commit).
    Opened {
        /// False: nothing can be changed, because it was asked for or because fewer than four
        /// generation pages could be written (`metadata_degraded`).
        writable: bool,
    },
    /// Not served.
    Refused(Refused),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Reading the five headers.
    Headers,
    /// Reading the winning one back.
    LoadHeader,
    /// Reading the five copies of a page.
    Read(PageId),
    /// The caller looks at the image.
    Show(PageId),
    Judged,
    Generation,
    /// Filling the cache with pages to repair, from this state index on.
    Batch(usize),
    /// Reading them back; where the next batch begins.
    Load(usize),
    /// Writing them.
    Repair(usize),
    Header,
    Opened(bool),
    /// [`Refused::Copies`]; what was seen lies in the machine.
    Unproven(PageId, Refusal),
    Refused(Refused),
}

/// The open machine of one table holder.
pub struct Open<S: Store> {
    cache: S::Cache,
    states: Option<S::States>,
    of: Option<VolumeId>,
    /// What was seen of the page under judgement; of other pages than the header in the same form.
    copies: [SeenHeader; COPIES],
    /// The same for people.
    seen: [CopySeen; COPIES],
    outs: [Option<Out>; COPIES],
    /// Copies of the page that have been asked for, one bit each.
    asked: u8,
    header: PageState,
    generation_pages: PageState,
    table_pages: u32,
    repairs: u32,
    highest: u64,
    /// The highest sequence number, for the variant without generations.
    sequence: u64,
    generation: u64,
    session: Uuid,
    force_quorum: bool,
    /// Nothing is to be written, whether it could or not.
    read_only: bool,
    phase: Phase,
    wire: Wire,
    pairs: Pairs,
}

/// The header's place in the cache.
const HEADER: usize = 0;
/// The place of the table page under judgement.
const SHOWN: usize = 1;

impl<S: Store> Open<S> {
    /// Begins. `cache` has 2 to 255 places. An I/O that is unanswered after `limit_ms` counts
    /// as failed. With `force_quorum` one valid copy of a page is enough; nothing is written then.
    pub fn new(cache: S::Cache, limit_ms: Millis, force_quorum: bool) -> Self {
        let whole = PageState::default();
        let mut open = Self {
            cache,
            states: None,
            of: None,
            copies: [SeenHeader::Unreadable; COPIES],
            seen: [CopySeen::Unread; COPIES],
            outs: [None; COPIES],
            asked: 0,
            header: whole,
            generation_pages: whole,
            table_pages: 0,
            repairs: 0,
            highest: 0,
            sequence: 0,
            generation: 0,
            session: Uuid::default(),
            force_quorum,
            read_only: false,
            phase: Phase::Headers,
            wire: Wire::new(limit_ms),
            pairs: Pairs::IDLE,
        };
        open.cache.iter_mut().for_each(|c| c.clear());
        if !(SHOWN + 1..=NO_PLACE).contains(&open.cache.len()) {
            open.phase = Phase::Refused(Refused::NoMemory { table_pages: 0 });
        }
        open
    }

    /// The winning image of the page shown last.
    #[must_use]
    pub fn image(&self) -> Option<&S::Page> {
        let at = match self.phase {
            Phase::Show(PageId::Table(_)) => SHOWN,
            _ => HEADER,
        };
        self.cache.get(at).map(|c| &c.image)
    }

    /// The volume the headers name, once it is known.
    #[must_use]
    pub fn volume(&self) -> Option<VolumeId> {
        self.of
    }

    /// The header shown is good: here is memory for the page states of its table
    /// ([`state_count`](crate::commit::state_count) of them).
    pub fn accept_header(&mut self, mut states: S::States) {
        if self.phase != Phase::Show(PageId::Header) {
            return;
        }
        if states.len() < crate::commit::state_count(self.table_pages) {
            let table_pages = self.table_pages;
            self.phase = Phase::Refused(Refused::NoMemory { table_pages });
            return;
        }
        if let Some(state) = states.first_mut() {
            *state = self.header;
        }
        self.states = Some(states);
        self.read(PageId::Generation);
    }

    /// The table page shown is good.
    pub fn accept(&mut self) {
        if let Phase::Show(PageId::Table(page)) = self.phase {
            self.read_table_from(page.0.saturating_add(1));
        }
    }

    /// Goes on from [`OpenStep::Judged`] to pass 2. `changes` make the header this session's: who
    /// opens it, `dirty`, and what else is to be saved with it.
    pub fn write(&mut self, changes: &[ChangeOf<S>]) {
        if self.phase != Phase::Judged || self.force_quorum {
            return;
        }
        let Some(generation) = self.highest.checked_add(1) else {
            self.phase = Phase::Refused(Refused::GenerationsUsedUp);
            return;
        };
        self.generation = generation;
        if let Some(c) = self.cache.get_mut(HEADER) {
            changes.iter().for_each(|change| c.image.apply(PageId::Header, change));
        }
        if is(Broken::NoGeneration) {
            self.generation = self.highest;
        }
        if is(Broken::NoGeneration) || is(Broken::GenerationOnlyInHeader) {
            self.phase = Phase::Batch(1);
        } else {
            self.begin_generation();
        }
    }

    /// Goes on from [`OpenStep::Judged`] without writing: nothing can be changed while this
    /// volume is open, and no later open is bound by it.
    pub fn read_only(&mut self) {
        if self.phase == Phase::Judged {
            self.generation = self.highest;
            self.read_only = true;
            self.phase = Phase::Opened(false);
        }
    }

    /// Fills `out` with what is to be written for the write `id`; false if it is not under way.
    #[must_use]
    pub fn write_image(&self, id: IoId, out: &mut S::Page) -> bool {
        let Some(Name::Write { copy, place }) = parse(id) else { return false };
        let place = self.cache.get(place).filter(|c| c.line.has_out(copy, id.0));
        let (Some(c), Some(of)) = (place, &self.of) else { return false };
        out.copy_from(&c.image);
        out.seal(of, c.page, copy, self.stamp_of(c.page));
        true
    }

    /// An I/O has ended, however late. A good read hands in the page it read, valid or not.
    pub fn io_done(&mut self, id: IoId, result: Result<Option<&S::Page>, Class>) {
        match parse(id) {
            Some(Name::Read { copy, place: NO_PLACE }) => {
                let out = self.outs.get_mut(usize::from(copy.0));
                if out.is_some_and(|o| o.take_if(|o| o.id == id.0).is_some()) {
                    self.see(copy, result);
                } else {
                    self.wire.returned(copy);
                }
            }
            Some(Name::Read { copy, place }) => {
                let (at, cache) = ((id, copy, place), &mut self.cache);
                let states = self.states.as_deref().unwrap_or(slice::from_ref(&self.header));
                let of = self.of.unwrap_or_default();
                if !loaded(cache, states, &of, at, result) {
                    self.wire.returned(copy);
                }
            }
            Some(Name::Write { copy, place }) => {
                wrote(&mut self.wire, &mut self.cache, (id, copy, place), result.is_ok());
            }
            Some(Name::Flush) => {
                self.pairs.flush_done(id.0, result.is_ok());
            }
            None => {}
        }
    }

    /// A failed flush of the table holder was counted, whoever sent it.
    pub fn flush_failed(&mut self) {
        self.pairs.flush_failed();
    }

    /// Gives up what is late. Call when [`next_deadline`](Open::next_deadline) has passed.
    pub fn tick(&mut self, now: Millis) {
        give_up_late(&mut self.wire, &mut self.cache, &mut self.pairs, now);
        for copy in crate::commit::ALL {
            let out = self.outs.get_mut(usize::from(copy.0));
            if out.is_some_and(|o| o.take_if(|o| self.wire.is_late(*o, now)).is_some()) {
                self.wire.give_up(copy);
                self.see(copy, Err(Class::Timeout));
            }
        }
    }

    /// When [`tick`](Open::tick) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let flush = self.pairs.flush_out().map(|o| self.wire.deadline(o));
        let reads = self.outs.iter().flatten().map(|o| self.wire.deadline(*o)).min();
        [flush, reads, next_late(&self.wire, &self.cache)].into_iter().flatten().min()
    }

    /// The commit machine that goes on from here, once the volume is open.
    #[must_use]
    pub fn into_commit(mut self, joins: S::Joins, now: Millis) -> Option<Commit<S>> {
        let Phase::Opened(writable) = self.phase else { return None };
        for c in self.cache.iter_mut().filter(|c| c.role != Role::Free) {
            c.role = Role::Idle;
        }
        let last = self.repair_stamp();
        let from = Opened {
            cache: self.cache,
            states: self.states?,
            of: self.of?,
            last,
            session: self.session,
            wire: self.wire,
            writable,
            degraded: !writable && (self.force_quorum || !self.read_only),
        };
        Some(Commit::new(from, joins, now))
    }
}
