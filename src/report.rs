//! Prints notices as lines, one for each thing that happened. They go to stderr, since stdout
//! belongs to the app.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::{Clear, Color, Talk};
use crate::diagnostics::Diagnostics;
use crate::error::Error;
use crate::event::{Cause, Ended, Holder, Next, Notice, Proc, Remedy, Whose, name_paths};
use crate::text::shown;

pub(crate) mod console;
mod layout;
mod screen;
mod serving;
mod writers;

pub(crate) use layout::wants_color;
pub(crate) use serving::time_of_day;

use console::{Console, Stream};
use layout::{duration, name_processes, short};
use screen::Screen;

/// The topic of a line, in air's categories.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Watcher,
    Build,
    Runner,
}

/// The severity of a line, which determines its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Work,
    Good,
    Warn,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "2",
            Tone::Work => "36",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
        }
    }

    /// Returns true for a line that is printed even with `-q`.
    fn is_urgent(self) -> bool {
        matches!(self, Tone::Warn | Tone::Bad)
    }
}

/// What is known of a started process.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub pid: Option<i32>,
    pub began: Instant,
    /// When it was asked to stop.
    pub dismissed: Option<Instant>,
    /// When its first process exited.
    pub ended: Option<Instant>,
    /// Its grace period, and the name of the signal that stops it.
    pub grace: Option<(Duration, String)>,
    /// Its address, once it is ready and if that is known.
    pub address: Option<SocketAddr>,
    /// Whether it was reported as running.
    pub is_running: bool,
    /// Whether its output passes through hotrun.
    pub is_read: bool,
    /// The ports, if known, that it reported to be in use.
    pub taken: Option<BTreeSet<u16>>,
    /// Why it was not ready in time.
    pub unready: Option<String>,
    /// Whether it asked for more time to stop, and was granted it.
    pub extended: bool,
    /// The last signal that a rule has sent to it.
    pub signalled: Option<Signal>,
    /// The purpose of a build.
    pub purpose: Purpose,
    /// Whether it is the program.
    pub is_app: bool,
    /// Whether its output is withheld, and was not printed since.
    pub is_withheld: bool,
    /// The command line of the program, as shown to the user.
    pub label: String,
    /// The errors and warnings of a failed build.
    pub diagnostics: Diagnostics,
}

/// The purpose of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It builds the program.
    #[default]
    Program,
    /// It checks a library; there is no program to run.
    Library,
    /// It checks the syntax of sources that are run directly. Only errors are reported.
    Syntax,
}

impl Facts {
    /// Returns the facts of a process that starts now.
    pub(crate) fn now() -> Self {
        Self {
            pid: None,
            began: Instant::now(),
            dismissed: None,
            ended: None,
            grace: None,
            address: None,
            is_running: false,
            is_read: false,
            taken: None,
            unready: None,
            extended: false,
            signalled: None,
            purpose: Purpose::default(),
            is_app: false,
            is_withheld: false,
            label: String::new(),
            diagnostics: Diagnostics::default(),
        }
    }
}

/// Prints notices.
pub(crate) struct Report {
    quiet: bool,
    /// The value of `--color`.
    chosen_color: Option<Color>,
    color: bool,
    talk: Talk,
    base: PathBuf,
    console: Console,
    screen: Screen,
    /// Whether a running build may have left a progress bar on the current line of the terminal.
    may_show_bar: Cell<bool>,
    /// The line that introduces hotrun, until it is printed: what precedes and what follows the
    /// number of watched files.
    greeting: RefCell<Option<(String, String)>>,
    /// Whether only builds are configured, and no program.
    pub runs_nothing: bool,
    /// What is known of the processes that lines are about.
    pub facts: HashMap<Proc, Facts>,
}

