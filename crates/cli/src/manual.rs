// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The manual pages: what clap knows of each verb, and what it does not know: exit codes and
//! examples.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::Cli;

/// What is typed behind the program's name, and what it does.
type Example = (&'static str, &'static str);

/// Examples of every verb, and of the program itself. With the program's name before it each is a
/// real command line.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("demo", "See it all work on images in a temporary folder."),
            (
                "format --main /dev/sdX --spare /dev/sdY --name mydisk",
                "Join a failing disk and a healthy one. /dev/sdY is overwritten.",
            ),
            ("serve --spare /dev/sdY", "Run the volume."),
            ("status mydisk", "How it is."),
            ("close mydisk", "End it."),
        ],
    ),
    (
        "format",
        &[
            (
                "format --main /dev/sdX --spare /dev/md0 --name mydisk",
                "A mirror is the best spare: what has moved is nowhere else.",
            ),
            (
                "format --main /dev/sdX --create-spare /srv/mydisk.spare --size 64M",
                "The spare is a file that is made; 64 MiB hold about 15,000 bad blocks of 4 KiB.",
            ),
            (
                "format --main /dev/sdX --spare /dev/sdY --dry-run",
                "What would be made; nothing is changed.",
            ),
        ],
    ),
    (
        "serve",
        &[
            ("serve --spare /dev/sdY", "Listen on RUN_DIR/NAME.nbd."),
            ("serve --spare /dev/sdY --nbd tcp:127.0.0.1:10809", "Listen on TCP."),
            ("serve --spare /dev/sdY --read-only", "Write nothing at all."),
        ],
    ),
    (
        "close",
        &[
            ("close mydisk", "Unmount and disconnect clients first."),
            ("close mydisk --force=clients", "Cut the clients off that are connected."),
        ],
    ),
    (
        "status",
        &[
            ("status mydisk", "Begins with one plain sentence."),
            ("status --spare /dev/sdY --json", "Of a volume that does not run, for scripts."),
            ("status mydisk --test", "Only an exit code."),
        ],
    ),
    ("examine", &[("examine /dev/sdY", "What is on this device?")]),
    ("list", &[("list mydisk", "What has moved and what is lost, in sectors of main.")]),
    (
        "remap",
        &[
            ("remap mydisk 123456", "Move the unit that holds this sector."),
            ("remap mydisk 123456 +16", "To this place, counted from the first data sector."),
        ],
    ),
    ("unremap", &[("unremap mydisk 123456", "Bring it back.")]),
    (
        "clear",
        &[
            ("clear mydisk --dry-run", "Count what would come home, and what would be lost."),
            ("clear mydisk --force=gone", "Blocks that exist nowhere stay errors."),
        ],
    ),
    ("verify", &[("verify mydisk 123456", "Read it where it lives.")]),
    ("stats", &[("stats mydisk --json", "Counters since the volume was opened.")]),
    (
        "message",
        &[
            ("message mydisk help", "Which messages there are."),
            ("message mydisk set read_retries 5", "Change a setting."),
        ],
    ),
    ("check", &[("check --spare /dev/sdY", "Is the metadata sound? Nothing is changed.")]),
    ("repair", &[("repair --spare /dev/sdY", "Make all five copies whole again.")]),
    ("dump", &[("dump --spare /dev/sdY mydisk.dump", "Keep a copy of the metadata.")]),
    (
        "restore",
        &[(
            "restore --spare /dev/sdY --main /dev/sdX mydisk.dump",
            "Metadata that cannot be read any more, from a dump.",
        )],
    ),
    ("wipe", &[("wipe --spare /dev/sdY", "The spare is free for other uses.")]),
    ("import", &[("import mydisk --format mapfile rescue.map", "What ddrescue could not read.")]),
    ("export", &[("export mydisk --format mapfile", "What is lost, for ddrescue.")]),
    ("completions", &[("completions bash", "Put the output into /etc/bash_completion.d/dmremap.")]),
    (
        "man",
        &[
            ("man serve", "One page, for: man -l -"),
            ("man --out man1", "Every page, as files of this folder."),
        ],
    ),
    (
        "demo",
        &[
            ("demo", "One minute, no privilege."),
            ("demo --sabotage", "Damages the table behind its back, and must fail."),
        ],
    ),
];

