// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a person should know of the spare they chose, before a volume is made with it.

use std::path::Path;

use dmremap_engine::Backing;
use serde::Serialize;

use crate::escape::escaped_bytes;
use crate::spec;
use crate::topology::{Host, is_usb};

/// Advice; it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// `warning` or `hint`.
    pub kind: &'static str,
    /// One word for scripts: `same-disk`, `usb`, `memory`, `not-redundant`.
    pub word: &'static str,
    /// The text.
    pub text: String,
}

fn warning(word: &'static str, text: String) -> Advice {
    Advice { kind: "warning", word, text }
}

/// What is to be said of `spare`, backed so, as the spare of `main`.
pub fn of_spare(host: &Host, main: &str, spare: &str, backing: Backing) -> Vec<Advice> {
    let mut all = Vec::new();
    let shown = escaped_bytes(spare);
    if backing == Backing::Memory {
        all.push(warning(
            "memory",
            format!("{shown} lies in this host's memory: what moves there is lost at power off"),
        ));
        return all;
    }
    let beneath = |spec: &str| host.beneath(Path::new(spec::inner(spec)));
    let Some(below_spare) = beneath(spare) else { return all };
    let disks = host.disks(below_spare);
    let main_disks = beneath(main).map(|number| host.disks(number)).unwrap_or_default();
    let names = |disks: &mut dyn Iterator<Item = &std::path::PathBuf>| {
        let name = |disk: &std::path::PathBuf| {
            let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
            escaped_bytes(&name).to_string()
        };
        disks.map(name).collect::<Vec<_>>().join(", ")
    };
    let shared = names(&mut disks.intersection(&main_disks));
    if !shared.is_empty() {
        all.push(warning(
            "same-disk",
            format!("{shown} is on main's own disk ({shared}): when that dies, both are lost"),
        ));
    }
    let usb = names(&mut disks.iter().filter(|disk| is_usb(disk)));
    if !usb.is_empty() {
        all.push(warning(
            "usb",
            format!("{shown} is behind USB ({usb}): pulled out, what has moved cannot be read"),
        ));
    }
    if !host.is_redundant(below_spare) {
        all.push(Advice {
            kind: "hint",
            word: "not-redundant",
            text: format!(
                "what moves to {shown} is there and nowhere else; an md or LVM RAID1 of two \
                 devices makes the best spare"
            ),
        });
    }
    all
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
