//! Every state of one service that can be reached, under every behaviour of its gates, and every
//! promise on every transition.
//!
//! A fake world keeps what the service cannot know: which processes are alive, which were asked to
//! exit, and whether a build, an artifact and an app come from the newest source. The exploration
//! goes breadth-first through pairs of service and world, and from each pair follows what must come
//! of it (`liveness.rs`). That it can fail is shown by planted faults (`faults.rs`), each of which
//! it must catch.

use std::collections::{BTreeMap, HashMap, HashSet};

use nix::sys::signal::Signal;

use super::service::{
    App, Effect, Gate, Gates, Hold, Input, Life, Lived, MAX_DRAINING, Origin, Owed, Phase, Service,
    Slot, Work,
};
use super::supervisor::{News, Outline};
use crate::event::{Cause, Ended, Mode, OnExit, Policy, Proc, Role, Source, Timer};

/// Makes a test of each scope, in which `every_promise_holds` of the module that names it.
macro_rules! explored {
    ($($test:ident: $scope:expr;)*) => {
        mod every_promise_holds_in {
            use super::*;
            $(
                #[test]
                fn $test() {
                    every_promise_holds(stringify!($test), &$scope);
                }
            )*
        }
    };
}

mod backoff;
mod composed;
mod faults;
mod picture;
mod scopes;
mod terminal;
mod walks;

mod liveness;
mod promises;
mod machine;
mod world;

use liveness::Futures;
use machine::{Answer, AnswerId, Id, Machine, Quick, QuickSet, Step};
use promises::transition;
use world::{Living, World, happen};

/// What one exploration covers.
#[derive(Clone, Copy)]
struct Scope {
    policy: Policy,
    /// The policy that a reload may bring.
    other: Option<Policy>,
    /// Each input arrives with each of these gates.
    gates: &'static [Gates],
    follow_ups: bool,
    /// Files of rules, and files that only the app reads, are saved too.
    rules: bool,
    /// What was built may be deleted.
    unbuilt: bool,
    /// There may be good artifacts to go back to, and a user may want that.
    rollbacks: bool,
    /// States with more living processes are not explored further.
    max_living: usize,
}

const CLOSED: Gate = Gate::Closed(Hold::Paused);
/// Nothing is held back.
const OPEN: &[Gates] = &[Gates::OPEN];
/// Builds may be paused.
const PAUSES: &[Gates] = &[Gates::OPEN, Gates { build: CLOSED, start: Gate::Open }];
/// Everything that a supervisor may do.
const ALL_GATES: &[Gates] = &[
    Gates::OPEN,
    Gates { build: CLOSED, start: Gate::Open },
    Gates { build: Gate::Open, start: CLOSED },
    Gates { build: CLOSED, start: CLOSED },
];

type Broken = Result<(), String>;

fn promise(kept: bool, name: &str) -> Broken {
    expect(kept, || name.to_owned())
}

/// As `promise`, where to name it takes time.
fn expect(kept: bool, name: impl FnOnce() -> String) -> Broken {
    if kept { Ok(()) } else { Err(name()) }
}

// What the state says, for the promises and the planted faults.

fn regions(service: &Service) -> Option<(&Work, Slot)> {
    match &service.phase {
        Phase::Live { work, slot } => Some((work, *slot)),
        Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => None,
    }
}

fn slot(service: &Service) -> Option<Slot> {
    regions(service).map(|(_, slot)| slot)
}

fn is_ending(service: &Service) -> bool {
    regions(service).is_none()
}

/// The build that runs and was not cancelled.
fn building(service: &Service) -> Option<Proc> {
    match regions(service) {
        Some((Work::Building { build, .. }, _)) => Some(*build),
        _ => None,
    }
}

fn running_rules(service: &Service) -> Option<Proc> {
    match regions(service) {
        Some((Work::RunningRules { rules, .. }, _)) => Some(*rules),
        _ => None,
    }
}

fn owed(service: &Service) -> Owed {
    regions(service).and_then(|(work, _)| work.clone().owed_mut().cloned()).unwrap_or_default()
}

/// The app that was started beside one that serves.
fn half_started(service: &Service) -> Option<Proc> {
    match slot(service) {
        Some(Slot::Handover { new, .. }) => Some(new.proc),
        _ => None,
    }
}

/// The only app, or the one that serves.
fn current(service: &Service) -> Option<App> {
    match slot(service) {
        Some(Slot::Single(app) | Slot::Handover { old: app, .. }) => Some(app),
        _ => None,
    }
}

/// The app whose start would be a failed one if it exited now.
fn unproven(service: &Service, proc: Proc) -> bool {
    let is_it = |app: App| app.proc == proc && !app.is_proven;
    match slot(service) {
        Some(Slot::Single(app)) => is_it(app),
        // The failure of one that starts beside another is none: the other serves.
        _ => false,
    }
}

