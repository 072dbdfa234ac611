//! What hotrun has to tell: typed, with the numbers and names that matter and without a wording.
//! [`report`](crate::report) words it.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::error::Error;
use crate::event::{Cause, Ended, Proc, ShutdownBy, lossy_path, lossy_paths, signal_name};

/// Paths of files. In a record, what is not UTF-8 is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Paths(#[serde(serialize_with = "lossy_paths::serialize")] Vec<PathBuf>);

impl Deref for Paths {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.0
    }
}

impl From<Vec<PathBuf>> for Paths {
    fn from(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    /// A hotrun that was killed.
    DeadHotruns,
    /// Another running hotrun.
    AnotherHotruns,
    /// None that is known.
    Strangers,
}

/// What was, or can be, done about a process that holds a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct WentBack {
    /// The generation that proved it good.
    pub generation: u32,
    /// When it was built.
    pub built: SystemTime,
    /// Files that were saved since, and that it does not include.
    pub saved_since: Paths,
}

/// What is reported to the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    Changed(Cause),
    Building(Proc),
    Built(Proc),
    /// A build succeeded and left the program unchanged, which keeps running.
    SameProgram(Proc),
    /// Files saved during a build that is not cancelled. A newer build follows it.
    Finishing(Paths),
    /// Files that change in each build. The next build follows after this delay.
    ChangesInBuilds(Paths, Duration),
    /// A build for the saves (first) is delayed, to see what else writes the files (second).
    Testing(Paths, Paths, Duration),
    /// Files that the program itself may have written. What follows is delayed by this time.
    Late(Paths, Duration),
    /// Files proven to be written by the program itself, which they would restart.
    OwnWrites(Paths),
    /// Files proven to be written by builds. They start no further builds.
    Outputs(Paths),
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
        #[serde(with = "signal_name")]
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
    /// The proxy listens for browsers.
    ProxyListens {
        /// The URL to open.
        url: String,
        to: Behind,
        /// Whether other machines can connect.
        is_open: bool,
    },
    /// A request has waited in vain for a program.
    HeldInVain {
        waited: Duration,
        why: Absence,
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
    /// An app exited at once. It has, or may have, tried to bind the proxy's port.
    ProxyHasPort {
        port: u16,
        is_certain: bool,
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
    NoRollback(NoRollback),
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
    /// hotrun shuts down.
    Ending(ShutdownBy),
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
    Signalled(Proc, #[serde(with = "signal_name")] Signal),
    /// No app is running that this signal could be sent to.
    NobodyToSignal(#[serde(with = "signal_name")] Signal),
    /// These files hold the same content as when they were last built.
    Unchanged(Paths),
    /// Files changed that only the browser reads.
    ForBrowser {
        paths: Paths,
        /// Whether they are style sheets, which can be reloaded without reloading the page.
        css: bool,
    },
    /// A command starts, in a build or for a rule.
    CommandStarted {
        proc: Proc,
        step: Activity,
        command: String,
    },
    /// A command failed without failing the build.
    Tolerated {
        command: String,
        ended: Ended,
    },
    /// A build was cancelled by a newer save.
    Cancelled(Proc),
    /// A problem that the user can fix.
    Problem(Problem),
}

impl Notice {
    /// The process that it is about.
    pub(crate) fn process(&self) -> Option<Proc> {
        match self {
            Notice::Building(proc)
            | Notice::Built(proc)
            | Notice::SameProgram(proc)
            | Notice::BuildFailed { build: proc, .. }
            | Notice::Cancelled(proc)
            | Notice::RulesDone(proc)
            | Notice::RulesFailed { rules: proc, .. }
            | Notice::CommandStarted { proc, .. }
            | Notice::Stopped(proc)
            | Notice::Killing(proc)
            | Notice::Started(proc)
            | Notice::TerminalGiven(proc)
            | Notice::TerminalKept(proc)
            | Notice::TerminalWanted(proc)
            | Notice::EndlessBuild { build: proc, .. }
            | Notice::Ready(proc)
            | Notice::Running(proc)
            | Notice::Assumed(proc)
            | Notice::Status(proc, _)
            | Notice::AppStopping(proc)
            | Notice::Succeeded(proc, _)
            | Notice::Extended { app: proc, .. }
            | Notice::BoundBeside(proc, _)
            | Notice::Unready { new: proc, .. }
            | Notice::Kept(proc)
            | Notice::TooManyLeave(proc)
            | Notice::AppEnded { app: proc, .. }
            | Notice::Signalled(proc, _) => Some(*proc),
            Notice::Changed(_)
            | Notice::Finishing(_)
            | Notice::ChangesInBuilds(..)
            | Notice::Testing(..)
            | Notice::Late(..)
            | Notice::OwnWrites(_)
            | Notice::Outputs(_)
            | Notice::Overtaken(_)
            | Notice::Holding { .. }
            | Notice::Unkillable(_)
            | Notice::Swept(_)
            | Notice::CrashLoop(..)
            | Notice::PortHeld(_)
            | Notice::Listening { .. }
            | Notice::ProxyListens { .. }
            | Notice::HeldInVain { .. }
            | Notice::ListenerShut(..)
            | Notice::PassedOnByNobody(_)
            | Notice::MayHaveBound { .. }
            | Notice::ProxyHasPort { .. }
            | Notice::NobodyAccepts(..)
            | Notice::PortNeedsHandover(_)
            | Notice::RolledBack(_)
            | Notice::NoRollback(_)
            | Notice::RollbackPossible
            | Notice::NewestAgain
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
            | Notice::Unchanged(_)
            | Notice::ForBrowser { .. }
            | Notice::Tolerated { .. }
            | Notice::Problem(_) => None,
        }
    }
}

/// What follows when an app exits by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// What a command is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activity {
    Building,
    /// A build that only checks whether the one before it had read everything.
    Verifying,
    Rule,
}

/// Why a rollback is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoRollback {
    Ending,
    BuildUnderWay,
    /// No artifact can be gone back to; the reason.
    NothingKept(String),
}

/// Where the program is to which the proxy sends requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behind {
    /// Where it is found to listen.
    Found,
    Port(u16),
    /// A free port for each start, in `PORT`.
    Free,
    /// The path of a socket.
    Unix(String),
}

