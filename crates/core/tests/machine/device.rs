// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Suspect and vanished devices, and probes.

use dmremap_core::{Class, Event};

use super::{
    F, How, MAIN, PAGES, PROBE, R, Rig, Rule, SPARE, V, W, make_pending, move_by_write, old, remap,
    with_gone,
};

const ALL: u8 = R | W | F | V | PROBE | PAGES;

#[test]
fn trace_10_09_suspect_spare_quarantines_nothing() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.rule(Rule::new(SPARE, ALL));
    let write = rig.write(40, &[61]);
    let moving = rig.write(40, &[62]);
    assert_eq!((rig.ended(write), rig.ended(moving)), (None, None), "held");
    assert!(rig.events.contains(&Event::Suspect(SPARE)));
    rig.advance(10_000);
    assert_eq!(rig.machine.status().quarantined_units, 0);
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    rig.rules.clear();
    rig.advance(4_000);
    assert!(rig.events.contains(&Event::Healed(SPARE)));
    assert_eq!((rig.ended(write), rig.ended(moving)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
}

#[test]
fn write_held_by_a_suspect_device_is_passed_up_at_its_limit() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W | R | PROBE));
    let id = rig.write(43, &[9]);
    rig.advance(29_000);
    assert_eq!(rig.ended(id), None, "held and retried");
    rig.advance(2_000);
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
    assert_eq!(rig.entry(5), None);
}

#[test]
fn trace_10_32_good_probe_then_outage_is_no_verdict_after_it() {
    // The probe comes after the outage began: bad, so nothing moves.
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W | PROBE).times(4));
    let id = rig.write(43, &[9]);
    assert_eq!((rig.ended(id), rig.entry(5)), (None, None));
    rig.advance(4_000);
    assert_eq!((rig.ended(id), rig.entry(5)), (Some(Ok(())), None));
    assert_eq!(rig.tag(MAIN, 43), 9);
}

#[test]
fn one_probe_serves_failures_answered_before_it_began_and_no_other() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(MAIN, W).at(83..84));
    rig.rule(Rule::new(MAIN, PROBE).times(3).how(How::Hold));
    let first = rig.write(43, &[1]);
    let second = rig.write(83, &[2]);
    rig.done();
    for _ in 0..3 {
        rig.let_go(How::Good);
    }
    assert_eq!((rig.ended(first), rig.ended(second)), (Some(Ok(())), Some(Ok(()))));
    let log = rig.done();
    let at = |what: &str| log.iter().position(|l| l == what).unwrap();
    assert!(at("main probe") < at("main write 83+1"), "the second has a probe of its own: {log:?}");
    assert!(at("main write 43+1") < at("main write 83+1"));
}

#[test]
fn two_of_three_reads_make_a_good_probe() {
    for (bad, good) in [(1, true), (2, false)] {
        let mut rig = Rig::new();
        rig.rule(Rule::new(MAIN, W).at(43..44));
        rig.rule(Rule::new(MAIN, PROBE).times(bad));
        let id = rig.write(43, &[1]);
        assert_eq!(rig.ended(id).is_some(), good);
        assert_eq!(rig.events.contains(&Event::Suspect(MAIN)), !good);
    }
}

#[test]
fn probe_that_is_not_answered_in_time_is_bad() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(MAIN, PROBE).times(3).how(How::Hold));
    rig.write(43, &[1]);
    rig.advance(4_900);
    assert!(!rig.events.contains(&Event::Suspect(MAIN)));
    rig.advance(200);
    assert!(rig.events.contains(&Event::Suspect(MAIN)));
}

#[test]
fn three_good_probes_a_second_apart_heal() {
    let mut rig = Rig::new();
    // Two failures: the second waits for a probe of its own while the first, bad one runs.
    rig.rule(Rule::new(MAIN, PROBE).times(3).how(How::Hold));
    rig.rule(Rule::new(MAIN, W).at(43..44).times(1));
    rig.rule(Rule::new(MAIN, W).at(83..84).times(1));
    rig.write(43, &[1]);
    rig.write(83, &[1]);
    for _ in 0..3 {
        rig.let_go(How::Fail(Class::Io));
    }
    let suspect = |rig: &Rig| rig.machine.status().conditions.main_suspect;
    assert!(suspect(&rig));
    rig.advance(2_900);
    assert!(suspect(&rig), "not before three seconds");
    rig.advance(200);
    assert!(!suspect(&rig));
}

#[test]
fn trace_10_14_rate_alone_never_trips_it() {
    let mut rig = Rig::with(super::Setup { units: 200, entries: 252, ..Default::default() });
    rig.rule(Rule::new(MAIN, W).at(0..800));
    for unit in 0..100 {
        let id = rig.write(unit * 8, &[5; 8]);
        assert_eq!(rig.ended(id), Some(Ok(())));
    }
    assert_eq!(rig.machine.status().entries, 100);
    assert!(!rig.events.iter().any(|e| matches!(e, Event::Suspect(_))));
}

