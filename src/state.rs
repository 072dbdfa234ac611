//! The core: decides what follows from each event. [`State::step`] takes one event and returns the
//! next state and the effects that lead there.
//!
//! It never waits, spawns a process, reads a clock or a file, or prints.
//!
//! Invariants, each asserted on every reachable transition (`state/tests.rs`):
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
//! - The state contains every living process exactly once. hotrun does not exit while one is left,
//!   unless it is forced to. No process is asked to exit twice.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::event::{
    Cause, Ended, Event, Mode, Next, Notice, OnExit, Order, Policy, Proc, Refusal, Role, Source,
    Timer,
};

#[cfg(test)]
mod tests;

/// Maximum number of apps that drain at once. Above it, the oldest is killed.
const MOST_LEAVING: usize = 3;
/// Number of cancelled builds in a row after which a notice is printed.
const MANY_OVERTAKEN: u32 = 3;
/// The exit code after a third Ctrl-C.
pub const ABANDONED: u8 = 130;

/// An action that the engine performs, in order. Performing it never waits and never fails: a
/// failure comes back as an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
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
    /// Run the `post_cmd` of this index.
    SpawnHook(Proc, usize),
    /// Ask the process to exit, and report `Overdue` after its grace period.
    Dismiss(Proc),
    /// Kill all processes that are left of this one.
    Kill(Proc),
    /// Send this signal to the process.
    Signal(Proc, Signal),
    /// Report `Due` after the delay of this timer. Replaces an earlier timer of its kind.
    Arm(Timer),
    /// Report this to the user.
    Say(Notice),
    /// Exit from hotrun with this code, now.
    Exit(u8),
}

/// The phase of the loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No save is newer than what runs.
    Idle { app: Option<Proc> },
    /// Something is due later.
    Waiting { app: Option<Proc>, due: Due },
    /// The commands of rules run. A build may follow, for the files that they write.
    Ruling { rules: Proc, app: Option<Proc> },
    /// This build runs; the old app serves.
    Building { build: Proc, app: Option<Proc>, cause: Cause },
    /// The build was cancelled. The next one starts when it is gone.
    Cancelling { build: Proc, app: Option<Proc>, cause: Cause },
    /// The build is done; the old apps have yet to exit (restart mode only).
    Stopping,
    /// `new` was started and is not ready; `app` serves (handover mode only).
    Starting { new: Proc, app: Option<Proc> },
    /// hotrun is shutting down; the `post_cmd`s run while the app is still running.
    Closing { hook: Proc, next: usize, app: Option<Proc>, code: u8 },
    /// All remaining processes are stopping.
    Quitting { forced: bool, code: u8 },
    /// hotrun exits.
    Done,
}

/// What is due at the end of [`Phase::Waiting`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Due {
    /// A build, when the spacing is over.
    Build(Cause),
    /// The successor of this app, which exited by itself.
    Restart(Proc),
}

/// Whether saves are handled or kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pause {
    Off,
    /// Saves are kept; the cause contains those that have arrived.
    On(Option<Cause>),
}

/// A process in [`State::leaving`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Leaving {
    role: Role,
    killed: bool,
}

impl Leaving {
    fn new(role: Role) -> Self {
        Self { role, killed: false }
    }
}

/// The complete state of the loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    phase: Phase,
    policy: Policy,
    /// A policy that arrived after the start of the running build; the next build puts it into
    /// effect.
    pending: Option<Policy>,
    /// Processes that were asked to exit, or have exited, but are not gone.
    leaving: BTreeMap<Proc, Leaving>,
    /// The build whose spacing is not over.
    spacing: Option<Proc>,
    /// The app that exited while rules were running and whose restart backoff has not elapsed.
    pausing: Option<Proc>,
    /// Files that a build wrote for the next build to read.
    follow_up: Option<Cause>,
    /// Files whose rules have yet to run.
    rules: Option<Cause>,
    /// The cause of the build that starts when the rules have ended.
    owed: Option<Cause>,
    /// Whether the app is restarted even if nothing new is built.
    restart: bool,
    /// The app that was started last, while it is not ready.
    unready: Option<Proc>,
    /// Signal to deliver once the app is ready.
    signal: Option<Signal>,
    /// What the next app is started from.
    source: Source,
    /// The app that was started last from a new build, while it has not proven good.
    unproven: Option<Proc>,
    /// Whether the last start has failed, and nothing has followed yet.
    failed_start: bool,
    /// The app that was not ready in time, if nothing has followed yet.
    late: Option<Proc>,
    /// Whether there is an older good artifact to roll back to.
    fallback: bool,
    pause: Pause,
    /// Whether a build has succeeded, so that there is something to run.
    built: bool,
    /// Number of cancelled builds in a row.
    overtaken: u32,
    last_proc: u32,
    generation: u32,
}

