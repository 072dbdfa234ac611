//! One service: decides what follows from each input. [`Service::step`] takes one input and returns
//! the next state and the effects that lead there.
//!
//! While it lives, a service has two independent parts: its [`Work`], what is being made, and its
//! [`Slot`], which app serves. What is to follow is kept in the work that it waits for ([`Owed`]),
//! and what is known about an app in that app ([`App`]), so neither can outlive its reason.
//!
//! Whether builds and starts may begin is decided elsewhere and comes with each input as [`Gates`].
//! What is due behind a closed gate waits, and cancels no running build.
//!
//! Invariants, each checked by the exploration (`explore.rs`): on every transition, or as what every
//! state leads to.
//!
//! - A build starts only when no other build and no rule is running; a cancelled build is gone
//!   before its successor starts.
//! - In restart mode no app is started while a process of another app is left.
//! - No app is started from an artifact that a newer save has made stale, unless the newest source
//!   does not build.
//! - A failed build or start never stops an app that serves, unless `stop_on_error` asks for it.
//! - No app keeps serving that is older than the last build, unless that build fails to start or
//!   the user has rolled back. In handover mode no second app is started while one is not ready.
//! - An older artifact is started only after a failed start or a rollback order, and only once for
//!   each.
//! - With `on_exit = "restart"`, an app that exits is followed by another, whatever is built
//!   meanwhile and whether or not that succeeds.
//! - No build, rule or app is started while its gate is closed, and no app that serves is stopped
//!   for one that may not start.
//! - The state contains every living process exactly once. A service does not end while one is
//!   left. No process is asked to exit twice.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::event::{
    Cause, Ended, Mode, OnExit, Policy, Proc, Refusal, Role, Source, Timer, signal_name,
};
use crate::notice::{Next, Notice};

mod slot;
mod work;

pub(crate) use slot::{App, Life, Slot};
pub(crate) use work::{Origin, Owed, Request, Work};

/// Maximum number of apps that drain at once. Above it, the oldest is killed.
pub(crate) const MAX_DRAINING: usize = 3;
/// Number of cancelled builds in a row after which a notice is printed.
const OVERTAKEN_NOTICE: u32 = 3;
/// An app that has run for this long does not fail to run.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// The first delay before an app that exited by itself is restarted. It doubles, up to 8 s.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_DOUBLINGS: u32 = 4;
/// Number of apps in a row that exited soon after their start, at which a notice is printed.
const CRASH_LOOP: u32 = 5;

/// An input of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Input {
    /// A file changed that causes a build.
    Saved(Cause),
    /// A file changed that builds read, but the running build is not cancelled for it. The next
    /// build follows after the result of the running one was started.
    FollowUp(Cause),
    /// Files changed that match rules, not the build.
    Ruled(Cause),
    /// A build wrote files that match rules. The rules run when the build has ended.
    RuledByBuild(Cause),
    /// Files changed that only the running app reads. The app is restarted.
    ReadByApp(Cause),
    /// Files changed that a running app reads by itself. The app is started if none is running.
    Revival(Cause),
    /// The last artifact does not exist any longer.
    Unbuilt,
    /// The first process of this tree exited; for a build, its last command.
    Exited(Proc, Ended, Lived),
    /// The build succeeded and left the program unchanged that this app was started from. The app
    /// keeps running.
    BuiltSame { build: Proc, app: Proc },
    /// No process of this tree is left. Always after `Exited`.
    Gone(Proc),
    /// The app serves, on evidence.
    Ready(Proc),
    /// The app has run for a while without evidence that it serves. `Ready` may follow.
    Running(Proc),
    /// The app did not become ready in time.
    Unready(Proc),
    /// The app was ready, and has run long enough to be trusted.
    Proven(Proc),
    /// Whether there is an older good artifact to roll back to.
    Fallback(bool),
    /// The grace period of a stopped process is over.
    Overdue(Proc),
    /// A deadline has passed.
    Due(Timer),
    /// A new configuration was read, and it is valid.
    Reconfigured(Policy),
    /// Restart the app from the current artifact.
    Restart,
    /// Start the last good artifact before the running one.
    Rollback,
    /// Send this signal to the app.
    Signal(#[serde(with = "signal_name")] Signal),
    /// Nothing happened in this service, but its gates may have changed.
    Look,
    /// End: run the `post_cmd`s, and stop all processes.
    Quit,
    /// End at once: kill all processes.
    Kill,
}

/// How long an app has run when it exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Lived {
    /// Less than [`LONG_LIFE`].
    Briefly,
    Long,
}

impl Lived {
    pub(crate) fn of(lived: Duration) -> Self {
        if lived < LONG_LIFE { Lived::Briefly } else { Lived::Long }
    }
}

/// An action that the engine performs, in order. Performing it never waits and never fails: a
/// failure comes back as an [`Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Put the configuration of the last `Reconfigured` into effect.
    TakeUp,
    /// Run the build pipeline.
    SpawnBuild(Proc, Cause),
    /// Run the commands of the rules that match these files.
    SpawnRules(Proc, Cause),
    /// Start the app of this generation (1, 2, 3 …) from the last build or from a kept artifact.
    SpawnApp(Proc, u32, Source),
    /// Choose the last good artifact before the one that was started last, for the next start from
    /// a kept artifact.
    GoBack,
    /// Answer that this app was kept, as a rollback was requested during a handover.
    Kept(Proc),
    /// Answer that a rollback is refused.
    Refused(Refusal),
    /// No program runs after a failed build. Input is for hotrun.
    NothingRuns,
    /// Run the `post_cmd` of this index.
    SpawnHook(Proc, usize),
    /// Ask the process to exit, and report `Overdue` after its grace period.
    Dismiss(Proc),
    /// Kill all processes that are left of this one.
    Kill(Proc),
    /// Send this signal to the process.
    Signal(Proc, Signal),
    /// Report `Due` of [`Timer::Spacing`] when `build.delay` is over. Replaces an earlier one.
    ArmSpacing(Proc),
    /// Report `Due` of [`Timer::Backoff`] after this time. Replaces an earlier one.
    ArmBackoff(Proc, Duration),
    /// Report this to the user.
    Say(Notice),
    /// The service has ended, with this exit code.
    Ended(u8),
}

/// Whether something may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Gate {
    Open,
    Closed(Hold),
}

