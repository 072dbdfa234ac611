//! The vocabulary of all modules above: processes, causes, orders, policies.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize, Serializer};

use crate::text::visible;

/// hotrun's own number for a process that it started. Unlike a pid it is never reused, so a late
/// message cannot reach a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Proc(pub u32);

/// What a process was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// A path in a record. What is not UTF-8 is replaced.
pub(crate) fn lossy_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// Paths in a recording. What is not UTF-8 is replaced: a recording is for people.
pub(crate) mod lossy_paths {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        let names: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        names.serialize(to)
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
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

/// What requests a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ShutdownBy {
    /// The key `q`.
    Key,
    /// Ctrl-C, or SIGINT from elsewhere.
    CtrlC,
    /// Another signal, or a closed terminal.
    Signal,
    /// hotrun itself: a part of it has failed, or another hotrun takes over.
    Hotrun,
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
