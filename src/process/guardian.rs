//! The guardian: a small separate process that owns the process tree of one generation.
//!
//! It is this program under another name, with one thread. It is the parent of the commands that it
//! runs, and adopts all orphans below it, so that no process can leave the tree. However hotrun
//! dies, the kernel closes the socket between the two; then the guardian stops the tree and exits.
//!
//! The guardian decides nothing: hotrun determines the grace period and what follows it. Only when
//! hotrun is dead does the guardian apply rules of its own.
//!
//! Invariant: no process in the tree is asked to exit twice, and a process that may stay gets no
//! signal.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{Shutdown, getsockopt, shutdown};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid, setpgid, setsid, tcsetpgrp};

use super::link::{Failure, FromGuardian, Launch, Link, Place, Printed, Step, ToGuardian};
use super::{
    FIRST_LISTENER, GUARDIAN, LISTEN_PID, Member, TREE, open_files, part_spared, platform, raw,
    terminal,
};
use crate::config::Spare;
use crate::event::Ended;

/// Grace period of descendants that are asked to exit after the command has exited, and of the
/// whole tree once hotrun is dead.
const LAST_GRACE: Duration = Duration::from_millis(300);
/// First delay between two rounds of killing. Each further round doubles it.
const ROUND: Duration = Duration::from_millis(5);
/// Maximum of that delay.
const MAX_ROUND: Duration = Duration::from_millis(200);
/// A dying process closes its sockets before it is reported dead. Poll this often, at this
/// interval.
const DEATH_POLLS: u32 = 200;
const DEATH_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// Maximum wait for the last output of the command, before the guardian exits.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum number of scans of a tree that keeps growing while it is being stopped. Then the
/// processes found are killed, and the next round scans again.
const MAX_SCANS: usize = 50;

/// Whether this program was started as a guardian.
pub(crate) fn is_meant(name: Option<&OsStr>) -> bool {
    name == Some(OsStr::new(GUARDIAN))
}

