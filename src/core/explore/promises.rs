//! The promises: what must hold on every transition, and between any two.

use super::*;

/// One step: the state before it, the input, and the gates.
#[derive(Clone, Copy)]
struct Before<'a> {
    service: &'a Service,
    input: &'a Input,
    gates: Gates,
}

/// One transition, checked against every promise. Returns also the number of the machine's answer.
pub(super) fn transition(
    machine: &mut Machine,
    pair: &Pair,
    input: &Input,
    gates: Gates,
) -> Result<(Pair, AnswerId), String> {
    let number = machine.answer(pair.service, input, gates);
    let answer = machine.answered(number);
    let before = Before { service: &machine[pair.service], input, gates };
    let mut world = pair.world;
    happen(&mut world, before.service, input, gates);
    let checked = checked(&mut world, before, machine, answer);
    checked.map_err(|why| {
        let (after, effects) = machine.stepped(pair.service, input, gates);
        format!(
            "{why}\n  state {:?}\n  input {input:?} {gates:?}\n  after {after:?}\n  \
             did {effects:?}",
            before.service
        )
    })?;
    Ok((Pair { service: answer.after, world }, number))
}

fn checked(world: &mut World, before: Before, machine: &Machine, answer: &Answer) -> Broken {
    let after = &machine[answer.after];
    perform(world, before, after, &answer.effects)?;
    let half_started = half_started(before.service)
        .filter(|new| *before.input == Input::Unready(*new))
        .filter(|new| world.living.of(*new).is_some_and(|one| !one.dismissed));
    machine.rename(answer, &mut world.living)?;
    consistent(after, world)?;
    if *before.input == Input::Kill {
        let all = world.living.iter().all(|one| one.killed);
        promise(all && is_ending(after), "a second Ctrl-C kills everything")?;
    }
    promise(half_started.is_none(), "an app that is not ready in time is dismissed")?;
    answer.is_sound.clone()
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
                let one = world.living.of_mut(*proc).ok_or("a signal to a dead process")?;
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
                let one = world.living.of_mut(*proc).ok_or("a signal to a dead process")?;
                promise(
                    one.dismissed || one.role == Role::Hook || *before.input == Input::Kill,
                    "no process is killed that was not asked to exit",
                )?;
                one.killed = true;
                one.ready = false;
                one.cut_short = !one.exited;
            }
            Effect::Signal(proc, _) => {
                promise(world.living.of(*proc).is_some(), "a signal to a dead process")?;
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
            Effect::Kept(_)
            | Effect::Refused(_)
            | Effect::NothingRuns
            | Effect::TakeUp
            | Effect::ArmBackoff(..)
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
    let no_build_runs = world.living.iter().filter(builds).all(|one| one.exited);
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
    if let Some(one) = world.living.of_mut(proc) {
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
    promise(
        world.apps().filter(|one| one.dismissed && !one.killed).count() <= MAX_DRAINING,
        "at most three apps drain at once",
    )?;
    promise(
        service.policy.mode == Mode::Handover
            || world.apps().filter(|one| !one.dismissed).count() <= 1,
        "P3: one app in restart mode",
    )
}
