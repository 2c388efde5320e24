// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Commands that are told to a person: they parse, and they are what was typed but for one thing.

use super::*;
use crate::failure::Class;

fn words(line: &str) -> Words {
    shell_words(line).unwrap()
}

/// Each verb as it may be typed.
const TYPED: &[&str] = &[
    "",
    "frobnicate",
    "--run-dir status",
    "format --main /dev/sdb --spare=/dev/sdc --block-size=4096 --yes",
    "--run-dir 'a b' --config c serve --spare /dev/sdc --force=in-use",
    "serve --spare faulty:/dev/sdc?map=m --main /dev/sdb --read-only",
    "status v --json",
    "list --spare /dev/sdc",
    "examine /dev/sdc",
    "remap v 8 +16",
    "message v remap 8",
    "check --spare /dev/sdc",
    "demo /dev/sdc",
];

#[test]
fn whatever_was_typed_the_advice_parses() {
    for typed in TYPED {
        for next in Next::one_of_each() {
            let line = render(&next, &words(typed));
            assert!(is_command(&line), "{typed}: {next:?}: {line}");
        }
    }
}

#[test]
fn the_advice_is_what_was_typed_but_for_one_thing() {
    let format = TYPED[3];
    let serve = TYPED[4];
    for (typed, next, line) in [
        (serve, Next::Again, &*format!("dmremap {serve}")),
        (
            format,
            Next::With("--dry-run".into()),
            "dmremap format --main /dev/sdb --spare=/dev/sdc --block-size=4096 --yes --dry-run",
        ),
        (
            format,
            Next::With("--block-size=512".into()),
            "dmremap format --main /dev/sdb --spare=/dev/sdc --yes --block-size 512",
        ),
        (
            format,
            Next::Without("--block-size"),
            "dmremap format --main /dev/sdb --spare=/dev/sdc --yes",
        ),
        (
            format,
            Next::Other("/dev/sdc".into()),
            "dmremap format --main /dev/sdb --spare=DEV --block-size=4096 --yes",
        ),
        (
            serve,
            Next::OtherMain,
            "dmremap --run-dir 'a b' --config c serve --spare /dev/sdc --force=in-use --main DEV",
        ),
        (
            serve,
            Next::With("--force=quorum --read-only".into()),
            "dmremap --run-dir 'a b' --config c serve --spare /dev/sdc --force=in-use \
             --force=quorum --read-only",
        ),
        (
            serve,
            Next::BlockSize { bytes: 4096, device: "/dev/sdc".into() },
            "dmremap --run-dir 'a b' --config c serve --spare DEV --force=in-use",
        ),
        // Main as the local configuration names it was not typed.
        (
            serve,
            Next::Other("/dev/sdb".into()),
            "dmremap --run-dir 'a b' --config c serve --spare /dev/sdc --force=in-use --main DEV",
        ),
        (
            TYPED[5],
            Next::Other("/dev/sdc".into()),
            "dmremap serve --spare DEV --main /dev/sdb --read-only",
        ),
        ("examine /dev/sdc", Next::Other("/dev/sdc".into()), "dmremap examine DEV"),
        // A verb that does not have the option is explained instead.
        ("examine /dev/sdc", Next::With("--force=buffered".into()), "dmremap examine --help"),
        ("--run-dir status", Next::Help, "dmremap --help"),
        ("--run-dir x status n", Next::Help, "dmremap status --help"),
        ("list n", Next::Check("a b".into()), "dmremap check --spare 'a b'"),
    ] {
        assert_eq!(render(&next, &words(typed)), line, "{typed} {next:?}");
    }
}

