//! The supervisor over services that are known by their outlines alone.
//!
//! Each service is the automaton of all moves that its own exploration has shown, under every
//! behaviour of its gates. So what holds here holds for real services, as far as it is about
//! safety. That something good is reached at last is shown by walks of real ones (`walks.rs`).

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::scopes::{HANDOVER, PLAIN, scope};
use super::*;
use crate::core::graph::{Edge, Graph, ServiceId, When};
use crate::core::supervisor::{Ending, Making, Serving, Stage, Supervisor};

/// Everything that a service can do, as seen from outside.
struct Automaton {
    start: Outline,
    moves: HashMap<(Outline, Act, Gates), BTreeSet<(Outline, News)>>,
}

impl Automaton {
    /// Explores services with these policies.
    fn of(policies: &[Policy], unbuilt: bool) -> Self {
        let mut moves: HashMap<(Outline, Act, Gates), BTreeSet<(Outline, News)>> = HashMap::new();
        for policy in policies {
            let scope = Scope { gates: ALL_GATES, unbuilt, max_living: 2, ..scope(*policy) };
            let explored = explore(Service::step, &scope).unwrap_or_else(|why| panic!("{why}"));
            for (before, act, gates, after, news) in explored.moves {
                moves.entry((before, act, gates)).or_default().insert((after, news));
            }
        }
        Self { start: Outline::of(&Service::new(policies[0])), moves }
    }

    fn after(
        &self,
        outline: Outline,
        act: Act,
        gates: Gates,
    ) -> impl Iterator<Item = (Outline, News)> {
        // Why a gate is closed does not matter to a service.
        let known = |gate| if gate == Gate::Open { gate } else { CLOSED };
        let gates = Gates { build: known(gates.build), start: known(gates.start) };
        self.moves.get(&(outline, act, gates)).into_iter().flatten().copied()
    }
}

const MOST_SERVICES: usize = 3;

/// The outlines of all services, and the supervisor by its number: small, since millions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Those beyond the number of services stay as they are.
    outlines: [Outline; MOST_SERVICES],
    supervisor: usize,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let start = self.supervisor as u64;
        hasher.write_u64(self.outlines.iter().fold(start, |packed, one| {
            let outline = [one.making as u64, one.serving as u64, one.stage as u64];
            outline.iter().fold(packed << 1 | u64::from(one.is_built), |all, part| all << 3 | part)
        }));
    }
}

/// The supervisor under test: the real one, or one with a fault planted.
#[derive(Clone, Copy)]
struct Machine {
    gates: fn(&Supervisor, &[Outline], ServiceId) -> Gates,
    moved: fn(&mut Supervisor, ServiceId, Outline, News),
    order: fn(&Supervisor, &[Outline], ServiceId) -> Option<Input>,
}

const REAL: Machine =
    Machine { gates: Supervisor::gates, moved: Supervisor::moved, order: Supervisor::order };

/// What is explored.
struct Composition<'a> {
    machine: Machine,
    automaton: &'a Automaton,
    graph: &'a Graph,
    jobs: usize,
}

/// What may come of a move: the service's outline, and the supervisor.
type Moved = Rc<[(Outline, usize)]>;

/// An exploration. What has been found out once is kept.
struct Exploration<'a> {
    of: &'a Composition<'a>,
    /// Each supervisor once. There are few.
    supervisors: Vec<Supervisor>,
    /// What can come of a service's act, by the supervisor, the service and its outline.
    acts: Quick<(usize, usize, Outline, Act, Gates), Moved>,
    /// In which states everything may come to rest.
    rests: Quick<State, Rc<[State]>>,
}

