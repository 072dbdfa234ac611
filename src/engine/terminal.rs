//! Which process owns the terminal, and what follows from keys, Ctrl-Z and a closed window.

use std::io::PipeWriter;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::{JoinHandle, spawn_local};

use super::Engine;
use super::message::{FromEngine, Message};
use super::table::Entry;
use crate::config::{Stdin, Tty};
use crate::core::{Event, Input};
use crate::event::{Cause, Ended, Order, Proc, Role};
use crate::keys::{self, Keys};
use crate::keys::{FromTerminal, Key};
use crate::notice::{Notice, Problem};
use crate::process::terminal::{LOOK_FIRST, LOOK_LAST, Terminal};
use crate::process::{self, is_ignored};
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

/// A build that asks for input while an app has the terminal.
#[derive(Clone, Copy)]
struct Borrower {
    proc: Proc,
    /// When the app was asked to stop reading.
    since: Instant,
}

/// The terminal, and the processes that own it or wait for it.
#[derive(Default)]
pub(super) struct Seat {
    terminal: Option<Terminal>,
    keys: Option<Keys>,
    looks: Option<JoinHandle<()>>,
    /// Closed to end the reports of the terminal's use.
    use_told: Option<PipeWriter>,
    /// Waits for a new program to start up; keys are read again after that.
    beginning: Option<JoinHandle<()>>,
    /// The process that has the terminal; `None` for hotrun.
    owner: Option<Proc>,
    /// The process that was stopped because it wanted the terminal while another job had it.
    waiting: Option<Proc>,
    /// Whether an app has wanted the terminal; its successors start as its owner.
    is_for_apps: bool,
    /// The app that gets the terminal as soon as it runs: its stdin is not a terminal that it could
    /// take by itself.
    heir: Option<Proc>,
    /// A build that gets the terminal as soon as the app that reads it has stopped.
    borrower: Option<Borrower>,
    /// Whether hotrun is about to stop itself.
    is_stopping: bool,
    /// When all processes were stopped.
    stopped_at: Option<Instant>,
}

