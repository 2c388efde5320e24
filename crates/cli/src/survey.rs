// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A look at a spare's metadata that writes nothing: what each of the five copies holds, what they
//! amount to together, and whether the table makes sense. `examine`, `check` and the reading verbs
//! of a volume that does not run show parts of it.
//!
//! The rules of an open that come after reading (main's identity, the host) are not judged here. A
//! volume that is running may commit while it is read; what looks torn then is not.

use std::collections::HashMap;

use dmremap_core::Class;
use dmremap_core::list::{self, Runs};
use dmremap_core::open::{judge_header, judge_seen};
use dmremap_engine::Device;
use dmremap_format::{
    BlockState, COPIES, CopyIndex, CopyMask, Expect, GenerationPage, Header, HeaderJudgement,
    Judgement, Layout, MAX_MEMBERS, PAGE_BYTES, PageBytes, PageFault, PageIndex, Refusal,
    SECTOR_BYTES, Seen, SeenHeader, Slot, SlotIndex, SlotLimits, TablePage, UNIT_SECTORS, Uuid,
    header_sector, judge_headers,
};

use crate::report::Run;

/// What was found on a device.
pub struct Survey {
    /// What was seen of each header.
    pub headers: [HeaderCopy; COPIES],
    /// The volume, or why there is none to be used.
    pub volume: Result<Found, Refusal>,
}

/// One copy of the header.
pub struct HeaderCopy {
    bytes: Box<PageBytes>,
    /// What it amounts to.
    pub seen: SeenHeader,
    /// Why it is not valid: a fault of the page, or the device's error.
    pub fault: Option<HeaderFault>,
}

/// Why a header is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// The device could not read it.
    Device(Class),
    /// What was read is no header of this place.
    Page(PageFault),
}

/// A volume whose headers agree.
pub struct Found {
    /// The judgement over the headers.
    pub judgement: HeaderJudgement,
    /// Where everything lies.
    pub layout: Layout,
    /// The judgement over the generation pages.
    pub generation: Result<Judgement, Refusal>,
    /// The judgement over each table page.
    pub pages: Vec<Result<Judgement, Refusal>>,
    /// Slots in use, quarantine included, in order of the table.
    pub slots: Vec<(SlotIndex, Slot)>,
    /// What makes no sense, each a phrase with its place.
    pub problems: Vec<String>,
    /// One valid copy is enough.
    force: bool,
}

impl HeaderCopy {
    /// The header, if it is valid.
    pub fn header(&self) -> Option<Header<'_>> {
        matches!(self.seen, SeenHeader::Valid { .. }).then(|| Header::of_image(&self.bytes))
    }

    fn read(device: &dyn Device, copy: CopyIndex) -> HeaderCopy {
        let mut bytes = Box::new([0; PAGE_BYTES]);
        match read_page(device, header_sector(copy), &mut bytes) {
            Ok(()) => {
                let fault = Header::check(&bytes, copy).err().map(HeaderFault::Page);
                HeaderCopy { seen: SeenHeader::of(&bytes, copy), fault, bytes }
            }
            Err(class) => HeaderCopy {
                seen: SeenHeader::Unreadable,
                fault: Some(HeaderFault::Device(class)),
                bytes,
            },
        }
    }
}

/// Reads all metadata of `device`.
pub fn survey(device: &dyn Device) -> Survey {
    survey_with(device, false)
}

/// The same; `force` (`--force=quorum`) takes one valid copy of a page for enough.
pub fn survey_with(device: &dyn Device, force: bool) -> Survey {
    let headers = CopyIndex::ALL.map(|copy| HeaderCopy::read(device, copy));
    let seen = headers.each_ref().map(|copy| copy.seen);
    let judged = judge_header(&seen, force);
    let volume = judged.and_then(|found| Found::read(device, &headers, found, force));
    Survey { headers, volume }
}

/// What the headers alone say of a volume.
pub struct Identified {
    /// The volume.
    pub volume: Uuid,
    /// Its name; from the device.
    pub name: String,
    /// Where its main was last seen; from the device.
    pub hint: Vec<u8>,
}

