//! Performs what [`core::terminal`](crate::core::terminal) decides about the terminal: which process
//! owns it, and what follows from keys, Ctrl-Z and a closed window.

use std::io::PipeWriter;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::{JoinHandle, spawn_local};

use super::Engine;
use super::message::{FromEngine, Message};
use crate::config::{self, Tty};
use crate::core::terminal::{
    AppStage, ExitBy, Foreground, Place, Run, Seen, Setup, Stdin, Terminal, TtyEffect, TtyEvent,
};
use crate::core::{Event, Input};
use crate::event::{Cause, Ended, Order, Proc, Role, ShutdownBy};
use crate::keys::{self, Keys};
use crate::keys::{FromTerminal, Key};
use crate::notice::{Notice, Problem};
use crate::process::terminal::{Device, LOOK_FIRST, LOOK_LAST};
use crate::process::{self, is_ignored};
use crate::recording::Recorded;
use crate::report::console::{LEAVES_SCREEN, Stream};
use crate::signal::FromSignal;

/// Delay before hotrun stops itself, in which guardians learn what to stop.
const BEFORE_STOP: Duration = Duration::from_millis(20);
/// Maximum delay before a program continues, for the line that reports that it has the terminal.
/// Ctrl-S may have stopped the terminal.
const ANNOUNCEMENT: Duration = Duration::from_millis(100);
/// Time for an app to stop reading when a build asks for input.
const STOP_READING_TIMEOUT: Duration = Duration::from_millis(250);
/// Time for a new program to read the modes of the terminal. It ends early when the program is
/// ready.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(1);

/// The terminal, and the tasks that report what happens on it.
pub(super) struct Seat {
    terminal: Terminal,
    device: Option<Device>,
    keys: Option<Keys>,
    looks: Option<JoinHandle<()>>,
    /// Closed to end the reports of the terminal's use.
    use_told: Option<PipeWriter>,
    /// Waits for a new program to start up; keys are read again after that.
    beginning: Option<JoinHandle<()>>,
    /// When all processes were stopped.
    stopped_at: Option<Instant>,
}

impl Seat {
    /// Opens the terminal, if there is one.
    pub(super) fn open() -> Self {
        let device = Device::open();
        let terminal = match &device {
            None => Terminal::absent(),
            Some(device) => Terminal::new(
                Setup {
                    is_on_stdin: Device::is_on_stdin(),
                    can_read_keys: Device::can_read_keys(),
                    ignores_hangup: is_ignored(Signal::SIGHUP),
                    ignores_stop: is_ignored(Signal::SIGTSTP),
                },
                device.foreground(),
            ),
        };
        Self {
            terminal,
            device,
            keys: None,
            looks: None,
            use_told: None,
            beginning: None,
            stopped_at: None,
        }
    }

    /// The state of the terminal.
    pub(super) fn terminal(&self) -> Terminal {
        self.terminal
    }

