//! Every state of the terminal that can be reached, and every promise on every transition.
//!
//! A fake world keeps what really is: the processes, which of them read or are stopped, the group in
//! the foreground, and what was reported and has not arrived. A report may arrive late, so between
//! it and the event another process may exit, or a shell may take the terminal.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use nix::sys::signal::Signal;

use super::{Broken, expect, promise};
use crate::core::terminal::{
    AppStage, ExitBy, Foreground, Holder, Job, Keys, Owner, Place, Run, Seen, Setup, Stdin,
    Terminal, TtyEffect, TtyEvent, Waiting,
};
use crate::event::Proc;

mod faults;

/// What one exploration covers.
#[derive(Clone, Copy)]
struct Scope {
    run: Run,
    /// The configuration that a reload brings.
    other: Option<Run>,
    setup: Setup,
    /// At most this many apps live at once.
    apps: usize,
    /// Whether builds run, which may ask for input.
    builds: bool,
    /// Whether there is a shell with job control; otherwise Ctrl-Z stops nothing.
    shell: bool,
    /// Whether Ctrl-Z is typed, and a shell takes the terminal.
    stops: bool,
    /// Whether processes ignore the signals that stop them.
    deaf: bool,
    /// Whether the window may be closed.
    closes: bool,
    /// While this number of events has not arrived, nothing else happens in the world.
    late: usize,
}

const SETUP: Setup =
    Setup { is_on_stdin: true, can_read_keys: true, ignores_hangup: false, ignores_stop: false };

const PLAIN: Scope = Scope {
    run: AUTO,
    other: None,
    setup: SETUP,
    apps: 1,
    builds: false,
    shell: true,
    stops: false,
    deaf: false,
    closes: false,
    late: 4,
};

/// A report of a process that has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Report {
    Spawned,
    Wants,
    /// Stopped by Ctrl-Z.
    Suspended,
    Exited,
    ExitedByKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Living {
    is_app: bool,
    /// It takes the terminal at its start.
    takes: bool,
    has_pid: bool,
    pid_is_known: bool,
    dismissed: bool,
    is_stopped: bool,
    /// It waits in a read that began in the foreground.
    reads: bool,
    /// It was asked to stop reading since it got the terminal.
    asked: bool,
    has_exited: bool,
    exit_is_known: bool,
    reports: VecDeque<Report>,
}

impl Living {
    fn new(is_app: bool, takes: bool) -> Self {
        Self {
            is_app,
            takes,
            has_pid: false,
            pid_is_known: false,
            dismissed: false,
            is_stopped: false,
            reads: false,
            asked: false,
            has_exited: false,
            exit_is_known: false,
            reports: VecDeque::new(),
        }
    }

    fn lives(&self) -> bool {
        self.has_pid && !self.has_exited
    }

    /// Stops it. What was asked to exit is continued at once.
    fn stop(&mut self, report: Option<Report>) {
        if self.lives() && !self.is_stopped && !self.dismissed {
            self.is_stopped = true;
            self.reads = false;
            // More of the same add nothing.
            let is_news =
                self.reports.len() < 2 || !self.reports.iter().any(|one| Some(*one) == report);
            self.reports.extend(report.filter(|_| is_news));
        }
    }

    fn exit(&mut self, report: Report) {
        (self.has_exited, self.is_stopped, self.reads) = (true, false, false);
        self.reports.push_back(report);
    }
}

/// The group in the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Hotrun,
    Shell,
    Of(Proc),
    /// One that no longer exists.
    Gone,
}

/// What the device remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Given {
    No,
    Starting,
    To(Proc),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    run: Run,
    living: BTreeMap<Proc, Living>,
    foreground: Group,
    given: Given,
    /// The terminal is in the modes in which keys are read.
    marked: bool,
    /// Keys are read.
    keys: bool,
    polls: bool,
    /// The timer runs after which an app has begun.
    begins: bool,
    loans: BTreeSet<Proc>,
    announced: BTreeSet<Proc>,
    /// SIGTSTP has reached hotrun.
    suspends: bool,
    /// hotrun is about to stop.
    stops: bool,
    /// hotrun was continued.
    continues: bool,
    /// An app was stopped, or a build runs: an app is to follow.
    is_due: bool,
    is_closed: bool,
}

