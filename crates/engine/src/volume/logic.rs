// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the driver needs of the logic, and nothing else: the lock-free path that every thread walks
//! ([`Fast`]), and the recovery machine that one thread drives ([`Logic`]).
//!
//! `binding` implements both with the core; the driver's own tests with something smaller.

use dmremap_core::path::Route;
use dmremap_core::{
    Action, Answer, Dev, Disposition, Failure, FlushCounts, Kind, Millis, OpId, Piece,
};
use dmremap_format::PageBytes;

/// The lock-free path.
pub(crate) trait Fast: Send + Sync + 'static {
    /// A counted piece, to be given back when its device has answered or nothing was submitted.
    type Ticket: Send + 'static;

    /// Sectors of the volume.
    fn sectors(&self) -> u64;
    /// Sectors of a block.
    fn block_sectors(&self) -> u32;
    /// Counts a piece, then resolves it and says where it goes. `sectors` lie in one bucket.
    fn route(&self, kind: Kind, sector: u64, sectors: u64) -> (Self::Ticket, Route);
    /// Gives a ticket back; true if the machine waits for one of its bucket.
    fn end(&self, ticket: Self::Ticket) -> bool;
    /// A write or discard was answered by this spare, well or badly.
    fn written(&self, dev: Dev);
}

/// The recovery machine; see `dmremap_core::Machine`, whose methods these are.
pub(crate) trait Logic: Send + 'static {
    fn failed(&mut self, piece: &Piece, failure: &Failure, now: Millis) -> Disposition;
    fn park(&mut self, piece: &Piece, now: Millis) -> Disposition;
    fn answered(&mut self, id: OpId, answer: Answer, page: Option<&PageBytes>, now: Millis);
    /// `wall_s`: seconds since 2020-01-01.
    fn tick(&mut self, now: Millis, wall_s: u32);
    fn next_deadline(&self) -> Option<Millis>;
    fn wakes(&self) -> u64;
    fn next_action(&mut self) -> Option<Action>;
    fn page_image(&self, id: OpId, out: &mut PageBytes);
    fn grace_tick(&mut self, now: Millis);
    /// False: no place now, present it again.
    fn flush(&mut self, id: u64, answered: FlushCounts, now: Millis) -> bool;
    fn close(&mut self, now: Millis);
    fn closed(&self) -> Option<bool>;
    /// How long a request may wait for recovery, in milliseconds.
    fn limit_ms(&self) -> u64;
}
