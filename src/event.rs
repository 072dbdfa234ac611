//! The vocabulary of all modules above: processes, causes, events, notices.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::text::visible;

/// hotrun's own number for a process that it started. Unlike a pid it is never reused, so a late
/// message cannot reach a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Proc(pub u32);

/// What a process was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// A build: its `pre_cmd`s, then its `cmd`.
    Build,
    /// The commands of rules.
    Rules,
    App,
    /// A `post_cmd`.
    Hook,
}

/// Why a build was started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Cause {
    Start,
    /// Files were saved; their paths, in the order of their first change.
    Save(#[serde(with = "lossy_paths")] Vec<PathBuf>),
    /// Files that changed during a build, which may have written them itself.
    Written(#[serde(with = "lossy_paths")] Vec<PathBuf>),
    Config,
    /// The user requested a build, by a key or from another terminal.
    Order,
}

impl Cause {
    /// Merges the causes of one build. Paths are always kept.
    #[must_use]
    pub(crate) fn join(self, newer: Cause) -> Cause {
        match (self, newer) {
            (Cause::Written(paths), Cause::Written(more)) => {
                Cause::Written(without_repeats(paths, more))
            }
            (Cause::Save(paths), Cause::Save(more) | Cause::Written(more))
            | (Cause::Written(paths), Cause::Save(more)) => {
                Cause::Save(without_repeats(paths, more))
            }
            // A requested build is more than a verification.
            (Cause::Written(paths), Cause::Start | Cause::Config | Cause::Order)
            | (Cause::Start | Cause::Config | Cause::Order, Cause::Written(paths)) => {
                Cause::Save(paths)
            }
            (save @ Cause::Save(_), Cause::Start | Cause::Config | Cause::Order) => save,
            (Cause::Start | Cause::Config | Cause::Order, newer) => newer,
        }
    }

    /// Merges this cause into an older one, if there is one.
    #[must_use]
    pub(crate) fn after(self, older: Option<Cause>) -> Cause {
        match older {
            None => self,
            Some(older) => older.join(self),
        }
    }

    /// The paths that were saved.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            Cause::Save(paths) | Cause::Written(paths) => paths,
            Cause::Start | Cause::Config | Cause::Order => &[],
        }
    }
}

fn without_repeats(mut paths: Vec<PathBuf>, more: Vec<PathBuf>) -> Vec<PathBuf> {
    let known: HashSet<PathBuf> = paths.iter().cloned().collect();
    paths.extend(more.into_iter().filter(|path| !known.contains(path)));
    paths
}

/// Paths in a recording. What is not UTF-8 is replaced: a recording is for people.
mod lossy_paths {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        let names: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        names.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Vec::deserialize(from)
    }
}

/// A signal by its name, as in `SIGTERM`: numbers differ between systems.
pub(crate) mod signal_name {
    use nix::sys::signal::Signal;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(signal: &Signal, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(signal.as_str())
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Signal, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// How a process exited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// It exited with this code.
    Code(i32),
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core dump.
        core: bool,
    },
    /// It was never started, or the artifact cannot be run; the reason.
    NotStarted(String),
}

impl Ended {
    /// True if it exited with code 0.
    pub(crate) fn succeeded(&self) -> bool {
        *self == Ended::Code(0)
    }

    /// Returns the exit code that a shell would report: 128+n for a signal, 127 if it never ran.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Ended::Code(code) => u8::try_from(*code).unwrap_or(1),
            Ended::Signal { number, .. } => u8::try_from(128 + number).unwrap_or(1),
            Ended::NotStarted(_) => 127,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(127) => f.write_str("exit code 127 (the shell found no such command)"),
            Ended::Code(126) => f.write_str("exit code 126 (the command cannot be executed)"),
            Ended::Code(code) => write!(f, "exit code {code}"),
            Ended::Signal { number, core } => {
                match Signal::try_from(*number) {
                    Ok(signal) => write!(f, "{signal}")?,
                    Err(_) => write!(f, "signal {number}")?,
                }
                f.write_str(if *core { " (core dumped)" } else { "" })
            }
            Ended::NotStarted(why) => f.write_str(why),
        }
    }
}

/// Names the first of several changed paths and counts the rest: `src/main.rs and 2 more`.
pub(crate) fn name_paths(paths: &[PathBuf], base: &Path) -> String {
    let name = |path: &Path| {
        let short = path.strip_prefix(base).unwrap_or(path);
        if short.as_os_str().is_empty() { ".".to_owned() } else { printable(short) }
    };
    match paths {
        [] => String::new(),
        [only] => name(only),
        [first, rest @ ..] => format!("{} and {} more", name(first), rest.len()),
    }
}

/// Quotes a word for a shell. A word with a zero byte, which no shell can read, stays as it is.
pub(crate) fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

/// Returns a path as text for a terminal: control characters, such as escape sequences and line
/// breaks, are escaped.
pub(crate) fn printable(path: &Path) -> String {
    visible(&path.to_string_lossy()).replace('\n', "\\n")
}