/// Why a gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hold {
    /// The user has paused builds.
    Paused,
    /// As many other services build as may build at once.
    Jobs,
    /// A service that this one depends on is not there yet, or is being built.
    Upstream,
    /// All services are ending.
    Ending,
}

/// What a service may begin, as its supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Gates {
    /// Whether builds and rules may begin.
    pub build: Gate,
    /// Whether an app may be started.
    pub start: Gate,
}

impl Gates {
    #[cfg(test)]
    pub(crate) const OPEN: Gates = Gates { build: Gate::Open, start: Gate::Open };

    fn may_build(self) -> bool {
        self.build == Gate::Open
    }

    fn may_start(self) -> bool {
        self.start == Gate::Open
    }
}

/// The stage of a service's life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Live {
        work: Work,
        slot: Slot,
    },
    /// The `post_cmd`s run while the app is still running.
    Closing {
        hook: Proc,
        next: usize,
        app: Option<Proc>,
        code: u8,
    },
    /// All remaining processes are stopping.
    Quitting {
        code: u8,
    },
    /// No process is left.
    Ended,
}

/// What apps can be started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Artifacts {
    /// Whether a build has succeeded, and what it made still exists.
    pub(crate) built: bool,
    /// Whether there is an older good artifact to roll back to.
    pub(crate) older: bool,
    /// What the next app is started from.
    pub(crate) next: Source,
}

/// A process that was asked to exit, or has exited, but is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leaving {
    pub(crate) role: Role,
    pub(crate) killed: bool,
}

impl Leaving {
    fn new(role: Role) -> Self {
        Self { role, killed: false }
    }
}

/// The complete state of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    pub(crate) phase: Phase,
    pub(crate) policy: Policy,
    /// A policy that arrived after the start of the running build; the next build puts it into
    /// effect.
    pub(crate) pending: Option<Policy>,
    pub(crate) leaving: BTreeMap<Proc, Leaving>,
    /// The build whose spacing is not over.
    pub(crate) spacing: Option<Proc>,
    pub(crate) artifacts: Artifacts,
    /// Number of cancelled builds in a row.
    pub(crate) overtaken: u32,
    /// Number of apps in a row that have exited soon after their start, since the last build.
    pub(crate) brief_lives: u32,
    pub(crate) last_proc: u32,
    pub(crate) generation: u32,
}

impl Service {
    /// Returns the initial state: nothing runs, and nothing was built.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            phase: Phase::Live { work: Work::Idle, slot: Slot::EMPTY },
            policy,
            pending: None,
            leaving: BTreeMap::new(),
            spacing: None,
            artifacts: Artifacts::NONE,
            overtaken: 0,
            brief_lives: 0,
            last_proc: 0,
            generation: 0,
        }
    }

    /// Returns the next state, and the effects that lead there: first those of the input itself,
    /// then those of everything that may begin now.
    #[must_use]
    pub(crate) fn step(mut self, input: Input, gates: Gates) -> (Service, Vec<Effect>) {
        let phase = mem::replace(&mut self.phase, Phase::Ended);
        let mut turn = Turn { service: self, gates, effects: Vec::new() };
        let mut phase = turn.take(phase, input);
        while let Phase::Live { work, slot } = &phase
            && let Some(next) = turn.advance(work, *slot)
        {
            phase = next;
        }
        turn.service.phase = phase;
        (turn.service, turn.effects)
    }

    /// The app that currently represents the program ([`Slot::app`]), also while it is closing.
    pub(crate) fn app(&self) -> Option<Proc> {
        match &self.phase {
            Phase::Live { slot, .. } => slot.app(),
            Phase::Closing { app, .. } => *app,
            Phase::Quitting { .. } | Phase::Ended => None,
        }
    }

    /// Whether a build is running that was not cancelled.
    pub(crate) fn is_building(&self) -> bool {
        matches!(self.phase, Phase::Live { work: Work::Building { .. }, .. })
    }

    /// Whether nothing is owed or being made, and what was built last serves, if there is something
    /// to run.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.phase {
            Phase::Live { work: Work::Idle, slot: Slot::Single(app) } => {
                app.life == Life::Ready && app.source == Source::Built
            }
            Phase::Live { work: Work::Idle, .. } => !self.policy.runs,
            Phase::Live { .. } | Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => {
                false
            }
        }
    }
}

/// A step in progress. Each handler takes the current phase, or its regions, and returns the next,
/// so no handler sees a phase that is half changed.
struct Turn {
    service: Service,
    gates: Gates,
    effects: Vec<Effect>,
}

impl Turn {
    fn take(&mut self, phase: Phase, input: Input) -> Phase {
        match input {
            Input::Saved(cause) => {
                self.if_live(phase, |turn, work, slot| turn.saved(work, slot, cause))
            }
            Input::FollowUp(cause) => {
                self.if_live(phase, |turn, work, slot| turn.written_by_build(work, slot, cause))
            }
            Input::Ruled(cause) => {
                self.if_live(phase, |turn, work, slot| turn.ruled(work, slot, cause))
            }
            Input::RuledByBuild(cause) => {
                self.if_live(phase, |turn, work, slot| turn.ruled_by_build(work, slot, cause))
            }
            Input::ReadByApp(cause) => {
                self.if_live(phase, |turn, work, slot| turn.read_by_app(work, slot, &cause))
            }
            Input::Revival(cause) => {
                self.if_live(phase, |turn, work, slot| turn.revived(work, slot, cause))
            }
            Input::Reconfigured(policy) => self.if_live(phase, |turn, work, slot| {
                turn.service.pending = Some(policy);
                turn.saved(work, slot, Cause::Config)
            }),
            Input::Restart => self.if_live(phase, Turn::restart),
            Input::Rollback => self.roll_back(phase),
            Input::Signal(signal) => self.signal(phase, signal),
            Input::Exited(proc, ..) if self.service.leaving.contains_key(&proc) => phase,
            Input::Exited(proc, ended, lived) => self.exited(phase, proc, ended, lived),
            Input::BuiltSame { build, app } => {
                self.if_live(phase, |turn, work, slot| turn.built_same(work, slot, build, app))
            }
            Input::Gone(proc) => self.gone(phase, proc),
            Input::Overdue(proc) => self.overdue(phase, proc),
            Input::Ready(proc) => self.if_live(phase, |turn, work, slot| Phase::Live {
                work,
                slot: turn.ready(slot, proc, Notice::Ready(proc)),
            }),
            Input::Running(proc) => self.if_live(phase, |turn, work, slot| Phase::Live {
                work,
                slot: turn.ready(slot, proc, Notice::Running(proc)),
            }),
            Input::Unready(proc) => {
                self.if_live(phase, |turn, work, slot| turn.unready(work, slot, proc))
            }
            Input::Proven(proc) => {
                self.if_live(phase, |_, work, slot| Phase::Live { work, slot: slot.proven(proc) })
            }
            Input::Due(timer) => self.due(phase, timer),
            Input::Fallback(is_there) => {
                self.service.artifacts.older = is_there;
                phase
            }
            Input::Unbuilt => {
                self.service.artifacts.built = false;
                phase
            }
            Input::Look => phase,
            Input::Quit => self.if_live(phase, |turn, work, slot| {
                let app = turn.stop_work(&work, slot);
                turn.close(app, 0)
            }),
            Input::Kill => self.killed(phase),
        }
    }

