//! One lock per project and configuration: a second hotrun reports the one that runs.
//!
//! The lock is on a small file beside hotrun's others. The kernel releases it when its holder dies,
//! however that happens; the file itself names the holder.

use std::cell::RefCell;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::config::{self, Options};
use crate::error::Error;
use crate::own_dir::is_same_file;
use crate::process;

const PURPOSE: &str = "lock";
/// Maximum wait for a lock that may soon be free. A holder writes the file just after taking the
/// lock, and deletes it just before releasing the lock. A holder that was just killed may have been
/// starting a process.
const MAX_WAIT: Duration = Duration::from_millis(200);
/// Interval at which the lock is retried.
const INTERVAL: Duration = Duration::from_millis(1);
/// Tables whose keys do not change which program is built and run. On the command line they do not
/// make another configuration.
const TABLES_ASIDE: [&str; 6] = ["watch", "ready", "log", "color", "screen", "misc"];

/// The hotrun that holds the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockHolder {
    /// Its mark: pid and start time. Empty if it could not write the file.
    pub owner: String,
    /// Its start, in seconds since 1970.
    since: i64,
    /// The address of its program.
    url: Option<String>,
    /// Whether it is shutting down.
    pub is_ending: bool,
}

impl LockHolder {
    /// Reads the file; returns an empty holder if it cannot be read.
    fn read(file: &mut File) -> Self {
        let mut text = Vec::new();
        let read = file.read_to_end(&mut text);
        read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Its pid, as text; empty if unknown.
    pub(crate) fn pid(&self) -> &str {
        self.owner.split('.').next().unwrap_or_default()
    }

    /// Returns the error for a second hotrun in this directory: exit code 7.
    pub(crate) fn error(&self, directory: &Path) -> Error {
        let mut reason = "already running".to_owned();
        if !self.owner.is_empty() {
            reason = format!("{reason}: pid {} since {}", self.pid(), since_when(self.since));
        }
        if let Some(url) = &self.url {
            reason = format!("{reason}, {url}");
        }
        Error::already_running(directory.display(), reason).remedy(
            "hotrun --takeover stops it and takes its place;\n\
             with another configuration (-c FILE) or other arguments, both run",
        )
    }
}

/// The time of day, with the date unless it is today.
fn since_when(since: i64) -> String {
    let Ok(at) = Timestamp::from_second(since) else { return "?".to_owned() };
    let at = at.to_zoned_datetime(TimeZone::system());
    let is_today = at.date() == ZonedDateTime::now().date();
    at.strftime(if is_today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// The result of an attempt to take the lock.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The lock was taken. `None` if there is no directory for the file.
    Free(Option<Lock>),
    /// This hotrun holds the lock.
    Held(LockHolder),
}

/// The lock of this hotrun. Released, and its file deleted, when this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: Flock<File>,
    holder: RefCell<LockHolder>,
    /// The mark of the previous holder, if it was killed and so could not delete the file.
    pub killed: String,
}

impl Lock {
    /// Tries to take the lock for these options.
    pub(crate) fn take(options: &Options) -> Outcome {
        let Some(path) = process::shared_file(PURPOSE, identity(options)) else {
            return Outcome::Free(None);
        };
        let outcome = take_at(path.clone());
        if let Outcome::Free(Some(_)) = &outcome {
            let others = process::shared_files(PURPOSE);
            others.iter().filter(|one| **one != path).for_each(|one| delete_if_free(one));
        }
        outcome
    }

    /// Records the address of the program.
    pub(crate) fn serves_at(&self, url: Option<String>) {
        self.holder.borrow_mut().url = url;
        self.write();
    }

    /// Records that hotrun is shutting down.
    pub(crate) fn is_ending(&self) {
        self.holder.borrow_mut().is_ending = true;
        self.write();
    }

