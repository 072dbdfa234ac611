//! One process from its start until nobody of its tree is left: gives its guardian the
//! commands, obeys orders, keeps the time, and tells what happens.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::guardians::{ANSWER, Guardian};
use super::link::{Failure, FromGuardian, Launch, Place, Printed, Step, ToGuardian};
use super::output::{Kept, Output};
use super::ports::Successor;
use super::{
    Attachment, FromProcess, Job, LISTEN_PID, Means, Member, Printing, Served, TREE, at,
    part_spared, platform, ports,
};
use crate::config::{Command, Scope, Spare, Stage};
use crate::event::{Ended, Proc};
use crate::notice::{Notice, Problem};
use crate::project::guess::search;
use crate::recording;
use crate::report::console::Stream;

/// A file that is still being written cannot be executed (`ETXTBSY`): a build's last
/// writer may be about to close it. Tried again this often, this far apart.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Whoever has not gone after so much time of waiting is named.
const PATIENCE: Duration = Duration::from_secs(1);
/// A guardian that was killed before it ran a command is replaced at most this many times for each
/// command.
const MAX_REPLACEMENTS: u32 = 5;
/// Executing a program from a slow file system may take long.
const SLOW_START: Duration = Duration::from_secs(5);
/// A process that has inherited a listener may be busy, and not wait for connections: this many
/// looks, at this interval.
const SUCCESSOR_LOOKS: u32 = 10;
const SUCCESSOR_LOOK: Duration = Duration::from_millis(10);
/// Maximum wait for hotrun's line on a terminal, which may be stopped by Ctrl-S, before a command
/// starts.
const ANNOUNCEMENT: Duration = Duration::from_millis(100);
/// How many waits, and of which length, for a message that a program sent before it exited. On a busy
/// machine a single long one could end just when that message is first seen.
const MAIN_PID_WAITS: (u32, Duration) = (15, Duration::from_millis(4));
/// Between two looks at what a dead guardian has left: at first, and when somebody survives.
const LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Variables by which somebody else's supervisor speaks to hotrun; they are not for its
/// children.
const NOT_FOR_CHILDREN: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDS_FIRST_FD",
    LISTEN_PID,
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    // A hotrun below would write to the same file.
    recording::VARIABLE,
];

pub(super) enum Order {
    /// Ask it to end; report `Overdue` when its grace is over, about which these keys decide.
    Dismiss(Signal, Duration, &'static str),
    /// The grace ends within this time, if not sooner.
    Hurry(Duration),
    /// The grace does not end within this time.
    Extend(Duration),
    Kill,
    Signal(Signal),
    Pass(Signal),
    Suspend,
    Resume,
    Resized,
    /// Print what was withheld, and what follows.
    Show,
    /// It is ready, and this is served.
    Serves(Served),
    /// Its descendant with this pid takes its place.
    Succeed(i32),
}

/// One process, with all that belongs to it.
pub(super) struct Tree {
    proc: Proc,
    guardian: Option<Guardian>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Dropped when its first command has been started, or is not going to be.
    begins: Option<oneshot::Sender<()>>,
    deadline: Option<Instant>,
    /// When to look on which ports it listens.
    look_at_ports: Option<Instant>,
    /// When to name the processes that are left, the signal that asked them to end, and the keys
    /// that decide when they are killed.
    ask_who: Option<Instant>,
    asked_by: Option<(Signal, &'static str)>,
    /// When its guardian, which has been asked something, is known not to answer.
    answer_by: Option<Instant>,
    /// What it serves, once it is ready.
    served: Option<Served>,
    /// It was asked to end: no further stage begins.
    ending: bool,
    killed: bool,
    /// What follows the last stage, by what that one has printed.
    follows: Option<Command>,
    /// Its guardian knows that no command follows.
    ran_the_last: bool,
    /// Its guardian has reported that a command runs.
    has_spawned: bool,
    told_gone: bool,
    /// Its commands have ended, and no successor is looked for.
    has_exited: bool,
    /// Its guardian has reported that no process is left.
    is_gone: bool,
    /// What its commands print, as far as that passes through here.
    output: Output,
    spare: Rc<[String]>,
    means: Means,
}

/// Its guardian is dead.
struct Bereaved;

impl Tree {
    pub(super) fn new(
        proc: Proc,
        job: &Job,
        orders: mpsc::UnboundedReceiver<Order>,
        begins: oneshot::Sender<()>,
        means: Means,
    ) -> Self {
        Self {
            proc,
            guardian: None,
            orders,
            begins: Some(begins),
            deadline: job.limit.map(|limit| Instant::now() + limit),
            look_at_ports: None,
            ask_who: None,
            asked_by: None,
            answer_by: None,
            served: None,
            ending: false,
            killed: false,
            follows: None,
            ran_the_last: false,
            has_spawned: false,
            told_gone: false,
            has_exited: false,
            is_gone: false,
            output: Output::default(),
            spare: Rc::clone(&job.spare),
            means,
        }
    }

