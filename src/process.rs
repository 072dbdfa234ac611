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
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{Command, Scope, Spare, Stage};
use crate::error::{Error, Result};
use crate::event::{Ended, Event, Message, Notice, Proc, quoted};
use crate::project::{Ask, Question};
use crate::report::console::Console;

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

use guardians::{Guardian, Guardians};
use leftovers::Record;
pub(crate) use leftovers::{known_ports, remember_ports, sweep};
use link::{Failure, FromGuardian, Launch, Place, Step, ToGuardian};
use output::{Kept, Output};
pub use ports::Freeing;
pub(crate) use raw::is_ignored;
use reaper::Reaper;

/// What guardians are called in `ps`. It does not hold the name of hotrun: `pkill hotrun`
/// is not meant for them, and they end with it anyway.
const GUARDIAN: &str = "hotguard";
/// The variable by which everything that a guardian runs is known: pid and start of the
/// hotrun that owns it, and the guardian's number.
const TREE: &str = "HOTRUN_TREE";

/// A file that is still being written cannot be executed (`ETXTBSY`): a build's last
/// writer may be about to close it. Tried again this often, this far apart.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Whoever has not gone after so much time of waiting is named.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at what a dead guardian has left.
const LOOK: Duration = Duration::from_millis(5);

/// Variables by which somebody else's supervisor speaks to hotrun; they are not for its
/// children.
const NOT_FOR_CHILDREN: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET"];

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
#[derive(Clone, Debug)]
pub struct Job {
    /// What runs, in this order, until one fails.
    pub stages: Vec<Stage>,
    /// Where.
    pub directory: PathBuf,
    /// Variables beside those that hotrun itself has.
    pub env: Vec<(OsString, OsString)>,
    /// Report `Overdue` after this, though nobody asked it to end.
    pub limit: Option<Duration>,
    /// What it prints is kept, and told before its end is.
    pub keeps_output: bool,
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
    /// After so much time of its last command, tell on which ports it listens.
    pub look_at_ports: Option<Duration>,
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

enum Order {
    /// Ask it to end; report `Overdue` when its grace is over.
    Dismiss(Signal, Duration),
    Kill,
    Signal(Signal),
    Suspend,
    Resume,
    Resized,
}

/// Everything that was started and is not gone.
pub struct Processes {
    inbox: mpsc::UnboundedSender<Message>,
    reaper: Reaper,
    guardians: Guardians,
    console: Console,
    orders: HashMap<Proc, mpsc::UnboundedSender<Order>>,
    /// Children that this process had before it became hotrun, and did not start.
    foreign: Rc<HashSet<Pid>>,
    record: Option<Record>,
}

impl Processes {
    /// Starts the reaper. Must be called on the thread, and inside the local set, that will
    /// do all the spawning.
    pub fn new(inbox: mpsc::UnboundedSender<Message>, console: Console) -> Result<Self> {
        platform::adopt_orphans()
            .map_err(|error| Error::failed("cannot adopt orphaned processes", error))?;
        let foreign = platform::orphans("", |_| false).iter().map(|one| one.pid).collect();
        let reaper = Reaper::start()?;
        let guardians = Guardians::new(reaper.clone(), leftovers::owner());
        let orders = HashMap::new();
        let foreign = Rc::new(foreign);
        Ok(Self { inbox, reaper, guardians, console, orders, foreign, record: None })
    }

    /// Gets ready to start things quickly, and to be found by the next hotrun in this
    /// project if this one should be killed.
    pub fn prepare(&mut self, project: &Path) {
        self.guardians.start_ahead();
        self.record = Record::new(project);
    }

    /// Runs short helpers; it can be kept and used while this is.
    pub fn helper(&self) -> Helper {
        Helper { guardians: self.guardians.clone() }
    }