impl State {
    /// Returns the initial state: nothing runs, and nothing was built.
    pub fn new(policy: Policy) -> Self {
        Self {
            phase: Phase::Idle { app: None },
            policy,
            pending: None,
            leaving: BTreeMap::new(),
            spacing: None,
            pausing: None,
            follow_up: None,
            rules: None,
            owed: None,
            restart: false,
            unready: None,
            signal: None,
            source: Source::Built,
            unproven: None,
            failed_start: false,
            late: None,
            fallback: false,
            pause: Pause::Off,
            built: false,
            overtaken: 0,
            last_proc: 0,
            generation: 0,
        }
    }

    /// Returns the next state, and the effects that lead there.
    #[must_use]
    pub fn step(mut self, event: Event) -> (State, Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        let mut turn = Turn { state: self, effects: Vec::new() };
        let phase = turn.take(phase, event);
        let phase = turn.follow_up(phase);
        turn.state.phase = turn.follow_failed_start(phase);
        (turn.state, turn.effects)
    }

    /// Whether the state expects that there is an older good artifact to roll back to.
    pub fn has_fallback(&self) -> bool {
        self.fallback
    }

    /// The app that currently represents the program.
    pub fn app(&self) -> Option<Proc> {
        current_app(&self.phase)
    }

    /// Whether a build is running that was not cancelled.
    pub fn is_building(&self) -> bool {
        matches!(self.phase, Phase::Building { .. })
    }

    /// Whether follow-ups of the build wait.
    #[cfg(test)]
    fn has_follow_ups(&self) -> bool {
        has_follow_ups(&self.phase)
    }
}

/// A step in progress. Each handler takes the current phase and returns the next, so no handler
/// sees a phase that is half changed.
struct Turn {
    state: State,
    effects: Vec<Effect>,
}

impl Turn {
    fn take(&mut self, phase: Phase, event: Event) -> Phase {
        match event {
            Event::Saved(cause) => self.saved(phase, cause),
            Event::FollowUp(cause) => self.written_by_build(phase, cause),
            Event::Ruled(cause) => self.ruled(phase, cause),
            Event::RuledByBuild(cause) => match phase {
                // The program that the build makes starts first.
                Phase::Building { .. } | Phase::Starting { app: Some(_), .. } => {
                    self.keep_for_rules(cause);
                    phase
                }
                _ => self.ruled(phase, cause),
            },
            Event::AppInput(cause) => self.app_input(phase, &cause),
            Event::Revival(cause) => match phase {
                Phase::Idle { app: None }
                | Phase::Waiting { app: None, due: Due::Restart(_) }
                | Phase::Ruling { app: None, .. } => self.saved(phase, cause),
                // The running app reads the files by itself; a build or start in progress reads
                // them too.
                _ => phase,
            },
            Event::Unbuilt => {
                self.state.built = false;
                phase
            }
            Event::Exited(proc, ended) => self.exited(phase, proc, ended),
            Event::BuiltSame { build, app } => self.built_same(phase, build, app),
            Event::Gone(proc) => self.gone(phase, proc),
            Event::Ready(proc) => self.ready(phase, proc, Notice::Ready(proc)),
            Event::Running(proc) => self.ready(phase, proc, Notice::Running(proc)),
            Event::Unready(proc) => self.unready(phase, proc),
            Event::Proven(proc) => {
                self.state.unproven.take_if(|app| *app == proc);
                phase
            }
            Event::Fallback(is_there) => {
                self.state.fallback = is_there;
                phase
            }
            Event::Overdue(proc) => self.overdue(phase, proc),
            Event::Due(timer) => self.due(phase, timer),
            Event::Interrupted => self.interrupted(&phase),
            Event::Ordered(order) => self.ordered(phase, order),
            Event::Reconfigured(policy) => {
                self.state.pending = Some(policy);
                self.saved(phase, Cause::Config)
            }
        }
    }

    // Saves

    fn saved(&mut self, phase: Phase, cause: Cause) -> Phase {
        if let Pause::On(kept) = &mut self.state.pause {
            let was_asked_for = cause == Cause::Order;
            *kept = Some(cause.after(kept.take()));
            if was_asked_for {
                self.say(Notice::Paused);
            }
            return phase;
        }
        if !self.tell_change(&phase, &cause) {
            return phase;
        }
        match phase {
            Phase::Idle { app } | Phase::Waiting { app, due: Due::Restart(_) } => {
                self.begin(app, cause)
            }
            Phase::Waiting { app, due: Due::Build(older) } => {
                Phase::Waiting { app, due: Due::Build(older.join(cause)) }
            }
            Phase::Building { build, app, cause: older } => {
                self.overtake(build);
                Phase::Cancelling { build, app, cause: older.join(cause) }
            }
            Phase::Cancelling { build, app, cause: older } => {
                Phase::Cancelling { build, app, cause: older.join(cause) }
            }
            Phase::Ruling { .. } => {
                self.owe(cause);
                phase
            }
            Phase::Stopping => {
                // If the build fails, the program starts that was about to start.
                self.state.restart = true;
                // No app serves, so the build starts without spacing.
                self.build(None, cause)
            }
            Phase::Starting { new, app: Some(app) } => {
                self.state.restart = true;
                self.dismiss(new, Role::App);
                self.begin(Some(app), cause)
            }
            Phase::Starting { new, app: None } => self.begin(Some(new), cause),
            Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Done => phase,
        }
    }