/// Guards the tree until no process of it is left. hotrun is at the other end of stdin.
pub(crate) fn main() -> ExitCode {
    // No signal may end the guardian: its tree would be left behind. Blocked signals also allow it
    // to write to a terminal, and to hand it over, from the background.
    let _ = SigSet::all().thread_block();
    let limit = std::env::args().nth(2).and_then(|limit| limit.parse().ok());
    if let Some(limit) = limit {
        open_files::lower_to(limit);
    }
    match Duty::begin() {
        Ok(duty) => {
            duty.run();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints the outputs that hotrun can no longer read, in a thread: a stopped terminal or a full
/// pipe must not block the guardian. The guardian does not fork after that. The receiver is
/// disconnected at the end of all outputs.
fn print(mut outputs: Vec<(Printed, File)>) -> Receiver<()> {
    let (ends, ended) = channel();
    let print = move || {
        while !outputs.is_empty() {
            let fds =
                outputs.iter().map(|(_, output)| PollFd::new(output.as_fd(), PollFlags::POLLIN));
            let _ = poll(&mut fds.collect::<Vec<_>>(), PollTimeout::NONE);
            outputs.retain_mut(|(printed, output)| print_more(*printed, output));
        }
        drop(ends);
    };
    // If no thread can be started, as at a limit on the user's processes, the last output is lost.
    let _ = thread::Builder::new().spawn(print);
    ended
}

/// Copies available output. Returns false at the end of the output.
fn print_more(printed: Printed, output: &mut File) -> bool {
    let mut bytes = [0; 16 * 1024];
    let count = match output.read(&mut bytes) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(error) => {
            return matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
        }
    };
    // Output that cannot be printed is lost. Reading on keeps the program from being killed by
    // SIGPIPE.
    let _ = match printed {
        Printed::Stdout => {
            io::stdout().write_all(&bytes[..count]).and_then(|()| io::stdout().flush())
        }
        Printed::Stderr => io::stderr().write_all(&bytes[..count]),
    };
    true
}

/// A process that was asked to exit late, and its deadline.
struct Late {
    pid: Pid,
    start: u64,
    until: Instant,
}

struct Duty {
    link: Link,
    children: platform::ChildEvents,
    cgroup: Option<platform::Cgroup>,
    tag: String,
    spare: Option<(Vec<String>, Spare)>,
    /// The last command that was started; no other command can be running.
    launch: Option<Launch>,
    leader: Option<Pid>,
    /// The process that becomes the leader when the current one has exited.
    successor: Option<Pid>,
    /// The groups of all commands so far: members of earlier ones may be left.
    groups: Vec<Pid>,
    has_children: bool,
    /// Whether the tree was asked to exit.
    dismissed: bool,
    /// Processes that were asked to exit, by pid and start time.
    asked: HashSet<(Pid, u64)>,
    /// Groups whose members were all asked. A process that is forked in such a group later may be
    /// needed for the shutdown of the others.
    asked_groups: Vec<Pid>,
    late: Vec<Late>,
    killing: bool,
    /// Whether hotrun's job was stopped by Ctrl-Z, and the tree with it.
    suspended: bool,
    /// Delay after the current round of killing.
    round: Duration,
    /// Whether no command follows.
    closed: bool,
    /// Listeners that the command has inherited. A process that may stay may have them too: when
    /// hotrun is dead they are shut down, to free their ports.
    listeners: Vec<OwnedFd>,
    /// Outputs of the command, which are read here only when hotrun is dead.
    outputs: Vec<(Printed, File)>,
    /// Disconnected when all of these outputs have been printed.
    printing: Option<Receiver<()>>,
    /// Deadline for the tree when hotrun is dead. After it, the remaining processes are killed.
    abandoned: Option<Instant>,
    /// The pid of hotrun.
    hotrun: Pid,
}

impl Duty {
    fn begin() -> io::Result<Self> {
        platform::set_name(&std::ffi::CString::new(GUARDIAN)?);
        platform::adopt_orphans()?;
        // Keeps no file system from being unmounted.
        std::env::set_current_dir("/")?;
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self {
            link: Link::new(UnixStream::from(socket)),
            children: platform::ChildEvents::new()?,
            cgroup: platform::Cgroup::new(),
            tag: std::env::var(TREE).unwrap_or_default(),
            spare: None,
            launch: None,
            leader: None,
            successor: None,
            groups: Vec::new(),
            has_children: false,
            dismissed: false,
            asked: HashSet::new(),
            asked_groups: Vec::new(),
            late: Vec::new(),
            killing: false,
            suspended: false,
            round: ROUND,
            closed: false,
            listeners: Vec::new(),
            outputs: Vec::new(),
            printing: None,
            abandoned: None,
            hotrun: getppid(),
        })
    }

    fn run(mut self) {
        loop {
            self.reap();
            if self.abandoned.is_some_and(|until| until <= Instant::now()) {
                self.killing = true;
            }
            if self.killing {
                self.kill_everybody();
            }
            self.kill_the_late();
            if self.is_over() && !self.waits_for_hotruns_end() {
                if self.members_and_spared().1.is_empty() {
                    // No process has them any more, and hotrun may bind another address with the
                    // same port as soon as it knows.
                    self.listeners.clear();
                }
                self.link.tell(&FromGuardian::Gone);
                if let Some(printing) = &self.printing {
                    let _ = printing.recv_timeout(OUTPUT_TIMEOUT);
                }
                if self.hotrun_is_dead() {
                    terminal::mend_after_death();
                    for listener in &self.listeners {
                        let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
                    }
                }
                return;
            }
            self.wait();
        }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        let late = self.late.iter().map(|late| late.until);
        let until = late.chain(self.abandoned).min();
        let mut pause = until.map(|until| until.saturating_duration_since(now));
        if self.killing && (self.has_children || platform::LOOK.is_some()) {
            pause = Some(self.round.max(platform::LOOK.unwrap_or_default()));
            self.round = (self.round * 2).min(MAX_ROUND);
        } else if self.abandoned.is_some() && self.leader.is_none() {
            pause = Some(ROUND);
        } else if self.leader.is_none() && !self.groups.is_empty() {
            pause = pause.into_iter().chain(platform::LOOK).min();
        }
        let millis = pause.map(|pause| pause.as_millis().saturating_add(1));
        let timeout = millis.map_or(PollTimeout::NONE, |millis| {
            PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
        });
        let can_hear = self.abandoned.is_none();
        let (heard, ended) = {
            let mut fds = vec![PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
            if can_hear {
                fds.push(PollFd::new(self.link.as_fd(), PollFlags::POLLIN));
            }
            // `poll` is never interrupted: all signals are blocked.
            let _ = poll(&mut fds, timeout);
            let any = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
            (any(fds.get(1)), any(fds.first()))
        };
        if ended {
            self.children.clear();
        }
        if heard {
            self.hear();
        }
    }

    fn hear(&mut self) {
        if !self.link.receive() {
            self.abandon();
            return;
        }
        while let Some(message) = self.link.next() {
            match message {
                Ok(message) => self.obey(message),
                // An unknown message does not come from the hotrun that started this guardian.
                Err(_) => self.abandon(),
            }
        }
    }

    fn obey(&mut self, message: ToGuardian) {
        match message {
            ToGuardian::Start(launch) => self.start(launch),
            ToGuardian::Dismiss(signal) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    self.dismiss(signal);
                }
            }
            ToGuardian::Kill => self.killing = true,
            ToGuardian::Signal(signal) => {
                if let (Some(leader), Ok(signal)) = (self.leader, Signal::try_from(signal)) {
                    let _ = kill(leader, signal);
                }
            }
            ToGuardian::Suspend => {
                self.suspended = true;
                let place = self.launch.as_ref().map(|launch| launch.place);
                // A command that leads a session of its own is in an orphaned process group,
                // where the kernel discards SIGTSTP.
                let is_alone = place == Some(Place::OwnTerminal);
                self.signal_groups(if is_alone { Signal::SIGSTOP } else { Signal::SIGTSTP });
            }
            ToGuardian::Resume => {
                self.suspended = false;
                self.signal_groups(Signal::SIGCONT);
            }
            ToGuardian::Pass(signal) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    self.signal_groups(signal);
                }
            }
            ToGuardian::Who => {
                let left = self.members();
                let left = left.iter().map(|one| one.pid);
                let left = left.map(|pid| (pid.as_raw(), platform::command_line(pid)));
                let left = FromGuardian::Left(left.collect());
                self.link.tell(&left);
            }
            ToGuardian::Succeed(pid) => {
                self.successor = Some(Pid::from_raw(pid));
                let ends = self.dismissed || self.killing;
                if self.leader.is_none() && (ends || !self.take_successor()) {
                    self.link.tell(&FromGuardian::NoSuccessor);
                }
            }
            ToGuardian::Close => self.closed = true,
        }
    }

    // Starting

    fn start(&mut self, launch: Launch) {
        let streams = launch.streams.map(|travels| travels.then(|| self.link.next_fd()).flatten());
        let listeners: Vec<OwnedFd> =
            (0..launch.listeners).map_while(|_| self.link.next_fd()).collect();
        let accept = listeners.iter().filter(|one| getsockopt(*one, AcceptConn) == Ok(true));
        self.listeners = accept.filter_map(|one| one.try_clone().ok()).collect();
        let outputs = launch.outputs.iter();
        self.outputs =
            outputs.map_while(|one| Some((*one, File::from(self.link.next_fd()?)))).collect();
        self.closed = false;
        self.successor = None;
        match self.fork(&launch, Inheritance { streams, listeners }) {
            Ok(pid) => {
                self.leader = Some(pid);
                self.has_children = true;
                self.groups.push(pid);
                self.closed = launch.is_last;
                self.link.tell(&FromGuardian::Started(pid.as_raw()));
            }
            Err(failure) => self.link.tell(&FromGuardian::NotStarted(failure)),
        }
        self.launch = Some(launch);
    }

    fn fork(&mut self, launch: &Launch, fds: Inheritance) -> Result<Pid, Failure> {
        let prepare = |error: io::Error| failure(Step::Prepare, &error);
        let (mut status, mut report) = io::pipe().map_err(prepare)?;
        let guardian = getpid();
        let cgroup = self.cgroup.as_ref().map(AsFd::as_fd);
        let forked = raw::fork(cgroup).map_err(|errno| prepare(errno.into()))?;
        let pid = match forked {
            raw::Forked::Child => {
                let failure = match move_up(report.into(), launch.listeners) {
                    Ok(moved) => {
                        report = moved.into();
                        become_command(launch, fds, guardian)
                    }
                    // No channel is left on which to report the error.
                    Err(_) => raw::exit_child(),
                };
                if let Ok(text) = serde_json::to_vec(&failure) {
                    let _ = report.write_all(&text);
                }
                raw::exit_child();
            }
            raw::Forked::Parent(pid) => pid,
        };
        drop(report);
        drop(fds);
        if launch.place != Place::OwnTerminal {
            // The child does the same. Whichever comes first, no other process can run in between.
            let _ = setpgid(pid, pid);
        }
        // A successful `execve` closes the pipe.
        let mut text = Vec::new();
        let _ = status.read_to_end(&mut text);
        if text.is_empty() {
            return Ok(pid);
        }
        let _ = waitpid(pid, None);
        let unknown = Failure { step: Step::Prepare, errno: Errno::EIO as i32 };
        Err(serde_json::from_slice(&text).unwrap_or(unknown))
    }

    // Exits

    /// Handles every child that has exited or was stopped.
    fn reap(&mut self) {
        loop {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
            let (pid, ended) = match waitpid(None::<Pid>, Some(flags)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, core)) => {
                    (pid, Ended::Signal { number: signal as i32, core })
                }
                Ok(WaitStatus::Stopped(pid, _)) if self.dismissed && !self.killing => {
                    // It was stopped after it had been asked to exit, and cannot react while
                    // stopped.
                    let _ = kill(pid, Signal::SIGCONT);
                    continue;
                }
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    // hotrun has ordered the stop of a suspended tree. A report that arrives after
                    // `fg` would be taken for another Ctrl-Z.
                    let is_news = !self.suspended && !self.killing;
                    if self.leader == Some(pid) && is_news {
                        self.link.tell(&FromGuardian::Stopped(signal as i32));
                    }
                    continue;
                }
                Ok(WaitStatus::StillAlive) => {
                    self.has_children = true;
                    break;
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => {
                    self.has_children = false;
                    break;
                }
            };
            if self.leader == Some(pid) {
                self.leader = None;
                if self.dismissed || self.killing || !self.take_successor() {
                    self.link.tell(&FromGuardian::Exited(ended));
                }
            }
        }
        if self.dismissed && self.leader.is_none() && self.has_children && !self.killing {
            self.ask_the_rest();
        }
    }

    /// Makes the successor the leader, if there is one and it is running. Returns false if not.
    fn take_successor(&mut self) -> bool {
        // On other systems an orphan is not adopted by the guardian, so its exit would go
        // unnoticed.
        let Some(successor) = self.successor.take().filter(|_| platform::LOOK.is_none()) else {
            return false;
        };
        let (me, members) = (getpid(), self.members());
        let find = |pid: Pid| members.iter().find(|one| one.pid == pid);
        let mut child = find(successor);
        // The exit of a process that a shell started is reported only to that shell, so the leader
        // is the direct child above it.
        while let Some(one) = child.filter(|one| one.parent != me) {
            child = find(one.parent);
        }
        let Some(child) = child.copied() else { return false };
        self.leader = Some(child.pid);
        for pid in [child.pid, successor] {
            self.groups.extend(find(pid).map(|one| one.group));
        }
        self.groups.sort();
        self.groups.dedup();
        self.link.tell(&FromGuardian::Succeeded(successor.as_raw()));
        true
    }

    fn is_over(&mut self) -> bool {
        let ends = self.closed || self.abandoned.is_some();
        if !ends || self.leader.is_some() {
            return false;
        }
        if platform::LOOK.is_none() && !self.has_children {
            return true;
        }
        // A process that exits during a scan may leave children, which only then become ours.
        (0..2).all(|_| {
            let me = getpid();
            let all = platform::members(&self.tag);
            let has_just_ended = all.iter().any(|one| one.is_zombie && one.parent == me);
            let (go, stay) = self.part(all);
            let is_seen = platform::LOOK.is_some() || !stay.is_empty();
            go.is_empty() && is_seen && !has_just_ended
        })
    }

    // Stopping

    fn dismiss(&mut self, signal: Signal) {
        self.dismissed = true;
        let leader_only = self.launch.as_ref().is_some_and(|launch| launch.leader_only);
        if let Some(leader) = self.leader.filter(|_| leader_only) {
            let _ = kill(leader, signal);
            // A stopped process cannot react to the signal.
            self.signal_groups(Signal::SIGCONT);
            let members = self.members();
            let leader = members.iter().find(|one| one.pid == leader);
            self.asked.extend(leader.map(Member::identity));
            return;
        }
        let members = self.signal_groups(signal);
        for one in &members {
            // A stopped process cannot react to the signal.
            let _ = platform::signal(one, Signal::SIGCONT);
        }
        self.asked.extend(members.iter().map(Member::identity));
        self.asked_groups.clone_from(&self.groups);
        if self.leader.is_none() {
            self.ask_the_rest();
        }
    }

    /// Asks the remaining processes to exit after the command has exited, unless they were asked
    /// with it. Their grace period is short, since nothing waits for them. Processes that were
    /// asked before keep their own grace period.
    fn ask_the_rest(&mut self) {
        let members = self.members();
        let asked = |one: &Member| {
            self.asked.contains(&one.identity()) || self.asked_groups.contains(&one.group)
        };
        if !self.late.is_empty() && members.iter().any(asked) {
            // Already done; the others have yet to exit.
            return;
        }
        let rest: Vec<Member> = members.into_iter().filter(|one| !asked(one)).collect();
        for one in &rest {
            let _ = platform::signal(one, Signal::SIGTERM);
            let _ = platform::signal(one, Signal::SIGCONT);
            let until = Instant::now() + LAST_GRACE;
            self.late.push(Late { pid: one.pid, start: one.start, until });
        }
        self.asked.extend(rest.iter().map(Member::identity));
    }

    fn kill_the_late(&mut self) {
        let now = Instant::now();
        if !self.late.iter().any(|late| late.until <= now) {
            return;
        }
        let members = self.members();
        for late in self.late.extract_if(.., |late| late.until <= now) {
            let lives = members.iter().find(|one| one.identity() == (late.pid, late.start));
            if let Some(one) = lives {
                let _ = platform::signal(one, Signal::SIGKILL);
            }
        }
    }

    fn hotrun_is_dead(&self) -> bool {
        getppid() != self.hotrun
    }

    /// Whether it is still uncertain that hotrun is dead: a dying process closes its sockets before
    /// it is reported dead, and a living one may close one of them.
    fn waits_for_hotruns_end(&self) -> bool {
        let is_unsure = !self.closed && !self.hotrun_is_dead();
        is_unsure && self.abandoned.is_some_and(|until| until > Instant::now())
    }

    /// Restores the terminal at once: a shell remembers the modes in which its job leaves the
    /// terminal.
    fn mend_terminal(&self) {
        for _ in 0..DEATH_POLLS {
            if self.closed {
                return;
            }
            if self.hotrun_is_dead() {
                terminal::mend_after_death();
                return;
            }
            thread::sleep(DEATH_POLL_INTERVAL);
        }
    }

    /// Handles the death of hotrun. The processes get a short time to clean up.
    fn abandon(&mut self) {
        self.abandoned = Some(Instant::now() + LAST_GRACE);
        self.printing = Some(print(std::mem::take(&mut self.outputs)));
        let farewell = self.launch.as_ref().map(|launch| launch.farewell);
        if !self.dismissed
            && !self.killing
            && let Some(Ok(signal)) = farewell.map(Signal::try_from)
        {
            self.dismiss(signal);
        }
        self.mend_terminal();
    }

    // Killing

    /// One round of killing. Parents are stopped before the scan for their children, so that no
    /// child is forked unseen. Then all processes found are killed.
    fn kill_everybody(&mut self) {
        let mut members = self.members();
        if let Some(cgroup) = &self.cgroup {
            let known: HashSet<Pid> = members.iter().map(|one| one.pid).collect();
            if cgroup.is_only_of(|pid| known.contains(&pid)) {
                cgroup.kill();
            }
        }
        let mut stopped = HashSet::new();
        for _ in 0..MAX_SCANS {
            let before = stopped.len();
            for one in &members {
                if stopped.insert(one.identity()) {
                    let _ = platform::signal(one, Signal::SIGSTOP);
                }
            }
            if stopped.len() == before {
                break;
            }
            members = self.members();
        }
        for one in &members {
            let _ = platform::signal(one, Signal::SIGKILL);
        }
        self.reap();
    }

    // Members of the tree

    /// Sends a signal to the members of all remaining groups, except processes that may stay.
    /// Returns the members.
    fn signal_groups(&mut self, signal: Signal) -> Vec<Member> {
        let (mut members, spared) = self.members_and_spared();
        self.groups.retain(|group| {
            // The number of a group that is gone may be reused by another.
            members.iter().chain(&spared).any(|one| one.group == *group)
        });
        members.retain(|one| self.groups.contains(&one.group));
        for group in &self.groups {
            if spared.iter().any(|one| one.group == *group) {
                for one in members.iter().filter(|one| one.group == *group) {
                    let _ = platform::signal(one, signal);
                }
            } else {
                // `killpg` also reaches processes that are being forked at this moment. Processes
                // that we may not signal stay, and are reported as left.
                let _ = killpg(*group, signal);
            }
        }
        members
    }

    /// All processes in the tree, except those that may stay.
    fn members(&mut self) -> Vec<Member> {
        self.members_and_spared().0
    }

    fn members_and_spared(&mut self) -> (Vec<Member>, Vec<Member>) {
        let all = platform::members(&self.tag);
        self.part(all)
    }

    /// Of these, the living processes that must go, and those that may stay.
    fn part(&mut self, mut all: Vec<Member>) -> (Vec<Member>, Vec<Member>) {
        all.retain(|one| !one.is_zombie);
        // A command itself is never spared, and usually it is the only process.
        if all.iter().all(|one| Some(one.pid) == self.leader) {
            return (all, Vec::new());
        }
        let patterns = self.launch.as_ref().map(|launch| launch.spare.as_slice());
        let patterns = patterns.unwrap_or_default();
        if self.spare.as_ref().is_none_or(|(known, _)| known != patterns) {
            // hotrun has parsed them too, and reports errors.
            let read = Spare::new(patterns).unwrap_or_default();
            self.spare = Some((patterns.to_vec(), read));
        }
        let spare = self.spare.as_ref().map(|(_, spare)| spare);
        match spare {
            Some(spare) => part_spared(all, self.leader, spare),
            None => (all, Vec::new()),
        }
    }
}

