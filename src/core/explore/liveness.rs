//! What must come of every state, if children behave.

use std::rc::Rc;

use super::*;

/// No walk is longer.
const MOST_STEPS: usize = 100;

/// Walks through what follows from a pair. Most walks soon meet an earlier one.
pub(super) struct Futures<'a> {
    pub(super) machine: Machine,
    scope: &'a Scope,
    /// Where a pair comes to rest, as a place in `rested`.
    rests: Quick<Key, usize>,
    rested: Vec<Pair>,
    /// Pairs that lead to the end, with obedient children and with others.
    ending: [QuickSet<Key>; 2],
}

impl<'a> Futures<'a> {
    pub(super) fn new(step: Step, scope: &'a Scope) -> Self {
        Self {
            machine: Machine::new(step),
            scope,
            rests: Quick::default(),
            rested: Vec::new(),
            ending: Default::default(),
        }
    }

    fn transition(&mut self, pair: &Pair, input: &Input, gates: Gates) -> Result<Pair, String> {
        transition(&mut self.machine, pair, input, gates).map(|(after, _)| after)
    }

    /// Whether every promise about what follows is kept.
    pub(super) fn check(&mut self, pair: &Pair) -> Broken {
        self.ends_when_asked(pair, true)?;
        self.ends_when_asked(pair, false)?;
        if is_ending(&self.machine[pair.service]) {
            return Ok(());
        }
        self.serves_the_newest_save(pair)?;
        self.serves_the_newest_that_builds(pair)?;
        if self.scope.rollbacks {
            self.goes_back_when_a_start_fails(pair)?;
        }
        self.follows_up(pair)?;
        if self.scope.rules {
            self.runs_rules_and_restarts(pair)?;
        }
        self.restarts_what_exits(pair)?;
        self.obeys(pair)
    }

    /// Orders to an app that serves alone: another follows a restart, an older one a rollback, and a
    /// signal arrives when the app is ready.
    fn obeys(&mut self, pair: &Pair) -> Broken {
        let service = self.machine.service(pair.service);
        let Some((Work::Idle, Slot::Single(app))) = regions(&service) else { return Ok(()) };
        let has_built = service.artifacts.built || !service.policy.builds;
        if has_built && service.policy.runs && service.pending.is_none() {
            self.serves_another(pair, app, &Input::Restart, false)?;
        }
        if self.scope.rollbacks && service.artifacts.older && service.policy.runs {
            self.serves_another(pair, app, &Input::Rollback, true)?;
        }
        if self.scope.rules && app.life != Life::Ready {
            let signal = Input::Signal(Signal::SIGUSR1);
            let signalled = self.machine.answer(pair.service, &signal, Gates::OPEN);
            let signalled = self.machine.answered(signalled).after;
            let app = current(&self.machine[signalled]).map_or(app.proc, |app| app.proc);
            let ready = self.machine.answer(signalled, &Input::Ready(app), Gates::OPEN);
            let effects = &self.machine.answered(ready).effects;
            let is_sent = effects.contains(&Effect::Signal(app, Signal::SIGUSR1));
            promise(is_sent, "a signal arrives when the app is ready")?;
        }
        Ok(())
    }

    /// This order to an app that serves alone is followed by another app.
    fn serves_another(&mut self, pair: &Pair, app: App, order: &Input, is_kept: bool) -> Broken {
        let ordered = self.transition(&pair.marking(app.proc), order, Gates::OPEN)?;
        let (after, world) = self.come_to_rest(&ordered)?;
        let is_another = |one: &Living| one.ready && (one.kept || !is_kept) && !one.marked;
        let serves = world.living.iter().any(is_another);
        expect(serves, || {
            let service = &self.machine[pair.service];
            format!("{order:?} is not obeyed from {service:?}; ends in {after:?}")
        })
    }

