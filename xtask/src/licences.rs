// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The licences of everything the build links, where `cargo deny` is not at hand: each package's
//! expression must be satisfiable with the licences that `deny.toml` allows.

use std::collections::BTreeSet;
use std::path::Path;

use crate::run;

/// Whether every package of the dependency graph of the workspace at `root` may be used under
/// `rules`; prints those that may not.
pub fn check(root: &Path, rules: &Path) -> bool {
    let allowed = match std::fs::read_to_string(rules) {
        Ok(text) => allowed_list(&text),
        Err(error) => {
            eprintln!("licences: cannot read {}: {error}", rules.display());
            return false;
        }
    };
    let mut command = run::cargo(root);
    command.args(["metadata", "--format-version", "1", "--locked"]);
    match run::output(&mut command).and_then(|text| refused(&text, &allowed)) {
        Ok((count, refused)) => {
            refused.iter().for_each(|line| println!("licences: {line}"));
            println!("licences: {count} packages, {} refused", refused.len());
            refused.is_empty() && count > 0
        }
        Err(message) => {
            eprintln!("licences: {message}");
            false
        }
    }
}

/// The strings of the `allow = [...]` list in the `[licenses]` section.
fn allowed_list(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let section = code.split_once("[licenses]").map_or("", |(_, rest)| rest);
    let list = section.split_once("allow = [").map_or("", |(_, rest)| rest);
    let list = list.split(']').next().unwrap_or("");
    list.split('"').skip(1).step_by(2).map(Into::into).collect()
}

/// How many packages `metadata` names, and a line for each whose licence is not allowed.
fn refused(metadata: &str, allowed: &BTreeSet<String>) -> Result<(usize, Vec<String>), String> {
    let value: serde_json::Value =
        serde_json::from_str(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = value["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let mut lines = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("");
        if !satisfied(licence, allowed) {
            let (name, version) = (&package["name"], &package["version"]);
            lines.push(format!("{name} {version}: \"{licence}\" is not in deny.toml"));
        }
    }
    Ok((packages.len(), lines))
}

/// Whether the licence expression can be met with allowed licences alone. `AND` binds closer than
/// `OR`; the old `/` means `OR`; a licence with an exception is one name.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at, allowed) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        good |= both(words, at, allowed);
    }
    good
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = single(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        good &= single(words, at, allowed);
    }
    good
}

fn single(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let good = either(words, at, allowed);
        *at += 1;
        return good;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or("");
        *at += 2;
        return allowed.contains(&format!("{word} WITH {exception}"));
    }
    allowed.contains(*word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> BTreeSet<String> {
        allowed_list(
            "[licenses]\nallow = [\n  \"MIT\", # short\n  \"ISC\",\n  \"Z WITH e\",\n]\n\
             [bans]\nx = [\"GPL\"]\n",
        )
    }

    #[test]
    fn reads_the_list() {
        assert_eq!(allowed().into_iter().collect::<Vec<_>>(), ["ISC", "MIT", "Z WITH e"]);
    }

    #[test]
    fn judges_expressions() {
        for good in
            ["MIT", "GPL OR MIT", "GPL/MIT", "MIT AND ISC", "(GPL OR ISC) AND MIT", "Z WITH e"]
        {
            assert!(satisfied(good, &allowed()), "{good}");
        }
        for bad in [
            "",
            "GPL",
            "MIT AND GPL",
            "(GPL OR ISC) AND GPL",
            "Z",
            "MIT WITH e",
            "MIT )",
            "MIT ISC",
        ] {
            assert!(!satisfied(bad, &allowed()), "{bad}");
        }
    }

    #[test]
    fn names_the_package_that_is_refused() {
        let metadata = r#"{"packages":[{"name":"a","version":"1","license":"MIT"},
            {"name":"b","version":"2","license":"SSPL-1.0"},
            {"name":"c","version":"3","license":null}]}"#;
        let (count, lines) = refused(metadata, &allowed()).unwrap();
        assert_eq!((count, lines.len()), (3, 2));
        assert!(lines[0].contains("\"b\"") && lines[1].contains("\"c\""));
        assert!(refused("{}", &allowed()).is_err());
    }
}
