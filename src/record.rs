//! What happened: a [`Notice`], when, in which update, and what was known of the processes then.
//! A record stands for itself: who reads it later needs nothing else.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::core::ServiceId;
use crate::diagnostics::Diagnostics;
use crate::event::{Proc, Role};
use crate::notice::Notice;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    pub at: SystemTime,
    pub service: ServiceId,
    /// The update that it belongs to: everything that follows from one burst of saves, or from one
    /// request. Numbered from 1; 0 before the first.
    pub update: u64,
    pub notice: Notice,
    /// The URL of the proxy in front of the service.
    pub proxy: Option<String>,
    /// The processes that are not gone, or that it is about.
    pub processes: Vec<Process>,
}

impl Record {
    /// What was known of a process.
    pub(crate) fn process(&self, proc: Proc) -> Option<&Process> {
        self.processes.iter().find(|one| one.proc == proc)
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|one| one.role == Role::App)
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Process {
    pub proc: Proc,
    pub role: Role,
    /// The number of an app's start.
    pub generation: Option<u32>,
    pub pid: Option<i32>,
    /// Which app it is, of those that run; `None` for a process that is no app.
    pub which: Option<Which>,
    /// Time since its start.
    pub age: Duration,
    /// If it was asked to exit.
    pub leave: Option<Leave>,
    /// After what time it is killed.
    pub limit: Option<Limit>,
    /// Its address, once it is ready and if that is known.
    pub url: Option<String>,
    /// Whether it was reported as running.
    pub is_running: bool,
    /// Why it was not ready in time.
    pub unready: Option<String>,
    /// The last signal that the user has had sent to it.
    #[serde(serialize_with = "signal")]
    pub signalled: Option<Signal>,
    /// The purpose of a build.
    pub purpose: Purpose,
    /// The command line of the program, as shown to the user.
    pub label: String,
    /// The errors and warnings of a failed build.
    pub diagnostics: Diagnostics,
}

/// A process that was asked to exit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Leave {
    /// Time since it was asked.
    pub since: Duration,
    /// Whether its first process has exited since. If it had exited before, only what it had left
    /// was asked to.
    pub exited_after: bool,
    /// Whether it asked for more time, and was granted it.
    pub is_extended: bool,
}

/// A limit on the time that a process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    pub time: Duration,
    /// What the time is counted from, with the key that sets it: `SIGTERM (build.kill_delay)`.
    pub from: String,
}

/// Which app of those that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    /// There is no other.
    Only,
    /// A newer one runs beside it.
    Previous,
    /// It is the newest of several.
    New,
}

/// The purpose of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// It builds the program.
    #[default]
    Program,
    /// It checks a library; there is no program to run.
    Library,
    /// It checks the syntax of sources that are run directly. Only errors are reported.
    Syntax,
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn signal<S: serde::Serializer>(signal: &Option<Signal>, to: S) -> Result<S::Ok, S::Error> {
    signal.map(Signal::as_str).serialize(to)
}