    /// Handles an input that means nothing to a service that is ending.
    fn if_live(
        &mut self,
        phase: Phase,
        handle: impl FnOnce(&mut Self, Work, Slot) -> Phase,
    ) -> Phase {
        match phase {
            Phase::Live { work, slot } => handle(self, work, slot),
            Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => phase,
        }
    }

    // Saves

    fn saved(&mut self, work: Work, slot: Slot, cause: Cause) -> Phase {
        let is_paused = self.gates.build == Gate::Closed(Hold::Paused);
        if cause == Cause::Order && is_paused {
            self.say(Notice::Paused);
        }
        self.wanted(work, slot, cause, Owed::build)
    }

    fn ruled(&mut self, work: Work, slot: Slot, cause: Cause) -> Phase {
        self.wanted(work, slot, cause, Owed::rules)
    }

    /// Acts on a save, or holds it back until the gate opens.
    fn wanted(
        &mut self,
        work: Work,
        slot: Slot,
        cause: Cause,
        owe: fn(&mut Owed, Request),
    ) -> Phase {
        if !self.gates.may_build() {
            let request = Request { origin: Origin::HeldSave, cause };
            return Phase::Live { work: work.owing(|owed| owe(owed, request)), slot };
        }
        self.say(Notice::Changed(cause.clone()));
        let request = Request { origin: Origin::Save, cause };
        let work = self.accept(work, |owed| owe(owed, request));
        self.without_the_half_started(work, slot)
    }

    /// Owes something for a save that is acted on at once: a running build is cancelled for it.
    fn accept(&mut self, work: Work, owe: impl FnOnce(&mut Owed)) -> Work {
        match work {
            Work::Building { build, cause, owed: later } => {
                self.effects.push(Effect::Dismiss(build));
                self.service.overtaken = (self.service.overtaken + 1).min(OVERTAKEN_NOTICE + 1);
                if self.service.overtaken == OVERTAKEN_NOTICE {
                    self.say(Notice::Overtaken(OVERTAKEN_NOTICE));
                }
                // Spacing applies only to builds that were not cancelled.
                self.service.spacing = None;
                let mut owed =
                    Owed { build: Some(Request { origin: Origin::Save, cause }), ..later };
                if let Some(request) = later.build {
                    owed.build(request);
                }
                owe(&mut owed);
                Work::Cancelling { build, owed }
            }
            // If the build fails, what was to be installed is started.
            Work::Installing(mut owed) => {
                owed.restart = true;
                owe(&mut owed);
                Work::Due(owed)
            }
            Work::Idle | Work::Due(_) | Work::RunningRules { .. } | Work::Cancelling { .. } => {
                work.owing(owe)
            }
        }
    }

    /// Stops an app that is not ready beside one that serves: what is due will replace it. If that
    /// fails, it is started again.
    fn without_the_half_started(&mut self, work: Work, slot: Slot) -> Phase {
        let Slot::Handover { old, new } = slot else { return Phase::Live { work, slot } };
        self.dismiss(new.proc, Role::App);
        let work = work.owing(|owed| owed.restart = true);
        Phase::Live { work, slot: Slot::Single(old) }
    }

    /// Owes a build for what a build wrote. The running build continues, and its program starts
    /// first.
    fn written_by_build(&mut self, work: Work, slot: Slot, cause: Cause) -> Phase {
        if !has_follow_ups(&work, slot) {
            return self.saved(work, slot, cause);
        }
        Phase::Live { work: work.following_up(cause, Owed::build), slot }
    }

    fn ruled_by_build(&mut self, work: Work, slot: Slot, cause: Cause) -> Phase {
        if !has_follow_ups(&work, slot) {
            return self.ruled(work, slot, cause);
        }
        Phase::Live { work: work.following_up(cause, Owed::rules), slot }
    }

    fn read_by_app(&mut self, work: Work, slot: Slot, cause: &Cause) -> Phase {
        // The change may fix what kept the newest build from starting.
        if self.service.artifacts.next == Source::Kept && self.has_something_built() {
            self.service.artifacts.next = Source::Built;
            self.say(Notice::NewestAgain);
        }
        if !self.gates.may_build() && !matches!(work, Work::Installing(_)) {
            return Phase::Live { work: work.owing(|owed| owed.restart = true), slot };
        }
        self.say(Notice::Changed(cause.clone()));
        self.restart(work, slot)
    }

    /// Handles a save that a running app, or one that is about to start, reads by itself.
    fn revived(&mut self, work: Work, slot: Slot, cause: Cause) -> Phase {
        let is_down = match (&work, slot) {
            (
                Work::Idle | Work::Due(Owed { build: None, .. }),
                Slot::StartDue { backoff: None },
            ) => false,
            (
                Work::Idle | Work::RunningRules { .. } | Work::Due(Owed { build: None, .. }),
                Slot::Empty { .. } | Slot::StartDue { .. },
            ) => true,
            (
                Work::Idle
                | Work::RunningRules { .. }
                | Work::Due(_)
                | Work::Building { .. }
                | Work::Cancelling { .. }
                | Work::Installing(_),
                Slot::Empty { .. }
                | Slot::StartDue { .. }
                | Slot::Single(_)
                | Slot::Handover { .. },
            ) => false,
        };
        if is_down { self.saved(work, slot, cause) } else { Phase::Live { work, slot } }
    }

