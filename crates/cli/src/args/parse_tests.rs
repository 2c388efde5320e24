// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The forms scripts rely on.

use super::*;
use clap::CommandFactory;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

fn parses(line: &str) -> bool {
    Cli::try_parse_from(line.split(' ')).is_ok()
}

#[test]
fn the_forms_scripts_rely_on() {
    for line in [
        "dmremap format --main /a --spare /b",
        "dmremap format --main a --spare b --name n --block-size 4096 --max-remaps 9 \
         --strict-spare-size --dry-run --yes --force=volume --force=foreign-signature",
        "dmremap format --main a --create-spare s.img --size 64M --json",
        "dmremap serve --spare /b --nbd unix:/x --control /y --read-only --force=in-use",
        "dmremap serve --spare /b --main /a --stdio",
        "dmremap serve --spare /b --main DEV --accept-main=same",
        "dmremap serve --spare /b --accept-main=copy --mapfile FILE",
        "dmremap serve --spare /b --accept-main=copy --mapfile none",
        "dmremap status n --test",
        "dmremap status --control /x --json",
        "dmremap list --spare /b --json",
        "dmremap stats n",
        "dmremap examine /b --export",
        "dmremap remap n 8",
        "dmremap remap n 8 +16",
        "dmremap remap --control /x 8 +16 --json",
        "dmremap unremap n 8",
        "dmremap unremap --control /x 8",
        "dmremap verify n 8 --json",
        "dmremap verify 8 --control /x",
        "dmremap close n --force=clients --wait 5",
        "dmremap close --control /x",
        "dmremap clear n --dry-run",
        "dmremap clear --control /x --yes --force=gone --json",
        "dmremap message n set read_retries 3",
        "dmremap message --control /x status",
        "dmremap check --spare /b --json",
        "dmremap repair --spare /b --dry-run --json --force=in-use",
        "dmremap dump --spare /b",
        "dmremap dump --spare /b FILE --force=quorum --force=existing-file",
        "dmremap restore --spare DEV --main DEV FILE",
        "dmremap restore --spare /b --main /a f --accept-main=same --dry-run --yes",
        "dmremap wipe --spare /b --yes --force=entries",
        "dmremap import n --format mapfile FILE",
        "dmremap import --spare /b --format badblocks --block-size 1024 --main-is copy FILE",
        "dmremap import n --format v3 --force=unverified --dry-run --yes --json DEV",
        "dmremap export n --format mapfile",
        "dmremap export n --format mapfile FILE",
        "dmremap export --spare /b --format badblocks --block-size 1024 FILE",
        "dmremap export --spare /b --main /a --format table --force=quorum",
        "dmremap export --control /x --format json",
        "dmremap demo --sabotage --keep /d",
        "dmremap --run-dir /r status n",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "dmremap",
        "dmremap format --main /a",
        "dmremap format --main a --create-spare s.img",
        "dmremap format --main a --create-spare s.img --size 64",
        "dmremap format --main a --spare b --size 64M",
        "dmremap format --main a --spare b --create-spare s.img --size 64M",
        "dmremap status",
        "dmremap status n --spare /b",
        "dmremap examine /b --json --export",
        "dmremap remap",
        "dmremap remap n",
        "dmremap remap n x",
        "dmremap remap n -8",
        "dmremap remap n 8 x",
        "dmremap remap n 8 16 --control /x",
        "dmremap unremap 8",
        "dmremap verify n x",
        "dmremap verify n 8 --control /x",
        "dmremap close",
        "dmremap close n --control /x",
        "dmremap close n --force=gone",
        "dmremap clear n --force=clients",
        "dmremap serve --spare /b --nbd unix:/x --stdio",
        "dmremap format --main a --spare b --force=everything",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn a_verb_takes_the_names_of_its_own_checks_and_no_others() {
    let all = [
        "foreign-signature",
        "volume",
        "claimed",
        "physical-block",
        "buffered",
        "in-use",
        "unverified",
        "quorum",
        "entries",
        "existing-file",
        "clients",
        "gone",
        "everything",
        "",
    ];
    let format = ["foreign-signature", "volume", "claimed", "physical-block", "buffered"];
    for (line, own) in [
        ("dmremap format --main a --spare b", &format[..]),
        ("dmremap serve --spare b", &["buffered", "in-use", "quorum"]),
        ("dmremap close n", &["clients"]),
        ("dmremap clear n", &["gone"]),
        ("dmremap repair --spare b", &["buffered", "in-use"]),
        ("dmremap dump --spare b", &["buffered", "quorum", "existing-file"]),
        (
            "dmremap restore --spare b --main a f",
            &["foreign-signature", "physical-block", "buffered"],
        ),
        ("dmremap wipe --spare b", &["buffered", "entries"]),
        ("dmremap import n --format v3 f", &["unverified"]),
        ("dmremap export --spare b --format table", &["quorum"]),
        // These lift nothing.
        ("dmremap status n", &[]),
        ("dmremap list n", &[]),
        ("dmremap stats n", &[]),
        ("dmremap examine b", &[]),
        ("dmremap check --spare b", &[]),
        ("dmremap remap n 8", &[]),
        ("dmremap unremap n 8", &[]),
        ("dmremap verify n 8", &[]),
        ("dmremap demo", &[]),
    ] {
        assert!(parses(line), "{line}");
        for name in all {
            let forced = format!("{line} --force={name}");
            assert_eq!(parses(&forced), own.contains(&name), "{forced}");
        }
    }
}
