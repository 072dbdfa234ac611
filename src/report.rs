//! Notices, as lines on the terminal: one for each thing that happened, to stderr, since
//! stdout belongs to the app.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::{Clear, Color, Loudness, Talk};
use crate::error::Error;
use crate::event::{Cause, Ended, Holder, Next, Notice, Proc, Remedy, Whose, name_paths};
use crate::text::shown;

/// What others have chosen is cut after so many characters.
const MOST_SHOWN: usize = 60;

fn is_on(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

pub mod console;
mod serving;
mod writers;

pub use serving::time_of_day;

use console::{Console, Stream};

/// What a line is about (in air's words).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Watcher,
    Build,
    Runner,
}

/// The meaning of a line, as a colour.
#[derive(Clone, Copy)]
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
            Tone::Bad => "31",
        }
    }

    /// Said even with `-q`.
    fn is_urgent(self) -> bool {
        matches!(self, Tone::Warn | Tone::Bad)
    }
}

/// What is known of something that was started.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its pid, once it has one.
    pub pid: Option<i32>,
    /// When it was started.
    pub began: Instant,
    /// When it was asked to end.
    pub dismissed: Option<Instant>,
    /// When its first process ended.
    pub ended: Option<Instant>,
    /// How long it may take to end, and by which signal it is asked.
    pub grace: Option<(Duration, String)>,
    /// Where it is reached, once it is ready and if that is known.
    pub address: Option<SocketAddr>,
    /// It was reported as running.
    pub is_running: bool,
    /// What it prints passes through hotrun.
    pub is_read: bool,
    /// It has said that an address is in use, with these ports.
    pub taken: Option<BTreeSet<u16>>,
    /// Why it was not ready in time.
    pub unready: Option<String>,
    /// It has asked for more time to end, and got it.
    pub extended: bool,
    /// The signal that a rule has sent to it last.
    pub signalled: Option<Signal>,
    /// What it means for a build to succeed.
    pub purpose: Purpose,
}

/// What a build is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// It makes what is run.
    #[default]
    Program,
    /// It checks a library, of which nothing is run.
    Library,
    /// It checks the syntax of sources that are run as they are. Only errors are reported.
    Syntax,
}

impl Facts {
    /// Something that starts now.
    pub fn now() -> Self {
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
        }
    }
}

/// Says what happened.
pub struct Report {
    quiet: bool,
    /// `--color`.
    chosen_color: Option<Color>,
    color: bool,
    talk: Talk,
    base: PathBuf,
    console: Console,
    /// A build runs, which may have left a progress bar on the current line of the terminal.
    may_show_bar: Cell<bool>,
    /// By process: what the lines about it need to know.
    pub facts: HashMap<Proc, Facts>,
}