    // What may begin

    /// Begins one thing that may begin now. Returns none if there is nothing.
    fn advance(&mut self, work: &Work, slot: Slot) -> Option<Phase> {
        if self.gates.may_build()
            && let Some(phase) = self.take_held(work, slot)
        {
            return Some(phase);
        }
        match (work, slot) {
            (Work::Due(owed), slot) if self.begins(owed, slot) && self.is_time(owed, slot) => {
                Some(self.begin(owed.clone(), slot))
            }
            (Work::Installing(owed), slot) if self.gates.may_build() && owed.is_urgent() => {
                let owed = Owed { restart: true, ..owed.clone() };
                Some(Phase::Live { work: Work::Due(owed), slot })
            }
            (Work::Installing(owed), slot)
                if self.gates.may_start() || !self.service.policy.runs =>
            {
                Some(self.install(owed.clone(), slot))
            }
            (work, Slot::Empty { failed_start: true })
                if self.is_at_rest(work, slot) && !work.is_restart_due() && self.can_go_back() =>
            {
                self.fall_back();
                Some(Phase::Live { work: work.clone(), slot: Slot::START_DUE })
            }
            (work, Slot::Single(app)) if self.is_to_be_replaced(work, app) => {
                self.fall_back();
                Some(Phase::Live { work: work.clone().installing(), slot })
            }
            (work, Slot::StartDue { backoff: None })
                if self.is_at_rest(work, slot) && !self.has_something_to_run() =>
            {
                if self.service.policy.runs {
                    self.say(Notice::NothingBuilt);
                }
                Some(Phase::Live { work: work.clone(), slot: Slot::EMPTY })
            }
            (work, Slot::StartDue { backoff: None })
                if self.is_at_rest(work, slot) && self.gates.may_start() && self.has_room() =>
            {
                let app = self.start();
                // The new app reads at its start what the restart was for.
                Some(Phase::Live {
                    work: work.clone().without_restart_due(),
                    slot: Slot::Single(app),
                })
            }
            _ => None,
        }
    }

    /// Accepts what was saved while the gate was closed, now that it is open.
    fn take_held(&mut self, work: &Work, slot: Slot) -> Option<Phase> {
        let is_held = |request: &mut Request| request.origin == Origin::HeldSave;
        let mut work = work.clone();
        if let Some(held) = work.owed_mut().and_then(|owed| owed.rules.take_if(is_held)) {
            return Some(self.ruled(work, slot, held.cause));
        }
        let held = work.owed_mut().and_then(|owed| owed.build.take_if(is_held))?;
        Some(self.saved(work, slot, held.cause))
    }

    /// Whether this may begin, apart from the spacing.
    fn begins(&self, owed: &Owed, slot: Slot) -> bool {
        let is_wanted = owed.is_urgent() || owed.restart || !slot.waits_for_start();
        self.gates.may_build() && is_wanted
    }

    /// Whether the spacing, if it matters here, is over.
    fn is_time(&self, owed: &Owed, slot: Slot) -> bool {
        let policy = self.service.pending.unwrap_or(self.service.policy);
        let is_build = owed.rules.is_none() && owed.build.is_some() && policy.builds;
        // An app that is about to start is not delayed by the spacing.
        let is_spaced = self.service.spacing.is_some() && slot != Slot::START_DUE;
        !(is_build && is_spaced)
    }

    /// Whether no rule, build or restart is in progress, or can begin before the next input.
    fn is_at_rest(&self, work: &Work, slot: Slot) -> bool {
        match work {
            Work::Idle => true,
            Work::Due(owed) => !self.begins(owed, slot),
            Work::RunningRules { .. }
            | Work::Building { .. }
            | Work::Cancelling { .. }
            | Work::Installing(_) => false,
        }
    }

    /// Begins what is due: rules, then the build, then a restart. A restart precedes work that only
    /// a build asked for, if that waits for the start of an app.
    fn begin(&mut self, mut owed: Owed, slot: Slot) -> Phase {
        let is_restart = owed.rules.is_none() && owed.build.is_none();
        if owed.restart && (is_restart || (!owed.is_urgent() && slot.waits_for_start())) {
            owed.restart = false;
            let work =
                if self.has_something_to_run() { Work::Installing(owed) } else { owed.into_work() };
            return Phase::Live { work, slot };
        }
        if let Slot::Handover { old, new } = slot {
            self.dismiss(new.proc, Role::App);
            owed.restart = true;
            return Phase::Live { work: Work::Due(owed), slot: Slot::Single(old) };
        }
        let work = if let Some(request) = owed.rules.take() {
            self.announce(&request);
            let rules = self.number();
            self.effects.push(Effect::SpawnRules(rules, request.cause));
            Work::RunningRules { rules, owed }
        } else if let Some(request) = owed.build.take() {
            self.announce(&request);
            self.build(request.cause, owed)
        } else {
            owed.into_work()
        };
        Phase::Live { work, slot }
    }

    /// Reports what begins now if that was not reported when it was saved.
    fn announce(&mut self, request: &Request) {
        if request.origin == Origin::Build {
            self.say(Notice::Changed(request.cause.clone()));
        }
    }

    fn build(&mut self, cause: Cause, mut owed: Owed) -> Work {
        if let Some(policy) = self.service.pending.take() {
            self.service.policy = policy;
            self.effects.push(Effect::TakeUp);
        }
        if !self.service.policy.builds {
            self.service.artifacts.next = Source::Built;
            owed.restart = false;
            return Work::Installing(owed);
        }
        self.service.brief_lives = 0;
        let build = self.number();
        self.effects.push(Effect::SpawnBuild(build, cause.clone()));
        if self.service.policy.spaced {
            self.service.spacing = Some(build);
            self.effects.push(Effect::ArmSpacing(build));
        }
        self.say(Notice::Building(build));
        Work::Building { build, cause, owed }
    }

    // Replacing the app

