//! What a terminal shows beside lines: its title, a bell, desktop notifications, and the elapsed
//! time of a silent build. Also the line for each save in compact mode.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::layout::{self, duration};
use super::wording::Line;
use super::{Part, Report, Tone, wording};
use crate::config::Loudness;
use crate::event::{Cause, Ended, Proc, name_paths};
use crate::notice::{Activity, Next, Notice};
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
    /// In compact mode: what has no outcome yet, the oldest first.
    pending: RefCell<Vec<Pending>>,
    /// In compact mode: the build that was last reported to be slow.
    announced: Cell<Option<Proc>>,
}

/// Something whose outcome is reported as a line.
struct Pending {
    /// The number of its update.
    update: u64,
    /// What caused it, as text.
    what: String,
    /// How long its build took, as text.
    built: Option<String>,
}

impl Screen {
    /// Notes that something has begun whose outcome will be reported.
    fn begin(&self, update: u64, what: String) {
        self.pending.borrow_mut().push(Pending { update, what, built: None });
    }

    fn set_built(&self, update: u64, built: Option<String>) {
        let mut pending = self.pending.borrow_mut();
        if let Some(at) = index_of(&pending, update) {
            pending[at].built = built;
        }
    }

    /// Returns what this update is the outcome of. Older updates end with it.
    fn take_pending(&self, update: u64) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        let at = index_of(&pending, update)?;
        let taken = pending.remove(at);
        pending.retain(|one| one.update >= taken.update);
        Some(taken)
    }

    fn what_is_pending(&self, update: u64) -> Option<String> {
        let pending = self.pending.borrow();
        index_of(&pending, update).map(|at| pending[at].what.clone())
    }

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

/// Returns the index of what an update is about: a build or a program of that update has read all
/// that was saved before. A build that follows up on one has the same number, and comes after it.
fn index_of(pending: &[Pending], update: u64) -> Option<usize> {
    let newest = pending.iter().map(|one| one.update).filter(|one| *one <= update).max()?;
    pending.iter().position(|one| one.update == newest)
}