    /// Ctrl-C, and children that exit when asked (or only when killed), lead to the end.
    fn ends_when_asked(&mut self, pair: &Pair, obedient: bool) -> Broken {
        let mut now = *pair;
        if !is_ending(&self.machine[pair.service]) {
            now = self.transition(&now, &Input::Quit, Gates::OPEN)?;
        }
        let mut passed = Vec::new();
        while !self.ending[usize::from(obedient)].contains(&now.key()) {
            passed.push(now.key());
            if self.machine[now.service].phase == Phase::Ended {
                promise(now.world.living.is_empty(), "P4: no process is left")?;
                break;
            }
            let next = now.world.living.iter().find_map(|one| next_when_ending(one, obedient));
            let Some(input) = next.filter(|_| passed.len() < MOST_STEPS) else {
                let [from, stuck] = [pair, &now].map(|pair| &self.machine[pair.service]);
                return Err(format!(
                    "Ctrl-C does not lead to the end from {from:?}; stuck in {stuck:?}"
                ));
            };
            now = self.transition(&now, &input, Gates::OPEN)?;
        }
        self.ending[usize::from(obedient)].extend(passed);
        Ok(())
    }

    /// Children behave and deadlines come until nothing more happens.
    fn rest_of(&mut self, from: &Pair) -> Result<Pair, String> {
        let mut now = self.transition(from, &Input::Look, Gates::OPEN)?;
        let mut passed = Vec::new();
        let rest = loop {
            let key = now.key();
            if let Some(rest) = self.rests.get(&key) {
                break *rest;
            }
            let service = &self.machine[now.service];
            expect(passed.len() < MOST_STEPS, || format!("no rest: {service:?}"))?;
            passed.push(key);
            let of_process = now.world.living.iter().find_map(next_of_good);
            let Some(input) = of_process.or_else(|| deadlines(service).next()) else {
                self.rested.push(now);
                break self.rested.len() - 1;
            };
            now = self.transition(&now, &input, Gates::OPEN)?;
        };
        self.rests.extend(passed.into_iter().map(|key| (key, rest)));
        Ok(self.rested[rest])
    }

    fn come_to_rest(&mut self, from: &Pair) -> Result<(Rc<Service>, World), String> {
        let Pair { service, world } = self.rest_of(from)?;
        Ok((self.machine.service(service), world))
    }

    /// Builds fail and rules succeed until none runs; then as [`Futures::rest_of`].
    fn fail_builds_and_rest(&mut self, mut now: Pair) -> Result<(Rc<Service>, World), String> {
        for _ in 0..20 {
            let service = &self.machine[now.service];
            let has_exited = |proc: Proc| now.world.living.of(proc).is_some_and(|one| one.exited);
            let input = match regions(service) {
                Some((Work::Cancelling { build, .. }, _)) if has_exited(*build) => {
                    Input::Gone(*build)
                }
                Some((Work::Building { build, .. } | Work::Cancelling { build, .. }, _)) => {
                    Input::Exited(*build, Ended::Code(1), Lived::Long)
                }
                Some((Work::RunningRules { rules, .. }, _)) => {
                    Input::Exited(*rules, Ended::Code(0), Lived::Long)
                }
                Some((Work::Due(_), _)) => {
                    let Some(build) = service.spacing else { break };
                    Input::Due(Timer::Spacing(build))
                }
                _ => break,
            };
            now = self.transition(&now, &input, Gates::OPEN)?;
        }
        self.come_to_rest(&now)
    }

    /// What a build wrote for the next build is built, also if nothing is saved again.
    fn follows_up(&mut self, pair: &Pair) -> Broken {
        if !pair.world.follow_up {
            return Ok(());
        }
        let (after, world) = self.come_to_rest(pair)?;
        let served = world.apps().all(|one| one.fresh) || after.phase == Phase::Ended;
        let kept = !world.follow_up && served;
        let from = &self.machine[pair.service];
        expect(kept, || format!("P1: a follow-up is forgotten from {from:?}; ends in {after:?}"))
    }

    /// The rules of a saved file run, and what only the app reads is read again, whether or not a build
    /// fails meanwhile.
    fn runs_rules_and_restarts(&mut self, pair: &Pair) -> Broken {
        for input in [Input::Ruled(none()), Input::RuledByBuild(none()), Input::ReadByApp(none())] {
            let now = self.transition(pair, &input, Gates::OPEN)?;
            for end in ends_of_a_build(&self.machine[now.service], &now.world) {
                let ended = match end {
                    None => now,
                    Some(end) => self.transition(&now, &end, Gates::OPEN)?,
                };
                let (after, world) = self.come_to_rest(&ended)?;
                let has_built = after.artifacts.built;
                let waits = owed(&after).restart && has_built;
                if world.rules_due
                    || waits
                    || (world.restart_due && has_built && !is_ending(&after))
                {
                    return Err(format!(
                        "P1: {input:?} is forgotten from {:?}; ends in {after:?} with {world:?}",
                        self.machine[pair.service]
                    ));
                }
            }
        }
        Ok(())
    }