    fn install(&mut self, owed: Owed, slot: Slot) -> Phase {
        let hands_over = self.service.policy.mode == Mode::Handover;
        if !self.service.policy.runs {
            self.dismiss_apps(slot);
            if self.service.policy.once {
                return self.close(None, 0);
            }
            return Phase::Live { work: owed.into_work(), slot: Slot::EMPTY };
        }
        let slot = match slot {
            // An app that is not ready yet is replaced, instead of starting a second one beside it.
            Slot::Single(old) if hands_over && old.is_ready() => {
                Slot::Handover { old, new: self.start() }
            }
            Slot::Handover { old, new } if hands_over => {
                self.dismiss(new.proc, Role::App);
                Slot::Handover { old, new: self.start() }
            }
            Slot::Empty { .. }
            | Slot::StartDue { .. }
            | Slot::Single(_)
            | Slot::Handover { .. } => {
                self.dismiss_apps(slot);
                Slot::START_DUE
            }
        };
        Phase::Live { work: owed.into_work(), slot }
    }

    fn start(&mut self) -> App {
        let proc = self.number();
        let source = self.service.artifacts.next;
        self.service.generation += 1;
        self.effects.push(Effect::SpawnApp(proc, self.service.generation, source));
        // What is gone back to has proven good.
        let is_proven = source == Source::Kept;
        App { proc, source, is_proven, life: Life::Starting { late: false, signal: None } }
    }

    /// Whether an app can be started beside those that are stopping.
    fn has_room(&self) -> bool {
        let is_app = |leaving: &Leaving| leaving.role == Role::App;
        self.service.policy.mode == Mode::Handover || !self.service.leaving.values().any(is_app)
    }

    fn restart(&mut self, work: Work, slot: Slot) -> Phase {
        // What is to be installed is a restart already.
        if matches!(work, Work::Installing(_)) {
            return Phase::Live { work, slot };
        }
        // One that is about to start, or what is in progress, ends with a new app; if it fails, the
        // old one is started again.
        if !self.is_at_rest(&work, slot) {
            let work = work.owing(|owed| owed.restart = true);
            return Phase::Live { work, slot: slot.without_backoff() };
        }
        if slot == Slot::START_DUE {
            return Phase::Live { work, slot };
        }
        if !self.has_something_to_run() {
            self.say(Notice::NothingBuilt);
            return Phase::Live { work: work.without_restart_due(), slot };
        }
        Phase::Live { work: work.installing(), slot }
    }

    // Rollback

    /// Whether the app was not ready in time and still is not, and there is a better artifact, but
    /// none to come.
    fn is_to_be_replaced(&self, work: &Work, app: App) -> bool {
        let is_alone = self.is_at_rest(work, Slot::Single(app)) && !work.is_restart_due();
        is_alone && app.is_late() && !app.is_proven && self.can_go_back()
    }

    fn can_go_back(&self) -> bool {
        let policy = self.service.policy;
        policy.rollback && policy.runs && self.service.artifacts.older
    }

    /// Follows a failed start with the last good artifact, or with the one that was asked for.
    fn fall_back(&mut self) {
        if self.service.artifacts.next == Source::Built {
            self.go_back();
        }
    }

    fn go_back(&mut self) {
        self.effects.push(Effect::GoBack);
        self.service.artifacts.next = Source::Kept;
    }

    /// Reports that nothing follows the failed start of a new build.
    fn start_failed(&mut self) {
        if self.service.policy.rollback && !self.service.artifacts.older {
            self.effects.push(Effect::Refused(Refusal::NothingKept));
        }
    }

    fn roll_back(&mut self, phase: Phase) -> Phase {
        let (work, slot) = match phase {
            Phase::Live { work, slot } => (work, slot),
            Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => {
                self.effects.push(Effect::Refused(Refusal::Ending));
                return phase;
            }
        };
        let is_waiting_to_install = matches!(work, Work::Installing(_));
        if !is_waiting_to_install && !self.is_at_rest(&work, slot) {
            self.effects.push(Effect::Refused(Refusal::BuildUnderWay));
            return Phase::Live { work, slot };
        }
        match slot {
            // The old app is still running.
            Slot::Handover { old, new } => {
                self.dismiss(new.proc, Role::App);
                self.effects.push(Effect::Kept(old.proc));
                Phase::Live { work: work.without_install(), slot: Slot::Single(old) }
            }
            Slot::Empty { .. } | Slot::StartDue { .. } | Slot::Single(_)
                if !self.service.artifacts.older =>
            {
                self.effects.push(Effect::Refused(Refusal::NothingKept));
                Phase::Live { work, slot }
            }
            Slot::StartDue { backoff: None } => {
                self.go_back();
                Phase::Live { work, slot }
            }
            Slot::Empty { .. } | Slot::StartDue { backoff: Some(_) } | Slot::Single(_) => {
                self.go_back();
                Phase::Live { work: work.installing(), slot }
            }
        }
    }

    // Readiness

    /// Handles an app that serves, or counts as serving; the notice says which.
    fn ready(&mut self, slot: Slot, proc: Proc, notice: Notice) -> Slot {
        match slot {
            Slot::Single(app) if app.proc == proc => match app.life {
                Life::Starting { signal, .. } => {
                    self.say(notice);
                    self.send_deferred(proc, signal);
                    Slot::Single(App { life: Life::Ready, ..app })
                }
                Life::Ready => slot,
            },
            Slot::Handover { old, new } if new.proc == proc => {
                self.say(notice);
                match new.life {
                    Life::Starting { signal, .. } => self.send_deferred(proc, signal),
                    Life::Ready => {}
                }
                self.dismiss(old.proc, Role::App);
                Slot::Single(App { life: Life::Ready, ..new })
            }
            Slot::Empty { .. }
            | Slot::StartDue { .. }
            | Slot::Single(_)
            | Slot::Handover { .. } => slot,
        }
    }

    fn unready(&mut self, work: Work, slot: Slot, proc: Proc) -> Phase {
        let slot = match slot {
            Slot::Single(app) if app.proc == proc => match app.life {
                Life::Starting { signal, .. } => {
                    let app = App { life: Life::Starting { late: true, signal }, ..app };
                    let goes_back = self.is_to_be_replaced(&work, app);
                    self.say(Notice::Unready { new: proc, app: None, goes_back });
                    Slot::Single(app)
                }
                Life::Ready => slot,
            },
            Slot::Handover { old, new } if new.proc == proc => {
                let app = Some(old.proc);
                self.say(Notice::Unready { new: proc, app, goes_back: false });
                self.dismiss(proc, Role::App);
                Slot::Single(old)
            }
            Slot::Empty { .. }
            | Slot::StartDue { .. }
            | Slot::Single(_)
            | Slot::Handover { .. } => slot,
        };
        Phase::Live { work, slot }
    }

