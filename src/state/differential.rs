//! The old core and the new one on the same events: their effects are the same, but for listed
//! differences.

use std::collections::BTreeMap;

use super::*;
use crate::core::service::{
    Effect as NewEffect, Gate, Gates, Hold, Input, Life, Phase as NewPhase, Service, Slot, Work,
};

/// What the new core takes for an event of the old one.
fn input(state: &State, event: &Event) -> Option<Input> {
    Some(match event.clone() {
        Event::Saved(cause) => Input::Saved(cause),
        Event::FollowUp(cause) => Input::FollowUp(cause),
        Event::Ruled(cause) => Input::Ruled(cause),
        Event::RuledByBuild(cause) => Input::RuledByBuild(cause),
        Event::AppInput(cause) => Input::ReadByApp(cause),
        Event::Revival(cause) => Input::Revival(cause),
        Event::Unbuilt => Input::Unbuilt,
        Event::Exited(proc, ended) => Input::Exited(proc, ended),
        Event::BuiltSame { build, app } => Input::BuiltSame { build, app },
        Event::Gone(proc) => Input::Gone(proc),
        Event::Ready(proc) => Input::Ready(proc),
        Event::Running(proc) => Input::Running(proc),
        Event::Unready(proc) => Input::Unready(proc),
        Event::Proven(proc) => Input::Proven(proc),
        Event::Fallback(is_there) => Input::Fallback(is_there),
        Event::Overdue(proc) => Input::Overdue(proc),
        Event::Due(timer) => Input::Due(timer),
        Event::Reconfigured(policy) => Input::Reconfigured(policy),
        Event::Ordered(Order::Restart) => Input::Restart,
        Event::Ordered(Order::Rollback) => Input::Rollback,
        Event::Ordered(Order::Signal(signal)) => Input::Signal(signal),
        Event::Ordered(Order::Pause | Order::Resume | Order::PauseOrResume) => Input::Look,
        Event::Interrupted => match state.phase {
            Phase::Closing { .. } | Phase::Quitting { forced: false, .. } => Input::Kill,
            Phase::Quitting { forced: true, .. } => return None,
            _ => Input::Quit,
        },
    })
}

fn gates(state: &State) -> Gates {
    let build = match state.pause {
        Pause::Off => Gate::Open,
        Pause::On(_) => Gate::Closed(Hold::Paused),
    };
    Gates { build, start: Gate::Open }
}

fn old_effects(effects: &[Effect]) -> (Vec<String>, Vec<String>) {
    let (mut acts, mut says) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Say(Notice::Paused | Notice::Resumed | Notice::Ending | Notice::Forcing) => {}
            Effect::Say(notice) => says.push(format!("{notice:?}")),
            Effect::Exit(code) => acts.push(format!("Ended({code})")),
            other => acts.push(format!("{other:?}")),
        }
    }
    says.sort();
    (acts, says)
}

fn new_effects(effects: &[NewEffect]) -> (Vec<String>, Vec<String>) {
    let (mut acts, mut says) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            NewEffect::Say(Notice::Paused) => {}
            NewEffect::Say(notice) => says.push(format!("{notice:?}")),
            other => acts.push(format!("{other:?}")),
        }
    }
    says.sort();
    (acts, says)
}

type Node = (State, World, Service);

fn canonical_of_both((state, world, service): &Node) -> Node {
    let (old, world_now) = canonical(state, world);
    // The same numbers as in `canonical`.
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
    let last = u32::try_from(procs.len()).expect("a handful");
    let rank: HashMap<Proc, Proc> =
        procs.iter().zip(1..).map(|(proc, number)| (*proc, Proc(number))).collect();
    let to = |proc: Proc| *rank.get(&proc).unwrap_or(&Proc(0));
    (old, world_now, service.renamed(&to, last))
}