#[test]
fn suspect_main_moves_nothing_by_message_or_mark() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 51);
    rig.rule(Rule::new(MAIN, R | W).at(43..44));
    rig.rule(Rule::new(MAIN, PROBE));
    rig.read(43, 1);
    assert!(rig.events.contains(&Event::Suspect(MAIN)));
    assert_eq!(
        rig.says(&remap(80)),
        dmremap_core::Done::Failed(dmremap_core::Reason::DeviceSuspect)
    );
    // A write to a pending block runs, in place.
    let id = rig.write(51, &[7]);
    assert_eq!((rig.ended(id), rig.tag(MAIN, 51)), (Some(Ok(())), 7));
    assert_eq!((rig.entry(6), rig.entry(10)), (None, None));
}

#[test]
fn weak_content_is_not_moved_while_a_device_is_suspect() {
    for dev in [MAIN, SPARE] {
        let mut rig = Rig::new();
        move_by_write(&mut rig, 40, &[60]);
        let at = if dev == MAIN { 43 } else { rig.spare_at(0, 0) };
        rig.rule(Rule::new(dev, R).at(at..at + 1).times(2).medium());
        let id = rig.read(if dev == MAIN { 43 } else { 40 }, 1);
        assert_eq!(rig.ended(id), None, "it waits for its next attempt");
        rig.rule(Rule::new(dev, PROBE));
        rig.rule(Rule::new(dev, W | R).at(at + 1..at + 2));
        rig.write(if dev == MAIN { 44 } else { 40 }, &[1]);
        if dev == SPARE {
            rig.rule(Rule::new(SPARE, W));
            rig.rule(Rule::new(MAIN, W).at(80..81));
            rig.write(80, &[3]);
        }
        assert!(rig.events.contains(&Event::Suspect(dev)), "{dev:?}");
        rig.advance(500);
        assert!(rig.ended(id).is_some());
        assert_eq!(rig.machine.status().quarantined_units, 0);
        assert_eq!(rig.entry(5), Some((Some(0), "smmmmmmm".into())));
    }
}

#[test]
fn trace_10_28_sibling_unreadable_on_a_suspect_spare_is_not_gone() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60, 61]);
    let at = rig.spare_at(0, 0);
    rig.rule(Rule::new(SPARE, W).at(at..at + 1));
    // The cable drops once the unit has had its verdict.
    rig.rule(Rule::new(SPARE, PROBE).after(3));
    rig.rule(Rule::new(SPARE, R));
    let id = rig.write(40, &[62]);
    assert_eq!(rig.ended(id), None, "held");
    assert!(rig.events.contains(&Event::Suspect(SPARE)));
    assert_eq!(rig.entry(5), Some((Some(0), "ssmmmmmm".into())));
    rig.rules.retain(|r| r.kinds == W);
    rig.advance(5_000);
    assert_eq!(rig.ended(id), Some(Ok(())));
    assert_eq!(rig.entry(5), Some((Some(1), "ssmmmmmm".into())));
    assert_eq!(rig.reads(40, 2), Ok(vec![62, 61]));
}

#[test]
fn nothing_is_committed_to_a_spare_that_became_suspect_after_the_check() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 80, &[60]);
    rig.rule(Rule::new(MAIN, W).at(43..44));
    rig.rule(Rule::new(SPARE, V).times(1).how(How::Hold));
    let id = rig.write(43, &[9]);
    assert_eq!(rig.held(), 1);
    rig.rule(Rule::new(SPARE, W | PROBE | PAGES));
    rig.write(80, &[61]);
    assert!(rig.events.contains(&Event::Suspect(SPARE)));
    rig.done();
    rig.let_go(How::Good);
    assert_eq!((rig.ended(id), rig.entry(5)), (None, None), "held");
    assert!(!rig.done().contains(&"commit".to_string()));
}

