//! Linux: the next subreaper above an orphan adopts it, and `/proc` lists all processes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, Uid, getpid, getppid, sysconf};

use super::ports::Listening;
use super::{AwaitedLock, Member, raw};

mod cgroup;

pub(super) use cgroup::{Cgroup, remove_abandoned};

/// Interval at which the rest of a tree is polled. None is needed here: each remaining process is a
/// child of the guardian or becomes one, and its exit is reported.
pub(super) const LOOK: Option<Duration> = None;

/// Makes this process a subreaper: a descendant whose parent exits becomes its child, so that
/// SIGCHLD reports its exit, and it can be reaped.
pub(super) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Returns why `/proc` does not list the processes of this PID namespace, if it does not.
pub(super) fn why_unknown() -> Option<String> {
    let me = getpid().to_string();
    match fs::read_link("/proc/self") {
        Ok(link) if link == Path::new(&me) && member(getpid()).is_some() => None,
        Ok(link) if link != Path::new(&me) => Some(format!(
            "/proc is that of another PID namespace: there this process is {}, and not {me}",
            link.display()
        )),
        _ => Some("there is no /proc of this PID namespace".to_owned()),
    }
}

/// Sends a signal to this process. Another process that has the same pid by now gets no signal.
pub(super) fn signal(to: &Member, signal: Signal) -> nix::Result<()> {
    let is_there = || member(to.pid).is_some_and(|now| now.identity() == to.identity());
    match raw::pidfd_open(to.pid) {
        // The descriptor refers to one process; check that it is the one that was seen.
        Ok(process) if is_there() => raw::pidfd_send(&process, signal),
        // An older kernel, or no descriptor is left.
        Err(Errno::ENOSYS | Errno::EMFILE | Errno::ENFILE) if is_there() => kill(to.pid, signal),
        _ => Err(Errno::ESRCH),
    }
}

/// Sets the name of this process in `ps` and `top`.
pub(super) fn set_name(name: &std::ffi::CStr) {
    // The name is not essential.
    let _ = prctl::set_name(name);
}

/// Called in a new child: has the kernel kill it when its parent dies.
pub(super) fn die_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent {
        return Ok(());
    }
    // The parent died before that.
    Err(Errno::ESRCH.into())
}

/// Returns the path of this program. It stays valid when the file is replaced.
#[expect(clippy::unnecessary_wraps, reason = "on other systems it may not be known")]
pub(super) fn own_program() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

/// A descriptor that can be polled for state changes of children.
pub(super) struct ChildEvents(SignalFd);

impl ChildEvents {
    /// Creates the descriptor. The caller must have blocked SIGCHLD.
    pub(super) fn new() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&mask, flags).map(Self)
    }

    /// Discards the events that were reported.
    pub(super) fn clear(&self) {
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

impl AsFd for ChildEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All descendants of this process, parents before their children. (The tag of a tree is for
/// systems where orphans cannot be adopted.)
pub(super) fn members(_tag: &str) -> Vec<Member> {
    descendants(getpid())
}

/// The children of this process that it did not start itself, and their descendants.
pub(super) fn orphans(_tag: &str, own: impl Fn(Pid) -> bool) -> Vec<Member> {
    let me = getpid();
    let mut kept: Vec<Member> = Vec::new();
    for one in descendants(me) {
        let is_one = match one.parent {
            parent if parent == me => !own(one.pid),
            parent => kept.iter().any(|kept| kept.pid == parent),
        };
        if is_one {
            kept.push(one);
        }
    }
    kept
}

/// All descendants of a process, parents before their children.
pub(super) fn descendants(root: Pid) -> Vec<Member> {
    // Depends on the kernel's configuration (`CONFIG_PROC_CHILDREN`). Where this file exists, it
    // saves reading all processes.
    if fs::exists(format!("/proc/{root}/task/{root}/children")).unwrap_or(false) {
        return by_children_files(root);
    }
    let mut below: HashMap<Pid, Vec<Member>> = HashMap::new();
    for one in everybody() {
        below.entry(one.parent).or_default().push(one);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for one in below.remove(&parent).unwrap_or_default() {
            next.push(one.pid);
            found.push(one);
        }
    }
    found
}

fn by_children_files(root: Pid) -> Vec<Member> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        // A process that a thread has forked is listed in the file of that thread.
        for thread in threads(parent) {
            let children = read(&thread.join("children")).unwrap_or_default();
            let children = String::from_utf8_lossy(&children);
            let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            for one in pids.map(Pid::from_raw).filter_map(member) {
                next.push(one.pid);
                found.push(one);
            }
        }
    }
    found
}