/// The differences that are meant, each with where it shows. A pair of states in which one has shown
/// is not explored further.
fn listed(state: &State, service: &Service, event: &Event) -> Option<&'static str> {
    let paused = state.pause != Pause::Off;
    let by_build = matches!(event, Event::FollowUp(_) | Event::RuledByBuild(_));
    let is_pause = matches!(event, Event::Ordered(Order::Pause | Order::PauseOrResume));
    let owes_by_build = state.follow_up.is_some() || state.rules.is_some();
    let exits = matches!(event, Event::Exited(..));
    let (work, slot) = match &service.phase {
        NewPhase::Live { work, slot } => (Some(work), Some(*slot)),
        _ => (None, None),
    };
    let has_backoff = matches!(slot, Some(Slot::StartDue { backoff: Some(_) }));
    if paused && by_build || is_pause && owes_by_build {
        return Some("what a build writes stays a follow-up during a pause");
    }
    if is_pause && matches!(state.phase, Phase::Waiting { due: Due::Build(_), .. }) {
        return Some("a save is reported once, also if a pause keeps it from its build");
    }
    if (is_pause || paused) && matches!(state.phase, Phase::Cancelling { .. }) {
        return Some("no build starts during a pause, also after a cancelled one");
    }
    if state.phase == Phase::Stopping && matches!(event, Event::RuledByBuild(_)) {
        return Some("what a build made starts before the rules for what it wrote");
    }
    if exits
        && state.policy.on_exit == OnExit::Restart
        && matches!(
            work,
            Some(
                Work::Building { .. }
                    | Work::Cancelling { .. }
                    | Work::Due(_)
                    | Work::RunningRules { .. }
            )
        )
        && current_app(&state.phase) == exited(event)
    {
        return Some("the backoff runs while something newer is in progress, which may fail");
    }
    if has_backoff
        && matches!(
            event,
            Event::Saved(_)
                | Event::Ruled(_)
                | Event::RuledByBuild(_)
                | Event::FollowUp(_)
                | Event::Reconfigured(_)
                | Event::Revival(_)
                | Event::Ordered(Order::Resume | Order::PauseOrResume)
        )
    {
        return Some(
            "an app that exited is restarted if the build for a save fails; rules do not shorten its backoff",
        );
    }
    let restarts = state.policy.on_exit == OnExit::Restart || state.restart;
    if paused && state.restart && state.policy.rollback {
        return Some("what was built is started before anything older, when a pause ends");
    }
    if matches!(event, Event::Unbuilt) && (restarts || state.phase == Phase::Stopping) {
        return Some("nothing is started that does not exist");
    }
    if matches!(event, Event::Ordered(Order::Signal(_)))
        && matches!(state.phase, Phase::Closing { .. })
    {
        return Some("a signal reaches an app that is not ready while hotrun is closing");
    }
    if is_pause && state.owed.is_some() {
        return Some("what a build writes stays a follow-up during a pause");
    }
    if state.phase == Phase::Stopping && state.rules.is_some() && !exits {
        return Some("rules run before a build also if an app is about to start");
    }
    let runs_rules = matches!(state.phase, Phase::Ruling { .. });
    if is_pause && runs_rules && (matches!(slot, Some(Slot::StartDue { .. })) || state.restart) {
        return Some("a pause keeps no app from starting that is about to");
    }
    if let Event::Proven(app) = event
        && state.unready == Some(*app)
    {
        return Some("only an app that was ready is proven");
    }
    let is_of_handover = |slot| matches!(slot, Some(Slot::Handover { .. }));
    if is_of_handover(slot) && exits && exited(event) == current_app(&state.phase) {
        return Some("the crash of an app that is being replaced leaves no restart behind");
    }
    let old_is_unproven = matches!(slot, Some(Slot::Handover { old, .. }) if old.life == Life::Ready && old.source == Source::Built);
    if old_is_unproven && !matches!(event, Event::Ready(_) | Event::Running(_)) {
        return Some("an app beside which another was started is as unproven as before");
    }
    None
}

fn exited(event: &Event) -> Option<Proc> {
    if let Event::Exited(proc, _) = event { Some(*proc) } else { None }
}

/// Whether the notices differ only in when, and whether, a change is reported that a build made, or
/// in notices that nothing follows.
fn differs_in_reports_alone(old: &[String], new: &[String]) -> bool {
    let is_report = |notice: &&String| {
        let reports = ["Changed(", "NewestAgain", "NothingBuilt", "RollbackPossible"];
        reports.iter().any(|report| notice.starts_with(report))
    };
    let others = |notices: &[String]| -> Vec<String> {
        notices.iter().filter(|notice| !is_report(notice)).cloned().collect()
    };
    others(old) == others(new)
}

#[test]
fn the_new_core_acts_as_the_old_one_but_for_listed_differences() {
    let (mut pairs, mut steps) = (0, 0);
    let mut shown = BTreeMap::new();
    for scope in SCOPES {
        let scope = &Scope { most_living: 2, ..*scope };
        let (state, service) = (State::new(scope.policy), Service::new(scope.policy));
        let first = canonical_of_both(&(state, World::default(), service));
        let mut seen = HashSet::from([first.clone()]);
        let mut queue = VecDeque::from([first]);
        while let Some((state, world, service)) = queue.pop_front() {
            for event in events(scope, &state, &world) {
                let Some(input) = input(&state, &event) else { continue };
                if let Some(difference) = listed(&state, &service, &event) {
                    *shown.entry(difference).or_insert(0_usize) += 1;
                    continue;
                }
                steps += 1;
                let (after, world, new) = step_both(&state, &world, &service, &event, input);
                if after.phase == Phase::Done || world.living.len() > scope.most_living {
                    continue;
                }
                let next = canonical_of_both(&(after, world, new));
                if seen.insert(next.clone()) {
                    queue.push_back(next);
                }
            }
        }
        pairs += seen.len();
    }
    println!("{pairs} pairs of states, {steps} steps");
    for (difference, count) in &shown {
        println!("{count:8} {difference}");
    }
    assert_eq!(shown.len(), 14, "a listed difference never shows");
}

fn step_both(state: &State, world: &World, service: &Service, event: &Event, input: Input) -> Node {
    let mut world = world.clone();
    happen(&mut world, state, event);
    let (after, effects) = state.clone().step(event.clone());
    perform(&mut world, state, event, &after, &effects).expect("the old core keeps its promises");
    let (new, new_effect) = service.clone().step(input, gates(&after));
    let (old_acts, old_says) = old_effects(&effects);
    let (new_acts, new_says) = new_effects(&new_effect);
    let context = || format!("{state:?}\n{service:?}\n{event:?}");
    assert_eq!(old_acts, new_acts, "{}", context());
    assert!(
        differs_in_reports_alone(&old_says, &new_says),
        "{old_says:?} {new_says:?}\n{}",
        context()
    );
    (after, world, new)
}
