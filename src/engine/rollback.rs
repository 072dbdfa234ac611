//! What a program is started from when what was last built is not it.

use std::path::{Path, PathBuf};

use super::Engine;
use crate::config::{Command, Program};
use crate::event::{Event, Notice, Proc, Refusal, WentBack};

impl Engine {
    /// An app is about to be started from what was last built.
    pub(super) fn remember_artifact(&mut self, proc: Proc, generation: u32) {
        let file = self.artifact_to_keep();
        let file = file.as_deref().map_err(Clone::clone);
        if self.artifacts.started(proc, generation, file) {
            // The inbox closes when hotrun ends.
            let _ = self.sender.send(Event::Proven(proc).into());
        }
    }

    /// The file whose copy could be started in its place; or why there is none.
    fn artifact_to_keep(&self) -> Result<PathBuf, String> {
        if matches!(self.config.run.program, Program::Command(Command::Shell(..))) {
            return Err("a shell runs the program, so no file is known to be it".to_owned());
        }
        let Some(path) = self.artifact() else {
            return Err("there is no program".to_owned());
        };
        if !path.is_absolute() {
            let name = path.display();
            return Err(format!("{name} is installed, and no build of this project makes it"));
        }
        let is_built = matches!(self.config.run.program, Program::Built(_));
        let homes = [&self.config.directory, &self.config.watch.base, &self.config.tmp_dir];
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_below = |home: &Path| real.starts_with(home);
        if is_built || homes.into_iter().any(|home| is_below(home)) {
            return Ok(path);
        }
        Err(format!("{} is not in this project, and no build of it makes it", path.display()))
    }

    /// An app was ready, and has lived for a while.
    pub(super) fn proven(&mut self, app: Proc) {
        self.told_bound = false;
        if !self.config.once {
            self.artifacts.keep(app);
        }
    }

    pub(super) fn copied(&mut self, number: u32, outcome: &Result<(), String>) {
        self.artifacts.copied(number, outcome.is_ok());
        if let Err(why) = outcome
            && !std::mem::replace(&mut self.told_not_kept, true)
        {
            self.report.say(&Notice::Warning(format!(
                "the last good program is not kept, so there is no rollback to it: {why}"
            )));
        }
    }

    /// The command by which the artifact is started that was gone back to, and the file that
    /// is executed.
    pub(super) fn kept_command(&mut self, proc: Proc) -> Option<(Command, PathBuf)> {
        let kept = self.artifacts.chosen()?;
        let args = match &self.config.run.program {
            Program::Built(args) => args.as_slice(),
            Program::Command(Command::Argv(argv)) => argv.get(1..).unwrap_or_default(),
            Program::None | Program::Command(Command::Shell(..)) => return None,
        };
        let argv = [kept.original.clone().into()].into_iter().chain(args.iter().cloned());
        self.report.say(&Notice::RolledBack(WentBack {
            generation: kept.generation,
            built: kept.built,
            saved_since: kept.saved_since.clone(),
        }));
        let program = (Command::Argv(argv.collect()), kept.copy.clone());
        self.artifacts.started_again(proc);
        Some(program)
    }

    /// Nothing older is started: why.
    pub(super) fn say_no_rollback(&mut self, refusal: Refusal) {
        let why = match refusal {
            Refusal::Ending => "hotrun ends".to_owned(),
            Refusal::BuildUnderWay => "a build is under way, which goes forward".to_owned(),
            Refusal::NothingKept => self.artifacts.why_none(),
        };
        self.answer(Err(format!("not possible: {why}")));
        self.report.no_rollback(&why);
    }

    pub(super) fn go_back(&mut self) {
        self.artifacts.go_back();
        if let Some(kept) = self.artifacts.chosen() {
            self.answer(Ok(format!("going back to generation {}", kept.generation)));
        }
    }

    /// Whoever has asked for something is told what becomes of it.
    pub(super) fn answer(&mut self, said: Result<String, String>) {
        if let Some(answer) = self.asked.take() {
            // Whoever has asked may not wait for the answer.
            let _ = answer.send(said);
        }
    }
}
