// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Counts before an import.

use super::*;
use crate::report::Run;

fn listed(main_sector: u64, sectors: u64, state: &str, spare_sector: Option<u64>) -> Run {
    let spare_index = spare_sector.map(|_| 0);
    Run { main_sector, spare_index, spare_sector, sectors, state: state.into(), cause: None }
}

fn view(max_entries: u64) -> View {
    View {
        name: "v".into(),
        uuid: String::new(),
        size_sectors: 8000,
        block_size: 512,
        entries: 3,
        quarantined: 1,
        max_entries,
        runs: vec![
            listed(8, 4, "remapped", Some(9216)),
            listed(12, 1, "gone", Some(9220)),
            listed(20, 2, "gone", None),
            listed(40, 2, "pending", None),
            listed(48, 2, "pending", Some(9232)),
        ],
    }
}

fn run(sector: u64, sectors: u64) -> SectorRun {
    SectorRun { sector, sectors }
}

#[test]
fn blocks_and_units_are_counted_against_the_table() {
    // Units 1, 2 and 6 have entries; 0, 3, 4, 5 and 7 get one.
    let plan = Plan::new(&view(9), MarkKind::Gone, vec![run(0, 44), run(46, 18)]).unwrap();
    assert_eq!((plan.blocks, plan.on_spare, plan.gone, plan.marked()), (62, 6, 3, 53));
    assert_eq!(plan.new_entries, 5);
    assert_eq!(plan.lines(), ["mark gone 0 44", "mark gone 46 18"]);
    let refused = Plan::new(&view(8), MarkKind::Gone, vec![run(0, 44), run(46, 18)]).unwrap_err();
    assert_eq!(refused.class, Class::Refused);
    assert!(refused.what.contains("room for 4 more entries and 5 are needed"), "{}", refused.what);
    assert!(refused.next.unwrap().ends_with("--max-remaps 9"));
    assert!(Plan::new(&view(8), MarkKind::Pending, vec![run(0, 8000)]).is_ok());
}

#[test]
fn runs_of_one_unit_need_one_entry() {
    let plan = Plan::new(&view(9), MarkKind::Gone, vec![run(80, 1), run(82, 1), run(87, 2)]);
    assert_eq!(plan.unwrap().new_entries, 2);
}

#[test]
fn long_runs_are_cut() {
    let mut view = view(1 << 20);
    view.size_sectors = 1 << 30;
    let plan = Plan::new(&view, MarkKind::Gone, vec![run(100, MARK_SECTORS_MAX + 3)]).unwrap();
    assert_eq!(plan.lines(), ["mark gone 100 65536", "mark gone 65636 3"]);
}