    fn overtake(&mut self, build: Proc) {
        self.dismiss_in_place(build);
        self.state.overtaken = (self.state.overtaken + 1).min(MANY_OVERTAKEN + 1);
        if self.state.overtaken == MANY_OVERTAKEN {
            self.say(Notice::Overtaken(MANY_OVERTAKEN));
        }
    }

    /// Keeps a cause for the next build. The running build continues, and its program starts first.
    fn written_by_build(&mut self, phase: Phase, cause: Cause) -> Phase {
        if !has_follow_ups(&phase) {
            return self.saved(phase, cause);
        }
        self.state.follow_up = Some(cause.after(self.state.follow_up.take()));
        phase
    }

    /// Starts a follow-up when the app of the previous build has started.
    fn follow_up(&mut self, phase: Phase) -> Phase {
        let app = match phase {
            Phase::Idle { app } => app,
            Phase::Starting { new, app: None } => Some(new),
            _ => return phase,
        };
        if let Some(cause) = self.state.follow_up.take() {
            return self.saved(phase, cause);
        }
        match self.state.rules.take() {
            Some(cause) if self.state.pause == Pause::Off => {
                self.changed(&cause);
                self.run_rules(app, cause)
            }
            none_or_kept => {
                self.state.rules = none_or_kept;
                phase
            }
        }
    }

    // Rules

    fn ruled(&mut self, phase: Phase, cause: Cause) -> Phase {
        if self.state.pause != Pause::Off {
            self.keep_for_rules(cause);
            return phase;
        }
        if !self.tell_change(&phase, &cause) {
            return phase;
        }
        let cause = cause.after(self.state.rules.take());
        match phase {
            Phase::Idle { app } => self.run_rules(app, cause),
            Phase::Waiting { app, due: Due::Build(older) } => {
                self.owe(older);
                self.run_rules(app, cause)
            }
            Phase::Building { build, app, cause: built_for } => {
                self.overtake(build);
                self.state.rules = Some(cause);
                Phase::Cancelling { build, app, cause: built_for }
            }
            // The program that was built, or exited by itself, starts when the rules have ended.
            Phase::Waiting { app, due: Due::Restart(_) } => {
                self.state.restart = true;
                self.run_rules(app, cause)
            }
            Phase::Stopping => {
                self.state.restart = true;
                self.run_rules(None, cause)
            }
            Phase::Starting { new, app: Some(app) } => {
                self.state.restart = true;
                self.dismiss(new, Role::App);
                self.run_rules(Some(app), cause)
            }
            Phase::Starting { new, app: None } => self.run_rules(Some(new), cause),
            other => {
                self.state.rules = Some(cause);
                other
            }
        }
    }

    fn run_rules(&mut self, app: Option<Proc>, cause: Cause) -> Phase {
        let rules = self.number();
        self.effects.push(Effect::SpawnRules(rules, cause));
        Phase::Ruling { rules, app }
    }

    fn keep_for_rules(&mut self, cause: Cause) {
        self.state.rules = Some(cause.after(self.state.rules.take()));
    }

    fn owe(&mut self, cause: Cause) {
        self.state.owed = Some(cause.after(self.state.owed.take()));
    }

    fn rules_ended(&mut self, rules: Proc, app: Option<Proc>, ended: Ended) -> Phase {
        self.dismiss(rules, Role::Rules);
        if ended.succeeded() {
            self.say(Notice::RulesDone(rules));
        } else {
            self.say(Notice::RulesFailed { rules, ended, app });
        }
        if let Pause::On(kept) = &mut self.state.pause {
            if let Some(owed) = self.state.owed.take() {
                *kept = Some(owed.after(kept.take()));
            }
            return Phase::Idle { app };
        }
        // The files were saved again while the rules ran.
        if let Some(cause) = self.state.rules.take() {
            return self.run_rules(app, cause);
        }
        // Also if a rule failed: it may be unrelated to the other saves.
        if let Some(cause) = self.state.owed.take() {
            return self.begin(app, cause);
        }
        if std::mem::take(&mut self.state.restart) && self.has_something_to_run() {
            if let Some(ended) = self.state.pausing.take() {
                return Phase::Waiting { app, due: Due::Restart(ended) };
            }
            return self.install(app);
        }
        Phase::Idle { app }
    }

