// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The scripted driver and the tests over it.
#![allow(dead_code)]

mod actions;
mod disk;
mod driver;
mod rig;

mod commits;
mod device;
mod flushes;
mod limits;
mod marks;
mod messages;
mod reads;
mod restores;
mod spare;
mod writes;

use dmremap_core::Dev;
use dmremap_core::message::{Command, SpareAddress};

pub use disk::{F, How, PAGES, PROBE, R, Rule, V, W};
pub use rig::{Rig, Setup, old};

pub const MAIN: Dev = Dev::Main;
pub const SPARE: Dev = Dev::Spare(0);

/// What main holds at first in these sectors.
pub fn olds(sectors: std::ops::Range<u64>) -> Vec<u8> {
    sectors.map(old).collect()
}

/// Moves sectors to the spare by a write that main refuses there, once each way.
pub fn move_by_write(rig: &mut Rig, sector: u64, tags: &[u8]) {
    let end = sector + tags.len() as u64;
    rig.rule(Rule::new(MAIN, W).at(sector..end));
    let id = rig.write(sector, tags);
    assert_eq!(rig.ended(id), Some(Ok(())), "the write is moved");
    rig.rules.pop();
    rig.done();
    rig.events.clear();
}

/// Makes a block of main pending by a read with a medium error.
pub fn make_pending(rig: &mut Rig, sector: u64) {
    rig.rule(Rule::new(MAIN, R).at(sector..sector + 1).medium());
    let id = rig.read(sector, 1);
    rig.advance(2_000);
    assert!(rig.ended(id).is_some_and(|e| e.is_err()));
    rig.rules.pop();
    rig.done();
    rig.events.clear();
}

/// Unit 5 with block 0 on spare unit 1 (tag 61), block 1 gone, the rest on main; unit 0 of the
/// spare is quarantined.
pub fn with_gone() -> Rig {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 60]);
    let (bad, unreadable) = (rig.spare_at(0, 0), rig.spare_at(0, 1));
    rig.rule(Rule::new(SPARE, W).at(bad..bad + 1));
    rig.rule(Rule::new(SPARE, R).at(unreadable..unreadable + 1));
    let id = rig.write(40, &[61]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "sgmmmmmm".into())));
    rig.rules.clear();
    rig.done();
    rig.events.clear();
    rig
}

/// Unit 5 with block 1 gone and everything else on main, and no spare unit.
pub fn with_gone_on_main() -> Rig {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 60]);
    let unreadable = rig.spare_at(0, 1);
    rig.rule(Rule::new(SPARE, R).at(unreadable..unreadable + 1));
    let id = rig.message(&Command::Clear { force: true });
    rig.advance(2_000);
    assert!(rig.replies.contains_key(&id));
    assert_eq!(rig.entry(5), Some((None, "mgmmmmmm".into())));
    rig.rules.clear();
    rig.done();
    rig.events.clear();
    rig
}

/// `remap SECTOR`.
pub fn remap(sector: u64) -> Command {
    Command::Remap { sector, to: None }
}

/// `add MAIN SPARE`.
pub fn add(main: u64, spare: u64) -> Command {
    Command::Add { main, spare: SpareAddress::Absolute(spare), sectors: None }
}
