//! What a hotrun leaves behind that was killed together with its guardians, and how the
//! next one in the same project finds it.
//!
//! While it runs, a hotrun keeps a small file with the process groups of all that it has
//! started, beside others of its own (sockets, the ports that the program has had). The next
//! one ends what is marked as that one's, belongs to one of these groups, and may not stay;
//! never anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getuid};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::guardians::{BREATH, is_guardians_name};
use super::{Member, TREE, platform};
use crate::config::Spare;
use crate::event::Proc;

/// Guardians whose hotrun has just died need a moment to end what they guard.
const GUARDIANS_WORK: Duration = Duration::from_secs(2);
/// What is found then has so long to obey SIGTERM.
const GRACE: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(10);

/// How everything that this process starts is marked: its pid and its start.
pub(crate) fn owner() -> String {
    let me = getpid();
    format!("{me}.{}", platform::start_of(me).unwrap_or_default())
}

/// A file of this hotrun beside its record, for a purpose of this name. `None` where there is
/// no place for it.
pub(crate) fn own_file(purpose: &str) -> Option<PathBuf> {
    file_of(purpose, &owner())
}

/// The same of the hotrun with this mark.
pub(crate) fn file_of(purpose: &str, owner: &str) -> Option<PathBuf> {
    Some(directory()?.join(format!("{purpose}.{owner}")))
}

/// A file beside the records that belongs to no single hotrun, but to all that have this in
/// common.
pub(crate) fn shared_file(purpose: &str, common: u64) -> Option<PathBuf> {
    Some(directory()?.join(format!("{purpose}.{common:016x}")))
}

/// All files for such a purpose.
pub(crate) fn shared_files(purpose: &str) -> Vec<PathBuf> {
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let rest = name.and_then(|name| name.strip_prefix(purpose)?.strip_prefix('.'));
        rest.is_some_and(|rest| !rest.contains('.'))
    };
    files().filter(is_meant).collect()
}

/// Sends a signal to the hotrun with this mark.
pub(crate) fn signal_other(owner: &str, signal: Signal) {
    let pid = owner.split_once('.').and_then(|(pid, _)| pid.parse().ok());
    if let Some(pid) = pid.map(Pid::from_raw).filter(|_| is_alive(owner)) {
        // It may have ended in the meantime.
        let _ = kill(pid, signal);
    }
}

/// All files for a purpose, of whatever hotrun runs.
pub(crate) fn files_for(purpose: &str) -> Vec<PathBuf> {
    let is_meant = |path: &PathBuf| purpose_of(path).is_some_and(|(one, _)| one == purpose);
    files().filter(is_meant).collect()
}

/// What a file beside the records is for, and the owner's mark.
fn purpose_of(path: &Path) -> Option<(&str, &str)> {
    let (purpose, rest) = path.file_name()?.to_str()?.split_once('.')?;
    let is_word = !purpose.is_empty() && purpose.bytes().all(|byte| byte.is_ascii_lowercase());
    let end = rest.match_indices('.').nth(1).map_or(rest.len(), |(at, _)| at);
    (is_word && rest.contains('.')).then_some((purpose, &rest[..end]))
}

/// The file of this hotrun. Dropped, it is deleted.
pub(super) struct Record {
    path: PathBuf,
    project: PathBuf,
    groups: BTreeMap<Proc, Vec<Pid>>,
    text: watch::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
}

impl Record {
    /// `None` where no such file can be kept; then nothing is found later.
    pub(super) fn new(project: &Path) -> Option<Self> {
        let path = directory()?.join(owner());
        let (text, changed) = watch::channel(Vec::new());
        let writer = tokio::spawn(write(path.clone(), changed));
        let groups = BTreeMap::new();
        Some(Self { path, project: project.to_owned(), groups, text, writer })
    }

    pub(super) fn add(&mut self, proc: Proc, group: Pid) {
        self.groups.entry(proc).or_default().push(group);
        self.changed();
    }

    pub(super) fn remove(&mut self, proc: Proc) {
        if self.groups.remove(&proc).is_some() {
            self.changed();
        }
    }

    /// The groups, one a line, then the project, which may hold line breaks.
    fn changed(&self) {
        let groups = self.groups.values().flatten().map(|group| format!("{group}\n"));
        let mut text = groups.collect::<String>().into_bytes();
        text.push(b'\n');
        text.extend_from_slice(self.project.as_os_str().as_bytes());
        self.text.send_replace(text);
    }
}

