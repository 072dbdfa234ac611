//! Starts, stops and waits for what hotrun runs: builds, apps, hooks and short helpers.
//!
//! Each of them has a guardian, a process of its own that owns its whole tree. `Exited` is
//! told when its first process ends, `Gone` when nobody of the tree is left but those who
//! may stay. When hotrun dies the guardians end their trees; when a guardian dies, hotrun
//! inherits the tree and ends it.
//!
//! It also owns the only reaper. hotrun adopts orphans, so it must wait for every child
//! there is, and nobody else may wait beside it; for that reason nothing here or above uses
//! `tokio::process`. All of this runs on one thread: a child is registered in the same
//! breath in which it is spawned, and cannot be reaped in between.
//!
//! It never knows why it is asked to do something.

use std::collections::{HashMap, HashSet};
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
use crate::event::{Message, Proc, Served, quoted};
use crate::listen::Inherited;
use crate::project::{Ask, Question};
use crate::report::console::{Console, Stream};

pub mod guardian;
mod guardians;
mod leftovers;
mod link;
mod output;
pub mod ports;
#[cfg_attr(target_os = "linux", path = "process/linux.rs")]
#[cfg_attr(target_os = "macos", path = "process/macos.rs")]
mod platform;
mod raw;
mod reaper;
pub mod terminal;
mod tree;

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
pub use ports::Freeing;
#[cfg(not(target_os = "linux"))]
pub(crate) use raw::stop_here;
#[cfg(target_os = "linux")]
pub(crate) use raw::watch_signals;
pub(crate) use raw::{is_ignored, own};
use reaper::Reaper;
#[cfg(target_os = "linux")]
pub(crate) use terminal::stop_here;
use tree::{Order, Tree, bare_launch, not_started};

/// What guardians are called in `ps`. It does not hold the name of hotrun: `pkill hotrun`
/// is not meant for them, and they end with it anyway.
const GUARDIAN: &str = "hotguard";
/// The variable by which everything that a guardian runs is known: pid and start of the
/// hotrun that owns it, and the guardian's number.
const TREE: &str = "HOTRUN_TREE";

/// The first descriptor that a program may inherit beside its standard streams, and the
/// variable that tells it that they are meant for it (`sd_listen_fds(3)`).
const FIRST_LISTENER: i32 = 3;
const LISTEN_PID: &str = "LISTEN_PID";

/// What a helper prints about its progress is shown from then on.
const QUIET_HELPER: Duration = Duration::from_secs(1);
/// How often that is looked at.
const SLOW_HELPER_LOOK: Duration = Duration::from_millis(200);

/// One process of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    pid: Pid,
    parent: Pid,
    group: Pid,
    session: Pid,
    /// When it was started, in the system's own unit.
    start: u64,
    /// It has ended, and was not waited for.
    is_zombie: bool,
}

impl Member {
    /// What no other process shares, now or later.
    fn identity(&self) -> (Pid, u64) {
        (self.pid, self.start)
    }
}

/// Those, parents before their children, who are to go, and those who may stay: by their own
/// command lines or as somebody's below such a one. A command itself is never spared.
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

/// What is to be run, one stage after the other, as one process.
#[derive(Debug)]
pub struct Job {
    /// What runs, in this order, until one fails.
    pub stages: Vec<Stage>,
    /// A question that may follow when all of these have succeeded.
    pub then: Option<Then>,
    /// The file that is executed, where that is not the one that the command names.
    pub program: Option<PathBuf>,
    /// Where.
    pub directory: PathBuf,
    /// Variables beside those that hotrun itself has.
    pub env: Vec<(OsString, OsString)>,
    /// Report `Overdue` after this, though nobody asked it to end.
    pub limit: Option<Duration>,
    /// What becomes of its output.
    pub printing: Printing,
    /// A stage that fails does not keep those after it from running.
    pub runs_all: bool,
    /// What its commands have for a terminal.
    pub terminal: Terminal,
    /// By what it is asked to end when hotrun is dead, and cannot say so.
    pub farewell: Signal,
    /// Who gets a signal that asks it to end.
    pub scope: Scope,
    /// Globs on the command lines of those in its tree that may outlive it.
    pub spare: Rc<[String]>,
    /// Ports that it will listen on: whoever holds one is named before it starts.
    pub ports: Vec<u16>,
    /// What may be done about that one.
    pub freeing: Freeing,
    /// Sockets that it inherits.
    pub listeners: Vec<Rc<Inherited>>,
    /// What it prints passes through hotrun, which reports a line that says that an address is
    /// in use.
    pub reads_output: bool,
    /// Tell as soon as it has printed a line in which this is found. What it prints passes
    /// through hotrun then.
    pub look_for: Option<Regex>,
    /// After so much time of its last command, tell on which ports it listens.
    pub look_at_ports: Option<Duration>,
}

