// SPDX-License-Identifier: GPL-2.0-only OR MIT
extern crate std;

use super::*;
use crate::text::REPLY_MAX_BYTES;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn states(spare: u8, gone: u8) -> States {
    States::ALL_MAIN.with(spare, BlockState::Spare).with(gone, BlockState::Gone)
}

fn runs(block_sectors: u32, main_sectors: u64, units: &[Unit]) -> Vec<Run> {
    let mut runs = Runs::new(block_sectors, main_sectors, 0);
    let mut all = Vec::new();
    for unit in units {
        assert!(runs.unit(unit, |run| {
            all.push(run);
            true
        }));
    }
    all.extend(runs.finish());
    all
}

fn unit(main_sector: u64, spare: Option<(u8, u64)>, states: States, pending: u8) -> Unit {
    Unit { main_sector, spare, states, pending, cause: "write" }
}

fn run(main: u64, spare: Option<(u8, u64)>, sectors: u64, state: RunState) -> Run {
    let cause = if spare.is_none() && state == RunState::Pending { "-" } else { "write" };
    Run { main_sector: main, spare, sectors, state, cause }
}

#[test]
fn neighbours_are_joined_across_units_and_nothing_else_is() {
    let all = states(0xff, 0);
    let got = runs(
        1,
        10_000,
        &[
            unit(0, Some((0, 9_216)), all, 0),
            unit(8, Some((0, 9_224)), all, 0),
            unit(16, Some((0, 9_240)), all, 0),
            unit(24, Some((1, 9_248)), all, 0),
            unit(40, Some((1, 9_264)), all, 0),
        ],
    );
    assert_eq!(
        got,
        vec![
            run(0, Some((0, 9_216)), 16, RunState::Remapped),
            run(16, Some((0, 9_240)), 8, RunState::Remapped),
            run(24, Some((1, 9_248)), 8, RunState::Remapped),
            run(40, Some((1, 9_264)), 8, RunState::Remapped),
        ]
    );
}

#[test]
fn a_unit_shows_each_of_its_blocks_as_what_it_is() {
    // Blocks 0-1 moved, 2 moved and pending on the spare, 3 gone, 4 pending on main, 5-7 at home.
    let got = runs(1, 10_000, &[unit(8, Some((0, 9_216)), states(0b111, 0b1000), 0b1_0100)]);
    assert_eq!(
        got,
        vec![
            run(8, Some((0, 9_216)), 2, RunState::Remapped),
            run(10, Some((0, 9_218)), 1, RunState::Pending),
            run(11, Some((0, 9_219)), 1, RunState::Gone),
            run(12, None, 1, RunState::Pending),
        ]
    );
    let gone = runs(1, 10_000, &[unit(8, None, states(0, 0b10), 0)]);
    assert_eq!(gone, vec![run(9, None, 1, RunState::Gone)]);
    assert_eq!(runs(1, 10_000, &[unit(8, None, States::ALL_MAIN, 0)]), vec![]);
}

#[test]
fn blocks_larger_than_a_sector_and_a_short_last_unit_are_counted_right() {
    let all = states(0xff, 0);
    let spare = Some((0, 9_216));
    assert_eq!(
        runs(8, 100, &[unit(8, spare, states(1, 0), 0)]),
        vec![run(8, spare, 8, RunState::Remapped)]
    );
    let two = runs(4, 100, &[unit(8, spare, states(2, 1), 0)]);
    assert_eq!(
        two,
        vec![run(8, spare, 4, RunState::Gone), run(12, Some((0, 9_220)), 4, RunState::Remapped),]
    );
    assert_eq!(runs(1, 11, &[unit(8, spare, all, 0)]), vec![run(8, spare, 3, RunState::Remapped)]);
}