/// What a user can request, by a key or from another terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Restart the app from the current artifact.
    Restart,
    /// Start the last good artifact before the running one.
    Rollback,
    /// Send this signal to the app.
    Signal(#[serde(with = "signal_name")] Signal),
    /// Collect saves without acting on them, or act on the collected ones.
    PauseOrResume,
}

/// Whether the old app is stopped before the new one is started, or after the new one is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Before: there are never two apps at once.
    Restart,
    /// After: the old app serves until the new one is ready.
    Handover,
}

/// What an app is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The artifact of the last build.
    Built,
    /// The kept copy of a good artifact.
    Kept,
}

/// Why a rollback is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// There is no older good artifact.
    NothingKept,
    /// A build or a rule is running; its result comes first.
    BuildUnderWay,
    Ending,
}

/// What follows when the app exits by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnExit {
    /// Wait for a save.
    Wait,
    /// Restart it, with a growing delay.
    Restart,
    /// Exit with the app's exit code.
    Quit,
}

/// The part of the configuration that the core uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    /// What follows when the app exits by itself.
    pub on_exit: OnExit,
    /// Whether a failed build stops the running app (air's `stop_on_error`).
    pub stop_on_error: bool,
    /// Whether a failed start is followed by the last good artifact.
    pub rollback: bool,
    /// Whether there is something to build.
    pub builds: bool,
    /// Whether there is something to run.
    pub runs: bool,
    /// How many `post_cmd`s run when hotrun shuts down.
    pub hooks: usize,
    /// Whether `build.delay` sets a minimum time between the starts of builds.
    pub spaced: bool,
    /// The delay before an app that exited by itself is restarted (air's `rerun_delay`); `None` for
    /// one that grows.
    pub rerun_delay: Option<Duration>,
    /// `--once`: a failed build ends hotrun, too.
    pub once: bool,
}

/// A deadline that the core asked for. It is named by the process that it follows, so that
/// a late one can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Timer {
    /// `build.delay`, from the start of this build.
    Spacing(Proc),
    /// The backoff before an app is restarted, from the exit of this one.
    Backoff(Proc),
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub port: u16,
    pub pid: i32,
    pub command: String,
    /// Time since its start, if known.
    pub age: Option<Duration>,
    pub whose: Whose,
    /// What was, or can be, done about it.
    pub remedy: Remedy,
}

/// Which supervisor started a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// A hotrun that was killed.
    DeadHotruns,
    /// Another running hotrun.
    AnotherHotruns,
    /// None that is known.
    Strangers,
}

/// What was, or can be, done about a process that holds a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Remedy {
    /// The process was stopped.
    Ended,
    /// `--free-port` would stop it.
    Possible,
    /// It is another user's or another project's, so `--free-port` leaves it alone.
    NotOurs,
    /// It may keep running (`spare`): it only inherited the socket from a program.
    Spared,
    /// It could not be stopped.
    NotPossible,
    /// It is another user's or another project's.
    None,
}

/// How hotrun handled a listener that refused connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Repair {
    /// hotrun listens on the same socket again, for all processes that have it.
    Again,
    /// The socket's file was restored.
    FileBack,
    /// A new socket was opened for the next program.
    Anew,
    /// Nothing could be done; the reason. hotrun tries again when a program exits.
    Failed(String),
}

/// A good artifact that was rolled back to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WentBack {
    /// The generation that proved it good.
    pub generation: u32,
    /// When it was built.
    pub built: SystemTime,
    /// Files that were saved since, and that it does not include.
    pub saved_since: Vec<PathBuf>,
}