impl Report {
    /// Paths are printed relative to `base`. `chosen_color` overrides the configuration.
    pub(crate) fn new(
        quiet: bool,
        chosen_color: Option<Color>,
        talk: &Talk,
        base: PathBuf,
        console: Console,
    ) -> Self {
        let mut report = Self {
            quiet,
            chosen_color,
            color: false,
            talk: talk.clone(),
            base,
            console,
            screen: Screen::default(),
            may_show_bar: Cell::new(false),
            greeting: RefCell::new(None),
            runs_nothing: false,
            facts: HashMap::new(),
        };
        report.configure(talk);
        report
    }

    /// Applies another configuration.
    pub(crate) fn configure(&mut self, talk: &Talk) {
        self.talk = talk.clone();
        self.color = wants_color(self.chosen_color.or(talk.color).unwrap_or_default());
    }

    /// Returns the console that lines are printed on.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// Prints the configured banner.
    pub(crate) fn banner(&self, text: &str) {
        if !self.is_silent() {
            self.write(&format!("{text}\n"));
        }
    }

    /// Prints a fatal error.
    pub(crate) fn error(error: &Error) {
        write_at_once(&shown(&format!("hotrun: {error}\n")));
    }

    /// Prints a note about the command line, before hotrun starts.
    pub(crate) fn note(text: &str) {
        write_at_once(&shown(&format!("hotrun: {text}\n")));
    }

