//! Starts, stops and waits for the processes that hotrun runs: builds, apps, hooks and short
//! helpers.
//!
//! Each of them has a guardian, a separate process that owns the whole tree. `Exited` is reported
//! when the first process of the tree exits, and `Gone` when no process of it is left except those
//! that may stay. When hotrun dies, the guardians stop their trees. When a guardian dies, hotrun
//! inherits the tree and stops it.
//!
//! This module also owns the only reaper. hotrun adopts orphans, so it must wait for all of its
//! children, and no other code may wait for them; so nothing here or above uses `tokio::process`.
//! Everything runs on one thread: a child is registered before the next await after its start, and
//! cannot be reaped in between.
//!
//! This module never knows the reason for an order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use regex::bytes::Regex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use crate::config::{Command, Scope, Spare, Stage};
use crate::error::{Error, Result};
use crate::event::{Ended, Proc, quoted};
use crate::inbox::Inbox;
use crate::listen::Inherited;
use crate::notice::Notice;
use crate::project::{Ask, Question};
use crate::report::console::{Console, Stream};

pub(crate) mod guardian;
pub(crate) mod terminal;
mod tree;
mod output;
pub(crate) mod ports;
mod leftovers;
mod guardians;
mod link;
mod reaper;
pub(crate) mod open_files;
#[cfg_attr(target_os = "linux", path = "process/linux.rs")]
#[cfg_attr(target_os = "macos", path = "process/macos.rs")]
mod platform;
mod raw;

use guardians::Guardians;
use leftovers::Record;
pub(crate) use leftovers::{
    file_of, files_for, is_alive, known_ports, may_give_orders, own_file, owner, remember_ports,
    shared_file, shared_files, signal_other, sweep, until_guardians_have_ended, why_no_directory,
};
use link::{FromGuardian, Launch, ToGuardian};
pub(crate) use output::without_escapes;
use output::{Kept, Output};
pub(crate) use platform::{has_written_files, ignores};
pub(crate) use ports::Freeing;
#[cfg(not(target_os = "linux"))]
pub(crate) use raw::stop_here;
#[cfg(target_os = "linux")]
pub(crate) use raw::watch_signals;
pub(crate) use raw::{is_ignored, own};
use reaper::Reaper;
#[cfg(target_os = "linux")]
pub(crate) use terminal::stop_here;
use tree::{Order, Tree, bare_launch, not_started};

/// The name of guardians in `ps`. It does not contain hotrun's name: `pkill hotrun` should not
/// match them, and they exit with hotrun anyway.
const GUARDIAN: &str = "hotguard";
/// The variable that marks all processes of a guardian. Its value consists of the pid and start
/// time of the hotrun that owns it, and the guardian's number.
const TREE: &str = "HOTRUN_TREE";

/// The first descriptor that a program may inherit beside its standard streams, and the variable
/// that reports that they are meant for this process (`sd_listen_fds(3)`).
const FIRST_LISTENER: i32 = 3;
const LISTEN_PID: &str = "LISTEN_PID";

/// Delay before the progress output of a helper is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);
/// Interval at which more of that output is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A process of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    pid: Pid,
    parent: Pid,
    group: Pid,
    session: Pid,
    /// Start time, in the system's own unit.
    start: u64,
    /// Whether it has exited and was not waited for.
    is_zombie: bool,
}

impl Member {
    /// A value that no other process has, even if a pid is reused.
    fn identity(&self) -> (Pid, u64) {
        (self.pid, self.start)
    }
}

/// Separates the processes that must go from those that may stay: those whose command lines match
/// `spare`, and their descendants. Parents come before their children. A command itself is never
/// spared.
fn part_spared(
    all: Vec<Member>,
    command: Option<Pid>,
    spare: &Spare,
) -> (Vec<Member>, Vec<Member>) {
    let mut spared: HashSet<Pid> = HashSet::new();
    all.into_iter().partition(|one| {
        let may_stay = Some(one.pid) != command
            && (spared.contains(&one.parent) || spare.has(&platform::command_line(one.pid)));
        if may_stay {
            spared.insert(one.pid);
        }
        !may_stay
    })
}