    /// Runs a job. What becomes of it is told to the inbox.
    pub fn spawn(&mut self, proc: Proc, job: Job) {
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders.insert(proc, sender);
        let tree = Tree {
            proc,
            guardian: None,
            orders,
            deadline: job.limit.map(|limit| Instant::now() + limit),
            look_at_ports: None,
            ask_who: None,
            asked_by: None,
            ending: false,
            killed: false,
            ran_the_last: false,
            told_gone: false,
            output: Output::default(),
            guardians: self.guardians.clone(),
            reaper: self.reaper.clone(),
            console: self.console.clone(),
            foreign: Rc::clone(&self.foreign),
            spare: Rc::clone(&job.spare),
            inbox: self.inbox.clone(),
        };
        spawn_local(tree.run(job));
    }

    /// Asks it to end, and reports `Overdue` when the grace is over.
    pub fn dismiss(&self, proc: Proc, signal: Signal, grace: Duration) {
        self.order(proc, Order::Dismiss(signal, grace));
    }

    /// Kills all that is left of it.
    pub fn kill(&self, proc: Proc) {
        self.order(proc, Order::Kill);
    }

    /// Sends its first process a signal.
    pub fn signal(&self, proc: Proc, signal: Signal) {
        self.order(proc, Order::Signal(signal));
    }

    /// Stops everything, as Ctrl-Z does.
    pub fn suspend(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Suspend));
    }

    /// Has everything go on that was stopped.
    pub fn resume(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resume));
    }

    /// Has this one go on.
    pub fn resume_one(&self, proc: Proc) {
        self.order(proc, Order::Resume);
    }

    /// The window of the terminal has another size.
    pub fn resized(&self) {
        self.orders.keys().for_each(|proc| self.order(*proc, Order::Resized));
    }

    /// A command has begun; its group is its pid.
    pub fn began(&mut self, proc: Proc, pid: Pid) {
        if let Some(record) = &mut self.record {
            record.add(proc, pid);
        }
    }

    /// It is gone.
    pub fn forget(&mut self, proc: Proc) {
        self.orders.remove(&proc);
        if let Some(record) = &mut self.record {
            record.remove(proc);
        }
    }

    /// Waits until no guardian is left, but not longer than this. Those that are left end by
    /// themselves when hotrun does.
    pub async fn end(self, most: Duration) {
        let Self { reaper, guardians, orders, record, .. } = self;
        drop((guardians, orders));
        let _ = tokio::time::timeout(most, reaper.until_nobody_is_left()).await;
        drop(record);
    }

    fn order(&self, proc: Proc, order: Order) {
        if let Some(orders) = self.orders.get(&proc) {
            // It may have ended in this very moment; then `Gone` is on its way.
            let _ = orders.send(order);
        }
    }
}

/// One process, with all that belongs to it.
struct Tree {
    proc: Proc,
    guardian: Option<Guardian>,
    orders: mpsc::UnboundedReceiver<Order>,
    deadline: Option<Instant>,
    /// When to look on which ports it listens.
    look_at_ports: Option<Instant>,
    /// When the person is to be told who is left, and by what they were asked to end.
    ask_who: Option<Instant>,
    asked_by: Option<Signal>,
    /// It was asked to end: no further stage begins.
    ending: bool,
    killed: bool,
    /// Its guardian knows that no command follows.
    ran_the_last: bool,
    told_gone: bool,
    /// What its commands print, as far as that passes through here.
    output: Output,
    guardians: Guardians,
    reaper: Reaper,
    console: Console,
    foreign: Rc<HashSet<Pid>>,
    spare: Rc<[String]>,
    inbox: mpsc::UnboundedSender<Message>,
}

/// Its guardian is dead.
struct Bereaved;

