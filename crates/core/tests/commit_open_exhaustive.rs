// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Commit and open, exhaustively: the real machines on pages of a few bytes.
//!
//! A *session* opens the spare, commits as often as its budget allows, and is cut short by a power
//! cut: after every write, with every combination of old, new and torn for each copy that is not
//! durable. Every disk that this leaves is opened again, under every fault of the model, until the
//! budget of opens is used up; then it is opened once more, without a cut, to be looked at. Disks
//! seen before with the same budget and the same expectation are not followed again.
//!
//! Invariants checked:
//! * No open is refused, and none is read-only.
//! * An open serves, for every page, what was acknowledged or served last, or a change that was
//!   begun since and neither failed cleanly nor was reversed.
//! * So nothing acknowledged is lost, and nothing served is undone.

mod meta;

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use dmremap_core::commit::{OutcomeKind, PageId};
use dmremap_format::PageIndex;
use meta::{Change, Content, Disk, Faults, Spare, Tiny, drive, open, peek};

/// What a model allows.
struct Model {
    name: &'static str,
    tables: u8,
    opens: u8,
    commits: u8,
    faults: Vec<Faults>,
    /// The sets of pages a commit may change.
    changes: Vec<Vec<u8>>,
    /// The pages (kinds, see `Tiny::kind`) whose copies a cut leaves in every combination of their
    /// outcomes; the copies of all others are whole after a cut. Empty = all pages.
    scope: &'static [u8],
}

/// For each table page: what may be served. The first is what was acknowledged or served last.
type Allowed = Vec<Vec<Content>>;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    pages: Vec<Tiny>,
    allowed: Allowed,
    opens: u8,
    commits: u8,
}

#[derive(Default)]
struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }
    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

/// States seen, by 128 bits of hash, and those still to be followed.
#[derive(Default)]
struct Search {
    seen: HashSet<u128, BuildHasherDefault<Passthrough>>,
    todo: Vec<State>,
    cuts: u64,
    sessions: u64,
}

impl Search {
    fn add(&mut self, pages: &[Tiny], hash: u128, allowed: &Allowed, budget: (u8, u8)) {
        self.cuts += 1;
        if self.seen.insert(hash) {
            let (pages, allowed) = (pages.to_vec(), allowed.clone());
            self.todo.push(State { pages, allowed, opens: budget.0, commits: budget.1 });
        }
    }
}

/// The hash of all of a state but its pages.
fn hash_rest(allowed: &Allowed, budget: (u8, u8)) -> u128 {
    let mut hasher = DefaultHasher::new();
    (allowed, budget).hash(&mut hasher);
    meta::spread(hasher.finish())
}

fn explore(model: &Model) -> Result<Search, String> {
    let start = Disk::formatted(model.tables);
    let pages: Vec<Tiny> = start.cells.iter().map(|c| c.now).collect();
    let allowed = vec![vec![[0; meta::SLOTS]]; model.tables.into()];
    let mut search = Search::default();
    search.add(&pages, 0, &allowed, (model.opens, model.commits));
    while let Some(state) = search.todo.pop() {
        if state.opens == 0 {
            look(&state)?;
            continue;
        }
        for faults in &model.faults {
            session(model, &state, *faults, &mut search)?;
        }
    }
    println!(
        "{}: {} disks, {} sessions, {} cuts",
        model.name,
        search.seen.len(),
        search.sessions,
        search.cuts
    );
    Ok(search)
}

/// The open after the last one, of which only what it would serve is looked at: every copy in turn
/// cannot be read.
fn look(state: &State) -> Result<(), String> {
    for reads in [0, 1, 2, 4, 8, 16] {
        let what = match peek(&state.pages, reads) {
            Ok(tables) if tables.iter().zip(&state.allowed).all(|(t, a)| a.contains(t)) => continue,
            Ok(tables) => format!("{tables:?} is served"),
            Err(refused) => format!("refused: {refused:?}"),
        };
        return Err(format!("{what}\nfrom {state:?}\nwithout copies {reads:#b}"));
    }
    Ok(())
}

/// One session from `state`, once for every choice of what is committed in it.
fn session(
    model: &Model,
    state: &State,
    faults: Faults,
    search: &mut Search,
) -> Result<(), String> {
    let rounds = u32::from(state.commits);
    for choice in 0..model.changes.len().pow(rounds) {
        search.sessions += 1;
        one_session(model, state, faults, choice, search)
            .map_err(|what| format!("{what}\nfrom {state:?}\nunder {faults:?}"))?;
    }
    Ok(())
}