/// Commands to run one after another, as one process.
#[derive(Debug)]
pub(crate) struct Job {
    /// The commands, in this order. They run until one fails.
    pub stages: Vec<Stage>,
    /// A query that may follow when all commands have succeeded.
    pub then: Option<Then>,
    /// The file to execute, if it is not the one that the command names.
    pub program: Option<PathBuf>,
    /// The working directory.
    pub directory: PathBuf,
    /// Variables in addition to hotrun's own.
    pub env: Vec<(OsString, OsString)>,
    /// Time limit after which `Overdue` is reported, even if the job was not asked to exit.
    pub limit: Option<Duration>,
    /// What happens to the output.
    pub printing: Printing,
    /// Whether the remaining stages run after one has failed.
    pub runs_all: bool,
    /// How the commands are connected to the terminal.
    pub terminal: Attachment,
    /// The signal that the guardian sends if hotrun dies.
    pub farewell: Signal,
    /// Which processes get a signal to exit.
    pub scope: Scope,
    /// Globs for the command lines of processes in the tree that may outlive it.
    pub spare: Rc<[String]>,
    /// Ports that it will listen on: a process that holds one is reported before the start.
    pub ports: Vec<u16>,
    /// Whether a process that holds one of these ports may be stopped.
    pub freeing: Freeing,
    /// Sockets that it inherits.
    pub listeners: Vec<Rc<Inherited>>,
    /// Whether the output passes through hotrun, which reports a line that says that an address is
    /// in use.
    pub reads_output: bool,
    /// A pattern whose first match in a line of output is reported. The output passes through
    /// hotrun then.
    pub look_for: Option<Regex>,
    /// Time after the start of the last command at which the ports are reported that it listens on.
    pub look_at_ports: Option<Duration>,
}

/// What happens to the output of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printing {
    /// Goes directly to hotrun's own stdout and stderr.
    Inherited,
    /// Passes through hotrun, in order with hotrun's own lines.
    Copied,
    /// Passes through hotrun, and is also kept and reported before the command's exit is.
    Kept,
    /// Is kept and reported, but not printed.
    Withheld,
}

impl Job {
    /// Whether the output is searched for a pattern.
    fn is_searched(&self) -> bool {
        self.reads_output || self.look_for.is_some()
    }

    /// Whether it can report its state as systemd's services do.
    fn has_notify_socket(&self) -> bool {
        self.env.iter().any(|(name, _)| name == "NOTIFY_SOCKET")
    }
}

/// Decides which command follows the last stage, by what that stage printed for hotrun. The output
/// of this command is not shown, and the job does not fail with it.
pub(crate) struct Then(pub Box<Decision>);

/// From the output to the next command.
type Decision = dyn Fn(&[u8]) -> Option<Command>;

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}

/// How a command is connected to the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Its input is empty. Its output goes where hotrun's output goes, or is kept.
    #[default]
    OutputOnly,
    /// hotrun's own streams, in the background: the command is stopped when it reads.
    Background,
    /// hotrun's own streams, in the foreground.
    Foreground,
    /// A terminal of its own, which is copied to hotrun's stdout. Its input is empty.
    Copied,
}

/// What the processes of an app listen on when it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// TCP ports.
    pub ports: BTreeSet<u16>,
    /// The pids of the processes that listen on them.
    pub holders: BTreeSet<i32>,
}

/// What is reported of a job.
#[derive(Debug)]
pub(crate) enum FromProcess {
    /// A command is about to run.
    Running {
        /// Its name in the output.
        label: String,
        /// Whether it is the last command.
        is_last: bool,
        /// Dropped when its line is written; the command waits for that.
        announced: oneshot::Sender<()>,
        /// Whether its program exists.
        is_found: bool,
    },
    /// The first process was spawned and has this pid.
    Spawned(i32),
    /// The first process was stopped by this signal.
    Stopped(Signal),
    /// The first process exited, and its descendant with this pid takes its place.
    Succeeded(i32),
    /// The first process exited; for a build, its last command.
    Exited(Ended),
    /// No process of the tree is left. Always after `Exited`.
    Gone,
    /// The grace period, or the time limit, is over.
    Overdue,
    /// Output of a command that was captured.
    Output(Vec<u8>),
    /// Output of a command that is also shown, where it is kept to find errors in it.
    Printed(Vec<u8>),
    /// The answer to the query after a build, or why there is none.
    Answered(std::result::Result<Vec<u8>, String>),
    /// A command failed without failing the job.
    Tolerated(String, Ended),
    /// It printed a line that matches the pattern.
    LogMatched,
    /// It reported an address in use, perhaps with the port. It is expected to exit.
    AddressInUse(BTreeSet<u16>),
    /// It listens on these TCP ports.
    Listens(BTreeSet<u16>),
    Say(Notice),
}

/// All processes that were started and are not gone.
pub(crate) struct Processes {
    means: Means,
    orders: HashMap<Proc, mpsc::UnboundedSender<Order>>,
    /// Closed when the last spawned process has started, or has failed to.
    last_begins: Option<oneshot::Receiver<()>>,
    record: Option<Record>,
}

/// What every start needs.
#[derive(Clone)]
struct Means {
    inbox: Inbox<(Proc, FromProcess)>,
    reaper: Reaper,
    guardians: Guardians,
    console: Console,
    /// Children of this process from before it executed hotrun.
    foreign: Rc<HashSet<Pid>>,
}