impl World {
    fn new(run: Run, foreground: Group) -> Self {
        Self {
            run,
            living: BTreeMap::new(),
            foreground,
            given: Given::No,
            marked: false,
            keys: false,
            polls: false,
            begins: false,
            loans: BTreeSet::new(),
            announced: BTreeSet::new(),
            suspends: false,
            stops: false,
            continues: false,
            is_due: true,
            is_closed: false,
        }
    }

    fn observed(&self) -> Foreground {
        match (self.foreground, self.given) {
            _ if self.is_closed => Foreground::Unknown,
            (Group::Hotrun, _) => Foreground::Hotrun,
            (_, Given::Starting) | (Group::Of(_) | Group::Gone, Given::To(_)) => Foreground::Given,
            (Group::Shell, Given::No | Given::To(_)) | (Group::Of(_) | Group::Gone, Given::No) => {
                Foreground::Stranger
            }
        }
    }

    fn seen(&self) -> Seen {
        let stage = |one: &Living| {
            if one.dismissed {
                AppStage::Leaving
            } else if one.exit_is_known {
                AppStage::Ended
            } else if one.pid_is_known {
                AppStage::Running
            } else {
                AppStage::Starting
            }
        };
        let apps = self.living.iter().filter(|(_, one)| one.is_app);
        Seen {
            foreground: self.observed(),
            run: self.run,
            apps: apps.map(|(proc, one)| (*proc, stage(one))).collect(),
            is_building: self.builds().any(|(_, one)| !one.dismissed && !one.exit_is_known),
        }
    }

    fn apps(&self) -> impl Iterator<Item = (&Proc, &Living)> {
        self.living.iter().filter(|(_, one)| one.is_app)
    }

    fn builds(&self) -> impl Iterator<Item = (&Proc, &Living)> {
        self.living.iter().filter(|(_, one)| !one.is_app)
    }

    fn is_staying_app(&self, proc: Proc) -> bool {
        self.living.get(&proc).is_some_and(|one| one.is_app && !one.dismissed && !one.exit_is_known)
    }

    fn next(&self) -> Proc {
        Proc(self.living.keys().last().map_or(1, |last| last.0 + 1))
    }

    /// How many events have not arrived.
    fn late(&self) -> usize {
        let reports: usize = self.living.values().map(|one| one.reports.len()).sum();
        let signals = [self.suspends, self.stops, self.continues].into_iter().filter(|is| *is);
        reports + self.loans.len() + self.announced.len() + signals.count()
    }

    /// Whether nothing is under way: no report, no timer, and no start.
    fn is_at_rest(&self, terminal: &Terminal) -> bool {
        let is_settled = |one: &Living| {
            one.reports.is_empty() && one.has_pid && one.has_exited == one.exit_is_known
        };
        let notices = terminal.is_elsewhere() && self.foreground == Group::Hotrun;
        self.living.values().all(is_settled)
            && self.loans.is_empty()
            && self.announced.is_empty()
            && !(self.begins || self.suspends || self.stops || self.continues || notices)
    }
}

/// What a process does, or what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It gets a pid, and an app that takes the terminal has it.
    GetsPid,
    /// A build continues with its next command.
    NextCommand,
    Reads,
    HasRead,
    Exits(Report),
    IsDismissed,
    IsGone,
}

/// Something that happens in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    AppStarts,
    BuildStarts,
    Does(Proc, Deed),
    NothingRuns,
    /// The next report of a process arrives.
    Arrives(Proc),
    Announced(Proc),
    LoanDue(Proc),
    Begun,
    Used,
    CtrlZ,
    Suspended,
    /// hotrun stops, and continues in the foreground or the background.
    Stops(Group),
    Continued,
    /// A shell takes the terminal while hotrun is stopped by SIGSTOP, and continues hotrun.
    IsTaken,
    /// A shell gives hotrun the terminal. It may send SIGCONT.
    IsGiven {
        tells: bool,
    },
    Closes,
    Reconfigured(Run),
}