    /// Sends a signal to the app. An app that was just started may not have installed its handler
    /// yet, and would be killed by the signal: it is sent when the app is ready.
    fn signal(&mut self, phase: Phase, signal: Signal) -> Phase {
        let (work, slot) = match phase {
            Phase::Live { work, slot } => (work, slot),
            Phase::Closing { app: Some(app), .. } => {
                self.send(app, signal);
                return phase;
            }
            Phase::Closing { app: None, .. } | Phase::Quitting { .. } | Phase::Ended => {
                self.say(Notice::NobodyToSignal(signal));
                return phase;
            }
        };
        let deferred = |app: App| match app.life {
            Life::Starting { late, .. } => {
                App { life: Life::Starting { late, signal: Some(signal) }, ..app }
            }
            Life::Ready => app,
        };
        let slot = match slot {
            Slot::Empty { .. } | Slot::StartDue { .. } => {
                self.say(Notice::NobodyToSignal(signal));
                slot
            }
            Slot::Single(app) => {
                if app.is_ready() {
                    self.send(app.proc, signal);
                }
                Slot::Single(deferred(app))
            }
            Slot::Handover { old, new } => {
                self.send(old.proc, signal);
                Slot::Handover { old, new: deferred(new) }
            }
        };
        Phase::Live { work, slot }
    }

    fn send_deferred(&mut self, app: Proc, signal: Option<Signal>) {
        if let Some(signal) = signal {
            self.send(app, signal);
        }
    }

    fn send(&mut self, app: Proc, signal: Signal) {
        self.effects.push(Effect::Signal(app, signal));
        self.say(Notice::Signalled(app, signal));
    }

    // Exits

    fn exited(&mut self, phase: Phase, proc: Proc, ended: Ended, lived: Lived) -> Phase {
        match phase {
            Phase::Live { work: Work::Building { build, owed, .. }, slot } if build == proc => {
                self.dismiss_build(build);
                if ended.succeeded() {
                    self.say(Notice::Built(build));
                    self.service.artifacts.built = true;
                    self.service.artifacts.next = Source::Built;
                    let work = Work::Installing(Owed { restart: false, ..owed });
                    return Phase::Live { work, slot: slot.forgiven() };
                }
                self.build_failed(build, owed, slot, ended)
            }
            Phase::Live { work: Work::RunningRules { rules, owed }, slot } if rules == proc => {
                self.dismiss(rules, Role::Rules);
                if ended.succeeded() {
                    self.say(Notice::RulesDone(rules));
                } else {
                    let app = slot.app();
                    self.say(Notice::RulesFailed { rules, ended, app });
                }
                // Also if a rule failed: it may be unrelated to the other saves.
                Phase::Live { work: owed.into_work(), slot }
            }
            Phase::Live { work, slot: Slot::Single(app) } if app.proc == proc => {
                self.app_exited(work, app, ended, lived)
            }
            Phase::Live { work, slot: Slot::Handover { old, new } } if new.proc == proc => {
                self.dismiss(proc, Role::App);
                let serving = Some(old.proc);
                self.say(Notice::AppEnded { app: proc, ended, serving, next: Next::Wait });
                Phase::Live { work, slot: Slot::Single(old) }
            }
            Phase::Live { work, slot: Slot::Handover { old, new } } if old.proc == proc => {
                self.dismiss(proc, Role::App);
                let next = Next::Build;
                self.say(Notice::AppEnded { app: proc, ended, serving: None, next });
                Phase::Live { work, slot: Slot::Single(new) }
            }
            Phase::Closing { hook, next, app, code } if hook == proc => {
                self.dismiss(hook, Role::Hook);
                if ended.succeeded() {
                    return self.hook(next, app, code);
                }
                self.say(Notice::HookFailed(ended));
                self.leave(app, code)
            }
            Phase::Closing { hook, next, app: Some(app), code } if app == proc => {
                self.dismiss(app, Role::App);
                self.say(Notice::AppEnded { app, ended, serving: None, next: Next::Quit });
                Phase::Closing { hook, next, app: None, code }
            }
            Phase::Live { .. } | Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => {
                phase
            }
        }
    }

    /// Keeps the running app if it was started from exactly this build, and nothing else requires a
    /// restart.
    fn built_same(&mut self, work: Work, slot: Slot, build: Proc, same: Proc) -> Phase {
        match (work, slot) {
            (Work::Building { build: running, owed, .. }, Slot::Single(app))
                if running == build && app.proc == same && !owed.restart && !app.is_late() =>
            {
                self.dismiss_build(build);
                self.service.artifacts.built = true;
                self.service.artifacts.next = Source::Built;
                self.say(Notice::SameProgram(build));
                Phase::Live { work: owed.into_work(), slot }
            }
            (work, slot) => {
                let phase = Phase::Live { work, slot };
                self.exited(phase, build, Ended::Code(0), Lived::Long)
            }
        }
    }

    fn build_failed(&mut self, build: Proc, mut owed: Owed, slot: Slot, ended: Ended) -> Phase {
        let code = ended.exit_code();
        let slot = if self.service.policy.stop_on_error {
            owed.restart = false;
            self.dismiss_apps(slot);
            Slot::EMPTY
        } else {
            slot
        };
        let app = slot.app();
        self.say(Notice::BuildFailed { build, ended, app });
        if app.is_none() {
            self.effects.push(Effect::NothingRuns);
        }
        if self.service.policy.once {
            return self.close(app, code);
        }
        // A restart was requested during the build, which was expected to provide it.
        if mem::take(&mut owed.restart) && self.has_something_to_run() {
            return Phase::Live { work: Work::Installing(owed), slot };
        }
        if slot == (Slot::Empty { failed_start: true }) {
            self.start_failed();
        }
        Phase::Live { work: owed.into_work(), slot }
    }

