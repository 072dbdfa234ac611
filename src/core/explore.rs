//! Every state of one service that can be reached, under every behaviour of its gates, and every
//! promise on every transition.
//!
//! A fake world keeps what the service cannot know: which processes are alive, which were asked to
//! exit, and whether a build, an artifact and an app come from the newest source. The exploration
//! goes breadth-first through pairs of service and world. That it can fail is shown by planted
//! faults (`faults.rs`), each of which it must catch.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use nix::sys::signal::Signal;

use super::service::{
    App, Effect, Gate, Gates, Hold, Input, Life, Lived, MAX_DRAINING, Origin, Owed, Phase, Service,
    Slot, Work,
};
use super::supervisor::{News, Outline};
use crate::event::{Cause, Ended, Mode, OnExit, Policy, Proc, Role, Source, Timer};

mod backoff;
mod composed;
mod faults;
mod picture;
mod scopes;
mod terminal;
mod walks;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Living {
    role: Role,
    exited: bool,
    dismissed: bool,
    /// It was still running when it was asked to exit.
    cut_short: bool,
    killed: bool,
    ready: bool,
    /// It comes from the newest source.
    fresh: bool,
    /// It comes from what was last built.
    latest: bool,
    /// It was started from an older artifact.
    kept: bool,
    /// It was not ready in time.
    late: bool,
}