fn failure(step: Step, error: &io::Error) -> Failure {
    Failure { step, errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32) }
}

/// Descriptors for a command.
struct Inheritance {
    streams: [Option<OwnedFd>; 3],
    listeners: Vec<OwnedFd>,
}

impl Inheritance {
    /// In the child: places the listeners where the command expects them, and returns the standard
    /// streams.
    fn settle(self) -> io::Result<[Option<OwnedFd>; 3]> {
        let count = self.listeners.len();
        let mut streams = [None, None, None];
        for (settled, stream) in streams.iter_mut().zip(self.streams) {
            *settled = stream.map(|stream| move_up(stream, count)).transpose()?;
        }
        // A target number may be the current number of another one.
        let moved = self.listeners.into_iter().map(|listener| move_up(listener, count));
        let moved: Vec<OwnedFd> = moved.collect::<io::Result<_>>()?;
        for (number, listener) in (FIRST_LISTENER..).zip(&moved) {
            raw::place(listener, number)?;
        }
        Ok(streams)
    }
}

/// Returns the same descriptor, with a number above those of the listeners.
fn move_up(fd: OwnedFd, listeners: usize) -> io::Result<OwnedFd> {
    let first_free = FIRST_LISTENER + RawFd::try_from(listeners).unwrap_or(RawFd::MAX);
    if fd.as_raw_fd() >= first_free {
        return Ok(fd);
    }
    Ok(raw::own(fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(first_free))?))
}

