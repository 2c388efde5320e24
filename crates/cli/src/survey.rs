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
use dmremap_core::open::{CopySeen, judge_copies, judge_header};
use dmremap_engine::Device;
use dmremap_format::{
    BlockState, COPIES, CopyIndex, CopyMask, Expect, GenerationPage, Header, HeaderJudgement,
    Judgement, Layout, MAX_MEMBERS, PAGE_BYTES, PageBytes, PageFault, PageIndex, Refusal, Role,
    SECTOR_BYTES, Seen, SeenHeader, Slot, SlotIndex, SlotLimits, State, TablePage, UNIT_SECTORS,
    Uuid, header_sector, judge_headers,
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
    /// The generation pages.
    pub generation: PageSurvey,
    /// Each table page.
    pub pages: Vec<PageSurvey>,
    /// Slots in use, quarantine included, in order of the table.
    pub slots: Vec<(SlotIndex, Slot)>,
    /// What makes no sense, each a phrase with its place.
    pub problems: Vec<String>,
}

/// The five copies of a generation page or a table page.
pub struct PageSurvey {
    /// What was seen of each.
    pub copies: [CopySeen; COPIES],
    /// What they amount to.
    pub judged: Result<Judgement, Refusal>,
}

impl HeaderCopy {
    /// What was seen of it, in the words of the other pages.
    pub fn copy_seen(&self) -> CopySeen {
        match (self.seen, self.fault) {
            (SeenHeader::Valid { stamp, .. }, _) => CopySeen::Valid(stamp),
            (_, Some(HeaderFault::Page(fault))) => CopySeen::Invalid(fault),
            (_, Some(HeaderFault::Device(class))) => CopySeen::Unreadable(class),
            (_, None) => CopySeen::Unread,
        }
    }

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

/// The same; with `quorum` one valid copy of a page is enough where two are missing.
pub fn survey_with(device: &dyn Device, quorum: bool) -> Survey {
    let headers = CopyIndex::ALL.map(|copy| HeaderCopy::read(device, copy));
    let seen = headers.each_ref().map(|copy| copy.seen);
    let volume =
        judge_header(&seen, quorum).and_then(|found| Found::read(device, &headers, found, quorum));
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

    /// Whether one copy of a page may tell what two cannot prove.
    pub fn may_be_forced(&self) -> bool {
        match self.volume {
            Ok(_) => true,
            Err(Refusal::TooFewValid { valid, .. }) => valid.0 != 0,
            Err(_) => false,
        }
    }

    /// Copies in which every page is valid.
    pub fn copies_valid(&self) -> u8 {
        let Ok(found) = &self.volume else { return 0 };
        let judgements = found.pages.iter().chain([&found.generation]);
        let of = |page: &PageSurvey| match page.judged {
            Ok(judgement) => judgement.valid.0,
            Err(Refusal::TooFewValid { valid, .. }) => valid.0,
            Err(_) => 0,
        };
        let all = judgements.fold(found.judgement.page.valid.0, |mask, page| mask & of(page));
        all.count_ones() as u8
    }

    /// Why an open would refuse this spare; empty if the metadata is no reason.
    pub fn refusals(&self) -> Vec<String> {
        let found = match &self.volume {
            Ok(found) => found,
            Err(refusal) => return vec![format!("headers: {}", refusal.word())],
        };
        let served = self.header().map(|header| (header.role(), header.state()));
        let unserved = match served {
            Some((Role::Data, _)) => Some("header: a further spare, without a table".to_owned()),
            Some((_, State::Joining)) => {
                Some("header: the spare never joined its volume".to_owned())
            }
            _ => None,
        };
        let generation = found.generation.judged.err();
        let generation = generation.map(|refusal| format!("generation: {}", refusal.word()));
        let pages = found.pages.iter().enumerate();
        let pages = pages.filter_map(|(n, page)| {
            page.judged.err().map(|refusal| format!("table page {n}: {}", refusal.word()))
        });
        unserved
            .into_iter()
            .chain(generation)
            .chain(pages)
            .chain(found.problems.iter().cloned())
            .collect()
    }
}

impl Found {
    fn read(
        device: &dyn Device,
        headers: &[HeaderCopy],
        judgement: HeaderJudgement,
        quorum: bool,
    ) -> Result<Found, Refusal> {
        let none = Refusal::TooFewValid { valid: CopyMask(0), unreadable: CopyMask(0) };
        let winner = &headers[usize::from(judgement.page.winner.0)].bytes;
        let header = Header::of_image(winner);
        let mut found = Found {
            judgement,
            // A header that was checked has a sound layout.
            layout: header.layout().map_err(|_| none)?,
            generation: PageSurvey { copies: [CopySeen::Unread; COPIES], judged: Err(none) },
            pages: Vec::new(),
            slots: Vec::new(),
            problems: Vec::new(),
        };
        found.generation = found.judge_generation(device, quorum);
        let limits = found.limits(&header);
        for page in 0..found.layout.pages() {
            let page = found.judge_table(device, PageIndex(page), &limits, quorum);
            found.pages.push(page);
        }
        found.find_duplicates();
        let (own, named) = (device.sectors(), found.layout.spare_sectors());
        if own < named {
            found.problems.push(format!("the device has {own} sectors, the header names {named}"));
        }
        Ok(found)
    }

