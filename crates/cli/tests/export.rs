// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `export`: what is written down is what the volume serves, and programs of others read it.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, IMAGE_BYTES, Serving, installed, skip};
use dmremap_nbd::Client;
use serde_json::json;

const SECTORS: u64 = IMAGE_BYTES / 512;

/// Sectors 800 to 803 cannot be written, 1600 and 1601 neither read nor written, 4000 to 4007 not
/// written.
const MAP: &str =
    "0x64000 0x800 - # write io\n0xc8000 0x400 - # both medium\n0x1f4000 0x1000 - # write io\n";
/// What is pending once it has been read.
const PENDING: [u64; 2] = [1600, 1601];

/// A volume with two moved units and two pending blocks, running.
fn busy_volume() -> (Bench, Serving) {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(MAP));
    let server = bench.serve(&[]);
    let client = server.connect();
    client.write(801 * 512, &[0xa1; 1024], false).unwrap();
    client.write(4000 * 512, &[0xa2; 4096], false).unwrap();
    for sector in PENDING {
        assert!(client.read(sector * 512, 512).is_err());
    }
    (bench, server)
}

/// A table as the device mapper understands it: byte for byte, `None` where it is an error.
fn interpret(text: &str) -> Vec<Option<Vec<u8>>> {
    let mut sectors = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        assert_eq!(number(0), sectors.len() as u64, "a gap or an overlap: {line}");
        for sector in 0..number(1) {
            sectors.push(match words[2] {
                "linear" => {
                    let mut bytes = vec![0; 512];
                    let at = (number(4) + sector) * 512;
                    File::open(words[3]).unwrap().read_exact_at(&mut bytes, at).unwrap();
                    Some(bytes)
                }
                "error" => None,
                other => panic!("{other}"),
            });
        }
    }
    sectors
}

/// The same as the volume serves it.
fn served(client: &Client) -> Vec<Option<Vec<u8>>> {
    let mut sectors = Vec::new();
    for at in (0..IMAGE_BYTES).step_by(4096) {
        match client.read(at, 4096) {
            Ok(bytes) => sectors.extend(bytes.chunks(512).map(|sector| Some(sector.to_vec()))),
            Err(_) => {
                sectors.extend((0..8).map(|sector| client.read(at + sector * 512, 512).ok()));
            }
        }
    }
    sectors
}

#[test]
fn a_table_is_what_the_volume_serves() {
    let (bench, server) = busy_volume();
    let client = server.connect();
    let text = bench.good(&["export", "v", "--format", "table"]);
    let served = served(&client);
    assert_eq!(served.len() as u64, SECTORS);
    assert_eq!(served.iter().filter(|sector| sector.is_none()).count(), PENDING.len());
    assert!(interpret(&text) == served);
    assert_eq!(text.lines().filter(|line| line.ends_with("error")).count(), 1);
    drop(client);
    assert_eq!(server.stop(), 0);
    // At rest nothing is pending any more; all the rest is the same.
    let text = bench.good(&["export", "--spare", "spare.img", "--format", "table"]);
    let at_rest = interpret(&text);
    for (sector, (at_rest, served)) in at_rest.iter().zip(&served).enumerate() {
        assert!(at_rest == served || PENDING.contains(&(sector as u64)), "sector {sector}");
    }
}

