//! The last artifacts that were good, kept to go back to.
//!
//! An artifact has proven good when the app that was started from it was ready and has lived
//! for a while. By then the next build may have replaced the file; so it is opened when the
//! app starts, and copied when it has proven good, unless it was written over meanwhile.
//!
//! Invariant: a copy is never a link to the file that builds write.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use nix::fcntl::Flock;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::KEPT;
use crate::event::{Message, Proc};
use crate::own_dir::{self, Identity};

/// So many are kept.
const MOST: usize = 3;
/// The names of more changed files than this are not remembered.
const MOST_SAVED: usize = 1000;
/// A program begins with these if it is for an interpreter.
const SCRIPT: [u8; 2] = *b"#!";

/// Everything that was kept, and what may yet be. Dropped, it is deleted.
pub(crate) struct Artifacts {
    /// Where the copies are: a directory of this hotrun's own.
    directory: PathBuf,
    /// That directory, locked. `None` before it is made, and where the file system has no locks.
    held: Option<Flock<File>>,
    /// Directories that were made for that one, the innermost first.
    made: Vec<PathBuf>,
    /// In the order in which they were built.
    kept: Vec<Kept>,
    /// What apps were started from that may yet prove good.
    candidates: Vec<Candidate>,
    /// Why what was started last cannot be kept, if it cannot.
    unfit: Option<String>,
    /// Who runs, and from the artifact of which number; in the order of their starts.
    running: Vec<(Proc, u32)>,
    /// The number of the artifact that the app runs from, or else ran from last.
    current: u32,
    /// The newest number.
    newest: u32,
    /// The one that was gone back to.
    chosen: Option<u32>,
    /// The files that builds of this hotrun, or this hotrun itself, are known to have written beside
    /// the copies, as they were then.
    written: HashMap<PathBuf, Identity>,
    inbox: UnboundedSender<Message>,
}

/// A good artifact.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    number: u32,
    identity: Identity,
    /// Where it was, and as what it is started.
    pub original: PathBuf,
    /// Where it is.
    pub copy: PathBuf,
    /// The generation that proved it good.
    pub generation: u32,
    /// When it was built.
    pub built: SystemTime,
    /// What was saved since it was built.
    pub saved_since: Vec<PathBuf>,
}

struct Candidate {
    proc: Proc,
    file: File,
    /// What `file` held when it was opened.
    held: Identity,
    is_being_copied: bool,
    kept: Kept,
}