/// In the child: turns it into the command. Returns only on failure.
fn become_command(launch: &Launch, fds: Inheritance, guardian: Pid) -> Failure {
    let [stdin, stdout, stderr] = match fds.settle() {
        Ok(streams) => streams,
        Err(error) => return failure(Step::Prepare, &error),
    };
    let prepared = || -> io::Result<()> {
        platform::die_with(guardian)?;
        // tmux, for example, has its children ignore these signals. Then reads in the background
        // would fail with EIO, instead of stopping the process until it has the terminal.
        for signal in [Signal::SIGTTIN, Signal::SIGTTOU] {
            raw::set_default(signal)?;
        }
        let me = getpid();
        match launch.place {
            Place::Background => setpgid(me, me)?,
            Place::Foreground => {
                setpgid(me, me)?;
                if let Some(terminal) = &stdin {
                    tcsetpgrp(terminal, me)?;
                }
            }
            Place::OwnTerminal => {
                setsid()?;
                if let Some(terminal) = &stdout {
                    raw::take_controlling_terminal(terminal)?;
                }
            }
        }
        Ok(())
    };
    if let Err(error) = prepared() {
        return failure(Step::Prepare, &error);
    }
    if let Err(error) = std::env::set_current_dir(&launch.directory) {
        return failure(Step::Enter, &error);
    }
    let Some((name, args)) = launch.argv.split_first() else {
        return Failure { step: Step::Execute, errno: Errno::ENOENT as i32 };
    };
    let mut command = Command::new(launch.program.as_ref().unwrap_or(name));
    command.arg0(name).args(args);
    for name in &launch.unset {
        command.env_remove(name);
    }
    command.envs(launch.env.iter().map(|(name, value)| (name, value)));
    if launch.takes_listeners {
        command.env(LISTEN_PID, getpid().to_string());
    }
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    // All signals are blocked here, and the program would inherit that.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return failure(Step::Prepare, &errno.into());
    }
    failure(Step::Execute, &command.exec())
}
