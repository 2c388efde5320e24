// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The driver alone, under a path and a machine that do what a test tells them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use dmremap_core::path::Route;
use dmremap_core::{
    Action, Answer, Dev, Disposition, Failure, FlushCounts, Op, OpId, OpKind, Outcome, Piece,
};
use dmremap_format::{PageBytes, UNIT_SECTORS};

use super::*;
use crate::device::identity::Identity;
use crate::device::memory::MemoryDevice;
use crate::device::{Device, Geometry};

/// A device that keeps a list of what came, and fails what a test says.
struct Watched {
    disk: MemoryDevice,
    seen: Mutex<Vec<(Kind, u64, u64)>>,
    bad: Mutex<BTreeMap<u64, Class>>,
    /// Discards at the device now, and the most there were at a time.
    discards: AtomicU32,
    most: AtomicU32,
}

impl Watched {
    fn new() -> Arc<Watched> {
        let bytes = (0..8usize << 20).map(|i| (i / 512 % 251) as u8).collect();
        let disk = MemoryDevice::with_content(bytes, 512);
        let (seen, bad) = (Mutex::default(), Mutex::default());
        Arc::new(Watched { disk, seen, bad, discards: 0.into(), most: 0.into() })
    }

    fn look(&self, kind: Kind, offset: u64, len: usize) -> Result<(), Class> {
        let (sector, sectors) = (offset / 512, len as u64 / 512);
        self.seen.lock().unwrap().push((kind, sector, sectors));
        let bad = self.bad.lock().unwrap();
        bad.range(sector..sector + sectors).next().map_or(Ok(()), |(_, class)| Err(*class))
    }
}

impl Device for Watched {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Class> {
        self.look(Kind::Read, offset, buf.len())?;
        self.disk.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, fua: bool) -> Result<(), Class> {
        self.look(Kind::Write, offset, buf.len())?;
        self.disk.write_at(buf, offset, fua)
    }
    fn flush(&self) -> Result<(), Class> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), Class> {
        self.look(Kind::Discard, offset, len as usize)?;
        let came = self.discards.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(came + 1, Ordering::SeqCst);
        // Long enough for another one to come.
        (0..100).for_each(|_| std::thread::yield_now());
        self.discards.fetch_sub(1, Ordering::SeqCst);
        self.disk.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, fua: bool) -> Result<(), Class> {
        self.look(Kind::WriteZeroes, offset, len as usize)?;
        self.disk.write_zeroes(offset, len, fua)
    }
    fn identity(&self) -> Identity {
        self.disk.identity()
    }
    fn describe(&self) -> String {
        "watched".into()
    }
}

/// The path: units that live on the spare, units that go to the machine, tickets out.
#[derive(Default)]
struct Path {
    moved: Mutex<BTreeMap<u64, u64>>,
    parked: Mutex<Vec<u64>>,
    tickets: Mutex<i64>,
    spare_writes: Mutex<u64>,
}

impl Fast for Arc<Path> {
    type Ticket = ();

    fn sectors(&self) -> u64 {
        16_384
    }
    fn block_sectors(&self) -> u32 {
        1
    }
    fn route(&self, kind: Kind, sector: u64, sectors: u64) -> ((), Route) {
        assert_eq!(sector / 2048, (sector + sectors - 1) / 2048, "crosses a bucket");
        *self.tickets.lock().unwrap() += 1;
        let (moved, parked) = (self.moved.lock().unwrap(), self.parked.lock().unwrap());
        let special = |unit: &u64| moved.contains_key(unit) || parked.contains(unit);
        let unit = sector / UNIT_SECTORS;
        let in_unit = (UNIT_SECTORS - sector % UNIT_SECTORS).min(sectors);
        if parked.contains(&unit) {
            return ((), Route::Machine { sectors: in_unit });
        }
        if let Some(there) = moved.get(&unit) {
            let sector = there * UNIT_SECTORS + sector % UNIT_SECTORS;
            let kind = if kind == Kind::WriteZeroes { Kind::Write } else { kind };
            let dev = Dev::Spare(0);
            return ((), Route::Submit { dev, sector, sectors: in_unit, kind, fast: false });
        }
        let plain = (0..sectors).find(|n| special(&((sector + n) / UNIT_SECTORS)));
        let sectors = plain.unwrap_or(sectors);
        ((), Route::Submit { dev: Dev::Main, sector, sectors, kind, fast: true })
    }
    fn end(&self, (): ()) -> bool {
        *self.tickets.lock().unwrap() -= 1;
        false
    }
    fn written(&self, _dev: Dev) {
        *self.spare_writes.lock().unwrap() += 1;
    }
}