/// Why no program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Absence {
    /// None was started yet.
    NotStarted,
    /// The first build is running.
    Building,
    /// The last build failed, and no earlier program runs.
    BuildFailed,
    /// A program was started, and is not ready.
    Starting,
    /// The program is being restarted.
    Restarting,
    Exited,
    /// The program runs, but it is not known where it listens.
    NotListening,
    /// hotrun is shutting down.
    Ending,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absence::NotStarted => "the program was not started yet",
            Absence::Building => "the program is being built",
            Absence::BuildFailed => "the build failed, and no program is running",
            Absence::Starting => "the program is not ready",
            Absence::Restarting => "the program is being restarted",
            Absence::Exited => "the program has exited",
            Absence::NotListening => "the program listens on no port",
            Absence::Ending => "hotrun is shutting down",
        })
    }
}

/// A problem that the user can fix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Problem {
    /// Something that hotrun can do without does not work.
    Failed(Error),
    /// A part of the configuration that does not mean what it seems to mean; the place, and why.
    Configuration(String),
    /// The configuration cannot be read again. The previous one stays in effect.
    ConfigurationKept(Error),
    /// An env file cannot be read. The previous values stay in effect, if there are any.
    EnvFile {
        error: Error,
        has_values: bool,
    },
    /// No file in these directories matches the filters.
    NothingToWatch {
        roots: String,
    },
    Watching(Watching),
    /// The host name of a readiness check cannot be resolved.
    UnknownHost {
        check: String,
        host: String,
    },
    /// A guardian does not answer.
    GuardianSilent {
        pid: i32,
        /// Whether it was to kill its processes, and is killed itself.
        is_killed: bool,
    },
    /// Another process has killed a guardian.
    GuardianKilled {
        pid: i32,
    },
    /// There is no directory for sockets; the places that were tried.
    NoPrivateDirectory {
        tried: Vec<String>,
    },
    /// A socket for readiness messages cannot be opened; the reason.
    NoNotifySocket(String),
    /// What is wrong with the proxy's certificate, though it is used.
    Certificate(&'static str),
    /// The program listens on another port than the proxy expects.
    OtherPort {
        expected: u16,
        found: u16,
        /// Whether hotrun chose the expected port, and passed it to the program.
        is_given: bool,
    },
    /// Files change each time that their own rule runs.
    RuleCausesItself(Paths),
    /// Files that are no longer checked, as they may not belong to the program.
    CheckDropped(Paths),
    /// The check of these files was stopped after this time.
    CheckStopped {
        files: Paths,
        limit: Duration,
    },
    /// Checks are off from now on.
    ChecksOff {
        label: String,
        /// Slow checks in a row.
        times: u32,
        /// The duration of the last one.
        took: Duration,
        /// The files of the last one.
        files: Paths,
    },
    /// A program has failed since an address is in use, and its port is not known.
    AddressInUse,
    /// The last good build cannot be kept; the reason.
    NotKept(String),
    /// `clean_on_exit` does not delete this directory; the reason.
    NotCleaned {
        directory: String,
        why: String,
    },
    /// The output of a build cannot be logged in this file; the reason.
    NotLogged {
        path: String,
        why: String,
    },
    /// A build was stopped by a signal that no key sends.
    BuildStopped {
        pid: Option<i32>,
    },
    /// The variables that `cargo run` sets are unknown; the reason.
    NotGiven(String),
    /// Another process has locked what cargo needs.
    CargoWaits {
        file: String,
        holder: i32,
        command: String,
    },
}

impl From<Problem> for Notice {
    fn from(problem: Problem) -> Self {
        Notice::Problem(problem)
    }
}

/// A problem with watching, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watching {
    /// Events were lost. This many changed paths were found by their timestamps.
    Overflow { found: usize },
    /// The system has no events for hotrun; the reason.
    NoEvents(String),
    /// There are more directories than the system watches for one user.
    Limit(Option<WatchLimit>),
    /// All directories are watched again.
    AllAgain,
    /// The directory's file system does not tell of every change.
    Polled {
        #[serde(serialize_with = "lossy_path")]
        directory: PathBuf,
        file_system: String,
    },
    /// Too many files are open for this directory to be listed.
    TooManyFiles {
        #[serde(serialize_with = "lossy_path")]
        directory: PathBuf,
    },
    /// The mounts at these places have changed.
    MountChanged(Paths),
    /// Another directory has taken the place of this root.
    Replaced {
        #[serde(serialize_with = "lossy_path")]
        root: PathBuf,
    },
    Missing {
        #[serde(serialize_with = "lossy_path")]
        path: PathBuf,
    },
    /// What was missing is there.
    There {
        #[serde(serialize_with = "lossy_path")]
        path: PathBuf,
    },
}

/// The system's limit on file watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct WatchLimit {
    /// The name for `sysctl`.
    pub name: &'static str,
    /// How many watches each user may have.
    pub value: u64,
}