fn acts(scope: &Scope, terminal: &Terminal, world: &World) -> Vec<Act> {
    let mut acts = vec![Act::Used];
    let is_running = !world.stops;
    let staying = world.apps().filter(|(_, one)| !one.dismissed && !one.has_exited).count();
    let is_starting = world.living.values().any(|one| !one.pid_is_known);
    if world.apps().count() < scope.apps && !is_starting && staying < 2 {
        acts.push(Act::AppStarts);
    }
    if scope.builds && world.builds().count() == 0 && !is_starting {
        acts.push(Act::BuildStarts);
    }
    if world.is_due && world.living.is_empty() {
        acts.push(Act::NothingRuns);
    }
    let may_happen = world.late() < scope.late;
    for (proc, one) in &world.living {
        acts_of(*proc, one, world, may_happen, &mut acts);
    }
    acts.extend(world.announced.iter().copied().map(Act::Announced));
    acts.extend(world.loans.iter().copied().map(Act::LoanDue));
    if world.begins {
        acts.push(Act::Begun);
    }
    if world.suspends {
        acts.push(Act::Suspended);
    }
    if world.continues {
        acts.push(Act::Continued);
    }
    let is_ours = world.foreground != Group::Shell;
    if scope.stops && is_running && is_ours && may_happen && !world.suspends && !world.continues {
        acts.push(Act::CtrlZ);
    }
    if world.stops {
        let places: &[Group] = if scope.shell && is_ours {
            &[Group::Hotrun, Group::Shell]
        } else {
            &[world.foreground]
        };
        acts.extend(places.iter().copied().map(Act::Stops));
    }
    if scope.stops && scope.shell && is_running && may_happen && !world.continues {
        if is_ours && terminal.job == Job::Running && !is_starting {
            acts.push(Act::IsTaken);
        }
        if !is_ours {
            acts.extend([Act::IsGiven { tells: true }, Act::IsGiven { tells: false }]);
        }
    }
    if let Some(other) = scope.other {
        let next = if world.run == other { scope.run } else { other };
        acts.push(Act::Reconfigured(next));
    }
    if scope.closes && !world.is_closed {
        acts.push(Act::Closes);
    }
    acts
}

fn acts_of(proc: Proc, one: &Living, world: &World, may_report: bool, acts: &mut Vec<Act>) {
    if !one.reports.is_empty() {
        acts.push(Act::Arrives(proc));
    }
    if one.exit_is_known {
        acts.push(Act::Does(proc, Deed::IsGone));
        return;
    }
    if one.has_exited {
        return;
    }
    if !one.dismissed {
        acts.push(Act::Does(proc, Deed::IsDismissed));
    }
    if one.reads {
        acts.push(Act::Does(proc, Deed::HasRead));
    }
    if !may_report {
        return;
    }
    acts.push(Act::Does(proc, Deed::Exits(Report::Exited)));
    if !one.has_pid {
        acts.push(Act::Does(proc, Deed::GetsPid));
        return;
    }
    let has_it = world.foreground == Group::Of(proc);
    if has_it && one.is_app {
        acts.push(Act::Does(proc, Deed::Exits(Report::ExitedByKey)));
    }
    let is_quiet = one.reports.is_empty() && !one.is_stopped;
    if is_quiet && !one.reads && (has_it || !one.dismissed) && !world.is_closed {
        acts.push(Act::Does(proc, Deed::Reads));
    }
    if is_quiet && !one.is_app && !one.dismissed {
        acts.push(Act::Does(proc, Deed::NextCommand));
    }
}

/// Lets it happen in the world. Returns the event that reaches the terminal.
fn happen(world: &mut World, scope: &Scope, terminal: &Terminal, act: Act) -> Option<TtyEvent> {
    match act {
        Act::AppStarts => {
            let app = world.next();
            let place = terminal.place(&world.seen());
            let takes = place == Place::Foreground;
            world.living.insert(app, Living::new(true, takes));
            let is_building = world.builds().any(|(_, one)| !one.exit_is_known);
            world.is_due = is_building;
            return Some(TtyEvent::AppStarts(app));
        }
        Act::BuildStarts => {
            world.living.insert(world.next(), Living::new(false, false));
            world.is_due = true;
            return Some(TtyEvent::BuildStarts);
        }
        Act::NothingRuns => {
            world.is_due = false;
            return Some(TtyEvent::NothingRuns);
        }
        Act::Arrives(proc) => return arrives(world, proc),
        Act::Announced(proc) => {
            world.announced.remove(&proc);
            return Some(TtyEvent::Announced(proc));
        }
        Act::LoanDue(proc) => {
            world.loans.remove(&proc);
            return Some(TtyEvent::LoanDue(proc));
        }
        Act::Begun => {
            world.begins = false;
            return Some(TtyEvent::HasBegun);
        }
        Act::Used => return Some(TtyEvent::Used),
        Act::Suspended => {
            world.suspends = false;
            return Some(TtyEvent::Suspended);
        }
        Act::Continued => {
            world.continues = false;
            return Some(TtyEvent::Continued);
        }
        Act::Does(proc, deed) => does(world, proc, deed),
        Act::CtrlZ => match world.foreground {
            Group::Of(proc) => {
                if let Some(one) = world.living.get_mut(&proc).filter(|_| !scope.deaf) {
                    one.stop(Some(Report::Suspended));
                }
            }
            Group::Hotrun => world.suspends = true,
            Group::Shell | Group::Gone => {}
        },
        Act::Stops(group) => {
            world.stops = false;
            world.continues = true;
            // The shell has set its own modes meanwhile.
            world.marked &= group == world.foreground;
            world.foreground = group;
        }
        Act::IsTaken => {
            world.foreground = Group::Shell;
            world.marked = false;
            world.continues = true;
        }
        Act::IsGiven { tells } => {
            world.foreground = Group::Hotrun;
            world.continues |= tells;
        }
        Act::Closes => world.is_closed = true,
        Act::Reconfigured(run) => world.run = run,
    }
    None
}