type Judge = Box<dyn FnMut(&mut Puppet, &Piece, Option<&Failure>) -> Disposition + Send>;

/// The machine: does what the test's judge says.
#[derive(Default)]
struct Puppet {
    path: Arc<Path>,
    judge: Option<Judge>,
    actions: VecDeque<Action>,
    answers: Vec<(OpId, Answer)>,
    then: VecDeque<Action>,
    wakes: u64,
    flush_places: usize,
    flushing: Vec<u64>,
    told: Vec<FlushCounts>,
    closed: Option<bool>,
    ticks: u32,
    deadline: Option<Millis>,
    limit_ms: u64,
}

impl Puppet {
    fn ask_judge(&mut self, piece: &Piece, failure: Option<&Failure>) -> Disposition {
        let mut judge = self.judge.take().expect("nothing may come here");
        let disposition = judge(self, piece, failure);
        self.judge = Some(judge);
        disposition
    }
}

impl Logic for Puppet {
    fn failed(&mut self, piece: &Piece, failure: &Failure, _now: Millis) -> Disposition {
        self.ask_judge(piece, Some(failure))
    }
    fn park(&mut self, piece: &Piece, _now: Millis) -> Disposition {
        self.ask_judge(piece, None)
    }
    fn answered(&mut self, id: OpId, answer: Answer, _page: Option<&PageBytes>, _now: Millis) {
        self.answers.push((id, answer));
        self.actions.append(&mut self.then);
    }
    fn tick(&mut self, _now: Millis, _wall_s: u32) {
        self.ticks += 1;
        self.deadline = None;
        self.wakes += 1;
    }
    fn next_deadline(&self) -> Option<Millis> {
        self.deadline
    }
    fn wakes(&self) -> u64 {
        self.wakes
    }
    fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    fn page_image(&self, _id: OpId, out: &mut PageBytes) {
        out.fill(0x77);
    }
    fn grace_tick(&mut self, _now: Millis) {}
    fn flush(&mut self, id: u64, answered: FlushCounts, _now: Millis) -> bool {
        self.told.push(answered);
        if self.flushing.len() == self.flush_places {
            return false;
        }
        self.flushing.push(id);
        true
    }
    fn close(&mut self, _now: Millis) {
        self.closed = Some(true);
    }
    fn closed(&self) -> Option<bool> {
        self.closed
    }
    fn limit_ms(&self) -> u64 {
        self.limit_ms
    }
}

struct Setup {
    main: Arc<Watched>,
    spare: Arc<Watched>,
    path: Arc<Path>,
    volume: Running<Arc<Path>, Puppet>,
}

fn setup(
    judge: impl FnMut(&mut Puppet, &Piece, Option<&Failure>) -> Disposition + Send + 'static,
) -> Setup {
    let (main, spare, path) = (Watched::new(), Watched::new(), Arc::<Path>::default());
    let logic = Puppet {
        path: path.clone(),
        judge: Some(Box::new(judge)),
        flush_places: 1,
        limit_ms: 30_000,
        ..Puppet::default()
    };
    let volume = Running::start(Parts {
        fast: path.clone(),
        logic,
        devices: vec![main.clone(), spare.clone()],
        manner: None,
        buffers: 2,
        read_only: false,
        watch: None,
        start: Instant::now(),
        on_event: Box::new(|_| {}),
    });
    Setup { main, spare, path, volume: volume.unwrap() }
}

fn nothing(_: &mut Puppet, piece: &Piece, failure: Option<&Failure>) -> Disposition {
    panic!("{piece:?} {failure:?} came to the machine");
}

