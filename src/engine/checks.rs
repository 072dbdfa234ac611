//! Syntax checks: the build of what is run from its sources.
//!
//! A check writes nothing, so that nothing of what is known of builds and their outputs applies.
//! It must never stand in the way: one that takes too long counts as passed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::Engine;
use crate::config::{Command, Stage};
use crate::event::{Cause, Ended, Event, Notice, Proc, Role};

/// Maximum duration of a check.
const LIMIT: Duration = Duration::from_secs(1);
/// Duration of a check that users would notice.
const SLOW: Duration = Duration::from_millis(100);
/// After this many slow checks in a row there are no more.
const MAX_SLOW: u32 = 5;
/// A check of more files than this is left out: that is another branch, not a person who types.
const MAX_FILES: usize = 8;

#[derive(Default)]
pub(super) struct Checks {
    /// The check that runs, or the one that ran last.
    proc: Option<Proc>,
    /// Files that have changed since the last check that passed.
    unchecked: BTreeSet<PathBuf>,
    /// How many checks in a row were slow.
    slow: u32,
}

impl Checks {
    pub(super) fn is_one(&self, proc: Proc) -> bool {
        self.proc == Some(proc)
    }
}

impl Engine {
    pub(super) fn spawn_check(&mut self, proc: Proc, cause: &Cause) {
        match cause {
            Cause::Start | Cause::Config | Cause::Order => self.is_wanted = true,
            Cause::Save(_) | Cause::Written(_) => {}
        }
        self.paused_build.clear();
        self.pause = Duration::ZERO;
        if !cause.paths().is_empty() {
            self.changed = cause.paths().to_vec();
        }
        self.checks.proc = Some(proc);
        self.checks.unchecked.extend(cause.paths().iter().cloned());
        let files = self.checks.unchecked.iter();
        let is_sensible = files.len() <= MAX_FILES && self.checks.slow < MAX_SLOW;
        let check = self.config.build.check.as_ref().filter(|_| is_sensible);
        let argv = check.and_then(|check| check.command(files, &self.config.directory));
        let stages = argv.into_iter().map(|argv| Stage::alone(Command::Argv(argv))).collect();
        self.spawn(proc, Role::Build, None, stages, None, Some(LIMIT));
        if let Some(facts) = self.report.facts.get_mut(&proc) {
            facts.is_check = true;
        }
    }

    /// True for a check that has had its time. (One that a newer save has cancelled is the core's.)
    pub(super) fn is_slow_check(&self, proc: Proc) -> bool {
        let facts = self.report.facts.get(&proc);
        self.checks.is_one(proc) && facts.is_some_and(|facts| facts.dismissed.is_none())
    }

    /// What the end of a check means.
    pub(super) fn checked(&mut self, proc: Proc, ended: Ended, is_overtaken: bool) -> Event {
        if is_overtaken {
            return Event::Exited(proc, ended);
        }
        let took = self.report.facts.get(&proc).map(|facts| facts.began.elapsed());
        self.checks.slow = if took >= Some(SLOW) { self.checks.slow + 1 } else { 0 };
        if self.checks.slow == MAX_SLOW {
            let label = self.config.build.check.as_ref().map(|check| check.label.clone());
            self.report.say(&Notice::Warning(format!(
                "syntax checks ({}) took more than 0.1 s {MAX_SLOW} times in a row, and are off now",
                label.unwrap_or_default()
            )));
        }
        // A tool that cannot be run, or has no time, says nothing about the sources.
        let ended = match ended {
            Ended::Code(code) if code < 126 => ended,
            Ended::Code(_) | Ended::Signal { .. } | Ended::NotStarted(_) => Ended::Code(0),
        };
        self.build_failed = !ended.succeeded();
        if ended.succeeded() {
            self.checks.unchecked.clear();
        }
        Event::Exited(proc, ended)
    }
}
