// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `completions` and `man`: what shells and readers want to know of the program.

use std::process::ExitCode;

use clap_complete::generate;

use crate::args::{Completions, Manual};
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::{manual, output};

/// `completions SHELL`
pub fn completions(args: &Completions) -> Outcome<ExitCode> {
    let mut text = Vec::new();
    generate(args.shell, &mut manual::command(), "dmremap", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// `man [VERB]`
pub fn man(args: &Manual) -> Outcome<ExitCode> {
    let command = manual::command();
    let page = |verb: Option<&str>| {
        manual::page(&command, verb).ok_or_else(|| {
            let verb = escaped_bytes(verb.unwrap_or("dmremap"));
            let what = format!("there is no verb \"{verb}\" and no page of it");
            Failure::new(Class::Usage, what).with_next("dmremap --help")
        })
    };
    let verb = args.verb.as_deref();
    let Some(folder) = &args.out else {
        output::print(&String::from_utf8_lossy(&page(verb)?.1))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut pages = vec![page(verb)?];
    if verb.is_none() {
        for verb in manual::verbs(&command) {
            pages.push(page(Some(verb.get_name()))?);
        }
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    for (name, text) in pages {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| Failure::io("write", &path, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}