impl Setup {
    fn ask(&self, kind: Kind, sector: u64, data: Vec<u8>, sectors: u32) -> (Vec<u8>, Vec<BadRun>) {
        let (sender, reply) = channel();
        let request = Request { kind, sector, sectors, fua: false, data: Box::new(data) };
        self.volume.submit(request, Box::new(move |reply| sender.send(reply).unwrap()));
        let reply = reply.recv().expect("answered");
        (*reply.data.into_any().downcast::<Vec<u8>>().unwrap(), reply.bad)
    }

    fn read(&self, sector: u64, sectors: u32) -> (Vec<u8>, Vec<BadRun>) {
        self.ask(Kind::Read, sector, vec![0xff; sectors as usize * 512], sectors)
    }

    fn write(&self, sector: u64, data: Vec<u8>) -> Vec<BadRun> {
        let sectors = (data.len() / 512) as u32;
        self.ask(Kind::Write, sector, data, sectors).1
    }
}

fn pattern(sector: u64, sectors: u32) -> Vec<u8> {
    (sector * 512..(sector + u64::from(sectors)) * 512).map(|i| (i / 512 % 251) as u8).collect()
}

#[test]
fn requests_are_cut_at_buckets_and_put_together_again() {
    let setup = setup(nothing);
    assert_eq!(setup.read(2000, 4200), (pattern(2000, 4200), vec![]));
    let mut seen = std::mem::take(&mut *setup.main.seen.lock().unwrap());
    seen.sort_by_key(|(_, sector, _)| *sector);
    let want = [(2000, 48), (2048, 2048), (4096, 2048), (6144, 56)];
    assert_eq!(seen, want.map(|(sector, sectors)| (Kind::Read, sector, sectors)));
    setup.path.moved.lock().unwrap().extend([(1, 9), (3, 20)]);
    assert_eq!(setup.write(4, vec![0xa5; 28 * 512]), []);
    let mut seen = std::mem::take(&mut *setup.spare.seen.lock().unwrap());
    seen.sort_by_key(|(_, sector, _)| *sector);
    assert_eq!(seen, [(Kind::Write, 72, 8), (Kind::Write, 160, 8)]);
    assert_eq!(*setup.path.spare_writes.lock().unwrap(), 2);
    assert_eq!(setup.read(0, 40).0[2048..32 * 512], vec![0xa5; 28 * 512]);
    assert_eq!(setup.main.disk.content()[8 * 512..16 * 512], pattern(8, 8));
    assert!(setup.volume.close());
    assert_eq!(*setup.path.tickets.lock().unwrap(), 0);
}

#[test]
fn zeroes_and_discards_take_their_own_ways() {
    let setup = setup(nothing);
    setup.path.moved.lock().unwrap().insert(1, 9);
    assert_eq!(setup.ask(Kind::WriteZeroes, 0, vec![], 16).1, []);
    assert_eq!(setup.main.seen.lock().unwrap()[..], [(Kind::WriteZeroes, 0, 8)]);
    assert_eq!(setup.spare.seen.lock().unwrap()[..], [(Kind::Write, 72, 8)]);
    assert_eq!(setup.read(0, 16).0, vec![0; 16 * 512]);
}

#[test]
fn a_discard_as_large_as_the_disk_is_one_part_at_a_time() {
    let setup = setup(nothing);
    setup.path.moved.lock().unwrap().insert(1, 9);
    assert_eq!(setup.ask(Kind::Discard, 0, vec![], 16_384).1, []);
    let seen = std::mem::take(&mut *setup.main.seen.lock().unwrap());
    let mut want = vec![(Kind::Discard, 0, 8), (Kind::Discard, 16, 2032)];
    want.extend((1..8).map(|bucket| (Kind::Discard, bucket * 2048, 2048)));
    assert_eq!(seen, want, "in order");
    assert_eq!(setup.main.most.load(Ordering::SeqCst), 1);
    assert_eq!(setup.spare.seen.lock().unwrap()[..], [(Kind::Discard, 72, 8)]);
    assert!(setup.volume.close());
    assert_eq!(*setup.path.tickets.lock().unwrap(), 0);
}