impl Seat {
    pub(super) fn new(terminal: Option<Terminal>) -> Self {
        Self { terminal, ..Self::default() }
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
    /// Starts to watch the terminal, and to read keys, at startup.
    pub(super) fn hear_terminal(&mut self) {
        let terminal = self.seat.terminal.as_ref().map(Terminal::descriptor);
        if let Some(Ok(terminal)) = terminal {
            keys::tell_when_closed(terminal, self.sender.inbox(Message::Terminal));
        }
        if !self.is_for_app() {
            self.read_keys();
        }
    }

    /// Whether the next app starts as the owner of the terminal.
    fn is_for_app(&self) -> bool {
        let is_wanted = self.seat.is_for_apps || self.config.run.stdin == Stdin::App;
        is_wanted && self.config.run.tty == Tty::Inherit
    }

    /// Stops reading keys, if input from now on may be for the next app.
    pub(super) fn keep_what_is_typed(&mut self) {
        let for_app = self.is_for_app();
        if let Some(terminal) =
            self.seat.terminal.as_mut().filter(|one| for_app && one.reads_keys())
        {
            terminal.read_no_keys();
            self.seat.stop_keys();
        }
    }

    /// Whether hotrun reads keys: it has the terminal, and no app wants it.
    pub(super) fn has_keys(&self) -> bool {
        self.seat.terminal.as_ref().is_some_and(Terminal::is_hotruns) && !self.is_for_app()
    }

    /// Reads keys, if hotrun has the terminal.
    pub(super) fn read_keys(&mut self) {
        let Some(terminal) = &mut self.seat.terminal else { return };
        if terminal.is_elsewhere() {
            self.look_at_terminal();
            return;
        }
        if !terminal.read_keys() || self.seat.keys.is_some() {
            return;
        }
        let keys = terminal
            .descriptor()
            .and_then(|fd| Keys::listen(fd, self.sender.inbox(Message::Terminal)));
        self.seat.keys = keys.ok();
    }

    /// Decides how the app that starts now gets the terminal.
    pub(super) fn terminal_for_app(&mut self, proc: Proc) -> process::Terminal {
        use process::Terminal::{Background, Copied, Foreground, OutputOnly};
        let run = &self.config.run;
        let is_free = self.seat.terminal.as_ref().is_some_and(Terminal::is_hotruns);
        let is_on_stdin = self.seat.terminal.is_some() && Terminal::is_on_stdin();
        let begins_with_it = is_free && (run.stdin == Stdin::App || self.seat.is_for_apps);
        let wanted = match (run.tty, run.stdin) {
            (Tty::Pty, _) => Copied,
            (_, Stdin::Null) => OutputOnly,
            _ if begins_with_it && is_on_stdin => Foreground,
            (_, Stdin::Auto) if !is_on_stdin => OutputOnly,
            _ => Background,
        };
        let takes_none = matches!(wanted, Foreground | Copied) || run.stdin == Stdin::Null;
        self.seat.heir = (begins_with_it && !takes_none).then_some(proc);
        if wanted == Foreground {
            self.seat.stop_keys();
            self.seat.is_for_apps = true;
            self.seat.owner = Some(proc);
            if let Some(terminal) = &mut self.seat.terminal {
                terminal.is_being_taken();
            }
        }
        if matches!(wanted, Background | OutputOnly) {
            self.show_modes_of_the_shell_for_a_while();
        }
        wanted
    }

    /// Restores the shell's modes for a while: a program may read the modes at its start, to
    /// restore them later.
    fn show_modes_of_the_shell_for_a_while(&mut self) {
        let Some(terminal) = self.seat.terminal.as_ref().filter(|one| one.reads_keys()) else {
            return;
        };
        terminal.show_modes_of_the_shell();
        let inbox = self.sender.clone();
        let beginning = spawn_local(async move {
            tokio::time::sleep(STARTUP_TIMEOUT).await;
            inbox.send(FromEngine::HasBegun);
        });
        if let Some(earlier) = self.seat.beginning.replace(beginning) {
            earlier.abort();
        }
    }

    /// Reads keys again: the program that started is ready, or has had its time.
    pub(super) fn has_begun(&mut self) {
        if let Some(beginning) = self.seat.beginning.take() {
            beginning.abort();
            self.read_keys();
        }
    }

    /// Completes the transfer of the terminal to a process that has a pid now.
    pub(super) fn terminal_was_taken(&mut self, proc: Proc, group: Pid) {
        if self.seat.heir == Some(proc) {
            self.seat.heir = None;
            self.give_terminal(proc);
            return;
        }
        let Some(terminal) = self.seat.terminal.as_mut().filter(|_| self.seat.owner == Some(proc))
        else {
            return;
        };
        if terminal.is_with_another_than(group) {
            // The command of the same build that wanted it has exited.
            terminal.take_back();
            self.seat.owner = None;
            self.seat.stop_keys();
            self.give_back_or_read_keys(false);
        } else {
            terminal.was_taken_by(group);
            self.watch_terminal();
        }
    }

    /// Handles a command that was stopped and cannot continue by itself.
    pub(super) fn stopped(&mut self, proc: Proc, signal: Signal) {
        match signal {
            // An app waits until the build that asks for input has ended.
            Signal::SIGTTIN | Signal::SIGTTOU if self.has_lent_the_terminal(proc) => {
                self.lend_terminal();
            }
            // During a handover, the new app waits until the old one, which has the terminal, is
            // stopped.
            Signal::SIGTTIN | Signal::SIGTTOU if self.is_an_olders(proc) => {
                self.say(Notice::TerminalKept(proc));
            }
            Signal::SIGTTIN | Signal::SIGTTOU => self.give_terminal(proc),
            // Ctrl-Z was typed while the app had the terminal. It is meant for the whole job:
            // hotrun's process group, which may contain other processes of the shell's job. (A
            // program that handles SIGTSTP then stops itself by SIGSTOP.)
            Signal::SIGTSTP | Signal::SIGSTOP
                if self.seat.owner == Some(proc) && !self.seat.is_stopping =>
            {
                if let Some(terminal) = &mut self.seat.terminal {
                    terminal.leave();
                }
                let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
            }
            // No terminal key sends SIGSTOP.
            Signal::SIGSTOP if self.table.role(proc) == Some(Role::Build) => {
                self.say(Problem::BuildStopped { pid: self.table.pid(proc) });
            }
            _ => {}
        }
    }

    /// Whether a build has the terminal, or waits for it.
    pub(super) fn is_terminal_lent(&self) -> bool {
        self.seat.borrower.is_some() || self.seat.waiting.is_some() || self.seat.owner.is_some()
    }

    fn give_terminal(&mut self, proc: Proc) {
        self.show_output(proc);
        let Some(terminal) = &mut self.seat.terminal else { return };
        terminal.look_who_has_it();
        if terminal.is_elsewhere() {
            self.seat.waiting = Some(proc);
            self.say(Notice::TerminalWanted(proc));
            self.look_at_terminal();
            return;
        }
        let is_news = self.seat.owner != Some(proc);
        if let Some(owner) = self.seat.owner.filter(|_| is_news && self.seat.borrower.is_none()) {
            // A process that is already reading gets the next input, even in the background: the
            // kernel checks only when a read starts.
            self.seat.borrower = Some(Borrower { proc, since: Instant::now() });
            self.processes.pass(owner, Signal::SIGTTIN);
            self.look_at_terminal();
            return;
        }
        self.seat.borrower = None;
        self.seat.stop_keys();
        self.seat.waiting = None;
        self.seat.owner = Some(proc);
        self.seat.is_for_apps |= self.table.is_app(proc);
        let group = self.table.pid(proc);
        if let (Some(group), Some(terminal)) = (group, &mut self.seat.terminal) {
            terminal.hand_over(Pid::from_raw(group));
        }
        self.watch_terminal();
        if !is_news {
            self.processes.resume_one(proc);
            return;
        }
        self.say(Notice::TerminalGiven(proc));
        // The program may draw on the full screen as soon as it continues.
        let (console, inbox) = (self.report.console().clone(), self.sender.clone());
        spawn_local(async move {
            console.flush(ANNOUNCEMENT).await;
            inbox.send(FromEngine::TerminalAnnounced(proc));
        });
    }

    /// Whether another app has the terminal and is not being stopped.
    fn is_an_olders(&self, proc: Proc) -> bool {
        let Some(owner) = self.seat.owner.filter(|owner| *owner != proc) else { return false };
        let are_apps = [owner, proc].iter().all(|one| self.table.is_app(*one));
        are_apps && !self.table.is_dismissed(owner)
    }

    /// Whether this is an app, and a build has the terminal.
    fn has_lent_the_terminal(&self, proc: Proc) -> bool {
        let is_app = |proc: &Proc| self.table.is_app(*proc);
        let borrower = self.seat.borrower.map(|borrower| borrower.proc);
        let another = borrower.or(self.seat.owner);
        is_app(&proc) && another.is_some_and(|another| !is_app(&another))
    }

    /// Watches how an app that has received the terminal uses it.
    fn watch_terminal(&mut self) {
        let descriptor = self.seat.terminal.as_ref().map(Terminal::descriptor);
        if let Some(Ok(descriptor)) = descriptor {
            self.seat.use_told =
                keys::tell_of_use(&descriptor, self.sender.inbox(Message::Terminal)).ok();
        }
        self.look_at_terminal();
    }

    /// Polls the terminal. The new owner may have saved the modes in which keys are read, and a
    /// process that waits for the terminal waits for hotrun to be in the foreground. The system
    /// reports neither.
    fn look_at_terminal(&mut self) {
        if let Some(older) = self.seat.looks.take() {
            older.abort();
        }
        let inbox = self.sender.clone();
        let ends = self.seat.use_told.is_some() && self.seat.waiting.is_none();
        self.seat.looks = Some(spawn_local(async move {
            let mut pause = LOOK_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                if !inbox.send(FromEngine::LookAtTerminal) || (ends && pause == LOOK_LAST) {
                    return;
                }
                pause = (pause * 2).min(LOOK_LAST);
            }
        }));
    }

