//! The nouns: processes, causes, events, notices. Everything above speaks in them.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::attribution::Content;
use crate::error::Error;
use crate::text::visible;

/// hotrun's own number for something it started. Unlike a pid it is never reused, so a
/// late message cannot hit a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proc(pub u32);

/// What a process was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// A build: its `pre_cmd`s, then its `cmd`.
    Build,
    /// The commands of rules.
    Rules,
    /// The supervised program.
    App,
    /// A `post_cmd`.
    Hook,
}

/// Why a build was started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// hotrun itself was started.
    Start,
    /// Files were saved; their paths in the order of their first change.
    Save(Vec<PathBuf>),
    /// These files changed while a build ran, which may have written them itself.
    Written(Vec<PathBuf>),
    /// The configuration was changed.
    Config,
    /// Somebody asked for it.
    Order,
}

impl Cause {
    /// Two causes of one build. Paths are kept, whatever they are joined with.
    #[must_use]
    pub fn join(self, newer: Cause) -> Cause {
        match (self, newer) {
            (Cause::Written(paths), Cause::Written(more)) => {
                Cause::Written(without_repeats(paths, more))
            }
            (Cause::Save(paths), Cause::Save(more) | Cause::Written(more))
            | (Cause::Written(paths), Cause::Save(more)) => {
                Cause::Save(without_repeats(paths, more))
            }
            // Somebody wants it: it is no verification.
            (Cause::Written(paths), Cause::Start | Cause::Config | Cause::Order)
            | (Cause::Start | Cause::Config | Cause::Order, Cause::Written(paths)) => {
                Cause::Save(paths)
            }
            (save @ Cause::Save(_), Cause::Start | Cause::Config | Cause::Order) => save,
            (Cause::Start | Cause::Config | Cause::Order, newer) => newer,
        }
    }

    /// Joined to an older cause, if there is one.
    #[must_use]
    pub fn after(self, older: Option<Cause>) -> Cause {
        match older {
            None => self,
            Some(older) => older.join(self),
        }
    }

    /// The paths that were saved.
    pub fn paths(&self) -> &[PathBuf] {
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

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ended {
    /// It returned this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: i32,
        /// The kernel wrote a core dump.
        core: bool,
    },
    /// It never ran, or what it made cannot be run: why.
    NotStarted(String),
}

impl Ended {
    /// True when it returned 0.
    pub fn succeeded(&self) -> bool {
        *self == Ended::Code(0)
    }

    /// The exit code that a shell would report: 128+n for a signal, 127 when it never ran.
    pub fn exit_code(&self) -> u8 {
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

/// A handful of changed paths, said in one breath: `src/main.rs and 2 more`.
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

/// A word as a shell reads it back. (What no shell can read, a zero byte, stays as it is.)
pub(crate) fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

/// A path as text for a terminal: control characters (an escape sequence, a line break)
/// are shown, not obeyed.
pub(crate) fn printable(path: &Path) -> String {
    visible(&path.to_string_lossy()).replace('\n', "\\n")
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Build again.
    Rebuild,
    /// Start the app again.
    Restart,
    /// Start the last good artifact.
    Rollback,
    /// Keep saves, or act on those that were kept.
    Pause,
    /// Clear the screen.
    Clear,
    /// End hotrun.
    Quit,
    /// Show the keys.
    Help,
}

/// What can be asked for by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Start the app again from what was last built.
    Restart,
    /// Start the last good artifact before the one that runs.
    Rollback,
    /// Send the app this signal.
    Signal(Signal),
    /// Keep saves, do not act on them.
    Pause,
    /// Act on what was kept.
    Resume,
    /// The one of the two that is not so already.
    PauseOrResume,
}

/// Whether the old app is dismissed before the new one is started, or after it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Before: never two apps at once.
    Restart,
    /// After: the old app serves until the new one does.
    Handover,
}

/// What an app is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// What was last built.
    Built,
    /// An artifact that was good, and of which a copy was kept.
    Kept,
}

