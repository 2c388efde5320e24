// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask lint`: what can be judged without running the program.

use std::path::Path;

use crate::{licences, run, stages, tidy};

/// Runs every check, also after one has failed, and names those that did.
pub fn run(root: &Path) -> bool {
    let mut failed = Vec::new();
    let mut check = |name: &str, good: bool| {
        if !good {
            failed.push(name.to_owned());
        }
    };
    check("tidy", tidy::run(root));
    let fuzz = root.join("fuzz");
    for place in [root, &fuzz] {
        check("format", run::succeeds(run::cargo(place).args(["fmt", "--all", "--check"])));
    }
    for set in stages::FEATURE_SETS {
        let mut clippy = run::cargo(root);
        clippy.arg("clippy").args(*set).args(["--all-targets", "--", "--deny", "warnings"]);
        check(&run::shown(&clippy), run::succeeds(&mut clippy));
    }
    let mut clippy = run::cargo(&fuzz);
    clippy.env("CARGO_TARGET_DIR", crate::fuzz::folder(root));
    check("fuzz", run::succeeds(clippy.args(["clippy", "--locked", "--", "--deny", "warnings"])));
    let mut doc = run::cargo(root);
    doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    check(
        "docs",
        run::succeeds(doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"])),
    );
    for place in [root, &fuzz] {
        let good = if run::installed("cargo-deny") {
            let mut deny = run::cargo(place);
            deny.args(["deny", "check", "--config"]).arg(root.join("deny.toml"));
            run::succeeds(deny.args(["licenses", "bans"]))
        } else {
            licences::check(place, &root.join("deny.toml"))
        };
        check("licences", good);
    }
    for name in &failed {
        println!("lint: FAILED: {name}");
    }
    failed.is_empty()
}