/// Lets a process do it in the world.
fn does(world: &mut World, proc: Proc, deed: Deed) {
    let has_it = world.foreground == Group::Of(proc);
    let Some(one) = world.living.get_mut(&proc) else { return };
    match deed {
        Deed::GetsPid => {
            one.has_pid = true;
            one.reports.push_back(Report::Spawned);
            if one.takes {
                world.foreground = Group::Of(proc);
            }
        }
        Deed::NextCommand => {
            (one.reads, one.asked) = (false, false);
            one.reports.push_back(Report::Spawned);
            if has_it {
                world.foreground = Group::Gone;
            }
        }
        Deed::Reads if has_it => one.reads = true,
        Deed::Reads => one.stop(Some(Report::Wants)),
        Deed::HasRead => one.reads = false,
        Deed::Exits(report) => {
            one.exit(report);
            if has_it {
                world.foreground = Group::Gone;
            }
        }
        Deed::IsDismissed => {
            (one.dismissed, one.is_stopped) = (true, false);
            let is_app = one.is_app;
            let has_other = world.living.keys().any(|other| world.is_staying_app(*other));
            world.is_due |= is_app && !has_other;
        }
        Deed::IsGone => {
            world.living.remove(&proc);
        }
    }
}

/// Returns the event of the next report of a process.
fn arrives(world: &mut World, proc: Proc) -> Option<TtyEvent> {
    let is_closed = world.is_closed;
    let has_other = world.living.keys().any(|one| *one != proc && world.is_staying_app(*one));
    let is_building = world.builds().any(|(_, one)| !one.dismissed && !one.exit_is_known);
    let is_last = world.is_staying_app(proc) && !has_other && !is_building;
    let one = world.living.get_mut(&proc)?;
    let is_build = !one.is_app;
    let stopped = |signal| TtyEvent::Stopped { proc, signal, is_build };
    let mut exited = |by| {
        one.exit_is_known = true;
        world.is_due &= !is_last;
        let by = if is_closed { ExitBy::Closed } else { by };
        TtyEvent::Exited { proc, by, modes_changed: false }
    };
    Some(match one.reports.pop_front()? {
        Report::Spawned => {
            one.pid_is_known = true;
            if one.takes && world.given == Given::Starting {
                world.given = Given::To(proc);
            }
            TtyEvent::Spawned(proc)
        }
        Report::Wants => stopped(Signal::SIGTTIN),
        Report::Suspended => stopped(Signal::SIGTSTP),
        Report::Exited => exited(ExitBy::Other),
        Report::ExitedByKey => exited(ExitBy::Typed),
    })
}

// What the terminal says, for the promises and the planted faults.

fn holder(terminal: &Terminal) -> Option<Holder> {
    match terminal.owner {
        Owner::Process(holder) => Some(holder),
        Owner::Absent | Owner::Hotrun(_) | Owner::Elsewhere => None,
    }
}

fn owner(terminal: &Terminal) -> Option<Proc> {
    holder(terminal).map(|holder| holder.proc)
}

/// All processes that it names.
fn named(terminal: &Terminal) -> impl Iterator<Item = Proc> {
    let waiting = terminal.waiting.map(|waiting| waiting.proc);
    let loan = holder(terminal).and_then(|holder| holder.loan);
    [owner(terminal), loan, waiting, terminal.heir].into_iter().flatten()
}

/// One step: the state before it, and the event.
#[derive(Clone, Copy)]
struct Before<'a> {
    scope: &'a Scope,
    terminal: &'a Terminal,
    event: TtyEvent,
}