/// What every exit code means, and what is special of a verb.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "The command line or a message makes no sense."),
    ("2", "The operating system, or the server, does not allow it."),
    ("3", "A defect of the program or of what it runs on."),
    ("4", "A device or its metadata is missing, wrong or not readable."),
    ("5", "Somebody else uses it, or it exists already."),
    ("6", "A safety check refuses. The text names the option that lifts it, if there is one."),
];

/// Exit codes of a verb that the table above does not tell.
fn special_codes(verb: &str) -> &'static str {
    match verb {
        "status" => "With --test: 0 healthy, 1 degraded, 2 unusable or data lost, 4 cannot tell.",
        "check" => "4 if an open would refuse the spare.",
        "verify" => "4 if a block of the unit cannot be read.",
        "close" => "0 only if the close was clean; 3 if it was not; 5 while clients are connected.",
        _ => "",
    }
}

/// The program with everything worked out that pages and completions need.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// The verbs, in order; not the `help` that clap adds.
pub fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| verb.get_name() != "help")
}

/// The page of a verb, or of the program itself: its file's name and its text.
pub fn page(command: &Command, verb: Option<&str>) -> Option<(String, Vec<u8>)> {
    let found = match verb {
        Some(verb) => verbs(command).find(|one| one.get_name() == verb)?,
        None => command,
    };
    let name = verb.map_or("dmremap".to_owned(), |verb| format!("dmremap-{verb}"));
    let mut text = Vec::new();
    write(found, &name, verb.unwrap_or(""), &mut text).ok()?;
    Some((format!("{name}.1"), text))
}

fn write(command: &Command, name: &str, verb: &str, to: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone()).title(name).manual("dm-remap");
    man.render_title(to)?;
    man.render_name_section(to)?;
    man.render_synopsis_section(to)?;
    man.render_description_section(to)?;
    man.render_options_section(to)?;
    if verb.is_empty() {
        man.render_subcommands_section(to)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(to)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []).text([bold(*code)]).text([roman(*meaning)]);
    }
    let special = special_codes(verb);
    if !special.is_empty() {
        roff.control("PP", []).text([roman(special)]);
    }
    roff.control("SH", ["EXAMPLES"]);
    for (words, what) in examples(verb) {
        roff.control("TP", []).text([bold(["dmremap", words].join(" "))]).text([roman(*what)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let other = if verb.is_empty() { "dmremap-serve" } else { "dmremap" };
    roff.text([
        bold(other),
        roman("(1), "),
        bold("nbd-client"),
        roman("(8), "),
        bold("ddrescue"),
        roman("(1)"),
    ]);
    roff.to_writer(to)
}

fn examples(verb: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(of, _)| *of == verb).map_or(&[], |(_, examples)| examples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn every_verb_has_examples_that_are_real_command_lines() {
        let command = command();
        let names = verbs(&command).map(|verb| verb.get_name());
        for verb in std::iter::once("").chain(names) {
            assert!(!examples(verb).is_empty(), "{verb}: no example");
            for (words, what) in examples(verb) {
                assert!(what.ends_with(['.', '-', '?']), "{words}: {what}");
                assert!(verb.is_empty() || words.split(' ').next() == Some(verb), "{words}");
                if let Err(error) =
                    Cli::try_parse_from(["dmremap"].into_iter().chain(words.split(' ')))
                {
                    panic!("{words}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_page_has_its_sections() {
        let command = command();
        let names: Vec<&str> = verbs(&command).map(|verb| verb.get_name()).collect();
        assert!(names.len() > 10 && page(&command, Some("no-such-verb")).is_none());
        for verb in std::iter::once(None).chain(names.iter().copied().map(Some)) {
            let (name, text) = page(&command, verb).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(name.ends_with(".1"), "{name}");
            for section in
                ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES"]
            {
                assert!(text.contains(&format!(".SH {section}\n")), "{name} lacks {section}");
            }
            assert!(text.contains("\\-\\-run\\-dir"), "{name} lacks the common options");
            if ["import", "export", "serve"].map(Some).contains(&verb) {
                assert!(text.contains(".SH EXTRA\n"), "{name} lacks what help says below");
            }
        }
    }
}
