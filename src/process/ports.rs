//! Finds the processes that listen on a TCP port, and stops them if that is requested.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getuid};
use tokio::time::{Instant, sleep};

use super::Served;
use super::{Member, TREE, leftovers, platform};
use crate::config::{Project, Service, Spare};
use crate::notice::{Holder, Remedy, Whose};

/// Grace period, after SIGTERM, of a process that holds a port.
const GRACE: Duration = Duration::from_secs(1);
/// Interval at which that process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What may be done about a process that holds a port.
#[derive(Clone, Debug)]
pub(crate) struct Freeing {
    /// Whether to stop it, if it belongs to this project.
    pub wanted: bool,
    /// The project's directory.
    pub project: PathBuf,
    /// Globs for the command lines of processes that may stay.
    pub spare: Rc<[String]>,
}

impl Freeing {
    /// Reads this from the configuration.
    pub(crate) fn of(project: &Project, service: &Service) -> Self {
        Self {
            wanted: project.free_port,
            project: project.directory.clone(),
            spare: service.recipe.spare.as_slice().into(),
        }
    }
}

/// A process that listens on a TCP port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) pid: Pid,
    /// `None` where the system does not report it.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// Identifies the socket in the whole system.
    pub(super) socket: u64,
}

/// The ports on which the processes of a tree listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Their own TCP sockets, by port, each with the address at which it is reached from this
    /// machine. Without sockets of debuggers.
    pub(crate) own: BTreeMap<u16, SocketAddr>,
    /// The port of an inherited socket of hotrun, on which one of them waits for connections.
    pub(crate) inherited: Option<u16>,
    /// The pids of all processes that have any of these sockets.
    pub(crate) holders: BTreeSet<i32>,
}

impl Found {
    /// All ports, and the processes that listen on them.
    pub(crate) fn served(&self) -> Served {
        let ports = self.own.keys().copied().chain(self.inherited).collect();
        Served { ports, holders: self.holders.clone() }
    }

    /// The ports of [`own`](Self::own).
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.own.keys().copied().collect()
    }
}

/// Finds the ports on which the processes below this one listen.
pub(super) fn of_tree(root: Pid) -> Found {
    let members: Vec<Pid> = platform::descendants(root).iter().map(|one| one.pid).collect();
    let all = platform::listening(Some(&members), None);
    if all.is_empty() {
        return Found::default();
    }
    let holders = all.iter().map(|one| one.pid.as_raw()).collect();
    let own_sockets = own_sockets();
    let is_hotruns = |one: &Listening| own_sockets.contains(&one.socket);
    let (inherited, theirs): (Vec<_>, Vec<_>) = all.into_iter().partition(is_hotruns);
    let is_debuggers = |one: &Listening| {
        let variables = ["NODE_OPTIONS", "JAVA_TOOL_OPTIONS"];
        let more = variables.into_iter().filter_map(|name| platform::variable(one.pid, name));
        let words = [platform::command_line(one.pid)].into_iter().chain(more);
        is_debuggers(&words.collect::<Vec<_>>().join(" "), one.port)
    };
    let theirs = theirs.into_iter().filter(|one| !is_debuggers(one));
    let own = theirs.map(|one| (one.port, reached_at(one.address, one.port))).collect();
    let is_awaited = |one: &&Listening| platform::awaits_connections(one.pid, one.socket);
    Found { own, inherited: inherited.iter().find(is_awaited).map(|one| one.port), holders }
}

/// The sockets on which hotrun itself listens, for programs to inherit.
fn own_sockets() -> BTreeSet<u64> {
    platform::listening(Some(&[getpid()]), None).iter().map(|one| one.socket).collect()
}

/// Whether a process serves the ports of another one that has exited.
pub(super) enum Successor {
    /// This process waits for connections there.
    Waits(Pid),
    /// A process has inherited hotrun's socket, but does not wait for connections at this moment.
    /// (A helper that has inherited it by chance never does.)
    Busy,
    None,
}

/// Finds the process below this one that listens on one of these ports, or waits for connections on
/// one of hotrun's sockets, and did not do so before. A helper with a port of its own is not a
/// successor.
pub(super) fn successor(root: Pid, served: &Served) -> Successor {
    let members = platform::descendants(root);
    let is_new = |one: &&Member| !one.is_zombie && !served.holders.contains(&one.pid.as_raw());
    let members: Vec<Pid> = members.iter().filter(is_new).map(|one| one.pid).collect();
    let mut all = platform::listening(Some(&members), None);
    all.retain(|one| served.ports.contains(&one.port));
    let own_sockets = own_sockets();
    let waits = all.iter().find(|one| {
        !own_sockets.contains(&one.socket) || platform::awaits_connections(one.pid, one.socket)
    });
    match waits {
        Some(one) => Successor::Waits(one.pid),
        None if all.is_empty() => Successor::None,
        None => Successor::Busy,
    }
}

/// Finds the ports on which the tree of a guardian listens, given the pid of its first process.
pub(crate) fn of_app(pid: i32) -> Found {
    platform::parent_of(Pid::from_raw(pid)).map(of_tree).unwrap_or_default()
}

/// Whether a process belongs to the tree of a guardian, given the pid of its first process.
pub(crate) fn is_of_app(pid: i32, process: i32) -> bool {
    let tree = platform::parent_of(Pid::from_raw(pid)).map(platform::descendants);
    tree.unwrap_or_default().iter().any(|one| one.pid.as_raw() == process)
}

/// The address at which a program on this machine reaches a socket that is bound to the given one.
fn reached_at(bound: Option<IpAddr>, port: u16) -> SocketAddr {
    let address = bound.map(|address| address.to_canonical());
    let address = address.filter(|address| !address.is_unspecified());
    SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port)
}

