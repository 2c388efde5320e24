// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Mains that are not what the volume was made with: refused or asked about by name, never taken
//! by themselves, and nothing is changed.

mod common;
#[path = "common/programs.rs"]
mod programs;
#[path = "common/refusal.rs"]
mod refusal;

use std::fs::{self, File};

use common::{Bench, IMAGE_BYTES};
use refusal::refused;

const SERVE: &[&str] = &["serve", "--spare", "spare.img"];

fn with_main(main: &str) -> Vec<&str> {
    [SERVE, &["--main", main]].concat()
}

fn resized(bench: &Bench, bytes: u64) {
    File::options().write(true).open(bench.path("main.img")).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_main_that_was_replaced_grown_or_shrunk() {
    let bench = Bench::new();
    bench.format("main.img");
    fs::write(bench.path("other.img"), vec![0x77; IMAGE_BYTES as usize]).unwrap();
    let next = refused(
        &bench,
        &with_main("other.img"),
        6,
        &["other.img", "nothing could be compared", "main was"],
    );
    assert!(next.ends_with("--main other.img --accept-main=same"), "{next}");
    for bytes in [IMAGE_BYTES - 512, IMAGE_BYTES + 512, IMAGE_BYTES / 2, IMAGE_BYTES * 2] {
        resized(&bench, bytes);
        let size = format!("{} sectors", bytes / 512);
        let next = refused(&bench, SERVE, 4, &["main.img", &size, "32768"]);
        assert!(next.contains("--main DEV"), "{next}");
        // No word of a person makes another size the same disk.
        let same = [SERVE, &["--accept-main=same"]].concat();
        refused(&bench, &same, 4, &["main.img", &size, "32768"]);
    }
    resized(&bench, IMAGE_BYTES - 512);
    resized(&bench, IMAGE_BYTES);
    assert_eq!(bench.serve(&[]).stop(), 0);
}

#[test]
fn a_main_that_is_not_there() {
    let bench = Bench::new();
    bench.format("main.img");
    fs::rename(bench.path("main.img"), bench.path("away.img")).unwrap();
    let next = refused(&bench, SERVE, 4, &["main.img", "no such device or file"]);
    assert!(next.ends_with("serve --spare spare.img --main DEV"), "{next}");
    fs::create_dir(bench.path("main.img")).unwrap();
    refused(&bench, SERVE, 4, &["main.img", "neither a block device nor"]);
    refused(&bench, &with_main("/dev/null"), 4, &["/dev/null", "neither a block device nor"]);
}

#[test]
fn a_main_that_another_volume_has_claimed() {
    let bench = Bench::new();
    bench.format("main.img");
    File::create(bench.path("second.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
    std::os::unix::fs::symlink("main.img", bench.path("link")).unwrap();
    for main in ["main.img", "link"] {
        let second = ["format", "--main", main, "--spare", "second.img", "--name", "w", "--yes"];
        let next = refused(&bench, &second, 6, &[main, "main of \"v\" already"]);
        assert!(next.ends_with("--force=claimed"), "{next}");
        refused(&bench, &[&second[..], &["--force=volume"]].concat(), 6, &[main]);
    }
    // So is its name.
    fs::write(bench.path("main2.img"), vec![1; IMAGE_BYTES as usize]).unwrap();
    let named = ["format", "--main", "main2.img", "--spare", "second.img", "--name", "v", "--yes"];
    let next = refused(&bench, &named, 5, &["\"v\""]);
    assert!(next.contains("--name OTHER"), "{next}");
}

#[test]
fn a_device_of_another_volume_in_the_other_role() {
    let bench = Bench::new();
    bench.format("main.img");
    for name in ["main2.img", "spare2.img"] {
        File::create(bench.path(name)).unwrap().set_len(IMAGE_BYTES).unwrap();
    }
    let format = |main, spare| ["format", "--main", main, "--spare", spare, "--name=w", "--yes"];
    // Another volume's main, which all of would be lost, and its spare, where its blocks live.
    let next = refused(&bench, &format("main2.img", "main.img"), 6, &["main.img", "main of \"v\""]);
    assert!(next.ends_with("--force=claimed"), "{next}");
    let adopt = format("spare.img", "spare2.img");
    let next = refused(&bench, &adopt, 6, &["spare.img", "spare of \"v\""]);
    assert!(next.ends_with("--force=claimed"), "{next}");
    // Nobody has to be told by the configuration: it is what lies on it.
    fs::remove_file(bench.path("volumes.conf")).unwrap();
    let next = refused(&bench, &adopt, 6, &["spare.img", "dm-remap volume"]);
    assert!(next.ends_with("--force=volume"), "{next}");
    refused(&bench, &[&adopt[..], &["--force=claimed"]].concat(), 6, &["spare.img"]);
    bench.good(&[&adopt[..], &["--force=volume"]].concat());
}

/// A file system of `main.img`'s size, as bytes.
fn file_system(bench: &Bench) -> Vec<u8> {
    let path = bench.path("ext4");
    File::create(&path).unwrap().set_len(IMAGE_BYTES).unwrap();
    programs::good("mkfs.ext4", &["-q", "-F", path.to_str().unwrap()]);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}

#[test]
fn a_main_that_was_formatted_through_the_volume_is_known_again() {
    const NAME: &str = "a_main_that_was_formatted_through_the_volume_is_known_again";
    if !programs::all_there(NAME, &["mkfs.ext4"]) {
        return;
    }
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    let bytes = file_system(&bench);
    for (index, chunk) in bytes.chunks(1 << 20).enumerate() {
        client.write((index << 20) as u64, chunk, false).unwrap();
    }
    client.flush().unwrap();
    drop(client);
    assert_eq!(server.stop(), 0);
    // The same file has its inode to prove it. A copy has nothing but the content: the file system
    // that was made through the volume is what it is compared with.
    assert_eq!(bench.serve(&[]).stop(), 0);
    fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
    let words = "nothing proves the disk: it may be a copy";
    refused(&bench, &with_main("copy.img"), 6, &["copy.img", words, "ext2/ext3/ext4"]);
    // One made behind its back is another content.
    let other = file_system(&bench);
    assert!(other != bytes, "the UUIDs differ");
    fs::write(bench.path("copy.img"), other).unwrap();
    let words = "its content is not what main's was";
    let next = refused(&bench, &with_main("copy.img"), 6, &["copy.img", words, "ext2/ext3/ext4"]);
    assert!(next.ends_with("--accept-main=same"), "{next}");
}

#[test]
fn a_copied_image_is_asked_about_and_never_taken() {
    let bench = Bench::new();
    bench.format("main.img");
    fs::copy(bench.path("main.img"), bench.path("copy.img")).unwrap();
    let next = refused(&bench, &with_main("copy.img"), 6, &["copy.img", "main was", "this is"]);
    assert!(next.ends_with("--main copy.img --accept-main=same"), "{next}");
    // Nor in the place of the one that the local configuration names.
    fs::rename(bench.path("main.img"), bench.path("away.img")).unwrap();
    fs::rename(bench.path("copy.img"), bench.path("main.img")).unwrap();
    let next = refused(&bench, SERVE, 6, &["main.img", "main was", "this is"]);
    assert!(next.ends_with("serve --spare spare.img --accept-main=same"), "{next}");
    refused(&bench, &[SERVE, &["--force=in-use"]].concat(), 6, &["main.img"]);
}

#[test]
fn a_buffered_backing_file() {
    let bench = Bench::new();
    // A regular file on a file system without O_DIRECT, on every machine there is.
    let path = "/proc/self/oom_score_adj";
    for args in [
        ["format", "--main", "main.img", "--spare", path, "--name", "v", "--yes"],
        ["format", "--main", path, "--spare", "spare.img", "--name", "v", "--yes"],
    ] {
        let next = refused(&bench, &args, 6, &[path, "page cache", "O_DIRECT"]);
        assert!(next.ends_with("--yes --force=buffered"), "{next}");
    }
    bench.format("main.img");
    for args in [with_main(path), vec!["serve", "--spare", path, "--main", "main.img"]] {
        let next = refused(&bench, &args, 6, &[path, "page cache", "O_DIRECT"]);
        assert!(next.ends_with("--force=buffered"), "{next}");
    }
}