    fn stop_keys(&mut self) {
        self.keys = None;
        self.use_told = None;
        for task in [self.looks.take(), self.beginning.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

impl Engine {
    // What the terminal is asked

    /// Whether keys have an effect: hotrun has the terminal, and no app wants it.
    pub(super) fn has_keys(&self) -> bool {
        self.host.seat.terminal.has_keys(self.run_input())
    }

    /// Whether a process has the terminal, or waits for it.
    pub(super) fn is_terminal_wanted(&self) -> bool {
        self.host.seat.terminal.is_wanted()
    }

    /// Whether an app draws on the full screen, which another line would disturb.
    pub(super) fn is_a_screen_shown(&self) -> bool {
        self.host.seat.terminal.is_given()
            && self.host.seat.device.as_ref().is_some_and(Device::is_raw)
    }

    fn run_input(&self) -> Run {
        let stdin = match self.service.config.recipe.run.stdin {
            config::Stdin::Auto => Stdin::Auto,
            config::Stdin::App => Stdin::App,
            config::Stdin::Null => Stdin::Null,
        };
        Run { stdin, is_copied: self.service.config.recipe.run.tty == Tty::Pty }
    }

    fn app_stages(&self) -> impl Iterator<Item = (Proc, AppStage)> {
        self.table.apps().map(|(proc, app)| {
            let stage = if app.is_dismissed() {
                AppStage::Leaving
            } else if app.ended.is_some() {
                AppStage::Ended
            } else if app.pid.is_none() {
                AppStage::Starting
            } else {
                AppStage::Running
            };
            (proc, stage)
        })
    }

    /// What is seen of the processes alone.
    fn seen_of_processes(&self) -> Seen {
        Seen {
            foreground: Foreground::Unknown,
            run: self.run_input(),
            apps: self.app_stages().collect(),
            is_building: self.is_building(),
        }
    }

    fn seen(&self) -> Seen {
        let device = self.host.seat.device.as_ref();
        let foreground = device.map_or(Foreground::Unknown, Device::foreground);
        Seen { foreground, ..self.seen_of_processes() }
    }

    // Events

    /// Handles an event. Returns what follows for the core.
    fn heard_of_seat(&mut self, event: TtyEvent) -> Option<Event> {
        let seen = match event {
            // Reported often, and the same whatever is in the foreground.
            TtyEvent::Used => self.seen_of_processes(),
            TtyEvent::Begun
            | TtyEvent::BuildStarts
            | TtyEvent::AppStarts(_)
            | TtyEvent::Spawned(_)
            | TtyEvent::HasBegun
            | TtyEvent::Stopped { .. }
            | TtyEvent::LoanDue(_)
            | TtyEvent::Announced(_)
            | TtyEvent::Exited { .. }
            | TtyEvent::NothingRuns
            | TtyEvent::Suspended
            | TtyEvent::Continued
            | TtyEvent::Left => self.seen(),
        };
        let (terminal, effects) = self.host.seat.terminal.step(event, &seen);
        if event != TtyEvent::Used {
            self.record(|| Recorded::Terminal(event, seen));
            tracing::debug!(tty_event = ?event, tty_effects = ?effects);
        }
        self.host.seat.terminal = terminal;
        let mut follows = None;
        for effect in effects {
            follows = follows.or(self.perform_on_seat(effect));
        }
        follows
    }

    /// Starts to watch the terminal, and to read keys, at startup.
    pub(super) fn hear_terminal(&mut self) {
        if let Some(Ok(terminal)) = self.host.seat.device.as_ref().map(Device::descriptor) {
            keys::tell_when_closed(terminal, self.host.sender.inbox(Message::Terminal));
        }
        self.heard_of_seat(TtyEvent::Begun);
    }

    /// Stops reading keys, if input from now on may be for the next app.
    pub(super) fn keep_what_is_typed(&mut self) {
        self.heard_of_seat(TtyEvent::BuildStarts);
    }

    /// Reads keys, if hotrun has the terminal: no process is left that could read other input.
    pub(super) fn read_keys(&mut self) {
        self.heard_of_seat(TtyEvent::NothingRuns);
    }

    /// Connects the app that starts now to the terminal.
    pub(super) fn terminal_for_app(&mut self, proc: Proc) -> process::Attachment {
        let place = self.host.seat.terminal.place(&self.seen());
        self.heard_of_seat(TtyEvent::AppStarts(proc));
        match place {
            Place::OutputOnly => process::Attachment::OutputOnly,
            Place::Background => process::Attachment::Background,
            Place::Foreground => process::Attachment::Foreground,
            Place::Copied => process::Attachment::Copied,
        }
    }

    /// Reads keys again: the program that started is ready, or has had its time.
    pub(super) fn has_begun(&mut self) {
        self.heard_of_seat(TtyEvent::HasBegun);
    }

    /// Completes the transfer of the terminal to a process that has a pid now.
    pub(super) fn terminal_was_taken(&mut self, proc: Proc) {
        if let Some(group) = self.group_of(proc).filter(|_| self.table.is_app(proc)) {
            self.on_device(|device| device.was_taken_by(group));
        }
        self.heard_of_seat(TtyEvent::Spawned(proc));
    }

    /// Handles a command that was stopped and cannot continue by itself.
    pub(super) fn stopped(&mut self, proc: Proc, signal: Signal) {
        let is_build = self.table.role(proc) == Some(Role::Build);
        self.heard_of_seat(TtyEvent::Stopped { proc, signal, is_build });
    }

    /// Handles an owner of the terminal that has had its time to stop reading.
    pub(super) fn loan_is_due(&mut self, borrower: Proc) {
        self.heard_of_seat(TtyEvent::LoanDue(borrower));
    }

    /// Continues a stopped process: the line that reports that it has the terminal is written.
    pub(super) fn terminal_was_announced(&mut self, proc: Proc) {
        self.heard_of_seat(TtyEvent::Announced(proc));
    }

    /// Returns the terminal to hotrun when a process has exited, in the state in which it was
    /// found. Returns the event that follows, if the process had the terminal.
    pub(super) fn terminal_is_free(&mut self, proc: Proc, ended: &Ended) -> Option<Event> {
        let device = self.host.seat.device.as_ref();
        let by = if device.is_some_and(Device::is_closed) {
            ExitBy::Closed
        } else if was_typed(ended) {
            ExitBy::Typed
        } else {
            ExitBy::Other
        };
        let modes_changed = device.is_some_and(Device::is_changed);
        self.heard_of_seat(TtyEvent::Exited { proc, by, modes_changed })
    }

    /// Detects that hotrun is in the foreground again: a shell does not notify a job that was
    /// running.
    pub(super) fn notice_foreground(&mut self) {
        let device = self.host.seat.device.as_ref();
        if self.host.seat.terminal.is_elsewhere()
            && device.is_some_and(Device::is_in_the_foreground)
        {
            self.continued();
        }
    }

    /// Handles `fg` or `bg`.
    pub(super) fn continued(&mut self) {
        self.heard_of_seat(TtyEvent::Continued);
    }

    pub(super) fn look_at_terminal_again(&mut self) {
        self.heard_of_seat(TtyEvent::Used);
    }

    /// Handles what is reported of the terminal.
    pub(super) fn heard_of_terminal(&mut self, report: FromTerminal) -> Vec<Event> {
        match report {
            FromTerminal::Typed { key, shown } => return self.typed(key, shown),
            // A hotrun started by `nohup` ignores SIGHUP.
            FromTerminal::Closed if is_ignored(Signal::SIGHUP) => {}
            FromTerminal::Closed => return vec![Event::Interrupted(ShutdownBy::Signal)],
            FromTerminal::Used => self.look_at_terminal_again(),
        }
        Vec::new()
    }

    /// Handles a signal to hotrun.
    pub(super) fn heard_signal(&mut self, signal: FromSignal) -> Vec<Event> {
        match signal {
            FromSignal::Interrupted => return vec![Event::Interrupted(ShutdownBy::Signal)],
            FromSignal::CtrlC => {
                self.host.has_heard_ctrl_c = !self.host.seat.terminal.is_absent();
                return vec![Event::Interrupted(ShutdownBy::CtrlC)];
            }
            FromSignal::ForApp(signal) => return self.ordered(Order::Signal(signal)),
            FromSignal::Suspend => {
                self.heard_of_seat(TtyEvent::Suspended);
            }
            FromSignal::Continued => self.continued(),
            FromSignal::Resized => self.host.processes.resized(),
        }
        Vec::new()
    }

    fn typed(&mut self, key: Option<Key>, shown: usize) -> Vec<Event> {
        if !self.host.seat.terminal.reads_keys() {
            return Vec::new();
        }
        self.host.report.erase(shown);
        let Some(key) = key else { return Vec::new() };
        match key {
            Key::Rebuild => {
                self.begin_update();
                vec![Input::Saved(Cause::Order).into()]
            }
            Key::Restart => self.ordered(Order::Restart),
            Key::Rollback => self.ordered(Order::Rollback),
            Key::Pause => self.ordered(Order::PauseOrResume),
            Key::Quit => vec![Event::Interrupted(ShutdownBy::Key)],
            Key::Clear => {
                self.host.report.clear_screen();
                Vec::new()
            }
            Key::Help => {
                self.host.report.keys(keys::HELP.iter().map(|(_, key, does)| (*key, *does)));
                Vec::new()
            }
        }
    }

    // Effects

    /// Performs an effect. Returns what follows for the core.
    fn perform_on_seat(&mut self, effect: TtyEffect) -> Option<Event> {
        match effect {
            TtyEffect::ReadKeys => self.listen_to_keys(),
            TtyEffect::ShowShellModes => self.on_device(|device| device.show_modes_of_the_shell()),
            TtyEffect::StopKeys => self.host.seat.stop_keys(),
            TtyEffect::AwaitBegin => self.await_begin(),
            TtyEffect::LetTake => self.on_device(Device::is_being_taken),
            TtyEffect::HandOver(proc) => {
                let group = self.group_of(proc);
                self.on_device(|device| group.into_iter().for_each(|one| device.hand_over(one)));
            }
            TtyEffect::TakeBack => self.on_device(Device::take_back),
            TtyEffect::KeepModes => self.on_device(Device::keep_modes),
            TtyEffect::Mend => self.on_device(|device| device.mend()),
            TtyEffect::ResetScreen { fully } => {
                self.host.report.console().write(Stream::Stdout, Device::screen_reset(fully));
            }
            TtyEffect::ReleaseLines => self.host.report.console().release(),
            TtyEffect::EraseLine => self.host.report.console().erase_for_now(),
            TtyEffect::Watch => self.watch_terminal(),
            TtyEffect::Poll => self.poll_terminal(false),
            TtyEffect::AwaitLoan(proc) => {
                self.send_after(STOP_READING_TIMEOUT, FromEngine::LoanDue(proc));
            }
            TtyEffect::Announce(proc) => self.announce(proc),
            TtyEffect::Pass(proc, signal) => self.host.processes.pass(proc, signal),
            TtyEffect::Resume(proc) => self.host.processes.resume_one(proc),
            TtyEffect::ResumeAll => self.resume_all(),
            TtyEffect::StopJob => {
                let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
            }
            TtyEffect::StopAll => self.stop_all(),
            TtyEffect::ShowOutput(proc) => self.show_output(proc),
            TtyEffect::SayGiven(proc) => self.say(Notice::TerminalGiven(proc)),
            TtyEffect::SayWanted(proc) => self.say(Notice::TerminalWanted(proc)),
            TtyEffect::SayKept(proc) => self.say(Notice::TerminalKept(proc)),
            TtyEffect::SayStopped(proc) => {
                self.say(Problem::BuildStopped { pid: self.table.pid(proc) });
            }
            TtyEffect::Interrupt => return Some(Event::Interrupted(ShutdownBy::CtrlC)),
        }
        None
    }

    fn on_device(&mut self, act: impl FnOnce(&mut Device)) {
        if let Some(device) = &mut self.host.seat.device {
            act(device);
        }
    }

    fn group_of(&self, proc: Proc) -> Option<Pid> {
        self.table.get(proc)?.group
    }

    fn send_after(&self, delay: Duration, message: FromEngine) -> JoinHandle<()> {
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            tokio::time::sleep(delay).await;
            inbox.send(message);
        })
    }

    fn listen_to_keys(&mut self) {
        let Some(device) = &self.host.seat.device else { return };
        device.show_modes_for_keys();
        if self.host.seat.keys.is_none() {
            let inbox = self.host.sender.inbox(Message::Terminal);
            self.host.seat.keys = device.descriptor().and_then(|fd| Keys::listen(fd, inbox)).ok();
        }
    }

    fn await_begin(&mut self) {
        let beginning = self.send_after(STARTUP_TIMEOUT, FromEngine::HasBegun);
        if let Some(earlier) = self.host.seat.beginning.replace(beginning) {
            earlier.abort();
        }
    }

    /// Watches how an app that has received the terminal uses it. The app may have saved the modes
    /// in which keys are read.
    fn watch_terminal(&mut self) {
        let descriptor = self.host.seat.device.as_ref().map(Device::descriptor);
        if let Some(Ok(descriptor)) = descriptor {
            self.host.seat.use_told =
                keys::tell_of_use(&descriptor, self.host.sender.inbox(Message::Terminal)).ok();
        }
        self.poll_terminal(self.host.seat.use_told.is_some());
    }

    /// Polls the terminal, for a short time only if `ends`.
    fn poll_terminal(&mut self, ends: bool) {
        let inbox = self.host.sender.clone();
        let looks = spawn_local(async move {
            let mut pause = LOOK_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                if !inbox.send(FromEngine::LookAtTerminal) || (ends && pause == LOOK_LAST) {
                    return;
                }
                pause = (pause * 2).min(LOOK_LAST);
            }
        });
        if let Some(older) = self.host.seat.looks.replace(looks) {
            older.abort();
        }
    }

