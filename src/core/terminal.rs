//! Which process owns the terminal: decides what follows from each event. [`Terminal::step`] takes
//! one event and returns the next state and the effects that lead there.
//!
//! While hotrun owns the terminal, it reads single keys. A process that reads in the background is
//! stopped by the kernel, which is how it asks for the terminal: it becomes the owner and continues.
//! The app's successors start as the owner. A build that asks while an app owns the terminal borrows
//! it, and the app gets it back.
//!
//! What the engine sees of the device and of the processes comes with each event as [`Seen`]. It is
//! not kept here, where it would be a copy that ages.
//!
//! Invariants, checked on every reachable transition by the exploration (`explore/terminal.rs`):
//!
//! - hotrun takes the terminal from no process that it did not give it to. So in the background it
//!   neither reads keys nor changes the modes.
//! - A process that has exited never keeps the terminal, and waits for it no longer.
//! - An app that is not being stopped never loses the terminal to a newer app.
//! - No process that reads loses the terminal before it was asked to stop reading.
//! - While hotrun's job is stopped, no process gets the terminal, and no key is read.
//! - A stopped process that wants the terminal does not stay stopped while hotrun has it.
//! - Between an app that had the terminal and its successor, no key is read. When no successor can
//!   come, keys are read.
//! - When hotrun exits, no process that it started has the terminal, and its modes are the shell's.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::event::{Proc, signal_name};

/// Which process group is in the foreground of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Foreground {
    /// hotrun's own.
    Hotrun,
    /// That of the process that hotrun gave the terminal to, or of one that the process started.
    /// Also a group that no longer exists.
    Given,
    /// The shell's, or another that hotrun did not give the terminal to.
    Stranger,
    /// The terminal has none: its window was closed. Or the event does not depend on it.
    Unknown,
}

/// The configuration of an app's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Stdin {
    /// The app owns the terminal as soon as it wants to read.
    Auto,
    /// The app owns the terminal from its start.
    App,
    /// The app has no input.
    Null,
}

/// How apps are connected to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) stdin: Stdin,
    /// Whether an app has a terminal of its own, which hotrun copies.
    pub(crate) is_copied: bool,
}

/// How far an app has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum AppStage {
    /// It has no pid.
    Starting,
    Running,
    /// It was asked to stop; it may have exited since.
    Leaving,
    /// It has exited by itself.
    Ended,
}

/// What the engine sees at the time of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) foreground: Foreground,
    pub(crate) run: Run,
    /// The apps that are not gone.
    pub(crate) apps: BTreeMap<Proc, AppStage>,
    /// Whether a build is running that was not cancelled.
    pub(crate) is_building: bool,
}

impl Seen {
    fn is_app(&self, proc: Proc) -> bool {
        self.apps.contains_key(&proc)
    }

    /// Whether this is an app that was not asked to stop.
    fn is_staying(&self, proc: Proc) -> bool {
        match self.apps.get(&proc) {
            Some(AppStage::Starting | AppStage::Running | AppStage::Ended) => true,
            Some(AppStage::Leaving) | None => false,
        }
    }

    /// The oldest app that runs and was not asked to stop.
    fn oldest_app(&self) -> Option<Proc> {
        let runs = |(_, stage): &(&Proc, &AppStage)| **stage == AppStage::Running;
        self.apps.iter().find(runs).map(|(proc, _)| *proc)
    }

    /// Whether the exit of this app leaves nothing that runs, or that an app may follow.
    fn is_last(&self, app: Proc) -> bool {
        let comes = |stage: &AppStage| matches!(stage, AppStage::Starting | AppStage::Running);
        self.is_staying(app) && !self.is_building && !self.apps.values().any(comes)
    }
}

/// Why an exit may be a request to hotrun to exit too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum ExitBy {
    /// The process was ended by a key such as Ctrl-C.
    Typed,
    /// The terminal's window was closed.
    Closed,
    Other,
}

/// What happens to the terminal and to the processes that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum TtyEvent {
    /// hotrun has started.
    Begun,
    /// A build starts. An app may follow it.
    BuildStarts,
    /// An app starts at the place that [`Terminal::place`] has returned.
    AppStarts(Proc),
    /// A process has a pid. A build has another pid for each of its commands.
    Spawned(Proc),
    /// The app that has started is ready, or has had its time to read the modes.
    HasBegun,
    /// A process was stopped by this signal and cannot continue by itself.
    Stopped {
        proc: Proc,
        #[serde(with = "signal_name")]
        signal: Signal,
        is_build: bool,
    },
    /// This process was not given its terminal in time: the owner has not stopped reading.
    LoanDue(Proc),
    /// The line that reports that this process has the terminal is written.
    Announced(Proc),
    Exited {
        proc: Proc,
        by: ExitBy,
        /// Whether it has left the terminal in modes that suggest an abnormal exit.
        modes_changed: bool,
    },
    /// Nothing runs that could read other input than keys.
    NothingRuns,
    /// A process may have used the terminal, and changed its modes.
    Used,
    /// Ctrl-Z was typed: hotrun's job is to stop.
    Suspended,
    /// hotrun's job continues, or was moved to the foreground or the background.
    Continued,
    /// hotrun exits.
    Left,
}

/// An action that the engine performs, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TtyEffect {
    /// Set the modes in which single keys are read, and read them.
    ReadKeys,
    /// Set the modes in which hotrun found the terminal.
    ShowShellModes,
    /// Stop reading keys, polling, and watching how the terminal is used.
    StopKeys,
    /// Report when an app that has just started has had its time to read the modes.
    AwaitBegin,
    /// Set the shell's modes; an app that starts now takes the terminal.
    LetTake,
    /// Set the shell's modes, and make the process's group the foreground.
    HandOver(Proc),
    /// Make hotrun's group the foreground, and set the shell's modes.
    TakeBack,
    /// Keep the modes that the terminal has now as those of the shell.
    KeepModes,
    /// Replace the modes in which keys are read, if a process has restored them.
    Mend,
    /// Reset what an app has set on the screen; all of it after an abnormal exit.
    ResetScreen { fully: bool },
    /// Write the lines that were held back while an app used the full screen.
    ReleaseLines,
    /// Remove the unfinished line, before hotrun stops.
    EraseLine,
    /// Report uses of the terminal from now on.
    Watch,
    /// Poll until hotrun is in the foreground. The system does not report that.
    Poll,
    /// Report when the owner has had its time to stop reading for this process.
    AwaitLoan(Proc),
    /// Report when the line that says that this process has the terminal is written.
    Announce(Proc),
    /// Send a signal to the process's group.
    Pass(Proc, Signal),
    /// Continue a stopped process.
    Resume(Proc),
    /// Continue all processes.
    ResumeAll,
    /// Send SIGTSTP to hotrun's own process group.
    StopJob,
    /// Stop all processes, and then hotrun.
    StopAll,
    /// Print the output of a build that is withheld.
    ShowOutput(Proc),
    /// Report that the process has the terminal.
    SayGiven(Proc),
    /// Report that the process wants the terminal, and hotrun is in the background.
    SayWanted(Proc),
    /// Report that the process waits until the app that has the terminal exits.
    SayKept(Proc),
    /// Report that the process was stopped by a signal that no terminal sends.
    SayStopped(Proc),
    /// Have hotrun exit.
    Interrupt,
}

