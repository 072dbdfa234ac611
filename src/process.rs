//! Starts, stops and waits for what hotrun runs: builds, apps, hooks and short helpers.
//!
//! It owns the only reaper. hotrun adopts orphans, so it must wait for every child there
//! is, and nobody else may wait beside it; for that reason nothing here or above uses
//! `tokio::process`. All of this runs on one thread: a child is registered in the same
//! breath in which it is spawned, and cannot be reaped in between.
//!
//! A process here is the whole of its process group. `Exited` is told when its first
//! process ends, `Gone` when no member of the group is left in any state but zombie.
//!
//! It never knows why it is asked to do something.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{Command, Stage};
use crate::error::{Error, Result};
use crate::event::{Ended, Event, Message, Proc, quoted};
use crate::project::{Ask, Question};

mod output;
#[cfg_attr(target_os = "linux", path = "process/linux.rs")]
#[cfg_attr(target_os = "macos", path = "process/macos.rs")]
mod platform;

use output::{Kept, Output};

/// A file that is still being written cannot be executed (`ETXTBSY`): a build's last
/// writer may be about to close it. Tried again this often, this far apart.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// While waiting for a group to be gone: how often it is looked at when no child's end
/// says that it is time to.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Variables by which somebody else's supervisor speaks to hotrun; they are not for its
/// children.
const NOT_FOR_CHILDREN: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET"];

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
}

enum Order {
    /// Ask it to end; report `Overdue` when its grace is over.
    Dismiss(Signal, Duration),
    Kill,
    Signal(Signal),
}

/// Everything that was started and is not gone.
pub struct Processes {
    inbox: mpsc::UnboundedSender<Message>,
    reaper: Reaper,
    orders: HashMap<Proc, mpsc::UnboundedSender<Order>>,
}

impl Processes {
    /// Starts the reaper. Must be called on the thread, and inside the runtime, that will
    /// do all the spawning.
    pub fn new(inbox: mpsc::UnboundedSender<Message>) -> Result<Self> {
        platform::adopt_orphans()
            .map_err(|error| Error::failed("cannot adopt orphaned processes", error))?;
        Ok(Self { inbox, reaper: Reaper::start()?, orders: HashMap::new() })
    }

    /// Runs short helpers; it can be kept and used while this is.
    pub fn helper(&self) -> Helper {
        Helper { reaper: self.reaper.clone() }
    }

    /// Runs a job. What becomes of it is told to the inbox.
    pub fn spawn(&mut self, proc: Proc, job: Job) {
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders.insert(proc, sender);
        let group = Group {
            proc,
            pgids: Vec::new(),
            orders,
            deadline: job.limit.map(|limit| Instant::now() + limit),
            ending: false,
            killed: false,
            told_gone: false,
            output: Output::default(),
            reaper: self.reaper.clone(),
            inbox: self.inbox.clone(),
        };
        tokio::spawn(group.run(job));
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

    /// It is gone.
    pub fn forget(&mut self, proc: Proc) {
        self.orders.remove(&proc);
    }

    fn order(&self, proc: Proc, order: Order) {
        if let Some(orders) = self.orders.get(&proc) {
            // It may have ended in this very moment; then `Gone` is on its way.
            let _ = orders.send(order);
        }
    }
}

/// One process: the groups of its stages, and the only one who signals them.
struct Group {
    proc: Proc,
    /// The groups of all stages so far, as some may have left members behind.
    pgids: Vec<Pid>,
    orders: mpsc::UnboundedReceiver<Order>,
    deadline: Option<Instant>,
    /// It was asked to end: no further stage begins.
    ending: bool,
    killed: bool,
    told_gone: bool,
    /// What its commands print, as far as that passes through here.
    output: Output,
    reaper: Reaper,
    inbox: mpsc::UnboundedSender<Message>,
}

impl Group {
    async fn run(mut self, job: Job) {
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
            // A number whose group is gone may soon be somebody else's.
            self.pgids.retain(|pgid| platform::lives(*pgid));
            self.tell(Message::Running {
                proc: self.proc,
                label: stage.label.clone(),
                is_last: number + 1 == job.stages.len(),
            });
            ended = self.run_stage(stage, &job).await;
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
        let ended = first_failure.unwrap_or(ended);
        self.tell(Event::Exited(self.proc, ended).into());
        self.until_gone().await;
        self.tell(Event::Gone(self.proc).into());
        self.told_gone = true;
    }