    pub(super) async fn run(mut self, job: Job) {
        for port in &job.ports {
            if let Some(holder) = ports::see_to(*port, &job.freeing).await {
                self.tell(FromProcess::Say(Notice::PortHeld(holder)));
            }
        }
        let ended = match self.means.guardians.take().await {
            Ok(guardian) => {
                self.guardian = Some(guardian);
                self.run_stages(&job).await
            }
            Err(error) => Ok(no_guardian(&error)),
        };
        self.begins = None;
        // Messages that the program sent before it exited are in the notify socket already: let its
        // reader run first.
        tokio::task::yield_now().await;
        let ended = if let Ok(ended) = ended {
            self.has_exited = true;
            self.tell(FromProcess::Exited(ended));
            self.until_gone().await
        } else {
            let killed = Ended::Signal { number: Signal::SIGKILL as i32, core: false };
            self.tell(FromProcess::Exited(killed));
            Err(Bereaved)
        };
        if ended.is_err() {
            self.end_what_is_inherited(self.has_spawned).await;
        }
        self.tell(FromProcess::Gone);
        self.told_gone = true;
    }

    async fn run_stages(&mut self, job: &Job) -> Result<Ended, Bereaved> {
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
            self.announce(stage, job, is_last).await;
            let nothing = Output::default();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order, &nothing).await;
            }
            if self.ending {
                ended = Ended::NotStarted("stopped before it started".to_owned());
                break;
            }
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
            self.tell(FromProcess::Tolerated(stage.label.clone(), failed));
        }
        if let Some(command) = self.follows.take()
            && !self.ending
            && first_failure.is_none()
            && ended.succeeded()
        {
            self.run_question(command, job).await?;
        }
        Ok(first_failure.unwrap_or(ended))
    }

    /// Has the engine report that a command starts, and waits until that line is written: it
    /// stands before what the command prints.
    async fn announce(&self, stage: &Stage, job: &Job, is_last: bool) {
        let is_found = can_be_found(stage, job);
        let (announced, line) = oneshot::channel();
        let label = stage.label.clone();
        self.tell(FromProcess::Running { label, is_last, announced, is_found });
        // An error: the engine has ended, or has nothing to report.
        let _ = line.await;
        if job.printing == Printing::Inherited {
            self.means.console.flush(ANNOUNCEMENT).await;
        }
    }

    /// Runs the command that follows the stages. Its outcome is told, and is no failure.
    async fn run_question(&mut self, command: Command, job: &Job) -> Result<(), Bereaved> {
        let stage = Stage { answers: true, ..Stage::alone(command) };
        let mut output = Output::default();
        let ended = match self.start(&stage, job, true, &mut output).await? {
            None => self.until_exit(job, &mut output).await?,
            Some(not_started) => not_started,
        };
        let answer = if ended.succeeded() {
            Ok(output.messages)
        } else {
            let complained = String::from_utf8_lossy(&output.printed).trim_end().to_owned();
            Err(format!("{ended}\n{complained}"))
        };
        self.tell(FromProcess::Answered(answer));
        Ok(())
    }

    async fn run_stage(
        &mut self,
        stage: &Stage,
        job: &Job,
        is_last: bool,
    ) -> Result<Ended, Bereaved> {
        // Of earlier commands, too, as they may have left somebody behind who writes on.
        let mut output = std::mem::take(&mut self.output);
        let ended = match self.start(stage, job, is_last, &mut output).await {
            Ok(None) => self.until_exit(job, &mut output).await,
            Ok(Some(not_started)) => Ok(not_started),
            Err(bereaved) => Err(bereaved),
        };
        if stage.messages_of.is_some() {
            self.follows = job.then.as_ref().and_then(|then| then.0(&output.messages));
            self.tell(FromProcess::Output(std::mem::take(&mut output.messages)));
        }
        if matches!(job.printing, Printing::Kept | Printing::Withheld) {
            self.tell(FromProcess::Printed(std::mem::take(&mut output.printed)));
        }
        self.output = output;
        ended
    }

    async fn until_exit(&mut self, job: &Job, output: &mut Output) -> Result<Ended, Bereaved> {
        let ended = loop {
            match self.next(output).await? {
                FromGuardian::Exited(ended) => {
                    self.look_at_ports = None;
                    let mut successor = self.successor(&ended).await;
                    if successor.is_none() && job.has_notify_socket() {
                        successor = self.named_successor(output).await;
                    }
                    let is_succeeded = match successor {
                        Some(pid) => self.succeed(pid, output).await?,
                        None => false,
                    };
                    if !is_succeeded {
                        break ended;
                    }
                }
                FromGuardian::Succeeded(pid) => self.succeeded(pid),
                FromGuardian::Stopped(signal) => self.stopped(signal),
                other => self.heard(other),
            }
        };
        output.read_rest().await;
        if let Some(ports) = output.names_taken_ports() {
            self.tell(FromProcess::AddressInUse(ports));
        }
        Ok(ended)
    }

    /// The process that has taken over the sockets of a command that has just ended well after it
    /// had served: a graceful restart, by `SIGUSR2` for instance.
    async fn successor(&self, ended: &Ended) -> Option<Pid> {
        let guardian = self.guardian.as_ref()?;
        let served = self.served.as_ref().filter(|served| !served.ports.is_empty())?;
        if *ended != Ended::Code(0) || self.ending {
            return None;
        }
        for look in 0..SUCCESSOR_LOOKS {
            if look > 0 {
                sleep(SUCCESSOR_LOOK).await;
            }
            match ports::successor(guardian.pid, served) {
                Successor::Waits(pid) => return Some(pid),
                Successor::Busy => {}
                Successor::None => return None,
            }
        }
        None
    }

    /// The process that a command has named by `MAINPID=` just before it ended. That has been
    /// received, and yet to reach this task.
    async fn named_successor(&mut self, output: &Output) -> Option<Pid> {
        let guardian = self.guardian.as_ref().filter(|_| !self.ending)?.pid;
        if platform::descendants(guardian).iter().all(|one| one.is_zombie) {
            return None;
        }
        let mut named = None;
        for _ in 0..MAIN_PID_WAITS.0 {
            sleep(MAIN_PID_WAITS.1).await;
            while let Ok(order) = self.orders.try_recv() {
                if let Order::Succeed(pid) = order {
                    named = Some(Pid::from_raw(pid));
                } else {
                    self.obey(order, output).await;
                }
            }
            // After the name of another process, or of one that has ended, a better one may follow.
            let is_running = |one: &Member| Some(one.pid) == named && !one.is_zombie;
            if platform::descendants(guardian).iter().any(is_running) {
                break;
            }
        }
        named
    }

    /// The helpers of the successor, too, may have sockets that they do not serve.
    fn succeeded(&mut self, pid: i32) {
        if let (Some(guardian), Some(served)) = (&self.guardian, &mut self.served) {
            served.holders.extend(ports::of_tree(guardian.pid).holders);
        }
        self.tell(FromProcess::Succeeded(pid));
    }

    /// Has the guardian take this process for the command. False if it has ended, too.
    async fn succeed(&mut self, pid: Pid, output: &mut Output) -> Result<bool, Bereaved> {
        if let Some(guardian) = &self.guardian {
            guardian.tell(&ToGuardian::Succeed(pid.as_raw()), &[]).await;
        }
        loop {
            match self.next(output).await? {
                FromGuardian::Succeeded(pid) => {
                    self.succeeded(pid);
                    return Ok(true);
                }
                FromGuardian::NoSuccessor => return Ok(false),
                FromGuardian::Gone => {
                    self.is_gone = true;
                    return Ok(false);
                }
                other => self.heard(other),
            }
        }
    }

    /// `None` when it runs.
    async fn start(
        &mut self,
        stage: &Stage,
        job: &Job,
        is_last: bool,
        output: &mut Output,
    ) -> Result<Option<Ended>, Bereaved> {
        let streams = match self.streams(stage, job, output) {
            Ok(streams) => streams,
            Err(error) => {
                return Ok(Some(Ended::NotStarted(format!("cannot create a pipe: {error}"))));
            }
        };
        let ends_here = is_last && (job.then.is_none() || stage.answers);
        let mut launch = launch(stage, job, &streams, ends_here);
        let listeners = job.listeners.iter().map(|listener| listener.as_fd());
        let listeners: Vec<_> =
            streams.iter().flatten().map(AsFd::as_fd).chain(listeners).collect();
        // The guardian keeps descriptors of its own.
        let mut ends = Vec::new();
        for (stream, end) in output.ends().filter(|_| job.is_searched()).take(2) {
            launch.outputs.push(match stream {
                Stream::Stdout => Printed::Stdout,
                Stream::Stderr => Printed::Stderr,
            });
            match end.try_clone_to_owned() {
                Ok(end) => ends.push(end),
                Err(error) => {
                    return Ok(Some(Ended::NotStarted(format!("cannot create a pipe: {error}"))));
                }
            }
        }
        let fds: Vec<_> = listeners.into_iter().chain(ends.iter().map(AsFd::as_fd)).collect();
        let (mut tries, mut replacements) = (0, 0);
        loop {
            let failure = match self.ask_to_start(&launch, &fds, output).await {
                Ok(Ok(pid)) => {
                    self.begins = None;
                    self.ran_the_last = ends_here;
                    self.has_spawned = true;
                    let after = job.look_at_ports.filter(|_| is_last && !stage.answers);
                    self.look_at_ports = after.map(|after| Instant::now() + after);
                    self.tell(FromProcess::Spawned(pid));
                    return Ok(None);
                }
                Ok(Err(failure)) => failure,
                Err(bereaved) if self.ending => return Err(bereaved),
                Err(Bereaved) if replacements == MAX_REPLACEMENTS => {
                    let why = format!("{} guardians in a row were killed", replacements + 1);
                    return Ok(Some(Ended::NotStarted(why)));
                }
                Err(Bereaved) => {
                    replacements += 1;
                    if let Err(error) = self.replace_guardian().await {
                        return Ok(Some(no_guardian(&error)));
                    }
                    continue;
                }
            };
            tries += 1;
            if failure.errno != Errno::ETXTBSY as i32 || tries >= BUSY_TRIES {
                let program = job.program.as_deref();
                return Ok(Some(not_started(&stage.command, program, &job.directory, failure)));
            }
            tokio::select! {
                Some(order) = self.orders.recv() => self.obey(order, output).await,
                () = sleep(BUSY_PAUSE) => {}
            }
            if self.ending {
                break;
            }
        }
        Ok(Some(Ended::NotStarted("stopped before it started".to_owned())))
    }

    /// Returns the pid of the command, or why it does not run.
    async fn ask_to_start(
        &mut self,
        launch: &Launch,
        fds: &[BorrowedFd<'_>],
        output: &mut Output,
    ) -> Result<Result<i32, Failure>, Bereaved> {
        if let Some(guardian) = &self.guardian {
            guardian.tell(&ToGuardian::Start(launch.clone()), fds).await;
            self.answer_by = Some(Instant::now() + SLOW_START);
        }
        loop {
            match self.next(output).await? {
                FromGuardian::Started(pid) => return Ok(Ok(pid)),
                FromGuardian::NotStarted(failure) => return Ok(Err(failure)),
                other => self.heard(other),
            }
        }
    }

    /// Takes another guardian for one that was killed before it reported that the command runs.
    /// A command that it had forked in its last moment is killed first, as is everything that
    /// earlier commands have left behind: no other guardian can take those processes over.
    async fn replace_guardian(&mut self) -> io::Result<()> {
        self.answer_by = None;
        self.end_what_is_inherited(false).await;
        self.has_spawned = false;
        self.guardian = Some(self.means.guardians.take().await?);
        Ok(())
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
            Attachment::OutputOnly => {}
            Attachment::Background | Attachment::Foreground => {
                streams[0] = Some(io::stdin().as_fd().try_clone_to_owned()?);
            }
            Attachment::Copied => {
                let into = if job.is_searched() { Kept::Searched } else { Kept::Nothing };
                let terminal = output.terminal(&self.means.console, into)?;
                streams[1] = Some(terminal.try_clone()?);
                streams[2] = Some(terminal);
            }
        }
        if stage.answers {
            streams[1] = Some(output.pipe(Kept::Messages)?);
            streams[2] = Some(output.pipe(Kept::Printed)?);
            return Ok(streams);
        }
        let has_messages = stage.messages_of.is_some();
        if has_messages {
            streams[1] = Some(output.pipe(Kept::Messages)?);
        }
        output.look_for(job.look_for.as_ref());
        if job.is_searched() && job.terminal != Attachment::Copied {
            let (stdout, stderr) = output.copy(&self.means.console, true, Kept::Searched)?;
            (streams[1], streams[2]) = (stdout, Some(stderr));
        }
        let kept = match job.printing {
            Printing::Inherited => return Ok(streams),
            Printing::Copied => Kept::Passed,
            Printing::Kept => Kept::Printed,
            Printing::Withheld => Kept::Withheld,
        };
        let (stdout, stderr) = output.copy(&self.means.console, !has_messages, kept)?;
        streams[1] = stdout.or(streams[1].take());
        streams[2] = Some(stderr);
        Ok(streams)
    }

    async fn until_gone(&mut self) -> Result<(), Bereaved> {
        let Some(guardian) = self.guardian.as_ref().filter(|_| !self.is_gone) else {
            return Ok(());
        };
        if !self.ran_the_last {
            guardian.tell(&ToGuardian::Close, &[]).await;
        }
        let mut output = std::mem::take(&mut self.output);
        loop {
            match self.next(&mut output).await? {
                FromGuardian::Gone => {
                    // The last words of what the command had left behind. A spared process may
                    // hold the streams open, so nothing more is waited for.
                    output.read_available();
                    return Ok(());
                }
                other => self.heard(other),
            }
        }
    }

    /// What the guardian tells next; meanwhile orders are obeyed, and what is printed is
    /// taken.
    async fn next(&mut self, output: &mut Output) -> Result<FromGuardian, Bereaved> {
        let mut guardian = self.guardian.take().ok_or(Bereaved)?;
        let told = loop {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => self.pass_on(&guardian, order, output).await,
                told = guardian.hear() => {
                    self.answer_by = None;
                    break told;
                }
                () = at(self.answer_by) => {
                    self.answer_by = None;
                    self.has_not_answered(&guardian);
                }
                () = at(self.deadline) => {
                    self.deadline = None;
                    self.tell(FromProcess::Overdue);
                }
                () = at(self.look_at_ports) => {
                    self.look_at_ports = None;
                    let found = ports::of_tree(guardian.pid);
                    self.tell(FromProcess::Listens(found.ports()));
                    if self.served.as_ref().is_some_and(|served| served.ports.is_empty()) {
                        self.served = Some(found.served());
                    }
                }
                () = at(self.ask_who) => {
                    self.ask_who = None;
                    guardian.tell(&ToGuardian::Who, &[]).await;
                    self.answer_by = Some(Instant::now() + ANSWER);
                }
                () = output.read() => {
                    if output.has_found() {
                        self.tell(FromProcess::LogMatched);
                    }
                }
            }
        };
        self.guardian = Some(guardian);
        told.ok_or(Bereaved)
    }

    /// Its guardian is traced, for instance: one that was stopped is continued at once. When the
    /// tree is to be killed, hotrun does so itself.
    fn has_not_answered(&self, guardian: &Guardian) {
        let pid = guardian.pid;
        if self.killed {
            guardian.kill();
        }
        let problem = Problem::GuardianSilent { pid: pid.as_raw(), is_killed: self.killed };
        self.tell(FromProcess::Say(problem.into()));
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
            self.tell(FromProcess::Stopped(signal));
        }
    }

    fn name_those_left(&self, left: &[(i32, String)]) {
        let who = left.iter().map(|(pid, command)| (*pid, command.clone())).collect();
        let kill_in = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let notice = if self.killed {
            Notice::Unkillable(who)
        } else {
            let (signal, key) = self.asked_by.unwrap_or((Signal::SIGTERM, "build.kill_delay"));
            Notice::Holding { who, signal, kill_in, key }
        };
        self.tell(FromProcess::Say(notice));
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
            Order::Dismiss(signal, grace, keys) => {
                self.ending = true;
                self.deadline = Some(Instant::now() + grace);
                self.asked_by = Some((signal, keys));
                self.ask_who = (grace > PATIENCE).then(|| Instant::now() + PATIENCE);
                ToGuardian::Dismiss(signal as i32)
            }
            Order::Hurry(most) => {
                let most = Instant::now() + most;
                self.deadline = self.deadline.map(|at| at.min(most));
                return;
            }
            Order::Extend(more) => {
                self.deadline = self.deadline.map(|at| at.max(Instant::now() + more));
                return;
            }
            Order::Pass(signal) => ToGuardian::Pass(signal as i32),
            Order::Suspend => ToGuardian::Suspend,
            Order::Resume => ToGuardian::Resume,
            Order::Serves(served) => {
                self.served = Some(served);
                return;
            }
            Order::Succeed(_) if self.has_exited => return,
            Order::Succeed(pid) => ToGuardian::Succeed(pid),
            Order::Show => {
                output.show();
                return;
            }
            Order::Resized => {
                output.resize();
                // The kernel tells only those who have the terminal.
                ToGuardian::Pass(Signal::SIGWINCH as i32)
            }
        };
        guardian.tell(&message, &[]).await;
    }

    /// Its guardian was killed. The command itself dies with it; all the others are hotrun's
    /// own children now, and are killed. The user is warned if a command was running, or if one has
    /// left processes behind.
    async fn end_what_is_inherited(&mut self, was_running: bool) {
        let Some(mut guardian) = self.guardian.take() else { return };
        // One that is traced stays a zombie until its tracer has taken notice.
        let _ = timeout(ANSWER, guardian.ended()).await;
        let pid = guardian.pid.as_raw();
        let warning = || FromProcess::Say(Problem::GuardianKilled { pid }.into());
        if was_running {
            self.tell(warning());
        }
        let mut is_reported = was_running;
        let spare = Spare::new(&self.spare).unwrap_or_default();
        let mut pause = LOOK;
        loop {
            // Each new round finds those who were forked during the last. Zombies count: who
            // has just ended may have left somebody who is not to be seen yet.
            let (left, _) = part_spared(self.orphans(&guardian.tag), None, &spare);
            if left.is_empty() {
                return;
            }
            if !is_reported && left.iter().any(|one| !one.is_zombie) {
                self.tell(warning());
                is_reported = true;
            }
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                for one in &left {
                    let _ = platform::signal(one, signal);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// Where hotrun may have children that are not its own, only what bears the mark is.
    fn orphans(&self, tag: &str) -> Vec<Member> {
        let all_are_ours = self.means.foreign.is_empty() && getpid().as_raw() != 1;
        platform::orphans(tag, |child| {
            let marked = || platform::variable(child, TREE).is_some_and(|value| value == tag);
            self.means.reaper.knows(child)
                || self.means.foreign.contains(&child)
                || !(all_are_ours || marked())
        })
    }

    fn tell(&self, message: FromProcess) {
        self.means.inbox.send((self.proc, message));
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
        self.tell(FromProcess::Exited(why));
        self.tell(FromProcess::Gone);
    }
}

fn no_guardian(error: &io::Error) -> Ended {
    Ended::NotStarted(format!("no guardian can be started: {error}"))
}

fn launch(stage: &Stage, job: &Job, streams: &[Option<OwnedFd>; 3], is_last: bool) -> Launch {
    let mut launch = bare_launch(&stage.command, &job.directory);
    launch.env.extend(job.env.iter().cloned());
    let names: Vec<&str> = job.listeners.iter().map(|listener| listener.name.as_str()).collect();
    if !names.is_empty() {
        launch.env.push(("LISTEN_FDS".into(), names.len().to_string().into()));
        launch.env.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
    }
    let place = match job.terminal {
        Attachment::OutputOnly | Attachment::Background => Place::Background,
        Attachment::Foreground => Place::Foreground,
        Attachment::Copied => Place::OwnTerminal,
    };
    Launch {
        program: job.program.clone().map(OsString::from),
        streams: [0, 1, 2].map(|number: usize| streams[number].is_some()),
        listeners: names.len(),
        outputs: Vec::new(),
        // Of a shell it would be the shell's, and no one else's.
        takes_listeners: !names.is_empty() && matches!(stage.command, Command::Argv(_)),
        place,
        farewell: job.farewell as i32,
        leader_only: job.scope == Scope::Leader,
        spare: job.spare.to_vec(),
        is_last,
        ..launch
    }
}

/// A command in the background, its input empty, its output hotrun's own.
pub(super) fn bare_launch(command: &Command, directory: &Path) -> Launch {
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
        program: None,
        env,
        unset: NOT_FOR_CHILDREN.map(OsString::from).to_vec(),
        directory: directory.into(),
        streams: [false; 3],
        listeners: 0,
        outputs: Vec::new(),
        takes_listeners: false,
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

/// Whether the first word of a command names an executable file. A shell always does.
fn can_be_found(stage: &Stage, job: &Job) -> bool {
    let Command::Argv(argv) = &stage.command else { return true };
    let Some(name) =
        job.program.as_ref().map(|path| path.as_os_str()).or(argv.first().map(OsString::as_os_str))
    else {
        return false;
    };
    let own = || std::env::var_os("PATH").unwrap_or_default();
    let set = job.env.iter().rev().find(|(variable, _)| variable == "PATH");
    let path = set.map_or_else(own, |(_, value)| value.clone());
    search::found_from(&job.directory, &path, name).is_some()
}

pub(super) fn not_started(
    command: &Command,
    program: Option<&Path>,
    directory: &Path,
    failure: Failure,
) -> Ended {
    let name = match (program, command) {
        (Some(program), _) => program.display().to_string(),
        (None, Command::Argv(argv)) => Path::new(&argv[0]).display().to_string(),
        (None, Command::Shell(..)) => "/bin/sh".to_owned(),
    };
    let error = Errno::from_raw(failure.errno);
    let why = match (failure.step, error) {
        (Step::Prepare, _) => format!("{name}: no process can be started: {}", error.desc()),
        (Step::Enter, Errno::ENOENT) => {
            format!("{}: the working directory no longer exists", directory.display())
        }
        (Step::Enter, _) => {
            format!("{}: cannot be entered: {}", directory.display(), error.desc())
        }
        (Step::Execute, Errno::ENOENT) => format!("{name}: command not found"),
        (Step::Execute, Errno::EACCES) => format!("{name}: not executable"),
        (Step::Execute, _) => format!("{name}: {}", error.desc()),
    };
    Ended::NotStarted(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_jobserver_words_are_taken_out() {
        let flags = OsStr::new(" -j4 --jobserver-auth=fifo:/tmp/x -- A=1");
        assert_eq!(without_jobserver(flags), " -j4 -- A=1");
    }
}