impl Processes {
    /// Starts the reaper. Must be called on the thread, and inside the local set, that will do all
    /// the spawning.
    pub(crate) fn new(inbox: Inbox<(Proc, FromProcess)>, console: Console) -> Result<Self> {
        if let Some(why) = platform::why_unknown() {
            let remedy = "mount it in this namespace: mount -t proc proc /proc \
                          (unshare: --mount-proc)";
            let reason =
                format!("{why}, so hotrun could not stop the processes that a program starts");
            return Err(Error::failed("/proc", reason).remedy(remedy));
        }
        platform::adopt_orphans()
            .map_err(|error| Error::failed("cannot adopt orphaned processes", error))?;
        let foreign = platform::orphans("", |_| false).iter().map(|one| one.pid).collect();
        let reaper = Reaper::start()?;
        let guardians = Guardians::new(reaper.clone(), owner());
        let means = Means { inbox, reaper, guardians, console, foreign: Rc::new(foreign) };
        Ok(Self { means, orders: HashMap::new(), last_begins: None, record: None })
    }

    /// Starts guardians ahead of need. Records this hotrun, so that the next one in this project
    /// can clean up if this one is killed.
    pub(crate) fn prepare(&mut self, project: &Path) {
        self.means.guardians.start_ahead();
        self.record = Record::new(project);
    }

    /// Returns a runner for short helpers, which can be used as long as `self` exists.
    pub(crate) fn helper(&self) -> Helper {
        Helper { guardians: self.means.guardians.clone(), console: self.means.console.clone() }
    }

    /// Runs a job. The inbox gets reports of its progress.
    pub(crate) fn spawn(&mut self, proc: Proc, job: Job) {
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders.insert(proc, sender);
        let (begins, last_begins) = oneshot::channel();
        let before = self.last_begins.replace(last_begins);
        let tree = Tree::new(proc, &job, orders, begins, self.means.clone());
        spawn_local(async move {
            // One after another, in the order of the decisions: a build that follows the start of
            // an app must not overwrite the app's file before it is executed.
            if let Some(before) = before {
                let _ = before.await;
            }
            tree.run(job).await;
        });
    }

    /// Asks it to exit, and reports `Overdue` after the grace period. `keys` are the settings that
    /// decide about that, for messages.
    pub(crate) fn dismiss(&self, proc: Proc, signal: Signal, grace: Duration, keys: &'static str) {
        self.order(proc, Order::Dismiss(signal, grace, keys));
    }

    /// Shortens the remaining grace period to this, if it was asked to exit.
    pub(crate) fn hurry(&self, proc: Proc, most: Duration) {
        self.order(proc, Order::Hurry(most));
    }

    /// Extends the grace period by this, from now on, if it was asked to exit.
    pub(crate) fn extend(&self, proc: Proc, more: Duration) {
        self.order(proc, Order::Extend(more));
    }

    /// Kills all processes that are left of it.
    pub(crate) fn kill(&self, proc: Proc) {
        self.order(proc, Order::Kill);
    }

    /// Sends a signal to its first process.
    pub(crate) fn signal(&self, proc: Proc, signal: Signal) {
        self.order(proc, Order::Signal(signal));
    }

    /// Notes that it is ready, and where it serves. A descendant that serves the same ports when
    /// its first process exits with success takes the place of that process.
    pub(crate) fn serves(&self, proc: Proc, served: Served) {
        self.order(proc, Order::Serves(served));
    }

    /// Notes that its descendant with this pid takes the place of its first process when that
    /// exits.
    pub(crate) fn succeed(&self, proc: Proc, pid: i32) {
        self.order(proc, Order::Succeed(pid));
    }

    /// Stops all processes, as Ctrl-Z does.
    pub(crate) fn suspend(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Suspend));
    }

    /// Continues all processes that were stopped.
    pub(crate) fn resume(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resume));
    }

    /// Sends a signal to the process group of its first process.
    pub(crate) fn pass(&self, proc: Proc, signal: Signal) {
        self.order(proc, Order::Pass(signal));
    }

    /// Continues this one.
    pub(crate) fn resume_one(&self, proc: Proc) {
        self.order(proc, Order::Resume);
    }

    /// Notes that the size of the terminal's window has changed.
    pub(crate) fn resized(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resized));
    }

    /// Has what a process prints printed, if that is withheld.
    pub(crate) fn show(&self, proc: Proc) {
        self.order(proc, Order::Show);
    }

    /// Forgets a process that is gone.
    pub(crate) fn forget(&mut self, proc: Proc) {
        self.orders.remove(&proc);
    }

    /// Waits until all guardians have exited, at most this long. Then kills the remaining ones,
    /// which guard nothing at this point. With a time of zero they are left to exit by themselves.
    pub(crate) async fn end(self, most: Duration) {
        let Self { means: Means { reaper, guardians, .. }, orders, record, .. } = self;
        drop((guardians, orders));
        let is_late = tokio::time::timeout(most, reaper.until_nobody_is_left()).await.is_err();
        if is_late && !most.is_zero() {
            reaper.kill_all();
            let _ = tokio::time::timeout(most, reaper.until_nobody_is_left()).await;
        }
        drop(record);
    }

    fn order(&self, proc: Proc, order: Order) {
        if let Some(orders) = self.orders.get(&proc) {
            // It may have exited at this moment; then `Gone` follows.
            let _ = orders.send(order);
        }
    }
}