impl Report {
    /// Paths are said relative to `base`. A colour that is chosen beats the configured one.
    pub fn new(
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
            may_show_bar: Cell::new(false),
            facts: HashMap::new(),
        };
        report.configure(talk);
        report
    }

    /// Talks in this way from now on.
    pub fn configure(&mut self, talk: &Talk) {
        self.talk = talk.clone();
        self.color = is_on(self.chosen_color.or(talk.color).unwrap_or_default());
    }

    /// Where it is said.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Says what the configuration wants to be said at the start.
    pub fn banner(&self, text: &str) {
        if !self.quiet && self.talk.loudness != Loudness::Silent {
            self.write(&format!("{text}\n"));
        }
    }

    /// Says an error of hotrun's own, at its end.
    pub fn error(error: &Error) {
        write_at_once(&shown(&format!("hotrun: {error}\n")));
    }

    /// Says something about a command line, at the start.
    pub fn note(text: &str) {
        write_at_once(&shown(&format!("hotrun: {text}\n")));
    }

    /// Shows which keys there are.
    pub fn keys(&self, keys: impl Iterator<Item = (char, &'static str)>) {
        for (key, does) in keys {
            self.write(&format!("  {key}  {does}\n"));
        }
    }

    /// Clears the screen, because somebody wants that.
    pub fn clear_screen(&self) {
        self.write("\u{1b}[H\u{1b}[2J");
    }

    /// Takes what was typed off the screen again.
    pub fn erase(&self, places: usize) {
        self.write(&"\u{8} \u{8}".repeat(places));
    }

    /// Says that a command begins.
    pub fn running(&self, word: &str, command: &str) {
        let first = command.lines().next().unwrap_or_default();
        let more = if command.lines().count() > 1 { " …" } else { "" };
        self.line(Part::Build, Tone::Work, word, &format!("{first}{more}"));
        self.may_show_bar.set(true);
    }

    /// Says that a command failed which a build can do without.
    pub fn tolerated(&self, command: &str, ended: &Ended) {
        self.line(
            Part::Main,
            Tone::Warn,
            "warning",
            &format!("{command}: {ended}; the build goes on"),
        );
    }

    /// Says what happened.
    pub fn say(&self, notice: &Notice) {
        self.keep_last_line(notice);
        match notice {
            Notice::Changed(cause) => self.changed(cause),
            // Of this the reason is not known here.
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
                    format!("a rule: {ended}, after {}; {}", self.took(*rules), self.serving(*app));
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
            Notice::Started(app) => {
                self.line(Part::Runner, Tone::Work, "started", &self.name(*app));
            }
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
                if std::io::stderr().is_terminal() {
                    // The terminal has just shown `^C` at the start of this line.
                    self.write("\r");
                }
                self.line(Part::Main, Tone::Plain, "ending", "Ctrl-C again to kill");
            }
            Notice::Forcing => {
                self.line(Part::Main, Tone::Warn, "killing", "everything that is left");
            }
            Notice::Paused => self.line(Part::Main, Tone::Plain, "paused", "saves are kept"),
            Notice::Resumed => self.line(Part::Main, Tone::Plain, "resumed", ""),
            Notice::Signalled(..) | Notice::NobodyToSignal(_) => self.signalled(notice),
            Notice::Unchanged(paths) => {
                let names = name_paths(paths, &self.base);
                self.line(Part::Watcher, Tone::Plain, "unchanged", &names);
            }
            Notice::ForBrowser { paths, css } => {
                let what = if *css { "the style sheets" } else { "the page" };
                let names = name_paths(paths, &self.base);
                let text = format!("{names}; reload {what} in the browser (there is no proxy yet)");
                self.line(Part::Watcher, Tone::Plain, "changed", &text);
            }
            Notice::Warning(text) => self.line(Part::Main, Tone::Warn, "warning", text),
        }
    }

    /// What a command printed last stays when it has ended, even without a line feed.
    fn keep_last_line(&self, notice: &Notice) {
        if let Notice::Built(_)
        | Notice::SameProgram(_)
        | Notice::BuildFailed { .. }
        | Notice::RulesDone(_)
        | Notice::RulesFailed { .. } = notice
        {
            self.may_show_bar.set(false);
        }
    }

    /// Reports how a build has ended.
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
            Notice::BuildFailed { build, ended, app } => {
                let (what, follows) = match self.purpose(*build) {
                    Purpose::Program => ("", self.serving(*app)),
                    Purpose::Library => ("", "waiting for a save".to_owned()),
                    Purpose::Syntax => ("syntax check: ", self.serving(*app)),
                };
                let text = format!("{what}{ended}, after {}; {follows}", self.took(*build));
                self.line(Part::Build, Tone::Bad, "failed", &text);
            }
            _ => {}
        }
    }

    /// What a build is for.
    pub fn purpose(&self, build: Proc) -> Purpose {
        self.facts.get(&build).map(|facts| facts.purpose).unwrap_or_default()
    }

    /// What stands in the way, and who has what the program needs.
    fn about_others(&self, notice: &Notice) {
        match notice {
            Notice::Holding { who, signal, kill_in, key } => {
                let then = kill_in.map(|left| format!("; killed in {} ({key})", duration(left)));
                let (who, then) = (name_processes(who), then.unwrap_or_default());
                let text = format!("for {who}, which has not ended 1 s after {signal}{then}");
                self.line(Part::Runner, Tone::Warn, "waiting", &text);
            }
            Notice::Unkillable(who) => {
                let why = "it waits for a device, or belongs to another user";
                let text = format!("for {}, which survives SIGKILL: {why}", name_processes(who));
                self.line(Part::Runner, Tone::Bad, "waiting", &text);
            }
            Notice::TerminalGiven(proc) => {
                if std::io::stderr().is_terminal() {
                    // The question that was asked stays as it is.
                    self.write("\n");
                    self.may_show_bar.set(false);
                }
                let text = format!("given to {}; hotrun's keys are off", self.name(*proc));
                self.line(Part::Main, Tone::Plain, "terminal", &text);
            }
            Notice::TerminalWanted(proc) => {
                let name = self.name(*proc);
                let text = format!("{name} waits for it: bring hotrun to the foreground (fg)");
                self.line(Part::Main, Tone::Warn, "terminal", &text);
            }
            Notice::TerminalKept(proc) => {
                let name = self.name(*proc);
                let text = format!("{name} waits for it until the program before it has ended");
                self.line(Part::Main, Tone::Warn, "terminal", &text);
            }
            Notice::Swept(who) => {
                let text =
                    format!("{}, left behind by a hotrun that was killed", name_processes(who));
                self.line(Part::Main, Tone::Warn, "ended", &text);
            }
            Notice::CrashLoop(times, pause) => {
                let text = format!(
                    "the program has ended {times} times in a row soon after its start; it is \
                     started again {} after each end, and at once when you save",
                    duration(*pause)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::PortHeld(holder) => self.port_held(holder),
            Notice::EndlessBuild { build, port, remedy } => {
                let text = format!(
                    "the build has not ended and listens on port {port}: {} is the program \
                     itself, and is stopped like one; so that it is built first, and the old \
                     one serves meanwhile, write\n{remedy}",
                    self.name(*build)
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
            let text = format!("no program is running that could get {signal}");
            self.line(Part::Main, Tone::Warn, "note", &text);
        }
    }

    fn changed(&self, cause: &Cause) {
        self.clear();
        match cause {
            Cause::Start => {}
            Cause::Save(paths) => {
                self.line(Part::Watcher, Tone::Plain, "changed", &name_paths(paths, &self.base));
            }
            Cause::Written(paths) => {
                let names = name_paths(paths, &self.base);
                let text = format!("{names} during the build; built once more to be sure");
                self.line(Part::Watcher, Tone::Plain, "written", &text);
            }
            Cause::Config => self.line(Part::Watcher, Tone::Plain, "changed", "the configuration"),
            Cause::Order => self.line(Part::Watcher, Tone::Plain, "asked", "to build again"),
        }
    }

    fn stopped(&self, app: Proc) {
        let Some(facts) = self.facts.get(&app) else { return };
        let (Some(dismissed), Some(ended)) = (facts.dismissed, facts.ended) else { return };
        // Who ended by itself was told then; only its leftovers were asked to go.
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
                format!("{name}: it did not end in the time that it had asked for")
            }
            Some((grace, signal)) => {
                // A newer save may have made it shorter.
                let took = dismissed.filter(|took| took < grace).unwrap_or(*grace);
                format!("{name}: it did not end within {} of {signal}", duration(took))
            }
            None => format!("{name}: it took too long"),
        };
        self.line(Part::Runner, Tone::Warn, "killing", &text);
    }

    fn app_ended(&self, app: Proc, ended: &Ended, serving: Option<Proc>, next: Next) {
        let follows = match (serving, next) {
            (Some(_), _) => self.serving(serving),
            (None, Next::Wait) => "waiting for a save".to_owned(),
            (None, Next::Build) => "the next is on its way".to_owned(),
            (None, Next::Restart) => "it is started again".to_owned(),
            (None, Next::Rollback) => "the last good one is started".to_owned(),
            (None, Next::Quit) => "so hotrun ends".to_owned(),
        };
        let (tone, word) = match ended {
            Ended::Code(0) => (Tone::Plain, "ended"),
            Ended::NotStarted(_) => (Tone::Bad, "no start"),
            _ => (Tone::Bad, "crashed"),
        };
        let name = match ended {
            Ended::NotStarted(_) => String::new(),
            _ => format!("{}: ", self.name(app)),
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

    fn name(&self, proc: Proc) -> String {
        match self.facts.get(&proc).and_then(|facts| facts.pid) {
            Some(pid) => format!("pid {pid}"),
            None => "a process that never started".to_owned(),
        }
    }

    fn took(&self, proc: Proc) -> String {
        self.facts.get(&proc).map_or_else(String::new, |facts| duration(facts.began.elapsed()))
    }

    /// Nothing where nobody looks at a screen.
    fn clear(&self) {
        // Home, then the screen, then what has scrolled out of it.
        let codes = match self.talk.clear {
            Clear::Never => return,
            Clear::Screen => "\u{1b}[H\u{1b}[2J",
            Clear::Scrollback => "\u{1b}[H\u{1b}[2J\u{1b}[3J",
        };
        if std::io::stderr().is_terminal() {
            self.write(codes);
        }
    }

    fn line(&self, part: Part, tone: Tone, word: &str, text: &str) {
        let is_said = match self.talk.loudness {
            Loudness::Silent => false,
            Loudness::MainOnly => tone.is_urgent() || part == Part::Main,
            Loudness::All => true,
        };
        if !is_said || (self.quiet && !tone.is_urgent()) {
            return;
        }
        let text = &shown(text);
        if self.may_show_bar.get() && std::io::stderr().is_terminal() {
            self.write("\r\u{1b}[K");
        }
        let time = if self.talk.time {
            jiff::Zoned::now().strftime("[%H:%M:%S] ").to_string()
        } else {
            String::new()
        };
        if self.color {
            let colors = &self.talk.colors;
            let chosen = match part {
                _ if tone.is_urgent() => None,
                Part::Main => colors.main,
                Part::Watcher => colors.watcher,
                Part::Build => colors.build,
                Part::Runner => colors.runner,
            };
            let code = chosen.unwrap_or(tone.code());
            self.write(&format!(
                "{time}\u{1b}[2mhotrun\u{1b}[0m \u{1b}[{code}m{word:>9}\u{1b}[0m  {text}\n"
            ));
        } else {
            let line = format!("{time}hotrun {word:>9}  {text}");
            self.write(&format!("{}\n", line.trim_end()));
        }
    }

    /// In one piece, so that the app's lines do not get between.
    fn write(&self, text: &str) {
        self.console.say(Stream::Stderr, text.as_bytes());
    }
}

/// A closed stderr is no reason to end.
fn write_at_once(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Who holds a port, and what was, or can be, done about it.
pub fn who_holds(holder: &Holder) -> (String, &'static str) {
    let since = holder.age.map(|age| format!(", for {}", duration(age))).unwrap_or_default();
    let whose = match holder.whose {
        Whose::DeadHotruns => ", left behind by a hotrun that was killed",
        Whose::AnotherHotruns => ", started by another hotrun that runs",
        Whose::Strangers => "",
    };
    let then = match holder.remedy {
        Remedy::Ended => "it was ended (--free-port)",
        Remedy::Possible => "end it, or have it ended: hotrun --free-port",
        Remedy::NotOurs => "--free-port leaves it alone: it is not of this project and user",
        Remedy::Spared => {
            "it may stay (spare), and has inherited the socket: close it, or use another port"
        }
        Remedy::NotPossible => "it could not be ended",
        Remedy::None => "end it, or use another port",
    };
    let who = name_processes(&[(holder.pid, holder.command.clone())]);
    (format!("{who}{since}{whose}"), then)
}

/// A text that somebody else has chosen, in one line that is not too long.
fn short(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= MOST_SHOWN {
        return text;
    }
    text.chars().take(MOST_SHOWN).chain(['…']).collect()
}

/// `"sleep 1000" (pid 7) and 2 more`.
fn name_processes(who: &[(i32, String)]) -> String {
    let Some(((pid, command), rest)) = who.split_first() else { return String::new() };
    let short = short(command);
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("\"{short}\" (pid {pid}){more}")
}

/// A duration in three digits: `12 ms`, `1.24 s`, `3 min 5 s`.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{} ms", (seconds * 1000.0).round())
    } else if seconds < 10.0 && duration.subsec_millis() != 0 {
        format!("{seconds:.2} s")
    } else if seconds < 60.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let told = |ms| duration(Duration::from_millis(ms));
        assert_eq!(told(0), "0 ms");
        assert_eq!(told(12), "12 ms");
        assert_eq!(told(1240), "1.24 s");
        assert_eq!(told(5000), "5 s");
        assert_eq!(told(42_300), "42 s");
        assert_eq!(told(185_000), "3 min 5 s");
    }
}