fn one_session(
    model: &Model,
    state: &State,
    faults: Faults,
    mut choice: usize,
    search: &mut Search,
) -> Result<(), String> {
    let left = state.opens - 1;
    let ghost = RefCell::new((state.allowed.clone(), state.commits, search));
    let cut = |disk: &Disk, written: Option<usize>| {
        let mut ghost = ghost.borrow_mut();
        let (allowed, commits, search) = &mut *ghost;
        let budget = (left, *commits);
        let rest = hash_rest(allowed, budget);
        let add = |pages: &[Tiny], hash: u128| {
            search.add(pages, hash.wrapping_add(rest), allowed, budget);
        };
        if model.scope.is_empty() {
            disk.each_cut(written, add);
        } else {
            disk.each_cut_in(model.scope, written, add);
        }
    };
    let mut on_write = |disk: &Disk, cell: usize| cut(disk, Some(cell));
    let disk = Disk::of(state.pages.clone());
    let mut spare = Spare { disk, faults, flushes: 0, cut: &mut on_write };
    let number = model.opens - state.opens + 1;
    let mut served = open(&mut spare, number).map_err(|refused| format!("refused: {refused:?}"))?;
    if !served.writable {
        return Err("served read-only".into());
    }
    for (content, allowed) in served.tables.iter().zip(&mut ghost.borrow_mut().0) {
        if !allowed.contains(content) {
            return Err(format!("{content:?} is served"));
        }
        *allowed = vec![*content];
    }
    cut(&spare.disk, None);
    while ghost.borrow().1 > 0 {
        let pages = &model.changes[choice % model.changes.len()];
        choice /= model.changes.len();
        let place = {
            let mut ghost = ghost.borrow_mut();
            ghost.1 -= 1;
            let place = ghost.1 % meta::SLOTS as u8;
            let value = number * 4 + ghost.1;
            for page in pages {
                let allowed = &mut ghost.0[usize::from(*page)];
                let mut content = allowed[0];
                content[usize::from(place)] = value;
                allowed.push(content);
                let id = PageId::Table(PageIndex((*page).into()));
                let joined = served.commit.join(id, Change { place, value }, (*page).into());
                if let Err(refusal) = joined {
                    return Err(format!("not joined: {refusal:?}"));
                }
            }
            place
        };
        let _ = place;
        let mut told = |disk: &Disk, token: u32, kind: OutcomeKind| {
            {
                let allowed = &mut ghost.borrow_mut().0[token as usize];
                match kind {
                    OutcomeKind::Acknowledged => drop(allowed.remove(0)),
                    OutcomeKind::Failed | OutcomeKind::Reversed => allowed.truncate(1),
                    OutcomeKind::InDoubt => return,
                }
            }
            cut(disk, None);
        };
        drive(&mut served.commit, &mut spare, 0, &mut told);
        for second in 1..4 {
            if served.commit.in_doubt() > 0 {
                drive(&mut served.commit, &mut spare, second * 1000, &mut told);
            }
        }
        if served.commit.in_doubt() > 0 || served.commit.degraded() {
            break;
        }
    }
    Ok(())
}

fn none() -> Faults {
    Faults::default()
}

/// No fault, or one copy whose reads fail, whose writes fail, or both.
fn one_copy() -> Vec<Faults> {
    let mut all = vec![none()];
    for copy in 0..5 {
        let bit = 1 << copy;
        all.push(Faults { reads: bit, ..none() });
        all.push(Faults { writes: bit, ..none() });
        all.push(Faults { reads: bit, writes: bit, ..none() });
    }
    all
}

fn check(model: &Model) {
    if let Err(what) = explore(model) {
        panic!("{}: {what}", model.name);
    }
}

#[test]
fn one_page_cuts_only() {
    check(&Model {
        name: "one page, cuts only, 3 opens, 2 commits",
        tables: 1,
        opens: 3,
        commits: 2,
        faults: vec![none()],
        changes: vec![vec![0]],
        scope: &[],
    });
}

#[test]
fn one_page_two_opens() {
    check(&Model {
        name: "one page, 2 opens, 2 commits, one faulty copy",
        tables: 1,
        opens: 2,
        commits: 2,
        faults: one_copy(),
        changes: vec![vec![0]],
        scope: &[],
    });
}

/// No fault, or one copy that can be neither read nor written.
fn one_dead_copy() -> Vec<Faults> {
    let dead = |copy: u8| Faults { reads: 1 << copy, writes: 1 << copy, ..none() };
    std::iter::once(none()).chain((0..5).map(dead)).collect()
}

#[test]
fn one_page_three_opens() {
    check(&Model {
        name: "one page, 3 opens, 2 commits, one dead copy",
        tables: 1,
        opens: 3,
        commits: 2,
        faults: one_dead_copy(),
        changes: vec![vec![0]],
        scope: &[2, 3],
    });
}

#[test]
fn zz_measure() {
    for (opens, commits, scope, faults) in [(3u8, 2u8, &[][..], one_dead_copy())] {
        let t = std::time::Instant::now();
        println!("{opens} {commits} {scope:?} {}", faults.len());
        check(&Model {
            name: "m",
            tables: 1,
            opens,
            commits,
            faults,
            changes: vec![vec![0]],
            scope,
        });
        println!("{:?}", t.elapsed());
    }
}