    fn announce(&self, proc: Proc) {
        let (console, inbox) = (self.host.report.console().clone(), self.host.sender.clone());
        spawn_local(async move {
            console.flush(ANNOUNCEMENT).await;
            inbox.send(FromEngine::TerminalAnnounced(proc));
        });
    }

    fn stop_all(&mut self) {
        self.host.processes.suspend();
        self.host.seat.stopped_at = Some(Instant::now());
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            tokio::time::sleep(BEFORE_STOP).await;
            process::stop_here();
            // Also sent if the kernel did not stop hotrun. The inbox closes when hotrun exits.
            inbox.send(FromEngine::TerminalContinued);
        });
    }

    fn resume_all(&mut self) {
        if let Some(time) = self.host.seat.stopped_at.take().map(|at| at.elapsed()) {
            self.table.probes().for_each(|probe| probe.was_stopped(time));
        }
        self.host.processes.resume();
    }

    // Lines of the log

    /// Holds back lines of hotrun and of builds while an app draws on the full screen.
    pub(super) fn hold_lines(&self) {
        self.host.report.console().hold(self.host.seat.terminal.is_given());
    }

    /// Schedules the release of lines that are held until a program leaves the full screen.
    pub(super) fn release_lines_soon(&self) {
        if self.host.report.console().is_about_to_release() {
            self.send_after(LEAVES_SCREEN, FromEngine::LookAtTerminal);
        }
    }

    /// Restores the terminal to the state in which it was found.
    pub(super) fn leave_terminal(&mut self) {
        self.introduce(None);
        self.heard_of_seat(TtyEvent::Left);
        self.host.seat.device = None;
        self.host.report.console().hold(false);
        self.host.report.restore_title();
    }
}

/// Whether a process was ended by a key: an app that has the terminal receives Ctrl-C and
/// `Ctrl-\` itself.
fn was_typed(ended: &Ended) -> bool {
    let [interrupt, quit] = [Signal::SIGINT, Signal::SIGQUIT].map(|signal| signal as i32);
    match ended {
        Ended::Signal { number, .. } => *number == interrupt || *number == quit,
        Ended::Code(code) => *code == 128 + interrupt,
        Ended::NotStarted(_) => false,
    }
}