/// Performs the effects in the world, and checks each against the promises.
fn perform(world: &mut World, before: Before, effects: &[TtyEffect]) -> Broken {
    // What is observed once counts for the whole step.
    let is_strangers = world.observed() == Foreground::Stranger;
    for effect in effects {
        match *effect {
            TtyEffect::ReadKeys => {
                let is_hotruns = world.is_closed || world.foreground == Group::Hotrun;
                promise(is_hotruns, "keys are read while another has the terminal")?;
                (world.marked, world.keys) = (true, true);
            }
            TtyEffect::ShowShellModes => {
                promise(!is_strangers, "the modes of another's terminal are changed")?;
                world.marked = false;
            }
            TtyEffect::StopKeys => {
                (world.keys, world.polls, world.begins) = (false, false, false);
            }
            TtyEffect::AwaitBegin => world.begins = true,
            TtyEffect::LetTake => {
                promise(!is_strangers, "the terminal is taken from another")?;
                (world.marked, world.given) = (false, Given::Starting);
            }
            TtyEffect::HandOver(proc) => {
                promise(!is_strangers, "the terminal is taken from another")?;
                may_be_given(world, before, proc)?;
                world.marked = false;
                let has_group =
                    |one: &&mut Living| one.lives() && !one.reports.contains(&Report::Spawned);
                // The group of a command that has exited cannot get it.
                if let Some(one) = world.living.get_mut(&proc).filter(has_group) {
                    one.asked = false;
                    (world.foreground, world.given) = (Group::Of(proc), Given::To(proc));
                }
            }
            TtyEffect::TakeBack => {
                promise(!is_strangers, "the terminal is taken from another")?;
                (world.foreground, world.given) = (Group::Hotrun, Given::No);
                world.marked = false;
            }
            TtyEffect::KeepModes => {
                let is_hotruns = world.foreground == Group::Hotrun;
                promise(is_hotruns, "the modes of another's terminal are kept")?;
            }
            TtyEffect::Mend => world.marked = false,
            TtyEffect::Poll => world.polls = true,
            TtyEffect::AwaitLoan(proc) => {
                world.loans.insert(proc);
            }
            TtyEffect::Announce(proc) => {
                world.announced.insert(proc);
            }
            TtyEffect::Pass(proc, signal) => {
                promise(signal == Signal::SIGTTIN, "a signal that asks for nothing")?;
                if let Some(one) = world.living.get_mut(&proc).filter(|one| one.lives()) {
                    one.asked = true;
                    if !before.scope.deaf {
                        one.stop(Some(Report::Wants));
                    }
                }
            }
            TtyEffect::Resume(proc) => resume(world, proc),
            TtyEffect::ResumeAll => {
                world.living.values_mut().for_each(|one| one.is_stopped = false);
            }
            TtyEffect::StopJob => world.suspends = true,
            TtyEffect::StopAll => {
                world.stops = true;
                if !before.scope.deaf {
                    // That a process has stopped then is not reported.
                    world.living.values_mut().for_each(|one| one.stop(None));
                }
            }
            TtyEffect::Interrupt => {
                let is_asked = matches!(
                    before.event,
                    TtyEvent::Exited { proc, by: ExitBy::Typed | ExitBy::Closed, .. }
                        if owner(before.terminal) == Some(proc)
                );
                promise(is_asked, "hotrun exits though no user has asked")?;
            }
            TtyEffect::Watch
            | TtyEffect::ResetScreen { .. }
            | TtyEffect::ReleaseLines
            | TtyEffect::EraseLine
            | TtyEffect::ShowOutput(_)
            | TtyEffect::SayGiven(_)
            | TtyEffect::SayWanted(_)
            | TtyEffect::SayKept(_)
            | TtyEffect::SayStopped(_) => {}
        }
    }
    Ok(())
}

fn resume(world: &mut World, proc: Proc) {
    if let Some(one) = world.living.get_mut(&proc) {
        one.is_stopped = false;
    }
}

/// The promises on a process that gets the terminal.
fn may_be_given(world: &World, before: Before, next: Proc) -> Broken {
    let is_known_to_live =
        world.living.get(&next).is_some_and(|one| one.pid_is_known && !one.exit_is_known);
    promise(is_known_to_live, "a process that has exited gets the terminal")?;
    let Some(last) = owner(before.terminal).filter(|last| *last != next) else { return Ok(()) };
    let are_apps = world.is_staying_app(last) && world.living[&next].is_app;
    promise(!are_apps, "an app that stays loses the terminal to another app")?;
    let is_asked = world.living.get(&last).is_none_or(|one| !one.reads || one.asked);
    promise(is_asked, "a process that reads loses the terminal without being asked")
}