    /// Handles the exit of an app while rules run: a build may or may not follow.
    fn app_ended_during_rules(&mut self, rules: Proc, app: Proc, ended: Ended) -> Phase {
        let code = ended.exit_code();
        let next = match self.state.policy.on_exit {
            _ if self.state.owed.is_some() => Next::Build,
            _ if self.is_failed_start(app, &ended) && self.can_follow() => Next::Rollback,
            OnExit::Quit => Next::Quit,
            OnExit::Restart => Next::Restart,
            OnExit::Wait => Next::Wait,
        };
        self.lost(app, ended, next);
        match next {
            Next::Quit => {
                self.dismiss(rules, Role::Rules);
                return self.close(None, code);
            }
            Next::Restart => {
                self.state.restart = true;
                self.state.pausing = Some(app);
                self.effects.push(Effect::Arm(Timer::Backoff(app)));
            }
            Next::Build | Next::Wait | Next::Rollback => {}
        }
        Phase::Ruling { rules, app: None }
    }

    /// Starts a build: at once, or when its rules have run and the spacing is over. Without a
    /// build, starts the app again.
    fn begin(&mut self, app: Option<Proc>, cause: Cause) -> Phase {
        if let Some(for_rules) = self.state.rules.take() {
            self.owe(cause);
            return self.run_rules(app, for_rules);
        }
        if self.state.spacing.is_some() && self.policy_to_come().builds {
            return Phase::Waiting { app, due: Due::Build(cause) };
        }
        self.build(app, cause)
    }

    fn build(&mut self, app: Option<Proc>, cause: Cause) -> Phase {
        if let Some(policy) = self.state.pending.take() {
            self.state.policy = policy;
            self.effects.push(Effect::TakeUp);
        }
        if !self.state.policy.builds {
            self.state.owed = None;
            self.state.source = Source::Built;
            return self.install(app);
        }
        let cause = cause.after(self.state.follow_up.take()).after(self.state.owed.take());
        let build = self.number();
        self.effects.push(Effect::SpawnBuild(build, cause.clone()));
        if self.state.policy.spaced {
            self.state.spacing = Some(build);
            self.effects.push(Effect::Arm(Timer::Spacing(build)));
        }
        self.say(Notice::Building(build));
        Phase::Building { build, app, cause }
    }

    fn policy_to_come(&self) -> Policy {
        self.state.pending.unwrap_or(self.state.policy)
    }

    // Replacing the app

    fn install(&mut self, app: Option<Proc>) -> Phase {
        self.state.restart = false;
        self.state.pausing = None;
        if !self.state.policy.runs {
            if let Some(app) = app {
                self.dismiss(app, Role::App);
            }
            if self.state.policy.once {
                return self.close(None, 0);
            }
            return Phase::Idle { app: None };
        }
        let hands_over = self.state.policy.mode == Mode::Handover;
        // Replace an app that is not ready yet instead of starting a second one beside it.
        if hands_over && app.is_some() && app != self.state.unready {
            return self.start(app);
        }
        if let Some(app) = app {
            self.dismiss(app, Role::App);
        }
        if !hands_over && self.apps_leaving() > 0 { Phase::Stopping } else { self.start(None) }
    }

    fn start(&mut self, app: Option<Proc>) -> Phase {
        // The new app reads at its start what the signal or the restart was for.
        self.state.signal = None;
        self.state.restart = false;
        self.state.failed_start = false;
        self.state.late = None;
        let new = self.number();
        self.state.unready = Some(new);
        self.state.unproven = (self.state.source == Source::Built).then_some(new);
        self.state.generation += 1;
        self.effects.push(Effect::SpawnApp(new, self.state.generation, self.state.source));
        Phase::Starting { new, app }
    }

    // Rollback