/// What becomes of the output of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printing {
    /// It goes to hotrun's own stdout and stderr directly.
    Inherited,
    /// It passes through hotrun, in order with hotrun's own lines.
    Copied,
    /// Also, it is kept, and reported before the end of the command is.
    Kept,
    /// It is kept and reported, and not printed.
    Withheld,
}

impl Job {
    /// Something is looked for in what it prints.
    fn is_searched(&self) -> bool {
        self.reads_output || self.look_for.is_some()
    }

    /// It can say of itself what systemd's services say.
    fn has_notify_socket(&self) -> bool {
        self.env.iter().any(|(name, _)| name == "NOTIFY_SOCKET")
    }
}

/// Decides, by what the last stage printed for hotrun, which command follows it. Nothing of
/// what that one prints is shown, and the job does not fail with it.
pub struct Then(pub Box<Decision>);

/// From what was printed to the command that follows.
type Decision = dyn Fn(&[u8]) -> Option<Command>;

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}

/// What a command has for a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// Its input is empty; what it prints goes where hotrun's output goes, or is kept.
    #[default]
    OutputOnly,
    /// hotrun's own streams, in the background: it is stopped when it reads.
    Background,
    /// hotrun's own streams, and the terminal is its own.
    Foreground,
    /// One of its own, which is copied to hotrun's stdout. Its input is empty.
    Copied,
}

/// Everything that was started and is not gone.
pub struct Processes {
    means: Means,
    orders: HashMap<Proc, mpsc::UnboundedSender<Order>>,
    /// Closed when what was spawned last has begun, or never will.
    last_begins: Option<oneshot::Receiver<()>>,
    record: Option<Record>,
}

/// What everything that is started needs.
#[derive(Clone)]
struct Means {
    inbox: mpsc::UnboundedSender<Message>,
    reaper: Reaper,
    guardians: Guardians,
    console: Console,
    /// Children that this process had before it became hotrun, and did not start.
    foreign: Rc<HashSet<Pid>>,
}