impl Exploration<'_> {
    /// What the supervisor and the services are in a state.
    fn parts<'a>(&'a self, state: &'a State) -> Parts<'a> {
        let count = self.of.graph.services().count();
        (&self.supervisors[state.supervisor], &state.outlines[..count])
    }

    fn number(&mut self, supervisor: Supervisor) -> usize {
        self.supervisors.iter().position(|one| *one == supervisor).unwrap_or_else(|| {
            self.supervisors.push(supervisor);
            self.supervisors.len() - 1
        })
    }

    /// What can come of one service's act.
    fn moved(&mut self, state: &State, id: ServiceId, act: Act) -> Vec<State> {
        let (supervisor, all) = self.parts(state);
        let gates = (self.of.machine.gates)(supervisor, all, id);
        let before = all[id.0];
        let key = (state.supervisor, id.0, before, act, gates);
        let moves = self.acts.get(&key).cloned().unwrap_or_else(|| {
            let mut moves = BTreeSet::new();
            for (after, news) in self.of.automaton.after(before, act, gates) {
                let mut supervisor = self.supervisors[state.supervisor].clone();
                (self.of.machine.moved)(&mut supervisor, id, after, news);
                moves.insert((after, self.number(supervisor)));
            }
            let moves: Moved = moves.into_iter().collect();
            self.acts.insert(key, Rc::clone(&moves));
            moves
        });
        let next = |(after, supervisor): &(Outline, usize)| {
            let mut outlines = state.outlines;
            outlines[id.0] = *after;
            State { outlines, supervisor: *supervisor }
        };
        moves.iter().map(next).collect()
    }

    /// Lets all services move, in every way that the real ones could, until none does.
    fn rests(&mut self, begun: &State) -> Result<Rc<[State]>, String> {
        if let Some(known) = self.rests.get(begun) {
            return Ok(Rc::clone(known));
        }
        let mut rests = QuickSet::default();
        self.settle(begun, 0, &mut QuickSet::default(), &mut rests)?;
        let rests: Rc<[State]> = rests.into_iter().collect();
        // Where moves go round in a circle, only where they began has all rests.
        self.rests.insert(*begun, Rc::clone(&rests));
        Ok(rests)
    }

    /// Adds the states in which what moves in `state` comes to rest, but not those that a state of
    /// `seen` leads to. Returns whether there are none of these.
    fn settle(
        &mut self,
        state: &State,
        depth: usize,
        seen: &mut QuickSet<State>,
        rests: &mut QuickSet<State>,
    ) -> Result<bool, String> {
        if let Some(known) = self.rests.get(state) {
            rests.extend(known.iter().copied());
            return Ok(true);
        }
        if !seen.insert(*state) {
            return Ok(false);
        }
        expect(depth < 60, || format!("it does not settle: {:?}", self.parts(state)))?;
        let moves = self.moves(state)?;
        let mut own = QuickSet::default();
        let mut are_all = true;
        for next in &moves {
            are_all &= self.settle(next, depth + 1, seen, &mut own)?;
        }
        if moves.is_empty() {
            own.insert(*state);
        }
        rests.extend(own.iter().copied());
        if are_all {
            self.rests.insert(*state, own.into_iter().collect());
        }
        Ok(are_all)
    }

    /// The moves of the first service that has any.
    fn moves(&mut self, state: &State) -> Result<Vec<State>, String> {
        for service in self.of.graph.services() {
            let mut moves = Vec::new();
            let (supervisor, all) = self.parts(state);
            if let Some(order) = (self.of.machine.order)(supervisor, all, service) {
                self.of.ends_in_order(all, service, &order)?;
                moves.extend(self.moved(state, service, Act::of(&order)));
            }
            moves.extend(self.moved(state, service, Act::Look));
            moves.retain(|next| next != state);
            if !moves.is_empty() {
                return Ok(moves);
            }
        }
        Ok(Vec::new())
    }

    /// What can begin in a state in which nothing moves.
    fn begun(&mut self, state: &State) -> Vec<State> {
        let supervisor = self.supervisors[state.supervisor].clone();
        let is_ending = supervisor.ending != Ending::No;
        let changed = [interrupted(supervisor.clone()), paused(supervisor)];
        let changed = changed.map(|one| State { supervisor: self.number(one), ..*state });
        let mut begun = Vec::from(changed);
        for service in self.of.graph.services() {
            begun.extend(self.moved(state, service, Act::Happens));
            if !is_ending {
                begun.extend(self.moved(state, service, Act::Restart));
            }
        }
        begun
    }

    fn explore(&mut self) -> Result<usize, String> {
        let supervisor = Supervisor::new(self.of.graph.clone(), self.of.jobs);
        let outlines = [self.of.automaton.start; MOST_SERVICES];
        let mut states = vec![State { outlines, supervisor: self.number(supervisor) }];
        let mut seen = QuickSet::default();
        seen.insert(states[0]);
        let mut place = 0;
        while let Some(state) = states.get(place).copied() {
            for begun in self.begun(&state) {
                for next in self.rests(&begun)?.iter() {
                    let [before, after] = [&state, next].map(|state| self.parts(state));
                    let is_new = seen.insert(*next);
                    let consistent = self
                        .of
                        .starts_well(before, after)
                        .and_then(|()| if is_new { self.of.consistent(after) } else { Ok(()) });
                    consistent
                        .map_err(|why| format!("{why}\n  from {before:?}\n  to {after:?}"))?;
                    if is_new {
                        states.push(*next);
                    }
                }
            }
            place += 1;
        }
        Ok(states.len())
    }
}

