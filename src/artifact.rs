//! Copies of the last good artifacts, kept for a rollback.
//!
//! An artifact is good when the app that was started from it was ready and has run for a while. By
//! then the next build may have replaced the file. So the file is opened when the app starts and
//! copied when it has proven good, unless it was overwritten in between.
//!
//! Invariant: a copy is never a hard link to the file that builds write.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use nix::fcntl::Flock;

use crate::config::KEPT;
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::own_dir::{self, Identity};

/// Maximum number of copies.
const MAX_KEPT: usize = 3;
/// Maximum number of changed files remembered for each copy.
const MAX_SAVED: usize = 1000;
/// First bytes of a program for an interpreter.
const SCRIPT: [u8; 2] = *b"#!";

/// Whether the artifact with this number was copied; otherwise the reason.
#[derive(Debug)]
pub(crate) struct Copied(pub(crate) u32, pub(crate) Result<(), String>);

/// The kept artifacts, and those that may still prove good. Deletes the copies when dropped.
pub(crate) struct Artifacts {
    /// Directory of the copies; it belongs to this hotrun alone.
    directory: PathBuf,
    /// That directory, locked. `None` before it is made, and where the file system has no locks.
    held: Option<Flock<File>>,
    /// Parent directories that were created for it, the innermost first.
    made: Vec<PathBuf>,
    /// In the order in which they were built.
    kept: Vec<Kept>,
    /// Artifacts of started apps that may still prove good.
    candidates: Vec<Candidate>,
    /// Why the artifact that was started last cannot be kept, if it cannot.
    unfit: Option<String>,
    /// The running apps and the numbers of their artifacts, in the order of their starts.
    running: Vec<(Proc, u32)>,
    /// The number of the artifact that the app runs from, or ran from last.
    current: u32,
    newest: u32,
    /// The artifact that was rolled back to.
    chosen: Option<u32>,
    /// The files that builds of this hotrun, or this hotrun itself, are known to have written beside
    /// the copies, as they were then.
    written: HashMap<PathBuf, Identity>,
    /// What [`Artifacts::take_change`] has returned last.
    told: bool,
    inbox: Inbox<Copied>,
}

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    number: u32,
    identity: Identity,
    /// Where the build wrote it; the app is started by this name.
    pub original: PathBuf,
    /// The path of the copy.
    pub copy: PathBuf,
    /// The generation that proved it good.
    pub generation: u32,
    /// The newest update that it reflects.
    pub update: u64,
    pub built: SystemTime,
    /// Files that were saved since it was built.
    pub saved_since: Vec<PathBuf>,
}

struct Candidate {
    proc: Proc,
    file: File,
    /// The state of `file` when it was opened.
    held: Identity,
    is_being_copied: bool,
    kept: Kept,
}

impl Artifacts {
    /// `owner` distinguishes this hotrun from all others.
    pub(crate) fn new(tmp_dir: &Path, owner: &str, inbox: Inbox<Copied>) -> Self {
        Self {
            directory: tmp_dir.join(KEPT).join(owner),
            held: None,
            made: Vec::new(),
            kept: Vec::new(),
            candidates: Vec::new(),
            unfit: None,
            running: Vec::new(),
            current: 0,
            newest: 0,
            chosen: None,
            written: HashMap::new(),
            told: false,
            inbox,
        }
    }

    /// Creates the directory, which shows other hotruns that `tmp_dir` is in use.
    pub(crate) fn claim(&mut self) -> io::Result<()> {
        let made = make_directories(&self.directory.join("0").join("program"))?;
        self.made.extend(made);
        self.hold();
        Ok(())
    }

    /// A build, or hotrun itself, has written this file.
    pub(crate) fn was_written(&mut self, path: PathBuf, meta: &fs::Metadata) {
        self.written.insert(path, Identity::of(meta));
    }

    /// Whether a file is as a build, or hotrun itself, has written it.
    pub(crate) fn is_written(&self, path: &Path, meta: &fs::Metadata) -> bool {
        self.written.get(path) == Some(&Identity::of(meta))
    }

    /// Locks the directory, unless this has been done: a hotrun that sees the project from another
    /// container does not see this process.
    fn hold(&mut self) {
        if self.held.as_ref().is_none_or(|held| !own_dir::is_same_file(held, &self.directory)) {
            let held = File::open(&self.directory);
            self.held = held.and_then(|file| own_dir::hold(file, &self.directory)).ok();
        }
    }