    /// Prints the list of keys.
    pub(crate) fn keys(&self, keys: impl Iterator<Item = (char, &'static str)>) {
        for (key, does) in keys {
            self.write(&format!("  {key}  {does}\n"));
        }
    }

    /// Clears the screen, as the key `c` does.
    pub(crate) fn clear_screen(&self) {
        self.write("\u{1b}[H\u{1b}[2J");
    }

    /// Erases typed characters from the screen.
    pub(crate) fn erase(&self, places: usize) {
        self.write(&"\u{8} \u{8}".repeat(places));
    }

    /// Prints that a command starts.
    pub(crate) fn running(&self, word: &str, command: &str) {
        let first = command.lines().next().unwrap_or_default();
        let more = if command.lines().count() > 1 { " …" } else { "" };
        self.line(Part::Build, Tone::Work, word, &format!("{first}{more}"));
        self.may_show_bar.set(!self.talk.compact);
    }

    /// Prints that a command failed without failing the build.
    pub(crate) fn tolerated(&self, command: &str, ended: &Ended) {
        let text = format!("{command}: {ended}; the build continues");
        self.line(Part::Main, Tone::Warn, "warning", &text);
    }

    /// Prints the line for a notice.
    pub(crate) fn say(&self, notice: &Notice) {
        self.forget_bar(notice);
        self.show_state(notice);
        match notice {
            Notice::Changed(cause) => self.changed(cause),
            // The reasons for these are known only to the engine.
            Notice::Building(_) | Notice::NoRollback(_) => {}
            Notice::Built(_) | Notice::SameProgram(_) | Notice::BuildFailed { .. } => {
                self.about_build(notice);
            }
            Notice::Finishing(_)
            | Notice::Outputs(_)
            | Notice::Late(..)
            | Notice::OwnWrites(_)
            | Notice::ChangesInBuilds(..)
            | Notice::Testing(..) => self.about_writers(notice),
            Notice::RulesDone(rules) => {
                self.line(Part::Build, Tone::Good, "done", &format!("in {}", self.took(*rules)));
            }
            Notice::RulesFailed { rules, ended, app } => {
                let text =
                    format!("rule: {ended}, after {}; {}", self.took(*rules), self.serving(*app));
                self.line(Part::Build, Tone::Bad, "failed", &text);
            }
            Notice::Overtaken(count) => {
                let text = format!("{count} builds in a row were cancelled by newer saves");
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::Stopped(app) => self.stopped(*app),
            Notice::Killing(proc) => self.killing(*proc),
            Notice::Holding { .. }
            | Notice::Unkillable(_)
            | Notice::TerminalGiven(_)
            | Notice::TerminalWanted(_)
            | Notice::TerminalKept(_)
            | Notice::Swept(_)
            | Notice::CrashLoop(..)
            | Notice::PortHeld(_)
            | Notice::EndlessBuild { .. } => self.about_others(notice),
            Notice::Started(app) => self.started(*app),
            Notice::Ready(_)
            | Notice::Running(_)
            | Notice::Unready { .. }
            | Notice::Assumed(_)
            | Notice::Status(..)
            | Notice::AppStopping(_)
            | Notice::Succeeded(..)
            | Notice::Extended { .. }
            | Notice::RollbackPossible
            | Notice::NewestAgain
            | Notice::NothingBuilt
            | Notice::TakenOver(_)
            | Notice::Reading(_)
            | Notice::Guessed(_)
            | Notice::TooManyLeave(_)
            | Notice::Kept(_)
            | Notice::RolledBack(_)
            | Notice::Listening { .. }
            | Notice::ListenerShut(..)
            | Notice::MayHaveBound { .. }
            | Notice::PassedOnByNobody(_)
            | Notice::BoundBeside(..)
            | Notice::NobodyAccepts(..)
            | Notice::PortNeedsHandover(..) => self.about_serving(notice),
            Notice::AppEnded { app, ended, serving, next } => {
                self.app_ended(*app, ended, *serving, *next);
            }
            Notice::HookFailed(ended) => {
                self.line(Part::Main, Tone::Warn, "warning", &format!("post_cmd: {ended}"));
            }
            Notice::Ending => {
                self.cover_echo();
                self.line(Part::Main, Tone::Plain, "stopping", "press Ctrl-C again to kill");
            }
            Notice::Forcing => {
                self.cover_echo();
                self.line(Part::Main, Tone::Warn, "killing", "all remaining processes");
            }
            Notice::Paused => {
                let text = "changes are built when you resume (p)";
                self.line(Part::Main, Tone::Plain, "paused", text);
            }
            Notice::Resumed => self.line(Part::Main, Tone::Plain, "resumed", ""),
            Notice::Signalled(..) | Notice::NobodyToSignal(_) => self.signalled(notice),
            Notice::Unchanged(paths) => {
                let names = name_paths(paths, &self.base);
                self.line(Part::Watcher, Tone::Plain, "unchanged", &names);
            }
            Notice::ForBrowser { paths, css } => {
                let what = if *css { "the style sheets" } else { "the page" };
                let names = name_paths(paths, &self.base);
                let text =
                    format!("{names}; reload {what} in the browser (hotrun has no proxy yet)");
                self.line(Part::Watcher, Tone::Plain, "changed", &text);
            }
            Notice::Warning(text) => self.line(Part::Main, Tone::Warn, "warning", text),
        }
    }

    /// Prints the next line over the `^C` that the terminal has just echoed at the start of its line.
    fn cover_echo(&self) {
        if std::io::stderr().is_terminal() {
            self.write("\r");
        }
    }

    /// Once a command has exited, its last line stays, even without a line feed: it is no bar.
    fn forget_bar(&self, notice: &Notice) {
        if let Notice::Built(_)
        | Notice::SameProgram(_)
        | Notice::BuildFailed { .. }
        | Notice::RulesDone(_)
        | Notice::RulesFailed { .. } = notice
        {
            self.may_show_bar.set(false);
        }
    }

    /// Prints that a program starts. With pids, it is called when the pid is known.
    fn started(&self, app: Proc) {
        let text = if self.talk.pids {
            self.name(app)
        } else {
            self.facts.get(&app).map_or_else(String::new, |facts| facts.label.clone())
        };
        self.line(Part::Runner, Tone::Work, "started", &text);
    }

    /// Reports that a build was cancelled by a newer save.
    pub(crate) fn cancelled(&self, build: Proc) {
        let text = format!("after {}", self.took(build));
        self.line(Part::Build, Tone::Plain, "cancelled", &text);
    }

    /// Prints the result of a build.
    fn about_build(&self, notice: &Notice) {
        match notice {
            Notice::Built(build) => {
                let word = match self.purpose(*build) {
                    Purpose::Program => "built",
                    Purpose::Library => "checked",
                    Purpose::Syntax => return,
                };
                self.line(Part::Build, Tone::Good, word, &format!("in {}", self.took(*build)));
            }
            Notice::SameProgram(build) => {
                let text = format!("the program is the same, built in {}", self.took(*build));
                self.line(Part::Build, Tone::Good, "unchanged", &text);
            }
            Notice::BuildFailed { build, ended, app } => self.build_failed(*build, ended, *app),
            _ => {}
        }
    }

    /// Prints the errors and the place of the first one, or else how the command exited.
    fn build_failed(&self, build: Proc, ended: &Ended, app: Option<Proc>) {
        let (what, follows) = match self.purpose(build) {
            Purpose::Program => ("", self.serving(app)),
            Purpose::Library => ("", "waiting for a save".to_owned()),
            Purpose::Syntax => ("syntax check: ", self.serving(app)),
        };
        let after = format!("after {}; {follows}", self.took(build));
        let found = self.facts.get(&build).map(|facts| &facts.diagnostics);
        let text = match found.filter(|found| found.errors > 0) {
            Some(found) => {
                let place = found.first.as_ref().map(|place| place.relative(&self.base));
                let place = place.map(|place| format!("{place} · ")).unwrap_or_default();
                format!("{what}{found} · {place}{after}")
            }
            None => format!("{what}{ended}, {after}"),
        };
        self.line(Part::Build, Tone::Bad, "failed", &text);
    }

    /// Returns the purpose of a build.
    pub(crate) fn purpose(&self, build: Proc) -> Purpose {
        self.facts.get(&build).map(|facts| facts.purpose).unwrap_or_default()
    }

    /// Prints lines about processes that hotrun waits for, or that hold what the program needs.
    fn about_others(&self, notice: &Notice) {
        match notice {
            Notice::Holding { who, signal, kill_in, key } => {
                let then = kill_in.map(|left| format!("; killed in {} ({key})", duration(left)));
                let have = if who.len() == 1 { "has" } else { "have" };
                let (who, then) = (name_processes(who), then.unwrap_or_default());
                let text = format!("for {who}, which {have} not exited 1 s after {signal}{then}");
                self.line(Part::Runner, Tone::Warn, "waiting", &text);
            }
            Notice::Unkillable(who) => {
                let why = "it is waiting for a device, or belongs to another user";
                let text = format!("for {}, which survives SIGKILL: {why}", name_processes(who));
                self.line(Part::Runner, Tone::Bad, "waiting", &text);
            }
            Notice::TerminalGiven(proc) => {
                if std::io::stderr().is_terminal() {
                    // The prompt of the program stays on its line.
                    self.write("\n");
                    self.may_show_bar.set(false);
                }
                let text = format!("given to {}; hotrun's keys are off", self.name(*proc));
                self.line(Part::Main, Tone::Plain, "terminal", &text);
            }
            Notice::TerminalWanted(proc) => {
                let name = self.name(*proc);
                let text = format!("{name} is waiting for it: bring hotrun to the foreground (fg)");
                self.line(Part::Main, Tone::Warn, "terminal", &text);
            }
            Notice::TerminalKept(proc) => {
                let name = self.name(*proc);
                let text = format!("{name} is waiting for it until the previous program exits");
                self.line(Part::Main, Tone::Warn, "terminal", &text);
            }
            Notice::Swept(who) => {
                let text =
                    format!("{}, left behind by a hotrun that was killed", name_processes(who));
                self.line(Part::Main, Tone::Warn, "killed", &text);
            }
            Notice::CrashLoop(times, pause) => {
                let text = format!(
                    "the program has exited {times} times in a row soon after its start; it is \
                     restarted {} after each exit, and at once when you save",
                    duration(*pause)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::PortHeld(holder) => self.port_held(holder),
            Notice::EndlessBuild { build, port, remedy } => {
                let text = format!(
                    "the build is still running{}: it listens on port {port}, so hotrun treats it \
                     as the program. To build first, while the previous program keeps serving, \
                     write\n{remedy}",
                    self.pid(*build)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            _ => {}
        }
    }

    fn port_held(&self, holder: &Holder) {
        let (who, then) = who_holds(holder);
        let text = format!("{} is held by {who}; {then}", holder.port);
        self.line(Part::Main, Tone::Warn, "port", &text);
    }

    fn signalled(&self, notice: &Notice) {
        if let Notice::Signalled(app, signal) = notice {
            let text = format!("{} {signal}", self.name(*app));
            self.line(Part::Runner, Tone::Good, "signalled", &text);
        } else if let Notice::NobodyToSignal(signal) = notice {
            let text = format!("no program is running to send {signal} to");
            self.line(Part::Main, Tone::Warn, "note", &text);
        }
    }

    fn changed(&self, cause: &Cause) {
        if *cause != Cause::Start {
            self.clear();
        }
        match cause {
            Cause::Start => {}
            Cause::Save(paths) => {
                let names = name_paths(paths, &self.base);
                self.first_line(Part::Watcher, Tone::Plain, "changed", &names);
            }
            Cause::Written(paths) => {
                let names = name_paths(paths, &self.base);
                let text = format!("{names} during the build; built once more to be sure");
                self.line(Part::Watcher, Tone::Plain, "written", &text);
            }
            Cause::Config => {
                self.first_line(Part::Watcher, Tone::Plain, "changed", "the configuration");
            }
            Cause::Order => self.first_line(Part::Watcher, Tone::Plain, "rebuild", "requested"),
        }
    }

    fn stopped(&self, app: Proc) {
        let Some(facts) = self.facts.get(&app) else { return };
        let (Some(dismissed), Some(ended)) = (facts.dismissed, facts.ended) else { return };
        // The exit of a program that exited by itself was reported then; only its leftovers were
        // stopped.
        if ended < dismissed {
            return;
        }
        let took = duration(dismissed.elapsed());
        self.line(Part::Runner, Tone::Plain, "stopped", &format!("{} ({took})", self.name(app)));
    }

    fn killing(&self, proc: Proc) {
        let name = self.name(proc);
        let facts = self.facts.get(&proc);
        let dismissed = facts.and_then(|facts| facts.dismissed).map(|at| at.elapsed());
        let text = match facts.and_then(|facts| facts.grace.as_ref()) {
            Some(_) if facts.is_some_and(|facts| facts.extended) => {
                format!("{name}: it did not exit within the time that it had asked for")
            }
            Some((grace, signal)) => {
                // A newer save may have made it shorter.
                let took = dismissed.filter(|took| took < grace).unwrap_or(*grace);
                format!("{name}: it did not exit within {} of {signal}", duration(took))
            }
            None => format!("{name}: it took too long"),
        };
        self.line(Part::Runner, Tone::Warn, "killing", &text);
    }

    fn app_ended(&self, app: Proc, ended: &Ended, serving: Option<Proc>, next: Next) {
        let follows = match (serving, next) {
            (Some(_), _) => self.serving(serving),
            (None, Next::Wait) => "waiting for a save".to_owned(),
            (None, Next::Build) => "waiting for the running build".to_owned(),
            (None, Next::Restart) => "restarting".to_owned(),
            (None, Next::Rollback) => "starting the last good build".to_owned(),
            (None, Next::Quit) => "exiting".to_owned(),
        };
        let (tone, word) = match ended {
            Ended::Code(0) => (Tone::Plain, "exited"),
            Ended::NotStarted(_) => (Tone::Bad, "failed"),
            _ => (Tone::Bad, "crashed"),
        };
        let name = match ended {
            Ended::NotStarted(_) => "to start: ".to_owned(),
            _ if self.talk.pids => format!("{}: ", self.name(app)),
            _ => String::new(),
        };
        let signalled = self.facts.get(&app).and_then(|facts| facts.signalled);
        let sender = match (ended, signalled) {
            (Ended::Signal { number, .. }, Some(signal)) if *number == signal as i32 => {
                ", which a rule has sent (action = \"signal\"), and which it does not handle"
            }
            _ => "",
        };
        self.line(Part::Runner, tone, word, &format!("{name}{ended}{sender}; {follows}"));
    }

    fn serving(&self, app: Option<Proc>) -> String {
        match app {
            Some(app) => format!("{} keeps running", self.name(app)),
            None => "nothing is running".to_owned(),
        }
    }

    /// Returns the name of a process for a line.
    fn name(&self, proc: Proc) -> String {
        let Some(facts) = self.facts.get(&proc) else { return "a process".to_owned() };
        match facts.pid {
            Some(pid) if self.talk.pids => format!("pid {pid}"),
            None if self.talk.pids => "a process that never started".to_owned(),
            _ if !facts.is_app => "the build".to_owned(),
            _ => self.name_of_app(facts),
        }
    }

    /// ` (pid 5)` if lines name processes by their pids.
    fn pid(&self, proc: Proc) -> String {
        let pid = self.facts.get(&proc).and_then(|facts| facts.pid).filter(|_| self.talk.pids);
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    }

    /// Returns the name of the program, and which one it is while there are two.
    fn name_of_app(&self, facts: &Facts) -> String {
        let is_alive = |one: &&Facts| one.is_app && one.ended.is_none() && one.pid.is_some();
        let others = self.facts.values().filter(is_alive).map(|one| one.began);
        let (mut is_older, mut is_newer) = (false, false);
        for began in others {
            is_older |= facts.began < began;
            is_newer |= facts.began > began;
        }
        let which = match (is_older, is_newer) {
            (true, _) => "the previous program",
            (false, true) => "the new program",
            (false, false) => "the program",
        };
        which.to_owned()
    }

    fn took(&self, proc: Proc) -> String {
        self.facts.get(&proc).map_or_else(String::new, |facts| duration(facts.began.elapsed()))
    }

    /// Clears the screen before a build or a restart, if that is configured. Not in a pipe.
    fn clear(&self) {
        // Moves home, clears the screen, then the scrollback.
        let codes = match self.talk.clear {
            Clear::Never => return,
            Clear::Screen => "\u{1b}[H\u{1b}[2J",
            Clear::Scrollback => "\u{1b}[H\u{1b}[2J\u{1b}[3J",
        };
        if std::io::stderr().is_terminal() {
            self.write(codes);
            self.screen.cleared();
        }
    }

    /// Prints an error at its place among the other lines.
    pub(crate) fn error_in_order(&self, error: &Error) {
        self.print_greeting(None);
        self.write(&shown(&format!("hotrun: {error}\n")));
    }

    /// Writes a line in one piece, so that output of the program does not get between.
    fn write(&self, text: &str) {
        self.console.say(Stream::Stderr, text.as_bytes());
    }
}

/// Ignores errors: a closed stderr is not a failure.
fn write_at_once(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Returns a description of the process that holds a port, and what was, or can be, done about it.
pub(crate) fn who_holds(holder: &Holder) -> (String, &'static str) {
    let since = holder.age.map(|age| format!(", for {}", duration(age))).unwrap_or_default();
    let whose = match holder.whose {
        Whose::DeadHotruns => ", left behind by a hotrun that was killed",
        Whose::AnotherHotruns => ", started by another running hotrun",
        Whose::Strangers => "",
    };
    let then = match holder.remedy {
        Remedy::Ended => "it was stopped (--free-port)",
        Remedy::Possible => "stop it, or have hotrun stop it: hotrun --free-port",
        Remedy::NotOurs => {
            "--free-port leaves it alone: it belongs to another project or to another user"
        }
        Remedy::Spared => {
            "it may keep running (spare), and has inherited the socket: close it, or use another \
             port"
        }
        Remedy::NotPossible => "it could not be stopped",
        Remedy::None => "stop it, or use another port",
    };
    let who = name_processes(&[(holder.pid, holder.command.clone())]);
    (format!("{who}{since}{whose}"), then)
}
