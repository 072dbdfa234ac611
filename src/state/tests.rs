//! Every state that can be reached, and every promise on every transition.
//!
//! A fake world keeps what the state machine cannot know: who is alive, who was asked to
//! end, and whether a build, an artifact and an app come from the newest source. The
//! exploration goes breadth-first through pairs of state and world. That it can fail is
//! shown by planted faults, each of which it must catch.

use std::collections::{HashMap, HashSet, VecDeque};

use super::*;

/// What one exploration covers.
#[derive(Clone, Copy)]
struct Scope {
    name: &'static str,
    policy: Policy,
    /// The policy that a reload may bring.
    other: Option<Policy>,
    pauses: bool,
    follow_ups: bool,
    /// Files of rules, and files that only the app reads, are saved too.
    rules: bool,
    /// There may be good artifacts to go back to, and somebody may want that.
    rollbacks: bool,
    /// States with more living processes are not explored further.
    most_living: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Living {
    role: Role,
    exited: bool,
    dismissed: bool,
    /// It was still running when it was asked to end.
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
    /// It was started from what was last built.
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
    /// A save that came while paused.
    kept: bool,
    /// Files whose rules have yet to run.
    rules_due: bool,
    /// The app is yet to be started again.
    restart_due: bool,
    /// What was last built does not start, or is not wanted.
    is_given_up: bool,
    /// The start of something new has failed, or somebody wants the older one: a reason to go
    /// back once.
    may_go_back: bool,
    /// That was done, and nothing newer was built.
    went_back: bool,
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

    /// A build, or a rule, has not come to its end.
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
    if kept { Ok(()) } else { Err(name.to_owned()) }
}

/// What the event itself does to the world.
fn happen(world: &mut World, state: &State, event: &Event) {
    let paused = state.pause != Pause::Off;
    let ending =
        matches!(state.phase, Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Done);
    match event {
        Event::FollowUp(_) if state.has_follow_ups() => world.follow_up = true,
        Event::Saved(_) | Event::FollowUp(_) | Event::Reconfigured(_) if paused => {
            world.kept = true;
        }
        Event::Saved(_) | Event::FollowUp(_) | Event::Reconfigured(_) if !ending => {
            world.newer_source();
        }
        Event::Ruled(_) | Event::RuledByBuild(_) if !ending => world.rules_due = true,
        Event::Revival(_) if !revives(state) => {}
        Event::Revival(_) if paused => world.kept = true,
        Event::Revival(_) => world.newer_source(),
        Event::AppInput(_) if !ending => world.restart_due = true,
        Event::Unbuilt => world.restart_due = false,
        Event::Ordered(Order::Resume | Order::PauseOrResume) if paused && world.kept => {
            world.kept = false;
            world.newer_source();
        }
        Event::Exited(proc, ended) => {
            let one = world.living.get_mut(proc).expect("only the living exit");
            one.exited = true;
            one.ready = false;
            match one.role {
                Role::Build if ended.succeeded() => {
                    // Overtaken in the moment of its end: what it made is there all the same.
                    let (fresh, was_overtaken) = (one.fresh, one.dismissed);
                    world.artifact = Some(fresh);
                    if !was_overtaken {
                        world.built();
                    }
                }
                Role::Build if one.fresh && !one.dismissed => world.newest_fails = true,
                Role::App if !one.dismissed => {
                    world.is_given_up |= one.latest;
                    let is_failed_start = state.unproven == Some(*proc) && !ended.succeeded();
                    world.may_go_back |= is_failed_start;
                }
                // The build that it delays is not made: the newest source does not build.
                _ => {}
            }
        }
        Event::BuiltSame { build, app } => {
            let one = world.living.get_mut(build).expect("only the living exit");
            one.exited = true;
            let fresh = one.fresh;
            world.artifact = Some(fresh);
            world.built();
            let app = world.living.get_mut(app).expect("the living are compared");
            (app.latest, app.fresh) = (true, fresh);
        }
        Event::Gone(proc) => {
            world.living.remove(proc);
        }
        Event::Unready(proc) => {
            let has_other =
                matches!(state.phase, Phase::Starting { new, app: Some(_) } if new == *proc);
            world.is_given_up |= has_other;
            let is_app = current_app(&state.phase) == Some(*proc);
            if let Some(one) = world.living.get_mut(proc)
                && is_app
                && !(one.ready || one.exited || one.dismissed || has_other)
            {
                one.late = true;
                if state.unproven == Some(*proc) {
                    world.is_given_up = true;
                    world.may_go_back = true;
                }
            }
        }
        Event::Ordered(Order::Rollback) => {
            let keeps = matches!(state.phase, Phase::Starting { app: Some(_), .. });
            world.is_given_up |= keeps || may_roll_back(state);
            world.may_go_back |= may_roll_back(state);
        }
        Event::Ready(proc) | Event::Running(proc) => {
            if let Some(one) = world.living.get_mut(proc) {
                one.ready = !one.exited && !one.dismissed;
                one.late = false;
            }
        }
        _ => {}
    }
}

/// An order to go back is obeyed by starting something older.
fn may_roll_back(state: &State) -> bool {
    state.fallback
        && matches!(
            state.phase,
            Phase::Idle { .. }
                | Phase::Waiting { due: Due::Restart(_), .. }
                | Phase::Starting { app: None, .. }
                | Phase::Stopping
        )
}

/// Performs the effects in the world, and holds each against the promises.
fn perform(
    world: &mut World,
    before: &State,
    event: &Event,
    after: &State,
    effects: &[Effect],
) -> Broken {
    for effect in effects {
        match effect {
            Effect::SpawnRules(proc, _) => {
                promise(!world.is_building(), "P3: never two builds at once")?;
                world.rules_due = false;
                world.spawn(*proc, Role::Rules, true);
            }
            Effect::SpawnBuild(proc, _) => {
                promise(!world.is_building(), "P3: never two builds at once")?;
                if std::mem::take(&mut world.follow_up) {
                    world.newer_source();
                }
                world.spawn(*proc, Role::Build, true);
            }
            Effect::SpawnApp(proc, _, source) => {
                let is_kept = *source == Source::Kept;
                if after.policy.mode == Mode::Restart {
                    promise(world.apps().count() == 0, "P3: never two apps at once")?;
                }
                promise(
                    world.apps().all(|one| one.dismissed || one.ready),
                    "at most one app is not ready",
                )?;
                promise(
                    !is_kept || world.went_back,
                    "nothing older is started unless a start has failed",
                )?;
                let builds = |one: &&Living| matches!(one.role, Role::Build | Role::Rules);
                promise(
                    world.living.values().filter(builds).all(|one| one.exited),
                    "no app starts while a build runs",
                )?;
                world.restart_due = false;
                if after.policy.builds && !is_kept {
                    let artifact = world.artifact;
                    promise(artifact.is_some(), "no app starts before anything was built")?;
                    promise(
                        // Whoever pauses and asks for a restart gets what there is.
                        artifact == Some(true) || world.newest_fails || before.pause != Pause::Off,
                        "P3: never an app from a stale artifact",
                    )?;
                }
                let fresh = !is_kept && (!after.policy.builds || world.artifact == Some(true));
                if !after.policy.builds && !is_kept {
                    // Everything is as new as what is on the disk.
                    world.built();
                }
                world.spawn(*proc, Role::App, fresh);
                if let Some(one) = world.living.get_mut(proc) {
                    (one.latest, one.kept) = (!is_kept, is_kept);
                }
            }
            Effect::SpawnHook(proc, _) => world.spawn(*proc, Role::Hook, true),
            Effect::Dismiss(proc) => {
                let serving = world.apps().filter(|one| one.ready && !one.dismissed).count();
                let one = world.living.get_mut(proc).ok_or("a signal to the dead")?;
                promise(!one.dismissed, "nobody is asked to end twice")?;
                if one.role == Role::App && !one.exited {
                    promise(
                        may_take_down(before, event, *one, serving, *proc),
                        "P2: the good app lives",
                    )?;
                }
                one.cut_short = !one.exited;
                one.dismissed = true;
                one.ready = false;
            }
            Effect::Kill(proc) => {
                let one = world.living.get_mut(proc).ok_or("a signal to the dead")?;
                promise(
                    one.dismissed || one.role == Role::Hook || *event == Event::Interrupted,
                    "nobody is killed who was not asked to end",
                )?;
                one.killed = true;
                one.ready = false;
                one.cut_short = !one.exited;
            }
            Effect::Signal(proc, _) => {
                promise(world.living.contains_key(proc), "signal the dead")?;
            }
            Effect::Exit(code) => promise(
                world.living.is_empty() || *code == ABANDONED,
                "P4: hotrun does not end before its processes",
            )?,
            Effect::GoBack => {
                promise(world.may_go_back, "nothing older is wanted unless a start has failed")?;
                world.may_go_back = false;
                world.went_back = true;
            }
            Effect::TakeUp | Effect::Arm(_) | Effect::Say(_) => {}
        }
    }
    Ok(())
}

/// The only reasons to dismiss an app that runs.
fn may_take_down(before: &State, event: &Event, app: Living, serving: usize, proc: Proc) -> bool {
    let policy = before.pending.unwrap_or(before.policy);
    let has_fallback = before.fallback || *event == Event::Fallback(true);
    if app.late && !app.ready && policy.rollback | before.policy.rollback && has_fallback {
        return true;
    }
    match event {
        Event::Exited(ended_proc, ended) => match before.phase {
            Phase::Building { build, app: in_phase, .. } if build == *ended_proc => {
                let is_replaced = before.policy.mode == Mode::Restart || !app.ready;
                let installs = ended.succeeded() && is_replaced;
                let builds_only = ended.succeeded() && !before.policy.runs;
                let stops = !ended.succeeded() && before.policy.stop_on_error;
                let ends = before.policy.once;
                let asked = before.restart;
                in_phase == Some(proc) && (installs || builds_only || stops || ends || asked)
            }
            Phase::Ruling { rules, app: in_phase } if rules == *ended_proc => {
                in_phase == Some(proc) && (before.restart || !policy.builds)
            }
            Phase::Closing { .. } => true,
            _ => false,
        },
        Event::BuiltSame { app: same, .. } => {
            let is_wanted = before.restart || app.late;
            let is_in_phase = current_app(&before.phase) == Some(proc);
            is_in_phase && (*same != proc || is_wanted || before.policy.once)
        }
        Event::Ready(new) | Event::Running(new) => *new != proc,
        Event::Unready(new) => {
            *new == proc && matches!(before.phase, Phase::Starting { app: Some(_), .. })
        }
        Event::Ordered(Order::Rollback) => {
            let is_the_new = matches!(
                before.phase,
                Phase::Starting { new, app: Some(_) } if new == proc
            );
            is_the_new || may_roll_back(before)
        }
        Event::Interrupted | Event::Ordered(Order::Restart) | Event::AppInput(_) => true,
        Event::Ordered(Order::Resume | Order::PauseOrResume) if before.restart => true,
        Event::Saved(_)
        | Event::Ruled(_)
        | Event::FollowUp(_)
        | Event::Reconfigured(_)
        | Event::Gone(_)
        | Event::Due(_)
        | Event::Ordered(Order::Resume | Order::PauseOrResume) => {
            let replaced_before_it_served = !app.ready && serving > 0;
            let unready_beside_another = matches!(
                before.phase,
                Phase::Starting { new, app: Some(_) } if new == proc
            );
            replaced_before_it_served || unready_beside_another || !policy.builds
        }
        _ => false,
    }
}

/// What must hold between any two steps.
fn consistent(state: &State, world: &World) -> Broken {
    let mut named: Vec<Proc> = state.leaving.keys().copied().collect();
    named.extend(phase_procs(&state.phase));
    named.sort();
    let living: Vec<Proc> = world.living.keys().copied().collect();
    if state.phase != Phase::Done {
        promise(named == living, "P4: each living process is in the state exactly once")?;
    }
    promise(
        world.apps().filter(|one| one.dismissed && !one.killed).count() <= MOST_LEAVING,
        "at most three apps drain at once",
    )?;
    promise(
        state.policy.mode == Mode::Handover
            || world.apps().filter(|one| !one.dismissed).count() <= 1
            || state.pending.is_some(),
        "P3: one app in restart mode",
    )
}

fn phase_procs(phase: &Phase) -> Vec<Proc> {
    match phase {
        Phase::Idle { app } | Phase::Waiting { app, .. } => app.iter().copied().collect(),
        Phase::Building { build, app, .. }
        | Phase::Cancelling { build, app, .. }
        | Phase::Ruling { rules: build, app } => app.iter().copied().chain([*build]).collect(),
        Phase::Starting { new, app } => app.iter().copied().chain([*new]).collect(),
        Phase::Closing { hook, app, .. } => app.iter().copied().chain([*hook]).collect(),
        Phase::Stopping | Phase::Quitting { .. } | Phase::Done => Vec::new(),
    }
}

/// Whether nothing runs that would read a source by itself, and nothing that will is under way.
fn revives(state: &State) -> bool {
    matches!(
        state.phase,
        Phase::Idle { app: None }
            | Phase::Waiting { app: None, due: Due::Restart(_) }
            | Phase::Ruling { app: None, .. }
    )
}

fn save() -> Event {
    Event::Saved(Cause::Save(Vec::new()))
}

/// All that can happen next.
fn events(scope: &Scope, state: &State, world: &World) -> Vec<Event> {
    let mut events = vec![save(), Event::Interrupted, Event::Ordered(Order::Restart)];
    if scope.rules {
        events.push(Event::Ordered(Order::Signal(Signal::SIGUSR1)));
        let none = || Cause::Save(Vec::new());
        events.extend([Event::Ruled(none()), Event::RuledByBuild(none())]);
        events.extend([Event::AppInput(none()), Event::Revival(none()), Event::Unbuilt]);
    }
    if scope.rollbacks {
        events.push(Event::Ordered(Order::Rollback));
        events.push(Event::Fallback(!state.fallback));
        events.extend(state.unproven.map(Event::Proven));
    }
    if scope.pauses {
        let orders = [Order::Pause, Order::Resume, Order::PauseOrResume];
        events.extend(orders.map(Event::Ordered));
    }
    if scope.follow_ups {
        events.push(Event::FollowUp(Cause::Save(Vec::new())));
    }
    events.extend(scope.other.map(Event::Reconfigured));
    for (proc, one) in &world.living {
        if one.exited {
            events.push(Event::Gone(*proc));
        } else {
            events.push(Event::Exited(*proc, Ended::Code(0)));
            events.push(Event::Exited(*proc, Ended::Code(1)));
        }
        if matches!(state.phase, Phase::Building { build, .. } if build == *proc) && !one.exited {
            let apps = world.living.iter().filter(|(_, app)| app.is_same_when_built_again());
            events.extend(apps.map(|(app, _)| Event::BuiltSame { build: *proc, app: *app }));
        }
        if one.role == Role::App {
            events.push(Event::Ready(*proc));
            events.push(Event::Running(*proc));
            events.push(Event::Unready(*proc));
        }
        if one.dismissed || one.role == Role::Hook {
            events.push(Event::Overdue(*proc));
        }
    }
    events.extend(state.spacing.map(|build| Event::Due(Timer::Spacing(build))));
    if let Phase::Waiting { due: Due::Restart(app), .. } = state.phase {
        events.push(Event::Due(Timer::Backoff(app)));
    }
    events.extend(state.pausing.map(|app| Event::Due(Timer::Backoff(app))));
    events
}

/// A late word about somebody who is gone.
fn late_events() -> Vec<Event> {
    let gone = Proc(0);
    vec![
        Event::Exited(gone, Ended::Code(0)),
        Event::Gone(gone),
        Event::Ready(gone),
        Event::Running(gone),
        Event::Unready(gone),
        Event::Proven(gone),
        Event::Overdue(gone),
        Event::Due(Timer::Spacing(gone)),
        Event::Due(Timer::Backoff(gone)),
    ]
}

/// The same pair with the processes numbered from 1 in order of age, and with nothing in
/// it that only counts or names.
fn canonical(state: &State, world: &World) -> (State, World) {
    let mut procs: Vec<Proc> = world.living.keys().copied().collect();
    procs.extend(state.spacing);
    procs.extend(state.pausing);
    if let Phase::Waiting { due: Due::Restart(app), .. } = &state.phase {
        procs.push(*app);
    }
    procs.extend(phase_procs(&state.phase));
    procs.extend(state.leaving.keys());
    procs.sort();
    procs.dedup();
    let rank: HashMap<Proc, Proc> =
        procs.iter().zip(1..).map(|(proc, number)| (*proc, Proc(number))).collect();
    let to = |proc: &Proc| rank[proc];
    let none = || Cause::Save(Vec::new());

    let mut state = state.clone();
    let map = |app: &Option<Proc>| app.as_ref().map(to);
    state.phase = match &state.phase {
        Phase::Idle { app } => Phase::Idle { app: map(app) },
        Phase::Waiting { app, due } => Phase::Waiting {
            app: map(app),
            due: match due {
                Due::Build(_) => Due::Build(none()),
                Due::Restart(app) => Due::Restart(to(app)),
            },
        },
        Phase::Building { build, app, .. } => {
            Phase::Building { build: to(build), app: map(app), cause: none() }
        }
        Phase::Cancelling { build, app, .. } => {
            Phase::Cancelling { build: to(build), app: map(app), cause: none() }
        }
        Phase::Ruling { rules, app } => Phase::Ruling { rules: to(rules), app: map(app) },
        Phase::Starting { new, app } => Phase::Starting { new: to(new), app: map(app) },
        Phase::Closing { hook, next, app, code } => {
            Phase::Closing { hook: to(hook), next: *next, app: map(app), code: *code }
        }
        other => other.clone(),
    };
    state.leaving = state.leaving.iter().map(|(proc, one)| (to(proc), *one)).collect();
    state.spacing = state.spacing.as_ref().map(to);
    state.pausing = state.pausing.as_ref().map(to);
    state.follow_up = state.follow_up.as_ref().map(|_| none());
    state.rules = state.rules.as_ref().map(|_| none());
    state.owed = state.owed.as_ref().map(|_| none());
    let living = |app: &Proc| world.living.get(app).is_some_and(|one| !one.exited);
    state.unready = state.unready.filter(living).as_ref().map(to);
    state.unproven = state.unproven.filter(living).as_ref().map(to);
    state.late = state.late.filter(living).as_ref().map(to);
    if let Pause::On(kept) = &mut state.pause {
        *kept = kept.as_ref().map(|_| none());
    }
    state.overtaken = 0;
    state.generation = 0;
    state.last_proc = u32::try_from(procs.len()).expect("a handful");

    let mut world = world.clone();
    // Of what was asked for before, the state itself must know.
    world.rules_due = false;
    world.restart_due = false;
    world.living = world.living.iter().map(|(proc, one)| (to(proc), *one)).collect();
    // Where nothing older serves or is to, nothing needs an excuse.
    let is_late = world.living.values().any(|one| one.late);
    let is_pending = state.source == Source::Kept || state.failed_start || is_late;
    world.may_go_back &= state.failed_start || is_late;
    let older_serves = world.apps().any(|one| !one.dismissed && !one.latest);
    world.is_given_up &= older_serves || is_pending;
    world.went_back &= state.source == Source::Kept;
    for one in world.living.values_mut().filter(|one| one.exited || one.dismissed) {
        one.fresh = false;
        one.cut_short &= one.role == Role::Build;
        (one.latest, one.kept, one.late) = (false, false, false);
    }
    (state, world)
}

/// The machine under test: the real one, or one with a fault planted.
type Step = fn(State, Event) -> (State, Vec<Effect>);

/// One transition, held against every promise.
fn transition(
    step: Step,
    state: &State,
    world: &World,
    event: &Event,
) -> Result<(State, World), String> {
    let mut world = world.clone();
    happen(&mut world, state, event);
    let (after, effects) = step(state.clone(), event.clone());
    let context = |why: String| {
        format!("{why}\n  state {state:?}\n  event {event:?}\n  after {after:?}\n  did {effects:?}")
    };
    perform(&mut world, state, event, &after, &effects).map_err(context)?;
    consistent(&after, &world).map_err(context)?;
    let insists =
        matches!(state.phase, Phase::Closing { .. } | Phase::Quitting { forced: false, .. })
            && *event == Event::Interrupted;
    if insists {
        let all = world.living.values().all(|one| one.killed);
        promise(all, "a second Ctrl-C kills everyone").map_err(context)?;
    }
    if let Phase::Starting { new, app: Some(_) } = state.phase
        && *event == Event::Unready(new)
    {
        let is_dismissed = world.living.get(&new).is_none_or(|one| one.dismissed);
        promise(is_dismissed, "who is not ready in time is dismissed").map_err(context)?;
    }
    Ok((after, world))
}

struct Explored {
    states: usize,
    transitions: usize,
}

fn explore(step: Step, scope: &Scope) -> Result<Explored, String> {
    let first = canonical(&State::new(scope.policy), &World::default());
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    let mut transitions = 0;
    while let Some((state, world)) = queue.pop_front() {
        for event in late_events() {
            let (after, effects) = step(state.clone(), event.clone());
            if after != state || !effects.is_empty() {
                return Err(format!("a late {event:?} changes {state:?}"));
            }
        }
        ends_when_asked(step, &state, &world, true)?;
        ends_when_asked(step, &state, &world, false)?;
        serves_the_newest_save(step, &state, &world)?;
        serves_the_newest_that_builds(step, &state, &world)?;
        if scope.rollbacks {
            goes_back_when_a_start_fails(step, &state, &world)?;
        }
        follows_up(step, &state, &world)?;
        if scope.rules {
            runs_rules_and_restarts(step, &state, &world)?;
        }
        for event in events(scope, &state, &world) {
            let (after, world) = transition(step, &state, &world, &event)?;
            transitions += 1;
            if after.phase == Phase::Done || world.living.len() > scope.most_living {
                continue;
            }
            let next = canonical(&after, &world);
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    Ok(Explored { states: seen.len(), transitions })
}

/// Liveness: Ctrl-C, and children that end when asked (or only when killed), lead to the end.
fn ends_when_asked(step: Step, state: &State, world: &World, obedient: bool) -> Broken {
    let mut now = (state.clone(), world.clone());
    if !matches!(state.phase, Phase::Quitting { .. } | Phase::Closing { .. }) {
        now = transition(step, &now.0, &now.1, &Event::Interrupted)?;
    }
    for _ in 0..100 {
        if now.0.phase == Phase::Done {
            return promise(now.1.living.is_empty(), "P4: nobody is left");
        }
        let next = now.1.living.iter().find_map(|(proc, one)| {
            let hook = one.role == Role::Hook;
            match one {
                Living { exited: true, .. } => Some(Event::Gone(*proc)),
                Living { killed: true, .. } => Some(Event::Exited(*proc, Ended::Code(1))),
                Living { dismissed: true, .. } if obedient => {
                    Some(Event::Exited(*proc, Ended::Code(0)))
                }
                _ if hook && obedient => Some(Event::Exited(*proc, Ended::Code(0))),
                Living { dismissed: true, .. } => Some(Event::Overdue(*proc)),
                _ if hook => Some(Event::Overdue(*proc)),
                _ => None,
            }
        });
        let Some(event) = next else { break };
        now = transition(step, &now.0, &now.1, &event)?;
    }
    Err(format!("Ctrl-C does not lead to the end from {state:?}; stuck in {:?}", now.0))
}

/// Children behave and deadlines come until nothing more happens.
fn come_to_rest(step: Step, mut now: (State, World)) -> Result<(State, World), String> {
    for _ in 0..100 {
        let of_process = now.1.living.iter().find_map(|(proc, one)| match one {
            Living { exited: true, .. } => Some(Event::Gone(*proc)),
            Living { dismissed: true, .. } | Living { role: Role::Build | Role::Rules, .. } => {
                Some(Event::Exited(*proc, Ended::Code(0)))
            }
            Living { role: Role::App, ready: false, .. } => Some(Event::Ready(*proc)),
            _ => None,
        });
        let of_clock = now.0.spacing.map(|build| Event::Due(Timer::Spacing(build)));
        let Some(event) = of_process.or(of_clock) else { return Ok(now) };
        now = transition(step, &now.0, &now.1, &event)?;
    }
    Err(format!("no rest: {:?}", now.0))
}

/// Liveness: what a build wrote for the next build is built, though nobody saves again.
fn follows_up(step: Step, state: &State, world: &World) -> Broken {
    if !world.follow_up || state.pause != Pause::Off || !state.has_follow_ups() {
        return Ok(());
    }
    let (after, world) = come_to_rest(step, (state.clone(), world.clone()))?;
    let served = world.apps().all(|one| one.fresh);
    let kept = !world.follow_up && served;
    promise(kept, &format!("P1: a follow-up is forgotten from {state:?}; ends in {after:?}"))
}

/// How the running build may end, beside well and with another program; nothing: none runs.
fn ends_of_a_build(state: &State, world: &World) -> Vec<Option<Event>> {
    // A failed build is to leave nothing running with `stop_on_error`.
    let (Phase::Building { build, app, .. }, false) = (&state.phase, state.policy.stop_on_error)
    else {
        return vec![None];
    };
    let mut ends = vec![Some(Event::Exited(*build, Ended::Code(1)))];
    if let Some(app) = app.filter(|app| world.living[app].is_same_when_built_again()) {
        ends.push(Some(Event::BuiltSame { build: *build, app }));
    }
    ends
}

/// Liveness: the rules of a saved file run, and what only the app reads is read again, if
/// children behave, and whether or not a build fails meanwhile.
fn runs_rules_and_restarts(step: Step, state: &State, world: &World) -> Broken {
    if matches!(state.phase, Phase::Closing { .. } | Phase::Quitting { .. }) {
        return Ok(());
    }
    let none = || Cause::Save(Vec::new());
    for event in [Event::Ruled(none()), Event::RuledByBuild(none()), Event::AppInput(none())] {
        let mut now = transition(step, state, world, &event)?;
        if state.pause != Pause::Off {
            now = transition(step, &now.0, &now.1, &Event::Ordered(Order::Resume))?;
        }
        for end in ends_of_a_build(&now.0, &now.1) {
            let ended =
                end.map_or(Ok(now.clone()), |end| transition(step, &now.0, &now.1, &end))?;
            let (after, world) = come_to_rest(step, ended)?;
            let waits = after.restart && after.built && after.phase != Phase::Done;
            if world.rules_due || waits || (world.restart_due && after.built) {
                return Err(format!(
                    "P1: {event:?} is forgotten from {state:?}; ends in {after:?} with {world:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Liveness: a save, and children that behave, lead to that save being served.
fn serves_the_newest_save(step: Step, state: &State, world: &World) -> Broken {
    if matches!(state.phase, Phase::Closing { .. } | Phase::Quitting { .. }) {
        return Ok(());
    }
    let mut now = (state.clone(), world.clone());
    if state.pause != Pause::Off {
        now = transition(step, &now.0, &now.1, &Event::Ordered(Order::Resume))?;
    }
    now = transition(step, &now.0, &now.1, &save())?;
    now = come_to_rest(step, now)?;
    let (after, world) = &now;
    let serving: Vec<&Living> = world.living.values().collect();
    let good = match (&after.phase, after.policy.runs) {
        (Phase::Idle { app: Some(_) }, true) => {
            matches!(serving[..], [one] if one.ready && one.fresh)
        }
        (Phase::Idle { app: None }, false) => serving.is_empty() && world.artifact == Some(true),
        (Phase::Done, _) => state.policy.once,
        _ => false,
    };
    let nothing_left = after.rules.is_none() && after.owed.is_none() && !world.rules_due;
    if good && nothing_left && !world.follow_up && after.pending.is_none() {
        return Ok(());
    }
    Err(format!("P1: a save is not served from {state:?}; ends in {after:?} with {world:?}"))
}

/// Liveness: after a save that does not build, what was last built serves, unless that does
/// not start either.
fn serves_the_newest_that_builds(step: Step, state: &State, world: &World) -> Broken {
    let ends = matches!(state.phase, Phase::Closing { .. } | Phase::Quitting { .. });
    if ends || state.policy.once || state.policy.stop_on_error {
        return Ok(());
    }
    let mut now = (state.clone(), world.clone());
    if state.pause != Pause::Off {
        now = transition(step, &now.0, &now.1, &Event::Ordered(Order::Resume))?;
    }
    now = transition(step, &now.0, &now.1, &save())?;
    for _ in 0..20 {
        let build = match now.0.phase {
            Phase::Cancelling { build, .. } if now.1.living[&build].exited => Event::Gone(build),
            Phase::Building { build, .. } | Phase::Cancelling { build, .. } => {
                Event::Exited(build, Ended::Code(1))
            }
            Phase::Ruling { rules, .. } => Event::Exited(rules, Ended::Code(0)),
            Phase::Waiting { due: Due::Build(_), .. } => {
                let Some(build) = now.0.spacing else { break };
                Event::Due(Timer::Spacing(build))
            }
            _ => break,
        };
        now = transition(step, &now.0, &now.1, &build)?;
    }
    let (after, world) = come_to_rest(step, now)?;
    let is_kept_down = world.is_given_up || !after.policy.builds || !after.built;
    let good = is_kept_down || world.apps().all(|one| one.latest);
    let from = || format!("from {state:?}; ends in {after:?} with {world:?}");
    let was_to_start = matches!(state.phase, Phase::Stopping | Phase::Starting { .. });
    let serves = world.apps().any(|one| one.ready && !one.dismissed);
    let has_nothing = !after.built && after.policy.builds && after.source == Source::Built;
    let kept = serves || has_nothing || !was_to_start || !after.policy.runs;
    promise(kept, &format!("P2: what was to start is forgotten {}", from()))?;
    promise(good, &format!("P1: an older app than the last built serves {}", from()))
}

/// Liveness: where there is something good to go back to, a failed start leaves nobody
/// without an app, also while a build runs that then fails. Should what was gone back to fail,
/// too, that is the end of it.
fn goes_back_when_a_start_fails(step: Step, state: &State, world: &World) -> Broken {
    if !state.policy.rollback || !state.fallback || state.policy.stop_on_error {
        return Ok(());
    }
    let (new, build) = match state.phase {
        Phase::Starting { new, .. } => (new, None),
        Phase::Building { build, app: Some(app), .. } => (app, Some(build)),
        _ => return Ok(()),
    };
    if state.unproven != Some(new) {
        return Ok(());
    }
    for failure in [Event::Exited(new, Ended::Code(1)), Event::Unready(new)] {
        let is_late = matches!(failure, Event::Unready(_));
        let mut now = transition(step, state, world, &failure)?;
        if let Some(build) = build {
            now = transition(step, &now.0, &now.1, &Event::Exited(build, Ended::Code(1)))?;
        }
        let (after, world) = come_to_rest(step, now)?;
        if after.phase == Phase::Done {
            continue;
        }
        let Phase::Idle { app: Some(app) } = after.phase else {
            return Err(format!(
                "P2: nobody serves after a failed start from {state:?}: {after:?}"
            ));
        };
        if after.source != Source::Kept || !world.living[&app].kept {
            // A build came between, or the old one has never left.
            let is_excused = state.restart || state.rules.is_some() || state.owed.is_some();
            let has_old = matches!(state.phase, Phase::Starting { app: Some(_), .. });
            let has_more = state.follow_up.is_some() || state.unready != Some(new);
            let good = !is_late || is_excused || has_old || has_more;
            promise(good, &format!("P2: who is late stays, from {state:?}: {after:?}"))?;
            continue;
        }
        let (after, _) = transition(step, &after, &world, &Event::Exited(app, Ended::Code(1)))?;
        let waits = !matches!(after.phase, Phase::Starting { .. } | Phase::Stopping);
        promise(
            waits,
            &format!("an artifact that was gone back to is no failed start: {after:?}"),
        )?;
    }
    Ok(())
}

const PLAIN: Policy = Policy {
    mode: Mode::Restart,
    on_exit: OnExit::Wait,
    stop_on_error: false,
    rollback: false,
    builds: true,
    runs: true,
    hooks: 0,
    spaced: false,
    once: false,
};

const STOPPING: Policy = Policy { stop_on_error: true, ..PLAIN };

const HANDOVER: Policy = Policy { mode: Mode::Handover, ..PLAIN };

const BACK: Policy = Policy { rollback: true, ..PLAIN };

const fn scope(name: &'static str, policy: Policy) -> Scope {
    let (pauses, follow_ups, rules, rollbacks) = (false, false, false, false);
    Scope { name, policy, other: None, pauses, follow_ups, rules, rollbacks, most_living: 4 }
}

/// In the quick half of the exploration there is one process less at a time.
const WHOLE: &str = "HOTRUN_TEST_WHOLE";

fn every_promise_holds(mut scope: Scope) {
    if std::env::var_os(WHOLE).is_none() {
        scope.most_living = (scope.most_living - 1).max(2);
    }
    let Explored { states, transitions } =
        explore(State::step, &scope).unwrap_or_else(|why| panic!("{}: {why}", scope.name));
    println!("{}: {states} states, {transitions} transitions", scope.name);
    assert!(states > 50, "{}: the exploration did not get anywhere", scope.name);
}

/// A test for each scope: every promise holds on every transition in it.
macro_rules! explored {
    ($($test:ident: $scope:expr;)*) => {
        const SCOPES: &[Scope] = &[$($scope),*];

        mod every_promise_holds_in {
            use super::*;
            $(
                #[test]
                fn $test() {
                    every_promise_holds($scope);
                }
            )*
        }
    };
}

const fn on_exit(on_exit: OnExit, policy: Policy) -> Policy {
    Policy { on_exit, ..policy }
}

explored! {
    rollback: Scope { rollbacks: true, most_living: 3, ..scope("rollback", BACK) };
    rollback_by_hand_alone: Scope {
        rollbacks: true, most_living: 3,
        ..scope("rollback by hand alone", PLAIN)
    };
    rollback_handover: Scope {
        rollbacks: true, most_living: 3,
        ..scope("rollback, handover", Policy { mode: Mode::Handover, ..BACK })
    };
    rollback_handover_all: Scope {
        rollbacks: true, rules: true, pauses: true, most_living: 2,
        ..scope("rollback, handover, all", Policy { mode: Mode::Handover, ..BACK })
    };
    rollback_rules_on_exit_restart: Scope {
        rollbacks: true, rules: true, most_living: 2,
        ..scope("rollback, rules, on_exit = restart", on_exit(OnExit::Restart, BACK))
    };
    rollback_pauses_on_exit_quit_hooks: Scope {
        rollbacks: true, pauses: true, follow_ups: true, most_living: 2,
        ..scope(
            "rollback, pauses, on_exit = quit, hooks",
            on_exit(OnExit::Quit, Policy { hooks: 1, spaced: true, ..BACK })
        )
    };
    rollback_run_only: Scope {
        rollbacks: true, most_living: 2,
        ..scope("rollback, run only", Policy { builds: false, ..BACK })
    };
    rollback_stop_on_error_then_handover: Scope {
        rollbacks: true, other: Some(Policy { mode: Mode::Handover, ..PLAIN }), most_living: 2,
        ..scope("rollback, stop_on_error, then handover", Policy { stop_on_error: true, ..BACK })
    };
    restart: scope("restart", PLAIN);
    restart_all: Scope {
        pauses: true, follow_ups: true, most_living: 3,
        ..scope("restart, all", PLAIN)
    };
    restart_spaced_hooks: Scope {
        follow_ups: true, most_living: 3,
        ..scope("restart, spaced, hooks", Policy { spaced: true, hooks: 2, ..PLAIN })
    };
    restart_on_exit_restart: scope("restart, on_exit = restart", on_exit(OnExit::Restart, PLAIN));
    restart_on_exit_quit_spaced: Scope {
        most_living: 3,
        ..scope(
            "restart, on_exit = quit, spaced",
            on_exit(OnExit::Quit, Policy { spaced: true, hooks: 1, ..PLAIN })
        )
    };
    restart_stop_on_error: scope(
        "restart, stop_on_error",
        Policy { stop_on_error: true, ..PLAIN }
    );
    build_only_then_both: Scope {
        other: Some(PLAIN), most_living: 3,
        ..scope("build only, then both", Policy { runs: false, ..PLAIN })
    };
    run_only_then_both: Scope {
        other: Some(PLAIN), most_living: 3,
        ..scope("run only, then both", Policy { builds: false, ..PLAIN })
    };
    restart_then_handover: Scope {
        other: Some(HANDOVER), most_living: 3,
        ..scope("restart, then handover", PLAIN)
    };
    handover_then_restart: Scope {
        other: Some(PLAIN), most_living: 3,
        ..scope("handover, then restart", HANDOVER)
    };
    handover: Scope { most_living: 5, ..scope("handover", HANDOVER) };
    handover_all: Scope {
        pauses: true, follow_ups: true, most_living: 3,
        ..scope("handover, all", HANDOVER)
    };
    handover_on_exit_restart: scope(
        "handover, on_exit = restart",
        on_exit(OnExit::Restart, HANDOVER)
    );
    handover_stop_on_error_hooks: scope(
        "handover, stop_on_error, hooks",
        Policy { stop_on_error: true, hooks: 1, ..HANDOVER }
    );
    handover_run_only: scope("handover, run only", Policy { builds: false, ..HANDOVER });
    rules: Scope { rules: true, most_living: 3, ..scope("rules", PLAIN) };
    rules_pauses: Scope {
        rules: true, pauses: true, most_living: 2,
        ..scope("rules, pauses", PLAIN)
    };
    rules_follow_ups_on_exit_restart_hooks: Scope {
        rules: true, follow_ups: true, pauses: true, most_living: 2,
        ..scope(
            "rules, follow-ups, on_exit = restart, hooks",
            on_exit(OnExit::Restart, Policy { hooks: 1, ..PLAIN })
        )
    };
    rules_on_exit_quit_stop_on_error: Scope {
        rules: true, most_living: 3,
        ..scope("rules, on_exit = quit, stop_on_error", on_exit(OnExit::Quit, STOPPING))
    };
    rules_handover: Scope { rules: true, most_living: 3, ..scope("rules, handover", HANDOVER) };
    rules_run_only: Scope {
        rules: true, most_living: 3,
        ..scope("rules, run only", Policy { builds: false, ..PLAIN })
    };
    once: scope("once", on_exit(OnExit::Quit, Policy { once: true, ..PLAIN }));
}

// That the exploration can fail: each of these machines has one fault, made by changing
// what the real machine answers.

fn spawn_app(state: &mut State, effects: &mut Vec<Effect>, app: Option<Proc>) {
    state.last_proc += 1;
    let new = Proc(state.last_proc);
    effects.push(Effect::SpawnApp(new, 1, Source::Built));
    state.phase = Phase::Starting { new, app };
}

fn dismiss_app(state: &mut State, effects: &mut Vec<Effect>, app: Proc) {
    effects.push(Effect::Dismiss(app));
    state.leaving.insert(app, Leaving::new(Role::App));
}

fn starts_without_waiting_for_the_old(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, mut effects) = state.step(event);
    if after.phase == Phase::Stopping {
        spawn_app(&mut after, &mut effects, None);
    }
    (after, effects)
}

fn forgets_who_leaves(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    after.leaving.clear();
    (after, effects)
}

fn ignores_a_save_while_stopping(state: State, event: Event) -> (State, Vec<Effect>) {
    if state.phase == Phase::Stopping && matches!(event, Event::Saved(_)) {
        return (state, Vec::new());
    }
    state.step(event)
}

fn ignores_a_revival(state: State, event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::Revival(_) => (state, Vec::new()),
        event => state.step(event),
    }
}

fn takes_a_revival_for_a_save(state: State, event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::Revival(_) => state.step(Event::Ordered(Order::Restart)),
        event => state.step(event),
    }
}

fn exits_early(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, mut effects) = state.step(event);
    if let Phase::Quitting { code, .. } = after.phase {
        effects.push(Effect::Exit(code));
        after.phase = Phase::Done;
    }
    (after, effects)
}

fn builds_beside_the_overtaken(state: State, event: Event) -> (State, Vec<Effect>) {
    let was_building = state.is_building();
    let (mut after, mut effects) = state.step(event);
    if let (true, Phase::Cancelling { build, app, cause }) = (was_building, after.phase.clone()) {
        after.leaving.insert(build, Leaving::new(Role::Build));
        after.last_proc += 1;
        let next = Proc(after.last_proc);
        effects.push(Effect::SpawnBuild(next, cause.clone()));
        after.phase = Phase::Building { build: next, app, cause };
    }
    (after, effects)
}

fn keeps_the_same_program_though_a_restart_is_due(
    state: State,
    event: Event,
) -> (State, Vec<Effect>) {
    let is_same = matches!(event, Event::BuiltSame { .. });
    let mut state = state;
    if is_same {
        state.restart = false;
    }
    state.step(event)
}

fn goes_back_though_the_newest_was_built(state: State, event: Event) -> (State, Vec<Effect>) {
    let (is_same, source) = (matches!(event, Event::BuiltSame { .. }), state.source);
    let (mut after, effects) = state.step(event);
    if is_same && matches!(after.phase, Phase::Idle { .. }) {
        after.source = source;
    }
    (after, effects)
}

fn restarts_the_same_program(state: State, event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::BuiltSame { build, .. } => state.step(Event::Exited(build, Ended::Code(0))),
        event => state.step(event),
    }
}

fn ignores_a_save_while_building(state: State, event: Event) -> (State, Vec<Effect>) {
    if state.is_building() && matches!(event, Event::Saved(_)) {
        return (state, Vec::new());
    }
    state.step(event)
}

fn stops_the_app_when_a_build_fails(state: State, event: Event) -> (State, Vec<Effect>) {
    let failed = matches!(
        (&state.phase, &event),
        (Phase::Building { build, .. }, Event::Exited(proc, ended))
            if build == proc && !ended.succeeded()
    );
    let (mut after, mut effects) = state.step(event);
    if let (true, Phase::Idle { app: Some(app) }) = (failed, after.phase.clone()) {
        dismiss_app(&mut after, &mut effects, app);
        after.phase = Phase::Idle { app: None };
    }
    (after, effects)
}

fn restarts_the_old_when_a_build_fails(state: State, event: Event) -> (State, Vec<Effect>) {
    match (&state.phase, event) {
        (Phase::Building { build, .. }, Event::Exited(proc, _)) if *build == proc => {
            state.step(Event::Exited(proc, Ended::Code(0)))
        }
        (_, event) => state.step(event),
    }
}

fn forgets_the_spacing_timer(state: State, event: Event) -> (State, Vec<Effect>) {
    let mut after = state.clone();
    if state.spacing.is_some_and(|build| event == Event::Due(Timer::Spacing(build))) {
        after.spacing = None;
        return (after, Vec::new());
    }
    state.step(event)
}

fn never_kills_an_overtaken_build(state: State, event: Event) -> (State, Vec<Effect>) {
    let (after, mut effects) = state.step(event);
    effects.retain(|effect| !matches!(effect, Effect::Kill(_)));
    (after, effects)
}

fn asks_twice(state: State, event: Event) -> (State, Vec<Effect>) {
    let cancelling = match state.phase {
        Phase::Cancelling { build, .. } if event == Event::Interrupted => Some(build),
        _ => None,
    };
    let (after, mut effects) = state.step(event);
    effects.extend(cancelling.map(Effect::Dismiss));
    (after, effects)
}

fn believes_any_ready(state: State, event: Event) -> (State, Vec<Effect>) {
    match (&state.phase, event) {
        (Phase::Starting { new, .. }, Event::Ready(_)) => {
            let new = *new;
            state.step(Event::Ready(new))
        }
        (_, event) => state.step(event),
    }
}

fn drops_the_old_when_the_new_is_not_ready(state: State, event: Event) -> (State, Vec<Effect>) {
    match (&state.phase, &event) {
        (Phase::Starting { new, app: Some(_) }, Event::Unready(proc)) if new == proc => {
            let new = *new;
            state.step(Event::Ready(new))
        }
        _ => state.step(event),
    }
}

fn dismisses_before_handing_over(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, mut effects) = state.step(event);
    if let Phase::Starting { new, app: Some(app) } = after.phase
        && effects.iter().any(|effect| matches!(effect, Effect::SpawnApp(..)))
    {
        dismiss_app(&mut after, &mut effects, app);
        after.phase = Phase::Starting { new, app: None };
    }
    (after, effects)
}

fn forgets_the_half_started(state: State, event: Event) -> (State, Vec<Effect>) {
    let half = match state.phase {
        Phase::Starting { new, app: Some(_) } if matches!(event, Event::Saved(_)) => Some(new),
        _ => None,
    };
    let (mut after, mut effects) = state.step(event);
    if let Some(half) = half {
        after.leaving.remove(&half);
        effects.retain(|effect| *effect != Effect::Dismiss(half));
    }
    (after, effects)
}

fn forgets_the_follow_up(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    after.follow_up = None;
    (after, effects)
}

fn forgets_what_came_while_paused(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    if let Pause::On(kept) = &mut after.pause {
        *kept = None;
    }
    (after, effects)
}

fn ignores_the_second_ctrl_c(state: State, event: Event) -> (State, Vec<Effect>) {
    if matches!(state.phase, Phase::Quitting { .. }) && event == Event::Interrupted {
        return (state, Vec::new());
    }
    state.step(event)
}

fn drains_without_limit(state: State, event: Event) -> (State, Vec<Effect>) {
    let by_cap = !matches!(event, Event::Overdue(_) | Event::Interrupted);
    let (after, mut effects) = state.step(event);
    if by_cap {
        effects.retain(|effect| !matches!(effect, Effect::Kill(_)));
    }
    (after, effects)
}

fn misses_a_crash_during_a_build(state: State, event: Event) -> (State, Vec<Effect>) {
    match (&state.phase, &event) {
        (Phase::Building { app: Some(app), .. }, Event::Exited(proc, _)) if app == proc => {
            (state, Vec::new())
        }
        _ => state.step(event),
    }
}

fn forgets_rules_while_building(state: State, event: Event) -> (State, Vec<Effect>) {
    if state.is_building() && matches!(event, Event::RuledByBuild(_)) {
        return (state, Vec::new());
    }
    state.step(event)
}

fn forgets_what_rules_owe(state: State, event: Event) -> (State, Vec<Effect>) {
    let mut state = state;
    if matches!(&state.phase, Phase::Ruling { rules, .. } if event == Event::Exited(*rules, Ended::Code(0)))
    {
        state.owed = None;
    }
    state.step(event)
}

fn builds_beside_rules(state: State, event: Event) -> (State, Vec<Effect>) {
    match (&state.phase, &event) {
        (Phase::Ruling { app, .. }, Event::Saved(cause)) => {
            let (app, cause) = (*app, cause.clone());
            let mut after = state.clone();
            after.last_proc += 1;
            let build = Proc(after.last_proc);
            let effects = vec![Effect::SpawnBuild(build, cause.clone())];
            after.phase = Phase::Building { build, app, cause };
            (after, effects)
        }
        _ => state.step(event),
    }
}

fn forgets_a_restart_while_building(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    if after.is_building() {
        after.restart = false;
    }
    (after, effects)
}

fn takes_the_new_config_for_itself_only(state: State, event: Event) -> (State, Vec<Effect>) {
    if matches!(event, Event::Reconfigured(_)) {
        return (state, Vec::new());
    }
    state.step(event)
}

fn believes_that_what_was_kept_may_fail_to_start(
    state: State,
    event: Event,
) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    if let (Phase::Starting { new, .. }, Source::Kept) = (&after.phase, after.source) {
        after.unproven = Some(*new);
    }
    (after, effects)
}

fn takes_every_crash_for_a_failed_start(state: State, event: Event) -> (State, Vec<Effect>) {
    let mut state = state;
    if let (Phase::Idle { app: Some(app) }, Event::Exited(proc, _)) = (&state.phase, &event)
        && app == proc
        && state.source == Source::Built
    {
        state.unproven = Some(*app);
    }
    state.step(event)
}

fn stays_with_what_was_kept(state: State, event: Event) -> (State, Vec<Effect>) {
    let was_kept = state.source == Source::Kept;
    let (mut after, mut effects) = state.step(event);
    if was_kept {
        after.source = Source::Kept;
        for effect in &mut effects {
            if let Effect::SpawnApp(_, _, source) = effect {
                *source = Source::Kept;
            }
        }
    }
    (after, effects)
}

fn forgets_a_failed_start_while_building(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    if after.is_building() {
        after.failed_start = false;
    }
    (after, effects)
}

fn starts_a_second_beside_one_that_is_not_ready(
    state: State,
    event: Event,
) -> (State, Vec<Effect>) {
    let mut state = state;
    if let (Phase::Building { build, .. }, Event::Exited(proc, _)) = (&state.phase, &event)
        && build == proc
    {
        state.unready = None;
    }
    state.step(event)
}

fn takes_down_who_is_not_ready_for_nothing(state: State, event: Event) -> (State, Vec<Effect>) {
    let late = match (&state.phase, &event) {
        (Phase::Starting { new, app: None }, Event::Unready(proc)) if new == proc => Some(*new),
        _ => None,
    };
    let (mut after, mut effects) = state.step(event);
    if let Some(late) = late {
        dismiss_app(&mut after, &mut effects, late);
        after.phase = Phase::Idle { app: None };
    }
    (after, effects)
}

fn waits_for_ever_for_who_is_not_ready(state: State, event: Event) -> (State, Vec<Effect>) {
    if matches!((&state.phase, &event), (Phase::Starting { app: Some(_), .. }, Event::Unready(_))) {
        return (state, Vec::new());
    }
    state.step(event)
}

fn forgets_who_is_late_while_building(state: State, event: Event) -> (State, Vec<Effect>) {
    let (mut after, effects) = state.step(event);
    if after.is_building() {
        after.late = None;
    }
    (after, effects)
}

fn takes_down_the_app_for_a_rollback_that_is_refused(
    state: State,
    event: Event,
) -> (State, Vec<Effect>) {
    let is_refused = event == Event::Ordered(Order::Rollback) && !state.fallback;
    let (mut after, mut effects) = state.step(event);
    if let (true, Phase::Idle { app: Some(app) }) = (is_refused, after.phase.clone()) {
        dismiss_app(&mut after, &mut effects, app);
        after.phase = Phase::Idle { app: None };
    }
    (after, effects)
}

fn forgets_what_was_to_start(state: State, event: Event) -> (State, Vec<Effect>) {
    let was_stopping = state.phase == Phase::Stopping;
    let (mut after, effects) = state.step(event);
    if was_stopping && after.is_building() {
        after.restart = false;
    }
    (after, effects)
}

#[test]
fn every_planted_fault_is_caught() {
    let spaced = Policy { spaced: true, hooks: 1, ..PLAIN };
    let faults: [(&str, Step, Policy, &str); 42] = [
        ("starts without waiting", starts_without_waiting_for_the_old, PLAIN, "two apps"),
        ("forgets who leaves", forgets_who_leaves, PLAIN, "P4"),
        ("deaf while stopping", ignores_a_save_while_stopping, PLAIN, "stale artifact"),
        ("exits early", exits_early, PLAIN, "does not end before"),
        ("two builds", builds_beside_the_overtaken, PLAIN, "two builds"),
        ("deaf while building", ignores_a_save_while_building, PLAIN, "stale artifact"),
        ("failed build stops the app", stops_the_app_when_a_build_fails, PLAIN, "P2"),
        (
            "failed build starts the old",
            restarts_the_old_when_a_build_fails,
            PLAIN,
            "anything was built",
        ),
        ("no spacing timer", forgets_the_spacing_timer, spaced, "P1"),
        ("never kills", never_kills_an_overtaken_build, PLAIN, "lead to the end"),
        ("asks twice", asks_twice, PLAIN, "asked to end twice"),
        ("believes any ready", believes_any_ready, PLAIN, "late"),
        ("pm2's listen_timeout", drops_the_old_when_the_new_is_not_ready, HANDOVER, "P2"),
        ("dismisses too early", dismisses_before_handing_over, HANDOVER, "P2"),
        ("forgets the half-started", forgets_the_half_started, HANDOVER, "P4"),
        ("forgets the follow-up", forgets_the_follow_up, PLAIN, "P1"),
        ("forgets while paused", forgets_what_came_while_paused, PLAIN, "stale artifact"),
        ("ignores the second Ctrl-C", ignores_the_second_ctrl_c, PLAIN, "second Ctrl-C"),
        ("drains without limit", drains_without_limit, HANDOVER, "at most three"),
        ("misses a crash", misses_a_crash_during_a_build, PLAIN, "P4"),
        ("forgets rules while building", forgets_rules_while_building, PLAIN, "forgotten"),
        ("forgets what rules owe", forgets_what_rules_owe, PLAIN, "P1"),
        ("builds beside rules", builds_beside_rules, PLAIN, "two builds"),
        ("forgets a restart", forgets_a_restart_while_building, PLAIN, "forgotten"),
        ("ignores the new config", takes_the_new_config_for_itself_only, PLAIN, "stale artifact"),
        ("back and back", believes_that_what_was_kept_may_fail_to_start, BACK, "no failed start"),
        ("back for any crash", takes_every_crash_for_a_failed_start, BACK, "nothing older"),
        ("stays back", stays_with_what_was_kept, BACK, "nothing older"),
        (
            "not back after a build",
            forgets_a_failed_start_while_building,
            BACK,
            "P2: nobody serves",
        ),
        (
            "two that are not ready",
            starts_a_second_beside_one_that_is_not_ready,
            HANDOVER,
            "at most one app is not ready",
        ),
        ("kills the slow", takes_down_who_is_not_ready_for_nothing, PLAIN, "P2: the good app"),
        ("kills the slow, too", takes_down_who_is_not_ready_for_nothing, HANDOVER, "P2: the good"),
        ("kills the slow anyway", takes_down_who_is_not_ready_for_nothing, BACK, "P2: the good"),
        ("forgets the late", forgets_who_is_late_while_building, BACK, "who is late stays"),
        (
            "goes nowhere",
            takes_down_the_app_for_a_rollback_that_is_refused,
            BACK,
            "P2: the good app lives",
        ),
        ("waits for ever", waits_for_ever_for_who_is_not_ready, HANDOVER, "not ready in time"),
        ("forgets what was to start", forgets_what_was_to_start, PLAIN, "what was to start"),
        (
            "the same in spite of a restart",
            keeps_the_same_program_though_a_restart_is_due,
            PLAIN,
            "forgotten",
        ),
        (
            "the same, and back",
            goes_back_though_the_newest_was_built,
            Policy { mode: Mode::Handover, ..BACK },
            "nothing older is started",
        ),
        ("replaces the same", restarts_the_same_program, PLAIN, "P2: the good app"),
        ("deaf to what would restart it", ignores_a_revival, PLAIN, "stale artifact"),
        ("restarts what reads by itself", takes_a_revival_for_a_save, PLAIN, "P2: the good app"),
    ];
    for (name, step, policy, promise) in faults {
        let other = Some(Policy { on_exit: OnExit::Restart, ..policy });
        let everything = Scope { other, pauses: true, follow_ups: true, ..scope(name, policy) };
        // With rules there are several times as many states.
        let with_rules = Scope { rules: true, most_living: 3, ..scope(name, policy) };
        let is_of_rules = name.contains("rule") || name.contains("restart");
        let everything = if is_of_rules { with_rules } else { everything };
        let going_back = Scope { rollbacks: true, most_living: 3, ..scope(name, policy) };
        let everything = if policy.rollback { going_back } else { everything };
        match explore(step, &everything) {
            Ok(explored) => {
                panic!("{name}: not caught in {} transitions", explored.transitions)
            }
            Err(why) => assert!(why.contains(promise), "{name}: caught, but as: {why}"),
        }
    }
}

#[path = "differential.rs"]
mod differential;
