// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What marking main's bad areas comes to, counted before anything is done.

use dmremap_core::message::{MARK_SECTORS_MAX, MarkKind};
use dmremap_engine::SectorRun;
use dmremap_format::{SECTOR_BYTES, UNIT_SECTORS};
use serde_json::{Value, json};

use crate::failure::{Class, Failure, Outcome};
use crate::report::FORMAT_VERSION;
use crate::units::{count, size};
use crate::view::View;

/// Counted against what the table says now.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Runs of whole blocks, ascending.
    pub runs: Vec<SectorRun>,
    /// What becomes of them.
    pub kind: MarkKind,
    /// Blocks in them.
    pub blocks: u64,
    /// Of these, blocks that live on the spare: left alone.
    pub on_spare: u64,
    /// Blocks that are gone already.
    pub gone: u64,
    /// Units that get an entry.
    pub new_entries: u64,
    block_size: u32,
}

impl Plan {
    /// Counts; refuses what the table has no room for.
    pub fn new(view: &View, kind: MarkKind, runs: Vec<SectorRun>) -> Outcome<Plan> {
        let block = (u64::from(view.block_size) / SECTOR_BYTES).max(1);
        let sectors = |state: &str| -> u64 {
            let all = view.runs.iter().filter(|run| match state {
                // What is pending on a spare lives there.
                "remapped" => run.state != "gone" && run.spare_sector.is_some(),
                _ => run.state == state,
            });
            all.map(|run| overlap(&runs, run.main_sector, run.sectors)).sum()
        };
        let total: u64 = runs.iter().map(|run| run.sectors).sum();
        let mut plan = Plan {
            kind,
            blocks: total.div_ceil(block),
            on_spare: sectors("remapped") / block,
            gone: sectors("gone") / block,
            new_entries: 0,
            block_size: view.block_size,
            runs,
        };
        if kind == MarkKind::Gone {
            plan.new_entries = new_entries(view, &plan.runs);
            plan.check_room(view)?;
        }
        Ok(plan)
    }

    fn check_room(&self, view: &View) -> Outcome<()> {
        let used = view.entries.saturating_add(view.quarantined);
        let needed = used.saturating_add(self.new_entries);
        if needed <= view.max_entries {
            return Ok(());
        }
        let what = format!(
            "the table has room for {} more entries and {} are needed, one for every unit of 4 KiB \
             with something gone: a table of --max-remaps {needed} would do; nothing was done",
            view.max_entries.saturating_sub(used),
            self.new_entries,
        );
        let next = format!("dmremap format --main DEV --spare DEV --max-remaps {needed}");
        Err(Failure::new(Class::Refused, what).with_next(next))
    }

    /// Blocks that are marked.
    pub fn marked(&self) -> u64 {
        self.blocks.saturating_sub(self.on_spare).saturating_sub(self.gone)
    }

    /// What is going to happen, for a person.
    pub fn words(&self) -> String {
        let bytes = self.marked().saturating_mul(u64::from(self.block_size));
        let what = match self.kind {
            MarkKind::Gone => {
                "will be errors until they are overwritten, whatever main holds there"
            }
            MarkKind::Pending => "will be marked as not readable on main",
        };
        let mut words = format!(
            "{} in {}: {} of {} bytes ({}) {what}",
            count(self.blocks, "bad block", "bad blocks"),
            count(self.runs.len() as u64, "area", "areas"),
            count(self.marked(), "block", "blocks"),
            self.block_size,
            size(bytes),
        );
        if self.on_spare > 0 {
            words += &format!("; {} on the spare and stay good", lives(self.on_spare));
        }
        if self.gone > 0 {
            words += &format!("; {} gone already", self.gone);
        }
        words + "."
    }

    /// The same for a script.
    pub fn document(&self) -> Value {
        json!({
            "format_version": FORMAT_VERSION,
            "kind": self.kind.word(),
            "areas": self.runs.len(),
            "blocks": self.blocks,
            "marked": self.marked(),
            "on_spare": self.on_spare,
            "gone": self.gone,
            "new_entries": self.new_entries,
        })
    }

    /// The lines of the message grammar that do it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for run in &self.runs {
            let end = run.sector + run.sectors;
            for sector in (run.sector..end).step_by(MARK_SECTORS_MAX as usize) {
                let sectors = MARK_SECTORS_MAX.min(end - sector);
                lines.push(format!("mark {} {sector} {sectors}", self.kind.word()));
            }
        }
        lines
    }
}

fn lives(blocks: u64) -> String {
    if blocks == 1 { "1 lives".to_owned() } else { format!("{blocks} live") }
}

/// Sectors of a run that lie in one of `runs`, which ascend and do not touch.
fn overlap(runs: &[SectorRun], sector: u64, sectors: u64) -> u64 {
    let end = sector.saturating_add(sectors);
    let first = runs.partition_point(|run| run.sector + run.sectors <= sector);
    let within = runs[first..].iter().take_while(|run| run.sector < end);
    within.map(|run| (run.sector + run.sectors).min(end) - run.sector.max(sector)).sum()
}

/// Units of the runs that have no entry. A unit has one if a block of it is gone or has its place
/// on a spare.
fn new_entries(view: &View, runs: &[SectorRun]) -> u64 {
    let mut have: Vec<u64> = Vec::new();
    for run in view.runs.iter().filter(|run| run.state == "gone" || run.spare_sector.is_some()) {
        let last = (run.main_sector + run.sectors.max(1) - 1) / UNIT_SECTORS;
        let first = (run.main_sector / UNIT_SECTORS).max(have.last().map_or(0, |unit| unit + 1));
        have.extend(first..=last);
    }
    let (mut units, mut next) = (0, 0);
    for run in runs {
        let first = (run.sector / UNIT_SECTORS).max(next);
        let end = (run.sector + run.sectors).div_ceil(UNIT_SECTORS);
        if first < end {
            let known = have.partition_point(|unit| *unit < end)
                - have.partition_point(|unit| *unit < first);
            units += end - first - known as u64;
            next = end;
        }
    }
    units
}

#[cfg(test)]
#[path = "marking_tests.rs"]
mod tests;
