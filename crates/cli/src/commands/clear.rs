// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `clear`: brings everything that has moved back to main. What would come home and what would be
//! lost is counted first and confirmed.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::{Clear, ClearForce};
use crate::confirm::confirm;
use crate::context::Context;
use crate::control::client;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::output;
use crate::remedy::again_with;
use crate::report::{FORMAT_VERSION, Status};
use crate::running;
use crate::units::count;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(250);

/// What there is to clear.
struct Work {
    name: String,
    units: u64,
    /// Blocks that live on the spare.
    moved: u64,
    /// Of these, blocks the spare could not read.
    unreadable: u64,
    /// Blocks that exist nowhere.
    gone: u64,
}

/// `clear`
pub fn clear(context: &Context, args: &Clear) -> Outcome<ExitCode> {
    let path = context.running(&args.running)?;
    let work = Work::look(&path)?;
    let force = args.force == Some(ClearForce::Gone);
    let plan = work.plan(force);
    if !args.json {
        output::print(&plan)?;
    }
    let refused = work.gone > 0 && !force;
    if args.dry_run || work.units == 0 {
        let nothing = if work.units == 0 { "" } else { "Nothing has been changed.\n" };
        finish(args, &work, None, nothing)?;
        return Ok(ExitCode::SUCCESS);
    }
    if refused {
        let what = format!(
            "{}; raw main would serve old content there with success. Overwrite them first \
             (dmremap list shows which), or leave them gone with --force=gone",
            count(work.gone, "block exists nowhere", "blocks exist nowhere")
        );
        return Err(Failure::new(Class::Refused, what).with_next(again_with("--force=gone")));
    }
    let what = format!("Blocks of \"{}\" go back to a disk that may be failing.", work.name);
    confirm(&what, "clear", args.yes)?;
    let answer = carry_out(&path, &work, if force { "clear force" } else { "clear" })?;
    let left = Work::look(&path)?;
    let home = work.moved.saturating_sub(left.moved);
    let gone = left.gone.saturating_sub(work.gone);
    let words = format!(
        "{} came home, {} became gone.\n",
        count(home.saturating_sub(gone), "block", "blocks"),
        count(gone, "block", "blocks")
    );
    finish(args, &left, Some((home.saturating_sub(gone), gone, answer)), &words)?;
    Ok(ExitCode::SUCCESS)
}

impl Work {
    fn look(path: &Path) -> Outcome<Work> {
        let status: Status = running::parsed(&client::ask(path, "status")?)?;
        let block_sectors = u64::from(status.block_size) / 512;
        let runs = running::all_runs(path)?;
        let unreadable = runs.iter().filter(|r| r.state == "pending" && r.spare_index.is_some());
        let unreadable = unreadable.map(|run| run.sectors).sum::<u64>() / block_sectors.max(1);
        Ok(Work {
            name: escaped_bytes(&status.name).to_string(),
            units: status.entries,
            moved: status.remapped_blocks,
            unreadable,
            gone: status.gone_blocks,
        })
    }

    fn plan(&self, force: bool) -> String {
        if self.units == 0 {
            return format!("Nothing of \"{}\" has moved.\n", self.name);
        }
        let units = count(self.units, "unit", "units");
        let moved = count(self.moved, "block", "blocks");
        let mut text = format!("\"{}\": {moved} in {units} to bring home to main", self.name);
        if self.unreadable > 0 {
            let fate = if force { "become gone if they stay so" } else { "stop it" };
            text +=
                &format!("; {} of them cannot be read on the spare, which {fate}", self.unreadable);
        }
        if self.gone > 0 {
            let fate = if force { "stay errors until overwritten" } else { "forbid it" };
            text += &format!("; {} gone, which {fate}", count(self.gone, "block is", "blocks are"));
        }
        text + "\n"
    }
}

/// Sends the message, and shows on a terminal how far it has come.
fn carry_out(path: &Path, work: &Work, line: &str) -> Outcome<Value> {
    if !std::io::stderr().is_terminal() {
        return client::ask(path, line);
    }
    let bar = ProgressBar::new(work.moved);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} blocks, {eta} left") {
        bar.set_style(style);
    }
    bar.tick();
    let (ended, end) = channel::<()>();
    let shown = bar.clone();
    let answer = std::thread::scope(|scope| {
        scope.spawn(move || {
            while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let status =
                    client::ask(path, "status").and_then(|v| running::parsed::<Status>(&v));
                let left = status.map_or(work.moved, |status| status.remapped_blocks);
                shown.set_position(work.moved.saturating_sub(left));
            }
        });
        let answer = client::ask(path, line);
        drop(ended);
        answer
    });
    bar.finish_and_clear();
    answer
}

/// The last words, or the document; `done` is what came home, what became gone, and the reply.
fn finish(args: &Clear, now: &Work, done: Option<(u64, u64, Value)>, words: &str) -> Outcome<()> {
    if !args.json {
        return output::print(words);
    }
    let (home, gone, reply) = done.map_or((None, None, None), |(home, gone, answer)| {
        (Some(home), Some(gone), answer.get("reply").cloned())
    });
    output::print_json(&json!({
        "format_version": FORMAT_VERSION,
        "done": home.is_some(),
        "blocks_home": home,
        "blocks_became_gone": gone,
        "reply": reply,
        "units": now.units,
        "moved_blocks": now.moved,
        "unreadable_blocks": now.unreadable,
        "gone_blocks": now.gone,
    }))
}
