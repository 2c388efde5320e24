// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What NBD clients are told of a volume beside its bytes: which blocks of a read are bad and why,
//! what is a hole, and where a server may listen.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::{Bench, IMAGE_BYTES, known};
use dmremap_nbd::Client;

/// Sectors 1601 and 1605 can be neither read nor written, 2405 cannot be written.
const MAP: &str = "0xc8200 0x200 - # both medium\n0xc8a00 0x200 - # both medium\n";

fn sectors(range: std::ops::Range<u64>) -> std::ops::Range<u64> {
    range.start * 512..range.end * 512
}

#[test]
fn a_long_read_over_bad_sectors_brings_everything_else() {
    let bench = Bench::new();
    bench.format(&bench.faulty_main(MAP));
    let server = bench.serve(&[]);
    bench.good(&["message", "v", "set", "retry_backoff_ms", "1"]);
    let client = server.connect();
    let (from, len) = (1000 * 512, 1 << 20);
    for _ in 0..2 {
        let pieces = client.read_pieces(from, len, false).unwrap();
        let good = [sectors(1000..1601), sectors(1602..1605), sectors(1606..1000 + 2048)];
        assert_eq!(pieces.good, good);
        for at in good.into_iter().flatten() {
            assert_eq!(pieces.data[(at - from) as usize], known(at), "byte {at}");
        }
        let mut errors: Vec<_> =
            pieces.errors.iter().map(|e| (e.offset.unwrap(), &e.message[..], e.errno.0)).collect();
        errors.sort_unstable();
        assert_eq!(errors, [(1601 * 512, "unreadable", 5), (1605 * 512, "unreadable", 5)]);
    }
    // Overwritten it is good again.
    client.write(1601 * 512, &[7; 512], false).unwrap();
    let pieces = client.read_pieces(from, len, true).unwrap();
    assert_eq!((pieces.errors.len(), pieces.good), (1, vec![sectors(1000..1605)]));
    drop(client);
    assert_eq!(server.stop(), 0);
}

#[test]
fn holes_of_main_are_told_until_something_stands_before_them() {
    let bench = Bench::new();
    let main = File::create(bench.path("main.img")).unwrap();
    main.set_len(IMAGE_BYTES).unwrap();
    main.write_all_at(&[1; 8192], 1 << 20).unwrap();
    bench.format("main.img");
    let server = bench.serve(&[]);
    let client = server.connect();
    let told = |from: u64, len: u32| -> Vec<(u32, bool)> {
        let extents = client.block_status(from, len).unwrap();
        extents.iter().map(|extent| (extent.len, extent.hole)).collect()
    };
    assert_eq!(told((1 << 20) - 4096, 16_384), [(4096, true), (8192, false), (4096, true)]);
    assert_eq!(told(4 << 20, 8 << 20), [(8 << 20, true)]);
    // Moved: data, though main has nothing there. Written: data.
    bench.good(&["remap", "v", "16384"]);
    client.write((8 << 20) + 16_384, &[2; 4096], false).unwrap();
    let expected = [(4096, false), (12_288, true), (4096, false), (4096, true)];
    assert_eq!(told(8 << 20, 24_576), expected);
    drop(client);
    assert_eq!(server.stop(), 0);
}

#[test]
fn tcp_is_for_this_host_unless_it_is_said() {
    let bench = Bench::new();
    bench.format("main.img");
    let serve = ["serve", "--spare", "spare.img"];
    for address in ["tcp:0.0.0.0:0", "tcp:[::]:0"] {
        let (code, said) = bench.code(&[&serve[..], &["--nbd", address]].concat());
        assert_eq!(code, 6, "{said}");
        assert!(said.contains("--insecure-tcp") && said.contains("try: dmremap "), "{said}");
    }
    let (code, said) = bench.code(&[&serve[..], &["--insecure-tcp"]].concat());
    assert_eq!(code, 1, "it means nothing without --nbd: {said}");
    for words in [&["--nbd", "tcp:0.0.0.0:0", "--insecure-tcp"][..], &["--nbd", "tcp:127.0.0.1:0"]]
    {
        let server = bench.serve(words);
        let place = server.uri.strip_prefix("nbd://").and_then(|uri| uri.split_once('/')).unwrap();
        let port = place.0.rsplit_once(':').unwrap().1.parse().unwrap();
        let client = Client::connect_tcp(([127, 0, 0, 1], port).into(), "v").unwrap();
        assert_eq!(client.read(512, 512).unwrap(), [known(512); 512]);
        drop(client);
        assert_eq!(server.stop(), 0);
    }
}
