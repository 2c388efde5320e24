// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a file of bad areas comes to.

use super::*;
use std::io::Write;

const PATH: &str = "the.map";

fn view(size_sectors: u64, block_size: u32) -> View {
    View {
        name: "v".into(),
        uuid: String::new(),
        size_sectors,
        block_size,
        entries: 0,
        quarantined: 0,
        max_entries: 9,
        runs: Vec::new(),
    }
}

fn runs(found: Outcome<Vec<SectorRun>>) -> Vec<(u64, u64)> {
    found.unwrap().iter().map(|run| (run.sector, run.sectors)).collect()
}

fn said(found: Outcome<Vec<SectorRun>>) -> String {
    let failure = found.unwrap_err();
    assert_eq!(failure.class, Class::Usage);
    failure.what
}

fn map(text: &str, main: MainIs, view: &View) -> Outcome<Vec<SectorRun>> {
    mapfile(Path::new(PATH), text.as_bytes(), main, view).map(|found| whole_blocks(&found, view))
}

const STATUSES: &str = "0 +\n0 512 +\n512 512 -\n1024 512 +\n1536 512 *\n2048 512 /\n2560 512 ?\n\
                        3072 5120 +\n";

#[test]
fn what_a_copy_lacks_is_more_than_what_the_drive_could_not_read() {
    let view = view(16, 512);
    assert_eq!(runs(map(STATUSES, MainIs::Original, &view)), [(1, 1)]);
    assert_eq!(runs(map(STATUSES, MainIs::Copy, &view)), [(1, 1), (3, 3)]);
}

#[test]
fn areas_are_widened_to_whole_blocks() {
    assert_eq!(runs(map(STATUSES, MainIs::Original, &view(16, 1024))), [(0, 2)]);
    assert_eq!(runs(map(STATUSES, MainIs::Copy, &view(16, 1024))), [(0, 6)]);
    assert_eq!(runs(map(STATUSES, MainIs::Copy, &view(16, 4096))), [(0, 8)]);
    // Main has three sectors more than the volume has blocks for.
    assert_eq!(runs(map("0 +\n0 9728 -\n", MainIs::Copy, &view(16, 4096))), [(0, 16)]);
}

#[test]
fn a_map_of_another_disk_is_refused() {
    let view = view(16, 512);
    let text = said(map("0 +\n0 4096 +\n4096 4608 -\n", MainIs::Copy, &view));
    assert!(text.starts_with("the.map:3: beyond the end"), "{text}");
    let text = said(map("0 +\n0 4096 +\n", MainIs::Copy, &view));
    assert!(text.contains("says nothing of the sectors from 8 to 16"), "{text}");
    let text = said(map("0 +\n0 8192 +\n0 512 -\n", MainIs::Copy, &view));
    assert!(text.starts_with("the.map:3: overlaps"), "{text}");
}

#[test]
fn a_list_of_blocks() {
    let view = view(64, 512);
    let list = |text: &str, bytes| {
        badblocks(Path::new(PATH), text.as_bytes(), bytes, &view)
            .map(|found| whole_blocks(&found, &view))
    };
    assert_eq!(runs(list("0\n3\n4\n", 4096)), [(0, 8), (24, 16)]);
    assert_eq!(runs(list("63\n", 512)), [(63, 1)]);
    assert!(said(list("1\n8\n", 4096)).starts_with("the.map:2: beyond"));
    assert!(said(list("1\n0\n", 4096)).starts_with("the.map:2: overlaps"));
    assert!(said(list("1\n", 1000)).contains("a power of two"));
}

#[test]
fn a_document_or_a_list() {
    let view = view(64, 512);
    let read = |text: &str, main| json(Path::new(PATH), text.as_bytes(), main, &view);
    let run = |at: u64, len: u64, state: &str| {
        format!("{{\"main_sector\":{at},\"sectors\":{len},\"state\":\"{state}\",\"cause\":null}}")
    };
    let list =
        format!("[{},{},{}]", run(0, 8, "remapped"), run(9, 1, "gone"), run(60, 4, "pending"));
    let document = format!("{{\"size_sectors\":64,\"runs\":{list}}}");
    assert_eq!(runs(read(&list, MainIs::Copy)), [(9, 1), (60, 4)]);
    assert_eq!(runs(read(&document, MainIs::Copy)), [(9, 1), (60, 4)]);
    assert!(said(read(&list, MainIs::Original)).contains("run 2: gone"));
    for text in [
        "",
        "[",
        "{}",
        "[1]",
        "\u{1b}",
        &format!("[{}]", run(0, 0, "gone")),
        &format!("[{}]", run(64, 1, "gone")),
        &format!("[{}]", run(u64::MAX, 2, "gone")),
        &format!("[{},{}]", run(8, 8, "gone"), run(15, 1, "gone")),
        &format!("[{}]", run(0, 1, "lost")),
    ] {
        said(read(text, MainIs::Copy));
    }
    let other = document.replace(":64", ":65");
    assert_eq!(read(&other, MainIs::Copy).unwrap_err().class, Class::Refused);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map");
    let fill = || std::fs::write(&path, STATUSES).unwrap();
    fill();
    assert_eq!(read_stable(&path, || ()).unwrap(), STATUSES.as_bytes());
    let changes: [&dyn Fn(); 3] = [
        &|| File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap(),
        &|| std::fs::rename(folder.path().join("other"), &path).unwrap(),
        &|| {
            // As long as before, and of another second.
            let file = File::options().write(true).open(&path).unwrap();
            (&file).write_all(b"1").unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
    ];
    for change in changes {
        fill();
        std::fs::write(folder.path().join("other"), STATUSES).unwrap();
        let failure = read_stable(&path, change).unwrap_err();
        assert_eq!(failure.class, Class::Busy);
        assert!(failure.what.contains("changed while it was read"), "{}", failure.what);
    }
}

#[test]
fn what_is_no_file_or_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read_stable(folder.path(), || ()).unwrap_err().class, Class::Usage);
    assert_eq!(read_stable(Path::new("/dev/zero"), || ()).unwrap_err().class, Class::Usage);
    let path = folder.path().join("long");
    File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert_eq!(read_stable(&path, || ()).unwrap_err().class, Class::Usage);
    assert_eq!(read_stable(&folder.path().join("none"), || ()).unwrap_err().class, Class::Missing);
}
