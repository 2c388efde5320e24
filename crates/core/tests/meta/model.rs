// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The exhaustive search over sessions of commit and open; see `commit_open_exhaustive.rs`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use dmremap_core::commit::{Commit, OutcomeKind, PageId};
use dmremap_core::open::Refused;
use dmremap_format::PageIndex;

use super::{
    Change, Content, Disk, Faults, SLOTS, Spare, Tiny, TinyStore, answer, open, peek, spread,
};

/// What a model allows.
#[derive(Clone)]
pub struct Model {
    pub name: &'static str,
    /// Table pages.
    pub tables: u8,
    /// Opens that can be cut; one more is looked at behind them.
    pub opens: u8,
    /// Commits in all.
    pub commits: u8,
    /// One of these is in force for the length of a session.
    pub faults: Vec<Faults>,
    /// The sets of table pages a commit may change.
    pub changes: Vec<Vec<u8>>,
    /// The second change joins while the first is being written.
    pub overlap: bool,
    /// The pages (kinds, see [`Tiny::kind`]) whose copies a cut leaves in every combination of
    /// their outcomes; the copies of all others are whole after a cut. Empty = all pages.
    pub scope: &'static [u8],
}

/// For each table page: what may be served. The first is what was acknowledged or served last.
type Allowed = Vec<Vec<Content>>;

#[derive(Clone, Debug)]
struct State {
    pages: Vec<Tiny>,
    allowed: Allowed,
    opens: u8,
    commits: u8,
}

/// The hash itself.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u128 is hashed")
    }
    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

/// Disks seen, by 128 bits of hash, and those still to be followed.
#[derive(Default)]
pub struct Search {
    seen: HashSet<u128, BuildHasherDefault<Same>>,
    todo: Vec<State>,
    pub cuts: u64,
    pub sessions: u64,
    /// Changes that ended in doubt, and those that were reversed in their session.
    pub doubts: u64,
    pub reversals: u64,
    /// Opens refused because fewer than four copies took a page, or read-only for that reason.
    pub unwritten: u64,
}

impl Search {
    fn add(&mut self, pages: &[Tiny], hash: u128, allowed: &Allowed, budget: (u8, u8)) {
        self.cuts += 1;
        if self.seen.insert(hash) {
            let (pages, allowed) = (pages.to_vec(), allowed.clone());
            self.todo.push(State { pages, allowed, opens: budget.0, commits: budget.1 });
        }
    }

    /// Different disks, expectations and budgets.
    pub fn disks(&self) -> usize {
        self.seen.len()
    }
}

/// The hash of all of a state but its pages.
fn hash_rest(allowed: &Allowed, budget: (u8, u8)) -> u128 {
    let mut hasher = DefaultHasher::new();
    (allowed, budget).hash(&mut hasher);
    spread(hasher.finish())
}

/// Follows every disk until none is left, or until one shows a fault, which is told with the disk.
pub fn explore(model: &Model) -> (Search, Result<(), String>) {
    let start = Disk::formatted(model.tables);
    let pages: Vec<Tiny> = start.cells.iter().map(|c| c.now).collect();
    let allowed = vec![vec![[0; SLOTS]]; model.tables.into()];
    let mut search = Search::default();
    search.add(&pages, 0, &allowed, (model.opens, model.commits));
    while let Some(state) = search.todo.pop() {
        let result = if state.opens == 0 {
            look(&state)
        } else {
            model.faults.iter().try_for_each(|faults| sessions(model, &state, *faults, &mut search))
        };
        if result.is_err() {
            return (search, result);
        }
    }
    (search, Ok(()))
}

/// Runs a model that must hold, and prints its size.
pub fn check(model: &Model) -> Search {
    let (search, result) = explore(model);
    if let Err(what) = result {
        panic!("{}: {what}", model.name);
    }
    println!(
        "{}: {} disks, {} sessions, {} cuts; {} doubts, {} reversals, {} not written",
        model.name,
        search.disks(),
        search.sessions,
        search.cuts,
        search.doubts,
        search.reversals,
        search.unwritten
    );
    search
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

/// Sessions from `state`: one for every choice of what is committed in it.
fn sessions(
    model: &Model,
    state: &State,
    faults: Faults,
    search: &mut Search,
) -> Result<(), String> {
    for choice in 0..model.changes.len().pow(state.commits.into()) {
        search.sessions += 1;
        let session = Session {
            model,
            left: state.opens - 1,
            number: model.opens - state.opens + 1,
            choice: Cell::new(choice),
            ghost: RefCell::new(Ghost {
                allowed: state.allowed.clone(),
                commits: state.commits,
                search,
            }),
        };
        session
            .run(state, faults)
            .map_err(|what| format!("{what}\nfrom {state:?}\nunder {faults:?}"))?;
    }
    Ok(())
}

/// What the model knows beside the machines.
struct Ghost<'a> {
    allowed: Allowed,
    commits: u8,
    search: &'a mut Search,
}

struct Session<'a> {
    model: &'a Model,
    /// Opens left behind this one.
    left: u8,
    number: u8,
    choice: Cell<usize>,
    ghost: RefCell<Ghost<'a>>,
}

