// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which changes are noticed.

use super::*;
use crate::device::memory::MemoryDevice;

#[test]
fn every_watched_sector_is_noticed_and_no_other() {
    for sectors in [8192u64, 100_000] {
        let main = MemoryDevice::new(sectors);
        let look = main_identity::look(&main, |_, _| false);
        let watch = Watch::new(&look);
        let inside = |sector: u64| {
            look.windows.iter().any(|window| {
                let (at, end) = (sector * 512, window.offset + window.len as u64);
                at < end && at + 512 > window.offset
            })
        };
        let mut watched = 0;
        for sector in 0..sectors {
            assert_eq!(watch.touches(sector, 1), inside(sector), "sector {sector}");
            watched += u64::from(inside(sector));
        }
        assert!(watched > 8 && watched < sectors / 2, "{watched}");
        assert!(watch.touches(0, sectors) && !watch.touches(sectors, 8));
        let free = (0..sectors - 64).find(|at| (*at..at + 64).all(|sector| !inside(sector)));
        let free = free.expect("64 sectors that nobody looks at");
        assert!(!watch.touches(free, 64));
        let before = (0..free).rev().find(|sector| inside(*sector)).expect("one before them");
        assert!(watch.touches(before, free - before + 1));
    }
}

#[test]
fn regions_that_share_a_bit_are_told_apart() {
    let watch = Watch::new(&main_identity::look(&MemoryDevice::new(8192), |_, _| false));
    assert!(watch.touches(0, 1));
    assert!(!watch.touches(REGIONS * REGION_SECTORS, 1), "same bit, not watched");
    assert!(watch.touches(1, u64::MAX), "longer than the map is round");
}

#[test]
fn a_change_or_a_unit_come_home_sets_the_flag() {
    let look = main_identity::look(&MemoryDevice::new(8192), |_, _| false);
    let dirty = |job: fn(&Watch)| {
        let watch = Watch::new(&look);
        job(&watch);
        watch.lock().dirty
    };
    assert!(dirty(|watch| watch.answered(0, 8)));
    assert!(!dirty(|watch| watch.answered(3000, 8)));
    assert!(dirty(|watch| watch.heard(&Event::Home { main_sector: 0 })));
    assert!(!dirty(|watch| watch.heard(&Event::Home { main_sector: 3000 })));
    assert!(!dirty(|watch| watch.heard(&Event::Pending { main_sector: 0, blocks: 1 })));
}
