//! What the screen shows: the greeting, the lines about commands, the elapsed time of a silent
//! build, and the errors that a failed build reported.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use super::Engine;
use super::message::FromEngine;
use crate::config::{Program, Stage};
use crate::diagnostics;
use crate::event::{Proc, Role, name_paths, printable};
use crate::notice::{Activity, Notice};
use crate::process;
use crate::record::Purpose;
use crate::report::console::Stream;

/// Maximum wait for the number of watched files before the greeting is printed.
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);
/// The same while a program waits for the greeting before it starts.
const HELD_START_TIMEOUT: Duration = Duration::from_millis(30);
/// Interval at which a running build is checked for silence.
const TICK: Duration = Duration::from_secs(1);

/// The state of the parts of the screen that change by themselves.
#[derive(Default)]
pub(super) struct Display {
    ticks: Option<Ticks>,
    /// Programs that start only after the greeting is printed.
    unannounced: Vec<oneshot::Sender<()>>,
}

impl Display {
    /// Stops showing the elapsed time of a build. Returns whether it was shown.
    pub(super) fn ended(&mut self, build: Proc) -> bool {
        self.ticks.take_if(|ticks| ticks.build == build).is_some()
    }
}

/// The build that is checked each [`TICK`].
struct Ticks {
    build: Proc,
    task: JoinHandle<()>,
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    /// Prints the greeting when the number of watched files is known, or after
    /// [`GREETING_TIMEOUT`].
    pub(super) fn introduce_soon(&mut self) {
        self.host.report.greet(self.introduction());
        if self.host.watch.is_some() {
            self.introduce_after(GREETING_TIMEOUT);
        } else {
            self.introduce(None);
        }
    }

    fn introduce_after(&self, delay: Duration) {
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            tokio::time::sleep(delay).await;
            inbox.send(FromEngine::Introduce);
        });
    }

    /// What hotrun runs, and from which configuration file: `go ./cmd/api · .air.toml`. The number
    /// of watched files comes between the two texts.
    fn introduction(&self) -> (String, String) {
        let what =
            match (&self.service.config.guess, self.service.config.recipe.build.stages.last()) {
                (Some(guess), _) => guess.kind.clone(),
                (None, Some(build)) => build.label.lines().next().unwrap_or_default().to_owned(),
                (None, None) => self.program_label(),
            };
        let file = self
            .host
            .project
            .file
            .iter()
            .map(|file| name_paths(std::slice::from_ref(file), &self.host.project.directory));
        let keys = self.has_keys().then(|| "h for keys".to_owned());
        let parts: Vec<String> = std::iter::once(what).chain(file).collect();
        let keys = keys.map(|keys| format!(" · {keys}")).unwrap_or_default();
        (parts.join(" · "), keys)
    }

    /// Prints the greeting, and lets the programs start that were waiting for it.
    pub(super) fn introduce(&mut self, files: Option<usize>) {
        self.host.report.print_greeting(files);
        self.host.display.unannounced.clear();
    }

    fn program_label(&self) -> String {
        match &self.service.config.recipe.run.program {
            Program::Command(command) => process::describe(command),
            Program::Built(_) => "the built program".to_owned(),
            Program::None => "nothing to build or run".to_owned(),
        }
    }

    /// Returns whether the output of a build is withheld, and counts it as printed from now on.
    fn take_withheld(&mut self, build: Proc) -> bool {
        let entry = self.table.get_mut(build);
        entry.is_some_and(|entry| std::mem::take(&mut entry.is_withheld))
    }

    /// Counts the errors and warnings that a failed build printed, and returns its output without
    /// colours. In compact mode, the output is printed now.
    pub(super) fn diagnose(&mut self, build: Proc, printed: &[u8]) -> Vec<u8> {
        if self.take_withheld(build) {
            self.host.report.console().say(Stream::Stdout, printed);
        }
        let text = process::without_escapes(printed);
        let found = diagnostics::of_text(&String::from_utf8_lossy(&text));
        if let Some(entry) = self.table.get_mut(build) {
            entry.diagnostics = found;
        }
        text
    }

    /// Prints the output of a build that compact mode withholds: it asks for input, or does not end.
    pub(super) fn show_output(&mut self, build: Proc) {
        if self.take_withheld(build) {
            self.host.processes.show(build);
        }
    }

    /// Reports that a command starts. Without a label its program does not exist, and only that it
    /// was to start counts.
    pub(super) fn command_starts(
        &mut self,
        proc: Proc,
        label: Option<&str>,
        is_last: bool,
        announced: oneshot::Sender<()>,
    ) {
        // The program may print to the terminal directly, so it waits for the greeting.
        if self.host.report.is_about_to_greet() && self.table.is_app(proc) {
            self.host.display.unannounced.push(announced);
            self.introduce_after(HELD_START_TIMEOUT);
        }
        let is_dismissed = self.table.is_dismissed(proc);
        let label = label.filter(|_| !is_dismissed);
        match self.table.role(proc) {
            Some(Role::Build) => {
                if is_last {
                    self.last_command_began(proc);
                }
                if let Some(label) = label
                    && self.table.purpose(proc) != Purpose::Syntax
                {
                    let step = self.step_of_build();
                    self.say(Notice::CommandStarted { proc, step, command: label.to_owned() });
                }
            }
            Some(Role::Rules) => {
                if let Some(label) = label {
                    self.say(Notice::CommandStarted {
                        proc,
                        step: Activity::Rule,
                        command: label.to_owned(),
                    });
                }
            }
            Some(Role::App) => {
                if label.is_some() && !self.host.project.talk.pids {
                    self.say(Notice::Started(proc));
                }
            }
            Some(Role::Hook) | None => {}
        }
    }

    /// While a build runs, checks at an interval whether it is silent. Only on a terminal.
    pub(super) fn tick(&mut self, build: Proc) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let inbox = self.host.sender.clone();
        let task = spawn_local(async move {
            loop {
                tokio::time::sleep(TICK).await;
                if !inbox.send(FromEngine::Tick) {
                    return;
                }
            }
        });
        self.host.display.ticks = Some(Ticks { build, task });
    }

    fn step_of_build(&self) -> Activity {
        if self.service.verifies { Activity::Verifying } else { Activity::Building }
    }

    /// Shows the elapsed time of the running build, if it is silent. Where a program may print at the
    /// same time, reports only that the build runs, in compact mode.
    pub(super) fn show_time_of_build(&self) {
        let Some(ticks) = &self.host.display.ticks else { return };
        let Some(build) = self.table.get(ticks.build) else { return };
        let (elapsed, step) = (build.age(), self.step_of_build());
        let is_output_mixed = self.table.apps().any(|(_, app)| app.is_alive() && !app.is_read);
        if self.is_terminal_wanted() || is_output_mixed {
            self.host.report.announce_slow((ticks.build, build.update), elapsed, step);
        } else {
            self.host.report.tick(elapsed, step);
        }
    }

    /// The command line of a program, relative to the project.
    pub(super) fn label_of(&self, stages: &[Stage]) -> String {
        let Some(stage) = stages.first() else { return String::new() };
        let label = process::describe(&stage.command);
        let directory = format!("{}/", printable(&self.host.project.directory));
        label.replace(&directory, "").lines().next().unwrap_or_default().to_owned()
    }
}
