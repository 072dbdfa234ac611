//! That the exploration can fail: each of these machines has one fault, made by changing what the
//! real machine answers, and each must be caught by the promise that it breaks.

use super::scopes::{BACK, HANDOVER, PLAIN, scope};
use super::*;
use crate::core::service::Leaving;

type Stepped = (Service, Vec<Effect>);

// Changes to what the machine answers.

fn regions_mut(service: &mut Service) -> Option<(&mut Work, &mut Slot)> {
    match &mut service.phase {
        Phase::Live { work, slot } => Some((work, slot)),
        Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => None,
    }
}

fn number(service: &mut Service) -> Proc {
    service.last_proc += 1;
    Proc(service.last_proc)
}

fn spawn_app(service: &mut Service, effects: &mut Vec<Effect>) {
    let proc = number(service);
    effects.push(Effect::SpawnApp(proc, 1, Source::Built));
    let life = Life::Starting { late: false, signal: None };
    if let Some((_, slot)) = regions_mut(service) {
        *slot = Slot::Single(App { proc, source: Source::Built, is_proven: false, life });
    }
}

fn dismiss_app(service: &mut Service, effects: &mut Vec<Effect>, app: Proc) {
    effects.push(Effect::Dismiss(app));
    service.leaving.insert(app, Leaving { role: Role::App, killed: false });
    if let Some((_, slot)) = regions_mut(service) {
        *slot = Slot::Empty { failed_start: false };
    }
}

fn ended_well(build: Proc) -> Input {
    Input::Exited(build, Ended::Code(0), Lived::Long)
}

/// The end of the build that runs.
fn is_end_of_build(service: &Service, input: &Input) -> bool {
    matches!(input, Input::Exited(proc, ..) if building(service) == Some(*proc))
}

fn owed_mut(service: &mut Service) -> Option<&mut Owed> {
    regions_mut(service)?.0.owed_mut()
}

fn set_life(service: &mut Service, life: Life) {
    if let Some((_, Slot::Single(app))) = regions_mut(service) {
        app.life = life;
    }
}

// Starting and stopping apps

fn starts_without_waiting_for_the_old(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, mut effects) = service.step(input, gates);
    if let Some((Work::Idle, Slot::StartDue { backoff: None })) = regions(&after) {
        spawn_app(&mut after, &mut effects);
    }
    (after, effects)
}

fn forgets_what_leaves(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    after.leaving.clear();
    (after, effects)
}

fn ends_early(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, mut effects) = service.step(input, gates);
    if let Phase::Quitting { code } = after.phase {
        effects.push(Effect::Ended(code));
        after.phase = Phase::Ended;
    }
    (after, effects)
}

fn never_kills(service: Service, input: Input, gates: Gates) -> Stepped {
    let (after, mut effects) = service.step(input, gates);
    effects.retain(|effect| !matches!(effect, Effect::Kill(_)));
    (after, effects)
}

fn drains_without_limit(service: Service, input: Input, gates: Gates) -> Stepped {
    let by_limit = !matches!(input, Input::Overdue(_) | Input::Kill);
    let (after, mut effects) = service.step(input, gates);
    if by_limit {
        effects.retain(|effect| !matches!(effect, Effect::Kill(_)));
    }
    (after, effects)
}

fn asks_twice(service: Service, input: Input, gates: Gates) -> Stepped {
    let cancelled = match (regions(&service), &input) {
        (Some((Work::Cancelling { build, .. }, _)), Input::Quit) => Some(*build),
        _ => None,
    };
    let (after, mut effects) = service.step(input, gates);
    effects.extend(cancelled.map(Effect::Dismiss));
    (after, effects)
}