    /// Rolls back if the start of a new build has failed, no app serves, and nothing newer is in
    /// progress.
    fn follow_failed_start(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Idle { app: None } if self.state.failed_start && self.can_follow() => {
                self.go_back(None)
            }
            Phase::Idle { app: Some(app) } | Phase::Starting { new: app, app: None }
                if self.is_to_be_replaced(app) =>
            {
                self.go_back(Some(app))
            }
            phase => phase,
        }
    }

    /// Whether the app was not ready in time and still is not, and there is a better artifact.
    fn is_to_be_replaced(&self, app: Proc) -> bool {
        let is_app = |one: Option<Proc>| one == Some(app);
        let is_late = is_app(self.state.late) && is_app(self.state.unready);
        is_late && is_app(self.state.unproven) && self.can_follow()
    }

    fn can_follow(&self) -> bool {
        self.state.policy.rollback && self.state.fallback
    }

    fn go_back(&mut self, app: Option<Proc>) -> Phase {
        self.keep_to_the_last_good();
        self.install(app)
    }

    fn keep_to_the_last_good(&mut self) {
        self.state.failed_start = false;
        self.state.late = None;
        self.effects.push(Effect::GoBack);
        self.state.source = Source::Kept;
    }

    /// Notes that an app exited before it had proven good, while nothing else is in progress.
    fn start_failed(&mut self) {
        self.state.failed_start = true;
        if self.state.policy.rollback && !self.state.fallback {
            self.say(Notice::NoRollback(Refusal::NothingKept));
        }
    }

    fn roll_back(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Done => {
                self.say(Notice::NoRollback(Refusal::Ending));
                phase
            }
            Phase::Waiting { due: Due::Build(_), .. }
            | Phase::Ruling { .. }
            | Phase::Building { .. }
            | Phase::Cancelling { .. } => {
                self.say(Notice::NoRollback(Refusal::BuildUnderWay));
                phase
            }
            // The old app is still running.
            Phase::Starting { new, app: Some(app) } => {
                self.dismiss(new, Role::App);
                self.say(Notice::Kept(app));
                Phase::Idle { app: Some(app) }
            }
            phase if !self.state.fallback => {
                self.say(Notice::NoRollback(Refusal::NothingKept));
                phase
            }
            Phase::Idle { app } | Phase::Waiting { app, due: Due::Restart(_) } => self.go_back(app),
            Phase::Starting { new, app: None } => self.go_back(Some(new)),
            Phase::Stopping => {
                self.keep_to_the_last_good();
                Phase::Stopping
            }
        }
    }

    /// Handles an app that serves, or counts as serving; the notice says which.
    fn ready(&mut self, phase: Phase, proc: Proc, notice: Notice) -> Phase {
        match phase {
            Phase::Starting { new, app } if new == proc => {
                self.say(notice);
                self.send_kept_signal(new);
                if let Some(app) = app {
                    self.dismiss(app, Role::App);
                }
                Phase::Idle { app: Some(new) }
            }
            other => {
                if self.is_the_unready(&other, proc) {
                    self.say(notice);
                    self.send_kept_signal(proc);
                }
                other
            }
        }
    }

    /// Whether this is the current app and not ready yet. Something newer may have started
    /// meanwhile.
    fn is_the_unready(&self, phase: &Phase, proc: Proc) -> bool {
        let is_closing = matches!(phase, Phase::Closing { .. });
        self.state.unready == Some(proc) && current_app(phase) == Some(proc) && !is_closing
    }

    fn send_kept_signal(&mut self, app: Proc) {
        if self.state.unready != Some(app) {
            return;
        }
        self.state.unready = None;
        if let Some(signal) = self.state.signal.take() {
            self.send(app, signal);
        }
    }

    fn send(&mut self, app: Proc, signal: Signal) {
        self.effects.push(Effect::Signal(app, signal));
        self.say(Notice::Signalled(app, signal));
    }

    fn unready(&mut self, phase: Phase, proc: Proc) -> Phase {
        match phase {
            Phase::Starting { new, app: Some(app) } if new == proc => {
                self.say(Notice::Unready { new, app: Some(app), goes_back: false });
                self.dismiss(new, Role::App);
                Phase::Idle { app: Some(app) }
            }
            other => {
                if self.is_the_unready(&other, proc) {
                    self.state.late = Some(proc);
                    let is_alone = matches!(other, Phase::Idle { .. } | Phase::Starting { .. });
                    let goes_back = is_alone && self.is_to_be_replaced(proc);
                    self.say(Notice::Unready { new: proc, app: None, goes_back });
                }
                other
            }
        }
    }

    // Exits

    fn exited(&mut self, phase: Phase, proc: Proc, ended: Ended) -> Phase {
        if self.state.leaving.contains_key(&proc) {
            return phase;
        }
        match phase {
            Phase::Building { build, app, .. } if build == proc => {
                // Stop the processes that the build left behind; nothing waits for them.
                self.dismiss(build, Role::Build);
                self.state.overtaken = 0;
                if ended.succeeded() {
                    self.state.built = true;
                    self.state.source = Source::Built;
                    self.state.failed_start = false;
                    self.say(Notice::Built(build));
                    self.install(app)
                } else {
                    self.build_failed(build, app, ended)
                }
            }
            Phase::Ruling { rules, app } if rules == proc => self.rules_ended(rules, app, ended),
            Phase::Ruling { rules, app: Some(app) } if app == proc => {
                self.app_ended_during_rules(rules, app, ended)
            }
            Phase::Idle { app: Some(app) } if app == proc => self.app_ended(app, ended, None),
            Phase::Starting { new, app } if new == proc => self.app_ended(new, ended, app),
            Phase::Starting { new, app: Some(app) } if app == proc => {
                self.lost(app, ended, Next::Build);
                Phase::Starting { new, app: None }
            }
            Phase::Waiting { app: Some(app), due } if app == proc => {
                self.lost(app, ended, Next::Build);
                Phase::Waiting { app: None, due }
            }
            Phase::Building { build, app: Some(app), cause } if app == proc => {
                self.lost(app, ended, Next::Build);
                Phase::Building { build, app: None, cause }
            }
            Phase::Cancelling { build, app: Some(app), cause } if app == proc => {
                self.lost(app, ended, Next::Build);
                Phase::Cancelling { build, app: None, cause }
            }
            Phase::Closing { hook, next, app, code } if hook == proc => {
                self.dismiss(hook, Role::Hook);
                if ended.succeeded() {
                    self.hook(next, app, code)
                } else {
                    self.say(Notice::HookFailed(ended));
                    self.leave(app, code)
                }
            }
            Phase::Closing { hook, next, app: Some(app), code } if app == proc => {
                self.lost(app, ended, Next::Quit);
                Phase::Closing { hook, next, app: None, code }
            }
            _ => phase,
        }
    }

    /// Keeps the running app if it was started from exactly this build, and nothing else requires a
    /// restart.
    fn built_same(&mut self, phase: Phase, build: Proc, same: Proc) -> Phase {
        match phase {
            Phase::Building { build: built, app: Some(app), .. }
                if built == build
                    && app == same
                    && !self.state.restart
                    && !(self.state.late == Some(app) && self.state.unready == Some(app)) =>
            {
                self.dismiss(build, Role::Build);
                self.state.overtaken = 0;
                self.state.built = true;
                self.state.source = Source::Built;
                self.state.failed_start = false;
                self.say(Notice::SameProgram(build));
                Phase::Idle { app: Some(app) }
            }
            phase => self.exited(phase, build, Ended::Code(0)),
        }
    }

    fn build_failed(&mut self, build: Proc, mut app: Option<Proc>, ended: Ended) -> Phase {
        let code = ended.exit_code();
        if self.state.policy.stop_on_error {
            self.state.restart = false;
            self.state.failed_start = false;
            if let Some(app) = app.take() {
                self.dismiss(app, Role::App);
            }
        }
        self.say(Notice::BuildFailed { build, ended, app });
        if self.state.policy.once {
            return self.close(app, code);
        }
        // The restart was requested during the build, which was expected to provide it.
        if std::mem::take(&mut self.state.restart) && self.has_something_to_run() {
            return self.install(app);
        }
        if self.state.failed_start && app.is_none() {
            self.start_failed();
        }
        Phase::Idle { app }
    }

    /// Handles an app that exited by itself while nothing newer is in progress.
    fn app_ended(&mut self, app: Proc, ended: Ended, serving: Option<Proc>) -> Phase {
        let code = ended.exit_code();
        let is_failed_start = self.is_failed_start(app, &ended);
        let ended_well = ended.succeeded();
        let next = match self.state.policy.on_exit {
            _ if serving.is_some() => Next::Wait,
            _ if is_failed_start && self.can_follow() => Next::Rollback,
            OnExit::Wait => Next::Wait,
            OnExit::Restart => Next::Restart,
            OnExit::Quit => Next::Quit,
        };
        self.dismiss(app, Role::App);
        self.say(Notice::AppEnded { app, ended, serving, next });
        if is_failed_start && serving.is_none() {
            self.start_failed();
        }
        let has_failed = is_failed_start || (self.state.source == Source::Kept && !ended_well);
        if has_failed && next == Next::Wait && serving.is_none() && self.state.fallback {
            self.say(Notice::RollbackPossible);
        }
        match next {
            Next::Wait | Next::Build | Next::Rollback => Phase::Idle { app: serving },
            Next::Restart => {
                self.effects.push(Effect::Arm(Timer::Backoff(app)));
                Phase::Waiting { app: None, due: Due::Restart(app) }
            }
            Next::Quit => self.close(None, code),
        }
    }

    /// Handles an app that exited by itself before something newer replaced it.
    fn lost(&mut self, app: Proc, ended: Ended, next: Next) {
        let is_failed_start = self.is_failed_start(app, &ended);
        let goes_back = is_failed_start && self.can_follow();
        if next == Next::Build && self.state.policy.on_exit == OnExit::Restart && !goes_back {
            // If the build fails, this app is restarted.
            self.state.restart = true;
        }
        self.dismiss(app, Role::App);
        self.say(Notice::AppEnded { app, ended, serving: None, next });
        if is_failed_start {
            // What is in progress may still fail.
            self.state.failed_start = true;
        }
    }

    /// Whether the app failed before it had proven good; an exit with success is no failed start.
    fn is_failed_start(&self, app: Proc, ended: &Ended) -> bool {
        self.state.unproven == Some(app) && !ended.succeeded()
    }

    fn gone(&mut self, phase: Phase, proc: Proc) -> Phase {
        if let Phase::Cancelling { build, app, cause } = phase {
            if build == proc {
                if let Some(for_rules) = self.state.rules.take() {
                    self.owe(cause);
                    return self.run_rules(app, for_rules);
                }
                // No spacing here: it applies only to builds that were not cancelled.
                return self.build(app, cause);
            }
            self.forget(proc);
            return Phase::Cancelling { build, app, cause };
        }
        self.forget(proc);
        match phase {
            Phase::Stopping if self.apps_leaving() == 0 => self.start(None),
            Phase::Quitting { code, .. } if self.state.leaving.is_empty() => self.exit(code),
            _ => phase,
        }
    }

    fn forget(&mut self, proc: Proc) {
        let left = self.state.leaving.remove(&proc);
        if left.is_some_and(|left| left.role == Role::App) {
            self.say(Notice::Stopped(proc));
        }
    }

    fn overdue(&mut self, phase: Phase, proc: Proc) -> Phase {
        let in_phase = match &phase {
            Phase::Cancelling { build, .. } => *build == proc,
            Phase::Closing { hook, .. } => *hook == proc,
            _ => false,
        };
        if in_phase || self.state.leaving.contains_key(&proc) {
            self.say(Notice::Killing(proc));
            self.kill(proc);
        }
        phase
    }

    fn due(&mut self, phase: Phase, timer: Timer) -> Phase {
        match (timer, phase) {
            (Timer::Spacing(build), phase) if self.state.spacing == Some(build) => {
                self.state.spacing = None;
                match phase {
                    Phase::Waiting { app, due: Due::Build(cause) } => self.build(app, cause),
                    other => other,
                }
            }
            (Timer::Backoff(ended), Phase::Waiting { app, due: Due::Restart(last) })
                if last == ended =>
            {
                self.install(app)
            }
            (Timer::Backoff(ended), phase) if self.state.pausing == Some(ended) => {
                self.state.pausing = None;
                phase
            }
            (_, phase) => phase,
        }
    }

    // Orders

    fn ordered(&mut self, phase: Phase, order: Order) -> Phase {
        match order {
            Order::Restart => self.restart(phase),
            Order::Rollback => self.roll_back(phase),
            Order::Signal(signal) => {
                self.signal(&phase, signal);
                phase
            }
            Order::Pause => self.pause(phase),
            Order::PauseOrResume if self.state.pause == Pause::Off => self.pause(phase),
            Order::Resume | Order::PauseOrResume => {
                match std::mem::replace(&mut self.state.pause, Pause::Off) {
                    Pause::Off => phase,
                    Pause::On(kept) => {
                        self.say(Notice::Resumed);
                        let phase = match self.state.rules.take() {
                            Some(for_rules) => self.ruled(phase, for_rules),
                            None => phase,
                        };
                        match kept {
                            None if self.state.restart => self.restart(phase),
                            None => phase,
                            Some(cause) => self.saved(phase, cause),
                        }
                    }
                }
            }
        }
    }

    /// Sends a signal to the app. An app that was just started may not have installed its handler
    /// yet, and would be killed by the signal: it is sent when the app is ready.
    fn signal(&mut self, phase: &Phase, signal: Signal) {
        let app = current_app(phase);
        let starts = matches!(phase, Phase::Starting { .. });
        if starts || (app.is_some() && app == self.state.unready) {
            self.state.signal = Some(signal);
        }
        match app {
            Some(app) if Some(app) == self.state.unready => {}
            Some(app) => self.send(app, signal),
            None => self.say(Notice::NobodyToSignal(signal)),
        }
    }

    fn app_input(&mut self, phase: Phase, cause: &Cause) -> Phase {
        // The change may fix what kept the newest build from starting.
        if self.state.source == Source::Kept && self.has_something_built() {
            self.state.source = Source::Built;
            self.say(Notice::NewestAgain);
        }
        if self.state.pause != Pause::Off {
            self.state.restart = true;
            return phase;
        }
        if self.tell_change(&phase, cause) { self.restart(phase) } else { phase }
    }

    fn restart(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Idle { .. }
            | Phase::Waiting { due: Due::Restart(_), .. }
            | Phase::Starting { .. }
                if !self.has_something_to_run() =>
            {
                self.state.restart = false;
                self.say(Notice::NothingBuilt);
                phase
            }
            Phase::Idle { app } | Phase::Waiting { app, due: Due::Restart(_) } => self.install(app),
            Phase::Starting { new, app } => {
                self.dismiss(new, Role::App);
                self.install(app)
            }
            // What is in progress ends with a new app; if it fails, the old one is started again.
            Phase::Waiting { due: Due::Build(_), .. }
            | Phase::Building { .. }
            | Phase::Cancelling { .. }
            | Phase::Ruling { .. } => {
                self.state.restart = true;
                // An explicit request does not wait for the backoff.
                self.state.pausing = None;
                phase
            }
            Phase::Stopping => {
                self.state.restart = false;
                phase
            }
            Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Done => phase,
        }
    }

    fn pause(&mut self, phase: Phase) -> Phase {
        if self.state.pause != Pause::Off {
            return phase;
        }
        self.say(Notice::Paused);
        match phase {
            Phase::Waiting { app, due: Due::Build(cause) } => {
                self.state.pause = Pause::On(Some(cause));
                Phase::Idle { app }
            }
            other => {
                self.state.pause = Pause::On(None);
                other
            }
        }
    }

    // Shutdown

    fn interrupted(&mut self, phase: &Phase) -> Phase {
        match *phase {
            Phase::Idle { app } | Phase::Waiting { app, .. } => self.asked_to_end(app),
            Phase::Building { build, app, .. } => {
                self.dismiss(build, Role::Build);
                self.asked_to_end(app)
            }
            Phase::Ruling { rules, app } => {
                self.dismiss(rules, Role::Rules);
                self.asked_to_end(app)
            }
            Phase::Cancelling { build, app, .. } => {
                self.state.leaving.insert(build, Leaving::new(Role::Build));
                self.asked_to_end(app)
            }
            Phase::Stopping => self.asked_to_end(None),
            Phase::Starting { new, app: Some(app) } => {
                self.dismiss(new, Role::App);
                self.asked_to_end(Some(app))
            }
            Phase::Starting { new, app: None } => self.asked_to_end(Some(new)),
            Phase::Closing { hook, app, code, .. } => {
                self.state.leaving.insert(hook, Leaving::new(Role::Hook));
                if let Some(app) = app {
                    self.state.leaving.insert(app, Leaving::new(Role::App));
                }
                self.kill_all(code)
            }
            Phase::Quitting { forced: false, code } => self.kill_all(code),
            Phase::Quitting { forced: true, .. } => self.exit(ABANDONED),
            Phase::Done => Phase::Done,
        }
    }

    fn asked_to_end(&mut self, app: Option<Proc>) -> Phase {
        self.say(Notice::Ending);
        self.close(app, 0)
    }

    fn close(&mut self, app: Option<Proc>, code: u8) -> Phase {
        self.hook(0, app, code)
    }

    fn hook(&mut self, index: usize, app: Option<Proc>, code: u8) -> Phase {
        if index >= self.state.policy.hooks {
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
        if self.state.leaving.is_empty() {
            return self.exit(code);
        }
        Phase::Quitting { forced: false, code }
    }

    fn kill_all(&mut self, code: u8) -> Phase {
        self.say(Notice::Forcing);
        let everyone: Vec<Proc> = self.state.leaving.keys().copied().collect();
        for proc in everyone {
            self.kill(proc);
        }
        Phase::Quitting { forced: true, code }
    }

    fn exit(&mut self, code: u8) -> Phase {
        self.effects.push(Effect::Exit(code));
        Phase::Done
    }

    // Helpers

    fn has_something_to_run(&self) -> bool {
        self.has_something_built() || self.state.source == Source::Kept
    }

    fn has_something_built(&self) -> bool {
        self.state.built || !self.state.policy.builds
    }

    fn number(&mut self) -> Proc {
        self.state.last_proc += 1;
        Proc(self.state.last_proc)
    }

    fn dismiss(&mut self, proc: Proc, role: Role) {
        self.dismiss_in_place(proc);
        self.state.leaving.insert(proc, Leaving::new(role));
        let draining = |leaving: &Leaving| leaving.role == Role::App && !leaving.killed;
        let mut draining = self.state.leaving.iter().filter(|(_, one)| draining(one));
        let oldest = draining.next().map(|(oldest, _)| *oldest);
        if draining.count() >= MOST_LEAVING
            && let Some(oldest) = oldest
        {
            self.say(Notice::TooManyLeave(oldest));
            self.kill(oldest);
        }
    }

    fn kill(&mut self, proc: Proc) {
        if let Some(leaving) = self.state.leaving.get_mut(&proc) {
            leaving.killed = true;
        }
        self.effects.push(Effect::Kill(proc));
    }

    /// Asks a process to exit, while the phase keeps track of it.
    fn dismiss_in_place(&mut self, proc: Proc) {
        self.effects.push(Effect::Dismiss(proc));
    }

    fn apps_leaving(&self) -> usize {
        self.state.leaving.values().filter(|one| one.role == Role::App).count()
    }

    /// Reports what changed. Returns false during shutdown, when nothing follows from it.
    fn tell_change(&mut self, phase: &Phase, cause: &Cause) -> bool {
        let ends = matches!(phase, Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Done);
        if !ends {
            self.changed(cause);
        }
        !ends
    }

    fn changed(&mut self, cause: &Cause) {
        self.say(Notice::Changed(cause.clone()));
    }

    fn say(&mut self, notice: Notice) {
        self.effects.push(Effect::Say(notice));
    }
}

/// Whether a build runs, or the program that it made has yet to start: follow-ups wait until then.
fn has_follow_ups(phase: &Phase) -> bool {
    matches!(phase, Phase::Building { .. } | Phase::Stopping | Phase::Starting { app: Some(_), .. })
}

/// The app that currently represents the program: the one that serves, else the one that starts.
fn current_app(phase: &Phase) -> Option<Proc> {
    match phase {
        Phase::Idle { app }
        | Phase::Waiting { app, .. }
        | Phase::Ruling { app, .. }
        | Phase::Building { app, .. }
        | Phase::Cancelling { app, .. }
        | Phase::Closing { app, .. } => *app,
        Phase::Starting { new, app } => app.or(Some(*new)),
        Phase::Stopping | Phase::Quitting { .. } | Phase::Done => None,
    }
}
