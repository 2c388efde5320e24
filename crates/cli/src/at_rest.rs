// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the reading verbs say of a volume that does not run: read from its spare, nothing written.

use dmremap_core::status;
use dmremap_engine::{OpenOptions, open_device};
use dmremap_format::{BlockState, COPIES, State};

use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::report::{self, Run};
use crate::spec::word;
use crate::survey::{Found, Survey, survey, survey_with};
use crate::view::View;

/// Surveys the device that `spec` names.
pub fn look(spec: &str) -> Outcome<Survey> {
    let device = open_device(spec, &OpenOptions::examine())?;
    Ok(survey(device.as_ref()))
}

/// The volume whose spare `spec` names, as an export sees it. `force`: one valid copy is enough.
pub fn view(spec: &str, force: bool) -> Outcome<View> {
    let device = open_device(spec, &OpenOptions::examine())?;
    let survey = survey_with(device.as_ref(), force);
    let found = volume(spec, &survey)?;
    let header = survey.header();
    let header = header.ok_or_else(|| Failure::new(Class::Internal, "no header has won"))?;
    Ok(View {
        name: header.name().to_owned(),
        uuid: report::uuid_text(header.volume()),
        size_sectors: header.main_sectors(),
        block_size: header.block_bytes(),
        entries: found.entries(),
        quarantined: found.quarantined(),
        max_entries: u64::from(found.layout.max_entries()),
        runs: found.runs(&header),
    })
}

/// The volume on it, or a failure that says why there is none.
fn volume<'a>(spec: &str, survey: &'a Survey) -> Outcome<&'a Found> {
    let refusals = survey.refusals();
    match &survey.volume {
        Ok(found) if refusals.is_empty() => Ok(found),
        _ => {
            let what = format!("{}: {}", escaped_bytes(spec), refusals.join("; "));
            Err(Failure::new(Class::Missing, what)
                .with_next(format!("dmremap examine {}", word(spec))))
        }
    }
}

/// `list --spare`
pub fn list(spec: &str) -> Outcome<Vec<Run>> {
    let survey = look(spec)?;
    let found = volume(spec, &survey)?;
    Ok(survey.header().map(|header| found.runs(&header)).unwrap_or_default())
}

/// `status --spare`: what lasts. Pending marks and counters live in memory.
pub fn status(spec: &str) -> Outcome<report::Status> {
    let survey = look(spec)?;
    let found = volume(spec, &survey)?;
    let Some(header) = survey.header() else {
        return Err(Failure::new(Class::Internal, "the winning header is gone"));
    };
    let used = found.slots.iter().filter(|(_, slot)| slot.spare.is_some());
    let used: std::collections::HashSet<_> =
        used.map(|(_, slot)| (slot.member, slot.spare)).collect();
    let total = found.layout.spare_units();
    let max_entries = u64::from(found.layout.max_entries());
    let stamps = found.pages.iter().flat_map(|page| page.judged).map(|page| page.stamp);
    let stamp = stamps.max().unwrap_or_default().max(found.judgement.page.stamp);
    let numbers = status::Status {
        block_size: header.block_bytes(),
        size_sectors: header.main_sectors(),
        remapped_blocks: found.blocks(BlockState::Spare),
        gone_blocks: found.blocks(BlockState::Gone),
        entries: found.entries(),
        max_entries,
        quarantined_units: found.quarantined(),
        spare_free_units: total.saturating_sub(used.len() as u64),
        spare_total_units: total,
        metadata: status::Metadata {
            copies_valid: survey.copies_valid(),
            copies_total: COPIES as u8,
            generation: stamp.generation,
            sequence: stamp.sequence,
            commits: 0,
        },
        conditions: status::Conditions {
            read_only: header.state() == State::Restored,
            spare_full: used.len() as u64 >= total || found.slots.len() as u64 >= max_entries,
            ..Default::default()
        },
        ..Default::default()
    };
    let status = report::Status::new(header.name(), header.volume(), &numbers);
    let mut status = status.of_header(header.state());
    status.header_state = Some(header.state().word().to_owned());
    Ok(status)
}