    fn lend_terminal(&mut self) {
        if let Some(borrower) = self.seat.borrower {
            self.give_terminal(borrower.proc);
        }
    }

    /// Whether an app draws on the full screen, which another line would disturb.
    pub(super) fn is_a_screen_shown(&self) -> bool {
        self.seat.terminal.as_ref().is_some_and(Terminal::is_a_screen)
    }

    /// Corrects modes that are not the shell's, and releases held lines, after an app may have
    /// restored other modes or left the full screen.
    fn mend_terminal(&mut self) {
        self.report.console().release();
        if let Some(terminal) = self.seat.terminal.as_ref().filter(|one| one.is_an_apps()) {
            terminal.mend();
        }
    }

    /// Holds back lines of hotrun and of builds while an app draws on the full screen.
    pub(super) fn hold_lines(&self) {
        let is_an_apps = self.seat.terminal.as_ref().is_some_and(Terminal::is_an_apps);
        self.report.console().hold(is_an_apps);
    }

    /// Schedules the release of lines that are held until a program leaves the full screen.
    pub(super) fn release_lines_soon(&self) {
        if self.report.console().is_about_to_release() {
            let inbox = self.sender.clone();
            spawn_local(async move {
                tokio::time::sleep(LEAVES_SCREEN).await;
                inbox.send(FromEngine::LookAtTerminal);
            });
        }
    }

