//! What `cargo run` would give the program: its variables, which cargo reports after a build, and
//! its runner.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::message::FromEngine;
use super::{Engine, Told};
use crate::config::Command;
use crate::event::{Proc, Role};
use crate::notice::Problem;
use crate::process::{self, Then};
use crate::project::Kind;
use crate::project::cargo::launch::{Launch, Variables, added};

/// Interval at which a build is checked for waiting for another cargo.
const LOCK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What the programs of a Cargo project get, and have got.
#[derive(Default)]
pub(super) struct Given {
    variables: Rc<Variables>,
    /// Digest of the inputs of the current variables; `None` while the variables are unknown.
    known: Option<u64>,
    /// Digest of the inputs of the last query.
    asked: Rc<Cell<Option<u64>>>,
    /// The variables of hotrun's configuration at the time of the query.
    asked_with: HashMap<String, String>,
    /// What each generation was started with.
    generations: HashMap<u32, Start>,
}

/// What one generation was started with.
#[derive(Clone, Default)]
struct Start {
    variables: Rc<Variables>,
    runner: Rc<[OsString]>,
}

impl Given {
    /// Notes that this generation is about to be started from the last build.
    pub(super) fn start(&mut self, generation: u32, launch: Option<&Launch>) {
        let Some(launch) = launch else { return };
        let words = launch.runner.iter().flat_map(|runner| runner.words.iter().cloned());
        let start = Start { variables: Rc::clone(&self.variables), runner: words.collect() };
        self.generations.insert(generation, start);
    }

    /// Notes that this generation is about to be started in the same way as an older one.
    pub(super) fn start_again(&mut self, generation: u32, older: u32) {
        if let Some(start) = self.generations.get(&older).cloned() {
            self.generations.insert(generation, start);
        }
    }

    /// The words before the program on the command line.
    pub(super) fn runner(&self, generation: u32) -> impl Iterator<Item = OsString> + use<> {
        let words = self.generations.get(&generation).map(|start| Rc::clone(&start.runner));
        words.unwrap_or_default().to_vec().into_iter()
    }
}

impl Engine {
    /// The query that follows a build. The build decides whether it is needed, since that depends
    /// on what build scripts have set.
    pub(super) fn question(&mut self, role: Role) -> Option<Then> {
        let launch = self.service.config.recipe.launch.clone().filter(|_| role == Role::Build)?;
        let command = match launch.question() {
            Ok(argv) => Command::Argv(argv),
            Err(error) => {
                self.tell_not_given(&error.to_string());
                return None;
            }
        };
        self.service.given.asked_with = self.service.env.iter().cloned().collect();
        let (variables, known) = (self.service.env.clone(), self.service.given.known);
        let asked = Rc::clone(&self.service.given.asked);
        Some(Then(Box::new(move |messages| {
            let digest = launch.digest(messages, &variables);
            asked.set(Some(digest));
            (known != Some(digest)).then(|| command.clone())
        })))
    }

    /// Handles cargo's answer to the query, or its failure.
    pub(super) fn answered(&mut self, build: Proc, answer: Result<Vec<u8>, String>) {
        let Some(launch) = &self.service.config.recipe.launch else { return };
        let with = &self.service.given.asked_with;
        let before = |name: &OsStr| {
            let own = || std::env::var_os(name);
            name.to_str().and_then(|name| with.get(name)).map(OsString::from).or_else(own)
        };
        let answer = answer.and_then(|answer| added(&answer, &launch.target, before));
        match answer {
            Ok(variables) => {
                // Only the names: a build script may set any variable to a secret.
                let names = variables.iter().map(|(name, _)| name);
                let names: Vec<_> = names.collect();
                tracing::debug!(?names, "cargo run gives the program these");
                self.service.given.variables = Rc::new(variables);
                self.service.given.known = self.service.given.asked.get();
            }
            // A save has cancelled the build.
            Err(_) if self.table.is_dismissed(build) => {}
            Err(why) => self.tell_not_given(&why),
        }
    }

    fn tell_not_given(&mut self, why: &str) {
        if self.host.told.insert(Told::NotGiven) {
            self.say(Problem::NotGiven(why.to_owned()));
        }
    }

    /// The variables of a process: cargo's, which hotrun's configuration overrides.
    pub(super) fn variables(&self, generation: Option<u32>) -> Variables {
        let start =
            generation.and_then(|generation| self.service.given.generations.get(&generation));
        let by_cargo: &[_] = start.map_or(&[], |start| start.variables.as_slice());
        // Where cargo has put its own directories in front of a configured search path, cargo's
        // value contains both.
        let holds = |name: &str, value: &str| {
            by_cargo.iter().any(|(one, all)| {
                let all = all.to_string_lossy();
                one == name && all.strip_suffix(value).is_some_and(|own| own.ends_with(':'))
            })
        };
        let own = self.service.env.iter().filter(|(name, value)| !holds(name, value));
        let own = own.map(|(name, value)| (name.into(), value.into()));
        by_cargo.iter().cloned().chain(own).collect()
    }

    /// Reports which process holds the lock that cargo is waiting for. Cargo itself is silent, or
    /// says only that it is waiting.
    pub(super) fn watch_for_lock(&self, build: Proc, pid: Pid) {
        let is_build = self.table.role(build) == Some(Role::Build);
        let is_known =
            cfg!(target_os = "linux") && matches!(self.service.config.kind, Kind::Cargo(_));
        if !is_build || !is_known {
            return;
        }
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            while !inbox.is_closed() {
                sleep(LOCK_POLL_INTERVAL).await;
                if !process::is_running(pid) {
                    return;
                }
                if let Some(lock) = process::awaited_lock(pid) {
                    let problem = Problem::CargoWaits {
                        file: lock.file,
                        holder: lock.holder.as_raw(),
                        command: lock.command,
                    };
                    inbox.send(FromEngine::Say(problem.into()));
                    return;
                }
            }
        });
    }
}
