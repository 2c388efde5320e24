// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A document as its commands: sections, and in them scenes, each with a setup of its own.
//!
//! A scene begins with `<!-- setup: WORD, WORD -->` and holds fenced blocks: `sh` is run, `text`
//! behind it is what must have been said, `<!-- then: WORD, WORD -->` what must be so then. What
//! is written any other way would not be run, and is refused here.

use std::path::Path;

/// Where a scene starts from, and what is typed there.
pub struct Scene {
    /// The heading it stands under.
    pub section: String,
    /// Its line in the document.
    pub line: usize,
    /// The words of its setup.
    pub setup: Vec<String>,
    /// In order.
    pub blocks: Vec<Block>,
}

/// Commands that are pasted at once, and what comes of them.
pub struct Block {
    /// Its line in the document.
    pub line: usize,
    /// As they stand there.
    pub script: String,
    /// The commands one by one.
    pub commands: Vec<String>,
    /// The exit code that is announced; else 0.
    pub exit: Option<i32>,
    /// Lines that must be said, in this order.
    pub said: Vec<String>,
    /// What must be so afterwards.
    pub then: Vec<String>,
}

impl Block {
    /// Whether it goes on until it is stopped, so that it stands alone and is not waited for.
    pub fn serves(&self) -> bool {
        self.exit.is_none() && self.commands.iter().any(|command| serves(command))
    }
}

fn serves(command: &str) -> bool {
    let mut words = command.split_whitespace();
    match words.next() {
        Some("nbdfuse") => true,
        Some("dmremap") => words.next() == Some("serve"),
        _ => false,
    }
}

/// A document.
pub struct Document {
    /// Its name.
    pub name: &'static str,
    /// Its headings of the second level.
    pub sections: Vec<String>,
    /// Its scenes.
    pub scenes: Vec<Scene>,
    /// Lines that are written as code without a fence.
    pub indented: Vec<String>,
}

impl Document {
    /// Reads the document `name` of the repository.
    pub fn read(name: &'static str) -> Document {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        Document::parse(name, &std::fs::read_to_string(path).unwrap())
    }

    pub fn parse(name: &'static str, text: &str) -> Document {
        let mut document = Document { name, sections: vec![], scenes: vec![], indented: vec![] };
        let mut scene: Option<Scene> = None;
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((at, line)) = lines.next() {
            let here = format!("{name}:{at}");
            if let Some(heading) = line.strip_prefix("## ") {
                document.scenes.extend(scene.take());
                document.sections.push(heading.to_owned());
            } else if let Some(words) = line.strip_prefix("<!-- setup: ") {
                document.scenes.extend(scene.take());
                let setup = list(&here, words);
                let section = document.sections.last().cloned().unwrap_or_default();
                scene = Some(Scene { section, line: at, setup, blocks: vec![] });
            } else if let Some(words) = line.strip_prefix("<!-- then: ") {
                let block = scene.as_mut().and_then(|scene| scene.blocks.last_mut());
                let block = block.unwrap_or_else(|| panic!("{here}: after what?"));
                block.then = list(&here, words);
            } else if let Some(kind) = line.strip_prefix("```") {
                let body = fenced(&here, &mut lines);
                let scene = scene.as_mut().unwrap_or_else(|| panic!("{here}: no setup is named"));
                match (kind, scene.blocks.last_mut()) {
                    ("sh", _) => scene.blocks.push(block(&here, at, &body)),
                    ("text", Some(block)) if block.said.is_empty() => block.said = body,
                    _ => panic!("{here}: neither commands nor what they said: ```{kind}"),
                }
            } else if line.starts_with("    ") {
                document.indented.push(line.trim().to_owned());
            }
            assert!(!line.trim_start().starts_with("~~~"), "{here}: a fence of another kind");
        }
        document.scenes.extend(scene);
        for scene in &document.scenes {
            assert!(!scene.blocks.is_empty(), "{name}:{}: a setup for nothing", scene.line);
        }
        document
    }

    /// Commands in it.
    pub fn commands(&self) -> usize {
        let blocks = self.scenes.iter().flat_map(|scene| &scene.blocks);
        blocks.map(|block| block.commands.len()).sum()
    }
}

/// The words of a comment.
fn list(here: &str, words: &str) -> Vec<String> {
    let words = words.strip_suffix(" -->").unwrap_or_else(|| panic!("{here}: -->?"));
    words.split(", ").map(str::to_owned).collect()
}