/// Whether something waits for a gate, for its time, or for the start of an app. A step in which
/// that begins may take an app down.
fn may_begin(service: &Service, gates: Gates) -> bool {
    let may_build = gates.build == Gate::Open;
    match regions(service) {
        Some((Work::Installing(_), _)) => {
            gates.start == Gate::Open || may_build || !service.policy.runs
        }
        Some((Work::Due(owed), _)) => {
            may_build && (owed.restart || !service.pending.unwrap_or(service.policy).builds)
        }
        _ => false,
    }
}

fn is_held(service: &Service) -> bool {
    let owed = owed(service);
    [owed.rules, owed.build].into_iter().flatten().any(|request| request.origin == Origin::HeldSave)
}

/// Whether nothing runs that would read a source by itself, and nothing that will is under way.
fn revives(service: &Service) -> bool {
    let is_down =
        matches!(slot(service), Some(Slot::Empty { .. } | Slot::StartDue { backoff: Some(_) }));
    match regions(service) {
        Some((Work::Idle, _)) => is_down,
        Some((Work::Due(owed), _)) => is_down && owed.build.is_none(),
        Some((Work::RunningRules { .. }, slot)) => {
            matches!(slot, Slot::Empty { .. } | Slot::StartDue { .. })
        }
        _ => false,
    }
}

/// Whether follow-ups of the build wait.
fn has_follow_ups(service: &Service) -> bool {
    match regions(service) {
        Some((Work::Building { .. } | Work::Installing(_), _)) => true,
        Some((Work::Idle | Work::Due(_), slot)) => {
            matches!(slot, Slot::StartDue { backoff: None } | Slot::Handover { .. })
        }
        _ => false,
    }
}

/// Whether an order to go back is obeyed by starting something older.
fn may_roll_back(service: &Service, gates: Gates) -> bool {
    let is_at_rest = match regions(service) {
        Some((Work::Idle | Work::Installing(_), _)) => true,
        Some((Work::Due(_), slot)) => {
            gates.build != Gate::Open || matches!(slot, Slot::StartDue { backoff: None })
        }
        _ => false,
    };
    service.artifacts.older && is_at_rest && half_started(service).is_none()
}

fn none() -> Cause {
    Cause::Save(Vec::new())
}

/// Everything that can happen next.
fn inputs(scope: &Scope, service: &Service, world: &World) -> Vec<Input> {
    let mut inputs = vec![Input::Saved(none()), Input::Quit, Input::Kill, Input::Restart];
    if scope.gates.len() > 1 {
        inputs.push(Input::Look);
    }
    if scope.unbuilt {
        inputs.push(Input::Unbuilt);
    }
    if scope.rules {
        inputs.push(Input::Signal(Signal::SIGUSR1));
        inputs.extend([Input::Ruled(none()), Input::RuledByBuild(none())]);
        inputs.extend([Input::ReadByApp(none()), Input::Revival(none())]);
    }
    if scope.rollbacks {
        inputs.push(Input::Rollback);
        inputs.push(Input::Fallback(!service.artifacts.older));
        inputs.extend(half_started(service).map(Input::Proven));
        inputs.extend(current(service).map(|app| Input::Proven(app.proc)));
    }
    if scope.follow_ups {
        inputs.push(Input::FollowUp(none()));
    }
    inputs.extend(scope.other.map(Input::Reconfigured));
    for one in world.living.iter() {
        let proc = one.proc;
        if one.exited {
            inputs.push(Input::Gone(proc));
        } else {
            inputs.push(Input::Exited(proc, Ended::Code(0), Lived::Long));
            inputs.push(Input::Exited(proc, Ended::Code(1), Lived::Long));
        }
        if building(service) == Some(proc) && !one.exited {
            let apps = world.living.iter().filter(|app| app.is_same_when_built_again());
            inputs.extend(apps.map(|app| Input::BuiltSame { build: proc, app: app.proc }));
        }
        if one.role == Role::App {
            inputs.extend([Input::Ready(proc), Input::Running(proc), Input::Unready(proc)]);
        }
        if one.dismissed || one.role == Role::Hook {
            inputs.push(Input::Overdue(proc));
        }
    }
    inputs.extend(deadlines(service));
    inputs
}

fn deadlines(service: &Service) -> impl Iterator<Item = Input> {
    let backoff = match slot(service) {
        Some(Slot::StartDue { backoff }) => backoff,
        _ => None,
    };
    let timers = [service.spacing.map(Timer::Spacing), backoff.map(Timer::Backoff)];
    timers.into_iter().flatten().map(Input::Due)
}

/// Late reports about a process that is gone.
fn late_inputs() -> Vec<Input> {
    let gone = Proc(0);
    vec![
        Input::Exited(gone, Ended::Code(0), Lived::Long),
        Input::Gone(gone),
        Input::Ready(gone),
        Input::Running(gone),
        Input::Unready(gone),
        Input::Proven(gone),
        Input::Overdue(gone),
        Input::Due(Timer::Spacing(gone)),
        Input::Due(Timer::Backoff(gone)),
    ]
}