    /// Handles an app that exited by itself.
    fn app_exited(&mut self, work: Work, app: App, ended: Ended, lived: Lived) -> Phase {
        let slot = Slot::Single(app);
        let is_failed_start = app.is_failed_start(&ended);
        let has_failed = is_failed_start || (app.source == Source::Kept && !ended.succeeded());
        let goes_back = is_failed_start && self.can_go_back() && !work.is_restart_due();
        let is_alone = self.is_at_rest(&work, slot);
        let is_followed = match &work {
            Work::RunningRules { owed, .. } => {
                owed.build.as_ref().is_some_and(|request| request.origin != Origin::HeldSave)
            }
            // A build that only verifies what a build wrote does not keep hotrun from exiting.
            Work::Due(owed) if self.service.policy.on_exit == OnExit::Quit => {
                !is_alone && (owed.is_urgent() || owed.restart)
            }
            Work::Idle
            | Work::Due(_)
            | Work::Building { .. }
            | Work::Cancelling { .. }
            | Work::Installing(_) => !is_alone,
        };
        let next = match self.service.policy.on_exit {
            OnExit::Wait | OnExit::Restart | OnExit::Quit if is_followed => Next::Build,
            OnExit::Wait | OnExit::Restart | OnExit::Quit if goes_back => Next::Rollback,
            OnExit::Wait => Next::Wait,
            OnExit::Restart => Next::Restart,
            OnExit::Quit => Next::Quit,
        };
        let code = ended.exit_code();
        self.dismiss(app.proc, Role::App);
        self.say(Notice::AppEnded { app: app.proc, ended, serving: None, next });
        if is_alone && is_failed_start {
            self.start_failed();
        }
        if is_alone && has_failed && next == Next::Wait && self.service.artifacts.older {
            self.say(Notice::RollbackPossible);
        }
        if next == Next::Quit {
            let app = self.stop_work(&work, Slot::EMPTY);
            return self.close(app, code);
        }
        // What is in progress may fail: then this start is what counts.
        let slot = if self.service.policy.on_exit == OnExit::Restart && !goes_back {
            self.back_off(app.proc, lived);
            Slot::StartDue { backoff: Some(app.proc) }
        } else {
            Slot::Empty { failed_start: is_failed_start }
        };
        Phase::Live { work, slot }
    }

    /// Delays the next start: the longer, the more apps in a row have exited soon after theirs.
    fn back_off(&mut self, app: Proc, lived: Lived) {
        let in_a_row = match lived {
            Lived::Briefly => self.service.brief_lives.saturating_add(1),
            Lived::Long => 0,
        };
        self.service.brief_lives = in_a_row;
        let doublings = in_a_row.saturating_sub(1).min(MAX_DOUBLINGS);
        let growing = FIRST_BACKOFF * 2_u32.pow(doublings);
        let delay = self.service.policy.rerun_delay.unwrap_or(growing);
        self.effects.push(Effect::ArmBackoff(app, delay));
        if in_a_row == CRASH_LOOP {
            self.say(Notice::CrashLoop(CRASH_LOOP, delay));
        }
    }

    fn gone(&mut self, phase: Phase, proc: Proc) -> Phase {
        if let Phase::Live { work: Work::Cancelling { build, owed }, slot } = phase {
            if build == proc {
                return Phase::Live { work: Work::Due(owed), slot };
            }
            self.forget(proc);
            return Phase::Live { work: Work::Cancelling { build, owed }, slot };
        }
        self.forget(proc);
        match phase {
            Phase::Quitting { code } if self.service.leaving.is_empty() => self.end(code),
            Phase::Live { .. } | Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => {
                phase
            }
        }
    }

    fn forget(&mut self, proc: Proc) {
        let left = self.service.leaving.remove(&proc);
        if left.is_some_and(|left| left.role == Role::App) {
            self.say(Notice::Stopped(proc));
        }
    }

    fn overdue(&mut self, phase: Phase, proc: Proc) -> Phase {
        let in_phase = match &phase {
            Phase::Live { work: Work::Cancelling { build, .. }, .. } => *build == proc,
            Phase::Closing { hook, .. } => *hook == proc,
            Phase::Live { .. } | Phase::Quitting { .. } | Phase::Ended => false,
        };
        if in_phase || self.service.leaving.contains_key(&proc) {
            self.say(Notice::Killing(proc));
            self.kill(proc);
        }
        phase
    }

    fn due(&mut self, phase: Phase, timer: Timer) -> Phase {
        match timer {
            Timer::Spacing(build) => {
                self.service.spacing.take_if(|spacing| *spacing == build);
                phase
            }
            Timer::Backoff(ended) => self.if_live(phase, |_, work, slot| {
                let is_over = slot == Slot::StartDue { backoff: Some(ended) };
                Phase::Live { work, slot: if is_over { Slot::START_DUE } else { slot } }
            }),
        }
    }

    // Shutdown

    /// Stops what is being made, and an app that is not ready beside another. Returns the app that
    /// is left.
    fn stop_work(&mut self, work: &Work, slot: Slot) -> Option<Proc> {
        match work {
            Work::Building { build, .. } => self.dismiss(*build, Role::Build),
            Work::RunningRules { rules, .. } => self.dismiss(*rules, Role::Rules),
            Work::Cancelling { build, .. } => {
                self.service.leaving.insert(*build, Leaving::new(Role::Build));
            }
            Work::Idle | Work::Due(_) | Work::Installing(_) => {}
        }
        match slot {
            Slot::Single(app) => Some(app.proc),
            Slot::Handover { old, new } => {
                self.dismiss(new.proc, Role::App);
                Some(old.proc)
            }
            Slot::Empty { .. } | Slot::StartDue { .. } => None,
        }
    }

    fn close(&mut self, app: Option<Proc>, code: u8) -> Phase {
        // Nothing is built or started any more.
        self.service.pending = None;
        self.service.spacing = None;
        self.service.overtaken = 0;
        self.service.brief_lives = 0;
        self.service.artifacts = Artifacts::NONE;
        self.hook(0, app, code)
    }

    fn hook(&mut self, index: usize, app: Option<Proc>, code: u8) -> Phase {
        if index >= self.service.policy.hooks {
            return self.leave(app, code);
        }
        let hook = self.number();
        self.effects.push(Effect::SpawnHook(hook, index));
        Phase::Closing { hook, next: index + 1, app, code }
    }

    fn leave(&mut self, app: Option<Proc>, code: u8) -> Phase {
        if let Some(app) = app {
            self.dismiss(app, Role::App);
        }
        if self.service.leaving.is_empty() {
            return self.end(code);
        }
        Phase::Quitting { code }
    }