/// Not at once: what is being started or replaced at this moment has it to itself.
async fn write(path: PathBuf, mut changed: watch::Receiver<Vec<u8>>) {
    while changed.changed().await.is_ok() {
        sleep(BREATH).await;
        let text = changed.borrow_and_update().clone();
        // A full disk is no reason not to run.
        let _ = fs::write(&path, text);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.writer.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends what earlier hotruns in this project have left behind: the pids and command lines.
pub(crate) async fn sweep(project: &Path, spare: &Spare) -> Vec<(i32, String)> {
    platform::remove_abandoned();
    remove_files_of_the_dead();
    let mut ended = Vec::new();
    for (path, owner) in of_the_dead() {
        let Some((groups, theirs)) = fs::read(&path).ok().as_deref().and_then(parse) else {
            continue;
        };
        if theirs != project {
            if !groups.iter().any(|group| nix::sys::signal::killpg(*group, None).is_ok()) {
                let _ = fs::remove_file(&path);
            }
            continue;
        }
        until_guardians_have_ended(&owner).await;
        let is_left = |one: &Member| {
            let in_group = groups.contains(&one.group) || groups.contains(&one.session);
            in_group && is_marked_as(one.pid, &owner)
        };
        let until = Instant::now() + GRACE;
        let mut asked: Vec<(Pid, u64)> = Vec::new();
        loop {
            let mut left = platform::everybody();
            left.retain(|one| {
                !one.is_zombie && is_left(one) && !spare.has(&platform::command_line(one.pid))
            });
            if left.is_empty() {
                break;
            }
            for one in left {
                if !asked.contains(&one.identity()) {
                    ended.push((one.pid.as_raw(), platform::command_line(one.pid)));
                    let _ = kill(one.pid, Signal::SIGTERM);
                    let _ = kill(one.pid, Signal::SIGCONT);
                    asked.push(one.identity());
                } else if Instant::now() > until {
                    let _ = kill(one.pid, Signal::SIGKILL);
                }
            }
            if Instant::now() > until + GUARDIANS_WORK {
                // Whoever survives that is not ours to end.
                break;
            }
            sleep(LOOK).await;
        }
        let _ = fs::remove_file(&path);
    }
    ended
}

/// Sockets that nobody reads from any more.
fn remove_files_of_the_dead() {
    for path in files() {
        if purpose_of(&path).is_some_and(|(_, owner)| !is_alive(owner)) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Waits for what a hotrun that was killed has started: its guardians end that.
pub(crate) async fn until_guardians_have_ended(owner: &str) {
    let until = Instant::now() + GUARDIANS_WORK;
    let is_one = |one: &Member| {
        is_guardians_name(&platform::command_line(one.pid)) && is_marked_as(one.pid, owner)
    };
    while Instant::now() < until && platform::everybody().iter().any(is_one) {
        sleep(LOOK).await;
    }
}

/// The mark is `OWNER.NUMBER`.
pub(super) fn is_marked_as(pid: Pid, owner: &str) -> bool {
    let mark = platform::variable(pid, TREE);
    mark.is_some_and(|mark| mark.rsplit_once('.').is_some_and(|(theirs, _)| theirs == owner))
}

/// The ports on which programs of this project have listened, now or under an earlier
/// hotrun.
pub(crate) fn known_ports(project: &Path) -> BTreeSet<u16> {
    let text = ports_file(project).and_then(|path| fs::read_to_string(path).ok());
    text.unwrap_or_default().split_whitespace().filter_map(|port| port.parse().ok()).collect()
}

/// Keeps them for the next.
pub(crate) fn remember_ports(project: &Path, ports: &BTreeSet<u16>) {
    if let Some(path) = ports_file(project) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        // A full disk is no reason not to run.
        let _ = fs::write(path, ports.join(" "));
    }
}

fn ports_file(project: &Path) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    project.hash(&mut hasher);
    shared_file("ports", hasher.finish())
}

/// True if a hotrun of this mark runs. The same pid may be somebody else by now.
pub(crate) fn is_alive(owner: &str) -> bool {
    let Some((pid, start)) = owner.split_once('.') else { return false };
    let (pid, start) = (pid.parse().ok().map(Pid::from_raw), start.parse().ok());
    start.is_some() && pid.and_then(platform::start_of) == start
}

/// The files of hotruns that do not run any more.
fn of_the_dead() -> Vec<(PathBuf, String)> {
    let of_the_dead = files().filter_map(|path| {
        let owner = path.file_name()?.to_str()?.to_owned();
        let is_record = owner.starts_with(|c: char| c.is_ascii_digit());
        (is_record && !is_alive(&owner)).then_some((path, owner))
    });
    of_the_dead.collect()
}

fn parse(record: &[u8]) -> Option<(Vec<Pid>, PathBuf)> {
    let end = if record.starts_with(b"\n") {
        0
    } else {
        record.windows(2).position(|two| two == b"\n\n")? + 1
    };
    let groups = String::from_utf8_lossy(&record[..end]);
    let groups = groups.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw);
    let project = std::ffi::OsStr::from_bytes(&record[end + 1..]);
    Some((groups.collect(), project.into()))
}

/// All of these files, of whatever hotrun.
fn files() -> impl Iterator<Item = PathBuf> {
    let entries = directory().and_then(|directory| fs::read_dir(directory).ok());
    entries.into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Where these files are: nobody but this user may write there.
fn directory() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    let path = match runtime {
        Some(runtime) => Path::new(&runtime).join("hotrun"),
        None => std::env::temp_dir().join(format!("hotrun-{}", getuid())),
    };
    // It is there already, or there is no place for it; which is it, is seen now.
    let _ = DirBuilder::new().mode(0o700).create(&path);
    let meta = fs::symlink_metadata(&path).ok()?;
    let is_ours = meta.is_dir() && meta.uid() == getuid().as_raw() && meta.mode() & 0o022 == 0;
    is_ours.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let some = (vec![Pid::from_raw(4), Pid::from_raw(17)], PathBuf::from("/a b\n\nc"));
        assert_eq!(parse(b"4\n17\n\n/a b\n\nc"), Some(some));
        assert_eq!(parse(b"\n/a"), Some((Vec::new(), "/a".into())));
        assert_eq!(parse(b"4\n"), None);
    }
}
