//! Prints records as lines, one for each thing that happened. They go to stderr, since stdout
//! belongs to the app.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use crate::config::{Clear, Color, Talk};
use crate::error::Error;
use crate::event::Cause;
use crate::notice::Notice;
use crate::record::Record;
use crate::text::shown;

pub(crate) mod console;
mod screen;
mod wording;
mod layout;

pub(crate) use layout::wants_color;
pub(crate) use wording::{time_of_day, who_holds, why_no_rollback};

use console::{Console, Stream};
use screen::Screen;
use wording::{Context, Line};

/// The topic of a line, in air's categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Main,
    Watcher,
    Build,
    Runner,
}

/// The severity of a line, which determines its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Prints records.
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
            base: base.clone(),
            console,
            screen: Screen::default(),
            may_show_bar: Cell::new(false),
            greeting: RefCell::new(None),
            runs_nothing: false,
        };
        report.configure(talk, base);
        report
    }

    /// Applies another configuration.
    pub(crate) fn configure(&mut self, talk: &Talk, base: PathBuf) {
        self.base = base;
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

    /// Prints the line for a record, and shows the state that it leads to. `is_screen_used` tells
    /// whether a program draws on the whole screen, which a line would disturb. It asks the terminal,
    /// so it is called only where that matters.
    pub(crate) fn say(&self, record: &Record, is_screen_used: impl FnOnce() -> bool) {
        self.prepare(&record.notice);
        self.show_state(record);
        let is_start = matches!(record.notice, Notice::Ready(_) | Notice::Running(_));
        // A program that draws on the whole screen is seen to have started.
        if is_start && is_screen_used() {
            return;
        }
        let context = Context { record, base: &self.base, pids: self.talk.pids };
        if let Some(line) = wording::line(&context)
            && !self.print_failed_update(record, &line)
        {
            self.print_line(&line);
        }
        if matches!(record.notice, Notice::CommandStarted { .. }) {
            self.may_show_bar.set(!self.talk.compact);
        }
    }

    /// Prepares the screen for the line that follows.
    fn prepare(&self, notice: &Notice) {
        // Once a command has exited, its last line stays, even without a line feed: it is no bar.
        if matches!(
            notice,
            Notice::Built(_)
                | Notice::SameProgram(_)
                | Notice::BuildFailed { .. }
                | Notice::RulesDone(_)
                | Notice::RulesFailed { .. }
        ) {
            self.may_show_bar.set(false);
        }
        if matches!(notice, Notice::Changed(cause) if *cause != Cause::Start) {
            self.clear();
        }
        if matches!(notice, Notice::Ending(_) | Notice::Forcing) {
            self.cover_echo();
        }
        if matches!(notice, Notice::TerminalGiven(_)) && std::io::stderr().is_terminal() {
            // The prompt of the program stays on its line.
            self.write("\n");
            self.may_show_bar.set(false);
        }
    }

    fn print_line(&self, line: &Line) {
        if line.begins {
            self.first_line(line.part, line.tone, line.word, &line.text);
        } else {
            self.line(line.part, line.tone, line.word, &line.text);
        }
    }

    /// Prints the next line over the `^C` that the terminal has just echoed at the start of its line.
    fn cover_echo(&self) {
        if std::io::stderr().is_terminal() {
            self.write("\r");
        }
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