    /// A save leads to that save being served, whenever its gate opens.
    fn serves_the_newest_save(&mut self, pair: &Pair) -> Broken {
        let [held, open] = [CLOSED, Gate::Open].map(|build| Gates { build, start: build });
        for gates in [open, held] {
            let now = self.transition(pair, &Input::Saved(none()), gates)?;
            let (after, world) = self.come_to_rest(&now)?;
            let good = match (&after.phase, after.policy.runs) {
                (Phase::Live { work: Work::Idle, slot: Slot::Single(_) }, true) => {
                    matches!(world.living[..], [one] if one.ready && one.fresh)
                }
                (Phase::Live { work: Work::Idle, slot: Slot::Empty { .. } }, false) => {
                    world.living.is_empty() && world.artifact == Some(true)
                }
                (Phase::Ended, _) => self.machine[pair.service].policy.once,
                _ => false,
            };
            if !good || world.rules_due || world.follow_up || after.pending.is_some() {
                return Err(format!(
                    "P1: a save is not served from {:?}; ends in {after:?} with {world:?}",
                    self.machine[pair.service]
                ));
            }
        }
        Ok(())
    }

    /// After a save that does not build, what was last built serves, unless that does not start either.
    fn serves_the_newest_that_builds(&mut self, pair: &Pair) -> Broken {
        let service = self.machine.service(pair.service);
        if service.policy.once || service.policy.stop_on_error {
            return Ok(());
        }
        let now = self.transition(pair, &Input::Saved(none()), Gates::OPEN)?;
        let (after, world) = self.fail_builds_and_rest(now)?;
        let has_built = after.artifacts.built;
        let is_kept_down = world.is_given_up || !after.policy.builds || !has_built;
        let good = is_kept_down || world.apps().all(|one| one.latest);
        let from = || format!("from {service:?}; ends in {after:?} with {world:?}");
        let was_to_start =
            matches!(slot(&service), Some(Slot::StartDue { .. } | Slot::Handover { .. }))
                || matches!(regions(&service), Some((Work::Installing(_), _)))
                || current(&service).is_some_and(|app| matches!(app.life, Life::Starting { .. }));
        let serves = world.apps().any(|one| one.ready && !one.dismissed);
        let has_nothing =
            !has_built && after.policy.builds && after.artifacts.next == Source::Built;
        let kept = serves || has_nothing || !was_to_start || !after.policy.runs;
        expect(kept, || format!("P2: what was to start is forgotten {}", from()))?;
        expect(good, || format!("P1: an older app than the last built serves {}", from()))
    }

    /// Where there is something good to go back to, a failed start is followed by another app, also
    /// while a build runs that then fails. Should what was gone back to fail too, nothing follows.
    fn goes_back_when_a_start_fails(&mut self, pair: &Pair) -> Broken {
        let service = self.machine.service(pair.service);
        let policy = service.policy;
        if !policy.rollback || !service.artifacts.older || policy.stop_on_error {
            return Ok(());
        }
        let Some((work, Slot::Single(app))) = regions(&service) else { return Ok(()) };
        let is_starting = matches!(app.life, Life::Starting { .. });
        let is_explored = match work {
            Work::Idle => is_starting,
            Work::Building { .. } => true,
            _ => false,
        };
        if !is_explored || !unproven(&service, app.proc) {
            return Ok(());
        }
        let start = building(&service).map_or(*pair, |build| pair.marking(build));
        for failure in
            [Input::Exited(app.proc, Ended::Code(1), Lived::Long), Input::Unready(app.proc)]
        {
            let is_late = matches!(failure, Input::Unready(_));
            let mut now = self.transition(&start, &failure, Gates::OPEN)?;
            if let Some(build) = building(&self.machine[now.service])
                && now.world.living.of(build).is_some_and(|one| one.marked)
            {
                let failed = Input::Exited(build, Ended::Code(1), Lived::Long);
                now = self.transition(&now, &failed, Gates::OPEN)?;
            }
            let rested = self.rest_of(&now)?;
            let (after, world) = (self.machine.service(rested.service), rested.world);
            if after.phase == Phase::Ended {
                continue;
            }
            let Some((Work::Idle, Slot::Single(now_serving))) = regions(&after) else {
                return Err(format!(
                    "P2: nothing serves after a failed start from {service:?}: {after:?}"
                ));
            };
            let is_kept = |proc: Proc| world.living.of(proc).is_some_and(|one| one.kept);
            if after.artifacts.next != Source::Kept || !is_kept(now_serving.proc) {
                // A build came between.
                let owed = owed(&service);
                let is_excused = owed.restart || owed.rules.is_some() || owed.build.is_some();
                let good = !is_late || is_excused || !is_starting;
                expect(good, || {
                    format!("P2: an app that is late stays, from {service:?}: {after:?}")
                })?;
                continue;
            }
            let exits = Input::Exited(now_serving.proc, Ended::Code(1), Lived::Long);
            let after = self.transition(&rested, &exits, Gates::OPEN)?.service;
            let waits = match slot(&self.machine[after]) {
                Some(Slot::Empty { .. } | Slot::StartDue { backoff: Some(_) }) | None => true,
                Some(
                    Slot::StartDue { backoff: None } | Slot::Single(_) | Slot::Handover { .. },
                ) => false,
            };
            expect(waits, || {
                format!(
                    "an artifact that was gone back to is no failed start: {:?}",
                    self.machine[after]
                )
            })?;
        }
        Ok(())
    }