#[test]
fn vanished_device_ends_everything_on_it_in_every_stage() {
    // How many operations of the spare are let through before it goes away.
    for (passed, gone) in (0..40).flat_map(|n| [(n, SPARE), (n, MAIN)]) {
        let mut rig = with_gone();
        rig.rule(Rule::new(gone, ALL).after(passed).how(How::Fail(Class::Offline)));
        let bad = rig.spare_at(1, 0);
        rig.rule(Rule::new(SPARE, W).at(bad..bad + 1));
        rig.rule(Rule::new(MAIN, W).at(44..45));
        let mut ids = vec![rig.write(40, &[1]), rig.write(41, &[2]), rig.write(44, &[3])];
        ids.push(rig.read(42, 1));
        let flush = rig.flush(0);
        rig.advance(70_000);
        for id in &ids {
            assert!(rig.ended(*id).is_some(), "{gone:?} after {passed}: {id} has not ended");
        }
        assert!(rig.flushed.contains_key(&flush));
        let busy = rig.shared.busy.find(dmremap_format::UnitIndex(5)).0;
        assert_eq!(busy, 0, "{gone:?} after {passed}: {:?} {:?}", rig.log, rig.events);
        let down = rig.shared.is_down(gone);
        if down {
            rig.done();
            let id = rig.write(if gone == MAIN { 100 } else { 40 }, &[9]);
            rig.advance(40_000);
            assert!(rig.ended(id).is_some_and(|e| e.is_err()), "{gone:?} after {passed}");
            let word = if gone == MAIN { "main" } else { "spare" };
            let sent: Vec<String> =
                rig.done().into_iter().filter(|l| l.contains(word) || l == "commit").collect();
            let own = gone == MAIN && sent.iter().all(|l| l == "commit");
            assert!(sent.is_empty() || own, "nothing more is sent there: {sent:?}");
        }
        rig.rules.clear();
        rig.machine.close(rig.now);
        rig.settle();
        rig.advance(70_000);
        assert_eq!(rig.machine.closed(), Some(!down), "{gone:?} after {passed}");
        // Whatever was acknowledged stands on the disk too.
        let ends: Vec<bool> = ids.iter().map(|id| rig.ended(*id) == Some(Ok(()))).collect();
        let mut rig = rig.reopen();
        for (index, (sector, tag)) in [(40, 1), (41, 2), (44, 3)].into_iter().enumerate() {
            if ends[index] {
                assert_eq!(rig.reads(sector, 1), Ok(vec![tag]), "{gone:?} after {passed}");
            }
        }
        assert_eq!(rig.reads(42, 1), Ok(vec![old(42)]));
    }
}

#[test]
fn vanished_main_takes_no_write_by_another_way() {
    let mut rig = Rig::new();
    make_pending(&mut rig, 43);
    rig.machine.vanished(MAIN);
    rig.settle();
    let id = rig.write(43, &[9]);
    assert_eq!(rig.ended(id), Some(Err(Class::Offline)));
    assert_eq!(rig.entry(5), None);
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err(), "what main's cache held is lost");
    let flush = rig.flush(0);
    assert!(rig.flushed[&flush].is_err(), "until close and open");
}

#[test]
fn vanished_spare_fails_flushes_only_if_something_may_be_lost() {
    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    let flush = rig.flush(0);
    assert_eq!(rig.flushed[&flush], Ok(()));
    rig.machine.vanished(SPARE);
    rig.settle();
    let flush = rig.flush(0);
    assert_eq!(rig.flushed[&flush], Ok(()), "all was covered");

    let mut rig = Rig::new();
    move_by_write(&mut rig, 40, &[60]);
    rig.write(40, &[61]);
    rig.machine.vanished(SPARE);
    rig.settle();
    for _ in 0..3 {
        let flush = rig.flush(0);
        assert!(rig.flushed[&flush].is_err(), "until close and open");
    }
    assert_eq!(rig.reads(41, 1), Ok(vec![old(41)]), "main's blocks go on");
    assert_eq!(rig.reads(40, 1), Err(Class::Offline));
}

#[test]
fn probe_has_three_reads_for_a_driver_that_answers_at_once() {
    use dmremap_core::{Action, Answer, Dev, Disposition, Failure, Kind, OpKind, Piece};
    let mut rig = Rig::new();
    let piece = Piece {
        request: 1,
        kind: Kind::Write,
        sector: 43,
        sectors: 1,
        fua: false,
        hasty: false,
        since: None,
        verdict: false,
    };
    let failure = Failure { dev: Dev::Main, sector: 43, class: Class::Io, took_ms: 1 };
    assert_eq!(rig.machine.failed(&piece, &failure, 0), Disposition::Taken);
    let mut reads = 0;
    while let Some(action) = rig.machine.next_action() {
        let Action::Io(op) = action else { continue };
        reads += u32::from(op.kind == OpKind::Probe);
        assert!(reads <= 3);
        rig.machine.answered(op.id, Answer::Good, None, 0);
    }
    assert_eq!(reads, 3);
}

#[test]
fn nothing_is_submitted_at_the_limit_of_a_held_write() {
    let mut rig = Rig::new();
    rig.rule(Rule::new(MAIN, W | R | PROBE));
    let id = rig.write(43, &[9]);
    rig.advance(29_999);
    rig.done();
    rig.advance(10);
    assert!(!rig.done().iter().any(|l| l.starts_with("client")));
    assert_eq!(rig.ended(id), Some(Err(Class::Io)));
}