/// What a notice means for what the screen shows.
enum Turn<'a> {
    Begins(&'a Cause),
    RollsBack,
    Building,
    Built(Proc),
    /// A build has left the program unchanged.
    Same(Proc),
    Serves(Proc),
    /// The app exited with code 0; what follows.
    Exited(Next),
    /// A failure that the user has to fix.
    Failed {
        /// A short description.
        what: &'static str,
        /// Whether nothing more comes of the update.
        is_outcome: bool,
    },
    RulesDone(Proc),
    Signalled(Signal),
    ForBrowser(&'a [PathBuf]),
    Unchanged(&'a [PathBuf]),
    /// The screen shows at most its line.
    Other,
}

impl<'a> Turn<'a> {
    fn of(notice: &'a Notice) -> Self {
        match notice {
            Notice::Changed(cause) => Turn::Begins(cause),
            Notice::RolledBack(_) => Turn::RollsBack,
            Notice::Building(_) => Turn::Building,
            Notice::Built(build) => Turn::Built(*build),
            Notice::SameProgram(build) => Turn::Same(*build),
            Notice::Ready(app) | Notice::Running(app) => Turn::Serves(*app),
            Notice::AppEnded { ended: Ended::Code(0), next, .. } => Turn::Exited(*next),
            Notice::AppEnded { .. } => Turn::Failed { what: "program failed", is_outcome: true },
            Notice::BuildFailed { .. } | Notice::RulesFailed { .. } => {
                Turn::Failed { what: "build failed", is_outcome: true }
            }
            Notice::Unready { app, .. } => {
                Turn::Failed { what: "not ready", is_outcome: app.is_some() }
            }
            Notice::RulesDone(rules) => Turn::RulesDone(*rules),
            Notice::Signalled(_, signal) => Turn::Signalled(*signal),
            Notice::ForBrowser { paths, .. } => Turn::ForBrowser(paths),
            Notice::Unchanged(paths) => Turn::Unchanged(paths),
            Notice::Finishing(_)
            | Notice::ChangesInBuilds(..)
            | Notice::Testing(..)
            | Notice::Late(..)
            | Notice::OwnWrites(_)
            | Notice::Outputs(_)
            | Notice::Overtaken(_)
            | Notice::Stopped(_)
            | Notice::Killing(_)
            | Notice::Holding { .. }
            | Notice::Unkillable(_)
            | Notice::Started(_)
            | Notice::TerminalGiven(_)
            | Notice::TerminalKept(_)
            | Notice::TerminalWanted(_)
            | Notice::Swept(_)
            | Notice::CrashLoop(..)
            | Notice::PortHeld(_)
            | Notice::EndlessBuild { .. }
            | Notice::Assumed(_)
            | Notice::Status(..)
            | Notice::AppStopping(_)
            | Notice::Succeeded(..)
            | Notice::Extended { .. }
            | Notice::Listening { .. }
            | Notice::ProxyListens { .. }
            | Notice::HeldInVain { .. }
            | Notice::ListenerShut(..)
            | Notice::PassedOnByNobody(_)
            | Notice::MayHaveBound { .. }
            | Notice::ProxyHasPort { .. }
            | Notice::BoundBeside(..)
            | Notice::NobodyAccepts(..)
            | Notice::PortNeedsHandover(_)
            | Notice::Kept(_)
            | Notice::NoRollback(_)
            | Notice::RollbackPossible
            | Notice::NewestAgain
            | Notice::TooManyLeave(_)
            | Notice::HookFailed(_)
            | Notice::Reading(_)
            | Notice::Guessed(_)
            | Notice::Ending(_)
            | Notice::TakenOver(_)
            | Notice::Forcing
            | Notice::Paused
            | Notice::Resumed
            | Notice::NothingBuilt
            | Notice::NobodyToSignal(_)
            | Notice::CommandStarted { .. }
            | Notice::Tolerated { .. }
            | Notice::Cancelled(_)
            | Notice::Problem(_) => Turn::Other,
        }
    }
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
    pub(crate) fn tick(&self, elapsed: Duration, step: Activity) {
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

    /// In compact mode, prints that a build runs: once for each build that takes longer than
    /// [`SILENCE`]. A line of its own, for a program that may print at any time.
    pub(crate) fn announce_slow(
        &self,
        (build, update): (Proc, u64),
        elapsed: Duration,
        step: Activity,
    ) {
        let is_wanted = self.talk.compact && self.talk.loudness == Loudness::All;
        let is_due = elapsed >= SILENCE && self.screen.announced.get() != Some(build);
        if is_wanted && is_due {
            self.screen.announced.set(Some(build));
            let what = self.screen.what_is_pending(update).unwrap_or_default();
            let text = format!("{what}  {}", wording::word_of(step));
            self.compact_line(Tone::Work, '·', text.trim_start());
        }
    }

    /// Shows the state that a record leads to: in the terminal's title, by its bell, as a desktop
    /// notification, and in compact mode as a line.
    pub(super) fn show_state(&self, record: &Record) {
        let turn = Turn::of(&record.notice);
        self.note_for_compact(record, &turn);
        if !std::io::stderr().is_terminal() {
            return;
        }
        let (title, is_failing) = match turn {
            Turn::Building => ("building", None),
            Turn::Failed { what, .. } => (what, Some(true)),
            Turn::Exited(Next::Wait) => ("exited", Some(false)),
            Turn::Serves(_) | Turn::Same(_) => ("running", Some(false)),
            Turn::Built(_) if self.runs_nothing => ("built", Some(false)),
            Turn::Begins(_)
            | Turn::RollsBack
            | Turn::Built(_)
            | Turn::Exited(Next::Build | Next::Restart | Next::Rollback | Next::Quit)
            | Turn::RulesDone(_)
            | Turn::Signalled(_)
            | Turn::ForBrowser(_)
            | Turn::Unchanged(_)
            | Turn::Other => return,
        };
        let name = self.base.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        if self.talk.title {
            let save = if self.screen.has_title.replace(true) { "" } else { SAVE_TITLE };
            self.write_codes(&format!("{save}\u{1b}]2;{title} – {name}\u{7}"));
        }
        let Some(is_failing) = is_failing else { return };
        let was_failing = self.screen.is_failing.replace(is_failing);
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

    fn note_for_compact(&self, record: &Record, turn: &Turn<'_>) {
        if !self.talk.compact {
            return;
        }
        let age = |proc: &Proc| record.process(*proc).map(|process| duration(process.age));
        let update = record.update;
        match turn {
            Turn::Begins(cause) => {
                let what = match cause {
                    Cause::Start => "start".to_owned(),
                    Cause::Config => "configuration".to_owned(),
                    Cause::Order => "rebuild".to_owned(),
                    Cause::Save(paths) | Cause::Written(paths) => name_paths(paths, &self.base),
                };
                self.screen.begin(update, what);
            }
            // The program that starts now belongs to an older update.
            Turn::RollsBack => {
                self.screen.take_pending(update);
                self.screen.begin(0, "rollback".to_owned());
            }
            Turn::Built(build) | Turn::Same(build) => {
                let purpose = record.process(*build).map(|process| process.purpose);
                let word = match purpose.unwrap_or_default() {
                    Purpose::Program => Some("built"),
                    Purpose::Library => Some("checked"),
                    Purpose::Syntax => None,
                };
                let took = age(build).unwrap_or_default();
                self.screen.set_built(update, word.map(|word| format!("{word} {took}")));
                let is_all = matches!(turn, Turn::Same(_));
                if is_all || record.apps().next().is_none() && self.runs_nothing {
                    self.succeeded(update, if is_all { "same program" } else { "" });
                }
            }
            // It was reported as running.
            Turn::Serves(app)
                if matches!(record.notice, Notice::Ready(_))
                    && record.process(*app).is_some_and(|process| process.is_running) => {}
            Turn::Serves(app) => {
                let up = age(app).map_or_else(String::new, |up| format!("up in {up}"));
                self.succeeded(update, &up);
            }
            Turn::Exited(_) => self.succeeded(update, "exited"),
            Turn::RulesDone(rules) => {
                let took = age(rules).unwrap_or_default();
                self.succeeded(update, &format!("rules {took}"));
            }
            // The program that received it belongs to an older update.
            Turn::Signalled(signal) => self.succeeded(u64::MAX, signal.as_str()),
            Turn::ForBrowser(paths) => {
                let names = name_paths(paths, &self.base);
                self.compact_line(Tone::Plain, '·', &format!("{names}  reload the page"));
            }
            Turn::Unchanged(paths) => {
                let names = name_paths(paths, &self.base);
                self.compact_line(Tone::Plain, '·', &format!("{names}  unchanged"));
            }
            // See [`Self::print_failed_update`].
            Turn::Failed { .. } | Turn::Building | Turn::Other => {}
        }
    }

    fn succeeded(&self, update: u64, text: &str) {
        let pending = self.screen.take_pending(update);
        let (what, built) = pending.map(|one| (one.what, one.built)).unwrap_or_default();
        let what = if what.is_empty() { "restart" } else { &what };
        let parts: Vec<&str> =
            built.as_deref().into_iter().chain((!text.is_empty()).then_some(text)).collect();
        self.compact_line(Tone::Good, '✓', &format!("{what}  {}", parts.join(", ")));
    }

    /// In compact mode, prints a line that reports the failure of an update: beginning with what
    /// was saved, as that of a success does. Returns false for other lines.
    pub(super) fn print_failed_update(&self, record: &Record, line: &Line) -> bool {
        let is_outcome = matches!(Turn::of(&record.notice), Turn::Failed { is_outcome: true, .. });
        if !self.talk.compact || self.is_silent() || !is_outcome {
            return false;
        }
        // Later failures of a program have nothing to do with what was saved.
        let Some(Pending { what, built, .. }) = self.screen.take_pending(record.update) else {
            return false;
        };
        let built = built.map(|built| format!("{built}, ")).unwrap_or_default();
        self.compact_line(line.tone, '✗', &format!("{what}  {built}{}  {}", line.word, line.text));
        true
    }
}