impl Tree {
    async fn run(mut self, job: Job) {
        for port in &job.ports {
            if let Some(holder) = ports::see_to(*port, &job.freeing).await {
                self.tell(Message::Say(Notice::PortHeld(holder)));
            }
        }
        let ended = match self.guardians.take().await {
            Ok(guardian) => {
                self.guardian = Some(guardian);
                self.run_stages(&job).await
            }
            Err(error) => Ok(Ended::NotStarted(format!("no guardian can be started: {error}"))),
        };
        let ended = if let Ok(ended) = ended {
            self.tell(Event::Exited(self.proc, ended).into());
            self.until_gone().await
        } else {
            let killed = Ended::Signal { number: Signal::SIGKILL as i32, core: false };
            self.tell(Event::Exited(self.proc, killed).into());
            Err(Bereaved)
        };
        if ended.is_err() {
            self.end_what_is_inherited().await;
        }
        self.tell(Event::Gone(self.proc).into());
        self.told_gone = true;
    }

    async fn run_stages(&mut self, job: &Job) -> std::result::Result<Ended, Bereaved> {
        let mut ended = Ended::Code(0);
        let mut first_failure = None;
        let mut give_up_tolerated = false;
        for (number, stage) in job.stages.iter().enumerate() {
            if self.ending {
                ended = Ended::NotStarted("asked to end".to_owned());
                break;
            }
            if stage.tolerated && give_up_tolerated {
                continue;
            }
            let is_last = number + 1 == job.stages.len();
            let label = stage.label.clone();
            self.tell(Message::Running { proc: self.proc, label, is_last });
            ended = self.run_stage(stage, job, is_last).await?;
            if ended.succeeded() {
                continue;
            }
            if job.runs_all && !self.ending {
                first_failure.get_or_insert(std::mem::replace(&mut ended, Ended::Code(0)));
                continue;
            }
            if !stage.tolerated || self.ending {
                break;
            }
            give_up_tolerated = true;
            let failed = std::mem::replace(&mut ended, Ended::Code(0));
            self.tell(Message::Tolerated(self.proc, stage.label.clone(), failed));
        }
        Ok(first_failure.unwrap_or(ended))
    }

    async fn run_stage(
        &mut self,
        stage: &Stage,
        job: &Job,
        is_last: bool,
    ) -> std::result::Result<Ended, Bereaved> {
        // Of earlier commands, too, as they may have left somebody behind who writes on.
        let mut output = std::mem::take(&mut self.output);
        let ended = match self.start(stage, job, is_last, &mut output).await {
            Ok(None) => self.until_exit(&mut output).await,
            Ok(Some(not_started)) => Ok(not_started),
            Err(bereaved) => Err(bereaved),
        };
        if stage.messages_of.is_some() {
            self.tell(Message::Output(self.proc, std::mem::take(&mut output.messages)));
        }
        if job.keeps_output {
            self.tell(Message::Printed(self.proc, std::mem::take(&mut output.printed)));
        }
        self.output = output;
        ended
    }

    async fn until_exit(&mut self, output: &mut Output) -> std::result::Result<Ended, Bereaved> {
        let ended = loop {
            match self.next(output).await? {
                FromGuardian::Exited(ended) => {
                    self.look_at_ports = None;
                    break ended;
                }
                FromGuardian::Stopped(signal) => self.stopped(signal),
                other => self.heard(other),
            }
        };
        output.read_rest().await;
        Ok(ended)
    }

    /// `None` when it runs.
    async fn start(
        &mut self,
        stage: &Stage,
        job: &Job,
        is_last: bool,
        output: &mut Output,
    ) -> std::result::Result<Option<Ended>, Bereaved> {
        let streams = match self.streams(stage, job, output) {
            Ok(streams) => streams,
            Err(error) => return Ok(Some(Ended::NotStarted(format!("no pipe: {error}")))),
        };
        let launch = launch(stage, job, &streams, is_last);
        let fds: Vec<_> = streams.iter().flatten().map(AsFd::as_fd).collect();
        for tries in 0.. {
            if let Some(guardian) = &self.guardian {
                guardian.tell(&ToGuardian::Start(launch.clone()), &fds).await;
            }
            let failure = loop {
                match self.next(output).await? {
                    FromGuardian::Started(pid) => {
                        self.ran_the_last = is_last;
                        let after = job.look_at_ports.filter(|_| is_last);
                        self.look_at_ports = after.map(|after| Instant::now() + after);
                        self.tell(Message::Spawned(self.proc, pid));
                        return Ok(None);
                    }
                    FromGuardian::NotStarted(failure) => break failure,
                    other => self.heard(other),
                }
            };
            if failure.errno != Errno::ETXTBSY as i32 || tries >= BUSY_TRIES {
                return Ok(Some(not_started(&stage.command, &job.directory, failure)));
            }
            tokio::select! {
                Some(order) = self.orders.recv() => self.obey(order, output).await,
                () = sleep(BUSY_PAUSE) => {}
            }
            if self.ending {
                break;
            }
        }
        Ok(Some(Ended::NotStarted("asked to end before it had started".to_owned())))
    }