#[test]
fn what_no_volume_can_do_is_refused() {
    let setup = setup(nothing);
    let refused = |bad: Vec<BadRun>| bad[0].class == Class::NotSupported;
    assert!(refused(setup.read(16_384, 1).1));
    assert!(refused(setup.read(16_380, 8).1));
    assert!(refused(setup.ask(Kind::Read, u64::MAX, vec![0; 512], 1).1));
    assert!(refused(setup.ask(Kind::Discard, 0, vec![], 0).1));
    assert!(refused(setup.ask(Kind::Write, 0, vec![0; 100], 1).1));
}

/// The judge of the tests that move: cuts, then moves each unit to spare unit 100 + itself.
fn mover(puppet: &mut Puppet, piece: &Piece, failure: Option<&Failure>) -> Disposition {
    let failure = failure.expect("failed");
    assert_eq!((failure.dev, failure.class), (Dev::Main, Class::Io));
    if piece.sector % 8 + u64::from(piece.sectors) > 8 {
        return Disposition::Split;
    }
    let unit = piece.sector / 8;
    puppet.path.moved.lock().unwrap().insert(unit, 100 + unit);
    let op = Op {
        id: OpId(unit as u32),
        dev: Dev::Spare(0),
        sector: (100 + unit) * 8 + piece.sector % 8,
        sectors: piece.sectors,
        kind: OpKind::Write { buffer: 1, offset: (piece.sector % 8 * 512) as u16, fua: true },
    };
    puppet.actions.push_back(Action::CopyIn { buffer: 1, piece: *piece });
    puppet.actions.push_back(Action::Io(op));
    let outcome = Outcome::Good;
    puppet.then.push_back(Action::Complete { buffer: 1, piece: *piece, outcome });
    Disposition::Taken
}

#[test]
fn a_failed_write_is_cut_into_units_and_what_fails_is_moved() {
    let setup = setup(mover);
    setup.main.bad.lock().unwrap().insert(21, Class::Io);
    let data: Vec<u8> = (0..30 * 512usize).map(|i| (i / 3) as u8).collect();
    assert_eq!(setup.write(6, data.clone()), []);
    assert_eq!(setup.path.moved.lock().unwrap()[&2], 102);
    assert_eq!(setup.path.moved.lock().unwrap().len(), 1, "neighbours stay");
    assert_eq!(setup.read(6, 30), (data.clone(), vec![]));
    assert_eq!(setup.spare.disk.content()[816 * 512..824 * 512], data[10 * 512..18 * 512]);
}

#[test]
fn unreadable_blocks_are_named_and_nothing_foreign_is_handed_out() {
    let setup = setup(|puppet, piece, failure| {
        assert_eq!((piece.kind, failure), (Kind::Read, None));
        let kind = OpKind::Read { buffer: 0, offset: (piece.sector % 8 * 512) as u16 };
        let (sector, sectors) = (piece.sector, piece.sectors);
        puppet.actions.push_back(Action::Io(Op {
            id: OpId(1),
            dev: Dev::Main,
            sector,
            sectors,
            kind,
        }));
        let outcome = Outcome::Unreadable(0b0010_0001);
        puppet.then.push_back(Action::Complete { buffer: 0, piece: *piece, outcome });
        Disposition::Taken
    });
    setup.path.parked.lock().unwrap().push(2);
    let (data, bad) = setup.read(18, 10);
    let run = BadRun { sector: 21, sectors: 1, class: Class::Medium };
    assert_eq!(bad, [run], "block 0 is outside of the request");
    let mut want = pattern(18, 10);
    want[3 * 512..4 * 512].fill(0xff);
    assert_eq!(data, want);
}

#[test]
fn waiting_parts_come_again_when_something_was_let_go_and_at_their_limit() {
    for (wakes, limit_ms) in [(true, 3_600_000), (false, 0)] {
        let mut seen = 0;
        let setup = setup(move |puppet, piece, _| {
            seen += 1;
            puppet.limit_ms = limit_ms;
            if seen == 1 {
                assert!(piece.since.is_some());
                if wakes {
                    puppet.deadline = Some(0);
                }
                return Disposition::Wait;
            }
            Disposition::Fail(Class::Timeout)
        });
        setup.path.parked.lock().unwrap().push(0);
        let (_, bad) = setup.read(0, 9);
        assert_eq!(bad, [BadRun { sector: 0, sectors: 8, class: Class::Timeout }]);
    }
}

