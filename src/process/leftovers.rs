//! What a hotrun leaves behind that was killed together with its guardians, and how the
//! next one in the same project finds it.
//!
//! While it runs, a hotrun keeps a small file that names its project, beside others of its own
//! (sockets, the ports that the program has had). The next one there ends what is marked as that
//! one's, and may not stay; never anything else.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpid, getuid};
use tokio::time::{Instant, sleep};

use super::guardians::is_guardians_name;
use super::{Member, TREE, part_spared, platform};
use crate::config::Spare;
use crate::notice::Problem;
use crate::{listen, own_dir};

/// Guardians whose hotrun has just died need a moment to end what they guard.
const GUARDIANS_WORK: Duration = Duration::from_secs(2);
/// What is found then has so long to obey SIGTERM.
const GRACE: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(10);
/// Another hotrun that asks whether a record is locked holds it up for a moment: the number of
/// attempts to lock one's own, and the pause between two.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

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
    if let Some(process) = running(owner) {
        // It may have ended in the meantime.
        let _ = platform::signal(&process, signal);
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

/// The file of this hotrun: it names the project, and is locked as long as this hotrun lives.
/// Dropped, it is deleted.
pub(super) struct Record {
    path: PathBuf,
    /// `None` where the file system has no locks.
    _lock: Option<Flock<File>>,
}

impl Record {
    /// `None` where no such file can be kept; then nothing is found later.
    pub(super) fn new(project: &Path) -> Option<Self> {
        let path = directory()?.join(owner());
        let warn = |error: &io::Error| tracing::warn!("{}: {error}", path.display());
        for _ in 0..LOCK_TRIES {
            let mut file = create(&path).inspect_err(warn).ok()?;
            let lock = file.try_clone().and_then(|file| own_dir::hold(file, &path));
            match &lock {
                // One that asked has locked it, or has deleted it before it was locked.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound) =>
                {
                    thread::sleep(LOCK_PAUSE);
                    continue;
                }
                Err(error) => warn(error),
                Ok(_) => {}
            }
            // On a full disk the file is empty, and names no project.
            let written =
                file.set_len(0).and_then(|()| file.write_all(project.as_os_str().as_bytes()));
            let _ = written.inspect_err(warn);
            return Some(Self { path, _lock: lock.ok() });
        }
        None
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// True for this user, and for root: who may give this hotrun orders, and speak for its program.
pub(crate) fn may_give_orders(user: u32) -> bool {
    user == getuid().as_raw() || user == 0
}

/// Ends what earlier hotruns in this project have left behind: the pids and command lines.
pub(crate) async fn sweep(project: &Path, spare: &Spare) -> Vec<(i32, String)> {
    platform::remove_abandoned();
    remove_files_of_the_dead();
    let mut ended = Vec::new();
    for (path, owner) in of_the_dead() {
        let Ok(theirs) = fs::read(&path) else { continue };
        if theirs == project.as_os_str().as_bytes() {
            until_guardians_have_ended(&owner).await;
            ended.extend(end_all_marked(&owner, spare).await);
        } else if platform::everybody().iter().any(|one| is_marked_as(one.pid, &owner)) {
            // That is for the next one in its project.
            continue;
        }
        let _ = fs::remove_file(&path);
    }
    ended
}

/// A process, and all that it descends from.
fn ancestors(pid: Pid) -> HashSet<Pid> {
    let mut all = HashSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|pid| all.insert(*pid)) {
        next = platform::parent_of(pid);
    }
    all
}

/// Ends everything with this mark but what may stay. (What has a group or a session of its own
/// bears the mark as well.)
async fn end_all_marked(owner: &str, spare: &Spare) -> Vec<(i32, String)> {
    let until = Instant::now() + GRACE;
    // A program may have opened the terminal in which this hotrun was started.
    let own = ancestors(getpid());
    let (mut asked, mut ended): (HashSet<(Pid, u64)>, Vec<_>) = Default::default();
    loop {
        let mut marked = platform::everybody();
        marked.retain(|one| {
            !one.is_zombie && !own.contains(&one.pid) && is_marked_as(one.pid, owner)
        });
        // Parents before their children.
        marked.sort_by_key(|one| one.start);
        let (left, _) = part_spared(marked, None, spare);
        // Who survives SIGKILL for so long is not ours to end.
        if left.is_empty() || Instant::now() > until + GUARDIANS_WORK {
            return ended;
        }
        for one in left {
            if asked.insert(one.identity()) {
                let command = platform::command_line(one.pid);
                if !is_guardians_name(&command) {
                    ended.push((one.pid.as_raw(), command));
                }
                for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                    let _ = platform::signal(&one, signal);
                }
            } else if Instant::now() > until {
                let _ = platform::signal(&one, Signal::SIGKILL);
            }
        }
        sleep(LOOK).await;
    }
}

/// Sockets that nobody reads from any more.
fn remove_files_of_the_dead() {
    for path in files() {
        if purpose_of(&path).is_some_and(|(_, owner)| is_dead(&path, owner)) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Waits for what a hotrun that was killed has started: its guardians end that.
pub(crate) async fn until_guardians_have_ended(owner: &str) {
    let until = Instant::now() + GUARDIANS_WORK;
    while Instant::now() < until {
        let mut guardians = platform::everybody();
        guardians.retain(|one| {
            is_guardians_name(&platform::command_line(one.pid)) && is_marked_as(one.pid, owner)
        });
        if guardians.is_empty() {
            return;
        }
        // One may have been stopped.
        for one in &guardians {
            let _ = platform::signal(one, Signal::SIGCONT);
        }
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

/// True if a hotrun of this mark runs. The pid may belong to another process by now; in another PID
/// namespace it means nothing at all, but there the hotrun has locked its record.
pub(crate) fn is_alive(owner: &str) -> bool {
    let is_record = owner.split_once('.').is_some_and(|(pid, start)| {
        [pid, start].iter().all(|number| number.parse::<u64>().is_ok())
    });
    running(owner).is_some()
        || is_record
            && places()
                .filter(|place| is_private(place))
                .any(|place| own_dir::is_held(&place.join(owner)))
}

fn running(owner: &str) -> Option<Member> {
    let (pid, start) = owner.split_once('.')?;
    let process = platform::member(Pid::from_raw(pid.parse().ok()?))?;
    (!process.is_zombie && Some(process.start) == start.parse().ok()).then_some(process)
}

/// Whether the hotrun that a file of this mark belongs to has ended. Where the file system has no
/// locks, one in another PID namespace is known by its control socket, which accepts connections.
fn is_dead(file: &Path, owner: &str) -> bool {
    let control = file.with_file_name(format!("control.{owner}"));
    !is_alive(owner) && !matches!(listen::connect(&control), Ok(()) | Err(Errno::EAGAIN))
}

/// The files of hotruns that do not run any more.
fn of_the_dead() -> Vec<(PathBuf, String)> {
    let of_the_dead = files().filter_map(|path| {
        let owner = path.file_name()?.to_str()?.to_owned();
        let is_record = owner.starts_with(|c: char| c.is_ascii_digit());
        (is_record && is_dead(&path, &owner)).then_some((path, owner))
    });
    of_the_dead.collect()
}

/// All of these files, of whatever hotrun of this user, wherever it has put them.
fn files() -> impl Iterator<Item = PathBuf> {
    let all = places().filter(|place| is_private(place));
    all.filter_map(|place| fs::read_dir(place).ok()).flatten().flatten().map(|one| one.path())
}

/// The address of a Unix socket is no longer than this, in bytes, and this much of it is for the
/// file's own name.
const MOST_OF_AN_ADDRESS: usize = 107;
const OWN_NAME: usize = 48;

/// The directory of these files, to which only this user has access.
fn directory() -> Option<PathBuf> {
    places().find(|place| {
        // It is there already, or there is no place for it; which is it, is seen now.
        let _ = DirBuilder::new().mode(0o700).create(place);
        is_private(place)
    })
}

/// The message for the user where there is no directory for these files: what does not work.
pub(crate) fn why_no_directory() -> Option<Problem> {
    if directory().is_some() {
        return None;
    }
    let tried = places().map(|place| place.display().to_string()).collect();
    Some(Problem::NoPrivateDirectory { tried })
}

/// Where it may be, the best first. What `su` or `sudo -E` has left in the variable may be
/// another user's; then the next one is taken.
fn places() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|directory| directory.is_absolute());
    let user = getuid();
    let of_session = PathBuf::from(format!("/run/user/{user}"));
    let mut places: Vec<PathBuf> =
        runtime.into_iter().chain([of_session]).map(|place| place.join("hotrun")).collect();
    let shared = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    places.extend(shared.map(|place| place.join(format!("hotrun-{user}"))));
    places.retain(|place| {
        place.is_absolute() && place.as_os_str().len() + OWN_NAME <= MOST_OF_AN_ADDRESS
    });
    let mut seen = HashSet::new();
    places.into_iter().filter(move |place| seen.insert(place.clone()))
}

/// True for a directory that belongs to this user and that other users cannot enter. If they can,
/// its mode is changed.
fn is_private(place: &Path) -> bool {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(directory) = nix::fcntl::open(place, flags, Mode::empty()) else { return false };
    let directory = File::from(directory);
    let Ok(meta) = directory.metadata() else { return false };
    if meta.uid() != getuid().as_raw() {
        return false;
    }
    let private = fs::Permissions::from_mode(0o700);
    if meta.mode() & 0o077 != 0 && directory.set_permissions(private).is_err() {
        return false;
    }
    // In a sticky directory only the owner of a file may rename it.
    let parent = place.parent().and_then(|parent| fs::metadata(parent).ok());
    parent.is_some_and(|meta| {
        let is_trusted = [0, getuid().as_raw()].contains(&meta.uid());
        is_trusted && (meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0)
    })
}