/// Runs short helpers.
#[derive(Clone)]
pub(crate) struct Helper {
    guardians: Guardians,
    console: Console,
}

impl Ask for Helper {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        let command = Command::Argv(question.argv);
        let name = describe(&command);
        let failed = |why: &dyn std::fmt::Display| Error::failed(&name, why);
        let mut output = Output::default();
        let stdout = output.pipe(Kept::Printed).map_err(|error| failed(&error))?;
        let stderr = output.pipe(Kept::Messages).map_err(|error| failed(&error))?;
        // If this future is dropped, the guardian is dropped too, and stops the helper.
        let mut guardian = self.guardians.take().await.map_err(|error| failed(&error))?;
        let launch =
            Launch { streams: [false, true, true], ..bare_launch(&command, &question.directory) };
        let fds = [stdout.as_fd(), stderr.as_fd()];
        guardian.tell(&ToGuardian::Start(launch), &fds).await;
        drop((stdout, stderr));
        // How much of its error output has been shown.
        let mut shown = 0;
        let mut next_look = Instant::now() + PROGRESS_DELAY;
        let mut is_slow = false;
        let ended = loop {
            tokio::select! {
                () = sleep_until(next_look) => {
                    if !std::mem::replace(&mut is_slow, true) && output.messages.is_empty() {
                        let text = format!("hotrun: waiting for {}\n", short(&command));
                        self.console.say(Stream::Stderr, text.as_bytes());
                    }
                    self.console.say(Stream::Stderr, &output.messages[shown..]);
                    shown = output.messages.len();
                    next_look = Instant::now() + PROGRESS_INTERVAL;
                }
                told = guardian.hear() => match told {
                    Some(FromGuardian::Exited(ended)) => break ended,
                    Some(FromGuardian::NotStarted(failure)) => {
                        let why = not_started(&command, None, &question.directory, failure);
                        return Err(failed(&why).remedy("install it, or put it on the PATH"));
                    }
                    Some(FromGuardian::Stopped(signal))
                        if [Signal::SIGTTIN as i32, Signal::SIGTTOU as i32].contains(&signal) =>
                    {
                        return Err(failed(&"it is waiting for input on the terminal")
                            .remedy("run it once by hand and answer the prompt"));
                    }
                    Some(_) => {}
                    None => return Err(failed(&"its guardian was killed")),
                },
                () = output.read() => {}
            }
        };
        output.read_rest().await;
        if ended.succeeded() {
            return Ok(output.printed);
        }
        let complained = String::from_utf8_lossy(&output.messages);
        Err(failed(&format!("{ended}\n{}", complained.trim_end())).by_command())
    }
}

/// A file lock that a command is waiting for.
pub(crate) struct AwaitedLock {
    pub(crate) file: String,
    pub(crate) holder: Pid,
    /// The command line of the holder.
    pub(crate) command: String,
}

/// Returns the lock that this command, or a process of its group, is waiting for.
pub(crate) fn awaited_lock(pid: Pid) -> Option<AwaitedLock> {
    platform::awaited_lock(pid)
}

pub(crate) fn is_running(pid: Pid) -> bool {
    platform::start_of(pid).is_some()
}

/// The first words of a command, without its options.
fn short(command: &Command) -> String {
    match command {
        Command::Argv(argv) => {
            let is_option = |word: &&OsString| word.as_encoded_bytes().starts_with(b"-");
            let words = argv.iter().take_while(|word| !is_option(word)).cloned();
            describe(&Command::Argv(words.collect()))
        }
        Command::Shell(..) => describe(command),
    }
}

/// Sleeps until this time; without one, never returns.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A command as the user would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = |words: &[OsString]| {
        let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
        words.collect::<Vec<_>>().join(" ")
    };
    match command {
        Command::Argv(argv) => words(argv),
        Command::Shell(text, args) if args.is_empty() => text.clone(),
        Command::Shell(text, args) => format!("{text} {}", words(args)),
    }
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_described_as_a_person_would_type_it() {
        let argv = ["./app", "two words", "$x"].map(OsString::from).to_vec();
        assert_eq!(describe(&Command::Argv(argv)), "./app 'two words' '$x'");
        let shell = Command::Shell("make && ./app".into(), vec!["a b".into()]);
        assert_eq!(describe(&shell), "make && ./app 'a b'");
    }
}