impl Artifacts {
    /// None are kept yet. `owner` tells this hotrun from all others.
    pub(crate) fn new(tmp_dir: &Path, owner: &str, inbox: UnboundedSender<Message>) -> Self {
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
            inbox,
        }
    }

    /// Makes the directory, by which other hotruns see that `tmp_dir` is in use.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn claim(&mut self) -> io::Result<()> {
        let made = make_directories(&self.directory.join("0").join("program"))?;
        self.made.extend(made);
        self.hold();
        Ok(())
    }

    /// A build, or hotrun itself, has written this file.
    pub fn was_written(&mut self, path: PathBuf, meta: &fs::Metadata) {
        self.written.insert(path, Identity::of(meta));
    }

    /// Whether a file is as a build, or hotrun itself, has written it.
    pub fn is_written(&self, path: &Path, meta: &fs::Metadata) -> bool {
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

    /// True if another hotrun uses `tmp_dir`.
    pub(crate) fn has_neighbours(&self, is_alive: impl Fn(&str) -> bool) -> bool {
        self.owners().any(|entry| {
            let name = entry.file_name();
            Some(name.as_os_str()) != self.directory.file_name()
                && (name.to_str().is_some_and(&is_alive) || own_dir::is_held(&entry.path()))
        })
    }

    /// The directories of all hotruns that keep artifacts beside this one, by their owners.
    fn owners(&self) -> impl Iterator<Item = fs::DirEntry> {
        let all = self.directory.parent().filter(|all| !all.is_symlink());
        let entries = all.and_then(|all| fs::read_dir(all).ok());
        entries.into_iter().flatten().flatten()
    }

    /// Deletes what hotruns have left that were killed.
    pub(crate) fn sweep(&self, is_alive: impl Fn(&str) -> bool) {
        for entry in self.owners() {
            let is_left = entry.file_name().to_str().is_some_and(|owner| !is_alive(owner));
            if is_left && !own_dir::is_held(&entry.path()) {
                // What hotrun has not made is left alone.
                let _ = own_dir::delete(&entry.path());
            }
        }
    }

    /// An app is about to be started from this file. True when that has proven good before.
    pub(crate) fn started(
        &mut self,
        proc: Proc,
        generation: u32,
        file: Result<&Path, String>,
    ) -> bool {
        self.unfit = None;
        self.chosen = None;
        let opened = file.and_then(|path| {
            let opened = open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            opened.map(|opened| (path, opened)).ok_or_else(|| {
                format!("{} is a script, and what it runs is not all in it", path.display())
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
        if let Some(known) = self.kept.iter().find(|one| one.identity == identity) {
            self.runs(proc, known.number);
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

    /// A build has left this program as it was. It may have replaced the file, written it again
    /// or, as the go command does, set its time.
    pub(crate) fn confirmed(&mut self, path: &Path) {
        let Some(now) = path.metadata().ok().map(|meta| Identity::of(&meta)) else { return };
        let is_newest = |kept: &Kept| kept.number == self.newest && kept.original == path;
        for candidate in self.candidates.iter_mut().filter(|one| is_newest(&one.kept)) {
            candidate.kept.identity = now;
            if candidate.held.is_file(now) {
                candidate.held = now;
            }
        }
        for kept in self.kept.iter_mut().filter(|one| is_newest(one)) {
            kept.identity = now;
        }
    }

    /// An app is about to be started from what was gone back to.
    pub(crate) fn started_again(&mut self, proc: Proc) {
        self.runs(proc, self.current);
    }

    /// An app has ended, or was asked to: who was started before it, and runs, is the app now.
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

    /// An app has proven good: what it was started from is kept. How that went is told to
    /// the inbox.
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
                // The inbox closes when hotrun ends.
                let _ = self.inbox.send(Message::Copied(candidate.kept.number, Err(why)));
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
            let _ = inbox.send(Message::Copied(kept.number, outcome));
        };
        // At a limit of the user's processes there is no thread for it.
        if let Err(error) = thread::Builder::new().name("copy".to_owned()).spawn(copying) {
            let why = format!("no thread can be started to copy it: {error}");
            let _ = self.inbox.send(Message::Copied(number, Err(why)));
        }
    }

    /// Its copy is complete, or will never be.
    pub(crate) fn copied(&mut self, number: u32, is_complete: bool) {
        let place = self.candidates.iter().position(|one| one.kept.number == number);
        let Some(candidate) = place.map(|place| self.candidates.remove(place)) else { return };
        if !is_complete {
            return;
        }
        self.kept.push(candidate.kept);
        self.kept.sort_by_key(|one| one.number);
        while self.kept.len() > MOST {
            let oldest = self.kept.remove(0);
            delete_copy(&self.directory, oldest.number);
        }
    }

    /// These were saved, and are built now.
    pub(crate) fn saved(&mut self, paths: &[PathBuf]) {
        let candidates = self.candidates.iter_mut().map(|one| &mut one.kept);
        for kept in self.kept.iter_mut().chain(candidates) {
            for path in paths {
                if kept.saved_since.len() < MOST_SAVED && !kept.saved_since.contains(path) {
                    kept.saved_since.push(path.clone());
                }
            }
        }
    }

    /// There is an older good artifact than the one that the app runs from.
    pub(crate) fn has_earlier(&self) -> bool {
        self.earlier().is_some()
    }

    /// From now on [`chosen`](Self::chosen) is the last good one before the one that the app runs
    /// from.
    pub(crate) fn go_back(&mut self) {
        if let Some(number) = self.earlier().map(|one| one.number) {
            self.current = number;
            self.chosen = Some(number);
        }
    }

    /// What was gone back to.
    pub(crate) fn chosen(&self) -> Option<&Kept> {
        self.kept.iter().find(|one| Some(one.number) == self.chosen)
    }

    /// Why there is nothing to go back to, for a person.
    pub(crate) fn why_none(&self) -> String {
        let is_copying = |one: &Candidate| one.is_being_copied && one.kept.number < self.current;
        match &self.unfit {
            Some(why) => why.clone(),
            None if self.candidates.iter().any(is_copying) => {
                "the last good artifact is still being copied".to_owned()
            }
            None => "no earlier artifact was ready, and ran for 2 s".to_owned(),
        }
    }

    fn earlier(&self) -> Option<&Kept> {
        // Where nothing runs, the one that ran last will do, unless it was gone back to itself.
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
        // The hotrun that made it may have been killed.
        if let Some(all) = self.directory.parent() {
            let _ = fs::remove_dir(all);
        }
        for directory in &self.made {
            // Others may be using it: then it is not empty.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The file and what is known of it; `None` for a script.
fn open(path: &Path) -> io::Result<Option<(File, fs::Metadata)>> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut begin = [0; SCRIPT.len()];
    let is_script = file.read_exact(&mut begin).is_ok() && begin == SCRIPT;
    Ok((!is_script).then_some((file, meta)))
}

/// Makes the directory of a copy, `tmp_dir/.hotrun/OWNER/NUMBER`, and those above it. Which of
/// those above the owner's were not there, the innermost first.
fn make_directories(copy: &Path) -> io::Result<Vec<PathBuf>> {
    let [number, owner, all] = [1, 2, 3].map(|level| copy.ancestors().nth(level));
    let (Some(number), Some(owner), Some(all)) = (number, owner, all) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let missing = all.ancestors().take_while(|one| !one.is_dir()).map(PathBuf::from).collect();
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true).create(all)?;
    if all.is_symlink() {
        let why = format!("{} is a link, behind which nothing is kept", all.display());
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

/// Deletes the copy with this number. A program that runs from it goes on: only its name is deleted.
fn delete_copy(directory: &Path, number: u32) {
    // What cannot be deleted now is deleted at the end, with the rest.
    let _ = own_dir::delete_in(directory, &number.to_string());
}

/// Copies it; where the file system can share blocks between two files, it does.
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
        inbox: UnboundedReceiver<Message>,
        procs: u32,
    }

    impl Project {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let (sender, inbox) = unbounded_channel();
            let artifacts = Artifacts::new(&place.path().join("tmp"), "1.2", sender);
            Self { place, artifacts, inbox, procs: 0 }
        }

        fn program(&self) -> PathBuf {
            self.place.path().join("app")
        }

        /// A build that makes this, and an app that is started from it.
        fn start(&mut self, text: &str) -> (Proc, bool) {
            let _ = fs::remove_file(self.program());
            fs::write(self.program(), text).unwrap();
            fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755)).unwrap();
            self.procs += 1;
            let proc = Proc(self.procs);
            let is_good = self.artifacts.started(proc, self.procs, Ok(&self.program()));
            (proc, is_good)
        }

        async fn prove(&mut self, proc: Proc) -> Result<(), String> {
            self.artifacts.keep(proc);
            let Some(Message::Copied(number, outcome)) = self.inbox.recv().await else {
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
            project.artifacts.confirmed(&project.program());
            project.prove(proc).await.unwrap();
            let file = project.program();
            assert!(project.artifacts.started(Proc(77), 77, Ok(&file)), "known: {in_place}");
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
        assert!(!project.artifacts.started(Proc(9), 9, file));
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
        // The old one may still prove good, whatever has been started beside it.
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
        assert!(project.artifacts.started(Proc(7), 7, Ok(&project.program())));
        assert!(!project.artifacts.has_earlier(), "it is no older one of itself");
    }
}
