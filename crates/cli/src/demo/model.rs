// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the demo knows of every sector: which contents a read may return, and whether it may fail.
//!
//! A sector has the content of the last write that was acknowledged. A write that was sent and not
//! answered leaves it *in doubt*: the content from before or that write's, nothing else. It may be
//! an error only as long as it lies in an area declared unreadable and no write to it has been
//! acknowledged.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// The first half of SHA-256 over a sector.
type Digest = [u8; 16];

fn digest(sector: &[u8]) -> Digest {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(sector)[..16]);
    half
}

/// All sectors of the volume.
#[derive(Default)]
pub struct Model {
    acknowledged: Vec<Digest>,
    in_doubt: HashMap<u64, Vec<Digest>>,
    unreadable: HashSet<u64>,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Sectors read and right.
    pub right: u64,
    /// Of these, sectors that were in doubt.
    pub in_doubt: u64,
    /// Sectors that could not be read and need not be.
    pub unreadable: u64,
    /// Sectors with other bytes than they may have, or errors where none may be.
    pub wrong: u64,
    /// The first of them.
    pub first_wrong: Option<u64>,
}

impl Compared {
    fn wrong(&mut self, sector: u64) {
        self.wrong += 1;
        self.first_wrong = Some(self.first_wrong.map_or(sector, |first| first.min(sector)));
    }

    /// Bytes compared.
    pub fn bytes(&self) -> u64 {
        (self.right + self.wrong) * SECTOR
    }
}

impl Model {
    /// Sectors known.
    pub fn sectors(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// The sectors behind the last one hold `bytes`.
    pub fn append(&mut self, bytes: &[u8]) {
        self.acknowledged.extend(bytes.chunks_exact(SECTOR as usize).map(digest));
    }

    /// Reads of these sectors may fail from now on.
    pub fn declare_unreadable(&mut self, sector: u64, sectors: u64) {
        self.unreadable.extend(sector..sector + sectors);
    }

    /// A write of `bytes` has been sent.
    pub fn sent(&mut self, sector: u64, bytes: &[u8]) {
        for (at, content) in (sector..).zip(bytes.chunks_exact(SECTOR as usize)) {
            self.in_doubt.entry(at).or_default().push(digest(content));
        }
    }

    /// A write of `bytes` has been acknowledged. (No two writes of the demo that are under way at
    /// once overlap.)
    pub fn answered(&mut self, sector: u64, bytes: &[u8]) {
        for (at, content) in (sector..).zip(bytes.chunks_exact(SECTOR as usize)) {
            self.acknowledged[at as usize] = digest(content);
            self.in_doubt.remove(&at);
            self.unreadable.remove(&at);
        }
    }

    /// Whether a write to this sector was acknowledged, and none since is in doubt.
    pub fn is_certain(&self, sector: u64) -> bool {
        !self.in_doubt.contains_key(&sector) && !self.unreadable.contains(&sector)
    }

    /// Sectors in doubt.
    pub fn doubts(&self) -> u64 {
        self.in_doubt.len() as u64
    }

    /// Sectors declared unreadable and not rewritten yet.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.len() as u64
    }

    /// Compares what was read from `sector` on. What was in doubt is settled by it: it has been
    /// served, so it must not change any more.
    pub fn compare(&mut self, sector: u64, bytes: &[u8], found: &mut Compared) {
        for (at, content) in (sector..).zip(bytes.chunks_exact(SECTOR as usize)) {
            let seen = digest(content);
            let doubts = self.in_doubt.get(&at);
            let Some(known) = self.acknowledged.get_mut(at as usize) else { continue };
            if *known != seen && !doubts.is_some_and(|doubts| doubts.contains(&seen)) {
                found.wrong(at);
                continue;
            }
            found.right += 1;
            if doubts.is_some() {
                found.in_doubt += 1;
                *known = seen;
                self.in_doubt.remove(&at);
            }
        }
    }

    /// Judges a sector that could not be read.
    pub fn failed(&self, sector: u64, found: &mut Compared) {
        if self.unreadable.contains(&sector) {
            found.unreadable += 1;
        } else {
            found.wrong(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(byte: u8) -> Vec<u8> {
        vec![byte; SECTOR as usize]
    }

    fn compared(model: &mut Model, at: u64, byte: u8) -> Compared {
        let mut found = Compared::default();
        model.compare(at, &sector(byte), &mut found);
        found
    }

    #[test]
    fn only_acknowledged_or_doubtful_content_is_right() {
        let mut model = Model::default();
        model.append(&[sector(1), sector(2)].concat());
        assert_eq!(compared(&mut model, 0, 1).right, 1);
        let wrong = compared(&mut model, 1, 1);
        assert_eq!((wrong.wrong, wrong.first_wrong), (1, Some(1)));
        model.sent(0, &sector(3));
        assert_eq!(compared(&mut model, 0, 0).wrong, 1);
        assert_eq!(compared(&mut model, 0, 3).in_doubt, 1);
        assert_eq!(compared(&mut model, 0, 1).wrong, 1, "the write has been seen");
        model.sent(0, &sector(4));
        assert_eq!(compared(&mut model, 0, 3).in_doubt, 1);
        assert_eq!(compared(&mut model, 0, 4).wrong, 1, "the old content has been seen");
        model.answered(0, &sector(5));
        assert_eq!(compared(&mut model, 0, 5).right, 1);
        assert_eq!(compared(&mut model, 0, 3).wrong, 1);
    }

    #[test]
    fn an_error_is_right_only_until_the_block_is_rewritten() {
        let mut model = Model::default();
        model.append(&[sector(1), sector(2)].concat());
        model.declare_unreadable(0, 1);
        let failed = |model: &Model, at| {
            let mut found = Compared::default();
            model.failed(at, &mut found);
            (found.unreadable, found.wrong)
        };
        assert_eq!((failed(&model, 0), failed(&model, 1)), ((1, 0), (0, 1)));
        model.sent(0, &sector(4));
        assert_eq!(failed(&model, 0), (1, 0));
        assert!(!model.is_certain(0));
        model.answered(0, &sector(4));
        assert_eq!(failed(&model, 0), (0, 1));
        assert!(model.is_certain(0));
    }
}