/// Why nothing older is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no older artifact that was good.
    NothingKept,
    /// A build, or a rule, runs, and goes forward when it has ended.
    BuildUnderWay,
    /// hotrun ends.
    Ending,
}

/// What follows when the app ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnExit {
    /// Wait for a save.
    Wait,
    /// Start it again, later each time.
    Restart,
    /// End hotrun with the app's exit code.
    Quit,
}

/// What the state machine needs to know of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Restart or handover.
    pub mode: Mode,
    /// What follows when the app ends by itself.
    pub on_exit: OnExit,
    /// A failed build dismisses the running app (air's `stop_on_error`).
    pub stop_on_error: bool,
    /// A failed start is followed by the last good artifact.
    pub rollback: bool,
    /// There is something to build.
    pub builds: bool,
    /// There is something to run.
    pub runs: bool,
    /// How many `post_cmd`s run when hotrun is asked to end.
    pub hooks: usize,
    /// Builds keep a distance (`build.delay` is more than 0).
    pub spaced: bool,
    /// `--once`: a failed build ends hotrun too.
    pub once: bool,
}

/// A deadline that the state machine asked for, named by the process that it follows, so
/// that a late one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// `build.delay`, from the start of this build.
    Spacing(Proc),
    /// The pause before an app is started again, from the end of this one.
    Backoff(Proc),
}

/// All that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Something that matters has changed.
    Saved(Cause),
    /// Something changed that builds read, and the running build is not cancelled for it: the
    /// next one is to follow when what was built has had its start.
    FollowUp(Cause),
    /// Files changed that are not for the build but for the commands of rules.
    Ruled(Cause),
    /// A build wrote such files; the rules are to run when it has ended.
    RuledByBuild(Cause),
    /// Files changed that only the running app reads: it is to be started again.
    AppInput(Cause),
    /// Files changed that a running app reads by itself: it is started if none is running.
    Revival(Cause),
    /// What was last built is there no more.
    Unbuilt,
    /// Its first process ended (of a build: its last command).
    Exited(Proc, Ended),
    /// The build ended well, and has left the program as it was from which this app was
    /// started: it needs no other.
    BuiltSame {
        /// The build.
        build: Proc,
        /// The app.
        app: Proc,
    },
    /// No process of its tree is left. Always after `Exited`.
    Gone(Proc),
    /// It serves, on evidence.
    Ready(Proc),
    /// It has lived for a while, without evidence that it serves. `Ready` may follow.
    Running(Proc),
    /// It did not serve in time.
    Unready(Proc),
    /// It was ready, and has lived long enough to be trusted.
    Proven(Proc),
    /// There is now, or is no more, an older good artifact to go back to.
    Fallback(bool),
    /// It was asked to end, and its grace is over.
    Overdue(Proc),
    /// A deadline has come.
    Due(Timer),
    /// Ctrl-C, or SIGTERM, or SIGHUP.
    Interrupted,
    /// Somebody asked for something.
    Ordered(Order),
    /// A new configuration was read, and it is good.
    Reconfigured(Policy),
}