impl Living {
    /// Whether it was started from what was last built.
    fn is_same_when_built_again(&self) -> bool {
        self.role == Role::App && self.latest && !self.kept && !self.exited && !self.dismissed
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct World {
    living: BTreeMap<Proc, Living>,
    /// What was last built, and whether from the newest source.
    artifact: Option<bool>,
    /// The newest source does not build.
    newest_fails: bool,
    /// A build wrote something for the next.
    follow_up: bool,
    /// Files whose rules have yet to run.
    rules_due: bool,
    /// The app has yet to be restarted.
    restart_due: bool,
    /// What was last built does not start, or is not wanted.
    is_given_up: bool,
    /// The start of something new has failed, or a user wants the older one: a reason to go back
    /// once.
    may_go_back: bool,
    /// That was done, and nothing newer was built.
    went_back: bool,
    /// The spacing after a build that was not cancelled is not over.
    is_spaced: bool,
}

impl World {
    fn newer_source(&mut self) {
        self.living.values_mut().for_each(|one| one.fresh = false);
        self.artifact = self.artifact.map(|_| false);
        self.newest_fails = false;
    }

    fn spawn(&mut self, proc: Proc, role: Role, fresh: bool) {
        let one = Living {
            role,
            exited: false,
            dismissed: false,
            cut_short: false,
            killed: false,
            ready: false,
            fresh,
            latest: role == Role::App,
            kept: false,
            late: false,
        };
        assert!(self.living.insert(proc, one).is_none(), "{proc:?} is used twice");
    }

    /// Whether a build, or a rule, has not come to its end.
    fn is_building(&self) -> bool {
        let builds = |one: &&Living| matches!(one.role, Role::Build | Role::Rules);
        self.living.values().filter(builds).any(|one| !one.exited || one.cut_short)
    }

    /// Something was built that takes the place of what was before.
    fn built(&mut self) {
        self.living.values_mut().for_each(|one| one.latest = false);
        self.is_given_up = false;
        self.may_go_back = false;
        self.went_back = false;
    }

    fn apps(&self) -> impl Iterator<Item = &Living> {
        self.living.values().filter(|one| one.role == Role::App)
    }
}

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

/// What the input itself does to the world.
fn happen(world: &mut World, service: &Service, input: &Input, gates: Gates) {
    match input {
        Input::FollowUp(_) if has_follow_ups(service) => world.follow_up = true,
        Input::Saved(_) | Input::FollowUp(_) | Input::Reconfigured(_) if !is_ending(service) => {
            world.newer_source();
        }
        Input::Ruled(_) | Input::RuledByBuild(_) if !is_ending(service) => world.rules_due = true,
        Input::Revival(_) if revives(service) => world.newer_source(),
        Input::ReadByApp(_) if !is_ending(service) => world.restart_due = true,
        Input::Unbuilt => {
            world.restart_due = false;
            // What was built in its place is gone.
            let is_late = world.apps().any(|one| one.late && !one.dismissed);
            world.may_go_back |= is_late;
        }
        Input::Exited(proc, ended, _) => {
            let one = world.living.get_mut(proc).expect("only the living exit");
            one.exited = true;
            one.ready = false;
            match one.role {
                Role::Build if ended.succeeded() => {
                    // Cancelled in the moment of its end: what it made is there all the same.
                    let (fresh, was_cancelled) = (one.fresh, one.dismissed);
                    world.artifact = Some(fresh);
                    if !was_cancelled {
                        world.built();
                    }
                }
                Role::Build if one.fresh && !one.dismissed => world.newest_fails = true,
                Role::App if !one.dismissed => {
                    world.is_given_up |= one.latest;
                    world.may_go_back |= unproven(service, *proc) && !ended.succeeded();
                }
                Role::Build | Role::Rules | Role::App | Role::Hook => {}
            }
        }
        Input::BuiltSame { build, app } => {
            let one = world.living.get_mut(build).expect("only the living exit");
            one.exited = true;
            let fresh = one.fresh;
            world.artifact = Some(fresh);
            world.built();
            let app = world.living.get_mut(app).expect("the living are compared");
            (app.latest, app.fresh) = (true, fresh);
        }
        Input::Gone(proc) => {
            world.living.remove(proc);
        }
        Input::Due(Timer::Spacing(build)) => {
            world.is_spaced &= service.spacing != Some(*build);
        }
        Input::Unready(proc) => {
            let has_other = half_started(service) == Some(*proc);
            world.is_given_up |= has_other;
            let is_app = current(service).is_some_and(|app| app.proc == *proc);
            if let Some(one) = world.living.get_mut(proc)
                && is_app
                && !(one.ready || one.exited || one.dismissed || has_other)
            {
                one.late = true;
                if unproven(service, *proc) {
                    world.is_given_up = true;
                    world.may_go_back = true;
                }
            }
        }
        Input::Rollback => {
            let goes_back = may_roll_back(service, gates);
            world.is_given_up |= half_started(service).is_some() || goes_back;
            world.may_go_back |= goes_back;
        }
        Input::Ready(proc) | Input::Running(proc) => {
            if let Some(one) = world.living.get_mut(proc) {
                one.ready = !one.exited && !one.dismissed;
                one.late = false;
            }
        }
        Input::Saved(_)
        | Input::FollowUp(_)
        | Input::Ruled(_)
        | Input::RuledByBuild(_)
        | Input::ReadByApp(_)
        | Input::Revival(_)
        | Input::Reconfigured(_)
        | Input::Proven(_)
        | Input::Fallback(_)
        | Input::Overdue(_)
        | Input::Due(Timer::Backoff(_))
        | Input::Restart
        | Input::Signal(_)
        | Input::Look
        | Input::Quit
        | Input::Kill => {}
    }
}

/// One step: the state before it, the input, and the gates.
#[derive(Clone, Copy)]
struct Before<'a> {
    service: &'a Service,
    input: &'a Input,
    gates: Gates,
}

/// Performs the effects in the world, and checks each against the promises.
fn perform(world: &mut World, before: Before, after: &Service, effects: &[Effect]) -> Broken {
    let gates = before.gates;
    let may_build = gates.build == Gate::Open;
    let mut spawned = Vec::new();
    for effect in effects {
        match effect {
            Effect::SpawnRules(proc, _) => {
                promise(may_build, "gates: rules start while the gate is closed")?;
                promise(!world.is_building(), "P3: never two builds at once")?;
                world.rules_due = false;
                world.spawn(*proc, Role::Rules, true);
            }
            Effect::SpawnBuild(proc, _) => {
                promise(may_build, "gates: a build starts while the gate is closed")?;
                promise(!world.is_building(), "P3: never two builds at once")?;
                let starts_app = matches!(slot(before.service), Some(Slot::StartDue { .. }));
                promise(
                    !world.is_spaced || starts_app,
                    "a build starts before its spacing is over",
                )?;
                if std::mem::take(&mut world.follow_up) {
                    world.newer_source();
                }
                world.spawn(*proc, Role::Build, true);
            }
            Effect::SpawnApp(proc, _, source) => {
                promise(
                    gates.start == Gate::Open,
                    "gates: an app starts while the gate is closed",
                )?;
                spawn_app(world, before, after, *proc, *source)?;
                spawned.push(*proc);
            }
            Effect::SpawnHook(proc, _) => world.spawn(*proc, Role::Hook, true),
            Effect::Dismiss(proc) => {
                let serving = world.apps().filter(|one| one.ready && !one.dismissed).count();
                let one = world.living.get_mut(proc).ok_or("a signal to a dead process")?;
                promise(!one.dismissed, "no process is asked to exit twice")?;
                if one.role == Role::App && !one.exited {
                    promise(may_take_down(before, *one, serving, *proc), "P2: the good app lives")?;
                }
                if matches!(one.role, Role::Build | Role::Rules) && !one.exited {
                    let may_cancel = may_build || matches!(before.input, Input::Quit | Input::Kill);
                    promise(
                        may_cancel || matches!(before.input, Input::Exited(..)),
                        "gates: what may not begin cancels nothing",
                    )?;
                }
                one.cut_short = !one.exited;
                one.dismissed = true;
                one.ready = false;
                // Spacing applies only to builds that were not cancelled.
                world.is_spaced &= !(one.role == Role::Build && one.cut_short);
                promise(!spawned.contains(proc), "nothing is started and stopped in one step")?;
            }
            Effect::Kill(proc) => {
                let one = world.living.get_mut(proc).ok_or("a signal to a dead process")?;
                promise(
                    one.dismissed || one.role == Role::Hook || *before.input == Input::Kill,
                    "no process is killed that was not asked to exit",
                )?;
                one.killed = true;
                one.ready = false;
                one.cut_short = !one.exited;
            }
            Effect::Signal(proc, _) => {
                promise(world.living.contains_key(proc), "a signal to a dead process")?;
            }
            Effect::Ended(_) => {
                promise(
                    world.living.is_empty(),
                    "P4: a service does not end before its processes",
                )?;
            }
            Effect::GoBack => {
                promise(world.may_go_back, "nothing older is wanted unless a start has failed")?;
                world.may_go_back = false;
                world.went_back = true;
            }
            Effect::ArmSpacing(_) => world.is_spaced = true,
            Effect::TakeUp
            | Effect::ArmBackoff(..)
            | Effect::Kept(_)
            | Effect::Refused(_)
            | Effect::NothingRuns
            | Effect::Say(_) => {}
        }
    }
    Ok(())
}

fn spawn_app(
    world: &mut World,
    before: Before,
    after: &Service,
    proc: Proc,
    source: Source,
) -> Broken {
    let is_kept = source == Source::Kept;
    promise(after.policy.runs, "no app is started where nothing is to run")?;
    if after.policy.mode == Mode::Restart {
        promise(world.apps().count() == 0, "P3: never two apps at once")?;
    }
    promise(world.apps().all(|one| one.dismissed || one.ready), "at most one app is not ready")?;
    promise(!is_kept || world.went_back, "nothing older is started unless a start has failed")?;
    let builds = |one: &&Living| matches!(one.role, Role::Build | Role::Rules);
    let no_build_runs = world.living.values().filter(builds).all(|one| one.exited);
    promise(no_build_runs, "no app starts while a build runs")?;
    world.restart_due = false;
    let artifact = world.artifact;
    if after.policy.builds && !is_kept {
        promise(artifact.is_some(), "no app starts before anything was built")?;
        // What may not be built yet makes nothing stale.
        let is_held = before.gates.build != Gate::Open;
        let is_newest = artifact == Some(true) || world.newest_fails || is_held;
        promise(is_newest, "P3: never an app from a stale artifact")?;
    }
    let fresh = !is_kept && (!after.policy.builds || artifact == Some(true));
    if !after.policy.builds && !is_kept {
        // Everything is as new as what is on the disk.
        world.built();
    }
    world.spawn(proc, Role::App, fresh);
    if let Some(one) = world.living.get_mut(&proc) {
        (one.latest, one.kept) = (!is_kept, is_kept);
    }
    Ok(())
}

/// The only reasons to stop an app that runs.
fn may_take_down(before: Before, app: Living, serving: usize, proc: Proc) -> bool {
    let Before { service, input, gates } = before;
    let policy = service.pending.unwrap_or(service.policy);
    let has_fallback = service.artifacts.older || *input == Input::Fallback(true);
    if app.late && !app.ready && (policy.rollback || service.policy.rollback) && has_fallback {
        return true;
    }
    let is_current = current(service).is_some_and(|one| one.proc == proc);
    let is_half_started = half_started(service) == Some(proc);
    let is_due = matches!(regions(service), Some((Work::Due(_), _)));
    let replaces_half_started = (is_due || is_held(service)) && gates.build == Gate::Open;
    let is_app_wanted = policy.runs && service.policy.runs && !service.policy.once;
    if is_current && is_app_wanted && gates.start != Gate::Open {
        // What may not start replaces nothing.
        return match input {
            Input::Quit | Input::Kill => true,
            Input::Ready(new) | Input::Running(new) => *new != proc,
            Input::Exited(ended_proc, ended, _) => {
                let fails = building(service) == Some(*ended_proc) && !ended.succeeded();
                (fails && service.policy.stop_on_error)
                    || matches!(service.phase, Phase::Closing { .. })
            }
            _ => false,
        };
    }
    if may_begin(service, gates) || (is_half_started && replaces_half_started) {
        return true;
    }
    match input {
        Input::Exited(ended_proc, ended, _) if building(service) == Some(*ended_proc) => {
            let is_replaced = service.policy.mode == Mode::Restart || !app.ready;
            let installs = ended.succeeded() && is_replaced;
            let builds_only = ended.succeeded() && !service.policy.runs;
            let stops = !ended.succeeded() && service.policy.stop_on_error;
            let ends = service.policy.once;
            let asked = owed(service).restart;
            is_current && (installs || builds_only || stops || ends || asked)
        }
        Input::Exited(ended_proc, ..) if running_rules(service) == Some(*ended_proc) => {
            is_current && (owed(service).restart || !policy.builds)
        }
        Input::Exited(..) => matches!(service.phase, Phase::Closing { .. }),
        Input::BuiltSame { app: same, .. } => {
            let is_wanted = owed(service).restart || app.late;
            is_current && (*same != proc || is_wanted || service.policy.once)
        }
        Input::Ready(new) | Input::Running(new) => *new != proc,
        Input::Unready(new) => *new == proc && is_half_started,
        Input::Rollback => is_half_started || may_roll_back(service, gates),
        Input::Quit | Input::Kill | Input::Restart | Input::ReadByApp(_) => true,
        Input::Saved(_)
        | Input::Ruled(_)
        | Input::RuledByBuild(_)
        | Input::Revival(_)
        | Input::FollowUp(_)
        | Input::Reconfigured(_)
        | Input::Gone(_)
        | Input::Due(_)
        | Input::Look => {
            let replaced_before_it_served = !app.ready && serving > 0;
            let is_taken =
                matches!(input, Input::Saved(_) | Input::Ruled(_) | Input::Reconfigured(_));
            replaced_before_it_served
                || (is_half_started && is_taken && gates.build == Gate::Open)
                || !policy.builds
        }
        Input::Unbuilt
        | Input::Proven(_)
        | Input::Fallback(_)
        | Input::Overdue(_)
        | Input::Signal(_) => false,
    }
}

/// What must hold between any two steps.
fn consistent(service: &Service, world: &World) -> Broken {
    let mut named = service.living();
    named.sort();
    let living: Vec<Proc> = world.living.keys().copied().collect();
    promise(named == living, "P4: each living process is in the state exactly once")?;
    promise(
        world.apps().filter(|one| one.dismissed && !one.killed).count() <= MAX_DRAINING,
        "at most three apps drain at once",
    )?;
    promise(
        service.policy.mode == Mode::Handover
            || world.apps().filter(|one| !one.dismissed).count() <= 1,
        "P3: one app in restart mode",
    )?;
    promise(
        half_started(service).is_none()
            || matches!(
                regions(service),
                Some((Work::Idle | Work::Due(_) | Work::Installing(_), _))
            ),
        "an app that is not ready beside another is stopped before anything is made",
    )?;
    promise(
        !matches!(regions(service), Some((Work::Due(owed), _)) if *owed == Owed::default()),
        "nothing is due without a reason",
    )
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
    for (proc, one) in &world.living {
        if one.exited {
            inputs.push(Input::Gone(*proc));
        } else {
            inputs.push(Input::Exited(*proc, Ended::Code(0), Lived::Long));
            inputs.push(Input::Exited(*proc, Ended::Code(1), Lived::Long));
        }
        if building(service) == Some(*proc) && !one.exited {
            let apps = world.living.iter().filter(|(_, app)| app.is_same_when_built_again());
            inputs.extend(apps.map(|(app, _)| Input::BuiltSame { build: *proc, app: *app }));
        }
        if one.role == Role::App {
            inputs.extend([Input::Ready(*proc), Input::Running(*proc), Input::Unready(*proc)]);
        }
        if one.dismissed || one.role == Role::Hook {
            inputs.push(Input::Overdue(*proc));
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

/// The same pair with the processes numbered from 1 in order of age, and with nothing in it that
/// only counts or names.
fn canonical(service: &Service, world: &World) -> (Service, World) {
    let mut procs: Vec<Proc> = world.living.keys().copied().chain(service.procs()).collect();
    procs.sort();
    procs.dedup();
    let rank = |proc: Proc| {
        let place = procs.binary_search(&proc).expect("it is in the state");
        Proc(u32::try_from(place + 1).expect("a handful"))
    };
    let last = u32::try_from(procs.len()).expect("a handful");
    let renamed = service.renamed(&rank, last);

    let mut world = world.clone();
    // Of what was asked for before, the state itself must know.
    world.rules_due = false;
    world.restart_due = false;
    world.living = world.living.iter().map(|(proc, one)| (rank(*proc), *one)).collect();
    // Where nothing older serves or is to, nothing needs an excuse.
    let is_late = world.living.values().any(|one| one.late);
    let failed_start = slot(service) == Some(Slot::Empty { failed_start: true });
    let is_kept = service.artifacts.next == Source::Kept;
    world.may_go_back &= failed_start || is_late;
    let older_serves = world.apps().any(|one| !one.dismissed && !one.latest);
    world.is_given_up &= older_serves || failed_start || is_late || is_kept;
    world.went_back &= is_kept;
    let is_ending = is_ending(service);
    if is_ending {
        world = World { living: world.living, ..World::default() };
    }
    for one in world.living.values_mut() {
        if one.exited || one.dismissed || is_ending {
            one.fresh = false;
            one.cut_short &= one.role == Role::Build && !is_ending;
            (one.latest, one.kept, one.late) = (false, false, false);
            one.ready &= !is_ending;
        }
    }
    (renamed, world)
}

/// The machine under test: the real one, or one with a fault planted.
type Step = fn(Service, Input, Gates) -> (Service, Vec<Effect>);

type Pair = (Service, World);

/// One transition, checked against every promise.
fn transition(step: Step, pair: &Pair, input: &Input, gates: Gates) -> Result<Pair, String> {
    transition_and_news(step, pair, input, gates).map(|(after, _)| after)
}

fn transition_and_news(
    step: Step,
    pair: &Pair,
    input: &Input,
    gates: Gates,
) -> Result<(Pair, News), String> {
    let (service, world) = pair;
    let mut world = world.clone();
    happen(&mut world, service, input, gates);
    let (after, effects) = step(service.clone(), input.clone(), gates);
    let context = |why: String| {
        format!(
            "{why}\n  state {service:?}\n  input {input:?} {gates:?}\n  after {after:?}\n  \
             did {effects:?}"
        )
    };
    let before = Before { service, input, gates };
    perform(&mut world, before, &after, &effects).map_err(context)?;
    consistent(&after, &world).map_err(context)?;
    if *input == Input::Kill {
        let all = world.living.values().all(|one| one.killed);
        promise(all && is_ending(&after), "a second Ctrl-C kills everything").map_err(context)?;
    }
    if let Some(new) = half_started(service)
        && *input == Input::Unready(new)
    {
        let is_dismissed = world.living.get(&new).is_none_or(|one| one.dismissed);
        promise(is_dismissed, "an app that is not ready in time is dismissed").map_err(context)?;
    }
    exits_with_its_app(service, input, &after, gates).map_err(context)?;
    let news = News::of(service, input, &after, &effects);
    let is_ready = matches!(input, Input::Ready(_) | Input::Running(_));
    promise(!news.serves || is_ready, "an app serves anew only when it is ready")
        .map_err(context)?;
    Ok(((after, world), news))
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

/// With `on_exit = "quit"`, a service in which nothing else is going on ends with its app, and with
/// its exit code.
fn exits_with_its_app(service: &Service, input: &Input, after: &Service, gates: Gates) -> Broken {
    let (Some((Work::Idle, Slot::Single(app))), Input::Exited(proc, ended, _)) =
        (regions(service), input)
    else {
        return Ok(());
    };
    let goes_back = unproven(service, *proc)
        && !ended.succeeded()
        && service.policy.rollback
        && service.artifacts.older;
    let quits = service.policy.on_exit == OnExit::Quit && gates == Gates::OPEN;
    if app.proc != *proc || goes_back || !quits {
        return Ok(());
    }
    let code = match after.phase {
        Phase::Closing { code, .. } | Phase::Quitting { code } => Some(code),
        Phase::Live { .. } | Phase::Ended => None,
    };
    promise(
        code == Some(ended.exit_code()),
        "with on_exit = quit, a service ends with its app and its exit code",
    )
}

struct Explored {
    states: usize,
    transitions: usize,
    moves: HashSet<Move>,
}

fn explore(step: Step, scope: &Scope) -> Result<Explored, String> {
    let first = canonical(&Service::new(scope.policy), &World::default());
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([(0, first)]);
    // How each pair was reached, by its number.
    let mut reached: Vec<(usize, Input, Gates)> = vec![(0, Input::Look, Gates::OPEN)];
    let (mut transitions, mut moves) = (0, HashSet::new());
    while let Some((number, pair)) = queue.pop_front() {
        let with_path = |why| format!("{why}\n  reached by {}", path(&reached, number));
        late_inputs_change_nothing(step, &pair).map_err(with_path)?;
        liveness(step, scope, &pair).map_err(with_path)?;
        for input in inputs(scope, &pair.0, &pair.1) {
            for gates in scope.gates {
                let with_path = |why| format!("{why}\n  reached by {}", path(&reached, number));
                let (after, news) =
                    transition_and_news(step, &pair, &input, *gates).map_err(with_path)?;
                let [seen_before, seen_after] = [&pair.0, &after.0].map(Outline::of);
                moves.insert((seen_before, Act::of(&input), *gates, seen_after, news));
                transitions += 1;
                if after.0.phase == Phase::Ended || after.1.living.len() > scope.max_living {
                    continue;
                }
                let next = canonical(&after.0, &after.1);
                if seen.insert(next.clone()) {
                    queue.push_back((reached.len(), next));
                    reached.push((number, input.clone(), *gates));
                }
            }
        }
    }
    Ok(Explored { states: seen.len(), transitions, moves })
}

/// The inputs that lead to a pair, from the start.
fn path(reached: &[(usize, Input, Gates)], mut number: usize) -> String {
    let mut inputs = Vec::new();
    while number > 0 {
        let (before, input, gates) = &reached[number];
        let [build, start] = [gates.build, gates.start]
            .map(|gate| if gate == Gate::Open { "open" } else { "closed" });
        inputs.push(format!("{input:?} ({build}, {start})"));
        number = *before;
    }
    inputs.reverse();
    inputs.join(", ")
}

fn late_inputs_change_nothing(step: Step, (service, _): &Pair) -> Broken {
    let looked = step(service.clone(), Input::Look, Gates::OPEN);
    for input in late_inputs() {
        let answer = step(service.clone(), input.clone(), Gates::OPEN);
        expect(answer == looked, || format!("a late {input:?} changes {service:?}"))?;
    }
    Ok(())
}

// Liveness: what must come of every state, if children behave.

fn liveness(step: Step, scope: &Scope, pair: &Pair) -> Broken {
    ends_when_asked(step, pair, true)?;
    ends_when_asked(step, pair, false)?;
    if is_ending(&pair.0) {
        return Ok(());
    }
    serves_the_newest_save(step, pair)?;
    serves_the_newest_that_builds(step, pair)?;
    if scope.rollbacks {
        goes_back_when_a_start_fails(step, pair)?;
    }
    follows_up(step, pair)?;
    if scope.rules {
        runs_rules_and_restarts(step, pair)?;
    }
    restarts_what_exits(step, pair)?;
    obeys(step, scope, pair)
}

/// Orders to an app that serves alone: another follows a restart, an older one a rollback, and a
/// signal arrives when the app is ready.
fn obeys(step: Step, scope: &Scope, pair: &Pair) -> Broken {
    let (service, _) = pair;
    let Some((Work::Idle, Slot::Single(app))) = regions(service) else { return Ok(()) };
    let serves_another = |order: Input, is_kept: bool| -> Broken {
        let (after, world) = come_to_rest(step, &transition(step, pair, &order, Gates::OPEN)?)?;
        let is_another = |(proc, one): (&Proc, &Living)| {
            one.ready && (one.kept || !is_kept) && (*proc != app.proc)
        };
        let serves = world.living.iter().any(is_another);
        expect(serves, || format!("{order:?} is not obeyed from {service:?}; ends in {after:?}"))
    };
    let has_built = service.artifacts.built || !service.policy.builds;
    if has_built && service.policy.runs && service.pending.is_none() {
        serves_another(Input::Restart, false)?;
    }
    if scope.rollbacks && service.artifacts.older && service.policy.runs {
        serves_another(Input::Rollback, true)?;
    }
    if scope.rules && app.life != Life::Ready {
        let signal = Input::Signal(Signal::SIGUSR1);
        let (signalled, _) = step(service.clone(), signal, Gates::OPEN);
        let (_, effects) = step(signalled, Input::Ready(app.proc), Gates::OPEN);
        let is_sent = effects.contains(&Effect::Signal(app.proc, Signal::SIGUSR1));
        promise(is_sent, "a signal arrives when the app is ready")?;
    }
    Ok(())
}

/// Ctrl-C, and children that exit when asked (or only when killed), lead to the end.
fn ends_when_asked(step: Step, pair: &Pair, obedient: bool) -> Broken {
    let mut now = pair.clone();
    if !is_ending(&pair.0) {
        now = transition(step, &now, &Input::Quit, Gates::OPEN)?;
    }
    for _ in 0..100 {
        if now.0.phase == Phase::Ended {
            return promise(now.1.living.is_empty(), "P4: no process is left");
        }
        let next = now.1.living.iter().find_map(|(proc, one)| {
            let hook = one.role == Role::Hook;
            match one {
                Living { exited: true, .. } => Some(Input::Gone(*proc)),
                Living { killed: true, .. } => {
                    Some(Input::Exited(*proc, Ended::Code(1), Lived::Long))
                }
                Living { dismissed: true, .. } if obedient => {
                    Some(Input::Exited(*proc, Ended::Code(0), Lived::Long))
                }
                _ if hook && obedient => Some(Input::Exited(*proc, Ended::Code(0), Lived::Long)),
                Living { dismissed: true, .. } => Some(Input::Overdue(*proc)),
                _ if hook => Some(Input::Overdue(*proc)),
                _ => None,
            }
        });
        let Some(input) = next else { break };
        now = transition(step, &now, &input, Gates::OPEN)?;
    }
    Err(format!("Ctrl-C does not lead to the end from {:?}; stuck in {:?}", pair.0, now.0))
}

/// Children behave and deadlines come until nothing more happens.
fn come_to_rest(step: Step, now: &Pair) -> Result<Pair, String> {
    let mut now = transition(step, now, &Input::Look, Gates::OPEN)?;
    for _ in 0..100 {
        let of_process = now.1.living.iter().find_map(|(proc, one)| match one {
            Living { exited: true, .. } => Some(Input::Gone(*proc)),
            Living { dismissed: true, .. } | Living { role: Role::Build | Role::Rules, .. } => {
                Some(Input::Exited(*proc, Ended::Code(0), Lived::Long))
            }
            Living { role: Role::App, ready: false, .. } => Some(Input::Ready(*proc)),
            _ => None,
        });
        let Some(input) = of_process.or_else(|| deadlines(&now.0).next()) else { return Ok(now) };
        now = transition(step, &now, &input, Gates::OPEN)?;
    }
    Err(format!("no rest: {:?}", now.0))
}

/// Builds fail and rules succeed until none runs.
fn fail_builds(step: Step, mut now: Pair) -> Result<Pair, String> {
    for _ in 0..20 {
        let input = match regions(&now.0) {
            Some((Work::Cancelling { build, .. }, _)) if now.1.living[build].exited => {
                Input::Gone(*build)
            }
            Some((Work::Building { build, .. } | Work::Cancelling { build, .. }, _)) => {
                Input::Exited(*build, Ended::Code(1), Lived::Long)
            }
            Some((Work::RunningRules { rules, .. }, _)) => {
                Input::Exited(*rules, Ended::Code(0), Lived::Long)
            }
            Some((Work::Due(_), _)) => {
                let Some(build) = now.0.spacing else { break };
                Input::Due(Timer::Spacing(build))
            }
            _ => break,
        };
        now = transition(step, &now, &input, Gates::OPEN)?;
    }
    Ok(now)
}

/// What a build wrote for the next build is built, also if nothing is saved again.
fn follows_up(step: Step, pair: &Pair) -> Broken {
    if !pair.1.follow_up {
        return Ok(());
    }
    let (after, world) = come_to_rest(step, pair)?;
    let served = world.apps().all(|one| one.fresh) || after.phase == Phase::Ended;
    let kept = !world.follow_up && served;
    let from = &pair.0;
    expect(kept, || format!("P1: a follow-up is forgotten from {from:?}; ends in {after:?}"))
}

/// How the running build may end, beside well and with another program; nothing: none runs.
fn ends_of_a_build((service, world): &Pair) -> Vec<Option<Input>> {
    // A failed build is to leave nothing running with `stop_on_error`.
    let (Some(build), false) = (building(service), service.policy.stop_on_error) else {
        return vec![None];
    };
    let mut ends = vec![Some(Input::Exited(build, Ended::Code(1), Lived::Long))];
    if let Some(app) = current(service)
        && world.living[&app.proc].is_same_when_built_again()
    {
        ends.push(Some(Input::BuiltSame { build, app: app.proc }));
    }
    ends
}

/// The rules of a saved file run, and what only the app reads is read again, whether or not a build
/// fails meanwhile.
fn runs_rules_and_restarts(step: Step, pair: &Pair) -> Broken {
    for input in [Input::Ruled(none()), Input::RuledByBuild(none()), Input::ReadByApp(none())] {
        let now = transition(step, pair, &input, Gates::OPEN)?;
        for end in ends_of_a_build(&now) {
            let ended = match end {
                None => now.clone(),
                Some(end) => transition(step, &now, &end, Gates::OPEN)?,
            };
            let (after, world) = come_to_rest(step, &ended)?;
            let has_built = after.artifacts.built;
            let waits = owed(&after).restart && has_built;
            if world.rules_due || waits || (world.restart_due && has_built && !is_ending(&after)) {
                return Err(format!(
                    "P1: {input:?} is forgotten from {:?}; ends in {after:?} with {world:?}",
                    pair.0
                ));
            }
        }
    }
    Ok(())
}

/// A save leads to that save being served, whenever its gate opens.
fn serves_the_newest_save(step: Step, pair: &Pair) -> Broken {
    let [held, open] = [CLOSED, Gate::Open].map(|build| Gates { build, start: build });
    for gates in [open, held] {
        let now = transition(step, pair, &Input::Saved(none()), gates)?;
        let (after, world) = come_to_rest(step, &now)?;
        let serving: Vec<&Living> = world.living.values().collect();
        let good = match (&after.phase, after.policy.runs) {
            (Phase::Live { work: Work::Idle, slot: Slot::Single(_) }, true) => {
                matches!(serving[..], [one] if one.ready && one.fresh)
            }
            (Phase::Live { work: Work::Idle, slot: Slot::Empty { .. } }, false) => {
                serving.is_empty() && world.artifact == Some(true)
            }
            (Phase::Ended, _) => pair.0.policy.once,
            _ => false,
        };
        if !good || world.rules_due || world.follow_up || after.pending.is_some() {
            return Err(format!(
                "P1: a save is not served from {:?}; ends in {after:?} with {world:?}",
                pair.0
            ));
        }
    }
    Ok(())
}

/// After a save that does not build, what was last built serves, unless that does not start either.
fn serves_the_newest_that_builds(step: Step, pair: &Pair) -> Broken {
    let (service, _) = pair;
    if service.policy.once || service.policy.stop_on_error {
        return Ok(());
    }
    let now = transition(step, pair, &Input::Saved(none()), Gates::OPEN)?;
    let (after, world) = come_to_rest(step, &fail_builds(step, now)?)?;
    let has_built = after.artifacts.built;
    let is_kept_down = world.is_given_up || !after.policy.builds || !has_built;
    let good = is_kept_down || world.apps().all(|one| one.latest);
    let from = || format!("from {service:?}; ends in {after:?} with {world:?}");
    let was_to_start = matches!(slot(service), Some(Slot::StartDue { .. } | Slot::Handover { .. }))
        || matches!(regions(service), Some((Work::Installing(_), _)))
        || current(service).is_some_and(|app| matches!(app.life, Life::Starting { .. }));
    let serves = world.apps().any(|one| one.ready && !one.dismissed);
    let has_nothing = !has_built && after.policy.builds && after.artifacts.next == Source::Built;
    let kept = serves || has_nothing || !was_to_start || !after.policy.runs;
    expect(kept, || format!("P2: what was to start is forgotten {}", from()))?;
    expect(good, || format!("P1: an older app than the last built serves {}", from()))
}

/// Where there is something good to go back to, a failed start is followed by another app, also
/// while a build runs that then fails. Should what was gone back to fail too, nothing follows.
fn goes_back_when_a_start_fails(step: Step, pair: &Pair) -> Broken {
    let (service, _) = pair;
    let policy = service.policy;
    if !policy.rollback || !service.artifacts.older || policy.stop_on_error {
        return Ok(());
    }
    let Some((work, Slot::Single(app))) = regions(service) else { return Ok(()) };
    let is_starting = matches!(app.life, Life::Starting { .. });
    let is_explored = match work {
        Work::Idle => is_starting,
        Work::Building { .. } => true,
        _ => false,
    };
    if !is_explored || !unproven(service, app.proc) {
        return Ok(());
    }
    let build = building(service);
    for failure in [Input::Exited(app.proc, Ended::Code(1), Lived::Long), Input::Unready(app.proc)]
    {
        let is_late = matches!(failure, Input::Unready(_));
        let mut now = transition(step, pair, &failure, Gates::OPEN)?;
        if let Some(build) = build.filter(|build| building(&now.0) == Some(*build)) {
            let failed = Input::Exited(build, Ended::Code(1), Lived::Long);
            now = transition(step, &now, &failed, Gates::OPEN)?;
        }
        let rested = come_to_rest(step, &now)?;
        let (after, world) = &rested;
        if after.phase == Phase::Ended {
            continue;
        }
        let Some((Work::Idle, Slot::Single(now_serving))) = regions(after) else {
            return Err(format!(
                "P2: nothing serves after a failed start from {service:?}: {after:?}"
            ));
        };
        if after.artifacts.next != Source::Kept || !world.living[&now_serving.proc].kept {
            // A build came between.
            let owed = owed(service);
            let is_excused = owed.restart || owed.rules.is_some() || owed.build.is_some();
            let good = !is_late || is_excused || !is_starting;
            expect(good, || format!("P2: an app that is late stays, from {service:?}: {after:?}"))?;
            continue;
        }
        let exits = Input::Exited(now_serving.proc, Ended::Code(1), Lived::Long);
        let (after, _) = transition(step, &rested, &exits, Gates::OPEN)?;
        let waits = match slot(&after) {
            Some(Slot::Empty { .. } | Slot::StartDue { backoff: Some(_) }) | None => true,
            Some(Slot::StartDue { backoff: None } | Slot::Single(_) | Slot::Handover { .. }) => {
                false
            }
        };
        expect(waits, || {
            format!("an artifact that was gone back to is no failed start: {after:?}")
        })?;
    }
    Ok(())
}

/// With `on_exit = "restart"`, an app that exits is followed by another, also if what is being
/// built fails.
fn restarts_what_exits(step: Step, pair: &Pair) -> Broken {
    let (service, _) = pair;
    let policy = service.policy;
    let is_meant = policy.on_exit == OnExit::Restart && policy.runs && !policy.stop_on_error;
    let (true, Some(app)) = (is_meant && service.pending.is_none(), current(service)) else {
        return Ok(());
    };
    let exits = Input::Exited(app.proc, Ended::Code(1), Lived::Long);
    let now = transition(step, pair, &exits, Gates::OPEN)?;
    let (after, world) = come_to_rest(step, &fail_builds(step, now)?)?;
    let serves = world.apps().any(|one| one.ready && !one.dismissed);
    let has_nothing = !after.artifacts.built && after.policy.builds;
    expect(serves || has_nothing, || {
        format!("P2: an app that exits is not restarted from {service:?}; ends in {after:?}")
    })
}