/// Whether a process with this command line was asked to listen on this port for a debugger: `node
/// --inspect[=PORT]`, Java's `jdwp`, Python's `debugpy`, Go's `dlv`.
fn is_debuggers(command: &str, port: u16) -> bool {
    const NODE: u16 = 9229;
    let mut words = command.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let is_node = word.starts_with("--inspect");
        let file = word.rsplit('/').next().unwrap_or(word);
        if !is_node && !word.contains("jdwp") && !matches!(file, "debugpy" | "dlv") {
            continue;
        }
        let digits = |text: &str| -> Option<u16> {
            text.rsplit(|one: char| !one.is_ascii_digit()).next()?.parse().ok()
        };
        let is_named = |text: &str| text.split(',').any(|part| digits(part) == Some(port));
        let has_port = is_named(word)
            || matches!(file, "debugpy" | "dlv") && words.clone().take(3).any(is_named);
        if has_port || is_node && digits(word).is_none() && port == NODE {
            return true;
        }
    }
    false
}

/// Returns how many connections are queued on this port, if no program accepts them. `None` where
/// the system does not report that.
pub(crate) fn waiting_in_vain(port: u16) -> Option<usize> {
    platform::waiting_in_vain(port)
}

/// Whether a process of this hotrun, other than hotrun itself, listens on this port.
pub(crate) fn is_ours(port: u16) -> bool {
    let me = leftovers::owner();
    let all = platform::listening(None, Some(port));
    all.iter().any(|one| one.pid != getpid() && leftovers::is_marked_as(one.pid, &me))
}

/// Finds the process that holds a port, and stops it if that is requested and allowed. Returns
/// `None` if the port is free, or held by a process of this hotrun.
pub(crate) async fn see_to(port: u16, freeing: &Freeing) -> Option<Holder> {
    if !platform::is_listened_to(port) {
        return None;
    }
    let me = leftovers::owner();
    let pid = platform::listening(None, Some(port)).first()?.pid;
    if pid == getpid() {
        return None;
    }
    let owner = platform::variable(pid, TREE);
    let owner = owner.as_deref().and_then(|mark| mark.rsplit_once('.')).map(|(owner, _)| owner);
    let whose = match owner {
        Some(owner) if owner == me => return None,
        Some(owner) if leftovers::is_alive(owner) => Whose::AnotherHotruns,
        Some(_) => Whose::DeadHotruns,
        None => Whose::Strangers,
    };
    let command = platform::command_line(pid);
    let age = platform::age_of(pid);
    let is_ours = platform::user_of(pid) == Some(getuid()) && is_below(pid, &freeing.project);
    let is_spared = Spare::new(&freeing.spare).is_ok_and(|spare| spare.has(&command));
    let remedy = match (freeing.wanted, is_ours) {
        _ if is_spared => Remedy::Spared,
        (true, true) if end(pid).await => Remedy::Ended,
        (true, false) => Remedy::NotOurs,
        (true, true) => Remedy::NotPossible,
        (false, true) => Remedy::Possible,
        (false, false) => Remedy::None,
    };
    Some(Holder { port, pid: pid.as_raw(), command, age, whose, remedy })
}

/// A process belongs to this project if its working directory is below the project's.
fn is_below(pid: Pid, project: &Path) -> bool {
    let project = project.canonicalize().unwrap_or_else(|_| project.to_owned());
    platform::directory_of(pid).is_some_and(|directory| directory.starts_with(project))
}

async fn end(pid: Pid) -> bool {
    let Some(process) = platform::member(pid) else { return true };
    // The pid may be reused as soon as this process has exited.
    let lives = || platform::start_of(pid) == Some(process.start);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if platform::signal(&process, signal).is_err() {
            return !lives();
        }
        let until = Instant::now() + GRACE;
        while lives() && Instant::now() < until {
            sleep(POLL_INTERVAL).await;
        }
        if !lives() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_debuggers_are_told_from_those_of_programs() {
        for (command, port, expected) in [
            ("node --inspect server.js", 9229, true),
            ("node --inspect server.js", 3000, false),
            ("node --inspect=127.0.0.1:9300 server.js", 9300, true),
            ("node --inspect-brk=9301 server.js", 9301, true),
            ("node --inspect=9300 server.js", 9229, false),
            ("node server.js 9229", 9229, false),
            ("java -agentlib:jdwp=transport=dt_socket,server=y,address=*:5005 -jar x", 5005, true),
            ("java -agentlib:jdwp=transport=dt_socket,address=5005,server=y -jar x", 5005, true),
            ("java -agentlib:jdwp=address=5005 -jar x --port 8080", 8080, false),
            ("python -m debugpy --listen 0.0.0.0:5678 app.py", 5678, true),
            ("python -m debugpy --listen 5678 app.py 8000", 8000, false),
            ("/go/bin/dlv exec --headless --listen=:2345 ./app", 2345, true),
            ("./app --port 2345", 2345, false),
        ] {
            assert_eq!(is_debuggers(command, port), expected, "{command} {port}");
        }
    }

    #[test]
    fn an_address_is_one_by_which_it_is_reached_here() {
        for (bound, reached) in [
            (Some("0.0.0.0"), "127.0.0.1:80"),
            (Some("::"), "127.0.0.1:80"),
            (Some("::ffff:127.0.0.2"), "127.0.0.2:80"),
            (Some("::1"), "[::1]:80"),
            (Some("10.1.2.3"), "10.1.2.3:80"),
            (None, "127.0.0.1:80"),
        ] {
            let bound = bound.map(|text| text.parse().unwrap());
            assert_eq!(reached_at(bound, 80).to_string(), reached, "{bound:?}");
        }
    }
}