/// What arrives in the one inbox: events for the state machine, and facts that the engine
/// turns into such events.
#[derive(Debug)]
pub enum Message {
    /// For the state machine.
    Event(Event),
    /// A burst of saves is over.
    Changed(Burst),
    /// It is time for the saves that were put off.
    ChangedLate,
    /// What the files held before anything was run; and whether that is all of them.
    Known(Vec<(PathBuf, Content)>, bool),
    /// Everything is watched now.
    Watching(Found),
    /// A process has this pid now.
    Spawned(Proc, i32),
    /// Its first process was stopped, by this signal.
    Stopped(Proc, Signal),
    /// It has not become ready in time, for this reason.
    Unready(Proc, String),
    /// It counts as ready, as nothing says otherwise.
    Assumed(Proc),
    /// Its address, if that is known, and what is served by whom; `Ready` follows.
    Serves(Proc, Option<SocketAddr>, Served),
    /// It says that the process with this pid is its first one from now on (`MAINPID=`).
    MainPid(Proc, i32),
    /// Its first process has ended, and the one with this pid, its descendant, goes on in that
    /// one's place.
    Succeeded(Proc, i32),
    /// It has printed what was waited for.
    LogMatched(Proc),
    /// What it says of its state.
    Status(Proc, String),
    /// It says that it ends.
    Stopping(Proc),
    /// It asks for so much more time, from now on.
    Extend(Proc, Duration),
    /// The artifact of this number was copied, or was not, for this reason.
    Copied(u32, Result<(), String>),
    /// It has said that an address is in use, perhaps with the port; its end follows.
    AddressInUse(Proc, BTreeSet<u16>),
    /// It listens on these TCP ports.
    Listens(Proc, BTreeSet<u16>),
    /// SIGINT has not ended this app; its own signal is due.
    AskAgain(Proc),
    /// A command is about to run.
    Running {
        /// As a part of this.
        proc: Proc,
        /// What it is called in output.
        label: String,
        /// Nothing runs after it.
        is_last: bool,
        /// Dropped when the line about it is written; the command waits for that.
        announced: oneshot::Sender<()>,
    },
    /// What a command of a build printed, where that was asked for.
    Output(Proc, Vec<u8>),
    /// The answer to the question behind a build, or why there is none.
    Answered(Proc, Result<Vec<u8>, String>),
    /// What a command of it printed for people, where that is kept.
    Printed(Proc, Vec<u8>),
    /// A command of a build failed, and the build goes on.
    Tolerated(Proc, String, Ended),
    /// Something was typed.
    Typed {
        /// If it is a key: which.
        key: Option<Key>,
        /// So many places of the line show it.
        shown: usize,
    },
    /// The window of the terminal was closed, or the line is cut.
    TerminalClosed,
    /// SIGINT, as by Ctrl-C.
    CtrlC,
    /// Ctrl-Z.
    Suspend,
    /// hotrun goes on, or was put into the foreground or background.
    Continued,
    /// The window has another size.
    Resized,
    /// Somebody asks for something, and waits for what hotrun says to it.
    Asked(Order, oneshot::Sender<Result<String, String>>),
    /// The hotrun with this pid is to run in place of this one.
    TakenOver(u32),
    /// Somebody has shut a listener down.
    ListenerShut,
    /// A build may have been silent for long.
    Tick,
    /// The greeting has waited long enough.
    Introduce,
    /// It is time to look at the modes of the terminal.
    LookAtTerminal,
    /// A process has read from the terminal, or written to it.
    TerminalUsed,
    /// The line that reports that this process has the terminal is written.
    TerminalAnnounced(Proc),
    /// A program that has begun has had time to look at the modes of the terminal.
    HasBegun,
    /// Something to say.
    Say(Notice),
    /// The configuration has been read again.
    Loaded,
    /// go has named what the program is built from.
    Listed,
    /// A part of hotrun has failed; it cannot go on.
    Broken(Error),
}

/// How much is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Directories; each costs one watch of the operating system.
    pub directories: usize,
    /// Files whose change matters.
    pub files: usize,
}

/// Saves close together, acted on as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// What was saved, in the order of the first change.
    pub saves: Vec<Save>,
    /// Directories that appeared since the last burst, and when.
    pub directories: Vec<(PathBuf, Instant)>,
    /// When the first of these saves was seen.
    pub first: Instant,
    /// When the last event was.
    pub last: Instant,
}

/// A file that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// Which.
    pub path: PathBuf,
    /// What it held at each completed write, in this order; looked at when that was reported.
    pub contents: Vec<Content>,
    /// It was there before; `None` where that cannot be told.
    pub existed: Option<bool>,
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Message::Event(event)
    }
}

/// What the processes of an app listen on when it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// TCP ports.
    pub ports: BTreeSet<u16>,
    /// The pids of the processes that listen on them.
    pub holders: BTreeSet<i32>,
}

/// Somebody who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The port.
    pub port: u16,
    /// Its pid.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// How long it has lived, where that is known.
    pub age: Option<Duration>,
    /// Who has started it.
    pub whose: Whose,
    /// What was, or can be, done about it.
    pub remedy: Remedy,
}