#[test]
fn what_can_be_typed() {
    for good in [
        "dmremap status NAME",
        "dmremap remap NAME SECTOR SPARE_SECTOR",
        "dmremap format --main DEV --spare DEV --max-remaps N",
        "dmremap --version",
        "dmremap serve --help",
        "sudo dmremap check --spare DEV",
        "chmod 0700 '/run/a b'",
        "dmremap message v '$(reboot)'",
    ] {
        assert!(is_command(good), "{good}");
    }
    for bad in [
        "",
        "the same command with --yes",
        "dmremap",
        "dmremap frobnicate",
        "dmremap format --main DEV --spare DEV --max-remaps FEW",
        "dmremap status",
        "dmremap status 'n",
        "sudo",
        "reboot",
        "rm -rf /",
        "dmremap message v $(reboot)",
        "dmremap message v status; reboot",
        "dmremap message v `reboot`",
        "dmremap examine ~/x > /dev/sda",
        "help",
    ] {
        assert!(!is_command(bad), "{bad}");
    }
}

#[test]
fn an_error_without_advice_ends_with_a_command_all_the_same() {
    for (class, typed, line) in [
        (Class::Usage, "status n", "no; try: dmremap status --help"),
        (Class::Internal, "status n", "no; try: dmremap status n"),
        (Class::Internal, "frobnicate", "no; try: dmremap --help"),
    ] {
        assert_eq!(render_line(&Failure::new(class, "no"), &words(typed)), line);
    }
}

/// The commands written in the program's source, each with its file: what is inserted is an 8,
/// which is as good as any word and a number besides.
fn written() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.ends_with("src/args") {
                continue; // how verbs are written, for the help
            }
            if path.is_dir() {
                walk(&path, found);
            } else if name.ends_with(".rs")
                && !name.ends_with("_tests.rs")
                && !name.contains("remedy")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let literals = code.split("\"dmremap ").skip(1);
                found.extend(literals.map(|rest| (name.clone(), literal(rest))));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// What stands in `rest` before its closing quote, behind `dmremap `.
fn literal(rest: &str) -> String {
    let mut line = String::from("dmremap ");
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' if chars.peek() == Some(&'\n') => {
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
            }
            '{' => {
                line.push('8');
                while chars.next().is_some_and(|c| c != '}') {}
            }
            c => line.push(c),
        }
    }
    line
}

#[test]
fn every_command_in_the_source_parses() {
    let all = written();
    assert!(all.len() > 20, "the search finds nothing: {all:?}");
    let wrong: Vec<_> = all.iter().filter(|(_, line)| !is_command(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_the_parser_says_is_one_line() {
    for (typed, words) in [
        ("", "which verb?"),
        ("frobnicate", "unrecognized subcommand 'frobnicate'"),
        ("stat v", "unrecognized subcommand 'stat'; some similar subcommands exist: "),
        ("remap", "the following required arguments were not provided: <NAME> <SECTOR>"),
        (
            "serve --spare b --force=entries",
            "invalid value 'entries' for '--force <WHAT>' [possible",
        ),
        ("unremap v '\u{1b}[2J\n'", "invalid value '"),
    ] {
        let all = [OsString::from("dmremap")].into_iter().chain(words_of(typed));
        let line = usage(&Cli::try_parse_from(all).unwrap_err());
        assert!(line.starts_with(words) && is_harmless(&line), "{typed}: {line:?}");
        assert!(line.contains("; try: dmremap ") && !line.contains("Usage:"), "{line}");
    }
}

fn words_of(line: &str) -> Words {
    if line.is_empty() { Words::new() } else { words(line) }
}

/// The commands of ours in a document, in fences and in the text; placeholders become words.
fn of_document(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let (mut found, mut fenced) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            fenced = kind == "sh";
        }
        let spans = line.split('`').skip(1).step_by(2);
        let whole = [line].into_iter().filter(|_| fenced);
        let all = spans.chain(whole).filter(|code| code.starts_with("dmremap "));
        found.extend(all.map(|code| {
            let code = code.split(" #").next().unwrap_or_default();
            let words = code.split_whitespace().collect::<Vec<_>>().join(" ");
            words.replace("SHELL", "bash").replace("VERB", "serve")
        }));
    }
    found
}

#[test]
fn every_command_in_the_documents_parses() {
    for (name, least) in [("README.md", 15), ("docs/RUNBOOK.md", 40)] {
        let all = of_document(name);
        assert!(all.len() >= least, "the search finds little in {name}: {all:#?}");
        let wrong: Vec<_> = all.iter().filter(|line| !is_command(line)).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}