impl Session<'_> {
    /// A power cut may come now.
    fn cut(&self, disk: &Disk, written: Option<usize>) {
        let mut ghost = self.ghost.borrow_mut();
        let Ghost { allowed, commits, search } = &mut *ghost;
        let budget = (self.left, *commits);
        let rest = hash_rest(allowed, budget);
        let add = |pages: &[Tiny], hash: u128| {
            search.add(pages, hash.wrapping_add(rest), allowed, budget);
        };
        if self.model.scope.is_empty() {
            disk.each_cut(written, add);
        } else {
            disk.each_cut_in(self.model.scope, written, add);
        }
    }

    fn told(&self, disk: &Disk, token: u32, kind: OutcomeKind) {
        {
            let mut ghost = self.ghost.borrow_mut();
            let (page, value) = ((token >> 8) as usize, token as u8);
            let allowed = &mut ghost.allowed[page];
            let begun = allowed.iter().skip(1).position(|c| c.contains(&value)).map(|at| at + 1);
            match kind {
                // What was begun later was begun on top of it.
                OutcomeKind::Acknowledged => drop(allowed.drain(..begun.expect("begun"))),
                OutcomeKind::Failed | OutcomeKind::Reversed => {
                    assert_eq!(begun, Some(allowed.len() - 1), "nothing was begun on top of it");
                    allowed.truncate(allowed.len() - 1);
                }
                OutcomeKind::InDoubt => {}
            }
            ghost.search.doubts += u64::from(kind == OutcomeKind::InDoubt);
            ghost.search.reversals += u64::from(kind == OutcomeKind::Reversed);
        }
        self.cut(disk, None);
    }

    /// Joins the next change; false if none is left.
    fn join(&self, commit: &mut Commit<TinyStore>) -> Result<bool, String> {
        let mut ghost = self.ghost.borrow_mut();
        if ghost.commits == 0 {
            return Ok(false);
        }
        let pages = &self.model.changes[self.choice.get() % self.model.changes.len()];
        self.choice.set(self.choice.get() / self.model.changes.len());
        ghost.commits -= 1;
        let place = ghost.commits % SLOTS as u8;
        let value = self.number * 4 + ghost.commits;
        for page in pages {
            let allowed = &mut ghost.allowed[usize::from(*page)];
            let mut content = *allowed.last().expect("the acknowledged one");
            content[usize::from(place)] = value;
            allowed.push(content);
            let id = PageId::Table(PageIndex((*page).into()));
            let token = u32::from(*page) << 8 | u32::from(value);
            if let Err(refusal) = commit.join(id, Change { place, value }, token) {
                return Err(format!("not joined: {refusal:?}"));
            }
        }
        Ok(true)
    }

    fn run(&self, state: &State, faults: Faults) -> Result<(), String> {
        let mut on_write = |disk: &Disk, cell: usize| self.cut(disk, Some(cell));
        let mut spare = Spare::new(Disk::of(state.pages.clone()), faults, &mut on_write);
        let Some(mut commit) = self.open(&mut spare)? else { return Ok(()) };
        while self.join(&mut commit)? {
            self.drive(&mut commit, &mut spare, 0)?;
            for second in 1..4 {
                if commit.in_doubt() > 0 {
                    commit.tick(second * 1000);
                    self.drive(&mut commit, &mut spare, second * 1000)?;
                }
            }
            if commit.in_doubt() > 0 {
                break;
            }
        }
        Ok(())
    }

    fn open(&self, spare: &mut Spare<'_>) -> Result<Option<Commit<TinyStore>>, String> {
        let faults = spare.faults;
        let broken = faults.flush.is_some() || faults.writes.count_ones() > 1;
        let unwritten = |refused: &Refused| {
            matches!(
                refused,
                Refused::GenerationNotWritten { .. } | Refused::RepairNotWritten { .. }
            )
        };
        let served = match open(spare, self.number) {
            Ok(served) => served,
            Err(refused) if broken && unwritten(&refused) => {
                self.ghost.borrow_mut().search.unwritten += 1;
                self.cut(&spare.disk, None);
                return Ok(None);
            }
            Err(refused) => return Err(format!("refused: {refused:?}")),
        };
        for (content, allowed) in served.tables.iter().zip(&mut self.ghost.borrow_mut().allowed) {
            if !allowed.contains(content) {
                return Err(format!("{content:?} is served"));
            }
            // A read-only open binds no later one.
            if served.writable {
                *allowed = vec![*content];
            }
        }
        self.cut(&spare.disk, None);
        if served.writable {
            return Ok(Some(served.commit));
        }
        self.ghost.borrow_mut().search.unwritten += 1;
        if broken { Ok(None) } else { Err("read-only".into()) }
    }

    /// Runs the commit machine until it waits for time.
    fn drive(
        &self,
        commit: &mut Commit<TinyStore>,
        spare: &mut Spare<'_>,
        now: u64,
    ) -> Result<(), String> {
        loop {
            let io = commit.next_io(now);
            while let Some(outcome) = commit.next_outcome() {
                self.told(&spare.disk, outcome.token, outcome.kind);
            }
            let Some(io) = io else { return Ok(()) };
            answer(commit, spare, io, now);
            if self.model.overlap {
                self.join(commit)?;
            }
        }
    }
}