    /// Descriptors for those of the standard streams that are not hotrun's own.
    fn streams(
        &self,
        stage: &Stage,
        job: &Job,
        output: &mut Output,
    ) -> io::Result<[Option<OwnedFd>; 3]> {
        let mut streams = [None, None, None];
        match job.terminal {
            Terminal::OutputOnly => {}
            Terminal::Background | Terminal::Foreground => {
                streams[0] = Some(io::stdin().as_fd().try_clone_to_owned()?);
            }
            Terminal::Copied => {
                let terminal = output.terminal(&self.console)?;
                streams[1] = Some(terminal.try_clone()?);
                streams[2] = Some(terminal);
            }
        }
        let has_messages = stage.messages_of.is_some();
        if has_messages {
            streams[1] = Some(output.pipe(Kept::Messages)?);
        }
        if job.keeps_output {
            let (stdout, stderr) = output.copy(&self.console, !has_messages)?;
            streams[1] = stdout.or(streams[1].take());
            streams[2] = Some(stderr);
        }
        Ok(streams)
    }

    async fn until_gone(&mut self) -> std::result::Result<(), Bereaved> {
        let Some(guardian) = &self.guardian else { return Ok(()) };
        if !self.ran_the_last {
            guardian.tell(&ToGuardian::Close, &[]).await;
        }
        let mut output = std::mem::take(&mut self.output);
        loop {
            match self.next(&mut output).await? {
                FromGuardian::Gone => return Ok(()),
                other => self.heard(other),
            }
        }
    }