    /// Detects that hotrun is in the foreground again: a shell does not notify a job that was
    /// running.
    pub(super) fn notice_foreground(&mut self) {
        if self.seat.terminal.as_ref().is_some_and(Terminal::has_come_to_the_foreground) {
            self.continued();
        }
    }

    /// Returns the terminal to hotrun when a process has exited, in the state in which it was
    /// found. Returns the event that follows, if the process had the terminal.
    pub(super) fn terminal_is_free(&mut self, proc: Proc, ended: &Ended) -> Option<Event> {
        let is_app = self.table.is_app(proc);
        let had_it = self.seat.owner == Some(proc);
        self.seat.waiting.take_if(|waiting| *waiting == proc);
        self.seat.borrower.take_if(|borrower| borrower.proc == proc);
        let terminal = self.seat.terminal.as_mut().filter(|_| is_app || had_it)?;
        let is_closed = had_it && terminal.is_closed();
        let mut is_changed = false;
        if had_it {
            is_changed = terminal.take_back();
        } else if terminal.is_elsewhere() {
            // The app may have restored the modes that it found, though the modes are the shell's
            // now.
            terminal.mend();
        } else if terminal.reads_keys() {
            terminal.read_keys();
        }
        if is_app {
            let codes = Terminal::screen_reset(is_changed);
            self.report.console().write(Stream::Stdout, codes);
        }
        if !had_it {
            return None;
        }
        self.seat.owner = None;
        self.seat.stop_keys();
        let was_dismissed = self.table.is_dismissed(proc);
        // Between one app and the next, input is kept. If no app follows, hotrun reads it.
        let nothing_comes = is_app && !was_dismissed && !self.is_building();
        self.give_back_or_read_keys(nothing_comes);
        let is_asked = if is_closed { !is_ignored(Signal::SIGHUP) } else { was_typed(ended) };
        (is_app && is_asked && !was_dismissed).then_some(Event::Interrupted)
    }

    /// Returns the terminal to the app that had it before a build asked for a password.
    fn give_back_or_read_keys(&mut self, nothing_comes: bool) {
        let lives = |app: &Entry| app.is_alive() && !app.is_dismissed();
        let app = self.table.apps().find(|(_, app)| lives(app)).map(|(proc, _)| proc);
        let app = app.filter(|_| self.seat.is_for_apps);
        match app {
            Some(app) => self.give_terminal(app),
            None if nothing_comes || !self.is_for_app() => self.read_keys(),
            None => {}
        }
    }

    /// Handles Ctrl-Z: stops all processes, and leaves the terminal to the shell.
    fn suspend(&mut self) {
        if std::mem::replace(&mut self.seat.is_stopping, true) {
            return;
        }
        self.report.console().erase_for_now();
        self.seat.stop_keys();
        if let Some(terminal) = &mut self.seat.terminal {
            terminal.leave();
        }
        self.processes.suspend();
        self.seat.stopped_at = Some(Instant::now());
        let inbox = self.sender.clone();
        spawn_local(async move {
            tokio::time::sleep(BEFORE_STOP).await;
            process::stop_here();
            // Also sent if the kernel did not stop hotrun. The inbox closes when hotrun exits.
            inbox.send(FromEngine::TerminalContinued);
        });
    }