    fn expect(&self, copy: CopyIndex, page: PageIndex) -> Expect {
        Expect { volume: self.judgement.volume, spare: self.judgement.spare, copy, page }
    }

    /// What a slot of its table may say.
    pub fn limits(&self, header: &Header<'_>) -> SlotLimits {
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

    fn judge_generation(&self, device: &dyn Device, quorum: bool) -> PageSurvey {
        let mut bytes = [0; PAGE_BYTES];
        PageSurvey::of(quorum, |copy| {
            read_page(device, self.layout.generation_sector(copy), &mut bytes)?;
            let page = GenerationPage::check(&bytes, &self.expect(copy, PageIndex(0)));
            Ok(page.map(|page| Seen::valid(page.stamp(), &bytes)))
        })
    }

    fn judge_table(
        &mut self,
        device: &dyn Device,
        page: PageIndex,
        limits: &SlotLimits,
        quorum: bool,
    ) -> PageSurvey {
        let mut copies = [const { [0; PAGE_BYTES] }; COPIES];
        let survey = PageSurvey::of(quorum, |copy| {
            let bytes = &mut copies[usize::from(copy.0)];
            read_page(device, self.layout.page_sector(copy, page), bytes)?;
            let table = TablePage::check(bytes, &self.expect(copy, page));
            Ok(table.map(|table| Seen::valid(table.stamp(), bytes)))
        });
        if let Ok(judgement) = survey.judged {
            self.take_slots(page, &copies[usize::from(judgement.winner.0)], limits);
        }
        survey
    }

    fn take_slots(&mut self, page: PageIndex, image: &PageBytes, limits: &SlotLimits) {
        for (place, slot) in TablePage::of_image(image).slots() {
            let at = format!("table page {} slot {place}", page.0);
            match slot.and_then(|slot| slot.check(limits).map(|()| slot)) {
                Err(fault) => self.problems.push(format!("{at}: {}", fault.word())),
                Ok(slot) if slot.is_free() => {}
                Ok(slot) => self.slots.extend(SlotIndex::new(page, place).map(|at| (at, slot))),
            }
        }
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

impl PageSurvey {
    /// Looks at all five copies with `read`: the device's error, or what was read.
    fn of(
        quorum: bool,
        mut read: impl FnMut(CopyIndex) -> Result<Result<Seen, PageFault>, Class>,
    ) -> PageSurvey {
        let (mut copies, mut all) = ([CopySeen::Unread; COPIES], [Seen::Unreadable; COPIES]);
        for ((copy, shown), seen) in CopyIndex::ALL.into_iter().zip(&mut copies).zip(&mut all) {
            (*shown, *seen) = match read(copy) {
                Err(class) => (CopySeen::Unreadable(class), Seen::Unreadable),
                Ok(Err(fault)) => (CopySeen::Invalid(fault), Seen::Invalid),
                Ok(Ok(Seen::Valid { stamp, digest })) => {
                    (CopySeen::Valid(stamp), Seen::Valid { stamp, digest })
                }
                Ok(Ok(other)) => (CopySeen::Unread, other),
            };
        }
        PageSurvey { copies, judged: judge_copies(&all, quorum) }
    }
}

fn read_page(device: &dyn Device, sector: u64, bytes: &mut PageBytes) -> Result<(), Class> {
    device.read_uncached(bytes, sector * SECTOR_BYTES)
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
