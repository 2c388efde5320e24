// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Failed writes: verdicts, moves, and what becomes of the neighbours.

use dmremap_core::Dev;

use super::{Rig, Rule, W, old};

const MAIN: Dev = Dev::Main;

#[test]
fn trace_10_01_write_is_confirmed_by_writing_and_moved() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    let id = rig.write(43, &[200]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(
        rig.done(),
        [
            "client main write 43+1",
            "main probe",
            "main write 43+1",
            "spare write u0.3+1",
            "spare flush",
            "spare check u0.3+1",
            "commit",
        ]
    );
    assert_eq!(rig.entry(5), Some((Some(0), "mmmsmmmm".into())));
    assert_eq!(rig.saved().0[&5], (Some(0), "mmmsmmmm".into()));
    assert_eq!(
        rig.reads(40, 8),
        Ok((40..48).map(|s| if s == 43 { 200 } else { old(s) }).collect())
    );
}

#[test]
fn write_that_succeeds_alone_stays_where_it_is() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44).times(1));
    let id = rig.write(43, &[200]);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.done(), ["client main write 43+1", "main probe", "main write 43+1"]);
    assert_eq!(rig.entry(5), None);
    assert_eq!(rig.tag(MAIN, 43), 200);
}