/// What is reported to the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Notice {
    Changed(Cause),
    Building(Proc),
    Built(Proc),
    /// A build succeeded and left the program unchanged, which keeps running.
    SameProgram(Proc),
    /// Files saved during a build that is not cancelled. A newer build follows it.
    Finishing(Vec<PathBuf>),
    /// Files that change in each build. The next build follows after this delay.
    ChangesInBuilds(Vec<PathBuf>, Duration),
    /// A build for the saves (first) is delayed, to see what else writes the files (second).
    Testing(Vec<PathBuf>, Vec<PathBuf>, Duration),
    /// Files that the program itself may have written. What follows is delayed by this time.
    Late(Vec<PathBuf>, Duration),
    /// Files proven to be written by the program itself, which they would restart.
    OwnWrites(Vec<PathBuf>),
    /// Files proven to be written by builds. They start no further builds.
    Outputs(Vec<PathBuf>),
    BuildFailed {
        build: Proc,
        ended: Ended,
        /// The app that keeps running.
        app: Option<Proc>,
    },
    /// The commands of rules have succeeded.
    RulesDone(Proc),
    /// A command of a rule has failed.
    RulesFailed {
        rules: Proc,
        ended: Ended,
        /// The app that keeps running.
        app: Option<Proc>,
    },
    /// This many builds in a row were cancelled by newer saves.
    Overtaken(u32),
    /// A stopped app is gone.
    Stopped(Proc),
    /// A stopped process did not exit in time, and is killed now.
    Killing(Proc),
    /// Processes have not exited when stopped.
    Holding {
        /// Processes still running, as (pid, command line).
        who: Vec<(i32, String)>,
        /// The signal that was sent to stop them.
        signal: Signal,
        /// Time until they are killed.
        kill_in: Option<Duration>,
        /// The configuration key that sets this time.
        key: &'static str,
    },
    /// Processes, as (pid, command line), that survive SIGKILL.
    Unkillable(Vec<(i32, String)>),
    Started(Proc),
    /// This process has the terminal from now on.
    TerminalGiven(Proc),
    /// A process wants the terminal, which the older app beside it has.
    TerminalKept(Proc),
    /// A process wants the terminal, but hotrun is not in the foreground.
    TerminalWanted(Proc),
    /// Processes, as (pid, command line), that an earlier hotrun left behind; they were killed.
    Swept(Vec<(i32, String)>),
    /// This many apps in a row exited soon after their start; the delay before the next.
    CrashLoop(u32, Duration),
    /// Another process listens on a port that the program needs.
    PortHeld(Holder),
    /// A build keeps running and listens on this port: it is a server itself.
    EndlessBuild {
        build: Proc,
        port: u16,
        /// The configuration to use instead.
        remedy: String,
    },
    /// An app serves, on evidence.
    Ready(Proc),
    /// An app has run for a while without evidence that it serves.
    Running(Proc),
    /// An app has run for 1 s without evidence, and replaces the old one.
    Assumed(Proc),
    /// What an app reports about its state.
    Status(Proc, String),
    /// An app reports that it is stopping.
    AppStopping(Proc),
    /// The first process of this app, which had this pid, exited with code 0. Another process
    /// continues.
    Succeeded(Proc, Option<i32>),
    /// An app asks for more time.
    Extended {
        app: Proc,
        /// How much, from now on.
        more: Duration,
        /// Whether it is for stopping; otherwise for becoming ready.
        to_end: bool,
    },
    /// hotrun listens on an address for the program.
    Listening {
        address: String,
        /// The number of the descriptor that the program inherits.
        descriptor: usize,
        /// Distinguishes this listener from the others.
        name: Option<String>,
    },
    /// A process has shut this listener down for all processes, or deleted its file; the repair.
    ListenerShut(String, Repair),
    /// An app exited at once. This tool ran it, and passes no sockets on.
    PassedOnByNobody(&'static str),
    /// An app exited at once. It may have tried to bind these addresses itself.
    MayHaveBound {
        addresses: Vec<String>,
        /// Whether a shell runs the program.
        by_shell: bool,
    },
    /// An app listens on the port of this listener with its own socket.
    BoundBeside(Proc, String),
    /// This many connections are queued on a listener, and the program accepts none.
    NobodyAccepts(usize, String),
    /// An app exited at once, while the app beside it listens on these ports.
    PortNeedsHandover(Vec<u16>),
    RolledBack(WentBack),
    /// An app did not become ready in time.
    Unready {
        /// The app that was started.
        new: Proc,
        /// The app that keeps running; without one, `new` is given more time.
        app: Option<Proc>,
        /// Whether `new` is replaced by the last good artifact instead.
        goes_back: bool,
    },
    /// This app is kept on request, and the one that was starting is stopped.
    Kept(Proc),
    /// A rollback is refused.
    NoRollback(Refusal),
    /// There is an older good artifact, and a rollback to it can be requested.
    RollbackPossible,
    /// The newest artifact is started again, although a rolled-back app serves.
    NewestAgain,
    /// An app is killed, since too many apps are stopping.
    TooManyLeave(Proc),
    /// An app exited by itself.
    AppEnded {
        app: Proc,
        ended: Ended,
        /// The app that keeps running.
        serving: Option<Proc>,
        next: Next,
    },
    /// A `post_cmd` failed; the ones after it do not run.
    HookFailed(Ended),
    /// A configuration was found; its description.
    Reading(String),
    /// The guessed kind of project and its program; the description.
    Guessed(String),
    Ending,
    /// The hotrun with this pid takes over from this one.
    TakenOver(u32),
    /// All remaining processes are killed.
    Forcing,
    /// Saves are collected from now on.
    Paused,
    /// Saves are acted on again.
    Resumed,
    /// There is nothing to restart.
    NothingBuilt,
    /// This signal was sent to the app.
    Signalled(Proc, Signal),
    /// No app is running that this signal could be sent to.
    NobodyToSignal(Signal),
    /// These files hold the same content as when they were last built.
    Unchanged(Vec<PathBuf>),
    /// Files changed that only the browser reads.
    ForBrowser {
        paths: Vec<PathBuf>,
        /// Whether they are style sheets, which can be reloaded without reloading the page.
        css: bool,
    },
    /// A problem that the user can fix.
    Warning(String),
}

/// What follows when an app exits by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Next {
    /// Nothing, until a save.
    Wait,
    /// The running build starts the next app.
    Build,
    /// It is restarted after a backoff.
    Restart,
    /// The last good artifact is started.
    Rollback,
    Quit,
}