#[test]
fn verdicts_and_times_reach_the_other_parts() {
    let mut seen = 0;
    let setup = setup(move |puppet, piece, _| {
        seen += 1;
        let (piece, request) = (*piece, piece.request);
        match seen {
            1 => {
                puppet.actions.push_back(Action::Verdict { request });
                puppet.actions.push_back(Action::Again { piece, at: 0 });
                Disposition::Taken
            }
            2 | 3 if piece.verdict => Disposition::RetryAt(1),
            _ if piece.verdict => Disposition::Done,
            _ => Disposition::Fail(Class::Io),
        }
    });
    setup.path.parked.lock().unwrap().push(0);
    assert_eq!(setup.read(0, 8).1, []);
}

#[test]
fn flushes_without_a_place_wait_and_errors_are_remembered_by_the_client() {
    let setup = setup(nothing);
    let told = Told::new([0; 2]);
    let (sender, outcomes) = channel();
    for n in 0..3 {
        let sender = sender.clone();
        setup.volume.flush(&told, Box::new(move |outcome| sender.send((n, outcome)).unwrap()));
    }
    drop(sender);
    for n in 0..3u64 {
        let end_one = move |puppet: &mut Puppet, _| {
            let Some(id) = puppet.flushing.pop() else { return false };
            let outcome = if n == 0 { Err(Class::Io) } else { Ok(()) };
            puppet.actions.push_back(Action::Flushed { id, outcome, failures: [3, 4] });
            true
        };
        while !setup.volume.ask(end_one).unwrap() {}
        let want = if n == 0 { Err(Class::Io) } else { Ok(()) };
        assert_eq!(outcomes.recv().unwrap(), (n, want));
    }
    assert_eq!(told.get(), [3, 4]);
}

#[test]
fn a_close_waits_for_what_came_before_and_refuses_what_comes_after() {
    let setup = setup(|_, _, _| Disposition::Wait);
    setup.path.parked.lock().unwrap().push(0);
    let (sender, answered) = channel();
    let request = Request {
        kind: Kind::Read,
        sector: 0,
        sectors: 8,
        fua: false,
        data: Box::new(vec![0; 4096]),
    };
    setup.volume.submit(request, Box::new(move |reply| sender.send(reply.result()).unwrap()));
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| setup.volume.close());
        while setup.read(100, 1).1.is_empty() {
            std::thread::yield_now();
        }
        assert!(answered.try_recv().is_err(), "not answered, so not closed");
        setup.volume.ask(|puppet, _| {
            puppet.judge = Some(Box::new(|_, _, _| Disposition::Done));
            puppet.wakes += 1;
        });
        assert_eq!(answered.recv().unwrap(), Ok(()));
        assert!(closing.join().unwrap());
    });
    assert_eq!(setup.read(100, 1).1[0].class, Class::Offline);
    assert!(!setup.volume.close(), "closed before");
}

#[test]
fn an_abandoned_volume_answers_everybody() {
    let setup = setup(|_, _, _| Disposition::Wait);
    setup.path.parked.lock().unwrap().push(0);
    let (sender, answered) = channel();
    let request = Request {
        kind: Kind::Read,
        sector: 0,
        sectors: 8,
        fua: false,
        data: Box::new(vec![0; 4096]),
    };
    setup.volume.submit(request, Box::new(move |reply| sender.send(reply.result()).unwrap()));
    let told = Told::new([0; 2]);
    let (sender, flushed) = channel();
    setup.volume.flush(&told, Box::new(move |outcome| sender.send(outcome).unwrap()));
    setup.volume.abandon();
    assert_eq!(answered.recv().unwrap(), Err(Class::Offline));
    assert_eq!(flushed.recv().unwrap(), Err(Class::Offline));
}
