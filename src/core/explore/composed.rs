//! The supervisor over services that are known by their outlines alone.
//!
//! Each service is the automaton of all moves that its own exploration has shown, under every
//! behaviour of its gates. So what holds here holds for real services, as far as it is about
//! safety. That something good is reached at last is shown by walks of real ones (`walks.rs`).

use std::collections::BTreeSet;

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

    fn after(&self, outline: Outline, act: Act, gates: Gates) -> Vec<(Outline, News)> {
        // Why a gate is closed does not matter to a service.
        let known = |gate| if gate == Gate::Open { gate } else { CLOSED };
        let gates = Gates { build: known(gates.build), start: known(gates.start) };
        self.moves.get(&(outline, act, gates)).into_iter().flatten().copied().collect()
    }
}

type State = (Vec<Outline>, Supervisor);

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

impl Composition<'_> {
    /// What can come of one service's act.
    fn moved(&self, (all, supervisor): &State, id: ServiceId, act: Act) -> Vec<State> {
        let gates = (self.machine.gates)(supervisor, all, id);
        let moves = self.automaton.after(all[id.0], act, gates).into_iter();
        let next = |(after, news)| {
            let (mut all, mut supervisor) = (all.clone(), supervisor.clone());
            all[id.0] = after;
            (self.machine.moved)(&mut supervisor, id, after, news);
            (all, supervisor)
        };
        moves.map(next).collect()
    }

    /// Lets all services move, in every way that the real ones could, until none does.
    fn settled(&self, from: Vec<State>) -> Result<Vec<State>, String> {
        let mut at_rest = Vec::new();
        let mut seen: HashSet<State> = HashSet::new();
        let mut open: Vec<(State, usize)> = from.into_iter().map(|state| (state, 0)).collect();
        while let Some((state, depth)) = open.pop() {
            expect(depth < 60, || format!("it does not settle: {state:?}"))?;
            if !seen.insert(state.clone()) {
                continue;
            }
            let mut moves = Vec::new();
            for service in self.graph.services() {
                if let Some(order) = (self.machine.order)(&state.1, &state.0, service) {
                    self.ends_in_order(&state, service, &order)?;
                    moves.extend(self.moved(&state, service, Act::of(&order)));
                }
                moves.extend(self.moved(&state, service, Act::Look));
                moves.retain(|next| *next != state);
                if !moves.is_empty() {
                    break;
                }
            }
            if moves.is_empty() {
                at_rest.push(state);
            } else {
                open.extend(moves.into_iter().map(|next| (next, depth + 1)));
            }
        }
        Ok(at_rest)
    }

    fn ends_in_order(&self, (all, _): &State, id: ServiceId, order: &Input) -> Broken {
        let is_needed = self.graph.dependents(id).any(|other| all[other.0].stage != Stage::Ended);
        expect(*order != Input::Quit || !is_needed, || {
            format!("{id:?} is asked to end before a service that needs it: {all:?}")
        })
    }

    /// What must hold between two states in which nothing moves.
    fn consistent(&self, before: &State, after: &State) -> Broken {
        let (all, supervisor) = after;
        let running = all.iter().filter(|one| one.making == Making::Running).count();
        promise(running <= self.jobs, "more services build than may")?;
        for service in self.graph.services() {
            let has_just_started = is_first_start(before, after, service);
            for edge in self.graph.edges(service).iter().filter(|_| has_just_started) {
                let other = all[edge.on.0];
                let is_there = match edge.when {
                    When::Built => other.is_built,
                    When::Ready => matches!(other.serving, Serving::Ready | Serving::Replacing),
                };
                promise(is_there, "a service starts before one that it depends on")?;
            }
            if supervisor.ending == Ending::No {
                let is_live = all[service.0].stage == Stage::Live;
                promise(is_live, "one service has ended, and the others go on")?;
                let order = (self.machine.order)(supervisor, all, service);
                promise(order.is_none(), "an order is left over")?;
                let was_due = matches!(before.0[service.0].serving, Serving::Down | Serving::Due);
                let has_just_started = was_due && all[service.0].serving == Serving::Starting;
                let is_stale = supervisor.is_stale(service);
                promise(!(has_just_started && is_stale), "a service stays stale after a start")?;
            }
        }
        if supervisor.ending == Ending::Forced {
            let ends = all.iter().all(|one| one.stage != Stage::Live);
            promise(ends, "a second Ctrl-C ends everything")?;
        }
        Ok(())
    }

    fn explore(&self) -> Result<usize, String> {
        let count = self.graph.services().count();
        let supervisor = Supervisor::new(self.graph.clone(), self.jobs);
        let first: State = (vec![self.automaton.start; count], supervisor);
        let mut seen = HashSet::from([first.clone()]);
        let mut queue = VecDeque::from([first]);
        while let Some(state) = queue.pop_front() {
            let mut begun = vec![vec![interrupted(&state)], vec![paused(&state)]];
            for service in self.graph.services() {
                begun.push(self.moved(&state, service, Act::Happens));
                if state.1.ending == Ending::No {
                    begun.push(self.moved(&state, service, Act::Restart));
                }
            }
            for begun in begun {
                for next in self.settled(begun)? {
                    self.consistent(&state, &next)
                        .map_err(|why| format!("{why}\n  from {state:?}\n  to {next:?}"))?;
                    if seen.insert(next.clone()) {
                        queue.push_back(next);
                    }
                }
            }
        }
        Ok(seen.len())
    }
}

fn is_first_start(before: &State, after: &State, service: ServiceId) -> bool {
    let runs = |(all, _): &State| {
        matches!(all[service.0].serving, Serving::Starting | Serving::Ready | Serving::Replacing)
    };
    !before.1.has_started(service) && !runs(before) && runs(after)
}

fn interrupted((all, supervisor): &State) -> State {
    let mut supervisor = supervisor.clone();
    supervisor.ending = match supervisor.ending {
        Ending::No => Ending::Asked,
        Ending::Asked | Ending::Forced => Ending::Forced,
    };
    (all.clone(), supervisor)
}

fn paused((all, supervisor): &State) -> State {
    let mut supervisor = supervisor.clone();
    supervisor.is_paused = !supervisor.is_paused;
    (all.clone(), supervisor)
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
