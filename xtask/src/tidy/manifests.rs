// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rule about the feature `broken`, which makes the logic wrong on purpose: cargo joins the
//! features of all packages it builds together, so one careless line would break every build. A
//! manifest may pass it on in its `[features]`, never switch it on for a dependency or by default.

use super::{Complaints, Tree, complain};

/// Nothing but the stage of the broken variants switches `broken` on.
pub fn broken_only_by_its_stage(tree: &Tree) -> Complaints {
    let mut found = Complaints::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        let mut section = "";
        for (index, line) in file.text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or(line).trim();
            if code.starts_with('[') && code.ends_with(']') && !code.contains('=') {
                section = code;
                continue;
            }
            let names = code.split('"').skip(1).step_by(2);
            let switches =
                names.filter(|name| *name == "broken" || name.ends_with("/broken")).count();
            let passes_on = section == "[features]" && code.starts_with("broken");
            let gate = code.starts_with("required-features");
            if switches > 0 && !passes_on && !gate {
                found.push(complain(file, index + 1, "switches the broken variants on"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_manifest_that_breaks_every_build() {
        let complaints =
            |text: &str| broken_only_by_its_stage(&Tree::of(&[("a/Cargo.toml", text)]));
        let plain = "core = { path = \"../core\", features = [\"broken\"] }\n";
        assert_eq!(complaints(&format!("[dev-dependencies]\n{plain}")).len(), 1);
        assert_eq!(complaints("[features]\ndefault = [\"core/broken\"]\n").len(), 1);
        assert!(complaints("[features]\nbroken = [\"core/broken\"]\n").is_empty());
        let target = "[[test]]\nname = \"variants\"\nrequired-features = [\"broken\"]\n";
        assert!(complaints(target).is_empty());
    }
}
