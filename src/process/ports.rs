//! Who listens on a TCP port: looked up, and where that is wanted, ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getuid};
use tokio::time::{Instant, sleep};

use super::{TREE, leftovers, platform};
use crate::event::{Holder, Remedy, Whose};

/// Who is to free a port has so long to obey SIGTERM.
const GRACE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// What may be done about somebody who holds a port.
#[derive(Clone, Debug)]
pub struct Freeing {
    /// End it, if it is this project's.
    pub wanted: bool,
    /// Where the project is.
    pub project: PathBuf,
}

/// Somebody who listens on a TCP port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) pid: Pid,
    pub(super) port: u16,
    /// What tells the socket from all others of the system.
    pub(super) socket: u64,
}

/// The ports on which anybody below this process listens by a socket of their own, not one
/// of hotrun's that they have inherited.
pub(super) fn of_tree(root: Pid) -> BTreeSet<u16> {
    let members: Vec<Pid> = platform::descendants(root).iter().map(|one| one.pid).collect();
    let theirs = platform::listening(Some(&members), None);
    if theirs.is_empty() {
        return BTreeSet::new();
    }
    let ours = platform::listening(Some(&[getpid()]), None);
    let is_theirs = |one: &Listening| ours.iter().all(|our| our.socket != one.socket);
    theirs.into_iter().filter(is_theirs).map(|one| one.port).collect()
}

/// The same of all that a guardian guards, given by its first process.
pub(crate) fn of_app(pid: i32) -> BTreeSet<u16> {
    platform::parent_of(Pid::from_raw(pid)).map(of_tree).unwrap_or_default()
}

/// So many connections wait on this port for somebody to accept them, and nobody does, where
/// the system tells.
pub(crate) fn waiting_in_vain(port: u16) -> Option<usize> {
    platform::waiting_in_vain(port)
}

/// Somebody who belongs to this hotrun, but not hotrun itself, listens on this port.
pub(crate) fn is_ours(port: u16) -> bool {
    let me = leftovers::owner();
    let all = platform::listening(None, Some(port));
    all.iter().any(|one| one.pid != getpid() && leftovers::is_marked_as(one.pid, &me))
}

/// Sees who holds a port, and frees it if that is wanted and right. `None`: nobody does, or
/// only who belongs to this hotrun.
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
    let remedy = match (freeing.wanted, is_ours) {
        (true, true) if end(pid).await => Remedy::Ended,
        (true, false) => Remedy::NotOurs,
        (true, true) => Remedy::NotPossible,
        (false, true) => Remedy::Possible,
        (false, false) => Remedy::None,
    };
    Some(Holder { port, pid: pid.as_raw(), command, age, whose, remedy })
}

/// A process is this project's if it works in its directory.
fn is_below(pid: Pid, project: &Path) -> bool {
    let project = project.canonicalize().unwrap_or_else(|_| project.to_owned());
    platform::directory_of(pid).is_some_and(|directory| directory.starts_with(project))
}

async fn end(pid: Pid) -> bool {
    let Some(start) = platform::start_of(pid) else { return true };
    // The pid may be somebody else's as soon as this one has ended.
    let lives = || platform::start_of(pid) == Some(start);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if kill(pid, signal).is_err() {
            return !lives();
        }
        let until = Instant::now() + GRACE;
        while lives() && Instant::now() < until {
            sleep(LOOK).await;
        }
        if !lives() {
            return true;
        }
    }
    false
}