    fn killed(&mut self, phase: Phase) -> Phase {
        let code = match phase {
            Phase::Live { work, slot } => {
                let app = self.stop_work(&work, slot);
                if let Some(app) = app {
                    self.dismiss(app, Role::App);
                }
                0
            }
            Phase::Closing { hook, app, code, .. } => {
                self.service.leaving.insert(hook, Leaving::new(Role::Hook));
                let app = app.map(|app| (app, Leaving::new(Role::App)));
                self.service.leaving.extend(app);
                code
            }
            Phase::Quitting { code } => code,
            Phase::Ended => return Phase::Ended,
        };
        let everything: Vec<Proc> = self.service.leaving.keys().copied().collect();
        for proc in everything {
            self.kill(proc);
        }
        self.leave(None, code)
    }

    fn end(&mut self, code: u8) -> Phase {
        self.effects.push(Effect::Ended(code));
        Phase::Ended
    }

    // Helpers

    fn has_something_to_run(&self) -> bool {
        let is_kept = self.service.artifacts.next == Source::Kept;
        self.service.policy.runs && (self.has_something_built() || is_kept)
    }

    fn has_something_built(&self) -> bool {
        self.service.artifacts.built || !self.service.policy.builds
    }

    fn number(&mut self) -> Proc {
        self.service.last_proc += 1;
        Proc(self.service.last_proc)
    }

    fn dismiss_apps(&mut self, slot: Slot) {
        match slot {
            Slot::Single(app) => self.dismiss(app.proc, Role::App),
            Slot::Handover { old, new } => {
                self.dismiss(new.proc, Role::App);
                self.dismiss(old.proc, Role::App);
            }
            Slot::Empty { .. } | Slot::StartDue { .. } => {}
        }
    }

    /// Stops the processes that a build left behind; nothing waits for them.
    fn dismiss_build(&mut self, build: Proc) {
        self.dismiss(build, Role::Build);
        self.service.overtaken = 0;
    }

    fn dismiss(&mut self, proc: Proc, role: Role) {
        self.effects.push(Effect::Dismiss(proc));
        self.service.leaving.insert(proc, Leaving::new(role));
        let draining = |leaving: &Leaving| leaving.role == Role::App && !leaving.killed;
        let mut draining = self.service.leaving.iter().filter(|(_, one)| draining(one));
        let oldest = draining.next().map(|(oldest, _)| *oldest);
        if draining.count() >= MAX_DRAINING
            && let Some(oldest) = oldest
        {
            self.say(Notice::TooManyLeave(oldest));
            self.kill(oldest);
        }
    }

    fn kill(&mut self, proc: Proc) {
        if let Some(leaving) = self.service.leaving.get_mut(&proc) {
            leaving.killed = true;
        }
        self.effects.push(Effect::Kill(proc));
    }

    fn say(&mut self, notice: Notice) {
        self.effects.push(Effect::Say(notice));
    }
}

impl Artifacts {
    const NONE: Artifacts = Artifacts { built: false, older: false, next: Source::Built };
}

/// Whether a build runs, or the program that it made has yet to start.
fn has_follow_ups(work: &Work, slot: Slot) -> bool {
    match work {
        Work::Building { .. } | Work::Installing(_) => true,
        Work::Idle | Work::Due(_) => slot.waits_for_start(),
        Work::RunningRules { .. } | Work::Cancelling { .. } => false,
    }
}

#[cfg(test)]
mod renaming {
    //! Renames the processes of a service, so that states that differ only in numbers are one.

    use super::*;

    impl Service {
        /// The processes that the state contains, living or not.
        pub(crate) fn procs(&self) -> Vec<Proc> {
            let mut procs = self.living();
            procs.extend(self.spacing);
            if let Phase::Live { slot: Slot::StartDue { backoff }, .. } = self.phase {
                procs.extend(backoff);
            }
            procs
        }

        /// The processes that the state takes for living.
        pub(crate) fn living(&self) -> Vec<Proc> {
            let mut procs: Vec<Proc> = self.leaving.keys().copied().collect();
            match &self.phase {
                Phase::Live { work, slot } => {
                    match work {
                        Work::RunningRules { rules: proc, .. }
                        | Work::Building { build: proc, .. }
                        | Work::Cancelling { build: proc, .. } => procs.push(*proc),
                        Work::Idle | Work::Due(_) | Work::Installing(_) => {}
                    }
                    match slot {
                        Slot::Empty { .. } | Slot::StartDue { .. } => {}
                        Slot::Single(app) => procs.push(app.proc),
                        Slot::Handover { old, new } => procs.extend([old.proc, new.proc]),
                    }
                }
                Phase::Closing { hook, app, .. } => {
                    procs.push(*hook);
                    procs.extend(*app);
                }
                Phase::Quitting { .. } | Phase::Ended => {}
            }
            procs
        }

        /// The same state with other names for the processes, the next of which is `last` + 1, and
        /// with nothing in it that only counts or names.
        pub(crate) fn renamed(&self, to: &dyn Fn(Proc) -> Proc, last: u32) -> Service {
            let mut service = self.clone();
            service.leaving = self.leaving.iter().map(|(proc, one)| (to(*proc), *one)).collect();
            service.spacing = self.spacing.map(to);
            (service.overtaken, service.brief_lives) = (0, 0);
            (service.generation, service.last_proc) = (0, last);
            let app = |app: &mut App| app.proc = to(app.proc);
            let none = || Cause::Save(Vec::new());
            match &mut service.phase {
                Phase::Live { work, slot } => {
                    match work {
                        Work::RunningRules { rules: proc, .. }
                        | Work::Cancelling { build: proc, .. } => {
                            *proc = to(*proc);
                        }
                        Work::Building { build, cause, .. } => {
                            (*build, *cause) = (to(*build), none());
                        }
                        Work::Idle | Work::Due(_) | Work::Installing(_) => {}
                    }
                    if let Some(owed) = work.owed_mut() {
                        let requests = [&mut owed.rules, &mut owed.build];
                        requests.into_iter().flatten().for_each(|request| request.cause = none());
                    }
                    match slot {
                        Slot::Empty { .. } => {}
                        Slot::StartDue { backoff } => *backoff = backoff.map(to),
                        Slot::Single(one) => app(one),
                        Slot::Handover { old, new } => {
                            app(old);
                            app(new);
                        }
                    }
                }
                Phase::Closing { hook, app, .. } => {
                    *hook = to(*hook);
                    *app = app.map(to);
                }
                Phase::Quitting { .. } | Phase::Ended => {}
            }
            service
        }
    }
}
