//! Ports that the program listens on: who holds one that it needs, and builds that turn out
//! to be programs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_local;

use super::{Engine, KNOWS_PORTS};
use crate::config::Command;
use crate::event::{Ended, Event, Message, Notice, OnExit, Order, Proc, Remedy, Role};
use crate::process::{self, Freeing, ports};
use crate::project::Kind;

/// Whoever ends so soon after its start may have found its port taken.
const SOON: Duration = Duration::from_secs(2);

impl Engine {
    pub(super) fn freeing(&self) -> Freeing {
        Freeing { wanted: self.config.free_port, project: self.config.directory.clone() }
    }

    /// After a while: on which ports an app, or a build, listens.
    pub(super) fn listens(&mut self, proc: Proc, ports: BTreeSet<u16>) {
        match self.roles.get(&proc) {
            Some(Role::App) => {
                self.listens = !ports.is_empty();
                if self.lived(proc) >= KNOWS_PORTS {
                    self.look_at_listeners(proc, &ports);
                }
                if !ports.is_empty() && ports != self.ports {
                    self.ports = ports;
                    process::remember_ports(&self.config.directory, &self.ports);
                }
            }
            Some(Role::Build) => {
                let Some(port) = ports.first().copied() else { return };
                self.builds_serve = true;
                // It does not end, so what it was built from is asked now.
                self.ask_what_is_listed();
                let remedy = self.program_instead_of_build();
                self.report.say(&Notice::EndlessBuild { build: proc, port, remedy });
            }
            _ => {}
        }
    }

    /// This is an app, which has failed soon after its start, and which nobody had asked to end.
    pub(super) fn has_failed_at_once(&self, proc: Proc, ended: &Ended) -> bool {
        let is_app = self.roles.get(&proc) == Some(&Role::App);
        let is_early = self.report.facts.get(&proc).is_some_and(|facts| {
            facts.pid.is_some() && facts.began.elapsed() < SOON && facts.dismissed.is_none()
        });
        is_app && is_early && !ended.succeeded()
    }

    /// An app that nobody had asked to end did so at once: is it because of somebody who has
    /// its port?
    pub(super) fn look_who_holds_the_port(&self, proc: Proc, ended: &Ended) {
        if !self.has_failed_at_once(proc, ended) {
            return;
        }
        // About those that are configured it was told before the start.
        let mut known = self.ports.clone();
        known.retain(|port| !self.config.ports.contains(port));
        let freeing = self.freeing();
        let inbox = self.sender.clone();
        let restarts = self.config.run.on_exit == OnExit::Restart;
        spawn_local(async move {
            let mut is_freed = false;
            for port in known {
                if let Some(holder) = ports::see_to(port, &freeing).await {
                    is_freed |= holder.remedy == Remedy::Ended;
                    // The inbox closes when hotrun ends.
                    let _ = inbox.send(Message::Say(Notice::PortHeld(holder)));
                }
            }
            if is_freed && !restarts {
                let _ = inbox.send(Event::Ordered(Order::Restart).into());
            }
        });
    }

    /// The lines of a configuration that builds first, and then runs, what is run by the
    /// build.
    fn program_instead_of_build(&self) -> String {
        let stage = self.config.build.stages.last();
        let cmd = match stage.map(|stage| &stage.command) {
            Some(Command::Shell(text, _)) => text.trim(),
            _ => "",
        };
        if let Some(rest) = cmd.strip_prefix("go run ") {
            // What follows the packages or files are the program's own words.
            let words: Vec<&str> = rest.split_whitespace().collect();
            let is_source = |word: &&&str| {
                word.starts_with('.') || Path::new(word).extension().is_some_and(|one| one == "go")
            };
            let source: Vec<&str> = words.iter().take_while(is_source).copied().collect();
            let args = &words[source.len()..];
            let program = [vec!["./tmp/main"], args.to_vec()].concat();
            return format!(
                "  cmd = \"go build -o ./tmp/main {}\"\n  entrypoint = {program:?}",
                source.join(" ")
            );
        }
        let nothing = if self.config.kind == Kind::Unknown { "true" } else { "" };
        format!("  cmd = \"{nothing}\"\n  full_bin = {cmd:?}")
    }
}