#[test]
fn ddrescuelog_reads_the_mapfile() {
    const NAME: &str = "ddrescuelog_reads_the_mapfile";
    if !installed("ddrescuelog") {
        return skip(NAME, "ddrescuelog is not installed");
    }
    let (bench, _server) = busy_volume();
    bench.good(&["export", "v", "--format", "mapfile", "out.map"]);
    let log = |args: &[&str]| {
        let out = Command::new("ddrescuelog").args(args).arg(bench.path("out.map")).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(log(&["-b512", "-l-"]), "1600\n1601\n");
    assert_eq!(log(&["-b512", "-l+"]).lines().count() as u64, SECTORS - 2);
    // Never over what is there.
    let (code, said) = bench.code(&["export", "v", "--format", "mapfile", "main.img"]);
    assert_eq!(code, 5, "{said}");
}

#[test]
fn e2fsck_takes_the_bad_blocks() {
    const NAME: &str = "e2fsck_takes_the_bad_blocks";
    for program in ["mkfs.ext4", "e2fsck", "dumpe2fs"] {
        if tool(program).is_none() {
            return skip(NAME, &format!("{program} is not installed"));
        }
    }
    let (bench, _server) = busy_volume();
    bench.good(&["export", "v", "--format", "badblocks", "bad.txt"]);
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(tool(program).unwrap());
        let out = command.current_dir(bench.path("")).args(args).output().unwrap();
        // e2fsck says 1 when it has changed something.
        assert!(matches!(out.status.code(), Some(0 | 1)), "{program}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    File::create(bench.path("fs.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
    run("mkfs.ext4", &["-q", "-b", "4096", "fs.img"]);
    run("e2fsck", &["-fy", "-l", "bad.txt", "fs.img"]);
    assert_eq!(run("dumpe2fs", &["-b", "fs.img"]), "200\n");
}

/// A program, also where only root looks for it.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

#[test]
fn one_json_document_with_the_runs() {
    let (bench, server) = busy_volume();
    let document = bench.json(&["export", "v", "--format", "json"]);
    assert_eq!(document["format_version"]["major"], 1);
    assert_eq!((&document["name"], &document["block_size"]), (&json!("v"), &json!(512)));
    assert_eq!(document["size_sectors"], SECTORS);
    assert_eq!(document["runs"], bench.json(&["list", "v", "--json"]));
    assert_eq!(server.stop(), 0);
    let at_rest = bench.json(&["export", "--spare", "spare.img", "--format", "json"]);
    assert_eq!(at_rest["runs"], bench.json(&["list", "--spare", "spare.img", "--json"]));
    assert_eq!(at_rest["uuid"], document["uuid"]);
}

/// Destroys copy `copy` of everything.
fn destroy(bench: &Bench, copy: usize) {
    let sector = [0, 1024, 2048, 4096, 8192][copy];
    let spare = File::options().write(true).open(bench.path("spare.img")).unwrap();
    spare.write_all_at(&[0xff; 512 << 10], sector * 512).unwrap();
}

#[test]
fn a_spare_with_few_copies_left_is_exported() {
    let (bench, server) = busy_volume();
    assert_eq!(server.stop(), 0);
    let words = ["export", "--spare", "spare.img", "--format", "table"];
    let whole = bench.good(&words);
    for copy in [0, 2, 4] {
        destroy(&bench, copy);
    }
    assert_eq!(bench.good(&words), whole);
    destroy(&bench, 1);
    let (code, said) = bench.code(&words);
    assert_eq!(code, 4, "{said}");
    assert_eq!(bench.good(&[&words[..], &["--force=quorum"]].concat()), whole);
    destroy(&bench, 3);
    assert_eq!(bench.code(&[&words[..], &["--force=quorum"]].concat()).0, 4);
}

#[test]
fn what_export_cannot_do_it_says() {
    let bench = Bench::new();
    bench.format("main.img");
    for (words, code, part) in [
        (&["export", "--format", "json"][..], 1, "which volume"),
        (&["export", "a", "b", "c", "--format", "json"], 1, ""),
        (&["export", "--spare", "spare.img", "a", "b", "--format", "json"], 1, "which file"),
        (
            &["export", "--spare", "spare.img", "--format", "badblocks", "--block-size", "1000"],
            1,
            "a power of two",
        ),
        (&["export", "nobody", "--format", "table"], 4, "no volume is running"),
    ] {
        let (got, said) = bench.code(words);
        assert!(got == code && said.contains(part), "{words:?}: {got} {said}");
    }
    std::fs::remove_file(bench.path("volumes.conf")).unwrap();
    let words = ["export", "--spare", "spare.img", "--format", "table"];
    let (code, said) = bench.code(&words);
    assert!(code == 4 && said.contains("try: dmremap export"), "{said}");
    let text = bench.good(&[&words[..], &["--main", "main.img"]].concat());
    let main = bench.path("main.img").display().to_string();
    assert_eq!(text, format!("0 {SECTORS} linear {main} 0\n"));
}