/// Who has started somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A hotrun that was killed.
    DeadHotruns,
    /// A hotrun that runs.
    AnotherHotruns,
    /// Nobody that is known.
    Strangers,
}

/// What was, or can be, done about somebody who holds a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// It was ended.
    Ended,
    /// `--free-port` would end it.
    Possible,
    /// It was to be ended, but is another user's or another project's.
    NotOurs,
    /// It may stay: it only has the socket because a program has started it.
    Spared,
    /// It was to be ended, and would not.
    NotPossible,
    /// It is another user's or another project's.
    None,
}

/// What was done about a listener to which nobody could connect any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repair {
    /// It is listened on again, by whoever has it.
    Again,
    /// Its file is there again.
    FileBack,
    /// There is a new one, for the next program.
    Anew,
    /// Nothing could be done, for this reason; it is tried again when a program has ended.
    Failed(String),
}

/// A good artifact that was gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WentBack {
    /// The generation that proved it good.
    pub generation: u32,
    /// When it was built.
    pub built: SystemTime,
    /// What was saved since, and is not in it.
    pub saved_since: Vec<PathBuf>,
}

/// What is said to the person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// What changed.
    Changed(Cause),
    /// A build has begun.
    Building(Proc),
    /// A build has succeeded.
    Built(Proc),
    /// A build has succeeded, and left the program as it was: it keeps running.
    SameProgram(Proc),
    /// These were saved while a build ran that is let through; a newer build follows it.
    Finishing(Vec<PathBuf>),
    /// These change each time that a build runs; the next build follows after this pause.
    ChangesInBuilds(Vec<PathBuf>, Duration),
    /// The build for these saves begins after this time, to see what else writes those files.
    Testing(Vec<PathBuf>, Vec<PathBuf>, Duration),
    /// The program itself may have written these: what follows comes after this delay.
    Late(Vec<PathBuf>, Duration),
    /// These are proven to be written by the program itself, which they would restart.
    OwnWrites(Vec<PathBuf>),
    /// These are proven to be written by builds, and start no more of them.
    Outputs(Vec<PathBuf>),
    /// A build has failed.
    BuildFailed {
        /// The build.
        build: Proc,
        /// How it ended.
        ended: Ended,
        /// Who serves on.
        app: Option<Proc>,
    },
    /// The commands of rules have succeeded.
    RulesDone(Proc),
    /// A command of a rule has failed.
    RulesFailed {
        /// The rules.
        rules: Proc,
        /// How it ended.
        ended: Ended,
        /// Who serves on.
        app: Option<Proc>,
    },
    /// This many builds in a row were overtaken.
    Overtaken(u32),
    /// An app that was dismissed is gone.
    Stopped(Proc),
    /// It was asked to end and did not; it is killed now.
    Killing(Proc),
    /// These, by pid and command line, have not ended.
    Holding {
        /// They.
        who: Vec<(i32, String)>,
        /// What asked them to.
        signal: Signal,
        /// When they are killed.
        kill_in: Option<Duration>,
        /// What decides that.
        key: &'static str,
    },
    /// These have survived SIGKILL.
    Unkillable(Vec<(i32, String)>),
    /// An app has been started.
    Started(Proc),
    /// This process has the terminal from now on.
    TerminalGiven(Proc),
    /// It wants the terminal, which the older app beside it has.
    TerminalKept(Proc),
    /// It wants the terminal, which is not hotrun's to give.
    TerminalWanted(Proc),
    /// An earlier hotrun had left these behind, by pid and command line; they are ended.
    Swept(Vec<(i32, String)>),
    /// So many apps in a row have ended soon after their start; the pause before the next.
    CrashLoop(u32, Duration),
    /// Somebody else listens on a port that the program needs.
    PortHeld(Holder),
    /// A build goes on, and listens on this port: it is a program that serves.
    EndlessBuild {
        /// The build.
        build: Proc,
        /// The port.
        port: u16,
        /// What to write into the configuration.
        remedy: String,
    },
    /// An app serves, on evidence.
    Ready(Proc),
    /// It has lived for a while, without evidence that it serves.
    Running(Proc),
    /// It has lived for 1 s without such evidence, and takes the older one's place.
    Assumed(Proc),
    /// What it says of its state.
    Status(Proc, String),
    /// It says that it ends.
    AppStopping(Proc),
    /// The first process of this app had this pid and has ended well; another one goes on.
    Succeeded(Proc, Option<i32>),
    /// It asks for so much more time, to end or to become ready.
    Extended {
        /// The app.
        app: Proc,
        /// From now on.
        more: Duration,
        /// It was asked to end.
        to_end: bool,
    },
    /// hotrun listens on this address, for the program; the descriptor, and the name.
    Listening {
        /// The address.
        address: String,
        /// As which the program finds it.
        descriptor: usize,
        /// By which it is told from others.
        name: Option<String>,
    },
    /// Somebody has shut this listener down for all, or has deleted its file; what was done.
    ListenerShut(String, Repair),
    /// An app has ended at once: it was run by this tool, which hands no sockets on.
    PassedOnByNobody(&'static str),
    /// An app has ended at once: it may have listened on these addresses itself.
    MayHaveBound {
        /// The addresses.
        addresses: Vec<String>,
        /// A shell stands between hotrun and the program.
        by_shell: bool,
    },
    /// An app listens on the port of this listener by a socket of its own.
    BoundBeside(Proc, String),
    /// So many connections wait on this listener, and nobody accepts them.
    NobodyAccepts(usize, String),
    /// An app has ended at once, beside another that listens on these ports.
    PortNeedsHandover(Vec<u16>),
    /// What was gone back to.
    RolledBack(WentBack),
    /// An app has not become ready in time.
    Unready {
        /// The app that was started.
        new: Proc,
        /// Who serves on; nobody: `new` is given more time.
        app: Option<Proc>,
        /// It is not: the last good artifact is started.
        goes_back: bool,
    },
    /// Somebody wants this one to serve on, not the one that was starting.
    Kept(Proc),
    /// Nothing older is started.
    NoRollback(Refusal),
    /// There is an older good artifact, which is started when somebody wants it.
    RollbackPossible,
    /// What was last built is tried again, though what was gone back to serves.
    NewestAgain,
    /// It is killed, as too many are leaving.
    TooManyLeave(Proc),
    /// An app ended by itself.
    AppEnded {
        /// The app.
        app: Proc,
        /// How it ended.
        ended: Ended,
        /// Who serves on.
        serving: Option<Proc>,
        /// What follows.
        next: Next,
    },
    /// A `post_cmd` failed; those after it do not run.
    HookFailed(Ended),
    /// The configuration was found, and says this.
    Reading(String),
    /// What the project was taken for, and what is run.
    Guessed(String),
    /// hotrun ends.
    Ending,
    /// The hotrun with this pid is to run in place of this one.
    TakenOver(u32),
    /// Everything left is killed.
    Forcing,
    /// Saves are kept from now on.
    Paused,
    /// Saves are acted on again.
    Resumed,
    /// There is nothing to restart.
    NothingBuilt,
    /// The app was sent this signal.
    Signalled(Proc, Signal),
    /// There is no app to send this signal to.
    NobodyToSignal(Signal),
    /// These files hold what they held when they were last built.
    Unchanged(Vec<PathBuf>),
    /// These files changed, which only the browser reads.
    ForBrowser {
        /// The files.
        paths: Vec<PathBuf>,
        /// They are style sheets, which can be loaded again in a page that stays.
        css: bool,
    },
    /// Something that the person should know and can do something about.
    Warning(String),
}

/// What follows when an app ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Nothing, until a save.
    Wait,
    /// A build that is under way will start the next.
    Build,
    /// It is started again after a pause.
    Restart,
    /// The last good artifact is started.
    Rollback,
    /// hotrun ends.
    Quit,
}