/// A service and the world around it.
#[derive(Clone, Copy)]
struct Pair {
    service: Id,
    world: World,
}

/// What tells two pairs apart.
type Key = (Id, u128);

impl Pair {
    fn key(&self) -> Key {
        (self.service, self.world.packed())
    }

    /// The same pair, in which this process can be found again.
    fn marking(mut self, proc: Proc) -> Pair {
        self.world.living.iter_mut().for_each(|one| one.marked = one.proc == proc);
        self
    }
}

/// An input as a supervisor sees it: one of its own, or something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Act {
    Look,
    Restart,
    Quit,
    Kill,
    Happens,
}

impl Act {
    fn of(input: &Input) -> Act {
        match input {
            Input::Look => Act::Look,
            Input::Restart => Act::Restart,
            Input::Quit => Act::Quit,
            Input::Kill => Act::Kill,
            Input::Saved(_)
            | Input::FollowUp(_)
            | Input::Ruled(_)
            | Input::RuledByBuild(_)
            | Input::ReadByApp(_)
            | Input::Revival(_)
            | Input::Unbuilt
            | Input::Exited(..)
            | Input::BuiltSame { .. }
            | Input::Gone(_)
            | Input::Ready(_)
            | Input::Running(_)
            | Input::Unready(_)
            | Input::Proven(_)
            | Input::Fallback(_)
            | Input::Overdue(_)
            | Input::Due(_)
            | Input::Reconfigured(_)
            | Input::Rollback
            | Input::Signal(_) => Act::Happens,
        }
    }
}

/// What a supervisor can see of a transition.
type Move = (Outline, Act, Gates, Outline, News);

struct Explored {
    states: usize,
    transitions: usize,
    moves: QuickSet<Move>,
}

/// How a pair was reached: from which, by its number, and by what.
struct Reached {
    pair: Pair,
    from: usize,
    input: Input,
    gates: Gates,
}

fn explore(step: Step, scope: &Scope) -> Result<Explored, String> {
    let mut futures = Futures::new(step, scope);
    let (service, _) = futures.machine.id(&Service::new(scope.policy));
    let first = Pair { service, world: World::default() };
    let mut seen = QuickSet::default();
    seen.insert(first.key());
    let mut reached =
        vec![Reached { pair: first, from: 0, input: Input::Look, gates: Gates::OPEN }];
    let (mut transitions, mut moves) = (0, QuickSet::default());
    let mut number = 0;
    while let Some(Reached { pair, .. }) = reached.get(number) {
        let pair = *pair;
        let with_path = |why| format!("{why}\n  reached by {}", path(&reached, number));
        if futures.machine.is_new(pair.service) {
            late_inputs_change_nothing(&futures.machine, pair.service).map_err(with_path)?;
        }
        futures.check(&pair).map_err(with_path)?;
        for input in inputs(scope, &futures.machine[pair.service], &pair.world) {
            let mut last = None;
            for gates in scope.gates {
                let machine = &mut futures.machine;
                let (after, answer) = transition(machine, &pair, &input, *gates)
                    .map_err(|why| format!("{why}\n  reached by {}", path(&reached, number)))?;
                transitions += 1;
                if machine.is_first_use(answer) {
                    let [before, after] = [&pair, &after].map(|pair| machine.outline(pair.service));
                    let news = machine.answered(answer).news;
                    moves.insert((before, Act::of(&input), *gates, after, news));
                }
                let service = &machine[after.service];
                if service.phase == Phase::Ended || after.world.living.len() > scope.max_living {
                    continue;
                }
                let next = Pair { world: after.world.canonical(service), ..after };
                // Most gates make no difference.
                let key = next.key();
                if last.replace(key) != Some(key) && seen.insert(key) {
                    let (input, gates) = (input.clone(), *gates);
                    reached.push(Reached { pair: next, from: number, input, gates });
                }
            }
        }
        number += 1;
    }
    Ok(Explored { states: seen.len(), transitions, moves })
}

/// The inputs that lead to a pair, from the start.
fn path(reached: &[Reached], mut number: usize) -> String {
    let mut inputs = Vec::new();
    while number > 0 {
        let Reached { from, input, gates, .. } = &reached[number];
        let [build, start] = [gates.build, gates.start]
            .map(|gate| if gate == Gate::Open { "open" } else { "closed" });
        inputs.push(format!("{input:?} ({build}, {start})"));
        number = *from;
    }
    inputs.reverse();
    inputs.join(", ")
}

fn late_inputs_change_nothing(machine: &Machine, id: Id) -> Broken {
    let looked = machine.stepped(id, &Input::Look, Gates::OPEN);
    for input in late_inputs() {
        let answer = machine.stepped(id, &input, Gates::OPEN);
        expect(answer == looked, || format!("a late {input:?} changes {:?}", machine[id]))?;
    }
    Ok(())
}
