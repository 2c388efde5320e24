// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The pages of a spare, copy by copy, as `check` and `repair` show them.

use std::fmt::Write;

use dmremap_core::open::CopySeen;
use dmremap_format::{
    COPIES, CopyIndex, CopyMask, Judgement, PageIndex, Refusal, Stamp, header_sector,
};
use serde_json::{Value, json};

use crate::survey::{PageSurvey, Survey};

/// One page in its five places.
#[derive(Clone)]
pub struct Page {
    /// What it is: `header`, `generation`, `table page 7`.
    pub name: String,
    /// The copies, first to last.
    pub copies: [Copy; COPIES],
}

/// One copy of it.
#[derive(Clone, Copy)]
pub struct Copy {
    /// Where it lies.
    pub sector: u64,
    /// What was seen there.
    pub seen: CopySeen,
    /// It carries what wins.
    pub good: bool,
}

impl Page {
    fn new(
        name: String,
        seen: [CopySeen; COPIES],
        judged: Result<&Judgement, &Refusal>,
        sector: impl Fn(CopyIndex) -> u64,
    ) -> Page {
        let winning = judged.map_or(CopyMask(0), |judged| judged.winning);
        let copies = CopyIndex::ALL.map(|copy| Copy {
            sector: sector(copy),
            seen: seen[usize::from(copy.0)],
            good: winning.has(copy),
        });
        Page { name, copies }
    }

    /// Whether its five copies are all valid and equal.
    pub fn is_whole(&self) -> bool {
        self.copies.iter().all(|copy| copy.good)
    }
}

impl Copy {
    /// What it is, in words.
    fn words(&self) -> String {
        let stamped =
            |word: &str, stamp: Stamp| format!("{word}, {}.{}", stamp.generation, stamp.sequence);
        match self.seen {
            CopySeen::Valid(stamp) if self.good => stamped("good", stamp),
            CopySeen::Valid(stamp) => stamped("not the winning one", stamp),
            CopySeen::Invalid(fault) => format!("not valid: {}", fault.word()),
            CopySeen::Unreadable(class) => format!("unreadable: {class}"),
            CopySeen::Unread => "not read".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let (state, stamp, fault) = match self.seen {
            CopySeen::Valid(stamp) if self.good => ("good", Some(stamp), None),
            CopySeen::Valid(stamp) => ("stale", Some(stamp), None),
            CopySeen::Invalid(fault) => ("invalid", None, Some(fault.word())),
            CopySeen::Unreadable(class) => ("unreadable", None, Some(class.word())),
            CopySeen::Unread => ("unread", None, None),
        };
        json!({
            "sector": self.sector,
            "state": state,
            "generation": stamp.map(|stamp| stamp.generation),
            "sequence": stamp.map(|stamp| stamp.sequence),
            "fault": fault,
        })
    }
}

/// Every page that `survey` found: the header alone if the headers name no volume.
pub fn all(survey: &Survey) -> Vec<Page> {
    let headers = survey.headers.each_ref().map(|copy| copy.copy_seen());
    let Ok(found) = &survey.volume else {
        return vec![Page::new("header".into(), headers, Err(&NONE), header_sector)];
    };
    let header = Page::new("header".into(), headers, Ok(&found.judgement.page), header_sector);
    let of = |name: String, page: &PageSurvey, sector: &dyn Fn(CopyIndex) -> u64| {
        Page::new(name, page.copies, page.judged.as_ref(), sector)
    };
    let layout = &found.layout;
    let generation =
        of("generation".into(), &found.generation, &|copy| layout.generation_sector(copy));
    let table = (0..).zip(&found.pages).map(|(number, page)| {
        let sector = |copy| layout.page_sector(copy, PageIndex(number));
        of(format!("table page {number}"), page, &sector)
    });
    [header, generation].into_iter().chain(table).collect()
}

const NONE: Refusal = Refusal::TooFewValid { valid: CopyMask(0), unreadable: CopyMask(0) };

/// The same as JSON.
pub fn json(pages: &[Page]) -> Value {
    let page = |page: &Page| {
        let copies: Vec<Value> = page.copies.iter().map(Copy::json).collect();
        json!({ "page": page.name, "whole": page.is_whole(), "copies": copies })
    };
    pages.iter().map(page).collect()
}

/// The copies of these pages as a table for people.
pub fn screen<'a>(pages: impl Iterator<Item = &'a Page>) -> String {
    let mut out = format!("  {:<16} {:>4} {:>12}  {}\n", "page", "copy", "sector", "state");
    for page in pages {
        for (copy, number) in page.copies.iter().zip(0..) {
            let name = if number == 0 { page.name.as_str() } else { "" };
            let (sector, words) = (copy.sector, copy.words());
            let _ = writeln!(out, "  {name:<16} {number:>4} {sector:>12}  {words}");
        }
    }
    out
}
