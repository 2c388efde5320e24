// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `clear`: what it counts, what it refuses, what is where afterwards.

mod common;

use common::{Bench, known};
use serde_json::json;

/// Three units with content of their own on the spare, by hand: main is not failing.
fn moved(bench: &Bench) {
    for sector in ["100", "200", "300"] {
        bench.good(&["remap", "v", sector]);
    }
}

#[test]
fn everything_comes_home_once_it_is_confirmed() {
    let bench = Bench::new();
    bench.format("main.img");
    let server = bench.serve(&[]);
    moved(&bench);
    let client = server.connect();
    client.write(100 * 512, &[0xe5; 512], true).unwrap();
    assert_eq!(bench.main_sector(100), [known(100 * 512); 512], "it lives on the spare");
    let before = bench.json(&["list", "v", "--json"]);

    let said = bench.good(&["clear", "v", "--dry-run"]);
    assert!(said.contains("24 blocks in 3 units to bring home"), "{said}");
    let dry = bench.json(&["clear", "v", "--dry-run", "--json"]);
    assert_eq!(
        (&dry["done"], &dry["units"], &dry["moved_blocks"]),
        (&json!(false), &json!(3), &json!(24))
    );
    let (code, said) = bench.code(&["clear", "v"]);
    assert!(code == 6 && said.contains("clear v --yes"), "nobody was asked: {code} {said}");
    assert_eq!(bench.json(&["list", "v", "--json"]), before);

    let said = bench.good(&["clear", "v", "--yes"]);
    assert!(said.contains("24 blocks came home, 0 blocks became gone"), "{said}");
    assert_eq!(bench.json(&["list", "v", "--json"]), json!([]));
    assert_eq!(bench.main_sector(100), [0xe5; 512]);
    assert_eq!(client.read(100 * 512, 512).unwrap(), [0xe5; 512]);
    assert!(bench.good(&["clear", "v"]).contains("Nothing of \"v\" has moved"));
    let control = bench.path("run/v.control");
    bench.good(&["clear", "--control", control.to_str().unwrap()]);
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_eq!(bench.main_sector(100), [0xe5; 512]);
}

#[test]
fn what_cannot_be_read_on_the_spare_stops_it_or_becomes_gone() {
    let bench = Bench::new();
    bench.format("main.img");
    std::fs::write(bench.path("map"), "").unwrap();
    let map = bench.path("map");
    let spare = format!("faulty:spare.img?map={}", map.display());
    let serve = || bench.serve_on(&spare, &["--main", "main.img"]);
    let server = serve();
    moved(&bench);
    let at = bench.json(&["list", "v", "--json"])[1]["spare_sector"].as_u64().unwrap();
    // The second unit's second block.
    let lines = format!("0x{:x} 0x200 - # read medium\n", (at + 1) * 512);
    std::fs::write(bench.path("map.new"), lines).unwrap();
    std::fs::rename(bench.path("map.new"), &map).unwrap();
    let lost = (200 / 8 * 8 + 1) * 512;
    assert!(server.connect().read(lost, 512).is_err());

    let (code, said) = bench.code(&["verify", "v", "200"]);
    assert!(code == 4 && said.contains("not readable"), "{code} {said}");
    let out = bench.run(&["verify", "v", "200", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["unreadable"], json!([lost / 512]));
    let said = bench.good(&["clear", "v", "--dry-run"]);
    assert!(said.contains("1 of them cannot be read on the spare, which stop it"), "{said}");
    let (code, said) = bench.code(&["clear", "v", "--yes"]);
    assert!(code == 6 && said.contains("cannot be read where it lives"), "{code} {said}");
    let said = bench.good(&["clear", "v", "--yes", "--force=gone"]);
    assert!(said.contains("1 block became gone"), "{said}");
    let status = bench.json(&["status", "v", "--json"]);
    assert_eq!((&status["remapped_blocks"], &status["gone_blocks"]), (&json!(0), &json!(1)));
    assert!(server.connect().read(lost, 512).is_err(), "an error, not main's old bytes");

    // Gone blocks forbid a plain clear, before anything is asked or done.
    bench.good(&["remap", "v", "100"]);
    let (code, said) = bench.code(&["clear", "v", "--yes"]);
    assert!(code == 6 && said.contains("--force=gone"), "{code} {said}");
    assert_eq!(bench.json(&["status", "v", "--json"])["entries"], 2);
    bench.good(&["clear", "v", "--yes", "--force=gone"]);
    let list = bench.json(&["list", "v", "--json"]);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["state"]), (1, &json!("gone")));
    assert_eq!(server.stop(), 0);
}