/// What must hold after each step.
fn consistent(terminal: &Terminal, world: &World, before: Before, did: &[TtyEffect]) -> Broken {
    for proc in named(terminal) {
        let is_there = world.living.get(&proc).is_some_and(|one| !one.exit_is_known);
        promise(is_there, "a process that has exited keeps the terminal, or waits for it")?;
    }
    let gives = |effect: &TtyEffect| {
        matches!(effect, TtyEffect::HandOver(_) | TtyEffect::ReadKeys | TtyEffect::Resume(_))
    };
    let is_stopping = terminal.job != Job::Running;
    promise(!(is_stopping && did.iter().any(gives)), "the terminal is given while the job stops")?;
    promise(terminal.reads_keys() == world.keys, "keys are read, and it is not known")?;
    let is_deferred = terminal.owner == Owner::Hotrun(Keys::Deferred);
    promise(!is_deferred || world.begins, "nothing ends the time of an app that has begun")?;
    let is_right =
        is_deferred || world.foreground == Group::Shell || world.marked == terminal.reads_keys();
    promise(is_right, "the modes are not as they are to be")?;
    promise(
        !terminal.is_elsewhere() || world.polls || is_stopping,
        "nothing notices that hotrun is in front",
    )?;
    if let (Some(last), Some(next)) = (owner(before.terminal), owner(terminal)) {
        let are_apps = last != next && world.is_staying_app(last) && world.is_staying_app(next);
        promise(!are_apps, "an app that stays loses the terminal to another app")?;
    }
    if let TtyEvent::Exited { proc, .. } = before.event
        && world.living.get(&proc).is_some_and(|one| one.is_app && one.dismissed)
    {
        let is_for_app = world.is_due && !world.run.is_copied;
        let reads = is_for_app && !before.terminal.reads_keys() && terminal.reads_keys();
        promise(!reads, "what is typed between two apps is read as keys")?;
    }
    Ok(())
}

/// What must hold when nothing is under way.
fn at_rest(scope: &Scope, terminal: &Terminal, world: &World) -> Broken {
    let stopped = |(proc, one): (&Proc, &Living)| one.is_stopped.then_some(*proc);
    let mut stopped = world.living.iter().filter_map(stopped);
    promise(terminal.job == Job::Running, "the job stays stopped")?;
    match terminal.owner {
        Owner::Absent => promise(false, "the terminal is absent"),
        Owner::Hotrun(keys) => {
            promise(stopped.next().is_none(), "a process waits for a terminal that is free")?;
            let is_hotruns = world.is_closed || world.foreground == Group::Hotrun;
            promise(is_hotruns, "hotrun takes the terminal for its own")?;
            let is_idle = world.living.is_empty() && !world.is_due;
            let reads = !is_idle || keys == Keys::Reading || !scope.setup.can_read_keys;
            promise(reads, "nothing runs, and no key is read")
        }
        Owner::Process(holder) => {
            let has_it = world.is_closed || world.foreground == Group::Of(holder.proc);
            promise(has_it, "the owner does not have the terminal")?;
            for proc in stopped {
                promise(proc != holder.proc, "the owner stays stopped")?;
                // An app waits until the owner exits.
                let waits = world.living[&proc].is_app;
                promise(waits, "a build waits for an owner that is to lend the terminal")?;
            }
            Ok(())
        }
        Owner::Elsewhere => {
            let is_elsewhere = !matches!(world.foreground, Group::Hotrun | Group::Of(_));
            promise(is_elsewhere, "hotrun takes the terminal for another's")
        }
    }
}

/// When hotrun exits now, the terminal is as it was found.
fn leaves(scope: &Scope, terminal: &Terminal, world: &World, step: Step) -> Broken {
    let mut world = world.clone();
    let (after, effects) = step(*terminal, TtyEvent::Left, &world.seen());
    let before = Before { scope, terminal, event: TtyEvent::Left };
    perform(&mut world, before, &effects)?;
    let is_free = world.is_closed
        || holder(terminal).is_some_and(|holder| holder.is_starting)
        || match world.foreground {
            Group::Hotrun => !world.marked,
            Group::Shell => true,
            Group::Of(_) | Group::Gone => after.is_elsewhere(),
        };
    promise(is_free && !world.keys, "hotrun exits and keeps the terminal")
}