fn fenced<'a>(here: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Vec<String> {
    let mut body = Vec::new();
    for (_, line) in lines {
        if line == "```" {
            return body;
        }
        body.push(line.to_owned());
    }
    panic!("{here}: the fence is never closed")
}

fn block(here: &str, line: usize, body: &[String]) -> Block {
    let script = body.iter().map(|line| format!("{line}\n")).collect();
    let commands = commands(here, body);
    assert!(!commands.is_empty(), "{here}: no command");
    let exits: Vec<i32> = body
        .iter()
        .filter_map(|line| line.rsplit_once("# exit "))
        .map(|(_, code)| code.parse().unwrap_or_else(|_| panic!("{here}: # exit {code}")))
        .collect();
    let exit = exits.first().copied();
    let block = Block { line, script, commands, exit, said: vec![], then: vec![] };
    // With `sh -e` nothing is left out but for these; and whose code is announced must be plain.
    let alone = exit.is_some() || block.serves();
    assert!(!alone || block.commands.len() == 1, "{here}: one command for itself, please");
    block
}

/// The commands one by one: lines that go on are joined, a here-document belongs to its command.
fn commands(here: &str, body: &[String]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut lines = body.iter();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut command = line.clone();
        while command.ends_with('\\') {
            command.pop();
            command += lines.next().unwrap_or_else(|| panic!("{here}: goes on nowhere"));
        }
        for word in ["||", "&&", " & ", "if ", "exit "] {
            let code = command.split('#').next().unwrap_or("");
            let found = code.contains(word) || code.trim_end().ends_with(" &");
            assert!(!found, "{here}: what follows may not be run: {command}");
        }
        if command.contains("<<'EOF'") {
            assert!(lines.any(|line| line == "EOF"), "{here}: no EOF");
        }
        commands.push(command);
    }
    commands
}

/// Whether `said` has the lines of `wanted` in this order: blanks count as one, `...` stands for
/// anything.
pub fn has_lines(said: &str, wanted: &[String]) -> Result<(), String> {
    let mut lines = said.lines().map(words);
    match wanted.iter().find(|wanted| !lines.any(|line| alike(&line, &words(wanted)))) {
        Some(missing) => Err(missing.clone()),
        None => Ok(()),
    }
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn alike(line: &str, wanted: &str) -> bool {
    let Some((first, rest)) = wanted.split_once("...") else { return line == wanted };
    let Some(line) = line.strip_prefix(first) else { return false };
    (0..=line.len()).filter(|at| line.is_char_boundary(*at)).any(|at| alike(&line[at..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        std::panic::catch_unwind(|| Document::parse("x", text)).is_err()
    }

    #[test]
    fn what_would_not_be_run_is_refused() {
        let good = "## A\n<!-- setup: disk -->\n```sh\nls\n```\n";
        assert_eq!(Document::parse("x", good).commands(), 1);
        for bad in [
            "## A\n```sh\nls\n```\n",
            "## A\n<!-- setup: disk -->\n## B\n```sh\nls\n```\n",
            "## A\n<!-- setup: disk -->\n```sh\nls\n",
            "## A\n<!-- setup: disk -->\n```sh\n# nothing\n```\n",
            "## A\n<!-- setup: disk -->\n```\nls\n```\n",
            "## A\n<!-- setup: disk -->\n```bash\nls\n```\n",
            "## A\n<!-- setup: disk -->\n```text\nls\n```\n",
            "## A\n<!-- setup: disk -->\n```sh\nls || ls\n```\n",
            "## A\n<!-- setup: disk -->\n```sh\nls &\n```\n",
            "## A\n<!-- setup: disk -->\n```sh\nls   # exit 1\nls\n```\n",
            "## A\n<!-- setup: disk -->\n```sh\ndmremap serve --spare x\nls\n```\n",
            "## A\n<!-- setup: disk -->\nnothing\n",
        ] {
            assert!(refused(bad), "{bad}");
        }
    }

    #[test]
    fn lines_are_looked_for_in_order() {
        let wanted = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
        let said = "one  1\ntwo (abc)\nthree\n";
        for good in [&["one 1", "three"][..], &["two (...)"], &["...", "...", "..."], &["o...1"]] {
            assert_eq!(has_lines(said, &wanted(good)), Ok(()), "{good:?}");
        }
        for bad in [&["three", "one 1"][..], &["one"], &["two (...) x"], &["four"]] {
            assert!(has_lines(said, &wanted(bad)).is_err(), "{bad:?}");
        }
    }
}