pub(super) fn everybody() -> Vec<Member> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter_map(member).collect()
}

/// Returns what `/proc` reports about a process, if it exists.
pub(super) fn member(pid: Pid) -> Option<Member> {
    read_stat(pid, &read(Path::new(&format!("/proc/{pid}/stat")))?)
}

/// Reads a file of `/proc`, whose reported size is 0. The pieces are usually large enough for the
/// whole file: the caller may be about to stop a process that forks.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // A piece ends with a complete entry, so a short one need not be the last.
        match file.read(&mut piece).ok()? {
            0 => return Some(text),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
}

/// Parses `pid (comm) state ppid pgrp session …`; the name may contain blanks and parentheses.
fn read_stat(pid: Pid, stat: &[u8]) -> Option<Member> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let mut number = || fields.next()?.parse().ok().map(Pid::from_raw);
    let (parent, group, session) = (number()?, number()?, number()?);
    // Field 20. The state is that of the main thread, which may exit before the others
    // (`pthread_exit`); while they run, it counts among the threads.
    let threads: u32 = fields.nth(13)?.parse().ok()?;
    let is_zombie = has_ended && threads <= 1;
    // Field 22: clock ticks since boot.
    let start = fields.nth(1)?.parse().ok()?;
    Some(Member { pid, parent, group, session, start, is_zombie })
}

/// The process that has started or adopted this one.
pub(super) fn parent_of(pid: Pid) -> Option<Pid> {
    member(pid).map(|one| one.parent)
}

/// The start time of a process that has not exited; together with its pid it is unique.
pub(super) fn start_of(pid: Pid) -> Option<u64> {
    member(pid).filter(|one| !one.is_zombie).map(|one| one.start)
}

/// Reads a file of a process's directory in `/proc`. If its main thread has exited, and released
/// the shared resources, reads the file of another thread.
fn read_of(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let text = match fs::read(format!("/proc/{pid}/{name}")) {
        Ok(text) if !text.is_empty() => return Some(text),
        // It belongs to another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        other => other.ok(),
    };
    let mut of_threads = other_threads(pid).filter_map(|thread| fs::read(thread.join(name)).ok());
    of_threads.find(|text| !text.is_empty()).or(text)
}

/// The directories of a process's threads.
fn threads(pid: Pid) -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path())
}

/// The same without the main thread.
fn other_threads(pid: Pid) -> impl Iterator<Item = PathBuf> {
    let main = pid.to_string();
    threads(pid).filter(move |thread| !thread.ends_with(&main))
}

/// A process's descriptors, each as a link to its file.
fn descriptors_of(pid: Pid) -> impl Iterator<Item = PathBuf> {
    let of = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut found = of(Path::new(&format!("/proc/{pid}")));
    if found.is_empty() {
        found = other_threads(pid)
            .map(|thread| of(&thread))
            .find(|one| !one.is_empty())
            .unwrap_or_default();
    }
    found.into_iter()
}

/// The words of a process's command line, joined by blanks; empty if it has exited.
pub(super) fn command_line(pid: Pid) -> String {
    let words = read_of(pid, "cmdline").unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    words.trim_end_matches('\0').replace('\0', " ")
}