    /// Handles `fg` or `bg`: all processes continue, and the previous owner gets the terminal back
    /// if it is free.
    pub(super) fn continued(&mut self) {
        self.seat.is_stopping = false;
        if let Some(time) = self.seat.stopped_at.take().map(|at| at.elapsed()) {
            self.table.probes().for_each(|probe| probe.was_stopped(time));
        }
        let Some(terminal) = &mut self.seat.terminal else {
            self.processes.resume();
            return;
        };
        terminal.look_who_has_it();
        let (is_free, is_an_apps) = (terminal.is_hotruns(), terminal.is_an_apps());
        let heir = self.seat.waiting.take().or(self.seat.owner);
        self.processes.resume();
        if is_an_apps {
            return;
        }
        self.seat.stop_keys();
        match heir {
            Some(heir) if is_free => self.give_terminal(heir),
            Some(heir) => {
                // A process that is already reading would get the first input that is meant for the
                // shell.
                self.processes.pass(heir, Signal::SIGTTIN);
                self.seat.waiting = Some(heir);
                self.look_at_terminal();
            }
            None if is_free && !self.is_for_app() => self.read_keys(),
            None if is_free => {}
            None => self.look_at_terminal(),
        }
    }

    /// Handles what is reported of the terminal.
    pub(super) fn heard_of_terminal(&mut self, report: FromTerminal) -> Vec<Event> {
        match report {
            FromTerminal::Typed { key, shown } => return self.typed(key, shown),
            // A hotrun started by `nohup` ignores SIGHUP.
            FromTerminal::Closed if is_ignored(Signal::SIGHUP) => {}
            FromTerminal::Closed => return vec![Event::Interrupted],
            FromTerminal::Used => self.mend_terminal(),
        }
        Vec::new()
    }

    /// Handles a signal to hotrun.
    pub(super) fn heard_signal(&mut self, signal: FromSignal) -> Vec<Event> {
        match signal {
            FromSignal::Interrupted => return vec![Event::Interrupted],
            FromSignal::CtrlC => {
                self.has_heard_ctrl_c = self.seat.terminal.is_some();
                return vec![Event::Interrupted];
            }
            FromSignal::ForApp(signal) => return self.ordered(Order::Signal(signal)),
            FromSignal::Suspend => self.suspend(),
            FromSignal::Continued => self.continued(),
            FromSignal::Resized => self.processes.resized(),
        }
        Vec::new()
    }

    pub(super) fn look_at_terminal_again(&mut self) {
        // The app may ignore SIGTTIN.
        let borrower = self.seat.borrower;
        if borrower.is_some_and(|borrower| borrower.since.elapsed() >= STOP_READING_TIMEOUT) {
            self.lend_terminal();
        }
        self.mend_terminal();
    }

    /// Continues a stopped process: the line that reports that it has the terminal is written.
    pub(super) fn terminal_was_announced(&self, proc: Proc) {
        if self.seat.owner == Some(proc) && !self.seat.is_stopping {
            self.processes.resume_one(proc);
        }
    }

    fn typed(&mut self, key: Option<Key>, shown: usize) -> Vec<Event> {
        if !self.seat.terminal.as_ref().is_some_and(Terminal::reads_keys) {
            return Vec::new();
        }
        self.report.erase(shown);
        let Some(key) = key else { return Vec::new() };
        match key {
            Key::Rebuild => {
                self.publisher.begin_update();
                vec![Input::Saved(Cause::Order).into()]
            }
            Key::Restart => self.ordered(Order::Restart),
            Key::Rollback => self.ordered(Order::Rollback),
            Key::Pause => self.ordered(Order::PauseOrResume),
            Key::Quit => vec![Event::Interrupted],
            Key::Clear => {
                self.report.clear_screen();
                Vec::new()
            }
            Key::Help => {
                self.report.keys(keys::HELP.iter().map(|(_, key, does)| (*key, *does)));
                Vec::new()
            }
        }
    }

    /// Restores the terminal to the state in which it was found.
    pub(super) fn leave_terminal(&mut self) {
        self.introduce(None);
        self.seat.stop_keys();
        self.seat.terminal = None;
        self.report.console().hold(false);
        self.report.restore_title();
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
