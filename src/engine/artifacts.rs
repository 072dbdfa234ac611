//! What a build made: whether it exists, which files it was built from, and what is started in its
//! place if its start fails.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::message::FromEngine;
use super::{Engine, Told};
use crate::artifact::{Artifacts, Copied};
use crate::config::{Command, Program, Service, absolute};
use crate::core::{Event, Input};
use crate::event::{Ended, Proc, Refusal};
use crate::inbox::Inbox;
use crate::notice::{NoRollback, Notice, Problem, WentBack};
use crate::process;
use crate::project::{self, Kind};
use crate::report::{time_of_day, why_no_rollback};

/// The first bytes of an `ar` archive.
const ARCHIVE: &[u8] = b"!<arch>\n";

/// Opens the store of artifacts, without what hotruns that have exited left there.
pub(super) fn swept(service: &Service, inbox: Inbox<Copied>) -> Artifacts {
    let artifacts = Artifacts::new(&service.recipe.tmp_dir, &process::owner(), inbox);
    artifacts.sweep(process::is_alive);
    artifacts
}

impl Engine {
    /// Treats a build that reports success, but has not made the program, as failed. The old app
    /// keeps running.
    pub(super) fn check_artifact(&mut self, printed: &[u8]) -> Ended {
        let target = self
            .service
            .config
            .recipe
            .build
            .stages
            .iter()
            .find_map(|stage| stage.messages_of.as_ref());
        if let Some(target) = target {
            self.service.executable = project::cargo::executable(printed, target);
            if self.service.executable.is_none() {
                let why = format!("the build succeeded but named no executable for {target}");
                return Ended::NotStarted(why);
            }
        }
        let Some(artifact) = self.artifact().filter(|path| path.is_absolute()) else {
            return Ended::Code(0);
        };
        // Once a program has run, its artifact is required, even if its name was only assumed.
        let is_none = self.service.config.recipe.run.is_assumed && !self.service.has_run;
        let may_be_missing = self.service.config.recipe.run.fallback.is_some() || is_none;
        if may_be_missing && !artifact.exists() {
            return Ended::Code(0);
        }
        let shown = artifact.display();
        let why = match artifact.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!(
                    "the build succeeded but {shown} is not there; do build.cmd and build.entrypoint name the same file?"
                )
            }
            Err(error) => format!("the build succeeded but {shown} cannot be read: {error}"),
            Ok(meta) if meta.is_dir() => format!("{shown} is a directory, not a program"),
            Ok(_) if is_archive(&artifact) => {
                format!(
                    "{shown} is a library archive, not a program; does build.cmd build a package main?"
                )
            }
            Ok(meta) if meta.mode() & 0o111 == 0 => {
                format!("the build succeeded but {shown} is not executable (chmod +x)")
            }
            Ok(_) => return Ended::Code(0),
        };
        Ended::NotStarted(why)
    }

    /// Reads from a Cargo build which files it was built from, beyond those that the configuration
    /// can know.
    pub(super) fn ask_what_was_read(&mut self) {
        let Some(artifact) =
            self.artifact().filter(|_| matches!(self.service.config.kind, Kind::Cargo(_)))
        else {
            return;
        };
        let read = project::cargo::inputs(&artifact);
        let known = &self.service.config.watch;
        let is_new =
            |path: &PathBuf| known.inputs.contains(path) || !self.service.filter.is_source(path);
        let inputs: BTreeSet<PathBuf> = read.into_iter().filter(is_new).collect();
        if inputs == known.inputs {
            return;
        }
        tracing::debug!(?inputs, "the build has read these, too");
        self.service.config.watch.inputs.clone_from(&inputs);
        if let Some((_, next)) = &mut self.host.next {
            next.watch.inputs = inputs;
        }
        self.service.judge_anew();
        if let (Some(watch), Some(window)) = (&self.host.watch, &self.service.window) {
            let newest = self.newest();
            // One of these files may have been saved during the build, without an event.
            watch.configure(newest.watch.clone(), window.began_by_files());
        }
    }

    /// The file that is run.
    pub(super) fn artifact(&self) -> Option<PathBuf> {
        match &self.service.config.recipe.run.program {
            Program::None | Program::Command(Command::Shell(..)) => None,
            Program::Command(Command::Argv(argv)) => argv.first().map(PathBuf::from),
            Program::Built(_) => self.service.executable.clone(),
        }
    }

    /// The files that the program consists of: the file that builds make and that is run; else the
    /// project's files that its command line names.
    pub(super) fn program_files(&self) -> Vec<PathBuf> {
        if let Some(artifact) = self.artifact().filter(|path| self.is_made_by_builds(path)) {
            return vec![artifact];
        }
        let words = match &self.service.config.recipe.run.program {
            Program::None | Program::Built(_) => Vec::new(),
            Program::Command(command) => command.words(),
        };
        let homes = [
            &self.host.project.directory,
            &self.service.config.watch.base,
            &self.service.config.recipe.tmp_dir,
        ];
        let here = |word: &OsString| absolute(&self.host.project.directory, Path::new(word));
        let is_here = |path: &PathBuf| homes.iter().any(|home| path.starts_with(home));
        words.iter().map(here).filter(|path| is_here(path) && path.is_file()).collect()
    }

    /// Whether builds make this file, by the configuration or by observation.
    pub(super) fn is_made_by_builds(&self, path: &Path) -> bool {
        matches!(self.service.config.recipe.run.program, Program::Built(_))
            || self.service.config.watch.artifact.as_deref() == Some(path)
            || path.starts_with(&self.service.config.recipe.tmp_dir)
            || self.service.attribution.is_written(path)
    }

    /// Whether the file from which the app is started is missing.
    pub(super) fn artifact_is_missing(&self) -> bool {
        let artifact = self.artifact().filter(|path| path.is_absolute());
        self.service.config.recipe.run.fallback.is_none()
            && artifact.is_some_and(|path| !path.exists())
    }

    /// Notes that an app is about to be started from the last build.
    pub(super) fn remember_artifact(&mut self, proc: Proc, generation: u32) {
        let update = self.publisher.reaches_app();
        let file = self.artifact_to_keep();
        let file = file.as_deref().map_err(Clone::clone);
        if self.service.artifacts.started(proc, (generation, update), file) {
            self.host.sender.send(FromEngine::Proven(proc));
        }
    }

    /// The file of which a copy can be kept for a rollback, or why there is none.
    fn artifact_to_keep(&self) -> Result<PathBuf, String> {
        if matches!(self.service.config.recipe.run.program, Program::Command(Command::Shell(..))) {
            return Err("the program is started through a shell, so its file is unknown".to_owned());
        }
        let Some(path) = self.artifact() else {
            return Err("there is no program".to_owned());
        };
        if !path.is_absolute() {
            let name = path.display();
            return Err(format!("{name} is an installed program, not built by this project"));
        }
        let is_built = matches!(self.service.config.recipe.run.program, Program::Built(_));
        let homes = [
            &self.host.project.directory,
            &self.service.config.watch.base,
            &self.service.config.recipe.tmp_dir,
        ];
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_below = |home: &Path| real.starts_with(home);
        if is_built || homes.into_iter().any(|home| is_below(home)) {
            return Ok(path);
        }
        Err(format!("{} is outside this project and not built by it", path.display()))
    }

    /// Keeps the artifact of an app that has proven good.
    pub(super) fn proven(&mut self, app: Proc) -> Vec<Event> {
        self.host.told.remove(&Told::MayHaveBound);
        if !self.host.project.once {
            self.service.artifacts.keep(app);
        }
        vec![Input::Proven(app).into()]
    }

    pub(super) fn copied(&mut self, number: u32, outcome: &Result<(), String>) {
        self.service.artifacts.copied(number, outcome.is_ok());
        if let Err(why) = outcome
            && self.host.told.insert(Told::NotKept)
        {
            self.say(Problem::NotKept(why.clone()));
        }
    }

    /// The command that starts the artifact chosen by the rollback. Also the file to execute, if it
    /// is not the one that the command names.
    pub(super) fn kept_command(
        &mut self,
        proc: Proc,
        generation: u32,
    ) -> Option<(Command, Option<PathBuf>)> {
        let kept = self.service.artifacts.chosen()?;
        let args = match &self.service.config.recipe.run.program {
            Program::Built(args) => args.as_slice(),
            Program::Command(Command::Argv(argv)) => argv.get(1..).unwrap_or_default(),
            Program::None | Program::Command(Command::Shell(..)) => return None,
        };
        // With the variables and runner of that generation, which may have changed since.
        self.service.given.start_again(generation, kept.generation);
        let mut runner = self.service.given.runner(generation).peekable();
        // A runner executes the file that it is given. Without a runner, the program keeps the name
        // of the original.
        let has_runner = runner.peek().is_some();
        let name = if has_runner { &kept.copy } else { &kept.original };
        let argv: Vec<OsString> =
            runner.chain([name.clone().into()]).chain(args.iter().cloned()).collect();
        self.say(Notice::RolledBack(WentBack {
            generation: kept.generation,
            built: kept.built,
            saved_since: kept.saved_since.clone().into(),
        }));
        let program = (Command::Argv(argv), (!has_runner).then(|| kept.copy.clone()));
        self.service.artifacts.started_again(proc);
        Some(program)
    }

    /// Answers and reports why a rollback is refused.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        let why = match refusal {
            Refusal::Ending => NoRollback::Ending,
            Refusal::BuildUnderWay => NoRollback::BuildUnderWay,
            Refusal::NothingKept => NoRollback::NothingKept(self.service.artifacts.why_none()),
        };
        self.answer(Err(format!("not possible: {}", why_no_rollback(&why))));
        self.say(Notice::NoRollback(why));
    }

    /// Answers and reports that a rollback during a handover keeps the old app.
    pub(super) fn kept(&mut self, app: Proc) {
        self.answer(Ok("keeping the running program; the new one was stopped".to_owned()));
        self.say(Notice::Kept(app));
    }

    pub(super) fn go_back(&mut self) {
        self.service.artifacts.go_back();
        if let Some(kept) = self.service.artifacts.chosen() {
            let built = time_of_day(kept.built);
            let text = format!("going back to generation {}, built at {built}", kept.generation);
            self.answer(Ok(text));
        }
    }

    /// Answers the pending order, if there is one.
    pub(super) fn answer(&mut self, said: Result<String, String>) {
        if let Some(answer) = self.host.asked.take() {
            // The client may have stopped waiting for the answer.
            let _ = answer.send(said);
        }
    }
}

/// Whether a file is an `ar` archive, which is what go makes of a package that is not `main`.
fn is_archive(file: &Path) -> bool {
    let mut start = [0; ARCHIVE.len()];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *ARCHIVE
}