    /// Returns true if another hotrun uses `tmp_dir`.
    pub(crate) fn has_neighbours(&self, is_alive: impl Fn(&str) -> bool) -> bool {
        self.owners().any(|entry| {
            let name = entry.file_name();
            Some(name.as_os_str()) != self.directory.file_name()
                && (name.to_str().is_some_and(&is_alive) || own_dir::is_held(&entry.path()))
        })
    }

    /// Returns the directories of all hotruns that keep artifacts here, named after their owners.
    fn owners(&self) -> impl Iterator<Item = fs::DirEntry> {
        let all = self.directory.parent().filter(|all| !all.is_symlink());
        let entries = all.and_then(|all| fs::read_dir(all).ok());
        entries.into_iter().flatten().flatten()
    }

    /// Deletes what killed hotruns have left.
    pub(crate) fn sweep(&self, is_alive: impl Fn(&str) -> bool) {
        for entry in self.owners() {
            let is_left = entry.file_name().to_str().is_some_and(|owner| !is_alive(owner));
            if is_left && !own_dir::is_held(&entry.path()) {
                // Directories that hotrun did not create are left alone.
                let _ = own_dir::delete(&entry.path());
            }
        }
    }

    /// Records that an app is about to be started from this file. Returns true if the file has
    /// proven good before.
    pub(crate) fn started(
        &mut self,
        proc: Proc,
        (generation, update): (u32, u64),
        file: Result<&Path, String>,
    ) -> bool {
        self.unfit = None;
        self.chosen = None;
        let opened = file.and_then(|path| {
            let opened = open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            opened.map(|opened| (path, opened)).ok_or_else(|| {
                format!(
                    "{} is a script, and hotrun keeps only self-contained programs",
                    path.display()
                )
            })
        });
        let (path, (file, meta)) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.unfit = Some(why);
                self.newest += 1;
                self.runs(proc, self.newest);
                return false;
            }
        };
        let identity = Identity::of(&meta);
        if let Some(known) = self.kept.iter_mut().find(|one| one.identity == identity) {
            known.update = update;
            let number = known.number;
            self.runs(proc, number);
            return true;
        }
        self.newest += 1;
        self.runs(proc, self.newest);
        let name = path.file_name().unwrap_or(OsStr::new("program"));
        let kept = Kept {
            number: self.newest,
            identity,
            original: path.to_owned(),
            copy: self.directory.join(self.newest.to_string()).join(name),
            generation,
            update,
            built: meta.modified().unwrap_or_else(|_| SystemTime::now()),
            saved_since: Vec::new(),
        };
        self.candidates.push(Candidate {
            proc,
            file,
            held: identity,
            is_being_copied: false,
            kept,
        });
        false
    }

    /// Records that the build of this update left this program unchanged. It may still have replaced or rewritten
    /// the file or, as the go command does, set its time.
    pub(crate) fn confirmed(&mut self, path: &Path, update: u64) {
        let Some(now) = path.metadata().ok().map(|meta| Identity::of(&meta)) else { return };
        let is_newest = |kept: &Kept| kept.number == self.newest && kept.original == path;
        for candidate in self.candidates.iter_mut().filter(|one| is_newest(&one.kept)) {
            (candidate.kept.identity, candidate.kept.update) = (now, update);
            if candidate.held.is_file(now) {
                candidate.held = now;
            }
        }
        for kept in self.kept.iter_mut().filter(|one| is_newest(one)) {
            (kept.identity, kept.update) = (now, update);
        }
    }

    /// Records that an app is about to be started from the artifact that was rolled back to.
    pub(crate) fn started_again(&mut self, proc: Proc) {
        self.runs(proc, self.current);
    }

    /// Records that an app has exited, or is being stopped. The current app is now the running one
    /// that was started before it.
    pub(crate) fn left(&mut self, proc: Proc) {
        self.candidates.retain(|one| one.proc != proc || one.is_being_copied);
        self.running.retain(|(one, _)| *one != proc);
        if let Some((_, number)) = self.running.last() {
            self.current = *number;
        }
    }

    fn runs(&mut self, proc: Proc, number: u32) {
        self.running.push((proc, number));
        self.current = number;
    }

    /// Keeps the artifact of an app that has proven good, and reports the result to the inbox.
    pub(crate) fn keep(&mut self, proc: Proc) {
        let Some(candidate) = self.candidates.iter_mut().find(|one| one.proc == proc) else {
            return;
        };
        if std::mem::replace(&mut candidate.is_being_copied, true) {
            return;
        }
        let made = match make_directories(&candidate.kept.copy) {
            Ok(made) => made,
            Err(error) => {
                let why = format!("{}: {error}", self.directory.display());
                self.inbox.send(Copied(candidate.kept.number, Err(why)));
                return;
            }
        };
        self.made.extend(made);
        let (held, kept) = (candidate.held, candidate.kept.clone());
        let Ok(file) = candidate.file.try_clone() else { return };
        let (inbox, directory) = (self.inbox.clone(), self.directory.clone());
        let number = kept.number;
        let copying = move || {
            let outcome = copy(&file, held, &kept).map_err(|error| {
                delete_copy(&directory, kept.number);
                format!("{}: {error}", kept.copy.display())
            });
            inbox.send(Copied(kept.number, outcome));
        };
        // No thread can be started if the user's process limit is reached.
        if let Err(error) = thread::Builder::new().name("copy".to_owned()).spawn(copying) {
            let why = format!("no thread can be started to copy it: {error}");
            self.inbox.send(Copied(number, Err(why)));
        }
    }

    /// Records that the copy is complete, or failed.
    pub(crate) fn copied(&mut self, number: u32, is_complete: bool) {
        let place = self.candidates.iter().position(|one| one.kept.number == number);
        let Some(candidate) = place.map(|place| self.candidates.remove(place)) else { return };
        if !is_complete {
            return;
        }
        self.kept.push(candidate.kept);
        self.kept.sort_by_key(|one| one.number);
        while self.kept.len() > MAX_KEPT {
            let oldest = self.kept.remove(0);
            delete_copy(&self.directory, oldest.number);
        }
    }

    /// Records saved files that are being built now.
    pub(crate) fn saved(&mut self, paths: &[PathBuf]) {
        let candidates = self.candidates.iter_mut().map(|one| &mut one.kept);
        for kept in self.kept.iter_mut().chain(candidates) {
            for path in paths {
                if kept.saved_since.len() < MAX_SAVED && !kept.saved_since.contains(path) {
                    kept.saved_since.push(path.clone());
                }
            }
        }
    }

    /// Whether there is an artifact to roll back to, if that has changed since the last call.
    pub(crate) fn take_change(&mut self) -> Option<bool> {
        let has_earlier = self.has_earlier();
        (std::mem::replace(&mut self.told, has_earlier) != has_earlier).then_some(has_earlier)
    }

    /// Returns true if there is an older good artifact than the one that the app runs from.
    fn has_earlier(&self) -> bool {
        self.earlier().is_some()
    }

    /// Makes the last good artifact before the running one the [`chosen`](Self::chosen) one.
    pub(crate) fn go_back(&mut self) {
        if let Some(number) = self.earlier().map(|one| one.number) {
            self.current = number;
            self.chosen = Some(number);
        }
    }

    /// Returns the artifact that was rolled back to.
    pub(crate) fn chosen(&self) -> Option<&Kept> {
        self.kept.iter().find(|one| Some(one.number) == self.chosen)
    }

    /// Returns why no rollback is possible, for the user.
    pub(crate) fn why_none(&self) -> String {
        let is_copying = |one: &Candidate| one.is_being_copied && one.kept.number < self.current;
        match &self.unfit {
            Some(why) => why.clone(),
            None if self.candidates.iter().any(is_copying) => {
                "the last good artifact is still being copied".to_owned()
            }
            None => "no earlier build was ready and ran for 2 s".to_owned(),
        }
    }

    fn earlier(&self) -> Option<&Kept> {
        // If nothing is running, the one that ran last will do, unless it was itself rolled back
        // to.
        let may_be_itself = self.running.is_empty() && self.chosen != Some(self.current);
        let is_earlier = |one: &&Kept| {
            let is_before = one.number < self.current;
            (is_before || (may_be_itself && one.number == self.current)) && one.copy.exists()
        };
        self.kept.iter().rev().find(is_earlier).filter(|_| self.unfit.is_none())
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        let _ = own_dir::delete(&self.directory);
        // The hotrun that created it may have been killed.
        if let Some(all) = self.directory.parent() {
            let _ = fs::remove_dir(all);
        }
        for directory in &self.made {
            // Fails if another hotrun uses it, since it is not empty then.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Opens the file; returns `None` for a script.
fn open(path: &Path) -> io::Result<Option<(File, fs::Metadata)>> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut begin = [0; SCRIPT.len()];
    let is_script = file.read_exact(&mut begin).is_ok() && begin == SCRIPT;
    Ok((!is_script).then_some((file, meta)))
}

/// Creates the directory of a copy, `tmp_dir/.hotrun/OWNER/NUMBER`, and its parents. Returns those
/// parents of the owner's directory that did not exist, the innermost first.
fn make_directories(copy: &Path) -> io::Result<Vec<PathBuf>> {
    let [number, owner, all] = [1, 2, 3].map(|level| copy.ancestors().nth(level));
    let (Some(number), Some(owner), Some(all)) = (number, owner, all) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let missing = all.ancestors().take_while(|one| !one.is_dir()).map(PathBuf::from).collect();
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true).create(all)?;
    if all.is_symlink() {
        let why = format!("{} is a symbolic link, behind which nothing is kept", all.display());
        return Err(io::Error::other(why));
    }
    match DirBuilder::new().mode(0o700).create(owner) {
        Ok(()) => own_dir::mark(owner)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    builder.create(number)?;
    Ok(missing)
}

/// Deletes the copy with this number. A program that runs from it continues: only the file's name
/// is deleted.
fn delete_copy(directory: &Path, number: u32) {
    // What cannot be deleted now is deleted when hotrun exits, with the rest.
    let _ = own_dir::delete_in(directory, &number.to_string());
}

/// Copies the file, sharing blocks where the file system can.
fn copy(file: &File, held: Identity, kept: &Kept) -> io::Result<()> {
    let mode = file.metadata()?.mode() & 0o777;
    let mut options = fs::OpenOptions::new();
    let mut target = options.write(true).create_new(true).mode(mode).open(&kept.copy)?;
    let mut source = file;
    io::Seek::seek(&mut source, io::SeekFrom::Start(0))?;
    io::copy(&mut source, &mut target)?;
    if Identity::of(&file.metadata()?) == held {
        return Ok(());
    }
    Err(io::Error::other("the program was written over while it ran"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    struct Project {
        place: tempfile::TempDir,
        artifacts: Artifacts,
        inbox: UnboundedReceiver<Copied>,
        procs: u32,
    }

    impl Project {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let (sender, inbox) = unbounded_channel();
            let sender = Inbox::new(&sender, |copied: Copied| copied);
            let artifacts = Artifacts::new(&place.path().join("tmp"), "1.2", sender);
            Self { place, artifacts, inbox, procs: 0 }
        }

        fn program(&self) -> PathBuf {
            self.place.path().join("app")
        }

        /// Builds this program, and starts an app from it.
        fn start(&mut self, text: &str) -> (Proc, bool) {
            let _ = fs::remove_file(self.program());
            fs::write(self.program(), text).unwrap();
            fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755)).unwrap();
            self.procs += 1;
            let proc = Proc(self.procs);
            let is_good = self.artifacts.started(proc, (self.procs, 1), Ok(&self.program()));
            (proc, is_good)
        }

        async fn prove(&mut self, proc: Proc) -> Result<(), String> {
            self.artifacts.keep(proc);
            let Some(Copied(number, outcome)) = self.inbox.recv().await else {
                panic!("nothing is told");
            };
            self.artifacts.copied(number, outcome.is_ok());
            outcome
        }

        fn chosen(&self) -> String {
            let chosen = self.artifacts.chosen().unwrap();
            fs::read_to_string(&chosen.copy).unwrap()
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_three_good_ones_are_kept_and_gone_back_to_one_by_one() {
        let mut project = Project::new();
        for text in ["one", "two", "three", "four"] {
            let (proc, _) = project.start(text);
            project.prove(proc).await.unwrap();
        }
        project.artifacts.saved(&["a".into()]);
        project.start("five");
        for expected in ["four", "three", "two"] {
            assert!(project.artifacts.has_earlier());
            project.artifacts.go_back();
            assert_eq!(project.chosen(), expected);
        }
        assert!(!project.artifacts.has_earlier());
        let chosen = project.artifacts.chosen().unwrap().clone();
        assert_eq!(chosen.saved_since, [PathBuf::from("a")]);
        assert_eq!(chosen.original, project.program());
        assert_eq!(chosen.copy.file_name(), project.program().file_name());
        assert_eq!(fs::metadata(&chosen.copy).unwrap().mode() & 0o777, 0o755);
        drop(project.artifacts);
        assert!(!project.place.path().join("tmp").exists(), "nothing is left");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_build_has_replaced_is_kept_and_what_it_has_written_over_is_not() {
        let mut project = Project::new();
        let (proc, _) = project.start("replaced");
        fs::remove_file(project.program()).unwrap();
        fs::write(project.program(), "new").unwrap();
        project.prove(proc).await.unwrap();
        project.start("bad");
        project.artifacts.go_back();
        assert_eq!(project.chosen(), "replaced");

        let (proc, _) = project.start("written over");
        fs::write(project.program(), "something else").unwrap();
        let why = project.prove(proc).await.unwrap_err();
        assert!(why.ends_with("the program was written over while it ran"), "{why}");
        project.start("bad again");
        project.artifacts.go_back();
        assert_eq!(project.chosen(), "replaced");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_build_has_written_again_as_it_was_is_kept_once() {
        for in_place in [true, false] {
            let mut project = Project::new();
            let (proc, _) = project.start("program");
            if !in_place {
                fs::remove_file(project.program()).unwrap();
            }
            fs::write(project.program(), "program").unwrap();
            let later = SystemTime::now() + std::time::Duration::from_secs(1);
            let times = fs::FileTimes::new().set_modified(later);
            File::open(project.program()).unwrap().set_times(times).unwrap();
            project.artifacts.confirmed(&project.program(), 2);
            project.prove(proc).await.unwrap();
            let file = project.program();
            assert!(project.artifacts.started(Proc(77), (77, 1), Ok(&file)), "known: {in_place}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_script_is_not_kept_and_it_is_told_why() {
        let mut project = Project::new();
        project.start("#!/bin/sh\n");
        assert!(!project.artifacts.has_earlier());
        assert!(project.artifacts.why_none().contains("is a script"));
        let (proc, _) = project.start("program");
        assert!(project.artifacts.why_none().contains("ran for 2 s"));
        project.prove(proc).await.unwrap();
        let file = Err("by a shell".to_owned());
        assert!(!project.artifacts.started(Proc(9), (9, 1), file));
        assert!(!project.artifacts.has_earlier());
        assert_eq!(project.artifacts.why_none(), "by a shell");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn in_a_handover_that_failed_the_one_before_is_the_one_before_the_old() {
        let mut project = Project::new();
        for text in ["one", "two"] {
            let (proc, _) = project.start(text);
            project.prove(proc).await.unwrap();
        }
        let (new, _) = project.start("three");
        project.artifacts.left(new);
        project.artifacts.go_back();
        assert_eq!(project.chosen(), "one");
        // The old app's artifact may still prove good, whatever was started beside it.
        let mut project = Project::new();
        let (old_again, _) = project.start("old");
        let (new, _) = project.start("new");
        project.artifacts.left(new);
        project.prove(old_again).await.unwrap();
        project.start("newer");
        project.artifacts.go_back();
        assert_eq!(project.chosen(), "old");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn where_nothing_runs_the_one_that_ran_last_is_gone_back_to() {
        let mut project = Project::new();
        for text in ["one", "two"] {
            let (proc, _) = project.start(text);
            project.prove(proc).await.unwrap();
            project.artifacts.left(proc);
        }
        for (number, expected) in [(3, "two"), (4, "one")] {
            project.artifacts.go_back();
            assert_eq!(project.chosen(), expected);
            project.artifacts.started_again(Proc(number));
            project.artifacts.left(Proc(number));
        }
        assert!(!project.artifacts.has_earlier());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_copy_that_somebody_has_deleted_is_none() {
        let mut project = Project::new();
        let (proc, _) = project.start("one");
        project.prove(proc).await.unwrap();
        project.start("two");
        assert!(project.artifacts.has_earlier());
        fs::remove_dir_all(project.place.path().join("tmp")).unwrap();
        assert!(!project.artifacts.has_earlier());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_has_proven_good_is_known_again() {
        let mut project = Project::new();
        let (proc, is_good) = project.start("one");
        assert!(!is_good);
        project.prove(proc).await.unwrap();
        assert!(project.artifacts.started(Proc(7), (7, 1), Ok(&project.program())));
        assert!(!project.artifacts.has_earlier(), "it is no older one of itself");
    }
}