#[test]
fn runs_lose_and_invent_no_block() {
    // Every combination of states and marks of one unit, beside a moved one on either side.
    let all = states(0xff, 0);
    for spare in 0..=255u8 {
        for gone in [0u8, 1, 0x80, 0x3c, 0xff] {
            for pending in [0u8, 0x81, 0x18, 0xff] {
                let middle = unit(8, Some((0, 9_224)), states(spare & !gone, gone), pending);
                let got = runs(
                    1,
                    24,
                    &[
                        unit(0, Some((0, 9_216)), all, 0),
                        middle,
                        unit(16, Some((0, 9_232)), all, 0),
                    ],
                );
                let mut seen = [None; 24];
                for run in &got {
                    for i in 0..run.sectors {
                        let place = &mut seen[(run.main_sector + i) as usize];
                        assert!(place.is_none());
                        *place = Some((run.state, run.spare.map(|(row, at)| (row, at + i))));
                    }
                }
                for (sector, shown) in seen.into_iter().enumerate() {
                    let (index, moved) = (sector % 8, Some((0, 9_216 + sector as u64)));
                    let bit = 1u8 << index;
                    let want = if !(8..16).contains(&sector) {
                        Some((RunState::Remapped, moved))
                    } else if gone & bit != 0 {
                        Some((RunState::Gone, moved))
                    } else if pending & bit != 0 {
                        Some((RunState::Pending, if spare & bit != 0 { moved } else { None }))
                    } else {
                        (spare & bit != 0).then_some((RunState::Remapped, moved))
                    };
                    assert_eq!(shown, want, "sector {sector}");
                }
            }
        }
    }
}

/// The reply to `list FROM COUNT` over `all`.
fn reply(all: &[Run], from: u64, count: u32) -> String {
    let mut buf = [0u8; REPLY_MAX_BYTES];
    let mut text = Text::new(&mut buf);
    let mut reply = Reply::new(count);
    for run in all.iter().filter(|run| run.main_sector >= from) {
        if !reply.run(&mut text, run) {
            break;
        }
    }
    reply.end(&mut text);
    assert!(!text.is_cut());
    text.as_str().to_string()
}

#[test]
fn a_list_is_read_to_its_end_by_following_next() {
    let all: Vec<Run> = (0..300)
        .map(|i| match i % 3 {
            0 => run(i * 1_000_000_000, Some((0, u64::MAX - i)), 8, RunState::Remapped),
            1 => run(i * 1_000_000_000, None, 1, RunState::Pending),
            _ => run(i * 1_000_000_000, None, 3, RunState::Gone),
        })
        .collect();
    let (mut from, mut lines, mut replies) = (0, Vec::new(), 0);
    loop {
        let text = reply(&all, from, 65_536);
        replies += 1;
        assert!(text.len() <= REPLY_MAX_BYTES);
        let mut next = None;
        for line in text.lines() {
            match line.strip_prefix("next ") {
                Some(sector) => next = Some(sector.parse().unwrap()),
                None => lines.push(line.to_string()),
            }
        }
        match next {
            Some(sector) => from = sector,
            None => break,
        }
    }
    assert!(replies > 10);
    assert_eq!(lines.len(), all.len());
    assert_eq!(lines[0], "0 8 remapped 0 18446744073709551615 write");
    assert_eq!(lines[1], "1000000000 1 pending - - -");
    assert_eq!(lines[2], "2000000000 3 gone - - write");
}

#[test]
fn a_list_from_the_middle_of_a_unit_leaves_out_what_lies_before() {
    let mut runs = Runs::new(1, 100, 11);
    assert!(runs.unit(&unit(8, Some((0, 9_216)), states(0xff, 0), 0), |_| false));
    assert_eq!(runs.finish(), Some(run(11, Some((0, 9_219)), 5, RunState::Remapped)));
}

#[test]
fn a_count_ends_a_list() {
    let all = [run(0, None, 1, RunState::Pending), run(9, None, 1, RunState::Pending)];
    assert_eq!(reply(&all, 0, 1), "0 1 pending - - -\nnext 9");
    assert_eq!(reply(&all, 9, 1), "9 1 pending - - -");
    assert_eq!(reply(&[], 0, 5), "nothing moved, nothing lost");
}
