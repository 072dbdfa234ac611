//! macOS: launchd adopts orphans, so a tree is identified by a variable in the environment of its
//! members, and by their parents and groups; `ps` reports both. This code compiles, but was never
//! run.
//!
//! Not detected: a process that is forked, clears its environment and leaves its group between two
//! polls.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid, getpid};

use super::ports::Listening;
use super::{AwaitedLock, Member, TREE};

/// Interval at which the rest of a tree is polled.
pub(super) const LOOK: Option<Duration> = Some(Duration::from_millis(50));

/// Not supported on macOS.
pub(super) fn adopt_orphans() -> nix::Result<()> {
    Ok(())
}

/// `ps` is always available.
pub(super) fn why_unknown() -> Option<String> {
    None
}

/// Sends a signal to this process. macOS has no process descriptors.
pub(super) fn signal(to: &Member, signal: Signal) -> nix::Result<()> {
    nix::sys::signal::kill(to.pid, signal)
}

/// `ps` shows the first argument as the name.
pub(super) fn set_name(_name: &CStr) {}

/// Not supported on macOS: when a guardian is killed, hotrun finds its tree by the variable.
pub(super) fn die_with(_parent: Pid) -> io::Result<()> {
    Ok(())
}

/// Returns the path of this program.
pub(super) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// A descriptor that can be polled for state changes of children.
pub(super) struct ChildEvents(Kqueue);

impl ChildEvents {
    /// Creates the descriptor. The caller must have blocked SIGCHLD.
    pub(super) fn new() -> nix::Result<Self> {
        let queue = Kqueue::new()?;
        let signal = usize::try_from(Signal::SIGCHLD as i32).unwrap_or_default();
        let filter = EventFilter::EVFILT_SIGNAL;
        let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
        let change = KEvent::new(signal, filter, flags, FilterFlag::empty(), 0, 0);
        queue.kevent(&[change], &mut [], None)?;
        Ok(Self(queue))
    }

    /// Discards the events that were reported.
    pub(super) fn clear(&self) {
        let none = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = EvFlags::empty();
        let empty = KEvent::new(0, EventFilter::EVFILT_USER, flags, FilterFlag::empty(), 0, 0);
        let _ = self.0.kevent(&[], &mut [empty], Some(none));
    }
}

impl AsFd for ChildEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// macOS has no control groups.
pub(super) struct Cgroup;

impl Cgroup {
    pub(super) fn new() -> Option<Self> {
        None
    }

    pub(super) fn kill(&self) {}

    pub(super) fn is_only_of(&self, _may_be_killed: impl Fn(Pid) -> bool) -> bool {
        false
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("there is never one")
    }
}

pub(super) fn remove_abandoned() {}

