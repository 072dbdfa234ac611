//! What a terminal shows beside lines: its title, a bell, desktop notifications, and the elapsed
//! time of a silent build. Also the line for each save in compact mode.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::Duration;

use super::layout::{self, duration};
use super::{Part, Report, Tone, wording};
use crate::config::Loudness;
use crate::event::{Cause, Ended, Proc, name_paths};
use crate::notice::{Next, Notice, Step};
use crate::record::{Purpose, Record};

/// Silence of a build after which its elapsed time is shown.
const SILENCE: Duration = Duration::from_secs(2);

/// Push and pop the title of the window (xterm's window operations 22 and 23).
const SAVE_TITLE: &str = "\u{1b}[22;2t";
const RESTORE_TITLE: &str = "\u{1b}[23;2t";

/// What was shown last.
#[derive(Default)]
pub(super) struct Screen {
    /// Whether a line was printed.
    has_printed: Cell<bool>,
    /// Whether the last build, start or program failed.
    is_failing: Cell<bool>,
    /// Whether the title was changed.
    has_title: Cell<bool>,
    /// In compact mode: what caused the update under way, and how long its build took, as text.
    what: RefCell<String>,
    built: RefCell<Option<String>>,
}

impl Screen {
    pub(super) fn printed(&self) {
        self.has_printed.set(true);
    }

    pub(super) fn cleared(&self) {
        self.has_printed.set(false);
    }

    pub(super) fn has_printed(&self) -> bool {
        self.has_printed.get()
    }
}