/// Late events about a process that is gone.
fn late_events_change_nothing(terminal: &Terminal, world: &World, step: Step) -> Broken {
    let proc = Proc(0);
    let mut seen = world.seen();
    seen.foreground = Foreground::Unknown;
    let events = [
        TtyEvent::Spawned(proc),
        TtyEvent::LoanDue(proc),
        TtyEvent::Announced(proc),
        TtyEvent::Stopped { proc, signal: Signal::SIGTSTP, is_build: false },
        TtyEvent::Exited { proc, by: ExitBy::Typed, modes_changed: true },
    ];
    for event in events {
        let (after, effects) = step(*terminal, event, &seen);
        let is_same = after == *terminal && effects.is_empty();
        expect(is_same, || format!("a late event changes something: {event:?}: {effects:?}"))?;
    }
    Ok(())
}

/// The same pair with the processes numbered from 1 in order of age.
fn canonical((mut terminal, mut world): State) -> State {
    let procs: Vec<Proc> = world.living.keys().copied().collect();
    let rank = |proc: Proc| {
        let place = procs.binary_search(&proc).expect("it is in the state");
        Proc(u32::try_from(place + 1).expect("a handful"))
    };
    if let Owner::Process(holder) = &mut terminal.owner {
        holder.proc = rank(holder.proc);
        holder.loan = holder.loan.map(rank);
    }
    terminal.waiting = terminal.waiting.map(|one| Waiting { proc: rank(one.proc), ..one });
    terminal.heir = terminal.heir.map(rank);
    world.living = world.living.into_iter().map(|(proc, one)| (rank(proc), one)).collect();
    // A timer that names a process that is gone changes nothing: that is tried in every state.
    let of = |proc: Proc| procs.contains(&proc).then(|| rank(proc));
    world.loans = world.loans.into_iter().filter_map(of).collect();
    world.announced = world.announced.into_iter().filter_map(of).collect();
    if let Group::Of(proc) = world.foreground {
        world.foreground = of(proc).map_or(Group::Gone, Group::Of);
    }
    // The device keeps the number of a group, whether or not it still exists.
    if let Given::To(proc) = world.given {
        world.given = Given::To(of(proc).unwrap_or(Proc(0)));
    }
    (terminal, world)
}

type State = (Terminal, World);

/// The machine under test: the real one, or one with a fault planted.
type Step = fn(Terminal, TtyEvent, &Seen) -> (Terminal, Vec<TtyEffect>);

/// One event, checked against every promise.
fn transition(step: Step, scope: &Scope, state: State, event: TtyEvent) -> Result<State, String> {
    let (terminal, mut world) = state;
    let mut around = world.seen();
    if event == TtyEvent::Used {
        around.foreground = Foreground::Unknown;
    }
    if let TtyEvent::Exited { proc, .. } = event {
        // The core hears of the exit after the terminal.
        around.is_building |= world.builds().any(|(one, build)| *one == proc && !build.dismissed);
    }
    let (after, effects) = step(terminal, event, &around);
    let before = Before { scope, terminal: &terminal, event };
    let checked = perform(&mut world, before, &effects)
        .and_then(|()| consistent(&after, &world, before, &effects));
    checked.map_err(|why| {
        format!(
            "{why}\n  from {terminal:?}\n  event {event:?}\n  to {after:?}\n  did {effects:?}\n  \
             in {world:?}"
        )
    })?;
    Ok((after, world))
}

/// What an act leads to. Before any event, the engine notices that hotrun is in the foreground.
fn acted(step: Step, scope: &Scope, state: &State, act: Act) -> Result<State, String> {
    let mut next = state.clone();
    let Some(event) = happen(&mut next.1, scope, &state.0, act) else { return Ok(next) };
    if state.0.is_elsewhere() && state.1.observed() == Foreground::Hotrun {
        next = transition(step, scope, state.clone(), TtyEvent::Continued)?;
        let terminal = next.0;
        happen(&mut next.1, scope, &terminal, act);
    }
    transition(step, scope, next, event)
}

