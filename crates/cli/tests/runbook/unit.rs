// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Units of systemd that a document has written: started, asked and stopped as it would do it.

use std::fs;

use crate::stage::Stage;

/// Runs what every unit in the folder starts and stops with.
pub fn run_units(stage: &mut Stage) {
    for entry in fs::read_dir(stage.folder.join("etc/systemd/system")).unwrap() {
        let path = entry.unwrap().path();
        let text = stage.there(&fs::read_to_string(&path).unwrap());
        let line = |key: &str| {
            let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(key)).collect();
            let [line] = lines[..] else { panic!("{}: {key} {lines:?}", path.display()) };
            // systemd wants whole paths; here PATH decides which one is run.
            line.strip_prefix("/usr/local/bin/").unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        assert!(text.lines().any(|line| line == "Type=notify"), "{}", path.display());
        stage.start(&line("ExecStart="));
        stage.good("dmremap status mydisk --test");
        stage.good(&line("ExecStop="));
    }
}