/// A variable of the environment with which a process was started. `None` also if it may not be
/// read, since the process belongs to another user.
pub(super) fn variable(pid: Pid, name: &str) -> Option<String> {
    let environ = read_of(pid, "environ")?;
    environ.split(|byte| *byte == 0).find_map(|one| {
        let value = one.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

// Locks

/// Finds a lock on a whole file that a process of this group is waiting for.
pub(super) fn awaited_lock(group: Pid) -> Option<AwaitedLock> {
    let locks = String::from_utf8_lossy(&read(Path::new("/proc/locks"))?).into_owned();
    awaited_locks(&locks).into_iter().find_map(|(waiter, holder, inode)| {
        if member(waiter)?.group != group {
            return None;
        }
        let file = opened(waiter, inode).and_then(|fd| fs::read_link(fd).ok());
        // If the process that took the lock has exited, its child may hold it.
        let heirs = || everybody().into_iter().map(|one| one.pid).filter(|pid| *pid != waiter);
        let is_there = start_of(holder).is_some();
        let heir = if is_there { None } else { heirs().find(|pid| opened(*pid, inode).is_some()) };
        let holder = heir.unwrap_or(holder);
        Some(AwaitedLock {
            file: file.map_or("a file".to_owned(), |file| file.display().to_string()),
            holder,
            command: command_line(holder),
        })
    })
}

/// The descriptor by which a process has opened the file of this inode.
fn opened(pid: Pid, inode: u64) -> Option<PathBuf> {
    descriptors_of(pid).find(|fd| fd.metadata().is_ok_and(|one| one.ino() == inode))
}

/// Parses `/proc/locks` into waiting process, holder, and inode of the locked file. The line of a
/// waiting process has an arrow, and the number of the lock that it is waiting for.
fn awaited_locks(locks: &str) -> Vec<(Pid, Pid, u64)> {
    let mut holders: HashMap<&str, Pid> = HashMap::new();
    let mut waiting = Vec::new();
    for line in locks.lines() {
        let mut words = line.split_whitespace().peekable();
        let Some(number) = words.next() else { continue };
        let waits = words.next_if_eq(&"->").is_some();
        // Skips the kind, whether it is mandatory, and whether it is shared.
        let Some(pid) = words.nth(3).and_then(|pid| pid.parse().ok()).map(Pid::from_raw) else {
            continue;
        };
        let inode = words.next().and_then(|file| file.rsplit(':').next()?.parse().ok());
        if !waits {
            holders.insert(number, pid);
        } else if let (Some(holder), Some(inode)) = (holders.get(number), inode) {
            waiting.push((pid, *holder, inode));
        }
    }
    // A holder in another container has no pid here.
    waiting.retain(|(_, holder, _)| holder.as_raw() > 0);
    waiting
}

// Ports

/// The processes that listen on TCP ports: only these processes, or all whose descriptors are
/// visible; only this port, or all.
pub(super) fn listening(pids: Option<&[Pid]>, port: Option<u16>) -> Vec<Listening> {
    let sockets: HashMap<u64, (Option<IpAddr>, u16)> = listeners()
        .filter(|(_, _, one)| port.is_none_or(|port| port == *one))
        .map(|(inode, address, port)| (inode, (address, port)))
        .collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    let all = || everybody().iter().map(|one| one.pid).collect();
    let mut found = Vec::new();
    for pid in pids.map_or_else(all, <[Pid]>::to_vec) {
        for descriptor in descriptors_of(pid) {
            let link = fs::read_link(descriptor).unwrap_or_default();
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
            let inode = inode.and_then(|inode| inode.trim_end_matches(']').parse().ok());
            let socket = inode.and_then(|inode: u64| Some((inode, *sockets.get(&inode)?)));
            found.extend(socket.map(|(socket, (address, port))| Listening {
                pid,
                address,
                port,
                socket,
            }));
        }
    }
    found
}

/// How many connections are queued on this TCP port, if no program has accepted any for a while.
pub(super) fn waiting_in_vain(port: u16) -> Option<usize> {
    const ESTABLISHED: &str = "01";
    let mut waiting = 0;
    for line in tcp_tables().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, ..] = fields[..] else { continue };
        if port_in(local) != Some(port) || remote.ends_with(":0000") {
            continue;
        }
        // A connection that was not accepted belongs to no descriptor. One that is closing was
        // accepted before.
        let is_accepted = fields.get(9).is_none_or(|inode| *inode != "0");
        if is_accepted || state != ESTABLISHED {
            return None;
        }
        waiting += 1;
    }
    (waiting > 0).then_some(waiting)
}

/// Whether a process listens on this TCP port.
pub(super) fn is_listened_to(port: u16) -> bool {
    listeners().any(|(_, _, one)| one == port)
}

/// Inode, address and port of every listening TCP socket.
fn listeners() -> impl Iterator<Item = (u64, Option<IpAddr>, u16)> {
    let found: Vec<_> = tcp_tables().lines().filter_map(listener).collect();
    found.into_iter()
}

/// All TCP sockets, one per line, between headings that are not sockets.
fn tcp_tables() -> String {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    tables.into_iter().flatten().collect()
}

/// The port of `address:port`, in hexadecimal.
fn port_in(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit(':').next()?, 16).ok()
}