    fn write(&self) {
        let text = serde_json::to_vec(&*self.holder.borrow()).map_err(io::Error::from);
        let written = text.and_then(|text| {
            let mut file: &File = &self.file;
            file.rewind()?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)
        });
        // On a full disk, other hotruns cannot identify this one.
        if let Err(error) = written {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_same_file(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Deletes the file of a hotrun that was killed. Another hotrun that takes this lock at the same
/// moment tries again.
fn delete_if_free(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        && is_same_file(&file, path)
    {
        let _ = fs::remove_file(path);
    }
}

fn take_at(path: PathBuf) -> Outcome {
    let until = Instant::now() + MAX_WAIT;
    let mut holder = LockHolder::default();
    while Instant::now() < until {
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = match opened.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Ok(Ok(file)) => file,
            Ok(Err((mut file, Errno::EWOULDBLOCK))) => {
                holder = LockHolder::read(&mut file);
                if process::is_alive(&holder.owner) {
                    return Outcome::Held(holder);
                }
                sleep(INTERVAL);
                continue;
            }
            Ok(Err((_, error))) => return without_lock(&path, &error),
            Err(error) => return without_lock(&path, &error),
        };
        // The file may have been deleted by its previous holder, and replaced by another.
        if !is_same_file(&file, &path) {
            continue;
        }
        let killed = LockHolder::read(&mut file).owner;
        let since = Timestamp::now().as_second();
        let holder =
            RefCell::new(LockHolder { owner: process::owner(), since, ..LockHolder::default() });
        let lock = Lock { path, file, holder, killed };
        lock.write();
        return Outcome::Free(Some(lock));
    }
    // The holder may run in another container, and have no record that is visible here.
    Outcome::Held(holder)
}

/// Continues without a lock, on a file system that does not support locks.
fn without_lock(path: &Path, error: &dyn std::error::Error) -> Outcome {
    tracing::debug!("{}: {error}", path.display());
    Outcome::Free(None)
}

/// Returns the same value for two command lines that build and run the same program.
fn identity(options: &Options) -> u64 {
    let canonical = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let mut hasher = DefaultHasher::new();
    canonical(options.directory.clone()).hash(&mut hasher);
    // Ignore a configuration file that is found automatically: `hotrun init` may have created it
    // since another hotrun started.
    let named = options.config.as_ref().and_then(|_| config::found(options)).map(canonical);
    let is_found_anyway = |named: &PathBuf| {
        let found = config::found(&Options { config: None, ..options.clone() });
        found.map(canonical).as_ref() == Some(named)
    };
    named.filter(|named| !is_found_anyway(named)).hash(&mut hasher);
    options.selection.hash(&mut hasher);
    options.args.hash(&mut hasher);
    options.command.hash(&mut hasher);
    let is_aside =
        |key: &str| key.split_once('.').is_some_and(|(table, _)| TABLES_ASIDE.contains(&table));
    for key in options.keys.iter().filter(|(key, _)| !is_aside(key)) {
        key.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(outcome: Outcome) -> Lock {
        match outcome {
            Outcome::Free(Some(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn holder(outcome: Outcome) -> LockHolder {
        match outcome {
            Outcome::Held(holder) => holder,
            Outcome::Free(lock) => panic!("{lock:?}"),
        }
    }

    #[test]
    fn a_second_one_learns_which_hotrun_has_the_lock_until_that_ends() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let first = lock(take_at(path.clone()));
        assert_eq!(holder(take_at(path.clone())).owner, process::owner());
        first.serves_at(Some("http://127.0.0.1:5000".to_owned()));
        let error = holder(take_at(path.clone())).error(Path::new("/a"));
        assert_eq!(error.code(), 7);
        let text = error.to_string();
        let begin = format!("/a: already running: pid {} since ", std::process::id());
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.contains(", http://127.0.0.1:5000\n  help: hotrun --takeover"), "{text}");
        first.serves_at(None);
        first.is_ending();
        let ending = holder(take_at(path.clone()));
        assert_eq!((ending.is_ending, ending.url), (true, None));
        drop(first);
        assert!(!path.exists());
        drop(lock(take_at(path)));
    }

    #[test]
    fn what_a_killed_one_has_left_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        for left in ["", "{", r#"{"owner":"1.1","since":0,"url":null,"is_ending":false}"#] {
            fs::write(&path, left).unwrap();
            drop(lock(take_at(path.clone())));
        }
    }

    #[test]
    fn only_files_without_a_holder_are_deleted() {
        let place = tempfile::tempdir().unwrap();
        let (held, left) = (place.path().join("held"), place.path().join("left"));
        let _lock = lock(take_at(held.clone()));
        fs::write(&left, "").unwrap();
        delete_if_free(&held);
        delete_if_free(&left);
        assert_eq!((held.exists(), left.exists()), (true, false));
    }

    #[test]
    fn a_holder_that_could_not_write_the_file_holds_it_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let file = File::create(&path).unwrap();
        let _held = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        let error = holder(take_at(path)).error(Path::new("/a"));
        assert!(error.to_string().starts_with("/a: already running\n"), "{error}");
    }

    #[test]
    fn another_program_is_another_configuration_and_another_look_is_not() {
        let place = tempfile::tempdir().unwrap();
        let options = Options { directory: place.path().to_owned(), ..Options::default() };
        let same = identity(&options);
        let with_key = |key: &str| {
            let keys = vec![(key.to_owned(), "x".to_owned())];
            identity(&Options { keys, ..options.clone() })
        };
        for key in ["watch.backend", "log.time", "color.main", "ready.after"] {
            assert_eq!(with_key(key), same, "{key}");
        }
        for key in ["build.cmd", "run.port", "root", "tmp_dir", "listen"] {
            assert_ne!(with_key(key), same, "{key}");
        }
        let mut other = options.clone();
        other.selection.bin = Some("web".to_owned());
        assert_ne!(identity(&other), same);
        let args = vec!["worker".into()];
        assert_ne!(identity(&Options { args, ..options.clone() }), same);
        fs::write(place.path().join("other.toml"), "").unwrap();
        let config = Some("other.toml".into());
        assert_ne!(identity(&Options { config, ..options.clone() }), same);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path(), &link).unwrap();
        assert_eq!(identity(&Options { directory: link, ..options }), same);
    }
}