/// What a state consists of.
type Parts<'a> = (&'a Supervisor, &'a [Outline]);

impl Composition<'_> {
    fn explore(&self) -> Result<usize, String> {
        let (acts, rests) = (Quick::default(), Quick::default());
        Exploration { of: self, supervisors: Vec::new(), acts, rests }.explore()
    }

    fn ends_in_order(&self, all: &[Outline], id: ServiceId, order: &Input) -> Broken {
        let is_needed = self.graph.dependents(id).any(|other| all[other.0].stage != Stage::Ended);
        expect(*order != Input::Quit || !is_needed, || {
            format!("{id:?} is asked to end before a service that needs it: {all:?}")
        })
    }

    /// What must hold between two states in which nothing moves.
    fn starts_well(&self, before: Parts, (supervisor, all): Parts) -> Broken {
        for service in self.graph.services() {
            if !is_running(before.1[service.0]) && is_running(all[service.0]) {
                let is_first = !before.0.has_started(service);
                for edge in self.graph.edges(service).iter().filter(|_| is_first) {
                    let other = all[edge.on.0];
                    let is_there = match edge.when {
                        When::Built => other.is_built,
                        When::Ready => matches!(other.serving, Serving::Ready | Serving::Replacing),
                    };
                    promise(is_there, "a service starts before one that it depends on")?;
                }
                let has_just_started = all[service.0].serving == Serving::Starting;
                let is_stale = supervisor.ending == Ending::No && supervisor.is_stale(service);
                promise(!(has_just_started && is_stale), "a service stays stale after a start")?;
            }
        }
        Ok(())
    }

    /// What must hold of a state in which nothing moves.
    fn consistent(&self, (supervisor, all): Parts) -> Broken {
        let running = all.iter().filter(|one| one.making == Making::Running).count();
        promise(running <= self.jobs, "more services build than may")?;
        for service in self.graph.services().filter(|_| supervisor.ending == Ending::No) {
            let is_live = all[service.0].stage == Stage::Live;
            promise(is_live, "one service has ended, and the others go on")?;
            let order = (self.machine.order)(supervisor, all, service);
            promise(order.is_none(), "an order is left over")?;
        }
        if supervisor.ending == Ending::Forced {
            let ends = all.iter().all(|one| one.stage != Stage::Live);
            promise(ends, "a second Ctrl-C ends everything")?;
        }
        Ok(())
    }
}

fn is_running(outline: Outline) -> bool {
    match outline.serving {
        Serving::Down | Serving::Due => false,
        Serving::Starting | Serving::Ready | Serving::Replacing => true,
    }
}

fn interrupted(mut supervisor: Supervisor) -> Supervisor {
    supervisor.ending = match supervisor.ending {
        Ending::No => Ending::Asked,
        Ending::Asked | Ending::Forced => Ending::Forced,
    };
    supervisor
}

fn paused(mut supervisor: Supervisor) -> Supervisor {
    supervisor.is_paused = !supervisor.is_paused;
    supervisor
}

pub(super) fn edge(on: usize, when: When, cascades: bool) -> Edge {
    Edge { on: ServiceId(on), when, cascades }
}

pub(super) fn graph(edges: &[&[Edge]]) -> Graph {
    Graph::new(edges.iter().map(|edges| edges.to_vec()).collect()).expect("no cycle")
}

fn every_promise_holds(policies: &[Policy], graphs: &[Graph]) {
    // With three services there are too many states.
    let unbuilt = graphs.iter().all(|graph| graph.services().count() == 2);
    let automaton = Automaton::of(policies, unbuilt);
    for graph in graphs {
        for jobs in [1, 2] {
            let composition = Composition { machine: REAL, automaton: &automaton, graph, jobs };
            let states =
                composition.explore().unwrap_or_else(|why| panic!("{graph:?}, {jobs} jobs: {why}"));
            println!("{graph:?}, {jobs} jobs: {states} states");
            assert!(states > 50, "the exploration did not get anywhere");
        }
    }
}

fn of_two() -> Vec<Graph> {
    let whens = [When::Ready, When::Built];
    let edges =
        whens.iter().flat_map(|when| [true, false].map(|cascades| edge(0, *when, cascades)));
    let mut graphs: Vec<Graph> = edges.map(|edge| graph(&[&[], &[edge]])).collect();
    graphs.push(graph(&[&[], &[]]));
    graphs
}