/// The state that a notice leads to.
enum Mood {
    Building,
    /// A failure that the user has to fix; a short description.
    Failed(&'static str),
    /// A success; a short description.
    Good(&'static str),
}

impl Report {
    /// Sets the greeting, which is printed when the number of watched files is known. All that is
    /// printed until then follows it; nothing that is run waits for it.
    pub(crate) fn greet(&self, text: (String, String)) {
        self.console.pause();
        *self.greeting.borrow_mut() = Some(text);
    }

    /// Returns true until the greeting is printed.
    pub(crate) fn is_about_to_greet(&self) -> bool {
        self.greeting.borrow().is_some()
    }

    /// Prints the greeting, unless that was done. `files` is the number of watched files.
    pub(crate) fn print_greeting(&self, files: Option<usize>) {
        let Some((text, keys)) = self.greeting.borrow_mut().take() else { return };
        let files = match files {
            Some(1) => " · 1 file".to_owned(),
            Some(files) => format!(" · {files} files"),
            None => String::new(),
        };
        let text = format!("{text}{files}{keys}");
        let word = (env!("CARGO_PKG_VERSION"), layout::WORD);
        let mut line = String::new();
        if !self.is_silent() {
            line = self.formatted(&self.lead(), (None, Tone::Plain), word, &text);
        }
        self.console.resume(line.as_bytes());
    }

    /// Shows the elapsed time of a silent build, on a line that is erased before the next one. Not
    /// while a program runs, which may print at the cursor's position at any time.
    pub(crate) fn tick(&self, elapsed: Duration, step: Step) {
        let is_wanted = !self.quiet && self.talk.loudness == Loudness::All;
        if !is_wanted || self.console.silence() < SILENCE {
            return;
        }
        let time = duration(Duration::from_secs(elapsed.as_secs()));
        let part = (Some(Part::Build), Tone::Work);
        let word = wording::word_of(step);
        let line = self.formatted(&self.lead(), part, (word, layout::WORD), &time);
        self.console.show_for_now(line.trim_end());
    }

    /// Shows the state that a record leads to: in the terminal's title, by its bell, as a desktop
    /// notification, and in compact mode as a line.
    pub(super) fn show_state(&self, record: &Record) {
        let notice = &record.notice;
        self.note_for_compact(record);
        if !std::io::stderr().is_terminal() {
            return;
        }
        let Some(mood) = self.mood(notice) else { return };
        let title = match mood {
            Mood::Building => "building",
            Mood::Failed(what) | Mood::Good(what) => what,
        };
        let name = self.base.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        if self.talk.title {
            let save = if self.screen.has_title.replace(true) { "" } else { SAVE_TITLE };
            self.write_codes(&format!("{save}\u{1b}]2;{title} – {name}\u{7}"));
        }
        let (was_failing, is_failing) = match mood {
            Mood::Building => return,
            Mood::Failed(_) => (self.screen.is_failing.replace(true), true),
            Mood::Good(_) => (self.screen.is_failing.replace(false), false),
        };
        // Every failure is signalled; a success only after a failure.
        if !is_failing && !was_failing {
            return;
        }
        if self.talk.bell {
            self.write_codes("\u{7}");
        }
        if self.talk.notify {
            let is_iterm = std::env::var_os("TERM_PROGRAM").is_some_and(|one| one == "iTerm.app");
            self.write_codes(&if is_iterm {
                format!("\u{1b}]9;{name}: {title}\u{7}")
            } else {
                format!("\u{1b}]777;notify;hotrun: {name};{title}\u{1b}\\")
            });
        }
    }

    /// Restores the previous title of the window.
    pub(crate) fn restore_title(&self) {
        if self.screen.has_title.replace(false) {
            self.write_codes(RESTORE_TITLE);
        }
    }

    fn write_codes(&self, codes: &str) {
        if !self.quiet {
            self.write(codes);
        }
    }

    fn note_for_compact(&self, record: &Record) {
        if !self.talk.compact {
            return;
        }
        let age = |proc: &Proc| record.process(*proc).map(|process| duration(process.age));
        let notice = &record.notice;
        match notice {
            Notice::Changed(cause) => {
                let what = match cause {
                    Cause::Start => "start".to_owned(),
                    Cause::Config => "configuration".to_owned(),
                    Cause::Order => "rebuild".to_owned(),
                    Cause::Save(paths) | Cause::Written(paths) => name_paths(paths, &self.base),
                };
                self.screen.what.replace(what);
                self.screen.built.replace(None);
            }
            Notice::RolledBack(_) => drop(self.screen.what.replace("rollback".to_owned())),
            Notice::Built(build) | Notice::SameProgram(build) => {
                let purpose = record.process(*build).map(|process| process.purpose);
                let word = match purpose.unwrap_or_default() {
                    Purpose::Program => Some("built"),
                    Purpose::Library => Some("checked"),
                    Purpose::Syntax => None,
                };
                let took = age(build).unwrap_or_default();
                let built = word.map(|word| format!("{word} {took}"));
                self.screen.built.replace(built);
                let is_all = matches!(notice, Notice::SameProgram(_));
                if is_all || record.apps().next().is_none() && self.runs_nothing {
                    self.outcome(Tone::Good, '✓', if is_all { "same program" } else { "" });
                }
            }
            // It was reported as running.
            Notice::Ready(app)
                if record.process(*app).is_some_and(|process| process.is_running) => {}
            Notice::Ready(app) | Notice::Running(app) => {
                let up = age(app).map_or_else(String::new, |up| format!("up in {up}"));
                self.outcome(Tone::Good, '✓', &up);
            }
            Notice::AppEnded { ended: Ended::Code(0), .. } => {
                self.outcome(Tone::Good, '✓', "exited");
            }
            Notice::RulesDone(rules) => {
                let took = age(rules).unwrap_or_default();
                self.outcome(Tone::Good, '✓', &format!("rules {took}"));
            }
            Notice::Signalled(_, signal) => self.outcome(Tone::Good, '✓', signal.as_str()),
            Notice::ForBrowser { paths, .. } => {
                let names = name_paths(paths, &self.base);
                self.compact_line(Tone::Plain, '·', &format!("{names}  reload the page"));
            }
            Notice::Unchanged(paths) => {
                let names = name_paths(paths, &self.base);
                self.compact_line(Tone::Plain, '·', &format!("{names}  unchanged"));
            }
            _ => {}
        }
    }

    fn outcome(&self, tone: Tone, sign: char, text: &str) {
        let mut names = self.screen.what.take();
        if names.is_empty() {
            "restart".clone_into(&mut names);
        }
        let built = self.screen.built.take();
        let parts: Vec<String> =
            built.into_iter().chain((!text.is_empty()).then(|| text.to_owned())).collect();
        self.compact_line(tone, sign, &format!("{names}  {}", parts.join(", ")));
    }

    fn mood(&self, notice: &Notice) -> Option<Mood> {
        Some(match notice {
            Notice::Building(_) => Mood::Building,
            Notice::BuildFailed { .. } | Notice::RulesFailed { .. } => Mood::Failed("build failed"),
            Notice::Unready { .. } => Mood::Failed("not ready"),
            Notice::AppEnded { ended: Ended::Code(0), next: Next::Wait, .. } => {
                Mood::Good("exited")
            }
            Notice::AppEnded { ended: Ended::Code(0), .. } => return None,
            Notice::AppEnded { .. } => Mood::Failed("program failed"),
            Notice::Ready(_) | Notice::Running(_) | Notice::SameProgram(_) => Mood::Good("running"),
            Notice::Built(_) if self.runs_nothing => Mood::Good("built"),
            _ => return None,
        })
    }
}