/// Checks a state, and returns what each act leads to.
fn visited(step: Step, scope: &Scope, state: &State) -> Result<Vec<(Act, State)>, String> {
    let (terminal, world) = state;
    let mut checked = leaves(scope, terminal, world, step)
        .and_then(|()| late_events_change_nothing(terminal, world, step));
    if world.is_at_rest(terminal) {
        checked = checked.and_then(|()| at_rest(scope, terminal, world));
    }
    checked.map_err(|why| format!("{why}\n  in {state:?}"))?;
    let next = |act| {
        let next = acted(step, scope, state, act).map_err(|why| format!("{why}\n  act {act:?}"))?;
        Ok((act, canonical(next)))
    };
    acts(scope, terminal, world).into_iter().map(next).collect()
}

struct Explored {
    states: usize,
    transitions: usize,
}

fn explore(step: Step, scope: &Scope) -> Result<Explored, String> {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::new();
    // How each state was reached, by its number.
    let mut reached: Vec<(usize, Option<Act>)> = Vec::new();
    for (group, foreground) in
        [(Group::Hotrun, Foreground::Hotrun), (Group::Shell, Foreground::Stranger)]
    {
        if group == Group::Shell && !(scope.shell && scope.stops) {
            continue;
        }
        let first = (Terminal::new(scope.setup, foreground), World::new(scope.run, group));
        let first = transition(step, scope, first, TtyEvent::Begun)?;
        seen.insert(first.clone());
        queue.push_back((reached.len(), first));
        reached.push((reached.len(), None));
    }
    let mut transitions = 0;
    while let Some((number, state)) = queue.pop_front() {
        let nexts = visited(step, scope, &state)
            .map_err(|why| format!("{why}\n  reached by {}", path(&reached, number)))?;
        transitions += nexts.len();
        for (act, next) in nexts {
            if seen.insert(next.clone()) {
                queue.push_back((reached.len(), next));
                reached.push((number, Some(act)));
            }
        }
    }
    Ok(Explored { states: seen.len(), transitions })
}

/// The acts that lead to a state, from the start.
fn path(reached: &[(usize, Option<Act>)], mut number: usize) -> String {
    let mut acts = Vec::new();
    while let (before, Some(act)) = &reached[number] {
        acts.push(format!("{act:?}"));
        number = *before;
    }
    acts.reverse();
    acts.join(", ")
}

const AUTO: Run = Run { stdin: Stdin::Auto, is_copied: false };
const APP: Run = Run { stdin: Stdin::App, is_copied: false };
const PTY: Run = Run { stdin: Stdin::Auto, is_copied: true };
/// Of a hotrun whose stdin is not the terminal.
const OFF_STDIN: Setup = Setup { is_on_stdin: false, can_read_keys: false, ..SETUP };

fn every_promise_holds(name: &str, scope: &Scope) {
    let Explored { states, transitions } =
        explore(Terminal::step, scope).unwrap_or_else(|why| panic!("{name}: {why}"));
    println!("{name}: {states} states, {transitions} transitions");
    assert!(states > 50, "{name}: the exploration did not get anywhere");
}

explored! {
    one_app: PLAIN;
    one_app_with_job_control: Scope { stops: true, ..PLAIN };
    one_app_without_a_shell: Scope { stops: true, shell: false, ..PLAIN };
    one_app_that_has_stdin: Scope { stops: true, run: APP, ..PLAIN };
    one_app_that_ignores_signals: Scope { stops: true, deaf: true, ..PLAIN };
    one_app_and_another_configuration: Scope { stops: true, other: Some(APP), ..PLAIN };
    one_app_off_stdin: Scope { stops: true, run: APP, setup: OFF_STDIN, ..PLAIN };
    a_build: Scope { builds: true, ..PLAIN };
    a_build_with_job_control: Scope { builds: true, stops: true, late: 2, ..PLAIN };
    a_build_and_another_configuration: Scope { builds: true, other: Some(PTY), ..PLAIN };
    a_build_and_an_app_that_has_stdin: Scope { builds: true, run: APP, ..PLAIN };
    a_build_and_an_app_that_ignores_signals: Scope { builds: true, deaf: true, ..PLAIN };
    a_build_in_a_window_that_closes: Scope { builds: true, closes: true, ..PLAIN };
    handover: Scope { apps: 2, ..PLAIN };
    handover_with_job_control: Scope { apps: 2, stops: true, late: 2, ..PLAIN };
    handover_of_apps_that_have_stdin: Scope { apps: 2, stops: true, run: APP, late: 1, ..PLAIN };
    handover_off_stdin: Scope { apps: 2, run: APP, setup: OFF_STDIN, ..PLAIN };
    handover_and_a_build: Scope { apps: 2, builds: true, late: 1, ..PLAIN };
}