/// How a command is connected to the terminal at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Its input is empty.
    OutputOnly,
    /// In the background: it is stopped when it reads.
    Background,
    /// In the foreground.
    Foreground,
    /// A terminal of its own.
    Copied,
}

/// What does not change while hotrun runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Whether the terminal is hotrun's stdin.
    pub(crate) is_on_stdin: bool,
    /// Whether keys can be read: a user sees the output, and the terminal is on stdin.
    pub(crate) can_read_keys: bool,
    /// Whether hotrun ignores SIGHUP, as `nohup` makes it do.
    pub(crate) ignores_hangup: bool,
    /// Whether hotrun ignores SIGTSTP, so that its job never stops.
    pub(crate) ignores_stop: bool,
}

/// Whether hotrun reads keys from the terminal that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Keys {
    /// What is typed is left for the next process that reads.
    Off,
    Reading,
    /// An app that starts may save the modes, so it finds those of the shell. Input that is typed
    /// meanwhile is read later.
    Deferred,
}

/// A process that owns the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) proc: Proc,
    /// Whether it has no pid: it takes the terminal itself at its start.
    pub(super) is_starting: bool,
    /// The process that gets the terminal as soon as this one has stopped reading.
    pub(super) loan: Option<Proc>,
}

/// The owner of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Owner {
    /// hotrun was started without a terminal.
    Absent,
    Hotrun(Keys),
    Process(Holder),
    /// The shell, or another process: hotrun is in the background.
    Elsewhere,
}

/// A process that gets the terminal when hotrun's job has it and continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) proc: Proc,
    /// Whether it had the terminal before, so that getting it is no news.
    pub(super) had_it: bool,
}

/// What has become of hotrun's job, in the shell's sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Job {
    Running,
    /// Ctrl-Z has stopped the owner, and SIGTSTP was sent to the job.
    Asked,
    /// All processes were stopped, and hotrun stops.
    Stopping,
}

/// The terminal, and the processes that own it or wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Terminal {
    setup: Setup,
    pub(super) owner: Owner,
    pub(super) waiting: Option<Waiting>,
    /// The app that gets the terminal when it has a pid: its stdin is not a terminal that it could
    /// take by itself.
    pub(super) heir: Option<Proc>,
    /// Whether an app has wanted the terminal; its successors start as its owner.
    pub(super) is_for_apps: bool,
    /// Whether no app runs, and none follows before a save.
    pub(super) is_idle: bool,
    pub(super) job: Job,
}

impl Terminal {
    /// Returns the state at the start, in which hotrun has read no key.
    pub(crate) fn new(setup: Setup, foreground: Foreground) -> Self {
        let owner = match foreground {
            Foreground::Hotrun => Owner::Hotrun(Keys::Off),
            Foreground::Given | Foreground::Stranger | Foreground::Unknown => Owner::Elsewhere,
        };
        Self {
            setup,
            owner,
            waiting: None,
            heir: None,
            is_for_apps: false,
            is_idle: false,
            job: Job::Running,
        }
    }

    /// Returns the state where hotrun was started without a terminal.
    pub(crate) fn absent() -> Self {
        let setup = Setup {
            is_on_stdin: false,
            can_read_keys: false,
            ignores_hangup: false,
            ignores_stop: false,
        };
        Self { owner: Owner::Absent, ..Self::new(setup, Foreground::Unknown) }
    }

    /// Whether hotrun was started without a terminal.
    pub(crate) fn is_absent(&self) -> bool {
        self.owner == Owner::Absent
    }

    /// Whether a process that hotrun started owns it.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.owner, Owner::Process(_))
    }

    /// Whether hotrun is in the background.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.owner == Owner::Elsewhere
    }

    /// Whether what is typed is read as keys.
    pub(crate) fn reads_keys(&self) -> bool {
        matches!(self.owner, Owner::Hotrun(Keys::Reading | Keys::Deferred))
    }

    /// Whether keys have an effect: hotrun owns the terminal, and no app wants it.
    pub(crate) fn has_keys(&self, run: Run) -> bool {
        matches!(self.owner, Owner::Hotrun(_)) && !self.is_for_app(run)
    }

    /// Whether a process owns it, or waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_given() || self.waiting.is_some()
    }

    /// How the app that starts now is connected to it.
    pub(crate) fn place(&self, seen: &Seen) -> Place {
        let run = seen.run;
        match run.stdin {
            _ if run.is_copied => Place::Copied,
            Stdin::Null => Place::OutputOnly,
            Stdin::Auto | Stdin::App if self.setup.is_on_stdin && self.begins_with_it(seen) => {
                Place::Foreground
            }
            Stdin::Auto if !self.setup.is_on_stdin => Place::OutputOnly,
            Stdin::Auto | Stdin::App => Place::Background,
        }
    }

    /// Returns the next state, and the effects that lead there.
    #[must_use]
    pub(crate) fn step(self, event: TtyEvent, seen: &Seen) -> (Terminal, Vec<TtyEffect>) {
        let mut turn = Turn { terminal: self, seen, effects: Vec::new() };
        if self.is_absent() {
            turn.take_without_terminal(event);
        } else {
            turn.take(event);
        }
        (turn.terminal, turn.effects)
    }

    /// Whether input is kept for the next app.
    fn is_for_app(&self, run: Run) -> bool {
        (self.is_for_apps || run.stdin == Stdin::App) && !run.is_copied && !self.is_idle
    }

    /// Whether the app that starts now owns the terminal from its start.
    fn begins_with_it(&self, seen: &Seen) -> bool {
        let is_free = match (self.owner, seen.foreground) {
            (Owner::Hotrun(_), Foreground::Hotrun | Foreground::Unknown) => {
                self.waiting.is_none() && self.job == Job::Running
            }
            (Owner::Hotrun(_), Foreground::Given | Foreground::Stranger)
            | (Owner::Absent | Owner::Process(_) | Owner::Elsewhere, _) => false,
        };
        is_free && (self.is_for_apps || seen.run.stdin == Stdin::App)
    }
}