    /// What the guardian tells next; meanwhile orders are obeyed, and what is printed is
    /// taken.
    async fn next(&mut self, output: &mut Output) -> std::result::Result<FromGuardian, Bereaved> {
        let mut guardian = self.guardian.take().ok_or(Bereaved)?;
        let told = loop {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => self.pass_on(&guardian, order, output).await,
                told = guardian.hear() => break told,
                () = due(self.deadline) => {
                    self.deadline = None;
                    self.tell(Event::Overdue(self.proc).into());
                }
                () = due(self.look_at_ports) => {
                    self.look_at_ports = None;
                    let found = ports::of_tree(guardian.pid);
                    self.tell(Message::Listens(self.proc, found));
                }
                () = due(self.ask_who) => {
                    self.ask_who = None;
                    guardian.tell(&ToGuardian::Who, &[]).await;
                }
                () = output.read() => {}
            }
        };
        self.guardian = Some(guardian);
        told.ok_or(Bereaved)
    }

    fn heard(&mut self, told: FromGuardian) {
        match told {
            FromGuardian::Left(left) if !left.is_empty() => self.name_those_left(&left),
            // A command that was asked to end before it was known to have started.
            FromGuardian::Stopped(signal) => self.stopped(signal),
            _ => {}
        }
    }

    fn stopped(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            self.tell(Message::Stopped(self.proc, signal));
        }
    }

    fn name_those_left(&self, left: &[(i32, String)]) {
        let who = left.iter().map(|(pid, command)| (*pid, command.clone())).collect();
        let kill_in = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let notice = if self.killed {
            Notice::Unkillable(who)
        } else {
            Notice::Holding { who, signal: self.asked_by.unwrap_or(Signal::SIGTERM), kill_in }
        };
        self.tell(Message::Say(notice));
    }

    async fn obey(&mut self, order: Order, output: &Output) {
        if let Some(guardian) = self.guardian.take() {
            self.pass_on(&guardian, order, output).await;
            self.guardian = Some(guardian);
        }
    }

    async fn pass_on(&mut self, guardian: &Guardian, order: Order, output: &Output) {
        let message = match order {
            // To the program itself: what it has started may not know this signal.
            Order::Signal(signal) => ToGuardian::Signal(signal as i32),
            Order::Kill => {
                self.ending = true;
                self.killed = true;
                self.deadline = None;
                self.ask_who = Some(Instant::now() + PATIENCE);
                ToGuardian::Kill
            }
            Order::Dismiss(signal, grace) => {
                self.ending = true;
                self.deadline = Some(Instant::now() + grace);
                self.asked_by = Some(signal);
                self.ask_who = (grace > PATIENCE).then(|| Instant::now() + PATIENCE);
                ToGuardian::Dismiss(signal as i32)
            }
            Order::Suspend => ToGuardian::Suspend,
            Order::Resume => ToGuardian::Resume,
            Order::Resized => {
                output.resize();
                // The kernel tells only those who have the terminal.
                ToGuardian::Pass(Signal::SIGWINCH as i32)
            }
        };
        guardian.tell(&message, &[]).await;
    }

    /// Its guardian was killed. The command itself dies with it; all the others are hotrun's
    /// own children now, and are killed.
    async fn end_what_is_inherited(&mut self) {
        let Some(mut guardian) = self.guardian.take() else { return };
        guardian.ended().await;
        self.tell(Message::Say(Notice::Warning(format!(
            "a guardian (pid {}) was killed; what it guarded is killed, too",
            guardian.pid
        ))));
        let spare = Spare::new(&self.spare).unwrap_or_default();
        loop {
            // Each new round finds those who were forked during the last. Zombies count: who
            // has just ended may have left somebody who is not to be seen yet.
            let (left, _) = part_spared(self.orphans(&guardian.tag), None, &spare);
            if left.is_empty() {
                return;
            }
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                for one in &left {
                    let _ = kill(one.pid, signal);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Where hotrun may have children that are not its own, only what bears the mark is.
    fn orphans(&self, tag: &str) -> Vec<Member> {
        let all_are_ours = self.foreign.is_empty() && getpid().as_raw() != 1;
        platform::orphans(tag, |child| {
            let marked = || platform::variable(child, TREE).is_some_and(|value| value == tag);
            self.reaper.knows(child) || self.foreign.contains(&child) || !(all_are_ours || marked())
        })
    }

    fn tell(&self, message: Message) {
        // The inbox closes when hotrun ends, and with it all interest.
        let _ = self.inbox.send(message);
    }
}

impl Drop for Tree {
    /// Whatever ends this task, a panic included: nobody waits for ever. (That nobody is
    /// left behind is the guardian's work: its socket closes.)
    fn drop(&mut self) {
        if self.told_gone {
            return;
        }
        let why = Ended::NotStarted("hotrun itself has failed".to_owned());
        self.tell(Event::Exited(self.proc, why).into());
        self.tell(Event::Gone(self.proc).into());
    }
}

async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn launch(stage: &Stage, job: &Job, streams: &[Option<OwnedFd>; 3], is_last: bool) -> Launch {
    let mut launch = bare_launch(&stage.command, &job.directory);
    launch.env.extend(job.env.iter().cloned());
    let place = match job.terminal {
        Terminal::OutputOnly | Terminal::Background => Place::Background,
        Terminal::Foreground => Place::Foreground,
        Terminal::Copied => Place::OwnTerminal,
    };
    Launch {
        streams: [0, 1, 2].map(|number: usize| streams[number].is_some()),
        place,
        farewell: job.farewell as i32,
        leader_only: job.scope == Scope::Leader,
        spare: job.spare.to_vec(),
        is_last,
        ..launch
    }
}

/// A command in the background, its input empty, its output hotrun's own.
fn bare_launch(command: &Command, directory: &Path) -> Launch {
    let argv = match command {
        Command::Argv(argv) => argv.clone(),
        Command::Shell(text, args) if args.is_empty() => {
            vec!["/bin/sh".into(), "-c".into(), text.into()]
        }
        Command::Shell(text, args) => {
            let shell =
                ["/bin/sh".into(), "-c".into(), format!("{text} \"$@\"").into(), "sh".into()];
            shell.into_iter().chain(args.iter().cloned()).collect()
        }
    };
    // Shells and Go believe this name of the directory if it is one.
    let mut env: Vec<(OsString, OsString)> = vec![("PWD".into(), directory.into())];
    if let Some(flags) = std::env::var_os("MAKEFLAGS") {
        env.push(("MAKEFLAGS".into(), without_jobserver(&flags).into()));
    }
    Launch {
        argv,
        env,
        unset: NOT_FOR_CHILDREN.map(OsString::from).to_vec(),
        directory: directory.into(),
        streams: [false; 3],
        place: Place::Background,
        farewell: Signal::SIGTERM as i32,
        leader_only: false,
        spare: Vec::new(),
        is_last: true,
    }
}

/// hotrun may run under `make -j`; its children must not speak to that make, whose
/// descriptors they do not have.
fn without_jobserver(flags: &OsStr) -> String {
    let flags = flags.to_string_lossy();
    let kept: Vec<_> = flags.split(' ').filter(|word| !word.starts_with("--jobserver")).collect();
    kept.join(" ")
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"))
}

fn not_started(command: &Command, directory: &Path, failure: Failure) -> Ended {
    let name = match command {
        Command::Argv(argv) => Path::new(&argv[0]).display().to_string(),
        Command::Shell(..) => "/bin/sh".to_owned(),
    };
    let error = Errno::from_raw(failure.errno);
    let why = match (failure.step, error) {
        (Step::Prepare, _) => format!("{name}: no process for it: {}", error.desc()),
        (Step::Enter, Errno::ENOENT) => {
            format!("{}: the working directory is gone", directory.display())
        }
        (Step::Enter, _) => {
            format!("{}: cannot be entered: {}", directory.display(), error.desc())
        }
        (Step::Execute, Errno::ENOENT) => format!("{name}: there is no such program"),
        (Step::Execute, Errno::EACCES) => format!("{name}: is not executable"),
        (Step::Execute, _) => format!("{name}: {}", error.desc()),
    };
    Ended::NotStarted(why)
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

/// Runs short helpers beside everything else.
#[derive(Clone)]
pub struct Helper {
    guardians: Guardians,
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
        let ended = loop {
            tokio::select! {
                told = guardian.hear() => match told {
                    Some(FromGuardian::Exited(ended)) => break ended,
                    Some(FromGuardian::NotStarted(failure)) => {
                        let why = not_started(&command, &question.directory, failure);
                        return Err(failed(&why).remedy("install it, or put it on the PATH"));
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
        Err(failed(&format!("{ended}\n{}", complained.trim_end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_jobserver_words_are_taken_out() {
        let flags = OsStr::new(" -j4 --jobserver-auth=fifo:/tmp/x -- A=1");
        assert_eq!(without_jobserver(flags), " -j4 -- A=1");
    }

    #[test]
    fn a_command_is_described_as_a_person_would_type_it() {
        let argv = ["./app", "two words", "$x"].map(OsString::from).to_vec();
        assert_eq!(describe(&Command::Argv(argv)), "./app 'two words' '$x'");
        let shell = Command::Shell("make && ./app".into(), vec!["a b".into()]);
        assert_eq!(describe(&shell), "make && ./app 'a b'");
    }
}