impl Processes {
    /// Starts the reaper. Must be called on the thread, and inside the local set, that will
    /// do all the spawning.
    pub fn new(inbox: mpsc::UnboundedSender<Message>, console: Console) -> Result<Self> {
        if let Some(why) = platform::why_unknown() {
            let remedy = "mount it in this namespace: mount -t proc proc /proc \
                          (unshare: --mount-proc)";
            let reason = format!("{why}, so what a program starts cannot be found and ended");
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

    /// Gets ready to start things quickly, and to be found by the next hotrun in this
    /// project if this one should be killed.
    pub fn prepare(&mut self, project: &Path) {
        self.means.guardians.start_ahead();
        self.record = Record::new(project);
    }

    /// Runs short helpers; it can be kept and used while this is.
    pub fn helper(&self) -> Helper {
        Helper { guardians: self.means.guardians.clone(), console: self.means.console.clone() }
    }

    /// Runs a job. What becomes of it is told to the inbox.
    pub fn spawn(&mut self, proc: Proc, job: Job) {
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders.insert(proc, sender);
        let (begins, last_begins) = oneshot::channel();
        let before = self.last_begins.replace(last_begins);
        let tree = Tree::new(proc, &job, orders, begins, self.means.clone());
        spawn_local(async move {
            // One after the other, as they were decided: no build that follows an app writes
            // over its file before the app has been started from it.
            if let Some(before) = before {
                let _ = before.await;
            }
            tree.run(job).await;
        });
    }

    /// Asks it to end, and reports `Overdue` when the grace is over. `keys`: the keys that decide
    /// about that, for a person.
    pub fn dismiss(&self, proc: Proc, signal: Signal, grace: Duration, keys: &'static str) {
        self.order(proc, Order::Dismiss(signal, grace, keys));
    }

    /// If it was asked to end, it has no more than this left, from now on.
    pub fn hurry(&self, proc: Proc, most: Duration) {
        self.order(proc, Order::Hurry(most));
    }

    /// It asks for so much more time, from now on, if it was asked to end.
    pub fn extend(&self, proc: Proc, more: Duration) {
        self.order(proc, Order::Extend(more));
    }

    /// Kills all that is left of it.
    pub fn kill(&self, proc: Proc) {
        self.order(proc, Order::Kill);
    }

    /// Sends its first process a signal.
    pub fn signal(&self, proc: Proc, signal: Signal) {
        self.order(proc, Order::Signal(signal));
    }

    /// It is ready. A descendant that serves the same when its first process has ended well takes
    /// that one's place.
    pub fn serves(&self, proc: Proc, served: Served) {
        self.order(proc, Order::Serves(served));
    }

    /// As soon as its first process has ended, its descendant with this pid takes that one's
    /// place.
    pub fn succeed(&self, proc: Proc, pid: i32) {
        self.order(proc, Order::Succeed(pid));
    }

    /// Stops everything, as Ctrl-Z does.
    pub fn suspend(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Suspend));
    }

    /// Has everything go on that was stopped.
    pub fn resume(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resume));
    }

    /// Sends a signal to all of its first process's group.
    pub fn pass(&self, proc: Proc, signal: Signal) {
        self.order(proc, Order::Pass(signal));
    }

    /// Has this one go on.
    pub fn resume_one(&self, proc: Proc) {
        self.order(proc, Order::Resume);
    }

    /// The window of the terminal has another size.
    pub fn resized(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resized));
    }

    /// It is gone.
    pub fn forget(&mut self, proc: Proc) {
        self.orders.remove(&proc);
    }

    /// Waits until no guardian is left, but not longer than this; then those that are left are
    /// killed, which guard nothing any more. Without any time they end by themselves when hotrun
    /// does.
    pub async fn end(self, most: Duration) {
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
            // It may have ended in this very moment; then `Gone` is on its way.
            let _ = orders.send(order);
        }
    }
}

/// Runs short helpers beside everything else.
#[derive(Clone)]
pub struct Helper {
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
        // Dropped before the end, it ends the helper whose answer nobody waits for any more.
        let mut guardian = self.guardians.take().await.map_err(|error| failed(&error))?;
        let launch =
            Launch { streams: [false, true, true], ..bare_launch(&command, &question.directory) };
        let fds = [stdout.as_fd(), stderr.as_fd()];
        guardian.tell(&ToGuardian::Start(launch), &fds).await;
        drop((stdout, stderr));
        // Of what it complains so much has been shown.
        let mut shown = 0;
        let mut next_look = Instant::now() + QUIET_HELPER;
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
                    next_look = Instant::now() + SLOW_HELPER_LOOK;
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
                        return Err(failed(&"it asks for something on the terminal")
                            .remedy("run it once yourself, and answer"));
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

/// A lock on a file that a command waits for.
pub struct AwaitedLock {
    /// The file.
    pub file: String,
    /// The process that holds the lock.
    pub holder: Pid,
    /// The command line of that process.
    pub command: String,
}

/// The lock that the command of this pid, or one of its group, waits for.
pub fn awaited_lock(pid: Pid) -> Option<AwaitedLock> {
    platform::awaited_lock(pid)
}

/// True while the process has not exited.
pub fn is_running(pid: Pid) -> bool {
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

/// Until this time; for ever, if there is none.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A command as a person would type it.
pub fn describe(command: &Command) -> String {
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