fn ignores_the_second_ctrl_c(service: Service, input: Input, gates: Gates) -> Stepped {
    if matches!(service.phase, Phase::Quitting { .. }) && input == Input::Kill {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn misses_a_crash_during_a_build(service: Service, input: Input, gates: Gates) -> Stepped {
    let app = current(&service).map(|app| app.proc);
    if building(&service).is_some()
        && matches!(&input, Input::Exited(proc, ..) if app == Some(*proc))
    {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

/// The fault of the first core: a crash during a build was followed by that build alone.
fn forgets_to_restart_when_a_build_fails(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if building(&after).is_some()
        && let Some((_, slot @ Slot::StartDue { .. })) = regions_mut(&mut after)
    {
        *slot = Slot::Empty { failed_start: false };
    }
    (after, effects)
}

// Saves

fn ignores_a_save_while_stopping(service: Service, input: Input, gates: Gates) -> Stepped {
    let is_stopping = matches!(regions(&service), Some((Work::Idle, Slot::StartDue { .. })));
    if is_stopping && matches!(input, Input::Saved(_)) {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn ignores_a_save_while_building(service: Service, input: Input, gates: Gates) -> Stepped {
    if building(&service).is_some() && matches!(input, Input::Saved(_)) {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn ignores_a_revival(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::Revival(_) => (service, Vec::new()),
        input => service.step(input, gates),
    }
}

fn takes_a_revival_for_a_save(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::Revival(_) => service.step(Input::Restart, gates),
        input => service.step(input, gates),
    }
}

fn forgets_the_follow_up(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if let Some(owed) = owed_mut(&mut after) {
        owed.build.take_if(|request| request.origin == Origin::Build);
    }
    (after, effects)
}

fn forgets_what_was_held(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if let Some((work, _)) = regions_mut(&mut after)
        && matches!(work, Work::Due(Owed { build: Some(request), .. }) if request.origin == Origin::HeldSave)
    {
        *work = Work::Idle;
    }
    (after, effects)
}

fn takes_the_new_config_for_itself_only(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::Reconfigured(_) => (service, Vec::new()),
        input => service.step(input, gates),
    }
}

// Builds

fn builds_beside_the_cancelled(service: Service, input: Input, gates: Gates) -> Stepped {
    let was_building = building(&service).is_some();
    let (mut after, mut effects) = service.step(input, gates);
    let cancelled = match regions(&after) {
        Some((Work::Cancelling { build, .. }, _)) if was_building => Some(*build),
        _ => None,
    };
    if let Some(build) = cancelled {
        after.leaving.insert(build, Leaving { role: Role::Build, killed: false });
        start_build(&mut after, &mut effects);
    }
    (after, effects)
}

fn start_build(service: &mut Service, effects: &mut Vec<Effect>) {
    let build = number(service);
    effects.push(Effect::SpawnBuild(build, none()));
    if let Some((work, _)) = regions_mut(service) {
        *work = Work::Building { build, cause: none(), owed: Owed::default() };
    }
}

fn builds_behind_a_closed_gate(service: Service, input: Input, gates: Gates) -> Stepped {
    service.step(input, Gates { build: Gate::Open, ..gates })
}

fn starts_behind_a_closed_gate(service: Service, input: Input, gates: Gates) -> Stepped {
    service.step(input, Gates { start: Gate::Open, ..gates })
}

fn stops_the_app_when_a_build_fails(service: Service, input: Input, gates: Gates) -> Stepped {
    let failed = is_end_of_build(&service, &input)
        && !matches!(&input, Input::Exited(_, ended, _) if ended.succeeded());
    let (mut after, mut effects) = service.step(input, gates);
    if let (true, Some(app)) = (failed, current(&after)) {
        dismiss_app(&mut after, &mut effects, app.proc);
    }
    (after, effects)
}

fn restarts_the_old_when_a_build_fails(service: Service, input: Input, gates: Gates) -> Stepped {
    match (building(&service), input) {
        (Some(build), Input::Exited(proc, ..)) if build == proc => {
            service.step(ended_well(proc), gates)
        }
        (_, input) => service.step(input, gates),
    }
}

fn forgets_the_spacing_timer(service: Service, input: Input, gates: Gates) -> Stepped {
    if service.spacing.is_some_and(|build| input == Input::Due(Timer::Spacing(build))) {
        return (Service { spacing: None, ..service }, Vec::new());
    }
    if let Some((Work::Due(_), _)) = regions(&service)
        && matches!(input, Input::Look | Input::Gone(_))
    {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn keeps_the_same_program_though_a_restart_is_due(
    mut service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    if matches!(input, Input::BuiltSame { .. })
        && let Some(owed) = owed_mut(&mut service)
    {
        owed.restart = false;
    }
    service.step(input, gates)
}

fn restarts_the_same_program(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::BuiltSame { build, .. } => service.step(ended_well(build), gates),
        input => service.step(input, gates),
    }
}

// Rules and restarts

fn forgets_rules_while_building(service: Service, input: Input, gates: Gates) -> Stepped {
    if building(&service).is_some() && matches!(input, Input::RuledByBuild(_)) {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn forgets_what_rules_owe(mut service: Service, input: Input, gates: Gates) -> Stepped {
    if running_rules(&service).is_some_and(|rules| input == ended_well(rules))
        && let Some(owed) = owed_mut(&mut service)
    {
        owed.build = None;
    }
    service.step(input, gates)
}

fn builds_beside_rules(service: Service, input: Input, gates: Gates) -> Stepped {
    if running_rules(&service).is_some() && matches!(input, Input::Saved(_)) {
        let (mut after, mut effects) = (service, Vec::new());
        start_build(&mut after, &mut effects);
        return (after, effects);
    }
    service.step(input, gates)
}

fn forgets_a_restart_while_building(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if building(&after).is_some()
        && let Some(owed) = owed_mut(&mut after)
    {
        owed.restart = false;
    }
    (after, effects)
}

/// What was about to start is not started if the build for a save fails.
fn forgets_what_was_to_start(service: Service, input: Input, gates: Gates) -> Stepped {
    let was_stopping = slot(&service) == Some(Slot::StartDue { backoff: None });
    let (mut after, effects) = service.step(input, gates);
    if was_stopping
        && building(&after).is_some()
        && let Some((_, slot)) = regions_mut(&mut after)
    {
        *slot = Slot::Empty { failed_start: false };
    }
    (after, effects)
}

// Readiness and handover

fn believes_any_ready(service: Service, input: Input, gates: Gates) -> Stepped {
    match (slot(&service), input) {
        (Some(Slot::Single(app)), Input::Ready(_)) => service.step(Input::Ready(app.proc), gates),
        (_, input) => service.step(input, gates),
    }
}

fn drops_the_old_when_the_new_is_not_ready(
    service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    match (half_started(&service), input) {
        (Some(new), Input::Unready(proc)) if new == proc => service.step(Input::Ready(new), gates),
        (_, input) => service.step(input, gates),
    }
}

fn waits_for_ever_for_what_is_not_ready(service: Service, input: Input, gates: Gates) -> Stepped {
    if half_started(&service).is_some() && matches!(input, Input::Unready(_)) {
        return (service, Vec::new());
    }
    service.step(input, gates)
}

fn dismisses_before_handing_over(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, mut effects) = service.step(input, gates);
    if let Some(Slot::Handover { old, new }) = slot(&after)
        && effects.iter().any(|effect| matches!(effect, Effect::SpawnApp(..)))
    {
        dismiss_app(&mut after, &mut effects, old.proc);
        if let Some((_, slot)) = regions_mut(&mut after) {
            *slot = Slot::Single(new);
        }
    }
    (after, effects)
}

fn forgets_the_half_started(service: Service, input: Input, gates: Gates) -> Stepped {
    let half = half_started(&service).filter(|_| matches!(input, Input::Saved(_)));
    let (mut after, mut effects) = service.step(input, gates);
    if let Some(half) = half {
        after.leaving.remove(&half);
        effects.retain(|effect| *effect != Effect::Dismiss(half));
    }
    (after, effects)
}

/// Builds while an app starts beside another.
fn keeps_the_half_started_beside_a_build(service: Service, input: Input, gates: Gates) -> Stepped {
    if half_started(&service).is_some() && matches!(input, Input::Saved(_)) {
        let (mut after, mut effects) = (service, Vec::new());
        start_build(&mut after, &mut effects);
        return (after, effects);
    }
    service.step(input, gates)
}

fn starts_a_second_beside_one_that_is_not_ready(
    mut service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    if building(&service).is_some_and(|build| input == ended_well(build)) {
        set_life(&mut service, Life::Ready);
    }
    service.step(input, gates)
}

fn stops_what_is_not_ready_for_nothing(service: Service, input: Input, gates: Gates) -> Stepped {
    let late = match (slot(&service), &input) {
        (Some(Slot::Single(app)), Input::Unready(proc)) if app.proc == *proc => Some(app),
        _ => None,
    };
    let (mut after, mut effects) = service.step(input, gates);
    let is_left = |app: &App| current(&after).is_some_and(|left| left.proc == app.proc);
    if let Some(late) = late.filter(is_left) {
        dismiss_app(&mut after, &mut effects, late.proc);
    }
    (after, effects)
}

fn forgets_what_is_late_while_building(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if building(&after).is_some()
        && matches!(slot(&after), Some(Slot::Single(App { life: Life::Starting { .. }, .. })))
    {
        set_life(&mut after, Life::Starting { late: false, signal: None });
    }
    (after, effects)
}

// Rollback

fn believes_that_what_was_kept_may_fail_to_start(
    service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if let Some((_, Slot::Single(app))) = regions_mut(&mut after)
        && after_spawn(&effects)
    {
        app.is_proven = false;
    }
    (after, effects)
}

fn after_spawn(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::SpawnApp(_, _, Source::Kept)))
}

fn takes_every_crash_for_a_failed_start(
    mut service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    let exited = |app: &App| matches!(input, Input::Exited(proc, ..) if proc == app.proc);
    if let Some((_, Slot::Single(app))) = regions_mut(&mut service)
        && app.source == Source::Built
        && exited(app)
    {
        app.is_proven = false;
    }
    service.step(input, gates)
}

fn stays_with_what_was_kept(service: Service, input: Input, gates: Gates) -> Stepped {
    let was_kept = service.artifacts.next == Source::Kept;
    let (mut after, mut effects) = service.step(input, gates);
    if was_kept {
        after.artifacts.next = Source::Kept;
        for effect in &mut effects {
            if let Effect::SpawnApp(_, _, source) = effect {
                *source = Source::Kept;
            }
        }
    }
    (after, effects)
}

fn forgets_a_failed_start_while_building(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    if building(&after).is_some()
        && let Some((_, slot @ Slot::Empty { .. })) = regions_mut(&mut after)
    {
        *slot = Slot::Empty { failed_start: false };
    }
    (after, effects)
}

fn stops_the_app_for_a_rollback_that_is_refused(
    service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    let is_refused = input == Input::Rollback && !service.artifacts.older;
    let (mut after, mut effects) = service.step(input, gates);
    if is_refused && let Some(Slot::Single(app)) = slot(&after) {
        dismiss_app(&mut after, &mut effects, app.proc);
    }
    (after, effects)
}

fn goes_back_though_the_newest_was_built(service: Service, input: Input, gates: Gates) -> Stepped {
    let (is_same, next) = (matches!(input, Input::BuiltSame { .. }), service.artifacts.next);
    let (mut after, effects) = service.step(input, gates);
    if is_same {
        after.artifacts.next = next;
    }
    (after, effects)
}

// Orders, exits and gates

fn drops_a_deferred_signal(service: Service, input: Input, gates: Gates) -> Stepped {
    let is_ready = matches!(input, Input::Ready(_));
    let (after, mut effects) = service.step(input, gates);
    if is_ready {
        effects.retain(|effect| !matches!(effect, Effect::Signal(..)));
    }
    (after, effects)
}

fn stays_when_its_app_exits(service: Service, input: Input, gates: Gates) -> Stepped {
    let policy = service.policy;
    let waiting = Service { policy: Policy { on_exit: OnExit::Wait, ..policy }, ..service };
    let (after, effects) = waiting.step(input, gates);
    (Service { policy, ..after }, effects)
}

fn forgets_the_exit_code(service: Service, input: Input, gates: Gates) -> Stepped {
    let (mut after, effects) = service.step(input, gates);
    match &mut after.phase {
        Phase::Closing { code, .. } | Phase::Quitting { code } => *code = 0,
        Phase::Live { .. } | Phase::Ended => {}
    }
    (after, effects)
}

fn ignores_the_spacing(service: Service, input: Input, gates: Gates) -> Stepped {
    Service { spacing: None, ..service }.step(input, gates)
}

fn ignores_a_restart(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::Restart => (service, Vec::new()),
        input => service.step(input, gates),
    }
}

fn refuses_each_rollback(service: Service, input: Input, gates: Gates) -> Stepped {
    match input {
        Input::Rollback => (service, Vec::new()),
        input => service.step(input, gates),
    }
}

fn stops_the_app_for_one_that_may_not_start(
    service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    let (mut after, mut effects) = service.step(input, gates);
    if let Some((Work::Installing(_), Slot::Single(app))) = regions(&after)
        && gates.start != Gate::Open
    {
        let proc = app.proc;
        dismiss_app(&mut after, &mut effects, proc);
    }
    (after, effects)
}

fn stops_the_app_when_its_artifact_is_gone(
    service: Service,
    input: Input,
    gates: Gates,
) -> Stepped {
    let is_unbuilt = input == Input::Unbuilt;
    let (mut after, mut effects) = service.step(input, gates);
    if is_unbuilt && let Some((Work::Installing(_), Slot::Single(app))) = regions(&after) {
        let proc = app.proc;
        dismiss_app(&mut after, &mut effects, proc);
    }
    (after, effects)
}

struct Fault {
    step: Step,
    scope: Scope,
    /// Part of the promise that it breaks.
    breaks: &'static str,
}

macro_rules! caught {
    ($($test:ident: in $scope:expr, $breaks:literal;)*) => {
        mod caught {
            use super::*;
            $(
                #[test]
                fn $test() {
                    is_caught(&Fault { step: super::$test, scope: $scope, breaks: $breaks });
                }
            )*
        }
    };
}

fn is_caught(fault: &Fault) {
    match explore(fault.step, &fault.scope) {
        Ok(explored) => panic!("not caught in {} transitions", explored.transitions),
        Err(why) => assert!(why.contains(fault.breaks), "caught, but as: {why}"),
    }
}

/// Pauses, follow-ups and a configuration that changes.
const fn everything(policy: Policy) -> Scope {
    let other = Some(Policy { on_exit: OnExit::Restart, ..policy });
    Scope { other, gates: PAUSES, follow_ups: true, ..scope(policy) }
}

const fn with_rules(policy: Policy) -> Scope {
    Scope { rules: true, unbuilt: true, ..scope(policy) }
}

const fn with_rollbacks(policy: Policy) -> Scope {
    Scope { rollbacks: true, ..scope(policy) }
}

const fn under_all_gates(policy: Policy) -> Scope {
    Scope { gates: ALL_GATES, unbuilt: true, ..scope(policy) }
}

const QUIT: Policy = Policy { on_exit: OnExit::Quit, ..PLAIN };
const SPACED: Policy = Policy { spaced: true, hooks: 1, ..PLAIN };
const RESTART: Policy = Policy { on_exit: OnExit::Restart, ..PLAIN };
const BACK_HANDOVER: Policy = Policy { mode: Mode::Handover, ..BACK };

caught! {
    starts_without_waiting_for_the_old: in everything(PLAIN), "two apps";
    forgets_what_leaves: in everything(PLAIN), "P4";
    ends_early: in everything(PLAIN), "does not end before";
    never_kills: in everything(PLAIN), "lead to the end";
    drains_without_limit: in Scope { max_living: 5, ..scope(HANDOVER) }, "at most three";
    asks_twice: in everything(PLAIN), "asked to exit twice";
    ignores_the_second_ctrl_c: in everything(PLAIN), "second Ctrl-C";
    misses_a_crash_during_a_build: in everything(PLAIN), "P4";
    forgets_to_restart_when_a_build_fails: in scope(RESTART), "is not restarted";
    ignores_a_save_while_stopping: in everything(PLAIN), "stale artifact";
    ignores_a_save_while_building: in everything(PLAIN), "stale artifact";
    ignores_a_revival: in with_rules(PLAIN), "stale artifact";
    takes_a_revival_for_a_save: in with_rules(PLAIN), "P2: the good app";
    forgets_the_follow_up: in everything(PLAIN), "P1";
    forgets_what_was_held: in everything(PLAIN), "P1";
    takes_the_new_config_for_itself_only: in everything(PLAIN), "stale artifact";
    builds_beside_the_cancelled: in everything(PLAIN), "two builds";
    builds_behind_a_closed_gate: in everything(PLAIN), "gates: a build starts";
    starts_behind_a_closed_gate: in Scope { gates: ALL_GATES, ..scope(PLAIN) },
        "gates: an app starts";
    stops_the_app_when_a_build_fails: in everything(PLAIN), "P2";
    restarts_the_old_when_a_build_fails: in everything(PLAIN), "anything was built";
    forgets_the_spacing_timer: in everything(SPACED), "P1";
    keeps_the_same_program_though_a_restart_is_due: in with_rules(PLAIN), "forgotten";
    restarts_the_same_program: in with_rules(PLAIN), "P2: the good app";
    forgets_rules_while_building: in with_rules(PLAIN), "forgotten";
    forgets_what_rules_owe: in with_rules(PLAIN), "P1";
    builds_beside_rules: in with_rules(PLAIN), "two builds";
    forgets_a_restart_while_building: in with_rules(PLAIN), "forgotten";
    forgets_what_was_to_start: in everything(PLAIN), "what was to start";
    believes_any_ready: in everything(PLAIN), "late";
    drops_the_old_when_the_new_is_not_ready: in everything(HANDOVER), "P2";
    waits_for_ever_for_what_is_not_ready: in everything(HANDOVER), "not ready in time";
    dismisses_before_handing_over: in everything(HANDOVER), "P2";
    forgets_the_half_started: in everything(HANDOVER), "P4";
    keeps_the_half_started_beside_a_build: in everything(HANDOVER), "before anything is made";
    starts_a_second_beside_one_that_is_not_ready: in everything(HANDOVER),
        "at most one app is not ready";
    stops_what_is_not_ready_for_nothing: in with_rollbacks(BACK), "P2: the good app";
    forgets_what_is_late_while_building: in with_rollbacks(BACK), "that is late stays";
    believes_that_what_was_kept_may_fail_to_start: in with_rollbacks(BACK), "no failed start";
    takes_every_crash_for_a_failed_start: in with_rollbacks(BACK), "nothing older";
    stays_with_what_was_kept: in with_rollbacks(BACK), "nothing older";
    forgets_a_failed_start_while_building: in with_rollbacks(BACK), "P2: nothing serves";
    stops_the_app_for_a_rollback_that_is_refused: in with_rollbacks(BACK), "P2: the good app";
    drops_a_deferred_signal: in with_rules(PLAIN), "a signal arrives";
    stays_when_its_app_exits: in scope(QUIT), "ends with its app";
    forgets_the_exit_code: in scope(QUIT), "ends with its app";
    ignores_the_spacing: in everything(SPACED), "before its spacing is over";
    ignores_a_restart: in everything(PLAIN), "Restart is not obeyed";
    refuses_each_rollback: in with_rollbacks(BACK), "Rollback is not obeyed";
    stops_the_app_for_one_that_may_not_start: in under_all_gates(PLAIN), "P2: the good app lives";
    stops_the_app_when_its_artifact_is_gone: in under_all_gates(PLAIN), "P2: the good app lives";
    goes_back_though_the_newest_was_built: in with_rollbacks(BACK_HANDOVER), "nothing older";
}