/// A step in progress.
struct Turn<'a> {
    terminal: Terminal,
    seen: &'a Seen,
    effects: Vec<TtyEffect>,
}

impl Turn<'_> {
    /// Ctrl-Z is a matter of the job, with or without a terminal: SIGTSTP is a signal.
    fn take_without_terminal(&mut self, event: TtyEvent) {
        match event {
            TtyEvent::Suspended => self.suspend(),
            TtyEvent::Continued => {
                self.terminal.job = Job::Running;
                self.perform(TtyEffect::ResumeAll);
            }
            TtyEvent::Stopped { proc, signal, is_build } => match signal {
                Signal::SIGTTIN | Signal::SIGTTOU => self.perform(TtyEffect::ShowOutput(proc)),
                Signal::SIGSTOP if is_build => self.perform(TtyEffect::SayStopped(proc)),
                _ => {}
            },
            TtyEvent::Used => self.perform(TtyEffect::ReleaseLines),
            TtyEvent::Begun
            | TtyEvent::BuildStarts
            | TtyEvent::AppStarts(_)
            | TtyEvent::Spawned(_)
            | TtyEvent::HasBegun
            | TtyEvent::LoanDue(_)
            | TtyEvent::Announced(_)
            | TtyEvent::Exited { .. }
            | TtyEvent::NothingRuns
            | TtyEvent::Left => {}
        }
    }

    fn take(&mut self, event: TtyEvent) {
        self.notice_loss_of_keys();
        match event {
            TtyEvent::Begun => {
                if self.terminal.is_elsewhere() {
                    self.perform(TtyEffect::Poll);
                } else if !self.is_for_app() {
                    self.read_keys();
                }
            }
            TtyEvent::BuildStarts => self.keep_what_is_typed(),
            TtyEvent::AppStarts(app) => self.app_starts(app),
            TtyEvent::Spawned(proc) => self.spawned(proc),
            TtyEvent::HasBegun => {
                if self.terminal.owner == Owner::Hotrun(Keys::Deferred) {
                    self.read_keys();
                }
            }
            TtyEvent::Stopped { proc, signal, is_build } => self.stopped(proc, signal, is_build),
            TtyEvent::LoanDue(borrower) => self.loan_is_due(borrower),
            TtyEvent::Announced(proc) => {
                let owns_it = self.holder().is_some_and(|holder| holder.proc == proc);
                if owns_it && self.terminal.job == Job::Running {
                    self.perform(TtyEffect::Resume(proc));
                }
            }
            TtyEvent::Exited { proc, by, modes_changed } => {
                self.exited(proc, by, modes_changed);
            }
            TtyEvent::NothingRuns => {
                self.terminal.is_idle = true;
                self.read_keys();
            }
            TtyEvent::Used => {
                self.perform(TtyEffect::ReleaseLines);
                if self.terminal.is_given() {
                    self.perform(TtyEffect::Mend);
                }
            }
            TtyEvent::Suspended => self.suspend(),
            TtyEvent::Continued => self.continued(),
            TtyEvent::Left => self.leave(),
        }
    }

    fn perform(&mut self, effect: TtyEffect) {
        self.effects.push(effect);
    }

    fn is_for_app(&self) -> bool {
        self.terminal.is_for_app(self.seen.run)
    }

    fn holder(&self) -> Option<Holder> {
        match self.terminal.owner {
            Owner::Process(holder) => Some(holder),
            Owner::Absent | Owner::Hotrun(_) | Owner::Elsewhere => None,
        }
    }

    // Observations

    /// Stops reading keys if another process group is in the foreground: its input is not for
    /// hotrun.
    fn notice_loss_of_keys(&mut self) {
        let is_lost = matches!(self.seen.foreground, Foreground::Stranger | Foreground::Given);
        if is_lost && matches!(self.terminal.owner, Owner::Hotrun(_)) {
            self.terminal.owner = Owner::Elsewhere;
            self.perform(TtyEffect::StopKeys);
            self.perform(TtyEffect::Poll);
        }
    }

    /// Updates the owner. A shell may have taken the terminal, or given it to hotrun, without an
    /// event. Returns the process that has lost it.
    fn look(&mut self) -> Option<Proc> {
        match (self.terminal.owner, self.seen.foreground) {
            (Owner::Elsewhere, Foreground::Hotrun) => {
                self.terminal.owner = Owner::Hotrun(Keys::Off);
                // The earlier modes may have been those in which the shell edits a line.
                self.perform(TtyEffect::KeepModes);
                None
            }
            (Owner::Process(Holder { proc, is_starting: false, .. }), Foreground::Stranger) => {
                self.terminal.owner = Owner::Elsewhere;
                self.terminal.waiting = Some(Waiting { proc, had_it: true });
                Some(proc)
            }
            (Owner::Absent | Owner::Hotrun(_) | Owner::Process(_) | Owner::Elsewhere, _) => None,
        }
    }

    /// Updates the owner for a process that is to get the terminal. If another process has lost it,
    /// that one must not read what is meant for the shell.
    fn look_for(&mut self, next: Proc) {
        if let Some(lost) = self.look().filter(|lost| *lost != next) {
            self.perform(TtyEffect::Pass(lost, Signal::SIGTTIN));
        }
    }

    // Keys

    fn read_keys(&mut self) {
        let is_free = self.terminal.job == Job::Running && self.terminal.waiting.is_none();
        match self.terminal.owner {
            Owner::Hotrun(_) if is_free && self.terminal.setup.can_read_keys => {
                self.terminal.owner = Owner::Hotrun(Keys::Reading);
                self.perform(TtyEffect::ReadKeys);
            }
            Owner::Elsewhere => self.perform(TtyEffect::Poll),
            Owner::Absent | Owner::Hotrun(_) | Owner::Process(_) => {}
        }
    }

    /// Stops reading keys, if input from now on may be for the next app.
    fn keep_what_is_typed(&mut self) {
        self.terminal.is_idle = false;
        if self.terminal.reads_keys() && self.is_for_app() {
            self.terminal.owner = Owner::Hotrun(Keys::Off);
            self.perform(TtyEffect::StopKeys);
            self.perform(TtyEffect::ShowShellModes);
        }
    }

    // Starts

    fn app_starts(&mut self, app: Proc) {
        let place = self.terminal.place(self.seen);
        (self.terminal.heir, self.terminal.is_idle) = (None, false);
        match place {
            Place::Foreground => {
                self.terminal.is_for_apps = true;
                let holder = Holder { proc: app, is_starting: true, loan: None };
                self.terminal.owner = Owner::Process(holder);
                self.perform(TtyEffect::StopKeys);
                self.perform(TtyEffect::LetTake);
            }
            Place::Background | Place::OutputOnly => {
                if self.seen.run.stdin != Stdin::Null && self.terminal.begins_with_it(self.seen) {
                    self.terminal.heir = Some(app);
                }
                if self.terminal.reads_keys() {
                    self.terminal.owner = Owner::Hotrun(Keys::Deferred);
                    self.perform(TtyEffect::ShowShellModes);
                    self.perform(TtyEffect::AwaitBegin);
                }
            }
            Place::Copied => {}
        }
    }

    fn spawned(&mut self, proc: Proc) {
        if self.terminal.heir.take_if(|heir| *heir == proc).is_some() {
            // While hotrun's job stops, the app is not stopped: it asks when it wants to read.
            if self.terminal.job == Job::Running {
                self.inherit(proc);
            }
            return;
        }
        // A command of the same build may have waited, and has exited.
        self.forget(proc);
        let Some(holder) = self.holder().filter(|holder| holder.proc == proc) else { return };
        if holder.is_starting {
            self.has_taken(holder);
        } else {
            // The command of the same build that wanted it has exited.
            self.take_back();
            self.perform(TtyEffect::StopKeys);
            self.pass_on(holder.loan);
        }
    }

    /// Handles an app that has taken the terminal at its start. If hotrun's job was stopped
    /// meanwhile, the app may have lost it since.
    fn has_taken(&mut self, holder: Holder) {
        let proc = holder.proc;
        self.terminal.owner = Owner::Process(Holder { is_starting: false, ..holder });
        match self.seen.foreground {
            Foreground::Given | Foreground::Unknown => {
                self.perform(TtyEffect::Watch);
                if let Some(borrower) = holder.loan {
                    self.ask_to_lend(proc, borrower);
                }
            }
            Foreground::Hotrun | Foreground::Stranger if self.terminal.job != Job::Running => {}
            Foreground::Hotrun => self.give(holder.loan.unwrap_or(proc)),
            Foreground::Stranger => {
                self.look();
                self.perform(TtyEffect::Pass(proc, Signal::SIGTTIN));
                self.perform(TtyEffect::Poll);
            }
        }
    }

    /// Gives the terminal to an app that begins with it, unless another process has it now.
    fn inherit(&mut self, app: Proc) {
        self.look_for(app);
        match self.terminal.owner {
            Owner::Process(_) => self.terminal.is_for_apps = true,
            Owner::Hotrun(_) | Owner::Elsewhere => self.offer(app),
            Owner::Absent => {}
        }
    }

    // Requests

    fn stopped(&mut self, proc: Proc, signal: Signal, is_build: bool) {
        let owns_it = self.holder().is_some_and(|one| one.proc == proc && !one.is_starting);
        let can_stop = self.terminal.job == Job::Running && !self.terminal.setup.ignores_stop;
        match signal {
            Signal::SIGTTIN | Signal::SIGTTOU => self.wants(proc),
            // Ctrl-Z was typed while the app had the terminal. It is meant for the whole job:
            // hotrun's process group, which may contain other processes of the shell's job. (A
            // program that handles SIGTSTP then stops itself by SIGSTOP.)
            Signal::SIGTSTP if owns_it && self.terminal.setup.ignores_stop => {
                self.perform(TtyEffect::Resume(proc));
            }
            Signal::SIGTSTP | Signal::SIGSTOP if owns_it && can_stop => {
                self.take_back();
                self.terminal.waiting = Some(Waiting { proc, had_it: true });
                self.terminal.job = Job::Asked;
                self.perform(TtyEffect::StopJob);
            }
            // No terminal key sends SIGSTOP.
            Signal::SIGSTOP if is_build => self.perform(TtyEffect::SayStopped(proc)),
            _ => {}
        }
    }

    /// Handles a process that was stopped because it wants the terminal.
    fn wants(&mut self, proc: Proc) {
        // When the job continues, the process does too, and wants it again.
        if self.terminal.job != Job::Running {
            return;
        }
        self.look_for(proc);
        match self.terminal.owner {
            Owner::Absent => {}
            Owner::Hotrun(_) | Owner::Elsewhere => {
                self.perform(TtyEffect::ShowOutput(proc));
                self.offer(proc);
            }
            Owner::Process(holder) => self.wants_from(proc, holder),
        }
    }

    /// Handles a process that wants the terminal which another process has, or it itself.
    fn wants_from(&mut self, proc: Proc, holder: Holder) {
        let is_app = self.seen.is_app(proc);
        let next = holder.loan.unwrap_or(holder.proc);
        if holder.proc == proc {
            // It has stopped reading for another, or it is not in the foreground after all.
            self.give(next);
        } else if is_app && !self.seen.is_app(next) {
            // An app waits until the build that asks for input has ended.
            self.terminal.is_for_apps = true;
        } else if is_app && self.seen.is_staying(holder.proc) {
            // During a handover, the new app waits until the old one, which has the terminal, is
            // stopped.
            self.perform(TtyEffect::SayKept(proc));
        } else {
            self.perform(TtyEffect::ShowOutput(proc));
            self.terminal.owner = Owner::Process(Holder { loan: Some(proc), ..holder });
            self.ask_to_lend(holder.proc, proc);
        }
    }

    /// Asks the owner to stop reading. A process that is already reading gets the next input, even
    /// in the background: the kernel checks only when a read starts.
    fn ask_to_lend(&mut self, owner: Proc, borrower: Proc) {
        self.perform(TtyEffect::Pass(owner, Signal::SIGTTIN));
        self.perform(TtyEffect::AwaitLoan(borrower));
    }

    /// Gives the terminal to a process that has waited for it long enough: the owner may ignore
    /// SIGTTIN.
    fn loan_is_due(&mut self, borrower: Proc) {
        let Some(holder) = self.holder().filter(|holder| holder.loan == Some(borrower)) else {
            return;
        };
        // A process that is starting would take the terminal from the borrower.
        if self.terminal.job == Job::Running && !holder.is_starting {
            self.look_for(borrower);
            self.offer(borrower);
        }
    }

    /// Gives the terminal to this process as soon as hotrun's job has it.
    fn offer(&mut self, proc: Proc) {
        let is_running = self.terminal.job == Job::Running;
        match self.terminal.owner {
            Owner::Hotrun(_) | Owner::Process(_) if is_running => self.give(proc),
            Owner::Hotrun(_) | Owner::Process(_) => {
                self.wait(proc);
            }
            Owner::Elsewhere => {
                let is_next = self.wait(proc);
                self.perform(if is_next {
                    TtyEffect::SayWanted(proc)
                } else {
                    TtyEffect::SayKept(proc)
                });
                self.perform(TtyEffect::Poll);
            }
            Owner::Absent => {}
        }
    }

    /// Notes that this process is the next to get the terminal. Returns false if an app waits that
    /// goes before it.
    fn wait(&mut self, proc: Proc) -> bool {
        if let Some(other) = self.terminal.waiting {
            if other.proc == proc {
                return true;
            }
            if self.seen.is_app(proc) && self.seen.is_staying(other.proc) {
                return false;
            }
        }
        self.terminal.waiting = Some(Waiting { proc, had_it: false });
        true
    }

    fn give(&mut self, proc: Proc) {
        let had_it = self.holder().is_some_and(|holder| holder.proc == proc)
            || self.terminal.waiting == Some(Waiting { proc, had_it: true });
        self.terminal.waiting = None;
        self.terminal.is_for_apps |= self.seen.is_app(proc);
        let holder = Holder { proc, is_starting: false, loan: None };
        self.terminal.owner = Owner::Process(holder);
        self.perform(TtyEffect::StopKeys);
        self.perform(TtyEffect::HandOver(proc));
        self.perform(TtyEffect::Watch);
        if had_it {
            self.perform(TtyEffect::Resume(proc));
        } else {
            // The program may draw on the full screen as soon as it continues.
            self.perform(TtyEffect::SayGiven(proc));
            self.perform(TtyEffect::Announce(proc));
        }
    }

    // Exits

    fn exited(&mut self, proc: Proc, by: ExitBy, modes_changed: bool) {
        self.terminal.heir.take_if(|heir| *heir == proc);
        self.forget(proc);
        let is_app = self.seen.is_app(proc);
        // If no app follows, hotrun reads what is typed.
        self.terminal.is_idle |= self.seen.is_last(proc);
        let Some(holder) = self.holder().filter(|holder| holder.proc == proc) else {
            if is_app {
                self.restore_modes();
                self.perform(TtyEffect::ResetScreen { fully: false });
                if self.terminal.owner == Owner::Hotrun(Keys::Off) && self.terminal.is_idle {
                    self.read_keys();
                }
            }
            return;
        };
        let is_hotruns = self.take_back();
        if is_app {
            self.perform(TtyEffect::ResetScreen { fully: is_hotruns && modes_changed });
        }
        self.perform(TtyEffect::StopKeys);
        self.pass_on(holder.loan);
        let is_asked = match by {
            ExitBy::Typed => true,
            ExitBy::Closed => !self.terminal.setup.ignores_hangup,
            ExitBy::Other => false,
        };
        if is_app && self.seen.is_staying(proc) && is_asked {
            self.perform(TtyEffect::Interrupt);
        }
    }

    /// Restores the modes after an app that may have changed them without owning the terminal: it
    /// may have restored those that it found.
    fn restore_modes(&mut self) {
        match self.terminal.owner {
            Owner::Hotrun(Keys::Reading) => self.perform(TtyEffect::ReadKeys),
            Owner::Hotrun(Keys::Deferred) => self.perform(TtyEffect::ShowShellModes),
            Owner::Elsewhere => self.perform(TtyEffect::Mend),
            Owner::Absent | Owner::Hotrun(Keys::Off) | Owner::Process(_) => {}
        }
    }

    /// Forgets that a process waits for the terminal.
    fn forget(&mut self, proc: Proc) {
        self.terminal.waiting.take_if(|waiting| waiting.proc == proc);
        if let Owner::Process(holder) = &mut self.terminal.owner {
            holder.loan.take_if(|borrower| *borrower == proc);
        }
    }

    /// Takes the terminal back from its owner. Returns false if another process has it, which did
    /// not get it from hotrun.
    fn take_back(&mut self) -> bool {
        if self.seen.foreground == Foreground::Stranger {
            self.terminal.owner = Owner::Elsewhere;
            return false;
        }
        self.terminal.owner = Owner::Hotrun(Keys::Off);
        self.perform(TtyEffect::TakeBack);
        true
    }

    /// Gives a terminal that is free to the process that borrows it, or to the app that had it
    /// before a build asked for a password. Otherwise hotrun reads keys, except between one app and
    /// the next.
    fn pass_on(&mut self, borrower: Option<Proc>) {
        let app = self.seen.oldest_app().filter(|_| self.terminal.is_for_apps);
        match borrower.or(app) {
            Some(next) => self.offer(next),
            None if !self.is_for_app() => self.read_keys(),
            None if self.terminal.is_elsewhere() => self.perform(TtyEffect::Poll),
            None => {}
        }
    }

    // Job control

    /// Handles Ctrl-Z: stops all processes, and leaves the terminal to the shell.
    fn suspend(&mut self) {
        if self.terminal.job == Job::Stopping {
            return;
        }
        self.terminal.job = Job::Stopping;
        self.perform(TtyEffect::EraseLine);
        self.perform(TtyEffect::StopKeys);
        match self.terminal.owner {
            Owner::Hotrun(_) => {
                self.terminal.owner = Owner::Hotrun(Keys::Off);
                self.perform(TtyEffect::ShowShellModes);
            }
            Owner::Process(Holder { proc, is_starting: false, .. }) => {
                self.take_back();
                self.terminal.waiting = Some(Waiting { proc, had_it: true });
            }
            // It takes the terminal in any case.
            Owner::Process(Holder { is_starting: true, .. }) | Owner::Absent | Owner::Elsewhere => {
            }
        }
        self.perform(TtyEffect::StopAll);
    }

    /// Handles `fg` or `bg`: all processes continue, and the previous owner gets the terminal back
    /// if it is free.
    fn continued(&mut self) {
        self.terminal.job = Job::Running;
        self.look();
        self.perform(TtyEffect::ResumeAll);
        if let Some(Holder { proc, is_starting, .. }) = self.holder() {
            if is_starting || self.seen.foreground != Foreground::Hotrun {
                return;
            }
            self.terminal.owner = Owner::Hotrun(Keys::Off);
            self.terminal.waiting = Some(Waiting { proc, had_it: true });
        }
        match (self.terminal.owner, self.terminal.waiting) {
            (Owner::Hotrun(_), Some(waiting)) => self.give(waiting.proc),
            (Owner::Hotrun(_), None) => {
                let has_read = self.terminal.reads_keys();
                self.terminal.owner = Owner::Hotrun(Keys::Off);
                self.perform(TtyEffect::StopKeys);
                if !self.is_for_app() {
                    self.read_keys();
                } else if has_read {
                    self.perform(TtyEffect::ShowShellModes);
                }
            }
            (Owner::Elsewhere, waiting) => {
                self.perform(TtyEffect::StopKeys);
                if let Some(Waiting { proc, .. }) = waiting {
                    // A process that is already reading would get the first input that is meant
                    // for the shell.
                    self.perform(TtyEffect::Pass(proc, Signal::SIGTTIN));
                }
                self.perform(TtyEffect::Poll);
            }
            (Owner::Absent | Owner::Process(_), _) => {}
        }
    }

    /// Leaves the terminal in the state in which it was found.
    fn leave(&mut self) {
        self.perform(TtyEffect::StopKeys);
        match self.terminal.owner {
            Owner::Process(_) => {
                self.take_back();
            }
            Owner::Hotrun(_) => {
                self.terminal.owner = Owner::Hotrun(Keys::Off);
                self.perform(TtyEffect::ShowShellModes);
            }
            Owner::Absent | Owner::Elsewhere => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use Foreground::{Given, Hotrun, Stranger};
    use Signal::{SIGSTOP, SIGTSTP, SIGTTIN};
    use TtyEffect::*;

    use super::*;

    const OLD: Proc = Proc(1);
    const NEW: Proc = Proc(2);
    const BUILD: Proc = Proc(9);
    const SETUP: Setup = Setup {
        is_on_stdin: true,
        can_read_keys: true,
        ignores_hangup: false,
        ignores_stop: false,
    };

    /// A terminal, and what is seen of it and of the processes.
    struct Story {
        terminal: Terminal,
        seen: Seen,
    }

    impl Story {
        fn of(setup: Setup, stdin: Stdin, foreground: Foreground) -> Self {
            let run = Run { stdin, is_copied: false };
            let seen = Seen { foreground, run, apps: BTreeMap::new(), is_building: false };
            Self { terminal: Terminal::new(setup, foreground), seen }
        }

        fn with_keys() -> Self {
            let mut story = Self::of(SETUP, Stdin::Auto, Hotrun);
            story.leads_to(TtyEvent::Begun, &[ReadKeys]);
            story
        }

        /// An app that wanted the terminal has it.
        fn with_app() -> Self {
            let mut story = Self::with_keys();
            story.app(OLD, AppStage::Running);
            story.step(wants(OLD));
            story.step(TtyEvent::Announced(OLD));
            story.seen.foreground = Given;
            story
        }

        fn app(&mut self, app: Proc, stage: AppStage) {
            self.seen.apps.insert(app, stage);
        }

        fn step(&mut self, event: TtyEvent) -> Vec<TtyEffect> {
            let (terminal, effects) = self.terminal.step(event, &self.seen);
            self.terminal = terminal;
            effects
        }

        #[track_caller]
        fn leads_to(&mut self, event: TtyEvent, effects: &[TtyEffect]) {
            let before = self.terminal;
            assert_eq!(self.step(event), effects, "{event:?} in {before:?}");
        }

        #[track_caller]
        fn leads_to_in(&mut self, foreground: Foreground, event: TtyEvent, did: &[TtyEffect]) {
            self.seen.foreground = foreground;
            self.leads_to(event, did);
        }
    }

    fn stopped(proc: Proc, signal: Signal) -> TtyEvent {
        TtyEvent::Stopped { proc, signal, is_build: proc == BUILD }
    }

    fn wants(proc: Proc) -> TtyEvent {
        stopped(proc, SIGTTIN)
    }

    fn exited(proc: Proc, by: ExitBy) -> TtyEvent {
        TtyEvent::Exited { proc, by, modes_changed: false }
    }

    fn given(proc: Proc) -> [TtyEffect; 5] {
        [StopKeys, HandOver(proc), Watch, SayGiven(proc), Announce(proc)]
    }

    fn given_back(proc: Proc) -> [TtyEffect; 4] {
        [StopKeys, HandOver(proc), Watch, Resume(proc)]
    }

    fn all(parts: &[&[TtyEffect]]) -> Vec<TtyEffect> {
        parts.concat()
    }

    const SCREEN: TtyEffect = ResetScreen { fully: false };

    #[test]
    fn an_app_that_asks_gets_the_terminal_and_so_do_its_successors() {
        let mut story = Story::with_keys();
        story.app(OLD, AppStage::Running);
        story.leads_to(wants(OLD), &all(&[&[ShowOutput(OLD)], &given(OLD)]));
        story.leads_to(TtyEvent::Announced(OLD), &[Resume(OLD)]);
        // It is stopped for a newer one: what is typed meanwhile is the newer one's.
        story.app(OLD, AppStage::Leaving);
        let exit = exited(OLD, ExitBy::Other);
        story.leads_to_in(Given, exit, &[TakeBack, SCREEN, StopKeys]);
        story.seen.apps.clear();
        story.seen.foreground = Hotrun;
        assert_eq!(story.terminal.place(&story.seen), Place::Foreground);
        story.app(NEW, AppStage::Starting);
        story.leads_to(TtyEvent::AppStarts(NEW), &[StopKeys, LetTake]);
        story.leads_to_in(Given, TtyEvent::Spawned(NEW), &[Watch]);
    }

    #[test]
    fn when_an_app_that_had_the_terminal_has_ended_keys_are_hotruns_again() {
        for (by, last) in [
            (ExitBy::Other, &[][..]),
            (ExitBy::Typed, &[Interrupt]),
            (ExitBy::Closed, &[Interrupt]),
        ] {
            let mut story = Story::with_app();
            story.app(OLD, AppStage::Ended);
            let reads = [TakeBack, SCREEN, StopKeys, ReadKeys];
            story.leads_to(exited(OLD, by), &all(&[&reads, last]));
            // Also after Ctrl-Z.
            story.seen.foreground = Hotrun;
            story.step(TtyEvent::Suspended);
            story.leads_to(TtyEvent::Continued, &[ResumeAll, StopKeys, ReadKeys]);
        }
    }

    #[test]
    fn a_closed_window_ends_no_hotrun_that_was_started_by_nohup() {
        let setup = Setup { ignores_hangup: true, ..SETUP };
        let mut story = Story::of(setup, Stdin::Auto, Hotrun);
        story.app(OLD, AppStage::Running);
        story.step(wants(OLD));
        story.app(OLD, AppStage::Ended);
        let exit = exited(OLD, ExitBy::Closed);
        let did = [TakeBack, SCREEN, StopKeys, ReadKeys];
        story.leads_to_in(Foreground::Unknown, exit, &did);
    }

    #[test]
    fn a_screen_is_reset_in_full_if_an_app_left_it_changed_and_had_the_terminal() {
        let exit = TtyEvent::Exited { proc: OLD, by: ExitBy::Other, modes_changed: true };
        let mut story = Story::with_app();
        let did = [TakeBack, ResetScreen { fully: true }, StopKeys];
        assert_eq!(story.step(exit)[..3], did);
        let mut story = Story::with_keys();
        story.app(OLD, AppStage::Running);
        story.leads_to(exit, &[ReadKeys, SCREEN]);
    }

    #[test]
    fn a_program_that_begins_finds_the_modes_of_the_shell_and_keys_are_read_when_it_has() {
        let mut story = Story::with_keys();
        story.app(OLD, AppStage::Starting);
        story.leads_to(TtyEvent::AppStarts(OLD), &[ShowShellModes, AwaitBegin]);
        assert!(story.terminal.reads_keys());
        story.leads_to(TtyEvent::HasBegun, &[ReadKeys]);
        story.leads_to(TtyEvent::HasBegun, &[]);
    }

    #[test]
    fn a_line_typed_during_a_build_is_the_next_apps_if_apps_want_input() {
        let mut story = Story::with_keys();
        story.leads_to(TtyEvent::BuildStarts, &[]);
        story.seen.run.stdin = Stdin::App;
        story.leads_to(TtyEvent::BuildStarts, &[StopKeys, ShowShellModes]);
        story.leads_to(TtyEvent::NothingRuns, &[ReadKeys]);
    }

    #[test]
    fn where_an_app_begins_depends_on_its_configuration_and_on_what_is_free() {
        let off = Setup { is_on_stdin: false, can_read_keys: false, ..SETUP };
        for (stdin, is_copied, setup, foreground, place) in [
            (Stdin::Auto, false, SETUP, Hotrun, Place::Background),
            (Stdin::App, false, SETUP, Hotrun, Place::Foreground),
            (Stdin::App, false, SETUP, Stranger, Place::Background),
            (Stdin::Null, false, SETUP, Hotrun, Place::OutputOnly),
            (Stdin::App, true, SETUP, Hotrun, Place::Copied),
            (Stdin::Auto, false, off, Hotrun, Place::OutputOnly),
            (Stdin::App, false, off, Hotrun, Place::Background),
        ] {
            let mut story = Story::of(setup, stdin, foreground);
            story.seen.run.is_copied = is_copied;
            assert_eq!(story.terminal.place(&story.seen), place, "{stdin:?} {setup:?}");
        }
        let absent = Terminal::absent();
        let seen = Story::of(off, Stdin::Auto, Hotrun).seen;
        assert_eq!(absent.place(&seen), Place::OutputOnly);
    }

    #[test]
    fn an_app_whose_stdin_is_no_terminal_gets_it_when_it_has_a_pid() {
        let setup = Setup { is_on_stdin: false, can_read_keys: false, ..SETUP };
        let mut story = Story::of(setup, Stdin::App, Hotrun);
        story.app(OLD, AppStage::Starting);
        story.leads_to(TtyEvent::AppStarts(OLD), &[]);
        story.app(OLD, AppStage::Running);
        story.leads_to(TtyEvent::Spawned(OLD), &given(OLD));
        // Beside an older one, it waits until it asks.
        story.app(NEW, AppStage::Starting);
        story.terminal.heir = Some(NEW);
        story.leads_to_in(Given, TtyEvent::Spawned(NEW), &[]);
    }

    #[test]
    fn a_build_borrows_the_terminal_and_the_app_gets_it_back() {
        let mut story = Story::with_app();
        story.seen.is_building = true;
        let lend = [ShowOutput(BUILD), Pass(OLD, SIGTTIN), AwaitLoan(BUILD)];
        story.leads_to(wants(BUILD), &lend);
        story.leads_to(wants(OLD), &given(BUILD));
        // The app is stopped, and waits.
        story.leads_to(wants(OLD), &[]);
        let back = all(&[&[TakeBack, StopKeys], &given(OLD)]);
        story.leads_to(exited(BUILD, ExitBy::Other), &back);
    }

    #[test]
    fn an_app_that_does_not_stop_reading_lends_the_terminal_all_the_same() {
        let mut story = Story::with_app();
        story.step(wants(BUILD));
        story.leads_to(TtyEvent::LoanDue(NEW), &[]);
        story.leads_to(TtyEvent::LoanDue(BUILD), &given(BUILD));
        story.leads_to(TtyEvent::LoanDue(BUILD), &[]);
    }

    #[test]
    fn a_build_that_waits_gets_the_terminal_of_an_app_that_exits() {
        let mut story = Story::with_app();
        story.seen.is_building = true;
        story.step(wants(BUILD));
        story.app(OLD, AppStage::Ended);
        let did = all(&[&[TakeBack, SCREEN, StopKeys], &given(BUILD)]);
        story.leads_to(exited(OLD, ExitBy::Other), &did);
    }

    #[test]
    fn an_app_gets_the_terminal_back_from_a_build_that_exits_before_it_had_it() {
        let mut story = Story::with_app();
        story.step(wants(BUILD));
        story.leads_to(exited(BUILD, ExitBy::Other), &[]);
        story.leads_to(wants(OLD), &given_back(OLD));
    }

    #[test]
    fn an_app_that_asks_while_a_build_has_the_terminal_gets_it_next() {
        let mut story = Story::with_keys();
        story.app(OLD, AppStage::Running);
        story.step(wants(BUILD));
        story.seen.foreground = Given;
        story.leads_to(wants(OLD), &[]);
        let back = all(&[&[TakeBack, StopKeys], &given(OLD)]);
        story.leads_to(exited(BUILD, ExitBy::Other), &back);
    }

    #[test]
    fn the_rest_of_a_build_that_has_asked_can_be_interrupted() {
        let mut story = Story::with_keys();
        story.step(wants(BUILD));
        // Its next command has a group of its own.
        story.leads_to_in(Given, TtyEvent::Spawned(BUILD), &[TakeBack, StopKeys, ReadKeys]);
    }

    #[test]
    fn in_a_handover_the_terminal_is_the_old_ones_until_it_ends_and_then_the_new_ones() {
        let mut story = Story::with_app();
        story.app(NEW, AppStage::Running);
        story.leads_to(wants(NEW), &[SayKept(NEW)]);
        story.app(OLD, AppStage::Leaving);
        let did = all(&[&[TakeBack, SCREEN, StopKeys], &given(NEW)]);
        story.leads_to(exited(OLD, ExitBy::Other), &did);
        // An app that is being stopped has to lend it.
        let mut story = Story::with_app();
        story.app(OLD, AppStage::Leaving);
        story.app(NEW, AppStage::Running);
        let lend = [ShowOutput(NEW), Pass(OLD, SIGTTIN), AwaitLoan(NEW)];
        story.leads_to(wants(NEW), &lend);
    }

    #[test]
    fn ctrl_z_stops_the_whole_job_and_fg_goes_on_with_it() {
        let mut story = Story::with_keys();
        story.leads_to(TtyEvent::Suspended, &[EraseLine, StopKeys, ShowShellModes, StopAll]);
        story.leads_to(TtyEvent::Suspended, &[]);
        story.leads_to(wants(OLD), &[]);
        story.leads_to(TtyEvent::Continued, &[ResumeAll, StopKeys, ReadKeys]);
    }

    #[test]
    fn ctrl_z_in_an_app_that_has_the_terminal_stops_the_job_too() {
        for signal in [SIGTSTP, SIGSTOP] {
            let mut story = Story::with_app();
            story.leads_to(stopped(OLD, signal), &[TakeBack, StopJob]);
            story.leads_to_in(Hotrun, stopped(OLD, signal), &[]);
            let stop = [EraseLine, StopKeys, ShowShellModes, StopAll];
            story.leads_to(TtyEvent::Suspended, &stop);
            let back = all(&[&[ResumeAll], &given_back(OLD)]);
            story.leads_to(TtyEvent::Continued, &back);
        }
        let mut story = Story::with_app();
        story.terminal.setup.ignores_stop = true;
        story.leads_to(stopped(OLD, SIGTSTP), &[Resume(OLD)]);
    }

    #[test]
    fn a_build_that_is_stopped_by_sigstop_is_reported() {
        let mut story = Story::with_keys();
        story.leads_to(stopped(BUILD, SIGSTOP), &[SayStopped(BUILD)]);
        story.leads_to(stopped(OLD, SIGSTOP), &[]);
        story.terminal = Terminal::absent();
        story.leads_to(stopped(BUILD, SIGSTOP), &[SayStopped(BUILD)]);
    }

    #[test]
    fn a_stopped_hotrun_that_goes_on_in_the_background_leaves_the_shell_its_terminal() {
        let mut story = Story::with_app();
        story.step(TtyEvent::Suspended);
        let did = [StopKeys, Poll, ResumeAll, StopKeys, Pass(OLD, SIGTTIN), Poll];
        story.leads_to_in(Stranger, TtyEvent::Continued, &did);
        let asks = [ShowOutput(OLD), SayWanted(OLD), Poll];
        story.leads_to(wants(OLD), &asks);
        // Its successor asks too; the older one would go before it, but is being stopped.
        story.app(OLD, AppStage::Leaving);
        story.app(NEW, AppStage::Running);
        let asks = [ShowOutput(NEW), SayWanted(NEW), Poll];
        story.leads_to(wants(NEW), &asks);
        let did = all(&[&[KeepModes, ResumeAll], &given(NEW)]);
        story.leads_to_in(Hotrun, TtyEvent::Continued, &did);
    }

    #[test]
    fn a_hotrun_that_was_stopped_by_a_signal_keeps_its_app_from_reading_what_is_the_shells() {
        let mut story = Story::with_app();
        let did = [ResumeAll, StopKeys, Pass(OLD, SIGTTIN), Poll];
        story.leads_to_in(Stranger, TtyEvent::Continued, &did);
        let did = all(&[&[KeepModes, ResumeAll], &given_back(OLD)]);
        story.leads_to_in(Hotrun, TtyEvent::Continued, &did);
    }

    #[test]
    fn brought_to_the_foreground_hotrun_reads_keys() {
        let mut story = Story::of(SETUP, Stdin::Auto, Stranger);
        story.leads_to(TtyEvent::Begun, &[Poll]);
        let did = [KeepModes, ResumeAll, StopKeys, ReadKeys];
        story.leads_to_in(Hotrun, TtyEvent::Continued, &did);
    }

    #[test]
    fn keys_are_not_read_from_a_terminal_that_a_shell_has_taken() {
        let mut story = Story::with_keys();
        story.app(OLD, AppStage::Ended);
        let did = [StopKeys, Poll, Mend, SCREEN];
        story.leads_to_in(Stranger, exited(OLD, ExitBy::Other), &did);
        assert!(!story.terminal.reads_keys());
    }

    #[test]
    fn only_what_an_app_did_to_its_own_terminal_is_repaired() {
        Story::with_keys().leads_to(TtyEvent::Used, &[ReleaseLines]);
        Story::with_app().leads_to(TtyEvent::Used, &[ReleaseLines, Mend]);
    }

    #[test]
    fn hotrun_leaves_the_terminal_as_it_was() {
        Story::with_keys().leads_to(TtyEvent::Left, &[StopKeys, ShowShellModes]);
        Story::with_app().leads_to(TtyEvent::Left, &[StopKeys, TakeBack]);
        Story::with_app().leads_to_in(Stranger, TtyEvent::Left, &[StopKeys]);
    }

    #[test]
    fn without_a_terminal_the_job_can_be_stopped_all_the_same() {
        let mut story = Story::with_keys();
        story.terminal = Terminal::absent();
        story.leads_to(TtyEvent::Begun, &[]);
        story.leads_to(TtyEvent::Suspended, &[EraseLine, StopKeys, StopAll]);
        story.leads_to(TtyEvent::Continued, &[ResumeAll]);
        story.leads_to(TtyEvent::Left, &[]);
    }
}