/// A chain, a fork, a join, a triangle, and a library below two programs.
fn of_three() -> Vec<Graph> {
    let ready = |on| edge(on, When::Ready, true);
    let plain = |on| edge(on, When::Ready, false);
    let built = |on| edge(on, When::Built, true);
    vec![
        graph(&[&[], &[ready(0)], &[ready(1)]]),
        graph(&[&[], &[ready(0)], &[plain(0)]]),
        graph(&[&[], &[], &[ready(0), plain(1)]]),
        graph(&[&[], &[ready(0)], &[ready(0), ready(1)]]),
        graph(&[&[], &[built(0)], &[built(0), plain(1)]]),
    ]
}

const QUIT: Policy = Policy { on_exit: OnExit::Quit, ..PLAIN };
const RESTART: Policy = Policy { on_exit: OnExit::Restart, ..PLAIN };

#[test]
fn every_promise_holds_with_two_services() {
    every_promise_holds(&[PLAIN], &of_two());
    every_promise_holds(&[HANDOVER], &of_two());
}

#[test]
fn every_promise_holds_with_two_services_that_end_or_restart_by_themselves() {
    every_promise_holds(&[PLAIN, QUIT, RESTART], &of_two());
}

#[test]
fn every_promise_holds_with_three_services() {
    every_promise_holds(&[PLAIN], &of_three());
}

#[test]
fn every_promise_holds_with_three_services_that_hand_over() {
    every_promise_holds(&[HANDOVER], &of_three());
}

// That this exploration can fail, too.

fn ignores_jobs(supervisor: &Supervisor, all: &[Outline], service: ServiceId) -> Gates {
    let gates = supervisor.gates(all, service);
    let is_held = gates.build == Gate::Closed(Hold::Jobs);
    Gates { build: if is_held { Gate::Open } else { gates.build }, ..gates }
}

fn starts_at_once(supervisor: &Supervisor, all: &[Outline], service: ServiceId) -> Gates {
    let gates = supervisor.gates(all, service);
    let is_held = gates.start == Gate::Closed(Hold::Upstream);
    Gates { start: if is_held { Gate::Open } else { gates.start }, ..gates }
}

fn stays_stale(supervisor: &mut Supervisor, service: ServiceId, after: Outline, news: News) {
    let started = news.started && !supervisor.has_started(service);
    supervisor.moved(service, after, News { started, ..news });
}

fn lets_the_others_go_on(
    supervisor: &mut Supervisor,
    service: ServiceId,
    after: Outline,
    news: News,
) {
    let ending = supervisor.ending;
    supervisor.moved(service, after, news);
    supervisor.ending = ending;
}

fn ends_all_at_once(supervisor: &Supervisor, all: &[Outline], service: ServiceId) -> Option<Input> {
    let is_live = all[service.0].stage == Stage::Live;
    if supervisor.ending == Ending::Asked && is_live {
        return Some(Input::Quit);
    }
    supervisor.order(all, service)
}

fn is_deaf_to_a_second_ctrl_c(
    supervisor: &Supervisor,
    all: &[Outline],
    service: ServiceId,
) -> Option<Input> {
    supervisor.order(all, service).filter(|order| *order != Input::Kill)
}

#[test]
fn every_fault_of_a_supervisor_is_caught() {
    let automaton = Automaton::of(&[QUIT], false);
    let graph = graph(&[&[], &[edge(0, When::Ready, true)]]);
    let faults = [
        (Machine { gates: ignores_jobs, ..REAL }, "more services build"),
        (Machine { gates: starts_at_once, ..REAL }, "starts before"),
        (Machine { moved: lets_the_others_go_on, ..REAL }, "the others go on"),
        (Machine { moved: stays_stale, ..REAL }, "stays stale"),
        (Machine { order: ends_all_at_once, ..REAL }, "asked to end before"),
        (Machine { order: is_deaf_to_a_second_ctrl_c, ..REAL }, "second Ctrl-C"),
    ];
    for (machine, breaks) in faults {
        let composition = Composition { machine, automaton: &automaton, graph: &graph, jobs: 1 };
        match composition.explore() {
            Ok(states) => panic!("{breaks}: not caught in {states} states"),
            Err(why) => assert!(why.contains(breaks), "{breaks}: caught, but as: {why}"),
        }
    }
}

/// The automata come from states with at most two processes. With three there is no other move.
#[test]
fn more_processes_add_no_move_that_a_supervisor_sees() {
    for policy in [PLAIN, HANDOVER] {
        let [few, more] = [2, 3].map(|max_living| {
            let scope = Scope { gates: ALL_GATES, max_living, ..scope(policy) };
            explore(Service::step, &scope).unwrap_or_else(|why| panic!("{why}")).moves
        });
        let added: Vec<&Move> = more.difference(&few).collect();
        assert!(added.is_empty(), "{:?}: {added:#?}", policy.mode);
    }
}