    async fn run_stage(&mut self, stage: &Stage, job: &Job) -> Ended {
        // Of earlier commands, too, as they may have left somebody behind who writes on.
        let mut output = std::mem::take(&mut self.output);
        let started = self.start(stage, job, &mut output).await;
        let ended = match started {
            Ok(exit) => self.until_exit(exit, &mut output).await,
            Err(ended) => ended,
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

    async fn until_exit(
        &mut self,
        mut exit: oneshot::Receiver<Ended>,
        output: &mut Output,
    ) -> Ended {
        let ended = loop {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => self.obey(&order),
                ended = &mut exit => break ended.expect("the reaper outlives every child"),
                () = due(self.deadline) => self.overdue(),
                () = output.read() => {}
            }
        };
        output.read_rest().await;
        ended
    }

    async fn start(
        &mut self,
        stage: &Stage,
        job: &Job,
        output: &mut Output,
    ) -> std::result::Result<oneshot::Receiver<Ended>, Ended> {
        let mut command = std_command(&stage.command, &job.directory);
        command.envs(job.env.iter().map(|(key, value)| (key, value)));
        let has_messages = stage.messages_of.is_some();
        let mut redirect = || -> io::Result<()> {
            if has_messages {
                command.stdout(output.pipe(Kept::Messages)?);
            }
            if job.keeps_output {
                output.copy(&mut command, !has_messages)?;
            }
            Ok(())
        };
        redirect().map_err(|error| Ended::NotStarted(format!("no pipe: {error}")))?;
        for tries in 0.. {
            match command.spawn() {
                Ok(child) => {
                    let pid = pid_of(&child);
                    self.pgids.push(pid);
                    self.tell(Message::Spawned(self.proc, pid.as_raw()));
                    return Ok(self.reaper.register(pid));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
                {
                    tokio::select! {
                        Some(order) = self.orders.recv() => self.obey(&order),
                        () = sleep(BUSY_PAUSE) => {}
                    }
                    if self.ending {
                        break;
                    }
                }
                Err(error) => return Err(not_started(&stage.command, &job.directory, &error)),
            }
        }
        Err(Ended::NotStarted("asked to end before it had started".to_owned()))
    }

    async fn until_gone(&mut self) {
        let mut pause = FIRST_LOOK;
        let mut reaped = self.reaper.reaped.clone();
        let mut output = std::mem::take(&mut self.output);
        loop {
            reaped.mark_unchanged();
            self.pgids.retain(|pgid| platform::lives(*pgid));
            if self.pgids.is_empty() {
                return;
            }
            if self.killed {
                // A member may have forked while the group was being killed.
                self.send(Signal::SIGKILL);
            }
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => self.obey(&order),
                _ = reaped.changed() => {}
                () = due(self.deadline) => self.overdue(),
                () = output.read() => {}
                () = sleep(pause) => pause = (pause * 2).min(LAST_LOOK),
            }
        }
    }

    fn obey(&mut self, order: &Order) {
        match *order {
            // To the program itself: what it has started may not know this signal.
            Order::Signal(signal) => {
                if let Some(leader) = self.pgids.last() {
                    let _ = nix::sys::signal::kill(*leader, signal);
                }
            }
            Order::Kill => {
                self.ending = true;
                self.killed = true;
                self.deadline = None;
                self.send(Signal::SIGKILL);
            }
            Order::Dismiss(signal, grace) => {
                self.ending = true;
                self.deadline = Some(Instant::now() + grace);
                self.send(signal);
                // Who is stopped cannot obey.
                self.send(Signal::SIGCONT);
            }
        }
    }

    fn overdue(&mut self) {
        self.deadline = None;
        self.tell(Event::Overdue(self.proc).into());
    }

    fn send(&self, signal: Signal) {
        for pgid in &self.pgids {
            match killpg(*pgid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => tracing::warn!(%pgid, %signal, %error, "cannot signal"),
            }
        }
    }

    fn tell(&self, message: Message) {
        // The inbox closes when hotrun ends, and with it all interest.
        let _ = self.inbox.send(message);
    }
}

impl Drop for Group {
    /// Whatever ends hotrun or this task, a panic included: nobody is left behind, and
    /// nobody waits for ever.
    fn drop(&mut self) {
        if self.told_gone {
            return;
        }
        self.send(Signal::SIGKILL);
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

/// A command in a process group of its own, its input empty, its output ours.
fn std_command(command: &Command, directory: &Path) -> StdCommand {
    let mut std_command = match command {
        Command::Argv(argv) => {
            let mut std_command = StdCommand::new(&argv[0]);
            std_command.args(&argv[1..]);
            std_command
        }
        Command::Shell(text, args) => {
            let mut std_command = StdCommand::new("/bin/sh");
            if args.is_empty() {
                std_command.arg("-c").arg(text);
            } else {
                std_command.arg("-c").arg(format!("{text} \"$@\"")).arg("sh").args(args);
            }
            std_command
        }
    };
    std_command.current_dir(directory).stdin(Stdio::null()).process_group(0);
    // Shells and Go believe this name of the directory if it is one.
    std_command.env("PWD", directory);
    for name in NOT_FOR_CHILDREN {
        std_command.env_remove(name);
    }
    if let Some(flags) = std::env::var_os("MAKEFLAGS") {
        std_command.env("MAKEFLAGS", without_jobserver(&flags));
    }
    std_command
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

fn not_started(command: &Command, directory: &Path, error: &io::Error) -> Ended {
    let name = match command {
        Command::Argv(argv) => Path::new(&argv[0]).display().to_string(),
        Command::Shell(..) => "/bin/sh".to_owned(),
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound if !directory.is_dir() => {
            format!("{}: the working directory is gone", directory.display())
        }
        io::ErrorKind::NotFound => format!("{name}: there is no such program"),
        io::ErrorKind::PermissionDenied => format!("{name}: is not executable"),
        _ => format!("{name}: {error}"),
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

/// Waits for every child there is, and tells whoever registered it.
#[derive(Clone)]
struct Reaper {
    registrations: mpsc::UnboundedSender<(Pid, oneshot::Sender<Ended>)>,
    /// Changes with every round in which somebody was reaped.
    reaped: watch::Receiver<u64>,
}

impl Reaper {
    fn start() -> Result<Self> {
        let (registrations, mut registered) =
            mpsc::unbounded_channel::<(Pid, oneshot::Sender<Ended>)>();
        let (rounds, reaped) = watch::channel(0);
        let mut children = signal(SignalKind::child())
            .map_err(|error| Error::failed("cannot listen for SIGCHLD", error))?;
        tokio::spawn(async move {
            let mut waiting = HashMap::new();
            while children.recv().await.is_some() {
                while let Ok((pid, exit)) = registered.try_recv() {
                    waiting.insert(pid, exit);
                }
                while let Some((pid, ended)) = reap() {
                    if let Some(exit) = waiting.remove(&pid) {
                        // Whoever asked may have lost interest.
                        let _ = exit.send(ended);
                    } else {
                        tracing::debug!(%pid, %ended, "reaped an orphan");
                    }
                }
                rounds.send_modify(|round| *round += 1);
            }
        });
        Ok(Self { registrations, reaped })
    }

    fn register(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (exit, receiver) = oneshot::channel();
        self.registrations.send((pid, exit)).expect("the reaper outlives every child");
        receiver
    }
}

/// One child that has ended, if there is one. (`waitpid` for any child is `waitid(P_ALL)`,
/// and exists on macOS.)
fn reap() -> Option<(Pid, Ended)> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid, Ended::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, core)) => {
                return Some((pid, Ended::Signal { number: signal as i32, core }));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "waitpid");
                return None;
            }
        }
    }
}

/// Kills a helper whose answer nobody waits for any more.
struct KillOnDrop(Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs short helpers beside everything else.
#[derive(Clone)]
pub struct Helper {
    reaper: Reaper,
}

impl Ask for Helper {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        let command = Command::Argv(question.argv);
        let name = describe(&command);
        let failed = |why: &dyn std::fmt::Display| Error::failed(&name, why);
        let mut output = Output::default();
        let stdout = output.pipe(Kept::Printed).map_err(|error| failed(&error))?;
        let stderr = output.pipe(Kept::Messages).map_err(|error| failed(&error))?;
        let (pid, exit) = {
            let mut command_line = std_command(&command, &question.directory);
            let child = command_line.stdout(stdout).stderr(stderr).spawn();
            let child = child.map_err(|error| {
                let why = not_started(&command, &question.directory, &error);
                failed(&why).remedy("install it, or put it on the PATH")
            })?;
            let pid = pid_of(&child);
            (pid, self.reaper.register(pid))
        };
        let kill = KillOnDrop(pid);
        tokio::pin!(exit);
        let ended = loop {
            tokio::select! {
                ended = &mut exit => break ended.expect("the reaper outlives every child"),
                () = output.read() => {}
            }
        };
        output.read_rest().await;
        std::mem::forget(kill);
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
    fn when_hotrun_ends_by_a_panic_nobody_is_left_behind() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pid = runtime.block_on(async {
            let (sender, mut inbox) = mpsc::unbounded_channel();
            let mut processes = Processes::new(sender).unwrap();
            let command = Command::Argv(["sleep", "1000"].map(OsString::from).to_vec());
            let stages = vec![Stage::alone(command)];
            let job = Job {
                stages,
                directory: "/".into(),
                env: Vec::new(),
                limit: None,
                keeps_output: false,
                runs_all: false,
            };
            processes.spawn(Proc(1), job);
            loop {
                if let Some(Message::Spawned(_, pid)) = inbox.recv().await {
                    break Pid::from_raw(pid);
                }
            }
        });
        // What unwinding does.
        drop(runtime);
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
    }

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