/// Parses `number: address:port remote:port state … inode …`, with ports in hexadecimal.
fn listener(line: &str) -> Option<(u64, Option<IpAddr>, u16)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?;
    let port = port_in(local)?;
    let inode = fields.get(9)?.parse().ok()?;
    (*fields.get(3)? == LISTEN).then_some((inode, address_in(local), port))
}

/// Parses the address of `address:port`: words of 32 bits in hexadecimal, each in the machine's
/// byte order.
fn address_in(local: &str) -> Option<IpAddr> {
    let (digits, _) = local.rsplit_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if digits.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    Some(IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
}

/// Whether this process waits for connections on this socket, as far as that is visible: a thread
/// is in `accept(2)`, or the socket is in an `epoll(7)` set.
pub(super) fn awaits_connections(pid: Pid, socket: u64) -> bool {
    let link = format!("socket:[{socket}]");
    let descriptors =
        || descriptors_of(pid).filter_map(|one| Some((fs::read_link(&one).ok()?, one)));
    let is_in_epoll = descriptors()
        .filter(|(target, _)| target.as_os_str() == "anon_inode:[eventpoll]")
        .filter_map(|(_, path)| {
            let info = path.parent()?.with_file_name("fdinfo").join(path.file_name()?);
            fs::read_to_string(info).ok()
        })
        .any(|set| has_in_epoll(&set, socket));
    let own: Vec<u64> = descriptors()
        .filter(|(target, _)| target.as_os_str() == link.as_str())
        .filter_map(|(_, path)| path.file_name()?.to_str()?.parse().ok())
        .collect();
    is_in_epoll
        || threads(pid).any(|thread| {
            let call = fs::read_to_string(thread.join("syscall")).unwrap_or_default();
            accepts_on(&call).is_some_and(|number| own.contains(&number))
        })
}

/// Parses `tfd: NUMBER … ino:INODE sdev:DEVICE` of `/proc/PID/fdinfo`, with the inode in
/// hexadecimal.
fn has_in_epoll(set: &str, socket: u64) -> bool {
    let inode = |word: &str| u64::from_str_radix(word.strip_prefix("ino:")?, 16).ok();
    set.lines()
        .filter(|line| line.starts_with("tfd:"))
        .any(|line| line.split_whitespace().filter_map(inode).any(|one| one == socket))
}

/// The system calls that accept a connection.
#[cfg(not(target_arch = "x86"))]
const ACCEPT: [libc::c_long; 2] = [libc::SYS_accept, libc::SYS_accept4];
#[cfg(target_arch = "x86")]
const ACCEPT: [libc::c_long; 1] = [libc::SYS_accept4];

/// The descriptor on which a thread is in `accept(2)`, by `NUMBER ARGUMENT …` of
/// `/proc/PID/task/TID/syscall`.
fn accepts_on(call: &str) -> Option<u64> {
    let mut words = call.split_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let argument = words.next().filter(|_| ACCEPT.contains(&number))?;
    u64::from_str_radix(argument.strip_prefix("0x")?, 16).ok()
}

/// Whether a process ignores this signal.
pub(crate) fn ignores(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

/// The time since a process was started.
pub(super) fn age_of(pid: Pid) -> Option<Duration> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let start = start_of(pid)? * 1000 / u64::try_from(ticks).ok()?;
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    now.checked_sub(Duration::from_millis(start))
}

/// The user that a process belongs to.
pub(super) fn user_of(pid: Pid) -> Option<Uid> {
    let meta = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(Uid::from_raw(meta.uid()))
}

/// The working directory of a process.
pub(super) fn directory_of(pid: Pid) -> Option<PathBuf> {
    let of_threads =
        || other_threads(pid).find_map(|thread| fs::read_link(thread.join("cwd")).ok());
    fs::read_link(format!("/proc/{pid}/cwd")).ok().or_else(of_threads)
}

/// Whether this process, or one of its descendants, has written to files since its start; `None` if
/// the kernel does not count that. Pipes, sockets and terminals do not count. On a file system in
/// memory, only a process that has written nothing at all is known to have written no file.
pub(crate) fn has_written_files(pid: i32, file: &Path) -> Option<bool> {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    let is_in_memory = statfs(file).map_or(true, |system| system.filesystem_type() == TMPFS_MAGIC);
    let counter = if is_in_memory { "wchar: " } else { "write_bytes: " };
    let mut ahead = vec![pid];
    let mut seen = 0;
    while let Some(pid) = ahead.pop() {
        let io = match fs::read_to_string(format!("/proc/{pid}/io")) {
            Ok(io) => io,
            // A child that has just exited.
            Err(_) if seen > 0 => continue,
            Err(_) => return None,
        };
        let bytes = io.lines().find_map(|line| line.strip_prefix(counter))?;
        if bytes.trim() != "0" {
            return (!is_in_memory).then_some(true);
        }
        seen += 1;
        for thread in threads(Pid::from_raw(pid)).filter(|_| seen < MAX_EXAMINED) {
            let children = fs::read_to_string(thread.join("children"));
            let children = children.unwrap_or_default();
            ahead.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    Some(false)
}

/// Maximum number of processes that are examined.
const MAX_EXAMINED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_no_living_member_and_a_name_may_hold_parentheses() {
        let line = |name: &str, state: &str| {
            format!("9 ({name}) {state} 1 7 6 0 -1 1 2 3 4 5 6 7 8 9 10 11 1 13 4711 99")
        };
        let pid = Pid::from_raw(9);
        let found = read_stat(pid, line("a) b (c", "S").as_bytes()).unwrap();
        assert_eq!((found.parent, found.group), (Pid::from_raw(1), Pid::from_raw(7)));
        assert_eq!((found.session, found.start), (Pid::from_raw(6), 4711));
        assert!(!found.is_zombie);
        assert!(read_stat(pid, line("app", "Z").as_bytes()).unwrap().is_zombie);
        let with_threads = line("app", "Z").replace(" 11 1 13 ", " 11 2 13 ");
        assert!(!read_stat(pid, with_threads.as_bytes()).unwrap().is_zombie);
        assert!(read_stat(pid, b"").is_none());
    }

    #[test]
    fn a_signal_for_a_process_that_had_the_same_pid_reaches_nobody() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let now = member(Pid::from_raw(child.id().try_into().unwrap())).unwrap();
        let earlier = Member { start: now.start - 1, ..now };
        assert_eq!(signal(&earlier, Signal::SIGKILL), Err(Errno::ESRCH));
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(signal(&now, Signal::SIGKILL), Ok(()));
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_that_is_waited_for_is_found_with_its_holder() {
        let locks = "1: FLOCK  ADVISORY  WRITE 100 08:01:11 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 200 08:01:11 0 EOF\n\
                     2: POSIX  ADVISORY  READ 300 08:01:22 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 08:01:33 0 EOF\n\
                     3: -> FLOCK  ADVISORY  READ  400 08:01:33 0 EOF\n";
        let (waiter, holder) = (Pid::from_raw(200), Pid::from_raw(100));
        assert_eq!(awaited_locks(locks), [(waiter, holder, 11)]);
        assert_eq!(awaited_locks(""), []);
    }

    #[test]
    fn only_sockets_that_listen_are_found_in_the_table() {
        let line = |state: &str| {
            format!("0: 0100007F:0BB8 00000000:0000 {state} 0:0 00:0 0 1000 0 4711 1 0 100 0")
        };
        // Words are in the machine's byte order, here little-endian.
        if cfg!(target_endian = "little") {
            let address = "127.0.0.1".parse().ok();
            assert_eq!(listener(&line("0A")), Some((4711, address, 3000)));
            let six = address_in("0000000000000000FFFF00000100007F:1F90").unwrap();
            assert_eq!(six.to_string(), "::ffff:127.0.0.1");
        }
        assert_eq!(listener(&line("01")), None);
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn a_socket_is_awaited_by_accept_or_in_a_set_of_epoll() {
        let set = "pos:\t0\nflags:\t02\n\
                   tfd:        5 events:       19 data:                5  pos:0 ino:1267 sdev:9\n";
        assert!(has_in_epoll(set, 0x1267));
        assert!(!has_in_epoll(set, 1267));
        let accept = ACCEPT[0];
        assert_eq!(accepts_on(&format!("{accept} 0x3 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f")), Some(3));
        assert_eq!(accepts_on("0 0x3 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f"), None);
        assert_eq!(accepts_on("running"), None);
    }

    #[test]
    fn this_process_is_found_among_all() {
        let me = getpid();
        let found = everybody().into_iter().find(|one| one.pid == me).unwrap();
        assert_eq!(Some(found.start), start_of(me));
        assert_eq!(found.parent, getppid());
    }
}