    /// With `on_exit = "restart"`, an app that exits is followed by another, also if what is being
    /// built fails.
    fn restarts_what_exits(&mut self, pair: &Pair) -> Broken {
        let service = self.machine.service(pair.service);
        let policy = service.policy;
        let is_meant = policy.on_exit == OnExit::Restart && policy.runs && !policy.stop_on_error;
        let (true, Some(app)) = (is_meant && service.pending.is_none(), current(&service)) else {
            return Ok(());
        };
        let exits = Input::Exited(app.proc, Ended::Code(1), Lived::Long);
        let now = self.transition(pair, &exits, Gates::OPEN)?;
        let (after, world) = self.fail_builds_and_rest(now)?;
        let serves = world.apps().any(|one| one.ready && !one.dismissed);
        let has_nothing = !after.artifacts.built && after.policy.builds;
        expect(serves || has_nothing, || {
            format!("P2: an app that exits is not restarted from {service:?}; ends in {after:?}")
        })
    }
}

/// What comes next of a process when everything ends, if it is obedient or else has to be killed.
fn next_when_ending(one: &Living, obedient: bool) -> Option<Input> {
    let exits = |code| Some(Input::Exited(one.proc, Ended::Code(code), Lived::Long));
    let is_hook = one.role == Role::Hook;
    match one {
        Living { exited: true, .. } => Some(Input::Gone(one.proc)),
        Living { killed: true, .. } => exits(1),
        Living { dismissed: true, .. } if obedient => exits(0),
        _ if is_hook && obedient => exits(0),
        Living { dismissed: true, .. } => Some(Input::Overdue(one.proc)),
        _ if is_hook => Some(Input::Overdue(one.proc)),
        _ => None,
    }
}

/// What comes next of a process, if anything, when it behaves.
fn next_of_good(one: &Living) -> Option<Input> {
    match one {
        Living { exited: true, .. } => Some(Input::Gone(one.proc)),
        Living { dismissed: true, .. } | Living { role: Role::Build | Role::Rules, .. } => {
            Some(Input::Exited(one.proc, Ended::Code(0), Lived::Long))
        }
        Living { role: Role::App, ready: false, .. } => Some(Input::Ready(one.proc)),
        _ => None,
    }
}

/// How the running build may end, beside well and with another program; nothing: none runs.
fn ends_of_a_build(service: &Service, world: &World) -> Vec<Option<Input>> {
    // A failed build is to leave nothing running with `stop_on_error`.
    let (Some(build), false) = (building(service), service.policy.stop_on_error) else {
        return vec![None];
    };
    let mut ends = vec![Some(Input::Exited(build, Ended::Code(1), Lived::Long))];
    if let Some(app) = current(service)
        && world.living.of(app.proc).is_some_and(Living::is_same_when_built_again)
    {
        ends.push(Some(Input::BuiltSame { build, app: app.proc }));
    }
    ends
}