/// All processes that have this tag or descend from this process, parents before their children.
pub(super) fn members(tag: &str) -> Vec<Member> {
    let mark = format!("{TREE}={tag}");
    let me = getpid();
    let all = list("-E");
    let mut found: Vec<Member> = Vec::new();
    loop {
        let before = found.len();
        for (one, text) in &all {
            let below = one.parent == me || found.iter().any(|known| known.pid == one.parent);
            let marked = text.split(' ').any(|word| word == mark);
            if one.pid != me && (below || marked) && !found.contains(one) {
                found.push(*one);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The processes that a dead guardian has left behind.
pub(super) fn orphans(tag: &str, _own: impl Fn(Pid) -> bool) -> Vec<Member> {
    let mark = format!("{TREE}={tag}");
    let marked = |text: &str| !tag.is_empty() && text.split(' ').any(|word| word == mark);
    list("-E").into_iter().filter(|(_, text)| marked(text)).map(|(one, _)| one).collect()
}

pub(super) fn everybody() -> Vec<Member> {
    list("-w").into_iter().map(|(one, _)| one).collect()
}

/// The process that has started or adopted this one.
pub(super) fn parent_of(pid: Pid) -> Option<Pid> {
    member(pid).map(|one| one.parent)
}

/// The start time of a process; together with its pid it is unique.
pub(super) fn start_of(pid: Pid) -> Option<u64> {
    member(pid).map(|one| one.start)
}

/// Returns what `ps` reports about a process, if it exists.
pub(super) fn member(pid: Pid) -> Option<Member> {
    everybody().into_iter().find(|one| one.pid == pid)
}

/// The command line of a process.
pub(super) fn command_line(pid: Pid) -> String {
    ps(&["-ww", "-o", "command=", "-p", &pid.to_string()]).trim_end().to_owned()
}

/// A variable of the environment with which a process was started.
pub(super) fn variable(pid: Pid, name: &str) -> Option<String> {
    let text = ps(&["-wwE", "-o", "command=", "-p", &pid.to_string()]);
    let mut words = text.split_whitespace();
    words.find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// The system does not report the holders of locks.
pub(super) fn awaited_lock(_group: Pid) -> Option<AwaitedLock> {
    None
}

/// All descendants of a process, parents before their children.
pub(super) fn descendants(root: Pid) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    let all = everybody();
    loop {
        let before = found.len();
        for one in &all {
            let below = one.parent == root || found.iter().any(|known| known.pid == one.parent);
            if below && !found.contains(one) {
                found.push(*one);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The processes that listen on TCP ports: only these processes, or all; only this port, or all.
pub(super) fn listening(pids: Option<&[Pid]>, port: Option<u16>) -> Vec<Listening> {
    let (mut pid, mut socket) = (None, 0);
    let (_, text) = run("/usr/sbin/lsof", &["-nP", "-iTCP", "-sTCP:LISTEN", "-Fpdn"]);
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(number) = line.strip_prefix('p') {
            pid = number.parse().ok().map(Pid::from_raw);
        } else if let Some(address) = line.strip_prefix("d0x") {
            socket = u64::from_str_radix(address, 16).unwrap_or_default();
        } else if let (Some(pid), Some(name)) = (pid, line.strip_prefix('n')) {
            let (host, port) = name.rsplit_once(':').unwrap_or(("", name));
            let address = host.trim_matches(['[', ']']).parse().ok();
            let port = port.parse().ok();
            found.extend(port.map(|port| Listening { pid, address, port, socket }));
        }
    }
    found.retain(|one| {
        pids.is_none_or(|pids| pids.contains(&one.pid)) && port.is_none_or(|port| port == one.port)
    });
    found
}

/// The system does not report that.
pub(super) fn waiting_in_vain(_port: u16) -> Option<usize> {
    None
}

/// The system does not report that.
pub(super) fn awaits_connections(_pid: Pid, _socket: u64) -> bool {
    false
}

/// Whether a process listens on this TCP port.
pub(super) fn is_listened_to(port: u16) -> bool {
    !listening(None, Some(port)).is_empty()
}

/// `ps` reports the age in a format that depends on its length.
pub(super) fn age_of(_pid: Pid) -> Option<Duration> {
    None
}

/// The user that a process belongs to.
pub(super) fn user_of(pid: Pid) -> Option<Uid> {
    ps(&["-o", "uid=", "-p", &pid.to_string()]).trim().parse().ok().map(Uid::from_raw)
}

/// The working directory of a process.
pub(super) fn directory_of(pid: Pid) -> Option<PathBuf> {
    let (_, text) = run("/usr/sbin/lsof", &["-a", "-p", &pid.to_string(), "-d", "cwd", "-Fn"]);
    text.lines().find_map(|line| line.strip_prefix('n')).map(PathBuf::from)
}

/// Every process with its command line, and the additions of this switch.
fn list(switch: &str) -> Vec<(Member, String)> {
    let columns = "pid=,ppid=,pgid=,stat=,lstart=,command=";
    let (ps, text) = run("/bin/ps", &["-axww", switch, "-o", columns]);
    // `ps` itself is a child of this process, and is gone by now.
    text.lines().filter_map(read_line).filter(|(one, _)| Some(one.pid) != ps).collect()
}

/// Parses `pid ppid pgid stat` and a start time of five words.
fn read_line(line: &str) -> Option<(Member, String)> {
    let mut words = line.split_whitespace();
    let mut number = || words.next()?.parse().ok().map(Pid::from_raw);
    let (pid, parent, group) = (number()?, number()?, number()?);
    let is_zombie = words.next()?.starts_with('Z');
    let start: Vec<&str> = words.by_ref().take(5).collect();
    let start = start
        .concat()
        .bytes()
        .fold(0, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
    // `ps` does not report usable session ids.
    let session = nix::unistd::getsid(Some(pid)).unwrap_or(group);
    let text = words.collect::<Vec<_>>().join(" ");
    Some((Member { pid, parent, group, session, start, is_zombie }, text))
}

fn ps(args: &[&str]) -> String {
    run("/bin/ps", args).1
}

/// Runs a program. Returns its pid and its output.
fn run(program: &str, args: &[&str]) -> (Option<Pid>, String) {
    let mut command = Command::new(program);
    let Ok(mut child) = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
    else {
        return (None, String::new());
    };
    let pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let mut text = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        let _ = io::Read::read_to_end(stdout, &mut text);
    }
    // The reaper may have reaped it already.
    let _ = child.wait();
    (pid, String::from_utf8_lossy(&text).into_owned())
}

/// Unknown here.
pub(crate) fn ignores(_pid: Pid, _signal: nix::sys::signal::Signal) -> bool {
    false
}

/// Unknown here.
pub(crate) fn has_written_files(_: i32, _: &std::path::Path) -> Option<bool> {
    None
}