/// Reads the headers of `device`: which volume it belongs to.
pub fn identify(device: &dyn Device) -> Result<Identified, Refusal> {
    let headers = CopyIndex::ALL.map(|copy| HeaderCopy::read(device, copy));
    let judgement = judge_headers(&headers.each_ref().map(|copy| copy.seen))?;
    let header = Header::of_image(&headers[usize::from(judgement.page.winner.0)].bytes);
    let (name, hint) = (header.name().to_owned(), header.hint().to_owned());
    Ok(Identified { volume: judgement.volume, name, hint })
}

impl Survey {
    /// The header that wins.
    pub fn header(&self) -> Option<Header<'_>> {
        let found = self.volume.as_ref().ok()?;
        self.headers.get(usize::from(found.judgement.page.winner.0))?.header()
    }

    /// Copies in which every page is valid.
    pub fn copies_valid(&self) -> u8 {
        let Ok(found) = &self.volume else { return 0 };
        let judgements = found.pages.iter().chain([&found.generation]);
        let of = |judged: &Result<Judgement, Refusal>| match judged {
            Ok(judgement) => judgement.valid.0,
            Err(Refusal::TooFewValid { valid, .. }) => valid.0,
            Err(_) => 0,
        };
        let all = judgements.fold(found.judgement.page.valid.0, |mask, judged| mask & of(judged));
        all.count_ones() as u8
    }

    /// Why an open would refuse this spare; empty if the metadata is no reason.
    pub fn refusals(&self) -> Vec<String> {
        let found = match &self.volume {
            Ok(found) => found,
            Err(refusal) => return vec![format!("headers: {}", refusal.word())],
        };
        let generation =
            found.generation.as_ref().err().map(|r| format!("generation: {}", r.word()));
        let pages = found.pages.iter().enumerate();
        let pages = pages.filter_map(|(n, page)| {
            page.as_ref().err().map(|refusal| format!("table page {n}: {}", refusal.word()))
        });
        generation.into_iter().chain(pages).chain(found.problems.iter().cloned()).collect()
    }
}

impl Found {
    fn read(
        device: &dyn Device,
        headers: &[HeaderCopy],
        judgement: HeaderJudgement,
        force: bool,
    ) -> Result<Found, Refusal> {
        let none = Refusal::TooFewValid { valid: CopyMask(0), unreadable: CopyMask(0) };
        let winner = &headers[usize::from(judgement.page.winner.0)].bytes;
        let header = Header::of_image(winner);
        let mut found = Found {
            judgement,
            // A header that was checked has a sound layout.
            layout: header.layout().map_err(|_| none)?,
            generation: Err(none),
            pages: Vec::new(),
            slots: Vec::new(),
            problems: Vec::new(),
            force,
        };
        found.generation = found.judge_generation(device);
        let limits = found.limits(&header);
        for page in 0..found.layout.pages() {
            let judged = found.judge_table(device, PageIndex(page), &limits);
            found.pages.push(judged);
        }
        found.find_duplicates();
        Ok(found)
    }

    fn expect(&self, copy: CopyIndex, page: PageIndex) -> Expect {
        Expect { volume: self.judgement.volume, spare: self.judgement.spare, copy, page }
    }

    fn limits(&self, header: &Header<'_>) -> SlotLimits {
        let mut spare_units = [0; MAX_MEMBERS];
        for (row, units) in spare_units.iter_mut().enumerate() {
            *units = match header.member(row) {
                Some(member) if member.spare == self.judgement.spare => self.layout.spare_units(),
                Some(member) => member.sectors / UNIT_SECTORS,
                None => 0,
            };
        }
        let block_sectors = (u64::from(header.block_bytes()) / SECTOR_BYTES) as u8;
        SlotLimits { main_sectors: header.main_sectors(), block_sectors, spare_units }
    }

    fn judge_generation(&self, device: &dyn Device) -> Result<Judgement, Refusal> {
        let mut bytes = [0; PAGE_BYTES];
        let seen = CopyIndex::ALL.map(|copy| {
            match read_page(device, self.layout.generation_sector(copy), &mut bytes) {
                Err(_) => Seen::Unreadable,
                Ok(()) => match GenerationPage::check(&bytes, &self.expect(copy, PageIndex(0))) {
                    Ok(page) => Seen::valid(page.stamp(), &bytes),
                    Err(_) => Seen::Invalid,
                },
            }
        });
        judge_seen(&seen, self.force)
    }

