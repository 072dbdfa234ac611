//! Syntax checks: the build of a program that is run from its sources.
//!
//! A check writes no files, so attribution and output detection do not apply to it. A check without
//! a clear result counts as passed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Engine;
use super::table::Entry;
use crate::config::{Command, Program, Stage, absolute};
use crate::event::{Cause, Ended, Proc, Role};
use crate::notice::{Paths, Problem};
use crate::project::guess::syntax::{Check, MAX_FILES};
use crate::record::Purpose;

/// Maximum duration of a check.
const LIMIT: Duration = Duration::from_secs(1);
/// Duration above which a check counts as slow.
const SLOW: Duration = Duration::from_millis(100);
/// Maximum number of slow checks in a row. After that, checks are turned off.
const MAX_SLOW: u32 = 5;

#[derive(Default)]
pub(super) struct Checks {
    /// The files being checked, in the order of the check's command.
    files: Vec<PathBuf>,
    /// Files that have changed since the last completed check.
    changed: BTreeSet<PathBuf>,
    failed: BTreeSet<PathBuf>,
    passed: BTreeSet<PathBuf>,
    /// How many checks in a row were slow.
    slow: u32,
    /// Whether checks were turned off because they were slow.
    is_off: bool,
}

impl Engine {
    pub(super) fn spawn_check(&mut self, proc: Proc, cause: &Cause) {
        if !cause.paths().is_empty() {
            self.service.changed = cause.paths().to_vec();
        }
        self.forgive(cause.paths());
        let checks = &mut self.service.checks;
        checks.changed.extend(cause.paths().iter().cloned());
        let check = self.service.config.recipe.build.check.as_ref().filter(|_| !checks.is_off);
        checks.files = match check {
            Some(check) => {
                let is_checked = |path: &&PathBuf| check.understands(path);
                checks.failed.union(&checks.changed).filter(is_checked).cloned().collect()
            }
            None => Vec::new(),
        };
        // A larger change comes from git or a formatter.
        if checks.files.len() > MAX_FILES {
            checks.files.retain(|path| checks.failed.contains(path));
            checks.files.truncate(MAX_FILES);
        }
        let stage = check.filter(|_| !checks.files.is_empty()).map(|check| {
            let argv = check.command(&checks.files, &self.host.project.directory);
            Stage::alone(Command::Argv(argv))
        });
        self.spawn(proc, Role::Build, None, stage.into_iter().collect(), None, Some(LIMIT));
    }

    /// Stops checking files that fail and have never passed: they may not belong to the program (a
    /// template, or a browser script with JSX). Such a file blocks one restart only.
    fn forgive(&mut self, saved: &[PathBuf]) {
        let checks = &self.service.checks;
        let is_strange = |path: &&PathBuf| {
            !saved.contains(path) && !checks.passed.contains(*path) && !self.is_entry(path)
        };
        let strange: Vec<PathBuf> = checks.failed.iter().filter(is_strange).cloned().collect();
        if strange.is_empty() {
            return;
        }
        self.service.checks.failed.retain(|path| !strange.contains(path));
        self.say(Problem::CheckDropped(strange.into()));
    }

    /// Whether the program's command line names this file.
    fn is_entry(&self, path: &Path) -> bool {
        let Program::Command(command) = &self.service.config.recipe.run.program else {
            return false;
        };
        command.words().iter().any(|word| {
            // `node server` runs `server.js`.
            let names = [Path::new(word).to_owned(), Path::new(word).with_extension("js")];
            names.iter().any(|name| absolute(&self.host.project.directory, name) == path)
        })
    }

    /// Whether a check has exceeded its time limit. A cancelled check is left to the core.
    pub(super) fn is_slow_check(&self, proc: Proc) -> bool {
        let is_check = |one: &Entry| one.purpose == Purpose::Syntax && !one.is_dismissed();
        self.table.get(proc).is_some_and(is_check)
    }

    /// Evaluates a completed check.
    pub(super) fn checked(&mut self, ended: Ended, is_overtaken: bool, took: Duration) -> Ended {
        if is_overtaken {
            return ended;
        }
        if !self.service.checks.files.is_empty() {
            self.count_slow(took);
        }
        let checks = &mut self.service.checks;
        checks.changed.clear();
        let files = std::mem::take(&mut checks.files);
        let code = if let Ended::Code(code) = ended { code } else { 0 };
        let failed: BTreeSet<PathBuf> = Check::failed(&files, code).cloned().collect();
        if ended.succeeded() || !failed.is_empty() {
            checks.failed.retain(|path| path.exists() && !files.contains(path));
            checks.passed.extend(files.into_iter().filter(|path| !failed.contains(path)));
        }
        // A missing or killed tool says nothing about the sources.
        let ended = Ended::Code(i32::from(!failed.is_empty()));
        checks.failed.extend(failed);
        ended
    }

    fn count_slow(&mut self, took: Duration) {
        let files = || Paths::from(self.service.checks.files.clone());
        if took >= LIMIT {
            self.say(Problem::CheckStopped { files: files(), limit: LIMIT });
        }
        let files = files();
        self.service.checks.slow = if took >= SLOW { self.service.checks.slow + 1 } else { 0 };
        if self.service.checks.slow < MAX_SLOW {
            return;
        }
        self.service.checks.is_off = true;
        let label =
            self.service.config.recipe.build.check.as_ref().map(|check| check.label.clone());
        let label = label.unwrap_or_default();
        self.say(Problem::ChecksOff { label, times: MAX_SLOW, took, files });
    }
}