    fn judge_table(
        &mut self,
        device: &dyn Device,
        page: PageIndex,
        limits: &SlotLimits,
    ) -> Result<Judgement, Refusal> {
        let mut copies = [const { [0; PAGE_BYTES] }; COPIES];
        let mut seen = [Seen::Unreadable; COPIES];
        for ((copy, bytes), seen) in CopyIndex::ALL.into_iter().zip(&mut copies).zip(&mut seen) {
            if read_page(device, self.layout.page_sector(copy, page), bytes).is_ok() {
                *seen = match TablePage::check(bytes, &self.expect(copy, page)) {
                    Ok(table) => Seen::valid(table.stamp(), bytes),
                    Err(_) => Seen::Invalid,
                };
            }
        }
        let judgement = judge_seen(&seen, self.force)?;
        let winner = TablePage::of_image(&copies[usize::from(judgement.winner.0)]);
        for (place, slot) in winner.slots() {
            let at = format!("table page {} slot {place}", page.0);
            match slot.and_then(|slot| slot.check(limits).map(|()| slot)) {
                Err(fault) => self.problems.push(format!("{at}: {}", fault.word())),
                Ok(slot) if slot.is_free() => {}
                Ok(slot) => self.slots.extend(SlotIndex::new(page, place).map(|at| (at, slot))),
            }
        }
        Ok(judgement)
    }

    /// Two entries for one main unit, or for one spare unit. A quarantine beside the entry that
    /// still uses its unit is no second entry.
    fn find_duplicates(&mut self) {
        let (mut mains, mut spares) = (HashMap::new(), HashMap::new());
        for (index, slot) in &self.slots {
            if let Some(main) = slot.main {
                if let Some(SlotIndex(other)) = mains.insert(main, *index) {
                    let what = format!("main unit {} in slots {other} and {}", main.0, index.0);
                    self.problems.push(what);
                }
                let Some(spare) = slot.spare else { continue };
                if let Some(SlotIndex(other)) = spares.insert((slot.member, spare), *index) {
                    let what = format!("spare unit {} in slots {other} and {}", spare.0, index.0);
                    self.problems.push(what);
                }
            }
        }
    }

    /// Blocks in `state` in the whole table.
    pub fn blocks(&self, state: BlockState) -> u64 {
        let entries = self.slots.iter().filter(|(_, slot)| slot.main.is_some());
        entries.map(|(_, slot)| u64::from(slot.states.mask(state).count_ones())).sum()
    }

    /// Live entries.
    pub fn entries(&self) -> u64 {
        self.slots.iter().filter(|(_, slot)| slot.main.is_some()).count() as u64
    }

    /// Units that are never used again.
    pub fn quarantined(&self) -> u64 {
        self.slots.iter().filter(|(_, slot)| slot.is_quarantine()).count() as u64
    }

    /// The table as runs, ascending.
    pub fn runs(&self, header: &Header<'_>) -> Vec<Run> {
        let mut entries: Vec<&Slot> =
            self.slots.iter().map(|(_, slot)| slot).filter(|slot| slot.main.is_some()).collect();
        entries.sort_by_key(|slot| slot.main);
        let block_sectors = header.block_bytes() / SECTOR_BYTES as u32;
        let mut joining = Runs::new(block_sectors, header.main_sectors(), 0);
        let mut runs = Vec::new();
        for slot in entries {
            let unit = list::Unit {
                main_sector: slot.main.map_or(0, |unit| unit.0 * UNIT_SECTORS),
                spare: slot.spare.map(|unit| (slot.member, self.layout.unit_sector(unit))),
                states: slot.states,
                pending: 0,
                cause: slot.cause.word(),
            };
            joining.unit(&unit, |run| {
                runs.push(Run::from(&run));
                true
            });
        }
        runs.extend(joining.finish().as_ref().map(Run::from));
        runs
    }
}

fn read_page(device: &dyn Device, sector: u64, bytes: &mut PageBytes) -> Result<(), Class> {
    device.read_uncached(bytes, sector * SECTOR_BYTES)
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
